//! Keys of the bucket.
//! One file, because the kinds of keys, their text and their order are one table.
//!
//! | key | kind | object |
//! |---|---|---|
//! | `blobs/<algorithm>/<xx>/<encoded>` | `Blob` | its bytes, a record of its extents, or a note that it was quarantined |
//! | `extents/<upload>/<place>-<nonce>` | `Extent` | the bytes of one body; written once, and copied once if the sweep joins the blob |
//! | `refs/<algorithm>/<encoded>/<name>/_grants/<id>` | `Grant` | why a repository holds a blob |
//! | `refs/<algorithm>/<encoded>/<name>/_link` | `Link` | a grant exists that is no claim; and the blob's record |
//! | `repositories/<name>/_manifests/<algorithm>/<encoded>` | `Manifest` | its bytes |
//! | `repositories/<name>/_tags/<tag>` | `Tag` | the digest that it names, or a tombstone, which has no bytes |
//! | `repositories/<name>/_referrers/<algorithm>/<encoded>/<manifest>-<id>` | `Referrer` | the descriptor of a manifest with this subject |
//! | `catalog/<name>` | `Catalog` | the repository exists |
//! | `uploads/<upload>/<name>/_<number>` | `Step` | one step of an upload |
//! | `fills/<algorithm>/<encoded>/<name>` | `Fill` | a hint, the upload by which an upstream's blob is being stored |
//! | `layers/<algorithm>/<encoded>/index` | `Index` | the index of a layer, or why it has none |
//! | `layers/<algorithm>/<encoded>/pages` | `Pages` | the rest of a large index, after its head |
//! | `layers/<algorithm>/<encoded>/spans/<number>` | `StoredSpans` | spans of a layer that can't be read from the middle |
//! | `indexing/<algorithm>/<encoded>` | `Indexing` | a pass over a layer that is to go on |
//! | `sweep/marks/<algorithm>/<encoded>` | `Mark` | the sweep's mark of a blob |
//! | `sweep/claims/<name>/_<algorithm>/<encoded>` | `Claim` | retention is removing the manifest |
//! | `sweep/cursor` | `SweepCursor` | the place of the sweep |
//! | `sweep/inventory` | `Inventory` | the counts of the last complete round of the sweep |
//! | `sweep/scrub` | `ScrubCursor` | the place of the scrub |
//! | `sweep/passes` | `Passes` | the passes that the clock's trigger began and did not end |
//!
//! The sweep lists directories side by side, in one order: `blobs/`, `refs/`, `layers/` and
//! `sweep/marks/` by digest, `uploads/` and `extents/` by upload. `<xx>` is the first two
//! characters of `<encoded>`, so that people can list the bucket by parts. No component of a
//! repository's name begins with `_`: the first such component ends the name, and no repository's
//! keys begin with those of another.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    digest::Digest,
    name::{Name, Tag},
    upload::{ExtentName, UploadId},
};

/// The key of an object of the bucket.
///
/// Every text parses, and is displayed unchanged. A key that this version does not know is
/// [`Key::Unknown`], so that code which deletes has to decide about it.
///
/// The order of keys is not that of their texts, in which a bucket lists them.
///
/// ```
/// use strata::store::key::Key;
///
/// let key = Key::parse("repositories/library/alpine/_tags/latest");
/// assert!(matches!(&key, Key::Tag { tag, .. } if tag.as_str() == "latest"));
/// assert_eq!(key.to_string(), "repositories/library/alpine/_tags/latest");
/// ```
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[expect(missing_docs, reason = "the fields are the types that they have")]
pub enum Key {
    /// A blob: its bytes, a record of its extents, or a note that it was quarantined.
    Blob(Digest),
    /// The bytes of one body, which belong to an upload or a fill.
    Extent(ExtentName),
    /// The reason why a repository holds a blob.
    Grant {
        digest: Digest,
        name: Name,
        id: String,
    },
    /// The link from a repository to a blob.
    Link { digest: Digest, name: Name },
    /// A manifest of a repository.
    Manifest { name: Name, digest: Digest },
    /// A tag of a repository.
    Tag { name: Name, tag: Tag },
    /// The entry of a manifest among the referrers of its subject.
    Referrer {
        name: Name,
        subject: Digest,
        manifest: Digest,
        id: String,
    },
    /// The entry of a repository in the catalogue.
    Catalog(Name),
    /// A step of an upload. In the order of their keys, steps are in the order of their numbers.
    Step {
        upload: UploadId,
        name: Name,
        number: u32,
    },
    /// A hint at a fill that may have been interrupted.
    Fill { digest: Digest, name: Name },
    /// The index of a layer, its head alone if it is large.
    Index(Digest),
    /// The rest of a large index.
    Pages(Digest),
    /// Stored spans of a layer.
    StoredSpans { digest: Digest, number: u32 },
    /// A pass over a layer that is to go on.
    Indexing(Digest),
    /// The sweep's mark of a blob.
    Mark(Digest),
    /// Retention's claim of a manifest that it is removing.
    Claim { name: Name, manifest: Digest },
    /// The place of the sweep.
    SweepCursor,
    /// The counts of the last complete round of the sweep.
    Inventory,
    /// The place of the scrub.
    ScrubCursor,
    /// The passes that the clock's trigger began and did not end.
    Passes,
    /// A key that this version does not know.
    Unknown(UnknownKey),
}

/// The text of a key that this version does not know. Only [`Key::parse`] makes one.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct UnknownKey(String);

impl Key {
    /// The key of a blob.
    pub fn blob(digest: &Digest) -> Self {
        Self::Blob(digest.clone())
    }

    /// The key of an extent.
    pub fn extent(name: &ExtentName) -> Self {
        Self::Extent(name.clone())
    }

    /// The key of a grant. The id tells apart the grants of one repository on one blob.
    pub fn grant(digest: &Digest, name: &Name, id: &str) -> Self {
        Self::Grant {
            digest: digest.clone(),
            name: name.clone(),
            id: id.to_owned(),
        }
    }

    /// The key of a link.
    pub fn link(digest: &Digest, name: &Name) -> Self {
        Self::Link {
            digest: digest.clone(),
            name: name.clone(),
        }
    }

    /// The key of a manifest.
    pub fn manifest(name: &Name, digest: &Digest) -> Self {
        Self::Manifest {
            name: name.clone(),
            digest: digest.clone(),
        }
    }

    /// The key of a tag.
    pub fn tag(name: &Name, tag: &Tag) -> Self {
        Self::Tag {
            name: name.clone(),
            tag: tag.clone(),
        }
    }

    /// The key of an entry among referrers. The id tells apart the entries of one manifest.
    pub fn referrer(name: &Name, subject: &Digest, manifest: &Digest, id: &str) -> Self {
        Self::Referrer {
            name: name.clone(),
            subject: subject.clone(),
            manifest: manifest.clone(),
            id: id.to_owned(),
        }
    }

    /// The key of an entry in the catalogue.
    pub fn catalog(name: &Name) -> Self {
        Self::Catalog(name.clone())
    }

    /// The key of a step of an upload.
    pub fn step(name: &Name, upload: UploadId, number: u32) -> Self {
        Self::Step {
            upload,
            name: name.clone(),
            number,
        }
    }

    /// The key of a hint at a fill.
    pub fn fill(digest: &Digest, name: &Name) -> Self {
        Self::Fill {
            digest: digest.clone(),
            name: name.clone(),
        }
    }

    /// The key of the index of a layer.
    pub fn index(digest: &Digest) -> Self {
        Self::Index(digest.clone())
    }

    /// The key of the rest of a large index.
    pub fn pages(digest: &Digest) -> Self {
        Self::Pages(digest.clone())
    }

    /// The key of stored spans.
    pub fn stored_spans(digest: &Digest, number: u32) -> Self {
        Self::StoredSpans {
            digest: digest.clone(),
            number,
        }
    }

    /// The key of a pass that is to go on.
    pub fn indexing(digest: &Digest) -> Self {
        Self::Indexing(digest.clone())
    }

    /// The key of a mark.
    pub fn mark(digest: &Digest) -> Self {
        Self::Mark(digest.clone())
    }

    /// The key of the claim of a manifest.
    pub fn claim(name: &Name, manifest: &Digest) -> Self {
        Self::Claim {
            name: name.clone(),
            manifest: manifest.clone(),
        }
    }

    /// Parses a key. A text that is no known key becomes [`Key::Unknown`].
    pub fn parse(text: &str) -> Self {
        // A known key has one text. `00001` and `1` would otherwise be one key.
        parse_known(text)
            .filter(|key| is_displayed_as(key, text))
            .unwrap_or_else(|| Self::Unknown(UnknownKey(text.to_owned())))
    }

    /// The digest after the prefix of a key in `blobs/`, `refs/`, `layers/` or `sweep/marks/`, also
    /// of unknown keys. `None` for other keys.
    pub fn digest(&self) -> Option<Digest> {
        match self {
            Self::Blob(digest)
            | Self::Grant { digest, .. }
            | Self::Link { digest, .. }
            | Self::Index(digest)
            | Self::Pages(digest)
            | Self::StoredSpans { digest, .. }
            | Self::Mark(digest) => Some(digest.clone()),
            Self::Unknown(UnknownKey(text)) => digest_in(text),
            Self::Extent(_)
            | Self::Manifest { .. }
            | Self::Tag { .. }
            | Self::Referrer { .. }
            | Self::Catalog(_)
            | Self::Step { .. }
            | Self::Fill { .. }
            | Self::Indexing(_)
            | Self::Claim { .. }
            | Self::SweepCursor
            | Self::Inventory
            | Self::ScrubCursor
            | Self::Passes => None,
        }
    }

    /// The repository of a key in `refs/`, also of unknown keys. `None` for other keys.
    pub fn holder(&self) -> Option<Name> {
        match self {
            Self::Grant { name, .. } | Self::Link { name, .. } => Some(name.clone()),
            Self::Unknown(UnknownKey(text)) => {
                let (_, rest) = digest_and_rest(text.strip_prefix("refs/")?)?;
                rest.split_once("/_")?.0.parse().ok()
            }
            _ => None,
        }
    }

    /// The upload after the prefix of a key in `uploads/` or `extents/`, also of unknown keys.
    /// `None` for other keys.
    pub fn upload(&self) -> Option<UploadId> {
        match self {
            Self::Step { upload, .. } => Some(*upload),
            Self::Extent(name) => name.upload(),
            Self::Unknown(UnknownKey(text)) => {
                let (upload, _) = text.strip_prefix("uploads/")?.split_once('/')?;
                upload.parse().ok()
            }
            Self::Blob(_)
            | Self::Grant { .. }
            | Self::Link { .. }
            | Self::Manifest { .. }
            | Self::Tag { .. }
            | Self::Referrer { .. }
            | Self::Catalog(_)
            | Self::Fill { .. }
            | Self::Index(_)
            | Self::Pages(_)
            | Self::StoredSpans { .. }
            | Self::Indexing(_)
            | Self::Mark(_)
            | Self::Claim { .. }
            | Self::SweepCursor
            | Self::Inventory
            | Self::ScrubCursor
            | Self::Passes => None,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blob(digest) => {
                let encoded = digest.encoded();
                let first = encoded.get(..2).unwrap_or_default();
                write!(
                    f,
                    "{}{}/{first}/{encoded}",
                    Prefix::Blobs,
                    digest.algorithm()
                )
            }
            Self::Extent(name) => write!(f, "{}{name}", Prefix::Extents),
            Self::Grant { digest, name, id } => write!(f, "{}{id}", Prefix::Grants(digest, name)),
            Self::Link { digest, name } => write!(f, "{}link", Prefix::Held(digest, name)),
            Self::Manifest { name, digest } => {
                write!(f, "{}{}", Prefix::Manifests(name), Path(digest))
            }
            Self::Tag { name, tag } => write!(f, "{}{tag}", Prefix::Tags(name)),
            Self::Referrer {
                name,
                subject,
                manifest,
                id,
            } => {
                write!(f, "{}{id}", Prefix::Referrer(name, subject, manifest))
            }
            Self::Catalog(name) => write!(f, "{}{name}", Prefix::Catalog),
            Self::Step {
                upload,
                name,
                number,
            } => write!(f, "{}{number:05}", Prefix::Steps(name, *upload)),
            Self::Fill { digest, name } => write!(f, "{}{}/{name}", Prefix::Fills, Path(digest)),
            Self::Index(digest) => write!(f, "{}index", Prefix::Layer(digest)),
            Self::Pages(digest) => write!(f, "{}pages", Prefix::Layer(digest)),
            Self::StoredSpans { digest, number } => {
                write!(f, "{}spans/{number:05}", Prefix::Layer(digest))
            }
            Self::Indexing(digest) => write!(f, "{}{}", Prefix::Indexing, Path(digest)),
            Self::Mark(digest) => write!(f, "{}{}", Prefix::Marks, Path(digest)),
            Self::Claim { name, manifest } => {
                write!(f, "{}{name}/_{}", Prefix::Claims, Path(manifest))
            }
            Self::SweepCursor => f.write_str("sweep/cursor"),
            Self::Inventory => f.write_str("sweep/inventory"),
            Self::ScrubCursor => f.write_str("sweep/scrub"),
            Self::Passes => f.write_str("sweep/passes"),
            Self::Unknown(UnknownKey(text)) => f.write_str(text),
        }
    }
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::parse(&String::deserialize(deserializer)?))
    }
}

/// The text with which the keys of a listing begin.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Prefix<'a> {
    /// All blobs.
    Blobs,
    /// All extents.
    Extents,
    /// The extents of an upload.
    ExtentsOf(UploadId),
    /// All grants and links.
    References,
    /// The grants and links of a blob.
    Holders(&'a Digest),
    /// The grants and the link of a blob in a repository.
    Held(&'a Digest, &'a Name),
    /// The grants of a blob in a repository.
    Grants(&'a Digest, &'a Name),
    /// The manifests, tags and referrers of all repositories.
    Repositories,
    /// The manifests of a repository.
    Manifests(&'a Name),
    /// The tags of a repository.
    Tags(&'a Name),
    /// The referrers of all manifests of a repository.
    AllReferrers(&'a Name),
    /// The referrers of a manifest.
    Referrers(&'a Name, &'a Digest),
    /// The entries of one manifest among the referrers of its subject, which comes first.
    Referrer(&'a Name, &'a Digest, &'a Digest),
    /// The catalogue.
    Catalog,
    /// The steps of all uploads.
    Uploads,
    /// The steps of an upload, whichever repository it belongs to.
    Upload(UploadId),
    /// The steps of an upload of a repository.
    Steps(&'a Name, UploadId),
    /// All hints at fills.
    Fills,
    /// Everything that is derived from layers.
    Layers,
    /// Everything that is derived from a layer.
    Layer(&'a Digest),
    /// The passes that are to go on.
    Indexing,
    /// All marks.
    Marks,
    /// All claims.
    Claims,
}

impl fmt::Display for Prefix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blobs => f.write_str("blobs/"),
            Self::Extents => f.write_str("extents/"),
            Self::ExtentsOf(upload) => write!(f, "{}{upload}/", Self::Extents),
            Self::References => f.write_str("refs/"),
            Self::Holders(digest) => write!(f, "{}{}/", Self::References, Path(digest)),
            Self::Held(digest, name) => write!(f, "{}{name}/_", Self::Holders(digest)),
            Self::Grants(digest, name) => write!(f, "{}grants/", Self::Held(digest, name)),
            Self::Repositories => f.write_str("repositories/"),
            Self::Manifests(name) => write!(f, "{}{name}/_manifests/", Self::Repositories),
            Self::Tags(name) => write!(f, "{}{name}/_tags/", Self::Repositories),
            Self::AllReferrers(name) => write!(f, "{}{name}/_referrers/", Self::Repositories),
            Self::Referrers(name, subject) => {
                write!(f, "{}{}/", Self::AllReferrers(name), Path(subject))
            }
            Self::Referrer(name, subject, manifest) => {
                let (algorithm, encoded) = (manifest.algorithm(), manifest.encoded());
                write!(
                    f,
                    "{}{algorithm}-{encoded}-",
                    Self::Referrers(name, subject)
                )
            }
            Self::Catalog => f.write_str("catalog/"),
            Self::Uploads => f.write_str("uploads/"),
            Self::Upload(upload) => write!(f, "{}{upload}/", Self::Uploads),
            Self::Steps(name, upload) => write!(f, "{}{name}/_", Self::Upload(*upload)),
            Self::Fills => f.write_str("fills/"),
            Self::Layers => f.write_str("layers/"),
            Self::Layer(digest) => write!(f, "{}{}/", Self::Layers, Path(digest)),
            Self::Indexing => f.write_str("indexing/"),
            Self::Marks => f.write_str("sweep/marks/"),
            Self::Claims => f.write_str("sweep/claims/"),
        }
    }
}

impl Prefix<'_> {
    /// A text that comes after every known key with this prefix, and before the keys of the next
    /// name or digest. A listing goes on behind it.
    pub fn end(&self) -> String {
        // No name, tag, digest or id has a `~`, and all of their characters come before it.
        format!("{self}~")
    }
}

/// A digest as a path of two components.
struct Path<'a>(&'a Digest);

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0.algorithm(), self.0.encoded())
    }
}

/// Parses a path of two components as a digest.
fn digest(path: &str) -> Option<Digest> {
    path.replacen('/', ":", 1).parse().ok()
}

/// Parses a digest of two components, and returns the text after its slash.
fn digest_and_rest(path: &str) -> Option<(Digest, &str)> {
    let (algorithm, rest) = path.split_once('/')?;
    let (encoded, rest) = rest.split_once('/')?;
    Some((format!("{algorithm}:{encoded}").parse().ok()?, rest))
}

/// Parses a key that this version knows. Numbers may have another width than displayed.
fn parse_known(text: &str) -> Option<Key> {
    let (directory, rest) = text.split_once('/')?;
    Some(match directory {
        "blobs" => {
            let (algorithm, rest) = rest.split_once('/')?;
            let (_, encoded) = rest.split_once('/')?;
            Key::Blob(format!("{algorithm}:{encoded}").parse().ok()?)
        }
        "extents" => Key::Extent(ExtentName::from(rest)),
        "refs" => {
            let (digest, rest) = digest_and_rest(rest)?;
            let (name, entry) = rest.split_once("/_")?;
            let name = name.parse().ok()?;
            match entry.strip_prefix("grants/") {
                Some(id) => Key::Grant {
                    digest,
                    name,
                    id: id.to_owned(),
                },
                None => Key::Link { digest, name },
            }
        }
        "repositories" => {
            let (name, rest) = rest.split_once("/_")?;
            let (kind, rest) = rest.split_once('/')?;
            parse_held(name.parse().ok()?, kind, rest)?
        }
        "catalog" => Key::Catalog(rest.parse().ok()?),
        "uploads" => {
            let (upload, rest) = rest.split_once('/')?;
            let (name, number) = rest.split_once("/_")?;
            Key::Step {
                upload: upload.parse().ok()?,
                name: name.parse().ok()?,
                number: number.parse().ok()?,
            }
        }
        "fills" => {
            let (digest, name) = digest_and_rest(rest)?;
            Key::Fill {
                digest,
                name: name.parse().ok()?,
            }
        }
        "layers" => {
            let (digest, rest) = digest_and_rest(rest)?;
            match rest {
                "index" => Key::Index(digest),
                "pages" => Key::Pages(digest),
                _ => Key::StoredSpans {
                    digest,
                    number: rest.strip_prefix("spans/")?.parse().ok()?,
                },
            }
        }
        "indexing" => Key::Indexing(digest(rest)?),
        "sweep" => parse_sweep(rest)?,
        _ => return None,
    })
}

/// Parses the key of a manifest, a tag or a referrer.
fn parse_held(name: Name, kind: &str, rest: &str) -> Option<Key> {
    Some(match kind {
        "manifests" => Key::Manifest {
            name,
            digest: digest(rest)?,
        },
        "tags" => Key::Tag {
            name,
            tag: rest.parse().ok()?,
        },
        "referrers" => {
            let (subject, entry) = digest_and_rest(rest)?;
            let (algorithm, entry) = entry.split_once('-')?;
            let (encoded, id) = entry.split_once('-')?;
            if id.contains(['-', '/']) {
                return None;
            }
            Key::Referrer {
                name,
                subject,
                manifest: format!("{algorithm}:{encoded}").parse().ok()?,
                id: id.to_owned(),
            }
        }
        _ => return None,
    })
}

/// Parses the key of a mark, a claim, or the state of the sweep or scrub.
fn parse_sweep(rest: &str) -> Option<Key> {
    Some(match rest {
        "cursor" => Key::SweepCursor,
        "inventory" => Key::Inventory,
        "scrub" => Key::ScrubCursor,
        "passes" => Key::Passes,
        _ => match rest.split_once('/')? {
            ("marks", rest) => Key::Mark(digest(rest)?),
            ("claims", rest) => {
                let (name, manifest) = rest.split_once("/_")?;
                Key::Claim {
                    name: name.parse().ok()?,
                    manifest: digest(manifest)?,
                }
            }
            _ => return None,
        },
    })
}

/// Whether a key is displayed as this text.
fn is_displayed_as(key: &Key, text: &str) -> bool {
    /// The part of the text that has not been written yet.
    struct Rest<'a>(&'a str);

    impl fmt::Write for Rest<'_> {
        fn write_str(&mut self, written: &str) -> fmt::Result {
            self.0 = self.0.strip_prefix(written).ok_or(fmt::Error)?;
            Ok(())
        }
    }

    let mut rest = Rest(text);
    fmt::write(&mut rest, format_args!("{key}")).is_ok() && rest.0.is_empty()
}

/// The digest with which an unknown key begins after its directory.
fn digest_in(text: &str) -> Option<Digest> {
    let path = ["refs/", "layers/", "sweep/marks/"]
        .iter()
        .find_map(|directory| text.strip_prefix(directory));
    let (algorithm, encoded) = match path {
        Some(path) => path.split_once('/')?,
        None => {
            let (algorithm, rest) = text.strip_prefix("blobs/")?.split_once('/')?;
            (algorithm, rest.split_once('/')?.1)
        }
    };
    let encoded = encoded.split('/').next()?;
    format!("{algorithm}:{encoded}").parse().ok()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    const HASH: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn digest() -> Digest {
        format!("sha256:{HASH}").parse().unwrap()
    }

    fn name() -> Name {
        "library/alpine".parse().unwrap()
    }

    /// Every kind of key, with its text. Buckets have these: no text may ever change.
    fn golden() -> Vec<(Key, String)> {
        let (digest, name, id) = (digest(), name(), UploadId::new([7; 16]));
        let other: Digest = format!("sha512:{HASH}{HASH}").parse().unwrap();
        let upload = "07".repeat(16);
        let refs = format!("refs/sha256/{HASH}/library/alpine");
        let repository = "repositories/library/alpine";
        vec![
            (Key::blob(&digest), format!("blobs/sha256/e3/{HASH}")),
            (Key::blob(&other), format!("blobs/sha512/e3/{HASH}{HASH}")),
            (
                Key::extent(&ExtentName::new(id, 1, "ff")),
                format!("extents/{upload}/1-ff"),
            ),
            (Key::grant(&digest, &name, "g"), format!("{refs}/_grants/g")),
            (Key::link(&digest, &name), format!("{refs}/_link")),
            (
                Key::manifest(&name, &digest),
                format!("{repository}/_manifests/sha256/{HASH}"),
            ),
            (
                Key::tag(&name, &"latest".parse().unwrap()),
                format!("{repository}/_tags/latest"),
            ),
            (
                Key::referrer(&name, &digest, &other, "r"),
                format!("{repository}/_referrers/sha256/{HASH}/sha512-{HASH}{HASH}-r"),
            ),
            (Key::catalog(&name), "catalog/library/alpine".to_owned()),
            (
                Key::step(&name, id, 3),
                format!("uploads/{upload}/library/alpine/_00003"),
            ),
            (
                Key::fill(&digest, &name),
                format!("fills/sha256/{HASH}/library/alpine"),
            ),
            (Key::index(&digest), format!("layers/sha256/{HASH}/index")),
            (Key::pages(&digest), format!("layers/sha256/{HASH}/pages")),
            (
                Key::stored_spans(&digest, 12),
                format!("layers/sha256/{HASH}/spans/00012"),
            ),
            (Key::indexing(&digest), format!("indexing/sha256/{HASH}")),
            (Key::mark(&digest), format!("sweep/marks/sha256/{HASH}")),
            (
                Key::claim(&name, &digest),
                format!("sweep/claims/library/alpine/_sha256/{HASH}"),
            ),
            (Key::SweepCursor, "sweep/cursor".to_owned()),
            (Key::Inventory, "sweep/inventory".to_owned()),
            (Key::ScrubCursor, "sweep/scrub".to_owned()),
            (Key::Passes, "sweep/passes".to_owned()),
        ]
    }

    #[test]
    fn keys_are_displayed_and_parsed_as_stored() {
        for (key, text) in golden() {
            assert_eq!(key.to_string(), text);
            assert_eq!(Key::parse(&text), key);
        }
    }

    /// Whether a text has the form of a pattern, in which `<word>` stands for some characters.
    fn fits(pattern: &str, text: &str) -> bool {
        let parts: Vec<_> = pattern.split(['<', '>']).step_by(2).collect();
        let (Some((first, others)), Some(last)) = (parts.split_first(), parts.last()) else {
            return false;
        };
        let Some(mut rest) = text.strip_prefix(first) else {
            return false;
        };
        others.iter().all(|part| {
            let found = rest.get(1..).and_then(|rest| rest.split_once(part));
            found.is_some_and(|(_, after)| {
                rest = after;
                true
            })
        }) && text.ends_with(last)
    }

    #[test]
    fn the_table_of_keys_has_each_kind_with_its_text() {
        let table = include_str!("key.rs")
            .lines()
            .map_while(|line| line.strip_prefix("//!"));
        let mut rows: BTreeMap<_, _> = table
            .filter_map(|line| {
                let mut cells = line.split('|').map(|cell| cell.trim().trim_matches('`'));
                let (pattern, kind) = (cells.nth(1)?, cells.next()?);
                kind.starts_with(char::is_uppercase)
                    .then_some((kind, pattern))
            })
            .collect();
        let mut kinds = BTreeSet::new();
        for (key, text) in golden() {
            let shown = format!("{key:?}");
            let kind = shown.split(|c: char| !c.is_alphabetic()).next().unwrap();
            assert!(fits(rows[kind], &text), "{kind}: {text}");
            kinds.insert(kind.to_owned());
        }
        rows.retain(|kind, _| !kinds.contains(*kind));
        assert!(
            rows.is_empty(),
            "the table has kinds without a key: {rows:?}"
        );
    }

    #[test]
    fn a_changed_character_makes_another_key() {
        for (key, text) in golden() {
            for at in 0..text.len() {
                for with in ["", "/", "_", "0", "A", "~"] {
                    let (before, after) = text.split_at(at);
                    let changed = format!("{before}{with}{}", after.get(1..).unwrap());
                    let parsed = Key::parse(&changed);
                    assert_eq!(parsed.to_string(), changed);
                    assert!(changed == text || parsed != key, "{changed}");
                }
            }
        }
    }

    #[test]
    fn unknown_keys_are_kept_unchanged() {
        let refs = format!("refs/sha256/{HASH}");
        let layer = format!("layers/sha256/{HASH}");
        let upload = "07".repeat(16);
        for (text, of, upload_of) in [
            (&*format!("{refs}/library/alpine/_lease"), true, false),
            (&*format!("{refs}/library/alpine"), true, false),
            (&*format!("{layer}/soci"), true, false),
            (&*format!("{layer}/spans/12"), true, false),
            (&*format!("{layer}/spans/000012"), true, false),
            (&*format!("sweep/marks/sha256/{HASH}/x"), true, false),
            (&*format!("blobs/sha256/00/{HASH}"), true, false),
            (&*format!("uploads/{upload}/a/_1"), false, true),
            (&*format!("uploads/{upload}/a"), false, true),
            (
                &*format!("refs/sha256/{}", HASH.to_uppercase()),
                false,
                false,
            ),
            ("repositories/a/_other/x", false, false),
            ("sweep/other", false, false),
            ("catalog/A", false, false),
            ("other", false, false),
            ("", false, false),
            (
                &*format!("repositories/a/_referrers/sha256/{HASH}/sha256-{HASH}-a-b"),
                false,
                false,
            ),
        ] {
            let key = Key::parse(text);
            assert!(matches!(key, Key::Unknown(_)), "{text}: {key:?}");
            assert_eq!(key.to_string(), text);
            assert_eq!(key.digest(), of.then(digest), "{text}");
            assert_eq!(key.upload().is_some(), upload_of, "{text}");
            let is_held = text.ends_with("_lease");
            assert_eq!(key.holder(), is_held.then(name), "{text}");
        }
    }

    #[test]
    fn keys_name_the_digest_of_a_blob_or_the_id_of_an_upload() {
        for (key, text) in golden() {
            let of_blob = ["blobs/", "refs/", "layers/", "sweep/marks/"];
            let is_of_blob = of_blob.iter().any(|prefix| text.starts_with(prefix));
            assert_eq!(key.digest().is_some(), is_of_blob, "{text}");
            let is_of_upload = text.starts_with("uploads/") || text.starts_with("extents/");
            assert_eq!(key.upload().is_some(), is_of_upload, "{text}");
        }
    }

    #[test]
    fn keys_of_extents_accept_any_name() {
        for text in ["extents/", "extents/x", "extents/x/y-z"] {
            let key = Key::parse(text);
            assert!(matches!(key, Key::Extent(_)), "{key:?}");
            assert_eq!((key.to_string().as_str(), key.upload()), (text, None));
        }
    }

    #[test]
    fn prefixes_list_the_keys_of_their_kind() {
        let (digest, name, id) = (digest(), name(), UploadId::new([7; 16]));
        let layer = "Index Pages StoredSpans";
        let sha512: Digest = format!("sha512:{HASH}{HASH}").parse().unwrap();
        for (prefix, kinds) in [
            (Prefix::Blobs, "Blob Blob"),
            (Prefix::Extents, "Extent"),
            (Prefix::ExtentsOf(id), "Extent"),
            (Prefix::References, "Grant Link"),
            (Prefix::Holders(&digest), "Grant Link"),
            (Prefix::Held(&digest, &name), "Grant Link"),
            (Prefix::Grants(&digest, &name), "Grant"),
            (Prefix::Repositories, "Manifest Tag Referrer"),
            (Prefix::Manifests(&name), "Manifest"),
            (Prefix::Tags(&name), "Tag"),
            (Prefix::AllReferrers(&name), "Referrer"),
            (Prefix::Referrers(&name, &digest), "Referrer"),
            (Prefix::Referrer(&name, &digest, &sha512), "Referrer"),
            (Prefix::Referrer(&name, &digest, &digest), ""),
            (Prefix::Catalog, "Catalog"),
            (Prefix::Uploads, "Step"),
            (Prefix::Upload(id), "Step"),
            (Prefix::Steps(&name, id), "Step"),
            (Prefix::Fills, "Fill"),
            (Prefix::Layers, layer),
            (Prefix::Layer(&digest), layer),
            (Prefix::Layer(&sha512), ""),
            (Prefix::Indexing, "Indexing"),
            (Prefix::Marks, "Mark"),
            (Prefix::Claims, "Claim"),
        ] {
            let text = prefix.to_string();
            let listed: Vec<_> = golden()
                .into_iter()
                .filter(|(_, key)| key.starts_with(&text))
                .collect();
            let found: Vec<_> = listed
                .iter()
                .map(|(key, _)| {
                    let debug = format!("{key:?}");
                    let end = debug.find(|c: char| !c.is_alphanumeric());
                    debug[..end.unwrap_or(debug.len())].to_owned()
                })
                .collect();
            assert_eq!(found.join(" "), kinds, "{prefix:?}");
            for (_, key) in listed {
                assert!(key < prefix.end(), "{key} is after the end of {prefix:?}");
            }
        }
    }

    #[test]
    fn the_longest_keys_fit_into_a_kibibyte() {
        let digest: Digest = format!("sha512:{}", "0".repeat(128)).parse().unwrap();
        let name: Name = "a".repeat(Name::MAX_LENGTH).parse().unwrap();
        let tag: Tag = "t".repeat(Tag::MAX_LENGTH).parse().unwrap();
        let id = "0".repeat(32);
        for key in [
            Key::grant(&digest, &name, &id),
            Key::referrer(&name, &digest, &digest, &id),
            Key::tag(&name, &tag),
            Key::claim(&name, &digest),
            Key::fill(&digest, &name),
            Key::step(&name, UploadId::new([0; 16]), 99_999),
        ] {
            assert!(key.to_string().len() <= 1_024, "{key}");
        }
    }

    #[test]
    fn no_repository_prefix_begins_with_that_of_another() {
        let (short, long): (Name, Name) = ("a".parse().unwrap(), "a/b".parse().unwrap());
        let (digest, id) = (digest(), UploadId::new([0; 16]));
        for prefixes in [
            [&long, &short].map(|name| Prefix::Grants(&digest, name).to_string()),
            [&long, &short].map(|name| Prefix::Tags(name).to_string()),
            [&long, &short].map(|name| Prefix::Steps(name, id).to_string()),
        ] {
            let [long, short] = prefixes;
            assert!(!long.starts_with(&short), "{long}");
        }
    }
}
