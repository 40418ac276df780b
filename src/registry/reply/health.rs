//! Responses about the health of the registry.

use http::{HeaderValue, Response, StatusCode, header};

use crate::registry::{body::Body, reply::respond_with_json};

/// 200, not cached: the isolate answers, or the bucket does.
pub(in crate::registry) fn healthy<S, Y>() -> Response<Body<S, Y>> {
    let mut response = respond_with_json(StatusCode::OK, r#"{"status":"ok"}"#);
    let no_store = HeaderValue::from_static("no-store");
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, no_store);
    response
}
