//! Manifest PUT: 1 the right to each blob; 2 KEEP; 3 look at each; 4 referrers entry; 5 BOUND, put
//! the manifest; with retention, look for a claim on it and on each manifest that it lists, and
//! then whether that is still there; 6 BOUND, tag; 7 look at the manifest, if it was tagged, and
//! at each that it lists; 8 201, or take the tag back. Manifest DELETE: 1 the tag to a tombstone;
//! 2 the manifest; 3 a tag that a push wrote meanwhile to a tombstone, unless the manifest is there
//! again.
//!
//! Step 1 is taken as given, except in scenarios of rights (see [`mirror`](super::mirror)): there a
//! client without the right is refused before the first write, and a client that had it may have
//! lost it since.

use crate::{
    model::Removal,
    process::{After, At as Place, Client, World, keep},
    rule::Rule,
    scenario::Operation,
    store::{Body, Key, Manifest, Repository},
};

/// The nonce of every tag without one of its own, and of tags that were stored at the beginning.
pub const SHARED_NONCE: u8 = 31;

/// Where a client is in an operation on a manifest.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum At {
    /// 1 look whether this one of the manifests that an index lists is there.
    Child(u8),
    /// Look for a claim on this manifest: the pushed one, or one that it lists.
    Claim(Manifest),
    /// Look whether it is still there.
    Still(Manifest),
    /// 3 look at this one of the blobs.
    Look(u8),
    /// 4 referrers entry.
    Referrer,
    /// 5 BOUND; put the manifest.
    Put,
    /// 6 tag.
    Tag,
    /// 7 look whether this one of the manifests that the push names is there.
    There(u8),
    /// 8 move the tag, as the push wrote it, to a tombstone.
    TakeBack,
    /// DELETE: look whether the manifest is there.
    Head,
    /// DELETE: 1 read the tag.
    ReadTag,
    /// DELETE: 1 move the tag, as it was seen, to a tombstone.
    Tombstone(Body),
    /// DELETE: 2 delete the manifest.
    Delete,
    /// DELETE: 3 read the tag again.
    ReadAgain,
    /// DELETE: 3 look whether the manifest is still absent.
    Gone(Body),
    /// DELETE: 3 move the tag, as it was seen, to a tombstone.
    TombstoneAgain(Body),
}

impl Client {
    /// The first step of a manifest PUT.
    pub(crate) fn begin_manifest(self, operation: Operation, world: &mut World<'_>) -> Self {
        let Operation::PutManifest { manifest, .. } = operation else {
            return self;
        };
        if !listed(manifest, world).is_empty() {
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
        let (Operation::PutManifest {
            repository,
            manifest,
            ..
        }
        | Operation::DeleteManifest {
            repository,
            manifest,
        }) = operation
        else {
            return self;
        };
        let document = world.model.scenario.manifest(manifest);
        match at {
            At::Child(number) => {
                let children = listed(manifest, world);
                let Some(child) = children.get(usize::from(number)) else {
                    return self;
                };
                if !world.store.has(Key::Manifest(repository, *child)) {
                    return self.refused(world);
                }
                if usize::from(number) + 1 < children.len() {
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
                    client.put(manifest, world)
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
                if world.model.scenario.rights && repository == Repository(0) {
                    world.known.pushed |= 1 << manifest.0;
                }
                let client = if self.since.is_none() {
                    self.bound()
                } else {
                    self
                };
                client.after(at, operation, world)
            }
            At::Claim(of) => {
                // A claim that is as old as the grace period does not count.
                let claim = world.store.get(Key::Claim(repository, of));
                if claim.is_some_and(|claim| claim.age < world.model.scenario.grace) {
                    return self.refused(world);
                }
                self.after(at, operation, world)
            }
            At::Still(of) => {
                if !world.store.has(Key::Manifest(repository, of)) {
                    return self.refused(world);
                }
                self.after(at, operation, world)
            }
            At::Tag => {
                if !self.is_in_bound(Rule::BoundOnTag, world) {
                    return self.refused(world);
                }
                let target = self.target(manifest, world);
                world.store.put(Key::Tag(repository), target);
                self.there(0, operation, world)
            }
            At::There(number) => {
                let named = named(operation, world);
                let Some(of) = named.get(usize::from(number)) else {
                    return self;
                };
                if world.store.has(Key::Manifest(repository, *of)) {
                    self.there(number + 1, operation, world)
                } else if is_tagged(operation) && world.keeps(Rule::TagTakenBack) {
                    self.to(Place::Manifest(At::TakeBack))
                } else {
                    self.refused(world)
                }
            }
            At::TakeBack => {
                // Lost: another push or deletion has written the tag since.
                let target = self.target(manifest, world);
                bury(repository, manifest, target, world);
                self.refused(world)
            }
            At::Head => {
                let is_there = world.store.has(Key::Manifest(repository, manifest));
                // Absent: an earlier deletion may have died after it had deleted the manifest.
                let next = if is_there { At::ReadTag } else { At::ReadAgain };
                self.to(Place::Manifest(next))
            }
            At::ReadTag => match tag_of(repository, manifest, world) {
                Some(seen) => self.to(Place::Manifest(At::Tombstone(seen))),
                None => self.to(Place::Manifest(At::Delete)),
            },
            At::Tombstone(seen) => {
                // Lost: the tag was written again, is deleted already, or names another manifest.
                let next = if bury(repository, manifest, seen, world) {
                    At::Delete
                } else {
                    At::ReadTag
                };
                self.to(Place::Manifest(next))
            }
            At::Delete => {
                world.store.delete(Key::Manifest(repository, manifest));
                if repository == Repository(0) {
                    world.known.pushed &= !(1 << manifest.0);
                }
                if world.keeps(Rule::TagsListedAgain) {
                    self.to(Place::Manifest(At::ReadAgain))
                } else {
                    self.accepted(world)
                }
            }
            At::ReadAgain => match tag_of(repository, manifest, world) {
                Some(seen) if world.keeps(Rule::BuriedIfGone) => {
                    self.to(Place::Manifest(At::Gone(seen)))
                }
                Some(seen) => self.to(Place::Manifest(At::TombstoneAgain(seen))),
                None => self.accepted(world),
            },
            At::Gone(seen) => {
                if world.store.has(Key::Manifest(repository, manifest)) {
                    return self.accepted(world);
                }
                self.to(Place::Manifest(At::TombstoneAgain(seen)))
            }
            At::TombstoneAgain(seen) => {
                if bury(repository, manifest, seen, world) {
                    self.accepted(world)
                } else {
                    self.to(Place::Manifest(At::ReadAgain))
                }
            }
        }
    }

    /// The body of the tag that this push writes.
    fn target(self, manifest: Manifest, world: &World<'_>) -> Body {
        let nonce = if world.keeps(Rule::NonceInTag) {
            self.id()
        } else {
            SHARED_NONCE
        };
        Body::Target { manifest, nonce }
    }

    /// 7 the look at this one of the manifests that the push names, or 8 201.
    fn there(self, number: u8, operation: Operation, world: &World<'_>) -> Self {
        if usize::from(number) < named(operation, world).len() {
            self.to(Place::Manifest(At::There(number)))
        } else {
            self.accepted(world)
        }
    }

    /// Whether it is about to find that a manifest is gone to which a tag leads, or to bury the
    /// tag.
    pub(crate) fn is_about_to_bury(
        self,
        repository: Repository,
        of: Manifest,
        model: &Removal,
    ) -> bool {
        let (
            Some(
                Operation::PutManifest {
                    repository: here,
                    manifest,
                    ..
                }
                | Operation::DeleteManifest {
                    repository: here,
                    manifest,
                },
            ),
            Place::Manifest(at),
        ) = (self.operation(model), self.at)
        else {
            return false;
        };
        let is_late = match at {
            At::There(_) | At::TakeBack | At::ReadAgain | At::Gone(_) | At::TombstoneAgain(_) => {
                true
            }
            At::Child(_)
            | At::Claim(_)
            | At::Still(_)
            | At::Look(_)
            | At::Referrer
            | At::Put
            | At::Tag
            | At::Head
            | At::ReadTag
            | At::Tombstone(_)
            | At::Delete => false,
        };
        is_late && here == repository && manifest == of
    }

    /// The step after the put of the manifest, or after the look whether it and its children stay.
    fn after(self, at: At, operation: Operation, world: &World<'_>) -> Self {
        let Operation::PutManifest { manifest, tag, .. } = operation else {
            return self;
        };
        let order = order(manifest, world);
        let next = order.iter().skip_while(|step| **step != at).nth(1);
        let has_subject = world.model.scenario.manifest(manifest).subject;
        match next {
            Some(next) => self.to(Place::Manifest(*next)),
            None if tag => self.to(Place::Manifest(At::Tag)),
            None if has_subject && !world.keeps(Rule::ReferrerBeforeManifest) => {
                self.to(Place::Manifest(At::Referrer))
            }
            None => self.there(0, operation, world),
        }
    }

    /// Each blob has been looked at.
    pub(crate) fn looked(self, operation: Operation, world: &World<'_>) -> Self {
        let Operation::PutManifest { manifest, .. } = operation else {
            return self;
        };
        let document = world.model.scenario.manifest(manifest);
        if document.subject && world.keeps(Rule::ReferrerBeforeManifest) {
            return self.to(Place::Manifest(At::Referrer));
        }
        self.put(manifest, world)
    }

    /// The step after all the writes that come before the manifest's.
    fn put(self, manifest: Manifest, world: &World<'_>) -> Self {
        let first = order(manifest, world).first().copied();
        self.to(Place::Manifest(first.unwrap_or(At::Put)))
    }
}

/// The manifests that a manifest lists; with retention, also those that these list.
fn listed(manifest: Manifest, world: &World<'_>) -> Vec<Manifest> {
    let scenario = world.model.scenario;
    if scenario.tasks.aging().manifests && world.keeps(Rule::LooksThroughIndexes) {
        scenario.whole(manifest).split_off(1)
    } else {
        scenario.manifest(manifest).children.to_vec()
    }
}

const fn is_tagged(operation: Operation) -> bool {
    matches!(operation, Operation::PutManifest { tag: true, .. })
}

/// The manifests at which a push looks after its last write.
fn named(operation: Operation, world: &World<'_>) -> Vec<Manifest> {
    let Operation::PutManifest { manifest, tag, .. } = operation else {
        return Vec::new();
    };
    let mut named = Vec::new();
    if world.keeps(Rule::ChildrenAfterIndex) {
        named = listed(manifest, world);
    }
    if tag && world.keeps(Rule::ManifestAfterTag) {
        named.push(manifest);
    }
    named
}

/// The tag, if it names this manifest.
fn tag_of(repository: Repository, manifest: Manifest, world: &World<'_>) -> Option<Body> {
    let tag = world.store.get(Key::Tag(repository))?.body;
    matches!(tag, Body::Target { manifest: named, .. } if named == manifest).then_some(tag)
}

/// Moves the tag to a tombstone if it is as it was seen, and returns whether it was.
fn bury(repository: Repository, manifest: Manifest, seen: Body, world: &mut World<'_>) -> bool {
    let (key, tombstone) = (Key::Tag(repository), Body::Tombstone(manifest));
    if world.keeps(Rule::TombstoneBySwap) {
        world.store.swap(key, seen, tombstone)
    } else {
        world.store.put(key, tombstone);
        true
    }
}

/// The order in which the manifest is put, claims are looked for, and the claimed manifests are
/// looked for.
fn order(manifest: Manifest, world: &World<'_>) -> Vec<At> {
    if !world.model.scenario.tasks.aging().manifests {
        return vec![At::Put];
    }
    let mut named = listed(manifest, world);
    if !world.keeps(Rule::LooksAtChildren) {
        named.clear();
    }
    named.push(manifest);
    if !world.keeps(Rule::ClaimsAfterStoring) {
        let claims = named.iter().copied().map(At::Claim);
        let there = named.iter().copied().map(At::Still);
        return claims.chain([At::Put]).chain(there).collect();
    }
    let looks = named.into_iter().flat_map(|manifest| {
        if world.keeps(Rule::StillThereAfterClaims) {
            [At::Claim(manifest), At::Still(manifest)]
        } else {
            [At::Still(manifest), At::Claim(manifest)]
        }
    });
    [At::Put].into_iter().chain(looks).collect()
}
