//! The labels of metrics.

/// The reason why a tier was skipped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// The tier returned an error.
    Failed,
    /// The timeout passed.
    Late,
    /// The value failed verification.
    Poisoned,
}

impl Fault {
    /// The label in metrics and the log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Late => "late",
            Self::Poisoned => "poisoned",
        }
    }
}

/// The reason why a value left a tier, other than by eviction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Demotion {
    /// The value expired.
    Expired,
    /// A push or a deletion changed the value.
    Changed,
    /// The value failed verification.
    Poisoned,
}

impl Demotion {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Changed => "changed",
            Self::Poisoned => "poisoned",
        }
    }
}

/// A class of store operations, as the platform bills them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OperationClass {
    /// An operation of class A of the cold tier: a write, a listing, or a step of a multipart
    /// upload.
    A,
    /// An operation of class B of the cold tier: a read.
    B,
    /// A deletion of the cold tier, which is free.
    Delete,
    /// A read of the warm tier.
    WarmRead,
    /// A write of the warm tier.
    WarmWrite,
    /// A deletion of the warm tier.
    WarmDelete,
}

impl OperationClass {
    pub(super) const ALL: [(Self, [&'static str; 2]); 6] = [
        (Self::A, ["cold", "a"]),
        (Self::B, ["cold", "b"]),
        (Self::Delete, ["cold", "delete"]),
        (Self::WarmRead, ["warm", "read"]),
        (Self::WarmWrite, ["warm", "write"]),
        (Self::WarmDelete, ["warm", "delete"]),
    ];
}

/// The outcome of a request to an upstream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum UpstreamOutcome {
    /// The upstream answered with this status.
    Answered(u16),
    /// The timeout passed.
    Late,
    /// The upstream could not be reached.
    Failed,
}

/// The outcome of a step of a pass over a layer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PassOutcome {
    /// The layer is indexed.
    Indexed,
    /// The layer can't be indexed.
    Refused,
    /// The pass has paused, and resumes later.
    Paused,
}

impl PassOutcome {
    pub(super) const ALL: [Self; 3] = [Self::Indexed, Self::Refused, Self::Paused];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Indexed => "indexed",
            Self::Refused => "refused",
            Self::Paused => "paused",
        }
    }
}

/// The purpose of a decompression.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Inflating {
    /// A pass over a layer, to index it.
    Pass,
    /// The read of a span of a layer.
    Span,
}

impl Inflating {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Span => "span",
        }
    }
}
