//! The table of contents of a layer: its entries in the order of their paths, in blocks that are read one by one.
//!
//! Entries come in the order of the archive, as many as there are. They are sorted in runs of bounded size, packed as blocks are,
//! and merged in the end, so that a million of them take some megabytes. docs/layer-index.md describes a block.

use std::{
    cmp::Ordering,
    collections::{BinaryHeap, VecDeque, binary_heap::PeekMut},
    fmt,
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
    /// The bytes that all entries say, before they are packed.
    described: u64,
    /// The bytes that were packed so far, as often as they were.
    work: u64,
}

type Run = VecDeque<Vec<u8>>;

/// Why entries make no table of contents.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ContentsError {
    /// The saved state is damaged, or a count exceeds its type.
    Broken,
    /// The entries say far more than those of any real layer.
    Proportion,
    /// One path comes too often, or with too much.
    Path,
}

impl fmt::Display for ContentsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken => f.write_str("its table of contents has more parts than can be counted"),
            Self::Proportion => write!(
                f,
                "its table of contents is out of proportion: more than {} MiB and {EACH} bytes for each entry",
                DESCRIBED >> 20
            ),
            Self::Path => write!(f, "more than {MAX_PATH} bytes of entries at one path"),
        }
    }
}

impl Sorter {
    /// The number of entries so far.
    pub(crate) const fn entries(&self) -> u64 {
        self.entries
    }

    /// About how many bytes the table takes that they make, but for the last of them.
    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    /// The bytes that were packed so far. Packing takes several times as long as inflating.
    pub(crate) const fn work(&self) -> u64 {
        self.work
    }

    /// About the memory that it takes: at the end as well, when blocks are merged.
    pub(crate) fn memory(&self) -> usize {
        // Sorting takes half as much again, packing some copies of a block, and merging a block of each run.
        let runs = self.levels.iter().map(Vec::len).max().unwrap_or_default();
        let merged = (runs + 4).min(FAN + 4) * 2 * BLOCK_BYTES;
        self.weight + self.weight / 2 + merged + self.size_in_memory()
    }

    fn size_in_memory(&self) -> usize {
        usize::try_from(self.size).unwrap_or(usize::MAX)
    }

    /// Takes an entry.
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

    /// Adds a run to a level that is there, or to the one after the last.
    fn add_run(&mut self, at: usize, run: Run) {
        match self.levels.get_mut(at) {
            Some(level) => level.push(run),
            None => self.levels.push(vec![run]),
        }
    }

    /// Merges the runs of each level that is full.
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

    /// Ends with the blocks, and where each of them is.
    pub(crate) fn finish(mut self) -> Result<(Vec<Block>, Vec<Vec<u8>>), ContentsError> {
        self.end_run();
        // Of no more runs than a level has is a block unpacked at the same time.
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

    /// Writes what it takes to go on, but for the blocks: those are taken out, in the order in which they are to be
    /// handed to [`Sorter::load`].
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

    /// Goes on with what was saved. The blocks come later: each of them is empty, and their lengths are added.
    pub(crate) fn load(reader: &mut Reader<'_>, lengths: &mut Vec<usize>) -> Option<Self> {
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

    /// The blocks of what was loaded, the last one first.
    pub(crate) fn blocks_from_last(&mut self) -> impl Iterator<Item = &mut Vec<u8>> {
        let levels = self.levels.iter_mut().rev();
        let runs = levels.flat_map(|level| level.iter_mut().rev());
        runs.flat_map(|run| run.iter_mut().rev())
    }
}

/// Puts the entries of runs in order, and packs them anew. Answers how many bytes that were.
fn merge(
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

/// Gathers sorted entries into blocks. Entries of one path stand together, unless they are many or large.
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
            && self.weight < 2 * BLOCK_BYTES
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
        let mut bytes = compress_to_vec(&pack(&entries), LEVEL);
        // It has the room for half of what it was made of.
        bytes.shrink_to_fit();
        Some(Packed {
            first: entries.first()?.path.clone(),
            count: u32::try_from(entries.len()).ok()?,
            bytes,
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
            (OMITTED, entry.omitted > 0),
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
        if entry.omitted > 0 {
            wire::put(extras, entry.omitted);
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
    let count = reader.length().filter(|count| *count <= MAX_ENTRIES)?;
    let mut weight = 0;
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
        if byte & OMITTED != 0 {
            entry.omitted = extras.number()?;
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
        // Paths are short where they begin as the ones before do.
        weight += entry.weight();
        if weight > MAX_BLOCK {
            return None;
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
const KIND: u8 = 0x07;
const OMITTED: u8 = 0x08;
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
/// What a block may inflate to, and what its entries may weigh: as much as makes it full, twice, and one entry with all that an
/// archive may say of it. A larger one, from before there was this limit, is made anew with its index.
const MAX_BLOCK: usize = 4 * 1024 * 1024;
/// The most that the entries of one path may weigh, because a lookup has all of them in memory: some 7,000 entries, or an entry of
/// 65,536 segments. In real layers a path comes two or three times.
const MAX_PATH: usize = 2 * 1024 * 1024;
/// All entries may say so many bytes, and so many more for each of them. Real ones say some 60 to 200 each: a path, and perhaps a
/// label of SELinux.
const DESCRIBED: u64 = 32 * 1024 * 1024;
const EACH: u64 = 512;
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

    fn sorter(count: u32, length: usize) -> Result<Sorter, ContentsError> {
        let mut sorter = Sorter::default();
        for n in 0..count {
            let mut path = format!("{n:08}").into_bytes();
            path.resize(length, b'x');
            let entry = Entry {
                path,
                ..Entry::default()
            };
            sorter.push(entry)?;
        }
        Ok(sorter)
    }

    #[test]
    fn refuses_what_no_layer_says_of_its_entries() {
        assert!(sorter(1_000, 16_000).unwrap().finish().is_ok());
        let error = sorter(5_000, 16_000).unwrap_err();
        assert_eq!(error, ContentsError::Proportion);
        assert_eq!(
            error.to_string(),
            "its table of contents is out of proportion: more than 32 MiB and 512 bytes for each entry"
        );
    }

    #[test]
    fn refuses_a_path_that_comes_too_often() {
        let of = |count: u64| {
            let mut sorter = Sorter::default();
            for offset in 0..count {
                let entry = Entry {
                    path: b"same".to_vec(),
                    offset,
                    ..Entry::default()
                };
                sorter.push(entry).unwrap();
            }
            sorter.finish()
        };
        let (blocks, _) = of(7_000).unwrap();
        assert!(blocks.len() > 3);
        assert_eq!(of(8_000).unwrap_err(), ContentsError::Path);
    }

    #[test]
    fn blocks_are_bounded_by_weight() {
        let mut sorter = Sorter::default();
        for number in 0..200_u64 {
            // Each path comes ten times.
            let value = vec![b'v'; 60_000];
            let entry = Entry {
                path: format!("{:03}", number / 10).into_bytes(),
                offset: number,
                attributes: vec![(b"user.x".to_vec(), value)],
                omitted: number % 3,
                ..Entry::default()
            };
            sorter.push(entry).unwrap();
        }
        let (_, bytes) = sorter.finish().unwrap();
        let mut read = 0;
        for block in bytes {
            assert!(block.capacity() == block.len());
            let entries = unpack(&block).unwrap();
            let weight: usize = entries.iter().map(Entry::weight).sum();
            assert!(weight < 2 * BLOCK_BYTES + 64 * 1024, "{weight}");
            for entry in entries {
                assert_eq!((entry.offset, entry.omitted), (read, read % 3));
                read += 1;
            }
        }
        assert_eq!(read, 200);
    }

    #[test]
    fn many_runs_are_merged_before_the_end() {
        let mut sorter = Sorter::default();
        for index in 0..90_000 {
            let path = format!("{:05}{}", index * 7_919 % 90_000, "/path".repeat(100));
            let entry = Entry {
                path: path.into_bytes(),
                offset: index,
                ..Entry::default()
            };
            sorter.push(entry).unwrap();
            assert!(sorter.levels.iter().all(|level| level.len() < FAN));
            if index == 80_000 {
                let mut saved = Vec::new();
                let blocks = sorter.save(&mut saved);
                let mut lengths = Vec::new();
                sorter = Sorter::load(&mut Reader(&saved), &mut lengths).unwrap();
                assert!(lengths.iter().copied().eq(blocks.iter().map(Vec::len)));
                for (room, block) in sorter.blocks_from_last().zip(blocks.into_iter().rev()) {
                    *room = block;
                }
            }
        }
        assert_eq!(sorter.levels.len(), 2);
        assert_eq!(sorter.entries(), 90_000);
        let (blocks, bytes) = sorter.finish().unwrap();
        assert_eq!(blocks.len(), bytes.len());
        let entries = bytes.iter().flat_map(|block| unpack(block).unwrap());
        let paths = entries.map(|entry| entry.path[..5].to_vec());
        let wanted = (0..90_000).map(|index| format!("{index:05}").into_bytes());
        assert!(paths.eq(wanted));
    }
}
