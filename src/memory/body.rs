//! Streams in memory.

use std::fmt;

use futures_util::{
    StreamExt as _, TryStreamExt as _,
    stream::{self, LocalBoxStream},
};

use crate::store::StoreError;

/// A stream in memory, whole or one that breaks off.
#[derive(Debug)]
pub enum MemoryBody {
    /// These bytes, then the end.
    Bytes(Vec<u8>),
    /// These bytes, then [`StoreError::Failed`], as if the client had disconnected.
    Broken(Vec<u8>),
    /// These chunks, each produced when it is read.
    Made(MadeItems),
}

impl MemoryBody {
    /// Reads the stream to its end.
    ///
    /// # Errors
    ///
    /// The error with which the stream breaks off.
    pub async fn read(self) -> Result<Vec<u8>, StoreError> {
        self.into_stream().try_concat().await
    }

    /// The chunks of the stream. An error is the last item.
    pub fn into_stream(self) -> LocalBoxStream<'static, Result<Vec<u8>, StoreError>> {
        match self {
            Self::Bytes(bytes) => stream::iter([Ok(bytes)]).boxed_local(),
            Self::Broken(bytes) => {
                let gone = StoreError::Failed("the client disconnected".to_owned());
                stream::iter([Ok(bytes), Err(gone)]).boxed_local()
            }
            Self::Made(MadeItems(items)) => items,
        }
    }
}

/// The chunks of a stream, as they are read.
pub(super) type Items = LocalBoxStream<'static, Result<Vec<u8>, StoreError>>;

/// The chunks of a stream, which are produced when they are read.
pub struct MadeItems(pub Items);

impl fmt::Debug for MadeItems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MadeItems").finish_non_exhaustive()
    }
}

impl From<Vec<u8>> for MemoryBody {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}
