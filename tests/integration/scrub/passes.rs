//! Passes of the scrub: dry runs, faults, interruptions, and how long a pass takes.

use super::*;

const DAMAGE: [&str; 6] = [
    "corrupt blob: aside",
    "corrupt blob: aside",
    "corrupt blob: aside",
    "corrupt blob: write",
    "corrupt link: write",
    "missing grant: write",
];

fn sorted(mut findings: Vec<String>) -> Vec<String> {
    findings.sort();
    findings
}

#[test]
fn a_dry_run_reports_all_damage_and_writes_nothing() {
    let fixture = damaged(&[("STRATA_SUBREQUESTS", "50")]);
    let before = fixture.objects();
    let (mut found, mut cursor, mut steps) = (Vec::new(), String::new(), 0);
    loop {
        let body = fixture.step(&format!("?dry-run{cursor}"));
        assert_eq!(body["dryRun"], true);
        found.extend(short(&body));
        steps += 1;
        match body["cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert!(steps > 1);
    // A dry run does not set the blob aside, so it finds it again.
    found.retain(|finding| finding != "missing blob: nothing");
    assert_eq!(sorted(found), DAMAGE);
    assert_eq!(fixture.objects(), before);
    assert!(fixture.keys(key::SCRUB_CURSOR).is_empty());
    assert_eq!(sorted(fixture.pass())[..3], DAMAGE[..3]);
}

/// The objects that a scrub without failures leaves of a damaged image, with their kinds.
fn outcome(fixture: &Fixture) -> Vec<(String, String)> {
    let objects = fixture.objects().into_iter();
    // New grants have other names.
    objects
        .filter(|(key, _)| !key.contains("/_grants/"))
        .map(|(key, (_, metadata))| (key, metadata))
        .collect()
}

#[test]
fn a_store_failure_at_any_operation_of_a_scrub_loses_nothing() {
    let whole = damaged(&[]);
    whole.pass();
    let expected = outcome(&whole);
    let operations = {
        let fixture = damaged(&[]);
        fixture.obey();
        fixture.pass();
        fixture.operations.get()
    };
    for at in 1..=operations {
        for is_kept in [false, true] {
            let mut fixture = damaged(&[]);
            fixture.plan(move |number, _, _| {
                let error = StoreError::Failed("on purpose".to_owned());
                match (number == at, is_kept) {
                    (true, true) => Verdict::Kept(error),
                    (true, false) => Verdict::Lost(error),
                    (false, _) => Verdict::Done,
                }
            });
            fixture.ask("POST /v2/_strata/scrub");
            fixture.obey();
            assert!(fixture.is_whole("a"), "{at} {is_kept}");
            fixture.restart();
            // The next pass finds the damage that this one skipped.
            fixture.pass();
            fixture.pass();
            assert_eq!(outcome(&fixture), expected, "{at} {is_kept}");
            assert!(fixture.is_whole("a"), "{at} {is_kept}");
        }
    }
    println!(
        "failed at each of {operations} operations of a scrub, kept and lost: nothing is lost"
    );
}

#[test]
fn a_scrub_killed_at_any_point_resumes() {
    let whole = damaged(&[]);
    whole.pass();
    let expected = outcome(&whole);
    let mut turns = 1;
    loop {
        let mut fixture = damaged(&[]);
        if !fixture.cut_short("POST /v2/_strata/scrub", turns) {
            break;
        }
        fixture.restart();
        assert!(fixture.is_whole("a"), "{turns}");
        fixture.pass();
        fixture.pass();
        assert_eq!(outcome(&fixture), expected, "{turns}");
        assert!(fixture.is_whole("a"), "{turns}");
        turns += 1;
    }
    assert!(turns > 50, "{turns}");
    println!("killed after each of {turns} turns of a scrub: it goes on");
}

#[test]
fn a_slow_scrub_never_touches_objects_stored_since() {
    for (patched, again) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut turns = 1;
        loop {
            let mut fixture = Fixture::new(&[]);
            fixture.push_image("a");
            for (key, at) in [(key::blob(&digest(CONFIG)), 1)]
                .into_iter()
                .chain(fixture.keys("extents/").into_iter().map(|key| (key, 0)))
            {
                fixture.damage(&key, |bytes| bytes[at] ^= 1);
            }
            let slow_registry =
                registry_on(fixture.registry.store().clone(), fixture.host.clone(), &[]);
            let question = Ask::new("POST /v2/_strata/scrub");
            let ended = {
                let mut slow = pin!(ask_now(&slow_registry, &question));
                let waker = noop_waker();
                let mut context = Context::from_waker(&waker);
                let ended = (0..turns).any(|_| slow.as_mut().poll(&mut context) != Poll::Pending);
                if !ended {
                    // Another scrub, and a client that pushes the image again, are faster.
                    fixture.pass();
                    for blob in [LAYER, CONFIG] {
                        let pushed = if patched {
                            fixture.push_patched("b", blob, 3)
                        } else {
                            fixture.push_whole("b", blob)
                        };
                        assert_eq!(pushed, 201);
                    }
                    fixture.push_manifest("b", "v1", OCI_MANIFEST, &image());
                    assert!(fixture.is_whole("b"));
                    if again {
                        fixture.pass();
                    }
                    block_on(slow);
                }
                ended
            };
            if ended {
                break;
            }
            fixture.restart();
            assert!(fixture.is_whole("b"), "{turns} {patched}");
            assert!(fixture.is_whole("a"), "{turns} {patched}");
            // The link of a repository whose image was not pushed again may name the old bytes: it
            // is a hint.
            let mut found = fixture.pass();
            found.retain(|finding| finding != "corrupt link: write");
            assert!(found.is_empty(), "{turns} {patched} {found:?}");
            assert!(fixture.pass().is_empty(), "{turns} {patched}");
            turns += 1;
        }
        assert!(turns > 20, "{turns}");
    }
}

#[test]
fn a_scrub_takes_its_configured_number_of_days() {
    let settings = [("STRATA_SCRUB_DAYS", "10"), ("STRATA_GRACE_HOURS", "8760")];
    let mut fixture = Fixture::new(&settings);
    for number in 0..400_u32 {
        fixture.push_whole("a", &number.to_be_bytes());
    }
    let progress = |fixture: &Fixture| {
        let text = fixture.memory().bytes(key::SCRUB_CURSOR).unwrap();
        let cursor: Value = serde_json::from_slice(&text).unwrap();
        cursor["totals"]["checked"]["blob"].as_u64().unwrap_or(0)
    };
    for day in 0..=10 {
        block_on(fixture.registry.tick());
        let (checked, due) = (progress(&fixture), 40 * day);
        assert!(
            checked.abs_diff(due) < 30,
            "{checked} blobs after {day} days"
        );
        fixture.restart();
        fixture.host.pass(DAY);
    }
    assert_eq!(progress(&fixture), 400);
    // The next pass begins when the days are over.
    block_on(fixture.registry.tick());
    assert!(progress(&fixture) < 100);

    let never = Fixture::new(&[("STRATA_SCRUB_DAYS", "0")]);
    never.push_whole("a", LAYER);
    for _ in 0..3 {
        block_on(never.registry.tick());
        never.host.pass(400 * DAY);
    }
    assert!(never.keys(key::SCRUB_CURSOR).is_empty());
    assert_eq!(never.step("")["finished"], true);
}

#[test]
fn a_scrub_resumes_after_each_step_within_its_budget() {
    let settings = [
        ("STRATA_SUBREQUESTS", "200"),
        ("STRATA_GRACE_HOURS", "8760"),
    ];
    let mut fixture = Fixture::new(&settings);
    for number in 0..1_000_u32 {
        fixture.push_whole("a", &number.to_be_bytes());
    }
    for blobs in (0..1_000_u32).collect::<Vec<_>>().chunks(10) {
        let layers: Vec<Value> = blobs
            .iter()
            .map(|number| descriptor("application/octet-stream", &number.to_be_bytes()))
            .collect();
        let manifest = json!({ "schemaVersion": 2, "mediaType": OCI_MANIFEST,
            "config": layers[0], "layers": layers[1..] });
        fixture.push_manifest("a", &format!("v{}", blobs[0]), OCI_MANIFEST, &manifest);
    }
    let damaged: Vec<u32> = (0..1_000).step_by(100).collect();
    for number in &damaged {
        fixture.damage(&key::blob(&digest(&number.to_be_bytes())), |bytes| {
            flip(bytes);
        });
    }
    let (mut operations, mut steps, mut found) = (0, 0, 0);
    let body = loop {
        let body = fixture.step("");
        operations += body["operations"].as_u64().unwrap();
        assert!(body["operations"].as_u64().unwrap() <= 200);
        found += short(&body)
            .iter()
            .filter(|finding| *finding == "corrupt blob: aside")
            .count();
        steps += 1;
        // Each step runs in a new isolate.
        fixture.restart();
        if body["finished"] == true {
            break body;
        }
    };
    assert_eq!(found, damaged.len());
    assert_eq!(
        body["pass"]["checked"],
        json!({ "blob": 1_000, "grant": 2_000, "link": 1_000, "manifest": 100, "tag": 100 })
    );
    println!(
        "1,000 blobs of one link and 100 manifests, 10 of them damaged: {operations} operations in {steps} steps"
    );
    // A read of each blob, of each link and of each manifest; new listings with each step; and the
    // damaged blobs.
    assert!(operations < 2_300 + 5 * steps, "{operations}");
}
