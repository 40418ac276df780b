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
    // The child that was there is missed.
    fixture.delete(&fixture.keys("repositories/a/_tags/"));
    fixture.delete(&[key::manifest(&name("a"), &manifest_digest())]);
    assert_eq!(fixture.pass(), ["missing manifest: nothing"]);
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
    assert_eq!(fixture.pass(), ["missing manifest: nothing"]);
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
