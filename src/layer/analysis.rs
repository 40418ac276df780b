//! What each layer of an image changes, how large all of it is, and what of it is waste.
//!
//! The tables of contents are read layer by layer, the lowest first. Of each path there is one node, and of each layer that
//! has something to say of it one row:
//!
//! ```text
//! node ──> row of the highest layer ──> row of a layer below it ──> …
//!            an entry                     what is seen of the path from this layer on
//!            implied                      a directory that the layer has something in, and no entry for
//!            removed                      nothing is seen of it from this layer on
//! ```
//!
//! What is seen follows the rules of [`crate::layer::tree`]; whiteouts are no paths of their own, but what they take away is.

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
    listing::{Changes, Child, Match, State},
    waste::{Offender, Waste},
};

#[cfg(test)]
mod tests;
