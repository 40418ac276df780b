//! A platform in memory, complete: stores, streams and a host. For tests, for a registry within
//! another program, and as the first example of a platform.
//!
//! Nothing lasts, and the host reaches no other server.

use crate::platform::Composed;

pub use self::{
    body::{MadeItems, MemoryBody},
    bytes::MemoryBytes,
    host::MemoryHost,
    store::Memory,
    streams::{MemoryHasher, MemoryReader, MemoryStreams},
    values::MemoryValues,
};

mod body;
mod bytes;
mod host;
mod store;
mod streams;
mod values;

/// A platform of stores, streams and a host in memory.
pub type MemoryPlatform = Composed<Memory, MemoryValues, MemoryHost>;
