//! Entries in JSON, written and read (docs/extension.md).

use std::{
    borrow::Cow,
    fmt::{self, Write as _},
};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::layer::{
    entry::{Entry, EntryKind, Moment, Owner, Whiteout},
    tree::{Child, Node},
};

/// The reason why a text is not a page of a table of contents.
#[derive(Debug)]
pub enum PageError {
    /// The text is no JSON of this form, or a number is out of range.
    Json(serde_json::Error),
    /// The entry at this path has an unknown type, or a malformed time.
    Entry(String),
}

impl fmt::Display for PageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(error) => write!(f, "not a page of a table of contents: {error}"),
            Self::Entry(path) => {
                write!(f, "the entry {path:?} of a table of contents is malformed")
            }
        }
    }
}

impl std::error::Error for PageError {}

/// Describes a child in the listing of a directory: its name, and the fields of its entry. `layer`
/// returns the name of a layer by its number, or `None` to leave it out.
pub fn describe_child(child: &Child, layer: impl Fn(usize) -> Option<String>) -> Value {
    let mut out = match &child.node {
        Node::Directory => Map::from_iter([("type".to_owned(), "directory".into())]),
        Node::Entry(sited) => {
            let mut out = describe(&sited.entry);
            if let Some(name) = layer(sited.layer) {
                out.insert("layer".to_owned(), name.into());
            }
            out
        }
    };
    insert_path(&mut out, "name", &child.name);
    out.into()
}

/// Describes an entry in a table of contents: its path, its fields, and whether it is a whiteout.
pub fn describe_entry(entry: &Entry) -> Value {
    let mut out = describe(entry);
    insert_path(&mut out, "path", &entry.path);
    match entry.whiteout() {
        Some(Whiteout::Opaque) => {
            out.insert("whiteout".to_owned(), "opaque".into());
        }
        Some(Whiteout::Name(_)) => {
            out.insert("whiteout".to_owned(), "name".into());
        }
        None => {}
    }
    out.into()
}

/// Returns the fields of an entry that all listings share. Times are decimal texts of seconds since
/// the Unix epoch.
pub fn describe(entry: &Entry) -> Map<String, Value> {
    let mut out = Map::new();
    let mut put = |name: &str, value: Value| out.insert(name.to_owned(), value);
    put("type", entry.kind.name().into());
    put("mode", entry.mode.into());
    put("uid", entry.user.id.into());
    put("gid", entry.group.id.into());
    put("size", entry.size.into());
    put("modified", moment(entry.modified));
    put("offset", entry.offset.into());
    for (name, moment_of) in [("accessed", entry.accessed), ("changed", entry.changed)] {
        if let Some(found) = moment_of {
            put(name, moment(found));
        }
    }
    if let (EntryKind::CharacterDevice | EntryKind::BlockDevice, (major, minor)) =
        (entry.kind, entry.device)
    {
        put("device", json!([major, minor]));
    }
    if let Some(segments) = &entry.segments {
        let segments = segments
            .iter()
            .map(|segment| json!([segment.offset, segment.length]));
        put("segments", segments.collect());
    }
    if !entry.attributes.is_empty() {
        let attributes = entry
            .attributes
            .iter()
            .map(|(name, value)| json!({ "name": lossy(name), "value": encode(value) }));
        put("attributes", attributes.collect());
    }
    if entry.omitted > 0 {
        put("attributesOmitted", entry.omitted.into());
    }
    for (name, owner) in [("user", &entry.user.name), ("group", &entry.group.name)] {
        if !owner.is_empty() {
            put(name, lossy(owner).into());
        }
    }
    if matches!(entry.kind, EntryKind::HardLink | EntryKind::SymbolicLink) {
        insert_path(&mut out, "link", &entry.link);
    }
    out
}

/// Seconds since the epoch in decimal. Numbers of JSON lose nanoseconds.
fn moment(moment: Moment) -> Value {
    let mut text = moment.seconds.to_string();
    if moment.nanoseconds > 0 {
        // Writing to a string can't fail.
        let _ = write!(text, ".{:09}", moment.nanoseconds);
    }
    json!(text)
}

/// Inserts a path as the text `name`. If it is not UTF-8, the text has replacement characters, and
/// a field `<name>Encoded` has the path percent-encoded.
pub fn insert_path(out: &mut Map<String, Value>, name: &str, path: &[u8]) {
    out.insert(name.to_owned(), lossy(path).into());
    if std::str::from_utf8(path).is_err() {
        out.insert(format!("{name}Encoded"), encode(path).into());
    }
}

/// Converts bytes to text, with replacement characters in place of invalid UTF-8.
pub fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Percent-encodes a path, or another part of a URL. Unreserved characters (RFC 3986, section 2.3)
/// and slashes are kept.
pub fn encode(bytes: &[u8]) -> String {
    percent_encode(bytes, PATH).to_string()
}

/// The fields of a page that are read.
#[derive(Deserialize)]
struct PageFields<'a> {
    #[serde(borrow)]
    entries: Vec<Described<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Described<'a> {
    #[serde(borrow)]
    path: Cow<'a, str>,
    path_encoded: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    mode: u32,
    uid: u64,
    gid: u64,
    #[serde(default)]
    user: Cow<'a, str>,
    #[serde(default)]
    group: Cow<'a, str>,
    size: u64,
    modified: Cow<'a, str>,
    offset: u64,
    #[serde(default)]
    link: Cow<'a, str>,
    link_encoded: Option<Cow<'a, str>>,
}

/// Parses a page of a table of contents: paths, kinds, modes, owners, sizes, times of modification,
/// offsets and links. Other fields are not read.
///
/// # Errors
///
/// - [`PageError::Json`] if the text is not a page.
/// - [`PageError::Entry`] if an entry of it is malformed.
pub fn read_page(text: &str) -> Result<Vec<Entry>, PageError> {
    let page: PageFields<'_> = serde_json::from_str(text).map_err(PageError::Json)?;
    let read = |entry: Described<'_>| {
        let path = entry.path.to_string();
        entry.read().ok_or(PageError::Entry(path))
    };
    page.entries.into_iter().map(read).collect()
}

impl Described<'_> {
    fn read(self) -> Option<Entry> {
        let kind = EntryKind::ALL
            .iter()
            .find(|kind| kind.name() == self.kind)?;
        let owner = |id, name: &str| Owner {
            id,
            name: name.as_bytes().to_vec(),
        };
        Some(Entry {
            path: bytes(&self.path, self.path_encoded.as_deref()),
            kind: *kind,
            mode: self.mode,
            user: owner(self.uid, &self.user),
            group: owner(self.gid, &self.group),
            size: self.size,
            modified: read_moment(&self.modified)?,
            link: bytes(&self.link, self.link_encoded.as_deref()),
            offset: self.offset,
            ..Entry::default()
        })
    }
}

/// The bytes of a path from its text or its percent-encoded form.
fn bytes(text: &str, encoded: Option<&str>) -> Vec<u8> {
    encoded.map_or_else(|| text.as_bytes().to_vec(), decode)
}

/// Decodes the output of [`encode`]. A malformed escape is kept as it is.
pub fn decode(encoded: &str) -> Vec<u8> {
    percent_decode_str(encoded).collect()
}

fn read_moment(text: &str) -> Option<Moment> {
    let (seconds, nanoseconds) = text.split_once('.').unwrap_or((text, "0"));
    Some(Moment {
        seconds: seconds.parse().ok()?,
        nanoseconds: nanoseconds.parse().ok()?,
    })
}

/// Bytes that are not encoded: unreserved characters (RFC 3986, section 2.3), and the slash.
const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'/')
    .remove(b'_')
    .remove(b'~');

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_survive_a_round_trip_through_json() {
        let entry = Entry {
            path: b"a/\xff \"%41<b>".to_vec(),
            kind: EntryKind::SymbolicLink,
            mode: 0o4755,
            user: Owner {
                id: u64::MAX,
                name: b"root".to_vec(),
            },
            group: Owner {
                id: 7,
                name: Vec::new(),
            },
            size: (1 << 53) + 1,
            modified: Moment {
                seconds: -2,
                nanoseconds: 5,
            },
            link: b"../\xfe".to_vec(),
            offset: 1 << 40,
            ..Entry::default()
        };
        let plain = Entry {
            path: "ü/x".into(),
            ..Entry::default()
        };
        let page = json!({ "digest": "sha256:…", "entries": [describe_entry(&entry), describe_entry(&plain)] });
        assert_eq!(read_page(&page.to_string()).unwrap(), [entry, plain]);
    }

    #[track_caller]
    fn refuses(page: &str, expected: &str) {
        let error = read_page(page).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }

    #[test]
    fn malformed_pages_of_entries_are_refused() {
        refuses(
            "<html>",
            "not a page of a table of contents: expected value",
        );
        refuses(
            "{}",
            "not a page of a table of contents: missing field `entries`",
        );
        let entry = describe_entry(&Entry {
            path: b"a".to_vec(),
            ..Entry::default()
        });
        for (field, value) in [
            ("type", json!("door")),
            ("modified", json!("now")),
            ("modified", json!("1.x")),
        ] {
            let mut entry = entry.clone();
            entry[field] = value;
            let page = json!({ "entries": [entry] }).to_string();
            refuses(&page, "the entry \"a\" of a table of contents is malformed");
        }
    }
}
