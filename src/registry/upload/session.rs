//! The session of an upload.

use crate::{name::Name, registry::bound::Bound, upload::UploadId};

/// An upload that a request goes on with.
#[derive(Clone, Copy, Debug)]
pub(in crate::registry) struct Session<'a> {
    pub(in crate::registry) name: &'a Name,
    pub(in crate::registry) id: UploadId,
    /// Counts from before the upload was read: a sweeper may take one that was not moved for that
    /// long for abandoned.
    pub(in crate::registry) bound: Bound,
}
