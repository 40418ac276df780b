//! Listings that are read page by page, and entry by entry.

use std::collections::VecDeque;

use crate::{
    host::Clock as _,
    platform::Platform,
    registry::upkeep::step::{Halt, JobStep},
    store::{
        Meta,
        bucket::Walk,
        key::{Key, Prefix},
    },
    time::Timestamp,
};

/// A listing that is read page by page, and entry by entry.
/// It ends where the store says so: an empty page costs an operation and does not end it.
#[derive(Debug)]
pub(super) struct Listing<'p> {
    walk: Walk<'p>,
    page: VecDeque<(Key, Meta)>,
    /// The number of pages that were read.
    pub(super) pages: u64,
    /// The time at which the last page was requested.
    pub(super) asked: Timestamp,
}

impl<'p> Listing<'p> {
    pub(super) fn new(prefix: Prefix<'p>, after: Option<String>, metadata: bool) -> Self {
        Self {
            walk: Walk::new(prefix, after, 1_000, metadata),
            page: VecDeque::new(),
            pages: 0,
            asked: Timestamp::default(),
        }
    }

    /// The subject of the next entry, without taking the entry. Keys without a subject are skipped.
    pub(super) async fn peek_of<T, P: Platform>(
        &mut self,
        step: &JobStep<'_, P>,
        of: impl Fn(&Key) -> Option<T>,
    ) -> Result<Option<T>, Halt> {
        while let Some((key, _)) = self.peek(step).await? {
            if let Some(named) = of(key) {
                return Ok(Some(named));
            }
            self.page.pop_front();
        }
        Ok(None)
    }

    /// The next entry, without taking it.
    pub(super) async fn peek<P: Platform>(
        &mut self,
        step: &JobStep<'_, P>,
    ) -> Result<Option<&(Key, Meta)>, Halt> {
        while self.page.is_empty() && !self.walk.is_done() {
            self.asked = step.upkeep.host.now();
            step.spend(1)?;
            self.page = self.walk.next_page(&step.upkeep.store).await?.into();
            self.pages += 1;
        }
        Ok(self.page.front())
    }

    /// Takes the next entry, if its subject is `wanted`.
    pub(super) async fn take<T: PartialEq, P: Platform>(
        &mut self,
        step: &JobStep<'_, P>,
        wanted: &T,
        of: impl Fn(&Key) -> Option<T>,
    ) -> Result<Option<(Key, Meta)>, Halt> {
        let next = self.peek_of(step, of).await?;
        Ok(match next {
            Some(next) if next == *wanted => self.page.pop_front(),
            Some(_) | None => None,
        })
    }

    /// Takes the next entry.
    pub(super) async fn next<P: Platform>(
        &mut self,
        step: &JobStep<'_, P>,
    ) -> Result<Option<(Key, Meta)>, Halt> {
        self.peek(step).await?;
        Ok(self.page.pop_front())
    }

    /// Takes the rest of this page, or all of the next one. `None` at the end of the listing.
    pub(super) async fn next_page<P: Platform>(
        &mut self,
        step: &JobStep<'_, P>,
    ) -> Result<Option<VecDeque<(Key, Meta)>>, Halt> {
        self.peek(step).await?;
        Ok(Some(std::mem::take(&mut self.page)).filter(|page| !page.is_empty()))
    }
}

impl<P: Platform> JobStep<'_, P> {
    /// Reads all of a listing, with metadata.
    pub(super) async fn list_below(&self, prefix: Prefix<'_>) -> Result<Vec<(Key, Meta)>, Halt> {
        let mut listing = Listing::new(prefix, None, true);
        let mut objects = Vec::new();
        while let Some(page) = listing.next_page(self).await? {
            objects.extend(page);
        }
        Ok(objects)
    }
}

/// The youngest of several keys with the same content, as far as a listing has been read.
#[derive(Debug)]
pub(super) struct Youngest {
    written: Timestamp,
    key: Key,
    is_old: bool,
}

impl Youngest {
    pub(super) fn new(key: &Key, meta: &Meta, is_old: bool) -> Self {
        Self {
            written: meta.uploaded,
            key: key.clone(),
            is_old,
        }
    }

    /// Replaces the youngest key if the other one is younger. Returns the older of the two, if it
    /// is old.
    ///
    /// The older key is deleted whether or not its manifest is stored.
    /// By then another sweep may have found the manifest missing and deleted the younger key.
    /// That sweep looked when the younger key was old already.
    /// So a push that stores the manifest after that look has written a key that is younger still.
    pub(super) fn surpass(&mut self, mut other: Self) -> Option<Key> {
        if (other.written, &other.key) > (self.written, &self.key) {
            std::mem::swap(self, &mut other);
        }
        other.is_old.then_some(other.key)
    }
}
