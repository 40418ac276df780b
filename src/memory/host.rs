//! A host in memory.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    fmt,
    future::poll_fn,
    rc::Rc,
    task::Poll,
    time::Duration,
};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use crate::{
    digest::Algorithm,
    host::{
        Ask, Cache, Clock, Fetch, FetchError, KeyDerivation, Level, Log, Random, RateLimit, Reply,
        SignIns,
    },
    memory::{
        body::MemoryBody,
        bytes::MemoryBytes,
        streams::{MemoryHasher, MemoryReader, MemoryStreams},
    },
    range::ByteRange,
    store::{Piece, Received, StoreError, Streams},
    time::Timestamp,
};

/// A host whose clock is set, whose random bytes follow from a seed, and which reaches no other
/// server. Clones share all state.
///
/// It keeps the last 1,000 lines of the log, its rate limiter admits every sign-in, and its cache
/// keeps nothing.
#[derive(Clone)]
pub struct MemoryHost {
    now: Rc<Cell<Timestamp>>,
    seed: [u8; 16],
    count: Rc<Cell<u64>>,
    log: Rc<RefCell<VecDeque<String>>>,
}

/// The most lines of the log that are kept.
const MAX_LINES: usize = 1_000;

impl MemoryHost {
    /// Creates a host whose clock stands at `now`. The same seed yields the same random bytes.
    pub fn new(seed: [u8; 16], now: Timestamp) -> Self {
        Self {
            now: Rc::new(Cell::new(now)),
            seed,
            count: Rc::default(),
            log: Rc::default(),
        }
    }

    /// The clock. It moves when it is set, and when a task sleeps.
    pub fn clock(&self) -> &Rc<Cell<Timestamp>> {
        &self.now
    }

    /// The last lines of the log, the oldest first: level, message and fields.
    pub fn lines(&self) -> Vec<String> {
        self.log.borrow().iter().cloned().collect()
    }
}

impl fmt::Debug for MemoryHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryHost")
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

impl Clock for MemoryHost {
    fn now(&self) -> Timestamp {
        self.now.get()
    }

    async fn sleep(&self, duration: Duration) {
        let end = self.now.get() + duration;
        // Other tasks run first, and may sleep as well. The clock then shows the latest of all
        // ends.
        yield_once().await;
        self.now.set(self.now.get().max(end));
    }
}

impl Random for MemoryHost {
    fn random(&self) -> [u8; 16] {
        let count = self.count.get();
        self.count.set(count.wrapping_add(1));
        let hash = Sha256::new()
            .chain_update(self.seed)
            .chain_update(count.to_be_bytes())
            .finalize();
        let mut random = [0; 16];
        for (byte, hashed) in random.iter_mut().zip(hash) {
            *byte = hashed;
        }
        random
    }
}

impl KeyDerivation for MemoryHost {
    async fn derive(
        &self,
        password: &[u8],
        salt: &[u8],
        iterations: u32,
    ) -> Result<[u8; 32], String> {
        let keyed = Hmac::<Sha256>::new_from_slice(password).map_err(|error| error.to_string())?;
        // RFC 8018, section 5.2: one block is as long as the key.
        let first = keyed.clone().chain_update(salt).chain_update([0, 0, 0, 1]);
        let mut last: [u8; 32] = first.finalize().into_bytes().into();
        let mut key = last;
        for _ in 1..iterations {
            last = keyed
                .clone()
                .chain_update(last)
                .finalize()
                .into_bytes()
                .into();
            for (byte, other) in key.iter_mut().zip(last) {
                *byte ^= other;
            }
        }
        Ok(key)
    }
}

impl RateLimit for MemoryHost {
    async fn admits(&self, _counted: SignIns, _key: &str) -> bool {
        true
    }
}

impl Fetch for MemoryHost {
    async fn fetch(&self, ask: Ask) -> Result<Reply<MemoryBody>, FetchError> {
        let found = format!("a host in memory reaches no server, asked for {}", ask.url);
        Err(FetchError::Failed(found))
    }
}

impl Cache for MemoryHost {
    async fn cached(
        &self,
        _address: &str,
        _size: u64,
        _range: Option<ByteRange>,
    ) -> Result<Option<MemoryBody>, StoreError> {
        Ok(None)
    }

    async fn cache(
        &self,
        _address: &str,
        body: MemoryBody,
        _size: u64,
        _time_to_live: Duration,
    ) -> Result<(), StoreError> {
        MemoryStreams.discard(body).await;
        Ok(())
    }
}

impl Log for MemoryHost {
    fn log(&self, level: Level, message: &'static str, fields: &[(&'static str, &str)]) {
        let mut log = self.log.borrow_mut();
        if log.len() >= MAX_LINES {
            log.pop_front();
        }
        log.push_back(format!("{level:?} {message} {fields:?}"));
    }
}

impl Streams for MemoryHost {
    type Body = MemoryBody;
    type Bytes = MemoryBytes;
    type Reader = MemoryReader;
    type Hasher = MemoryHasher;

    async fn hash(&self, body: MemoryBody, algorithm: Algorithm) -> Result<Received, StoreError> {
        MemoryStreams.hash(body, algorithm).await
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
        MemoryStreams.discard(body).await;
    }
}

/// Lets other tasks run once.
async fn yield_once() {
    let mut has_yielded = false;
    poll_fn(|context| {
        if has_yielded {
            return Poll::Ready(());
        }
        has_yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> MemoryHost {
        MemoryHost::new([7; 16], Timestamp(1_000))
    }

    /// RFC 7914, section 11.
    #[test]
    fn the_memory_host_derives_keys_by_pbkdf2() {
        for (password, salt, iterations, expected) in [
            (
                "passwd",
                "salt",
                1,
                "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc",
            ),
            (
                "Password",
                "NaCl",
                80_000,
                "4ddcd8f60b98be21830cee5ef22701f9641a4418d04c0414aeff08876b34ab56",
            ),
        ] {
            let host = host();
            let key = host.derive(password.as_bytes(), salt.as_bytes(), iterations);
            assert_eq!(hex::encode(pollster::block_on(key).unwrap()), expected);
        }
    }

    #[test]
    fn sleeping_advances_the_clock_of_the_memory_host() {
        let host = host();
        pollster::block_on(host.sleep(Duration::from_secs(2)));
        assert_eq!(host.now(), Timestamp(3_000));
    }

    #[test]
    fn random_bytes_of_the_memory_host_differ_and_follow_the_seed() {
        let (one, two) = (host(), host());
        assert_ne!(one.random(), one.random());
        two.random();
        assert_eq!(one.random(), {
            two.random();
            two.random()
        });
    }

    #[test]
    fn the_memory_host_keeps_the_last_log_lines() {
        let host = host();
        for number in 0..1_001 {
            host.log(Level::Info, "line", &[("number", &number.to_string())]);
        }
        let log = host.lines();
        assert_eq!((log.len(), log[0].contains("\"1\"")), (1_000, true));
    }
}
