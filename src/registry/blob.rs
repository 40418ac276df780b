//! Stored blobs: end-2, end-10.

use std::{cell::Cell, rc::Rc, time::Duration};

use http::{HeaderValue, header};
use serde_json::json as detail;

use crate::{
    digest::Digest,
    error::{Code, Error},
    host::{Clock as _, Random as _},
    ledger::Ledger,
    metrics::Metrics,
    name::Name,
    platform::Platform,
    range::ByteRange,
    registry::{
        body::{Body, BodyOf},
        grant::{Grants, right::Readable},
        headers::etag,
        parts::Parts,
        pull::{Multipart, Pull, Pulled, Selected},
    },
    store::{
        Bytes, Meta, Piece, StoreError, Streams as _,
        bucket::{Bucket, StreamPart},
        document::{BlobKind, Reason, Record, from_json},
        key::{Key, Prefix},
        near::NearWrites,
        tiers::{KnownLink, Tiers, Wanted},
        trace::Trace,
        warm::TierContent,
    },
    tier::{Kind, Tier},
    upload::Extent,
};

mod link;
mod near;

/// Stored blobs: reading and deleting them.
pub(super) struct Blobs<P: Platform> {
    store: Bucket<P::Cold>,
    tiers: Rc<Tiers<P>>,
    host: P::Host,
    metrics: Rc<Metrics>,
    ledger: Ledger,
    grants: Rc<Grants<P>>,
    near: Rc<NearWrites>,
}

impl<P: Platform> Clone for Blobs<P> {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            tiers: self.tiers.clone(),
            host: self.host.clone(),
            metrics: self.metrics.clone(),
            ledger: self.ledger.clone(),
            grants: self.grants.clone(),
            near: self.near.clone(),
        }
    }
}

impl<P: Platform> Blobs<P> {
    pub(super) fn new(parts: &Parts<P>, grants: Rc<Grants<P>>) -> Self {
        Self {
            store: parts.store.clone(),
            tiers: parts.tiers.clone(),
            host: parts.host.clone(),
            metrics: parts.metrics.clone(),
            ledger: parts.ledger.clone(),
            grants,
            near: Rc::default(),
        }
    }

    /// Pulls a blob (end-2); `None` if this repository may not read it.
    pub(super) async fn pull(
        &self,
        pull: &Pull<'_>,
        name: &Name,
        digest: &Digest,
        trace: &Trace<P::Bytes>,
    ) -> Result<Option<Pulled<P>>, Error> {
        let Some(known) = self.known(name, digest, trace).await? else {
            return Ok(None);
        };
        if let Some(pulled) = self.pull_known(pull, digest, &known, trace).await? {
            return Ok(Some(pulled));
        }
        let Some(known) = self.known_anew(name, digest, &known).await? else {
            return Ok(None);
        };
        let opened = self.open_blob(pull, digest, &known, trace).await?;
        opened.map(Some).ok_or_else(|| {
            let found = format!("the bytes of {digest} are missing; push it again");
            Error::unavailable(found, Duration::from_secs(60))
        })
    }

    /// Pulls a blob that this repository may read;
    /// `None` if its bytes are not where the record says.
    pub(super) async fn pull_known(
        &self,
        pull: &Pull<'_>,
        digest: &Digest,
        known: &KnownLink,
        trace: &Trace<P::Bytes>,
    ) -> Result<Option<Pulled<P>>, Error> {
        if pull.has(&etag(digest)) {
            // A client that has the bytes and may read them needs no look at the blob.
            return Ok(Some(Pulled {
                selected: Selected::Nothing,
                body: Body::Empty,
            }));
        }
        self.open_blob(pull, digest, known, trace).await
    }

    /// end-10: Blob DELETE of the removal protocol.
    /// A blob that a manifest of this repository refers to stays; other repositories keep theirs.
    pub(super) async fn delete(&self, name: &Name, digest: &Digest) -> Result<(), Error> {
        let mut uploads = Vec::new();
        for (key, meta) in self
            .store
            .list_all(Prefix::Grants(digest, name))
            .await?
            .objects
        {
            match from_json(&key, &meta.metadata)? {
                Reason::Upload | Reason::Claim | Reason::Filled => uploads.push(key),
                Reason::Manifest { digest: manifest } | Reason::Mirrored { digest: manifest } => {
                    if self
                        .store
                        .head(&Key::manifest(name, &manifest))
                        .await?
                        .is_some()
                    {
                        let found = format!(
                            "manifest {manifest} in repository {name} refers to it; delete the manifest first"
                        );
                        return Err(Error::new(Code::Unsupported, found)
                            .with_header(header::ALLOW, HeaderValue::from_static("GET, HEAD"))
                            .with_detail(detail!({ "digest": digest.to_string(), "manifest": manifest.to_string() })));
                    }
                }
            }
        }
        if uploads.is_empty() {
            return Err(Error::blob_unknown(name, digest));
        }
        for uploads in uploads.chunks(1_000) {
            self.store.delete(uploads).await?;
        }
        self.store.delete(&[Key::link(digest, name)]).await?;
        self.tiers.withdraw(Wanted::Link(name, digest)).await;
        Ok(())
    }

    /// The place of a blob's bytes after a link was stale. The blob itself says where they are, and
    /// the store whether the right that came with the cached link is still there.
    ///
    /// The first request of an isolate that finds the link stale writes it anew: the store takes
    /// one write a second of a key.
    async fn known_anew(
        &self,
        name: &Name,
        digest: &Digest,
        stale: &KnownLink,
    ) -> Result<Option<KnownLink>, Error> {
        let right = self.grants.readable(name, digest).await?;
        let Some(Readable { right, .. }) = right else {
            self.tiers.changed(Wanted::Link(name, digest));
            return Ok(None);
        };
        let Some(fresh) = self.grants.record(digest).await? else {
            return Ok(None);
        };
        if !stale.is_replaced.replace(true) {
            self.grants.link(name, digest, &fresh, right).await;
        }
        Ok(Some(KnownLink::new(fresh, right, self.host.now())))
    }

    /// The record of a blob and the right to read it, if this repository has one.
    ///
    /// The sweep may have joined several extents since the link was written, and may delete them
    /// soon. So the request that reads a link of several for all others compares it with the blob,
    /// and the extents stay for the grace period from then on.
    pub(super) async fn known(
        &self,
        name: &Name,
        digest: &Digest,
        trace: &Trace<P::Bytes>,
    ) -> Result<Option<Rc<KnownLink>>, Error> {
        let cold = async || self.stored_link(name, digest).await;
        let is_right = |known: &Rc<KnownLink>| self.grants.is_right(name, known.right);
        let mut found = self.tiers.link(name, digest, trace, cold).await?;
        if found.as_ref().is_some_and(|known| !is_right(known)) {
            // The link came with a warm manifest, written by an older version or before the name
            // was mirrored: ask the cold tier.
            self.tiers.changed(Wanted::Link(name, digest));
            found = self.tiers.link(name, digest, trace, cold).await?;
        }
        Ok(found.filter(is_right))
    }

    /// Opens the bytes that a request selects of a blob;
    /// `None` if they are not where the record says.
    async fn open_blob(
        &self,
        pull: &Pull<'_>,
        digest: &Digest,
        known: &KnownLink,
        trace: &Trace<P::Bytes>,
    ) -> Result<Option<Pulled<P>>, Error> {
        let size = known.record.size();
        if pull.is_head {
            let sees = self.sees(digest, known, trace).await?;
            return Ok(sees.then_some(Pulled {
                selected: Selected::All(size),
                body: Body::Empty,
            }));
        }
        let ranges = pull.select("blob", &etag(digest), size)?;
        let one = match ranges.as_deref() {
            None => Some(Selected::All(size)),
            Some([range]) => Some(Selected::Range(*range, size)),
            Some(_) => None,
        };
        if let Some(selected) = one.filter(|_| self.may_be_near(pull.origin, size)) {
            let near = Box::pin(self.open_near(pull.origin, digest, known, &selected, trace));
            if let Some(body) = near.await? {
                return Ok(Some(Pulled { selected, body }));
            }
        }
        let Some(source) = self.source(digest, known, trace).await? else {
            return Ok(None);
        };
        let (selected, parts, length) = match ranges.as_deref() {
            None => {
                let all = ByteRange::all(size);
                (Selected::All(size), source.pieces(digest, all), size)
            }
            Some([range]) => {
                let parts = source.pieces(digest, Some(*range));
                (Selected::Range(*range, size), parts, range.length())
            }
            Some(ranges) => {
                let mut body = Multipart::new(self.host.nonce());
                for range in ranges {
                    let parts = source.pieces(digest, Some(*range));
                    body.push(BLOB_TYPE, *range, size, parts);
                }
                let (parts, length, boundary) = body.end();
                (Selected::Ranges(boundary, length), parts, length)
            }
        };
        let body = self.open(parts, length).await?;
        Ok(body.map(|body| {
            known.seen.set(true);
            Pulled { selected, body }
        }))
    }

    /// The source of a blob's bytes.
    /// Small blobs that are held in memory come from the nearest tier, others are streamed from the
    /// cold tier, and so are small ones for which no memory is free.
    /// `None` if the bytes are not where the record says.
    pub(super) async fn source<'a>(
        &self,
        digest: &Digest,
        known: &'a KnownLink,
        trace: &Trace<P::Bytes>,
    ) -> Result<Option<BlobSource<'a, P::Bytes>>, Error> {
        let size = known.record.size();
        let streamed = || {
            trace.step("blob", Tier::Cold, Duration::ZERO);
            self.metrics.hit(Tier::Cold, Kind::Blob);
            Ok(Some(BlobSource::Record(&known.record)))
        };
        if !self.tiers.policy().holds_blob(size) {
            return streamed();
        }
        let is_full = Cell::new(false);
        let cold = async || {
            let lease = (size > Ledger::FREE)
                .then(|| self.ledger.take_for_cache(size, self.host.now()))
                .transpose();
            is_full.set(lease.is_err());
            let _lease = lease?;
            let all = ByteRange::all(size);
            let pieces = locate(&known.record, digest, all);
            let body = self.open_held(pieces, size, trace).await?;
            let bytes = match body {
                None => return Ok(None),
                Some(Body::Stream(body)) => self.host.hold(body, size).await?,
                Some(Body::Held(bytes)) => bytes,
                Some(Body::Empty | Body::Bytes(_)) => P::Bytes::copy_from(b""),
            };
            let media_type = BLOB_TYPE.to_owned();
            Ok(Some(TierContent { media_type, bytes }))
        };
        let content = self.tiers.content(Wanted::Blob(digest), trace, cold).await;
        if is_full.get() {
            return streamed();
        }
        Ok(content?.map(BlobSource::Held))
    }

    /// Opens pieces whose bytes a tier will hold. If the caller drops it, because the warm tier has
    /// answered first, it goes on after the reply, and its stream is discarded.
    pub(super) async fn open_held(
        &self,
        pieces: Vec<StreamPart<P::Body, P::Bytes>>,
        length: u64,
        trace: &Trace<P::Bytes>,
    ) -> Result<Option<BodyOf<P>>, Error> {
        let (blobs, host) = (self.clone(), self.host.clone());
        let open = async move { blobs.open(pieces, length).await };
        let discard = async move |opened: Result<Option<BodyOf<P>>, _>| {
            if let Ok(Some(Body::Stream(body))) = opened {
                host.discard(body).await;
            }
        };
        trace.after.read_to_end(&self.host, open, discard).await
    }

    /// Opens pieces as one stream.
    /// The first object is opened now, so that a missing object is noticed before the response
    /// begins; then the result is `None`.
    pub(super) async fn open(
        &self,
        mut pieces: Vec<StreamPart<P::Body, P::Bytes>>,
        length: u64,
    ) -> Result<Option<BodyOf<P>>, Error> {
        for piece in &mut pieces {
            if let StreamPart::Object(key, range) = piece {
                let found = match self.store.get(key, *range).await {
                    Ok(found) => found,
                    // A record or a note is shorter than the bytes that it stands for: the range
                    // may lie past its end.
                    Err(error) if range.is_some() => match self.store.head(key).await? {
                        Some(meta) if stands_for_bytes(&meta) => return Ok(None),
                        Some(_) | None => return Err(error.into()),
                    },
                    Err(error) => return Err(error.into()),
                };
                let Some(object) = found else {
                    return Ok(None);
                };
                if stands_for_bytes(&object.meta) {
                    // The blob was swept and pushed again by PATCH since the link was written, or
                    // was quarantined: these are not its bytes.
                    self.host.discard(object.body).await;
                    return Ok(None);
                }
                *piece = StreamPart::Piece(Piece::Stream(object.body));
                break;
            }
        }
        if pieces.len() == 1 {
            match pieces.pop() {
                Some(StreamPart::Piece(Piece::Stream(body))) => {
                    return Ok(Some(Body::Stream(body)));
                }
                Some(StreamPart::Piece(Piece::Held(bytes))) => return Ok(Some(Body::Held(bytes))),
                Some(other) => pieces.push(other),
                None => {}
            }
        }
        Ok(Some(match (pieces.is_empty(), length) {
            (true, 0) => Body::Empty,
            // A response with a Content-Length must have its bytes.
            (true, _) => {
                let problem = format!("no extent has the {length} bytes of the body");
                return Err(StoreError::Failed(problem).into());
            }
            (false, _) => Body::Stream(self.store.concatenate(&self.host, pieces, length)),
        }))
    }
}

/// The source of a blob's bytes.
pub(super) enum BlobSource<'a, Y> {
    /// The platform's memory.
    Held(Rc<TierContent<Y>>),
    /// The cold tier.
    Record(&'a Record),
}

impl<Y: Bytes> BlobSource<'_, Y> {
    /// The pieces that cover a range of the bytes; none for an empty blob.
    fn pieces<B>(&self, digest: &Digest, range: Option<ByteRange>) -> Vec<StreamPart<B, Y>> {
        match (self, range) {
            (Self::Record(record), range) => locate(record, digest, range),
            (Self::Held(content), Some(range)) => {
                let end = range.first() + range.length();
                vec![StreamPart::Piece(Piece::Held(
                    content.bytes.slice(range.first(), end),
                ))]
            }
            (Self::Held(_), None) => Vec::new(),
        }
    }
}

/// The objects, and ranges of them, that cover a range of a blob's bytes.
pub(super) fn locate<B, Y>(
    record: &Record,
    digest: &Digest,
    range: Option<ByteRange>,
) -> Vec<StreamPart<B, Y>> {
    match record {
        Record::Bytes { size } => {
            let range = range.filter(|range| range.length() < *size);
            vec![StreamPart::Object(Key::blob(digest), range)]
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
                    pieces.push(StreamPart::Object(
                        Key::extent(name),
                        within.filter(|within| within.length() < *size),
                    ));
                }
                offset += size;
            }
            pieces
        }
    }
}

/// Whether an object is not the blob's bytes, but a record of extents or a note that they were set
/// aside.
fn stands_for_bytes(meta: &Meta) -> bool {
    matches!(
        serde_json::from_str(&meta.metadata),
        Ok(BlobKind::Extents { .. } | BlobKind::Aside)
    )
}

/// The media type of all blobs.
pub(super) const BLOB_TYPE: &str = "application/octet-stream";
