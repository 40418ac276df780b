//! The one pass over a layer that leaves its index behind, in bounded memory.
//!
//! ```text
//!            ┌ gzip ┐            ┌ tar ──> table of contents
//! layer ──>  ┤ zstd ├─ archive ─>┤
//!            └──────┘            └ SHA-256 ──> diff ID
//!               └──> checkpoints, windows, spans to be stored
//! ```
//!
//! It can pause where reading can begin anew, be saved, and go on in another place. The index does not depend on how the bytes
//! were cut, nor on where the pass paused.

use std::{collections::VecDeque, fmt};

use miniz_oxide::deflate::compress_to_vec;
use sha2::{
    Digest as _, Sha256,
    digest::common::hazmat::{SerializableState as _, SerializedState},
};

use crate::layer::{
    contents::{ContentsError, Sorter},
    gzip::{Checkpoint, Gunzip, GzipError, Start},
    index::{Compression, Encoded, Parts, Refusal, Row},
    tar::{self, TarError, Untar},
    wire::{self, Reader},
    zstd::{Event, Unzstd, ZstdError},
};

/// How a layer is indexed, and how much it may ask for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Options {
    /// About how much output is between two places from which the layer can be read, in bytes.
    pub span: u64,
    /// The most entries.
    pub entries: u64,
    /// The largest table of contents, in bytes as it is kept, which is a third of the memory that it takes in the end.
    pub contents: u64,
    /// The longest path, in bytes.
    pub path_bytes: u64,
    /// The largest archive, in bytes.
    pub inflated: u64,
    /// How many times larger the archive may be than the layer, where it is larger than 64 MiB.
    pub ratio: u64,
    /// The largest window of zstd, in bytes: memory that a pass takes.
    pub window: u64,
}

impl Default for Options {
    /// More than any image asks for, and what a small machine can do.
    fn default() -> Self {
        Self {
            span: 1 << 20,
            entries: 2_000_000,
            contents: 12 << 20,
            path_bytes: 16 * 1024,
            inflated: 64 << 30,
            ratio: 250,
            window: 16 << 20,
        }
    }
}

/// Why a layer can't be indexed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PassError {
    /// It is not gzip.
    Gzip(GzipError),
    /// It is not zstd.
    Zstd(ZstdError),
    /// What is in it is not a tar archive.
    Tar(TarError),
    /// It is compressed by something else.
    Foreign(&'static str),
    /// The archive is larger than this.
    Inflated(u64),
    /// The table of contents is larger than this.
    Contents(u64),
    /// The archive is more times larger than the layer than this.
    Ratio(u64),
    /// It inflates to less than half of its size: no writer does that, and each byte of it takes tens of times as long.
    Waste,
    /// It has not as many bytes as it should.
    Size(u64),
    /// There is more of it than an index can say.
    Parts,
    /// Its table of contents is larger than that of any real layer. The reason says how.
    Proportion(String),
    /// Indexing it takes more memory than this.
    Memory(u64),
}

impl fmt::Display for PassError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gzip(error) => error.fmt(f),
            Self::Zstd(error) => error.fmt(f),
            Self::Tar(error) => write!(f, "{error} of what it inflates to"),
            Self::Foreign(what) => write!(f, "compressed by {what}; gzip and zstd are read"),
            Self::Inflated(limit) => write!(f, "it inflates to more than {limit} bytes"),
            Self::Contents(limit) => {
                write!(f, "its table of contents takes more than {limit} bytes")
            }
            Self::Ratio(limit) => write!(f, "it inflates to more than {limit} times its size"),
            Self::Waste => f.write_str("it inflates to less than half of its size"),
            Self::Size(size) => write!(f, "it ends after {size} bytes, which is not its size"),
            Self::Parts => f.write_str("it has more parts than an index can hold"),
            Self::Proportion(reason) => f.write_str(reason),
            Self::Memory(limit) => write!(f, "indexing it takes more than {limit} bytes of memory"),
        }
    }
}

impl std::error::Error for PassError {}

impl From<GzipError> for PassError {
    fn from(error: GzipError) -> Self {
        Self::Gzip(error)
    }
}

impl From<ZstdError> for PassError {
    fn from(error: ZstdError) -> Self {
        Self::Zstd(error)
    }
}

impl From<TarError> for PassError {
    fn from(error: TarError) -> Self {
        Self::Tar(error)
    }
}

impl From<ContentsError> for PassError {
    fn from(error: ContentsError) -> Self {
        match error {
            ContentsError::Broken => Self::Parts,
            ContentsError::Proportion | ContentsError::Path => Self::Proportion(error.to_string()),
        }
    }
}

impl PassError {
    /// What is kept of it, so that nobody tries again in vain: with other limits, somebody does.
    pub fn refusal(&self, options: &Options) -> Refusal {
        let (kind, is_limit) = match self {
            Self::Gzip(error) => ("gzip", error.is_limit()),
            Self::Zstd(error) => ("zstd", error.is_limit()),
            Self::Tar(error) => ("tar", error.is_limit()),
            Self::Foreign(_) => ("compression", false),
            Self::Inflated(_) => ("size", true),
            Self::Contents(_) => ("contents", true),
            Self::Ratio(_) => ("ratio", true),
            Self::Waste => ("waste", false),
            Self::Size(_) => ("length", false),
            Self::Parts => ("parts", true),
            Self::Proportion(_) => ("proportion", true),
            Self::Memory(_) => ("memory", true),
        };
        Refusal {
            reason: self.to_string(),
            kind: kind.to_owned(),
            limits: is_limit.then(|| options.limits()),
        }
    }
}

impl Options {
    /// What a program may do that has all of a machine for a layer of this many bytes.
    pub fn local(size: u64) -> Self {
        Self {
            // Windows and spans of a long layer take no more memory than those of a short one.
            span: (size / 2048).next_power_of_two().clamp(1 << 20, 8 << 20),
            contents: 48 << 20,
            entries: 4_000_000,
            inflated: 1 << 40,
            // As much as zstd's own program takes when nobody says.
            window: 128 << 20,
            ..Self::default()
        }
    }

    /// The limits as a refusal keeps them.
    pub fn limits(&self) -> Vec<u64> {
        vec![
            self.span,
            self.entries,
            self.contents,
            self.path_bytes,
            self.inflated,
            self.ratio,
            self.window,
        ]
    }
}

/// A pass over a layer.
#[derive(Debug)]
pub struct Pass {
    options: Options,
    /// The size that the layer should have.
    size: u64,
    source: Source,
    archive: Archive,
    spans: Spans,
    pauses: bool,
}

/// Where the archive comes from.
#[derive(Debug)]
enum Source {
    /// Too few bytes came to know.
    Unknown(Vec<u8>),
    /// The layer is the archive.
    Plain,
    Gzip(Box<Gunzip>),
    Zstd(Box<Frames>),
}

/// Where bytes of the archive go.
type Output<'a> = &'a mut dyn FnMut(&[u8]);

/// What is learnt of the archive.
#[derive(Debug)]
struct Archive {
    untar: Untar,
    contents: Sorter,
    /// None where the diff ID is left to the caller.
    sum: Option<Sha256>,
    length: u64,
    /// The most bytes that it may have, and why.
    limit: u64,
    beyond: PassError,
    contents_limit: u64,
}

/// What is known of the spans.
#[derive(Debug, Default)]
struct Spans {
    rows: Vec<Row>,
    windows: Vec<u8>,
    /// The object that is being filled, and those that are full.
    object: Vec<u8>,
    full: VecDeque<Vec<u8>>,
    objects: u32,
}

/// A pass over frames of zstd, of which long ones are stored in spans.
#[derive(Debug)]
struct Frames {
    decoder: Unzstd,
    /// The offsets of the last frame that has begun.
    frame: (u64, u64),
    /// The span that is not yet complete: where it began, and its bytes.
    start: Begun,
    bytes: Vec<u8>,
    /// Where the pass was saved: what comes out before is known already.
    known: u64,
}

/// Where a span of zstd has begun.
#[derive(Clone, Copy, Debug)]
enum Begun {
    /// With the frame at this offset.
    Frame(u64),
    /// In the middle of one.
    Middle,
}

impl Pass {
    /// Begins a pass over a layer of this many bytes.
    pub fn new(size: u64, options: Options) -> Self {
        let ratio = size.saturating_mul(options.ratio).max(FREE);
        let (limit, beyond) = if ratio < options.inflated {
            (ratio, PassError::Ratio(options.ratio))
        } else {
            (options.inflated, PassError::Inflated(options.inflated))
        };
        Self {
            size,
            source: Source::Unknown(Vec::new()),
            archive: Archive {
                untar: Untar::new(options.tar()),
                contents: Sorter::default(),
                sum: Some(Sha256::new()),
                length: 0,
                limit,
                beyond,
                contents_limit: options.contents,
            },
            spans: Spans::default(),
            pauses: false,
            options,
        }
    }

    /// Begins a pass that leaves the diff ID to the caller, who may have a faster SHA-256 at hand: of what [`Pass::push_to`] and
    /// [`Pass::end_to`] hand over, for [`Pass::finish_as`]. It does not pause, for half a sum can't be saved with it.
    pub fn without_diff_id(size: u64, options: Options) -> Self {
        let mut pass = Self::new(size, options);
        pass.archive.sum = None;
        pass
    }

    /// The number of bytes of the layer that were read, and of the archive that came out.
    pub fn position(&self) -> (u64, u64) {
        let read = match &self.source {
            Source::Unknown(read) => read.len() as u64,
            Source::Plain => self.archive.length,
            Source::Gzip(gunzip) => gunzip.position().0,
            Source::Zstd(frames) => frames.decoder.position().0,
        };
        (read, self.archive.length)
    }

    /// Reads the next bytes of the layer.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), PassError> {
        self.push_to(bytes, |_| ())
    }

    /// Reads the next bytes of the layer, and hands over those of the archive in pieces.
    pub fn push_to(
        &mut self,
        bytes: &[u8],
        mut output: impl FnMut(&[u8]),
    ) -> Result<(), PassError> {
        let gathered;
        let mut bytes = bytes;
        if let Source::Unknown(read) = &mut self.source {
            read.extend_from_slice(bytes);
            if read.len() < LONGEST_MAGIC {
                return Ok(());
            }
            gathered = std::mem::take(read);
            bytes = &gathered;
            self.recognise(bytes)?;
        }
        self.decode(bytes, &mut output)?;
        self.check()
    }

    fn decode(&mut self, bytes: &[u8], output: Output<'_>) -> Result<(), PassError> {
        let (archive, spans) = (&mut self.archive, &mut self.spans);
        match &mut self.source {
            Source::Unknown(_) => Ok(()),
            Source::Plain => {
                spans.plain(archive.length, bytes, self.options.span);
                archive.take(bytes, output)
            }
            Source::Gzip(gunzip) => {
                gunzip.push(bytes, |bytes| archive.take(bytes, output))?;
                spans.checkpoints(gunzip)
            }
            Source::Zstd(frames) => frames.push(bytes, archive, spans, self.options.span, output),
        }
    }

    /// Has the pass pause at the next place from which it can go on elsewhere.
    pub fn pause(&mut self) {
        if self.archive.sum.is_none() {
            return;
        }
        self.pauses = true;
        if let Source::Gzip(gunzip) = &mut self.source {
            gunzip.pause();
        }
    }

    /// Whether it reads again what was read before it was saved, to come to where it was.
    pub const fn repeats(&self) -> bool {
        match &self.source {
            Source::Unknown(_) | Source::Plain | Source::Gzip(_) => false,
            Source::Zstd(frames) => frames.decoder.position().1 < frames.known,
        }
    }

    /// Whether it has paused. What was pushed beyond [`Pass::position`] was not read, and is to be pushed again.
    pub fn is_paused(&self) -> bool {
        match &self.source {
            Source::Unknown(_) => false,
            Source::Plain => self.pauses,
            // It has to come to where it was saved before it can go further.
            Source::Zstd(frames) => self.pauses && self.archive.length > frames.known,
            Source::Gzip(gunzip) => gunzip.is_paused(),
        }
    }

    /// About the memory that it takes, and that ending it will take.
    pub fn memory(&self) -> u64 {
        let spans = &self.spans;
        let source = match &self.source {
            Source::Unknown(_) | Source::Plain => 0,
            Source::Gzip(_) => GZIP,
            Source::Zstd(frames) => {
                let window = usize::try_from(frames.decoder.held()).unwrap_or(usize::MAX);
                2 * window + frames.bytes.capacity()
            }
        };
        let full: usize = spans.full.iter().map(Vec::len).sum();
        let rows = 2 * spans.rows.capacity() * size_of::<Row>();
        let all = source
            + self.archive.contents.memory()
            + spans.windows.capacity()
            + rows
            + spans.object.capacity()
            + full;
        all as u64
    }

    /// The work so far that the length of the archive does not show, in bytes of packed entries.
    /// Packing a byte takes as long as several bytes of the archive. A block of no bytes takes as
    /// long as one of a kilobyte, so blocks count as well: those since the pass was loaded.
    pub const fn work(&self) -> u64 {
        let blocks = match &self.source {
            Source::Unknown(_) | Source::Plain => 0,
            Source::Gzip(gunzip) => gunzip.blocks(),
            Source::Zstd(frames) => frames.decoder.units(),
        };
        let blocks = blocks.saturating_mul(BLOCK_WORK);
        self.archive.contents.work().saturating_add(blocks)
    }

    /// The next object of spans that is to be stored, in their order: its number and its bytes. Little may inflate to several.
    pub fn object(&mut self) -> Option<(u32, Vec<u8>)> {
        let waiting = u32::try_from(self.spans.full.len()).ok()?;
        let bytes = self.spans.full.pop_front()?;
        Some((self.spans.objects - waiting, bytes))
    }

    /// Ends the pass, and answers the index; with it, there may be a last object to be stored. A pass that pauses here
    /// answers none.
    pub fn finish(&mut self) -> Result<Option<Vec<u8>>, PassError> {
        Ok(self.finish_in_pieces()?.map(Encoded::into_bytes))
    }

    /// The same, and copies nothing of the index, which may be large.
    pub fn finish_in_pieces(&mut self) -> Result<Option<Encoded>, PassError> {
        self.end_to(|_| ())?;
        // All others have come to the end wherever they pause.
        if let Source::Gzip(gunzip) = &self.source
            && gunzip.is_paused()
        {
            return Ok(None);
        }
        let sum = self.archive.sum.take().unwrap_or_default();
        self.encode(sum.finalize().into()).map(Some)
    }

    /// Says that there are no more bytes, and hands over those of the archive that were held back.
    pub fn end_to(&mut self, mut output: impl FnMut(&[u8])) -> Result<(), PassError> {
        if let Source::Unknown(read) = &mut self.source {
            let read = std::mem::take(read);
            self.recognise(&read)?;
            self.decode(&read, &mut output)?;
        }
        let (archive, spans) = (&mut self.archive, &mut self.spans);
        match &mut self.source {
            Source::Unknown(_) | Source::Plain => {}
            Source::Gzip(gunzip) => {
                gunzip.finish(|bytes| archive.take(bytes, &mut output))?;
                spans.checkpoints(gunzip)?;
            }
            Source::Zstd(frames) => frames.finish(spans)?,
        }
        self.check()
    }

    /// Ends the pass as [`Pass::finish`] does, after [`Pass::end_to`], with the diff ID that the caller has.
    pub fn finish_as(&mut self, diff_id: [u8; 32]) -> Result<Vec<u8>, PassError> {
        self.encode(diff_id).map(Encoded::into_bytes)
    }

    fn encode(&mut self, diff_id: [u8; 32]) -> Result<Encoded, PassError> {
        let compression = match &self.source {
            Source::Unknown(_) | Source::Plain => Compression::None,
            Source::Gzip(_) => Compression::Gzip,
            Source::Zstd(_) => Compression::Zstd,
        };
        self.archive.untar.finish()?;
        let (read, length) = self.position();
        if read != self.size {
            return Err(PassError::Size(read));
        }
        self.spans.end(length);
        self.spans.end_object();
        let entries = self.archive.contents.entries();
        let contents = std::mem::take(&mut self.archive.contents);
        let (blocks, contents) = contents.finish()?;
        let parts = Parts {
            compression,
            span: self.options.span,
            compressed: self.size,
            inflated: length,
            entries,
            diff_id,
            rows: std::mem::take(&mut self.spans.rows),
            objects: self.spans.objects,
            blocks,
            contents,
            windows: std::mem::take(&mut self.spans.windows),
        };
        parts.encode().ok_or(PassError::Parts)
    }

    /// Writes all that it takes to go on, where the pass has paused. Objects that are full are to be stored before.
    pub fn save(&mut self) -> Vec<u8> {
        self.save_in_pieces().concat()
    }

    /// The same in pieces, and takes them out instead of copying them: after this, it is of no use any more.
    pub fn save_in_pieces(&mut self) -> Vec<Vec<u8>> {
        let mut out = vec![SAVED];
        for limit in self.options.limits() {
            wire::put(&mut out, limit);
        }
        wire::put(&mut out, self.size);
        match &self.source {
            Source::Unknown(read) => {
                out.push(0);
                wire::put_bytes(&mut out, read);
            }
            Source::Plain => out.push(1),
            Source::Gzip(gunzip) => {
                out.push(2);
                gunzip.save(&mut out);
            }
            Source::Zstd(frames) => {
                out.push(3);
                wire::put(&mut out, frames.frame.0);
                wire::put(&mut out, frames.frame.1);
                match frames.start {
                    Begun::Frame(input) => {
                        out.push(0);
                        wire::put(&mut out, input);
                    }
                    Begun::Middle => out.push(1),
                }
            }
        }
        wire::put(&mut out, self.archive.length);
        out.extend(self.archive.sum.clone().unwrap_or_default().serialize());
        self.archive.untar.save(&mut out);
        let mut pieces = self.archive.contents.save(&mut out);
        wire::put(&mut out, self.spans.rows.len() as u64);
        for row in &self.spans.rows {
            row.write(&mut out);
        }
        wire::put(&mut out, self.spans.objects.into());
        // Large parts come last, so that loading one takes little more than its own memory.
        let bytes = match &mut self.source {
            Source::Zstd(frames) => std::mem::take(&mut frames.bytes),
            Source::Unknown(_) | Source::Plain | Source::Gzip(_) => Vec::new(),
        };
        let large = [
            std::mem::take(&mut self.spans.windows),
            std::mem::take(&mut self.spans.object),
            bytes,
        ];
        for piece in &large {
            wire::put(&mut out, piece.len() as u64);
        }
        pieces.extend(large);
        pieces.insert(0, out);
        pieces.retain(|piece| !piece.is_empty());
        pieces
    }

    /// Goes on with what was saved: with the byte at [`Pass::position`]. `None` where it was not saved so, or with other
    /// options; then the pass begins anew.
    pub fn load(bytes: &[u8], size: u64, options: &Options) -> Option<Self> {
        Self::load_from(bytes.to_vec(), size, options)
    }

    /// The same, of bytes that are not needed any more: each part is given back when it is copied.
    pub fn load_from(mut bytes: Vec<u8>, size: u64, options: &Options) -> Option<Self> {
        let (mut pass, lengths, large) = Self::load_state(&bytes, size, options)?;
        let mut last = |length: usize| {
            let rest = bytes.len().checked_sub(length)?;
            let last = bytes.split_off(rest);
            if bytes.capacity() > rest + GIVEN_BACK {
                bytes.shrink_to_fit();
            }
            Some(last)
        };
        let [windows, object, begun] = large;
        let begun = last(begun)?;
        if let Source::Zstd(frames) = &mut pass.source {
            frames.bytes = begun;
        }
        pass.spans.object = last(object)?;
        // It is the largest: by pieces.
        let mut pieces = Vec::new();
        let mut left = windows;
        while left > 0 {
            let piece = match left % GIVEN_BACK {
                0 => GIVEN_BACK,
                rest => rest,
            };
            pieces.push(last(piece)?);
            left -= piece;
        }
        pass.spans.windows.reserve_exact(windows);
        while let Some(piece) = pieces.pop() {
            pass.spans.windows.extend(piece);
        }
        let blocks = pass.archive.contents.blocks_from_last();
        for (block, length) in blocks.zip(lengths.iter().rev()) {
            *block = last(*length)?;
        }
        pass.is_consistent().then_some(pass)
    }

    /// Reads what was saved, but for what is large. Answers the lengths of the parts that come after it, blocks first.
    fn load_state(
        bytes: &[u8],
        size: u64,
        options: &Options,
    ) -> Option<(Self, Vec<usize>, [usize; 3])> {
        let mut pass = Self::new(size, options.clone());
        let mut reader = Reader(bytes);
        let reader = &mut reader;
        if reader.byte()? != SAVED {
            return None;
        }
        for limit in options.limits().into_iter().chain([size]) {
            if reader.number()? != limit {
                return None;
            }
        }
        pass.source = match reader.byte()? {
            0 => Source::Unknown(reader.bytes()?.to_vec()),
            1 => Source::Plain,
            2 => Source::Gzip(Box::new(Gunzip::load(reader)?)),
            3 => {
                let frame = (reader.number()?, reader.number()?);
                let start = match reader.byte()? {
                    0 => Begun::Frame(reader.number()?),
                    1 => Begun::Middle,
                    _ => return None,
                };
                Source::Zstd(Box::new(Frames {
                    decoder: Unzstd::at(frame.0, frame.1, options.window),
                    frame,
                    start,
                    bytes: Vec::new(),
                    known: 0,
                }))
            }
            _ => return None,
        };
        pass.archive.length = reader.number()?;
        if let Source::Zstd(frames) = &mut pass.source {
            frames.known = pass.archive.length;
        }
        let mut state = SerializedState::<Sha256>::default();
        let length = state.len();
        state.copy_from_slice(reader.take(length)?);
        pass.archive.sum = Some(Sha256::deserialize(&state).ok()?);
        pass.archive.untar = Untar::load(reader, options.tar())?;
        let mut lengths = Vec::new();
        pass.archive.contents = Sorter::load(reader, &mut lengths)?;
        for _ in 0..reader.number()? {
            pass.spans.rows.push(Row::read(reader)?);
        }
        pass.spans.objects = reader.number()?.try_into().ok()?;
        let large = [reader.length()?, reader.length()?, reader.length()?];
        let rest = lengths
            .iter()
            .chain(&large)
            .try_fold(0_usize, |all, length| all.checked_add(*length))?;
        let summed = summed(&state)?;
        let is_whole = reader.0.len() == rest && summed == pass.archive.length;
        is_whole.then_some((pass, lengths, large))
    }

    /// Whether the counters that were loaded fit each other. A pass that goes on from others would overflow.
    fn is_consistent(&self) -> bool {
        let length = self.archive.length;
        let source = match &self.source {
            Source::Unknown(read) => length == 0 && read.len() < LONGEST_MAGIC,
            Source::Plain => length <= self.size,
            Source::Gzip(gunzip) => {
                let (input, output) = gunzip.position();
                input <= self.size && output == length
            }
            Source::Zstd(frames) => {
                let (input, output) = frames.frame;
                let begun = frames.bytes.len();
                let is_begun = begun < frames.room(self.options.span) && begun as u64 <= length;
                let follows = match frames.start {
                    Begun::Frame(first) => first <= input,
                    Begun::Middle => true,
                };
                input <= self.size && output <= length && is_begun && follows
            }
        };
        let windows = self.spans.windows.len() as u64;
        let are_within = self.spans.rows.iter().all(|row| {
            let end = row.window.checked_add(row.length.into());
            let has_window = row.start != Row::BLOCK || end.is_some_and(|end| end <= windows);
            row.output <= length && has_window
        });
        let contents = &self.archive.contents;
        source
            && are_within
            && length <= self.archive.limit
            && contents.entries() <= self.options.entries
            && contents.size() <= self.archive.contents_limit
    }

    /// Says how the layer is compressed, by its first bytes.
    fn recognise(&mut self, bytes: &[u8]) -> Result<(), PassError> {
        self.source = match bytes {
            [0x1f, 0x8b, ..] => Source::Gzip(Box::new(Gunzip::with_checkpoints(self.options.span))),
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
                Source::Zstd(Box::new(Frames {
                    decoder: Unzstd::new(self.options.window),
                    frame: (0, 0),
                    start: Begun::Frame(0),
                    bytes: Vec::new(),
                    known: 0,
                }))
            }
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => return Err(PassError::Foreign("xz")),
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => return Err(PassError::Foreign("bzip2")),
            _ => Source::Plain,
        };
        if self.pauses {
            self.pause();
        }
        Ok(())
    }

    fn check(&self) -> Result<(), PassError> {
        let (read, length) = self.position();
        if length > FREE && length > read.saturating_mul(self.options.ratio) {
            return Err(PassError::Ratio(self.options.ratio));
        }
        let held = match &self.source {
            Source::Unknown(_) | Source::Plain | Source::Gzip(_) => 0,
            Source::Zstd(frames) => frames.decoder.held(),
        };
        if read > MAX_WASTE && length + held < read / 2 && !self.repeats() {
            return Err(PassError::Waste);
        }
        let rows = self.spans.rows.len() * size_of::<Row>();
        let contents = usize::try_from(self.archive.contents.size()).unwrap_or(usize::MAX);
        let most = MAX_INDEX.max(usize::try_from(self.options.contents).unwrap_or(usize::MAX));
        if self.spans.windows.len() + rows + contents > most {
            return Err(PassError::Parts);
        }
        Ok(())
    }
}

impl Options {
    fn tar(&self) -> tar::Limits {
        tar::Limits {
            path_bytes: usize::try_from(self.path_bytes).unwrap_or(usize::MAX),
            entries: self.entries,
        }
    }
}

impl Archive {
    fn take(&mut self, bytes: &[u8], output: Output<'_>) -> Result<(), PassError> {
        self.length += bytes.len() as u64;
        if self.length > self.limit {
            return Err(self.beyond.clone());
        }
        if let Some(sum) = &mut self.sum {
            sum.update(bytes);
        }
        output(bytes);
        let contents = &mut self.contents;
        self.untar.push(bytes, |entry| {
            contents.push(entry)?;
            if contents.size() > self.contents_limit {
                return Err(PassError::Contents(self.contents_limit));
            }
            Ok(())
        })
    }
}

impl Spans {
    /// Takes bytes of a layer that is not compressed.
    fn plain(&mut self, at: u64, bytes: &[u8], span: u64) {
        let mut at = at;
        let mut bytes = bytes;
        while !bytes.is_empty() {
            let end = (at / span + 1) * span;
            let length = usize::try_from(end - at)
                .unwrap_or(usize::MAX)
                .min(bytes.len());
            let (now, later) = bytes.split_at(length);
            if at.is_multiple_of(span) {
                self.rows.push(Row {
                    output: at,
                    input: at,
                    start: Row::PLAIN,
                    ..Row::default()
                });
            }
            if let Some(row) = self.rows.last_mut() {
                let mut sum = crc32fast::Hasher::new_with_initial(row.check);
                sum.update(now);
                row.check = sum.finalize();
            }
            at += now.len() as u64;
            bytes = later;
        }
    }

    /// Takes the checkpoints that inflating has left.
    fn checkpoints(&mut self, gunzip: &mut Gunzip) -> Result<(), PassError> {
        while let Some(checkpoint) = gunzip.checkpoint() {
            let Checkpoint {
                input,
                output,
                start,
                check,
            } = checkpoint;
            self.end(output);
            let row = Row {
                output,
                input,
                check,
                ..Row::default()
            };
            self.rows.push(match start {
                Start::Member => Row {
                    start: Row::MEMBER,
                    ..row
                },
                Start::Block {
                    count,
                    bits,
                    window,
                } => {
                    let offset = self.windows.len() as u64;
                    self.windows.extend_from_slice(&window);
                    Row {
                        start: Row::BLOCK,
                        window: offset,
                        length: window.len().try_into().map_err(|_| PassError::Parts)?,
                        count,
                        bits,
                        ..row
                    }
                }
            });
        }
        Ok(())
    }

    /// Says that the last span ends here. One of no bytes is none.
    fn end(&mut self, output: u64) {
        if let Some(last) = self.rows.pop_if(|last| last.output == output)
            && last.start == Row::BLOCK
        {
            let length = self.windows.len() - usize::try_from(last.length).unwrap_or_default();
            self.windows.truncate(length);
        }
    }

    /// Stores bytes that can't be read from the layer without what is before them.
    fn store(&mut self, output: u64, bytes: &[u8], span: u64) -> Result<(), PassError> {
        let mut output = output;
        for bytes in bytes.chunks(usize::try_from(span).unwrap_or(usize::MAX)) {
            let packed = compress_to_vec(bytes, STORED_LEVEL);
            if self.object.len() + packed.len() > OBJECT {
                self.end_object();
            }
            self.rows.push(Row {
                output,
                input: self.object.len() as u64,
                length: packed.len().try_into().map_err(|_| PassError::Parts)?,
                check: crc32fast::hash(bytes),
                object: self.objects,
                start: Row::STORED,
                ..Row::default()
            });
            self.object.extend(packed);
            output += bytes.len() as u64;
        }
        Ok(())
    }

    fn end_object(&mut self) {
        if !self.object.is_empty() {
            self.full.push_back(std::mem::take(&mut self.object));
            self.objects = self.objects.saturating_add(1);
        }
    }
}

impl Frames {
    fn push(
        &mut self,
        bytes: &[u8],
        archive: &mut Archive,
        spans: &mut Spans,
        span: u64,
        output: Output<'_>,
    ) -> Result<(), PassError> {
        let Self {
            decoder,
            frame,
            start,
            bytes: begun,
            known,
        } = self;
        let span_bytes = usize::try_from(span).unwrap_or(usize::MAX);
        // Decoding goes on from the beginning of a frame; up to where it was saved, all is known.
        let mut at = decoder.position().1;
        decoder.push(bytes, |event| match event {
            Event::Frame { input, output } if output < *known || (input, output) == *frame => {
                Ok::<_, PassError>(())
            }
            Event::Frame { input, output } => {
                *frame = (input, output);
                match *start {
                    Begun::Frame(first) if begun.len() >= span_bytes => {
                        spans.frame(first, input, output, begun);
                    }
                    Begun::Frame(_) if begun.is_empty() => {}
                    Begun::Frame(_) => return Ok(()),
                    Begun::Middle => {
                        spans.store(output - begun.len() as u64, begun, span)?;
                    }
                }
                begun.clear();
                *start = Begun::Frame(input);
                Ok(())
            }
            Event::Bytes(bytes) => {
                let skipped = usize::try_from(known.saturating_sub(at)).unwrap_or(usize::MAX);
                at += bytes.len() as u64;
                let mut bytes = bytes.get(skipped.min(bytes.len())..).unwrap_or_default();
                let mut end = at - bytes.len() as u64;
                archive.take(bytes, output)?;
                while !bytes.is_empty() {
                    let room = start.room(span_bytes);
                    let length = (room - begun.len()).min(bytes.len());
                    let (now, later) = bytes.split_at(length);
                    begun.extend_from_slice(now);
                    end += now.len() as u64;
                    bytes = later;
                    if begun.len() == room {
                        spans.store(end - room as u64, begun, span)?;
                        begun.clear();
                        *start = Begun::Middle;
                    }
                }
                Ok(())
            }
        })
    }

    fn finish(&mut self, spans: &mut Spans) -> Result<(), PassError> {
        self.decoder.finish()?;
        let (input, output) = self.decoder.position();
        if output < self.known {
            // The saved pass is of another layer: this one inflates to fewer bytes.
            return Err(PassError::Size(input));
        }
        let begun = std::mem::take(&mut self.bytes);
        match self.start {
            _ if begun.is_empty() => Ok(()),
            Begun::Frame(first) => {
                spans.frame(first, input, output, &begun);
                Ok(())
            }
            Begun::Middle => spans.store(output - begun.len() as u64, &begun, u64::MAX),
        }
    }

    /// How many bytes complete the span that has begun.
    fn room(&self, span: u64) -> usize {
        self.start.room(usize::try_from(span).unwrap_or(usize::MAX))
    }
}

impl Begun {
    const fn room(self, span: usize) -> usize {
        match self {
            Self::Frame(_) => span.saturating_mul(LONG),
            Self::Middle => span,
        }
    }
}

impl Spans {
    /// Notes a span of whole frames.
    fn frame(&mut self, first: u64, input: u64, output: u64, bytes: &[u8]) {
        self.rows.push(Row {
            output: output - bytes.len() as u64,
            input: first,
            length: u32::try_from(input - first).unwrap_or(u32::MAX),
            check: crc32fast::hash(bytes),
            start: Row::FRAME,
            ..Row::default()
        });
    }
}

/// How many bytes a saved sum is of, by its blocks of 64 bytes and what came after them.
fn summed(state: &SerializedState<Sha256>) -> Option<u64> {
    let mut reader = Reader(state);
    reader.take(size_of::<[u32; 8]>())?;
    let blocks = u64::from_le_bytes(reader.array()?);
    blocks.checked_mul(64)?.checked_add(reader.byte()?.into())
}

/// The longest sequence of bytes by which a format is known.
const LONGEST_MAGIC: usize = 6;
/// So much of a layer may be what nothing comes out of.
const MAX_WASTE: u64 = 4 << 20;
/// So much of a layer is pushed before its objects are to be taken: a few bytes of zstd may give 128 KiB that deflate does not shrink.
pub const PART: usize = 1024;
/// So much comes out of anything, whatever the ratio.
const FREE: u64 = 64 << 20;
/// A block takes as long as packing so many bytes.
const BLOCK_WORK: u64 = 256;
/// What inflating gzip takes.
const GZIP: usize = 512 * 1024;
/// The most bytes of windows, spans and contents: a pass has them in memory. 24 MiB are those of some 8 GB of a real layer.
const MAX_INDEX: usize = 24 << 20;
/// A frame of more spans than this is stored.
const LONG: usize = 4;
/// The largest object of stored spans, unless a span is larger.
const OBJECT: usize = 4 << 20;
/// How hard stored spans are compressed: they take a third of the time that decoding does.
const STORED_LEVEL: u8 = 3;
/// Of what was saved, so much is given back at a time.
const GIVEN_BACK: usize = 1 << 20;
/// What a saved pass begins with: its version.
const SAVED: u8 = 2;
