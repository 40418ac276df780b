//! A store that fails at each operation of each kind of push, with and without keeping the write.
//! The same push repeated succeeds, and every object that a stored name leads to is there.

use std::{cell::Cell, rc::Rc};

use pollster::block_on;
use serde_json::{Value, json};
use strata::{
    digest::Digest,
    manifest::{OCI_INDEX, OCI_MANIFEST},
    memory::{MemoryBody, MemoryBytes, MemoryObjects},
    store::{Condition, Content, ListOptions, Objects, PutOptions, StoreError, retry::Retry},
};
use strata_support::{
    Ask, CONFIG, LAYER, TestHost, TestRegistry, ask, descriptor, digest, image, registry_on,
    watched::{Verdict, Watched},
};

/// A push: requests that each follow from the answer before. Returns whether all succeeded.
type Push<S> = fn(&TestRegistry<S>) -> bool;

fn went_well<S: Objects<Body = MemoryBody, Bytes = MemoryBytes>>(
    registry: &TestRegistry<S>,
    request: &Ask,
) -> bool {
    let answer = ask(registry, request);
    assert!(
        answer.status < 500 || answer.header("retry-after").is_some(),
        "{request:?}: {answer:?}"
    );
    answer.status < 300
}

fn whole<S: Objects<Body = MemoryBody, Bytes = MemoryBytes>>(registry: &TestRegistry<S>) -> bool {
    went_well(
        registry,
        &Ask::new(&format!(
            "POST /v2/a/blobs/uploads/?digest={}",
            digest(LAYER)
        ))
        .body(LAYER),
    )
}

fn in_two<S: Objects<Body = MemoryBody, Bytes = MemoryBytes>>(registry: &TestRegistry<S>) -> bool {
    let start = ask(registry, &Ask::new("POST /v2/a/blobs/uploads/"));
    let Some(location) = start.header("location") else {
        return false;
    };
    went_well(
        registry,
        &Ask::new(&format!("PUT {location}?digest={}", digest(LAYER))).body(LAYER),
    )
}

fn patched<S: Objects<Body = MemoryBody, Bytes = MemoryBytes>>(registry: &TestRegistry<S>) -> bool {
    chunked_by(registry, LAYER.len())
}

fn chunked<S: Objects<Body = MemoryBody, Bytes = MemoryBytes>>(registry: &TestRegistry<S>) -> bool {
    chunked_by(registry, 4)
}

fn chunked_by<S: Objects<Body = MemoryBody, Bytes = MemoryBytes>>(
    registry: &TestRegistry<S>,
    length: usize,
) -> bool {
    let mut last = ask(registry, &Ask::new("POST /v2/a/blobs/uploads/"));
    for chunk in LAYER.chunks(length) {
        let Some(location) = last.header("location") else {
            return false;
        };
        last = ask(
            registry,
            &Ask::new(&format!("PATCH {location}")).stream(chunk),
        );
    }
    let Some(location) = last.header("location") else {
        return false;
    };
    let separator = if location.contains('?') { '&' } else { '?' };
    went_well(
        registry,
        &Ask::new(&format!(
            "PUT {location}{separator}digest={}",
            digest(LAYER)
        )),
    )
}

fn mounted<S: Objects<Body = MemoryBody, Bytes = MemoryBytes>>(registry: &TestRegistry<S>) -> bool {
    let other = format!("POST /v2/other/blobs/uploads/?digest={}", digest(LAYER));
    if !went_well(registry, &Ask::new(&other).body(LAYER)) {
        return false;
    }
    let mount = Ask::new(&format!(
        "POST /v2/a/blobs/uploads/?mount={}&from=other",
        digest(LAYER)
    ));
    ask(registry, &mount).status == 201
}

fn config<S: Objects<Body = MemoryBody, Bytes = MemoryBytes>>(registry: &TestRegistry<S>) -> bool {
    went_well(
        registry,
        &Ask::new(&format!(
            "POST /v2/a/blobs/uploads/?digest={}",
            digest(CONFIG)
        ))
        .body(CONFIG),
    )
}

fn tagged<S: Objects<Body = MemoryBody, Bytes = MemoryBytes>>(registry: &TestRegistry<S>) -> bool {
    whole(registry)
        && config(registry)
        && went_well(
            registry,
            &Ask::new("PUT /v2/a/manifests/v1").manifest(OCI_MANIFEST, &image()),
        )
}

fn indexed<S: Objects<Body = MemoryBody, Bytes = MemoryBytes>>(registry: &TestRegistry<S>) -> bool {
    let manifest = image();
    let target = digest(manifest.to_string().as_bytes());
    let index = json!({
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [descriptor(OCI_MANIFEST, manifest.to_string().as_bytes())],
        "subject": descriptor(OCI_MANIFEST, b"elsewhere"),
    });
    patched(registry)
        && config(registry)
        && went_well(
            registry,
            &Ask::new(&format!("PUT /v2/a/manifests/{target}")).manifest(OCI_MANIFEST, &manifest),
        )
        && went_well(
            registry,
            &Ask::new("PUT /v2/a/manifests/all").manifest(OCI_INDEX, &index),
        )
}

/// Deletes the image that it pushed, and pushes it again.
fn replaced<S: Objects<Body = MemoryBody, Bytes = MemoryBytes>>(
    registry: &TestRegistry<S>,
) -> bool {
    let target = digest(image().to_string().as_bytes());
    if !tagged(registry) {
        return false;
    }
    for request in [
        "DELETE /v2/a/manifests/v1".to_owned(),
        format!("DELETE /v2/a/manifests/{target}"),
        format!("DELETE /v2/a/blobs/{}", digest(LAYER)),
    ] {
        let status = ask(registry, &Ask::new(&request)).status;
        // An object that is gone already may have been deleted by the try before.
        if status != 202 && status != 404 {
            return false;
        }
    }
    tagged(registry)
}

/// Every named object is there, with the bytes that its name says.
fn check_whole(what: &str, memory: &MemoryObjects) {
    let text = |key: &str| {
        memory
            .bytes(key)
            .unwrap_or_else(|| panic!("{what}: {key} is missing"))
    };
    let metadata = |key: &str| -> Value {
        let head = block_on(Objects::head(memory, key)).unwrap();
        serde_json::from_str(
            &head
                .unwrap_or_else(|| panic!("{what}: {key} is missing"))
                .metadata,
        )
        .unwrap()
    };
    let blob = |digest: &str| {
        let (algorithm, encoded) = digest.split_once(':').unwrap();
        format!("blobs/{algorithm}/{}/{encoded}", &encoded[..2])
    };
    for key in memory.keys() {
        let parts: Vec<&str> = key.split('/').collect();
        match parts[0] {
            "blobs" => {
                let bytes = if metadata(&key)["kind"] == "bytes" {
                    text(&key)
                } else {
                    let record: Value = serde_json::from_slice(&text(&key)).unwrap();
                    let extents = record["extents"].as_array().unwrap();
                    extents
                        .iter()
                        .flat_map(|extent| {
                            text(&format!("extents/{}", extent["key"].as_str().unwrap()))
                        })
                        .collect()
                };
                let named: Digest = format!("{}:{}", parts[1], parts[3]).parse().unwrap();
                assert_eq!(named.algorithm().digest(&bytes), named, "{what}");
            }
            "repositories" if key.contains("/_manifests/") => {
                let manifest: Value = serde_json::from_slice(&text(&key)).unwrap();
                let layers = manifest["layers"].as_array().cloned().unwrap_or_default();
                for descriptor in layers.iter().chain(manifest.get("config")) {
                    text(&blob(descriptor["digest"].as_str().unwrap()));
                }
            }
            "repositories" if key.contains("/_tags/") && metadata(&key)["kind"] == "manifest" => {
                let named = metadata(&key)["digest"].as_str().unwrap().replace(':', "/");
                text(&format!("repositories/{}/_manifests/{named}", parts[1]));
            }
            _ => {}
        }
    }
}

/// A store that fails once, at the operation of this number; and the number of operations that were
/// done.
fn failing(at: usize, verdict: Verdict) -> (Watched, Rc<Cell<usize>>) {
    let count = Rc::new(Cell::new(0));
    let counter = count.clone();
    let watched = Watched::new(MemoryObjects::default(), move |_, _| {
        counter.set(counter.get() + 1);
        if counter.get() == at {
            verdict.clone()
        } else {
            Verdict::Done
        }
    });
    (watched, count)
}

const PUSHES: [(&str, Push<Watched>); 8] = [
    ("whole", whole),
    ("in two", in_two),
    ("patched", patched),
    ("chunked", chunked),
    ("mounted", mounted),
    ("tagged", tagged),
    ("indexed", indexed),
    ("replaced", replaced),
];

#[test]
fn a_push_repeated_after_a_store_failure_succeeds() {
    let error = StoreError::Failed("on purpose".to_owned());
    for (what, push) in PUSHES {
        let (store, count) = failing(0, Verdict::Done);
        assert!(
            push(&registry_on(store, TestHost::default(), &[])),
            "{what}"
        );
        let operations = count.get();
        let mut failures = 0;
        for at in 1..=operations {
            for verdict in [Verdict::Lost(error.clone()), Verdict::Kept(error.clone())] {
                let what = format!("{what}, {verdict:?} at {at} of {operations}");
                let (store, _) = failing(at, verdict);
                let registry = registry_on(store, TestHost::default(), &[]);
                let first = push(&registry);
                failures += usize::from(!first);
                check_whole(&what, &registry.store().memory);
                assert!(push(&registry), "{what}: the same push repeated");
                check_whole(&what, &registry.store().memory);
                let pulled = ask(
                    &registry,
                    &Ask::new(&format!("GET /v2/a/blobs/{}", digest(LAYER))),
                );
                assert_eq!(pulled.body, LAYER, "{what}");
            }
        }
        assert!(
            failures > operations / 2,
            "{what}: {failures} failures were seen by the client"
        );
    }
}

#[test]
fn one_failure_of_the_store_does_not_fail_a_push() {
    const RETRIED: [(&str, Push<Retry<Watched, TestHost>>); 6] = [
        ("in two", in_two),
        ("patched", patched),
        ("mounted", mounted),
        ("tagged", tagged),
        ("indexed", indexed),
        ("replaced", replaced),
    ];
    let why = || "on purpose".to_owned();
    for (what, push) in RETRIED {
        for verdict in [
            Verdict::Lost(StoreError::Throttled(why())),
            Verdict::Lost(StoreError::Failed(why())),
            Verdict::Kept(StoreError::Failed(why())),
            Verdict::Never,
        ] {
            for at in 1..60 {
                let host = TestHost::default();
                let count = Rc::new(Cell::new(0));
                let counter = count.clone();
                let given = verdict.clone();
                let is_change = Rc::new(Cell::new(false));
                let changes = is_change.clone();
                let store = Watched::new(MemoryObjects::default(), move |operation, key| {
                    counter.set(counter.get() + 1);
                    if counter.get() == at {
                        changes.set(matches!(operation, "put" | "delete"));
                    }
                    // A stream can't be read twice: the client gets the error. The store itself
                    // retries the parts of a stream that it receives.
                    let is_stream = operation == "put" && key.starts_with("blobs/");
                    let is_seen = matches!(given, Verdict::Kept(_)) && is_stream;
                    if counter.get() == at && (is_seen || !is_stream && operation != "receive") {
                        return given.clone();
                    }
                    Verdict::Done
                });
                let registry = registry_on(Retry::new(store, host.clone()), host, &[]);
                // A change that the store never answers may be done later, so it is not repeated.
                // The client repeats the push.
                let may_fail = is_change.clone();
                let went_well = push(&registry)
                    || matches!(verdict, Verdict::Never) && may_fail.get() && push(&registry);
                assert!(went_well, "{what}, {verdict:?} at {at}");
                if count.get() < at {
                    break;
                }
            }
        }
    }
}

#[test]
fn a_failing_store_is_given_up_after_four_attempts() {
    let (host, count) = (TestHost::default(), Rc::new(Cell::new(0)));
    let counter = count.clone();
    let store = Watched::new(MemoryObjects::default(), move |_, _| {
        counter.set(counter.get() + 1);
        Verdict::Lost(StoreError::Failed("on purpose".to_owned()))
    });
    let start = host.now.get();
    let registry = registry_on(Retry::new(store, host.clone()), host.clone(), &[]);
    let answer = ask(&registry, &Ask::new("GET /v2/a/tags/list"));
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (503, Some("1"))
    );
    assert_eq!(count.get(), 4);
    let waited = host.now.get().since(start).as_millis();
    assert!(
        (850..2_550).contains(&waited),
        "{waited} ms: 1,700 and a half of it"
    );
}

/// Starts an upload on a store with these outcomes of writing its first step. Returns the status,
/// and the number of those writes.
fn start(outcomes: &'static [fn() -> Verdict]) -> (u16, usize) {
    let (host, count) = (TestHost::default(), Rc::new(Cell::new(0)));
    let counter = count.clone();
    let store = Watched::new(MemoryObjects::default(), move |operation, key| {
        if operation == "put" && key.starts_with("uploads/") {
            counter.set(counter.get() + 1);
            return outcomes
                .get(counter.get() - 1)
                .map_or(Verdict::Done, |outcome| outcome());
        }
        Verdict::Done
    });
    let registry = registry_on(Retry::new(store, host.clone()), host, &[]);
    let answer = ask(&registry, &Ask::new("POST /v2/a/blobs/uploads/"));
    (answer.status, count.get())
}

fn lost() -> Verdict {
    Verdict::Lost(StoreError::Failed("on purpose".to_owned()))
}

fn kept() -> Verdict {
    Verdict::Kept(StoreError::Failed("on purpose".to_owned()))
}

#[test]
fn a_conditional_write_that_was_kept_is_known_by_its_stamp() {
    assert_eq!(start(&[lost]), (202, 2));
    assert_eq!(start(&[kept]), (202, 2));
    assert_eq!(start(&[kept, lost, lost, lost]), (202, 4));
    assert_eq!(start(&[lost, lost, lost, kept]), (202, 4));
    assert_eq!(start(&[lost, lost, lost, lost]), (503, 4));
}

#[test]
fn a_conditional_write_of_another_writer_is_never_taken_for_an_own_one() {
    let host = TestHost::default();
    let memory = Rc::new(MemoryObjects::default());
    let other = memory.clone();
    let first = Rc::new(Cell::new(true));
    let mut store = Watched::new(MemoryObjects::default(), move |operation, _| {
        if operation == "put" && first.replace(false) {
            // Another writer creates the same object while this write fails.
            let options = PutOptions {
                metadata: "same",
                stamp: "another",
                ..PutOptions::default()
            };
            block_on(other.put("key", Content::Bytes(Vec::new()), options)).unwrap();
            return lost();
        }
        Verdict::Done
    });
    store.memory = memory;
    let options = PutOptions {
        condition: Condition::Absent,
        metadata: "same",
        ..PutOptions::default()
    };
    let content = Content::Bytes(Vec::new());
    let written = block_on(Retry::new(store, host).put("key", content, options));
    assert_eq!(written, Ok(None));
}

#[test]
fn a_read_that_is_not_answered_is_asked_again_beside_the_first() {
    let (host, count) = (TestHost::default(), Rc::new(Cell::new(0)));
    let counter = count.clone();
    let store = Watched::new(MemoryObjects::default(), move |_, _| {
        counter.set(counter.get() + 1);
        if counter.get() == 1 {
            Verdict::Never
        } else {
            Verdict::Done
        }
    });
    let start = host.now.get();
    let found = block_on(Retry::new(store, host.clone()).head("key"));
    assert_eq!((found, count.get()), (Ok(None), 2));
    assert_eq!(host.now.get().since(start).as_secs(), 2);
    assert!(host.log.borrow().is_empty(), "nothing failed");
}

#[test]
fn a_store_that_never_answers_is_given_up() {
    let (host, count) = (TestHost::default(), Rc::new(Cell::new(0)));
    let counter = count.clone();
    let store = Watched::new(MemoryObjects::default(), move |_, _| {
        counter.set(counter.get() + 1);
        Verdict::Never
    });
    let retry = Retry::new(store, host.clone());
    let late = |seconds: u64| StoreError::Failed(format!("no answer within {seconds} seconds"));
    let start = host.now.get();
    let listed = block_on(retry.list("", ListOptions::default()));
    assert_eq!((listed.unwrap_err(), count.take()), (late(10), 8));
    let seconds = host.now.get().since(start).as_secs();
    assert!((48..53).contains(&seconds), "{seconds}");
    // These may be done later. A repetition would let them overtake what others do meanwhile.
    let start = host.now.get();
    let deleted = block_on(retry.delete(&["key".to_owned()]));
    assert_eq!((deleted, count.take()), (Err(late(90)), 1));
    assert_eq!(host.now.get().since(start).as_secs(), 90);
    let put = retry.put("key", Content::Bytes(Vec::new()), PutOptions::default());
    assert_eq!((block_on(put), count.take()), (Err(late(90)), 1));
}
