//! The cache beside the leases: it uses memory that no lease needs, and gives it back at once.

use std::{fmt, rc::Rc};

/// The cache of an isolate, as the ledger sees it.
#[derive(Default)]
pub(super) struct Cached {
    pub(super) bytes: u64,
    /// Shrinks the cache to so many bytes, and returns its bytes then.
    pub(super) shrink: Option<Rc<dyn Fn(u64) -> u64>>,
    /// The most bytes that leases and cache ever had together.
    pub(super) peak: u64,
}

impl fmt::Debug for Cached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cached")
            .field("bytes", &self.bytes)
            .field("peak", &self.peak)
            .finish_non_exhaustive()
    }
}
