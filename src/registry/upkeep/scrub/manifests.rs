//! Scrubbing what repositories have beside blobs: manifests with all that they name, tags, referrers, entries of the catalogue.

use std::collections::BTreeSet;

use crate::{
    digest::{Algorithm, Digest},
    manifest::{MAX_SIZE, Manifest},
    name::{Name, Tag},
    platform::Platform,
    registry::upkeep::{
        listing::Listing,
        scrub::{
            Scrub,
            cursor::Edges,
            report::{Finding, Found, Repair},
        },
        step::{Halt, What},
    },
    store::{
        Meta,
        document::{Origin, Reason, Referrer, Stored, TagTarget, from_json, is_blob, to_json},
        key::{Key, Prefix},
        tiers::Wanted,
    },
};

/// What this step knows of the repository that it is in.
#[derive(Default)]
struct Repository {
    name: Option<Name>,
    manifests: BTreeSet<Digest>,
}

/// The most manifests of a repository that are remembered.
const MAX_MANIFESTS: usize = 10_000;

/// The most bytes of a tag's or an entry's body.
const MAX_BODY: u64 = 4 * 1024 * 1024;

impl<P: Platform> Scrub<'_, P> {
    /// Goes through what repositories have, from a key on.
    pub(super) async fn scrub_manifests(
        &self,
        after: &mut Option<Key>,
        edges: &mut Edges,
    ) -> Result<(), Halt> {
        let mut listing = Listing::new(
            Prefix::Repositories,
            after.as_ref().map(Key::to_string),
            true,
        );
        let mut repository = Repository::default();
        while let Some((key, meta)) = listing.peek(&self.work).await? {
            if self.is_late() {
                return Err(Halt::Spent);
            }
            let (key, meta) = (key.clone(), meta.clone());
            let was_tried = self.begin(&key);
            let looked = self.scrub_held(&key, &meta, &mut repository, edges).await;
            match looked {
                // What can't be looked at holds up nothing else.
                Err(halt) if was_tried => {
                    self.find(Finding {
                        found: Found::Unread,
                        what: what(&key),
                        key: key.to_string(),
                        why: halt.to_string(),
                        repair: None,
                    });
                    *after = Some(key);
                    return Err(Halt::Spent);
                }
                looked => looked?,
            }
            listing.next(&self.work).await?;
            *after = Some(key);
        }
        Ok(())
    }

    /// Looks at a manifest, a tag or a referrer.
    async fn scrub_held(
        &self,
        key: &Key,
        meta: &Meta,
        repository: &mut Repository,
        edges: &mut Edges,
    ) -> Result<(), Halt> {
        match key {
            Key::Manifest { name, digest } => {
                repository.enter(name);
                self.scrub_manifest(name, digest, key, meta, repository, edges)
                    .await
            }
            Key::Referrer {
                name,
                subject,
                manifest,
                ..
            } => {
                repository.enter(name);
                self.scrub_referrer(name, subject, manifest, key, meta, repository)
                    .await
            }
            Key::Tag { name, tag } => {
                repository.enter(name);
                self.scrub_tag(name, tag, key, meta, repository).await
            }
            _ => Ok(()),
        }
    }

    async fn scrub_manifest(
        &self,
        name: &Name,
        digest: &Digest,
        key: &Key,
        meta: &Meta,
        repository: &mut Repository,
        edges: &mut Edges,
    ) -> Result<(), Halt> {
        let read = self.read_manifest(name, digest, key, meta).await?;
        let Some((manifest, size, origin)) = read else {
            return Ok(());
        };
        self.checked(What::Manifest, size);
        if repository.manifests.is_empty() {
            self.scrub_catalog(name).await?;
        }
        if repository.manifests.len() < MAX_MANIFESTS {
            repository.manifests.insert(digest.clone());
        }
        for blob in &manifest.blobs {
            if !edges.has(name, digest, blob) {
                self.scrub_edge(name, digest, blob, origin).await?;
                // Should the step end before the manifest does, the next one need not look again.
                edges.see(name, digest, blob);
            }
        }
        if self.work.upkeep.settings.upstreams.mirrored(name).is_none() {
            for child in &manifest.manifests {
                if !repository.manifests.contains(child) {
                    self.require_manifest(name, child, || format!("index {digest} lists it"))
                        .await?;
                }
            }
        }
        if let Some(subject) = &manifest.subject {
            self.scrub_entry(name, subject, digest, &manifest, size)
                .await?;
        }
        Ok(())
    }

    /// Reads a manifest, and sets it aside if it is not what it should be; `None` where there is nothing to be seen of it.
    async fn read_manifest(
        &self,
        name: &Name,
        digest: &Digest,
        key: &Key,
        meta: &Meta,
    ) -> Result<Option<(Manifest, u64, Origin)>, Halt> {
        let finding = |found, why: String, repair| Finding {
            found,
            what: What::Manifest,
            key: key.to_string(),
            why,
            repair,
        };
        let stored: Option<Stored> = serde_json::from_str(&meta.metadata).ok();
        if stored.as_ref().is_some_and(|stored| stored.aside) {
            if self.work.upkeep.settings.upstreams.mirrored(name).is_none() {
                let why = "it was set aside, push it again".to_owned();
                self.find(finding(Found::Missing, why, None));
            }
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let mut is_right = false;
        for _ in 0..2 {
            let Some((now, read)) = self.read_object(key, MAX_SIZE).await? else {
                return Ok(None);
            };
            if now.etag != meta.etag {
                return Ok(None);
            }
            bytes = read.unwrap_or_default();
            is_right = digest.algorithm().digest(&bytes) == *digest;
            if is_right {
                break;
            }
        }
        let size = bytes.len() as u64;
        if !is_right {
            let found = digest.algorithm().digest(&bytes);
            let why = format!("its bytes have the digest {found}");
            self.work.require(3)?;
            self.find(finding(Found::Corrupt, why, Some(Repair::Aside)));
            if !self.work.is_dry && self.is_still(key, meta).await? {
                // The bytes stay, for who wants to know what became of them.
                let metadata = to_json(&Stored {
                    // If neither bytes nor metadata are right, repairs must not create a right.
                    mirrored: stored.as_ref().is_none_or(|stored| stored.mirrored),
                    media_type: stored.map(|stored| stored.media_type).unwrap_or_default(),
                    lists: None,
                    aside: true,
                });
                self.replace(key, meta, bytes, &metadata).await?;
                let upkeep = self.work.upkeep;
                upkeep.tiers.withdraw(Wanted::Manifest(name, digest)).await;
            }
            return Ok(None);
        }
        let manifest = match Manifest::read(&bytes) {
            Ok(manifest) => manifest,
            Err(error) => {
                // It keeps the label that it was stored with: nobody can say a better one.
                self.find(finding(Found::Corrupt, error.to_string(), None));
                return Ok(None);
            }
        };
        let origin = match &stored {
            Some(stored) => self.origin(name, stored),
            None => self.origin_by_grants(name, digest, &manifest).await?,
        };
        let right = Stored::of(&manifest, origin);
        // Metadata of an older version has no `lists`, which is not wrong.
        let is_right = |stored: &Stored| {
            stored.media_type == right.media_type
                && stored.lists.is_none_or(|lists| Some(lists) == right.lists)
        };
        if !stored.as_ref().is_some_and(is_right) {
            self.work.require(3)?;
            let why = match &stored {
                Some(stored) => format!(
                    "its stored media type is {:?}, but its bytes say {:?}",
                    stored.media_type, right.media_type
                ),
                None => "its stored media type can't be read; its bytes are right".to_owned(),
            };
            self.find(finding(Found::Corrupt, why, Some(Repair::Write)));
            if !self.work.is_dry && self.is_still(key, meta).await? {
                let metadata = to_json(&right);
                self.replace(key, meta, bytes, &metadata).await?;
                let upkeep = self.work.upkeep;
                upkeep.tiers.changed(Wanted::Manifest(name, digest));
            }
        }
        Ok(Some((manifest, size, origin)))
    }

    /// Where a manifest comes from, by its metadata and the settings.
    fn origin(&self, name: &Name, stored: &Stored) -> Origin {
        if stored.mirrored || self.work.upkeep.grants.is_under_upstream(name) {
            Origin::Upstream
        } else {
            Origin::Push
        }
    }

    /// Where a manifest with unreadable metadata comes from, judged by its grants. If there are
    /// none, it counts as an upstream's: the grants that the scrub writes then keep its blobs and
    /// create no right.
    async fn origin_by_grants(
        &self,
        name: &Name,
        digest: &Digest,
        manifest: &Manifest,
    ) -> Result<Origin, Halt> {
        if self.work.upkeep.grants.is_under_upstream(name) {
            return Ok(Origin::Upstream);
        }
        for blob in &manifest.blobs {
            for (_, meta) in self.work.list_below(Prefix::Grants(blob, name)).await? {
                match serde_json::from_str(&meta.metadata) {
                    Ok(Reason::Manifest { digest: other }) if other == *digest => {
                        return Ok(Origin::Push);
                    }
                    Ok(Reason::Mirrored { digest: other }) if other == *digest => {
                        return Ok(Origin::Upstream);
                    }
                    Ok(_) | Err(_) => {}
                }
            }
        }
        Ok(Origin::Upstream)
    }

    /// Looks closely at a blob that a manifest names: whether it is there, and held for the manifest.
    async fn scrub_edge(
        &self,
        name: &Name,
        manifest: &Digest,
        blob: &Digest,
        origin: Origin,
    ) -> Result<(), Halt> {
        let upkeep = self.work.upkeep;
        self.work.require(GRANTING)?;
        let key = Key::blob(blob);
        let is_there = self
            .work
            .head(&key)
            .await?
            .is_some_and(|meta| is_blob(&meta));
        if !is_there && upkeep.settings.upstreams.mirrored(name).is_none() {
            self.find(Finding {
                found: Found::Missing,
                what: What::Blob,
                key: key.to_string(),
                why: format!("manifest {manifest} in repository {name} needs it, push it again"),
                repair: None,
            });
        }
        let prefix = Prefix::Grants(blob, name);
        let is_held = |(_, meta): &(Key, Meta)| {
            let reason: Option<Reason> = serde_json::from_str(&meta.metadata).ok();
            reason.is_some_and(|reason| reason.manifest() == Some(manifest))
        };
        if self.work.list_below(prefix).await?.iter().any(is_held) {
            return Ok(());
        }
        // Who has deleted the manifest meanwhile needs no grant of it.
        if !self.work.is_stored(name, manifest).await? {
            return Ok(());
        }
        self.find(Finding {
            found: Found::Missing,
            what: What::Grant,
            key: prefix.to_string(),
            why: format!("manifest {manifest} needs {blob}, and nothing keeps that for it"),
            repair: Some(Repair::Write),
        });
        if self.work.is_dry {
            return Ok(());
        }
        self.work.spend(3)?;
        let reason = origin.reason(manifest.clone());
        upkeep
            .grants
            .keep(name, &[blob], &reason, upkeep.grants.bound())
            .await?;
        Ok(())
    }

    /// Looks for a manifest that something names.
    async fn require_manifest(
        &self,
        name: &Name,
        digest: &Digest,
        why: impl FnOnce() -> String,
    ) -> Result<(), Halt> {
        if !self.work.is_stored(name, digest).await? {
            self.find(Finding {
                found: Found::Missing,
                what: What::Manifest,
                key: Key::manifest(name, digest).to_string(),
                why: why(),
                repair: None,
            });
        }
        Ok(())
    }

    /// Looks for the entry of a manifest among the referrers of its subject.
    async fn scrub_entry(
        &self,
        name: &Name,
        subject: &Digest,
        digest: &Digest,
        manifest: &Manifest,
        size: u64,
    ) -> Result<(), Halt> {
        self.work.require(3)?;
        let prefix = Prefix::Referrer(name, subject, digest);
        let page = self.work.list(prefix, None, false).await?;
        if !page.objects.is_empty() || !self.work.is_stored(name, digest).await? {
            return Ok(());
        }
        self.find(Finding {
            found: Found::Missing,
            what: What::Referrer,
            key: prefix.to_string(),
            why: format!("manifest {digest} is about {subject}"),
            repair: Some(Repair::Write),
        });
        if !self.work.is_dry {
            self.work.spend(1)?;
            let upkeep = self.work.upkeep;
            upkeep
                .manifests
                .write_referrer(name, subject, digest, manifest, size)
                .await?;
        }
        Ok(())
    }

    /// Looks for the entry of a repository in the catalogue.
    async fn scrub_catalog(&self, name: &Name) -> Result<(), Halt> {
        self.work.require(3)?;
        let key = Key::catalog(name);
        if self.work.head(&key).await?.is_some() {
            return Ok(());
        }
        self.find(Finding {
            found: Found::Missing,
            what: What::Repository,
            key: key.to_string(),
            why: "the repository has manifests, and no entry in the catalogue".to_owned(),
            repair: Some(Repair::Write),
        });
        if !self.work.is_dry {
            self.work.spend(2)?;
            self.work.upkeep.manifests.write_catalog(name).await?;
        }
        Ok(())
    }

    async fn scrub_tag(
        &self,
        name: &Name,
        tag: &Tag,
        key: &Key,
        meta: &Meta,
        repository: &Repository,
    ) -> Result<(), Halt> {
        self.checked(What::Tag, 0);
        if let Ok(target) = serde_json::from_str(&meta.metadata) {
            return match target {
                TagTarget::Manifest { digest, .. }
                    if !repository.manifests.contains(&digest)
                        && self.work.upkeep.settings.upstreams.mirrored(name).is_none() =>
                {
                    self.require_manifest(name, &digest, || format!("tag {tag} names it"))
                        .await
                }
                TagTarget::Manifest { .. } | TagTarget::Tombstone { .. } => Ok(()),
            };
        }
        // Its body says the same.
        self.work.require(3)?;
        let body = self.read_object(key, MAX_BODY).await?;
        let text = body
            .filter(|(now, _)| now.etag == meta.etag)
            .and_then(|(_, bytes)| String::from_utf8(bytes?).ok())
            .filter(|text| from_json::<TagTarget>(key, text).is_ok());
        self.find(Finding {
            found: Found::Corrupt,
            what: What::Tag,
            key: key.to_string(),
            why: "what it names can't be read from its metadata".to_owned(),
            repair: text.as_ref().map(|_| Repair::Write),
        });
        if let Some(text) = text.filter(|_| !self.work.is_dry) {
            self.replace(key, meta, text.clone().into_bytes(), &text)
                .await?;
        }
        Ok(())
    }

    async fn scrub_referrer(
        &self,
        name: &Name,
        subject: &Digest,
        digest: &Digest,
        key: &Key,
        meta: &Meta,
        repository: &Repository,
    ) -> Result<(), Halt> {
        self.checked(What::Referrer, 0);
        self.work.require(8)?;
        // Its manifest is written after it: one that is young may be of a push under way, and so may one that grows old while the
        // manifest is looked for.
        let is_old = self.work.is_old(meta);
        let is_stored =
            repository.manifests.contains(digest) || self.work.is_stored(name, digest).await?;
        let finding = |found, why: &str, repair| Finding {
            found,
            what: What::Referrer,
            key: key.to_string(),
            why: why.to_owned(),
            repair: Some(repair),
        };
        if !is_stored {
            if is_old {
                let why = "its manifest is not stored";
                self.find(finding(Found::Orphaned, why, Repair::Delete));
                self.work.delete(std::slice::from_ref(key)).await?;
            }
            return Ok(());
        }
        let is_readable = if meta.metadata.is_empty() {
            let body = self.read_object(key, MAX_BODY).await?;
            let bytes = body.and_then(|(_, bytes)| bytes).unwrap_or_default();
            serde_json::from_slice::<Referrer>(&bytes).is_ok()
        } else {
            serde_json::from_str::<Referrer>(&meta.metadata).is_ok()
        };
        if is_readable {
            return Ok(());
        }
        let manifest_key = Key::manifest(name, digest);
        let Some((_, Some(bytes))) = self.read_object(&manifest_key, MAX_SIZE).await? else {
            return Ok(());
        };
        let Ok(manifest) = Manifest::read(&bytes) else {
            return Ok(());
        };
        self.find(finding(
            Found::Corrupt,
            "what it says of its manifest can't be read",
            Repair::Write,
        ));
        if !self.work.is_dry {
            self.work.spend(1)?;
            let upkeep = self.work.upkeep;
            let size = bytes.len() as u64;
            upkeep
                .manifests
                .write_referrer(name, subject, digest, &manifest, size)
                .await?;
            self.work.delete(std::slice::from_ref(key)).await?;
        }
        Ok(())
    }
}

impl Repository {
    /// Forgets the manifests of another repository.
    fn enter(&mut self, name: &Name) {
        if self.name.as_ref() != Some(name) {
            *self = Self {
                name: Some(name.clone()),
                manifests: BTreeSet::new(),
            };
        }
    }
}

/// The kind of what a key of `repositories/` has.
const fn what(key: &Key) -> What {
    match key {
        Key::Tag { .. } => What::Tag,
        Key::Referrer { .. } => What::Referrer,
        _ => What::Manifest,
    }
}

/// The operations of a close look at a blob of a manifest, with a grant.
const GRANTING: u32 = 6;

impl Edges {
    /// Notes that a manifest holds a blob that is there.
    pub(super) fn see(&mut self, name: &Name, manifest: &Digest, blob: &Digest) {
        self.number += 1;
        self.seen.insert(name, &edge(manifest, blob));
    }

    fn has(&self, name: &Name, manifest: &Digest, blob: &Digest) -> bool {
        self.seen.may_have(name, &edge(manifest, blob))
    }
}

/// A name for a blob of a manifest.
fn edge(manifest: &Digest, blob: &Digest) -> Digest {
    Algorithm::Sha256.digest(format!("{manifest} {blob}").as_bytes())
}
