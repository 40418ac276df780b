//! The table of contents of a layer: its entries sorted by path, in blocks that are read one by
//! one.
//!
//! Entries come in the order of the archive. They are sorted in runs of bounded size, packed, and
//! merged at the end, so that a million entries take only megabytes. docs/layer-index.md describes
//! a block.

mod block;
mod error;
mod limits;
mod merge;

pub(crate) use self::{block::unpack, error::ContentsError};

use std::{cmp::Ordering, collections::VecDeque};

use crate::layer::{
    contents::{
        block::{BLOCK_BYTES, Packed, Packer},
        limits::{DESCRIBED, EACH, MAX_PATHS},
        merge::{Run, merge},
    },
    entry::Entry,
    wire::{self, WireReader},
};

/// The place and the size of a packed block.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Block {
    /// The path of its first entry.
    pub(crate) first: Vec<u8>,
    /// Its offset after the start of the first block.
    pub(crate) offset: u64,
    /// Its length in bytes.
    pub(crate) length: u32,
    /// The number of entries in it.
    pub(crate) count: u32,
    /// The CRC-32 of its bytes.
    pub(crate) check: u32,
}

/// Sorts entries.
#[derive(Debug, Default)]
pub(crate) struct Sorter {
    run: Vec<Entry>,
    /// The approximate memory of the run.
    weight: usize,
    /// Sorted runs of packed blocks. If a level has many, they are merged into one run of the next
    /// level: merging takes the memory of one unpacked block for each run.
    levels: Vec<Vec<Run>>,
    entries: u64,
    /// The approximate size of the table in bytes.
    size: u64,
    /// The bytes of all entries before packing.
    described: u64,
    /// The bytes packed so far. Bytes that are merged count again.
    work: u64,
}

impl Sorter {
    /// The number of entries so far.
    pub(crate) const fn entries(&self) -> u64 {
        self.entries
    }

    /// The approximate size of the table in bytes, without entries that are not packed.
    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    /// The bytes packed so far. Packing a byte takes several times as long as inflating it.
    pub(crate) const fn work(&self) -> u64 {
        self.work
    }

    /// The approximate memory, at the end too, where blocks are merged.
    pub(crate) fn memory(&self) -> usize {
        // Sorting takes half as much again, packing some copies of a block, and merging one block
        // for each run.
        let runs = self.levels.iter().map(Vec::len).max().unwrap_or_default();
        let merged = (runs + 4).min(FAN + 4) * 2 * BLOCK_BYTES;
        self.weight + self.weight / 2 + merged + self.size_in_memory()
    }

    fn size_in_memory(&self) -> usize {
        usize::try_from(self.size).unwrap_or(usize::MAX)
    }

    /// Adds an entry.
    pub(crate) fn push(&mut self, entry: Entry) -> Result<(), ContentsError> {
        self.weight += entry.weight();
        // A saved state may hold any number.
        self.described = self.described.saturating_add(entry.described() as u64);
        self.run.push(entry);
        self.entries += 1;
        if self.described > DESCRIBED + EACH * self.entries {
            return Err(ContentsError::Proportion);
        }
        if self.weight >= RUN {
            self.end_run();
            self.merge_full()?;
        }
        Ok(())
    }

    fn end_run(&mut self) {
        let mut run = std::mem::take(&mut self.run);
        self.work = self.work.saturating_add(self.weight as u64);
        self.weight = 0;
        run.sort_by(order);
        let mut packer = Packer::default();
        let mut blocks = VecDeque::new();
        let mut put = |packed: Packed| {
            self.size += (packed.bytes.len() + packed.first.len()) as u64;
            blocks.push_back(packed.bytes);
        };
        for entry in run {
            packer.push(entry).map(&mut put);
        }
        packer.finish().map(&mut put);
        if !blocks.is_empty() {
            self.add_run(0, blocks);
        }
    }

    /// Adds a run to a level, or to a new last level.
    fn add_run(&mut self, at: usize, run: Run) {
        match self.levels.get_mut(at) {
            Some(level) => level.push(run),
            None => self.levels.push(vec![run]),
        }
    }

    /// Merges the runs of each full level.
    fn merge_full(&mut self) -> Result<(), ContentsError> {
        let mut at = 0;
        while self.levels.get(at).is_some_and(|level| level.len() >= FAN) {
            self.merge_level(at)?;
            at += 1;
        }
        Ok(())
    }

    /// Merges the runs of a level into one of the next.
    fn merge_level(&mut self, at: usize) -> Result<(), ContentsError> {
        let runs = self.levels.get_mut(at).map(std::mem::take);
        let mut run = VecDeque::new();
        let work = merge(runs.unwrap_or_default(), |packed| {
            run.push_back(packed.bytes);
            Ok(())
        })?;
        self.work = self.work.saturating_add(work);
        if !run.is_empty() {
            self.add_run(at + 1, run);
        }
        Ok(())
    }

    /// Returns the list of blocks, and their bytes.
    pub(crate) fn finish(mut self) -> Result<(Vec<Block>, Vec<Vec<u8>>), ContentsError> {
        self.end_run();
        // Each level has few runs, so that few blocks are unpacked at the same time.
        let mut at = 0;
        while at + 1 < self.levels.len() {
            self.merge_level(at)?;
            at += 1;
        }
        let (mut blocks, mut bytes) = (Vec::new(), Vec::new());
        let (mut offset, mut paths) = (0, 0);
        merge(self.levels.pop().unwrap_or_default(), |packed| {
            let length = u32::try_from(packed.bytes.len()).map_err(|_| ContentsError::Broken)?;
            paths += packed.first.len();
            if paths > MAX_PATHS {
                return Err(ContentsError::Broken);
            }
            blocks.push(Block {
                first: packed.first,
                offset,
                length,
                count: packed.count,
                check: crc32fast::hash(&packed.bytes),
            });
            offset += u64::from(length);
            bytes.push(packed.bytes);
            Ok(())
        })?;
        Ok((blocks, bytes))
    }

    /// Writes the state without the blocks. Returns the blocks, in the order in which
    /// [`Sorter::load`] needs them.
    pub(crate) fn save(&mut self, out: &mut Vec<u8>) -> Vec<Vec<u8>> {
        self.end_run();
        for number in [self.entries, self.size, self.described, self.work] {
            wire::put(out, number);
        }
        wire::put(out, self.levels.len() as u64);
        for level in &self.levels {
            wire::put(out, level.len() as u64);
            for run in level {
                wire::put(out, run.len() as u64);
                for block in run {
                    wire::put(out, block.len() as u64);
                }
            }
        }
        let levels = std::mem::take(&mut self.levels);
        levels.into_iter().flatten().flatten().collect()
    }

    /// Resumes from a saved state. Its blocks are still empty; their lengths are added to
    /// `lengths`.
    pub(crate) fn load(reader: &mut WireReader<'_>, lengths: &mut Vec<usize>) -> Option<Self> {
        let (entries, size) = (reader.number()?, reader.number()?);
        let (described, work) = (reader.number()?, reader.number()?);
        let mut levels = Vec::new();
        for _ in 0..reader.number()? {
            let mut level = Vec::new();
            for _ in 0..reader.number()? {
                let mut run = VecDeque::new();
                for _ in 0..reader.number()? {
                    lengths.push(reader.length()?);
                    run.push_back(Vec::new());
                }
                level.push(run);
            }
            levels.push(level);
        }
        Some(Self {
            entries,
            size,
            described,
            work,
            levels,
            ..Self::default()
        })
    }

    /// The blocks of a loaded state, the last one first.
    pub(crate) fn blocks_from_last(&mut self) -> impl Iterator<Item = &mut Vec<u8>> {
        let levels = self.levels.iter_mut().rev();
        let runs = levels.flat_map(|level| level.iter_mut().rev());
        runs.flat_map(|run| run.iter_mut().rev())
    }
}

/// Orders entries by path, then by age.
fn order(one: &Entry, other: &Entry) -> Ordering {
    (&one.path, one.offset).cmp(&(&other.path, other.offset))
}

/// The memory for unsorted entries.
const RUN: usize = 4 * 1024 * 1024;
/// How many runs are merged into one.
const FAN: usize = 16;

#[cfg(test)]
mod tests;
