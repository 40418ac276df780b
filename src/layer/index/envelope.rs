//! The start of everything stored about a layer: magic, version, length and checksum.

use std::fmt;

use crate::layer::wire::WireReader;

/// The version of the format (docs/layer-index.md). Indexes of other versions are made anew.
pub const VERSION: u32 = 1;

/// The reason why bytes can't be used as an index.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum IndexError {
    /// The bytes are in this other version of the format.
    Version(u32),
    /// The bytes are cut short, have another checksum, or are no index at all.
    Corrupt,
}

impl fmt::Display for IndexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => {
                write!(f, "an index of version {version}; expected {VERSION}")
            }
            Self::Corrupt => f.write_str("a corrupt index"),
        }
    }
}

impl std::error::Error for IndexError {}

/// Reads the length of the head, in bytes, from the first [`FIXED`] bytes of an index.
///
/// # Errors
///
/// [`IndexError`] if they begin no index of this version.
pub fn head(bytes: &[u8]) -> Result<u64, IndexError> {
    let mut reader = WireReader(bytes);
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

/// Verifies the checksum of a head of this length. Returns its kind, the byte after it, and a
/// reader of the rest.
pub(super) fn open(bytes: &[u8], length: u64) -> Option<(u8, u8, WireReader<'_>)> {
    let bytes = bytes.get(..usize::try_from(length).ok()?)?;
    let mut reader = WireReader(bytes.get(CHECK..)?);
    let check = reader.array().map(u32::from_le_bytes)?;
    if crc32fast::hash(reader.0) != check {
        return None;
    }
    let [kind, compression, ..] = reader.array::<4>()?;
    Some((kind, compression, reader))
}

/// Adds magic, version, length and checksum to the rest of a head.
pub(super) fn seal(rest: &[u8]) -> Option<Vec<u8>> {
    let mut out = MAGIC.to_vec();
    out.extend(VERSION.to_le_bytes());
    out.extend(u32::try_from(CHECK + 4 + rest.len()).ok()?.to_le_bytes());
    out.extend(crc32fast::hash(rest).to_le_bytes());
    out.extend(rest);
    Some(out)
}

const MAGIC: &[u8; 8] = b"strata\0i";
/// The offset of the checksum, after magic, version and length.
pub(super) const CHECK: usize = 8 + 4 + 4;
/// The number of bytes from the start of an index that [`head`] needs.
pub const FIXED: u64 = CHECK as u64;
/// The kind of an index.
pub(super) const INDEX: u8 = 0;
/// The kind of a refusal.
pub(super) const REFUSAL: u8 = 1;
