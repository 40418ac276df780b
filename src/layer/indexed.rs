//! A layer whose index is in memory, for programs that read a layer from their own disk.
//!
//! ```text
//! IndexedLayer ── list a directory
//!              └─ open a file ──> FileRead ──> SourceRange, for the program to read
//!                                    ^                      │
//!                                    └──────── bytes ───────┘
//! ```

use std::{cell::RefCell, error, fmt, ops::Range, rc::Rc};

use futures_util::FutureExt as _;

use crate::layer::{
    entry::{Entry, EntryKind},
    file::File,
    index::{Index, IndexError, Span, SpanStart, StoredIndex},
    json,
    span::SpanError,
    tree::{self, ChildPage, FollowLinks, Layers},
};

/// A layer with its index in memory. The program reads the bytes of the layer itself, when asked
/// to.
#[derive(Debug)]
pub struct IndexedLayer {
    index: Index,
    bytes: Vec<u8>,
    /// The block of contents that was read last.
    block: RefCell<Option<(usize, Rc<[Entry]>)>>,
}

/// The reason why a range of a file can't be read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ReadError {
    /// The path leads to nothing, or the index is corrupt.
    Path(tree::Error<IndexError>),
    /// The path, as text, leads to an entry of this kind, which has no bytes.
    Kind(String, &'static str),
    /// The range is longer than one read may be: this many bytes.
    Length(u64),
    /// The read would need this many bytes of the layer in memory, more than [`MAX_INPUT`].
    Input(u64),
    /// The layer has changed since it was indexed.
    Span(SpanError),
    /// The pushed bytes are not those of [`FileRead::part`], or there are too few.
    Part,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(error) => error.fmt(f),
            Self::Kind(path, kind) => write!(f, "/{path} is a {kind} and has no content"),
            Self::Length(limit) => write!(f, "at most {limit} bytes of a file can be read at once"),
            Self::Input(input) => write!(
                f,
                "{input} bytes of the layer, too many, must be read at once"
            ),
            Self::Span(error) => {
                write!(
                    f,
                    "{error}: the layer has changed since it was indexed; open it again"
                )
            }
            Self::Part => f.write_str("not the requested part of the layer"),
        }
    }
}

impl error::Error for ReadError {}

impl From<tree::Error<IndexError>> for ReadError {
    fn from(error: tree::Error<IndexError>) -> Self {
        Self::Path(error)
    }
}

/// A range of bytes that the program reads next.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SourceRange {
    /// The number of the object of stored spans that has them, or `None` for the layer itself.
    pub object: Option<u32>,
    /// The range in that object or layer.
    pub bytes: Range<u64>,
}

/// A read of a range of a file, which asks for one part of the layer after the other.
#[derive(Debug)]
pub struct FileRead {
    file: File,
    range: Range<u64>,
    archive: Range<u64>,
    /// The spans that are not inflated yet.
    spans: Range<usize>,
    bytes: Vec<u8>,
    inflated: u64,
}

impl IndexedLayer {
    /// Parses an index, as [`Pass::finish`](crate::layer::pass::Pass::finish) returns it.
    ///
    /// # Errors
    ///
    /// [`IndexError`] if the bytes are of another version, or no index.
    pub fn new(bytes: Vec<u8>) -> Result<Self, IndexError> {
        match StoredIndex::parse(&bytes)? {
            StoredIndex::Index(index) => Ok(Self {
                index,
                bytes,
                block: RefCell::default(),
            }),
            StoredIndex::Refused(_) => Err(IndexError::Corrupt),
        }
    }

    /// The head of the index, with the sizes and spans of the layer.
    pub const fn index(&self) -> &Index {
        &self.index
    }

    /// Unpacks a block of the table of contents. `block` is a number below [`Index::blocks`]. The
    /// last block is cached.
    ///
    /// # Errors
    ///
    /// [`IndexError::Corrupt`] if there is no such block, or its checksum is wrong.
    pub fn block(&self, block: usize) -> Result<Rc<[Entry]>, IndexError> {
        if let Some((at, entries)) = &*self.block.borrow()
            && *at == block
        {
            return Ok(Rc::clone(entries));
        }
        let range = self.index.range_of(block).ok_or(IndexError::Corrupt)?;
        let bytes = self.slice(&range).ok_or(IndexError::Corrupt)?;
        let entries = Rc::from(self.index.read_block(block, bytes)?);
        self.block.replace(Some((block, Rc::clone(&entries))));
        Ok(entries)
    }

    /// Lists the directory at `path`: up to `limit` names that come after `after`, as
    /// [`tree::list`] does.
    ///
    /// # Errors
    ///
    /// [`tree::Error`] if there is no such directory, or the lookup exceeds its budget.
    pub fn list(
        &self,
        path: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<ChildPage, tree::Error<IndexError>> {
        at_once(tree::list(self, path, after, limit))
    }

    /// Begins to read a range of the file at `path`, through symbolic and hard links. The range is
    /// cut to the size of the file.
    ///
    /// # Errors
    ///
    /// - [`ReadError::Path`] if the path leads to nothing.
    /// - [`ReadError::Kind`] if it leads to no file.
    /// - [`ReadError::Length`] if the range has more than 32 MiB.
    pub fn open(&self, path: &[u8], range: Range<u64>) -> Result<FileRead, ReadError> {
        let found = at_once(tree::resolve(self, path, FollowLinks::All))?;
        let kind = |kind: EntryKind| ReadError::Kind(json::lossy(&found.path), kind.name());
        let sited = found.file().ok_or_else(|| kind(EntryKind::Directory))?;
        if sited.entry.kind != EntryKind::File {
            return Err(kind(sited.entry.kind));
        }
        let file = File::from(&sited.entry);
        let end = range.end.min(file.size);
        let range = range.start.min(end)..end;
        if range.end - range.start > MAX_READ {
            return Err(ReadError::Length(MAX_READ));
        }
        let archive = file.archive(&range);
        Ok(FileRead {
            spans: self.index.spans_of(&archive),
            file,
            range,
            archive,
            bytes: Vec::new(),
            inflated: 0,
        })
    }

    fn slice(&self, range: &Range<u64>) -> Option<&[u8]> {
        let (start, end) = (range.start.try_into().ok()?, range.end.try_into().ok()?);
        self.bytes.get::<Range<usize>>(start..end)
    }
}

impl Layers for IndexedLayer {
    type Error = IndexError;

    fn count(&self) -> usize {
        1
    }

    async fn seek(&self, _: usize, from: &[u8]) -> Result<Option<Vec<Entry>>, IndexError> {
        self.index.seek(from, async |block| self.block(block)).await
    }
}

impl FileRead {
    /// The size of the whole file, in bytes.
    pub const fn size(&self) -> u64 {
        self.file.size
    }

    /// The number of bytes of the archive that were decompressed for this read.
    pub const fn inflated(&self) -> u64 {
        self.inflated
    }

    /// The range to read next, and to pass to [`FileRead::push`]. `None` if all were pushed.
    ///
    /// # Errors
    ///
    /// [`ReadError::Input`] if the range has more than [`MAX_INPUT`] bytes.
    pub fn part(&self, layer: &IndexedLayer) -> Result<Option<SourceRange>, ReadError> {
        let Some(span) = self.span(layer) else {
            return Ok(None);
        };
        let length = span.input.end - span.input.start;
        if length > MAX_INPUT {
            return Err(ReadError::Input(length));
        }
        let object = match span.start {
            SpanStart::Stored(object) => Some(object),
            SpanStart::Plain | SpanStart::Member | SpanStart::Block { .. } | SpanStart::Frame => {
                None
            }
        };
        let bytes = span.input.clone();
        Ok(Some(SourceRange { object, bytes }))
    }

    /// Adds the bytes of [`FileRead::part`], and decompresses them as far as needed.
    ///
    /// # Errors
    ///
    /// - [`ReadError::Span`] if the bytes are not those that were indexed.
    /// - [`ReadError::Path`] if the index is corrupt.
    /// - [`ReadError::Part`] if no bytes were requested.
    pub fn push(&mut self, layer: &IndexedLayer, bytes: &[u8]) -> Result<(), ReadError> {
        let span = self.span(layer).ok_or(ReadError::Part)?;
        let end = self.archive.end.min(span.output.end) - span.output.start;
        let window = match span.window() {
            Some(window) => {
                let corrupt = tree::Error::Layers(IndexError::Corrupt);
                layer.slice(&window).ok_or(ReadError::Path(corrupt))?
            }
            None => &[],
        };
        let out = span.inflate(window, bytes, end).map_err(ReadError::Span)?;
        let skipped = self.archive.start.saturating_sub(span.output.start);
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
        self.bytes
            .extend_from_slice(out.get(skipped..).unwrap_or_default());
        self.inflated += out.len() as u64;
        self.spans.next();
        Ok(())
    }

    /// Returns the bytes of the range. Holes of a sparse file are zeros.
    ///
    /// # Errors
    ///
    /// [`ReadError::Part`] if not all parts were pushed.
    pub fn finish(self) -> Result<Vec<u8>, ReadError> {
        let woven = self.file.weave(&self.range, self.bytes);
        woven.ok_or(ReadError::Part)
    }

    fn span<'a>(&self, layer: &'a IndexedLayer) -> Option<&'a Span> {
        let next = self.spans.clone().next()?;
        layer.index.spans.get(next)
    }
}

/// The result of a future that never waits, because everything is in memory.
fn at_once<T>(
    future: impl Future<Output = Result<T, tree::Error<IndexError>>>,
) -> Result<T, tree::Error<IndexError>> {
    let result = future.now_or_never();
    result.unwrap_or(Err(tree::Error::Layers(IndexError::Corrupt)))
}

/// The most bytes of a file in one read.
const MAX_READ: u64 = 32 << 20;
/// The most bytes of a layer that one read needs in memory: 64 MiB, more than a span needs.
pub const MAX_INPUT: u64 = 64 << 20;
