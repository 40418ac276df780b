//! Room for the parts of streams that are on their way into a store: bounded, and nobody's for ever.

use std::time::Duration;

use crate::time::Timestamp;

/// Counts the part buffers in use in one isolate.
///
/// A request that the platform has cancelled never gives back what it took, so a lease that was not renewed for
/// [`Room::LEASE`] no longer counts. A slow client may outlive its lease: renewing takes the place again, and the bound is
/// exceeded by those few until they end.
#[derive(Debug)]
pub struct Room {
    bound: usize,
    leases: Vec<(Lease, Timestamp)>,
    next: u64,
}

/// The right to hold one part buffer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Lease(u64);

impl Room {
    /// How long a lease counts after it was taken or renewed: the time a client of 140 kbit/s needs for a part of 5 MiB.
    pub const LEASE: Duration = Duration::from_secs(300);

    /// Makes room for this many buffers.
    pub const fn new(bound: usize) -> Self {
        Self {
            bound,
            leases: Vec::new(),
            next: 0,
        }
    }

    /// Takes the place of one buffer, if one is free.
    pub fn take(&mut self, now: Timestamp) -> Option<Lease> {
        self.leases
            .retain(|(_, renewed)| now.since(*renewed) < Self::LEASE);
        if self.leases.len() >= self.bound {
            return None;
        }
        let lease = Lease(self.next);
        self.next = self.next.wrapping_add(1);
        self.leases.push((lease, now));
        Some(lease)
    }

    /// Says that the holder of a lease is alive.
    pub fn renew(&mut self, lease: Lease, now: Timestamp) {
        self.give(lease);
        self.leases.push((lease, now));
    }

    /// Gives the place back.
    pub fn give(&mut self, lease: Lease) {
        self.leases.retain(|(other, _)| *other != lease);
    }

    /// The number of buffers in use.
    pub const fn used(&self) -> usize {
        self.leases.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp(1_000_000);

    #[test]
    fn is_bounded() {
        let mut room = Room::new(2);
        let first = room.take(START).unwrap();
        assert!(room.take(START).is_some());
        assert_eq!(room.take(START), None);
        room.give(first);
        assert!(room.take(START).is_some());
        assert_eq!(room.used(), 2);
    }

    #[test]
    fn forgets_those_who_were_cancelled() {
        let mut room = Room::new(1);
        let lost = room.take(START).unwrap();
        assert_eq!(
            room.take(START + (Room::LEASE - Duration::from_millis(1))),
            None
        );
        let found = room.take(START + Room::LEASE).unwrap();
        assert_ne!(lost, found);
    }

    #[test]
    fn keeps_those_who_are_slow() {
        let mut room = Room::new(1);
        let slow = room.take(START).unwrap();
        let late = START + Room::LEASE;
        let other = room.take(late).unwrap();
        room.renew(slow, late);
        assert_eq!(room.used(), 2);
        room.give(other);
        assert_eq!(room.take(late), None, "the slow one holds the only place");
        room.give(slow);
        assert_eq!(room.used(), 0);
    }
}
