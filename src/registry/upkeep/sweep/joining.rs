//! Joining: a blob in several extents becomes one object, so that a read opens one object.
//!
//! ```text
//! 1 read the record, with its etag
//! 2 write the bytes over it by compare-and-swap; the store reads the extents and checks the digest
//! 3 a grace period later, the sweep of uploads deletes the extents
//! ```
//!
//! The walk over the blobs collects candidates, and the last phase of a round joins them.
//! A step stores its cursor, without the blobs that it will join, before it joins them.
//! So a join that the platform ends early is tried again in the next round, and delays nothing.
//! The join does not write links again: readers that find several extents in a link compare it with
//! the blob.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    digest::Digest,
    host::{Clock as _, Level, Log as _},
    platform::Platform,
    registry::upkeep::{
        Upkeep,
        step::{Halt, JobStep},
        sweep::nominee::Nominee,
    },
    store::{
        Condition, Content, PutOptions, StoreError,
        bucket::StreamPart,
        document::{BlobKind, Mark, MarkState, Record, is_record, to_json},
        key::Key,
    },
    upload::Extent,
};

/// The blobs that a round may join, with their sizes.
///
/// A round takes [`MAX_CANDIDATES`] at most, and has a quarter of the grace period for them. So the
/// next one begins where it ended: blobs that can't be joined never keep the others waiting.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct JoinCandidates {
    /// The first blob that the walk of this round takes; before its end, of the next round.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<Digest>,
    blobs: BTreeMap<Digest, u64>,
}

impl JoinCandidates {
    /// The candidates at the beginning of a round, after the round that left these.
    pub(super) fn begin(last: &Self) -> Self {
        Self {
            from: last.from.clone(),
            blobs: BTreeMap::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.blobs.is_empty()
    }

    /// Whether the walk takes this blob.
    fn takes(&self, digest: &Digest) -> bool {
        self.blobs.len() < MAX_CANDIDATES && self.from.as_ref().is_none_or(|from| digest >= from)
    }

    /// Ends the walk. If it took all that it may, the next one begins with the last of them.
    pub(super) fn end_walk(&mut self) {
        let last = self.blobs.last_key_value().map(|(digest, _)| digest);
        self.from = last.filter(|_| self.blobs.len() == MAX_CANDIDATES).cloned();
    }

    /// Leaves the rest to the next round.
    pub(super) fn postpone(&mut self) {
        if let Some((first, _)) = self.blobs.pop_first() {
            self.from = Some(first);
            self.blobs.clear();
        }
    }
}

/// The blobs that a step joins after it has stored its cursor.
#[derive(Default)]
pub(in crate::registry) struct PlannedJoins {
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

/// The report of a blob that was joined; in a dry run, of one that may be.
#[derive(Debug, Serialize)]
pub(in crate::registry) struct JoinReport {
    key: String,
    bytes: u64,
    /// Unknown in a dry run, which does not read the record.
    #[serde(skip_serializing_if = "Option::is_none")]
    extents: Option<usize>,
}

impl JoinReport {
    /// Describes the candidates of a dry run.
    pub(super) fn rehearsed(candidates: &JoinCandidates) -> Vec<Self> {
        let described = candidates.blobs.iter().map(|(digest, size)| Self {
            key: Key::blob(digest).to_string(),
            bytes: *size,
            extents: None,
        });
        described.collect()
    }
}

impl<P: Platform> Upkeep<P> {
    /// Whether the settings permit to join so many extents. A join reads each of them, with other
    /// operations, in one step; a scheduled one has half of the subrequests.
    pub(super) fn may_join(&self, extents: u64, bytes: u64) -> bool {
        let most = u64::from(self.settings.subrequests / 4);
        (2..=most).contains(&extents) && bytes <= self.settings.join_bytes
    }

    /// Joins blobs, and returns those that were joined. A blob that can't be joined stays as it is.
    pub(in crate::registry) async fn join_all(&self, joins: PlannedJoins) -> Vec<JoinReport> {
        let start = self.host.now();
        let mut joined = Vec::new();
        for blob in &joins.blobs {
            if self.host.now().since(start) >= STEP_TIME {
                break;
            }
            let key = Key::blob(&blob.digest).to_string();
            match self.join(blob).await {
                Ok(true) => joined.push(JoinReport {
                    key,
                    bytes: blob.size,
                    extents: Some(blob.extents.len()),
                }),
                // Another sweep has joined the blob, or it was quarantined or deleted meanwhile.
                Ok(false) => {}
                Err(error) => log_unjoined(self, &key, &error),
            }
        }
        joined
    }

    /// Writes the bytes of a blob over its record. Returns whether the record was still there.
    async fn join(&self, blob: &Joinable) -> Result<bool, StoreError> {
        let Self {
            store,
            host,
            metrics,
            ..
        } = self;
        let parts = blob.extents.iter();
        let parts = parts.map(|extent| StreamPart::Object(Key::extent(&extent.key), None));
        let body = store.concatenate(host, parts.collect(), blob.size);
        let metadata = to_json(&BlobKind::Bytes)?;
        let options = PutOptions {
            condition: Condition::Matches(&blob.etag),
            digest: Some(&blob.digest),
            metadata: &metadata,
            ..PutOptions::default()
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

fn log_unjoined<P: Platform>(upkeep: &Upkeep<P>, key: &str, error: &impl ToString) {
    let fields = [("key", key), ("error", &error.to_string())];
    upkeep.host.log(Level::Error, "extents not joined", &fields);
}

impl<P: Platform> JobStep<'_, P> {
    /// Notes a blob in several extents that a grant keeps.
    pub(super) fn nominate_join(&self, nominee: &Nominee, candidates: &mut JoinCandidates) {
        let Some((meta, size)) = &nominee.blob else {
            return;
        };
        // A young blob may never get a manifest, and need not be copied.
        let is_young = self.age(meta) < self.upkeep.settings.grace / 2;
        // A record of this size names one extent.
        let is_one = meta.size <= Record::LONGEST_OF_ONE;
        // An upper bound, because the record is not read. Most extents take a tenth more.
        let most = (meta.size / Record::SHORTEST_EXTENT).max(2);
        if is_record(meta)
            && nominee.is_held
            && !is_young
            && !is_one
            && self.upkeep.may_join(most, *size)
            && candidates.takes(&nominee.digest)
        {
            candidates.blobs.insert(nominee.digest.clone(), *size);
        }
    }

    /// Takes the candidates that this step joins, and reads their records.
    pub(super) async fn plan_joins(&self, candidates: &mut JoinCandidates) -> PlannedJoins {
        let most = self.upkeep.settings.join_bytes.min(STEP_BYTES);
        let mut joins = PlannedJoins::default();
        while let Some((digest, size)) = candidates.blobs.first_key_value() {
            if !joins.blobs.is_empty() && joins.bytes.saturating_add(*size) > most {
                break;
            }
            match self.joinable(digest).await {
                Ok(Some(blob)) => {
                    joins.bytes = joins.bytes.saturating_add(blob.size);
                    joins.blobs.push(blob);
                }
                Ok(None) => {}
                Err(Halt::Spent) => break,
                Err(halt @ Halt::Failed(_)) => {
                    log_unjoined(self.upkeep, &Key::blob(digest).to_string(), &halt);
                }
            }
            candidates.blobs.pop_first();
        }
        joins
    }

    /// Reads the record of a blob, and counts the operations of its join. `None` if it need not be
    /// joined: it is about to be removed, or has changed since the walk.
    async fn joinable(&self, digest: &Digest) -> Result<Option<Joinable>, Halt> {
        let Upkeep { store, host, .. } = self.upkeep;
        if let Some((_, mark)) = self.mark(digest).await?
            && !matches!(mark, Some(Mark { state, .. }) if state == MarkState::Lifted)
        {
            return Ok(None);
        }
        self.spend(1)?;
        let Some((meta, Some(text))) = store.blob(host, digest).await? else {
            return Ok(None);
        };
        let Some(Record::Extents { size, extents }) = self.read(&Key::blob(digest), &text) else {
            return Ok(None);
        };
        if !self.upkeep.may_join(extents.len() as u64, size) {
            return Ok(None);
        }
        // Each extent is read, and the blob written.
        self.spend(u32::try_from(extents.len()).map_or(u32::MAX, |reads| reads + 1))?;
        Ok(Some(Joinable {
            digest: digest.clone(),
            etag: meta.etag,
            size,
            extents,
        }))
    }
}

/// The most candidates of a round.
const MAX_CANDIDATES: usize = 1_000;

/// The most bytes that a step joins. One blob may have more.
const STEP_BYTES: u64 = 1024 * 1024 * 1024;

/// The time after which a step begins no further join.
const STEP_TIME: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Algorithm;

    /// A round that takes all these blobs in turn: those that it has when its walk ends.
    fn walk(last: &JoinCandidates, digests: &[Digest]) -> JoinCandidates {
        let mut candidates = JoinCandidates::begin(last);
        for digest in digests {
            if candidates.takes(digest) {
                candidates.blobs.insert(digest.clone(), 1);
            }
        }
        candidates.end_walk();
        candidates
    }

    #[test]
    fn rounds_take_their_candidates_in_turn() {
        let digests = 0..2_500_u32;
        let digests = digests.map(|number| Algorithm::Sha256.digest(&number.to_le_bytes()));
        let mut digests: Vec<_> = digests.collect();
        digests.sort();
        let (mut seen, mut last) = (Vec::new(), JoinCandidates::default());
        // None is ever joined, so each round begins with the last one of the round before.
        for _ in 0..3 {
            last = walk(&last, &digests);
            seen.push(last.blobs.len());
        }
        assert_eq!(seen, [1_000, 1_000, 502]);
        assert_eq!(last.from, None, "the next round begins at the start");
    }

    #[test]
    fn a_round_that_ends_early_is_continued() {
        let digests: Vec<_> = (0..9_u8).map(|n| Algorithm::Sha256.digest(&[n])).collect();
        let mut first = walk(&JoinCandidates::default(), &digests);
        first.blobs.pop_first();
        let rest: Vec<_> = first.blobs.keys().cloned().collect();
        first.postpone();
        assert!(first.is_empty());
        let next = walk(&first, &digests);
        assert!(next.blobs.keys().eq(&rest));
        // An empty round postpones nothing.
        let mut last = walk(&next, &[]);
        last.postpone();
        assert_eq!(last.from, None);
    }
}
