//! The nodes and rows of an image, with the names and owners that they refer to by number.

use std::hash::{DefaultHasher, Hasher as _};

use hashbrown::HashTable;

use crate::layer::{
    analysis::{
        listing::{ChangeState, LayerChanges, ListedPath},
        row::{DIFFERS, EntryRow, FRESH, IMPLIED, NONE, PathNode, REMOVED, ROOT, TOUCHED},
    },
    arena::Arena,
    entry::{Entry, Moment, Owner},
    wire::{self, WireReader},
};

#[derive(Debug, Default)]
pub(super) struct Image {
    pub(super) nodes: Arena<PathNode>,
    pub(super) rows: Arena<EntryRow>,
    /// The bytes of the files below each node.
    pub(super) totals: Arena<u64>,
    /// Names and links.
    pub(super) text: Vec<u8>,
    pub(super) owners: Vec<(Owner, Owner)>,
    pub(super) owner_table: HashTable<u32>,
    /// Nodes by parent and name.
    pub(super) table: HashTable<u32>,
    /// The seed of the hashes, so that nobody can craft names that collide.
    pub(super) seed: u64,
    pub(super) layers: Vec<LayerChanges>,
    pub(super) entries: u64,
}

impl Image {
    /// The node of a name in a directory.
    pub(super) fn child(&self, parent: u32, name: &[u8]) -> Option<u32> {
        let hash = self.hash(parent, name);
        let is = |number: &u32| {
            let node = self.nodes.at(*number);
            node.parent == parent && self.read(node.name) == name
        };
        self.table.find(hash, is).copied()
    }

    pub(super) fn child_or_new(&mut self, parent: u32, name: &[u8]) -> u32 {
        if let Some(found) = self.child(parent, name) {
            return found;
        }
        let name_number = self.write(name);
        let sibling = self.nodes.at(parent).child;
        let number = self.nodes.push(PathNode {
            parent,
            sibling,
            name: name_number,
            ..PathNode::EMPTY
        });
        self.nodes.change(parent, |parent| parent.child = number);
        let hash = self.hash(parent, name);
        let mut table = std::mem::take(&mut self.table);
        table.insert_unique(hash, number, |number| {
            let node = self.nodes.at(*number);
            self.hash(node.parent, self.read(node.name))
        });
        self.table = table;
        number
    }

    fn hash(&self, parent: u32, name: &[u8]) -> u64 {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.seed);
        hasher.write_u32(parent);
        hasher.write(name);
        hasher.finish()
    }

    /// The number of a user and group.
    pub(super) fn owner(&mut self, user: &Owner, group: &Owner) -> u32 {
        let seed = self.seed;
        let hash = |user: &Owner, group: &Owner| {
            let mut hasher = DefaultHasher::new();
            hasher.write_u64(seed);
            for owner in [user, group] {
                hasher.write_u64(owner.id);
                hasher.write(&owner.name);
            }
            hasher.finish()
        };
        let owners = &self.owners;
        let is = |number: &u32| {
            let found = owners.get(*number as usize);
            found.is_some_and(|(one, other)| (one, other) == (user, group))
        };
        let wanted = hash(user, group);
        if let Some(number) = self.owner_table.find(wanted, is) {
            return *number;
        }
        let number = u32::try_from(self.owners.len()).unwrap_or(NONE);
        self.owners.push((user.clone(), group.clone()));
        let owners = &self.owners;
        self.owner_table.insert_unique(wanted, number, |number| {
            let found = owners.get(*number as usize);
            found.map_or(0, |(user, group)| hash(user, group))
        });
        number
    }

    pub(super) fn write(&mut self, text: &[u8]) -> u32 {
        let number = u32::try_from(self.text.len()).unwrap_or(NONE);
        wire::put_bytes(&mut self.text, text);
        number
    }

    pub(super) fn read(&self, number: u32) -> &[u8] {
        let rest = self.text.get(number as usize..).unwrap_or_default();
        WireReader(rest).bytes().unwrap_or_default()
    }

    /// The row that describes a path as of the layer of a row: an entry, or a directory without
    /// one. `None` if the path does not exist.
    pub(super) fn top(&self, mut number: u32) -> Option<EntryRow> {
        while number != NONE {
            let row = self.rows.at(number);
            if row.is(REMOVED) {
                return None;
            }
            if !row.is(IMPLIED) || row.is(FRESH) || row.below == NONE {
                return Some(row);
            }
            number = row.below;
        }
        None
    }

    /// Whether a directory differs from the one in the layers below.
    pub(super) fn differs(&self, row: &EntryRow, number: u32) -> bool {
        let described = |row: &EntryRow| (row.kind, row.is(IMPLIED), row.mode, row.owner);
        match (self.top(row.below), self.top(number)) {
            (Some(was), Some(is)) => described(&was) != described(&is),
            _ => false,
        }
    }

    /// The state of a path in the layer of a row.
    pub(super) fn state(&self, row: &EntryRow) -> ChangeState {
        if row.is(REMOVED) {
            ChangeState::Removed
        } else if self.top(row.below).is_none() {
            ChangeState::Added
        } else if row.is_directory() && !row.is(DIFFERS | TOUCHED) {
            ChangeState::Unchanged
        } else {
            ChangeState::Changed
        }
    }

    /// The state of a path over all layers above the lowest.
    fn state_of_all(&self, node: &PathNode) -> ChangeState {
        let latest = self.rows.at(node.row);
        if latest.is(REMOVED) {
            return ChangeState::Removed;
        }
        let mut state = ChangeState::Unchanged;
        let mut row = latest;
        while row.below != NONE {
            if !row.is_directory() || row.is(DIFFERS | TOUCHED | REMOVED) {
                state = ChangeState::Changed;
            }
            row = self.rows.at(row.below);
        }
        if row.layer == 0 {
            state
        } else {
            ChangeState::Added
        }
    }

    pub(super) fn path(&self, mut number: u32) -> Vec<u8> {
        let mut names = Vec::new();
        while number != ROOT && number != NONE {
            let node = self.nodes.at(number);
            names.push(self.read(node.name));
            number = node.parent;
        }
        names.reverse();
        names.join(&b'/')
    }

    pub(super) fn entry(&self, row: &EntryRow, name: &[u8]) -> Option<Entry> {
        if row.is(IMPLIED) {
            return None;
        }
        let (user, group) = self
            .owners
            .get(row.owner as usize)
            .cloned()
            .unwrap_or_default();
        Some(Entry {
            path: name.to_vec(),
            kind: row.kind,
            mode: row.mode.into(),
            user,
            group,
            size: if row.is_directory() { 0 } else { row.size },
            modified: Moment {
                seconds: row.seconds,
                nanoseconds: row.nanoseconds,
            },
            link: if row.link == NONE {
                Vec::new()
            } else {
                self.read(row.link).to_vec()
            },
            ..Entry::default()
        })
    }

    /// Describes a node in the final image.
    pub(super) fn merged(&self, number: u32) -> ListedPath {
        let node = self.nodes.at(number);
        let latest = self.rows.at(node.row);
        let top = self.top(node.row).unwrap_or(latest);
        let name = self.read(node.name).to_vec();
        ListedPath {
            entry: self.entry(&top, &name),
            name,
            state: self.state_of_all(&node),
            whiteout: latest.whiteout(),
            layer: top.layer.into(),
            total: self.totals.at(number),
        }
    }

    /// Describes a node in one layer, if the layer has a row for it.
    pub(super) fn said(&self, number: u32, layer: u16) -> Option<ListedPath> {
        let node = self.nodes.at(number);
        let mut at = node.row;
        loop {
            let row = self.rows.at(at);
            if at == NONE || row.layer < layer {
                return None;
            }
            if row.layer == layer {
                let name = self.read(node.name).to_vec();
                return Some(ListedPath {
                    entry: self.entry(&row, &name),
                    name,
                    state: self.state(&row),
                    whiteout: row.whiteout(),
                    layer: layer.into(),
                    total: row.size,
                });
            }
            at = row.below;
        }
    }
}
