//! Scrubs of records: links, grants, manifests, indices and lists of repositories.

use super::*;

#[test]
fn an_old_link_without_a_grant_is_deleted() {
    let fixture = Fixture::new(&[]);
    fixture.push_image("a");
    let healthy = fixture.objects();
    let link = key::link(&digest(LAYER), &name("z"));
    let record = fixture.memory().bytes(&key::blob(&digest(LAYER))).unwrap();
    fixture.put(&link, &record, "");
    assert!(fixture.pass().is_empty());
    fixture.host.pass(GRACE);
    let step = fixture.step("?dry-run");
    assert_eq!(short(&step), ["orphaned link: delete"]);
    assert!(fixture.keys("").contains(&link));
    assert_eq!(fixture.pass(), ["orphaned link: delete"]);
    assert_eq!(fixture.objects(), healthy);
    let line = format!("GET /v2/z/blobs/{}", digest(LAYER));
    assert_eq!(fixture.ask(&line).status, 404);
}

#[test]
fn a_link_that_contradicts_its_blob_is_rewritten() {
    for wrong in [r#"{"kind":"bytes","size":10}"#, "{", "\u{fffd}"] {
        let mut fixture = Fixture::new(&[]);
        fixture.push_image("a");
        let healthy = fixture.objects();
        let reason = r#"{"reason":"pushed"}"#;
        let link = key::link(&digest(LAYER), &name("a"));
        fixture.put(&link, wrong.as_bytes(), reason);
        assert_eq!(fixture.pass(), ["corrupt link: write"], "{wrong}");
        assert_eq!(fixture.objects(), healthy, "{wrong}");
        fixture.restart();
        assert!(fixture.is_whole("a"), "{wrong}");
    }
}

/// Plants damage.
type Plant<'a> = &'a dyn Fn(&Fixture);

#[test]
fn a_corrupt_index_is_deleted_and_rebuilt() {
    let layer = gzip(&Tar::default().file("a", "hello").end());
    let other = gzip(
        &Tar::default()
            .file("a", "hello")
            .file("b", "more of it")
            .end(),
    );
    let contents = format!("/v2/a/_strata/layers/{}", digest(&layer));
    let index = key::index(&digest(&layer));
    let at = |fixture: &Fixture, change: &dyn Fn(&mut Vec<u8>)| {
        fixture.damage(&index, |bytes| change(bytes));
    };
    let wrong: [(&str, Plant<'_>); 6] = [
        ("another version", &|fixture| {
            at(fixture, &|bytes| bytes[4] = 9);
        }),
        ("a flipped byte in its head", &|fixture| {
            at(fixture, &|bytes| bytes[30] ^= 1);
        }),
        ("a flipped byte at its end", &|fixture| {
            at(fixture, &|bytes| *bytes.last_mut().unwrap() ^= 1);
        }),
        ("cut short", &|fixture| {
            at(fixture, &|bytes| bytes.truncate(bytes.len() - 1));
        }),
        ("nothing", &|fixture| at(fixture, &Vec::clear)),
        ("of another layer", &|fixture| {
            let theirs = fixture.memory().bytes(&key::index(&digest(&other)));
            fixture.put(&index, &theirs.unwrap(), "");
        }),
    ];
    for (what, damage) in wrong {
        let mut fixture = Fixture::new(&[]);
        for layer in [&layer, &other] {
            fixture.push_whole("a", layer);
            let line = format!("GET /v2/a/_strata/layers/{}", digest(layer));
            assert_eq!(fixture.ask(&line).status, 200);
        }
        let healthy = fixture.objects();
        damage(&fixture);
        assert_eq!(fixture.pass(), ["corrupt index: delete"], "{what}");
        let mut left = healthy.clone();
        left.remove(&index);
        assert_eq!(fixture.objects(), left, "{what}");
        fixture.restart();
        let answer = fixture.ask(&format!("GET {contents}"));
        assert_eq!(answer.status, 200, "{what}");
        assert_eq!(fixture.objects(), healthy, "{what}");
        assert!(fixture.pass().is_empty(), "{what}");
    }
}

#[test]
fn an_old_index_without_its_layer_is_deleted() {
    let fixture = Fixture::new(&[]);
    fixture.push_image("a");
    let healthy = fixture.objects();
    fixture.put(&key::index(&digest(b"other")), b"x", "");
    assert!(fixture.pass().is_empty());
    fixture.host.pass(GRACE);
    assert_eq!(fixture.pass(), ["orphaned index: delete"]);
    assert_eq!(fixture.objects(), healthy);
}

#[test]
fn a_corrupt_manifest_is_quarantined_until_a_push_heals_it() {
    let mut fixture = Fixture::new(&[]);
    fixture.push_image("a");
    let manifest = key::manifest(&name("a"), &manifest_digest());
    let healthy = fixture.objects();
    fixture.damage(&manifest, |bytes| flip(bytes));
    assert_eq!(fixture.pass(), ["corrupt manifest: aside"]);
    fixture.restart();
    for reference in ["v1".to_owned(), manifest_digest().to_string()] {
        let line = format!("GET /v2/a/manifests/{reference}");
        assert_eq!(fixture.ask(&line).status, 404);
    }
    let index = json!({
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [descriptor(OCI_MANIFEST, image().to_string().as_bytes())],
    });
    let line = "PUT /v2/a/manifests/all";
    let refused = ask(
        &fixture.registry,
        &Ask::new(line).manifest(OCI_INDEX, &index),
    );
    assert_eq!(refused.status, 404);
    assert_eq!(fixture.pass(), ["missing manifest: nothing"]);
    // It still holds its blobs, for any time until a client pushes it.
    for _ in 0..4 {
        fixture.host.pass(GRACE);
        assert_eq!(fixture.ask("POST /v2/_strata/sweep").status, 200);
    }
    fixture.push_manifest("a", "v1", OCI_MANIFEST, &image());
    assert!(fixture.is_whole("a"));
    assert!(fixture.pass().is_empty());
    assert_eq!(fixture.objects()[&manifest], healthy[&manifest]);
}

#[test]
fn an_oversized_manifest_is_quarantined() {
    let mut fixture = Fixture::new(&[]);
    fixture.push_image("a");
    let manifest = key::manifest(&name("a"), &manifest_digest());
    let healthy = fixture.objects();
    fixture.damage(&manifest, |bytes| bytes.resize(4 * 1024 * 1024 + 1, b' '));
    assert_eq!(fixture.pass(), ["corrupt manifest: aside"]);
    fixture.restart();
    assert_eq!(fixture.ask("GET /v2/a/manifests/v1").status, 404);
    fixture.push_manifest("a", "v1", OCI_MANIFEST, &image());
    assert_eq!(fixture.objects()[&manifest], healthy[&manifest]);
}

#[test]
fn the_lost_media_type_of_a_manifest_is_restored() {
    let mut fixture = Fixture::new(&[]);
    fixture.push_image("a");
    let healthy = fixture.objects();
    let manifest = key::manifest(&name("a"), &manifest_digest());
    fixture.put(&manifest, image().to_string().as_bytes(), "");
    assert_eq!(fixture.pass(), ["corrupt manifest: write"]);
    assert_eq!(fixture.objects(), healthy);
    fixture.restart();
    assert!(fixture.is_whole("a"));
}

#[test]
fn a_grant_that_is_missing_is_written_by_keep() {
    let fixture = Fixture::new(&[]);
    fixture.push_image("a");
    let grants = fixture.keys(&key::grants(&digest(LAYER), &name("a")));
    fixture.delete(&grants);
    // A sweep has condemned the blob already.
    let link = key::link(&digest(LAYER), &name("a"));
    fixture.delete(&[link]);
    fixture.host.pass(GRACE);
    assert_eq!(fixture.ask("POST /v2/_strata/sweep").status, 200);
    let mark = fixture.keys("sweep/marks/");
    assert_eq!(mark, [key::mark(&digest(LAYER))]);
    assert_eq!(short(&fixture.step("?dry-run")), ["missing grant: write"]);
    assert_eq!(fixture.pass(), ["missing grant: write"]);
    let lifted = fixture.memory().bytes(&mark[0]).unwrap();
    assert!(String::from_utf8(lifted).unwrap().contains("lifted"));
    for _ in 0..4 {
        assert_eq!(fixture.ask("POST /v2/_strata/sweep").status, 200);
        fixture.host.pass(GRACE);
        assert!(fixture.is_whole("a"));
    }
    assert!(fixture.pass().is_empty());
}

#[test]
fn a_referrer_that_ages_while_it_is_checked_stays() {
    let fixture = Fixture::new(&[]);
    fixture.push_image("a");
    let subject = manifest_digest();
    let entry = key::referrer(&name("a"), &subject, &digest(b"on its way"), "r");
    fixture.put(&entry, b"", "{}");
    fixture.host.pass(GRACE - Duration::from_secs(1));
    let clock = fixture.host.clone();
    let looked = Rc::<Cell<u64>>::default();
    let (manifest, looks) = (
        key::manifest(&name("a"), &digest(b"on its way")),
        looked.clone(),
    );
    fixture.plan(move |_, operation, key| {
        if operation == "head" && *key == manifest {
            looks.set(looks.get() + 1);
            clock.pass(Duration::from_secs(2));
        }
        Verdict::Done
    });
    assert!(fixture.pass().is_empty());
    assert_eq!(looked.get(), 1);
    assert_eq!(fixture.keys("repositories/a/_referrers/"), [entry]);
    fixture.obey();
    assert_eq!(fixture.pass(), ["orphaned referrer: delete"]);
}

#[test]
fn missing_records_of_a_repository_are_rewritten_or_reported() {
    let mut fixture = Fixture::new(&[]);
    fixture.push_image("a");
    let signature = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", CONFIG),
        "layers": [],
        "subject": descriptor(OCI_MANIFEST, image().to_string().as_bytes()),
    });
    fixture.push_manifest("a", "signature", OCI_MANIFEST, &signature);
    let index = json!({
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [descriptor(OCI_MANIFEST, image().to_string().as_bytes())],
    });
    fixture.push_manifest("a", "all", OCI_INDEX, &index);
    let healthy = fixture.objects();
    let referrers = |fixture: &Fixture| {
        fixture
            .ask(&format!("GET /v2/a/referrers/{}", manifest_digest()))
            .body
    };
    let listed = referrers(&fixture);

    // Entries of the catalogue and among referrers.
    let entries = fixture.keys("repositories/a/_referrers/");
    fixture.delete(&[key::catalog(&name("a")), entries[0].clone()]);
    let mut found = fixture.pass();
    found.sort();
    assert_eq!(
        found,
        ["missing referrer: write", "missing repository: write"]
    );
    assert_eq!(referrers(&fixture), listed);
    assert!(fixture.keys("").contains(&key::catalog(&name("a"))));
    let entry = fixture.keys("repositories/a/_referrers/").remove(0);
    fixture.put(&entry, b"", "?");
    assert_eq!(fixture.pass(), ["corrupt referrer: write"]);
    assert_eq!(referrers(&fixture), listed);
    let orphan = key::referrer(&name("a"), &manifest_digest(), &digest(b"none"), "r");
    fixture.put(&orphan, b"", "{}");
    assert!(fixture.pass().is_empty());
    fixture.host.pass(GRACE);
    assert_eq!(fixture.pass(), ["orphaned referrer: delete"]);
    assert_eq!(fixture.objects().len(), healthy.len());

    // A tag names its manifest twice.
    let tag = key::tag(&name("a"), &"v1".parse().unwrap());
    let body = fixture.memory().bytes(&tag).unwrap();
    fixture.put(&tag, &body, "?");
    assert_eq!(fixture.pass(), ["corrupt tag: write"]);
    assert_eq!(fixture.objects()[&tag], healthy[&tag]);
    fixture.put(&tag, b"?", "?");
    assert_eq!(fixture.pass(), ["corrupt tag: nothing"]);
    fixture.put(&tag, &healthy[&tag].0, &healthy[&tag].1);

    // An object that cannot be derived from others is reported, once for all references to it.
    let before = fixture.objects();
    let grant = fixture
        .keys(&key::grants(&digest(LAYER), &name("a")))
        .remove(0);
    fixture.put(&grant, b"", "?");
    fixture.delete(&[
        key::manifest(&name("a"), &manifest_digest()),
        key::blob(&digest(CONFIG)),
    ]);
    let mut found = fixture.pass();
    found.sort();
    assert_eq!(
        found,
        [
            "corrupt grant: nothing",
            "incomplete manifest: nothing",
            "missing blob: nothing",
            "missing manifest: nothing"
        ]
    );
    assert!(fixture.objects().len() == before.len() - 2);
    fixture.restart();
    fixture.push_image("a");
    assert!(fixture.is_whole("a"));
}
