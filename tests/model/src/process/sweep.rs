//! The sweeper. An idle one picks any task that a listing shows, so every order of tasks is
//! searched.
//!
//! - Grants: list those older than the grace period; then read the reason, or see that a later
//!   grant has it; then delete. An old grant `Filled` is deleted unless a grant of a manifest for
//!   that repository stays in the same listing. A young grant of a manifest stays; for an old one,
//!   look at the manifest.
//! - Marks: read the mark; list the grants; none → condemned, by create-if-absent or
//!   compare-and-swap; condemned for as long as the grace period → deleting. The owner of a
//!   deleting mark reads the record, and deletes its extents, the record and the mark. It checks
//!   the age of its claim before each deletion.
//! - Sessions: kill one whose last step is old; read the record; delete the extents that it does
//!   not name, unless the blob was joined less than the grace period ago; once the last step is
//!   old, and dead or done, delete the steps in order.
//! - Extents: delete an old one that its session does not name, if the session names others or is
//!   absent. A mirror's fill has no steps for its extents; they are listed instead.
//! - Links and referrers entries: delete those without a reason.
//! - Joins: read the record of a blob; read its extents, one by one; replace the record by their
//!   bytes, by compare-and-swap. The store checks the digest. The model joins a blob of any age,
//!   with any mark and of any number of extents, which allows more than the code does.
//!
//! Retention is in [`retention`](super::retention).

use crate::{
    process::{World, retention::Retention},
    rights::is_mirrored,
    rule::Rule,
    scenario::Scenario,
    store::{
        Aging, Blob, Body, Extent, Extents, Key, Manifest, Mark, MarkState, Reason, Record,
        Repository, Session, Step, Store,
    },
};

/// The tasks of a sweeper.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Task {
    /// Delete a grant that is old, if its reason is gone.
    Grant(Key),
    /// As [`Self::Grant`], but with the reason read first: a rule is taken away.
    Reason(Repository, Manifest),
    /// Move the mark of a blob.
    Mark(Blob),
    /// Sweep a session.
    Session(Session),
    /// Delete an extent that is old, if its session does not name it.
    Extent(Extent),
    /// Delete a link, if there are no grants.
    Link(Blob, Repository),
    /// Delete a referrers entry that is old, if its manifest is not stored.
    Referrer(Key),
    /// Set aside a blob whose bytes are damaged: the scrub.
    Scrub(Blob),
    /// Remove the manifests and tags of a repository that retention expires.
    Retain(Repository),
    /// Write the grant that a stored manifest should have on a blob: the scrub.
    Repair(Repository, Manifest, Blob),
    /// Join the extents of a blob.
    Join {
        /// The blob.
        blob: Blob,
        /// Whether its bytes are read wrong, although they are stored right.
        is_misread: bool,
    },
}

/// Which tasks there are, as bits.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Tasks(pub u16);

impl Tasks {
    /// Grants and marks.
    pub const BLOBS: Self = Self(1);
    /// Sessions and extents.
    pub const SESSIONS: Self = Self(2);
    /// Links.
    pub const LINKS: Self = Self(4);
    /// Referrers entries.
    pub const REFERRERS: Self = Self(8);
    /// Setting damaged blobs aside.
    pub const SCRUB: Self = Self(16);
    /// Retention of manifests that nothing names.
    pub const RETENTION: Self = Self(32);
    /// The same, and retention of old tags.
    pub const TAG_RETENTION: Self = Self(32 + 64);
    /// Writing grants that are missing.
    pub const REPAIR: Self = Self(128);
    /// Joining the extents of blobs.
    pub const JOIN: Self = Self(256);
    /// Every task of the sweep.
    pub const ALL: Self = Self(15);

    /// Both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The kinds of objects whose ages count.
    pub const fn aging(self) -> Aging {
        Aging {
            manifests: self.has(Self::RETENTION),
            tags: self.0 & 64 != 0,
            blobs: self.joins(),
        }
    }

    /// Whether blobs are joined.
    pub const fn joins(self) -> bool {
        self.has(Self::JOIN)
    }

    const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The tasks that a listing of the store shows.
    pub fn of(self, store: &Store, scenario: &Scenario, without: Option<Rule>) -> Vec<Task> {
        let grace = scenario.grace;
        let mut tasks = Vec::new();
        if self.has(Self::RETENTION) && Retention::has_work(store, scenario) {
            tasks.push(Task::Retain(Repository(0)));
        }
        for (key, object) in store.list() {
            if let Key::Blob(blob) = key
                && self.has(Self::SCRUB)
                && store.record(blob).is_some()
                && !store.is_right(blob)
            {
                tasks.push(Task::Scrub(blob));
            }
            if let (Key::Blob(blob), Body::Record(_)) = (key, object.body)
                && self.joins()
            {
                let join = |is_misread| Task::Join { blob, is_misread };
                tasks.push(join(false));
                // With the rule, such a join writes nothing, as one that crashes.
                if without == Some(Rule::JoinChecksDigest) {
                    tasks.push(join(true));
                }
            }
            let is_old = object.age >= grace;
            match (key, object.body) {
                (Key::Grant { repository, .. }, Body::Reason(reason)) if self.has(Self::BLOBS) => {
                    match reason {
                        Reason::Manifest(manifest)
                            if without == Some(Rule::GrantsBeforeReasons) =>
                        {
                            tasks.push(Task::Reason(repository, manifest));
                        }
                        _ if is_old => tasks.push(Task::Grant(key)),
                        _ => {}
                    }
                }
                (Key::Manifest(repository, manifest), _) if self.has(Self::REPAIR) => {
                    for blob in scenario.manifest(manifest).blobs {
                        let is_missing = !store.grants(*blob).any(|(_, of, reason)| {
                            of == repository && reason.manifest() == Some(manifest)
                        });
                        if is_missing {
                            tasks.push(Task::Repair(repository, manifest, *blob));
                        }
                    }
                }
                (Key::Blob(blob) | Key::Mark(blob), _) if self.has(Self::BLOBS) => {
                    tasks.push(Task::Mark(blob));
                }
                (Key::Step(session, _), _) if self.has(Self::SESSIONS) => {
                    tasks.push(Task::Session(session));
                }
                (Key::Extent(extent), _) if self.has(Self::SESSIONS) && is_old => {
                    tasks.push(Task::Extent(extent));
                }
                (Key::Link(blob, repository), _) if self.has(Self::LINKS) => {
                    tasks.push(Task::Link(blob, repository));
                }
                (Key::Referrer(..), _) if self.has(Self::REFERRERS) && is_old => {
                    tasks.push(Task::Referrer(key));
                }
                _ => {}
            }
        }
        tasks.sort_unstable();
        tasks.dedup();
        tasks
    }
}

/// A sweeper: its next step.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Sweeper {
    /// Nothing.
    Idle,
    /// Look whether the manifest of a grant is stored.
    Reason(Key, Manifest),
    /// List the old grants of a manifest that was not stored: a rule is taken away.
    OldGrants(Repository, Manifest),
    /// An old grant of a fill: look whether the first of these manifests is stored, which would
    /// keep the grant.
    Filled(Key, u8),
    /// Delete the grant.
    DeleteGrant(Key),
    /// No grant of a stored manifest on a blob was listed: look whether the manifest is still
    /// stored. The listing decided the reason.
    Repair(Repository, Manifest, Blob, Reason),
    /// Write the grant, by KEEP.
    Regrant(Repository, Blob, Reason),
    /// The mark was read: list the grants.
    Grants(Blob, Option<Mark>),
    /// There are none: move the mark.
    Move(Blob, Option<Mark>),
    /// It is the owner of a mark, which it claimed so many ticks ago.
    Own {
        /// The blob.
        blob: Blob,
        /// The age of the claim.
        since: u8,
        /// Whether there was another owner before it.
        is_takeover: bool,
        /// The next step.
        at: Own,
    },
    /// Kill the session: claim dead.
    Kill {
        /// The session.
        session: Session,
        /// The number of the dead step.
        dead: u8,
        /// The extents that the session received.
        extents: Extents,
    },
    /// Read the record that might name the session's extents.
    Record {
        /// The session.
        session: Session,
        /// The extents that the session received.
        extents: Extents,
        /// The steps that may be deleted as well, as bits.
        steps: u8,
    },
    /// Delete an extent of the session.
    DeleteExtents {
        /// The session.
        session: Session,
        /// The extents that the session received.
        extents: Extents,
        /// The number of the next extent.
        number: u8,
        /// The steps that may be deleted as well, as bits.
        steps: u8,
    },
    /// Delete a step of the session.
    DeleteSteps {
        /// The session.
        session: Session,
        /// Bits.
        steps: u8,
    },
    /// Look whether its session names the extent.
    Chain(Extent),
    /// Delete the extent.
    DeleteExtent(Extent),
    /// List the grants that a link stands for.
    LinkGrants(Blob, Repository),
    /// Delete the link.
    DeleteLink(Blob, Repository),
    /// Look whether the manifest of an entry is stored.
    Referrer(Key, Manifest),
    /// Delete the entry.
    DeleteReferrer(Key),
    /// Set aside the blob that was read: delete its extents, one by one, then write the note.
    Aside {
        /// The blob.
        blob: Blob,
        /// The body of the blob that was read.
        seen: Body,
        /// The number of the next extent; after them comes the note.
        number: u8,
    },
    /// Remove the manifests and tags of a repository that retention expires.
    Retain(Retention),
    /// Read the next extent of a blob; after the last one, replace the record by the bytes.
    Join {
        /// The blob.
        blob: Blob,
        /// The extents that the record names.
        seen: Extents,
        /// The number of the next extent; after them comes the write.
        number: u8,
        /// Whether the bytes that were read have the digest.
        is_right: bool,
    },
    /// The record is deleted: create the bytes. A rule is taken away.
    Joined(Blob, Body),
}

/// The next step of the owner of a mark.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Own {
    /// Read the record.
    Read,
    /// Delete this one of its extents.
    Extent(Extents, u8),
    /// Delete the steps of their session, if the scenario says so.
    Steps(Session),
    /// Delete the record.
    Record,
    /// Delete the mark.
    Mark,
}

impl Sweeper {
    /// The mark whose etag it knows.
    pub const fn seen(&self) -> Option<Mark> {
        match self {
            Self::Grants(_, seen) | Self::Move(_, seen) => *seen,
            _ => None,
        }
    }

    /// The claim whose etag it knows.
    pub const fn claim_seen(&self) -> Option<Body> {
        match self {
            Self::Retain(retention) => retention.seen(),
            _ => None,
        }
    }

    /// Lets a tick pass.
    pub fn tick(&mut self, grace: u8) {
        match self {
            Self::Own { since, .. } => *since = (*since + 1).min(grace),
            Self::Retain(retention) => retention.tick(grace),
            _ => {}
        }
    }

    /// The first step of a task: the result of the listing, or the first read.
    pub fn begin(task: Task, world: &World<'_>) -> Self {
        let grace = world.model.scenario.grace;
        match task {
            Task::Grant(key) => match world.store.get(key).map(|object| object.body) {
                Some(Body::Reason(Reason::Upload | Reason::Claim)) => Self::DeleteGrant(key),
                Some(Body::Reason(Reason::Filled)) => Self::begin_filled(key, world),
                Some(Body::Reason(Reason::Manifest(_) | Reason::Mirrored(_)))
                    if has_later(key, world) =>
                {
                    Self::DeleteGrant(key)
                }
                Some(Body::Reason(Reason::Manifest(manifest) | Reason::Mirrored(manifest))) => {
                    Self::Reason(key, manifest)
                }
                _ => Self::Idle,
            },
            Task::Repair(repository, manifest, blob) => {
                let stored = world.store.get(Key::Manifest(repository, manifest));
                let says_so = stored.is_some_and(|object| object.body == Body::Upstream);
                let is_from_upstream = (says_so && world.keeps(Rule::ManifestSaysOrigin))
                    || is_mirrored(world.known.mirrored, repository);
                let reason = if is_from_upstream {
                    Reason::Mirrored(manifest)
                } else {
                    Reason::Manifest(manifest)
                };
                Self::Repair(repository, manifest, blob, reason)
            }
            Task::Reason(repository, manifest) => {
                if world.store.has(Key::Manifest(repository, manifest)) {
                    Self::Idle
                } else {
                    Self::OldGrants(repository, manifest)
                }
            }
            Task::Mark(blob) => match world.store.mark(blob) {
                None => Self::Grants(blob, None),
                Some((mark, age)) => match mark.state {
                    MarkState::Lifted => Self::Grants(blob, Some(mark)),
                    MarkState::Condemned if age < grace && world.keeps(Rule::CondemnedStands) => {
                        Self::Idle
                    }
                    MarkState::Condemned if world.keeps(Rule::FreshLook) => {
                        Self::Grants(blob, Some(mark))
                    }
                    MarkState::Condemned => Self::Move(blob, Some(mark)),
                    MarkState::Deleting if age < grace => Self::Idle,
                    // Takeover.
                    MarkState::Deleting => Self::Move(blob, Some(mark)),
                },
            },
            Task::Session(session) => Self::begin_session(session, world),
            Task::Extent(extent) => Self::Chain(extent),
            Task::Link(blob, repository) => Self::LinkGrants(blob, repository),
            Task::Scrub(blob) => match world.store.get(Key::Blob(blob)) {
                Some(object) => Self::Aside {
                    blob,
                    seen: object.body,
                    number: 0,
                },
                None => Self::Idle,
            },
            Task::Retain(repository) => Self::Retain(Retention::begin(repository, world)),
            Task::Join { blob, is_misread } => {
                match world.store.get(Key::Blob(blob)).map(|object| object.body) {
                    Some(Body::Record(Record::Extents(seen))) => Self::Join {
                        blob,
                        seen,
                        number: 0,
                        is_right: !is_misread,
                    },
                    _ => Self::Idle,
                }
            }
            Task::Referrer(key) => match world.store.get(key).map(|object| object.body) {
                Some(Body::Referrer(manifest)) => Self::Referrer(key, manifest),
                _ => Self::Idle,
            },
        }
    }

    /// Judges an old grant of a fill by one listing.
    fn begin_filled(key: Key, world: &World<'_>) -> Self {
        let Key::Grant {
            blob, repository, ..
        } = key
        else {
            return Self::Idle;
        };
        if !world.keeps(Rule::FilledGoes) {
            return Self::Idle;
        }
        if !world.keeps(Rule::FilledStays) {
            return Self::DeleteGrant(key);
        }
        let grace = world.model.scenario.grace;
        let mut manifests = 0;
        for (other, of, reason) in world.store.grants(blob) {
            if let Some(manifest) = reason.manifest()
                && of == repository
            {
                if world
                    .store
                    .get(other)
                    .is_some_and(|grant| grant.age < grace)
                {
                    return Self::Idle;
                }
                manifests |= 1 << manifest.0;
            }
        }
        Self::filled(key, manifests)
    }

    const fn filled(key: Key, manifests: u8) -> Self {
        if manifests == 0 {
            Self::DeleteGrant(key)
        } else {
            Self::Filled(key, manifests)
        }
    }

    fn begin_session(session: Session, world: &World<'_>) -> Self {
        let grace = world.model.scenario.grace;
        let chain = world.store.chain(session);
        let Some((number, last, age)) = chain.last else {
            return Self::Idle;
        };
        // Closed without a chunk: a mirror's fill. Its extents are listed.
        let is_filled = chain.extents.get(0).is_none()
            && (matches!(last, Step::Closing | Step::Done) || number > 1);
        let extents = if is_filled {
            world.store.extents(session)
        } else {
            chain.extents
        };
        let has_old_extent = || {
            extents.iter().any(|extent| {
                world
                    .store
                    .get(Key::Extent(extent))
                    .is_some_and(|object| object.age >= grace)
            })
        };
        let is_old = age >= grace || (!world.keeps(Rule::AgeOfLastStep) && has_old_extent());
        match last {
            Step::Start | Step::Received { .. } | Step::Closing => {
                if !is_old {
                    Self::Idle
                } else if world.keeps(Rule::SessionKilledFirst) {
                    Self::Kill {
                        session,
                        dead: number + 1,
                        extents,
                    }
                } else {
                    Self::Record {
                        session,
                        extents,
                        steps: chain.numbers,
                    }
                }
            }
            Step::Done | Step::Dead => {
                let may_go = age >= grace || !world.keeps(Rule::DeadStands);
                let steps = if may_go { chain.numbers } else { 0 };
                Self::Record {
                    session,
                    extents,
                    steps,
                }
            }
        }
    }

    /// One step.
    #[must_use]
    pub fn step(self, world: &mut World<'_>) -> Self {
        let grace = world.model.scenario.grace;
        match self {
            Self::Idle => self,
            Self::Retain(retention) => retention.step(world),
            Self::Join {
                blob,
                seen,
                number,
                is_right,
            } => Self::join(blob, seen, number, is_right, world),
            Self::Joined(blob, bytes) => {
                world.store.create_blob(blob, bytes);
                Self::Idle
            }
            Self::Reason(key, manifest) => match key {
                Key::Grant { repository, .. }
                    if !world.store.has(Key::Manifest(repository, manifest)) =>
                {
                    Self::DeleteGrant(key)
                }
                _ => Self::Idle,
            },
            Self::OldGrants(repository, manifest) => {
                let old = world.store.list().find_map(|(key, object)| match key {
                    Key::Grant { repository: of, .. }
                        if of == repository
                            && object.body == Body::Reason(Reason::Manifest(manifest))
                            && object.age >= grace =>
                    {
                        Some(key)
                    }
                    _ => None,
                });
                old.map_or(Self::Idle, Self::DeleteGrant)
            }
            Self::Filled(key, manifests) => {
                let manifest = Manifest(u8::try_from(manifests.trailing_zeros()).unwrap_or(0));
                match key {
                    Key::Grant { repository, .. }
                        if !world.store.has(Key::Manifest(repository, manifest)) =>
                    {
                        Self::filled(key, manifests & (manifests - 1))
                    }
                    _ => Self::Idle,
                }
            }
            Self::Repair(repository, manifest, blob, reason) => {
                if world.store.has(Key::Manifest(repository, manifest)) {
                    Self::Regrant(repository, blob, reason)
                } else {
                    Self::Idle
                }
            }
            Self::Regrant(repository, blob, reason) => {
                let id = REPAIRED;
                let key = Key::Grant {
                    blob,
                    repository,
                    id,
                };
                world.store.put(key, Body::Reason(reason));
                Self::Idle
            }
            Self::DeleteGrant(key) | Self::DeleteReferrer(key) => {
                world.store.delete(key);
                Self::Idle
            }
            Self::Grants(blob, seen) => {
                if world.store.grants(blob).next().is_some() {
                    Self::Idle
                } else {
                    Self::Move(blob, seen)
                }
            }
            Self::Move(blob, seen) => Self::move_mark(blob, seen, world),
            Self::Own {
                blob,
                since,
                is_takeover,
                at,
            } => {
                if world.keeps(Rule::BoundOnOwner) && since >= grace {
                    return Self::Idle;
                }
                match own(blob, at, world) {
                    Some(at) => Self::Own {
                        blob,
                        since,
                        is_takeover,
                        at,
                    },
                    None => Self::Idle,
                }
            }
            Self::Kill {
                session,
                dead,
                extents,
            } => {
                if !world
                    .store
                    .create(Key::Step(session, dead), Body::Step(Step::Dead))
                {
                    return Self::Idle;
                }
                let steps = if world.keeps(Rule::DeadStands) {
                    0
                } else {
                    world.store.chain(session).numbers
                };
                Self::Record {
                    session,
                    extents,
                    steps,
                }
            }
            Self::Record {
                session,
                extents,
                steps,
            } => {
                let scenario = world.model.scenario;
                let blob = scenario.session(session).blob;
                let object = world.store.get(Key::Blob(blob));
                let is_named = world
                    .store
                    .record(blob)
                    .is_some_and(|record| record.names(session));
                let may_be_read = scenario.tasks.joins()
                    && world.keeps(Rule::ExtentsOutliveJoin)
                    && object.is_some_and(|object| {
                        matches!(object.body, Body::Bytes(_)) && object.age < grace
                    });
                if may_be_read || (is_named && world.keeps(Rule::RecordBeforeExtents)) {
                    Self::Idle
                } else if extents.get(0).is_some() {
                    Self::DeleteExtents {
                        session,
                        extents,
                        number: 0,
                        steps,
                    }
                } else {
                    Self::steps(session, steps)
                }
            }
            Self::DeleteExtents {
                session,
                extents,
                number,
                steps,
            } => {
                if let Some(extent) = extents.get(number) {
                    world.store.delete(Key::Extent(extent));
                }
                if extents.get(number + 1).is_some() {
                    Self::DeleteExtents {
                        session,
                        extents,
                        number: number + 1,
                        steps,
                    }
                } else {
                    Self::steps(session, steps)
                }
            }
            Self::DeleteSteps { session, steps } => {
                let highest = |steps: u8| 7 - steps.leading_zeros();
                let number = if !world.keeps(Rule::DeadLast) {
                    highest(steps)
                } else if !world.keeps(Rule::StepsInOrder) && steps.count_ones() > 1 {
                    highest(steps & !(1 << highest(steps)))
                } else {
                    steps.trailing_zeros()
                };
                if let Ok(number) = u8::try_from(number) {
                    world.store.delete(Key::Step(session, number));
                }
                Self::steps(session, steps & !(1 << number))
            }
            Self::Chain(extent) => {
                let chain = world.store.chain(extent.session);
                let is_filled = chain.last.is_some() && chain.extents.get(0).is_none();
                if chain.extents.iter().any(|named| named == extent)
                    || (is_filled && world.keeps(Rule::FillsHaveNoStrays))
                {
                    Self::Idle
                } else {
                    Self::DeleteExtent(extent)
                }
            }
            Self::DeleteExtent(extent) => {
                world.store.delete(Key::Extent(extent));
                Self::Idle
            }
            Self::LinkGrants(blob, repository) => {
                if world.store.grants(blob).any(|(_, of, _)| of == repository) {
                    Self::Idle
                } else {
                    Self::DeleteLink(blob, repository)
                }
            }
            Self::DeleteLink(blob, repository) => {
                world.store.delete(Key::Link(blob, repository));
                Self::Idle
            }
            Self::Referrer(key, manifest) => match key {
                Key::Referrer(repository, _)
                    if !world.store.has(Key::Manifest(repository, manifest)) =>
                {
                    Self::DeleteReferrer(key)
                }
                _ => Self::Idle,
            },
            Self::Aside { blob, seen, number } => {
                let extents = match seen {
                    Body::Record(Record::Extents(extents)) => extents,
                    _ => Extents::default(),
                };
                let last = extents.0.iter().flatten().count();
                let at = usize::from(number);
                let extent = if world.keeps(Rule::ExtentsBeforeNote) {
                    extents.0.get(at).copied().flatten()
                } else {
                    at.checked_sub(1)
                        .and_then(|at| extents.0.get(at).copied().flatten())
                };
                let key = Key::Blob(blob);
                match extent {
                    Some(extent) => world.store.delete(Key::Extent(extent)),
                    None if !world.keeps(Rule::AsideBySwap) => world.store.delete(key),
                    None if !world.store.swap(key, seen, Body::Aside) => return Self::Idle,
                    None => {}
                }
                if at == last {
                    return Self::Idle;
                }
                Self::Aside {
                    blob,
                    seen,
                    number: number + 1,
                }
            }
        }
    }

    /// Reads an extent of a blob that is joined, or writes the bytes after the last one.
    fn join(blob: Blob, seen: Extents, number: u8, is_right: bool, world: &mut World<'_>) -> Self {
        if let Some(extent) = seen.get(number) {
            // The write reads the extents. If one is gone, the write fails and stores nothing.
            return world
                .store
                .get(Key::Extent(extent))
                .map_or(Self::Idle, |object| Self::Join {
                    blob,
                    seen,
                    number: number + 1,
                    is_right: is_right && object.body == Body::Bytes(0),
                });
        }
        if !is_right && world.keeps(Rule::JoinChecksDigest) {
            return Self::Idle;
        }
        let key = Key::Blob(blob);
        let bytes = Body::Bytes(u8::from(!is_right));
        if !world.keeps(Rule::JoinBySwap) {
            world.store.delete(key);
            return Self::Joined(blob, bytes);
        }
        let record = Body::Record(Record::Extents(seen));
        world.store.swap(key, record, bytes);
        Self::Idle
    }

    fn steps(session: Session, steps: u8) -> Self {
        if steps == 0 {
            Self::Idle
        } else {
            Self::DeleteSteps { session, steps }
        }
    }

    /// There are no grants, or the time of another owner is over.
    fn move_mark(blob: Blob, seen: Option<Mark>, world: &mut World<'_>) -> Self {
        let key = Key::Mark(blob);
        let Some(mark) = seen else {
            let condemned = Body::Mark(world.fresh_mark(MarkState::Condemned));
            if world.keeps(Rule::CondemnedIfAbsent) {
                world.store.create(key, condemned);
            } else {
                world.store.put(key, condemned);
            }
            return Self::Idle;
        };
        let state = match mark.state {
            MarkState::Lifted => MarkState::Condemned,
            MarkState::Condemned | MarkState::Deleting => MarkState::Deleting,
        };
        let next = Body::Mark(world.fresh_mark(state));
        if state == MarkState::Deleting && !world.keeps(Rule::DeletingBySwap) {
            world.store.put(key, next);
        } else if !world.store.swap(key, Body::Mark(mark), next) {
            return Self::Idle;
        }
        match state {
            MarkState::Deleting => {
                let is_takeover = mark.state == MarkState::Deleting;
                Self::Own {
                    blob,
                    since: 0,
                    is_takeover,
                    at: Own::Read,
                }
            }
            MarkState::Condemned | MarkState::Lifted => Self::Idle,
        }
    }
}

/// Whether a listing has another grant for the same manifest that was written after this one. Of
/// two that different clients wrote, and whose ages have both reached the maximum, the order is
/// unknown: neither is deleted.
fn has_later(key: Key, world: &World<'_>) -> bool {
    let Key::Grant {
        blob,
        repository,
        id,
    } = key
    else {
        return false;
    };
    let Some(object) = world.store.get(key) else {
        return false;
    };
    let is_later = |other: Key, by: u8| {
        let age = world.store.get(other).map_or(0, |object| object.age);
        let is_before_all = id >= STORED;
        let is_same_client = by / 4 == id / 4 && by > id;
        age < object.age || (age == object.age && (is_before_all || is_same_client))
    };
    world.store.grants(blob).any(|(other, of, why)| {
        let is_same = if world.keeps(Rule::KindsApart) {
            object.body == Body::Reason(why)
        } else {
            matches!(object.body, Body::Reason(reason) if reason.manifest() == why.manifest())
        };
        let is_other = other != key && of == repository && is_same;
        let Key::Grant { id: by, .. } = other else {
            return false;
        };
        is_other
            && if world.keeps(Rule::LastGrantStays) {
                is_later(other, by)
            } else {
                by < id
            }
    })
}

/// The least id of grants that were stored before the beginning.
const STORED: u8 = 28;

/// The id of a grant that the scrub writes.
const REPAIRED: u8 = 27;

/// One step of the owner of a mark.
fn own(blob: Blob, at: Own, world: &mut World<'_>) -> Option<Own> {
    match at {
        Own::Read => match world.store.record(blob) {
            None if world.store.has(Key::Blob(blob)) => Some(Own::Record),
            None => Some(Own::Mark),
            Some(Record::Bytes) => Some(Own::Record),
            Some(Record::Extents(extents)) => Some(Own::Extent(extents, 0)),
        },
        Own::Extent(extents, number) => {
            let extent = extents.get(number)?;
            world.store.delete(Key::Extent(extent));
            if extents.get(number + 1).is_some() {
                Some(Own::Extent(extents, number + 1))
            } else if world.model.scenario.owner_sweeps_session {
                Some(Own::Steps(extent.session))
            } else {
                Some(Own::Record)
            }
        }
        Own::Steps(session) => {
            let steps = world.store.chain(session).numbers;
            if steps != 0
                && let Ok(number) = u8::try_from(steps.trailing_zeros())
            {
                world.store.delete(Key::Step(session, number));
            }
            if steps.count_ones() > 1 {
                Some(at)
            } else {
                Some(Own::Record)
            }
        }
        Own::Record => {
            world.store.delete(Key::Blob(blob));
            Some(Own::Mark)
        }
        Own::Mark => {
            world.store.delete(Key::Mark(blob));
            None
        }
    }
}
