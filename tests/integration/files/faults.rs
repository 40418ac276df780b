//! Stores that fail while a layer is indexed or read.

use super::*;

#[test]
fn one_store_failure_spoils_no_index_and_no_read() {
    let bytes = words(1, 9 * SPAN);
    let archive = Tar::default().file("a", &bytes).end();
    let long = layer_of(8, "zstd -3 --zstd=wlog=17").0;
    let (layer, stored) = (gzip(&archive), through("zstd -3 --zstd=wlog=17", &archive));
    let cases = [
        (&layer, "a", &bytes, vec![SMALL]),
        (&stored, "a", &bytes, vec![SMALL]),
        (&long, "dir/file-03", &words(3, 200_000), vec![SMALL, STEP]),
    ];
    for (layer, path, bytes, settings) in cases {
        let target = file(layer, path);
        let right = World::with_layer(layer);
        right.log.borrow_mut().clear();
        ask_on(&[&right.isolate(&settings)], &target);
        let operations = right.log.borrow().len();
        let expected = inside(&right, layer);
        assert!(operations > 5);
        let mut failures = 0;
        // The operations of steps are alike, so about ten of all operations fail.
        for number in (1..=operations).step_by(1 + operations / 10) {
            for verdict in [
                lost(),
                Verdict::Kept(StoreError::Failed("on purpose".to_owned())),
            ] {
                let what = format!("{verdict:?} at {number} of {operations}");
                let world = World::with_layer(layer);
                let isolate = world.isolate(&settings);
                world.fail("", number, verdict);
                for _ in 0..32 {
                    let answer = get(&isolate, &target);
                    match answer.status {
                        200 => {
                            assert!(answer.body == *bytes, "{what}");
                            break;
                        }
                        202 => {}
                        _ => {
                            failures += 1;
                            refused(&answer, 503, "UNAVAILABLE");
                            assert!(answer.header("retry-after").is_some(), "{what}");
                        }
                    }
                }
                assert!(get(&isolate, &target).body == *bytes, "{what}");
                assert!(inside(&world, layer) == expected, "{what}");
                block_on(async {
                    for _ in 0..16 {
                        isolate.tick().await;
                    }
                });
                assert!(progress(&world, layer).is_none(), "{what}");
            }
        }
        assert!(failures > 4, "{failures} failures were seen");
    }
}

#[test]
fn a_failing_or_corrupt_warm_tier_is_bypassed() {
    let bytes = words(1, 3 * SPAN);
    let layer = gzip(&Tar::default().file("a", &bytes).end());
    let target = file(&layer, "a");
    let world = World::with_layer(&layer);
    let isolate = world.isolate(&[SMALL, ("STRATA_WARM_READS", "1")]);
    assert!(read(&isolate, &target) == bytes);
    assert!(
        world.warm.memory.keys().len() >= 3,
        "the index, and each span"
    );
    for (operations, verdict) in [("warm", lost()), ("warm get", Verdict::Never)] {
        world.fail_all(operations, verdict);
        assert!(read(&world.isolate(&[SMALL]), &target) == bytes);
    }
    world.heal();
    for (key, life) in world.warm.memory.keys() {
        let right = block_on(world.warm.memory.get(&key)).unwrap().unwrap();
        let right = right.to_vec();
        for at in [0, 20, right.len() / 2, right.len() - 1] {
            let mut wrong = right.clone();
            wrong[at] ^= 0x10;
            block_on(
                world
                    .warm
                    .memory
                    .put(&key, MemoryBytes::copy_from(&wrong), life),
            )
            .unwrap();
            let isolate = world.isolate(&[SMALL]);
            assert!(read(&isolate, &target) == bytes, "{key} at {at}");
        }
    }
}
