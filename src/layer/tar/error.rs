//! Why an archive is refused.

use std::fmt;

use crate::layer::tar::limits::{APPLIED, EACH, MAX_GLOBALS, MAX_META, MAX_OWNER, MAX_SEGMENTS};

/// The reason why bytes are refused as a tar archive.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TarError {
    /// The offset of the block with the error in the archive, in bytes.
    pub offset: u64,
    pub(super) problem: TarProblem,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum TarProblem {
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
            TarProblem::Entries(_)
            | TarProblem::Path(_)
            | TarProblem::Owner
            | TarProblem::Meta
            | TarProblem::Globals
            | TarProblem::Proportion
            | TarProblem::Segments => true,
            TarProblem::Magic
            | TarProblem::Checksum
            | TarProblem::Zeros
            | TarProblem::Number(_)
            | TarProblem::Flag(_)
            | TarProblem::Volume
            | TarProblem::Record
            | TarProblem::Nul(_)
            | TarProblem::Attribute
            | TarProblem::SparseVersion
            | TarProblem::SparseKind
            | TarProblem::SparseMap
            | TarProblem::SparseOrder
            | TarProblem::SparseData
            | TarProblem::Beyond
            | TarProblem::End => false,
        }
    }
}

impl fmt::Display for TarError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problem {
            TarProblem::Magic => f.write_str("not a tar archive"),
            TarProblem::Checksum => f.write_str("the checksum of a tar header does not match"),
            TarProblem::Zeros => f.write_str("a block of zeros in the middle of a tar archive"),
            TarProblem::Number(what) => {
                write!(
                    f,
                    "the {what} of a tar entry is not a number, or out of range"
                )
            }
            TarProblem::Flag(flag) => {
                write!(
                    f,
                    "unknown type flag '{}' of a tar entry",
                    flag.escape_ascii()
                )
            }
            TarProblem::Volume => f.write_str("a tar entry continued from another volume"),
            TarProblem::Record => f.write_str("a pax header with a malformed record"),
            TarProblem::Nul(key) => write!(f, "a zero byte in the {key} of a pax header"),
            TarProblem::Attribute => f.write_str("an extended attribute that is not base64"),
            TarProblem::SparseVersion => f.write_str("a sparse file in an unknown format"),
            TarProblem::SparseKind => f.write_str("a sparse map of an entry that is not a file"),
            TarProblem::SparseMap => f.write_str("a sparse file with a malformed map"),
            TarProblem::SparseOrder => {
                f.write_str("a sparse file whose map is out of order or goes beyond its end")
            }
            TarProblem::SparseData => {
                f.write_str("a sparse file with more or less data than its map")
            }
            TarProblem::Beyond => f.write_str("a tar entry whose size is out of range"),
            TarProblem::End => f.write_str("a truncated tar archive"),
            TarProblem::Entries(limit) => write!(f, "more than {limit} entries in a tar archive"),
            TarProblem::Path(limit) => {
                write!(f, "a path of more than {limit} bytes in a tar archive")
            }
            TarProblem::Owner => write!(
                f,
                "a name of a user or group of more than {MAX_OWNER} bytes in a tar archive"
            ),
            TarProblem::Meta => write!(
                f,
                "a header of more than {MAX_META} bytes before a tar entry"
            ),
            TarProblem::Globals => write!(f, "global pax headers of more than {MAX_GLOBALS} bytes"),
            TarProblem::Proportion => write!(
                f,
                "global pax headers that apply to too many tar entries: more than {} MiB and {EACH} bytes for each entry in all",
                APPLIED >> 20
            ),
            TarProblem::Segments => write!(f, "a sparse file of more than {MAX_SEGMENTS} segments"),
        }?;
        write!(f, ", at byte {}", self.offset)
    }
}

impl std::error::Error for TarError {}
