//! Digests, as the image specification defines them.
//!
//! ```text
//! digest    ::= algorithm ":" encoded
//! algorithm ::= "sha256" | "sha512"
//! encoded   ::= [a-f0-9]{64} | [a-f0-9]{128}
//! ```
//!
//! Source: image-spec v1.1.1, `descriptor.md`, "Digests". The specification's grammar allows other
//! algorithms to be registered. These two are the registered ones, and a digest of another
//! algorithm is refused by name.

use std::{fmt, str::FromStr};

use sha2::{Digest as _, Sha256, Sha512};

/// A digest algorithm: one of the two that the image-spec registers.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    Eq,
    Hash,
    Ord,
    PartialEq,
    PartialOrd,
    serde::Deserialize,
    serde::Serialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// SHA-256, which every registry and client must support (image-spec v1.1.1, `descriptor.md`).
    #[default]
    Sha256,
    /// SHA-512, which is optional.
    Sha512,
}

impl Algorithm {
    /// Both algorithms, in the order of the specification.
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    /// The algorithm's identifier on the wire: `sha256` or `sha512`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// The number of hexadecimal digits of an encoded digest: 64 or 128.
    pub const fn encoded_length(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }

    /// Computes the digest of bytes that are in memory. The platform hashes streams.
    pub fn digest(self, bytes: &[u8]) -> Digest {
        let encoded = match self {
            Self::Sha256 => hex::encode(Sha256::digest(bytes)),
            Self::Sha512 => hex::encode(Sha512::digest(bytes)),
        };
        Digest {
            algorithm: self,
            encoded,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Algorithm {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, ParseDigestError> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.as_str() == text)
            .ok_or_else(|| ParseDigestError::Algorithm(text.to_owned()))
    }
}

/// The identifier of content by its hash: `sha256:` and 64 lower-case hexadecimal digits, or
/// `sha512:` and 128.
///
/// ```
/// use strata::digest::{Algorithm, Digest};
///
/// let text = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
/// let digest: Digest = text.parse()?;
/// assert_eq!(digest, Algorithm::Sha256.digest(b"{}"));
/// # Ok::<(), strata::digest::ParseDigestError>(())
/// ```
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Digest {
    algorithm: Algorithm,
    encoded: String,
}

impl Digest {
    /// Makes a digest of the output of a platform's hash function. `None` if the number of bytes is
    /// not the algorithm's.
    pub fn from_hash(algorithm: Algorithm, hash: &[u8]) -> Option<Self> {
        let encoded = hex::encode(hash);
        (encoded.len() == algorithm.encoded_length()).then_some(Self { algorithm, encoded })
    }

    /// The algorithm, which comes before the `:` in the text.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The hash in lower-case hexadecimal, which comes after the `:` in the text.
    pub fn encoded(&self) -> &str {
        &self.encoded
    }

    /// The hash as bytes: 32 of SHA-256, 64 of SHA-512.
    pub fn hash(&self) -> Vec<u8> {
        // The parser checked that every character is a hexadecimal digit and that their number is
        // even.
        hex::decode(&self.encoded).unwrap_or_default()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm, self.encoded)
    }
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, ParseDigestError> {
        let (algorithm, encoded) = text.split_once(':').ok_or(ParseDigestError::Separator)?;
        let algorithm: Algorithm = algorithm.parse()?;
        if let Some(found) = encoded
            .chars()
            .find(|c| !matches!(c, '0'..='9' | 'a'..='f'))
        {
            return Err(ParseDigestError::Character(found));
        }
        if encoded.len() != algorithm.encoded_length() {
            return Err(ParseDigestError::Length {
                algorithm,
                found: encoded.len(),
            });
        }
        Ok(Self {
            algorithm,
            encoded: encoded.to_owned(),
        })
    }
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The reason why a text is not a digest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ParseDigestError {
    /// The text has no `:`.
    Separator,
    /// The algorithm, by this name, is not supported.
    Algorithm(String),
    /// The encoded part has this character, which is no lower-case hexadecimal digit.
    Character(char),
    /// The encoded part has another length than the algorithm gives.
    Length {
        /// The algorithm that the text names.
        algorithm: Algorithm,
        /// The number of characters found.
        found: usize,
    },
}

impl fmt::Display for ParseDigestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Separator => f.write_str("no ':' between algorithm and hash in digest"),
            Self::Algorithm(found) => {
                write!(
                    f,
                    "unsupported digest algorithm {found:?}, supported are sha256 and sha512"
                )
            }
            Self::Character(found) => write!(f, "unexpected character {found:?} in digest"),
            Self::Length { algorithm, found } => {
                write!(
                    f,
                    "{found} characters in {algorithm} digest, expected {}",
                    algorithm.encoded_length()
                )
            }
        }
    }
}

impl std::error::Error for ParseDigestError {}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn digests_display_as_they_were_parsed() {
        let long = format!("sha512:{}", "0a".repeat(64));
        for text in [EMPTY, long.as_str()] {
            assert_eq!(text.parse::<Digest>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn the_empty_text_has_the_known_digests() {
        assert_eq!(Algorithm::Sha256.digest(b"").to_string(), EMPTY);
        assert!(
            Algorithm::Sha512
                .digest(b"")
                .encoded()
                .starts_with("cf83e1357eefb8bdf1542850d66d8007")
        );
    }

    #[test]
    fn a_digest_converts_to_its_hash_and_back() {
        let digest: Digest = EMPTY.parse().unwrap();
        assert_eq!(
            Digest::from_hash(Algorithm::Sha256, &digest.hash()),
            Some(digest.clone())
        );
        assert_eq!(Digest::from_hash(Algorithm::Sha512, &digest.hash()), None);
    }

    #[test]
    fn invalid_digests_are_refused_with_the_reason() {
        let rejected = [
            ("", "no ':' between algorithm and hash in digest"),
            ("sha256", "no ':' between algorithm and hash in digest"),
            (
                ":",
                "unsupported digest algorithm \"\", supported are sha256 and sha512",
            ),
            (
                "md5:d41d8cd98f00b204e9800998ecf8427e",
                "unsupported digest algorithm \"md5\", supported are sha256 and sha512",
            ),
            (
                "SHA256:00",
                "unsupported digest algorithm \"SHA256\", supported are sha256 and sha512",
            ),
            ("sha256:", "0 characters in sha256 digest, expected 64"),
            ("sha256:00", "2 characters in sha256 digest, expected 64"),
            (
                "sha256:baddigeststring",
                "unexpected character 'i' in digest",
            ),
            ("sha256:E3", "unexpected character 'E' in digest"),
            ("sha256:é", "unexpected character 'é' in digest"),
        ];
        for (text, message) in rejected {
            assert_eq!(
                text.parse::<Digest>().unwrap_err().to_string(),
                message,
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_digest_accepts_only_lower_case_hex_at_every_position() {
        for position in 7..EMPTY.len() {
            for byte in 0..=127_u8 {
                let mut text = EMPTY.to_owned().into_bytes();
                text[position] = byte;
                let text = String::from_utf8(text).unwrap();
                let valid = byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
                assert_eq!(text.parse::<Digest>().is_ok(), valid, "{text:?}");
            }
        }
    }
}
