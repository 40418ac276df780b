//! The tiers, and the kinds of values that they hold.

/// A tier.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Tier {
    /// The memory of this isolate.
    Hot,
    /// Values near the reader, which may be stale or missing.
    Warm,
    /// Objects: the truth.
    Cold,
    /// Another registry, of what is mirrored and not stored yet.
    Upstream,
}

impl Tier {
    /// All tiers, nearest first.
    pub const ALL: [Self; 4] = [Self::Hot, Self::Warm, Self::Cold, Self::Upstream];

    /// The name by which metrics and headers call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hot => "hot",
            Self::Warm => "warm",
            Self::Cold => "cold",
            Self::Upstream => "upstream",
        }
    }
}

/// A kind of value that tiers hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A manifest, with its media type: that a repository has it, and its bytes.
    Manifest,
    /// The bytes of a blob, whoever may read them.
    Blob,
    /// That a repository may read a blob, and where its bytes are.
    Link,
    /// What is known of the inside of a layer: the head of its index, or all of it.
    Index,
    /// A part of an index.
    Page,
    /// A part of a layer, inflated.
    Span,
}

impl Kind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 6] = [
        Self::Manifest,
        Self::Blob,
        Self::Link,
        Self::Index,
        Self::Page,
        Self::Span,
    ];

    /// The name by which metrics and headers call it.
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
