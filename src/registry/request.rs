//! Requests, as the core needs them.

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use crate::access::cross_site;

/// A request as the core needs it.
#[derive(Debug)]
pub struct Request<B> {
    /// The method.
    pub method: Method,
    /// Path and query, as sent.
    pub target: String,
    /// How the client reached the registry, as `https://registry.example.com`.
    pub origin: String,
    /// The address of the client, as text; empty if it is not known.
    pub address: String,
    /// The headers; of those that a client sends, only [`HEADERS`] are read.
    pub headers: HeaderMap,
    /// The body, if there is one.
    pub body: Option<B>,
}

impl<B> Request<B> {
    /// Creates a request without headers and body, from an unknown address.
    pub fn new(method: Method, target: impl Into<String>) -> Self {
        Self {
            method,
            target: target.into(),
            origin: String::new(),
            address: String::new(),
            headers: HeaderMap::new(),
            body: None,
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Adds a body of `length` bytes.
    #[must_use]
    pub fn with_body(self, body: impl Into<B>, length: u64) -> Self {
        let mut request = self.with_header(header::CONTENT_LENGTH, length.into());
        request.body = Some(body.into());
        request
    }

    /// Whether it carries credentials.
    pub(super) fn is_signed(&self) -> bool {
        self.headers.contains_key(header::AUTHORIZATION)
    }
}

/// The headers that the core reads.
pub const HEADERS: [HeaderName; 9] = [
    header::AUTHORIZATION,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::IF_NONE_MATCH,
    header::IF_RANGE,
    header::ORIGIN,
    header::RANGE,
    cross_site::SEC_FETCH_SITE,
];

/// A header of a message, if it is text.
pub(super) fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
