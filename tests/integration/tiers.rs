//! The tiers: what each read costs, who answers when one of them does not, and what is no longer answered.

use std::{cell::RefCell, future::Future as _, pin::pin, rc::Rc, task::Context, time::Duration};

use futures_util::{
    future::{join, join_all},
    task::noop_waker_ref,
};
use pollster::block_on;
use serde_json::json;
use strata::{
    manifest::OCI_MANIFEST,
    metrics::Metrics,
    platform::Composed,
    registry::Registry,
    store::{
        Bytes as _, Objects as _, StoreError, Streams, Values,
        counted::Counted,
        memory::{Memory, MemoryBody, MemoryBytes},
    },
};
use strata_support::{
    Answer, Ask, CONFIG, LAYER, TestHost, TestRegistry, ask, ask_now, descriptor, digest, image,
    key, registry_with, settings_of,
    watched::{Verdict, Watched, WatchedValues},
};

/// Decides what comes of an operation, by its tier, name and key.
type Fault = Rc<RefCell<Box<dyn FnMut(&str) -> Verdict>>>;

/// Stores that several isolates share, which write down each operation with the tier and kind of its key.
struct World {
    cold: Watched,
    warm: WatchedValues,
    host: TestHost,
    log: Rc<RefCell<Vec<String>>>,
    fault: Fault,
}

type Isolate = TestRegistry<Watched, WatchedValues>;

impl World {
    fn new() -> Self {
        let log = Rc::<RefCell<Vec<String>>>::default();
        let fault: Fault = Rc::new(RefCell::new(Box::new(|_| Verdict::Done)));
        let watcher = |tier: &'static str| {
            let (log, fault) = (log.clone(), fault.clone());
            move |operation: &'static str, key: &str| {
                let entry = format!("{tier} {operation} {}", kind(key));
                let verdict = (fault.borrow_mut())(&entry);
                log.borrow_mut().push(entry);
                verdict
            }
        };
        Self {
            cold: Watched::new(Memory::default(), watcher("cold")),
            warm: WatchedValues::new(watcher("warm")),
            host: TestHost::default(),
            log,
            fault,
        }
    }

    /// A world in which an image was pushed, a while ago, as repository a's v1.
    fn with_image() -> Self {
        let world = Self::new();
        push(&world.isolate(&[]));
        world.host.pass(Duration::from_secs(10));
        world
    }

    /// An isolate that has just started.
    fn isolate(&self, settings: &[(&str, &str)]) -> Isolate {
        registry_with(
            self.cold.clone(),
            self.warm.clone(),
            self.host.clone(),
            settings,
        )
    }

    /// What a request was answered, and the operations that it and what followed it took.
    fn ask(&self, isolate: &Isolate, request: &Ask) -> (Answer, Vec<String>) {
        self.log.borrow_mut().clear();
        let answer = ask(isolate, request);
        (answer, self.log.borrow().clone())
    }

    #[track_caller]
    fn expect(&self, isolate: &Isolate, request: &str, status: u16, operations: &[&str]) -> Answer {
        let (answer, log) = self.ask(isolate, &Ask::new(request));
        assert_eq!(answer.status, status, "{request}: {}", text(&answer));
        assert_eq!(log, operations, "{request}");
        answer
    }

    /// Makes the operation of this number, among those whose entry begins so, come out otherwise.
    fn fail(&self, prefix: &'static str, mut number: usize, verdict: Verdict) {
        *self.fault.borrow_mut() = Box::new(move |entry| {
            if entry.starts_with(prefix) {
                number = number.wrapping_sub(1);
                if number == 0 {
                    return verdict.clone();
                }
            }
            Verdict::Done
        });
    }
}

fn kind(key: &str) -> &'static str {
    match key.split('/').next().unwrap_or_default() {
        "refs" if key.ends_with("/_link") => "link",
        "refs" => "grant",
        "repositories" if key.contains("/_tags/") => "tag",
        "repositories" => "manifest",
        "blobs" => "blob",
        "extents" => "extent",
        _ => "other",
    }
}

fn text(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

fn push<S, W>(isolate: &TestRegistry<S, W>)
where
    S: Streams<Body = MemoryBody, Bytes = MemoryBytes>,
    W: Values<Bytes = MemoryBytes>,
{
    for blob in [LAYER, CONFIG] {
        let request = format!("POST /v2/a/blobs/uploads/?digest={}", digest(blob));
        assert_eq!(ask(isolate, &Ask::new(&request).body(blob)).status, 201);
    }
    let request = Ask::new("PUT /v2/a/manifests/v1").manifest(OCI_MANIFEST, &image());
    assert_eq!(ask(isolate, &request).status, 201);
}

fn manifest() -> String {
    let digest = digest(image().to_string().as_bytes());
    format!("/v2/a/manifests/{digest}")
}

fn blob(bytes: &[u8]) -> String {
    format!("/v2/a/blobs/{}", digest(bytes))
}

/// Pulls the image as often as it takes for all of it to be warm.
fn popularise<S, W>(isolate: &TestRegistry<S, W>)
where
    S: Streams<Body = MemoryBody, Bytes = MemoryBytes>,
    W: Values<Bytes = MemoryBytes>,
{
    for _ in 0..3 {
        for target in [blob(LAYER), blob(CONFIG), manifest()] {
            assert_eq!(
                ask(isolate, &Ask::new(&format!("GET {target}"))).status,
                200
            );
        }
    }
}

#[test]
fn what_is_hot_costs_nothing() {
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
fn what_was_read_often_is_warm_for_all_isolates() {
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
    // The manifest has brought the links along.
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
fn the_warm_tier_is_not_asked_for_blobs_in_vain() {
    let world = World::with_image();
    let isolate = world.isolate(&[]);
    popularise(&isolate);
    // An isolate that has not read the manifest has no reason to think that they are there.
    let other = world.isolate(&[]);
    let get = format!("GET {}", blob(LAYER));
    world.expect(&other, &get, 200, &["cold get link", "cold get blob"]);
    // One that has asks once, where they are gone.
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
    // Of many who read it at once, one writes it.
    world.warm.memory.forget();
    let eager = world.isolate(&[("STRATA_WARM_READS", "2")]);
    assert_eq!(ask(&eager, &request).status, 200);
    let target = format!("GET {}", manifest());
    assert_eq!(writes(&crowd(&world, &eager, &target).1), 1);
    // One that could not be written is tried again, but not at once.
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
fn what_does_not_fit_passes_by() {
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
    // Where a value is too large for memory and not for the warm tier, that one answers.
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

/// Many ask for the same at the same moment; answers the statuses and the operations.
fn crowd(world: &World, isolate: &Isolate, request: &str) -> (Vec<u16>, Vec<String>) {
    world.log.borrow_mut().clear();
    let request = Ask::new(request);
    let answers = block_on(join_all((0..64).map(|_| ask_now(isolate, &request))));
    let statuses = answers.iter().map(|answer| answer.status).collect();
    (statuses, world.log.borrow().clone())
}

#[test]
fn of_many_who_miss_the_same_one_reads_it() {
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
    // What is kept in no memory is left for those who wait all the same.
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
fn those_who_wait_for_a_leader_that_fails_try_themselves() {
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
fn those_who_wait_for_a_leader_that_was_cancelled_are_not_stranded() {
    let world = World::with_image();
    let isolate = world.isolate(&[("STRATA_WARM_SECONDS", "0")]);
    world.fail("cold get manifest", 1, Verdict::Never);
    let request = Ask::new(&format!("GET {}", manifest()));
    // The platform never runs a cancelled request again, and never drops what it holds.
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

#[test]
fn any_call_may_fail_where_another_tier_can_answer() {
    let targets = [
        manifest(),
        "/v2/a/manifests/v1".to_owned(),
        blob(LAYER),
        blob(CONFIG),
    ];
    let lost = || StoreError::Failed("made to fail".to_owned());
    // What is warm is answered whatever the cold tier does, and the other way round.
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
                    // It is what says that the blob is warm.
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
fn what_is_deleted_is_answered_by_no_tier_of_this_isolate() {
    let world = World::with_image();
    let isolate = world.isolate(&[]);
    popularise(&isolate);
    // Even where the warm tier goes on giving it, as it does for a minute.
    world.warm.is_deaf.set(true);
    assert_eq!(
        ask(&isolate, &Ask::new(&format!("DELETE {}", manifest()))).status,
        202
    );
    for _ in 0..3 {
        let (answer, operations) = world.ask(&isolate, &Ask::new(&format!("GET {}", manifest())));
        assert_eq!(answer.status, 404, "{operations:?}");
    }
    assert_eq!(
        ask(&isolate, &Ask::new(&format!("DELETE {}", blob(LAYER)))).status,
        202
    );
    for method in ["GET", "HEAD"] {
        assert_eq!(
            ask(&isolate, &Ask::new(&format!("{method} {}", blob(LAYER)))).status,
            404
        );
    }
    // Pushed again, it is there again.
    push(&isolate);
    for target in [manifest(), blob(LAYER)] {
        assert_eq!(
            ask(&isolate, &Ask::new(&format!("GET {target}"))).status,
            200
        );
    }
}

#[test]
fn a_read_under_way_keeps_nothing_of_what_is_deleted_meanwhile() {
    let world = World::with_image();
    let isolate = world.isolate(&[("STRATA_WARM_READS", "1")]);
    let pull = Ask::new(&format!("GET {}", manifest()));
    let delete = Ask::new(&format!("DELETE {}", manifest()));
    // Of two requests that run in turns, whichever comes first at each step.
    for lead in 0..12 {
        push(&isolate);
        world.host.pass(Duration::from_secs(61));
        let mut pulling = Box::pin(ask_now(&isolate, &pull));
        let context = &mut Context::from_waker(noop_waker_ref());
        let mut pulled = None;
        for _ in 0..lead {
            if pulled.is_none()
                && let std::task::Poll::Ready(answer) = pulling.as_mut().poll(context)
            {
                pulled = Some(answer);
            }
        }
        assert_eq!(ask(&isolate, &delete).status, 202);
        if pulled.is_none() {
            // Who comes after the deletion gets nothing of a read that began before it.
            let (later, _) = block_on(join(ask_now(&isolate, &pull), pulling));
            assert_eq!(later.status, 404, "beside it, after {lead} steps");
        }
        assert_eq!(ask(&isolate, &pull).status, 404, "after {lead} steps");
        assert!(
            world
                .warm
                .memory
                .keys()
                .iter()
                .all(|(key, _)| kind(key) != "manifest"),
            "after {lead} steps"
        );
    }
}

#[test]
fn what_is_deleted_elsewhere_is_answered_for_a_stated_time() {
    let world = World::with_image();
    let settings = [("STRATA_STALE_SECONDS", "600")];
    let (one, other, third) = (
        world.isolate(&settings),
        world.isolate(&settings),
        world.isolate(&settings),
    );
    popularise(&one);
    popularise(&other);
    // Where the third isolate is, nobody has heard of the deletions yet.
    world.warm.is_deaf.set(true);
    world.host.pass(Duration::from_secs(300));
    for target in [manifest(), blob(LAYER)] {
        assert_eq!(
            ask(&one, &Ask::new(&format!("DELETE {target}"))).status,
            202
        );
    }
    // Another isolate believes what it knows, and may even write it to the warm tier again.
    world.host.pass(Duration::from_secs(299));
    for target in [manifest(), blob(LAYER)] {
        for isolate in [&other, &other, &other, &other, &third] {
            ask(isolate, &Ask::new(&format!("GET {target}")));
        }
        assert_eq!(ask(&other, &Ask::new(&format!("GET {target}"))).status, 200);
    }
    world.host.pass(Duration::from_secs(2));
    for isolate in [&one, &other, &third] {
        for target in [manifest(), blob(LAYER)] {
            assert_eq!(
                ask(isolate, &Ask::new(&format!("GET {target}"))).status,
                404
            );
        }
    }
}

#[test]
fn those_who_can_not_push_believe_that_something_is_not_there() {
    let world = World::with_image();
    let isolate = world.isolate(&[("STRATA_ANONYMOUS_PULL", "true")]);
    let missing = format!("GET /v2/a/manifests/{}", digest(b"missing"));
    let anonymous = Ask::new(&missing).anonymous();
    let count = |request: &Ask| {
        let (answer, operations) = world.ask(&isolate, request);
        assert_eq!(answer.status, 404);
        operations.len()
    };
    assert_eq!(count(&anonymous), 2);
    assert_eq!(count(&anonymous), 0);
    assert_eq!(
        count(&Ask::new(&missing)),
        2,
        "a user may have pushed it a moment ago"
    );
    world.host.pass(Duration::from_secs(5));
    assert_eq!(count(&anonymous), 2);
    // What is pushed through this isolate is there at once.
    let bytes = b"another layer";
    let get = Ask::new(&format!("GET {}", blob(bytes))).anonymous();
    assert_eq!(ask(&isolate, &get).status, 404);
    let post = format!("POST /v2/a/blobs/uploads/?digest={}", digest(bytes));
    assert_eq!(ask(&isolate, &Ask::new(&post).body(bytes)).status, 201);
    assert_eq!(ask(&isolate, &get).status, 200);
    // So is a manifest.
    let document = json!({ "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": descriptor("application/json", CONFIG), "layers": [descriptor("application/json", bytes)] });
    let get = Ask::new(&format!(
        "GET /v2/a/manifests/{}",
        digest(document.to_string().as_bytes())
    ))
    .anonymous();
    assert_eq!(ask(&isolate, &get).status, 404);
    assert_eq!(
        ask(
            &isolate,
            &Ask::new("PUT /v2/a/manifests/v2").manifest(OCI_MANIFEST, &document)
        )
        .status,
        201
    );
    assert_eq!(ask(&isolate, &get).status, 200);
}

#[test]
fn what_is_hot_is_kept_for_its_time_and_no_longer() {
    let world = World::with_image();
    let isolate = world.isolate(&[("STRATA_HOT_SECONDS", "60"), ("STRATA_WARM_SECONDS", "0")]);
    let request = format!("GET {}", manifest());
    world.expect(&isolate, &request, 200, &["cold get manifest"]);
    world.host.pass(Duration::from_secs(59));
    world.expect(&isolate, &request, 200, &[]);
    world.host.pass(Duration::from_secs(1));
    world.expect(&isolate, &request, 200, &["cold get manifest"]);
}

#[test]
fn a_stale_link_leads_to_the_blob_all_the_same() {
    let world = World::with_image();
    let isolate = world.isolate(&[("STRATA_HOT_BLOB_BYTES", "0"), ("STRATA_WARM_SECONDS", "0")]);
    let get = format!("GET {}", blob(LAYER));
    assert_eq!(ask(&isolate, &Ask::new(&get)).status, 200);
    // The blob is swept, and pushed again, by PATCH, through another isolate: its bytes are elsewhere.
    block_on(world.cold.memory.delete(&[key::blob(&digest(LAYER))])).unwrap();
    let other = world.isolate(&[]);
    let start = ask(&other, &Ask::new("POST /v2/a/blobs/uploads/"));
    let chunk = ask(
        &other,
        &Ask::new(&format!("PATCH {}", start.location())).stream(LAYER),
    );
    let put = format!("PUT {}&digest={}", chunk.location(), digest(LAYER));
    assert_eq!(ask(&other, &Ask::new(&put)).status, 201);
    world.host.pass(Duration::from_secs(1));
    let answer = ask(&isolate, &Ask::new(&get));
    assert_eq!((answer.status, &*answer.body), (200, LAYER));
}

#[test]
fn a_link_whose_blob_nobody_saw_goes_nowhere() {
    let world = World::with_image();
    block_on(world.cold.memory.delete(&[key::blob(&digest(LAYER))])).unwrap();
    let isolate = world.isolate(&[]);
    let etag = format!("\"{}\"", digest(LAYER));
    let unchanged = Ask::new(&format!("GET {}", blob(LAYER))).header("if-none-match", etag);
    for _ in 0..3 {
        assert_eq!(ask(&isolate, &unchanged).status, 304);
        assert_eq!(
            ask(&isolate, &Ask::new(&format!("GET {}", manifest()))).status,
            200
        );
    }
    assert_eq!(world.warm.memory.keys().len(), 1, "the manifest is warm");
    let other = world.isolate(&[]);
    assert_eq!(
        ask(&other, &Ask::new(&format!("GET {}", manifest()))).status,
        200
    );
    for isolate in [&isolate, &other] {
        let head = Ask::new(&format!("HEAD {}", blob(LAYER)));
        assert_eq!(ask(isolate, &head).status, 404);
    }
}

#[test]
fn every_request_is_told_of_in_one_line_without_a_secret() {
    let world = World::with_image();
    let isolate = world.isolate(&[]);
    world.host.told.borrow_mut().clear();
    let answer = ask(&isolate, &Ask::new(&format!("GET {}", manifest())));
    ask(&isolate, &Ask::new("BREW /v2/").header("cookie", "secret"));
    let told = world.host.told.borrow().clone();
    assert_eq!(told.len(), 2, "{told:?}");
    for field in [
        "(\"method\", \"GET\")",
        "(\"route\", \"manifest\")",
        "(\"repository\", \"a\")",
        "(\"status\", \"200\")",
        "(\"tier\", \"cold\")",
    ] {
        assert!(told[0].contains(field), "{field} is not in {}", told[0]);
    }
    assert!(told[0].contains(answer.header("x-request-id").unwrap()));
    assert!(told[1].contains("(\"method\", \"other\")"));
    let all = format!(
        "{told:?}{}",
        text(&ask(&isolate, &Ask::new("GET /metrics")))
    );
    assert!(
        !all.contains("secret") && !all.contains("ZGV2OnNlY3JldA"),
        "{all}"
    );
    let quiet = world.isolate(&[("STRATA_LOG", "errors")]);
    world.host.told.borrow_mut().clear();
    ask(&quiet, &Ask::new("GET /v2/"));
    assert!(world.host.told.borrow().is_empty());
}

#[test]
fn metrics_add_up_to_a_bill() {
    let world = World::new();
    let metrics = Rc::new(Metrics::new().unwrap());
    let isolate = Registry::<Composed<_, _, TestHost>>::new(
        Counted::new(world.cold.clone(), metrics.clone()),
        Counted::new(world.warm.clone(), metrics.clone()),
        world.host.clone(),
        settings_of(&[]),
        metrics,
    );
    push(&isolate);
    let again = format!("POST /v2/b/blobs/uploads/?digest={}", digest(LAYER));
    assert_eq!(ask(&isolate, &Ask::new(&again).body(LAYER)).status, 201);
    world.host.pass(Duration::from_secs(1));
    popularise(&isolate);
    let metrics = text(&ask(&isolate, &Ask::new("GET /metrics")));
    let value = |name: &str| -> u64 {
        let line = metrics.lines().find(|line| line.starts_with(name));
        let line = line.unwrap_or_else(|| unreachable!("{name} is not in\n{metrics}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    let counted = |tier: &str, operations: &[&str]| {
        let log = world.log.borrow();
        let is_one = |entry: &&String| {
            operations
                .iter()
                .any(|operation| entry.starts_with(&format!("{tier} {operation} ")))
        };
        log.iter().filter(is_one).count() as u64
    };
    assert_eq!(
        value("strata_operations_total{class=\"read\",tier=\"warm\"}"),
        counted("warm", &["get"])
    );
    assert_eq!(
        value("strata_operations_total{class=\"write\",tier=\"warm\"}"),
        3
    );
    assert_eq!(value("strata_blobs_stored_total"), 2);
    assert_eq!(
        value("strata_blob_stored_bytes_total"),
        (LAYER.len() + CONFIG.len()) as u64
    );
    assert_eq!(
        value("strata_blob_deduplicated_bytes_total"),
        LAYER.len() as u64
    );
    assert_eq!(
        value("strata_received_bytes_total"),
        (2 * LAYER.len() + CONFIG.len() + image().to_string().len()) as u64
    );
    assert_eq!(value("strata_tier_promotions_total{kind=\"blob\"}"), 2);
    assert_eq!(
        value("strata_tier_hits_total{kind=\"manifest\",tier=\"hot\"}"),
        2
    );
    assert_eq!(
        value("strata_tier_held_bytes{kind=\"blob\",tier=\"hot\"}"),
        (LAYER.len() + CONFIG.len()) as u64
    );
    assert_eq!(value("strata_requests_in_flight"), 1, "the one that asks");
    assert_eq!(
        value("strata_requests_total{method=\"GET\",route=\"blob\",status=\"200\"}"),
        6
    );
    let sent = 3 * (LAYER.len() + CONFIG.len() + image().to_string().len());
    assert_eq!(value("strata_sent_bytes_total"), sent as u64);
}

#[test]
fn metrics_are_for_users() {
    let world = World::new();
    let isolate = world.isolate(&[("STRATA_ANONYMOUS_PULL", "true")]);
    assert_eq!(
        ask(&isolate, &Ask::new("GET /metrics").anonymous()).status,
        401
    );
    let answer = ask(&isolate, &Ask::new("GET /metrics"));
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; version=0.0.4")
    );
}
