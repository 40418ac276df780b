//! Concurrent misses: one request reads, and the others wait for it.

use super::*;

#[test]
fn concurrent_misses_of_one_value_are_one_read() {
    let world = World::with_image();
    let once = [("STRATA_WARM_SECONDS", "0")];
    let (statuses, operations) = crowd(
        &world,
        &world.isolate(&once),
        &format!("GET {}", manifest()),
    );
    assert_eq!(
        (statuses, &*operations),
        (vec![200; 64], &["cold get manifest".to_owned()][..])
    );
    let (statuses, operations) = crowd(
        &world,
        &world.isolate(&once),
        &format!("GET {}", blob(LAYER)),
    );
    assert_eq!(statuses, [200; 64]);
    assert_eq!(operations, ["cold get link", "cold get blob"]);
    // A value that no cache keeps is still shared with the waiting requests.
    let nothing = world.isolate(&[("STRATA_HOT_BYTES", "0")]);
    let (statuses, operations) = crowd(&world, &nothing, &format!("GET {}", manifest()));
    assert_eq!(statuses, [200; 64]);
    let reads = operations
        .iter()
        .filter(|entry| *entry == "cold get manifest")
        .count();
    assert_eq!(reads, 1, "{operations:?}");
    let joins = text(&ask(&nothing, &Ask::new("GET /metrics")));
    assert!(
        joins.contains("strata_single_flight_joins_total{kind=\"manifest\"} 63\n"),
        "{joins}"
    );
}

#[test]
fn followers_of_a_failed_leader_read_for_themselves() {
    let world = World::with_image();
    world.fail(
        "cold get manifest",
        1,
        Verdict::Lost(StoreError::Failed("gone".to_owned())),
    );
    let isolate = world.isolate(&[("STRATA_WARM_SECONDS", "0")]);
    let (mut statuses, operations) = crowd(&world, &isolate, &format!("GET {}", manifest()));
    statuses.sort_unstable();
    assert_eq!((&statuses[..63], statuses[63]), (&[200; 63][..], 503));
    assert!(operations.len() <= 64, "{operations:?}");
}

#[test]
fn followers_of_a_cancelled_leader_are_not_stranded() {
    let world = World::with_image();
    let isolate = world.isolate(&[("STRATA_WARM_SECONDS", "0")]);
    world.fail("cold get manifest", 1, Verdict::Never);
    let request = Ask::new(&format!("GET {}", manifest()));
    // The platform never runs a cancelled request again, and never drops its state.
    let mut cancelled = pin!(ask_now(&isolate, &request));
    for _ in 0..10 {
        assert!(
            cancelled
                .as_mut()
                .poll(&mut Context::from_waker(noop_waker_ref()))
                .is_pending()
        );
    }
    let start = world.host.now.get();
    assert_eq!(ask(&isolate, &request).status, 200);
    assert!(world.host.now.get().since(start) <= Duration::from_secs(11));
}
