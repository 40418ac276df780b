//! Attacks by size: paths, headers, forms and bodies.

use super::*;

#[test]
fn long_paths_headers_and_forms_are_refused() {
    let fixture = Fixture::new();
    let long = |length: usize| {
        format!(
            "GET /v2/_catalog?x={}",
            "x".repeat(length - "/v2/_catalog?x=".len())
        )
    };
    assert_eq!(fixture.status(&by("", &long(8 * 1024))), 200);
    for user in ["", "mallory"] {
        let answer = fixture.ask(&by(user, &long(8 * 1024 + 1)));
        assert_eq!(answer.status, 414);
        assert!(answer.body.len() < 1_000, "it is not echoed");
        fixture.is_untouched("a long path");
    }
    let header = |length: usize| {
        let request = by("mallory", "GET /v2/public/app/manifests/v1");
        request.header("if-none-match", "x".repeat(length))
    };
    assert_eq!(fixture.status(&header(16 * 1024)), 200);
    let answer = fixture.ask(&header(16 * 1024 + 1));
    assert_eq!(answer.status, 431);
    assert!(answer.body.len() < 1_000);
    fixture.is_untouched("a long header");
    let bearer = with(&"x".repeat(17 * 1024), "GET /v2/public/app/manifests/v1");
    assert_eq!(fixture.status(&bearer), 431, "before a token is read");
    let form = |length: usize| {
        let form = format!(
            "grant_type=password&username=mallory&password={}&x=",
            word("mallory")
        );
        by("", "POST /v2/_strata/token")
            .header("content-type", "application/x-www-form-urlencoded")
            .stream(format!("{form}{}", "x".repeat(length - form.len())))
    };
    assert_eq!(fixture.status(&form(64 * 1024)), 200);
    let derived = fixture.host.derived.get();
    assert_eq!(fixture.status(&form(64 * 1024 + 1)), 413);
    assert_eq!(fixture.host.derived.get(), derived);
}

fn push(user: &str, bytes: &[u8], named: &[u8]) -> Ask {
    by(
        user,
        &format!("POST /v2/drop/app/blobs/uploads/?digest={}", digest(named)),
    )
    .body(bytes)
}

#[test]
fn concurrent_bodies_of_one_user_are_limited() {
    let fixture = Fixture::set(&[("STRATA_UPLOADS", "2")]);
    let requests = [
        push("mallory", b"one", b"one"),
        push("mallory", b"two", b"two"),
        push("mallory", b"six", b"six"),
        push("ci", b"ten", b"ten"),
        by("mallory", "GET /v2/public/app/manifests/v1"),
    ];
    let asked = requests
        .iter()
        .map(|request| ask_now(&fixture.registry, request));
    let answers = block_on(futures_util::future::join_all(asked));
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(
        statuses,
        [201, 201, 429, 201, 200],
        "others, and what has no body, are not concerned"
    );
    assert_eq!(answers[2].header("retry-after"), Some("5"));
    assert!(!fixture.keys("blobs/").contains(&key::blob(&digest(b"six"))));
    let started = fixture
        .operations
        .borrow()
        .iter()
        .any(|operation| operation.contains(digest(b"six").encoded()));
    assert!(!started, "what is refused is not begun");
}

#[test]
fn body_limits_are_released_however_a_request_ends() {
    let fixture = Fixture::set(&[("STRATA_UPLOADS", "1")]);
    for _ in 0..3 {
        assert_eq!(fixture.status(&push("mallory", b"one", b"one")), 201);
        assert_eq!(fixture.status(&push("mallory", b"one", b"other")), 400);
        assert_eq!(
            fixture.status(&push("mallory", b"one", b"one").header("content-length", "nine")),
            400
        );
        assert_eq!(
            fixture.status(&by("mallory", "PUT /v2/mallory/app/manifests/v1").stream("{")),
            400
        );
        assert_eq!(
            fixture.status(&by("mallory", "PUT /v2/private/app/manifests/v1").stream("{")),
            403
        );
        // A client that disconnects in the middle.
        let request = push("mallory", b"two", b"two");
        let gone = ask_now(&fixture.registry, &request).now_or_never();
        assert!(gone.is_none(), "it was under way");
    }
    assert_eq!(fixture.status(&push("mallory", b"two", b"two")), 201);
}
