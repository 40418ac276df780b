//! The bodies of responses.

use crate::platform::Platform;

/// The body of a response: `S` is the platform's stream, and `Y` its kind of bytes.
#[derive(Debug)]
pub enum Body<S, Y> {
    /// No body. A `Content-Length` header may be set all the same, as the response to a `HEAD`
    /// request has that of the `GET` request (RFC 9110, section 9.3.2).
    Empty,
    /// Bytes that are in memory of this crate.
    Bytes(Vec<u8>),
    /// Bytes that are in the platform's memory, which may share them with a cache.
    Held(Y),
    /// A stream to forward untouched. It fails if a part of it can't be read.
    Stream(S),
}

/// The body of a response on a platform.
pub(super) type BodyOf<P> = Body<<P as Platform>::Body, <P as Platform>::Bytes>;
