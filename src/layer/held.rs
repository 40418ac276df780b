//! A layer whose index is in memory, for programs that read a layer from their own disk.
//!
//! ```text
//! HeldLayer ── list a directory
//!           └─ open a file ──> Reading ──> Part of the layer, for the program to read
//!                                 ^                      │
//!                                 └──────── bytes ───────┘
//! ```

use std::{cell::RefCell, error, fmt, ops::Range, rc::Rc};

use futures_util::FutureExt as _;

use crate::layer::{
    entry::{Entry, EntryKind},
    file::File,
    index::{Index, IndexError, Known, Span, SpanStart},
    json,
    span::SpanError,
    tree::{self, Follow, Layers, Page},
};

/// A layer with its index in memory. The bytes of the layer stay elsewhere.
#[derive(Debug)]
pub struct HeldLayer {
    index: Index,
    bytes: Vec<u8>,
    /// The block of contents that was read last.
    block: RefCell<Option<(usize, Rc<[Entry]>)>>,
}

/// Why a layer can't be read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ReadError {
    /// The path leads to no file.
    Path(tree::Error<IndexError>),
    /// The path leads to something without bytes.
    Kind(String, &'static str),
    /// A read is limited to this many bytes.
    Length(u64),
    /// A read would need this many bytes of the layer in memory.
    Input(u64),
    /// The layer has changed since it was indexed.
    Span(SpanError),
    /// The parts are not those that were requested.
    Part,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(error) => error.fmt(f),
            Self::Kind(path, kind) => write!(f, "/{path} is a {kind} and has no content"),
            Self::Length(limit) => write!(f, "up to {limit} bytes of a file are read at once"),
            Self::Input(input) => write!(
                f,
                "{input} bytes of the layer would have to be read at once"
            ),
            Self::Span(error) => {
                write!(
                    f,
                    "{error}: the layer has changed since it was indexed, open it again"
                )
            }
            Self::Part => f.write_str("another part of the layer than was asked for"),
        }
    }
}

impl error::Error for ReadError {}

impl From<tree::Error<IndexError>> for ReadError {
    fn from(error: tree::Error<IndexError>) -> Self {
        Self::Path(error)
    }
}

/// Bytes to read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Part {
    /// The stored object that has them, or `None` for the layer itself.
    pub object: Option<u32>,
    /// Their range in it.
    pub bytes: Range<u64>,
}

/// A read of a range of a file.
#[derive(Debug)]
pub struct Reading {
    file: File,
    range: Range<u64>,
    archive: Range<u64>,
    /// The spans that are not inflated yet.
    spans: Range<usize>,
    bytes: Vec<u8>,
    inflated: u64,
}

impl HeldLayer {
    /// Parses an index.
    pub fn new(bytes: Vec<u8>) -> Result<Self, IndexError> {
        match Known::parse(&bytes)? {
            Known::Index(index) => Ok(Self {
                index,
                bytes,
                block: RefCell::default(),
            }),
            Known::Refused(_) => Err(IndexError::Corrupt),
        }
    }

    /// The index.
    pub const fn index(&self) -> &Index {
        &self.index
    }

    /// Unpacks a block of the table of contents, one of [`Index::blocks`].
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

    /// Lists a directory, like [`tree::list`].
    pub fn list(
        &self,
        path: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Page, tree::Error<IndexError>> {
        at_once(tree::list(self, path, after, limit))
    }

    /// Begins to read a range of the file at a path. It ends with the file.
    pub fn open(&self, path: &[u8], range: Range<u64>) -> Result<Reading, ReadError> {
        let found = at_once(tree::resolve(self, path, Follow::All))?;
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
        Ok(Reading {
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

impl Layers for HeldLayer {
    type Error = IndexError;

    fn count(&self) -> usize {
        1
    }

    async fn seek(&self, _: usize, from: &[u8]) -> Result<Option<Vec<Entry>>, IndexError> {
        self.index.seek(from, async |block| self.block(block)).await
    }
}

impl Reading {
    /// The size of the file.
    pub const fn size(&self) -> u64 {
        self.file.size
    }

    /// The number of inflated bytes of the archive.
    pub const fn inflated(&self) -> u64 {
        self.inflated
    }

    /// The next part to read. `None` if all parts are here.
    pub fn part(&self, layer: &HeldLayer) -> Result<Option<Part>, ReadError> {
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
        Ok(Some(Part { object, bytes }))
    }

    /// Takes the bytes of [`Reading::part`], and inflates them as far as needed.
    pub fn push(&mut self, layer: &HeldLayer, bytes: &[u8]) -> Result<(), ReadError> {
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

    /// Returns the bytes of the file.
    pub fn finish(self) -> Result<Vec<u8>, ReadError> {
        let woven = self.file.weave(&self.range, self.bytes);
        woven.ok_or(ReadError::Part)
    }

    fn span<'a>(&self, layer: &'a HeldLayer) -> Option<&'a Span> {
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
/// The most bytes of a layer in memory for one read. It is more than a span needs.
pub const MAX_INPUT: u64 = 64 << 20;
