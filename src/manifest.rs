//! Manifests: what one refers to, and whether a registry may take it.
//!
//! Sources: image-spec v1.1.1, `manifest.md` and `image-index.md`; Docker Image Manifest Version 2, Schema 2. Only the
//! fields that a registry acts on are read; the bytes are kept and returned as they were pushed.

use std::{collections::BTreeSet, fmt};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::digest::Digest;

/// The largest manifest, in bytes: what the specification asks every registry to take at least.
pub const MAX_SIZE: u64 = 4 * 1024 * 1024;

/// The media type of an OCI image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The media type of an OCI image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// The media type of a Docker image manifest.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// The media type of a Docker manifest list.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

const DOCKER_SCHEMA_1: [&str; 2] = [
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
];

/// What a manifest says of itself and of others.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Manifest {
    /// The media type, without parameters.
    pub media_type: String,
    /// What must be there for it to be pulled whole: config and layers, each once, without non-distributable layers.
    pub blobs: BTreeSet<Digest>,
    /// The layers of an image, the lowest first: those that there may be files in.
    pub layers: Vec<Digest>,
    /// The manifests that it lists, each once.
    pub manifests: BTreeSet<Digest>,
    /// The manifest that this one is about.
    pub subject: Option<Digest>,
    /// The artifact type: the manifest's own, else its config's media type.
    pub artifact_type: Option<String>,
    /// The annotations, as referrers lists repeat them.
    pub annotations: Option<Map<String, Value>>,
}

/// A manifest's fields; those not named here concern clients only.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: Option<u64>,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    /// Of the artifact manifest that image-spec v1.1 dropped again, and some clients still push.
    blobs: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
    annotations: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: Digest,
    #[serde(rename = "size")]
    _size: u64,
}

impl Descriptor {
    /// Whether it is a layer of an image (image-spec, `layer.md`), and no other part of some artifact.
    fn is_layer(&self) -> bool {
        self.media_type
            .starts_with("application/vnd.oci.image.layer.")
            || self
                .media_type
                .starts_with("application/vnd.docker.image.rootfs.")
    }

    /// Whether the content may be absent: layers that a licence forbids to distribute (image-spec, `layer.md`).
    fn is_non_distributable(&self) -> bool {
        self.media_type
            .starts_with("application/vnd.oci.image.layer.nondistributable.")
            || self
                .media_type
                .starts_with("application/vnd.docker.image.rootfs.foreign.diff.")
    }
}

impl Manifest {
    /// Reads a manifest that was pushed with a `Content-Type`.
    pub fn parse(content_type: Option<&str>, bytes: &[u8]) -> Result<Self, ParseManifestError> {
        // A sequence of the fields' values would be read as well, and no client would read it.
        if bytes
            .trim_ascii_start()
            .first()
            .is_some_and(|first| *first != b'{')
        {
            return Err(ParseManifestError::Json("not a JSON object".to_owned()));
        }
        let document: Document = serde_json::from_slice(bytes)
            .map_err(|error| ParseManifestError::Json(error.to_string()))?;
        let header = content_type.map(|value| value.split(';').next().unwrap_or_default().trim());
        let media_type = match (
            header.filter(|value| !value.is_empty()),
            document.media_type,
        ) {
            (Some(header), Some(field)) if !header.eq_ignore_ascii_case(&field) => {
                return Err(ParseManifestError::MediaTypes {
                    header: header.to_owned(),
                    field,
                });
            }
            (_, Some(field)) => field,
            (Some(header), None) => header.to_ascii_lowercase(),
            (None, None) => return Err(ParseManifestError::NoMediaType),
        };
        if DOCKER_SCHEMA_1.contains(&media_type.as_str()) {
            return Err(ParseManifestError::Schema1);
        }
        if document.schema_version != Some(2) {
            return Err(ParseManifestError::SchemaVersion(document.schema_version));
        }
        let required: &[(&'static str, bool)] = match media_type.as_str() {
            OCI_MANIFEST | DOCKER_MANIFEST => &[
                ("config", document.config.is_some()),
                ("layers", document.layers.is_some()),
            ],
            OCI_INDEX | DOCKER_LIST => &[("manifests", document.manifests.is_some())],
            _ => &[],
        };
        if let Some((field, _)) = required.iter().find(|(_, present)| !present) {
            return Err(ParseManifestError::Missing { field, media_type });
        }

        let config_type = document
            .config
            .as_ref()
            .map(|config| config.media_type.clone());
        let layers = document.layers.iter().flatten();
        let layers = layers
            .filter(|layer| layer.is_layer())
            .map(|layer| layer.digest.clone())
            .collect();
        let blobs = document
            .config
            .into_iter()
            .chain(document.layers.into_iter().flatten())
            .chain(document.blobs.into_iter().flatten())
            .filter(|descriptor| !descriptor.is_non_distributable())
            .map(|descriptor| descriptor.digest)
            .collect();
        Ok(Self {
            media_type,
            blobs,
            layers,
            manifests: document
                .manifests
                .into_iter()
                .flatten()
                .map(|descriptor| descriptor.digest)
                .collect(),
            subject: document.subject.map(|descriptor| descriptor.digest),
            artifact_type: document
                .artifact_type
                .filter(|value| !value.is_empty())
                .or(config_type),
            annotations: document.annotations,
        })
    }
}

/// Why bytes are not a manifest that can be taken.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ParseManifestError {
    /// Not JSON, or a field has the wrong shape.
    Json(String),
    /// The header and the manifest name different media types.
    MediaTypes {
        /// The `Content-Type` header.
        header: String,
        /// The field `mediaType`.
        field: String,
    },
    /// A field that its media type requires is missing.
    Missing {
        /// The field.
        field: &'static str,
        /// The media type.
        media_type: String,
    },
    /// Neither the header nor the manifest names a media type.
    NoMediaType,
    /// Docker's first format, which was withdrawn.
    Schema1,
    /// `schemaVersion` is not 2.
    SchemaVersion(Option<u64>),
}

impl fmt::Display for ParseManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(error) => f.write_str(error),
            Self::MediaTypes { header, field } => {
                write!(
                    f,
                    "content-type header says {header:?}, the manifest's mediaType {field:?}"
                )
            }
            Self::Missing { field, media_type } => {
                write!(f, "no field {field:?} in a manifest of type {media_type:?}")
            }
            Self::NoMediaType => {
                f.write_str("neither a content-type header nor a field \"mediaType\"")
            }
            Self::Schema1 => f.write_str(
                "docker image manifest schema 1 is not supported, push schema 2 or an OCI manifest",
            ),
            Self::SchemaVersion(Some(found)) => write!(f, "schemaVersion is {found}, expected 2"),
            Self::SchemaVersion(None) => f.write_str("no field \"schemaVersion\", expected 2"),
        }
    }
}

impl std::error::Error for ParseManifestError {}

#[cfg(test)]
mod tests {
    use serde_json::json;
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
    fn reads_an_image() {
        let manifest = parse(Some(OCI_MANIFEST), &image()).unwrap();
        assert_eq!(manifest.media_type, OCI_MANIFEST);
        assert_eq!(
            manifest.blobs,
            BTreeSet::from([digest("config"), digest("layer")])
        );
        assert!(manifest.manifests.is_empty());
        assert_eq!(manifest.subject, None);
        assert_eq!(
            manifest.artifact_type.as_deref(),
            Some("application/vnd.oci.image.config.v1+json")
        );
        assert_eq!(manifest.annotations.unwrap().get("a"), Some(&json!("b")));
    }

    #[test]
    fn reads_an_index() {
        for media_type in [OCI_INDEX, DOCKER_LIST] {
            let index = json!({
                "schemaVersion": 2,
                "mediaType": media_type,
                "manifests": [descriptor(OCI_MANIFEST, "amd64"), descriptor(OCI_MANIFEST, "arm64")],
            });
            let manifest = parse(Some(media_type), &index).unwrap();
            assert_eq!(
                manifest.manifests,
                BTreeSet::from([digest("amd64"), digest("arm64")])
            );
            assert!(manifest.blobs.is_empty());
        }
    }

    #[test]
    fn reads_a_docker_image() {
        let mut document = image();
        document["mediaType"] = json!(DOCKER_MANIFEST);
        assert_eq!(
            parse(Some(DOCKER_MANIFEST), &document).unwrap().media_type,
            DOCKER_MANIFEST
        );
    }

    #[test]
    fn reads_an_artifact_with_a_subject() {
        let mut document = image();
        document["artifactType"] = json!("application/vnd.example.sbom");
        document["subject"] = descriptor(OCI_MANIFEST, "subject");
        let manifest = parse(None, &document).unwrap();
        assert_eq!(manifest.subject, Some(digest("subject")));
        assert_eq!(
            manifest.artifact_type.as_deref(),
            Some("application/vnd.example.sbom")
        );
    }

    #[test]
    fn takes_the_media_type_from_where_it_is() {
        let mut document = image();
        document.as_object_mut().unwrap().remove("mediaType");
        assert_eq!(
            parse(
                Some("application/vnd.OCI.image.manifest.v1+json; charset=utf-8"),
                &document
            )
            .unwrap()
            .media_type,
            OCI_MANIFEST
        );
        assert_eq!(
            parse(None, &document).unwrap_err(),
            "neither a content-type header nor a field \"mediaType\""
        );
        assert_eq!(parse(Some(""), &image()).unwrap().media_type, OCI_MANIFEST);
    }

    #[test]
    fn takes_types_it_does_not_know() {
        let document = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.artifact.manifest.v1+json",
            "blobs": [descriptor("text/plain", "blob")],
        });
        assert_eq!(
            parse(None, &document).unwrap().blobs,
            BTreeSet::from([digest("blob")])
        );
    }

    #[test]
    fn says_what_is_wrong() {
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
                "content-type header says \"application/vnd.oci.image.manifest.v1+json\", the manifest's mediaType \"application/vnd.oci.image.index.v1+json\"",
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
    fn says_where_the_json_is_wrong() {
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
