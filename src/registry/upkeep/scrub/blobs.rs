//! Scrubbing blobs: their bytes, and what is derived of them.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::{
    digest::Digest,
    host::Host as _,
    name::Name,
    platform::Platform,
    range::ByteRange,
    registry::{
        blob::locate,
        upkeep::{
            listing::Listing,
            scrub::{
                LARGE, SMALL, Scrub,
                cursor::{AmongBlobs, Cursor, Edges, Place},
                report::{Finding, Found, Repair},
            },
            step::{Halt, What},
        },
    },
    store::{
        Condition, Content, Meta, PutOptions, StoreError, Streams as _,
        document::{BlobKind, Linked, Reason, Record, to_json},
        key::{Key, Prefix},
        tiers::Wanted,
    },
    time::Timestamp,
    upload::{Extent, UploadId},
};

/// What is known of a blob.
enum State {
    /// It is there, and what it should be.
    Sound(Record),
    /// It is there, and no more is known.
    Unknown,
    /// It is not there.
    Absent,
}

/// What came of reading a blob.
enum Verdict {
    Sound,
    /// It is not what it should be.
    Wrong(String),
    /// It was not read to its end, and that may be the way to the store.
    Failed(StoreError),
    /// It is no longer what it was when this began.
    Changed,
}

/// A note in the place of a blob that was set aside. The nonce makes every note's etag another.
#[derive(Serialize)]
struct Note<'a> {
    why: &'a str,
    time: Timestamp,
    nonce: String,
}

/// What a record may have at most.
const MAX_RECORD: u64 = 4 * 1024 * 1024;

/// The most links that are asked where the bytes are.
const MAX_LINKS: usize = 3;

/// What is looked at beside the objects of a blob, at most.
const BESIDE: u32 = 8;

impl<P: Platform> Scrub<'_, P> {
    /// Goes through all blobs, from where the cursor is.
    pub(super) async fn scrub_blobs(
        &self,
        cursor: &mut Cursor,
        etag: &mut Option<String>,
    ) -> Result<(), Halt> {
        let Place::Blobs(place) = &cursor.place else {
            return Ok(());
        };
        let mut place = place.clone();
        let after = place.after.as_ref();
        let past = after.map(|digest| Prefix::Holders(digest).end());
        let reference = place.reference.as_ref().map(Key::to_string);
        let mut listings = Listings {
            references: Listing::new(Prefix::References, reference.max(past), true),
            blobs: Listing::new(
                Prefix::Blobs,
                after.map(|digest| Key::blob(digest).to_string()),
                true,
            ),
            derived: Listing::new(
                Prefix::Layers,
                after.map(|digest| Prefix::Layer(digest).end()),
                false,
            ),
        };
        loop {
            let Some(digest) = self.next_blob(&mut listings).await? else {
                return Ok(());
            };
            if part(&digest) > self.due || self.is_late() {
                return Err(Halt::Spent);
            }
            let blob = listings
                .blobs
                .take(&self.work, &digest, Key::digest)
                .await?
                .map(|(_, meta)| meta);
            if let Some(meta) = &blob
                && self.is_announced(&digest, meta)
                && place.reference.is_none()
            {
                // Should it take longer than the platform allows, the next step knows.
                let mut before = cursor.clone();
                before.trying = Some(Key::blob(&digest));
                before.totals.add(&self.report.borrow().totals);
                self.work.spend(1)?;
                self.work
                    .upkeep
                    .store_cursor(&Key::ScrubCursor, &before, etag)
                    .await?;
            }
            let was_tried = self.begin(&Key::blob(&digest));
            let scrubbed = self
                .scrub_blob(&digest, blob, &mut listings, &mut place, &mut cursor.edges)
                .await;
            match scrubbed {
                Ok(()) => {}
                // What can't be looked at holds up nothing else.
                Err(halt) if was_tried => {
                    self.find(unread(&digest, halt.to_string()));
                    cursor.place = Place::Blobs(AmongBlobs {
                        after: Some(digest),
                        reference: None,
                    });
                    return Err(Halt::Spent);
                }
                Err(halt) => {
                    cursor.place = Place::Blobs(place);
                    return Err(halt);
                }
            }
            place = AmongBlobs {
                after: Some(digest),
                reference: None,
            };
            cursor.place = Place::Blobs(place.clone());
        }
    }

    /// Whether it is stored that a blob is being read, before it is.
    fn is_announced(&self, digest: &Digest, meta: &Meta) -> bool {
        let size = match serde_json::from_str(&meta.metadata) {
            Ok(BlobKind::Extents { size }) => size,
            Ok(BlobKind::Bytes | BlobKind::Aside) | Err(_) => meta.size,
        };
        let next = self.next.borrow();
        let least = if next.was_killed { SMALL } else { LARGE };
        size >= least && !self.work.is_dry && next.trying != Some(Key::blob(digest))
    }

    /// Looks at one blob, wherever the pass is. Whether there was anything to look at.
    pub(super) async fn scrub_only(&self, digest: &Digest) -> Result<bool, Halt> {
        // The text before the last character comes before every key that begins with the prefix.
        let before = |mut prefix: String| {
            prefix.pop();
            Some(prefix)
        };
        let mut listings = Listings {
            references: Listing::new(
                Prefix::References,
                before(Prefix::Holders(digest).to_string()),
                true,
            ),
            blobs: Listing::new(Prefix::Blobs, before(Key::blob(digest).to_string()), true),
            derived: Listing::new(
                Prefix::Layers,
                before(Prefix::Layer(digest).to_string()),
                false,
            ),
        };
        if self.next_blob(&mut listings).await?.as_ref() != Some(digest) {
            return Ok(false);
        }
        let blob = listings
            .blobs
            .take(&self.work, digest, Key::digest)
            .await?
            .map(|(_, meta)| meta);
        let (mut place, mut edges) = (AmongBlobs::default(), Edges::default());
        self.scrub_blob(digest, blob, &mut listings, &mut place, &mut edges)
            .await?;
        Ok(true)
    }

    async fn next_blob(&self, listings: &mut Listings) -> Result<Option<Digest>, Halt> {
        let work = &self.work;
        let next = [
            listings.references.peek_of(work, Key::digest).await?,
            listings.blobs.peek_of(work, Key::digest).await?,
            listings.derived.peek_of(work, Key::digest).await?,
        ];
        Ok(next.into_iter().flatten().min())
    }

    /// Looks at a blob, and at all that refers to it or is derived from it.
    async fn scrub_blob(
        &self,
        digest: &Digest,
        blob: Option<Meta>,
        listings: &mut Listings,
        place: &mut AmongBlobs,
        edges: &mut Edges,
    ) -> Result<(), Halt> {
        let state = match blob {
            None => State::Absent,
            // Its bytes were looked at by the step before.
            Some(_) if place.reference.is_some() => match self.work.read_record(digest).await? {
                Some(Some(record)) => State::Sound(record),
                Some(None) => State::Unknown,
                None => State::Absent,
            },
            Some(meta) => self.read_blob(digest, meta).await?,
        };
        self.scrub_references(digest, &state, listings, place, edges)
            .await?;
        let mut derived = Vec::new();
        while let Some(object) = listings
            .derived
            .take(&self.work, digest, Key::digest)
            .await?
        {
            derived.push(object);
        }
        if !derived.is_empty() {
            let size = match &state {
                State::Sound(record) => Some(record.size()),
                State::Unknown | State::Absent => None,
            };
            self.scrub_derived(digest, size, &derived).await?;
        }
        Ok(())
    }

    /// Reads a blob, and sets it aside if it is not what it should be.
    async fn read_blob(&self, digest: &Digest, meta: Meta) -> Result<State, Halt> {
        let key = Key::blob(digest);
        let was_tried = self.next.borrow().was_tried();
        let kind = serde_json::from_str(&meta.metadata);
        let record = match kind {
            Ok(BlobKind::Aside) => {
                self.checked(What::Blob, 0);
                return Ok(State::Absent);
            }
            Ok(BlobKind::Bytes) => Record::Bytes { size: meta.size },
            Ok(BlobKind::Extents { size }) => match self.named(&key, &meta, size).await? {
                None => return Ok(State::Unknown),
                Some(Ok(record)) => record,
                Some(Err(why)) => return self.mend(digest, &meta, Vec::new(), why).await,
            },
            Err(_) => {
                let whole = Record::Bytes { size: meta.size };
                let why = "its metadata can't be read".to_owned();
                return self.mend(digest, &meta, vec![whole], why).await;
            }
        };
        let objects = record.objects();
        let needed = objects.saturating_add(BESIDE);
        let unread = |why: String| {
            self.find(unread(digest, why));
            Ok(State::Unknown)
        };
        if needed > self.operations {
            return unread(format!(
                "it takes {needed} operations, the setting STRATA_SUBREQUESTS leaves a step {}",
                self.operations
            ));
        }
        if was_tried && self.next.borrow().was_killed {
            return unread("reading it takes longer than a step may".to_owned());
        }
        let verdict = self.look_twice(digest, &meta, &record, objects).await?;
        self.checked(What::Blob, record.size());
        match verdict {
            Verdict::Sound => Ok(State::Sound(record)),
            Verdict::Changed => Ok(State::Unknown),
            Verdict::Failed(error) if was_tried => unread(error.to_string()),
            Verdict::Failed(error) => Err(error.into()),
            Verdict::Wrong(why) => {
                let extents = match &record {
                    Record::Extents { extents, .. } => extents.as_slice(),
                    Record::Bytes { .. } => &[],
                };
                self.set_aside(digest, &meta, extents, why).await
            }
        }
    }

    /// What a record names; or what is wrong with it, which was seen twice. `None` where it is another one by now.
    async fn named(
        &self,
        key: &Key,
        meta: &Meta,
        size: u64,
    ) -> Result<Option<Result<Record, String>>, Halt> {
        let mut why = String::new();
        for _ in 0..2 {
            let now = self.read_object(key, MAX_RECORD).await?;
            let Some((_, bytes)) = now.filter(|(now, _)| now.etag == meta.etag) else {
                return Ok(None);
            };
            let record: Option<Record> = bytes
                .as_deref()
                .and_then(|bytes| serde_json::from_slice(bytes).ok());
            why = match record {
                Some(Record::Extents {
                    size: total,
                    extents,
                }) if total == size
                    && extents.iter().map(|extent| extent.size).sum::<u64>() == size =>
                {
                    return Ok(Some(Ok(Record::Extents { size, extents })));
                }
                Some(Record::Extents { .. }) => {
                    "its extents have another size than it says".to_owned()
                }
                Some(Record::Bytes { .. }) | None => "its record can't be read".to_owned(),
            };
        }
        Ok(Some(Err(why)))
    }

    /// Reads a blob, and again what was read wrong: it may have been wrong on its way. Where this step can't, the next one does.
    async fn look_twice(
        &self,
        digest: &Digest,
        meta: &Meta,
        record: &Record,
        objects: u32,
    ) -> Result<Verdict, Halt> {
        let verdict = self.hash(digest, meta, record, objects).await?;
        // Where the record can't be read, another one is tried.
        let record_digest = digest.algorithm().digest(to_json(record).as_bytes());
        let doubt = Some(format!("{digest} {} {record_digest}", meta.etag));
        if !matches!(verdict, Verdict::Wrong(_)) || self.next.borrow().doubted == doubt {
            return Ok(verdict);
        }
        if self.work.left() < objects.saturating_add(BESIDE) {
            self.next.borrow_mut().doubt = doubt;
            return Err(Halt::Spent);
        }
        self.hash(digest, meta, record, objects).await
    }

    /// Reads all bytes of a blob natively: none of them comes in here.
    async fn hash(
        &self,
        digest: &Digest,
        meta: &Meta,
        record: &Record,
        objects: u32,
    ) -> Result<Verdict, Halt> {
        let size = record.size();
        let all = ByteRange::new(0, size.saturating_sub(1)).filter(|_| size > 0);
        self.work.require(objects)?;
        self.work.spend(objects)?;
        let store = &self.work.upkeep.store;
        let body = store.concatenate(locate(record, digest, all), size);
        let hashed = store.hash(body, digest.algorithm()).await;
        match &hashed {
            Ok(received) if received.digest == *digest => return Ok(Verdict::Sound),
            Ok(_) | Err(_) => {}
        }
        if !self.is_still(&Key::blob(digest), meta).await? {
            return Ok(Verdict::Changed);
        }
        if let Record::Extents { extents, .. } = record
            && let Some(why) = self.examine(extents).await?
        {
            return Ok(Verdict::Wrong(why));
        }
        Ok(match hashed {
            Ok(received) => Verdict::Wrong(format!(
                "its {} bytes have the digest {}",
                received.size, received.digest
            )),
            Err(error) => Verdict::Failed(error),
        })
    }

    /// What the first extent lacks that is not as it was written.
    async fn examine(&self, extents: &[Extent]) -> Result<Option<String>, Halt> {
        let uploads = extents.iter().filter_map(|extent| extent.key.upload());
        let uploads: BTreeSet<UploadId> = uploads.collect();
        let mut sizes = BTreeMap::new();
        for id in uploads {
            let stored = self.work.list_below(Prefix::ExtentsOf(id)).await?;
            sizes.extend(stored.into_iter().map(|(key, meta)| (key, meta.size)));
        }
        let wrong = extents.iter().find_map(|extent| {
            let key = Key::extent(&extent.key);
            match sizes.get(&key) {
                None => Some(format!("{key} is not there")),
                Some(size) if *size != extent.size => {
                    Some(format!("{key} has {size} bytes of {}", extent.size))
                }
                Some(_) => None,
            }
        });
        Ok(wrong)
    }

    /// Sets a blob aside that was seen to be wrong twice.
    ///
    /// Its extents go first: links name them as well, and they have been wrong. Their keys are never written again. Then the note is written
    /// over what was read; who has stored the blob anew meanwhile has changed that, and keeps it.
    async fn set_aside(
        &self,
        digest: &Digest,
        meta: &Meta,
        extents: &[Extent],
        why: String,
    ) -> Result<State, Halt> {
        let key = Key::blob(digest);
        if !self.is_still(&key, meta).await? {
            return Ok(State::Unknown);
        }
        let calls = extents.len().div_ceil(1_000).saturating_add(1);
        self.work
            .require(u32::try_from(calls).unwrap_or(u32::MAX))?;
        self.find(Finding {
            found: Found::Corrupt,
            what: What::Blob,
            key: key.to_string(),
            why: why.clone(),
            repair: Some(Repair::Aside),
        });
        if self.work.is_dry {
            return Ok(State::Absent);
        }
        for extents in extents.chunks(1_000) {
            let keys: Vec<Key> = extents
                .iter()
                .map(|extent| Key::extent(&extent.key))
                .collect();
            self.work.delete(&keys).await?;
        }
        let upkeep = self.work.upkeep;
        let note = to_json(&Note {
            why: &why,
            time: upkeep.host.now(),
            nonce: upkeep.host.nonce(),
        });
        let metadata = to_json(&BlobKind::Aside);
        let is_aside = self
            .replace(&key, meta, note.into_bytes(), &metadata)
            .await?;
        upkeep.tiers.changed(Wanted::Blob(digest));
        Ok(if is_aside {
            State::Absent
        } else {
            State::Unknown
        })
    }

    /// Finds out where the bytes of a blob are whose object does not say so any more: what is left of its record may, and its links have
    /// copies of that. Where the bytes are nowhere, it is set aside.
    async fn mend(
        &self,
        digest: &Digest,
        meta: &Meta,
        mut records: Vec<Record>,
        why: String,
    ) -> Result<State, Halt> {
        let mut sources = vec![Key::blob(digest)];
        let held = self.work.list(Prefix::Holders(digest), None, false).await?;
        let held = held.objects.into_iter().map(|(key, _)| key);
        sources.extend(
            held.filter(|key| matches!(key, Key::Link { .. }))
                .take(MAX_LINKS),
        );
        for source in sources {
            if let Some((_, Some(bytes))) = self.read_object(&source, MAX_RECORD).await?
                && let Ok(Record::Extents { extents, .. }) = serde_json::from_slice(&bytes)
            {
                let size = extents.iter().map(|extent: &Extent| extent.size).sum();
                let record = Record::Extents { size, extents };
                if !records.contains(&record) {
                    records.push(record);
                }
            }
        }
        let mut wrong = Vec::new();
        for record in records {
            match self
                .look_twice(digest, meta, &record, record.objects())
                .await?
            {
                Verdict::Sound => return self.rewrite(digest, meta, record, why).await,
                Verdict::Changed => return Ok(State::Unknown),
                Verdict::Failed(error) => return Err(error.into()),
                Verdict::Wrong(_) => {
                    if let Record::Extents { extents, .. } = record {
                        wrong.extend(extents);
                    }
                }
            }
        }
        self.checked(What::Blob, 0);
        self.set_aside(digest, meta, &wrong, why).await
    }

    /// Writes anew what the object of a blob says, whose bytes are right.
    async fn rewrite(
        &self,
        digest: &Digest,
        meta: &Meta,
        record: Record,
        why: String,
    ) -> Result<State, Halt> {
        self.checked(What::Blob, record.size());
        self.work.require(2)?;
        let key = Key::blob(digest);
        self.find(Finding {
            found: Found::Corrupt,
            what: What::Blob,
            key: key.to_string(),
            why,
            repair: Some(Repair::Write),
        });
        if self.work.is_dry {
            return Ok(State::Sound(record));
        }
        self.work.spend(2)?;
        let store = &self.work.upkeep.store;
        let (content, kind) = match &record {
            Record::Extents { size, .. } => {
                let content = Content::Bytes(to_json(&record).into_bytes());
                (content, BlobKind::Extents { size: *size })
            }
            Record::Bytes { size } => match store.get(&key, None).await? {
                Some(object) => (Content::Stream(object.body, *size), BlobKind::Bytes),
                None => return Ok(State::Unknown),
            },
        };
        let metadata = to_json(&kind);
        let options = PutOptions {
            condition: Condition::Matches(&meta.etag),
            digest: Some(digest).filter(|_| matches!(kind, BlobKind::Bytes)),
            metadata: &metadata,
        };
        let written = store.put(&key, content, options).await?;
        Ok(written.map_or(State::Unknown, |_| State::Sound(record)))
    }

    /// Looks at the grants and links of a blob.
    async fn scrub_references(
        &self,
        digest: &Digest,
        state: &State,
        listings: &mut Listings,
        place: &mut AmongBlobs,
        edges: &mut Edges,
    ) -> Result<(), Halt> {
        let mut holder: Option<Name> = None;
        let mut grants = 0;
        // Where a step has ended among the grants of a repository, they are not counted again.
        let mut is_counted = place.reference.is_none();
        let (work, references) = (&self.work, &mut listings.references);
        while references.peek_of(work, Key::digest).await?.as_ref() == Some(digest) {
            let Some((key, meta)) = references.peek(work).await?.cloned() else {
                break;
            };
            let Some(name) = key.holder() else {
                references.next(work).await?;
                continue;
            };
            if holder.as_ref() != Some(&name) {
                if matches!(state, State::Absent) && !self.work.is_dry {
                    // This isolate may believe that it is there.
                    self.work.upkeep.tiers.changed(Wanted::Link(&name, digest));
                }
                is_counted |= holder.is_some();
                holder = Some(name.clone());
                grants = 0;
            }
            if matches!(key, Key::Link { .. }) {
                let is_orphaned = is_counted && grants == 0 && self.work.is_old(&meta);
                self.scrub_link(digest, &name, &key, is_orphaned, state)
                    .await?;
            } else {
                grants += 1;
                self.scrub_grant(digest, &name, &key, &meta, state, edges);
            }
            references.next(work).await?;
            place.reference = Some(key);
        }
        Ok(())
    }

    fn scrub_grant(
        &self,
        digest: &Digest,
        name: &Name,
        key: &Key,
        meta: &Meta,
        state: &State,
        edges: &mut Edges,
    ) {
        self.checked(What::Grant, 0);
        match serde_json::from_str(&meta.metadata) {
            Ok(Reason::Manifest { digest: manifest } | Reason::Mirrored { digest: manifest }) => {
                // What is mirrored comes when it is asked for.
                let is_there = match state {
                    State::Sound(_) | State::Unknown => true,
                    State::Absent => self.work.upkeep.settings.upstreams.mirrored(name).is_some(),
                };
                if is_there {
                    edges.see(name, &manifest, digest);
                }
            }
            Ok(Reason::Upload | Reason::Claim | Reason::Filled) => {}
            // Why it holds the blob is known to nobody any more, so it does. A manifest that it was for gets another one.
            Err(error) => self.find(Finding {
                found: Found::Corrupt,
                what: What::Grant,
                key: key.to_string(),
                why: format!("its reason can't be read: {error}"),
                repair: None,
            }),
        }
    }

    async fn scrub_link(
        &self,
        digest: &Digest,
        name: &Name,
        key: &Key,
        is_orphaned: bool,
        state: &State,
    ) -> Result<(), Halt> {
        self.work.require(2)?;
        self.checked(What::Link, 0);
        let finding = |found, why: &str, repair| Finding {
            found,
            what: What::Link,
            key: key.to_string(),
            why: why.to_owned(),
            repair: Some(repair),
        };
        if is_orphaned {
            let before = self.work.count();
            self.work.sweep_link(name, digest).await?;
            if self.work.count() > before {
                let why = "the repository has no grant on the blob";
                self.find(finding(Found::Orphaned, why, Repair::Delete));
            }
            return Ok(());
        }
        let State::Sound(record) = state else {
            return Ok(());
        };
        let Some((meta, bytes)) = self.read_object(key, MAX_RECORD).await? else {
            return Ok(());
        };
        let linked: Option<Record> = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let why = match &linked {
            Some(linked) if linked == record => return Ok(()),
            Some(_) => "it says other than the blob where the bytes are",
            None => "it can't be read",
        };
        self.find(finding(Found::Corrupt, why, Repair::Write));
        if !self.work.is_dry {
            self.work.spend(1)?;
            let upkeep = self.work.upkeep;
            // The repair concerns where the bytes are. The recorded right stays as it is.
            let right = Linked::parse(&meta.metadata);
            upkeep.grants.make_good(name, digest, record, right).await?;
        }
        Ok(())
    }
}

/// What is read side by side.
struct Listings {
    references: Listing,
    blobs: Listing,
    derived: Listing,
}

/// The finding that a blob could not be looked at.
fn unread(digest: &Digest, why: String) -> Finding {
    Finding {
        found: Found::Unread,
        what: What::Blob,
        key: Key::blob(digest).to_string(),
        why,
        repair: None,
    }
}

/// Which part of all blobs of an algorithm comes before this one: digests are spread evenly.
fn part(digest: &Digest) -> f64 {
    let first = digest.encoded().get(..4);
    let first = first.and_then(|first| u16::from_str_radix(first, 16).ok());
    f64::from(first.unwrap_or_default()) / 65_536.0
}
