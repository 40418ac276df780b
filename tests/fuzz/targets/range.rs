//! `Range` headers: they select the same bytes as a naive parser of RFC 9110.

use strata::range::{ByteRange, Selection};

use crate::input::Input;

pub(crate) const WORDS: &[&[u8]] =
    &[b"bytes=", b"bytes ", b"0-", b"-1", b",", b"18446744073709551615", b"/*"];

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "bytes=0-1,3-,-5",
        "bytes=99999999999999999999-",
        "bytes=5-2",
        "bytes=0-99",
        "bytes=-7",
        "bytes=0-0,2-3",
        "bytes 0-9/20",
        "0-9",
        "bytes= 1-2 , 4-4",
    ];
    let sizes = [[0, 0], [10, 0], [0, 200]];
    let seeds = texts.iter().flat_map(|text| sizes.map(|size| [&size, text.as_bytes()].concat()));
    seeds.collect()
}

pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    let size = (input.word() as u64) << input.0.first().map_or(0, |byte| byte % 48);
    let text = input.text();
    let expected = match expected(&text, size) {
        None => Selection::All,
        Some(all) if all.is_empty() => Selection::Unsatisfiable,
        Some(all) => {
            let total: u128 = all.iter().map(|(first, last)| u128::from(last - first) + 1).sum();
            if all.len() > 1 && (all.len() > Selection::MAX_RANGES || total > u128::from(size)) {
                Selection::All
            } else {
                let range = |(first, last)| ByteRange::new(first, last).unwrap();
                Selection::Ranges(all.into_iter().map(range).collect())
            }
        }
    };
    assert_eq!(Selection::of(Some(&text), size), expected, "{text} of {size}");
    if let Ok(range) = text.parse::<ByteRange>() {
        assert!(range.first() <= range.last());
        assert_eq!(range.to_string().parse(), Ok(range), "a range, written and parsed");
    }
}

/// The ranges that a header selects; `None` if it is malformed. A set with a range that ends before
/// it begins selects nothing.
fn expected(header: &str, size: u64) -> Option<Vec<(u64, u64)>> {
    let digits = |text: &str| {
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        // Beyond 64 bits is no number, and the header is ignored.
        let number = is_number.then(|| text.parse::<u64>().ok());
        number.flatten().map(u128::from)
    };
    let mut all = Vec::new();
    let mut is_reversed = false;
    for spec in header.strip_prefix("bytes=")?.split(',') {
        let (first, last) = spec.trim_matches([' ', '\t']).split_once('-')?;
        let size = u128::from(size);
        let (first, last) = match (first, last) {
            ("", suffix) => {
                let suffix = digits(suffix)?.min(size);
                (size - suffix, size)
            }
            (first, "") => (digits(first)?, size),
            (first, last) => {
                let (first, last) = (digits(first)?, digits(last)?);
                is_reversed |= first > last;
                (first, size.min(last + 1))
            }
        };
        if first < last {
            all.push((first as u64, (last - 1) as u64));
        }
    }
    Some(if is_reversed { Vec::new() } else { all })
}
