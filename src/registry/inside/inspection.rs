//! The results of looking inside layers and images.

use serde_json::Value;

use crate::{
    digest::Digest,
    platform::Platform,
    registry::{inside::layer::PassProgress, pull::Pulled},
};

/// The result of looking into a layer or an image.
pub(in crate::registry) enum Inspection<P: Platform> {
    /// The layer must be indexed first.
    Indexing(Digest, PassProgress),
    /// The client has the content with this etag.
    Unchanged(String),
    /// A table of contents, or a directory.
    EntryPage(EntryPage),
    /// A file.
    File {
        path: Vec<u8>,
        etag: String,
        pulled: Pulled<P>,
    },
}

/// A page of entries.
pub(in crate::registry) struct EntryPage {
    /// The page, for the client.
    pub(in crate::registry) body: Value,
    /// The etag, if the page is of one layer and never changes.
    pub(in crate::registry) etag: Option<String>,
    /// The query of the next page.
    pub(in crate::registry) next: Option<String>,
}
