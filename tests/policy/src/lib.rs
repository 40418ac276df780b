//! The policies of the hot and the warm tier, compared with others on random traffic.
//!
//! One isolate of [`BOUND`] bytes answers [`traffic::READS`] reads, ten a second, of digests whose
//! popularity follows Zipf's law. In the middle, a scan reads as many other digests once. [`Hot`]
//! and other policies get the same reads; [`Frequency`] decides which values are written to the
//! warm tier.
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

/// How often a value must have been read recently to be written to the warm tier.
pub const THRESHOLD: u32 = 3;

/// How long the warm tier keeps a value.
const RETENTION: Duration = Duration::from_secs(24 * 3600);

/// The half-life of a read in the count for the warm tier.
const HALF_LIFE: Duration = Duration::from_secs(3600);

/// The time between two reads.
const PACE: Duration = Duration::from_millis(100);

/// The results of a policy. Reads of the scan count in no ratio: none of them could be a hit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Before the scan.
    pub before: Ratio,
    /// During the scan.
    pub during: Ratio,
    /// After the scan.
    pub after: Ratio,
    /// The most bytes that the policy held after any read.
    pub peak: u64,
}

/// The share of reads that memory answered.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ratio {
    reads: u64,
    hits: u64,
    bytes: u64,
    hit_bytes: u64,
}

impl Ratio {
    /// The share of the reads, in percent.
    pub fn requests(self) -> f64 {
        100.0 * self.hits as f64 / self.reads as f64
    }

    /// The share of the bytes that were read, in percent.
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
    /// All reads except those of the scan.
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

/// The writes to the warm tier.
#[derive(Clone, Copy, Debug, Default)]
pub struct Writes {
    /// Values that were written.
    pub all: u64,
    /// Values that only the scan had read.
    pub wasted: u64,
}

impl Writes {
    /// The writes in a thousand reads.
    pub fn per_mille(self) -> f64 {
        1000.0 * self.all as f64 / traffic::READS as f64
    }
}

/// Counts the writes to the warm tier: of values that were read for the third time recently, and
/// that are not there already.
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
