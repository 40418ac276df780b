//! Operations on one blob that the sweep and the scrub share.

use crate::{
    digest::Digest,
    name::Name,
    platform::Platform,
    registry::upkeep::{
        listing::Listing,
        step::{Halt, JobStep, Removal, RemovalAction, What},
    },
    store::{
        Meta,
        document::{BlobKind, Record},
        key::{Key, Prefix},
        tiers::Wanted,
    },
};

impl<P: Platform> JobStep<'_, P> {
    /// Reads a blob's record from the blob itself, with the metadata of its object.
    /// The inner `None` is a record that can't be parsed.
    pub(super) async fn read_record(
        &self,
        digest: &Digest,
    ) -> Result<Option<(Meta, Option<Record>)>, Halt> {
        let key = Key::blob(digest);
        let Some(meta) = self.head(&key).await? else {
            return Ok(None);
        };
        match self.read(&key, &meta.metadata) {
            None => Ok(Some((meta, None))),
            // A blob that was quarantined has no extents any more.
            Some(BlobKind::Bytes | BlobKind::Aside) => {
                let record = Record::Bytes { size: meta.size };
                Ok(Some((meta, Some(record))))
            }
            Some(BlobKind::Extents { .. }) => {
                self.spend(1)?;
                let found = self.upkeep.store.blob(&self.upkeep.host, digest).await?;
                Ok(found.map(|(meta, text)| {
                    let record = match text {
                        Some(text) => self.read(&key, &text),
                        // It was joined, replaced or quarantined since the `head`.
                        None => Some(Record::Bytes { size: meta.size }),
                    };
                    (meta, record)
                }))
            }
        }
    }

    /// Deletes the link of a repository that has no grant.
    /// A lost link is harmless if a grant gives the right. A repository with only a claim has the
    /// right by its link alone: a client that claims the blob between this check and the deletion
    /// loses the link, and the push of its manifest then tells it to push the blob again.
    pub(super) async fn sweep_link(&self, name: &Name, digest: &Digest) -> Result<(), Halt> {
        let link = Key::link(digest, name);
        let mut held = Listing::new(Prefix::Held(digest, name), None, false);
        let mut is_old = false;
        while let Some((key, meta)) = held.next(self).await? {
            if key == link {
                is_old = self.is_old(&meta);
            } else if !self.is_going(&key) {
                // A key of another version counts as a grant, too.
                return Ok(());
            }
        }
        if !is_old {
            return Ok(());
        }
        self.tell(Removal {
            action: RemovalAction::Delete,
            what: What::Link,
            key: link.to_string(),
            bytes: 0,
            why: "the repository has no grant on the blob",
        });
        self.delete(&[link]).await?;
        self.upkeep.tiers.changed(Wanted::Link(name, digest));
        Ok(())
    }

    /// Deletes the objects that are derived from a layer, and the saved state of a pass over it.
    pub(super) async fn delete_derived(&self, digest: &Digest) -> Result<(), Halt> {
        let mut derived = Listing::new(Prefix::Layer(digest), None, false);
        // The saved state goes with the first page.
        let mut keys = vec![Key::indexing(digest)];
        while !self.is_dry
            && let Some(page) = derived.next_page(self).await?
        {
            keys.extend(page.into_iter().map(|(key, _)| key));
            for keys in keys.chunks(1_000) {
                self.delete(keys).await?;
            }
            keys.clear();
        }
        self.delete(&keys).await?;
        if !self.is_dry {
            self.upkeep.tiers.withdraw(Wanted::Index(digest)).await;
        }
        Ok(())
    }
}
