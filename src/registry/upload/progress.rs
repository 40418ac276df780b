//! How far uploads have come, in headers and errors.

use http::{HeaderName, HeaderValue, StatusCode, header};

use crate::{
    digest::Digest,
    error::{Code, Error, RETRY_AFTER},
    name::Name,
    registry::{
        headers::{DOCKER_UPLOAD_UUID, value},
        request::Payload,
    },
    upload::{Upload, UploadId},
};

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

/// 416, with the range that was received, so that a client can go on from there.
pub(super) fn out_of_order(name: &Name, id: UploadId, upload: &Upload, found: &str) -> Error {
    let mut error =
        Error::new(Code::BlobUploadInvalid, found).with_status(StatusCode::RANGE_NOT_SATISFIABLE);
    for (header, value) in progress(name, id, upload) {
        error = error.with_header(header, value);
    }
    error
}

/// Where an upload goes on, and how far it has come. `Range` can't say that nothing came: `0-0` is what clients know.
pub(in crate::registry) fn progress(
    name: &Name,
    id: UploadId,
    upload: &Upload,
) -> [(HeaderName, HeaderValue); 3] {
    let location = match upload.number {
        0 => format!("/v2/{name}/blobs/uploads/{id}"),
        number => format!("/v2/{name}/blobs/uploads/{id}?step={number}"),
    };
    [
        (header::LOCATION, value(&location)),
        (
            header::RANGE,
            value(&format!("0-{}", upload.offset().saturating_sub(1))),
        ),
        (DOCKER_UPLOAD_UUID, value(&id.to_string())),
    ]
}

/// The largest object that is written in one piece; what is larger goes by an extent.
const MAX_WHOLE: u64 = 5 * 1024 * 1024 * 1024;
