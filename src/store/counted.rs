//! A store over another one that counts its operations as the platform bills them.

use std::{rc::Rc, time::Duration};

use crate::{
    digest::Algorithm,
    metrics::{Metrics, OperationClass},
    range::ByteRange,
    store::{
        Content, ListOptions, Meta, Object, Objects, Page, PutOptions, Received, StoreError, Values,
    },
};

/// A store whose operations are counted in [`Metrics`], by the classes that the platform bills. It
/// wraps an [`Objects`] or a [`Values`].
#[derive(Debug)]
pub struct Counted<S> {
    store: S,
    metrics: Rc<Metrics>,
}

impl<S> Counted<S> {
    /// Wraps a store. The metrics are those of the registry on it.
    pub const fn new(store: S, metrics: Rc<Metrics>) -> Self {
        Self { store, metrics }
    }

    fn count(&self, operation: OperationClass) {
        self.metrics.operated(operation, 1);
    }
}

#[deny(clippy::missing_trait_methods)]
impl<S: Objects> Objects for Counted<S> {
    type Body = S::Body;
    type Bytes = S::Bytes;

    async fn head(&self, key: &str) -> Result<Option<Meta>, StoreError> {
        self.count(OperationClass::B);
        self.store.head(key).await
    }

    async fn get(
        &self,
        key: &str,
        range: Option<ByteRange>,
    ) -> Result<Option<Object<S::Body>>, StoreError> {
        self.count(OperationClass::B);
        self.store.get(key, range).await
    }

    async fn put(
        &self,
        key: &str,
        content: Content<S::Body, S::Bytes>,
        options: PutOptions<'_>,
    ) -> Result<Option<Meta>, StoreError> {
        self.count(OperationClass::A);
        self.store.put(key, content, options).await
    }

    async fn list(&self, prefix: &str, options: ListOptions<'_>) -> Result<Page, StoreError> {
        self.count(OperationClass::A);
        self.store.list(prefix, options).await
    }

    async fn delete(&self, keys: &[String]) -> Result<(), StoreError> {
        self.count(OperationClass::Delete);
        self.store.delete(keys).await
    }

    async fn receive(
        &self,
        key: &str,
        body: S::Body,
        algorithm: Algorithm,
    ) -> Result<Received, StoreError> {
        let received = self.store.receive(key, body, algorithm).await?;
        self.metrics.operated(OperationClass::A, received.writes);
        Ok(received)
    }
}

#[deny(clippy::missing_trait_methods)]
impl<S: Values> Values for Counted<S> {
    type Bytes = S::Bytes;

    async fn get(&self, key: &str) -> Result<Option<S::Bytes>, StoreError> {
        self.count(OperationClass::WarmRead);
        self.store.get(key).await
    }

    async fn put(
        &self,
        key: &str,
        value: S::Bytes,
        time_to_live: Duration,
    ) -> Result<(), StoreError> {
        self.count(OperationClass::WarmWrite);
        self.store.put(key, value, time_to_live).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.count(OperationClass::WarmDelete);
        self.store.delete(key).await
    }
}
