//! Digests that the platform computes.

use js_sys::Uint8Array;
use strata::{
    digest::{Algorithm, Digest},
    store::StoreError,
};

/// Makes a digest of a hash that the platform computed.
pub(crate) fn digest(algorithm: Algorithm, hash: &Uint8Array) -> Result<Digest, StoreError> {
    Digest::from_hash(algorithm, &hash.to_vec()).ok_or_else(|| {
        StoreError::Failed("the platform's hash has another length than the algorithm".to_owned())
    })
}

pub(crate) const fn platform_name(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Sha256 => "SHA-256",
        Algorithm::Sha512 => "SHA-512",
    }
}
