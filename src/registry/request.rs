//! Requests, in the form that the core needs.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use crate::{
    access::cross_site,
    error::{Code, Error},
    range::{ByteRange, ParseRangeError},
    registry::headers::{STRATA_RELAY, text},
};

/// The most bytes of a path with its query.
const MAX_TARGET: usize = 8 * 1024;

/// The most bytes of a header: a token for many repositories fits.
const MAX_HEADER: usize = 16 * 1024;

/// A request, in the form that the core needs. `B` is the platform's stream of bytes.
#[derive(Debug)]
pub struct Request<B> {
    /// The method, such as `PUT`.
    pub method: Method,
    /// The path and the query as sent, percent-encoded: `/v2/app/tags/list?n=10`.
    pub target: String,
    /// The scheme and host by which the client reached the registry, as
    /// `https://registry.example.com`. [`Settings::origin`](crate::settings::Settings::origin)
    /// takes precedence.
    pub origin: String,
    /// The IP address of the client as text. Empty if it is not known. Failed sign-ins and leased
    /// memory are counted by it.
    pub address: String,
    /// The headers. Of those that a client sends, only [`HEADERS`] are read.
    pub headers: HeaderMap,
    /// The body, if there is one. `Content-Length` in the headers is its length.
    pub body: Option<B>,
}

impl<B> Request<B> {
    /// Refuses a request whose target or header is too long.
    pub(super) fn require_lengths(&self) -> Result<(), Error> {
        if self.target.len() > MAX_TARGET {
            let found = format!(
                "path and query have {} bytes; at most {MAX_TARGET} are allowed",
                self.target.len()
            );
            return Err(Error::new(Code::Unsupported, found).with_status(StatusCode::URI_TOO_LONG));
        }
        match self
            .headers
            .iter()
            .find(|(_, value)| value.len() > MAX_HEADER)
        {
            Some((name, value)) => {
                let found = format!(
                    "header {name} has {} bytes; at most {MAX_HEADER} are allowed",
                    value.len()
                );
                let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
                Err(Error::new(Code::Unsupported, found).with_status(status))
            }
            None => Ok(()),
        }
    }

    /// Creates a request without headers and body, from an unknown address and origin.
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

    /// Sets a header, in place of an earlier value.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Sets the body, and `Content-Length` to `length` bytes.
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

/// The headers of a client that the core reads. A platform that copies headers one by one needs no
/// others.
pub const HEADERS: [HeaderName; 10] = [
    header::AUTHORIZATION,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::IF_NONE_MATCH,
    header::IF_RANGE,
    header::ORIGIN,
    header::RANGE,
    cross_site::SEC_FETCH_SITE,
    STRATA_RELAY,
];

/// The number of entries of a page, limited to `most`.
pub(super) fn page_limit(asked: Option<u64>, most: u64) -> usize {
    usize::try_from(asked.unwrap_or(most).min(most)).unwrap_or_default()
}
