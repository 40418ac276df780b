//! The cursor of the scrub.

use serde::{Deserialize, Serialize};

use crate::{
    digest::Digest,
    registry::upkeep::{filter::Filter, on_demand, scrub::report::Totals},
    store::key::Key,
    time::Timestamp,
};

/// The progress of the scrub, stored between two steps.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ScrubCursor {
    /// The time at which this pass began, or at which the next one may.
    pub(super) time: Timestamp,
    pub(super) place: ScrubPosition,
    /// Whether a step has begun and not ended.
    pub(super) is_open: bool,
    /// The key that the last step failed to finish.
    pub(super) trying: Option<Key>,
    /// The blob that was read as wrong once.
    pub(super) doubt: Option<String>,
    pub(super) edges: Edges,
    pub(super) totals: Totals,
}

/// The position of the scrub in a pass.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase", tag = "phase")]
pub(super) enum ScrubPosition {
    /// Between two passes.
    #[default]
    Rest,
    /// Among blobs.
    Blobs(ScrubBlobPosition),
    /// After this key of `repositories/`.
    Manifests { after: Option<Key> },
}

/// The position of the scrub among the blobs.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ScrubBlobPosition {
    /// The last blob that was finished.
    pub(super) after: Option<Digest>,
    /// The last grant or link of the next blob that was finished.
    pub(super) reference: Option<Key>,
}

impl on_demand::Position for ScrubPosition {
    fn name(&self) -> &'static str {
        match self {
            Self::Rest => "rest",
            Self::Blobs(_) => "blobs",
            Self::Manifests { .. } => "manifests",
        }
    }
}

/// The grants that were seen on blobs that are there: a filter of manifests with their blobs.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Edges {
    pub(super) seen: Filter,
    pub(super) number: u64,
}
