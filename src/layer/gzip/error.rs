//! Why bytes are refused as gzip.

use std::fmt;

use crate::layer::gzip::limits::{MAX_BLOCKS, MAX_SPAN, STRETCH};

/// The reason why bytes are refused as gzip (RFC 1952, RFC 1951).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GzipError {
    /// The offset of the error in the compressed stream, in bytes.
    pub offset: u64,
    pub(super) problem: GzipProblem,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum GzipProblem {
    Magic,
    Garbage,
    Method(u8),
    Flags(u8),
    Header,
    HeaderCheck,
    Deflate,
    Check,
    Length,
    Window,
    Block,
    Blocks,
    End,
}

impl fmt::Display for GzipError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problem {
            GzipProblem::Magic => f.write_str("not gzip"),
            GzipProblem::Garbage => f.write_str("bytes that are not gzip after the last member"),
            GzipProblem::Method(method) => write!(f, "unknown gzip compression method {method}"),
            GzipProblem::Flags(flags) => write!(f, "reserved gzip flags {flags:#04x} are set"),
            GzipProblem::Header => f.write_str("a gzip header without an end"),
            GzipProblem::HeaderCheck => {
                f.write_str("the header checksum of a gzip member does not match")
            }
            GzipProblem::Deflate => f.write_str("invalid deflate data in a gzip member"),
            GzipProblem::Check => f.write_str("the checksum of a gzip member does not match"),
            GzipProblem::Length => f.write_str("the length of a gzip member does not match"),
            GzipProblem::Window => f.write_str("the window of a checkpoint can't be decompressed"),
            GzipProblem::Block => write!(
                f,
                "a deflate block of more than {} MiB, whose files can't be read separately",
                MAX_SPAN >> 20
            ),
            GzipProblem::Blocks => write!(
                f,
                "more than {MAX_BLOCKS} deflate blocks that decompress to less than {} MiB",
                STRETCH >> 20
            ),
            GzipProblem::End => f.write_str("truncated gzip data"),
        }?;
        write!(f, ", at byte {}", self.offset)
    }
}

impl std::error::Error for GzipError {}

impl GzipError {
    /// Whether the bytes may be valid, and exceed a limit of this crate.
    pub const fn is_limit(&self) -> bool {
        matches!(self.problem, GzipProblem::Block | GzipProblem::Blocks)
    }
}
