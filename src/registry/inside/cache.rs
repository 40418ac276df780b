//! Caches that requests share: blocks of tables of contents, and open indexes.

use std::{
    cell::{Cell, RefCell},
    fmt,
    rc::Rc,
};

use crate::{budget::Shelf, digest::Digest, layer::entry::Entry, registry::inside::layer::Layer};

/// A cache of decompressed blocks of tables of contents, shared by all requests of an isolate.
/// The key is the layer, the block's number and its checksum, because an index may be made again.
#[derive(Debug)]
pub(super) struct Blocks(pub(super) RefCell<Shelf<BlockKey, Rc<[Entry]>>>);

type BlockKey = (Digest, usize, u32);

impl Default for Blocks {
    fn default() -> Self {
        Self(RefCell::new(Shelf::new(BLOCKS)))
    }
}

/// A cache of the indexes that requests have open, shared by all requests of an isolate: however
/// many requests there are, it has one limit. The key is the stack, and the layer in it, because
/// each request checks by itself whether its repository may read a layer.
pub(super) struct Indexes<B> {
    pub(super) shelf: RefCell<Shelf<Position, Rc<Layer<B>>>>,
    /// The number of the next stack.
    pub(super) next: Cell<u64>,
}

/// A stack's number, and a layer's position in its `known`.
type Position = (u64, usize);

impl<B> Default for Indexes<B> {
    fn default() -> Self {
        Self {
            shelf: RefCell::new(Shelf::new(INDEXES)),
            next: Cell::default(),
        }
    }
}

impl<B> fmt::Debug for Indexes<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Indexes")
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

/// The memory for the indexes that all requests of an isolate cache.
/// An index of 200 files takes some two kilobytes,
/// so those of an image of 500 layers take one megabyte.
const INDEXES: usize = 4 << 20;

/// The memory for cached blocks of tables of contents: each takes up to some hundred kilobytes.
const BLOCKS: usize = 8 << 20;
