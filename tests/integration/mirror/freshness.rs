//! When a mirror asks an upstream again: after an invalidation, and while the upstream allows no
//! more pulls.

use std::{cell::Cell, rc::Rc, time::Duration};

use http::Method;
use serde_json::json;
use strata::{
    host::{Ask as Asked, FetchError},
    manifest::OCI_MANIFEST,
};
use strata_support::{
    Answer, Ask, TestRegistry, ask, image,
    mirrors::{Mirrors, Said, get, json_of, says, target, text},
    registry_on,
    watched::Watched,
};

const V1: &str = "/v2/up.example/team/app/manifests/v1";
const V2: &str = "/v2/up.example/team/app/manifests/v2";
const HEAD_V1: &str = "HEAD /v2/team/app/manifests/v1";
const GET_V1: &str = "GET /v2/team/app/manifests/v1";

/// The version of the image that the tags of an upstream name; 0 if they are absent.
type Version = Rc<Cell<u32>>;

fn version(number: u32) -> Vec<u8> {
    let mut image = image();
    image["annotations"] = json!({ "version": number.to_string() });
    image.to_string().into_bytes()
}

fn manifests(of: &Version) -> impl FnMut(&Asked) -> Said + 'static {
    let of = of.clone();
    move |question| {
        if of.get() == 0 || !target(question).contains("/manifests/v") {
            return says(404, &[], "{}");
        }
        let bytes = version(of.get());
        let digest = strata_support::digest(&bytes).to_string();
        let headers = [
            ("content-type", OCI_MANIFEST),
            ("docker-content-digest", &digest),
        ];
        says(200, &headers, bytes)
    }
}

fn world() -> (Mirrors, Version) {
    let named = Rc::new(Cell::new(1));
    (Mirrors::of(manifests(&named)), named)
}

fn invalidate(mirror: &TestRegistry<Watched>, path: &str) -> Answer {
    ask(mirror, &Ask::new(&format!("POST {path}")))
}

const TAG_V1: &str = "/v2/up.example/team/app/_strata/invalidate?tag=v1";
const ALL: &str = "/v2/up.example/team/app/_strata/invalidate";

#[test]
fn an_invalidated_tag_is_revalidated_by_every_isolate() {
    for (settings, path) in [
        (json!({}), TAG_V1),
        (json!({}), ALL),
        (json!({ "immutable": ["v*"] }), TAG_V1),
        (
            json!({ "default": true, "repositories": ["team/*"] }),
            "/v2/team/app/_strata/invalidate?ns=up.example",
        ),
    ] {
        let (mirrors, named) = world();
        let (one, two) = (mirrors.mirror(&settings), mirrors.mirror(&settings));
        for mirror in [&one, &two] {
            assert_eq!(get(mirror, V1).body, version(1));
        }
        named.set(2);
        mirrors.asked();
        for mirror in [&one, &two] {
            assert_eq!(get(mirror, V1).body, version(1), "it is fresh");
        }
        assert!(mirrors.asked().is_empty());
        let answer = invalidate(&one, path);
        assert_eq!(answer.status, 202, "{}", text(&answer));
        let expected = json!({ "name": "up.example/team/app", "invalidated": 1 });
        assert_eq!(json_of(&answer), expected);
        assert!(mirrors.asked().is_empty());
        // The other isolate sees the invalidation, and both see that the upstream was asked again.
        for mirror in [&two, &one, &two] {
            let answer = get(mirror, V1);
            assert_eq!(answer.body, version(2), "{path}");
            assert_eq!(answer.header("x-strata-stale"), None);
        }
        assert_eq!(mirrors.asked(), [HEAD_V1, GET_V1]);
        let told = mirrors.host.told.borrow().join("\n");
        let mut lines = told.lines().filter(|line| line.starts_with("audit"));
        let line = lines.next().unwrap();
        assert!(line.contains(r#"("what", "invalidate")"#), "{line}");
    }
}

#[test]
fn invalidating_a_tag_leaves_other_tags_fresh() {
    let (mirrors, _) = world();
    let mirror = mirrors.mirror(&json!({}));
    get(&mirror, V1);
    get(&mirror, V2);
    mirrors.asked();
    assert_eq!(json_of(&invalidate(&mirror, TAG_V1))["invalidated"], 1);
    get(&mirror, V2);
    assert!(mirrors.asked().is_empty());
    get(&mirror, V1);
    assert_eq!(mirrors.asked(), [HEAD_V1]);
    assert_eq!(json_of(&invalidate(&mirror, ALL))["invalidated"], 2);
    for _ in 0..2 {
        get(&mirror, V1);
        get(&mirror, V2);
    }
    assert_eq!(mirrors.asked().len(), 2);
}

/// An answer of the upstream from before the invalidation is not cached after it.
#[test]
fn an_answer_under_way_does_not_outlive_an_invalidation() {
    for is_first in [true, false] {
        let (mirrors, named) = world();
        let settings = json!({ "fresh_seconds": 60 });
        let [one, two] = [(); 2].map(|()| Rc::new(mirrors.mirror(&settings)));
        get(&one, V1);
        mirrors.host.pass(Duration::from_secs(60));
        named.set(2);
        let other = if is_first { one.clone() } else { two.clone() };
        let (mut upstream, moved, asked) = (manifests(&named), named.clone(), Cell::new(0));
        mirrors.answers(move |question| {
            let said = upstream(question);
            asked.set(asked.get() + 1);
            if asked.get() == 2 {
                assert_eq!(question.method, Method::GET);
                assert_eq!(invalidate(&other, TAG_V1).status, 202);
                moved.set(3);
            }
            said
        });
        assert_eq!(get(&one, V1).body, version(2), "it asked before");
        assert_eq!(get(&one, V1).body, version(3));
        assert_eq!(get(&two, V1).body, version(3));
    }
}

#[test]
fn an_invalidation_clears_cached_absences_and_failures() {
    let (mirrors, named) = world();
    let mirror = mirrors.mirror(&json!({}));
    named.set(0);
    assert_eq!(get(&mirror, V1).status, 404);
    named.set(1);
    assert_eq!(get(&mirror, V1).status, 404, "it is believed for a while");
    assert_eq!(mirrors.asked(), [GET_V1]);
    assert_eq!(json_of(&invalidate(&mirror, TAG_V1))["invalidated"], 0);
    assert_eq!(get(&mirror, V1).status, 200);
    // An invalidation clears a cached failure too, but not a back-off that the upstream requested.
    for (said, is_asked) in [(None, true), (Some(429), false)] {
        mirrors.answers(move |_| match said {
            Some(status) => says(status, &[], ""),
            None => Err(FetchError::Late),
        });
        invalidate(&mirror, TAG_V1);
        let stale = get(&mirror, V1);
        assert_eq!((stale.status, &stale.body), (200, &version(1)));
        assert!(stale.header("x-strata-stale").is_some());
        mirrors.answers(manifests(&named));
        mirrors.asked();
        get(&mirror, V1);
        assert!(mirrors.asked().is_empty(), "it is left alone");
        invalidate(&mirror, TAG_V1);
        get(&mirror, V1);
        assert_eq!(!mirrors.asked().is_empty(), is_asked, "{said:?}");
    }
}

#[test]
fn invalidating_more_tags_than_a_request_may_write_is_refused() {
    let (mirrors, named) = world();
    let settings = [
        ("STRATA_UPSTREAMS", r#"[{"name":"up.example"}]"#),
        ("STRATA_SUBREQUESTS", "50"),
    ];
    let mirror = registry_on(mirrors.store.clone(), mirrors.host.clone(), &settings);
    let pull = |number: u32| get(&mirror, &format!("{V1}.{number}")).body;
    for number in 0..40 {
        assert_eq!(pull(number), version(1));
    }
    named.set(2);
    assert_eq!(json_of(&invalidate(&mirror, ALL))["invalidated"], 40);
    for number in 0..41 {
        assert_eq!(pull(number), version(2));
    }
    named.set(3);
    mirrors.asked();
    let refused = invalidate(&mirror, ALL);
    assert_eq!(refused.status, 413);
    let why = text(&refused);
    assert!(
        why.contains("41 tags of up.example/team/app are stored")
            && why.contains("a request 50 operations: select one by `tag`"),
        "{why}"
    );
    assert_eq!(pull(0), version(2), "it is as fresh as it was");
    assert!(mirrors.asked().is_empty());
    let one = invalidate(&mirror, &format!("{TAG_V1}.0"));
    assert_eq!(
        (one.status, pull(0), pull(1)),
        (202, version(3), version(2))
    );
}

#[test]
fn invalidating_an_unmirrored_repository_is_refused() {
    let (mirrors, _) = world();
    let mirror = mirrors.mirror(&json!({}));
    let answer = invalidate(&mirror, "/v2/own/app/_strata/invalidate");
    assert_eq!(answer.status, 404);
    assert!(
        text(&answer).contains("own/app is not mirrored"),
        "{}",
        text(&answer)
    );
    let wrong = ask(&mirror, &Ask::new(&format!("GET {ALL}")));
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("POST")));
}

/// Docker Hub states how many pulls it has left for the mirror. After the last one it gets only
/// `HEAD` requests, and no pulls.
#[test]
fn an_upstream_without_pulls_left_is_not_pulled_from() {
    for (retry_after, rest) in [(None, 60), (Some("10"), 10)] {
        let named = Rc::new(Cell::new(1));
        let left = Rc::new(Cell::new(2));
        let (mut upstream, counted) = (manifests(&named), left.clone());
        let mirrors = Mirrors::of(move |question| {
            let mut said = upstream(question)?;
            if question.method == Method::GET {
                counted.set(0.max(counted.get() - 1));
            }
            let text = format!("{};w=21600", counted.get());
            let headers = &mut said.headers;
            headers.insert("ratelimit-remaining", text.parse().unwrap());
            if let Some(retry_after) = retry_after {
                headers.insert("retry-after", retry_after.parse().unwrap());
            }
            Ok(said)
        });
        let mirror = mirrors.mirror(&json!({ "fresh_seconds": 1 }));
        assert_eq!(get(&mirror, V1).body, version(1));
        named.set(2);
        mirrors.host.pass(Duration::from_secs(1));
        // The last pull is used.
        assert_eq!(get(&mirror, V1).body, version(2));
        mirrors.asked();
        named.set(3);
        mirrors.host.pass(Duration::from_millis(1_000));
        let stale = get(&mirror, V1);
        assert_eq!(stale.body, version(2));
        assert_eq!(stale.header("x-strata-stale"), Some("limited"));
        assert_eq!(mirrors.asked(), [HEAD_V1], "a look is free");
        let refused = get(&mirror, V2);
        let expected = Some(rest.to_string());
        assert_eq!(
            (refused.status, refused.header("retry-after")),
            (429, expected.as_deref())
        );
        assert!(text(&refused).contains("its pull limit is used up"));
        assert!(mirrors.asked().is_empty());
        // After the time has passed, a pull is tried.
        mirrors.host.pass(Duration::from_secs(rest));
        assert_eq!(get(&mirror, V2).status, 200);
        assert_eq!(mirrors.asked().len(), 1);
        // Also after a `HEAD` states that pulls are left again.
        assert_eq!(get(&mirror, V1).header("x-strata-stale"), Some("limited"));
        left.set(100);
        mirrors.host.pass(Duration::from_secs(1));
        assert_eq!(get(&mirror, V1).body, version(3));
    }
}
