//! Approximate counts of recent reads by key, which decide the promotions to the warm tier.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use crate::time::Timestamp;

/// An estimate of the recent reads of each key, in 32 KiB for any number of keys.
///
/// It is a count-min sketch of two generations. They change when a half-life has passed, or when
/// [`Frequency::GENERATION`] touches were counted. Then the older counts are halved, and the newer
/// ones are added to them. So touches since the last change but one count in full. These are all
/// touches within a half-life, up to that number. Older ones have faded.
///
/// Keys that share counters in all rows count for each other, so an estimate is too high, never too
/// low. The rows have no secret. A client that finds such keys can make one of them look popular,
/// but so can it by reading that key.
#[derive(Debug)]
pub struct Frequency {
    half_life: Duration,
    changed: Timestamp,
    touched: u32,
    /// Rows of counters, one after the other. Empty before the first touch, so that making one
    /// costs nothing.
    newer: Vec<u8>,
    older: Vec<u8>,
}

impl Frequency {
    /// The touches after which counts fade, however short the time: three for four counters of a
    /// row. With as many different keys, 2 in 1,000 that were read once are taken for read three
    /// times. With a third more keys, it is 9.
    pub const GENERATION: u32 = 3 << (WIDTH - 2);

    /// Makes empty counts that are halved after this time.
    pub const fn new(half_life: Duration) -> Self {
        Self {
            half_life,
            changed: Timestamp(0),
            touched: 0,
            newer: Vec::new(),
            older: Vec::new(),
        }
    }

    /// Counts a read, and returns the estimate with it.
    pub fn touch(&mut self, key: &str, now: Timestamp) -> u32 {
        if self.newer.is_empty() {
            self.newer = vec![0; ROWS << WIDTH];
            self.older = vec![0; ROWS << WIDTH];
            self.changed = now;
        }
        self.fade(now);
        if self.touched == Self::GENERATION {
            self.change();
            // Start a full half-life now, or current counts could fade twice within one.
            self.changed = self.changed.max(now);
        }
        self.touched += 1;
        let places = places(key);
        let least = least(&self.newer, places);
        // The smallest counters alone must grow for the estimate to grow. The others are ahead by
        // reads of other keys.
        for (row, place) in self.newer.chunks_exact_mut(1 << WIDTH).zip(places) {
            if let Some(counter) = row.get_mut(place)
                && *counter == least
            {
                *counter = counter.saturating_add(1);
            }
        }
        self.sum(places)
    }

    /// Returns the estimate without counting a read.
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
        // After that many half-lives, eight-bit counts are zero.
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

/// The smallest counter of a key among its rows.
fn least(rows: &[u8], places: [usize; ROWS]) -> u8 {
    rows.chunks_exact(1 << WIDTH)
        .zip(places)
        .filter_map(|(row, place)| row.get(place).copied())
        .min()
        .unwrap_or(0)
}

/// The index of a key's counter in each row.
fn places(key: &str) -> [usize; ROWS] {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    let [a, b, c, d, e, f, g, h] = hasher.finish().to_le_bytes();
    [[a, b], [c, d], [e, f], [g, h]]
        .map(|bytes| usize::from(u16::from_le_bytes(bytes)) & ((1 << WIDTH) - 1))
}

const ROWS: usize = 4;

/// The binary logarithm of the number of counters in a row.
const WIDTH: u32 = 12;

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const START: Timestamp = Timestamp(1_700_000_000_000);

    #[test]
    fn frequency_counts_decay_with_time() {
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
    fn frequency_counts_reach_zero_after_a_long_time() {
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
    fn frequency_counts_survive_a_clock_that_goes_back() {
        let mut frequency = Frequency::new(HOUR);
        frequency.touch("a", START);
        assert_eq!(frequency.touch("a", Timestamp(0)), 2);
        assert_eq!(frequency.touch("a", START + HOUR), 3);
    }

    #[test]
    fn frequency_counts_also_decay_with_touches() {
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
    fn frequency_memory_is_bounded() {
        let mut frequency = Frequency::new(HOUR);
        assert_eq!(frequency.newer.capacity(), 0);
        for n in 0..5_000 {
            frequency.touch(&n.to_string(), START + HOUR / 10 * n);
        }
        let held = frequency.newer.capacity() + frequency.older.capacity();
        assert_eq!(held, 32 * 1024);
    }

    #[test]
    fn few_keys_are_mistaken_for_popular() {
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
