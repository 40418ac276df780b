//! Removal of unused blobs and manifests after two grace periods.

use super::*;

#[test]
fn blobs_in_use_stay() {
    let fixture = Fixture::new(&[]);
    fixture.push_image("a", "v1");
    fixture.push_whole("b", LAYER);
    let before = fixture.keys("");
    for _ in 0..6 {
        fixture.host.pass(GRACE / 2);
        fixture.round();
        assert!(fixture.is_whole("a", "v1"));
    }
    // The grants of uploads are deleted, and so is the link of the other repository, which pushed a
    // blob without a manifest.
    let is_left = |key: &&String| !fixture.memory().keys().contains(key);
    let gone: BTreeSet<&String> = before.iter().filter(is_left).collect();
    assert!(gone.iter().all(|key| key.starts_with("refs/")), "{gone:?}");
    assert_eq!(gone.len(), 4, "{gone:?}");
    assert!(fixture.keys("sweep/marks/").is_empty());
}

#[test]
fn a_deleted_image_is_removed_after_two_grace_periods() {
    let fixture = Fixture::new(&[]);
    fixture.push_image("a", "v1");
    fixture.host.pass(GRACE);
    fixture.round();
    fixture.delete_image("a");
    let expected = [
        "condemn blob",
        "condemn blob",
        "delete grant",
        "delete grant",
        "delete link",
        "delete link",
    ];
    assert_eq!(short(&fixture.round()), expected);
    assert_eq!(fixture.mark(LAYER).as_deref(), Some("condemned"));
    // Not before the grace period has passed.
    fixture.host.pass(GRACE - Duration::from_millis(1));
    assert!(fixture.round().is_empty());
    fixture.host.pass(Duration::from_millis(1));
    assert_eq!(short(&fixture.round()), ["delete blob", "delete blob"]);
    assert!(fixture.keys("extents/").is_empty() && fixture.keys("blobs/").is_empty());
    // The upload of the extents is found without them.
    assert_eq!(short(&fixture.round()), ["delete upload"]);
    assert_eq!(
        fixture.keys(""),
        [
            "catalog/a",
            "repositories/a/_tags/v1",
            "sweep/cursor",
            "sweep/inventory"
        ]
    );
}

/// A client that pushes a blob that is being removed is told to wait. So a step that runs out of
/// time finishes the removals that it has begun.
#[test]
fn a_step_out_of_time_completes_the_removals_it_began() {
    let fixture = Fixture::new(&[]);
    for number in 0..30_u8 {
        fixture.push_patched("a", &[number; 9]);
    }
    fixture.host.pass(GRACE);
    fixture.round();
    fixture.host.pass(GRACE);
    fixture.pace.set(Duration::from_millis(300));
    let (mut steps, mut left) = (0, 30);
    while left > 0 {
        fixture.step("");
        steps += 1;
        let marks = fixture.keys("sweep/marks/");
        assert!(!marks.iter().any(|mark| {
            let text = String::from_utf8(fixture.memory().bytes(mark).unwrap()).unwrap();
            text.contains("deleting")
        }));
        let blobs = fixture.keys("blobs/").len();
        assert!(blobs < left || steps < 3, "{blobs} after {steps}");
        left = blobs;
    }
    assert!(steps > 3, "{steps}");
    assert!(fixture.keys("extents/").is_empty());
}

#[test]
fn a_push_in_time_keeps_a_condemned_blob() {
    let fixture = Fixture::new(&[]);
    fixture.push_image("a", "v1");
    fixture.host.pass(GRACE);
    fixture.round();
    fixture.delete_image("a");
    fixture.round();
    fixture.host.pass(GRACE);
    fixture.push_image("b", "v1");
    assert_eq!(fixture.mark(LAYER).as_deref(), Some("lifted"));
    for _ in 0..4 {
        fixture.round();
        fixture.host.pass(GRACE);
        assert!(fixture.is_whole("b", "v1"));
    }
    // A lifted mark is condemned again, and deleted with the blob.
    fixture.delete_image("b");
    fixture.sweep_clean();
    assert_eq!(
        fixture.keys("blobs/").len() + fixture.keys("sweep/marks/").len(),
        0
    );
}

/// Objects derived from a layer are written when a pass ends, perhaps after the layer was deleted.
#[test]
fn an_index_of_a_late_pass_over_a_deleted_layer_is_deleted() {
    let fixture = Fixture::new(&[]);
    fixture.push_image("a", "v1");
    let layer = digest(LAYER);
    let remove = || {
        fixture.delete_image("a");
        fixture.sweep_clean();
        assert_eq!(fixture.keys("blobs/"), Vec::<String>::new());
    };
    let line = format!("GET /v2/a/_strata/layers/{layer}");
    fixture.ask_with(&line, &[("put layers/", &remove)]);
    let derived = || fixture.keys("layers/");
    assert_eq!(derived(), [key::index(&layer)]);
    assert!(fixture.round().is_empty(), "it is young");
    fixture.host.pass(GRACE);
    let removals = fixture.round();
    assert_eq!(removals.len(), 1);
    assert_eq!(removals[0]["why"], "its layer is not stored");
    assert_eq!(derived(), Vec::<String>::new());
    // Objects derived from a stored layer stay.
    fixture.push_image("a", "v1");
    fixture.ask(&line);
    fixture.sweep_clean();
    assert_eq!(derived(), [key::index(&layer)]);
}

/// Two digests of one blob are two blobs.
#[test]
fn blobs_of_every_digest_algorithm_are_swept() {
    let fixture = Fixture::new(&[]);
    let long: Digest = strata::digest::Algorithm::Sha512.digest(LAYER);
    for digest in [&long, &digest(LAYER)] {
        let line = format!("POST /v2/a/blobs/uploads/?digest={digest}");
        assert_eq!(
            ask(&fixture.registry, &Ask::new(&line).body(LAYER)).status,
            201
        );
    }
    fixture.sweep_clean();
    assert!(fixture.keys("blobs/").is_empty() && fixture.keys("refs/").is_empty());
}

#[test]
fn the_sweep_keeps_child_manifests_and_referrers() {
    let fixture = Fixture::new(&[]);
    fixture.push_image("a", "v1");
    let target = digest(image().to_string().as_bytes());
    let index = json!({
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [descriptor(OCI_MANIFEST, image().to_string().as_bytes())],
        "subject": descriptor(OCI_MANIFEST, image().to_string().as_bytes()),
    });
    fixture.push_manifest("a", "all", OCI_INDEX, &index);
    fixture.sweep_clean();
    assert!(fixture.is_whole("a", "v1"));
    let referrers = fixture.ask(&format!("GET /v2/a/referrers/{target}"));
    let referrers: Value = serde_json::from_slice(&referrers.body).unwrap();
    assert_eq!(referrers["manifests"].as_array().unwrap().len(), 1);
}

/// A listing may begin with an empty page. Only its end says that nobody holds a blob.
#[test]
fn an_empty_page_of_grants_does_not_say_that_a_blob_has_none() {
    for empty in [false, true] {
        let fixture = Fixture::new(&[]);
        fixture.push_whole("a", b"lost");
        fixture.push_whole("a", LAYER);
        let layer = digest(LAYER);
        for blob in [&digest(b"lost"), &layer] {
            let deleted = fixture.ask(&format!("DELETE /v2/a/blobs/{blob}"));
            assert_eq!(deleted.status, 202);
        }
        fixture.host.pass(GRACE);
        fixture.round();
        fixture.host.pass(GRACE);
        assert_eq!(fixture.mark(LAYER).as_deref(), Some("condemned"));
        let holders = format!("refs/sha256/{}/", layer.encoded());
        *fixture.registry.store().empty_first.borrow_mut() = empty.then_some(holders);
        // A client has written its grant after the sweep listed all of them, and has not lifted the
        // mark yet.
        let grant = key::grant(&layer, &"b".parse().unwrap(), "g");
        let keep = || fixture.put(&grant, b"", r#"{"reason":"upload"}"#);
        fixture.sweep_with(&[(&format!("get {}", key::mark(&layer)), &keep)]);
        assert_eq!(fixture.mark(LAYER).as_deref(), Some("condemned"));
        let kept = fixture.keys("blobs/");
        assert_eq!(kept, [key::blob(&layer)], "the other blob is gone");
    }
}
