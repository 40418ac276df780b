//! The index of a layer: everything learnt in one pass over it, so that no other pass is needed.
//!
//! It lists the places where reading can begin, and holds the table of contents.
//! docs/layer-index.md describes the bytes. The head is read whole. Blocks of contents and windows
//! are read one by one, on demand.

mod blocks;
mod compression;
mod encoding;
mod envelope;
mod refusal;
mod span;

pub use self::{
    compression::Compression,
    encoding::Encoded,
    envelope::{FIXED, IndexError, VERSION, head},
    refusal::Refusal,
    span::{Span, SpanStart},
};
pub(crate) use self::{encoding::Parts, span::Row};

use std::{ops::Range, rc::Rc};

use crate::{
    digest::{Algorithm, Digest},
    layer::{
        contents::{self, Block},
        entry::Entry,
        index::{
            blocks::{SHORTEST, read_blocks},
            envelope::{CHECK, INDEX, REFUSAL, open},
            span::{ROW, read_spans},
        },
        wire::Reader,
    },
};

/// The stored knowledge about a layer: its index, or a refusal.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Known {
    /// Its index.
    Index(Index),
    /// Why it has no index.
    Refused(Refusal),
}

/// The head of an index.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Index {
    /// How the layer is compressed.
    pub compression: Compression,
    /// The usual output between two places where reading can begin, in bytes.
    pub span: u64,
    /// The size of the layer, in bytes.
    pub compressed: u64,
    /// The size of the archive in it, in bytes.
    pub inflated: u64,
    /// The number of entries in the archive.
    pub entries: u64,
    /// The SHA-256 of the archive: the diff ID in the configuration of an image.
    pub diff_id: Digest,
    /// The spans in order. They cover the archive.
    pub spans: Vec<Span>,
    /// The number of objects that hold stored spans of a zstd layer.
    pub objects: u32,
    pub(crate) blocks: Vec<Block>,
    head: u64,
    payload: u64,
}

/// The most memory that the result of [`Known::parse`] takes. `bytes` are the first [`COUNTS`]
/// bytes, and `length` is the length of all. Callers reserve the memory before they parse.
pub fn memory(bytes: &[u8], length: u64) -> Result<u64, IndexError> {
    let head = head(bytes)?;
    if head > length {
        return Err(IndexError::Corrupt);
    }
    let mut reader = Reader(bytes.get(CHECK + 4..).unwrap_or_default());
    if reader
        .array()
        .is_none_or(|[kind, ..]: [u8; 4]| kind == REFUSAL)
    {
        return Ok(head);
    }
    let counts = bytes.get(COUNTED..).unwrap_or_default();
    let mut reader = Reader(counts);
    let mut count = |each: u64| {
        let count = reader.array().map_or(u32::MAX, u32::from_le_bytes);
        u64::from(count).min(head / each)
    };
    let spans = count(ROW as u64);
    let blocks = count(SHORTEST);
    Ok(head
        + size_of::<Index>() as u64
        + spans * size_of::<Span>() as u64
        + blocks * size_of::<Block>() as u64)
}

impl Known {
    /// Parses the head of an index, or a refusal.
    pub fn parse(bytes: &[u8]) -> Result<Self, IndexError> {
        let length = head(bytes)?;
        Self::parse_head(bytes, length).ok_or(IndexError::Corrupt)
    }

    fn parse_head(bytes: &[u8], length: u64) -> Option<Self> {
        let (kind, compression, mut reader) = open(bytes, length)?;
        match kind {
            REFUSAL => Refusal::parse(&mut reader).map(Self::Refused),
            INDEX => parse(&mut reader, compression, length).map(Self::Index),
            _ => None,
        }
    }
}

/// Parses the head of an index after its kind: numbers, spans, then blocks of contents.
fn parse(reader: &mut Reader<'_>, compression: u8, head: u64) -> Option<Index> {
    let u32 = |reader: &mut Reader<'_>| reader.array().map(u32::from_le_bytes);
    let u64 = |reader: &mut Reader<'_>| reader.array().map(u64::from_le_bytes);
    let compression = Compression::from_code(compression)?;
    let [span, compressed, inflated] = [u64(reader)?, u64(reader)?, u64(reader)?];
    let [entries, payload] = [u64(reader)?, u64(reader)?];
    let [spans, blocks, objects, _] = [u32(reader)?, u32(reader)?, u32(reader)?, u32(reader)?];
    let diff_id = Digest::from_hash(Algorithm::Sha256, &reader.array::<32>()?)?;
    let rows = reader.take(usize::try_from(spans).ok()?.checked_mul(ROW)?)?;
    Some(Index {
        compression,
        span,
        compressed,
        inflated,
        entries,
        diff_id,
        spans: read_spans(rows, head, compressed, inflated)?,
        objects,
        blocks: read_blocks(reader, blocks)?,
        head,
        payload,
    })
}

impl Index {
    /// The length of the head in bytes.
    pub const fn head(&self) -> u64 {
        self.head
    }

    /// The length of the index in bytes.
    pub const fn size(&self) -> u64 {
        self.head.saturating_add(self.payload)
    }

    /// The spans that overlap these bytes of the archive.
    pub fn spans_of(&self, bytes: &Range<u64>) -> Range<usize> {
        if bytes.is_empty() {
            return 0..0;
        }
        let first = self
            .spans
            .partition_point(|span| span.output.end <= bytes.start);
        let end = self
            .spans
            .partition_point(|span| span.output.start < bytes.end);
        first..end
    }

    /// The approximate memory of the head.
    pub fn weight(&self) -> usize {
        let paths: usize = self.blocks.iter().map(|block| block.first.len()).sum();
        size_of::<Self>()
            + self.spans.capacity() * size_of::<Span>()
            + self.blocks.capacity() * size_of::<Block>()
            + paths
    }

    /// The number of blocks of the table of contents.
    pub const fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// The first path that is not before this one, with its entries in the order of the archive.
    /// `read` reads a block.
    ///
    /// Old indexes may have more entries of one path than are read at once. Then the result has the
    /// first and the last ones.
    pub async fn seek<E>(
        &self,
        from: &[u8],
        read: impl AsyncFn(usize) -> Result<Rc<[Entry]>, E>,
    ) -> Result<Option<Vec<Entry>>, E> {
        // Entries of this path may begin in the block before the first one that starts with it.
        let before = self
            .blocks
            .partition_point(|block| block.first.as_slice() < from);
        let mut at = before.saturating_sub(1);
        while at < self.blocks.len() {
            let entries = read(at).await?;
            let start = entries.partition_point(|entry| entry.path.as_slice() < from);
            if let Some(found) = entries.get(start) {
                let rest = entries.iter().skip(start);
                let mut same: Vec<_> = rest
                    .take_while(|entry| entry.path == found.path)
                    .cloned()
                    .collect();
                let last = self
                    .blocks
                    .partition_point(|block| block.first <= found.path);
                for block in last.saturating_sub(MAX_SAME).max(at + 1)..last {
                    let more = read(block).await?;
                    let more = more.iter().take_while(|entry| entry.path == found.path);
                    same.extend(more.cloned());
                }
                return Ok(Some(same));
            }
            at += 1;
        }
        Ok(None)
    }

    /// The range of a block in the index.
    pub fn range_of(&self, block: usize) -> Option<Range<u64>> {
        let block = self.blocks.get(block)?;
        let start = self.head + block.offset;
        Some(start..start + u64::from(block.length))
    }

    /// The CRC-32 of the bytes of a block.
    pub fn check_of(&self, block: usize) -> Option<u32> {
        self.blocks.get(block).map(|block| block.check)
    }

    /// Checks and unpacks a block.
    pub fn read_block(&self, block: usize, bytes: &[u8]) -> Result<Vec<Entry>, IndexError> {
        self.blocks
            .get(block)
            .filter(|block| crc32fast::hash(bytes) == block.check)
            .and_then(|_| contents::unpack(bytes))
            .ok_or(IndexError::Corrupt)
    }
}

/// The offset of the counts of spans and blocks.
const COUNTED: usize = 64;
/// The number of bytes that [`memory`] needs.
pub const COUNTS: u64 = COUNTED as u64 + 8;
/// The most blocks read for one path after its first: no pass writes more.
const MAX_SAME: usize = 8;
