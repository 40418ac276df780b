//! The entries that are logged.

use std::fmt;

/// The lines of the log, beside the audit, which is always written: the setting `STRATA_LOG`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogScope {
    /// Only failures that are not the client's fault: `errors`.
    Errors,
    /// The same, and a line for each request: `requests`, the default.
    Requests,
}

impl fmt::Display for LogScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Errors => "errors",
            Self::Requests => "requests",
        })
    }
}
