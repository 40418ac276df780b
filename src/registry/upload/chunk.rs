//! Chunks: bodies that are received as extents.

use crate::{
    error::{Code, Error},
    host::Random as _,
    name::Name,
    platform::Platform,
    range::ByteRange,
    registry::{
        request::Payload,
        upload::{
            Uploads,
            progress::{UploadError, unknown},
            session::Session,
        },
    },
    store::{Streams as _, key::Key},
    upload::{ChunkError, Extent, ExtentName, Step, Upload, UploadHint, UploadId},
};

/// Checks that a request's body is the next chunk of an upload.
/// Returns the body's length, if it is announced.
pub(super) fn check_chunk<B>(
    upload: &Upload,
    payload: &Payload<'_, B>,
    id: UploadId,
) -> Result<Option<u64>, UploadError> {
    let (length, range) = (payload.length()?, payload.range()?);
    // An empty body closes an upload, whatever range a client names for it.
    if payload.body.is_none() || length == Some(0) {
        return Ok(Some(0));
    }
    upload.admit(range, length).map_err(|error| match error {
        ChunkError::OutOfOrder { .. } => {
            UploadError::out_of_order(id, upload.clone(), error.to_string())
        }
        ChunkError::Length { .. } => Error::new(Code::SizeInvalid, error.to_string()).into(),
        ChunkError::TooMany => Error::new(Code::BlobUploadInvalid, error.to_string()).into(),
    })?;
    Ok(length.or(range.map(ByteRange::length)))
}

impl<P: Platform> Uploads<P> {
    /// end-5: receives a chunk.
    pub(in crate::registry) async fn push_chunk(
        &self,
        mut payload: Payload<'_, P::Body>,
        name: &Name,
        id: UploadId,
        hint: &UploadHint,
    ) -> Result<Upload, UploadError> {
        // A chunk that fits what the hint proves is checked by the step that it becomes.
        let known = self.known(name, id, hint);
        let known = known.filter(|(_, upload)| {
            let fits = check_chunk(upload, &payload, id);
            matches!(fits, Ok(length) if length != Some(0))
        });
        let (session, upload) = match known {
            Some(known) => known,
            None => self.read_session(name, id, hint).await?,
        };
        if !upload.is_open() {
            return Err(unknown(id).into());
        }
        self.receive(&mut payload, session, upload).await
    }

    /// Push, by PATCH: receives one body as an extent and adds it to the upload.
    pub(super) async fn receive(
        &self,
        payload: &mut Payload<'_, P::Body>,
        session: Session<'_>,
        upload: Upload,
    ) -> Result<Upload, UploadError> {
        let Session { name, id, bound } = session;
        let length = check_chunk(&upload, payload, id)?;
        let Some(body) = payload.body.take() else {
            return Ok(upload);
        };
        if length == Some(0) {
            self.host.discard(body).await;
            return Ok(upload);
        }
        let number = upload.number + 1;
        let extent = ExtentName::new(id, number.into(), &self.host.nonce());
        let extent_key = Key::extent(&extent);
        let received = self
            .store
            .receive(&extent_key, body, upload.algorithm())
            .await?; // 1 put the extent
        self.metrics.received.inc_by(received.size);
        if received.size == 0 {
            self.forget(&[extent_key]).await;
            return Ok(upload);
        }
        if let Some(length) = length.filter(|length| *length != received.size) {
            self.forget(&[extent_key]).await;
            let found = format!("{} bytes received, {length} were announced", received.size);
            return Err(Error::new(Code::SizeInvalid, found).into());
        }
        bound.check(&self.host)?;
        let last = Step::Received {
            extent: Extent {
                key: extent,
                size: received.size,
            },
            offset: upload.offset(),
            digest: received.digest,
        };
        // 2 add it to the session: of two for one offset, one wins
        if self.write_step(name, id, number, &last).await? {
            return Ok(Upload { number, last });
        }
        self.forget(&[extent_key]).await;
        let upload = self.list_steps(name, id).await?.0;
        if !upload.is_open() {
            return Err(unknown(id).into());
        }
        let found = "another chunk was received first";
        Err(UploadError::out_of_order(id, upload, found))
    }
}
