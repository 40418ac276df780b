//! A layer whose index is in memory, as a program has it that reads one layer from its own disk.
//!
//! ```text
//! HeldLayer ── list a directory
//!           └─ open a file ──> Reading ──> Part of the layer, to be read by whoever has it
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

/// A layer, of which only the index is in memory.
#[derive(Debug)]
pub struct HeldLayer {
    index: Index,
    bytes: Vec<u8>,
    /// The block of the table of contents that was read last.
    block: RefCell<Option<(usize, Rc<[Entry]>)>>,
}

/// Why something of a layer can't be read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ReadError {
    /// The path leads to no file.
    Path(tree::Error<IndexError>),
    /// What is there has no bytes.
    Kind(String, &'static str),
    /// More bytes were asked for at once than this.
    Length(u64),
    /// So much of the layer would have to be read into memory at once.
    Input(u64),
    /// The layer is not what it was when it was indexed.
    Span(SpanError),
    /// Other parts were brought than were asked for.
    Part,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(error) => error.fmt(f),
            Self::Kind(path, kind) => write!(f, "/{path} is a {kind}, which has no bytes"),
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

/// Bytes that are to be read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Part {
    /// The object that they are in, of those that the pass left; none for the layer itself.
    pub object: Option<u32>,
    /// Where they are in it.
    pub bytes: Range<u64>,
}

/// A range of a file that is being read.
#[derive(Debug)]
pub struct Reading {
    file: File,
    range: Range<u64>,
    archive: Range<u64>,
    /// The spans that are yet to be inflated.
    spans: Range<usize>,
    bytes: Vec<u8>,
    inflated: u64,
}

impl HeldLayer {
    /// Takes the bytes of an index.
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

    /// Reads a block of the table of contents, of [`Index::blocks`].
    pub fn block(&self, block: usize) -> Result<Rc<[Entry]>, IndexError> {
        if let Some((at, entries)) = &*self.block.borrow()
            && *at == block
        {
            return Ok(Rc::clone(entries));
        }
        let range = self.index.range_of(block).unwrap_or_default();
        let bytes = self.slice(&range).ok_or(IndexError::Corrupt)?;
        let entries = Rc::from(self.index.read_block(block, bytes)?);
        self.block.replace(Some((block, Rc::clone(&entries))));
        Ok(entries)
    }

    /// Lists what is in a directory, as [`tree::list`] does.
    pub fn list(
        &self,
        path: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Page, tree::Error<IndexError>> {
        at_once(tree::list(self, path, after, limit))
    }

    /// Begins to read a range of the file that a path leads to, as far as the file goes.
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

    /// The number of bytes of the archive that were inflated.
    pub const fn inflated(&self) -> u64 {
        self.inflated
    }

    /// What is to be read next; nothing where all is here.
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

    /// Takes the bytes of [`Reading::part`], and inflates them as far as they are asked for.
    pub fn push(&mut self, layer: &HeldLayer, bytes: &[u8]) -> Result<(), ReadError> {
        let span = self.span(layer).ok_or(ReadError::Part)?;
        let end = self.archive.end.min(span.output.end) - span.output.start;
        let window = span.window().unwrap_or_default();
        let window = layer.slice(&window).unwrap_or_default();
        let out = span.inflate(window, bytes, end).map_err(ReadError::Span)?;
        let skipped = self.archive.start.saturating_sub(span.output.start);
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
        self.bytes
            .extend_from_slice(out.get(skipped..).unwrap_or_default());
        self.inflated += out.len() as u64;
        self.spans.next();
        Ok(())
    }

    /// Ends with the bytes of the file.
    pub fn finish(self) -> Result<Vec<u8>, ReadError> {
        let woven = self.file.weave(&self.range, self.bytes);
        woven.ok_or(ReadError::Part)
    }

    fn span<'a>(&self, layer: &'a HeldLayer) -> Option<&'a Span> {
        let next = self.spans.clone().next()?;
        layer.index.spans.get(next)
    }
}

/// What comes of a future that nothing has to wait for: all that it reads is in memory.
fn at_once<T>(
    future: impl Future<Output = Result<T, tree::Error<IndexError>>>,
) -> Result<T, tree::Error<IndexError>> {
    let result = future.now_or_never();
    result.unwrap_or(Err(tree::Error::Layers(IndexError::Corrupt)))
}

/// The most bytes of a file that are read at once.
const MAX_READ: u64 = 32 << 20;
/// The most bytes of a layer that are read into memory at once: more than a span takes.
pub const MAX_INPUT: u64 = 64 << 20;
