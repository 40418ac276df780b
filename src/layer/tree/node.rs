//! The results of lookups.

use crate::layer::entry::{Entry, EntryKind};

/// An entry, and the layer that has it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sited {
    /// The number of the layer, counted from 0.
    pub layer: usize,
    /// The entry, with its whole path.
    pub entry: Entry,
}

/// A file or directory at a path.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Node {
    /// The entry that counts. For a hard link, it is the link itself.
    Entry(Box<Sited>),
    /// The root, or a directory without an entry.
    Directory,
}

/// The result of resolving a path.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Resolved {
    /// The path in the form of [`Entry::path`], without symbolic links.
    pub path: Vec<u8>,
    /// The file or directory at the path.
    pub node: Node,
    /// For a hard link, the entry that has the bytes and the metadata. It is never a hard link
    /// itself.
    pub target: Option<Sited>,
}

/// A child of a directory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Child {
    /// The last component of its path.
    pub name: Vec<u8>,
    /// The file or directory of this name.
    pub node: Node,
}

/// A page of a directory, in the order of the names' bytes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ChildPage {
    /// As many children as requested, or all that remain. There are fewer, even none, if they take
    /// much memory or much work to find.
    pub children: Vec<Child>,
    /// Whether there may be more children.
    pub more: bool,
    /// The name to resume after: that of the last child, or a hidden one. `None` for an empty
    /// directory.
    pub last: Option<Vec<u8>>,
}

impl From<Sited> for Node {
    fn from(sited: Sited) -> Self {
        Self::Entry(Box::new(sited))
    }
}

impl Node {
    /// Whether it is a directory, with or without an entry.
    pub fn is_directory(&self) -> bool {
        match self {
            Self::Entry(sited) => sited.entry.kind == EntryKind::Directory,
            Self::Directory => true,
        }
    }
}

impl Resolved {
    /// The entry with the bytes and the metadata: the target of a hard link, or the entry itself.
    /// `None` for a directory without an entry.
    pub fn file(&self) -> Option<&Sited> {
        match (&self.target, &self.node) {
            (Some(target), _) => Some(target),
            (None, Node::Entry(sited)) => Some(sited),
            (None, Node::Directory) => None,
        }
    }
}
