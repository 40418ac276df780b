//! The inventory: what there is, as a round of the sweep has counted it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    error::Error,
    metrics::{All, Of},
    name::Name,
    platform::Platform,
    registry::{failure::log_failure, upkeep::Upkeep},
    store::{Condition, key::Key},
    time::Timestamp,
};

/// What there is.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Inventory {
    /// When the round began that has counted it.
    pub(super) began: Timestamp,
    /// Blobs.
    pub(super) blobs: u64,
    /// Their bytes, each blob once.
    pub(super) bytes: u64,
    /// The same, each blob once for each manifest that names it: what would be stored if nothing were shared.
    pub(super) undivided_bytes: u64,
    /// Manifests.
    pub(super) manifests: u64,
    /// Tags.
    pub(super) tags: u64,
    /// Uploads that have not ended, or not yet been swept.
    pub(super) uploads: u64,
    /// The bytes of extents, of blobs and of uploads.
    pub(super) extent_bytes: u64,
    /// By repository, as far as there are not too many.
    pub(super) repositories: BTreeMap<String, Holding>,
    /// What all other repositories have.
    pub(super) others: Holding,
}

/// What a repository has.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Holding {
    /// Blobs.
    pub(super) blobs: u64,
    /// Their bytes, each blob once.
    pub(super) bytes: u64,
    /// The same, each blob once for each manifest that names it.
    pub(super) undivided_bytes: u64,
    /// Manifests.
    pub(super) manifests: u64,
    /// Tags.
    pub(super) tags: u64,
}

impl Inventory {
    /// The most repositories that are counted by themselves.
    pub(super) const MAX_REPOSITORIES: usize = 1_000;

    /// Counts something that a repository has.
    pub(super) fn count(&mut self, name: &Name, add: impl FnOnce(&mut Holding)) {
        let is_full = self.repositories.len() >= Self::MAX_REPOSITORIES;
        match self.repositories.get_mut(name.as_str()) {
            Some(holding) => add(holding),
            None if is_full => add(&mut self.others),
            None => add(self.repositories.entry(name.to_string()).or_default()),
        }
    }
}

impl<P: Platform> Upkeep<P> {
    /// Stores what a round has counted.
    pub(super) async fn store_inventory(&self, inventory: &Inventory) -> Result<(), Error> {
        self.store
            .put_document(&Key::Inventory, inventory, Condition::Always)
            .await?;
        Ok(())
    }

    /// Shows in the metrics what the last round has counted. Where that can't be read, they go without.
    pub(in crate::registry) async fn show_inventory(&self) {
        let inventory = match self
            .store
            .document::<Inventory>(&self.host, &Key::Inventory)
            .await
        {
            Ok(Some((_, inventory))) => inventory,
            Ok(None) => return,
            Err(error) => {
                log_failure(&self.host, "the inventory is not shown", &error.into());
                return;
            }
        };
        let Inventory {
            began,
            blobs,
            bytes,
            undivided_bytes,
            manifests,
            tags,
            uploads,
            extent_bytes,
            repositories,
            others,
        } = inventory;
        let shown = &self.metrics.inventory;
        shown.show(All {
            began_seconds: began.0 / 1_000,
            blobs,
            bytes,
            undivided_bytes,
            manifests,
            tags,
            uploads,
            extent_bytes,
        });
        let named = repositories
            .iter()
            .map(|(name, holding)| (&**name, holding));
        // No name of a repository begins so.
        for (name, holding) in named.chain([("_others", &others)]) {
            let of = Of {
                blobs: holding.blobs,
                bytes: holding.bytes,
                undivided_bytes: holding.undivided_bytes,
                manifests: holding.manifests,
                tags: holding.tags,
            };
            shown.show_of(name, of);
        }
    }
}
