//! Mount: KEEP; look. Blob DELETE: list the grants of uploads and fills; refuse if a manifest
//! stored there needs the blob; delete exactly the listed grants, then the link.

use crate::{
    process::{At as Place, Client, World},
    rule::Rule,
    scenario::Operation,
    store::{Key, Manifest},
};

/// Where a client is in a mount or a blob DELETE.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum At {
    /// Mount: look.
    Look,
    /// DELETE: list the grants of uploads and fills.
    ListGrants,
    /// DELETE: look whether this manifest is stored.
    Need {
        /// The ids of the grants listed, as bits.
        grants: u32,
        /// The manifest.
        manifest: u8,
    },
    /// DELETE: delete the first of the grants listed.
    DeleteGrant {
        /// The ids of the grants listed, as bits.
        grants: u32,
    },
    /// DELETE: delete the link.
    DeleteLink,
}

impl Client {
    /// One step of a mount or a blob DELETE.
    pub(crate) fn blob(self, at: At, operation: Operation, world: &mut World<'_>) -> Self {
        let (Operation::Mount {
            repository, blob, ..
        }
        | Operation::DeleteBlob { repository, blob }) = operation
        else {
            return self;
        };
        match at {
            At::Look => match world.store.record(blob) {
                Some(_) => self.accepted(world),
                None => self.refused(world),
            },
            At::ListGrants => {
                let mut grants = 0;
                for (key, of, reason) in world.store.grants(blob) {
                    let is_ours =
                        reason.manifest().is_none() || !world.keeps(Rule::UploadGrantsOnly);
                    if let Key::Grant { id, .. } = key
                        && of == repository
                        && is_ours
                    {
                        grants |= 1 << id;
                    }
                }
                self.need(grants, 0, operation, world)
            }
            At::Need { grants, manifest } => {
                if world
                    .store
                    .has(Key::Manifest(repository, Manifest(manifest)))
                {
                    return self.refused(world);
                }
                self.need(grants, manifest + 1, operation, world)
            }
            At::DeleteGrant { grants } => {
                if let Ok(id) = u8::try_from(grants.trailing_zeros()) {
                    world.store.delete(Key::Grant {
                        blob,
                        repository,
                        id,
                    });
                }
                self.delete_grants(grants & (grants - 1), world)
            }
            At::DeleteLink => {
                world.store.delete(Key::Link(blob, repository));
                self.accepted(world)
            }
        }
    }

    /// Goes on to the next manifest that would need the blob.
    fn need(self, grants: u32, from: u8, operation: Operation, world: &World<'_>) -> Self {
        let Operation::DeleteBlob { blob, .. } = operation else {
            return self;
        };
        let manifests = world.model.scenario.manifests;
        let needing = manifests.iter().enumerate().skip(usize::from(from));
        for (manifest, document) in needing {
            if document.blobs.contains(&blob)
                && let Ok(manifest) = u8::try_from(manifest)
            {
                return self.to(Place::Blob(At::Need { grants, manifest }));
            }
        }
        self.delete_grants(grants, world)
    }

    fn delete_grants(self, grants: u32, world: &World<'_>) -> Self {
        if grants != 0 {
            self.to(Place::Blob(At::DeleteGrant { grants }))
        } else if world.model.scenario.links {
            self.to(Place::Blob(At::DeleteLink))
        } else {
            self.accepted(world)
        }
    }
}
