//! The one pass over a layer that makes its index, in bounded memory.
//!
//! ```text
//!            ┌ gzip ┐            ┌ tar ──> table of contents
//! layer ──>  ┤ zstd ├─ archive ─>┤
//!            └──────┘            └ SHA-256 ──> diff ID
//!               └──> checkpoints, windows, spans to be stored
//! ```
//!
//! A pass can pause where reading can begin, be saved, and resume elsewhere. The index does not
//! depend on the pieces of the input, or on where the pass paused.

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
    index::{Compression, Encoded, IndexParts, SpanRow},
    pass::{
        archive::{Archive, Output},
        frames::{Begun, Frames},
        spans::Spans,
    },
    tar::Untar,
    zstd::Unzstd,
};

/// The pass over one layer: its bytes go in, and its index comes out.
///
/// After an error the pass must not be used again. [`PassError::refusal`] makes the refusal that is
/// stored in place of the index.
#[derive(Debug)]
pub struct Pass {
    options: Options,
    /// The expected size of the layer.
    size: u64,
    source: Decoder,
    archive: Archive,
    spans: Spans,
    pauses: bool,
}

/// How the layer is compressed, with its decoder.
#[derive(Debug)]
enum Decoder {
    /// Too few bytes have come to tell.
    Unknown(Vec<u8>),
    /// The layer is the archive.
    Plain,
    Gzip(Box<Gunzip>),
    Zstd(Box<Frames>),
}

impl Pass {
    /// Begins a pass over a layer of `size` bytes.
    pub fn new(size: u64, options: Options) -> Self {
        let ratio = size.saturating_mul(options.ratio).max(FREE);
        let (limit, beyond) = if ratio < options.inflated {
            (ratio, PassError::Ratio(options.ratio))
        } else {
            (options.inflated, PassError::Inflated(options.inflated))
        };
        Self {
            size,
            source: Decoder::Unknown(Vec::new()),
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

    /// Begins a pass without SHA-256, for callers with a faster one. They hash the bytes from
    /// [`Pass::push_to`] and [`Pass::end_to`], and pass the diff ID to [`Pass::finish_as`]. Such a
    /// pass does not pause, because a partial hash can't be saved with it.
    #[doc(hidden)]
    pub fn without_diff_id(size: u64, options: Options) -> Self {
        let mut pass = Self::new(size, options);
        pass.archive.sum = None;
        pass
    }

    /// The number of bytes read of the layer, and the number of bytes decompressed.
    pub fn position(&self) -> (u64, u64) {
        let read = match &self.source {
            Decoder::Unknown(read) => read.len() as u64,
            Decoder::Plain => self.archive.length,
            Decoder::Gzip(gunzip) => gunzip.position().0,
            Decoder::Zstd(frames) => frames.decoder.position().0,
        };
        (read, self.archive.length)
    }

    /// Reads the next bytes of the layer. Pieces of any size give the same index. Take
    /// [`Pass::object`] after each [`PART`] bytes.
    ///
    /// # Errors
    ///
    /// [`PassError`] if the layer can't be indexed, for a reason that the bytes show so far.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), PassError> {
        self.push_to(bytes, |_| ())
    }

    /// Reads the next bytes as [`Pass::push`] does, and passes the bytes of the archive to `output`
    /// in pieces.
    ///
    /// # Errors
    ///
    /// Those of [`Pass::push`].
    #[doc(hidden)]
    pub fn push_to(
        &mut self,
        bytes: &[u8],
        mut output: impl FnMut(&[u8]),
    ) -> Result<(), PassError> {
        let gathered;
        let mut bytes = bytes;
        if let Decoder::Unknown(read) = &mut self.source {
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
            Decoder::Unknown(_) => Ok(()),
            Decoder::Plain => {
                spans.plain(archive.length, bytes, self.options.span);
                archive.take(bytes, output)
            }
            Decoder::Gzip(gunzip) => {
                gunzip.push(bytes, |bytes| archive.take(bytes, output))?;
                spans.checkpoints(gunzip)
            }
            Decoder::Zstd(frames) => frames.push(bytes, archive, spans, self.options.span, output),
        }
    }

    /// Requests a pause at the next place where another process can resume. [`Pass::is_paused`]
    /// says when it is reached.
    pub fn pause(&mut self) {
        if self.archive.sum.is_none() {
            return;
        }
        self.pauses = true;
        if let Decoder::Gzip(gunzip) = &mut self.source {
            gunzip.pause();
        }
    }

    /// Whether the pass repeats bytes that it had read before it was saved: the start of a zstd
    /// frame.
    pub const fn repeats(&self) -> bool {
        match &self.source {
            Decoder::Unknown(_) | Decoder::Plain | Decoder::Gzip(_) => false,
            Decoder::Zstd(frames) => frames.decoder.position().1 < frames.known,
        }
    }

    /// Whether the pass has paused. Bytes that were pushed beyond [`Pass::position`] must be pushed
    /// again.
    pub fn is_paused(&self) -> bool {
        match &self.source {
            Decoder::Unknown(_) => false,
            Decoder::Plain => self.pauses,
            // It must pass the place where it was saved first.
            Decoder::Zstd(frames) => self.pauses && self.archive.length > frames.known,
            Decoder::Gzip(gunzip) => gunzip.is_paused(),
        }
    }

    /// The approximate memory of the pass, including that for its end, in bytes.
    pub fn memory(&self) -> u64 {
        let spans = &self.spans;
        let source = match &self.source {
            Decoder::Unknown(_) | Decoder::Plain => 0,
            Decoder::Gzip(_) => GZIP,
            Decoder::Zstd(frames) => {
                let window = usize::try_from(frames.decoder.held()).unwrap_or(usize::MAX);
                2 * window + frames.bytes.capacity()
            }
        };
        let full: usize = spans.full.iter().map(Vec::len).sum();
        let rows = 2 * spans.rows.capacity() * size_of::<SpanRow>();
        let all = source
            + self.archive.contents.memory()
            + spans.windows.capacity()
            + rows
            + spans.object.capacity()
            + full;
        all as u64
    }

    /// The work that the length of the archive does not show, in bytes of packed entries.
    ///
    /// Packing a byte takes as long as several bytes of the archive. Blocks of the compressed
    /// stream count as 256 bytes each, since the pass was begun or loaded.
    pub const fn work(&self) -> u64 {
        let blocks = match &self.source {
            Decoder::Unknown(_) | Decoder::Plain => 0,
            Decoder::Gzip(gunzip) => gunzip.blocks(),
            Decoder::Zstd(frames) => frames.decoder.units(),
        };
        let blocks = blocks.saturating_mul(BLOCK_WORK);
        self.archive.contents.work().saturating_add(blocks)
    }

    /// Takes the next object of stored spans: its number and its bytes, for the caller to store. A
    /// little input may fill several objects.
    pub fn object(&mut self) -> Option<(u32, Vec<u8>)> {
        let waiting = u32::try_from(self.spans.full.len()).ok()?;
        let bytes = self.spans.full.pop_front()?;
        Some((self.spans.objects - waiting, bytes))
    }

    /// Ends the pass, and returns the index. One more [`Pass::object`] may be left. `None` if the
    /// pass pauses before the end.
    ///
    /// # Errors
    ///
    /// [`PassError`] if the layer can't be indexed: because it ends early, for example.
    pub fn finish(&mut self) -> Result<Option<Vec<u8>>, PassError> {
        Ok(self.finish_in_pieces()?.map(Encoded::into_bytes))
    }

    /// Ends the pass as [`Pass::finish`] does, and copies no piece of the index, which may be
    /// large.
    ///
    /// # Errors
    ///
    /// Those of [`Pass::finish`].
    pub fn finish_in_pieces(&mut self) -> Result<Option<Encoded>, PassError> {
        self.end_to(|_| ())?;
        // Other decoders are at the end wherever they pause.
        if let Decoder::Gzip(gunzip) = &self.source
            && gunzip.is_paused()
        {
            return Ok(None);
        }
        let sum = self.archive.sum.take().ok_or(PassError::DiffId)?;
        self.encode(sum.finalize().into()).map(Some)
    }

    /// Ends the input, and passes the bytes of the archive that were held back to `output`.
    ///
    /// # Errors
    ///
    /// Those of [`Pass::push`].
    #[doc(hidden)]
    pub fn end_to(&mut self, mut output: impl FnMut(&[u8])) -> Result<(), PassError> {
        if let Decoder::Unknown(read) = &mut self.source {
            let read = std::mem::take(read);
            self.recognise(&read)?;
            self.decode(&read, &mut output)?;
        }
        let (archive, spans) = (&mut self.archive, &mut self.spans);
        match &mut self.source {
            Decoder::Unknown(_) | Decoder::Plain => {}
            Decoder::Gzip(gunzip) => {
                gunzip.finish(|bytes| archive.take(bytes, &mut output))?;
                spans.checkpoints(gunzip)?;
            }
            Decoder::Zstd(frames) => frames.finish(spans)?,
        }
        self.check()
    }

    /// Returns the index after [`Pass::end_to`], with the diff ID of the caller.
    ///
    /// # Errors
    ///
    /// Those of [`Pass::finish`].
    #[doc(hidden)]
    pub fn finish_as(&mut self, diff_id: [u8; 32]) -> Result<Vec<u8>, PassError> {
        self.encode(diff_id).map(Encoded::into_bytes)
    }

    fn encode(&mut self, diff_id: [u8; 32]) -> Result<Encoded, PassError> {
        let compression = match &self.source {
            Decoder::Unknown(_) | Decoder::Plain => Compression::None,
            Decoder::Gzip(_) => Compression::Gzip,
            Decoder::Zstd(_) => Compression::Zstd,
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
        let parts = IndexParts {
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

    /// Detects the compression by the first bytes.
    fn recognise(&mut self, bytes: &[u8]) -> Result<(), PassError> {
        self.source = match bytes {
            [0x1f, 0x8b, ..] => {
                Decoder::Gzip(Box::new(Gunzip::with_checkpoints(self.options.span)))
            }
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
                Decoder::Zstd(Box::new(Frames {
                    decoder: Unzstd::new(self.options.window),
                    frame: (0, 0),
                    start: Begun::Frame(0),
                    bytes: Vec::new(),
                    known: 0,
                }))
            }
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => return Err(PassError::Foreign("xz")),
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => return Err(PassError::Foreign("bzip2")),
            _ => Decoder::Plain,
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
            Decoder::Unknown(_) | Decoder::Plain | Decoder::Gzip(_) => 0,
            Decoder::Zstd(frames) => frames.decoder.held(),
        };
        if read > MAX_WASTE && length + held < read / 2 && !self.repeats() {
            return Err(PassError::Waste);
        }
        let rows = self.spans.rows.len() * size_of::<SpanRow>();
        let contents = usize::try_from(self.archive.contents.size()).unwrap_or(usize::MAX);
        let most = MAX_INDEX.max(usize::try_from(self.options.contents).unwrap_or(usize::MAX));
        if self.spans.windows.len() + rows + contents > most {
            return Err(PassError::Parts);
        }
        Ok(())
    }
}

/// The longest magic number that is detected.
const LONGEST_MAGIC: usize = 6;
/// How much of a layer may inflate to little.
const MAX_WASTE: u64 = 4 << 20;
/// The most bytes to push before objects are taken. A few bytes of zstd may give 128 KiB that
/// deflate does not shrink.
pub const PART: usize = 1024;
/// The ratio does not apply to archives up to this size.
const FREE: u64 = 64 << 20;
/// A block takes as long as packing this many bytes.
const BLOCK_WORK: u64 = 256;
/// The memory for inflating gzip.
const GZIP: usize = 512 * 1024;
/// The most bytes of windows, spans and contents, which a pass holds in memory. About 8 GB of a
/// real layer have 24 MiB of them.
const MAX_INDEX: usize = 24 << 20;

#[cfg(test)]
mod tests;
