//! Bytes in memory, as the platform holds them.

use std::rc::Rc;

use miniz_oxide::{deflate::compress_to_vec_zlib, inflate::decompress_to_vec_zlib_with_limit};

use crate::{
    digest::{Algorithm, Digest},
    store::{Bytes, StoreError},
};

/// Bytes in memory that clones share.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MemoryBytes(pub(super) Rc<[u8]>);

impl Bytes for MemoryBytes {
    fn copy_from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    fn to_vec(&self) -> Vec<u8> {
        self.0.to_vec()
    }

    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn slice(&self, first: u64, end: u64) -> Self {
        let at = |offset| usize::try_from(offset).map_or(self.0.len(), |at| at.min(self.0.len()));
        Self(self.0.get(at(first)..at(end)).unwrap_or_default().into())
    }

    fn prefixed(&self, prefix: &[u8]) -> Self {
        Self([prefix, &self.0].concat().into())
    }

    async fn digest(&self, algorithm: Algorithm) -> Result<Digest, StoreError> {
        Ok(algorithm.digest(&self.0))
    }

    async fn compress(&self) -> Result<Self, StoreError> {
        Ok(Self(compress_to_vec_zlib(&self.0, 6).into()))
    }

    async fn decompress(&self, length: u64) -> Result<Self, StoreError> {
        let limit = usize::try_from(length).map_err(|_| StoreError::Length)?;
        let bytes = decompress_to_vec_zlib_with_limit(&self.0, limit)
            .map_err(|error| StoreError::Failed(error.to_string()))?;
        if bytes.len() == limit {
            Ok(Self(bytes.into()))
        } else {
            Err(StoreError::Length)
        }
    }
}
