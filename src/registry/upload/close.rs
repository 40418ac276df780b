//! Closing an upload: its extents become a blob.

use futures_util::future::{join, try_join};
use http::StatusCode;
use serde_json::json as detail;

use crate::{
    access::Caller,
    digest::Digest,
    error::{Code, Error, RETRY_AFTER},
    name::Name,
    platform::Platform,
    registry::{
        bound::Bound,
        grant::Look,
        request::Payload,
        upload::{
            Uploads,
            chunk::check_chunk,
            delivery::Delivery,
            progress::{UploadError, swept_meanwhile, unknown, whole_length},
            session::Session,
        },
    },
    store::{
        Content, PutOptions, Streams as _,
        bucket::StreamPart,
        document::{BlobKind, Record, from_json, to_json},
        key::Key,
    },
    upload::{Extent, Step, Upload, UploadHint, UploadId},
};

/// An upload whose extents were verified to be a blob.
pub(in crate::registry) struct SealedUpload {
    /// The number of the step that closes the upload.
    pub(in crate::registry) number: u32,
    /// All bytes of the blob, in this order.
    pub(in crate::registry) extents: Vec<Extent>,
    /// How the repository gets the blob.
    pub(in crate::registry) by: Delivery,
}

/// The error for a client whose upload another request has continued or ended.
fn moved_on(id: UploadId, upload: Upload) -> UploadError {
    if upload.is_open() {
        UploadError::out_of_order(id, upload, "the upload has moved on")
    } else {
        unknown(id).into()
    }
}

/// Whether the cause of an error can be another request that closed the upload: it is unknown, or
/// the store failed, perhaps to read extents that were deleted.
fn may_be_closed(error: &Error) -> bool {
    error.status() == StatusCode::NOT_FOUND || error.cause().is_some()
}

/// Whether the only extent must be read again, because it was hashed by another algorithm. If the
/// upload has ended, the extent may be gone.
fn needs_another_hash(upload: &Upload, digest: &Digest) -> bool {
    match &upload.last {
        Step::Received {
            offset: 0,
            digest: received,
            ..
        } => received.algorithm() != digest.algorithm(),
        Step::Start { .. }
        | Step::Received { .. }
        | Step::Closing { .. }
        | Step::Done { .. }
        | Step::Dead => false,
    }
}

fn require_digest(expected: &Digest, found: &Digest) -> Result<(), Error> {
    if expected == found {
        return Ok(());
    }
    Err(Error::new(
        Code::DigestInvalid,
        format!("the bytes received have the digest {found}, not {expected}"),
    )
    .with_detail(detail!({ "expected": expected.to_string(), "found": found.to_string() })))
}

impl<P: Platform> Uploads<P> {
    /// end-6: closes an upload, with a last chunk or without.
    ///
    /// Another request may close it as the same blob at this moment.
    /// An earlier one may have done so, and its reply was lost.
    pub(in crate::registry) async fn close_upload(
        &self,
        payload: Payload<'_, P::Body>,
        caller: &Caller,
        name: &Name,
        (id, hint): (UploadId, &UploadHint),
        digest: &Digest,
    ) -> Result<(), UploadError> {
        match self.close_once(payload, name, id, hint, digest).await {
            Err(UploadError::Other(error)) if may_be_closed(&error) => {
                let closed = self.close_again(caller, name, id, digest, error).await;
                Ok(closed?)
            }
            closed => closed,
        }
    }

    async fn close_once(
        &self,
        payload: Payload<'_, P::Body>,
        name: &Name,
        id: UploadId,
        hint: &UploadHint,
        digest: &Digest,
    ) -> Result<(), UploadError> {
        if let Some((session, upload)) = self.known(name, id, hint)
            && !needs_another_hash(&upload, digest)
            && check_chunk(&upload, &payload, id).is_ok()
        {
            let closed = self.close_open(payload, session, upload, digest).await;
            if closed.as_ref().is_err_and(UploadError::is_of_client)
                && let Ok((upload, _)) = self.list_steps(name, id).await
                && !upload.is_open()
            {
                // The hint is older than the close that this request repeats.
                return Err(unknown(id).into());
            }
            return closed;
        }
        let read = self.read_session(name, id, hint);
        let whole = whole_length(&payload)?.filter(|length| hint.step == 0 && *length > 0);
        let Some(length) = whole else {
            let (session, upload) = read.await?;
            return self.close_open(payload, session, upload, digest).await;
        };
        // Probably the client has sent nothing yet. Then this is a push of a whole blob, which
        // begins while the session is read.
        let (read, claimed) = join(read, self.claim_whole(name, digest)).await;
        let claimed = claimed?;
        let upload = match read {
            Ok((_, upload)) if matches!(upload.last, Step::Start { .. }) => upload,
            other => {
                self.forget(&claimed.grants).await;
                let (session, upload) = other?;
                return self.close_open(payload, session, upload, digest).await;
            }
        };
        check_chunk(&upload, &payload, id)?;
        // There are no extents, so the session is deleted at once.
        let ended = Some(Key::step(name, id, 0));
        let body = payload.body.take();
        self.push_whole(body, length, (name, digest), claimed, ended)
            .await?;
        Ok(())
    }

    /// Closes an upload that has received bytes, or receives them now.
    async fn close_open(
        &self,
        mut payload: Payload<'_, P::Body>,
        session: Session<'_>,
        upload: Upload,
        digest: &Digest,
    ) -> Result<(), UploadError> {
        match &upload.last {
            Step::Start { .. } | Step::Received { .. } => {
                let upload = self.receive(&mut payload, session, upload).await?;
                self.close(session, upload, digest).await?;
            }
            Step::Closing { .. } | Step::Done { .. } | Step::Dead => {
                return Err(unknown(session.id).into());
            }
        }
        Ok(())
    }

    /// Push, by PATCH: closes an upload.
    pub(super) async fn close(
        &self,
        session: Session<'_>,
        upload: Upload,
        digest: &Digest,
    ) -> Result<(), UploadError> {
        let Session { name, id, .. } = session;
        let extents = match &upload.last {
            Step::Start { .. } => {
                // Nothing was received: the blob has no bytes.
                let claimed = self.claim_whole(name, digest).await?;
                let ended = Some(Key::step(name, id, 0));
                self.push_whole(None, 0, (name, digest), claimed, ended)
                    .await?;
                return Ok(());
            }
            Step::Received {
                extent,
                offset: 0,
                digest: received,
            } => {
                let extents = vec![extent.clone()];
                if received.algorithm() == digest.algorithm() {
                    require_digest(digest, received)?;
                } else {
                    self.require_digest_of(digest, &extents).await?;
                }
                extents
            }
            Step::Received { .. } => {
                let (listed, extents) = self.list_steps(name, id).await?;
                if listed != upload {
                    return Err(moved_on(id, listed));
                }
                self.require_digest_of(digest, &extents).await?;
                extents
            }
            Step::Closing { .. } | Step::Done { .. } | Step::Dead => return Err(unknown(id).into()),
        };

        // 3 close: open → closing, by exactly one closer, ever
        // 4 KEEP: the grant beside it, because the bytes were hashed
        let by = Delivery::Push;
        if !self
            .begin_closing(session, upload.number + 1, digest, by)
            .await?
        {
            return Err(moved_on(id, self.list_steps(name, id).await?.0));
        }

        let sealed = SealedUpload {
            number: upload.number + 1,
            extents,
            by,
        };
        Ok(self.record_extents(session, sealed, digest).await?)
    }

    /// Closes an upload whose extents were verified to be the blob. If another request has closed
    /// it, the upload is unknown.
    pub(in crate::registry) async fn seal(
        &self,
        session: Session<'_>,
        sealed: SealedUpload,
        digest: &Digest,
    ) -> Result<(), Error> {
        let begun = self.begin_closing(session, sealed.number, digest, sealed.by);
        if !begun.await? {
            return Err(unknown(session.id));
        }
        self.record_extents(session, sealed, digest).await
    }

    /// Writes the step that closes an upload, and beside it the grant on its blob. Returns whether
    /// this request closes the upload.
    async fn begin_closing(
        &self,
        Session { name, id, bound }: Session<'_>,
        number: u32,
        digest: &Digest,
        by: Delivery,
    ) -> Result<bool, Error> {
        bound.check(&self.host)?;
        let closing = Step::Closing {
            digest: digest.clone(),
        };
        let (digests, reason) = ([digest], by.reason());
        let step = self.write_step(name, id, number, &closing);
        let grant = self.grants.grant(name, &digests, &reason, bound);
        let (is_closer, grants) = try_join(step, grant).await?;
        if !is_closer {
            self.forget(&grants).await;
        }
        Ok(is_closer)
    }

    /// Push, by PATCH, and fill: the steps after the upload is closing and the grant is written.
    async fn record_extents(
        &self,
        session: Session<'_>,
        sealed: SealedUpload,
        digest: &Digest,
    ) -> Result<(), Error> {
        let Session { name, id, bound } = session;
        let SealedUpload {
            number: closing,
            extents,
            by,
        } = sealed;
        let marked = self.grants.marked(&[digest]).await?;
        self.grants.lift_all(&marked, bound).await?; // 4 KEEP
        let size = extents.iter().map(|extent| extent.size).sum();
        let done = Step::Done {
            digest: digest.clone(),
            extents: extents.len() as u64,
        };
        let mine = Record::Extents { size, extents };
        let record = self.create_record(digest, &mine, bound).await?; // 5 look
        bound.check(&self.host)?;
        let end = async {
            if record == mine {
                self.write_step(name, id, closing + 1, &done).await?; // 6
                self.count_stored(size);
            } else {
                self.metrics.deduplicated.inc_by(size);
                self.write_step(name, id, closing + 1, &Step::Dead).await?;
                if let Record::Extents { extents, .. } = &mine {
                    self.delete_extents(extents).await;
                }
            }
            Ok(())
        };
        let link = self.grants.link(name, digest, &record, by.right());
        join(end, link).await.0
    }

    /// Creates the record of a blob if the blob is not stored, and returns the stored one.
    async fn create_record(
        &self,
        digest: &Digest,
        mine: &Record,
        bound: Bound,
    ) -> Result<Record, Error> {
        let metadata = to_json(&BlobKind::Extents { size: mine.size() })?;
        // Creating the record only if the blob is absent is the look.
        let mut seen = Look::Absent;
        // Losing twice needs a sweep between two pushes of the same blob: the client may retry.
        for _ in 0..3 {
            bound.check(&self.host)?;
            let options = PutOptions {
                condition: seen.condition(),
                metadata: &metadata,
                ..PutOptions::default()
            };
            let content = Content::Bytes(to_json(mine)?.into_bytes());
            if self
                .store
                .put(&Key::blob(digest), content, options)
                .await?
                .is_some()
            {
                return Ok(mine.clone());
            }
            seen = self.grants.look(digest).await?;
            if let Look::Present(record) = seen {
                return Ok(record);
            }
        }
        Err(swept_meanwhile(digest))
    }

    /// Repeats the closing of an upload that was closed as this blob: keeps and links the blob, and
    /// writes or deletes nothing of the session. Fails with `error` if it was not closed as that.
    ///
    /// Only verified bytes lead to a closing step, so it is reason enough for a right.
    /// Nothing tells why an upload without steps has none: a whole blob came through it, or the
    /// sweep ended it.
    /// Then the caller gets no right that the repository lacks, and learns nothing that it could
    /// not read.
    async fn close_again(
        &self,
        caller: &Caller,
        name: &Name,
        id: UploadId,
        digest: &Digest,
        error: Error,
    ) -> Result<(), Error> {
        let upload = match self.list_steps(name, id).await {
            Ok((upload, _)) => upload,
            Err(unknown) if unknown.status() == StatusCode::NOT_FOUND => {
                let is_linked = self.grants.may_pull(caller, name)
                    && self.grants.readable(name, digest).await?.is_some()
                    && self
                        .link_present(name, digest, Delivery::Push)
                        .await?
                        .is_some();
                return if is_linked { Ok(()) } else { Err(error) };
            }
            Err(error) => return Err(error),
        };
        let closing = match &upload.last {
            Step::Dead => {
                let before = Key::step(name, id, upload.number.saturating_sub(1));
                match self.store.head(&before).await? {
                    Some(meta) => from_json(&before, &meta.metadata)?,
                    None => Step::Dead,
                }
            }
            last => last.clone(),
        };
        match closing {
            Step::Closing { digest: closed } | Step::Done { digest: closed, .. }
                if closed == *digest => {}
            Step::Start { .. }
            | Step::Received { .. }
            | Step::Closing { .. }
            | Step::Done { .. }
            | Step::Dead => return Err(error),
        }
        let linked = self.link_present(name, digest, Delivery::Push).await?;
        if linked.is_some() {
            return Ok(());
        }
        let is_unknown = error.status() == StatusCode::NOT_FOUND;
        if is_unknown && matches!(upload.last, Step::Closing { .. }) {
            let found = "the upload is being closed by another request; try again";
            return Err(Error::unavailable(found, RETRY_AFTER));
        }
        Err(error)
    }

    async fn require_digest_of(&self, digest: &Digest, extents: &[Extent]) -> Result<(), Error> {
        let pieces = extents
            .iter()
            .map(|extent| StreamPart::Object(Key::extent(&extent.key), None))
            .collect();
        let length = extents.iter().map(|extent| extent.size).sum();
        let received = self
            .host
            .hash(
                self.store.concatenate(&self.host, pieces, length),
                digest.algorithm(),
            )
            .await?;
        require_digest(digest, &received.digest)
    }
}
