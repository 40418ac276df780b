//! A store over another one that retries safe operations.
//!
//! Reads, lists, deletes and unconditional writes of bytes in memory are idempotent. A conditional
//! write is not: a failed one may have been stored, and its retry would seem to have lost to
//! another writer. A stream can't be read twice. A conditional write is retried only if the store
//! says that nothing was done, and a stream never.

use std::{future::Future, time::Duration};

use crate::{
    digest::Algorithm,
    host::{Clock, Level, Log},
    range::ByteRange,
    store::{
        Condition, Content, ListOptions, Meta, Object, Objects, Page, PutOptions, Received,
        StoreError,
    },
};

/// The back-off of each retry. R2 accepts one write a second for a key.
const PAUSES: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_millis(1_200),
];

/// A store that retries safe operations of another one three times, after 0.1, 0.4 and 1.2 seconds.
/// It logs each retry.
#[derive(Debug)]
pub struct Retry<S, H> {
    store: S,
    host: H,
}

impl<S, H> Retry<S, H> {
    /// Wraps a store. The host waits and logs.
    pub const fn new(store: S, host: H) -> Self {
        Self { store, host }
    }
}

impl<S, H: Clock + Log> Retry<S, H> {
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
                        "store request retried",
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

/// Whether an idempotent operation may succeed when it is retried.
const fn is_passing(error: &StoreError) -> bool {
    match error {
        StoreError::Throttled(_) | StoreError::Failed(_) => true,
        StoreError::Digest | StoreError::Length | StoreError::Busy => false,
    }
}

/// Whether the store reports that nothing was done.
const fn is_refused(error: &StoreError) -> bool {
    match error {
        StoreError::Throttled(_) => true,
        StoreError::Digest | StoreError::Length | StoreError::Busy | StoreError::Failed(_) => false,
    }
}

#[deny(clippy::missing_trait_methods)]
impl<S: Objects, H: Clock + Log + 'static> Objects for Retry<S, H> {
    type Body = S::Body;
    type Bytes = S::Bytes;

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
        content: Content<S::Body, S::Bytes>,
        options: PutOptions<'_>,
    ) -> Result<Option<Meta>, StoreError> {
        let is_safe = if options.condition == Condition::Always {
            is_passing
        } else {
            is_refused
        };
        match content {
            Content::Held(bytes) => {
                self.repeat("put", is_safe, || {
                    self.store.put(key, Content::Held(bytes.clone()), options)
                })
                .await
            }
            Content::Bytes(bytes) => {
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

    async fn receive(
        &self,
        key: &str,
        body: S::Body,
        algorithm: Algorithm,
    ) -> Result<Received, StoreError> {
        self.store.receive(key, body, algorithm).await
    }
}
