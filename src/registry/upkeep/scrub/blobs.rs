//! Scrubbing blobs: their bytes, and the objects that are derived from them.

use crate::{
    digest::Digest,
    platform::Platform,
    registry::upkeep::{
        listing::Listing,
        scrub::{
            LARGE, SMALL, Scrub,
            bytes::unread,
            cursor::{Edges, ScrubBlobPosition, ScrubCursor, ScrubPosition},
            state::{BlobState, Listings},
        },
        step::Halt,
    },
    store::{
        Meta,
        document::BlobKind,
        key::{Key, Prefix},
    },
};

impl<P: Platform> Scrub<'_, P> {
    /// Checks all blobs, from the cursor's place on.
    pub(super) async fn scrub_blobs(
        &self,
        cursor: &mut ScrubCursor,
        etag: &mut Option<String>,
    ) -> Result<(), Halt> {
        let ScrubPosition::Blobs(place) = &cursor.place else {
            return Ok(());
        };
        let mut place = place.clone();
        let after = place.after.as_ref();
        let past = after.map(|digest| Prefix::Holders(digest).end());
        let reference = place.reference.as_ref().map(Key::to_string);
        let mut listings = Listings {
            references: Listing::new(Prefix::References, reference.max(past), true),
            blobs: Listing::new(
                Prefix::Blobs,
                after.map(|digest| Key::blob(digest).to_string()),
                true,
            ),
            derived: Listing::new(
                Prefix::Layers,
                after.map(|digest| Prefix::Layer(digest).end()),
                false,
            ),
        };
        loop {
            let Some(digest) = self.next_blob(&mut listings).await? else {
                return Ok(());
            };
            if part(&digest) > self.due || self.is_late() {
                return Err(Halt::Spent);
            }
            let blob = listings
                .blobs
                .take(&self.work, &digest, Key::digest)
                .await?
                .map(|(_, meta)| meta);
            if let Some(meta) = &blob
                && self.is_announced(&digest, meta)
                && place.reference.is_none()
            {
                // If the blob takes longer than the platform allows, the next step knows.
                let mut before = cursor.clone();
                before.trying = Some(Key::blob(&digest));
                before.totals.add(&self.report.borrow().totals);
                self.work.spend(1)?;
                self.work
                    .upkeep
                    .store_cursor(&Key::ScrubCursor, &before, etag)
                    .await?;
            }
            let was_tried = self.begin(&Key::blob(&digest));
            let scrubbed = self
                .scrub_blob(&digest, blob, &mut listings, &mut place, &mut cursor.edges)
                .await;
            match scrubbed {
                Ok(()) => {}
                // A blob that can't be checked must not block the others.
                Err(halt) if was_tried => {
                    self.find(unread(&digest, halt.to_string()));
                    cursor.place = ScrubPosition::Blobs(ScrubBlobPosition {
                        after: Some(digest),
                        reference: None,
                    });
                    return Err(Halt::Spent);
                }
                Err(halt) => {
                    cursor.place = ScrubPosition::Blobs(place);
                    return Err(halt);
                }
            }
            place = ScrubBlobPosition {
                after: Some(digest),
                reference: None,
            };
            cursor.place = ScrubPosition::Blobs(place.clone());
        }
    }

    /// Whether the cursor must name a blob before the blob is read.
    fn is_announced(&self, digest: &Digest, meta: &Meta) -> bool {
        let size = match serde_json::from_str(&meta.metadata) {
            Ok(BlobKind::Extents { size }) => size,
            Ok(BlobKind::Bytes | BlobKind::Aside) | Err(_) => meta.size,
        };
        let next = self.next.borrow();
        let least = if next.was_killed { SMALL } else { LARGE };
        size >= least && !self.work.is_dry && next.trying != Some(Key::blob(digest))
    }

    /// Checks one blob, wherever the pass is. Returns whether there was anything to check.
    pub(super) async fn scrub_only(&self, digest: &Digest) -> Result<bool, Halt> {
        // The text before the last character comes before every key that begins with the prefix.
        let before = |mut prefix: String| {
            prefix.pop();
            Some(prefix)
        };
        let mut listings = Listings {
            references: Listing::new(
                Prefix::References,
                before(Prefix::Holders(digest).to_string()),
                true,
            ),
            blobs: Listing::new(Prefix::Blobs, before(Key::blob(digest).to_string()), true),
            derived: Listing::new(
                Prefix::Layers,
                before(Prefix::Layer(digest).to_string()),
                false,
            ),
        };
        if self.next_blob(&mut listings).await?.as_ref() != Some(digest) {
            return Ok(false);
        }
        let blob = listings
            .blobs
            .take(&self.work, digest, Key::digest)
            .await?
            .map(|(_, meta)| meta);
        let (mut place, mut edges) = (ScrubBlobPosition::default(), Edges::default());
        self.scrub_blob(digest, blob, &mut listings, &mut place, &mut edges)
            .await?;
        Ok(true)
    }

    async fn next_blob(&self, listings: &mut Listings) -> Result<Option<Digest>, Halt> {
        let work = &self.work;
        let next = [
            listings.references.peek_of(work, Key::digest).await?,
            listings.blobs.peek_of(work, Key::digest).await?,
            listings.derived.peek_of(work, Key::digest).await?,
        ];
        Ok(next.into_iter().flatten().min())
    }

    /// Checks a blob, its grants and links, and the objects that are derived from it.
    async fn scrub_blob(
        &self,
        digest: &Digest,
        blob: Option<Meta>,
        listings: &mut Listings,
        place: &mut ScrubBlobPosition,
        edges: &mut Edges,
    ) -> Result<(), Halt> {
        let state = match blob {
            None => BlobState::Absent,
            // The step before has read its bytes.
            Some(_) if place.reference.is_some() => match self.work.read_record(digest).await? {
                Some((_, Some(record))) => BlobState::Sound(record),
                Some((_, None)) => BlobState::Unknown,
                None => BlobState::Absent,
            },
            Some(meta) => self.read_blob(digest, meta).await?,
        };
        self.scrub_references(digest, &state, listings, place, edges)
            .await?;
        let mut derived = Vec::new();
        while let Some(object) = listings
            .derived
            .take(&self.work, digest, Key::digest)
            .await?
        {
            derived.push(object);
        }
        if !derived.is_empty() {
            let size = match &state {
                BlobState::Sound(record) => Some(record.size()),
                BlobState::Unknown | BlobState::Absent => None,
            };
            self.scrub_derived(digest, size, &derived).await?;
        }
        Ok(())
    }
}

/// The fraction of an algorithm's blobs that come before this one: digests are spread evenly.
fn part(digest: &Digest) -> f64 {
    let first = digest.encoded().get(..4);
    let first = first.and_then(|first| u16::from_str_radix(first, 16).ok());
    f64::from(first.unwrap_or_default()) / 65_536.0
}
