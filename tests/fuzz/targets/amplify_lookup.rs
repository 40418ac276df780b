//! Amplification: lookups in an image take bounded seeks, work and memory.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use pollster::block_on;
use strata::{
    budget::Budget,
    layer::{
        entry::Entry,
        index::{Index, IndexError, StoredIndex},
        pass::{Options, Pass},
        tree::{self, FollowLinks, Layers},
    },
};

use crate::{
    bounds::{LOOKUP_MEMORY, LOOKUP_SEEKS, LOOKUP_WORK},
    cost_of,
    input::Input,
    layers::{self, Bounds},
};

pub(crate) const WORDS: &[&[u8]] = &[b"../", b"a/../", b"d/"];

const BOUNDS: Bounds = Bounds {
    archive: 300_000,
    repeats: 511,
    run: 65_536,
};

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (layers, path) in [(1, "usr/lib/a"), (3, "usr/../usr/lib/.."), (8, "x/y/../"), (2, "")] {
        for program in layers::programs() {
            let head = [layers, 1, path.len() as u8];
            seeds.push([head.as_slice(), path.as_bytes(), &program].concat());
        }
    }
    seeds
}

/// The reason why a table of contents was not read.
#[derive(Debug)]
enum Refused {
    Index,
    /// The lookup made more seeks than its budget has.
    Seeks,
    /// The budget has no work left for another block.
    Work,
}

impl From<IndexError> for Refused {
    fn from(_: IndexError) -> Self {
        Self::Index
    }
}

/// The number of a block, and its entries.
type Unpacked = (usize, Rc<[Entry]>);

/// Layers as in the registry: heads are in memory, blocks are unpacked, and one block of each layer
/// is kept. Unpacking a block counts as work of the lookup.
struct Image {
    layers: Vec<Rc<(Index, Vec<u8>)>>,
    blocks: RefCell<Vec<Option<Unpacked>>>,
    budget: Budget,
    seeks: Cell<usize>,
    most: usize,
}

impl Layers for Image {
    type Error = Refused;

    fn count(&self) -> usize {
        self.layers.len()
    }

    fn budget(&self) -> Budget {
        self.budget.clone()
    }

    async fn seek(&self, layer: usize, from: &[u8]) -> Result<Option<Vec<Entry>>, Refused> {
        self.seeks.set(self.seeks.get() + 1);
        if self.seeks.get() > self.most {
            return Err(Refused::Seeks);
        }
        let (index, bytes) = &*self.layers[layer];
        let read = async |block: usize| {
            if let Some((at, entries)) = &self.blocks.borrow()[layer]
                && *at == block
            {
                return Ok::<_, Refused>(entries.clone());
            }
            let range = index.range_of(block).unwrap();
            let packed = &bytes[range.start as usize..range.end as usize];
            let entries: Rc<[Entry]> = index.read_block(block, packed)?.into();
            let weight: usize = entries.iter().map(Entry::weight).sum();
            self.budget.work(2 * weight).map_err(|_| Refused::Work)?;
            self.blocks.borrow_mut()[layer] = Some((block, entries.clone()));
            Ok(entries)
        };
        index.seek(from, read).await
    }
}

pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    let count = input.below(16) + 1;
    let times = input.below(200) + 1;
    let length = input.below(64);
    let path = input.take(length).repeat(times);
    let archive = layers::archive(&mut input, BOUNDS);
    let layer = layers::gzip(&archive, 1);
    let mut pass = Pass::new(layer.len() as u64, Options::default());
    let Ok(Some(bytes)) = pass.push(&layer).and_then(|()| pass.finish()) else {
        return;
    };
    let Ok(StoredIndex::Index(index)) = StoredIndex::parse(&bytes) else {
        panic!("an index of a pass can't be parsed");
    };
    drop((pass, archive));
    let components = path.iter().filter(|byte| **byte == b'/').count() + 1;
    let most = LOOKUP_SEEKS.of(components * count);
    let shared = Rc::new((index, bytes));
    let image = |layers: usize| Image {
        layers: vec![shared.clone(); layers],
        blocks: RefCell::new(vec![None; layers]),
        budget: Budget::default(),
        seeks: Cell::default(),
        most,
    };
    let size = layer.len() * count;
    // The last path of the layer, which the repetitions precede.
    for what in ["resolve", "list"] {
        let image = image(count);
        let (outcome, cost) = cost_of(|| match what {
            "resolve" => block_on(tree::resolve(&image, &path, FollowLinks::All)).map(drop),
            _ => block_on(tree::list(&image, &path, None, 1_000)).map(drop),
        });
        crate::report(what, size, cost);
        let (peak, work) = (cost.peak, cost.work);
        let granted = LOOKUP_MEMORY.of(size);
        assert!(
            peak <= granted,
            "a lookup ({what}) in {count} layers of {} bytes took {peak} bytes of memory, more than {granted}",
            layer.len()
        );
        let granted = LOOKUP_WORK.of(size + path.len());
        assert!(
            work <= granted,
            "a lookup ({what}) of {components} components in {count} layers of {} bytes allocated {work} bytes, more than {granted}",
            layer.len()
        );
        if let Err(tree::Error::Layers(refused @ (Refused::Index | Refused::Seeks))) = outcome {
            panic!("a lookup ({what}) of {components} components in {count} layers: {refused:?} after {most} seeks");
        }
    }
}
