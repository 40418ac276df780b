//! The tiers: the cost of each read, the tier that answers if another one fails, and the time at
//! which stale values expire.

use std::{cell::RefCell, future::Future as _, pin::pin, rc::Rc, task::Context, time::Duration};

use futures_util::{
    future::{join, join_all},
    task::noop_waker_ref,
};
use pollster::block_on;
use serde_json::json;
use strata::{
    ledger::{Ledger, MemoryKind},
    manifest::{OCI_INDEX, OCI_MANIFEST},
    memory::{MemoryBody, MemoryBytes, MemoryObjects},
    metrics::Metrics,
    platform::Composed,
    registry::Registry,
    store::{Bytes as _, Objects, StoreError, Values, counted::Counted},
};
use strata_support::{
    Answer, Ask, CONFIG, LAYER, TestHost, TestRegistry, ask, ask_now, descriptor, digest, image,
    key, registry_with, settings_of,
    watched::{Verdict, Watched, WatchedValues},
};

mod concurrent;
mod faults;
mod hedge;
mod metrics;
mod near;
mod reads;
mod renewal;
mod stale;
mod tags;

/// Decides the result of an operation, by its tier, name and key.
type Fault = Rc<RefCell<Box<dyn FnMut(&str) -> Verdict>>>;

/// Stores that several isolates share, which log each operation with the tier and kind of its key.
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
            cold: Watched::new(MemoryObjects::default(), watcher("cold")),
            warm: WatchedValues::new(watcher("warm")),
            host: TestHost::default(),
            log,
            fault,
        }
    }

    /// A world in which an image was pushed a while ago as `v1` of repository a.
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

    /// The answer to a request, and the operations that it and its background work took.
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

    /// Gives a result to one operation: the one of this number whose entry has the prefix.
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
    S: Objects<Body = MemoryBody, Bytes = MemoryBytes>,
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

/// Pulls the image until all of it is warm.
fn popularise<S, W>(isolate: &TestRegistry<S, W>)
where
    S: Objects<Body = MemoryBody, Bytes = MemoryBytes>,
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

/// Sends many concurrent requests for the same object; returns the statuses and the operations.
fn crowd(world: &World, isolate: &Isolate, request: &str) -> (Vec<u16>, Vec<String>) {
    world.log.borrow_mut().clear();
    let request = Ask::new(request);
    let answers = block_on(join_all((0..64).map(|_| ask_now(isolate, &request))));
    let statuses = answers.iter().map(|answer| answer.status).collect();
    (statuses, world.log.borrow().clone())
}
