//! Scrubs of blobs: damage is found, quarantined, and healed by a push or an upstream.

use super::*;

#[test]
fn sound_objects_stay_unchanged() {
    let fixture = Fixture::new(&[]);
    fixture.push_image("a");
    fixture.push_whole("b", LAYER);
    let before = fixture.objects();
    let body = fixture.step("");
    assert_eq!(body["finished"], true);
    assert_eq!(
        body["checked"],
        json!({ "blob": 2, "grant": 5, "link": 3, "manifest": 1, "tag": 1 })
    );
    assert_eq!(
        body["bytes"],
        LAYER.len() + CONFIG.len() + image().to_string().len()
    );
    assert_eq!((&body["count"], &body["repaired"]), (&json!(0), &json!(0)));
    assert_eq!(fixture.objects(), before);
    // The same when all objects are old.
    fixture.host.pass(3 * GRACE);
    assert!(fixture.pass().is_empty());
    assert_eq!(fixture.objects(), before);
    assert!(fixture.is_whole("a"));
}

/// Damage to a blob: a function that damages the fixture, and the damaged blob, the layer or the
/// configuration.
type Damage = (&'static str, fn(&Fixture), &'static [u8]);

const OF_BLOBS: [Damage; 8] = [
    (
        "a flipped byte in a whole blob",
        |fixture| fixture.damage(&key::blob(&digest(CONFIG)), |bytes| flip(bytes)),
        CONFIG,
    ),
    (
        "a whole blob that is cut short",
        |fixture| fixture.damage(&key::blob(&digest(CONFIG)), |bytes| bytes.truncate(1)),
        CONFIG,
    ),
    (
        "a flipped byte in an extent",
        |fixture| fixture.damage(&fixture.keys("extents/")[1], |bytes| flip(bytes)),
        LAYER,
    ),
    (
        "a truncated extent",
        |fixture| fixture.damage(&fixture.keys("extents/")[0], |bytes| bytes.truncate(2)),
        LAYER,
    ),
    (
        "a missing extent",
        |fixture| fixture.delete(&fixture.keys("extents/")[2..3]),
        LAYER,
    ),
    (
        "a record without bytes",
        |fixture| fixture.delete(&fixture.keys("extents/")),
        LAYER,
    ),
    (
        "a record that can't be read, of bytes that are gone",
        |fixture| {
            fixture.damage(&key::blob(&digest(LAYER)), |bytes| bytes.truncate(9));
            fixture.delete(&fixture.keys("extents/"));
        },
        LAYER,
    ),
    (
        "metadata that can't be read, of bytes that are wrong",
        |fixture| {
            let key = key::blob(&digest(CONFIG));
            fixture.put(&key, b"()", "?");
        },
        CONFIG,
    ),
];

const OF_RECORDS: [Damage; 4] = [
    (
        "a record that can't be read",
        |fixture| fixture.damage(&key::blob(&digest(LAYER)), |bytes| bytes.truncate(9)),
        LAYER,
    ),
    (
        "a record of another size",
        |fixture| {
            let key = key::blob(&digest(LAYER));
            let bytes = fixture.memory().bytes(&key).unwrap();
            fixture.put(&key, &bytes, r#"{"kind":"extents","size":11}"#);
        },
        LAYER,
    ),
    (
        "a record that does not say that it is one",
        |fixture| {
            let key = key::blob(&digest(LAYER));
            let bytes = fixture.memory().bytes(&key).unwrap();
            fixture.put(&key, &bytes, "");
        },
        LAYER,
    ),
    (
        "bytes that do not say that they are",
        |fixture| fixture.put(&key::blob(&digest(CONFIG)), CONFIG, ""),
        CONFIG,
    ),
];

#[test]
fn a_corrupt_blob_record_is_rewritten_if_its_bytes_are_right() {
    for (what, damage, blob) in OF_RECORDS {
        let mut fixture = Fixture::new(&[]);
        fixture.push_image("a");
        let healthy = fixture.objects();
        damage(&fixture);
        assert_ne!(fixture.objects(), healthy, "{what}");
        assert_eq!(fixture.pass(), ["corrupt blob: write"], "{what}");
        assert_eq!(fixture.objects(), healthy, "{what}");
        fixture.restart();
        assert!(fixture.is_whole("a"), "{what}");
        assert_eq!(fixture.push_whole("b", blob), 201, "{what}");
    }
}

#[test]
fn a_corrupt_blob_is_quarantined_until_the_next_push_heals_it() {
    for (what, damage, blob) in OF_BLOBS {
        for patched in [false, true] {
            let mut fixture = Fixture::new(&[]);
            fixture.push_image("a");
            let healthy = fixture.objects();
            // This isolate has cached the image, and the presence of its blobs.
            assert!(fixture.is_whole("a"));
            let line = format!("HEAD /v2/a/blobs/{}", digest(blob));
            assert_eq!(fixture.ask(&line).status, 200);
            damage(&fixture);
            assert_eq!(fixture.pass(), ["corrupt blob: aside"], "{what}");
            // Nothing else was touched.
            let blob_key = key::blob(&digest(blob));
            let is_of_blob =
                |key: &String| *key == blob_key || (blob == LAYER && key.starts_with("extents/"));
            let mut others = healthy.clone();
            others.retain(|key, _| !is_of_blob(key));
            let mut after = fixture.objects();
            after.retain(|key, _| !is_of_blob(key));
            assert_eq!(after, others, "{what}");
            assert_eq!(fixture.metadata(&blob_key), r#"{"kind":"aside"}"#);

            // It is never served, to any caller and under any name.
            for _ in 0..2 {
                let line = format!("/v2/a/blobs/{}", digest(blob));
                assert_eq!(fixture.ask(&format!("GET {line}")).status, 404, "{what}");
                assert_eq!(fixture.ask(&format!("HEAD {line}")).status, 404, "{what}");
                let part = Ask::new(&format!("GET {line}")).header("range", "bytes=0-0");
                assert_eq!(ask(&fixture.registry, &part).status, 404, "{what}");
                let mount = format!("POST /v2/b/blobs/uploads/?mount={}&from=a", digest(blob));
                assert_eq!(fixture.ask(&mount).status, 202, "{what}");
                fixture.restart();
            }
            // A blob that was quarantined stays away, and is reported until a client pushes it.
            assert_eq!(fixture.pass(), ["missing blob: nothing"], "{what}");
            let again = Ask::new("PUT /v2/a/manifests/v2").manifest(OCI_MANIFEST, &image());
            assert_eq!(ask(&fixture.registry, &again).status, 404, "{what}");

            let pushed = if patched {
                fixture.push_patched("c", blob, 3)
            } else {
                fixture.push_whole("c", blob)
            };
            assert_eq!(pushed, 201, "{what}");
            // The stored manifest is whole again, by its own grants.
            assert!(fixture.is_whole("a"), "{what}");
            fixture.restart();
            assert!(fixture.is_whole("a"), "{what}");
            assert!(fixture.pass().is_empty(), "{what}");
        }
    }
}

#[test]
fn a_blob_misread_once_or_unread_is_not_quarantined() {
    let fixture = Fixture::new(&[]);
    fixture.push_image("a");
    let healthy = fixture.objects();
    let reading = fixture.host.reading.clone();
    let times = Rc::<Cell<u32>>::default();
    let (wrong, counted) = (digest(b"wrong"), times.clone());
    *reading.borrow_mut() = Box::new(move |mut received| {
        counted.set(counted.get() + 1);
        if counted.get() % 2 == 1 {
            received.digest = wrong.clone();
        }
        Ok(received)
    });
    assert!(fixture.pass().is_empty());
    assert_eq!(times.get(), 4);
    assert_eq!(fixture.objects(), healthy);

    // A stream that aborts ends the step; if it aborts again, the blob is skipped and reported.
    *reading.borrow_mut() = Box::new(|_| Err(StoreError::Failed("it broke off".to_owned())));
    let mut statuses = Vec::new();
    let last = loop {
        let answer = fixture.ask("POST /v2/_strata/scrub");
        statuses.push(answer.status);
        if answer.status != 503 || statuses.len() > 8 {
            break json_of(&answer);
        }
    };
    assert_eq!(statuses, [503, 503, 200]);
    assert_eq!(last["pass"]["found"], json!({ "unread blob": 2 }));
    assert_eq!(fixture.objects(), healthy);
    assert!(fixture.is_whole("a"));
}

#[test]
fn a_single_blob_can_be_scrubbed_by_digest() {
    let fixture = damaged(&[]);
    let at = |blob: &[u8], query: &str| {
        let line = format!("POST /v2/_strata/scrub?digest={}{query}", digest(blob));
        fixture.ask(&line)
    };
    assert_eq!(at(b"nothing", "").status, 404);
    let sound = json_of(&at(LAYER, ""));
    assert_eq!(
        (&sound["count"], &sound["finished"]),
        (&json!(0), &json!(true))
    );
    assert_eq!(sound["checked"]["blob"], 1);
    let told = json_of(&at(b"whole", "&dry-run"));
    assert_eq!(short(&told), ["corrupt blob: aside"]);
    assert_eq!(short(&json_of(&at(b"whole", ""))), ["corrupt blob: aside"]);
    assert_eq!(fixture.push_whole("c", b"whole"), 201);
    assert!(short(&json_of(&at(b"whole", ""))).is_empty());
    assert!(fixture.keys(key::SCRUB_CURSOR).is_empty());
    for wrong in [
        "?digest=x",
        "?cursor=x",
        "?cursor=x&dry-run",
        "?dry-run=perhaps",
    ] {
        let answer = fixture.ask(&format!("POST /v2/_strata/scrub{wrong}"));
        assert_eq!(answer.status, 400, "{wrong}");
    }
    assert_eq!(at(LAYER, "&cursor=x&dry-run").status, 400);
}

#[test]
fn damaged_mirrored_objects_are_fetched_again() {
    let upstream = registry_of(
        Watched::new(MemoryObjects::default(), |_, _| Verdict::Done),
        &[("STRATA_ANONYMOUS_PULL", "true")],
    );
    for blob in [LAYER, CONFIG] {
        let line = format!("POST /v2/a/blobs/uploads/?digest={}", digest(blob));
        assert_eq!(ask(&upstream, &Ask::new(&line).body(blob)).status, 201);
    }
    let manifest = Ask::new("PUT /v2/a/manifests/v1").manifest(OCI_MANIFEST, &image());
    assert_eq!(ask(&upstream, &manifest).status, 201);
    let mirrors = Mirrors::of(move |question| answer(&upstream, question));
    let mirror = mirrors.mirror(&json!({}));
    let blob = format!("/v2/up.example/a/blobs/{}", digest(LAYER));
    let manifest = format!("/v2/up.example/a/manifests/{}", manifest_digest());
    let scrub = |registry: &TestRegistry<Watched>| {
        let answer = ask(registry, &Ask::new("POST /v2/_strata/scrub"));
        assert_eq!(answer.status, 200);
        short(&json_of(&answer))
    };
    assert_eq!(get(&mirror, &manifest).status, 200);
    // Blobs are stored on demand, so their absence is no damage.
    assert!(scrub(&mirror).is_empty());
    assert_eq!(get(&mirror, &blob).body, LAYER);
    assert!(scrub(&mirror).is_empty());
    mirrors.asked();

    let memory = mirrors.store.memory.clone();
    let healthy: Vec<Option<Vec<u8>>> = [
        key::blob(&digest(LAYER)),
        key::manifest(&name("up.example/a"), &manifest_digest()),
    ]
    .iter()
    .map(|key| {
        let bytes = memory.bytes(key).unwrap();
        let mut wrong = bytes.clone();
        flip(&mut wrong);
        let metadata = block_on(memory.head(key)).unwrap().unwrap().metadata;
        let options = PutOptions {
            metadata: &metadata,
            ..PutOptions::default()
        };
        block_on(memory.put(key, Content::Bytes(wrong), options)).unwrap();
        Some(bytes)
    })
    .collect();
    let other = mirrors.mirror(&json!({}));
    assert_eq!(
        scrub(&other),
        ["corrupt blob: aside", "corrupt manifest: aside"]
    );
    assert!(mirrors.asked().is_empty());
    for registry in [&mirror, &other] {
        assert_eq!(get(registry, &blob).body, LAYER);
        assert_eq!(get(registry, &manifest).status, 200);
    }
    let asked = mirrors.asked();
    assert!(
        asked.contains(&format!("GET /v2/a/blobs/{}", digest(LAYER))),
        "{asked:?}"
    );
    let after = [
        memory.bytes(&key::blob(&digest(LAYER))),
        memory.bytes(&key::manifest(&name("up.example/a"), &manifest_digest())),
    ];
    assert_eq!(after.to_vec(), healthy);
    assert!(scrub(&other).is_empty());
}

#[test]
fn a_blob_that_takes_too_long_is_skipped_and_reported() {
    let fixture = Fixture::new(&[]);
    fixture.push_image("a");
    let slow = vec![7; 300 * 1024];
    fixture.push_whole("a", &slow);
    let reading = fixture.host.reading.clone();
    // The platform ends a step while it hashes the blob.
    let line = "POST /v2/_strata/scrub";
    let is_reading = Rc::<Cell<bool>>::default();
    let (noted, length) = (is_reading.clone(), slow.len() as u64);
    *reading.borrow_mut() = Box::new(move |received| {
        noted.set(noted.get() || received.size == length);
        Ok(received)
    });
    for _ in 0..2 {
        is_reading.set(false);
        let question = Ask::new(line);
        let mut asked = pin!(ask_now(&fixture.registry, &question));
        let waker = noop_waker();
        let mut context = Context::from_waker(&waker);
        while !is_reading.get() {
            assert_eq!(asked.as_mut().poll(&mut context), Poll::Pending);
        }
        fixture.host.pass(Duration::from_secs(300));
    }
    is_reading.set(false);
    let found = fixture.pass();
    assert_eq!(found, ["unread blob: nothing"]);
    assert!(!is_reading.get());
    // The next pass tries it again.
    assert!(fixture.pass().is_empty());
    assert!(is_reading.get());
}
