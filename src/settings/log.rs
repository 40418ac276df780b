//! What the log tells.

use std::fmt;

/// What the log tells.
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
