//! The cursor of the sweep.

use serde::{Deserialize, Serialize};

use crate::{
    digest::Digest,
    registry::upkeep::{
        filter::Filter, inventory::Inventory, on_demand, sweep::joining::JoinCandidates,
    },
    store::key::Key,
    time::Timestamp,
    upload::UploadId,
};

/// The progress of the sweep, stored between two steps.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SweepCursor {
    /// The time at which this round began; once it has walked the store, at which the next one may.
    pub(super) time: Timestamp,
    pub(super) place: SweepPosition,
    /// The manifests that were stored when this round listed them.
    pub(super) manifests: Filter,
    /// The totals that this round has counted so far.
    pub(super) inventory: Inventory,
    /// The blobs that this round may join.
    #[serde(default)]
    pub(super) candidates: JoinCandidates,
}

/// The position of the sweep in a round. Two phases keep the names that earlier versions stored.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "phase")]
pub(super) enum SweepPosition {
    /// Between two rounds.
    #[default]
    Rest,
    /// After this key of `catalog/`.
    Retention { after: Option<Key> },
    /// After this key of `repositories/`.
    #[serde(rename = "holdings")]
    Repositories { after: Option<Key> },
    /// After this upload.
    #[serde(rename = "chains")]
    Uploads { after: Option<UploadId> },
    /// After this key of `fills/`.
    Fills { after: Option<Key> },
    /// Among blobs.
    Blobs(SweepBlobPosition),
    /// Joining, until the next round may begin.
    Joins,
}

/// The position of the sweep among the blobs.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SweepBlobPosition {
    /// The last blob that was finished.
    pub(super) after: Option<Digest>,
    /// The last grant or link that was finished, which may be of the next blob.
    pub(super) reference: Option<Key>,
    /// Whether the next blob has a grant that stays.
    pub(super) is_held: bool,
}

impl on_demand::Position for SweepPosition {
    fn name(&self) -> &'static str {
        match self {
            Self::Rest => "rest",
            Self::Retention { .. } => "retention",
            Self::Repositories { .. } => "holdings",
            Self::Uploads { .. } => "chains",
            Self::Fills { .. } => "fills",
            Self::Blobs(_) => "blobs",
            Self::Joins => "joins",
        }
    }
}

impl SweepCursor {
    /// The cursor at the beginning of a round.
    pub(super) fn begin(last: &Self, now: Timestamp, seed: [u8; 16]) -> Self {
        Self {
            time: now,
            place: SweepPosition::Retention { after: None },
            manifests: Filter::new(last.inventory.manifests, seed),
            inventory: Inventory {
                began: now,
                ..Inventory::default()
            },
            candidates: JoinCandidates::begin(&last.candidates),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::registry::upkeep::on_demand::Position as _;

    use super::*;

    /// An earlier version stored the beginning of this phase, and the blobs as `joins`.
    #[test]
    fn a_cursor_of_an_earlier_join_is_read() {
        let mut stored = serde_json::to_value(SweepCursor::default()).unwrap();
        let cursor = stored.as_object_mut().unwrap();
        cursor.remove("candidates");
        cursor.insert("joins".to_owned(), serde_json::json!({}));
        let place = serde_json::json!({ "phase": "joins", "since": 1 });
        cursor.insert("place".to_owned(), place);
        let read: SweepCursor = serde_json::from_value(stored).unwrap();
        assert_eq!(read.place, SweepPosition::Joins);
        assert!(read.candidates.is_empty());
    }

    #[test]
    fn sweep_phases_keep_their_stored_names() {
        let repositories = SweepPosition::Repositories { after: None };
        let uploads = SweepPosition::Uploads { after: None };
        for (place, name) in [(repositories, "holdings"), (uploads, "chains")] {
            let stored = format!(r#"{{"phase":"{name}","after":null}}"#);
            assert_eq!(serde_json::to_string(&place).unwrap(), stored);
            assert_eq!(
                serde_json::from_str::<SweepPosition>(&stored).unwrap(),
                place
            );
            assert_eq!(place.name(), name);
        }
    }
}
