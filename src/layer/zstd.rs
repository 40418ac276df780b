//! Zstandard (RFC 8878): frames in, bytes out, and the offsets of frames.
//!
//! Frames are independent, so decoding can begin at each of them. Most writers make a layer of one
//! frame. The seekable format and zstd:chunked make many, and describe them in skippable frames.
//!
//! ```text
//! stream = 1*( frame / skippable )
//! frame  = header 1*block [checksum]       header: 6 to 18 bytes, block: 3 bytes to 128 KiB
//! skippable = %x50-5F.2A.4D.18 length *OCTET
//! ```
//!
//! Blocks are decoded whole. The decoder holds back the window: the output that later blocks of the
//! frame may refer to.

mod error;
mod frame;
mod limits;

pub use self::error::ZstdError;

use std::fmt;

use ruzstd::{
    decoding::{BlockDecodingStrategy, FrameDecoder},
    io,
};

use crate::layer::zstd::{
    error::ZstdProblem,
    frame::{Frame, MAGIC, header_length, number},
    limits::{HELD_UNIT, MAX_UNITS, MAX_WINDOW, STRETCH},
};

/// A part of a zstd stream, in the order of the stream.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Event<'a> {
    /// A frame begins: decoding can begin here.
    Frame {
        /// The offset of its magic number in the compressed stream.
        input: u64,
        /// The offset of its first byte in the output.
        output: u64,
    },
    /// The next bytes of output.
    Bytes(&'a [u8]),
}

/// Decodes zstd, from the beginning of the stream or of any frame.
#[doc(hidden)]
pub struct Unzstd {
    decoder: FrameDecoder,
    limit: u64,
    /// The current frame.
    frame: Option<Frame>,
    /// How many bytes are still to be skipped.
    skip: u64,
    /// The bytes of the next header or block that have come.
    gathered: Vec<u8>,
    start: u64,
    input: u64,
    output: u64,
    /// The number of headers and blocks decoded.
    units: u64,
    /// Where the current stretch of output begins, and its number of headers and blocks.
    stretch: (u64, u32),
    failed: Option<ZstdError>,
}

impl fmt::Debug for Unzstd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unzstd")
            .field("input", &self.input)
            .field("output", &self.output)
            .field("frame", &self.frame)
            .finish_non_exhaustive()
    }
}

impl Unzstd {
    /// Decodes from the beginning. A frame is refused if its window exceeds this many bytes. The
    /// decoder holds twice as much in memory, three times while it grows, and some blocks.
    pub fn new(window_limit: u64) -> Self {
        Self::at(0, 0, window_limit)
    }

    /// Decodes from the beginning of a frame at these offsets.
    pub fn at(input: u64, output: u64, window_limit: u64) -> Self {
        let limit = window_limit.min(MAX_WINDOW);
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(limit);
        Self {
            decoder,
            limit,
            frame: None,
            skip: 0,
            gathered: Vec::new(),
            start: input,
            input,
            output,
            units: 0,
            stretch: (output, 0),
            failed: None,
        }
    }

    /// The number of compressed bytes decoded, and of bytes handed over.
    pub const fn position(&self) -> (u64, u64) {
        (self.input, self.output)
    }

    /// The number of headers and blocks decoded. Even an empty block costs as much as a kilobyte of
    /// output, because of its tables.
    pub const fn units(&self) -> u64 {
        self.units
    }

    /// The most bytes that the decoder holds back.
    pub fn held(&self) -> u64 {
        self.frame.map_or(0, |frame| frame.window)
    }

    /// Decodes bytes, and hands over the output in pieces. After an error, every call returns that
    /// error.
    pub fn push<E: From<ZstdError>>(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(Event<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone().into());
        }
        let result = self.decode(bytes, &mut each);
        if result.is_err() && self.failed.is_none() {
            self.fail(ZstdProblem::Refused);
        }
        result
    }

    /// Ends the input.
    pub fn finish(&mut self) -> Result<(), ZstdError> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        let is_between = self.frame.is_none() && self.gathered.is_empty() && self.skip == 0;
        if is_between && self.input > self.start {
            return Ok(());
        }
        let offset = self.input + self.gathered.len() as u64;
        Err(self.fail_at(offset, ZstdProblem::End))
    }

    fn decode<E: From<ZstdError>>(
        &mut self,
        mut bytes: &[u8],
        each: &mut impl FnMut(Event<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        loop {
            bytes = self.skip(bytes);
            if bytes.is_empty() {
                return Ok(());
            }
            if self.gathered.is_empty() {
                let length = self.length(bytes)?;
                if let Some((unit, rest)) = bytes.split_at_checked(length) {
                    self.unit(unit, each)?;
                    bytes = rest;
                    continue;
                }
            }
            let mut gathered = std::mem::take(&mut self.gathered);
            let missing = self.length(&gathered)?.saturating_sub(gathered.len());
            let (now, later) = bytes.split_at(missing.min(bytes.len()));
            gathered.extend_from_slice(now);
            bytes = later;
            if self.length(&gathered)? <= gathered.len() {
                self.unit(&gathered, each)?;
                gathered.clear();
            }
            self.gathered = gathered;
        }
    }

    /// Skips bytes of a skippable frame. Returns the remaining bytes.
    fn skip<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let skipped = usize::try_from(self.skip).map_or(bytes.len(), |skip| skip.min(bytes.len()));
        self.skip -= skipped as u64;
        self.input += skipped as u64;
        bytes.get(skipped..).unwrap_or_default()
    }

    /// The length of the header or block that begins with these bytes. If too few bytes have come,
    /// it is a lower bound.
    fn length(&mut self, bytes: &[u8]) -> Result<usize, ZstdError> {
        match &self.frame {
            Some(frame) => frame.block_length(bytes),
            None => header_length(bytes),
        }
        .map_err(|problem| self.fail(problem))
    }

    /// Decodes a whole header or block.
    fn unit<E: From<ZstdError>>(
        &mut self,
        bytes: &[u8],
        each: &mut impl FnMut(Event<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.count_unit()?;
        match self.frame.take() {
            Some(frame) => self.block(frame, bytes, each),
            None => self.header(bytes, each),
        }
    }

    /// Counts a header or a block. Fails if there are far more than any writer makes.
    fn count_unit(&mut self) -> Result<(), ZstdError> {
        self.units += 1;
        let (start, count) = self.stretch;
        self.stretch = if self.output - start >= STRETCH {
            (self.output, 1)
        } else {
            (start, count + 1)
        };
        // While the first window of a frame is held back, its output is not known.
        let held = match self.frame {
            Some(frame) if self.output == frame.start => frame.window,
            Some(_) | None => 0,
        };
        if u64::from(self.stretch.1) > u64::from(MAX_UNITS) + held / HELD_UNIT {
            return Err(self.fail(ZstdProblem::Units));
        }
        Ok(())
    }

    fn header<E: From<ZstdError>>(
        &mut self,
        bytes: &[u8],
        each: &mut impl FnMut(Event<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let (magic, fields) = bytes.split_at_checked(MAGIC.len()).unwrap_or_default();
        if magic != MAGIC {
            self.skip = number(fields);
            self.input += bytes.len() as u64;
            return Ok(());
        }
        let frame = Frame::parse(fields, self.output).map_err(|problem| self.fail(problem))?;
        if frame.window > self.limit {
            let (needed, limit) = (frame.window, self.limit);
            return Err(self.fail(ZstdProblem::Window { needed, limit }).into());
        }
        self.decoder
            .reset(bytes)
            .map_err(|_| self.fail(ZstdProblem::Block))?;
        each(Event::Frame {
            input: self.input,
            output: self.output,
        })?;
        self.input += bytes.len() as u64;
        self.frame = Some(frame);
        Ok(())
    }

    fn block<E: From<ZstdError>>(
        &mut self,
        frame: Frame,
        bytes: &[u8],
        each: &mut impl FnMut(Event<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if frame.literals(bytes) > frame.block_limit() {
            return Err(self.fail(ZstdProblem::Block).into());
        }
        self.decoder
            .decode_blocks(bytes, BlockDecodingStrategy::UptoBlocks(1))
            .map_err(|_| self.fail(ZstdProblem::Block))?;
        let came = self.output - frame.start + self.decoder.can_collect() as u64;
        if frame.content.is_some_and(|content| came > content) {
            return Err(self.fail(ZstdProblem::Length).into());
        }
        let mut sink = Sink {
            each,
            taken: 0,
            result: Ok(()),
        };
        let drained = self.decoder.collect_to_writer(&mut sink);
        if sink.taken > 0 && self.output == frame.start && frame.window >= STRETCH {
            // The bytes that were held back are more than a stretch.
            self.stretch = (self.output, 0);
        }
        self.output += sink.taken;
        sink.result?;
        drained.map_err(|_| self.fail(ZstdProblem::Block))?;
        self.input += bytes.len() as u64;
        if !self.decoder.is_finished() {
            self.frame = Some(frame);
            return Ok(());
        }
        if frame.content.is_some_and(|content| came < content) {
            return Err(self.fail(ZstdProblem::Length).into());
        }
        let check = self.decoder.get_checksum_from_data();
        if frame.has_check && check != self.decoder.get_calculated_checksum() {
            return Err(self.fail(ZstdProblem::Check).into());
        }
        Ok(())
    }

    fn fail(&mut self, problem: ZstdProblem) -> ZstdError {
        // Only another frame may follow a frame.
        let problem = match problem {
            ZstdProblem::Magic if self.input > self.start => ZstdProblem::Garbage,
            problem => problem,
        };
        self.fail_at(self.input, problem)
    }

    fn fail_at(&mut self, offset: u64, problem: ZstdProblem) -> ZstdError {
        let error = ZstdError { offset, problem };
        self.failed = Some(error.clone());
        error
    }
}

/// Hands over the output of the decoder, until the receiver fails.
struct Sink<'a, E, F> {
    each: &'a mut F,
    taken: u64,
    result: Result<(), E>,
}

impl<E, F: FnMut(Event<'_>) -> Result<(), E>> io::Write for Sink<'_, E, F> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, io::Error> {
        self.result = (self.each)(Event::Bytes(bytes));
        // Taking no bytes stops the decoder.
        let taken = if self.result.is_ok() { bytes.len() } else { 0 };
        self.taken += taken as u64;
        Ok(taken)
    }

    fn flush(&mut self) -> Result<(), io::Error> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
