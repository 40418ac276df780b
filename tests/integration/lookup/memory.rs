//! The memory of lookups in images: the bound of one lookup, and the head of an index before it is
//! parsed.

use std::iter::repeat_n;

use pollster::block_on;
use strata::{
    budget::{Budget, LookupLimits, Spent},
    layer::{
        entry::Entry,
        index::{self, IndexError, StoredIndex},
        pass::{Options, Pass},
        tree::{self, Error, Layers},
    },
};

/// Layers that each have the same names in the root directory.
struct Alike {
    count: usize,
    names: Vec<String>,
    budget: Budget,
}

impl Layers for Alike {
    type Error = &'static str;

    fn count(&self) -> usize {
        self.count
    }

    fn budget(&self) -> Budget {
        self.budget.clone()
    }

    async fn seek(&self, _: usize, from: &[u8]) -> Result<Option<Vec<Entry>>, Self::Error> {
        let name = self.names.iter().find(|name| name.as_bytes() >= from);
        Ok(name.map(|name| {
            vec![Entry {
                path: name.clone().into(),
                ..Entry::default()
            }]
        }))
    }
}

impl Alike {
    fn new(count: usize, length: usize) -> Self {
        Self {
            count,
            names: ["a", "b", "c"].map(|name| name.repeat(length)).into(),
            budget: Budget::default(),
        }
    }
}

#[test]
fn a_listing_holds_a_mebibyte_of_next_names_and_no_more() {
    let held = LookupLimits::REQUEST.held;
    let most = held / 500;
    let image = Alike::new(500, most);
    let page = block_on(tree::list(&image, b"", None, 2)).unwrap();
    assert!(page.more);
    assert_eq!(page.children.len(), 2);
    let image = Alike::new(500, most + 1);
    let error = block_on(tree::list(&image, b"", None, 2)).unwrap_err();
    assert_eq!(error, Error::Spent(Spent::Held(held)));
}

#[test]
fn a_lookup_counts_its_memory() {
    // Names of one byte: cached answers and the page count.
    let image = Alike::new(100, 1);
    block_on(tree::list(&image, b"", None, 3)).unwrap();
    let cached = image.budget.memory();
    assert!(cached > 100 * 3 * 64, "{cached} bytes");
    // Long names fill the cache of answers, which is then emptied.
    let image = Alike::new(500, 2_000);
    block_on(tree::list(&image, b"", None, 1)).unwrap();
    let memory = image.budget.memory();
    let most = LookupLimits::REQUEST.held + tree::SEEN + tree::MAX_WEIGHT;
    assert!((500 * 2_000..most).contains(&memory), "{memory} bytes");
}

/// A tar header of an entry.
fn header(path: &str, kind: u8, size: usize) -> Vec<u8> {
    let mut block = vec![0; 512];
    let mut put = |at: usize, text: &str| {
        block.splice(at..at + text.len(), text.bytes());
    };
    put(0, path);
    put(100, "0000644\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{size:011o}\0"));
    put(136, "00000000000\0");
    put(148, "        ");
    put(257, "ustar\x0000");
    block.splice(156..157, [kind]);
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block.splice(148..156, format!("{sum:06o}\0 ").bytes());
    block
}

/// The index of a layer of entries with paths of this length.
fn index_of(entries: usize, length: usize) -> Vec<u8> {
    let mut layer = Vec::new();
    for entry in 0..entries {
        let path = format!("{entry:06}{}", "a".repeat(length));
        let rest = format!(" path={path}\n");
        let digits = (rest.len() + 5).to_string().len();
        let record = format!("{}{rest}", rest.len() + digits);
        layer.extend(header("pax", b'x', record.len()));
        layer.extend(record.bytes());
        layer.extend(repeat_n(0, (512 - record.len() % 512) % 512));
        layer.extend(header("short", b'0', 0));
    }
    layer.extend([0; 1024]);
    let options = Options {
        span: 64 * 1024,
        ..Options::default()
    };
    let mut pass = Pass::new(layer.len() as u64, options);
    pass.push(&layer).unwrap();
    pass.finish().unwrap().unwrap()
}

#[test]
fn the_memory_of_an_index_head_is_known_before_parsing() {
    for (entries, length) in [(0, 0), (10, 10), (3_000, 10), (300, 16_000)] {
        let bytes = index_of(entries, length);
        let StoredIndex::Index(index) = StoredIndex::parse(&bytes).unwrap() else {
            unreachable!("the layer was refused");
        };
        let counts = bytes.get(..usize::try_from(index::COUNTS).unwrap());
        let memory = index::memory(counts.unwrap(), bytes.len() as u64).unwrap();
        let weight = index.weight() as u64;
        assert!(weight <= memory, "{weight} bytes, and {memory} expected");
        // At most the bytes of the head are counted in addition.
        assert!(
            memory <= weight + index.head(),
            "{memory} bytes for {weight}"
        );
    }
    // Damaged counts lease no more than such a head could need.
    let mut bytes = index_of(10, 10);
    bytes.splice(64..72, [0xff; 8]);
    let memory = index::memory(&bytes, bytes.len() as u64).unwrap();
    assert!(memory < 64 * 1024, "{memory} bytes");
    assert_eq!(StoredIndex::parse(&bytes), Err(IndexError::Corrupt));
    assert_eq!(index::memory(b"strata", 6), Err(IndexError::Corrupt));
    // A head that is longer than all bytes leases nothing.
    bytes.splice(12..16, [0xff; 4]);
    let memory = index::memory(&bytes, bytes.len() as u64);
    assert_eq!(memory, Err(IndexError::Corrupt));
}
