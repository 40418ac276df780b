//! Reading one span of a layer.

use std::{fmt, ops::Range};

use miniz_oxide::inflate::decompress_to_vec_with_limit;

use crate::layer::{
    gzip::{Checkpoint, Gunzip, GzipError, Start},
    index::{Span, SpanStart},
    zstd::{Event, Unzstd, ZstdError},
};

/// The reason why a span can't be read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SpanError {
    /// The compressed bytes are not valid gzip.
    Gzip(GzipError),
    /// The compressed bytes are not valid zstd.
    Zstd(ZstdError),
    /// The stored bytes are not valid deflate.
    Stored,
    /// The decompressed bytes have another checksum than in the pass, or there are too few.
    Check,
}

impl fmt::Display for SpanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gzip(error) => error.fmt(f),
            Self::Zstd(error) => error.fmt(f),
            Self::Stored => f.write_str("a stored span of invalid deflate data"),
            Self::Check => f.write_str("a span whose checksum does not match"),
        }
    }
}

impl std::error::Error for SpanError {}

/// Why the decoder stopped.
enum Stop {
    /// There are enough bytes.
    Enough,
    Gzip(GzipError),
    Zstd(ZstdError),
}

impl From<GzipError> for Stop {
    fn from(error: GzipError) -> Self {
        Self::Gzip(error)
    }
}

impl From<ZstdError> for Stop {
    fn from(error: ZstdError) -> Self {
        Self::Zstd(error)
    }
}

impl Span {
    /// The length of the span in the archive, in bytes.
    pub const fn length(&self) -> u64 {
        self.output.end - self.output.start
    }

    /// The range of its window in the index. `None` if it needs none.
    pub fn window(&self) -> Option<Range<u64>> {
        match &self.start {
            SpanStart::Block { window, .. } => Some(window.clone()),
            SpanStart::Plain | SpanStart::Member | SpanStart::Frame | SpanStart::Stored(_) => None,
        }
    }

    /// Whether its input comes after that of another span in the same layer or object.
    pub fn follows(&self, other: &Self) -> bool {
        let object = |span: &Self| match span.start {
            SpanStart::Stored(object) => Some(object),
            _ => None,
        };
        object(self) == object(other) && self.input.start >= other.input.end
    }

    /// Decompresses the first `length` bytes of the span. If that is the whole span, its checksum
    /// is verified.
    ///
    /// `window` has the bytes of [`Span::window`], or none, and `bytes` has those of
    /// [`Span::input`].
    ///
    /// # Errors
    ///
    /// [`SpanError`] if the bytes are malformed, too few, or not those that were indexed.
    pub fn inflate(&self, window: &[u8], bytes: &[u8], length: u64) -> Result<Vec<u8>, SpanError> {
        let is_all = length >= self.length();
        let length = usize::try_from(length.min(self.length())).map_err(|_| SpanError::Check)?;
        let mut out = Vec::with_capacity(length);
        let mut take = |bytes: &[u8]| {
            let more = bytes.len().min(length - out.len());
            out.extend_from_slice(bytes.get(..more).unwrap_or_default());
            if out.len() < length {
                Ok(())
            } else {
                Err(Stop::Enough)
            }
        };
        let outcome = match &self.start {
            SpanStart::Plain => take(bytes),
            SpanStart::Member => self.gunzip(Start::Member, bytes, take),
            SpanStart::Block { count, bits, .. } => {
                let start = Start::Block {
                    count: *count,
                    bits: *bits,
                    window: window.to_vec(),
                };
                self.gunzip(start, bytes, take)
            }
            SpanStart::Frame => {
                let mut unzstd = Unzstd::at(self.input.start, self.output.start, u64::MAX);
                unzstd.push(bytes, |event| match event {
                    Event::Frame { .. } => Ok(()),
                    Event::Bytes(bytes) => take(bytes),
                })
            }
            SpanStart::Stored(_) => {
                let whole = usize::try_from(self.length()).map_err(|_| SpanError::Check)?;
                let bytes = decompress_to_vec_with_limit(bytes, whole);
                take(&bytes.map_err(|_| SpanError::Stored)?)
            }
        };
        match outcome {
            Err(Stop::Gzip(error)) => return Err(SpanError::Gzip(error)),
            Err(Stop::Zstd(error)) => return Err(SpanError::Zstd(error)),
            Ok(()) | Err(Stop::Enough) => {}
        }
        if out.len() < length || (is_all && crc32fast::hash(&out) != self.check) {
            return Err(SpanError::Check);
        }
        Ok(out)
    }

    fn gunzip(
        &self,
        start: Start,
        bytes: &[u8],
        take: impl FnMut(&[u8]) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        let checkpoint = Checkpoint {
            input: self.input.start,
            output: self.output.start,
            start,
            check: self.check,
        };
        Gunzip::from_checkpoint(&checkpoint)?.push(bytes, take)
    }
}
