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

use std::fmt;

use ruzstd::{
    decoding::{BlockDecodingStrategy, FrameDecoder},
    io,
};

use super::wire::Reader;

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

/// Why bytes can't be decoded.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ZstdError {
    /// The offset in the compressed stream at which it was noticed.
    pub offset: u64,
    problem: Problem,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Problem {
    Magic,
    Garbage,
    Reserved,
    Dictionary(u64),
    Window { needed: u64, limit: u64 },
    Block,
    Check,
    Length,
    End,
    Refused,
}

impl ZstdError {
    /// Whether it is valid, as far as it was read, and takes more memory than was allowed.
    pub const fn is_limit(&self) -> bool {
        matches!(self.problem, Problem::Window { .. })
    }
}

impl fmt::Display for ZstdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problem {
            Problem::Magic => f.write_str("not zstd"),
            Problem::Garbage => f.write_str("bytes that are not zstd after the last frame"),
            Problem::Reserved => f.write_str("the reserved bit of a zstd frame is set"),
            Problem::Dictionary(id) => write!(f, "a zstd frame that needs dictionary {id}"),
            Problem::Window { needed, limit } => write!(
                f,
                "a zstd frame that needs a window of {needed} bytes, more than {limit}"
            ),
            Problem::Block => f.write_str("a block of a zstd frame can't be decoded"),
            Problem::Check => f.write_str("a zstd frame has another checksum"),
            Problem::Length => f.write_str("a zstd frame has another length"),
            Problem::End => f.write_str("zstd that ends too early"),
            Problem::Refused => f.write_str("what came out of zstd was refused"),
        }?;
        write!(f, ", at byte {}", self.offset)
    }
}

impl std::error::Error for ZstdError {}

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
    /// Decodes from the beginning. A frame whose window is larger than this many bytes is refused; what is held in memory is
    /// no more than twice as much, and some blocks.
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
            failed: None,
        }
    }

    /// The number of compressed bytes that were decoded, and of those that came out.
    pub const fn position(&self) -> (u64, u64) {
        (self.input, self.output)
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
        match self.frame.take() {
            Some(frame) => self.block(frame, bytes, each),
            None => self.header(bytes, each),
        }
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

/// What the header of a frame says (RFC 8878, section 3.1.1.1).
#[derive(Clone, Copy, Debug)]
struct Frame {
    /// The offset of its first byte in the stream that comes out.
    start: u64,
    /// How far back it refers.
    window: u64,
    /// The number of bytes that come out, if it is said.
    content: Option<u64>,
    has_check: bool,
}

impl Frame {
    /// Reads what follows the magic number.
    fn parse(bytes: &[u8], start: u64) -> Result<Self, Problem> {
        let mut reader = Reader(bytes);
        let descriptor = Descriptor(reader.byte().unwrap_or_default());
        let mut field = |length| number(reader.take(length).unwrap_or_default());
        let window = field(descriptor.window_length());
        let dictionary = field(descriptor.dictionary_length());
        let content = field(descriptor.content_length());
        let content = match descriptor.content_length() {
            0 => None,
            2 => Some(content + 256),
            _ => Some(content),
        };
        if dictionary != 0 {
            return Err(Problem::Dictionary(dictionary));
        }
        let base = 1 << (10 + (window >> 3));
        Ok(Self {
            start,
            window: match content {
                Some(content) if descriptor.is_single_segment() => content,
                _ => base + base / 8 * (window & 7),
            },
            content,
            has_check: descriptor.has_check(),
        })
    }

    /// The most that a block may hold, and that may come out of it.
    fn block_limit(&self) -> u64 {
        self.window.min(MAX_BLOCK)
    }

    /// The length of the block that begins with these bytes, with the checksum if it is the last.
    fn block_length(&self, bytes: &[u8]) -> Result<usize, Problem> {
        let Some(header) = bytes.first_chunk::<BLOCK_HEADER>() else {
            return Ok(BLOCK_HEADER);
        };
        let (kind, size) = block_header(*header);
        if kind == RESERVED || size > self.block_limit() {
            return Err(Problem::Block);
        }
        let size = if kind == REPEATED { 1 } else { size };
        let is_last = header[0] & 1 == 1;
        let check = if is_last && self.has_check { CHECK } else { 0 };
        Ok(BLOCK_HEADER + usize::try_from(size).map_err(|_| Problem::Block)? + check)
    }

    /// The number of literals of a compressed block: the decoder takes more of them than may come out of a block, if nothing
    /// else comes out.
    fn literals(&self, bytes: &[u8]) -> u64 {
        let Some((header, content)) = bytes.split_first_chunk::<BLOCK_HEADER>() else {
            return 0;
        };
        if block_header(*header).0 != COMPRESSED {
            return 0;
        }
        let header = number(content.get(..content.len().min(3)).unwrap_or_default());
        // Section 3.1.1.3.1.1.
        let (shift, bits) = match (header & 3, header >> 2 & 3) {
            (0 | 1, 0 | 2) => (3, 5),
            (0 | 1, 1) => (4, 12),
            (0 | 1, _) => (4, 20),
            (_, 0 | 1) => (4, 10),
            (_, 2) => (4, 14),
            (_, _) => (4, 18),
        };
        header >> shift & ((1 << bits) - 1)
    }
}

/// The byte that says which fields of a header there are (RFC 8878, section 3.1.1.1.1).
#[derive(Clone, Copy)]
struct Descriptor(u8);

impl Descriptor {
    const fn is_single_segment(self) -> bool {
        self.0 & 0x20 != 0
    }

    const fn is_reserved(self) -> bool {
        self.0 & 0x08 != 0
    }

    const fn has_check(self) -> bool {
        self.0 & 0x04 != 0
    }

    const fn window_length(self) -> usize {
        if self.is_single_segment() { 0 } else { 1 }
    }

    const fn dictionary_length(self) -> usize {
        match self.0 & 3 {
            0 => 0,
            1 => 1,
            2 => 2,
            _ => 4,
        }
    }

    const fn content_length(self) -> usize {
        match self.0 >> 6 {
            0 if self.is_single_segment() => 1,
            0 => 0,
            1 => 2,
            2 => 4,
            _ => 8,
        }
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

/// The length of the header that begins with these bytes, as far as they say. What is wrong is noticed at the first byte that
/// shows it, so that it does not matter how many there are.
fn header_length(bytes: &[u8]) -> Result<usize, Problem> {
    let magic = match bytes.first() {
        Some(first) if first & 0xf0 == SKIPPABLE[0] => {
            [*first, SKIPPABLE[1], SKIPPABLE[2], SKIPPABLE[3]]
        }
        _ => MAGIC,
    };
    if bytes.iter().zip(magic).any(|(byte, magic)| *byte != magic) {
        return Err(Problem::Magic);
    }
    if magic != MAGIC {
        return Ok(MAGIC.len() + SKIPPABLE_LENGTH);
    }
    let Some(descriptor) = bytes.get(MAGIC.len()).copied().map(Descriptor) else {
        return Ok(MAGIC.len() + 1);
    };
    if descriptor.is_reserved() {
        return Err(Problem::Reserved);
    }
    Ok(MAGIC.len()
        + 1
        + descriptor.window_length()
        + descriptor.dictionary_length()
        + descriptor.content_length())
}

/// What kind of block this is, and the size it says (RFC 8878, section 3.1.1.2).
fn block_header(bytes: [u8; BLOCK_HEADER]) -> (u64, u64) {
    let header = number(&bytes);
    (header >> 1 & 3, header >> 3)
}

/// The lowest byte is the first.
fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// The low half of the first byte may be anything.
const SKIPPABLE: [u8; 4] = [0x50, 0x2a, 0x4d, 0x18];
const SKIPPABLE_LENGTH: usize = 4;
const BLOCK_HEADER: usize = 3;
const MAX_BLOCK: u64 = 128 * 1024;
const CHECK: usize = 4;
/// One byte, many times.
const REPEATED: u64 = 1;
const COMPRESSED: u64 = 2;
const RESERVED: u64 = 3;
/// The decoder can't allocate twice as much where addresses have 32 bits.
const MAX_WINDOW: u64 = 1 << 30;
