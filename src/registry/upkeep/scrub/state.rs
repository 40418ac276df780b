//! The state of a blob, as the scrub sees it, and the listings that show it.

use crate::{
    registry::upkeep::listing::Listing,
    store::{StoreError, document::Record},
};

/// The state of a blob.
pub(super) enum BlobState {
    /// It is stored and verified.
    Sound(Record),
    /// It is stored, and its bytes are not known to be right or wrong.
    Unknown,
    /// It is not stored.
    Absent,
}

/// The result of reading a blob.
pub(super) enum Verdict {
    Sound,
    /// Its content is wrong.
    Wrong(String),
    /// It was not read to its end, which may be the fault of the connection to the store.
    Failed(StoreError),
    /// It has changed since the read began.
    Changed,
}

/// The listings that are read side by side.
pub(super) struct Listings {
    pub(super) references: Listing<'static>,
    pub(super) blobs: Listing<'static>,
    pub(super) derived: Listing<'static>,
}
