//! Joining: a blob in several extents becomes one object, so that a read opens one object.
//!
//! ```text
//! 1 read the record, with its etag
//! 2 write the bytes over it by compare-and-swap; the store reads the extents and checks the digest
//! 3 a grace period later, the sweep of uploads deletes the extents
//! ```
//!
//! The walk over the blobs nominates, and the step joins when it has stored its cursor.
//! So a join that the platform ends early is tried again in the next round, and delays nothing.
//! Links that name the extents are not written again: readers compare them with the blob.

use serde::Serialize;

use crate::{
    digest::Digest,
    host::{Level, Log as _},
    platform::Platform,
    registry::upkeep::{
        Upkeep,
        step::{Halt, JobStep},
        sweep::nominee::Nominee,
    },
    store::{
        Condition, Content, Meta, PutOptions, StoreError,
        bucket::StreamPart,
        document::{BlobKind, Mark, MarkState, Record, to_json},
        key::Key,
    },
    upload::Extent,
};

/// The blobs that a step joins after its walk.
#[derive(Default)]
pub(super) struct Joins {
    blobs: Vec<Joinable>,
    /// The bytes of all these blobs.
    bytes: u64,
}

/// A blob whose record was read.
struct Joinable {
    digest: Digest,
    /// The etag of the record.
    etag: String,
    size: u64,
    extents: Vec<Extent>,
}

/// A blob that was joined, or would be in a dry run.
#[derive(Debug, Serialize)]
pub(in crate::registry) struct JoinedBlob {
    key: String,
    bytes: u64,
    extents: usize,
}

impl Joinable {
    fn described(&self) -> JoinedBlob {
        JoinedBlob {
            key: Key::blob(&self.digest).to_string(),
            bytes: self.size,
            extents: self.extents.len(),
        }
    }
}

/// Whether an object of a blob is a record of extents.
fn is_record(meta: &Meta) -> bool {
    matches!(
        serde_json::from_str(&meta.metadata),
        Ok(BlobKind::Extents { .. })
    )
}

/// The most bytes that a step joins. One blob may have more.
const STEP_BYTES: u64 = 1024 * 1024 * 1024;

/// The most blobs that are reported one by one.
const MAX_TOLD: usize = 1_000;

impl<P: Platform> JobStep<'_, P> {
    /// Nominates a blob in several extents that a grant keeps. If the step has too little left for
    /// it, the step ends, and the next one begins with this blob.
    pub(super) async fn nominate_join(
        &self,
        nominee: &Nominee,
        joins: &mut Joins,
    ) -> Result<(), Halt> {
        let Upkeep {
            store,
            host,
            settings,
            ..
        } = self.upkeep;
        let digest = &nominee.digest;
        let Some((meta, size)) = &nominee.blob else {
            return Ok(());
        };
        // A young blob may get no manifest, and its copy would be in vain.
        let is_young = self.age(meta) < settings.grace / 2;
        if !is_record(meta)
            || !nominee.is_held
            || is_young
            || *size > settings.join_bytes
            || meta.size <= Record::LONGEST_OF_ONE
            || (nominee.is_marked && !self.is_lifted(digest).await?)
        {
            return Ok(());
        }
        let key = Key::blob(digest);
        self.spend(1)?;
        let Some((meta, text)) = store.text(host, &key).await? else {
            return Ok(());
        };
        if !is_record(&meta) {
            return Ok(());
        }
        let Some(Record::Extents { size, extents }) = self.read(&key, &text) else {
            return Ok(());
        };
        let operations = u32::try_from(extents.len()).map_or(u32::MAX, |read| read + 1);
        // It might never fit into what the walk leaves of a step, so it stays in extents.
        let is_too_long = operations > self.left().saturating_add(self.spent()) / 2;
        if extents.len() < 2 || is_too_long {
            return Ok(());
        }
        if !self.is_dry {
            let most = settings.join_bytes.min(STEP_BYTES);
            if !joins.blobs.is_empty() && joins.bytes.saturating_add(size) > most {
                return Err(Halt::Spent);
            }
            self.spend(operations)?;
        }
        joins.bytes = joins.bytes.saturating_add(size);
        joins.blobs.push(Joinable {
            digest: digest.clone(),
            etag: meta.etag,
            size,
            extents,
        });
        Ok(())
    }

    /// Whether the mark of a blob, if it still has one, is lifted.
    async fn is_lifted(&self, digest: &Digest) -> Result<bool, Halt> {
        Ok(match self.mark(digest).await? {
            None => true,
            Some((_, mark)) => matches!(
                mark,
                Some(Mark {
                    state: MarkState::Lifted,
                    ..
                })
            ),
        })
    }

    /// Joins the nominated blobs, and returns those that were joined. A blob that can't be joined
    /// stays as it is.
    pub(super) async fn join_all(&self, joins: Joins) -> Vec<JoinedBlob> {
        let mut joined = Vec::new();
        for blob in &joins.blobs {
            let outcome = if self.is_dry {
                Ok(true)
            } else {
                self.join(blob).await
            };
            match outcome {
                Ok(true) if joined.len() < MAX_TOLD => joined.push(blob.described()),
                // Another sweep has joined the blob, or it was quarantined or deleted meanwhile.
                Ok(_) => {}
                Err(error) => {
                    let key = Key::blob(&blob.digest).to_string();
                    let fields = [("key", &*key), ("error", &error.to_string())];
                    let host = &self.upkeep.host;
                    host.log(Level::Error, "extents not joined", &fields);
                }
            }
        }
        joined
    }

    /// Writes the bytes of a blob over its record. Returns whether the record was still there.
    async fn join(&self, blob: &Joinable) -> Result<bool, StoreError> {
        let Upkeep {
            store,
            host,
            metrics,
            ..
        } = self.upkeep;
        let parts = blob.extents.iter();
        let parts = parts.map(|extent| StreamPart::Object(Key::extent(&extent.key), None));
        let body = store.concatenate(host, parts.collect(), blob.size);
        let metadata = to_json(&BlobKind::Bytes)?;
        let options = PutOptions {
            condition: Condition::Matches(&blob.etag),
            digest: Some(&blob.digest),
            metadata: &metadata,
        };
        let content = Content::Stream(body, blob.size);
        let key = Key::blob(&blob.digest);
        let written = store.put(&key, content, options).await?;
        if written.is_some() {
            metrics.joined_bytes.inc_by(blob.size);
        }
        Ok(written.is_some())
    }
}
