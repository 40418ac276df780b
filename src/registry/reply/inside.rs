//! Responses about the inside of layers and images (docs/extension.md).

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use serde_json::json;

use crate::{
    digest::Digest,
    layer::json::encode,
    name::{Name, Reference},
    platform::Platform,
    registry::{
        body::Body,
        headers::value,
        inside::{
            image::ImageOf,
            inspection::{EntryPage, Inspection},
            layer::PassProgress,
            media_type::{BYTES, file_name, media_type},
        },
        reply::{
            IMMUTABLE, REVALIDATED, ResponseOf, link_next, respond, respond_with_json,
            respond_with_pulled,
        },
    },
};

/// The table of contents of a layer.
pub(in crate::registry) fn contents<P: Platform>(
    name: &Name,
    digest: &Digest,
    found: Inspection<P>,
) -> ResponseOf<P> {
    let page = |next: &str| format!("/v2/{name}/_strata/layers/{digest}?{next}");
    inspected(found, IMMUTABLE, page)
}

/// A file or a directory of a layer.
pub(in crate::registry) fn layer_file<P: Platform>(
    name: &Name,
    digest: &Digest,
    path: &[u8],
    found: Inspection<P>,
) -> ResponseOf<P> {
    let path = encode(path);
    let page = |next: &str| format!("/v2/{name}/_strata/layers/{digest}/files/{path}?{next}");
    inspected(found, IMMUTABLE, page)
}

/// A file or a directory of an image.
pub(in crate::registry) fn image_file<P: Platform>(
    image: &ImageOf<'_>,
    path: &[u8],
    found: Inspection<P>,
) -> ResponseOf<P> {
    let ImageOf {
        name,
        reference,
        platform,
    } = image;
    let cache = match reference {
        Reference::Digest(_) => IMMUTABLE,
        Reference::Tag(_) => REVALIDATED,
    };
    let path = encode(path);
    let platform = match platform {
        Some(platform) => format!("&platform={}", encode(platform.as_bytes())),
        None => String::new(),
    };
    let page =
        |next: &str| format!("/v2/{name}/_strata/images/{reference}/files/{path}?{next}{platform}");
    inspected(found, cache, page)
}

/// The response with the result, which may be cached as `cache` says.
/// `page` turns the query of the next page into its address.
fn inspected<P: Platform>(
    found: Inspection<P>,
    cache: HeaderValue,
    page: impl Fn(&str) -> String,
) -> ResponseOf<P> {
    match found {
        Inspection::Indexing(digest, progress) => indexing(&digest, progress),
        Inspection::Unchanged(etag) => {
            let mut response = respond(StatusCode::NOT_MODIFIED);
            let headers = response.headers_mut();
            headers.insert(header::ETAG, value(&etag));
            headers.insert(header::CACHE_CONTROL, cache);
            response
        }
        Inspection::EntryPage(EntryPage { body, etag, next }) => {
            let mut response = respond_with_json(StatusCode::OK, body.to_string());
            let headers = response.headers_mut();
            if let Some(etag) = etag {
                headers.insert(header::ETAG, value(&etag));
            }
            headers.insert(header::CACHE_CONTROL, cache);
            if let Some(next) = next {
                link_next(&mut response, &page(&next));
            }
            response
        }
        Inspection::File { path, etag, pulled } => {
            let mut headers = HeaderMap::new();
            describe_file(&mut headers, &path);
            headers.insert(header::ETAG, value(&etag));
            headers.insert(header::CACHE_CONTROL, cache);
            headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
            respond_with_pulled(pulled, headers)
        }
    }
}

/// 202, while a layer is being indexed.
fn indexing<S, Y>(digest: &Digest, progress: PassProgress) -> Response<Body<S, Y>> {
    #[expect(clippy::cast_precision_loss, reason = "it is only displayed")]
    let fraction = progress.read as f64 / progress.size.max(1) as f64;
    let body = json!({
        "digest": digest.to_string(),
        "state": "indexing",
        "read": progress.read,
        "size": progress.size,
        "fraction": fraction,
    });
    let mut response = respond_with_json(StatusCode::ACCEPTED, body.to_string());
    let headers = response.headers_mut();
    headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The headers that describe a file by its name. A browser saves a file that it must not show.
fn describe_file(headers: &mut HeaderMap, path: &[u8]) {
    let (name, media_type) = (file_name(path), media_type(path));
    let disposition = if media_type != BYTES {
        "inline".to_owned()
    } else if name.len() > MAX_NAME {
        "attachment".to_owned()
    } else {
        // RFC 8187.
        let name = percent_encode(name.as_bytes(), NAME);
        format!("attachment; filename*=UTF-8''{name}")
    };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CONTENT_DISPOSITION, value(&disposition));
}

/// Bytes of a name that are not encoded: unreserved characters (RFC 3986, section 2.3).
const NAME: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The longest name in a header: as long as Linux allows.
const MAX_NAME: usize = 255;
