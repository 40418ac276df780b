//! The policy of the hot and the warm tier, beside others, on traffic at random.
//!
//! One isolate of [`BOUND`] bytes answers [`traffic::READS`] reads, ten a second, of digests that are as popular as Zipf's
//! law says; in the middle, as many others are read once. [`Hot`] and other policies are asked the same; and
//! [`Frequency`] says which values are written to the warm tier.
//!
//! [`Hot`]: strata::store::hot::Hot

#![expect(
    clippy::indexing_slicing,
    reason = "the indices of traffic are of its own values"
)]

use std::{collections::BTreeMap, time::Duration};

use strata::{store::frequency::Frequency, time::Timestamp};

use crate::{
    policy::Make,
    traffic::{Phase, Traffic, Value},
};

pub mod policy;
pub mod traffic;

/// The bytes that a policy may hold.
pub const BOUND: u64 = 32 * 1024 * 1024;

/// How often a value must have been read lately to be written to the warm tier.
pub const THRESHOLD: u32 = 3;

/// How long the warm tier keeps what was written.
const RETENTION: Duration = Duration::from_secs(24 * 3600);

/// How long half of a read counts for the warm tier.
const HALF_LIFE: Duration = Duration::from_secs(3600);

/// The time between two reads.
const PACE: Duration = Duration::from_millis(100);

/// How a policy fared. Reads of the scan are no part of any ratio: none of them could be a hit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Before the scan.
    pub before: Ratio,
    /// During the scan.
    pub during: Ratio,
    /// After it.
    pub after: Ratio,
    /// The most bytes that were held after any read.
    pub peak: u64,
}

/// What part of reads was answered from memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ratio {
    reads: u64,
    hits: u64,
    bytes: u64,
    hit_bytes: u64,
}

impl Ratio {
    /// Of the reads, in percent.
    pub fn requests(self) -> f64 {
        100.0 * self.hits as f64 / self.reads as f64
    }

    /// Of the bytes that were read, in percent.
    pub fn bytes(self) -> f64 {
        100.0 * self.hit_bytes as f64 / self.bytes as f64
    }

    fn count(&mut self, bytes: u64, hit: bool) {
        self.reads += 1;
        self.bytes += bytes;
        if hit {
            self.hits += 1;
            self.hit_bytes += bytes;
        }
    }
}

impl std::ops::Add for Ratio {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            reads: self.reads + other.reads,
            hits: self.hits + other.hits,
            bytes: self.bytes + other.bytes,
            hit_bytes: self.hit_bytes + other.hit_bytes,
        }
    }
}

impl Figures {
    /// All but the scan.
    pub fn all(&self) -> Ratio {
        self.before + self.during + self.after
    }
}

/// Reads everything through a policy.
pub fn simulate(traffic: &Traffic, make: Make) -> Figures {
    let mut policy = make(BOUND);
    let mut figures = Figures::default();
    for (value, phase) in &traffic.reads {
        let Value { key, bytes } = &traffic.values[*value];
        let hit = policy.read(key, *bytes);
        figures.peak = figures.peak.max(policy.bytes());
        match phase {
            Phase::Before => figures.before.count(*bytes, hit),
            Phase::During => figures.during.count(*bytes, hit),
            Phase::After => figures.after.count(*bytes, hit),
            Phase::Scan => {}
        }
    }
    figures
}

/// What is written to the warm tier.
#[derive(Clone, Copy, Debug, Default)]
pub struct Writes {
    /// Values that were written.
    pub all: u64,
    /// Those of them that nothing but the scan had read.
    pub wasted: u64,
}

impl Writes {
    /// In a thousand reads.
    pub fn per_mille(self) -> f64 {
        1000.0 * self.all as f64 / traffic::READS as f64
    }
}

/// Counts what is written to the warm tier: what is read for the third time lately, if it is not there already.
pub fn writes(traffic: &Traffic) -> Writes {
    let mut frequency = Frequency::new(HALF_LIFE);
    let mut written: BTreeMap<usize, Timestamp> = BTreeMap::new();
    let mut now = Timestamp(1_700_000_000_000);
    let mut writes = Writes::default();
    for (value, phase) in &traffic.reads {
        now = now + PACE;
        let is_popular = frequency.touch(&traffic.values[*value].key, now) >= THRESHOLD;
        let is_due = written
            .get(value)
            .is_none_or(|at| now.since(*at) >= RETENTION);
        if is_popular && is_due {
            written.insert(*value, now);
            writes.all += 1;
            writes.wasted += u64::from(*phase == Phase::Scan);
        }
    }
    writes
}
