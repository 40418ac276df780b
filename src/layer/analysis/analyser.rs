//! Reading the tables of contents of an image, layer by layer.

use crate::layer::{
    analysis::{
        answers::Analysis,
        error::AnalysisError,
        image::Image,
        listing::{ChangeState, LayerChanges},
        row::{
            DIFFERS, EntryRow, FLOORED, FRESH, IMPLIED, NAMED, NONE, OPAQUE, PathNode, REMOVED,
            ROOT, TOUCHED,
        },
    },
    entry::{Entry, EntryKind, Whiteout},
    wire,
};

/// Reads the tables of contents of an image, layer by layer, into an [`Analysis`].
#[derive(Debug)]
pub struct Analyser {
    image: Image,
    layer: u16,
    /// The first row of the current layer.
    first: u32,
    /// The entries of the current path.
    pub(super) group: Vec<Entry>,
    /// The parent directories of the last path, and where their names end in it.
    within: Vec<(usize, u32)>,
    last: Vec<u8>,
}

impl Analyser {
    /// Begins with the lowest layer. `seed` is random, for the hashes of names: the author of the
    /// image must not be able to guess it.
    pub fn new(seed: u64) -> Self {
        let mut image = Image {
            seed,
            ..Image::default()
        };
        wire::put_bytes(&mut image.text, b"");
        image.nodes.push(PathNode {
            parent: NONE,
            ..PathNode::EMPTY
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

    /// Adds the next entry of a layer, in the order of its table of contents.
    ///
    /// # Errors
    ///
    /// [`AnalysisError::Rows`] or [`AnalysisError::Names`] if the image is too large to analyse.
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

    /// Ends the layer. Another one may follow.
    ///
    /// # Errors
    ///
    /// Those of [`Analyser::push`], and [`AnalysisError::Layers`] after the last layer that can be
    /// counted.
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

    /// Ends the image, and computes total sizes. Call it after [`Analyser::end_layer`].
    pub fn finish(mut self) -> Analysis {
        let image = &mut self.image;
        for _ in 0..image.nodes.len() {
            image.totals.push(0);
        }
        // Children have higher numbers than their directory.
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

    /// Adds the entries of one path.
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
        // The parents that the last path shares are known.
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
            // Entries up to the floor are gone. So is everything below a path that is not a
            // directory.
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

    /// The offset up to which entries below a directory of the current layer are gone, because the
    /// path was not a directory before.
    fn floor(&self, node: u32) -> Option<u64> {
        let row = self.own(node).filter(|row| row.is(FLOORED))?;
        Some(row.size)
    }

    /// Makes sure that the current layer has a directory. Returns whether it can have children.
    fn enter(&mut self, node: u32) -> bool {
        match self.own(node) {
            Some(row) if !row.is(REMOVED) => row.is_directory(),
            _ => {
                let was = self.image.top(self.image.nodes.at(node).row);
                let goes_on = was.is_some_and(|was| was.is_directory());
                self.put(
                    node,
                    if goes_on {
                        EntryRow::IMPLIED
                    } else {
                        EntryRow::FRESH
                    },
                );
                true
            }
        }
    }

    /// Adds the entries of the current layer at a path.
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
        // Before the rows of its children: `sum` relies on the order.
        self.put(node, row);
        if replaces {
            self.clear(node);
        }
    }

    /// Applies a whiteout in a directory.
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

    /// Removes what the layers below have in a directory.
    fn clear(&mut self, node: u32) {
        let mut child = self.image.nodes.at(node).child;
        while child != NONE {
            self.remove(child);
            child = self.image.nodes.at(child).sibling;
        }
    }

    /// Removes what the layers below have at a path.
    pub(super) fn remove(&mut self, node: u32) {
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
                self.put(node, EntryRow { size, flags, ..was });
            }
            let mut child = self.image.nodes.at(node).child;
            while child != NONE {
                left.push(child);
                child = self.image.nodes.at(child).sibling;
            }
        }
    }

    /// The row of the current layer.
    fn own(&self, node: u32) -> Option<EntryRow> {
        let number = self.image.nodes.at(node).row;
        (number != NONE && number >= self.first).then(|| self.image.rows.at(number))
    }

    fn mark(&mut self, node: u32, flag: u8) {
        if self.own(node).is_some() {
            let number = self.image.nodes.at(node).row;
            self.image.rows.change(number, |row| row.flags |= flag);
        }
    }

    /// Adds or replaces the row of the current layer.
    fn put(&mut self, node: u32, row: EntryRow) {
        let number = self.image.nodes.at(node).row;
        let mut row = EntryRow {
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

    fn row_of(&mut self, entry: &Entry) -> EntryRow {
        let image = &mut self.image;
        let number = image.owner(&entry.user, &entry.group);
        let link = if entry.link.is_empty() {
            NONE
        } else {
            image.write(&entry.link)
        };
        EntryRow {
            size: entry.size,
            seconds: entry.modified.seconds,
            nanoseconds: entry.modified.nanoseconds,
            owner: number,
            link,
            mode: u16::try_from(entry.mode & 0o7777).unwrap_or_default(),
            kind: entry.kind,
            ..EntryRow::IMPLIED
        }
        .entry()
    }

    /// Sums up the current layer.
    pub(super) fn sum(&mut self) {
        let image = &mut self.image;
        let mut changes = LayerChanges::default();
        for number in self.first..image.rows.len() {
            image.rows.change(number, |row| {
                if row.is(FLOORED) {
                    row.flags &= !FLOORED;
                    row.size = 0;
                }
            });
        }
        // Children have higher numbers than their directory.
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
                ChangeState::Added => changes.added += 1,
                ChangeState::Removed => changes.removed += 1,
                ChangeState::Changed if !row.is_directory() || row.is(DIFFERS) => {
                    changes.changed += 1;
                }
                ChangeState::Changed | ChangeState::Unchanged => {}
            }
            let above = image.nodes.at(parent).row;
            image.rows.change(above, |above| {
                if state != ChangeState::Unchanged {
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

/// The prefix of the names of whiteouts.
const WHITEOUT: &[u8] = b".wh.";
/// The most entries of one path. Of more, the last ones count, as in
/// [`crate::layer::index::Index::seek`].
pub(super) const MAX_SAME: usize = 4096;
/// The most rows. They take half a gigabyte.
const MAX_ROWS: u32 = 8_000_000;
/// The most bytes of names and links.
const MAX_TEXT: usize = 512 << 20;
