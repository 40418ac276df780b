//! The ring of the last output. The decoder copies from it, and checkpoints take their windows from
//! it.

use std::ops::Range;

use crate::layer::gzip::checkpoint::WINDOW;

/// Output at its offset modulo the size, so that decoding does not depend on where it began.
pub(super) struct Ring(Box<[u8]>);

impl Default for Ring {
    fn default() -> Self {
        Self(vec![0; SIZE].into())
    }
}

impl Ring {
    /// Where the byte of the output at this offset is.
    pub(super) const fn place(output: u64) -> usize {
        remainder(output, SIZE)
    }

    pub(super) fn bytes(&self, range: Range<usize>) -> &[u8] {
        self.0.get(range).unwrap_or_default()
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }

    /// The bytes before an offset of the output: up to 32 KiB, and no more than `length`.
    pub(super) fn window(&self, output: u64, length: u64) -> Vec<u8> {
        let length = usize::try_from(length).unwrap_or(WINDOW).min(WINDOW);
        let end = Self::place(output);
        match end.checked_sub(length) {
            Some(start) => self.bytes(start..end).to_vec(),
            None => {
                let start = SIZE + end - length;
                [self.bytes(start..SIZE), self.bytes(0..end)].concat()
            }
        }
    }

    /// Puts a window before an offset of the output.
    pub(super) fn restore(&mut self, output: u64, window: &[u8]) {
        let start = Self::place(output) + SIZE - window.len();
        for (offset, byte) in window.iter().enumerate() {
            if let Some(place) = self.0.get_mut((start + offset) % SIZE) {
                *place = *byte;
            }
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "it is smaller than what it is divided by"
)]
pub(super) const fn remainder(offset: u64, size: usize) -> usize {
    (offset % size as u64) as usize
}

/// A window, and as much room for new output.
const SIZE: usize = 2 * WINDOW;
