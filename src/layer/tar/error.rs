//! Why an archive is refused.

use std::fmt;

use crate::layer::tar::limits::{APPLIED, EACH, MAX_GLOBALS, MAX_META, MAX_OWNER, MAX_SEGMENTS};

/// Why bytes are refused as a tar archive.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TarError {
    /// The offset of the block with the error, in the archive.
    pub offset: u64,
    pub(super) problem: Problem,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Problem {
    Magic,
    Checksum,
    Zeros,
    Number(&'static str),
    Flag(u8),
    Volume,
    Record,
    Nul(&'static str),
    Attribute,
    SparseVersion,
    SparseKind,
    SparseMap,
    SparseOrder,
    SparseData,
    Beyond,
    End,
    Entries(u64),
    Path(usize),
    Owner,
    Meta,
    Globals,
    Proportion,
    Segments,
}

impl TarError {
    /// Whether the archive may be valid, and exceeds a limit.
    pub const fn is_limit(&self) -> bool {
        match self.problem {
            Problem::Entries(_)
            | Problem::Path(_)
            | Problem::Owner
            | Problem::Meta
            | Problem::Globals
            | Problem::Proportion
            | Problem::Segments => true,
            Problem::Magic
            | Problem::Checksum
            | Problem::Zeros
            | Problem::Number(_)
            | Problem::Flag(_)
            | Problem::Volume
            | Problem::Record
            | Problem::Nul(_)
            | Problem::Attribute
            | Problem::SparseVersion
            | Problem::SparseKind
            | Problem::SparseMap
            | Problem::SparseOrder
            | Problem::SparseData
            | Problem::Beyond
            | Problem::End => false,
        }
    }
}

impl fmt::Display for TarError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problem {
            Problem::Magic => f.write_str("not a tar archive"),
            Problem::Checksum => f.write_str("a tar header has another checksum"),
            Problem::Zeros => f.write_str("a block of zeros in the middle of a tar archive"),
            Problem::Number(what) => {
                write!(
                    f,
                    "the {what} of a tar entry is not a number, or out of range"
                )
            }
            Problem::Flag(flag) => {
                write!(
                    f,
                    "unknown type flag '{}' of a tar entry",
                    flag.escape_ascii()
                )
            }
            Problem::Volume => f.write_str("a tar entry that begins in another volume"),
            Problem::Record => f.write_str("a pax header with a malformed record"),
            Problem::Nul(key) => write!(f, "a zero byte in the {key} of a pax header"),
            Problem::Attribute => f.write_str("an extended attribute that is not base64"),
            Problem::SparseVersion => f.write_str("a sparse file in an unknown format"),
            Problem::SparseKind => f.write_str("a sparse map of what is no file"),
            Problem::SparseMap => f.write_str("a sparse file with a malformed map"),
            Problem::SparseOrder => {
                f.write_str("a sparse file whose map is out of order or goes beyond its end")
            }
            Problem::SparseData => f.write_str("a sparse file with more or less data than its map"),
            Problem::Beyond => f.write_str("a tar entry that ends beyond any archive"),
            Problem::End => f.write_str("a tar archive that ends too early"),
            Problem::Entries(limit) => write!(f, "more than {limit} entries in a tar archive"),
            Problem::Path(limit) => {
                write!(f, "a path of more than {limit} bytes in a tar archive")
            }
            Problem::Owner => write!(
                f,
                "a name of a user or group of more than {MAX_OWNER} bytes in a tar archive"
            ),
            Problem::Meta => write!(
                f,
                "a header of more than {MAX_META} bytes before a tar entry"
            ),
            Problem::Globals => write!(f, "global pax headers of more than {MAX_GLOBALS} bytes"),
            Problem::Proportion => write!(
                f,
                "global pax headers that apply to too many tar entries: more than {} MiB and {EACH} bytes for each entry in all",
                APPLIED >> 20
            ),
            Problem::Segments => write!(f, "a sparse file of more than {MAX_SEGMENTS} segments"),
        }?;
        write!(f, ", at byte {}", self.offset)
    }
}

impl std::error::Error for TarError {}
