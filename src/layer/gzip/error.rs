//! Why bytes are refused as gzip.

use std::fmt;

use crate::layer::gzip::limits::{MAX_BLOCKS, MAX_SPAN, STRETCH};

/// Why bytes are refused as gzip.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GzipError {
    /// The offset of the error in the compressed stream.
    pub offset: u64,
    pub(super) problem: Problem,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Problem {
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
            Problem::Magic => f.write_str("not gzip"),
            Problem::Garbage => f.write_str("bytes that are not gzip after the last member"),
            Problem::Method(method) => write!(f, "unknown compression method {method} of gzip"),
            Problem::Flags(flags) => write!(f, "reserved flags {flags:#04x} of gzip are set"),
            Problem::Header => f.write_str("a header of gzip that does not end"),
            Problem::HeaderCheck => f.write_str("the header of a gzip member has another checksum"),
            Problem::Deflate => f.write_str("bytes that are not deflate in a gzip member"),
            Problem::Check => f.write_str("a gzip member has another checksum"),
            Problem::Length => f.write_str("a gzip member has another length"),
            Problem::Window => f.write_str("the window of a checkpoint can't be inflated"),
            Problem::Block => write!(
                f,
                "a block of deflate of more than {} MiB, in which no file can be read by itself",
                MAX_SPAN >> 20
            ),
            Problem::Blocks => write!(
                f,
                "more than {MAX_BLOCKS} blocks of deflate that inflate to less than {} MiB",
                STRETCH >> 20
            ),
            Problem::End => f.write_str("gzip that ends too early"),
        }?;
        write!(f, ", at byte {}", self.offset)
    }
}

impl std::error::Error for GzipError {}

impl GzipError {
    /// Whether the bytes may be valid, and exceed a limit.
    pub const fn is_limit(&self) -> bool {
        matches!(self.problem, Problem::Block | Problem::Blocks)
    }
}
