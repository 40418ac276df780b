//! Answers that are read are renewed before they expire, and by few isolates.

use std::collections::BTreeMap;

use strata::time::Timestamp;

use super::*;

/// The life of a manifest, in seconds.
const LIFE: u64 = 3_600;

fn targets() -> [String; 3] {
    [manifest(), blob(LAYER), blob(CONFIG)]
}

fn pull<W: Values<Bytes = MemoryBytes>>(
    isolate: &TestRegistry<Watched, W>,
    target: &str,
) -> Answer {
    ask(isolate, &Ask::new(&format!("GET {target}")))
}

/// The warm tier as an isolate of one location sees it: writes of other locations a minute later.
struct Location {
    here: usize,
    writes: Writes,
    host: TestHost,
    log: Rc<RefCell<Vec<String>>>,
}

/// The writes of each key: their time, their location and the value.
type Writes = Rc<RefCell<BTreeMap<String, Vec<(Timestamp, usize, Option<MemoryBytes>)>>>>;

impl Location {
    fn write(&self, operation: &str, key: &str, value: Option<MemoryBytes>) {
        let entry = format!("warm {operation} {}", kind(key));
        self.log.borrow_mut().push(entry);
        let mut writes = self.writes.borrow_mut();
        let of_key = writes.entry(key.to_owned()).or_default();
        of_key.push((self.host.now.get(), self.here, value));
    }
}

impl Values for Location {
    type Bytes = MemoryBytes;

    async fn get(&self, key: &str) -> Result<Option<MemoryBytes>, StoreError> {
        self.log
            .borrow_mut()
            .push(format!("warm get {}", kind(key)));
        let (writes, now) = (self.writes.borrow(), self.host.now.get());
        let seen = writes.get(key).into_iter().flatten().rev();
        let mut seen = seen.filter(|(time, location, _)| {
            *location == self.here || now.since(*time) >= Duration::from_secs(60)
        });
        Ok(seen.next().and_then(|(_, _, value)| value.clone()))
    }

    async fn put(&self, key: &str, value: MemoryBytes, _: Duration) -> Result<(), StoreError> {
        self.write("put", key, Some(value));
        Ok(())
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.write("delete", key, None);
        Ok(())
    }
}

/// Pulls the image through each isolate, so many times at an interval of seconds.
fn pull_for(
    world: &World,
    isolates: &[TestRegistry<Watched, Location>],
    times: u64,
    interval: u64,
) {
    for _ in 0..times {
        world.host.pass(Duration::from_secs(interval));
        for isolate in isolates {
            for target in targets() {
                assert_eq!(pull(isolate, &target).status, 200);
            }
        }
    }
}

fn count(operations: &[String], kind: &str) -> usize {
    let counted = operations.iter().filter(|entry| entry.starts_with(kind));
    counted.count()
}

/// Without renewal, each expiry costs eight isolates 24 reads of the cold tier (a manifest and two
/// links each) and eight writes of the warm one.
#[test]
fn isolates_share_the_renewal_of_what_they_read() {
    let world = World::with_image();
    let writes = Writes::default();
    let isolate = |here| {
        let location = Location {
            here,
            writes: writes.clone(),
            host: world.host.clone(),
            log: world.log.clone(),
        };
        registry_with(world.cold.clone(), location, world.host.clone(), &[])
    };
    let isolates: Vec<_> = (0..8).map(isolate).collect();
    popularise(&isolates[0]);
    world.host.pass(Duration::from_secs(60));
    pull_for(&world, &isolates, 6, 10);
    for period in 1..=2 {
        world.log.borrow_mut().clear();
        pull_for(&world, &isolates, LIFE / 20, 20);
        let operations = world.log.borrow().clone();
        let (reads, writes) = (count(&operations, "cold"), count(&operations, "warm put"));
        println!("period {period}: {reads} reads of the cold tier, {writes} writes");
        assert!(reads <= 24 / 4, "{reads} reads: {operations:?}");
        assert!(writes <= 8 / 4, "{writes} writes: {operations:?}");
        assert!(
            count(&operations, "warm get manifest") <= 2 * 8,
            "{operations:?}"
        );
    }
    // Blobs are renewed in the warm tier, too, and not by all: sixteen writes a day without that.
    world.log.borrow_mut().clear();
    pull_for(&world, &isolates, 24 * LIFE / 240, 240);
    let operations = world.log.borrow().clone();
    let writes = count(&operations, "warm put blob");
    println!(
        "a day: {writes} writes of blobs, {} of manifests",
        count(&operations, "warm put manifest")
    );
    assert!(writes <= 16 / 4, "{writes} writes of blobs");
}

#[test]
fn a_renewal_is_made_once_after_the_reply_and_only_for_a_reader() {
    let world = World::with_image();
    let isolate = world.isolate(&[("STRATA_WARM_SECONDS", "0")]);
    let get = format!("GET {}", manifest());
    world.expect(&isolate, &get, 200, &["cold get manifest"]);
    world.host.pass(Duration::from_secs(LIFE * 8 / 10 - 1));
    world.expect(&isolate, &get, 200, &[]);
    // All points of manifests are before 98 %.
    world.host.pass(Duration::from_secs(LIFE * 18 / 100 + 1));
    let (statuses, operations) = crowd(&world, &isolate, &get);
    assert_eq!(
        (statuses, &*operations),
        (vec![200; 64], &["cold head manifest".to_owned()][..])
    );
    world.expect(&isolate, &get, 200, &[]);
    // It counts from the renewal.
    world.host.pass(Duration::from_secs(LIFE * 8 / 10 - 1));
    world.expect(&isolate, &get, 200, &[]);
    // Nobody reads it, so nobody renews it.
    world.host.pass(Duration::from_secs(LIFE * 2 / 10 + 1));
    world.expect(&isolate, &get, 200, &["cold get manifest"]);
}

#[test]
fn a_renewal_that_fails_is_tried_again_and_harms_no_answer() {
    let world = World::with_image();
    let isolate = world.isolate(&[("STRATA_WARM_SECONDS", "0")]);
    let get = format!("GET {}", manifest());
    world.expect(&isolate, &get, 200, &["cold get manifest"]);
    world.host.pass(Duration::from_secs(LIFE * 98 / 100));
    let lost = Verdict::Lost(StoreError::Failed("made to fail".to_owned()));
    world.fail("cold head manifest", 1, lost);
    world.expect(&isolate, &get, 200, &["cold head manifest"]);
    world.expect(&isolate, &get, 200, &[]);
    world.host.pass(Duration::from_secs(10));
    world.expect(&isolate, &get, 200, &["cold head manifest"]);
    world.host.pass(Duration::from_secs(LIFE / 2));
    world.expect(&isolate, &get, 200, &[]);
}

#[test]
fn a_link_is_renewed_with_the_right_and_the_place_that_it_has_now() {
    let world = World::with_image();
    let settings = [("STRATA_HOT_BLOB_BYTES", "0"), ("STRATA_WARM_SECONDS", "0")];
    let (isolate, other) = (world.isolate(&settings), world.isolate(&settings));
    let head = format!("HEAD {}", blob(LAYER));
    world.expect(&isolate, &head, 200, &["cold get link", "cold head blob"]);
    world.host.pass(Duration::from_millis(LIFE * 999));
    let renewed = ["cold get link", "cold head blob"];
    let (_, operations) = world.ask(&isolate, &Ask::new(&head));
    assert!(
        operations.is_empty() || operations == renewed,
        "{operations:?}"
    );
    world.host.pass(Duration::from_millis(LIFE));
    if operations.is_empty() {
        world.expect(&isolate, &head, 200, &renewed);
    }
    world.expect(&isolate, &head, 200, &[]);
    // The repository loses the blob: the next renewal finds that.
    let delete = Ask::new(&format!("DELETE {}", manifest()));
    assert_eq!(ask(&other, &delete).status, 202);
    let delete = Ask::new(&format!("DELETE {}", blob(LAYER)));
    assert_eq!(ask(&other, &delete).status, 202);
    world.host.pass(Duration::from_millis(LIFE * 1_000 - 1));
    ask(&isolate, &Ask::new(&head));
    assert_eq!(ask(&isolate, &Ask::new(&head)).status, 404);
}

#[test]
fn an_older_answer_does_not_replace_a_newer_one() {
    let world = World::with_image();
    popularise(&world.isolate(&[]));
    let isolate = world.isolate(&[]);
    world.host.pass(Duration::from_secs(1_000));
    let operations = ["cold get link", "cold get blob"];
    let get = format!("GET {}", blob(LAYER));
    world.expect(&isolate, &get, 200, &operations);
    // The links in the manifest's warm value are older.
    world.expect(
        &isolate,
        &format!("GET {}", manifest()),
        200,
        &["warm get manifest"],
    );
    world.host.pass(Duration::from_secs(LIFE - 1_000 + 1));
    let (answer, operations) = world.ask(&isolate, &Ask::new(&get));
    assert_eq!(answer.status, 200);
    assert_eq!(count(&operations, "cold get link"), 0, "{operations:?}");
}

/// A deletion comes after each possible number of steps of a renewal.
#[test]
fn a_deletion_beside_a_renewal_is_seen_after_the_stale_seconds_at_the_latest() {
    for own in [false, true] {
        for lead in 0..40 {
            let world = World::with_image();
            let settings = [("STRATA_STALE_SECONDS", "600")];
            let isolates: Vec<_> = (0..3).map(|_| world.isolate(&settings)).collect();
            let [renewing, other, third] = &isolates[..] else {
                unreachable!()
            };
            for isolate in &isolates {
                popularise(isolate);
            }
            world.host.pass(Duration::from_secs(589));
            let get = Ask::new(&format!("GET {}", manifest()));
            let mut pulling = Box::pin(ask_now(renewing, &get));
            let context = &mut Context::from_waker(noop_waker_ref());
            // Each step takes a millisecond.
            let is_done = (0..lead).any(|_| {
                world.host.pass(Duration::from_millis(1));
                pulling.as_mut().poll(context).is_ready()
            });
            let deleted = world.host.now.get();
            // The deletion does not reach the warm tier at once.
            world.warm.is_deaf.set(true);
            let by = if own { renewing } else { other };
            let delete = Ask::new(&format!("DELETE {}", manifest()));
            assert_eq!(ask(by, &delete).status, 202);
            world.host.pass(Duration::from_millis(1));
            if !is_done {
                block_on(pulling);
            }
            assert_eq!(
                pull(by, &manifest()).status,
                404,
                "{own}, after {lead} steps"
            );
            for at in [100, 300, 500, 560, 599, 600] {
                world.host.now.set(deleted + Duration::from_secs(at));
                for isolate in [by, third, renewing] {
                    let status = pull(isolate, &manifest()).status;
                    assert!(
                        status == 404 || at < 600,
                        "{own}, after {lead} steps: {status}"
                    );
                }
            }
        }
    }
}
