//! Retention, in a repository:
//!
//! - List the tags, and replace the old ones by tombstones, by compare-and-swap of the listed
//!   bodies.
//! - List the manifests and their referrers, and read the indexes that stay.
//! - Claim the unused manifests, by create-if-absent, or by compare-and-swap of an old claim.
//! - *Then* read all of it again.
//! - Delete the claimed manifests that are unused in the second reading too, and then the claims;
//!   before each deletion, check the age of the claim.
//!
//! Leftover claims, on manifests that are in use or deleted, are claimed and deleted between the
//! readings.

use crate::{
    process::{World, sweep::Sweeper},
    rule::Rule,
    scenario::Scenario,
    store::{Body, Key, Manifest, Repository, Store},
};

/// Manifests, as bits.
type Manifests = u8;

/// A sweeper that goes through a repository.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Retention {
    /// Which repository.
    pub repository: Repository,
    /// The manifests that it has claimed, and how many ticks ago.
    pub claimed: [Option<u8>; 3],
    /// The indexes whose lists it knows.
    pub known: Manifests,
    /// The known indexes that were absent when they were read: a rule is taken away.
    pub empty: Manifests,
    /// The next step.
    pub at: At,
}

/// The next step of a sweeper in a repository.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum At {
    /// Replace the tag, which was listed with this body, by a tombstone.
    Bury(Body),
    /// List the manifests.
    Manifests(Reading),
    /// List the referrers.
    Referrers(Reading),
    /// Read the first of the manifests that stay: an index.
    Read(Reading),
    /// Look at the claim of the first of these.
    Look(Claims),
    /// Claim it, by the state in which its claim was seen.
    Claim(Claims, Option<Body>),
    /// Delete the claim, which another sweeper left.
    Drop {
        /// The claims that are left to do.
        claims: Claims,
        /// How many ticks ago it was claimed.
        since: u8,
    },
    /// List the claims.
    List {
        /// The unused manifests.
        unused: Manifests,
    },
    /// List the tags again.
    Tags,
    /// Delete the first of the claimed manifests.
    Delete {
        /// The manifests that are unused in the second reading too.
        still: Manifests,
    },
    /// Delete the claim on the first of the claimed manifests.
    Unclaim {
        /// The unused manifests, of which that one is deleted already.
        still: Manifests,
    },
}

/// A reading of a repository under way.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Reading {
    /// Whether it is the reading after the claims.
    pub is_second: bool,
    /// The manifests that were old when the reading began.
    pub old: Manifests,
    /// The manifests that stay and whose children are not added yet.
    pub staying: Manifests,
    /// The manifests that are not known to stay.
    pub rest: Manifests,
    /// The manifests that have a subject, by the list of referrers.
    pub referrers: Manifests,
}

/// The manifests that are to be claimed.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Claims {
    /// The unused manifests.
    pub unused: Manifests,
    /// The unused manifests that are not claimed yet.
    pub left: Manifests,
    /// Whether these are claims that other sweepers left, which are deleted at once.
    pub is_cleaning: bool,
}

/// The only manifest that is a subject.
pub const SUBJECT: Manifest = Manifest(0);

impl Retention {
    /// Whether a listing shows something to do.
    pub fn has_work(store: &Store, scenario: &Scenario) -> bool {
        store.list().any(|(key, object)| match key {
            Key::Claim(..) => true,
            Key::Manifest(..) => object.age >= scenario.grace,
            Key::Tag(_) => is_stale(object.body, object.age, scenario),
            _ => false,
        })
    }

    /// The claim whose etag it knows.
    pub const fn seen(&self) -> Option<Body> {
        match self.at {
            At::Claim(_, seen) => seen,
            _ => None,
        }
    }

    /// Lets a tick pass.
    pub fn tick(&mut self, grace: u8) {
        let dropped = match &mut self.at {
            At::Drop { since, .. } => Some(since),
            _ => None,
        };
        for since in self.claimed.iter_mut().flatten().chain(dropped) {
            *since = (*since + 1).min(grace);
        }
    }

    /// The first step: list the tags.
    pub fn begin(repository: Repository, world: &World<'_>) -> Self {
        let tag = world.store.get(Key::Tag(repository));
        let stale = tag.filter(|tag| is_stale(tag.body, tag.age, world.model.scenario));
        let at = match stale {
            Some(tag) => At::Bury(tag.body),
            None => At::Manifests(Reading::begin(repository, false, world)),
        };
        Self {
            repository,
            claimed: [None; 3],
            known: 0,
            empty: 0,
            at,
        }
    }

    /// One step.
    #[must_use]
    pub fn step(self, world: &mut World<'_>) -> Sweeper {
        let repository = self.repository;
        match self.at {
            At::Bury(seen) => {
                if let Body::Target { manifest, .. } = seen {
                    let tombstone = Body::Tombstone(manifest);
                    world.store.swap(Key::Tag(repository), seen, tombstone);
                }
                let mut reading = Reading::begin(repository, false, world);
                // It treats the tag as removed, even if the swap failed.
                reading.staying = 0;
                self.to(At::Manifests(reading))
            }
            At::Manifests(mut reading) => {
                reading.list_manifests(repository, world);
                self.to(At::Referrers(reading))
            }
            At::Referrers(mut reading) => {
                for (key, object) in world.store.list() {
                    if let (Key::Referrer(of, _), Body::Referrer(manifest)) = (key, object.body)
                        && of == repository
                    {
                        reading.referrers |= bit(manifest);
                    }
                }
                self.follow(reading, world)
            }
            At::Read(mut reading) => {
                let index = lowest(reading.staying);
                let mut next = self;
                if world.store.has(Key::Manifest(repository, index)) {
                    next.known |= bit(index);
                } else if world.keeps(Rule::GoneIsNotEmpty) {
                    // For this reading only: the index may be stored again before the next.
                    reading.staying &= !bit(index);
                    reading.rest &= !bit(index);
                } else {
                    next.known |= bit(index);
                    next.empty |= bit(index);
                }
                next.follow(reading, world)
            }
            At::Look(claims) => {
                let key = Key::Claim(repository, lowest(claims.left));
                match world.store.get(key) {
                    Some(claim) if claim.age < world.model.scenario.grace => {
                        self.claim_next(claims, world)
                    }
                    claim => self.to(At::Claim(claims, claim.map(|claim| claim.body))),
                }
            }
            At::Claim(claims, seen) => {
                let manifest = lowest(claims.left);
                let (key, claim) = (Key::Claim(repository, manifest), world.fresh_claim());
                let is_claimed = match seen {
                    None if world.keeps(Rule::ClaimIfAbsent) => world.store.create(key, claim),
                    Some(seen) if world.keeps(Rule::ClaimBySwap) => {
                        world.store.swap(key, seen, claim)
                    }
                    None | Some(_) => {
                        world.store.put(key, claim);
                        true
                    }
                };
                if is_claimed && claims.is_cleaning {
                    return self.to(At::Drop { claims, since: 0 });
                }
                let mut next = self;
                if is_claimed {
                    next.set_claimed(manifest, Some(0));
                }
                next.claim_next(claims, world)
            }
            At::Drop { claims, since } => {
                let manifest = lowest(claims.left);
                if world.keeps(Rule::BoundOnUnclaim) && since >= world.model.scenario.grace {
                    return Sweeper::Idle;
                }
                world.store.delete(Key::Claim(repository, manifest));
                self.claim_next(claims, world)
            }
            At::List { unused } => {
                let mut left = 0;
                for (key, _) in world.store.list() {
                    if let Key::Claim(of, manifest) = key
                        && of == repository
                    {
                        left |= bit(manifest) & !unused;
                    }
                }
                let claims = Claims {
                    unused,
                    left,
                    is_cleaning: true,
                };
                if left == 0 {
                    self.read_again(unused, world)
                } else {
                    self.to(At::Look(claims))
                }
            }
            At::Tags => self.to(At::Manifests(Reading::begin(repository, true, world))),
            At::Delete { still } => {
                let Some((manifest, since)) = self.first_claimed() else {
                    return Sweeper::Idle;
                };
                if world.keeps(Rule::BoundOnClaimer) && since >= world.model.scenario.grace {
                    return Sweeper::Idle;
                }
                world.store.delete(Key::Manifest(repository, manifest));
                self.to(At::Unclaim { still })
            }
            At::Unclaim { still } => {
                let Some((manifest, since)) = self.first_claimed() else {
                    return Sweeper::Idle;
                };
                if world.keeps(Rule::BoundOnUnclaim) && since >= world.model.scenario.grace {
                    return Sweeper::Idle;
                }
                world.store.delete(Key::Claim(repository, manifest));
                let mut next = self;
                next.set_claimed(manifest, None);
                next.delete_next(still)
            }
        }
    }

    const fn to(mut self, at: At) -> Sweeper {
        self.at = at;
        Sweeper::Retain(self)
    }

    /// Adds the manifests that the staying ones name, up to an index that has to be read.
    fn follow(self, mut reading: Reading, world: &World<'_>) -> Sweeper {
        while reading.staying != 0 {
            let manifest = lowest(reading.staying);
            if reading.rest & bit(manifest) != 0 {
                let children = world.model.scenario.manifest(manifest).children;
                if !children.is_empty() && self.known & bit(manifest) == 0 {
                    return self.to(At::Read(reading));
                }
                if self.empty & bit(manifest) == 0 {
                    reading.staying |= children.iter().fold(0, |bits, child| bits | bit(*child));
                }
                if manifest == SUBJECT && world.keeps(Rule::ReferrersStay) {
                    reading.staying |= reading.referrers;
                }
                reading.rest &= !bit(manifest);
            }
            // Manifests that have left the rest are not considered again.
            reading.staying &= reading.rest;
        }
        let unused = reading.rest;
        if reading.is_second {
            return self.delete_next(unused);
        }
        let mut left = unused;
        while left.count_ones() > u32::from(world.model.scenario.claims) {
            left &= !(1 << (7 - left.leading_zeros()));
        }
        if left == 0 {
            return self.to(At::List { unused });
        }
        self.to(At::Look(Claims {
            unused,
            left,
            is_cleaning: false,
        }))
    }

    /// Goes on to the next claim.
    fn claim_next(self, mut claims: Claims, world: &World<'_>) -> Sweeper {
        claims.left &= claims.left - 1;
        if claims.left != 0 {
            self.to(At::Look(claims))
        } else if claims.is_cleaning {
            self.read_again(claims.unused, world)
        } else {
            self.to(At::List {
                unused: claims.unused,
            })
        }
    }

    /// All claims are written: the decisive reading begins.
    fn read_again(self, unused: Manifests, world: &World<'_>) -> Sweeper {
        if world.keeps(Rule::ClaimBeforeReading) && self.first_claimed().is_some() {
            self.to(At::Tags)
        } else {
            self.delete_next(unused)
        }
    }

    /// Goes on to the first of the claimed manifests.
    fn delete_next(self, still: Manifests) -> Sweeper {
        match self.first_claimed() {
            None => Sweeper::Idle,
            Some((manifest, _)) if still & bit(manifest) != 0 => self.to(At::Delete { still }),
            Some(_) => self.to(At::Unclaim { still }),
        }
    }

    fn first_claimed(&self) -> Option<(Manifest, u8)> {
        let mut claimed = (0..).map(Manifest).zip(self.claimed);
        claimed.find_map(|(manifest, since)| Some((manifest, since?)))
    }

    fn set_claimed(&mut self, manifest: Manifest, since: Option<u8>) {
        if let Some(claimed) = self.claimed.get_mut(usize::from(manifest.0)) {
            *claimed = since;
        }
    }
}

impl Reading {
    /// Lists the tags.
    fn begin(repository: Repository, is_second: bool, world: &World<'_>) -> Self {
        let mut reading = Self {
            is_second,
            old: 0,
            staying: 0,
            rest: 0,
            referrers: 0,
        };
        for (manifest, age) in manifests(repository, world.store) {
            if age >= world.model.scenario.grace {
                reading.old |= bit(manifest);
            }
        }
        let tag = world.store.get(Key::Tag(repository));
        if let Some(Body::Target { manifest, .. }) = tag.map(|tag| tag.body) {
            reading.staying |= bit(manifest);
        }
        reading
    }

    /// Lists the manifests. Young ones stay, and manifests that were written since the reading
    /// began are young.
    fn list_manifests(&mut self, repository: Repository, world: &World<'_>) {
        for (manifest, age) in manifests(repository, world.store) {
            let was_old = self.old & bit(manifest) != 0 || !world.keeps(Rule::AgeBeforeReading);
            let is_old = age >= world.model.scenario.grace && was_old;
            self.rest |= bit(manifest);
            if !is_old && world.keeps(Rule::YoungStay) {
                self.staying |= bit(manifest);
            }
        }
    }
}

/// The manifests of a repository, and their ages.
fn manifests(repository: Repository, store: &Store) -> impl Iterator<Item = (Manifest, u8)> {
    store.list().filter_map(move |(key, object)| match key {
        Key::Manifest(of, manifest) if of == repository => Some((manifest, object.age)),
        _ => None,
    })
}

/// Whether retention removes a tag.
fn is_stale(tag: Body, age: u8, scenario: &Scenario) -> bool {
    scenario.tasks.aging().tags && matches!(tag, Body::Target { .. }) && age >= scenario.grace
}

const fn bit(manifest: Manifest) -> Manifests {
    1 << manifest.0
}

fn lowest(manifests: Manifests) -> Manifest {
    Manifest(u8::try_from(manifests.trailing_zeros()).unwrap_or_default())
}
