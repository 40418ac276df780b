//! Processes: clients, which run the operations of a script one after the other, and the parts that
//! all processes share.
//!
//! A process does one store operation a step. It may stop for ever after any of them (a crash), and
//! it may be arbitrarily slow, so no step has to come. The clock of an operation under BOUND is the
//! number of ticks since it began.

use crate::{
    model::{Removal, State},
    process::sweep::Sweeper,
    rights::Known,
    rule::Rule,
    scenario::Operation,
    store::{Blob, Body, Key, Manifest, Mark, MarkState, Reason, Repository, Store},
};

pub mod blob;
pub mod keep;
pub mod manifest;
pub mod mirror;
pub mod push;
pub mod read;
pub mod retention;
pub mod sweep;
pub mod upload;

/// The state that a step of a process sees and changes.
#[derive(Debug)]
pub struct World<'a> {
    /// The model: the scenario, and the rule that is taken away.
    pub model: &'a Removal,
    /// The state before the step.
    pub before: &'a State,
    /// The store.
    pub store: &'a mut Store,
    /// The settings, and the facts about rights that only the search knows.
    pub known: &'a mut Known,
}

impl World<'_> {
    /// Whether a rule is kept.
    pub fn keeps(&self, rule: Rule) -> bool {
        self.model.without != Some(rule)
    }

    /// A claim that no process has seen.
    pub fn fresh_claim(&self) -> Body {
        if !self.keeps(Rule::NonceInClaim) {
            return Body::Claim(None);
        }
        let in_store = self.store.list().map(|(_, object)| object.body);
        let in_sweepers = self.before.sweepers.iter().filter_map(Sweeper::claim_seen);
        let used = in_store
            .chain(in_sweepers)
            .filter_map(|body| match body {
                Body::Claim(nonce) => nonce,
                _ => None,
            })
            .fold(0_u32, |used, nonce| used | 1 << nonce);
        Body::Claim(u8::try_from(used.trailing_ones()).ok())
    }

    /// A mark that no process has seen.
    pub fn fresh_mark(&self, state: MarkState) -> Mark {
        if !self.keeps(Rule::NonceInMark) {
            return Mark { state, nonce: None };
        }
        // Nonces are only compared, so the smallest unused one is as good as a random one.
        let in_store = self.store.list().filter_map(|(key, _)| match key {
            Key::Mark(blob) => self.store.mark(blob).map(|(mark, _)| mark),
            _ => None,
        });
        let in_clients = self.before.clients.iter().filter_map(Client::seen);
        let in_sweepers = self
            .before
            .sweepers
            .iter()
            .filter_map(|sweeper| sweeper.seen());
        let used = in_store
            .chain(in_clients)
            .chain(in_sweepers)
            .filter_map(|mark| mark.nonce)
            .fold(0_u32, |used, nonce| used | 1 << nonce);
        let nonce = u8::try_from(used.trailing_ones()).ok();
        Mark { state, nonce }
    }
}

/// A client of the registry, and the request that it has under way.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Client {
    /// Which of the clients it is.
    pub number: u8,
    /// Which operation of its script it is at.
    pub operation: u8,
    /// How many ticks ago the operation's BOUND began.
    pub since: Option<u8>,
    /// Where it is in the operation.
    pub at: At,
    /// The repositories that are mirrored by the settings of its isolate, as bits.
    pub mirrored: u8,
}

/// The next thing that a client does in an operation.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum At {
    /// The operation has not begun.
    Begin,
    /// KEEP.
    Keep(keep::At, After),
    /// Push, whole.
    Push(push::At),
    /// Push, by `PATCH`.
    Upload(upload::At),
    /// Manifests.
    Manifest(manifest::At),
    /// Mount and blob DELETE.
    Blob(blob::At),
    /// Pulls, and the writes of a mirror.
    Mirror(mirror::At),
    /// A pull of a blob's bytes.
    Read(read::At),
    /// The script has ended; whether its last operation was answered with success.
    End {
        /// 201 or 202.
        accepted: bool,
    },
}

/// The next thing that a client does after KEEP.
pub type After = keep::After;

impl Client {
    /// A client that has not begun.
    pub const fn new(number: u8) -> Self {
        Self {
            number,
            operation: 0,
            since: None,
            at: At::Begin,
            mirrored: 0,
        }
    }

    /// Whether there is nothing more to do.
    pub const fn is_ended(self) -> bool {
        matches!(self.at, At::End { .. } | At::Read(read::At::Broken))
    }

    /// The operation under way.
    pub fn operation(self, model: &Removal) -> Option<Operation> {
        let script = model.scenario.clients.get(usize::from(self.number))?;
        script.get(usize::from(self.operation)).copied()
    }

    /// The id of the grants that this operation writes, the nonce of its extents and entries.
    pub const fn id(self) -> u8 {
        self.number * 4 + self.operation
    }

    /// One step.
    #[must_use]
    pub fn step(self, world: &mut World<'_>) -> Self {
        let Some(operation) = self.operation(world.model) else {
            return self;
        };
        match self.at {
            At::Begin => {
                let mirrored = world.known.mirrored;
                Self { mirrored, ..self }.begin(operation, world)
            }
            At::Keep(at, after) => self.keep(at, after, operation, world),
            At::Push(at) => self.push(at, operation, world),
            At::Upload(at) => self.upload(at, operation, world),
            At::Manifest(at) => self.manifest(at, operation, world),
            At::Blob(at) => self.blob(at, operation, world),
            At::Mirror(at) => self.mirror(at, operation, world),
            At::Read(at) => self.read_bytes(at, operation, world),
            At::End { .. } => self,
        }
    }

    /// The first step of an operation.
    fn begin(self, operation: Operation, world: &mut World<'_>) -> Self {
        match operation {
            Operation::Push { session: None, .. } => self.push(push::At::Head, operation, world),
            Operation::Push {
                session: Some(_), ..
            }
            | Operation::Patch { .. }
            | Operation::Close { .. } => self.read_chain(operation, world),
            Operation::Fill { .. } => self.bound().upload(upload::At::Start, operation, world),
            Operation::Cancel { .. } => self.upload(upload::At::List, operation, world),
            Operation::Mount { from: Some(_), .. } => {
                self.mirror(mirror::At::first(), operation, world)
            }
            Operation::Mount { from: None, .. } => {
                self.keep(keep::At::first(world), After::Mount, operation, world)
            }
            Operation::PutManifest { .. } if world.model.scenario.rights => {
                self.mirror(mirror::At::first(), operation, world)
            }
            Operation::PutManifest { .. } => self.begin_manifest(operation, world),
            Operation::Pull { .. } => self.mirror(mirror::At::first(), operation, world),
            Operation::Mirror { .. } => self.begin_mirror(operation, world),
            Operation::Guess { .. } => self.mirror(mirror::At::Head, operation, world),
            Operation::Read { .. } => self.read_bytes(read::At::Link, operation, world),
            Operation::Configure { mirrored } => {
                world.known.mirrored = mirrored;
                self.accepted(world)
            }
            Operation::DeleteManifest { .. } => self.manifest(manifest::At::Head, operation, world),
            Operation::DeleteBlob { .. } => self.blob(blob::At::ListGrants, operation, world),
        }
    }

    /// The same client elsewhere.
    #[must_use]
    pub const fn to(mut self, at: At) -> Self {
        self.at = at;
        self
    }

    /// The same client with its BOUND beginning now.
    #[must_use]
    pub const fn bound(mut self) -> Self {
        self.since = Some(0);
        self
    }

    /// Whether a write can still take effect. A write begins before half the grace period has
    /// passed, and takes less than the other half.
    pub fn is_in_bound(self, rule: Rule, world: &World<'_>) -> bool {
        !world.keeps(rule)
            || self
                .since
                .is_none_or(|since| since < world.model.scenario.grace)
    }

    /// The operation has been answered; the next one comes, whatever the answer was.
    #[must_use]
    pub fn answer(mut self, accepted: bool, world: &World<'_>) -> Self {
        self.operation += 1;
        self.mirrored = 0;
        self.at = if self.operation(world.model).is_some() {
            At::Begin
        } else {
            At::End { accepted }
        };
        // An unnamed manifest is kept for a time from its push; a filled blob, from its grant.
        let has_time = world.model.scenario.tasks.aging().manifests || world.model.scenario.rights;
        if !has_time || self.at != (At::End { accepted: true }) {
            self.since = None;
        }
        self
    }

    /// 201, or 202.
    #[must_use]
    pub fn accepted(self, world: &World<'_>) -> Self {
        self.answer(true, world)
    }

    /// 4xx, or 503.
    #[must_use]
    pub fn refused(self, world: &World<'_>) -> Self {
        self.answer(false, world)
    }

    /// Lets a tick pass.
    pub fn tick(&mut self, grace: u8) {
        if let Some(since) = &mut self.since {
            *since = (*since + 1).min(grace);
        }
    }

    /// The mark whose etag the client knows.
    pub const fn seen(&self) -> Option<Mark> {
        match self.at {
            At::Keep(keep::At::Swap { seen, .. }, _) => Some(seen),
            At::Begin
            | At::Keep(..)
            | At::Push(_)
            | At::Upload(_)
            | At::Manifest(_)
            | At::Blob(_)
            | At::Mirror(_)
            | At::Read(_)
            | At::End { .. } => None,
        }
    }
}

/// The blobs that an operation keeps, the repository, and the reason.
pub(crate) fn kept(
    operation: Operation,
    model: &Removal,
) -> Option<(Repository, &'static [Blob], Reason)> {
    match operation {
        Operation::Push {
            repository, blob, ..
        }
        | Operation::Mount {
            repository, blob, ..
        } => Some((repository, one(blob), Reason::Upload)),
        Operation::Guess { repository, blob } => Some((repository, one(blob), Reason::Claim)),
        Operation::Pull { repository, blob } => Some((repository, one(blob), Reason::Filled)),
        Operation::Patch { session, .. } | Operation::Close { session, .. } => {
            let upload = model.scenario.session(session);
            Some((upload.repository, one(upload.blob), Reason::Upload))
        }
        Operation::Fill { session } => {
            let upload = model.scenario.session(session);
            Some((upload.repository, one(upload.blob), Reason::Filled))
        }
        Operation::PutManifest {
            repository,
            manifest,
            ..
        } => {
            let blobs = model.scenario.manifest(manifest).blobs;
            Some((repository, blobs, Reason::Manifest(manifest)))
        }
        Operation::Mirror {
            repository,
            manifest,
        } => {
            let blobs = model.scenario.manifest(manifest).blobs;
            Some((repository, blobs, Reason::Mirrored(manifest)))
        }
        Operation::Cancel { .. }
        | Operation::DeleteManifest { .. }
        | Operation::DeleteBlob { .. }
        | Operation::Read { .. }
        | Operation::Configure { .. } => None,
    }
}

/// A slice of one blob.
const fn one(blob: Blob) -> &'static [Blob] {
    match blob.0 {
        0 => &[Blob(0)],
        _ => &[Blob(1)],
    }
}

/// The id of every grant that does not get an id of its own.
pub(crate) const fn shared_id(reason: Reason) -> u8 {
    match reason {
        Reason::Upload | Reason::Claim => 30,
        Reason::Manifest(Manifest(_)) | Reason::Mirrored(Manifest(_)) => 31,
        Reason::Filled => 29,
    }
}
