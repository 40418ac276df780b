//! Requests and responses, from the platform's form into the core's and back.

use http::{HeaderMap, HeaderValue, Method};
use js_sys::Uint8Array;
use strata::{
    registry::{Body, HEADERS, Request},
    store::Streams,
};
use wasm_bindgen::JsValue;
use web_sys::{Headers, ReadableStream, ResponseInit};

use crate::bytes::Bytes;

/// Reads what the core looks at of a request.
pub(crate) fn request(request: &web_sys::Request) -> Result<Request<ReadableStream>, JsValue> {
    let sent = request.headers();
    let mut headers = HeaderMap::with_capacity(HEADERS.len());
    for name in HEADERS {
        if let Some(value) = sent.get(name.as_str())?
            && let Ok(value) = HeaderValue::from_str(&value)
        {
            headers.insert(name, value);
        }
    }
    // The platform has parsed the URL: after scheme and host comes a path, at least `/`.
    let url = request.url();
    let target = url
        .split_once("://")
        .and_then(|(_, rest)| rest.find('/').and_then(|at| rest.get(at..)));
    Ok(Request {
        method: Method::from_bytes(request.method().as_bytes()).unwrap_or_default(),
        target: target.unwrap_or("/").to_owned(),
        headers,
        body: request.body(),
    })
}

/// Makes the response that the core has decided on. Streams are handed on untouched.
pub(crate) fn response(
    response: http::Response<Body<impl Streams<Body = ReadableStream, Bytes = Bytes>>>,
) -> Result<web_sys::Response, JsValue> {
    let (parts, body) = response.into_parts();
    let headers = Headers::new()?;
    for (name, value) in &parts.headers {
        headers.append(name.as_str(), value.to_str().unwrap_or_default())?;
    }
    let init = ResponseInit::new();
    init.set_status(parts.status.as_u16());
    init.set_headers(&headers);
    match body {
        Body::Empty => web_sys::Response::new_with_opt_str_and_init(None, &init),
        Body::Bytes(bytes) => {
            let bytes = Uint8Array::from(bytes.as_slice());
            web_sys::Response::new_with_opt_js_u8_array_and_init(Some(&bytes), &init)
        }
        Body::Held(bytes) => {
            web_sys::Response::new_with_opt_js_u8_array_and_init(Some(&bytes.0), &init)
        }
        Body::Stream(stream) => {
            web_sys::Response::new_with_opt_readable_stream_and_init(Some(&stream), &init)
        }
    }
}
