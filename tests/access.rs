//! Who is let in, what it costs, and what is said to those who are not.

use std::time::Duration;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD},
};
use pollster::block_on;
use strata::{
    access::{Access, Action},
    error::{Code, Error},
};

use crate::host::{TestHost, key};

#[path = "support/host.rs"]
mod host;

fn entry(password: &str, iterations: u32) -> String {
    let salt = [7; 16];
    let key = key(password.as_bytes(), &salt, iterations);
    format!(
        "pbkdf2-sha256${iterations}${}${}",
        STANDARD_NO_PAD.encode(salt),
        STANDARD_NO_PAD.encode(key)
    )
}

fn users() -> String {
    serde_json::json!({ "users": { "alice": entry("secret", 1_000), "bob": entry("s:e:c", 100_000) } }).to_string()
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

fn admit(
    access: &Access,
    host: &TestHost,
    action: Action,
    authorization: Option<&str>,
) -> Result<(), Error> {
    block_on(access.admit(action, authorization, host)).map(drop)
}

#[test]
fn lets_users_in() {
    let (access, host) = (
        Access::parse(Some(&users()), false).unwrap(),
        TestHost::default(),
    );
    for (user, password) in [("alice", "secret"), ("bob", "s:e:c")] {
        for action in [Action::Pull, Action::Push] {
            assert!(
                admit(&access, &host, action, Some(&basic(user, password))).is_ok(),
                "{user}"
            );
        }
    }
    let lower = basic("alice", "secret").replace("Basic", "basic");
    assert!(admit(&access, &host, Action::Push, Some(&lower)).is_ok());
}

#[test]
fn refuses_others_in_the_same_words_after_the_same_work() {
    let (access, host) = (
        Access::parse(Some(&users()), false).unwrap(),
        TestHost::default(),
    );
    let mut messages = Vec::new();
    for (user, password) in [
        ("alice", "wrong"),
        ("nobody", "secret"),
        ("alice", ""),
        ("", "secret"),
    ] {
        let error = admit(&access, &host, Action::Pull, Some(&basic(user, password))).unwrap_err();
        assert_eq!(
            (error.code(), error.status().as_u16()),
            (Code::Unauthorized, 401)
        );
        assert!(
            error
                .headers()
                .iter()
                .any(|(name, value)| name == "www-authenticate"
                    && value.to_str().unwrap().starts_with("Basic realm="))
        );
        messages.push(error.message());
    }
    messages.dedup();
    assert_eq!(
        messages,
        ["authentication required: unknown user or wrong password"]
    );
    assert_eq!(host.derived.get(), 4);
}

#[test]
fn refuses_those_who_do_not_sign_in() {
    let (access, host) = (
        Access::parse(Some(&users()), false).unwrap(),
        TestHost::default(),
    );
    for (authorization, message) in [
        (
            None,
            "authentication required: sign in with a user and a password",
        ),
        (
            Some("Basic Og=="),
            "authentication required: sign in with a user and a password",
        ),
        (
            Some("Bearer x"),
            "authentication required: the authorization header is not of the scheme Basic",
        ),
        (
            Some("Basic ???"),
            "authentication required: the authorization header is not of the scheme Basic",
        ),
        (
            Some("Basic"),
            "authentication required: the authorization header is not of the scheme Basic",
        ),
    ] {
        let error = admit(&access, &host, Action::Pull, authorization).unwrap_err();
        assert_eq!(
            (error.code(), error.message().as_str()),
            (Code::Unauthorized, message),
            "{authorization:?}"
        );
    }
    assert_eq!(host.derived.get(), 0);
}

#[test]
fn lets_everyone_pull_where_that_is_switched_on() {
    let (access, host) = (
        Access::parse(Some(&users()), true).unwrap(),
        TestHost::default(),
    );
    assert!(admit(&access, &host, Action::Pull, None).is_ok());
    assert!(
        admit(&access, &host, Action::Pull, Some("Basic Og==")).is_ok(),
        "empty credentials are none"
    );
    assert!(admit(&access, &host, Action::Push, None).is_err());
    assert!(
        admit(&access, &host, Action::Pull, Some(&basic("alice", "wrong"))).is_err(),
        "wrong credentials are wrong"
    );
    assert!(
        block_on(access.greet(None, &host)).is_err(),
        "clients learn how to sign in from the first request"
    );
    assert!(block_on(access.greet(Some(&basic("alice", "secret")), &host)).is_ok());
}

#[test]
fn refuses_everything_until_it_is_configured() {
    for users in [None, Some(""), Some("  "), Some("{\"users\":{}}")] {
        let (access, host) = (Access::parse(users, false).unwrap(), TestHost::default());
        assert!(block_on(access.greet(None, &host)).is_ok());
        let error = admit(
            &access,
            &host,
            Action::Pull,
            Some(&basic("alice", "secret")),
        )
        .unwrap_err();
        assert_eq!((error.code(), error.status().as_u16()), (Code::Denied, 403));
        assert!(
            error
                .message()
                .contains("set the secret STRATA_USERS, or STRATA_ANONYMOUS_PULL"),
            "{}",
            error.message()
        );
    }
}

#[test]
fn remembers_verified_credentials_for_a_while() {
    let (access, host) = (
        Access::parse(Some(&users()), false).unwrap(),
        TestHost::default(),
    );
    let alice = basic("alice", "secret");
    for _ in 0..10 {
        assert!(admit(&access, &host, Action::Push, Some(&alice)).is_ok());
    }
    assert_eq!(host.derived.get(), 1);
    assert!(
        admit(
            &access,
            &host,
            Action::Push,
            Some(&basic("alices", "ecret"))
        )
        .is_err(),
        "the boundary is remembered too"
    );
    host.pass(Access::REMEMBERED - Duration::from_millis(1));
    assert!(admit(&access, &host, Action::Push, Some(&alice)).is_ok());
    assert_eq!(host.derived.get(), 2);
    host.pass(Duration::from_millis(1));
    assert!(admit(&access, &host, Action::Push, Some(&alice)).is_ok());
    assert_eq!(host.derived.get(), 3);
}

#[test]
fn says_what_is_wrong_with_the_secret_and_never_repeats_it() {
    let key = STANDARD_NO_PAD.encode([0; 32]);
    let salt = STANDARD_NO_PAD.encode([0; 16]);
    let with = |entry: &str| serde_json::json!({ "users": { "alice": entry } }).to_string();
    let refused = [
        (
            "hunter2".to_owned(),
            "not as expected at line 1, column 1: not JSON",
        ),
        (
            "{\n\"users\": {\n".to_owned(),
            "not as expected at line 3, column 0: the text ends too early",
        ),
        (
            "{\"hunter2\": 1}".to_owned(),
            "not as expected at line 1, column 10: expected {\"users\": {\"<name>\": \"<entry>\"}}",
        ),
        (
            "{\"users\": {\"a:b\": \"x\"}}".to_owned(),
            "user \"a:b\": a user's name is not empty and has no ':'",
        ),
        (
            with("hunter2"),
            "user \"alice\": expected pbkdf2-sha256$<iterations>$<salt>$<key>",
        ),
        (
            with(&format!("pbkdf2-sha256$many${salt}${key}")),
            "user \"alice\": the number of iterations is not a number",
        ),
        (
            with(&format!("pbkdf2-sha256$100001${salt}${key}")),
            "user \"alice\": the number of iterations is not from 1 to 100000, where the platform stops",
        ),
        (
            with(&format!("pbkdf2-sha256$1$AA${key}")),
            "user \"alice\": the salt is shorter than 8 bytes",
        ),
        (
            with(&format!("pbkdf2-sha256$1$=${key}")),
            "user \"alice\": the salt is not base64 without padding",
        ),
        (
            with(&format!("pbkdf2-sha256$1${salt}$AA")),
            "user \"alice\": the key is not of 32 bytes",
        ),
        (
            with(&format!("pbkdf2-sha256$1${salt}$!")),
            "user \"alice\": the key is not base64 without padding",
        ),
    ];
    for (text, message) in refused {
        let error = Access::parse(Some(&text), false).unwrap_err();
        assert_eq!(error, message);
        assert!(!error.contains("hunter2"));
    }
}
