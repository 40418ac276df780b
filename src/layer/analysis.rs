//! What each layer of an image changes, how large all of it is, and what of it is waste.
//!
//! The tables of contents are read layer by layer, the lowest first. Of each path there is one node, and of each layer that
//! has something to say of it one row:
//!
//! ```text
//! node ──> row of the highest layer ──> row of a layer below it ──> …
//!            an entry                     what is seen of the path from this layer on
//!            implied                      a directory that the layer has something in, and no entry for
//!            removed                      nothing is seen of it from this layer on
//! ```
//!
//! What is seen follows the rules of [`crate::layer::tree`]; whiteouts are no paths of their own, but what they take away is.

use std::{
    cmp::Ordering,
    error, fmt,
    hash::{DefaultHasher, Hasher as _},
};

use hashbrown::HashTable;
use serde_json::{Map, Value};

use crate::layer::{
    arena::Arena,
    entry::{Entry, EntryKind, Moment, Owner, Whiteout},
    json,
    wire::{self, Reader},
};

/// Why an image can't be analysed, or nothing be said of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AnalysisError {
    /// Its layers say more than this many things of paths.
    Rows(u32),
    /// Its paths take more bytes than this.
    Names(usize),
    /// It has more layers than this.
    Layers(u16),
    /// There is no such directory.
    Directory(Vec<u8>),
    /// There is no such layer.
    Layer(usize),
}

impl fmt::Display for AnalysisError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows(limit) => {
                write!(f, "an image of more than {limit} entries can't be analysed")
            }
            Self::Names(limit) => {
                write!(
                    f,
                    "an image whose paths take more than {limit} bytes can't be analysed"
                )
            }
            Self::Layers(limit) => {
                write!(f, "an image of more than {limit} layers can't be analysed")
            }
            Self::Directory(path) => write!(
                f,
                "no such directory: /{}",
                json::lossy(path).escape_debug()
            ),
            Self::Layer(layer) => write!(f, "the image has no layer {layer}, counted from 0"),
        }
    }
}

impl error::Error for AnalysisError {}

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

/// A path whose bytes are in an image more often than they are seen.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Offender {
    /// The path.
    pub path: Vec<u8>,
    /// How many layers have it, or take it away.
    pub times: u64,
    /// Its bytes in all of them.
    pub bytes: u64,
}

/// What is waste in an image.
#[derive(Clone, Debug, PartialEq)]
pub struct Waste {
    /// The part of the bytes that there would have to be at the least: 1 where nothing is wasted.
    pub efficiency: f64,
    /// The bytes of all paths that come more than once.
    pub bytes: u64,
    /// Those paths, the largest first, as many as a list has room for.
    pub offenders: Vec<Offender>,
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

/// Reads the tables of contents of an image.
#[derive(Debug)]
pub struct Analyser {
    image: Image,
    layer: u16,
    /// The first row of the layer that is being read.
    first: u32,
    /// Entries of one path.
    group: Vec<Entry>,
    /// The directories that the last path is in, and where their paths end in it.
    within: Vec<(usize, u32)>,
    last: Vec<u8>,
}

/// An image that was read.
#[derive(Debug)]
pub struct Analysis(Image);

#[derive(Debug, Default)]
struct Image {
    nodes: Arena<Node>,
    rows: Arena<Row>,
    /// The bytes of files below each node.
    totals: Arena<u64>,
    /// Names and links.
    text: Vec<u8>,
    owners: Vec<(Owner, Owner)>,
    owner_table: HashTable<u32>,
    /// Nodes by what they are in and their names.
    table: HashTable<u32>,
    /// What the table is ordered by, so that nobody can make up names that meet in it.
    seed: u64,
    layers: Vec<Changes>,
    entries: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Node {
    parent: u32,
    /// The node that is in it and came last, and the one that came before this one in the same directory.
    child: u32,
    sibling: u32,
    /// The row of the highest layer.
    row: u32,
    name: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Row {
    /// The bytes of a file; of a directory, those that its layer has below it, or takes away there.
    size: u64,
    seconds: i64,
    nanoseconds: u32,
    node: u32,
    /// The row of a layer below.
    below: u32,
    owner: u32,
    link: u32,
    layer: u16,
    mode: u16,
    kind: EntryKind,
    flags: u8,
}

impl Row {
    fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    fn is_directory(&self) -> bool {
        self.kind == EntryKind::Directory
    }
}

impl Analyser {
    /// Begins with the lowest layer. `seed` is any number that whoever made the image can't know.
    pub fn new(seed: u64) -> Self {
        let mut image = Image {
            seed,
            ..Image::default()
        };
        wire::put_bytes(&mut image.text, b"");
        image.nodes.push(Node {
            parent: NONE,
            ..Node::EMPTY
        });
        Self {
            image,
            layer: 0,
            first: 0,
            group: Vec::new(),
            within: Vec::new(),
            last: Vec::new(),
        }
    }

    /// Takes the next entry of a layer, in the order of its table of contents.
    pub fn push(&mut self, entry: Entry) -> Result<(), AnalysisError> {
        self.image.entries += 1;
        if self
            .group
            .first()
            .is_some_and(|first| first.path != entry.path)
        {
            self.end_group()?;
        }
        if self.group.len() == MAX_SAME {
            self.group.drain(..MAX_SAME / 2);
        }
        self.group.push(entry);
        Ok(())
    }

    /// Ends the layer; another one may begin.
    pub fn end_layer(&mut self) -> Result<(), AnalysisError> {
        self.end_group()?;
        self.sum();
        self.last.clear();
        self.within.clear();
        self.layer = self
            .layer
            .checked_add(1)
            .ok_or(AnalysisError::Layers(u16::MAX))?;
        self.first = self.image.rows.len();
        Ok(())
    }

    /// Ends with all that was learnt.
    pub fn finish(mut self) -> Analysis {
        let image = &mut self.image;
        for _ in 0..image.nodes.len() {
            image.totals.push(0);
        }
        // What is in a directory comes after it.
        for number in (0..image.nodes.len()).rev() {
            let node = image.nodes.at(number);
            let row = image.rows.at(node.row);
            if row.is(REMOVED) {
                image.totals.change(number, |total| *total = row.size);
                continue;
            }
            let top = image.top(node.row).unwrap_or_default();
            if !top.is_directory() {
                image.totals.change(number, |total| *total = top.size);
            }
            let total = image.totals.at(number);
            image
                .totals
                .change(node.parent, |sum| *sum = sum.saturating_add(total));
        }
        Analysis(self.image)
    }

    /// Adds what a layer says of one path.
    fn end_group(&mut self) -> Result<(), AnalysisError> {
        let mut group = std::mem::take(&mut self.group);
        if let Some(first) = group.first() {
            self.apply(first, &group)?;
        }
        group.clear();
        self.group = group;
        Ok(())
    }

    fn apply(&mut self, first: &Entry, group: &[Entry]) -> Result<(), AnalysisError> {
        let path = first.path.as_slice();
        if self.image.rows.len() > MAX_ROWS {
            return Err(AnalysisError::Rows(MAX_ROWS));
        }
        if self.image.text.len() > MAX_TEXT {
            return Err(AnalysisError::Names(MAX_TEXT));
        }
        let offset = group
            .iter()
            .map(|entry| entry.offset)
            .max()
            .unwrap_or_default();
        if path.is_empty() {
            if let Some(entry) = group
                .last()
                .filter(|entry| entry.kind == EntryKind::Directory)
            {
                let row = self.row_of(entry);
                self.put(ROOT, row);
            }
            return Ok(());
        }
        // What the last path was in need not be looked for again.
        let shared = self
            .last
            .iter()
            .zip(path)
            .take_while(|(one, other)| one == other)
            .count();
        let depth = self.within.partition_point(|(end, _)| *end < shared);
        self.within.truncate(depth);
        self.last.clear();
        self.last.extend_from_slice(path);
        let (mut start, mut node) = self
            .within
            .last()
            .map_or((0, ROOT), |(end, node)| (end + 1, *node));
        let within = self.within.iter().map(|(_, within)| *within);
        let mut floor = within.filter_map(|node| self.floor(node)).max();
        loop {
            let rest = path.get(start..).unwrap_or_default();
            let length = rest.iter().position(|byte| *byte == b'/');
            let name = rest.get(..length.unwrap_or(rest.len())).unwrap_or_default();
            // What came up to the floor is gone; and so is, for another reason, all below what is no directory.
            if floor.is_some_and(|floor| offset <= floor) || !self.enter(node) {
                return Ok(());
            }
            let is_whiteout = name.starts_with(WHITEOUT);
            let Some(length) = length else {
                if is_whiteout {
                    self.hide(node, first);
                } else {
                    self.place(node, name, floor, group);
                }
                return Ok(());
            };
            if is_whiteout {
                return Ok(());
            }
            node = self.image.child_or_new(node, name);
            floor = self.floor(node).max(floor);
            start += length + 1;
            self.within.push((start - 1, node));
        }
    }

    /// Up to where what came below a directory of the layer that is being read is gone, because it was something else before.
    fn floor(&self, node: u32) -> Option<u64> {
        let row = self.own(node).filter(|row| row.is(FLOORED))?;
        Some(row.size)
    }

    /// Has the layer have something in a directory. Says whether there can be anything.
    fn enter(&mut self, node: u32) -> bool {
        match self.own(node) {
            Some(row) if !row.is(REMOVED) => row.is_directory(),
            _ => {
                let was = self.image.top(self.image.nodes.at(node).row);
                let goes_on = was.is_some_and(|was| was.is_directory());
                self.put(node, if goes_on { Row::IMPLIED } else { Row::FRESH });
                true
            }
        }
    }

    /// Puts what the layer has at a path in its place.
    fn place(&mut self, parent: u32, name: &[u8], floor: Option<u64>, group: &[Entry]) {
        let mut last: Option<&Entry> = None;
        let mut own_floor = None;
        let mut replaces = false;
        for entry in group {
            let is_directory = entry.kind == EntryKind::Directory;
            replaces |= !is_directory;
            if floor.is_some_and(|floor| entry.offset <= floor) {
                continue;
            }
            if is_directory && last.is_some_and(|last| last.kind != EntryKind::Directory) {
                own_floor = Some(entry.offset);
            }
            last = Some(entry);
        }
        let Some(entry) = last else {
            return;
        };
        let node = self.image.child_or_new(parent, name);
        let mut row = self.row_of(entry);
        if let Some(floor) = own_floor.filter(|_| row.is_directory()) {
            row.size = floor;
            row.flags |= FLOORED;
        }
        // Before the rows of what is in it, which `sum` relies on.
        self.put(node, row);
        if replaces {
            self.clear(node);
        }
    }

    /// Takes away what a whiteout in a directory does.
    fn hide(&mut self, directory: u32, entry: &Entry) {
        match entry.whiteout() {
            Some(Whiteout::Opaque) => {
                self.mark(directory, OPAQUE);
                self.clear(directory);
            }
            Some(Whiteout::Name(name)) => {
                if let Some(node) = self.image.child(directory, name) {
                    self.remove(node);
                    self.mark(node, NAMED);
                }
            }
            None => {}
        }
    }

    /// Takes away what the layers below have in a directory.
    fn clear(&mut self, node: u32) {
        let mut child = self.image.nodes.at(node).child;
        while child != NONE {
            self.remove(child);
            child = self.image.nodes.at(child).sibling;
        }
    }

    /// Takes away what the layers below have at a path.
    fn remove(&mut self, node: u32) {
        let mut left = vec![node];
        while let Some(node) = left.pop() {
            let latest = self.image.rows.at(self.image.nodes.at(node).row);
            if latest.layer == self.layer {
                if latest.is(REMOVED | FRESH) {
                    continue;
                }
                self.mark(node, FRESH);
            } else if latest.is(REMOVED) {
                continue;
            } else {
                let was = self
                    .image
                    .top(self.image.nodes.at(node).row)
                    .unwrap_or_default();
                let size = if was.is_directory() { 0 } else { was.size };
                let flags = REMOVED | was.flags & IMPLIED;
                self.put(node, Row { size, flags, ..was });
            }
            let mut child = self.image.nodes.at(node).child;
            while child != NONE {
                left.push(child);
                child = self.image.nodes.at(child).sibling;
            }
        }
    }

    /// The row of the layer that is being read.
    fn own(&self, node: u32) -> Option<Row> {
        let number = self.image.nodes.at(node).row;
        (number != NONE && number >= self.first).then(|| self.image.rows.at(number))
    }

    fn mark(&mut self, node: u32, flag: u8) {
        if self.own(node).is_some() {
            let number = self.image.nodes.at(node).row;
            self.image.rows.change(number, |row| row.flags |= flag);
        }
    }

    /// Makes the row of the layer that is being read, or makes it another one.
    fn put(&mut self, node: u32, row: Row) {
        let number = self.image.nodes.at(node).row;
        let mut row = Row {
            node,
            layer: self.layer,
            below: number,
            ..row
        };
        if let Some(own) = self.own(node) {
            row.below = own.below;
            row.flags |= own.flags & OPAQUE;
            self.image.rows.change(number, |found| *found = row);
        } else {
            let number = self.image.rows.push(row);
            self.image.nodes.change(node, |node| node.row = number);
        }
    }

    fn row_of(&mut self, entry: &Entry) -> Row {
        let image = &mut self.image;
        let number = image.owner(&entry.user, &entry.group);
        let link = if entry.link.is_empty() {
            NONE
        } else {
            image.write(&entry.link)
        };
        Row {
            size: entry.size,
            seconds: entry.modified.seconds,
            nanoseconds: entry.modified.nanoseconds,
            owner: number,
            link,
            mode: u16::try_from(entry.mode & 0o7777).unwrap_or_default(),
            kind: entry.kind,
            ..Row::IMPLIED
        }
        .entry()
    }

    /// Adds up a layer that was read.
    fn sum(&mut self) {
        let image = &mut self.image;
        let mut changes = Changes::default();
        for number in self.first..image.rows.len() {
            image.rows.change(number, |row| {
                if row.is(FLOORED) {
                    row.flags &= !FLOORED;
                    row.size = 0;
                }
            });
        }
        // What is in a directory comes after it.
        for number in (self.first..image.rows.len()).rev() {
            let mut row = image.rows.at(number);
            if !row.is(REMOVED) && row.is_directory() && image.differs(&row, number) {
                row.flags |= DIFFERS;
                image.rows.change(number, |row| row.flags |= DIFFERS);
            }
            let state = image.state(&row);
            let parent = image.nodes.at(row.node).parent;
            if parent == NONE {
                changes.bytes = row.size;
                continue;
            }
            match state {
                State::Added => changes.added += 1,
                State::Removed => changes.removed += 1,
                State::Changed if !row.is_directory() || row.is(DIFFERS) => changes.changed += 1,
                State::Changed | State::Unchanged => {}
            }
            let above = image.nodes.at(parent).row;
            image.rows.change(above, |above| {
                if state != State::Unchanged {
                    above.flags |= TOUCHED;
                }
                if above.is_directory() && above.is(REMOVED) == row.is(REMOVED) {
                    above.size = above.size.saturating_add(row.size);
                }
            });
        }
        image.layers.push(changes);
    }
}

impl Image {
    /// The node of a name in a directory.
    fn child(&self, parent: u32, name: &[u8]) -> Option<u32> {
        let hash = self.hash(parent, name);
        let is = |number: &u32| {
            let node = self.nodes.at(*number);
            node.parent == parent && self.read(node.name) == name
        };
        self.table.find(hash, is).copied()
    }

    fn child_or_new(&mut self, parent: u32, name: &[u8]) -> u32 {
        if let Some(found) = self.child(parent, name) {
            return found;
        }
        let name_number = self.write(name);
        let sibling = self.nodes.at(parent).child;
        let number = self.nodes.push(Node {
            parent,
            sibling,
            name: name_number,
            ..Node::EMPTY
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

    /// The number of a user and a group.
    fn owner(&mut self, user: &Owner, group: &Owner) -> u32 {
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

    fn write(&mut self, text: &[u8]) -> u32 {
        let number = u32::try_from(self.text.len()).unwrap_or(NONE);
        wire::put_bytes(&mut self.text, text);
        number
    }

    fn read(&self, number: u32) -> &[u8] {
        let rest = self.text.get(number as usize..).unwrap_or_default();
        Reader(rest).bytes().unwrap_or_default()
    }

    /// What is seen of a path from the layer of a row on: an entry, or a directory that has none; nothing where it is not there.
    fn top(&self, mut number: u32) -> Option<Row> {
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

    /// Whether a directory is another one than in the layers below.
    fn differs(&self, row: &Row, number: u32) -> bool {
        let described = |row: &Row| (row.kind, row.is(IMPLIED), row.mode, row.owner);
        match (self.top(row.below), self.top(number)) {
            (Some(was), Some(is)) => described(&was) != described(&is),
            _ => false,
        }
    }

    /// What became of a path in the layer of a row.
    fn state(&self, row: &Row) -> State {
        if row.is(REMOVED) {
            State::Removed
        } else if self.top(row.below).is_none() {
            State::Added
        } else if row.is_directory() && !row.is(DIFFERS | TOUCHED) {
            State::Unchanged
        } else {
            State::Changed
        }
    }

    /// What became of a path in all layers above the lowest.
    fn state_of_all(&self, node: &Node) -> State {
        let latest = self.rows.at(node.row);
        if latest.is(REMOVED) {
            return State::Removed;
        }
        let mut state = State::Unchanged;
        let mut row = latest;
        while row.below != NONE {
            if !row.is_directory() || row.is(DIFFERS | TOUCHED | REMOVED) {
                state = State::Changed;
            }
            row = self.rows.at(row.below);
        }
        if row.layer == 0 { state } else { State::Added }
    }

    fn path(&self, mut number: u32) -> Vec<u8> {
        let mut names = Vec::new();
        while number != ROOT && number != NONE {
            let node = self.nodes.at(number);
            names.push(self.read(node.name));
            number = node.parent;
        }
        names.reverse();
        names.join(&b'/')
    }

    fn entry(&self, row: &Row, name: &[u8]) -> Option<Entry> {
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

    /// What is said of a node in the image as it is in the end.
    fn merged(&self, number: u32) -> Child {
        let node = self.nodes.at(number);
        let latest = self.rows.at(node.row);
        let top = self.top(node.row).unwrap_or(latest);
        let name = self.read(node.name).to_vec();
        Child {
            entry: self.entry(&top, &name),
            name,
            state: self.state_of_all(&node),
            whiteout: latest.whiteout(),
            layer: top.layer.into(),
            total: self.totals.at(number),
        }
    }

    /// What a layer says of a node, if it says anything.
    fn said(&self, number: u32, layer: u16) -> Option<Child> {
        let node = self.nodes.at(number);
        let mut at = node.row;
        loop {
            let row = self.rows.at(at);
            if at == NONE || row.layer < layer {
                return None;
            }
            if row.layer == layer {
                let name = self.read(node.name).to_vec();
                return Some(Child {
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

impl Analysis {
    /// How many entries there were, in all layers.
    pub const fn entries(&self) -> u64 {
        self.0.entries
    }

    /// How much each layer changes.
    pub fn changes(&self) -> &[Changes] {
        &self.0.layers
    }

    /// The number of bytes of memory that it takes.
    pub fn memory(&self) -> usize {
        let Image {
            nodes,
            rows,
            totals,
            text,
            table,
            ..
        } = &self.0;
        nodes.memory() + rows.memory() + totals.memory() + text.capacity() + table.allocation_size()
    }

    /// What is waste, with up to so many offenders.
    pub fn waste(&self, limit: usize) -> Waste {
        let image = &self.0;
        let (mut least, mut all, mut wasted) = (0_u64, 0_u64, 0_u64);
        let mut found = Vec::new();
        for number in 0..image.nodes.len() {
            let (mut times, mut bytes, mut smallest) = (0, 0_u64, u64::MAX);
            let mut at = image.nodes.at(number).row;
            while at != NONE {
                let row = image.rows.at(at);
                at = row.below;
                if row.is(IMPLIED) && !row.is(REMOVED) {
                    continue;
                }
                let size = if row.is(REMOVED) || row.is_directory() {
                    0
                } else {
                    row.size
                };
                times += 1;
                bytes = bytes.saturating_add(size);
                smallest = smallest.min(size);
            }
            if times > 0 {
                least = least.saturating_add(smallest);
                all = all.saturating_add(bytes);
            }
            if times > 1 && bytes > 0 {
                wasted = wasted.saturating_add(bytes);
                found.push((bytes, times, number));
            }
        }
        let count = u32::try_from(found.len()).unwrap_or(u32::MAX);
        let mut order: Vec<_> = (0..count).collect();
        let bytes_of = |at: u32| found.get(at as usize).map(|(bytes, ..)| *bytes);
        sort(&mut order, &|one, other| {
            (bytes_of(other), one).cmp(&(bytes_of(one), other))
        });
        let first = order
            .into_iter()
            .take(limit)
            .filter_map(|at| found.get(at as usize));
        let offenders = first.map(|&(bytes, times, number)| Offender {
            path: image.path(number),
            times,
            bytes,
        });
        #[expect(
            clippy::cast_precision_loss,
            reason = "it is shown, and not reckoned with"
        )]
        let efficiency = if all == 0 {
            1.0
        } else {
            least as f64 / all as f64
        };
        Waste {
            efficiency,
            bytes: wasted,
            offenders: offenders.collect(),
        }
    }

    /// What is in a directory of the image, and what was, in the order of names.
    pub fn children(&self, directory: &[u8]) -> Result<Vec<Child>, AnalysisError> {
        self.list(directory, |image, number| Some(image.merged(number)))
    }

    /// What a layer has in a directory, and what it takes away there, in the order of names.
    pub fn layer_children(
        &self,
        layer: usize,
        directory: &[u8],
    ) -> Result<Vec<Child>, AnalysisError> {
        let number = u16::try_from(layer)
            .ok()
            .filter(|_| layer < self.0.layers.len());
        let number = number.ok_or(AnalysisError::Layer(layer))?;
        self.list(directory, |image, node| image.said(node, number))
    }

    fn list(
        &self,
        directory: &[u8],
        describe: impl Fn(&Image, u32) -> Option<Child>,
    ) -> Result<Vec<Child>, AnalysisError> {
        let image = &self.0;
        let mut node = ROOT;
        for name in directory
            .split(|byte| *byte == b'/')
            .filter(|name| !name.is_empty())
        {
            let child = image.child(node, name);
            node = child.ok_or_else(|| AnalysisError::Directory(directory.to_vec()))?;
        }
        let mut numbers = Vec::new();
        let mut child = image.nodes.at(node).child;
        while child != NONE {
            numbers.push(child);
            child = image.nodes.at(child).sibling;
        }
        let name = |number| image.read(image.nodes.at(number).name);
        sort(&mut numbers, &|one, other| name(one).cmp(name(other)));
        let children = numbers
            .into_iter()
            .filter_map(|number| describe(image, number));
        Ok(children.collect())
    }

    /// The paths of the image of which a name has this text in it, whether in capital letters or not; of a text with a slash, the
    /// paths that have it in them.
    pub fn search(&self, text: &[u8], limit: usize) -> Vec<Match> {
        let image = &self.0;
        let text = text.to_ascii_lowercase();
        if text.is_empty() {
            return Vec::new();
        }
        let is_path = text.contains(&b'/');
        let has = |found: &[u8]| {
            found
                .windows(text.len())
                .any(|part| part.eq_ignore_ascii_case(&text))
        };
        let is_found = |number: &u32| {
            let node = image.nodes.at(*number);
            image.top(node.row).is_some()
                && if is_path {
                    has(&image.path(*number))
                } else {
                    has(image.read(node.name))
                }
        };
        let found = (ROOT + 1..image.nodes.len()).filter(is_found).take(limit);
        let found = found.map(|number| Match {
            path: image.path(number),
            child: image.merged(number),
        });
        found.collect()
    }
}

/// Orders numbers. There is one copy of it, for a page waits for the module that it is in.
fn sort(numbers: &mut [u32], order: &dyn Fn(u32, u32) -> Ordering) {
    numbers.sort_unstable_by(|one, other| order(*one, *other));
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

impl Node {
    const EMPTY: Self = Self {
        parent: ROOT,
        child: NONE,
        sibling: NONE,
        row: NONE,
        name: 0,
    };
}

impl Row {
    /// A directory of which a layer has no entry.
    const IMPLIED: Self = Self {
        size: 0,
        seconds: 0,
        nanoseconds: 0,
        node: ROOT,
        below: NONE,
        owner: NONE,
        link: NONE,
        layer: 0,
        mode: 0,
        kind: EntryKind::Directory,
        flags: IMPLIED,
    };
    /// One that is not that of the layers below.
    const FRESH: Self = Self {
        flags: IMPLIED | FRESH,
        ..Self::IMPLIED
    };

    const fn entry(self) -> Self {
        Self { flags: 0, ..self }
    }

    fn whiteout(&self) -> Option<&'static str> {
        match (self.is(REMOVED), self.is(OPAQUE)) {
            (true, _) => self.is(NAMED).then_some("name"),
            (false, is_opaque) => is_opaque.then_some("opaque"),
        }
    }
}

/// The root's node.
const ROOT: u32 = 0;
/// No node, no row, no text.
const NONE: u32 = u32::MAX;

/// The path is gone.
const REMOVED: u8 = 1;
/// The layer has no entry for the directory.
const IMPLIED: u8 = 2;
/// Nothing of the layers below is seen.
const FRESH: u8 = 4;
/// The directory is another one than in the layers below.
const DIFFERS: u8 = 8;
/// Something in the directory is not unchanged.
const TOUCHED: u8 = 16;
/// A whiteout took all away that was in the directory.
const OPAQUE: u8 = 32;
/// A whiteout took the path away.
const NAMED: u8 = 64;
/// While its layer is read, the size is up to where what came below the directory is gone.
const FLOORED: u8 = 128;

/// What the names of whiteouts begin with.
const WHITEOUT: &[u8] = b".wh.";

/// The most entries of one path: of more, the last ones are regarded, as [`crate::layer::index::Index::seek`] does.
const MAX_SAME: usize = 4096;
/// The most rows: they take half a gigabyte.
const MAX_ROWS: u32 = 8_000_000;
/// The most bytes of names and links.
const MAX_TEXT: usize = 512 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    /// An entry: `d/` is a directory, `f 10` a file of 10 bytes, `l -> t` a symbolic link, `l = t` a hard link.
    fn entry(text: &str, offset: u64) -> Entry {
        let (path, kind, link, size) = if let Some((path, link)) = text.split_once(" -> ") {
            (path, EntryKind::SymbolicLink, link, 0)
        } else if let Some((path, link)) = text.split_once(" = ") {
            (path, EntryKind::HardLink, link, 0)
        } else if let Some(path) = text.strip_suffix('/') {
            (path, EntryKind::Directory, "", 0)
        } else {
            let (path, size) = text.split_once(' ').unwrap_or((text, "0"));
            (path, EntryKind::File, "", size.parse().unwrap())
        };
        Entry {
            path: path.into(),
            kind,
            link: link.into(),
            size,
            offset,
            ..Entry::default()
        }
    }

    fn analysed(layers: &[Vec<Entry>]) -> Analysis {
        let mut analyser = Analyser::new(7);
        for layer in layers {
            let mut layer = layer.clone();
            layer.sort_by(|one, other| (&one.path, one.offset).cmp(&(&other.path, other.offset)));
            for entry in layer {
                analyser.push(entry).unwrap();
            }
            analyser.end_layer().unwrap();
        }
        analyser.finish()
    }

    fn analysis(layers: &[&[&str]]) -> Analysis {
        let layers = layers.iter().map(|layer| {
            let entries = layer.iter().zip(0..);
            entries.map(|(text, offset)| entry(text, offset)).collect()
        });
        analysed(&layers.collect::<Vec<_>>())
    }

    /// A child in a line: state, name, size of all below, and the layer.
    fn line(child: &Child) -> String {
        let kind = match &child.entry {
            Some(entry) if entry.kind == EntryKind::Directory => "/",
            None => "/?",
            Some(_) => "",
        };
        let whiteout = child.whiteout.map(|whiteout| format!(" by {whiteout}"));
        format!(
            "{} {}{kind} {} of {}{}",
            child.state.name(),
            json::lossy(&child.name),
            child.total,
            child.layer,
            whiteout.unwrap_or_default()
        )
    }

    #[track_caller]
    fn has(analysis: &Analysis, directory: &str, expected: &[&str]) {
        let children = analysis.children(directory.as_bytes()).unwrap();
        assert_eq!(children.iter().map(line).collect::<Vec<_>>(), expected);
    }

    #[track_caller]
    fn layer_has(analysis: &Analysis, layer: usize, directory: &str, expected: &[&str]) {
        let children = analysis
            .layer_children(layer, directory.as_bytes())
            .unwrap();
        assert_eq!(children.iter().map(line).collect::<Vec<_>>(), expected);
    }

    fn counts(analysis: &Analysis) -> Vec<[u64; 4]> {
        let counts = analysis.changes().iter();
        let counts = counts.map(|it| [it.added, it.changed, it.removed, it.bytes]);
        counts.collect()
    }

    #[test]
    fn each_layer_adds_changes_and_removes() {
        let found = analysis(&[
            &[
                "etc/",
                "etc/a 1",
                "etc/b 20",
                "usr/",
                "usr/x/",
                "usr/x/y 300",
            ],
            &["etc/", "etc/.wh.a", "etc/b 25", "etc/c 4000"],
            &[".wh.usr", "etc/d -> c"],
        ]);
        assert_eq!(
            counts(&found),
            [[6, 0, 0, 321], [1, 1, 1, 4025], [1, 0, 3, 0]]
        );
        has(
            &found,
            "",
            &["changed etc/ 4025 of 1", "removed usr/ 300 of 2 by name"],
        );
        let etc = [
            "removed a 1 of 1 by name",
            "changed b 25 of 1",
            "added c 4000 of 1",
            "added d 0 of 2",
        ];
        has(&found, "etc/", &etc);
        has(&found, "usr", &["removed x/ 300 of 2"]);
        has(&found, "usr/x/", &["removed y 300 of 2"]);
        layer_has(&found, 0, "etc/", &["added a 1 of 0", "added b 20 of 0"]);
        layer_has(&found, 1, "", &["changed etc/ 4025 of 1"]);
        layer_has(
            &found,
            1,
            "etc",
            &[
                "removed a 1 of 1 by name",
                "changed b 25 of 1",
                "added c 4000 of 1",
            ],
        );
        layer_has(&found, 1, "usr/", &[]);
        layer_has(
            &found,
            2,
            "",
            &["changed etc/? 0 of 2", "removed usr/ 300 of 2 by name"],
        );
        layer_has(&found, 2, "usr/x", &["removed y 300 of 2"]);
    }

    #[test]
    fn a_directory_that_is_only_named_again_is_unchanged() {
        let found = analysis(&[&["d/", "d/a 1", "e/"], &["d/", "e/", "e/b 1"]]);
        has(&found, "", &["unchanged d/ 1 of 1", "changed e/ 1 of 1"]);
        assert_eq!(counts(&found)[1], [1, 0, 0, 1]);
        let mut other = entry("d/", 0);
        other.mode = 0o700;
        let found = analysed(&[vec![entry("d/", 0)], vec![other]]);
        has(&found, "", &["changed d/ 0 of 1"]);
        assert_eq!(counts(&found)[1], [0, 1, 0, 0]);
    }

    #[test]
    fn an_opaque_directory_takes_away_all_that_is_below_it_and_nothing_of_its_own() {
        let found = analysis(&[
            &["d/", "d/a 1", "d/+ 2", "d/e/", "d/e/f 4"],
            // By name, one comes before the whiteout and the other after it.
            &["d/+ 8", "d/.wh..wh..opq", "d/e/", "d/e/g 16"],
        ]);
        has(&found, "", &["changed d/ 24 of 0 by opaque"]);
        has(
            &found,
            "d/",
            &["changed + 8 of 1", "removed a 1 of 1", "changed e/ 16 of 1"],
        );
        has(&found, "d/e/", &["removed f 4 of 1", "added g 16 of 1"]);
        assert_eq!(counts(&found)[1], [1, 1, 2, 24]);
    }

    #[test]
    fn what_a_directory_has_again_after_a_file_took_its_place_is_counted() {
        let found = analysis(&[&["d/", "d/a 1"], &["d", "d/", "d/a 2"]]);
        has(&found, "", &["changed d/ 2 of 1"]);
        has(&found, "d/", &["changed a 2 of 1"]);
        assert_eq!(counts(&found)[1], [0, 1, 0, 2]);
    }

    #[test]
    fn a_file_in_the_place_of_a_directory_takes_away_what_was_in_it() {
        let found = analysis(&[&["d/", "d/a 1", "f 2"], &["d 4", "f/", "f/b 8"]]);
        has(&found, "", &["changed d 4 of 1", "changed f/ 8 of 1"]);
        has(&found, "d", &["removed a 1 of 1"]);
        assert_eq!(counts(&found)[1], [1, 2, 1, 12]);
        // A layer that has something below a link has a directory there.
        let found = analysis(&[&["d/", "l -> d"], &["l/x 1"]]);
        has(&found, "", &["unchanged d/ 0 of 0", "changed l/? 1 of 1"]);
    }

    #[test]
    fn what_comes_back_was_there_before() {
        let found = analysis(&[&["a 1", "b 1"], &[".wh.a", ".wh.b"], &["a 2"]]);
        has(
            &found,
            "",
            &["changed a 2 of 2", "removed b 1 of 1 by name"],
        );
        layer_has(&found, 2, "", &["added a 2 of 2"]);
    }

    #[test]
    fn whiteouts_of_nothing_change_nothing() {
        let found = analysis(&[&[".wh.x", "a 1"], &[".wh.y", ".wh.z/b 1", "a/.wh..wh..opq"]]);
        // What is below a file of a lower layer makes a directory of it, be it a whiteout.
        has(&found, "", &["changed a/? 0 of 1 by opaque"]);
        assert_eq!(counts(&found), [[1, 0, 0, 1], [0, 1, 0, 0]]);
    }

    #[test]
    fn of_several_entries_of_a_path_the_last_one_counts() {
        let found = analysis(&[&["d/", "d/a 1", "d", "d/b 2", "d/", "d/c 4", "e 8", "e 16"]]);
        has(&found, "", &["unchanged d/ 4 of 0", "unchanged e 16 of 0"]);
        has(&found, "d/", &["unchanged c 4 of 0"]);
        assert_eq!(counts(&found), [[3, 0, 0, 20]]);
    }

    #[track_caller]
    fn wastes(analysis: &Analysis, least: u64, all: u64, bytes: u64, offenders: &[&str]) {
        let waste = analysis.waste(10);
        let line = |it: &Offender| format!("{} {}x {}", json::lossy(&it.path), it.times, it.bytes);
        assert_eq!(
            waste.offenders.iter().map(line).collect::<Vec<_>>(),
            offenders
        );
        assert_eq!(waste.bytes, bytes);
        assert!(
            (waste.efficiency - least as f64 / all as f64).abs() < 1e-12,
            "{}",
            waste.efficiency
        );
    }

    #[test]
    fn waste_is_what_comes_more_than_once_or_is_taken_away() {
        wastes(&analysis(&[&["a 10", "b 5"]]), 15, 15, 0, &[]);
        let twice = analysis(&[&["a 10", "b 5"], &["a 30"]]);
        wastes(&twice, 15, 45, 40, &["a 2x 40"]);
        let gone = analysis(&[&["a 10", "b 5"], &["a 30"], &[".wh.a"]]);
        wastes(&gone, 5, 45, 40, &["a 3x 40"]);
        let all = analysis(&[&["d/", "d/a 10", "d/b 20", "c 1"], &[".wh.d", "c = x"]]);
        wastes(&all, 0, 31, 31, &["d/b 2x 20", "d/a 2x 10", "c 2x 1"]);
        assert_eq!(all.waste(1).offenders.len(), 1);
        let empty = analysis(&[&[]]).waste(1);
        assert_eq!((empty.efficiency, empty.bytes), (1.0, 0));
    }

    #[test]
    fn names_are_searched_for_and_paths_where_there_is_a_slash() {
        let found = analysis(&[
            &["usr/", "usr/Bin/", "usr/Bin/bash 1", "gone 1"],
            &[".wh.gone", "usr/sbin/nobash 2"],
        ]);
        let paths = |text: &str, limit| -> Vec<String> {
            let matches = found.search(text.as_bytes(), limit);
            matches.iter().map(|it| json::lossy(&it.path)).collect()
        };
        assert_eq!(paths("BASH", 9), ["usr/Bin/bash", "usr/sbin/nobash"]);
        assert_eq!(paths("bash", 1), ["usr/Bin/bash"]);
        assert_eq!(paths("bin/ba", 9), ["usr/Bin/bash"]);
        assert_eq!(paths("gone", 9), Vec::<String>::new());
        assert_eq!(paths("", 9), Vec::<String>::new());
        let [found] = found.search(b"nobash", 9).try_into().unwrap();
        assert_eq!(line(&found.child), "added nobash 2 of 1");
    }

    #[test]
    fn a_path_that_comes_without_end_takes_no_memory_without_end() {
        let mut analyser = Analyser::new(1);
        for offset in 0..20_000 {
            analyser
                .push(entry(&format!("a {offset}"), offset))
                .unwrap();
            assert!(analyser.group.len() <= MAX_SAME);
        }
        analyser.end_layer().unwrap();
        let found = analyser.finish();
        assert_eq!(found.entries(), 20_000);
        has(&found, "", &["unchanged a 19999 of 0"]);
    }

    #[test]
    fn says_what_is_not_there() {
        let found = analysis(&[&["d/"]]);
        let error = |found: Result<Vec<Child>, AnalysisError>| found.unwrap_err().to_string();
        assert_eq!(
            error(found.children(b"d/\n/")),
            "no such directory: /d/\\n/"
        );
        assert_eq!(
            error(found.layer_children(1, b"")),
            "the image has no layer 1, counted from 0"
        );
    }

    #[test]
    fn a_listing_says_all_that_an_entry_does() {
        let mut link = entry("d/\u{fffd} -> x", 0);
        link.path = b"d/\xff".to_vec();
        link.mode = 0o777;
        link.user = Owner {
            id: 1 << 40,
            name: b"root".to_vec(),
        };
        link.modified = Moment {
            seconds: -1,
            nanoseconds: 5,
        };
        let found = analysed(&[vec![link]]);
        let [child] = found.children(b"d").unwrap().try_into().unwrap();
        let expected = serde_json::json!({
            "name": "\u{fffd}", "nameEncoded": "%FF", "type": "symlink", "mode": 511, "uid": 1_u64 << 40, "gid": 0, "user": "root",
            "size": 0, "modified": "-1.000000005", "link": "x", "state": "unchanged", "layerIndex": 0, "totalSize": 0,
        });
        assert_eq!(Value::from(child.describe()), expected);
        let [found] = found.search(b"\xff", 1).try_into().unwrap();
        assert_eq!(found.describe()["pathEncoded"], "d/%FF");
    }

    #[test]
    fn an_entry_takes_some_hundred_bytes_however_deep_it_is() {
        for path in ["usr/lib/node_modules/package/dist/", &"d/".repeat(500)] {
            let mut analyser = Analyser::new(1);
            for layer in 0..3 {
                for number in 0..30_000 {
                    let path = format!("{path}file-{layer}-{number}.js").into_bytes();
                    let entry = Entry {
                        path,
                        size: 1,
                        ..Entry::default()
                    };
                    analyser.push(entry).unwrap();
                }
                analyser.end_layer().unwrap();
            }
            let found = analyser.finish();
            let each = found.memory() / 90_000;
            println!("{each} bytes an entry");
            assert!(each < 120, "{each} bytes an entry");
            assert_eq!(found.children(b"").unwrap()[0].total, 90_000);
        }
    }

    /// Layers of any entries, against what lookups find in them one layer after the other.
    #[cfg(not(target_arch = "wasm32"))]
    mod model {
        use std::collections::BTreeMap;

        use proptest::prelude::*;

        use super::*;
        use crate::layer::tree::{
            self, Node,
            tests::{made_of, model::any_entry},
        };

        /// What is at each path: where its entry is, and what it is; of a directory that has none, nothing.
        type Seen = BTreeMap<Vec<u8>, Option<(usize, Entry)>>;

        fn seen(layers: &[Vec<Entry>]) -> Seen {
            let image = made_of(layers.to_vec());
            let mut walk = tree::walk(&image);
            let mut seen = Seen::new();
            while let Some((path, node)) = pollster::block_on(walk.next()).unwrap() {
                let node = match node {
                    Node::Entry(sited) => Some((sited.layer, sited.entry)),
                    Node::Directory => None,
                };
                seen.insert(path, node);
            }
            seen
        }

        fn is_directory(node: &Option<(usize, Entry)>) -> bool {
            node.as_ref()
                .is_none_or(|(_, entry)| entry.kind == EntryKind::Directory)
        }

        /// What became of each path in a layer, by what was seen without it and with it.
        fn states(layer: usize, before: &Seen, after: &Seen) -> BTreeMap<Vec<u8>, State> {
            let mut states = BTreeMap::new();
            for path in before
                .keys()
                .chain(after.keys())
                .filter(|path| !path.is_empty())
            {
                let state = match (before.get(path), after.get(path)) {
                    (None, Some(_)) => State::Added,
                    (Some(_), None) => State::Removed,
                    (Some(was), Some(is)) if is_directory(was) && is_directory(is) => {
                        let mode =
                            |it: &Option<(usize, Entry)>| it.as_ref().map(|(_, entry)| entry.mode);
                        if mode(was) == mode(is) {
                            State::Unchanged
                        } else {
                            State::Changed
                        }
                    }
                    (_, Some(Some((from, _)))) if *from < layer => State::Unchanged,
                    _ => State::Changed,
                };
                states.insert(path.clone(), state);
            }
            let changed = states
                .iter()
                .filter(|(_, state)| **state != State::Unchanged);
            let changed: Vec<_> = changed.map(|(path, _)| path.clone()).collect();
            for path in changed {
                for (at, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
                    let above = states
                        .entry(path[..at].to_vec())
                        .or_insert(State::Unchanged);
                    if *above == State::Unchanged {
                        *above = State::Changed;
                    }
                }
            }
            states
        }

        /// All paths of a listing, with what is said of them.
        fn listed(
            list: &impl Fn(&[u8]) -> Vec<Child>,
            directory: &[u8],
            all: &mut BTreeMap<Vec<u8>, Child>,
        ) {
            for child in list(directory) {
                let path = [directory, &child.name].concat();
                listed(list, &[path.as_slice(), b"/"].concat(), all);
                all.insert(path, child);
            }
        }

        fn total(seen: &Seen, path: &[u8]) -> u64 {
            let below = [path, b"/"].concat();
            let counts = |found: &&Vec<u8>| *found == path || found.starts_with(&below);
            let sizes = seen.iter().filter(|(found, _)| counts(found));
            sizes
                .filter_map(|(_, node)| Some(node.as_ref()?.1.size))
                .sum()
        }

        proptest! {
            #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

            #[test]
            fn it_says_what_lookups_find_layer_by_layer(
                mut layers in proptest::collection::vec(proptest::collection::vec((any_entry(), 0..2_u32), 0..8), 1..5),
                is_early: bool,
            ) {
                let layers: Vec<Vec<Entry>> = layers.iter_mut().map(|layer| {
                    let entries = layer.iter_mut().zip(0..);
                    entries.map(|((entry, mode), offset)| {
                        if is_early {
                            // By name, it comes before all whiteouts.
                            entry.path.iter_mut().filter(|byte| **byte == b'b').for_each(|byte| *byte = b'+');
                        }
                        entry.mode = *mode;
                        entry.offset = offset;
                        if entry.kind == EntryKind::File {
                            entry.size = 1 << (offset * 3);
                        }
                        entry.clone()
                    }).collect()
                }).collect();
                let found = analysed(&layers);
                let mut before = Seen::new();
                let mut sizes = BTreeMap::<Vec<u8>, Vec<u64>>::new();
                for layer in 0..layers.len() {
                    let after = seen(&layers[..=layer]);
                    let states = states(layer, &before, &after);
                    let mut said = BTreeMap::new();
                    listed(&|directory| found.layer_children(layer, directory).unwrap(), b"", &mut said);
                    for (path, state) in &states {
                        let is = said.get(path).map_or(State::Unchanged, |child| child.state);
                        prop_assert_eq!(is, *state, "{:?} in layer {}", json::lossy(path), layer);
                        if *state == State::Removed {
                            let child = &said[path];
                            if is_directory(&before[path]) == child.entry.as_ref().is_none_or(|entry| entry.kind == EntryKind::Directory) {
                                continue;
                            }
                            prop_assert!(false, "{:?} was something else", json::lossy(path));
                        }
                    }
                    prop_assert!(said.keys().all(|path| states.contains_key(path)));
                    for (path, node) in &after {
                        if let Some((from, entry)) = node && *from == layer && !path.is_empty() {
                            sizes.entry(path.clone()).or_default().push(entry.size);
                        }
                    }
                    for path in before.keys().filter(|path| !after.contains_key(*path)) {
                        sizes.entry(path.clone()).or_default().push(0);
                    }
                    let bytes = after.values().flatten().filter(|(from, _)| *from == layer);
                    prop_assert_eq!(found.changes()[layer].bytes, bytes.map(|(_, entry)| entry.size).sum::<u64>());
                    before = after;
                }

                let mut said = BTreeMap::new();
                listed(&|directory| found.children(directory).unwrap(), b"", &mut said);
                for (path, node) in before.iter().filter(|(path, _)| !path.is_empty()) {
                    let child = &said[path];
                    prop_assert_ne!(child.state, State::Removed, "{:?}", json::lossy(path));
                    let expected = node.as_ref().map(|(layer, entry)| (*layer, entry.kind, entry.size, &entry.link, entry.mode));
                    let is = child.entry.as_ref().map(|entry| (child.layer, entry.kind, entry.size, &entry.link, entry.mode));
                    prop_assert_eq!(is, expected, "{:?}", json::lossy(path));
                    prop_assert_eq!(child.total, total(&before, path), "{:?}", json::lossy(path));
                }
                let there = said.iter().filter(|(_, child)| child.state != State::Removed);
                prop_assert_eq!(there.count() + 1, before.len());

                let waste = found.waste(usize::MAX);
                let least: u64 = sizes.values().filter_map(|sizes| sizes.iter().min()).sum();
                let all: u64 = sizes.values().flatten().sum();
                let twice = sizes.iter().filter(|(_, sizes)| sizes.len() > 1);
                let twice: BTreeMap<_, _> = twice.map(|(path, sizes)| (path.clone(), sizes.iter().sum::<u64>())).filter(|(_, sum)| *sum > 0).collect();
                prop_assert_eq!(waste.bytes, twice.values().sum::<u64>());
                let offenders: BTreeMap<_, _> = waste.offenders.into_iter().map(|it| (it.path, it.bytes)).collect();
                prop_assert_eq!(offenders, twice);
                let expected = if all == 0 { 1.0 } else { least as f64 / all as f64 };
                prop_assert!((waste.efficiency - expected).abs() < 1e-12);
            }
        }
    }
}
