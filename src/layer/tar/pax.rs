//! Pax headers: records of keys and values that override the fields of headers.

use std::collections::BTreeMap;

use crate::layer::{
    entry::Moment,
    tar::{
        attributes::{LIBARCHIVE, SCHILY},
        error::TarProblem,
    },
};

/// The records of a pax header by key, as far as an [`Entry`] needs them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Records(pub(super) BTreeMap<Vec<u8>, Vec<u8>>);

impl Records {
    pub(super) fn parse(mut bytes: &[u8]) -> Result<Self, TarProblem> {
        let mut records = Self::default();
        let mut map: Vec<&[u8]> = Vec::new();
        while !bytes.is_empty() {
            let (key, value, rest) = record(bytes).ok_or(TarProblem::Record)?;
            bytes = rest;
            match key {
                // Version 0.0 of the sparse format repeats its keys; version 0.1 joins the values.
                b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                    let is_offset = key.ends_with(b"offset");
                    if is_offset != map.len().is_multiple_of(2) || value.contains(&b',') {
                        return Err(TarProblem::SparseMap);
                    }
                    map.push(value);
                }
                _ if is_known(key) => {
                    records.0.insert(key.to_vec(), value.to_vec());
                }
                _ => {}
            }
            if value.contains(&0)
                && let Some((_, what)) = TEXTS.iter().find(|(text, _)| *text == key)
            {
                return Err(TarProblem::Nul(what));
            }
        }
        if !map.is_empty() {
            let map = map.join(&b',');
            records.0.insert(b"GNU.sparse.map".to_vec(), map);
        }
        Ok(records)
    }

    /// Merges other records over these. An empty value removes a record.
    pub(super) fn merge(&mut self, others: Self) {
        for (key, value) in others.0 {
            if !value.is_empty() || self.0.remove(&key).is_none() {
                self.0.insert(key, value);
            }
        }
    }

    /// The bytes of the keys and values.
    pub(super) fn size(&self) -> u64 {
        let sizes = self.0.iter().map(|(key, value)| key.len() + value.len());
        sizes.sum::<usize>() as u64
    }
}

/// Splits off a record: its key, its value, and the remaining bytes.
pub(super) fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().position(|byte| *byte == b' ')?;
    let (length, _) = bytes.split_at_checked(space)?;
    let (record, rest) = bytes.split_at_checked(decimal(length)?)?;
    let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    let (key, value) = (record.get(..equals)?, record.get(equals + 1..)?);
    (!key.is_empty() && !key.contains(&0)).then_some((key, value, rest))
}

/// Whether an [`Entry`] needs a record.
fn is_known(key: &[u8]) -> bool {
    match key {
        b"path" | b"linkpath" | b"size" | b"uid" | b"gid" | b"uname" | b"gname" | b"mtime"
        | b"atime" | b"ctime" => true,
        b"SCHILY.devmajor" | b"SCHILY.devminor" => true,
        _ => [SCHILY, LIBARCHIVE, b"GNU.sparse."]
            .iter()
            .any(|prefix| key.starts_with(prefix)),
    }
}

pub(super) fn decimal<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Parses a time: seconds with a fraction, rounded down to nanoseconds.
pub(super) fn moment(text: &[u8]) -> Option<Moment> {
    let point = text.iter().position(|byte| *byte == b'.');
    let (whole, fraction) = match point {
        Some(point) => (text.get(..point)?, text.get(point + 1..)?),
        None => (text, [].as_slice()),
    };
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let mut seconds: i64 = decimal(whole)?;
    let digits = fraction.iter().chain(std::iter::repeat(&b'0'));
    let mut nanoseconds = digits.take(9).fold(0, |number, digit| {
        number * 10 + u32::from(digit.saturating_sub(b'0'))
    });
    if whole.starts_with(b"-") {
        let rest = fraction.get(9..).unwrap_or_default();
        nanoseconds += u32::from(rest.iter().any(|digit| *digit != b'0'));
        if nanoseconds > 0 {
            seconds = seconds.checked_sub(1)?;
            nanoseconds = NANOSECONDS - nanoseconds;
        }
    }
    Some(Moment {
        seconds,
        nanoseconds,
    })
}

pub(super) const NANOSECONDS: u32 = 1_000_000_000;
/// Keys whose values must not contain a zero byte: some readers would see only the bytes before it.
pub(super) const TEXTS: [(&[u8], &str); 5] = [
    (b"path", "path"),
    (b"linkpath", "link"),
    (b"uname", "user name"),
    (b"gname", "group name"),
    (b"GNU.sparse.name", "path"),
];
