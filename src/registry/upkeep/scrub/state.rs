//! The state of a blob, as the scrub sees it, and the listings that tell of it.

use crate::{
    registry::upkeep::listing::Listing,
    store::{StoreError, document::Record},
};

/// What is known of a blob.
pub(super) enum State {
    /// It is there, and what it should be.
    Sound(Record),
    /// It is there, and no more is known.
    Unknown,
    /// It is not there.
    Absent,
}

/// What came of reading a blob.
pub(super) enum Verdict {
    Sound,
    /// It is not what it should be.
    Wrong(String),
    /// It was not read to its end, and that may be the way to the store.
    Failed(StoreError),
    /// It is no longer what it was when this began.
    Changed,
}

/// What is read side by side.
pub(super) struct Listings {
    pub(super) references: Listing,
    pub(super) blobs: Listing,
    pub(super) derived: Listing,
}
