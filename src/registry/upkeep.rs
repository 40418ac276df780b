//! Upkeep: background work on the store.

use std::rc::Rc;

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    error::Error,
    metrics::Metrics,
    platform::Platform,
    registry::{grant::Grants, manifest::Manifests, parts::Parts, upload::Uploads},
    settings::Settings,
    store::{Condition, Meta, bucket::Bucket, key::Key, tiers::Tiers},
};

mod blob;
mod filter;
mod holders;
mod inventory;
mod listing;
pub(super) mod on_demand;
mod rights;
mod scrub;
mod step;
mod sweep;

/// The upkeep of the store: the sweep with its retention, the scrub, and reports.
pub(super) struct Upkeep<P: Platform> {
    store: Bucket<P::Cold>,
    tiers: Rc<Tiers<P>>,
    host: P::Host,
    settings: Rc<Settings>,
    metrics: Rc<Metrics>,
    grants: Rc<Grants<P>>,
    uploads: Rc<Uploads<P>>,
    manifests: Rc<Manifests<P>>,
}

impl<P: Platform> Upkeep<P> {
    pub(super) fn new(
        parts: &Parts<P>,
        grants: Rc<Grants<P>>,
        uploads: Rc<Uploads<P>>,
        manifests: Rc<Manifests<P>>,
    ) -> Self {
        Self {
            store: parts.store.clone(),
            tiers: parts.tiers.clone(),
            host: parts.host.clone(),
            settings: parts.settings.clone(),
            metrics: parts.metrics.clone(),
            grants,
            uploads,
            manifests,
        }
    }

    /// Reads the cursor of a background job. A cursor of another version counts as a new one.
    async fn read_cursor<C: Default + DeserializeOwned>(
        &self,
        key: &Key,
    ) -> Result<(C, Option<Meta>), Error> {
        let Some((meta, text)) = self.store.text(&self.host, key).await? else {
            return Ok((C::default(), None));
        };
        let cursor = serde_json::from_str(&text).unwrap_or_default();
        Ok((cursor, Some(meta)))
    }

    /// Stores the cursor of a background job, and returns whether it did.
    /// If another step has stored one since, that one stays. What this step did is done all the
    /// same.
    async fn store_cursor(
        &self,
        key: &Key,
        cursor: &impl Serialize,
        etag: &mut Option<String>,
    ) -> Result<bool, Error> {
        let condition = match etag {
            Some(etag) => Condition::Matches(etag),
            None => Condition::Absent,
        };
        let stored = self.store.put_document(key, cursor, condition).await?;
        let is_stored = stored.is_some();
        if let Some(meta) = stored {
            *etag = Some(meta.etag);
        }
        Ok(is_stored)
    }
}
