//! Responses about uploads: end-4, end-5, end-6, end-11, end-13, end-14.

use http::{HeaderName, HeaderValue, Response, StatusCode, header};

use crate::{
    digest::Digest,
    error::{Code, Error},
    name::Name,
    registry::{
        body::Body,
        headers::{DOCKER_UPLOAD_UUID, value},
        reply::{respond, respond_with_location},
        upload::{Started, progress::UploadError},
    },
    upload::{Upload, UploadId},
};

/// The place at which a started upload continues, or the blob that was sent whole or mounted.
pub(in crate::registry) fn started<S, Y>(name: &Name, started: &Started) -> Response<Body<S, Y>> {
    match started {
        Started::Stored(digest) => stored(name, digest),
        Started::Open(id, upload) => received(name, *id, upload),
    }
}

/// 202: the progress of an upload, and the place at which it continues.
pub(in crate::registry) fn received<S, Y>(
    name: &Name,
    id: UploadId,
    upload: &Upload,
) -> Response<Body<S, Y>> {
    let mut response = respond(StatusCode::ACCEPTED);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(0));
    headers.extend(progress(name, id, upload));
    response
}

/// 201: the repository has a blob.
pub(in crate::registry) fn stored<S, Y>(name: &Name, digest: &Digest) -> Response<Body<S, Y>> {
    let location = format!("/v2/{name}/blobs/{digest}");
    respond_with_location(StatusCode::CREATED, &location, digest)
}

/// 204: the progress of an upload (end-13).
pub(in crate::registry) fn status<S, Y>(
    name: &Name,
    id: UploadId,
    upload: &Upload,
) -> Response<Body<S, Y>> {
    let mut response = respond(StatusCode::NO_CONTENT);
    response.headers_mut().extend(progress(name, id, upload));
    response
}

/// 204: an upload was cancelled (end-14).
pub(in crate::registry) fn cancelled<S, Y>(id: UploadId) -> Response<Body<S, Y>> {
    let mut response = respond(StatusCode::NO_CONTENT);
    response
        .headers_mut()
        .insert(DOCKER_UPLOAD_UUID, value(&id.to_string()));
    response
}

/// The error of a request about an upload.
/// 416 if the chunk is not the next one, with the progress, so that the client can resume.
pub(in crate::registry) fn refused(name: &Name, error: UploadError) -> Error {
    match error {
        UploadError::OutOfOrder { id, upload, found } => {
            let error = Error::new(Code::BlobUploadInvalid, found);
            let error = error.with_status(StatusCode::RANGE_NOT_SATISFIABLE);
            let headers = progress(name, id, &upload).into_iter();
            headers.fold(error, |error, (header, value)| {
                error.with_header(header, value)
            })
        }
        UploadError::Other(error) => error,
    }
}

/// The place at which an upload continues, and its progress.
/// `Range` has no form for an empty upload: clients expect `0-0`.
fn progress(name: &Name, id: UploadId, upload: &Upload) -> [(HeaderName, HeaderValue); 3] {
    let location = match upload.number {
        0 => format!("/v2/{name}/blobs/uploads/{id}"),
        number => format!("/v2/{name}/blobs/uploads/{id}?step={number}"),
    };
    let range = format!("0-{}", upload.offset().saturating_sub(1));
    [
        (header::LOCATION, value(&location)),
        (header::RANGE, value(&range)),
        (DOCKER_UPLOAD_UUID, value(&id.to_string())),
    ]
}
