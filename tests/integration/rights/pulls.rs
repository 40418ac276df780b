//! Rights of callers that pull through a mirror.

use super::*;

/// The documents by which an upstream may name a blob that it does not have.
fn documents() -> Vec<(&'static str, Value)> {
    let named = descriptor("application/vnd.oci.image.layer.v1.tar", &secret());
    vec![
        (
            "an index with blobs",
            json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [], "blobs": [named] }),
        ),
        ("a layer", image_of(CONFIG, &[&secret()])),
        ("a config", image_of(&secret(), &[CONFIG])),
        (
            "a child",
            json!({
                "schemaVersion": 2, "mediaType": OCI_INDEX,
                "manifests": [descriptor(OCI_MANIFEST, &secret())],
            }),
        ),
    ]
}

#[test]
fn an_upstreams_manifest_gives_no_right_to_the_blobs_it_names() {
    for (what, document) in documents() {
        let world = World::new();
        world.serve("x", CONFIG);
        let found = world.publish("x", "v1", &document);
        for reference in ["v1".to_owned(), found.to_string()] {
            let mirror = world.mirror();
            get(&mirror, &format!("/v2/{PULLED}/manifests/{reference}"));
            // The isolate that has cached the manifest answers the same.
            let answer = get(&mirror, &blob_of(PULLED, &secret()));
            assert_eq!(answer.status, 404, "{what}: {answer:?}");
            world.assert_closed(what, &["up.example", "other.example"], PULLED);
        }
        // The same once the upstream, or this repository of it, is no longer mirrored.
        world.assert_closed(what, &[], PULLED);
    }
}

/// Grants and links of a mirrored repository as older versions wrote them: by pulls, and by blobs
/// that were pushed before the name was mirrored.
#[test]
fn old_grants_give_no_right_in_a_mirrored_repository() {
    for with_link in [true, false] {
        let world = World::new();
        for (what, document) in documents() {
            let found = world.plant_manifest(PULLED, &document);
            let reason = json!({ "reason": "manifest", "digest": found.to_string() });
            world.plant_grant(PULLED, &secret(), &format!("m{}", what.len()), &reason);
        }
        world.plant_grant(PULLED, &secret(), "u", &json!({ "reason": "upload" }));
        world.plant_grant(PULLED, &secret(), "c", &json!({ "reason": "claim" }));
        if with_link {
            world.plant_link(PULLED, &secret());
        }
        world.assert_closed("planted", &["up.example", "other.example"], PULLED);
        // The upstream is out of reach: the caller gets its error, and the blob stays closed.
        for (weather, status) in [(Err(FetchError::Late), 504), (Ok(500), 502), (Ok(403), 403)] {
            let said = weather.clone();
            world.weather(move |_| match &said {
                Ok(status) => Some(says(*status, &[], "")),
                Err(error) => Some(Err(error.clone())),
            });
            for method in ["GET", "HEAD"] {
                let line = format!("{method} {}", blob_of(PULLED, &secret()));
                let answer = ask(&world.mirror(), &by("mallory", &line));
                assert_eq!(answer.status, status, "{weather:?}: {answer:?}");
                let says_why = text(&answer).contains("must be fetched from the upstream again");
                assert!(says_why || method == "HEAD", "{}", text(&answer));
            }
            world.assert_closed("planted", &["up.example"], PULLED);
        }
        // If the upstream has the blob, its bytes are hashed, which gives a right from then on.
        world.weather(|_| None);
        world.host.pass(Duration::from_secs(60));
        world.serve("x", &secret());
        world.asked();
        let answer = get(&world.mirror(), &blob_of(PULLED, &secret()));
        assert_eq!((answer.status, answer.body), (200, secret()));
        assert_eq!(
            world.asked(),
            [format!("GET /v2/x/blobs/{}", digest(&secret()))]
        );
        let filled = json!({ "reason": "filled" });
        assert!(world.reasons(PULLED, &secret()).contains(&filled));
        assert_eq!(world.linked(PULLED, &secret()), Some(filled));
        assert_eq!(
            get(&world.mirror(), &blob_of(PULLED, &secret())).status,
            200
        );
        assert!(world.asked().is_empty());
    }
}

/// A repository below the name of an upstream that is not among those that it mirrors cannot belong
/// to a client.
#[test]
fn old_grants_give_no_right_below_the_name_of_an_upstream() {
    let world = World::new();
    world.plant_grant(PULLED, &secret(), "u", &json!({ "reason": "upload" }));
    world.plant_link(PULLED, &secret());
    let upstreams = json!([{ "name": "up.example", "repositories": ["z"] }]).to_string();
    let isolate = world.isolate_with(&[], &[("STRATA_UPSTREAMS", &upstreams)]);
    let found = digest(&secret());
    for from in [format!("&from={PULLED}"), String::new()] {
        let line = format!("POST /v2/mallory/x/blobs/uploads/?mount={found}{from}");
        assert_eq!(ask(&isolate, &by("mallory", &line)).status, 202, "{from}");
    }
}

/// A value of KV as the registry wrote it before links had a reason.
fn old_warm_value(world: &World, document: &Value, blob: &[u8]) -> Vec<u8> {
    let content = document.to_string().into_bytes();
    let now = world.host.now.get();
    let header = json!({
        "mediaType": document["mediaType"], "size": content.len(), "confirmed": now,
        "links": [{
            "digest": digest(blob).to_string(), "confirmed": now,
            "record": { "kind": "bytes", "size": blob.len() },
        }],
    });
    let header = header.to_string().into_bytes();
    let length = u32::try_from(header.len()).unwrap().to_be_bytes();
    let check = Algorithm::Sha256.digest(&header);
    [
        b"strata\x01".as_slice(),
        &length,
        &check.hash(),
        &header,
        &content,
    ]
    .concat()
}

#[test]
fn an_old_warm_link_gives_no_right_in_a_mirrored_repository() {
    for (what, document) in documents() {
        let world = World::new();
        let found = world.plant_manifest(PULLED, &document);
        let value = MemoryBytes::copy_from(&old_warm_value(&world, &document, &secret()));
        let key = key::manifest(&PULLED.parse().unwrap(), &found);
        block_on(world.warm.memory.put(&key, value, GRACE)).unwrap();
        let mirror = world.mirror();
        let pulled = get(&mirror, &format!("/v2/{PULLED}/manifests/{found}"));
        assert_eq!(pulled.header("x-strata-tier"), Some("warm"), "{what}");
        for _ in 0..3 {
            let answer = get(&mirror, &blob_of(PULLED, &secret()));
            assert_eq!(answer.status, 404, "{what}: {answer:?}");
        }
        // Nor does it come back with the values that are promoted again.
        for _ in 0..4 {
            get(&mirror, &format!("/v2/{PULLED}/manifests/{found}"));
        }
        assert_eq!(get(&mirror, &blob_of(PULLED, &secret())).status, 404);
    }
}

/// In a repository that is not mirrored, an old link in a KV value is still valid.
#[test]
fn a_blob_with_an_old_warm_link_is_served_if_not_mirrored() {
    let world = World::new();
    world.push("root", "mallory/x", CONFIG);
    let document = image_of(CONFIG, &[]);
    let found = world.plant_manifest("mallory/x", &document);
    let value = MemoryBytes::copy_from(&old_warm_value(&world, &document, CONFIG));
    let key = key::manifest(&"mallory/x".parse().unwrap(), &found);
    block_on(world.warm.memory.put(&key, value, GRACE)).unwrap();
    let isolate = world.mirror();
    get(&isolate, &format!("/v2/mallory/x/manifests/{found}"));
    let answer = get(&isolate, &blob_of("mallory/x", CONFIG));
    assert_eq!(
        (answer.status, answer.header("x-strata-tier")),
        (200, Some("cold")),
        "{answer:?}"
    );
}

/// A `HEAD` is a claim, and not bytes.
#[test]
fn the_head_of_an_upstream_gives_no_right() {
    for (what, length) in [
        ("with its length", secret().len()),
        ("with another length", 5),
    ] {
        let world = World::new();
        world.weather(move |question| {
            let length = length.to_string();
            let head = [("content-length", length.as_str())];
            (question.method == Method::HEAD).then(|| says(200, &head, ""))
        });
        let answer = get(&world.mirror(), &blob_of(PULLED, &secret()));
        assert_eq!(answer.status, 404, "{what}: {answer:?}");
        assert!(
            world
                .asked()
                .contains(&format!("GET /v2/x/blobs/{}", digest(&secret()))),
            "{what}"
        );
        assert!(world.reasons(PULLED, &secret()).is_empty(), "{what}");
        assert_eq!(world.linked(PULLED, &secret()), None, "{what}");
        // Wrong bytes give no right either.
        world.weather(move |question| {
            let body = vec![0; secret().len()];
            let length = body.len().to_string();
            let head = [("content-length", length.as_str())];
            let body = if question.method == Method::HEAD {
                Vec::new()
            } else {
                body
            };
            Some(says(200, &head, body))
        });
        let answer = get(&world.mirror(), &blob_of(PULLED, &secret()));
        assert_eq!(answer.status, 502, "{what}: {answer:?}");
        assert!(world.reasons(PULLED, &secret()).is_empty(), "{what}");
    }
}

/// Bytes that were hashed for one repository of an upstream need not be fetched again for another
/// one, if the upstream states the same length there.
#[test]
fn bytes_of_an_upstream_are_fetched_once_for_its_repositories() {
    let world = World::new();
    let blob = secret();
    for remote in ["x", "y"] {
        world.serve(remote, &blob);
    }
    assert_eq!(get(&world.mirror(), &blob_of(PULLED, &blob)).body, blob);
    world.asked();
    let found = digest(&blob);
    let second = blob_of("up.example/y", &blob);
    assert_eq!(get(&world.mirror(), &second).body, blob);
    assert_eq!(world.asked(), [format!("HEAD /v2/y/blobs/{found}")]);
    let filled = json!({ "reason": "filled" });
    assert_eq!(
        world.reasons("up.example/y", &blob),
        [json!({ "reason": "filled" })]
    );
    assert_eq!(world.linked("up.example/y", &blob), Some(filled));
    // Another upstream has to send them.
    let line = blob_of(OTHER, &blob);
    assert_eq!(get(&world.mirror(), &line).body, blob);
    assert_eq!(world.asked(), [format!("GET /v2/y/blobs/{found}")]);
    // And so does this one, if it states another length.
    world.serve("z", &blob);
    world.weather(|question| {
        let head = [("content-length", "5")];
        (question.method == Method::HEAD).then(|| says(200, &head, ""))
    });
    assert_eq!(
        get(&world.mirror(), &blob_of("up.example/z", &blob)).body,
        blob
    );
    assert_eq!(
        world.asked(),
        [
            format!("HEAD /v2/z/blobs/{found}"),
            format!("GET /v2/z/blobs/{found}")
        ]
    );
}

/// A large blob that is stored already is hashed while it is fetched, for a repository that had no
/// right to it, and nothing is stored twice.
#[test]
fn a_stored_large_blob_is_hashed_again_for_a_mirror() {
    let world = World::new();
    let blob = noise(7, 3 << 20);
    world.push("root", "team/large", &blob);
    world.serve("x", &blob);
    let before = world.store.keys("extents/");
    let answer = get(&world.mirror(), &blob_of(PULLED, &blob));
    assert_eq!((answer.status, answer.body.len()), (200, blob.len()));
    assert_eq!(world.store.keys("extents/"), before);
    let filled = json!({ "reason": "filled" });
    assert_eq!(
        world.reasons(PULLED, &blob),
        [json!({ "reason": "filled" })]
    );
    assert_eq!(world.linked(PULLED, &blob), Some(filled));
    world.asked();
    assert_eq!(get(&world.mirror(), &blob_of(PULLED, &blob)).body, blob);
    assert!(world.asked().is_empty());
    // Wrong bytes give no right.
    world.served.borrow_mut().clear();
    let mut wrong = blob.clone();
    wrong[1_000_000] ^= 1;
    let path = format!("/v2/w/blobs/{}", digest(&blob));
    let entry = ("application/octet-stream".to_owned(), wrong);
    world.served.borrow_mut().insert(path, entry);
    let line = by(
        "mallory",
        &format!("GET {}", blob_of("other.example/w", &blob)),
    );
    let broken = block_on(strata_support::try_ask_now(&world.mirror(), &line));
    assert!(broken.is_err(), "{broken:?}");
    assert!(world.reasons("other.example/w", &blob).is_empty());
}

/// The objects that a pull writes say that they come from a mirror.
#[test]
fn objects_of_a_mirrored_pull_record_their_origin() {
    let world = World::new();
    let image = image_of(CONFIG, &[&secret()]);
    let found = world.publish("x", "v1", &image);
    world.serve("x", CONFIG);
    get(&world.mirror(), &format!("/v2/{PULLED}/manifests/v1"));
    let mirrored = json!({ "reason": "mirrored", "digest": found.to_string() });
    for blob in [CONFIG, &secret()] {
        assert_eq!(world.reasons(PULLED, blob), std::slice::from_ref(&mirrored));
    }
    let manifest = key::manifest(&PULLED.parse().unwrap(), &found);
    assert_eq!(world.metadata(&manifest)["mirrored"], true);
    get(&world.mirror(), &blob_of(PULLED, CONFIG));
    let filled = json!({ "reason": "filled" });
    assert_eq!(world.reasons(PULLED, CONFIG), [mirrored, filled]);
    // A right stays one when the upstream is removed from the settings; the absence of a right
    // stays one too.
    let alone = world.isolate(&[]);
    assert_eq!(get(&alone, &blob_of(PULLED, CONFIG)).status, 200);
    assert_eq!(get(&alone, &blob_of(PULLED, &secret())).status, 404);
    // Pushed objects say so as well.
    assert_eq!(
        world.linked(SECRET, &secret()),
        Some(json!({ "reason": "pushed" }))
    );
}

/// A link is repaired from a grant that gives a right, and from no other.
#[test]
fn a_link_is_repaired_from_a_right() {
    let world = World::new();
    world.serve("x", CONFIG);
    get(&world.mirror(), &blob_of(PULLED, CONFIG));
    world.asked();
    let filled = Some(json!({ "reason": "filled" }));
    for planted in [true, false] {
        block_on(world.store.memory.delete(&[link(PULLED, CONFIG)])).unwrap();
        if planted {
            world.plant_link(PULLED, CONFIG);
        }
        let answer = get(&world.mirror(), &blob_of(PULLED, CONFIG));
        assert_eq!((answer.status, answer.body.as_slice()), (200, CONFIG));
        assert_eq!(world.linked(PULLED, CONFIG), filled);
    }
    assert!(world.asked().is_empty());
}

/// A blob that was pushed before the name was mirrored is requested from the upstream, and can be
/// read again once the name is not mirrored.
#[test]
fn a_blob_pushed_before_mirroring_is_requested_upstream() {
    let world = World::new();
    world.push("root", PULLED, CONFIG);
    let asked = format!("GET /v2/x/blobs/{}", digest(CONFIG));
    let answer = get(&world.mirror(), &blob_of(PULLED, CONFIG));
    assert_eq!((answer.status, world.asked()), (404, vec![asked]));
    assert_eq!(
        get(&world.isolate(&[]), &blob_of(PULLED, CONFIG)).status,
        200
    );
}
