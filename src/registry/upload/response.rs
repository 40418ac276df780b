//! Responses and errors about uploads.

use http::{HeaderName, HeaderValue, Response, StatusCode, header};

use crate::{
    digest::Digest,
    error::{Code, Error, RETRY_AFTER},
    name::Name,
    registry::{
        reply::{Body, respond, respond_with_location, value},
        request::{Request, text},
    },
    upload::{Upload, UploadId},
};

pub(super) const DOCKER_UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// The length of a blob that comes whole; `None` where it is not announced or too large for one write.
pub(super) fn whole_length<B>(request: &Request<B>) -> Result<Option<u64>, Error> {
    let length = content_length(request)?;
    Ok(match (&request.body, length) {
        (None, _) => Some(0),
        (Some(_), Some(length)) if length <= MAX_WHOLE => Some(length),
        (Some(_), _) => None,
    })
}

pub(super) fn content_length<B>(request: &Request<B>) -> Result<Option<u64>, Error> {
    text(&request.headers, header::CONTENT_LENGTH)
        .map(|value| {
            value
                .parse()
                .map_err(|_| Error::new(Code::SizeInvalid, "content-length is not a number"))
        })
        .transpose()
}

pub(super) fn unknown(id: UploadId) -> Error {
    Error::new(
        Code::BlobUploadUnknown,
        format!("{id} was never started here, or has ended"),
    )
}

/// A blob that was seen a moment ago and is gone: its last holder let go of it.
pub(super) fn swept_meanwhile(digest: &Digest) -> Error {
    Error::unavailable(
        format!("blob {digest} was removed meanwhile, push it again"),
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

pub(super) fn accepted<S, Y>(name: &Name, id: UploadId, upload: &Upload) -> Response<Body<S, Y>> {
    let mut response = respond(StatusCode::ACCEPTED);
    response
        .headers_mut()
        .insert(header::CONTENT_LENGTH, HeaderValue::from(0));
    response.headers_mut().extend(progress(name, id, upload));
    response
}

/// Where an upload goes on, and how far it has come. `Range` can't say that nothing came: `0-0` is what clients know.
fn progress(name: &Name, id: UploadId, upload: &Upload) -> [(HeaderName, HeaderValue); 3] {
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

pub(super) fn created<S, Y>(name: &Name, digest: &Digest) -> Response<Body<S, Y>> {
    respond_with_location(
        StatusCode::CREATED,
        &format!("/v2/{name}/blobs/{digest}"),
        Some(digest),
    )
}

/// The largest object that is written in one piece; what is larger goes by an extent.
const MAX_WHOLE: u64 = 5 * 1024 * 1024 * 1024;
