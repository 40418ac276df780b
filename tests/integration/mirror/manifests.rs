//! Manifests and tags of an upstream: when they are fetched again.

use super::*;

#[test]
fn a_mirrored_manifest_is_fetched_once() {
    let world = World::new();
    let mirror = world.mirror(&json!({}));
    let expected = image().to_string().into_bytes();
    let first = get(&mirror, "/v2/up.example/team/app/manifests/v1");
    assert_eq!(
        (first.status, &first.body),
        (200, &expected),
        "{}",
        text(&first)
    );
    assert_eq!(first.header("x-strata-tier"), Some("upstream"));
    assert_eq!(first.header("content-type"), Some(OCI_MANIFEST));
    assert_eq!(world.asked(), ["GET /v2/team/app/manifests/v1 200"]);
    // By tag and by digest, from this isolate and from another one.
    let by_digest = format!("/v2/up.example/team/app/manifests/{}", digest(&expected));
    for registry in [mirror, world.mirror(&json!({}))] {
        for path in ["/v2/up.example/team/app/manifests/v1", by_digest.as_str()] {
            let again = get(&registry, path);
            assert_eq!((again.status, &again.body), (200, &expected));
            assert_ne!(again.header("x-strata-tier"), Some("upstream"));
        }
    }
    assert!(world.asked().is_empty());
}

#[test]
fn every_name_of_a_mirrored_manifest_leads_to_one_fetch() {
    let world = World::new();
    let settings = json!({ "default": true, "aliases": ["alias.example:5000"] });
    let mirror = world.mirror(&settings);
    let expected = image().to_string().into_bytes();
    for (path, namespace) in [
        (
            "/v2/team/app/manifests/v1?ns=up.example",
            Some("up.example"),
        ),
        (
            "/v2/team/app/manifests/v1?ns=alias.example:5000",
            Some("alias.example:5000"),
        ),
        ("/v2/up.example/team/app/manifests/v1", None),
        (
            "/v2/up.example/team/app/manifests/v1?ns=up.example",
            Some("up.example"),
        ),
        ("/v2/team/app/manifests/v1", None),
    ] {
        let answer = get(&mirror, path);
        assert_eq!((answer.status, &answer.body), (200, &expected), "{path}");
        assert_eq!(answer.header("oci-namespace"), namespace, "{path}");
    }
    assert_eq!(world.asked(), ["GET /v2/team/app/manifests/v1 200"]);
    let answer = get(&mirror, "/v2/team/app/manifests/v1?ns=other.example");
    assert_eq!(answer.status, 404);
    assert!(
        text(&answer).contains("this mirror has no upstream \\\"other.example\\\""),
        "{}",
        text(&answer)
    );
    assert!(world.asked().is_empty());
}

#[test]
fn any_namespace_is_accepted_without_a_repository() {
    let mirror = World::new().mirror(&json!({}));
    for (namespace, expected) in [("up.example", Some("up.example")), ("%0A", None)] {
        let answer = get(&mirror, &format!("/v2/?ns={namespace}"));
        assert_eq!(answer.status, 200, "{namespace}");
        assert_eq!(answer.header("oci-namespace"), expected, "{namespace}");
    }
}

#[test]
fn a_moved_tag_is_seen_once_its_freshness_expires() {
    let world = World::new();
    let mirror = world.mirror(&json!({ "fresh_seconds": 60 }));
    let path = "/v2/up.example/team/app/manifests/v1";
    let before = get(&mirror, path).body;
    let after = world.move_tag();
    world.asked();
    world.host.pass(Duration::from_millis(59_999));
    assert_eq!(get(&mirror, path).body, before);
    assert!(world.asked().is_empty());
    world.host.pass(Duration::from_millis(1));
    assert_eq!(get(&mirror, path).body, after);
    assert_eq!(
        world.asked(),
        [
            "HEAD /v2/team/app/manifests/v1 200",
            "GET /v2/team/app/manifests/v1 200"
        ]
    );
    // An unchanged tag costs a `HEAD`, and then nothing for the same time; other isolates see it
    // too.
    world.host.pass(Duration::from_secs(60));
    for _ in 0..3 {
        assert_eq!(get(&mirror, path).body, after);
        assert_eq!(
            get(&world.mirror(&json!({ "fresh_seconds": 60 })), path).body,
            after
        );
    }
    assert_eq!(world.asked(), ["HEAD /v2/team/app/manifests/v1 304"]);
    // An immutable tag is not requested again.
    let immutable = world.mirror(&json!({ "fresh_seconds": 60, "immutable": ["v*"] }));
    world.host.pass(Duration::from_secs(3_600));
    assert_eq!(get(&immutable, path).body, after);
    assert!(world.asked().is_empty());
}

/// Not every upstream answers 304 for an unchanged manifest.
#[test]
fn an_unchanged_tag_may_be_answered_304_without_a_digest() {
    let world = World::new();
    let mirror = world.mirror(&json!({ "fresh_seconds": 1 }));
    let path = "/v2/up.example/team/app/manifests/v1";
    let before = get(&mirror, path).body;
    world.asked();
    world.host.pass(Duration::from_secs(1));
    world.weather(|_| says(304, &[], ""));
    assert_eq!(get(&mirror, path).body, before);
    assert_eq!(world.asked(), ["HEAD /v2/team/app/manifests/v1 304"]);
}
