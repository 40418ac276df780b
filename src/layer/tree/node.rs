//! What lookups answer.

use crate::layer::entry::{Entry, EntryKind};

/// An entry, and the layer that it is from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sited {
    /// The layer.
    pub layer: usize,
    /// The entry.
    pub entry: Entry,
}

/// What is at a path.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Node {
    /// What an entry says. For a hard link, the link.
    Entry(Box<Sited>),
    /// A directory that has no entry, but something in it; or the root.
    Directory,
}

/// What a path leads to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Found {
    /// Where it is, in the form of [`Entry::path`], with no symbolic link on the way.
    pub path: Vec<u8>,
    /// What it is.
    pub node: Node,
    /// For a hard link, what it links to: the entry that has the bytes and all else, never a hard link itself.
    pub target: Option<Sited>,
}

/// What is in a directory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Child {
    /// Its name.
    pub name: Vec<u8>,
    /// What it is.
    pub node: Node,
}

/// Some of what is in a directory, in the order of the names' bytes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Page {
    /// As many children as were asked for, or all that remain. Fewer, even none, if they take much
    /// memory or much work to find.
    pub children: Vec<Child>,
    /// Whether there may be more children.
    pub more: bool,
    /// The name after which the next page begins: the last child's, or that of a hidden one.
    pub last: Option<Vec<u8>>,
}

impl From<Sited> for Node {
    fn from(sited: Sited) -> Self {
        Self::Entry(Box::new(sited))
    }
}

impl Node {
    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        match self {
            Self::Entry(sited) => sited.entry.kind == EntryKind::Directory,
            Self::Directory => true,
        }
    }
}

impl Found {
    /// The entry that says what it is and has its bytes: for a hard link, what it links to. None for a directory that has none.
    pub fn file(&self) -> Option<&Sited> {
        match (&self.target, &self.node) {
            (Some(target), _) => Some(target),
            (None, Node::Entry(sited)) => Some(sited),
            (None, Node::Directory) => None,
        }
    }
}
