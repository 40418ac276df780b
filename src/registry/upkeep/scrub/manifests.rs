//! Scrubbing repositories: manifests with everything that they name, tags, referrers, entries of
//! the catalogue.

use crate::{
    digest::Digest,
    manifest::{MAX_SIZE, Manifest},
    name::Name,
    platform::Platform,
    registry::upkeep::{
        listing::Listing,
        scrub::{
            Scrub,
            cursor::Edges,
            report::{Damage, Finding, Repair},
            repository::{MAX_MANIFESTS, Repository, what},
        },
        step::{Halt, What},
    },
    store::{
        Meta,
        document::{Stored, to_json},
        key::{Key, Prefix},
        tiers::Wanted,
    },
};

impl<P: Platform> Scrub<'_, P> {
    /// Checks the objects of repositories, from a key on.
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
                // An object that can't be checked must not block the others.
                Err(halt) if was_tried => {
                    self.find(Finding {
                        found: Damage::Unread,
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

    /// Checks a manifest, a tag or a referrer.
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
                self.scrub_manifest(name, digest, meta, repository, edges)
                    .await
            }
            Key::Referrer { name, .. } => {
                repository.enter(name);
                self.scrub_referrer(key, meta, repository).await
            }
            Key::Tag { name, tag } => {
                repository.enter(name);
                self.scrub_tag(name, tag, meta, repository).await
            }
            _ => Ok(()),
        }
    }

    async fn scrub_manifest(
        &self,
        name: &Name,
        digest: &Digest,
        meta: &Meta,
        repository: &mut Repository,
        edges: &mut Edges,
    ) -> Result<(), Halt> {
        let read = self.read_manifest(name, digest, meta).await?;
        let Some((manifest, size, stored)) = read else {
            return Ok(());
        };
        let origin = self.origin(name, &stored);
        self.checked(What::Manifest, size);
        if repository.manifests.is_empty() {
            self.scrub_catalog(name).await?;
        }
        if repository.manifests.len() < MAX_MANIFESTS {
            repository.manifests.insert(digest.clone());
        }
        let mut absent = Vec::new();
        let blobs = manifest.blobs.keys().map(|blob| (blob, false));
        let undecided = manifest.undecided.keys().map(|blob| (blob, true));
        for (blob, is_undecided) in blobs.chain(undecided) {
            if !edges.has(name, digest, blob) {
                let is_stored_child = if is_undecided {
                    self.is_stored_child(name, digest, blob).await?
                } else {
                    None
                };
                match is_stored_child {
                    None => self.scrub_edge(name, digest, blob, origin).await?,
                    Some(true) => {}
                    Some(false) => absent.push(blob.to_string()),
                }
                // If the step ends before the manifest does,
                // the next one need not check this edge again.
                edges.see(name, digest, blob);
            }
        }
        if self.work.upkeep.settings.upstreams.mirrored(name).is_none() {
            for child in manifest.manifests.keys() {
                if !repository.manifests.contains(child)
                    && !stored.lacks(&manifest, child)
                    && !self.work.is_stored(name, child).await?
                {
                    absent.push(child.to_string());
                }
            }
            self.find_incomplete(name, digest, &absent).await?;
        }
        if let Some(subject) = &manifest.subject {
            self.scrub_entry(name, subject, digest, &manifest, size)
                .await?;
        }
        Ok(())
    }

    /// Reports an index that lists absent manifests.
    ///
    /// Nothing tells a manifest that a client deleted from one that was lost.
    async fn find_incomplete(
        &self,
        name: &Name,
        index: &Digest,
        absent: &[String],
    ) -> Result<(), Halt> {
        if !absent.is_empty() && self.work.is_stored(name, index).await? {
            let absent = absent.join(", ");
            self.find(Finding {
                found: Damage::Incomplete,
                what: What::Manifest,
                key: Key::manifest(name, index).to_string(),
                why: format!("it lists {absent}: push them again unless they were deleted"),
                repair: None,
            });
        }
        Ok(())
    }

    /// Reads a manifest, and says what is wrong with its bytes.
    /// `None` if it has changed since it was listed.
    async fn examine_bytes(
        &self,
        digest: &Digest,
        key: &Key,
        meta: &Meta,
    ) -> Result<Option<(Vec<u8>, Option<String>)>, Halt> {
        if meta.size > MAX_SIZE {
            // No push and no upstream can have written so many bytes:
            // they are neither read nor kept.
            let wrong = format!(
                "it has {} bytes; a manifest has at most {MAX_SIZE}",
                meta.size
            );
            return Ok(Some((Vec::new(), Some(wrong))));
        }
        let Some(bytes) = self.read_twice(digest, key, meta).await? else {
            return Ok(None);
        };
        let found = digest.algorithm().digest(&bytes);
        let wrong = (found != *digest).then(|| format!("its bytes have the digest {found}"));
        Ok(Some((bytes, wrong)))
    }

    /// Reads a manifest, and again if its bytes are wrong,
    /// because a read may have failed on its way.
    /// `None` if it has changed since it was listed.
    async fn read_twice(
        &self,
        digest: &Digest,
        key: &Key,
        meta: &Meta,
    ) -> Result<Option<Vec<u8>>, Halt> {
        let mut bytes = Vec::new();
        for _ in 0..2 {
            let Some((now, read)) = self.read_object(key, MAX_SIZE).await? else {
                return Ok(None);
            };
            if now.etag != meta.etag {
                return Ok(None);
            }
            let Some(read) = read else {
                return Ok(None);
            };
            bytes = read;
            if digest.algorithm().digest(&bytes) == *digest {
                break;
            }
        }
        Ok(Some(bytes))
    }

    /// Sets aside a manifest whose bytes are wrong.
    /// The bytes that were read stay, for people who investigate.
    async fn set_manifest_aside(
        &self,
        key: &Key,
        meta: &Meta,
        stored: Option<Stored>,
        bytes: Vec<u8>,
    ) -> Result<(), Halt> {
        let metadata = to_json(&Stored {
            // If neither bytes nor metadata can be trusted, a repair must not create a right.
            mirrored: stored.as_ref().is_none_or(|stored| stored.mirrored),
            media_type: stored.map(|stored| stored.media_type).unwrap_or_default(),
            lists: None,
            aside: true,
            absent: Vec::new(),
        })?;
        self.replace(key, meta, bytes, &metadata).await?;
        Ok(())
    }

    /// Reads a manifest, and sets it aside if it is corrupt; `None` if it can't be used.
    async fn read_manifest(
        &self,
        name: &Name,
        digest: &Digest,
        meta: &Meta,
    ) -> Result<Option<(Manifest, u64, Stored)>, Halt> {
        let key = &Key::manifest(name, digest);
        let finding = |found, why: String, repair| Finding {
            found,
            what: What::Manifest,
            key: key.to_string(),
            why,
            repair,
        };
        let stored: Option<Stored> = serde_json::from_str(&meta.metadata).ok();
        if stored.as_ref().is_some_and(|stored| stored.aside) {
            let is_mirrored = self.work.upkeep.settings.upstreams.mirrored(name).is_some();
            if !is_mirrored && self.is_still(key, meta).await? {
                let why = "it was quarantined; push it again".to_owned();
                self.find(finding(Damage::Missing, why, None));
            }
            return Ok(None);
        }
        let Some((bytes, wrong)) = self.examine_bytes(digest, key, meta).await? else {
            return Ok(None);
        };
        if let Some(why) = wrong {
            self.work.require(3)?;
            self.find(finding(Damage::Corrupt, why, Some(Repair::Aside)));
            if !self.work.is_dry && self.is_still(key, meta).await? {
                self.set_manifest_aside(key, meta, stored, bytes).await?;
                let upkeep = self.work.upkeep;
                upkeep.tiers.withdraw(Wanted::Manifest(name, digest)).await;
            }
            return Ok(None);
        }
        let size = bytes.len() as u64;
        let manifest = match Manifest::read(&bytes) {
            Ok(manifest) => manifest,
            Err(error) => {
                // It keeps its stored media type, because no better one can be derived.
                self.find(finding(Damage::Corrupt, error.to_string(), None));
                return Ok(None);
            }
        };
        let origin = match &stored {
            Some(stored) => self.origin(name, stored),
            None => self.origin_by_grants(name, digest, &manifest).await?,
        };
        let mut right = Stored::of(&manifest, origin);
        if let Some(stored) = &stored {
            right.absent.clone_from(&stored.absent);
        }
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
            self.find(finding(Damage::Corrupt, why, Some(Repair::Write)));
            if !self.work.is_dry && self.is_still(key, meta).await? {
                let metadata = to_json(&right)?;
                self.replace(key, meta, bytes, &metadata).await?;
                let upkeep = self.work.upkeep;
                upkeep.tiers.changed(Wanted::Manifest(name, digest));
            }
        }
        Ok(Some((manifest, size, right)))
    }
}
