//! Numbers between JavaScript, which has 53 bits for a whole one, and Rust.

use std::{error, fmt};

/// JavaScript's `Number.MAX_SAFE_INTEGER`: up to it, every whole number is exact.
const MAX_SAFE: u64 = (1 << 53) - 1;

/// A number that is not a valid count.
#[derive(Clone, Copy, Debug)]
pub struct NumberError {
    what: &'static str,
    found: f64,
}

impl fmt::Display for NumberError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, found } = self;
        write!(
            f,
            "{what} is {found}: a whole number from 0 to {MAX_SAFE} is wanted"
        )
    }
}

impl error::Error for NumberError {}

/// Converts a number from JavaScript to a count.
pub fn inward(what: &'static str, found: f64) -> Result<u64, NumberError> {
    #[expect(clippy::cast_precision_loss, reason = "it has 53 bits")]
    let is_whole = found.fract() == 0.0 && (0.0..=MAX_SAFE as f64).contains(&found);
    if !is_whole {
        return Err(NumberError { what, found });
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is whole, and not negative"
    )]
    let number = found as u64;
    Ok(number)
}

/// Converts a number for JavaScript. More than 53 bits are rounded, as in JSON. No range of a file
/// of such a size can be requested.
pub fn outward(number: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "said above")]
    let number = number as f64;
    number
}
