//! The clock of the platform.

use js_sys::Date;
use strata::time::Timestamp;

/// The current time. On this platform it moves only when the code has awaited something.
pub(crate) fn now() -> Timestamp {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "milliseconds since 1970 are a whole number"
    )]
    Timestamp(Date::now() as u64)
}
