//! Headers: parsing and building their values, and names that HTTP does not define.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::digest::Digest;

/// The digest of the content of a response.
pub(super) const DOCKER_CONTENT_DIGEST: HeaderName =
    HeaderName::from_static("docker-content-digest");

/// The upload that a response is about.
pub(super) const DOCKER_UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// The version of the relay that sends a request, `relay/relay.mjs`.
pub(super) const STRATA_RELAY: HeaderName = HeaderName::from_static("strata-relay");

/// A token for one upload, which a relay gets with it.
pub(super) const STRATA_UPLOAD_TOKEN: HeaderName = HeaderName::from_static("strata-upload-token");

/// The smallest chunk that clients should send (end-5).
pub(super) const OCI_CHUNK_MIN_LENGTH: HeaderName = HeaderName::from_static("oci-chunk-min-length");

/// The largest chunk that clients should send, a proposal for the specification.
pub(super) const OCI_CHUNK_MAX_LENGTH: HeaderName = HeaderName::from_static("oci-chunk-max-length");

/// The filters of the query that were applied to a list of referrers (end-12b).
pub(super) const OCI_FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

/// The value of a header, if it is text.
pub(super) fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Makes the value of a header from text that was parsed or built here, and so is printable ASCII.
///
/// Other text panics in a debug build, and gives an empty value otherwise.
pub(super) fn value(text: &str) -> HeaderValue {
    let value = HeaderValue::from_str(text).ok();
    let value = value.filter(|_| text.is_ascii());
    debug_assert!(value.is_some(), "{text:?} is not printable ASCII");
    value.unwrap_or(HeaderValue::from_static(""))
}

/// The etag of content that is named by its digest.
pub(super) fn etag(digest: &Digest) -> String {
    format!("\"{digest}\"")
}
