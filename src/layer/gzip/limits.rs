//! How much work one layer may take.

/// Counts blocks, in all and in the current stretch of the output.
#[derive(Default)]
pub(super) struct BlockLimit {
    all: u64,
    /// Where the current stretch begins in the output.
    stretch: u64,
    in_stretch: u32,
}

impl BlockLimit {
    pub(super) const fn all(&self) -> u64 {
        self.all
    }

    /// Counts a block that ends at this offset of the output. Returns whether the stretch is within
    /// [`MAX_BLOCKS`].
    pub(super) const fn count(&mut self, output: u64) -> bool {
        self.all += 1;
        if output - self.stretch >= STRETCH {
            self.stretch = output;
            self.in_stretch = 0;
        }
        self.in_stretch += 1;
        self.in_stretch <= MAX_BLOCKS
    }
}

/// The most output between two checkpoints: reading any byte of it means inflating all before it.
/// Blocks of zlib have up to 8 MiB, and a boundary may be missed.
pub(super) const MAX_SPAN: u64 = 32 * 1024 * 1024;
/// The most blocks in a stretch of output. A block takes microseconds and may have only ten bits. A
/// writer that flushes after every file writes a block for each 512 bytes.
pub(super) const MAX_BLOCKS: u32 = 16_384;
pub(super) const STRETCH: u64 = 1024 * 1024;
