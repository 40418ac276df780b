//! The cursor of the scrub: what is stored between two steps.

use serde::{Deserialize, Serialize};

use crate::{
    digest::Digest,
    registry::upkeep::{filter::Filter, on_demand, scrub::report::Totals},
    store::key::Key,
    time::Timestamp,
};

/// How far the scrub has come: what is stored between two steps.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Cursor {
    /// When this pass began, or the next one may.
    pub(super) time: Timestamp,
    pub(super) place: Place,
    /// Whether a step has begun and not come to its end.
    pub(super) is_open: bool,
    /// What did not come to its end when it was last tried.
    pub(super) trying: Option<Key>,
    /// What was read wrong once.
    pub(super) doubt: Option<String>,
    pub(super) edges: Edges,
    pub(super) totals: Totals,
}

/// Where in a pass the scrub is.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase", tag = "phase")]
pub(super) enum Place {
    /// Between two passes.
    #[default]
    Rest,
    /// Among blobs.
    Blobs(AmongBlobs),
    /// After this key of `repositories/`.
    Manifests { after: Option<Key> },
}

/// Where among the blobs the scrub is.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AmongBlobs {
    /// The last blob that is done with.
    pub(super) after: Option<Digest>,
    /// The last grant or link that is done with, of the next blob.
    pub(super) reference: Option<Key>,
}

impl on_demand::Place for Place {
    fn name(&self) -> &'static str {
        match self {
            Self::Rest => "rest",
            Self::Blobs(_) => "blobs",
            Self::Manifests { .. } => "manifests",
        }
    }
}

/// Which manifests hold which blobs, that were seen to be there.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Edges {
    pub(super) seen: Filter,
    pub(super) number: u64,
}
