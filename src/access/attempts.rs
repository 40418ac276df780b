//! Failed sign-ins: the rate limits of users, networks and sites.
//!
//! An attempt counts as soon as it begins, because many concurrent ones may not have failed yet. A
//! successful attempt is subtracted again.
//!
//! Attackers choose the names and use many addresses, so they could fill a table of failures.
//! The counts are in count-min sketches of fixed size instead:
//!
//! ```text
//! counted                           limit per minute   counted while
//! user from a network               20                 the network is below its limit
//! network: IPv4 address, IPv6 /64   100                it is below its limit
//! site: IPv6 /48                    1,000              it is below its limit
//! crowd: a sixteenth of all users   20                 the network or the site is above its limit
//! ```
//!
//! A key has one counter in each row of a sketch, and its count is the smallest of them. The count
//! is too high if other keys share all four counters, and never too low. So no flood lets an
//! attempt pass that should be refused. A hash with a secret of the isolate selects the counters,
//! so no client can choose names that share the counters of a victim.
//!
//! A network above its limit adds only to its crowds, and only until they are full. With any number
//! of made-up names, it adds at most 420 in a minute (100, and 20 for each of 16 crowds). So it
//! fills 21 of the 16,384 counters of a row.

use std::{
    cell::RefCell,
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use sha2::{Digest as _, Sha256};

use crate::time::Timestamp;

/// The counts of recent failed sign-ins.
#[derive(Debug, Default)]
pub(super) struct Attempts(RefCell<Option<Counts>>);

/// The counters of one user at one address.
#[derive(Debug)]
pub(super) struct Who {
    user: RowHashes,
    network: RowHashes,
    site: Option<RowHashes>,
    /// The user's crowd, used while the network is above its limit. `site_crowd` is for the site.
    crowd: RowHashes,
    site_crowd: Option<RowHashes>,
}

impl Attempts {
    /// How long a failure counts.
    pub(super) const WINDOW: Duration = Duration::from_secs(60);

    /// The failed sign-ins allowed in that time to one user from one network.
    pub(super) const MOST_OF_USER: u16 = 20;

    /// The failed sign-ins allowed in that time to all users from one network.
    pub(super) const MOST_OF_NETWORK: u16 = 100;

    /// The failed sign-ins allowed in that time from all networks of one site. A customer with one
    /// IPv6 site has 65,536 networks.
    const MOST_OF_SITE: u16 = 1_000;

    /// Finds the counters of a user at an address. The first call draws the secret.
    pub(super) fn who(&self, address: &str, user: &str, random: impl FnOnce() -> [u8; 16]) -> Who {
        let mut counts = self.0.borrow_mut();
        let counts = counts.get_or_insert_with(|| Counts::new(random()));
        let (network, site) = (network(address), site(address));
        let place = |kind: &str, of: &str, user: &str| places(&counts.secret, kind, of, user);
        let user = place("user", &network, user);
        let network = place("network", &network, "");
        let site = site.map(|site| place("site", &site, ""));
        let [RowHash(random), ..] = user;
        let crowd = |places: RowHashes| places.map(|place| place.of_crowd(random >> 60));
        Who {
            user,
            network,
            site,
            crowd: crowd(network),
            site_crowd: site.map(crowd),
        }
    }

    /// How long this user has to wait before the next attempt.
    pub(super) fn wait_of_user(&self, who: &Who, now: Timestamp) -> Option<Duration> {
        let counts = self.0.borrow();
        let counts = counts.as_ref()?;
        let (mut count, mut left) = counts.users.count(&who.user, now);
        if let Some((_, crowd)) = counts.above_limit(who, now) {
            let (more, longer) = counts.users.count(crowd, now);
            count = count.saturating_add(more);
            left = left.max(longer);
        }
        (count >= Self::MOST_OF_USER).then_some(left)
    }

    /// How long every user at this address has to wait before the next attempt.
    pub(super) fn wait_of_network(&self, who: &Who, now: Timestamp) -> Option<Duration> {
        let counts = self.0.borrow();
        let (wait, _) = counts.as_ref()?.above_limit(who, now)?;
        Some(wait)
    }

    /// Counts an attempt that begins.
    pub(super) fn begin(&self, who: &Who, now: Timestamp) {
        let mut counts = self.0.borrow_mut();
        let Some(counts) = counts.as_mut() else {
            return;
        };
        if let Some((_, crowd)) = counts.above_limit(who, now) {
            counts.users.add(crowd, now);
            return;
        }
        counts.users.add(&who.user, now);
        counts.networks.add(&who.network, now);
        if let Some(site) = &who.site {
            counts.networks.add(site, now);
        }
    }

    /// Subtracts a successful attempt that began at `began`.
    pub(super) fn succeed(&self, who: &Who, began: Timestamp) {
        let mut counts = self.0.borrow_mut();
        let Some(counts) = counts.as_mut() else {
            return;
        };
        counts.users.take(&who.user, began);
        counts.networks.take(&who.network, began);
        if let Some(site) = &who.site {
            counts.networks.take(site, began);
        }
    }
}

/// The counts of one isolate.
#[derive(Debug)]
struct Counts {
    secret: [u8; 16],
    users: Sketch<USERS>,
    networks: Sketch<NETWORKS>,
}

impl Counts {
    fn new(secret: [u8; 16]) -> Self {
        Self {
            secret,
            users: Sketch::new(),
            networks: Sketch::new(),
        }
    }

    /// If the network or site is above its limit: how long to wait, and the crowd that counts the
    /// user meanwhile.
    fn above_limit<'a>(&self, who: &'a Who, now: Timestamp) -> Option<(Duration, &'a RowHashes)> {
        let over = |places: &RowHashes, most| {
            let (count, left) = self.networks.count(places, now);
            (count >= most).then_some(left)
        };
        // The site first: otherwise each of its 65,536 networks would fill crowds of its own.
        let of_site = who.site.as_ref().zip(who.site_crowd.as_ref());
        let of_site =
            of_site.and_then(|(site, crowd)| Some((over(site, Attempts::MOST_OF_SITE)?, crowd)));
        of_site.or_else(|| Some((over(&who.network, Attempts::MOST_OF_NETWORK)?, &who.crowd)))
    }
}

/// The counters of a key: one pseudorandom number for each row.
type RowHashes = [RowHash; ROWS];

#[derive(Clone, Copy, Debug, Default)]
struct RowHash(u64);

fn places(secret: &[u8; 16], kind: &str, of: &str, user: &str) -> RowHashes {
    let mut hash = Sha256::new().chain_update(secret);
    for part in [kind, of, user] {
        hash = hash
            .chain_update((part.len() as u64).to_be_bytes())
            .chain_update(part);
    }
    let mut places = RowHashes::default();
    for (place, bytes) in places.iter_mut().zip(hash.finalize().chunks_exact(8)) {
        *place = RowHash(
            bytes
                .iter()
                .fold(0, |sum, byte| (sum << 8) | u64::from(*byte)),
        );
    }
    places
}

/// A count-min sketch: rows of `WIDTH` counters, each with a window of its own.
#[derive(Debug)]
struct Sketch<const WIDTH: usize>(Box<[[Counter; WIDTH]]>);

#[derive(Clone, Copy, Debug, Default)]
struct Counter {
    /// When the window began, in seconds since the Unix epoch.
    since: u32,
    count: u16,
}

const ROWS: usize = 4;

/// The counters in a row of each sketch: 8 bytes each, 640 KiB in all.
const USERS: usize = 16_384;
const NETWORKS: usize = 4_096;

fn seconds(time: Timestamp) -> u32 {
    u32::try_from(time.0 / 1_000).unwrap_or(u32::MAX)
}

impl Counter {
    /// The time left in the counter's window. `None` if the window is over.
    fn left(self, now: Timestamp) -> Option<Duration> {
        let passed = seconds(now).saturating_sub(self.since);
        let left = Attempts::WINDOW.checked_sub(Duration::from_secs(passed.into()))?;
        (!left.is_zero()).then_some(left)
    }
}

impl<const WIDTH: usize> Sketch<WIDTH> {
    fn new() -> Self {
        Self(vec![[Counter::default(); WIDTH]; ROWS].into())
    }

    /// The count of a key, and the time left in its window: those of its smallest counter.
    fn count(&self, places: &RowHashes, now: Timestamp) -> (u16, Duration) {
        let counters = self.0.iter().zip(places).map(|(row, place)| {
            let counter = row.get(place.within(WIDTH));
            let live = counter.and_then(|counter| Some((counter.count, counter.left(now)?)));
            live.unwrap_or_default()
        });
        counters.min().unwrap_or_default()
    }

    fn each(&mut self, places: &RowHashes, change: impl Fn(&mut Counter)) {
        for (row, place) in self.0.iter_mut().zip(places) {
            if let Some(counter) = row.get_mut(place.within(WIDTH)) {
                change(counter);
            }
        }
    }

    fn add(&mut self, places: &RowHashes, now: Timestamp) {
        self.each(places, |counter| {
            if counter.left(now).is_none() {
                *counter = Counter {
                    since: seconds(now),
                    count: 0,
                };
            }
            counter.count = counter.count.saturating_add(1);
        });
    }

    /// Subtracts an attempt that was added at `began`, unless a new window has begun since.
    fn take(&mut self, places: &RowHashes, began: Timestamp) {
        self.each(places, |counter| {
            if counter.since <= seconds(began) {
                counter.count = counter.count.saturating_sub(1);
            }
        });
    }
}

impl RowHash {
    /// The counter of one of the sixteen crowds of a network or site.
    fn of_crowd(self, number: u64) -> Self {
        // An odd factor, so that each crowd has a counter of its own.
        Self(
            self.0
                .wrapping_add((number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        )
    }

    fn within(self, width: usize) -> usize {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the remainder is smaller than the width"
        )]
        let at = (self.0 % width as u64) as usize;
        at
    }
}

/// The key of the platform's rate limiter for a user at an address.
pub(super) fn of_user(address: &str, user: &str) -> String {
    // A client may send a name as long as a header.
    let user: String = user.chars().take(64).collect();
    format!("{} {user}", network(address))
}

/// The network by which an address is counted: an IPv4 address itself, and of an IPv6 address the
/// first 64 bits, which one customer has. Any other text is returned unchanged.
pub fn network(address: &str) -> String {
    match address
        .parse()
        .map(|address: IpAddr| address.to_canonical())
    {
        Ok(IpAddr::V6(address)) => prefix(address, 64),
        Ok(IpAddr::V4(address)) => address.to_string(),
        Err(_) => address.to_owned(),
    }
}

/// The `/48` of one IPv6 site. IPv4 has none: its addresses are not cheap.
fn site(address: &str) -> Option<String> {
    match address
        .parse()
        .map(|address: IpAddr| address.to_canonical())
    {
        Ok(IpAddr::V6(address)) => Some(prefix(address, 48)),
        Ok(IpAddr::V4(_)) | Err(_) => None,
    }
}

fn prefix(address: Ipv6Addr, bits: u32) -> String {
    let rest = u128::MAX.checked_shr(bits).unwrap_or_default();
    Ipv6Addr::from_bits(address.to_bits() & !rest).to_string()
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    const START: Timestamp = Timestamp(1_800_000_000_000);

    impl Attempts {
        fn of(&self, address: &str, user: &str) -> Who {
            self.who(address, user, || [7; 16])
        }

        fn add(&self, address: &str, user: &str, now: Timestamp) {
            self.begin(&self.of(address, user), now);
        }

        fn wait(&self, address: &str, user: &str, now: Timestamp) -> Option<Duration> {
            self.wait_of_user(&self.of(address, user), now)
        }

        fn wait_of(&self, address: &str, now: Timestamp) -> Option<Duration> {
            self.wait_of_network(&self.of(address, ""), now)
        }

        /// The sum of all counters of users.
        fn sum(&self) -> u64 {
            let counts = self.0.borrow();
            let rows = &counts.as_ref().unwrap().users.0;
            rows.iter().flatten().map(|one| u64::from(one.count)).sum()
        }
    }

    #[test]
    fn attempts_of_one_user_from_one_address_are_limited() {
        let attempts = Attempts::default();
        for _ in 0..Attempts::MOST_OF_USER {
            assert_eq!(attempts.wait("192.0.2.1", "ann", START), None);
            attempts.add("192.0.2.1", "ann", START);
        }
        let later = START + Duration::from_secs(20);
        assert_eq!(
            attempts.wait("192.0.2.1", "ann", later),
            Some(Duration::from_secs(40))
        );
        assert_eq!(attempts.wait("192.0.2.1", "bob", later), None);
        assert_eq!(attempts.wait("192.0.2.2", "ann", later), None);
        let over = START + Attempts::WINDOW;
        assert_eq!(attempts.wait("192.0.2.1", "ann", over), None);
        attempts.add("192.0.2.1", "ann", over);
        assert_eq!(
            attempts.wait("192.0.2.1", "ann", over),
            None,
            "a new count has begun"
        );
    }

    #[test]
    fn attempts_from_one_network_are_limited_across_users() {
        let attempts = Attempts::default();
        for number in 0..Attempts::MOST_OF_NETWORK {
            assert_eq!(attempts.wait_of("2001:db8::1", START), None);
            let address = format!("2001:db8::{number:x}");
            attempts.add(&address, &format!("user-{number}"), START);
        }
        assert_eq!(
            attempts.wait_of("2001:db8:0:0:ffff::1", START),
            Some(Attempts::WINDOW)
        );
        assert_eq!(attempts.wait_of("2001:db8:0:1::1", START), None);
    }

    #[test]
    fn attempts_from_one_site_are_limited_across_networks() {
        let attempts = Attempts::default();
        for number in 0..Attempts::MOST_OF_SITE {
            let address = format!("2001:db8:7:{number:x}::1");
            assert_eq!(attempts.wait_of(&address, START), None, "{number}");
            attempts.add(&address, "ann", START);
        }
        assert_eq!(
            attempts.wait_of("2001:db8:7:ffff::1", START),
            Some(Attempts::WINDOW)
        );
        assert_eq!(attempts.wait_of("2001:db8:8::1", START), None);
    }

    #[test]
    fn successful_attempts_do_not_count() {
        let attempts = Attempts::default();
        let ann = attempts.of("192.0.2.1", "ann");
        for _ in 0..1_000 {
            attempts.begin(&ann, START);
            assert_eq!(attempts.wait_of_user(&ann, START), None);
            attempts.succeed(&ann, START);
        }
        for _ in 0..Attempts::MOST_OF_USER {
            attempts.begin(&ann, START);
        }
        assert!(
            attempts.wait_of_user(&ann, START).is_some(),
            "those at once count as soon as they begin"
        );
        // Success of an attempt of the previous window subtracts nothing from this one.
        let over = START + Attempts::WINDOW;
        for _ in 0..Attempts::MOST_OF_USER {
            attempts.begin(&ann, over);
            attempts.succeed(&ann, START);
        }
        assert!(attempts.wait_of_user(&ann, over).is_some());
    }

    /// An address adds its first hundred attempts, and until its crowds are full.
    #[test]
    fn one_address_adds_a_bounded_number_of_attempts() {
        let attempts = Attempts::default();
        let mut begun = 0;
        for number in 0..100_000_u32 {
            let who = attempts.of("192.0.2.1", &format!("made-up-{number}"));
            if attempts.wait_of_user(&who, START).is_none() {
                attempts.begin(&who, START);
                begun += 1;
            }
        }
        let most = u64::from(Attempts::MOST_OF_NETWORK) + 16 * u64::from(Attempts::MOST_OF_USER);
        assert!(begun <= most, "{begun} of 100,000 tries were counted");
        assert_eq!(attempts.sum(), begun * ROWS as u64);
    }

    /// A flood from many addresses makes few other users wait.
    #[test]
    fn a_flood_from_many_addresses_delays_few_other_users() {
        let attempts = Attempts::default();
        // Three attempts at one name from each of 10,000 addresses.
        for number in 0..30_000_u32 {
            let number = number % 10_000;
            let address = format!("10.0.{}.{}", number >> 8, number & 255);
            attempts.add(&address, &format!("made-up-{number}"), START);
        }
        assert_eq!(hindered(&attempts), 0, "of 4,000 users");
        // The most that each address can do: five users to their limit, then all crowds.
        let attempts = Attempts::default();
        for address in 0..200_u32 {
            let address = format!("10.1.{}.{}", address >> 8, address & 255);
            for number in 0..600 {
                let user = format!("made-up-{}", if number < 100 { number % 5 } else { number });
                let who = attempts.of(&address, &user);
                if attempts.wait_of_user(&who, START).is_none() {
                    attempts.begin(&who, START);
                }
            }
        }
        let found = hindered(&attempts);
        assert!((1..40).contains(&found), "{found} of 4,000 users");
    }

    /// How many of 4,000 honest users have to wait.
    fn hindered(attempts: &Attempts) -> usize {
        let waits = |number: &u32| {
            let address = format!("192.0.2.{}", number & 255);
            let user = format!("user-{number}");
            attempts.wait(&address, &user, START).is_some()
                || attempts.wait_of(&address, START).is_some()
        };
        (0..4_000).filter(waits).count()
    }

    #[test]
    fn attempt_counters_have_a_fixed_size() {
        assert_eq!(size_of::<Counter>(), 8);
        let size = size_of::<[Counter; USERS]>() + size_of::<[Counter; NETWORKS]>();
        assert_eq!(size * ROWS, 640 * 1024);
    }

    #[test]
    fn addresses_are_grouped_into_networks_and_sites() {
        for (address, expected, of_site) in [
            ("192.0.2.1", "192.0.2.1", None),
            ("::ffff:192.0.2.1", "192.0.2.1", None),
            ("2001:db8:1:2:3::4", "2001:db8:1:2::", Some("2001:db8:1::")),
            ("", "", None),
            ("no address", "no address", None),
        ] {
            assert_eq!(network(address), expected, "{address}");
            assert_eq!(site(address).as_deref(), of_site, "{address}");
        }
    }
}
