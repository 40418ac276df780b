//! The promise under schedules: the real handlers and the sweep over one store, in which whoever comes next does one operation.
//!
//! A schedule says who goes on and for how many operations, when the clock goes on, who is killed in the middle, and which operation of
//! the store fails. One that breaks the promise is made as short as it can be. What each takes for granted is what the protocol does: no
//! operation takes half of the grace period.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "what is not as expected fails the test"
)]

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use pollster::block_on;
use proptest::{
    collection::vec,
    option,
    prelude::{Strategy as _, any},
    test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner},
};
use serde_json::{Value, json};
use strata::{
    digest::Digest,
    manifest::{OCI_INDEX, OCI_MANIFEST},
    store::{
        Content, ListOptions, Meta, Objects as _, PutOptions, StoreError, key, memory::Memory,
    },
};

use crate::support::{
    Answer, Ask, CONFIG, LAYER, TestHost, TestRegistry, ask, ask_now, descriptor, digest, image,
    registry_on,
    watched::{Verdict, Watched},
};

#[path = "support/support.rs"]
mod support;

/// The grace period: shorter than a step of the sweep may take, so that its owners can be late.
const GRACE: Duration = Duration::from_secs(16);

/// How far the clock goes on at once: less than half of the grace period, which is what an operation may take.
const TICK: Duration = Duration::from_secs(7);

type Registry = Rc<TestRegistry<Watched>>;

/// What somebody does, one operation of the store after the other.
type Actor = fn(&World, Registry) -> Pin<Box<dyn Future<Output = ()>>>;

/// Who does what at the same time, from which state on.
struct Scenario {
    /// What is done before.
    begins: fn(&World),
    /// What goes by itself.
    policy: &'static str,
    actors: &'static [Actor],
}

/// A store, those who use it, and what they were promised.
struct World {
    host: TestHost,
    store: Watched,
    registries: Vec<Registry>,
    /// Manifests that were accepted and that nobody has begun to delete since, by repository.
    accepted: Rc<RefCell<BTreeSet<String>>>,
    /// How often somebody has begun or ended to delete one.
    deletions: Rc<Cell<u64>>,
    operations: Rc<Cell<u64>>,
    /// The operation that fails, and whether it is done all the same.
    fault: Rc<Cell<Option<(u64, bool)>>>,
}

/// The repositories.
const NAMES: [&str; 3] = ["a", "b", "c"];

/// An object as it was.
type Saved = Vec<(String, Meta, Vec<u8>)>;

impl World {
    fn new(policy: &str) -> Self {
        let host = TestHost::default();
        let operations = Rc::<Cell<u64>>::default();
        let fault = Rc::<Cell<Option<(u64, bool)>>>::default();
        let (counter, fails) = (operations.clone(), fault.clone());
        let store = Watched::new(Memory::timed(host.now.clone()), move |_, _| {
            counter.set(counter.get() + 1);
            let error = StoreError::Failed("on purpose".to_owned());
            match fails.get() {
                Some((at, true)) if at == counter.get() => Verdict::Kept(error),
                Some((at, false)) if at == counter.get() => Verdict::Lost(error),
                Some(_) | None => Verdict::Done,
            }
        });
        let seconds = GRACE.as_secs().to_string();
        // Nothing is remembered: a registry is used for many schedules.
        let settings = [
            ("STRATA_GRACE_SECONDS", &*seconds),
            ("STRATA_HOT_BYTES", "0"),
            ("STRATA_WARM_SECONDS", "0"),
            ("STRATA_ABSENT_SECONDS", "0"),
            ("STRATA_LOG", "errors"),
            ("STRATA_RETENTION", policy),
        ];
        let registry = || Rc::new(registry_on(store.clone(), host.clone(), &settings));
        Self {
            registries: (0..6).map(|_| registry()).collect(),
            host,
            store,
            accepted: Rc::default(),
            deletions: Rc::default(),
            operations,
            fault,
        }
    }

    /// All there is.
    fn save(&self) -> Saved {
        let memory = &self.store.memory;
        let saved = memory.keys().into_iter().map(|key| {
            let meta = block_on(memory.head(&key)).unwrap().unwrap();
            let bytes = memory.bytes(&key).unwrap();
            (key, meta, bytes)
        });
        saved.collect()
    }

    /// Makes all as it was.
    fn restore(&self, saved: &Saved) {
        let memory = &self.store.memory;
        block_on(memory.delete(&memory.keys())).unwrap();
        let now = self.host.now.get();
        for (key, meta, bytes) in saved {
            self.host.now.set(meta.uploaded);
            let options = PutOptions {
                metadata: &meta.metadata,
                ..PutOptions::default()
            };
            block_on(memory.put(key, Content::Bytes(bytes.clone()), options)).unwrap();
        }
        self.host.now.set(now);
    }

    /// What breaks the promise, by what is stored.
    fn broken(&self) -> Option<String> {
        let memory = &self.store.memory;
        for name in NAMES {
            let key = key::manifest(&name.parse().unwrap(), &manifest());
            if memory.bytes(&key).is_none() {
                if self.accepted.borrow().contains(name) {
                    return Some(format!("the manifest in {name} is lost"));
                }
                continue;
            }
            for blob in [LAYER, CONFIG] {
                if let Some(lost) = self.lost_bytes(blob) {
                    return Some(format!("{lost}, which the manifest in {name} needs"));
                }
            }
        }
        None
    }

    /// What of it can't be pulled.
    fn unpulled(&self) -> Option<String> {
        let registry = &self.registries[0];
        for name in NAMES {
            let line = format!("HEAD /v2/{name}/manifests/{}", manifest());
            if ask(registry, &Ask::new(&line)).status != 200 {
                continue;
            }
            for blob in [LAYER, CONFIG] {
                let line = format!("GET /v2/{name}/blobs/{}", digest(blob));
                let answer = ask(registry, &Ask::new(&line));
                if (answer.status, &*answer.body) != (200, blob) {
                    return Some(format!("{line}: {}", answer.status));
                }
            }
        }
        None
    }

    /// What is not there of the bytes of a blob.
    fn lost_bytes(&self, blob: &[u8]) -> Option<String> {
        let memory = &self.store.memory;
        let key = key::blob(&digest(blob));
        let (Some(meta), Some(bytes)) = (block_on(memory.head(&key)).unwrap(), memory.bytes(&key))
        else {
            return Some(format!("{key} is gone"));
        };
        if meta.metadata.contains("bytes") {
            return (bytes != blob).then_some("other bytes".to_owned());
        }
        let record: Value = serde_json::from_slice(&bytes).unwrap();
        let mut found = Vec::new();
        for extent in record["extents"].as_array().unwrap() {
            let key = format!("extents/{}", extent["key"].as_str().unwrap());
            match memory.bytes(&key) {
                Some(bytes) => found.extend(bytes),
                None => return Some(format!("{key} is gone")),
            }
        }
        (found != blob).then_some("other bytes".to_owned())
    }
}

fn manifest() -> Digest {
    digest(image().to_string().as_bytes())
}

/// A step of a schedule: who, and for how long.
type Step = (u8, u8);

/// Plays a schedule to its end; answers what has broken the promise.
fn play(
    world: &World,
    scenario: &Scenario,
    saved: &Saved,
    accepted: &BTreeSet<String>,
    schedule: &[Step],
    fault: Option<(u8, bool)>,
) -> Option<String> {
    world.restore(saved);
    world.accepted.borrow_mut().clone_from(accepted);
    world.deletions.set(0);
    let at = |(number, kept)| (world.operations.get() + u64::from(number) + 1, kept);
    world.fault.set(fault.map(at));
    let start = world.host.now.get();
    let mut actors: Vec<_> = scenario
        .actors
        .iter()
        .enumerate()
        .map(|(number, actor)| {
            let registry = world.registries[number % world.registries.len()].clone();
            // Whether the clock has gone on since it last did something.
            (Some(actor(world, registry)), false)
        })
        .collect();
    let mut context = Context::from_waker(Waker::noop());
    let number = actors.len();
    for (who, times) in schedule {
        let who = usize::from(*who) % (number + 2);
        if who == number {
            for _ in 0..=*times % 4 {
                // What each is at the moment doing began before the clock went on, and is done before it goes on again.
                for (actor, waited) in &mut actors {
                    if let Some(running) = actor.as_mut().filter(|_| *waited)
                        && running.as_mut().poll(&mut context).is_ready()
                    {
                        *actor = None;
                    }
                    *waited = true;
                }
                world.host.pass(TICK);
            }
        } else if who > number {
            // Seldom.
            if *times >= 208 {
                actors[usize::from(*times) % number].0 = None;
            }
        } else {
            let (actor, waited) = &mut actors[who];
            for _ in 0..1 << (*times % 6) {
                let Some(running) = actor else { break };
                *waited = false;
                if running.as_mut().poll(&mut context).is_ready() {
                    *actor = None;
                }
            }
        }
    }
    while actors.iter().any(|(actor, _)| actor.is_some()) {
        for (actor, _) in &mut actors {
            if let Some(running) = actor
                && let Poll::Ready(()) = running.as_mut().poll(&mut context)
            {
                *actor = None;
            }
        }
    }
    world.fault.set(None);
    let mut broken = world.broken();
    // What was wrongly left to be removed is.
    for _ in 0..2 {
        world.host.pass(GRACE);
        sweep_round(&world.registries[0]);
        broken = broken.or_else(|| world.broken());
    }
    let broken = broken.or_else(|| world.unpulled());
    world.host.now.set(start);
    broken
}

fn sweep_round(registry: &Registry) {
    for _ in 0..50 {
        if ask(registry, &Ask::new("POST /v2/_strata/sweep")).status == 200 {
            return;
        }
    }
}

/// Plays many schedules; fails with the shortest that breaks the promise.
fn explore(scenario: &Scenario, cases: u32) {
    let world = World::new(scenario.policy);
    (scenario.begins)(&world);
    let saved = world.save();
    let accepted = world.accepted.borrow().clone();
    let config = Config {
        cases: cases * times(),
        failure_persistence: None,
        max_shrink_iters: 4_000,
        ..Config::default()
    };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let schedules = vec((any::<u8>(), any::<u8>()), 0..80);
    let faults = option::weighted(0.3, (any::<u8>(), any::<bool>()));
    let strategy = (schedules, faults).prop_map(|all| all);
    let outcome = runner.run(&strategy, |(schedule, fault)| {
        match play(&world, scenario, &saved, &accepted, &schedule, fault) {
            None => Ok(()),
            Some(broken) => Err(TestCaseError::fail(broken)),
        }
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

/// How many times as many schedules are wanted.
fn times() -> u32 {
    let times = std::env::var("SCHEDULES").ok();
    times.and_then(|times| times.parse().ok()).unwrap_or(1)
}

async fn done(registry: &Registry, request: &Ask) -> Answer {
    ask_now(registry, request).await
}

async fn push_blob(registry: &Registry, name: &str, blob: &[u8]) {
    let line = format!("POST /v2/{name}/blobs/uploads/?digest={}", digest(blob));
    // Once more, where the store or a mark was against it.
    for _ in 0..2 {
        if done(registry, &Ask::new(&line).body(blob)).await.status == 201 {
            return;
        }
    }
}

async fn push_by_patch(registry: &Registry, name: &str, blob: &[u8], chunk: usize) {
    let start = done(
        registry,
        &Ask::new(&format!("POST /v2/{name}/blobs/uploads/")),
    )
    .await;
    let mut last = start;
    for chunk in blob.chunks(chunk) {
        let Some(location) = last.header("location").map(str::to_owned) else {
            return;
        };
        last = done(
            registry,
            &Ask::new(&format!("PATCH {location}")).stream(chunk),
        )
        .await;
    }
    let Some(location) = last.header("location").map(str::to_owned) else {
        return;
    };
    let close = format!("PUT {location}&digest={}", digest(blob));
    if done(registry, &Ask::new(&close)).await.status != 201 {
        done(registry, &Ask::new(&close)).await;
    }
}

/// Pushes the manifest, and has it promised where that was accepted and nobody deletes it meanwhile.
async fn push_manifest(world: Promises, registry: &Registry, name: &str) {
    let line = format!("PUT /v2/{name}/manifests/v1");
    for _ in 0..2 {
        let deletions = world.deletions.get();
        let request = Ask::new(&line).manifest(OCI_MANIFEST, &image());
        if done(registry, &request).await.status == 201 {
            if deletions == world.deletions.get() && deletions.is_multiple_of(2) {
                world.accepted.borrow_mut().insert(name.to_owned());
            }
            return;
        }
    }
}

/// What was promised.
#[derive(Clone)]
struct Promises {
    accepted: Rc<RefCell<BTreeSet<String>>>,
    deletions: Rc<Cell<u64>>,
}

impl Promises {
    fn of(world: &World) -> Self {
        Self {
            accepted: world.accepted.clone(),
            deletions: world.deletions.clone(),
        }
    }
}

fn whole_to_a(world: &World, registry: Registry) -> Pin<Box<dyn Future<Output = ()>>> {
    let promises = Promises::of(world);
    Box::pin(async move {
        push_blob(&registry, "a", LAYER).await;
        push_blob(&registry, "a", CONFIG).await;
        push_manifest(promises, &registry, "a").await;
    })
}

fn whole_to_b(world: &World, registry: Registry) -> Pin<Box<dyn Future<Output = ()>>> {
    let promises = Promises::of(world);
    Box::pin(async move {
        push_blob(&registry, "b", LAYER).await;
        push_blob(&registry, "b", CONFIG).await;
        push_manifest(promises, &registry, "b").await;
    })
}

fn patch_to_b(world: &World, registry: Registry) -> Pin<Box<dyn Future<Output = ()>>> {
    let promises = Promises::of(world);
    Box::pin(async move {
        push_by_patch(&registry, "b", LAYER, 4).await;
        push_blob(&registry, "b", CONFIG).await;
        push_manifest(promises, &registry, "b").await;
    })
}

fn patch_to_a(world: &World, registry: Registry) -> Pin<Box<dyn Future<Output = ()>>> {
    let promises = Promises::of(world);
    Box::pin(async move {
        push_by_patch(&registry, "a", LAYER, LAYER.len()).await;
        push_blob(&registry, "a", CONFIG).await;
        push_manifest(promises, &registry, "a").await;
    })
}

fn mount_to_c(world: &World, registry: Registry) -> Pin<Box<dyn Future<Output = ()>>> {
    let promises = Promises::of(world);
    Box::pin(async move {
        for blob in [LAYER, CONFIG] {
            let mount = format!("POST /v2/c/blobs/uploads/?mount={}&from=a", digest(blob));
            done(&registry, &Ask::new(&mount)).await;
        }
        push_manifest(promises, &registry, "c").await;
    })
}

fn manifest_to_a(world: &World, registry: Registry) -> Pin<Box<dyn Future<Output = ()>>> {
    let promises = Promises::of(world);
    Box::pin(async move { push_manifest(promises, &registry, "a").await })
}

fn delete_manifest(world: &World, registry: Registry) -> Pin<Box<dyn Future<Output = ()>>> {
    let promises = Promises::of(world);
    Box::pin(async move {
        promises.deletions.set(promises.deletions.get() + 1);
        promises.accepted.borrow_mut().remove("a");
        let line = format!("DELETE /v2/a/manifests/{}", manifest());
        done(&registry, &Ask::new(&line)).await;
        // What was pushed meanwhile may have been deleted by this.
        promises.deletions.set(promises.deletions.get() + 1);
    })
}

fn delete_blob(_: &World, registry: Registry) -> Pin<Box<dyn Future<Output = ()>>> {
    Box::pin(async move {
        let line = format!("DELETE /v2/a/blobs/{}", digest(LAYER));
        done(&registry, &Ask::new(&line)).await;
    })
}

fn sweep(_: &World, registry: Registry) -> Pin<Box<dyn Future<Output = ()>>> {
    Box::pin(async move {
        for _ in 0..2 {
            done(&registry, &Ask::new("POST /v2/_strata/sweep")).await;
        }
    })
}

fn nothing(_: &World) {}

/// An image that was accepted in `a` long ago.
fn image_in_a(world: &World) {
    let registry = world.registries[0].clone();
    block_on(patch_to_a(world, registry.clone()));
    world.host.pass(GRACE);
    sweep_round(&registry);
    assert_eq!(world.broken(), None);
    assert!(world.accepted.borrow().contains("a"));
}

/// One that was deleted there: nobody has a grant on its blobs, and they are condemned.
fn condemned(world: &World) {
    image_in_a(world);
    let registry = world.registries[0].clone();
    block_on(delete_manifest(world, registry.clone()));
    sweep_round(&registry);
    world.host.pass(GRACE - TICK);
    let marks = block_on(world.store.memory.list(
        "sweep/marks/",
        ListOptions {
            limit: 10,
            ..ListOptions::default()
        },
    ));
    assert_eq!(marks.unwrap().objects.len(), 2);
}

/// One whose blobs' removal was begun by somebody who is gone.
fn deleting(world: &World) {
    condemned(world);
    world.host.pass(TICK);
    let registry = world.registries[0].clone();
    let mut owner = sweep(world, registry);
    let mut context = Context::from_waker(Waker::noop());
    let is_claimed = || {
        let bytes = key::mark(&digest(LAYER));
        let mark = world.store.memory.bytes(&bytes).unwrap_or_default();
        String::from_utf8_lossy(&mark).contains("deleting")
    };
    while !is_claimed() {
        assert!(owner.as_mut().poll(&mut context).is_pending());
    }
    drop(owner);
    world.host.pass(GRACE - TICK);
}

/// An upload that was closed and whose closer is gone before it could say so, by an isolate that died.
fn closed(world: &World) {
    let registry = world.registries[0].clone();
    let mut closer = patch_to_a(world, registry);
    let mut context = Context::from_waker(Waker::noop());
    while block_on(world.store.memory.head(&key::blob(&digest(LAYER))))
        .unwrap()
        .is_none()
    {
        assert!(closer.as_mut().poll(&mut context).is_pending());
    }
    drop(closer);
}

#[test]
fn first_pushes_and_sweeps() {
    let scenario = Scenario {
        begins: nothing,
        policy: "",
        actors: &[whole_to_a, patch_to_b, sweep, sweep],
    };
    explore(&scenario, CASES);
}

#[test]
fn pushes_of_what_is_condemned() {
    let scenario = Scenario {
        begins: condemned,
        policy: "",
        actors: &[whole_to_b, patch_to_a, sweep, sweep],
    };
    explore(&scenario, CASES);
}

#[test]
fn pushes_of_what_is_being_removed() {
    let scenario = Scenario {
        begins: deleting,
        policy: "",
        actors: &[whole_to_b, sweep, sweep],
    };
    explore(&scenario, CASES);
}

#[test]
fn deletions_mounts_and_manifests_pushed_again() {
    let scenario = Scenario {
        begins: image_in_a,
        policy: "",
        actors: &[
            delete_manifest,
            delete_blob,
            mount_to_c,
            manifest_to_a,
            sweep,
            sweep,
        ],
    };
    explore(&scenario, CASES);
}

/// An image in `a` that no tag names, and that is as old as those that go.
fn untagged(world: &World) {
    image_in_a(world);
    let registry = &world.registries[0];
    assert_eq!(
        ask(registry, &Ask::new("DELETE /v2/a/manifests/v1")).status,
        202
    );
    world.accepted.borrow_mut().clear();
    world.host.pass(Duration::from_secs(24 * 3_600));
}

/// Pushes the image again by a tag: from then on it stays.
fn tag_in_a(world: &World, registry: Registry) -> Pin<Box<dyn Future<Output = ()>>> {
    let promises = Promises::of(world);
    Box::pin(async move {
        if push(&registry, "v2", OCI_MANIFEST, &image()).await {
            promises.accepted.borrow_mut().insert("a".to_owned());
        }
    })
}

/// Pushes an index that lists the image: from then on it stays.
fn list_in_a(world: &World, registry: Registry) -> Pin<Box<dyn Future<Output = ()>>> {
    let promises = Promises::of(world);
    Box::pin(async move {
        let listed = descriptor(OCI_MANIFEST, image().to_string().as_bytes());
        let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [listed] });
        if push(&registry, "all", OCI_INDEX, &index).await {
            promises.accepted.borrow_mut().insert("a".to_owned());
        }
    })
}

async fn push(registry: &Registry, tag: &str, media_type: &str, document: &Value) -> bool {
    let line = format!("PUT /v2/a/manifests/{tag}");
    let request = Ask::new(&line).manifest(media_type, document);
    for _ in 0..2 {
        if done(registry, &request).await.status == 201 {
            return true;
        }
    }
    false
}

#[test]
fn manifests_that_go_by_themselves_and_are_wanted_again() {
    let scenario = Scenario {
        begins: untagged,
        policy: r#"[{"repositories": ["**"], "untagged_days": 1}]"#,
        actors: &[tag_in_a, list_in_a, sweep, sweep],
    };
    explore(&scenario, CASES);
}

#[test]
fn uploads_of_one_blob_by_several() {
    let scenario = Scenario {
        begins: closed,
        policy: "",
        actors: &[patch_to_a, patch_to_b, sweep, sweep],
    };
    explore(&scenario, CASES);
}

/// Of each scenario.
const CASES: u32 = 3_500;
