//! Stores in memory that let a test watch each operation, and decide its outcome.

use std::{
    cell::{Cell, RefCell},
    future::pending,
    rc::Rc,
    time::Duration,
};

use pollster::block_on;
use strata::{
    digest::Algorithm,
    memory::{MemoryBody, MemoryBytes, MemoryObjects, MemoryValues},
    range::ByteRange,
    store::{
        Condition, Content, Cursor, ListOptions, ListStart, Meta, Object, Objects, Page,
        PutOptions, Received, StoreError, Values,
    },
};

use crate::host::turn;

/// The outcome of an operation.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It is done, and succeeds.
    Done,
    /// It is not done, and fails.
    Lost(StoreError),
    /// It is done, and fails.
    Kept(StoreError),
    /// It never answers.
    Never,
    /// It is done after so many turns of other tasks, and succeeds. A sleep takes three.
    After(u32),
}

/// The variable of the environment with a seed by which each store lists short and empty pages.
pub const SHORT_PAGES: &str = "STRATA_SHORT_PAGES";

/// The cursor of an empty first page.
const HERE: &str = "here";

/// Decides the outcome of an operation, by its name and key.
type Watcher = Box<dyn FnMut(&'static str, &str) -> Verdict>;

/// The cold store in memory. Clones share all state.
#[derive(Clone)]
pub struct Watched {
    /// The store itself, whose operations are not watched.
    pub memory: Rc<MemoryObjects>,
    /// The most objects of a page: a store may list fewer than the limit of the request.
    pub page: Rc<Cell<u32>>,
    /// Each listing of exactly this prefix begins with an empty page and a cursor.
    pub empty_first: Rc<RefCell<Option<String>>>,
    /// Whether a conditional write of an existing key is refused before its body is read.
    pub looks_first: Rc<Cell<bool>>,
    watcher: Rc<RefCell<Watcher>>,
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watched").finish_non_exhaustive()
    }
}

impl Watched {
    /// Creates a store whose operations a function decides on.
    pub fn new(
        memory: MemoryObjects,
        watcher: impl FnMut(&'static str, &str) -> Verdict + 'static,
    ) -> Self {
        if let Ok(seed) = std::env::var(SHORT_PAGES) {
            memory.shorten_pages(seed.parse().unwrap());
        }
        Self {
            memory: Rc::new(memory),
            page: Rc::new(Cell::new(1_000)),
            empty_first: Rc::default(),
            looks_first: Rc::default(),
            watcher: Rc::new(RefCell::new(Box::new(watcher))),
        }
    }

    /// All keys with a prefix.
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        let mut keys = self.memory.keys();
        keys.retain(|key| key.starts_with(prefix));
        keys
    }

    /// Stores an object without the watcher.
    pub fn plant(&self, key: &str, bytes: &[u8], metadata: &str) {
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
    // Real stores take time: other tasks run before the operation, and before its answer.
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
        Verdict::After(turns) => {
            for _ in 0..turns {
                turn().await;
            }
            outcome.await
        }
    }
}

/// The warm store in memory. Clones share all state.
#[derive(Clone)]
pub struct WatchedValues {
    /// The store itself, whose operations are not watched.
    pub memory: Rc<MemoryValues>,
    /// Whether deletions have no effect yet, as in a location far from the deletion.
    pub is_deaf: Rc<Cell<bool>>,
    watcher: Rc<RefCell<Watcher>>,
}

impl std::fmt::Debug for WatchedValues {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WatchedValues").finish_non_exhaustive()
    }
}

impl WatchedValues {
    /// Creates a store whose operations a function decides on.
    pub fn new(watcher: impl FnMut(&'static str, &str) -> Verdict + 'static) -> Self {
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
    type Bytes = MemoryBytes;

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
        content: Content<MemoryBody, MemoryBytes>,
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
        let is_here = matches!(options.start, ListStart::Cursor(Cursor(text)) if text == HERE);
        let start = if is_here {
            ListStart::First
        } else {
            options.start
        };
        let is_first = matches!(options.start, ListStart::First);
        let is_empty = is_first && self.empty_first.borrow().as_deref() == Some(prefix);
        let list = async {
            if is_empty {
                return Ok(Page {
                    objects: Vec::new(),
                    next: Some(Cursor(HERE.to_owned())),
                });
            }
            let options = ListOptions {
                start,
                limit: options.limit.min(self.page.get()),
                ..options
            };
            self.memory.list(prefix, options).await
        };
        self.watch("list", prefix, list).await
    }

    async fn delete(&self, keys: &[String]) -> Result<(), StoreError> {
        self.watch(
            "delete",
            keys.first().map_or("", String::as_str),
            self.memory.delete(keys),
        )
        .await
    }

    async fn receive(
        &self,
        key: &str,
        body: MemoryBody,
        algorithm: Algorithm,
    ) -> Result<Received, StoreError> {
        self.watch("receive", key, self.memory.receive(key, body, algorithm))
            .await
    }
}
