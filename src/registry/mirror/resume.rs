//! Fills that were interrupted, and go on where they ended.

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

/// A fill as far as it is stored: its upload, open, and the extents of that. One that was interrupted, by an upstream that fails, for
/// want of a reader or as the platform ended its request, is gone on with by the next request for its blob.
pub(super) struct Begun {
    pub(super) id: UploadId,
    pub(super) bound: Bound,
    /// What is stored without a gap, from the start.
    pub(super) extents: Vec<Extent>,
}

impl Begun {
    /// Its upload, of a repository.
    pub(super) const fn session<'a>(&self, name: &'a Name) -> Session<'a> {
        Session {
            name,
            id: self.id,
            bound: self.bound,
        }
    }

    /// Where it goes on.
    pub(super) fn offset(&self) -> u64 {
        self.extents.iter().map(|extent| extent.size).sum()
    }
}

/// Of extents, by where they begin, those that reach farthest from the start without a gap, in order. Where a fill was interrupted more
/// than once, or several go on with it, there may be several for one place.
fn longest(mut extents: Vec<(u64, Extent)>) -> Vec<Extent> {
    extents.retain(|(_, extent)| extent.size > 0);
    extents.sort_by_key(|(start, _)| Reverse(*start));
    // The extent at each place from where to get farthest, and how far that is.
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
    /// A fill that begins.
    pub(super) fn begin_anew(&self) -> Begun {
        Begun {
            id: UploadId::new(self.host.random()),
            bound: self.grants.bound(),
            extents: Vec::new(),
        }
    }

    /// The fill of a blob that was begun and not ended, if there is one. It may be under way in another isolate: of two that go on with
    /// one, one closes it.
    pub(super) async fn begun(&self, name: &Name, digest: &Digest) -> Result<Option<Begun>, Error> {
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
        // The last one is of no use: were it the end of the blob, there would be no rest to ask for.
        begun.extents.pop();
        Ok(Some(begun))
    }

    /// Whether an upload became a blob, or is about to.
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

    /// Gives up what a fill has stored: nobody goes on with it.
    pub(super) async fn drop_fill(&self, name: &Name, digest: &Digest, begun: Begun) {
        let Begun { id, extents, .. } = begun;
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

    /// Begins the upload of a fill, and leaves a hint at it.
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

    /// Hashes what is stored of a blob already.
    pub(super) async fn hash_begun(
        &self,
        hasher: &mut HasherOf<P>,
        begun: &Begun,
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
