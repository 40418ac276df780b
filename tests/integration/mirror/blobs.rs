//! Blobs of an upstream: fetched once, verified, and stored as if they were pushed.

use super::*;

#[test]
fn wrong_manifests_of_an_upstream_are_not_stored() {
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
fn pushes_to_mirrored_repositories_are_refused() {
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

#[test]
fn a_mirrored_blob_is_fetched_once() {
    let world = World::new();
    let mirror = world.mirror(&json!({}));
    let path = format!("blobs/{}", digest(LAYER));
    // A `HEAD` request causes only a `HEAD` request.
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
fn concurrent_misses_of_a_blob_are_one_request() {
    let world = World::new();
    let mirror = world.mirror(&json!({}));
    let request = Ask::new(&format!("GET {}", blob(LAYER)));
    let all = (0..32).map(|_| strata_support::ask_now(&mirror, &request));
    for answer in block_on(join_all(all)) {
        assert_eq!((answer.status, answer.body.as_slice()), (200, LAYER));
    }
    assert_eq!(world.asked().len(), 1);
}

/// A blob in a repository of this registry's own says nothing about the upstream: its bytes are
/// fetched from there, and stored once.
#[test]
fn a_blob_pushed_elsewhere_is_still_fetched_from_the_upstream() {
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
fn wrong_blobs_of_an_upstream_are_not_stored() {
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
        // A claim may stay for a while; it gives no right.
        let has = |part: &str| keys.iter().any(|key| key.contains(part));
        assert!(
            !has("blobs/") && !has("extents/") && !has("/_link"),
            "{what}: {keys:?}"
        );
        // The next fetch is right.
        assert_eq!(get(&mirror, &blob(LAYER)).body, LAYER, "{what}");
    }
}

/// The blobs that were fetched for a manifest are complete: files inside of them are found, and
/// they stay as long as the manifest does.
#[test]
fn a_mirrored_image_is_stored_as_if_it_were_pushed() {
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
    // The same without the upstream.
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
