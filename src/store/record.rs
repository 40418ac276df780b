//! Where the bytes of a blob are.

use serde::{Deserialize, Serialize};

use crate::upload::Extent;

/// Where the bytes of a blob are: the body of a link, and of a blob that is a record.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum Record {
    /// At the blob's own key.
    Bytes {
        /// The number of bytes.
        size: u64,
    },
    /// In extents, in this order.
    Extents {
        /// The number of bytes of all.
        size: u64,
        /// The extents.
        extents: Vec<Extent>,
    },
}

impl Record {
    /// The number of bytes.
    pub const fn size(&self) -> u64 {
        match self {
            Self::Bytes { size } | Self::Extents { size, .. } => *size,
        }
    }

    /// The number of objects that they are in.
    pub fn objects(&self) -> u32 {
        match self {
            Self::Bytes { .. } => 1,
            Self::Extents { extents, .. } => u32::try_from(extents.len()).unwrap_or(u32::MAX),
        }
    }
}
