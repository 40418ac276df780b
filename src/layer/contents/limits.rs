//! How large a table of contents may be.

/// The most that the entries of one path may weigh, because a lookup has all of them in memory: some 7,000 entries, or an entry of
/// 65,536 segments. In real layers a path comes two or three times.
pub(super) const MAX_PATH: usize = 2 * 1024 * 1024;
/// All entries may say so many bytes, and so many more for each of them. Real ones say some 60 to 200 each: a path, and perhaps a
/// label of SELinux.
pub(super) const DESCRIBED: u64 = 32 * 1024 * 1024;
pub(super) const EACH: u64 = 512;
/// The most bytes of paths with which blocks begin: they are in the head of an index, which is read whole.
pub(super) const MAX_PATHS: usize = 4 * 1024 * 1024;
