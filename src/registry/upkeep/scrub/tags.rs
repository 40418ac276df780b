//! Scrubbing tags, referrers and entries of the catalogue.

use crate::{
    digest::Digest,
    manifest::{MAX_SIZE, Manifest},
    name::{Name, Tag},
    platform::Platform,
    registry::upkeep::{
        listing::Listing,
        scrub::{
            Scrub,
            report::{Damage, Finding, Repair},
            repository::Repository,
        },
        step::{Halt, What},
    },
    store::{
        Meta,
        document::{Referrer, TagTarget, from_json},
        key::{Key, Prefix},
    },
};

/// The most bytes of a tag's or an entry's body.
const MAX_BODY: u64 = 4 * 1024 * 1024;

impl<P: Platform> Scrub<'_, P> {
    /// Checks the entry of a manifest among the referrers of its subject.
    pub(super) async fn scrub_entry(
        &self,
        name: &Name,
        subject: &Digest,
        digest: &Digest,
        manifest: &Manifest,
        size: u64,
    ) -> Result<(), Halt> {
        self.work.require(3)?;
        let prefix = Prefix::Referrer(name, subject, digest);
        let mut entries = Listing::new(prefix, None, false);
        let is_listed = entries.peek(&self.work).await?.is_some();
        if is_listed || !self.work.is_stored(name, digest).await? {
            return Ok(());
        }
        self.find(Finding {
            found: Damage::Missing,
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

    /// Checks the entry of a repository in the catalogue.
    pub(super) async fn scrub_catalog(&self, name: &Name) -> Result<(), Halt> {
        self.work.require(3)?;
        let key = Key::catalog(name);
        if self.work.head(&key).await?.is_some() {
            return Ok(());
        }
        self.find(Finding {
            found: Damage::Missing,
            what: What::Repository,
            key: key.to_string(),
            why: "the repository has manifests, but no entry in the catalogue".to_owned(),
            repair: Some(Repair::Write),
        });
        if !self.work.is_dry {
            self.work.spend(2)?;
            self.work.upkeep.manifests.write_catalog(name).await?;
        }
        Ok(())
    }

    pub(super) async fn scrub_tag(
        &self,
        name: &Name,
        tag: &Tag,
        meta: &Meta,
        repository: &Repository,
    ) -> Result<(), Halt> {
        self.checked(What::Tag, 0);
        let key = &Key::tag(name, tag);
        if let Ok(target) = serde_json::from_str(&meta.metadata) {
            return match target {
                TagTarget::Manifest { digest, .. }
                    if !repository.manifests.contains(&digest)
                        && self.work.upkeep.settings.upstreams.mirrored(name).is_none() =>
                {
                    self.scrub_target(key, meta, name, &digest).await
                }
                TagTarget::Manifest { .. } | TagTarget::Tombstone { .. } => Ok(()),
            };
        }
        // The body is a copy of the metadata.
        self.work.require(3)?;
        let body = self.read_object(key, MAX_BODY).await?;
        let text = body
            .filter(|(now, _)| now.etag == meta.etag)
            .and_then(|(_, bytes)| String::from_utf8(bytes?).ok())
            .filter(|text| from_json::<TagTarget>(key, text).is_ok());
        self.find(Finding {
            found: Damage::Corrupt,
            what: What::Tag,
            key: key.to_string(),
            why: "its metadata, which names its manifest, can't be read".to_owned(),
            repair: text.as_ref().map(|_| Repair::Write),
        });
        if let Some(text) = text.filter(|_| !self.work.is_dry) {
            self.replace(key, meta, text.clone().into_bytes(), &text)
                .await?;
        }
        Ok(())
    }

    /// Checks that the manifest of a tag is stored.
    ///
    /// A deletion buries the tags before it deletes the manifest.
    /// So a manifest is missing only if its tag is unchanged.
    async fn scrub_target(
        &self,
        key: &Key,
        meta: &Meta,
        name: &Name,
        digest: &Digest,
    ) -> Result<(), Halt> {
        if !self.work.is_stored(name, digest).await? && self.is_still(key, meta).await? {
            self.find(Finding {
                found: Damage::Missing,
                what: What::Manifest,
                key: Key::manifest(name, digest).to_string(),
                why: format!("{key} names it"),
                repair: None,
            });
        }
        Ok(())
    }

    pub(super) async fn scrub_referrer(
        &self,
        key: &Key,
        meta: &Meta,
        repository: &Repository,
    ) -> Result<(), Halt> {
        let Key::Referrer {
            name,
            subject,
            manifest: digest,
            ..
        } = key
        else {
            return Ok(());
        };
        self.checked(What::Referrer, 0);
        self.work.require(8)?;
        // The manifest is written after its entry, so a young entry may belong to a push under way.
        // Judge its age now: it may pass the grace period while the manifest is looked for.
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
                self.find(finding(Damage::Orphaned, why, Repair::Delete));
                self.work.delete(std::slice::from_ref(key)).await?;
            }
            return Ok(());
        }
        let is_readable = if meta.metadata.is_empty() {
            let body = self.read_object(key, MAX_BODY).await?;
            body.and_then(|(_, bytes)| bytes)
                .is_some_and(|bytes| serde_json::from_slice::<Referrer>(&bytes).is_ok())
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
            Damage::Corrupt,
            "its metadata can't be read",
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
