//! How much work one layer may take.

/// Counts blocks, in all and in the current stretch of the output.
#[derive(Default)]
pub(super) struct Blocks {
    all: u64,
    /// Where the stretch begins in the output.
    stretch: u64,
    in_stretch: u32,
}

impl Blocks {
    pub(super) const fn all(&self) -> u64 {
        self.all
    }

    /// Counts a block that ends at this offset of the output. Returns whether that is one of no more
    /// than any writer makes.
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

/// The most that comes out between two checkpoints: reading anything in it takes inflating what is before. A block of zlib's
/// is 8 MiB at most, and a boundary may pass unseen.
pub(super) const MAX_SPAN: u64 = 32 * 1024 * 1024;
/// The most blocks in so much output: each takes microseconds, and may have ten bits. A writer that
/// flushes after every file ends a block every 512 bytes.
pub(super) const MAX_BLOCKS: u32 = 16_384;
pub(super) const STRETCH: u64 = 1024 * 1024;
