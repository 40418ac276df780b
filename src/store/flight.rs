//! Single flight: of concurrent callers that miss the same key, one reads it and leaves the value
//! for the others.
//!
//! The platform cancels a request that awaits another request's promise. So nothing is awaited
//! here. A leader leaves a value, and followers poll for it on timers of their own. If the platform
//! cancels a leader, its lease expires and any caller can take over.

use std::{cell::RefCell, collections::BTreeMap, time::Duration};

use crate::{host::Clock, time::Timestamp};

/// The reads under way in one isolate, by their keys.
#[derive(Debug)]
pub struct Flights<V> {
    air: RefCell<Air<V>>,
}

#[derive(Debug)]
struct Air<V> {
    /// The flight that new callers join, by key.
    boarding: BTreeMap<String, u64>,
    flights: BTreeMap<u64, Flight<V>>,
    next: u64,
    /// When flights of cancelled requests were last removed, and the number of flights at which
    /// that is done again.
    cleared: Timestamp,
    room: usize,
}

impl<V> Air<V> {
    /// Removes flights whose leaders or followers were cancelled. The platform runs no destructors
    /// for a cancelled request, and clients choose the keys, so flights would pile up.
    fn clear(&mut self, now: Timestamp) {
        if self.flights.len() < self.room && now.since(self.cleared) < LEASE {
            return;
        }
        self.flights.retain(|_, flight| {
            let lease = match flight.state {
                FlightState::Running => LEASE,
                FlightState::Landed(_) => 2 * LEASE,
            };
            now.since(flight.since) < lease
        });
        let flights = &self.flights;
        self.boarding
            .retain(|_, number| flights.contains_key(number));
        self.cleared = now;
        self.room = (2 * self.flights.len()).max(64);
    }
}

#[derive(Debug)]
struct Flight<V> {
    state: FlightState<V>,
    since: Timestamp,
    followers: u32,
}

#[derive(Debug)]
enum FlightState<V> {
    Running,
    Landed(V),
}

/// The role of a caller in a read: the leader, or a follower.
#[derive(Debug)]
pub enum Boarding<'a, V: Clone> {
    /// The caller reads, and then passes the value to [`Lead::land`]. If the lead is dropped before
    /// that, it has failed.
    Lead(Lead<'a, V>),
    /// Another request reads, and this caller waits for its value.
    Follower(Follower<'a, V>),
}

/// The right to read for all waiting callers.
#[derive(Debug)]
pub struct Lead<'a, V: Clone> {
    flights: &'a Flights<V>,
    key: String,
    number: u64,
}

/// A place among the waiting callers.
#[derive(Debug)]
pub struct Follower<'a, V: Clone> {
    flights: &'a Flights<V>,
    number: u64,
}

/// The state of a flight, as a follower sees it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Sight<V> {
    /// The leader has not landed yet.
    Waiting,
    /// The value that the leader read.
    Landed(V),
    /// The leader failed or disappeared, so the follower reads itself.
    Lost,
}

/// How long a leader's lease lasts. A read takes longer only if something is wrong.
pub const LEASE: Duration = Duration::from_secs(10);

/// The first and the longest interval at which a follower polls.
const FIRST_LOOK: Duration = Duration::from_millis(2);
const LAST_LOOK: Duration = Duration::from_millis(40);

impl<V> Default for Flights<V> {
    fn default() -> Self {
        Self {
            air: RefCell::new(Air {
                boarding: BTreeMap::new(),
                flights: BTreeMap::new(),
                next: 0,
                cleared: Timestamp(0),
                room: 0,
            }),
        }
    }
}

impl<V: Clone> Flights<V> {
    /// Joins the callers that read this key. Without a leader, the caller becomes one.
    pub fn board(&self, key: &str, now: Timestamp) -> Boarding<'_, V> {
        let mut air = self.air.borrow_mut();
        if let Some(number) = air.boarding.get(key).copied()
            && let Some(flight) = air.flights.get_mut(&number)
            && now.since(flight.since) < LEASE
        {
            flight.followers += 1;
            return Boarding::Follower(Follower {
                flights: self,
                number,
            });
        }
        air.clear(now);
        let number = air.next;
        air.next = number.wrapping_add(1);
        if let Some(cancelled) = air.boarding.insert(key.to_owned(), number) {
            air.flights.remove(&cancelled);
        }
        air.flights.insert(
            number,
            Flight {
                state: FlightState::Running,
                since: now,
                followers: 0,
            },
        );
        Boarding::Lead(Lead {
            flights: self,
            key: key.to_owned(),
            number,
        })
    }

    /// Runs `work` once for all concurrent callers. If the leader disappears, a follower takes
    /// over.
    pub async fn share(&self, key: &str, host: &impl Clock, work: impl AsyncFn() -> V) -> V {
        loop {
            match self.board(key, host.now()) {
                Boarding::Lead(lead) => {
                    let value = work().await;
                    lead.land(&value);
                    return value;
                }
                Boarding::Follower(follow) => {
                    if let Some(value) = follow.wait(host).await {
                        return value;
                    }
                }
            }
        }
    }

    /// Whether a flight for this key was started and has not ended.
    pub fn is_under_way(&self, key: &str) -> bool {
        self.air.borrow().boarding.contains_key(key)
    }

    /// The number of reads under way. Cancelled ones do not count once their leases have expired.
    pub fn running(&self, now: Timestamp) -> usize {
        let air = self.air.borrow();
        let is_running = |flight: &&Flight<V>| {
            matches!(flight.state, FlightState::Running) && now.since(flight.since) < LEASE
        };
        air.flights.values().filter(is_running).count()
    }

    /// The number of reads that are under way or waited for.
    pub fn len(&self) -> usize {
        self.air.borrow().flights.len()
    }

    /// Whether no read is under way or waited for.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<V: Clone> Lead<'_, V> {
    /// Leaves the value for the waiting callers. A caller that comes later must see later writes,
    /// so it reads anew.
    pub fn land(self, value: &V) {
        let mut air = self.flights.air.borrow_mut();
        if let Some(flight) = air.flights.get_mut(&self.number)
            && flight.followers > 0
        {
            flight.state = FlightState::Landed(value.clone());
        }
    }

    /// Renews the lease, for work that takes longer and makes progress.
    pub fn renew(&self, now: Timestamp) {
        if let Some(flight) = self.flights.air.borrow_mut().flights.get_mut(&self.number) {
            flight.since = now;
        }
    }
}

impl<V: Clone> Drop for Lead<'_, V> {
    fn drop(&mut self) {
        let mut air = self.flights.air.borrow_mut();
        if air.boarding.get(&self.key) == Some(&self.number) {
            air.boarding.remove(&self.key);
        }
        let is_over = air
            .flights
            .get(&self.number)
            .is_some_and(|flight| matches!(flight.state, FlightState::Running));
        if is_over {
            air.flights.remove(&self.number);
        }
    }
}

impl<V: Clone> Follower<'_, V> {
    /// Checks whether the leader has landed.
    pub fn look(&self, now: Timestamp) -> Sight<V> {
        match self.flights.air.borrow().flights.get(&self.number) {
            Some(flight) => match &flight.state {
                FlightState::Landed(value) => Sight::Landed(value.clone()),
                FlightState::Running if now.since(flight.since) < LEASE => Sight::Waiting,
                FlightState::Running => Sight::Lost,
            },
            None => Sight::Lost,
        }
    }
}

impl<V: Clone> Follower<'_, V> {
    /// Polls until the leader has landed. `None` if the leader disappeared.
    pub async fn wait(self, host: &impl Clock) -> Option<V> {
        let mut pause = FIRST_LOOK;
        loop {
            host.sleep(pause).await;
            match self.look(host.now()) {
                Sight::Landed(value) => return Some(value),
                Sight::Lost => return None,
                Sight::Waiting => pause = (pause * 2).min(LAST_LOOK),
            }
        }
    }
}

impl<V: Clone> Drop for Follower<'_, V> {
    fn drop(&mut self) {
        let mut air = self.flights.air.borrow_mut();
        let Some(flight) = air.flights.get_mut(&self.number) else {
            return;
        };
        flight.followers = flight.followers.saturating_sub(1);
        if flight.followers == 0 && matches!(flight.state, FlightState::Landed(_)) {
            air.flights.remove(&self.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp(1_000_000);

    #[track_caller]
    fn lead<'a>(flights: &'a Flights<u8>, key: &str, now: Timestamp) -> Lead<'a, u8> {
        match flights.board(key, now) {
            Boarding::Lead(lead) => lead,
            Boarding::Follower(_) => panic!("somebody else leads"),
        }
    }

    #[track_caller]
    fn follow<'a>(flights: &'a Flights<u8>, key: &str, now: Timestamp) -> Follower<'a, u8> {
        match flights.board(key, now) {
            Boarding::Follower(follow) => follow,
            Boarding::Lead(_) => panic!("nobody leads"),
        }
    }

    #[test]
    fn a_flight_leaves_the_value_of_its_leader_for_followers() {
        let flights = Flights::default();
        let leader = lead(&flights, "a", START);
        let followers: Vec<_> = (0..3).map(|_| follow(&flights, "a", START)).collect();
        let _other = lead(&flights, "b", START);
        assert_eq!(followers[0].look(START), Sight::Waiting);
        leader.land(&7);
        for follower in &followers {
            assert_eq!(follower.look(START), Sight::Landed(7));
        }
        drop(followers);
        assert_eq!(flights.len(), 1, "the other one is still reading");
    }

    #[test]
    fn a_flight_without_followers_keeps_no_value() {
        let flights = Flights::default();
        lead(&flights, "a", START).land(&7);
        assert!(flights.is_empty());
    }

    #[test]
    fn followers_learn_that_the_leader_failed() {
        let flights = Flights::default();
        let leader = lead(&flights, "a", START);
        let follower = follow(&flights, "a", START);
        drop(leader);
        assert_eq!(follower.look(START), Sight::Lost);
        drop(follower);
        assert!(flights.is_empty());
    }

    #[test]
    fn followers_of_a_cancelled_leader_are_not_stranded() {
        let flights = Flights::default();
        let cancelled = lead(&flights, "a", START);
        let follower = follow(&flights, "a", START);
        let late = START + LEASE;
        assert_eq!(follower.look(late), Sight::Lost);
        let second = lead(&flights, "a", late);
        assert_eq!(
            follower.look(late),
            Sight::Lost,
            "it waited for another flight"
        );
        let waiting = follow(&flights, "a", late);
        cancelled.land(&1);
        assert_eq!(
            waiting.look(late),
            Sight::Waiting,
            "one that is over says nothing"
        );
        second.land(&2);
        assert_eq!(waiting.look(late), Sight::Landed(2));
        drop((follower, waiting));
        assert!(flights.is_empty());
    }

    /// The platform drops no future of a request that it cancels, so its flights stay.
    #[test]
    fn cancelled_flights_are_bounded() {
        let flights = Flights::default();
        for number in 0..5_000 {
            let now = START + Duration::from_secs(number / 100);
            let key = format!("made-up-{number}");
            std::mem::forget(lead(&flights, &key, now));
            if number % 2 == 0 {
                std::mem::forget(follow(&flights, &key, now));
            }
        }
        assert!(flights.len() <= 2_100, "{} flights", flights.len());
        let air = flights.air.borrow();
        assert!(
            air.boarding.len() <= flights.len(),
            "{}",
            air.boarding.len()
        );
        drop(air);
        // A flight that has landed, and whose followers were cancelled.
        let now = START + Duration::from_secs(60);
        let leader = lead(&flights, "a", now);
        std::mem::forget(follow(&flights, "a", now));
        leader.land(&1);
        let waiting = lead(&flights, "b", now);
        for number in 0..1_000_u64 {
            let now = now + LEASE + Duration::from_secs(number);
            waiting.renew(now);
            std::mem::forget(lead(&flights, &format!("late-{number}"), now));
        }
        assert!(flights.len() < 100, "{} flights", flights.len());
        let now = now + LEASE + Duration::from_secs(999);
        let follower = follow(&flights, "b", now);
        assert_eq!(follower.look(now), Sight::Waiting, "one under way is kept");
    }

    #[test]
    fn a_landed_value_goes_only_to_its_own_followers() {
        let flights = Flights::default();
        let leader = lead(&flights, "a", START);
        let follower = follow(&flights, "a", START);
        leader.land(&1);
        lead(&flights, "a", START).land(&2);
        assert_eq!(follower.look(START), Sight::Landed(1));
        drop(follower);
        assert!(flights.is_empty());
    }
}
