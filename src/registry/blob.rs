//! Pulling blobs: end-2.

use std::{rc::Rc, time::Duration};

use http::{HeaderValue, Response, StatusCode, header};
use serde_json::json;

use crate::{
    digest::Digest,
    error::{Code, Error},
    host::Host,
    ledger::Memory,
    manifest::MAX_SIZE,
    name::Name,
    range::{ByteRange, Selection},
    registry::{
        Answer, Body, Registry, Request, describe_content, grant::Readable, is_unchanged, respond,
        text, value,
    },
    store::{
        Bytes, Meta, Piece, Streams, Values,
        document::{BlobKind, Record, is_blob},
        key::Key,
        policy::{Kind, Tier},
        tiers::{Found, Known, Wanted},
        trace::Trace,
        warm::Content,
    },
    upload::Extent,
};

/// What is named by a digest never changes; it may be private, and must reach the client as it was pushed.
pub(super) const IMMUTABLE: HeaderValue =
    HeaderValue::from_static("private, max-age=31536000, immutable, no-transform");

impl<S: Streams, W: Values<Bytes = S::Bytes>, H: Host<Body = S::Body>> Registry<S, W, H> {
    /// end-2.
    pub(super) async fn pull_blob(
        &self,
        request: &Request<S::Body>,
        name: &Name,
        digest: &Digest,
        trace: &Trace<S::Bytes>,
    ) -> Answer<S> {
        let unknown = || {
            Error::new(Code::BlobUnknown, format!("{digest} in repository {name}"))
                .with_detail(json!({ "name": name.as_str(), "digest": digest.to_string() }))
        };
        if let Some(known) = self.known(name, digest, trace).await? {
            if is_unchanged(&request.headers, digest) {
                // A client that has the bytes and may read them needs no look at the blob.
                return Ok(describe(respond(StatusCode::NOT_MODIFIED), digest));
            }
            if let Some(response) = self.open_blob(request, digest, &known, trace).await? {
                return Ok(response);
            }
            // The link was stale. The blob itself says where its bytes are, and the store whether
            // the right that came with the cached link is still there.
            let right = self.readable(name, digest).await?.map(|found| found.right);
            if right.is_none() {
                self.tiers.changed(Wanted::Link(name, digest));
            }
            if let Some(right) = right
                && let Some(fresh) = self.record(digest).await?
            {
                self.link(name, digest, &fresh, right).await;
                let known = Known::new(fresh, right, self.host.now());
                let opened = self.open_blob(request, digest, &known, trace).await?;
                return opened.ok_or_else(|| {
                    let found = format!("the bytes of {digest} are gone, push it again");
                    Error::unavailable(found, Duration::from_secs(60))
                });
            }
        }
        let mirrored = self.mirrored(name).ok_or_else(unknown)?;
        if request.method == http::Method::HEAD {
            return self.look_at_blob(&mirrored, digest, trace).await;
        }
        let sent = match request.headers.get(header::RANGE) {
            Some(range) => self.pass_range(&mirrored, digest, range, trace).await?,
            None => self.send_on(&mirrored, digest, trace).await?,
        };
        if let Some(response) = sent {
            return Ok(response);
        }
        let known = self.known_or_obtained(name, digest, trace).await?;
        let known = known.ok_or_else(unknown)?;
        if is_unchanged(&request.headers, digest) {
            return Ok(describe(respond(StatusCode::NOT_MODIFIED), digest));
        }
        let opened = self.open_blob(request, digest, &known, trace).await?;
        opened.ok_or_else(unknown)
    }

    /// What is known of a blob, if this repository may read it.
    pub(super) async fn known(
        &self,
        name: &Name,
        digest: &Digest,
        trace: &Trace<S::Bytes>,
    ) -> Result<Option<Rc<Known>>, Error> {
        let cold = async || {
            let asked = self.host.now();
            let readable = self.readable(name, digest).await?;
            Ok(
                readable.map_or(Found::Absent, |Readable { record, right }| {
                    Found::Link(Rc::new(Known::new(record, right, asked)))
                }),
            )
        };
        let wanted = Wanted::Link(name, digest);
        let mut found = self.tiers.read(wanted, trace, cold).await?;
        if let Found::Link(known) = &found
            && !self.is_right(name, known.right)
        {
            // The link came with a warm manifest, written by an older version or before the name
            // was mirrored: ask the cold tier.
            self.tiers.changed(wanted);
            found = self.tiers.read(wanted, trace, cold).await?;
        }
        Ok(match found {
            Found::Link(known) => Some(known).filter(|known| self.is_right(name, known.right)),
            Found::Absent | Found::Content(_) => None,
        })
    }

    /// What is known of a blob, which is asked of the upstream where it is mirrored and not there yet.
    pub(super) async fn known_or_obtained(
        &self,
        name: &Name,
        digest: &Digest,
        trace: &Trace<S::Bytes>,
    ) -> Result<Option<Rc<Known>>, Error> {
        match (self.known(name, digest, trace).await?, self.mirrored(name)) {
            (None, Some(mirrored)) => self.obtain(&mirrored, digest, trace).await.map(Some),
            (known, _) => Ok(known),
        }
    }

    /// Reads a small blob that this repository may read; `None` where there is none, or a large one.
    pub(super) async fn read_blob(
        &self,
        name: &Name,
        digest: &Digest,
        trace: &Trace<S::Bytes>,
    ) -> Result<Option<Vec<u8>>, Error> {
        let Some(known) = self.known_or_obtained(name, digest, trace).await? else {
            return Ok(None);
        };
        if known.record.size() > MAX_SIZE {
            return Ok(None);
        }
        let size = known.record.size();
        let lease = self.ledger.wait_if_large(&self.host, Memory::Wasm, size);
        let _lease = lease.await?;
        let own = Trace::default();
        let bytes = match self.source(digest, &known, &own).await? {
            Some(Source::Held(content)) => content.bytes.to_vec(),
            Some(Source::Record(record)) => {
                let size = record.size();
                let all = ByteRange::new(0, size.saturating_sub(1)).filter(|_| size > 0);
                match self.open(locate(record, digest, all), size).await? {
                    Some(Body::Stream(body)) => {
                        return Ok(self.store.collect(body, MAX_SIZE).await?);
                    }
                    Some(Body::Held(bytes)) => bytes.to_vec(),
                    Some(Body::Empty | Body::Bytes(_)) | None => return Ok(None),
                }
            }
            None => return Ok(None),
        };
        Ok(Some(bytes))
    }

    /// Opens what a request selects of a blob; `None` where the bytes are not where the record says.
    async fn open_blob(
        &self,
        request: &Request<S::Body>,
        digest: &Digest,
        known: &Known,
        trace: &Trace<S::Bytes>,
    ) -> Result<Option<Response<Body<S>>>, Error> {
        let size = known.record.size();
        if request.method == http::Method::HEAD {
            if !known.seen.get() {
                let start = self.host.now();
                let found = self.store.head(&Key::blob(digest)).await?;
                trace.step("blob", Tier::Cold, self.host.now().since(start));
                known.seen.set(found.is_some_and(|meta| is_blob(&meta)));
            }
            return Ok(known.seen.get().then(|| whole(digest, size)));
        }
        let condition = text(&request.headers, header::IF_RANGE);
        let range = text(&request.headers, header::RANGE)
            .filter(|_| condition.is_none_or(|condition| condition == format!("\"{digest}\"")));
        let ranges = match Selection::of(range, size) {
            Selection::All => None,
            Selection::Ranges(ranges) => Some(ranges),
            Selection::Unsatisfiable => {
                let error = Error::new(
                    Code::SizeInvalid,
                    format!("range outside of the blob's {size} bytes"),
                )
                .with_status(StatusCode::RANGE_NOT_SATISFIABLE)
                .with_header(header::CONTENT_RANGE, value(&format!("bytes */{size}")));
                return Err(error);
            }
        };
        let Some(source) = self.source(digest, known, trace).await? else {
            return Ok(None);
        };
        let opened = match ranges.as_deref() {
            None => {
                let all = ByteRange::new(0, size.saturating_sub(1)).filter(|_| size > 0);
                let body = self.open(source.pieces(digest, all), size).await?;
                body.map(|body| (whole(digest, size), body))
            }
            Some([range]) => {
                let mut response = describe(respond(StatusCode::PARTIAL_CONTENT), digest);
                let headers = response.headers_mut();
                headers.insert(
                    header::CONTENT_RANGE,
                    value(&format!("bytes {range}/{size}")),
                );
                headers.insert(header::CONTENT_LENGTH, HeaderValue::from(range.length()));
                let body = self
                    .open(source.pieces(digest, Some(*range)), range.length())
                    .await?;
                body.map(|body| (response, body))
            }
            Some(ranges) => self.open_ranges(digest, &source, size, ranges).await?,
        };
        Ok(opened.map(|(mut response, body)| {
            known.seen.set(true);
            *response.body_mut() = body;
            response
        }))
    }

    /// Where a blob's bytes come from: the nearest tier for those that are held in memory, else the cold one, whose streams
    /// pass by. `None` where the bytes are not where the record says.
    async fn source<'a>(
        &self,
        digest: &Digest,
        known: &'a Known,
        trace: &Trace<S::Bytes>,
    ) -> Result<Option<Source<'a, S::Bytes>>, Error> {
        let size = known.record.size();
        if !self.tiers.policy().holds_blob(size) {
            trace.step("blob", Tier::Cold, Duration::ZERO);
            self.metrics.hit(Tier::Cold, Kind::Blob);
            return Ok(Some(Source::Record(&known.record)));
        }
        let cold = async || {
            let all = ByteRange::new(0, size.saturating_sub(1)).filter(|_| size > 0);
            let body = self.open(locate(&known.record, digest, all), size).await?;
            let bytes = match body {
                None => return Ok(Found::Absent),
                Some(Body::Stream(body)) => self.store.hold(body, size).await?,
                Some(Body::Held(bytes)) => bytes,
                Some(Body::Empty | Body::Bytes(_)) => S::Bytes::copy_from(b""),
            };
            let media_type = BLOB_TYPE.to_owned();
            Ok(Found::Content(Rc::new(Content { media_type, bytes })))
        };
        match self.tiers.read(Wanted::Blob(digest), trace, cold).await? {
            Found::Content(content) => Ok(Some(Source::Held(content))),
            Found::Absent | Found::Link(_) => Ok(None),
        }
    }

    /// Opens several ranges as `multipart/byteranges` (RFC 9110, section 14.6).
    async fn open_ranges(
        &self,
        digest: &Digest,
        source: &Source<'_, S::Bytes>,
        size: u64,
        ranges: &[ByteRange],
    ) -> Result<Option<(Response<Body<S>>, Body<S>)>, Error> {
        let boundary = self.nonce();
        let mut pieces = Vec::new();
        let mut length = 0;
        for range in ranges {
            let head = format!(
                "\r\n--{boundary}\r\ncontent-type: {BLOB_TYPE}\r\ncontent-range: bytes {range}/{size}\r\n\r\n"
            );
            length += head.len() as u64 + range.length();
            pieces.push(Piece::Bytes(head.into_bytes()));
            pieces.extend(source.pieces(digest, Some(*range)));
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
        Ok(Some((response, body)))
    }

    /// Opens pieces as one stream. The first object is opened now, so that one that is gone is noticed before the
    /// response begins; `None` says so.
    pub(super) async fn open(
        &self,
        mut pieces: Vec<Piece<S::Body, S::Bytes>>,
        length: u64,
    ) -> Result<Option<Body<S>>, Error> {
        for piece in &mut pieces {
            if let Piece::Object(key, range) = piece {
                let key = Key::parse(key);
                let found = match self.store.get(&key, *range).await {
                    Ok(found) => found,
                    // What stands for bytes is shorter than they are: the range may not be in it.
                    Err(error) if range.is_some() => match self.store.head(&key).await? {
                        Some(meta) if stands_for_bytes(&meta) => return Ok(None),
                        Some(_) | None => return Err(error.into()),
                    },
                    Err(error) => return Err(error.into()),
                };
                let Some(object) = found else {
                    return Ok(None);
                };
                if stands_for_bytes(&object.meta) {
                    // Swept and pushed again by PATCH since the link was written, or set aside: these are not the blob's bytes.
                    self.store.discard(object.body).await;
                    return Ok(None);
                }
                *piece = Piece::Stream(object.body);
                break;
            }
        }
        if pieces.len() == 1 {
            match pieces.pop() {
                Some(Piece::Stream(body)) => return Ok(Some(Body::Stream(body))),
                Some(Piece::Held(bytes)) => return Ok(Some(Body::Held(bytes))),
                Some(other) => pieces.push(other),
                None => {}
            }
        }
        Ok(Some(if pieces.is_empty() {
            Body::Empty
        } else {
            Body::Stream(self.store.concatenate(pieces, length))
        }))
    }
}

/// Where a blob's bytes come from.
enum Source<'a, Y> {
    /// The platform's memory.
    Held(Rc<Content<Y>>),
    /// The cold tier.
    Record(&'a Record),
}

impl<Y: Bytes> Source<'_, Y> {
    /// What has a range of the bytes; none for a blob of no bytes.
    fn pieces<B>(&self, digest: &Digest, range: Option<ByteRange>) -> Vec<Piece<B, Y>> {
        match (self, range) {
            (Self::Record(record), range) => locate(record, digest, range),
            (Self::Held(content), Some(range)) => {
                let end = range.first() + range.length();
                vec![Piece::Held(content.bytes.slice(range.first(), end))]
            }
            (Self::Held(_), None) => Vec::new(),
        }
    }
}

/// The objects, and ranges of them, that have a range of a blob's bytes.
pub(super) fn locate<B, Y>(
    record: &Record,
    digest: &Digest,
    range: Option<ByteRange>,
) -> Vec<Piece<B, Y>> {
    match record {
        Record::Bytes { size } => {
            let range = range.filter(|range| range.length() < *size);
            vec![Piece::Object(Key::blob(digest).to_string(), range)]
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
                        Key::extent(name).to_string(),
                        within.filter(|within| within.length() < *size),
                    ));
                }
                offset += size;
            }
            pieces
        }
    }
}

/// Whether an object stands for bytes and is not them: a record of extents, or a note that they were set aside.
fn stands_for_bytes(meta: &Meta) -> bool {
    matches!(
        serde_json::from_str(&meta.metadata),
        Ok(BlobKind::Extents { .. } | BlobKind::Aside)
    )
}

const BLOB_TYPE: &str = "application/octet-stream";

pub(super) fn whole<S: Streams>(digest: &Digest, size: u64) -> Response<Body<S>> {
    let mut response = describe(respond(StatusCode::OK), digest);
    response
        .headers_mut()
        .insert(header::CONTENT_LENGTH, HeaderValue::from(size));
    response
}

pub(super) fn describe<S: Streams>(
    mut response: Response<Body<S>>,
    digest: &Digest,
) -> Response<Body<S>> {
    let headers = response.headers_mut();
    describe_content(headers, digest, BLOB_TYPE);
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CACHE_CONTROL, IMMUTABLE);
    response
}
