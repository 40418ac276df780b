//! Password guessing: how many guesses are checked while a flood fills the table of failed
//! sign-ins.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD},
};
use pollster::block_on;
use sha2::{Digest as _, Sha256};
use strata::access::{Access, Need, Visit};
use strata_support::host::{TestHost, key};

const ROBOT: &str = "strata_0123456789abcdefghijABCDEFGHIJ0123456789";

/// The failed sign-ins that are tried in a minute: of one user from one address, and of one
/// address.
const OF_USER: u32 = 20;
const OF_ADDRESS: u32 = 100;

/// More made-up names than a table of failed sign-ins had rows.
const FLOOD: u32 = 11_000;

/// The address of the attacker, and the address of honest users.
const ATTACKER: &str = "198.51.100.1";
const HONEST: &str = "192.0.2.1";

struct Fixture {
    access: Access,
    host: TestHost,
}

impl Fixture {
    fn new() -> Self {
        let salt = STANDARD_NO_PAD.encode([7; 16]);
        let password = |word: &str| {
            let key = STANDARD_NO_PAD.encode(key(word.as_bytes(), &[7; 16], 1));
            format!("pbkdf2-sha256$1${salt}${key}")
        };
        let token = Sha256::new().chain_update([7; 16]).chain_update(ROBOT);
        let token = STANDARD_NO_PAD.encode(token.finalize());
        let users = serde_json::json!({ "users": {
            "bob": password("bob's word"),
            "carol": password("carol's word"),
            "ci": format!("token-sha256${salt}${token}"),
        } });
        Self {
            access: Access::parse(Some(&users.to_string()), None, false).unwrap(),
            host: TestHost::default(),
        }
    }

    /// The status of a sign-in from an address.
    fn sign_in(&self, address: &str, user: &str, word: &str) -> u16 {
        let authorization = format!("Basic {}", STANDARD.encode(format!("{user}:{word}")));
        let visit = Visit {
            authorization: Some(&authorization),
            address,
            origin: "https://registry.example",
            source: None,
        };
        match block_on(self.access.identify(visit, Need::Entry, &self.host)) {
            Ok(_) => 200,
            Err(error) => error.status().as_u16(),
        }
    }

    /// Guesses a thousand times at a user's password; returns how many guesses were tried.
    fn guess(&self, address: &str, user: &str) -> u32 {
        let before = self.host.derived.get();
        for number in 0..1_000 {
            let status = self.sign_in(address, user, &format!("guess {number}"));
            assert!(matches!(status, 401 | 429), "{status}");
        }
        self.host.derived.get() - before
    }
}

#[test]
fn guessing_stays_limited_after_a_flood_from_one_address() {
    let fixture = Fixture::new();
    for number in 0..FLOOD {
        fixture.sign_in(ATTACKER, &format!("made-up-{number}"), "x");
    }
    assert_eq!(fixture.host.derived.get(), OF_ADDRESS, "names tried");
    assert_eq!(fixture.guess(ATTACKER, "bob"), 0, "from the same address");
    let tried = fixture.guess("203.0.113.9", "bob");
    assert_eq!(tried, OF_USER, "from another address");
    // Unrelated users sign in as usual.
    assert_eq!(fixture.sign_in(HONEST, "bob", "bob's word"), 200);
    assert_eq!(fixture.sign_in(HONEST, "carol", "carol's word"), 200);
}

#[test]
fn guessing_stays_limited_after_a_flood_from_many_addresses() {
    let fixture = Fixture::new();
    for number in 0..FLOOD {
        let address = format!(
            "10.{}.{}.{}",
            number >> 16,
            (number >> 8) & 255,
            number & 255
        );
        fixture.sign_in(&address, &format!("made-up-{number}"), "x");
    }
    let tried = fixture.guess(ATTACKER, "bob");
    assert!(tried <= OF_USER, "{tried} of 1,000 guesses were tried");
    let tried: u32 = (0..100)
        .map(|number| fixture.guess(ATTACKER, &format!("user-{number}")))
        .sum();
    assert!(
        tried <= OF_ADDRESS,
        "{tried} guesses of one address were tried"
    );
    // The many failures do not count for other users.
    assert_eq!(fixture.sign_in(HONEST, "bob", "bob's word"), 200);
}

/// One customer has 65,536 networks of IPv6 or more, so all networks of a site are limited
/// together.
#[test]
fn guessing_is_limited_across_all_networks_of_one_site() {
    let fixture = Fixture::new();
    for number in 0..FLOOD {
        let address = format!("2001:db8:1:{:x}::1", number % 60_000);
        fixture.sign_in(&address, &format!("made-up-{number}"), "x");
    }
    let tried = fixture.host.derived.get();
    assert!(
        tried <= 10 * OF_ADDRESS,
        "{tried} guesses of one site were tried"
    );
    let tried = fixture.guess("2001:db8:1:ffff::1", "bob");
    assert_eq!(tried, 0, "from a network of the site that was not used yet");
    assert_eq!(fixture.sign_in("2001:db8:2::1", "bob", "bob's word"), 200);
}

/// A right token cannot be a guess: no flood locks robots out.
#[test]
fn a_flood_of_guesses_keeps_no_robot_out() {
    let fixture = Fixture::new();
    for number in 0..FLOOD {
        fixture.sign_in(ATTACKER, &format!("made-up-{number}"), "x");
    }
    fixture.guess(ATTACKER, "ci");
    assert_eq!(fixture.sign_in(ATTACKER, "ci", ROBOT), 200);
    let asked = fixture.host.limited.borrow().len();
    assert_eq!(fixture.sign_in(ATTACKER, "ci", ROBOT), 200);
    assert_eq!(
        fixture.host.limited.borrow().len(),
        asked,
        "the platform's limiter is not asked for a right token"
    );
    // Wrong ones count as usual.
    let wrong = |number: u32| {
        let wrong = format!("strata_{number:040}");
        fixture.sign_in(HONEST, "ci", &wrong)
    };
    let statuses: Vec<u16> = (0..=OF_USER).map(wrong).collect();
    assert_eq!(statuses.first(), Some(&401));
    assert_eq!(statuses.last(), Some(&429));
    assert_eq!(fixture.sign_in(HONEST, "ci", ROBOT), 200);
}

/// One isolate does not know the requests of another one.
#[test]
fn the_platform_limits_sign_ins_by_address_and_by_user() {
    let fixture = Fixture::new();
    assert_eq!(fixture.sign_in("2001:db8::5", "bob", "x"), 401);
    let asked = fixture.host.limited.borrow().join(", ");
    assert_eq!(asked, "2001:db8::, 2001:db8:: bob");
}
