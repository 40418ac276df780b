//! Edges: the grants that a manifest needs on its blobs.

use crate::{
    digest::{Algorithm, Digest},
    manifest::Manifest,
    name::Name,
    platform::Platform,
    registry::upkeep::{
        scrub::{
            Scrub,
            cursor::Edges,
            report::{Damage, Finding, Repair},
        },
        step::{Halt, What},
    },
    store::{
        Meta,
        document::{ManifestOrigin, Reason, Stored, is_blob},
        key::{Key, Prefix},
    },
};

/// The operations that checking a blob of a manifest takes, with a new grant.
const GRANTING: u32 = 7;

impl Edges {
    /// Notes that a manifest has a grant on a blob that is there.
    pub(super) fn see(&mut self, name: &Name, manifest: &Digest, blob: &Digest) {
        self.number += 1;
        self.seen.insert(name, &edge(manifest, blob));
    }

    pub(super) fn has(&self, name: &Name, manifest: &Digest, blob: &Digest) -> bool {
        self.seen.may_have(name, &edge(manifest, blob))
    }
}

/// A digest that stands for a blob of a manifest.
fn edge(manifest: &Digest, blob: &Digest) -> Digest {
    Algorithm::Sha256.digest(format!("{manifest} {blob}").as_bytes())
}

impl<P: Platform> Scrub<'_, P> {
    /// Checks a blob that a manifest names: whether it is there, and has a grant for the manifest.
    pub(super) async fn scrub_edge(
        &self,
        name: &Name,
        manifest: &Digest,
        blob: &Digest,
        origin: ManifestOrigin,
    ) -> Result<(), Halt> {
        let upkeep = self.work.upkeep;
        self.work.require(GRANTING)?;
        let key = Key::blob(blob);
        let is_there = self
            .work
            .head(&key)
            .await?
            .is_some_and(|meta| is_blob(&meta));
        if !is_there
            && upkeep.settings.upstreams.mirrored(name).is_none()
            && self.work.is_stored(name, manifest).await?
        {
            self.find(Finding {
                found: Damage::Missing,
                what: What::Blob,
                key: key.to_string(),
                why: format!(
                    "manifest {manifest} in repository {name} refers to it; push it again"
                ),
                repair: None,
            });
        }
        let prefix = Prefix::Grants(blob, name);
        if self.is_held(name, manifest, blob).await? {
            return Ok(());
        }
        // If the manifest was deleted meanwhile, it needs no grant.
        if !self.work.is_stored(name, manifest).await? {
            return Ok(());
        }
        self.find(Finding {
            found: Damage::Missing,
            what: What::Grant,
            key: prefix.to_string(),
            why: format!("manifest {manifest} refers to {blob}, and no grant keeps the blob"),
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

    /// Whether a manifest has a grant on a blob.
    async fn is_held(&self, name: &Name, manifest: &Digest, blob: &Digest) -> Result<bool, Halt> {
        let is_of_manifest = |(_, meta): &(Key, Meta)| {
            let reason: Option<Reason> = serde_json::from_str(&meta.metadata).ok();
            reason.is_some_and(|reason| reason.manifest() == Some(manifest))
        };
        let grants = self.work.list_below(Prefix::Grants(blob, name)).await?;
        Ok(grants.iter().any(is_of_manifest))
    }

    /// Whether content that an index lists under a media type that tells nothing is a manifest, and
    /// whether that is stored; `None` if it is a blob. The index has a grant on it if it was a blob
    /// when the index was pushed.
    pub(super) async fn is_stored_child(
        &self,
        name: &Name,
        index: &Digest,
        listed: &Digest,
    ) -> Result<Option<bool>, Halt> {
        self.work.require(3)?;
        if self.is_held(name, index, listed).await? {
            return Ok(None);
        }
        if self.work.is_stored(name, listed).await? {
            return Ok(Some(true));
        }
        // A blob that has lost its grant is still stored, or is missed by all that name it.
        let blob = self.work.head(&Key::blob(listed)).await?;
        Ok(blob.is_none().then_some(false))
    }

    /// The origin of a manifest, by its metadata and the settings.
    pub(super) fn origin(&self, name: &Name, stored: &Stored) -> ManifestOrigin {
        if stored.mirrored || self.work.upkeep.grants.is_under_upstream(name) {
            ManifestOrigin::Upstream
        } else {
            ManifestOrigin::Push
        }
    }

    /// The origin of a manifest with unreadable metadata, by its grants.
    /// If there are none, it counts as an upstream's: the grants that the scrub writes then keep
    /// its blobs and create no right.
    pub(super) async fn origin_by_grants(
        &self,
        name: &Name,
        digest: &Digest,
        manifest: &Manifest,
    ) -> Result<ManifestOrigin, Halt> {
        if self.work.upkeep.grants.is_under_upstream(name) {
            return Ok(ManifestOrigin::Upstream);
        }
        for blob in manifest.blobs.keys().chain(manifest.undecided.keys()) {
            for (_, meta) in self.work.list_below(Prefix::Grants(blob, name)).await? {
                match serde_json::from_str(&meta.metadata) {
                    Ok(Reason::Manifest { digest: other }) if other == *digest => {
                        return Ok(ManifestOrigin::Push);
                    }
                    Ok(Reason::Mirrored { digest: other }) if other == *digest => {
                        return Ok(ManifestOrigin::Upstream);
                    }
                    Ok(_) | Err(_) => {}
                }
            }
        }
        Ok(ManifestOrigin::Upstream)
    }
}
