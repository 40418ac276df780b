//! The sweep deletes objects that nothing refers to any more, while clients push and pull.
//!
//! It walks the store in the order of its keys, in rounds.
//! Each round has steps that are as long as a request may take, and the cursor of a step is stored.
//! Listings in the same order are read side by side.
//! One operation lists a thousand keys, so an object in use costs a small part of one.
//! Listings only nominate.
//! The exact steps of the removal protocol check each nominee again (`retention`, `repositories`,
//! `uploads`, `blobs`).
//! Their order keeps two sweeps apart, and a sweep apart from concurrent pushes.
//!
//! ```text
//! retention   catalog/                              deletes expired tags and manifests
//! holdings    repositories/                         deletes referrers entries without a manifest
//! chains      uploads/ extents/                     deletes abandoned uploads, and their extents
//! fills       fills/                                deletes old hints at fills
//! blobs       refs/ blobs/ sweep/marks/ layers/     deletes grants without a reason, links
//!                                                   without grants, blobs without grants
//! joins       blobs/                                joins extents of blobs that the walk found
//! ```

use std::time::Duration;

use serde::Serialize;

use crate::{
    error::Error,
    host::{Clock as _, Random as _},
    platform::Platform,
    registry::upkeep::{
        Upkeep,
        filter::Filter,
        on_demand::StepOutcome,
        step::{Allowance, Halt, JobStep, Removals, unless_failed},
        sweep::{
            cursor::{SweepBlobPosition, SweepCursor, SweepPosition},
            joining::{JoinReport, PlannedJoins},
        },
    },
    store::key::Key,
};

mod blobs;
mod cursor;
mod endpoint;
mod fills;
mod joining;
mod marks;
mod nominee;
mod references;
mod repositories;
mod retention;
mod uploads;

/// The report of a step of the sweep.
#[derive(Debug, Serialize)]
pub(in crate::registry) struct SweepReport {
    #[serde(flatten)]
    removals: Removals,
    /// The blobs whose extents were joined.
    joined: Vec<JoinReport>,
}

/// The outcome of a step, and the blobs that are to be joined.
type Swept = (StepOutcome<SweepReport, SweepPosition>, PlannedJoins);

impl<P: Platform> Upkeep<P> {
    /// Runs the due part of the sweep: the next step of a round, or the first one if the last round
    /// was long enough ago. Returns the blobs that are to be joined: that takes longer than a step.
    pub(in crate::registry) async fn sweep_due(&self) -> Result<PlannedJoins, Error> {
        let allowance = Allowance {
            // The other scheduled jobs count against the same limit of the platform.
            operations: self.settings.subrequests / 2,
            time: STEP,
            removals: u64::MAX,
        };
        let swept = self.sweep(allowance, true).await?;
        Ok(swept.map(|(_, joins)| joins).unwrap_or_default())
    }

    /// Does a step of the sweep. With `if_due`, a round begins only some time after the last one.
    async fn sweep(&self, allowance: Allowance, if_due: bool) -> Result<Option<Swept>, Error> {
        let (mut cursor, stored): (SweepCursor, _) = self.read_cursor(&Key::SweepCursor).await?;
        let now = self.host.now();
        if cursor.place == SweepPosition::Rest {
            if if_due && now < cursor.time {
                return Ok(None);
            }
            cursor = SweepCursor::begin(&cursor, now, self.host.random());
        }
        let was_joining = cursor.place == SweepPosition::Joins;
        let work = JobStep::new(self, allowance, false);
        let halt = self.go_on(&work, &mut cursor).await;
        let mut joins = PlannedJoins::default();
        if cursor.place == SweepPosition::Joins {
            if !was_joining {
                self.store_inventory(&cursor.inventory).await?;
                cursor.candidates.end_walk();
                // The joins must not delay the removals of the next round.
                cursor.time = now + self.settings.grace / ROUNDS;
            }
            joins = work.plan_joins(&mut cursor.candidates).await;
            if now >= cursor.time {
                cursor.candidates.postpone();
            }
            if cursor.candidates.is_empty() {
                cursor.place = SweepPosition::Rest;
            }
        }
        let mut etag = stored.map(|meta| meta.etag);
        let is_stored = self
            .store_cursor(&Key::SweepCursor, &cursor, &mut etag)
            .await?;
        if !is_stored {
            // Another step has the same blobs.
            joins = PlannedJoins::default();
        }
        unless_failed(halt, Some((outcome(work, cursor.place), joins)))
    }

    /// Reports the removals that the sweep would make from a place on, and writes nothing.
    async fn rehearse(
        &self,
        allowance: Allowance,
        place: Option<SweepPosition>,
    ) -> Result<StepOutcome<SweepReport, SweepPosition>, Error> {
        let now = self.host.now();
        let mut cursor = SweepCursor::begin(&SweepCursor::default(), now, self.host.random());
        cursor.manifests = Filter::new(u64::MAX, self.host.random());
        if let Some(place) = place {
            // The filter of earlier listings is lost, so each reason is checked.
            cursor.place = place;
        }
        let work = JobStep::new(self, allowance, true);
        let halt = self.go_on(&work, &mut cursor).await;
        if cursor.place == SweepPosition::Joins {
            cursor.place = SweepPosition::Rest;
        }
        let mut outcome = outcome(work, cursor.place);
        outcome.report.joined = JoinReport::rehearsed(&cursor.candidates);
        unless_failed(halt, outcome)
    }

    /// Walks the store as far as the allowance reaches. The cursor says where it ended, even after
    /// a failure.
    async fn go_on(&self, work: &JobStep<'_, P>, cursor: &mut SweepCursor) -> Option<Halt> {
        loop {
            let done = match &mut cursor.place {
                SweepPosition::Joins | SweepPosition::Rest => return None,
                SweepPosition::Retention { after } => work.retain(after).await,
                SweepPosition::Repositories { after } => {
                    let (manifests, inventory) = (&mut cursor.manifests, &mut cursor.inventory);
                    work.sweep_repositories(after, manifests, inventory).await
                }
                SweepPosition::Uploads { after } => {
                    work.sweep_uploads(after, &mut cursor.inventory).await
                }
                SweepPosition::Fills { after } => work.sweep_fills(after).await,
                SweepPosition::Blobs(place) => {
                    let (manifests, inventory) = (&cursor.manifests, &mut cursor.inventory);
                    let candidates = &mut cursor.candidates;
                    let swept = work.sweep_blobs(place, manifests, inventory, candidates);
                    swept.await
                }
            };
            if let Err(halt) = done {
                return Some(halt);
            }
            cursor.place = match cursor.place {
                SweepPosition::Retention { .. } => SweepPosition::Repositories { after: None },
                SweepPosition::Repositories { .. } => SweepPosition::Uploads { after: None },
                SweepPosition::Uploads { .. } => SweepPosition::Fills { after: None },
                SweepPosition::Fills { .. } => SweepPosition::Blobs(SweepBlobPosition::default()),
                SweepPosition::Blobs(_) => SweepPosition::Joins,
                SweepPosition::Joins | SweepPosition::Rest => return None,
            };
        }
    }
}

fn outcome<P: Platform>(
    step: JobStep<'_, P>,
    place: SweepPosition,
) -> StepOutcome<SweepReport, SweepPosition> {
    let (removals, operations) = step.into_report();
    StepOutcome {
        report: SweepReport {
            removals,
            joined: Vec::new(),
        },
        place,
        operations,
    }
}

/// How long a scheduled step takes.
const STEP: Duration = Duration::from_secs(20);

/// How many rounds begin in a grace period, at most.
const ROUNDS: u32 = 4;
