//! The response that lists the extensions.

use http::{Response, StatusCode};
use serde_json::json;

use crate::registry::{body::Body, reply::respond_with_json};

/// The supported extensions, in the specification's form (`extensions/_oci.md`).
pub(in crate::registry) fn extensions<S, Y>() -> Response<Body<S, Y>> {
    let body = json!({ "extensions": [
        {
            "name": "_oci",
            "description": "discovery of extensions",
            "url": "https://github.com/opencontainers/distribution-spec/blob/main/extensions/_oci.md",
            "endpoints": ["/v2/_oci/ext/discover"],
        },
        {
            "name": "_strata",
            "description": "looks into layers and images: tables of contents, files and directories; invalidates what is mirrored; sweeps and scrubs; lists the holders of a blob and doubtful rights",
            "url": concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/extension.md"),
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
