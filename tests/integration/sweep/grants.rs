//! Removal of superseded grants and referrers.

use super::*;

#[test]
fn one_grant_of_a_manifest_stays_after_repeated_pushes() {
    let fixture = Fixture::new(&[]);
    for _ in 0..5 {
        fixture.push_image("a", "v1");
        fixture.push_image("b", "v1");
    }
    let other = versioned(1);
    fixture.push_manifest("a", "v2", OCI_MANIFEST, &other);
    let grants = |blob, name: &str| {
        let grants = fixture.keys(&key::grants(&digest(blob), &name.parse().unwrap()));
        grants.len()
    };
    let all = |blob| [grants(blob, "a"), grants(blob, "b")];
    assert!(all(LAYER).iter().all(|number| *number >= 10));
    fixture.host.pass(GRACE);
    // Young grants stay, in any number, and the old ones before them are deleted.
    for _ in 0..3 {
        fixture.push_manifest("b", "v1", OCI_MANIFEST, &image());
    }
    let removals = fixture.round();
    let again = |removal: &&Value| removal["why"] == "it has a newer grant for the same manifest";
    // Grants of five pushes of two blobs each: four pushes in one repository, all in the other.
    assert_eq!(removals.iter().filter(again).count(), 18);
    assert_eq!((all(LAYER), all(CONFIG)), ([2, 3], [2, 3]));
    fixture.host.pass(GRACE);
    fixture.round();
    assert_eq!((all(LAYER), all(CONFIG)), ([2, 1], [2, 1]));
    assert!(fixture.round().is_empty());
    assert!(fixture.is_whole("a", "v1") && fixture.is_whole("b", "v1"));
    for name in ["a", "b"] {
        fixture.delete_image(name);
    }
    fixture.round();
    assert_eq!((all(LAYER), all(CONFIG)), ([1, 0], [1, 0]));
}

#[test]
fn one_entry_of_a_referrer_stays_after_repeated_pushes() {
    let fixture = Fixture::new(&[]);
    fixture.push_image("a", "v1");
    let subject = descriptor(OCI_MANIFEST, image().to_string().as_bytes());
    let signatures: Vec<Value> = (0..2)
        .map(|version| {
            let mut signature = versioned(version);
            signature["subject"] = subject.clone();
            signature
        })
        .collect();
    let push = |signature: &Value| {
        let digest = digest(signature.to_string().as_bytes()).to_string();
        fixture.push_manifest("a", &digest, OCI_MANIFEST, signature);
    };
    for _ in 0..4 {
        signatures.iter().for_each(push);
    }
    let entries = || fixture.keys("repositories/a/_referrers/");
    let line = format!(
        "GET /v2/a/referrers/{}",
        subject["digest"].as_str().unwrap()
    );
    let listed = || fixture.ask(&line).body;
    let before = listed();
    assert!(fixture.round().is_empty());
    assert_eq!(entries().len(), 8);
    fixture.host.pass(GRACE);
    push(&signatures[0]);
    let removals = fixture.round();
    let again = |removal: &&Value| removal["why"] == "its manifest has a newer entry";
    assert_eq!(removals.iter().filter(again).count(), 4 + 3);
    assert_eq!(entries().len(), 2);
    assert_eq!(listed(), before);
    fixture.sweep_clean();
    assert_eq!((entries().len(), listed()), (2, before));
}

/// A late sweep deletes a grant whose manifest was absent when it looked.
#[test]
fn the_grant_of_the_last_push_survives_a_late_sweep() {
    let fixture = Fixture::new(&[]);
    fixture.push_image("a", "v1");
    fixture.delete_image("a");
    fixture.host.pass(GRACE);
    let again = || {
        fixture.push_image("a", "v1");
        fixture.host.pass(GRACE);
        fixture.round();
    };
    fixture.sweep_with(&[("delete refs/", &again)]);
    fixture.sweep_clean();
    assert!(fixture.is_whole("a", "v1"));
}

/// The order of their keys is random.
#[test]
fn the_younger_grant_of_a_manifest_stays_for_any_order_of_keys() {
    for (older, younger) in [("1", "2"), ("2", "1")] {
        let fixture = Fixture::new(&[]);
        fixture.push_image("a", "v1");
        let name = "a".parse().unwrap();
        let grants = || fixture.keys(&key::grants(&digest(LAYER), &name));
        block_on(fixture.memory().delete(&grants())).unwrap();
        let manifest = digest(image().to_string().as_bytes());
        let reason = format!(r#"{{"reason":"manifest","digest":"{manifest}"}}"#);
        let [older, younger] = [older, younger].map(|id| key::grant(&digest(LAYER), &name, id));
        fixture.put(&older, b"", &reason);
        fixture.host.pass(Duration::from_millis(1));
        fixture.put(&younger, b"", &reason);
        fixture.host.pass(GRACE);
        fixture.round();
        assert_eq!(grants(), [younger]);
    }
}

/// A grant that reaches the grace period while others are looked at stays. Its manifest was looked
/// for when the grant was young, and may have been stored since.
#[test]
fn a_grant_that_grows_old_during_a_step_stays() {
    let host = TestHost::default();
    let name = "a".parse().unwrap();
    let [wanted, other] = [b"wanted", b"others"].map(|bytes| digest(bytes));
    let (stored, slow) = (key::manifest(&name, &wanted), key::manifest(&name, &other));
    let meanwhile = Rc::<RefCell<Option<Box<dyn FnOnce()>>>>::default();
    let happens = meanwhile.clone();
    let store = Watched::new(
        MemoryObjects::timed(host.now.clone()),
        move |operation, key| {
            if operation == "head" && key == slow {
                happens.take().unwrap()();
            }
            Verdict::Done
        },
    );
    let memory = store.memory.clone();
    let fixture = Fixture {
        registry: registry_on(store, host.clone(), &[("STRATA_GRACE_SECONDS", "8")]),
        host: host.clone(),
        operations: Rc::default(),
        begun: Rc::default(),
        fails: Rc::default(),
        fails_next: Rc::default(),
        pace: Rc::default(),
    };
    let blob = digest(LAYER);
    let grant = |id, manifest: &Digest| {
        let reason = format!(r#"{{"reason":"manifest","digest":"{manifest}"}}"#);
        fixture.put(&key::grant(&blob, &name, id), b"", &reason);
    };
    fixture.put(&key::blob(&blob), LAYER, r#"{"kind":"bytes"}"#);
    grant("1", &wanted);
    grant("2", &other);
    host.pass(Duration::from_secs(8));
    // A client pushes the manifest again, and stores it in time. The sweep, which looked for it
    // before, is slower.
    grant("3", &wanted);
    host.pass(Duration::from_secs(2));
    *meanwhile.borrow_mut() = Some(Box::new(move || {
        let metadata = json!({ "mediaType": OCI_MANIFEST }).to_string();
        let options = PutOptions {
            metadata: &metadata,
            ..PutOptions::default()
        };
        block_on(memory.put(&stored, Content::Bytes(b"wanted".to_vec()), options)).unwrap();
        host.pass(Duration::from_secs(7));
    }));
    assert_eq!(short(&fixture.round()), ["delete grant", "delete grant"]);
    assert!(meanwhile.borrow().is_none());
    assert_eq!(fixture.keys("refs/"), [key::grant(&blob, &name, "3")]);
}
