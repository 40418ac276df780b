//! A Bloom filter of the stored manifests: grants for these manifests need no check.
//!
//! Every inserted manifest is found.
//! Rarely a manifest that was not inserted is found too, and another seed finds others.
//! So a grant that stays by mistake is checked in the next round.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::{
    digest::{Algorithm, Digest},
    name::Name,
};

/// The manifests that may be stored.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Filter {
    seed: String,
    bits: Bits,
}

#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Bits(Vec<u8>);

impl Filter {
    /// The most bytes of a filter.
    const MAX_BYTES: u64 = 1024 * 1024;

    /// The fewest bytes of a filter.
    const MIN_BYTES: u64 = 1024;

    /// Makes an empty filter, for about so many manifests.
    pub(super) fn new(manifests: u64, seed: [u8; 16]) -> Self {
        // With 16 bits for each manifest, one absent manifest in 400 is found.
        let bytes = manifests
            .saturating_mul(2)
            .clamp(Self::MIN_BYTES, Self::MAX_BYTES);
        Self {
            seed: hex::encode(seed),
            bits: Bits(vec![0; usize::try_from(bytes).unwrap_or_default()]),
        }
    }

    /// Inserts a manifest.
    pub(super) fn insert(&mut self, name: &Name, digest: &Digest) {
        for (at, bit) in self.places(name, digest) {
            if let Some(byte) = self.bits.0.get_mut(at) {
                *byte |= bit;
            }
        }
    }

    /// Whether a manifest was inserted. `true` may be wrong, `false` never is.
    pub(super) fn may_have(&self, name: &Name, digest: &Digest) -> bool {
        self.places(name, digest)
            .iter()
            .all(|(at, bit)| self.bits.0.get(*at).is_some_and(|byte| byte & bit != 0))
    }

    fn places(&self, name: &Name, digest: &Digest) -> [(usize, u8); 4] {
        let text = format!("{} {name} {digest}", self.seed);
        let hash = Algorithm::Sha256.digest(text.as_bytes()).hash();
        let bits = self.bits.0.len() as u64 * 8;
        let mut places = [(usize::MAX, 0); 4];
        for (place, part) in places.iter_mut().zip(hash.chunks_exact(8)) {
            let number = part
                .iter()
                .fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
            if let Some(bit) = number.checked_rem(bits) {
                *place = (
                    usize::try_from(bit / 8).unwrap_or(usize::MAX),
                    1 << (bit % 8),
                );
            }
        }
        places
    }
}

impl Serialize for Bits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD_NO_PAD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bits = STANDARD_NO_PAD.decode(text).map_err(D::Error::custom)?;
        Ok(Self(bits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(number: u32) -> Digest {
        Algorithm::Sha256.digest(&number.to_be_bytes())
    }

    #[test]
    fn the_filter_finds_every_manifest_inserted_and_few_others() {
        let names: [Name; 2] = ["a".parse().unwrap(), "a/b".parse().unwrap()];
        let mut filter = Filter::new(10_000, [7; 16]);
        for number in 0..10_000 {
            filter.insert(&names[0], &manifest(number));
        }
        assert!((0..10_000).all(|number| filter.may_have(&names[0], &manifest(number))));
        let wrong = |name: &Name, filter: &Filter| {
            let numbers = 0..20_000;
            numbers
                .filter(|number| filter.may_have(name, &manifest(*number)))
                .count()
        };
        assert!(wrong(&names[1], &filter) < 100);
        let text = serde_json::to_string(&filter).unwrap();
        assert_eq!(serde_json::from_str::<Filter>(&text).unwrap(), filter);
    }

    #[test]
    fn the_filter_is_bounded_in_size() {
        assert_eq!(Filter::new(0, [0; 16]).bits.0.len(), 1_024);
        assert_eq!(Filter::new(u64::MAX, [0; 16]).bits.0.len(), 1_048_576);
        let name: Name = "a".parse().unwrap();
        assert!(!Filter::default().may_have(&name, &manifest(1)));
    }
}
