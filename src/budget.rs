//! The budget of one request for lookups in layers. It counts seeks and bytes, so that limits don't
//! depend on a clock.
//!
//! | resource | limit |
//! |---|---|
//! | seeks in tables of contents | [`LookupLimits::seeks`] |
//! | work: bytes compared, copied or decompressed | [`LookupLimits::work`] |
//! | memory that a lookup can't evict | [`LookupLimits::held`] |
//! | memory of caches | that of each cache, and [`Budget::cache`] only counts it |
//!
//! A lookup that needs more fails. A page of a listing ends earlier, if [`Budget::is_page_spent`],
//! and the next page resumes there. A caller that does work yields to other requests whenever
//! [`Budget::is_turn`].
//!
//! To add a limit: a field of [`LookupLimits`] with its value in [`LookupLimits::REQUEST`], a
//! counter in `BudgetState`, a variant of [`Spent`] with its text, and a row of the table in
//! docs/limits.md.

use std::{cell::Cell, collections::BTreeMap, fmt, rc::Rc};

/// The limits of one request for lookups in layers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LookupLimits {
    /// The most seeks in tables of contents.
    pub seeks: u64,
    /// The most bytes that are compared, copied or decompressed; see [`Budget::work`].
    pub work: u64,
    /// The most bytes of memory that a lookup must hold, and can't evict: the sources of
    /// directories on the way, and the next name of each source of a listing.
    pub held: usize,
}

impl LookupLimits {
    /// The limits of a request. docs/limits.md has the largest image that was tested, and how much
    /// of each limit it needs.
    pub const REQUEST: Self = Self {
        seeks: 100_000,
        work: 512 << 20,
        held: 1 << 20,
    };

    /// No limits, for programs that read only their own layers.
    pub const NONE: Self = Self {
        seeks: u64::MAX,
        work: u64::MAX,
        held: usize::MAX,
    };
}

/// The spent and the remaining budget of a request. Clones share the counters.
#[derive(Clone, Debug)]
pub struct Budget(Rc<BudgetState>);

#[derive(Debug)]
struct BudgetState {
    limits: LookupLimits,
    seeks: Cell<u64>,
    work: Cell<u64>,
    held: Cell<usize>,
    cached: Cell<usize>,
    /// The work that was done when the request last yielded.
    turn: Cell<u64>,
}

/// The limit that a request would exceed, with its value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Spent {
    /// [`LookupLimits::seeks`], a number of seeks.
    Seeks(u64),
    /// [`LookupLimits::work`], in bytes.
    Work(u64),
    /// [`LookupLimits::held`], in bytes.
    Held(usize),
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(LookupLimits::REQUEST)
    }
}

impl Budget {
    /// Makes an unspent budget with these limits.
    pub fn new(limits: LookupLimits) -> Self {
        Self(Rc::new(BudgetState {
            limits,
            seeks: Cell::default(),
            work: Cell::default(),
            held: Cell::default(),
            cached: Cell::default(),
            turn: Cell::default(),
        }))
    }

    /// The number of seeks that were counted.
    pub fn seeks(&self) -> u64 {
        self.0.seeks.get()
    }

    /// The bytes of work that were counted, including 1,024 for each seek.
    pub fn worked(&self) -> u64 {
        self.0.work.get()
    }

    /// Counts a seek in a table of contents, and 1,024 bytes of work for it.
    ///
    /// # Errors
    ///
    /// [`Spent::Seeks`] or [`Spent::Work`] if the limit would be exceeded.
    pub fn seek(&self) -> Result<(), Spent> {
        let BudgetState { limits, seeks, .. } = &*self.0;
        if seeks.get() >= limits.seeks {
            return Err(Spent::Seeks(limits.seeks));
        }
        seeks.set(seeks.get() + 1);
        self.work(SEEK)
    }

    /// Counts bytes that are compared, copied or decompressed: they cost CPU without a seek.
    ///
    /// # Errors
    ///
    /// [`Spent::Work`] if the limit would be exceeded. The bytes are not counted then.
    pub fn work(&self, bytes: usize) -> Result<(), Spent> {
        let BudgetState { limits, work, .. } = &*self.0;
        let total = work.get().saturating_add(bytes as u64);
        if total > limits.work {
            return Err(Spent::Work(limits.work));
        }
        work.set(total);
        Ok(())
    }

    /// Counts memory that the lookup holds until [`Budget::release`], in bytes.
    ///
    /// # Errors
    ///
    /// [`Spent::Held`] if the limit would be exceeded. The bytes are not counted then.
    pub fn hold(&self, bytes: usize) -> Result<(), Spent> {
        let BudgetState { limits, held, .. } = &*self.0;
        let total = held.get().saturating_add(bytes);
        if total > limits.held {
            return Err(Spent::Held(limits.held));
        }
        held.set(total);
        Ok(())
    }

    /// Returns bytes that were counted by [`Budget::hold`].
    pub fn release(&self, bytes: usize) {
        self.0.held.set(self.0.held.get().saturating_sub(bytes));
    }

    /// Counts memory that has a limit elsewhere, in bytes: cached answers, and the entries of a
    /// page.
    pub fn cache(&self, bytes: usize) {
        self.0.cached.set(self.0.cached.get().saturating_add(bytes));
    }

    /// Returns bytes that were counted by [`Budget::cache`].
    pub fn evict(&self, bytes: usize) {
        self.0.cached.set(self.0.cached.get().saturating_sub(bytes));
    }

    /// The bytes of memory in use: held and cached ones.
    pub fn memory(&self) -> usize {
        self.0.held.get().saturating_add(self.0.cached.get())
    }

    /// Whether a page of a listing should end. The rest of the budget is reserved: the next page
    /// must find the directory again before it lists.
    pub fn is_page_spent(&self) -> bool {
        let LookupLimits { seeks, work, .. } = self.0.limits;
        self.seeks() >= seeks / PAGE || self.worked() >= work / PAGE
    }

    /// Whether this request should yield to others before it goes on. True once per turn.
    pub fn is_turn(&self) -> bool {
        let is_turn = self.worked() - self.0.turn.get() >= TURN;
        if is_turn {
            self.0.turn.set(self.worked());
        }
        is_turn
    }
}

impl fmt::Display for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seeks(limit) => write!(f, "more than {limit} seeks in tables of contents"),
            Self::Work(limit) => {
                write!(f, "more than {limit} bytes of work on tables of contents")
            }
            Self::Held(limit) => write!(f, "more than {limit} bytes of memory for directories"),
        }
    }
}

impl std::error::Error for Spent {}

/// A cache bounded in bytes. The newest value always fits.
///
/// The evicted value is chosen at random. Lookups scan the layers of an image from the highest to
/// the lowest, again and again. With LRU eviction, every read of such a scan is a miss.
#[doc(hidden)]
#[derive(Debug)]
pub struct Shelf<K, V> {
    limit: usize,
    weight: usize,
    places: BTreeMap<K, usize>,
    values: Vec<(K, V, usize)>,
    state: u64,
}

impl<K: Clone + Ord, V: Clone> Shelf<K, V> {
    /// Makes an empty cache with a limit in bytes.
    pub const fn new(limit: usize) -> Self {
        Self {
            limit,
            weight: 0,
            places: BTreeMap::new(),
            values: Vec::new(),
            state: 0,
        }
    }

    /// The bytes of the cached values, as they were inserted.
    pub const fn weight(&self) -> usize {
        self.weight
    }

    /// Returns a copy of a cached value.
    pub fn get(&self, key: &K) -> Option<V> {
        let (_, value, _) = self.values.get(*self.places.get(key)?)?;
        Some(value.clone())
    }

    /// Caches a value of `weight` bytes, and evicts others if it doesn't fit.
    pub fn insert(&mut self, key: K, value: V, weight: usize) {
        self.evict(&key);
        while !self.values.is_empty() && self.weight.saturating_add(weight) > self.limit {
            // The constants are those of Knuth's MMIX.
            self.state = self
                .state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let random = usize::try_from(self.state >> 33).unwrap_or_default();
            self.remove(random % self.values.len());
        }
        self.weight = self.weight.saturating_add(weight);
        self.places.insert(key.clone(), self.values.len());
        self.values.push((key, value, weight));
    }

    /// Removes a value, if it is cached.
    pub fn evict(&mut self, key: &K) {
        if let Some(place) = self.places.get(key) {
            self.remove(*place);
        }
    }

    fn remove(&mut self, place: usize) {
        let (key, _, weight) = self.values.swap_remove(place);
        self.weight -= weight;
        self.places.remove(&key);
        if let Some((moved, ..)) = self.values.get(place) {
            self.places.insert(moved.clone(), place);
        }
    }
}

/// The work of a seek, in addition to the bytes that it compares and copies.
const SEEK: usize = 1024;
/// A request yields after this much work: some milliseconds, and at most 4,096 seeks.
const TURN: u64 = 4 << 20;
/// A page ends after this share of the budget, as a divisor.
const PAGE: u64 = 4;

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    fn budget() -> Budget {
        Budget::new(LookupLimits {
            seeks: 8,
            work: 100 * SEEK as u64,
            held: 10,
        })
    }

    #[test]
    fn the_budget_limits_seeks() {
        let budget = budget();
        assert!((0..8).all(|_| budget.seek().is_ok()));
        assert_eq!(budget.seek(), Err(Spent::Seeks(8)));
        assert_eq!(budget.clone().seeks(), 8);
    }

    #[test]
    fn the_budget_limits_work() {
        let budget = budget();
        budget.seek().unwrap();
        budget.work(99 * SEEK).unwrap();
        assert_eq!(budget.work(1), Err(Spent::Work(100 * SEEK as u64)));
        assert_eq!(budget.work(usize::MAX), Err(Spent::Work(100 * SEEK as u64)));
        budget.work(0).unwrap();
    }

    #[test]
    fn released_memory_returns_to_the_budget() {
        let budget = budget();
        budget.hold(10).unwrap();
        assert_eq!(budget.hold(1), Err(Spent::Held(10)));
        budget.release(1);
        budget.hold(1).unwrap();
    }

    #[test]
    fn a_listing_page_spends_only_a_part_of_the_budget() {
        let by_seeks = budget();
        by_seeks.seek().unwrap();
        assert!(!by_seeks.is_page_spent());
        by_seeks.seek().unwrap();
        assert!(by_seeks.is_page_spent());
        let by_work = budget();
        by_work.work(25 * SEEK).unwrap();
        assert!(by_work.is_page_spent());
    }

    #[test]
    fn a_lookup_yields_every_few_thousand_seeks() {
        let budget = Budget::default();
        let turns = (0..10_000).filter(|_| {
            budget.seek().unwrap();
            budget.is_turn()
        });
        assert_eq!(turns.count(), 2);
    }

    #[test]
    fn a_shelf_holds_its_limit_or_one_heavier_value() {
        let mut shelf = Shelf::new(100);
        for number in 0..1_000 {
            shelf.insert(number, number, 1 + number % 30);
            assert!(shelf.weight() <= 100);
            assert_eq!(shelf.get(&number), Some(number));
        }
        let kept = (0..1_000).filter_map(|number| shelf.get(&number));
        assert_eq!(
            kept.map(|number| 1 + number % 30).sum::<usize>(),
            shelf.weight()
        );
        shelf.insert(0, 1, 500);
        shelf.insert(0, 2, 501);
        assert_eq!((shelf.weight(), shelf.get(&0)), (501, Some(2)));
    }

    #[test]
    fn a_shelf_still_hits_under_repeated_scans() {
        let mut shelf = Shelf::new(50);
        let mut hits = 0;
        for number in (0..100).cycle().take(10_000) {
            if shelf.get(&number).is_some() {
                hits += 1;
            } else {
                shelf.insert(number, (), 1);
            }
        }
        assert!(hits > 1_500, "{hits}");
    }
}
