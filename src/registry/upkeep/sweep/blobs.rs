//! Sweeping blobs: grants whose reason is gone, links without grants, blobs without grants.
//!
//! Four listings are read side by side, blob by blob. They find what is of no use without an operation for what is, and only nominate:
//! for a blob without grants the mark is read, *then* its grants are listed afresh, *then* the mark is moved.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use crate::{
    digest::Digest,
    host::Host as _,
    name::Name,
    platform::Platform,
    registry::upkeep::{
        filter::Filter,
        inventory::Inventory,
        listing::{Listing, Youngest},
        step::{Action, Halt, JobStep, Removal, What},
        sweep::cursor::AmongBlobs,
    },
    store::{
        Meta,
        document::{BlobKind, Mark, MarkState, Reason, Record},
        key::{Key, Prefix},
        tiers::Wanted,
    },
    time::Timestamp,
};

/// What a listing has of one blob.
struct Nominee {
    digest: Digest,
    /// Its object, with the size of the blob that it is or stands for.
    blob: Option<(Meta, u64)>,
    is_marked: bool,
    /// Whether a grant was seen that stays.
    is_held: bool,
    /// Repositories with an old link and no grant.
    linked: Vec<Name>,
    /// When the youngest of what is derived from it was written.
    derived: Option<Timestamp>,
}

/// What a listing has of one blob in one repository.
#[derive(Default)]
struct Hold {
    name: Option<Name>,
    grants: u64,
    has_old_link: bool,
    /// The youngest grant for each manifest that was pushed and has one.
    manifests: BTreeMap<Digest, Youngest>,
    /// The same for manifests that an upstream sent. The two kinds never replace each other: a
    /// pushed manifest would lose its right to the blob.
    mirrored: BTreeMap<Digest, Youngest>,
    /// Old `Filled` grants. They stay while a grant for a manifest does.
    filled: Vec<Key>,
    /// Whether some grants of the repository are unknown: the previous step read them, or they
    /// can't be read. No `Filled` grant is deleted then.
    is_partial: bool,
}

impl Hold {
    /// Notes a grant that stays. Returns the older one of it and the youngest so far for the same
    /// manifest, if that is past the grace period.
    fn surpass(&mut self, reason: Reason, grant: Youngest) -> Option<Key> {
        let (youngest, manifest) = match reason {
            Reason::Manifest { digest } => (&mut self.manifests, digest),
            Reason::Mirrored { digest } => (&mut self.mirrored, digest),
            Reason::Upload | Reason::Claim | Reason::Filled => return None,
        };
        let is_full = youngest.len() >= MAX_MANIFESTS;
        match youngest.entry(manifest) {
            Entry::Occupied(mut youngest) => youngest.get_mut().surpass(grant),
            Entry::Vacant(vacant) => {
                if !is_full {
                    vacant.insert(grant);
                }
                None
            }
        }
    }
}

/// Which manifests are stored, by looks that came after the grants had been listed.
#[derive(Default)]
struct Looks {
    page: u64,
    stored: BTreeMap<Key, bool>,
}

/// The most manifests of a repository that are told apart, where they have one blob in common.
const MAX_MANIFESTS: usize = 10_000;

/// The operations that removing a blob takes, but for one of many extents.
const OWNING: u32 = 12;

impl<P: Platform> JobStep<'_, P> {
    /// Goes through all blobs from a place on, which is where it ended.
    pub(super) async fn sweep_blobs(
        &self,
        place: &mut AmongBlobs,
        manifests: &Filter,
        inventory: &mut Inventory,
    ) -> Result<(), Halt> {
        let swept = self.walk_blobs(place, manifests, inventory).await;
        // What was told to go goes, however far the rest has come.
        let flushed = self.flush().await;
        swept.and(flushed)
    }

    async fn walk_blobs(
        &self,
        place: &mut AmongBlobs,
        manifests: &Filter,
        inventory: &mut Inventory,
    ) -> Result<(), Halt> {
        let after = place.after.as_ref();
        let past = after.map(|digest| Prefix::Holders(digest).end());
        let reference = place.reference.as_ref().map(Key::to_string);
        let mut references = Listing::new(Prefix::References, reference.max(past), true);
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
        let mut looks = Looks::default();
        loop {
            self.require_more()?;
            let next = [
                references.peek_of(self, Key::digest).await?,
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
                is_held: place.is_held,
                linked: Vec::new(),
                derived: None,
                digest,
            };
            self.read_references(
                &mut references,
                &mut nominee,
                place,
                manifests,
                &mut looks,
                inventory,
            )
            .await?;
            while let Some((_, meta)) = derived.take(self, &nominee.digest, Key::digest).await? {
                nominee.derived = nominee.derived.max(Some(meta.uploaded));
            }
            self.settle(&nominee).await?;
            if let Some((_, size)) = nominee.blob {
                inventory.blobs += 1;
                inventory.bytes += size;
            }
            self.pass();
            place.after = Some(nominee.digest);
            place.is_held = false;
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

    /// Reads the grants and links of a blob. Grants whose reason is gone go.
    async fn read_references(
        &self,
        references: &mut Listing,
        nominee: &mut Nominee,
        place: &mut AmongBlobs,
        manifests: &Filter,
        looks: &mut Looks,
        inventory: &mut Inventory,
    ) -> Result<(), Halt> {
        let digest = nominee.digest.clone();
        let size = nominee.blob.as_ref().map_or(0, |(_, size)| *size);
        let mut hold = Hold {
            name: (place.reference.as_ref())
                .filter(|reference| reference.digest().as_ref() == Some(&digest))
                .and_then(Key::holder),
            is_partial: true,
            ..Hold::default()
        };
        while let Some((key, meta)) = references.take(self, &digest, Key::digest).await? {
            if looks.page != references.pages {
                // Reasons are read after the grants were listed, and not before.
                *looks = Looks {
                    page: references.pages,
                    ..Looks::default()
                };
            }
            let name = key.holder();
            if name != hold.name {
                self.leave(&mut hold, nominee, place, size, inventory)
                    .await?;
                hold.name.clone_from(&name);
            }
            // As it was listed: its reason may have been looked at before now.
            let old = self.was_old(&meta, references.asked);
            match &key {
                Key::Link { .. } => hold.has_old_link = old,
                Key::Grant { name, .. } => {
                    let reason: Option<Reason> = self.read(&key, &meta.metadata);
                    let gone = match &reason {
                        Some(reason) if old => {
                            self.reason_gone(name, reason, manifests, looks).await?
                        }
                        Some(_) | None => None,
                    };
                    if let Some(why) = gone {
                        self.delete_grant(&key, why).await?;
                    } else if old && reason == Some(Reason::Filled) {
                        hold.filled.push(key.clone());
                    } else {
                        hold.grants += 1;
                        hold.is_partial |= reason.is_none();
                        nominee.is_held = true;
                        place.is_held = true;
                        if let Some(reason) = reason
                            && let Some(grant) =
                                hold.surpass(reason, Youngest::new(&key, &meta, old))
                        {
                            hold.grants -= 1;
                            let why = "it has a younger grant for the same manifest";
                            self.delete_grant(&grant, why).await?;
                        }
                    }
                }
                // A key of another version may be a reason to hold the blob.
                _ => {
                    hold.grants += 1;
                    hold.is_partial = true;
                    nominee.is_held = true;
                    place.is_held = true;
                }
            }
            place.reference = Some(key);
        }
        self.leave(&mut hold, nominee, place, size, inventory).await
    }

    /// Has read all that a repository has on a blob.
    ///
    /// Deletes old `Filled` grants if no grant for a manifest stays. A pull may store a manifest at
    /// this moment. Its grant keeps the blob, and the next pull of the blob asks the upstream
    /// again. A link that records `filled` may outlive its grant. That is harmless: the bytes were
    /// hashed for this repository, and the link goes when the repository has no grant on the blob.
    async fn leave(
        &self,
        hold: &mut Hold,
        nominee: &mut Nominee,
        place: &mut AmongBlobs,
        size: u64,
        inventory: &mut Inventory,
    ) -> Result<(), Halt> {
        let Hold {
            name,
            mut grants,
            has_old_link,
            manifests,
            mirrored,
            filled,
            is_partial,
        } = std::mem::take(hold);
        let Some(name) = name else { return Ok(()) };
        if is_partial || !manifests.is_empty() || !mirrored.is_empty() {
            grants += filled.len() as u64;
        } else {
            for key in &filled {
                let why = "no manifest of the repository needs the filled blob";
                self.delete_grant(key, why).await?;
            }
        }
        if grants > 0 {
            nominee.is_held = true;
            place.is_held = true;
        }
        if grants == 0 {
            if has_old_link {
                nominee.linked.push(name);
            }
            return Ok(());
        }
        if nominee.blob.is_some() {
            let named: BTreeSet<&Digest> = manifests.keys().chain(mirrored.keys()).collect();
            let times = named.len().max(1) as u64;
            let undivided = size.saturating_mul(times);
            inventory.undivided_bytes += undivided;
            inventory.count(&name, |holding| {
                holding.blobs += 1;
                holding.bytes += size;
                holding.undivided_bytes += undivided;
            });
        }
        Ok(())
    }

    async fn delete_grant(&self, key: &Key, why: &'static str) -> Result<(), Halt> {
        self.tell(Removal {
            action: Action::Delete,
            what: What::Grant,
            key: key.to_string(),
            bytes: 0,
            why,
        });
        self.delete_soon(key).await
    }

    /// Why an old grant that was listed goes, if it does: an upload's, and a manifest's that is not stored.
    async fn reason_gone(
        &self,
        name: &Name,
        reason: &Reason,
        manifests: &Filter,
        looks: &mut Looks,
    ) -> Result<Option<&'static str>, Halt> {
        match reason {
            Reason::Upload => Ok(Some(
                "no manifest came for this upload within the grace period",
            )),
            Reason::Claim => Ok(Some(
                "the bytes that were announced are late by the grace period",
            )),
            // Decided once all grants of the repository were read.
            Reason::Filled => Ok(None),
            Reason::Manifest { digest } | Reason::Mirrored { digest } => {
                if manifests.may_have(name, digest) {
                    return Ok(None);
                }
                let manifest = Key::manifest(name, digest);
                let is_stored = match looks.stored.get(&manifest) {
                    Some(is_stored) => *is_stored,
                    None => {
                        let is_stored = self.is_stored(name, digest).await?;
                        looks.stored.insert(manifest, is_stored);
                        is_stored
                    }
                };
                Ok((!is_stored).then_some("its manifest is not stored"))
            }
        }
    }

    /// Does with a blob what the protocol says of one that seems to have no use.
    async fn settle(&self, nominee: &Nominee) -> Result<(), Halt> {
        let digest = &nominee.digest;
        let is_there = nominee.blob.is_some() || nominee.is_marked;
        if !nominee.linked.is_empty() || (is_there && !nominee.is_held) {
            // The looks that come now must not find what was told to go.
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
            // Written by a pass over the layer that went on while it was removed. Who pushes it again, and looks inside
            // before this is done, makes it again.
            self.tell(Removal {
                action: Action::Delete,
                what: What::Index,
                key: Prefix::Layer(digest).to_string(),
                bytes: 0,
                why: "its layer is not stored",
            });
            self.delete_derived(digest).await?;
        }
        Ok(())
    }

    /// Moves the mark of a blob that seems to have no grants.
    async fn move_mark(&self, nominee: &Nominee) -> Result<(), Halt> {
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
            self.tell(removal(Action::Condemn, "nobody has a grant on it"));
            if !self.is_dry {
                self.write_mark(digest, meta.as_ref(), next).await?;
            }
            return Ok(());
        }
        // Who becomes the owner of a mark has what it takes to remove the blob.
        self.require(OWNING)?;
        let why = if is_takeover {
            "its removal was not ended within the grace period"
        } else {
            "it was condemned a grace period ago, and nobody has had a grant on it since"
        };
        self.tell(removal(Action::Delete, why));
        if self.is_dry {
            return Ok(());
        }
        let claimed = self.upkeep.host.now();
        if self.write_mark(digest, meta.as_ref(), next).await? {
            self.to_its_end(self.remove(digest, claimed)).await?;
        }
        Ok(())
    }

    /// Whether anybody has a grant on a blob, at this moment.
    async fn has_grant(&self, digest: &Digest) -> Result<bool, Halt> {
        let mut after: Option<String> = None;
        loop {
            let prefix = Prefix::Holders(digest);
            let page = self.list(prefix, after.as_deref(), false).await?;
            let is_grant =
                |(key, _): &(Key, Meta)| !matches!(key, Key::Link { .. }) && !self.is_going(key);
            if page.objects.iter().any(is_grant) {
                return Ok(true);
            }
            after = page.objects.last().map(|(key, _)| key.to_string());
            if !page.truncated || after.is_none() {
                return Ok(false);
            }
        }
    }

    /// Removes a blob, as the owner of its mark since `claimed`. The upload that its extents came by is left to the sweep of uploads.
    async fn remove(&self, digest: &Digest, claimed: Timestamp) -> Result<(), Halt> {
        let record = self.read_record(digest).await?;
        let extents = match &record {
            Some(Some(Record::Extents { extents, .. })) => extents.as_slice(),
            Some(Some(Record::Bytes { .. })) | None => &[],
            // It can't be read: what it names is not known.
            Some(None) => return Ok(()),
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
        loop {
            let page = self.list(Prefix::Holders(digest), None, false).await?;
            let is_link = |key: &Key| matches!(key, Key::Link { .. });
            let links = page.objects.into_iter().map(|(key, _)| key);
            let links: Vec<Key> = links.filter(is_link).collect();
            self.delete_as_owner(&links, claimed).await?;
            for link in &links {
                if let Some(name) = link.holder() {
                    self.upkeep.tiers.changed(Wanted::Link(&name, digest));
                }
            }
            // Grants that were written meanwhile stay, and may fill a page.
            if !page.truncated || links.is_empty() {
                break;
            }
        }
        self.delete_as_owner(&[Key::mark(digest)], claimed).await
    }

    async fn delete_as_owner(&self, keys: &[Key], claimed: Timestamp) -> Result<(), Halt> {
        self.require_young(claimed)?;
        self.delete(keys).await
    }
}
