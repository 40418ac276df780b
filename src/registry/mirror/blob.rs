//! Blobs of upstreams: forwarded to clients, and fetched for internal reads.

use std::{rc::Rc, time::Duration};

use futures_util::{
    StreamExt as _,
    future::{LocalBoxFuture, join},
    stream,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use crate::{
    digest::Digest,
    error::{Code, Error},
    host::Clock as _,
    ledger::MemoryKind,
    manifest::MAX_SIZE,
    name::Name,
    platform::Platform,
    range::ByteRange,
    registry::{
        blob::{BlobSource as Stored, locate},
        body::Body,
        failure::log_failure,
        mirror::{
            Mirror,
            client::Question,
            error::UpstreamError,
            fill::{FIRST_LOOK, FillBytes, FillReader, LAST_LOOK, Role},
        },
        pull::{Pull, Pulled, Selected},
    },
    store::{
        Bytes as _, Made, Piece, StoreError, Streams as _, key::Key, tiers::KnownLink, trace::Trace,
    },
    tier::{Kind, Tier},
    upstream::{Mirrored, Ranges},
};

/// Whether a reply has several ranges (RFC 9110, section 14.6). A value with a comma is refused:
/// browsers use the last type of a list.
fn is_multipart(media_type: &HeaderValue) -> bool {
    let text = media_type.to_str().unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("multipart/byteranges") && !text.contains(',')
}

impl<P: Platform> Mirror<P> {
    /// Pulls a blob that is not stored for this repository (end-2).
    pub(in crate::registry) async fn pull(
        self: &Rc<Self>,
        pull: &Pull<'_>,
        mirrored: &Mirrored,
        digest: &Digest,
        trace: &Trace<P::Bytes>,
    ) -> Result<Pulled<P>, Error> {
        if pull.is_head {
            return self.look_at_blob(mirrored, digest, trace).await;
        }
        let sent = match pull.range {
            Some(range) => self.pass_range(mirrored, digest, range, trace).await?,
            None => self.forward(mirrored, digest, trace).await?,
        };
        if let Some(pulled) = sent {
            return Ok(pulled);
        }
        let name = &mirrored.name;
        let unknown = || Error::blob_unknown(name, digest);
        let known = self.known_or_fetched(name, digest, trace).await?;
        let known = known.ok_or_else(unknown)?;
        let pulled = self.blobs.pull_known(pull, digest, &known, trace).await?;
        pulled.ok_or_else(unknown)
    }

    /// The record of a blob. A mirrored blob that is not stored yet is fetched from the upstream.
    pub(in crate::registry) async fn known_or_fetched(
        self: &Rc<Self>,
        name: &Name,
        digest: &Digest,
        trace: &Trace<P::Bytes>,
    ) -> Result<Option<Rc<KnownLink>>, Error> {
        match (
            self.blobs.known(name, digest, trace).await?,
            self.settings.upstreams.mirrored(name),
        ) {
            (None, Some(mirrored)) => self.fetch(&mirrored, digest, trace).await.map(Some),
            (known, _) => Ok(known),
        }
    }

    /// Reads a small blob that this repository may read; `None` if it is missing or large.
    pub(in crate::registry) async fn read_blob(
        self: &Rc<Self>,
        name: &Name,
        digest: &Digest,
        trace: &Trace<P::Bytes>,
    ) -> Result<Option<Vec<u8>>, Error> {
        let Some(known) = self.known_or_fetched(name, digest, trace).await? else {
            return Ok(None);
        };
        if known.record.size() > MAX_SIZE {
            return Ok(None);
        }
        let size = known.record.size();
        let lease = self
            .ledger
            .wait_if_large(&self.host, MemoryKind::Wasm, size);
        let _lease = lease.await?;
        let own = Trace::default();
        let bytes = match self.blobs.source(digest, &known, &own).await? {
            Some(Stored::Held(content)) => content.bytes.to_vec(),
            Some(Stored::Record(record)) => {
                let size = record.size();
                let all = ByteRange::all(size);
                match self.blobs.open(locate(record, digest, all), size).await? {
                    Some(Body::Stream(body)) => {
                        return Ok(self.host.collect(body, MAX_SIZE).await?);
                    }
                    Some(Body::Held(bytes)) => bytes.to_vec(),
                    Some(Body::Empty | Body::Bytes(_)) | None => return Ok(None),
                }
            }
            None => return Ok(None),
        };
        Ok(Some(bytes))
    }

    /// Answers a `HEAD` of a blob that is not stored, by the upstream's reply.
    async fn look_at_blob(
        &self,
        mirrored: &Mirrored,
        digest: &Digest,
        trace: &Trace<P::Bytes>,
    ) -> Result<Pulled<P>, Error> {
        let start = self.host.now();
        let size = match self.size_of_blob(mirrored, digest).await {
            Ok(size) => size,
            Err(error) => return Err(self.no_blob(mirrored, digest, &error).await),
        };
        trace.step("blob", Tier::Upstream, self.host.now().since(start));
        match size {
            Some(size) => Ok(Pulled {
                selected: Selected::All(size),
                body: Body::Empty,
            }),
            None => {
                let found = format!("blob {digest}: the upstream sent no content-length");
                let error = UpstreamError::Wrong(found);
                Err(self.no_blob(mirrored, digest, &error).await)
            }
        }
    }

    /// Forwards a blob that is not stored yet; `None` if it is by now.
    /// The upstream is asked once for all concurrent requests.
    async fn forward(
        self: &Rc<Self>,
        mirrored: &Mirrored,
        digest: &Digest,
        trace: &Trace<P::Bytes>,
    ) -> Result<Option<Pulled<P>>, Error> {
        let start = self.host.now();
        let key = Key::link(digest, &mirrored.name).to_string();
        let reader = match self.fills.join(&key, start) {
            Role::Leads(reader) => {
                match self.begin_fill(mirrored, digest, &key, &reader.fill).await {
                    Ok(Some(work)) => trace.after.work(work),
                    Ok(None) => {}
                    Err(error) => return Err(self.no_blob(mirrored, digest, &error).await),
                }
                reader
            }
            Role::Follows(reader) => {
                self.metrics.joined(Kind::Blob);
                reader
            }
        };
        let size = match reader.fill.wait(&self.host).await {
            Ok(size) => size,
            Err(error) => return Err(self.no_blob(mirrored, digest, &error).await),
        };
        trace.step("blob", Tier::Upstream, self.host.now().since(start));
        let Some(size) = size else { return Ok(None) };
        let pieces = vec![Piece::Made(self.read_fill(reader, size))];
        Ok(Some(Pulled {
            selected: Selected::All(size),
            body: Body::Stream(self.host.concatenate(pieces, size)),
        }))
    }

    /// Forwards a range of a blob from the upstream; `None` if the whole blob must be stored first.
    /// A range can't be verified, so it is never stored.
    async fn pass_range(
        self: &Rc<Self>,
        mirrored: &Mirrored,
        digest: &Digest,
        range: &HeaderValue,
        trace: &Trace<P::Bytes>,
    ) -> Result<Option<Pulled<P>>, Error> {
        let start = self.host.now();
        if mirrored.upstream.ranges == Ranges::Store {
            return Ok(None);
        }
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, range.clone());
        let question = Question {
            method: Method::GET,
            path: &format!("/blobs/{digest}"),
            headers,
        };
        let mut reply = match self.client.ask(mirrored, &question).await {
            Ok(reply) => reply,
            // The upstream may reject the range: evaluate it on the stored blob.
            Err(UpstreamError::Failed(_)) => return Ok(None),
            Err(error) => return Err(self.no_blob(mirrored, digest, &error).await),
        };
        let Some(body) = reply.body.take() else {
            return Ok(None);
        };
        if reply.status != StatusCode::PARTIAL_CONTENT {
            // The upstream has no ranges: cut the range from the stored blob.
            self.host.discard(body).await;
            return Ok(None);
        }
        if mirrored.upstream.ranges == Ranges::Both {
            trace.after.work(self.fill_behind(mirrored, digest));
        }
        trace.step("blob", Tier::Upstream, self.host.now().since(start));
        let mut headers = HeaderMap::new();
        for name in [header::CONTENT_RANGE, header::CONTENT_LENGTH] {
            if let Some(value) = reply.headers.get(&name) {
                headers.insert(name, value.clone());
            }
        }
        // This type carries the boundary of several ranges. Any other type would be an unverified
        // claim about the bytes.
        let media_type = reply.headers.get(header::CONTENT_TYPE);
        if let Some(media_type) = media_type.filter(|media_type| is_multipart(media_type)) {
            headers.insert(header::CONTENT_TYPE, media_type.clone());
        }
        Ok(Some(Pulled {
            selected: Selected::ByUpstream(headers),
            body: Body::Stream(body),
        }))
    }

    /// A blob that is being filled, as pieces of a reply.
    fn read_fill(&self, reader: FillReader<P::Bytes>, size: u64) -> Made<P::Body, P::Bytes> {
        let (host, store) = (self.host.clone(), self.store.clone());
        let pieces = stream::try_unfold((reader, 0), move |(reader, at)| {
            let (host, store) = (host.clone(), store.clone());
            async move {
                if at >= size {
                    return Ok(None);
                }
                let mut pause = FIRST_LOOK;
                loop {
                    match reader.fill.next(at, reader.keeps_pace, host.now()) {
                        FillBytes::Held(bytes) => {
                            let end = at + bytes.len();
                            return Ok(Some((Piece::Held(bytes), (reader, end))));
                        }
                        FillBytes::Stored(key, range, end) => {
                            return Ok(Some((store.piece(&key, range), (reader, end))));
                        }
                        FillBytes::Nothing => {
                            host.sleep(pause).await;
                            pause = (pause * 2).min(LAST_LOOK);
                        }
                        FillBytes::Lost(error) => {
                            return Err(StoreError::Failed(error.to_string()));
                        }
                    }
                }
            }
        });
        Made(pieces.boxed_local())
    }

    /// Stores a blob in the background, unless another request fills it already.
    fn fill_behind(
        self: &Rc<Self>,
        mirrored: &Mirrored,
        digest: &Digest,
    ) -> LocalBoxFuture<'static, ()> {
        let (mirror, mirrored, digest) = (self.clone(), mirrored.clone(), digest.clone());
        Box::pin(async move {
            let key = Key::link(&digest, &mirrored.name).to_string();
            let fills = &mirror.fills;
            if let Role::Leads(reader) = fills.join(&key, mirror.host.now()) {
                // The reader stands in for a client: a fill without readers is given up.
                let begun = mirror.begin_fill(&mirrored, &digest, &key, &reader.fill);
                if let Ok(Some(work)) = begun.await {
                    work.await;
                }
            }
        })
    }

    /// Fetches a blob, and returns its record once it is stored.
    async fn fetch(
        self: &Rc<Self>,
        mirrored: &Mirrored,
        digest: &Digest,
        trace: &Trace<P::Bytes>,
    ) -> Result<Rc<KnownLink>, Error> {
        let own = Trace::default();
        if let Some(pulled) = self.forward(mirrored, digest, &own).await? {
            let body = match pulled.body {
                Body::Stream(body) => body,
                Body::Empty | Body::Bytes(_) | Body::Held(_) => {
                    return Err(Error::blob_unknown(&mirrored.name, digest));
                }
            };
            // Read it to its end, and run the fill concurrently if this request leads it.
            let reading = self.host.hash(body, digest.algorithm());
            let mut rest = own.after.into_after();
            let (read, ()) = join(reading, rest.take_work()).await;
            read?;
        }
        trace.step("blob", Tier::Upstream, Duration::ZERO);
        let known = self.blobs.known(&mirrored.name, digest, trace).await?;
        known.ok_or_else(|| Error::blob_unknown(&mirrored.name, digest))
    }

    /// The error for a client whose blob could not be fetched.
    /// If the repository could read the blob in an older version, or before it was mirrored, the
    /// message says why the upstream was asked.
    async fn no_blob(&self, mirrored: &Mirrored, digest: &Digest, error: &UpstreamError) -> Error {
        let answer = error.answer(&mirrored.upstream, Code::BlobUnknown);
        if !error.is_outage() {
            return answer;
        }
        match self.grants.has_old_hold(&mirrored.name, digest).await {
            Ok(true) => answer.because(&format!(
                "blob {digest} has not been verified for repository {}, so it must be fetched from the upstream again",
                mirrored.name
            )),
            Ok(false) => answer,
            Err(error) => {
                log_failure(&self.host, "grants not listed", &error);
                answer
            }
        }
    }
}
