//! Pulls, and the writes of a mirror.
//!
//! The right: read the link; else list the grants, and look whether the manifests are stored that
//! would make one of them count. A client with the right reads the record, and writes the link
//! again if it was missing or wrong. A push of a manifest and a mount begin with the same steps.
//!
//! Fill: look whether the blob is there. If it is, list its holders. Bytes need not be fetched if a
//! repository of the same upstream has a grant `Filled`, and the upstream's `HEAD` for this
//! repository is 200. Else fetch the bytes and hash them. Then KEEP, by a grant `Filled`; create
//! the blob if absent, or look; write the link. A large blob is filled by
//! [`upload`](super::upload).
//!
//! A manifest of an upstream: KEEP, by grants `Mirrored`; BOUND, put the manifest, which says that
//! it came from an upstream.

use crate::{
    process::{After, At as Place, Client, World, keep},
    rights::{Given, believed, given, is_mirrored},
    rule::Rule,
    scenario::{Operation, Remote},
    store::{Blob, Body, Key, Manifest, Reason, Record, Repository, Right},
};

/// The step of a client in a pull, in a check of a right, or in a write of a mirror.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum At {
    /// The right to this one of the blobs: read the link.
    Link(u8),
    /// The right to this one of the blobs: list the grants.
    Grants(u8),
    /// The right to this one of the blobs: look whether the first of these manifests is stored.
    Reason(u8, u8),
    /// Pull: read the record, which the link may name already.
    Record(Right, Option<Record>),
    /// Pull: write the link again.
    Repair(Record, Right),
    /// Fill, or push of other bytes: look whether the blob is there.
    Head,
    /// Fill of a blob that is there: list its holders, and ask the upstream for its `HEAD`.
    Holders(Record),
    /// Fill: fetch the bytes, and hash them.
    Fetch,
    /// Fill: create the blob if absent.
    Put,
    /// Fill: look.
    Look,
    /// Fill: write the link.
    Filled(Record),
    /// A manifest of an upstream: BOUND, put it.
    Store,
    /// Push of other bytes: delete the claim.
    Forget,
}

impl At {
    /// Where a check of a right begins.
    pub const fn first() -> Self {
        Self::Link(0)
    }
}

/// The repository and the blobs that an operation needs a right to.
fn needed(operation: Operation, world: &World<'_>) -> Option<(Repository, &'static [Blob])> {
    match operation {
        Operation::Pull { repository, blob }
        | Operation::Guess { repository, blob }
        | Operation::Mount {
            from: Some(repository),
            blob,
            ..
        } => Some((repository, super::one(blob))),
        Operation::PutManifest {
            repository,
            manifest,
            ..
        } => Some((repository, world.model.scenario.manifest(manifest).blobs)),
        _ => None,
    }
}

impl Client {
    /// The first step of storing a manifest of an upstream.
    pub(crate) fn begin_mirror(self, operation: Operation, world: &mut World<'_>) -> Self {
        let Operation::Mirror { repository, .. } = operation else {
            return self;
        };
        if !is_mirrored(self.mirrored, repository) {
            return self.refused(world);
        }
        self.keep(keep::At::first(world), After::Store, operation, world)
    }

    /// One step.
    pub(crate) fn mirror(self, at: At, operation: Operation, world: &mut World<'_>) -> Self {
        if let (
            At::Store,
            Operation::Mirror {
                repository,
                manifest,
            },
        ) = (at, operation)
        {
            if !self.is_in_bound(Rule::BoundOnManifest, world) {
                return self.refused(world);
            }
            let key = Key::Manifest(repository, manifest);
            world.store.put(key, Body::Upstream);
            return self.accepted(world);
        }
        let Some((repository, blobs)) = needed(operation, world) else {
            return self;
        };
        let without = world.model.without;
        let is_mirrored = is_mirrored(self.mirrored, repository);
        match at {
            At::Link(number) => {
                let Some(blob) = blobs.get(usize::from(number)) else {
                    return self.begin_manifest(operation, world);
                };
                let link = world.store.get(Key::Link(*blob, repository));
                let believed = link.and_then(|link| believed(link.body, is_mirrored, without));
                match believed {
                    Some((record, right)) => {
                        self.allowed(number, right, Some(record), operation, world)
                    }
                    None => self.to(Place::Mirror(At::Grants(number))),
                }
            }
            At::Grants(number) => {
                let Some(blob) = blobs.get(usize::from(number)) else {
                    return self;
                };
                let (mut right, mut manifests) = (None, 0);
                for (_, of, reason) in world.store.grants(*blob) {
                    if of == repository {
                        match given(reason, is_mirrored, without) {
                            Given::Right(found) => right = right.or(Some(found)),
                            Given::IfStored(manifest) => manifests |= 1 << manifest.0,
                            Given::Nothing => {}
                        }
                    }
                }
                match right {
                    Some(right) => self.allowed(number, right, None, operation, world),
                    None if manifests != 0 => self.to(Place::Mirror(At::Reason(number, manifests))),
                    None => self.denied(operation, world),
                }
            }
            At::Reason(number, manifests) => {
                let manifest = Manifest(u8::try_from(manifests.trailing_zeros()).unwrap_or(0));
                let rest = manifests & (manifests - 1);
                if world.store.has(Key::Manifest(repository, manifest)) {
                    self.allowed(number, Right::Pushed, None, operation, world)
                } else if rest != 0 {
                    self.to(Place::Mirror(At::Reason(number, rest)))
                } else {
                    self.denied(operation, world)
                }
            }
            At::Record(right, linked) => {
                let record = blobs.first().and_then(|blob| world.store.record(*blob));
                match record {
                    Some(record) if linked == Some(record) || !world.model.scenario.links => {
                        self.accepted(world)
                    }
                    Some(record) => self.to(Place::Mirror(At::Repair(record, right))),
                    None => self.denied(operation, world),
                }
            }
            At::Repair(record, right) => {
                if let Some(blob) = blobs.first() {
                    let key = Key::Link(*blob, repository);
                    world.store.put(key, Body::Link(record, right));
                }
                self.accepted(world)
            }
            _ => match blobs.first() {
                Some(blob) => self.fill(at, repository, *blob, operation, world),
                None => self,
            },
        }
    }

    /// One step of a fill, or of a push of bytes other than the announced ones.
    fn fill(
        self,
        at: At,
        repository: Repository,
        blob: Blob,
        operation: Operation,
        world: &mut World<'_>,
    ) -> Self {
        let remote = world.model.scenario.remote(repository);
        match at {
            At::Head => match (world.store.record(blob), operation) {
                // The hash of the bytes does not match.
                (Some(_), Operation::Guess { .. }) => self.refused(world),
                (None, Operation::Guess { .. }) => {
                    self.to(Place::Keep(keep::At::first(world), After::Guess))
                }
                (Some(record), _) => self.to(Place::Mirror(At::Holders(record))),
                (None, _) => self.to(Place::Mirror(At::Fetch)),
            },
            At::Holders(record) => {
                if !self.may_reuse(repository, blob, remote, world) {
                    return self.to(Place::Mirror(At::Fetch));
                }
                let after = if world.keeps(Rule::LookAfterReuse) {
                    After::Present
                } else {
                    After::Filled(record)
                };
                self.to(Place::Keep(keep::At::first(world), after))
            }
            At::Fetch => {
                if remote.bytes == Some(0) {
                    world.known.hash(repository, blob);
                } else if remote.bytes.is_none() || world.keeps(Rule::HashBeforeFilled) {
                    return self.refused(world);
                }
                if world.keeps(Rule::KeepBeforeFill) {
                    self.to(Place::Keep(keep::At::first(world), After::Fill))
                } else {
                    self.to(Place::Mirror(At::Put))
                }
            }
            At::Put => {
                if remote.bytes != Some(0) {
                    return self.refused(world);
                }
                if world.store.create_blob(blob, Body::Bytes(0)) {
                    self.filled(Record::Bytes, operation, world)
                } else {
                    self.to(Place::Mirror(At::Look))
                }
            }
            At::Look => match world.store.record(blob) {
                Some(record) => self.filled(record, operation, world),
                None => self.refused(world),
            },
            At::Filled(record) => {
                let key = Key::Link(blob, repository);
                world.store.put(key, Body::Link(record, Right::Filled));
                self.accepted(world)
            }
            At::Forget => {
                let id = self.id();
                world.store.delete(Key::Grant {
                    blob,
                    repository,
                    id,
                });
                self.refused(world)
            }
            _ => self,
        }
    }

    /// The blob is there.
    fn filled(self, record: Record, operation: Operation, world: &World<'_>) -> Self {
        if world.keeps(Rule::KeepBeforeFill) || self.since.is_some() {
            self.link_filled(record, operation, world)
        } else {
            self.to(Place::Keep(keep::At::first(world), After::Filled(record)))
        }
    }

    /// The blob is there, and kept.
    pub(crate) fn link_filled(self, record: Record, _: Operation, world: &World<'_>) -> Self {
        if world.model.scenario.links {
            self.to(Place::Mirror(At::Filled(record)))
        } else {
            self.accepted(world)
        }
    }

    /// Whether the bytes of a blob that is there need not be fetched.
    fn may_reuse(
        self,
        repository: Repository,
        blob: Blob,
        remote: Remote,
        world: &mut World<'_>,
    ) -> bool {
        let scenario = world.model.scenario;
        let is_of_same = |other: Repository| {
            is_mirrored(self.mirrored, other) && scenario.remote(other).upstream == remote.upstream
        };
        let filled = |of: &dyn Fn(Repository) -> bool| {
            let mut grants = world.store.grants(blob);
            grants.any(|(_, other, reason)| reason == Reason::Filled && of(other))
        };
        let has_holder = if !world.keeps(Rule::ReuseNeedsRight) {
            true
        } else if world.keeps(Rule::ReuseOfSameUpstream) {
            filled(&is_of_same)
        } else {
            filled(&|_| true)
        };
        let may = has_holder && (remote.head || !world.keeps(Rule::ReuseNeedsHead));
        // The chain to hashed bytes goes by the upstream: it has sent them for the holder, and says
        // that it has them here.
        let is_chained = remote.head
            && (0..4)
                .map(Repository)
                .any(|other| is_of_same(other) && world.known.is_hashed(other, blob));
        if may && is_chained {
            world.known.hash(repository, blob);
        }
        may
    }

    /// A right was found.
    fn allowed(
        self,
        number: u8,
        right: Right,
        linked: Option<Record>,
        operation: Operation,
        world: &mut World<'_>,
    ) -> Self {
        match operation {
            Operation::Pull { .. } => self.to(Place::Mirror(At::Record(right, linked))),
            Operation::Mount {
                repository,
                blob,
                from: Some(from),
            } => {
                if world.known.is_hashed(from, blob) {
                    world.known.hash(repository, blob);
                }
                self.to(Place::Keep(keep::At::first(world), After::Mount))
            }
            Operation::PutManifest { manifest, .. } => {
                let blobs = world.model.scenario.manifest(manifest).blobs;
                if usize::from(number) + 1 < blobs.len() {
                    self.to(Place::Mirror(At::Link(number + 1)))
                } else {
                    self.to(Place::Keep(keep::At::first(world), After::Manifest))
                }
            }
            _ => self,
        }
    }

    /// No right was found, or the blob is gone: a mirror asks the upstream.
    fn denied(self, operation: Operation, world: &World<'_>) -> Self {
        match operation {
            Operation::Pull { repository, .. } if is_mirrored(self.mirrored, repository) => {
                self.to(Place::Mirror(At::Head))
            }
            _ => self.refused(world),
        }
    }
}
