//! Merging sorted runs of packed blocks into one.

use std::{
    cmp::Ordering,
    collections::{BinaryHeap, VecDeque, binary_heap::PeekMut},
};

use crate::layer::{
    contents::{
        block::{Packed, Packer, unpack},
        error::ContentsError,
        limits::MAX_PATH,
    },
    entry::Entry,
};

pub(super) type Run = VecDeque<Vec<u8>>;

/// Merges runs, and packs the entries again. Returns the number of packed bytes.
pub(super) fn merge(
    runs: Vec<Run>,
    mut put: impl FnMut(Packed) -> Result<(), ContentsError>,
) -> Result<u64, ContentsError> {
    let mut heads = BinaryHeap::with_capacity(runs.len());
    for blocks in runs {
        heads.push(Head::new(blocks).ok_or(ContentsError::Broken)?);
    }
    let mut packer = Packer::default();
    let mut work = 0;
    let (mut path, mut weight) = (Vec::new(), 0);
    while let Some(mut head) = heads.peek_mut() {
        let entry = head.next().ok_or(ContentsError::Broken)?;
        if head.entries.is_empty() {
            PeekMut::pop(head);
        }
        let more = entry.weight();
        work += more as u64;
        if path == entry.path {
            weight += more;
            if weight > MAX_PATH {
                return Err(ContentsError::Path);
            }
        } else {
            weight = more;
            path.clone_from(&entry.path);
        }
        if let Some(packed) = packer.push(entry) {
            put(packed)?;
        }
    }
    packer.finish().map_or(Ok(()), put)?;
    Ok(work)
}

/// The rest of a run. It is never empty while it is in a heap.
struct Head {
    blocks: Run,
    entries: VecDeque<Entry>,
}

impl Head {
    pub(super) fn new(mut blocks: Run) -> Option<Self> {
        let entries = unpack(&blocks.pop_front()?)?.into();
        Some(Self { blocks, entries })
    }

    /// The next entry. `None` if a block is corrupt.
    fn next(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front()?;
        if self.entries.is_empty()
            && let Some(block) = self.blocks.pop_front()
        {
            self.entries = unpack(&block)?.into();
        }
        Some(entry)
    }

    fn place(&self) -> Option<(&[u8], u64)> {
        let entry = self.entries.front()?;
        Some((&entry.path, entry.offset))
    }
}

/// A heap pops the greatest head first: the one with the first entry.
impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        other.place().cmp(&self.place())
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Eq for Head {}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}
