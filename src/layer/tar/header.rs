//! The header of an entry: a block of 512 bytes with fields at fixed offsets, in four dialects.

use std::{borrow::Cow, ops::Range};

use crate::layer::{entry::Moment, tar::error::TarProblem};

#[derive(Clone, Debug)]
pub(super) struct Header(pub(super) [u8; BLOCK]);

/// The format of the second half of a header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Dialect {
    V7,
    Ustar,
    Gnu,
    Star,
}

impl Header {
    pub(super) fn field(&self, field: Range<usize>) -> &[u8] {
        self.0.get(field).unwrap_or_default()
    }

    pub(super) fn byte(&self, at: usize) -> u8 {
        self.0.get(at).copied().unwrap_or_default()
    }

    pub(super) fn flag(&self) -> u8 {
        self.byte(FLAG)
    }

    pub(super) fn text(&self, field: Range<usize>) -> &[u8] {
        text(self.field(field))
    }

    pub(super) fn number(
        &self,
        field: Range<usize>,
        what: &'static str,
    ) -> Result<i64, TarProblem> {
        number(self.field(field)).ok_or(TarProblem::Number(what))
    }

    pub(super) fn unsigned(
        &self,
        field: Range<usize>,
        what: &'static str,
    ) -> Result<u64, TarProblem> {
        u64::try_from(self.number(field, what)?).map_err(|_| TarProblem::Number(what))
    }

    /// Whether the checksum is right: the sum of all bytes, with spaces in its own place. Old
    /// writers summed signed bytes.
    pub(super) fn is_sound(&self) -> bool {
        let spaces = CHECKSUM.len() as i64 * i64::from(b' ');
        let (mut unsigned, mut signed) = (spaces, spaces);
        for field in [0..CHECKSUM.start, CHECKSUM.end..BLOCK] {
            for byte in self.field(field) {
                unsigned += i64::from(*byte);
                signed += i64::from(byte.cast_signed());
            }
        }
        let checksum = octal(self.field(CHECKSUM));
        checksum == Some(unsigned) || checksum == Some(signed)
    }

    pub(super) fn dialect(&self) -> Dialect {
        match self.field(MAGIC) {
            b"ustar  \0" => Dialect::Gnu,
            [b'u', b's', b't', b'a', b'r', 0, ..] if self.field(TRAILER) == b"tar\0" => {
                Dialect::Star
            }
            [b'u', b's', b't', b'a', b'r', 0, ..] => Dialect::Ustar,
            _ => Dialect::V7,
        }
    }

    pub(super) fn path(&self) -> Cow<'_, [u8]> {
        let prefix = match self.dialect() {
            Dialect::V7 => &[],
            Dialect::Ustar => self.text(PREFIX),
            Dialect::Star => self.text(STAR_PREFIX),
            // Go before 1.8 wrote a prefix where GNU has times (<https://golang.org/issues/12594>).
            Dialect::Gnu if self.times().is_none() && self.text(PREFIX).is_ascii() => {
                self.text(PREFIX)
            }
            Dialect::Gnu => &[],
        };
        match prefix {
            b"" => self.text(PATH).into(),
            prefix => [prefix, self.text(PATH)].join(&b'/').into(),
        }
    }

    /// The times of the last access and the last status change, if the header has them. `None` if
    /// the fields hold something else.
    pub(super) fn times(&self) -> Option<(Option<Moment>, Option<Moment>)> {
        let (accessed, changed) = match self.dialect() {
            Dialect::V7 | Dialect::Ustar => return Some((None, None)),
            Dialect::Gnu => (ACCESSED, CHANGED),
            Dialect::Star => (STAR_ACCESSED, STAR_CHANGED),
        };
        let time = |field: Range<usize>| match self.byte(field.start) {
            0 => Some(None),
            _ => number(self.field(field)).map(|time| Some(seconds(time))),
        };
        Some((time(accessed)?, time(changed)?))
    }
}

/// A number in octal digits, or in base 256 if it is too large for them.
pub(super) fn number(field: &[u8]) -> Option<i64> {
    let Some((first, rest)) = field.split_first().filter(|(first, _)| **first >= 0x80) else {
        return octal(field);
    };
    // Two's complement: the sign is the bit below the marker of base 256. Fields have up to 95
    // bits.
    let sign = if first & 0x40 == 0 { 0 } else { -1_i128 };
    let first = sign << 6 | i128::from(first & 0x3f);
    let number = rest
        .iter()
        .fold(first, |number, byte| number << 8 | i128::from(*byte));
    i64::try_from(number).ok()
}

/// A number of up to twelve octal digits, between spaces and zero bytes. No digits mean zero.
pub(super) fn octal(field: &[u8]) -> Option<i64> {
    let is_blank = |byte: &u8| matches!(byte, 0 | b' ');
    let start = field.iter().position(|byte| !is_blank(byte));
    let end = field.iter().rposition(|byte| !is_blank(byte));
    let (Some(start), Some(end)) = (start, end) else {
        return Some(0);
    };
    let digits = text(field.get(start..=end)?);
    digits.iter().try_fold(0_i64, |number, digit| {
        let digit = char::from(*digit).to_digit(8)?;
        number.checked_mul(8)?.checked_add(i64::from(digit))
    })
}

/// The bytes before the first zero byte.
pub(super) fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

pub(super) fn is_zero(block: &[u8]) -> bool {
    block == [0; BLOCK]
}

/// The number of zero bytes that fill the last block.
pub(super) const fn padding(length: u64) -> u64 {
    length.wrapping_neg() % BLOCK as u64
}

pub(super) const fn seconds(seconds: i64) -> Moment {
    Moment {
        seconds,
        nanoseconds: 0,
    }
}

pub(super) const BLOCK: usize = 512;
pub(super) const PATH: Range<usize> = 0..100;
pub(super) const MODE: Range<usize> = 100..108;
pub(super) const USER: Range<usize> = 108..116;
pub(super) const GROUP: Range<usize> = 116..124;
pub(super) const SIZE: Range<usize> = 124..136;
pub(super) const MODIFIED: Range<usize> = 136..148;
pub(super) const CHECKSUM: Range<usize> = 148..156;
pub(super) const FLAG: usize = 156;
pub(super) const LINK: Range<usize> = 157..257;
pub(super) const MAGIC: Range<usize> = 257..265;
pub(super) const USER_NAME: Range<usize> = 265..297;
pub(super) const GROUP_NAME: Range<usize> = 297..329;
pub(super) const MAJOR: Range<usize> = 329..337;
pub(super) const MINOR: Range<usize> = 337..345;
pub(super) const PREFIX: Range<usize> = 345..500;
pub(super) const ACCESSED: Range<usize> = 345..357;
pub(super) const CHANGED: Range<usize> = 357..369;
pub(super) const MAP: Range<usize> = 386..482;
pub(super) const MORE: usize = 482;
pub(super) const REAL_SIZE: Range<usize> = 483..495;
/// The byte of a map block that says whether another one follows.
pub(super) const MORE_BLOCKS: usize = 504;
const STAR_PREFIX: Range<usize> = 345..476;
pub(super) const STAR_ACCESSED: Range<usize> = 476..488;
pub(super) const STAR_CHANGED: Range<usize> = 488..500;
pub(super) const TRAILER: Range<usize> = 508..512;
