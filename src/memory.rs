//! A complete platform in memory: stores, streams and a host. It is for tests, for a registry
//! within another program, and as the first example of a platform.
//!
//! It stores nothing durably, and the host reaches no other server. [`open_registry`] makes a
//! registry on it, and [`ask`] sends a request to that.

pub use self::{
    body::{MadeItems, MemoryBody},
    bytes::MemoryBytes,
    host::MemoryHost,
    platform::MemoryPlatform,
    registry::{ask, open_registry},
    store::MemoryObjects,
    streams::{MemoryHasher, MemoryReader, MemoryStreams},
    values::MemoryValues,
};

mod body;
mod bytes;
mod host;
mod platform;
mod registry;
mod store;
mod streams;
mod values;
