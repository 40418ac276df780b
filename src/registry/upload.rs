//! Pushing blobs: end-4, end-5, end-6, end-13, end-14.
//!
//! A push writes bytes once and never moves them; the sweep joins several extents later.
//! A blob that is sent whole, with its digest and its length, is one write at its own key.
//! A body that is sent by `PATCH` becomes an extent as it streams in, and closing the upload writes
//! a record that names the extents.
//! The comments name the steps of the removal protocol.

use std::rc::Rc;

use crate::{
    access::Caller,
    digest::Digest,
    error::Error,
    host::Random as _,
    metrics::Metrics,
    name::Name,
    platform::Platform,
    registry::{
        grant::{Grants, right::MountSource},
        parts::Parts,
        request::Payload,
        upload::{
            delivery::Delivery,
            progress::{UploadError, unknown, whole_length},
            session::Session,
        },
    },
    route::UploadStart,
    settings::Settings,
    store::{bucket::Bucket, document::Record},
    upload::{Step, Upload, UploadId},
};

mod chunk;
pub(super) mod close;
pub(super) mod delivery;
mod hint;
pub(super) mod progress;
pub(super) mod session;
mod steps;
mod whole;

/// The outcome of a request to start an upload.
pub(super) enum Started {
    /// The repository has this blob: it was sent whole, or was stored already.
    Stored(Digest),
    /// An upload was started.
    Open(UploadId, Upload),
    /// A blob could be mounted from this repository with another token of the caller.
    NeedsScope(Name),
}

/// The outcome of a mount.
enum Mounted {
    /// The repository has the blob now.
    Stored,
    /// It could, by a token that covers this repository.
    NeedsScope(Name),
    /// There is no source that the caller may pull from.
    NoSource,
}

/// Uploads: bytes that are received, hashed, and become blobs.
pub(super) struct Uploads<P: Platform> {
    store: Bucket<P::Cold>,
    host: P::Host,
    settings: Rc<Settings>,
    metrics: Rc<Metrics>,
    grants: Rc<Grants<P>>,
}

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

    /// end-4, end-11: starts an upload, stores a blob that is sent whole, or mounts one.
    pub(super) async fn start_upload(
        &self,
        mut payload: Payload<'_, P::Body>,
        caller: &Caller,
        name: &Name,
        start: &UploadStart,
    ) -> Result<Started, UploadError> {
        let bound = self.grants.bound();
        let algorithm = match start {
            UploadStart::Session { algorithm } => *algorithm,
            UploadStart::Whole(digest) => {
                if let Some(length) = whole_length(&payload)? {
                    let claimed = self.claim_whole(name, digest).await?;
                    let blob = (name, digest);
                    self.push_whole(payload.body.take(), length, blob, claimed, None)
                        .await?;
                    return Ok(Started::Stored(digest.clone()));
                }
                digest.algorithm()
            }
            UploadStart::Mount { digest, from } => {
                match self.mount(caller, name, digest, from.as_ref()).await? {
                    Mounted::Stored => return Ok(Started::Stored(digest.clone())),
                    Mounted::NeedsScope(source) => return Ok(Started::NeedsScope(source)),
                    Mounted::NoSource => digest.algorithm(),
                }
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
            return Ok(Started::Open(id, upload));
        };
        // A blob without a Content-Length is received as an upload of one chunk.
        let session = Session { name, id, bound };
        let upload = self.receive(&mut payload, session, upload).await?;
        self.close(session, upload, digest).await?;
        Ok(Started::Stored(digest.clone()))
    }

    /// Mount: a blob of a repository that the caller may pull from.
    /// A caller that may not pull from that repository gets the same answer as if that repository
    /// lacked the blob. So does one whose token alone lacks it, if the caller named it: the answer
    /// comes before a look at the blob.
    async fn mount(
        &self,
        caller: &Caller,
        name: &Name,
        digest: &Digest,
        from: Option<&Name>,
    ) -> Result<Mounted, Error> {
        let source = match from {
            Some(asked) => {
                // Resolve it as pulls do: the name may belong to the default upstream.
                let Ok(mirrored) = self.settings.upstreams.resolve(asked, None) else {
                    return Ok(Mounted::NoSource);
                };
                let from = mirrored.map_or_else(|| asked.clone(), |mirrored| mirrored.name);
                if self.grants.may_pull(caller, &from) {
                    self.grants.readable(&from, digest).await?.is_some()
                } else if self.settings.access.sees(caller, &from) {
                    return Ok(Mounted::NeedsScope(asked.clone()));
                } else {
                    false
                }
            }
            None => match self.grants.readable_anywhere(caller, digest).await? {
                MountSource::Readable => true,
                MountSource::NeedsScope(source) => return Ok(Mounted::NeedsScope(source)),
                MountSource::None => false,
            },
        };
        let is_mounted = source && self.keep_present(name, digest, Delivery::Push).await?;
        Ok(if is_mounted {
            Mounted::Stored
        } else {
            Mounted::NoSource
        })
    }

    /// Grants a stored blob to a repository. Returns whether the blob is still stored.
    pub(super) async fn keep_present(
        &self,
        name: &Name,
        digest: &Digest,
        by: Delivery,
    ) -> Result<bool, Error> {
        let linked = self.link_present(name, digest, by).await?;
        if let Some(record) = &linked {
            self.metrics.deduplicated.inc_by(record.size());
        }
        Ok(linked.is_some())
    }

    /// The same, for a repository that may have it already. Returns the record.
    async fn link_present(
        &self,
        name: &Name,
        digest: &Digest,
        by: Delivery,
    ) -> Result<Option<Record>, Error> {
        let bound = self.grants.bound();
        self.grants
            .keep(name, &[digest], &by.reason(), bound)
            .await?; // KEEP
        let record = self.grants.record(digest).await?;
        if let Some(record) = &record {
            self.grants.link(name, digest, record, by.right()).await;
        }
        Ok(record)
    }

    /// end-13: the progress of an upload.
    pub(super) async fn upload_status(&self, name: &Name, id: UploadId) -> Result<Upload, Error> {
        let upload = self.list_steps(name, id).await?.0;
        if !upload.is_open() {
            return Err(unknown(id));
        }
        Ok(upload)
    }

    /// end-14: cancels an upload.
    pub(super) async fn cancel_upload(&self, name: &Name, id: UploadId) -> Result<(), Error> {
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
                return Ok(());
            }
        }
    }

    fn count_stored(&self, size: u64) {
        self.metrics.blobs.inc();
        self.metrics.blob_bytes.inc_by(size);
    }
}
