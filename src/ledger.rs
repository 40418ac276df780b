//! The ledger of an isolate's memory. It bounds the bytes of all leases together, and those of each
//! sender.
//!
//! Part buffers, passes over layers, large manifests, lists, spans, and small blobs that are read
//! whole draw from one ledger, because they share the 128 MB of an isolate. The hot tier uses what
//! they leave, and gives way at once. A *sender* is a user, or the address of an anonymous
//! caller.
//!
//! ```
//! use strata::{ledger::{Ledger, MemoryKind}, time::Timestamp};
//!
//! let ledger = Ledger::new(3_000);
//! let lease = ledger.take(MemoryKind::Buffer, 2_000, Timestamp(0))?;
//! assert!(ledger.take(MemoryKind::Buffer, 2_000, Timestamp(0)).is_err());
//! drop(lease);
//! assert_eq!(ledger.used(), 0);
//! # Ok::<(), strata::ledger::Full>(())
//! ```

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    mem::{replace, swap},
    pin::pin,
    rc::Rc,
    time::Duration,
};

pub(crate) use self::book::STRANGER;
pub use self::{book::MemoryKind, full::Full};

use self::{
    book::{Book, LeaseRow, Wanted, make_room},
    cache::Cached,
    line::Line,
};
use crate::{host::Clock, time::Timestamp};

mod book;
mod cache;
mod full;
mod line;

/// Counts the memory in use in one isolate. Clones share all state.
///
/// If the platform cancels a request, no destructor runs. So a lease expires if it is not renewed
/// for [`Ledger::LEASE`]. If its holder was only slow, renewing it exceeds the bound by its bytes,
/// until the holder ends.
#[derive(Clone, Debug)]
pub struct Ledger(Rc<RefCell<Book>>);

/// A place in the line, left on drop.
struct Place<'a> {
    ledger: &'a Ledger,
    id: u64,
}

/// The right to use some bytes of memory. Dropping it returns them.
#[derive(Debug)]
pub struct Lease {
    book: Rc<RefCell<Book>>,
    row: LeaseRow,
}

impl Default for Ledger {
    fn default() -> Self {
        Self::new(Self::BOUND)
    }
}

impl Ledger {
    /// The bytes of an isolate that may be leased, of those that are [counted](Self::COUNTED). A
    /// third is five part buffers: Docker uploads five layers at a time.
    pub const BOUND: u64 = book::BOUND;
    /// The bytes of an isolate that are counted: leases and the cache. The rest of its 128 MB holds
    /// the module, JavaScript's heap, and streams.
    pub const COUNTED: u64 = book::COUNTED;
    /// The most bytes that a cache may be set to use. The rest of [`Ledger::COUNTED`] stays for
    /// buffers: ten parts.
    pub const CACHE: u64 = 48 * 1024 * 1024;
    /// The part of [`Ledger::BOUND`] by which WebAssembly's memory may grow, in bytes.
    pub const WASM: u64 = book::WASM;
    /// The time after which a lease expires if it is not renewed: a client of 140 kbit/s needs it
    /// for a part of 5 MiB.
    pub const LEASE: Duration = book::LEASE;
    /// The timeout of [`Ledger::wait`].
    pub const PATIENCE: Duration = Duration::from_secs(10);
    /// The largest size in bytes that is not counted by [`Ledger::wait_if_large`]: nearly all
    /// manifests, configurations and lists are smaller.
    pub const FREE: u64 = 64 * 1024;

    /// Makes a ledger with a bound in bytes. Clones share it.
    pub fn new(bound: u64) -> Self {
        Self(Rc::new(RefCell::new(Book {
            bound,
            leases: Vec::new(),
            line: Line::default(),
            next: 0,
            sender: None,
            wasm_peak: 0,
            cached: Cached::default(),
        })))
    }

    /// The most bytes that one sender may lease: a third of the bound.
    pub fn share(&self) -> u64 {
        self.0.borrow().bound / 3
    }

    /// The bytes of all leases, including expired ones that were not removed yet. Memory of
    /// WebAssembly that has grown and is not leased does not count.
    pub fn used(&self) -> u64 {
        self.0.borrow().leases.iter().map(|row| row.bytes).sum()
    }

    /// Leases bytes at once, for the charged sender.
    ///
    /// # Errors
    ///
    /// [`Full`] if the sender's share, or a bound for all, would be exceeded.
    pub fn take(&self, memory: MemoryKind, bytes: u64, now: Timestamp) -> Result<Lease, Full> {
        let sender = self.0.borrow().sender.clone();
        self.take_for(sender.as_ref(), memory, bytes, now)
    }

    /// Leases bytes at once for shared work: no sender is charged.
    ///
    /// # Errors
    ///
    /// [`Full`] if the bound would be exceeded.
    pub fn take_for_all(
        &self,
        memory: MemoryKind,
        bytes: u64,
        now: Timestamp,
    ) -> Result<Lease, Full> {
        self.take_for(None, memory, bytes, now)
    }

    fn take_for(
        &self,
        sender: Option<&Rc<str>>,
        memory: MemoryKind,
        bytes: u64,
        now: Timestamp,
    ) -> Result<Lease, Full> {
        let mut book = self.0.borrow_mut();
        book.expire(now);
        book.admit(sender.map(AsRef::as_ref), memory, bytes)?;
        let id = book.next;
        book.next = id.wrapping_add(1);
        let row = || LeaseRow {
            id,
            memory,
            bytes,
            sender: sender.cloned(),
            renewed: now,
        };
        book.enter(row());
        drop(book);
        make_room(&self.0);
        Ok(Lease {
            book: self.0.clone(),
            row: row(),
        })
    }

    /// Leases bytes, and waits up to [`Ledger::PATIENCE`] until they are free. It polls by timers,
    /// because the platform cancels a request that awaits a promise of another request.
    ///
    /// # Errors
    ///
    /// [`Full`] if the bytes are not free in time.
    pub async fn wait(
        &self,
        host: &impl Clock,
        memory: MemoryKind,
        bytes: u64,
    ) -> Result<Lease, Full> {
        let start = host.now();
        loop {
            match self.take(memory, bytes, host.now()) {
                Ok(lease) => return Ok(lease),
                Err(full) if host.now().since(start) >= Self::PATIENCE => return Err(full),
                Err(_) => host.sleep(PAUSE).await,
            }
        }
    }

    /// Leases bytes as [`Ledger::wait`] does if they are more than [`Ledger::FREE`]. `None` if they
    /// are not.
    ///
    /// # Errors
    ///
    /// Those of [`Ledger::wait`].
    pub async fn wait_if_large(
        &self,
        host: &impl Clock,
        memory: MemoryKind,
        bytes: u64,
    ) -> Result<Option<Lease>, Full> {
        if bytes <= Self::FREE {
            return Ok(None);
        }
        self.wait(host, memory, bytes).await.map(Some)
    }

    /// Leases bytes, and waits until they are free, however long that takes: for a body whose
    /// client waits as well. Requests get their bytes in the order of arrival, except that one
    /// whose sender has its share is passed by.
    ///
    /// The caller must hold no other lease, because two such requests could wait for each other.
    pub async fn wait_in_line(&self, host: &impl Clock, memory: MemoryKind, bytes: u64) -> Lease {
        let sender = self.sender();
        let wanted = Wanted {
            memory,
            bytes,
            sender: sender.clone(),
        };
        let place = Place {
            ledger: self,
            id: self.0.borrow_mut().line.enter(wanted, host.now()),
        };
        loop {
            if self.is_next(place.id, host.now())
                && let Ok(lease) = self.take_for(sender.as_ref(), memory, bytes, host.now())
            {
                return lease;
            }
            host.sleep(PAUSE).await;
        }
    }

    /// Whether nobody before a request in the line could have a lease now.
    fn is_next(&self, id: u64, now: Timestamp) -> bool {
        let mut book = self.0.borrow_mut();
        book.expire(now);
        let before: Vec<Wanted> = book.line.before(id, now).cloned().collect();
        let mut leases = before.iter().map(|wanted| {
            let Wanted {
                memory,
                bytes,
                sender,
            } = wanted;
            book.admit(sender.as_deref(), *memory, *bytes)
        });
        leases.all(|lease| lease.is_err())
    }

    /// Whether any request waits in line.
    pub fn has_line(&self, now: Timestamp) -> bool {
        self.0.borrow_mut().line.wanted(now).next().is_some()
    }

    /// Whether a request in the line could use what the charged sender returns. A holder of more
    /// than it needs then returns the rest.
    pub fn is_wanted(&self, now: Timestamp) -> bool {
        let mut book = self.0.borrow_mut();
        let sender = book.sender.clone();
        let wanted: Vec<Wanted> = book.line.wanted(now).cloned().collect();
        wanted.into_iter().any(|wanted| {
            wanted.sender == sender || book.has_share(wanted.sender.as_deref(), wanted.bytes)
        })
    }

    /// The sender that is charged for new leases: a user, or the address of an anonymous caller.
    pub fn sender(&self) -> Option<Rc<str>> {
        self.0.borrow().sender.clone()
    }

    /// Charges a sender until the end of the enclosing [`Ledger::scope`].
    pub fn charge(&self, sender: Option<Rc<str>>) {
        self.0.borrow_mut().sender = sender;
    }

    /// Runs a future, and charges a sender for its leases. Leases of other futures that run in
    /// between are not charged to that sender.
    pub async fn scope<F: Future>(&self, sender: Option<Rc<str>>, future: F) -> F::Output {
        let mut future = pin!(future);
        let mut own = sender;
        poll_fn(|context| {
            swap(&mut self.0.borrow_mut().sender, &mut own);
            let outcome = future.as_mut().poll(context);
            swap(&mut self.0.borrow_mut().sender, &mut own);
            outcome
        })
        .await
    }

    /// Registers the cache of the isolate. `shrink` evicts until the cache has at most so many
    /// bytes, and returns the bytes that it has then. It must not lease memory.
    pub fn set_cache(&self, shrink: impl Fn(u64) -> u64 + 'static) {
        self.0.borrow_mut().cached.shrink = Some(Rc::new(shrink));
    }

    /// The bytes that the cache may have now: those that are not leased.
    pub fn room(&self) -> u64 {
        self.0.borrow().room()
    }

    /// Notes the bytes of the cache.
    pub fn note_cached(&self, bytes: u64) {
        let mut book = self.0.borrow_mut();
        book.cached.bytes = bytes;
        book.note_peak();
    }

    /// The bytes that are counted now: all leases, memory of WebAssembly that has grown and is not
    /// leased, and the cache.
    pub fn counted(&self) -> u64 {
        self.0.borrow().counted()
    }

    /// The most bytes that were ever counted.
    pub fn peak(&self) -> u64 {
        self.0.borrow().cached.peak
    }

    /// Leases bytes at once for a value that is read to be cached. All such values together get the
    /// share of one sender.
    ///
    /// # Errors
    ///
    /// [`Full`] if that share, or a bound for all, would be exceeded.
    pub fn take_for_cache(&self, bytes: u64, now: Timestamp) -> Result<Lease, Full> {
        self.take_for(Some(&Rc::from(CACHE)), MemoryKind::Buffer, bytes, now)
    }
}

impl Lease {
    /// Renews the lease for [`Ledger::LEASE`]: the holder is alive.
    pub fn renew(&mut self, now: Timestamp) {
        let mut book = self.book.borrow_mut();
        book.remove(self.row.id);
        self.row.renewed = now;
        let row = self.row.copy();
        book.enter(row);
        drop(book);
        make_room(&self.book);
    }

    /// Changes the bytes of the lease, and renews it.
    ///
    /// # Errors
    ///
    /// [`Full`] if more bytes are requested than are free. The lease keeps its bytes then, and is
    /// renewed all the same.
    pub fn resize(&mut self, bytes: u64, now: Timestamp) -> Result<(), Full> {
        let mut book = self.book.borrow_mut();
        book.expire(now);
        book.remove(self.row.id);
        let before = replace(&mut self.row.bytes, bytes);
        let admitted = if bytes > before {
            book.admit(self.row.sender.as_deref(), self.row.memory, bytes)
        } else {
            Ok(())
        };
        if admitted.is_err() {
            self.row.bytes = before;
        }
        self.row.renewed = now;
        let row = self.row.copy();
        book.enter(row);
        drop(book);
        make_room(&self.book);
        admitted
    }

    /// The number of leased bytes.
    pub const fn bytes(&self) -> u64 {
        self.row.bytes
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.ledger.0.borrow_mut().line.leave(self.id);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.book.borrow_mut().remove(self.row.id);
    }
}

/// The polling interval of waiting requests.
const PAUSE: Duration = Duration::from_millis(50);

/// The sender of values that are read to be cached: neither a user nor an address.
const CACHE: &str = "cache";

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        mem::forget,
        pin::Pin,
        task::{Context, Poll, Waker},
    };

    use super::*;

    const MIB: u64 = 1024 * 1024;
    const START: Timestamp = Timestamp(1_000_000);

    fn buffer(ledger: &Ledger, bytes: u64, now: Timestamp) -> Result<Lease, Full> {
        ledger.take(MemoryKind::Buffer, bytes, now)
    }

    fn wasm(ledger: &Ledger, bytes: u64) -> Result<Lease, Full> {
        ledger.take(MemoryKind::Wasm, bytes, START)
    }

    #[test]
    fn the_ledger_is_bounded() {
        let ledger = Ledger::new(100);
        let first = buffer(&ledger, 60, START).unwrap();
        let _second = buffer(&ledger, 40, START).unwrap();
        let full = buffer(&ledger, 1, START).unwrap_err();
        assert_eq!(
            full,
            Full {
                wanted: 1,
                used: 100,
                bound: 100,
                is_own: false
            }
        );
        drop(first);
        let third = buffer(&ledger, 30, START).unwrap();
        assert_eq!((ledger.used(), third.bytes()), (70, 30));
    }

    #[test]
    fn one_sender_gets_a_third_of_the_ledger() {
        let ledger = Ledger::new(90);
        ledger.charge(Some("user ann".into()));
        let _own = [10, 20].map(|bytes| buffer(&ledger, bytes, START).unwrap());
        let full = buffer(&ledger, 1, START).unwrap_err();
        assert_eq!((full.used, full.bound, full.is_own), (30, 30, true));
        ledger.charge(Some("user bob".into()));
        assert!(buffer(&ledger, 31, START).is_err());
        let _others = buffer(&ledger, 30, START).unwrap();
        ledger.charge(None);
        assert!(buffer(&ledger, 31, START).is_err());
        assert!(buffer(&ledger, 30, START).is_ok());
        // Shared work takes no sender's share.
        ledger.charge(Some("user ann".into()));
        assert!(ledger.take_for_all(MemoryKind::Buffer, 30, START).is_ok());
    }

    #[test]
    fn the_peak_of_wasm_memory_stays_reserved() {
        let ledger = Ledger::new(100);
        let lease = wasm(&ledger, 60).unwrap();
        assert!(buffer(&ledger, 41, START).is_err());
        drop(lease);
        assert_eq!(ledger.used(), 0);
        assert!(buffer(&ledger, 41, START).is_err());
        let _buffer = buffer(&ledger, 40, START).unwrap();
        // Only wasm itself can use its free memory, which can't grow beside the buffer.
        assert!(wasm(&ledger, 61).is_err());
        let mut again = wasm(&ledger, 60).unwrap();
        assert!(again.resize(61, START).is_err());
        assert_eq!(again.bytes(), 60);
        again.resize(10, START).unwrap();
        assert_eq!(ledger.used(), 50);
    }

    #[test]
    fn wasm_has_a_bound_of_its_own() {
        let ledger = Ledger::default();
        assert!(wasm(&ledger, Ledger::WASM + 1).is_err());
        assert!(wasm(&ledger, Ledger::WASM).is_ok());
    }

    #[test]
    fn leases_of_cancelled_requests_expire() {
        let ledger = Ledger::new(1);
        // A request that was cancelled runs no destructor.
        forget(buffer(&ledger, 1, START).unwrap());
        let before = START + (Ledger::LEASE - Duration::from_millis(1));
        assert!(buffer(&ledger, 1, before).is_err());
        assert!(buffer(&ledger, 1, START + Ledger::LEASE).is_ok());
    }

    #[test]
    fn an_expired_lease_of_a_slow_request_can_be_renewed() {
        let ledger = Ledger::new(1);
        let mut slow = buffer(&ledger, 1, START).unwrap();
        let late = START + Ledger::LEASE;
        let other = buffer(&ledger, 1, late).unwrap();
        slow.renew(late);
        assert_eq!(ledger.used(), 2);
        drop(other);
        assert!(buffer(&ledger, 1, late).is_err(), "the slow one holds all");
        drop(slow);
        assert_eq!(ledger.used(), 0);
    }

    #[test]
    fn late_wasm_leases_leave_room_for_buffers_once_released() {
        let ledger = Ledger::default();
        ledger.charge(Some("user ann".into()));
        let mut now = START;
        let mut late = Vec::new();
        for _ in 0..4 {
            // A third, held by a body that comes more slowly than a lease lasts.
            late.push(ledger.take(MemoryKind::Wasm, 24 * MIB, now).unwrap());
            now = now + Ledger::LEASE;
        }
        for lease in &mut late {
            lease.resize(24 * MIB, now).unwrap();
        }
        drop(late);
        assert_eq!(ledger.used(), 0);
        ledger.charge(Some("user bob".into()));
        assert!(buffer(&ledger, 5 * MIB, now).is_ok());
    }

    #[test]
    fn anonymous_senders_leave_room_for_signed_in_users() {
        for peak in [0, Ledger::WASM] {
            let ledger = Ledger::default();
            drop(wasm(&ledger, peak).unwrap());
            let mut held = Vec::new();
            for number in 0..100 {
                ledger.charge(Some(format!("{STRANGER}192.0.2.{number}").into()));
                held.extend((0..9).map_while(|_| buffer(&ledger, 4 * MIB, START).ok()));
                held.extend((0..9).map_while(|_| wasm(&ledger, MIB).ok()));
            }
            assert!(held.len() > 4);
            ledger.charge(Some("user ann".into()));
            assert!(buffer(&ledger, 5 * MIB, START).is_ok(), "{peak}");
            assert!(wasm(&ledger, 12 * MIB).is_ok(), "{peak}");
        }
    }

    #[test]
    fn one_sender_leaves_room_for_another_one() {
        let ledger = Ledger::default();
        drop(wasm(&ledger, Ledger::WASM).unwrap());
        ledger.charge(Some("user ann".into()));
        let own: Vec<_> = (0..9)
            .map_while(|_| buffer(&ledger, 5 * MIB, START).ok())
            .collect();
        assert_eq!(own.len(), 4);
        let full = buffer(&ledger, 5 * MIB, START).unwrap_err();
        assert!(!full.is_own, "{full}");
        ledger.charge(Some("user bob".into()));
        let first = buffer(&ledger, 5 * MIB, START);
        assert!(first.is_ok());
        assert!(buffer(&ledger, 5 * MIB, START).is_err());
    }

    #[test]
    fn two_senders_leave_room_for_a_manifest_of_a_third_one() {
        let ledger = Ledger::default();
        let mut held = Vec::new();
        for name in ["user ann", "user bob"] {
            ledger.charge(Some(name.into()));
            held.extend((0..9).map_while(|_| wasm(&ledger, 12 * MIB).ok()));
        }
        assert_eq!(held.len(), 3);
        ledger.charge(Some("user carl".into()));
        assert!(wasm(&ledger, 12 * MIB).is_ok());
    }

    /// Polls a future once.
    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    /// A clock that the test moves. A waiting request sleeps until the next poll.
    struct Still(Rc<Cell<Timestamp>>);

    impl Clock for Still {
        fn now(&self) -> Timestamp {
            self.0.get()
        }

        async fn sleep(&self, _: Duration) {
            let mut slept = false;
            poll_fn(|_| {
                if replace(&mut slept, true) {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
            .await;
        }
    }

    #[test]
    fn requests_in_line_get_memory_in_the_order_of_arrival() {
        let now = Rc::new(Cell::new(START));
        let (ledger, clock) = (Ledger::new(10), Still(now));
        let held = buffer(&ledger, 8, START).unwrap();
        let wait = |bytes| ledger.wait_in_line(&clock, MemoryKind::Buffer, bytes);
        let (mut first, mut second) = (Box::pin(wait(6)), Box::pin(wait(6)));
        assert!(poll(first.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
        drop(held);
        assert!(poll(second.as_mut()).is_pending(), "the first one is next");
        let Poll::Ready(lease) = poll(first.as_mut()) else {
            panic!("the bytes are free")
        };
        assert!(poll(second.as_mut()).is_pending());
        drop(lease);
        assert!(poll(second.as_mut()).is_ready());
    }

    #[test]
    fn a_sender_with_its_share_is_passed_by_and_a_cancelled_request_leaves_the_line() {
        let now = Rc::new(Cell::new(START));
        let (ledger, clock) = (Ledger::new(30), Still(now.clone()));
        let wait = |sender: &str, bytes| {
            let future = ledger.wait_in_line(&clock, MemoryKind::Buffer, bytes);
            Box::pin(ledger.scope(Some(sender.into()), future))
        };
        let Poll::Ready(held) = poll(wait("user ann", 8).as_mut()) else {
            panic!("all is free")
        };
        let mut own = wait("user ann", 8);
        assert!(poll(own.as_mut()).is_pending());
        let mut other = wait("user bob", 8);
        assert!(poll(other.as_mut()).is_ready(), "ann has her share");
        let wanted = |sender: &str| {
            ledger.charge(Some(sender.into()));
            ledger.is_wanted(now.get())
        };
        assert!(wanted("user ann"), "she waits for herself");
        assert!(!wanted("user bob"), "what bob returns does not help ann");
        drop(held);
        assert!(wanted("user bob"));
        forget(own);
        now.set(START + Duration::from_secs(2));
        assert!(!wanted("user ann") && !wanted("user bob"));
    }

    #[test]
    fn a_scope_charges_its_sender_only_for_its_own_work() {
        let ledger = Ledger::new(90);
        let sender = |name: &str| Some(Rc::<str>::from(name));
        let inner = ledger.clone();
        let mut polls = 0;
        let work = poll_fn(move |_| {
            polls += 1;
            match polls {
                1 => {
                    assert_eq!(inner.sender().as_deref(), Some("address"));
                    inner.charge(Some("user".into()));
                    Poll::Pending
                }
                _ => Poll::Ready(inner.sender()),
            }
        });
        let mut scope = pin!(ledger.scope(sender("address"), work));
        let mut context = Context::from_waker(Waker::noop());
        ledger.charge(sender("other"));
        assert!(scope.as_mut().poll(&mut context).is_pending());
        assert_eq!(ledger.sender(), sender("other"));
        assert_eq!(
            scope.as_mut().poll(&mut context),
            Poll::Ready(sender("user"))
        );
        assert_eq!(ledger.sender(), sender("other"));
    }

    /// A cache that has these bytes, and as many as it is left after it gave way.
    fn cache(ledger: &Ledger, bytes: u64) -> Rc<Cell<u64>> {
        let cached = Rc::new(Cell::new(bytes));
        let shrunk = cached.clone();
        ledger.set_cache(move |room| {
            shrunk.set(room.min(shrunk.get()));
            shrunk.get()
        });
        ledger.note_cached(bytes);
        cached
    }

    #[test]
    fn the_cache_gives_way_to_leases_at_once() {
        let ledger = Ledger::default();
        let cached = cache(&ledger, 40 * MIB);
        let take = |memory, bytes| ledger.take(memory, bytes, START).unwrap();
        let mut buffer = take(MemoryKind::Buffer, 60 * MIB);
        assert_eq!(cached.get(), 40 * MIB, "both fit");
        let wasm = take(MemoryKind::Wasm, 10 * MIB);
        assert_eq!((cached.get(), ledger.room()), (30 * MIB, 30 * MIB));
        buffer.resize(65 * MIB, START).unwrap();
        assert_eq!(
            (cached.get(), ledger.counted()),
            (25 * MIB, Ledger::COUNTED)
        );
        drop(buffer);
        drop(wasm);
        // Memory of WebAssembly that has grown stays counted.
        assert_eq!(ledger.room(), 90 * MIB);
        assert_eq!(ledger.counted(), 35 * MIB);
        ledger.note_cached(20 * MIB);
        assert_eq!(ledger.counted(), 30 * MIB);
        assert_eq!(ledger.peak(), Ledger::COUNTED);
    }

    #[test]
    fn a_lease_that_is_renewed_late_takes_the_memory_of_the_cache() {
        let ledger = Ledger::default();
        let cached = cache(&ledger, 0);
        let take = |now| ledger.take(MemoryKind::Buffer, 75 * MIB, now).unwrap();
        let mut slow = take(START);
        let late = START + Ledger::LEASE;
        let _other = take(late);
        cached.set(25 * MIB);
        ledger.note_cached(25 * MIB);
        slow.renew(late);
        assert_eq!(cached.get(), 0);
    }

    #[test]
    fn values_for_the_cache_share_a_third() {
        let ledger = Ledger::default();
        let held: Vec<_> = (0..99)
            .map_while(|_| ledger.take_for_cache(MIB, START).ok())
            .collect();
        assert_eq!(held.len(), 25);
        ledger.charge(Some("user ann".into()));
        assert!(ledger.take(MemoryKind::Buffer, 25 * MIB, START).is_ok());
    }
}
