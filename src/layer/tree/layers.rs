//! The interface through which lookups read layers.

use std::future::Future;

use crate::{budget::Budget, layer::entry::Entry};

/// The tables of contents of an image's layers, through which lookups read. Layers are numbered
/// from 0, the lowest first.
pub trait Layers {
    /// The reason why a table of contents can't be read.
    type Error;

    /// The number of layers.
    fn count(&self) -> usize;

    /// Finds the first path of a layer, in the order of bytes, that is not before `from`, with all
    /// its entries in the order of the archive. `None` if there is no such path.
    fn seek(
        &self,
        layer: usize,
        from: &[u8],
    ) -> impl Future<Output = Result<Option<Vec<Entry>>, Self::Error>>;

    /// A number that layers with the same table of contents share. They share cached answers.
    fn identity(&self, layer: usize) -> usize {
        layer
    }

    /// The budget of a lookup. Work in [`Layers::seek`] counts too if it uses the same budget. By
    /// default it is a new one with the limits of a request.
    fn budget(&self) -> Budget {
        Budget::default()
    }

    /// Yields to other requests. A lookup calls it after each 4 MiB of work, which are at most
    /// 4,096 seeks.
    fn turn(&self) -> impl Future<Output = ()> {
        std::future::ready(())
    }
}
