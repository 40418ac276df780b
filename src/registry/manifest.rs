//! Pulling and pushing manifests: end-3, end-7.

use std::{rc::Rc, time::Duration};

use crate::{
    digest::Digest,
    error::Error,
    host::Clock as _,
    ledger::Ledger,
    manifest::{self, Manifest},
    metrics::Metrics,
    name::{Name, Reference},
    platform::Platform,
    registry::{blob::Blobs, bound::for_each, grant::Grants, parts::Parts},
    settings::Settings,
    store::{
        Bytes as _, Streams as _,
        after::Promotion,
        bucket::Bucket,
        document::{Stored, TagTarget, from_json},
        key::Key,
        tiers::{KnownLink, Tiers, Wanted},
        trace::Trace,
        warm::{Link, TierContent},
    },
    tier::Tier,
};

pub(super) mod children;
mod delete;
mod fit;
pub(super) mod push;
pub(super) mod write;

/// Stored manifests, tags and entries of referrers: reading, pushing and deleting them.
pub(super) struct Manifests<P: Platform> {
    store: Bucket<P::Cold>,
    tiers: Rc<Tiers<P>>,
    host: P::Host,
    settings: Rc<Settings>,
    metrics: Rc<Metrics>,
    ledger: Ledger,
    grants: Rc<Grants<P>>,
}

/// The memory of a manifest, in bytes for each byte of the manifest.
pub(super) const WEIGHT: u64 = 3;

impl<P: Platform> Manifests<P> {
    pub(super) fn new(parts: &Parts<P>, grants: Rc<Grants<P>>) -> Self {
        Self {
            store: parts.store.clone(),
            tiers: parts.tiers.clone(),
            host: parts.host.clone(),
            settings: parts.settings.clone(),
            metrics: parts.metrics.clone(),
            ledger: parts.ledger.clone(),
            grants,
        }
    }

    /// Reads a stored manifest from the nearest tier.
    pub(super) async fn read(
        &self,
        name: &Name,
        reference: &Reference,
        trace: &Trace<P::Bytes>,
    ) -> Result<(Digest, Rc<TierContent<P::Bytes>>), Error> {
        let unknown = || Error::manifest_unknown(name, reference);
        let tag = match reference {
            Reference::Digest(digest) => {
                let content = self.read_digest(name, digest, trace).await?;
                return Ok((digest.clone(), content.ok_or_else(unknown)?));
            }
            Reference::Tag(tag) => Key::tag(name, tag),
        };
        if let Some(digest) = self.tiers.believed_tag(&tag, trace) {
            trace.step("tag", Tier::Hot, Duration::ZERO);
            // If it is gone, the tag may have been moved before that.
            if let Some(content) = self.read_digest(name, &digest, trace).await? {
                return Ok((digest, content));
            }
        }
        let start = self.host.now();
        let meta = self.store.head(&tag).await?.ok_or_else(unknown)?;
        trace.step("tag", Tier::Cold, self.host.now().since(start));
        let digest = match from_json(&tag, &meta.metadata)? {
            TagTarget::Manifest { digest, .. } => digest,
            TagTarget::Tombstone { .. } => return Err(unknown()),
        };
        self.tiers.believe_tag(&tag, &digest, start);
        let content = self.read_digest(name, &digest, trace).await?;
        Ok((digest, content.ok_or_else(unknown)?))
    }

    /// Reads a stored manifest by its digest.
    async fn read_digest(
        &self,
        name: &Name,
        digest: &Digest,
        trace: &Trace<P::Bytes>,
    ) -> Result<Option<Rc<TierContent<P::Bytes>>>, Error> {
        let wanted = Wanted::Manifest(name, digest);
        let cold = async || self.stored_manifest(name, digest, Some(trace)).await;
        self.tiers.content(wanted, trace, cold).await
    }

    /// Reads a manifest from the cold tier. A read with a trace may be dropped for the answer of
    /// another tier.
    pub(super) async fn stored_manifest(
        &self,
        name: &Name,
        digest: &Digest,
        trace: Option<&Trace<P::Bytes>>,
    ) -> Result<Option<TierContent<P::Bytes>>, Error> {
        let key = Key::manifest(name, digest);
        let object = match trace {
            Some(trace) => trace.get::<P>(&self.store, &self.host, key.clone()).await?,
            None => self.store.get(&key, None).await?,
        };
        let Some(object) = object else {
            return Ok(None);
        };
        let stored: Stored = from_json(&key, &object.meta.metadata)?;
        if stored.aside {
            self.host.discard(object.body).await;
            return Ok(None);
        }
        let bytes = self.host.hold(object.body, object.meta.size).await?;
        // The stored media type counts only for bytes without one, which an older version accepted.
        let media_type = manifest::media_type(&bytes.to_vec()).unwrap_or(stored.media_type);
        Ok(Some(TierContent { media_type, bytes }))
    }

    /// Renews a hot manifest before it expires, with its links: from the warm tier if another
    /// isolate has renewed it there, else from the cold one.
    pub(super) async fn renew(
        &self,
        blobs: &Blobs<P>,
        name: &Name,
        digest: &Digest,
    ) -> Result<(), Error> {
        let wanted = Wanted::Manifest(name, digest);
        if self.tiers.renew_from_warm(wanted).await {
            return Ok(());
        }
        // The answer is as old as the beginning of the read.
        let asked = self.host.now();
        let key = Key::manifest(name, digest);
        let is_there = match self.store.head(&key).await? {
            Some(meta) => !from_json::<Stored>(&key, &meta.metadata)?.aside,
            None => false,
        };
        if !is_there {
            self.tiers.changed(wanted);
            return Ok(());
        }
        let Some(content) = self.tiers.confirm(wanted, asked) else {
            return Ok(());
        };
        let most = usize::try_from(self.settings.subrequests / 8).unwrap_or(usize::MAX);
        let links = self.links(name, &content).into_iter();
        let ageing = links.filter(|(_, known)| self.tiers.is_ageing(known));
        let ageing: Vec<_> = ageing.take(most).map(|(digest, _)| digest).collect();
        for_each(&ageing, |digest| blobs.renew_link(name, digest)).await?;
        if let Some(promotion) = self.tiers.repromote(wanted, content, asked) {
            self.promote(promotion).await;
        }
        Ok(())
    }

    /// The hot links of the blobs that a manifest names.
    fn links(&self, name: &Name, content: &TierContent<P::Bytes>) -> Vec<(Digest, Rc<KnownLink>)> {
        let parsed = Manifest::read(&content.bytes.to_vec());
        let named = parsed.map(|manifest| [manifest.blobs, manifest.undecided]);
        let blobs = named.into_iter().flatten().flatten();
        let known = blobs.filter_map(|(digest, _)| {
            let known = self.tiers.known(name, &digest)?;
            Some((digest, known))
        });
        known.collect()
    }

    /// Writes content to the warm tier.
    /// A manifest takes the links of those blobs along that this isolate has seen stored.
    /// A client that reads the manifest asks for its blobs next, and then has their links without
    /// another read.
    pub(super) async fn promote(&self, promotion: Promotion<P::Bytes>) {
        let links = promotion.name.as_ref().map_or_else(Vec::new, |name| {
            let known = self.links(name, &promotion.content).into_iter();
            let known = known
                .filter(|(_, known)| known.seen.get() && self.grants.is_right(name, known.right));
            let links = known.map(|(digest, known)| Link {
                digest,
                record: known.record.clone(),
                confirmed: known.confirmed,
                right: known.right,
            });
            links.collect()
        });
        self.tiers.promote(promotion, links).await;
    }
}
