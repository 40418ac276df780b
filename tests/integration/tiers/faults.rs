//! Tiers that fail, or have wrong bytes.

use super::*;

#[test]
fn a_failing_call_is_harmless_if_another_tier_answers() {
    let targets = [
        manifest(),
        "/v2/a/manifests/v1".to_owned(),
        blob(LAYER),
        blob(CONFIG),
    ];
    let lost = || StoreError::Failed("made to fail".to_owned());
    // Warm values are served even if the cold tier fails, and the other way round.
    for (prefix, verdict) in [
        ("warm get", Verdict::Lost(lost())),
        ("warm get", Verdict::Never),
        ("warm put", Verdict::Lost(lost())),
        ("warm put", Verdict::Kept(lost())),
        ("warm delete", Verdict::Lost(lost())),
        ("cold get manifest", Verdict::Lost(lost())),
        ("cold get blob", Verdict::Lost(lost())),
        ("cold head blob", Verdict::Lost(lost())),
    ] {
        for number in 1..=4 {
            let world = World::with_image();
            popularise(&world.isolate(&[]));
            world.fail(prefix, number, verdict.clone());
            let isolate = world.isolate(&[("STRATA_WARM_READS", "1")]);
            for _ in 0..2 {
                for target in &targets {
                    let answer = ask(&isolate, &Ask::new(&format!("GET {target}")));
                    assert_eq!(
                        answer.status,
                        200,
                        "{prefix} {number}: {target}: {}",
                        text(&answer)
                    );
                    let expected = if *target == targets[2] {
                        LAYER.to_vec()
                    } else if *target == targets[3] {
                        CONFIG.to_vec()
                    } else {
                        image().to_string().into_bytes()
                    };
                    assert_eq!(answer.body, expected);
                }
            }
        }
    }
}

#[test]
fn a_warm_value_with_a_flipped_byte_is_never_served() {
    let world = World::with_image();
    popularise(&world.isolate(&[]));
    for (name, _) in world.warm.memory.keys() {
        let sealed = block_on(world.warm.memory.get(&name))
            .unwrap()
            .unwrap()
            .to_vec();
        let life = Duration::from_secs(3_600);
        let target = match kind(&name) {
            "manifest" => manifest(),
            _ if name == key::blob(&digest(LAYER)) => blob(LAYER),
            _ => blob(CONFIG),
        };
        let expected = ask(
            &world.isolate(&[("STRATA_WARM_SECONDS", "0")]),
            &Ask::new(&format!("GET {target}")),
        );
        // Each byte, and each length.
        for at in (0..sealed.len()).step_by(7).chain([sealed.len() - 1]) {
            let mut flipped = sealed.clone();
            flipped[at] ^= 0x10;
            for poison in [flipped, sealed[..at].to_vec()] {
                block_on(
                    world
                        .warm
                        .memory
                        .put(&name, MemoryBytes::copy_from(&poison), life),
                )
                .unwrap();
                let isolate = world.isolate(&[]);
                if target != manifest() {
                    // The manifest's value records that the blob is warm.
                    ask(&isolate, &Ask::new(&format!("GET {}", manifest())));
                }
                let answer = ask(&isolate, &Ask::new(&format!("GET {target}")));
                assert_eq!(
                    (answer.status, &answer.body),
                    (200, &expected.body),
                    "{name} at {at}"
                );
                assert_eq!(
                    answer.header("content-type"),
                    expected.header("content-type")
                );
                if answer.header("x-strata-tier") == Some("warm") {
                    continue; // nothing that counts was flipped
                }
                assert!(
                    world.warm.memory.keys().iter().all(|(key, _)| *key != name),
                    "it stays"
                );
                let metrics = text(&ask(&isolate, &Ask::new("GET /metrics")));
                assert!(
                    metrics.contains("reason=\"poisoned\",tier=\"warm\"} 1\n"),
                    "{metrics}"
                );
            }
        }
        block_on(
            world
                .warm
                .memory
                .put(&name, MemoryBytes::copy_from(&sealed), life),
        )
        .unwrap();
    }
    assert!(
        world
            .host
            .log
            .borrow()
            .iter()
            .any(|line| line.contains("poisoned"))
    );
}

#[test]
fn a_value_whose_copies_do_not_fit_into_memory_is_promoted_later() {
    let world = World::new();
    let bytes = vec![7; 100_000];
    let pushed = Ask::new(&format!(
        "POST /v2/a/blobs/uploads/?digest={}",
        digest(&bytes)
    ));
    let isolate = world.isolate(&[("STRATA_WARM_READS", "1")]);
    assert_eq!(ask(&isolate, &pushed.body(&bytes)).status, 201);
    let now = || world.host.now.get();
    let rest = isolate
        .ledger()
        .take(MemoryKind::Buffer, Ledger::BOUND - 150_000, now());
    let pull = Ask::new(&format!("GET {}", blob(&bytes)));
    let (answer, operations) = world.ask(&isolate, &pull);
    assert_eq!((answer.status, &*answer.body), (200, &*bytes));
    assert!(
        !operations.contains(&"warm put blob".to_owned()),
        "{operations:?}"
    );
    drop(rest);
    world.host.pass(Duration::from_secs(60));
    let (_, operations) = world.ask(&isolate, &pull);
    assert!(
        operations.contains(&"warm put blob".to_owned()),
        "{operations:?}"
    );
}
