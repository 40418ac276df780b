//! What is answered: the state of paths, and their descriptions as JSON.

use serde_json::{Map, Value};

use crate::layer::{
    entry::{Entry, EntryKind},
    json,
};

/// What became of a path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// It is there, and was not before.
    Added,
    /// It is another one than before; or a directory in which something is not unchanged.
    Changed,
    /// It is not there any more.
    Removed,
    /// It is as it was.
    Unchanged,
}

impl State {
    /// The word by which listings call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Removed => "removed",
            Self::Unchanged => "unchanged",
        }
    }
}

/// How much one layer changes. What is only in it to say where something is, is not counted: directories above a change.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Changes {
    /// Paths that were not there.
    pub added: u64,
    /// Paths that are others now.
    pub changed: u64,
    /// Paths that are gone.
    pub removed: u64,
    /// The bytes of its files.
    pub bytes: u64,
}

/// What is said of a path in a directory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Child {
    /// What is there, or was there. Its path is the name alone; none for a directory that has no entry.
    pub entry: Option<Entry>,
    /// Its name.
    pub name: Vec<u8>,
    /// What became of it.
    pub state: State,
    /// Whether a whiteout took it away, or a whiteout took all away that was in it.
    pub whiteout: Option<&'static str>,
    /// The layer that it is from, or that took it away.
    pub layer: usize,
    /// The bytes of all files below it, its own included.
    pub total: u64,
}

/// A path that was searched for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Match {
    /// The path.
    pub path: Vec<u8>,
    /// What is there.
    pub child: Child,
}

impl Child {
    /// What a listing says of it.
    pub fn describe(&self) -> Map<String, Value> {
        let mut out = match &self.entry {
            Some(entry) => json::describe(entry),
            None => Map::from_iter([("type".to_owned(), EntryKind::Directory.name().into())]),
        };
        // Where its bytes are in a layer is not kept.
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
    /// What a list of what was found says of it.
    pub fn describe(&self) -> Map<String, Value> {
        let mut out = Map::new();
        json::insert_path(&mut out, "path", &self.path);
        out.insert("layerIndex".to_owned(), self.child.layer.into());
        out.insert("entry".to_owned(), self.child.describe().into());
        out
    }
}
