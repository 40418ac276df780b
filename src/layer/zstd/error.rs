//! Why bytes are refused as zstd.

use std::fmt;

use crate::layer::zstd::limits::{MAX_UNITS, STRETCH};

/// Why bytes are refused as zstd.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ZstdError {
    /// The offset of the error in the compressed stream.
    pub offset: u64,
    pub(super) problem: Problem,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Problem {
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
        matches!(self.problem, Problem::Window { .. } | Problem::Units)
    }
}

impl fmt::Display for ZstdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problem {
            Problem::Magic => f.write_str("not zstd"),
            Problem::Garbage => f.write_str("bytes that are not zstd after the last frame"),
            Problem::Reserved => f.write_str("the reserved bit of a zstd frame is set"),
            Problem::Dictionary(id) => write!(f, "a zstd frame that needs dictionary {id}"),
            Problem::Window { needed, limit } => write!(
                f,
                "a zstd frame that needs a window of {needed} bytes, more than {limit}"
            ),
            Problem::Block => f.write_str("a block of a zstd frame can't be decoded"),
            Problem::Check => f.write_str("a zstd frame has another checksum"),
            Problem::Length => f.write_str("a zstd frame has another length"),
            Problem::Units => write!(
                f,
                "more than {MAX_UNITS} frames and blocks of zstd that decompress to less than {} MiB",
                STRETCH >> 20
            ),
            Problem::End => f.write_str("zstd that ends too early"),
            Problem::Refused => f.write_str("what came out of zstd was refused"),
        }?;
        write!(f, ", at byte {}", self.offset)
    }
}

impl std::error::Error for ZstdError {}
