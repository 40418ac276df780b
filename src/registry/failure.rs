//! Failures of work that no client waits for.

use crate::{
    error::Error,
    host::{Level, Log},
};

/// Logs a failure.
pub(super) fn log_failure(host: &impl Log, what: &'static str, error: &Error) {
    let message = error.message();
    let fields = [
        ("error", &*message),
        ("cause", error.cause().unwrap_or_default()),
    ];
    host.log(Level::Error, what, &fields);
}
