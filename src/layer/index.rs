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
pub(crate) use self::{encoding::IndexParts, span::SpanRow};

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
        wire::WireReader,
    },
};

/// The stored knowledge about a layer: its index, or why it has none.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum StoredIndex {
    /// The head of the layer's index.
    Index(Index),
    /// The reason why the layer has no index.
    Refused(Refusal),
}

/// The head of an index. It says where the blocks of contents and the windows are, which are read
/// from the rest on demand.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Index {
    /// The compression of the layer.
    pub compression: Compression,
    /// The usual length of a span in the archive, in bytes.
    pub span: u64,
    /// The size of the layer as stored, in bytes.
    pub compressed: u64,
    /// The size of the archive, in bytes: the decompressed layer.
    pub inflated: u64,
    /// The number of entries in the archive.
    pub entries: u64,
    /// The SHA-256 of the archive: the diff ID in the configuration of an image (image-spec v1.1.1,
    /// `config.md`).
    pub diff_id: Digest,
    /// The spans in order. They cover the archive.
    pub spans: Vec<Span>,
    /// The number of objects that hold stored spans of a zstd layer.
    pub objects: u32,
    pub(crate) blocks: Vec<Block>,
    head: u64,
    payload: u64,
}

/// The most memory that the result of [`StoredIndex::parse`] takes, in bytes. Callers reserve it
/// before they parse.
///
/// `bytes` are at least the first [`COUNTS`] bytes, and `length` is the number of all.
///
/// # Errors
///
/// [`IndexError`] if the bytes begin no index of this version, or the head is longer than `length`.
pub fn memory(bytes: &[u8], length: u64) -> Result<u64, IndexError> {
    let head = head(bytes)?;
    if head > length {
        return Err(IndexError::Corrupt);
    }
    let mut reader = WireReader(bytes.get(CHECK + 4..).unwrap_or_default());
    if reader
        .array()
        .is_none_or(|[kind, ..]: [u8; 4]| kind == REFUSAL)
    {
        return Ok(head);
    }
    let counts = bytes.get(COUNTED..).unwrap_or_default();
    let mut reader = WireReader(counts);
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

impl StoredIndex {
    /// Parses the head of an index, or a refusal, and verifies its checksum. Bytes after the head
    /// are ignored.
    ///
    /// # Errors
    ///
    /// - [`IndexError::Version`] if another version wrote it.
    /// - [`IndexError::Corrupt`] if it is cut short, or no head at all.
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
fn parse(reader: &mut WireReader<'_>, compression: u8, head: u64) -> Option<Index> {
    let u32 = |reader: &mut WireReader<'_>| reader.array().map(u32::from_le_bytes);
    let u64 = |reader: &mut WireReader<'_>| reader.array().map(u64::from_le_bytes);
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
    /// The length of the head, in bytes. Blocks and windows come after it.
    pub const fn head(&self) -> u64 {
        self.head
    }

    /// The length of the whole index, in bytes.
    pub const fn size(&self) -> u64 {
        self.head.saturating_add(self.payload)
    }

    /// The numbers of the spans that overlap a range of the archive.
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

    /// The approximate memory of the head, in bytes.
    pub fn weight(&self) -> usize {
        let paths: usize = self.blocks.iter().map(|block| block.first.len()).sum();
        size_of::<Self>()
            + self.spans.capacity() * size_of::<Span>()
            + self.blocks.capacity() * size_of::<Block>()
            + paths
    }

    /// The number of blocks of the table of contents. Blocks are in the order of paths.
    pub const fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Finds the first path that is not before `from`, in the order of bytes, with its entries in
    /// the order of the archive. `None` if there is no such path. `read` reads a block.
    ///
    /// Old indexes may have more entries of one path than are read at once. Then the result has the
    /// first and the last ones.
    ///
    /// # Errors
    ///
    /// The errors of `read`.
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

    /// The range of a block in the index. `None` if there is no such block.
    pub fn range_of(&self, block: usize) -> Option<Range<u64>> {
        let block = self.blocks.get(block)?;
        let start = self.head + block.offset;
        Some(start..start + u64::from(block.length))
    }

    /// The CRC-32 of the packed bytes of a block. `None` if there is no such block.
    pub fn check_of(&self, block: usize) -> Option<u32> {
        self.blocks.get(block).map(|block| block.check)
    }

    /// Verifies the bytes of [`Index::range_of`], and unpacks the entries of the block.
    ///
    /// # Errors
    ///
    /// [`IndexError::Corrupt`] if they are not the block as it was written.
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
/// The number of bytes from the start of an index that [`memory`] needs.
pub const COUNTS: u64 = COUNTED as u64 + 8;
/// The most blocks read for one path after its first: no pass writes more.
const MAX_SAME: usize = 8;
