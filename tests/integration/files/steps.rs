//! Indexing in steps: by requests, by the clock, by several isolates, and after a push.

use super::*;

#[test]
fn indexing_in_steps_gives_the_same_index() {
    for (_, writer) in WRITERS {
        let (layer, _) = long_layer(writer);
        let target = file(&layer, "dir/file-07");
        let at_once = World::with_layer(&layer);
        assert!(read(&at_once.isolate(&[SMALL]), &target) == words(7, 200_000));
        assert!(progress(&at_once, &layer).is_none());
        assert_eq!(at_once.count("cold put progress"), 0);

        let world = World::with_layer(&layer);
        let isolate = world.isolate(&[SMALL, STEP]);
        let fractions = ask_on(&[&isolate], &target);
        assert!(
            fractions.len() >= 2 && fractions.len() < 16,
            "{writer}: {fractions:?}"
        );
        assert!(
            fractions.windows(2).all(|pair| pair[0] < pair[1])
                && fractions.iter().all(|f| *f < 1.0),
            "{writer}: {fractions:?}"
        );
        assert_eq!(passes(&isolate, "paused"), fractions.len() as u64);
        assert_eq!(passes(&isolate, "indexed"), 1);
        assert!(
            inside(&world, &layer) == inside(&at_once, &layer),
            "{writer}"
        );
        assert!(progress(&world, &layer).is_none());
        assert!(read(&isolate, &target) == words(7, 200_000));
    }
}

#[test]
fn the_clock_continues_a_pass_that_a_request_began() {
    // The scrub has work to do by the clock as well.
    let settings = [SMALL, STEP, ("STRATA_SCRUB_DAYS", "0")];
    for (_, writer) in WRITERS {
        let (layer, _) = long_layer(writer);
        let world = World::with_layer(&layer);
        assert_eq!(
            get(&world.isolate(&settings), &contents(&layer)).status,
            202
        );
        let mut ticks = 0;
        while progress(&world, &layer).is_some() {
            block_on(world.isolate(&settings).tick());
            ticks += 1;
            assert!(ticks < 16, "{writer}");
        }
        let isolate = world.isolate(&settings);
        assert_eq!(get(&isolate, &contents(&layer)).status, 200, "{writer}");
        assert_eq!(inflated(&isolate, "pass"), 0);
        world.log.borrow_mut().clear();
        block_on(isolate.tick());
        assert_eq!(
            *world.log.borrow(),
            ["cold get cursor", "cold list progress"]
        );
    }
}

#[test]
fn alternating_isolates_build_the_same_index() {
    for (_, writer) in WRITERS {
        let (layer, _) = long_layer(writer);
        let at_once = World::with_layer(&layer);
        get(&at_once.isolate(&[SMALL]), &contents(&layer));
        let world = World::with_layer(&layer);
        let (one, other) = (world.isolate(&[SMALL, STEP]), world.isolate(&[SMALL, STEP]));
        let fractions = ask_on(&[&one, &other], &contents(&layer));
        assert!(
            fractions.windows(2).all(|pair| pair[0] < pair[1]),
            "{writer}: {fractions:?}"
        );
        assert!(
            inside(&world, &layer) == inside(&at_once, &layer),
            "{writer}"
        );
        // At the same time, both do the same work, without harm.
        let world = World::with_layer(&layer);
        let (one, other) = (world.isolate(&[SMALL, STEP]), world.isolate(&[SMALL, STEP]));
        let request = Ask::new(&format!("GET {}", contents(&layer)));
        for _ in 0..16 {
            block_on(join_all([
                ask_now(&one, &request),
                ask_now(&other, &request),
            ]));
        }
        assert!(
            inside(&world, &layer) == inside(&at_once, &layer),
            "{writer}"
        );
        // If one wrote after the other was done, the clock deletes it.
        block_on(async {
            for _ in 0..16 {
                one.tick().await;
            }
        });
        assert!(progress(&world, &layer).is_none(), "{writer}");
        assert!(
            inside(&world, &layer) == inside(&at_once, &layer),
            "{writer}"
        );
    }
}

#[test]
fn a_step_of_an_isolate_that_dies_is_left_to_others() {
    let (layer, _) = long_layer("gzip -6n");
    for (at, number) in [
        ("cold put progress", 1),
        ("cold put progress", 2),
        ("cold put index", 1),
    ] {
        let world = World::with_layer(&layer);
        let dying = world.isolate(&[SMALL, STEP]);
        world.fail(at, number, Verdict::Never);
        let request = Ask::new(&format!("GET {}", contents(&layer)));
        block_on(async {
            // The platform cancels requests that never end.
            for _ in 0..12 {
                let asked = pin!(ask_now(&dying, &request));
                let patience = pin!(async {
                    for _ in 0..100 {
                        turn().await;
                    }
                });
                select(asked, patience).await;
            }
        });
        let fractions = ask_on(&[&world.isolate(&[SMALL, STEP])], &contents(&layer));
        assert!(fractions.len() < 8, "{fractions:?}");
        assert_eq!(get(&dying, &contents(&layer)).status, 200);
        assert!(progress(&world, &layer).is_none());
    }
}

#[test]
fn a_pass_over_a_deleted_layer_is_given_up() {
    let (layer, _) = long_layer("gzip -6n");
    let world = World::with_layer(&layer);
    let isolate = world.isolate(&[SMALL, STEP]);
    assert_eq!(get(&isolate, &contents(&layer)).status, 202);
    let deleted = ask(
        &isolate,
        &Ask::new(&format!("DELETE /v2/a/blobs/{}", digest(&layer))),
    );
    assert_eq!(deleted.status, 202);
    refused(&get(&isolate, &contents(&layer)), 404, "BLOB_UNKNOWN");
    world.delete(&key::blob(&digest(&layer)));
    block_on(isolate.tick());
    assert!(progress(&world, &layer).is_none());
    // If the blob is deleted while it is indexed, no client is told that it is not a layer.
    let world = World::with_layer(&layer);
    let isolate = world.isolate(&[SMALL, STEP]);
    assert_eq!(get(&isolate, &contents(&layer)).status, 202);
    world.delete(&key::blob(&digest(&layer)));
    let (message, _) = refused(&get(&isolate, &contents(&layer)), 503, "UNAVAILABLE");
    assert!(message.contains("push it again"), "{message}");
    assert!(inside(&world, &layer).is_empty());
    // Nor if a part of it is absent.
    let world = World::with_layer(&layer);
    let blob = key::blob(&digest(&layer));
    let head = block_on(world.cold.memory.head(&blob)).unwrap().unwrap();
    let options = PutOptions {
        metadata: &head.metadata,
        ..PutOptions::default()
    };
    let short = Content::Bytes(layer[..layer.len() - 9].to_vec());
    block_on(world.cold.memory.put(&blob, short, options)).unwrap();
    refused(
        &get(&world.isolate(&[]), &contents(&layer)),
        503,
        "UNAVAILABLE",
    );
    assert!(inside(&world, &layer).is_empty());
}

#[test]
fn the_clock_is_not_held_up_by_a_layer_that_can_not_be_read() {
    let mut layers: Vec<Vec<u8>> = (0..7)
        .map(|seed| gzip(&Tar::default().file("a", words(seed, 1_000)).end()))
        .collect();
    layers.sort_by_key(|layer| key::indexing(&digest(layer)));
    let world = World::new();
    let isolate = world.isolate(&[]);
    for (number, layer) in layers.iter().enumerate() {
        if number < 5 {
            // Of the first ones, the bytes are absent, but their records are stored.
            let start = ask(&isolate, &Ask::new("POST /v2/a/blobs/uploads/"));
            let patch = Ask::new(&format!("PATCH {}", start.location()));
            let location = ask(&isolate, &patch.stream(layer)).location();
            let target = format!("PUT {location}&digest={}", digest(layer));
            assert_eq!(ask(&isolate, &Ask::new(&target)).status, 201);
        } else {
            push_blob(&isolate, "a", layer);
        }
        world.store(&key::indexing(&digest(layer)), Vec::new());
    }
    let keys = world.cold.memory.keys();
    let extents = keys.iter().filter(|key| key.starts_with("extents/"));
    extents.for_each(|key| world.delete(key));
    block_on(isolate.tick());
    for layer in &layers[..5] {
        assert!(inside(&world, layer).is_empty());
    }
    for layer in &layers[5..] {
        assert!(progress(&world, layer).is_none(), "it was never come to");
        assert!(!inside(&world, layer).is_empty());
    }
    assert_eq!(isolate.host().log.borrow().len(), 5);
}

#[test]
fn layers_of_a_push_are_indexed_if_the_setting_is_on() {
    let (long, long_archive) = long_layer("gzip -6n");
    let short = gzip(&Tar::default().file("a", "1").end());
    let short_archive = Tar::default().file("a", "1").end();
    let parts: [(&[u8], &[u8]); 2] = [(&long, &long_archive), (&short, &short_archive)];
    let world = World::new();
    push_image(&world.isolate(&[]), "v1", &parts);
    assert!(inside(&world, &short).is_empty(), "not unless they say so");

    let settings = [SMALL, STEP, ("STRATA_INDEX_ON_PUSH", "true")];
    let world = World::new();
    let isolate = world.isolate(&settings);
    push_image(&isolate, "v1", &parts);
    assert!(!inside(&world, &short).is_empty());
    assert!(progress(&world, &short).is_none());
    assert!(
        !progress(&world, &long).unwrap().is_empty(),
        "it takes more steps"
    );
    for _ in 0..16 {
        block_on(isolate.tick());
    }
    assert!(progress(&world, &long).is_none());
    let other = world.isolate(&settings);
    assert_eq!(read(&other, &file(&long, "dir/file-01")), words(1, 200_000));
    assert_eq!(inflated(&other, "pass"), 0);
    // After another push of the same image, no work is repeated.
    push_image(&isolate, "v2", &parts);
    assert!(progress(&world, &long).is_none() && progress(&world, &short).is_none());

    // Indexing that was cut off after the reply is left to the clock.
    let world = World::new();
    let isolate = world.isolate(&settings);
    world.fail_all("cold get blob", lost());
    push_image(&isolate, "v1", &parts);
    assert_eq!(progress(&world, &long), Some(Vec::new()));
    assert_eq!(progress(&world, &short), Some(Vec::new()));
    world.heal();
    for _ in 0..16 {
        block_on(world.isolate(&settings).tick());
    }
    assert!(!inside(&world, &long).is_empty() && !inside(&world, &short).is_empty());
    assert!(progress(&world, &long).is_none() && progress(&world, &short).is_none());
}
