//! The platform in memory.

use crate::{
    memory::{host::MemoryHost, store::Memory, values::MemoryValues},
    platform::Composed,
};

/// A platform of stores, streams and a host in memory.
pub type MemoryPlatform = Composed<Memory, MemoryValues, MemoryHost>;
