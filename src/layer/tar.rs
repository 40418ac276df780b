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

mod attributes;
mod error;
mod header;
mod limits;
mod overrides;
mod pax;
mod sparse;

pub use self::{error::TarError, limits::Limits};

use std::borrow::Cow;

use crate::layer::{
    entry::{Entry, EntryKind, Owner},
    tar::{
        error::Problem,
        header::{
            BLOCK, GROUP, GROUP_NAME, Header, LINK, MAJOR, MINOR, MODE, MODIFIED, MORE,
            MORE_BLOCKS, REAL_SIZE, SIZE, USER, USER_NAME, is_zero, padding, seconds, text,
        },
        limits::{APPLIED, EACH, MAX_GLOBALS, MAX_META},
        overrides::{Extension, Next, clean},
        pax::{Records, decimal},
        sparse::{Map, Sparse, count_lines, lines},
    },
    wire,
};

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

const MODE_BITS: u64 = 0o7777;

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "what is tested is small")]
mod tests;
