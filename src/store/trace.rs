//! The trace of one request: the tiers that it asked, and how long they took.

use std::{
    cell::{Cell, RefCell},
    fmt::Write as _,
    time::Duration,
};

use crate::{
    platform::Platform,
    store::{Object, StoreError, Streams as _, after::Notes, bucket::Bucket, key::Key},
    tier::Tier,
};

/// The reads from the tiers that one request made, for its headers and for the work after it.
#[derive(Debug)]
pub struct Trace<B> {
    /// Whether a cached "absent" may be used. Never for a caller who can push: another isolate may
    /// have stored the content since.
    pub believes_absence: Cell<bool>,
    /// Whether a tag may be believed that was read a moment ago. Never for a caller who can change
    /// tags, whatever its token covers.
    pub believes_tags: Cell<bool>,
    /// The reason why a stored value was served although the upstream should have been asked again.
    pub stale: Cell<Option<&'static str>>,
    steps: RefCell<Vec<TraceStep>>,
    last: Cell<Option<Tier>>,
    /// The work that is left for after the reply.
    pub after: Notes<B>,
}

#[derive(Clone, Copy, Debug)]
struct TraceStep {
    what: &'static str,
    tier: Tier,
    took: Duration,
}

impl<B> Default for Trace<B> {
    fn default() -> Self {
        Self {
            believes_absence: Cell::new(false),
            believes_tags: Cell::new(false),
            stale: Cell::new(None),
            steps: RefCell::default(),
            last: Cell::new(None),
            after: Notes::default(),
        }
    }
}

impl<B> Trace<B> {
    /// Records which tier answered a read, and how long it took. Reads of one kind that one tier
    /// answered count as one, because a file may be made of thousands.
    pub fn step(&self, what: &'static str, tier: Tier, took: Duration) {
        self.last.set(Some(tier));
        let mut steps = self.steps.borrow_mut();
        let same = |step: &&mut TraceStep| step.what == what && step.tier == tier;
        match steps.iter_mut().find(same) {
            Some(step) => step.took += took,
            None => steps.push(TraceStep { what, tier, took }),
        }
    }

    /// Reads an object from the cold tier. If the caller drops the read, because the warm tier has
    /// answered first, it goes on after the reply, and its stream is discarded.
    pub async fn get<P: Platform>(
        &self,
        store: &Bucket<P::Cold>,
        host: &P::Host,
        key: Key,
    ) -> Result<Option<Object<P::Body>>, StoreError> {
        let (store, streams) = (store.clone(), host.clone());
        let read = async move { store.get(&key, None).await };
        let discard = async move |read: Result<Option<Object<P::Body>>, _>| {
            if let Ok(Some(object)) = read {
                streams.discard(object.body).await;
            }
        };
        self.after.read_to_end(host, read, discard).await
    }

    /// The tier that gave the last answer. The reply is made of that answer.
    pub fn tier(&self) -> Option<Tier> {
        self.last.get()
    }

    /// Formats a `Server-Timing` header: each kind of read, the tier that answered, and
    /// milliseconds.
    ///
    /// <https://www.w3.org/TR/server-timing/>
    pub fn server_timing(&self) -> String {
        let mut text = String::new();
        for TraceStep { what, tier, took } in self.steps.borrow().iter() {
            let separator = if text.is_empty() { "" } else { ", " };
            // Writing to a string does not fail.
            let _ = write!(
                text,
                "{separator}{what};desc={};dur={}",
                tier.name(),
                took.as_millis()
            );
        }
        text
    }
}
