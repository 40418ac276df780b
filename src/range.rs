//! Ranges of bytes: the `Range` header of a pull and the `Content-Range` of a chunk.
//!
//! ```text
//! Range         ::= "bytes=" spec ("," spec)*         RFC 9110, section 14.2
//! spec          ::= first "-" last? | "-" suffix
//! Content-Range ::= first "-" last                    distribution-spec v1.1.1, end-5
//! ```

use std::{fmt, str::FromStr};

/// A range of at least one byte, both ends inclusive as on the wire. It is formatted as `0-99`.
///
/// It parses the `Content-Range` of a chunk (distribution-spec v1.1.1, end-5), also in the form of
/// RFC 9110.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ByteRange {
    first: u64,
    last: u64,
}

impl ByteRange {
    /// Makes the range from `first` to `last`, both included. `None` if `last` comes before
    /// `first`.
    pub const fn new(first: u64, last: u64) -> Option<Self> {
        if first <= last {
            Some(Self { first, last })
        } else {
            None
        }
    }

    /// The range of all bytes of content. `None` if it has none.
    pub fn all(size: u64) -> Option<Self> {
        Self::new(0, size.checked_sub(1)?)
    }

    /// The offset of the first byte.
    pub const fn first(self) -> u64 {
        self.first
    }

    /// The offset of the last byte.
    pub const fn last(self) -> u64 {
        self.last
    }

    /// The number of bytes, which is at least one.
    pub const fn length(self) -> u64 {
        // Wraps only for the whole of u64, which no content has.
        (self.last - self.first).saturating_add(1)
    }

    /// The bytes that both ranges have. `None` if there are none.
    pub fn intersection(self, other: Self) -> Option<Self> {
        Self::new(self.first.max(other.first), self.last.min(other.last))
    }
}

impl fmt::Display for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl FromStr for ByteRange {
    type Err = ParseRangeError;

    /// Parses the `Content-Range` of a chunk.
    ///
    /// Clients written to RFC 9110 send `bytes first-last/total`. The unit and the total are
    /// accepted and ignored.
    fn from_str(text: &str) -> Result<Self, ParseRangeError> {
        let range = text.strip_prefix("bytes ").unwrap_or(text);
        let range = range.split_once('/').map_or(range, |(range, _)| range);
        let (first, last) = range.split_once('-').ok_or(ParseRangeError)?;
        let (Some(first), Some(last)) = (number(first), number(last)) else {
            return Err(ParseRangeError);
        };
        Self::new(first, last).ok_or(ParseRangeError)
    }
}

/// The error for a text that is no range of bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ParseRangeError;

impl fmt::Display for ParseRangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a range of bytes such as '0-99'")
    }
}

impl std::error::Error for ParseRangeError {}

/// The part of content of a known size that a `Range` header selects.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Selection {
    /// All of the content: the header is absent or to be ignored.
    All,
    /// These ranges, each within the content, in the order of the header.
    Ranges(Vec<ByteRange>),
    /// No byte of the content: the answer is 416 (RFC 9110, section 15.5.17).
    Unsatisfiable,
}

impl Selection {
    /// The most ranges of one request. With more, all of the content is sent, as RFC 9110, section
    /// 14.2 advises.
    pub const MAX_RANGES: usize = 64;

    /// Reads the value of a `Range` header (RFC 9110, section 14.2) against the size of the content
    /// in bytes.
    ///
    /// A malformed value is ignored, as the RFC asks. So are units other than bytes, and several
    /// ranges that add up to more than the content. A range that ends before it begins selects no
    /// byte, also of a set, as the OCI conformance suite asks.
    pub fn of(header: Option<&str>, size: u64) -> Self {
        let Some(specs) = header.and_then(|value| value.strip_prefix("bytes=")) else {
            return Self::All;
        };
        let mut ranges = Vec::new();
        let mut total = 0_u64;
        let mut is_reversed = false;
        for spec in specs.split(',') {
            match Spec::resolve(spec.trim_matches([' ', '\t']), size) {
                Spec::Malformed => return Self::All,
                Spec::Reversed => is_reversed = true,
                Spec::Outside => {}
                Spec::Within(range) => {
                    total = total.saturating_add(range.length());
                    ranges.push(range);
                }
            }
        }
        match ranges.len() {
            _ if is_reversed => Self::Unsatisfiable,
            0 => Self::Unsatisfiable,
            1 => Self::Ranges(ranges),
            count if count > Self::MAX_RANGES || total > size => Self::All,
            _ => Self::Ranges(ranges),
        }
    }
}

/// One range of a `Range` header, against the size of the content.
enum Spec {
    /// Not a range.
    Malformed,
    /// It ends before it begins.
    Reversed,
    /// It selects no byte of the content.
    Outside,
    /// It selects these bytes.
    Within(ByteRange),
}

impl Spec {
    fn resolve(spec: &str, size: u64) -> Self {
        let Some((first, last)) = spec.split_once('-') else {
            return Self::Malformed;
        };
        let (first, last) = match (first, last) {
            ("", suffix) => match number(suffix) {
                Some(suffix) => (size.saturating_sub(suffix), u64::MAX),
                None => return Self::Malformed,
            },
            (first, "") => match number(first) {
                Some(first) => (first, u64::MAX),
                None => return Self::Malformed,
            },
            (first, last) => match (number(first), number(last)) {
                (Some(first), Some(last)) => (first, last),
                _ => return Self::Malformed,
            },
        };
        if first > last {
            return Self::Reversed;
        }
        let within = size
            .checked_sub(1)
            .and_then(|end| ByteRange::new(first, last.min(end)));
        within.map_or(Self::Outside, Self::Within)
    }
}

/// A number in digits only: `u64::from_str` would accept a sign.
fn number(text: &str) -> Option<u64> {
    text.bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[track_caller]
    fn selects(header: &str, size: u64, expected: &[(u64, u64)]) {
        let expected: Vec<ByteRange> = expected
            .iter()
            .map(|(f, l)| ByteRange::new(*f, *l).unwrap())
            .collect();
        assert_eq!(
            Selection::of(Some(header), size),
            Selection::Ranges(expected)
        );
    }

    #[test]
    fn ranges_select_the_bytes_within_the_content() {
        selects("bytes=0-0", 10, &[(0, 0)]);
        selects("bytes=0-9", 10, &[(0, 9)]);
        selects("bytes=0-99", 10, &[(0, 9)]);
        selects("bytes=4-", 10, &[(4, 9)]);
        selects("bytes=-3", 10, &[(7, 9)]);
        selects("bytes=-30", 10, &[(0, 9)]);
        selects("bytes=0-1, 4-5 ,-1", 10, &[(0, 1), (4, 5), (9, 9)]);
        selects("bytes=0-1,20-30", 10, &[(0, 1)]);
        selects("bytes=5-18446744073709551615", 10, &[(5, 9)]);
    }

    #[test]
    fn malformed_range_headers_are_ignored() {
        for header in [
            "",
            "bytes",
            "bytes=",
            "bytes=a-b",
            "bytes=1",
            "bytes=--1",
            "bytes=+1-2",
            "bytes=1-2;3-4",
            "items=0-1",
            "bytes=-",
            "bytes=0-99999999999999999999999",
            "bytes=0-1,x",
            "bytes=3-2,x",
        ] {
            assert_eq!(
                Selection::of(Some(header), 10),
                Selection::All,
                "{header:?}"
            );
        }
        assert_eq!(Selection::of(None, 10), Selection::All);
    }

    #[test]
    fn ranges_outside_of_the_content_are_unsatisfiable() {
        for (header, size) in [
            ("bytes=10-", 10),
            ("bytes=10-20", 10),
            ("bytes=-0", 10),
            ("bytes=0-0", 0),
            ("bytes=-1", 0),
            ("bytes=500-0", 1_000),
            ("bytes=3-2", 10),
            ("bytes=3-2", 0),
            ("bytes=0-1,3-2", 10),
        ] {
            assert_eq!(
                Selection::of(Some(header), size),
                Selection::Unsatisfiable,
                "{header:?} of {size}"
            );
        }
    }

    #[test]
    fn ranges_that_cost_more_than_the_whole_select_all() {
        assert_eq!(Selection::of(Some("bytes=0-9,0-9"), 10), Selection::All);
        let many = vec!["0-0"; Selection::MAX_RANGES + 1].join(",");
        assert_eq!(
            Selection::of(Some(&format!("bytes={many}")), 1_000),
            Selection::All
        );
    }

    #[test]
    fn content_ranges_of_chunks_are_parsed() {
        for (text, first, last) in [
            ("0-0", 0, 0),
            ("10-99", 10, 99),
            ("bytes 0-4/5", 0, 4),
            ("bytes 0-4/*", 0, 4),
        ] {
            let range: ByteRange = text.parse().unwrap();
            assert_eq!(
                (range.first(), range.last(), range.length()),
                (first, last, last - first + 1)
            );
        }
        for text in [
            "",
            "-",
            "0",
            "0-",
            "-1",
            "2-1",
            "a-b",
            "0-+1",
            "bytes=0-1",
            " 0-1",
        ] {
            assert_eq!(
                text.parse::<ByteRange>().unwrap_err().to_string(),
                "not a range of bytes such as '0-99'",
                "{text:?}"
            );
        }
    }

    #[test]
    fn byte_ranges_display_as_they_were_parsed() {
        assert_eq!("3-7".parse::<ByteRange>().unwrap().to_string(), "3-7");
    }

    #[test]
    fn byte_ranges_intersect() {
        let range = |first, last| ByteRange::new(first, last).unwrap();
        assert_eq!(range(0, 5).intersection(range(3, 9)), ByteRange::new(3, 5));
        assert_eq!(range(0, 5).intersection(range(6, 9)), None);
    }
}
