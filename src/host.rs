//! What the core asks of whoever runs it, stores apart.

use std::{future::Future, time::Duration};

use crate::time::Timestamp;

/// Time, randomness, slow hashing and a log. Clones are the same host.
pub trait Host: Clone + 'static {
    /// The time now. It may stand still while code runs, and moves when something was awaited.
    fn now(&self) -> Timestamp;

    /// Random bytes, fit for identifiers that nobody can guess.
    fn random(&self) -> [u8; 16];

    /// Ends after a while.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()>;

    /// Derives a key from a password by PBKDF2 with HMAC-SHA-256 (RFC 8018).
    fn derive(
        &self,
        password: &[u8],
        salt: &[u8],
        iterations: u32,
    ) -> impl Future<Output = Result<[u8; 32], String>>;

    /// Whether the platform's rate limiter lets one more of this pass; where it has none, everything passes.
    fn admits(&self, key: &str) -> impl Future<Output = bool>;

    /// Writes one line to the log: a fixed message, and fields.
    fn log(&self, level: Level, message: &'static str, fields: &[(&'static str, &str)]);
}

/// How much a line of the log matters.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Level {
    /// Somebody should look at it.
    Error,
    /// It tells what happened.
    Info,
}
