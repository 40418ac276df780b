//! Moving the marks of blobs without grants, and removing those blobs.

use crate::{
    digest::Digest,
    host::Clock as _,
    platform::Platform,
    registry::upkeep::{
        listing::Listing,
        step::{Halt, JobStep, Removal, RemovalAction, What},
        sweep::nominee::Nominee,
    },
    store::{
        document::{Mark, MarkState, Record},
        key::{Key, Prefix},
        tiers::Wanted,
    },
    time::Timestamp,
};

/// The operations that removing a blob takes, unless it has many extents.
const OWNING: u32 = 12;

impl<P: Platform> JobStep<'_, P> {
    /// Moves the mark of a blob that seems to have no grants.
    pub(super) async fn move_mark(&self, nominee: &Nominee) -> Result<(), Halt> {
        let digest = &nominee.digest;
        let removal = |action, why| Removal {
            action,
            what: if nominee.blob.is_some() {
                What::Blob
            } else {
                What::Mark
            },
            key: if nominee.blob.is_some() {
                Key::blob(digest).to_string()
            } else {
                Key::mark(digest).to_string()
            },
            bytes: nominee.blob.as_ref().map_or(0, |(_, size)| *size),
            why,
        };
        // The mark is read before the grants are listed.
        let (meta, mark) = match self.mark(digest).await? {
            None => (None, None),
            Some((meta, Some(mark))) => (Some(meta), Some(mark)),
            // It can't be read.
            Some((_, None)) => return Ok(()),
        };
        let is_old = meta.as_ref().is_some_and(|meta| self.is_old(meta));
        let next = match mark.as_ref().map(|mark| mark.state) {
            None | Some(MarkState::Lifted) => MarkState::Condemned,
            Some(MarkState::Condemned | MarkState::Deleting) if is_old => MarkState::Deleting,
            Some(MarkState::Condemned | MarkState::Deleting) => return Ok(()),
        };
        let is_takeover = matches!(
            mark,
            Some(Mark {
                state: MarkState::Deleting,
                ..
            })
        );
        if !is_takeover && self.has_grant(digest).await? {
            return Ok(());
        }
        if next == MarkState::Condemned {
            self.tell(removal(
                RemovalAction::Condemn,
                "no repository has a grant on it",
            ));
            if !self.is_dry {
                self.write_mark(digest, meta.as_ref(), next).await?;
            }
            return Ok(());
        }
        // An owner of a mark must have the operations to remove the blob.
        self.require(OWNING)?;
        let why = if is_takeover {
            "its removal did not end within the grace period"
        } else {
            "it was marked a grace period ago, and no repository has had a grant on it since"
        };
        self.tell(removal(RemovalAction::Delete, why));
        if self.is_dry {
            return Ok(());
        }
        let claimed = self.upkeep.host.now();
        if self.write_mark(digest, meta.as_ref(), next).await? {
            self.to_its_end(self.remove(digest, claimed)).await?;
        }
        Ok(())
    }

    /// Whether a blob has a grant now, in any repository.
    /// Only the end of the listing proves that it has none.
    async fn has_grant(&self, digest: &Digest) -> Result<bool, Halt> {
        let mut holders = Listing::new(Prefix::Holders(digest), None, false);
        while let Some((key, _)) = holders.next(self).await? {
            if !matches!(key, Key::Link { .. }) && !self.is_going(&key) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes a blob, as the owner of its mark since `claimed`. The upload of its extents is left
    /// to the sweep of uploads.
    async fn remove(&self, digest: &Digest, claimed: Timestamp) -> Result<(), Halt> {
        let record = self.read_record(digest).await?;
        let extents = match &record {
            Some((_, Some(Record::Extents { extents, .. }))) => extents.as_slice(),
            Some((_, Some(Record::Bytes { .. }))) | None => &[],
            // The record can't be read, so its extents are unknown.
            Some((_, None)) => return Ok(()),
        };
        let extents: Vec<Key> = extents
            .iter()
            .map(|extent| Key::extent(&extent.key))
            .collect();
        for extents in extents.chunks(1_000) {
            self.delete_as_owner(extents, claimed).await?;
        }
        if record.is_some() {
            self.delete_as_owner(&[Key::blob(digest)], claimed).await?;
        }
        self.upkeep.tiers.changed(Wanted::Blob(digest));
        self.require_young(claimed)?;
        self.delete_derived(digest).await?;
        // Grants that were written meanwhile stay.
        let mut holders = Listing::new(Prefix::Holders(digest), None, false);
        while let Some(page) = holders.next_page(self).await? {
            let is_link = |key: &Key| matches!(key, Key::Link { .. });
            let links = page.into_iter().map(|(key, _)| key);
            let links: Vec<Key> = links.filter(is_link).collect();
            self.delete_as_owner(&links, claimed).await?;
            for link in &links {
                if let Some(name) = link.holder() {
                    self.upkeep.tiers.changed(Wanted::Link(&name, digest));
                }
            }
        }
        self.delete_as_owner(&[Key::mark(digest)], claimed).await
    }

    async fn delete_as_owner(&self, keys: &[Key], claimed: Timestamp) -> Result<(), Halt> {
        self.require_young(claimed)?;
        self.delete(keys).await
    }
}
