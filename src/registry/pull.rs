//! Pulls: the content that a request selects, and the content that it gets (RFC 9110, sections 13
//! and 14).

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use crate::{
    error::{Code, Error},
    platform::Platform,
    range::{ByteRange, Selection},
    registry::{
        body::BodyOf,
        headers::{text, value},
        request::Request,
    },
    store::{Piece, bucket::StreamPart},
};

/// The headers of a request that select content.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pull<'a> {
    /// Whether only the headers of the response are sent.
    pub(super) is_head: bool,
    /// The `Range` header.
    pub(super) range: Option<&'a HeaderValue>,
    /// The scheme and host by which the client reached the registry.
    pub(super) origin: &'a str,
    if_range: Option<&'a str>,
    if_none_match: Option<&'a str>,
}

impl<'a> Pull<'a> {
    /// Reads the headers of a request.
    pub(super) fn of<B>(request: &'a Request<B>) -> Self {
        Self {
            is_head: request.method == Method::HEAD,
            range: request.headers.get(header::RANGE),
            origin: &request.origin,
            if_range: text(&request.headers, header::IF_RANGE),
            if_none_match: text(&request.headers, header::IF_NONE_MATCH),
        }
    }

    /// Whether the client has the content with this etag (RFC 9110, section 13.1.2).
    pub(super) fn has(&self, etag: &str) -> bool {
        self.if_none_match.is_some_and(|tags| {
            tags.split(',')
                .map(str::trim)
                .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
        })
    }

    /// The selected ranges of `size` bytes with this etag; `None` if all bytes are selected.
    /// `what` names the content in the error.
    ///
    /// # Errors
    ///
    /// 416 if none of the ranges is within the content.
    pub(super) fn select(
        &self,
        what: &str,
        etag: &str,
        size: u64,
    ) -> Result<Option<Vec<ByteRange>>, Error> {
        let is_meant = !self.is_head && self.if_range.is_none_or(|condition| condition == etag);
        let range = self.range.filter(|_| is_meant);
        match Selection::of(range.and_then(|range| range.to_str().ok()), size) {
            Selection::All => Ok(None),
            Selection::Ranges(ranges) => Ok(Some(ranges)),
            Selection::Unsatisfiable => {
                let found = format!("the range is outside of the {size} bytes of the {what}");
                Err(Error::new(Code::SizeInvalid, found)
                    .with_status(StatusCode::RANGE_NOT_SATISFIABLE)
                    .with_header(header::CONTENT_RANGE, value(&format!("bytes */{size}"))))
            }
        }
    }
}

/// The selected part of content.
#[derive(Debug)]
pub(super) enum Selected {
    /// Nothing: the client has the content.
    Nothing,
    /// All of the content, with its size.
    All(u64),
    /// A range of content of this size.
    Range(ByteRange, u64),
    /// Several ranges in one body of this length, separated by this boundary.
    Ranges(String, u64),
    /// The part that an upstream selected, as these of its headers say.
    ByUpstream(HeaderMap),
}

/// The content that a request gets.
pub(super) struct Pulled<P: Platform> {
    pub(super) selected: Selected,
    pub(super) body: BodyOf<P>,
}

/// Several ranges of content as one body of type `multipart/byteranges` (RFC 9110, section 14.6).
pub(super) struct Multipart<B, Y> {
    /// The separator between the ranges.
    boundary: String,
    parts: Vec<StreamPart<B, Y>>,
    length: u64,
}

impl<B, Y> Multipart<B, Y> {
    pub(super) const fn new(boundary: String) -> Self {
        Self {
            boundary,
            parts: Vec::new(),
            length: 0,
        }
    }

    /// Adds a range of content of this type and size.
    pub(super) fn push(
        &mut self,
        media_type: &str,
        range: ByteRange,
        size: u64,
        parts: Vec<StreamPart<B, Y>>,
    ) {
        let boundary = &self.boundary;
        self.push_text(format!(
            "\r\n--{boundary}\r\ncontent-type: {media_type}\r\ncontent-range: bytes {range}/{size}\r\n\r\n"
        ));
        self.length = self.length.saturating_add(range.length());
        self.parts.extend(parts);
    }

    /// The parts of the body, its length, and the boundary.
    pub(super) fn end(mut self) -> (Vec<StreamPart<B, Y>>, u64, String) {
        self.push_text(format!("\r\n--{}--\r\n", self.boundary));
        (self.parts, self.length, self.boundary)
    }

    fn push_text(&mut self, text: String) {
        self.length = self.length.saturating_add(text.len() as u64);
        self.parts
            .push(StreamPart::Piece(Piece::Bytes(text.into_bytes())));
    }
}
