//! Streams in memory: reading, hashing and joining.

use std::{
    fmt,
    io::{Cursor, Read as _},
};

use futures_util::{
    StreamExt as _, TryStreamExt as _,
    stream::{self, LocalBoxStream},
};
use sha2::{Digest as _, Sha256, Sha512};

use crate::{
    digest::{Algorithm, Digest},
    memory::{
        body::{Items, MadeItems, MemoryBody},
        bytes::MemoryBytes,
    },
    store::{Bytes, HELD, Hasher, Made, PIECE, Piece, Reader, Received, StoreError, Streams},
};

/// The operations on streams in memory, without a host.
#[derive(Clone, Copy, Debug, Default)]
pub struct MemoryStreams;

/// The items of pieces, each opened when its turn comes.
fn flow(
    pieces: LocalBoxStream<'static, Result<Piece<MemoryBody, MemoryBytes>, StoreError>>,
) -> Items {
    let open = |piece: Piece<MemoryBody, MemoryBytes>| match piece {
        Piece::Bytes(bytes) => MemoryBody::Bytes(bytes).into_stream(),
        Piece::Held(bytes) => MemoryBody::Bytes(bytes.to_vec()).into_stream(),
        Piece::Stream(body) => body.into_stream(),
        Piece::Later(later) => stream::once(async move { later.open().await })
            .map_ok(MemoryBody::into_stream)
            .try_flatten()
            .boxed_local(),
        Piece::Made(Made(pieces)) => flow(pieces),
    };
    pieces.map_ok(open).try_flatten().boxed_local()
}

/// The same items, and an error if they have another length.
fn exactly(length: u64, items: Items) -> Items {
    stream::try_unfold((items, length), async |(mut items, left)| {
        let Some(item) = items.try_next().await? else {
            return if left == 0 {
                Ok(None)
            } else {
                Err(StoreError::Length)
            };
        };
        let left = left.checked_sub(item.len() as u64);
        Ok(Some((item, (items, left.ok_or(StoreError::Length)?))))
    })
    .boxed_local()
}

impl Streams for MemoryStreams {
    type Body = MemoryBody;
    type Bytes = MemoryBytes;
    type Reader = MemoryReader;
    type Hasher = MemoryHasher;

    async fn hash(&self, body: MemoryBody, algorithm: Algorithm) -> Result<Received, StoreError> {
        let mut hasher = MemoryHasher::new(algorithm);
        let (mut items, mut size) = (body.into_stream(), 0);
        while let Some(item) = items.try_next().await? {
            size += item.len() as u64;
            hasher.add(&item);
        }
        Ok(Received {
            size,
            digest: hasher.finish().await?,
            writes: 0,
        })
    }

    async fn collect(&self, body: MemoryBody, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let (mut items, mut bytes) = (body.into_stream(), Vec::new());
        while let Some(item) = items.try_next().await? {
            if (bytes.len() + item.len()) as u64 > limit {
                return Ok(None);
            }
            bytes.extend(item);
        }
        Ok(Some(bytes))
    }

    async fn hold(&self, body: MemoryBody, length: u64) -> Result<MemoryBytes, StoreError> {
        match self.collect(body, length).await? {
            Some(bytes) if bytes.len() as u64 == length => Ok(MemoryBytes(bytes.into())),
            Some(_) | None => Err(StoreError::Length),
        }
    }

    fn read(&self, body: MemoryBody) -> Result<MemoryReader, StoreError> {
        Ok(MemoryReader {
            items: body.into_stream(),
            rest: Cursor::default(),
        })
    }

    fn hasher(&self, algorithm: Algorithm) -> Result<MemoryHasher, StoreError> {
        Ok(MemoryHasher::new(algorithm))
    }

    fn concatenate(&self, pieces: Vec<Piece<MemoryBody, MemoryBytes>>, length: u64) -> MemoryBody {
        let pieces = stream::iter(pieces).map(Ok).boxed_local();
        MemoryBody::Made(MadeItems(exactly(length, flow(pieces))))
    }

    async fn discard(&self, _body: MemoryBody) {}
}

/// A stream in memory that is read piece by piece.
pub struct MemoryReader {
    items: Items,
    rest: Cursor<Vec<u8>>,
}

impl fmt::Debug for MemoryReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryReader").finish_non_exhaustive()
    }
}

impl Reader for MemoryReader {
    type Bytes = MemoryBytes;

    async fn hold(&mut self, most: u64) -> Result<Option<MemoryBytes>, StoreError> {
        let most = usize::try_from(most.min(HELD)).unwrap_or(usize::MAX);
        let mut held = Vec::new();
        while held.len() < most {
            let left = (most - held.len()) as u64;
            let rest = self.rest.by_ref().take(left).read_to_end(&mut held);
            if rest.map_err(|error| StoreError::Failed(error.to_string()))? > 0 {
                continue;
            }
            let Some(item) = self.items.try_next().await? else {
                break;
            };
            self.rest = Cursor::new(item);
        }
        Ok((!held.is_empty()).then(|| MemoryBytes(held.into())))
    }

    async fn next(&mut self, piece: &mut Vec<u8>) -> Result<bool, StoreError> {
        piece.clear();
        while let left @ 1.. = PIECE - piece.len() {
            let rest = self.rest.by_ref().take(left as u64).read_to_end(piece);
            if rest.map_err(|error| StoreError::Failed(error.to_string()))? > 0 {
                continue;
            }
            let Some(item) = self.items.try_next().await? else {
                break;
            };
            self.rest = Cursor::new(item);
        }
        Ok(!piece.is_empty())
    }

    async fn give_up(self) {}
}

/// A hash that is computed in memory.
#[derive(Debug)]
pub struct MemoryHasher(HashState);

#[derive(Debug)]
enum HashState {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl MemoryHasher {
    fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Sha256 => HashState::Sha256(Sha256::new()),
            Algorithm::Sha512 => HashState::Sha512(Sha512::new()),
        })
    }

    fn add(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            HashState::Sha256(hash) => hash.update(bytes),
            HashState::Sha512(hash) => hash.update(bytes),
        }
    }
}

impl Hasher for MemoryHasher {
    type Bytes = MemoryBytes;

    async fn update(&mut self, bytes: &MemoryBytes) -> Result<(), StoreError> {
        self.add(&bytes.0);
        Ok(())
    }

    async fn finish(self) -> Result<Digest, StoreError> {
        let digest = match self.0 {
            HashState::Sha256(hash) => Digest::from_hash(Algorithm::Sha256, &hash.finalize()),
            HashState::Sha512(hash) => Digest::from_hash(Algorithm::Sha512, &hash.finalize()),
        };
        digest.ok_or_else(|| StoreError::Failed("a hash has another length".to_owned()))
    }
}
