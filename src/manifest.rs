//! Manifests: the descriptors of one, and whether a registry may accept it.
//! All media types are read by the same rules.
//!
//! The media type of a manifest is a function of its bytes. A client's `Content-Type` may repeat
//! it, but can't choose it: otherwise a client could push the same bytes again and relabel a
//! manifest of others.
//!
//! | the document has | media type |
//! |---|---|
//! | `mediaType` | that type, if the document has its fields |
//! | `config` and `layers` | an OCI image manifest |
//! | `manifests` | an OCI image index |
//! | anything else | none: it is refused |
//!
//! A field that is `null` counts as absent. A document that two readers could read as different
//! things is refused: an image and an index at once, a field twice, a field or a known type in
//! another case (Go's decoder ignores case), `blobs` in anything but an artifact manifest.
//!
//! Sources: image-spec v1.1.1, `manifest.md` and `image-index.md`; Docker Image Manifest Version 2,
//! Schema 2. Only the fields that a registry acts on are read. The bytes are kept and returned as
//! they were pushed.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    fmt,
};

use serde::{
    Deserializer,
    de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::{
    annotations::Annotations,
    digest::Digest,
    manifest::{
        descriptor::{Descriptor, Kind, field},
        types::{DOCKER_SCHEMA_1, KNOWN},
    },
};

pub use self::types::{DOCKER_LIST, DOCKER_MANIFEST, OCI_ARTIFACT, OCI_INDEX, OCI_MANIFEST};

mod descriptor;
mod types;

/// The largest manifest, in bytes: the 4 MiB that the specification asks every registry to accept
/// (distribution-spec v1.1.1, "Pushing Manifests").
pub const MAX_SIZE: u64 = 4 * 1024 * 1024;

/// The fields of a manifest that a registry acts on.
///
/// ```
/// use strata::manifest::{Manifest, OCI_INDEX};
///
/// let manifest = Manifest::read(br#"{"schemaVersion": 2, "manifests": []}"#)?;
/// assert_eq!(manifest.media_type, OCI_INDEX);
/// # Ok::<(), strata::manifest::ParseManifestError>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Manifest {
    /// The media type, without parameters.
    pub media_type: String,
    /// The blobs that a whole pull needs, with their sizes in bytes: config and layers, each once,
    /// without non-distributable layers. An index may list blobs too, as BuildKit's cache does.
    pub blobs: BTreeMap<Digest, u64>,
    /// The layers of an image, the lowest first. Only these may contain files: layers of other
    /// artifacts are left out.
    pub layers: Vec<Digest>,
    /// The manifests that an index lists, each once, with their sizes in bytes.
    pub manifests: BTreeMap<Digest, u64>,
    /// Listed content whose media type does not tell whether it is a manifest or a blob, with sizes
    /// in bytes. The push decides: what the repository stores as a manifest is a child, other
    /// content a blob. The grants of the pushed index record the blobs.
    pub undecided: BTreeMap<Digest, u64>,
    /// Whether it lists anything, as an index.
    pub has_entries: bool,
    /// The subject: the manifest that this one refers to. It need not be stored.
    pub subject: Option<Digest>,
    /// The artifact type: the manifest's own, else the media type of its config.
    pub artifact_type: Option<String>,
    /// The annotations of a manifest with a subject, for lists of referrers. No others are kept.
    pub annotations: Option<Annotations>,
}

/// The fields of a manifest that are read. All others concern clients only.
#[derive(Default)]
struct ManifestDocument {
    schema_version: Option<u64>,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    blobs: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
    annotations: Option<Box<RawValue>>,
    /// Whether it has the layers of Docker's first format.
    has_fs_layers: bool,
}

impl ManifestDocument {
    /// Reads the fields. Annotations may be long, and few callers need them.
    fn read(bytes: &[u8], has_annotations: bool) -> Result<Self, ParseManifestError> {
        // serde would also read a sequence of the fields' values, which no client reads.
        if bytes
            .trim_ascii_start()
            .first()
            .is_some_and(|first| *first != b'{')
        {
            return Err(ParseManifestError::Json("not a JSON object".to_owned()));
        }
        let mut reader = serde_json::Deserializer::from_slice(bytes);
        let document = Fields { has_annotations }.deserialize(&mut reader);
        document
            .and_then(|document| reader.end().map(|()| document))
            .map_err(|error| ParseManifestError::Json(error.to_string()))
    }

    /// Fails if two descriptors of the same digest have different sizes.
    fn require_one_size(&self) -> Result<(), ParseManifestError> {
        let mut sizes = BTreeMap::new();
        let lists = [&self.layers, &self.manifests, &self.blobs];
        let listed = lists.into_iter().flatten().flatten();
        for Descriptor { digest, size, .. } in self.config.iter().chain(listed) {
            match sizes.entry(digest) {
                Entry::Vacant(entry) => {
                    entry.insert(*size);
                }
                Entry::Occupied(entry) if entry.get() == size => {}
                Entry::Occupied(entry) => {
                    return Err(ParseManifestError::Sizes {
                        digest: digest.clone(),
                        sizes: [*entry.get(), *size],
                    });
                }
            }
        }
        Ok(())
    }

    /// The media type. Fails if two readers could read the document as different things.
    fn media_type(&self) -> Result<String, ParseManifestError> {
        let is_image = self.config.is_some() || self.layers.is_some();
        let is_index = self.manifests.is_some();
        let media_type = match &self.media_type {
            Some(media_type) => media_type.as_str(),
            None if self.has_fs_layers || self.schema_version == Some(1) => {
                return Err(ParseManifestError::Schema1);
            }
            None if is_image && is_index => return Err(ParseManifestError::ImageAndIndex),
            None if is_index => OCI_INDEX,
            None if self.config.is_some() && self.layers.is_some() => OCI_MANIFEST,
            None => return Err(ParseManifestError::NoMediaType),
        };
        if DOCKER_SCHEMA_1.contains(&media_type) {
            return Err(ParseManifestError::Schema1);
        }
        require_media_type(media_type)?;
        let is_artifact = media_type == OCI_ARTIFACT;
        match self.schema_version {
            Some(2) => {}
            // image-spec v1.1.0-rc2, artifact.md: an artifact manifest has no such field.
            None if is_artifact => {}
            other => return Err(ParseManifestError::SchemaVersion(other)),
        }
        if is_image && is_index {
            return Err(ParseManifestError::ImageAndIndex);
        }
        let media_type = media_type.to_owned();
        if self.blobs.is_some() && !is_artifact {
            return Err(ParseManifestError::Blobs { media_type });
        }
        let required: &[(&'static str, bool)] = match media_type.as_str() {
            OCI_MANIFEST | DOCKER_MANIFEST => &[
                ("config", self.config.is_some()),
                ("layers", self.layers.is_some()),
            ],
            OCI_INDEX | DOCKER_LIST => &[("manifests", self.manifests.is_some())],
            _ => &[],
        };
        match required.iter().find(|(_, is_present)| !is_present) {
            Some((field, _)) => Err(ParseManifestError::Missing { field, media_type }),
            None => Ok(media_type),
        }
    }
}

/// Whether a text may be the media type of a manifest: `application/` and a name of RFC 6838,
/// section 4.2. Every response repeats it in a header.
fn require_media_type(media_type: &str) -> Result<(), ParseManifestError> {
    let wrong = |why| {
        let found = media_type.to_owned();
        Err(ParseManifestError::MediaType { found, why })
    };
    if let Some(known) = KNOWN
        .iter()
        .find(|known| known.eq_ignore_ascii_case(media_type) && **known != media_type)
    {
        return wrong(format!(
            "clients compare types case-sensitively, spell it {known:?}"
        ));
    }
    let Some(name) = media_type.strip_prefix("application/") else {
        return wrong("expected a type that begins with \"application/\"".to_owned());
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte);
    if !name.starts_with(|first: char| first.is_ascii_alphanumeric())
        || name.len() > 127
        || !name.bytes().all(is_name)
    {
        return wrong("expected \"application/\" and a name, without parameters".to_owned());
    }
    Ok(())
}

/// The media type of a manifest, by its bytes alone.
///
/// # Errors
///
/// [`ParseManifestError`] if the bytes have none, or another reader could read them as another
/// type.
pub fn media_type(bytes: &[u8]) -> Result<String, ParseManifestError> {
    ManifestDocument::read(bytes, false)?.media_type()
}

/// The manifests that a stored document may list, and whether each is one by its media type. `None`
/// if it is no JSON.
///
/// Older versions looked for everything that an index lists as a manifest, whatever its type. And
/// they stored documents without a media type: in those, every digest counts, wherever it occurs.
pub fn possible_children(bytes: &[u8]) -> Option<BTreeMap<Digest, bool>> {
    let typed = ManifestDocument::read(bytes, false)
        .and_then(|document| document.media_type().map(|_| document.manifests));
    match typed {
        Ok(listed) => {
            let listed = listed.into_iter().flatten();
            let listed = listed.map(|part| (part.kind() == Kind::Manifest, part.digest));
            let mut all = BTreeMap::new();
            for (is_manifest, digest) in listed {
                *all.entry(digest).or_default() |= is_manifest;
            }
            Some(all)
        }
        Err(_) => {
            let mut digests = BTreeSet::new();
            let mut reader = serde_json::Deserializer::from_slice(bytes);
            let read = Digests(&mut digests).deserialize(&mut reader);
            let digests = read.and_then(|()| reader.end()).ok().map(|()| digests)?;
            Some(digests.into_iter().map(|digest| (digest, false)).collect())
        }
    }
}

impl Manifest {
    /// Reads a manifest that was pushed with a `Content-Type`. The header may be absent, and must
    /// not name another type than the bytes do.
    ///
    /// # Errors
    ///
    /// [`ParseManifestError`] if the registry must refuse it. [`ParseManifestError::MediaTypes`] if
    /// header and bytes disagree.
    pub fn parse(content_type: Option<&str>, bytes: &[u8]) -> Result<Self, ParseManifestError> {
        let header = content_type.map(|value| value.split(';').next().unwrap_or_default().trim());
        let header = header.filter(|value| !value.is_empty());
        let document = ManifestDocument::read(bytes, true)?;
        let other = |media_type: &str| {
            let header = header.filter(|header| !header.eq_ignore_ascii_case(media_type))?;
            Some(ParseManifestError::MediaTypes {
                header: header.to_owned(),
                media_type: media_type.to_owned(),
            })
        };
        if let Some(error) = document.media_type.as_deref().and_then(other) {
            return Err(error);
        }
        let is_schema_1 =
            |header: &str| DOCKER_SCHEMA_1.contains(&header.to_ascii_lowercase().as_str());
        if header.is_some_and(is_schema_1) {
            return Err(ParseManifestError::Schema1);
        }
        document.require_one_size()?;
        if let Some(text) = &document.annotations {
            Annotations::check(text)
                .map_err(|error| ParseManifestError::Json(format!("annotations: {error}")))?;
        }
        let manifest = Self::of(document)?;
        match other(&manifest.media_type) {
            Some(error) => Err(error),
            None => Ok(manifest),
        }
    }

    /// Reads a manifest by its bytes alone: a stored one, or one from an upstream. Annotations may
    /// have values that are no strings.
    ///
    /// # Errors
    ///
    /// [`ParseManifestError`] if the bytes are not a manifest.
    pub fn read(bytes: &[u8]) -> Result<Self, ParseManifestError> {
        Self::of(ManifestDocument::read(bytes, true)?)
    }

    fn of(document: ManifestDocument) -> Result<Self, ParseManifestError> {
        let media_type = document.media_type()?;
        let annotations = document.annotations.filter(|_| document.subject.is_some());
        let config_type = document
            .config
            .as_ref()
            .map(|config| config.media_type.clone());
        let layers = document.layers.iter().flatten();
        let layers = layers
            .filter(|layer| layer.is_layer())
            .map(|layer| layer.digest.clone())
            .collect();
        let parts = document
            .config
            .into_iter()
            .chain(document.layers.into_iter().flatten())
            .chain(document.blobs.into_iter().flatten())
            .map(|part| (Kind::Blob, part));
        let listed = document.manifests.into_iter().flatten();
        let listed: Vec<_> = listed.map(|part| (part.kind(), part)).collect();
        let has_entries = !listed.is_empty();
        let [mut blobs, mut manifests, mut undecided] = [const { BTreeMap::new() }; 3];
        for (kind, part) in parts.chain(listed) {
            let of = match kind {
                Kind::Blob if part.is_non_distributable() => continue,
                Kind::Blob => &mut blobs,
                Kind::Manifest => &mut manifests,
                Kind::Undecided => &mut undecided,
            };
            of.insert(part.digest, part.size);
        }
        Ok(Self {
            media_type,
            blobs,
            layers,
            manifests,
            undecided,
            has_entries,
            subject: document.subject.map(|descriptor| descriptor.digest),
            artifact_type: document
                .artifact_type
                .filter(|value| !value.is_empty())
                .or(config_type),
            annotations: annotations.map(Annotations::of),
        })
    }
}

/// Reads the fields of a document.
struct Fields {
    has_annotations: bool,
}

impl<'de> DeserializeSeed<'de> for Fields {
    type Value = ManifestDocument;

    fn deserialize<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<ManifestDocument, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Fields {
    type Value = ManifestDocument;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a manifest")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ManifestDocument, A::Error> {
        const FIELDS: [&str; 10] = [
            "schemaVersion",
            "mediaType",
            "artifactType",
            "config",
            "layers",
            "manifests",
            "blobs",
            "subject",
            "annotations",
            "fsLayers",
        ];
        let mut document = ManifestDocument::default();
        let mut seen = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            match field(&key, &FIELDS, &mut seen)? {
                Some("schemaVersion") => document.schema_version = map.next_value()?,
                Some("mediaType") => document.media_type = map.next_value()?,
                Some("artifactType") => document.artifact_type = map.next_value()?,
                Some("config") => document.config = map.next_value()?,
                Some("layers") => document.layers = map.next_value()?,
                Some("manifests") => document.manifests = map.next_value()?,
                Some("blobs") => document.blobs = map.next_value()?,
                Some("subject") => document.subject = map.next_value()?,
                Some("annotations") if self.has_annotations => {
                    document.annotations = map.next_value()?;
                }
                Some("fsLayers") => {
                    document.has_fs_layers = map.next_value::<Option<IgnoredAny>>()?.is_some();
                }
                Some(_) | None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(document)
    }
}

/// Collects every string of a document that is a digest, including names of fields.
struct Digests<'a>(&'a mut BTreeSet<Digest>);

impl<'de> DeserializeSeed<'de> for Digests<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Digests<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        self.0.extend(text.parse::<Digest>());
        Ok(())
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Digests(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_key_seed(Digests(self.0))?.is_some() {
            map.next_value_seed(Digests(self.0))?;
        }
        Ok(())
    }
}

/// The reason why bytes are not an acceptable manifest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ParseManifestError {
    /// The bytes are no JSON object, or a field has the wrong shape, case or number of occurrences.
    /// The text says which.
    Json(String),
    /// The manifest has a field `blobs`, and is no artifact manifest.
    Blobs {
        /// The media type.
        media_type: String,
    },
    /// The manifest has the fields of an image and those of an index.
    ImageAndIndex,
    /// The type that the manifest names is none that a manifest may have.
    MediaType {
        /// The media type.
        found: String,
        /// The reason, and the action to take.
        why: String,
    },
    /// The header names another media type than the manifest has.
    MediaTypes {
        /// The `Content-Type` header.
        header: String,
        /// The media type by the manifest's bytes.
        media_type: String,
    },
    /// The manifest lacks a field that its media type requires.
    Missing {
        /// The field.
        field: &'static str,
        /// The media type.
        media_type: String,
    },
    /// The manifest neither names a media type nor has the fields to derive it from.
    NoMediaType,
    /// The manifest is in Docker's first format (schema 1), which was withdrawn.
    Schema1,
    /// The field `schemaVersion` is this number, or absent, and not 2.
    SchemaVersion(Option<u64>),
    /// Two descriptors of the same content have different sizes.
    Sizes {
        /// The digest of the content.
        digest: Digest,
        /// The sizes in bytes.
        sizes: [u64; 2],
    },
}

impl fmt::Display for ParseManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(error) => f.write_str(error),
            Self::Blobs { media_type } => {
                write!(
                    f,
                    "field \"blobs\" in a manifest of type {media_type:?}: only artifact manifests have it, remove it"
                )
            }
            Self::ImageAndIndex => f.write_str(
                "the manifest is an image and an index at once, with \"manifests\" beside \"config\" or \"layers\": push two manifests",
            ),
            Self::MediaType { found, why } => write!(f, "mediaType is {found:?}: {why}"),
            Self::MediaTypes { header, media_type } => {
                write!(
                    f,
                    "content-type header says {header:?}, but the manifest's bytes say {media_type:?}: send that type"
                )
            }
            Self::Missing { field, media_type } => {
                write!(f, "no field {field:?} in a manifest of type {media_type:?}")
            }
            Self::NoMediaType => f.write_str(
                "no field \"mediaType\", and no \"config\" with \"layers\" or \"manifests\" to derive it from: add \"mediaType\" to the manifest",
            ),
            Self::Schema1 => f.write_str(
                "docker image manifest schema 1 is not supported, push schema 2 or an OCI manifest",
            ),
            Self::SchemaVersion(Some(found)) => write!(f, "schemaVersion is {found}, expected 2"),
            Self::Sizes {
                digest,
                sizes: [one, other],
            } => write!(
                f,
                "descriptors of {digest} have the sizes {one} and {other}: content has one size"
            ),
            Self::SchemaVersion(None) => f.write_str("no field \"schemaVersion\", expected 2"),
        }
    }
}

impl std::error::Error for ParseManifestError {}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;
    use crate::digest::Algorithm;

    fn descriptor(media_type: &str, content: &str) -> Value {
        json!({ "mediaType": media_type, "digest": digest(content).to_string(), "size": content.len() })
    }

    fn digest(content: &str) -> Digest {
        Algorithm::Sha256.digest(content.as_bytes())
    }

    fn image() -> Value {
        json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor("application/vnd.oci.image.config.v1+json", "config"),
            "layers": [
                descriptor("application/vnd.oci.image.layer.v1.tar+gzip", "layer"),
                descriptor("application/vnd.oci.image.layer.v1.tar+gzip", "layer"),
                descriptor("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", "secret"),
                descriptor("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "foreign"),
            ],
            "annotations": { "a": "b" },
            "unknown": { "fields": ["are", "kept", "out"] },
        })
    }

    fn parse(content_type: Option<&str>, document: &Value) -> Result<Manifest, String> {
        Manifest::parse(content_type, document.to_string().as_bytes())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn an_image_manifest_is_parsed() {
        let manifest = parse(Some(OCI_MANIFEST), &image()).unwrap();
        assert_eq!(manifest.media_type, OCI_MANIFEST);
        assert_eq!(
            manifest.blobs,
            BTreeMap::from([(digest("config"), 6), (digest("layer"), 5)])
        );
        assert!(manifest.manifests.is_empty() && !manifest.has_entries);
        assert_eq!(manifest.subject, None);
        assert_eq!(
            manifest.artifact_type.as_deref(),
            Some("application/vnd.oci.image.config.v1+json")
        );
        assert_eq!(manifest.annotations, None);
    }

    #[test]
    fn an_image_index_is_parsed() {
        for media_type in [OCI_INDEX, DOCKER_LIST] {
            let index = json!({
                "schemaVersion": 2,
                "mediaType": media_type,
                "manifests": [descriptor(OCI_MANIFEST, "amd64"), descriptor(OCI_MANIFEST, "arm64")],
            });
            let manifest = parse(Some(media_type), &index).unwrap();
            assert_eq!(
                manifest.manifests,
                BTreeMap::from([(digest("amd64"), 5), (digest("arm64"), 5)])
            );
            assert!(manifest.blobs.is_empty() && manifest.has_entries);
        }
    }

    #[test]
    fn an_index_lists_manifests_blobs_and_content_of_other_types() {
        let index = json!({
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [
                descriptor(OCI_MANIFEST, "child"),
                descriptor("application/vnd.oci.image.layer.v1.tar+zstd", "layer"),
                descriptor("application/vnd.buildkit.cacheconfig.v0", "cache"),
                descriptor("application/vnd.oci.image.layer.nondistributable.v1.tar", "secret"),
                descriptor("application/vnd.example.thing", "thing"),
            ],
        });
        let manifest = parse(None, &index).unwrap();
        assert_eq!(manifest.manifests, BTreeMap::from([(digest("child"), 5)]));
        assert_eq!(
            manifest.blobs,
            BTreeMap::from([(digest("layer"), 5), (digest("cache"), 5)])
        );
        assert_eq!(manifest.undecided, BTreeMap::from([(digest("thing"), 5)]));
        assert!(manifest.has_entries && manifest.layers.is_empty());
        // Older versions may have stored each of them as a manifest.
        let listed = possible_children(index.to_string().as_bytes()).unwrap();
        assert_eq!(listed.len(), 5);
        let typed: Vec<_> = listed.into_iter().filter(|(_, typed)| *typed).collect();
        assert_eq!(typed, [(digest("child"), true)]);
    }

    #[test]
    fn content_has_one_size() {
        let mut document = image();
        document["layers"][1]["size"] = json!(6);
        let error = parse(None, &document).unwrap_err();
        let layer = digest("layer");
        assert_eq!(
            error,
            format!("descriptors of {layer} have the sizes 5 and 6: content has one size")
        );
        // A stored one is read: an older version accepted it.
        assert!(Manifest::read(document.to_string().as_bytes()).is_ok());
    }

    #[test]
    fn a_docker_manifest_is_parsed() {
        let mut document = image();
        document["mediaType"] = json!(DOCKER_MANIFEST);
        assert_eq!(
            parse(Some(DOCKER_MANIFEST), &document).unwrap().media_type,
            DOCKER_MANIFEST
        );
    }

    #[test]
    fn an_artifact_with_a_subject_is_parsed() {
        let mut document = image();
        document["artifactType"] = json!("application/vnd.example.sbom");
        document["subject"] = descriptor(OCI_MANIFEST, "subject");
        let manifest = parse(None, &document).unwrap();
        assert_eq!(manifest.subject, Some(digest("subject")));
        assert_eq!(manifest.annotations.unwrap().text(), r#"{"a":"b"}"#);
        assert_eq!(
            manifest.artifact_type.as_deref(),
            Some("application/vnd.example.sbom")
        );
    }

    /// Whether a document is accepted with a header; if not, a part of the error's text.
    #[track_caller]
    fn assert_type(header: Option<&str>, text: &str, expected: Result<&str, &str>) {
        let parsed = Manifest::parse(header, text.as_bytes());
        match (parsed, expected) {
            (Ok(manifest), Ok(expected)) => {
                assert_eq!(manifest.media_type, expected, "{text}");
                assert_eq!(media_type(text.as_bytes()), Ok(manifest.media_type));
                let listed = possible_children(text.as_bytes()).unwrap();
                assert_eq!(listed.is_empty(), !manifest.has_entries);
            }
            (Err(error), Err(expected)) => {
                assert!(error.to_string().contains(expected), "{text}: {error}");
            }
            (parsed, _) => panic!("{header:?} {text}: {parsed:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn the_media_type_is_a_function_of_the_bytes() {
        let one = descriptor("application/vnd.example", "one").to_string();
        let image = format!(r#""config": {one}, "layers": [{one}]"#);
        let index = format!(r#""manifests": [{one}]"#);
        let typed = |media_type: &str, rest: &str| {
            format!(r#"{{"schemaVersion": 2, "mediaType": "{media_type}", {rest}}}"#)
        };
        let untyped = |rest: &str| format!(r#"{{"schemaVersion": 2, {rest}}}"#);
        let custom = "application/vnd.example.Thing-2+json";
        let taken = [
            (untyped(&image), OCI_MANIFEST),
            (untyped(&index), OCI_INDEX),
            (untyped(r#""manifests": []"#), OCI_INDEX),
            (
                untyped(&format!(r#""mediaType": null, "manifests": null, {image}"#)),
                OCI_MANIFEST,
            ),
            (
                untyped(&format!(r#""config": null, "layers": null, {index}"#)),
                OCI_INDEX,
            ),
            (typed(OCI_MANIFEST, &image), OCI_MANIFEST),
            (typed(DOCKER_MANIFEST, &image), DOCKER_MANIFEST),
            (typed(OCI_INDEX, &index), OCI_INDEX),
            (typed(DOCKER_LIST, &index), DOCKER_LIST),
            (typed(custom, &image), custom),
            (typed(custom, &index), custom),
            (typed(custom, r#""anything": "else""#), custom),
            (
                typed(OCI_ARTIFACT, &format!(r#""blobs": [{one}]"#)),
                OCI_ARTIFACT,
            ),
            (
                format!(r#"{{"mediaType": "{OCI_ARTIFACT}", "subject": {one}}}"#),
                OCI_ARTIFACT,
            ),
        ];
        let many = [
            OCI_MANIFEST,
            OCI_INDEX,
            DOCKER_MANIFEST,
            DOCKER_LIST,
            OCI_ARTIFACT,
            custom,
            "text/html",
            "application/json",
        ];
        for (text, media_type) in &taken {
            for header in [None, Some(""), Some(" ; charset=utf-8")] {
                assert_type(header, text, Ok(media_type));
            }
            for header in many {
                let expected = if header == *media_type {
                    Ok(header)
                } else {
                    Err("content-type header says")
                };
                assert_type(Some(header), text, expected);
                let loud = format!("{} ; charset=utf-8", header.to_ascii_uppercase());
                assert_type(Some(&loud), text, expected);
            }
            for schema_1 in DOCKER_SCHEMA_1 {
                assert!(Manifest::parse(Some(schema_1), text.as_bytes()).is_err());
            }
        }
        let at_once = "an image and an index at once";
        let refused = [
            (untyped(r#""anything": "else""#), r#"add "mediaType""#),
            (
                untyped(&format!(r#""config": {one}"#)),
                r#"add "mediaType""#,
            ),
            (untyped(r#""layers": []"#), r#"add "mediaType""#),
            (
                untyped(&format!(r#""subject": {one}"#)),
                r#"add "mediaType""#,
            ),
            (untyped(&format!("{image}, {index}")), at_once),
            (untyped(&format!(r#"{index}, "layers": []"#)), at_once),
            (typed(OCI_MANIFEST, &format!("{image}, {index}")), at_once),
            (
                typed(OCI_INDEX, &format!(r#"{index}, "layers": []"#)),
                at_once,
            ),
            (typed(custom, &format!("{image}, {index}")), at_once),
            (typed(OCI_MANIFEST, &index), r#"no field "config""#),
            (typed(OCI_INDEX, &image), r#"no field "manifests""#),
            (
                typed(OCI_MANIFEST, &format!(r#"{image}, "blobs": []"#)),
                r#"field "blobs""#,
            ),
            (
                untyped(&format!(r#"{index}, "blobs": []"#)),
                r#"field "blobs""#,
            ),
            (untyped(r#""blobs": []"#), r#"add "mediaType""#),
            (typed("text/html", &image), r#"begins with "application/""#),
            (typed("", &image), r#"begins with "application/""#),
            (typed("application/", &image), "and a name"),
            (typed("application/a;b=c", &image), "and a name"),
            (typed("application/a b", &image), "and a name"),
            (typed(r"application/a\r\nb", &image), "and a name"),
            (typed("application/.", &image), "and a name"),
            (
                typed(&format!("application/{}", "a".repeat(128)), &image),
                "and a name",
            ),
            (typed(&OCI_MANIFEST.to_uppercase(), &image), "spell it"),
            (
                typed("application/vnd.OCI.image.index.v1+json", &index),
                "spell it",
            ),
            (
                untyped(&format!(r#""mediaType": 3, {image}"#)),
                "invalid type: integer `3`",
            ),
            (
                untyped(&format!(r#""mediaType": ["a"], {image}"#)),
                "invalid type: sequence",
            ),
            (
                untyped(r#""config": "a", "layers": []"#),
                "invalid type: string",
            ),
            (untyped(r#""manifests": {}"#), "invalid type: map"),
            (
                untyped(&format!("{image}, {image}")),
                r#"field "config" occurs twice"#,
            ),
            (
                typed(OCI_MANIFEST, &format!(r#"{image}, "mediaType": null"#)),
                r#"field "mediaType" occurs twice"#,
            ),
            (
                untyped(&format!(r#"{image}, "MediaType": "{OCI_INDEX}""#)),
                r#"field "MediaType" differs from "mediaType" only in case"#,
            ),
            (
                untyped(&format!(r#"{image}, "Manifests": []"#)),
                r#""Manifests" differs from "manifests""#,
            ),
            (
                untyped(&format!(r#"{index}, "\u006cayer\u017f": []"#)),
                r#"differs from "layers" only in case"#,
            ),
            (
                untyped(r#""manifests": [{"mediaType": "a", "digest": 1}]"#),
                "invalid type",
            ),
            (
                untyped(&format!(
                    r#""manifests": [{}]"#,
                    one.replacen("\"digest\"", "\"Digest\": \"\", \"digest\"", 1)
                )),
                r#"field "Digest" differs from "digest""#,
            ),
            (
                r#"{"schemaVersion": 1, "fsLayers": []}"#.to_owned(),
                "schema 1",
            ),
            (
                r#"{"schemaVersion": 2, "fsLayers": []}"#.to_owned(),
                "schema 1",
            ),
            (
                r#"{"schemaVersion": 1, "signatures": []}"#.to_owned(),
                "schema 1",
            ),
            (typed(DOCKER_SCHEMA_1[0], &image), "schema 1"),
        ];
        for (text, expected) in &refused {
            assert_type(None, text, Err(expected));
            assert!(Manifest::read(text.as_bytes()).is_err(), "{text}");
            for header in many {
                assert!(Manifest::parse(Some(header), text.as_bytes()).is_err());
            }
        }
        for header in DOCKER_SCHEMA_1 {
            let text = r#"{"schemaVersion": 1, "fsLayers": []}"#;
            assert_type(Some(header), text, Err("schema 1"));
        }
    }

    #[test]
    fn an_untyped_manifest_may_list_every_digest_in_its_text() {
        let [one, other] = [digest("one"), digest("other")];
        let text = format!(
            r#"{{"a": [{{"b": "{one}"}}, null, 1, -1, 1.5, true], "a": {{"{}": "sha256:"}}}}"#,
            other.to_string().replacen("sha", r"\u0073ha", 1)
        );
        assert_eq!(
            possible_children(text.as_bytes()),
            Some(BTreeMap::from([(one.clone(), false), (other, false)]))
        );
        for broken in ["", "{", "{} {}", &format!(r#"{{"a": "{one}""#)] {
            assert_eq!(possible_children(broken.as_bytes()), None, "{broken}");
        }
    }

    #[test]
    fn an_oci_artifact_manifest_lists_its_blobs() {
        let document = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.artifact.manifest.v1+json",
            "blobs": [descriptor("text/plain", "blob")],
        });
        assert_eq!(
            parse(None, &document).unwrap().blobs,
            BTreeMap::from([(digest("blob"), 4)])
        );
    }

    #[test]
    fn invalid_manifests_are_refused_with_the_reason() {
        let with = |field: &str, value: Value| {
            let mut document = image();
            document[field] = value;
            document
        };
        let without = |field: &str| {
            let mut document = image();
            document.as_object_mut().unwrap().remove(field);
            document
        };
        let rejected = [
            (
                with("schemaVersion", json!(1)),
                "schemaVersion is 1, expected 2",
            ),
            (
                without("schemaVersion"),
                "no field \"schemaVersion\", expected 2",
            ),
            (
                without("config"),
                "no field \"config\" in a manifest of type \"application/vnd.oci.image.manifest.v1+json\"",
            ),
            (
                without("layers"),
                "no field \"layers\" in a manifest of type \"application/vnd.oci.image.manifest.v1+json\"",
            ),
            (
                with("mediaType", json!(OCI_INDEX)),
                "content-type header says \"application/vnd.oci.image.manifest.v1+json\", but the manifest's bytes say \"application/vnd.oci.image.index.v1+json\": send that type",
            ),
        ];
        for (document, message) in rejected {
            assert_eq!(parse(Some(OCI_MANIFEST), &document).unwrap_err(), message);
        }
        let mut index = with("mediaType", json!(OCI_INDEX));
        index.as_object_mut().unwrap().remove("manifests");
        assert_eq!(
            parse(None, &index).unwrap_err(),
            "no field \"manifests\" in a manifest of type \"application/vnd.oci.image.index.v1+json\""
        );
        let schema_1 = with("mediaType", json!(DOCKER_SCHEMA_1[1]));
        assert!(
            parse(None, &schema_1)
                .unwrap_err()
                .starts_with("docker image manifest schema 1 is not supported")
        );
    }

    #[test]
    fn invalid_manifest_json_is_refused_with_its_position() {
        let rejected = [
            ("", "EOF while parsing a value at line 1 column 0"),
            ("[2]", "not a JSON object"),
            (
                "{\"schemaVersion\": \"2\"}",
                "invalid type: string \"2\", expected u64 at line 1 column 21",
            ),
            (
                "{\"config\": {\"digest\": \"x\"}}",
                "no ':' between algorithm and hash in digest at line 1 column 26",
            ),
            (
                "{\"config\": {\"mediaType\": \"x\", \"size\": 1}}",
                "missing field `digest` at line 1 column 40",
            ),
        ];
        for (text, message) in rejected {
            assert_eq!(
                Manifest::parse(None, text.as_bytes())
                    .unwrap_err()
                    .to_string(),
                message,
                "{text}"
            );
        }
    }
}
