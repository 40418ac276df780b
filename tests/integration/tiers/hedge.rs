//! Reads of the warm tier that are slow, and the cold tier that is asked beside it.

use super::*;

/// Gives a result to all operations whose entries have one of the prefixes.
fn slow(world: &World, verdicts: &'static [(&'static str, Verdict)]) {
    *world.fault.borrow_mut() = Box::new(move |entry| {
        let mut verdicts = verdicts.iter();
        let found = verdicts.find(|(prefix, _)| entry.starts_with(prefix));
        found.map_or(Verdict::Done, |(_, verdict)| verdict.clone())
    });
}

const BOTH: [&str; 2] = ["warm get manifest", "cold get manifest"];

#[test]
fn the_first_useful_answer_of_a_slow_warm_and_the_cold_tier_counts() {
    let lost = || Verdict::Lost(StoreError::Failed("made to fail".to_owned()));
    let rows: [(Verdict, Verdict, u16, &str); 7] = [
        (Verdict::After(30), Verdict::Done, 200, "cold"),
        (Verdict::Never, Verdict::Done, 200, "cold"),
        (Verdict::After(4), Verdict::After(30), 200, "warm"),
        (Verdict::After(4), Verdict::Never, 200, "warm"),
        (Verdict::After(6), lost(), 200, "warm"),
        (Verdict::Never, lost(), 503, ""),
        (lost(), Verdict::After(30), 200, "cold"),
    ];
    for (warm, cold, status, tier) in rows {
        let world = World::with_image();
        popularise(&world.isolate(&[]));
        let isolate = world.isolate(&[]);
        let row = format!("{warm:?}, {cold:?}");
        *world.fault.borrow_mut() = {
            let (warm, cold) = (warm.clone(), cold.clone());
            Box::new(move |entry| match entry {
                "warm get manifest" => warm.clone(),
                "cold get manifest" => cold.clone(),
                _ => Verdict::Done,
            })
        };
        world.log.borrow_mut().clear();
        let request = Ask::new(&format!("GET {}", manifest()));
        let start = world.host.now.get();
        let answer = ask(&isolate, &request);
        assert_eq!(answer.status, status, "{row}");
        assert_eq!(answer.header("x-strata-tier").unwrap_or(""), tier, "{row}");
        assert_eq!(*world.log.borrow(), BOTH, "{row}");
        let waited = world.host.now.get().since(start);
        match (warm, cold) {
            (Verdict::Lost(_), _) => assert!(waited.is_zero(), "{row}"),
            (_, Verdict::Done) => assert_eq!(waited, Duration::from_millis(25), "{row}"),
            (Verdict::Never, _) => assert_eq!(waited, Duration::from_secs(1), "{row}"),
            _ => {}
        }
    }
}

#[test]
fn a_quick_warm_answer_spares_the_cold_read_and_a_quick_miss_does_not_wait() {
    let world = World::with_image();
    popularise(&world.isolate(&[]));
    let pull = format!("GET {}", manifest());
    slow(&world, &[("warm get", Verdict::After(1))]);
    world.expect(&world.isolate(&[]), &pull, 200, &BOTH[..1]);
    world.warm.memory.forget();
    let start = world.host.now.get();
    world.expect(&world.isolate(&[]), &pull, 200, &BOTH);
    assert_eq!(world.host.now.get(), start, "the hedge is not waited for");
}

#[test]
fn the_stream_of_a_read_that_loses_is_discarded_after_the_reply() {
    let world = World::with_image();
    let isolate = world.isolate(&[]);
    popularise(&isolate);
    slow(
        &world,
        &[
            ("warm get", Verdict::After(4)),
            ("cold get", Verdict::After(3)),
        ],
    );
    let other = world.isolate(&[]);
    for target in [manifest(), blob(LAYER), blob(CONFIG)] {
        let discarded = world.host.discarded.get();
        let answer = ask(&other, &Ask::new(&format!("GET {target}")));
        assert_eq!(answer.header("x-strata-tier"), Some("warm"), "{target}");
        assert_eq!(world.host.discarded.get(), discarded + 1, "{target}");
    }
}

#[test]
fn a_miss_of_the_warm_tier_is_remembered_for_a_minute() {
    let world = World::with_image();
    let settings = [("STRATA_HOT_BYTES", "0"), ("STRATA_WARM_READS", "255")];
    let isolate = world.isolate(&settings);
    let pull = format!("GET {}", manifest());
    world.expect(&isolate, &pull, 200, &BOTH);
    world.expect(&isolate, &pull, 200, &BOTH[1..]);
    world.host.pass(Duration::from_secs(59));
    world.expect(&isolate, &pull, 200, &BOTH[1..]);
    world.host.pass(Duration::from_secs(1));
    world.expect(&isolate, &pull, 200, &BOTH);
    // A value that is out of date is a miss, too.
    popularise(&world.isolate(&[]));
    world.host.pass(Duration::from_secs(3_601));
    world.expect(&isolate, &pull, 200, &BOTH);
    world.expect(&isolate, &pull, 200, &BOTH[1..]);
}

#[test]
fn a_value_that_another_isolate_has_promoted_is_not_written_again() {
    let world = World::with_image();
    popularise(&world.isolate(&[]));
    let writes = |operations: &[String]| {
        let is_write = |entry: &&String| entry.starts_with("warm put");
        operations.iter().filter(is_write).count()
    };
    // This isolate's reads of the manifest are answered by the cold tier, and it has not heard of
    // the blobs.
    slow(&world, &[("warm get manifest", Verdict::After(30))]);
    let other = world.isolate(&[]);
    let first = world.ask(&other, &Ask::new(&format!("GET {}", manifest())));
    assert_eq!(first.0.header("x-strata-tier"), Some("cold"));
    slow(&world, &[]);
    world.log.borrow_mut().clear();
    for _ in 0..4 {
        for target in [manifest(), blob(LAYER), blob(CONFIG)] {
            let pull = Ask::new(&format!("GET {target}"));
            assert_eq!(ask(&other, &pull).status, 200);
        }
    }
    let operations = world.log.borrow();
    assert_eq!(writes(&operations), 0, "{operations:?}");
    let reads = |entry: &&String| entry.starts_with("warm get");
    assert_eq!(operations.iter().filter(reads).count(), 3, "{operations:?}");
}
