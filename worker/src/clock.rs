//! The clock of the platform.

use js_sys::Date;
use strata::time::Timestamp;

/// The time, which on this platform moves only when something was awaited.
pub(crate) fn now() -> Timestamp {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "milliseconds since 1970 are a whole number"
    )]
    Timestamp(Date::now() as u64)
}
