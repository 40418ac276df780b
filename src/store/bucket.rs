//! The bucket: the cold tier by its keys.

use std::rc::Rc;

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    digest::{Algorithm, Digest},
    range::ByteRange,
    store::{
        Condition, Content, Cursor, Later, ListOptions, ListStart, Meta, Object, Objects, Piece,
        PutOptions, Received, StoreError, Streams,
        document::{from_json, is_record, to_json},
        key::{Key, Prefix},
    },
};

/// The cold tier, addressed by [`Key`] instead of text. Clones share the store.
///
/// Its methods fail with the errors of [`Objects`].
#[derive(Debug)]
pub struct Bucket<S>(Rc<S>);

/// A walk through the pages of a listing, in the order of the texts of their keys.
///
/// An empty page does not end it: a store may list empty pages before further objects.
#[derive(Debug)]
pub struct Walk<'p> {
    prefix: Prefix<'p>,
    limit: u32,
    metadata: bool,
    /// Where the next page begins. `None` after the last page.
    next: Option<WalkStart>,
    last: Option<String>,
}

#[derive(Debug)]
enum WalkStart {
    First,
    After(String),
    Cursor(Cursor),
}

/// The most empty pages in a row that a request without a budget of its own reads.
const MAX_EMPTY_PAGES: u32 = 30;

/// A part of a stream that is joined: a stored object, or a piece of the platform's.
#[derive(Debug)]
pub enum StreamPart<B, Y> {
    /// An object, or a range of it.
    Object(Key, Option<ByteRange>),
    /// A piece, which may be in memory.
    Piece(Piece<B, Y>),
}

/// All pages of a listing, joined.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyListing {
    /// The keys in the order of their texts, each with the metadata of its object.
    pub objects: Vec<(Key, Meta)>,
    /// Whether it came in one page, and so shows one moment. Otherwise objects may have changed in
    /// between.
    pub is_one_reading: bool,
}

impl<S> Clone for Bucket<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S: Objects> Bucket<S> {
    /// Makes a bucket of a store.
    pub fn new(store: S) -> Self {
        Self(Rc::new(store))
    }

    /// The wrapped store, whose keys are texts.
    pub fn store(&self) -> &S {
        &self.0
    }

    /// Reads the metadata of an object. `None` if there is no object.
    pub async fn head(&self, key: &Key) -> Result<Option<Meta>, StoreError> {
        self.0.head(&key.to_string()).await
    }

    /// Reads an object, or a range of it that lies within it. `None` if there is no object.
    pub async fn get(
        &self,
        key: &Key,
        range: Option<ByteRange>,
    ) -> Result<Option<Object<S::Body>>, StoreError> {
        self.0.get(&key.to_string(), range).await
    }

    /// Writes an object. `None` if the condition did not hold.
    pub async fn put(
        &self,
        key: &Key,
        content: Content<S::Body, S::Bytes>,
        options: PutOptions<'_>,
    ) -> Result<Option<Meta>, StoreError> {
        self.0.put(&key.to_string(), content, options).await
    }

    /// Reads all of a listing, with metadata. Several pages are not one reading: objects may change
    /// between them.
    pub async fn list_all(&self, prefix: Prefix<'_>) -> Result<KeyListing, StoreError> {
        let mut walk = Walk::new(prefix, None, 1_000, true);
        let mut objects = walk.next_page(self).await?;
        let is_one_reading = walk.is_done();
        objects.extend(walk.up_to(self, usize::MAX).await?);
        Ok(KeyListing {
            objects,
            is_one_reading,
        })
    }

    /// Writes a document as the JSON body of an object. `None` if the condition did not hold.
    pub async fn put_document(
        &self,
        key: &Key,
        document: &impl Serialize,
        condition: Condition<'_>,
    ) -> Result<Option<Meta>, StoreError> {
        let content = Content::Bytes(to_json(document)?.into_bytes());
        let options = PutOptions {
            condition,
            ..PutOptions::default()
        };
        self.put(key, content, options).await
    }

    /// Deletes up to 1,000 objects. Absent ones count as deleted.
    pub async fn delete(&self, keys: &[Key]) -> Result<(), StoreError> {
        let keys: Vec<_> = keys.iter().map(Key::to_string).collect();
        self.0.delete(&keys).await
    }
}

impl<S: Objects> Bucket<S> {
    /// Writes a stream of unknown length as one object, hashing it on the way.
    pub async fn receive(
        &self,
        key: &Key,
        body: S::Body,
        algorithm: Algorithm,
    ) -> Result<Received, StoreError> {
        self.0.receive(&key.to_string(), body, algorithm).await
    }

    /// Makes a piece that reads an object, or a range of it, when its turn comes. It fails if the
    /// object is gone by then.
    pub fn piece(&self, key: &Key, range: Option<ByteRange>) -> Piece<S::Body, S::Bytes> {
        let (store, key) = (self.0.clone(), key.to_string());
        Piece::Later(Later::new(move || {
            let (store, key) = (store.clone(), key.clone());
            async move {
                let found = store.get(&key, range).await?;
                let gone = || StoreError::Failed(format!("{key} is gone"));
                found.map(|object| object.body).ok_or_else(gone)
            }
        }))
    }

    /// Joins parts into one stream of `length` bytes. Objects are opened when their turn comes.
    pub fn concatenate(
        &self,
        host: &impl Streams<Body = S::Body, Bytes = S::Bytes>,
        parts: Vec<StreamPart<S::Body, S::Bytes>>,
        length: u64,
    ) -> S::Body {
        let pieces = parts.into_iter().map(|part| match part {
            StreamPart::Object(key, range) => self.piece(&key, range),
            StreamPart::Piece(piece) => piece,
        });
        host.concatenate(pieces.collect(), length)
    }

    /// Reads a document that is the body of an object, with the metadata of the object. `None` if
    /// there is no object.
    ///
    /// # Errors
    ///
    /// [`StoreError::Failed`] if the body is not JSON of this type.
    pub async fn document<T: DeserializeOwned>(
        &self,
        host: &impl Streams<Body = S::Body>,
        key: &Key,
    ) -> Result<Option<(Meta, T)>, StoreError> {
        let Some((meta, text)) = self.text(host, key).await? else {
            return Ok(None);
        };
        Ok(Some((meta, from_json(key, &text)?)))
    }

    /// Reads the body of an object as text. Bytes that are not UTF-8 are replaced. A body that is
    /// longer than any document is read as an empty one, so that parsing it fails.
    pub async fn text(
        &self,
        host: &impl Streams<Body = S::Body>,
        key: &Key,
    ) -> Result<Option<(Meta, String)>, StoreError> {
        let Some(object) = self.get(key, None).await? else {
            return Ok(None);
        };
        let bytes = host.collect(object.body, MAX_DOCUMENT).await?;
        let text = String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned();
        Ok(Some((object.meta, text)))
    }

    /// Reads a blob's object, and its text if the metadata of this very read says that it is a
    /// record. What another read has said proves nothing: the sweep may have written the bytes of a
    /// client over the record since, and those may look like a record.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn blob(
        &self,
        host: &impl Streams<Body = S::Body>,
        digest: &Digest,
    ) -> Result<Option<(Meta, Option<String>)>, StoreError> {
        let Some(object) = self.get(&Key::blob(digest), None).await? else {
            return Ok(None);
        };
        if !is_record(&object.meta) {
            host.discard(object.body).await;
            return Ok(Some((object.meta, None)));
        }
        let bytes = host.collect(object.body, MAX_DOCUMENT).await?;
        let text = String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned();
        Ok(Some((object.meta, Some(text))))
    }
}

impl<'p> Walk<'p> {
    /// Begins a walk through the objects whose keys begin with a prefix, and that come after a key.
    /// A page has at most `limit` objects, up to 1,000.
    pub fn new(prefix: Prefix<'p>, after: Option<String>, limit: u32, metadata: bool) -> Self {
        Self {
            prefix,
            limit,
            metadata,
            next: Some(after.map_or(WalkStart::First, WalkStart::After)),
            last: None,
        }
    }

    /// Whether the last page was read.
    pub const fn is_done(&self) -> bool {
        self.next.is_none()
    }

    /// Reads the next page, by one operation. It may be empty before the end; after the end it is.
    pub async fn next_page<S: Objects>(
        &mut self,
        bucket: &Bucket<S>,
    ) -> Result<Vec<(Key, Meta)>, StoreError> {
        let start = match &self.next {
            None => return Ok(Vec::new()),
            Some(WalkStart::First) => ListStart::First,
            Some(WalkStart::After(key)) => ListStart::After(key),
            Some(WalkStart::Cursor(cursor)) => ListStart::Cursor(cursor),
        };
        let options = ListOptions {
            start,
            limit: self.limit,
            metadata: self.metadata,
        };
        let page = bucket.0.list(&self.prefix.to_string(), options).await?;
        self.next = page.next.map(WalkStart::Cursor);
        if let Some((key, _)) = page.objects.last() {
            self.last = Some(key.clone());
        }
        let objects = page.objects.into_iter();
        Ok(objects
            .map(|(key, meta)| (Key::parse(&key), meta))
            .collect())
    }

    /// Reads pages until one has objects. Only the end of the listing gives none.
    ///
    /// # Errors
    ///
    /// [`StoreError::Failed`] after too many empty pages in a row: there may be objects after them.
    pub async fn next_objects<S: Objects>(
        &mut self,
        bucket: &Bucket<S>,
    ) -> Result<Vec<(Key, Meta)>, StoreError> {
        for _ in 0..MAX_EMPTY_PAGES {
            let objects = self.next_page(bucket).await?;
            if self.is_done() || !objects.is_empty() {
                return Ok(objects);
            }
        }
        let found = format!(
            "{MAX_EMPTY_PAGES} pages of {} in a row are empty",
            self.prefix
        );
        Err(StoreError::Failed(found))
    }

    /// Reads pages until there are `most` objects, or more, or the listing ends.
    ///
    /// # Errors
    ///
    /// Those of [`Walk::next_objects`].
    pub async fn up_to<S: Objects>(
        &mut self,
        bucket: &Bucket<S>,
        most: usize,
    ) -> Result<Vec<(Key, Meta)>, StoreError> {
        let mut objects = Vec::new();
        while !self.is_done() && objects.len() < most {
            objects.extend(self.next_objects(bucket).await?);
        }
        Ok(objects)
    }

    /// Goes on with pages of another limit. A cursor is for pages of one limit, so this goes on
    /// after the last key, if there was one.
    pub fn set_limit(&mut self, limit: u32) {
        if self.limit != limit
            && !self.is_done()
            && let Some(last) = &self.last
        {
            self.next = Some(WalkStart::After(last.clone()));
            self.limit = limit;
        }
    }
}

/// The most bytes of a document. A record of the most extents that an upload may have is smaller.
pub(crate) const MAX_DOCUMENT: u64 = 4 * 1024 * 1024 + 64 * 1024;
