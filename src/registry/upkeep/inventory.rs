//! The inventory: the totals that a round of the sweep has counted.

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

/// The totals of the store.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Inventory {
    /// The time at which the counting round began.
    pub(super) began: Timestamp,
    /// Blobs.
    pub(super) blobs: u64,
    /// The bytes of the blobs, each blob once.
    pub(super) bytes: u64,
    /// The bytes of the blobs, each blob once for each manifest that names it:
    /// the size without sharing.
    pub(super) undivided_bytes: u64,
    /// Manifests.
    pub(super) manifests: u64,
    /// Tags.
    pub(super) tags: u64,
    /// Uploads that are open, or ended and not swept yet.
    pub(super) uploads: u64,
    /// The bytes of extents, of blobs and of uploads.
    pub(super) extent_bytes: u64,
    /// The totals by repository, for a limited number of them.
    pub(super) repositories: BTreeMap<String, Holding>,
    /// The totals of all other repositories.
    pub(super) others: Holding,
}

/// The totals of a repository.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Holding {
    /// Blobs.
    pub(super) blobs: u64,
    /// The bytes of the blobs, each blob once.
    pub(super) bytes: u64,
    /// The bytes of the blobs, each blob once for each manifest that names it.
    pub(super) undivided_bytes: u64,
    /// Manifests.
    pub(super) manifests: u64,
    /// Tags.
    pub(super) tags: u64,
}

impl Inventory {
    /// The most repositories that are counted separately.
    pub(super) const MAX_REPOSITORIES: usize = 1_000;

    /// Counts an object of a repository.
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
    /// Stores the totals of a round.
    pub(super) async fn store_inventory(&self, inventory: &Inventory) -> Result<(), Error> {
        self.store
            .put_document(&Key::Inventory, inventory, Condition::Always)
            .await?;
        Ok(())
    }

    /// Shows the totals of the last round in the metrics.
    /// If they can't be read, the metrics lack them.
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
        // No repository has a name with this first character.
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
