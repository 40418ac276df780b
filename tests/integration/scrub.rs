//! The scrub: each kind of damage is found, reported, and repaired or quarantined. A push heals
//! quarantined objects, and nothing else is touched.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    pin::pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::task::noop_waker;
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
    is_whole, key,
    layers::{Tar, gzip},
    mirrors::{Mirrors, answer, get, json_of},
    push_manifest, registry_of, registry_on,
    watched::{Verdict, Watched},
};

mod blobs;
mod indexes;
mod passes;
mod records;

const GRACE: Duration = Duration::from_secs(24 * 3_600);

/// A day.
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// All objects: their bytes and metadata.
type Objects = BTreeMap<String, (Vec<u8>, String)>;

/// A plan that decides the result of each operation.
type Plan = Box<dyn FnMut(u64, &'static str, &str) -> Verdict>;

struct Fixture {
    host: TestHost,
    registry: TestRegistry<Watched>,
    settings: Vec<(&'static str, &'static str)>,
    operations: Rc<Cell<u64>>,
    plan: Rc<RefCell<Plan>>,
}

impl Fixture {
    fn new(settings: &[(&'static str, &'static str)]) -> Self {
        let host = TestHost::default();
        let operations = Rc::<Cell<u64>>::default();
        let plan: Rc<RefCell<Plan>> = Rc::new(RefCell::new(Box::new(|_, _, _| Verdict::Done)));
        let (counter, planned) = (operations.clone(), plan.clone());
        let store = Watched::new(
            MemoryObjects::timed(host.now.clone()),
            move |operation, key: &str| {
                counter.set(counter.get() + 1);
                (planned.borrow_mut())(counter.get(), operation, key)
            },
        );
        Self {
            registry: registry_on(store, host.clone(), settings),
            settings: settings.to_vec(),
            host,
            operations,
            plan,
        }
    }

    /// Lets a plan decide the results of operations, from now on.
    fn plan(&self, plan: impl FnMut(u64, &'static str, &str) -> Verdict + 'static) {
        self.operations.set(0);
        *self.plan.borrow_mut() = Box::new(plan);
    }

    fn obey(&self) {
        self.plan(|_, _, _| Verdict::Done);
    }

    /// Another isolate over the same store, with empty caches.
    fn restart(&mut self) {
        let store = self.registry.store().clone();
        self.registry = registry_on(store, self.host.clone(), &self.settings);
    }

    fn ask(&self, line: &str) -> Answer {
        ask(&self.registry, &Ask::new(line))
    }

    fn push_whole(&self, name: &str, blob: &[u8]) -> u16 {
        let line = format!("POST /v2/{name}/blobs/uploads/?digest={}", digest(blob));
        ask(&self.registry, &Ask::new(&line).body(blob)).status
    }

    /// Pushes a blob in chunks of so many bytes.
    fn push_patched(&self, name: &str, blob: &[u8], chunk: usize) -> u16 {
        let mut location = self
            .ask(&format!("POST /v2/{name}/blobs/uploads/"))
            .location();
        for chunk in blob.chunks(chunk) {
            let sent = ask(
                &self.registry,
                &Ask::new(&format!("PATCH {location}")).stream(chunk),
            );
            assert_eq!(sent.status, 202);
            location = sent.location();
        }
        self.ask(&format!("PUT {location}&digest={}", digest(blob)))
            .status
    }

    fn push_manifest(&self, name: &str, reference: &str, media_type: &str, manifest: &Value) {
        push_manifest(&self.registry, name, reference, media_type, manifest);
    }

    fn push_image(&self, name: &str) {
        assert_eq!(self.push_patched(name, LAYER, 4), 201);
        assert_eq!(self.push_whole(name, CONFIG), 201);
        self.push_manifest(name, "v1", OCI_MANIFEST, &image());
    }

    fn is_whole(&self, name: &str) -> bool {
        is_whole(&self.registry, name, "v1")
    }

    /// A step of the scrub.
    fn step(&self, query: &str) -> Value {
        let answer = self.ask(&format!("POST /v2/_strata/scrub{query}"));
        assert!(matches!(answer.status, 200 | 202), "{answer:?}");
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(body["finished"], answer.status == 200);
        body
    }

    /// Sends a request and drops it after so many turns. Returns whether it was dropped.
    fn cut_short(&self, line: &str, turns: usize) -> bool {
        let question = Ask::new(line);
        let mut asked = pin!(ask_now(&self.registry, &question));
        let waker = noop_waker();
        let mut context = Context::from_waker(&waker);
        !(0..turns).any(|_| asked.as_mut().poll(&mut context) != Poll::Pending)
    }

    /// A pass of the scrub; returns its findings.
    fn pass(&self) -> Vec<String> {
        let mut findings = Vec::new();
        for _ in 0..10_000 {
            let body = self.step("");
            findings.extend(short(&body));
            if body["finished"] == true {
                return findings;
            }
        }
        panic!("a pass does not end");
    }

    fn memory(&self) -> &MemoryObjects {
        &self.registry.store().memory
    }

    fn keys(&self, prefix: &str) -> Vec<String> {
        self.registry.store().keys(prefix)
    }

    /// All stored objects, except the one in which the scrub keeps its progress.
    fn objects(&self) -> Objects {
        let keys = self.memory().keys().into_iter();
        keys.filter(|key| key != key::SCRUB_CURSOR)
            .map(|key| {
                let meta = block_on(self.memory().head(&key)).unwrap().unwrap();
                let bytes = self.memory().bytes(&key).unwrap();
                (key, (bytes, meta.metadata))
            })
            .collect()
    }

    fn metadata(&self, key: &str) -> String {
        block_on(self.memory().head(key)).unwrap().unwrap().metadata
    }

    fn put(&self, key: &str, bytes: &[u8], metadata: &str) {
        self.registry.store().plant(key, bytes, metadata);
    }

    /// Changes the bytes of an object, and not its metadata.
    fn damage(&self, key: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.memory().bytes(key).unwrap();
        change(&mut bytes);
        self.put(key, &bytes, &self.metadata(key));
    }

    fn delete(&self, keys: &[String]) {
        block_on(self.memory().delete(keys)).unwrap();
    }
}

fn short(body: &Value) -> Vec<String> {
    let findings = body["findings"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap_or("nothing").to_owned();
    findings
        .iter()
        .map(|finding| {
            let [found, what, repair] =
                ["found", "what", "repair"].map(|field| text(&finding[field]));
            format!("{found} {what}: {repair}")
        })
        .collect()
}

fn flip(bytes: &mut [u8]) {
    bytes[1] ^= 1;
}

fn name(name: &str) -> strata::name::Name {
    name.parse().unwrap()
}

fn manifest_digest() -> Digest {
    digest(image().to_string().as_bytes())
}

/// An image with every kind of damage in different blobs, and a sound image beside it.
fn damaged(settings: &[(&'static str, &'static str)]) -> Fixture {
    let fixture = Fixture::new(settings);
    fixture.push_image("a");
    for blob in [b"flipped", b"rewrite", b"missing", b"grantss"] {
        fixture.push_patched("b", blob, 4);
    }
    fixture.push_whole("b", b"whole");
    let config = descriptor("application/vnd.oci.image.config.v1+json", CONFIG);
    fixture.push_whole("b", CONFIG);
    let layers: Vec<Value> = [
        &b"flipped"[..],
        b"rewrite",
        b"missing",
        b"grantss",
        b"whole",
    ]
    .iter()
    .map(|blob| descriptor("application/vnd.oci.image.layer.v1.tar", blob))
    .collect();
    let broken = json!({ "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers });
    fixture.push_manifest("b", "v1", OCI_MANIFEST, &broken);
    let extents = |blob: &[u8]| {
        let record = fixture.memory().bytes(&key::blob(&digest(blob))).unwrap();
        let record: Value = serde_json::from_slice(&record).unwrap();
        let extents = record["extents"].as_array().unwrap();
        let key = |extent: &Value| key::extent(extent["key"].as_str().unwrap());
        extents.iter().map(key).collect::<Vec<String>>()
    };
    fixture.damage(&extents(b"flipped")[1], |bytes| flip(bytes));
    fixture.delete(&extents(b"missing")[..1]);
    fixture.damage(&key::blob(&digest(b"rewrite")), Vec::clear);
    fixture.damage(&key::blob(&digest(b"whole")), |bytes| flip(bytes));
    fixture.put(&key::link(&digest(b"grantss"), &name("b")), b"?", "");
    fixture.delete(&fixture.keys(&key::grants(&digest(b"grantss"), &name("b"))));
    fixture
}
