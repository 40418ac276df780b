//! How much work one member may take.

/// The most that comes out between two checkpoints: reading anything in it takes inflating what is before. A block of zlib's
/// is 8 MiB at most, and a boundary may pass unseen.
pub(super) const MAX_SPAN: u64 = 32 * 1024 * 1024;
/// The most blocks in so much output: each takes microseconds, and may have ten bits. A writer that
/// flushes after every file ends a block every 512 bytes.
pub(super) const MAX_BLOCKS: u32 = 16_384;
pub(super) const STRETCH: u64 = 1024 * 1024;
