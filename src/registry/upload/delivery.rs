//! How a repository gets a blob.

use crate::store::document::{Reason, Right};

/// How a repository gets a blob.
/// It decides the reason of the grant and the right that the link records.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::registry) enum Delivery {
    /// A client pushed or mounted it.
    Push,
    /// An upstream sent it, or another repository of the same upstream has it.
    Fill,
}

impl Delivery {
    /// The reason of the grant that KEEP writes.
    pub(super) const fn reason(self) -> Reason {
        match self {
            Self::Push => Reason::Upload,
            Self::Fill => Reason::Filled,
        }
    }

    /// The right that the link records.
    pub(super) const fn right(self) -> Option<Right> {
        match self {
            Self::Push => Some(Right::Pushed),
            Self::Fill => Some(Right::Filled),
        }
    }
}
