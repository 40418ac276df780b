//! A registry in front of another one: what it asks it for, what it serves without, and what it says when that one fails.

use std::{cell::RefCell, pin::pin, rc::Rc, sync::LazyLock, time::Duration};

use futures_util::{
    StreamExt as _,
    future::{Either, join, join_all, select},
    stream::{self, LocalBoxStream},
};
use http::{HeaderMap, HeaderValue, StatusCode};
use pollster::block_on;
use serde_json::{Value, json};
use strata::{
    host::{Ask as Asked, FetchError, Reply},
    manifest::OCI_MANIFEST,
    registry::{Body, Request},
    store::{
        Bytes as _, StoreError,
        after::After,
        memory::{MadeItems, Memory, MemoryBody, MemoryBytes},
    },
};
use strata_support::{
    Ask, CONFIG, LAYER, TestHost, TestRegistry, ask, digest, image, key,
    mirrors::{self, Said, answer, get, target, text, watched},
    registry_on,
    watched::{Verdict, Watched},
};

mod bounds;
mod freshness;
mod lists;
mod most_bytes;
mod mounts;
mod unknown_length;

/// What happens to a request on its way to the upstream: `None` lets it pass.
type Weather = Rc<RefCell<Box<dyn FnMut(&Asked) -> Option<Said>>>>;

/// A registry, and what is in front of it.
struct World {
    upstream: Rc<TestRegistry<Watched>>,
    host: TestHost,
    store: Watched,
    /// What was asked of the upstream, and what it answered.
    asked: Rc<RefCell<Vec<String>>>,
    weather: Weather,
}

const ORIGIN: &str = "https://registry.example";

impl World {
    /// An upstream that everyone may pull from, with an image as `team/app:v1`.
    fn new() -> Self {
        Self::with(&[("STRATA_ANONYMOUS_PULL", "true"), ("STRATA_USERS", " ")])
    }

    /// The same, where the upstream has these settings.
    fn with(settings: &[(&str, &str)]) -> Self {
        let rules = r#"[{"repositories": ["**"], "who": ["everyone"], "may": ["pull", "push"]}]"#;
        let memory = watched();
        let upstream_host = TestHost::default();
        let filler = registry_on(
            memory.clone(),
            upstream_host.clone(),
            &[("STRATA_RULES", rules)],
        );
        push(&filler, "v1", &image());
        let upstream = Rc::new(registry_on(memory, upstream_host, settings));
        let (host, asked) = (TestHost::default(), Rc::<RefCell<Vec<String>>>::default());
        let weather: Weather = Rc::new(RefCell::new(Box::new(|_| None)));
        let (behind, written, sky) = (upstream.clone(), asked.clone(), weather.clone());
        host.serve(move |question| {
            let weather = (sky.borrow_mut())(question);
            let reply = weather.unwrap_or_else(|| answer(&behind, question));
            let outcome = match &reply {
                Ok(reply) => reply.status.as_u16().to_string(),
                Err(error) => format!("{error:?}"),
            };
            let path = target(question).split('?').next().unwrap();
            let line = format!("{} {path} {outcome}", question.method);
            written
                .borrow_mut()
                .push(line.replace(&digest(image().to_string().as_bytes()).to_string(), "IMAGE"));
            reply
        });
        Self {
            upstream,
            host,
            store: watched(),
            asked,
            weather,
        }
    }

    /// A mirror that has just started.
    fn mirror(&self, upstream: &Value) -> TestRegistry<Watched> {
        self.mirror_with(upstream, &[])
    }

    fn mirror_with(&self, upstream: &Value, settings: &[(&str, &str)]) -> TestRegistry<Watched> {
        let mut all = json!({ "name": "up.example", "address": ORIGIN });
        for (key, value) in upstream.as_object().unwrap() {
            all[key] = value.clone();
        }
        let all = json!([all]).to_string();
        let settings = [&[("STRATA_UPSTREAMS", all.as_str())], settings].concat();
        registry_on(self.store.clone(), self.host.clone(), &settings)
    }

    /// What was asked of the upstream since this was last looked at.
    fn asked(&self) -> Vec<String> {
        self.asked.take()
    }

    fn weather(&self, weather: impl FnMut(&Asked) -> Option<Said> + 'static) {
        *self.weather.borrow_mut() = Box::new(weather);
    }

    /// Moves the tag `v1` of the upstream, and says to what.
    fn move_tag(&self) -> Vec<u8> {
        let mut other = image();
        other["annotations"] = json!({ "moved": "yes" });
        let rules = r#"[{"repositories": ["**"], "who": ["everyone"], "may": ["pull", "push", "overwrite"]}]"#;
        let filler = registry_on(
            self.upstream.store().clone(),
            TestHost::default(),
            &[("STRATA_RULES", rules)],
        );
        push(&filler, "v1", &other);
        other.to_string().into_bytes()
    }
}

/// Pushes an image as `team/app`.
fn push(registry: &TestRegistry<Watched>, tag: &str, image: &Value) {
    for blob in [LAYER, CONFIG] {
        let line = format!("POST /v2/team/app/blobs/uploads/?digest={}", digest(blob));
        assert_eq!(ask(registry, &Ask::new(&line).body(blob)).status, 201);
    }
    let line = Ask::new(&format!("PUT /v2/team/app/manifests/{tag}"));
    let answer = ask(registry, &line.manifest(OCI_MANIFEST, image));
    assert_eq!(
        answer.status,
        201,
        "{}",
        String::from_utf8_lossy(&answer.body)
    );
}

fn says(status: u16, headers: &[(&'static str, &str)], body: &str) -> Option<Said> {
    Some(mirrors::says(status, headers, body))
}

#[test]
fn a_manifest_is_asked_for_once() {
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
fn every_way_to_ask_means_the_same() {
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
        text(&answer).contains("\\\"other.example\\\" is no upstream of this mirror"),
        "{}",
        text(&answer)
    );
    assert!(world.asked().is_empty());
}

#[test]
fn a_tag_that_moved_is_seen_when_it_is_no_more_fresh() {
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
    // What did not move costs a look, and then nothing for as long again; other isolates see it too.
    world.host.pass(Duration::from_secs(60));
    for _ in 0..3 {
        assert_eq!(get(&mirror, path).body, after);
        assert_eq!(
            get(&world.mirror(&json!({ "fresh_seconds": 60 })), path).body,
            after
        );
    }
    assert_eq!(world.asked(), ["HEAD /v2/team/app/manifests/v1 304"]);
    // A tag that never moves is not asked for.
    let immutable = world.mirror(&json!({ "fresh_seconds": 60, "immutable": ["v*"] }));
    world.host.pass(Duration::from_secs(3_600));
    assert_eq!(get(&immutable, path).body, after);
    assert!(world.asked().is_empty());
}

/// Not every upstream says with a 304 what has not changed.
#[test]
fn a_tag_that_did_not_move_needs_no_digest() {
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

#[test]
fn what_is_stored_is_served_while_the_upstream_is_not_there() {
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
        // By its digest it is what it was, and nobody is asked.
        world.asked();
        let by_digest = format!("/v2/up.example/team/app/manifests/{}", digest(&stored));
        assert_eq!(get(&world.mirror(&json!({})), &by_digest).status, 200);
        assert!(world.asked().is_empty());
        // What was never seen can't be served.
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
fn an_upstream_that_asks_for_fewer_requests_is_left_alone() {
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

/// Many who want to know the same wait once for an upstream that does not answer.
#[test]
fn an_upstream_that_is_not_there_is_left_alone_for_a_moment() {
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

/// A connection that was kept may be closed by the other side as it is used: a question is asked twice before it has failed.
#[test]
fn a_connection_that_is_lost_is_tried_once_more() {
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

/// An upstream with users, which gives tokens.
#[test]
fn signs_in_where_it_has_to() {
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
    // The token is good for a while, and then another one is asked for.
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
    // Without credentials, or with wrong ones, it is refused: that is no 404, and no loop.
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

#[test]
fn nothing_wrong_is_stored() {
    let path = "/v2/up.example/team/app/manifests/v1";
    let right = image().to_string();
    let announced = digest(right.as_bytes()).to_string();
    let other = right.replace("schemaVersion", "schemaversion");
    for (headers, body, found) in [
        (
            &[
                ("content-type", OCI_MANIFEST),
                ("docker-content-digest", announced.as_str()),
            ][..],
            other.as_str(),
            "its bytes have the digest",
        ),
        (&[("content-type", OCI_MANIFEST)], "{", "manifest v1"),
        (&[("content-type", "text/html")], "<html>", "manifest v1"),
        (
            &[("content-type", OCI_MANIFEST)],
            &"x".repeat(4 * 1024 * 1024 + 1),
            "larger than 4194304 bytes",
        ),
    ] {
        let world = World::new();
        let mirror = world.mirror(&json!({}));
        let (headers, body) = (
            headers
                .iter()
                .map(|(name, value)| (*name, (*value).to_owned()))
                .collect::<Vec<_>>(),
            body.to_owned(),
        );
        world.weather(move |_| {
            let headers: Vec<_> = headers
                .iter()
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            says(200, &headers, &body)
        });
        let answer = get(&mirror, path);
        assert_eq!(answer.status, 502, "{}", text(&answer));
        assert!(text(&answer).contains(found), "{}", text(&answer));
        assert!(
            world.store.memory.keys().is_empty(),
            "{:?}",
            world.store.memory.keys()
        );
    }
}

#[test]
fn what_is_mirrored_is_not_pushed_to() {
    let world = World::new();
    let mirror = world.mirror(&json!({ "default": true, "repositories": ["team/**"] }));
    for line in [
        "PUT /v2/up.example/team/app/manifests/v1",
        "PUT /v2/team/app/manifests/v1",
        "POST /v2/up.example/team/app/blobs/uploads/",
        "POST /v2/team/app/blobs/uploads/?ns=up.example",
        "DELETE /v2/up.example/team/app/manifests/v1",
    ] {
        let answer = ask(&mirror, &Ask::new(line).manifest(OCI_MANIFEST, &image()));
        assert_eq!(answer.status, 405, "{line}: {}", text(&answer));
        assert!(
            text(&answer).contains("up.example/team/app is mirrored from up.example"),
            "{}",
            text(&answer)
        );
    }
    assert!(world.asked().is_empty());
    let own = ask(&mirror, &Ask::new("POST /v2/own/app/blobs/uploads/"));
    assert_eq!(own.status, 202);
}

fn blob(bytes: &[u8]) -> String {
    format!("/v2/up.example/team/app/blobs/{}", digest(bytes))
}

#[test]
fn a_blob_is_asked_for_once() {
    let world = World::new();
    let mirror = world.mirror(&json!({}));
    let path = format!("blobs/{}", digest(LAYER));
    // A look asks no more than a look.
    let head = ask(&mirror, &Ask::new(&format!("HEAD {}", blob(LAYER))));
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, Some("10"))
    );
    assert_eq!(world.asked(), [format!("HEAD /v2/team/app/{path} 200")]);
    assert!(world.store.memory.keys().is_empty());
    let first = get(&mirror, &blob(LAYER));
    assert_eq!(
        (first.status, first.body.as_slice()),
        (200, LAYER),
        "{}",
        text(&first)
    );
    assert_eq!(world.asked(), [format!("GET /v2/team/app/{path} 200")]);
    for registry in [mirror, world.mirror(&json!({}))] {
        assert_eq!(get(&registry, &blob(LAYER)).body, LAYER);
        let range = ask(
            &registry,
            &Ask::new(&format!("GET {}", blob(LAYER))).header("range", "bytes=2-4"),
        );
        assert_eq!((range.status, range.body.as_slice()), (206, &b"234"[..]));
    }
    assert!(world.asked().is_empty());
}

#[test]
fn of_many_who_miss_a_blob_one_asks() {
    let world = World::new();
    let mirror = world.mirror(&json!({}));
    let request = Ask::new(&format!("GET {}", blob(LAYER)));
    let all = (0..32).map(|_| strata_support::ask_now(&mirror, &request));
    for answer in block_on(join_all(all)) {
        assert_eq!((answer.status, answer.body.as_slice()), (200, LAYER));
    }
    assert_eq!(world.asked().len(), 1);
}

/// What a repository of this registry's own has is no word of the upstream: its bytes come from
/// there, and are stored once.
#[test]
fn a_blob_that_was_pushed_elsewhere_is_sent_all_the_same() {
    let world = World::new();
    let mirror = world.mirror(&json!({}));
    for bytes in [LAYER, b"of nobody else"] {
        let line = format!("POST /v2/own/blobs/uploads/?digest={}", digest(bytes));
        assert_eq!(ask(&mirror, &Ask::new(&line).body(bytes)).status, 201);
    }
    assert_eq!(get(&mirror, &blob(LAYER)).body, LAYER);
    assert_eq!(
        world.asked(),
        [format!("GET /v2/team/app/blobs/{} 200", digest(LAYER))]
    );
    assert_eq!(world.store.keys("blobs/").len(), 2);
    let answer = get(&mirror, &blob(b"of nobody else"));
    assert_eq!(answer.status, 404, "{}", text(&answer));
}

#[test]
fn nothing_of_a_wrong_blob_is_kept() {
    for (what, body, length) in [
        (
            "another",
            MemoryBody::Bytes(b"012345678X".to_vec()),
            Some("10"),
        ),
        (
            "another without its length",
            MemoryBody::Bytes(b"012345678X".to_vec()),
            None,
        ),
        (
            "a shorter one",
            MemoryBody::Bytes(b"012345678".to_vec()),
            Some("10"),
        ),
        (
            "a longer one",
            MemoryBody::Bytes(b"0123456789X".to_vec()),
            Some("10"),
        ),
        ("none", MemoryBody::Bytes(Vec::new()), Some("0")),
        (
            "one that breaks off",
            MemoryBody::Broken(b"01234".to_vec()),
            Some("10"),
        ),
        (
            "a larger one than allowed",
            MemoryBody::Bytes(LAYER.to_vec()),
            Some("1001"),
        ),
    ] {
        let world = World::new();
        let mirror = world.mirror(&json!({ "most_bytes": 1_000 }));
        let mut body = Some(body);
        world.weather(move |_| {
            let mut headers = HeaderMap::new();
            if let Some(length) = length {
                headers.insert("content-length", HeaderValue::from_static(length));
            }
            let body = body.take();
            body.map(|body| {
                Ok(Reply {
                    status: StatusCode::OK,
                    headers,
                    body: Some(body),
                })
            })
        });
        let answer = get(&mirror, &blob(LAYER));
        assert!(
            matches!(answer.status, 502 | 503),
            "{what}: {}",
            text(&answer)
        );
        let keys = world.store.memory.keys();
        // A claim may stay for a while: it gives no right.
        let has = |part: &str| keys.iter().any(|key| key.contains(part));
        assert!(
            !has("blobs/") && !has("extents/") && !has("/_link"),
            "{what}: {keys:?}"
        );
        // The next one is right.
        assert_eq!(get(&mirror, &blob(LAYER)).body, LAYER, "{what}");
    }
}

/// Where an upstream may send to for a blob, and what it hears there.
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
                text(&answer).contains("`redirects` of its settings"),
                "{}",
                text(&answer)
            );
            assert!(last.0.starts_with(ORIGIN), "{last:?}");
        }
        assert!(!text(&answer).contains("signature"), "{}", text(&answer));
    }
    // Without end.
    let world = World::new();
    world.weather(|_| says(302, &[("location", "/again")], ""));
    let answer = get(&world.mirror(&json!({})), &blob(LAYER));
    assert_eq!((answer.status, world.asked().len()), (502, 6));
}

/// What was fetched for a manifest is whole: files inside of it are found, and its blobs stay as long as it does.
#[test]
fn what_is_mirrored_is_as_if_pushed() {
    let world = World::new();
    let mirror = world.mirror(&json!({}));
    get(&mirror, "/v2/up.example/team/app/manifests/v1");
    get(&mirror, &blob(LAYER));
    get(&mirror, &blob(CONFIG));
    let keys = world.store.memory.keys();
    let with = |part: &str| keys.iter().filter(|key| key.contains(part)).count();
    assert_eq!(with("repositories/up.example/team/app/_manifests/"), 1);
    assert_eq!(with("repositories/up.example/team/app/_tags/v1"), 1);
    assert_eq!(with("catalog/up.example/team/app"), 1);
    assert_eq!(with("/up.example/team/app/_grants/"), 4, "{keys:?}");
    assert_eq!(with("/up.example/team/app/_link"), 2);
    // Without the upstream.
    world.weather(|_| Some(Err(FetchError::Failed("gone".to_owned()))));
    let other = world.mirror(&json!({}));
    assert_eq!(
        get(&other, "/v2/up.example/team/app/manifests/v1").status,
        200
    );
    assert_eq!(get(&other, &blob(LAYER)).body, LAYER);
    let answer = get(&other, "/v2/_catalog");
    let expected = json!({
        "mirrored": { "up.example/team/app": "up.example" },
        "repositories": ["up.example/team/app"],
    });
    assert_eq!(text(&answer), expected.to_string());
}

/// More than is stored before it is served, in more than a few chunks.
fn large() -> Vec<u8> {
    static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let words = (0..2_250_001_u32).flat_map(|n| (n ^ (n >> 11)).to_le_bytes());
        words.take(9_000_001).collect()
    });
    BYTES.clone()
}

/// An upstream that has this as its large blob, item by item, with a turn for others between.
fn serve(world: &World, bytes: &[u8], announced: usize) {
    let bytes = bytes.to_vec();
    let path = format!("/blobs/{}", digest(&large()));
    world.weather(move |question| {
        if !question.url.ends_with(&path) || question.method != "GET" {
            return None;
        }
        let items: Vec<_> = bytes.chunks(100_000).map(<[u8]>::to_vec).collect();
        let items = stream::iter(items).then(async |item| {
            strata_support::host::turn().await;
            Ok(item)
        });
        let mut headers = HeaderMap::new();
        headers.insert("content-length", HeaderValue::from(announced));
        Some(Ok(Reply {
            status: StatusCode::OK,
            headers,
            body: Some(MemoryBody::Made(MadeItems(items.boxed_local()))),
        }))
    });
}

type Begun = (http::response::Parts, MemoryBody, After<MemoryBytes>);

/// A pull whose body is not read yet.
async fn begin(registry: &TestRegistry<Watched>, path: &str) -> Begun {
    let mut headers = HeaderMap::new();
    headers.insert(
        "authorization",
        HeaderValue::from_static("Basic ZGV2OnNlY3JldA=="),
    );
    let request = Request {
        method: http::Method::GET,
        target: path.to_owned(),
        origin: ORIGIN.to_owned(),
        address: String::new(),
        headers,
        body: None,
    };
    let (response, rest) = registry.answer(request).await;
    let (parts, body) = response.into_parts();
    let body = match body {
        Body::Stream(body) => body,
        Body::Empty => MemoryBody::Bytes(Vec::new()),
        Body::Bytes(bytes) => MemoryBody::Bytes(bytes),
        Body::Held(bytes) => MemoryBody::Bytes(bytes.to_vec()),
    };
    (parts, body, rest)
}

/// The items of a body that is made while it is read.
fn items_of(body: MemoryBody) -> LocalBoxStream<'static, Result<Vec<u8>, StoreError>> {
    let MemoryBody::Made(MadeItems(items)) = body else {
        panic!("the reply was not made while it was read");
    };
    items
}

/// A pull to its end: the status, and the bytes or why they broke off.
async fn pull(registry: &TestRegistry<Watched>, path: &str) -> (u16, Result<Vec<u8>, StoreError>) {
    let (parts, body, rest) = begin(registry, path).await;
    let (read, ()) = join(body.read(), registry.finish(rest)).await;
    (parts.status.as_u16(), read)
}

/// How many objects there are of a kind.
fn count(world: &World, prefix: &str) -> usize {
    let keys = world.store.memory.keys();
    keys.iter().filter(|key| key.starts_with(prefix)).count()
}

#[test]
fn a_large_blob_is_sent_on_while_it_is_stored() {
    let (world, bytes) = (World::new(), large());
    serve(&world, &bytes, bytes.len());
    let mirror = world.mirror(&json!({}));
    let path = blob(&bytes);
    block_on(async {
        let (parts, body, rest) = begin(&mirror, &path).await;
        assert_eq!(parts.headers["x-strata-tier"], "upstream");
        assert_eq!(parts.headers["content-length"], "9000001");
        let mut items = items_of(body);
        // Before the client has its first bytes nothing is written, though they are there.
        let mut finishing = pin!(mirror.finish(rest));
        let turns = pin!(async {
            for _ in 0..60 {
                strata_support::host::turn().await;
            }
        });
        assert!(matches!(
            select(&mut finishing, turns).await,
            Either::Right(_)
        ));
        assert_eq!(world.store.memory.keys(), Vec::<String>::new());
        let mut read = Vec::new();
        let reading = async {
            while let Some(item) = items.next().await {
                if read.is_empty() {
                    assert_eq!(count(&world, "blobs/"), 0);
                }
                read.extend(item.unwrap());
            }
        };
        join(reading, finishing).await;
        assert!(read == bytes);
    });
    assert_eq!(world.asked().len(), 1);
    let extents = count(&world, "extents/");
    assert!((3..=10).contains(&extents), "{extents} extents");
    assert_eq!(count(&world, "blobs/"), 1);
    world.weather(|_| Some(Err(FetchError::Late)));
    for registry in [mirror, world.mirror(&json!({}))] {
        let (status, read) = block_on(pull(&registry, &path));
        assert!(status == 200 && read.unwrap() == bytes);
    }
    assert!(world.asked().is_empty());
}

#[test]
fn many_who_miss_a_large_blob_are_one_request() {
    let (world, bytes) = (World::new(), large());
    serve(&world, &bytes, bytes.len());
    let mirror = world.mirror(&json!({}));
    let path = blob(&bytes);
    let all = (0..32).map(|_| pull(&mirror, &path));
    for (status, read) in block_on(join_all(all)) {
        assert!(status == 200 && read.unwrap() == bytes);
    }
    assert_eq!(world.asked().len(), 1);
    assert_eq!(count(&world, "blobs/"), 1);
}

/// Whatever goes wrong, a client's reply breaks off and does not end, and nothing is left that could be served.
#[test]
fn a_large_blob_that_is_wrong_ends_no_reply() {
    let bytes = large();
    let changed = |at: usize| {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        changed
    };
    let mut cases = vec![
        ("the first byte".to_owned(), changed(0), bytes.len()),
        (
            "the last byte".to_owned(),
            changed(bytes.len() - 1),
            bytes.len(),
        ),
        (
            "one byte less than announced".to_owned(),
            bytes.clone(),
            bytes.len() + 1,
        ),
        (
            "one byte more than announced".to_owned(),
            bytes.clone(),
            bytes.len() - 1,
        ),
    ];
    for tenth in 1..10 {
        let cut = bytes[..bytes.len() * tenth / 10].to_vec();
        cases.push((format!("cut at {tenth} tenths"), cut, bytes.len()));
    }
    for (what, sent, announced) in cases {
        let world = World::new();
        serve(&world, &sent, announced);
        let mirror = world.mirror(&json!({}));
        let both = block_on(join_all([
            pull(&mirror, &blob(&bytes)),
            pull(&mirror, &blob(&bytes)),
        ]));
        for (status, read) in both {
            assert_eq!(status, 200);
            assert!(read.is_err(), "{what}");
        }
        // What broke off is asked for once more, from there on: this upstream has no parts.
        let asked = if sent.len() < announced { 2 } else { 1 };
        assert_eq!(world.asked().len(), asked, "{what}");
        // What is wrong is thrown away. What broke off stays, to be gone on with, and is not served.
        let wrong = ["blobs/", "refs/", "extents/", "fills/"];
        let kinds = if sent.len() < announced { 2 } else { 4 };
        for kind in &wrong[..kinds] {
            assert_eq!(
                count(&world, kind),
                0,
                "{what}: {:?}",
                world.store.memory.keys()
            );
        }
        serve(&world, &bytes, bytes.len());
        let (_, read) = block_on(pull(&mirror, &blob(&bytes)));
        assert!(read.unwrap() == bytes, "{what}: the next one is right");
    }
}

/// A client that goes away ends what is less than half done, and not what is more, nor what others read.
#[test]
fn a_client_that_leaves_takes_little_with_it() {
    for (taken, others, is_stored) in [
        (0, 0, false),
        (1, 0, false),
        (7_000_000, 0, true),
        (0, 1, true),
    ] {
        let (world, bytes) = (World::new(), large());
        serve(&world, &bytes, bytes.len());
        let mirror = world.mirror(&json!({}));
        let path = blob(&bytes);
        block_on(async {
            let (_, body, rest) = begin(&mirror, &path).await;
            let leaving = async {
                let mut items = items_of(body);
                let mut read = 0;
                while read < taken {
                    read += items.next().await.unwrap().unwrap().len();
                }
            };
            let staying = async {
                for _ in 0..others {
                    let (_, read) = pull(&mirror, &path).await;
                    assert!(read.unwrap() == bytes);
                }
            };
            join(staying, join(leaving, mirror.finish(rest))).await;
        });
        let found = count(&world, "blobs/") == 1;
        assert_eq!(found, is_stored, "{taken} bytes taken, {others} others");
    }
}

/// One that is slow reads from the store what it missed, and holds up nobody.
#[test]
fn a_slow_client_holds_up_nobody() {
    let (world, bytes) = (World::new(), large());
    serve(&world, &bytes, bytes.len());
    let mirror = world.mirror(&json!({}));
    let path = blob(&bytes);
    block_on(async {
        let (_, body, rest) = begin(&mirror, &path).await;
        let mut items = items_of(body);
        let first = async { items.next().await.unwrap().unwrap() };
        let (mut read, ()) = join(first, mirror.finish(rest)).await;
        assert_eq!(
            count(&world, "blobs/"),
            1,
            "it is stored while the client has read {}",
            read.len()
        );
        while let Some(item) = items.next().await {
            read.extend(item.unwrap());
        }
        assert!(read == bytes);
    });
    assert_eq!(world.asked().len(), 1);
}

/// A store that fails is no reason to serve what is not whole.
#[test]
fn a_store_that_fails_ends_no_reply() {
    let (world, bytes) = (World::new(), large());
    serve(&world, &bytes, bytes.len());
    let failing = Rc::new(std::cell::Cell::new(false));
    let fails = failing.clone();
    let store = Watched::new(Memory::default(), move |operation, key| {
        if fails.get() && operation == "put" && key.starts_with("extents/") {
            return Verdict::Lost(StoreError::Failed("full".to_owned()));
        }
        Verdict::Done
    });
    let settings = json!([{ "name": "up.example", "address": ORIGIN }]).to_string();
    let mirror = registry_on(
        store.clone(),
        world.host.clone(),
        &[("STRATA_UPSTREAMS", &settings)],
    );
    failing.set(true);
    let (_, read) = block_on(pull(&mirror, &blob(&bytes)));
    assert!(read.is_err());
    assert!(
        !store
            .memory
            .keys()
            .iter()
            .any(|key| key.starts_with("blobs/") || key.starts_with("extents/"))
    );
    failing.set(false);
    let (_, read) = block_on(pull(&mirror, &blob(&bytes)));
    assert!(read.unwrap() == bytes);
}

/// A part is asked for as a part, and not trusted; all of it is stored behind, or first, as configured.
#[test]
fn a_part_of_a_blob_is_passed_on() {
    for (ranges, sent, is_stored) in [("both", 2, true), ("pass", 1, false), ("store", 1, true)] {
        let (world, bytes) = (World::new(), large());
        let (whole, path) = (bytes.clone(), format!("/blobs/{}", digest(&bytes)));
        world.weather(move |question| {
            if !question.url.ends_with(&path) {
                return None;
            }
            let range = question
                .headers
                .get("range")
                .map(|range| range.to_str().unwrap().to_owned());
            let (status, part, range) = match range.as_deref() {
                None => (200, whole.clone(), None),
                Some("bytes=5000000-5000009") => (
                    206,
                    whole[5_000_000..5_000_010].to_vec(),
                    Some("bytes 5000000-5000009/9000001"),
                ),
                Some(other) => panic!("{other}"),
            };
            let mut headers = HeaderMap::new();
            headers.insert("content-length", HeaderValue::from(part.len()));
            if let Some(range) = range {
                headers.insert("content-range", HeaderValue::from_static(range));
            }
            Some(Ok(Reply {
                status: StatusCode::from_u16(status).unwrap(),
                headers,
                body: Some(MemoryBody::Bytes(part)),
            }))
        });
        let mirror = world.mirror(&json!({ "ranges": ranges }));
        let request =
            Ask::new(&format!("GET {}", blob(&bytes))).header("range", "bytes=5000000-5000009");
        let answer = ask(&mirror, &request);
        assert_eq!(
            (answer.status, answer.body.as_slice()),
            (206, &bytes[5_000_000..5_000_010]),
            "{ranges}"
        );
        assert_eq!(
            answer.header("content-range"),
            Some("bytes 5000000-5000009/9000001")
        );
        assert_eq!(answer.header("content-length"), Some("10"));
        assert_eq!(
            (world.asked().len(), count(&world, "blobs/") == 1),
            (sent, is_stored),
            "{ranges}"
        );
        if is_stored {
            assert_eq!(ask(&mirror, &request).body, &bytes[5_000_000..5_000_010]);
            assert!(world.asked().is_empty());
        }
    }
}

/// An upstream that has no ranges sends all of it, and that is stored.
#[test]
fn a_part_is_found_where_the_upstream_has_no_ranges() {
    let (world, bytes) = (World::new(), large());
    serve(&world, &bytes, bytes.len());
    let mirror = world.mirror(&json!({}));
    let request = Ask::new(&format!("GET {}", blob(&bytes))).header("range", "bytes=0-9");
    let answer = ask(&mirror, &request);
    assert_eq!((answer.status, answer.body.as_slice()), (206, &bytes[..10]));
    assert_eq!(count(&world, "blobs/"), 1);
}

/// An upstream that has parts of its large blob, and breaks off after so many bytes each time. Answers where it was asked to begin.
fn serve_parts(world: &World, bytes: Vec<u8>, at_once: usize) -> Rc<RefCell<Vec<usize>>> {
    let begun = Rc::<RefCell<Vec<usize>>>::default();
    let starts = begun.clone();
    let path = format!("/blobs/{}", digest(&large()));
    world.weather(move |question| {
        if !question.url.ends_with(&path) {
            return None;
        }
        let range = question.headers.get("range");
        let first = range.map_or(0, |range| {
            let range = range.to_str().unwrap().strip_prefix("bytes=").unwrap();
            range.strip_suffix('-').unwrap().parse().unwrap()
        });
        starts.borrow_mut().push(first);
        let (size, end) = (bytes.len(), bytes.len().min(first.saturating_add(at_once)));
        let mut headers = HeaderMap::new();
        headers.insert("content-length", HeaderValue::from(size - first));
        let shown = format!("bytes {first}-{}/{size}", size - 1);
        let mut status = StatusCode::OK;
        if range.is_some() {
            headers.insert("content-range", HeaderValue::from_str(&shown).unwrap());
            status = StatusCode::PARTIAL_CONTENT;
        }
        let part = bytes[first..end].to_vec();
        let body = match end {
            end if end < size => MemoryBody::Broken(part),
            _ => MemoryBody::Bytes(part),
        };
        Some(Ok(Reply {
            status,
            headers,
            body: Some(body),
        }))
    });
    begun
}

/// Where an upstream breaks off, the rest is asked for as a part: the client hears nothing of it.
#[test]
fn a_blob_that_breaks_off_is_gone_on_with() {
    let (world, bytes) = (World::new(), large());
    let begun = serve_parts(&world, bytes.clone(), 3_000_000);
    let mirror = world.mirror(&json!({}));
    let (status, read) = block_on(pull(&mirror, &blob(&bytes)));
    assert!(status == 200 && read.unwrap() == bytes);
    let begun = begun.take();
    assert!((3..=5).contains(&begun.len()), "{begun:?}");
    assert!(begun.is_sorted() && begun[0] == 0, "{begun:?}");
    assert_eq!(count(&world, "blobs/"), 1);
    let (_, read) = block_on(pull(&world.mirror(&json!({})), &blob(&bytes)));
    assert!(read.unwrap() == bytes);
}

/// Pulls the large blob until this much was taken of it, and is gone: what was left to do after the reply ends with it.
async fn interrupt(registry: &TestRegistry<Watched>, bytes: &[u8], taken: usize) {
    let (_, body, rest) = begin(registry, &blob(bytes)).await;
    let mut items = items_of(body);
    let reading = pin!(async {
        let mut read = 0;
        while read < taken {
            read += items.next().await.unwrap().unwrap().len();
        }
    });
    select(reading, pin!(registry.finish(rest))).await;
}

/// What was stored when a fill was interrupted is not asked for again, by whoever comes next.
#[test]
fn an_interrupted_fill_is_gone_on_with() {
    let (world, bytes) = (World::new(), large());
    let begun = serve_parts(&world, bytes.clone(), usize::MAX);
    block_on(async {
        interrupt(&world.mirror(&json!({})), &bytes, 4_000_000).await;
        let (_, read) = pull(&world.mirror(&json!({})), &blob(&bytes)).await;
        assert!(read.unwrap() == bytes);
    });
    let begun = begun.take();
    assert!(begun.len() == 2 && begun[1] > 400_000, "{begun:?}");
    assert_eq!((count(&world, "blobs/"), count(&world, "fills/")), (1, 0));
    let (_, read) = block_on(pull(&world.mirror(&json!({})), &blob(&bytes)));
    assert!(read.unwrap() == bytes);
    assert_eq!(world.asked().len(), 2);
}

/// However often: what the one before stored behind the place from where the next went on is in nobody's way.
#[test]
fn a_fill_that_is_interrupted_again_and_again_is_gone_on_with() {
    let (world, bytes) = (World::new(), large());
    let begun = serve_parts(&world, bytes.clone(), usize::MAX);
    block_on(async {
        for taken in [2_000_000, 4_000_000, 5_000_000, 6_500_000] {
            interrupt(&world.mirror(&json!({})), &bytes, taken).await;
        }
        let (_, read) = pull(&world.mirror(&json!({})), &blob(&bytes)).await;
        assert!(read.unwrap() == bytes);
    });
    let begun = begun.take();
    assert!(
        begun.len() == 5 && begun.is_sorted_by(|one, other| one < other),
        "{begun:?}"
    );
    assert_eq!((count(&world, "blobs/"), count(&world, "fills/")), (1, 0));
    // Some of it was stored twice.
    assert!(
        count(&world, "extents/") > named_extents(&world),
        "{:?}",
        world.store.memory.keys()
    );
    let (_, read) = block_on(pull(&world.mirror(&json!({})), &blob(&bytes)));
    assert!(read.unwrap() == bytes);
}

/// How many extents the record of the large blob names.
fn named_extents(world: &World) -> usize {
    let record = world.store.memory.bytes(&key::blob(&digest(&large())));
    let record: Value = serde_json::from_slice(&record.unwrap()).unwrap();
    record["extents"].as_array().unwrap().len()
}

/// Where the upstream has no parts, the reply to the one question that is asked is all of it.
#[test]
fn an_interrupted_fill_begins_anew_where_there_are_no_parts() {
    let (world, bytes) = (World::new(), large());
    serve(&world, &bytes, bytes.len());
    block_on(async {
        interrupt(&world.mirror(&json!({})), &bytes, 4_000_000).await;
        let (_, read) = pull(&world.mirror(&json!({})), &blob(&bytes)).await;
        assert!(read.unwrap() == bytes);
    });
    assert_eq!(world.asked().len(), 2);
    assert_eq!(count(&world, "blobs/"), 1);
}

/// A fill that was wrong from the start is wrong when somebody goes on with it, and then it is thrown away.
#[test]
fn what_was_wrong_when_a_fill_was_interrupted_is_thrown_away() {
    let (world, bytes) = (World::new(), large());
    let mut wrong = bytes.clone();
    wrong[10] ^= 1;
    block_on(async {
        serve_parts(&world, wrong, usize::MAX);
        interrupt(&world.mirror(&json!({})), &bytes, 4_000_000).await;
        let begun = serve_parts(&world, bytes.clone(), usize::MAX);
        let (_, read) = pull(&world.mirror(&json!({})), &blob(&bytes)).await;
        assert!(read.is_err());
        assert!(begun.borrow()[0] > 0, "{begun:?}");
        assert_eq!((count(&world, "blobs/"), count(&world, "fills/")), (0, 0));
        let (_, read) = pull(&world.mirror(&json!({})), &blob(&bytes)).await;
        assert!(read.unwrap() == bytes);
        assert_eq!(begun.borrow()[1..], [0]);
    });
}

/// Two isolates may go on with one fill: both give the right bytes, and one of them stores the blob.
#[test]
fn two_who_go_on_with_one_fill_are_both_right() {
    let (world, bytes) = (World::new(), large());
    let begun = serve_parts(&world, bytes.clone(), usize::MAX);
    block_on(async {
        interrupt(&world.mirror(&json!({})), &bytes, 4_000_000).await;
        let mirrors = [world.mirror(&json!({})), world.mirror(&json!({}))];
        let path = blob(&bytes);
        let pulls = mirrors.iter().map(|mirror| pull(mirror, &path));
        for (status, read) in join_all(pulls).await {
            assert!(status == 200 && read.unwrap() == bytes);
        }
    });
    assert!(
        begun.borrow()[1..].iter().all(|start| *start > 0),
        "{begun:?}"
    );
    assert_eq!(count(&world, "blobs/"), 1);
    // The one that did not close it has not failed.
    let log = world.host.log.borrow().join("\n");
    assert!(!log.contains("blob not mirrored"), "{log}");
    let (_, read) = block_on(pull(&world.mirror(&json!({})), &blob(&bytes)));
    assert!(read.unwrap() == bytes);
}
