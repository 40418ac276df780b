//! Blocks: hundreds of entries, written column by column and compressed.

use miniz_oxide::{deflate::compress_to_vec, inflate::decompress_to_vec_with_limit};

use crate::layer::{
    entry::{Entry, EntryKind, Moment, Owner, Segment},
    wire::{self, WireReader},
};

/// Gathers sorted entries into blocks. Entries of one path share a block unless there are many or
/// large ones.
#[derive(Default)]
pub(super) struct Packer {
    entries: Vec<Entry>,
    weight: usize,
}

/// A packed block.
pub(super) struct Packed {
    pub(super) first: Vec<u8>,
    pub(super) count: u32,
    pub(super) bytes: Vec<u8>,
}

impl Packer {
    /// Adds an entry. Returns the block before it if that is full.
    pub(super) fn push(&mut self, entry: Entry) -> Option<Packed> {
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

    pub(super) fn finish(&mut self) -> Option<Packed> {
        let entries = std::mem::take(&mut self.entries);
        self.weight = 0;
        let mut bytes = compress_to_vec(&pack(&entries), LEVEL);
        // The compressor reserves half of the length of its input.
        bytes.shrink_to_fit();
        Some(Packed {
            first: entries.first()?.path.clone(),
            count: u32::try_from(entries.len()).ok()?,
            bytes,
        })
    }
}

/// Writes entries column by column: similar values stand together, which compresses better by a
/// third.
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

/// Reads the entries of a block. `None` if the bytes are not a block.
pub(crate) fn unpack(bytes: &[u8]) -> Option<Vec<Entry>> {
    let bytes = decompress_to_vec_with_limit(bytes, MAX_BLOCK).ok()?;
    let mut reader = WireReader(&bytes);
    let count = reader.length().filter(|count| *count <= MAX_ENTRIES)?;
    let mut weight = 0;
    let mut columns = [WireReader(&[]); COLUMNS];
    for column in &mut columns {
        *column = WireReader(reader.bytes()?);
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
        // Packed paths are short if they begin like the ones before them.
        weight += entry.weight();
        if weight > MAX_BLOCK {
            return None;
        }
        entries.push(entry);
    }
    Some(entries)
}

fn owner(reader: &mut WireReader<'_>) -> Option<Owner> {
    Some(Owner {
        id: reader.number()?,
        name: reader.bytes()?.to_vec(),
    })
}

/// Times in one block are close to each other.
fn put_moment(out: &mut Vec<u8>, moment: Moment, near: Moment) {
    wire::put_signed(out, moment.seconds.wrapping_sub(near.seconds));
    wire::put(out, moment.nanoseconds.into());
}

fn moment(reader: &mut WireReader<'_>, near: Moment) -> Option<Moment> {
    Some(Moment {
        seconds: near.seconds.wrapping_add(reader.signed()?),
        nanoseconds: reader.number()?.try_into().ok()?,
    })
}

/// The length of the common prefix of two paths.
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
/// The bits of the kind, and flags for optional values.
const KIND: u8 = 0x07;
const OMITTED: u8 = 0x08;
const ACCESSED: u8 = 0x10;
const CHANGED: u8 = 0x20;
const ATTRIBUTES: u8 = 0x40;
const SPARSE: u8 = 0x80;
/// A block of this many entries has 5 KiB, and takes half a millisecond to read.
const BLOCK_ENTRIES: usize = 512;
/// The most entries in a block, even of one path.
const MAX_ENTRIES: usize = 4 * BLOCK_ENTRIES;
/// The memory of entries that makes a block full.
pub(super) const BLOCK_BYTES: usize = 256 * 1024;
/// The most bytes that a block inflates to, and the most memory of its entries: twice a full block,
/// and one entry of the largest size. Old indexes may have larger blocks; such an index is made
/// again.
const MAX_BLOCK: usize = 4 * 1024 * 1024;
/// The compression level of blocks.
const LEVEL: u8 = 6;
