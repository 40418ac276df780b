//! How much memory and work one archive may take.

/// The limits of one archive.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TarLimits {
    /// The longest path or link in bytes, as written in the archive.
    pub path_bytes: usize,
    /// The most entries.
    pub entries: u64,
}

impl Default for TarLimits {
    /// Four times the longest path on Linux, and more entries than any real image has.
    fn default() -> Self {
        Self {
            path_bytes: 16 * 1024,
            entries: 4_000_000,
        }
    }
}

/// The longest data of an extension, and the longest map. Go has the same limit.
pub(super) const MAX_META: usize = 1 << 20;
/// Twice the longest path: a hundred times the usual size.
pub(super) const MAX_GLOBALS: u64 = 32 * 1024;
/// How many bytes of global records all entries together may read: this many, and `EACH` more for
/// each entry. A table of contents allows the same proportion.
pub(super) const APPLIED: u64 = 32 * 1024 * 1024;
pub(super) const EACH: u64 = 512;
/// About as many as the longest map holds.
pub(super) const MAX_SEGMENTS: usize = 65_536;
/// The longest name of a user or group. Linux tools allow 32 bytes, and the C library 256.
pub(super) const MAX_OWNER: usize = 1024;
