//! Interfaces of the stores, each with the guarantees that it gives.
//!
//! The cold tier is [`Objects`], the only source of truth. The warm tier is [`Values`], which may
//! forget. The hot tier is memory, which [`tiers`] holds.
//!
//! Bodies are streams of the platform. They pass from a client to a store and back without coming
//! through this crate. [`Streams`] names the operations of the platform on them. [`Bytes`] are in
//! the platform's memory.

use std::{fmt, future::Future, time::Duration};

use futures_util::{future::LocalBoxFuture, stream::LocalBoxStream};

use crate::{
    digest::{Algorithm, Digest},
    error::{Code, Error, MEMORY_RETRY_AFTER, RETRY_AFTER},
    range::ByteRange,
    time::Timestamp,
};

pub mod after;
pub mod bucket;
pub mod counted;
pub mod document;
pub mod flight;
pub mod frequency;
pub mod hot;
pub mod key;
pub mod policy;
pub mod retry;
pub mod suite;
pub mod tiers;
pub mod trace;
pub mod warm;

/// A store of objects in which every read, list and delete sees every write that returned before it
/// began.
///
/// Keys are ordered by their bytes. A delete has no condition. Writing one key more than once a
/// second may fail with [`StoreError::Throttled`].
pub trait Objects: 'static {
    /// A stream of bytes, from a client or from the store.
    type Body;

    /// Bytes in the platform's memory.
    type Bytes: Bytes;

    /// Reads the [`Meta`] of an object without its bytes.
    fn head(&self, key: &str) -> impl Future<Output = Result<Option<Meta>, StoreError>>;

    /// Reads an object, or a range of it that lies within it.
    fn get(
        &self,
        key: &str,
        range: Option<ByteRange>,
    ) -> impl Future<Output = Result<Option<Object<Self::Body>>, StoreError>>;

    /// Writes an object whole or not at all, and returns its [`Meta`]. `None` if the condition did
    /// not hold.
    fn put(
        &self,
        key: &str,
        content: Content<Self::Body, Self::Bytes>,
        options: PutOptions<'_>,
    ) -> impl Future<Output = Result<Option<Meta>, StoreError>>;

    /// Lists the objects whose keys begin with `prefix`, in the order of their keys. A page may be
    /// shorter than the limit and still have a successor. With metadata it often is.
    fn list(
        &self,
        prefix: &str,
        options: ListOptions<'_>,
    ) -> impl Future<Output = Result<Page, StoreError>>;

    /// Deletes up to 1,000 objects. Absent ones count as deleted.
    fn delete(&self, keys: &[String]) -> impl Future<Output = Result<(), StoreError>>;

    /// Writes a stream of unknown length as one object, hashing it on the way, in bounded memory.
    ///
    /// If it fails, nothing is stored. A stream that a client broke off is a failure, never a short
    /// object.
    fn receive(
        &self,
        key: &str,
        body: Self::Body,
        algorithm: Algorithm,
    ) -> impl Future<Output = Result<Received, StoreError>>;
}

/// The operations of a platform on streams: whole, without reading them here, or piece by piece.
pub trait Streams {
    /// A stream of bytes, from a client, a store or another server.
    type Body: 'static;

    /// Bytes in the platform's memory.
    type Bytes: Bytes;

    /// A stream that is being read here.
    type Reader: Reader<Bytes = Self::Bytes>;

    /// A hash of bytes that come one after the other.
    type Hasher: Hasher<Bytes = Self::Bytes>;

    /// Reads a stream to its end, and returns its digest and length.
    fn hash(
        &self,
        body: Self::Body,
        algorithm: Algorithm,
    ) -> impl Future<Output = Result<Received, StoreError>>;

    /// Reads a stream into memory; `None` if it has more than `limit` bytes.
    fn collect(
        &self,
        body: Self::Body,
        limit: u64,
    ) -> impl Future<Output = Result<Option<Vec<u8>>, StoreError>>;

    /// Reads a stream of this many bytes into the platform's memory. A shorter or longer stream
    /// fails with [`StoreError::Length`].
    fn hold(
        &self,
        body: Self::Body,
        length: u64,
    ) -> impl Future<Output = Result<Self::Bytes, StoreError>>;

    /// Begins to hash.
    fn hasher(&self, algorithm: Algorithm) -> Result<Self::Hasher, StoreError>;

    /// Begins to read a stream here.
    fn read(&self, body: Self::Body) -> Result<Self::Reader, StoreError>;

    /// Joins several pieces into one stream of `length` bytes. Each piece is opened when its turn
    /// comes.
    ///
    /// The reader sees an error if a piece fails, or if the pieces have another length in all. A
    /// reader that gives the stream up drops the remaining pieces.
    fn concatenate(&self, pieces: Vec<Piece<Self::Body, Self::Bytes>>, length: u64) -> Self::Body;

    /// Gives up a stream without reading it.
    fn discard(&self, body: Self::Body) -> impl Future<Output = ()>;
}

/// A stream that is being read here, in bounded memory. Only requested bytes are read.
pub trait Reader {
    /// Bytes in the platform's memory.
    type Bytes: Bytes;

    /// Replaces the content of `piece` by the next [`PIECE`] bytes, or fewer at the end. Returns
    /// whether there were any.
    ///
    /// If the caller passes the same vector each time, no other memory of this crate is used. A
    /// stream that breaks off is an error, never an end, and leaves `piece` without meaning.
    fn next(&mut self, piece: &mut Vec<u8>) -> impl Future<Output = Result<bool, StoreError>>;

    /// Reads the next `most` bytes into the platform's memory: at most [`HELD`], fewer at the end,
    /// and `None` after it. The memory is one of few buffers, so the call may wait for one. The
    /// buffer is free again when the last clone is dropped.
    fn hold(&mut self, most: u64) -> impl Future<Output = Result<Option<Self::Bytes>, StoreError>>;

    /// Gives up the rest.
    fn give_up(self) -> impl Future<Output = ()>;
}

/// The most bytes that a reader gives at once.
pub const PIECE: usize = 256 * 1024;

/// The most bytes that a reader holds at once.
pub const HELD: u64 = 5 * 1024 * 1024;

/// A hash of bytes that come one after the other.
pub trait Hasher {
    /// Bytes in the platform's memory.
    type Bytes: Bytes;

    /// Takes the next bytes.
    fn update(&mut self, bytes: &Self::Bytes) -> impl Future<Output = Result<(), StoreError>>;

    /// The digest of all of them.
    fn finish(self) -> impl Future<Output = Result<Digest, StoreError>>;
}

/// A store of values that forgets. A read may be stale, or find nothing although there is a value.
///
/// It is never the source of truth. A value has at most 25 MiB, a key at most 512 bytes, and one
/// key is written at most once a second.
pub trait Values: 'static {
    /// Bytes in the platform's memory.
    type Bytes: Bytes;

    /// Reads a value.
    fn get(&self, key: &str) -> impl Future<Output = Result<Option<Self::Bytes>, StoreError>>;

    /// Writes a value, which expires after its time to live of at least a minute.
    fn put(
        &self,
        key: &str,
        value: Self::Bytes,
        time_to_live: Duration,
    ) -> impl Future<Output = Result<(), StoreError>>;

    /// Deletes a value. An absent one counts as deleted.
    fn delete(&self, key: &str) -> impl Future<Output = Result<(), StoreError>>;
}

/// Bytes in the platform's memory. Cloning is cheap, and the platform works on them without copying
/// them into this crate.
pub trait Bytes: Clone + 'static {
    /// Copies bytes into the platform's memory.
    fn copy_from(bytes: &[u8]) -> Self;

    /// Copies the bytes out of the platform's memory.
    fn to_vec(&self) -> Vec<u8>;

    /// The number of bytes.
    fn len(&self) -> u64;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A part of the bytes over the same memory, from `first` up to and excluding `end`. The range
    /// is cut to the bytes that exist.
    fn slice(&self, first: u64, end: u64) -> Self;

    /// New bytes: the prefix, then these.
    fn prefixed(&self, prefix: &[u8]) -> Self;

    /// Their digest.
    fn digest(&self, algorithm: Algorithm) -> impl Future<Output = Result<Digest, StoreError>>;

    /// The bytes compressed in the zlib format (RFC 1950).
    fn compress(&self) -> impl Future<Output = Result<Self, StoreError>>;

    /// Decompresses the bytes. It fails if the result is not `length` bytes long.
    fn decompress(&self, length: u64) -> impl Future<Output = Result<Self, StoreError>>;
}

/// The metadata of an object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Meta {
    /// The number of bytes.
    pub size: u64,
    /// Changes whenever the bytes do.
    pub etag: String,
    /// When it was written, by the store's clock.
    pub uploaded: Timestamp,
    /// The metadata that its writer gave it, at most 2 KiB.
    pub metadata: String,
}

/// An object being read.
#[derive(Debug)]
pub struct Object<B> {
    /// Its metadata.
    pub meta: Meta,
    /// Its bytes, or the requested range.
    pub body: B,
}

/// The content that is written into an object.
#[derive(Debug)]
pub enum Content<B, Y> {
    /// Bytes that are in memory.
    Bytes(Vec<u8>),
    /// Bytes that are in the platform's memory.
    Held(Y),
    /// A stream of this many bytes.
    Stream(B, u64),
}

/// The condition of a write.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Condition<'a> {
    /// None: an existing object is replaced.
    #[default]
    Always,
    /// If there is no object.
    Absent,
    /// If the object has this etag.
    Matches(&'a str),
}

/// The options of a write.
#[derive(Clone, Copy, Debug, Default)]
pub struct PutOptions<'a> {
    /// The condition of the write.
    pub condition: Condition<'a>,
    /// The digest that the bytes must have.
    pub digest: Option<&'a Digest>,
    /// The metadata of the object.
    pub metadata: &'a str,
}

/// The options of a listing.
#[derive(Clone, Copy, Debug, Default)]
pub struct ListOptions<'a> {
    /// The listing holds only objects whose keys come after this one.
    pub after: Option<&'a str>,
    /// The most objects, up to 1,000.
    pub limit: u32,
    /// Whether the objects' metadata is wanted. Without it, the metadata of each object is empty.
    pub metadata: bool,
}

/// One page of a listing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Page {
    /// Keys, each with the metadata of its object.
    pub objects: Vec<(String, Meta)>,
    /// Whether there is more after the last key.
    pub truncated: bool,
}

/// A stream that was read to its end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Received {
    /// The number of bytes.
    pub size: u64,
    /// Their digest.
    pub digest: Digest,
    /// The writes that storing it took, as the platform bills them. None if it was only read.
    pub writes: u64,
}

/// A part of a stream that is put together.
#[derive(Debug)]
pub enum Piece<B, Y> {
    /// Bytes that are in memory.
    Bytes(Vec<u8>),
    /// Bytes that are in the platform's memory.
    Held(Y),
    /// A stream that is open already.
    Stream(B),
    /// A stream that is opened when its turn comes.
    Later(Later<B>),
    /// Pieces that are produced when their turn comes.
    Made(Made<B, Y>),
}

/// A stream that is not open yet.
pub struct Later<B>(pub LocalBoxFuture<'static, Result<B, StoreError>>);

impl<B> fmt::Debug for Later<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Later").finish_non_exhaustive()
    }
}

/// Pieces that are produced one after the other, each when the one before was taken. At most one is
/// produced ahead.
pub struct Made<B, Y>(pub LocalBoxStream<'static, Result<Piece<B, Y>, StoreError>>);

impl<B, Y> fmt::Debug for Made<B, Y> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Made").finish_non_exhaustive()
    }
}

/// Why a store refused or failed an operation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum StoreError {
    /// The bytes did not have the expected digest. Nothing was written.
    Digest,
    /// The stream was shorter or longer than announced. Nothing was written.
    Length,
    /// No memory was free for the stream's parts within the time allowed. Nothing was read.
    Busy,
    /// The store asks for fewer requests. The operation was not done.
    Throttled(String),
    /// The store, or the way to it, failed. The operation may have been done or not.
    Failed(String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digest => f.write_str("the bytes do not have the digest announced"),
            Self::Length => f.write_str("the stream did not have the length announced"),
            Self::Busy => f.write_str("no memory is free for the parts of a stream"),
            Self::Throttled(cause) => write!(f, "the store limits the request rate: {cause}"),
            Self::Failed(cause) => write!(f, "the store failed: {cause}"),
        }
    }
}

impl std::error::Error for StoreError {}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Digest => Self::new(
                Code::DigestInvalid,
                "the bytes received have another digest",
            ),
            StoreError::Length => Self::new(
                Code::SizeInvalid,
                "the body ended before or after its announced length",
            ),
            StoreError::Busy => Self::unavailable(
                "no memory is free for this body while other uploads use it, try again",
                MEMORY_RETRY_AFTER,
            ),
            StoreError::Throttled(cause) => {
                Self::unavailable("the store limits the request rate; try again", RETRY_AFTER)
                    .with_cause(cause)
            }
            StoreError::Failed(cause) => Self::unavailable(
                "the store did not do what it was asked, try again",
                RETRY_AFTER,
            )
            .with_cause(cause),
        }
    }
}
