//! Extended attributes, in the pax records of star and of libarchive.

use std::{borrow::Cow, collections::BTreeMap, ops::Bound};

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use percent_encoding::percent_decode;

use crate::layer::{
    entry::{MAX_ATTRIBUTES, attribute_weight},
    tar::error::TarProblem,
};

/// Names and values of extended attributes.
pub(super) type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

/// The extended attributes of an entry, which override those of all entries. Returns the attributes
/// that fit into [`MAX_ATTRIBUTES`], and the number of the others.
pub(super) fn attributes(
    ours: &BTreeMap<Vec<u8>, Vec<u8>>,
    globals: &BTreeMap<Vec<u8>, Vec<u8>>,
) -> Result<(Attributes, u64), TarProblem> {
    let mut named = BTreeMap::<Cow<'_, [u8]>, (&[u8], bool)>::new();
    // Libarchive writes each attribute in both forms. The form of star has priority.
    for (prefix, is_encoded) in [(LIBARCHIVE, true), (SCHILY, false)] {
        let others = with_prefix(globals, prefix).filter(|(key, _)| !ours.contains_key(*key));
        for (key, value) in others {
            named.insert(attribute_name(key, prefix), (value, is_encoded));
        }
    }
    for (prefix, is_encoded) in [(LIBARCHIVE, true), (SCHILY, false)] {
        // An empty value removes a global attribute. If there is none, the value itself is empty.
        let ours = with_prefix(ours, prefix)
            .filter(|(key, value)| !value.is_empty() || !globals.contains_key(*key));
        for (key, value) in ours {
            named.insert(attribute_name(key, prefix), (value, is_encoded));
        }
    }
    let (mut attributes, mut omitted, mut weight) = (Vec::new(), 0, 0);
    for (name, (value, is_encoded)) in named {
        let length = if is_encoded {
            value.len() / 4 * 3
        } else {
            value.len()
        };
        let more = attribute_weight(name.len(), length);
        if weight + more > MAX_ATTRIBUTES {
            omitted += 1;
            continue;
        }
        weight += more;
        let value = if is_encoded {
            BASE64.decode(value).map_err(|_| TarProblem::Attribute)?
        } else {
            value.to_vec()
        };
        attributes.push((name.into_owned(), value));
    }
    Ok((attributes, omitted))
}

/// The records whose keys begin with a prefix.
fn with_prefix<'a>(
    records: &'a BTreeMap<Vec<u8>, Vec<u8>>,
    prefix: &'static [u8],
) -> impl Iterator<Item = (&'a Vec<u8>, &'a Vec<u8>)> {
    let from = (Bound::Included(prefix), Bound::Unbounded);
    records
        .range::<[u8], _>(from)
        .take_while(move |(key, _)| key.starts_with(prefix))
}

/// The name of an attribute, from the key of its record. Libarchive percent-encodes names.
fn attribute_name<'a>(key: &'a [u8], prefix: &[u8]) -> Cow<'a, [u8]> {
    let name = key.strip_prefix(prefix).unwrap_or_default();
    if prefix == LIBARCHIVE {
        percent_decode(name).into()
    } else {
        name.into()
    }
}

/// The prefix of a key whose value is raw.
pub(super) const SCHILY: &[u8] = b"SCHILY.xattr.";
/// The prefix of a key with a percent-encoded name and a value in base64.
pub(super) const LIBARCHIVE: &[u8] = b"LIBARCHIVE.xattr.";
/// Libarchive does not pad; other writers might.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
