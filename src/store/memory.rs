//! Stores in memory: the doubles of the cold and the warm tier in native tests.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fmt,
    future::ready,
    io::{Cursor, Read as _},
    rc::Rc,
    time::Duration,
};

use futures_util::{
    StreamExt as _, TryStreamExt as _,
    stream::{self, LocalBoxStream},
};
use miniz_oxide::{deflate::compress_to_vec_zlib, inflate::decompress_to_vec_zlib_with_limit};

use crate::{
    digest::{Algorithm, Digest},
    range::ByteRange,
    store::{
        Bytes, Condition, Content, HELD, Hasher, ListOptions, Made, Meta, Object, Objects, PIECE,
        Page, Piece, PutOptions, Reader, Received, StoreError, Streams, Values,
    },
    time::Timestamp,
};

/// Objects in memory, with the promises of [`Objects`]: each operation is done at once, so all see the same order.
#[derive(Debug, Default)]
pub struct Memory {
    objects: Rc<Contents>,
    clock: Option<Rc<Cell<Timestamp>>>,
}

/// Shared with the streams that open an object when its turn comes.
type Contents = RefCell<BTreeMap<String, (Meta, Vec<u8>)>>;

impl Memory {
    /// Makes one that writes by a clock. Without, nothing grows old.
    pub fn timed(clock: Rc<Cell<Timestamp>>) -> Self {
        Self {
            clock: Some(clock),
            ..Self::default()
        }
    }

    /// The keys of all objects, in their order.
    pub fn keys(&self) -> Vec<String> {
        self.objects.borrow().keys().cloned().collect()
    }

    /// The bytes of an object.
    pub fn bytes(&self, key: &str) -> Option<Vec<u8>> {
        self.objects
            .borrow()
            .get(key)
            .map(|(_, bytes)| bytes.clone())
    }
}

fn find(
    objects: &Contents,
    key: &str,
    range: Option<ByteRange>,
) -> Result<Option<(Meta, Vec<u8>)>, StoreError> {
    let objects = objects.borrow();
    let Some((meta, bytes)) = objects.get(key) else {
        return Ok(None);
    };
    let bytes = match range {
        None => bytes.clone(),
        Some(range) => usize::try_from(range.first())
            .ok()
            .zip(usize::try_from(range.last()).ok())
            .and_then(|(first, last)| bytes.get(first..=last))
            .ok_or_else(|| StoreError::Failed(format!("range {range} is not within {key}")))?
            .to_vec(),
    };
    Ok(Some((meta.clone(), bytes)))
}

/// A stream in memory, or one that breaks off.
#[derive(Debug)]
pub enum MemoryBody {
    /// These bytes, then the end.
    Bytes(Vec<u8>),
    /// These bytes, then a failure: a client that went away.
    Broken(Vec<u8>),
    /// These items, each made when it is read.
    Made(MadeItems),
}

impl MemoryBody {
    /// Reads it to its end.
    ///
    /// # Errors
    ///
    /// What it breaks off with.
    pub async fn read(self) -> Result<Vec<u8>, StoreError> {
        self.items().try_concat().await
    }

    fn items(self) -> Items {
        match self {
            Self::Bytes(bytes) => stream::iter([Ok(bytes)]).boxed_local(),
            Self::Broken(bytes) => {
                let gone = StoreError::Failed("the client went away".to_owned());
                stream::iter([Ok(bytes), Err(gone)]).boxed_local()
            }
            Self::Made(MadeItems(items)) => items,
        }
    }
}

/// What a stream has, as it is read.
type Items = LocalBoxStream<'static, Result<Vec<u8>, StoreError>>;

/// Items that are made when they are read.
pub struct MadeItems(pub Items);

impl fmt::Debug for MadeItems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MadeItems").finish_non_exhaustive()
    }
}

/// The items of pieces, each opened when its turn comes.
fn flow(
    objects: Rc<Contents>,
    pieces: LocalBoxStream<'static, Result<Piece<MemoryBody, MemoryBytes>, StoreError>>,
) -> Items {
    let open = move |piece: Piece<MemoryBody, MemoryBytes>| match piece {
        Piece::Bytes(bytes) => MemoryBody::Bytes(bytes).items(),
        Piece::Held(bytes) => MemoryBody::Bytes(bytes.to_vec()).items(),
        Piece::Stream(body) => body.items(),
        Piece::Object(key, range) => {
            let found = find(&objects, &key, range).and_then(|found| {
                let gone = || StoreError::Failed(format!("{key} is gone"));
                found.map(|(_, bytes)| bytes).ok_or_else(gone)
            });
            stream::once(ready(found)).boxed_local()
        }
        Piece::Made(Made(pieces)) => flow(Rc::clone(&objects), pieces),
    };
    pieces.map_ok(open).try_flatten().boxed_local()
}

/// The same items, and an error where they have another length.
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

impl From<Vec<u8>> for MemoryBody {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

impl Objects for Memory {
    type Body = MemoryBody;

    async fn head(&self, key: &str) -> Result<Option<Meta>, StoreError> {
        Ok(self.objects.borrow().get(key).map(|(meta, _)| meta.clone()))
    }

    async fn get(
        &self,
        key: &str,
        range: Option<ByteRange>,
    ) -> Result<Option<Object<MemoryBody>>, StoreError> {
        let found = find(&self.objects, key, range)?;
        Ok(found.map(|(meta, bytes)| Object {
            meta,
            body: bytes.into(),
        }))
    }

    async fn put(
        &self,
        key: &str,
        content: Content<MemoryBody>,
        options: PutOptions<'_>,
    ) -> Result<Option<Meta>, StoreError> {
        let bytes = match content {
            Content::Bytes(bytes) => bytes,
            Content::Stream(body, length) => {
                let bytes = body.read().await?;
                if bytes.len() as u64 != length {
                    return Err(StoreError::Length);
                }
                bytes
            }
        };
        if options
            .digest
            .is_some_and(|digest| digest.algorithm().digest(&bytes) != *digest)
        {
            return Err(StoreError::Digest);
        }
        let mut objects = self.objects.borrow_mut();
        let holds = match options.condition {
            Condition::Always => true,
            Condition::Absent => !objects.contains_key(key),
            Condition::Matches(etag) => objects.get(key).is_some_and(|(meta, _)| meta.etag == etag),
        };
        if !holds {
            return Ok(None);
        }
        let meta = Meta {
            size: bytes.len() as u64,
            // As R2's, an etag says what the bytes are, not which write they came by.
            etag: Algorithm::Sha256.digest(&bytes).encoded().to_owned(),
            uploaded: self
                .clock
                .as_ref()
                .map_or(Timestamp(u64::MAX), |clock| clock.get()),
            metadata: options.metadata.to_owned(),
        };
        objects.insert(key.to_owned(), (meta.clone(), bytes));
        Ok(Some(meta))
    }

    async fn list(&self, prefix: &str, options: ListOptions<'_>) -> Result<Page, StoreError> {
        let objects = self.objects.borrow();
        let mut found = objects
            .range(prefix.to_owned()..)
            .take_while(|(key, _)| key.starts_with(prefix))
            .filter(|(key, _)| options.after.is_none_or(|after| key.as_str() > after))
            .map(|(key, (meta, _))| {
                let metadata = if options.metadata {
                    meta.metadata.clone()
                } else {
                    String::new()
                };
                (
                    key.clone(),
                    Meta {
                        metadata,
                        ..meta.clone()
                    },
                )
            });
        let page = found
            .by_ref()
            .take(options.limit.min(1_000) as usize)
            .collect();
        Ok(Page {
            objects: page,
            truncated: found.next().is_some(),
        })
    }

    async fn delete(&self, keys: &[String]) -> Result<(), StoreError> {
        let mut objects = self.objects.borrow_mut();
        for key in keys {
            objects.remove(key);
        }
        Ok(())
    }
}

impl Streams for Memory {
    type Bytes = MemoryBytes;
    type Reader = MemoryReader;
    type Hasher = MemoryHasher;

    async fn receive(
        &self,
        key: &str,
        body: MemoryBody,
        algorithm: Algorithm,
    ) -> Result<Received, StoreError> {
        let bytes = body.read().await?;
        let received = Received {
            size: bytes.len() as u64,
            digest: algorithm.digest(&bytes),
            writes: 1,
        };
        self.put(key, Content::Bytes(bytes), PutOptions::default())
            .await?;
        Ok(received)
    }

    async fn hash(&self, body: MemoryBody, algorithm: Algorithm) -> Result<Received, StoreError> {
        let bytes = body.read().await?;
        Ok(Received {
            size: bytes.len() as u64,
            digest: algorithm.digest(&bytes),
            writes: 0,
        })
    }

    async fn collect(&self, body: MemoryBody, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let bytes = body.read().await?;
        Ok((bytes.len() as u64 <= limit).then_some(bytes))
    }

    async fn hold(&self, body: MemoryBody, length: u64) -> Result<MemoryBytes, StoreError> {
        let bytes = body.read().await?;
        if bytes.len() as u64 == length {
            Ok(MemoryBytes(bytes.into()))
        } else {
            Err(StoreError::Length)
        }
    }

    fn read(&self, body: MemoryBody) -> Result<MemoryReader, StoreError> {
        Ok(MemoryReader {
            items: body.items(),
            rest: Cursor::default(),
        })
    }

    async fn write(&self, key: &str, bytes: &MemoryBytes) -> Result<(), StoreError> {
        let content = Content::Bytes(bytes.to_vec());
        self.put(key, content, PutOptions::default()).await?;
        Ok(())
    }

    fn hasher(&self, algorithm: Algorithm) -> Result<MemoryHasher, StoreError> {
        Ok(MemoryHasher {
            algorithm,
            bytes: Vec::new(),
        })
    }

    fn concatenate(&self, pieces: Vec<Piece<MemoryBody, MemoryBytes>>, length: u64) -> MemoryBody {
        let objects = Rc::clone(&self.objects);
        let pieces = stream::iter(pieces).map(Ok).boxed_local();
        MemoryBody::Made(MadeItems(exactly(length, flow(objects, pieces))))
    }

    async fn discard(&self, _body: MemoryBody) {}
}

/// A stream in memory that is being read.
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

/// A hash of bytes in memory.
#[derive(Debug)]
pub struct MemoryHasher {
    algorithm: Algorithm,
    bytes: Vec<u8>,
}

impl Hasher for MemoryHasher {
    type Bytes = MemoryBytes;

    async fn update(&mut self, bytes: &MemoryBytes) -> Result<(), StoreError> {
        self.bytes.extend_from_slice(&bytes.0);
        Ok(())
    }

    async fn finish(self) -> Result<Digest, StoreError> {
        Ok(self.algorithm.digest(&self.bytes))
    }
}

/// Bytes that several may hold.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MemoryBytes(Rc<[u8]>);

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

/// Values in memory. They forget when they are told to, and by no clock.
#[derive(Debug, Default)]
pub struct MemoryValues {
    values: RefCell<BTreeMap<String, (MemoryBytes, Duration)>>,
}

impl MemoryValues {
    /// The keys of all values, each with the time to live that it was written with.
    pub fn keys(&self) -> Vec<(String, Duration)> {
        let values = self.values.borrow();
        let keys = values.iter().map(|(key, (_, time))| (key.clone(), *time));
        keys.collect()
    }

    /// Forgets everything.
    pub fn forget(&self) {
        self.values.borrow_mut().clear();
    }
}

impl Values for MemoryValues {
    type Bytes = MemoryBytes;

    async fn get(&self, key: &str) -> Result<Option<MemoryBytes>, StoreError> {
        Ok(self
            .values
            .borrow()
            .get(key)
            .map(|(value, _)| value.clone()))
    }

    async fn put(
        &self,
        key: &str,
        value: MemoryBytes,
        time_to_live: Duration,
    ) -> Result<(), StoreError> {
        self.values
            .borrow_mut()
            .insert(key.to_owned(), (value, time_to_live));
        Ok(())
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.values.borrow_mut().remove(key);
        Ok(())
    }
}
