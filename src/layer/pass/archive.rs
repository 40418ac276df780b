//! The archive inside a layer: its table of contents, length and SHA-256.

use sha2::{Digest as _, Sha256};

use crate::layer::{contents::Sorter, pass::error::PassError, tar::Untar};

/// The receiver of the archive's bytes.
pub(super) type Output<'a> = &'a mut dyn FnMut(&[u8]);

/// The archive as read so far.
#[derive(Debug)]
pub(super) struct Archive {
    pub(super) untar: Untar,
    pub(super) contents: Sorter,
    /// `None` if the caller computes the diff ID.
    pub(super) sum: Option<Sha256>,
    pub(super) length: u64,
    /// The most bytes that it may have, and the error for more.
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
