//! The response that lists the extensions.

use http::{Response, StatusCode};
use serde_json::json;

use crate::registry::{body::Body, reply::respond_with_json};

/// The supported extensions, in the specification's form (`extensions/_oci.md`). The form demands
/// an address of the documentation: a file that the platform serves beside the registry.
pub(in crate::registry) fn extensions<S, Y>(origin: &str) -> Response<Body<S, Y>> {
    let body = json!({ "extensions": [
        {
            "name": "_oci",
            "description": "discovery of extensions",
            "url": "https://github.com/opencontainers/distribution-spec/blob/main/extensions/_oci.md",
            "endpoints": ["/v2/_oci/ext/discover"],
        },
        {
            "name": "_strata",
            "description": "tables of contents, files and directories of layers and images; invalidation of mirrored repositories; the sweep and the scrub; the holders of a blob, and doubtful rights",
            "url": format!("{origin}/extension.md"),
            "endpoints": [
                "/v2/{name}/_strata/layers/{digest}",
                "/v2/{name}/_strata/layers/{digest}/files/{path}",
                "/v2/{name}/_strata/images/{reference}/files/{path}",
                "/v2/{name}/_strata/invalidate",
                "/v2/_strata/sweep",
                "/v2/_strata/scrub",
                "/v2/_strata/blobs/{digest}",
                "/v2/_strata/rights",
            ],
        },
    ]});
    respond_with_json(StatusCode::OK, body.to_string())
}
