//! Responses about uploads: end-4, end-5, end-6, end-11, end-13, end-14.

use http::{HeaderName, HeaderValue, Response, StatusCode, header};

use crate::{
    digest::Digest,
    error::{Code, Error},
    name::Name,
    registry::{
        body::Body,
        headers::{DOCKER_UPLOAD_UUID, OCI_CHUNK_MAX_LENGTH, OCI_CHUNK_MIN_LENGTH, value},
        reply::{respond, respond_with_location},
        upload::progress::UploadError,
    },
    upload::{Upload, UploadHint, UploadId},
};

/// The smallest chunk that clients should send, in bytes. Smaller ones are accepted; each chunk is
/// an object, and a pull reads all of them.
const MIN_CHUNK: u64 = 8 * 1024 * 1024;

/// 202: the progress of an upload, the place at which it continues, and the sizes of its chunks:
/// `largest` is the most bytes that the edge accepts.
pub(in crate::registry) fn received<S, Y>(
    name: &Name,
    id: UploadId,
    upload: &Upload,
    hint: &UploadHint,
    largest: u64,
) -> Response<Body<S, Y>> {
    let mut response = respond(StatusCode::ACCEPTED);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(0));
    headers.insert(OCI_CHUNK_MIN_LENGTH, MIN_CHUNK.into());
    headers.insert(OCI_CHUNK_MAX_LENGTH, largest.into());
    headers.extend(progress(name, id, upload, hint));
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
    hint: &UploadHint,
) -> Response<Body<S, Y>> {
    let mut response = respond(StatusCode::NO_CONTENT);
    let progress = progress(name, id, upload, hint);
    response.headers_mut().extend(progress);
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
            let hint = UploadHint {
                step: upload.number,
                signed: None,
            };
            let headers = progress(name, id, &upload, &hint).into_iter();
            headers.fold(error, |error, (header, value)| {
                error.with_header(header, value)
            })
        }
        UploadError::Other(error) => error,
    }
}

/// The place at which an upload continues, and its progress.
/// `Range` has no form for an empty upload: clients expect `0-0`.
fn progress(
    name: &Name,
    id: UploadId,
    upload: &Upload,
    hint: &UploadHint,
) -> [(HeaderName, HeaderValue); 3] {
    let location = if *hint == UploadHint::default() {
        format!("/v2/{name}/blobs/uploads/{id}")
    } else {
        format!("/v2/{name}/blobs/uploads/{id}?step={hint}")
    };
    let range = format!("0-{}", upload.offset().saturating_sub(1));
    [
        (header::LOCATION, value(&location)),
        (header::RANGE, value(&range)),
        (DOCKER_UPLOAD_UUID, value(&id.to_string())),
    ]
}
