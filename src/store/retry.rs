//! A store over another one that asks again where that is safe.
//!
//! Reads, lists, deletes and unconditional writes of bytes in memory say the same thing however often they are said. A
//! conditional write does not: one that failed may have been kept, and asked again it would seem lost to somebody else. A
//! stream can't be read twice. Those are repeated only where the store says that nothing was done.

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
