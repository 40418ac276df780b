//! Interrupted fills, which resume where they ended.

use std::{cmp::Reverse, collections::BTreeMap};

use futures_util::future::join;

use crate::{
    digest::Digest,
    error::{Code, Error},
    host::{Clock as _, Random as _},
    name::Name,
    platform::{HasherOf, Platform},
    registry::{
        bound::Bound,
        mirror::{Mirror, fill::Fill},
        upload::session::Session,
    },
    store::{
        Content, HELD, Hasher as _, PutOptions, Reader as _, StoreError, Streams,
        key::{Key, Prefix},
    },
    upload::{Extent, Step, UploadId},
};

/// The stored part of a fill: an open upload and its extents.
/// A fill is interrupted if the upstream fails, if it has no reader,
/// or if the platform ends its request.
/// The next request for the blob resumes it.
pub(super) struct BegunFill {
    pub(super) id: UploadId,
    pub(super) bound: Bound,
    /// The extents from the start, without a gap.
    pub(super) extents: Vec<Extent>,
}

impl BegunFill {
    /// The upload of the fill, in a repository.
    pub(super) const fn session<'a>(&self, name: &'a Name) -> Session<'a> {
        Session {
            name,
            id: self.id,
            bound: self.bound,
        }
    }

    /// The offset at which the fill resumes.
    pub(super) fn offset(&self) -> u64 {
        self.extents.iter().map(|extent| extent.size).sum()
    }
}

/// The chain of extents that reaches farthest from the start without a gap, in order.
/// There may be several extents for one offset, if a fill was interrupted more than once or is
/// resumed by several isolates.
fn longest(mut extents: Vec<(u64, Extent)>) -> Vec<Extent> {
    extents.retain(|(_, extent)| extent.size > 0);
    extents.sort_by_key(|(start, _)| Reverse(*start));
    // For each offset the extent that reaches farthest, and the end that it reaches.
    let mut best = BTreeMap::<u64, (u64, Extent)>::new();
    for (start, extent) in extents {
        let end = start.saturating_add(extent.size);
        let reach = best.get(&end).map_or(end, |(reach, _)| *reach);
        if best.get(&start).is_none_or(|(other, _)| reach > *other) {
            best.insert(start, (reach, extent));
        }
    }
    let mut at = 0;
    let in_order = std::iter::from_fn(|| {
        let (_, extent) = best.remove(&at)?;
        at += extent.size;
        Some(extent)
    });
    in_order.collect()
}

impl<P: Platform> Mirror<P> {
    /// A new fill.
    pub(super) fn begin_anew(&self) -> BegunFill {
        BegunFill {
            id: UploadId::new(self.host.random()),
            bound: self.grants.bound(),
            extents: Vec::new(),
        }
    }

    /// The open fill of a blob, if there is one.
    /// It may be under way in another isolate: of two isolates that resume it, one closes it.
    pub(super) async fn begun(
        &self,
        name: &Name,
        digest: &Digest,
    ) -> Result<Option<BegunFill>, Error> {
        let mut begun = self.begin_anew();
        let Some((_, hint)) = self
            .store
            .text(&self.host, &Key::fill(digest, name))
            .await?
        else {
            return Ok(None);
        };
        let Ok(id) = hint.parse() else {
            return Ok(None);
        };
        begun.id = id;
        match self.uploads.read_upload(name, id, 0).await {
            Ok(upload) if upload.is_open() => {}
            Ok(_) => return Ok(None),
            Err(error) if error.code() == Code::BlobUploadUnknown => return Ok(None),
            Err(error) => return Err(error),
        }
        let listing = self.store.list_all(Prefix::ExtentsOf(id)).await?;
        let extents = listing.objects.iter().filter_map(|(stored, meta)| {
            let Key::Extent(key) = stored.clone() else {
                return None;
            };
            let size = meta.size;
            Some((key.place()?, Extent { key, size }))
        });
        begun.extents = longest(extents.collect());
        // Drop the last extent: if it were the end of the blob, there would be no rest to ask for.
        begun.extents.pop();
        Ok(Some(begun))
    }

    /// Whether an upload became this blob, or is about to.
    pub(super) async fn is_closed(&self, name: &Name, id: UploadId, digest: &Digest) -> bool {
        match self
            .uploads
            .read_upload(name, id, 1)
            .await
            .map(|upload| upload.last)
        {
            Ok(Step::Closing { digest: closed } | Step::Done { digest: closed, .. }) => {
                closed == *digest
            }
            Ok(Step::Start { .. } | Step::Received { .. } | Step::Dead) | Err(_) => false,
        }
    }

    /// Deletes the extents of a fill, after its upload is ended so that nothing resumes it.
    pub(super) async fn drop_fill(&self, name: &Name, digest: &Digest, begun: BegunFill) {
        let BegunFill { id, extents, .. } = begun;
        if !extents.is_empty()
            && matches!(
                self.uploads.write_step(name, id, 1, &Step::Dead).await,
                Ok(true)
            )
        {
            self.uploads.delete_extents(&extents).await;
            self.uploads.forget(&[Key::fill(digest, name)]).await;
        }
    }

    /// Begins the upload of a fill, and stores the hint that leads to it.
    pub(super) async fn start_fill(
        &self,
        name: &Name,
        digest: &Digest,
        id: UploadId,
    ) -> Result<(), StoreError> {
        let start = Step::Start {
            algorithm: digest.algorithm(),
        };
        let started = self.uploads.write_step(name, id, 0, &start);
        let hint = Content::Bytes(id.to_string().into_bytes());
        let fill = Key::fill(digest, name);
        let hinted = self.store.put(&fill, hint, PutOptions::default());
        let (started, hinted) = join(started, hinted).await;
        started.map_err(|error| StoreError::Failed(error.message()))?;
        hinted.map(drop)
    }

    /// Hashes the stored part of a blob.
    pub(super) async fn hash_begun(
        &self,
        hasher: &mut HasherOf<P>,
        begun: &BegunFill,
        fill: &Fill<P::Bytes>,
    ) -> Result<(), StoreError> {
        for extent in &begun.extents {
            let key = Key::extent(&extent.key);
            let object = self.store.get(&key, None).await?;
            let object = object.ok_or_else(|| StoreError::Failed(format!("{key} is gone")))?;
            let mut reader = self.host.read(object.body)?;
            while let Some(bytes) = reader.hold(HELD).await? {
                hasher.update(&bytes).await?;
                fill.moves(self.host.now());
            }
        }
        Ok(())
    }
}
