//! Pulling blobs: end-2.

use http::{HeaderValue, Response, StatusCode, header};
use serde_json::json;

use crate::{
    digest::Digest,
    error::{Code, Error},
    host::Host,
    name::Name,
    range::{ByteRange, Selection},
    registry::{
        Answer, Body, Registry, Request, describe_content, grant::Record, is_unchanged, respond,
        text, value,
    },
    store::{Piece, Streams, key},
    upload::Extent,
};

/// What is named by a digest never changes; it may be private, and must reach the client as it was pushed.
pub(super) const IMMUTABLE: HeaderValue =
    HeaderValue::from_static("private, max-age=31536000, immutable, no-transform");

impl<S: Streams, H: Host> Registry<S, H> {
    pub(super) async fn pull_blob(
        &self,
        request: &Request<S::Body>,
        name: &Name,
        digest: &Digest,
    ) -> Answer<S::Body> {
        let unknown = || {
            Error::new(Code::BlobUnknown, format!("{digest} in repository {name}"))
                .with_detail(json!({ "name": name.as_str(), "digest": digest.to_string() }))
        };
        let record = self.readable(name, digest).await?.ok_or_else(unknown)?;
        if is_unchanged(&request.headers, digest) {
            // A client that has the bytes and may read them needs no look at the blob.
            return Ok(describe(respond(StatusCode::NOT_MODIFIED), digest));
        }
        match self.open_blob(request, digest, &record).await? {
            Some(response) => Ok(response),
            None => {
                // The link was stale: what the blob itself says decides.
                let fresh = self.record(digest).await?.ok_or_else(unknown)?;
                self.link(name, digest, &fresh).await;
                self.open_blob(request, digest, &fresh)
                    .await?
                    .ok_or_else(|| {
                        let found = format!("the bytes of {digest} are gone, push it again");
                        Error::unavailable(found, std::time::Duration::from_secs(60))
                    })
            }
        }
    }

    /// Opens what a request selects of a blob; `None` where the bytes are not where the record says.
    async fn open_blob(
        &self,
        request: &Request<S::Body>,
        digest: &Digest,
        record: &Record,
    ) -> Result<Option<Response<Body<S::Body>>>, Error> {
        let size = record.size();
        if request.method == http::Method::HEAD {
            let response = whole(digest, size);
            return Ok(self.store.head(&key::blob(digest)).await?.map(|_| response));
        }
        let condition = text(&request.headers, header::IF_RANGE);
        let range = text(&request.headers, header::RANGE)
            .filter(|_| condition.is_none_or(|condition| condition == format!("\"{digest}\"")));
        match Selection::of(range, size) {
            Selection::All => {
                let pieces = locate(
                    record,
                    digest,
                    ByteRange::new(0, size.saturating_sub(1)).filter(|_| size > 0),
                );
                let Some(body) = self.open(pieces, size).await? else {
                    return Ok(None);
                };
                let mut response = whole(digest, size);
                *response.body_mut() = body;
                Ok(Some(response))
            }
            Selection::Ranges(ranges) => match ranges.as_slice() {
                [range] => {
                    let pieces = locate(record, digest, Some(*range));
                    let Some(body) = self.open(pieces, range.length()).await? else {
                        return Ok(None);
                    };
                    let mut response = describe(respond(StatusCode::PARTIAL_CONTENT), digest);
                    let headers = response.headers_mut();
                    headers.insert(
                        header::CONTENT_RANGE,
                        value(&format!("bytes {range}/{size}")),
                    );
                    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(range.length()));
                    *response.body_mut() = body;
                    Ok(Some(response))
                }
                ranges => self.open_ranges(digest, record, ranges).await,
            },
            Selection::Unsatisfiable => {
                let error = Error::new(
                    Code::SizeInvalid,
                    format!("range outside of the blob's {size} bytes"),
                )
                .with_status(StatusCode::RANGE_NOT_SATISFIABLE)
                .with_header(header::CONTENT_RANGE, value(&format!("bytes */{size}")));
                Err(error)
            }
        }
    }

    /// Opens several ranges as `multipart/byteranges` (RFC 9110, section 14.6).
    async fn open_ranges(
        &self,
        digest: &Digest,
        record: &Record,
        ranges: &[ByteRange],
    ) -> Result<Option<Response<Body<S::Body>>>, Error> {
        let size = record.size();
        let boundary = self.nonce();
        let mut pieces = Vec::new();
        let mut length = 0;
        for range in ranges {
            let head = format!(
                "\r\n--{boundary}\r\ncontent-type: {BLOB_TYPE}\r\ncontent-range: bytes {range}/{size}\r\n\r\n"
            );
            length += head.len() as u64 + range.length();
            pieces.push(Piece::Bytes(head.into_bytes()));
            pieces.extend(locate(record, digest, Some(*range)));
        }
        let tail = format!("\r\n--{boundary}--\r\n");
        length += tail.len() as u64;
        pieces.push(Piece::Bytes(tail.into_bytes()));
        let Some(body) = self.open(pieces, length).await? else {
            return Ok(None);
        };
        let mut response = describe(respond(StatusCode::PARTIAL_CONTENT), digest);
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            value(&format!("multipart/byteranges; boundary={boundary}")),
        );
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        *response.body_mut() = body;
        Ok(Some(response))
    }

    /// Opens pieces as one stream. The first object is opened now, so that one that is gone is noticed before the
    /// response begins; `None` says so.
    async fn open(
        &self,
        mut pieces: Vec<Piece<S::Body>>,
        length: u64,
    ) -> Result<Option<Body<S::Body>>, Error> {
        for piece in &mut pieces {
            if let Piece::Object(key, range) = piece {
                let Some(object) = self.store.get(key, *range).await? else {
                    return Ok(None);
                };
                *piece = Piece::Stream(object.body);
                break;
            }
        }
        if let [Piece::Stream(_)] = pieces.as_slice()
            && let Some(Piece::Stream(body)) = pieces.pop()
        {
            return Ok(Some(Body::Stream(body)));
        }
        Ok(Some(if pieces.is_empty() {
            Body::Empty
        } else {
            Body::Stream(self.store.concatenate(pieces, length))
        }))
    }
}

/// The objects, and ranges of them, that have a range of a blob's bytes.
fn locate<B>(record: &Record, digest: &Digest, range: Option<ByteRange>) -> Vec<Piece<B>> {
    match record {
        Record::Bytes { size } => {
            let range = range.filter(|range| range.length() < *size);
            vec![Piece::Object(key::blob(digest), range)]
        }
        Record::Extents { extents, .. } => {
            let Some(range) = range else {
                return Vec::new();
            };
            let mut offset = 0;
            let mut pieces = Vec::new();
            for Extent { key: name, size } in extents {
                let covered = size
                    .checked_sub(1)
                    .and_then(|last| ByteRange::new(offset, offset + last));
                if let Some(part) = covered.and_then(|covered| covered.intersection(range)) {
                    let within = ByteRange::new(part.first() - offset, part.last() - offset);
                    pieces.push(Piece::Object(
                        key::extent(name),
                        within.filter(|within| within.length() < *size),
                    ));
                }
                offset += size;
            }
            pieces
        }
    }
}

const BLOB_TYPE: &str = "application/octet-stream";

fn whole<B>(digest: &Digest, size: u64) -> Response<Body<B>> {
    let mut response = describe(respond(StatusCode::OK), digest);
    response
        .headers_mut()
        .insert(header::CONTENT_LENGTH, HeaderValue::from(size));
    response
}

fn describe<B>(mut response: Response<Body<B>>, digest: &Digest) -> Response<Body<B>> {
    let headers = response.headers_mut();
    describe_content(headers, digest, BLOB_TYPE);
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CACHE_CONTROL, IMMUTABLE);
    response
}
