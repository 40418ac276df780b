//! How everything that is stored about a layer begins: magic, version, length and checksum.

use std::fmt;

use crate::layer::wire::Reader;

/// The version of the format. An index of another version is made again.
pub const VERSION: u32 = 1;

/// Why bytes are no index.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum IndexError {
    /// They are one of another version.
    Version(u32),
    /// They are not as they were written.
    Corrupt,
}

impl fmt::Display for IndexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(f, "an index of version {version}, not {VERSION}"),
            Self::Corrupt => f.write_str("an index that is not as it was written"),
        }
    }
}

impl std::error::Error for IndexError {}

/// The number of bytes of the head, by the first [`FIXED`] of what is kept of a layer.
pub fn head(bytes: &[u8]) -> Result<u64, IndexError> {
    let mut reader = Reader(bytes);
    if reader.array() != Some(*MAGIC) {
        return Err(IndexError::Corrupt);
    }
    let version = reader
        .array()
        .map(u32::from_le_bytes)
        .ok_or(IndexError::Corrupt)?;
    if version != VERSION {
        return Err(IndexError::Version(version));
    }
    let length = reader.array().map(u32::from_le_bytes);
    length.map(u64::from).ok_or(IndexError::Corrupt)
}

/// Compares the checksum of a head of this length. Returns its kind, the byte after it, and a
/// reader of the rest.
pub(super) fn open(bytes: &[u8], length: u64) -> Option<(u8, u8, Reader<'_>)> {
    let bytes = bytes.get(..usize::try_from(length).ok()?)?;
    let mut reader = Reader(bytes.get(CHECK..)?);
    let check = reader.array().map(u32::from_le_bytes)?;
    if crc32fast::hash(reader.0) != check {
        return None;
    }
    let [kind, compression, ..] = reader.array::<4>()?;
    Some((kind, compression, reader))
}

/// Puts magic, version, length and check before the rest of a head.
pub(super) fn seal(rest: &[u8]) -> Option<Vec<u8>> {
    let mut out = MAGIC.to_vec();
    out.extend(VERSION.to_le_bytes());
    out.extend(u32::try_from(CHECK + 4 + rest.len()).ok()?.to_le_bytes());
    out.extend(crc32fast::hash(rest).to_le_bytes());
    out.extend(rest);
    Some(out)
}

const MAGIC: &[u8; 8] = b"strata\0i";
/// Magic, version and length.
pub(super) const CHECK: usize = 8 + 4 + 4;
/// The number of bytes that tell how long the head is.
pub const FIXED: u64 = CHECK as u64;
/// The kind of an index.
pub(super) const INDEX: u8 = 0;
/// The kind of a refusal.
pub(super) const REFUSAL: u8 = 1;
