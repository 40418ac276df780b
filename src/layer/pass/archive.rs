//! The archive as it comes out: its table of contents, its length, and its SHA-256.

use sha2::{Digest as _, Sha256};

use crate::layer::{contents::Sorter, pass::error::PassError, tar::Untar};

/// Where bytes of the archive go.
pub(super) type Output<'a> = &'a mut dyn FnMut(&[u8]);

/// What is learnt of the archive.
#[derive(Debug)]
pub(super) struct Archive {
    pub(super) untar: Untar,
    pub(super) contents: Sorter,
    /// None where the diff ID is left to the caller.
    pub(super) sum: Option<Sha256>,
    pub(super) length: u64,
    /// The most bytes that it may have, and why.
    pub(super) limit: u64,
    pub(super) beyond: PassError,
    pub(super) contents_limit: u64,
}

impl Archive {
    pub(super) fn take(&mut self, bytes: &[u8], output: Output<'_>) -> Result<(), PassError> {
        self.length += bytes.len() as u64;
        if self.length > self.limit {
            return Err(self.beyond.clone());
        }
        if let Some(sum) = &mut self.sum {
            sum.update(bytes);
        }
        output(bytes);
        let contents = &mut self.contents;
        self.untar.push(bytes, |entry| {
            contents.push(entry)?;
            if contents.size() > self.contents_limit {
                return Err(PassError::Contents(self.contents_limit));
            }
            Ok(())
        })
    }
}
