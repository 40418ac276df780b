//! The platform: the types that a registry runs on.

use std::{fmt, marker::PhantomData};

use crate::{
    host::Host,
    store::{Bytes, Objects, Streams, Values},
};

/// The types of one platform: its streams, its stores and its host.
///
/// A Worker and every test name their types once, instead of passing three parameters with their
/// bounds to each service.
pub trait Platform: 'static {
    /// A stream of bytes, from a client, a store or another server.
    type Body: 'static;

    /// Bytes in the platform's memory.
    type Bytes: Bytes;

    /// The cold tier: the durable store, which is the only source of truth.
    type Cold: Objects<Body = Self::Body, Bytes = Self::Bytes>;

    /// The warm tier: a cache that isolates share, and that may be stale or forget.
    type Warm: Values<Bytes = Self::Bytes>;

    /// The host: the clock, randomness, streams, requests to other servers and the log.
    type Host: Host<Body = Self::Body, Bytes = Self::Bytes>;
}

/// A platform that is composed of a cold store `S`, a warm store `W` and a host `H`, which agree on
/// streams and bytes. It is a name for the types, and has no values.
///
/// ```
/// use strata::{
///     memory::{MemoryHost, MemoryObjects, MemoryValues},
///     platform::Composed,
///     registry::Registry,
/// };
///
/// type InMemory = Registry<Composed<MemoryObjects, MemoryValues, MemoryHost>>;
/// ```
pub struct Composed<S, W, H> {
    stores: PhantomData<fn() -> (S, W)>,
    host: PhantomData<fn() -> H>,
}

impl<S, W, H> fmt::Debug for Composed<S, W, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Composed")
    }
}

impl<S, W, H> Platform for Composed<S, W, H>
where
    S: Objects<Body: 'static>,
    W: Values<Bytes = S::Bytes>,
    H: Host<Body = S::Body, Bytes = S::Bytes>,
{
    type Body = S::Body;
    type Bytes = S::Bytes;
    type Cold = S;
    type Warm = W;
    type Host = H;
}

/// The reader of a platform's streams.
pub type ReaderOf<P> = <<P as Platform>::Host as Streams>::Reader;

/// The hasher of a platform's bytes.
pub type HasherOf<P> = <<P as Platform>::Host as Streams>::Hasher;
