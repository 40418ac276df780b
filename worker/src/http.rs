//! Requests and responses, from the platform's form into the core's and back.

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use js_sys::{Array, Uint8Array};
use strata::{
    registry::{Body, HEADERS, Request},
    store::Streams,
};
use wasm_bindgen::{JsValue, prelude::wasm_bindgen};
use web_sys::{ReadableStream, Response};

use crate::bytes::Bytes;

#[wasm_bindgen(module = "/src/http.js")]
extern "C" {
    #[wasm_bindgen(catch)]
    fn read(request: &web_sys::Request, names: &Array) -> Result<String, JsValue>;

    #[wasm_bindgen(catch)]
    fn respond(status: u16, head: &str, body: &JsValue) -> Result<Response, JsValue>;
}

/// Where the platform says from which address a request comes; what a client puts there, it replaces.
const ADDRESS: &str = "cf-connecting-ip";

thread_local! {
    /// The names of [`HEADERS`] and [`ADDRESS`], on the other side of the border.
    static NAMES: Array = HEADERS
        .iter()
        .map(HeaderName::as_str)
        .chain([ADDRESS])
        .map(JsValue::from)
        .collect();
}

/// Reads what the core looks at of a request.
pub(crate) fn request(request: &web_sys::Request) -> Result<Request<ReadableStream>, JsValue> {
    let text = NAMES.with(|names| read(request, names))?;
    let mut lines = text.split('\n');
    let method = lines.next().unwrap_or_default();
    let url = lines.next().unwrap_or_default();
    let mut headers = HeaderMap::with_capacity(HEADERS.len());
    for (name, line) in HEADERS.into_iter().zip(&mut lines) {
        if let Some(value) = line.strip_prefix('=')
            && let Ok(value) = HeaderValue::from_str(value)
        {
            headers.insert(name, value);
        }
    }
    let address = lines.next().and_then(|line| line.strip_prefix('='));
    // The platform has parsed the URL: after scheme and host comes a path, at least `/`.
    let host = url.find("://").map_or(0, |at| at + "://".len());
    let path = url.get(host..).and_then(|rest| rest.find('/'));
    let (origin, target) = path
        .and_then(|at| url.split_at_checked(host + at))
        .unwrap_or((url, "/"));
    Ok(Request {
        method: Method::from_bytes(method.as_bytes()).unwrap_or_default(),
        target: target.to_owned(),
        origin: origin.to_owned(),
        address: address.unwrap_or_default().to_owned(),
        headers,
        body: request.body(),
    })
}

/// Makes the response that the core has decided on. Streams are handed on untouched.
pub(crate) fn response(
    response: http::Response<Body<impl Streams<Body = ReadableStream, Bytes = Bytes>>>,
) -> Result<Response, JsValue> {
    let (parts, body) = response.into_parts();
    let mut head = String::new();
    for (name, value) in &parts.headers {
        head.push_str(name.as_str());
        head.push('\n');
        head.push_str(value.to_str().unwrap_or_default());
        head.push('\n');
    }
    let body = match body {
        Body::Empty => JsValue::UNDEFINED,
        Body::Bytes(bytes) => Uint8Array::from(bytes.as_slice()).into(),
        Body::Held(bytes) => bytes.0.into(),
        Body::Stream(stream) => stream.into(),
    };
    respond(parts.status.as_u16(), &head, &body)
}
