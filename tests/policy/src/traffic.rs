//! Traffic: the sequence of reads, the same in every run.

use std::ops::Range;

/// How the popularity of digests is spread.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// The exponent of Zipf's law: the digest of rank n is read as often as 1 / n to this power.
    pub exponent: f64,
    /// The number of reads after which a new digest takes the first rank, and each other digest the
    /// next one; zero for never.
    pub drift: usize,
    /// The number of other digests that every fourth read takes in turn, once memory is full.
    pub cycle: usize,
}

/// All simulated scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "Zipf 0.9",
        exponent: 0.9,
        drift: 0,
        cycle: 0,
    },
    Scenario {
        name: "Zipf 1.1",
        exponent: 1.1,
        drift: 0,
        cycle: 0,
    },
    Scenario {
        name: "Zipf 0.9, drifting",
        exponent: 0.9,
        drift: 500,
        cycle: 0,
    },
    Scenario {
        name: "Zipf 1.1 and 200 in turn",
        exponent: 1.1,
        drift: 0,
        cycle: 200,
    },
];

/// The number of reads.
pub const READS: usize = 1_000_000;

/// The number of digests that are read by popularity; the scan reads as many others once.
pub const DIGESTS: usize = 100_000;

/// The reads of the scan: every other read belongs to it until it is through.
const SCAN: Range<usize> = 400_000..400_000 + 2 * DIGESTS;

/// The read at which memory is full.
const CYCLE: usize = 100_000;

/// All reads of a scenario, in their order.
#[derive(Debug)]
pub struct Traffic {
    /// The values.
    pub values: Vec<Value>,
    /// The reads: the index of the value, and the phase.
    pub reads: Vec<(usize, Phase)>,
}

/// The object of a digest.
#[derive(Debug)]
pub struct Value {
    /// Its key in every tier.
    pub key: String,
    /// How many bytes it has.
    pub bytes: u64,
}

/// The time of a read in relation to the scan.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Phase {
    /// Before the scan.
    Before,
    /// During the scan, but not a part of it.
    During,
    /// A read of the scan.
    Scan,
    /// After the scan.
    After,
}

impl Traffic {
    /// Makes the traffic of a scenario.
    pub fn new(scenario: Scenario) -> Self {
        let mut total = 0.0;
        let ranks: Vec<f64> = (1..=DIGESTS)
            .map(|rank| {
                total += (rank as f64).powf(-scenario.exponent);
                total
            })
            .collect();
        let popular = |n: usize| {
            if scenario.cycle > 0 && n >= CYCLE && n % 4 == 3 {
                return 2 * DIGESTS + n / 4 % scenario.cycle;
            }
            let share = (random(n) >> 11) as f64 / (1_u64 << 53) as f64;
            let rank = ranks.partition_point(|sum| *sum <= share * total);
            let age = n.checked_div(scenario.drift).unwrap_or(0);
            (rank + DIGESTS - age % DIGESTS) % DIGESTS
        };
        let read = |n: usize| match n {
            n if n < SCAN.start => (popular(n), Phase::Before),
            n if n >= SCAN.end => (popular(n), Phase::After),
            n if n % 2 == 1 => (popular(n), Phase::During),
            n => (DIGESTS + (n - SCAN.start) / 2, Phase::Scan),
        };
        Self {
            values: (0..2 * DIGESTS + scenario.cycle).map(Value::new).collect(),
            reads: (0..READS).map(read).collect(),
        }
    }
}

impl Value {
    fn new(digest: usize) -> Self {
        let [a, b, c, d] = [0, 1, 2, 3].map(|n| random(digest * 4 + n));
        Self {
            key: format!("blobs/sha256/{a:016x}{b:016x}{c:016x}{d:016x}"),
            bytes: size(random(usize::MAX - digest)),
        }
    }
}

/// One value in two is a manifest of 1 to 8 KiB. The others are small blobs of 1 KiB to 1 MiB, as
/// many in each octave.
const fn size(random: u64) -> u64 {
    let (choice, octave, random) = (random % 2, (random >> 1) % 10, random >> 8);
    match choice {
        0 => 1024 + random % (7 * 1024),
        _ => (1024 << octave) + random % (1024 << octave),
    }
}

/// A pseudo-random number for each number (SplitMix64).
const fn random(n: usize) -> u64 {
    let z = (n as u64)
        .wrapping_add(1)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
