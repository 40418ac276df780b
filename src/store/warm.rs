//! Values in the form of the warm tier: a header and the content, both verified before use.
//!
//! ```text
//! value   = magic length check header content
//! magic   = "strata" %x01                   the format and its version; others are not read
//! length  = 4 bytes                         of the header, big-endian
//! check   = 32 bytes                        SHA-256 of the header
//! header  = JSON                            see Header
//! content = the bytes, or the bytes in the zlib format (RFC 1950) if the header says so
//! ```
//!
//! The content is verified against the digest of its name, or the one in the header. The header is
//! verified against its own check.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    digest::{Algorithm, Digest},
    store::{
        Bytes, StoreError,
        document::{Record, Right},
        policy::TierPolicy,
    },
    time::Timestamp,
};

/// Content that tiers keep: a manifest, a blob, an index, a page of one, or a span.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TierContent<B> {
    /// The media type. Empty for bytes that clients never see with a type.
    pub media_type: String,
    /// The bytes, decompressed.
    pub bytes: B,
}

impl<B> TierContent<B> {
    /// Makes content without a media type: an index, a page of one, or a span.
    pub const fn untyped(bytes: B) -> Self {
        Self {
            media_type: String::new(),
            bytes,
        }
    }
}

/// The header of a warm value.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct WarmHeader {
    media_type: String,
    size: u64,
    #[serde(default, skip_serializing_if = "is_false")]
    compressed: bool,
    confirmed: Timestamp,
    /// The digest of content that is not named by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    links: Vec<Link>,
}

/// The place of a blob that a manifest names, so that one read brings the links of all blobs of a
/// pull.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Link {
    /// The digest of the blob.
    pub digest: Digest,
    /// The place of its bytes.
    pub record: Record,
    /// The time at which the cold tier confirmed the link.
    pub confirmed: Timestamp,
    /// The kind of grant that gave the right to the blob. `None` in values of an older version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub right: Option<Right>,
}

/// A value of the warm tier.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Value<B> {
    /// The content.
    pub content: TierContent<B>,
    /// The time at which the cold tier confirmed the content.
    pub confirmed: Timestamp,
    /// The links of the blobs that a manifest names, as far as they are known.
    pub links: Vec<Link>,
}

/// The reason why a warm value was rejected.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Poisoned(&'static str);

impl fmt::Display for Poisoned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// A value in its written form, and the bytes that compression saved.
#[derive(Debug)]
pub struct SealedValue<B> {
    /// The bytes to write: the header and the content.
    pub bytes: B,
    /// The number of bytes that compression saved.
    pub saved: u64,
}

impl<B: Bytes> Value<B> {
    /// Makes the bytes to write. With `compresses`, the content is compressed if that makes it
    /// smaller by a tenth. Its digest is written unless `is_named`: then the name of the content
    /// has it.
    ///
    /// # Errors
    ///
    /// The error of the platform that hashes or compresses, and [`StoreError::Failed`] if the
    /// header is too long.
    pub async fn seal(
        self,
        compresses: bool,
        is_named: bool,
    ) -> Result<SealedValue<B>, StoreError> {
        let size = self.content.bytes.len();
        let digest = if is_named {
            None
        } else {
            Some(self.content.bytes.digest(Algorithm::Sha256).await?)
        };
        let smaller = if compresses && size > 0 {
            let compressed = self.content.bytes.compress().await?;
            (compressed.len() <= size - size.div_ceil(10)).then_some(compressed)
        } else {
            None
        };
        let header = WarmHeader {
            media_type: self.content.media_type,
            size,
            compressed: smaller.is_some(),
            confirmed: self.confirmed,
            digest,
            links: self.links,
        };
        let header = serde_json::to_vec(&header)
            .map_err(|error| StoreError::Failed(format!("a warm value's header: {error}")))?;
        let length = u32::try_from(header.len())
            .map_err(|_| StoreError::Failed("a warm value's header is too long".to_owned()))?;
        let mut prefix = MAGIC.to_vec();
        prefix.extend(length.to_be_bytes());
        prefix.extend(Algorithm::Sha256.digest(&header).hash());
        prefix.extend(header);
        let content = smaller.unwrap_or(self.content.bytes);
        Ok(SealedValue {
            saved: size - content.len(),
            bytes: content.prefixed(&prefix),
        })
    }

    /// Reads a value, and verifies its content against `digest`, or else the digest in its header.
    ///
    /// # Errors
    ///
    /// The outer error is the platform's. The inner one is the reason why the value is rejected.
    pub async fn open(
        bytes: &B,
        digest: Option<&Digest>,
    ) -> Result<Result<Self, Poisoned>, StoreError> {
        let Some((header, at)) = open_header(bytes) else {
            return Ok(Err(Poisoned("its header is corrupt")));
        };
        let mut content = bytes.slice(at, bytes.len());
        if header.compressed {
            if header.size > TierPolicy::MAX_WARM {
                return Ok(Err(Poisoned("it is too large")));
            }
            content = match content.decompress(header.size).await {
                Ok(content) => content,
                Err(_) => return Ok(Err(Poisoned("its content can't be decompressed"))),
            };
        }
        let Some(digest) = digest.or(header.digest.as_ref()) else {
            return Ok(Err(Poisoned("it has no digest of its content")));
        };
        if content.digest(digest.algorithm()).await? != *digest {
            return Ok(Err(Poisoned("its content does not have its digest")));
        }
        Ok(Ok(Self {
            content: TierContent {
                media_type: header.media_type,
                bytes: content,
            },
            confirmed: header.confirmed,
            links: header.links,
        }))
    }
}

impl Value<()> {
    /// The time at which the cold tier confirmed a value. `None` if its header is corrupt. The
    /// content is not verified.
    pub fn confirmed(bytes: &impl Bytes) -> Option<Timestamp> {
        Some(open_header(bytes)?.0.confirmed)
    }
}

/// Reads the header, and returns the offset of the content.
fn open_header<B: Bytes>(bytes: &B) -> Option<(WarmHeader, u64)> {
    let prefix = bytes.slice(0, PREFIX).to_vec();
    let rest = prefix.strip_prefix(MAGIC)?;
    let (length, check) = rest.split_first_chunk::<4>()?;
    let end = PREFIX + u64::from(u32::from_be_bytes(*length));
    if end > bytes.len() {
        return None;
    }
    let header = bytes.slice(PREFIX, end).to_vec();
    if Algorithm::Sha256.digest(&header).hash() != check {
        return None;
    }
    Some((serde_json::from_slice(&header).ok()?, end))
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands in a reference"
)]
const fn is_false(value: &bool) -> bool {
    !*value
}

const MAGIC: &[u8] = b"strata\x01";
const PREFIX: u64 = 7 + 4 + 32;

#[cfg(test)]
mod tests {
    use pollster::block_on;

    use super::*;
    use crate::memory::MemoryBytes;

    fn value(bytes: &[u8]) -> Value<MemoryBytes> {
        Value {
            content: TierContent {
                media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
                bytes: MemoryBytes::copy_from(bytes),
            },
            confirmed: Timestamp(1_800_000_000_000),
            links: vec![Link {
                digest: Algorithm::Sha256.digest(b"layer"),
                record: Record::Bytes { size: 5 },
                confirmed: Timestamp(1_799_999_999_000),
                right: Some(Right::Filled),
            }],
        }
    }

    /// Values outlive the version that wrote them: this is the form of a link, with and without its
    /// right.
    #[test]
    fn links_in_the_warm_tier_keep_their_stored_form() {
        let digest = Algorithm::Sha256.digest(b"layer");
        let before = format!(
            r#"{{"digest":"{digest}","record":{{"kind":"bytes","size":5}},"confirmed":1800000000000}}"#
        );
        let mut link: Link = serde_json::from_str(&before).unwrap();
        assert_eq!(link.right, None);
        assert_eq!(serde_json::to_string(&link).unwrap(), before);
        for (right, name) in [(Right::Filled, "filled"), (Right::Pushed, "pushed")] {
            link.right = Some(right);
            let stored = serde_json::to_string(&link).unwrap();
            let end = format!(r#","right":"{name}"}}"#);
            assert_eq!(stored, before.strip_suffix('}').unwrap().to_owned() + &end);
            assert_eq!(serde_json::from_str::<Link>(&stored).unwrap(), link);
        }
    }

    fn seal(value: Value<MemoryBytes>, compresses: bool) -> SealedValue<MemoryBytes> {
        block_on(value.seal(compresses, true)).unwrap()
    }

    fn open(bytes: &[u8], digest: &Digest) -> Result<Value<MemoryBytes>, String> {
        block_on(Value::open(&MemoryBytes::copy_from(bytes), Some(digest)))
            .unwrap()
            .map_err(|error| error.to_string())
    }

    /// Bytes that do not compress.
    fn noise(length: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        };
        std::iter::repeat_with(next).take(length).collect()
    }

    #[test]
    fn warm_values_survive_a_round_trip() {
        for bytes in [
            b"".to_vec(),
            b"x".to_vec(),
            b"{} ".repeat(1_000),
            noise(3_000),
        ] {
            let digest = Algorithm::Sha256.digest(&bytes);
            for compresses in [true, false] {
                let sealed = seal(value(&bytes), compresses);
                assert_eq!(open(&sealed.bytes.to_vec(), &digest), Ok(value(&bytes)));
            }
        }
    }

    #[test]
    fn warm_values_are_compressed_if_that_saves_a_tenth() {
        let sealed = seal(value(&b"{} ".repeat(1_000)), true);
        assert!(sealed.saved > 2_700, "{}", sealed.saved);
        assert_eq!(seal(value(&noise(3_000)), true).saved, 0);
        assert_eq!(seal(value(&b"{} ".repeat(1_000)), false).saved, 0);
        // A twentieth is not enough.
        let mut mostly = noise(2_850);
        mostly.extend([0; 150]);
        assert_eq!(seal(value(&mostly), true).saved, 0);
    }

    #[test]
    fn a_corrupt_warm_value_never_gives_other_content() {
        for (bytes, compresses) in [
            (b"{} ".repeat(100), true),
            (noise(300), true),
            (noise(300), false),
        ] {
            let digest = Algorithm::Sha256.digest(&bytes);
            let sealed = seal(value(&bytes), compresses).bytes.to_vec();
            for at in 0..sealed.len() {
                for bit in 0..8 {
                    let mut flipped = sealed.clone();
                    flipped[at] ^= 1 << bit;
                    // Bits that a decompressor ignores may be flipped without harm.
                    if let Ok(opened) = open(&flipped, &digest) {
                        assert_eq!(opened, value(&bytes), "byte {at}");
                    }
                }
                assert!(open(&sealed[..at], &digest).is_err(), "cut at {at}");
            }
        }
    }

    #[test]
    fn errors_of_warm_values_name_the_problem() {
        let digest = Algorithm::Sha256.digest(b"content");
        let sealed = seal(value(b"content"), false).bytes.to_vec();
        let change = |at: usize| {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            open(&changed, &digest).unwrap_err()
        };
        assert_eq!(change(0), "its header is corrupt");
        assert_eq!(change(6), "its header is corrupt", "another version");
        assert_eq!(
            change(sealed.len() - 1),
            "its content does not have its digest"
        );
        let other = Algorithm::Sha256.digest(b"other");
        assert_eq!(
            open(&sealed, &other).unwrap_err(),
            "its content does not have its digest"
        );
    }
}
