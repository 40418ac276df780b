//! The session of an upload.

use crate::{name::Name, registry::bound::Bound, upload::UploadId};

/// An upload that a request continues.
#[derive(Clone, Copy, Debug)]
pub(in crate::registry) struct Session<'a> {
    pub(in crate::registry) name: &'a Name,
    pub(in crate::registry) id: UploadId,
    /// Starts before the upload is read, because a sweep may end an upload without progress.
    pub(in crate::registry) bound: Bound,
}
