//! The table of contents of a layer: its entries in the order of their paths, in blocks that are read one by one.
//!
//! Entries come in the order of the archive, as many as there are. They are sorted in runs of bounded size, packed as blocks are,
//! and merged in the end, so that a million of them take some megabytes. docs/layer-index.md describes a block.

use std::{
    cmp::Ordering,
    collections::{BinaryHeap, VecDeque, binary_heap::PeekMut},
};

use miniz_oxide::{deflate::compress_to_vec, inflate::decompress_to_vec_with_limit};

use crate::layer::{
    entry::{Entry, EntryKind, Moment, Owner, Segment},
    wire::{self, Reader},
};

/// A block of entries that is somewhere else.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Block {
    /// The path of its first entry.
    pub(crate) first: Vec<u8>,
    /// Where it is, from the first block on.
    pub(crate) offset: u64,
    /// The number of bytes that it takes.
    pub(crate) length: u32,
    /// The number of entries in it.
    pub(crate) count: u32,
    /// The CRC-32 of those bytes.
    pub(crate) check: u32,
}

/// Sorts entries.
#[derive(Debug, Default)]
pub(crate) struct Sorter {
    run: Vec<Entry>,
    /// About the memory that the run takes.
    weight: usize,
    /// Sorted runs of packed blocks. Those of a level are merged into one of the next when they are many, for each takes the
    /// memory of a block that is unpacked when it is merged.
    levels: Vec<Vec<Run>>,
    entries: u64,
    /// About the bytes that the table will take.
    size: u64,
}

type Run = VecDeque<Vec<u8>>;

impl Sorter {
    /// The number of entries so far.
    pub(crate) const fn entries(&self) -> u64 {
        self.entries
    }

    /// About how many bytes the table takes that they make, but for the last of them.
    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    /// Takes an entry. `None` says that what was loaded was not what was saved.
    pub(crate) fn push(&mut self, entry: Entry) -> Option<()> {
        self.weight += entry.weight();
        self.run.push(entry);
        self.entries += 1;
        if self.weight >= RUN {
            self.end_run();
            self.merge_full()?;
        }
        Some(())
    }

    fn end_run(&mut self) {
        let mut run = std::mem::take(&mut self.run);
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
            match self.levels.first_mut() {
                Some(level) => level.push(blocks),
                None => self.levels.push(vec![blocks]),
            }
        }
    }

    /// Merges the runs of each level that is full.
    fn merge_full(&mut self) -> Option<()> {
        let mut at = 0;
        while let Some(level) = self.levels.get_mut(at)
            && level.len() >= FAN
        {
            let mut run = VecDeque::new();
            merge(std::mem::take(level), |packed| {
                run.push_back(packed.bytes);
                Some(())
            })?;
            at += 1;
            match self.levels.get_mut(at) {
                Some(level) => level.push(run),
                None => self.levels.push(vec![run]),
            }
        }
        Some(())
    }

    /// Ends with the blocks, and where each of them is. `None` says that there are too many of them to say so, or that what was
    /// loaded was not what was saved.
    pub(crate) fn finish(mut self) -> Option<(Vec<Block>, Vec<Vec<u8>>)> {
        self.end_run();
        let (mut blocks, mut bytes) = (Vec::new(), Vec::new());
        let (mut offset, mut paths) = (0, 0);
        merge(self.levels.into_iter().flatten().collect(), |packed| {
            let length = u32::try_from(packed.bytes.len()).ok()?;
            paths += packed.first.len();
            if paths > MAX_PATHS {
                return None;
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
            Some(())
        })?;
        Some((blocks, bytes))
    }

    /// Writes all that it takes to go on.
    pub(crate) fn save(&mut self, out: &mut Vec<u8>) {
        self.end_run();
        wire::put(out, self.entries);
        wire::put(out, self.size);
        wire::put(out, self.levels.len() as u64);
        for level in &self.levels {
            wire::put(out, level.len() as u64);
            for run in level {
                wire::put(out, run.len() as u64);
                for block in run {
                    wire::put_bytes(out, block);
                }
            }
        }
    }

    /// Goes on with what was saved.
    pub(crate) fn load(reader: &mut Reader<'_>) -> Option<Self> {
        let (entries, size) = (reader.number()?, reader.number()?);
        let mut levels = Vec::new();
        for _ in 0..reader.number()? {
            let mut level = Vec::new();
            for _ in 0..reader.number()? {
                let mut run = VecDeque::new();
                for _ in 0..reader.number()? {
                    run.push_back(reader.bytes()?.to_vec());
                }
                level.push(run);
            }
            levels.push(level);
        }
        Some(Self {
            entries,
            size,
            levels,
            ..Self::default()
        })
    }
}

/// Puts the entries of runs in order, and packs them anew.
fn merge(runs: Vec<Run>, mut put: impl FnMut(Packed) -> Option<()>) -> Option<()> {
    let mut heads = BinaryHeap::with_capacity(runs.len());
    for blocks in runs {
        heads.push(Head::new(blocks)?);
    }
    let mut packer = Packer::default();
    while let Some(mut head) = heads.peek_mut() {
        let entry = head.next()?;
        if head.entries.is_empty() {
            PeekMut::pop(head);
        }
        if let Some(packed) = packer.push(entry) {
            put(packed)?;
        }
    }
    packer.finish().map_or(Some(()), put)
}

/// What is left of a run: never nothing, while it is in a heap.
struct Head {
    blocks: Run,
    entries: VecDeque<Entry>,
}

impl Head {
    fn new(mut blocks: Run) -> Option<Self> {
        let entries = unpack(&blocks.pop_front()?)?.into();
        Some(Self { blocks, entries })
    }

    /// The next entry. `None` says that a block is none.
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

/// The one whose next entry comes first is the greatest, as a heap wants it.
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

/// By path, and by age where one path comes several times.
fn order(one: &Entry, other: &Entry) -> Ordering {
    (&one.path, one.offset).cmp(&(&other.path, other.offset))
}

/// Gathers sorted entries into blocks. Entries of one path stand together, unless there are thousands.
#[derive(Default)]
struct Packer {
    entries: Vec<Entry>,
    weight: usize,
}

/// A block, packed.
struct Packed {
    first: Vec<u8>,
    count: u32,
    bytes: Vec<u8>,
}

impl Packer {
    /// Takes an entry, and gives the block before it where that is full.
    fn push(&mut self, entry: Entry) -> Option<Packed> {
        let is_full = self.entries.len() >= BLOCK_ENTRIES || self.weight >= BLOCK_BYTES;
        let goes_on = self.entries.len() < MAX_ENTRIES
            && self
                .entries
                .last()
                .is_some_and(|last| last.path == entry.path);
        let packed = if is_full && !goes_on {
            self.finish()
        } else {
            None
        };
        self.weight += entry.weight();
        self.entries.push(entry);
        packed
    }

    fn finish(&mut self) -> Option<Packed> {
        let entries = std::mem::take(&mut self.entries);
        self.weight = 0;
        Some(Packed {
            first: entries.first()?.path.clone(),
            count: u32::try_from(entries.len()).ok()?,
            bytes: compress_to_vec(&pack(&entries), LEVEL),
        })
    }
}

/// Writes entries column by column: what is alike stands together, and compresses by a third more.
fn pack(entries: &[Entry]) -> Vec<u8> {
    let mut columns = <[Vec<u8>; COLUMNS]>::default();
    let [paths, kinds, modes, owners, sizes, times, offsets, extras] = &mut columns;
    let mut last = &Entry::default();
    for entry in entries {
        let shared = shared(&last.path, &entry.path);
        wire::put(paths, shared as u64);
        wire::put_bytes(paths, entry.path.get(shared..).unwrap_or_default());
        let flags = [
            (ACCESSED, entry.accessed.is_some()),
            (CHANGED, entry.changed.is_some()),
            (ATTRIBUTES, !entry.attributes.is_empty()),
            (SPARSE, entry.segments.is_some()),
        ];
        let kind = EntryKind::ALL
            .iter()
            .zip(0..)
            .find(|(kind, _)| **kind == entry.kind);
        kinds.push(
            flags
                .iter()
                .filter(|(_, is)| *is)
                .fold(kind.map_or(0, |(_, n)| n), |all, (flag, _)| all | flag),
        );
        wire::put(modes, entry.mode.into());
        for owner in [&entry.user, &entry.group] {
            wire::put(owners, owner.id);
            wire::put_bytes(owners, &owner.name);
        }
        wire::put(sizes, entry.size);
        put_moment(times, entry.modified, last.modified);
        wire::put_signed(
            offsets,
            entry.offset.wrapping_sub(last.offset).cast_signed(),
        );
        if has_link(entry.kind) {
            wire::put_bytes(extras, &entry.link);
        }
        if has_device(entry.kind) {
            wire::put(extras, entry.device.0.into());
            wire::put(extras, entry.device.1.into());
        }
        for moment in [entry.accessed, entry.changed].into_iter().flatten() {
            put_moment(extras, moment, entry.modified);
        }
        if !entry.attributes.is_empty() {
            wire::put(extras, entry.attributes.len() as u64);
            for (name, value) in &entry.attributes {
                wire::put_bytes(extras, name);
                wire::put_bytes(extras, value);
            }
        }
        if let Some(segments) = &entry.segments {
            wire::put(extras, segments.len() as u64);
            for segment in segments {
                wire::put(extras, segment.offset);
                wire::put(extras, segment.length);
            }
        }
        last = entry;
    }
    let mut out = Vec::new();
    wire::put(&mut out, entries.len() as u64);
    for column in &columns {
        wire::put_bytes(&mut out, column);
    }
    out
}

/// Reads the entries of a block. `None` says that it is none.
pub(crate) fn unpack(bytes: &[u8]) -> Option<Vec<Entry>> {
    let bytes = decompress_to_vec_with_limit(bytes, MAX_BLOCK).ok()?;
    let mut reader = Reader(&bytes);
    let count = reader.length()?;
    let mut columns = [Reader(&[]); COLUMNS];
    for column in &mut columns {
        *column = Reader(reader.bytes()?);
    }
    let [paths, kinds, modes, owners, sizes, times, offsets, extras] = &mut columns;
    let mut entries: Vec<Entry> = Vec::new();
    for _ in 0..count {
        let before = entries.last();
        let last = before.map_or((&[][..], Moment::default(), 0), |last| {
            (&last.path, last.modified, last.offset)
        });
        let mut path = last.0.get(..paths.length()?)?.to_vec();
        path.extend(paths.bytes()?);
        let byte = kinds.byte()?;
        let kind = *EntryKind::ALL.get(usize::from(byte & KIND))?;
        let mut entry = Entry {
            path,
            kind,
            mode: modes.number()?.try_into().ok()?,
            user: owner(owners)?,
            group: owner(owners)?,
            size: sizes.number()?,
            modified: moment(times, last.1)?,
            offset: last.2.wrapping_add_signed(offsets.signed()?),
            ..Entry::default()
        };
        if has_link(kind) {
            entry.link = extras.bytes()?.to_vec();
        }
        if has_device(kind) {
            let major = extras.number()?.try_into().ok()?;
            entry.device = (major, extras.number()?.try_into().ok()?);
        }
        if byte & ACCESSED != 0 {
            entry.accessed = Some(moment(extras, entry.modified)?);
        }
        if byte & CHANGED != 0 {
            entry.changed = Some(moment(extras, entry.modified)?);
        }
        if byte & ATTRIBUTES != 0 {
            for _ in 0..extras.number()? {
                let name = extras.bytes()?.to_vec();
                entry.attributes.push((name, extras.bytes()?.to_vec()));
            }
        }
        if byte & SPARSE != 0 {
            let mut segments = Vec::new();
            for _ in 0..extras.number()? {
                segments.push(Segment {
                    offset: extras.number()?,
                    length: extras.number()?,
                });
            }
            entry.segments = Some(segments);
        }
        entries.push(entry);
    }
    Some(entries)
}

fn owner(reader: &mut Reader<'_>) -> Option<Owner> {
    Some(Owner {
        id: reader.number()?,
        name: reader.bytes()?.to_vec(),
    })
}

/// Moments of one block are near each other.
fn put_moment(out: &mut Vec<u8>, moment: Moment, near: Moment) {
    wire::put_signed(out, moment.seconds.wrapping_sub(near.seconds));
    wire::put(out, moment.nanoseconds.into());
}

fn moment(reader: &mut Reader<'_>, near: Moment) -> Option<Moment> {
    Some(Moment {
        seconds: near.seconds.wrapping_add(reader.signed()?),
        nanoseconds: reader.number()?.try_into().ok()?,
    })
}

/// How many bytes two paths begin with alike.
fn shared(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
}

const fn has_link(kind: EntryKind) -> bool {
    matches!(kind, EntryKind::HardLink | EntryKind::SymbolicLink)
}

const fn has_device(kind: EntryKind) -> bool {
    matches!(kind, EntryKind::CharacterDevice | EntryKind::BlockDevice)
}

const COLUMNS: usize = 8;
/// The bits of a kind, and what is said beside it.
const KIND: u8 = 0x0f;
const ACCESSED: u8 = 0x10;
const CHANGED: u8 = 0x20;
const ATTRIBUTES: u8 = 0x40;
const SPARSE: u8 = 0x80;

/// A block takes 5 KiB with so many entries, and half a millisecond to read.
const BLOCK_ENTRIES: usize = 512;
/// The most entries in a block, whatever their paths are.
const MAX_ENTRIES: usize = 4 * BLOCK_ENTRIES;
/// A block is full with entries that take so much memory.
const BLOCK_BYTES: usize = 256 * 1024;
/// What a block may inflate to: as much as it may weigh, and one entry with all that an archive may say of it.
const MAX_BLOCK: usize = 64 * 1024 * 1024;
/// The most bytes of paths with which blocks begin: they are in the head of an index, which is read whole.
const MAX_PATHS: usize = 4 * 1024 * 1024;
/// The memory for entries that are not sorted yet.
const RUN: usize = 4 * 1024 * 1024;
/// So many runs are merged into one.
const FAN: usize = 16;
/// How hard blocks are compressed.
const LEVEL: u8 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    fn sorter(count: u32, length: usize) -> Sorter {
        let mut sorter = Sorter::default();
        for n in 0..count {
            let mut path = format!("{n:08}").into_bytes();
            path.resize(length, b'x');
            let entry = Entry {
                path,
                ..Entry::default()
            };
            sorter.push(entry).unwrap();
        }
        sorter
    }

    #[test]
    fn refuses_more_long_paths_than_a_head_has_room_for() {
        assert!(sorter(1_000, 16_000).finish().is_some());
        assert!(sorter(5_000, 16_000).finish().is_none());
    }

    #[test]
    fn many_runs_are_merged_before_the_end() {
        let mut sorter = Sorter::default();
        for index in 0..9_000 {
            let path = format!("{:04}{}", index * 7_919 % 9_000, "/path".repeat(1_600));
            let entry = Entry {
                path: path.into_bytes(),
                offset: index,
                ..Entry::default()
            };
            sorter.push(entry).unwrap();
            assert!(sorter.levels.iter().all(|level| level.len() < FAN));
            if index == 8_500 {
                let mut saved = Vec::new();
                sorter.save(&mut saved);
                sorter = Sorter::load(&mut Reader(&saved)).unwrap();
            }
        }
        assert_eq!(sorter.levels.len(), 2);
        assert_eq!(sorter.entries(), 9_000);
        let (blocks, bytes) = sorter.finish().unwrap();
        assert_eq!(blocks.len(), bytes.len());
        let entries = bytes.iter().flat_map(|block| unpack(block).unwrap());
        let paths = entries.map(|entry| entry.path[..4].to_vec());
        let wanted = (0..9_000).map(|index| format!("{index:04}").into_bytes());
        assert!(paths.eq(wanted));
    }
}
