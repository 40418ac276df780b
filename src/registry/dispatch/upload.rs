//! Dispatch of requests about uploads: end-4, end-5, end-6, end-11, end-13, end-14.

use crate::{
    access::Access,
    error::{Code, Error},
    platform::Platform,
    registry::{
        Registry,
        dispatch::InRepositoryRequest,
        headers::{STRATA_RELAY, STRATA_UPLOAD_TOKEN, value},
        reply::{self, ResponseOf},
        request::Request,
        upload::{Started, progress::UploadError},
        visit::visit,
    },
    route::{UploadOperation, UploadStart},
};

/// The error for a client that closes an upload without naming its blob.
fn unnamed() -> Error {
    let found = "no query parameter digest: close an upload with the digest of its blob";
    Error::new(Code::DigestInvalid, found)
}

impl<P: Platform> Registry<P> {
    /// Answers a request about an upload.
    pub(super) async fn dispatch_upload(
        &self,
        request: &mut Request<P::Body>,
        operation: &UploadOperation,
        of: InRepositoryRequest<'_, P::Bytes>,
    ) -> Result<ResponseOf<P>, UploadError> {
        let (uploads, name) = (&self.uploads, of.name);
        match operation {
            UploadOperation::Start(start) => self.start_upload(request, start, of).await,
            UploadOperation::Show(id) => {
                let upload = uploads.upload_status(name, *id).await?;
                let hint = uploads.hint(name, *id, &upload);
                Ok(reply::upload::status(name, *id, &upload, &hint))
            }
            UploadOperation::PushChunk { id, hint } => {
                let payload = request.payload();
                let upload = uploads.push_chunk(payload, name, *id, hint).await?;
                let largest = self.settings.body_bytes;
                let hint = uploads.hint(name, *id, &upload);
                Ok(reply::upload::received(name, *id, &upload, &hint, largest))
            }
            UploadOperation::Close { id, hint, digest } => {
                let digest = digest.as_ref().ok_or_else(unnamed)?;
                let payload = request.payload();
                uploads
                    .close_upload(payload, of.caller, name, (*id, hint), digest)
                    .await?;
                Ok(reply::upload::stored(name, digest))
            }
            UploadOperation::Cancel(id) => {
                uploads.cancel_upload(name, *id).await?;
                Ok(reply::upload::cancelled(*id))
            }
        }
    }

    /// Starts an upload. A relay gets a token for it, which outlives the client's.
    async fn start_upload(
        &self,
        request: &mut Request<P::Body>,
        start: &UploadStart,
        InRepositoryRequest {
            caller,
            name,
            asked,
            ..
        }: InRepositoryRequest<'_, P::Bytes>,
    ) -> Result<ResponseOf<P>, UploadError> {
        let payload = request.payload();
        let started = self.uploads.start_upload(payload, caller, name, start);
        let started = started.await?;
        let visit = visit(&self.settings, request);
        match started {
            Started::Stored(digest) => Ok(reply::upload::stored(name, &digest)),
            Started::NeedsScope(source) => {
                Err(Access::mount_needs_scope(asked, &source, visit).into())
            }
            Started::Open(id, upload) => {
                let largest = self.settings.body_bytes;
                let hint = self.uploads.hint(name, id, &upload);
                let mut response = reply::upload::received(name, id, &upload, &hint, largest);
                if request.headers.contains_key(STRATA_RELAY) {
                    let lifetime = self.settings.grace / 2;
                    let access = &self.settings.access;
                    let token =
                        access.issue_for_upload(caller, visit, (name, id), lifetime, &self.host)?;
                    response
                        .headers_mut()
                        .insert(STRATA_UPLOAD_TOKEN, value(&token));
                }
                Ok(response)
            }
        }
    }
}
