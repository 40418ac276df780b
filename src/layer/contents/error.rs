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
            Self::Broken => f.write_str("its table of contents has more parts than can be counted"),
            Self::Proportion => write!(
                f,
                "its table of contents is out of proportion: more than {} MiB and {EACH} bytes for each entry",
                DESCRIBED >> 20
            ),
            Self::Path => write!(f, "more than {MAX_PATH} bytes of entries at one path"),
        }
    }
}
