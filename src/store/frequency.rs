//! How often keys were read lately, about: what the choice of what goes into the warm tier is made by.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use crate::time::Timestamp;

/// An estimate of how often each key was read lately, in 32 KiB whatever the number of keys.
///
/// A count-min sketch of two generations. When a half-life has passed, or [`Frequency::GENERATION`] keys were touched, what
/// the older generation counted is halved, and the newer one is added to it. So what was touched since the last but one
/// change counts in full, which is everything within a half-life and as many touches, and what is older has faded.
///
/// Keys that meet in all rows count for each other, and an estimate is too high, never too low. The rows have no secret:
/// whoever looks for such keys can make one of them look popular, which reading it would do as well.
#[derive(Debug)]
pub struct Frequency {
    half_life: Duration,
    changed: Timestamp,
    touched: u32,
    /// Rows of counters, one after the other; none before the first touch, so that to make one costs nothing.
    newer: Vec<u8>,
    older: Vec<u8>,
}

impl Frequency {
    /// After how many touches what was counted fades, however short the time: three for four counters of a row. With as many
    /// different keys, 2 in 1,000 that were read once are taken for read three times; with a third more, 9.
    pub const GENERATION: u32 = 3 << (WIDTH - 2);

    /// Counts nothing yet, and forgets half of it in this time.
    pub const fn new(half_life: Duration) -> Self {
        Self {
            half_life,
            changed: Timestamp(0),
            touched: 0,
            newer: Vec::new(),
            older: Vec::new(),
        }
    }

    /// Counts an access, and answers the estimate with it.
    pub fn touch(&mut self, key: &str, now: Timestamp) -> u32 {
        if self.newer.is_empty() {
            self.newer = vec![0; ROWS << WIDTH];
            self.older = vec![0; ROWS << WIDTH];
            self.changed = now;
        }
        self.fade(now);
        if self.touched == Self::GENERATION {
            self.change();
            // A full half-life from now, or what is counted now could fade twice within one.
            self.changed = self.changed.max(now);
        }
        self.touched += 1;
        let places = places(key);
        let least = least(&self.newer, places);
        // Only the counters that are least must grow for the least to grow: the others are ahead by other keys' reads.
        for (row, place) in self.newer.chunks_exact_mut(1 << WIDTH).zip(places) {
            if let Some(counter) = row.get_mut(place)
                && *counter == least
            {
                *counter = counter.saturating_add(1);
            }
        }
        self.sum(places)
    }

    /// Answers the estimate without counting an access.
    pub fn estimate(&mut self, key: &str, now: Timestamp) -> u32 {
        self.fade(now);
        self.sum(places(key))
    }

    fn sum(&self, places: [usize; ROWS]) -> u32 {
        u32::from(least(&self.newer, places)) + u32::from(least(&self.older, places))
    }

    /// Changes generations once for each half-life that has passed.
    fn fade(&mut self, now: Timestamp) {
        let half_life = self.half_life.max(Duration::from_millis(1));
        let mut passed = now.since(self.changed);
        // What eight bits count has been halved to nothing by then.
        for _ in 0..=u8::BITS {
            if passed < half_life {
                return;
            }
            passed -= half_life;
            self.change();
            self.changed = self.changed + half_life;
        }
        if passed >= half_life {
            self.changed = now;
        }
    }

    fn change(&mut self) {
        self.touched = 0;
        for (older, newer) in self.older.iter_mut().zip(&mut self.newer) {
            *older = (*older / 2).saturating_add(*newer);
            *newer = 0;
        }
    }
}

/// The smallest of a key's counters, one of each row.
fn least(rows: &[u8], places: [usize; ROWS]) -> u8 {
    rows.chunks_exact(1 << WIDTH)
        .zip(places)
        .filter_map(|(row, place)| row.get(place).copied())
        .min()
        .unwrap_or(0)
}

/// Where a key is counted in each row.
fn places(key: &str) -> [usize; ROWS] {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    let [a, b, c, d, e, f, g, h] = hasher.finish().to_le_bytes();
    [[a, b], [c, d], [e, f], [g, h]]
        .map(|bytes| usize::from(u16::from_le_bytes(bytes)) & ((1 << WIDTH) - 1))
}

const ROWS: usize = 4;

/// A row has two to this many counters.
const WIDTH: u32 = 12;

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const START: Timestamp = Timestamp(1_700_000_000_000);

    #[test]
    fn counts_and_forgets() {
        let mut frequency = Frequency::new(HOUR);
        assert_eq!(frequency.estimate("a", START), 0);
        for n in 1..=8 {
            assert_eq!(frequency.touch("a", START), n);
        }
        assert_eq!(frequency.estimate("b", START), 0);
        for (hours, estimate) in [(0, 8), (1, 8), (2, 4), (3, 2), (4, 1), (5, 0)] {
            let now = START + HOUR * hours;
            assert_eq!(frequency.estimate("a", now), estimate, "after {hours} h");
        }
    }

    #[test]
    fn forgets_everything_in_a_long_time() {
        for hours in [9, 10, 1000] {
            let mut frequency = Frequency::new(HOUR);
            for _ in 0..2_000 {
                frequency.touch("a", START);
            }
            assert_eq!(
                frequency.estimate("a", START),
                255,
                "as far as a counter goes"
            );
            assert_eq!(frequency.estimate("a", START + HOUR * hours), 0);
            assert_eq!(frequency.touch("a", START + HOUR * hours), 1);
        }
    }

    #[test]
    fn takes_a_clock_that_goes_back() {
        let mut frequency = Frequency::new(HOUR);
        frequency.touch("a", START);
        assert_eq!(frequency.touch("a", Timestamp(0)), 2);
        assert_eq!(frequency.touch("a", START + HOUR), 3);
    }

    #[test]
    fn forgets_by_touches_as_well() {
        let mut frequency = Frequency::new(HOUR);
        for _ in 0..8 {
            frequency.touch("a", START);
        }
        for n in 0..2 * Frequency::GENERATION {
            frequency.touch(&n.to_string(), START);
        }
        assert!(frequency.estimate("a", START) < 8);
    }

    #[test]
    fn is_bounded() {
        let mut frequency = Frequency::new(HOUR);
        assert_eq!(frequency.newer.capacity(), 0);
        for n in 0..5_000 {
            frequency.touch(&n.to_string(), START + HOUR / 10 * n);
        }
        let held = frequency.newer.capacity() + frequency.older.capacity();
        assert_eq!(held, 32 * 1024);
    }

    #[test]
    fn takes_few_for_popular_that_are_not() {
        let mut frequency = Frequency::new(HOUR);
        let wrong = (0..20_000)
            .filter(|n| frequency.touch(&n.to_string(), START) >= 3)
            .count();
        assert!(
            wrong < 100,
            "{wrong} of 20,000 read once are taken for read three times"
        );
    }
}
