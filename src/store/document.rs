//! Documents: the JSON in the bucket, as metadata of objects and as their bodies.
//!
//! Buckets keep documents that older versions wrote, and versions run side by side during a
//! deployment. A new field has a default, and no field changes its meaning.
//!
//! | key | metadata | body |
//! |---|---|---|
//! | `Blob` | [`BlobKind`] | the bytes, or a [`Record`] |
//! | `Grant` | [`Reason`] | |
//! | `Link` | [`Linked`] | [`Record`] |
//! | `Manifest` | [`Stored`] | the bytes |
//! | `Tag` | [`TagTarget`] | the same; none of a tombstone |
//! | `Referrer` | [`Referrer`], if short | [`Referrer`], if long |
//! | `Mark` | [`Mark`] | the same |
//! | `Step` | [`Step`](crate::upload::Step) | |
//!
//! The cursors, the inventory, and the note in the place of a blob that was quarantined are
//! documents of the sweep and the scrub. Their types are in the modules of those jobs. The body of
//! a `Fill` is the upload as text.

use std::{collections::BTreeSet, ops::Not};

use serde::{Deserialize, Serialize};

use crate::{
    annotations::Annotations,
    digest::Digest,
    manifest::Manifest,
    store::{Meta, StoreError, key::Key},
    time::Timestamp,
    upload::Extent,
};

/// Serializes a document.
///
/// # Errors
///
/// [`StoreError::Failed`] if the document can't be serialized: a map has a key that is not text.
pub fn to_json(value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Failed(error.to_string()))
}

/// Parses a document. An error names the key.
///
/// # Errors
///
/// [`StoreError::Failed`] if the text is not the JSON of such a document.
pub fn from_json<'a, T: Deserialize<'a>>(key: &Key, text: &'a str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Failed(format!("{key}: {error}")))
}

/// The reason why a repository holds a blob: the metadata of a grant.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase", tag = "reason")]
pub enum Reason {
    /// It was uploaded or mounted. It expires after the grace period, by when a manifest should
    /// need it.
    Upload,
    /// A client announced that it has these bytes and is sending them. It keeps the blob as an
    /// upload does, and gives no right to it: a client that aborts may never have had the bytes.
    /// The link that is written after they were verified gives the right.
    Claim,
    /// A manifest that was pushed to the repository needs it. It counts while that manifest is
    /// stored.
    Manifest {
        /// The digest of the manifest.
        digest: Digest,
    },
    /// All bytes were hashed here for this repository, as an upstream sent them. It gives a right
    /// in every repository, under any settings. It counts for the grace period, and after that
    /// while a grant for a manifest of the repository counts.
    Filled,
    /// A manifest that an upstream sent names it. It keeps the blob while that manifest is stored,
    /// and never gives a right: an upstream may name blobs that it does not have.
    Mirrored {
        /// The digest of the manifest.
        digest: Digest,
    },
}

impl Reason {
    /// The manifest that this grant depends on, if any. The grant counts while the manifest is
    /// stored.
    pub const fn manifest(&self) -> Option<&Digest> {
        match self {
            Self::Manifest { digest } | Self::Mirrored { digest } => Some(digest),
            Self::Upload | Self::Claim | Self::Filled => None,
        }
    }
}

/// The sweep's mark of a blob: body and metadata. Time and nonce make the etag of every mark
/// different.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Mark {
    /// The state of the marked blob.
    pub state: MarkState,
    /// The time of the write, by the clock of the writer.
    pub time: Timestamp,
    /// Random hexadecimal digits.
    pub nonce: String,
}

/// The state of a marked blob.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MarkState {
    /// The sweep saw no grant. The blob may be deleted after the grace period.
    Condemned,
    /// The sweep is deleting the blob.
    Deleting,
    /// A grant was written after the blob had been condemned.
    Lifted,
}

/// The metadata of a blob: whether its object is the bytes, or stands for them.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum BlobKind {
    /// The object is the bytes.
    Bytes,
    /// The object is a record of extents.
    Extents {
        /// The number of bytes of all extents.
        size: u64,
    },
    /// A note that the bytes were wrong and are gone. Every reader treats the blob as absent. A
    /// client that has the bytes writes over it.
    Aside,
}

/// Whether an object at a blob's key is the blob: its bytes or its record.
pub fn is_blob(meta: &Meta) -> bool {
    !matches!(serde_json::from_str(&meta.metadata), Ok(BlobKind::Aside))
}

/// Whether an object at a blob's key is a record of extents.
pub fn is_record(meta: &Meta) -> bool {
    matches!(
        serde_json::from_str(&meta.metadata),
        Ok(BlobKind::Extents { .. })
    )
}

/// The place of a blob's bytes: the body of a link, and of a blob that is a record.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum Record {
    /// The bytes are the object at the blob's own key.
    Bytes {
        /// The number of bytes.
        size: u64,
    },
    /// The bytes are in extents.
    Extents {
        /// The number of bytes of all extents.
        size: u64,
        /// The extents, in the order of the blob.
        extents: Vec<Extent>,
    },
}

/// The kind of grant that gave a repository the right to read a blob. The link records it, and so
/// do copies of the link in the tiers.
///
/// A link that records none was written by an older version. A mirrored repository accepts
/// [`Right::Filled`] only.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Right {
    /// All bytes were hashed here, as they came from an upstream.
    Filled,
    /// The blob was pushed or mounted, or a manifest that was pushed needs it.
    Pushed,
}

/// The metadata of a link.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Linked {
    /// The kind of grant that the link was written for.
    pub reason: Right,
}

impl Linked {
    /// Reads the metadata of a link. `None` for a link of an older version, and for metadata that
    /// can't be read.
    pub fn parse(metadata: &str) -> Option<Right> {
        let linked: Option<Self> = serde_json::from_str(metadata).ok();
        linked.map(|linked| linked.reason)
    }

    /// Formats the metadata of a link. Empty if the reason is not known, as in links of an older
    /// version.
    pub fn metadata(right: Option<Right>) -> String {
        match right {
            None => String::new(),
            Some(Right::Filled) => r#"{"reason":"filled"}"#.to_owned(),
            Some(Right::Pushed) => r#"{"reason":"pushed"}"#.to_owned(),
        }
    }
}

impl Record {
    /// The most bytes of a record of one extent, as JSON. A record of several is longer, so the
    /// size of the object says whether there are several.
    pub const LONGEST_OF_ONE: u64 = 183;

    /// The fewest bytes that an extent adds to a record, as JSON.
    pub const SHORTEST_EXTENT: u64 = 87;

    /// The number of bytes of the blob.
    pub const fn size(&self) -> u64 {
        match self {
            Self::Bytes { size } | Self::Extents { size, .. } => *size,
        }
    }

    /// The number of objects that hold the bytes: 1, or that of the extents.
    pub fn objects(&self) -> u32 {
        match self {
            Self::Bytes { .. } => 1,
            Self::Extents { extents, .. } => u32::try_from(extents.len()).unwrap_or(u32::MAX),
        }
    }
}

/// The metadata of a stored manifest.
#[derive(Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stored {
    /// The media type of the manifest, without parameters.
    pub media_type: String,
    /// Whether the manifest lists others, computed from its bytes when it was stored. Absent in
    /// records from the time when clients chose the media type: those don't prove anything, and the
    /// bytes must be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lists: Option<bool>,
    /// Whether the bytes are wrong. Every reader treats the manifest as absent. It still holds its
    /// blobs, until it is pushed again or deleted.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub aside: bool,
    /// Whether an upstream sent it. If not, it was pushed, or an older version wrote it.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub mirrored: bool,
    /// The listed manifests that were absent when the index was pushed: their positions in the
    /// order of digests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub absent: Vec<u16>,
}

/// The source of a manifest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ManifestOrigin {
    /// A client that had a right to each of its blobs.
    Push,
    /// An upstream, which may name blobs that it does not have.
    Upstream,
}

impl ManifestOrigin {
    /// The reason of the grants that keep the blobs of a manifest.
    pub const fn reason(self, digest: Digest) -> Reason {
        match self {
            Self::Push => Reason::Manifest { digest },
            Self::Upstream => Reason::Mirrored { digest },
        }
    }
}

impl Stored {
    /// Makes the stored metadata of a manifest whose bytes were read.
    pub fn of(manifest: &Manifest, origin: ManifestOrigin) -> Self {
        Self {
            media_type: manifest.media_type.clone(),
            lists: Some(manifest.has_entries),
            aside: false,
            absent: Vec::new(),
            mirrored: origin == ManifestOrigin::Upstream,
        }
    }

    /// The same, of an index that lacks some of the manifests that it lists.
    pub fn lacking(mut self, manifest: &Manifest, absent: &BTreeSet<Digest>) -> Self {
        let listed = (0_u16..).zip(manifest.manifests.keys());
        self.absent = listed
            .filter(|(_, digest)| absent.contains(digest))
            .map(|(position, _)| position)
            .collect();
        self
    }

    /// Whether this listed manifest was absent when the index was pushed.
    pub fn lacks(&self, manifest: &Manifest, digest: &Digest) -> bool {
        let position = manifest.manifests.keys().position(|one| one == digest);
        let position = position.and_then(|position| u16::try_from(position).ok());
        position.is_some_and(|position| self.absent.contains(&position))
    }
}

/// The manifest that a tag names: the metadata of a tag, and the body of one that is no tombstone.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum TagTarget {
    /// The tag names a manifest.
    Manifest {
        /// The digest of the manifest.
        digest: Digest,
        /// The media type of the manifest.
        #[serde(rename = "mediaType")]
        media_type: String,
        /// The size of the manifest, in bytes.
        size: u64,
        /// The nonce of the push, if the tag was pushed. Retention removes a tag by its listed
        /// etag, and the nonce gives the same tag another etag when it is pushed again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        nonce: Option<String>,
        /// The time at which an upstream confirmed the tag, if it is mirrored.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seen: Option<Timestamp>,
        /// The time at which a client invalidated the tag, if the upstream was not asked since.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        invalidated: Option<Timestamp>,
    },
    /// The tag names no manifest any more: the tag was deleted or expired, or its manifest was.
    Tombstone {
        /// The digest of the manifest that the tag named.
        digest: Digest,
        /// The time of the deletion.
        time: Timestamp,
    },
}

impl TagTarget {
    /// The manifest that the tag names, or named before it was deleted.
    pub const fn digest(&self) -> &Digest {
        match self {
            Self::Manifest { digest, .. } | Self::Tombstone { digest, .. } => digest,
        }
    }
}

/// The descriptor of a manifest in a list of referrers: the metadata of its entry if that is short.
/// Otherwise the metadata leaves the annotations out and the body has all. If that is too long as
/// well, there is only the body.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Referrer {
    /// The media type of the manifest.
    pub media_type: String,
    /// The digest of the manifest.
    pub digest: Digest,
    /// The size of the manifest, in bytes.
    pub size: u64,
    /// The artifact type of the manifest, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The annotations of the manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Annotations>,
}

impl Referrer {
    /// Removes annotations that are no strings, which an upstream may have sent.
    #[must_use]
    pub fn with_strings(self) -> Self {
        Self {
            annotations: self.annotations.and_then(Annotations::into_strings),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upload::{ExtentName, UploadId};

    #[test]
    fn the_length_of_a_record_says_whether_it_has_several_extents() {
        let record = |extents: u64, size: u64, place: u64| {
            let name = ExtentName::new(UploadId::new([7; 16]), place, &"f".repeat(32));
            let extent = Extent { key: name, size };
            let extents = std::iter::repeat_n(extent, usize::try_from(extents).unwrap());
            let extents = extents.collect();
            to_json(&Record::Extents { size, extents }).unwrap().len() as u64
        };
        assert_eq!(record(1, u64::MAX, u64::MAX), Record::LONGEST_OF_ONE);
        assert!(record(2, 1, 1) > Record::LONGEST_OF_ONE);
        assert_eq!(record(2, 1, 1) - record(1, 1, 1), Record::SHORTEST_EXTENT);
    }

    /// Grants outlive the version that wrote them.
    #[test]
    fn grant_reasons_keep_their_stored_form() {
        let digest = crate::digest::Algorithm::Sha256.digest(b"manifest");
        let of = |reason: &str| format!(r#"{{"reason":"{reason}","digest":"{digest}"}}"#);
        for (reason, stored) in [
            (Reason::Upload, r#"{"reason":"upload"}"#.to_owned()),
            (Reason::Claim, r#"{"reason":"claim"}"#.to_owned()),
            (Reason::Filled, r#"{"reason":"filled"}"#.to_owned()),
            (
                Reason::Manifest {
                    digest: digest.clone(),
                },
                of("manifest"),
            ),
            (
                Reason::Mirrored {
                    digest: digest.clone(),
                },
                of("mirrored"),
            ),
        ] {
            assert_eq!(to_json(&reason).unwrap(), stored);
            assert_eq!(serde_json::from_str::<Reason>(&stored).unwrap(), reason);
        }
    }

    /// Metadata outlives the version that wrote it.
    #[test]
    fn the_metadata_of_manifests_keeps_its_stored_form() {
        for (aside, mirrored, rest) in [
            (false, false, ""),
            (true, false, r#","aside":true"#),
            (false, true, r#","mirrored":true"#),
        ] {
            let stored = format!(r#"{{"mediaType":"a/b"{rest}}}"#);
            let read: Stored = serde_json::from_str(&stored).unwrap();
            assert_eq!((read.aside, read.mirrored), (aside, mirrored));
            assert_eq!(to_json(&read).unwrap(), stored);
        }
    }

    /// Each text is as a version of this registry has stored it.
    #[track_caller]
    fn is_kept<T: for<'de> Deserialize<'de> + Serialize>(stored: &str) {
        let read: T = serde_json::from_str(stored).unwrap();
        assert_eq!(to_json(&read).unwrap(), stored);
    }

    #[test]
    fn documents_of_all_versions_survive_a_round_trip() {
        const DIGEST: &str =
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let named = |rest: &str| format!(r#"{{"digest":"{DIGEST}",{rest}}}"#);
        for kind in [
            r#"{"kind":"bytes"}"#,
            r#"{"kind":"extents","size":7}"#,
            r#"{"kind":"aside"}"#,
        ] {
            is_kept::<BlobKind>(kind);
        }
        is_kept::<Record>(r#"{"kind":"bytes","size":7}"#);
        let extent = "07070707070707070707070707070707/1-ff";
        is_kept::<Record>(&format!(
            r#"{{"kind":"extents","size":7,"extents":[{{"key":"{extent}","size":7}}]}}"#
        ));
        for state in ["condemned", "deleting", "lifted"] {
            is_kept::<Mark>(&format!(r#"{{"state":"{state}","time":7,"nonce":"ff"}}"#));
        }
        for rest in [
            "",
            r#","lists":true"#,
            r#","lists":false,"mirrored":true"#,
            r#","aside":true"#,
        ] {
            is_kept::<Stored>(&format!(r#"{{"mediaType":"a/b"{rest}}}"#));
        }
        for rest in [
            "",
            r#","nonce":"ff""#,
            r#","seen":7"#,
            r#","seen":7,"invalidated":8"#,
        ] {
            let text = named(&format!(r#""mediaType":"a/b","size":7{rest}"#));
            is_kept::<TagTarget>(&text.replacen('{', r#"{"kind":"manifest","#, 1));
        }
        let text = named(r#""time":7"#);
        is_kept::<TagTarget>(&text.replacen('{', r#"{"kind":"tombstone","#, 1));
        for rest in [
            "",
            r#","artifactType":"a/b""#,
            r#","annotations":{"a":"b"}"#,
        ] {
            is_kept::<Referrer>(&format!(
                r#"{{"mediaType":"a/b","digest":"{DIGEST}","size":7{rest}}}"#
            ));
        }
    }

    #[test]
    fn the_metadata_of_links_keeps_its_stored_form() {
        for (right, stored) in [
            (None, ""),
            (Some(Right::Filled), r#"{"reason":"filled"}"#),
            (Some(Right::Pushed), r#"{"reason":"pushed"}"#),
        ] {
            assert_eq!(Linked::metadata(right), stored);
            assert_eq!(Linked::parse(stored), right);
        }
        for other in [
            "{}",
            "filled",
            r#"{"reason":"other"}"#,
            r#"{"reason":null}"#,
        ] {
            assert_eq!(Linked::parse(other), None, "{other}");
        }
    }
}
