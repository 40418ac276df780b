//! The index of a layer: what was learnt of it in one pass, so that no other is needed.
//!
//! It says where the layer can be read from the middle, and has its table of contents. docs/layer-index.md describes the bytes.
//! The head is read whole; blocks of the table of contents and windows are read one by one, as they are needed.

use std::{fmt, ops::Range, rc::Rc};

use crate::{
    digest::{Algorithm, Digest},
    layer::{
        contents::{self, Block},
        entry::Entry,
        wire::{self, Reader},
    },
};

/// The version of the format. An index of another one is made anew.
pub const VERSION: u32 = 1;

/// What is known of a layer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Known {
    /// Its index.
    Index(Index),
    /// Why it has none.
    Refused(Refusal),
}

/// The head of an index.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Index {
    /// How the layer is compressed.
    pub compression: Compression,
    /// About how much output is between two places from which the layer can be read, in bytes.
    pub span: u64,
    /// The size of the layer, in bytes.
    pub compressed: u64,
    /// The size of the archive in it, in bytes.
    pub inflated: u64,
    /// The number of entries of the archive.
    pub entries: u64,
    /// The SHA-256 of the archive: what an image's configuration calls a diff ID.
    pub diff_id: Digest,
    /// The spans, in their order. They cover the archive.
    pub spans: Vec<Span>,
    /// The number of objects that the spans of a zstd layer are stored in.
    pub objects: u32,
    pub(crate) blocks: Vec<Block>,
    head: u64,
    payload: u64,
}

/// How a layer is compressed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// By gzip (RFC 1952).
    Gzip,
    /// By zstd (RFC 8878).
    Zstd,
}

/// A part of the archive that can be read without what is before it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Span {
    /// Its bytes: offsets in the archive.
    pub output: Range<u64>,
    /// What it is inflated from: offsets in the layer, or in an object that is stored beside it.
    pub input: Range<u64>,
    /// The CRC-32 of its bytes.
    pub check: u32,
    /// How reading begins.
    pub start: SpanStart,
}

/// How reading a span begins.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SpanStart {
    /// The bytes are the layer's.
    Plain,
    /// With the header of a gzip member.
    Member,
    /// With a block of deflate, in the middle of a gzip member.
    Block {
        /// How many bits of the byte before the input are yet to be read: 0 to 7.
        count: u8,
        /// Those bits.
        bits: u8,
        /// Where in the index the window is.
        window: Range<u64>,
    },
    /// With a frame of zstd.
    Frame,
    /// With a stream of deflate (RFC 1951), in this one of the stored objects.
    Stored(u32),
}

/// Why a layer has no index.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// What was found, in lower case and without a full stop.
    pub reason: String,
    /// The word by which metrics count it.
    pub kind: String,
    /// The limits that it was beyond, as they were then; none where other limits would not help.
    pub limits: Option<Vec<u64>>,
}

/// Why bytes are no index.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum IndexError {
    /// They are one of another version.
    Version(u32),
    /// They are not as they were written.
    Corrupt,
}

impl fmt::Display for IndexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(f, "an index of version {version}, not {VERSION}"),
            Self::Corrupt => f.write_str("an index that is not as it was written"),
        }
    }
}

impl std::error::Error for IndexError {}

impl Compression {
    /// The word by which listings call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// The number of bytes of the head, by the first [`FIXED`] of what is kept of a layer.
pub fn head(bytes: &[u8]) -> Result<u64, IndexError> {
    let mut reader = Reader(bytes);
    if reader.array() != Some(*MAGIC) {
        return Err(IndexError::Corrupt);
    }
    let version = reader
        .array()
        .map(u32::from_le_bytes)
        .ok_or(IndexError::Corrupt)?;
    if version != VERSION {
        return Err(IndexError::Version(version));
    }
    let length = reader.array().map(u32::from_le_bytes);
    length.map(u64::from).ok_or(IndexError::Corrupt)
}

/// The most memory that [`Known::parse`] takes for what it returns, by the first [`COUNTS`] bytes
/// and the length of all bytes. Callers reserve the memory before they parse.
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
    /// Reads what is known of a layer: the head of an index, or a refusal.
    pub fn parse(bytes: &[u8]) -> Result<Self, IndexError> {
        let length = head(bytes)?;
        parse(bytes, length).ok_or(IndexError::Corrupt)
    }
}

fn parse(bytes: &[u8], length: u64) -> Option<Known> {
    let u32 = |reader: &mut Reader<'_>| reader.array().map(u32::from_le_bytes);
    let u64 = |reader: &mut Reader<'_>| reader.array().map(u64::from_le_bytes);
    let bytes = bytes.get(..usize::try_from(length).ok()?)?;
    let mut reader = Reader(bytes.get(CHECK..)?);
    let check = u32(&mut reader)?;
    if crc32fast::hash(reader.0) != check {
        return None;
    }
    let [kind, compression, ..] = reader.array::<4>()?;
    if kind == REFUSAL {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        let reason = text(reader.bytes()?)?;
        let kind = text(reader.bytes()?)?;
        let limits = match reader.byte()? {
            0 => None,
            _ => Some(
                (0..reader.number()?)
                    .map_while(|_| reader.number())
                    .collect(),
            ),
        };
        return Some(Known::Refused(Refusal {
            reason,
            kind,
            limits,
        }));
    }
    if kind != INDEX {
        return None;
    }
    let compression =
        *[Compression::None, Compression::Gzip, Compression::Zstd].get(usize::from(compression))?;
    let [span, compressed, inflated, entries, payload] = [
        u64(&mut reader)?,
        u64(&mut reader)?,
        u64(&mut reader)?,
        u64(&mut reader)?,
        u64(&mut reader)?,
    ];
    let [spans, blocks, objects, _] = [
        u32(&mut reader)?,
        u32(&mut reader)?,
        u32(&mut reader)?,
        u32(&mut reader)?,
    ];
    let diff_id = Digest::from_hash(Algorithm::Sha256, &reader.array::<32>()?)?;
    let mut index = Index {
        compression,
        span,
        compressed,
        inflated,
        entries,
        diff_id,
        spans: Vec::new(),
        objects,
        blocks: Vec::new(),
        head: length,
        payload,
    };
    let rows = reader.take(usize::try_from(spans).ok()?.checked_mul(ROW)?)?;
    // Exactly as many as there are: vectors that grow take up to twice the memory.
    index.spans.reserve_exact(rows.len() / ROW);
    for row in rows.chunks_exact(ROW) {
        let Row {
            output,
            input,
            window,
            length,
            check,
            object,
            start,
            count,
            bits,
        } = Row::read(&mut Reader(row))?;
        let mut end = compressed;
        let start = match start {
            Row::PLAIN => SpanStart::Plain,
            Row::MEMBER => SpanStart::Member,
            Row::BLOCK if count < 8 => {
                let window = index.head.checked_add(window)?;
                let window = window..window.checked_add(length.into())?;
                SpanStart::Block {
                    count,
                    bits,
                    window,
                }
            }
            Row::FRAME => {
                end = input.checked_add(length.into())?;
                SpanStart::Frame
            }
            Row::STORED => {
                end = input.checked_add(length.into())?;
                SpanStart::Stored(object)
            }
            _ => return None,
        };
        if let Some(last) = index.spans.last_mut() {
            last.output.end = output;
            if !matches!(last.start, SpanStart::Stored(_) | SpanStart::Frame) {
                last.input.end = input;
            }
            if last.output.is_empty() || last.input.start > last.input.end {
                return None;
            }
        } else if output != 0 {
            return None;
        }
        index.spans.push(Span {
            output: output..inflated,
            input: input..end,
            check,
            start,
        });
    }
    if index.spans.last().is_some_and(|last| {
        last.output.start > last.output.end || last.input.start > last.input.end
    }) {
        return None;
    }
    let mut offset = 0;
    let blocks = usize::try_from(blocks).ok()?;
    let shortest = usize::try_from(SHORTEST).ok()?;
    index
        .blocks
        .reserve_exact(blocks.min(reader.0.len() / shortest));
    for _ in 0..blocks {
        let length = reader.number()?.try_into().ok()?;
        index.blocks.push(Block {
            offset,
            length,
            count: reader.number()?.try_into().ok()?,
            check: reader.array().map(u32::from_le_bytes)?,
            first: reader.bytes()?.to_vec(),
        });
        offset += u64::from(length);
    }
    Some(Known::Index(index))
}

impl Refusal {
    /// The bytes that are kept.
    pub fn encode(&self) -> Vec<u8> {
        let mut rest = vec![REFUSAL, 0, 0, 0];
        wire::put_bytes(&mut rest, self.reason.as_bytes());
        wire::put_bytes(&mut rest, self.kind.as_bytes());
        match &self.limits {
            None => rest.push(0),
            Some(limits) => {
                rest.push(1);
                wire::put(&mut rest, limits.len() as u64);
                limits.iter().for_each(|limit| wire::put(&mut rest, *limit));
            }
        }
        seal(&rest).unwrap_or_default()
    }
}

impl Index {
    /// The number of bytes of the head, which is read whole.
    pub const fn head(&self) -> u64 {
        self.head
    }

    /// The number of bytes of the index.
    pub const fn size(&self) -> u64 {
        self.head.saturating_add(self.payload)
    }

    /// The spans that have these bytes of the archive.
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

    /// About the memory that the head takes.
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

    /// The first path that is not before this one, with its entries in the order of the archive. `read` reads a block.
    ///
    /// An index from before there was a limit may have more entries of one path than are read at once: then its first ones
    /// and its last ones are answered.
    pub async fn seek<E>(
        &self,
        from: &[u8],
        read: impl AsyncFn(usize) -> Result<Rc<[Entry]>, E>,
    ) -> Result<Option<Vec<Entry>>, E> {
        // Entries of this path may begin in the block before the first one that begins with it.
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

    /// Where in the index a block is.
    pub fn range_of(&self, block: usize) -> Option<Range<u64>> {
        let block = self.blocks.get(block)?;
        let start = self.head + block.offset;
        Some(start..start + u64::from(block.length))
    }

    /// The CRC-32 of the bytes of a block.
    pub fn check_of(&self, block: usize) -> Option<u32> {
        self.blocks.get(block).map(|block| block.check)
    }

    /// Reads a block.
    pub fn read_block(&self, block: usize, bytes: &[u8]) -> Result<Vec<Entry>, IndexError> {
        self.blocks
            .get(block)
            .filter(|block| crc32fast::hash(bytes) == block.check)
            .and_then(|_| contents::unpack(bytes))
            .ok_or(IndexError::Corrupt)
    }
}

/// Everything that an index is made of, as a pass has it.
pub(crate) struct Parts {
    pub(crate) compression: Compression,
    pub(crate) span: u64,
    pub(crate) compressed: u64,
    pub(crate) inflated: u64,
    pub(crate) entries: u64,
    pub(crate) diff_id: [u8; 32],
    pub(crate) rows: Vec<Row>,
    pub(crate) objects: u32,
    pub(crate) blocks: Vec<Block>,
    pub(crate) contents: Vec<Vec<u8>>,
    pub(crate) windows: Vec<u8>,
}

/// A span, as it is written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Row {
    pub(crate) output: u64,
    pub(crate) input: u64,
    /// Of the window, from the first of them on.
    pub(crate) window: u64,
    /// Of the window, or of what is inflated where the next span does not say so.
    pub(crate) length: u32,
    pub(crate) check: u32,
    pub(crate) object: u32,
    pub(crate) start: u8,
    pub(crate) count: u8,
    pub(crate) bits: u8,
}

impl Row {
    pub(crate) const PLAIN: u8 = 0;
    pub(crate) const MEMBER: u8 = 1;
    pub(crate) const BLOCK: u8 = 2;
    pub(crate) const FRAME: u8 = 3;
    pub(crate) const STORED: u8 = 4;

    pub(crate) fn write(self, out: &mut Vec<u8>) {
        for number in [self.output, self.input, self.window] {
            out.extend(number.to_le_bytes());
        }
        for number in [self.length, self.check, self.object] {
            out.extend(number.to_le_bytes());
        }
        out.extend([self.start, self.count, self.bits, 0]);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let u32 = |reader: &mut Reader<'_>| reader.array().map(u32::from_le_bytes);
        let u64 = |reader: &mut Reader<'_>| reader.array().map(u64::from_le_bytes);
        let [output, input, window] = [u64(reader)?, u64(reader)?, u64(reader)?];
        let [length, check, object] = [u32(reader)?, u32(reader)?, u32(reader)?];
        let [start, count, bits, _] = reader.array()?;
        Some(Self {
            output,
            input,
            window,
            length,
            check,
            object,
            start,
            count,
            bits,
        })
    }
}

/// An index, in pieces of which none was copied.
#[derive(Clone, Debug, Default)]
pub struct Encoded {
    /// The head.
    pub head: Vec<u8>,
    /// The windows and blocks of contents, which follow the head.
    pub pages: Vec<Vec<u8>>,
}

impl Encoded {
    /// The number of bytes.
    pub fn size(&self) -> u64 {
        self.head.len() as u64 + self.pages_size()
    }

    /// The number of bytes after the head.
    pub fn pages_size(&self) -> u64 {
        self.pages.iter().map(|page| page.len() as u64).sum()
    }

    /// All of it.
    pub fn into_bytes(self) -> Vec<u8> {
        let mut out = self.head;
        // It may take more memory than all else: each piece is dropped when it is copied.
        out.reserve_exact(self.pages.iter().map(Vec::len).sum());
        for page in self.pages {
            out.extend(page);
        }
        out
    }
}

impl Parts {
    /// The index. `None` where it has more parts than can be counted.
    pub(crate) fn encode(self) -> Option<Encoded> {
        let compression = match self.compression {
            Compression::None => 0,
            Compression::Gzip => 1,
            Compression::Zstd => 2,
        };
        let contents: usize = self.contents.iter().map(Vec::len).sum();
        let contents = contents as u64;
        let payload = contents + self.windows.len() as u64;
        let mut rest = vec![INDEX, compression, 0, 0];
        for number in [
            self.span,
            self.compressed,
            self.inflated,
            self.entries,
            payload,
        ] {
            rest.extend(number.to_le_bytes());
        }
        let count = |length: usize| u32::try_from(length).ok();
        for number in [
            count(self.rows.len())?,
            count(self.blocks.len())?,
            self.objects,
            0,
        ] {
            rest.extend(number.to_le_bytes());
        }
        rest.extend(self.diff_id);
        for mut row in self.rows {
            if row.start == Row::BLOCK {
                row.window += contents;
            }
            row.write(&mut rest);
        }
        for block in self.blocks {
            wire::put(&mut rest, block.length.into());
            wire::put(&mut rest, block.count.into());
            rest.extend(block.check.to_le_bytes());
            wire::put_bytes(&mut rest, &block.first);
        }
        let head = seal(&rest)?;
        let mut pages = self.contents;
        pages.push(self.windows);
        Some(Encoded { head, pages })
    }
}

/// Puts magic, version, length and check before the rest of a head.
fn seal(rest: &[u8]) -> Option<Vec<u8>> {
    let mut out = MAGIC.to_vec();
    out.extend(VERSION.to_le_bytes());
    out.extend(u32::try_from(CHECK + 4 + rest.len()).ok()?.to_le_bytes());
    out.extend(crc32fast::hash(rest).to_le_bytes());
    out.extend(rest);
    Some(out)
}

const MAGIC: &[u8; 8] = b"strata\0i";
/// Magic, version and length.
const CHECK: usize = 8 + 4 + 4;
/// The number of bytes that tell how long the head is.
pub const FIXED: u64 = CHECK as u64;
/// Where in the head the numbers of spans and blocks are.
const COUNTED: usize = 64;
/// The number of bytes that tell how much memory the head takes once it is parsed.
pub const COUNTS: u64 = COUNTED as u64 + 8;
/// The bytes of the shortest block in the head: two numbers, a checksum, and an empty path.
const SHORTEST: u64 = 7;
const INDEX: u8 = 0;
const REFUSAL: u8 = 1;
/// The most blocks that are read for one path, after its first: all that a pass makes of one.
const MAX_SAME: usize = 8;
/// The bytes of a span in the head.
const ROW: usize = 40;
