//! Gzip (RFC 1952) over deflate (RFC 1951): members in, bytes and checkpoints out.
//!
//! Inflating can resume at a checkpoint. For that, deflate needs the bit offset of the next block,
//! the 32 KiB of output before it (the window), and no other state, which holds only between two
//! blocks. The start of a member needs none of them.
//!
//! On average, later output copies from a tenth of its window. The other bytes are set to zero, so
//! that a window compresses from 32 KiB to 2 KiB.

mod checkpoint;
mod error;
mod limits;
mod member;
mod ring;

pub use self::{
    checkpoint::{Checkpoint, Start},
    error::GzipError,
};

use std::fmt;

use miniz_oxide::inflate::{
    TINFLStatus,
    core::{
        BlockBoundaryState, DecompressorOxide, decompress,
        inflate_flags::{TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_STOP_ON_BLOCK_BOUNDARY},
    },
    decompress_to_vec_with_limit,
};

use crate::layer::{
    gzip::{
        checkpoint::{Marks, Pause, Pending, WINDOW, boundary},
        error::GzipProblem,
        limits::{BlockLimit, MAX_SPAN},
        member::{Sums, TRAILER, take_header},
        ring::{Ring, remainder},
    },
    wire,
};

/// Inflates gzip, from the beginning or from a checkpoint.
#[doc(hidden)]
pub struct Gunzip {
    phase: GzipPhase,
    decoder: Box<DecompressorOxide>,
    /// The last output.
    ring: Ring,
    /// Input up to the next multiple of [`CHUNK`], so that decoding does not depend on the pieces
    /// of the input.
    chunk: Vec<u8>,
    input: u64,
    output: u64,
    /// Where the current member began, or the restored window.
    member: u64,
    sums: Sums,
    marks: Option<Marks>,
    /// Whether output waits for room in the ring, or the current block may need no more input.
    is_full: bool,
    /// Whether the last piece ended at the end of a block without a checkpoint.
    goes_on: bool,
    blocks: BlockLimit,
}

/// The part of a member that the next byte belongs to.
#[derive(Debug)]
enum GzipPhase {
    /// The bytes of a header that have come. None between members.
    Header(Vec<u8>),
    /// Blocks of deflate.
    Body,
    /// The bytes of the checksum and the length that have come.
    Trailer(Vec<u8>),
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
            phase: GzipPhase::Header(Vec::new()),
            decoder: Box::default(),
            ring: Ring::default(),
            chunk: Vec::new(),
            input: 0,
            output: 0,
            member: 0,
            sums: Sums::default(),
            marks: None,
            is_full: false,
            goes_on: false,
            blocks: BlockLimit::default(),
        }
    }
}

impl Gunzip {
    /// Inflates from the beginning, and leaves a checkpoint each time output or input has grown by
    /// this many bytes.
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

    /// Inflates from a checkpoint. If that is inside a member, the checksum of the member is not
    /// verified.
    ///
    /// # Errors
    ///
    /// [`GzipError`] if the window of the checkpoint is malformed.
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
                return Err(gunzip.fail(GzipProblem::Window));
            };
            gunzip.restore(&window, &state);
        }
        Ok(gunzip)
    }

    /// Pauses at the next checkpoint, where the state can be saved.
    pub fn pause(&mut self) {
        if let Some(marks) = &mut self.marks {
            marks.pause = Pause::Next;
        }
    }

    /// Whether inflating has paused. Bytes that were pushed beyond [`Gunzip::position`] were not
    /// read.
    pub fn is_paused(&self) -> bool {
        self.marks
            .as_ref()
            .is_some_and(|marks| marks.pause == Pause::Now)
    }

    /// Writes the state of a paused decoder.
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

    /// Resumes from a saved state, with the byte at [`Gunzip::position`].
    pub(crate) fn load(reader: &mut wire::WireReader<'_>) -> Option<Self> {
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

    /// The number of compressed bytes read, and of bytes written.
    pub const fn position(&self) -> (u64, u64) {
        (self.input, self.output)
    }

    /// The number of blocks inflated since the start or since the state was loaded. Even an empty
    /// block costs as much as a kilobyte of output, because of its tables.
    pub const fn blocks(&self) -> u64 {
        self.blocks.all()
    }

    /// The next checkpoint in order, once its window is final.
    pub fn checkpoint(&mut self) -> Option<Checkpoint> {
        self.marks.as_mut()?.done.pop_front()
    }

    /// Inflates bytes, and hands over the output in pieces.
    pub fn push<E: From<GzipError>>(
        &mut self,
        mut bytes: &[u8],
        mut output: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.marks.is_none() {
            return self.decode(bytes, &mut output);
        }
        while !bytes.is_empty() && !self.is_paused() {
            // Decode the same pieces for any pieces of the input, so that the checkpoints are the
            // same.
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

    /// Ends the input. It may pause before the last bytes were read.
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
            GzipPhase::Header(read) if read.is_empty() && self.input > 0 => Ok(()),
            GzipPhase::Header(_) | GzipPhase::Body | GzipPhase::Trailer(_) => {
                Err(self.fail(GzipProblem::End).into())
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
                GzipPhase::Header(_) => self.header(bytes)?,
                GzipPhase::Body => self.body(bytes, output)?,
                GzipPhase::Trailer(_) => self.trailer(bytes)?,
            };
            bytes = bytes.get(read..).unwrap_or_default();
        }
        Ok(())
    }

    /// Reads a header. Returns how many of the bytes belong to it.
    fn header(&mut self, bytes: &[u8]) -> Result<usize, GzipError> {
        let GzipPhase::Header(read) = &mut self.phase else {
            return Ok(0);
        };
        if read.is_empty() {
            self.begin();
            if self.is_paused() {
                return Ok(0);
            }
        }
        let GzipPhase::Header(read) = &mut self.phase else {
            return Ok(0);
        };
        let (taken, is_whole) = take_header(read, bytes).map_err(|problem| match problem {
            // Only another member may follow a member.
            GzipProblem::Magic if self.input > 0 => self.fail(GzipProblem::Garbage),
            problem => self.fail(problem),
        })?;
        self.input += taken as u64;
        if is_whole {
            // This keeps the decoder's tables of 10 KiB: they are overwritten before they are used.
            self.decoder.init();
            self.sums.begin_member();
            self.member = self.output;
            self.phase = GzipPhase::Body;
        }
        Ok(taken)
    }

    /// Places a checkpoint at the start of a member if one is due. It needs no window.
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
        let at = Ring::place(self.output);
        // Decoding stops after each block, so that blocks are counted. A piece still spans
        // several blocks, so that the places of checkpoints do not depend on the count.
        let begins = !self.goes_on || at == 0;
        let due = match &mut self.marks {
            Some(marks) if self.output - marks.last.output > MAX_SPAN => {
                return Err(self.fail(GzipProblem::Block).into());
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
            decompress(&mut self.decoder, bytes, self.ring.bytes_mut(), at, flags);
        let inflated = self.ring.bytes(at..at + written);
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
                self.phase = GzipPhase::Trailer(Vec::with_capacity(TRAILER));
            }
            TINFLStatus::BlockBoundary => {
                self.count_block()?;
                if !due {
                    self.is_full = true;
                } else if read > 0 {
                    // Bits of an earlier piece can't be given back as bytes. Then a later boundary
                    // becomes the checkpoint.
                    self.mark();
                }
            }
            TINFLStatus::NeedsMoreInput | TINFLStatus::HasMoreOutput => {}
            // Every other status is a failure, including ones of later versions.
            _ => return Err(self.fail(GzipProblem::Deflate).into()),
        }
        Ok(read)
    }

    fn count_block(&mut self) -> Result<(), GzipError> {
        if self.blocks.count(self.output) {
            return Ok(());
        }
        Err(self.fail(GzipProblem::Blocks))
    }

    /// Places a checkpoint here, between two blocks.
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
        let GzipPhase::Trailer(trailer) = &mut self.phase else {
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
                return Err(self.fail(GzipProblem::Check));
            }
            // The length is modulo 2^32 (RFC 1952, section 2.3.1).
            let length = (self.output - self.member) & u64::from(u32::MAX);
            if length != u64::from(u32::from_le_bytes([a, b, c, d])) {
                return Err(self.fail(GzipProblem::Length));
            }
        }
        self.phase = GzipPhase::Header(Vec::new());
        Ok(read)
    }

    /// The output that later blocks may refer to: none of an earlier member.
    fn window(&self) -> Vec<u8> {
        self.ring.window(self.output, self.output - self.member)
    }

    /// Restores a window, to continue after it in the middle of a member.
    fn restore(&mut self, window: &[u8], state: &BlockBoundaryState) {
        self.ring.restore(self.output, window);
        self.member = self.output.saturating_sub(window.len() as u64);
        *self.decoder = DecompressorOxide::from_block_boundary_state(state);
        self.phase = GzipPhase::Body;
    }

    const fn fail(&self, problem: GzipProblem) -> GzipError {
        GzipError {
            offset: self.input,
            problem,
        }
    }
}

/// Pieces are decoded up to multiples of this offset.
const CHUNK: usize = 64 * 1024;
/// The first byte of a saved state: at the header of a member, or between two blocks.
const MEMBER: u8 = 0;
const BLOCK: u8 = 1;

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "what is tested is small")]
mod tests;
