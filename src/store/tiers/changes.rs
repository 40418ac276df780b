//! The changes that this isolate has seen lately.

use std::{
    cell::RefCell,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use crate::time::Timestamp;

/// When keys were last changed by this isolate.
///
/// Times are kept by a hash of the key, so that their number is bounded and none is ever forgotten.
/// If two keys share a hash, a cached answer may be discarded needlessly, but never used wrongly.
#[derive(Debug)]
pub(super) struct Changes {
    /// Random bytes, so that no client can choose keys that collide.
    seed: [u8; 16],
    moments: RefCell<Box<[Timestamp]>>,
}

impl Changes {
    pub(super) fn new(seed: [u8; 16]) -> Self {
        Self {
            seed,
            moments: RefCell::new(vec![Timestamp::default(); 4_096].into()),
        }
    }

    pub(super) fn note(&self, key: &str, now: Timestamp) {
        let mut moments = self.moments.borrow_mut();
        let at = self.at(key, moments.len());
        if let Some(moment) = moments.get_mut(at) {
            *moment = now;
        }
    }

    /// Whether a key was changed at a moment or after it. Equal times count as later, because some
    /// clocks stand still while code runs.
    pub(super) fn since(&self, key: &str, moment: Timestamp) -> bool {
        let moments = self.moments.borrow();
        moments
            .get(self.at(key, moments.len()))
            .is_some_and(|changed| *changed >= moment)
    }

    fn at(&self, key: &str, length: usize) -> usize {
        let mut hasher = DefaultHasher::new();
        hasher.write(&self.seed);
        key.hash(&mut hasher);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the remainder is smaller than the length"
        )]
        let at = (hasher.finish() % length as u64) as usize;
        at
    }
}
