//! Layers that cannot be indexed: each is refused with its reason.

use super::*;

/// Layers that cannot be indexed, with the setting under which they fail, and the word for the
/// reason.
fn refusals() -> Vec<(Vec<u8>, (&'static str, &'static str), &'static str)> {
    let none = ("STRATA_LOG", "errors");
    let two = Tar::default()
        .file("a", words(1, 100_000))
        .file("b", "")
        .end();
    // Only its checksum is wrong.
    let mut check = gzip(&two);
    let at = check.len() - 6;
    check[at] ^= 1;
    let mut cut = gzip(&two);
    cut.truncate(cut.len() - 9);
    let zeros = Tar::default().file("zeros", vec![0; 70 * MIB]).end();
    let long = "x".repeat(20_000);
    let long = Tar::default().entry(b"././@LongLink", b'L', "", long.as_bytes());
    vec![
        (noise(1, 5_000), none, "tar"),
        (b"{}".to_vec(), none, "tar"),
        (two[..two.len() - 90_000].to_vec(), none, "tar"),
        (gzip(&noise(1, 5_000)), none, "tar"),
        (check, none, "gzip"),
        (cut, none, "gzip"),
        (
            [&through("zstd -3", &two)[..], b"garbage"].concat(),
            none,
            "zstd",
        ),
        (through("xz -0", &two), none, "compression"),
        (gzip(&two), ("STRATA_INDEX_ENTRIES", "1"), "tar"),
        (gzip(&long.file("y", "").end()), none, "tar"),
        (
            gzip(&long_layer("cat").1),
            ("STRATA_INFLATED_BYTES", "1048576"),
            "size",
        ),
        (gzip(&zeros), none, "ratio"),
        (through("zstd -1", &zeros), none, "ratio"),
    ]
}

#[test]
fn layers_that_can_not_be_indexed_are_refused_and_remembered() {
    for (layer, setting, kind) in refusals() {
        let world = World::with_layer(&layer);
        let isolate = world.isolate(&[setting]);
        let (message, detail) = refused(&get(&isolate, &contents(&layer)), 422, "LAYER_INVALID");
        assert_eq!(detail["reason"], kind, "{message}");
        assert_eq!(detail["digest"], digest(&layer).to_string());
        let name = format!("strata_layer_refusals_total{{reason=\"{kind}\"}}");
        assert_eq!(
            (passes(&isolate, "refused"), metric(&isolate, &name)),
            (1, 1)
        );
        // No isolate reads it again.
        let (again, log) = world.ask(&isolate, &Ask::new(&format!("GET {}", contents(&layer))));
        assert_eq!(refused(&again, 422, "LAYER_INVALID").0, message);
        assert_eq!(log, Vec::<String>::new(), "{message}");
        let other = world.isolate(&[setting]);
        let (again, log) = world.ask(&other, &Ask::new(&format!("GET {}", file(&layer, "a"))));
        assert_eq!(refused(&again, 422, "LAYER_INVALID").0, message);
        assert_eq!(count(&log, "cold get blob"), 0, "{log:?}");
        assert!(progress(&world, &layer).is_none());
        // It can be pulled nevertheless.
        let blob = format!("/v2/a/blobs/{}", digest(&layer));
        assert!(read(&isolate, &blob) == layer);
    }
}

#[test]
fn a_layer_beyond_a_limit_is_tried_again_under_another_limit() {
    let layer = gzip(&Tar::default().file("a", "1").file("b", "2").end());
    let world = World::with_layer(&layer);
    let strict = world.isolate(&[("STRATA_INDEX_ENTRIES", "1")]);
    // Often enough for the refusal to be promoted to the warm tier.
    for _ in 0..5 {
        refused(&get(&strict, &contents(&layer)), 422, "LAYER_INVALID");
    }
    assert!(world.count("warm put index") > 0);
    let lax = world.isolate(&[("STRATA_INDEX_ENTRIES", "2")]);
    assert_eq!(read(&lax, &file(&layer, "b")), b"2");
    assert_eq!(passes(&lax, "indexed"), 1);
    // Other isolates find the index.
    let third = world.isolate(&[("STRATA_INDEX_ENTRIES", "2")]);
    assert_eq!(read(&third, &file(&layer, "b")), b"2");
    assert_eq!(passes(&third, "indexed"), 0);
    // A blob that is not a layer at all is not tried again.
    let garbage = noise(1, 1_000);
    push_blob(&strict, "a", &garbage);
    refused(&get(&strict, &contents(&garbage)), 422, "LAYER_INVALID");
    refused(&get(&lax, &contents(&garbage)), 422, "LAYER_INVALID");
    assert_eq!(passes(&lax, "refused"), 0);
}

#[test]
fn a_decompression_bomb_is_stopped_early() {
    let command = "head -c 1073741824 /dev/zero | zstd -1";
    let zeros = run(&Folder::create().0, command);
    let world = World::with_layer(&zeros);
    let isolate = world.isolate(&[]);
    let (_, detail) = refused(&get(&isolate, &contents(&zeros)), 422, "LAYER_INVALID");
    assert!(zeros.len() < 200_000, "{}", zeros.len());
    assert!(inflated(&isolate, "pass") <= 65 * MIB as u64, "{detail}");
}
