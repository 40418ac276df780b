//! Failed sign-ins: who may not try for a while.
//!
//! A try counts from when it begins: many may be made at once, and none of them has failed yet. One that succeeds counts no more.

use std::{
    cell::RefCell,
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use crate::time::Timestamp;

/// Sign-ins that failed lately, by address and by address and user.
#[derive(Debug, Default)]
pub(super) struct Attempts(RefCell<HashMap<String, Tries>>);

#[derive(Clone, Copy, Debug, Default)]
struct Tries {
    since: Timestamp,
    count: u32,
}

impl Attempts {
    /// How long a failure counts.
    pub(super) const WINDOW: Duration = Duration::from_secs(60);

    /// How many sign-ins of one user may fail in that time from one address.
    pub(super) const MOST_OF_USER: u32 = 20;

    /// How many sign-ins of any users may fail in that time from one address.
    pub(super) const MOST_OF_ADDRESS: u32 = 100;

    /// How many addresses and users are counted. Where there are more, those that come late are not: guessing from so many
    /// addresses is not stopped by counting.
    const MOST_COUNTED: usize = 10_000;

    /// How long to wait before another try as this user.
    pub(super) fn wait_of_user(
        &self,
        address: &str,
        user: &str,
        now: Timestamp,
    ) -> Option<Duration> {
        self.wait(&of_user(address, user), Self::MOST_OF_USER, now)
    }

    /// How long to wait before another try as anyone.
    pub(super) fn wait_of_address(&self, address: &str, now: Timestamp) -> Option<Duration> {
        self.wait(&network(address), Self::MOST_OF_ADDRESS, now)
    }

    fn wait(&self, key: &str, most: u32, now: Timestamp) -> Option<Duration> {
        let tries = self.0.borrow();
        let tries = tries.get(key).filter(|tries| tries.count >= most)?;
        Self::WINDOW
            .checked_sub(now.since(tries.since))
            .filter(|left| !left.is_zero())
    }

    /// Counts a try.
    pub(super) fn begin(&self, address: &str, user: &str, now: Timestamp) {
        let mut tries = self.0.borrow_mut();
        for key in [network(address), of_user(address, user)] {
            if tries.len() >= Self::MOST_COUNTED && !tries.contains_key(&key) {
                tries.retain(|_, tries| now.since(tries.since) < Self::WINDOW);
                if tries.len() >= Self::MOST_COUNTED {
                    continue;
                }
            }
            let entry = tries.entry(key).or_default();
            if now.since(entry.since) >= Self::WINDOW {
                *entry = Tries {
                    since: now,
                    count: 0,
                };
            }
            entry.count += 1;
        }
    }

    /// Counts a try no more, because it was right.
    pub(super) fn succeed(&self, address: &str, user: &str) {
        let mut tries = self.0.borrow_mut();
        for key in [network(address), of_user(address, user)] {
            if let Some(entry) = tries.get_mut(&key) {
                entry.count = entry.count.saturating_sub(1);
            }
        }
    }
}

/// What an address and a user are counted by together.
pub(super) fn of_user(address: &str, user: &str) -> String {
    // A client may send a name as long as a header: what is counted by takes little room.
    let user: String = user.chars().take(64).collect();
    format!("{} {user}", network(address))
}

/// What an address is counted by: of IPv6, the 64 bits that one customer has.
pub fn network(address: &str) -> String {
    match address.parse() {
        Ok(IpAddr::V6(address)) => {
            let bits = address.to_bits() & !u128::from(u64::MAX);
            Ipv6Addr::from_bits(bits).to_string()
        }
        Ok(IpAddr::V4(_)) | Err(_) => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    const START: Timestamp = Timestamp(1_800_000_000_000);

    #[test]
    fn of_one_user_from_one_address_are_few() {
        let attempts = Attempts::default();
        for _ in 0..Attempts::MOST_OF_USER {
            assert_eq!(attempts.wait_of_user("192.0.2.1", "ann", START), None);
            attempts.begin("192.0.2.1", "ann", START);
        }
        let later = START + Duration::from_secs(20);
        assert_eq!(
            attempts.wait_of_user("192.0.2.1", "ann", later),
            Some(Duration::from_secs(40))
        );
        assert_eq!(attempts.wait_of_user("192.0.2.1", "bob", later), None);
        assert_eq!(attempts.wait_of_user("192.0.2.2", "ann", later), None);
        let over = START + Attempts::WINDOW;
        assert_eq!(attempts.wait_of_user("192.0.2.1", "ann", over), None);
        attempts.begin("192.0.2.1", "ann", over);
        assert_eq!(
            attempts.wait_of_user("192.0.2.1", "ann", over),
            None,
            "a new count has begun"
        );
    }

    #[test]
    fn of_one_network_are_few_whoever_is_named() {
        let attempts = Attempts::default();
        for number in 0..Attempts::MOST_OF_ADDRESS {
            assert_eq!(attempts.wait_of_address("2001:db8::1", START), None);
            let address = format!("2001:db8::{number:x}");
            attempts.begin(&address, &format!("user-{number}"), START);
        }
        assert_eq!(
            attempts.wait_of_address("2001:db8:0:0:ffff::1", START),
            Some(Attempts::WINDOW)
        );
        assert_eq!(attempts.wait_of_address("2001:db8:0:1::1", START), None);
    }

    #[test]
    fn that_were_right_do_not_count() {
        let attempts = Attempts::default();
        for _ in 0..1_000 {
            attempts.begin("192.0.2.1", "ann", START);
            assert_eq!(attempts.wait_of_user("192.0.2.1", "ann", START), None);
            attempts.succeed("192.0.2.1", "ann");
        }
        for _ in 0..Attempts::MOST_OF_USER {
            attempts.begin("192.0.2.1", "ann", START);
        }
        assert!(
            attempts.wait_of_user("192.0.2.1", "ann", START).is_some(),
            "those at once count as soon as they begin"
        );
    }

    #[test]
    fn take_bounded_room() {
        let attempts = Attempts::default();
        for number in 0..20_000_u32 {
            attempts.begin(&number.to_string(), &"long".repeat(1_000), START);
        }
        assert_eq!(attempts.0.borrow().len(), Attempts::MOST_COUNTED);
        assert!(attempts.0.borrow().keys().all(|key| key.len() < 100));
        attempts.begin("192.0.2.1", "ann", START + Attempts::WINDOW);
        assert_eq!(attempts.0.borrow().len(), 2, "those of before made room");
    }
}
