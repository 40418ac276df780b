//! Responses: how they are built, and the headers that all of them have.

use std::{fmt, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

use crate::{
    digest::Digest,
    error::Error,
    platform::Platform,
    registry::{
        body::{Body, BodyOf},
        headers::{DOCKER_CONTENT_DIGEST, etag, value},
        pull::{Pulled, Selected},
    },
    store::trace::Trace,
};

pub(super) mod blob;
pub(super) mod extensions;
pub(super) mod health;
pub(super) mod inside;
pub(super) mod list;
pub(super) mod manifest;
pub(super) mod upkeep;
pub(super) mod upload;

/// Content named by a digest never changes.
/// It may be private, and must reach the client byte for byte.
const IMMUTABLE: HeaderValue =
    HeaderValue::from_static("private, max-age=31536000, immutable, no-transform");

/// Content named by a tag may change.
const REVALIDATED: HeaderValue = HeaderValue::from_static("private, no-cache, no-transform");

/// The id of the request, in the response and in the log.
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The tier that served the content.
const X_STRATA_TIER: HeaderName = HeaderName::from_static("x-strata-tier");
/// The tiers that were asked, and how long each took.
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// The origins that may load a response (Fetch, section 3.7).
const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName =
    HeaderName::from_static("cross-origin-resource-policy");

/// The upstream of an answer, for a client that named one.
pub(super) const OCI_NAMESPACE: HeaderName = HeaderName::from_static("oci-namespace");
/// Why a stale copy was served instead of the upstream's answer.
const X_STRATA_STALE: HeaderName = HeaderName::from_static("x-strata-stale");

/// A response on a platform.
pub(super) type ResponseOf<P> = Response<BodyOf<P>>;

/// The answer to a request: a response, or the error that becomes one.
pub(super) type Answer<P> = Result<ResponseOf<P>, Error>;

/// Headers that every response has.
pub(super) fn describe_response<S, Y>(
    response: &mut Response<Body<S, Y>>,
    origin: &str,
    id: &str,
    trace: &Trace<Y>,
) {
    let is_bare = matches!(
        response.status(),
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
    );
    let headers = response.headers_mut();
    if !is_bare {
        // The platform compresses a reply without a type, even an empty one, and drops its length.
        headers
            .entry(header::CONTENT_TYPE)
            .or_insert(HeaderValue::from_static("application/octet-stream"));
    }
    harden(headers);
    if origin.starts_with("https:") {
        headers.insert(
            header::STRICT_TRANSPORT_SECURITY,
            HeaderValue::from_static("max-age=31536000"),
        );
    }
    headers.insert(X_REQUEST_ID, value(id));
    if let Some(tier) = trace.tier() {
        headers.insert(X_STRATA_TIER, HeaderValue::from_static(tier.name()));
        headers.insert(SERVER_TIMING, value(&trace.server_timing()));
    }
    if let Some(reason) = trace.stale.get() {
        headers.insert(X_STRATA_STALE, HeaderValue::from_static(reason));
        // RFC 7234, section 5.5.1.
        let warning = HeaderValue::from_static("110 strata \"Response is Stale\"");
        headers.insert(header::WARNING, warning);
    }
}

/// Keeps a browser from running, embedding or styling with a reply, and from guessing its type.
/// Any client may have pushed the bytes of blobs, manifests and files, and the page that shows them
/// has the same origin.
fn harden(headers: &mut HeaderMap) {
    const HARDENING: [(HeaderName, &str); 4] = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'; sandbox",
        ),
        (header::X_FRAME_OPTIONS, "DENY"),
        (CROSS_ORIGIN_RESOURCE_POLICY, "same-origin"),
    ];
    for (name, text) in HARDENING {
        headers.insert(name, HeaderValue::from_static(text));
    }
}

/// Makes the response to every request while the registry can't be set up: 503 with the code
/// `UNAVAILABLE` and `Retry-After` of a minute.
///
/// The text of `error` is in the message, so it must contain no secret.
/// [`ParseSettingsError`](crate::settings::ParseSettingsError) has only the name of a setting.
pub fn refuse<S, Y>(error: &impl fmt::Display) -> Response<Body<S, Y>> {
    let error = Error::unavailable(error.to_string(), Duration::from_secs(60));
    let mut response = respond_with_error(&error);
    harden(response.headers_mut());
    response
}

pub(super) fn respond_with_error<S, Y>(error: &Error) -> Response<Body<S, Y>> {
    let mut response = respond_with_json(error.status(), error.body());
    for (name, value) in error.headers() {
        response.headers_mut().append(name, value.clone());
    }
    response
}

/// A response of JSON.
pub(super) fn respond_with_json<S, Y>(
    status: StatusCode,
    json: impl Into<Vec<u8>>,
) -> Response<Body<S, Y>> {
    let bytes = json.into();
    let mut response = respond(status);
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
        .headers_mut()
        .insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    *response.body_mut() = Body::Bytes(bytes);
    response
}

pub(super) fn respond<S, Y>(status: StatusCode) -> Response<Body<S, Y>> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = status;
    response
}

/// A response without a body that says where the content with this digest is.
fn respond_with_location<S, Y>(
    status: StatusCode,
    location: &str,
    digest: &Digest,
) -> Response<Body<S, Y>> {
    let mut response = respond(status);
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, value(location));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(0));
    headers.insert(DOCKER_CONTENT_DIGEST, value(&digest.to_string()));
    response
}

/// The response to a pull, with headers that describe the content.
fn respond_with_pulled<P: Platform>(pulled: Pulled<P>, headers: HeaderMap) -> ResponseOf<P> {
    let Pulled { selected, body } = pulled;
    let status = match &selected {
        Selected::Nothing => StatusCode::NOT_MODIFIED,
        Selected::All(_) => StatusCode::OK,
        Selected::Range(..) | Selected::Ranges(..) | Selected::ByUpstream(_) => {
            StatusCode::PARTIAL_CONTENT
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    let headers = response.headers_mut();
    match selected {
        Selected::Nothing => {}
        Selected::All(size) => {
            headers.insert(header::CONTENT_LENGTH, size.into());
        }
        Selected::Range(range, size) => {
            let range_of = value(&format!("bytes {range}/{size}"));
            headers.insert(header::CONTENT_RANGE, range_of);
            headers.insert(header::CONTENT_LENGTH, range.length().into());
        }
        Selected::Ranges(boundary, length) => {
            let media_type = format!("multipart/byteranges; boundary={boundary}");
            headers.insert(header::CONTENT_TYPE, value(&media_type));
            headers.insert(header::CONTENT_LENGTH, length.into());
        }
        Selected::ByUpstream(found) => headers.extend(found),
    }
    response
}

/// Sets the headers of content that is named by its digest and so never changes.
fn describe_content(headers: &mut HeaderMap, digest: &Digest, media_type: &str) {
    // An older version stored media types that are no header value, until the scrub corrects them.
    let label = HeaderValue::from_str(media_type).ok();
    let label = label.filter(|_| media_type.is_ascii());
    let unlabelled = HeaderValue::from_static("application/octet-stream");
    headers.insert(header::CONTENT_TYPE, label.unwrap_or(unlabelled));
    if !is_json(media_type) {
        // A browser that opens its address saves it, whatever the type is.
        let attachment = HeaderValue::from_static("attachment");
        headers.insert(header::CONTENT_DISPOSITION, attachment);
    }
    headers.insert(DOCKER_CONTENT_DIGEST, value(&digest.to_string()));
    headers.insert(header::ETAG, value(&etag(digest)));
}

/// Whether a media type is JSON, which a browser shows as text.
/// The type of a manifest is its author's text.
/// A list of types is never JSON: browsers and servers differ in which of them counts.
fn is_json(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    let is_one = essence
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+/".contains(&byte));
    let essence = essence.to_ascii_lowercase();
    is_one && (essence == "application/json" || essence.ends_with("+json"))
}

/// Adds the address of the next page (RFC 8288).
fn link_next<S, Y>(response: &mut Response<Body<S, Y>>, target: &str) {
    response
        .headers_mut()
        .insert(header::LINK, value(&format!("<{target}>; rel=\"next\"")));
}

/// 202 with no body, the answer to deletions.
pub(super) fn accepted<S, Y>() -> Response<Body<S, Y>> {
    let mut response = respond(StatusCode::ACCEPTED);
    response
        .headers_mut()
        .insert(header::CONTENT_LENGTH, value("0"));
    response
}
