//! How much memory and work one archive may take.

/// How much an archive may ask for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// The bytes of the longest path or link, as it stands in the archive.
    pub path_bytes: usize,
    /// The number of entries.
    pub entries: u64,
}

impl Default for Limits {
    /// Four times the longest path that Linux takes, and more entries than any image has.
    fn default() -> Self {
        Self {
            path_bytes: 16 * 1024,
            entries: 4_000_000,
        }
    }
}

/// The longest data of an extension, and the longest map: what Go takes.
pub(super) const MAX_META: usize = 1 << 20;
/// The longest path twice, or a hundred times what is usual.
pub(super) const MAX_GLOBALS: u64 = 32 * 1024;
/// The bytes of global records that may be read for all entries together, and those more for each
/// entry: in proportion to what entries may describe in a table of contents.
pub(super) const APPLIED: u64 = 32 * 1024 * 1024;
pub(super) const EACH: u64 = 512;
/// About what fits in a map of the longest.
pub(super) const MAX_SEGMENTS: usize = 65_536;
/// The longest name of a user or group: Linux's own tools take 32 bytes, and its C library 256.
pub(super) const MAX_OWNER: usize = 1024;
