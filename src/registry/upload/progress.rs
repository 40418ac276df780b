//! How uploads end early: errors, and how far the upload has come.

use crate::{
    digest::Digest,
    error::{Code, Error, RETRY_AFTER},
    registry::request::Payload,
    store::StoreError,
    upload::{Upload, UploadId},
};

/// Why an upload does not go on.
#[derive(Debug)]
pub(in crate::registry) enum UploadError {
    /// What was sent does not come next in the upload, which has come as far as this.
    OutOfOrder {
        id: UploadId,
        upload: Upload,
        found: String,
    },
    /// Any other error.
    Other(Error),
}

impl UploadError {
    pub(super) fn out_of_order(id: UploadId, upload: Upload, found: impl Into<String>) -> Self {
        Self::OutOfOrder {
            id,
            upload,
            found: found.into(),
        }
    }
}

impl From<Error> for UploadError {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl From<StoreError> for UploadError {
    fn from(error: StoreError) -> Self {
        Self::Other(error.into())
    }
}

/// The length of a blob that comes whole; `None` where it is not announced or too large for one write.
pub(super) fn whole_length<B>(payload: &Payload<'_, B>) -> Result<Option<u64>, Error> {
    let length = payload.length()?;
    Ok(match (&payload.body, length) {
        (None, _) => Some(0),
        (Some(_), Some(length)) if length <= MAX_WHOLE => Some(length),
        (Some(_), _) => None,
    })
}

pub(super) fn unknown(id: UploadId) -> Error {
    Error::new(
        Code::BlobUploadUnknown,
        format!("upload {id} does not exist, or has ended"),
    )
}

/// A blob that was seen a moment ago and is gone: its last holder let go of it.
pub(super) fn swept_meanwhile(digest: &Digest) -> Error {
    Error::unavailable(
        format!("blob {digest} was removed during the push; push it again"),
        RETRY_AFTER,
    )
}

/// The largest object that is written in one piece; what is larger goes by an extent.
const MAX_WHOLE: u64 = 5 * 1024 * 1024 * 1024;
