//! A host for tests: the test sets its clock, its random bytes count up, and deriving a key is
//! cheap.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::poll_fn,
    rc::Rc,
    task::Poll,
    time::Duration,
};

use sha2::{Digest as _, Sha256};
use strata::{
    digest::Algorithm,
    host::{
        Ask, Cache, Clock, Fetch, FetchError, KeyDerivation, Level, Log, Random, RateLimit, Reply,
        SignIns,
    },
    memory::{MemoryBody, MemoryBytes, MemoryHasher, MemoryReader, MemoryStreams},
    range::ByteRange,
    store::{Bytes as _, Piece, Received, StoreError, Streams},
    time::Timestamp,
};

/// Answers the requests that a registry sends to other servers.
pub type Servers = Box<dyn FnMut(&Ask) -> Result<Reply<MemoryBody>, FetchError>>;

/// Decides the outcome of hashing a stream.
pub type Reading = Box<dyn FnMut(Received) -> Result<Received, StoreError>>;

/// The host of a test. Clones share all state.
#[derive(Clone)]
pub struct TestHost {
    /// The current time.
    pub now: Rc<Cell<Timestamp>>,
    /// The number of derived keys.
    pub derived: Rc<Cell<u32>>,
    /// The iterations of all derived keys.
    pub iterations: Rc<Cell<u32>>,
    /// The keys that were checked against the platform's rate limiter.
    pub limited: Rc<RefCell<Vec<String>>>,
    /// Whether the rate limiter admits.
    pub admits: Rc<Cell<bool>>,
    /// Messages that were logged as errors.
    pub log: Rc<RefCell<Vec<String>>>,
    /// Messages that were logged as information.
    pub told: Rc<RefCell<Vec<String>>>,
    /// The number of streams that were discarded.
    pub discarded: Rc<Cell<u32>>,
    /// The number of calls for random bytes.
    pub random: Rc<Cell<u64>>,
    /// Decides the outcome of hashing a stream.
    pub reading: Rc<RefCell<Reading>>,
    /// The entries of the cache of the location, by their addresses.
    pub cache: Rc<RefCell<BTreeMap<String, Vec<u8>>>>,
    /// What the cache was asked for: addresses, with the ranges.
    pub looked: Rc<RefCell<Vec<String>>>,
    /// The turns of other tasks that an answer of the cache takes.
    pub cache_takes: Rc<Cell<u32>>,
    /// Whether the cache fails.
    pub cache_fails: Rc<Cell<bool>>,
    servers: Rc<RefCell<Servers>>,
}

impl Default for TestHost {
    fn default() -> Self {
        Self {
            now: Rc::new(Cell::new(Timestamp(1_800_000_000_000))),
            derived: Rc::default(),
            iterations: Rc::default(),
            limited: Rc::default(),
            admits: Rc::new(Cell::new(true)),
            log: Rc::default(),
            told: Rc::default(),
            discarded: Rc::default(),
            random: Rc::default(),
            reading: Rc::new(RefCell::new(Box::new(Ok))),
            cache: Rc::default(),
            looked: Rc::default(),
            cache_takes: Rc::default(),
            cache_fails: Rc::default(),
            servers: Rc::new(RefCell::new(Box::new(|ask| {
                Err(FetchError::Failed(format!("nobody is at {}", ask.url)))
            }))),
        }
    }
}

impl TestHost {
    /// Sets the function that answers requests to other servers.
    pub fn serve(
        &self,
        servers: impl FnMut(&Ask) -> Result<Reply<MemoryBody>, FetchError> + 'static,
    ) {
        *self.servers.borrow_mut() = Box::new(servers);
    }

    /// Moves the clock forward.
    pub fn pass(&self, duration: Duration) {
        self.now.set(self.now.get() + duration);
    }
}

impl std::fmt::Debug for TestHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TestHost").finish_non_exhaustive()
    }
}

impl Streams for TestHost {
    type Body = MemoryBody;
    type Bytes = MemoryBytes;
    type Reader = MemoryReader;
    type Hasher = MemoryHasher;

    async fn hash(&self, body: MemoryBody, algorithm: Algorithm) -> Result<Received, StoreError> {
        let received = MemoryStreams.hash(body, algorithm).await?;
        (self.reading.borrow_mut())(received)
    }

    async fn collect(&self, body: MemoryBody, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
        MemoryStreams.collect(body, limit).await
    }

    async fn hold(&self, body: MemoryBody, length: u64) -> Result<MemoryBytes, StoreError> {
        MemoryStreams.hold(body, length).await
    }

    fn hasher(&self, algorithm: Algorithm) -> Result<MemoryHasher, StoreError> {
        MemoryStreams.hasher(algorithm)
    }

    fn read(&self, body: MemoryBody) -> Result<MemoryReader, StoreError> {
        MemoryStreams.read(body)
    }

    fn concatenate(&self, pieces: Vec<Piece<MemoryBody, MemoryBytes>>, length: u64) -> MemoryBody {
        MemoryStreams.concatenate(pieces, length)
    }

    async fn discard(&self, body: MemoryBody) {
        self.discarded.set(self.discarded.get() + 1);
        MemoryStreams.discard(body).await;
    }
}

impl Clock for TestHost {
    fn now(&self) -> Timestamp {
        self.now.get()
    }

    async fn sleep(&self, duration: Duration) {
        let end = self.now.get() + duration;
        // Other tasks run first, because operations of a store take no time. They may sleep as
        // well: the clock then shows the latest of all ends.
        for _ in 0..3 {
            turn().await;
        }
        self.now.set(self.now.get().max(end));
    }
}

impl Random for TestHost {
    fn random(&self) -> [u8; 16] {
        self.random.set(self.random.get() + 1);
        u128::from(self.random.get()).to_be_bytes()
    }
}

impl KeyDerivation for TestHost {
    async fn derive(
        &self,
        password: &[u8],
        salt: &[u8],
        iterations: u32,
    ) -> Result<[u8; 32], String> {
        self.derived.set(self.derived.get() + 1);
        self.iterations.set(self.iterations.get() + iterations);
        Ok(key(password, salt, iterations))
    }
}

impl RateLimit for TestHost {
    async fn admits(&self, _: SignIns, key: &str) -> bool {
        self.limited.borrow_mut().push(key.to_owned());
        self.admits.get()
    }
}

impl Fetch for TestHost {
    async fn fetch(&self, ask: Ask) -> Result<Reply<MemoryBody>, FetchError> {
        // A request to another server takes time: other tasks run before and after it.
        turn().await;
        let reply = (self.servers.borrow_mut())(&ask);
        turn().await;
        reply
    }
}

impl Cache for TestHost {
    async fn cached(
        &self,
        address: &str,
        size: u64,
        range: Option<ByteRange>,
    ) -> Result<Option<MemoryBody>, StoreError> {
        let asked = range.map_or(String::new(), |range| format!(" {range}"));
        self.looked.borrow_mut().push(format!("{address}{asked}"));
        for _ in 0..self.cache_takes.get() {
            turn().await;
        }
        if self.cache_fails.get() {
            return Err(StoreError::Failed("made to fail".to_owned()));
        }
        let cache = self.cache.borrow();
        let Some(bytes) = cache.get(address) else {
            return Ok(None);
        };
        if bytes.len() as u64 != size {
            return Err(StoreError::Length);
        }
        let bytes = MemoryBytes::copy_from(bytes);
        let bytes = range.map_or(bytes.clone(), |range| {
            bytes.slice(range.first(), range.last() + 1)
        });
        Ok(Some(MemoryBody::Bytes(bytes.to_vec())))
    }

    async fn cache(
        &self,
        address: &str,
        body: MemoryBody,
        size: u64,
        _time_to_live: Duration,
    ) -> Result<(), StoreError> {
        let bytes = body.read().await?;
        if bytes.len() as u64 != size {
            return Err(StoreError::Length);
        }
        self.cache.borrow_mut().insert(address.to_owned(), bytes);
        Ok(())
    }
}

impl Log for TestHost {
    fn log(&self, level: Level, message: &'static str, fields: &[(&'static str, &str)]) {
        let mut log = match level {
            Level::Error => self.log.borrow_mut(),
            Level::Info => self.told.borrow_mut(),
        };
        log.push(format!("{message} {fields:?}"));
    }
}

/// Derives a key as [`TestHost`] does. It is not PBKDF2, which tests in the real runtime cover.
pub fn key(password: &[u8], salt: &[u8], iterations: u32) -> [u8; 32] {
    Sha256::new()
        .chain_update(password)
        .chain_update(salt)
        .chain_update(iterations.to_be_bytes())
        .finalize()
        .into()
}

/// Yields once to all other tasks.
pub async fn turn() {
    let mut waited = false;
    poll_fn(|context| {
        if waited {
            return Poll::Ready(());
        }
        waited = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
