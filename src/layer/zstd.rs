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
    Units,
    End,
    Refused,
}

impl ZstdError {
    /// Whether it is valid, as far as it was read, and takes more memory than was allowed.
    pub const fn is_limit(&self) -> bool {
        matches!(self.problem, Problem::Window { .. } | Problem::Units)
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
            Problem::Units => write!(
                f,
                "more than {MAX_UNITS} frames and blocks of zstd that decompress to less than {} MiB",
                STRETCH >> 20
            ),
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

    /// The number of literals of a compressed block. The decoder does not compare it with what may come out of a block.
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

/// The most headers and blocks in so much output: one of a few bytes takes microseconds.
const MAX_UNITS: u32 = 16_384;
const STRETCH: u64 = 1024 * 1024;
/// One more of them for so many bytes that may be held back.
const HELD_UNIT: u64 = 256;
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

#[cfg(test)]
mod tests {
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    const LIMIT: u64 = 8 << 20;
    const CHECKED: u8 = 0x04;
    const SINGLE: u8 = 0x20;
    /// A window of 1 KiB.
    const SMALLEST: u8 = 0;

    /// All that is seen of a stream.
    #[derive(Debug, Default, Eq, PartialEq)]
    struct Seen {
        out: Vec<u8>,
        frames: Vec<(u64, u64)>,
        position: (u64, u64),
        error: Option<String>,
    }

    fn seen(mut unzstd: Unzstd, bytes: &[u8], piece: usize) -> Seen {
        let mut seen = Seen::default();
        let mut each = |event: Event<'_>| {
            match event {
                Event::Frame { input, output } => seen.frames.push((input, output)),
                Event::Bytes(bytes) => seen.out.extend_from_slice(bytes),
            }
            Ok::<_, ZstdError>(())
        };
        let result = bytes
            .chunks(piece)
            .try_for_each(|piece| unzstd.push(piece, &mut each))
            .and_then(|()| unzstd.finish());
        seen.error = result.err().map(|error| error.to_string());
        seen.position = unzstd.position();
        seen
    }

    #[track_caller]
    fn decode(bytes: &[u8]) -> Seen {
        let whole = seen(Unzstd::new(LIMIT), bytes, usize::MAX);
        for piece in [4_099, 7, 1] {
            assert_eq!(
                seen(Unzstd::new(LIMIT), bytes, piece),
                whole,
                "pieces of {piece}"
            );
        }
        whole
    }

    #[track_caller]
    fn error(bytes: &[u8]) -> String {
        decode(bytes).error.expect("an error")
    }

    /// A frame that is written by hand: its descriptor, its other fields, its blocks.
    fn frame(descriptor: u8, fields: &[u8], blocks: &[Vec<u8>]) -> Vec<u8> {
        [&MAGIC, [descriptor].as_slice(), fields, &blocks.concat()].concat()
    }

    fn block(kind: u64, is_last: bool, size: usize, content: &[u8]) -> Vec<u8> {
        let header = (size as u64) << 3 | kind << 1 | u64::from(is_last);
        [&header.to_le_bytes()[..BLOCK_HEADER], content].concat()
    }

    fn raw(is_last: bool, content: &[u8]) -> Vec<u8> {
        block(0, is_last, content.len(), content)
    }

    fn skippable(content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len()).unwrap().to_le_bytes();
        [&[0x5e, 0x2a, 0x4d, 0x18], length.as_slice(), content].concat()
    }

    fn empty() -> Vec<u8> {
        frame(SINGLE, &[0], &[raw(true, b"")])
    }

    /// A frame with a window and a checksum, made by an encoder.
    fn compress(bytes: &[u8]) -> Vec<u8> {
        compress_to_vec(bytes, CompressionLevel::Fastest)
    }

    fn random(seed: u64) -> impl FnMut() -> usize {
        let mut state = seed | 1;
        move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state >> 20).unwrap()
        }
    }

    /// Bytes that compress as those of programs do, about.
    fn sample(length: usize, seed: u64) -> Vec<u8> {
        let mut random = random(seed);
        let mut bytes = vec![0];
        while bytes.len() < length {
            if random().is_multiple_of(3) {
                bytes.extend((0..8).map(|_| random().to_le_bytes()[0] & 0x3f));
            } else {
                let back = 1 + random() % bytes.len().min(30_000);
                for _ in 0..4 + random() % 60 {
                    bytes.push(bytes[bytes.len() - back]);
                }
            }
        }
        bytes.truncate(length);
        bytes
    }

    #[test]
    fn comes_out_as_it_went_in_however_it_is_fed() {
        let sample = sample(600_000, 7);
        let (first, second) = (compress(&sample[..400_000]), compress(&sample[400_000..]));
        assert!(first.len() < 300_000, "{}", first.len());
        let bytes = [
            empty(),
            first.clone(),
            skippable(&[7; 10_000]),
            empty(),
            second.clone(),
            skippable(b""),
        ]
        .concat();
        let seen = decode(&bytes);
        assert_eq!(seen.error, None);
        assert!(seen.out == sample);
        assert_eq!(seen.position, (bytes.len() as u64, 600_000));
        let second = (bytes.len() - 8 - second.len()) as u64;
        let length = empty().len() as u64;
        assert_eq!(
            seen.frames,
            [
                (0, 0),
                (length, 0),
                (second - length, 400_000),
                (second, 400_000)
            ]
        );
    }

    #[test]
    fn begins_anew_at_every_frame() {
        let sample = sample(200_000, 5);
        let mut bytes: Vec<u8> = sample.chunks(3_000).flat_map(compress).collect();
        bytes.extend(skippable(b"where they are"));
        let whole = decode(&bytes);
        assert_eq!(whole.frames.len(), 67);
        for (index, &(input, output)) in whole.frames.iter().enumerate() {
            let rest = &bytes[usize::try_from(input).unwrap()..];
            let unzstd = Unzstd::at(input, output, LIMIT);
            let seen = seen(unzstd, rest, 4_099);
            assert_eq!(seen.error, None);
            assert!(seen.out == sample[usize::try_from(output).unwrap()..]);
            assert_eq!(seen.frames, whole.frames[index..]);
            assert_eq!(seen.position, whole.position);
        }
    }

    #[test]
    fn reads_every_form_of_header() {
        let text = b"text, text".as_slice();
        let last = [raw(true, text)];
        let long = [9; 300];
        for (bytes, out) in [
            (frame(0, &[SMALLEST], &last), text),
            (frame(SINGLE, &[10], &last), text),
            (frame(0x10 | SINGLE, &[10], &last), text),
            (frame(0x40, &[SMALLEST, 44, 0], &[raw(true, &long)]), &long),
            (
                frame(0x40 | SINGLE, &[44, 0], &[block(1, true, 300, &[9])]),
                &long,
            ),
            (frame(0x80, &[SMALLEST, 10, 0, 0, 0], &last), text),
            (frame(0xc0, &[0x3f, 10, 0, 0, 0, 0, 0, 0, 0], &last), text),
            (frame(0x03, &[SMALLEST, 0, 0, 0, 0], &last), text),
            (frame(0x02, &[SMALLEST, 0, 0], &last), text),
            (frame(0x01, &[SMALLEST, 0], &last), text),
        ] {
            let seen = decode(&bytes);
            assert_eq!(seen.error, None, "{bytes:?}");
            assert_eq!(seen.out, out);
        }
    }

    #[test]
    fn holds_back_no_more_than_the_window() {
        let block = |is_last| block(REPEATED, is_last, 1_024, &[9]);
        let mut unzstd = Unzstd::new(1_024);
        let mut taken = 0;
        let mut push = |bytes: &[u8], came: usize| {
            let each = |event: Event<'_>| {
                if let Event::Bytes(bytes) = event {
                    taken += bytes.len();
                }
                Ok::<_, ZstdError>(())
            };
            unzstd.push(bytes, each).unwrap();
            assert!(taken + 1_024 >= came);
        };
        push(&frame(0, &[SMALLEST], &[]), 0);
        for index in 1..=5_000 {
            push(&block(index == 5_000), index * 1_024);
        }
        assert_eq!(taken, 5_000 * 1_024);
        unzstd.finish().unwrap();
    }

    #[test]
    fn passes_over_more_than_could_be_held() {
        let mut unzstd = Unzstd::new(LIMIT);
        let each = |_: Event<'_>| Ok::<_, ZstdError>(());
        let header = [0x50, 0x2a, 0x4d, 0x18, 0xff, 0xff, 0xff, 0xff];
        unzstd.push(&header, each).unwrap();
        for _ in 0..1_000 {
            unzstd.push(&[0x28; 4_099], each).unwrap();
        }
        assert!(unzstd.gathered.capacity() == 0);
        assert_eq!(unzstd.position(), (4_099_008, 0));
        assert_eq!(
            unzstd.finish().unwrap_err().to_string(),
            "zstd that ends too early, at byte 4099008"
        );
    }

    /// A frame of no bytes has nine, and decoding it takes microseconds.
    #[test]
    fn refuses_frames_and_blocks_out_of_proportion() {
        let most = usize::try_from(MAX_UNITS).unwrap();
        let frames = |count| empty().repeat(count);
        let blocks = |count| {
            let mut blocks = vec![raw(false, b""); count - 2];
            blocks.push(raw(true, b""));
            frame(0, &[SMALLEST], &blocks)
        };
        let skippables = |count| skippable(b"").repeat(count);
        for bytes in [frames(most / 2), blocks(most - 1), skippables(most)] {
            assert_eq!(seen(Unzstd::new(LIMIT), &bytes, usize::MAX).error, None);
        }
        for bytes in [frames(most / 2 + 1), blocks(most + 5), skippables(most + 1)] {
            for piece in [usize::MAX, 1_021] {
                let error = seen(Unzstd::new(LIMIT), &bytes, piece).error.unwrap();
                assert!(error.contains("16384 frames and blocks"), "{error}");
            }
            let mut unzstd = Unzstd::new(LIMIT);
            let each = |_: Event<'_>| Ok::<_, ZstdError>(());
            assert!(unzstd.push(&bytes, each).unwrap_err().is_limit());
        }
        // A window of 1 MiB holds back 1 MiB, which may be of 4,096 blocks.
        let mut flushed = vec![block(REPEATED, false, 60, &[9]); most + 4_000];
        flushed.push(raw(true, b""));
        let flushed = seen(Unzstd::new(LIMIT), &frame(0, &[0x50], &flushed), 4_099);
        assert_eq!(flushed.error, None);
        // Small frames are no problem, however many they are: zstd:chunked has some for each file.
        let small = frame(SINGLE, &[200], &[block(REPEATED, true, 200, &[9])]);
        let seen = seen(Unzstd::new(LIMIT), &small.repeat(50_000), usize::MAX);
        assert_eq!((seen.error, seen.out.len()), (None, 10_000_000));
    }

    #[test]
    fn refuses_windows_beyond_the_limit() {
        let last = [raw(true, b"text, text")];
        let limit = |limit, bytes: &[u8]| seen(Unzstd::new(limit), bytes, 5).error;
        let window = frame(0, &[9], &last);
        assert_eq!(limit(2_304, &window), None);
        assert_eq!(
            limit(2_303, &window).unwrap(),
            "a zstd frame that needs a window of 2304 bytes, more than 2303, at byte 0"
        );
        let single = frame(SINGLE, &[10], &last);
        assert_eq!(limit(10, &single), None);
        assert_eq!(
            limit(9, &single).unwrap(),
            "a zstd frame that needs a window of 10 bytes, more than 9, at byte 0"
        );
        let largest = frame(0, &[0xff], &last);
        assert_eq!(
            limit(u64::MAX, &largest).unwrap(),
            "a zstd frame that needs a window of 4123168604160 bytes, more than 1073741824, at byte 0"
        );

        let each = |_: Event<'_>| Ok::<_, ZstdError>(());
        let mut unzstd = Unzstd::new(LIMIT);
        assert!(unzstd.push(&largest, each).unwrap_err().is_limit());
        let mut unzstd = Unzstd::new(LIMIT);
        assert!(!unzstd.push(b"text", each).unwrap_err().is_limit());
    }

    #[test]
    fn says_what_is_wrong() {
        let last = [raw(true, b"text, text")];
        let bytes = frame(SINGLE, &[10], &last);
        let end = bytes.len();
        assert_eq!(error(b""), "zstd that ends too early, at byte 0");
        assert_eq!(error(b"PK"), "not zstd, at byte 0");
        assert_eq!(error(&[0x28, 0xb5, 0x2f, 0xfe]), "not zstd, at byte 0");
        assert_eq!(error(&[0x50, 0x2a, 0x4e]), "not zstd, at byte 0");
        assert_eq!(
            error(&[bytes.as_slice(), b"\0"].concat()),
            format!("bytes that are not zstd after the last frame, at byte {end}")
        );
        assert_eq!(
            error(&[skippable(b"skipped"), b"garbage".to_vec()].concat()),
            "bytes that are not zstd after the last frame, at byte 15"
        );
        assert_eq!(
            error(&frame(0x08 | SINGLE, &[10], &last)),
            "the reserved bit of a zstd frame is set, at byte 0"
        );
        assert_eq!(
            error(&frame(0x02, &[SMALLEST, 1, 2], &last)),
            "a zstd frame that needs dictionary 513, at byte 0"
        );
        assert_eq!(
            error(&frame(SINGLE, &[11], &last)),
            format!("a zstd frame has another length, at byte {end}")
        );
        assert_eq!(
            error(&frame(0x80, &[SMALLEST, 9, 0, 0, 0], &last)),
            "a zstd frame has another length, at byte 10"
        );
        let mut bytes = compress(b"text, text");
        *bytes.last_mut().unwrap() ^= 1;
        assert_eq!(
            error(&bytes),
            format!("a zstd frame has another checksum, at byte {}", bytes.len())
        );
        let block_error = "a block of a zstd frame can't be decoded, at byte 6";
        for bytes in [
            frame(0, &[SMALLEST], &[block(RESERVED, true, 1, &[1])]),
            frame(0, &[SMALLEST], &[block(0, true, 1_025, &[1])]),
            frame(0, &[SMALLEST], &[block(REPEATED, true, 1_025, &[1])]),
            frame(0, &[0x68], &[block(0, true, 128 * 1024 + 1, &[1])]),
            // No literals, no sequences.
            frame(0, &[SMALLEST], &[block(COMPRESSED, true, 0, &[])]),
            // A byte repeated 1,025 times, no sequences.
            frame(
                0,
                &[SMALLEST],
                &[block(COMPRESSED, true, 4, &[0x15, 0x40, 9, 0])],
            ),
            // Literals by the tree of the block before, which there is not.
            frame(
                0,
                &[SMALLEST],
                &[block(COMPRESSED, true, 5, &[0x53, 0x40, 0, 1, 0])],
            ),
        ] {
            assert_eq!(error(&bytes), block_error, "{bytes:?}");
        }
        let repeated = block(COMPRESSED, true, 4, &[0x05, 0x40, 9, 0]);
        assert_eq!(decode(&frame(0, &[SMALLEST], &[repeated])).out, [9; 1_024]);
    }

    #[test]
    fn has_nothing_after_an_error() {
        let bytes = compress(&sample(300_000, 3));
        let mut unzstd = Unzstd::new(LIMIT);
        let refuse = |event: Event<'_>| match event {
            Event::Frame { .. } => Ok(()),
            Event::Bytes(_) => Err(None),
        };
        #[derive(Debug)]
        struct Refused(Option<ZstdError>);
        impl From<ZstdError> for Refused {
            fn from(error: ZstdError) -> Self {
                Self(Some(error))
            }
        }
        let refuse = |event: Event<'_>| refuse(event).map_err(Refused);
        assert!(unzstd.push(&bytes, refuse).unwrap_err().0.is_none());
        let error = unzstd.push(&bytes, refuse).unwrap_err().0.unwrap();
        assert!(
            error
                .to_string()
                .starts_with("what came out of zstd was refused, at byte "),
            "{error}"
        );
        assert_eq!(unzstd.finish().unwrap_err(), error);

        let mut unzstd = Unzstd::new(LIMIT);
        let error = unzstd.push(b"garbage", refuse).unwrap_err().0.unwrap();
        assert_eq!(unzstd.push(&bytes, refuse).unwrap_err().0.unwrap(), error);
    }

    #[test]
    fn refuses_what_is_cut_anywhere() {
        let first = compress(b"some text, some text");
        let skipped = skippable(b"skipped");
        let bytes = [first.as_slice(), &skipped, &compress(&sample(300, 5))].concat();
        for at in 0..bytes.len() {
            let cut = decode(&bytes[..at]);
            if at == first.len() || at == first.len() + skipped.len() {
                assert_eq!(cut.error, None, "a frame ends here");
                assert_eq!(cut.out, b"some text, some text");
            } else {
                assert_eq!(
                    cut.error.unwrap(),
                    format!("zstd that ends too early, at byte {at}")
                );
            }
        }
    }

    #[test]
    fn never_lets_a_flipped_bit_pass_unseen() {
        let sample = sample(700, 9);
        let bytes = compress(&sample);
        assert_eq!(bytes[MAGIC.len()] & CHECKED, CHECKED);
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                let seen = seen(Unzstd::new(LIMIT), &flipped, 64);
                // Whether there is a checksum is itself a bit, and so is whether to skip it all.
                let is_checked = flipped[MAGIC.len()] & CHECKED != 0 && flipped[0] == MAGIC[0];
                if seen.error.is_none() && is_checked {
                    assert!(seen.out == sample, "byte {at}");
                }
            }
        }
    }

    /// The decoder's own checks hold on what no checksum covers: they are compiled into tests.
    #[test]
    fn survives_blocks_of_any_bytes() {
        let mut random = random(1);
        let sample = sample(3_000, 11);
        let mut good = compress(&sample);
        good[MAGIC.len()] &= !CHECKED;
        good.truncate(good.len() - CHECK);
        let start = MAGIC.len() + 2 + BLOCK_HEADER;
        let mut failures = 0;
        for round in 0..6_000 {
            let mut bytes = good.clone();
            for _ in 0..1 + random() % 4 {
                // The tables are at the beginning of a block: most of what is odd is there.
                let end = if random().is_multiple_of(2) {
                    start + 60
                } else {
                    bytes.len()
                };
                let at = start + random() % (end - start);
                bytes[at] = random().to_le_bytes()[0];
            }
            if round % 3 == 0 {
                let content: Vec<_> = (0..random() % 200)
                    .map(|_| random().to_le_bytes()[0])
                    .collect();
                let block = block(COMPRESSED, true, content.len(), &content);
                bytes = frame(0, &[0x40], &[block]);
            }
            let seen = seen(Unzstd::new(LIMIT), &bytes, usize::MAX);
            failures += usize::from(seen.error.is_some());
            assert!(seen.out.len() <= 256 * 1024);
        }
        assert!(failures > 3_000, "{failures}");
    }
}
