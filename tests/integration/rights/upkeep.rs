//! Rights after the sweep, the scrub and deletions.

use super::*;

/// A right stays while a manifest of the repository needs the blob, and ends with it, whether the
/// upstream is still mirrored or not.
#[test]
fn the_sweep_keeps_a_filled_blob_while_a_manifest_needs_it() {
    for upstreams in [&UP[..], &[]] {
        let world = World::new();
        let layer = noise(1, 100);
        let found = world.pull("x", &layer);
        let kept = world.keys_of(PULLED, &layer);
        assert_eq!(kept.len(), 3, "two grants and a link: {kept:?}");
        for _ in 0..4 {
            world.host.pass(GRACE);
            let deleted = world.sweep(upstreams, "10000");
            assert!(
                !deleted.iter().any(|key| key.contains(PULLED)),
                "{deleted:?}"
            );
        }
        assert_eq!(world.keys_of(PULLED, &layer), kept);
        world.delete_manifest(PULLED, &found);
        let mut deleted = world.sweep(upstreams, "10000");
        deleted.retain(|key| kept.contains(key));
        deleted.sort();
        assert_eq!(deleted, kept);
        for _ in 0..3 {
            world.host.pass(GRACE);
            world.sweep(upstreams, "10000");
        }
        assert!(world.store.keys(&key::blob(&digest(&layer))).is_empty());
    }
}

/// The right to a blob that no manifest names lasts for the grace period.
#[test]
fn the_sweep_keeps_a_filled_blob_for_the_grace_period() {
    let world = World::new();
    world.serve("x", CONFIG);
    assert_eq!(get(&world.mirror(), &blob_of(PULLED, CONFIG)).status, 200);
    world.host.pass(GRACE - Duration::from_secs(1));
    world.sweep(&UP, "10000");
    assert_eq!(world.keys_of(PULLED, CONFIG).len(), 2);
    world.host.pass(Duration::from_secs(1));
    world.sweep(&UP, "10000");
    assert!(world.keys_of(PULLED, CONFIG).is_empty());
}

/// Of several grants for one manifest the youngest stays. Grants that only keep the blob and grants
/// that give a right are compared separately.
#[test]
fn the_sweep_replaces_no_grant_by_one_of_another_kind() {
    let world = World::new();
    let document = image_of(CONFIG, &[]);
    world.push("root", PULLED, CONFIG);
    let found = world.plant_manifest(PULLED, &document).to_string();
    let manifest = json!({ "reason": "manifest", "digest": found });
    let mirrored = json!({ "reason": "mirrored", "digest": found });
    let filled = json!({ "reason": "filled" });
    for (id, reason) in [
        ("1", &mirrored),
        ("2", &filled),
        ("3", &manifest),
        ("4", &mirrored),
        ("5", &manifest),
        ("6", &filled),
    ] {
        world.host.pass(Duration::from_secs(1));
        world.plant_grant(PULLED, CONFIG, id, reason);
    }
    world.host.pass(GRACE);
    world.sweep(&[], "10000");
    assert_eq!(
        world.reasons(PULLED, CONFIG),
        [manifest, mirrored, filled.clone(), filled]
    );
    assert_eq!(world.keys_of(PULLED, CONFIG).len(), 5);
}

/// A step that ends among the grants of a repository tells the next one nothing of the grants
/// before. The later grants alone never decide that a right is deleted.
#[test]
fn the_sweep_deletes_no_right_after_seeing_part_of_the_grants() {
    let world = World::new();
    let document = image_of(CONFIG, &[]);
    world.push("root", PULLED, CONFIG);
    let found = world.plant_manifest(PULLED, &document).to_string();
    let mirrored = |digest: &str| json!({ "reason": "mirrored", "digest": digest });
    world.plant_grant(PULLED, CONFIG, "0", &mirrored(&found));
    // Each costs a look at a manifest that is not stored.
    for number in 0..100 {
        let gone = digest(format!("gone {number}").as_bytes()).to_string();
        world.plant_grant(PULLED, CONFIG, &format!("1{number:03}"), &mirrored(&gone));
    }
    let filled = json!({ "reason": "filled" });
    world.plant_grant(PULLED, CONFIG, "2", &filled);
    world.host.pass(GRACE);
    for _ in 0..3 {
        world.sweep(&UP, "50");
        assert!(world.reasons(PULLED, CONFIG).contains(&filled));
        world.host.pass(GRACE);
    }
    assert_eq!(world.reasons(PULLED, CONFIG), [mirrored(&found), filled]);
}

/// The grant that the scrub writes for the manifest of an upstream gives no right, even after the
/// upstream is removed from the settings.
#[test]
fn the_scrub_repairs_mirrored_grants_without_giving_a_right() {
    for upstreams in [&UP[..], &[]] {
        for metadata in [None, Some("")] {
            let world = World::new();
            let document = image_of(CONFIG, &[&secret()]);
            let found = world.publish("x", "v1", &document);
            get(&world.mirror(), &format!("/v2/{PULLED}/manifests/v1"));
            assert!(
                world.scrub(&UP).is_empty(),
                "grants for what is not filled yet"
            );
            let mirrored = [json!({ "reason": "mirrored", "digest": found.to_string() })];
            let lost = world.keys_of(PULLED, &secret());
            block_on(world.store.memory.delete(&lost)).unwrap();
            let mut expected = vec!["missing grant: write"];
            if let Some(metadata) = metadata {
                // Nor if the origin of the manifest is no longer known.
                let config = world.keys_of(PULLED, CONFIG);
                block_on(world.store.memory.delete(&config)).unwrap();
                let manifest = key::manifest(&PULLED.parse().unwrap(), &found);
                let bytes = document.to_string().into_bytes();
                world.store.plant(&manifest, &bytes, metadata);
                expected = vec![
                    "corrupt manifest: write",
                    "missing grant: write",
                    "missing grant: write",
                ];
            }
            let mut findings = world.scrub(upstreams);
            findings.retain(|finding| !finding.starts_with("missing blob"));
            assert_eq!(findings, expected);
            assert_eq!(world.reasons(PULLED, &secret()), mirrored);
            let manifest = key::manifest(&PULLED.parse().unwrap(), &found);
            assert_eq!(world.metadata(&manifest)["mirrored"], true);
            world.assert_closed("scrubbed", upstreams, PULLED);
        }
    }
}

/// A manifest of an older version in a mirrored repository counts as the upstream's, although its
/// metadata does not say so.
#[test]
fn the_scrub_treats_manifests_of_mirrored_names_as_mirrored() {
    let world = World::new();
    let document = image_of(&secret(), &[]);
    let found = world.plant_manifest(PULLED, &document);
    assert!(
        world
            .scrub(&UP)
            .contains(&"missing grant: write".to_owned())
    );
    let mirrored = [json!({ "reason": "mirrored", "digest": found.to_string() })];
    assert_eq!(world.reasons(PULLED, &secret()), mirrored);
    // That grant keeps the blob, so no other is written once the upstream is gone.
    assert!(
        !world
            .scrub(&[])
            .contains(&"missing grant: write".to_owned())
    );
    assert_eq!(world.reasons(PULLED, &secret()), mirrored);
    world.assert_closed("an older manifest", &[], PULLED);
}

/// A link keeps the right that it records when the scrub writes it again.
#[test]
fn the_scrub_rewrites_a_link_with_its_right() {
    let world = World::new();
    world.serve("x", CONFIG);
    get(&world.mirror(), &blob_of(PULLED, CONFIG));
    for reason in [r#"{"reason":"filled"}"#, r#"{"reason":"pushed"}"#, ""] {
        world.store.plant(&link(PULLED, CONFIG), b"{", reason);
        assert_eq!(world.scrub(&UP), ["corrupt link: write"]);
        let expected = serde_json::from_str(reason).unwrap_or(Value::Null);
        assert_eq!(world.linked(PULLED, CONFIG), Some(expected));
    }
}

/// Deleting a blob deletes the right to it, once the repository is no longer mirrored. A manifest
/// that needs it still prevents that.
#[test]
fn a_filled_blob_can_be_deleted_when_no_manifest_needs_it() {
    let world = World::new();
    let layer = noise(2, 100);
    let found = world.pull("x", &layer);
    let line = format!("DELETE {}", blob_of(PULLED, &layer));
    let alone = world.isolate(&[]);
    assert_eq!(ask(&alone, &by("root", &line)).status, 405);
    world.delete_manifest(PULLED, &found);
    assert_eq!(ask(&alone, &by("root", &line)).status, 202);
    let alone = world.isolate(&[]);
    assert_eq!(get(&alone, &blob_of(PULLED, &layer)).status, 404);
}
