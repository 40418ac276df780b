//! The headers of frames and blocks (RFC 8878, section 3.1.1).

use crate::layer::{wire::WireReader, zstd::error::ZstdProblem};

/// The header of a frame (RFC 8878, section 3.1.1.1).
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    /// The offset of its first byte in the output.
    pub(super) start: u64,
    /// The window: how far back its blocks refer.
    pub(super) window: u64,
    /// The number of bytes of output, if the header has it.
    pub(super) content: Option<u64>,
    pub(super) has_check: bool,
}

impl Frame {
    /// Parses the fields after the magic number.
    pub(super) fn parse(bytes: &[u8], start: u64) -> Result<Self, ZstdProblem> {
        let mut reader = WireReader(bytes);
        let descriptor = FrameDescriptor(reader.byte().unwrap_or_default());
        let mut field = |length| number(reader.take(length).unwrap_or_default());
        let window = field(descriptor.window_length());
        let dictionary = field(descriptor.dictionary_length());
        let content = field(descriptor.content_length());
        let content = match descriptor.content_length() {
            0 => None,
            2 => Some(content + 256),
            _ => Some(content),
        };
        if dictionary != 0 {
            return Err(ZstdProblem::Dictionary(dictionary));
        }
        let base = 1 << (10 + (window >> 3));
        Ok(Self {
            start,
            window: match content {
                Some(content) if descriptor.is_single_segment() => content,
                _ => base + base / 8 * (window & 7),
            },
            content,
            has_check: descriptor.has_check(),
        })
    }

    /// The most bytes in a block, and the most output of it.
    pub(super) fn block_limit(&self) -> u64 {
        self.window.min(MAX_BLOCK)
    }

    /// The length of the block that begins with these bytes. It includes the checksum after the
    /// last block.
    pub(super) fn block_length(&self, bytes: &[u8]) -> Result<usize, ZstdProblem> {
        let Some(header) = bytes.first_chunk::<BLOCK_HEADER>() else {
            return Ok(BLOCK_HEADER);
        };
        let (kind, size) = block_header(*header);
        if kind == RESERVED || size > self.block_limit() {
            return Err(ZstdProblem::Block);
        }
        let size = if kind == REPEATED { 1 } else { size };
        let is_last = header[0] & 1 == 1;
        let check = if is_last && self.has_check { CHECK } else { 0 };
        Ok(BLOCK_HEADER + usize::try_from(size).map_err(|_| ZstdProblem::Block)? + check)
    }

    /// The number of literals of a compressed block. The decoder itself does not compare it with
    /// the limit of a block.
    pub(super) fn literals(&self, bytes: &[u8]) -> u64 {
        let Some((header, content)) = bytes.split_first_chunk::<BLOCK_HEADER>() else {
            return 0;
        };
        if block_header(*header).0 != COMPRESSED {
            return 0;
        }
        let header = number(content.get(..content.len().min(3)).unwrap_or_default());
        // Section 3.1.1.3.1.1.
        let (shift, bits) = match (header & 3, header >> 2 & 3) {
            (0 | 1, 0 | 2) => (3, 5),
            (0 | 1, 1) => (4, 12),
            (0 | 1, _) => (4, 20),
            (_, 0 | 1) => (4, 10),
            (_, 2) => (4, 14),
            (_, _) => (4, 18),
        };
        header >> shift & ((1 << bits) - 1)
    }
}

/// The byte that tells which fields a header has (RFC 8878, section 3.1.1.1.1).
#[derive(Clone, Copy)]
struct FrameDescriptor(u8);

impl FrameDescriptor {
    const fn is_single_segment(self) -> bool {
        self.0 & 0x20 != 0
    }

    const fn is_reserved(self) -> bool {
        self.0 & 0x08 != 0
    }

    pub(super) const fn has_check(self) -> bool {
        self.0 & 0x04 != 0
    }

    const fn window_length(self) -> usize {
        if self.is_single_segment() { 0 } else { 1 }
    }

    const fn dictionary_length(self) -> usize {
        match self.0 & 3 {
            0 => 0,
            1 => 1,
            2 => 2,
            _ => 4,
        }
    }

    const fn content_length(self) -> usize {
        match self.0 >> 6 {
            0 if self.is_single_segment() => 1,
            0 => 0,
            1 => 2,
            2 => 4,
            _ => 8,
        }
    }
}

/// The length of the header that begins with these bytes. If too few bytes have come, it is a lower
/// bound. The first wrong byte is an error, however many bytes follow it.
pub(super) fn header_length(bytes: &[u8]) -> Result<usize, ZstdProblem> {
    let magic = match bytes.first() {
        Some(first) if first & 0xf0 == SKIPPABLE[0] => {
            [*first, SKIPPABLE[1], SKIPPABLE[2], SKIPPABLE[3]]
        }
        _ => MAGIC,
    };
    if bytes.iter().zip(magic).any(|(byte, magic)| *byte != magic) {
        return Err(ZstdProblem::Magic);
    }
    if magic != MAGIC {
        return Ok(MAGIC.len() + SKIPPABLE_LENGTH);
    }
    let Some(descriptor) = bytes.get(MAGIC.len()).copied().map(FrameDescriptor) else {
        return Ok(MAGIC.len() + 1);
    };
    if descriptor.is_reserved() {
        return Err(ZstdProblem::Reserved);
    }
    Ok(MAGIC.len()
        + 1
        + descriptor.window_length()
        + descriptor.dictionary_length()
        + descriptor.content_length())
}

/// The type and the size of a block (RFC 8878, section 3.1.1.2).
fn block_header(bytes: [u8; BLOCK_HEADER]) -> (u64, u64) {
    let header = number(&bytes);
    (header >> 1 & 3, header >> 3)
}

/// A number in little-endian order.
pub(super) fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

pub(super) const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// The low half of the first byte is arbitrary.
const SKIPPABLE: [u8; 4] = [0x50, 0x2a, 0x4d, 0x18];
const SKIPPABLE_LENGTH: usize = 4;
pub(super) const BLOCK_HEADER: usize = 3;
const MAX_BLOCK: u64 = 128 * 1024;
pub(super) const CHECK: usize = 4;
/// One byte, repeated.
pub(super) const REPEATED: u64 = 1;
pub(super) const COMPRESSED: u64 = 2;
pub(super) const RESERVED: u64 = 3;
