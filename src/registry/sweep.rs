//! The sweep: what nobody refers to any more is removed, while everybody goes on.
//!
//! It goes through the store in the order of its keys, in rounds, and each round in steps that are as long as a request may
//! take. Where a step ended is stored. Listings that have the same order are read side by side, so that what is in use costs a part of
//! one operation in a thousand keys. They only nominate: what they have shown to be of no use is looked at again by the exact steps of the
//! removal protocol (`retention`, `holdings`, `chains`, `blobs`), whose order is what keeps two sweeps, and all who push meanwhile, apart.
//!
//! ```text
//! retention   catalog/                                        tags and manifests go that no policy keeps
//! holdings    repositories/                                   what repositories have: referrers without a manifest go
//! chains      uploads/  extents/                              uploads that were given up, extents that are no upload's
//! fills       fills/                                          hints at fills that nobody goes on with
//! blobs       refs/  blobs/  sweep/marks/  layers/            grants without a reason, links without grants, blobs without grants
//! ```

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    time::Duration,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    error::Error,
    host::Host,
    registry::Registry,
    store::{Condition, Meta, Streams, Values, key::Key},
    time::Timestamp,
    upload::UploadId,
};

use self::{
    filter::Filter,
    inventory::Inventory,
    work::{Halt, Report, Work},
};

mod blobs;
mod chains;
mod endpoint;
mod fills;
mod filter;
mod holdings;
pub(super) mod inventory;
pub(super) mod retention;
mod scrub;
mod work;

/// How far the sweep has come: what is stored between two steps.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Cursor {
    /// When this round began, or the next one may.
    time: Timestamp,
    place: Place,
    /// The manifests that were stored when this round listed them.
    manifests: Filter,
    /// What there is, as far as this round has come.
    inventory: Inventory,
}

/// Where in a round the sweep is.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "phase")]
enum Place {
    /// Between two rounds.
    #[default]
    Rest,
    /// After this key of `catalog/`.
    Retention { after: Option<Key> },
    /// After this key of `repositories/`.
    Holdings { after: Option<Key> },
    /// After this upload.
    Chains { after: Option<UploadId> },
    /// After this key of `fills/`.
    Fills { after: Option<Key> },
    /// Among blobs.
    Blobs(blobs::Place),
}

impl Place {
    const fn name(&self) -> &'static str {
        match self {
            Self::Rest => "rest",
            Self::Retention { .. } => "retention",
            Self::Holdings { .. } => "holdings",
            Self::Chains { .. } => "chains",
            Self::Fills { .. } => "fills",
            Self::Blobs(_) => "blobs",
        }
    }
}

/// What a step of the sweep may take.
#[derive(Clone, Copy, Debug)]
struct Allowance {
    /// Operations of the store.
    operations: u32,
    /// Time.
    time: Duration,
    /// Removals, after which nothing else is begun.
    removals: u64,
}

/// What came of a step.
#[derive(Debug)]
struct Outcome {
    report: Report,
    /// Whether the round has come to its end.
    is_finished: bool,
    /// Where the next step begins.
    place: Place,
    operations: u32,
}

/// Operations that are kept back for deleting what was found last, and for storing how far the sweep has come.
const RESERVE: u32 = 6;

impl<S: Streams, W: Values<Bytes = S::Bytes>, H: Host<Body = S::Body>> Registry<S, W, H> {
    /// What is due of the sweep: the next step of a round, or the first of one when the last was long enough ago.
    pub(super) async fn sweep_due(&self) -> Result<(), Error> {
        let allowance = Allowance {
            // The platform counts what else is due by the clock as well.
            operations: self.settings.subrequests / 2,
            time: STEP,
            removals: u64::MAX,
        };
        self.sweep(allowance, true).await.map(|_| ())
    }

    /// Does a step of the sweep. Where `if_due`, a round begins only some time after the last.
    async fn sweep(&self, allowance: Allowance, if_due: bool) -> Result<Option<Outcome>, Error> {
        let (mut cursor, stored): (Cursor, _) = self.read_cursor(&Key::SweepCursor).await?;
        let now = self.host.now();
        if cursor.place == Place::Rest {
            if if_due && now < cursor.time {
                return Ok(None);
            }
            cursor = Cursor::begin(&cursor, now, self.host.random());
        }
        let work = Work::new(self, allowance, false);
        let halt = self.go_on(&work, &mut cursor).await;
        if cursor.place == Place::Rest {
            cursor.time = now + self.settings.grace / ROUNDS;
            self.store_inventory(&cursor.inventory).await?;
        }
        let mut etag = stored.map(|meta| meta.etag);
        self.store_cursor(&Key::SweepCursor, &cursor, &mut etag)
            .await?;
        match halt {
            Some(Halt::Failed(error)) => Err(error),
            Some(Halt::Spent) | None => Ok(Some(work.outcome(cursor.place))),
        }
    }

    /// Reads how far a sweep has come. What another version has written is begun anew.
    async fn read_cursor<C: Default + DeserializeOwned>(
        &self,
        key: &Key,
    ) -> Result<(C, Option<Meta>), Error> {
        let Some((meta, text)) = self.store.text(key).await? else {
            return Ok((C::default(), None));
        };
        let cursor = serde_json::from_str(&text).unwrap_or_default();
        Ok((cursor, Some(meta)))
    }

    /// Stores how far a sweep has come. Where another one was quicker, that one's place counts: what was done here is done.
    async fn store_cursor(
        &self,
        key: &Key,
        cursor: &impl Serialize,
        etag: &mut Option<String>,
    ) -> Result<(), Error> {
        let condition = match etag {
            Some(etag) => Condition::Matches(etag),
            None => Condition::Absent,
        };
        if let Some(meta) = self.store.put_document(key, cursor, condition).await? {
            *etag = Some(meta.etag);
        }
        Ok(())
    }

    /// Tells what the sweep would do from a place on, and writes nothing.
    async fn rehearse(&self, allowance: Allowance, place: Option<Place>) -> Result<Outcome, Error> {
        let now = self.host.now();
        let mut cursor = Cursor::begin(&Cursor::default(), now, self.host.random());
        cursor.manifests = Filter::new(u64::MAX, self.host.random());
        if let Some(place) = place {
            // What was listed before is forgotten: each reason is looked at.
            cursor.place = place;
        }
        let work = Work::new(self, allowance, true);
        match self.go_on(&work, &mut cursor).await {
            Some(Halt::Failed(error)) => Err(error),
            Some(Halt::Spent) | None => Ok(work.outcome(cursor.place)),
        }
    }

    /// Goes through the store, as far as the allowance reaches. Whatever ends it, the cursor is where it ended.
    async fn go_on(&self, work: &Work<'_, S, W, H>, cursor: &mut Cursor) -> Option<Halt> {
        loop {
            let done = match &mut cursor.place {
                Place::Rest => return None,
                Place::Retention { after } => work.retain(after).await,
                Place::Holdings { after } => {
                    let (manifests, inventory) = (&mut cursor.manifests, &mut cursor.inventory);
                    work.sweep_holdings(after, manifests, inventory).await
                }
                Place::Chains { after } => work.sweep_chains(after, &mut cursor.inventory).await,
                Place::Fills { after } => work.sweep_fills(after).await,
                Place::Blobs(place) => {
                    let (manifests, inventory) = (&cursor.manifests, &mut cursor.inventory);
                    work.sweep_blobs(place, manifests, inventory).await
                }
            };
            if let Err(halt) = done {
                return Some(halt);
            }
            cursor.place = match cursor.place {
                Place::Retention { .. } => Place::Holdings { after: None },
                Place::Holdings { .. } => Place::Chains { after: None },
                Place::Chains { .. } => Place::Fills { after: None },
                Place::Fills { .. } => Place::Blobs(blobs::Place::default()),
                Place::Blobs(_) | Place::Rest => Place::Rest,
            };
        }
    }
}

impl Cursor {
    /// The beginning of a round.
    fn begin(last: &Self, now: Timestamp, seed: [u8; 16]) -> Self {
        Self {
            time: now,
            place: Place::Retention { after: None },
            manifests: Filter::new(last.inventory.manifests, seed),
            inventory: Inventory {
                began: now,
                ..Inventory::default()
            },
        }
    }
}

/// How long a step by the clock takes.
const STEP: Duration = Duration::from_secs(20);

/// How many rounds begin in a grace period, at most.
const ROUNDS: u32 = 4;
