//! Sign-in and permissions: which callers the registry admits, the cost of a sign-in, and the
//! replies to rejected callers.

use std::time::Duration;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD},
};
use pollster::block_on;
use sha2::{Digest as _, Sha256};
use strata::{
    access::{Access, Caller, Need, Visit, rule::Action},
    error::{Code, Error},
};
use strata_support::host::{TestHost, key};

const ROBOT: &str = "strata_0123456789abcdefghijABCDEFGHIJ0123456789";

fn password(password: &str, iterations: u32) -> String {
    let salt = [7; 16];
    let key = key(password.as_bytes(), &salt, iterations);
    format!(
        "pbkdf2-sha256${iterations}${}${}",
        STANDARD_NO_PAD.encode(salt),
        STANDARD_NO_PAD.encode(key)
    )
}

fn token(token: &str) -> String {
    let salt = [7; 16];
    let key = Sha256::new().chain_update(salt).chain_update(token);
    format!(
        "token-sha256${}${}",
        STANDARD_NO_PAD.encode(salt),
        STANDARD_NO_PAD.encode(key.finalize())
    )
}

fn users() -> String {
    serde_json::json!({ "users": {
        "alice": password("secret", 1_000),
        "bob": { "secret": password("s:e:c", 100_000), "groups": ["team"] },
        "robot": { "secret": token(ROBOT), "groups": ["robots", "team"] },
    } })
    .to_string()
}

fn access(anonymous_pull: bool) -> (Access, TestHost) {
    let access = Access::parse(Some(&users()), None, anonymous_pull).unwrap();
    (access, TestHost::default())
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

fn visit(authorization: Option<&str>) -> Visit<'_> {
    Visit {
        authorization,
        address: "192.0.2.1",
        origin: "https://registry.example",
        source: None,
    }
}

fn admit(
    access: &Access,
    host: &TestHost,
    action: Action,
    authorization: Option<&str>,
) -> Result<Caller, Error> {
    let name = "a/b".parse().unwrap();
    let need = Need::Repository(&name, action);
    let visit = visit(authorization);
    let caller = block_on(access.identify(visit, need, host))?;
    access.permit(&caller, need, visit).map(|()| caller)
}

fn challenge(error: &Error) -> &str {
    let mut headers = error.headers().iter();
    let (_, value) = headers
        .find(|(name, _)| name == "www-authenticate")
        .unwrap();
    value.to_str().unwrap()
}

#[test]
fn users_with_right_credentials_are_admitted() {
    let (access, host) = access(false);
    for (user, password) in [("alice", "secret"), ("bob", "s:e:c"), ("robot", ROBOT)] {
        for action in Action::ALL {
            let caller = admit(&access, &host, action, Some(&basic(user, password))).unwrap();
            assert_eq!(caller.user(), Some(user));
        }
    }
    let lower = basic("alice", "secret").replace("Basic", "basic");
    assert!(admit(&access, &host, Action::Push, Some(&lower)).is_ok());
}

#[test]
fn wrong_credentials_get_the_same_message_after_the_same_work() {
    let mut messages = Vec::new();
    for (user, password) in [
        ("alice", "wrong"),
        ("bob", "secret"),
        ("robot", "secret"),
        ("nobody", "secret"),
        ("alice", ""),
        ("", "secret"),
    ] {
        let (access, host) = access(false);
        let error = admit(&access, &host, Action::Pull, Some(&basic(user, password))).unwrap_err();
        assert_eq!(
            (error.code(), error.status().as_u16()),
            (Code::Unauthorized, 401)
        );
        assert_eq!(
            challenge(&error),
            "Bearer realm=\"https://registry.example/v2/_strata/token\",service=\"strata\",scope=\"repository:a/b:pull\""
        );
        messages.push(error.message());
        assert_eq!(host.iterations.get(), 100_000, "{user}");
    }
    messages.dedup();
    assert_eq!(
        messages,
        ["authentication required: unknown user or wrong password"]
    );
    // A credential in the form of a robot's token costs one hash, for any user name.
    for user in ["robot", "alice", "nobody"] {
        let (access, host) = access(false);
        let wrong = ROBOT.replace('0', "1");
        let error = admit(&access, &host, Action::Pull, Some(&basic(user, &wrong))).unwrap_err();
        assert_eq!(vec![error.message()], messages);
        assert_eq!((host.derived.get(), host.limited.borrow().len()), (0, 0));
    }
}

/// A credential that is quick to verify is quick to guess: only credentials of the length of our
/// tokens are verified by one hash.
#[test]
fn robot_tokens_of_another_length_are_refused() {
    for short in ["strata_0123", "secret", &ROBOT[..46], &format!("{ROBOT}a")] {
        let users = serde_json::json!({ "users": { "robot": token(short) } }).to_string();
        let access = Access::parse(Some(&users), None, false).unwrap();
        let host = TestHost::default();
        assert!(admit(&access, &host, Action::Pull, Some(&basic("robot", short))).is_err());
    }
}

#[test]
fn unauthenticated_callers_get_a_challenge() {
    let (access, host) = access(false);
    for (authorization, message, problem) in [
        (None, "sign in to push to repository a/b", ""),
        (Some("Basic Og=="), "sign in to push to repository a/b", ""),
        (
            Some("Bearer x"),
            "the token was not issued by this registry",
            ",error=\"invalid_token\"",
        ),
        (
            Some("Negotiate x"),
            "the authorization header is neither Basic nor Bearer",
            "",
        ),
        (
            Some("Basic ???"),
            "the Basic credentials in the authorization header are not base64 of user:password",
            "",
        ),
        (
            Some("Basic"),
            "the authorization header has no credentials",
            "",
        ),
    ] {
        let error = admit(&access, &host, Action::Push, authorization).unwrap_err();
        assert_eq!(
            (error.code(), error.message()),
            (
                Code::Unauthorized,
                format!("authentication required: {message}")
            ),
            "{authorization:?}"
        );
        assert_eq!(
            challenge(&error),
            format!(
                "Bearer realm=\"https://registry.example/v2/_strata/token\",service=\"strata\",scope=\"repository:a/b:pull,push\"{problem}"
            )
        );
    }
    assert_eq!(host.derived.get(), 0);
}

#[test]
fn end_points_that_take_no_token_ask_for_a_password() {
    let (access, host) = access(true);
    let metrics = Need::Registry(Action::Metrics);
    let caller = block_on(access.identify(visit(None), metrics, &host)).unwrap();
    let error = access.permit(&caller, metrics, visit(None)).unwrap_err();
    assert_eq!(
        challenge(&error),
        "Basic realm=\"Strata\", charset=\"UTF-8\""
    );
    let alice = basic("alice", "secret");
    let caller = block_on(access.identify(visit(Some(&alice)), metrics, &host)).unwrap();
    assert!(access.permit(&caller, metrics, visit(Some(&alice))).is_ok());
    let (token, _) = access
        .issue(
            &caller,
            visit(None),
            ["registry:strata:*"],
            |name| name,
            &host,
        )
        .unwrap();
    let bearer = format!("Bearer {token}");
    for need in [metrics, Need::Token] {
        let caller = block_on(access.identify(visit(Some(&bearer)), need, &host)).unwrap();
        let error = access
            .permit(&caller, need, visit(Some(&bearer)))
            .unwrap_err();
        assert_eq!(error.status().as_u16(), 401);
        assert!(challenge(&error).starts_with("Basic "));
    }
}

#[test]
fn anonymous_pull_lets_everyone_pull() {
    let (access, host) = access(true);
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
    let caller = block_on(access.identify(visit(None), Need::SignIn, &host)).unwrap();
    let error = access.permit(&caller, Need::SignIn, visit(None));
    assert_eq!(
        challenge(&error.unwrap_err()),
        "Bearer realm=\"https://registry.example/v2/_strata/token\",service=\"strata\"",
        "clients learn how to sign in from the first request"
    );
}

#[test]
fn an_unconfigured_registry_refuses_everything() {
    for users in [None, Some(""), Some("  "), Some("{\"users\":{}}")] {
        let access = Access::parse(users, None, false).unwrap();
        let host = TestHost::default();
        for need in [Need::SignIn, Need::Token, Need::Entry] {
            let alice = basic("alice", "secret");
            let error = block_on(access.identify(visit(Some(&alice)), need, &host)).unwrap_err();
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
}

/// If no user is configured, no caller is told to sign in.
#[test]
fn a_registry_without_users_asks_nobody_to_sign_in() {
    let access = Access::parse(None, None, true).unwrap();
    let host = TestHost::default();
    assert!(admit(&access, &host, Action::Pull, None).is_ok());
    let caller = block_on(access.identify(visit(None), Need::SignIn, &host)).unwrap();
    assert!(access.permit(&caller, Need::SignIn, visit(None)).is_ok());
    // Credentials that a client kept from an earlier configuration make no difference.
    for authorization in [None, Some("Basic YWxpY2U6c2VjcmV0"), Some("Bearer x")] {
        assert!(admit(&access, &host, Action::Pull, authorization).is_ok());
        let error = admit(&access, &host, Action::Push, authorization).unwrap_err();
        assert_eq!((error.code(), error.status().as_u16()), (Code::Denied, 403));
        assert_eq!(
            error.message(),
            "requested access to the resource is denied: nobody may push to repository a/b"
        );
        assert!(error.headers().is_empty());
    }
    assert_eq!(host.derived.get(), 0);
}

#[test]
fn verified_credentials_are_cached_for_a_while() {
    let (access, host) = access(false);
    let bob = basic("bob", "s:e:c");
    for _ in 0..10 {
        assert!(admit(&access, &host, Action::Push, Some(&bob)).is_ok());
    }
    assert_eq!(host.derived.get(), 1);
    assert!(
        admit(&access, &host, Action::Push, Some(&basic("bobs", ":e:c"))).is_err(),
        "the boundary is remembered too"
    );
    host.pass(Access::REMEMBERED - Duration::from_millis(1));
    assert!(admit(&access, &host, Action::Push, Some(&bob)).is_ok());
    assert_eq!(host.derived.get(), 2);
    host.pass(Duration::from_millis(1));
    assert!(admit(&access, &host, Action::Push, Some(&bob)).is_ok());
    assert_eq!(host.derived.get(), 3);
}

#[test]
fn password_guesses_are_rate_limited() {
    let (access, host) = access(false);
    let alice = basic("alice", "secret");
    assert!(admit(&access, &host, Action::Pull, Some(&alice)).is_ok());
    let bob = basic("bob", "s:e:c");
    for number in 0..20 {
        let guess = basic("bob", &format!("guess {number}"));
        let error = admit(&access, &host, Action::Pull, Some(&guess)).unwrap_err();
        assert_eq!(error.status().as_u16(), 401);
    }
    let derived = host.derived.get();
    // The same for the right password: a client that guesses does not learn that it is right.
    let error = admit(&access, &host, Action::Pull, Some(&bob)).unwrap_err();
    assert_eq!(
        (error.code(), error.message().as_str()),
        (
            Code::TooManyRequests,
            "too many requests: too many failed sign-ins; try again in 60 seconds"
        )
    );
    assert!(
        error
            .headers()
            .iter()
            .any(|(name, value)| name == "retry-after" && value == "60")
    );
    assert_eq!(host.derived.get(), derived, "nothing is computed for it");
    assert!(
        admit(&access, &host, Action::Pull, Some(&alice)).is_ok(),
        "others from there go on"
    );
    host.pass(Duration::from_secs(60));
    assert!(admit(&access, &host, Action::Pull, Some(&bob)).is_ok());
}

/// A remembered sign-in is answered at once, so guesses at it are slowed as well.
#[test]
fn guesses_at_cached_credentials_are_rate_limited() {
    let bob = basic("bob", "s:e:c");
    let guess = |access: &Access, host: &TestHost, user: &str, number: u32| {
        let guess = basic(user, &format!("guess {number}"));
        let answer = from(access, host, "198.51.100.1", &guess);
        answer.unwrap_err().status().as_u16()
    };
    for is_limited in [false, true] {
        let (access, host) = access(false);
        assert!(from(&access, &host, "192.0.2.1", &bob).is_ok());
        host.admits.set(!is_limited);
        for number in 0..20 {
            let expected = if is_limited { 429 } else { 401 };
            assert_eq!(guess(&access, &host, "bob", number), expected);
        }
        let error = from(&access, &host, "198.51.100.1", &bob).unwrap_err();
        assert_eq!(error.status().as_u16(), 429, "the right one");
        let own = from(&access, &host, "192.0.2.1", &bob);
        assert!(own.is_ok(), "who is at home elsewhere goes on");
    }
    // An address that is blocked does not gain more guesses for each user.
    let (access, host) = access(false);
    assert!(from(&access, &host, "192.0.2.1", &bob).is_ok());
    for number in 0..100 {
        assert_eq!(guess(&access, &host, &format!("user-{number}"), 0), 401);
    }
    assert!(
        from(&access, &host, "198.51.100.1", &bob).is_ok(),
        "who shares it and was verified goes on"
    );
    for number in 0..20 {
        assert_eq!(guess(&access, &host, "bob", number), 429);
    }
    assert!(from(&access, &host, "198.51.100.1", &bob).is_err());
}

fn from(
    access: &Access,
    host: &TestHost,
    address: &str,
    authorization: &str,
) -> Result<Caller, Error> {
    let visit = Visit {
        address,
        ..visit(Some(authorization))
    };
    block_on(access.identify(visit, Need::Entry, host))
}

#[test]
fn the_rate_limiter_of_the_platform_precedes_key_derivation() {
    let (access, host) = access(false);
    let bob = basic("bob", "s:e:c");
    for _ in 0..3 {
        assert!(admit(&access, &host, Action::Pull, Some(&bob)).is_ok());
    }
    assert_eq!(*host.limited.borrow(), ["192.0.2.1", "192.0.2.1 bob"]);
    host.admits.set(false);
    assert!(
        admit(&access, &host, Action::Pull, Some(&bob)).is_ok(),
        "remembered"
    );
    let derived = host.derived.get();
    let alice = basic("alice", "secret");
    let error = admit(&access, &host, Action::Pull, Some(&alice)).unwrap_err();
    assert_eq!(error.status().as_u16(), 429);
    assert_eq!(host.derived.get(), derived);
    assert!(
        admit(&access, &host, Action::Pull, Some(&basic("robot", ROBOT))).is_ok(),
        "a token can't be guessed"
    );
}

#[test]
fn invalid_users_are_refused_without_repeating_secrets() {
    let key = STANDARD_NO_PAD.encode([0; 32]);
    let salt = STANDARD_NO_PAD.encode([0; 16]);
    let with = |entry: &str| {
        let user = serde_json::json!({ "secret": entry });
        format!("{{\"users\": {{\n\"bob\": \"token-sha256${salt}${key}\",\n\"alice\": {user}\n}}}}")
    };
    let expected = "expected {\"users\": {\"<name>\": \"<secret>\" or {\"secret\": \"<secret>\", \"groups\": [\"<name>\"]}}}";
    let schemes = "expected pbkdf2-sha256$<iterations>$<salt>$<key> or token-sha256$<salt>$<key>";
    let called = "the name of a user or group has 1 to 64 characters of a-z, A-Z, 0-9 and ._@+-";
    let refused = [
        ("hunter2".to_owned(), 1, "not JSON"),
        ("{\n\"users\": {\n".to_owned(), 3, "the text ends too early"),
        ("{\"hunter2\": 1}".to_owned(), 1, expected),
        ("{\"users\": {\"alice\": 1}}".to_owned(), 1, expected),
        (
            "{\"users\": {\"alice\": {\"password\": \"hunter2\"}}}".to_owned(),
            1,
            expected,
        ),
        ("{\"users\": {\"a:b\": \"x\"}}".to_owned(), 1, called),
        ("{\"users\": {\n\"\": \"x\"}}".to_owned(), 2, called),
        (
            format!(
                "{{\"users\": {{\"a\": {{\"secret\": \"token-sha256${salt}${key}\", \"groups\": [\"hunter2 \"]}}}}}}"
            ),
            1,
            called,
        ),
        (
            format!(
                "{{\"users\": {{\n\"a\": \"token-sha256${salt}${key}\",\n\"a\": \"token-sha256${salt}${key}\"}}}}"
            ),
            3,
            "user \"a\" is defined twice",
        ),
        (with("hunter2"), 3, schemes),
        (with(&format!("sha256${salt}${key}")), 3, schemes),
        (
            with(&format!("pbkdf2-sha256$many${salt}${key}")),
            3,
            "the number of iterations is not a number",
        ),
        (
            with(&format!("pbkdf2-sha256$100001${salt}${key}")),
            3,
            "the number of iterations is not from 1 to 100000, the platform's maximum",
        ),
        (
            with(&format!("pbkdf2-sha256$1$AA${key}")),
            3,
            "the salt is shorter than 8 bytes",
        ),
        (
            with(&format!("token-sha256$=${key}")),
            3,
            "the salt is not base64 without padding",
        ),
        (
            with(&format!("token-sha256${salt}$AA")),
            3,
            "the key is not 32 bytes long",
        ),
        (
            with(&format!("pbkdf2-sha256$1${salt}$!")),
            3,
            "the key is not base64 without padding",
        ),
    ];
    for (text, line, message) in refused {
        let (setting, error) = Access::parse(Some(&text), None, false).unwrap_err();
        assert_eq!(setting, "STRATA_USERS");
        assert!(
            error.starts_with(&format!("line {line}, column ")),
            "{error}\n{text}"
        );
        assert!(error.ends_with(&format!(": {message}")), "{error}\n{text}");
        assert!(!error.contains("hunter2"));
    }
}
