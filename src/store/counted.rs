//! A store over another one that counts its operations as the platform bills them.

use std::{rc::Rc, time::Duration};

use futures_util::{StreamExt as _, TryStreamExt as _};

use crate::{
    digest::Algorithm,
    metrics::{Metrics, Operation},
    range::ByteRange,
    store::{
        Content, ListOptions, Made, Meta, Object, Objects, Page, Piece, PutOptions, Received,
        StoreError, Streams, Values,
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
    type Hasher = S::Hasher;

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

    async fn write(&self, key: &str, bytes: &S::Bytes) -> Result<(), StoreError> {
        self.count(Operation::A);
        self.store.write(key, bytes).await
    }

    fn hasher(&self, algorithm: Algorithm) -> Result<S::Hasher, StoreError> {
        self.store.hasher(algorithm)
    }

    fn read(&self, body: S::Body) -> Result<S::Reader, StoreError> {
        self.store.read(body)
    }

    fn concatenate(&self, pieces: Vec<Piece<S::Body, S::Bytes>>, length: u64) -> S::Body {
        // Each is opened when its turn comes, unless the stream is given up before.
        let pieces = pieces
            .into_iter()
            .map(|piece| counted(piece, &self.metrics));
        self.store.concatenate(pieces.collect(), length)
    }

    async fn discard(&self, body: S::Body) {
        self.store.discard(body).await;
    }
}

/// Counts the read that a piece is, or has those counted that are made of it.
fn counted<B: 'static, Y: 'static>(piece: Piece<B, Y>, metrics: &Rc<Metrics>) -> Piece<B, Y> {
    match piece {
        Piece::Object(..) => {
            metrics.operated(Operation::B, 1);
            piece
        }
        Piece::Made(Made(pieces)) => {
            let metrics = metrics.clone();
            let pieces = pieces.map_ok(move |piece| counted(piece, &metrics));
            Piece::Made(Made(pieces.boxed_local()))
        }
        Piece::Bytes(_) | Piece::Held(_) | Piece::Stream(_) => piece,
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
