//! A step of a background job: operations that are counted, and the report of what it removed.

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
        ListOptions, Meta, StoreError,
        bucket::Page,
        document::{Mark, MarkState},
        key::{Key, Prefix},
    },
    time::Timestamp,
};

/// What a step of a background job may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    /// Operations of the store.
    pub(super) operations: u32,
    /// Time.
    pub(super) time: Duration,
    /// Removals, after which nothing else is begun.
    pub(super) removals: u64,
}

/// Operations that are kept back for deleting what was found last, and for storing how far the sweep has come.
pub(super) const RESERVE: u32 = 6;

/// Why a step ends before the round does.
#[derive(Debug)]
pub(super) enum Halt {
    /// It has taken what it may.
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

/// What came of a step, unless a failure has ended it.
pub(super) fn unless_failed<T>(halt: Option<Halt>, outcome: T) -> Result<T, Error> {
    match halt {
        Some(Halt::Failed(error)) => Err(error),
        Some(Halt::Spent) | None => Ok(outcome),
    }
}

/// What is done to something.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Action {
    /// It goes.
    Delete,
    /// It goes when the grace period is over, if nobody wants it by then.
    Condemn,
    /// It takes nothing more, and goes when the grace period is over.
    End,
}

/// What it is done to.
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
    /// The name by which metrics call it.
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

/// Something that was removed, or would be.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(super) struct Removal {
    pub(super) action: Action,
    pub(super) what: What,
    pub(super) key: String,
    /// The bytes that it takes in the store.
    pub(super) bytes: u64,
    pub(super) why: &'static str,
}

/// What a step has removed.
#[derive(Debug, Default, Serialize)]
pub(in crate::registry) struct Removals {
    /// The first of them.
    pub(super) removals: Vec<Removal>,
    /// How many there are.
    pub(super) count: u64,
    /// The bytes that are free, or will be.
    pub(super) bytes: u64,
}

/// The most removals that are told one by one.
const MAX_TOLD: usize = 1_000;

/// One step of a background job.
pub(super) struct JobStep<'a, P: Platform> {
    pub(super) upkeep: &'a Upkeep<P>,
    /// Whether nothing is written, and only told.
    pub(super) is_dry: bool,
    allowance: Allowance,
    start: Timestamp,
    spent: Cell<u32>,
    report: RefCell<Removals>,
    /// What was told to go and is still there: what waits to be deleted together, or all in a dry run.
    going: RefCell<BTreeSet<Key>>,
    /// Manifests that a dry run takes for removed.
    missing: RefCell<BTreeSet<Key>>,
    /// Whether what is being done is done to its end.
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

    /// The report, and how many operations were taken.
    pub(super) fn into_report(self) -> (Removals, u32) {
        (self.report.into_inner(), self.spent.get())
    }

    /// How old something is, by the store's clock.
    pub(super) fn age(&self, meta: &Meta) -> Duration {
        self.upkeep.host.now().since(meta.uploaded)
    }

    /// Whether something is as old as the grace period.
    pub(super) fn is_old(&self, meta: &Meta) -> bool {
        self.age(meta) >= self.upkeep.settings.grace
    }

    /// Whether something was as old as the grace period when a listing that has it was asked for. What is looked at since then was looked
    /// at later; by now it may have grown old meanwhile.
    pub(super) fn was_old(&self, meta: &Meta, asked: Timestamp) -> bool {
        asked.since(meta.uploaded) >= self.upkeep.settings.grace
    }

    /// Counts operations that are about to be done, if there are as many left and time for them.
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

    /// Does to its end what others would wait for if it were left, though it is late: those who own something, for as long as they do.
    pub(super) async fn to_its_end<T>(
        &self,
        owning: impl Future<Output = Result<T, Halt>>,
    ) -> Result<T, Halt> {
        self.is_late_allowed.set(true);
        let done = owning.await;
        self.is_late_allowed.set(false);
        done
    }

    /// How many operations were taken.
    pub(super) const fn spent(&self) -> u32 {
        self.spent.get()
    }

    /// How many operations are left.
    pub(super) fn left(&self) -> u32 {
        let taken = self.spent.get().saturating_add(RESERVE);
        self.allowance.operations.saturating_sub(taken)
    }

    /// How much was removed.
    pub(super) fn count(&self) -> u64 {
        self.report.borrow().count
    }

    /// Ends the step, unless there are so many operations left.
    pub(super) fn require(&self, operations: u32) -> Result<(), Halt> {
        let spent = self.spent.get();
        self.spend(operations)?;
        self.spent.set(spent);
        Ok(())
    }

    /// Ends the step, if as much was removed as may be.
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

    /// Tells of a removal, before it is made.
    pub(super) fn tell(&self, removal: Removal) {
        let mut report = self.report.borrow_mut();
        report.count += 1;
        if removal.action == Action::Delete {
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

    /// Takes a manifest for removed, in a dry run.
    pub(super) fn miss(&self, key: Key) {
        self.missing.borrow_mut().insert(key);
    }

    /// Whether a manifest is taken for removed.
    pub(super) fn is_missed(&self, key: &Key) -> bool {
        self.missing.borrow().contains(key)
    }

    /// Whether a manifest is stored.
    pub(super) async fn is_stored(&self, name: &Name, digest: &Digest) -> Result<bool, Halt> {
        let key = Key::manifest(name, digest);
        Ok(!self.is_missed(&key) && self.head(&key).await?.is_some())
    }

    /// BOUND on the life of who has claimed something: another one may claim it when the claim is as old as the grace period.
    pub(super) fn require_young(&self, claimed: Timestamp) -> Result<(), Halt> {
        let upkeep = self.upkeep;
        if upkeep.host.now().since(claimed) < upkeep.settings.grace / 2 {
            Ok(())
        } else {
            Err(Halt::Spent)
        }
    }

    /// Reads all of a listing, with metadata.
    pub(super) async fn list_below(&self, prefix: Prefix<'_>) -> Result<Vec<(Key, Meta)>, Halt> {
        let mut objects: Vec<(Key, Meta)> = Vec::new();
        loop {
            let after = objects.last().map(|(key, _)| key.to_string());
            let page = self.list(prefix, after.as_deref(), true).await?;
            objects.extend(page.objects);
            if !page.truncated {
                return Ok(objects);
            }
        }
    }

    pub(super) async fn head(&self, key: &Key) -> Result<Option<Meta>, Halt> {
        self.spend(1)?;
        Ok(self.upkeep.store.head(key).await?)
    }

    pub(super) async fn list(
        &self,
        prefix: Prefix<'_>,
        after: Option<&str>,
        metadata: bool,
    ) -> Result<Page, Halt> {
        self.spend(1)?;
        let options = ListOptions {
            after,
            limit: 1_000,
            metadata,
        };
        Ok(self.upkeep.store.list(prefix, options).await?)
    }

    /// Deletes up to 1,000 keys now.
    pub(super) async fn delete(&self, keys: &[Key]) -> Result<(), Halt> {
        if keys.is_empty() || self.is_dry {
            return Ok(());
        }
        self.spend(1)?;
        Ok(self.upkeep.store.delete(keys).await?)
    }

    /// Deletes a key, which nobody writes again, with others.
    pub(super) async fn delete_soon(&self, key: &Key) -> Result<(), Halt> {
        self.going.borrow_mut().insert(key.clone());
        if self.going.borrow().len() >= 1_000 {
            self.flush().await?;
        }
        Ok(())
    }

    /// Whether a key was told to go.
    pub(super) fn is_going(&self, key: &Key) -> bool {
        self.going.borrow().contains(key)
    }

    /// Forgets what a dry run has told, when no look will find it any more.
    pub(super) fn forget_told(&self) {
        if self.is_dry {
            self.going.borrow_mut().clear();
        }
    }

    /// Deletes what is to be deleted with others.
    pub(super) async fn flush(&self) -> Result<(), Halt> {
        if self.is_dry {
            return Ok(());
        }
        let keys: Vec<Key> = self.going.take().into_iter().collect();
        self.delete_at_last(&keys).await
    }

    /// Deletes what is left to be deleted when a step ends. What is kept back of the allowance is for this.
    pub(super) async fn delete_at_last(&self, keys: &[Key]) -> Result<(), Halt> {
        if !keys.is_empty() {
            self.spent.set(self.spent.get().saturating_add(1));
            self.upkeep.store.delete(keys).await?;
        }
        Ok(())
    }

    /// Reads a mark. One that can't be read is nobody's to move.
    pub(super) async fn mark(&self, digest: &Digest) -> Result<Option<(Meta, Option<Mark>)>, Halt> {
        self.spend(1)?;
        let key = Key::mark(digest);
        let found = self.upkeep.store.text(&self.upkeep.host, &key).await?;
        Ok(found.map(|(meta, text)| (meta, self.read(&key, &text))))
    }

    /// Writes a mark, if what was seen is still there, and says whether it was written.
    pub(super) async fn write_mark(
        &self,
        digest: &Digest,
        seen: Option<&Meta>,
        state: MarkState,
    ) -> Result<bool, Halt> {
        self.spend(1)?;
        Ok(self.upkeep.grants.write_mark(digest, seen, state).await?)
    }

    /// Reads what was stored as JSON. What can't be read is left alone, and the log tells of it.
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
