//! What the core asks of whoever runs it, stores apart.

use std::{fmt, future::Future, time::Duration};

use http::{HeaderMap, Method, StatusCode};

use crate::{store::Streams, time::Timestamp};

/// All that is asked of a platform beside its stores. Clones are the same host.
///
/// Code that needs one of these traits asks for that one: a bound says what it may touch.
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
    /// The time now. It may stand still while code runs, and moves when something was awaited.
    fn now(&self) -> Timestamp;

    /// Ends after a while.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()>;
}

/// Gives random bytes.
pub trait Random {
    /// Random bytes, fit for identifiers that nobody can guess.
    fn random(&self) -> [u8; 16];

    /// Random text, in hexadecimal: keeps the keys and etags of two writers apart.
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
    /// A message of the platform, where it refuses: the number of iterations, say.
    fn derive(
        &self,
        password: &[u8],
        salt: &[u8],
        iterations: u32,
    ) -> impl Future<Output = Result<[u8; 32], String>>;
}

/// Limits how often something may be tried, over all isolates.
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
    /// [`FetchError`] where no reply came. A reply of any status is none.
    fn fetch(&self, ask: Ask) -> impl Future<Output = Result<Reply<Self::Body>, FetchError>>;
}

/// Writes the log.
pub trait Log {
    /// Writes one line to the log: a fixed message, and fields.
    fn log(&self, level: Level, message: &'static str, fields: &[(&'static str, &str)]);
}

/// What the platform's rate limiter counts sign-ins by.
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
    /// How long the head of the reply may take.
    pub patience: Duration,
}

/// What another server says.
#[derive(Debug)]
pub struct Reply<B> {
    /// The status.
    pub status: StatusCode,
    /// The headers; several of one name may have come as one, with commas between.
    pub headers: HeaderMap,
    /// The body, where there is one.
    pub body: Option<B>,
}

/// Why another server said nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FetchError {
    /// It took longer than it may.
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

/// How much a line of the log matters.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Level {
    /// Somebody should look at it.
    Error,
    /// It tells what happened.
    Info,
}
