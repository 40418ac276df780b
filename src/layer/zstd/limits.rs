//! How much memory and work one stream may take.

/// The most headers and blocks in so much output: one of a few bytes takes microseconds.
pub(super) const MAX_UNITS: u32 = 16_384;
pub(super) const STRETCH: u64 = 1024 * 1024;
/// One more of them for so many bytes that may be held back.
pub(super) const HELD_UNIT: u64 = 256;
/// The decoder can't allocate twice as much where addresses have 32 bits.
pub(super) const MAX_WINDOW: u64 = 1 << 30;
