//! Reading the bytes of a blob, and repairing or setting aside the blob.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::{
    digest::Digest,
    host::{Clock as _, Random as _},
    platform::Platform,
    range::ByteRange,
    registry::{
        blob::locate,
        upkeep::{
            Upkeep,
            listing::Listing,
            scrub::{
                Scrub,
                report::{Damage, Finding, Repair},
                state::{BlobState, Verdict},
            },
            step::{Halt, What},
        },
    },
    store::{
        Condition, Content, Meta, PutOptions, Streams as _,
        document::{BlobKind, Record, to_json},
        key::{Key, Prefix},
        tiers::Wanted,
    },
    time::Timestamp,
    upload::{Extent, UploadId},
};

/// The note that replaces a blob that was quarantined. The nonce makes the etag of each note
/// unique.
#[derive(Serialize)]
struct Note<'a> {
    why: &'a str,
    time: Timestamp,
    nonce: String,
}

/// The most bytes of a record.
pub(super) const MAX_RECORD: u64 = 4 * 1024 * 1024;

/// The most links that are read for a copy of the record.
const MAX_LINKS: usize = 3;

/// The operations that reading a blob may need besides its objects.
const BESIDE: u32 = 8;

/// The finding that a blob could not be read.
pub(super) fn unread(digest: &Digest, why: String) -> Finding {
    Finding {
        found: Damage::Unread,
        what: What::Blob,
        key: Key::blob(digest).to_string(),
        why,
        repair: None,
    }
}

impl<P: Platform> Scrub<'_, P> {
    /// Reads a blob, and sets it aside if it is corrupt.
    pub(super) async fn read_blob(&self, digest: &Digest, meta: Meta) -> Result<BlobState, Halt> {
        let key = Key::blob(digest);
        let was_tried = self.next.borrow().was_tried();
        let kind = serde_json::from_str(&meta.metadata);
        let record = match kind {
            Ok(BlobKind::Aside) => {
                self.checked(What::Blob, 0);
                return Ok(BlobState::Absent);
            }
            Ok(BlobKind::Bytes) => Record::Bytes { size: meta.size },
            Ok(BlobKind::Extents { size }) => match self.named(&key, &meta, size).await? {
                None => return Ok(BlobState::Unknown),
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
            Ok(BlobState::Unknown)
        };
        if needed > self.operations {
            return unread(format!(
                "it takes {needed} operations; the setting STRATA_SUBREQUESTS leaves a step {}",
                self.operations
            ));
        }
        if was_tried && self.next.borrow().was_killed {
            return unread("reading it takes longer than a step may".to_owned());
        }
        let verdict = self.look_twice(digest, &meta, &record, objects).await?;
        self.checked(What::Blob, record.size());
        match verdict {
            Verdict::Sound => Ok(BlobState::Sound(record)),
            Verdict::Changed => Ok(BlobState::Unknown),
            Verdict::Failed(error) if was_tried => unread(error.to_string()),
            Verdict::Failed(error) => Err(error.into()),
            Verdict::Wrong(why) => {
                let extents = match &record {
                    Record::Extents { extents, .. } => extents.as_slice(),
                    Record::Bytes { .. } => &[],
                };
                self.quarantine(digest, &meta, extents, why).await
            }
        }
    }

    /// Reads a record, or says what is wrong with it after two reads.
    /// `None` if it has changed meanwhile.
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
                    "its extents, its record and its metadata disagree about its size".to_owned()
                }
                Some(Record::Bytes { .. }) | None => "its record can't be read".to_owned(),
            };
        }
        Ok(Some(Err(why)))
    }

    /// Hashes a blob, and again if it was wrong, because a read may have failed on its way. If this
    /// step has too few operations left, the next one hashes again.
    async fn look_twice(
        &self,
        digest: &Digest,
        meta: &Meta,
        record: &Record,
        objects: u32,
    ) -> Result<Verdict, Halt> {
        let verdict = self.hash(digest, meta, record, objects).await?;
        // The digest distinguishes this record from the other records of the blob that are tried.
        let record_digest = digest.algorithm().digest(to_json(record)?.as_bytes());
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

    /// Hashes all bytes of a blob natively, outside of wasm.
    async fn hash(
        &self,
        digest: &Digest,
        meta: &Meta,
        record: &Record,
        objects: u32,
    ) -> Result<Verdict, Halt> {
        let size = record.size();
        let all = ByteRange::all(size);
        self.work.require(objects)?;
        self.work.spend(objects)?;
        let Upkeep { store, host, .. } = self.work.upkeep;
        let body = store.concatenate(host, locate(record, digest, all), size);
        let hashed = host.hash(body, digest.algorithm()).await;
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

    /// The first extent that is missing or has another size, as a message.
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
                None => Some(format!("{key} does not exist")),
                Some(size) if *size != extent.size => {
                    Some(format!("{key} has {size} bytes of {}", extent.size))
                }
                Some(_) => None,
            }
        });
        Ok(wrong)
    }

    /// Sets aside a blob that was read as wrong twice.
    ///
    /// Its extents are deleted first, because links name the wrong extents as well.
    /// Their keys are never written again.
    /// Then the note replaces the object that was read.
    /// If a client has stored the blob again meanwhile, the object has changed and stays.
    async fn quarantine(
        &self,
        digest: &Digest,
        meta: &Meta,
        extents: &[Extent],
        why: String,
    ) -> Result<BlobState, Halt> {
        let key = Key::blob(digest);
        if !self.is_still(&key, meta).await? {
            return Ok(BlobState::Unknown);
        }
        let calls = extents.len().div_ceil(1_000).saturating_add(1);
        self.work
            .require(u32::try_from(calls).unwrap_or(u32::MAX))?;
        self.find(Finding {
            found: Damage::Corrupt,
            what: What::Blob,
            key: key.to_string(),
            why: why.clone(),
            repair: Some(Repair::Aside),
        });
        if self.work.is_dry {
            return Ok(BlobState::Absent);
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
        })?;
        let metadata = to_json(&BlobKind::Aside)?;
        let is_aside = self
            .replace(&key, meta, note.into_bytes(), &metadata)
            .await?;
        upkeep.tiers.changed(Wanted::Blob(digest));
        Ok(if is_aside {
            BlobState::Absent
        } else {
            BlobState::Unknown
        })
    }

    /// Finds the bytes of a blob whose object can't be parsed.
    /// The rest of the object may have the record, and links have copies of it.
    /// If no record has the bytes, the blob is quarantined.
    async fn mend(
        &self,
        digest: &Digest,
        meta: &Meta,
        mut records: Vec<Record>,
        why: String,
    ) -> Result<BlobState, Halt> {
        let mut sources = vec![Key::blob(digest)];
        let mut holders = Listing::new(Prefix::Holders(digest), None, false);
        while sources.len() <= MAX_LINKS
            && let Some((key, _)) = holders.next(&self.work).await?
        {
            if matches!(key, Key::Link { .. }) {
                sources.push(key);
            }
        }
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
                Verdict::Changed => return Ok(BlobState::Unknown),
                Verdict::Failed(error) => return Err(error.into()),
                Verdict::Wrong(_) => {
                    if let Record::Extents { extents, .. } = record {
                        wrong.extend(extents);
                    }
                }
            }
        }
        self.checked(What::Blob, 0);
        self.quarantine(digest, meta, &wrong, why).await
    }

    /// Writes the object of a blob anew, after its bytes were verified.
    async fn rewrite(
        &self,
        digest: &Digest,
        meta: &Meta,
        record: Record,
        why: String,
    ) -> Result<BlobState, Halt> {
        self.checked(What::Blob, record.size());
        self.work.require(2)?;
        let key = Key::blob(digest);
        self.find(Finding {
            found: Damage::Corrupt,
            what: What::Blob,
            key: key.to_string(),
            why,
            repair: Some(Repair::Write),
        });
        if self.work.is_dry {
            return Ok(BlobState::Sound(record));
        }
        self.work.spend(2)?;
        let store = &self.work.upkeep.store;
        let (content, kind) = match &record {
            Record::Extents { size, .. } => {
                let content = Content::Bytes(to_json(&record)?.into_bytes());
                (content, BlobKind::Extents { size: *size })
            }
            Record::Bytes { size } => match store.get(&key, None).await? {
                Some(object) => (Content::Stream(object.body, *size), BlobKind::Bytes),
                None => return Ok(BlobState::Unknown),
            },
        };
        let metadata = to_json(&kind)?;
        let options = PutOptions {
            condition: Condition::Matches(&meta.etag),
            digest: Some(digest).filter(|_| matches!(kind, BlobKind::Bytes)),
            metadata: &metadata,
            ..PutOptions::default()
        };
        let written = store.put(&key, content, options).await?;
        Ok(written.map_or(BlobState::Unknown, |_| BlobState::Sound(record)))
    }
}
