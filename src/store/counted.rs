//! A store over another one that counts its operations as the platform bills them.

use std::{rc::Rc, time::Duration};

use crate::{
    digest::Algorithm,
    metrics::{Metrics, Operation},
    range::ByteRange,
    store::{
        Content, ListOptions, Meta, Object, Objects, Page, Piece, PutOptions, Received, StoreError,
        Streams, Values,
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

impl<S: Objects> Objects for Counted<S> {
    type Body = S::Body;

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
        content: Content<S::Body>,
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
}

impl<S: Streams> Streams for Counted<S> {
    type Bytes = S::Bytes;
    type Reader = S::Reader;

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

    async fn hash(&self, body: S::Body, algorithm: Algorithm) -> Result<Received, StoreError> {
        self.store.hash(body, algorithm).await
    }

    async fn collect(&self, body: S::Body, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.collect(body, limit).await
    }

    async fn hold(&self, body: S::Body, length: u64) -> Result<S::Bytes, StoreError> {
        self.store.hold(body, length).await
    }

    fn read(&self, body: S::Body) -> Result<S::Reader, StoreError> {
        self.store.read(body)
    }

    fn concatenate(&self, pieces: Vec<Piece<S::Body, S::Bytes>>, length: u64) -> S::Body {
        let objects = pieces
            .iter()
            .filter(|piece| matches!(piece, Piece::Object(..)));
        // Each is opened when its turn comes, unless the stream is given up before.
        self.metrics.operated(Operation::B, objects.count() as u64);
        self.store.concatenate(pieces, length)
    }

    async fn discard(&self, body: S::Body) {
        self.store.discard(body).await;
    }
}

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
