//! Steps of a round: dry runs, cursors, interruptions, the clock and costs.

use super::*;

#[test]
fn a_dry_run_writes_nothing_and_predicts_the_run() {
    let fixture = Fixture::new(&[]);
    fixture.push_image("a", "v1");
    fixture.push_image("b", "v1");
    fixture.push_chunk("c", b"given up");
    fixture.delete_image("a");
    let mut seen = BTreeSet::new();
    for round in 0..14 {
        fixture.host.pass(GRACE / 2);
        let before = fixture.keys("");
        let told = fixture.step("?dry-run=true");
        assert_eq!(fixture.keys(""), before);
        let (mut told, mut done) = (
            told["removals"].as_array().unwrap().clone(),
            fixture.round(),
        );
        told.sort_by_key(Value::to_string);
        done.sort_by_key(Value::to_string);
        assert_eq!(told, done);
        seen.extend(short(&done));
        if round == 5 {
            fixture.delete_image("b");
        }
    }
    let expected = [
        "condemn blob",
        "delete blob",
        "delete grant",
        "delete link",
        "delete upload",
        "end upload",
    ];
    assert_eq!(seen.iter().collect::<Vec<_>>(), expected);
    assert!(fixture.keys("blobs/").is_empty());
}

#[test]
fn a_dry_run_resumes_from_its_cursor() {
    let fixture = Fixture::new(&[]);
    fixture.push_image("a", "v1");
    fixture.push_image("b", "v1");
    fixture.delete_image("a");
    fixture.host.pass(GRACE);
    let whole = fixture.step("?dry-run=true");
    let (mut parts, mut query) = (Vec::new(), "?dry-run&max=1".to_owned());
    loop {
        let body = fixture.step(&query);
        parts.extend(body["removals"].as_array().unwrap().clone());
        let Some(cursor) = body["cursor"].as_str() else {
            break;
        };
        query = format!("?dry-run&max=1&cursor={cursor}");
    }
    assert_eq!(Value::from(parts), whole["removals"]);
    for (query, found) in [
        ("?max=0", "query parameter max is 0; expected 1 or more"),
        ("?cursor=x", "query parameter cursor is for dry runs"),
        (
            "?dry-run&cursor=x",
            "query parameter cursor is not one that a dry run returned",
        ),
    ] {
        let answer = fixture.ask(&format!("POST /v2/_strata/sweep{query}"));
        assert_eq!(answer.status, 400);
        assert!(
            String::from_utf8_lossy(&answer.body).contains(found),
            "{query}"
        );
    }
}

#[test]
fn a_sweep_that_fails_at_any_operation_can_be_resumed() {
    let state = |fixture: &Fixture| {
        fixture.push_image("a", "v1");
        fixture.push_image("b", "v1");
        fixture.push_chunk("c", b"given up");
        fixture.host.pass(GRACE);
        fixture.round();
        fixture.delete_image("a");
        fixture.push_whole("d", b"for nothing");
        fixture.host.pass(GRACE);
    };
    let settings = [("STRATA_SUBREQUESTS", "50")];
    let fixture = Fixture::new(&settings);
    state(&fixture);
    let start = fixture.operations.get();
    fixture.round();
    let operations = fixture.operations.get() - start;
    assert!(operations > 20, "{operations}");
    for at in 1..=operations {
        for verdict in [Fault::Lost, Fault::Kept] {
            let fixture = Fixture::new(&settings);
            state(&fixture);
            fixture
                .fails
                .set(Some((fixture.operations.get() + at, verdict)));
            let answer = fixture.ask("POST /v2/_strata/sweep");
            assert!(matches!(answer.status, 200 | 202 | 503), "{at}: {answer:?}");
            assert!(fixture.is_whole("b", "v1"), "{verdict:?} at {at}");
            fixture.sweep_clean();
            assert!(fixture.is_whole("b", "v1"), "{verdict:?} at {at}");
            let image = [&digest(LAYER), &digest(CONFIG)].map(key::blob);
            let mut image = image.to_vec();
            image.sort();
            assert_eq!(fixture.keys("blobs/"), image, "{verdict:?} at {at}");
            // One upload is left: the one through which the layer came.
            let uploads: BTreeSet<_> = fixture
                .keys("uploads/")
                .iter()
                .map(|key| key[8..40].to_owned())
                .collect();
            assert_eq!(
                uploads.len(),
                1,
                "{verdict:?} at {at}: {:?}",
                fixture.keys("uploads/")
            );
            fixture.delete_image("b");
            fixture.sweep_clean();
            let mut left = fixture.keys("");
            left.retain(|key| !key.starts_with("catalog/") && !key.contains("/_tags/"));
            assert_eq!(
                left,
                ["sweep/cursor", "sweep/inventory"],
                "{verdict:?} at {at}"
            );
        }
    }
}

#[test]
fn the_clock_sweeps_in_small_steps_and_a_few_rounds_a_day() {
    let fixture = Fixture::new(&[("STRATA_SUBREQUESTS", "50")]);
    let rounds = || {
        let text = fixture
            .memory()
            .bytes("sweep/inventory")
            .unwrap_or_default();
        let inventory: Value = serde_json::from_slice(&text).unwrap_or_default();
        inventory["began"].as_u64()
    };
    for number in 0..30_u32 {
        fixture.push_whole("a", &number.to_be_bytes());
    }
    let mut seen = BTreeSet::new();
    let mut most = 0;
    for _ in 0..12 * 24 {
        fixture.host.pass(Duration::from_secs(300));
        let before = fixture.operations.get();
        block_on(fixture.registry.tick());
        most = most.max(fixture.operations.get() - before);
        seen.extend(rounds());
    }
    assert!(
        (3..=4).contains(&seen.len()),
        "{} rounds in a day",
        seen.len()
    );
    assert!(most <= 27, "{most} operations at once");
}

/// Plants so many images, each with a config, a layer of its own and a shared layer; each pushed to
/// two repositories.
fn plant(fixture: &Fixture, images: u32) {
    let shared = digest(b"shared");
    for number in 0..images {
        let own = digest(format!("layer {number}").as_bytes());
        let config = digest(format!("config {number}").as_bytes());
        let manifest = digest(format!("manifest {number}").as_bytes());
        for blob in [&own, &config] {
            fixture.put(&key::blob(blob), b"bytes", r#"{"kind":"bytes"}"#);
        }
        for name in ["team/a", "team/b"] {
            let name = name.parse().unwrap();
            let reason =
                json!({ "reason": "manifest", "digest": manifest.to_string() }).to_string();
            for blob in [&own, &config, &shared] {
                fixture.put(
                    &key::grant(blob, &name, &format!("{number:032}")),
                    b"",
                    &reason,
                );
                fixture.put(&key::link(blob, &name), b"{}", "");
            }
            fixture.put(&key::manifest(&name, &manifest), b"{}", "{}");
        }
    }
    fixture.put(&key::blob(&shared), b"shared bytes", r#"{"kind":"bytes"}"#);
}

#[test]
fn a_round_over_blobs_in_use_costs_few_operations() {
    let fixture = Fixture::new(&[]);
    plant(&fixture, 5_000);
    fixture.host.pass(GRACE);
    for what in ["first", "second"] {
        let before = fixture.operations.get();
        assert_eq!(fixture.round(), Vec::<Value>::new());
        let operations = fixture.operations.get() - before;
        println!("{what} round: {operations} operations for 10001 blobs, 65000 keys");
        // 10 pages of blobs, 50 of grants and links, 10 of manifests, and looks for the filter's
        // errors.
        assert!(operations <= 100, "{operations}");
    }
    let inventory = fixture.memory().bytes("sweep/inventory").unwrap();
    let inventory: Value = serde_json::from_slice(&inventory).unwrap();
    let bytes = 10_000 * 5 + 12;
    assert_eq!(inventory["blobs"], 10_001);
    assert_eq!(inventory["bytes"], bytes);
    assert_eq!(inventory["repositories"]["team/a"]["bytes"], bytes);
    assert_eq!(inventory["undividedBytes"], 2 * 5_000 * (5 + 5 + 12));
    let metrics = String::from_utf8(fixture.ask("GET /metrics").body).unwrap();
    for line in [
        "strata_inventory_blobs 10001",
        "strata_inventory_bytes 50012",
        "strata_inventory_undivided_bytes 220000",
        "strata_inventory_manifests 10000",
        "strata_repository_bytes{repository=\"team/a\"} 50012",
        "strata_repository_undivided_bytes{repository=\"team/b\"} 110000",
        "strata_repository_blobs{repository=\"_others\"} 0",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line}");
    }
}

#[test]
fn each_removed_blob_costs_fewer_than_18_operations() {
    let fixture = Fixture::new(&[]);
    let blobs = 300_u32;
    for number in 0..blobs {
        fixture.push_whole("a", &number.to_be_bytes());
    }
    fixture.host.pass(GRACE);
    let before = fixture.operations.get();
    fixture.round();
    let condemning = fixture.operations.get() - before;
    fixture.host.pass(GRACE);
    let before = fixture.operations.get();
    fixture.round();
    let removing = fixture.operations.get() - before;
    println!("{blobs} blobs: {condemning} operations to condemn, {removing} to remove");
    assert!(fixture.keys("blobs/").is_empty());
    assert!(condemning < u64::from(blobs) * 7 && removing < u64::from(blobs) * 11);
}

#[test]
fn each_step_that_removes_is_audited() {
    let fixture = Fixture::new(&[("STRATA_SUBREQUESTS", "50")]);
    for number in 0..30 {
        fixture.push_whole("a", format!("unused {number}").as_bytes());
    }
    // The first round removes the grants, and the second one condemns the blobs in several steps.
    fixture.host.pass(GRACE);
    fixture.round();
    fixture.host.told.borrow_mut().clear();
    let steps = (1..100).find(|_| fixture.step("")["finished"] == true);
    assert!(steps.unwrap() > 1);
    let audited = || {
        let log = fixture.host.told.borrow();
        let is_sweep = |line: &&String| line.starts_with("audit") && line.contains("\"sweep\"");
        log.iter().filter(is_sweep).count()
    };
    assert_eq!(audited(), steps.unwrap());
    fixture.step("?dry-run");
    assert_eq!(audited(), steps.unwrap());
}
