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

use crate::layer::wire;

/// A place at which inflating can begin anew.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Checkpoint {
    /// The offset in the compressed stream of the first whole byte to be read.
    pub input: u64,
    /// The offset in the inflated stream of the first byte that comes out.
    pub output: u64,
    /// What inflating begins with.
    pub start: Start,
    /// The CRC-32 of what comes out up to the next checkpoint.
    pub check: u32,
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
    Block,
    Blocks,
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
            Problem::Block => write!(
                f,
                "a block of deflate of more than {} MiB, in which no file can be read by itself",
                MAX_SPAN >> 20
            ),
            Problem::Blocks => write!(
                f,
                "more than {MAX_BLOCKS} blocks of deflate that inflate to less than {} MiB",
                STRETCH >> 20
            ),
            Problem::End => f.write_str("gzip that ends too early"),
        }?;
        write!(f, ", at byte {}", self.offset)
    }
}

impl std::error::Error for GzipError {}

impl GzipError {
    /// Whether the bytes are gzip, but go beyond what is indexed.
    pub const fn is_limit(&self) -> bool {
        matches!(self.problem, Problem::Block | Problem::Blocks)
    }
}

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
    /// Where the member began, as far as that was seen.
    member: u64,
    sums: Sums,
    marks: Option<Marks>,
    /// Output that was decoded and waits for room, or a block that may need no more input.
    is_full: bool,
    /// Whether the last piece ended at the end of a block, and this one belongs to it.
    goes_on: bool,
    /// The number of blocks that were inflated here.
    blocks: u64,
    /// Where a stretch of the output begins, and the number of blocks since then.
    stretch: (u64, u32),
}

/// Checksums of the output, which is summed once.
#[derive(Default)]
struct Sums {
    /// What came since the last end of a member or a span.
    piece: crc32fast::Hasher,
    /// The member so far, but for the piece; none where its beginning was not seen.
    member: Option<crc32fast::Hasher>,
    /// The span so far, but for the piece; none where there are no spans.
    span: Option<crc32fast::Hasher>,
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

/// Placing checkpoints: at the first boundary of blocks where output or input has grown by a span, give or take the 64 KiB that
/// are decoded at once.
struct Marks {
    span: u64,
    done: VecDeque<Checkpoint>,
    /// The last one, from which the present span began.
    last: Checkpoint,
    pending: Option<Pending>,
    pause: Pause,
    /// Whether the next end of a block becomes a checkpoint.
    due: bool,
}

/// Whether inflating stops at the next checkpoint.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Pause {
    No,
    Next,
    Now,
}

/// What follows a checkpoint of which it is not known yet what of its window is referred to.
struct Pending {
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
            member: 0,
            sums: Sums::default(),
            marks: None,
            is_full: false,
            goes_on: false,
            blocks: 0,
            stretch: (0, 0),
        }
    }
}

impl Gunzip {
    /// Inflates from the beginning, and leaves a checkpoint wherever output or input has grown by this many bytes.
    pub fn with_checkpoints(span: u64) -> Self {
        let sums = Sums {
            span: Some(crc32fast::Hasher::new()),
            ..Sums::default()
        };
        Self {
            sums,
            marks: Some(Marks::new(span, Checkpoint::default())),
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
            let window = decompress_to_vec_with_limit(window, WINDOW).ok();
            let (Some(window), Some(state)) = (window, boundary(*count, *bits)) else {
                return Err(gunzip.fail(Problem::Window));
            };
            gunzip.restore(&window, &state);
        }
        Ok(gunzip)
    }

    /// Has inflating stop at the next checkpoint, where it can be saved.
    pub fn pause(&mut self) {
        if let Some(marks) = &mut self.marks {
            marks.pause = Pause::Next;
        }
    }

    /// Whether it has stopped. What was pushed beyond [`Gunzip::position`] was not read.
    pub fn is_paused(&self) -> bool {
        self.marks
            .as_ref()
            .is_some_and(|marks| marks.pause == Pause::Now)
    }

    /// Writes all that it takes to go on, where inflating has paused.
    pub(crate) fn save(&self, out: &mut Vec<u8>) {
        let Some(marks) = &self.marks else { return };
        for number in [marks.span, self.input, self.output, self.member] {
            wire::put(out, number);
        }
        match &marks.pending {
            None => out.push(MEMBER),
            Some(Pending { state, window, .. }) => {
                out.extend([BLOCK, state.num_bits, state.bit_buf]);
                wire::put_bytes(out, window);
                let member = self.sums.member.clone().unwrap_or_default();
                out.extend(member.finalize().to_le_bytes());
            }
        }
    }

    /// Goes on where inflating was saved: with the byte at [`Gunzip::position`].
    pub(crate) fn load(reader: &mut wire::Reader<'_>) -> Option<Self> {
        let mut gunzip = Self::with_checkpoints(reader.number()?);
        gunzip.input = reader.number()?;
        gunzip.output = reader.number()?;
        gunzip.member = reader.number()?;
        let marks = gunzip.marks.as_mut()?;
        marks.last = Checkpoint {
            input: gunzip.input,
            output: gunzip.output,
            ..Checkpoint::default()
        };
        match reader.byte()? {
            MEMBER => {}
            BLOCK => {
                let state = boundary(reader.byte()?, reader.byte()?)?;
                let window = reader.bytes()?;
                let length = gunzip.output.checked_sub(gunzip.member)?;
                if window.len() > WINDOW || length < window.len() as u64 {
                    return None;
                }
                let check = u32::from_le_bytes(reader.array()?);
                let member = crc32fast::Hasher::new_with_initial_len(check, length);
                gunzip.sums.member = Some(member);
                let begun = gunzip.member;
                gunzip.restore(window, &state);
                gunzip.member = begun;
                let pending = Some(Pending::new(state, window.to_vec()));
                gunzip.marks.as_mut()?.pending = pending;
            }
            _ => return None,
        }
        Some(gunzip)
    }

    /// The number of compressed bytes that were read, and of those that came out.
    pub const fn position(&self) -> (u64, u64) {
        (self.input, self.output)
    }

    /// The number of blocks that were inflated, without those before the state was saved. The
    /// tables of a block take as long as a kilobyte of output, whether or not it has bytes.
    pub const fn blocks(&self) -> u64 {
        self.blocks
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
        if self.marks.is_none() {
            return self.decode(bytes, &mut output);
        }
        while !bytes.is_empty() && !self.is_paused() {
            // Decoding sees the same pieces however the bytes come, so that the checkpoints it leaves are the same.
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

    /// Says that there are no more bytes. It may pause before it has come to the end of those that there were.
    pub fn finish<E: From<GzipError>>(
        &mut self,
        mut output: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let chunk = std::mem::take(&mut self.chunk);
        self.decode(&chunk, &mut output)?;
        if self.is_paused() {
            return Ok(());
        }
        if let Some(marks) = &mut self.marks {
            marks.close(self.sums.end_span());
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
        while (!bytes.is_empty() || self.is_full) && !self.is_paused() {
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
            if self.is_paused() {
                return Ok(0);
            }
        }
        let Phase::Header(read) = &mut self.phase else {
            return Ok(0);
        };
        let (taken, is_whole) = take_header(read, bytes).map_err(|problem| match problem {
            // What comes after a member is nothing, or another one.
            Problem::Magic if self.input > 0 => self.fail(Problem::Garbage),
            problem => self.fail(problem),
        })?;
        self.input += taken as u64;
        if is_whole {
            // Its tables of 10 KiB are overwritten before they are used.
            self.decoder.init();
            self.sums.begin_member();
            self.member = self.output;
            self.phase = Phase::Body;
        }
        Ok(taken)
    }

    /// Notes the beginning of a member, which is a checkpoint that costs nothing.
    fn begin(&mut self) {
        let (input, output) = self.position();
        if let Some(marks) = &mut self.marks
            && marks.is_due((input, output))
        {
            let next = Checkpoint {
                input,
                output,
                ..Checkpoint::default()
            };
            marks.next(self.sums.end_span(), next);
        }
    }

    fn body<E: From<GzipError>>(
        &mut self,
        bytes: &[u8],
        output: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<usize, E> {
        let position = self.position();
        let at = self.place();
        // Blocks are counted one by one, but pieces end where they ended without that.
        let begins = !self.goes_on || at == 0;
        let due = match &mut self.marks {
            Some(marks) if self.output - marks.last.output > MAX_SPAN => {
                return Err(self.fail(Problem::Block).into());
            }
            Some(marks) => {
                marks.due = if begins {
                    marks.is_due(position)
                } else {
                    marks.due
                };
                marks.due
            }
            None => false,
        };
        let flags = TINFL_FLAG_HAS_MORE_INPUT | TINFL_FLAG_STOP_ON_BLOCK_BOUNDARY;
        let (status, read, written) =
            decompress(&mut self.decoder, bytes, &mut self.ring, at, flags);
        let inflated = self.ring.get(at..at + written).unwrap_or_default();
        self.sums.update(inflated);
        if let Some(marks) = &mut self.marks {
            marks.note(bytes.get(..read).unwrap_or_default(), inflated);
        }
        if !inflated.is_empty() {
            output(inflated)?;
        }
        self.input += read as u64;
        self.output += written as u64;
        self.is_full = status == TINFLStatus::HasMoreOutput;
        self.goes_on = status == TINFLStatus::BlockBoundary && !due;
        match status {
            TINFLStatus::Done => {
                self.count_block()?;
                self.phase = Phase::Trailer(Vec::with_capacity(TRAILER));
            }
            TINFLStatus::BlockBoundary => {
                self.count_block()?;
                if !due {
                    self.is_full = true;
                } else if read > 0 {
                    // Bits that were read in an earlier piece can't be given back as bytes: then a
                    // later boundary has to do.
                    self.mark();
                }
            }
            TINFLStatus::NeedsMoreInput | TINFLStatus::HasMoreOutput => {}
            // Whatever else there is, or will be, is a failure.
            _ => return Err(self.fail(Problem::Deflate).into()),
        }
        Ok(read)
    }

    /// Counts a block that ended, and refuses what has far more of them than any writer makes.
    fn count_block(&mut self) -> Result<(), GzipError> {
        self.blocks += 1;
        let (start, count) = self.stretch;
        self.stretch = if self.output - start >= STRETCH {
            (self.output, 1)
        } else {
            (start, count + 1)
        };
        if self.stretch.1 > MAX_BLOCKS {
            return Err(self.fail(Problem::Blocks));
        }
        Ok(())
    }

    /// Begins a checkpoint here, between two blocks.
    fn mark(&mut self) {
        let Some(state) = self.decoder.block_boundary_state() else {
            return;
        };
        let window = self.window();
        let (input, output) = self.position();
        if let Some(marks) = &mut self.marks {
            let next = Checkpoint {
                input,
                output,
                ..Checkpoint::default()
            };
            marks.next(self.sums.end_span(), next);
            marks.pending = Some(Pending::new(state, window));
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
        if let Some(sum) = self.sums.end_member() {
            if sum != u32::from_le_bytes(check) {
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

    /// Puts a window back to where it was, to go on after it in the middle of a member.
    fn restore(&mut self, window: &[u8], state: &BlockBoundaryState) {
        let start = self.place() + self.ring.len() - window.len();
        for (offset, byte) in window.iter().enumerate() {
            let at = (start + offset) % self.ring.len();
            if let Some(place) = self.ring.get_mut(at) {
                *place = *byte;
            }
        }
        self.member = self.output.saturating_sub(window.len() as u64);
        *self.decoder = DecompressorOxide::from_block_boundary_state(state);
        self.phase = Phase::Body;
    }

    const fn fail(&self, problem: Problem) -> GzipError {
        GzipError {
            offset: self.input,
            problem,
        }
    }
}

impl Default for Checkpoint {
    fn default() -> Self {
        Self {
            input: 0,
            output: 0,
            start: Start::Member,
            check: 0,
        }
    }
}

impl Sums {
    fn update(&mut self, bytes: &[u8]) {
        if self.member.is_some() || self.span.is_some() {
            self.piece.update(bytes);
        }
    }

    /// Adds the piece to the sums that it is part of.
    fn cut(&mut self) {
        let piece = std::mem::take(&mut self.piece);
        for sum in [&mut self.member, &mut self.span].into_iter().flatten() {
            sum.combine(&piece);
        }
    }

    fn begin_member(&mut self) {
        self.cut();
        self.member = Some(crc32fast::Hasher::new());
    }

    /// The sum of the member, if all of it was seen.
    fn end_member(&mut self) -> Option<u32> {
        self.cut();
        self.member.take().map(crc32fast::Hasher::finalize)
    }

    /// The sum of the span that ends here; another one begins.
    fn end_span(&mut self) -> u32 {
        self.cut();
        self.span
            .as_mut()
            .map_or(0, |span| std::mem::take(span).finalize())
    }
}

impl Marks {
    const fn new(span: u64, last: Checkpoint) -> Self {
        Self {
            span,
            done: VecDeque::new(),
            last,
            pending: None,
            pause: Pause::No,
            due: false,
        }
    }

    const fn is_due(&self, (input, output): (u64, u64)) -> bool {
        input - self.last.input >= self.span || output - self.last.output >= self.span
    }

    /// Ends the span of the last checkpoint, and begins that of the next.
    fn next(&mut self, check: u32, next: Checkpoint) {
        self.close(check);
        self.last = next;
        if self.pause == Pause::Next {
            self.pause = Pause::Now;
        }
    }

    /// Ends the span of the last checkpoint.
    fn close(&mut self, check: u32) {
        self.settle();
        let last = std::mem::take(&mut self.last);
        self.done.push_back(Checkpoint { check, ..last });
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

    /// Finishes the last checkpoint: what is kept of its window is known.
    fn settle(&mut self) {
        if let Some(pending) = self.pending.take() {
            self.last.start = pending.settle();
        }
    }
}

impl Pending {
    const fn new(state: BlockBoundaryState, window: Vec<u8>) -> Self {
        Self {
            state,
            window,
            compressed: Vec::new(),
            inflated: Vec::new(),
        }
    }

    fn settle(mut self) -> Start {
        self.blank();
        Start::Block {
            count: self.state.num_bits,
            bits: self.state.bit_buf,
            window: compress_to_vec(&self.window, LEVEL),
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

/// The state of a decoder between two blocks, of which so many bits of a byte are left: less than a byte.
fn boundary(count: u8, bits: u8) -> Option<BlockBoundaryState> {
    (count < 8).then(|| BlockBoundaryState {
        num_bits: count,
        bit_buf: bits,
        ..BlockBoundaryState::default()
    })
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "it is smaller than what it is divided by"
)]
const fn remainder(offset: u64, size: usize) -> usize {
    (offset % size as u64) as usize
}

/// Takes the bytes of a header after those that were read of it. Returns how many it took, and
/// whether the header is whole.
fn take_header(read: &mut Vec<u8>, bytes: &[u8]) -> Result<(usize, bool), Problem> {
    let before = read.len();
    let more = bytes.len().min(MAX_HEADER.saturating_sub(before));
    // Most headers come whole. Copying would take all that follows in the chunk along.
    if before == 0
        && let Some(length) = header_length(bytes.get(..more).unwrap_or_default())?
    {
        return Ok((length, true));
    }
    read.extend_from_slice(bytes.get(..more).unwrap_or_default());
    match header_length(read)? {
        Some(length) => Ok((length.saturating_sub(before), true)),
        None if more == 0 => Err(Problem::Header),
        None => Ok((more, false)),
    }
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
/// The most that comes out between two checkpoints: reading anything in it takes inflating what is before. A block of zlib's
/// is 8 MiB at most, and a boundary may pass unseen.
const MAX_SPAN: u64 = 32 * 1024 * 1024;
/// The most blocks in so much output: each takes microseconds, and may have ten bits. A writer that
/// flushes after every file ends a block every 512 bytes.
const MAX_BLOCKS: u32 = 16_384;
const STRETCH: u64 = 1024 * 1024;
/// What a saved state begins with: a member's header, or a block.
const MEMBER: u8 = 0;
const BLOCK: u8 = 1;
const TRAILER: usize = 8;
/// How hard windows are compressed: 4 gives what 6 does in two thirds of the time.
const LEVEL: u8 = 4;
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
            let next = checkpoints.get(index + 1);
            let end = next.map_or(inflated.len(), |next| next.output as usize);
            let until = next.map_or(bytes.len(), |next| next.input as usize);
            let take = |bytes: &[u8]| {
                out.extend_from_slice(bytes);
                Ok::<_, GzipError>(())
            };
            // The bytes up to the next checkpoint, and no more, are all it takes.
            gunzip
                .push(&bytes[checkpoint.input as usize..until], take)
                .unwrap();
            assert_eq!(
                crc32fast::hash(&out),
                checkpoint.check,
                "checkpoint {index}"
            );
            assert!(
                out == inflated[start..end],
                "checkpoint {index} of {checkpoint:?}"
            );
        }
    }

    #[test]
    fn leaves_the_same_where_it_is_saved_at_every_checkpoint() {
        let sample = sample(700_000, 3);
        let mut bytes = member(&sample[..400_000], 6, NAME | CHECK);
        bytes.extend(member(&sample[400_000..], 1, EXTRA | COMMENT));
        let whole = inflate(&bytes, usize::MAX, 50_000).unwrap();
        let mut gunzip = Gunzip::with_checkpoints(50_000);
        let (mut out, mut checkpoints, mut saves) = (Vec::new(), Vec::new(), 0);
        loop {
            let mut take = |bytes: &[u8]| {
                out.extend_from_slice(bytes);
                Ok::<_, GzipError>(())
            };
            gunzip.pause();
            let (read, _) = gunzip.position();
            gunzip.push(&bytes[read as usize..], &mut take).unwrap();
            if !gunzip.is_paused() {
                gunzip.finish(&mut take).unwrap();
            }
            checkpoints.extend(std::iter::from_fn(|| gunzip.checkpoint()));
            if !gunzip.is_paused() {
                break;
            }
            let mut state = Vec::new();
            gunzip.save(&mut state);
            let mut reader = wire::Reader(&state);
            gunzip = Gunzip::load(&mut reader).unwrap();
            assert!(reader.0.is_empty());
            saves += 1;
        }
        assert!(saves >= 3 && saves + 1 == checkpoints.len(), "{saves}");
        assert!((out, checkpoints) == whole);
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

    /// A member of so many blocks and one more. A block of no bytes has ten bits, and making its
    /// tables takes microseconds.
    fn empty_blocks(count: usize) -> Vec<u8> {
        let mut bits = Vec::new();
        for _ in 0..count {
            bits.extend([0_u8, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        }
        bits.extend([1, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        let bytes = bits.chunks(8);
        let bytes = bytes.map(|bits| bits.iter().rev().fold(0, |byte, bit| byte << 1 | bit));
        let mut member = member(b"", 6, 0);
        let trailer = member.split_off(member.len() - TRAILER);
        member.truncate(10);
        member.extend(bytes);
        member.extend(trailer);
        member
    }

    #[test]
    fn refuses_blocks_out_of_proportion() {
        let most = MAX_BLOCKS as usize;
        for piece in [usize::MAX, 1_021] {
            assert!(inflate(&empty_blocks(most - 1), piece, 1 << 20).is_ok());
            let error = inflate(&empty_blocks(most), piece, 1 << 20).unwrap_err();
            assert!(error.is_limit(), "{error}");
            assert!(error.to_string().contains("16384 blocks"), "{error}");
            // And so many members.
            let members = member(b"", 6, 0).repeat(most + 1);
            let error = inflate(&members, piece, 1 << 20).unwrap_err();
            assert!(error.is_limit(), "{error}");
        }
        // Where reading goes on from a checkpoint as well.
        let start = Checkpoint::default();
        let mut gunzip = Gunzip::from_checkpoint(&start).unwrap();
        let error = gunzip.push(&empty_blocks(most), |_| Ok::<_, GzipError>(()));
        assert!(error.unwrap_err().is_limit());
        // Small members are no problem: an archive may have one for each file.
        let members = member(&[7; 200], 6, 0).repeat(100_000);
        assert_eq!(
            inflate(&members, usize::MAX, 1 << 20).unwrap().0.len(),
            20_000_000
        );
        let mut gunzip = Gunzip::with_checkpoints(1 << 20);
        gunzip
            .push(&empty_blocks(99), |_| Ok::<_, GzipError>(()))
            .unwrap();
        gunzip.finish(|_| Ok::<_, GzipError>(())).unwrap();
        assert_eq!(gunzip.blocks(), 100);
    }

    /// A chunk may hold thousands of members: a header that copied the rest of the chunk would make
    /// the work quadratic.
    #[test]
    fn copies_no_header_that_came_whole() {
        let mut bytes = member(b"", 6, NAME | EXTRA | CHECK);
        let length = header_length(&bytes).unwrap().unwrap();
        bytes.resize(CHUNK, 7);
        let mut read = Vec::new();
        assert_eq!(take_header(&mut read, &bytes), Ok((length, true)));
        assert_eq!(read.capacity(), 0);
        // One that is cut is kept until the rest of it comes.
        let mut read = Vec::new();
        assert_eq!(take_header(&mut read, &bytes[..12]), Ok((12, false)));
        assert_eq!(read, bytes[..12]);
        assert_eq!(
            take_header(&mut read, &bytes[12..]),
            Ok((length - 12, true))
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
