//! A store over another one that counts its operations as the platform bills them.

use std::{rc::Rc, time::Duration};

use crate::{
    digest::Algorithm,
    metrics::{Metrics, Operation},
    range::ByteRange,
    store::{
        Content, ListOptions, Meta, Object, Objects, Page, PutOptions, Received, StoreError, Values,
    },
};

/// A store whose operations are counted.
#[derive(Debug)]
pub struct Counted<S> {
    store: S,
    metrics: Rc<Metrics>,
}

impl<S> Counted<S> {
    /// Makes one over a store.
    pub const fn new(store: S, metrics: Rc<Metrics>) -> Self {
        Self { store, metrics }
    }

    fn count(&self, operation: Operation) {
        self.metrics.operated(operation, 1);
    }
}

#[deny(clippy::missing_trait_methods)]
impl<S: Objects> Objects for Counted<S> {
    type Body = S::Body;
    type Bytes = S::Bytes;

    async fn head(&self, key: &str) -> Result<Option<Meta>, StoreError> {
        self.count(Operation::B);
        self.store.head(key).await
    }

    async fn get(
        &self,
        key: &str,
        range: Option<ByteRange>,
    ) -> Result<Option<Object<S::Body>>, StoreError> {
        self.count(Operation::B);
        self.store.get(key, range).await
    }

    async fn put(
        &self,
        key: &str,
        content: Content<S::Body, S::Bytes>,
        options: PutOptions<'_>,
    ) -> Result<Option<Meta>, StoreError> {
        self.count(Operation::A);
        self.store.put(key, content, options).await
    }

    async fn list(&self, prefix: &str, options: ListOptions<'_>) -> Result<Page, StoreError> {
        self.count(Operation::A);
        self.store.list(prefix, options).await
    }

    async fn delete(&self, keys: &[String]) -> Result<(), StoreError> {
        self.count(Operation::Delete);
        self.store.delete(keys).await
    }

    async fn receive(
        &self,
        key: &str,
        body: S::Body,
        algorithm: Algorithm,
    ) -> Result<Received, StoreError> {
        let received = self.store.receive(key, body, algorithm).await?;
        self.metrics.operated(Operation::A, received.writes);
        Ok(received)
    }
}

#[deny(clippy::missing_trait_methods)]
impl<S: Values> Values for Counted<S> {
    type Bytes = S::Bytes;

    async fn get(&self, key: &str) -> Result<Option<S::Bytes>, StoreError> {
        self.count(Operation::WarmRead);
        self.store.get(key).await
    }

    async fn put(
        &self,
        key: &str,
        value: S::Bytes,
        time_to_live: Duration,
    ) -> Result<(), StoreError> {
        self.count(Operation::WarmWrite);
        self.store.put(key, value, time_to_live).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.count(Operation::WarmDelete);
        self.store.delete(key).await
    }
}
