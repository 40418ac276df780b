//! Errors of uploads, with the progress from which a client can resume.

use crate::{
    digest::Digest,
    error::{Code, Error, RETRY_AFTER},
    registry::request::Payload,
    store::{LARGEST_WRITE, StoreError},
    upload::{Upload, UploadId},
};

/// Why a request about an upload fails.
#[derive(Debug)]
pub(in crate::registry) enum UploadError {
    /// The chunk is not the next one of the upload, whose progress is `upload`.
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

impl UploadError {
    /// Whether the request was wrong, and not the registry.
    pub(super) fn is_of_client(&self) -> bool {
        match self {
            Self::OutOfOrder { .. } => true,
            Self::Other(error) => error.status().is_client_error(),
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

/// The length of a blob that is sent whole;
/// `None` if the length is unknown or too large for one write: then the blob becomes an extent.
pub(super) fn whole_length<B>(payload: &Payload<'_, B>) -> Result<Option<u64>, Error> {
    let length = payload.length()?;
    Ok(match (&payload.body, length) {
        (None, _) => Some(0),
        (Some(_), Some(length)) if length <= LARGEST_WRITE => Some(length),
        (Some(_), _) => None,
    })
}

pub(super) fn unknown(id: UploadId) -> Error {
    Error::new(
        Code::BlobUploadUnknown,
        format!("upload {id} does not exist, or has ended"),
    )
}

/// The error for a blob that was there a moment ago and is gone,
/// because its last grant was deleted.
pub(super) fn swept_meanwhile(digest: &Digest) -> Error {
    Error::unavailable(
        format!("blob {digest} was removed during the push; push it again"),
        RETRY_AFTER,
    )
}
