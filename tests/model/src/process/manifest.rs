//! Manifest PUT: 1 the right to each blob; 2 KEEP; 3 look at each; 4 referrers entry; 5 BOUND, put the manifest; 6 tag;
//! 7 201. Manifest DELETE: the tag to a tombstone; the manifest.
//!
//! Step 1 is taken as given: who has no right is refused before the first write, and who had it may have lost it since.

use crate::{
    process::{After, At as Place, Client, World, keep},
    rule::Rule,
    scenario::Operation,
    store::{Body, Key, Manifest},
};

/// Where a client is in an operation on a manifest.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum At {
    /// 1 look whether this one of the manifests that an index lists is there.
    Child(u8),
    /// 3 look at this one of the blobs.
    Look(u8),
    /// 4 referrers entry.
    Referrer,
    /// 5 BOUND; put the manifest.
    Put,
    /// 6 tag.
    Tag,
    /// DELETE: read the tag.
    ReadTag,
    /// DELETE: move the tag to a tombstone.
    Tombstone(Manifest),
    /// DELETE: delete the manifest.
    Delete,
}

impl Client {
    /// The first step of a manifest PUT.
    pub(crate) fn begin_manifest(self, operation: Operation, world: &mut World<'_>) -> Self {
        let Operation::PutManifest { manifest, .. } = operation else {
            return self;
        };
        if !world.model.scenario.manifest(manifest).children.is_empty() {
            return self.manifest(At::Child(0), operation, world);
        }
        if world.model.scenario.manifest(manifest).blobs.is_empty() {
            return self.looked(operation, world);
        }
        if !world.keeps(Rule::MarkBeforeBlob) {
            return self.manifest(At::Look(0), operation, world);
        }
        self.keep(keep::At::first(world), After::Manifest, operation, world)
    }

    /// One step of an operation on a manifest.
    pub(crate) fn manifest(self, at: At, operation: Operation, world: &mut World<'_>) -> Self {
        let (repository, manifest, tag) = match operation {
            Operation::PutManifest {
                repository,
                manifest,
                tag,
            } => (repository, manifest, tag),
            Operation::DeleteManifest {
                repository,
                manifest,
            } => (repository, manifest, false),
            _ => return self,
        };
        let document = world.model.scenario.manifest(manifest);
        match at {
            At::Child(number) => {
                let Some(child) = document.children.get(usize::from(number)) else {
                    return self;
                };
                if !world.store.has(Key::Manifest(repository, *child)) {
                    return self.refused(world);
                }
                if usize::from(number) + 1 < document.children.len() {
                    return self.to(Place::Manifest(At::Child(number + 1)));
                }
                if document.blobs.is_empty() {
                    return self.looked(operation, world);
                }
                self.to(Place::Keep(keep::At::first(world), After::Manifest))
            }
            At::Look(number) => {
                let Some(blob) = document.blobs.get(usize::from(number)) else {
                    return self;
                };
                if world.store.record(*blob).is_none() {
                    return self.refused(world);
                }
                if usize::from(number) + 1 < document.blobs.len() {
                    return self.to(Place::Manifest(At::Look(number + 1)));
                }
                if !world.keeps(Rule::MarkBeforeBlob) {
                    return self.to(Place::Keep(keep::At::first(world), After::Manifest));
                }
                self.looked(operation, world)
            }
            At::Referrer => {
                let id = if world.keeps(Rule::ReferrerId) {
                    self.id()
                } else {
                    0
                };
                if !self.is_in_bound(Rule::BoundOnManifest, world) {
                    return self.refused(world);
                }
                world
                    .store
                    .put(Key::Referrer(repository, id), Body::Referrer(manifest));
                if world.keeps(Rule::ReferrerBeforeManifest) {
                    let client = if self.since.is_none() {
                        self.bound()
                    } else {
                        self
                    };
                    client.to(Place::Manifest(At::Put))
                } else {
                    self.accepted(world)
                }
            }
            At::Put => {
                if !self.is_in_bound(Rule::BoundOnManifest, world) {
                    return self.refused(world);
                }
                world
                    .store
                    .put(Key::Manifest(repository, manifest), Body::Empty);
                if tag {
                    return self.to(Place::Manifest(At::Tag));
                }
                if document.subject && !world.keeps(Rule::ReferrerBeforeManifest) {
                    return self.to(Place::Manifest(At::Referrer));
                }
                self.accepted(world)
            }
            At::Tag => {
                world
                    .store
                    .put(Key::Tag(repository), Body::Target(manifest));
                self.accepted(world)
            }
            At::ReadTag => match world
                .store
                .get(Key::Tag(repository))
                .map(|object| object.body)
            {
                Some(Body::Target(target)) if target == manifest => {
                    self.to(Place::Manifest(At::Tombstone(target)))
                }
                _ => self.to(Place::Manifest(At::Delete)),
            },
            At::Tombstone(target) => {
                let (key, tombstone) = (Key::Tag(repository), Body::Tombstone(manifest));
                if world.keeps(Rule::TombstoneBySwap) {
                    // Lost: the tag names another manifest now, or has gone already.
                    world.store.swap(key, Body::Target(target), tombstone);
                } else {
                    world.store.put(key, tombstone);
                }
                self.to(Place::Manifest(At::Delete))
            }
            At::Delete => {
                world.store.delete(Key::Manifest(repository, manifest));
                self.accepted(world)
            }
        }
    }

    /// Each blob has been looked at.
    pub(crate) fn looked(self, operation: Operation, world: &World<'_>) -> Self {
        let Operation::PutManifest { manifest, .. } = operation else {
            return self;
        };
        let document = world.model.scenario.manifest(manifest);
        if document.subject && world.keeps(Rule::ReferrerBeforeManifest) {
            self.to(Place::Manifest(At::Referrer))
        } else {
            self.to(Place::Manifest(At::Put))
        }
    }
}
