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

/// Which kind of grant gave a repository the right to read a blob. Recorded by the link, and by
/// copies of it in the tiers.
///
/// A link that records none was written by an older version. A repository that is mirrored believes
/// [`Right::Filled`] only.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Right {
    /// All bytes were hashed here, as they came from an upstream.
    Filled,
    /// The blob was pushed or mounted, or a manifest that was pushed needs it.
    Pushed,
}

/// The metadata of a link.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Linked {
    /// Which kind of grant the link was written for.
    pub reason: Right,
}

impl Linked {
    /// Reads the metadata of a link. `None` for a link of an older version, and for metadata that
    /// can't be read.
    pub fn parse(metadata: &str) -> Option<Right> {
        let linked: Option<Self> = serde_json::from_str(metadata).ok();
        linked.map(|linked| linked.reason)
    }

    /// The metadata of a link. Empty if the reason is not known, as in links of an older version.
    pub fn metadata(right: Option<Right>) -> String {
        match right {
            None => String::new(),
            Some(Right::Filled) => r#"{"reason":"filled"}"#.to_owned(),
            Some(Right::Pushed) => r#"{"reason":"pushed"}"#.to_owned(),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metadata_of_links_is_what_is_stored() {
        for (right, stored) in [
            (None, ""),
            (Some(Right::Filled), r#"{"reason":"filled"}"#),
            (Some(Right::Pushed), r#"{"reason":"pushed"}"#),
        ] {
            assert_eq!(Linked::metadata(right), stored);
            assert_eq!(Linked::parse(stored), right);
        }
        for other in [
            "{}",
            "filled",
            r#"{"reason":"other"}"#,
            r#"{"reason":null}"#,
        ] {
            assert_eq!(Linked::parse(other), None, "{other}");
        }
    }
}
