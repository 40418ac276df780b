//! The host: the functions of the platform that the core needs, beside stores.

use std::{fmt, future::Future, time::Duration};

use http::{HeaderMap, Method, StatusCode};

use crate::{
    range::ByteRange,
    store::{StoreError, Streams},
    time::Timestamp,
};

/// All functions of a platform beside its stores. Clones share all state.
///
/// It is implemented for every type with the other traits of this module. Code that needs one of
/// these traits is bound by that one. So a bound shows which functions the code may use.
pub trait Host:
    Clock + Random + KeyDerivation + RateLimit + Fetch + Cache + Log + Streams + Clone + 'static
{
}

impl<H> Host for H where
    H: Clock + Random + KeyDerivation + RateLimit + Fetch + Cache + Log + Streams + Clone + 'static
{
}

/// Tells the time, and waits.
pub trait Clock {
    /// The current time. It may stand still while code runs, and moves when the code has awaited
    /// something, as on Workers.
    fn now(&self) -> Timestamp;

    /// Resolves after `duration`. Waiting requests poll by it, at intervals of milliseconds.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()>;
}

/// Generates random bytes, for identifiers, salts and nonces.
pub trait Random {
    /// Returns 128 random bits, fit for identifiers that nobody can guess.
    fn random(&self) -> [u8; 16];

    /// Returns 32 random hexadecimal digits. They keep the keys and etags of two writers apart.
    fn nonce(&self) -> String {
        hex::encode(self.random())
    }
}

/// Derives keys from passwords, which is slow on purpose.
pub trait KeyDerivation {
    /// Derives a key of 32 bytes from a password by PBKDF2 with HMAC-SHA-256 (RFC 8018, section
    /// 5.2).
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

/// Limits the rate of sign-ins over all isolates, beside the isolate's own limit.
pub trait RateLimit {
    /// Whether the platform's rate limiter lets one more sign-in pass, and counts it.
    ///
    /// `key` is an address or network, and for [`SignIns::OfUser`] the name of the user after a
    /// space. Without a limiter, or if it fails, all sign-ins pass.
    fn admits(&self, counted: SignIns, key: &str) -> impl Future<Output = bool>;
}

/// Makes requests to other servers: the upstreams of mirrors, and their token servers.
pub trait Fetch: Streams {
    /// Makes a request to another server. It follows no redirection: the caller decides about that.
    ///
    /// # Errors
    ///
    /// [`FetchError`] if no reply came. A reply of any status is no error.
    fn fetch(&self, ask: Ask) -> impl Future<Output = Result<Reply<Self::Body>, FetchError>>;
}

/// Streams bytes into and out of the cache of this location, which its isolates share. It may
/// forget an entry at any time.
///
/// An entry is named by an address of the registry's own host.
pub trait Cache: Streams {
    /// Opens an entry of `size` bytes, or a range of it. `None` if the cache does not have it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Length`] if the entry has another size, and the platform's failure.
    fn cached(
        &self,
        address: &str,
        size: u64,
        range: Option<ByteRange>,
    ) -> impl Future<Output = Result<Option<Self::Body>, StoreError>>;

    /// Writes an entry: a stream of `size` bytes. It is complete when this returns, and absent if
    /// the stream fails.
    ///
    /// # Errors
    ///
    /// The failure of the stream or of the platform.
    fn cache(
        &self,
        address: &str,
        body: Self::Body,
        size: u64,
        time_to_live: Duration,
    ) -> impl Future<Output = Result<(), StoreError>>;
}

/// Writes the log of the operator.
pub trait Log {
    /// Writes one line to the log: a fixed message, and fields as names and values.
    fn log(&self, level: Level, message: &'static str, fields: &[(&'static str, &str)]);
}

/// The key by which the platform's rate limiter counts sign-ins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SignIns {
    /// The network of the address, for all users together.
    OfAddress,
    /// One user from one network.
    OfUser,
}

/// A request to another server, without a body.
#[derive(Clone, Debug)]
pub struct Ask {
    /// `GET` or `HEAD`.
    pub method: Method,
    /// The absolute address: scheme, host, path and query.
    pub url: String,
    /// The headers to send, which may have credentials of the upstream.
    pub headers: HeaderMap,
    /// The timeout for the status and headers of the reply. The body may take longer.
    pub patience: Duration,
}

/// The reply of another server. `B` is the platform's stream of bytes.
#[derive(Debug)]
pub struct Reply<B> {
    /// The status, as the server sent it: a redirection too.
    pub status: StatusCode,
    /// The headers. Several of one name may have come as one, with commas between.
    pub headers: HeaderMap,
    /// The body as a stream, if there is one.
    pub body: Option<B>,
}

/// The reason why no reply came from another server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FetchError {
    /// No status came within [`Ask::patience`].
    Late,
    /// The server could not be reached, or the connection broke off. The text is the platform's.
    Failed(String),
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late => f.write_str("the request timed out"),
            Self::Failed(cause) => f.write_str(cause),
        }
    }
}

impl std::error::Error for FetchError {}

/// The severity of a line of the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Level {
    /// The operator should look at the line.
    Error,
    /// The line reports an event: a request, or a change for the audit.
    Info,
}
