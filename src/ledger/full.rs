//! The refusal of a lease.

use std::fmt;

use crate::error::{Error, MEMORY_RETRY_AFTER};

/// The reason why a lease is refused: a bound would be exceeded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Full {
    /// The requested bytes, or the bytes that the resized lease would have.
    pub wanted: u64,
    /// The bytes in use that count towards the bound.
    pub used: u64,
    /// The bound in bytes.
    pub bound: u64,
    /// Whether the bound is the sender's own share. If not, it is one that senders have together.
    pub is_own: bool,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            wanted,
            used,
            bound,
            is_own,
        } = self;
        let (wanted, used, bound) = (kib(*wanted), kib(*used), kib(*bound));
        if *is_own {
            write!(
                f,
                "this request needs {wanted} KiB of memory, and your other requests use {used} of your {bound} KiB; try again"
            )
        } else {
            write!(
                f,
                "this request needs {wanted} KiB of memory, and {used} of {bound} KiB are in use; try again"
            )
        }
    }
}

impl std::error::Error for Full {}

impl From<Full> for Error {
    fn from(full: Full) -> Self {
        Self::unavailable(full.to_string(), MEMORY_RETRY_AFTER)
    }
}

const fn kib(bytes: u64) -> u64 {
    bytes.div_ceil(1024)
}
