//! What the bytes of a head begin with: the magic, the version, the length, and a checksum of the rest.

use crate::layer::{index::error::IndexError, wire::Reader};

/// The version of the format. An index of another one is made anew.
pub const VERSION: u32 = 1;
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
