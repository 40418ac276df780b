//! Objects in memory.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
};

use crate::{
    digest::Algorithm,
    memory::{body::MemoryBody, bytes::MemoryBytes},
    range::ByteRange,
    store::{
        Bytes, Condition, Content, Cursor, ListOptions, ListStart, Meta, Object, Objects, Page,
        PutOptions, Received, StoreError,
    },
    time::Timestamp,
};

/// Objects in memory, with the guarantees of [`Objects`]. Each operation is done at once, so all
/// callers see the same order.
///
/// The default has no clock: no object ages.
#[derive(Debug, Default)]
pub struct MemoryObjects {
    objects: Contents,
    clock: Option<Rc<Cell<Timestamp>>>,
    /// The state of the random numbers that shorten pages, if pages are shortened.
    shortening: Cell<Option<u64>>,
}

/// Objects by their keys, each with its metadata.
type Contents = RefCell<BTreeMap<String, (Meta, Vec<u8>)>>;

impl MemoryObjects {
    /// Makes a store that takes the times of writes from a clock, such as
    /// [`MemoryHost::clock`](crate::memory::MemoryHost::clock).
    pub fn timed(clock: Rc<Cell<Timestamp>>) -> Self {
        Self {
            clock: Some(clock),
            ..Self::default()
        }
    }

    /// From now on each page of a listing has a random part of the objects that it could have,
    /// sometimes none, and the last objects may come with the cursor of an empty page.
    /// [`Objects::list`] allows this of every store.
    pub fn shorten_pages(&self, seed: u64) {
        // A state of zero would stay zero.
        self.shortening.set(Some(seed | 1 << 63));
    }

    /// How many of these objects are in the page, and whether a cursor follows even the last one.
    fn shorten(&self, found: usize) -> (usize, bool) {
        let Some(mut state) = self.shortening.get() else {
            return (found, false);
        };
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.shortening.set(Some(state));
        match state >> 61 {
            0 | 1 => (0, true),
            2 | 3 => (found.min(1), false),
            4 | 5 => (found / 2, false),
            6 => (found, true),
            _ => (found, false),
        }
    }

    /// The keys of all objects, in the order of their bytes.
    pub fn keys(&self) -> Vec<String> {
        self.objects.borrow().keys().cloned().collect()
    }

    /// A copy of the bytes of an object. `None` if there is no object.
    pub fn bytes(&self, key: &str) -> Option<Vec<u8>> {
        self.objects
            .borrow()
            .get(key)
            .map(|(_, bytes)| bytes.clone())
    }
}

fn find(
    objects: &Contents,
    key: &str,
    range: Option<ByteRange>,
) -> Result<Option<(Meta, Vec<u8>)>, StoreError> {
    let objects = objects.borrow();
    let Some((meta, bytes)) = objects.get(key) else {
        return Ok(None);
    };
    let bytes = match range {
        None => bytes.clone(),
        Some(range) => usize::try_from(range.first())
            .ok()
            .zip(usize::try_from(range.last()).ok())
            .and_then(|(first, last)| bytes.get(first..=last))
            .ok_or_else(|| StoreError::Failed(format!("range {range} is not within {key}")))?
            .to_vec(),
    };
    Ok(Some((meta.clone(), bytes)))
}

impl Objects for MemoryObjects {
    type Body = MemoryBody;
    type Bytes = MemoryBytes;

    async fn head(&self, key: &str) -> Result<Option<Meta>, StoreError> {
        Ok(self.objects.borrow().get(key).map(|(meta, _)| meta.clone()))
    }

    async fn get(
        &self,
        key: &str,
        range: Option<ByteRange>,
    ) -> Result<Option<Object<MemoryBody>>, StoreError> {
        let found = find(&self.objects, key, range)?;
        Ok(found.map(|(meta, bytes)| Object {
            meta,
            body: bytes.into(),
        }))
    }

    async fn put(
        &self,
        key: &str,
        content: Content<MemoryBody, MemoryBytes>,
        options: PutOptions<'_>,
    ) -> Result<Option<Meta>, StoreError> {
        let bytes = match content {
            Content::Bytes(bytes) => bytes,
            Content::Held(bytes) => bytes.to_vec(),
            Content::Stream(body, length) => {
                let bytes = body.read().await?;
                if bytes.len() as u64 != length {
                    return Err(StoreError::Length);
                }
                bytes
            }
        };
        if options
            .digest
            .is_some_and(|digest| digest.algorithm().digest(&bytes) != *digest)
        {
            return Err(StoreError::Digest);
        }
        let mut objects = self.objects.borrow_mut();
        let holds = match options.condition {
            Condition::Always => true,
            Condition::Absent => !objects.contains_key(key),
            Condition::Matches(etag) => objects.get(key).is_some_and(|(meta, _)| meta.etag == etag),
        };
        if !holds {
            return Ok(None);
        }
        let meta = Meta {
            size: bytes.len() as u64,
            // As in R2, an etag identifies the bytes and not the write.
            etag: Algorithm::Sha256.digest(&bytes).encoded().to_owned(),
            uploaded: self
                .clock
                .as_ref()
                .map_or(Timestamp(u64::MAX), |clock| clock.get()),
            metadata: options.metadata.to_owned(),
            stamp: options.stamp.to_owned(),
        };
        objects.insert(key.to_owned(), (meta.clone(), bytes));
        Ok(Some(meta))
    }

    async fn list(&self, prefix: &str, options: ListOptions<'_>) -> Result<Page, StoreError> {
        let objects = self.objects.borrow();
        let of = format!("{} {} {prefix}\n", options.limit, options.metadata);
        let after = match options.start {
            ListStart::First => "",
            ListStart::After(key) => key,
            ListStart::Cursor(Cursor(text)) => text
                .strip_prefix(&of)
                .ok_or_else(|| StoreError::Failed(format!("{text:?} is of another listing")))?,
        };
        let mut found = objects
            .range(prefix.to_owned()..)
            .take_while(|(key, _)| key.starts_with(prefix))
            .filter(|(key, _)| key.as_str() > after)
            .map(|(key, (meta, _))| {
                let mut meta = meta.clone();
                if !options.metadata {
                    meta.metadata.clear();
                    meta.stamp.clear();
                }
                (key.clone(), meta)
            });
        let limit = options.limit.min(1_000) as usize;
        let mut page: Vec<(String, Meta)> = found.by_ref().take(limit).collect();
        let (length, is_cut) = self.shorten(page.len());
        let has_more = is_cut || length < page.len() || found.next().is_some();
        page.truncate(length);
        let last = page.last().map_or(after, |(key, _)| key);
        Ok(Page {
            next: has_more.then(|| Cursor(format!("{of}{last}"))),
            objects: page,
        })
    }

    async fn delete(&self, keys: &[String]) -> Result<(), StoreError> {
        let mut objects = self.objects.borrow_mut();
        for key in keys {
            objects.remove(key);
        }
        Ok(())
    }

    async fn receive(
        &self,
        key: &str,
        body: MemoryBody,
        algorithm: Algorithm,
    ) -> Result<Received, StoreError> {
        let bytes = body.read().await?;
        let received = Received {
            size: bytes.len() as u64,
            digest: algorithm.digest(&bytes),
            writes: 1,
        };
        self.put(key, Content::Bytes(bytes), PutOptions::default())
            .await?;
        Ok(received)
    }
}
