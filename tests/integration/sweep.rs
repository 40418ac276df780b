//! The sweep: what goes, when, and what stays; what a step costs, and that it goes on from where one ended.

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
    store::{Content, Objects as _, PutOptions, StoreError, memory::Memory},
};
use strata_support::{
    Answer, Ask, CONFIG, LAYER, TestHost, TestRegistry, ask, ask_now, descriptor, digest, image,
    is_whole, key, push_manifest, registry_on,
    watched::{Verdict, Watched},
};

mod memory;

const GRACE: Duration = Duration::from_secs(24 * 3_600);

struct Fixture {
    host: TestHost,
    registry: TestRegistry<Watched>,
    /// The operations that were done.
    operations: Rc<Cell<u64>>,
    /// The one that was begun last, and its key.
    begun: Rc<RefCell<String>>,
    /// The operation that fails, from now on.
    fails: Rc<Cell<Option<(u64, Fault)>>>,
    /// The next operation that begins so fails, too.
    fails_next: Rc<RefCell<Option<String>>>,
    /// How long each operation takes, from now on.
    pace: Rc<Cell<Duration>>,
}

/// What comes of an operation that fails.
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
        let store = Watched::new(Memory::timed(host.now.clone()), move |operation, key| {
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
        });
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

    /// Asks, and does each of these just before an operation of the store that begins so.
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

    /// A round of the sweep: what was removed.
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

    /// Rounds until nothing is left to be removed.
    fn sweep_clean(&self) {
        for _ in 0..6 {
            self.host.pass(GRACE);
            self.round();
        }
    }

    fn memory(&self) -> &Memory {
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

/// What was done to what, in short.
fn short(removals: &[Value]) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut short: Vec<String> = removals
        .iter()
        .map(|removal| format!("{} {}", text(&removal["action"]), text(&removal["what"])))
        .collect();
    short.sort();
    short
}

#[test]
fn what_is_in_use_stays() {
    let fixture = Fixture::new(&[]);
    fixture.push_image("a", "v1");
    fixture.push_whole("b", LAYER);
    let before = fixture.keys("");
    for _ in 0..6 {
        fixture.host.pass(GRACE / 2);
        fixture.round();
        assert!(fixture.is_whole("a", "v1"));
    }
    // Uploads' grants have done their duty, and what another repository pushed for nothing is gone.
    let is_left = |key: &&String| !fixture.memory().keys().contains(key);
    let gone: BTreeSet<&String> = before.iter().filter(is_left).collect();
    assert!(gone.iter().all(|key| key.starts_with("refs/")), "{gone:?}");
    assert_eq!(gone.len(), 4, "{gone:?}");
    assert!(fixture.keys("sweep/marks/").is_empty());
}

#[test]
fn a_deleted_image_goes_after_two_grace_periods_and_nothing_is_left_of_it() {
    let fixture = Fixture::new(&[]);
    fixture.push_image("a", "v1");
    fixture.host.pass(GRACE);
    fixture.round();
    fixture.delete_image("a");
    let expected = [
        "condemn blob",
        "condemn blob",
        "delete grant",
        "delete grant",
        "delete link",
        "delete link",
    ];
    assert_eq!(short(&fixture.round()), expected);
    assert_eq!(fixture.mark(LAYER).as_deref(), Some("condemned"));
    // Not before the grace period is over.
    fixture.host.pass(GRACE - Duration::from_millis(1));
    assert!(fixture.round().is_empty());
    fixture.host.pass(Duration::from_millis(1));
    assert_eq!(short(&fixture.round()), ["delete blob", "delete blob"]);
    assert!(fixture.keys("extents/").is_empty() && fixture.keys("blobs/").is_empty());
    // The upload that the extents came by is found without them.
    assert_eq!(short(&fixture.round()), ["delete upload"]);
    assert_eq!(
        fixture.keys(""),
        [
            "catalog/a",
            "repositories/a/_tags/v1",
            "sweep/cursor",
            "sweep/inventory"
        ]
    );
}

/// Who pushes a blob that is being removed is told to wait: so a step that has no time left removes what it has begun to.
#[test]
fn what_is_being_removed_is_gone_when_a_step_ends_for_want_of_time() {
    let fixture = Fixture::new(&[]);
    for number in 0..30_u8 {
        fixture.push_patched("a", &[number; 9]);
    }
    fixture.host.pass(GRACE);
    fixture.round();
    fixture.host.pass(GRACE);
    fixture.pace.set(Duration::from_millis(300));
    let (mut steps, mut left) = (0, 30);
    while left > 0 {
        fixture.step("");
        steps += 1;
        let marks = fixture.keys("sweep/marks/");
        assert!(!marks.iter().any(|mark| {
            let text = String::from_utf8(fixture.memory().bytes(mark).unwrap()).unwrap();
            text.contains("deleting")
        }));
        let blobs = fixture.keys("blobs/").len();
        assert!(blobs < left || steps < 3, "{blobs} after {steps}");
        left = blobs;
    }
    assert!(steps > 3, "{steps}");
    assert!(fixture.keys("extents/").is_empty());
}

#[test]
fn who_pushes_again_in_time_keeps_the_blob() {
    let fixture = Fixture::new(&[]);
    fixture.push_image("a", "v1");
    fixture.host.pass(GRACE);
    fixture.round();
    fixture.delete_image("a");
    fixture.round();
    fixture.host.pass(GRACE);
    fixture.push_image("b", "v1");
    assert_eq!(fixture.mark(LAYER).as_deref(), Some("lifted"));
    for _ in 0..4 {
        fixture.round();
        fixture.host.pass(GRACE);
        assert!(fixture.is_whole("b", "v1"));
    }
    // A lifted mark is condemned again, and goes with the blob.
    fixture.delete_image("b");
    fixture.sweep_clean();
    assert_eq!(
        fixture.keys("blobs/").len() + fixture.keys("sweep/marks/").len(),
        0
    );
}

#[test]
fn of_the_grants_of_a_manifest_that_is_pushed_again_and_again_one_stays() {
    let fixture = Fixture::new(&[]);
    for _ in 0..5 {
        fixture.push_image("a", "v1");
        fixture.push_image("b", "v1");
    }
    let other = versioned(1);
    fixture.push_manifest("a", "v2", OCI_MANIFEST, &other);
    let grants = |blob, name: &str| {
        let grants = fixture.keys(&key::grants(&digest(blob), &name.parse().unwrap()));
        grants.len()
    };
    let all = |blob| [grants(blob, "a"), grants(blob, "b")];
    assert!(all(LAYER).iter().all(|number| *number >= 10));
    fixture.host.pass(GRACE);
    // Young ones stay, however many, and the old ones before them go.
    for _ in 0..3 {
        fixture.push_manifest("b", "v1", OCI_MANIFEST, &image());
    }
    let removals = fixture.round();
    let again = |removal: &&Value| removal["why"] == "it has a younger grant for the same manifest";
    // Of five pushes, each of two blobs, four in one repository and all in the other.
    assert_eq!(removals.iter().filter(again).count(), 18);
    assert_eq!((all(LAYER), all(CONFIG)), ([2, 3], [2, 3]));
    fixture.host.pass(GRACE);
    fixture.round();
    assert_eq!((all(LAYER), all(CONFIG)), ([2, 1], [2, 1]));
    assert!(fixture.round().is_empty());
    assert!(fixture.is_whole("a", "v1") && fixture.is_whole("b", "v1"));
    for name in ["a", "b"] {
        fixture.delete_image(name);
    }
    fixture.round();
    assert_eq!((all(LAYER), all(CONFIG)), ([1, 0], [1, 0]));
}

/// What is derived from a layer is written whenever a pass over it ends, by then perhaps after the layer is gone.
#[test]
fn what_a_late_pass_derives_from_a_layer_that_is_gone_goes() {
    let fixture = Fixture::new(&[]);
    fixture.push_image("a", "v1");
    let layer = digest(LAYER);
    let remove = || {
        fixture.delete_image("a");
        fixture.sweep_clean();
        assert_eq!(fixture.keys("blobs/"), Vec::<String>::new());
    };
    let line = format!("GET /v2/a/_strata/layers/{layer}");
    fixture.ask_with(&line, &[("put layers/", &remove)]);
    let derived = || fixture.keys("layers/");
    assert_eq!(derived(), [key::index(&layer)]);
    assert!(fixture.round().is_empty(), "it is young");
    fixture.host.pass(GRACE);
    let removals = fixture.round();
    assert_eq!(removals.len(), 1);
    assert_eq!(removals[0]["why"], "its layer is not stored");
    assert_eq!(derived(), Vec::<String>::new());
    // What a layer that is stored has stays.
    fixture.push_image("a", "v1");
    fixture.ask(&line);
    fixture.sweep_clean();
    assert_eq!(derived(), [key::index(&layer)]);
}

#[test]
fn of_the_entries_of_a_referrer_that_is_pushed_again_and_again_one_stays() {
    let fixture = Fixture::new(&[]);
    fixture.push_image("a", "v1");
    let subject = descriptor(OCI_MANIFEST, image().to_string().as_bytes());
    let signatures: Vec<Value> = (0..2)
        .map(|version| {
            let mut signature = versioned(version);
            signature["subject"] = subject.clone();
            signature
        })
        .collect();
    let push = |signature: &Value| {
        let digest = digest(signature.to_string().as_bytes()).to_string();
        fixture.push_manifest("a", &digest, OCI_MANIFEST, signature);
    };
    for _ in 0..4 {
        signatures.iter().for_each(push);
    }
    let entries = || fixture.keys("repositories/a/_referrers/");
    let line = format!(
        "GET /v2/a/referrers/{}",
        subject["digest"].as_str().unwrap()
    );
    let listed = || fixture.ask(&line).body;
    let before = listed();
    assert!(fixture.round().is_empty());
    assert_eq!(entries().len(), 8);
    fixture.host.pass(GRACE);
    push(&signatures[0]);
    let removals = fixture.round();
    let again = |removal: &&Value| removal["why"] == "its manifest has a younger one";
    assert_eq!(removals.iter().filter(again).count(), 4 + 3);
    assert_eq!(entries().len(), 2);
    assert_eq!(listed(), before);
    fixture.sweep_clean();
    assert_eq!((entries().len(), listed()), (2, before));
}

/// A sweep that is late deletes a grant whose manifest was not there when it looked.
#[test]
fn of_the_grants_of_a_manifest_the_one_of_the_last_push_stays() {
    let fixture = Fixture::new(&[]);
    fixture.push_image("a", "v1");
    fixture.delete_image("a");
    fixture.host.pass(GRACE);
    let again = || {
        fixture.push_image("a", "v1");
        fixture.host.pass(GRACE);
        fixture.round();
    };
    fixture.sweep_with(&[("delete refs/", &again)]);
    fixture.sweep_clean();
    assert!(fixture.is_whole("a", "v1"));
}

/// Which of their keys comes first is by chance.
#[test]
fn of_two_grants_for_a_manifest_the_younger_one_stays_whatever_their_keys() {
    for (older, younger) in [("1", "2"), ("2", "1")] {
        let fixture = Fixture::new(&[]);
        fixture.push_image("a", "v1");
        let name = "a".parse().unwrap();
        let grants = || fixture.keys(&key::grants(&digest(LAYER), &name));
        block_on(fixture.memory().delete(&grants())).unwrap();
        let manifest = digest(image().to_string().as_bytes());
        let reason = format!(r#"{{"reason":"manifest","digest":"{manifest}"}}"#);
        let [older, younger] = [older, younger].map(|id| key::grant(&digest(LAYER), &name, id));
        fixture.put(&older, b"", &reason);
        fixture.host.pass(Duration::from_millis(1));
        fixture.put(&younger, b"", &reason);
        fixture.host.pass(GRACE);
        fixture.round();
        assert_eq!(grants(), [younger]);
    }
}

/// What is planted: its name, objects with their bytes and metadata, and what is done to it.
type Planted<'a> = (
    &'static str,
    Vec<(&'a str, &'static [u8], &'static str)>,
    Vec<&'static str>,
);

#[test]
fn each_kind_of_rest_goes_and_only_when_it_is_old() {
    let other = digest(b"other");
    let name = "a".parse().unwrap();
    let id = "00112233445566778899aabbccddeeff".parse().unwrap();
    let extent = key::extent(&key::extent_name(id, 1, "ff"));
    let entry = key::referrer(&name, &other, &other, "r");
    let start = r#"{"step":"start"}"#;
    let filled = key::step(&name, id, 0);
    let (claim, link) = (key::grant(&other, &name, "g"), key::link(&other, &name));
    let (index, blob) = (key::index(&other), key::blob(&other));
    let fill = key::fill(&other, &name);
    let planted: [Planted<'_>; 10] = [
        (
            "a hint at a fill",
            vec![(&fill, b"00112233445566778899aabbccddeeff", "")],
            vec!["delete hint"],
        ),
        ("nothing", vec![], vec![]),
        (
            "an extent of no upload",
            vec![(&extent, b"x", "")],
            vec!["delete extent"],
        ),
        (
            "an upload",
            vec![(&filled, b"", start)],
            vec!["end upload", "delete upload"],
        ),
        (
            "an upload that was filled and broken off",
            vec![(&filled, b"", start), (&extent, b"x", "")],
            vec!["end upload", "delete upload", "delete extent"],
        ),
        (
            "a referrer without a manifest",
            vec![(&entry, b"", "{}")],
            vec!["delete referrer"],
        ),
        (
            "a claim of bytes that never came",
            vec![(&claim, b"", r#"{"reason":"claim"}"#)],
            vec!["delete grant"],
        ),
        (
            "a link to nothing",
            vec![(&link, b"{}", "")],
            vec!["delete link"],
        ),
        (
            "an index of no layer",
            vec![(&index, b"x", "")],
            vec!["delete index"],
        ),
        (
            "a blob that nobody has",
            vec![(&blob, b"other", r#"{"kind":"bytes"}"#)],
            vec!["condemn blob", "delete blob"],
        ),
    ];
    for (what, objects, expected) in &planted {
        let fixture = Fixture::new(&[]);
        for (key, bytes, metadata) in objects {
            fixture.put(key, bytes, metadata);
        }
        let is_blob = what.starts_with("a blob");
        if !is_blob {
            fixture.host.pass(GRACE - Duration::from_millis(1));
            assert_eq!(fixture.round(), Vec::<Value>::new(), "{what}");
            fixture.host.pass(Duration::from_millis(1));
        }
        let mut found = Vec::new();
        for _ in 0..3 {
            found.extend(short(&fixture.round()));
            fixture.host.pass(GRACE);
        }
        assert_eq!(found, *expected, "{what}");
        assert_eq!(
            fixture.keys(""),
            ["sweep/cursor", "sweep/inventory"],
            "{what}"
        );
    }
}

/// A grant that grows old while others are looked at stays: its manifest was looked for when it was young, and may have come since.
#[test]
fn a_grant_that_grows_old_during_a_step_stays() {
    let host = TestHost::default();
    let name = "a".parse().unwrap();
    let [wanted, other] = [b"wanted", b"others"].map(|bytes| digest(bytes));
    let (stored, slow) = (key::manifest(&name, &wanted), key::manifest(&name, &other));
    let meanwhile = Rc::<RefCell<Option<Box<dyn FnOnce()>>>>::default();
    let happens = meanwhile.clone();
    let store = Watched::new(Memory::timed(host.now.clone()), move |operation, key| {
        if operation == "head" && key == slow {
            happens.take().unwrap()();
        }
        Verdict::Done
    });
    let memory = store.memory.clone();
    let fixture = Fixture {
        registry: registry_on(store, host.clone(), &[("STRATA_GRACE_SECONDS", "8")]),
        host: host.clone(),
        operations: Rc::default(),
        begun: Rc::default(),
        fails: Rc::default(),
        fails_next: Rc::default(),
        pace: Rc::default(),
    };
    let blob = digest(LAYER);
    let grant = |id, manifest: &Digest| {
        let reason = format!(r#"{{"reason":"manifest","digest":"{manifest}"}}"#);
        fixture.put(&key::grant(&blob, &name, id), b"", &reason);
    };
    fixture.put(&key::blob(&blob), LAYER, r#"{"kind":"bytes"}"#);
    grant("1", &wanted);
    grant("2", &other);
    host.pass(Duration::from_secs(8));
    // Somebody pushes the manifest again, and stores it in time; the sweep, which has looked for it before, is slower.
    grant("3", &wanted);
    host.pass(Duration::from_secs(2));
    *meanwhile.borrow_mut() = Some(Box::new(move || {
        let metadata = json!({ "mediaType": OCI_MANIFEST }).to_string();
        let options = PutOptions {
            metadata: &metadata,
            ..PutOptions::default()
        };
        block_on(memory.put(&stored, Content::Bytes(b"wanted".to_vec()), options)).unwrap();
        host.pass(Duration::from_secs(7));
    }));
    assert_eq!(short(&fixture.round()), ["delete grant", "delete grant"]);
    assert!(meanwhile.borrow().is_none());
    assert_eq!(fixture.keys("refs/"), [key::grant(&blob, &name, "3")]);
}

/// What came of a fill that several went on with, and is in no record, goes; what the record names stays.
#[test]
fn what_a_fill_stored_twice_goes() {
    let other = digest(b"other");
    let name = "a".parse().unwrap();
    let id = "00112233445566778899aabbccddeeff".parse().unwrap();
    let record =
        format!(r#"{{"kind":"extents","size":5,"extents":[{{"key":"{id}/1-ff","size":5}}]}}"#);
    let done = format!(r#"{{"step":"done","digest":"{other}","extents":1}}"#);
    let closing = format!(r#"{{"step":"closing","digest":"{other}"}}"#);
    // Whose closer could say that it was done, and whose could not any more.
    for (last, ended) in [(&done, false), (&closing, true)] {
        let fixture = Fixture::new(&[]);
        let [mine, stray, late] =
            [1, 2, 3].map(|step| key::extent(&key::extent_name(id, step, "ff")));
        fixture.put(&key::step(&name, id, 0), b"", r#"{"step":"start"}"#);
        fixture.put(&key::step(&name, id, 2), b"", last);
        fixture.put(&mine, b"other", "");
        fixture.put(&stray, b"oth", "");
        let kind = r#"{"kind":"extents","size":5}"#;
        fixture.put(&key::blob(&other), record.as_bytes(), kind);
        let manifest = digest(image().to_string().as_bytes());
        fixture.put(&key::manifest(&name, &manifest), b"{}", "{}");
        let reason = format!(r#"{{"reason":"manifest","digest":"{manifest}"}}"#);
        fixture.put(&key::grant(&other, &name, "g"), b"", &reason);
        let first = fixture.step("");
        assert_eq!(first["removals"], json!([]));
        fixture.host.pass(GRACE);
        let expected: &[&str] = if ended {
            &["delete extent", "end upload"]
        } else {
            &["delete extent"]
        };
        assert_eq!(short(&fixture.round()), expected);
        assert_eq!(fixture.keys("extents/"), std::slice::from_ref(&mine));
        fixture.put(&late, b"oth", "");
        fixture.host.pass(GRACE);
        assert_eq!(short(&fixture.round()), ["delete extent"]);
        assert_eq!(fixture.keys("extents/"), [mine]);
        assert_eq!(fixture.keys("blobs/").len(), 1);
        fixture.host.pass(GRACE);
        let last = fixture.step("");
        assert_eq!(last["removals"], json!([]));
        // A closer that was done said how many it named: nothing is looked at again.
        assert_eq!(last["operations"] == first["operations"], !ended);
    }
}

#[test]
fn what_cant_be_read_stays() {
    let other = digest(b"other");
    let name = "a".parse().unwrap();
    let id = "00112233445566778899aabbccddeeff".parse().unwrap();
    let fixture = Fixture::new(&[]);
    fixture.put(&key::blob(&other), b"other", r#"{"kind":"bytes"}"#);
    fixture.put(&key::grant(&other, &name, "g"), b"", "{");
    fixture.put(&key::step(&name, id, 0), b"", "?");
    fixture.put(&key::extent(&key::extent_name(id, 1, "ff")), b"x", "");
    fixture.put("blobs/strange", b"x", "");
    fixture.put("refs/strange", b"x", "");
    fixture.put("uploads/strange", b"x", "");
    fixture.put("repositories/strange", b"x", "");
    let record = digest(b"record");
    fixture.put(&key::blob(&record), b"{", r#"{"kind":"extents","size":1}"#);
    let marked = digest(b"marked");
    fixture.put(&key::blob(&marked), b"marked", r#"{"kind":"bytes"}"#);
    let before = fixture.keys("");
    let mark = key::mark(&marked);
    fixture.put(&mark, b"\xff", "");
    fixture.sweep_clean();
    let mut after = fixture.keys("");
    // A mark that is no text is nobody's to move, and holds up nothing.
    assert!(after.contains(&mark));
    // The record is never removed, for what it names is not known; its mark says that it was tried.
    after.retain(|key| !key.starts_with("sweep/"));
    assert_eq!(after, before);
    assert!(!fixture.host.log.borrow().is_empty());
}

/// Versions run side by side while one is deployed, and a deployment may be taken back.
#[test]
fn keys_of_another_version_keep_what_they_are_about() {
    let name = "a".parse().unwrap();
    let [held, other] = [b"held".as_slice(), b"other"].map(digest);
    let id = "00112233445566778899aabbccddeeff".parse().unwrap();
    let fixture = Fixture::new(&[]);
    for blob in [&held, &other] {
        fixture.put(&key::blob(blob), b"blob", r#"{"kind":"bytes"}"#);
    }
    let holders = key::grants(&held, &name).replace("_grants/", "");
    let unknown = [
        format!("{holders}_lease"),
        format!("{}soci", key::layer(&held)),
        key::step(&name, id, 0).replace("_00000", "_x"),
        "repositories/a/_signatures/x".to_owned(),
        "sweep/replicas".to_owned(),
        "catalog/A".to_owned(),
    ];
    for key in &unknown {
        fixture.put(key, b"x", "{}");
    }
    let step = key::step(&name, id, 0);
    fixture.put(&step, b"", r#"{"step":"start"}"#);
    // No manifest needs it, but nobody knows what the other key says.
    let filled = key::grant(&held, &name, "f");
    fixture.put(&filled, b"", r#"{"reason":"filled"}"#);
    fixture.sweep_clean();
    assert!(!fixture.keys("").contains(&key::blob(&other)));
    let kept = [key::blob(&held), step, filled];
    for key in kept.iter().chain(&unknown) {
        assert!(fixture.keys("").contains(key), "{key}");
    }
}

#[test]
fn an_upload_that_goes_on_is_not_ended_and_one_that_was_ended_takes_nothing_more() {
    let fixture = Fixture::new(&[]);
    let location = fixture.push_chunk("a", LAYER);
    fixture.host.pass(GRACE - Duration::from_secs(1));
    assert!(fixture.round().is_empty());
    let chunk = ask(
        &fixture.registry,
        &Ask::new(&format!("PATCH {location}")).stream(b"more"),
    );
    assert_eq!(chunk.status, 202);
    fixture.host.pass(GRACE - Duration::from_secs(1));
    // Its first extent is old, and it goes on.
    assert!(fixture.round().is_empty());
    fixture.host.pass(Duration::from_secs(1));
    assert_eq!(short(&fixture.round()), ["end upload"]);
    assert!(fixture.keys("extents/").is_empty());
    let late = ask(
        &fixture.registry,
        &Ask::new(&format!("PATCH {}", chunk.location())).stream(b"late"),
    );
    assert_eq!(late.status, 404);
    fixture.sweep_clean();
    assert_eq!(fixture.keys("uploads/"), Vec::<String>::new());
    assert_eq!(fixture.keys("extents/"), Vec::<String>::new());
}

#[test]
fn a_dry_run_writes_nothing_and_says_what_a_run_does() {
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
fn a_dry_run_goes_on_from_its_cursor() {
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
        ("?max=0", "query parameter max is 0, let it be 1 at least"),
        ("?cursor=x", "query parameter cursor is for dry runs"),
        (
            "?dry-run&cursor=x",
            "query parameter cursor is not what a dry run was answered with",
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
fn a_sweep_goes_on_from_where_it_was_killed_at_any_operation() {
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
            // Two uploads are left: the one that the layer came by, and none that was given up.
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
fn the_clock_begins_a_round_now_and_then_and_a_step_each_time() {
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

/// A registry of this many images, each of a config, a layer of its own and one that all share; each pushed to two repositories.
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
fn what_is_in_use_costs_few_operations() {
    let fixture = Fixture::new(&[]);
    plant(&fixture, 5_000);
    fixture.host.pass(GRACE);
    for what in ["first", "second"] {
        let before = fixture.operations.get();
        assert_eq!(fixture.round(), Vec::<Value>::new());
        let operations = fixture.operations.get() - before;
        println!("{what} round: {operations} operations for 10001 blobs, 65000 keys");
        // 10 pages of blobs, 50 of grants and links, 10 of manifests; looks where the filter is wrong.
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
fn each_blob_that_goes_costs_a_dozen_operations() {
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

/// Two digests of one blob are two blobs.
#[test]
fn digests_of_each_algorithm_are_swept_alike() {
    let fixture = Fixture::new(&[]);
    let long: Digest = strata::digest::Algorithm::Sha512.digest(LAYER);
    for digest in [&long, &digest(LAYER)] {
        let line = format!("POST /v2/a/blobs/uploads/?digest={digest}");
        assert_eq!(
            ask(&fixture.registry, &Ask::new(&line).body(LAYER)).status,
            201
        );
    }
    fixture.sweep_clean();
    assert!(fixture.keys("blobs/").is_empty() && fixture.keys("refs/").is_empty());
}

#[test]
fn children_and_referrers_are_as_manifests_are() {
    let fixture = Fixture::new(&[]);
    fixture.push_image("a", "v1");
    let target = digest(image().to_string().as_bytes());
    let index = json!({
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [descriptor(OCI_MANIFEST, image().to_string().as_bytes())],
        "subject": descriptor(OCI_MANIFEST, image().to_string().as_bytes()),
    });
    fixture.push_manifest("a", "all", OCI_INDEX, &index);
    fixture.sweep_clean();
    assert!(fixture.is_whole("a", "v1"));
    let referrers = fixture.ask(&format!("GET /v2/a/referrers/{target}"));
    let referrers: Value = serde_json::from_slice(&referrers.body).unwrap();
    assert_eq!(referrers["manifests"].as_array().unwrap().len(), 1);
}

/// Tags of a repository, with the manifests of each.
fn retained(fixture: &Fixture) -> (Vec<String>, usize) {
    let tags = fixture.ask("GET /v2/a/tags/list");
    let tags: Value = serde_json::from_slice(&tags.body).unwrap();
    let tags = tags["tags"].as_array().unwrap();
    let tags = tags.iter().map(|tag| tag.as_str().unwrap().to_owned());
    (
        tags.collect(),
        fixture.keys("repositories/a/_manifests/").len(),
    )
}

fn versioned(version: u32) -> Value {
    let mut image = image();
    image["annotations"] = json!({ "version": version.to_string() });
    image
}

const DAY: Duration = Duration::from_secs(24 * 3_600);

#[test]
fn tags_and_manifests_go_as_policies_say_and_a_dry_run_tells_so() {
    let policy = r#"[
        {"repositories": ["a"], "keep_newest": 2, "keep_tags": ["v*"], "untagged_days": 3},
        {"repositories": ["**"], "immutable_tags": ["v*"]}
    ]"#;
    let fixture = Fixture::new(&[("STRATA_RETENTION", policy)]);
    fixture.push_image("b", "v1");
    fixture.push_image("a", "v1");
    for version in 0..5 {
        let tag = format!("nightly-{version}");
        fixture.push_manifest("a", &tag, OCI_MANIFEST, &versioned(version));
        fixture.host.pass(Duration::from_secs(3_600));
    }
    assert_eq!(
        retained(&fixture),
        (
            [
                "nightly-0",
                "nightly-1",
                "nightly-2",
                "nightly-3",
                "nightly-4",
                "v1"
            ]
            .map(str::to_owned)
            .to_vec(),
            6
        )
    );
    // Not before they are as old as the grace period.
    assert!(fixture.round().is_empty());
    let mut seen = Vec::new();
    for _ in 0..6 {
        fixture.host.pass(DAY);
        let told = fixture.step("?dry-run=1")["removals"].clone();
        let mut told = told.as_array().unwrap().clone();
        let mut done = fixture.round();
        told.sort_by_key(Value::to_string);
        done.sort_by_key(Value::to_string);
        assert_eq!(told, done);
        seen.push(
            short(&done)
                .iter()
                .filter(|what| what.ends_with("tag") || what.ends_with("manifest"))
                .count(),
        );
    }
    assert_eq!(seen, [3, 0, 3, 0, 0, 0]);
    assert_eq!(
        retained(&fixture),
        (
            ["nightly-3", "nightly-4", "v1"].map(str::to_owned).to_vec(),
            3
        )
    );
    assert!(
        fixture.is_whole("a", "v1")
            && fixture.is_whole("a", "nightly-3")
            && fixture.is_whole("b", "v1")
    );
    assert_eq!(fixture.keys("sweep/claims/"), Vec::<String>::new());
}

#[test]
fn what_an_index_lists_and_what_is_about_an_image_stays_with_it() {
    let policy = r#"[{"repositories": ["**"], "untagged_days": 2}]"#;
    let fixture = Fixture::new(&[("STRATA_RETENTION", policy)]);
    fixture.push_image("a", "old");
    let manifest = |version| versioned(version).to_string();
    let by_digest = |document: &Value| digest(document.to_string().as_bytes()).to_string();
    for version in 1..=4 {
        fixture.push_manifest(
            "a",
            &by_digest(&versioned(version)),
            OCI_MANIFEST,
            &versioned(version),
        );
    }
    // 1 is listed, 2 is about 1, 3 is about what is not there, 4 stands alone.
    let about = |subject: &[u8], note: &str| {
        let mut document = image();
        document["subject"] = descriptor(OCI_MANIFEST, subject);
        document["annotations"] = json!({ "note": note });
        document
    };
    // An index need not say that it is one.
    let inner = json!({ "schemaVersion": 2, "manifests": [descriptor(OCI_MANIFEST, manifest(1).as_bytes())] });
    fixture.push_manifest("a", &by_digest(&inner), OCI_INDEX, &inner);
    let outer = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor(OCI_INDEX, inner.to_string().as_bytes())] });
    fixture.push_manifest("a", "all", OCI_INDEX, &outer);
    let (kept, alone) = (
        about(manifest(1).as_bytes(), "kept"),
        about(b"elsewhere", "alone"),
    );
    for document in [&kept, &alone] {
        fixture.push_manifest("a", &by_digest(document), OCI_MANIFEST, document);
    }
    assert_eq!(fixture.keys("repositories/a/_manifests/").len(), 9);
    fixture.host.pass(2 * DAY);
    fixture.round();
    let stays = |document: &Value| {
        let line = format!("GET /v2/a/manifests/{}", by_digest(document));
        fixture.ask(&line).status == 200
    };
    for (document, expected) in [
        (&image(), true),
        (&versioned(1), true),
        (&versioned(2), false),
        (&versioned(4), false),
        (&inner, true),
        (&outer, true),
        (&kept, true),
        (&alone, false),
    ] {
        assert_eq!(stays(document), expected, "{document}");
    }
}

/// What an index lists that can't be read is not known, so nothing of its repository goes.
#[test]
fn nothing_goes_beside_an_index_that_cant_be_read() {
    // One that still is an index, and lists nothing, is another one than it is called.
    let empty = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [] });
    for bytes in [&b"{"[..], empty.to_string().as_bytes()] {
        let policy = r#"[{"repositories": ["**"], "untagged_days": 2}]"#;
        let fixture = Fixture::new(&[("STRATA_RETENTION", policy)]);
        fixture.push_image("a", "old");
        let child = versioned(1).to_string();
        let listed = digest(child.as_bytes());
        fixture.push_manifest("a", &listed.to_string(), OCI_MANIFEST, &versioned(1));
        let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor(OCI_MANIFEST, child.as_bytes())] });
        fixture.push_manifest("a", "all", OCI_INDEX, &index);
        let stored = digest(index.to_string().as_bytes());
        let key = key::manifest(&"a".parse().unwrap(), &stored);
        fixture.put(
            &key,
            bytes,
            r#"{"mediaType":"application/vnd.oci.image.index.v1+json"}"#,
        );
        fixture.host.pass(2 * DAY);
        fixture.round();
        assert_eq!(fixture.keys("repositories/a/_manifests/").len(), 3);
        let log = fixture.host.log.borrow().join("\n");
        assert!(log.contains("a manifest can't be read"), "{log}");
    }
}

/// It has another etag than the one that was listed, though it names what that named.
#[test]
fn a_tag_that_is_pushed_again_meanwhile_stays() {
    let policy = r#"[{"repositories": ["**"], "tag_days": 2}]"#;
    let fixture = Fixture::new(&[("STRATA_RETENTION", policy)]);
    fixture.push_image("a", "v1");
    fixture.host.pass(2 * DAY);
    let push = || fixture.push_manifest("a", "v1", OCI_MANIFEST, &image());
    fixture.sweep_with(&[("put repositories/a/_tags/v1", &push)]);
    assert!(fixture.is_whole("a", "v1"));
    fixture.host.pass(2 * DAY);
    fixture.round();
    assert!(!fixture.is_whole("a", "v1"));
}

/// What it lists is read again, though it was gone when the sweep first wanted to read it.
#[test]
fn an_index_that_is_pushed_again_meanwhile_keeps_what_it_lists() {
    let policy = r#"[{"repositories": ["**"], "untagged_days": 2}]"#;
    let fixture = Fixture::new(&[("STRATA_RETENTION", policy)]);
    fixture.push_image("a", "v1");
    let image = image().to_string();
    let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor(OCI_MANIFEST, image.as_bytes())] });
    let push = || fixture.push_manifest("a", "all", OCI_INDEX, &index);
    push();
    fixture.ask("DELETE /v2/a/manifests/v1");
    fixture.host.pass(2 * DAY);
    let listing = digest(index.to_string().as_bytes());
    let delete = || {
        let deleted = fixture.ask(&format!("DELETE /v2/a/manifests/{listing}"));
        assert_eq!(deleted.status, 202);
    };
    let read = format!("get {}", key::manifest(&"a".parse().unwrap(), &listing));
    fixture.sweep_with(&[(&read, &delete), ("put sweep/claims/a/", &push)]);
    let kept = digest(image.as_bytes());
    for reference in ["all", &kept.to_string()] {
        let answer = fixture.ask(&format!("GET /v2/a/manifests/{reference}"));
        assert_eq!(answer.status, 200, "{reference}");
    }
}

/// What the inner index lists goes before that does, if nothing names either: by its removal or before it the outer one comes too late.
#[test]
fn an_index_of_indexes_is_taken_with_all_that_they_list() {
    let policy = r#"[{"repositories": ["a"], "untagged_days": 1}]"#;
    let fixture = Fixture::new(&[("STRATA_RETENTION", policy)]);
    let listing = |media_type, document: &Value| {
        let listed = descriptor(media_type, document.to_string().as_bytes());
        json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [listed] })
    };
    let inner = listing(OCI_MANIFEST, &image());
    let outer = listing(OCI_INDEX, &inner);
    let listed = digest(image().to_string().as_bytes());
    let push = |name: &str| {
        let line = format!("PUT /v2/{name}/manifests/all");
        ask(
            &fixture.registry,
            &Ask::new(&line).manifest(OCI_INDEX, &outer),
        )
    };
    for name in ["a", "b"] {
        fixture.push_image(name, "v1");
        fixture.push_manifest(name, "inner", OCI_INDEX, &inner);
        fixture.put(
            &key::claim(&name.parse().unwrap(), &listed),
            b"somebody",
            "",
        );
    }
    let refused = push("a");
    assert_eq!(refused.status, 503);
    let body = String::from_utf8_lossy(&refused.body).into_owned();
    let said = format!("manifest {listed} is being removed");
    assert!(body.contains(&said), "{body}");
    assert_eq!(push("b").status, 201, "where none goes by itself");
    fixture.host.pass(GRACE);
    assert_eq!(push("a").status, 201, "who claimed it is gone");
    fixture.delete_image("a");
    let refused = push("a");
    assert_eq!(refused.status, 404);
    let body = String::from_utf8_lossy(&refused.body).into_owned();
    let said = format!("{listed} in repository a, push first");
    assert!(body.contains(&said), "{body}");
}

/// On a plan that allows a request little, an upload of many chunks takes many steps; or has more than can be listed in one.
#[test]
fn an_upload_that_is_too_much_for_a_request_holds_up_nobody() {
    for (chunks, is_listed) in [(60, true), (9_000, false)] {
        let fixture = Fixture::new(&[("STRATA_SUBREQUESTS", "50")]);
        let name = "a".parse().unwrap();
        let long = "00112233445566778899aabbccddeeff".parse().unwrap();
        fixture.put(&key::step(&name, long, 0), b"", r#"{"step":"start"}"#);
        for number in 1..=chunks {
            let extent = key::extent_name(long, number.into(), "ff");
            let received = json!({
                "step": "received",
                "extent": { "key": &extent, "size": 1 },
                "offset": number - 1,
                "digest": digest(b"x"),
            });
            fixture.put(&key::step(&name, long, number), b"", &received.to_string());
            fixture.put(&key::extent(&extent), b"x", "");
        }
        let short = "ff112233445566778899aabbccddeeff".parse().unwrap();
        fixture.put(&key::step(&name, short, 0), b"", r#"{"step":"start"}"#);
        fixture.host.pass(3 * GRACE);
        let mut ticks = 0;
        while fixture
            .memory()
            .keys()
            .contains(&key::step(&name, short, 0))
        {
            fixture.host.pass(GRACE / 4);
            block_on(fixture.registry.tick());
            ticks += 1;
            assert!(ticks < 40);
        }
        let log = fixture.host.log.borrow().join("\n");
        assert!(log.contains("not swept at once"), "{log}");
        // What takes room went first.
        assert_eq!(fixture.keys("extents/").is_empty(), is_listed);
        // What is done on demand has more, and takes all.
        fixture.sweep_clean();
        fixture.sweep_clean();
        assert!(fixture.keys("extents/").is_empty());
    }
}

/// Whoever pushes one of them meanwhile waits for as long as it is claimed.
#[test]
fn untagged_manifests_go_in_batches_and_no_claim_outlives_its_step() {
    let policy = r#"[{"repositories": ["**"], "untagged_days": 1}]"#;
    for (subrequests, pace, manifests) in [("50", 0, 30), ("10000", 100, 160)] {
        let settings = [
            ("STRATA_RETENTION", policy),
            ("STRATA_SUBREQUESTS", subrequests),
        ];
        let fixture = Fixture::new(&settings);
        fixture.push_image("a", "v1");
        for version in 1..=manifests {
            let digest = digest(versioned(version).to_string().as_bytes()).to_string();
            fixture.push_manifest("a", &digest, OCI_MANIFEST, &versioned(version));
        }
        fixture.host.pass(DAY);
        fixture.pace.set(Duration::from_millis(pace));
        let left = || fixture.keys("repositories/a/_manifests/").len();
        let mut ticks = 0;
        while left() > 1 {
            let before = left();
            fixture.host.pass(DAY / 4);
            block_on(fixture.registry.tick());
            ticks += 1;
            assert!(left() < before || ticks < 3, "{before} after {ticks}");
            assert_eq!(fixture.keys(key::CLAIMS), Vec::<String>::new());
        }
        assert!(ticks > 1, "{ticks}");
        let log = fixture.host.log.borrow().join("\n");
        assert!(!log.contains("not retained"), "{log}");
        fixture.pace.set(Duration::ZERO);
        assert!(fixture.is_whole("a", "v1"));
    }
}

/// One that failed may be done later: who pushed the manifest meanwhile, and was told that nobody claims it, would lose it.
#[test]
fn after_a_deletion_that_failed_claims_stay() {
    let policy = r#"[{"repositories": ["**"], "untagged_days": 1}]"#;
    let fixture = Fixture::new(&[("STRATA_RETENTION", policy)]);
    for version in 0..3 {
        let digest = digest(versioned(version).to_string().as_bytes()).to_string();
        fixture.push_patched("a", LAYER);
        fixture.push_whole("a", CONFIG);
        fixture.push_manifest("a", &digest, OCI_MANIFEST, &versioned(version));
    }
    fixture.host.pass(DAY);
    // The reading that counts, and the deletion.
    for (operation, is_claimed) in [
        ("list repositories/a/_referrers/", false),
        ("delete repositories/a/_manifests/", true),
    ] {
        let fails = || *fixture.fails_next.borrow_mut() = Some(operation.to_owned());
        let answer = fixture.ask_with("POST /v2/_strata/sweep", &[("put sweep/claims/", &fails)]);
        assert_eq!(answer.status, 503);
        assert_eq!(
            fixture.keys(key::CLAIMS).len(),
            if is_claimed { 3 } else { 0 }
        );
        assert_eq!(fixture.keys("repositories/a/_manifests/").len(), 3);
    }
    fixture.host.pass(GRACE);
    fixture.round();
    assert_eq!(fixture.keys("repositories/a/_manifests/").len(), 0);
    assert_eq!(fixture.keys(key::CLAIMS).len(), 0);
}

#[test]
fn claims_of_those_who_are_gone_go_under_any_policy() {
    let digest = digest(image().to_string().as_bytes());
    for policy in ["", r#"[{"repositories": ["**"], "untagged_days": 1}]"#] {
        let fixture = Fixture::new(&[("STRATA_RETENTION", policy)]);
        fixture.push_image("a", "v1");
        for name in ["a", "b"] {
            let claim = key::claim(&name.parse().unwrap(), &digest);
            fixture.put(&claim, b"somebody", "");
        }
        fixture.round();
        assert_eq!(fixture.keys(key::CLAIMS).len(), 2, "they are young");
        fixture.host.pass(GRACE);
        fixture.round();
        assert_eq!(fixture.keys(key::CLAIMS), Vec::<String>::new());
        assert!(fixture.is_whole("a", "v1"));
    }
}

#[test]
fn a_repository_that_is_too_much_for_a_request_is_passed_by() {
    let policy = r#"[{"repositories": ["**"], "untagged_days": 1}]"#;
    let fixture = Fixture::new(&[("STRATA_RETENTION", policy), ("STRATA_SUBREQUESTS", "50")]);
    fixture.push_image("a", "v1");
    fixture.push_image("b", "v1");
    // Each index has to be read before it is known that none lists the manifest without a tag.
    let listed = descriptor(OCI_MANIFEST, image().to_string().as_bytes());
    for version in 0..60 {
        let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [listed], "annotations": { "version": version.to_string() } });
        fixture.push_manifest("a", &format!("v{version}"), OCI_INDEX, &index);
    }
    let loose = digest(versioned(0).to_string().as_bytes()).to_string();
    fixture.push_manifest("a", &loose, OCI_MANIFEST, &versioned(0));
    for version in 0..30 {
        let digest = digest(versioned(version).to_string().as_bytes()).to_string();
        fixture.push_manifest("b", &digest, OCI_MANIFEST, &versioned(version));
    }
    fixture.host.pass(DAY);
    fixture.round();
    assert_eq!(fixture.keys("repositories/b/_manifests/").len(), 1);
    assert_eq!(fixture.keys("repositories/a/_manifests/").len(), 60 + 2);
    let log = fixture.host.log.borrow().join("\n");
    assert!(log.contains("not retained by policy"), "{log}");
}

#[test]
fn a_manifest_that_is_being_removed_is_not_taken() {
    let policy = r#"[{"repositories": ["a"], "untagged_days": 1}]"#;
    let fixture = Fixture::new(&[("STRATA_RETENTION", policy)]);
    fixture.push_image("a", "v1");
    fixture.push_image("b", "v1");
    let digest = digest(image().to_string().as_bytes());
    for name in ["a", "b"] {
        fixture.put(
            &key::claim(&name.parse().unwrap(), &digest),
            b"somebody",
            "",
        );
    }
    let put = |name: &str| {
        let line = format!("PUT /v2/{name}/manifests/v2");
        ask(
            &fixture.registry,
            &Ask::new(&line).manifest(OCI_MANIFEST, &image()),
        )
    };
    let refused = put("a");
    assert_eq!(
        (refused.status, refused.header("retry-after")),
        (503, Some("1"))
    );
    let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor(OCI_MANIFEST, image().to_string().as_bytes())] });
    let line = Ask::new("PUT /v2/a/manifests/all").manifest(OCI_INDEX, &index);
    assert_eq!(ask(&fixture.registry, &line).status, 503);
    assert_eq!(fixture.ask("GET /v2/a/manifests/v2").status, 404);
    // Where nothing goes by itself, nobody looks.
    assert_eq!(put("b").status, 201);
    // Who claimed it is gone.
    fixture.host.pass(GRACE);
    assert_eq!(put("a").status, 201);
    fixture.round();
    assert_eq!(fixture.keys("sweep/claims/a/"), Vec::<String>::new());
}

#[test]
fn immutable_tags_do_not_move() {
    let policy = r#"[{"repositories": ["a"], "immutable_tags": ["v*"]}]"#;
    let rules = r#"[{"repositories": ["a"], "who": ["users"], "may": ["pull", "push", "overwrite", "delete"]}, {"repositories": ["**"], "who": ["users"], "may": ["pull", "push", "overwrite", "delete", "administer"]}]"#;
    let fixture = Fixture::new(&[("STRATA_RETENTION", policy), ("STRATA_RULES", rules)]);
    fixture.push_image("a", "v1");
    fixture.push_image("b", "v1");
    let put = |line: &str, version: u32| {
        ask(
            &fixture.registry,
            &Ask::new(line).manifest(OCI_MANIFEST, &versioned(version)),
        )
    };
    let refused = put("PUT /v2/a/manifests/v1", 1);
    assert_eq!(refused.status, 403);
    let text = String::from_utf8_lossy(&refused.body).into_owned();
    assert!(
        text.contains("DENIED")
            && text.contains(
                "tag v1 in repository a is immutable and names another manifest, push another tag"
            ),
        "{text}"
    );
    // Nothing of it was stored.
    assert_eq!(fixture.keys("repositories/a/_manifests/").len(), 1);
    assert_eq!(
        put(
            &format!(
                "PUT /v2/a/manifests/{}?tag=v1",
                digest(versioned(1).to_string().as_bytes())
            ),
            1
        )
        .status,
        403
    );
    // The same manifest, another tag, another repository.
    fixture.push_manifest("a", "v1", OCI_MANIFEST, &image());
    for line in [
        "PUT /v2/a/manifests/latest",
        "PUT /v2/a/manifests/v2",
        "PUT /v2/b/manifests/v1",
    ] {
        assert_eq!(put(line, 1).status, 201, "{line}");
    }
    assert_eq!(put("PUT /v2/a/manifests/latest", 2).status, 201);
    // Who may delete, and not administer, does not delete it: neither by its name nor with what it names.
    for reference in [
        "v1".to_owned(),
        digest(image().to_string().as_bytes()).to_string(),
    ] {
        let answer = fixture.ask(&format!("DELETE /v2/a/manifests/{reference}"));
        assert_eq!(answer.status, 403);
        assert!(String::from_utf8_lossy(&answer.body).contains("who may administer can delete it"));
    }
    assert!(fixture.is_whole("a", "v1"));
    assert_eq!(fixture.ask("DELETE /v2/a/manifests/latest").status, 202);
    assert_eq!(fixture.ask("DELETE /v2/b/manifests/v1").status, 202);
}
