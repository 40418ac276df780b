//! Descriptors: what a manifest says of other content (image-spec v1.1.1, `descriptor.md`).

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, MapAccess, Visitor},
};

use crate::{
    digest::Digest,
    manifest::types::{DOCKER_SCHEMA_1, KNOWN},
};

/// The beginnings of the media types of layers (image-spec, `layer.md`).
const LAYERS: [&str; 2] = [
    "application/vnd.oci.image.layer.",
    "application/vnd.docker.image.rootfs.",
];

/// The beginnings of the media types of layers that may be absent: a licence forbids to distribute
/// them (image-spec, `layer.md`).
const NON_DISTRIBUTABLE: [&str; 2] = [
    "application/vnd.oci.image.layer.nondistributable.",
    "application/vnd.docker.image.rootfs.foreign.diff.",
];

/// The beginnings of the media types of other blobs: configs of images, and BuildKit's cache, whose
/// index lists layers and `application/vnd.buildkit.cacheconfig.v0`.
const OTHER_BLOBS: [&str; 3] = [
    "application/vnd.oci.image.config.",
    "application/vnd.docker.container.image.",
    "application/vnd.buildkit.",
];

/// A descriptor. Its other fields concern clients only.
pub(super) struct Descriptor {
    pub(super) media_type: String,
    pub(super) digest: Digest,
    /// In bytes.
    pub(super) size: u64,
}

/// The kind of content that a descriptor in an index is of, by its media type.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Manifest,
    Blob,
    /// Another type: the content may be a manifest or a blob.
    Undecided,
}

impl Descriptor {
    /// Whether it is a layer of an image, and no other part of some artifact.
    pub(super) fn is_layer(&self) -> bool {
        self.begins_with(&LAYERS)
    }

    /// Whether the content may be absent.
    pub(super) fn is_non_distributable(&self) -> bool {
        self.begins_with(&NON_DISTRIBUTABLE)
    }

    pub(super) fn kind(&self) -> Kind {
        let media_type = self.media_type.as_str();
        if KNOWN.contains(&media_type) || DOCKER_SCHEMA_1.contains(&media_type) {
            Kind::Manifest
        } else if self.is_layer() || self.begins_with(&OTHER_BLOBS) {
            Kind::Blob
        } else {
            Kind::Undecided
        }
    }

    fn begins_with(&self, prefixes: &[&str]) -> bool {
        let mut prefixes = prefixes.iter();
        prefixes.any(|prefix| self.media_type.starts_with(prefix))
    }
}

/// The field that a key names. `None` for a key that names none of them. A key that is a field only
/// for decoders that ignore case, such as Go's, is refused. So is a field that comes twice: some
/// readers keep the first, others the last.
pub(super) fn field<E: serde::de::Error>(
    key: &str,
    fields: &[&'static str],
    seen: &mut Vec<&'static str>,
) -> Result<Option<&'static str>, E> {
    // The only two letters outside of ASCII that fold to an ASCII letter.
    let fold = |letter: char| match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    };
    let is_named = |name: &&&str| key.chars().map(fold).eq(name.chars().map(fold));
    let Some(name) = fields.iter().find(is_named).copied() else {
        return Ok(None);
    };
    if key != name {
        return Err(E::custom(format_args!(
            "field {key:?} differs from {name:?} only in case, which some clients ignore: spell it {name:?} or remove it"
        )));
    }
    if seen.contains(&name) {
        return Err(E::custom(format_args!(
            "field {name:?} occurs twice, remove one"
        )));
    }
    seen.push(name);
    Ok(Some(name))
}

impl<'de> Deserialize<'de> for Descriptor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Parts;

        impl<'de> Visitor<'de> for Parts {
            type Value = Descriptor;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a descriptor")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Descriptor, A::Error> {
                let mut seen = Vec::new();
                let (mut media_type, mut digest, mut size) = (None, None, None::<u64>);
                while let Some(key) = map.next_key::<String>()? {
                    match field(&key, &["mediaType", "digest", "size"], &mut seen)? {
                        Some("mediaType") => media_type = Some(map.next_value()?),
                        Some("digest") => digest = Some(map.next_value()?),
                        Some("size") => size = Some(map.next_value()?),
                        Some(_) | None => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                let missing = A::Error::missing_field;
                Ok(Descriptor {
                    media_type: media_type.ok_or_else(|| missing("mediaType"))?,
                    digest: digest.ok_or_else(|| missing("digest"))?,
                    size: size.ok_or_else(|| missing("size"))?,
                })
            }
        }

        deserializer.deserialize_map(Parts)
    }
}
