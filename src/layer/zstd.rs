//! Zstandard (RFC 8878): frames in, bytes out, and where frames begin.
//!
//! Nothing of one frame is needed to decode another, so decoding can begin anew at each of them. Most writers make one frame
//! of a layer; the seekable format and zstd:chunked make many, and say more about them in frames to be skipped.
//!
//! ```text
//! stream = 1*( frame / skippable )
//! frame  = header 1*block [checksum]       header: 6 to 18 bytes, block: 3 bytes and no more than 128 KiB
//! skippable = %x50-5F.2A.4D.18 length *OCTET
//! ```
//!
//! Blocks are decoded whole. What a frame has yet to refer to, its window, is held back until more than that came out.

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
    error::Problem,
    frame::{Frame, MAGIC, header_length, number},
    limits::{HELD_UNIT, MAX_UNITS, MAX_WINDOW, STRETCH},
};

/// What comes out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Event<'a> {
    /// A frame begins: decoding can begin anew here.
    Frame {
        /// The offset of its magic number in the compressed stream.
        input: u64,
        /// The offset in the stream that comes out of its first byte.
        output: u64,
    },
    /// The next bytes.
    Bytes(&'a [u8]),
}

/// Decodes zstd, from its beginning or from that of any of its frames.
pub struct Unzstd {
    decoder: FrameDecoder,
    limit: u64,
    /// The frame in whose middle this is.
    frame: Option<Frame>,
    /// How many bytes are still to be skipped.
    skip: u64,
    /// A header or a block, as far as it was read.
    gathered: Vec<u8>,
    start: u64,
    input: u64,
    output: u64,
    /// The number of headers and blocks that were decoded here.
    units: u64,
    /// Where a stretch of the output begins, and the number of headers and blocks since then.
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
    /// Decodes from the beginning. A frame whose window is larger than this many bytes is refused. What is held in memory is
    /// up to twice as much, three times while it grows, and some blocks.
    pub fn new(window_limit: u64) -> Self {
        Self::at(0, 0, window_limit)
    }

    /// Decodes from the beginning of a frame, which is at these offsets.
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

    /// The number of compressed bytes that were decoded, and of those that came out.
    pub const fn position(&self) -> (u64, u64) {
        (self.input, self.output)
    }

    /// The number of headers and blocks that were decoded. The tables of a block take as long as a
    /// kilobyte of output, whether or not it has bytes.
    pub const fn units(&self) -> u64 {
        self.units
    }

    /// The most bytes that were decoded and are held back.
    pub fn held(&self) -> u64 {
        self.frame.map_or(0, |frame| frame.window)
    }

    /// Decodes bytes. What comes out is handed over in pieces. After an error there is nothing but that error.
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
            self.fail(Problem::Refused);
        }
        result
    }

    /// Says that there are no more bytes.
    pub fn finish(&mut self) -> Result<(), ZstdError> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        let is_between = self.frame.is_none() && self.gathered.is_empty() && self.skip == 0;
        if is_between && self.input > self.start {
            return Ok(());
        }
        let offset = self.input + self.gathered.len() as u64;
        Err(self.fail_at(offset, Problem::End))
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

    /// Passes over what is to be skipped, and answers what is left.
    fn skip<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let skipped = usize::try_from(self.skip).map_or(bytes.len(), |skip| skip.min(bytes.len()));
        self.skip -= skipped as u64;
        self.input += skipped as u64;
        bytes.get(skipped..).unwrap_or_default()
    }

    /// The length of the header or the block that begins with these bytes, as far as they say: if they are fewer, it may be
    /// more.
    fn length(&mut self, bytes: &[u8]) -> Result<usize, ZstdError> {
        match &self.frame {
            Some(frame) => frame.block_length(bytes),
            None => header_length(bytes),
        }
        .map_err(|problem| self.fail(problem))
    }

    /// Takes a whole header or block.
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

    /// Counts a header or a block, and refuses what has far more of them than any writer makes.
    fn count_unit(&mut self) -> Result<(), ZstdError> {
        self.units += 1;
        let (start, count) = self.stretch;
        self.stretch = if self.output - start >= STRETCH {
            (self.output, 1)
        } else {
            (start, count + 1)
        };
        // While the first window of a frame is held back, nobody can say how much came out.
        let held = match self.frame {
            Some(frame) if self.output == frame.start => frame.window,
            Some(_) | None => 0,
        };
        if u64::from(self.stretch.1) > u64::from(MAX_UNITS) + held / HELD_UNIT {
            return Err(self.fail(Problem::Units));
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
            return Err(self.fail(Problem::Window { needed, limit }).into());
        }
        self.decoder
            .reset(bytes)
            .map_err(|_| self.fail(Problem::Block))?;
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
            return Err(self.fail(Problem::Block).into());
        }
        self.decoder
            .decode_blocks(bytes, BlockDecodingStrategy::UptoBlocks(1))
            .map_err(|_| self.fail(Problem::Block))?;
        let came = self.output - frame.start + self.decoder.can_collect() as u64;
        if frame.content.is_some_and(|content| came > content) {
            return Err(self.fail(Problem::Length).into());
        }
        let mut sink = Sink {
            each,
            taken: 0,
            result: Ok(()),
        };
        let drained = self.decoder.collect_to_writer(&mut sink);
        if sink.taken > 0 && self.output == frame.start && frame.window >= STRETCH {
            // The bytes that were held back until now were more than a stretch.
            self.stretch = (self.output, 0);
        }
        self.output += sink.taken;
        sink.result?;
        drained.map_err(|_| self.fail(Problem::Block))?;
        self.input += bytes.len() as u64;
        if !self.decoder.is_finished() {
            self.frame = Some(frame);
            return Ok(());
        }
        if frame.content.is_some_and(|content| came < content) {
            return Err(self.fail(Problem::Length).into());
        }
        let check = self.decoder.get_checksum_from_data();
        if frame.has_check && check != self.decoder.get_calculated_checksum() {
            return Err(self.fail(Problem::Check).into());
        }
        Ok(())
    }

    fn fail(&mut self, problem: Problem) -> ZstdError {
        // What comes after a frame is nothing, or another one.
        let problem = match problem {
            Problem::Magic if self.input > self.start => Problem::Garbage,
            problem => problem,
        };
        self.fail_at(self.input, problem)
    }

    fn fail_at(&mut self, offset: u64, problem: Problem) -> ZstdError {
        let error = ZstdError { offset, problem };
        self.failed = Some(error.clone());
        error
    }
}

/// Hands over what the decoder writes, until that is refused.
struct Sink<'a, E, F> {
    each: &'a mut F,
    taken: u64,
    result: Result<(), E>,
}

impl<E, F: FnMut(Event<'_>) -> Result<(), E>> io::Write for Sink<'_, E, F> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, io::Error> {
        self.result = (self.each)(Event::Bytes(bytes));
        // That nothing is taken ends it.
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
