//! The promise: the properties that must hold in every state, and the sights that must be seen in
//! some.

use std::{cell::RefCell, collections::BTreeSet};

use stateright::Property;

use crate::{
    model::{Removal, State},
    process::{
        At, Client, World, read,
        retention::{self, SUBJECT},
        sweep::{Own, Sweeper, Tasks},
    },
    rights::{Known, has_right},
    rule::Rule,
    scenario::{Operation, Scenario},
    store::{Blob, Body, Key, Manifest, MarkState, Reason, Record, Repository, Step, Store},
};

/// A loss, by the property that it breaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Loss {
    /// A blob of a manifest that is stored.
    Blob,
    /// An extent that the record of such a blob names, or its right bytes.
    Extent,
    /// The right to read such a blob: no grant that counts.
    Grant,
    /// A pull that does not find such a blob, although it is there.
    Pull,
    /// A pull that has begun, and lacks some bytes or gets wrong ones.
    Whole,
    /// A manifest that a stored index lists, though no client deleted it.
    Child,
    /// The referrers entry of a manifest that is stored.
    Referrer,
    /// The manifest to which a tag was moved.
    Tag,
    /// The manifest to which a tag leads: nobody is about to delete the tag.
    Dangling,
    /// A manifest that an accepted index lists, and that was deleted before the index was stored.
    Listed,
    /// A manifest that a tag names, or that a tagged index lists, though no client deleted it.
    Tagged,
    /// A manifest, or one that it lists, before the minimum age of unnamed manifests.
    Young,
    /// A manifest whose subject a tag names.
    About,
    /// The right bytes of a blob that were stored after its damaged ones had been quarantined.
    Healed,
    /// Privacy: a repository has a right to a blob whose bytes were hashed neither for it nor for a
    /// repository from which it has the blob.
    Right,
    /// A blob that was there while an upstream's manifest that names it was stored.
    Held,
    /// A filled blob, before the grace period has passed.
    Fresh,
    /// A filled blob, or the right to it, while a manifest that was stored all the time names it.
    Filled,
    /// Space: after all processes have stopped and everything is deleted, sweeping leaves
    /// something.
    Room,
}

impl Loss {
    /// The name of the property that it breaks.
    pub const fn property(self) -> &'static str {
        match self {
            Self::Blob => "the blobs of a stored manifest are there",
            Self::Extent => "the record of such a blob names extents that are there, and right",
            Self::Grant => "such a blob is granted to the repository",
            Self::Pull => "a pull of such a blob finds it",
            Self::Whole => "a pull gets all bytes",
            Self::Child => "the manifests that a stored index lists are there",
            Self::Referrer => "the referrers entry of a stored manifest is there",
            Self::Tag => "a tag names what it was moved to",
            Self::Dangling => "a tag leads to a manifest once pushes and deletions have ended",
            Self::Listed => "an accepted index had all that it lists",
            Self::Tagged => "what a tag names is there, with all that it lists",
            Self::Young => "what was pushed is there for its time, with all that it lists",
            Self::About => "what is about a manifest that a tag names is there",
            Self::Healed => "what was healed stays, and right",
            Self::Right => "only those can read a blob for whom its bytes were hashed",
            Self::Held => "a blob that was there while a stored manifest names it stays",
            Self::Fresh => "what was filled is there for its time",
            Self::Filled => "what was filled can be read while a manifest names it",
            Self::Room => "sweeping leaves nothing",
        }
    }

    /// The properties of a scenario, each of which says that something is not lost.
    pub(crate) fn properties(scenario: &Scenario) -> Vec<Property<Removal>> {
        if scenario.damaged {
            // Bytes that were lost before the beginning cannot be kept.
            return vec![healed_stays(), found_by_pulls()];
        }
        if scenario.rights {
            return Self::properties_of_rights(scenario);
        }
        let mut properties = vec![
            whole_pulls(),
            Property::always(Self::Blob.property(), |model: &Removal, state: &State| {
                blobs(model, state).all(|(_, blob)| state.store.record(blob).is_some())
            }),
            Property::always(Self::Extent.property(), |model: &Removal, state: &State| {
                blobs(model, state)
                    .filter_map(|(_, blob)| state.store.record(blob))
                    .all(|record| is_there(&state.store, record))
            }),
            Property::always(Self::Grant.property(), |model: &Removal, state: &State| {
                blobs(model, state)
                    .all(|(repository, blob)| is_granted(&state.store, repository, blob))
            }),
            found_by_pulls(),
            Property::always(Self::Tagged.property(), tagged_are_there),
            Property::always(Self::Referrer.property(), referrers_are_there),
            Property::always(Self::Tag.property(), keeps_tag),
            Property::always(Self::Dangling.property(), tags_lead),
            Property::always(Self::Listed.property(), |model: &Removal, state: &State| {
                pushed(model, state).all(|(_, index, _)| state.partial & 1 << index.0 == 0)
            }),
        ];
        if scenario.tasks.aging().manifests {
            properties.push(Property::always(Self::Young.property(), young_are_there));
            properties.push(Property::always(Self::About.property(), abouts_are_there));
        } else {
            // Retention may remove the children of an index before the index: if no tag names the
            // index, or if its push was refused.
            properties.push(Property::always(Self::Child.property(), children_are_there));
        }
        if scenario.leftovers {
            properties.push(Property::always(Self::Room.property(), sweeps_clean));
        }
        properties
    }
}

impl Loss {
    /// The properties of a scenario of rights. A mirror stores a manifest before its blobs.
    fn properties_of_rights(scenario: &Scenario) -> Vec<Property<Removal>> {
        let mut properties = vec![
            Property::always(Self::Right.property(), nobody_reads_without_hash),
            Property::always(Self::Held.property(), |model: &Removal, state: &State| {
                blobs(model, state)
                    .filter(|(repository, blob)| {
                        *repository == Repository(0) && state.known.is_held(*blob)
                    })
                    .all(|(_, blob)| state.store.record(blob).is_some())
            }),
            Property::always(Self::Fresh.property(), |model: &Removal, state: &State| {
                let grace = model.scenario.grace;
                filled(model, state)
                    .filter(|(.., since)| since.is_some_and(|since| since < grace))
                    .all(|(repository, blob, _)| is_readable(model, state, repository, blob))
            }),
            Property::always(Self::Grant.property(), |model: &Removal, state: &State| {
                blobs_of(model, state, |manifest| {
                    state.known.pushed & 1 << manifest.0 != 0
                })
                .all(|(repository, blob)| is_granted(&state.store, repository, blob))
            }),
            found_by_pulls(),
        ];
        if scenario.fills_stay {
            properties.push(Property::always(
                Self::Filled.property(),
                |model: &Removal, state: &State| {
                    filled(model, state)
                        .all(|(repository, blob, _)| is_readable(model, state, repository, blob))
                },
            ));
        }
        if scenario.leftovers {
            properties.push(Property::always(Self::Room.property(), sweeps_clean));
        }
        properties
    }
}

/// Whether each repository that has a right to a blob has it by bytes that were hashed. Under any
/// settings this holds for grants that this version writes. Grants of an older version cannot be
/// told apart from those of pushes once the upstream is removed.
fn nobody_reads_without_hash(model: &Removal, state: &State) -> bool {
    let mirrored = if model.scenario.old_forms {
        state.known.mirrored
    } else {
        0
    };
    (0..4).map(Repository).all(|repository| {
        [Blob(0), Blob(1)].into_iter().all(|blob| {
            state.known.is_hashed(repository, blob)
                || !has_right(model, &state.store, mirrored, repository, blob)
        })
    })
}

/// Whether a blob is there, and a repository has a right to it.
fn is_readable(model: &Removal, state: &State, repository: Repository, blob: Blob) -> bool {
    state.store.record(blob).is_some()
        && has_right(model, &state.store, state.known.mirrored, repository, blob)
}

/// The blobs whose pull or fill was the last operation of a client and was answered with 200, and
/// how many ticks ago it wrote the grant, if it did.
fn filled<'a>(
    model: &'a Removal,
    state: &'a State,
) -> impl Iterator<Item = (Repository, Blob, Option<u8>)> + 'a {
    let clients = state.clients.iter().zip(model.scenario.clients);
    clients.filter_map(|(client, script)| match (client.at, script.last()) {
        (At::End { accepted: true }, Some(Operation::Pull { repository, blob })) => {
            Some((*repository, *blob, client.since))
        }
        (At::End { accepted: true }, Some(Operation::Fill { session })) => {
            let upload = model.scenario.session(*session);
            Some((upload.repository, upload.blob, client.since))
        }
        _ => None,
    })
}

/// A pull of a blob that is there finds it.
fn found_by_pulls() -> Property<Removal> {
    Property::always(Loss::Pull.property(), |model: &Removal, state: &State| {
        blobs(model, state)
            .all(|(repository, blob)| is_found(model, &state.store, repository, blob))
    })
}

/// No pull was broken. Scenarios with such pulls keep the blob.
fn whole_pulls() -> Property<Removal> {
    Property::always(Loss::Whole.property(), |_: &Removal, state: &State| {
        let broken = At::Read(read::At::Broken);
        state.clients.iter().all(|client| client.at != broken)
    })
}

/// The blob of a stored manifest is right, once it was right.
fn healed_stays() -> Property<Removal> {
    Property::always(Loss::Healed.property(), |model: &Removal, state: &State| {
        !state.healed || blobs(model, state).all(|(_, blob)| state.store.is_right(blob))
    })
}

/// The stored manifests. They are stored before the 201, so their properties are a little stronger
/// than the promise.
fn manifests(state: &State) -> impl Iterator<Item = (Repository, Manifest)> {
    state.store.list().filter_map(|(key, _)| match key {
        Key::Manifest(repository, manifest) => Some((repository, manifest)),
        _ => None,
    })
}

/// The blobs of the manifests that are stored.
fn blobs(model: &Removal, state: &State) -> impl Iterator<Item = (Repository, Blob)> {
    blobs_of(model, state, |_| true)
}

/// The blobs of some of the manifests that are stored.
fn blobs_of(
    model: &Removal,
    state: &State,
    is_one: impl Fn(Manifest) -> bool,
) -> impl Iterator<Item = (Repository, Blob)> {
    let manifests = manifests(state).filter(move |(_, manifest)| is_one(*manifest));
    manifests.flat_map(|(repository, manifest)| {
        let blobs = model.scenario.manifest(manifest).blobs;
        blobs.iter().map(move |blob| (repository, *blob))
    })
}

/// Whether the manifests that indexes list are there, except for those that a client deleted.
fn children_are_there(model: &Removal, state: &State) -> bool {
    manifests(state).all(|(repository, manifest)| {
        model
            .scenario
            .manifest(manifest)
            .children
            .iter()
            .all(|child| {
                state.store.has(Key::Manifest(repository, *child))
                    || state.deleted & 1 << child.0 != 0
            })
    })
}

/// Whether a manifest is there, with all that it lists, except for those that a client deleted.
fn is_whole(model: &Removal, state: &State, repository: Repository, manifest: Manifest) -> bool {
    let whole = model.scenario.whole(manifest);
    whole.into_iter().all(|manifest| {
        let is_deleted = state.deleted & 1 << manifest.0 != 0;
        is_deleted || state.store.has(Key::Manifest(repository, manifest))
    })
}

/// Whether the manifests are there to which tags lead, except for tags that a push or a deletion
/// is about to bury.
fn tags_lead(model: &Removal, state: &State) -> bool {
    state
        .store
        .list()
        .all(|(key, object)| match (key, object.body) {
            (Key::Tag(repository), Body::Target { manifest, .. }) => {
                let buries = |client: &Client| client.is_about_to_bury(repository, manifest, model);
                state.store.has(Key::Manifest(repository, manifest))
                    || state.clients.iter().any(buries)
            }
            _ => true,
        })
}

/// Whether the manifests that tags name are there.
fn tagged_are_there(model: &Removal, state: &State) -> bool {
    state
        .store
        .list()
        .all(|(key, object)| match (key, object.body) {
            (Key::Tag(repository), Body::Target { manifest, .. }) => {
                is_whole(model, state, repository, manifest)
            }
            _ => true,
        })
}

/// The manifests whose push was the last operation of a client and was answered with 201, and how
/// many ticks ago that began.
fn pushed<'a>(
    model: &'a Removal,
    state: &'a State,
) -> impl Iterator<Item = (Repository, Manifest, Option<u8>)> + 'a {
    let clients = state.clients.iter().zip(model.scenario.clients);
    clients.filter_map(|(client, script)| match (client.at, script.last()) {
        (
            At::End { accepted: true },
            Some(Operation::PutManifest {
                repository,
                manifest,
                ..
            }),
        ) => Some((*repository, *manifest, client.since)),
        _ => None,
    })
}

/// Whether each manifest that was pushed less than the grace period ago is there: that is the
/// minimum age of a policy.
fn young_are_there(model: &Removal, state: &State) -> bool {
    let grace = model.scenario.grace;
    pushed(model, state).all(|(repository, manifest, since)| {
        since.is_none_or(|since| since >= grace) || is_whole(model, state, repository, manifest)
    })
}

/// Whether each manifest that was pushed with a subject is there, if a tag names the subject. No
/// scenario moves such a tag.
fn abouts_are_there(model: &Removal, state: &State) -> bool {
    pushed(model, state).all(|(repository, manifest, _)| {
        let tag = state.store.get(Key::Tag(repository)).map(|tag| tag.body);
        let is_tagged = matches!(tag, Some(Body::Target { manifest, .. }) if manifest == SUBJECT);
        let is_about = is_tagged && model.scenario.manifest(manifest).subject;
        !is_about || is_whole(model, state, repository, manifest)
    })
}

/// Whether each manifest with a subject has its entry.
fn referrers_are_there(model: &Removal, state: &State) -> bool {
    manifests(state).all(|(repository, manifest)| {
        let entry = Body::Referrer(manifest);
        !model.scenario.manifest(manifest).subject
            || state.store.list().any(|(key, object)| {
                object.body == entry && matches!(key, Key::Referrer(of, _) if of == repository)
            })
    })
}

/// Whether a grant that counts is there: an upload's, a fill's, or that of a stored manifest.
fn is_granted(store: &Store, repository: Repository, blob: Blob) -> bool {
    store.grants(blob).any(|(_, of, reason)| {
        of == repository
            && match reason {
                Reason::Upload | Reason::Filled => true,
                Reason::Manifest(manifest) => store.has(Key::Manifest(repository, manifest)),
                Reason::Claim | Reason::Mirrored(_) => false,
            }
    })
}

/// Whether a pull gets the bytes of a blob that is there: by the link, or by the record itself if
/// the extent that the link names is gone. Only the first extent is opened before the answer
/// begins. If blobs are joined, the record decides about every link that names extents.
fn is_found(model: &Removal, store: &Store, repository: Repository, blob: Blob) -> bool {
    let rereads = model.without != Some(Rule::RecordReread);
    let is_checked = model.scenario.tasks.joins() && model.without != Some(Rule::RecordBeforePull);
    let Some(record) = store.record(blob).filter(|record| is_there(store, *record)) else {
        return true;
    };
    let link = match store.get(Key::Link(blob, repository)) {
        Some(object) => match object.body {
            Body::Record(link) | Body::Link(link, _) => link,
            _ => return true,
        },
        None => return true,
    };
    let is_opened = match link {
        Record::Extents(_) if is_checked => return true,
        Record::Bytes => record == Record::Bytes,
        Record::Extents(extents) => extents
            .get(0)
            .is_some_and(|extent| store.has(Key::Extent(extent))),
    };
    if is_opened {
        is_there(store, link)
    } else {
        rereads
    }
}

/// Whether the bytes that a record names are there and are right.
fn is_there(store: &Store, record: Record) -> bool {
    match record {
        Record::Bytes => true,
        Record::Extents(extents) => extents.iter().all(|extent| {
            store.get(Key::Extent(extent)).map(|object| object.body) == Some(Body::Bytes(0))
        }),
    }
}

/// Whether the tag names the manifest to which a client has moved it, if that is there and nobody
/// is deleting it. No scenario moves the tag to two manifests. With retention of tags, the tag is
/// removed once it is as old as the grace period.
fn keeps_tag(model: &Removal, state: &State) -> bool {
    state
        .clients
        .iter()
        .zip(model.scenario.clients)
        .all(|(client, script)| match (client.at, script.last()) {
            (
                At::End { accepted: true },
                Some(Operation::PutManifest {
                    repository,
                    manifest,
                    tag: true,
                }),
            ) => {
                let may_go = model.scenario.tasks.aging().tags
                    && client
                        .since
                        .is_none_or(|since| since >= model.scenario.grace);
                let tag = state.store.get(Key::Tag(*repository)).map(|tag| tag.body);
                may_go
                    || !state.store.has(Key::Manifest(*repository, *manifest))
                    || is_being_deleted(model, state, *repository, *manifest)
                    || matches!(tag, Some(Body::Target { manifest: named, .. }) if named == *manifest)
            }
            _ => true,
        })
}

/// Whether a client has begun to delete a manifest.
fn is_being_deleted(
    model: &Removal,
    state: &State,
    repository: Repository,
    manifest: Manifest,
) -> bool {
    let delete = Operation::DeleteManifest {
        repository,
        manifest,
    };
    let mut clients = state.clients.iter();
    clients.any(|client| client.at != At::Begin && client.operation(model) == Some(delete))
}

thread_local! {
    /// Stores that a sweep has already been seen to empty: many states share one.
    static CLEAN: RefCell<BTreeSet<Store>> = RefCell::default();
}

/// Whether sweeping to a fixpoint leaves nothing but tombstones of tags, after all processes have
/// stopped and every manifest is deleted.
fn sweeps_clean(model: &Removal, state: &State) -> bool {
    CLEAN.with_borrow_mut(|clean| {
        if clean.contains(&state.store) {
            return true;
        }
        let is_clean = sweep(model, state)
            .list()
            .all(|(key, _)| matches!(key, Key::Tag(_)));
        if is_clean {
            clean.insert(state.store.clone());
        }
        is_clean
    })
}

/// Sweeps to a fixpoint.
fn sweep(model: &Removal, state: &State) -> Store {
    let manifests: Vec<Key> = state
        .store
        .list()
        .map(|(key, _)| key)
        .filter(|key| matches!(key, Key::Manifest(..)))
        .collect();
    let mut state = State {
        store: state.store.clone(),
        clients: Vec::new(),
        sweepers: Vec::new(),
        deleted: 0,
        partial: 0,
        healed: false,
        known: state.known,
    };
    let mut known: Known = state.known;
    for manifest in manifests {
        state.store.delete(manifest);
    }
    let tasks = Tasks::ALL.and(model.scenario.tasks);
    let grace = model.scenario.grace;
    let mut quiet = 0;
    while quiet <= grace {
        let before = state.store.clone();
        for task in tasks.of(&state.store, model.scenario, model.without) {
            let mut store = state.store.clone();
            let mut world = World {
                model,
                before: &state,
                store: &mut store,
                known: &mut known,
            };
            let mut sweeper = Sweeper::begin(task, &world);
            while sweeper != Sweeper::Idle {
                sweeper = sweeper.step(&mut world);
            }
            state.store = store;
        }
        quiet = if state.store == before { quiet + 1 } else { 0 };
        state.tick(model.scenario);
    }
    state.store
}

/// The events that must be seen, so that no property holds only because nothing happened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sight {
    /// A manifest was answered with 201.
    Created,
    /// A push was refused.
    Refused,
    /// A blob was deleted by a sweep.
    Deleted,
    /// A mark was lifted.
    Lifted,
    /// A sweeper took a mark over.
    Takeover,
    /// A session is dead.
    Dead,
    /// A session is done.
    Done,
    /// A chain of steps is partly swept.
    Swept,
    /// A closing was retried.
    Again,
    /// A blob is there and its own extents are gone: another upload's record came first.
    Deduplicated,
    /// A blob was quarantined.
    Aside,
    /// The blob of a manifest that was quarantined is there again.
    Healed,
    /// Retention removes a manifest.
    Untagged,
    /// Retention removed a tag.
    Buried,
    /// An old claim is taken over by another sweeper.
    Reclaimed,
    /// A pull was answered with 200.
    Pulled,
    /// A pull was refused, or the upstream was needed and did not answer.
    Unpulled,
    /// A fill was deleted by a sweep.
    Lapsed,
    /// The bytes of a stored blob were not fetched.
    Reused,
    /// A grant was repaired.
    Repaired,
    /// A blob is bytes, and extents are still there.
    Joined,
    /// The extents of a joined blob are deleted.
    Outlived,
    /// A pull of bytes was answered.
    Read,
}

impl Sight {
    /// As a property.
    pub fn property(self) -> Property<Removal> {
        match self {
            Self::Created => {
                Property::sometimes("a manifest is created", |model: &Removal, state: &State| {
                    state
                        .clients
                        .iter()
                        .any(|client| ended(model, *client, true))
                })
            }
            Self::Refused => {
                Property::sometimes("a push is refused", |model: &Removal, state: &State| {
                    state
                        .clients
                        .iter()
                        .any(|client| ended(model, *client, false))
                })
            }
            Self::Deleted => {
                Property::sometimes("a blob is deleted", |_: &Removal, state: &State| {
                    owns(state, |_, at| at == Own::Mark)
                })
            }
            Self::Lifted => {
                Property::sometimes("a mark is lifted", |_: &Removal, state: &State| {
                    [Blob(0), Blob(1)].into_iter().any(|blob| {
                        state
                            .store
                            .mark(blob)
                            .is_some_and(|(mark, _)| mark.state == MarkState::Lifted)
                    })
                })
            }
            Self::Takeover => {
                Property::sometimes("a mark is taken over", |_: &Removal, state: &State| {
                    owns(state, |taken, _| taken)
                })
            }
            Self::Dead => Property::sometimes("a session is dead", |_: &Removal, state: &State| {
                has_step(state, Step::Dead)
            }),
            Self::Done => Property::sometimes("a session is done", |_: &Removal, state: &State| {
                has_step(state, Step::Done)
            }),
            Self::Swept => {
                Property::sometimes("a session is swept", |_: &Removal, state: &State| {
                    state
                        .sweepers
                        .iter()
                        .any(|sweeper| matches!(sweeper, Sweeper::DeleteSteps { .. }))
                })
            }
            Self::Again => {
                Property::sometimes("a closing is retried", |_: &Removal, state: &State| {
                    state.clients.iter().any(|client| {
                        matches!(client.at, At::Keep(_, crate::process::After::Again))
                    })
                })
            }
            Self::Aside => {
                Property::sometimes("a blob is quarantined", |_: &Removal, state: &State| {
                    let mut objects = state.store.list();
                    objects.any(|(_, object)| object.body == Body::Aside)
                })
            }
            Self::Untagged => {
                Property::sometimes("a manifest goes by policy", |_: &Removal, state: &State| {
                    retains(state, |at| matches!(at, retention::At::Delete { .. }))
                })
            }
            Self::Buried => {
                Property::sometimes("a tag goes by policy", |_: &Removal, state: &State| {
                    let mut objects = state.store.list();
                    objects.any(|(_, object)| matches!(object.body, Body::Tombstone(_)))
                })
            }
            Self::Reclaimed => {
                Property::sometimes("an old claim is claimed", |_: &Removal, state: &State| {
                    retains(state, |at| matches!(at, retention::At::Claim(_, Some(_))))
                })
            }
            Self::Pulled => {
                Property::sometimes("a pull is answered", |model: &Removal, state: &State| {
                    filled(model, state).next().is_some()
                })
            }
            Self::Unpulled => {
                Property::sometimes("a pull is refused", |model: &Removal, state: &State| {
                    let mut clients = state.clients.iter().zip(model.scenario.clients);
                    clients.any(|(client, script)| {
                        client.at == At::End { accepted: false }
                            && matches!(script.last(), Some(Operation::Pull { .. }))
                    })
                })
            }
            Self::Lapsed => Property::sometimes("a fill lapses", |_: &Removal, state: &State| {
                state.sweepers.iter().any(|sweeper| match sweeper {
                    Sweeper::DeleteGrant(key) => {
                        let grant = state.store.get(*key).map(|object| object.body);
                        grant == Some(Body::Reason(Reason::Filled))
                    }
                    _ => false,
                })
            }),
            Self::Reused => {
                Property::sometimes("a blob is reused", |_: &Removal, state: &State| {
                    let mut clients = state.clients.iter();
                    clients.any(|client| {
                        matches!(client.at, At::Keep(_, crate::process::After::Present))
                    })
                })
            }
            Self::Repaired => {
                Property::sometimes("a grant is repaired", |_: &Removal, state: &State| {
                    let mut sweepers = state.sweepers.iter();
                    sweepers.any(|sweeper| matches!(sweeper, Sweeper::Regrant(..)))
                })
            }
            Self::Joined => {
                Property::sometimes("a blob is joined", |_: &Removal, state: &State| {
                    is_joined(&state.store)
                })
            }
            Self::Outlived => Property::sometimes(
                "a joined blob's extents go",
                |_: &Removal, state: &State| {
                    let goes = |sweeper: &Sweeper| matches!(sweeper, Sweeper::DeleteExtents { .. });
                    is_joined(&state.store) && state.sweepers.iter().any(goes)
                },
            ),
            Self::Read => {
                Property::sometimes("bytes are pulled", |model: &Removal, state: &State| {
                    let mut clients = state.clients.iter().zip(model.scenario.clients);
                    clients.any(|(client, script)| {
                        client.at == At::End { accepted: true }
                            && matches!(script.last(), Some(Operation::Read { .. }))
                    })
                })
            }
            Self::Healed => {
                Property::sometimes("a manifest is healed", |model: &Removal, state: &State| {
                    state.healed && blobs(model, state).next().is_some()
                })
            }
            Self::Deduplicated => Property::sometimes(
                "another's record came first",
                |_: &Removal, state: &State| {
                    state.clients.iter().any(|client| {
                        matches!(
                            client.at,
                            At::Upload(crate::process::upload::At::Delete {
                                record: Some(_),
                                ..
                            })
                        )
                    })
                },
            ),
        }
    }
}

fn ended(model: &Removal, client: Client, accepted: bool) -> bool {
    let script = model.scenario.clients.get(usize::from(client.number));
    client.at == At::End { accepted }
        && matches!(
            script.and_then(|script| script.last()),
            Some(Operation::PutManifest { .. })
        )
}

fn owns(state: &State, is_seen: impl Fn(bool, Own) -> bool) -> bool {
    state.sweepers.iter().any(|sweeper| match sweeper {
        Sweeper::Own {
            is_takeover, at, ..
        } => is_seen(*is_takeover, *at),
        _ => false,
    })
}

fn retains(state: &State, is_seen: impl Fn(retention::At) -> bool) -> bool {
    state.sweepers.iter().any(|sweeper| match sweeper {
        Sweeper::Retain(retention) => is_seen(retention.at),
        _ => false,
    })
}

fn is_joined(store: &Store) -> bool {
    let mut keys = store.list().map(|(key, _)| key);
    store.record(Blob(0)) == Some(Record::Bytes) && keys.any(|key| matches!(key, Key::Extent(_)))
}

fn has_step(state: &State, step: Step) -> bool {
    state
        .store
        .list()
        .any(|(_, object)| object.body == Body::Step(step))
}
