//! Cache policies, each with the same bound and the same weights.

use std::hash::{BuildHasherDefault, DefaultHasher};

use foyer_memory::{
    Cache, CacheBuilder, CacheProperties, EvictionConfig, LfuConfig, LruConfig, S3FifoConfig,
};
use quick_cache::{Weighter, unsync};
use strata::store::hot::Hot;

/// A hasher that is the same in every run.
type Hashing = BuildHasherDefault<DefaultHasher>;

/// A cache with its eviction policy.
pub trait Policy {
    /// Reads a value of this many bytes, and returns whether it was a hit; the policy decides
    /// whether it is kept.
    fn read(&mut self, key: &str, bytes: u64) -> bool;

    /// The weight of the cached values.
    fn bytes(&self) -> u64;
}

/// Makes an empty cache with this policy.
pub type Make = fn(bound: u64) -> Box<dyn Policy>;

/// Our policy, with its name.
pub const OURS: (&str, Make) = ("Hot", |bound| Box::new(Hot::new(bound)));

/// The policies that ours is compared with.
pub const OTHERS: &[(&str, Make)] = &[
    ("LRU (foyer)", |bound| foyer(bound, LruConfig::default())),
    ("S3-FIFO (foyer)", |bound| {
        foyer(bound, S3FifoConfig::default())
    }),
    ("W-TinyLFU (foyer)", |bound| {
        foyer(bound, LfuConfig::default())
    }),
];

/// Policies that could have replaced ours.
pub const CANDIDATES: &[(&str, Make)] = &[("CLOCK-Pro (quick_cache)", |bound| quick(bound))];

impl Policy for Hot<u64> {
    fn read(&mut self, key: &str, bytes: u64) -> bool {
        let hit = self.get(key).is_some();
        if !hit {
            self.insert(key, bytes, bytes);
        }
        hit
    }

    fn bytes(&self) -> u64 {
        Self::bytes(self)
    }
}

struct Foyer(Cache<String, u64, Hashing>);

fn foyer(bound: u64, eviction: impl Into<EvictionConfig>) -> Box<dyn Policy> {
    let cache = CacheBuilder::new(usize::try_from(bound).unwrap_or(usize::MAX))
        .with_shards(1)
        .with_hash_builder(Hashing::default())
        .with_eviction_config(eviction)
        .with_weighter(|key: &String, bytes: &u64| {
            usize::try_from(weight(key, *bytes)).unwrap_or(usize::MAX)
        })
        .build::<CacheProperties>();
    Box::new(Foyer(cache))
}

impl Policy for Foyer {
    fn read(&mut self, key: &str, bytes: u64) -> bool {
        let hit = self.0.get(key).is_some();
        if !hit {
            self.0.insert(key.to_owned(), bytes);
        }
        hit
    }

    fn bytes(&self) -> u64 {
        self.0.usage() as u64
    }
}

struct Quick(unsync::Cache<String, u64, Weight, Hashing>);

struct Weight;

impl Weighter<String, u64> for Weight {
    fn weight(&self, key: &String, bytes: &u64) -> u64 {
        weight(key, *bytes)
    }
}

/// A cache with as many ghosts as [`Hot`] has: half of the expected entries.
fn quick(bound: u64) -> Box<dyn Policy> {
    let entries = usize::try_from(bound / (32 * 1024)).unwrap_or(usize::MAX);
    let lifecycle = unsync::DefaultLifecycle::default();
    Box::new(Quick(unsync::Cache::with(
        entries,
        bound,
        Weight,
        Hashing::default(),
        lifecycle,
    )))
}

impl Policy for Quick {
    fn read(&mut self, key: &str, bytes: u64) -> bool {
        let hit = self.0.get(key).is_some();
        if !hit {
            self.0.insert(key.to_owned(), bytes);
        }
        hit
    }

    fn bytes(&self) -> u64 {
        self.0.weight()
    }
}

/// The weight of a value, as [`Hot`] counts it.
const fn weight(key: &str, bytes: u64) -> u64 {
    bytes + key.len() as u64 + Hot::<u64>::OVERHEAD
}
