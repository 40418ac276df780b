//! Blobs of upstreams: passed on to clients, and fetched for reads of our own.

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
    ledger::Memory,
    manifest::MAX_SIZE,
    name::Name,
    platform::Platform,
    range::ByteRange,
    registry::{
        blob::{Source as Stored, describe, locate, whole},
        mirror::{
            Mirror,
            client::Question,
            error::UpstreamError,
            fill::{FIRST_LOOK, LAST_LOOK, Next, Part, Reader},
        },
        reply::{Answer, Body, ResponseOf, log_failure, respond},
        request::Request,
    },
    store::{
        Bytes as _, Made, Piece, StoreError, Streams as _, key::Key, tiers::Known, trace::Trace,
    },
    tier::{Kind, Tier},
    upstream::{Mirrored, Ranges},
};

/// Whether a reply has several ranges (RFC 9110, section 14.6). A browser would read a list of types by its last one.
fn is_multipart(media_type: &HeaderValue) -> bool {
    let text = media_type.to_str().unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("multipart/byteranges") && !text.contains(',')
}

impl<P: Platform> Mirror<P> {
    /// Pulls a blob that is not stored for this repository (end-2).
    pub(in crate::registry) async fn pull(
        self: &Rc<Self>,
        request: &Request<P::Body>,
        mirrored: &Mirrored,
        digest: &Digest,
        trace: &Trace<P::Bytes>,
    ) -> Answer<P> {
        if request.method == Method::HEAD {
            return self.look_at_blob(mirrored, digest, trace).await;
        }
        let sent = match request.headers.get(header::RANGE) {
            Some(range) => self.pass_range(mirrored, digest, range, trace).await?,
            None => self.send_on(mirrored, digest, trace).await?,
        };
        if let Some(response) = sent {
            return Ok(response);
        }
        let name = &mirrored.name;
        let unknown = || Error::blob_unknown(name, digest);
        let known = self.known_or_obtained(name, digest, trace).await?;
        let known = known.ok_or_else(unknown)?;
        let response = self.blobs.respond(request, digest, &known, trace).await?;
        response.ok_or_else(unknown)
    }

    /// What is known of a blob, which is asked of the upstream where it is mirrored and not there yet.
    pub(in crate::registry) async fn known_or_obtained(
        self: &Rc<Self>,
        name: &Name,
        digest: &Digest,
        trace: &Trace<P::Bytes>,
    ) -> Result<Option<Rc<Known>>, Error> {
        match (
            self.blobs.known(name, digest, trace).await?,
            self.settings.upstreams.mirrored(name),
        ) {
            (None, Some(mirrored)) => self.obtain(&mirrored, digest, trace).await.map(Some),
            (known, _) => Ok(known),
        }
    }

    /// Reads a small blob that this repository may read; `None` where there is none, or a large one.
    pub(in crate::registry) async fn read_blob(
        self: &Rc<Self>,
        name: &Name,
        digest: &Digest,
        trace: &Trace<P::Bytes>,
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
        let bytes = match self.blobs.source(digest, &known, &own).await? {
            Some(Stored::Held(content)) => content.bytes.to_vec(),
            Some(Stored::Record(record)) => {
                let size = record.size();
                let all = ByteRange::new(0, size.saturating_sub(1)).filter(|_| size > 0);
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

    /// Says what a blob is that is not stored yet, by what the upstream says of it.
    async fn look_at_blob(
        &self,
        mirrored: &Mirrored,
        digest: &Digest,
        trace: &Trace<P::Bytes>,
    ) -> Answer<P> {
        let start = self.host.now();
        let size = match self.size_of_blob(mirrored, digest).await {
            Ok(size) => size,
            Err(error) => return Err(self.no_blob(mirrored, digest, &error).await),
        };
        trace.step("blob", Tier::Upstream, self.host.now().since(start));
        match size {
            Some(size) => Ok(whole(digest, size)),
            None => {
                let found = format!("blob {digest}: the upstream sent no content-length");
                let error = UpstreamError::Wrong(found);
                Err(self.no_blob(mirrored, digest, &error).await)
            }
        }
    }

    /// Sends on a blob that is not stored yet; `None` where it now is. The upstream is asked once for all who want it at the same
    /// time.
    async fn send_on(
        self: &Rc<Self>,
        mirrored: &Mirrored,
        digest: &Digest,
        trace: &Trace<P::Bytes>,
    ) -> Result<Option<ResponseOf<P>>, Error> {
        let start = self.host.now();
        let key = Key::link(digest, &mirrored.name).to_string();
        let reader = match self.fills.join(&key, start) {
            Part::Leads(reader) => {
                match self.begin_fill(mirrored, digest, &key, &reader.fill).await {
                    Ok(Some(work)) => trace.after.work(work),
                    Ok(None) => {}
                    Err(error) => return Err(self.no_blob(mirrored, digest, &error).await),
                }
                reader
            }
            Part::Follows(reader) => {
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
        let pieces = self.read_fill(reader, size);
        let mut response = whole(digest, size);
        let pieces = vec![Piece::Made(pieces)];
        *response.body_mut() = Body::Stream(self.host.concatenate(pieces, size));
        Ok(Some(response))
    }

    /// Passes on what an upstream says of a part of a blob; `None` where all of it is to be stored first. Of a part nobody can say
    /// whether it is right, so it is stored nowhere.
    async fn pass_range(
        self: &Rc<Self>,
        mirrored: &Mirrored,
        digest: &Digest,
        range: &HeaderValue,
        trace: &Trace<P::Bytes>,
    ) -> Result<Option<ResponseOf<P>>, Error> {
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
            // It may be the range that it does not like: what that is of the whole is decided here.
            Err(UpstreamError::Failed(_)) => return Ok(None),
            Err(error) => return Err(self.no_blob(mirrored, digest, &error).await),
        };
        let Some(body) = reply.body.take() else {
            return Ok(None);
        };
        if reply.status != StatusCode::PARTIAL_CONTENT {
            // An upstream without ranges: the part is found in what is stored.
            self.host.discard(body).await;
            return Ok(None);
        }
        if mirrored.upstream.ranges == Ranges::Both {
            trace.after.work(self.fill_behind(mirrored, digest));
        }
        trace.step("blob", Tier::Upstream, self.host.now().since(start));
        let mut response = describe(respond(StatusCode::PARTIAL_CONTENT), digest);
        for name in [header::CONTENT_RANGE, header::CONTENT_LENGTH] {
            if let Some(value) = reply.headers.get(&name) {
                response.headers_mut().insert(name, value.clone());
            }
        }
        // Of several ranges it has the boundary. Any other type would be the upstream's word for anybody's bytes.
        let media_type = reply.headers.get(header::CONTENT_TYPE);
        if let Some(media_type) = media_type.filter(|media_type| is_multipart(media_type)) {
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, media_type.clone());
        }
        *response.body_mut() = Body::Stream(body);
        Ok(Some(response))
    }

    /// A blob that is being filled, as pieces of a reply.
    pub(super) fn read_fill(&self, reader: Reader<P::Bytes>, size: u64) -> Made<P::Body, P::Bytes> {
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
                        Next::Held(bytes) => {
                            let end = at + bytes.len();
                            return Ok(Some((Piece::Held(bytes), (reader, end))));
                        }
                        Next::Stored(key, range, end) => {
                            return Ok(Some((store.piece(&key, range), (reader, end))));
                        }
                        Next::Nothing => {
                            host.sleep(pause).await;
                            pause = (pause * 2).min(LAST_LOOK);
                        }
                        Next::Lost(error) => {
                            return Err(StoreError::Failed(error.to_string()));
                        }
                    }
                }
            }
        });
        Made(pieces.boxed_local())
    }

    /// Stores a blob that nobody waits for, if nobody else does.
    fn fill_behind(
        self: &Rc<Self>,
        mirrored: &Mirrored,
        digest: &Digest,
    ) -> LocalBoxFuture<'static, ()> {
        let (mirror, mirrored, digest) = (self.clone(), mirrored.clone(), digest.clone());
        Box::pin(async move {
            let key = Key::link(&digest, &mirrored.name).to_string();
            let fills = &mirror.fills;
            if let Part::Leads(reader) = fills.join(&key, mirror.host.now()) {
                // The reader stands for the client, so that it is not given up for want of one.
                let begun = mirror.begin_fill(&mirrored, &digest, &key, &reader.fill);
                if let Ok(Some(work)) = begun.await {
                    work.await;
                }
            }
        })
    }

    /// What is known of a blob once it is stored.
    async fn obtain(
        self: &Rc<Self>,
        mirrored: &Mirrored,
        digest: &Digest,
        trace: &Trace<P::Bytes>,
    ) -> Result<Rc<Known>, Error> {
        let own = Trace::default();
        if let Some(response) = self.send_on(mirrored, digest, &own).await? {
            let body = match response.into_body() {
                Body::Stream(body) => body,
                Body::Empty | Body::Bytes(_) | Body::Held(_) => {
                    return Err(Error::blob_unknown(&mirrored.name, digest));
                }
            };
            // Read to its end, beside what fills it where that is this request.
            let reading = self.host.hash(body, digest.algorithm());
            let mut rest = own.after.into_after();
            let (read, ()) = join(reading, rest.work()).await;
            read?;
        }
        trace.step("blob", Tier::Upstream, Duration::ZERO);
        let known = self.blobs.known(&mirrored.name, digest, trace).await?;
        known.ok_or_else(|| Error::blob_unknown(&mirrored.name, digest))
    }

    /// The error for a client whose blob could not be fetched. If the repository could read the
    /// blob in an older version, or before it was mirrored, the message says why the upstream was
    /// asked.
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
