//! The tiers, and the kinds of values that they hold.

/// A place that a value is read from, by its distance.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Tier {
    /// The memory of this isolate.
    Hot,
    /// The cache of this location, which its isolates share: the Cache API. It has the bytes of
    /// large blobs only.
    Near,
    /// The cache that isolates share, which may be stale or miss values: Workers KV.
    Warm,
    /// The store, which is the only source of truth: R2.
    Cold,
    /// Another registry, for mirrored content that is not stored yet.
    Upstream,
}

impl Tier {
    /// All tiers, the nearest first.
    pub const ALL: [Self; 5] = [
        Self::Hot,
        Self::Near,
        Self::Warm,
        Self::Cold,
        Self::Upstream,
    ];

    /// The label in metrics, in the log and in the `X-Strata-Tier` header, such as `hot`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hot => "hot",
            Self::Near => "near",
            Self::Warm => "warm",
            Self::Cold => "cold",
            Self::Upstream => "upstream",
        }
    }
}

/// A kind of value that tiers hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A manifest with its media type, in a repository that has it.
    Manifest,
    /// The bytes of a blob, for every caller that may read them.
    Blob,
    /// A repository's right to read a blob, and the place of its bytes.
    Link,
    /// The index of a layer: its head, or all of it.
    Index,
    /// A part of an index, beside its head.
    Page,
    /// A span of a layer, decompressed: usually about 1 MiB.
    Span,
}

impl Kind {
    /// All kinds, in the order of the variants.
    pub const ALL: [Self; 6] = [
        Self::Manifest,
        Self::Blob,
        Self::Link,
        Self::Index,
        Self::Page,
        Self::Span,
    ];

    /// The label in metrics, in the log and in the `Server-Timing` header, such as `manifest`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Manifest => "manifest",
            Self::Blob => "blob",
            Self::Link => "link",
            Self::Index => "index",
            Self::Page => "page",
            Self::Span => "span",
        }
    }
}
