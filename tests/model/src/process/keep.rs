//! KEEP: write a new grant on each blob; then read the marks; then, and only then, look at the
//! blobs.

use crate::{
    process::{At as Place, Client, World, blob, kept, manifest, mirror, push, shared_id, upload},
    rule::Rule,
    scenario::Operation,
    store::{Body, Extents, Key, Mark, MarkState, Reason, Record},
};

/// Where a client is in KEEP.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum At {
    /// Write the grant on this one of the blobs.
    Grant(u8),
    /// List the marks.
    Marks,
    /// Read the mark of the first of these blobs, which have one.
    Read {
        /// Bits.
        marked: u8,
    },
    /// Lift it.
    Swap {
        /// Bits.
        marked: u8,
        /// The mark as it was read.
        seen: Mark,
    },
}

impl At {
    /// Where KEEP begins.
    pub fn first(world: &World<'_>) -> Self {
        if world.keeps(Rule::GrantBeforeMark) {
            Self::Grant(0)
        } else {
            Self::Marks
        }
    }
}

/// The step of an operation that follows KEEP.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum After {
    /// Push, whole: create the blob if absent.
    Put,
    /// Push, whole, of a blob that was there: look again.
    Look,
    /// Closing: look, as the closer.
    Close {
        /// The number of the closing step.
        closing: u8,
        /// The extents that the session received.
        extents: Extents,
    },
    /// Closing, retried: look.
    Again,
    /// Mount: look.
    Mount,
    /// Manifest PUT: look at each.
    Manifest,
    /// Fill: create the blob if absent.
    Fill,
    /// Fill of a blob that was there: look again.
    Present,
    /// Fill, with KEEP after the blob is created, because a rule is taken away.
    Filled(Record),
    /// A manifest of an upstream: put it.
    Store,
    /// Push of bytes other than the announced ones: the store refuses them.
    Guess,
}

impl After {
    /// Whether the operation is a fill.
    const fn is_fill(self) -> bool {
        matches!(self, Self::Fill | Self::Present | Self::Filled(_))
    }
}

impl Client {
    /// One step of KEEP.
    pub(crate) fn keep(
        mut self,
        at: At,
        after: After,
        operation: Operation,
        world: &mut World<'_>,
    ) -> Self {
        let Some((repository, blobs, reason)) = kept(operation, world.model) else {
            return self;
        };
        // A whole blob that is not stored yet is announced by a claim: its bytes come after KEEP.
        let reason = match after {
            After::Put => Reason::Claim,
            _ => reason,
        };
        let blob_of = |marked: u8| blobs.get(marked.trailing_zeros() as usize).copied();
        match at {
            At::Grant(number) => {
                let Some(blob) = blobs.get(usize::from(number)).copied() else {
                    return self.after_grants(after, operation, world);
                };
                if !self.is_in_bound(Rule::BoundOnManifest, world) {
                    return self.refused(world);
                }
                let id = if world.keeps(Rule::FreshGrant) {
                    self.id()
                } else {
                    shared_id(reason)
                };
                world.store.put(
                    Key::Grant {
                        blob,
                        repository,
                        id,
                    },
                    Body::Reason(reason),
                );
                let is_bound = matches!(after, After::Manifest | After::Store) || after.is_fill();
                if is_bound && number == 0 {
                    self = self.bound();
                }
                if usize::from(number) + 1 < blobs.len() {
                    return self.to(Place::Keep(At::Grant(number + 1), after));
                }
                self.after_grants(after, operation, world)
            }
            At::Marks => {
                let mut marked = 0;
                for (number, blob) in blobs.iter().enumerate() {
                    if world.store.has(Key::Mark(*blob)) {
                        marked |= 1 << number;
                    }
                }
                self.next_mark(marked, after, operation, world)
            }
            At::Read { marked } => {
                let mark = blob_of(marked).and_then(|blob| world.store.mark(blob));
                match mark {
                    None
                    | Some((
                        Mark {
                            state: MarkState::Lifted,
                            ..
                        },
                        _,
                    )) => self.next_mark(marked & (marked - 1), after, operation, world),
                    Some((
                        seen @ Mark {
                            state: MarkState::Condemned,
                            ..
                        },
                        _,
                    )) => self.to(Place::Keep(At::Swap { marked, seen }, after)),
                    Some((
                        Mark {
                            state: MarkState::Deleting,
                            ..
                        },
                        _,
                    )) => self.refused(world),
                }
            }
            At::Swap { marked, seen } => {
                let Some(blob) = blob_of(marked) else {
                    return self;
                };
                let lifted = Body::Mark(world.fresh_mark(MarkState::Lifted));
                let key = Key::Mark(blob);
                if !world.keeps(Rule::LiftedBySwap) {
                    world.store.put(key, lifted);
                } else if !world.store.swap(key, Body::Mark(seen), lifted) {
                    return self.to(Place::Keep(At::Read { marked }, after));
                }
                self.next_mark(marked & (marked - 1), after, operation, world)
            }
        }
    }

    fn after_grants(self, after: After, operation: Operation, world: &mut World<'_>) -> Self {
        if world.keeps(Rule::GrantBeforeMark) {
            self.to(Place::Keep(At::Marks, after))
        } else {
            self.kept(after, operation, world)
        }
    }

    fn next_mark(
        self,
        marked: u8,
        after: After,
        operation: Operation,
        world: &mut World<'_>,
    ) -> Self {
        if marked != 0 {
            self.to(Place::Keep(At::Read { marked }, after))
        } else if world.keeps(Rule::GrantBeforeMark) {
            self.kept(after, operation, world)
        } else {
            self.to(Place::Keep(At::Grant(0), after))
        }
    }

    /// KEEP is done.
    fn kept(self, after: After, operation: Operation, world: &mut World<'_>) -> Self {
        match after {
            After::Put => self.to(Place::Push(push::At::Put)),
            After::Look => self.to(Place::Push(push::At::Look)),
            After::Close { closing, extents } => {
                self.to(Place::Upload(upload::At::Look { closing, extents }))
            }
            After::Again => self.to(Place::Upload(upload::At::LookAgain)),
            After::Mount => self.to(Place::Blob(blob::At::Look)),
            After::Fill => self.to(Place::Mirror(mirror::At::Put)),
            After::Present => self.to(Place::Mirror(mirror::At::Look)),
            After::Filled(record) => self.link_filled(record, operation, world),
            After::Store => self.to(Place::Mirror(mirror::At::Store)),
            After::Guess => self.to(Place::Mirror(mirror::At::Forget)),
            After::Manifest => {
                if world.keeps(Rule::MarkBeforeBlob) && world.keeps(Rule::LookAtBlobs) {
                    self.to(Place::Manifest(manifest::At::Look(0)))
                } else {
                    self.looked(operation, world)
                }
            }
        }
    }
}
