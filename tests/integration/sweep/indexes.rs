//! Indexes that list more than manifests, and less than they name: the blobs of BuildKit's cache,
//! content of unknown types, and manifests that are absent.

use super::*;

const BUILDKIT_CACHE: &str = "application/vnd.buildkit.cacheconfig.v0";
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";
const UNKNOWN: &str = "application/vnd.example.thing";
const CACHE: &[u8] = br#"{"layers": [], "records": []}"#;

/// Untagged manifests expire after a day.
const UNTAGGED: (&str, &str) = (
    "STRATA_RETENTION",
    r#"[{"repositories": ["**"], "untagged_days": 1}]"#,
);
const SPARSE: (&str, &str) = ("STRATA_SPARSE_INDEXES", "true");

fn index(manifests: &[Value]) -> Value {
    json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests })
}

/// The index of a cache that BuildKit exports.
fn cache_index() -> Value {
    index(&[
        descriptor(LAYER_TYPE, LAYER),
        descriptor(BUILDKIT_CACHE, CACHE),
    ])
}

fn push(fixture: &Fixture, reference: &str, document: &Value) -> Answer {
    let line = format!("PUT /v2/a/manifests/{reference}");
    ask(
        &fixture.registry,
        &Ask::new(&line).manifest(OCI_INDEX, document),
    )
}

fn blob_status(fixture: &Fixture, blob: &[u8]) -> u16 {
    let line = format!("HEAD /v2/a/blobs/{}", digest(blob));
    fixture.ask(&line).status
}

fn manifest_status(fixture: &Fixture, manifest: &Value) -> u16 {
    let line = format!("HEAD /v2/a/manifests/{}", of(manifest));
    fixture.ask(&line).status
}

fn of(manifest: &Value) -> Digest {
    digest(manifest.to_string().as_bytes())
}

fn delete(fixture: &Fixture, manifest: &Value) {
    let line = format!("DELETE /v2/a/manifests/{}", of(manifest));
    assert_eq!(fixture.ask(&line).status, 202);
}

#[test]
fn an_index_of_a_build_cache_keeps_its_blobs_until_it_is_deleted() {
    for settings in [&[][..], &[UNTAGGED]] {
        let fixture = Fixture::new(settings);
        let refused = push(&fixture, "cache", &cache_index());
        assert_eq!(refused.status, 404);
        let text = String::from_utf8(refused.body).unwrap();
        assert!(
            text.contains("MANIFEST_BLOB_UNKNOWN") && text.contains(&digest(CACHE).to_string())
        );
        fixture.push_patched("a", LAYER);
        fixture.push_whole("a", CACHE);
        assert_eq!(push(&fixture, "cache", &cache_index()).status, 201);
        fixture.sweep_clean();
        for blob in [LAYER, CACHE] {
            assert_eq!(blob_status(&fixture, blob), 200);
        }
        delete(&fixture, &cache_index());
        fixture.sweep_clean();
        assert_eq!(fixture.keys("blobs/"), Vec::<String>::new());
    }
}

#[test]
fn content_of_an_unknown_type_is_a_manifest_if_the_repository_has_it_as_one() {
    let fixture = Fixture::new(&[UNTAGGED]);
    fixture.push_image("a", "v1");
    let child = image().to_string();
    let as_child = index(&[descriptor(UNKNOWN, child.as_bytes())]);
    let granted = fixture.keys("refs/").len();
    assert_eq!(push(&fixture, "child", &as_child).status, 201);
    assert_eq!(
        fixture.keys("refs/").len(),
        granted,
        "a child needs no grant"
    );
    // Another repository has the same bytes as a blob, which gives no right here.
    let as_blob = index(&[descriptor(UNKNOWN, CACHE)]);
    fixture.push_whole("b", CACHE);
    assert_eq!(push(&fixture, "blob", &as_blob).status, 404);
    fixture.push_whole("a", CACHE);
    let granted = fixture.keys("refs/").len();
    assert_eq!(push(&fixture, "blob", &as_blob).status, 201);
    assert_eq!(fixture.keys("refs/").len(), granted + 1);

    // The index alone keeps its child and its blob.
    assert_eq!(
        fixture.ask("DELETE /v2/a/manifests/v1").status,
        202,
        "the tag"
    );
    fixture.sweep_clean();
    assert_eq!(manifest_status(&fixture, &image()), 200);
    assert_eq!(blob_status(&fixture, LAYER), 200);
    assert_eq!(blob_status(&fixture, CACHE), 200);
    for (index, left) in [(&as_blob, 2), (&as_child, 0)] {
        delete(&fixture, index);
        fixture.sweep_clean();
        assert_eq!(fixture.keys("blobs/").len(), left);
    }
}

#[test]
fn an_index_of_indexes_needs_no_manifest_for_a_blob_of_its_child() {
    let fixture = Fixture::new(&[UNTAGGED]);
    fixture.push_whole("a", LAYER);
    fixture.push_whole("a", CACHE);
    assert_eq!(push(&fixture, "cache", &cache_index()).status, 201);
    let outer = index(&[descriptor(OCI_INDEX, cache_index().to_string().as_bytes())]);
    assert_eq!(push(&fixture, "outer", &outer).status, 201);
}

#[test]
fn a_sparse_index_is_accepted_by_a_setting_with_a_warning_for_each_absent_manifest() {
    let absent = versioned(7);
    let sparse = index(&[
        descriptor(OCI_MANIFEST, image().to_string().as_bytes()),
        descriptor(OCI_MANIFEST, absent.to_string().as_bytes()),
    ]);
    let refused = Fixture::new(&[]);
    refused.push_image("a", "v1");
    assert_eq!(push(&refused, "all", &sparse).status, 404);

    let fixture = Fixture::new(&[SPARSE]);
    fixture.push_image("a", "v1");
    let pushed = push(&fixture, "all", &sparse);
    assert_eq!(pushed.status, 201);
    assert_eq!(
        pushed.header("warning").unwrap(),
        format!(
            "299 - \"the index lists {}, which is not in the repository\"",
            of(&absent)
        )
    );
    // The layers of an image must be there.
    let mut image = image();
    image["layers"][0] = descriptor(LAYER_TYPE, b"absent");
    let line = Ask::new("PUT /v2/a/manifests/v2").manifest(OCI_MANIFEST, &image);
    assert_eq!(ask(&fixture.registry, &line).status, 404);

    // A whole index has no warning.
    let line = format!("PUT /v2/a/manifests/{}", of(&absent));
    let child = ask(
        &fixture.registry,
        &Ask::new(&line).manifest(OCI_MANIFEST, &absent),
    );
    assert_eq!(child.status, 201);
    assert_eq!(push(&fixture, "all", &sparse).header("warning"), None);
}

#[test]
fn many_absent_manifests_are_named_in_part_and_counted() {
    let fixture = Fixture::new(&[SPARSE]);
    let lists = |count: u32| {
        let children = (0..count).map(|number| versioned(number).to_string());
        let children = children.map(|child| descriptor(OCI_MANIFEST, child.as_bytes()));
        index(&children.collect::<Vec<_>>())
    };
    let pushed = push(&fixture, "many", &lists(300));
    assert_eq!(pushed.status, 201);
    let warnings: Vec<_> = pushed.headers.get_all("warning").iter().collect();
    assert_eq!(warnings.len(), 21);
    assert_eq!(warnings[20], "299 - \"and 280 more\"");
    let length: usize = warnings.iter().map(|warning| warning.len()).sum();
    assert!(length < 4_096, "{length} bytes");
    let refused = push(&fixture, "more", &lists(301));
    assert_eq!(refused.status, 400);
    let text = String::from_utf8(refused.body).unwrap();
    assert!(text.contains("an index may lack 300"), "{text}");
}

#[test]
fn a_manifest_that_comes_after_its_sparse_index_stays_while_the_index_does() {
    let fixture = Fixture::new(&[UNTAGGED, SPARSE]);
    let child = image();
    let sparse = index(&[descriptor(OCI_MANIFEST, child.to_string().as_bytes())]);
    assert_eq!(push(&fixture, "all", &sparse).status, 201);
    fixture.sweep_clean();
    fixture.push_patched("a", LAYER);
    fixture.push_whole("a", CONFIG);
    let line = format!("PUT /v2/a/manifests/{}", of(&child));
    let pushed = Ask::new(&line).manifest(OCI_MANIFEST, &child);
    assert_eq!(ask(&fixture.registry, &pushed).status, 201);
    fixture.sweep_clean();
    assert_eq!(manifest_status(&fixture, &child), 200);
    assert_eq!(blob_status(&fixture, LAYER), 200);
    delete(&fixture, &sparse);
    fixture.sweep_clean();
    assert_eq!(manifest_status(&fixture, &child), 404);
    assert_eq!(fixture.keys("blobs/"), Vec::<String>::new());
}

/// The looks that decide what content is are counted when the manifest is counted again, with what
/// its children list.
#[test]
fn the_operations_of_a_push_include_the_looks_at_content_of_unknown_types() {
    // 4 for each of 8 blobs; 4 for the inner index, and 2 for the claim of the outer one; 5 for any
    // manifest; 5 for each child of the inner index, and 1 for its body; 3 for the tag.
    let needed = 4 * 8 + 4 + 2 + 5 + 5 * 12 + 1 + 3;
    for (allowed, status) in [(needed - 1, 413), (needed, 201)] {
        let allowed = allowed.to_string();
        let fixture = Fixture::new(&[UNTAGGED, SPARSE, ("STRATA_SUBREQUESTS", &allowed)]);
        let inner = (0..12).map(|number| descriptor(OCI_MANIFEST, &[number]));
        let inner = index(&inner.collect::<Vec<_>>());
        assert_eq!(push(&fixture, "inner", &inner).status, 201);
        let unknown: Vec<_> = (0..8).map(|number| [b'u', number]).collect();
        for blob in &unknown {
            fixture.push_whole("a", blob);
        }
        let blobs = unknown.iter().map(|blob| descriptor(UNKNOWN, blob));
        let inner = descriptor(OCI_INDEX, inner.to_string().as_bytes());
        let outer = index(&blobs.chain([inner]).collect::<Vec<_>>());
        let before = fixture.operations.get();
        let pushed = push(&fixture, "outer", &outer);
        let operations = fixture.operations.get() - before;
        assert_eq!(pushed.status, status, "{pushed:?}");
        assert!(operations <= needed, "{operations}");
        let text = String::from_utf8(pushed.body).unwrap();
        let found = format!("the manifest takes {needed} store operations");
        assert_eq!(text.contains(&found), status == 413, "{text}");
    }
}
