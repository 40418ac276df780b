//! The platform in memory.

use crate::{
    memory::{host::MemoryHost, store::MemoryObjects, values::MemoryValues},
    platform::Composed,
};

/// The platform in memory, as [`Registry`](crate::registry::Registry) takes it.
pub type MemoryPlatform = Composed<MemoryObjects, MemoryValues, MemoryHost>;
