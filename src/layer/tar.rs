//! Tar archives: bytes in, entries out, in all the dialects that layers come in.
//!
//! An archive is a sequence of blocks of 512 bytes: a header, its data padded with zeros, the next
//! header, and two blocks of zeros at the end. Headers follow POSIX.1-1988 (ustar), or the formats
//! before it (v7) and beside it (GNU, star):
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
//! Values that do not fit stand before the header, as if they were files: paths and links (GNU),
//! and records of keys and values (POSIX.1-2001, pax;
//! <https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html>):
//!
//! ```text
//! record = length SP key "=" value LF    length: decimal, with its own digits and the line feed
//! ```
//!
//! If readers differ, this one does as Go's `archive/tar`, because nearly all tools unpack layers
//! with it: nobody is shown another file than the one that runs. Global records are the exception:
//! Go ignores them, but POSIX, GNU tar and libarchive apply them.

mod attributes;
mod entry;
mod error;
mod header;
mod limits;
mod overrides;
mod path;
mod pax;
mod sparse;

pub use self::{error::TarError, limits::TarLimits};

use crate::layer::{
    entry::{Entry, EntryKind},
    tar::{
        error::TarProblem,
        header::{BLOCK, Header, MORE, SIZE, is_zero, padding},
        limits::MAX_META,
        overrides::{Extension, Overrides},
        sparse::{Map, Sparse},
    },
    wire,
};

/// Reads a tar archive from bytes in pieces of any size. After an error it must not be used again.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub struct Untar {
    limits: TarLimits,
    phase: TarPhase,
    /// Where the next piece begins.
    offset: u64,
    /// The number of bytes before the next piece: data and its padding.
    skip: u64,
    /// How many of those bytes are padding. An archive may end without them.
    padding: u64,
    /// The bytes of the next piece that have come.
    piece: Vec<u8>,
    /// The number of entries so far.
    entries: u64,
    /// The extensions that apply to the next entry.
    overrides: Overrides,
}

/// What the next piece is.
#[derive(Clone, Debug)]
enum TarPhase {
    /// A header, or the first block of zeros.
    Header,
    /// The second block of zeros.
    Zeros,
    /// The data of an extension of this many bytes.
    Extension(Extension, usize),
    /// A block of the map of a sparse file.
    Map(Box<Map>),
    /// Nothing: the archive has ended.
    End,
}

impl Untar {
    /// Begins at the beginning of an archive.
    pub fn new(limits: TarLimits) -> Self {
        Self {
            limits,
            phase: TarPhase::Header,
            offset: 0,
            skip: 0,
            padding: 0,
            piece: Vec::new(),
            entries: 0,
            overrides: Overrides::default(),
        }
    }

    /// Reads bytes. Hands over each entry as soon as all of its headers were read.
    pub fn push<E: From<TarError>>(
        &mut self,
        mut bytes: &[u8],
        mut each: impl FnMut(Entry) -> Result<(), E>,
    ) -> Result<(), E> {
        while !bytes.is_empty() && !matches!(self.phase, TarPhase::End) {
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
            // Free the memory of a long piece: long pieces are rare.
            piece.clear();
            piece.shrink_to(BLOCK);
            self.piece = piece;
            if let Some(entry) = entry {
                each(entry)?;
            }
        }
        Ok(())
    }

    /// Ends the archive. It may end without blocks of zeros.
    pub fn finish(&self) -> Result<(), TarError> {
        let nothing = self.skip <= self.padding && self.piece.is_empty();
        let whole = match &self.phase {
            TarPhase::Header => nothing && !self.overrides.wait_for_an_entry(),
            TarPhase::Zeros => nothing,
            TarPhase::Extension(..) | TarPhase::Map(_) => false,
            TarPhase::End => true,
        };
        if whole {
            return Ok(());
        }
        Err(TarError {
            offset: self.offset.saturating_add(self.piece.len() as u64),
            problem: TarProblem::End,
        })
    }

    /// Writes the state that [`Untar::load`] resumes from.
    pub(crate) fn save(&self, out: &mut Vec<u8>) {
        for number in [self.offset, self.skip, self.padding, self.entries] {
            wire::put(out, number);
        }
        match &self.phase {
            TarPhase::Header => out.push(0),
            TarPhase::Zeros => out.push(1),
            TarPhase::End => out.push(2),
            TarPhase::Map(map) => {
                out.push(3);
                out.extend_from_slice(&map.header.0);
                wire::put_bytes(out, &map.blocks);
            }
            TarPhase::Extension(extension, size) => {
                out.push(match extension {
                    Extension::Records => 4,
                    Extension::Globals => 5,
                    Extension::Path => 6,
                    Extension::Link => 7,
                });
                wire::put(out, *size as u64);
            }
        }
        wire::put_bytes(out, &self.piece);
        self.overrides.save(out);
    }

    /// Reads what [`Untar::save`] wrote.
    pub(crate) fn load(reader: &mut wire::WireReader<'_>, limits: TarLimits) -> Option<Self> {
        let mut untar = Self::new(limits);
        untar.offset = reader.number()?;
        untar.skip = reader.number()?;
        untar.padding = reader.number()?;
        untar.entries = reader.number()?;
        untar.phase = match reader.byte()? {
            0 => TarPhase::Header,
            1 => TarPhase::Zeros,
            2 => TarPhase::End,
            3 => {
                let header = Header(reader.array()?);
                TarPhase::Map(Box::new(Map::new(header, reader.bytes()?.to_vec())))
            }
            4 => TarPhase::Extension(Extension::Records, reader.length()?),
            5 => TarPhase::Extension(Extension::Globals, reader.length()?),
            6 => TarPhase::Extension(Extension::Path, reader.length()?),
            7 => TarPhase::Extension(Extension::Link, reader.length()?),
            _ => return None,
        };
        untar.piece = reader.bytes()?.to_vec();
        untar.overrides = Overrides::load(reader)?;
        (untar.wanted() <= MAX_META && untar.piece.len() <= untar.wanted()).then_some(untar)
    }

    /// The length of the next piece.
    const fn wanted(&self) -> usize {
        match &self.phase {
            TarPhase::Header | TarPhase::Zeros | TarPhase::Map(_) => BLOCK,
            TarPhase::Extension(_, size) => *size,
            TarPhase::End => 0,
        }
    }

    /// Reads a piece, and sets how many bytes to skip after it.
    fn read(&mut self, piece: &[u8]) -> Result<Option<Entry>, TarProblem> {
        match std::mem::replace(&mut self.phase, TarPhase::Header) {
            TarPhase::Header => self.header(piece),
            TarPhase::Zeros if is_zero(piece) => {
                self.phase = TarPhase::End;
                Ok(None)
            }
            TarPhase::Zeros => Err(TarProblem::Zeros),
            TarPhase::Extension(extension, _) => self.extension(extension, piece).map(|()| None),
            TarPhase::Map(map) => self.map(map, piece),
            TarPhase::End => Ok(None),
        }
    }

    fn header(&mut self, piece: &[u8]) -> Result<Option<Entry>, TarProblem> {
        if is_zero(piece) {
            self.phase = TarPhase::Zeros;
            return Ok(None);
        }
        let header = Header(piece.try_into().map_err(|_| TarProblem::End)?);
        if !header.is_sound() {
            return Err(match self.offset {
                0 => TarProblem::Magic,
                _ => TarProblem::Checksum,
            });
        }
        let extension = match header.flag() {
            b'x' => Extension::Records,
            b'g' => Extension::Globals,
            b'L' => Extension::Path,
            b'K' => Extension::Link,
            b'M' => return Err(TarProblem::Volume),
            b'V' => {
                let size = header.unsigned(SIZE, "size")?;
                self.overrides.end_entry();
                return self.pass(size).map(|()| None);
            }
            _ => return self.file(header),
        };
        let size = usize::try_from(header.unsigned(SIZE, "size")?)
            .ok()
            .filter(|size| *size <= MAX_META);
        self.phase = TarPhase::Extension(extension, size.ok_or(TarProblem::Meta)?);
        Ok(None)
    }

    fn extension(&mut self, extension: Extension, data: &[u8]) -> Result<(), TarProblem> {
        self.overrides.add(extension, data)?;
        self.padding = padding(data.len() as u64);
        self.skip = self.padding;
        Ok(())
    }

    /// Reads the header of an entry. If a map follows, the entry waits for it.
    fn file(&mut self, header: Header) -> Result<Option<Entry>, TarProblem> {
        let kind = self.overrides.kind(&header)?;
        let sparse = self.overrides.sparse(&header)?;
        if kind != EntryKind::File && sparse.is_some() {
            return Err(TarProblem::SparseKind);
        }
        let follows = match sparse {
            Some(Sparse::Old) => header.byte(MORE) != 0,
            Some(Sparse::Data) => true,
            Some(Sparse::Records) | None => false,
        };
        if !follows {
            return self.entry(&header, &[]).map(Some);
        }
        self.phase = TarPhase::Map(Box::new(Map::new(header, Vec::new())));
        Ok(None)
    }

    /// Reads a block of a map, and the entry if it was the last block.
    fn map(&mut self, mut map: Box<Map>, block: &[u8]) -> Result<Option<Entry>, TarProblem> {
        if !map.push(block, &self.overrides)? {
            return self.entry(&map.header, &map.blocks).map(Some);
        }
        self.phase = TarPhase::Map(map);
        Ok(None)
    }

    /// Makes an entry of its header, the blocks of its map, and the extensions before it.
    fn entry(&mut self, header: &Header, blocks: &[u8]) -> Result<Entry, TarProblem> {
        if self.entries >= self.limits.entries {
            return Err(TarProblem::Entries(self.limits.entries));
        }
        self.overrides.check_proportion(self.entries)?;
        let mut entry = self.overrides.describe(header, self.limits.path_bytes)?;
        let mut data = entry.size;
        if entry.kind != EntryKind::File {
            entry.size = 0;
        }
        entry.offset = self.offset.saturating_add(BLOCK as u64);
        if let Some(sparse) = self.overrides.sparse(header)? {
            if sparse == Sparse::Data {
                data = data.saturating_sub(blocks.len() as u64);
            }
            entry.size = self
                .overrides
                .real_size(header, sparse)?
                .unwrap_or(entry.size);
            let segments = self
                .overrides
                .segments(header, sparse, blocks, entry.size)?;
            // The segments are in order and within the file: their sum is no more than its size.
            if data != segments.iter().map(|segment| segment.length).sum::<u64>() {
                return Err(TarProblem::SparseData);
            }
            entry.segments = Some(segments);
        }
        self.pass(data)?;
        self.overrides.end_entry();
        self.entries += 1;
        Ok(entry)
    }

    /// Skips this many bytes of data and their padding after the current block.
    fn pass(&mut self, data: u64) -> Result<(), TarProblem> {
        self.padding = padding(data);
        self.skip = data.checked_add(self.padding).ok_or(TarProblem::Beyond)?;
        let end = self.offset.checked_add(BLOCK as u64);
        let end = end.and_then(|start| start.checked_add(self.skip));
        end.map(|_| ()).ok_or(TarProblem::Beyond)
    }

    const fn advance(&mut self, bytes: usize) {
        // Only a saved state can hold an offset that overflows.
        self.offset = self.offset.saturating_add(bytes as u64);
    }

    const fn fail(&self, problem: TarProblem) -> TarError {
        TarError {
            offset: self.offset,
            problem,
        }
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "what is tested is small")]
mod tests;
