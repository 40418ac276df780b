//! Uploads: a session as a chain of steps, each written once.
//!
//! ```text
//!            ┌──────────┐
//!            ▼          │
//! start ──► received ───┘        a body, stored as an extent
//!   │          ├──► closing ──► done     named by a blob's record
//!   │          │        └─────► dead     another's record came first
//!   └──────────┴──────────────► dead     cancelled, or swept
//! ```
//!
//! Step *n* is a key of its own, created only if absent. Of two writers that both saw step *n* − 1,
//! one makes step *n* and the other learns that the session has moved. So one rule decides between
//! two bodies for one offset, two closers, and a sweep and a closer. It needs no lock, and writes
//! no key twice.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::{
    digest::{Algorithm, Digest},
    range::ByteRange,
};

/// The identifier of an upload: 128 random bits, formatted as 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct UploadId([u8; 16]);

impl UploadId {
    /// Makes an identifier of random bits.
    pub const fn new(random: [u8; 16]) -> Self {
        Self(random)
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for UploadId {
    type Err = ParseUploadIdError;

    fn from_str(text: &str) -> Result<Self, ParseUploadIdError> {
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            // Two texts for one upload would be two keys.
            return Err(ParseUploadIdError);
        }
        let mut bytes = [0; 16];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| ParseUploadIdError)?;
        Ok(Self(bytes))
    }
}

impl Serialize for UploadId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for UploadId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// The error for a text that is no identifier of an upload.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ParseUploadIdError;

impl fmt::Display for ParseUploadIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not the identifier of an upload")
    }
}

impl std::error::Error for ParseUploadIdError {}

/// The name of an extent: its key after `extents/`, by which records name it.
///
/// It begins with the upload and the place. For an extent that a client sent, the place is the
/// number of its step. For one that a mirror fills, it is the offset in the blob.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct ExtentName(String);

impl ExtentName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Names an extent: `<upload>/<place>-<nonce>`. The nonce tells apart the extents of one place.
    pub fn new(upload: UploadId, place: u64, nonce: &str) -> Self {
        Self(format!("{upload}/{place}-{nonce}"))
    }

    /// The upload that it belongs to. `None` if the name is not of this version.
    pub fn upload(&self) -> Option<UploadId> {
        self.0.split_once('/')?.0.parse().ok()
    }

    /// The number of its step, or its offset in the blob. `None` if the name is not of this
    /// version.
    pub fn place(&self) -> Option<u64> {
        self.0.split_once('/')?.1.split_once('-')?.0.parse().ok()
    }
}

impl fmt::Display for ExtentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The key of an extent after `extents/`, which may be any text.
impl From<&str> for ExtentName {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// The bytes of one body, stored once under a key of their own.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Extent {
    /// The name of the extent, which is its key below `extents/`.
    pub key: ExtentName,
    /// The number of bytes.
    pub size: u64,
}

/// One step of an upload, in its stored form.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase", tag = "step")]
pub enum Step {
    /// The upload began.
    Start {
        /// The algorithm that hashes the bytes as they arrive. The client announced it for the
        /// digest of the blob.
        #[serde(default)]
        algorithm: Algorithm,
    },
    /// A body was received.
    Received {
        /// The stored bytes of the body.
        extent: Extent,
        /// The number of bytes of the blob before the body.
        offset: u64,
        /// The digest of the body alone, computed as it arrived.
        digest: Digest,
    },
    /// One closer is about to name the extents in the record of this blob.
    Closing {
        /// The blob.
        digest: Digest,
    },
    /// The record of this blob names the extents.
    Done {
        /// The blob.
        digest: Digest,
        /// The number of extents.
        #[serde(default)]
        extents: u64,
    },
    /// Cancelled, swept, or the blob was stored already. No record names the extents.
    Dead,
}

/// An upload as far as its steps were read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Upload {
    /// The number of the last step.
    pub number: u32,
    /// The last step.
    pub last: Step,
}

impl Upload {
    /// The most steps of one upload: 10,000 chunks, of at least 5 MiB if a client heeds
    /// `OCI-Chunk-Min-Length`.
    pub const MAX_STEPS: u32 = 10_000;

    /// The number of bytes received, while the upload is open. 0 after that.
    pub fn offset(&self) -> u64 {
        match &self.last {
            Step::Received { extent, offset, .. } => offset.saturating_add(extent.size),
            Step::Start { .. } | Step::Closing { .. } | Step::Done { .. } | Step::Dead => 0,
        }
    }

    /// The algorithm that hashes the next body. Only a first body with the blob's algorithm need
    /// not be read again.
    pub const fn algorithm(&self) -> Algorithm {
        match self.last {
            Step::Start { algorithm } => algorithm,
            Step::Received { .. } | Step::Closing { .. } | Step::Done { .. } | Step::Dead => {
                Algorithm::Sha256
            }
        }
    }

    /// Whether a body can be received, or the upload be closed.
    pub const fn is_open(&self) -> bool {
        match self.last {
            Step::Start { .. } | Step::Received { .. } => true,
            Step::Closing { .. } | Step::Done { .. } | Step::Dead => false,
        }
    }

    /// Checks whether a chunk may come next, by its `Content-Range` and its `Content-Length`.
    ///
    /// # Errors
    ///
    /// - [`ChunkError::TooMany`] if the upload has nearly [`Upload::MAX_STEPS`] steps.
    /// - [`ChunkError::OutOfOrder`] if the range does not begin at [`Upload::offset`].
    /// - [`ChunkError::Length`] if the headers disagree.
    pub fn admit(&self, chunk: Option<ByteRange>, length: Option<u64>) -> Result<(), ChunkError> {
        if self.number.saturating_add(2) >= Self::MAX_STEPS {
            return Err(ChunkError::TooMany);
        }
        let Some(chunk) = chunk else { return Ok(()) };
        if chunk.first() != self.offset() {
            return Err(ChunkError::OutOfOrder {
                expected: self.offset(),
                found: chunk.first(),
            });
        }
        match length {
            Some(length) if length != chunk.length() => Err(ChunkError::Length {
                range: chunk.length(),
                content: length,
            }),
            Some(_) | None => Ok(()),
        }
    }
}

/// What a location says of an upload, in its parameter `step`: `<number>` or `<number>.<signed>`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct UploadHint {
    /// The number of the last step that the client knows: it saves a listing. 0 if it knows none.
    pub step: u32,
    /// The upload as the registry signed it, which saves reading it.
    pub signed: Option<String>,
}

impl From<&str> for UploadHint {
    /// Reads a hint. Any text is one, because a hint is only a help.
    fn from(text: &str) -> Self {
        let (step, signed) = match text.split_once('.') {
            Some((step, signed)) => (step, Some(signed.to_owned())),
            None => (text, None),
        };
        Self {
            step: step.parse().unwrap_or_default(),
            signed,
        }
    }
}

impl fmt::Display for UploadHint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.step)?;
        match &self.signed {
            Some(signed) => write!(f, ".{signed}"),
            None => Ok(()),
        }
    }
}

/// The reason why a chunk is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ChunkError {
    /// `Content-Range` and `Content-Length` disagree.
    Length {
        /// The length of `Content-Range`, in bytes.
        range: u64,
        /// The `Content-Length`, in bytes.
        content: u64,
    },
    /// The chunk does not begin where the last one ended.
    OutOfOrder {
        /// The offset at which it should begin.
        expected: u64,
        /// The offset at which it begins.
        found: u64,
    },
    /// The upload has no step left for another chunk.
    TooMany,
}

impl fmt::Display for ChunkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { range, content } => {
                write!(
                    f,
                    "content-range says {range} bytes, content-length {content}"
                )
            }
            Self::OutOfOrder { expected, found } => {
                write!(
                    f,
                    "the chunk begins at {found}, but {expected} bytes were received before it"
                )
            }
            Self::TooMany => write!(
                f,
                "more than {} chunks; send larger ones",
                Upload::MAX_STEPS - 2
            ),
        }
    }
}

impl std::error::Error for ChunkError {}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    fn received(number: u32, offset: u64, size: u64) -> Upload {
        let extent = Extent {
            key: ExtentName::from("e"),
            size,
        };
        Upload {
            number,
            last: Step::Received {
                extent,
                offset,
                digest: Algorithm::Sha256.digest(b""),
            },
        }
    }

    fn chunk(text: &str) -> Option<ByteRange> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn upload_ids_display_as_they_were_parsed() {
        let id = UploadId::new([0xab; 16]);
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in [
            "",
            "ab",
            &"AB".repeat(16),
            &"ab".repeat(17),
            &"zz".repeat(16),
            &"../".repeat(11),
        ] {
            assert_eq!(
                text.parse::<UploadId>().unwrap_err().to_string(),
                "not the identifier of an upload",
                "{text:?}"
            );
        }
    }

    #[test]
    fn upload_steps_keep_their_stored_form() {
        let digest = Algorithm::Sha256.digest(b"x");
        let steps = [
            (
                Step::Start {
                    algorithm: Algorithm::Sha512,
                },
                r#"{"step":"start","algorithm":"sha512"}"#.to_owned(),
            ),
            (
                received(1, 3, 4).last,
                format!(
                    r#"{{"step":"received","extent":{{"key":"e","size":4}},"offset":3,"digest":"{}"}}"#,
                    Algorithm::Sha256.digest(b"")
                ),
            ),
            (
                Step::Closing {
                    digest: digest.clone(),
                },
                format!(r#"{{"step":"closing","digest":"{digest}"}}"#),
            ),
            (
                Step::Done {
                    digest: digest.clone(),
                    extents: 2,
                },
                format!(r#"{{"step":"done","digest":"{digest}","extents":2}}"#),
            ),
            (Step::Dead, r#"{"step":"dead"}"#.to_owned()),
        ];
        for (step, text) in steps {
            assert_eq!(serde_json::to_string(&step).unwrap(), text);
            assert_eq!(serde_json::from_str::<Step>(&text).unwrap(), step);
        }
    }

    #[test]
    fn an_upload_takes_the_next_chunk_only() {
        let upload = received(2, 100, 50);
        assert_eq!(upload.offset(), 150);
        assert_eq!(upload.admit(None, None), Ok(()));
        assert_eq!(upload.admit(None, Some(5)), Ok(()));
        assert_eq!(upload.admit(chunk("150-159"), Some(10)), Ok(()));
        assert_eq!(upload.admit(chunk("150-159"), None), Ok(()));
        let refused = [
            (
                chunk("149-159"),
                Some(11),
                "the chunk begins at 149, but 150 bytes were received before it",
            ),
            (
                chunk("0-9"),
                Some(10),
                "the chunk begins at 0, but 150 bytes were received before it",
            ),
            (
                chunk("151-159"),
                None,
                "the chunk begins at 151, but 150 bytes were received before it",
            ),
            (
                chunk("150-159"),
                Some(11),
                "content-range says 10 bytes, content-length 11",
            ),
        ];
        for (range, length, message) in refused {
            assert_eq!(
                upload.admit(range, length).unwrap_err().to_string(),
                message
            );
        }
    }

    #[test]
    fn an_upload_leaves_room_for_its_closing_steps() {
        assert_eq!(
            received(Upload::MAX_STEPS - 3, 0, 1).admit(None, None),
            Ok(())
        );
        let full = received(Upload::MAX_STEPS - 2, 0, 1).admit(None, None);
        assert_eq!(
            full.unwrap_err().to_string(),
            "more than 9998 chunks; send larger ones"
        );
    }

    #[test]
    fn an_upload_is_open_until_it_closes() {
        let digest = Algorithm::Sha256.digest(b"x");
        let upload = |last| Upload { number: 0, last };
        assert!(
            upload(Step::Start {
                algorithm: Algorithm::Sha256
            })
            .is_open()
        );
        assert!(received(1, 0, 1).is_open());
        assert!(
            !upload(Step::Closing {
                digest: digest.clone()
            })
            .is_open()
        );
        assert!(!upload(Step::Done { digest, extents: 1 }).is_open());
        assert!(!upload(Step::Dead).is_open());
    }
}
