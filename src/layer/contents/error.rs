//! Why entries are refused for a table of contents.

use std::fmt;

use crate::layer::contents::limits::{DESCRIBED, EACH, MAX_PATH};

/// Why entries are refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ContentsError {
    /// The saved state is damaged, or a count exceeds its type.
    Broken,
    /// The entries are larger than those of any real layer.
    Proportion,
    /// One path has too many or too large entries.
    Path,
}

impl fmt::Display for ContentsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken => f.write_str("the table of contents has too many parts"),
            Self::Proportion => write!(
                f,
                "the table of contents is too large: more than {} MiB and {EACH} bytes for each entry",
                DESCRIBED >> 20
            ),
            Self::Path => write!(f, "more than {MAX_PATH} bytes of entries at one path"),
        }
    }
}
