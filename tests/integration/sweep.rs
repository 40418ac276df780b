//! The sweep: which objects it removes and when, which stay, the cost of a step, and how the next
//! one resumes.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    pin::pin,
    rc::Rc,
    task::{Context, Waker},
    time::Duration,
};

use pollster::block_on;
use serde_json::{Value, json};
use strata::{
    digest::Digest,
    manifest::{OCI_INDEX, OCI_MANIFEST},
    memory::MemoryObjects,
    store::{Content, Objects as _, PutOptions, StoreError},
};
use strata_support::{
    Answer, Ask, CONFIG, LAYER, TestHost, TestRegistry, ask, ask_now, descriptor, digest, image,
    is_whole, key, push_manifest, registry_on, try_ask_now,
    watched::{Verdict, Watched},
};

mod grants;
mod indexes;
mod joining;
mod leftovers;
mod memory;
mod removal;
mod retention;
mod steps;

const GRACE: Duration = Duration::from_secs(24 * 3_600);

struct Fixture {
    host: TestHost,
    registry: TestRegistry<Watched>,
    /// The number of operations that were done.
    operations: Rc<Cell<u64>>,
    /// The last operation that was begun, and its key.
    begun: Rc<RefCell<String>>,
    /// The operation that fails, from then on.
    fails: Rc<Cell<Option<(u64, Fault)>>>,
    /// The next operation with this prefix fails, too.
    fails_next: Rc<RefCell<Option<String>>>,
    /// The duration of each operation, from then on.
    pace: Rc<Cell<Duration>>,
}

/// The result of an operation that fails.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Lost,
    Kept,
}

impl Fixture {
    fn new(settings: &[(&str, &str)]) -> Self {
        let host = TestHost::default();
        let operations = Rc::<Cell<u64>>::default();
        let fails = Rc::<Cell<Option<(u64, Fault)>>>::default();
        let (pace, begun) = (
            Rc::<Cell<Duration>>::default(),
            Rc::<RefCell<String>>::default(),
        );
        let (counter, failing, last) = (operations.clone(), fails.clone(), begun.clone());
        let fails_next = Rc::<RefCell<Option<String>>>::default();
        let (clock, takes, next) = (host.clone(), pace.clone(), fails_next.clone());
        let store = Watched::new(
            MemoryObjects::timed(host.now.clone()),
            move |operation, key| {
                counter.set(counter.get() + 1);
                clock.pass(takes.get());
                let what = format!("{operation} {key}");
                let is_next = |next: &String| what.starts_with(next.as_str());
                let fails = next.borrow_mut().take_if(|next| is_next(next)).is_some();
                *last.borrow_mut() = what;
                let error = StoreError::Failed("on purpose".to_owned());
                match failing.get() {
                    Some((at, Fault::Lost)) if at == counter.get() => Verdict::Lost(error),
                    Some((at, Fault::Kept)) if at == counter.get() => Verdict::Kept(error),
                    Some(_) | None if fails => Verdict::Lost(error),
                    Some(_) | None => Verdict::Done,
                }
            },
        );
        Self {
            registry: registry_on(store, host.clone(), settings),
            host,
            operations,
            begun,
            fails,
            fails_next,
            pace,
        }
    }

    /// Sends a request, and runs each function just before an operation of the store with its
    /// prefix.
    fn ask_with(&self, line: &str, meanwhile: &[(&str, &dyn Fn())]) -> Answer {
        let line = Ask::new(line);
        let mut answer = pin!(ask_now(&self.registry, &line));
        let mut context = Context::from_waker(Waker::noop());
        for (operation, action) in meanwhile {
            self.begun.borrow_mut().clear();
            while !self.begun.borrow().starts_with(operation) {
                let polled = answer.as_mut().poll(&mut context);
                assert!(polled.is_pending(), "there is no {operation}");
            }
            action();
        }
        block_on(answer)
    }

    fn sweep_with(&self, meanwhile: &[(&str, &dyn Fn())]) {
        let answer = self.ask_with("POST /v2/_strata/sweep", meanwhile);
        assert!(matches!(answer.status, 200 | 202), "{answer:?}");
    }

    fn ask(&self, line: &str) -> Answer {
        ask(&self.registry, &Ask::new(line))
    }

    fn push_whole(&self, name: &str, blob: &[u8]) {
        let line = format!("POST /v2/{name}/blobs/uploads/?digest={}", digest(blob));
        assert_eq!(ask(&self.registry, &Ask::new(&line).body(blob)).status, 201);
    }

    /// Starts an upload, and sends a chunk.
    fn push_chunk(&self, name: &str, blob: &[u8]) -> String {
        let start = self.ask(&format!("POST /v2/{name}/blobs/uploads/"));
        let line = format!("PATCH {}", start.location());
        let chunk = ask(&self.registry, &Ask::new(&line).stream(blob));
        assert_eq!(chunk.status, 202);
        chunk.location()
    }

    fn push_patched(&self, name: &str, blob: &[u8]) {
        let location = self.push_chunk(name, blob);
        let closed = self.ask(&format!("PUT {location}&digest={}", digest(blob)));
        assert_eq!(closed.status, 201);
    }

    fn push_manifest(&self, name: &str, reference: &str, media_type: &str, manifest: &Value) {
        push_manifest(&self.registry, name, reference, media_type, manifest);
    }

    fn push_image(&self, name: &str, tag: &str) {
        self.push_patched(name, LAYER);
        self.push_whole(name, CONFIG);
        self.push_manifest(name, tag, OCI_MANIFEST, &image());
    }

    fn delete_image(&self, name: &str) {
        let digest = digest(image().to_string().as_bytes());
        let deleted = self.ask(&format!("DELETE /v2/{name}/manifests/{digest}"));
        assert_eq!(deleted.status, 202);
    }

    fn is_whole(&self, name: &str, tag: &str) -> bool {
        is_whole(&self.registry, name, tag)
    }

    /// A step of the sweep.
    fn step(&self, query: &str) -> Value {
        let answer = self.ask(&format!("POST /v2/_strata/sweep{query}"));
        assert!(matches!(answer.status, 200 | 202), "{answer:?}");
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(body["finished"], answer.status == 200);
        body
    }

    /// A round of the sweep: the removals.
    fn round(&self) -> Vec<Value> {
        let mut removals = Vec::new();
        for _ in 0..10_000 {
            let body = self.step("");
            removals.extend(body["removals"].as_array().unwrap().clone());
            if body["finished"] == true {
                return removals;
            }
        }
        panic!("a round does not end");
    }

    /// Rounds until nothing is left to remove.
    fn sweep_clean(&self) {
        for _ in 0..6 {
            self.host.pass(GRACE);
            self.round();
        }
    }

    fn memory(&self) -> &MemoryObjects {
        &self.registry.store().memory
    }

    /// The keys below a prefix.
    fn keys(&self, prefix: &str) -> Vec<String> {
        self.registry.store().keys(prefix)
    }

    fn put(&self, key: &str, bytes: &[u8], metadata: &str) {
        self.registry.store().plant(key, bytes, metadata);
    }

    fn mark(&self, blob: &[u8]) -> Option<String> {
        let text = self.memory().bytes(&key::mark(&digest(blob)))?;
        let mark: Value = serde_json::from_slice(&text).unwrap();
        Some(mark["state"].as_str().unwrap().to_owned())
    }
}

/// The removals in short: the action and the kind of object.
fn short(removals: &[Value]) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut short: Vec<String> = removals
        .iter()
        .map(|removal| format!("{} {}", text(&removal["action"]), text(&removal["what"])))
        .collect();
    short.sort();
    short
}

fn versioned(version: u32) -> Value {
    let mut image = image();
    image["annotations"] = json!({ "version": version.to_string() });
    image
}
