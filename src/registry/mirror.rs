//! Pulling what is mirrored: what is stored while it is fresh, what the upstream says after that, and what is stored again
//! where the upstream says nothing.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Duration};

use futures_util::future::{LocalBoxFuture, join};

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use crate::{
    digest::{Algorithm, Digest},
    error::{Code, Error},
    host::{Host as _, Level, Reply},
    ledger::{Full, Lease, Ledger, Memory},
    manifest::{self, DOCKER_LIST, DOCKER_MANIFEST, MAX_SIZE, Manifest, OCI_INDEX, OCI_MANIFEST},
    metrics::Metrics,
    name::{Name, Reference, Tag},
    platform::{Platform, ReaderOf},
    range::ByteRange,
    registry::{
        blob::{Blobs, Source as Stored, describe, locate, whole},
        grant::{Grants, Look},
        list::Lists as StoredLists,
        manifest::{Manifests, WEIGHT},
        mirror::client::{Client, Question, UpstreamError},
        mirror::fill::{Fill, Fills, Part, Source},
        mirror::list::Lists,
        parts::Parts,
        reply::{Answer, Body, DOCKER_CONTENT_DIGEST, ResponseOf, log_failure, respond, value},
        request::{Request, text},
        upload::{Delivery, Uploads},
    },
    settings::Settings,
    store::{
        self, Bytes as _, Condition, Piece, PutOptions, Reader as _, Streams as _,
        bucket::Bucket,
        document::{Origin, TagTarget, from_json, to_json},
        flight::Flights,
        key::Key,
        policy::{Kind, Tier},
        tiers::{Found, Known, Tiers, Wanted},
        trace::{Learnt, Sighted, Trace},
        warm::Content,
    },
    time::Timestamp,
    upstream::{Mirrored, Ranges},
};

mod client;
mod fill;
mod invalidate;
mod list;

/// The largest blob that is stored before it is served: in one operation, and without a session.
const SMALL: u64 = 1024 * 1024;

/// What this isolate knows of mirrored tags.
#[derive(Debug)]
pub(super) struct Tags<B> {
    /// What was said of those that are not stored yet.
    seen: RefCell<BTreeMap<Key, Learning>>,
    absent: RefCell<BTreeMap<Key, (Timestamp, UpstreamError)>>,
    asking: Flights<Result<Tagged<B>, UpstreamError>>,
}

impl<B> Default for Tags<B> {
    fn default() -> Self {
        Self {
            seen: RefCell::default(),
            absent: RefCell::default(),
            asking: Flights::default(),
        }
    }
}

impl<B> Tags<B> {
    /// How many tags are known of. Where there are more, all are asked for again.
    const MOST: usize = 4_096;

    fn see(&self, key: &Key, learning: Learning) {
        let mut seen = self.seen.borrow_mut();
        if seen.len() >= Self::MOST {
            seen.clear();
        }
        seen.insert(key.clone(), learning);
    }

    fn miss(&self, key: &Key, until: Timestamp, error: &UpstreamError) {
        let mut absent = self.absent.borrow_mut();
        if absent.len() >= Self::MOST {
            absent.clear();
        }
        absent.insert(key.clone(), (until, error.clone()));
    }
}

/// What a tag named, when the upstream was last asked.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Sighting {
    digest: Digest,
    seen: Timestamp,
}

/// What was said of a tag, and the etag of what was stored of it before. Once something else is stored, that counts.
#[derive(Debug)]
struct Learning {
    sighting: Sighting,
    over: Option<String>,
}

/// What is stored of a tag.
#[derive(Debug, Default)]
struct StoredTag {
    etag: Option<String>,
    sighting: Option<Sighting>,
    is_invalidated: bool,
}

/// What a tag names, with the manifest where the upstream gave it with its answer.
#[derive(Debug)]
struct Tagged<B> {
    digest: Digest,
    content: Option<Rc<Content<B>>>,
}

impl<B> Clone for Tagged<B> {
    fn clone(&self) -> Self {
        Self {
            digest: self.digest.clone(),
            content: self.content.clone(),
        }
    }
}

/// The mirror: repositories of upstreams, fetched as clients ask for them. Reads of any repository go
/// through it.
pub(super) struct Mirror<P: Platform> {
    pub(super) store: Bucket<P::Cold>,
    tiers: Rc<Tiers<P>>,
    pub(super) host: P::Host,
    settings: Rc<Settings>,
    pub(super) metrics: Rc<Metrics>,
    ledger: Ledger,
    client: Client<P>,
    pub(super) grants: Rc<Grants<P>>,
    pub(super) uploads: Rc<Uploads<P>>,
    blobs: Rc<Blobs<P>>,
    manifests: Rc<Manifests<P>>,
    lists: Rc<StoredLists<P>>,
    tags: Tags<P::Bytes>,
    pages: Lists,
    fills: Fills<P::Bytes>,
}

/// The services that a mirror calls.
pub(super) struct Services<P: Platform> {
    pub(super) grants: Rc<Grants<P>>,
    pub(super) uploads: Rc<Uploads<P>>,
    pub(super) blobs: Rc<Blobs<P>>,
    pub(super) manifests: Rc<Manifests<P>>,
    pub(super) lists: Rc<StoredLists<P>>,
}

impl<P: Platform> Mirror<P> {
    pub(super) fn new(parts: &Parts<P>, services: Services<P>) -> Self {
        let Services {
            grants,
            uploads,
            blobs,
            manifests,
            lists,
        } = services;
        Self {
            store: parts.store.clone(),
            tiers: parts.tiers.clone(),
            host: parts.host.clone(),
            settings: parts.settings.clone(),
            metrics: parts.metrics.clone(),
            ledger: parts.ledger.clone(),
            client: Client::new(parts),
            grants,
            uploads,
            blobs,
            manifests,
            lists,
            tags: Tags::default(),
            pages: Lists::default(),
            fills: Fills::default(),
        }
    }

    /// Reads a manifest: a stored one, or one of an upstream.
    pub(super) async fn read_manifest(
        &self,
        name: &Name,
        reference: &Reference,
        trace: &Trace<P::Bytes>,
    ) -> Result<(Digest, Rc<Content<P::Bytes>>), Error> {
        match self.settings.upstreams.mirrored(name) {
            Some(mirrored) => {
                self.read_mirrored_manifest(&mirrored, reference, trace)
                    .await
            }
            None => self.manifests.read(name, reference, trace).await,
        }
    }

    /// Pulls a blob that is not stored for this repository (end-2).
    pub(super) async fn pull(
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
    pub(super) async fn known_or_obtained(
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
    pub(super) async fn read_blob(
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

    /// Reads a manifest of a mirrored repository.
    pub(super) async fn read_mirrored_manifest(
        &self,
        mirrored: &Mirrored,
        reference: &Reference,
        trace: &Trace<P::Bytes>,
    ) -> Result<(Digest, Rc<Content<P::Bytes>>), Error> {
        let tagged = match reference {
            Reference::Digest(digest) => Tagged {
                digest: digest.clone(),
                content: None,
            },
            Reference::Tag(tag) => self.read_mirrored_tag(mirrored, tag, trace).await?,
        };
        if let Some(content) = tagged.content {
            return Ok((tagged.digest, content));
        }
        let digest = tagged.digest;
        let wanted = Wanted::Manifest(&mirrored.name, &digest);
        let far = async || {
            if let Some(content) = self
                .manifests
                .stored_manifest(&mirrored.name, &digest)
                .await?
            {
                return Ok((Found::Content(Rc::new(content)), Tier::Cold));
            }
            let fetched = self
                .fetch_manifest(mirrored, &digest.to_string(), Some(&digest))
                .await;
            let (_, content) = fetched.map_err(|error| self.no_manifest(mirrored, &error))?;
            trace.learn(Learnt {
                name: mirrored.name.clone(),
                digest: digest.clone(),
                content: Some(content.clone()),
                tag: None,
            });
            Ok((Found::Content(content), Tier::Upstream))
        };
        match self.tiers.read_through(wanted, trace, far).await? {
            Found::Content(content) => Ok((digest, content)),
            Found::Absent | Found::Link(_) => Err(Error::manifest_unknown(&mirrored.name, &digest)),
        }
    }

    /// What a mirrored tag names: by what is stored while that is fresh, else by the upstream.
    async fn read_mirrored_tag(
        &self,
        mirrored: &Mirrored,
        tag: &Tag,
        trace: &Trace<P::Bytes>,
    ) -> Result<Tagged<P::Bytes>, Error> {
        let tags = &self.tags;
        let key = Key::tag(&mirrored.name, tag);
        let start = self.host.now();
        let is_fresh = |sighting: &&Sighting| {
            mirrored.upstream.is_immutable(tag)
                || start.since(sighting.seen) < mirrored.upstream.freshness
        };
        let named = |sighting: &Sighting| Tagged {
            digest: sighting.digest.clone(),
            content: None,
        };
        let stored = self.stored_tag(&key).await?;
        let is_valid = |_: &&Sighting| !stored.is_invalidated;
        let fresh = stored.sighting.as_ref().filter(is_valid);
        if let Some(fresh) = fresh.filter(is_fresh) {
            trace.step("tag", Tier::Cold, self.host.now().since(start));
            return Ok(named(fresh));
        }
        // What was asked for a moment ago is stored after the reply.
        let known = tags.seen.borrow().get(&key).and_then(|learning| {
            let sighting = Some(&learning.sighting).filter(|_| learning.over == stored.etag);
            sighting.filter(is_fresh).map(named)
        });
        if let Some(known) = known {
            trace.step("tag", Tier::Hot, self.host.now().since(start));
            return Ok(known);
        }
        let absent = tags.absent.borrow().get(&key).cloned();
        let asked = match absent.filter(|(until, _)| *until > start) {
            Some((_, error)) => Err(error),
            None => {
                let ask = async || self.ask_for_tag(mirrored, tag, &stored, trace).await;
                // Who comes after something else was stored is no follower of one who asked before.
                let flight = format!("{key} {}", stored.etag.as_deref().unwrap_or_default());
                tags.asking.share(&flight, &self.host, ask).await
            }
        };
        match (asked, stored.sighting) {
            (Ok(tagged), _) => {
                let sighting = Sighting {
                    digest: tagged.digest.clone(),
                    seen: start,
                };
                let over = stored.etag;
                tags.see(&key, Learning { sighting, over });
                trace.step("tag", Tier::Upstream, self.host.now().since(start));
                Ok(tagged)
            }
            (Err(error), Some(stale)) if error.is_outage() || mirrored.upstream.serves_gone => {
                self.serve_stale(mirrored, &error, trace);
                trace.step("tag", Tier::Cold, self.host.now().since(start));
                Ok(named(&stale))
            }
            (Err(error), _) => {
                if !error.is_outage() {
                    let until = start + self.tiers.policy().absence;
                    tags.miss(&key, until, &error);
                }
                Err(self.no_manifest(mirrored, &error))
            }
        }
    }

    /// Asks an upstream what a tag names. Whether it is what it was costs no more than a `HEAD`, which Docker Hub does not count.
    async fn ask_for_tag(
        &self,
        mirrored: &Mirrored,
        tag: &Tag,
        stored: &StoredTag,
        trace: &Trace<P::Bytes>,
    ) -> Result<Tagged<P::Bytes>, UpstreamError> {
        let asked = self.host.now();
        let sighting = stored.sighting.as_ref();
        let unchanged = match sighting {
            Some(sighting) => self.look_at_tag(mirrored, tag, &sighting.digest).await?,
            None => false,
        };
        let tagged = match sighting.filter(|_| unchanged) {
            Some(stored) => Tagged {
                digest: stored.digest.clone(),
                content: None,
            },
            None => {
                let (digest, content) = self.fetch_manifest(mirrored, tag.as_str(), None).await?;
                let wanted = Wanted::Manifest(&mirrored.name, &digest);
                self.tiers.made(wanted, (*content).clone());
                Tagged {
                    digest,
                    content: Some(content),
                }
            }
        };
        trace.learn(Learnt {
            name: mirrored.name.clone(),
            digest: tagged.digest.clone(),
            content: tagged.content.clone(),
            tag: Some(Sighted {
                tag: tag.clone(),
                seen: asked,
                over: stored.etag.clone(),
            }),
        });
        Ok(tagged)
    }

    /// Whether a tag still names what it named, by the head of the manifest.
    async fn look_at_tag(
        &self,
        mirrored: &Mirrored,
        tag: &Tag,
        digest: &Digest,
    ) -> Result<bool, UpstreamError> {
        let mut headers = accepting_manifests();
        headers.insert(header::IF_NONE_MATCH, value(&format!("\"{digest}\"")));
        let question = Question {
            method: Method::HEAD,
            path: &format!("/manifests/{tag}"),
            headers,
        };
        let reply = self.client.ask(mirrored, &question).await?;
        Ok(reply.status == StatusCode::NOT_MODIFIED
            || announced(&reply.headers).is_some_and(|announced| announced == *digest))
    }

    /// Reads a document of so many bytes at most from an upstream, with the memory that it takes to be parsed.
    async fn fetch_document(
        &self,
        mirrored: &Mirrored,
        path: &str,
        headers: HeaderMap,
        most: u64,
    ) -> Result<(HeaderMap, Vec<u8>, Option<Lease>), UpstreamError> {
        let question = Question {
            method: Method::GET,
            path,
            headers,
        };
        let reply = self.client.ask(mirrored, &question).await?;
        let what = path.split('?').next().unwrap_or_default();
        let wrong = |found: String| UpstreamError::Wrong(format!("{what}: {found}"));
        let full = |full: Full| UpstreamError::Store(full.to_string());
        let leased = |bytes| self.ledger.wait_if_large(&self.host, Memory::Wasm, bytes);
        let (bytes, lease) = match (reply.status, reply.body) {
            (StatusCode::OK, Some(body)) => {
                let length = length(&reply.headers).unwrap_or(most).min(most);
                let lease = leased(length).await.map_err(full)?;
                (self.store.collect(body, most).await, lease)
            }
            (status, body) => {
                if let Some(body) = body {
                    self.store.discard(body).await;
                }
                return Err(wrong(format!("status {}", status.as_u16())));
            }
        };
        let bytes = bytes
            .map_err(|error| UpstreamError::Failed(error.to_string()))?
            .ok_or_else(|| wrong(format!("larger than {most} bytes")))?;
        // It is parsed next.
        let needed = WEIGHT * bytes.len() as u64;
        let lease = match lease {
            Some(mut lease) => {
                lease.resize(needed, self.host.now()).map_err(full)?;
                Some(lease)
            }
            None => leased(needed).await.map_err(full)?,
        };
        Ok((reply.headers, bytes, lease))
    }

    /// Reads a manifest from an upstream, and believes nothing of it unseen.
    async fn fetch_manifest(
        &self,
        mirrored: &Mirrored,
        reference: &str,
        expected: Option<&Digest>,
    ) -> Result<(Digest, Rc<Content<P::Bytes>>), UpstreamError> {
        let path = format!("/manifests/{reference}");
        let (headers, bytes, _lease) = self
            .fetch_document(mirrored, &path, accepting_manifests(), MAX_SIZE)
            .await?;
        let wrong = |found: String| UpstreamError::Wrong(format!("manifest {reference}: {found}"));
        let announced = announced(&headers);
        let algorithm = expected
            .or(announced.as_ref())
            .map_or(Algorithm::Sha256, Digest::algorithm);
        let digest = algorithm.digest(&bytes);
        if let Some(other) = expected
            .or(announced.as_ref())
            .filter(|other| **other != digest)
        {
            return Err(wrong(format!(
                "its bytes have the digest {digest}, not {other}"
            )));
        }
        // What the upstream calls it is not asked: everybody else would call it by its bytes.
        let media_type = manifest::media_type(&bytes).map_err(|error| wrong(error.to_string()))?;
        let content = Content {
            media_type,
            bytes: P::Bytes::copy_from(&bytes),
        };
        Ok((digest, Rc::new(content)))
    }

    /// What is stored of a tag.
    async fn stored_tag(&self, key: &Key) -> Result<StoredTag, Error> {
        let Some(meta) = self.store.head(key).await? else {
            return Ok(StoredTag::default());
        };
        let (sighting, is_invalidated) = match from_json(key, &meta.metadata)? {
            TagTarget::Manifest {
                digest,
                seen: Some(seen),
                invalidated,
                ..
            } => (Some(Sighting { digest, seen }), invalidated.is_some()),
            // Pushed before the name was mirrored: it says nothing of the upstream.
            TagTarget::Manifest { seen: None, .. } | TagTarget::Tombstone { .. } => (None, false),
        };
        Ok(StoredTag {
            etag: Some(meta.etag),
            sighting,
            is_invalidated,
        })
    }

    /// Stores what an upstream said, as if it had been pushed, but for the blobs: these come when they are asked for.
    pub(super) async fn store_learnt(&self, learnt: Learnt<P::Bytes>) -> Result<(), Error> {
        let Learnt {
            name,
            digest,
            content,
            tag,
        } = learnt;
        let content = match content {
            Some(content) => {
                let needed = WEIGHT * content.bytes.len();
                let lease = self.ledger.wait_if_large(&self.host, Memory::Wasm, needed);
                let _lease = lease.await?;
                let bytes = content.bytes.to_vec();
                let parsed = Manifest::read(&bytes);
                let manifest =
                    parsed.map_err(|error| Error::new(Code::ManifestInvalid, error.to_string()))?;
                self.manifests.require_operations(&name, &manifest, 1)?;
                let bound = self.grants.bound();
                let origin = Origin::Upstream;
                self.manifests
                    .keep_blobs(&name, &digest, &manifest, origin, bound)
                    .await?;
                self.manifests
                    .write_manifest(&name, &digest, &manifest, bytes, origin, bound)
                    .await?;
                Some(content)
            }
            None if tag.is_some() => self
                .manifests
                .stored_manifest(&name, &digest)
                .await?
                .map(Rc::new),
            None => None,
        };
        if let (Some(Sighted { tag, seen, over }), Some(content)) = (tag, content) {
            let target = to_json(&TagTarget::Manifest {
                digest,
                media_type: content.media_type.clone(),
                size: content.bytes.len(),
                nonce: None,
                seen: Some(seen),
                invalidated: None,
            });
            let condition = over.as_deref();
            let options = PutOptions {
                condition: condition.map_or(Condition::Absent, Condition::Matches),
                metadata: &target,
                ..PutOptions::default()
            };
            let content = store::Content::Bytes(target.as_bytes().to_vec());
            self.store
                .put(&Key::tag(&name, &tag), content, options)
                .await?;
        }
        Ok(())
    }

    /// Says what a blob is that is not stored yet, by what the upstream says of it.
    pub(super) async fn look_at_blob(
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
    pub(super) async fn send_on(
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
                    Ok(Some(work)) => trace.work(work),
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
        *response.body_mut() = Body::Stream(self.store.concatenate(pieces, size));
        Ok(Some(response))
    }

    /// Passes on what an upstream says of a part of a blob; `None` where all of it is to be stored first. Of a part nobody can say
    /// whether it is right, so it is stored nowhere.
    pub(super) async fn pass_range(
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
            self.store.discard(body).await;
            return Ok(None);
        }
        if mirrored.upstream.ranges == Ranges::Both {
            trace.work(self.fill_behind(mirrored, digest));
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
    pub(super) async fn obtain(
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
            let reading = self.store.hash(body, digest.algorithm());
            let mut rest = own.into_rest();
            let (read, ()) = join(reading, rest.work()).await;
            read?;
        }
        trace.step("blob", Tier::Upstream, Duration::ZERO);
        let known = self.blobs.known(&mirrored.name, digest, trace).await?;
        known.ok_or_else(|| Error::blob_unknown(&mirrored.name, digest))
    }

    /// Asks for a blob, and says what is left to do for it; nothing, where it is stored already.
    async fn begin_fill(
        self: &Rc<Self>,
        mirrored: &Mirrored,
        digest: &Digest,
        key: &str,
        fill: &Rc<Fill<P::Bytes>>,
    ) -> Result<Option<LocalBoxFuture<'static, ()>>, UpstreamError> {
        let fills = &self.fills;
        let source = match self.open_source(mirrored, digest, fill).await {
            Ok(Some(source)) => source,
            Ok(None) => {
                fills.end(key, fill, Ok(()));
                return Ok(None);
            }
            Err(error) => {
                fills.end(key, fill, Err(error.clone()));
                return Err(error);
            }
        };
        fill.begin(source.size, &source.begun, self.host.now());
        let (mirror, mirrored, digest) = (self.clone(), mirrored.clone(), digest.clone());
        let (key, fill) = (key.to_owned(), fill.clone());
        Ok(Some(Box::pin(async move {
            let outcome = mirror.fill(source, &mirrored, &digest, &fill).await;
            if let Err(error) = &outcome {
                let (name, error) = (mirrored.name.to_string(), error.to_string());
                let fields = [("repository", &*name), ("error", &*error)];
                mirror.host.log(Level::Error, "blob not mirrored", &fields);
            }
            mirror.fills.end(&key, &fill, outcome);
        })))
    }

    /// Opens a blob of an upstream; `None` where it is stored without, or now is.
    async fn open_source(
        &self,
        mirrored: &Mirrored,
        digest: &Digest,
        fill: &Fill<P::Bytes>,
    ) -> Result<Option<Source<ReaderOf<P>>>, UpstreamError> {
        let name = &mirrored.name;
        let failed = |error: Error| UpstreamError::Store(error.message());
        let (seen, begun) = join(self.grants.look(digest), self.begun(name, digest)).await;
        let (seen, begun) = (seen.map_err(failed)?, begun.map_err(failed)?);
        if let Look::Present(record) = &seen {
            let given = self.may_reuse_bytes(mirrored, digest, record.size()).await;
            if given.map_err(failed)? {
                let kept = self
                    .uploads
                    .keep_present(name, digest, Delivery::Fill)
                    .await;
                if kept.map_err(failed)? {
                    return Ok(None);
                }
            }
        }
        let most = mirrored.upstream.most_bytes;
        let mut all = None;
        if let Some(begun) = begun.filter(|begun| begun.offset() > 0) {
            let offset = begun.offset();
            match self.ask_for_blob(mirrored, digest, Some(offset)).await {
                Ok(reply) if reply.status == StatusCode::OK => all = Some(reply),
                Ok(reply) => match self.read_rest(reply, offset).await? {
                    Some((reader, size)) if size <= most => {
                        return Ok(Some(Source {
                            reader,
                            size,
                            begun,
                        }));
                    }
                    Some((reader, _)) => reader.give_up().await,
                    None => {}
                },
                // It may be the range that it does not like.
                Err(UpstreamError::Failed(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let reply = match all {
            Some(reply) => reply,
            None => self.ask_for_blob(mirrored, digest, None).await?,
        };
        let wrong = |found: String| UpstreamError::Wrong(format!("blob {digest}: {found}"));
        let length = length(&reply.headers);
        let Reply {
            status: StatusCode::OK,
            body: Some(body),
            ..
        } = reply
        else {
            return Err(wrong(format!("status {}", reply.status.as_u16())));
        };
        match length {
            Some(length) if length > most => {
                self.store.discard(body).await;
                Err(wrong(format!(
                    "{length} bytes, more than the {most} that `most_bytes` allows"
                )))
            }
            Some(size) if size > SMALL => {
                let reader = self.store.read(body);
                let reader = reader.map_err(|error| UpstreamError::Failed(error.to_string()))?;
                let begun = self.begin_anew();
                Ok(Some(Source {
                    reader,
                    size,
                    begun,
                }))
            }
            // What is small, or of a length that nobody knows, is stored before it is served.
            length => {
                let taken = match length {
                    Some(length) => {
                        self.uploads
                            .fill_whole(Some(body), length, name, digest, &seen)
                            .await
                    }
                    None => self.fill_unsized(body, most, name, digest, fill).await,
                };
                taken.map(|()| None).map_err(|error| match error.code() {
                    Code::DigestInvalid | Code::SizeInvalid => wrong(error.message()),
                    _ => failed(error),
                })
            }
        }
    }

    /// Whether a stored blob of this size may be linked to a mirrored repository without fetching
    /// it again. Two things must hold: its bytes were hashed for another repository of the same
    /// upstream, and the upstream's `HEAD` in this repository is 200 with the stored length. The
    /// first alone says nothing about this repository. The second alone is an unverified claim.
    async fn may_reuse_bytes(
        &self,
        mirrored: &Mirrored,
        digest: &Digest,
        size: u64,
    ) -> Result<bool, Error> {
        if !self.grants.is_filled_from(mirrored, digest).await? {
            return Ok(false);
        }
        // A failed `HEAD` is no error: the `GET` that follows decides.
        let said = self.size_of_blob(mirrored, digest).await;
        Ok(said.is_ok_and(|said| said == Some(size)))
    }

    /// Opens the rest of a blob that broke off, and says how long all of it is; `None` where the upstream gives no such part.
    pub(super) async fn open_rest(
        &self,
        mirrored: &Mirrored,
        digest: &Digest,
        offset: u64,
    ) -> Result<Option<(ReaderOf<P>, u64)>, UpstreamError> {
        let reply = self.ask_for_blob(mirrored, digest, Some(offset)).await?;
        self.read_rest(reply, offset).await
    }

    /// Asks for a blob, from this byte on.
    async fn ask_for_blob(
        &self,
        mirrored: &Mirrored,
        digest: &Digest,
        offset: Option<u64>,
    ) -> Result<Reply<P::Body>, UpstreamError> {
        let mut headers = HeaderMap::new();
        if let Some(offset) = offset {
            headers.insert(header::RANGE, value(&format!("bytes={offset}-")));
        }
        let question = Question {
            method: Method::GET,
            path: &format!("/blobs/{digest}"),
            headers,
        };
        self.client.ask(mirrored, &question).await
    }

    /// Begins to read all of a blob from this byte on; `None` where a reply has something else.
    async fn read_rest(
        &self,
        reply: Reply<P::Body>,
        offset: u64,
    ) -> Result<Option<(ReaderOf<P>, u64)>, UpstreamError> {
        let Some(body) = reply.body else {
            return Ok(None);
        };
        let size = text(&reply.headers, header::CONTENT_RANGE)
            .filter(|_| reply.status == StatusCode::PARTIAL_CONTENT)
            .and_then(|range| rest_of(range, offset));
        let Some(size) = size else {
            self.store.discard(body).await;
            return Ok(None);
        };
        let reader = self.store.read(body);
        let reader = reader.map_err(|error| UpstreamError::Failed(error.to_string()))?;
        Ok(Some((reader, size)))
    }

    /// How many bytes a blob of an upstream has, if it says so.
    async fn size_of_blob(
        &self,
        mirrored: &Mirrored,
        digest: &Digest,
    ) -> Result<Option<u64>, UpstreamError> {
        let question = Question {
            method: Method::HEAD,
            path: &format!("/blobs/{digest}"),
            headers: HeaderMap::new(),
        };
        let reply = self.client.ask(mirrored, &question).await?;
        Ok(length(&reply.headers).filter(|_| reply.status == StatusCode::OK))
    }

    /// Notes that what is stored is served in place of an answer.
    fn serve_stale(&self, mirrored: &Mirrored, error: &UpstreamError, trace: &Trace<P::Bytes>) {
        trace.stale.set(Some(error.reason()));
        self.metrics.stale(mirrored.upstream.name(), error.reason());
    }

    fn no_manifest(&self, mirrored: &Mirrored, error: &UpstreamError) -> Error {
        error.answer(&mirrored.upstream, Code::ManifestUnknown)
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

/// How long all of it is, by a `Content-Range` (RFC 9110) of everything from an offset on.
fn rest_of(range: &str, offset: u64) -> Option<u64> {
    let (_, size) = range.rsplit_once('/')?;
    let size: u64 = size.parse().ok()?;
    let expected = format!("bytes {offset}-{}/{size}", size.checked_sub(1)?);
    (range == expected).then_some(size)
}

/// Whether a reply has several ranges (RFC 9110, section 14.6). A browser would read a list of types by its last one.
fn is_multipart(media_type: &HeaderValue) -> bool {
    let text = media_type.to_str().unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("multipart/byteranges") && !text.contains(',')
}

fn length(headers: &HeaderMap) -> Option<u64> {
    text(headers, header::CONTENT_LENGTH)?.parse().ok()
}

/// The digest that an upstream announces for what it sends.
fn announced(headers: &HeaderMap) -> Option<Digest> {
    text(headers, DOCKER_CONTENT_DIGEST)?.parse().ok()
}

fn accepting_manifests() -> HeaderMap {
    let types = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST].join(", ");
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, value(&types));
    headers
}
