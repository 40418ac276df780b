//! Sweeping uploads: abandoned uploads, uploads whose blob is gone, and extents without an upload.
//!
//! Two listings are read side by side, upload by upload. They only nominate.
//! The steps of a nominated upload are listed afresh, and a step `Dead` ends the upload.
//! The record of its blob is read before an extent is deleted.
//! The extents of a joined blob stay for the grace period after the join.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    digest::Digest,
    host::{Level, Log as _},
    name::Name,
    platform::Platform,
    registry::{
        failure::log_failure,
        upkeep::{
            inventory::Inventory,
            listing::Listing,
            step::{Halt, JobStep, Removal, RemovalAction, What},
        },
    },
    store::{
        Meta,
        document::{BlobKind, Record, is_blob},
        key::{Key, Prefix},
    },
    upload::{Extent, Step, UploadId},
};

/// The facts of an upload that are in the two listings.
#[derive(Default)]
struct Candidate {
    /// The repository; none if the upload has no steps.
    name: Option<Name>,
    /// The last step and its age; none if it can't be read.
    last: Option<(Step, Duration)>,
    /// The extents that the steps name.
    named: BTreeSet<Key>,
    /// Extents that no step names and that are as old as the grace period, with their sizes.
    strays: Vec<(Key, u64)>,
    /// The bytes of all extents.
    bytes: u64,
    /// The number of stored extents that a step names, or of all of them if no step names any.
    present: u64,
}

/// The steps of an upload.
struct Chain {
    /// The blob that it was closed as.
    closed: Option<Digest>,
    /// The extents that its steps name.
    named: Vec<Key>,
    /// The last step, with its number.
    last: (u32, Step),
}

/// The use of an upload's extents.
enum ExtentUse {
    /// The record of the blob names these.
    Named(Vec<Extent>),
    /// The blob was joined less than a grace period ago, and pulls that began before that read
    /// them; or the record can't be read.
    Possible,
    Unused,
}

impl<P: Platform> JobStep<'_, P> {
    /// Sweeps all uploads, after the given one.
    pub(super) async fn sweep_uploads(
        &self,
        after: &mut Option<UploadId>,
        inventory: &mut Inventory,
    ) -> Result<(), Halt> {
        let mut steps = Listing::new(
            Prefix::Uploads,
            after.map(|id| Prefix::Upload(id).end()),
            true,
        );
        let mut extents = Listing::new(
            Prefix::Extents,
            after.map(|id| Prefix::ExtentsOf(id).end()),
            false,
        );
        let mut is_first = true;
        loop {
            self.require_more()?;
            let next = [
                steps.peek_of(self, Key::upload).await?,
                extents.peek_of(self, Key::upload).await?,
            ];
            let Some(id) = next.into_iter().flatten().min() else {
                return Ok(());
            };
            let swept = self.sweep_chain(id, &mut steps, &mut extents, inventory);
            let swept = swept.await;
            if matches!(swept, Err(Halt::Spent)) && is_first {
                // A whole step was too short for this upload, so the others come first.
                let host = &self.upkeep.host;
                let what = "not swept in one step: a request's operations do not suffice";
                host.log(Level::Error, what, &[("upload", &*id.to_string())]);
                *after = Some(id);
            }
            swept?;
            is_first = false;
            *after = Some(id);
        }
    }

    async fn sweep_chain(
        &self,
        id: UploadId,
        steps: &mut Listing<'_>,
        extents: &mut Listing<'_>,
        inventory: &mut Inventory,
    ) -> Result<(), Halt> {
        let mut candidate = Candidate::default();
        while let Some((key, meta)) = steps.take(self, &id, Key::upload).await? {
            self.read_step(&key, &meta, &mut candidate);
        }
        while let Some((key, meta)) = extents.take(self, &id, Key::upload).await? {
            let is_named = candidate.named.contains(&key);
            // The upload of a fill has no step for each extent.
            candidate.present += u64::from(is_named || candidate.named.is_empty());
            candidate.bytes += meta.size;
            if !is_named && self.is_old(&meta) {
                candidate.strays.push((key, meta.size));
            }
        }
        inventory.extent_bytes += candidate.bytes;
        inventory.uploads += u64::from(!matches!(
            candidate.last,
            Some((Step::Done { .. }, _)) | None
        ));
        self.settle_upload(id, &candidate).await
    }

    fn read_step(&self, key: &Key, meta: &Meta, candidate: &mut Candidate) {
        let step = self.read::<Step>(key, &meta.metadata);
        if let Some(Step::Received { extent, .. }) = &step {
            candidate.named.insert(Key::extent(&extent.key));
        }
        candidate.name = match key {
            Key::Step { name, .. } => Some(name.clone()),
            _ => None,
        };
        candidate.last = step.map(|step| (step, self.age(meta)));
    }

    async fn settle_upload(&self, id: UploadId, candidate: &Candidate) -> Result<(), Halt> {
        let grace = self.upkeep.settings.grace;
        match (&candidate.name, &candidate.last) {
            (Some(name), Some((last, age))) => {
                let is_old = *age >= grace;
                let is_nominated = match last {
                    Step::Start { .. }
                    | Step::Received { .. }
                    | Step::Closing { .. }
                    | Step::Dead => is_old,
                    // The extents are deleted before the record that names them. A fill may have
                    // more than the record names.
                    Step::Done { digest, extents } => {
                        let has_others =
                            candidate.named.is_empty() && candidate.present != *extents;
                        let is_used = is_old
                            && candidate.present > 0
                            && !has_others
                            && !self.is_unnamed(digest, candidate, *extents, *age).await?;
                        is_old && !is_used
                    }
                };
                if is_nominated {
                    return self.sweep_upload(name, id, candidate.bytes).await;
                }
                if !candidate.named.is_empty() && !candidate.strays.is_empty() {
                    return self.sweep_strays(id, &candidate.strays).await;
                }
                Ok(())
            }
            (None, None) if !candidate.strays.is_empty() => {
                self.sweep_strays(id, &candidate.strays).await
            }
            // Some steps can't be read.
            _ => Ok(()),
        }
    }

    /// Whether the record of the blob may no longer name the extents of an upload that is done.
    /// Only an upload of several extents costs a look: the sweep joins no other blobs.
    async fn is_unnamed(
        &self,
        digest: &Digest,
        candidate: &Candidate,
        extents: u64,
        age: Duration,
    ) -> Result<bool, Halt> {
        let extents = extents.max(candidate.named.len() as u64);
        if !self.upkeep.may_join(extents, candidate.bytes) {
            return Ok(false);
        }
        let key = Key::blob(digest);
        let meta = match self.head(&key).await {
            Ok(Some(meta)) => meta,
            Ok(None) => return Ok(true),
            Err(Halt::Spent) => return Err(Halt::Spent),
            // A blob that can't be read must not stop the sweep. Its extents may be in use.
            Err(Halt::Failed(error)) => {
                log_failure(&self.upkeep.host, "extents not looked at", &error);
                return Ok(false);
            }
        };
        Ok(match self.read(&key, &meta.metadata) {
            // It was joined.
            Some(BlobKind::Bytes) => self.is_old(&meta),
            Some(BlobKind::Aside) => true,
            // The upload wrote its record before its last step, so a younger one is of another
            // upload.
            Some(BlobKind::Extents { .. }) => self.age(&meta) < age,
            None => false,
        })
    }

    /// Deletes old extents that no step of their upload names.
    /// They can't be added to it any more (BOUND).
    async fn sweep_strays(&self, id: UploadId, strays: &[(Key, u64)]) -> Result<(), Halt> {
        let steps = self.list_below(Prefix::Upload(id)).await?;
        let mut named = BTreeSet::new();
        for (key, meta) in &steps {
            match self.read::<Step>(key, &meta.metadata) {
                Some(Step::Received { extent, .. }) => {
                    named.insert(Key::extent(&extent.key));
                }
                Some(_) => {}
                None => return Ok(()),
            }
        }
        if !steps.is_empty() && named.is_empty() {
            // A fill: its steps name no extents.
            return Ok(());
        }
        let why = if steps.is_empty() {
            "its upload does not exist"
        } else {
            "its upload does not use it"
        };
        let strays: Vec<_> = strays
            .iter()
            .filter(|(key, _)| !named.contains(key))
            .cloned()
            .collect();
        self.delete_extents(&strays, why).await
    }

    /// Reads the steps of an upload; `None` if one can't be read, or if the last one is young.
    fn read_chain(&self, steps: &[(Key, Meta)]) -> Option<Chain> {
        let (mut closed, mut named, mut last) = (None, Vec::new(), None);
        for (key, meta) in steps {
            let Key::Step { number, .. } = *key else {
                return None;
            };
            let step = self.read::<Step>(key, &meta.metadata)?;
            if let Step::Closing { digest } | Step::Done { digest, .. } = &step {
                closed = Some(digest.clone());
            }
            if let Step::Received { extent, .. } = &step {
                named.push(Key::extent(&extent.key));
            }
            last = Some((number, step)).filter(|_| self.is_old(meta));
        }
        Some(Chain {
            closed,
            named,
            last: last?,
        })
    }

    /// Ends an upload whose last step is older than the grace period, and deletes its extents. A
    /// grace period after it ended, deletes its steps.
    async fn sweep_upload(&self, name: &Name, id: UploadId, bytes: u64) -> Result<(), Halt> {
        let steps = self.list_below(Prefix::Upload(id)).await?;
        let Some(chain) = self.read_chain(&steps) else {
            return Ok(());
        };
        let Chain {
            closed,
            named,
            last: (number, step),
        } = chain;
        let removal = |action, why| Removal {
            action,
            what: What::Upload,
            key: Prefix::Steps(name, id).to_string(),
            bytes,
            why,
        };
        let has_ended = match step {
            Step::Done { .. } | Step::Dead => true,
            Step::Start { .. } | Step::Received { .. } | Step::Closing { .. } => false,
        };
        if !has_ended {
            let why = "its last step is older than the grace period";
            self.tell(removal(RemovalAction::End, why));
            if self.is_dry {
                return Ok(());
            }
            self.spend(1)?;
            // The upload ends before an extent is deleted: of a closing client and a sweep, only
            // one writes the next step.
            let ended = self
                .upkeep
                .uploads
                .write_step(name, id, number + 1, &Step::Dead);
            if !ended.await? {
                return Ok(());
            }
        }
        let extent_use = match &closed {
            Some(digest) => self.read_use(digest, id).await?,
            None => ExtentUse::Unused,
        };
        match extent_use {
            ExtentUse::Named(extents) if named.is_empty() => {
                return self.sweep_untaken(id, &extents).await;
            }
            ExtentUse::Named(_) | ExtentUse::Possible => return Ok(()),
            ExtentUse::Unused => {}
        }
        if has_ended {
            self.tell(removal(
                RemovalAction::Delete,
                "it has ended, and no blob uses its extents",
            ));
        }
        if self.is_dry {
            return Ok(());
        }
        if closed.is_some() && named.is_empty() {
            // A fill: no step names its extents.
            self.delete_all(Prefix::ExtentsOf(id)).await?;
        }
        // An extent without a step may be about to get one. It is deleted once no step is left.
        for named in named.chunks(1_000) {
            self.delete(named).await?;
        }
        if has_ended {
            // Delete the first step first, each in its own call: the rest of the chain must never
            // look like an open upload.
            for (key, _) in &steps {
                self.delete(std::slice::from_ref(key)).await?;
            }
        }
        Ok(())
    }

    /// Reads from the blob of an upload whether the extents are in use.
    async fn read_use(&self, digest: &Digest, id: UploadId) -> Result<ExtentUse, Halt> {
        Ok(match self.read_record(digest).await? {
            Some((_, None)) => ExtentUse::Possible,
            Some((_, Some(Record::Extents { extents, .. })))
                if extents.iter().any(|extent| extent.key.upload() == Some(id)) =>
            {
                ExtentUse::Named(extents)
            }
            Some((meta, Some(Record::Bytes { .. }))) if is_blob(&meta) && !self.is_old(&meta) => {
                ExtentUse::Possible
            }
            Some((_, Some(_))) | None => ExtentUse::Unused,
        })
    }

    /// Deletes the extents of an ended fill that the record of its blob does not name. Nothing can
    /// name them any more.
    async fn sweep_untaken(&self, id: UploadId, named: &[Extent]) -> Result<(), Halt> {
        let named: BTreeSet<Key> = named.iter().map(|one| Key::extent(&one.key)).collect();
        let mut all = self.list_below(Prefix::ExtentsOf(id)).await?;
        all.retain(|(key, _)| !named.contains(key));
        let all: Vec<_> = all
            .into_iter()
            .map(|(key, meta)| (key, meta.size))
            .collect();
        self.delete_extents(&all, "the record of its blob does not name it")
            .await
    }

    /// Deletes extents, with their sizes.
    async fn delete_extents(&self, extents: &[(Key, u64)], why: &'static str) -> Result<(), Halt> {
        for extents in extents.chunks(1_000) {
            let mut keys = Vec::new();
            for (key, bytes) in extents {
                self.tell(Removal {
                    action: RemovalAction::Delete,
                    what: What::Extent,
                    key: key.to_string(),
                    bytes: *bytes,
                    why,
                });
                keys.push(key.clone());
            }
            self.delete(&keys).await?;
        }
        Ok(())
    }

    /// Deletes all objects below a prefix.
    async fn delete_all(&self, prefix: Prefix<'_>) -> Result<(), Halt> {
        let mut listing = Listing::new(prefix, None, false);
        while let Some(page) = listing.next_page(self).await? {
            let keys: Vec<Key> = page.into_iter().map(|(key, _)| key).collect();
            self.delete(&keys).await?;
        }
        Ok(())
    }
}
