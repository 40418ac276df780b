//! Responses about blobs: end-2, end-10.

use http::{HeaderMap, HeaderValue, header};

use crate::{
    digest::Digest,
    platform::Platform,
    registry::{
        blob::BLOB_TYPE,
        pull::Pulled,
        reply::{IMMUTABLE, ResponseOf, describe_content, respond_with_pulled},
    },
};

/// The selected part of a blob (end-2).
pub(in crate::registry) fn pulled<P: Platform>(
    digest: &Digest,
    pulled: Pulled<P>,
) -> ResponseOf<P> {
    let mut headers = HeaderMap::new();
    describe_content(&mut headers, digest, BLOB_TYPE);
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CACHE_CONTROL, IMMUTABLE);
    respond_with_pulled(pulled, headers)
}
