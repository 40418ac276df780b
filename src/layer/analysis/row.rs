//! Nodes and rows: the tree of paths, and what one layer has at one path.

use crate::layer::entry::EntryKind;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PathNode {
    pub(super) parent: u32,
    /// The last child that was added, and the sibling that was added before this one.
    pub(super) child: u32,
    pub(super) sibling: u32,
    /// The row of the highest layer.
    pub(super) row: u32,
    pub(super) name: u32,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct EntryRow {
    /// The bytes of a file. For a directory, those of its layer below it, or removed there.
    pub(super) size: u64,
    pub(super) seconds: i64,
    pub(super) nanoseconds: u32,
    pub(super) node: u32,
    /// The row of the next layer below.
    pub(super) below: u32,
    pub(super) owner: u32,
    pub(super) link: u32,
    pub(super) layer: u16,
    pub(super) mode: u16,
    pub(super) kind: EntryKind,
    pub(super) flags: u8,
}

impl EntryRow {
    pub(super) fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub(super) fn is_directory(&self) -> bool {
        self.kind == EntryKind::Directory
    }
}

impl EntryRow {
    /// A directory without an entry in its layer.
    pub(super) const IMPLIED: Self = Self {
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
    /// A directory that replaces everything of the layers below.
    pub(super) const FRESH: Self = Self {
        flags: IMPLIED | FRESH,
        ..Self::IMPLIED
    };

    pub(super) const fn entry(self) -> Self {
        Self { flags: 0, ..self }
    }

    pub(super) fn whiteout(&self) -> Option<&'static str> {
        match (self.is(REMOVED), self.is(OPAQUE)) {
            (true, _) => self.is(NAMED).then_some("name"),
            (false, is_opaque) => is_opaque.then_some("opaque"),
        }
    }
}

impl PathNode {
    pub(super) const EMPTY: Self = Self {
        parent: ROOT,
        child: NONE,
        sibling: NONE,
        row: NONE,
        name: 0,
    };
}

/// The node of the root.
pub(super) const ROOT: u32 = 0;
/// No node, row or text.
pub(super) const NONE: u32 = u32::MAX;
/// The path was removed.
pub(super) const REMOVED: u8 = 1;
/// The layer has no entry for the directory.
pub(super) const IMPLIED: u8 = 2;
/// The layers below don't show through.
pub(super) const FRESH: u8 = 4;
/// The directory differs from the one in the layers below.
pub(super) const DIFFERS: u8 = 8;
/// Something in the directory changed.
pub(super) const TOUCHED: u8 = 16;
/// An opaque whiteout emptied the directory.
pub(super) const OPAQUE: u8 = 32;
/// A whiteout removed the path.
pub(super) const NAMED: u8 = 64;
/// While its layer is read, `size` is the offset up to which entries below the directory are gone.
pub(super) const FLOORED: u8 = 128;
