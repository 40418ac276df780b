//! Why bytes are refused as zstd.

use std::fmt;

use crate::layer::zstd::limits::{MAX_UNITS, STRETCH};

/// The reason why bytes are refused as zstd (RFC 8878).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ZstdError {
    /// The offset of the error in the compressed stream, in bytes.
    pub offset: u64,
    pub(super) problem: ZstdProblem,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ZstdProblem {
    Magic,
    Garbage,
    Reserved,
    Dictionary(u64),
    Window { needed: u64, limit: u64 },
    Block,
    Check,
    Length,
    Units,
    End,
    Refused,
}

impl ZstdError {
    /// Whether the bytes may be valid, and exceed a limit.
    pub const fn is_limit(&self) -> bool {
        matches!(
            self.problem,
            ZstdProblem::Window { .. } | ZstdProblem::Units
        )
    }
}

impl fmt::Display for ZstdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problem {
            ZstdProblem::Magic => f.write_str("not zstd"),
            ZstdProblem::Garbage => f.write_str("bytes that are not zstd after the last frame"),
            ZstdProblem::Reserved => f.write_str("the reserved bit of a zstd frame is set"),
            ZstdProblem::Dictionary(id) => write!(f, "a zstd frame that needs dictionary {id}"),
            ZstdProblem::Window { needed, limit } => write!(
                f,
                "a zstd frame that needs a window of {needed} bytes, more than {limit}"
            ),
            ZstdProblem::Block => f.write_str("a block of a zstd frame can't be decoded"),
            ZstdProblem::Check => f.write_str("the checksum of a zstd frame does not match"),
            ZstdProblem::Length => f.write_str("the length of a zstd frame does not match"),
            ZstdProblem::Units => write!(
                f,
                "more than {MAX_UNITS} frames and blocks of zstd that decompress to less than {} MiB",
                STRETCH >> 20
            ),
            ZstdProblem::End => f.write_str("truncated zstd data"),
            ZstdProblem::Refused => f.write_str("the decompressed zstd data was refused"),
        }?;
        write!(f, ", at byte {}", self.offset)
    }
}

impl std::error::Error for ZstdError {}
