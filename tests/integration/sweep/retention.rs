//! Retention: tags and manifests that policies remove, and the claims on them.

use super::*;

/// Tags of a repository, with the manifests of each.
fn retained(fixture: &Fixture) -> (Vec<String>, usize) {
    let tags = fixture.ask("GET /v2/a/tags/list");
    let tags: Value = serde_json::from_slice(&tags.body).unwrap();
    let tags = tags["tags"].as_array().unwrap();
    let tags = tags.iter().map(|tag| tag.as_str().unwrap().to_owned());
    (
        tags.collect(),
        fixture.keys("repositories/a/_manifests/").len(),
    )
}

const DAY: Duration = Duration::from_secs(24 * 3_600);

#[test]
fn policies_remove_tags_and_manifests_as_their_dry_run_says() {
    let policy = r#"[
        {"repositories": ["a"], "keep_newest": 2, "keep_tags": ["v*"], "untagged_days": 3},
        {"repositories": ["**"], "immutable_tags": ["v*"]}
    ]"#;
    let fixture = Fixture::new(&[("STRATA_RETENTION", policy)]);
    fixture.push_image("b", "v1");
    fixture.push_image("a", "v1");
    for version in 0..5 {
        let tag = format!("nightly-{version}");
        fixture.push_manifest("a", &tag, OCI_MANIFEST, &versioned(version));
        fixture.host.pass(Duration::from_secs(3_600));
    }
    assert_eq!(
        retained(&fixture),
        (
            [
                "nightly-0",
                "nightly-1",
                "nightly-2",
                "nightly-3",
                "nightly-4",
                "v1"
            ]
            .map(str::to_owned)
            .to_vec(),
            6
        )
    );
    // Not before they are as old as the grace period.
    assert!(fixture.round().is_empty());
    let mut seen = Vec::new();
    for _ in 0..6 {
        fixture.host.pass(DAY);
        let told = fixture.step("?dry-run=1")["removals"].clone();
        let mut told = told.as_array().unwrap().clone();
        let mut done = fixture.round();
        told.sort_by_key(Value::to_string);
        done.sort_by_key(Value::to_string);
        assert_eq!(told, done);
        seen.push(
            short(&done)
                .iter()
                .filter(|what| what.ends_with("tag") || what.ends_with("manifest"))
                .count(),
        );
    }
    assert_eq!(seen, [3, 0, 3, 0, 0, 0]);
    assert_eq!(
        retained(&fixture),
        (
            ["nightly-3", "nightly-4", "v1"].map(str::to_owned).to_vec(),
            3
        )
    );
    assert!(
        fixture.is_whole("a", "v1")
            && fixture.is_whole("a", "nightly-3")
            && fixture.is_whole("b", "v1")
    );
    assert_eq!(fixture.keys("sweep/claims/"), Vec::<String>::new());
}

#[test]
fn children_and_referrers_stay_with_their_manifests() {
    let policy = r#"[{"repositories": ["**"], "untagged_days": 2}]"#;
    let fixture = Fixture::new(&[("STRATA_RETENTION", policy)]);
    fixture.push_image("a", "old");
    let manifest = |version| versioned(version).to_string();
    let by_digest = |document: &Value| digest(document.to_string().as_bytes()).to_string();
    for version in 1..=4 {
        fixture.push_manifest(
            "a",
            &by_digest(&versioned(version)),
            OCI_MANIFEST,
            &versioned(version),
        );
    }
    // 1 is listed, the subject of 2 is 1, the subject of 3 is absent, 4 has no relation.
    let about = |subject: &[u8], note: &str| {
        let mut document = image();
        document["subject"] = descriptor(OCI_MANIFEST, subject);
        document["annotations"] = json!({ "note": note });
        document
    };
    // An index need not state that it is one.
    let inner = json!({ "schemaVersion": 2, "manifests": [descriptor(OCI_MANIFEST, manifest(1).as_bytes())] });
    fixture.push_manifest("a", &by_digest(&inner), OCI_INDEX, &inner);
    let outer = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor(OCI_INDEX, inner.to_string().as_bytes())] });
    fixture.push_manifest("a", "all", OCI_INDEX, &outer);
    let (kept, alone) = (
        about(manifest(1).as_bytes(), "kept"),
        about(b"elsewhere", "alone"),
    );
    for document in [&kept, &alone] {
        fixture.push_manifest("a", &by_digest(document), OCI_MANIFEST, document);
    }
    assert_eq!(fixture.keys("repositories/a/_manifests/").len(), 9);
    fixture.host.pass(2 * DAY);
    fixture.round();
    let stays = |document: &Value| {
        let line = format!("GET /v2/a/manifests/{}", by_digest(document));
        fixture.ask(&line).status == 200
    };
    for (document, expected) in [
        (&image(), true),
        (&versioned(1), true),
        (&versioned(2), false),
        (&versioned(4), false),
        (&inner, true),
        (&outer, true),
        (&kept, true),
        (&alone, false),
    ] {
        assert_eq!(stays(document), expected, "{document}");
    }
}

/// The list of an index that cannot be read is unknown, so nothing in its repository is removed.
#[test]
fn no_manifest_is_removed_beside_an_unreadable_index() {
    // The second is still an index, but an empty one, which does not match its digest.
    let empty = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [] });
    for bytes in [&b"{"[..], empty.to_string().as_bytes()] {
        let policy = r#"[{"repositories": ["**"], "untagged_days": 2}]"#;
        let fixture = Fixture::new(&[("STRATA_RETENTION", policy)]);
        fixture.push_image("a", "old");
        let child = versioned(1).to_string();
        let listed = digest(child.as_bytes());
        fixture.push_manifest("a", &listed.to_string(), OCI_MANIFEST, &versioned(1));
        let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor(OCI_MANIFEST, child.as_bytes())] });
        fixture.push_manifest("a", "all", OCI_INDEX, &index);
        let stored = digest(index.to_string().as_bytes());
        let key = key::manifest(&"a".parse().unwrap(), &stored);
        fixture.put(
            &key,
            bytes,
            r#"{"mediaType":"application/vnd.oci.image.index.v1+json"}"#,
        );
        fixture.host.pass(2 * DAY);
        fixture.round();
        assert_eq!(fixture.keys("repositories/a/_manifests/").len(), 3);
        let log = fixture.host.log.borrow().join("\n");
        assert!(log.contains("a manifest can't be read"), "{log}");
    }
}

/// Its etag differs from the one that was listed, although it names the same manifest.
#[test]
fn a_tag_pushed_again_during_the_sweep_stays() {
    let policy = r#"[{"repositories": ["**"], "tag_days": 2}]"#;
    let fixture = Fixture::new(&[("STRATA_RETENTION", policy)]);
    fixture.push_image("a", "v1");
    fixture.host.pass(2 * DAY);
    let push = || fixture.push_manifest("a", "v1", OCI_MANIFEST, &image());
    fixture.sweep_with(&[("put repositories/a/_tags/v1", &push)]);
    assert!(fixture.is_whole("a", "v1"));
    fixture.host.pass(2 * DAY);
    fixture.round();
    assert!(!fixture.is_whole("a", "v1"));
}

/// Its list is read again, although the index was absent when the sweep first read it.
#[test]
fn an_index_pushed_again_during_the_sweep_keeps_its_children() {
    let policy = r#"[{"repositories": ["**"], "untagged_days": 2}]"#;
    let fixture = Fixture::new(&[("STRATA_RETENTION", policy)]);
    fixture.push_image("a", "v1");
    let image = image().to_string();
    let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor(OCI_MANIFEST, image.as_bytes())] });
    let push = || fixture.push_manifest("a", "all", OCI_INDEX, &index);
    push();
    fixture.ask("DELETE /v2/a/manifests/v1");
    fixture.host.pass(2 * DAY);
    let listing = digest(index.to_string().as_bytes());
    let delete = || {
        let deleted = fixture.ask(&format!("DELETE /v2/a/manifests/{listing}"));
        assert_eq!(deleted.status, 202);
    };
    let read = format!("get {}", key::manifest(&"a".parse().unwrap(), &listing));
    fixture.sweep_with(&[(&read, &delete), ("put sweep/claims/a/", &push)]);
    let kept = digest(image.as_bytes());
    for reference in ["all", &kept.to_string()] {
        let answer = fixture.ask(&format!("GET /v2/a/manifests/{reference}"));
        assert_eq!(answer.status, 200, "{reference}");
    }
}

/// The manifests that the inner index lists are removed before it, if no tag or index names either.
/// An outer index that is pushed during or after that comes too late.
#[test]
fn an_index_of_indexes_needs_every_nested_manifest() {
    let policy = r#"[{"repositories": ["a"], "untagged_days": 1}]"#;
    let fixture = Fixture::new(&[("STRATA_RETENTION", policy)]);
    let listing = |media_type, document: &Value| {
        let listed = descriptor(media_type, document.to_string().as_bytes());
        json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [listed] })
    };
    let inner = listing(OCI_MANIFEST, &image());
    let outer = listing(OCI_INDEX, &inner);
    let listed = digest(image().to_string().as_bytes());
    let push = |name: &str| {
        let line = format!("PUT /v2/{name}/manifests/all");
        ask(
            &fixture.registry,
            &Ask::new(&line).manifest(OCI_INDEX, &outer),
        )
    };
    for name in ["a", "b"] {
        fixture.push_image(name, "v1");
        fixture.push_manifest(name, "inner", OCI_INDEX, &inner);
        fixture.put(
            &key::claim(&name.parse().unwrap(), &listed),
            b"somebody",
            "",
        );
    }
    let refused = push("a");
    assert_eq!(refused.status, 503);
    let body = String::from_utf8_lossy(&refused.body).into_owned();
    let said = format!("manifest {listed} is being removed");
    assert!(body.contains(&said), "{body}");
    assert_eq!(push("b").status, 201, "where none goes by itself");
    fixture.host.pass(GRACE);
    assert_eq!(push("a").status, 201, "who claimed it is gone");
    fixture.delete_image("a");
    let refused = push("a");
    assert_eq!(refused.status, 404);
    let body = String::from_utf8_lossy(&refused.body).into_owned();
    let said = format!("{listed} in repository a; push it first");
    assert!(body.contains(&said), "{body}");
}

/// A client that pushes one of them meanwhile waits while it is claimed.
#[test]
fn untagged_manifests_go_in_batches_that_leave_no_claim() {
    let policy = r#"[{"repositories": ["**"], "untagged_days": 1}]"#;
    for (subrequests, pace, manifests) in [("50", 0, 30), ("10000", 100, 160)] {
        let settings = [
            ("STRATA_RETENTION", policy),
            ("STRATA_SUBREQUESTS", subrequests),
        ];
        let fixture = Fixture::new(&settings);
        fixture.push_image("a", "v1");
        for version in 1..=manifests {
            let digest = digest(versioned(version).to_string().as_bytes()).to_string();
            fixture.push_manifest("a", &digest, OCI_MANIFEST, &versioned(version));
        }
        fixture.host.pass(DAY);
        fixture.pace.set(Duration::from_millis(pace));
        let left = || fixture.keys("repositories/a/_manifests/").len();
        let mut ticks = 0;
        while left() > 1 {
            let before = left();
            fixture.host.pass(DAY / 4);
            block_on(fixture.registry.tick());
            ticks += 1;
            assert!(left() < before || ticks < 3, "{before} after {ticks}");
            assert_eq!(fixture.keys(key::CLAIMS), Vec::<String>::new());
        }
        assert!(ticks > 1, "{ticks}");
        let log = fixture.host.log.borrow().join("\n");
        assert!(!log.contains("not retained"), "{log}");
        fixture.pace.set(Duration::ZERO);
        assert!(fixture.is_whole("a", "v1"));
    }
}

/// A failed deletion may take effect later. A client that pushed the manifest meanwhile, and saw no
/// claim, would lose it.
#[test]
fn claims_stay_after_a_failed_deletion() {
    let policy = r#"[{"repositories": ["**"], "untagged_days": 1}]"#;
    let fixture = Fixture::new(&[("STRATA_RETENTION", policy)]);
    for version in 0..3 {
        let digest = digest(versioned(version).to_string().as_bytes()).to_string();
        fixture.push_patched("a", LAYER);
        fixture.push_whole("a", CONFIG);
        fixture.push_manifest("a", &digest, OCI_MANIFEST, &versioned(version));
    }
    fixture.host.pass(DAY);
    // The decisive reading, and the deletion.
    for (operation, is_claimed) in [
        ("list repositories/a/_referrers/", false),
        ("delete repositories/a/_manifests/", true),
    ] {
        let fails = || *fixture.fails_next.borrow_mut() = Some(operation.to_owned());
        let answer = fixture.ask_with("POST /v2/_strata/sweep", &[("put sweep/claims/", &fails)]);
        assert_eq!(answer.status, 503);
        assert_eq!(
            fixture.keys(key::CLAIMS).len(),
            if is_claimed { 3 } else { 0 }
        );
        assert_eq!(fixture.keys("repositories/a/_manifests/").len(), 3);
    }
    fixture.host.pass(GRACE);
    fixture.round();
    assert_eq!(fixture.keys("repositories/a/_manifests/").len(), 0);
    assert_eq!(fixture.keys(key::CLAIMS).len(), 0);
}

#[test]
fn abandoned_claims_expire_under_any_policy() {
    let digest = digest(image().to_string().as_bytes());
    for policy in ["", r#"[{"repositories": ["**"], "untagged_days": 1}]"#] {
        let fixture = Fixture::new(&[("STRATA_RETENTION", policy)]);
        fixture.push_image("a", "v1");
        for name in ["a", "b"] {
            let claim = key::claim(&name.parse().unwrap(), &digest);
            fixture.put(&claim, b"somebody", "");
        }
        fixture.round();
        assert_eq!(fixture.keys(key::CLAIMS).len(), 2, "they are young");
        fixture.host.pass(GRACE);
        fixture.round();
        assert_eq!(fixture.keys(key::CLAIMS), Vec::<String>::new());
        assert!(fixture.is_whole("a", "v1"));
    }
}

#[test]
fn a_repository_too_large_for_one_step_is_skipped() {
    let policy = r#"[{"repositories": ["**"], "untagged_days": 1}]"#;
    let fixture = Fixture::new(&[("STRATA_RETENTION", policy), ("STRATA_SUBREQUESTS", "50")]);
    fixture.push_image("a", "v1");
    fixture.push_image("b", "v1");
    // Each index must be read before it is known that none lists the untagged manifest.
    let listed = descriptor(OCI_MANIFEST, image().to_string().as_bytes());
    for version in 0..60 {
        let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [listed], "annotations": { "version": version.to_string() } });
        fixture.push_manifest("a", &format!("v{version}"), OCI_INDEX, &index);
    }
    let loose = digest(versioned(0).to_string().as_bytes()).to_string();
    fixture.push_manifest("a", &loose, OCI_MANIFEST, &versioned(0));
    for version in 0..30 {
        let digest = digest(versioned(version).to_string().as_bytes()).to_string();
        fixture.push_manifest("b", &digest, OCI_MANIFEST, &versioned(version));
    }
    fixture.host.pass(DAY);
    fixture.round();
    assert_eq!(fixture.keys("repositories/b/_manifests/").len(), 1);
    assert_eq!(fixture.keys("repositories/a/_manifests/").len(), 60 + 2);
    let log = fixture.host.log.borrow().join("\n");
    assert!(
        log.contains("retention skipped: a request's operations do not suffice"),
        "{log}"
    );
}

#[test]
fn a_push_of_a_manifest_being_removed_must_be_retried() {
    let policy = r#"[{"repositories": ["a"], "untagged_days": 1}]"#;
    let fixture = Fixture::new(&[("STRATA_RETENTION", policy)]);
    fixture.push_image("a", "v1");
    fixture.push_image("b", "v1");
    let digest = digest(image().to_string().as_bytes());
    for name in ["a", "b"] {
        fixture.put(
            &key::claim(&name.parse().unwrap(), &digest),
            b"somebody",
            "",
        );
    }
    let put = |name: &str| {
        let line = format!("PUT /v2/{name}/manifests/v2");
        ask(
            &fixture.registry,
            &Ask::new(&line).manifest(OCI_MANIFEST, &image()),
        )
    };
    let refused = put("a");
    assert_eq!(
        (refused.status, refused.header("retry-after")),
        (503, Some("1"))
    );
    let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor(OCI_MANIFEST, image().to_string().as_bytes())] });
    let line = Ask::new("PUT /v2/a/manifests/all").manifest(OCI_INDEX, &index);
    assert_eq!(ask(&fixture.registry, &line).status, 503);
    assert_eq!(fixture.ask("GET /v2/a/manifests/v2").status, 404);
    // Without retention, a push does not look for claims.
    assert_eq!(put("b").status, 201);
    // The claimer is gone.
    fixture.host.pass(GRACE);
    assert_eq!(put("a").status, 201);
    fixture.round();
    assert_eq!(fixture.keys("sweep/claims/a/"), Vec::<String>::new());
}

#[test]
fn immutable_tags_do_not_move() {
    let policy = r#"[{"repositories": ["a"], "immutable_tags": ["v*"]}]"#;
    let rules = r#"[{"repositories": ["a"], "who": ["users"], "may": ["pull", "push", "overwrite", "delete"]}, {"repositories": ["**"], "who": ["users"], "may": ["pull", "push", "overwrite", "delete", "administer"]}]"#;
    let fixture = Fixture::new(&[("STRATA_RETENTION", policy), ("STRATA_RULES", rules)]);
    fixture.push_image("a", "v1");
    fixture.push_image("b", "v1");
    let put = |line: &str, version: u32| {
        ask(
            &fixture.registry,
            &Ask::new(line).manifest(OCI_MANIFEST, &versioned(version)),
        )
    };
    let refused = put("PUT /v2/a/manifests/v1", 1);
    assert_eq!(refused.status, 403);
    let text = String::from_utf8_lossy(&refused.body).into_owned();
    assert!(
        text.contains("DENIED")
            && text.contains(
                "tag v1 in repository a is immutable and names another manifest; push another tag"
            ),
        "{text}"
    );
    // Nothing of the refused push was stored.
    assert_eq!(fixture.keys("repositories/a/_manifests/").len(), 1);
    assert_eq!(
        put(
            &format!(
                "PUT /v2/a/manifests/{}?tag=v1",
                digest(versioned(1).to_string().as_bytes())
            ),
            1
        )
        .status,
        403
    );
    // The same manifest, another tag, another repository.
    fixture.push_manifest("a", "v1", OCI_MANIFEST, &image());
    for line in [
        "PUT /v2/a/manifests/latest",
        "PUT /v2/a/manifests/v2",
        "PUT /v2/b/manifests/v1",
    ] {
        assert_eq!(put(line, 1).status, 201, "{line}");
    }
    assert_eq!(put("PUT /v2/a/manifests/latest", 2).status, 201);
    // A caller that may delete and not administer cannot delete the tag, neither by its name nor by
    // its manifest.
    for reference in [
        "v1".to_owned(),
        digest(image().to_string().as_bytes()).to_string(),
    ] {
        let answer = fixture.ask(&format!("DELETE /v2/a/manifests/{reference}"));
        assert_eq!(answer.status, 403);
        assert!(
            String::from_utf8_lossy(&answer.body)
                .contains("deleting it needs the administer permission")
        );
    }
    assert!(fixture.is_whole("a", "v1"));
    assert_eq!(fixture.ask("DELETE /v2/a/manifests/latest").status, 202);
    assert_eq!(fixture.ask("DELETE /v2/b/manifests/v1").status, 202);
}
