//! How a layer is indexed, and how much memory and work that may take.

use crate::layer::tar;

/// The length of spans, and the limits of a pass.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Options {
    /// The usual length of a span in the archive, in bytes. 1 MiB by default.
    pub span: u64,
    /// The most entries. 2,000,000 by default.
    pub entries: u64,
    /// The largest table of contents as stored, in bytes. It takes three times as much memory at
    /// the end. 12 MiB by default.
    pub contents: u64,
    /// The longest path, in bytes. 16 KiB by default.
    pub path_bytes: u64,
    /// The largest archive, in bytes. 64 GiB by default.
    pub inflated: u64,
    /// How many times as large as the layer the archive may be, if it exceeds 64 MiB. 250 by
    /// default.
    pub ratio: u64,
    /// The largest window of zstd, in bytes, which the pass holds in memory. 16 MiB by default.
    pub window: u64,
}

impl Default for Options {
    /// More than any real image needs, within the memory of a small machine.
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
    /// Makes options for a program that has a whole machine for a layer of `size` bytes.
    pub fn local(size: u64) -> Self {
        Self {
            // Longer spans: the windows and spans of a long layer take no more memory than of a
            // short one.
            span: (size / 2048).next_power_of_two().clamp(1 << 20, 8 << 20),
            contents: 48 << 20,
            entries: 4_000_000,
            inflated: 1 << 40,
            // The default limit of the zstd program.
            window: 128 << 20,
            ..Self::default()
        }
    }

    /// The numbers of all fields in order, as a refusal stores them.
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
    pub(super) fn tar(&self) -> tar::TarLimits {
        tar::TarLimits {
            path_bytes: usize::try_from(self.path_bytes).unwrap_or(usize::MAX),
            entries: self.entries,
        }
    }
}
