//! Gzip (RFC 1952) over deflate (RFC 1951): members in, bytes and checkpoints out.
//!
//! A checkpoint is a place at which inflating can begin anew. Deflate needs three things for that: where the next block
//! begins, to the bit; the 32 KiB of output before it, which it may refer to; and that nothing else is pending, which is so
//! between two blocks only. The beginning of a member needs none of them.
//!
//! What a window is for is copying from it, and what follows copies from a tenth of it on average. The rest is set to zero,
//! so that windows compress: 2 KiB remain of 32.

use std::{collections::VecDeque, fmt};

use miniz_oxide::{
    deflate::compress_to_vec,
    inflate::{
        TINFLStatus,
        core::{
            BlockBoundaryState, DecompressorOxide, decompress,
            inflate_flags::{
                TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_STOP_ON_BLOCK_BOUNDARY,
                TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
            },
        },
        decompress_to_vec_with_limit,
    },
};

/// A place at which inflating can begin anew.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Checkpoint {
    /// The offset in the compressed stream of the first whole byte to be read.
    pub input: u64,
    /// The offset in the inflated stream of the first byte that comes out.
    pub output: u64,
    /// What inflating begins with.
    pub start: Start,
}

/// What inflating begins with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Start {
    /// The header of a member.
    Member,
    /// A block in the middle of one.
    Block {
        /// How many bits of the byte before [`Checkpoint::input`] are yet to be read: 0 to 7.
        count: u8,
        /// Those bits.
        bits: u8,
        /// The output before it, as far as it is referred to, in raw deflate.
        window: Vec<u8>,
    },
}

/// Why bytes are not gzip.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GzipError {
    /// The offset in the compressed stream at which it was noticed.
    pub offset: u64,
    problem: Problem,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Problem {
    Magic,
    Garbage,
    Method(u8),
    Flags(u8),
    Header,
    HeaderCheck,
    Deflate,
    Check,
    Length,
    Window,
    End,
}

impl fmt::Display for GzipError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problem {
            Problem::Magic => f.write_str("not gzip"),
            Problem::Garbage => f.write_str("bytes that are not gzip after the last member"),
            Problem::Method(method) => write!(f, "unknown compression method {method} of gzip"),
            Problem::Flags(flags) => write!(f, "reserved flags {flags:#04x} of gzip are set"),
            Problem::Header => f.write_str("a header of gzip that does not end"),
            Problem::HeaderCheck => f.write_str("the header of a gzip member has another checksum"),
            Problem::Deflate => f.write_str("bytes that are not deflate in a gzip member"),
            Problem::Check => f.write_str("a gzip member has another checksum"),
            Problem::Length => f.write_str("a gzip member has another length"),
            Problem::Window => f.write_str("the window of a checkpoint can't be inflated"),
            Problem::End => f.write_str("gzip that ends too early"),
        }?;
        write!(f, ", at byte {}", self.offset)
    }
}

impl std::error::Error for GzipError {}

/// Inflates gzip, from its beginning or from a checkpoint.
pub struct Gunzip {
    phase: Phase,
    decoder: Box<DecompressorOxide>,
    /// The last of the output, at its offset modulo the size: where decoding goes on does not depend on where it began.
    ring: Box<[u8]>,
    /// Input up to the next multiple of [`CHUNK`], for the same reason.
    chunk: Vec<u8>,
    input: u64,
    output: u64,
    /// The checksum of the member so far; none where its beginning was not seen.
    check: Option<crc32fast::Hasher>,
    member: u64,
    marks: Option<Marks>,
}

/// Where in a member the next byte is.
#[derive(Debug)]
enum Phase {
    /// A header, as far as it was read; nothing of it between members.
    Header(Vec<u8>),
    /// Deflate.
    Body,
    /// The checksum and the length, as far as they were read.
    Trailer(Vec<u8>),
}

/// Placing checkpoints: at the first boundary of blocks where output or input has grown by a span.
struct Marks {
    span: u64,
    last: (u64, u64),
    done: VecDeque<Checkpoint>,
    pending: Option<Pending>,
}

/// A checkpoint of which it is not known yet what of its window is referred to.
struct Pending {
    input: u64,
    output: u64,
    state: BlockBoundaryState,
    window: Vec<u8>,
    compressed: Vec<u8>,
    inflated: Vec<u8>,
}

impl fmt::Debug for Gunzip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gunzip")
            .field("input", &self.input)
            .field("output", &self.output)
            .field("phase", &self.phase)
            .finish_non_exhaustive()
    }
}

impl Default for Gunzip {
    fn default() -> Self {
        Self {
            phase: Phase::Header(Vec::new()),
            decoder: Box::default(),
            ring: vec![0; RING].into(),
            chunk: Vec::new(),
            input: 0,
            output: 0,
            check: None,
            member: 0,
            marks: None,
        }
    }
}

impl Gunzip {
    /// Inflates from the beginning, and leaves a checkpoint wherever output or input has grown by this many bytes.
    pub fn with_checkpoints(span: u64) -> Self {
        let marks = Marks {
            span,
            last: (0, 0),
            done: VecDeque::new(),
            pending: None,
        };
        Self {
            marks: Some(marks),
            ..Self::default()
        }
    }

    /// Inflates from a checkpoint. The checksum of the member in whose middle that is can't be known.
    pub fn from_checkpoint(checkpoint: &Checkpoint) -> Result<Self, GzipError> {
        let mut gunzip = Self {
            input: checkpoint.input,
            output: checkpoint.output,
            ..Self::default()
        };
        if let Start::Block {
            count,
            bits,
            window,
        } = &checkpoint.start
        {
            let window = decompress_to_vec_with_limit(window, WINDOW)
                .map_err(|_| gunzip.fail(Problem::Window))?;
            gunzip.restore(&window);
            *gunzip.decoder = DecompressorOxide::from_block_boundary_state(&BlockBoundaryState {
                num_bits: *count,
                bit_buf: *bits,
                ..BlockBoundaryState::default()
            });
            gunzip.phase = Phase::Body;
        }
        Ok(gunzip)
    }

    /// The number of compressed bytes that were read, and of those that came out.
    pub const fn position(&self) -> (u64, u64) {
        (self.input, self.output)
    }

    /// The next checkpoint, in their order, when all that is kept of its window is known.
    pub fn checkpoint(&mut self) -> Option<Checkpoint> {
        self.marks.as_mut()?.done.pop_front()
    }

    /// Inflates bytes. What comes out is handed over in pieces.
    pub fn push<E: From<GzipError>>(
        &mut self,
        mut bytes: &[u8],
        mut output: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while !bytes.is_empty() {
            // Decoding sees the same pieces however the bytes come, so that what it leaves is the same.
            let read = self.input + self.chunk.len() as u64;
            let room = CHUNK - remainder(read, CHUNK);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            bytes = later;
            if now.len() < room {
                self.chunk.extend_from_slice(now);
            } else if self.chunk.is_empty() {
                self.decode(now, &mut output)?;
            } else {
                self.chunk.extend_from_slice(now);
                let chunk = std::mem::take(&mut self.chunk);
                self.decode(&chunk, &mut output)?;
                self.chunk = chunk;
                self.chunk.clear();
            }
        }
        Ok(())
    }

    /// Says that there are no more bytes.
    pub fn finish<E: From<GzipError>>(
        &mut self,
        mut output: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let chunk = std::mem::take(&mut self.chunk);
        self.decode(&chunk, &mut output)?;
        if let Some(marks) = &mut self.marks {
            marks.settle();
        }
        match &self.phase {
            Phase::Header(read) if read.is_empty() && self.input > 0 => Ok(()),
            Phase::Header(_) | Phase::Body | Phase::Trailer(_) => {
                Err(self.fail(Problem::End).into())
            }
        }
    }

    fn decode<E: From<GzipError>>(
        &mut self,
        mut bytes: &[u8],
        output: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while !bytes.is_empty() {
            let read = match &mut self.phase {
                Phase::Header(_) => self.header(bytes)?,
                Phase::Body => self.body(bytes, output)?,
                Phase::Trailer(_) => self.trailer(bytes)?,
            };
            bytes = bytes.get(read..).unwrap_or_default();
        }
        Ok(())
    }

    /// Reads a header, and answers how many bytes of it there were.
    fn header(&mut self, bytes: &[u8]) -> Result<usize, GzipError> {
        let Phase::Header(read) = &mut self.phase else {
            return Ok(0);
        };
        if read.is_empty() {
            self.begin();
        }
        let Phase::Header(read) = &mut self.phase else {
            return Ok(0);
        };
        let before = read.len();
        let more = bytes.len().min(MAX_HEADER.saturating_sub(before));
        read.extend(bytes.iter().take(more));
        let length = header_length(read).map_err(|problem| match problem {
            // What comes after a member is nothing, or another one.
            Problem::Magic if self.input > 0 => self.fail(Problem::Garbage),
            problem => self.fail(problem),
        })?;
        match length {
            None if more == 0 => Err(self.fail(Problem::Header)),
            None => {
                self.input += more as u64;
                Ok(more)
            }
            Some(length) => {
                let read = length.saturating_sub(before);
                self.input += read as u64;
                *self.decoder = DecompressorOxide::new();
                self.check = Some(crc32fast::Hasher::new());
                self.member = self.output;
                self.phase = Phase::Body;
                Ok(read)
            }
        }
    }

    /// Notes the beginning of a member, which is a checkpoint that costs nothing.
    fn begin(&mut self) {
        let at = (self.input, self.output);
        if let Some(marks) = &mut self.marks
            && marks.is_due(at)
        {
            marks.settle();
            marks.last = at;
            marks.done.push_back(Checkpoint {
                input: at.0,
                output: at.1,
                start: Start::Member,
            });
        }
    }

    fn body<E: From<GzipError>>(
        &mut self,
        bytes: &[u8],
        output: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<usize, E> {
        let due = self
            .marks
            .as_ref()
            .is_some_and(|marks| marks.is_due(self.position()));
        let flags = if due {
            TINFL_FLAG_HAS_MORE_INPUT | TINFL_FLAG_STOP_ON_BLOCK_BOUNDARY
        } else {
            TINFL_FLAG_HAS_MORE_INPUT
        };
        let at = self.place();
        let (status, read, written) =
            decompress(&mut self.decoder, bytes, &mut self.ring, at, flags);
        let inflated = self.ring.get(at..at + written).unwrap_or_default();
        if let Some(check) = &mut self.check {
            check.update(inflated);
        }
        if let Some(marks) = &mut self.marks {
            marks.note(bytes.get(..read).unwrap_or_default(), inflated);
        }
        if !inflated.is_empty() {
            output(inflated)?;
        }
        self.input += read as u64;
        self.output += written as u64;
        match status {
            TINFLStatus::Done => self.phase = Phase::Trailer(Vec::with_capacity(TRAILER)),
            // Bits that were read in an earlier piece can't be given back as bytes: then a later boundary has to do.
            TINFLStatus::BlockBoundary if read > 0 => self.mark(),
            TINFLStatus::BlockBoundary
            | TINFLStatus::NeedsMoreInput
            | TINFLStatus::HasMoreOutput => {}
            // Whatever else there is, or will be, is a failure.
            _ => return Err(self.fail(Problem::Deflate).into()),
        }
        Ok(read)
    }

    /// Begins a checkpoint here, between two blocks.
    fn mark(&mut self) {
        let Some(state) = self.decoder.block_boundary_state() else {
            return;
        };
        let window = self.window();
        let (input, output) = self.position();
        if let Some(marks) = &mut self.marks {
            marks.settle();
            marks.last = (input, output);
            marks.pending = Some(Pending {
                input,
                output,
                state,
                window,
                compressed: Vec::new(),
                inflated: Vec::new(),
            });
        }
    }

    fn trailer(&mut self, bytes: &[u8]) -> Result<usize, GzipError> {
        let Phase::Trailer(trailer) = &mut self.phase else {
            return Ok(0);
        };
        let read = bytes.len().min(TRAILER - trailer.len());
        trailer.extend(bytes.iter().take(read));
        self.input += read as u64;
        let Ok(trailer) = <[u8; TRAILER]>::try_from(trailer.as_slice()) else {
            return Ok(read);
        };
        let [check @ .., a, b, c, d] = trailer;
        if let Some(hasher) = self.check.take() {
            if hasher.finalize() != u32::from_le_bytes(check) {
                return Err(self.fail(Problem::Check));
            }
            // The length is modulo 2^32 (RFC 1952, section 2.3.1).
            let length = (self.output - self.member) & u64::from(u32::MAX);
            if length != u64::from(u32::from_le_bytes([a, b, c, d])) {
                return Err(self.fail(Problem::Length));
            }
        }
        self.phase = Phase::Header(Vec::new());
        Ok(read)
    }

    /// Where in the ring the next byte of output goes.
    const fn place(&self) -> usize {
        remainder(self.output, RING)
    }

    /// The output that what follows may refer to: no more than 32 KiB, and none of an earlier member.
    fn window(&self) -> Vec<u8> {
        let length = usize::try_from(self.output - self.member)
            .unwrap_or(WINDOW)
            .min(WINDOW);
        let end = self.place();
        match end.checked_sub(length) {
            Some(start) => self.ring.get(start..end).unwrap_or_default().to_vec(),
            None => {
                let start = self.ring.len() + end - length;
                let (before, after) = (self.ring.get(start..), self.ring.get(..end));
                [before.unwrap_or_default(), after.unwrap_or_default()].concat()
            }
        }
    }

    /// Puts a window back to where it was.
    fn restore(&mut self, window: &[u8]) {
        let start = self.place() + self.ring.len() - window.len();
        for (offset, byte) in window.iter().enumerate() {
            let at = (start + offset) % self.ring.len();
            if let Some(place) = self.ring.get_mut(at) {
                *place = *byte;
            }
        }
        self.member = self.output - window.len() as u64;
    }

    const fn fail(&self, problem: Problem) -> GzipError {
        GzipError {
            offset: self.input,
            problem,
        }
    }
}

impl Marks {
    const fn is_due(&self, (input, output): (u64, u64)) -> bool {
        input - self.last.0 >= self.span || output - self.last.1 >= self.span
    }

    /// Notes what follows a checkpoint, until nothing more can refer to its window.
    fn note(&mut self, compressed: &[u8], inflated: &[u8]) {
        let Some(pending) = &mut self.pending else {
            return;
        };
        pending.compressed.extend_from_slice(compressed);
        let more = WINDOW - pending.inflated.len();
        pending.inflated.extend(inflated.iter().take(more));
        if pending.inflated.len() == WINDOW || pending.compressed.len() > MAX_PENDING {
            self.settle();
        }
    }

    /// Finishes the checkpoint that is pending.
    fn settle(&mut self) {
        if let Some(pending) = self.pending.take() {
            self.done.push_back(pending.settle());
        }
    }
}

impl Pending {
    fn settle(mut self) -> Checkpoint {
        self.blank();
        Checkpoint {
            input: self.input,
            output: self.output,
            start: Start::Block {
                count: self.state.num_bits,
                bits: self.state.bit_buf,
                window: compress_to_vec(&self.window, LEVEL),
            },
        }
    }

    /// Sets to zero what is not referred to: what follows is inflated twice more, after windows that say of each byte
    /// where it is, its low bits in one and its high bits in the other.
    fn blank(&mut self) {
        if self.compressed.len() > MAX_PENDING {
            return;
        }
        let low = self.inflate(|[low, ..]| low);
        let high = self.inflate(|[_, high, ..]| high);
        let mut used = vec![false; self.window.len()];
        for (low, high) in low.iter().zip(&high) {
            // A literal says some place as well, the same twice: it keeps a byte more than is needed, and no harm is done.
            if let Some(used) = used.get_mut(usize::from(*high) << 8 | usize::from(*low)) {
                *used = true;
            }
        }
        for (byte, used) in self.window.iter_mut().zip(used) {
            if !used {
                *byte = 0;
            }
        }
    }

    /// What follows, after a window made of places.
    fn inflate(&self, byte: impl Fn([u8; 4]) -> u8) -> Vec<u8> {
        let places = (0_u32..).take(self.window.len());
        let mut out: Vec<u8> = places.map(|place| byte(place.to_le_bytes())).collect();
        let start = out.len();
        out.resize(start + self.inflated.len(), 0);
        let mut decoder = Box::new(DecompressorOxide::from_block_boundary_state(&self.state));
        let flags = TINFL_FLAG_HAS_MORE_INPUT | TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
        decompress(&mut decoder, &self.compressed, &mut out, start, flags);
        out.split_off(start)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "it is smaller than what it is divided by"
)]
const fn remainder(offset: u64, size: usize) -> usize {
    (offset % size as u64) as usize
}

/// The number of bytes of a header, if all of it is there (RFC 1952, section 2.3).
fn header_length(bytes: &[u8]) -> Result<Option<usize>, Problem> {
    for (byte, magic) in bytes.iter().zip([0x1f, 0x8b]) {
        if *byte != magic {
            return Err(Problem::Magic);
        }
    }
    if let Some(method) = bytes.get(2).filter(|method| **method != 8) {
        return Err(Problem::Method(*method));
    }
    let Some(flags) = bytes.get(3).copied() else {
        return Ok(None);
    };
    if flags & 0b1110_0000 != 0 {
        return Err(Problem::Flags(flags));
    }
    let mut at = 10;
    if flags & EXTRA != 0 {
        let Some([low, high]) = bytes.get(at..at + 2) else {
            return Ok(None);
        };
        at += 2 + usize::from(u16::from_le_bytes([*low, *high]));
    }
    for flag in [NAME, COMMENT] {
        if flags & flag != 0 {
            let Some(end) = bytes
                .get(at..)
                .and_then(|rest| rest.iter().position(|byte| *byte == 0))
            else {
                return Ok(None);
            };
            at += end + 1;
        }
    }
    if flags & CHECK != 0 {
        let Some([low, high]) = bytes.get(at..at + 2) else {
            return Ok(None);
        };
        let check = crc32fast::hash(bytes.get(..at).unwrap_or_default()) & 0xffff;
        if check != u32::from(u16::from_le_bytes([*low, *high])) {
            return Err(Problem::HeaderCheck);
        }
        at += 2;
    }
    Ok((bytes.len() >= at).then_some(at))
}

/// What deflate may refer to.
const WINDOW: usize = 32 * 1024;
/// The output that is kept: what may be referred to, and as much room for what comes.
const RING: usize = 2 * WINDOW;
/// The pieces that are decoded at once end at multiples of this.
const CHUNK: usize = 64 * 1024;
/// More compressed bytes than 32 KiB of output take, unless they are written to waste space.
const MAX_PENDING: usize = 256 * 1024;
/// The longest header: a name and a comment as long as no file system has them.
const MAX_HEADER: usize = 256 * 1024;
const TRAILER: usize = 8;
/// How hard windows are compressed.
const LEVEL: u8 = 6;
const CHECK: u8 = 2;
const EXTRA: u8 = 4;
const NAME: u8 = 8;
const COMMENT: u8 = 16;

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "what is tested is small")]
mod tests {
    use super::*;

    /// A member with these optional fields.
    fn member(bytes: &[u8], level: u8, flags: u8) -> Vec<u8> {
        let mut member = vec![0x1f, 0x8b, 8, flags, 0, 0, 0, 0, 0, 255];
        if flags & EXTRA != 0 {
            member.extend([3, 0, 1, 2, 3]);
        }
        for flag in [NAME, COMMENT] {
            if flags & flag != 0 {
                member.extend(b"text\0");
            }
        }
        if flags & CHECK != 0 {
            let check = crc32fast::hash(&member) as u16;
            member.extend(check.to_le_bytes());
        }
        member.extend(compress_to_vec(bytes, level));
        member.extend(crc32fast::hash(bytes).to_le_bytes());
        member.extend((bytes.len() as u32).to_le_bytes());
        member
    }

    /// Bytes that compress as those of programs do, about.
    fn sample(length: usize, seed: u64) -> Vec<u8> {
        let mut state = seed | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let mut bytes = Vec::with_capacity(length + 64);
        while bytes.len() < length {
            let random = next();
            if random % 3 == 0 || bytes.is_empty() {
                bytes.extend(next().to_le_bytes());
            } else {
                let back = 1 + (next() as usize) % bytes.len().min(30_000);
                for _ in 0..(4 + random as usize % 60) {
                    bytes.push(bytes[bytes.len() - back]);
                }
            }
        }
        bytes.truncate(length);
        bytes
    }

    /// All that comes out of pieces of this size, and the checkpoints.
    fn inflate(
        bytes: &[u8],
        piece: usize,
        span: u64,
    ) -> Result<(Vec<u8>, Vec<Checkpoint>), GzipError> {
        let mut gunzip = Gunzip::with_checkpoints(span);
        let mut out = Vec::new();
        let mut take = |bytes: &[u8]| {
            out.extend_from_slice(bytes);
            Ok::<_, GzipError>(())
        };
        for piece in bytes.chunks(piece) {
            gunzip.push(piece, &mut take)?;
        }
        gunzip.finish(&mut take)?;
        let checkpoints = std::iter::from_fn(|| gunzip.checkpoint()).collect();
        Ok((out, checkpoints))
    }

    #[track_caller]
    fn check_checkpoints(bytes: &[u8], inflated: &[u8], checkpoints: &[Checkpoint]) {
        for (index, checkpoint) in checkpoints.iter().enumerate() {
            let mut gunzip = Gunzip::from_checkpoint(checkpoint).unwrap();
            let mut out = Vec::new();
            let start = checkpoint.output as usize;
            let end = checkpoints
                .get(index + 2)
                .map_or(inflated.len(), |next| next.output as usize);
            for piece in bytes[checkpoint.input as usize..].chunks(CHUNK) {
                let take = |bytes: &[u8]| {
                    out.extend_from_slice(bytes);
                    Ok::<_, GzipError>(())
                };
                gunzip.push(piece, take).unwrap();
                if out.len() >= end - start {
                    break;
                }
            }
            if out.len() < end - start {
                let take = |bytes: &[u8]| {
                    out.extend_from_slice(bytes);
                    Ok::<_, GzipError>(())
                };
                gunzip.finish(take).unwrap();
            }
            assert!(
                out[..end - start] == inflated[start..end],
                "checkpoint {index} of {checkpoint:?}"
            );
        }
    }

    #[test]
    fn comes_out_as_it_went_in_from_every_checkpoint() {
        for (level, length) in [(1, 900_000), (6, 900_000), (9, 900_000), (0, 300_000)] {
            let sample = sample(length, 7);
            let bytes = member(&sample, level, 0);
            let (out, checkpoints) = inflate(&bytes, 1 << 20, 64 * 1024).unwrap();
            assert!(out == sample);
            assert!(
                checkpoints.len() >= 2,
                "{} at level {level}",
                checkpoints.len()
            );
            check_checkpoints(&bytes, &sample, &checkpoints);
        }
    }

    #[test]
    fn leaves_the_same_however_it_is_fed() {
        let sample = sample(700_000, 3);
        let mut bytes = member(&sample[..400_000], 6, NAME | CHECK);
        bytes.extend(member(b"", 6, 0));
        bytes.extend(member(&sample[400_000..], 1, EXTRA | COMMENT));
        let whole = inflate(&bytes, usize::MAX, 50_000).unwrap();
        assert!(whole.0 == sample);
        assert!(
            whole
                .1
                .iter()
                .any(|checkpoint| checkpoint.start == Start::Member)
        );
        check_checkpoints(&bytes, &sample, &whole.1);
        for piece in [64 * 1024, 4_099, 7, 1] {
            assert!(
                inflate(&bytes, piece, 50_000).unwrap() == whole,
                "pieces of {piece}"
            );
        }
    }

    #[test]
    fn keeps_of_a_window_what_is_referred_to() {
        let sample = sample(900_000, 11);
        let (_, checkpoints) = inflate(&member(&sample, 6, 0), usize::MAX, 100_000).unwrap();
        let windows: Vec<_> = checkpoints
            .iter()
            .filter_map(|checkpoint| match &checkpoint.start {
                Start::Block { window, .. } => {
                    Some(decompress_to_vec_with_limit(window, WINDOW).unwrap())
                }
                Start::Member => None,
            })
            .collect();
        assert!(!windows.is_empty());
        let kept: usize = windows.iter().flatten().filter(|byte| **byte != 0).count();
        assert!(kept < windows.len() * WINDOW, "{kept}");
    }

    #[test]
    fn refuses_what_is_cut_anywhere() {
        let mut bytes = member(b"some text, some text", 6, EXTRA | NAME | COMMENT | CHECK);
        bytes.extend(member(&sample(300, 5), 9, 0));
        let first = member(b"some text, some text", 6, EXTRA | NAME | COMMENT | CHECK).len();
        for at in 0..bytes.len() {
            let cut = inflate(&bytes[..at], 5, 100);
            if at == first {
                assert_eq!(
                    cut.unwrap().0,
                    b"some text, some text",
                    "a member ends here"
                );
            } else {
                assert_eq!(
                    cut.unwrap_err().to_string(),
                    format!("gzip that ends too early, at byte {at}")
                );
            }
        }
    }

    #[test]
    fn never_lets_a_flipped_bit_pass_unseen() {
        let sample = sample(200, 9);
        let bytes = member(&sample, 6, NAME | CHECK);
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                if let Ok((out, _)) = inflate(&flipped, 64, 10_000) {
                    assert_eq!(out, sample, "byte {at}");
                }
            }
        }
    }

    #[test]
    fn says_what_is_wrong() {
        let bytes = member(b"text", 6, 0);
        let change = |at: usize, to: u8| {
            let mut changed = bytes.clone();
            changed[at] = to;
            inflate(&changed, 64, 100).unwrap_err().to_string()
        };
        let end = bytes.len();
        assert_eq!(change(0, b'P'), "not gzip, at byte 0");
        assert_eq!(
            change(2, 7),
            "unknown compression method 7 of gzip, at byte 0"
        );
        assert_eq!(
            change(3, 0x40),
            "reserved flags 0x40 of gzip are set, at byte 0"
        );
        assert_eq!(
            change(10, 0xff),
            "bytes that are not deflate in a gzip member, at byte 11"
        );
        assert_eq!(
            change(end - 8, 0),
            format!("a gzip member has another checksum, at byte {end}")
        );
        assert_eq!(
            change(end - 1, 9),
            format!("a gzip member has another length, at byte {end}")
        );
        let garbage = [bytes.as_slice(), b"garbage"].concat();
        let error = inflate(&garbage, 64, 100).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("bytes that are not gzip after the last member, at byte {end}")
        );
        assert_eq!(
            inflate(b"", 64, 100).unwrap_err().to_string(),
            "gzip that ends too early, at byte 0"
        );
    }

    #[test]
    fn reads_thousands_of_members_and_a_long_run_of_zeros() {
        let many: Vec<u8> = (0..10_000_u32)
            .flat_map(|n| member(&n.to_le_bytes(), 6, 0))
            .collect();
        let (out, checkpoints) = inflate(&many, 4_099, 10_000).unwrap();
        let expected: Vec<u8> = (0..10_000_u32).flat_map(u32::to_le_bytes).collect();
        assert!(out == expected);
        assert!(
            checkpoints.len() >= 4
                && checkpoints
                    .iter()
                    .all(|checkpoint| checkpoint.start == Start::Member)
        );
        check_checkpoints(&many, &expected, &checkpoints);

        let zeros = vec![0; 8 << 20];
        let bytes = member(&zeros, 6, 0);
        let (out, checkpoints) = inflate(&bytes, 1 << 20, 1 << 20).unwrap();
        assert!(out == zeros);
        check_checkpoints(&bytes, &zeros, &checkpoints);
    }
}
