//! The removal protocol in pushes: the order of writes and reads, and the writes that a mark or a
//! clock forbids.

use std::{cell::RefCell, rc::Rc, time::Duration};

use pollster::block_on;
use serde_json::{Value, json};
use strata::{
    manifest::OCI_MANIFEST,
    memory::MemoryObjects,
    store::{Content, Objects as _, PutOptions, StoreError},
};
use strata_support::{
    Answer, Ask, CONFIG, LAYER, TestHost, TestRegistry, ask, digest, image, key, registry_on,
    watched::{Verdict, Watched},
};

const GRACE: Duration = Duration::from_secs(24 * 3_600);

/// A registry whose store logs each operation with the kind of its key; for a session, with the
/// step.
struct Fixture {
    registry: TestRegistry<Watched>,
    log: Rc<RefCell<Vec<String>>>,
}

impl Fixture {
    /// A registry on which no operation takes time.
    fn new() -> Self {
        Self::slow("", 0)
    }

    /// A registry that loses half the grace period at the operation of this number among those with
    /// the prefix `slow`.
    fn slow(slow: &'static str, mut number: usize) -> Self {
        let (host, log) = (TestHost::default(), Rc::<RefCell<Vec<String>>>::default());
        let (clock, written) = (host.clone(), log.clone());
        let store = Watched::new(MemoryObjects::default(), move |operation, key| {
            if format!("{operation} {key}").starts_with(slow) {
                number = number.wrapping_sub(1);
                if number == 0 {
                    clock.pass(GRACE / 2);
                }
            }
            let kind = match key.split('/').next().unwrap_or_default() {
                "uploads" => key.rsplit("/_").next().unwrap_or_default(),
                "refs" if key.ends_with("/_link") => "link",
                "refs" => "grant",
                kind => kind,
            };
            written.borrow_mut().push(format!("{operation} {kind}"));
            Verdict::Done
        });
        Self {
            registry: registry_on(store, host, &[]),
            log,
        }
    }

    fn ask(&self, request: &Ask) -> Answer {
        self.log.borrow_mut().clear();
        ask(&self.registry, request)
    }

    fn push_whole(&self, blob: &[u8]) -> Answer {
        self.ask(
            &Ask::new(&format!(
                "POST /v2/a/blobs/uploads/?digest={}",
                digest(blob)
            ))
            .body(blob),
        )
    }

    /// Pushes a blob by `PATCH`; returns the answer to the closing request.
    fn push_patched(&self, blob: &[u8]) -> Answer {
        let start = self.ask(&Ask::new("POST /v2/a/blobs/uploads/"));
        let chunk = self.ask(&Ask::new(&format!("PATCH {}", start.location())).stream(blob));
        if chunk.status != 202 {
            return chunk;
        }
        self.ask(&Ask::new(&format!(
            "PUT {}&digest={}",
            chunk.location(),
            digest(blob)
        )))
    }

    fn push_image(&self) -> Answer {
        for blob in [LAYER, CONFIG] {
            assert_eq!(self.push_whole(blob).status, 201);
        }
        self.push_manifest()
    }

    fn push_manifest(&self) -> Answer {
        self.ask(&Ask::new("PUT /v2/a/manifests/v1").manifest(OCI_MANIFEST, &image()))
    }

    fn log(&self) -> Vec<String> {
        self.log.borrow().clone()
    }

    /// Whether the last of one operation comes before the first of another in the log.
    fn last_before_first(&self, earlier: &str, later: &str) -> bool {
        let log = self.log.borrow();
        let last = log.iter().rposition(|entry| entry == earlier);
        let first = log.iter().position(|entry| entry == later);
        matches!((last, first), (Some(last), Some(first)) if last < first)
    }

    fn memory(&self) -> &MemoryObjects {
        &self.registry.store().memory
    }

    fn mark(&self, blob: &[u8], state: &str) {
        let mark = json!({ "state": state, "time": 0, "nonce": "n" }).to_string();
        let content = Content::Bytes(mark.into_bytes());
        block_on(
            self.memory()
                .put(&key::mark(&digest(blob)), content, PutOptions::default()),
        )
        .unwrap();
    }

    fn mark_of(&self, blob: &[u8]) -> Value {
        serde_json::from_slice(&self.memory().bytes(&key::mark(&digest(blob))).unwrap()).unwrap()
    }

    fn has(&self, prefix: &str) -> bool {
        self.memory()
            .keys()
            .iter()
            .any(|key| key.starts_with(prefix))
    }
}

#[test]
fn a_whole_push_grants_then_reads_the_mark_then_writes_a_blob() {
    let fixture = Fixture::new();
    assert_eq!(fixture.push_whole(LAYER).status, 201);
    assert_eq!(
        fixture.log(),
        [
            "head blobs",
            "put grant",
            "head sweep",
            "put blobs",
            "put link"
        ]
    );
}

#[test]
fn a_push_of_a_stored_blob_grants_before_it_checks_the_blob() {
    let fixture = Fixture::new();
    assert_eq!(fixture.push_whole(LAYER).status, 201);
    assert_eq!(fixture.push_whole(LAYER).status, 201);
    assert_eq!(
        fixture.log(),
        [
            "head blobs",
            "put grant",
            "head sweep",
            "head blobs",
            "put link"
        ]
    );
}

#[test]
fn a_patched_push_closes_then_grants_then_reads_mark_and_blob() {
    let fixture = Fixture::new();
    assert_eq!(fixture.push_patched(LAYER).status, 201);
    let steps = [
        // Closing, which is why the session need not be read, and beside it the grant of KEEP.
        "put 00002",
        "put grant",
        // The rest of KEEP, and the record, whose condition is the look.
        "head sweep",
        "put blobs",
        // Done.
        "put 00003",
        "put link",
    ];
    assert_eq!(fixture.log(), steps);
}

#[test]
fn a_manifest_is_stored_after_rights_grants_marks_and_blobs() {
    let fixture = Fixture::new();
    assert_eq!(fixture.push_image().status, 201);
    assert!(
        fixture.last_before_first("get link", "put grant"),
        "{:?}",
        fixture.log()
    );
    assert!(
        fixture.last_before_first("put grant", "list sweep"),
        "{:?}",
        fixture.log()
    );
    assert!(
        fixture.last_before_first("list sweep", "head blobs"),
        "{:?}",
        fixture.log()
    );
    assert!(
        fixture.last_before_first("head blobs", "put repositories"),
        "{:?}",
        fixture.log()
    );
    let grants = |log: &[String]| log.iter().filter(|entry| *entry == "put grant").count();
    assert_eq!(grants(&fixture.log()), 2);
    assert_eq!(fixture.push_manifest().status, 201);
    assert_eq!(
        grants(&fixture.log()),
        2,
        "fresh grants, even where the manifest is stored"
    );
}

#[test]
fn a_push_lifts_the_mark_of_a_condemned_blob() {
    for push in [Fixture::push_whole, Fixture::push_patched] {
        let fixture = Fixture::new();
        fixture.mark(LAYER, "condemned");
        assert_eq!(push(&fixture, LAYER).status, 201);
        assert_eq!(fixture.mark_of(LAYER)["state"], "lifted");
        assert_ne!(fixture.mark_of(LAYER)["nonce"], "n");
    }
    let fixture = Fixture::new();
    assert_eq!(fixture.push_image().status, 201);
    fixture.mark(LAYER, "condemned");
    fixture.mark(CONFIG, "lifted");
    assert_eq!(fixture.push_manifest().status, 201);
    assert_eq!(fixture.mark_of(LAYER)["state"], "lifted");
    assert_eq!(
        fixture.mark_of(CONFIG)["nonce"],
        "n",
        "what is lifted is left alone"
    );
}

/// A lifted mark stays with its blob, and costs later pushes nothing.
#[test]
fn a_lifted_mark_costs_later_pushes_nothing() {
    let fixture = Fixture::new();
    assert_eq!(fixture.push_image().status, 201);
    assert_eq!(fixture.push_manifest().status, 201);
    let usual = fixture.log();
    for blob in [LAYER, CONFIG] {
        fixture.mark(blob, "condemned");
    }
    assert_eq!(fixture.push_manifest().status, 201);
    assert_eq!(fixture.log().len(), usual.len() + 2 * 2);
    assert_eq!(fixture.push_manifest().status, 201);
    assert_eq!(fixture.log().len(), usual.len());
    assert_eq!(fixture.push_whole(LAYER).status, 201);
    assert!(!fixture.log().contains(&"get sweep".to_owned()));
    assert_eq!(fixture.mark_of(LAYER)["state"], "lifted");
}

#[test]
fn a_push_of_a_blob_being_deleted_must_be_retried() {
    for push in [Fixture::push_whole, Fixture::push_patched] {
        let fixture = Fixture::new();
        fixture.mark(LAYER, "deleting");
        let answer = push(&fixture, LAYER);
        assert_eq!(
            (answer.status, answer.header("retry-after")),
            (503, Some("1"))
        );
        assert!(
            String::from_utf8_lossy(&answer.body)
                .contains("is being removed; push it again in a moment")
        );
        assert!(!fixture.has("blobs/"));
        assert_eq!(fixture.mark_of(LAYER)["nonce"], "n");
    }
    let fixture = Fixture::new();
    assert_eq!(fixture.push_image().status, 201);
    fixture.mark(LAYER, "deleting");
    let answer = fixture.ask(&Ask::new("PUT /v2/a/manifests/v2").manifest(OCI_MANIFEST, &image()));
    assert_eq!(answer.status, 503);
    assert!(!fixture.has("repositories/a/_tags/v2"));
}

#[test]
fn a_manifest_is_not_stored_if_a_linked_blob_is_absent() {
    let fixture = Fixture::new();
    for blob in [LAYER, CONFIG] {
        assert_eq!(fixture.push_whole(blob).status, 201);
    }
    // The link still says that the blob is readable; the look after KEEP finds it absent.
    block_on(fixture.memory().delete(&[key::blob(&digest(LAYER))])).unwrap();
    let answer = fixture.push_manifest();
    assert_eq!(answer.status, 404);
    assert!(String::from_utf8_lossy(&answer.body).contains("MANIFEST_BLOB_UNKNOWN"));
    assert!(!fixture.has("repositories/"));
}

/// A client that begins a push before another client's, and ends it after that one, may send any
/// bytes.
#[test]
fn a_push_that_loses_a_race_gives_a_right_only_if_verified() {
    let wrong = vec![b'w'; LAYER.len()];
    for (looks_first, bytes, status, is_readable) in [
        (false, LAYER, 201, true),
        (false, &wrong, 400, false),
        (true, LAYER, 503, false),
        (true, &wrong, 503, false),
    ] {
        let other = Rc::<RefCell<Option<Rc<MemoryObjects>>>>::default();
        let memory = other.clone();
        let store = Watched::new(MemoryObjects::default(), move |operation, key| {
            if operation == "put"
                && key.starts_with("blobs/")
                && let Some(memory) = memory.take()
            {
                let options = PutOptions {
                    metadata: r#"{"kind":"bytes"}"#,
                    ..PutOptions::default()
                };
                block_on(memory.put(key, Content::Bytes(LAYER.to_vec()), options)).unwrap();
            }
            Verdict::Done
        });
        store.looks_first.set(looks_first);
        other.replace(Some(store.memory.clone()));
        let registry = registry_on(store, TestHost::default(), &[]);
        let push = format!("POST /v2/a/blobs/uploads/?digest={}", digest(LAYER));
        let answer = ask(&registry, &Ask::new(&push).body(bytes));
        assert_eq!(answer.status, status, "{looks_first}");
        if status == 503 {
            assert_eq!(answer.header("retry-after"), Some("1"));
            let said = String::from_utf8_lossy(&answer.body);
            assert!(
                said.contains("by another client at the same moment"),
                "{said}"
            );
            assert!(registry.store().keys("refs/").is_empty());
        }
        let pull = format!("GET /v2/a/blobs/{}", digest(LAYER));
        let pulled = ask(&registry, &Ask::new(&pull)).status == 200;
        assert_eq!(pulled, is_readable, "{looks_first}");
        // A client with the right bytes pushes them again.
        assert_eq!(ask(&registry, &Ask::new(&push).body(LAYER)).status, 201);
        assert_eq!(ask(&registry, &Ask::new(&pull)).status, 200);
    }
}

/// The steps of the first upload.
const STEPS: [&str; 4] = [
    "uploads/00000000000000000000000000000001/a/_00000",
    "uploads/00000000000000000000000000000001/a/_00001",
    "uploads/00000000000000000000000000000001/a/_00002",
    "uploads/00000000000000000000000000000001/a/_00003",
];

#[test]
fn no_write_begins_once_half_the_grace_period_has_passed() {
    // Each push, the operation during which time passes, and the keys that must not be written
    // after it.
    type Row = (
        &'static str,
        fn(&Fixture) -> Answer,
        &'static str,
        usize,
        &'static str,
    );
    let image: fn(&Fixture) -> Answer = Fixture::push_image;
    let patched: fn(&Fixture) -> Answer = |fixture| fixture.push_patched(LAYER);
    let rows: [Row; 8] = [
        (
            "manifest, before it is stored",
            image,
            "head catalog",
            1,
            "repositories/",
        ),
        (
            "manifest, before marks are looked at",
            image,
            "list sweep",
            1,
            "repositories/",
        ),
        (
            "manifest, before it is tagged",
            image,
            "put repositories",
            1,
            "repositories/a/_tags/",
        ),
        (
            "chunk, after the session was read",
            patched,
            "head uploads",
            2,
            STEPS[1],
        ),
        (
            "chunk, after its body was received",
            patched,
            "receive extents",
            1,
            STEPS[1],
        ),
        ("closing, after the grant", patched, "put refs", 1, "blobs/"),
        (
            "closing, before the record",
            patched,
            "head sweep",
            1,
            "blobs/",
        ),
        (
            "closing, after the record",
            patched,
            "put blobs",
            1,
            STEPS[3],
        ),
    ];
    for (what, push, slow, number, forbidden) in rows {
        let fixture = Fixture::slow(slow, number);
        let answer = push(&fixture);
        assert_eq!(
            answer.status,
            503,
            "{what}: {}",
            String::from_utf8_lossy(&answer.body)
        );
        assert!(
            String::from_utf8_lossy(&answer.body).contains("half the grace period"),
            "{what}"
        );
        assert!(
            !fixture.has(forbidden),
            "{what}: {:?}",
            fixture.memory().keys()
        );
    }
}

#[test]
fn a_store_failure_is_logged_and_not_shown_to_the_client() {
    let host = TestHost::default();
    let store = Watched::new(MemoryObjects::default(), |_, _| {
        Verdict::Lost(StoreError::Failed("secret of the house".to_owned()))
    });
    let registry = registry_on(store, host.clone(), &[]);
    let answer = ask(&registry, &Ask::new("GET /v2/a/tags/list"));
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (503, Some("1"))
    );
    assert!(!String::from_utf8_lossy(&answer.body).contains("secret of the house"));
    assert!(
        host.log
            .borrow()
            .iter()
            .any(|line| line.contains("secret of the house"))
    );
}
