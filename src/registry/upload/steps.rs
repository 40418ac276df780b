//! The steps of an upload in the bucket.

use futures_util::future::try_join;

use crate::{
    error::Error,
    host::{Clock as _, Level, Log as _},
    name::Name,
    platform::Platform,
    registry::upload::{Uploads, progress::unknown},
    store::{
        Condition, Content, Meta, PutOptions, StoreError,
        document::{from_json, to_json},
        key::{Key, Prefix},
    },
    upload::{Extent, Step, Upload, UploadId},
};

impl<P: Platform> Uploads<P> {
    /// Reads the progress of an upload:
    /// two cheap reads if the client's hint is right, else a listing.
    ///
    /// A sweep deletes the steps of a dead session from the first to the last.
    /// If the hinted step is read before the next one, a session that was dead and is gone could
    /// seem to be open.
    /// No sweep ends a session whose last step is young, so the two are read side by side, and an
    /// old step once more.
    pub(in crate::registry) async fn read_upload(
        &self,
        name: &Name,
        id: UploadId,
        hint: u32,
    ) -> Result<Upload, Error> {
        let number = hint.min(Upload::MAX_STEPS);
        let (here, next) = (Key::step(name, id, number), Key::step(name, id, number + 1));
        let (mut found, next) = try_join(self.store.head(&here), self.store.head(&next)).await?;
        if next.is_none() {
            let young = self.settings.grace / 2;
            let is_old = |meta: &Meta| self.host.now().since(meta.uploaded) >= young;
            if found.as_ref().is_some_and(is_old) {
                found = self.store.head(&here).await?;
            }
            if let Some(meta) = found {
                return Ok(Upload {
                    number,
                    last: from_json(&here, &meta.metadata)?,
                });
            }
            if number == 0 {
                return Err(unknown(id));
            }
        }
        Ok(self.list_steps(name, id).await?.0)
    }

    /// Reads all steps of an upload, and the extents that it has received.
    pub(super) async fn list_steps(
        &self,
        name: &Name,
        id: UploadId,
    ) -> Result<(Upload, Vec<Extent>), Error> {
        let listing = self.store.list_all(Prefix::Steps(name, id)).await?;
        let mut last = None;
        let mut extents = Vec::new();
        for (key, meta) in &listing.objects {
            let Key::Step { number, .. } = *key else {
                return Err(StoreError::Failed(format!("{key} is not a step")).into());
            };
            let step = from_json(key, &meta.metadata)?;
            if let Step::Received { extent, .. } = &step {
                extents.push(extent.clone());
            }
            last = Some(Upload { number, last: step });
        }
        let upload: Upload = last.ok_or_else(|| unknown(id))?;
        // If the session was swept between two pages, its last step is gone as well.
        let last = Key::step(name, id, upload.number);
        if !listing.is_one_reading && self.store.head(&last).await?.is_none() {
            return Err(unknown(id));
        }
        Ok((upload, extents))
    }

    /// Writes one step of an upload, unless that step exists. Returns whether it was written.
    pub(in crate::registry) async fn write_step(
        &self,
        name: &Name,
        id: UploadId,
        number: u32,
        step: &Step,
    ) -> Result<bool, Error> {
        let metadata = to_json(step)?;
        let options = PutOptions {
            condition: Condition::Absent,
            metadata: &metadata,
            ..PutOptions::default()
        };
        let written = self
            .store
            .put(
                &Key::step(name, id, number),
                Content::Bytes(Vec::new()),
                options,
            )
            .await?;
        Ok(written.is_some())
    }

    pub(in crate::registry) async fn delete_extents(&self, extents: &[Extent]) {
        let keys: Vec<Key> = extents
            .iter()
            .map(|extent| Key::extent(&extent.key))
            .collect();
        for keys in keys.chunks(1_000) {
            self.forget(keys).await;
        }
    }

    /// Deletes objects that are no longer needed. If that fails, the sweep deletes them, so the
    /// client gets no error.
    pub(in crate::registry) async fn forget(&self, keys: &[Key]) {
        if let Err(error) = self.store.delete(keys).await {
            self.host.log(
                Level::Error,
                "not deleted",
                &[("error", &error.to_string())],
            );
        }
    }
}
