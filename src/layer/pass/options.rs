//! How a layer is indexed, and how much memory and work that may take.

use crate::layer::tar;

/// How a layer is indexed, and how much it may ask for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Options {
    /// About how much output is between two places from which the layer can be read, in bytes.
    pub span: u64,
    /// The most entries.
    pub entries: u64,
    /// The largest table of contents, in bytes as it is kept, which is a third of the memory that it takes in the end.
    pub contents: u64,
    /// The longest path, in bytes.
    pub path_bytes: u64,
    /// The largest archive, in bytes.
    pub inflated: u64,
    /// How many times larger the archive may be than the layer, where it is larger than 64 MiB.
    pub ratio: u64,
    /// The largest window of zstd, in bytes: memory that a pass takes.
    pub window: u64,
}

impl Default for Options {
    /// More than any image asks for, and what a small machine can do.
    fn default() -> Self {
        Self {
            span: 1 << 20,
            entries: 2_000_000,
            contents: 12 << 20,
            path_bytes: 16 * 1024,
            inflated: 64 << 30,
            ratio: 250,
            window: 16 << 20,
        }
    }
}

impl Options {
    /// What a program may do that has all of a machine for a layer of this many bytes.
    pub fn local(size: u64) -> Self {
        Self {
            // Windows and spans of a long layer take no more memory than those of a short one.
            span: (size / 2048).next_power_of_two().clamp(1 << 20, 8 << 20),
            contents: 48 << 20,
            entries: 4_000_000,
            inflated: 1 << 40,
            // As much as zstd's own program takes when nobody says.
            window: 128 << 20,
            ..Self::default()
        }
    }

    /// The limits as a refusal keeps them.
    pub fn limits(&self) -> Vec<u64> {
        vec![
            self.span,
            self.entries,
            self.contents,
            self.path_bytes,
            self.inflated,
            self.ratio,
            self.window,
        ]
    }
}

impl Options {
    pub(super) fn tar(&self) -> tar::Limits {
        tar::Limits {
            path_bytes: usize::try_from(self.path_bytes).unwrap_or(usize::MAX),
            entries: self.entries,
        }
    }
}
