//! The store: the promises of R2, and the keys that matter here.
//!
//! Reads, lists and deletes see every write that returned. A write can be conditional: only if the
//! key is absent, or only if its etag is the one that was seen (compare-and-swap). A delete has no
//! condition. The etag of an object is that of its body, so equal bodies have equal etags.
//!
//! Times are ages: the ticks that have passed since an object was written, by the store's clock, up
//! to the grace period.

/// A blob.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Blob(pub u8);

/// A repository.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Repository(pub u8);

/// A manifest.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Manifest(pub u8);

/// The identifier of an upload.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Session(pub u8);

/// The key of an extent: `extents/<session>/<step>-<nonce>`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Extent {
    /// The upload that received it.
    pub session: Session,
    /// The step that was to add it.
    pub step: u8,
    /// The nonce of the `PATCH` that wrote it.
    pub nonce: u8,
}

/// The extents of an upload, in order.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Extents(pub [Option<Extent>; 2]);

impl Extents {
    /// Adds one at the end.
    pub fn push(&mut self, extent: Extent) {
        if let Some(free) = self.0.iter_mut().find(|slot| slot.is_none()) {
            *free = Some(extent);
        }
    }

    /// The one that comes after `number` others.
    pub fn get(&self, number: u8) -> Option<Extent> {
        self.0.get(usize::from(number)).copied().flatten()
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = Extent> {
        self.0.into_iter().flatten()
    }
}

/// Where the bytes of a blob are.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Record {
    /// At the blob's own key.
    Bytes,
    /// In extents.
    Extents(Extents),
}

impl Record {
    /// Whether it names an extent of this upload.
    pub fn names(self, session: Session) -> bool {
        match self {
            Self::Bytes => false,
            Self::Extents(extents) => extents.iter().any(|extent| extent.session == session),
        }
    }
}

/// Why a repository holds a blob.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Reason {
    /// An upload or a mount; expires.
    Upload,
    /// An upload whose bytes are still on their way; expires.
    Claim,
    /// A manifest that was pushed; counts while that is stored.
    Manifest(Manifest),
    /// A fill whose bytes were hashed; expires, unless a manifest names the blob.
    Filled,
    /// A manifest that came from an upstream; counts while that is stored.
    Mirrored(Manifest),
}

impl Reason {
    /// The manifest that names the blob.
    pub const fn manifest(self) -> Option<Manifest> {
        match self {
            Self::Manifest(manifest) | Self::Mirrored(manifest) => Some(manifest),
            Self::Upload | Self::Claim | Self::Filled => None,
        }
    }
}

/// The right that a link was written for.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Right {
    /// By a push or a mount.
    Pushed,
    /// By a fill.
    Filled,
}

/// The decision of a sweeper on a blob.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum MarkState {
    /// No grant was seen.
    Condemned,
    /// It is being deleted.
    Deleting,
    /// A grant was written after it had been condemned.
    Lifted,
}

/// The mark of a blob.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Mark {
    /// The decision.
    pub state: MarkState,
    /// Time and nonce, which make its etag differ from that of every earlier mark. `None` if the
    /// mark is an empty body with metadata: that has the etag of every empty body.
    pub nonce: Option<u8>,
}

/// One step of an upload.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Step {
    /// The upload began.
    Start,
    /// A body was received.
    Received {
        /// Where it is.
        extent: Extent,
        /// The content of its bytes, in place of their digest.
        bytes: u8,
        /// Whether no bytes came before it.
        first: bool,
    },
    /// One closer is about to name the extents in a record.
    Closing,
    /// The record names the extents.
    Done,
    /// Cancelled, swept, or another's record came first.
    Dead,
}

impl Step {
    /// Whether more can be received, or the upload closed.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Start | Self::Received { .. })
    }
}

/// A key.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Key {
    /// `blobs/<blob>`
    Blob(Blob),
    /// `extents/<session>/<step>-<nonce>`
    Extent(Extent),
    /// `refs/<blob>/<repository>/_grants/<id>`
    Grant {
        /// The blob.
        blob: Blob,
        /// The repository that holds it.
        repository: Repository,
        /// The unique id.
        id: u8,
    },
    /// `refs/<blob>/<repository>/_link`
    Link(Blob, Repository),
    /// `repositories/<repository>/_manifests/<manifest>`
    Manifest(Repository, Manifest),
    /// `repositories/<repository>/_tags/<tag>`; there is one tag
    Tag(Repository),
    /// `repositories/<repository>/_referrers/<subject>/<id>`; there is one subject
    Referrer(Repository, u8),
    /// `uploads/<repository>/_<session>/<number>`
    Step(Session, u8),
    /// `sweep/marks/<blob>`
    Mark(Blob),
    /// `sweep/claims/<repository>/<manifest>`
    Claim(Repository, Manifest),
}

/// The body of an object, or its metadata if that says all.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Body {
    /// No body that matters.
    Empty,
    /// Some bytes. A blob's right bytes are `0`.
    Bytes(u8),
    /// Where a blob's bytes are: of a blob in extents, and of a link that an older version wrote.
    Record(Record),
    /// Of a link: where the blob's bytes are, and the right.
    Link(Record, Right),
    /// Of a manifest that came from an upstream.
    Upstream,
    /// Of a grant.
    Reason(Reason),
    /// Of a mark.
    Mark(Mark),
    /// Of an upload.
    Step(Step),
    /// The target of a tag.
    Target {
        /// The manifest.
        manifest: Manifest,
        /// The nonce of the push that wrote it.
        nonce: u8,
    },
    /// The tag no longer names this manifest.
    Tombstone(Manifest),
    /// The manifest that has the subject.
    Referrer(Manifest),
    /// Of a claim: a nonce. `None` if the claim has no bytes.
    Claim(Option<u8>),
    /// A note in place of a blob whose bytes were damaged.
    Aside,
}

impl Body {
    /// The value that compare-and-swap compares.
    const fn etag(self) -> Self {
        match self {
            Self::Mark(Mark { nonce: None, .. }) | Self::Claim(None) => Self::Empty,
            Self::Empty
            | Self::Bytes(_)
            | Self::Record(_)
            | Self::Link(..)
            | Self::Upstream
            | Self::Reason(_)
            | Self::Mark(_)
            | Self::Step(_)
            | Self::Target { .. }
            | Self::Tombstone(_)
            | Self::Referrer(_)
            | Self::Claim(_)
            | Self::Aside => self,
        }
    }
}

/// An object.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Object {
    /// Its body.
    pub body: Body,
    /// How many ticks ago it was written; zero if nothing depends on it.
    pub age: u8,
}

/// All objects, in the order of their keys.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Store(Vec<(Key, Object)>);

impl Store {
    /// Reads an object.
    pub fn get(&self, key: Key) -> Option<Object> {
        let place = self.place(key).ok()?;
        self.0.get(place).map(|(_, object)| *object)
    }

    /// Whether an object is there.
    pub fn has(&self, key: Key) -> bool {
        self.place(key).is_ok()
    }

    /// Writes an object, even if there is one.
    pub fn put(&mut self, key: Key, body: Body) {
        let object = Object { body, age: 0 };
        match self.place(key) {
            Ok(place) => {
                if let Some((_, there)) = self.0.get_mut(place) {
                    *there = object;
                }
            }
            Err(place) => self.0.insert(place, (key, object)),
        }
        if let Key::Step(session, number) = key {
            // Only the age of a chain's last step matters.
            for (key, object) in &mut self.0 {
                if matches!(key, Key::Step(other, earlier) if *other == session && *earlier < number)
                {
                    object.age = 0;
                }
            }
        }
    }

    /// Writes an object only if none is there, and returns whether it was written.
    pub fn create(&mut self, key: Key, body: Body) -> bool {
        let absent = !self.has(key);
        if absent {
            self.put(key, body);
        }
        absent
    }

    /// Writes an object only if the stored one has the etag of `seen`, and returns whether it was
    /// written.
    pub fn swap(&mut self, key: Key, seen: Body, body: Body) -> bool {
        let unchanged = self
            .get(key)
            .is_some_and(|object| object.body.etag() == seen.etag());
        if unchanged {
            self.put(key, body);
        }
        unchanged
    }

    /// Deletes an object, without a condition.
    pub fn delete(&mut self, key: Key) {
        if let Ok(place) = self.place(key) {
            self.0.remove(place);
        }
    }

    /// Lists all objects: one read. The caller filters by its prefix.
    pub fn list(&self) -> impl Iterator<Item = (Key, Object)> {
        self.0.iter().copied()
    }

    /// Lists the grants on a blob.
    pub fn grants(&self, blob: Blob) -> impl Iterator<Item = (Key, Repository, Reason)> {
        self.list()
            .filter_map(move |(key, object)| match (key, object.body) {
                (
                    Key::Grant {
                        blob: of,
                        repository,
                        ..
                    },
                    Body::Reason(reason),
                ) if of == blob => Some((key, repository, reason)),
                _ => None,
            })
    }

    /// Lists the extents of an upload, even those that no step names.
    pub fn extents(&self, session: Session) -> Extents {
        let mut extents = Extents::default();
        for (key, _) in self.list() {
            if let Key::Extent(extent) = key
                && extent.session == session
            {
                extents.push(extent);
            }
        }
        extents
    }

    /// Lists the steps of an upload.
    pub fn chain(&self, session: Session) -> Chain {
        let mut chain = Chain::default();
        for (key, object) in self.list() {
            if let (Key::Step(of, number), Body::Step(step)) = (key, object.body)
                && of == session
            {
                chain.last = Some((number, step, object.age));
                chain.numbers |= 1 << number;
                if let Step::Received { extent, .. } = step {
                    chain.extents.push(extent);
                }
            }
        }
        chain
    }

    /// Reads from the blob itself where its bytes are. A blob that was quarantined is absent.
    pub fn record(&self, blob: Blob) -> Option<Record> {
        match self.get(Key::Blob(blob))?.body {
            Body::Aside => None,
            Body::Record(record) => Some(record),
            _ => Some(Record::Bytes),
        }
    }

    /// Creates a blob if it is absent: if its key is absent, or by swap of the note that it was set
    /// aside.
    pub fn create_blob(&mut self, blob: Blob, body: Body) -> bool {
        let key = Key::Blob(blob);
        self.create(key, body) || self.swap(key, Body::Aside, body)
    }

    /// Whether a blob is there, with the right bytes.
    pub fn is_right(&self, blob: Blob) -> bool {
        let is_right = |key| self.get(key).map(|object| object.body) == Some(Body::Bytes(0));
        match self.record(blob) {
            None => false,
            Some(Record::Bytes) => is_right(Key::Blob(blob)),
            Some(Record::Extents(extents)) => {
                extents.iter().all(|extent| is_right(Key::Extent(extent)))
            }
        }
    }

    /// The mark of a blob, and its age.
    pub fn mark(&self, blob: Blob) -> Option<(Mark, u8)> {
        self.get(Key::Mark(blob))
            .and_then(|object| match object.body {
                Body::Mark(mark) => Some((mark, object.age)),
                _ => None,
            })
    }

    /// Lets a tick pass. Only some scenarios need the ages of manifests, tags and blobs.
    pub fn tick(&mut self, grace: u8, aging: Aging) {
        let mut last: Option<Session> = None;
        for (key, object) in self.0.iter_mut().rev() {
            let ages = match key {
                Key::Grant { .. } | Key::Extent(_) | Key::Referrer(..) | Key::Claim(..) => true,
                Key::Manifest(..) => aging.manifests,
                Key::Tag(_) => aging.tags,
                Key::Blob(_) => aging.blobs && matches!(object.body, Body::Bytes(_)),
                Key::Step(session, _) => {
                    let is_last = last != Some(*session);
                    last = Some(*session);
                    is_last
                }
                Key::Mark(_) => !matches!(
                    object.body,
                    Body::Mark(Mark {
                        state: MarkState::Lifted,
                        ..
                    })
                ),
                Key::Link(..) => false,
            };
            if ages {
                object.age = (object.age + 1).min(grace);
            }
        }
    }

    fn place(&self, key: Key) -> Result<usize, usize> {
        self.0.binary_search_by_key(&key, |(key, _)| *key)
    }
}

/// The kinds of objects whose ages count in a scenario only.
#[derive(Clone, Copy, Debug, Default)]
pub struct Aging {
    /// Manifests: retention removes those that nothing names.
    pub manifests: bool,
    /// Tags: retention removes old ones.
    pub tags: bool,
    /// Blobs that are bytes: the extents of a joined blob stay for the grace period.
    pub blobs: bool,
}

/// The steps of an upload as one listing finds them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chain {
    /// The last step: its number, the step, its age.
    pub last: Option<(u8, Step, u8)>,
    /// The extents that were received.
    pub extents: Extents,
    /// Which steps are there, as bits.
    pub numbers: u8,
}
