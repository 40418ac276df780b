//! Reading one span of a layer, from what its index says of it.

use std::{fmt, ops::Range};

use miniz_oxide::inflate::decompress_to_vec_with_limit;

use crate::layer::{
    gzip::{Checkpoint, Gunzip, GzipError, Start},
    index::{Span, SpanStart},
    zstd::{Event, Unzstd, ZstdError},
};

/// Why a span can't be read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SpanError {
    /// What it is inflated from is not gzip.
    Gzip(GzipError),
    /// What it is inflated from is not zstd.
    Zstd(ZstdError),
    /// What is stored of it is not deflate.
    Stored,
    /// Other bytes came out than in the pass, or fewer.
    Check,
}

impl fmt::Display for SpanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gzip(error) => error.fmt(f),
            Self::Zstd(error) => error.fmt(f),
            Self::Stored => f.write_str("a stored span that is not deflate"),
            Self::Check => f.write_str("a span with another checksum"),
        }
    }
}

impl std::error::Error for SpanError {}

/// Why a decoder was stopped.
enum Stop {
    /// There is enough.
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
    /// The number of its bytes.
    pub const fn length(&self) -> u64 {
        self.output.end - self.output.start
    }

    /// Where in the index its window is, where it has one.
    pub fn window(&self) -> Option<Range<u64>> {
        match &self.start {
            SpanStart::Block { window, .. } => Some(window.clone()),
            SpanStart::Plain | SpanStart::Member | SpanStart::Frame | SpanStart::Stored(_) => None,
        }
    }

    /// Whether what it is inflated from is in the same object as that of another span, and after it.
    pub fn follows(&self, other: &Self) -> bool {
        let object = |span: &Self| match span.start {
            SpanStart::Stored(object) => Some(object),
            _ => None,
        };
        object(self) == object(other) && self.input.start >= other.input.end
    }

    /// Inflates the first bytes of the span, `length` of them; where that is all of it, they are checked. `window` is what the
    /// index has at [`SpanStart::Block`], `bytes` what is at [`Span::input`].
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
