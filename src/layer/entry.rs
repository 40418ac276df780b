//! An entry of a tar archive: paths and numbers in one form for all dialects.

/// One entry of a tar archive, in one form for all dialects.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Entry {
    /// The path from the root: components joined by `/`, none of them empty, `.` or `..`. Empty for
    /// the root itself. It need not be UTF-8.
    pub path: Vec<u8>,
    /// The kind of the file.
    pub kind: EntryKind,
    /// The permissions and the set-user-ID, set-group-ID and sticky bits: the low twelve bits of
    /// `st_mode`.
    pub mode: u32,
    /// The user that owns it.
    pub user: Owner,
    /// The group that owns it.
    pub group: Owner,
    /// The size of a file, in bytes. 0 for everything else.
    pub size: u64,
    /// The time at which its bytes changed last.
    pub modified: Moment,
    /// The time of the last access, if the archive has it.
    pub accessed: Option<Moment>,
    /// The time at which its metadata changed last, if the archive has it.
    pub changed: Option<Moment>,
    /// The target of a symbolic link as written, or of a hard link in the form of [`Entry::path`].
    pub link: Vec<u8>,
    /// The major and the minor number of a device. Zeros for everything else.
    pub device: (u32, u32),
    /// The extended attributes: names and values, in the order of names.
    pub attributes: Vec<(Vec<u8>, Vec<u8>)>,
    /// The number of extended attributes that did not fit into [`MAX_ATTRIBUTES`].
    pub omitted: u64,
    /// The offset of its bytes in the archive. A later entry has a greater offset, even without
    /// bytes.
    pub offset: u64,
    /// The parts of a sparse file that have bytes, in order. There are zeros between them. `None`
    /// for other files.
    pub segments: Option<Vec<Segment>>,
}

/// The kind of an entry: a file, a link, a directory or a special file.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum EntryKind {
    /// A file, sparse or not.
    #[default]
    File,
    /// A hard link: another name of an earlier entry.
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

/// The user or the group that owns an entry.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Owner {
    /// The numeric id.
    pub id: u64,
    /// The name. Empty if the archive has none.
    pub name: Vec<u8>,
}

/// A time as file systems have it, to the nanosecond.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Moment {
    /// The whole seconds since the Unix epoch, rounded down.
    pub seconds: i64,
    /// The nanoseconds after that second, less than 1,000,000,000.
    pub nanoseconds: u32,
}

/// A part of a sparse file that has bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Segment {
    /// The offset in the file.
    pub offset: u64,
    /// The number of bytes.
    pub length: u64,
}

impl EntryKind {
    /// All kinds, in the order of their numbers in an index.
    pub const ALL: [Self; 7] = [
        Self::File,
        Self::HardLink,
        Self::SymbolicLink,
        Self::CharacterDevice,
        Self::BlockDevice,
        Self::Directory,
        Self::Pipe,
    ];

    /// The word in listings, such as `file` or `symlink`.
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
    /// The last component of the path. Empty for the root.
    pub fn name(&self) -> &[u8] {
        let start = self.path.iter().rposition(|byte| *byte == b'/');
        let name = start.and_then(|slash| self.path.get(slash + 1..));
        name.unwrap_or(&self.path)
    }

    /// The approximate memory of the entry, in bytes. It is the same on all machines, because the
    /// blocks of an index depend on it.
    pub fn weight(&self) -> usize {
        FIXED + self.described()
    }

    /// The approximate memory of its texts, attributes and segments, in bytes.
    pub fn described(&self) -> usize {
        let attributes = self.attributes.iter();
        let attributes: usize = attributes
            .map(|(name, value)| attribute_weight(name.len(), value.len()))
            .sum();
        let segments = self.segments.as_ref().map_or(0, Vec::len) * SEGMENT;
        let names = self.user.name.len() + self.group.name.len();
        self.path.len() + self.link.len() + names + attributes + segments
    }

    /// The whiteout that this entry is, if any (image-spec v1.1.1, `layer.md`, "Whiteouts").
    pub fn whiteout(&self) -> Option<Whiteout<'_>> {
        let hidden = self.name().strip_prefix(b".wh.")?;
        Some(match hidden {
            b".wh..opq" => Whiteout::Opaque,
            name => Whiteout::Name(name),
        })
    }
}

/// The approximate memory of an extended attribute.
pub(crate) const fn attribute_weight(name: usize, value: usize) -> usize {
    name.saturating_add(value).saturating_add(ATTRIBUTE)
}

/// The most memory for extended attributes of one entry, in bytes. Linux allows 64 KiB for the
/// names of a file, and ext4 a block of 4 KiB for everything. The largest in layers are
/// capabilities of 20 bytes and SELinux labels of about 60.
pub const MAX_ATTRIBUTES: usize = 64 * 1024;
/// The memory of an entry without texts, attributes and segments, with addresses of 64 bits.
const FIXED: usize = 264;
/// The memory of two vectors of bytes, and of a segment, with such addresses.
const ATTRIBUTE: usize = 48;
const SEGMENT: usize = 16;

/// The entries of the layers below that a whiteout hides (image-spec v1.1.1, `layer.md`,
/// "Whiteouts").
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Whiteout<'a> {
    /// Everything in its directory: `.wh..wh..opq`.
    Opaque,
    /// The entry of this name in its directory: `.wh.<name>`.
    Name(&'a [u8]),
}
