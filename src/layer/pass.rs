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

mod archive;
mod error;
mod frames;
mod options;
mod saved;
mod spans;

pub use self::{error::PassError, options::Options};

use sha2::{Digest as _, Sha256};

use crate::layer::{
    contents::Sorter,
    gzip::Gunzip,
    index::{Compression, Encoded, Parts, Row},
    pass::{
        archive::{Archive, Output},
        frames::{Begun, Frames},
        spans::Spans,
    },
    tar::Untar,
    zstd::Unzstd,
};

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
