//! Writing manifests, tags and entries of referrers (Manifest PUT of the removal protocol).

use std::collections::BTreeSet;

use crate::{
    digest::Digest,
    error::Error,
    host::Random as _,
    manifest::Manifest,
    name::{Name, Tag},
    platform::Platform,
    registry::{bound::Bound, manifest::Manifests},
    store::{
        self, Condition, Meta, PutOptions,
        document::{ManifestOrigin, Referrer, Stored, TagTarget, from_json, to_json},
        key::Key,
        tiers::Wanted,
    },
};

/// The most bytes of metadata that every store accepts, with room for its name.
const MAX_METADATA: usize = 1_900;

/// A manifest that is about to be stored in a repository.
#[derive(Clone, Copy)]
pub(in crate::registry) struct NewManifest<'a> {
    pub(in crate::registry) name: &'a Name,
    pub(in crate::registry) digest: &'a Digest,
    pub(in crate::registry) manifest: &'a Manifest,
    pub(in crate::registry) origin: ManifestOrigin,
    /// The listed manifests that are absent.
    pub(in crate::registry) absent: &'a BTreeSet<Digest>,
    pub(in crate::registry) bound: Bound,
}

impl<P: Platform> Manifests<P> {
    /// KEEP, for all blobs of a manifest: fresh grants even if the manifest is stored already.
    pub(in crate::registry) async fn keep_blobs(&self, new: NewManifest<'_>) -> Result<(), Error> {
        let blobs: Vec<&Digest> = new.manifest.blobs.keys().collect();
        if blobs.is_empty() {
            return Ok(());
        }
        let reason = new.origin.reason(new.digest.clone());
        self.grants
            .keep(new.name, &blobs, &reason, new.bound)
            .await?; // 2
        Ok(())
    }

    /// Lists a manifest of this many bytes that is about to be stored: among the referrers of its
    /// subject, and its repository in the catalogue.
    pub(in crate::registry) async fn announce(
        &self,
        new: NewManifest<'_>,
        size: u64,
    ) -> Result<(), Error> {
        let NewManifest {
            name,
            digest,
            manifest,
            bound,
            ..
        } = new;
        if let Some(subject) = &manifest.subject {
            bound.check(&self.host)?;
            self.write_referrer(name, subject, digest, manifest, size)
                .await?; // 4
        }
        self.write_catalog(name).await
    }

    /// Stores a manifest whose blobs are kept, and that was announced.
    pub(in crate::registry) async fn write_manifest(
        &self,
        new: NewManifest<'_>,
        bytes: Vec<u8>,
    ) -> Result<(), Error> {
        let NewManifest {
            name,
            digest,
            manifest,
            origin,
            absent,
            bound,
        } = new;
        let stored = to_json(&Stored::of(manifest, origin).lacking(manifest, absent))?;
        let options = PutOptions {
            digest: Some(digest),
            metadata: &stored,
            ..PutOptions::default()
        };
        bound.check(&self.host)?; // 5 BOUND
        let content = store::Content::Bytes(bytes);
        self.store
            .put(&Key::manifest(name, digest), content, options)
            .await?;
        self.tiers.changed(Wanted::Manifest(name, digest));
        Ok(())
    }

    /// Points a tag at a manifest, and returns the tag's object.
    /// Returns `refusal`, if there is one, for a tag that names another manifest.
    pub(super) async fn write_tag(
        &self,
        name: &Name,
        tag: &Tag,
        target: &TagTarget,
        refusal: Option<&Error>,
        bound: Bound,
    ) -> Result<(Key, Meta), Error> {
        let digest = target.digest();
        let target = to_json(target)?;
        loop {
            let seen = match refusal {
                Some(refusal) => Some(self.unmoved(name, tag, digest, refusal).await?),
                None => None,
            };
            let condition = match &seen {
                None => Condition::Always,
                Some(None) => Condition::Absent,
                Some(Some(meta)) => Condition::Matches(&meta.etag),
            };
            let options = PutOptions {
                condition,
                metadata: &target,
                ..PutOptions::default()
            };
            let content = store::Content::Bytes(target.as_bytes().to_vec());
            let key = Key::tag(name, tag);
            // Retention removes no manifest younger than the grace period, so none that is tagged
            // within the BOUND.
            bound.check(&self.host)?;
            let written = self.store.put(&key, content, options).await;
            // A write that failed may have been done.
            self.tiers.tag_changed(&key);
            if let Some(meta) = written? {
                return Ok((key, meta));
            }
        }
    }

    /// The stored object of a tag, or the refusal if the tag names another manifest.
    pub(super) async fn unmoved(
        &self,
        name: &Name,
        tag: &Tag,
        digest: &Digest,
        refusal: &Error,
    ) -> Result<Option<Meta>, Error> {
        let key = Key::tag(name, tag);
        let Some(meta) = self.store.head(&key).await? else {
            return Ok(None);
        };
        match from_json(&key, &meta.metadata)? {
            TagTarget::Manifest { digest: named, .. } if named != *digest => Err(refusal.clone()),
            TagTarget::Manifest { .. } | TagTarget::Tombstone { .. } => Ok(Some(meta)),
        }
    }

    pub(in crate::registry) async fn write_referrer(
        &self,
        name: &Name,
        subject: &Digest,
        digest: &Digest,
        manifest: &Manifest,
        size: u64,
    ) -> Result<(), Error> {
        let entry = to_json(&Referrer {
            media_type: manifest.media_type.clone(),
            digest: digest.clone(),
            size,
            artifact_type: manifest.artifact_type.clone(),
            annotations: manifest.annotations.clone(),
        })?;
        let key = Key::referrer(name, subject, digest, &self.host.nonce());
        // A listing reads metadata only; an entry with long annotations costs a read of its own.
        let (metadata, body) = if entry.len() <= MAX_METADATA {
            (entry, Vec::new())
        } else {
            let short = to_json(&Referrer {
                media_type: manifest.media_type.clone(),
                digest: digest.clone(),
                size,
                artifact_type: manifest.artifact_type.clone(),
                annotations: None,
            })?;
            let short = Some(short).filter(|short| short.len() <= MAX_METADATA);
            (short.unwrap_or_default(), entry.into_bytes())
        };
        let options = PutOptions {
            metadata: &metadata,
            ..PutOptions::default()
        };
        self.store
            .put(&key, store::Content::Bytes(body), options)
            .await?;
        Ok(())
    }

    /// Adds a repository to the catalogue, if it is not there yet.
    pub(in crate::registry) async fn write_catalog(&self, name: &Name) -> Result<(), Error> {
        let key = Key::catalog(name);
        if self.store.head(&key).await?.is_none() {
            let options = PutOptions {
                condition: Condition::Absent,
                ..PutOptions::default()
            };
            self.store
                .put(&key, store::Content::Bytes(Vec::new()), options)
                .await?;
        }
        Ok(())
    }
}
