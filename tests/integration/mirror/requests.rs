//! Requests to an upstream: sign-in, redirections, rate limits and retries.

use super::*;

#[test]
fn stored_manifests_are_served_during_an_upstream_outage() {
    let path = "/v2/up.example/team/app/manifests/v1";
    for (what, reason, status, code) in [
        (Err(FetchError::Late), "late", 504, "UNAVAILABLE"),
        (
            Err(FetchError::Failed("refused".to_owned())),
            "failed",
            502,
            "UNAVAILABLE",
        ),
        (Ok(500), "failed", 502, "UNAVAILABLE"),
        (Ok(503), "failed", 502, "UNAVAILABLE"),
        (Ok(429), "limited", 429, "TOOMANYREQUESTS"),
        (Ok(401), "refused", 403, "DENIED"),
        (Ok(403), "refused", 403, "DENIED"),
        (Ok(404), "gone", 404, "MANIFEST_UNKNOWN"),
    ] {
        let world = World::new();
        let full = world.mirror(&json!({ "fresh_seconds": 1 }));
        let stored = get(&full, path).body;
        let outage = what.clone();
        world.weather(move |_| match &outage {
            Ok(status) => says(
                *status,
                &[],
                r#"{"errors": [{"code": "X", "message": "so it says"}]}"#,
            ),
            Err(error) => Some(Err(error.clone())),
        });
        world.host.pass(Duration::from_secs(1));
        let answer = get(&full, path);
        if reason == "gone" {
            assert_eq!(answer.status, 404, "gone is gone");
            let serving = world.mirror(&json!({ "fresh_seconds": 1, "gone": "serve" }));
            let answer = get(&serving, path);
            assert_eq!(
                (answer.status, answer.header("x-strata-stale")),
                (200, Some("gone"))
            );
        } else {
            assert_eq!((answer.status, &answer.body), (200, &stored), "{what:?}");
            assert_eq!(answer.header("x-strata-stale"), Some(reason));
            assert_eq!(
                answer.header("warning"),
                Some("110 strata \"Response is Stale\"")
            );
        }
        // A manifest by digest cannot change, so the upstream is not asked.
        world.asked();
        let by_digest = format!("/v2/up.example/team/app/manifests/{}", digest(&stored));
        assert_eq!(get(&world.mirror(&json!({})), &by_digest).status, 200);
        assert!(world.asked().is_empty());
        // A manifest that was never fetched cannot be served.
        let answer = get(
            &world.mirror(&json!({})),
            "/v2/up.example/team/app/manifests/v2",
        );
        assert_eq!(answer.status, status, "{what:?}: {}", text(&answer));
        assert!(text(&answer).contains(code), "{}", text(&answer));
        if what.is_ok() {
            assert!(text(&answer).contains("so it says"), "{}", text(&answer));
        }
        assert_eq!(
            answer.header("retry-after").is_some(),
            matches!(status, 429 | 502 | 504)
        );
    }
}

#[test]
fn an_upstream_that_rate_limits_is_not_asked_until_retry_after() {
    let world = World::new();
    let mirror = world.mirror(&json!({ "fresh_seconds": 1 }));
    let path = "/v2/up.example/team/app/manifests/v1";
    get(&mirror, path);
    world.host.pass(Duration::from_secs(1));
    world.weather(|_| says(429, &[("retry-after", "30")], ""));
    assert_eq!(get(&mirror, path).header("x-strata-stale"), Some("limited"));
    assert_eq!(world.asked().len(), 2);
    world.weather(|_| None);
    world.host.pass(Duration::from_millis(29_999));
    assert_eq!(get(&mirror, path).header("x-strata-stale"), Some("limited"));
    let other = get(&mirror, "/v2/up.example/team/app/manifests/v2");
    assert_eq!(
        (other.status, other.header("retry-after")),
        (429, Some("1"))
    );
    assert!(world.asked().is_empty());
    world.host.pass(Duration::from_millis(1));
    assert_eq!(get(&mirror, path).header("x-strata-stale"), None);
    assert_eq!(world.asked(), ["HEAD /v2/team/app/manifests/v1 304"]);
}

/// Concurrent requests for one object wait once for an upstream that does not answer.
#[test]
fn an_unreachable_upstream_is_not_asked_again_for_a_moment() {
    let world = World::new();
    let mirror = world.mirror(&json!({ "fresh_seconds": 1 }));
    let path = "/v2/up.example/team/app/manifests/v1";
    get(&mirror, path);
    world.asked();
    world.host.pass(Duration::from_secs(1));
    world.weather(|_| Some(Err(FetchError::Late)));
    for _ in 0..10 {
        assert_eq!(get(&mirror, path).header("x-strata-stale"), Some("late"));
        assert_eq!(
            get(&mirror, "/v2/up.example/team/app/manifests/v2").status,
            504
        );
    }
    assert_eq!(world.asked(), ["HEAD /v2/team/app/manifests/v1 Late"]);
    world.weather(|_| None);
    world.host.pass(Duration::from_secs(3));
    assert_eq!(get(&mirror, path).header("x-strata-stale"), None);
}

/// A kept-alive connection may be closed by the other side while it is used, so a request is sent
/// twice before it fails.
#[test]
fn a_lost_connection_is_retried_once() {
    for (lost, asked, status) in [(0, 1, 200), (1, 2, 200), (2, 2, 502)] {
        let world = World::new();
        let mut left = lost;
        world.weather(move |_| {
            left -= 1;
            (left >= 0).then(|| Err(FetchError::Failed("reset".to_owned())))
        });
        let answer = get(
            &world.mirror(&json!({})),
            "/v2/up.example/team/app/manifests/v1",
        );
        assert_eq!(answer.status, status, "{lost} lost");
        assert_eq!(world.asked().len(), asked, "{lost} lost");
    }
}

/// An upstream with users, which issues tokens.
#[test]
fn the_mirror_signs_in_to_an_upstream_that_requires_it() {
    let users = strata_support::settings_of(&[]);
    assert!(users.access.is_configured());
    let world = World::with(&[]);
    let credentials = r#"{"up.example": {"user": "dev", "password": "secret"}}"#;
    // Its tokens come from another host than its own.
    let auth = json!({ "auth": ["up.example"] });
    let mirror = world.mirror_with(&auth, &[("STRATA_UPSTREAM_CREDENTIALS", credentials)]);
    let path = "/v2/up.example/team/app/manifests/v1";
    assert_eq!(get(&mirror, path).status, 200);
    assert_eq!(
        world.asked(),
        [
            "GET /v2/team/app/manifests/v1 401",
            "GET /v2/_strata/token 200",
            "GET /v2/team/app/manifests/v1 200"
        ]
    );
    // The token is valid for a while; then another one is requested.
    let other = "/v2/up.example/team/app/manifests/v2";
    assert_eq!(get(&mirror, other).status, 404);
    assert_eq!(world.asked(), ["GET /v2/team/app/manifests/v2 404"]);
    world.host.pass(Duration::from_secs(290));
    assert_eq!(get(&mirror, other).status, 404);
    assert_eq!(
        world.asked(),
        [
            "GET /v2/team/app/manifests/v2 401",
            "GET /v2/_strata/token 200",
            "GET /v2/team/app/manifests/v2 404"
        ]
    );
    // Without credentials, or with wrong ones, the upstream refuses: that is not a 404, and causes
    // no loop.
    for credentials in [
        "",
        r#"{"up.example": {"user": "dev", "password": "wrong"}}"#,
    ] {
        let mirror = world.mirror_with(&auth, &[("STRATA_UPSTREAM_CREDENTIALS", credentials)]);
        let answer = get(&mirror, other);
        assert_eq!(answer.status, 403, "{}", text(&answer));
        assert_eq!(world.asked().len(), 2);
    }
}

/// The hosts to which an upstream may redirect for a blob, and the headers that they get.
#[test]
fn redirections_are_followed_as_configured() {
    let settings = json!({ "redirects": ["cdn.example", "*.blobs.example"] });
    let credentials = r#"{"up.example": {"user": "dev", "password": "secret"}}"#;
    for (location, followed) in [
        ("https://cdn.example/blob?signature=1", true),
        ("https://a.blobs.example/blob", true),
        ("/elsewhere", true),
        ("//cdn.example/blob", true),
        ("https://other.example/blob", false),
        ("http://cdn.example/blob", false),
        ("https://127.0.0.1/blob", false),
        ("https://169.254.169.254/latest/meta-data", false),
        ("https://localhost/blob", false),
        ("https://cdn.example@other.example/blob", false),
        ("ftp://cdn.example/blob", false),
        ("", false),
    ] {
        let world = World::new();
        let mirror = world.mirror_with(&settings, &[("STRATA_UPSTREAM_CREDENTIALS", credentials)]);
        let seen = Rc::<RefCell<Vec<(String, bool)>>>::default();
        let (written, target) = (seen.clone(), location.to_owned());
        world.weather(move |question| {
            let is_signed = question.headers.contains_key("authorization");
            written.borrow_mut().push((question.url.clone(), is_signed));
            if !question.url.starts_with(ORIGIN) || question.url.ends_with("/elsewhere") {
                return says(200, &[("content-length", "10")], "0123456789");
            }
            if is_signed {
                return says(307, &[("location", &target)], "");
            }
            says(401, &[("www-authenticate", "Basic realm=\"x\"")], "")
        });
        let answer = get(&mirror, &blob(LAYER));
        let last = seen.borrow().last().cloned().unwrap();
        if followed {
            assert_eq!(
                (answer.status, answer.body.as_slice()),
                (200, LAYER),
                "{location}"
            );
            assert_eq!(
                last.1,
                last.0.starts_with(ORIGIN),
                "credentials go to {last:?}"
            );
        } else {
            assert_eq!(answer.status, 502, "{location}");
            assert!(
                text(&answer).contains("`redirects` in its settings"),
                "{}",
                text(&answer)
            );
            assert!(last.0.starts_with(ORIGIN), "{last:?}");
        }
        assert!(!text(&answer).contains("signature"), "{}", text(&answer));
    }
    // Redirections without end.
    let world = World::new();
    world.weather(|_| says(302, &[("location", "/again")], ""));
    let answer = get(&world.mirror(&json!({})), &blob(LAYER));
    assert_eq!((answer.status, world.asked().len()), (502, 6));
}
