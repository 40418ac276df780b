//! The changes of each layer of an image, the total sizes, and the waste.
//!
//! The tables of contents are read layer by layer, the lowest first. Each path has one node, and
//! one row for each layer that changes it:
//!
//! ```text
//! node ──> row of the highest layer ──> row of a layer below it ──> …
//!            an entry                     the path has this entry from this layer on
//!            implied                      the layer has paths below the directory, no entry for it
//!            removed                      the path is gone from this layer on
//! ```
//!
//! The rules are those of [`crate::layer::tree`]. A whiteout has no node of its own; the paths that
//! it removes have.

mod analyser;
mod answers;
mod error;
mod image;
mod listing;
mod row;
mod waste;

pub use self::{
    analyser::Analyser,
    answers::Analysis,
    error::AnalysisError,
    listing::{ChangeState, LayerChanges, ListedPath, Match},
    waste::{Offender, Waste},
};

#[cfg(test)]
mod tests;
