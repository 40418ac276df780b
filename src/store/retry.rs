//! A store over another one that asks again where that is safe.
//!
//! Reads, lists, deletes and unconditional writes of bytes in memory say the same thing however often they are said. A
//! conditional write does not: one that failed may have been kept, and asked again it would seem lost to somebody else. A
//! stream can't be read twice. Those are repeated only where the store says that nothing was done.

use std::{future::Future, time::Duration};

use crate::{
    digest::Algorithm,
    host::{Host, Level},
    range::ByteRange,
    store::{
        Condition, Content, ListOptions, Meta, Object, Objects, Page, Piece, PutOptions, Received,
        StoreError, Streams,
    },
};

/// How long each repetition waits: R2 takes one write a second for a key.
const PAUSES: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_millis(1_200),
];

/// A store that asks again.
#[derive(Debug)]
pub struct Retry<S, H> {
    store: S,
    host: H,
}

impl<S, H> Retry<S, H> {
    /// Makes one over a store.
    pub const fn new(store: S, host: H) -> Self {
        Self { store, host }
    }
}

impl<S, H: Host> Retry<S, H> {
    async fn repeat<T, F: Future<Output = Result<T, StoreError>>>(
        &self,
        name: &'static str,
        is_safe: impl Fn(&StoreError) -> bool,
        mut operation: impl FnMut() -> F,
    ) -> Result<T, StoreError> {
        for pause in PAUSES {
            match operation().await {
                Err(error) if is_safe(&error) => {
                    self.host.log(
                        Level::Error,
                        "store asked again",
                        &[("operation", name), ("error", &error.to_string())],
                    );
                    self.host.sleep(pause).await;
                }
                outcome => return outcome,
            }
        }
        operation().await
    }
}

/// Whether an operation that can be said twice may succeed when it is.
const fn is_passing(error: &StoreError) -> bool {
    match error {
        StoreError::Throttled(_) | StoreError::Failed(_) => true,
        StoreError::Digest | StoreError::Length | StoreError::Busy => false,
    }
}

/// Whether the store did nothing.
const fn is_refused(error: &StoreError) -> bool {
    match error {
        StoreError::Throttled(_) => true,
        StoreError::Digest | StoreError::Length | StoreError::Busy | StoreError::Failed(_) => false,
    }
}

impl<S: Objects, H: Host> Objects for Retry<S, H> {
    type Body = S::Body;

    async fn head(&self, key: &str) -> Result<Option<Meta>, StoreError> {
        self.repeat("head", is_passing, || self.store.head(key))
            .await
    }

    async fn get(
        &self,
        key: &str,
        range: Option<ByteRange>,
    ) -> Result<Option<Object<S::Body>>, StoreError> {
        self.repeat("get", is_passing, || self.store.get(key, range))
            .await
    }

    async fn put(
        &self,
        key: &str,
        content: Content<S::Body>,
        options: PutOptions<'_>,
    ) -> Result<Option<Meta>, StoreError> {
        match content {
            Content::Bytes(bytes) => {
                let is_safe = if options.condition == Condition::Always {
                    is_passing
                } else {
                    is_refused
                };
                self.repeat("put", is_safe, || {
                    self.store.put(key, Content::Bytes(bytes.clone()), options)
                })
                .await
            }
            Content::Stream(..) => self.store.put(key, content, options).await,
        }
    }

    async fn list(&self, prefix: &str, options: ListOptions<'_>) -> Result<Page, StoreError> {
        self.repeat("list", is_passing, || self.store.list(prefix, options))
            .await
    }

    async fn delete(&self, keys: &[String]) -> Result<(), StoreError> {
        self.repeat("delete", is_passing, || self.store.delete(keys))
            .await
    }
}

impl<S: Streams, H: Host> Streams for Retry<S, H> {
    type Bytes = S::Bytes;
    type Reader = S::Reader;
    type Hasher = S::Hasher;

    async fn receive(
        &self,
        key: &str,
        body: S::Body,
        algorithm: Algorithm,
    ) -> Result<Received, StoreError> {
        self.store.receive(key, body, algorithm).await
    }

    async fn hash(&self, body: S::Body, algorithm: Algorithm) -> Result<Received, StoreError> {
        self.store.hash(body, algorithm).await
    }

    async fn collect(&self, body: S::Body, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.collect(body, limit).await
    }

    async fn hold(&self, body: S::Body, length: u64) -> Result<S::Bytes, StoreError> {
        self.store.hold(body, length).await
    }

    async fn write(&self, key: &str, bytes: &S::Bytes) -> Result<(), StoreError> {
        self.repeat("put", is_passing, || self.store.write(key, bytes))
            .await
    }

    fn hasher(&self, algorithm: Algorithm) -> Result<S::Hasher, StoreError> {
        self.store.hasher(algorithm)
    }

    fn read(&self, body: S::Body) -> Result<S::Reader, StoreError> {
        self.store.read(body)
    }

    fn concatenate(&self, pieces: Vec<Piece<S::Body, S::Bytes>>, length: u64) -> S::Body {
        self.store.concatenate(pieces, length)
    }

    async fn discard(&self, body: S::Body) {
        self.store.discard(body).await;
    }
}
