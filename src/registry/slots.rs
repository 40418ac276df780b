//! Slots for bodies: how many bodies an isolate receives concurrently, by sender.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    time::Duration,
};

use crate::{host::Clock, time::Timestamp};

/// The bodies that an isolate receives.
///
/// If the platform cancels a request, no destructor runs, so a slot also expires. If all slots of a
/// sender are taken, the requests of all slots are watched from then on. A request without progress
/// for the timeout loses its slot. If it was only slow, the sender has one body more than allowed.
#[derive(Debug)]
pub(super) struct Slots {
    timeout: Duration,
    taken: RefCell<Vec<Rc<Slot>>>,
}

#[derive(Debug)]
struct Slot {
    sender: String,
    /// The start of the watch. `None` if the request has made progress since.
    watched: Cell<Option<Timestamp>>,
}

/// The slot of a body, released on drop.
#[derive(Debug)]
pub(super) struct TakenSlot {
    slots: Rc<Slots>,
    slot: Rc<Slot>,
}

/// The timeout for reading a body that no service took.
pub(super) const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

impl Slots {
    /// Makes slots that expire after this time without progress.
    pub(super) fn new(timeout: Duration) -> Rc<Self> {
        Rc::new(Self {
            timeout,
            taken: RefCell::default(),
        })
    }

    /// Takes a slot for one more body of a sender. `None` if the sender has `most` slots.
    ///
    /// The clock is read only then, because reading it takes a crossing to the platform.
    pub(super) fn take(
        self: &Rc<Self>,
        sender: &str,
        most: u32,
        clock: &impl Clock,
    ) -> Option<TakenSlot> {
        if self.count(sender) >= most {
            self.expire(clock.now());
        }
        if self.count(sender) >= most {
            return None;
        }
        let slot = Rc::new(Slot {
            sender: sender.to_owned(),
            watched: Cell::default(),
        });
        self.taken.borrow_mut().push(slot.clone());
        Some(TakenSlot {
            slots: self.clone(),
            slot,
        })
    }

    fn count(&self, sender: &str) -> u32 {
        let taken = self.taken.borrow();
        let own = taken.iter().filter(|slot| slot.sender == sender);
        u32::try_from(own.count()).unwrap_or(u32::MAX)
    }

    fn expire(&self, now: Timestamp) {
        self.taken.borrow_mut().retain(|slot| {
            let since = slot.watched.get().unwrap_or(now);
            slot.watched.set(Some(since));
            now.since(since) < self.timeout
        });
    }
}

impl TakenSlot {
    /// Runs a request that has this slot. The request makes progress whenever it is polled: bytes
    /// have come, or the store has answered.
    pub(super) async fn hold<F: Future>(self, request: F) -> F::Output {
        let mut request = pin!(request);
        poll_fn(|context| {
            self.slot.watched.set(None);
            request.as_mut().poll(context)
        })
        .await
    }
}

impl Drop for TakenSlot {
    fn drop(&mut self) {
        let mut taken = self.slots.taken.borrow_mut();
        taken.retain(|slot| !Rc::ptr_eq(slot, &self.slot));
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::pending,
        mem::forget,
        task::{Context, Waker},
    };

    use futures_util::FutureExt as _;

    use super::*;
    use crate::memory::MemoryHost;

    const TIMEOUT: Duration = Duration::from_secs(10);

    fn host() -> MemoryHost {
        MemoryHost::new([0; 16], Timestamp(1_000_000))
    }

    #[test]
    fn a_slot_of_a_cancelled_request_expires() {
        let (slots, host) = (Slots::new(TIMEOUT), host());
        let start = host.clock().get();
        // A request that was cancelled runs no destructor.
        forget(slots.take("user ann", 1, &host).unwrap());
        assert!(slots.take("user ann", 1, &host).is_none());
        assert!(slots.take("user bob", 1, &host).is_some());
        host.clock()
            .set(start + (TIMEOUT - Duration::from_millis(1)));
        assert!(slots.take("user ann", 1, &host).is_none());
        host.clock().set(start + TIMEOUT);
        let slot = slots.take("user ann", 1, &host).unwrap();
        assert!(slots.take("user ann", 1, &host).is_none());
        drop(slot);
        assert!(slots.take("user ann", 1, &host).is_some());
    }

    #[test]
    fn a_slot_of_a_request_with_progress_stays() {
        let (slots, host) = (Slots::new(TIMEOUT), host());
        let slot = slots.take("user ann", 1, &host).unwrap();
        let mut request = pin!(slot.hold(pending::<()>()));
        for _ in 0..5 {
            assert!(
                request
                    .poll_unpin(&mut Context::from_waker(Waker::noop()))
                    .is_pending()
            );
            assert!(slots.take("user ann", 1, &host).is_none());
            host.clock().set(host.clock().get() + TIMEOUT / 2);
        }
    }
}
