//! The scrub: each kind of damage is found, told, and mended or set aside; what is set aside is healed by a push; nothing else is touched.

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
    store::{Content, Objects as _, PutOptions, StoreError, memory::Memory},
};
use strata_support::{
    Answer, Ask, CONFIG, LAYER, TestHost, TestRegistry, ask, ask_now, descriptor, digest, image,
    is_whole, key,
    layers::{Tar, gzip},
    mirrors::{Mirrors, answer, get, json_of},
    push_manifest, registry_of, registry_on,
    watched::{Verdict, Watched},
};

const GRACE: Duration = Duration::from_secs(24 * 3_600);

/// A day.
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// All objects: their bytes and what is said of them.
type Objects = BTreeMap<String, (Vec<u8>, String)>;

/// What decides what comes of an operation.
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
            Memory::timed(host.now.clone()),
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

    /// Lets a plan decide what comes of operations, from now on.
    fn plan(&self, plan: impl FnMut(u64, &'static str, &str) -> Verdict + 'static) {
        self.operations.set(0);
        *self.plan.borrow_mut() = Box::new(plan);
    }

    fn obey(&self) {
        self.plan(|_, _, _| Verdict::Done);
    }

    /// Another isolate over the same store: one that remembers nothing.
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

    /// Asks, and is cut short after so many turns. Whether it was.
    fn cut_short(&self, line: &str, turns: usize) -> bool {
        let question = Ask::new(line);
        let mut asked = pin!(ask_now(&self.registry, &question));
        let waker = noop_waker();
        let mut context = Context::from_waker(&waker);
        !(0..turns).any(|_| asked.as_mut().poll(&mut context) != Poll::Pending)
    }

    /// A pass of the scrub: what was found.
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

    fn memory(&self) -> &Memory {
        &self.registry.store().memory
    }

    fn keys(&self, prefix: &str) -> Vec<String> {
        self.registry.store().keys(prefix)
    }

    /// All that is stored, but for what the scrub keeps for itself.
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

    /// Changes the bytes of an object, and nothing that is said of it.
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

#[test]
fn what_is_sound_is_left_as_it_is() {
    let fixture = Fixture::new(&[]);
    fixture.push_image("a");
    fixture.push_whole("b", LAYER);
    let before = fixture.objects();
    let body = fixture.step("");
    assert_eq!(body["finished"], true);
    assert_eq!(
        body["checked"],
        json!({ "blob": 2, "grant": 5, "link": 3, "manifest": 1, "tag": 1 })
    );
    assert_eq!(
        body["bytes"],
        LAYER.len() + CONFIG.len() + image().to_string().len()
    );
    assert_eq!((&body["count"], &body["repaired"]), (&json!(0), &json!(0)));
    assert_eq!(fixture.objects(), before);
    // And when all is old.
    fixture.host.pass(3 * GRACE);
    assert!(fixture.pass().is_empty());
    assert_eq!(fixture.objects(), before);
    assert!(fixture.is_whole("a"));
}

/// Damage to a blob: what is done to the fixture, and whether it is in the layer, or else in the configuration.
type Damage = (&'static str, fn(&Fixture), &'static [u8]);

const OF_BLOBS: [Damage; 8] = [
    (
        "a flipped byte in a whole blob",
        |fixture| fixture.damage(&key::blob(&digest(CONFIG)), |bytes| flip(bytes)),
        CONFIG,
    ),
    (
        "a whole blob that is cut short",
        |fixture| fixture.damage(&key::blob(&digest(CONFIG)), |bytes| bytes.truncate(1)),
        CONFIG,
    ),
    (
        "a flipped byte in an extent",
        |fixture| fixture.damage(&fixture.keys("extents/")[1], |bytes| flip(bytes)),
        LAYER,
    ),
    (
        "a truncated extent",
        |fixture| fixture.damage(&fixture.keys("extents/")[0], |bytes| bytes.truncate(2)),
        LAYER,
    ),
    (
        "a missing extent",
        |fixture| fixture.delete(&fixture.keys("extents/")[2..3]),
        LAYER,
    ),
    (
        "a record without bytes",
        |fixture| fixture.delete(&fixture.keys("extents/")),
        LAYER,
    ),
    (
        "a record that can't be read, of bytes that are gone",
        |fixture| {
            fixture.damage(&key::blob(&digest(LAYER)), |bytes| bytes.truncate(9));
            fixture.delete(&fixture.keys("extents/"));
        },
        LAYER,
    ),
    (
        "metadata that can't be read, of bytes that are wrong",
        |fixture| {
            let key = key::blob(&digest(CONFIG));
            fixture.put(&key, b"()", "?");
        },
        CONFIG,
    ),
];

const OF_RECORDS: [Damage; 4] = [
    (
        "a record that can't be read",
        |fixture| fixture.damage(&key::blob(&digest(LAYER)), |bytes| bytes.truncate(9)),
        LAYER,
    ),
    (
        "a record of another size",
        |fixture| {
            let key = key::blob(&digest(LAYER));
            let bytes = fixture.memory().bytes(&key).unwrap();
            fixture.put(&key, &bytes, r#"{"kind":"extents","size":11}"#);
        },
        LAYER,
    ),
    (
        "a record that does not say that it is one",
        |fixture| {
            let key = key::blob(&digest(LAYER));
            let bytes = fixture.memory().bytes(&key).unwrap();
            fixture.put(&key, &bytes, "");
        },
        LAYER,
    ),
    (
        "bytes that do not say that they are",
        |fixture| fixture.put(&key::blob(&digest(CONFIG)), CONFIG, ""),
        CONFIG,
    ),
];

#[test]
fn what_a_blob_says_of_its_bytes_is_written_anew_where_they_are_right() {
    for (what, damage, blob) in OF_RECORDS {
        let mut fixture = Fixture::new(&[]);
        fixture.push_image("a");
        let healthy = fixture.objects();
        damage(&fixture);
        assert_ne!(fixture.objects(), healthy, "{what}");
        assert_eq!(fixture.pass(), ["corrupt blob: write"], "{what}");
        assert_eq!(fixture.objects(), healthy, "{what}");
        fixture.restart();
        assert!(fixture.is_whole("a"), "{what}");
        assert_eq!(fixture.push_whole("b", blob), 201, "{what}");
    }
}

#[test]
fn a_blob_that_is_wrong_is_set_aside_and_the_next_push_heals_it() {
    for (what, damage, blob) in OF_BLOBS {
        for patched in [false, true] {
            let mut fixture = Fixture::new(&[]);
            fixture.push_image("a");
            let healthy = fixture.objects();
            // This isolate has it in memory, and knows that it is there.
            assert!(fixture.is_whole("a"));
            let line = format!("HEAD /v2/a/blobs/{}", digest(blob));
            assert_eq!(fixture.ask(&line).status, 200);
            damage(&fixture);
            assert_eq!(fixture.pass(), ["corrupt blob: aside"], "{what}");
            // Nothing else was touched.
            let blob_key = key::blob(&digest(blob));
            let is_of_blob =
                |key: &String| *key == blob_key || (blob == LAYER && key.starts_with("extents/"));
            let mut others = healthy.clone();
            others.retain(|key, _| !is_of_blob(key));
            let mut after = fixture.objects();
            after.retain(|key, _| !is_of_blob(key));
            assert_eq!(after, others, "{what}");
            assert_eq!(fixture.metadata(&blob_key), r#"{"kind":"aside"}"#);

            // It is never served, whoever asks, and whatever it is asked by.
            for _ in 0..2 {
                let line = format!("/v2/a/blobs/{}", digest(blob));
                assert_eq!(fixture.ask(&format!("GET {line}")).status, 404, "{what}");
                assert_eq!(fixture.ask(&format!("HEAD {line}")).status, 404, "{what}");
                let part = Ask::new(&format!("GET {line}")).header("range", "bytes=0-0");
                assert_eq!(ask(&fixture.registry, &part).status, 404, "{what}");
                let mount = format!("POST /v2/b/blobs/uploads/?mount={}&from=a", digest(blob));
                assert_eq!(fixture.ask(&mount).status, 202, "{what}");
                fixture.restart();
            }
            // What was set aside stays away, and is told of until somebody pushes it.
            assert_eq!(fixture.pass(), ["missing blob: nothing"], "{what}");
            let again = Ask::new("PUT /v2/a/manifests/v2").manifest(OCI_MANIFEST, &image());
            assert_eq!(ask(&fixture.registry, &again).status, 404, "{what}");

            let pushed = if patched {
                fixture.push_patched("c", blob, 3)
            } else {
                fixture.push_whole("c", blob)
            };
            assert_eq!(pushed, 201, "{what}");
            // The manifest that was there is whole again, by its own grants.
            assert!(fixture.is_whole("a"), "{what}");
            fixture.restart();
            assert!(fixture.is_whole("a"), "{what}");
            assert!(fixture.pass().is_empty(), "{what}");
        }
    }
}

#[test]
fn a_link_without_a_grant_goes_when_it_is_old() {
    let fixture = Fixture::new(&[]);
    fixture.push_image("a");
    let healthy = fixture.objects();
    let link = key::link(&digest(LAYER), &name("z"));
    let record = fixture.memory().bytes(&key::blob(&digest(LAYER))).unwrap();
    fixture.put(&link, &record, "");
    assert!(fixture.pass().is_empty());
    fixture.host.pass(GRACE);
    let step = fixture.step("?dry-run");
    assert_eq!(short(&step), ["orphaned link: delete"]);
    assert!(fixture.keys("").contains(&link));
    assert_eq!(fixture.pass(), ["orphaned link: delete"]);
    assert_eq!(fixture.objects(), healthy);
    let line = format!("GET /v2/z/blobs/{}", digest(LAYER));
    assert_eq!(fixture.ask(&line).status, 404);
}

#[test]
fn a_link_that_says_other_than_the_blob_is_written_anew() {
    for wrong in [r#"{"kind":"bytes","size":10}"#, "{", "\u{fffd}"] {
        let mut fixture = Fixture::new(&[]);
        fixture.push_image("a");
        let healthy = fixture.objects();
        let reason = r#"{"reason":"pushed"}"#;
        let link = key::link(&digest(LAYER), &name("a"));
        fixture.put(&link, wrong.as_bytes(), reason);
        assert_eq!(fixture.pass(), ["corrupt link: write"], "{wrong}");
        assert_eq!(fixture.objects(), healthy, "{wrong}");
        fixture.restart();
        assert!(fixture.is_whole("a"), "{wrong}");
    }
}

/// Plants damage.
type Plant<'a> = &'a dyn Fn(&Fixture);

#[test]
fn an_index_of_no_use_goes_and_is_made_again() {
    let layer = gzip(&Tar::default().file("a", "hello").end());
    let other = gzip(
        &Tar::default()
            .file("a", "hello")
            .file("b", "more of it")
            .end(),
    );
    let contents = format!("/v2/a/_strata/layers/{}", digest(&layer));
    let index = key::index(&digest(&layer));
    let at = |fixture: &Fixture, change: &dyn Fn(&mut Vec<u8>)| {
        fixture.damage(&index, |bytes| change(bytes));
    };
    let wrong: [(&str, Plant<'_>); 6] = [
        ("another version", &|fixture| {
            at(fixture, &|bytes| bytes[4] = 9);
        }),
        ("a flipped byte in its head", &|fixture| {
            at(fixture, &|bytes| bytes[30] ^= 1);
        }),
        ("a flipped byte at its end", &|fixture| {
            at(fixture, &|bytes| *bytes.last_mut().unwrap() ^= 1);
        }),
        ("cut short", &|fixture| {
            at(fixture, &|bytes| bytes.truncate(bytes.len() - 1));
        }),
        ("nothing", &|fixture| at(fixture, &Vec::clear)),
        ("of another layer", &|fixture| {
            let theirs = fixture.memory().bytes(&key::index(&digest(&other)));
            fixture.put(&index, &theirs.unwrap(), "");
        }),
    ];
    for (what, damage) in wrong {
        let mut fixture = Fixture::new(&[]);
        for layer in [&layer, &other] {
            fixture.push_whole("a", layer);
            let line = format!("GET /v2/a/_strata/layers/{}", digest(layer));
            assert_eq!(fixture.ask(&line).status, 200);
        }
        let healthy = fixture.objects();
        damage(&fixture);
        assert_eq!(fixture.pass(), ["corrupt index: delete"], "{what}");
        let mut left = healthy.clone();
        left.remove(&index);
        assert_eq!(fixture.objects(), left, "{what}");
        fixture.restart();
        let answer = fixture.ask(&format!("GET {contents}"));
        assert_eq!(answer.status, 200, "{what}");
        assert_eq!(fixture.objects(), healthy, "{what}");
        assert!(fixture.pass().is_empty(), "{what}");
    }
}

#[test]
fn an_index_whose_layer_is_gone_goes() {
    let fixture = Fixture::new(&[]);
    fixture.push_image("a");
    let healthy = fixture.objects();
    fixture.put(&key::index(&digest(b"other")), b"x", "");
    assert!(fixture.pass().is_empty());
    fixture.host.pass(GRACE);
    assert_eq!(fixture.pass(), ["orphaned index: delete"]);
    assert_eq!(fixture.objects(), healthy);
}

#[test]
fn a_manifest_that_is_wrong_is_set_aside_and_the_next_push_heals_it() {
    let mut fixture = Fixture::new(&[]);
    fixture.push_image("a");
    let manifest = key::manifest(&name("a"), &manifest_digest());
    let healthy = fixture.objects();
    fixture.damage(&manifest, |bytes| flip(bytes));
    assert_eq!(fixture.pass(), ["corrupt manifest: aside"]);
    fixture.restart();
    for reference in ["v1".to_owned(), manifest_digest().to_string()] {
        let line = format!("GET /v2/a/manifests/{reference}");
        assert_eq!(fixture.ask(&line).status, 404);
    }
    let index = json!({
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [descriptor(OCI_MANIFEST, image().to_string().as_bytes())],
    });
    let line = "PUT /v2/a/manifests/all";
    let refused = ask(
        &fixture.registry,
        &Ask::new(line).manifest(OCI_INDEX, &index),
    );
    assert_eq!(refused.status, 404);
    assert_eq!(fixture.pass(), ["missing manifest: nothing"]);
    // It still holds its blobs, however long it takes until somebody pushes it.
    for _ in 0..4 {
        fixture.host.pass(GRACE);
        assert_eq!(fixture.ask("POST /v2/_strata/sweep").status, 200);
    }
    fixture.push_manifest("a", "v1", OCI_MANIFEST, &image());
    assert!(fixture.is_whole("a"));
    assert!(fixture.pass().is_empty());
    assert_eq!(fixture.objects()[&manifest], healthy[&manifest]);
}

#[test]
fn the_media_type_of_a_manifest_is_written_anew() {
    let mut fixture = Fixture::new(&[]);
    fixture.push_image("a");
    let healthy = fixture.objects();
    let manifest = key::manifest(&name("a"), &manifest_digest());
    fixture.put(&manifest, image().to_string().as_bytes(), "");
    assert_eq!(fixture.pass(), ["corrupt manifest: write"]);
    assert_eq!(fixture.objects(), healthy);
    fixture.restart();
    assert!(fixture.is_whole("a"));
}

#[test]
fn a_grant_that_is_missing_is_written_by_keep() {
    let fixture = Fixture::new(&[]);
    fixture.push_image("a");
    let grants = fixture.keys(&key::grants(&digest(LAYER), &name("a")));
    fixture.delete(&grants);
    // A sweep has condemned the blob already.
    let link = key::link(&digest(LAYER), &name("a"));
    fixture.delete(&[link]);
    fixture.host.pass(GRACE);
    assert_eq!(fixture.ask("POST /v2/_strata/sweep").status, 200);
    let mark = fixture.keys("sweep/marks/");
    assert_eq!(mark, [key::mark(&digest(LAYER))]);
    assert_eq!(short(&fixture.step("?dry-run")), ["missing grant: write"]);
    assert_eq!(fixture.pass(), ["missing grant: write"]);
    let lifted = fixture.memory().bytes(&mark[0]).unwrap();
    assert!(String::from_utf8(lifted).unwrap().contains("lifted"));
    for _ in 0..4 {
        assert_eq!(fixture.ask("POST /v2/_strata/sweep").status, 200);
        fixture.host.pass(GRACE);
        assert!(fixture.is_whole("a"));
    }
    assert!(fixture.pass().is_empty());
}

#[test]
fn an_entry_that_grows_old_while_its_manifest_is_looked_for_stays() {
    let fixture = Fixture::new(&[]);
    fixture.push_image("a");
    let subject = manifest_digest();
    let entry = key::referrer(&name("a"), &subject, &digest(b"on its way"), "r");
    fixture.put(&entry, b"", "{}");
    fixture.host.pass(GRACE - Duration::from_secs(1));
    let clock = fixture.host.clone();
    let looked = Rc::<Cell<u64>>::default();
    let (manifest, looks) = (
        key::manifest(&name("a"), &digest(b"on its way")),
        looked.clone(),
    );
    fixture.plan(move |_, operation, key| {
        if operation == "head" && *key == manifest {
            looks.set(looks.get() + 1);
            clock.pass(Duration::from_secs(2));
        }
        Verdict::Done
    });
    assert!(fixture.pass().is_empty());
    assert_eq!(looked.get(), 1);
    assert_eq!(fixture.keys("repositories/a/_referrers/"), [entry]);
    fixture.obey();
    assert_eq!(fixture.pass(), ["orphaned referrer: delete"]);
}

#[test]
fn what_repositories_lack_is_written_or_told() {
    let mut fixture = Fixture::new(&[]);
    fixture.push_image("a");
    let signature = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", CONFIG),
        "layers": [],
        "subject": descriptor(OCI_MANIFEST, image().to_string().as_bytes()),
    });
    fixture.push_manifest("a", "signature", OCI_MANIFEST, &signature);
    let index = json!({
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [descriptor(OCI_MANIFEST, image().to_string().as_bytes())],
    });
    fixture.push_manifest("a", "all", OCI_INDEX, &index);
    let healthy = fixture.objects();
    let referrers = |fixture: &Fixture| {
        fixture
            .ask(&format!("GET /v2/a/referrers/{}", manifest_digest()))
            .body
    };
    let listed = referrers(&fixture);

    // Entries of the catalogue and among referrers.
    let entries = fixture.keys("repositories/a/_referrers/");
    fixture.delete(&[key::catalog(&name("a")), entries[0].clone()]);
    let mut found = fixture.pass();
    found.sort();
    assert_eq!(
        found,
        ["missing referrer: write", "missing repository: write"]
    );
    assert_eq!(referrers(&fixture), listed);
    assert!(fixture.keys("").contains(&key::catalog(&name("a"))));
    let entry = fixture.keys("repositories/a/_referrers/").remove(0);
    fixture.put(&entry, b"", "?");
    assert_eq!(fixture.pass(), ["corrupt referrer: write"]);
    assert_eq!(referrers(&fixture), listed);
    let orphan = key::referrer(&name("a"), &manifest_digest(), &digest(b"none"), "r");
    fixture.put(&orphan, b"", "{}");
    assert!(fixture.pass().is_empty());
    fixture.host.pass(GRACE);
    assert_eq!(fixture.pass(), ["orphaned referrer: delete"]);
    assert_eq!(fixture.objects().len(), healthy.len());

    // A tag says twice what it names.
    let tag = key::tag(&name("a"), &"v1".parse().unwrap());
    let body = fixture.memory().bytes(&tag).unwrap();
    fixture.put(&tag, &body, "?");
    assert_eq!(fixture.pass(), ["corrupt tag: write"]);
    assert_eq!(fixture.objects()[&tag], healthy[&tag]);
    fixture.put(&tag, b"?", "?");
    assert_eq!(fixture.pass(), ["corrupt tag: nothing"]);
    fixture.put(&tag, &healthy[&tag].0, &healthy[&tag].1);

    // What nothing can be derived from is told: by all that refer to it, once.
    let before = fixture.objects();
    let grant = fixture
        .keys(&key::grants(&digest(LAYER), &name("a")))
        .remove(0);
    fixture.put(&grant, b"", "?");
    fixture.delete(&[
        key::manifest(&name("a"), &manifest_digest()),
        key::blob(&digest(CONFIG)),
    ]);
    let mut found = fixture.pass();
    found.sort();
    assert_eq!(
        found,
        [
            "corrupt grant: nothing",
            "missing blob: nothing",
            "missing manifest: nothing"
        ]
    );
    assert!(fixture.objects().len() == before.len() - 2);
    fixture.restart();
    fixture.push_image("a");
    assert!(fixture.is_whole("a"));
}

#[test]
fn what_is_read_wrong_once_or_not_at_all_is_not_wrong() {
    let fixture = Fixture::new(&[]);
    fixture.push_image("a");
    let healthy = fixture.objects();
    let reading = fixture.registry.store().reading.clone();
    let times = Rc::<Cell<u32>>::default();
    let (wrong, counted) = (digest(b"wrong"), times.clone());
    *reading.borrow_mut() = Box::new(move |mut received| {
        counted.set(counted.get() + 1);
        if counted.get() % 2 == 1 {
            received.digest = wrong.clone();
        }
        Ok(received)
    });
    assert!(fixture.pass().is_empty());
    assert_eq!(times.get(), 4);
    assert_eq!(fixture.objects(), healthy);

    // A stream that breaks off ends the step; what breaks off again is passed by, and told.
    *reading.borrow_mut() = Box::new(|_| Err(StoreError::Failed("it broke off".to_owned())));
    let mut statuses = Vec::new();
    let last = loop {
        let answer = fixture.ask("POST /v2/_strata/scrub");
        statuses.push(answer.status);
        if answer.status != 503 || statuses.len() > 8 {
            break json_of(&answer);
        }
    };
    assert_eq!(statuses, [503, 503, 200]);
    assert_eq!(last["pass"]["found"], json!({ "unread blob": 2 }));
    assert_eq!(fixture.objects(), healthy);
    assert!(fixture.is_whole("a"));
}

/// An image with every kind of damage in other blobs, and beside it one that is sound.
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

const DAMAGE: [&str; 6] = [
    "corrupt blob: aside",
    "corrupt blob: aside",
    "corrupt blob: aside",
    "corrupt blob: write",
    "corrupt link: write",
    "missing grant: write",
];

fn sorted(mut findings: Vec<String>) -> Vec<String> {
    findings.sort();
    findings
}

#[test]
fn a_dry_run_tells_all_of_it_and_writes_nothing() {
    let fixture = damaged(&[("STRATA_SUBREQUESTS", "50")]);
    let before = fixture.objects();
    let (mut found, mut cursor, mut steps) = (Vec::new(), String::new(), 0);
    loop {
        let body = fixture.step(&format!("?dry-run{cursor}"));
        assert_eq!(body["dryRun"], true);
        found.extend(short(&body));
        steps += 1;
        match body["cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert!(steps > 1);
    // Whoever does not set it aside meets it again.
    found.retain(|finding| finding != "missing blob: nothing");
    assert_eq!(sorted(found), DAMAGE);
    assert_eq!(fixture.objects(), before);
    assert!(fixture.keys(key::SCRUB_CURSOR).is_empty());
    assert_eq!(sorted(fixture.pass())[..3], DAMAGE[..3]);
}

/// What a scrub without failures makes of what is damaged: what is there, and of what kind.
fn outcome(fixture: &Fixture) -> Vec<(String, String)> {
    let objects = fixture.objects().into_iter();
    // Fresh grants have other names.
    objects
        .filter(|(key, _)| !key.contains("/_grants/"))
        .map(|(key, (_, metadata))| (key, metadata))
        .collect()
}

#[test]
fn a_store_that_fails_anywhere_loses_nothing() {
    let whole = damaged(&[]);
    whole.pass();
    let expected = outcome(&whole);
    let operations = {
        let fixture = damaged(&[]);
        fixture.obey();
        fixture.pass();
        fixture.operations.get()
    };
    for at in 1..=operations {
        for is_kept in [false, true] {
            let mut fixture = damaged(&[]);
            fixture.plan(move |number, _, _| {
                let error = StoreError::Failed("on purpose".to_owned());
                match (number == at, is_kept) {
                    (true, true) => Verdict::Kept(error),
                    (true, false) => Verdict::Lost(error),
                    (false, _) => Verdict::Done,
                }
            });
            fixture.ask("POST /v2/_strata/scrub");
            fixture.obey();
            assert!(fixture.is_whole("a"), "{at} {is_kept}");
            fixture.restart();
            // What was passed over in this pass is met in the next.
            fixture.pass();
            fixture.pass();
            assert_eq!(outcome(&fixture), expected, "{at} {is_kept}");
            assert!(fixture.is_whole("a"), "{at} {is_kept}");
        }
    }
    println!(
        "failed at each of {operations} operations of a scrub, kept and lost: nothing is lost"
    );
}

#[test]
fn a_scrub_that_is_killed_anywhere_goes_on() {
    let whole = damaged(&[]);
    whole.pass();
    let expected = outcome(&whole);
    let mut turns = 1;
    loop {
        let mut fixture = damaged(&[]);
        if !fixture.cut_short("POST /v2/_strata/scrub", turns) {
            break;
        }
        fixture.restart();
        assert!(fixture.is_whole("a"), "{turns}");
        fixture.pass();
        fixture.pass();
        assert_eq!(outcome(&fixture), expected, "{turns}");
        assert!(fixture.is_whole("a"), "{turns}");
        turns += 1;
    }
    assert!(turns > 50, "{turns}");
    println!("killed after each of {turns} turns of a scrub: it goes on");
}

#[test]
fn a_scrub_that_is_slow_never_touches_what_was_stored_anew() {
    for (patched, again) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut turns = 1;
        loop {
            let mut fixture = Fixture::new(&[]);
            fixture.push_image("a");
            for (key, at) in [(key::blob(&digest(CONFIG)), 1)]
                .into_iter()
                .chain(fixture.keys("extents/").into_iter().map(|key| (key, 0)))
            {
                fixture.damage(&key, |bytes| bytes[at] ^= 1);
            }
            let slow_registry =
                registry_on(fixture.registry.store().clone(), fixture.host.clone(), &[]);
            let question = Ask::new("POST /v2/_strata/scrub");
            let ended = {
                let mut slow = pin!(ask_now(&slow_registry, &question));
                let waker = noop_waker();
                let mut context = Context::from_waker(&waker);
                let ended = (0..turns).any(|_| slow.as_mut().poll(&mut context) != Poll::Pending);
                if !ended {
                    // Another scrub, and who pushes the image again, are quicker.
                    fixture.pass();
                    for blob in [LAYER, CONFIG] {
                        let pushed = if patched {
                            fixture.push_patched("b", blob, 3)
                        } else {
                            fixture.push_whole("b", blob)
                        };
                        assert_eq!(pushed, 201);
                    }
                    fixture.push_manifest("b", "v1", OCI_MANIFEST, &image());
                    assert!(fixture.is_whole("b"));
                    if again {
                        fixture.pass();
                    }
                    block_on(slow);
                }
                ended
            };
            if ended {
                break;
            }
            fixture.restart();
            assert!(fixture.is_whole("b"), "{turns} {patched}");
            assert!(fixture.is_whole("a"), "{turns} {patched}");
            // The link of who has not pushed again may say where the bytes were: it is a hint.
            let mut found = fixture.pass();
            found.retain(|finding| finding != "corrupt link: write");
            assert!(found.is_empty(), "{turns} {patched} {found:?}");
            assert!(fixture.pass().is_empty(), "{turns} {patched}");
            turns += 1;
        }
        assert!(turns > 20, "{turns}");
    }
}

#[test]
fn a_pass_takes_the_days_that_it_may() {
    let settings = [("STRATA_SCRUB_DAYS", "10"), ("STRATA_GRACE_HOURS", "8760")];
    let mut fixture = Fixture::new(&settings);
    for number in 0..400_u32 {
        fixture.push_whole("a", &number.to_be_bytes());
    }
    let progress = |fixture: &Fixture| {
        let text = fixture.memory().bytes(key::SCRUB_CURSOR).unwrap();
        let cursor: Value = serde_json::from_slice(&text).unwrap();
        cursor["totals"]["checked"]["blob"].as_u64().unwrap_or(0)
    };
    for day in 0..=10 {
        block_on(fixture.registry.tick());
        let (checked, due) = (progress(&fixture), 40 * day);
        assert!(
            checked.abs_diff(due) < 30,
            "{checked} blobs after {day} days"
        );
        fixture.restart();
        fixture.host.pass(DAY);
    }
    assert_eq!(progress(&fixture), 400);
    // The next one begins when the days are over.
    block_on(fixture.registry.tick());
    assert!(progress(&fixture) < 100);

    let never = Fixture::new(&[("STRATA_SCRUB_DAYS", "0")]);
    never.push_whole("a", LAYER);
    for _ in 0..3 {
        block_on(never.registry.tick());
        never.host.pass(400 * DAY);
    }
    assert!(never.keys(key::SCRUB_CURSOR).is_empty());
    assert_eq!(never.step("")["finished"], true);
}

#[test]
fn a_pass_goes_on_from_where_a_step_ended_and_costs_what_it_says() {
    let settings = [
        ("STRATA_SUBREQUESTS", "200"),
        ("STRATA_GRACE_HOURS", "8760"),
    ];
    let mut fixture = Fixture::new(&settings);
    for number in 0..1_000_u32 {
        fixture.push_whole("a", &number.to_be_bytes());
    }
    for blobs in (0..1_000_u32).collect::<Vec<_>>().chunks(10) {
        let layers: Vec<Value> = blobs
            .iter()
            .map(|number| descriptor("application/octet-stream", &number.to_be_bytes()))
            .collect();
        let manifest = json!({ "schemaVersion": 2, "mediaType": OCI_MANIFEST,
            "config": layers[0], "layers": layers[1..] });
        fixture.push_manifest("a", &format!("v{}", blobs[0]), OCI_MANIFEST, &manifest);
    }
    let damaged: Vec<u32> = (0..1_000).step_by(100).collect();
    for number in &damaged {
        fixture.damage(&key::blob(&digest(&number.to_be_bytes())), |bytes| {
            flip(bytes);
        });
    }
    let (mut operations, mut steps, mut found) = (0, 0, 0);
    let body = loop {
        let body = fixture.step("");
        operations += body["operations"].as_u64().unwrap();
        assert!(body["operations"].as_u64().unwrap() <= 200);
        found += short(&body)
            .iter()
            .filter(|finding| *finding == "corrupt blob: aside")
            .count();
        steps += 1;
        // Each step is another isolate's.
        fixture.restart();
        if body["finished"] == true {
            break body;
        }
    };
    assert_eq!(found, damaged.len());
    assert_eq!(
        body["pass"]["checked"],
        json!({ "blob": 1_000, "grant": 2_000, "link": 1_000, "manifest": 100, "tag": 100 })
    );
    println!(
        "1,000 blobs of one link and 100 manifests, 10 of them damaged: {operations} operations in {steps} steps"
    );
    // A read of each blob, of each link, of each manifest; listings again with each step; and what is damaged.
    assert!(operations < 2_300 + 5 * steps, "{operations}");
}

#[test]
fn one_blob_is_looked_at_by_itself() {
    let fixture = damaged(&[]);
    let at = |blob: &[u8], query: &str| {
        let line = format!("POST /v2/_strata/scrub?digest={}{query}", digest(blob));
        fixture.ask(&line)
    };
    assert_eq!(at(b"nothing", "").status, 404);
    let sound = json_of(&at(LAYER, ""));
    assert_eq!(
        (&sound["count"], &sound["finished"]),
        (&json!(0), &json!(true))
    );
    assert_eq!(sound["checked"]["blob"], 1);
    let told = json_of(&at(b"whole", "&dry-run"));
    assert_eq!(short(&told), ["corrupt blob: aside"]);
    assert_eq!(short(&json_of(&at(b"whole", ""))), ["corrupt blob: aside"]);
    assert_eq!(fixture.push_whole("c", b"whole"), 201);
    assert!(short(&json_of(&at(b"whole", ""))).is_empty());
    assert!(fixture.keys(key::SCRUB_CURSOR).is_empty());
    for wrong in [
        "?digest=x",
        "?cursor=x",
        "?cursor=x&dry-run",
        "?dry-run=perhaps",
    ] {
        let answer = fixture.ask(&format!("POST /v2/_strata/scrub{wrong}"));
        assert_eq!(answer.status, 400, "{wrong}");
    }
    assert_eq!(at(LAYER, "&cursor=x&dry-run").status, 400);
}

#[test]
fn what_is_mirrored_is_fetched_again() {
    let upstream = registry_of(
        Watched::new(Memory::default(), |_, _| Verdict::Done),
        &[("STRATA_ANONYMOUS_PULL", "true")],
    );
    for blob in [LAYER, CONFIG] {
        let line = format!("POST /v2/a/blobs/uploads/?digest={}", digest(blob));
        assert_eq!(ask(&upstream, &Ask::new(&line).body(blob)).status, 201);
    }
    let manifest = Ask::new("PUT /v2/a/manifests/v1").manifest(OCI_MANIFEST, &image());
    assert_eq!(ask(&upstream, &manifest).status, 201);
    let mirrors = Mirrors::of(move |question| answer(&upstream, question));
    let mirror = mirrors.mirror(&json!({}));
    let blob = format!("/v2/up.example/a/blobs/{}", digest(LAYER));
    let manifest = format!("/v2/up.example/a/manifests/{}", manifest_digest());
    let scrub = |registry: &TestRegistry<Watched>| {
        let answer = ask(registry, &Ask::new("POST /v2/_strata/scrub"));
        assert_eq!(answer.status, 200);
        short(&json_of(&answer))
    };
    assert_eq!(get(&mirror, &manifest).status, 200);
    // Blobs come when they are asked for: that they are not there is no damage.
    assert!(scrub(&mirror).is_empty());
    assert_eq!(get(&mirror, &blob).body, LAYER);
    assert!(scrub(&mirror).is_empty());
    mirrors.asked();

    let memory = mirrors.store.memory.clone();
    let healthy: Vec<Option<Vec<u8>>> = [
        key::blob(&digest(LAYER)),
        key::manifest(&name("up.example/a"), &manifest_digest()),
    ]
    .iter()
    .map(|key| {
        let bytes = memory.bytes(key).unwrap();
        let mut wrong = bytes.clone();
        flip(&mut wrong);
        let metadata = block_on(memory.head(key)).unwrap().unwrap().metadata;
        let options = PutOptions {
            metadata: &metadata,
            ..PutOptions::default()
        };
        block_on(memory.put(key, Content::Bytes(wrong), options)).unwrap();
        Some(bytes)
    })
    .collect();
    let other = mirrors.mirror(&json!({}));
    assert_eq!(
        scrub(&other),
        ["corrupt blob: aside", "corrupt manifest: aside"]
    );
    assert!(mirrors.asked().is_empty());
    for registry in [&mirror, &other] {
        assert_eq!(get(registry, &blob).body, LAYER);
        assert_eq!(get(registry, &manifest).status, 200);
    }
    let asked = mirrors.asked();
    assert!(
        asked.contains(&format!("GET /v2/a/blobs/{}", digest(LAYER))),
        "{asked:?}"
    );
    let after = [
        memory.bytes(&key::blob(&digest(LAYER))),
        memory.bytes(&key::manifest(&name("up.example/a"), &manifest_digest())),
    ];
    assert_eq!(after.to_vec(), healthy);
    assert!(scrub(&other).is_empty());
}

#[test]
fn a_blob_that_takes_too_long_holds_up_nothing_else() {
    let fixture = Fixture::new(&[]);
    fixture.push_image("a");
    let slow = vec![7; 300 * 1024];
    fixture.push_whole("a", &slow);
    let reading = fixture.registry.store().reading.clone();
    // The platform ends a step that hashes it.
    let line = "POST /v2/_strata/scrub";
    let is_reading = Rc::<Cell<bool>>::default();
    let (noted, length) = (is_reading.clone(), slow.len() as u64);
    *reading.borrow_mut() = Box::new(move |received| {
        noted.set(noted.get() || received.size == length);
        Ok(received)
    });
    for _ in 0..2 {
        is_reading.set(false);
        let question = Ask::new(line);
        let mut asked = pin!(ask_now(&fixture.registry, &question));
        let waker = noop_waker();
        let mut context = Context::from_waker(&waker);
        while !is_reading.get() {
            assert_eq!(asked.as_mut().poll(&mut context), Poll::Pending);
        }
        fixture.host.pass(Duration::from_secs(300));
    }
    is_reading.set(false);
    let found = fixture.pass();
    assert_eq!(found, ["unread blob: nothing"]);
    assert!(!is_reading.get());
    // In the next pass it is tried again.
    assert!(fixture.pass().is_empty());
    assert!(is_reading.get());
}
