//! Listings that are read page by page, and entry by entry.

use std::collections::VecDeque;

use crate::{
    host::Clock as _,
    platform::Platform,
    registry::upkeep::step::{Halt, JobStep},
    store::{
        Meta,
        key::{Key, Prefix},
    },
    time::Timestamp,
};

/// A listing that is read page by page, and entry by entry.
#[derive(Debug)]
pub(super) struct Listing {
    prefix: Prefix<'static>,
    metadata: bool,
    after: Option<String>,
    page: VecDeque<(Key, Meta)>,
    is_read: bool,
    /// How many pages were read.
    pub(super) pages: u64,
    /// When the last of them was asked for.
    pub(super) asked: Timestamp,
}

impl Listing {
    pub(super) fn new(prefix: Prefix<'static>, after: Option<String>, metadata: bool) -> Self {
        Self {
            prefix,
            metadata,
            after,
            page: VecDeque::new(),
            is_read: false,
            pages: 0,
            asked: Timestamp::default(),
        }
    }

    /// What the next entry is of, which stays the next. A key that names nothing is nobody's, and passed by.
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

    /// The next entry, which stays the next.
    pub(super) async fn peek<P: Platform>(
        &mut self,
        step: &JobStep<'_, P>,
    ) -> Result<Option<&(Key, Meta)>, Halt> {
        while self.page.is_empty() && !self.is_read {
            self.asked = step.upkeep.host.now();
            let page = step
                .list(self.prefix, self.after.as_deref(), self.metadata)
                .await?;
            self.is_read = !page.truncated;
            self.page = page.objects.into();
            self.pages += 1;
            if let Some((last, _)) = self.page.back() {
                self.after = Some(last.to_string());
            }
        }
        Ok(self.page.front())
    }

    /// Takes the next entry, if it is of this.
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
}

/// Of keys that say the same, the one that was written last, as far as a listing has come.
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

    /// Takes another one's place if it is younger. Answers the key of the older one, if that is old.
    ///
    /// It goes whether or not what it tells of is stored, and by then another sweeper, to whom it was not, may have told the younger one to
    /// go. That one looked when the younger one was old, so whoever stores it after that has written one that is younger still.
    pub(super) fn surpass(&mut self, mut other: Self) -> Option<Key> {
        if (other.written, &other.key) > (self.written, &self.key) {
            std::mem::swap(self, &mut other);
        }
        other.is_old.then_some(other.key)
    }
}
