//! Interfaces of the stores, each with the guarantees that it gives.
//!
//! The cold tier is [`Objects`], the only source of truth. The warm tier is [`Values`], which may
//! forget. The hot tier is memory of the isolate, which the registry manages itself.
//!
//! Bodies are streams of the platform. They pass from a client to a store and back without coming
//! through this crate. [`Streams`] names the operations of the platform on them. [`Bytes`] are in
//! the platform's memory.
//!
//! [`counted`] and [`retry`] wrap a store, and [`suite`] checks one. [`policy`] has the limits of
//! the tiers.

use std::{fmt, future::Future, time::Duration};

use futures_util::{future::LocalBoxFuture, stream::LocalBoxStream};

use crate::{
    digest::{Algorithm, Digest},
    error::{Code, Error, MEMORY_RETRY_AFTER, RETRY_AFTER},
    range::ByteRange,
    time::Timestamp,
};

pub mod after;
#[doc(hidden)]
pub mod bucket;
pub mod counted;
#[doc(hidden)]
pub mod document;
#[doc(hidden)]
pub mod flight;
#[doc(hidden)]
pub mod frequency;
#[doc(hidden)]
pub mod hot;
#[doc(hidden)]
pub mod key;
#[doc(hidden)]
pub mod near;
pub mod policy;
pub mod retry;
pub mod suite;
#[doc(hidden)]
pub mod tiers;
#[doc(hidden)]
pub mod trace;
#[doc(hidden)]
pub mod warm;

/// A store of objects in which every read, list and delete sees every write that returned before it
/// began: R2, for example.
///
/// A write may be conditional. Of concurrent writes that create one object if it is absent, exactly
/// one succeeds. Keys are texts, ordered by their bytes. A delete has no condition. Writing one key
/// more than once a second may fail with [`StoreError::Throttled`].
///
/// # Errors
///
/// Any method may fail with [`StoreError::Throttled`] if the store limits the rate, and with
/// [`StoreError::Failed`] if the store, or the way to it, fails. The methods name other errors.
pub trait Objects: 'static {
    /// A stream of bytes, from a client or from the store, which is read at most once.
    type Body;

    /// Bytes in the platform's memory.
    type Bytes: Bytes;

    /// Reads the [`Meta`] of an object without its bytes. `None` if there is no object.
    fn head(&self, key: &str) -> impl Future<Output = Result<Option<Meta>, StoreError>>;

    /// Reads an object, or a range of it, as a stream. `None` if there is no object.
    ///
    /// The range must lie within the object.
    fn get(
        &self,
        key: &str,
        range: Option<ByteRange>,
    ) -> impl Future<Output = Result<Option<Object<Self::Body>>, StoreError>>;

    /// Writes an object whole or not at all, and returns its [`Meta`]. `None` if the condition did
    /// not hold.
    ///
    /// # Errors
    ///
    /// - [`StoreError::Digest`] if the bytes do not have [`PutOptions::digest`]. A store may check
    ///   the condition first: `None` does not prove the digest.
    /// - [`StoreError::Length`], or in some stores [`StoreError::Failed`], if a stream does not
    ///   have the announced length.
    fn put(
        &self,
        key: &str,
        content: Content<Self::Body, Self::Bytes>,
        options: PutOptions<'_>,
    ) -> impl Future<Output = Result<Option<Meta>, StoreError>>;

    /// Lists the objects whose keys begin with `prefix`, in the order of their keys.
    ///
    /// A page may be shorter than the limit, even empty, and still have a successor: the listing
    /// ends with the page that has no [`Page::next`]. With metadata pages are often short.
    fn list(
        &self,
        prefix: &str,
        options: ListOptions<'_>,
    ) -> impl Future<Output = Result<Page, StoreError>>;

    /// Deletes up to 1,000 objects by their keys. Absent ones count as deleted.
    fn delete(&self, keys: &[String]) -> impl Future<Output = Result<(), StoreError>>;

    /// Writes a stream of unknown length as one object, hashing it on the way, in bounded memory.
    ///
    /// It replaces an existing object, and the object has no metadata. An empty stream may leave no
    /// object. If it fails, nothing is stored. A stream that a client broke off is a failure, never
    /// a short object.
    ///
    /// # Errors
    ///
    /// [`StoreError::Busy`] if no memory was free for the stream's parts.
    fn receive(
        &self,
        key: &str,
        body: Self::Body,
        algorithm: Algorithm,
    ) -> impl Future<Output = Result<Received, StoreError>>;
}

/// The operations of a platform on streams: whole, without reading them in this crate, or piece by
/// piece.
///
/// # Errors
///
/// A method that reads fails with [`StoreError::Failed`] if the stream breaks off.
pub trait Streams {
    /// A stream of bytes, from a client, a store or another server.
    type Body: 'static;

    /// Bytes in the platform's memory.
    type Bytes: Bytes;

    /// A stream that is being read by this crate.
    type Reader: Reader<Bytes = Self::Bytes>;

    /// A hash of bytes that come one after the other.
    type Hasher: Hasher<Bytes = Self::Bytes>;

    /// Reads a stream to its end, and returns its digest and its length. [`Received::writes`] is 0.
    fn hash(
        &self,
        body: Self::Body,
        algorithm: Algorithm,
    ) -> impl Future<Output = Result<Received, StoreError>>;

    /// Reads a stream into memory of this crate. `None` if it has more than `limit` bytes. The rest
    /// is not read then.
    fn collect(
        &self,
        body: Self::Body,
        limit: u64,
    ) -> impl Future<Output = Result<Option<Vec<u8>>, StoreError>>;

    /// Reads a stream of `length` bytes into the platform's memory.
    ///
    /// # Errors
    ///
    /// [`StoreError::Length`] if the stream is shorter or longer.
    fn hold(
        &self,
        body: Self::Body,
        length: u64,
    ) -> impl Future<Output = Result<Self::Bytes, StoreError>>;

    /// Begins to hash, for bytes that come piece by piece.
    fn hasher(&self, algorithm: Algorithm) -> Result<Self::Hasher, StoreError>;

    /// Begins to read a stream piece by piece.
    fn read(&self, body: Self::Body) -> Result<Self::Reader, StoreError>;

    /// Joins several pieces into one stream of `length` bytes. Each piece is opened when its turn
    /// comes.
    ///
    /// The reader sees an error if a piece fails, or if the pieces have another length in all. A
    /// reader that gives the stream up drops the remaining pieces.
    fn concatenate(&self, pieces: Vec<Piece<Self::Body, Self::Bytes>>, length: u64) -> Self::Body;

    /// Gives up a stream without reading it, so that its source can stop.
    fn discard(&self, body: Self::Body) -> impl Future<Output = ()>;
}

/// A stream that is being read in bounded memory. Only requested bytes are read from its source.
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
    /// and `None` after it.
    ///
    /// The memory is one of few buffers, so the call may wait for one. The buffer is free again
    /// when the last clone is dropped.
    fn hold(&mut self, most: u64) -> impl Future<Output = Result<Option<Self::Bytes>, StoreError>>;

    /// Gives up the rest of the stream, so that its source can stop.
    fn give_up(self) -> impl Future<Output = ()>;
}

/// The most bytes that [`Reader::next`] returns: 256 KiB.
pub const PIECE: usize = 256 * 1024;

/// The most bytes that [`Reader::hold`] returns: 5 MiB, the smallest part that R2 accepts.
pub const HELD: u64 = 5 * 1024 * 1024;

/// The most bytes of one write. The limit of R2 is 5 MiB less than 5 GiB
/// (<https://developers.cloudflare.com/r2/platform/limits/>).
pub const LARGEST_WRITE: u64 = (5 * 1024 - 5) * 1024 * 1024;

/// A hash of bytes that come one after the other, computed by the platform.
pub trait Hasher {
    /// Bytes in the platform's memory.
    type Bytes: Bytes;

    /// Adds the next bytes.
    fn update(&mut self, bytes: &Self::Bytes) -> impl Future<Output = Result<(), StoreError>>;

    /// Returns the digest of all added bytes.
    fn finish(self) -> impl Future<Output = Result<Digest, StoreError>>;
}

/// A cache of values that isolates share, and that forgets: Workers KV, for example. A read may be
/// stale, or find nothing although there is a value.
///
/// It is never the source of truth. A value has at most 25 MiB, a key at most 512 bytes, and one
/// key is written at most once a second (<https://developers.cloudflare.com/kv/platform/limits/>).
///
/// An error of any method fails no request: the registry logs it, and reads the cold tier instead.
pub trait Values: 'static {
    /// Bytes in the platform's memory.
    type Bytes: Bytes;

    /// Reads a value. `None` if there is none, or if this reader can't see it yet.
    fn get(&self, key: &str) -> impl Future<Output = Result<Option<Self::Bytes>, StoreError>>;

    /// Writes a value, which expires after `time_to_live`. That is at least a minute.
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

    /// Whether there are no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes from offset `first` up to and excluding `end`, over the same memory. The range is
    /// cut to the bytes that exist.
    fn slice(&self, first: u64, end: u64) -> Self;

    /// Makes new bytes: `prefix`, then these.
    fn prefixed(&self, prefix: &[u8]) -> Self;

    /// Computes the digest of the bytes.
    fn digest(&self, algorithm: Algorithm) -> impl Future<Output = Result<Digest, StoreError>>;

    /// Compresses the bytes in the zlib format (RFC 1950).
    fn compress(&self) -> impl Future<Output = Result<Self, StoreError>>;

    /// Decompresses bytes in the zlib format (RFC 1950).
    ///
    /// # Errors
    ///
    /// Any [`StoreError`] if the bytes are malformed, or the result is not `length` bytes long.
    fn decompress(&self, length: u64) -> impl Future<Output = Result<Self, StoreError>>;
}

/// The metadata of an object, as the store reports it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Meta {
    /// The size of the object, in bytes.
    pub size: u64,
    /// The etag, without quotes. It changes whenever the bytes do.
    pub etag: String,
    /// The time of the write, by the store's clock.
    pub uploaded: Timestamp,
    /// The metadata that its writer gave it: one line of text, at most 2 KiB. Empty for none.
    pub metadata: String,
    /// The stamp that its writer gave it. Empty for none, and in listings
    /// without metadata.
    pub stamp: String,
}

/// An object that is being read. `B` is the platform's stream of bytes.
#[derive(Debug)]
pub struct Object<B> {
    /// The metadata of the whole object, also for a range.
    pub meta: Meta,
    /// The bytes of the object, or of the requested range.
    pub body: B,
}

/// The content that is written into an object: `B` is a stream, and `Y` bytes of the platform.
#[derive(Debug)]
pub enum Content<B, Y> {
    /// Bytes that are in memory of this crate.
    Bytes(Vec<u8>),
    /// Bytes that are in the platform's memory.
    Held(Y),
    /// A stream, and its announced length in bytes.
    Stream(B, u64),
}

/// The condition under which a write is done.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Condition<'a> {
    /// No condition: an existing object is replaced.
    #[default]
    Always,
    /// There is no object at the key.
    Absent,
    /// The object at the key has this etag.
    Matches(&'a str),
}

/// The options of a write. The default has no condition, no digest and no metadata.
#[derive(Clone, Copy, Debug, Default)]
pub struct PutOptions<'a> {
    /// The condition under which the object is written.
    pub condition: Condition<'a>,
    /// The digest that the bytes must have. Without one, they are not verified.
    pub digest: Option<&'a Digest>,
    /// The metadata of the object, at most 2 KiB. It replaces that of an existing object.
    pub metadata: &'a str,
    /// A text of at most 32 bytes that tells this write from all others. [`retry`] gives one to
    /// each conditional write.
    pub stamp: &'a str,
}

/// The options of a listing.
#[derive(Clone, Copy, Debug, Default)]
pub struct ListOptions<'a> {
    /// The place at which the page begins.
    pub start: ListStart<'a>,
    /// The most objects of the page, up to 1,000.
    pub limit: u32,
    /// Whether the page has the metadata of each object. If not, [`Meta::metadata`] is empty.
    pub metadata: bool,
}

/// The place at which a page of a listing begins.
#[derive(Clone, Copy, Debug, Default)]
pub enum ListStart<'a> {
    /// At the first key.
    #[default]
    First,
    /// After this key, which need not exist.
    After(&'a str),
    /// Where an earlier page of the same listing ended. The prefix and all other options must be
    /// those of that page.
    Cursor(&'a Cursor),
}

/// A place in a listing, as a text of the store. Only the store can read it, and it is not kept
/// longer than the request that lists.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cursor(pub String);

/// One page of a listing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Page {
    /// The keys in their order, each with the metadata of its object.
    pub objects: Vec<(String, Meta)>,
    /// Where the next page begins. `None` ends the listing.
    pub next: Option<Cursor>,
}

/// The result of reading a stream to its end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Received {
    /// The length of the stream, in bytes.
    pub size: u64,
    /// The digest of all bytes, by the requested algorithm.
    pub digest: Digest,
    /// The number of writes that storing it took, as the platform bills them. 0 if it was only
    /// read.
    pub writes: u64,
}

/// A piece of a stream that is joined: `B` is a stream, and `Y` bytes of the platform.
#[derive(Debug)]
pub enum Piece<B, Y> {
    /// Bytes that are in memory of this crate.
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

/// A stream that is opened when it is needed, such as a read of an object.
pub struct Later<B>(Box<dyn Fn() -> LocalBoxFuture<'static, Result<B, StoreError>>>);

impl<B> Later<B> {
    /// Makes a stream that `open` opens, each time anew.
    pub fn new<F: Future<Output = Result<B, StoreError>> + 'static>(
        open: impl Fn() -> F + 'static,
    ) -> Self {
        Self(Box::new(move || Box::pin(open())))
    }

    /// Opens the stream. If an opened stream is lost before it is read, another one can be opened.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn open(&self) -> Result<B, StoreError> {
        (self.0)().await
    }
}

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

/// The reason why a store refused or failed an operation. Texts are the platform's, for the log:
/// clients do not see them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum StoreError {
    /// The bytes do not have the announced digest. Nothing was written.
    Digest,
    /// The stream is shorter or longer than announced. Nothing was written.
    Length,
    /// No memory was free for the stream's parts in time. Nothing was read.
    Busy,
    /// The store limits the rate of requests. Nothing was done.
    Throttled(String),
    /// The store, or the way to it, failed. The operation may have been done or not.
    Failed(String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digest => f.write_str("the bytes do not have the announced digest"),
            Self::Length => f.write_str("the stream did not have the announced length"),
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
                "the bytes received do not have the announced digest",
            ),
            StoreError::Length => Self::new(
                Code::SizeInvalid,
                "the body ended before or after its announced length",
            ),
            StoreError::Busy => Self::unavailable(
                "no memory is free for this body while other uploads use it; try again",
                MEMORY_RETRY_AFTER,
            ),
            StoreError::Throttled(cause) => {
                Self::unavailable("the store limits the request rate; try again", RETRY_AFTER)
                    .with_cause(cause)
            }
            StoreError::Failed(cause) => {
                Self::unavailable("the store failed; try again", RETRY_AFTER).with_cause(cause)
            }
        }
    }
}
