//! Pushing blobs: end-4, end-5, end-6, end-13, end-14.
//!
//! Bytes are written once and never moved. A blob that comes whole, with its digest and its length, is one write at its own
//! key. A body that comes by `PATCH` becomes an extent as it streams in, and closing the upload writes a record that names
//! the extents. The comments name the steps of the removal protocol.

use std::rc::Rc;

use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use serde_json::json as detail;

use crate::{
    access::Caller,
    digest::Digest,
    error::{Code, Error, RETRY_AFTER},
    host::{Host as _, Level},
    metrics::Metrics,
    name::Name,
    platform::Platform,
    range::ByteRange,
    registry::{
        bound::Bound,
        grant::{Grants, Look},
        parts::Parts,
        reply::{Answer, Body, respond, respond_with_location, value},
        request::{Request, text},
    },
    route::UploadStart,
    settings::Settings,
    store::{
        Bytes as _, Condition, Content, Meta, Piece, PutOptions, StoreError, Streams as _,
        bucket::Bucket,
        document::{BlobKind, Reason, Record, Right, from_json, is_blob, to_json},
        key::{Key, Prefix},
    },
    upload::{ChunkError, Extent, ExtentName, Step, Upload, UploadId},
};

/// Uploads: bytes that are received, hashed, and become blobs.
pub(super) struct Uploads<P: Platform> {
    store: Bucket<P::Cold>,
    host: P::Host,
    settings: Rc<Settings>,
    metrics: Rc<Metrics>,
    grants: Rc<Grants<P>>,
}

/// How a blob comes to a repository: decides the reason of its grant and what its link records.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Delivery {
    /// A client pushed or mounted it.
    Push,
    /// An upstream sent it, or another repository of the same upstream has it.
    Fill,
}

impl Delivery {
    /// The reason of the grant that KEEP writes.
    pub(super) const fn reason(self) -> Reason {
        match self {
            Self::Push => Reason::Upload,
            Self::Fill => Reason::Filled,
        }
    }

    /// What the link records.
    pub(super) const fn right(self) -> Option<Right> {
        match self {
            Self::Push => Some(Right::Pushed),
            Self::Fill => Some(Right::Filled),
        }
    }
}

/// An upload whose extents were verified to be a blob.
pub(super) struct Sealed {
    /// The number of its step that closes it.
    pub(super) number: u32,
    /// All of its bytes, in this order.
    pub(super) extents: Vec<Extent>,
    /// How the repository gets the blob.
    pub(super) by: Delivery,
}

const DOCKER_UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// The largest object that is written in one piece; what is larger goes by an extent.
const MAX_WHOLE: u64 = 5 * 1024 * 1024 * 1024;

impl<P: Platform> Uploads<P> {
    pub(super) fn new(parts: &Parts<P>, grants: Rc<Grants<P>>) -> Self {
        Self {
            store: parts.store.clone(),
            host: parts.host.clone(),
            settings: parts.settings.clone(),
            metrics: parts.metrics.clone(),
            grants,
        }
    }

    /// end-4, end-11: starts an upload, or takes a blob that comes whole or is there already.
    pub(super) async fn start_upload(
        &self,
        request: &mut Request<P::Body>,
        caller: &Caller,
        name: &Name,
        start: &UploadStart,
    ) -> Answer<P> {
        let bound = self.grants.bound();
        let algorithm = match start {
            UploadStart::Session { algorithm } => *algorithm,
            UploadStart::Whole(digest) => {
                if let Some(length) = whole_length(request)? {
                    self.push_whole(request.body.take(), length, name, digest)
                        .await?;
                    return Ok(created(name, digest));
                }
                digest.algorithm()
            }
            UploadStart::Mount { digest, from } => {
                if self.mount(caller, name, digest, from.as_ref()).await? {
                    return Ok(created(name, digest));
                }
                digest.algorithm()
            }
        };
        let id = UploadId::new(self.host.random());
        let upload = Upload {
            number: 0,
            last: Step::Start { algorithm },
        };
        self.write_step(name, id, upload.number, &upload.last)
            .await?;
        let UploadStart::Whole(digest) = start else {
            return Ok(accepted(name, id, &upload));
        };
        // A blob whose length nobody announced is received as an upload of one chunk.
        let upload = self.receive(request, name, id, upload, bound).await?;
        self.close(name, id, upload, digest, bound).await?;
        Ok(created(name, digest))
    }

    /// Mount: whether the repository now holds a blob that another one lets it have. Who may not pull from that one hears no
    /// more than who names one that has not got it.
    async fn mount(
        &self,
        caller: &Caller,
        name: &Name,
        digest: &Digest,
        from: Option<&Name>,
    ) -> Result<bool, Error> {
        // As pulls find it: the name may be one of the default upstream.
        let from = match from.map(|from| (from, self.settings.upstreams.resolve(from, None))) {
            Some((from, Ok(mirrored))) => {
                Some(mirrored.map_or_else(|| from.clone(), |mirrored| mirrored.name))
            }
            Some((_, Err(_))) => return Ok(false),
            None => None,
        };
        let source = match &from {
            Some(from) if self.grants.may_pull(caller, from) => {
                self.grants.readable(from, digest).await?
            }
            Some(_) => None,
            None => self.grants.readable_anywhere(caller, digest).await?,
        };
        if source.is_none() {
            return Ok(false);
        }
        self.keep_present(name, digest, Delivery::Push).await
    }

    /// Gives a repository a blob that is there: whether it still is.
    pub(super) async fn keep_present(
        &self,
        name: &Name,
        digest: &Digest,
        by: Delivery,
    ) -> Result<bool, Error> {
        let bound = self.grants.bound();
        self.grants
            .keep(name, &[digest], &by.reason(), bound)
            .await?; // KEEP
        let Some(record) = self.grants.record(digest).await? else {
            return Ok(false);
        };
        self.grants.link(name, digest, &record, by.right()).await;
        self.metrics.deduplicated.inc_by(record.size());
        Ok(true)
    }

    /// end-13: says how far an upload has come.
    pub(super) async fn upload_status(&self, name: &Name, id: UploadId) -> Answer<P> {
        let upload = self.list_steps(name, id).await?.0;
        if !upload.is_open() {
            return Err(unknown(id));
        }
        let mut response = accepted(name, id, &upload);
        *response.status_mut() = StatusCode::NO_CONTENT;
        response.headers_mut().remove(header::CONTENT_LENGTH);
        Ok(response)
    }

    /// end-14: gives an upload up.
    pub(super) async fn cancel_upload(&self, name: &Name, id: UploadId) -> Answer<P> {
        let bound = self.grants.bound();
        loop {
            let (upload, extents) = self.list_steps(name, id).await?;
            if !upload.is_open() {
                return Err(unknown(id));
            }
            bound.check(&self.host)?;
            if self
                .write_step(name, id, upload.number + 1, &Step::Dead)
                .await?
            {
                self.delete_extents(&extents).await;
                let mut response = respond(StatusCode::NO_CONTENT);
                response
                    .headers_mut()
                    .insert(DOCKER_UPLOAD_UUID, value(&id.to_string()));
                return Ok(response);
            }
        }
    }

    /// end-5: receives a chunk.
    pub(super) async fn push_chunk(
        &self,
        request: &mut Request<P::Body>,
        name: &Name,
        id: UploadId,
        step: u32,
    ) -> Answer<P> {
        let bound = self.grants.bound();
        let upload = self.read_upload(name, id, step).await?;
        if !upload.is_open() {
            return Err(unknown(id));
        }
        let upload = self.receive(request, name, id, upload, bound).await?;
        Ok(accepted(name, id, &upload))
    }

    /// end-6: closes an upload, with a last chunk or without.
    pub(super) async fn close_upload(
        &self,
        request: &mut Request<P::Body>,
        name: &Name,
        id: UploadId,
        step: u32,
        digest: Option<&Digest>,
    ) -> Answer<P> {
        let digest = digest.ok_or_else(|| {
            Error::new(
                Code::DigestInvalid,
                "no query parameter digest, which names the blob that the upload is",
            )
        })?;
        let bound = self.grants.bound();
        let upload = self.read_upload(name, id, step).await?;
        match &upload.last {
            Step::Start { .. } => match whole_length(request)? {
                Some(length) => {
                    check_chunk(&upload, request, id, name)?;
                    self.push_whole(request.body.take(), length, name, digest)
                        .await?;
                    // No extent is at stake: the session may go at once.
                    self.forget(&[Key::step(name, id, 0)]).await;
                }
                None => {
                    let upload = self.receive(request, name, id, upload, bound).await?;
                    self.close(name, id, upload, digest, bound).await?;
                }
            },
            Step::Received { .. } => {
                let upload = self.receive(request, name, id, upload, bound).await?;
                self.close(name, id, upload, digest, bound).await?;
            }
            Step::Closing { .. } | Step::Done { .. } => {
                self.close_again(name, id, &upload.last, digest).await?;
            }
            Step::Dead => return Err(unknown(id)),
        }
        Ok(created(name, digest))
    }

    /// Push, whole.
    pub(super) async fn push_whole(
        &self,
        body: Option<P::Body>,
        length: u64,
        name: &Name,
        digest: &Digest,
    ) -> Result<(), Error> {
        let bound = self.grants.bound();
        let blob = Key::blob(digest);
        let seen = match self.store.head(&blob).await? {
            None => Look::Absent,
            Some(meta) if !is_blob(&meta) => Look::Aside(meta),
            Some(_) => {
                return self.push_present(body, length, name, digest, bound).await;
            }
        };

        let grants = self
            .grants
            .keep(name, &[digest], &Reason::Claim, bound)
            .await?; // 1 KEEP
        let content = match body {
            Some(body) => Content::Stream(body, length),
            None => Content::Bytes(Vec::new()),
        };
        let metadata = to_json(&BlobKind::Bytes);
        let options = PutOptions {
            condition: seen.condition(),
            digest: Some(digest),
            metadata: &metadata,
        };
        match self.store.put(&blob, content, options).await {
            // 2, 3: creating the blob only if it is absent is the look. 4: the link. 5: 201
            Ok(Some(meta)) => {
                let record = Record::Bytes { size: meta.size };
                self.grants
                    .make_good(name, digest, &record, Delivery::Push.right())
                    .await?;
                self.metrics.received.inc_by(meta.size);
                self.count_stored(meta.size);
            }
            Ok(None) => {
                // Another client created the blob since. That does not prove that this client has
                // its bytes.
                if !self.verifies_first(&grants, digest).await {
                    self.forget(&grants).await;
                    let found = format!(
                        "blob {digest} was pushed by another client at the same moment, push it again"
                    );
                    return Err(Error::unavailable(found, RETRY_AFTER));
                }
                let found = self.grants.record(digest).await?;
                let record = found.ok_or_else(|| swept_meanwhile(digest))?;
                self.grants
                    .make_good(name, digest, &record, Delivery::Push.right())
                    .await?;
                self.metrics.received.inc_by(length);
                self.metrics.deduplicated.inc_by(record.size());
            }
            Err(error) => {
                self.void(&grants, &error).await;
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// Push, whole, of a blob that is there, perhaps through another repository. A client that has
    /// the bytes may have a grant on them.
    ///
    /// A client that does not have them must not learn that somebody else does. So a push of other
    /// bytes takes the same operations in the same order as if the blob were not there, and gets the
    /// same answer: the claim is written before the body is read, a mark is lifted only once the
    /// bytes were right, and after wrong bytes comes a write that the store refuses, as it refuses
    /// to create a blob of wrong bytes.
    async fn push_present(
        &self,
        body: Option<P::Body>,
        length: u64,
        name: &Name,
        digest: &Digest,
        bound: Bound,
    ) -> Result<(), Error> {
        // 1 KEEP: the grant, then a look at the mark
        let (grants, marked) = self
            .grants
            .grant(name, &[digest], &Reason::Claim, bound)
            .await?;
        let received = match body {
            Some(body) => {
                let received = self.store.hash(body, digest.algorithm()).await;
                received.map(|received| (received.size, received.digest))
            }
            None => Ok((length, digest.algorithm().digest(b""))),
        };
        let right = received.and_then(|(size, found)| {
            if size != length {
                Err(StoreError::Length)
            } else if found != *digest {
                Err(StoreError::Digest)
            } else {
                Ok(())
            }
        });
        if let Err(error) = right {
            // The store refuses it by the digest or by the condition. Any other outcome is ignored:
            // the write only costs what a push of a new blob would.
            drop(self.write_refused(&Key::blob(digest), digest).await);
            self.void(&grants, &error).await;
            return Err(error.into());
        }
        self.metrics.received.inc_by(length);
        self.grants.lift_all(&marked, bound).await?; // 1 KEEP: the mark, if it was not lifted
        bound.check(&self.host)?;
        let found = self.grants.record(digest).await?; // 2 look
        let record = found.ok_or_else(|| swept_meanwhile(digest))?;
        self.grants
            .make_good(name, digest, &record, Delivery::Push.right())
            .await?; // 4 the link
        self.metrics.deduplicated.inc_by(record.size());
        Ok(())
    }

    /// Whether the store verifies the digest of a write before its condition. If not, a write that
    /// lost to another one proves nothing about its bytes. R2's documentation does not say, so a
    /// probe asks the store: a write of bytes with another digest to an existing grant.
    async fn verifies_first(&self, grants: &[Key], digest: &Digest) -> bool {
        match grants.first() {
            Some(grant) => {
                let refused = self.write_refused(grant, digest).await;
                matches!(refused, Err(StoreError::Digest))
            }
            None => false,
        }
    }

    /// Makes a write that the store refuses: bytes that don't have the digest, on the condition
    /// that the key is absent.
    async fn write_refused(&self, key: &Key, digest: &Digest) -> Result<Option<Meta>, StoreError> {
        let empty = Vec::new();
        let other = if digest.algorithm().digest(&empty) == *digest {
            vec![0]
        } else {
            empty
        };
        let options = PutOptions {
            condition: Condition::Absent,
            digest: Some(digest),
            ..PutOptions::default()
        };
        self.store.put(key, Content::Bytes(other), options).await
    }

    /// Deletes a claim if the bytes were wrong. If the client is gone, the claim stays until it
    /// expires, and gives no right.
    async fn void(&self, grants: &[Key], error: &StoreError) {
        if matches!(error, StoreError::Digest | StoreError::Length) {
            self.forget(grants).await;
        }
    }

    /// Stores a small blob of an upstream. `seen` is the look before the fetch. The bytes are held
    /// in memory and hashed before anything is written, so no claim is needed.
    pub(super) async fn fill_whole(
        &self,
        body: Option<P::Body>,
        length: u64,
        name: &Name,
        digest: &Digest,
        seen: &Look,
    ) -> Result<(), Error> {
        let bound = self.grants.bound();
        let bytes = match body {
            Some(body) => self.store.hold(body, length).await?,
            None => P::Bytes::copy_from(b""),
        };
        self.metrics.received.inc_by(length);
        if bytes.digest(digest.algorithm()).await? != *digest {
            return Err(StoreError::Digest.into());
        }
        let by = Delivery::Fill;
        self.grants
            .keep(name, &[digest], &by.reason(), bound)
            .await?; // 1 KEEP
        let metadata = to_json(&BlobKind::Bytes);
        let options = PutOptions {
            condition: seen.condition(),
            digest: Some(digest),
            metadata: &metadata,
        };
        let content = if length == 0 {
            Content::Bytes(Vec::new())
        } else {
            let pieces = vec![Piece::Held(bytes)];
            Content::Stream(self.store.concatenate(pieces, length), length)
        };
        bound.check(&self.host)?;
        // 2, 3: creating the blob only if it is absent is the look
        let record = match self.store.put(&Key::blob(digest), content, options).await? {
            Some(meta) => {
                self.count_stored(meta.size);
                Record::Bytes { size: meta.size }
            }
            None => {
                let found = self.grants.record(digest).await?;
                let record = found.ok_or_else(|| swept_meanwhile(digest))?;
                self.metrics.deduplicated.inc_by(record.size());
                record
            }
        };
        self.grants.link(name, digest, &record, by.right()).await; // 4
        Ok(())
    }

    /// Push, by PATCH: receives one body as an extent and adds it to the upload.
    async fn receive(
        &self,
        request: &mut Request<P::Body>,
        name: &Name,
        id: UploadId,
        upload: Upload,
        bound: Bound,
    ) -> Result<Upload, Error> {
        let length = check_chunk(&upload, request, id, name)?;
        match request.body.take() {
            Some(body) => {
                self.receive_body(body, length, name, id, upload, bound)
                    .await
            }
            None => Ok(upload),
        }
    }

    /// The same of a body by itself, of this length if that is known.
    async fn receive_body(
        &self,
        body: P::Body,
        length: Option<u64>,
        name: &Name,
        id: UploadId,
        upload: Upload,
        bound: Bound,
    ) -> Result<Upload, Error> {
        if length == Some(0) {
            self.store.discard(body).await;
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
            let found = format!("{} bytes received, {length} announced", received.size);
            return Err(Error::new(Code::SizeInvalid, found));
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
            return Err(unknown(id));
        }
        Err(out_of_order(name, id, &upload, "another chunk came first"))
    }

    /// Push, by PATCH: closes an upload. BOUND counts from before the session was read: a sweeper may take one that was not
    /// moved for that long for abandoned.
    async fn close(
        &self,
        name: &Name,
        id: UploadId,
        upload: Upload,
        digest: &Digest,
        bound: Bound,
    ) -> Result<(), Error> {
        let extents = match &upload.last {
            Step::Start { .. } => {
                // Nothing was received: the blob has no bytes.
                self.push_whole(None, 0, name, digest).await?;
                self.forget(&[Key::step(name, id, 0)]).await;
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
                    return Err(out_of_order(name, id, &listed, "the upload has moved on"));
                }
                self.require_digest_of(digest, &extents).await?;
                extents
            }
            Step::Closing { .. } | Step::Done { .. } | Step::Dead => return Err(unknown(id)),
        };

        // 3 close: open → closing, by exactly one closer, ever
        bound.check(&self.host)?;
        let closing = Step::Closing {
            digest: digest.clone(),
        };
        if !self
            .write_step(name, id, upload.number + 1, &closing)
            .await?
        {
            let listed = self.list_steps(name, id).await?.0;
            if listed.is_open() {
                return Err(out_of_order(name, id, &listed, "the upload has moved on"));
            }
            return self.close_again(name, id, &listed.last, digest).await;
        }

        let sealed = Sealed {
            number: upload.number + 1,
            extents,
            by: Delivery::Push,
        };
        self.record_extents(name, id, sealed, digest, bound).await
    }

    /// Closes an upload of extents that are known to be the blob, and that nobody else can have closed.
    pub(super) async fn seal(
        &self,
        name: &Name,
        id: UploadId,
        sealed: Sealed,
        digest: &Digest,
        bound: Bound,
    ) -> Result<(), Error> {
        bound.check(&self.host)?;
        let closing = Step::Closing {
            digest: digest.clone(),
        };
        if !self.write_step(name, id, sealed.number, &closing).await? {
            return Err(unknown(id));
        }
        self.record_extents(name, id, sealed, digest, bound).await
    }

    /// Push, by PATCH, and fill: the steps after the upload is closing.
    async fn record_extents(
        &self,
        name: &Name,
        id: UploadId,
        sealed: Sealed,
        digest: &Digest,
        bound: Bound,
    ) -> Result<(), Error> {
        let Sealed {
            number: closing,
            extents,
            by,
        } = sealed;
        self.grants
            .keep(name, &[digest], &by.reason(), bound)
            .await?; // 4 KEEP
        let size = extents.iter().map(|extent| extent.size).sum();
        let done = Step::Done {
            digest: digest.clone(),
            extents: extents.len() as u64,
        };
        let mine = Record::Extents { size, extents };
        let record = self.create_record(digest, &mine, bound).await?; // 5 look
        bound.check(&self.host)?;
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
        self.grants.link(name, digest, &record, by.right()).await;
        Ok(())
    }

    fn count_stored(&self, size: u64) {
        self.metrics.blobs.inc();
        self.metrics.blob_bytes.inc_by(size);
    }

    /// Creates the record of a blob if the blob is not there, and answers the one that is.
    async fn create_record(
        &self,
        digest: &Digest,
        mine: &Record,
        bound: Bound,
    ) -> Result<Record, Error> {
        let metadata = to_json(&BlobKind::Extents { size: mine.size() });
        // Losing twice needs a sweep between two pushes of the same blob: the client may come again.
        for _ in 0..3 {
            let seen = self.grants.look(digest).await?;
            if let Look::Present(record) = seen {
                return Ok(record);
            }
            bound.check(&self.host)?;
            let options = PutOptions {
                condition: seen.condition(),
                metadata: &metadata,
                ..PutOptions::default()
            };
            let content = Content::Bytes(to_json(mine).into_bytes());
            if self
                .store
                .put(&Key::blob(digest), content, options)
                .await?
                .is_some()
            {
                return Ok(mine.clone());
            }
        }
        Err(swept_meanwhile(digest))
    }

    /// A closing that was retried only looks, and writes and deletes nothing of the session's.
    async fn close_again(
        &self,
        name: &Name,
        id: UploadId,
        last: &Step,
        digest: &Digest,
    ) -> Result<(), Error> {
        let by = Delivery::Push;
        match last {
            Step::Closing { digest: closed } | Step::Done { digest: closed, .. }
                if closed == digest =>
            {
                let bound = self.grants.bound();
                self.grants
                    .keep(name, &[digest], &by.reason(), bound)
                    .await?;
                match self.grants.record(digest).await? {
                    Some(record) => {
                        self.grants.link(name, digest, &record, by.right()).await;
                        Ok(())
                    }
                    None if matches!(last, Step::Closing { .. }) => Err(Error::unavailable(
                        "the upload is being closed, try again",
                        RETRY_AFTER,
                    )),
                    None => Err(unknown(id)),
                }
            }
            Step::Start { .. }
            | Step::Received { .. }
            | Step::Closing { .. }
            | Step::Done { .. }
            | Step::Dead => Err(unknown(id)),
        }
    }

    /// Reads how far an upload has come: two cheap reads where the client's hint is right, else a listing.
    ///
    /// The next step is looked for before the one hinted at. A sweeper deletes the steps of a dead session from the first to
    /// the last: read the other way round, a session that was dead and is gone could seem to be open.
    pub(super) async fn read_upload(
        &self,
        name: &Name,
        id: UploadId,
        hint: u32,
    ) -> Result<Upload, Error> {
        let number = hint.min(Upload::MAX_STEPS);
        if self
            .store
            .head(&Key::step(name, id, number + 1))
            .await?
            .is_none()
        {
            let here = Key::step(name, id, number);
            if let Some(meta) = self.store.head(&here).await? {
                return Ok(Upload {
                    number,
                    last: from_json(&here, &meta.metadata)?,
                });
            }
            if number == 0 {
                return Err(unknown(id));
            }
        }
        Ok(self.list_steps(name, id).await?.0)
    }

    /// Reads all steps of an upload, and the extents received.
    async fn list_steps(&self, name: &Name, id: UploadId) -> Result<(Upload, Vec<Extent>), Error> {
        let listing = self.store.list_all(Prefix::Steps(name, id)).await?;
        let mut last = None;
        let mut extents = Vec::new();
        for (key, meta) in &listing.objects {
            let Key::Step { number, .. } = *key else {
                return Err(StoreError::Failed(format!("{key} is not a step")).into());
            };
            let step = from_json(key, &meta.metadata)?;
            if let Step::Received { extent, .. } = &step {
                extents.push(extent.clone());
            }
            last = Some(Upload { number, last: step });
        }
        let upload: Upload = last.ok_or_else(|| unknown(id))?;
        // A session that was swept between two pages has lost its last step as well.
        let last = Key::step(name, id, upload.number);
        if !listing.is_one_reading && self.store.head(&last).await?.is_none() {
            return Err(unknown(id));
        }
        Ok((upload, extents))
    }

    /// Writes one step of an upload, unless that step was taken.
    pub(super) async fn write_step(
        &self,
        name: &Name,
        id: UploadId,
        number: u32,
        step: &Step,
    ) -> Result<bool, Error> {
        let metadata = to_json(step);
        let options = PutOptions {
            condition: Condition::Absent,
            metadata: &metadata,
            ..PutOptions::default()
        };
        let written = self
            .store
            .put(
                &Key::step(name, id, number),
                Content::Bytes(Vec::new()),
                options,
            )
            .await?;
        Ok(written.is_some())
    }

    async fn require_digest_of(&self, digest: &Digest, extents: &[Extent]) -> Result<(), Error> {
        let pieces = extents
            .iter()
            .map(|extent| Piece::Object(Key::extent(&extent.key).to_string(), None))
            .collect();
        let length = extents.iter().map(|extent| extent.size).sum();
        let received = self
            .store
            .hash(self.store.concatenate(pieces, length), digest.algorithm())
            .await?;
        require_digest(digest, &received.digest)
    }

    pub(super) async fn delete_extents(&self, extents: &[Extent]) {
        let keys: Vec<Key> = extents
            .iter()
            .map(|extent| Key::extent(&extent.key))
            .collect();
        for keys in keys.chunks(1_000) {
            self.forget(keys).await;
        }
    }

    /// Deletes what is of no more use. Where that fails the sweep will do it, so the client need not hear of it.
    pub(super) async fn forget(&self, keys: &[Key]) {
        if let Err(error) = self.store.delete(keys).await {
            self.host.log(
                Level::Error,
                "not deleted",
                &[("error", &error.to_string())],
            );
        }
    }
}

/// The length of a blob that comes whole; `None` where it is not announced or too large for one write.
fn whole_length<B>(request: &Request<B>) -> Result<Option<u64>, Error> {
    let length = content_length(request)?;
    Ok(match (&request.body, length) {
        (None, _) => Some(0),
        (Some(_), Some(length)) if length <= MAX_WHOLE => Some(length),
        (Some(_), _) => None,
    })
}

fn content_length<B>(request: &Request<B>) -> Result<Option<u64>, Error> {
    text(&request.headers, header::CONTENT_LENGTH)
        .map(|value| {
            value
                .parse()
                .map_err(|_| Error::new(Code::SizeInvalid, "content-length is not a number"))
        })
        .transpose()
}

/// Whether the body of a request may come next in an upload. Answers the body's length, as far as it is announced.
fn check_chunk<B>(
    upload: &Upload,
    request: &Request<B>,
    id: UploadId,
    name: &Name,
) -> Result<Option<u64>, Error> {
    let length = content_length(request)?;
    let range: Option<ByteRange> = text(&request.headers, header::CONTENT_RANGE)
        .map(str::parse)
        .transpose()
        .map_err(|error: crate::range::ParseRangeError| {
            Error::new(Code::BlobUploadInvalid, format!("content-range: {error}"))
        })?;
    // An empty body closes an upload whatever range a client may name for it.
    if request.body.is_none() || length == Some(0) {
        return Ok(Some(0));
    }
    upload.admit(range, length).map_err(|error| match error {
        ChunkError::OutOfOrder { .. } => out_of_order(name, id, upload, &error.to_string()),
        ChunkError::Length { .. } => Error::new(Code::SizeInvalid, error.to_string()),
        ChunkError::TooMany => Error::new(Code::BlobUploadInvalid, error.to_string()),
    })?;
    Ok(length.or(range.map(ByteRange::length)))
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

fn unknown(id: UploadId) -> Error {
    Error::new(
        Code::BlobUploadUnknown,
        format!("{id} was never started here, or has ended"),
    )
}

/// A blob that was seen a moment ago and is gone: its last holder let go of it.
fn swept_meanwhile(digest: &Digest) -> Error {
    Error::unavailable(
        format!("blob {digest} was removed meanwhile, push it again"),
        RETRY_AFTER,
    )
}

/// 416, with the range that was received, so that a client can go on from there.
fn out_of_order(name: &Name, id: UploadId, upload: &Upload, found: &str) -> Error {
    let mut error =
        Error::new(Code::BlobUploadInvalid, found).with_status(StatusCode::RANGE_NOT_SATISFIABLE);
    for (header, value) in progress(name, id, upload) {
        error = error.with_header(header, value);
    }
    error
}

fn accepted<S, Y>(name: &Name, id: UploadId, upload: &Upload) -> Response<Body<S, Y>> {
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

fn created<S, Y>(name: &Name, digest: &Digest) -> Response<Body<S, Y>> {
    respond_with_location(
        StatusCode::CREATED,
        &format!("/v2/{name}/blobs/{digest}"),
        Some(digest),
    )
}
