//! The header of a member (RFC 1952, section 2.3), and the checksums for its trailer.

use crate::layer::gzip::error::GzipProblem;

/// Checksums of the output, each byte summed once.
#[derive(Default)]
pub(super) struct Sums {
    /// The bytes since the last end of a member or a span.
    pub(super) piece: crc32fast::Hasher,
    /// The member before the piece. `None` if its start was not read.
    pub(super) member: Option<crc32fast::Hasher>,
    /// The span before the piece. `None` if there are no spans.
    pub(super) span: Option<crc32fast::Hasher>,
}

impl Sums {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        if self.member.is_some() || self.span.is_some() {
            self.piece.update(bytes);
        }
    }

    /// Adds the piece to the sums that it belongs to.
    fn cut(&mut self) {
        let piece = std::mem::take(&mut self.piece);
        for sum in [&mut self.member, &mut self.span].into_iter().flatten() {
            sum.combine(&piece);
        }
    }

    pub(super) fn begin_member(&mut self) {
        self.cut();
        self.member = Some(crc32fast::Hasher::new());
    }

    /// The sum of the member, if its start was read.
    pub(super) fn end_member(&mut self) -> Option<u32> {
        self.cut();
        self.member.take().map(crc32fast::Hasher::finalize)
    }

    /// The sum of the span, which ends here. The next one begins.
    pub(super) fn end_span(&mut self) -> u32 {
        self.cut();
        self.span
            .as_mut()
            .map_or(0, |span| std::mem::take(span).finalize())
    }
}

/// Adds bytes to a partial header. Returns how many belong to it, and whether it is complete.
pub(super) fn take_header(read: &mut Vec<u8>, bytes: &[u8]) -> Result<(usize, bool), GzipProblem> {
    let before = read.len();
    let more = bytes.len().min(MAX_HEADER.saturating_sub(before));
    // Most headers come whole: do not copy them, with all that follows in the chunk.
    if before == 0
        && let Some(length) = header_length(bytes.get(..more).unwrap_or_default())?
    {
        return Ok((length, true));
    }
    read.extend_from_slice(bytes.get(..more).unwrap_or_default());
    match header_length(read)? {
        Some(length) => Ok((length.saturating_sub(before), true)),
        None if more == 0 => Err(GzipProblem::Header),
        None => Ok((more, false)),
    }
}

/// The number of bytes of a header, if it is complete (RFC 1952, section 2.3).
pub(super) fn header_length(bytes: &[u8]) -> Result<Option<usize>, GzipProblem> {
    for (byte, magic) in bytes.iter().zip([0x1f, 0x8b]) {
        if *byte != magic {
            return Err(GzipProblem::Magic);
        }
    }
    if let Some(method) = bytes.get(2).filter(|method| **method != 8) {
        return Err(GzipProblem::Method(*method));
    }
    let Some(flags) = bytes.get(3).copied() else {
        return Ok(None);
    };
    if flags & 0b1110_0000 != 0 {
        return Err(GzipProblem::Flags(flags));
    }
    let mut at = 10;
    if flags & EXTRA != 0 {
        let Some([low, high]) = bytes.get(at..at + 2) else {
            return Ok(None);
        };
        at += 2 + usize::from(u16::from_le_bytes([*low, *high]));
    }
    for flag in [NAME, COMMENT] {
        if flags & flag != 0 {
            let Some(end) = bytes
                .get(at..)
                .and_then(|rest| rest.iter().position(|byte| *byte == 0))
            else {
                return Ok(None);
            };
            at += end + 1;
        }
    }
    if flags & CHECK != 0 {
        let Some([low, high]) = bytes.get(at..at + 2) else {
            return Ok(None);
        };
        let check = crc32fast::hash(bytes.get(..at).unwrap_or_default()) & 0xffff;
        if check != u32::from(u16::from_le_bytes([*low, *high])) {
            return Err(GzipProblem::HeaderCheck);
        }
        at += 2;
    }
    Ok((bytes.len() >= at).then_some(at))
}

/// The longest header. No file system has names or comments of this length.
const MAX_HEADER: usize = 256 * 1024;
pub(super) const TRAILER: usize = 8;
pub(super) const CHECK: u8 = 2;
pub(super) const EXTRA: u8 = 4;
pub(super) const NAME: u8 = 8;
pub(super) const COMMENT: u8 = 16;
