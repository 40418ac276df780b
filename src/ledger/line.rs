//! A line of requests that wait, and poll while they do.

use std::time::Duration;

use crate::time::Timestamp;

/// Requests in the order of arrival, each with the thing that it waits for. If the platform cancels
/// a request, no destructor runs, so a request that no longer polls leaves the line.
#[derive(Debug)]
pub(super) struct Line<W> {
    waiters: Vec<Waiter<W>>,
    next: u64,
}

#[derive(Debug)]
struct Waiter<W> {
    id: u64,
    wanted: W,
    polled: Timestamp,
}

impl<W> Default for Line<W> {
    fn default() -> Self {
        Self {
            waiters: Vec::new(),
            next: 0,
        }
    }
}

impl<W> Line<W> {
    /// Adds a request at the end, and returns its number.
    pub(super) fn enter(&mut self, wanted: W, now: Timestamp) -> u64 {
        let id = self.next;
        self.next = id.wrapping_add(1);
        self.waiters.push(Waiter {
            id,
            wanted,
            polled: now,
        });
        id
    }

    pub(super) fn leave(&mut self, id: u64) {
        self.waiters.retain(|waiter| waiter.id != id);
    }

    /// Notes that a request polled. Returns what those before it wait for.
    pub(super) fn before(&mut self, id: u64, now: Timestamp) -> impl Iterator<Item = &W> {
        if let Some(own) = self.waiters.iter_mut().find(|waiter| waiter.id == id) {
            own.polled = now;
        }
        let waiters = self.all(now);
        waiters
            .take_while(move |waiter| waiter.id != id)
            .map(|waiter| &waiter.wanted)
    }

    /// What all requests wait for.
    pub(super) fn wanted(&mut self, now: Timestamp) -> impl Iterator<Item = &W> {
        self.all(now).map(|waiter| &waiter.wanted)
    }

    fn all(&mut self, now: Timestamp) -> impl Iterator<Item = &Waiter<W>> {
        self.waiters
            .retain(|waiter| now.since(waiter.polled) < SILENCE);
        self.waiters.iter()
    }
}

/// The time without a poll after which a waiting request counts as cancelled.
const SILENCE: Duration = Duration::from_secs(2);
