//! Part buffers: the platform's own memory that streams pass through on their way into R2.
//!
//! They are few and recycled. JavaScript collects its garbage late, so a fresh buffer for each part
//! would let an isolate grow by the size of its uploads.

use std::{cell::RefCell, mem, time::Duration};

use gloo_timers::future;
use js_sys::Uint8Array;
use strata::{
    host::Clock,
    ledger::{Lease, Ledger, MemoryKind},
    store::StoreError,
};

use crate::clock::now;

/// The size of a part in bytes: the smallest that R2 accepts.
pub(crate) const PART: u32 = 5 * 1024 * 1024;

/// The most idle buffers that are kept.
const MAX_IDLE: usize = 2;

/// The timeout of a wait for a buffer.
const PATIENCE: Duration = Duration::from_secs(30);

/// The polling interval of that wait. It polls by timers, because the platform cancels a request
/// that awaits a promise of another request.
const PAUSE: Duration = Duration::from_millis(50);

thread_local! {
    static LEDGER: Ledger = Ledger::default();
    static IDLE: RefCell<Vec<Uint8Array>> = const { RefCell::new(Vec::new()) };
}

/// The ledger of this isolate, which the registry shares.
pub(crate) fn ledger() -> Ledger {
    LEDGER.with(Clone::clone)
}

/// The lease of one part buffer, and the buffer while no read fills it.
pub(crate) struct Part {
    lease: Lease,
    buffer: Option<Uint8Array>,
}

impl Part {
    /// Takes a buffer if one is free.
    fn take() -> Option<Self> {
        let lease = LEDGER.with(|ledger| ledger.take(MemoryKind::Buffer, PART.into(), now()));
        lease.ok().map(Self::of)
    }

    fn of(lease: Lease) -> Self {
        Self {
            lease,
            buffer: IDLE.with_borrow_mut(Vec::pop),
        }
    }

    /// Takes a buffer beside the one that the caller has, if one is free and nobody waits in line.
    pub(crate) fn take_another() -> Option<Self> {
        if LEDGER.with(|ledger| ledger.has_line(now())) {
            return None;
        }
        Self::take()
    }

    /// Takes a buffer for the body of a push, whose client waits as long as it takes. The caller
    /// must hold no other buffer.
    pub(crate) async fn wait_in_line(clock: &impl Clock) -> Self {
        let ledger = ledger();
        let lease = ledger.wait_in_line(clock, MemoryKind::Buffer, PART.into());
        Self::of(lease.await)
    }

    /// Whether a request in line could use a buffer of this caller.
    pub(crate) fn is_wanted() -> bool {
        LEDGER.with(|ledger| ledger.is_wanted(now()))
    }

    /// Takes a buffer, and waits until one is free.
    pub(crate) async fn wait() -> Result<Self, StoreError> {
        let start = now();
        loop {
            if let Some(part) = Self::take() {
                return Ok(part);
            }
            if now().since(start) >= PATIENCE {
                return Err(StoreError::Busy);
            }
            future::sleep(PAUSE).await;
        }
    }

    /// Lends the buffer for a read. [`Part::restore`] returns it after that.
    pub(crate) fn lend(&mut self) -> Uint8Array {
        self.lease.renew(now());
        self.buffer
            .take()
            .unwrap_or_else(|| Uint8Array::new_with_length(PART))
    }

    /// Takes back the memory of a view. A read moves that memory from one JavaScript object to
    /// another.
    pub(crate) fn restore(&mut self, view: &Uint8Array) {
        self.buffer = Some(Uint8Array::new(&view.buffer()));
    }

    /// Gives the buffer up, because a call that was not answered in time may still read it. Its
    /// bytes count until the lease expires.
    pub(crate) fn abandon(self) {
        mem::forget(self);
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        IDLE.with_borrow_mut(|idle| {
            if let Some(buffer) = self.buffer.take().filter(|_| idle.len() < MAX_IDLE) {
                idle.push(buffer);
            }
        });
    }
}
