//! The entries that are logged.

use std::fmt;

/// The entries that are logged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Log {
    /// Failures.
    Errors,
    /// Failures, and a line for each request.
    Requests,
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Errors => "errors",
            Self::Requests => "requests",
        })
    }
}
