//! Numbers and byte strings in an index and in saved states.
//!
//! ```text
//! number = *( %x80-FF ) %x00-7F      seven bits a byte, the lowest first (LEB128)
//! bytes  = number *OCTET             their length, then the bytes
//! ```

/// Writes a number.
pub(crate) fn put(out: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

/// Writes a signed number. Numbers near zero are short.
pub(crate) fn put_signed(out: &mut Vec<u8>, number: i64) {
    put(
        out,
        (number.cast_unsigned() << 1) ^ (number >> 63).cast_unsigned(),
    );
}

/// Writes the length of bytes, then the bytes.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads these forms. `None` if the bytes have another form.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WireReader<'a>(pub(crate) &'a [u8]);

impl<'a> WireReader<'a> {
    /// The next `length` bytes.
    pub(crate) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// The next bytes, as an array.
    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    /// The next byte.
    pub(crate) fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    /// A number.
    pub(crate) fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit.
            if shift == 63 && bits > 1 {
                return None;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    /// A number that counts values in memory.
    pub(crate) fn length(&mut self) -> Option<usize> {
        usize::try_from(self.number()?).ok()
    }

    /// A signed number.
    pub(crate) fn signed(&mut self) -> Option<i64> {
        let number = self.number()?;
        Some((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    /// Bytes with their length.
    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.length()?;
        self.take(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wire_values_survive_a_round_trip() {
        let mut out = Vec::new();
        let numbers = [0, 1, 127, 128, 300, u64::MAX / 2, u64::MAX];
        let signed = [0, -1, 1, i64::MIN, i64::MAX];
        numbers.iter().for_each(|number| put(&mut out, *number));
        signed
            .iter()
            .for_each(|number| put_signed(&mut out, *number));
        put_bytes(&mut out, b"text");
        let mut reader = WireReader(&out);
        assert!(
            numbers
                .iter()
                .all(|number| reader.number() == Some(*number))
        );
        assert!(signed.iter().all(|number| reader.signed() == Some(*number)));
        assert_eq!(reader.bytes(), Some(b"text".as_slice()));
        assert!(reader.0.is_empty());
    }

    #[test]
    fn truncated_and_oversized_wire_values_are_refused() {
        assert_eq!(WireReader(&[0x80]).number(), None);
        assert_eq!(WireReader(&[0xff; 11]).number(), None);
        assert_eq!(
            WireReader(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]).number(),
            None
        );
        assert_eq!(WireReader(&[3, 1, 2]).bytes(), None);
        assert_eq!(WireReader(&[1, 2]).array::<3>(), None);
    }
}
