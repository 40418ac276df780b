//! The host: the functions of the platform that the core needs, beside stores.

use std::{fmt, future::Future, time::Duration};

use http::{HeaderMap, Method, StatusCode};

use crate::{store::Streams, time::Timestamp};

/// All functions of a platform beside its stores. Clones share all state.
///
/// Code that needs one of these traits is bound by that one. So a bound shows which functions the
/// code may use.
pub trait Host:
    Clock + Random + KeyDerivation + RateLimit + Fetch + Log + Streams + Clone + 'static
{
}

impl<H> Host for H where
    H: Clock + Random + KeyDerivation + RateLimit + Fetch + Log + Streams + Clone + 'static
{
}

/// Tells the time and waits.
pub trait Clock {
    /// The current time. It may stand still while code runs, and moves when the code has awaited
    /// something.
    fn now(&self) -> Timestamp;

    /// Resolves after this time.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()>;
}

/// Generates random bytes.
pub trait Random {
    /// Returns random bytes, fit for identifiers that nobody can guess.
    fn random(&self) -> [u8; 16];

    /// Returns random text, in hexadecimal. It keeps the keys and etags of two writers apart.
    fn nonce(&self) -> String {
        hex::encode(self.random())
    }
}

/// Derives keys from passwords, which is slow on purpose.
pub trait KeyDerivation {
    /// Derives a key from a password by PBKDF2 with HMAC-SHA-256 (RFC 8018).
    ///
    /// # Errors
    ///
    /// The platform's message, if it refuses: because of the number of iterations, for example.
    fn derive(
        &self,
        password: &[u8],
        salt: &[u8],
        iterations: u32,
    ) -> impl Future<Output = Result<[u8; 32], String>>;
}

/// Limits the rate of attempts, over all isolates.
pub trait RateLimit {
    /// Whether the platform's rate limiter lets one more sign-in pass. Without a limiter, all pass.
    fn admits(&self, counted: SignIns, key: &str) -> impl Future<Output = bool>;
}

/// Makes requests to other servers.
pub trait Fetch: Streams {
    /// Makes a request to another server, and follows no redirection.
    ///
    /// # Errors
    ///
    /// [`FetchError`] if no reply came. A reply of any status is no error.
    fn fetch(&self, ask: Ask) -> impl Future<Output = Result<Reply<Self::Body>, FetchError>>;
}

/// Writes the log.
pub trait Log {
    /// Writes one line to the log: a fixed message, and fields.
    fn log(&self, level: Level, message: &'static str, fields: &[(&'static str, &str)]);
}

/// The key by which the platform's rate limiter counts sign-ins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SignIns {
    /// The address, for all users together.
    OfAddress,
    /// One user at one address.
    OfUser,
}

/// A request to another server.
#[derive(Clone, Debug)]
pub struct Ask {
    /// `GET` or `HEAD`.
    pub method: Method,
    /// The address.
    pub url: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The timeout for the head of the reply.
    pub patience: Duration,
}

/// The reply of another server.
#[derive(Debug)]
pub struct Reply<B> {
    /// The status.
    pub status: StatusCode,
    /// The headers. Several of one name may have come as one, with commas between.
    pub headers: HeaderMap,
    /// The body, if there is one.
    pub body: Option<B>,
}

/// Why no reply came.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FetchError {
    /// The timeout passed.
    Late,
    /// It could not be reached, or broke off.
    Failed(String),
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late => f.write_str("it took too long to answer"),
            Self::Failed(cause) => f.write_str(cause),
        }
    }
}

impl std::error::Error for FetchError {}

/// The severity of a line of the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Level {
    /// The operator should look at it.
    Error,
    /// It reports an event.
    Info,
}
