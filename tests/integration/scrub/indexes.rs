//! The scrub of indexes that list more than manifests, and less than they name.

use super::*;

const CACHE: &[u8] = br#"{"layers": [], "records": []}"#;
const SPARSE: (&str, &str) = ("STRATA_SPARSE_INDEXES", "true");

fn index(manifests: &[Value]) -> Value {
    json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests })
}

#[test]
fn blobs_of_an_index_keep_their_grants_and_children_need_none() {
    let fixture = Fixture::new(&[]);
    fixture.push_image("a");
    fixture.push_whole("a", CACHE);
    fixture.push_whole("a", b"unknown");
    let listed = index(&[
        descriptor("application/vnd.buildkit.cacheconfig.v0", CACHE),
        descriptor("application/vnd.example.thing", b"unknown"),
        descriptor(
            "application/vnd.example.manifest",
            image().to_string().as_bytes(),
        ),
    ]);
    fixture.push_manifest("a", "all", OCI_INDEX, &listed);
    let before = fixture.objects();
    assert_eq!(fixture.pass(), Vec::<String>::new());
    assert_eq!(fixture.objects(), before);

    for blob in [CACHE, b"unknown"] {
        let prefix = format!("refs/sha256/{}/a/_", digest(blob).encoded());
        fixture.delete(&fixture.keys(&prefix));
    }
    assert_eq!(fixture.pass(), ["missing grant: write"; 2]);
    assert_eq!(fixture.pass(), Vec::<String>::new());
    let child = digest(image().to_string().as_bytes());
    let of_child = format!("refs/sha256/{}/", child.encoded());
    assert_eq!(fixture.keys(&of_child), Vec::<String>::new());
}

#[test]
fn manifests_that_were_absent_at_the_push_of_their_index_are_not_missing() {
    let fixture = Fixture::new(&[SPARSE]);
    fixture.push_image("a");
    let listed = index(&[
        descriptor(OCI_MANIFEST, image().to_string().as_bytes()),
        descriptor(OCI_MANIFEST, b"absent"),
    ]);
    fixture.push_manifest("a", "all", OCI_INDEX, &listed);
    assert_eq!(fixture.pass(), Vec::<String>::new());
    // The child that was there is reported.
    let delete = format!("DELETE /v2/a/manifests/{}", manifest_digest());
    assert_eq!(fixture.ask(&delete).status, 202);
    assert_eq!(fixture.pass(), ["incomplete manifest: nothing"]);
}

/// A client may delete a manifest that an index lists. That is no loss, so no alert is due.
#[test]
fn an_index_whose_manifest_was_deleted_is_incomplete() {
    let fixture = Fixture::new(&[]);
    fixture.push_image("a");
    let unknown = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [] });
    fixture.push_manifest("a", "unknown", OCI_INDEX, &unknown);
    let unknown = unknown.to_string();
    let listed = index(&[
        descriptor(OCI_MANIFEST, image().to_string().as_bytes()),
        descriptor("application/vnd.example.manifest", unknown.as_bytes()),
    ]);
    fixture.push_manifest("a", "all", OCI_INDEX, &listed);
    let delete = |manifest: &Digest| {
        let line = format!("DELETE /v2/a/manifests/{manifest}");
        assert_eq!(fixture.ask(&line).status, 202);
    };
    delete(&manifest_digest());
    let unknown = digest(unknown.as_bytes());
    delete(&unknown);
    let logged = fixture.host.log.borrow().len();
    let body = fixture.step("");
    assert_eq!(short(&body), ["incomplete manifest: nothing"]);
    let why = body["findings"][0]["why"].as_str().unwrap();
    for absent in [manifest_digest(), unknown] {
        assert!(why.contains(&absent.to_string()), "{why}");
    }
    // It keeps no grant on what was no blob.
    assert_eq!(fixture.pass(), ["incomplete manifest: nothing"]);
    assert_eq!(fixture.host.log.borrow()[logged..], [] as [String; 0]);
    delete(&digest(listed.to_string().as_bytes()));
    assert_eq!(fixture.pass(), Vec::<String>::new());
}

/// A manifest that is deleted while the scrub runs is not missing, whatever the scrub has listed
/// before.
#[test]
fn a_manifest_that_is_deleted_during_the_scrub_is_not_missing() {
    let listed = index(&[descriptor(OCI_MANIFEST, image().to_string().as_bytes())]);
    let of_index = digest(listed.to_string().as_bytes());
    let mut ran = 0;
    for deleted in [
        [manifest_digest(), of_index.clone()],
        [of_index, manifest_digest()],
    ] {
        // Another isolate deletes both before each operation of the pass.
        for at in 1.. {
            let fixture = Fixture::new(&[]);
            fixture.push_image("a");
            fixture.push_manifest("a", "all", OCI_INDEX, &listed);
            let other = registry_on(fixture.registry.store().clone(), fixture.host.clone(), &[]);
            let scrub = Ask::new("POST /v2/_strata/scrub");
            let mut scrubbing = pin!(ask_now(&fixture.registry, &scrub));
            let waker = noop_waker();
            let mut context = Context::from_waker(&waker);
            let is_early = (0..at).all(|_| scrubbing.as_mut().poll(&mut context).is_pending());
            if !is_early {
                break;
            }
            for manifest in &deleted {
                let delete = Ask::new(&format!("DELETE /v2/a/manifests/{manifest}"));
                assert_eq!(ask(&other, &delete).status, 202);
            }
            let answer = block_on(scrubbing);
            assert_eq!(answer.status, 200);
            let body: Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!(
                short(&body),
                Vec::<String>::new(),
                "{deleted:?} after {at} turns"
            );
            ran += 1;
        }
    }
    assert!(ran > 60, "{ran}");
}

/// The positions of absent manifests count the listed manifests, whatever else turns out to be one.
#[test]
fn children_of_unknown_types_move_no_position_of_absent_manifests() {
    let fixture = Fixture::new(&[SPARSE]);
    fixture.push_image("a");
    // In this order: content of an unknown type, an absent manifest, and a stored one.
    let manifest = |number: u32| {
        let mut manifest = image();
        manifest["annotations"] = json!({ "number": number.to_string() });
        manifest
    };
    let mut manifests: Vec<Value> = (0..3).map(manifest).collect();
    manifests.sort_by_key(|manifest| digest(manifest.to_string().as_bytes()));
    let [unknown, absent, there] = &manifests[..] else {
        unreachable!()
    };
    for (tag, manifest) in [("unknown", unknown), ("there", there)] {
        fixture.push_manifest("a", tag, OCI_MANIFEST, manifest);
    }
    let listed =
        |media_type, manifest: &Value| descriptor(media_type, manifest.to_string().as_bytes());
    let sparse = index(&[
        listed("application/vnd.example.manifest", unknown),
        listed(OCI_MANIFEST, absent),
        listed(OCI_MANIFEST, there),
    ]);
    fixture.push_manifest("a", "all", OCI_INDEX, &sparse);
    let of_index = key::manifest(&name("a"), &digest(sparse.to_string().as_bytes()));
    let stored: Value = serde_json::from_str(&fixture.metadata(&of_index)).unwrap();
    assert_eq!(stored["absent"], json!([0]));
    assert_eq!(fixture.pass(), Vec::<String>::new());

    fixture.delete(&fixture.keys("repositories/a/_tags/there"));
    let there = digest(there.to_string().as_bytes());
    fixture.delete(&[key::manifest(&name("a"), &there)]);
    assert_eq!(fixture.pass(), ["incomplete manifest: nothing"]);
}

/// A layer stays a blob of its index, although the repository has the same bytes as a manifest too.
#[test]
fn a_blob_of_a_known_type_gets_its_grant_back_if_it_is_a_manifest_too() {
    let fixture = Fixture::new(&[]);
    fixture.push_image("a");
    let manifest = image().to_string();
    assert_eq!(fixture.push_whole("a", manifest.as_bytes()), 201);
    let listed = index(&[descriptor(
        "application/vnd.oci.image.layer.v1.tar",
        manifest.as_bytes(),
    )]);
    fixture.push_manifest("a", "all", OCI_INDEX, &listed);
    let of_blob = digest(manifest.as_bytes());
    let prefix = format!("refs/sha256/{}/a/_", of_blob.encoded());
    fixture.delete(&fixture.keys(&prefix));
    assert_eq!(fixture.pass(), ["missing grant: write"]);
    assert_eq!(fixture.pass(), Vec::<String>::new());
}
