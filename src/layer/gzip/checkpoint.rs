//! Checkpoints: their places, and the stored parts of their windows.

use std::collections::VecDeque;

use miniz_oxide::{
    deflate::compress_to_vec,
    inflate::core::{
        BlockBoundaryState, DecompressorOxide, decompress,
        inflate_flags::{TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF},
    },
};

/// A place in a gzip stream where decompression can resume.
#[doc(hidden)]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Checkpoint {
    /// The offset of the first whole byte to read, in the compressed stream.
    pub input: u64,
    /// The offset of the first byte written, in the inflated stream.
    pub output: u64,
    /// The state to resume with.
    pub start: Start,
    /// The CRC-32 of the output up to the next checkpoint.
    pub check: u32,
}

/// The state of the decoder at a checkpoint.
#[doc(hidden)]
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Start {
    /// The header of a member.
    Member,
    /// A block inside a member.
    Block {
        /// How many bits of the byte before [`Checkpoint::input`] are still unread: 0 to 7.
        count: u8,
        /// Those bits.
        bits: u8,
        /// The output before it in raw deflate. Bytes that are not referred to are zero.
        window: Vec<u8>,
    },
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

/// Places checkpoints: at the first boundary of blocks after output or input has grown by a span.
/// Decoding in chunks of 64 KiB may delay one by as much.
pub(super) struct Marks {
    pub(super) span: u64,
    pub(super) done: VecDeque<Checkpoint>,
    /// The last checkpoint, where the current span began.
    pub(super) last: Checkpoint,
    pub(super) pending: Option<Pending>,
    pub(super) pause: Pause,
    /// Whether the next end of a block becomes a checkpoint.
    pub(super) due: bool,
}

/// Whether inflating pauses at the next checkpoint.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Pause {
    No,
    Next,
    Now,
}

/// A checkpoint whose window is not final: later blocks show which bytes they refer to.
pub(super) struct Pending {
    pub(super) state: BlockBoundaryState,
    pub(super) window: Vec<u8>,
    compressed: Vec<u8>,
    inflated: Vec<u8>,
}

impl Marks {
    pub(super) const fn new(span: u64, last: Checkpoint) -> Self {
        Self {
            span,
            done: VecDeque::new(),
            last,
            pending: None,
            pause: Pause::No,
            due: false,
        }
    }

    pub(super) const fn is_due(&self, (input, output): (u64, u64)) -> bool {
        input - self.last.input >= self.span || output - self.last.output >= self.span
    }

    /// Ends the span of the last checkpoint, and begins that of the next.
    pub(super) fn next(&mut self, check: u32, next: Checkpoint) {
        self.close(check);
        self.last = next;
        if self.pause == Pause::Next {
            self.pause = Pause::Now;
        }
    }

    /// Ends the span of the last checkpoint.
    pub(super) fn close(&mut self, check: u32) {
        self.settle();
        let last = std::mem::take(&mut self.last);
        self.done.push_back(Checkpoint { check, ..last });
    }

    /// Collects the blocks after a checkpoint, until nothing more can refer to its window.
    pub(super) fn note(&mut self, compressed: &[u8], inflated: &[u8]) {
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

    /// Makes the window of the last checkpoint final.
    fn settle(&mut self) {
        if let Some(pending) = self.pending.take() {
            self.last.start = pending.settle();
        }
    }
}

impl Pending {
    pub(super) const fn new(state: BlockBoundaryState, window: Vec<u8>) -> Self {
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

    /// Sets the bytes that are not referred to to zero. For that, the later blocks are inflated
    /// twice more. The windows then hold the index of each byte: its low bits, then its high bits.
    fn blank(&mut self) {
        if self.compressed.len() > MAX_PENDING {
            return;
        }
        let low = self.inflate(|[low, ..]| low);
        let high = self.inflate(|[_, high, ..]| high);
        let mut used = vec![false; self.window.len()];
        for (low, high) in low.iter().zip(&high) {
            // A literal looks like an index too, in both runs. It keeps one byte more than needed,
            // which is harmless.
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

    /// The later output, after a window of indexes.
    pub(super) fn inflate(&self, byte: impl Fn([u8; 4]) -> u8) -> Vec<u8> {
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

/// The state of a decoder between two blocks, with fewer than eight unread bits.
pub(super) fn boundary(count: u8, bits: u8) -> Option<BlockBoundaryState> {
    (count < 8).then(|| BlockBoundaryState {
        num_bits: count,
        bit_buf: bits,
        ..BlockBoundaryState::default()
    })
}

/// How far back deflate may refer.
pub(super) const WINDOW: usize = 32 * 1024;
/// More compressed bytes than 32 KiB of output take, unless the writer wastes space.
const MAX_PENDING: usize = 256 * 1024;
/// Level 4 compresses windows as well as level 6, in two thirds of the time.
const LEVEL: u8 = 4;
