//! A host for native tests: a clock that the test moves, random bytes that count up, and hashing that costs nothing.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    rc::Rc,
    task::Poll,
    time::Duration,
};

use sha2::{Digest as _, Sha256};
use strata::{
    host::{Ask, FetchError, Host, Level, Reply, SignIns},
    store::memory::MemoryBody,
    time::Timestamp,
};

/// Other servers, as a test plays them.
pub(crate) type Servers = Box<dyn FnMut(&Ask) -> Result<Reply<MemoryBody>, FetchError>>;

/// The host of a test. Its clones share all there is.
#[derive(Clone)]
pub(crate) struct TestHost {
    /// The time now.
    pub(crate) now: Rc<Cell<Timestamp>>,
    /// How many keys were derived.
    pub(crate) derived: Rc<Cell<u32>>,
    /// How many iterations that took.
    pub(crate) iterations: Rc<Cell<u32>>,
    /// What the platform's rate limiter was asked for.
    pub(crate) limited: Rc<RefCell<Vec<String>>>,
    /// What it answers.
    pub(crate) admits: Rc<Cell<bool>>,
    /// What was logged as an error.
    pub(crate) log: Rc<RefCell<Vec<String>>>,
    /// What else was logged.
    pub(crate) told: Rc<RefCell<Vec<String>>>,
    /// How often random bytes were asked for.
    pub(crate) random: Rc<Cell<u64>>,
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
            random: Rc::default(),
            servers: Rc::new(RefCell::new(Box::new(|ask| {
                Err(FetchError::Failed(format!("nobody is at {}", ask.url)))
            }))),
        }
    }
}

impl TestHost {
    /// Answers what is asked of other servers.
    pub(crate) fn serve(
        &self,
        servers: impl FnMut(&Ask) -> Result<Reply<MemoryBody>, FetchError> + 'static,
    ) {
        *self.servers.borrow_mut() = Box::new(servers);
    }

    /// Lets time pass.
    pub(crate) fn pass(&self, duration: Duration) {
        self.now.set(self.now.get() + duration);
    }
}

impl std::fmt::Debug for TestHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TestHost").finish_non_exhaustive()
    }
}

impl Host for TestHost {
    type Body = MemoryBody;

    async fn fetch(&self, ask: Ask) -> Result<Reply<MemoryBody>, FetchError> {
        // Others run first: the way to another server is long.
        turn().await;
        let reply = (self.servers.borrow_mut())(&ask);
        turn().await;
        reply
    }

    fn now(&self) -> Timestamp {
        self.now.get()
    }

    fn random(&self) -> [u8; 16] {
        self.random.set(self.random.get() + 1);
        u128::from(self.random.get()).to_be_bytes()
    }

    async fn sleep(&self, duration: Duration) {
        let end = self.now.get() + duration;
        // Others run first: what a store does at once takes no time. They may sleep as well; it is as late as for the latest.
        for _ in 0..3 {
            turn().await;
        }
        self.now.set(self.now.get().max(end));
    }

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

    async fn admits(&self, _: SignIns, key: &str) -> bool {
        self.limited.borrow_mut().push(key.to_owned());
        self.admits.get()
    }

    fn log(&self, level: Level, message: &'static str, fields: &[(&'static str, &str)]) {
        let mut log = match level {
            Level::Error => self.log.borrow_mut(),
            Level::Info => self.told.borrow_mut(),
        };
        log.push(format!("{message} {fields:?}"));
    }
}

/// What this host derives: not PBKDF2, which the real runtime is tested with.
pub(crate) fn key(password: &[u8], salt: &[u8], iterations: u32) -> [u8; 32] {
    Sha256::new()
        .chain_update(password)
        .chain_update(salt)
        .chain_update(iterations.to_be_bytes())
        .finalize()
        .into()
}

/// Lets all others run until they wait.
pub(crate) async fn turn() {
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
