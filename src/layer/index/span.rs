//! Spans: the parts of an archive that can be read alone, and the rows that they are written as.

use std::ops::Range;

use crate::layer::wire::Reader;

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

    /// The span of a row. It ends with the archive and with the layer, unless the row itself says
    /// the length of the input; the next row may end it earlier.
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

/// Reads the spans of these rows. `head` is the length of the head, after which the windows are.
pub(super) fn read_spans(
    rows: &[u8],
    head: u64,
    compressed: u64,
    inflated: u64,
) -> Option<Vec<Span>> {
    let mut spans: Vec<Span> = Vec::new();
    // Exactly as many as there are: vectors that grow take up to twice the memory.
    spans.reserve_exact(rows.len() / ROW);
    for row in rows.chunks_exact(ROW) {
        let span = Row::read(&mut Reader(row))?.span(head, compressed, inflated)?;
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

/// The bytes of a span in the head.
pub(super) const ROW: usize = 40;
