//! A step of a background job: it counts operations and reports removals.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    fmt,
    future::Future,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    digest::Digest,
    error::Error,
    host::{Clock as _, Level, Log as _},
    name::Name,
    platform::Platform,
    registry::upkeep::Upkeep,
    store::{
        Meta, StoreError,
        document::{Mark, MarkState},
        key::Key,
    },
    time::Timestamp,
};

/// The limits of one step of a background job.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    /// Operations of the store.
    pub(super) operations: u32,
    /// Time.
    pub(super) time: Duration,
    /// Removals, after which the step begins nothing else.
    pub(super) removals: u64,
}

/// Operations that are reserved for the last deletions of a step and for storing its cursor.
pub(super) const RESERVE: u32 = 6;

/// Why a step ends before the round does.
#[derive(Debug)]
pub(super) enum Halt {
    /// The allowance is used up.
    Spent,
    /// The store failed.
    Failed(Error),
}

impl fmt::Display for Halt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spent => f.write_str("it takes more operations than a step has"),
            Self::Failed(error) => f.write_str(&error.message()),
        }
    }
}

impl From<Error> for Halt {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<StoreError> for Halt {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.into())
    }
}

/// The outcome of a step, unless a failure ended it.
pub(super) fn unless_failed<T>(halt: Option<Halt>, outcome: T) -> Result<T, Error> {
    match halt {
        Some(Halt::Failed(error)) => Err(error),
        Some(Halt::Spent) | None => Ok(outcome),
    }
}

/// The action of a removal.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RemovalAction {
    /// The object is deleted.
    Delete,
    /// The object is deleted after the grace period, if nothing uses it by then.
    Condemn,
    /// The upload takes no more bytes, and is deleted after the grace period.
    End,
}

/// The kind of object that is removed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum What {
    Blob,
    Extent,
    Grant,
    Hint,
    Index,
    Link,
    Manifest,
    Mark,
    Referrer,
    Repository,
    Tag,
    Upload,
}

impl What {
    /// The label in metrics.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Blob => "blob",
            Self::Extent => "extent",
            Self::Grant => "grant",
            Self::Hint => "hint",
            Self::Index => "index",
            Self::Link => "link",
            Self::Manifest => "manifest",
            Self::Mark => "mark",
            Self::Referrer => "referrer",
            Self::Repository => "repository",
            Self::Tag => "tag",
            Self::Upload => "upload",
        }
    }
}

/// An object that was removed, or would be in a dry run.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(super) struct Removal {
    pub(super) action: RemovalAction,
    pub(super) what: What,
    pub(super) key: String,
    /// The bytes that it takes in the store.
    pub(super) bytes: u64,
    pub(super) why: &'static str,
}

/// The removals of a step.
#[derive(Debug, Default, Serialize)]
pub(in crate::registry) struct Removals {
    /// The first removals, in full.
    pub(super) removals: Vec<Removal>,
    /// The number of all removals.
    pub(super) count: u64,
    /// The bytes that the removals free, now or later.
    pub(super) bytes: u64,
}

/// The most removals that are reported one by one.
const MAX_TOLD: usize = 1_000;

/// One step of a background job.
pub(super) struct JobStep<'a, P: Platform> {
    pub(super) upkeep: &'a Upkeep<P>,
    /// Whether the step only reports and writes nothing.
    pub(super) is_dry: bool,
    allowance: Allowance,
    start: Timestamp,
    spent: Cell<u32>,
    report: RefCell<Removals>,
    /// Keys that were reported as removed and are still there: in a dry run all, else those that
    /// wait for the next bulk deletion.
    going: RefCell<BTreeSet<Key>>,
    /// Manifests that a dry run treats as removed.
    missing: RefCell<BTreeSet<Key>>,
    /// Whether the work in progress may run past the time limit.
    is_late_allowed: Cell<bool>,
}

impl<'a, P: Platform> JobStep<'a, P> {
    pub(super) fn new(upkeep: &'a Upkeep<P>, allowance: Allowance, is_dry: bool) -> Self {
        Self {
            upkeep,
            is_dry,
            allowance,
            start: upkeep.host.now(),
            spent: Cell::default(),
            report: RefCell::default(),
            going: RefCell::default(),
            missing: RefCell::default(),
            is_late_allowed: Cell::default(),
        }
    }

    /// The report, and how many operations were done.
    pub(super) fn into_report(self) -> (Removals, u32) {
        (self.report.into_inner(), self.spent.get())
    }

    /// The age of an object, by the store's clock.
    pub(super) fn age(&self, meta: &Meta) -> Duration {
        self.upkeep.host.now().since(meta.uploaded)
    }

    /// Whether an object is at least as old as the grace period.
    pub(super) fn is_old(&self, meta: &Meta) -> bool {
        self.age(meta) >= self.upkeep.settings.grace
    }

    /// Whether an object was at least as old as the grace period when its listing was requested.
    /// Age must be judged at that time: later checks saw later states, and the object may have
    /// passed the grace period since.
    pub(super) fn was_old(&self, meta: &Meta, asked: Timestamp) -> bool {
        asked.since(meta.uploaded) >= self.upkeep.settings.grace
    }

    /// Counts operations before they are done; ends the step if too few or no time is left.
    pub(super) fn spend(&self, operations: u32) -> Result<(), Halt> {
        let spent = self.spent.get().saturating_add(operations);
        let is_late = self.upkeep.host.now().since(self.start) >= self.allowance.time;
        let is_over = is_late && !self.is_late_allowed.get();
        if spent.saturating_add(RESERVE) > self.allowance.operations || is_over {
            return Err(Halt::Spent);
        }
        self.spent.set(spent);
        Ok(())
    }

    /// Runs work to its end, past the time limit.
    /// It is for work under a claim: others would wait for the owner if it stopped halfway.
    pub(super) async fn to_its_end<T>(
        &self,
        owning: impl Future<Output = Result<T, Halt>>,
    ) -> Result<T, Halt> {
        self.is_late_allowed.set(true);
        let done = owning.await;
        self.is_late_allowed.set(false);
        done
    }

    /// How many operations were done.
    pub(super) const fn spent(&self) -> u32 {
        self.spent.get()
    }

    /// How many operations are left.
    pub(super) fn left(&self) -> u32 {
        let taken = self.spent.get().saturating_add(RESERVE);
        self.allowance.operations.saturating_sub(taken)
    }

    /// How many removals were reported.
    pub(super) fn count(&self) -> u64 {
        self.report.borrow().count
    }

    /// Ends the step if fewer operations are left.
    pub(super) fn require(&self, operations: u32) -> Result<(), Halt> {
        let spent = self.spent.get();
        self.spend(operations)?;
        self.spent.set(spent);
        Ok(())
    }

    /// Ends the step if it has no removals left.
    pub(super) fn require_more(&self) -> Result<(), Halt> {
        match self.removals_left() {
            0 => Err(Halt::Spent),
            _ => Ok(()),
        }
    }

    /// How many more removals may be begun.
    pub(super) fn removals_left(&self) -> u64 {
        self.allowance.removals.saturating_sub(self.count())
    }

    /// Reports a removal, before it is made.
    pub(super) fn tell(&self, removal: Removal) {
        let mut report = self.report.borrow_mut();
        report.count += 1;
        if removal.action == RemovalAction::Delete {
            report.bytes += removal.bytes;
            if !self.is_dry {
                self.upkeep
                    .metrics
                    .swept(removal.what.name(), removal.bytes);
            }
        }
        if report.removals.len() < MAX_TOLD {
            report.removals.push(removal);
        }
    }

    /// Treats a manifest as removed, in a dry run.
    pub(super) fn miss(&self, key: Key) {
        self.missing.borrow_mut().insert(key);
    }

    /// Whether a dry run treats a manifest as removed.
    pub(super) fn is_missed(&self, key: &Key) -> bool {
        self.missing.borrow().contains(key)
    }

    /// Whether a manifest is stored.
    pub(super) async fn is_stored(&self, name: &Name, digest: &Digest) -> Result<bool, Halt> {
        let key = Key::manifest(name, digest);
        Ok(!self.is_missed(&key) && self.head(&key).await?.is_some())
    }

    /// BOUND on the life of a claim's owner: another sweep may take the claim once it is as old as
    /// the grace period.
    pub(super) fn require_young(&self, claimed: Timestamp) -> Result<(), Halt> {
        let upkeep = self.upkeep;
        if upkeep.host.now().since(claimed) < upkeep.settings.grace / 2 {
            Ok(())
        } else {
            Err(Halt::Spent)
        }
    }

    pub(super) async fn head(&self, key: &Key) -> Result<Option<Meta>, Halt> {
        self.spend(1)?;
        Ok(self.upkeep.store.head(key).await?)
    }

    /// Deletes up to 1,000 keys now.
    pub(super) async fn delete(&self, keys: &[Key]) -> Result<(), Halt> {
        if keys.is_empty() || self.is_dry {
            return Ok(());
        }
        self.spend(1)?;
        Ok(self.upkeep.store.delete(keys).await?)
    }

    /// Queues the deletion of a key that is never written again, for a bulk deletion.
    pub(super) async fn delete_soon(&self, key: &Key) -> Result<(), Halt> {
        self.going.borrow_mut().insert(key.clone());
        if self.going.borrow().len() >= 1_000 {
            self.flush().await?;
        }
        Ok(())
    }

    /// Whether the deletion of a key is queued, or reported by a dry run.
    pub(super) fn is_going(&self, key: &Key) -> bool {
        self.going.borrow().contains(key)
    }

    /// Clears the reported keys of a dry run, once no later check will see them.
    pub(super) fn forget_told(&self) {
        if self.is_dry {
            self.going.borrow_mut().clear();
        }
    }

    /// Deletes the queued keys.
    pub(super) async fn flush(&self) -> Result<(), Halt> {
        if self.is_dry {
            return Ok(());
        }
        let keys: Vec<Key> = self.going.take().into_iter().collect();
        self.delete_at_last(&keys).await
    }

    /// Deletes the remaining keys when a step ends, from the reserved operations.
    pub(super) async fn delete_at_last(&self, keys: &[Key]) -> Result<(), Halt> {
        if !keys.is_empty() {
            self.spent.set(self.spent.get().saturating_add(1));
            self.upkeep.store.delete(keys).await?;
        }
        Ok(())
    }

    /// Reads a mark. The inner `None` is a mark that can't be parsed: nothing may change it.
    pub(super) async fn mark(&self, digest: &Digest) -> Result<Option<(Meta, Option<Mark>)>, Halt> {
        self.spend(1)?;
        let key = Key::mark(digest);
        let found = self.upkeep.store.text(&self.upkeep.host, &key).await?;
        Ok(found.map(|(meta, text)| (meta, self.read(&key, &text))))
    }

    /// Writes a mark if the mark that was read is unchanged. Returns whether it was written.
    pub(super) async fn write_mark(
        &self,
        digest: &Digest,
        seen: Option<&Meta>,
        state: MarkState,
    ) -> Result<bool, Halt> {
        self.spend(1)?;
        Ok(self.upkeep.grants.write_mark(digest, seen, state).await?)
    }

    /// Parses a stored JSON document. One that can't be parsed is logged and left alone.
    pub(super) fn read<'t, T: Deserialize<'t>>(&self, key: &Key, text: &'t str) -> Option<T> {
        let read = serde_json::from_str(text);
        if let Err(error) = &read {
            let fields = [("key", &*key.to_string()), ("error", &error.to_string())];
            self.upkeep
                .host
                .log(Level::Error, "document not read, left alone", &fields);
        }
        read.ok()
    }
}
