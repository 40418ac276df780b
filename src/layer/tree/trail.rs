//! The directories on the way to a path, and the layers that have entries in them.

use crate::layer::tree::node::Sited;

/// How far the layers are applied.
pub(super) struct Until<'a> {
    /// The highest layer that is applied.
    pub(super) layer: usize,
    /// The last offset of that layer that is applied.
    pub(super) offset: u64,
    /// A path that was just removed, so that the entry at this offset can replace it.
    pub(super) gone: Option<&'a [u8]>,
}

impl Until<'_> {
    /// All layers.
    pub(super) const END: Self = Self {
        layer: usize::MAX,
        offset: u64::MAX,
        gone: None,
    };

    pub(super) fn offset(&self, layer: usize) -> u64 {
        if layer == self.layer {
            self.offset
        } else {
            u64::MAX
        }
    }
}

/// A layer that has entries in a directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct DirectoryLayer {
    pub(super) layer: usize,
    /// Entries up to this offset are gone.
    pub(super) floor: Option<u64>,
    /// Whether the layer may have an entry for the directory.
    pub(super) has_entry: bool,
    /// The layer's whiteouts in the directory, once known.
    pub(super) whiteouts: Option<Whiteouts>,
}

/// The whiteouts of a layer in a directory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Whiteouts {
    None,
    /// Whiteouts of single names.
    Names,
    /// An opaque whiteout, which hides everything in lower layers.
    All,
}

impl DirectoryLayer {
    pub(super) const fn new(layer: usize, floor: Option<u64>, has_entry: bool) -> Self {
        Self {
            layer,
            floor,
            has_entry,
            whiteouts: None,
        }
    }
}

/// The directories from the root to the current one, so that `..` costs no new lookup.
pub(super) struct Trail {
    pub(super) path: Vec<u8>,
    pub(super) directories: Vec<Directory>,
}

/// A directory and its sources: the layers that have entries in it, the highest first. They are
/// found on demand.
pub(super) struct Directory {
    /// The length of its path.
    length: usize,
    pub(super) sources: Vec<DirectoryLayer>,
    /// How many sources of the parent were asked so far.
    pub(super) asked: usize,
    /// Whether there are no more sources.
    pub(super) is_whole: bool,
    /// The entry at its path if it has no source.
    pub(super) other: Option<Sited>,
}

impl Trail {
    pub(super) fn new(count: usize, until: &Until<'_>) -> Self {
        let layers = (0..count).rev().filter(|layer| *layer <= until.layer);
        let root = Directory {
            length: 0,
            sources: layers
                .map(|layer| DirectoryLayer::new(layer, None, true))
                .collect(),
            asked: 0,
            is_whole: true,
            other: None,
        };
        Self {
            path: Vec::new(),
            directories: vec![root],
        }
    }

    /// The number of components of the path.
    pub(super) const fn depth(&self) -> usize {
        self.directories.len() - 1
    }

    pub(super) fn enter(&mut self, path: Vec<u8>) {
        self.directories.push(Directory {
            length: path.len(),
            sources: Vec::new(),
            asked: 0,
            is_whole: false,
            other: None,
        });
        self.path = path;
    }

    /// Goes back to the directory after this many components, the root at least. Returns the freed
    /// memory in bytes.
    pub(super) fn back(&mut self, depth: usize) -> usize {
        let left = self
            .directories
            .drain((depth + 1).min(self.directories.len())..);
        let sources = left.map(|directory| directory.sources.len());
        let weight = sources.sum::<usize>() * SOURCE;
        let length = self
            .directories
            .last()
            .map_or(0, |directory| directory.length);
        self.path.truncate(length);
        weight
    }

    /// The path of this many components.
    pub(super) fn path(&self, depth: usize) -> &[u8] {
        let directory = self.directories.get(depth);
        let path = directory.and_then(|directory| self.path.get(..directory.length));
        path.unwrap_or_default()
    }

    pub(super) fn source(&self, depth: usize, number: usize) -> Option<DirectoryLayer> {
        self.directories.get(depth)?.sources.get(number).copied()
    }
}

/// The memory of a source of a directory.
pub(super) const SOURCE: usize = 2 * size_of::<DirectoryLayer>();
