//! Requests, as the core needs them.

use http::{HeaderMap, HeaderName, Method, header};

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
