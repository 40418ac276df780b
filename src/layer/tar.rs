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
//! nobody is shown another file than the one that runs.

use std::{collections::BTreeMap, fmt, ops::Range};

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use percent_encoding::percent_decode;

use crate::layer::{
    entry::{Entry, EntryKind, Moment, Owner, Segment},
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
    Meta,
    Globals,
    Segments,
}

impl TarError {
    /// Whether the archive may well be right, and asks for more than the limits grant.
    pub const fn is_limit(&self) -> bool {
        match self.problem {
            Problem::Entries(_)
            | Problem::Path(_)
            | Problem::Meta
            | Problem::Globals
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
            Problem::Meta => write!(
                f,
                "a header of more than {MAX_META} bytes before a tar entry"
            ),
            Problem::Globals => write!(f, "global pax headers of more than {MAX_GLOBALS} bytes"),
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
    #[cfg_attr(not(test), expect(dead_code, reason = "the index will save it"))]
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
    #[cfg_attr(not(test), expect(dead_code, reason = "the index will load it"))]
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
            Extension::Globals => self.globals.merge(Records::parse(data)?)?,
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
        let (kind, sparse) = (self.kind(header)?, self.sparse(header)?);
        let is_link = matches!(kind, EntryKind::HardLink | EntryKind::SymbolicLink);
        let is_device = matches!(kind, EntryKind::CharacterDevice | EntryKind::BlockDevice);
        let path = match sparse {
            Some(Sparse::Records | Sparse::Data) => self.record(b"GNU.sparse.name"),
            Some(Sparse::Old) | None => None,
        };
        let path = path.map_or_else(|| self.path(header), <[u8]>::to_vec);
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
        // In the archive are its low bits in octal, or what a system puts above them.
        let mode = header.number(MODE, "mode")?.cast_unsigned() & MODE_BITS;
        let mut entry = Entry {
            path: clean(&path),
            kind,
            mode: u32::try_from(mode).unwrap_or_default(),
            user: Owner {
                id: self.owner(header, USER, b"uid", "user")?,
                name: self.name(header, USER_NAME, b"uname"),
            },
            group: Owner {
                id: self.owner(header, GROUP, b"gid", "group")?,
                name: self.name(header, GROUP_NAME, b"gname"),
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
            attributes: self.attributes()?.into_iter().collect(),
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
                let expected =
                    count.map_or(Some(numbers().count() as u64), |count| count.checked_mul(2));
                if expected != Some(numbers().count() as u64) {
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
    fn path(&self, header: &Header) -> Vec<u8> {
        match self.next.path.as_slice() {
            b"" => self
                .record(b"path")
                .map_or_else(|| header.path(), <[u8]>::to_vec),
            path => path.to_vec(),
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

    fn name(&self, header: &Header, field: Range<usize>, key: &[u8]) -> Vec<u8> {
        let field = match header.dialect() {
            Dialect::V7 => &[],
            Dialect::Ustar | Dialect::Gnu | Dialect::Star => header.text(field),
        };
        self.record(key).unwrap_or(field).to_vec()
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

    /// The extended attributes, of the entry over those of all entries.
    fn attributes(&self) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Problem> {
        let (ours, globals) = (&self.next.records.0, &self.globals.0);
        let others = globals.iter().filter(|(key, _)| !ours.contains_key(*key));
        // An empty value takes away what there is. Where there is nothing, it is the value.
        let ours = ours
            .iter()
            .filter(|(key, value)| !value.is_empty() || !globals.contains_key(*key));
        let mut attributes = BTreeMap::new();
        for (key, value) in others.chain(ours) {
            if let Some(name) = key.strip_prefix(SCHILY) {
                attributes.insert(name.to_vec(), value.clone());
            } else if let Some(name) = key.strip_prefix(LIBARCHIVE) {
                // Libarchive writes each both ways, and this is the one that comes first.
                let value = BASE64.decode(value).map_err(|_| Problem::Attribute)?;
                let name = percent_decode(name).collect();
                attributes.insert(name, value);
            }
        }
        Ok(attributes)
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
    fn merge(&mut self, others: Self) -> Result<(), Problem> {
        for (key, value) in others.0 {
            if !value.is_empty() || self.0.remove(&key).is_none() {
                self.0.insert(key, value);
            }
        }
        // They are looked through for each entry.
        let size: usize = self
            .0
            .iter()
            .map(|(key, value)| key.len() + value.len())
            .sum();
        if size > MAX_GLOBALS {
            return Err(Problem::Globals);
        }
        Ok(())
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

    fn path(&self) -> Vec<u8> {
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
            b"" => self.text(PATH).to_vec(),
            prefix => [prefix, self.text(PATH)].join(&b'/'),
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
    block.iter().all(|byte| *byte == 0)
}

/// What is missing to whole blocks.
const fn padding(length: u64) -> u64 {
    length.wrapping_neg() % BLOCK as u64
}

const BLOCK: usize = 512;
/// The longest data of an extension, and the longest map: what Go takes.
const MAX_META: usize = 1 << 20;
/// The longest path twice, or a hundred times what is usual.
const MAX_GLOBALS: usize = 32 * 1024;
/// About what fits in a map of the longest.
const MAX_SEGMENTS: usize = 65_536;
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
