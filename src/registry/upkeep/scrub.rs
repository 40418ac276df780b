//! The scrub: stored objects are read again, and errors are reported, repaired, or quarantined.
//!
//! It walks the store in the order of its keys, in steps, and stores where a step ended.
//! Blobs come first.
//! Their grants are noted in a filter, so that a manifest costs one read, and exact checks only if
//! something may be missing.
//!
//! ```text
//! blobs       blobs/  refs/  layers/     bytes, extents, links, grants, indexes
//! manifests   repositories/              manifests and all that they name, tags, referrers
//! ```
//!
//! A derived object is written anew or deleted.
//! A blob with wrong bytes can't be derived from anything, so it is *quarantined*.
//! Its extents are deleted, and a note replaces its object by compare-and-swap.
//! So a copy that a client has stored since is never touched.
//! Every reader then sees the blob as absent; its grants stay.
//! A new push of the blob replaces the note, and everything that refers to it is whole again.
//!
//! A failed read proves nothing about an object.
//! An object is wrong only if it was read as wrong twice, and is unchanged since.

use std::{cell::RefCell, time::Duration};

use crate::{
    error::Error,
    host::{Clock as _, Level, Log as _, Random as _},
    platform::Platform,
    registry::upkeep::{
        Upkeep,
        filter::Filter,
        on_demand::StepOutcome,
        scrub::{
            cursor::{Edges, ScrubBlobPosition, ScrubCursor, ScrubPosition},
            report::{Finding, Repair, Report, ScrubReport, Totals},
        },
        step::{Allowance, Halt, JobStep, RESERVE, What, unless_failed},
    },
    store::{Condition, Content, Meta, PutOptions, Streams as _, document::to_json, key::Key},
    time::Timestamp,
};

mod blobs;
mod bytes;
mod cursor;
mod edges;
mod endpoint;
mod layers;
mod manifests;
mod references;
mod report;
mod repository;
mod state;
mod tags;

/// The most findings that are reported one by one.
const MAX_TOLD: usize = 1_000;

/// One step of the scrub.
struct Scrub<'a, P: Platform> {
    work: JobStep<'a, P>,
    /// The time after which the step begins nothing more.
    until: Timestamp,
    next: RefCell<NextObject>,
    report: RefCell<Report>,
    /// The store operations that the step may do.
    operations: u32,
    /// The fraction of all blobs that is due by now, from 0 to 1.
    due: f64,
}

/// The object that a step reads, and the objects that earlier steps left to it.
#[derive(Debug, Default)]
struct NextObject {
    /// The key that is being read.
    key: Option<Key>,
    /// The key that an earlier step failed to finish.
    trying: Option<Key>,
    /// Whether the earlier step was killed: its object may take longer than the platform allows.
    was_killed: bool,
    /// The blob, its etag and its record, read as wrong once: for the next step to read again, and
    /// from the step before.
    doubt: Option<String>,
    doubted: Option<String>,
}

impl NextObject {
    /// Whether an earlier step has failed to finish the key that is being read.
    fn was_tried(&self) -> bool {
        self.key.is_some() && self.key == self.trying
    }
}

/// A blob of at least so many bytes is recorded in the cursor before it is read.
const LARGE: u64 = 256 * 1024 * 1024;

/// That limit after a step that was killed.
const SMALL: u64 = 256 * 1024;

/// An open step that has not written its cursor for so long was killed.
const QUIET: Duration = Duration::from_secs(60);

/// The time in which a step begins new objects. An object that was begun is finished, because a
/// hash can't be resumed.
const STEP: Duration = Duration::from_secs(15);

/// The number of edges that the first pass expects.
const EDGES: u64 = 64 * 1024;

const DAY: Duration = Duration::from_secs(86_400);

impl<P: Platform> Upkeep<P> {
    /// Runs the part of the scrub that is due, so that a pass takes the configured number of days.
    pub(in crate::registry) async fn scrub_due(&self) -> Result<(), Error> {
        let days = self.settings.scrub_days;
        if days == 0 {
            return Ok(());
        }
        let allowance = Allowance {
            // The sweep may have used half of them, and passes over layers use some as well.
            operations: self.settings.subrequests / 5 * 2,
            time: STEP,
            removals: u64::MAX,
        };
        let period = DAY * days;
        self.scrub(allowance, Some(period)).await.map(|_| ())
    }

    /// Does a step of the scrub. If a pass has a period, it does no more than is due.
    async fn scrub(
        &self,
        allowance: Allowance,
        period: Option<Duration>,
    ) -> Result<Option<StepOutcome<ScrubReport, ScrubPosition>>, Error> {
        let (mut cursor, stored): (ScrubCursor, _) = self.read_cursor(&Key::ScrubCursor).await?;
        let now = self.host.now();
        if cursor.place == ScrubPosition::Rest {
            if period.is_some() && now < cursor.time {
                return Ok(None);
            }
            cursor = self.begin_scrub(&cursor);
        }
        let due = period.map_or(1.0, |period| {
            now.since(cursor.time).as_secs_f64() / period.as_secs_f64()
        });
        let is_quiet = |meta: &Meta| now.since(meta.uploaded) >= QUIET;
        let next = NextObject {
            trying: cursor.trying.take(),
            was_killed: cursor.is_open && stored.as_ref().is_some_and(is_quiet),
            doubted: cursor.doubt.take(),
            ..NextObject::default()
        };
        let mut etag = stored.map(|meta| meta.etag);
        cursor.is_open = true;
        self.store_cursor(&Key::ScrubCursor, &cursor, &mut etag)
            .await?;
        let scrub = Scrub::new(self, allowance, false, due, next);
        let began = (cursor.place.clone(), cursor.edges.number);
        let halt = scrub.go_on(&mut cursor, &mut etag).await;
        cursor.totals.add(&scrub.report.borrow().totals);
        let NextObject { key, doubt, .. } = scrub.next.take();
        let stands_still = began == (cursor.place.clone(), cursor.edges.number) && doubt.is_none();
        if stands_still || matches!(halt, Some(Halt::Failed(_))) {
            cursor.trying = key;
        }
        cursor.doubt = doubt;
        cursor.is_open = false;
        let is_finished = cursor.place == ScrubPosition::Rest;
        if is_finished {
            self.tell_of_pass(&cursor)?;
            cursor.time = cursor.time + period.unwrap_or_else(|| DAY * self.settings.scrub_days);
            cursor.edges.seen = Filter::default();
        }
        self.store_cursor(&Key::ScrubCursor, &cursor, &mut etag)
            .await?;
        let ScrubCursor { place, totals, .. } = cursor;
        unless_failed(halt, Some(scrub.into_outcome(place, Some(totals))))
    }

    /// Reports the repairs that the scrub would make from a place on, and writes nothing.
    async fn rehearse_scrub(
        &self,
        allowance: Allowance,
        place: Option<ScrubPosition>,
    ) -> Result<StepOutcome<ScrubReport, ScrubPosition>, Error> {
        let mut cursor = self.begin_scrub(&ScrubCursor::default());
        if let Some(place) = place {
            // The filter of earlier blobs is lost, so each manifest gets the exact checks.
            cursor.place = place;
        }
        let scrub = Scrub::new(self, allowance, true, 1.0, NextObject::default());
        let halt = scrub.go_on(&mut cursor, &mut None).await;
        cursor.totals.add(&scrub.report.borrow().totals);
        let ScrubCursor { place, totals, .. } = cursor;
        unless_failed(halt, scrub.into_outcome(place, Some(totals)))
    }

    /// The cursor at the beginning of a pass.
    fn begin_scrub(&self, last: &ScrubCursor) -> ScrubCursor {
        let expected = match last.edges.number {
            0 => EDGES,
            number => number.saturating_add(number / 4),
        };
        ScrubCursor {
            time: self.host.now(),
            place: ScrubPosition::Blobs(ScrubBlobPosition::default()),
            edges: Edges {
                seen: Filter::new(expected, self.host.random()),
                number: 0,
            },
            ..ScrubCursor::default()
        }
    }

    fn tell_of_pass(&self, cursor: &ScrubCursor) -> Result<(), Error> {
        let Totals {
            checked,
            bytes,
            found,
            repaired,
        } = &cursor.totals;
        let fields = [
            ("checked", &*to_json(checked)?),
            ("bytes", &*bytes.to_string()),
            ("found", &*to_json(found)?),
            ("repaired", &*repaired.to_string()),
        ];
        self.host.log(Level::Info, "scrubbed", &fields);
        Ok(())
    }
}

impl<'a, P: Platform> Scrub<'a, P> {
    fn new(
        upkeep: &'a Upkeep<P>,
        allowance: Allowance,
        is_dry: bool,
        due: f64,
        next: NextObject,
    ) -> Self {
        let until = upkeep.host.now() + allowance.time;
        let allowance = Allowance {
            // An object that was begun is finished, however long it takes.
            time: Duration::MAX,
            ..allowance
        };
        Self {
            work: JobStep::new(upkeep, allowance, is_dry),
            until,
            next: RefCell::new(next),
            report: RefCell::default(),
            operations: allowance.operations.saturating_sub(RESERVE),
            due,
        }
    }

    /// The outcome of the step, with the totals of its pass if it belongs to one.
    fn into_outcome(
        self,
        place: ScrubPosition,
        pass: Option<Totals>,
    ) -> StepOutcome<ScrubReport, ScrubPosition> {
        StepOutcome {
            report: self.report.into_inner().into_report(pass),
            place,
            operations: self.work.spent(),
        }
    }

    /// Walks the store as far as the allowance reaches. The cursor says where it ended, even after
    /// a failure.
    async fn go_on(&self, cursor: &mut ScrubCursor, etag: &mut Option<String>) -> Option<Halt> {
        loop {
            let done = match &cursor.place {
                ScrubPosition::Rest => return None,
                ScrubPosition::Blobs(_) => self.scrub_blobs(cursor, etag).await,
                ScrubPosition::Manifests { .. } => {
                    let ScrubCursor { place, edges, .. } = &mut *cursor;
                    match place {
                        ScrubPosition::Manifests { after } => {
                            self.scrub_manifests(after, edges).await
                        }
                        ScrubPosition::Rest | ScrubPosition::Blobs(_) => Ok(()),
                    }
                }
            };
            if let Err(halt) = done {
                return Some(halt);
            }
            cursor.place = match cursor.place {
                ScrubPosition::Blobs(_) => ScrubPosition::Manifests { after: None },
                ScrubPosition::Manifests { .. } | ScrubPosition::Rest => ScrubPosition::Rest,
            };
        }
    }

    /// Whether the step must begin nothing more.
    fn is_late(&self) -> bool {
        self.work.upkeep.host.now() >= self.until
    }

    /// Begins to read an object. Returns whether an earlier step failed to finish it.
    fn begin(&self, key: &Key) -> bool {
        let mut next = self.next.borrow_mut();
        next.key = Some(key.clone());
        next.was_tried()
    }

    /// Counts an object that was checked.
    fn checked(&self, what: What, bytes: u64) {
        let mut report = self.report.borrow_mut();
        report.totals.bytes += bytes;
        *report
            .totals
            .checked
            .entry(what.name().to_owned())
            .or_default() += 1;
        self.work.upkeep.metrics.scrubbed(what.name(), bytes);
    }

    /// Reports a finding, before it is repaired and once in a step.
    fn find(&self, finding: Finding) {
        let upkeep = self.work.upkeep;
        let mut report = self.report.borrow_mut();
        let Finding {
            found,
            what,
            key,
            why,
            repair,
        } = &finding;
        if !report.told.insert(format!("{} {key}", what.name())) {
            return;
        }
        let repair = repair.map_or("", Repair::name);
        let fields = [
            ("found", found.name()),
            ("what", what.name()),
            ("key", key),
            ("why", why),
            ("repair", repair),
            ("dry", if self.work.is_dry { "true" } else { "false" }),
        ];
        upkeep
            .host
            .log(found.level(), "the scrub found a problem", &fields);
        let label = format!("{} {}", found.name(), what.name());
        *report.totals.found.entry(label).or_default() += 1;
        report.totals.repaired += u64::from(!repair.is_empty());
        if !self.work.is_dry {
            upkeep.metrics.found(found.name(), what.name(), repair);
        }
        if report.findings.len() < MAX_TOLD {
            report.findings.push(finding);
        }
    }

    /// Whether an object is unchanged since it was read.
    async fn is_still(&self, key: &Key, seen: &Meta) -> Result<bool, Halt> {
        let now = self.work.head(key).await?;
        Ok(now.is_some_and(|now| now.etag == seen.etag && now.uploaded == seen.uploaded))
    }

    /// Reads an object: its metadata, and its bytes if there are at most `most`.
    async fn read_object(
        &self,
        key: &Key,
        most: u64,
    ) -> Result<Option<(Meta, Option<Vec<u8>>)>, Halt> {
        self.work.spend(1)?;
        let Upkeep { store, host, .. } = self.work.upkeep;
        let Some(object) = store.get(key, None).await? else {
            return Ok(None);
        };
        let bytes = host.collect(object.body, most).await?;
        Ok(Some((object.meta, bytes)))
    }

    /// Replaces an object if it is unchanged since it was read. Returns whether it was replaced.
    async fn replace(
        &self,
        key: &Key,
        seen: &Meta,
        content: Vec<u8>,
        metadata: &str,
    ) -> Result<bool, Halt> {
        self.work.spend(1)?;
        let options = PutOptions {
            condition: Condition::Matches(&seen.etag),
            metadata,
            ..PutOptions::default()
        };
        let content = Content::Bytes(content);
        let store = &self.work.upkeep.store;
        Ok(store.put(key, content, options).await?.is_some())
    }
}
