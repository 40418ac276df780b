//! Refusals: why a layer has no index.

use crate::layer::{
    index::envelope::{REFUSAL, seal},
    wire::{self, WireReader},
};

/// The reason why a layer has no index, stored so that no other pass is tried in vain.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// The reason, in lower case and without a full stop.
    pub reason: String,
    /// The label in metrics, such as `gzip` or `ratio`.
    pub kind: String,
    /// The limits in force, as [`Options::limits`](crate::layer::pass::Options::limits) returns
    /// them. `None` if no other limits could admit the layer.
    pub limits: Option<Vec<u64>>,
}

impl Refusal {
    pub(super) fn parse(reader: &mut WireReader<'_>) -> Option<Self> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        let reason = text(reader.bytes()?)?;
        let kind = text(reader.bytes()?)?;
        let limits = match reader.byte()? {
            0 => None,
            _ => Some(
                (0..reader.number()?)
                    .map_while(|_| reader.number())
                    .collect(),
            ),
        };
        Some(Self {
            reason,
            kind,
            limits,
        })
    }

    /// Encodes the refusal, as [`StoredIndex::parse`](crate::layer::index::StoredIndex::parse)
    /// reads it.
    pub fn encode(&self) -> Vec<u8> {
        let mut rest = vec![REFUSAL, 0, 0, 0];
        wire::put_bytes(&mut rest, self.reason.as_bytes());
        wire::put_bytes(&mut rest, self.kind.as_bytes());
        match &self.limits {
            None => rest.push(0),
            Some(limits) => {
                rest.push(1);
                wire::put(&mut rest, limits.len() as u64);
                limits.iter().for_each(|limit| wire::put(&mut rest, *limit));
            }
        }
        seal(&rest).unwrap_or_default()
    }
}
