//! How much memory and work one stream may take.

/// The most headers and blocks in a stretch of output. One of a few bytes takes microseconds.
pub(super) const MAX_UNITS: u32 = 16_384;
pub(super) const STRETCH: u64 = 1024 * 1024;
/// One more of them is allowed for this many bytes that may be held back.
pub(super) const HELD_UNIT: u64 = 256;
/// With addresses of 32 bits, the decoder can't allocate twice as much.
pub(super) const MAX_WINDOW: u64 = 1 << 30;
