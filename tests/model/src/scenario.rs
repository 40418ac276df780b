//! Scenarios: the operations of each client, and the objects that are stored at the beginning.

use crate::{
    process::{manifest::SHARED_NONCE, sweep::Tasks},
    promise::Sight,
    store::{
        Aging, Blob, Body, Extent, Extents, Key, Manifest, Reason, Record, Repository, Right,
        Session, Step, Store,
    },
};

/// An operation of a client.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Operation {
    /// Push, whole.
    Push {
        /// The repository.
        repository: Repository,
        /// The blob.
        blob: Blob,
        /// The session through which it comes, which has no extents.
        session: Option<Session>,
    },
    /// Push, by `PATCH`: a chunk.
    Patch {
        /// The session.
        session: Session,
        /// The number of the last step, as the location states it.
        hint: u8,
        /// The content of the bytes; right are `0`.
        bytes: u8,
        /// Whether the same request closes the session.
        close: bool,
    },
    /// Push, by `PATCH`: closing. A client that timed out and retries is another client with the
    /// same operation.
    Close {
        /// The session.
        session: Session,
        /// The number of the last step, as the location states it.
        hint: u8,
    },
    /// Cancel.
    Cancel {
        /// The session.
        session: Session,
    },
    /// A mirror's fill: an upload whose extents no step names.
    Fill {
        /// The session.
        session: Session,
    },
    /// Mount.
    Mount {
        /// The repository.
        repository: Repository,
        /// The blob.
        blob: Blob,
        /// The source, which must have a right to the blob. `None` if the right is taken as given.
        from: Option<Repository>,
    },
    /// Manifest PUT.
    PutManifest {
        /// The repository.
        repository: Repository,
        /// The manifest.
        manifest: Manifest,
        /// Whether it is pushed by the tag.
        tag: bool,
    },
    /// Manifest DELETE.
    DeleteManifest {
        /// The repository.
        repository: Repository,
        /// The manifest.
        manifest: Manifest,
    },
    /// Blob DELETE.
    DeleteBlob {
        /// The repository.
        repository: Repository,
        /// The blob.
        blob: Blob,
    },
    /// Pull of a blob: by right; else, if the repository is mirrored, by a fill of a small blob.
    Pull {
        /// The repository.
        repository: Repository,
        /// The blob.
        blob: Blob,
    },
    /// Pull of a manifest through the mirror, which stores it.
    Mirror {
        /// The repository.
        repository: Repository,
        /// The manifest.
        manifest: Manifest,
    },
    /// Push of bytes other than the announced ones.
    Guess {
        /// The repository.
        repository: Repository,
        /// The announced blob.
        blob: Blob,
    },
    /// Pull of a blob's bytes, by a repository that has the right.
    Read {
        /// The repository.
        repository: Repository,
        /// The blob.
        blob: Blob,
    },
    /// Change of the settings. Operations that have begun continue under the settings before it.
    Configure {
        /// The repositories that are mirrored from then on, as bits.
        mirrored: u8,
    },
}

/// The responses of the upstream of a repository about its blobs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Remote {
    /// Which upstream it is.
    pub upstream: u8,
    /// Whether its `HEAD` is 200, with the length that is stored.
    pub head: bool,
    /// The bytes that it sends, if it does; right are `0`.
    pub bytes: Option<u8>,
}

/// The content of a manifest.
#[derive(Clone, Copy, Debug, Default)]
pub struct Document {
    /// Blobs.
    pub blobs: &'static [Blob],
    /// The manifests that an index lists.
    pub children: &'static [Manifest],
    /// Whether it has a subject.
    pub subject: bool,
}

/// The target of an upload.
#[derive(Clone, Copy, Debug)]
pub struct Upload {
    /// The repository.
    pub repository: Repository,
    /// The blob.
    pub blob: Blob,
}

/// A scenario.
#[derive(Debug)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// How many ticks the grace period has.
    pub grace: u8,
    /// The clients: the operations of each, one after the other, whatever the answers.
    pub clients: &'static [&'static [Operation]],
    /// How many sweepers there are.
    pub sweepers: usize,
    /// The tasks of the sweepers.
    pub tasks: Tasks,
    /// The manifests.
    pub manifests: &'static [Document],
    /// The sessions.
    pub sessions: &'static [Upload],
    /// Stores the objects of the beginning.
    pub stored: fn(&mut Store),
    /// How many manifests a sweeper claims at once.
    pub claims: u8,
    /// Whether links are written.
    pub links: bool,
    /// Whether the owner of a mark deletes the steps of the extents' session, instead of leaving
    /// them to the sweep of sessions.
    pub owner_sweeps_session: bool,
    /// Whether to sweep every state until nothing is left.
    pub leftovers: bool,
    /// Whether the blob is damaged at the beginning.
    pub damaged: bool,
    /// Whether rights and mirrors are modelled.
    pub rights: bool,
    /// The repositories that are mirrored at the beginning, as bits.
    pub mirrored: u8,
    /// The responses of the upstreams of the repositories.
    pub remotes: &'static [Remote],
    /// The blobs whose bytes were hashed for a repository before the beginning.
    pub hashed: &'static [(Repository, Blob)],
    /// The manifests that were pushed to the first repository before the beginning, as bits.
    pub pushed: u8,
    /// Whether a manifest names the filled blobs all the time.
    pub fills_stay: bool,
    /// Whether an older version has written grants that cannot be told apart from those of pushes.
    pub old_forms: bool,
    /// The events that must be seen.
    pub sights: &'static [Sight],
}

impl Scenario {
    /// The session of an operation.
    pub fn session(&self, session: Session) -> Upload {
        let upload = self.sessions.get(usize::from(session.0)).copied();
        upload.unwrap_or(Upload {
            repository: HERE,
            blob: LAYER,
        })
    }

    /// The responses of the upstream of a repository.
    pub fn remote(&self, repository: Repository) -> Remote {
        let remote = self.remotes.get(usize::from(repository.0)).copied();
        remote.unwrap_or_default()
    }

    /// The manifest of an operation.
    pub fn manifest(&self, manifest: Manifest) -> Document {
        self.manifests
            .get(usize::from(manifest.0))
            .copied()
            .unwrap_or_default()
    }

    /// A manifest with all that it lists, and all that these list.
    pub fn whole(&self, manifest: Manifest) -> Vec<Manifest> {
        let mut whole = vec![manifest];
        let mut looked = 0;
        while let Some(next) = whole.get(looked).copied() {
            whole.extend(self.manifest(next).children);
            looked += 1;
        }
        whole
    }
}

const HERE: Repository = Repository(0);
const THERE: Repository = Repository(1);
const ELSEWHERE: Repository = Repository(2);
const FOURTH: Repository = Repository(3);
const LAYER: Blob = Blob(0);
const CONFIG: Blob = Blob(1);
const IMAGE: Manifest = Manifest(0);
const OTHER: Manifest = Manifest(1);
const THIRD: Manifest = Manifest(2);
const FIRST: Session = Session(0);
const SECOND: Session = Session(1);

const PUSH: Operation = Operation::Push {
    repository: HERE,
    blob: LAYER,
    session: None,
};
const PUT: Operation = Operation::PutManifest {
    repository: HERE,
    manifest: IMAGE,
    tag: false,
};
const DELETE: Operation = Operation::DeleteManifest {
    repository: HERE,
    manifest: IMAGE,
};
const DELETE_BLOB: Operation = Operation::DeleteBlob {
    repository: HERE,
    blob: LAYER,
};
const PATCH: Operation = Operation::Patch {
    session: FIRST,
    hint: 0,
    bytes: 0,
    close: false,
};
const CLOSE: Operation = Operation::Close {
    session: FIRST,
    hint: 1,
};
const CLOSE_TWO: Operation = Operation::Close {
    session: FIRST,
    hint: 2,
};
const CLOSE_SECOND: Operation = Operation::Close {
    session: SECOND,
    hint: 1,
};
const CANCEL_UPLOAD: Operation = Operation::Cancel { session: FIRST };
const PATCH_WRONG: Operation = Operation::Patch {
    session: FIRST,
    hint: 0,
    bytes: 1,
    close: false,
};
const PATCH_AND_CLOSE: Operation = Operation::Patch {
    session: FIRST,
    hint: 0,
    bytes: 0,
    close: true,
};
const PATCH_SECOND: Operation = Operation::Patch {
    session: FIRST,
    hint: 1,
    bytes: 0,
    close: true,
};
const PUSH_THROUGH: Operation = Operation::Push {
    repository: HERE,
    blob: LAYER,
    session: Some(FIRST),
};
const PUSH_THERE: Operation = Operation::Push {
    repository: THERE,
    blob: LAYER,
    session: None,
};
const DELETE_BLOB_THERE: Operation = Operation::DeleteBlob {
    repository: THERE,
    blob: LAYER,
};
const DELETE_THERE: Operation = Operation::DeleteManifest {
    repository: THERE,
    manifest: IMAGE,
};
const FILL: Operation = Operation::Fill { session: FIRST };
const MOUNT_HERE: Operation = Operation::Mount {
    repository: HERE,
    blob: LAYER,
    from: None,
};
const MOUNT_FROM_HERE: Operation = Operation::Mount {
    repository: ELSEWHERE,
    blob: LAYER,
    from: Some(HERE),
};
const PULL: Operation = pull(HERE);
const MIRROR: Operation = Operation::Mirror {
    repository: HERE,
    manifest: IMAGE,
};
const MIRROR_OTHER: Operation = Operation::Mirror {
    repository: HERE,
    manifest: OTHER,
};
const GUESS_HERE: Operation = Operation::Guess {
    repository: HERE,
    blob: LAYER,
};
const READ: Operation = Operation::Read {
    repository: HERE,
    blob: LAYER,
};
const UNMIRROR: Operation = Operation::Configure { mirrored: 0 };
const MIRROR_AGAIN: Operation = Operation::Configure { mirrored: 1 };

const fn pull(repository: Repository) -> Operation {
    Operation::Pull {
        repository,
        blob: LAYER,
    }
}
const PUT_BY_TAG: Operation = Operation::PutManifest {
    repository: HERE,
    manifest: IMAGE,
    tag: true,
};
const PUT_THIRD_BY_TAG: Operation = Operation::PutManifest {
    repository: HERE,
    manifest: THIRD,
    tag: true,
};
const PUT_OTHER: Operation = Operation::PutManifest {
    repository: HERE,
    manifest: OTHER,
    tag: false,
};
const PUT_OTHER_BY_TAG: Operation = Operation::PutManifest {
    repository: HERE,
    manifest: OTHER,
    tag: true,
};
const DELETE_OTHER: Operation = Operation::DeleteManifest {
    repository: HERE,
    manifest: OTHER,
};

const BLOBS_AND_SESSIONS: Tasks = Tasks::BLOBS.and(Tasks::SESSIONS);

const BLOBS_AND_RETENTION: Tasks = Tasks::BLOBS.and(Tasks::RETENTION);

/// One manifest with one blob.
const ONE: &[Document] = &[Document {
    blobs: &[LAYER],
    children: &[],
    subject: false,
}];

/// Two manifests with one blob.
const TWO: &[Document] = &[Document {
    blobs: &[LAYER],
    children: &[],
    subject: false,
}; 2];

/// Two uploads of one blob.
const UPLOADS: &[Upload] = &[
    Upload {
        repository: HERE,
        blob: LAYER,
    },
    Upload {
        repository: HERE,
        blob: LAYER,
    },
];

const NOTHING: Scenario = Scenario {
    name: "",
    grace: 2,
    clients: &[],
    sweepers: 1,
    tasks: Tasks::BLOBS,
    manifests: ONE,
    sessions: UPLOADS,
    stored: |_| (),
    claims: 2,
    links: false,
    owner_sweeps_session: false,
    leftovers: false,
    damaged: false,
    rights: false,
    mirrored: 0,
    remotes: &[],
    hashed: &[],
    pushed: 0,
    fills_stay: false,
    old_forms: false,
    sights: &[],
};

fn store_blob(store: &mut Store) {
    store.put(Key::Blob(LAYER), Body::Bytes(0));
}

fn store_manifest(store: &mut Store) {
    store_blob(store);
    let id = 28;
    store.put(
        Key::Grant {
            blob: LAYER,
            repository: HERE,
            id,
        },
        Body::Reason(Reason::Manifest(IMAGE)),
    );
    store.put(Key::Manifest(HERE, IMAGE), Body::Empty);
}

/// A session that has begun.
fn store_start(store: &mut Store) {
    store.put(Key::Step(FIRST, 0), Body::Step(Step::Start));
}

/// A session that has received one chunk.
fn store_session(store: &mut Store, session: Session) {
    let extent = Extent {
        session,
        step: 1,
        nonce: 29,
    };
    store.put(Key::Extent(extent), Body::Bytes(0));
    store.put(Key::Step(session, 0), Body::Step(Step::Start));
    store.put(
        Key::Step(session, 1),
        Body::Step(Step::Received {
            extent,
            bytes: 0,
            first: true,
        }),
    );
}

/// A session that has received two chunks.
fn store_two_chunks(store: &mut Store, session: Session) {
    store_session(store, session);
    let extent = Extent {
        session,
        step: 2,
        nonce: 29,
    };
    store.put(Key::Extent(extent), Body::Bytes(0));
    store.put(
        Key::Step(session, 2),
        Body::Step(Step::Received {
            extent,
            bytes: 0,
            first: false,
        }),
    );
}

/// A blob in an extent, whose session is done.
fn store_done(store: &mut Store, session: Session) {
    store_session(store, session);
    store.put(Key::Step(session, 2), Body::Step(Step::Closing));
    store.put(Key::Step(session, 3), Body::Step(Step::Done));
    let mut extents = Extents::default();
    extents.push(Extent {
        session,
        step: 1,
        nonce: 29,
    });
    store.put(Key::Blob(LAYER), Body::Record(Record::Extents(extents)));
}

/// A blob in two extents, whose session is done.
fn store_done_of_two(store: &mut Store, session: Session) {
    store_two_chunks(store, session);
    store.put(Key::Step(session, 3), Body::Step(Step::Closing));
    store.put(Key::Step(session, 4), Body::Step(Step::Done));
    let mut extents = Extents::default();
    for step in [1, 2] {
        extents.push(Extent {
            session,
            step,
            nonce: 29,
        });
    }
    store.put(Key::Blob(LAYER), Body::Record(Record::Extents(extents)));
}

/// Writes the link that names the place of the blob's bytes.
fn store_link(store: &mut Store) {
    if let Some(record) = store.record(LAYER) {
        store.put(Key::Link(LAYER, HERE), Body::Link(record, Right::Pushed));
    }
}

/// Two clients push a manifest, one of them its blob as well, whole; one deletes the manifest.
pub static WHOLE: Scenario = Scenario {
    name: "whole",
    clients: &[&[PUSH, PUT], &[PUT, DELETE]],
    sweepers: 2,
    leftovers: true,
    sights: &[
        Sight::Created,
        Sight::Refused,
        Sight::Deleted,
        Sight::Lifted,
        Sight::Takeover,
    ],
    ..NOTHING
};

/// A manifest is deleted and pushed again, while another client pushes it as well and a third
/// deletes the blob.
pub static AGAIN: Scenario = Scenario {
    name: "again",
    clients: &[&[DELETE, PUT], &[PUT], &[DELETE_BLOB]],
    sweepers: 2,
    stored: store_manifest,
    sights: &[
        Sight::Created,
        Sight::Refused,
        Sight::Deleted,
        Sight::Lifted,
    ],
    ..NOTHING
};

/// A manifest is deleted and pushed again: of its grants one stays.
pub static PUSHED_AGAIN: Scenario = Scenario {
    name: "pushed again",
    clients: &[&[DELETE, PUT]],
    sweepers: 2,
    stored: |store| {
        store_blob(store);
        // The first of the ids to come.
        let key = Key::Grant {
            blob: LAYER,
            repository: HERE,
            id: 0,
        };
        store.put(key, Body::Reason(Reason::Manifest(IMAGE)));
        store.put(Key::Manifest(HERE, IMAGE), Body::Empty);
    },
    leftovers: true,
    sights: &[
        Sight::Created,
        Sight::Refused,
        Sight::Deleted,
        Sight::Lifted,
    ],
    ..NOTHING
};

/// A blob without grants is swept, by an owner and by another that takes over, and pushed again.
pub static TAKEOVER: Scenario = Scenario {
    name: "takeover",
    clients: &[&[PUSH, PUT]],
    sweepers: 2,
    stored: store_blob,
    leftovers: true,
    sights: &[
        Sight::Created,
        Sight::Refused,
        Sight::Deleted,
        Sight::Lifted,
        Sight::Takeover,
    ],
    ..NOTHING
};

/// As [`TAKEOVER`], of a blob in an extent.
pub static TAKEOVER_OF_EXTENTS: Scenario = Scenario {
    name: "takeover of extents",
    clients: &[&[PUSH, PUT]],
    sweepers: 2,
    stored: |store| store_done(store, FIRST),
    ..TAKEOVER
};

/// A client closes an upload and pushes the manifest; it times out and closes again.
pub static CLOSING: Scenario = Scenario {
    name: "closing",
    clients: &[&[CLOSE, PUT], &[CLOSE]],
    tasks: BLOBS_AND_SESSIONS,
    stored: |store| store_session(store, FIRST),
    leftovers: true,
    sights: &[
        Sight::Created,
        Sight::Again,
        Sight::Dead,
        Sight::Done,
        Sight::Swept,
        Sight::Deleted,
    ],
    ..NOTHING
};

/// As [`CLOSING`], while another client deletes the blob.
pub static CLOSING_AND_DELETE: Scenario = Scenario {
    name: "closing and delete",
    clients: &[&[CLOSE], &[CLOSE, PUT], &[DELETE_BLOB]],
    leftovers: false,
    ..CLOSING
};

/// As [`CLOSING_AND_DELETE`], with an owner of a mark that deletes the session with the extents.
pub static OWNER_SWEEPS_SESSION: Scenario = Scenario {
    name: "owner sweeps session",
    clients: &[&[CLOSE, DELETE_BLOB], &[CLOSE, PUT]],
    owner_sweeps_session: true,
    ..CLOSING_AND_DELETE
};

/// As [`CLOSING`], of two chunks.
pub static CLOSING_OF_TWO: Scenario = Scenario {
    name: "closing of two chunks",
    clients: &[&[CLOSE_TWO, PUT], &[CLOSE_TWO]],
    tasks: Tasks::SESSIONS,
    stored: |store| store_two_chunks(store, FIRST),
    leftovers: true,
    sights: &[
        Sight::Created,
        Sight::Again,
        Sight::Dead,
        Sight::Done,
        Sight::Swept,
    ],
    ..NOTHING
};

/// As [`CLOSING_OF_TWO`], by a client that knows only the first chunk.
pub static STALE_HINT: Scenario = Scenario {
    name: "stale hint",
    clients: &[&[CLOSE, PUT], &[CLOSE_TWO]],
    ..CLOSING_OF_TWO
};

/// As [`CLOSING`], with two sweepers that sweep only sessions.
pub static SESSIONS: Scenario = Scenario {
    name: "sessions",
    sweepers: 2,
    tasks: Tasks::SESSIONS,
    leftovers: false,
    sights: &[
        Sight::Created,
        Sight::Again,
        Sight::Dead,
        Sight::Done,
        Sight::Swept,
    ],
    ..CLOSING
};

/// Two chunks for one offset, of which one is right; closing.
pub static CHUNKS: Scenario = Scenario {
    name: "chunks",
    clients: &[&[PATCH, CLOSE, PUT], &[PATCH_WRONG]],
    tasks: Tasks::SESSIONS,
    stored: store_start,
    leftovers: true,
    sights: &[
        Sight::Created,
        Sight::Refused,
        Sight::Dead,
        Sight::Done,
        Sight::Swept,
    ],
    ..NOTHING
};

/// A second chunk arrives and closes the upload, while another client closes it after the first.
pub static SECOND_CHUNK: Scenario = Scenario {
    name: "second chunk",
    clients: &[&[PATCH_SECOND, PUT], &[CLOSE]],
    tasks: Tasks::SESSIONS,
    stored: |store| store_session(store, FIRST),
    leftovers: true,
    sights: &[
        Sight::Created,
        Sight::Refused,
        Sight::Dead,
        Sight::Done,
        Sight::Swept,
    ],
    ..NOTHING
};

/// A chunk that closes, while another client cancels.
pub static CANCEL: Scenario = Scenario {
    name: "cancel",
    clients: &[&[PATCH_AND_CLOSE, PUT], &[CANCEL_UPLOAD]],
    tasks: Tasks::SESSIONS,
    stored: store_start,
    leftovers: true,
    sights: &[
        Sight::Created,
        Sight::Refused,
        Sight::Dead,
        Sight::Done,
        Sight::Swept,
    ],
    ..NOTHING
};

/// A blob is pushed whole through a session, while a chunk for that arrives.
pub static THROUGH_SESSION: Scenario = Scenario {
    name: "through a session",
    clients: &[&[PUSH_THROUGH, PUT], &[PATCH_AND_CLOSE]],
    tasks: Tasks::SESSIONS,
    stored: store_start,
    leftovers: true,
    sights: &[
        Sight::Created,
        Sight::Refused,
        Sight::Dead,
        Sight::Deduplicated,
    ],
    ..NOTHING
};

/// Two uploads of one blob.
pub static TWO_UPLOADS: Scenario = Scenario {
    name: "two uploads",
    clients: &[&[CLOSE, PUT], &[CLOSE_SECOND]],
    tasks: BLOBS_AND_SESSIONS,
    stored: |store| {
        store_session(store, FIRST);
        store_session(store, SECOND);
    },
    sights: &[
        Sight::Created,
        Sight::Dead,
        Sight::Done,
        Sight::Deduplicated,
    ],
    ..NOTHING
};

/// A blob is mounted, while its source is deleted.
pub static MOUNT: Scenario = Scenario {
    name: "mount",
    clients: &[&[PUSH_THERE, DELETE_BLOB_THERE], &[MOUNT_HERE, PUT]],
    leftovers: true,
    sights: &[
        Sight::Created,
        Sight::Refused,
        Sight::Deleted,
        Sight::Lifted,
    ],
    ..NOTHING
};

/// A blob in an extent is swept and pushed whole elsewhere, while a link to the extent stays.
pub static LINK: Scenario = Scenario {
    name: "link",
    clients: &[&[PUSH_THERE], &[MOUNT_HERE, PUT]],
    tasks: Tasks::ALL,
    stored: |store| {
        store_done(store, FIRST);
        if let Some(record) = store.record(LAYER) {
            store.put(Key::Link(LAYER, HERE), Body::Record(record));
        }
    },
    links: true,
    leftovers: true,
    sights: &[Sight::Created, Sight::Refused, Sight::Deleted, Sight::Swept],
    ..NOTHING
};

/// A blob is filled from an upstream, while another client pushes it: the upload has no step for
/// its extent.
pub static FILLED: Scenario = Scenario {
    name: "fill",
    clients: &[&[FILL, PUT], &[PUSH]],
    tasks: BLOBS_AND_SESSIONS,
    leftovers: true,
    sights: &[
        Sight::Created,
        Sight::Refused,
        Sight::Deleted,
        Sight::Dead,
        Sight::Done,
        Sight::Swept,
        Sight::Deduplicated,
    ],
    ..NOTHING
};

/// The blob of a manifest is damaged. Two scrubs set it aside, while clients push the blob and a
/// manifest that needs it, and the sweep runs.
pub static SCRUB: Scenario = Scenario {
    name: "scrub",
    clients: &[&[PUSH, PUT_OTHER], &[PUSH_THERE]],
    sweepers: 2,
    tasks: Tasks::BLOBS.and(Tasks::SCRUB),
    manifests: &[Document {
        blobs: &[LAYER],
        children: &[],
        subject: false,
    }; 2],
    stored: |store| {
        store_manifest(store);
        store.put(Key::Blob(LAYER), Body::Bytes(1));
    },
    damaged: true,
    sights: &[Sight::Created, Sight::Refused, Sight::Aside, Sight::Healed],
    ..NOTHING
};

/// As [`SCRUB`], of a blob in extents, which a link names.
pub static SCRUB_OF_EXTENTS: Scenario = Scenario {
    name: "scrub of extents",
    clients: &[&[PUSH_THERE], &[CLOSE_SECOND]],
    tasks: Tasks::SCRUB,
    sessions: &[
        Upload {
            repository: HERE,
            blob: LAYER,
        },
        Upload {
            repository: THERE,
            blob: LAYER,
        },
    ],
    stored: |store| {
        store_manifest(store);
        store_done(store, FIRST);
        store_session(store, SECOND);
        let extent = Extent {
            session: FIRST,
            step: 1,
            nonce: 29,
        };
        store.put(Key::Extent(extent), Body::Bytes(1));
        if let Some(record) = store.record(LAYER) {
            store.put(Key::Link(LAYER, HERE), Body::Record(record));
        }
    },
    links: true,
    sights: &[Sight::Aside, Sight::Healed],
    ..SCRUB
};

/// A tag is moved to another manifest, while the one that it named is deleted.
pub static TAG: Scenario = Scenario {
    name: "tag",
    clients: &[&[PUT_OTHER_BY_TAG], &[DELETE], &[DELETE]],
    sweepers: 0,
    manifests: &[Document {
        blobs: &[],
        children: &[],
        subject: false,
    }; 2],
    stored: |store| {
        store.put(Key::Manifest(HERE, IMAGE), Body::Empty);
        store.put(Key::Tag(HERE), tagged(IMAGE));
    },
    sights: &[Sight::Created],
    ..NOTHING
};

/// A manifest is pushed again by tag, while it is deleted.
pub static TAG_AND_DELETE: Scenario = Scenario {
    name: "tag and delete",
    clients: &[&[PUT_BY_TAG], &[DELETE], &[DELETE]],
    stored: |store| store.put(Key::Manifest(HERE, IMAGE), Body::Empty),
    sights: &[Sight::Created, Sight::Refused, Sight::Buried],
    ..TAG
};

/// An index is pushed by tag, while the manifest that it lists is deleted, and pushed again.
pub static INDEX_AND_DELETE: Scenario = Scenario {
    name: "index and delete",
    clients: &[&[PUT_OTHER_BY_TAG], &[DELETE, PUT], &[DELETE_OTHER]],
    manifests: &[
        Document {
            blobs: &[],
            children: &[],
            subject: false,
        },
        Document {
            blobs: &[],
            children: &[IMAGE],
            subject: false,
        },
    ],
    ..TAG_AND_DELETE
};

/// A manifest with a subject is pushed, deleted and pushed again.
pub static REFERRER: Scenario = Scenario {
    name: "referrer",
    clients: &[&[PUT, DELETE], &[PUT]],
    sweepers: 2,
    tasks: Tasks::REFERRERS,
    manifests: &[Document {
        blobs: &[],
        children: &[],
        subject: true,
    }],
    leftovers: true,
    sights: &[Sight::Created],
    ..NOTHING
};

/// A manifest of two blobs is pushed, while another one of the same blobs is deleted.
pub static TWO_BLOBS: Scenario = Scenario {
    name: "two blobs",
    clients: &[&[PUT], &[DELETE_OTHER]],
    manifests: &[
        Document {
            blobs: &[LAYER, CONFIG],
            children: &[],
            subject: false,
        },
        Document {
            blobs: &[CONFIG, LAYER],
            children: &[],
            subject: false,
        },
    ],
    stored: |store| {
        for blob in [LAYER, CONFIG] {
            store.put(Key::Blob(blob), Body::Bytes(0));
            let key = Key::Grant {
                blob,
                repository: HERE,
                id: 28,
            };
            store.put(key, Body::Reason(Reason::Manifest(OTHER)));
        }
        store.put(Key::Manifest(HERE, OTHER), Body::Empty);
    },
    sights: &[
        Sight::Created,
        Sight::Refused,
        Sight::Deleted,
        Sight::Lifted,
    ],
    ..NOTHING
};

/// As [`TWO_BLOBS`], with the other pushed as well.
pub static TWO_BLOBS_TWICE: Scenario = Scenario {
    name: "two blobs twice",
    clients: &[&[PUT], &[PUT_OTHER, DELETE_OTHER]],
    stored: |store| {
        for blob in [LAYER, CONFIG] {
            store.put(Key::Blob(blob), Body::Bytes(0));
        }
    },
    ..TWO_BLOBS
};

/// An index is pushed after its child, while the child is deleted and pushed again.
pub static INDEX: Scenario = Scenario {
    name: "index",
    clients: &[&[PUT, PUT_OTHER], &[DELETE, PUT]],
    manifests: &[
        Document {
            blobs: &[LAYER],
            children: &[],
            subject: false,
        },
        Document {
            blobs: &[],
            children: &[IMAGE],
            subject: false,
        },
    ],
    stored: store_blob,
    leftovers: true,
    sights: &[
        Sight::Created,
        Sight::Refused,
        Sight::Deleted,
        Sight::Lifted,
    ],
    ..NOTHING
};

/// The tag as it was at the beginning.
const fn tagged(manifest: Manifest) -> Body {
    Body::Target {
        manifest,
        nonce: SHARED_NONCE,
    }
}

/// Stores an old manifest.
fn store_old(store: &mut Store, manifest: Manifest) {
    let aging = Aging {
        manifests: true,
        tags: true,
        blobs: false,
    };
    store.put(Key::Manifest(HERE, manifest), Body::Empty);
    for _ in 0..NOTHING.grace {
        store.tick(NOTHING.grace, aging);
    }
}

/// Retention removes a manifest that no tag names, while it is pushed by tag.
pub static UNTAGGED: Scenario = Scenario {
    name: "untagged",
    clients: &[&[PUT_BY_TAG]],
    sweepers: 2,
    tasks: Tasks::RETENTION,
    manifests: &[Document {
        blobs: &[],
        children: &[],
        subject: false,
    }],
    stored: |store| store_old(store, IMAGE),
    leftovers: true,
    sights: &[
        Sight::Created,
        Sight::Refused,
        Sight::Untagged,
        Sight::Reclaimed,
    ],
    ..NOTHING
};

/// An index that a tag names is deleted and pushed again, while retention removes its children.
pub static UNTAGGED_INDEX: Scenario = Scenario {
    name: "untagged, in an index",
    clients: &[&[DELETE_OTHER, PUT_OTHER_BY_TAG]],
    sweepers: 1,
    manifests: &[
        Document {
            blobs: &[],
            children: &[],
            subject: false,
        },
        Document {
            blobs: &[],
            children: &[IMAGE],
            subject: false,
        },
    ],
    stored: |store| {
        store_old(store, IMAGE);
        store.put(Key::Manifest(HERE, OTHER), Body::Empty);
        store.put(Key::Tag(HERE), tagged(OTHER));
    },
    sights: &[Sight::Created, Sight::Refused, Sight::Untagged],
    ..UNTAGGED
};

/// An index is pushed that lists an old index, whose children retention removes first.
pub static UNTAGGED_INDEXES: Scenario = Scenario {
    name: "untagged, in an index of indexes",
    clients: &[&[PUT_THIRD_BY_TAG]],
    sweepers: 1,
    claims: 1,
    manifests: &[
        Document {
            blobs: &[],
            children: &[],
            subject: false,
        },
        Document {
            blobs: &[],
            children: &[IMAGE],
            subject: false,
        },
        Document {
            blobs: &[],
            children: &[OTHER],
            subject: false,
        },
    ],
    stored: |store| {
        store_old(store, IMAGE);
        store_old(store, OTHER);
    },
    sights: &[Sight::Created, Sight::Refused, Sight::Untagged],
    ..UNTAGGED
};

/// A manifest is pushed again whose subject a tag names, while retention removes unnamed manifests.
pub static UNTAGGED_REFERRER: Scenario = Scenario {
    name: "untagged, with a subject",
    clients: &[&[DELETE_OTHER, PUT_OTHER]],
    tasks: Tasks::RETENTION.and(Tasks::REFERRERS),
    manifests: &[
        Document {
            blobs: &[],
            children: &[],
            subject: false,
        },
        Document {
            blobs: &[],
            children: &[],
            subject: true,
        },
    ],
    stored: |store| {
        store.put(Key::Referrer(HERE, 28), Body::Referrer(OTHER));
        store_old(store, OTHER);
        store_old(store, IMAGE);
        store.put(Key::Tag(HERE), tagged(IMAGE));
    },
    leftovers: false,
    sights: &[Sight::Created, Sight::Refused],
    ..UNTAGGED
};

/// Retention removes a tag, and then the manifest that it names, while that is pushed again by the
/// same tag.
pub static OLD_TAG: Scenario = Scenario {
    name: "old tag",
    tasks: Tasks::TAG_RETENTION,
    sweepers: 1,
    stored: |store| {
        store.put(Key::Tag(HERE), tagged(IMAGE));
        store_old(store, IMAGE);
    },
    sights: &[
        Sight::Created,
        Sight::Refused,
        Sight::Untagged,
        Sight::Buried,
    ],
    ..UNTAGGED
};

/// An upstream that has the blob.
const HONEST: Remote = Remote {
    upstream: 0,
    head: true,
    bytes: Some(0),
};

/// An upstream that says it has the blob, and sends other bytes.
const LYING: Remote = Remote {
    upstream: 0,
    head: true,
    bytes: Some(1),
};

/// The first repository is mirrored.
const MIRRORING: Scenario = Scenario {
    tasks: Tasks::BLOBS.and(Tasks::LINKS),
    links: true,
    rights: true,
    mirrored: 1,
    remotes: &[HONEST],
    ..NOTHING
};

fn store_grant(store: &mut Store, repository: Repository, id: u8, reason: Reason) {
    let key = Key::Grant {
        blob: LAYER,
        repository,
        id,
    };
    store.put(key, Body::Reason(reason));
}

/// A blob that was pushed to another repository, which is private.
fn store_private(store: &mut Store) {
    store_blob(store);
    store_grant(store, THERE, 28, Reason::Manifest(IMAGE));
    store.put(Key::Manifest(THERE, IMAGE), Body::Empty);
}

/// Ages all stored objects.
fn age(store: &mut Store) {
    for _ in 0..NOTHING.grace {
        store.tick(NOTHING.grace, Aging::default());
    }
}

/// A blob is pulled through a mirror, whose manifest is stored. No link is written: it is a hint,
/// and its write may fail.
pub static MIRRORED: Scenario = Scenario {
    name: "mirrored",
    clients: &[&[PULL], &[PULL]],
    sweepers: 2,
    tasks: Tasks::BLOBS,
    stored: |store| {
        store_grant(store, HERE, 28, Reason::Mirrored(IMAGE));
        store.put(Key::Manifest(HERE, IMAGE), Body::Upstream);
        age(store);
    },
    links: false,
    fills_stay: true,
    leftovers: true,
    sights: &[Sight::Pulled],
    ..MIRRORING
};

/// A blob without grants is swept while it is pulled through a mirror, and so is its manifest.
pub static PULLED: Scenario = Scenario {
    name: "pulled",
    clients: &[&[PULL], &[MIRROR, PULL]],
    stored: store_blob,
    leftovers: true,
    sights: &[
        Sight::Pulled,
        Sight::Unpulled,
        Sight::Deleted,
        Sight::Lifted,
        Sight::Lapsed,
    ],
    ..MIRRORING
};

/// A manifest of an upstream names a private blob, which the upstream claims to have. The upstream
/// is removed and added again.
pub static ATTACK: Scenario = Scenario {
    name: "attack",
    clients: &[
        &[MIRROR, PULL],
        &[MOUNT_FROM_HERE],
        &[UNMIRROR, PUT, MIRROR_AGAIN],
    ],
    remotes: &[LYING],
    stored: store_private,
    hashed: &[(THERE, LAYER)],
    sights: &[Sight::Unpulled],
    ..MIRRORING
};

/// An older version has written grants and a link to a private blob in a mirrored repository.
pub static OLD_FORMS: Scenario = Scenario {
    name: "old forms",
    clients: &[&[PULL], &[MOUNT_FROM_HERE], &[MIRROR, PULL]],
    remotes: &[LYING],
    stored: |store| {
        store_private(store);
        store_grant(store, HERE, 28, Reason::Upload);
        store_grant(store, HERE, 29, Reason::Claim);
        store_grant(store, HERE, 30, Reason::Manifest(IMAGE));
        store.put(Key::Manifest(HERE, IMAGE), Body::Empty);
        store.put(Key::Link(LAYER, HERE), Body::Record(Record::Bytes));
    },
    hashed: &[(THERE, LAYER)],
    old_forms: true,
    sights: &[Sight::Unpulled],
    ..MIRRORING
};

/// A blob was pushed before its repository was mirrored. It is pulled through the mirror, which is
/// removed and added again.
pub static PUSHED_BEFORE: Scenario = Scenario {
    name: "pushed before",
    clients: &[&[MIRROR, PULL], &[UNMIRROR, PULL, MIRROR_AGAIN]],
    stored: |store| {
        store_manifest(store);
        age(store);
        store.put(
            Key::Link(LAYER, HERE),
            Body::Link(Record::Bytes, Right::Pushed),
        );
    },
    hashed: &[(HERE, LAYER)],
    pushed: 1,
    sights: &[Sight::Pulled],
    ..MIRRORING
};

/// An upstream is removed, while isolates that do not know of it yet pull the image; the image is
/// pushed, and the upstream is added again.
pub static REMOVED: Scenario = Scenario {
    name: "removed",
    clients: &[&[MIRROR, PULL], &[UNMIRROR, PUSH, PUT, MIRROR_AGAIN]],
    leftovers: true,
    sights: &[
        Sight::Pulled,
        Sight::Unpulled,
        Sight::Deleted,
        Sight::Lifted,
        Sight::Lapsed,
    ],
    ..MIRRORING
};

/// A large blob is filled, and pulled, while its manifest is.
pub static FILLED_BY_EXTENTS: Scenario = Scenario {
    name: "fill, mirrored",
    clients: &[&[FILL], &[MIRROR, PULL]],
    tasks: BLOBS_AND_SESSIONS.and(Tasks::LINKS),
    sights: &[
        Sight::Pulled,
        Sight::Unpulled,
        Sight::Deleted,
        Sight::Dead,
        Sight::Done,
        Sight::Lapsed,
    ],
    ..MIRRORING
};

/// A client without the bytes announces a blob, while another pushes it and a third mounts it.
pub static GUESS: Scenario = Scenario {
    name: "guess",
    clients: &[&[GUESS_HERE], &[PUSH_THERE], &[MOUNT_FROM_HERE]],
    mirrored: 0,
    sights: &[],
    ..MIRRORING
};

/// The grant of an upstream's manifest is missing and is repaired, while the upstream is removed
/// and added again.
pub static REPAIRED: Scenario = Scenario {
    name: "repaired",
    clients: &[&[UNMIRROR, MIRROR_AGAIN], &[MIRROR_OTHER, PULL]],
    tasks: Tasks::REPAIR,
    manifests: TWO,
    remotes: &[LYING],
    stored: |store| {
        store_private(store);
        store.put(Key::Manifest(HERE, OTHER), Body::Upstream);
    },
    hashed: &[(THERE, LAYER)],
    sights: &[Sight::Repaired, Sight::Unpulled],
    ..MIRRORING
};

/// A blob of one mirrored repository is pulled in three others: of the same upstream, of another
/// upstream, and of the same upstream, which does not have the blob there.
pub static REUSE: Scenario = Scenario {
    name: "reuse",
    clients: &[&[PULL], &[pull(ELSEWHERE)], &[pull(FOURTH)]],
    mirrored: 15,
    remotes: &[
        Remote {
            bytes: None,
            ..HONEST
        },
        HONEST,
        Remote {
            upstream: 1,
            ..LYING
        },
        Remote {
            upstream: 0,
            head: false,
            bytes: None,
        },
    ],
    stored: |store| {
        store_blob(store);
        store_grant(store, THERE, 28, Reason::Filled);
    },
    hashed: &[(THERE, LAYER)],
    sights: &[
        Sight::Pulled,
        Sight::Unpulled,
        Sight::Reused,
        Sight::Deleted,
        Sight::Lapsed,
    ],
    ..MIRRORING
};

const JOINING: Tasks = Tasks::SESSIONS.and(Tasks::JOIN);

/// A blob in two extents is joined while it is pulled, by a link and without one.
pub static JOIN_AND_PULLS: Scenario = Scenario {
    name: "join and pulls",
    clients: &[&[READ], &[READ]],
    sweepers: 2,
    tasks: JOINING,
    stored: |store| {
        store_manifest(store);
        store_done_of_two(store, FIRST);
        store_link(store);
    },
    links: true,
    leftovers: true,
    sights: &[Sight::Joined, Sight::Outlived, Sight::Read, Sight::Swept],
    ..NOTHING
};

/// As [`CLOSING`], while the blob is joined.
pub static JOIN_AND_CLOSING: Scenario = Scenario {
    name: "join and closing",
    clients: &[&[CLOSE, PUT], &[CLOSE]],
    tasks: JOINING,
    sights: &[
        Sight::Created,
        Sight::Again,
        Sight::Dead,
        Sight::Done,
        Sight::Swept,
        Sight::Joined,
        Sight::Outlived,
    ],
    ..CLOSING
};

/// As [`TWO_UPLOADS`], while the blob is joined.
pub static JOIN_AND_UPLOADS: Scenario = Scenario {
    name: "join and two uploads",
    tasks: JOINING,
    sights: &[
        Sight::Created,
        Sight::Dead,
        Sight::Done,
        Sight::Deduplicated,
        Sight::Joined,
    ],
    ..TWO_UPLOADS
};

/// A manifest is deleted and pushed again, and so is its blob elsewhere, while the blob is joined.
pub static JOIN_AND_DELETE: Scenario = Scenario {
    name: "join and delete",
    clients: &[&[DELETE, PUT]],
    sweepers: 2,
    tasks: BLOBS_AND_SESSIONS.and(Tasks::JOIN),
    stored: |store| {
        store_manifest(store);
        store_done(store, FIRST);
    },
    leftovers: true,
    sights: &[
        Sight::Created,
        Sight::Refused,
        Sight::Deleted,
        Sight::Lifted,
        Sight::Joined,
        Sight::Outlived,
    ],
    ..NOTHING
};

/// As [`TAKEOVER_OF_EXTENTS`], while the blob is joined.
pub static JOIN_AND_TAKEOVER: Scenario = Scenario {
    name: "join and takeover",
    tasks: Tasks::BLOBS.and(Tasks::JOIN),
    sights: &[
        Sight::Created,
        Sight::Refused,
        Sight::Deleted,
        Sight::Lifted,
        Sight::Takeover,
        Sight::Joined,
    ],
    ..TAKEOVER_OF_EXTENTS
};

/// As [`FILLED`], while the blob is joined.
pub static JOIN_AND_FILL: Scenario = Scenario {
    name: "join and fill",
    tasks: JOINING,
    sights: &[
        Sight::Created,
        Sight::Dead,
        Sight::Done,
        Sight::Swept,
        Sight::Deduplicated,
        Sight::Joined,
        Sight::Outlived,
    ],
    ..FILLED
};

/// As [`SCRUB_OF_EXTENTS`], while the blob is joined.
pub static JOIN_AND_SCRUB: Scenario = Scenario {
    name: "join and scrub",
    tasks: Tasks::SCRUB.and(Tasks::JOIN),
    sights: &[Sight::Aside, Sight::Healed, Sight::Joined],
    ..SCRUB_OF_EXTENTS
};

/// As [`JOIN_AND_CLOSING`], with sweepers that sweep everything, while another client deletes the
/// blob.
pub static JOIN_AND_ALL: Scenario = Scenario {
    name: "join and all",
    clients: &[&[CLOSE], &[CLOSE, PUT], &[DELETE_BLOB]],
    tasks: BLOBS_AND_SESSIONS.and(Tasks::JOIN),
    leftovers: false,
    ..JOIN_AND_CLOSING
};

/// As [`JOIN_AND_PULLS`], with a finer clock.
pub static JOIN_AND_PULLS_FINER: Scenario = Scenario {
    name: "join and pulls, finer clock",
    grace: 4,
    leftovers: false,
    ..JOIN_AND_PULLS
};

/// As [`CLOSING`], while another client deletes the blob and both push the manifest.
pub static CLOSING_AND_ALL: Scenario = Scenario {
    name: "closing and all",
    clients: &[&[CLOSE, PUT], &[CLOSE, PUT], &[DELETE_BLOB]],
    ..CLOSING
};

/// As [`CLOSING`], with two sweepers that sweep everything.
pub static CLOSING_AND_TWO_SWEEPERS: Scenario = Scenario {
    name: "closing and two sweepers",
    sweepers: 2,
    leftovers: false,
    sights: &[
        Sight::Created,
        Sight::Again,
        Sight::Deleted,
        Sight::Swept,
        Sight::Takeover,
    ],
    ..CLOSING
};

/// Two chunks for one offset, closing twice, cancelling.
pub static CHUNKS_AND_ALL: Scenario = Scenario {
    name: "chunks and all",
    clients: &[
        &[PATCH, CLOSE, PUT],
        &[PATCH_WRONG, CLOSE],
        &[CANCEL_UPLOAD],
    ],
    leftovers: false,
    ..CHUNKS
};

/// As [`WHOLE`], with a finer clock.
pub static WHOLE_FINER: Scenario = Scenario {
    name: "whole, finer clock",
    grace: 4,
    leftovers: false,
    ..WHOLE
};

/// As [`AGAIN`], with a finer clock.
pub static AGAIN_FINER: Scenario = Scenario {
    name: "again, finer clock",
    grace: 3,
    ..AGAIN
};

/// As [`UNTAGGED`], with a finer clock.
pub static UNTAGGED_FINER: Scenario = Scenario {
    name: "untagged, finer clock",
    grace: 4,
    leftovers: false,
    ..UNTAGGED
};

/// As [`UNTAGGED`], of a manifest with a blob, which is swept as well.
pub static UNTAGGED_BLOB: Scenario = Scenario {
    name: "untagged, with a blob",
    clients: &[&[PUSH, PUT_BY_TAG]],
    tasks: BLOBS_AND_RETENTION,
    manifests: ONE,
    stored: |store| {
        store_manifest(store);
        store_old(store, IMAGE);
    },
    sights: &[
        Sight::Created,
        Sight::Refused,
        Sight::Deleted,
        Sight::Lifted,
        Sight::Untagged,
    ],
    ..UNTAGGED
};

/// As [`UNTAGGED_INDEX`], with two sweepers.
pub static UNTAGGED_INDEX_TWICE: Scenario = Scenario {
    name: "untagged, in an index, twice",
    sweepers: 2,
    leftovers: false,
    sights: &[
        Sight::Created,
        Sight::Refused,
        Sight::Untagged,
        Sight::Reclaimed,
    ],
    ..UNTAGGED_INDEX
};

/// As [`UNTAGGED_INDEXES`], with two sweepers.
pub static UNTAGGED_INDEXES_TWICE: Scenario = Scenario {
    name: "untagged, in an index of indexes, twice",
    sweepers: 2,
    claims: 2,
    leftovers: false,
    ..UNTAGGED_INDEXES
};

/// As [`OLD_TAG`], with two sweepers and two clients that push.
pub static OLD_TAG_AND_ALL: Scenario = Scenario {
    name: "old tag, and all",
    clients: &[&[PUT_BY_TAG], &[PUT_BY_TAG]],
    sweepers: 2,
    ..OLD_TAG
};

/// As [`CLOSING`], with a finer clock.
pub static CLOSING_FINER: Scenario = Scenario {
    name: "closing, finer clock",
    grace: 4,
    leftovers: false,
    ..CLOSING
};

/// As [`ATTACK`], with two sweepers, while the private image is deleted.
pub static ATTACK_AND_ALL: Scenario = Scenario {
    name: "attack, and all",
    clients: &[
        &[MIRROR, PULL],
        &[MOUNT_FROM_HERE],
        &[UNMIRROR, PUT, MIRROR_AGAIN],
        &[DELETE_THERE],
    ],
    sweepers: 2,
    sights: &[Sight::Unpulled, Sight::Deleted],
    ..ATTACK
};

/// As [`OLD_FORMS`], with two sweepers.
pub static OLD_FORMS_TWICE: Scenario = Scenario {
    name: "old forms, twice",
    sweepers: 2,
    ..OLD_FORMS
};

/// As [`PULLED`], with two sweepers.
pub static PULLED_TWICE: Scenario = Scenario {
    name: "pulled, twice",
    sweepers: 2,
    leftovers: false,
    ..PULLED
};

/// As [`PULLED`], with a finer clock.
pub static PULLED_FINER: Scenario = Scenario {
    name: "pulled, finer clock",
    grace: 4,
    leftovers: false,
    ..PULLED
};

/// As [`PUSHED_BEFORE`], with two sweepers, and the manifest pushed again.
pub static PUSHED_BEFORE_AND_ALL: Scenario = Scenario {
    name: "pushed before, and all",
    clients: &[
        &[MIRROR, PULL],
        &[UNMIRROR, DELETE, PUSH, PUT],
        &[MIRROR_AGAIN, PULL],
    ],
    sweepers: 2,
    ..PUSHED_BEFORE
};

/// As [`REMOVED`], with two sweepers.
pub static REMOVED_TWICE: Scenario = Scenario {
    name: "removed, twice",
    sweepers: 2,
    leftovers: false,
    ..REMOVED
};

/// As [`REUSE`], with two sweepers.
pub static REUSE_TWICE: Scenario = Scenario {
    name: "reuse, twice",
    sweepers: 2,
    ..REUSE
};

/// As [`FILLED_BY_EXTENTS`], with two sweepers.
pub static FILLED_BY_EXTENTS_TWICE: Scenario = Scenario {
    name: "fill, mirrored, twice",
    sweepers: 2,
    ..FILLED_BY_EXTENTS
};

/// The scenarios that are searched in tests.
pub static SMALL: &[&Scenario] = &[
    &WHOLE,
    &AGAIN,
    &PUSHED_AGAIN,
    &TAKEOVER,
    &TAKEOVER_OF_EXTENTS,
    &CLOSING,
    &CLOSING_AND_DELETE,
    &OWNER_SWEEPS_SESSION,
    &CLOSING_OF_TWO,
    &STALE_HINT,
    &SESSIONS,
    &CHUNKS,
    &SECOND_CHUNK,
    &CANCEL,
    &THROUGH_SESSION,
    &TWO_UPLOADS,
    &MOUNT,
    &LINK,
    &TAG,
    &TAG_AND_DELETE,
    &INDEX_AND_DELETE,
    &REFERRER,
    &TWO_BLOBS,
    &INDEX,
    &FILLED,
    &SCRUB,
    &SCRUB_OF_EXTENTS,
    &UNTAGGED,
    &UNTAGGED_INDEX,
    &UNTAGGED_INDEXES,
    &UNTAGGED_REFERRER,
    &OLD_TAG,
    &MIRRORED,
    &PULLED,
    &ATTACK,
    &OLD_FORMS,
    &PUSHED_BEFORE,
    &GUESS,
    &REPAIRED,
    &REUSE,
    &REMOVED,
    &FILLED_BY_EXTENTS,
    &JOIN_AND_PULLS,
    &JOIN_AND_CLOSING,
    &JOIN_AND_UPLOADS,
    &JOIN_AND_DELETE,
    &JOIN_AND_TAKEOVER,
    &JOIN_AND_FILL,
    &JOIN_AND_SCRUB,
];

/// The scenarios that take longer.
pub static LARGE: &[&Scenario] = &[
    &WHOLE_FINER,
    &AGAIN_FINER,
    &CLOSING_FINER,
    &CLOSING_AND_ALL,
    &CLOSING_AND_TWO_SWEEPERS,
    &CHUNKS_AND_ALL,
    &TWO_BLOBS_TWICE,
    &UNTAGGED_FINER,
    &UNTAGGED_BLOB,
    &UNTAGGED_INDEX_TWICE,
    &UNTAGGED_INDEXES_TWICE,
    &OLD_TAG_AND_ALL,
    &ATTACK_AND_ALL,
    &OLD_FORMS_TWICE,
    &PULLED_TWICE,
    &PULLED_FINER,
    &PUSHED_BEFORE_AND_ALL,
    &REMOVED_TWICE,
    &REUSE_TWICE,
    &FILLED_BY_EXTENTS_TWICE,
    &JOIN_AND_ALL,
    &JOIN_AND_PULLS_FINER,
];
