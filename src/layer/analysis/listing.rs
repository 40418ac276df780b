//! The descriptions of paths: their states, and their form in JSON.

use serde_json::{Map, Value};

use crate::layer::{
    entry::{Entry, EntryKind},
    json,
};

/// The change of a path by a layer, or by all layers of an image.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ChangeState {
    /// The path did not exist before.
    Added,
    /// The path differs from before. A directory differs if it or something in it changed.
    Changed,
    /// The path does not exist any more.
    Removed,
    /// The path is the same as before.
    Unchanged,
}

impl ChangeState {
    /// The word in listings, such as `added`.
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
pub struct LayerChanges {
    /// The number of paths that did not exist before.
    pub added: u64,
    /// The number of paths that differ from before.
    pub changed: u64,
    /// The number of paths that the layer removes.
    pub removed: u64,
    /// The sum of the sizes of the layer's files, in bytes.
    pub bytes: u64,
}

/// A path in the listing of a directory, with its change.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListedPath {
    /// The entry, or the last one of a removed path. Its path is the name alone, and it has no
    /// offset. `None` for a directory without an entry.
    pub entry: Option<Entry>,
    /// The last component of the path.
    pub name: Vec<u8>,
    /// The change of the path.
    pub state: ChangeState,
    /// Whether a whiteout removed it, or an opaque whiteout emptied it.
    pub whiteout: Option<&'static str>,
    /// The number of the layer that has the entry, or that removed it.
    pub layer: usize,
    /// The sum of the sizes of all files at and below the path, in bytes.
    pub total: u64,
}

/// A path that a search found, with its description.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Match {
    /// The whole path, without a slash at its start.
    pub path: Vec<u8>,
    /// The path as its directory lists it.
    pub child: ListedPath,
}

impl ListedPath {
    /// Formats the path for a listing of the page, as an object of JSON.
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
    /// Formats the match for a list of matches, as an object of JSON.
    pub fn describe(&self) -> Map<String, Value> {
        let mut out = Map::new();
        json::insert_path(&mut out, "path", &self.path);
        out.insert("layerIndex".to_owned(), self.child.layer.into());
        out.insert("entry".to_owned(), self.child.describe().into());
        out
    }
}
