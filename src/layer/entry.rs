//! What a tar archive says of one file: paths and numbers, whichever of tar's dialects they came in.

/// One entry of a tar archive.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Entry {
    /// Where it is, from the root: components joined by `/`, none of them empty, `.` or `..`; empty for the root itself. Bytes,
    /// for they need not be UTF-8.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// The permissions and the set-user-ID, set-group-ID and sticky bits: the low twelve bits of `st_mode`.
    pub mode: u32,
    /// Who owns it.
    pub user: Owner,
    /// Which group owns it.
    pub group: Owner,
    /// The number of bytes that reading the file gives; zero for what is no file.
    pub size: u64,
    /// When its bytes were last changed.
    pub modified: Moment,
    /// When it was last read, where the archive says so.
    pub accessed: Option<Moment>,
    /// When its status was last changed, where the archive says so.
    pub changed: Option<Moment>,
    /// What a symbolic link says, as it is; where a hard link points to, in the form of [`Entry::path`].
    pub link: Vec<u8>,
    /// The major and minor number of a device.
    pub device: (u32, u32),
    /// Extended attributes: names and values, in the order of the names.
    pub attributes: Vec<(Vec<u8>, Vec<u8>)>,
    /// The number of extended attributes that were left out, because all of them exceed [`MAX_ATTRIBUTES`].
    pub omitted: u64,
    /// The offset of its bytes in the archive. Of two entries, the one that comes later has the greater one, whether it has
    /// bytes or not.
    pub offset: u64,
    /// Where the bytes of a sparse file belong, in their order; between them are zeros. None for a file that has all its bytes.
    pub segments: Option<Vec<Segment>>,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum EntryKind {
    /// A file, sparse or not.
    #[default]
    File,
    /// Another name of a file that came earlier.
    HardLink,
    /// A symbolic link.
    SymbolicLink,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
    /// A directory.
    Directory,
    /// A named pipe.
    Pipe,
}

/// A user or a group.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Owner {
    /// Its number.
    pub id: u64,
    /// Its name, where the archive says one.
    pub name: Vec<u8>,
}

/// A moment in time, as file systems know it.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Moment {
    /// Whole seconds since the Unix epoch, rounded down.
    pub seconds: i64,
    /// Nanoseconds after that: less than a thousand million.
    pub nanoseconds: u32,
}

/// A part of a sparse file that has bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Segment {
    /// Where in the file it begins.
    pub offset: u64,
    /// The number of bytes.
    pub length: u64,
}

impl EntryKind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::File,
        Self::HardLink,
        Self::SymbolicLink,
        Self::CharacterDevice,
        Self::BlockDevice,
        Self::Directory,
        Self::Pipe,
    ];

    /// The word by which listings call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::HardLink => "hardlink",
            Self::SymbolicLink => "symlink",
            Self::CharacterDevice => "char",
            Self::BlockDevice => "block",
            Self::Directory => "directory",
            Self::Pipe => "fifo",
        }
    }
}

impl Entry {
    /// The last component of the path; empty for the root.
    pub fn name(&self) -> &[u8] {
        let start = self.path.iter().rposition(|byte| *byte == b'/');
        let name = start.and_then(|slash| self.path.get(slash + 1..));
        name.unwrap_or(&self.path)
    }

    /// About the memory that it takes. The same on all machines, because the blocks of an index depend on it.
    pub fn weight(&self) -> usize {
        FIXED + self.described()
    }

    /// About the bytes that its texts, attributes and segments take.
    pub fn described(&self) -> usize {
        let attributes = self.attributes.iter();
        let attributes: usize = attributes
            .map(|(name, value)| attribute_weight(name.len(), value.len()))
            .sum();
        let segments = self.segments.as_ref().map_or(0, Vec::len) * SEGMENT;
        let names = self.user.name.len() + self.group.name.len();
        self.path.len() + self.link.len() + names + attributes + segments
    }

    /// What it takes away from the layers below, where it is a whiteout (image-spec v1.1.1, `layer.md`, "Whiteouts").
    pub fn whiteout(&self) -> Option<Whiteout<'_>> {
        let hidden = self.name().strip_prefix(b".wh.")?;
        Some(match hidden {
            b".wh..opq" => Whiteout::Opaque,
            name => Whiteout::Name(name),
        })
    }
}

/// About the memory that an extended attribute takes.
pub(crate) const fn attribute_weight(name: usize, value: usize) -> usize {
    name.saturating_add(value).saturating_add(ATTRIBUTE)
}

/// The most memory that the extended attributes of one entry take. Linux gives the names of a file 64 KiB, and ext4 all of its
/// attributes a block of 4 KiB; in layers the largest are capabilities of 20 bytes and labels of SELinux of some 60.
pub const MAX_ATTRIBUTES: usize = 64 * 1024;
/// The memory of an entry without its texts, attributes and segments, on a machine of 64 bits.
const FIXED: usize = 264;
/// Two vectors of bytes, and a segment, on such a machine.
const ATTRIBUTE: usize = 48;
const SEGMENT: usize = 16;

/// What a whiteout takes away from the layers below.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Whiteout<'a> {
    /// Everything in the directory that it is in.
    Opaque,
    /// The entry of this name beside it.
    Name(&'a [u8]),
}
