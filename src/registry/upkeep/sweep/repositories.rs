//! Sweeping repositories: referrers without a manifest are deleted.
//! Manifests are counted, and inserted into the filter for the sweep of grants.
//!
//! Tombstones of tags stay.
//! A deletion has no condition, so it could delete a tag that was just pushed over its tombstone.
//! A repository's entry in the catalogue stays too, because a push reads it before it writes.

use crate::{
    platform::Platform,
    registry::upkeep::{
        filter::Filter,
        inventory::Inventory,
        listing::{Listing, Youngest},
        step::{Halt, JobStep, Removal, RemovalAction, What},
    },
    store::{
        Meta,
        key::{Key, Prefix},
    },
};

impl<P: Platform> JobStep<'_, P> {
    /// Sweeps the objects of repositories, from a key on.
    pub(super) async fn sweep_repositories(
        &self,
        after: &mut Option<Key>,
        manifests: &mut Filter,
        inventory: &mut Inventory,
    ) -> Result<(), Halt> {
        let mut listing = Listing::new(
            Prefix::Repositories,
            after.as_ref().map(Key::to_string),
            false,
        );
        // The youngest entry of the current manifest; its entries are listed one after the other.
        let mut entries: Option<(Key, Youngest)> = None;
        let walked = async {
            while let Some((key, meta)) = listing.next(self).await? {
                self.require_more()?;
                if self
                    .sweep_holding(&key, &meta, manifests, inventory)
                    .await?
                {
                    let entry = Youngest::new(&key, &meta, self.is_old(&meta));
                    match &mut entries {
                        Some((first, youngest)) if is_of_one_manifest(first, &key) => {
                            if let Some(older) = youngest.surpass(entry) {
                                let why = "its manifest has a newer entry";
                                // All entries of one manifest have the same size.
                                self.delete_referrer(&older, meta.size, why).await?;
                            }
                        }
                        other => *other = Some((key.clone(), entry)),
                    }
                }
                *after = Some(key);
            }
            Ok(())
        };
        let walked: Result<(), Halt> = walked.await;
        let flushed = self.flush().await;
        self.forget_told();
        walked.and(flushed)
    }

    /// Checks one key. Returns whether it is a referrer's entry that stays.
    async fn sweep_holding(
        &self,
        key: &Key,
        meta: &Meta,
        manifests: &mut Filter,
        inventory: &mut Inventory,
    ) -> Result<bool, Halt> {
        match key {
            Key::Manifest { .. } if self.is_missed(key) => {}
            Key::Manifest { name, digest } => {
                manifests.insert(name, digest);
                inventory.manifests += 1;
                inventory.count(name, |holding| holding.manifests += 1);
            }
            Key::Tag { name, .. } if meta.size > 0 => {
                inventory.tags += 1;
                inventory.count(name, |holding| holding.tags += 1);
            }
            Key::Referrer {
                name,
                manifest: digest,
                ..
            } => {
                // The manifest is written after its entry,
                // and is looked for after the entry was listed.
                let is_gone = self.is_old(meta)
                    && !manifests.may_have(name, digest)
                    && !self.is_stored(name, digest).await?;
                if is_gone {
                    let why = "its manifest is not stored";
                    self.delete_referrer(key, meta.size, why).await?;
                }
                return Ok(!is_gone);
            }
            // Tombstones stay, and so do keys that this version does not know.
            _ => {}
        }
        Ok(false)
    }

    async fn delete_referrer(&self, key: &Key, bytes: u64, why: &'static str) -> Result<(), Halt> {
        self.tell(Removal {
            action: RemovalAction::Delete,
            what: What::Referrer,
            key: key.to_string(),
            bytes,
            why,
        });
        self.delete_soon(key).await
    }
}

/// Whether two referrers are entries of one manifest with one subject.
fn is_of_one_manifest(one: &Key, other: &Key) -> bool {
    match (one, other) {
        (
            Key::Referrer {
                name,
                subject,
                manifest,
                id: _,
            },
            Key::Referrer {
                name: other_name,
                subject: other_subject,
                manifest: other_manifest,
                id: _,
            },
        ) => (name, subject, manifest) == (other_name, other_subject, other_manifest),
        _ => false,
    }
}
