//! The tags of upstreams that this isolate has in memory.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use crate::{
    digest::Digest,
    registry::mirror::error::UpstreamError,
    store::{flight::Flights, key::Key, warm::TierContent},
    time::Timestamp,
};

/// The answers about mirrored tags in this isolate's memory.
#[derive(Debug)]
pub(super) struct Tags<B> {
    /// Answers that are not stored yet.
    pub(super) seen: RefCell<BTreeMap<Key, Learning>>,
    pub(super) absent: RefCell<BTreeMap<Key, (Timestamp, UpstreamError)>>,
    pub(super) asking: Flights<Result<Tagged<B>, UpstreamError>>,
}

impl<B> Default for Tags<B> {
    fn default() -> Self {
        Self {
            seen: RefCell::default(),
            absent: RefCell::default(),
            asking: Flights::default(),
        }
    }
}

impl<B> Tags<B> {
    /// The most tags in each map. If there are more, the map is cleared.
    const MOST: usize = 4_096;

    pub(super) fn see(&self, key: &Key, learning: Learning) {
        let mut seen = self.seen.borrow_mut();
        if seen.len() >= Self::MOST {
            seen.clear();
        }
        seen.insert(key.clone(), learning);
    }

    pub(super) fn miss(&self, key: &Key, until: Timestamp, error: &UpstreamError) {
        let mut absent = self.absent.borrow_mut();
        if absent.len() >= Self::MOST {
            absent.clear();
        }
        absent.insert(key.clone(), (until, error.clone()));
    }
}

/// The digest that a tag named when the upstream was last asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Sighting {
    pub(super) digest: Digest,
    pub(super) seen: Timestamp,
}

/// The upstream's answer about a tag, and the etag of the object that was stored then. The answer
/// is void once that object changes.
#[derive(Debug)]
pub(super) struct Learning {
    pub(super) sighting: Sighting,
    pub(super) over: Option<String>,
}

/// The digest that a tag names, with the manifest if the upstream sent it with its answer.
#[derive(Debug)]
pub(super) struct Tagged<B> {
    pub(super) digest: Digest,
    pub(super) content: Option<Rc<TierContent<B>>>,
}

impl<B> Clone for Tagged<B> {
    fn clone(&self) -> Self {
        Self {
            digest: self.digest.clone(),
            content: self.content.clone(),
        }
    }
}
