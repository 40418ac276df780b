//! Requests, in the form that the core needs.

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use crate::{
    access::cross_site,
    error::{Code, Error},
    range::{ByteRange, ParseRangeError},
    registry::headers::text,
};

/// A request, in the form that the core needs.
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

    /// The body, with the headers that describe it.
    pub(super) const fn payload(&mut self) -> Payload<'_, B> {
        Payload {
            body: &mut self.body,
            headers: &self.headers,
        }
    }

    /// Whether it carries credentials.
    pub(super) fn is_signed(&self) -> bool {
        self.headers.contains_key(header::AUTHORIZATION)
    }
}

/// The body of a request, with the headers that describe it.
#[derive(Debug)]
pub(super) struct Payload<'a, B> {
    /// The body. Its reader takes it; a body that is left is discarded after the reply.
    pub(super) body: &'a mut Option<B>,
    headers: &'a HeaderMap,
}

impl<B> Payload<'_, B> {
    /// The `Content-Length`.
    pub(super) fn length(&self) -> Result<Option<u64>, Error> {
        text(self.headers, header::CONTENT_LENGTH)
            .map(|value| {
                value
                    .parse()
                    .map_err(|_| Error::new(Code::SizeInvalid, "content-length is not a number"))
            })
            .transpose()
    }

    /// The `Content-Range`: the place of a chunk in its blob.
    pub(super) fn range(&self) -> Result<Option<ByteRange>, Error> {
        text(self.headers, header::CONTENT_RANGE)
            .map(str::parse)
            .transpose()
            .map_err(|error: ParseRangeError| {
                Error::new(Code::BlobUploadInvalid, format!("content-range: {error}"))
            })
    }

    /// The `Content-Type`.
    pub(super) fn media_type(&self) -> Option<&str> {
        text(self.headers, header::CONTENT_TYPE)
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

/// The number of entries of a page, limited to `most`.
pub(super) fn page_limit(asked: Option<u64>, most: u64) -> usize {
    usize::try_from(asked.unwrap_or(most).min(most)).unwrap_or_default()
}
