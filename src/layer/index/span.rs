//! Spans: parts of an archive that can be read alone, and their rows in an index.

use std::ops::Range;

use crate::layer::wire::WireReader;

/// A part of the archive, usually of about 1 MiB, that can be read without the bytes before it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Span {
    /// The range of the span in the archive.
    pub output: Range<u64>,
    /// The range of its compressed bytes: in the layer, or in an object of stored spans.
    pub input: Range<u64>,
    /// The CRC-32 of the decompressed bytes.
    pub check: u32,
    /// The state of the decoder at the start of the span.
    pub start: SpanStart,
}

/// The state of a decoder at the start of a span.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SpanStart {
    /// No state: the layer is not compressed.
    Plain,
    /// The header of a gzip member (RFC 1952).
    Member,
    /// A block of deflate inside a gzip member (RFC 1951).
    Block {
        /// The number of bits of the byte before the input that are still unread: 0 to 7.
        count: u8,
        /// Those bits.
        bits: u8,
        /// The range of the window in the index: up to 32 KiB of earlier output, compressed.
        window: Range<u64>,
    },
    /// The header of a zstd frame (RFC 8878).
    Frame,
    /// A stream of deflate (RFC 1951) in the object of stored spans with this number.
    Stored(u32),
}

/// A span as stored in the head.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct SpanRow {
    pub(crate) output: u64,
    pub(crate) input: u64,
    /// The offset of the window after the first window.
    pub(crate) window: u64,
    /// The length of the window, or of the input if the next row does not imply it.
    pub(crate) length: u32,
    pub(crate) check: u32,
    pub(crate) object: u32,
    pub(crate) start: u8,
    pub(crate) count: u8,
    pub(crate) bits: u8,
}

impl SpanRow {
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

    /// The span of a row. It ends with the archive and the layer, unless the row has the length of
    /// the input. The next row may end it earlier.
    fn span(self, head: u64, compressed: u64, inflated: u64) -> Option<Span> {
        let mut end = compressed;
        let start = match self.start {
            Self::PLAIN => SpanStart::Plain,
            Self::MEMBER => SpanStart::Member,
            Self::BLOCK if self.count < 8 => {
                let window = head.checked_add(self.window)?;
                SpanStart::Block {
                    count: self.count,
                    bits: self.bits,
                    window: window..window.checked_add(self.length.into())?,
                }
            }
            Self::FRAME => {
                end = self.input.checked_add(self.length.into())?;
                SpanStart::Frame
            }
            Self::STORED => {
                end = self.input.checked_add(self.length.into())?;
                SpanStart::Stored(self.object)
            }
            _ => return None,
        };
        Some(Span {
            output: self.output..inflated,
            input: self.input..end,
            check: self.check,
            start,
        })
    }

    pub(crate) fn read(reader: &mut WireReader<'_>) -> Option<Self> {
        let u32 = |reader: &mut WireReader<'_>| reader.array().map(u32::from_le_bytes);
        let u64 = |reader: &mut WireReader<'_>| reader.array().map(u64::from_le_bytes);
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

/// Reads the spans of rows. `head` is the length of the head: windows come after it.
pub(super) fn read_spans(
    rows: &[u8],
    head: u64,
    compressed: u64,
    inflated: u64,
) -> Option<Vec<Span>> {
    let mut spans: Vec<Span> = Vec::new();
    // Reserve exactly: vectors that grow take up to twice the memory.
    spans.reserve_exact(rows.len() / ROW);
    for row in rows.chunks_exact(ROW) {
        let span = SpanRow::read(&mut WireReader(row))?.span(head, compressed, inflated)?;
        if let Some(last) = spans.last_mut() {
            last.output.end = span.output.start;
            if !matches!(last.start, SpanStart::Stored(_) | SpanStart::Frame) {
                last.input.end = span.input.start;
            }
            if last.output.is_empty() || last.input.start > last.input.end {
                return None;
            }
        } else if span.output.start != 0 {
            return None;
        }
        spans.push(span);
    }
    let is_reversed = |range: &Range<u64>| range.start > range.end;
    if spans
        .last()
        .is_some_and(|last| is_reversed(&last.output) || is_reversed(&last.input))
    {
        return None;
    }
    Some(spans)
}

/// The length of a row.
pub(super) const ROW: usize = 40;
