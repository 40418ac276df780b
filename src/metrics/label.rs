//! The labels of metrics.

/// Why a tier was skipped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// It failed.
    Failed,
    /// It took too long.
    Late,
    /// It returned wrong content.
    Poisoned,
}

impl Fault {
    /// The name in metrics and the log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Late => "late",
            Self::Poisoned => "poisoned",
        }
    }
}

/// Why a value left a tier, other than by eviction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Demotion {
    /// It expired.
    Expired,
    /// A push or a deletion changed it.
    Changed,
    /// It failed verification.
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

/// A class of operation, as the platform bills them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Operation {
    /// The cold tier: a write, a listing, or a step of a multipart upload.
    A,
    /// The cold tier: a read.
    B,
    /// The cold tier: a deletion, which is free.
    Delete,
    /// The warm tier: a read.
    WarmRead,
    /// The warm tier: a write.
    WarmWrite,
    /// The warm tier: a deletion.
    WarmDelete,
}

impl Operation {
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
    /// It answered with a status.
    Answered(u16),
    /// It took too long.
    Late,
    /// It could not be reached.
    Failed,
}

/// The outcome of a step of a pass over a layer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The layer is indexed.
    Indexed,
    /// The layer can't be indexed.
    Refused,
    /// The pass goes on later.
    Paused,
}

impl Outcome {
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
    /// A layer, to index it.
    Pass,
    /// A span of one, to read it.
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
