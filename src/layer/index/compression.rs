//! The compression of a layer, in listings and in an index.

/// The compression of a layer, found by its first bytes and not by its media type.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Compression {
    /// Not compressed.
    #[default]
    None,
    /// Gzip (RFC 1952).
    Gzip,
    /// Zstd (RFC 8878).
    Zstd,
}

impl Compression {
    /// The word in listings: `none`, `gzip` or `zstd`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// Its byte in an index.
    pub(super) const fn code(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Zstd => 2,
        }
    }

    pub(super) const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::None),
            1 => Some(Self::Gzip),
            2 => Some(Self::Zstd),
            _ => None,
        }
    }
}
