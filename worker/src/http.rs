//! Requests and responses, translated between the platform's form and the core's.

use std::pin::pin;

use futures_util::future::{Either, select};
use gloo_timers::future::sleep;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use js_sys::{Array, Uint8Array};
use strata::{
    host::{Ask, FetchError, Reply},
    registry::{Body, HEADERS, Request},
};
use wasm_bindgen::JsValue;
use web_sys::{ReadableStream, Response};
use worker::{AbortController, Fetch, Headers, RequestInit, RequestRedirect, ResponseBody};

use crate::{
    bytes::Bytes,
    failure::describe,
    platform::{read, respond},
};

/// The platform's header with the client's address. It replaces a value from the client.
const ADDRESS: &str = "cf-connecting-ip";

thread_local! {
    /// The names of [`HEADERS`] and [`ADDRESS`], as JavaScript strings.
    static NAMES: Array = HEADERS
        .iter()
        .map(HeaderName::as_str)
        .chain([ADDRESS])
        .map(JsValue::from)
        .collect();
}

/// Reads the parts of a request that the core uses.
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
        method: Method::from_bytes(method.as_bytes())
            .map_err(|error| JsValue::from(error.to_string()))?,
        target: target.to_owned(),
        origin: origin.to_owned(),
        address: address.unwrap_or_default().to_owned(),
        headers,
        body: request.body(),
    })
}

/// Makes the response that the core returned. Streams are passed on untouched.
pub(crate) fn response(
    response: http::Response<Body<ReadableStream, Bytes>>,
) -> Result<Response, JsValue> {
    let (parts, body) = response.into_parts();
    let head = lines(&parts.headers);
    let body = match body {
        Body::Empty => JsValue::UNDEFINED,
        Body::Bytes(bytes) => Uint8Array::from(bytes.as_slice()).into(),
        Body::Held(bytes) => bytes.view.into(),
        Body::Stream(stream) => stream.into(),
    };
    respond(parts.status.as_u16(), &head, &body)
}

/// Makes a request to another server.
pub(crate) async fn ask(ask: &Ask) -> Result<Reply<ReadableStream>, FetchError> {
    let failed = |error: worker::Error| FetchError::Failed(describe(error));
    let fetch = Fetch::Request(outgoing(ask).map_err(failed)?);
    let controller = AbortController::default();
    let signal = controller.signal();
    let sent = pin!(fetch.send_with_signal(&signal));
    let late = pin!(sleep(ask.patience));
    let response = match select(sent, late).await {
        Either::Left((response, _)) => response.map_err(failed)?,
        Either::Right(((), _)) => {
            controller.abort();
            return Err(FetchError::Late);
        }
    };
    let status = StatusCode::from_u16(response.status_code())
        .map_err(|error| FetchError::Failed(error.to_string()))?;
    let mut headers = HeaderMap::new();
    for (name, value) in response.headers() {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(&value)) {
            headers.append(name, value);
        }
    }
    let body = match response.into_parts() {
        (_, ResponseBody::Stream(body)) => Some(body),
        // Only a response that was made here has bytes.
        (_, ResponseBody::Empty | ResponseBody::Body(_)) => None,
    };
    Ok(Reply {
        status,
        headers,
        body,
    })
}

/// The request in the platform's form. The core follows redirections itself.
fn outgoing(ask: &Ask) -> Result<worker::Request, worker::Error> {
    let headers = Headers::new();
    for (name, value) in &ask.headers {
        headers.append(name.as_str(), value.to_str().unwrap_or_default())?;
    }
    let mut init = RequestInit::new();
    init.with_method(ask.method.as_str().to_owned().into())
        .with_redirect(RequestRedirect::Manual)
        .with_headers(headers);
    worker::Request::new_with_init(&ask.url, &init)
}

/// Names and values of headers by turns, one on each line.
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
