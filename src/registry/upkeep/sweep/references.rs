//! Sweeping grants and links whose reason is gone.

use std::collections::BTreeSet;

use crate::{
    digest::Digest,
    name::Name,
    platform::Platform,
    registry::upkeep::{
        filter::Filter,
        inventory::Inventory,
        listing::{Listing, Youngest},
        step::{Halt, JobStep, Removal, RemovalAction, What},
        sweep::{
            cursor::SweepBlobPosition,
            nominee::{GrantHold, Looks, Nominee},
        },
    },
    store::{document::Reason, key::Key},
};

/// The walk over the grants and links of blobs.
pub(super) struct References<'a, P: Platform> {
    pub(super) step: &'a JobStep<'a, P>,
    pub(super) listing: Listing<'static>,
    /// The position of the walk; the next step begins after it.
    pub(super) place: &'a mut SweepBlobPosition,
    /// The manifests that were stored when the round listed them.
    pub(super) manifests: &'a Filter,
    pub(super) looks: Looks,
    pub(super) inventory: &'a mut Inventory,
}

impl<P: Platform> References<'_, P> {
    /// Reads the grants and links of a blob, and deletes grants whose reason is gone.
    pub(super) async fn read(&mut self, nominee: &mut Nominee) -> Result<(), Halt> {
        let digest = nominee.digest.clone();
        let size = nominee.blob.as_ref().map_or(0, |(_, size)| *size);
        let mut hold = GrantHold {
            name: (self.place.reference.as_ref())
                .filter(|reference| reference.digest().as_ref() == Some(&digest))
                .and_then(Key::holder),
            is_partial: true,
            ..GrantHold::default()
        };
        while let Some((key, meta)) = self.listing.take(self.step, &digest, Key::digest).await? {
            if self.looks.page != self.listing.pages {
                // Reasons must be read after the grants were listed.
                self.looks = Looks {
                    page: self.listing.pages,
                    ..Looks::default()
                };
            }
            let name = key.holder();
            if name != hold.name {
                self.leave(&mut hold, nominee, size).await?;
                hold.name.clone_from(&name);
            }
            // Its age at the time of the listing: its reason may have been checked before now.
            let old = self.step.was_old(&meta, self.listing.asked);
            match &key {
                Key::Link { .. } => hold.has_old_link = old,
                Key::Grant { name, .. } => {
                    let reason: Option<Reason> = self.step.read(&key, &meta.metadata);
                    let gone = match &reason {
                        Some(reason) if old => self.reason_gone(name, reason).await?,
                        Some(_) | None => None,
                    };
                    if let Some(why) = gone {
                        self.step.delete_grant(&key, why).await?;
                    } else if old && reason == Some(Reason::Filled) {
                        hold.filled.push(key.clone());
                    } else {
                        hold.grants += 1;
                        hold.is_partial |= reason.is_none();
                        nominee.is_held = true;
                        self.place.is_held = true;
                        if let Some(reason) = reason
                            && let Some(grant) =
                                hold.surpass(reason, Youngest::new(&key, &meta, old))
                        {
                            hold.grants -= 1;
                            let why = "it has a newer grant for the same manifest";
                            self.step.delete_grant(&grant, why).await?;
                        }
                    }
                }
                // A key of another version may be a reason to hold the blob.
                _ => {
                    hold.grants += 1;
                    hold.is_partial = true;
                    nominee.is_held = true;
                    self.place.is_held = true;
                }
            }
            self.place.reference = Some(key);
        }
        self.leave(&mut hold, nominee, size).await
    }

    /// Ends the grants of a repository on a blob.
    ///
    /// Deletes old `Filled` grants if no grant for a manifest stays.
    /// A pull may store a manifest at this moment.
    /// Its grant keeps the blob, and the next pull of the blob asks the upstream again.
    /// A link that records `filled` may outlive its grant.
    /// That is harmless: the bytes were hashed for this repository, and the link is deleted once
    /// the repository has no grant on the blob.
    async fn leave(
        &mut self,
        hold: &mut GrantHold,
        nominee: &mut Nominee,
        size: u64,
    ) -> Result<(), Halt> {
        let GrantHold {
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
                self.step.delete_grant(key, why).await?;
            }
        }
        if grants > 0 {
            nominee.is_held = true;
            self.place.is_held = true;
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
            self.inventory.undivided_bytes += undivided;
            self.inventory.count(&name, |holding| {
                holding.blobs += 1;
                holding.bytes += size;
                holding.undivided_bytes += undivided;
            });
        }
        Ok(())
    }

    /// Why an old grant is deleted, if it is:
    /// it is for an upload, or for a manifest that is not stored.
    async fn reason_gone(
        &mut self,
        name: &Name,
        reason: &Reason,
    ) -> Result<Option<&'static str>, Halt> {
        match reason {
            // Manifests that name the blob have grants of their own.
            Reason::Upload => Ok(Some("the upload's grant is older than the grace period")),
            Reason::Claim => Ok(Some("the claim is older than the grace period")),
            // Decided once all grants of the repository were read.
            Reason::Filled => Ok(None),
            Reason::Manifest { digest } | Reason::Mirrored { digest } => {
                if self.manifests.may_have(name, digest) {
                    return Ok(None);
                }
                let manifest = Key::manifest(name, digest);
                let is_stored = match self.looks.stored.get(&manifest) {
                    Some(is_stored) => *is_stored,
                    None => {
                        let is_stored = self.step.is_stored(name, digest).await?;
                        self.looks.stored.insert(manifest, is_stored);
                        is_stored
                    }
                };
                Ok((!is_stored).then_some("its manifest is not stored"))
            }
        }
    }
}

impl<P: Platform> JobStep<'_, P> {
    async fn delete_grant(&self, key: &Key, why: &'static str) -> Result<(), Halt> {
        self.tell(Removal {
            action: RemovalAction::Delete,
            what: What::Grant,
            key: key.to_string(),
            bytes: 0,
            why,
        });
        self.delete_soon(key).await
    }
}
