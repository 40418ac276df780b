//! Sweeping blobs: grants whose reason is gone, links without grants, blobs without grants.
//!
//! Four listings are read side by side, blob by blob.
//! They find unused objects without an operation for each used one, and only nominate.
//! For a blob without grants the mark is read, *then* its grants are listed afresh, *then* the mark
//! is moved.

use crate::{
    host::Clock as _,
    platform::Platform,
    registry::upkeep::{
        filter::Filter,
        inventory::Inventory,
        listing::Listing,
        step::{Halt, JobStep, Removal, RemovalAction, What},
        sweep::{
            cursor::SweepBlobPosition,
            joining::JoinCandidates,
            nominee::{Looks, Nominee},
            references::References,
        },
    },
    store::{
        Meta,
        document::BlobKind,
        key::{Key, Prefix},
    },
};

impl<P: Platform> JobStep<'_, P> {
    /// Sweeps all blobs from a place on, and leaves the place where it ended.
    pub(super) async fn sweep_blobs(
        &self,
        place: &mut SweepBlobPosition,
        manifests: &Filter,
        inventory: &mut Inventory,
        candidates: &mut JoinCandidates,
    ) -> Result<(), Halt> {
        let swept = self
            .walk_blobs(place, manifests, inventory, candidates)
            .await;
        // Delete the queued keys, even if the walk ended early.
        let flushed = self.flush().await;
        swept.and(flushed)
    }

    async fn walk_blobs(
        &self,
        place: &mut SweepBlobPosition,
        manifests: &Filter,
        inventory: &mut Inventory,
        candidates: &mut JoinCandidates,
    ) -> Result<(), Halt> {
        let after = place.after.as_ref();
        let past = after.map(|digest| Prefix::Holders(digest).end());
        let reference = place.reference.as_ref().map(Key::to_string);
        let references = Listing::new(Prefix::References, reference.max(past), true);
        let mut blobs = Listing::new(
            Prefix::Blobs,
            after.map(|digest| Key::blob(digest).to_string()),
            true,
        );
        let mut marks = Listing::new(
            Prefix::Marks,
            after.map(|digest| Key::mark(digest).to_string()),
            false,
        );
        let past = after.map(|digest| Prefix::Layer(digest).end());
        let mut derived = Listing::new(Prefix::Layers, past, false);
        let mut references = References {
            step: self,
            listing: references,
            place,
            manifests,
            looks: Looks::default(),
            inventory,
        };
        loop {
            self.require_more()?;
            let next = [
                references.listing.peek_of(self, Key::digest).await?,
                blobs.peek_of(self, Key::digest).await?,
                marks.peek_of(self, Key::digest).await?,
                derived.peek_of(self, Key::digest).await?,
            ];
            let Some(digest) = next.into_iter().flatten().min() else {
                return Ok(());
            };
            let blob = blobs.take(self, &digest, Key::digest).await?;
            let mut nominee = Nominee {
                blob: blob.map(|(key, meta)| self.measure(&key, meta)),
                is_marked: marks.take(self, &digest, Key::digest).await?.is_some(),
                is_held: references.place.is_held,
                linked: Vec::new(),
                derived: None,
                digest,
            };
            references.read(&mut nominee).await?;
            while let Some((_, meta)) = derived.take(self, &nominee.digest, Key::digest).await? {
                nominee.derived = nominee.derived.max(Some(meta.uploaded));
            }
            self.settle(&nominee).await?;
            self.nominate_join(&nominee, candidates);
            if let Some((_, size)) = nominee.blob {
                references.inventory.blobs += 1;
                references.inventory.bytes += size;
            }
            self.forget_told();
            references.place.after = Some(nominee.digest);
            references.place.is_held = false;
        }
    }

    /// The size of a blob, by its object.
    fn measure(&self, key: &Key, meta: Meta) -> (Meta, u64) {
        let size = match self.read(key, &meta.metadata) {
            Some(BlobKind::Extents { size }) => size,
            Some(BlobKind::Aside) => 0,
            Some(BlobKind::Bytes) | None => meta.size,
        };
        (meta, size)
    }

    /// Applies the removal protocol to a blob that seems unused.
    async fn settle(&self, nominee: &Nominee) -> Result<(), Halt> {
        let digest = &nominee.digest;
        let is_there = nominee.blob.is_some() || nominee.is_marked;
        if !nominee.linked.is_empty() || (is_there && !nominee.is_held) {
            // The following reads must not find keys that were reported as deleted.
            self.flush().await?;
        }
        for name in &nominee.linked {
            self.sweep_link(name, digest).await?;
        }
        if is_there && !nominee.is_held {
            self.move_mark(nominee).await?;
        }
        if let Some(written) = nominee.derived
            && !is_there
            && self.upkeep.host.now().since(written) >= self.upkeep.settings.grace
            && self.head(&Key::blob(digest)).await?.is_none()
        {
            // A pass over the layer wrote it while the layer was removed.
            // If a client has pushed the layer again and looks inside before this deletion, the
            // next look writes the index again.
            self.tell(Removal {
                action: RemovalAction::Delete,
                what: What::Index,
                key: Prefix::Layer(digest).to_string(),
                bytes: 0,
                why: "its layer is not stored",
            });
            self.delete_derived(digest).await?;
        }
        Ok(())
    }
}
