//! Why a layer can't be indexed.

use std::fmt;

use crate::layer::{
    contents::ContentsError, gzip::GzipError, index::Refusal, pass::options::Options,
    tar::TarError, zstd::ZstdError,
};

/// The reason why a layer can't be indexed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PassError {
    /// The layer is not valid gzip.
    Gzip(GzipError),
    /// The layer is not valid zstd.
    Zstd(ZstdError),
    /// The layer does not hold a valid tar archive.
    Tar(TarError),
    /// The layer is compressed by this program, which is not supported.
    Foreign(&'static str),
    /// The archive has more than this many bytes.
    Inflated(u64),
    /// The table of contents takes more than this many bytes.
    Contents(u64),
    /// The archive is more than this many times as large as the layer.
    Ratio(u64),
    /// The layer decompresses to less than half of its size. No writer makes such a layer, and each
    /// byte of it takes tens of times as long.
    Waste,
    /// The layer has this many bytes, and the pass was begun for another size.
    Size(u64),
    /// A count exceeds what an index can hold.
    Parts,
    /// The table of contents is larger than that of any real layer. The text says why.
    Proportion(String),
    /// The pass computes no diff ID, so the caller must pass it.
    DiffId,
    /// Indexing takes more than this many bytes of memory.
    Memory(u64),
}

impl fmt::Display for PassError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gzip(error) => error.fmt(f),
            Self::Zstd(error) => error.fmt(f),
            Self::Tar(error) => write!(f, "{error} of the decompressed layer"),
            Self::Foreign(what) => write!(f, "compressed with {what}; gzip and zstd are supported"),
            Self::Inflated(limit) => write!(f, "it decompresses to more than {limit} bytes"),
            Self::Contents(limit) => {
                write!(f, "its table of contents takes more than {limit} bytes")
            }
            Self::Ratio(limit) => write!(f, "it decompresses to more than {limit} times its size"),
            Self::Waste => f.write_str("it decompresses to less than half of its size"),
            Self::Size(size) => write!(
                f,
                "it ends after {size} bytes, which is not its stated size"
            ),
            Self::Parts => f.write_str("it has more parts than an index can hold"),
            Self::Proportion(reason) => f.write_str(reason),
            Self::DiffId => {
                f.write_str("the pass computes no diff ID: end it with one, by finish_as")
            }
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
    /// Makes the refusal to store, so that nobody repeats the pass in vain. If the error is a
    /// limit, the refusal has the limits of `options`: other ones make it worth another pass.
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
            Self::DiffId => ("diff-id", false),
            Self::Memory(_) => ("memory", true),
        };
        Refusal {
            reason: self.to_string(),
            kind: kind.to_owned(),
            limits: is_limit.then(|| options.limits()),
        }
    }
}
