//! The layers of an image, as lookups ask for them.

use std::future::Future;

use crate::{budget::Budget, layer::entry::Entry};

/// The tables of contents of an image's layers, the lowest first.
pub trait Layers {
    /// Why a table of contents can't be read.
    type Error;

    /// How many layers there are.
    fn count(&self) -> usize;

    /// Answers the first path, in the order of bytes, that is not before `from`, with every entry that the layer has for it, in
    /// the order of the archive; none where there is no such path.
    fn seek(
        &self,
        layer: usize,
        from: &[u8],
    ) -> impl Future<Output = Result<Option<Vec<Entry>>, Self::Error>>;

    /// A number that layers with the same table of contents share, so that they share cached
    /// answers.
    fn identity(&self, layer: usize) -> usize {
        layer
    }

    /// The budget of a lookup. The work inside of [`Layers::seek`] counts too if both use the same
    /// budget.
    fn budget(&self) -> Budget {
        Budget::default()
    }

    /// Yields to other requests. A lookup calls it after each few thousand seeks.
    fn turn(&self) -> impl Future<Output = ()> {
        std::future::ready(())
    }
}
