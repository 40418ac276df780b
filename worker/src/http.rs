//! Requests and responses, from the platform's form into the core's and back.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use js_sys::{Array, Uint8Array};
use strata::{
    host::{Ask, FetchError, Reply},
    registry::{Body, HEADERS, Request},
};
use wasm_bindgen::{JsCast as _, JsValue, prelude::wasm_bindgen};
use web_sys::{ReadableStream, Response};

use crate::{bytes::Bytes, r2::describe};

#[wasm_bindgen(module = "/src/http.js")]
extern "C" {
    #[wasm_bindgen(catch)]
    fn read(request: &web_sys::Request, names: &Array) -> Result<String, JsValue>;

    #[wasm_bindgen(catch, js_name = ask)]
    async fn ask_platform(head: &str, milliseconds: f64) -> Result<JsValue, JsValue>;

    /// What another server said.
    type Said;

    #[wasm_bindgen(method, getter)]
    fn status(this: &Said) -> u16;

    #[wasm_bindgen(method, getter)]
    fn head(this: &Said) -> String;

    #[wasm_bindgen(method, getter)]
    fn body(this: &Said) -> Option<ReadableStream>;

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
    response: http::Response<Body<ReadableStream, Bytes>>,
) -> Result<Response, JsValue> {
    let (parts, body) = response.into_parts();
    let head = lines(&parts.headers);
    let body = match body {
        Body::Empty => JsValue::UNDEFINED,
        Body::Bytes(bytes) => Uint8Array::from(bytes.as_slice()).into(),
        Body::Held(bytes) => bytes.0.into(),
        Body::Stream(stream) => stream.into(),
    };
    respond(parts.status.as_u16(), &head, &body)
}

/// Makes a request to another server.
pub(crate) async fn ask(ask: &Ask) -> Result<Reply<ReadableStream>, FetchError> {
    let head = format!("{}\n{}\n{}", ask.method, ask.url, lines(&ask.headers));
    let milliseconds = ask.patience.as_secs_f64() * 1_000.0;
    let said = ask_platform(&head, milliseconds)
        .await
        .map_err(|error| FetchError::Failed(describe(&error)))?;
    if said.is_null() {
        return Err(FetchError::Late);
    }
    let said: Said = said.unchecked_into();
    let mut headers = HeaderMap::new();
    let text = said.head();
    let mut lines = text.split('\n');
    while let (Some(name), Some(value)) = (lines.next(), lines.next()) {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
            headers.append(name, value);
        }
    }
    Ok(Reply {
        status: StatusCode::from_u16(said.status())
            .map_err(|error| FetchError::Failed(error.to_string()))?,
        headers,
        body: said.body(),
    })
}

/// Names and values of headers in turns, a line each.
fn lines(headers: &HeaderMap) -> String {
    let mut lines = String::new();
    for (name, value) in headers {
        lines.push_str(name.as_str());
        lines.push('\n');
        lines.push_str(value.to_str().unwrap_or_default());
        lines.push('\n');
    }
    lines
}
