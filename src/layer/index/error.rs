//! Why bytes are not an index.

use std::fmt;

use crate::layer::index::envelope::VERSION;

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
