//! How large a table of contents may be.

/// The most memory of the entries of one path, because a lookup holds all of them: about 7,000
/// entries, or one of 65,536 segments. In real layers a path comes two or three times.
pub(super) const MAX_PATH: usize = 2 * 1024 * 1024;
/// The most bytes of all entries: this many, and `EACH` more for each entry. Real entries have 60
/// to 200 bytes: a path, and perhaps a label of SELinux.
pub(super) const DESCRIBED: u64 = 32 * 1024 * 1024;
pub(super) const EACH: u64 = 512;
/// The most bytes of the first paths of blocks. They are in the head of an index, which is read
/// whole.
pub(super) const MAX_PATHS: usize = 4 * 1024 * 1024;
