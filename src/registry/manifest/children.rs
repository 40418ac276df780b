//! The manifests that a manifest lists, and manifests that retention is removing.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    digest::Digest,
    error::{Error, RETRY_AFTER},
    host::Clock as _,
    ledger::MemoryKind,
    manifest::{self, MAX_SIZE},
    name::Name,
    platform::Platform,
    registry::{bound::for_each, manifest::Manifests},
    store::{Meta, Streams as _, document::Stored, key::Key, tiers::Wanted},
};

/// The manifests that a manifest lists.
#[derive(Debug)]
pub(in crate::registry) enum Children {
    /// These, possibly none, and whether each is a manifest by its media type.
    Listed(BTreeMap<Digest, bool>),
    /// Its bytes can't be read.
    Unreadable,
    /// It was deleted meanwhile.
    Gone,
}

impl<P: Platform> Manifests<P> {
    /// Whether retention removes untagged manifests of this repository.
    pub(super) fn removes_untagged(&self, name: &Name) -> bool {
        let policy = self.settings.retention.of(name);
        policy.is_some_and(|policy| policy.untagged().is_some())
    }

    /// The manifests that a manifest lists.
    pub(in crate::registry) async fn children(
        &self,
        name: &Name,
        digest: &Digest,
        meta: &Meta,
    ) -> Result<Children, Error> {
        if !may_have_children(meta) {
            return Ok(Children::Listed(BTreeMap::new()));
        }
        let key = Key::manifest(name, digest);
        let Some(object) = self.store.get(&key, None).await? else {
            return Ok(Children::Gone);
        };
        let size = object.meta.size;
        let lease = self
            .ledger
            .wait_if_large(&self.host, MemoryKind::Wasm, size);
        let _lease = lease.await?;
        let Some(bytes) = self.host.collect(object.body, MAX_SIZE).await? else {
            return Ok(Children::Unreadable);
        };
        if digest.algorithm().digest(&bytes) != *digest {
            // The original bytes may have listed others.
            return Ok(Children::Unreadable);
        }
        Ok(manifest::possible_children(&bytes).map_or(Children::Unreadable, Children::Listed))
    }

    /// Refuses a push of a manifest if that is gone although it was `tagged`, or if one that it
    /// lists is. Takes its tags back then.
    ///
    /// A deletion looks for tags again after it has deleted the manifest.
    /// So it finds the tags of a push that still saw the manifest.
    pub(super) async fn require_there(
        &self,
        name: &Name,
        digest: &Digest,
        tagged: &[(Key, Meta)],
        listed: &BTreeSet<Digest>,
    ) -> Result<(), Error> {
        let named = listed.iter().chain((!tagged.is_empty()).then_some(digest));
        let looked = for_each(named, |named| async move {
            let found = self.store.head(&Key::manifest(name, named)).await?;
            Ok(found.is_none().then_some(named))
        });
        let Some(gone) = looked.await?.into_iter().flatten().next() else {
            return Ok(());
        };
        self.tiers.changed(Wanted::Manifest(name, gone));
        for_each(tagged, |(key, meta)| self.bury(key, meta, digest)).await?; // 8
        let found = format!("manifest {gone} was deleted during the push; push it again");
        Err(Error::unavailable(found, RETRY_AFTER))
    }

    /// Refuses to name manifests that retention is removing at this moment. The caller has stored
    /// or seen each of them before.
    pub(super) async fn require_staying<'d>(
        &self,
        name: &Name,
        digests: impl Iterator<Item = &'d Digest>,
    ) -> Result<(), Error> {
        if !self.removes_untagged(name) {
            return Ok(());
        }
        let removed = for_each(digests, |digest| async move {
            let claim = self.store.head(&Key::claim(name, digest)).await?;
            // A claim that is as old as the grace period has no owner.
            let is_young =
                |claim: Meta| self.host.now().since(claim.uploaded) < self.settings.grace;
            // The claim may have been released since, after the manifest was removed.
            let is_going = claim.is_some_and(is_young)
                || self
                    .store
                    .head(&Key::manifest(name, digest))
                    .await?
                    .is_none();
            Ok(is_going.then(|| digest.clone()))
        });
        match removed.await?.into_iter().flatten().next() {
            None => Ok(()),
            Some(digest) => {
                let found =
                    format!("manifest {digest} is being removed; push it again in a moment");
                Err(Error::unavailable(found, RETRY_AFTER))
            }
        }
    }
}

/// Whether a manifest may list others: yes, unless its bytes were read when it was stored and
/// listed none.
/// The stored media type proves nothing, because clients chose it once.
pub(in crate::registry) fn may_have_children(meta: &Meta) -> bool {
    serde_json::from_str::<Stored>(&meta.metadata)
        .map_or(true, |stored| stored.lists != Some(false))
}
