//! Push, by `PATCH`: 1 put the extent; 2 add it to the session (BOUND); 3 closing, by one closer
//! ever (BOUND from here); 4 KEEP; 5 look: create the record if absent; 6 done, or dead if another
//! record came first.
//!
//! A session is a chain of steps, each created only if absent. The reading of a chain is BOUND as
//! well: it starts a clock, and no step is claimed once that has run out. Of the two steps that
//! tell where a chain ends, the one that should be absent is read first. A sweeper deletes steps in
//! order, so the step before it was there all the while.

use crate::{
    process::{After, At as Place, Client, World, keep, push},
    rule::Rule,
    scenario::Operation,
    store::{Body, Extent, Extents, Key, Record, Right, Session, Step},
};

/// Where a client is in an upload.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum At {
    /// Read the second of the two steps that tell where a chain ends.
    Read {
        /// The number of the step that should be the last.
        hint: u8,
        /// The step that the first read found.
        found: Option<Step>,
    },
    /// A fill: begin the session.
    Start,
    /// A fill: put the extent, which no step names.
    Fill,
    /// List the steps.
    List,
    /// 1 put the extent.
    Put {
        /// The number of the step before.
        number: u8,
        /// Whether it is the first.
        first: bool,
    },
    /// 2 add it to the session.
    Add {
        /// The number of the step before.
        number: u8,
        /// Whether it is the first.
        first: bool,
    },
    /// Another chunk came first: delete the extent.
    Forget {
        /// Its step.
        step: u8,
    },
    /// Several chunks: list the steps.
    ListChunks {
        /// The number of the last step, as it was read.
        number: u8,
    },
    /// Several chunks: hash the extents.
    Hash {
        /// The number of the closing step.
        closing: u8,
        /// The extents that the session received.
        extents: Extents,
    },
    /// 3 closing.
    Claim {
        /// The number of the closing step.
        closing: u8,
        /// The extents that the session received.
        extents: Extents,
    },
    /// Another closer, or a sweeper, was first, or the upload has ended: list the steps.
    Lost,
    /// 5 look.
    Look {
        /// The number of the closing step.
        closing: u8,
        /// The extents that the session received.
        extents: Extents,
    },
    /// 5 create the record if absent.
    Create {
        /// The number of the closing step.
        closing: u8,
        /// The extents that the session received.
        extents: Extents,
    },
    /// 6 done, or dead.
    Finish {
        /// The number of the closing step.
        closing: u8,
        /// The extents that the session received.
        extents: Extents,
        /// The record of the blob.
        record: Record,
        /// Whether the record names the extents that the session received.
        is_mine: bool,
    },
    /// Another upload's record came first, or the upload was cancelled: delete the extents.
    Delete {
        /// The extents that the session received.
        extents: Extents,
        /// The number of the next extent.
        number: u8,
        /// The record of the blob.
        record: Option<Record>,
    },
    /// Write the link.
    Link(Record),
    /// A retried closing looks.
    LookAgain,
    /// Cancel: claim dead.
    Cancel {
        /// The number of the dead step.
        dead: u8,
        /// The extents that the session received.
        extents: Extents,
    },
}

/// The session of an operation, and the step that the client takes for the last.
fn session_of(operation: Operation) -> Option<(Session, u8)> {
    match operation {
        Operation::Push {
            session: Some(session),
            ..
        } => Some((session, 0)),
        Operation::Patch { session, hint, .. } | Operation::Close { session, hint } => {
            Some((session, hint))
        }
        Operation::Cancel { session } | Operation::Fill { session } => Some((session, 0)),
        Operation::Push { session: None, .. }
        | Operation::Mount { .. }
        | Operation::PutManifest { .. }
        | Operation::DeleteManifest { .. }
        | Operation::DeleteBlob { .. }
        | Operation::Pull { .. }
        | Operation::Mirror { .. }
        | Operation::Guess { .. }
        | Operation::Read { .. }
        | Operation::Configure { .. } => None,
    }
}

fn step(world: &World<'_>, session: Session, number: u8) -> Option<Step> {
    match world.store.get(Key::Step(session, number))?.body {
        Body::Step(step) => Some(step),
        _ => None,
    }
}

impl Client {
    /// The first of the two reads that tell where a chain ends. BOUND begins before it.
    pub(crate) fn read_chain(self, operation: Operation, world: &World<'_>) -> Self {
        let Some((session, hint)) = session_of(operation) else {
            return self;
        };
        let first = if world.keeps(Rule::NextBeforeHere) {
            hint + 1
        } else {
            hint
        };
        let found = step(world, session, first);
        self.bound().to(Place::Upload(At::Read { hint, found }))
    }

    /// One step of an upload.
    pub(crate) fn upload(self, at: At, operation: Operation, world: &mut World<'_>) -> Self {
        let Some((session, _)) = session_of(operation) else {
            return self;
        };
        let upload = world.model.scenario.session(session);
        let blob = upload.blob;
        match at {
            At::Read { hint, found } => {
                let (here, next) = if world.keeps(Rule::NextBeforeHere) {
                    (step(world, session, hint), found)
                } else {
                    (found, step(world, session, hint + 1))
                };
                match (here, next) {
                    (Some(here), None) => self.read(hint, here, operation, world),
                    (None, None) if hint == 0 => self.refused(world),
                    (Some(_) | None, Some(_)) | (None, None) => self.to(Place::Upload(At::List)),
                }
            }
            At::Start => {
                world
                    .store
                    .create(Key::Step(session, 0), Body::Step(Step::Start));
                self.to(Place::Upload(At::Fill))
            }
            At::Fill => {
                if !self.is_in_bound(Rule::BoundOnChunk, world) {
                    return self.refused(world);
                }
                let extent = self.extent(session, 1, world);
                world.store.put(Key::Extent(extent), Body::Bytes(0));
                let mut extents = Extents::default();
                extents.push(extent);
                let closing = 1;
                self.to(Place::Upload(At::Claim { closing, extents }))
            }
            At::List => {
                let chain = world.store.chain(session);
                let Some((number, last, _)) = chain.last else {
                    return self.refused(world);
                };
                // This reading is as good as the first, and younger.
                let client = self.bound();
                if matches!(operation, Operation::Cancel { .. }) {
                    if !last.is_open() {
                        return client.refused(world);
                    }
                    let (dead, extents) = (number + 1, chain.extents);
                    return client.to(Place::Upload(At::Cancel { dead, extents }));
                }
                client.read(number, last, operation, world)
            }
            At::Put { number, first } => {
                let Operation::Patch { bytes, .. } = operation else {
                    return self;
                };
                world.store.put(
                    Key::Extent(self.extent(session, number + 1, world)),
                    Body::Bytes(bytes),
                );
                // BOUND from 1 to 2. It need not begin before the chain was read: a step that is
                // added to a chain that was swept meanwhile begins a chain of its own, which names
                // only extents that are there.
                self.bound().to(Place::Upload(At::Add { number, first }))
            }
            At::Add { number, first } => {
                let Operation::Patch { bytes, close, .. } = operation else {
                    return self;
                };
                if !self.is_in_bound(Rule::BoundOnChunk, world) {
                    return self.refused(world);
                }
                let extent = self.extent(session, number + 1, world);
                let received = Step::Received {
                    extent,
                    bytes,
                    first,
                };
                let is_added = world
                    .store
                    .create(Key::Step(session, number + 1), Body::Step(received));
                if !is_added || !world.keeps(Rule::NoBlindRetry) {
                    return self.to(Place::Upload(At::Forget { step: number + 1 }));
                }
                if close {
                    // The client knows this part of the chain from its own write.
                    return self.bound().read_to_close(number + 1, received, world);
                }
                self.accepted(world)
            }
            At::Forget { step } => {
                world
                    .store
                    .delete(Key::Extent(self.extent(session, step, world)));
                self.refused(world)
            }
            At::ListChunks { number } => {
                let chain = world.store.chain(session);
                if chain.last.is_none_or(|(last, _, _)| last != number) {
                    return self.to(Place::Upload(At::Lost));
                }
                let (closing, extents) = (number + 1, chain.extents);
                self.bound()
                    .to(Place::Upload(At::Hash { closing, extents }))
            }
            At::Hash { closing, extents } => {
                let is_right = extents.iter().all(|extent| {
                    world
                        .store
                        .get(Key::Extent(extent))
                        .map(|object| object.body)
                        == Some(Body::Bytes(0))
                });
                if is_right {
                    self.to(Place::Upload(At::Claim { closing, extents }))
                } else {
                    // Another closer may have deleted them.
                    self.to(Place::Upload(At::Lost))
                }
            }
            At::Claim { closing, extents } => {
                if !self.is_in_bound(Rule::BoundOnChain, world) {
                    return self.refused(world);
                }
                if !world
                    .store
                    .create(Key::Step(session, closing), Body::Step(Step::Closing))
                {
                    return self.to(Place::Upload(At::Lost));
                }
                world.known.hash(upload.repository, blob);
                let after = After::Close { closing, extents };
                self.bound().to(Place::Keep(keep::At::first(world), after))
            }
            // A fill has only one closer.
            At::Lost if matches!(operation, Operation::Fill { .. }) => self.refused(world),
            At::Lost => match world.store.chain(session).last {
                Some((number, last @ (Step::Closing | Step::Done), _)) => {
                    self.read(number, last, operation, world)
                }
                // It was closed, and another record came first, or its closer died.
                Some((number, Step::Dead, _))
                    if step(world, session, number - 1) == Some(Step::Closing) =>
                {
                    self.to(Place::Keep(keep::At::first(world), After::Again))
                }
                Some(_) | None => self.refused(world),
            },
            At::Look { closing, extents } => match world.store.record(blob) {
                Some(record) => {
                    // A second closer, which a missing rule allows, cannot tell the record of the
                    // first closer from another upload's.
                    let is_mine =
                        record == Record::Extents(extents) && world.keeps(Rule::OneCloser);
                    self.to(Place::Upload(At::Finish {
                        closing,
                        extents,
                        record,
                        is_mine,
                    }))
                }
                None => self.to(Place::Upload(At::Create { closing, extents })),
            },
            At::Create { closing, extents } => {
                if !self.is_in_bound(Rule::BoundOnClosing, world) {
                    return self.refused(world);
                }
                let record = Record::Extents(extents);
                if world.store.create_blob(blob, Body::Record(record)) {
                    let is_mine = true;
                    self.to(Place::Upload(At::Finish {
                        closing,
                        extents,
                        record,
                        is_mine,
                    }))
                } else {
                    self.to(Place::Upload(At::Look { closing, extents }))
                }
            }
            At::Finish {
                closing,
                extents,
                record,
                is_mine,
            } => {
                if !self.is_in_bound(Rule::BoundOnClosing, world) {
                    return self.refused(world);
                }
                let last = if is_mine { Step::Done } else { Step::Dead };
                world
                    .store
                    .create(Key::Step(session, closing + 1), Body::Step(last));
                if is_mine {
                    return self.linked(record, world);
                }
                self.to(Place::Upload(At::Delete {
                    extents,
                    number: 0,
                    record: Some(record),
                }))
            }
            At::Delete {
                extents,
                number,
                record,
            } => {
                if let Some(extent) = extents.get(number) {
                    world.store.delete(Key::Extent(extent));
                }
                if extents.get(number + 1).is_some() {
                    return self.to(Place::Upload(At::Delete {
                        extents,
                        number: number + 1,
                        record,
                    }));
                }
                match record {
                    Some(record) => self.linked(record, world),
                    None => self.accepted(world),
                }
            }
            At::Link(record) => {
                let right = match operation {
                    Operation::Fill { .. } => Right::Filled,
                    _ => Right::Pushed,
                };
                world.store.put(
                    Key::Link(blob, upload.repository),
                    Body::Link(record, right),
                );
                self.accepted(world)
            }
            At::LookAgain => match world.store.record(blob) {
                Some(record) => self.linked(record, world),
                None => self.refused(world),
            },
            At::Cancel { dead, extents } => {
                if !self.is_in_bound(Rule::BoundOnChain, world) {
                    return self.refused(world);
                }
                if !world
                    .store
                    .create(Key::Step(session, dead), Body::Step(Step::Dead))
                {
                    return self.to(Place::Upload(At::List));
                }
                if extents.get(0).is_none() {
                    return self.accepted(world);
                }
                self.to(Place::Upload(At::Delete {
                    extents,
                    number: 0,
                    record: None,
                }))
            }
        }
    }

    /// The chain's end has been read.
    fn read(self, number: u8, last: Step, operation: Operation, world: &World<'_>) -> Self {
        match operation {
            Operation::Push { .. } => match last {
                Step::Start => self.to(Place::Push(push::At::Head)),
                Step::Received { .. } | Step::Closing | Step::Done | Step::Dead => {
                    self.refused(world)
                }
            },
            Operation::Patch { hint, .. } => {
                // 416 if the offset differs.
                if !last.is_open() || number != hint {
                    return self.refused(world);
                }
                let first = matches!(last, Step::Start);
                self.to(Place::Upload(At::Put { number, first }))
            }
            Operation::Close { .. }
            | Operation::Cancel { .. }
            | Operation::Fill { .. }
            | Operation::Mount { .. }
            | Operation::PutManifest { .. }
            | Operation::DeleteManifest { .. }
            | Operation::DeleteBlob { .. }
            | Operation::Pull { .. }
            | Operation::Mirror { .. }
            | Operation::Guess { .. }
            | Operation::Read { .. }
            | Operation::Configure { .. } => self.read_to_close(number, last, world),
        }
    }

    fn read_to_close(self, number: u8, last: Step, world: &World<'_>) -> Self {
        match last {
            Step::Start => self.refused(world),
            Step::Dead => self.to(Place::Upload(At::Lost)),
            Step::Received {
                extent,
                bytes,
                first: true,
            } => {
                if bytes != 0 {
                    return self.refused(world);
                }
                let mut extents = Extents::default();
                extents.push(extent);
                self.to(Place::Upload(At::Claim {
                    closing: number + 1,
                    extents,
                }))
            }
            Step::Received { first: false, .. } => {
                self.to(Place::Upload(At::ListChunks { number }))
            }
            Step::Closing | Step::Done if !world.keeps(Rule::OneCloser) => {
                let Some((session, _)) = self.operation(world.model).and_then(session_of) else {
                    return self;
                };
                let extents = world.store.chain(session).extents;
                let closing = if matches!(last, Step::Closing) {
                    number
                } else {
                    number - 1
                };
                self.bound().to(Place::Keep(
                    keep::At::first(world),
                    After::Close { closing, extents },
                ))
            }
            Step::Closing | Step::Done => {
                self.to(Place::Keep(keep::At::first(world), After::Again))
            }
        }
    }

    fn extent(self, session: Session, step: u8, world: &World<'_>) -> Extent {
        let nonce = if world.keeps(Rule::NonceInExtent) {
            self.id()
        } else {
            0
        };
        Extent {
            session,
            step,
            nonce,
        }
    }

    fn linked(self, record: Record, world: &World<'_>) -> Self {
        if world.model.scenario.links {
            self.to(Place::Upload(At::Link(record)))
        } else {
            self.accepted(world)
        }
    }
}
