//! Reads by tier: hot, warm, near and cold, and the promotion of values.

use super::*;

#[test]
fn hot_values_cost_no_operations() {
    let world = World::with_image();
    let isolate = world.isolate(&[("STRATA_WARM_READS", "255")]);
    let manifest = manifest();
    let cold = ["warm get manifest", "cold get manifest"];
    let answer = world.expect(&isolate, &format!("GET {manifest}"), 200, &cold);
    assert_eq!(answer.header("x-strata-tier"), Some("cold"));
    assert_eq!(text(&answer), image().to_string());
    for request in [format!("GET {manifest}"), format!("HEAD {manifest}")] {
        let answer = world.expect(&isolate, &request, 200, &[]);
        assert_eq!(answer.header("x-strata-tier"), Some("hot"));
        assert_eq!(answer.header("content-type"), Some(OCI_MANIFEST));
    }
    let answer = world.expect(&isolate, "GET /v2/a/manifests/v1", 200, &["cold head tag"]);
    assert_eq!(answer.header("x-strata-tier"), Some("hot"));
    assert_eq!(
        answer.header("server-timing"),
        Some("tag;desc=cold;dur=0, manifest;desc=hot;dur=0")
    );

    let layer = blob(LAYER);
    world.expect(
        &isolate,
        &format!("HEAD {layer}"),
        200,
        &["cold get link", "cold head blob"],
    );
    world.expect(&isolate, &format!("HEAD {layer}"), 200, &[]);
    world.expect(&isolate, &format!("GET {layer}"), 200, &["cold get blob"]);
    let answer = world.expect(&isolate, &format!("GET {layer}"), 200, &[]);
    assert_eq!(answer.body, LAYER);
    let ranges = Ask::new(&format!("GET {layer}")).header("range", "bytes=2-4");
    let (answer, operations) = world.ask(&isolate, &ranges);
    assert_eq!((answer.status, &*answer.body), (206, &LAYER[2..5]));
    assert!(operations.is_empty(), "{operations:?}");
    let ranges = Ask::new(&format!("GET {layer}")).header("range", "bytes=0-1,8-9");
    let (answer, operations) = world.ask(&isolate, &ranges);
    assert!(answer.status == 206 && text(&answer).contains("\r\n89\r\n"));
    assert!(operations.is_empty(), "{operations:?}");
}

#[test]
fn values_read_often_become_warm_for_all_isolates() {
    let world = World::with_image();
    let first = world.isolate(&[]);
    assert!(
        world.warm.memory.keys().is_empty(),
        "a push promotes nothing"
    );
    popularise(&first);
    let keys = world.warm.memory.keys();
    assert_eq!(keys.len(), 3, "{keys:?}");
    let lives: Vec<_> = keys
        .iter()
        .map(|(key, life)| (kind(key), life.as_secs() / 3_600))
        .collect();
    assert_eq!(lives, [("blob", 24), ("blob", 24), ("manifest", 1)]);

    let second = world.isolate(&[]);
    let answer = world.expect(
        &second,
        &format!("GET {}", manifest()),
        200,
        &["warm get manifest"],
    );
    assert_eq!(answer.header("x-strata-tier"), Some("warm"));
    assert_eq!(text(&answer), image().to_string());
    assert_eq!(answer.header("content-type"), Some(OCI_MANIFEST));
    // The manifest's value brought the links along.
    for content in [LAYER, CONFIG] {
        let answer = world.expect(
            &second,
            &format!("GET {}", blob(content)),
            200,
            &["warm get blob"],
        );
        assert_eq!(
            (answer.header("x-strata-tier"), &*answer.body),
            (Some("warm"), content)
        );
        world.expect(&second, &format!("GET {}", blob(content)), 200, &[]);
    }
    popularise(&second);
    let (_, operations) = world.ask(&second, &Ask::new(&format!("GET {}", manifest())));
    assert!(
        operations.is_empty(),
        "it is not written again: {operations:?}"
    );
}

#[test]
fn blobs_not_known_to_be_warm_are_not_read_from_the_warm_tier() {
    let world = World::with_image();
    let isolate = world.isolate(&[]);
    popularise(&isolate);
    // An isolate that has not read the manifest does not expect the blobs in the warm tier.
    let other = world.isolate(&[]);
    let get = format!("GET {}", blob(LAYER));
    world.expect(&other, &get, 200, &["cold get link", "cold get blob"]);
    // An isolate that has read it looks once, even if they are gone.
    let third = world.isolate(&[("STRATA_HOT_BLOB_BYTES", "0")]);
    ask(&third, &Ask::new(&format!("GET {}", manifest())));
    world.warm.memory.forget();
    world.expect(&third, &get, 200, &["warm get blob", "cold get blob"]);
    world.expect(&third, &get, 200, &["cold get blob"]);
}

#[test]
fn a_promotion_is_earned_and_made_once() {
    let world = World::with_image();
    let isolate = world.isolate(&[("STRATA_WARM_READS", "4")]);
    let request = Ask::new(&format!("GET {}", manifest()));
    let writes = |operations: &[String]| {
        operations
            .iter()
            .filter(|entry| *entry == "warm put manifest")
            .count()
    };
    for reads in 1..=10 {
        let (_, operations) = world.ask(&isolate, &request);
        assert_eq!(writes(&operations), usize::from(reads == 4), "read {reads}");
    }
    world.host.pass(Duration::from_secs(600));
    assert_eq!(
        writes(&world.ask(&isolate, &request).1),
        0,
        "it is warm still"
    );
    // Of many concurrent readers, one writes it.
    world.warm.memory.forget();
    let eager = world.isolate(&[("STRATA_WARM_READS", "2")]);
    assert_eq!(ask(&eager, &request).status, 200);
    let target = format!("GET {}", manifest());
    assert_eq!(writes(&crowd(&world, &eager, &target).1), 1);
    // A write that failed is repeated, but not at once.
    world.warm.memory.forget();
    let other = world.isolate(&[("STRATA_WARM_READS", "1")]);
    world.fail(
        "warm put",
        1,
        Verdict::Lost(StoreError::Throttled("one write a second".to_owned())),
    );
    assert_eq!(writes(&world.ask(&other, &request).1), 1);
    assert_eq!(writes(&world.ask(&other, &request).1), 0);
    world.host.pass(Duration::from_secs(60));
    assert_eq!(writes(&world.ask(&other, &request).1), 1);
    assert_eq!(world.warm.memory.keys().len(), 1);
}

#[test]
fn values_too_large_for_a_tier_bypass_it() {
    let world = World::with_image();
    let isolate = world.isolate(&[
        ("STRATA_HOT_BLOB_BYTES", "9"),
        ("STRATA_WARM_BLOB_BYTES", "9"),
    ]);
    let layer = blob(LAYER);
    world.expect(
        &isolate,
        &format!("GET {layer}"),
        200,
        &["cold get link", "cold get blob"],
    );
    for _ in 0..5 {
        let answer = world.expect(&isolate, &format!("GET {layer}"), 200, &["cold get blob"]);
        assert_eq!(
            (answer.header("x-strata-tier"), &*answer.body),
            (Some("cold"), LAYER)
        );
    }
    // If a value is too large for memory and not for the warm tier, the warm tier answers.
    let isolate = world.isolate(&[("STRATA_HOT_BLOB_BYTES", "9"), ("STRATA_WARM_READS", "1")]);
    ask(&isolate, &Ask::new(&format!("GET {layer}")));
    world.expect(&isolate, &format!("GET {layer}"), 200, &["warm get blob"]);
}

#[test]
fn tiers_can_be_switched_off() {
    let world = World::with_image();
    let isolate = world.isolate(&[("STRATA_HOT_BYTES", "0"), ("STRATA_WARM_SECONDS", "0")]);
    for _ in 0..5 {
        world.expect(
            &isolate,
            &format!("GET {}", manifest()),
            200,
            &["cold get manifest"],
        );
        world.expect(
            &isolate,
            &format!("GET {}", blob(LAYER)),
            200,
            &["cold get link", "cold get blob"],
        );
    }
    assert!(world.warm.memory.keys().is_empty());
}
