//! The interface through which lookups read layers.

use std::future::Future;

use crate::{budget::Budget, layer::entry::Entry};

/// The tables of contents of an image's layers, the lowest first.
pub trait Layers {
    /// Why a table of contents can't be read.
    type Error;

    /// How many layers there are.
    fn count(&self) -> usize;

    /// The first path, in the order of bytes, that is not before `from`, with all its entries in
    /// the order of the archive. `None` if there is no such path.
    fn seek(
        &self,
        layer: usize,
        from: &[u8],
    ) -> impl Future<Output = Result<Option<Vec<Entry>>, Self::Error>>;

    /// A number shared by layers with the same table of contents. They share cached answers.
    fn identity(&self, layer: usize) -> usize {
        layer
    }

    /// The budget of a lookup. Work in [`Layers::seek`] counts too if it uses the same budget.
    fn budget(&self) -> Budget {
        Budget::default()
    }

    /// Yields to other requests. A lookup calls it after each few thousand seeks.
    fn turn(&self) -> impl Future<Output = ()> {
        std::future::ready(())
    }
}
