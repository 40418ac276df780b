//! A store over another one that lets a test watch each operation, and decide what comes of it.

use std::{
    cell::{Cell, RefCell},
    future::pending,
    rc::Rc,
    time::Duration,
};

use pollster::block_on;
use strata::{
    digest::Algorithm,
    range::ByteRange,
    store::{
        Condition, Content, ListOptions, Meta, Object, Objects, Page, Piece, PutOptions, Received,
        StoreError, Streams, Values,
        memory::{Memory, MemoryBody, MemoryBytes, MemoryHasher, MemoryReader, MemoryValues},
    },
};

use super::host::turn;

/// What comes of an operation.
#[derive(Clone, Debug)]
pub(crate) enum Verdict {
    /// It is done.
    Done,
    /// It is not done, and fails.
    Lost(StoreError),
    /// It is done, and fails all the same.
    Kept(StoreError),
    /// There is never an answer.
    Never,
}

/// Decides what comes of an operation, by its name and key.
type Watcher = Box<dyn FnMut(&'static str, &str) -> Verdict>;

/// Decides what comes of reading a stream to hash it.
type Reading = Box<dyn FnMut(Received) -> Result<Received, StoreError>>;

/// The store in memory, watched. Its clones share all there is.
#[derive(Clone)]
pub(crate) struct Watched {
    pub(crate) memory: Rc<Memory>,
    pub(crate) reading: Rc<RefCell<Reading>>,
    /// The most objects of a page: a store may list fewer than it is asked for.
    pub(crate) page: Rc<Cell<u32>>,
    /// Whether a write whose condition does not hold is refused before its bytes are looked at.
    pub(crate) looks_first: Rc<Cell<bool>>,
    watcher: Rc<RefCell<Watcher>>,
}

impl Watched {
    pub(crate) fn new(
        memory: Memory,
        watcher: impl FnMut(&'static str, &str) -> Verdict + 'static,
    ) -> Self {
        Self {
            memory: Rc::new(memory),
            reading: Rc::new(RefCell::new(Box::new(Ok))),
            page: Rc::new(Cell::new(1_000)),
            looks_first: Rc::default(),
            watcher: Rc::new(RefCell::new(Box::new(watcher))),
        }
    }

    /// The keys below a prefix.
    pub(crate) fn keys(&self, prefix: &str) -> Vec<String> {
        let mut keys = self.memory.keys();
        keys.retain(|key| key.starts_with(prefix));
        keys
    }

    /// Stores an object that nobody watches.
    pub(crate) fn plant(&self, key: &str, bytes: &[u8], metadata: &str) {
        let options = PutOptions {
            metadata,
            ..PutOptions::default()
        };
        let content = Content::Bytes(bytes.to_vec());
        block_on(self.memory.put(key, content, options)).unwrap();
    }

    async fn watch<T>(
        &self,
        operation: &'static str,
        key: &str,
        outcome: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let verdict = (self.watcher.borrow_mut())(operation, key);
        decide(verdict, outcome).await
    }
}

async fn decide<T>(
    verdict: Verdict,
    outcome: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    // A store is never as quick as memory: whoever else is there has a turn before it is done, and before that is heard.
    turn().await;
    match verdict {
        Verdict::Done => {
            let outcome = outcome.await;
            turn().await;
            outcome
        }
        Verdict::Lost(error) => Err(error),
        Verdict::Kept(error) => {
            outcome.await?;
            Err(error)
        }
        Verdict::Never => pending().await,
    }
}

/// Values in memory, watched. Clones share all there is.
#[derive(Clone)]
pub(crate) struct WatchedValues {
    pub(crate) memory: Rc<MemoryValues>,
    /// Whether deletions are heard of late, as it is elsewhere than where they were made.
    pub(crate) is_deaf: Rc<Cell<bool>>,
    watcher: Rc<RefCell<Watcher>>,
}

impl WatchedValues {
    pub(crate) fn new(watcher: impl FnMut(&'static str, &str) -> Verdict + 'static) -> Self {
        Self {
            memory: Rc::default(),
            is_deaf: Rc::default(),
            watcher: Rc::new(RefCell::new(Box::new(watcher))),
        }
    }
}

impl Values for WatchedValues {
    type Bytes = MemoryBytes;

    async fn get(&self, key: &str) -> Result<Option<MemoryBytes>, StoreError> {
        let verdict = (self.watcher.borrow_mut())("get", key);
        decide(verdict, self.memory.get(key)).await
    }

    async fn put(
        &self,
        key: &str,
        value: MemoryBytes,
        time_to_live: Duration,
    ) -> Result<(), StoreError> {
        let verdict = (self.watcher.borrow_mut())("put", key);
        decide(verdict, self.memory.put(key, value, time_to_live)).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let verdict = (self.watcher.borrow_mut())("delete", key);
        if self.is_deaf.get() {
            return Ok(());
        }
        decide(verdict, self.memory.delete(key)).await
    }
}

impl Objects for Watched {
    type Body = MemoryBody;

    async fn head(&self, key: &str) -> Result<Option<Meta>, StoreError> {
        self.watch("head", key, self.memory.head(key)).await
    }

    async fn get(
        &self,
        key: &str,
        range: Option<ByteRange>,
    ) -> Result<Option<Object<MemoryBody>>, StoreError> {
        self.watch("get", key, self.memory.get(key, range)).await
    }

    async fn put(
        &self,
        key: &str,
        content: Content<MemoryBody>,
        options: PutOptions<'_>,
    ) -> Result<Option<Meta>, StoreError> {
        let put = async {
            let is_there = || self.memory.keys().iter().any(|other| other == key);
            let refused = matches!(options.condition, Condition::Absent) && self.looks_first.get();
            if refused && is_there() {
                return Ok(None);
            }
            self.memory.put(key, content, options).await
        };
        self.watch("put", key, put).await
    }

    async fn list(&self, prefix: &str, options: ListOptions<'_>) -> Result<Page, StoreError> {
        let options = ListOptions {
            limit: options.limit.min(self.page.get()),
            ..options
        };
        self.watch("list", prefix, self.memory.list(prefix, options))
            .await
    }

    async fn delete(&self, keys: &[String]) -> Result<(), StoreError> {
        self.watch(
            "delete",
            keys.first().map_or("", String::as_str),
            self.memory.delete(keys),
        )
        .await
    }
}

impl Streams for Watched {
    type Bytes = MemoryBytes;
    type Reader = MemoryReader;
    type Hasher = MemoryHasher;

    async fn receive(
        &self,
        key: &str,
        body: MemoryBody,
        algorithm: Algorithm,
    ) -> Result<Received, StoreError> {
        self.watch("receive", key, self.memory.receive(key, body, algorithm))
            .await
    }

    async fn hash(&self, body: MemoryBody, algorithm: Algorithm) -> Result<Received, StoreError> {
        let received = self.memory.hash(body, algorithm).await?;
        (self.reading.borrow_mut())(received)
    }

    async fn collect(&self, body: MemoryBody, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
        self.memory.collect(body, limit).await
    }

    async fn hold(&self, body: MemoryBody, length: u64) -> Result<MemoryBytes, StoreError> {
        self.memory.hold(body, length).await
    }

    async fn write(&self, key: &str, bytes: &MemoryBytes) -> Result<(), StoreError> {
        self.watch("put", key, self.memory.write(key, bytes)).await
    }

    fn hasher(&self, algorithm: Algorithm) -> Result<MemoryHasher, StoreError> {
        self.memory.hasher(algorithm)
    }

    fn read(&self, body: MemoryBody) -> Result<MemoryReader, StoreError> {
        self.memory.read(body)
    }

    fn concatenate(&self, pieces: Vec<Piece<MemoryBody, MemoryBytes>>, length: u64) -> MemoryBody {
        self.memory.concatenate(pieces, length)
    }

    async fn discard(&self, body: MemoryBody) {
        self.memory.discard(body).await;
    }
}
