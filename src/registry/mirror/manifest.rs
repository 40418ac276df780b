//! Manifests of upstreams.

use std::{collections::BTreeSet, rc::Rc};

use http::{HeaderMap, Method, StatusCode, header};

use crate::{
    digest::{Algorithm, Digest},
    error::{Code, Error},
    host::Clock as _,
    ledger::{Full, Lease, MemoryKind},
    manifest::{self, DOCKER_LIST, DOCKER_MANIFEST, MAX_SIZE, Manifest, OCI_INDEX, OCI_MANIFEST},
    name::Reference,
    platform::Platform,
    registry::{
        headers::{DOCKER_CONTENT_DIGEST, text, value},
        manifest::{WEIGHT, write::NewManifest},
        mirror::{Mirror, client::Question, error::UpstreamError, source::length, tags::Tagged},
    },
    store::{
        self, Bytes as _, Condition, PutOptions, Streams as _,
        after::{Learnt, Sighted},
        document::{ManifestOrigin, TagTarget, to_json},
        key::Key,
        tiers::Wanted,
        trace::Trace,
        warm::TierContent,
    },
    tier::Tier,
    upstream::Mirrored,
};

/// The digest that an upstream announces for its reply.
pub(super) fn announced(headers: &HeaderMap) -> Option<Digest> {
    text(headers, DOCKER_CONTENT_DIGEST)?.parse().ok()
}

pub(super) fn accepting_manifests() -> HeaderMap {
    let types = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST].join(", ");
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, value(&types));
    headers
}

impl<P: Platform> Mirror<P> {
    /// Reads a manifest of a mirrored repository.
    pub(super) async fn read_mirrored_manifest(
        &self,
        mirrored: &Mirrored,
        reference: &Reference,
        trace: &Trace<P::Bytes>,
    ) -> Result<(Digest, Rc<TierContent<P::Bytes>>), Error> {
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
                .stored_manifest(&mirrored.name, &digest, Some(trace))
                .await?
            {
                return Ok((Some(Rc::new(content)), Tier::Cold));
            }
            let fetched = self
                .fetch_manifest(mirrored, &digest.to_string(), Some(&digest))
                .await;
            let (_, content) = fetched.map_err(|error| self.no_manifest(mirrored, &error))?;
            trace.after.learn(Learnt {
                name: mirrored.name.clone(),
                digest: digest.clone(),
                content: Some(content.clone()),
                tag: None,
            });
            Ok((Some(content), Tier::Upstream))
        };
        let content = self.tiers.content_from(wanted, trace, far).await?;
        let content = content.ok_or_else(|| Error::manifest_unknown(&mirrored.name, &digest))?;
        Ok((digest, content))
    }

    /// Fetches a document of at most `most` bytes from an upstream, with leased memory to parse it.
    pub(super) async fn fetch_document(
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
        let leased = |bytes| {
            self.ledger
                .wait_if_large(&self.host, MemoryKind::Wasm, bytes)
        };
        let (bytes, lease) = match (reply.status, reply.body) {
            (StatusCode::OK, Some(body)) => {
                let length = length(&reply.headers).unwrap_or(most).min(most);
                let lease = leased(length).await.map_err(full)?;
                (self.host.collect(body, most).await, lease)
            }
            (status, body) => {
                if let Some(body) = body {
                    self.host.discard(body).await;
                }
                return Err(wrong(format!("status {}", status.as_u16())));
            }
        };
        let bytes = bytes
            .map_err(|error| UpstreamError::Failed(error.to_string()))?
            .ok_or_else(|| wrong(format!("larger than {most} bytes")))?;
        // The caller parses it next.
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

    /// Fetches a manifest from an upstream, and verifies its digest.
    pub(super) async fn fetch_manifest(
        &self,
        mirrored: &Mirrored,
        reference: &str,
        expected: Option<&Digest>,
    ) -> Result<(Digest, Rc<TierContent<P::Bytes>>), UpstreamError> {
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
        // The upstream's Content-Type is ignored: the media type is derived from the bytes, as for
        // every other manifest.
        let media_type = manifest::media_type(&bytes).map_err(|error| wrong(error.to_string()))?;
        let content = TierContent {
            media_type,
            bytes: P::Bytes::copy_from(&bytes),
        };
        Ok((digest, Rc::new(content)))
    }

    /// Stores an upstream's answer as if it had been pushed, without the blobs: they are fetched
    /// when clients ask for them.
    pub(in crate::registry) async fn store_learnt(
        &self,
        learnt: Learnt<P::Bytes>,
    ) -> Result<(), Error> {
        let Learnt {
            name,
            digest,
            content,
            tag,
        } = learnt;
        let content = match content {
            Some(content) => {
                let needed = WEIGHT * content.bytes.len();
                let lease = self
                    .ledger
                    .wait_if_large(&self.host, MemoryKind::Wasm, needed);
                let _lease = lease.await?;
                let bytes = content.bytes.to_vec();
                let parsed = Manifest::read(&bytes);
                let mut manifest =
                    parsed.map_err(|error| Error::new(Code::ManifestInvalid, error.to_string()))?;
                // A grant on what turns out to be a manifest keeps nothing, and gives no right.
                manifest.blobs.append(&mut manifest.undecided);
                self.manifests.require_operations(&name, &manifest, 1)?;
                let new = NewManifest {
                    name: &name,
                    digest: &digest,
                    manifest: &manifest,
                    origin: ManifestOrigin::Upstream,
                    absent: &BTreeSet::new(),
                    bound: self.grants.bound(),
                };
                self.manifests.keep_blobs(new).await?;
                self.manifests.announce(new, bytes.len() as u64).await?;
                self.manifests.write_manifest(new, bytes).await?;
                Some(content)
            }
            None if tag.is_some() => self
                .manifests
                .stored_manifest(&name, &digest, None)
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
            })?;
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

    pub(super) fn no_manifest(&self, mirrored: &Mirrored, error: &UpstreamError) -> Error {
        error.answer(&mirrored.upstream, Code::ManifestUnknown)
    }
}
