//! The bodies of responses.

use crate::platform::Platform;

/// The body of a response.
#[derive(Debug)]
pub enum Body<S, Y> {
    /// No body. A `Content-Length` is that of the same request by `GET`.
    Empty,
    /// Bytes that are in memory.
    Bytes(Vec<u8>),
    /// Bytes that are in the platform's memory.
    Held(Y),
    /// A stream, forwarded untouched.
    Stream(S),
}

/// The body of a response on a platform.
pub(super) type BodyOf<P> = Body<<P as Platform>::Body, <P as Platform>::Bytes>;
