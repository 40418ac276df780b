//! The near tier: the entries of the cache of a location, and how often an isolate writes them.
//!
//! An entry is a whole blob or a block of one. Its address has the digest, and no repository and no
//! user.

use std::{cell::RefCell, time::Duration};

use crate::{digest::Digest, range::ByteRange, store::hot::Hot, time::Timestamp};

/// The entries that this isolate has written lately, or is writing.
#[derive(Debug)]
pub struct NearWrites {
    /// The time at which each was begun, also of those that failed.
    begun: RefCell<Hot<Timestamp>>,
    /// The times at which those were begun that have not ended. The platform may cancel one without
    /// a word.
    running: RefCell<Vec<Timestamp>>,
}

/// An entry of the cache.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// The address by which the cache knows it.
    pub address: String,
    /// The bytes of the blob that it has.
    pub bytes: ByteRange,
}

impl Default for NearWrites {
    fn default() -> Self {
        Self {
            begun: RefCell::new(Hot::new(REMEMBERED)),
            running: RefCell::default(),
        }
    }
}

impl NearWrites {
    /// Whether an entry is to be written now. Then it counts as begun.
    pub fn begin(&self, address: &str, now: Timestamp) -> bool {
        let mut running = self.running.borrow_mut();
        running.retain(|begun| now < *begun + LONGEST);
        let mut begun = self.begun.borrow_mut();
        let is_recent = begun.get(address).is_some_and(|begun| now < *begun + PAUSE);
        if is_recent || running.len() >= AT_ONCE {
            return false;
        }
        running.push(now);
        begun.insert(address, now, 0);
        true
    }

    /// Notes the end of a write that was begun then.
    pub fn end(&self, then: Timestamp) {
        let mut running = self.running.borrow_mut();
        if let Some(at) = running.iter().position(|begun| *begun == then) {
            running.swap_remove(at);
        }
    }
}

impl Entry {
    /// The entry of a whole blob; none if it is too large for one.
    pub fn whole(origin: &str, digest: &Digest, size: u64) -> Vec<Self> {
        let entry = ByteRange::all(size)
            .filter(|_| size <= MAX_ENTRY)
            .map(|bytes| Self {
                address: format!("{origin}/v2/_strata/near/{digest}"),
                bytes,
            });
        entry.into_iter().collect()
    }

    /// The aligned blocks that cover a range; none if they were too many.
    pub fn blocks(origin: &str, digest: &Digest, size: u64, range: ByteRange) -> Vec<Self> {
        let (first, last) = (range.first() / BLOCK, range.last() / BLOCK);
        if last - first >= MOST_BLOCKS {
            return Vec::new();
        }
        let block = |number: u64| {
            let end = ((number + 1) * BLOCK).min(size);
            let bytes = ByteRange::new(number * BLOCK, end.checked_sub(1)?)?;
            let address = format!("{origin}/v2/_strata/near/{digest}/{number}");
            Some(Self { address, bytes })
        };
        (first..=last).filter_map(block).collect()
    }

    /// The bytes of the entry that are in a range of the blob; `None` if all are.
    pub fn part(&self, range: ByteRange) -> Option<ByteRange> {
        let offset = self.bytes.first();
        let part = self
            .bytes
            .intersection(range)
            .filter(|part| *part != self.bytes)?;
        ByteRange::new(part.first() - offset, part.last() - offset)
    }
}

/// Whether the cache works for a registry that is reached there. On the platform's own domain it
/// stores nothing, and a client without TLS has no domain on the platform.
pub fn has_cache(origin: &str) -> bool {
    origin
        .strip_prefix("https://")
        .is_some_and(|host| !host.ends_with(".workers.dev"))
}

/// The size of a block of a blob, in bytes. Lazy clients ask for spans of this size.
const BLOCK: u64 = 4 * 1024 * 1024;

/// The most blocks of a range. A longer one is not a lazy client's.
const MOST_BLOCKS: u64 = 4;

/// The largest entry of the platform's cache, in bytes: 512 MB.
///
/// <https://developers.cloudflare.com/cache/concepts/default-cache-behavior/#cacheable-size-limits>
const MAX_ENTRY: u64 = 512_000_000;

/// The most entries that an isolate writes at a time.
const AT_ONCE: usize = 8;

/// The longest time of a write. The platform cancels it thirty seconds after the reply's end.
const LONGEST: Duration = Duration::from_secs(600);

/// How long an entry is not written again by the isolate, whether the cache kept it or not.
const PAUSE: Duration = Duration::from_secs(600);

/// The memory for the entries that were written lately, in bytes: some hundreds.
const REMEMBERED: u64 = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: &str = "https://registry.example";

    fn digest() -> Digest {
        crate::digest::Algorithm::Sha256.digest(b"a layer")
    }

    fn range(first: u64, last: u64) -> ByteRange {
        ByteRange::new(first, last).unwrap()
    }

    #[test]
    fn a_blob_is_one_entry_up_to_512_mb() {
        let [entry] = &*Entry::whole(ORIGIN, &digest(), MAX_ENTRY) else {
            panic!("no single entry");
        };
        let address = format!("{ORIGIN}/v2/_strata/near/{}", digest());
        assert_eq!(
            (&entry.address, entry.bytes),
            (&address, range(0, MAX_ENTRY - 1))
        );
        assert_eq!(entry.part(range(0, MAX_ENTRY - 1)), None);
        assert_eq!(entry.part(range(7, 9)), Some(range(7, 9)));
        assert!(Entry::whole(ORIGIN, &digest(), MAX_ENTRY + 1).is_empty());
        assert!(Entry::whole(ORIGIN, &digest(), 0).is_empty());
    }

    #[test]
    fn a_range_is_covered_by_up_to_four_aligned_blocks() {
        let size = 5 * BLOCK + 10;
        let blocks = |first, last| Entry::blocks(ORIGIN, &digest(), size, range(first, last));
        let [one] = &*blocks(BLOCK, 2 * BLOCK - 1) else {
            panic!("no single block");
        };
        assert_eq!(
            one.address,
            format!("{ORIGIN}/v2/_strata/near/{}/1", digest())
        );
        assert_eq!(one.part(range(BLOCK, 2 * BLOCK - 1)), None);
        let two = blocks(2 * BLOCK - 1, 2 * BLOCK);
        let parts: Vec<_> = two
            .iter()
            .map(|entry| entry.part(range(2 * BLOCK - 1, 2 * BLOCK)))
            .collect();
        assert_eq!(
            parts,
            [Some(range(BLOCK - 1, BLOCK - 1)), Some(range(0, 0))]
        );
        let last = blocks(5 * BLOCK, size - 1);
        assert_eq!(
            last.iter().map(|entry| entry.bytes).collect::<Vec<_>>(),
            [range(5 * BLOCK, size - 1)]
        );
        assert_eq!(blocks(0, 4 * BLOCK - 1).len(), 4);
        assert!(blocks(0, 4 * BLOCK).is_empty());
    }

    #[test]
    fn only_a_domain_of_ones_own_has_a_cache() {
        for (origin, has) in [
            ("https://registry.example", true),
            ("https://strata.team.workers.dev", false),
            ("https://workers.dev.example", true),
            ("http://registry.example", false),
            ("http://127.0.0.1:8787", false),
            ("", false),
        ] {
            assert_eq!(has_cache(origin), has, "{origin}");
        }
    }

    #[test]
    fn an_isolate_writes_eight_entries_at_a_time_and_none_again_for_ten_minutes() {
        let writes = NearWrites::default();
        let start = Timestamp(1_000_000);
        for number in 0..AT_ONCE {
            assert!(writes.begin(&number.to_string(), start), "{number}");
        }
        assert!(!writes.begin("ninth", start));
        writes.end(start);
        assert!(writes.begin("ninth", start));
        // Those that the platform cancelled never end.
        assert!(!writes.begin("tenth", Timestamp(start.0 + 599_999)));
        assert!(writes.begin("tenth", start + LONGEST));
        assert!(!writes.begin("tenth", Timestamp(start.0 + 1_199_999)));
        assert!(writes.begin("tenth", start + LONGEST + PAUSE));
    }
}
