//! The descriptions of paths: their states, and their form in JSON.

use serde_json::{Map, Value};

use crate::layer::{
    entry::{Entry, EntryKind},
    json,
};

/// The state of a path in a layer or an image.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// It did not exist before.
    Added,
    /// It differs from before. For a directory: it or something in it changed.
    Changed,
    /// It does not exist any more.
    Removed,
    /// It is the same as before.
    Unchanged,
}

impl State {
    /// Its name in listings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Removed => "removed",
            Self::Unchanged => "unchanged",
        }
    }
}

/// How much one layer changes. Directories that are only parents of a change do not count.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Changes {
    /// Paths that did not exist.
    pub added: u64,
    /// Paths that differ.
    pub changed: u64,
    /// Paths that were removed.
    pub removed: u64,
    /// The bytes of the layer's files.
    pub bytes: u64,
}

/// A path in a directory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Child {
    /// Its entry, or the last one of a removed path. The path in it is the name alone. `None` for a
    /// directory without an entry.
    pub entry: Option<Entry>,
    /// Its name.
    pub name: Vec<u8>,
    /// Its state.
    pub state: State,
    /// Whether a whiteout removed it, or an opaque whiteout emptied it.
    pub whiteout: Option<&'static str>,
    /// The layer that its entry is from, or that removed it.
    pub layer: usize,
    /// The bytes of all files at and below it.
    pub total: u64,
}

/// A path that a search found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Match {
    /// The path.
    pub path: Vec<u8>,
    /// The description of it.
    pub child: Child,
}

impl Child {
    /// Its form in a listing.
    pub fn describe(&self) -> Map<String, Value> {
        let mut out = match &self.entry {
            Some(entry) => json::describe(entry),
            None => Map::from_iter([("type".to_owned(), EntryKind::Directory.name().into())]),
        };
        // An analysis does not store offsets.
        out.remove("offset");
        json::insert_path(&mut out, "name", &self.name);
        out.insert("state".to_owned(), self.state.name().into());
        out.insert("layerIndex".to_owned(), self.layer.into());
        out.insert("totalSize".to_owned(), self.total.into());
        out.extend(
            self.whiteout
                .map(|whiteout| ("whiteout".to_owned(), whiteout.into())),
        );
        out
    }
}

impl Match {
    /// Its form in a list of matches.
    pub fn describe(&self) -> Map<String, Value> {
        let mut out = Map::new();
        json::insert_path(&mut out, "path", &self.path);
        out.insert("layerIndex".to_owned(), self.child.layer.into());
        out.insert("entry".to_owned(), self.child.describe().into());
        out
    }
}
