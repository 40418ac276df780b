//! What one request may spend on looking into layers: counted, so that it does not depend on a
//! clock.
//!
//! | what | at most |
//! |---|---|
//! | seeks in tables of contents | [`Limits::seeks`] |
//! | work: bytes compared, copied or unpacked | [`Limits::work`] |
//! | memory of what a lookup holds | [`Limits::held`], and that of each [`Shelf`] |
//!
//! A lookup that needs more fails. A page of a listing ends earlier, by [`Budget::is_page_spent`],
//! and the next page goes on. Other requests run in between: whoever spends asks
//! [`Budget::is_turn`].

use std::{cell::Cell, collections::BTreeMap, fmt, rc::Rc};

/// What one request may spend.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Seeks in tables of contents.
    pub seeks: u64,
    /// Bytes compared, copied or unpacked; see [`Budget::work`].
    pub work: u64,
    /// Bytes of memory for what a lookup holds and can't do without.
    pub held: usize,
}

impl Limits {
    /// The limits of a request. docs/access.md has the largest image that was tried, and what it
    /// needs of each.
    pub const REQUEST: Self = Self {
        seeks: 100_000,
        work: 512 << 20,
        held: 1 << 20,
    };

    /// No limits.
    pub const NONE: Self = Self {
        seeks: u64::MAX,
        work: u64::MAX,
        held: usize::MAX,
    };
}

/// What a request has spent. Clones share it.
#[derive(Clone, Debug)]
pub struct Budget(Rc<State>);

#[derive(Debug)]
struct State {
    limits: Limits,
    seeks: Cell<u64>,
    work: Cell<u64>,
    held: Cell<usize>,
    /// The work at which others had their last turn.
    turn: Cell<u64>,
}

/// A limit of a request that would be exceeded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Spent {
    /// So many seeks.
    Seeks(u64),
    /// So many bytes of work.
    Work(u64),
    /// So many bytes of memory.
    Held(usize),
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(Limits::REQUEST)
    }
}

impl Budget {
    /// A budget of which nothing is spent.
    pub fn new(limits: Limits) -> Self {
        Self(Rc::new(State {
            limits,
            seeks: Cell::default(),
            work: Cell::default(),
            held: Cell::default(),
            turn: Cell::default(),
        }))
    }

    /// The number of seeks so far.
    pub fn seeks(&self) -> u64 {
        self.0.seeks.get()
    }

    /// The bytes of work so far.
    pub fn worked(&self) -> u64 {
        self.0.work.get()
    }

    /// Counts a seek in a table of contents.
    pub fn seek(&self) -> Result<(), Spent> {
        let State { limits, seeks, .. } = &*self.0;
        if seeks.get() >= limits.seeks {
            return Err(Spent::Seeks(limits.seeks));
        }
        seeks.set(seeks.get() + 1);
        self.work(SEEK)
    }

    /// Counts bytes that are compared, copied or unpacked. What makes no seek costs processor time
    /// too.
    pub fn work(&self, bytes: usize) -> Result<(), Spent> {
        let State { limits, work, .. } = &*self.0;
        let total = work.get().saturating_add(bytes as u64);
        if total > limits.work {
            return Err(Spent::Work(limits.work));
        }
        work.set(total);
        Ok(())
    }

    /// Counts memory that is held until [`Budget::release`].
    pub fn hold(&self, bytes: usize) -> Result<(), Spent> {
        let State { limits, held, .. } = &*self.0;
        let total = held.get().saturating_add(bytes);
        if total > limits.held {
            return Err(Spent::Held(limits.held));
        }
        held.set(total);
        Ok(())
    }

    /// Counts memory that is held no longer.
    pub fn release(&self, bytes: usize) {
        self.0.held.set(self.0.held.get().saturating_sub(bytes));
    }

    /// Whether a page of a listing should end: what is left is for finding the directory again.
    pub fn is_page_spent(&self) -> bool {
        let Limits { seeks, work, .. } = self.0.limits;
        self.seeks() >= seeks / PAGE || self.worked() >= work / PAGE
    }

    /// Whether other requests should have their turn before this one goes on. Each turn is asked
    /// for once.
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
                write!(
                    f,
                    "more than {limit} bytes of tables of contents to go through"
                )
            }
            Self::Held(limit) => write!(f, "more than {limit} bytes of directories to remember"),
        }
    }
}

impl std::error::Error for Spent {}

/// Values that can be made again, kept while they fit into so many bytes. The newest always fits.
///
/// A victim is chosen at random: lookups go through the layers of an image from the highest to the
/// lowest, again and again, and with the least recently used as the victim such a scan finds
/// nothing that it left before.
#[derive(Debug)]
pub struct Shelf<K, V> {
    limit: usize,
    weight: usize,
    places: BTreeMap<K, usize>,
    values: Vec<(K, V, usize)>,
    state: u64,
}

impl<K: Clone + Ord, V: Clone> Shelf<K, V> {
    /// An empty shelf for so many bytes.
    pub const fn new(limit: usize) -> Self {
        Self {
            limit,
            weight: 0,
            places: BTreeMap::new(),
            values: Vec::new(),
            state: 0,
        }
    }

    /// The bytes of the values that are kept.
    pub const fn weight(&self) -> usize {
        self.weight
    }

    /// Answers a value that is kept.
    pub fn get(&self, key: &K) -> Option<V> {
        let (_, value, _) = self.values.get(*self.places.get(key)?)?;
        Some(value.clone())
    }

    /// Keeps a value of so many bytes, instead of others if there is no room.
    pub fn insert(&mut self, key: K, value: V, weight: usize) {
        if let Some(place) = self.places.get(&key) {
            self.remove(*place);
        }
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

    fn remove(&mut self, place: usize) {
        let (key, _, weight) = self.values.swap_remove(place);
        self.weight -= weight;
        self.places.remove(&key);
        if let Some((moved, ..)) = self.values.get(place) {
            self.places.insert(moved.clone(), place);
        }
    }
}

/// The work of a seek, beside the bytes that it compares and copies.
const SEEK: usize = 1024;
/// Others have their turn after so much work: some milliseconds, and at most 4,096 seeks.
const TURN: u64 = 4 << 20;
/// A page may take this part of a budget.
const PAGE: u64 = 4;

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    fn budget() -> Budget {
        Budget::new(Limits {
            seeks: 8,
            work: 100 * SEEK as u64,
            held: 10,
        })
    }

    #[test]
    fn ends_after_so_many_seeks() {
        let budget = budget();
        assert!((0..8).all(|_| budget.seek().is_ok()));
        assert_eq!(budget.seek(), Err(Spent::Seeks(8)));
        assert_eq!(budget.clone().seeks(), 8);
    }

    #[test]
    fn ends_after_so_much_work() {
        let budget = budget();
        budget.seek().unwrap();
        budget.work(99 * SEEK).unwrap();
        assert_eq!(budget.work(1), Err(Spent::Work(100 * SEEK as u64)));
        assert_eq!(budget.work(usize::MAX), Err(Spent::Work(100 * SEEK as u64)));
        budget.work(0).unwrap();
    }

    #[test]
    fn takes_memory_back() {
        let budget = budget();
        budget.hold(10).unwrap();
        assert_eq!(budget.hold(1), Err(Spent::Held(10)));
        budget.release(1);
        budget.hold(1).unwrap();
    }

    #[test]
    fn a_page_ends_with_a_part_of_it() {
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
    fn a_turn_comes_each_few_thousand_seeks() {
        let budget = Budget::default();
        let turns = (0..10_000).filter(|_| {
            budget.seek().unwrap();
            budget.is_turn()
        });
        assert_eq!(turns.count(), 2);
    }

    #[test]
    fn a_shelf_holds_no_more_than_its_limit() {
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
    fn a_shelf_keeps_a_part_of_what_is_scanned_again_and_again() {
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
