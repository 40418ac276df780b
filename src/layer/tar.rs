//! Tar archives: bytes in, entries out, in all the dialects that layers come in.
//!
//! An archive is blocks of 512 bytes: a header, the data it announces filled up with zeros, the next header, and two blocks
//! of zeros in the end. Headers are as POSIX.1-1988 has them (ustar), and those before (v7) and beside it (GNU, star):
//!
//! ```text
//!   0  path        100     257  magic        8     GNU, from 345         star, from 345
//! 100  mode          8     265  user name   32     345  accessed   12    345  prefix    131
//! 108  user          8     297  group name  32     357  changed    12    476  accessed   12
//! 116  group         8     329  major        8     386  map        96    488  changed    12
//! 124  size         12     337  minor        8     482  more        1    508  "tar\0"     4
//! 136  modified     12     345  prefix     155     483  real size  12
//! 148  checksum      8
//! 156  type flag     1
//! 157  link        100
//! ```
//!
//! What does not fit there comes before it, as if it were a file: paths and links (GNU), and records of keys and values
//! (POSIX.1-2001, pax; <https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html>):
//!
//! ```text
//! record = length SP key "=" value LF      the length in decimal, its own digits and the line feed included
//! ```
//!
//! Where readers differ, this one does as Go's `archive/tar` does, with which layers are unpacked nearly everywhere, so that
//! nobody is shown another file than the one that runs. Global records are the exception: Go forgets them, and POSIX, GNU tar
//! and libarchive apply them.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt,
    ops::{Bound, Range},
};

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use percent_encoding::percent_decode;

use crate::layer::{
    entry::{Entry, EntryKind, MAX_ATTRIBUTES, Moment, Owner, Segment, attribute_weight},
    wire,
};

/// How much an archive may ask for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// The bytes of the longest path or link, as it stands in the archive.
    pub path_bytes: usize,
    /// The number of entries.
    pub entries: u64,
}

impl Default for Limits {
    /// Four times the longest path that Linux takes, and more entries than any image has.
    fn default() -> Self {
        Self {
            path_bytes: 16 * 1024,
            entries: 4_000_000,
        }
    }
}

/// Why bytes are not a tar archive, or more of one than is taken.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TarError {
    /// The offset in the archive of the block in which it was noticed.
    pub offset: u64,
    problem: Problem,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Problem {
    Magic,
    Checksum,
    Zeros,
    Number(&'static str),
    Flag(u8),
    Volume,
    Record,
    Nul(&'static str),
    Attribute,
    SparseVersion,
    SparseKind,
    SparseMap,
    SparseOrder,
    SparseData,
    Beyond,
    End,
    Entries(u64),
    Path(usize),
    Owner,
    Meta,
    Globals,
    Proportion,
    Segments,
}

impl TarError {
    /// Whether the archive may well be right, and asks for more than the limits grant.
    pub const fn is_limit(&self) -> bool {
        match self.problem {
            Problem::Entries(_)
            | Problem::Path(_)
            | Problem::Owner
            | Problem::Meta
            | Problem::Globals
            | Problem::Proportion
            | Problem::Segments => true,
            Problem::Magic
            | Problem::Checksum
            | Problem::Zeros
            | Problem::Number(_)
            | Problem::Flag(_)
            | Problem::Volume
            | Problem::Record
            | Problem::Nul(_)
            | Problem::Attribute
            | Problem::SparseVersion
            | Problem::SparseKind
            | Problem::SparseMap
            | Problem::SparseOrder
            | Problem::SparseData
            | Problem::Beyond
            | Problem::End => false,
        }
    }
}

impl fmt::Display for TarError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problem {
            Problem::Magic => f.write_str("not a tar archive"),
            Problem::Checksum => f.write_str("a tar header has another checksum"),
            Problem::Zeros => f.write_str("a block of zeros in the middle of a tar archive"),
            Problem::Number(what) => {
                write!(
                    f,
                    "the {what} of a tar entry is not a number, or out of range"
                )
            }
            Problem::Flag(flag) => {
                write!(
                    f,
                    "unknown type flag '{}' of a tar entry",
                    flag.escape_ascii()
                )
            }
            Problem::Volume => f.write_str("a tar entry that begins in another volume"),
            Problem::Record => f.write_str("a pax header with a malformed record"),
            Problem::Nul(key) => write!(f, "a zero byte in the {key} of a pax header"),
            Problem::Attribute => f.write_str("an extended attribute that is not base64"),
            Problem::SparseVersion => f.write_str("a sparse file in an unknown format"),
            Problem::SparseKind => f.write_str("a sparse map of what is no file"),
            Problem::SparseMap => f.write_str("a sparse file with a malformed map"),
            Problem::SparseOrder => {
                f.write_str("a sparse file whose map is out of order or goes beyond its end")
            }
            Problem::SparseData => f.write_str("a sparse file with more or less data than its map"),
            Problem::Beyond => f.write_str("a tar entry that ends beyond any archive"),
            Problem::End => f.write_str("a tar archive that ends too early"),
            Problem::Entries(limit) => write!(f, "more than {limit} entries in a tar archive"),
            Problem::Path(limit) => {
                write!(f, "a path of more than {limit} bytes in a tar archive")
            }
            Problem::Owner => write!(
                f,
                "a name of a user or group of more than {MAX_OWNER} bytes in a tar archive"
            ),
            Problem::Meta => write!(
                f,
                "a header of more than {MAX_META} bytes before a tar entry"
            ),
            Problem::Globals => write!(f, "global pax headers of more than {MAX_GLOBALS} bytes"),
            Problem::Proportion => write!(
                f,
                "global pax headers that apply to too many tar entries: more than {} MiB and {EACH} bytes for each entry in all",
                APPLIED >> 20
            ),
            Problem::Segments => write!(f, "a sparse file of more than {MAX_SEGMENTS} segments"),
        }?;
        write!(f, ", at byte {}", self.offset)
    }
}

impl std::error::Error for TarError {}

/// Reads a tar archive as its bytes come. Once it has failed, it is of no more use.
#[derive(Clone, Debug)]
pub struct Untar {
    limits: Limits,
    phase: Phase,
    /// Where the piece begins that is read next.
    offset: u64,
    /// The number of bytes before that: data, and what fills them up to whole blocks.
    skip: u64,
    /// How many of them fill up. The archive may end without those.
    padding: u64,
    /// The piece that is read next, as far as it came.
    piece: Vec<u8>,
    /// The number of entries so far.
    entries: u64,
    /// What applies to the next entry.
    next: Next,
    /// What applies to all entries that come.
    globals: Records,
    /// The bytes of `globals`.
    globals_size: u64,
}

/// What the next piece is.
#[derive(Clone, Debug)]
enum Phase {
    /// A header, or the first block of zeros.
    Header,
    /// The second block of zeros.
    Zeros,
    /// The data of an extension, so many bytes.
    Extension(Extension, usize),
    /// A block of the map of a sparse file.
    Map(Box<Map>),
    /// Nothing: the archive has ended.
    End,
}

/// What stands before an entry as if it were a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Extension {
    Records,
    Globals,
    Path,
    Link,
}

/// The header of a sparse file, and the blocks after it that say where its bytes belong.
#[derive(Clone, Debug)]
struct Map {
    header: Header,
    blocks: Vec<u8>,
    lines: u64,
}

#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Next {
    records: Records,
    path: Vec<u8>,
    link: Vec<u8>,
}

/// Records of a pax header by their keys, those that say something of an [`Entry`].
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Records(BTreeMap<Vec<u8>, Vec<u8>>);

#[derive(Clone, Debug)]
struct Header([u8; BLOCK]);

/// Who laid out the second half of a header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Dialect {
    V7,
    Ustar,
    Gnu,
    Star,
}

/// Where the map of a sparse file is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Sparse {
    /// In the header, and in blocks after it.
    Old,
    /// In the records: versions 0.0 and 0.1.
    Records,
    /// At the beginning of the data: version 1.0.
    Data,
}

impl Untar {
    /// Begins at the beginning of an archive.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            phase: Phase::Header,
            offset: 0,
            skip: 0,
            padding: 0,
            piece: Vec::new(),
            entries: 0,
            next: Next::default(),
            globals: Records::default(),
            globals_size: 0,
        }
    }

    /// Reads bytes. Each entry is handed over as soon as all of its headers were read.
    pub fn push<E: From<TarError>>(
        &mut self,
        mut bytes: &[u8],
        mut each: impl FnMut(Entry) -> Result<(), E>,
    ) -> Result<(), E> {
        while !bytes.is_empty() && !matches!(self.phase, Phase::End) {
            let passed = usize::try_from(self.skip)
                .unwrap_or(usize::MAX)
                .min(bytes.len());
            self.skip -= passed as u64;
            self.advance(passed);
            let rest = bytes.get(passed..).unwrap_or_default();
            if self.skip > 0 {
                break;
            }
            let missing = self.wanted().saturating_sub(self.piece.len());
            let (now, later) = rest.split_at(missing.min(rest.len()));
            bytes = later;
            self.piece.extend_from_slice(now);
            if now.len() < missing {
                break;
            }
            let mut piece = std::mem::take(&mut self.piece);
            let entry = self.read(&piece).map_err(|problem| self.fail(problem))?;
            self.advance(piece.len());
            // A long piece was an exception.
            piece.clear();
            piece.shrink_to(BLOCK);
            self.piece = piece;
            if let Some(entry) = entry {
                each(entry)?;
            }
        }
        Ok(())
    }

    /// Says that there are no more bytes. Archives may end without blocks of zeros.
    pub fn finish(&self) -> Result<(), TarError> {
        let nothing = self.skip <= self.padding && self.piece.is_empty();
        let whole = match &self.phase {
            Phase::Header => nothing && self.next == Next::default(),
            Phase::Zeros => nothing,
            Phase::Extension(..) | Phase::Map(_) => false,
            Phase::End => true,
        };
        if whole {
            return Ok(());
        }
        Err(TarError {
            offset: self.offset.saturating_add(self.piece.len() as u64),
            problem: Problem::End,
        })
    }

    /// Writes all that it takes to go on later.
    pub(crate) fn save(&self, out: &mut Vec<u8>) {
        for number in [self.offset, self.skip, self.padding, self.entries] {
            wire::put(out, number);
        }
        match &self.phase {
            Phase::Header => out.push(0),
            Phase::Zeros => out.push(1),
            Phase::End => out.push(2),
            Phase::Map(map) => {
                out.push(3);
                out.extend_from_slice(&map.header.0);
                wire::put_bytes(out, &map.blocks);
            }
            Phase::Extension(extension, size) => {
                out.push(match extension {
                    Extension::Records => 4,
                    Extension::Globals => 5,
                    Extension::Path => 6,
                    Extension::Link => 7,
                });
                wire::put(out, *size as u64);
            }
        }
        for bytes in [&self.piece, &self.next.path, &self.next.link] {
            wire::put_bytes(out, bytes);
        }
        for records in [&self.next.records, &self.globals] {
            wire::put(out, records.0.len() as u64);
            for (key, value) in &records.0 {
                wire::put_bytes(out, key);
                wire::put_bytes(out, value);
            }
        }
    }

    /// Reads what [`Untar::save`] wrote.
    pub(crate) fn load(reader: &mut wire::Reader<'_>, limits: Limits) -> Option<Self> {
        let mut untar = Self::new(limits);
        untar.offset = reader.number()?;
        untar.skip = reader.number()?;
        untar.padding = reader.number()?;
        untar.entries = reader.number()?;
        untar.phase = match reader.byte()? {
            0 => Phase::Header,
            1 => Phase::Zeros,
            2 => Phase::End,
            3 => {
                let header = Header(reader.array()?);
                let blocks = reader.bytes()?.to_vec();
                let lines = count_lines(&blocks);
                Phase::Map(Box::new(Map {
                    header,
                    blocks,
                    lines,
                }))
            }
            4 => Phase::Extension(Extension::Records, reader.length()?),
            5 => Phase::Extension(Extension::Globals, reader.length()?),
            6 => Phase::Extension(Extension::Path, reader.length()?),
            7 => Phase::Extension(Extension::Link, reader.length()?),
            _ => return None,
        };
        untar.piece = reader.bytes()?.to_vec();
        untar.next.path = reader.bytes()?.to_vec();
        untar.next.link = reader.bytes()?.to_vec();
        for records in [&mut untar.next.records, &mut untar.globals] {
            for _ in 0..reader.number()? {
                let (key, value) = (reader.bytes()?, reader.bytes()?);
                records.0.insert(key.to_vec(), value.to_vec());
            }
        }
        untar.globals_size = untar.globals.size();
        (untar.wanted() <= MAX_META && untar.piece.len() <= untar.wanted()).then_some(untar)
    }

    /// The length of the next piece.
    const fn wanted(&self) -> usize {
        match &self.phase {
            Phase::Header | Phase::Zeros | Phase::Map(_) => BLOCK,
            Phase::Extension(_, size) => *size,
            Phase::End => 0,
        }
    }

    /// Reads a piece, and notes what to skip after it.
    fn read(&mut self, piece: &[u8]) -> Result<Option<Entry>, Problem> {
        match std::mem::replace(&mut self.phase, Phase::Header) {
            Phase::Header => self.header(piece),
            Phase::Zeros if is_zero(piece) => {
                self.phase = Phase::End;
                Ok(None)
            }
            Phase::Zeros => Err(Problem::Zeros),
            Phase::Extension(extension, _) => self.extension(extension, piece).map(|()| None),
            Phase::Map(map) => self.map(map, piece),
            Phase::End => Ok(None),
        }
    }

    fn header(&mut self, piece: &[u8]) -> Result<Option<Entry>, Problem> {
        if is_zero(piece) {
            self.phase = Phase::Zeros;
            return Ok(None);
        }
        let header = Header(piece.try_into().map_err(|_| Problem::End)?);
        if !header.is_sound() {
            return Err(match self.offset {
                0 => Problem::Magic,
                _ => Problem::Checksum,
            });
        }
        let extension = match header.flag() {
            b'x' => Extension::Records,
            b'g' => Extension::Globals,
            b'L' => Extension::Path,
            b'K' => Extension::Link,
            b'M' => return Err(Problem::Volume),
            b'V' => {
                let size = header.unsigned(SIZE, "size")?;
                self.next = Next::default();
                return self.pass(size).map(|()| None);
            }
            _ => return self.file(header),
        };
        let size = usize::try_from(header.unsigned(SIZE, "size")?)
            .ok()
            .filter(|size| *size <= MAX_META);
        self.phase = Phase::Extension(extension, size.ok_or(Problem::Meta)?);
        Ok(None)
    }

    fn extension(&mut self, extension: Extension, data: &[u8]) -> Result<(), Problem> {
        match extension {
            // Of two, the first is forgotten, as Go does.
            Extension::Records => self.next.records = Records::parse(data)?,
            Extension::Globals => {
                self.globals.merge(Records::parse(data)?);
                self.globals_size = self.globals.size();
                if self.globals_size > MAX_GLOBALS {
                    return Err(Problem::Globals);
                }
            }
            Extension::Path => self.next.path = text(data).to_vec(),
            Extension::Link => self.next.link = text(data).to_vec(),
        }
        self.padding = padding(data.len() as u64);
        self.skip = self.padding;
        Ok(())
    }

    /// Reads the header of an entry: all of it, but for a map that follows.
    fn file(&mut self, header: Header) -> Result<Option<Entry>, Problem> {
        let (kind, sparse) = (self.kind(&header)?, self.sparse(&header)?);
        if kind != EntryKind::File && sparse.is_some() {
            return Err(Problem::SparseKind);
        }
        let follows = match sparse {
            Some(Sparse::Old) => header.byte(MORE) != 0,
            Some(Sparse::Data) => true,
            Some(Sparse::Records) | None => false,
        };
        if !follows {
            return self.entry(&header, &[]).map(Some);
        }
        self.phase = Phase::Map(Box::new(Map {
            header,
            blocks: Vec::new(),
            lines: 0,
        }));
        Ok(None)
    }

    /// Reads a block of a map, and the entry when it was the last one.
    fn map(&mut self, mut map: Box<Map>, block: &[u8]) -> Result<Option<Entry>, Problem> {
        map.blocks.extend_from_slice(block);
        map.lines += count_lines(block);
        let more = if map.header.flag() == b'S' {
            block.get(MORE_BLOCKS).is_some_and(|more| *more != 0)
        } else {
            if map.blocks.len() as u64 > self.data(&map.header)? {
                return Err(Problem::SparseData);
            }
            // A count and twice as many numbers, one a line.
            let count = lines(&map.blocks).next().and_then(decimal::<u64>);
            let count = count.ok_or(Problem::SparseMap)?;
            count > MAX_META as u64 || map.lines <= 2 * count
        };
        if !more {
            return self.entry(&map.header, &map.blocks).map(Some);
        }
        if map.blocks.len() >= MAX_META {
            return Err(Problem::Segments);
        }
        self.phase = Phase::Map(map);
        Ok(None)
    }

    /// Makes an entry of its header, the blocks of its map, and what was said before them.
    fn entry(&mut self, header: &Header, blocks: &[u8]) -> Result<Entry, Problem> {
        if self.entries >= self.limits.entries {
            return Err(Problem::Entries(self.limits.entries));
        }
        // Each entry reads the global records again, also those that say nothing of it. As if
        // they had applied from the first entry on: that is stored nowhere.
        let applied = self.globals_size.saturating_mul(self.entries);
        if applied > APPLIED.saturating_add(EACH.saturating_mul(self.entries)) {
            return Err(Problem::Proportion);
        }
        let (kind, sparse) = (self.kind(header)?, self.sparse(header)?);
        let is_link = matches!(kind, EntryKind::HardLink | EntryKind::SymbolicLink);
        let is_device = matches!(kind, EntryKind::CharacterDevice | EntryKind::BlockDevice);
        let path = match sparse {
            Some(Sparse::Records | Sparse::Data) => self.record(b"GNU.sparse.name"),
            Some(Sparse::Old) | None => None,
        };
        let path = path.map_or_else(|| self.path(header), Cow::Borrowed);
        let link = match self.next.link.as_slice() {
            b"" => self.record(b"linkpath").unwrap_or(header.text(LINK)),
            link => link,
        };
        if path.len() > self.limits.path_bytes || link.len() > self.limits.path_bytes {
            return Err(Problem::Path(self.limits.path_bytes));
        }
        let (accessed, changed) = header.times().unwrap_or_default();
        let modified = match self.moment(b"mtime", "modification time")? {
            Some(moment) => moment,
            None => seconds(header.number(MODIFIED, "modification time")?),
        };
        let mut data = self.data(header)?;
        let (attributes, omitted) = self.attributes()?;
        // In the archive are its low bits in octal, or what a system puts above them.
        let mode = header.number(MODE, "mode")?.cast_unsigned() & MODE_BITS;
        let mut entry = Entry {
            path: clean(&path),
            kind,
            mode: u32::try_from(mode).unwrap_or_default(),
            user: Owner {
                id: self.owner(header, USER, b"uid", "user")?,
                name: self.name(header, USER_NAME, b"uname")?,
            },
            group: Owner {
                id: self.owner(header, GROUP, b"gid", "group")?,
                name: self.name(header, GROUP_NAME, b"gname")?,
            },
            size: 0,
            modified,
            accessed: self.moment(b"atime", "access time")?.or(accessed),
            changed: self.moment(b"ctime", "change time")?.or(changed),
            link: match kind {
                EntryKind::HardLink => clean(link),
                _ if is_link => link.to_vec(),
                _ => Vec::new(),
            },
            device: if is_device {
                let major = self.device(header, MAJOR, b"SCHILY.devmajor")?;
                (major, self.device(header, MINOR, b"SCHILY.devminor")?)
            } else {
                (0, 0)
            },
            attributes,
            omitted,
            offset: self.offset.saturating_add(BLOCK as u64),
            segments: None,
        };
        if kind == EntryKind::File {
            entry.size = data;
        }
        if let Some(sparse) = sparse {
            let real = match sparse {
                Sparse::Old => Some(header.unsigned(REAL_SIZE, "size")?),
                Sparse::Records | Sparse::Data => self
                    .unsigned(b"GNU.sparse.size", "size")?
                    .or(self.unsigned(b"GNU.sparse.realsize", "size")?),
            };
            entry.size = real.unwrap_or(data);
            let segments = self.segments(header, sparse, blocks, entry.size)?;
            if sparse == Sparse::Data {
                data = data.saturating_sub(blocks.len() as u64);
            }
            // All in order and none beyond the end: the sum is no more than the size.
            if data != segments.iter().map(|segment| segment.length).sum::<u64>() {
                return Err(Problem::SparseData);
            }
            entry.segments = Some(segments);
        }
        self.pass(data)?;
        self.next = Next::default();
        self.entries += 1;
        Ok(entry)
    }

    fn kind(&self, header: &Header) -> Result<EntryKind, Problem> {
        Ok(match header.flag() {
            // Before there was a flag for directories, their paths ended so.
            0 if self.path(header).ends_with(b"/") => EntryKind::Directory,
            // Contiguous files are files, and old sparse ones have a flag of their own.
            0 | b'0' | b'7' | b'S' => EntryKind::File,
            b'1' => EntryKind::HardLink,
            b'2' => EntryKind::SymbolicLink,
            b'3' => EntryKind::CharacterDevice,
            b'4' => EntryKind::BlockDevice,
            // Incremental archives list in the data of a directory what was in it.
            b'5' | b'D' => EntryKind::Directory,
            b'6' => EntryKind::Pipe,
            // POSIX would have them be files; containerd refuses them.
            flag => return Err(Problem::Flag(flag)),
        })
    }

    /// The number of bytes after the header. A size that stands elsewhere than with a file means nothing to Go, even with a
    /// hard link, which POSIX lets have data (cpio's pax archives do), and GNU tar takes it for zero there.
    fn data(&self, header: &Header) -> Result<u64, Problem> {
        let size = header.unsigned(SIZE, "size")?;
        let size = self.unsigned(b"size", "size")?.unwrap_or(size);
        let has_data = self.kind(header)? == EntryKind::File || header.flag() == b'D';
        Ok(if has_data { size } else { 0 })
    }

    fn sparse(&self, header: &Header) -> Result<Option<Sparse>, Problem> {
        if header.flag() == b'S' {
            // Star has sparse files of the same flag, laid out in another way.
            return match header.dialect() {
                Dialect::Gnu => Ok(Some(Sparse::Old)),
                Dialect::V7 | Dialect::Ustar | Dialect::Star => Err(Problem::SparseVersion),
            };
        }
        let version = (
            self.record(b"GNU.sparse.major"),
            self.record(b"GNU.sparse.minor"),
        );
        match version {
            (None, None) => Ok(self.record(b"GNU.sparse.map").map(|_| Sparse::Records)),
            (Some(b"0"), Some(b"0" | b"1")) => Ok(Some(Sparse::Records)),
            (Some(b"1"), Some(b"0")) => Ok(Some(Sparse::Data)),
            _ => Err(Problem::SparseVersion),
        }
    }

    fn segments(
        &self,
        header: &Header,
        sparse: Sparse,
        blocks: &[u8],
        size: u64,
    ) -> Result<Vec<Segment>, Problem> {
        match sparse {
            Sparse::Old => {
                let more = blocks
                    .chunks(BLOCK)
                    .filter_map(|block| block.get(..MORE_BLOCKS));
                let maps = std::iter::once(header.field(MAP)).chain(more);
                // The first that is not written ends each.
                let pairs = maps.flat_map(|map| {
                    map.chunks(PAIR)
                        .take_while(|pair| pair.first().is_some_and(|byte| *byte != 0))
                });
                segments(
                    size,
                    pairs.flat_map(|pair| pair.chunks(PAIR / 2)),
                    |field| number(field).and_then(|number| u64::try_from(number).ok()),
                )
            }
            Sparse::Records => {
                let map = self.record(b"GNU.sparse.map").unwrap_or_default();
                let commas = map.split(|byte| *byte == b',');
                let numbers = || commas.clone().filter(|_| !map.is_empty());
                let count = self.unsigned(b"GNU.sparse.numblocks", "number of segments")?;
                if let Some(count) = count
                    && count.checked_mul(2) != Some(numbers().count() as u64)
                {
                    return Err(Problem::SparseMap);
                }
                segments(size, numbers(), decimal)
            }
            Sparse::Data => {
                let count = lines(blocks).next().and_then(decimal::<usize>);
                let numbers = count.unwrap_or_default().saturating_mul(2);
                segments(size, lines(blocks).skip(1).take(numbers), decimal)
            }
        }
    }

    /// The path as it stands in the archive.
    fn path<'a>(&'a self, header: &'a Header) -> Cow<'a, [u8]> {
        match self.next.path.as_slice() {
            b"" => self
                .record(b"path")
                .map_or_else(|| header.path(), Cow::Borrowed),
            path => path.into(),
        }
    }

    fn owner(
        &self,
        header: &Header,
        field: Range<usize>,
        key: &[u8],
        what: &'static str,
    ) -> Result<u64, Problem> {
        match self.unsigned(key, what)? {
            Some(id) => Ok(id),
            None => header.unsigned(field, what),
        }
    }

    fn name(&self, header: &Header, field: Range<usize>, key: &[u8]) -> Result<Vec<u8>, Problem> {
        let field = match header.dialect() {
            Dialect::V7 => &[],
            Dialect::Ustar | Dialect::Gnu | Dialect::Star => header.text(field),
        };
        let name = self.record(key).unwrap_or(field);
        if name.len() > MAX_OWNER {
            return Err(Problem::Owner);
        }
        Ok(name.to_vec())
    }

    fn device(&self, header: &Header, field: Range<usize>, key: &[u8]) -> Result<u32, Problem> {
        let what = "device number";
        let number = match (self.unsigned(key, what)?, header.dialect()) {
            (Some(number), _) => number,
            (None, Dialect::V7) => 0,
            (None, Dialect::Ustar | Dialect::Gnu | Dialect::Star) => {
                header.unsigned(field, what)?
            }
        };
        u32::try_from(number).map_err(|_| Problem::Number(what))
    }

    /// The extended attributes, of the entry over those of all entries: those that fit into [`MAX_ATTRIBUTES`], and the
    /// number of the others.
    fn attributes(&self) -> Result<(Attributes, u64), Problem> {
        let (ours, globals) = (&self.next.records.0, &self.globals.0);
        let mut named = BTreeMap::<Cow<'_, [u8]>, (&[u8], bool)>::new();
        // Libarchive writes each both ways, and star's form comes first.
        for (prefix, is_encoded) in [(LIBARCHIVE, true), (SCHILY, false)] {
            let others = with_prefix(globals, prefix).filter(|(key, _)| !ours.contains_key(*key));
            for (key, value) in others {
                named.insert(attribute_name(key, prefix), (value, is_encoded));
            }
        }
        for (prefix, is_encoded) in [(LIBARCHIVE, true), (SCHILY, false)] {
            // An empty value takes away what there is. Where there is nothing, it is the value.
            let ours = with_prefix(ours, prefix)
                .filter(|(key, value)| !value.is_empty() || !globals.contains_key(*key));
            for (key, value) in ours {
                named.insert(attribute_name(key, prefix), (value, is_encoded));
            }
        }
        let (mut attributes, mut omitted, mut weight) = (Vec::new(), 0, 0);
        for (name, (value, is_encoded)) in named {
            let length = if is_encoded {
                value.len() / 4 * 3
            } else {
                value.len()
            };
            let more = attribute_weight(name.len(), length);
            if weight + more > MAX_ATTRIBUTES {
                omitted += 1;
                continue;
            }
            weight += more;
            let value = if is_encoded {
                BASE64.decode(value).map_err(|_| Problem::Attribute)?
            } else {
                value.to_vec()
            };
            attributes.push((name.into_owned(), value));
        }
        Ok((attributes, omitted))
    }

    /// The value of a record: the entry's, or else that of all entries. An empty one is none.
    fn record(&self, key: &[u8]) -> Option<&[u8]> {
        let value = self.next.records.0.get(key);
        let value = value.or_else(|| self.globals.0.get(key))?;
        (!value.is_empty()).then_some(value)
    }

    fn unsigned(&self, key: &[u8], what: &'static str) -> Result<Option<u64>, Problem> {
        let value = self.record(key).map(decimal);
        value
            .map(|number| number.ok_or(Problem::Number(what)))
            .transpose()
    }

    fn moment(&self, key: &[u8], what: &'static str) -> Result<Option<Moment>, Problem> {
        let value = self.record(key).map(moment);
        value
            .map(|moment| moment.ok_or(Problem::Number(what)))
            .transpose()
    }

    /// Notes that after this block there are so many bytes of data.
    fn pass(&mut self, data: u64) -> Result<(), Problem> {
        self.padding = padding(data);
        self.skip = data.checked_add(self.padding).ok_or(Problem::Beyond)?;
        let end = self.offset.checked_add(BLOCK as u64);
        let end = end.and_then(|start| start.checked_add(self.skip));
        end.map(|_| ()).ok_or(Problem::Beyond)
    }

    const fn advance(&mut self, bytes: usize) {
        // No more than came, unless a saved state says so.
        self.offset = self.offset.saturating_add(bytes as u64);
    }

    const fn fail(&self, problem: Problem) -> TarError {
        TarError {
            offset: self.offset,
            problem,
        }
    }
}

impl Records {
    fn parse(mut bytes: &[u8]) -> Result<Self, Problem> {
        let mut records = Self::default();
        let mut map: Vec<&[u8]> = Vec::new();
        while !bytes.is_empty() {
            let (key, value, rest) = record(bytes).ok_or(Problem::Record)?;
            bytes = rest;
            match key {
                // Version 0.0 of sparse files repeats its keys, and 0.1 has their values in one.
                b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                    let is_offset = key.ends_with(b"offset");
                    if is_offset != map.len().is_multiple_of(2) || value.contains(&b',') {
                        return Err(Problem::SparseMap);
                    }
                    map.push(value);
                }
                _ if is_known(key) => {
                    records.0.insert(key.to_vec(), value.to_vec());
                }
                _ => {}
            }
            if value.contains(&0)
                && let Some((_, what)) = TEXTS.iter().find(|(text, _)| *text == key)
            {
                return Err(Problem::Nul(what));
            }
        }
        if !map.is_empty() {
            let map = map.join(&b',');
            records.0.insert(b"GNU.sparse.map".to_vec(), map);
        }
        Ok(records)
    }

    /// Puts others over these; empty ones take away.
    fn merge(&mut self, others: Self) {
        for (key, value) in others.0 {
            if !value.is_empty() || self.0.remove(&key).is_none() {
                self.0.insert(key, value);
            }
        }
    }

    /// The bytes of the keys and values.
    fn size(&self) -> u64 {
        let sizes = self.0.iter().map(|(key, value)| key.len() + value.len());
        sizes.sum::<usize>() as u64
    }
}

impl Header {
    fn field(&self, field: Range<usize>) -> &[u8] {
        self.0.get(field).unwrap_or_default()
    }

    fn byte(&self, at: usize) -> u8 {
        self.0.get(at).copied().unwrap_or_default()
    }

    fn flag(&self) -> u8 {
        self.byte(FLAG)
    }

    fn text(&self, field: Range<usize>) -> &[u8] {
        text(self.field(field))
    }

    fn number(&self, field: Range<usize>, what: &'static str) -> Result<i64, Problem> {
        number(self.field(field)).ok_or(Problem::Number(what))
    }

    fn unsigned(&self, field: Range<usize>, what: &'static str) -> Result<u64, Problem> {
        u64::try_from(self.number(field, what)?).map_err(|_| Problem::Number(what))
    }

    /// Whether the checksum is right. It is the sum of all bytes, itself taken for spaces; old writers summed signed ones.
    fn is_sound(&self) -> bool {
        let spaces = CHECKSUM.len() as i64 * i64::from(b' ');
        let (mut unsigned, mut signed) = (spaces, spaces);
        for field in [0..CHECKSUM.start, CHECKSUM.end..BLOCK] {
            for byte in self.field(field) {
                unsigned += i64::from(*byte);
                signed += i64::from(byte.cast_signed());
            }
        }
        let checksum = octal(self.field(CHECKSUM));
        checksum == Some(unsigned) || checksum == Some(signed)
    }

    fn dialect(&self) -> Dialect {
        match self.field(MAGIC) {
            b"ustar  \0" => Dialect::Gnu,
            [b'u', b's', b't', b'a', b'r', 0, ..] if self.field(TRAILER) == b"tar\0" => {
                Dialect::Star
            }
            [b'u', b's', b't', b'a', b'r', 0, ..] => Dialect::Ustar,
            _ => Dialect::V7,
        }
    }

    fn path(&self) -> Cow<'_, [u8]> {
        let prefix = match self.dialect() {
            Dialect::V7 => &[],
            Dialect::Ustar => self.text(PREFIX),
            Dialect::Star => self.text(STAR_PREFIX),
            // Go before 1.8 wrote a prefix where GNU has times (<https://golang.org/issues/12594>).
            Dialect::Gnu if self.times().is_none() && self.text(PREFIX).is_ascii() => {
                self.text(PREFIX)
            }
            Dialect::Gnu => &[],
        };
        match prefix {
            b"" => self.text(PATH).into(),
            prefix => [prefix, self.text(PATH)].join(&b'/').into(),
        }
    }

    /// When it was last read and its status last changed, as far as it says so; none if that is not what is written there.
    fn times(&self) -> Option<(Option<Moment>, Option<Moment>)> {
        let (accessed, changed) = match self.dialect() {
            Dialect::V7 | Dialect::Ustar => return Some((None, None)),
            Dialect::Gnu => (ACCESSED, CHANGED),
            Dialect::Star => (STAR_ACCESSED, STAR_CHANGED),
        };
        let time = |field: Range<usize>| match self.byte(field.start) {
            0 => Some(None),
            _ => number(self.field(field)).map(|time| Some(seconds(time))),
        };
        Some((time(accessed)?, time(changed)?))
    }
}

/// Names and values of extended attributes.
type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

/// The records whose keys begin with a prefix.
fn with_prefix<'a>(
    records: &'a BTreeMap<Vec<u8>, Vec<u8>>,
    prefix: &'static [u8],
) -> impl Iterator<Item = (&'a Vec<u8>, &'a Vec<u8>)> {
    let from = (Bound::Included(prefix), Bound::Unbounded);
    records
        .range::<[u8], _>(from)
        .take_while(move |(key, _)| key.starts_with(prefix))
}

/// The name of the attribute of a record: libarchive's are percent-encoded.
fn attribute_name<'a>(key: &'a [u8], prefix: &[u8]) -> Cow<'a, [u8]> {
    let name = key.strip_prefix(prefix).unwrap_or_default();
    if prefix == LIBARCHIVE {
        percent_decode(name).into()
    } else {
        name.into()
    }
}

/// The next record: its key, its value, and what is after it.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().position(|byte| *byte == b' ')?;
    let (length, _) = bytes.split_at_checked(space)?;
    let (record, rest) = bytes.split_at_checked(decimal(length)?)?;
    let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    let (key, value) = (record.get(..equals)?, record.get(equals + 1..)?);
    (!key.is_empty() && !key.contains(&0)).then_some((key, value, rest))
}

/// Whether a record says something of an [`Entry`].
fn is_known(key: &[u8]) -> bool {
    match key {
        b"path" | b"linkpath" | b"size" | b"uid" | b"gid" | b"uname" | b"gname" | b"mtime"
        | b"atime" | b"ctime" => true,
        b"SCHILY.devmajor" | b"SCHILY.devminor" => true,
        _ => [SCHILY, LIBARCHIVE, b"GNU.sparse."]
            .iter()
            .any(|prefix| key.starts_with(prefix)),
    }
}

/// Reads the numbers of a map, which are pairs.
fn segments<'a>(
    size: u64,
    mut numbers: impl Iterator<Item = &'a [u8]>,
    number: impl Fn(&[u8]) -> Option<u64>,
) -> Result<Vec<Segment>, Problem> {
    let mut segments = Vec::new();
    let mut before = 0;
    while let Some(offset) = numbers.next() {
        let offset = number(offset).ok_or(Problem::SparseMap)?;
        let length = numbers.next().and_then(&number);
        let length = length.ok_or(Problem::SparseMap)?;
        let end = offset.checked_add(length).filter(|end| *end <= size);
        let end = end.ok_or(Problem::SparseOrder)?;
        if offset < before {
            return Err(Problem::SparseOrder);
        }
        before = end;
        // GNU tar marks the end of a file that ends in a hole by an empty one.
        if length > 0 {
            segments.push(Segment { offset, length });
        }
        if segments.len() > MAX_SEGMENTS {
            return Err(Problem::Segments);
        }
    }
    Ok(segments)
}

/// A number in octal digits or, where those do not suffice, in base 256.
fn number(field: &[u8]) -> Option<i64> {
    let Some((first, rest)) = field.split_first().filter(|(first, _)| **first >= 0x80) else {
        return octal(field);
    };
    // Two's complement: below the bit that marks the base is the sign. The longest field has 95 bits.
    let sign = if first & 0x40 == 0 { 0 } else { -1_i128 };
    let first = sign << 6 | i128::from(first & 0x3f);
    let number = rest
        .iter()
        .fold(first, |number, byte| number << 8 | i128::from(*byte));
    i64::try_from(number).ok()
}

/// A number in octal digits, between spaces and zeros; zero where there are none. No field has more than twelve.
fn octal(field: &[u8]) -> Option<i64> {
    let is_blank = |byte: &u8| matches!(byte, 0 | b' ');
    let start = field.iter().position(|byte| !is_blank(byte));
    let end = field.iter().rposition(|byte| !is_blank(byte));
    let (Some(start), Some(end)) = (start, end) else {
        return Some(0);
    };
    let digits = text(field.get(start..=end)?);
    digits.iter().try_fold(0_i64, |number, digit| {
        let digit = char::from(*digit).to_digit(8)?;
        number.checked_mul(8)?.checked_add(i64::from(digit))
    })
}

fn decimal<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A moment as a record has it: seconds with a fraction, of which what is less than a nanosecond is rounded down.
fn moment(text: &[u8]) -> Option<Moment> {
    let point = text.iter().position(|byte| *byte == b'.');
    let (whole, fraction) = match point {
        Some(point) => (text.get(..point)?, text.get(point + 1..)?),
        None => (text, [].as_slice()),
    };
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let mut seconds: i64 = decimal(whole)?;
    let digits = fraction.iter().chain(std::iter::repeat(&b'0'));
    let mut nanoseconds = digits.take(9).fold(0, |number, digit| {
        number * 10 + u32::from(digit.saturating_sub(b'0'))
    });
    if whole.starts_with(b"-") {
        let rest = fraction.get(9..).unwrap_or_default();
        nanoseconds += u32::from(rest.iter().any(|digit| *digit != b'0'));
        if nanoseconds > 0 {
            seconds = seconds.checked_sub(1)?;
            nanoseconds = NANOSECONDS - nanoseconds;
        }
    }
    Some(Moment {
        seconds,
        nanoseconds,
    })
}

const fn seconds(seconds: i64) -> Moment {
    Moment {
        seconds,
        nanoseconds: 0,
    }
}

/// A path from the root: `..` is not above it.
fn clean(path: &[u8]) -> Vec<u8> {
    let mut clean = Vec::with_capacity(path.len());
    for component in path.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => clean.truncate(clean.iter().rposition(|byte| *byte == b'/').unwrap_or(0)),
            name => {
                if !clean.is_empty() {
                    clean.push(b'/');
                }
                clean.extend_from_slice(name);
            }
        }
    }
    clean
}

/// What is before the first zero byte.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// The lines that are ended.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|byte| *byte == b'\n')
        .map_while(|line| line.strip_suffix(b"\n"))
}

fn count_lines(text: &[u8]) -> u64 {
    text.iter().filter(|byte| **byte == b'\n').count() as u64
}

fn is_zero(block: &[u8]) -> bool {
    block == [0; BLOCK]
}

/// What is missing to whole blocks.
const fn padding(length: u64) -> u64 {
    length.wrapping_neg() % BLOCK as u64
}

const BLOCK: usize = 512;
/// The longest data of an extension, and the longest map: what Go takes.
const MAX_META: usize = 1 << 20;
/// The longest path twice, or a hundred times what is usual.
const MAX_GLOBALS: u64 = 32 * 1024;
/// The bytes of global records that may be read for all entries together, and those more for each
/// entry: in proportion to what entries may describe in a table of contents.
const APPLIED: u64 = 32 * 1024 * 1024;
const EACH: u64 = 512;
/// About what fits in a map of the longest.
const MAX_SEGMENTS: usize = 65_536;
/// The longest name of a user or group: Linux's own tools take 32 bytes, and its C library 256.
const MAX_OWNER: usize = 1024;
const MODE_BITS: u64 = 0o7777;
const NANOSECONDS: u32 = 1_000_000_000;
/// An offset and a length in the map of an old sparse file.
const PAIR: usize = 24;
const PATH: Range<usize> = 0..100;
const MODE: Range<usize> = 100..108;
const USER: Range<usize> = 108..116;
const GROUP: Range<usize> = 116..124;
const SIZE: Range<usize> = 124..136;
const MODIFIED: Range<usize> = 136..148;
const CHECKSUM: Range<usize> = 148..156;
const FLAG: usize = 156;
const LINK: Range<usize> = 157..257;
const MAGIC: Range<usize> = 257..265;
const USER_NAME: Range<usize> = 265..297;
const GROUP_NAME: Range<usize> = 297..329;
const MAJOR: Range<usize> = 329..337;
const MINOR: Range<usize> = 337..345;
const PREFIX: Range<usize> = 345..500;
const ACCESSED: Range<usize> = 345..357;
const CHANGED: Range<usize> = 357..369;
const MAP: Range<usize> = 386..482;
const MORE: usize = 482;
const REAL_SIZE: Range<usize> = 483..495;
/// Where a block that goes on with a map says whether there is another one.
const MORE_BLOCKS: usize = 504;
const STAR_PREFIX: Range<usize> = 345..476;
const STAR_ACCESSED: Range<usize> = 476..488;
const STAR_CHANGED: Range<usize> = 488..500;
const TRAILER: Range<usize> = 508..512;
/// Before the name of an extended attribute whose value is as it is.
const SCHILY: &[u8] = b"SCHILY.xattr.";
/// Before the percent-encoded name of an extended attribute whose value is in base64.
const LIBARCHIVE: &[u8] = b"LIBARCHIVE.xattr.";
/// Libarchive does not pad, others might.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// The records in which a zero byte would end what some readers see.
const TEXTS: [(&[u8], &str); 5] = [
    (b"path", "path"),
    (b"linkpath", "link"),
    (b"uname", "user name"),
    (b"gname", "group name"),
    (b"GNU.sparse.name", "path"),
];

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "what is tested is small")]
mod tests {
    use super::*;

    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    /// A header, to be changed field by field.
    #[derive(Clone)]
    struct Block([u8; BLOCK]);

    impl Block {
        /// An old header, without magic.
        fn v7(path: &str, flag: u8, size: u64) -> Self {
            let block = Self([0; BLOCK]);
            let mut block = block.text(PATH, path.as_bytes());
            block.0[FLAG] = flag;
            block
                .octal(MODE, 0o644)
                .octal(USER, 1000)
                .octal(GROUP, 100)
                .octal(SIZE, size)
                .octal(MODIFIED, 1_700_000_000)
        }

        fn ustar(path: &str, flag: u8, size: u64) -> Self {
            let block = Self::v7(path, flag, size).text(MAGIC, b"ustar\x0000");
            block.text(USER_NAME, b"someone").text(GROUP_NAME, b"some")
        }

        fn gnu(path: &str, flag: u8, size: u64) -> Self {
            Self::ustar(path, flag, size).text(MAGIC, b"ustar  \0")
        }

        fn text(mut self, field: Range<usize>, text: &[u8]) -> Self {
            self.0[field.clone()].fill(0);
            self.0[field][..text.len()].copy_from_slice(text);
            self
        }

        fn octal(self, field: Range<usize>, number: u64) -> Self {
            let digits = field.len() - 1;
            self.text(field, format!("{number:0digits$o}").as_bytes())
        }

        /// In base 256.
        fn binary(mut self, field: Range<usize>, number: i128) -> Self {
            let bytes = number.to_be_bytes();
            let start = bytes.len() - field.len();
            self.0[field.clone()].copy_from_slice(&bytes[start..]);
            self.0[field.start] |= 0x80;
            self
        }

        fn sealed(self) -> Vec<u8> {
            let mut block = self.text(CHECKSUM, b"        ");
            let sum: u64 = block.0.iter().map(|byte| u64::from(*byte)).sum();
            block = block.text(CHECKSUM, format!("{sum:06o}\0 ").as_bytes());
            block.0.to_vec()
        }

        /// The header, data, and what fills them up.
        fn with(self, data: &[u8]) -> Vec<u8> {
            let mut bytes = self.sealed();
            bytes.extend_from_slice(data);
            bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
            bytes
        }
    }

    fn pax_record(key: &str, value: impl AsRef<[u8]>) -> Vec<u8> {
        let value = value.as_ref();
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
    }

    fn pax(flag: u8, records: &[(&str, &str)]) -> Vec<u8> {
        let records: Vec<_> = records
            .iter()
            .map(|(key, value)| pax_record(key, value))
            .collect();
        raw_pax(flag, &records.concat())
    }

    fn raw_pax(flag: u8, records: &[u8]) -> Vec<u8> {
        Block::ustar("PaxHeaders/x", flag, records.len() as u64).with(records)
    }

    fn long(flag: u8, text: &[u8]) -> Vec<u8> {
        let text = [text, b"\0"].concat();
        Block::gnu("././@LongLink", flag, text.len() as u64).with(&text)
    }

    fn end() -> Vec<u8> {
        vec![0; 2 * BLOCK]
    }

    /// A file as [`Block::ustar`] has it.
    fn file(path: &str, size: u64, offset: u64) -> Entry {
        Entry {
            path: path.into(),
            mode: 0o644,
            user: Owner {
                id: 1000,
                name: b"someone".to_vec(),
            },
            group: Owner {
                id: 100,
                name: b"some".to_vec(),
            },
            size,
            modified: seconds(1_700_000_000),
            offset,
            ..Entry::default()
        }
    }

    fn read_with(bytes: &[u8], piece: usize, limits: Limits) -> (Vec<Entry>, Result<(), TarError>) {
        let mut untar = Untar::new(limits);
        let mut entries = Vec::new();
        let pushed = bytes.chunks(piece).try_for_each(|piece| {
            untar.push(piece, |entry| {
                entries.push(entry);
                Ok::<_, TarError>(())
            })
        });
        (entries, pushed.and_then(|()| untar.finish()))
    }

    /// All entries, which are the same however the archive is fed.
    #[track_caller]
    fn read(bytes: &[u8]) -> (Vec<Entry>, Result<(), TarError>) {
        let whole = read_with(bytes, usize::MAX, Limits::default());
        for piece in [4_099, 512, 7, 1] {
            let pieces = read_with(bytes, piece, Limits::default());
            assert_eq!(pieces, whole, "pieces of {piece}");
        }
        whole
    }

    #[track_caller]
    fn entries(parts: &[Vec<u8>]) -> Vec<Entry> {
        let (entries, result) = read(&parts.concat());
        assert_eq!(result, Ok(()));
        assert!(entries.is_sorted_by(|one, next| one.offset < next.offset));
        entries
    }

    #[track_caller]
    fn entry(parts: &[Vec<u8>]) -> Entry {
        let mut entries = entries(parts);
        assert_eq!(entries.len(), 1);
        entries.remove(0)
    }

    #[track_caller]
    fn refusal(parts: &[Vec<u8>]) -> String {
        let error = read(&parts.concat()).1.unwrap_err();
        assert!(!error.is_limit());
        error.to_string()
    }

    #[track_caller]
    fn limit(parts: &[Vec<u8>], limits: Limits) -> String {
        let whole = read_with(&parts.concat(), usize::MAX, limits);
        assert_eq!(read_with(&parts.concat(), 7, limits), whole);
        let error = whole.1.unwrap_err();
        assert!(error.is_limit());
        error.to_string()
    }

    /// One of everything.
    fn sample() -> Vec<u8> {
        let sparse = Block::gnu("old", b'S', 3)
            .text(386..398, b"00000000000")
            .text(398..410, b"00000000001")
            .octal(REAL_SIZE, 5000)
            .text(MORE..MORE + 1, &[1]);
        // Two blocks.
        let pairs = (100..200).map(|place| format!("{place}0\n1\n"));
        let mut map = format!("100\n{}", pairs.collect::<String>()).into_bytes();
        map.resize(2 * BLOCK, 0);
        map.extend([b'd'; 100]);
        let mut more = vec![0; BLOCK];
        more[..24].copy_from_slice(b"00000000144\x0000000000002\0");
        [
            pax(b'g', &[("comment", "of all"), ("gname", "everybody")]),
            Block::ustar("./", b'5', 0).sealed(),
            Block::ustar("./some.txt", b'0', 4).with(b"text"),
            long(b'L', b"a/name/that/is/long"),
            long(b'K', b"/some.txt"),
            Block::gnu("a/name", b'1', 0).sealed(),
            [sparse.sealed(), more].concat(),
            [b"abc".to_vec(), vec![0; 509]].concat(),
            pax(
                b'x',
                &[
                    ("mtime", "1.5"),
                    ("GNU.sparse.major", "1"),
                    ("GNU.sparse.minor", "0"),
                    ("GNU.sparse.name", "new"),
                    ("GNU.sparse.realsize", "10000"),
                    ("SCHILY.xattr.user.key", "value"),
                ],
            ),
            Block::ustar("GNUSparseFile.1/new", b'0', 1124).with(&map),
            Block::ustar("null", b'3', 0)
                .octal(MAJOR, 1)
                .octal(MINOR, 3)
                .sealed(),
            end(),
        ]
        .concat()
    }

    #[test]
    fn reads_one_of_everything() {
        let paths: Vec<_> = entries(&[sample()])
            .into_iter()
            .map(|entry| (String::from_utf8(entry.path).unwrap(), entry.size))
            .collect();
        let expected = [
            ("", 0),
            ("some.txt", 4),
            ("a/name/that/is/long", 0),
            ("old", 5000),
            ("new", 10_000),
            ("null", 0),
        ];
        assert_eq!(paths, expected.map(|(path, size)| (path.into(), size)));
    }

    #[test]
    fn reads_an_old_header() {
        let block = Block::v7("dir/file", 0, 5);
        // What is there is not what ustar has there.
        let block = block.text(USER_NAME, b"no name").text(PREFIX, b"no prefix");
        let expected = Entry {
            user: Owner {
                id: 1000,
                name: Vec::new(),
            },
            group: Owner {
                id: 100,
                name: Vec::new(),
            },
            ..file("dir/file", 5, 512)
        };
        assert_eq!(entry(&[block.with(b"bytes"), end()]), expected);
        // The kind of the file, as systems have it, is no part of the mode.
        let block = Block::v7("dir/file", 0, 5).octal(MODE, 0o100_644);
        assert_eq!(entry(&[block.with(b"bytes"), end()]), expected);
        // Old writers end numbers with a space, or begin with spaces, or put nothing at all.
        let block = Block::v7("dir/file", 0, 5)
            .text(MODE, b"   644 \0")
            .text(SIZE, b"5          \0");
        assert_eq!(entry(&[block.with(b"bytes"), end()]), expected);
        let block = Block::v7("dir/file", 0, 0).text(SIZE, b"").text(MODE, b"");
        assert_eq!(entry(&[block.sealed()]).mode, 0);
    }

    #[test]
    fn takes_an_old_file_whose_path_ends_in_a_slash_for_a_directory() {
        let directory = entry(&[Block::v7("dir/", 0, 7).sealed(), end()]);
        assert_eq!((directory.kind, directory.size), (EntryKind::Directory, 0));
        assert_eq!(directory.path, b"dir");
        let named = entry(&[
            pax(b'x', &[("path", "other/")]),
            Block::ustar("dir", 0, 0).sealed(),
        ]);
        assert_eq!(named.kind, EntryKind::Directory);
        // With the flag that ustar has for files it is a file, for Go as well.
        let named = entry(&[Block::ustar("dir/", b'0', 3).with(b"abc")]);
        assert_eq!((named.kind, named.size), (EntryKind::File, 3));
    }

    #[test]
    fn joins_the_prefix_of_ustar_and_star() {
        let block = Block::ustar("file", b'0', 0).text(PREFIX, b"/a/directory");
        assert_eq!(
            entry(&[block.clone().sealed()]),
            file("a/directory/file", 0, 512)
        );
        let star = block
            .text(STAR_ACCESSED, b"00000000007 ")
            .text(STAR_CHANGED, b"00000000010 ")
            .text(TRAILER, b"tar\0");
        let expected = Entry {
            accessed: Some(seconds(7)),
            changed: Some(seconds(8)),
            ..file("a/directory/file", 0, 512)
        };
        assert_eq!(entry(&[star.sealed()]), expected);
        let full = Block::ustar(&"n".repeat(100), b'0', 0).text(PREFIX, &[b'p'; 155]);
        let path = [vec![b'p'; 155], b"/".to_vec(), vec![b'n'; 100]].concat();
        assert_eq!(entry(&[full.sealed()]).path, path);
    }

    #[test]
    fn reads_the_times_of_old_gnu_headers() {
        let block = Block::gnu("file", b'0', 0)
            .octal(ACCESSED, 9)
            .binary(CHANGED, -2);
        let expected = Entry {
            accessed: Some(seconds(9)),
            changed: Some(seconds(-2)),
            ..file("file", 0, 512)
        };
        assert_eq!(entry(&[block.sealed()]), expected);
    }

    #[test]
    fn reads_the_prefix_that_old_go_wrote_into_gnu_headers() {
        let block = Block::gnu("file", b'0', 0).text(PREFIX, b"a/directory");
        assert_eq!(entry(&[block.sealed()]), file("a/directory/file", 0, 512));
        let block = Block::gnu("file", b'0', 0).text(PREFIX, b"\xc3\xa4");
        assert_eq!(entry(&[block.text(CHANGED, b"x").sealed()]).path, b"file");
    }

    #[test]
    fn reads_long_names_and_links_of_gnu() {
        let name = [b'n'; 4096];
        let link = [b"../".to_vec(), vec![0xff; 300]].concat();
        let parts = [
            long(b'K', &link),
            long(b'L', &name),
            Block::gnu(&"n".repeat(100), b'2', 0).sealed(),
            Block::gnu("next", b'2', 0).text(LINK, b"./it").sealed(),
            end(),
        ];
        let entries = entries(&parts);
        assert_eq!(
            (&*entries[0].path, &entries[0].link),
            (name.as_slice(), &link)
        );
        assert_eq!(entries[0].kind, EntryKind::SymbolicLink);
        assert_eq!(
            (&*entries[1].path, &*entries[1].link),
            (b"next".as_slice(), b"./it".as_slice())
        );
    }

    #[test]
    fn reads_numbers_in_base_256() {
        let block = Block::gnu("file", b'0', 0)
            .binary(SIZE, 3)
            .binary(USER, 0xffff_ffff)
            .binary(GROUP, 1 << 54)
            .binary(MODIFIED, -62_135_596_800);
        let expected = Entry {
            modified: seconds(-62_135_596_800),
            user: Owner {
                id: 0xffff_ffff,
                name: b"someone".to_vec(),
            },
            group: Owner {
                id: 1 << 54,
                name: b"some".to_vec(),
            },
            ..file("file", 3, 512)
        };
        assert_eq!(entry(&[block.with(b"abc")]), expected);
        for time in [i64::MIN, i64::MAX] {
            let block = Block::gnu("file", b'0', 0).binary(MODIFIED, time.into());
            assert_eq!(entry(&[block.sealed()]).modified, seconds(time));
        }
        for time in [i128::from(i64::MIN) - 1, i128::from(i64::MAX) + 1] {
            let block = Block::gnu("file", b'0', 0).binary(MODIFIED, time);
            assert_eq!(
                refusal(&[block.sealed()]),
                "the modification time of a tar entry is not a number, or out of range, at byte 0"
            );
        }
    }

    #[test]
    fn reads_what_pax_says_of_the_next_entry_only() {
        let path = "\u{e4}".repeat(2048);
        let records = pax(
            b'x',
            &[
                ("path", &path),
                ("linkpath", "a\nlink=with/what is odd/.."),
                ("uid", "4294967296"),
                ("gid", "7"),
                ("uname", "some user"),
                ("gname", "a group"),
                ("mtime", "1700000000.123456789"),
                ("atime", "1700000001.5"),
                ("ctime", "1700000002"),
                ("comment", "nothing"),
            ],
        );
        let parts = [
            records,
            Block::ustar("short", b'2', 0).sealed(),
            Block::ustar("next", b'0', 0).sealed(),
            end(),
        ];
        let entries = entries(&parts);
        let expected = Entry {
            path: path.into_bytes(),
            kind: EntryKind::SymbolicLink,
            link: b"a\nlink=with/what is odd/..".to_vec(),
            user: Owner {
                id: 1 << 32,
                name: b"some user".to_vec(),
            },
            group: Owner {
                id: 7,
                name: b"a group".to_vec(),
            },
            modified: Moment {
                seconds: 1_700_000_000,
                nanoseconds: 123_456_789,
            },
            accessed: Some(Moment {
                seconds: 1_700_000_001,
                nanoseconds: 500_000_000,
            }),
            changed: Some(seconds(1_700_000_002)),
            ..file("", 0, entries[0].offset)
        };
        assert_eq!(entries[0], expected);
        assert_eq!(entries[1], file("next", 0, entries[0].offset + 512));
    }

    #[test]
    fn reads_times_to_the_nanosecond_and_rounds_down() {
        let cases = [
            ("0", 0, 0),
            ("12.", 12, 0),
            ("1.000000001", 1, 1),
            ("1.0000000019", 1, 1),
            ("-1", -1, 0),
            ("-1.0", -1, 0),
            ("-1.25", -2, 750_000_000),
            ("-0.5", -1, 500_000_000),
            ("-0.0000000001", -1, 999_999_999),
            ("-0.9999999999", -1, 0),
            ("-1.0000000010", -2, 999_999_999),
            ("9223372036854775807.9", i64::MAX, 900_000_000),
        ];
        for (text, seconds, nanoseconds) in cases {
            let moment = Moment {
                seconds,
                nanoseconds,
            };
            let entry = entry(&[
                pax(b'x', &[("mtime", text)]),
                Block::ustar("a", b'0', 0).sealed(),
            ]);
            assert_eq!(entry.modified, moment, "{text}");
        }
        for text in [
            "x",
            ".5",
            "1.x",
            "1.-5",
            "1 ",
            "-",
            "9223372036854775808",
            "-9223372036854775808.5",
        ] {
            assert_eq!(
                refusal(&[
                    pax(b'x', &[("mtime", text)]),
                    Block::ustar("a", b'0', 0).sealed()
                ]),
                "the modification time of a tar entry is not a number, or out of range, at byte 1024",
                "{text}"
            );
        }
    }

    #[test]
    fn reads_sizes_over_eight_gibibytes_in_bounded_memory() {
        let size = 9_u64 << 30;
        let comment = "c".repeat(100_000);
        let records = pax(b'x', &[("size", &size.to_string()), ("comment", &comment)]);
        let header = Block::ustar("large", b'0', 0).sealed();
        let binary = Block::gnu("large", b'0', 0)
            .binary(SIZE, size.into())
            .sealed();
        let before = records.len() as u64;
        let records = [records, header].concat();
        for (start, offset) in [(records, before + 512), (binary, 512)] {
            let mut untar = Untar::new(Limits::default());
            let mut entries = Vec::new();
            let mut push = |untar: &mut Untar, bytes: &[u8]| {
                let each = |entry| {
                    entries.push(entry);
                    Ok::<_, TarError>(())
                };
                untar.push(bytes, each).unwrap();
            };
            push(&mut untar, &start);
            let piece = vec![1; 1 << 20];
            for _ in 0..9 << 10 {
                push(&mut untar, &piece);
                assert!(untar.piece.capacity() <= 2 * BLOCK);
            }
            push(&mut untar, &Block::ustar("next", b'0', 0).sealed());
            assert_eq!(untar.finish(), Ok(()));
            let next = file("next", 0, offset + size + 512);
            assert_eq!(entries, [file("large", size, offset), next]);
        }
    }

    #[test]
    fn applies_global_headers_until_they_are_overridden() {
        let parts = [
            pax(
                b'g',
                &[
                    ("uid", "5"),
                    ("uname", "five"),
                    ("SCHILY.xattr.user.a", "1"),
                    ("SCHILY.xattr.user.b", "2"),
                ],
            ),
            Block::ustar("one", b'0', 0).sealed(),
            pax(
                b'x',
                &[
                    ("uid", "6"),
                    ("uname", ""),
                    ("SCHILY.xattr.user.a", ""),
                    ("SCHILY.xattr.user.c", ""),
                ],
            ),
            Block::ustar("two", b'0', 0).sealed(),
            pax(b'g', &[("uid", ""), ("uname", "seven")]),
            Block::ustar("three", b'0', 0).sealed(),
            end(),
        ];
        let entries = entries(&parts);
        let users: Vec<_> = entries
            .iter()
            .map(|entry| (entry.user.id, &*entry.user.name))
            .collect();
        // An empty value takes away the one of all; the header has its own.
        assert_eq!(
            users,
            [(5, b"five".as_slice()), (6, b"someone"), (1000, b"seven")]
        );
        let pair = |name: &str, value: &str| (name.into(), value.into());
        assert_eq!(
            entries[0].attributes,
            [pair("user.a", "1"), pair("user.b", "2")]
        );
        assert_eq!(
            entries[1].attributes,
            [pair("user.b", "2"), pair("user.c", "")]
        );
        assert_eq!(entries[2].attributes, entries[0].attributes);
    }

    /// A map is read block by block, and each block asks for the path.
    #[test]
    fn copies_no_path_to_look_at_it() {
        let mut untar = Untar::new(Limits::default());
        let header = Header(Block::v7("short", 0, 0).0);
        let long = vec![b'a'; MAX_META];
        assert!(matches!(untar.path(&header), Cow::Borrowed(b"short")));
        untar.next.records.0.insert(b"path".to_vec(), long.clone());
        assert!(matches!(untar.path(&header), Cow::Borrowed(path) if path == long));
        untar.next.path = long;
        assert!(matches!(untar.path(&header), Cow::Borrowed(path) if path == untar.next.path));
    }

    /// Global records are read again for each entry. Those that say nothing of it cost as much as
    /// those that do.
    #[test]
    fn refuses_global_headers_out_of_proportion() {
        let spellings: Vec<String> = (0..600_u32)
            .map(|number| {
                let bits = (0..10).map(|bit| if number >> bit & 1 == 0 { "a" } else { "%61" });
                format!("LIBARCHIVE.xattr.{}", bits.collect::<String>())
            })
            .collect();
        let spelled: Vec<_> = spellings.iter().map(|key| (&**key, "YQ")).collect();
        let map = "0,0,".repeat(6_000) + "0,0";
        for records in [
            spelled.as_slice(),
            &[("GNU.sparse.map", &map)],
            &[
                ("linkpath", &"./".repeat(8_000)),
                ("path", &"./".repeat(8_000)),
            ],
        ] {
            let mut parts = vec![pax(b'g', records)];
            parts.extend((0..5_000).map(|_| Block::ustar("a", b'0', 0).sealed()));
            let found = read_with(&parts.concat(), usize::MAX, Limits::default());
            let error = found.1.unwrap_err();
            assert!(error.is_limit(), "{error}");
            assert!(error.to_string().contains("global pax headers"), "{error}");
            assert!(found.0.len() < 2_500, "{} entries", found.0.len());
        }
        // As much as a label of SELinux, for any number of entries.
        let label = "system_u:object_r:container_file_t:s0:".to_owned() + &"c1,".repeat(100);
        let mut parts = vec![pax(b'g', &[("SCHILY.xattr.security.selinux", &label)])];
        parts.extend((0..100_000).map(|_| Block::ustar("a", b'0', 0).sealed()));
        let found = read_with(&parts.concat(), usize::MAX, Limits::default());
        assert_eq!((found.0.len(), found.1), (100_000, Ok(())));
    }

    #[test]
    fn reads_extended_attributes_of_star_and_libarchive() {
        let records = [
            pax_record("SCHILY.xattr.user.raw", [0, b'\n', b'=', 0xff]),
            pax_record("LIBARCHIVE.xattr.user.%c3%A4%3D", "AAECAw"),
            pax_record("LIBARCHIVE.xattr.security.capability", "AQAAAg=="),
            // The same twice, as libarchive writes it.
            pax_record("LIBARCHIVE.xattr.user.empty", ""),
            pax_record("SCHILY.xattr.user.empty", ""),
        ];
        let entry = entry(&[
            raw_pax(b'x', &records.concat()),
            Block::ustar("a", b'0', 0).sealed(),
        ]);
        let expected: [(&[u8], &[u8]); 4] = [
            (b"security.capability", &[1, 0, 0, 2]),
            (b"user.empty", b""),
            (b"user.raw", &[0, b'\n', b'=', 0xff]),
            ("user.\u{e4}=".as_bytes(), &[0, 1, 2, 3]),
        ];
        let expected = expected.map(|(name, value)| (name.to_vec(), value.to_vec()));
        assert_eq!(entry.attributes, expected);
        assert_eq!(
            refusal(&[
                pax(b'x', &[("LIBARCHIVE.xattr.a", "?")]),
                Block::ustar("a", b'0', 0).sealed()
            ]),
            "an extended attribute that is not base64, at byte 1024"
        );
    }

    #[test]
    fn reads_devices_and_pipes() {
        let numbered = |flag| Block::ustar("dev", flag, 0).octal(MAJOR, 8).octal(MINOR, 1);
        let records = pax(
            b'x',
            &[("SCHILY.devmajor", "4096"), ("SCHILY.devminor", "16777216")],
        );
        let parts = [
            numbered(b'3').sealed(),
            numbered(b'4').sealed(),
            numbered(b'6').sealed(),
            numbered(b'0').text(MAJOR, b"garbage").sealed(),
            records,
            numbered(b'4').sealed(),
            Block::v7("dev", b'3', 0).text(MAJOR, b"garbage").sealed(),
            end(),
        ];
        let devices: Vec<_> = entries(&parts)
            .iter()
            .map(|entry| (entry.kind, entry.device))
            .collect();
        let expected = [
            (EntryKind::CharacterDevice, (8, 1)),
            (EntryKind::BlockDevice, (8, 1)),
            (EntryKind::Pipe, (0, 0)),
            (EntryKind::File, (0, 0)),
            (EntryKind::BlockDevice, (4096, 1 << 24)),
            (EntryKind::CharacterDevice, (0, 0)),
        ];
        assert_eq!(devices, expected);
        assert_eq!(
            refusal(&[numbered(b'3').binary(MAJOR, 1 << 32).sealed()]),
            "the device number of a tar entry is not a number, or out of range, at byte 0"
        );
    }

    #[test]
    fn skips_data_with_files_only() {
        let sized = |flag| Block::ustar("some", flag, 1000).text(LINK, b"./to");
        for flag in [0, b'0', b'7', b'D', b'V'] {
            let data = sized(flag).with(&[b'x'; 1000]);
            let next = entries(&[data, Block::ustar("next", b'0', 0).sealed(), end()]);
            assert_eq!(
                next.last(),
                Some(&file("next", 0, 2048)),
                "{}",
                char::from(flag)
            );
        }
        for flag in b'1'..=b'6' {
            let parts = [
                pax(b'x', &[("size", "3")]),
                sized(flag).sealed(),
                Block::ustar("next", b'0', 0).sealed(),
            ];
            let entries = entries(&parts);
            assert_eq!(
                (entries[0].size, entries[1].offset),
                (0, 2048),
                "{}",
                char::from(flag)
            );
        }
    }

    #[test]
    fn reads_contiguous_files_and_dumped_directories_and_passes_over_labels() {
        let parts = [
            pax(b'x', &[("path", "label")]),
            Block::gnu("label", b'V', 0).sealed(),
            Block::ustar("file", b'7', 1).with(b"a"),
            Block::gnu("dir/", b'D', 7).with(b"Yfile\0\0"),
            end(),
        ];
        let entries = entries(&parts);
        assert_eq!(entries[0], file("file", 1, 2048));
        let directory = Entry {
            kind: EntryKind::Directory,
            ..file("dir", 0, 3072)
        };
        assert_eq!(entries[1..], [directory]);
    }

    #[test]
    fn refuses_other_volumes_and_unknown_flags() {
        assert_eq!(
            refusal(&[Block::gnu("rest", b'M', 0).sealed()]),
            "a tar entry that begins in another volume, at byte 0"
        );
        for (flag, text) in [
            (b'Z', "Z"),
            (b'N', "N"),
            (b'X', "X"),
            (b'8', "8"),
            (1, "\\x01"),
            (0xff, "\\xff"),
        ] {
            assert_eq!(
                refusal(&[
                    Block::ustar("a", b'0', 0).sealed(),
                    Block::ustar("some", flag, 0).sealed()
                ]),
                format!("unknown type flag '{text}' of a tar entry, at byte 512")
            );
        }
    }

    #[test]
    fn gives_paths_from_the_root_and_links_as_they_are() {
        let cases = [
            ("", ""),
            ("/", ""),
            (".", ""),
            ("./", ""),
            ("..", ""),
            ("../..", ""),
            ("/a", "a"),
            ("///a", "a"),
            ("./a", "a"),
            ("a//b/./c/", "a/b/c"),
            ("a/../b", "b"),
            ("a/b/..", "a"),
            ("../../etc/passwd", "etc/passwd"),
            ("a/../../b", "b"),
            ("a/.../..b/c..", "a/.../..b/c.."),
            ("./.wh..wh..opq", ".wh..wh..opq"),
        ];
        for (raw, path) in cases {
            let linked = |flag| {
                Block::ustar(raw, flag, 0)
                    .text(LINK, raw.as_bytes())
                    .sealed()
            };
            let entries = entries(&[linked(b'1'), linked(b'2'), linked(b'0')]);
            assert!(
                entries.iter().all(|entry| entry.path == path.as_bytes()),
                "{raw}"
            );
            let links: Vec<_> = entries.iter().map(|entry| &*entry.link).collect();
            assert_eq!(links, [path.as_bytes(), raw.as_bytes(), b""], "{raw}");
        }
        let long = "n".repeat(300);
        let entry = entry(&[
            pax(b'x', &[("path", &long)]),
            Block::ustar("n", b'0', 0).sealed(),
        ]);
        assert_eq!(entry.path, long.into_bytes());
    }

    #[test]
    fn accepts_sums_of_signed_bytes() {
        let mut block = Block::v7("\u{e4}", b'0', 0).text(CHECKSUM, b"        ");
        let sum: i64 = block
            .0
            .iter()
            .map(|byte| i64::from(byte.cast_signed()))
            .sum();
        block = block.text(CHECKSUM, format!("{sum:06o}\0 ").as_bytes());
        assert_eq!(entry(&[block.0.to_vec()]).path, "\u{e4}".as_bytes());
    }

    #[test]
    fn ends_where_go_does() {
        let one = Block::ustar("one", b'0', 1).with(b"a");
        let zero = vec![0; BLOCK];
        let expected = [file("one", 1, 512)];
        for rest in [
            vec![],
            zero.clone(),
            end(),
            [end(), b"whatever".to_vec()].concat(),
            [end(), one.clone()].concat(),
        ] {
            assert_eq!(entries(&[one.clone(), rest]), expected);
        }
        // What fills up the last block may be missing.
        assert_eq!(entries(&[one[..513].to_vec()]), expected);
        assert_eq!(entries(&[]), []);
        assert_eq!(entries(std::slice::from_ref(&zero)), []);
        assert_eq!(entries(&[end()]), []);
        assert_eq!(
            refusal(&[one.clone(), zero.clone(), one.clone()]),
            "a block of zeros in the middle of a tar archive, at byte 1536"
        );
        assert_eq!(
            refusal(&[one.clone(), zero.clone(), vec![0; 5]]),
            "a tar archive that ends too early, at byte 1541"
        );
        assert_eq!(
            refusal(&[one[..512].to_vec()]),
            "a tar archive that ends too early, at byte 512"
        );
        assert_eq!(
            refusal(&[one.clone(), pax(b'x', &[("path", "a")])]),
            "a tar archive that ends too early, at byte 2048"
        );
    }

    #[test]
    fn says_what_is_no_archive() {
        assert_eq!(refusal(&[vec![b'a'; 512]]), "not a tar archive, at byte 0");
        assert_eq!(
            refusal(&[b"a".to_vec()]),
            "a tar archive that ends too early, at byte 1"
        );
        assert_eq!(
            refusal(&[Block::ustar("a", b'0', 0).sealed(), vec![b'a'; 512]]),
            "a tar header has another checksum, at byte 512"
        );
        let block = Block::ustar("a", b'0', 0);
        let cases = [
            (SIZE, "size", b"8".as_slice()),
            (SIZE, "size", b"12 34"),
            (SIZE, "size", &[0xff; 12]),
            (MODE, "mode", b"rw-r--r-"),
            (USER, "user", b"-1"),
            (GROUP, "group", &[0xff; 8]),
            (MODIFIED, "modification time", b"1.5"),
        ];
        for (field, what, text) in cases {
            assert_eq!(
                refusal(&[block.clone().text(field, text).sealed()]),
                format!("the {what} of a tar entry is not a number, or out of range, at byte 0")
            );
        }
        assert_eq!(
            refusal(&[
                pax(b'x', &[("size", "18446744073709551615")]),
                block.clone().sealed()
            ]),
            "a tar entry that ends beyond any archive, at byte 1024"
        );
        // All of it would fit if the archive began with it.
        assert_eq!(
            refusal(&[
                pax(b'x', &[("size", "18446744073709550080")]),
                block.sealed()
            ]),
            "a tar entry that ends beyond any archive, at byte 1024"
        );
    }

    #[test]
    fn refuses_malformed_records() {
        let refuse = |records: &[u8]| {
            refusal(&[raw_pax(b'x', records), Block::ustar("a", b'0', 0).sealed()])
        };
        for records in [
            "x",
            "6 a=b",
            "6 a=bc",
            "7 a=b\n",
            "5 a=b\n",
            " 6 a=b\n",
            "6",
            "5 ab\n",
            "3 \n",
            "5 =a\n",
            "0 a=b\n",
            "-6 a=b\n",
            "6 a=b\n\0",
            "7 a\0=b\n",
            "18446744073709551616 a=b\n",
            "99999999 a=b\n",
        ] {
            assert_eq!(
                refuse(records.as_bytes()),
                "a pax header with a malformed record, at byte 512",
                "{records:?}"
            );
        }
        for (key, what) in TEXTS {
            let record = pax_record(std::str::from_utf8(key).unwrap(), b"a\0b");
            assert_eq!(
                refuse(&record),
                format!("a zero byte in the {what} of a pax header, at byte 512")
            );
        }
        for (key, what) in [("uid", "user"), ("gid", "group"), ("size", "size")] {
            for value in ["a", "-1", "1.0", "18446744073709551616"] {
                assert_eq!(
                    refusal(&[
                        pax(b'x', &[(key, value)]),
                        Block::ustar("a", b'0', 0).sealed()
                    ]),
                    format!(
                        "the {what} of a tar entry is not a number, or out of range, at byte 1024"
                    )
                );
            }
        }
    }

    #[test]
    fn keeps_to_its_limits() {
        let small = Limits {
            path_bytes: 10,
            entries: 2,
        };
        let one = Block::ustar("1234567890", b'0', 0)
            .text(LINK, b"1234567890")
            .sealed();
        assert_eq!(
            read_with(&[one.clone(), one.clone(), end()].concat(), 9, small).1,
            Ok(())
        );
        assert_eq!(
            limit(&[one.clone(), one.clone(), one.clone()], small),
            "more than 2 entries in a tar archive, at byte 1024"
        );
        let path = "a path of more than 10 bytes in a tar archive, at byte";
        let longer = "./123456789";
        assert_eq!(
            limit(&[Block::ustar(longer, b'0', 0).sealed()], small),
            format!("{path} 0")
        );
        assert_eq!(
            limit(&[pax(b'x', &[("path", longer)]), one.clone()], small),
            format!("{path} 1024")
        );
        assert_eq!(
            limit(&[long(b'L', longer.as_bytes()), one.clone()], small),
            format!("{path} 1024")
        );
        let link = Block::ustar("a", b'2', 0);
        assert_eq!(
            limit(
                &[link.clone().text(LINK, longer.as_bytes()).sealed()],
                small
            ),
            format!("{path} 0")
        );
        assert_eq!(
            limit(&[pax(b'x', &[("linkpath", longer)]), link.sealed()], small),
            format!("{path} 1024")
        );
        for flag in [b'x', b'g', b'L', b'K'] {
            assert_eq!(
                limit(
                    &[Block::gnu("a", flag, (1 << 20) + 1).sealed()],
                    Limits::default()
                ),
                "a header of more than 1048576 bytes before a tar entry, at byte 0"
            );
            assert_eq!(
                read(&Block::gnu("a", flag, 1 << 20).sealed())
                    .1
                    .unwrap_err()
                    .problem,
                Problem::End
            );
        }
        let mut globals = Vec::new();
        for key in ["SCHILY.xattr.a", "SCHILY.xattr.b"] {
            globals.push(pax(b'g', &[(key, &"v".repeat(20_000))]));
            globals.push(Block::ustar("a", b'0', 0).sealed());
        }
        assert_eq!(
            limit(&globals, Limits::default()),
            "global pax headers of more than 32768 bytes, at byte 22016"
        );
        globals[2] = pax(
            b'g',
            &[
                ("SCHILY.xattr.a", &"v".repeat(30_000)),
                ("comment", &"c".repeat(30_000)),
            ],
        );
        assert_eq!(entries(&globals).len(), 2);
    }

    /// A sparse file in the old format of GNU, with a map of these pairs.
    fn old_sparse(pairs: &[(u64, u64)], size: u64, data: &[u8]) -> Vec<u8> {
        let text =
            |(offset, length): &(u64, u64)| format!("{offset:011o}\0{length:011o}\0").into_bytes();
        let mut block = Block::gnu("sparse", b'S', data.len() as u64).octal(REAL_SIZE, size);
        let first: Vec<_> = pairs.iter().take(4).flat_map(text).collect();
        block = block.text(MAP, &first);
        let more: Vec<_> = pairs.iter().skip(4).collect();
        block.0[MORE] = u8::from(!more.is_empty());
        let mut bytes = block.sealed();
        let chunks: Vec<_> = more.chunks(21).collect();
        for (index, chunk) in chunks.iter().enumerate() {
            let mut more: Vec<_> = chunk.iter().copied().flat_map(text).collect();
            more.resize(BLOCK, 0);
            more[MORE_BLOCKS] = u8::from(index + 1 < chunks.len());
            bytes.extend(more);
        }
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        bytes
    }

    /// The same in version 0.0 of the new formats.
    fn sparse_0_0(pairs: &[(u64, u64)], size: u64, data: &[u8]) -> Vec<u8> {
        let mut records = pax_record("GNU.sparse.size", size.to_string());
        records.extend(pax_record("GNU.sparse.numblocks", pairs.len().to_string()));
        for (offset, length) in pairs {
            records.extend(pax_record("GNU.sparse.offset", offset.to_string()));
            records.extend(pax_record("GNU.sparse.numbytes", length.to_string()));
        }
        let block = Block::ustar("sparse", b'0', data.len() as u64);
        [raw_pax(b'x', &records), block.with(data)].concat()
    }

    /// In version 0.1.
    fn sparse_0_1(pairs: &[(u64, u64)], size: u64, data: &[u8]) -> Vec<u8> {
        let map: Vec<_> = pairs
            .iter()
            .map(|(offset, length)| format!("{offset},{length}"))
            .collect();
        let records = [
            ("GNU.sparse.size", &*size.to_string()),
            ("GNU.sparse.numblocks", &*pairs.len().to_string()),
            ("GNU.sparse.map", &*map.join(",")),
            ("GNU.sparse.name", "sparse"),
        ];
        let block = Block::ustar("GNUSparseFile.1/sparse", b'0', data.len() as u64);
        [pax(b'x', &records), block.with(data)].concat()
    }

    /// In version 1.0.
    fn sparse_1_0(pairs: &[(u64, u64)], size: u64, data: &[u8]) -> Vec<u8> {
        let mut map = format!("{}\n", pairs.len());
        for (offset, length) in pairs {
            map += &format!("{offset}\n{length}\n");
        }
        let mut bytes = map.into_bytes();
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        bytes.extend(data);
        let records = [
            ("GNU.sparse.major", "1"),
            ("GNU.sparse.minor", "0"),
            ("GNU.sparse.name", "sparse"),
            ("GNU.sparse.realsize", &*size.to_string()),
        ];
        let block = Block::ustar("GNUSparseFile.1/sparse", b'0', bytes.len() as u64);
        [pax(b'x', &records), block.with(&bytes)].concat()
    }

    type Pairs<'a> = &'a [(u64, u64)];
    type Writer = fn(Pairs<'_>, u64, &[u8]) -> Vec<u8>;
    const SPARSE: [Writer; 4] = [old_sparse, sparse_0_0, sparse_0_1, sparse_1_0];

    #[test]
    fn reads_sparse_files_in_all_formats() {
        let many: Vec<_> = (0..200).map(|index| (index * 1000, 5)).collect();
        // The last line of version 1.0 ends with a block, or just does not: 512 and 513 bytes.
        let offset = |index: u64, wide: u64| {
            if index < 72 - wide {
                1000 + 10 * index
            } else {
                10_000 + 10 * index
            }
        };
        let [full, over] = [5, 6].map(|wide| {
            (0..72)
                .map(|index| (offset(index, wide), 5))
                .collect::<Vec<_>>()
        });
        let cases: [(Pairs<'_>, u64); 8] = [
            (&full, 20_000),
            (&over, 20_000),
            (&[(0, 0)], 0),
            (&[(7000, 0)], 7000),
            (&[(0, 5), (512, 7), (519, 0), (600, 3)], 10_000),
            (
                &[(1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (1 << 33, 0)],
                1 << 33,
            ),
            (&many, 199_005),
            (&many[..25], 30_000),
        ];
        for (pairs, size) in cases {
            for (index, writer) in SPARSE.iter().enumerate() {
                let length: u64 = pairs.iter().map(|(_, length)| length).sum();
                let data = vec![b'd'; length as usize];
                let bytes = writer(pairs, size, &data);
                let next = Block::ustar("next", b'0', 0).sealed();
                let entries = entries(&[bytes.clone(), next, end()]);
                let segments = pairs.iter().filter(|(_, length)| *length > 0);
                let segments = segments.map(|(offset, length)| Segment {
                    offset: *offset,
                    length: *length,
                });
                let expected = Entry {
                    segments: Some(segments.collect()),
                    ..file(
                        "sparse",
                        size,
                        bytes.len() as u64 - length.next_multiple_of(512),
                    )
                };
                assert_eq!(entries[0], expected, "format {index} of {pairs:?}");
                assert_eq!(entries[1], file("next", 0, bytes.len() as u64 + 512));
            }
        }
    }

    #[test]
    fn refuses_sparse_files_that_contradict_themselves() {
        let order = "a sparse file whose map is out of order or goes beyond its end";
        let data = "a sparse file with more or less data than its map";
        let cases: [(Pairs<'_>, u64, usize, &str); 7] = [
            (&[(5, 1), (0, 1)], 100, 2, order),
            (&[(0, 5), (4, 1)], 100, 6, order),
            (&[(99, 2)], 100, 2, order),
            (&[(101, 0)], 100, 0, order),
            (&[(0, 5)], 100, 4, data),
            (&[(0, 5)], 100, 6, data),
            (&[(0, 0)], 100, 513, data),
        ];
        for (pairs, size, length, problem) in cases {
            for writer in SPARSE {
                let text = refusal(&[writer(pairs, size, &vec![1; length])]);
                assert!(
                    text.starts_with(&format!("{problem}, at byte ")),
                    "{text} of {pairs:?}"
                );
            }
        }
        // The end does not fit in a number.
        for writer in &SPARSE[1..] {
            let text = refusal(&[writer(&[(u64::MAX, 1)], u64::MAX, b"a")]);
            assert!(text.starts_with(order), "{text}");
        }
    }

    #[test]
    fn refuses_maps_that_are_none() {
        let malformed = "a sparse file with a malformed map";
        let file = Block::ustar("a", b'0', 0).sealed();
        for records in [
            [("GNU.sparse.numblocks", "2"), ("GNU.sparse.map", "0,1")],
            [("GNU.sparse.numblocks", "1"), ("GNU.sparse.map", "0,x")],
            [
                ("GNU.sparse.numblocks", "9223372036854775809"),
                ("GNU.sparse.map", "0,0"),
            ],
            [("GNU.sparse.major", "0"), ("GNU.sparse.map", "0,0,0")],
        ] {
            let minor = if records[0].0.ends_with("major") {
                "1"
            } else {
                ""
            };
            let records = [records[0], records[1], ("GNU.sparse.minor", minor)];
            assert_eq!(
                refusal(&[pax(b'x', &records), file.clone()]),
                format!("{malformed}, at byte 1024")
            );
        }
        for records in [
            [("GNU.sparse.numbytes", "0"), ("GNU.sparse.offset", "0")],
            [("GNU.sparse.offset", "0"), ("GNU.sparse.offset", "0")],
            [("GNU.sparse.offset", "0"), ("GNU.sparse.numbytes", "0,0")],
        ] {
            assert_eq!(
                refusal(&[pax(b'x', &records), file.clone()]),
                format!("{malformed}, at byte 512")
            );
        }
        let version = |major, minor| {
            pax(
                b'x',
                &[("GNU.sparse.major", major), ("GNU.sparse.minor", minor)],
            )
        };
        for text in ["x\n", "-1\n", "1\nx\n0\n", "1\n0\n-1\n", &"1".repeat(512)] {
            let block = Block::ustar("a", b'0', 512).with(text.as_bytes());
            assert_eq!(
                refusal(&[version("1", "0"), block]),
                format!("{malformed}, at byte 1536"),
                "{text}"
            );
        }
        let unknown = "a sparse file in an unknown format, at byte";
        for (major, minor) in [("1", "1"), ("2", "0"), ("0", "2"), ("1", "")] {
            assert_eq!(
                refusal(&[version(major, minor), file.clone()]),
                format!("{unknown} 1024")
            );
        }
        assert_eq!(
            refusal(&[Block::ustar("a", b'S', 0).sealed()]),
            format!("{unknown} 0")
        );
        for flag in [b'1', b'5', b'D'] {
            assert_eq!(
                refusal(&[version("1", "0"), Block::ustar("a", flag, 0).sealed()]),
                "a sparse map of what is no file, at byte 1024"
            );
        }
        // A map that is longer than the data it is a part of.
        let map = Block::ustar("a", b'0', 512).with(b"200\n");
        assert_eq!(
            refusal(&[version("1", "0"), map, file.clone()]),
            "a sparse file with more or less data than its map, at byte 2048"
        );
        let block = Block::gnu("a", b'S', 0).text(386..398, b"9");
        assert_eq!(
            refusal(&[block.sealed()]),
            format!("{malformed}, at byte 0")
        );
    }

    #[test]
    fn bounds_the_number_of_segments() {
        let text = "a sparse file of more than 65536 segments";
        let many: Vec<_> = (0..70_000).map(|index| (index, 1)).collect();
        let data = vec![1; many.len()];
        for writer in [old_sparse, sparse_0_1, sparse_1_0] {
            let bytes = writer(&many, 1 << 20, &data);
            let error = read_with(&bytes, usize::MAX, Limits::default())
                .1
                .unwrap_err();
            assert!(
                error.is_limit() && error.to_string().starts_with(text),
                "{error}"
            );
        }
        let many = &many[..40_000];
        for writer in [old_sparse, sparse_0_1, sparse_1_0] {
            let bytes = writer(many, 1 << 20, &data[..40_000]);
            let (entries, result) = read_with(&bytes, 4_099, Limits::default());
            assert_eq!(result, Ok(()));
            assert_eq!(entries[0].segments.as_ref().map(Vec::len), Some(40_000));
        }
        // A count that nothing follows is not taken at its word.
        let block = Block::ustar("a", b'0', 2 << 20)
            .with(&[b"18446744073709551615\n".as_slice(), &[b'\n'; 2 << 20]].concat());
        let records = pax(
            b'x',
            &[("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0")],
        );
        let error = read_with(&[records, block].concat(), 4_099, Limits::default())
            .1
            .unwrap_err();
        assert!(error.is_limit(), "{error}");
    }

    #[test]
    fn gives_of_an_archive_cut_anywhere_the_entries_before() {
        let bytes = sample();
        let (expected, _) = read(&bytes);
        let mut untar = Untar::new(Limits::default());
        let mut ends = 0;
        let mut entries = Vec::new();
        for at in 0..bytes.len() {
            // An entry is there as soon as its data begin.
            let complete = expected.iter().filter(|entry| entry.offset <= at as u64);
            assert_eq!(entries.len(), complete.count(), "cut at {at}");
            match untar.finish() {
                Ok(()) => ends += 1,
                Err(error) => assert_eq!(
                    error.to_string(),
                    format!("a tar archive that ends too early, at byte {at}")
                ),
            }
            let take = |entry| {
                entries.push(entry);
                Ok::<_, TarError>(())
            };
            untar.push(&bytes[at..=at], take).unwrap();
        }
        assert_eq!((entries, untar.finish()), (expected, Ok(())));
        // At the beginning, after each of three entries without data and a block of zeros, and in what fills up the data of
        // one header and three files.
        assert_eq!(
            ends,
            1 + 3 + 1 + (513 - 37) + (513 - 4) + (513 - 3) + (513 - 100)
        );
    }

    #[test]
    fn never_panics_on_flipped_bits() {
        let mut bytes = sample();
        let mut before = Untar::new(Limits::default());
        let none = |_| Ok::<_, TarError>(());
        for at in 0..bytes.len() {
            if at > 0 && at.is_multiple_of(BLOCK) {
                before.push(&bytes[at - BLOCK..at], none).unwrap();
            }
            let start = at - at % BLOCK;
            for bits in [1 << (at % 8), 0xff] {
                bytes[at] ^= bits;
                let mut untar = before.clone();
                let pushed = untar.push(&bytes[start..], none);
                let _ = pushed.and_then(|()| untar.finish());
                bytes[at] ^= bits;
            }
        }
    }

    #[test]
    fn goes_on_from_a_saved_state_at_every_byte() {
        let bytes = sample();
        let (expected, _) = read(&bytes);
        let mut first = Untar::new(Limits::default());
        let mut before = Vec::new();
        for at in 0..=bytes.len() {
            let mut saved = Vec::new();
            first.save(&mut saved);
            let end = saved.len();
            saved.push(9);
            let mut reader = wire::Reader(&saved);
            let mut second = Untar::load(&mut reader, Limits::default()).unwrap();
            assert_eq!(reader.0, [9]);
            assert_eq!(second.finish(), first.finish());
            let mut entries: Vec<Entry> = before.clone();
            let take = |entry| {
                entries.push(entry);
                Ok::<_, TarError>(())
            };
            second.push(&bytes[at..], take).unwrap();
            assert_eq!(
                (entries, second.finish()),
                (expected.clone(), Ok(())),
                "saved at {at}"
            );
            for cut in (0..end).skip(at % 64).step_by(64) {
                let reader = &mut wire::Reader(&saved[..cut]);
                assert!(Untar::load(reader, Limits::default()).is_none());
            }
            let take = |entry| {
                before.push(entry);
                Ok::<_, TarError>(())
            };
            first
                .push(&bytes[at..bytes.len().min(at + 1)], take)
                .unwrap();
        }
    }

    #[test]
    fn never_panics_on_another_state() {
        let bytes = sample();
        for at in (0..bytes.len()).step_by(1021) {
            let mut untar = Untar::new(Limits::default());
            untar.push(&bytes[..at], |_| Ok::<_, TarError>(())).unwrap();
            let mut saved = Vec::new();
            untar.save(&mut saved);
            for place in 0..saved.len() {
                for bit in [1 << (place % 8), 0xff] {
                    let mut other = saved.clone();
                    other[place] ^= bit;
                    let reader = &mut wire::Reader(&other);
                    if let Some(mut untar) = Untar::load(reader, Limits::default()) {
                        let pushed = untar.push(&bytes[at..], |_| Ok::<_, TarError>(()));
                        let _ = pushed.and_then(|()| untar.finish());
                    }
                }
            }
        }
    }

    #[test]
    fn hands_on_the_error_of_who_takes_entries() {
        #[derive(Debug, PartialEq)]
        struct Stop;
        impl From<TarError> for Stop {
            fn from(_: TarError) -> Self {
                Self
            }
        }
        let mut seen = 0;
        let result = Untar::new(Limits::default()).push(&sample(), |_| {
            seen += 1;
            if seen == 2 { Err(Stop) } else { Ok(()) }
        });
        assert_eq!((result, seen), (Err(Stop), 2));
    }

    #[cfg(not(target_arch = "wasm32"))]
    mod properties {
        use proptest::{collection::vec, prelude::*};

        use super::*;

        /// A path from the root, as entries have it.
        fn paths() -> impl Strategy<Value = Vec<u8>> {
            let component = prop_oneof![
                4 => vec(prop_oneof![1_u8..b'.', b'0'..=255], 1..20),
                1 => vec(prop_oneof![1_u8..b'.', b'0'..=255], 200..300),
            ];
            vec(component, 0..5).prop_map(|components| components.join(&b'/'))
        }

        fn moments() -> impl Strategy<Value = Moment> {
            let seconds = prop_oneof![
                0..1_i64 << 33,
                any::<i64>().prop_filter("one less is a number", |seconds| *seconds > i64::MIN)
            ];
            (seconds, prop_oneof![Just(0), 0..NANOSECONDS]).prop_map(|(seconds, nanoseconds)| {
                Moment {
                    seconds,
                    nanoseconds,
                }
            })
        }

        fn owners() -> impl Strategy<Value = Owner> {
            let id = prop_oneof![0..1_u64 << 21, 0..1_u64 << 56];
            (id, vec(1..=255_u8, 0..40)).prop_map(|(id, name)| Owner { id, name })
        }

        fn sparse() -> impl Strategy<Value = Option<(Vec<Segment>, u64)>> {
            let gaps = vec((0..5000_u64, 1..900_u64), 0..40);
            proptest::option::of((gaps, 0..5000_u64).prop_map(|(gaps, rest)| {
                let mut segments: Vec<Segment> = Vec::new();
                let mut end = 0;
                for (gap, length) in gaps {
                    segments.push(Segment {
                        offset: end + gap,
                        length,
                    });
                    end += gap + length;
                }
                (segments, end + rest)
            }))
        }

        prop_compose! {
            fn entries()(
                path in paths(),
                kind in 0..7_usize,
                mode in 0..0o10_000_u32,
                (user, group) in (owners(), owners()),
                size in 0..3000_u64,
                modified in moments(),
                accessed in proptest::option::of(moments()),
                changed in proptest::option::of(moments()),
                link in paths(),
                device in any::<(u32, u32)>(),
                attributes in proptest::collection::btree_map(vec(prop_oneof![1..b'=', b'>'..=255], 1..10), vec(any::<u8>(), 0..600), 0..3),
                sparse in sparse(),
            ) -> Entry {
                let kind = EntryKind::ALL[kind];
                let (segments, size) = match (kind, sparse) {
                    (EntryKind::File, Some((segments, size))) => (Some(segments), size),
                    (EntryKind::File, None) => (None, size),
                    _ => (None, 0),
                };
                let is_link = matches!(kind, EntryKind::HardLink | EntryKind::SymbolicLink);
                let is_device = matches!(kind, EntryKind::CharacterDevice | EntryKind::BlockDevice);
                Entry {
                    path,
                    kind,
                    mode,
                    user,
                    group,
                    size,
                    modified,
                    accessed,
                    changed,
                    link: if is_link { link } else { Vec::new() },
                    device: if is_device { device } else { (0, 0) },
                    attributes: attributes.into_iter().collect(),
                    omitted: 0,
                    offset: 0,
                    segments,
                }
            }
        }

        fn decimal(moment: Moment) -> String {
            match (moment.seconds, moment.nanoseconds) {
                (seconds, 0) => seconds.to_string(),
                (seconds @ ..0, nanoseconds) => {
                    let sign = if seconds == -1 { "-" } else { "" };
                    format!("{sign}{}.{:09}", seconds + 1, NANOSECONDS - nanoseconds)
                }
                (seconds, nanoseconds) => format!("{seconds}.{nanoseconds:09}"),
            }
        }

        /// Writes an entry, what fits into its header there, and notes where its data are. How is chosen by what is at hand.
        fn write(out: &mut Vec<u8>, entry: &mut Entry) {
            let flag = b"0123456"[EntryKind::ALL
                .iter()
                .position(|kind| *kind == entry.kind)
                .unwrap()];
            let pairs = entry.segments.as_ref().map(|segments| {
                segments
                    .iter()
                    .map(|segment| (segment.offset, segment.length))
                    .collect::<Vec<_>>()
            });
            let length = pairs
                .as_ref()
                .map_or(entry.size, |pairs| pairs.iter().map(|pair| pair.1).sum());
            let mut data = vec![b'd'; length as usize];
            let mut records = Vec::new();
            let mut record = |key: &str, value: &[u8]| records.extend(pax_record(key, value));
            let mut block = Block::ustar("", flag, 0).octal(MODE, entry.mode.into());
            if pairs.is_some() {
                record("GNU.sparse.name", &entry.path);
            } else if entry.path.len() <= 100 {
                block = block.text(PATH, &entry.path);
            } else if entry.mode.is_multiple_of(2) {
                out.extend(long(b'L', &entry.path));
            } else {
                record("path", &entry.path);
            }
            if entry.link.len() <= 100 {
                block = block.text(LINK, &entry.link);
            } else if entry.mode.is_multiple_of(2) {
                out.extend(long(b'K', &entry.link));
            } else {
                record("linkpath", &entry.link);
            }
            let owners = [
                (&entry.user, USER, USER_NAME, "uid", "uname"),
                (&entry.group, GROUP, GROUP_NAME, "gid", "gname"),
            ];
            for (owner, id, name, id_key, name_key) in owners {
                match owner.id {
                    0..0o10_000_000 => block = block.octal(id, owner.id),
                    _ if entry.mode.is_multiple_of(3) => block = block.binary(id, owner.id.into()),
                    _ => record(id_key, owner.id.to_string().as_bytes()),
                }
                if owner.name.len() <= 32 {
                    block = block.text(name, &owner.name);
                } else {
                    record(name_key, &owner.name);
                }
            }
            if entry.modified.nanoseconds == 0 && entry.mode.is_multiple_of(3) {
                block = block.binary(MODIFIED, entry.modified.seconds.into());
            } else {
                record("mtime", decimal(entry.modified).as_bytes());
            }
            for (key, moment) in [("atime", entry.accessed), ("ctime", entry.changed)] {
                if let Some(moment) = moment {
                    record(key, decimal(moment).as_bytes());
                }
            }
            let numbers = [
                (entry.device.0, MAJOR, "major"),
                (entry.device.1, MINOR, "minor"),
            ];
            for (number, field, key) in numbers {
                if number < 0o10_000_000 {
                    block = block.octal(field, number.into());
                } else {
                    record(&format!("SCHILY.dev{key}"), number.to_string().as_bytes());
                }
            }
            for (name, value) in &entry.attributes {
                records.extend(raw_record(
                    &[b"SCHILY.xattr.", name.as_slice()].concat(),
                    value,
                ));
            }
            if let Some(pairs) = pairs {
                records.extend(pax_record("GNU.sparse.realsize", entry.size.to_string()));
                records.extend(pax_record("GNU.sparse.major", "1"));
                records.extend(pax_record("GNU.sparse.minor", "0"));
                let lines = pairs
                    .iter()
                    .map(|(offset, length)| format!("{offset}\n{length}\n"));
                let map = format!("{}\n{}", pairs.len(), lines.collect::<String>());
                let mut map = map.into_bytes();
                map.resize(map.len().next_multiple_of(BLOCK), 0);
                data.splice(0..0, map);
            }
            if !records.is_empty() {
                out.extend(raw_pax(b'x', &records));
            }
            out.extend(block.octal(SIZE, data.len() as u64).with(&data));
            entry.offset = out.len() as u64 - length.next_multiple_of(512);
        }

        fn raw_record(key: &[u8], value: &[u8]) -> Vec<u8> {
            // The length does not depend on what the key is.
            let mut record = pax_record(&"k".repeat(key.len()), value);
            let start = record.iter().position(|byte| *byte == b' ').unwrap() + 1;
            record[start..start + key.len()].copy_from_slice(key);
            record
        }

        proptest! {
            #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

            #[test]
            fn entries_come_out_as_they_went_in(mut entries in vec(entries(), 0..8), piece in 1..2000_usize, at in any::<prop::sample::Index>()) {
                let mut bytes = Vec::new();
                for entry in &mut entries {
                    write(&mut bytes, entry);
                }
                bytes.extend(end());
                prop_assert_eq!(read_with(&bytes, piece, Limits::default()), (entries.clone(), Ok(())));
                let at = at.index(bytes.len());
                let (before, _) = read_with(&bytes[..at], piece, Limits::default());
                prop_assert!(entries.starts_with(&before));
            }

            #[test]
            fn whatever_is_read_it_is_read_in_the_same_way(bytes in vec(any::<u8>(), 0..2000), piece in 1..2000_usize) {
                let whole = read_with(&bytes, usize::MAX, Limits::default());
                prop_assert_eq!(read_with(&bytes, piece, Limits::default()), whole);
            }

            #[test]
            fn records_of_any_bytes_are_read_or_refused(records in vec(any::<u8>(), 0..600), text in "([0-9]{1,2} [a-zGNUSCHILY.]{0,9}=[0-9,.-]{0,9}\n){0,9}") {
                for records in [records.as_slice(), text.as_bytes()] {
                    let bytes = [raw_pax(b'x', records), Block::ustar("a", b'0', 0).sealed()].concat();
                    let _ = read_with(&bytes, usize::MAX, Limits::default());
                }
            }
        }
    }
}
