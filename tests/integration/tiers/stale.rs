//! Stale values: after deletions, and for how long each tier serves them.

use super::*;

#[test]
fn deleted_values_are_served_by_no_tier_of_this_isolate() {
    let world = World::with_image();
    let isolate = world.isolate(&[]);
    popularise(&isolate);
    // Even if the warm tier keeps serving it, as it does for a minute.
    world.warm.is_deaf.set(true);
    assert_eq!(
        ask(&isolate, &Ask::new(&format!("DELETE {}", manifest()))).status,
        202
    );
    for _ in 0..3 {
        let (answer, operations) = world.ask(&isolate, &Ask::new(&format!("GET {}", manifest())));
        assert_eq!(answer.status, 404, "{operations:?}");
    }
    assert_eq!(
        ask(&isolate, &Ask::new(&format!("DELETE {}", blob(LAYER)))).status,
        202
    );
    for method in ["GET", "HEAD"] {
        assert_eq!(
            ask(&isolate, &Ask::new(&format!("{method} {}", blob(LAYER)))).status,
            404
        );
    }
    // After another push, it is there again.
    push(&isolate);
    for target in [manifest(), blob(LAYER)] {
        assert_eq!(
            ask(&isolate, &Ask::new(&format!("GET {target}"))).status,
            200
        );
    }
}

#[test]
fn a_read_under_way_caches_nothing_that_was_deleted_meanwhile() {
    let world = World::with_image();
    let isolate = world.isolate(&[("STRATA_WARM_READS", "1")]);
    let pull = Ask::new(&format!("GET {}", manifest()));
    let delete = Ask::new(&format!("DELETE {}", manifest()));
    // The deletion comes after each possible number of steps of the pull.
    for lead in 0..12 {
        push(&isolate);
        world.host.pass(Duration::from_secs(61));
        let mut pulling = Box::pin(ask_now(&isolate, &pull));
        let context = &mut Context::from_waker(noop_waker_ref());
        let mut pulled = None;
        for _ in 0..lead {
            if pulled.is_none()
                && let std::task::Poll::Ready(answer) = pulling.as_mut().poll(context)
            {
                pulled = Some(answer);
            }
        }
        assert_eq!(ask(&isolate, &delete).status, 202);
        if pulled.is_none() {
            // A request after the deletion gets nothing from a read that began before it.
            let (later, _) = block_on(join(ask_now(&isolate, &pull), pulling));
            assert_eq!(later.status, 404, "beside it, after {lead} steps");
        }
        assert_eq!(ask(&isolate, &pull).status, 404, "after {lead} steps");
        assert!(
            world
                .warm
                .memory
                .keys()
                .iter()
                .all(|(key, _)| kind(key) != "manifest"),
            "after {lead} steps"
        );
    }
}

#[test]
fn values_deleted_elsewhere_expire_after_the_stale_seconds() {
    let world = World::with_image();
    let settings = [("STRATA_STALE_SECONDS", "600")];
    let (one, other, third) = (
        world.isolate(&settings),
        world.isolate(&settings),
        world.isolate(&settings),
    );
    popularise(&one);
    popularise(&other);
    // At the third isolate's location, the deletions have not arrived yet.
    world.warm.is_deaf.set(true);
    world.host.pass(Duration::from_secs(300));
    for target in [manifest(), blob(LAYER)] {
        assert_eq!(
            ask(&one, &Ask::new(&format!("DELETE {target}"))).status,
            202
        );
    }
    // Another isolate uses its cached values, and may even write them to the warm tier again.
    let pull_often = |status: &dyn Fn(u16) -> bool| {
        for target in [manifest(), blob(LAYER)] {
            let get = Ask::new(&format!("GET {target}"));
            for isolate in [&other, &other, &other, &other, &third] {
                ask(isolate, &get);
            }
            assert!(status(ask(&other, &get).status), "{target}");
        }
    };
    world.host.pass(Duration::from_secs(179));
    pull_often(&|status| status == 200);
    // At the latest moment, a renewal may find the deletion.
    world.host.pass(Duration::from_secs(120));
    pull_often(&|status| [200, 404].contains(&status));
    world.host.pass(Duration::from_secs(2));
    for isolate in [&one, &other, &third] {
        for target in [manifest(), blob(LAYER)] {
            assert_eq!(
                ask(isolate, &Ask::new(&format!("GET {target}"))).status,
                404
            );
        }
    }
}

/// A client that asks whether a blob is there before it pushes the blob must not be told so for
/// ever, while the manifest is refused.
#[test]
fn a_refused_manifest_invalidates_what_it_lacks() {
    let index = json!({
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [descriptor(OCI_MANIFEST, image().to_string().as_bytes())],
    });
    let pushes = [
        Ask::new("PUT /v2/a/manifests/v2").manifest(OCI_MANIFEST, &image()),
        Ask::new("PUT /v2/a/manifests/all").manifest(OCI_INDEX, &index),
    ];
    for (target, push) in [blob(LAYER), manifest()].iter().zip(&pushes) {
        let world = World::with_image();
        let (isolate, other) = (world.isolate(&[]), world.isolate(&[]));
        popularise(&isolate);
        // At this isolate's location, the deletions have not arrived in the warm tier yet.
        world.warm.is_deaf.set(true);
        for target in [manifest(), blob(LAYER)] {
            let delete = Ask::new(&format!("DELETE {target}"));
            assert_eq!(ask(&other, &delete).status, 202);
        }
        let look = Ask::new(&format!("HEAD {target}"));
        assert_eq!(ask(&isolate, &look).status, 200);
        assert_eq!(ask(&isolate, push).status, 404);
        for _ in 0..2 {
            assert_eq!(ask(&isolate, &look).status, 404, "{target}");
            // The links that come with a warm manifest are older than the refusal.
            ask(&isolate, &Ask::new(&format!("GET {}", manifest())));
        }
    }
}

#[test]
fn not_found_is_cached_for_callers_without_push_permission() {
    let world = World::with_image();
    let isolate = world.isolate(&[("STRATA_ANONYMOUS_PULL", "true")]);
    let missing = format!("GET /v2/a/manifests/{}", digest(b"missing"));
    let anonymous = Ask::new(&missing).anonymous();
    let count = |request: &Ask| {
        let (answer, operations) = world.ask(&isolate, request);
        assert_eq!(answer.status, 404);
        operations.len()
    };
    assert_eq!(count(&anonymous), 2);
    assert_eq!(count(&anonymous), 0);
    assert_eq!(
        count(&Ask::new(&missing)),
        1,
        "a user may have pushed it a moment ago"
    );
    world.host.pass(Duration::from_secs(5));
    assert_eq!(count(&anonymous), 1);
    // A blob that is pushed through this isolate is there at once.
    let bytes = b"another layer";
    let get = Ask::new(&format!("GET {}", blob(bytes))).anonymous();
    assert_eq!(ask(&isolate, &get).status, 404);
    let post = format!("POST /v2/a/blobs/uploads/?digest={}", digest(bytes));
    assert_eq!(ask(&isolate, &Ask::new(&post).body(bytes)).status, 201);
    assert_eq!(ask(&isolate, &get).status, 200);
    // So is a manifest.
    let document = json!({ "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": descriptor("application/json", CONFIG), "layers": [descriptor("application/json", bytes)] });
    let get = Ask::new(&format!(
        "GET /v2/a/manifests/{}",
        digest(document.to_string().as_bytes())
    ))
    .anonymous();
    assert_eq!(ask(&isolate, &get).status, 404);
    assert_eq!(
        ask(
            &isolate,
            &Ask::new("PUT /v2/a/manifests/v2").manifest(OCI_MANIFEST, &document)
        )
        .status,
        201
    );
    assert_eq!(ask(&isolate, &get).status, 200);
}

#[test]
fn hot_values_expire_after_their_ttl() {
    let world = World::with_image();
    let isolate = world.isolate(&[("STRATA_HOT_SECONDS", "60"), ("STRATA_WARM_SECONDS", "0")]);
    let request = format!("GET {}", manifest());
    world.expect(&isolate, &request, 200, &["cold get manifest"]);
    world.host.pass(Duration::from_secs(47));
    world.expect(&isolate, &request, 200, &[]);
    world.host.pass(Duration::from_secs(13));
    world.expect(&isolate, &request, 200, &["cold get manifest"]);
}

#[test]
fn a_stale_link_still_leads_to_the_blob() {
    let world = World::with_image();
    let isolate = world.isolate(&[("STRATA_HOT_BLOB_BYTES", "0"), ("STRATA_WARM_SECONDS", "0")]);
    let get = format!("GET {}", blob(LAYER));
    assert_eq!(ask(&isolate, &Ask::new(&get)).status, 200);
    // The blob is swept, and pushed again by PATCH through another isolate: its bytes are in
    // another place.
    block_on(world.cold.memory.delete(&[key::blob(&digest(LAYER))])).unwrap();
    let other = world.isolate(&[]);
    let start = ask(&other, &Ask::new("POST /v2/a/blobs/uploads/"));
    let chunk = ask(
        &other,
        &Ask::new(&format!("PATCH {}", start.location())).stream(LAYER),
    );
    let put = format!("PUT {}&digest={}", chunk.location(), digest(LAYER));
    assert_eq!(ask(&other, &Ask::new(&put)).status, 201);
    world.host.pass(Duration::from_secs(1));
    let answer = ask(&isolate, &Ask::new(&get));
    assert_eq!((answer.status, &*answer.body), (200, LAYER));
}

#[test]
fn a_link_to_an_absent_blob_is_not_spread_by_warm_values() {
    let world = World::with_image();
    block_on(world.cold.memory.delete(&[key::blob(&digest(LAYER))])).unwrap();
    let isolate = world.isolate(&[]);
    let etag = format!("\"{}\"", digest(LAYER));
    let unchanged = Ask::new(&format!("GET {}", blob(LAYER))).header("if-none-match", etag);
    for _ in 0..3 {
        assert_eq!(ask(&isolate, &unchanged).status, 304);
        assert_eq!(
            ask(&isolate, &Ask::new(&format!("GET {}", manifest()))).status,
            200
        );
    }
    assert_eq!(world.warm.memory.keys().len(), 1, "the manifest is warm");
    let other = world.isolate(&[]);
    assert_eq!(
        ask(&other, &Ask::new(&format!("GET {}", manifest()))).status,
        200
    );
    for isolate in [&isolate, &other] {
        let head = Ask::new(&format!("HEAD {}", blob(LAYER)));
        assert_eq!(ask(isolate, &head).status, 404);
    }
}
