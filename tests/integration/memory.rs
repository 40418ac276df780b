//! Memory that clients can make the registry hold. A case that measures it runs in a process of its
//! own.

#![cfg(target_os = "linux")]

use std::{
    cell::Cell,
    fs,
    pin::pin,
    rc::Rc,
    task::{Context, Waker},
    time::Duration,
};

use futures_util::future::{join_all, join3};
use pollster::block_on;
use serde_json::Value;
use strata::{
    layer::pass::{Options, PART, Pass},
    ledger::{Ledger, MemoryKind as Kind},
    manifest::OCI_MANIFEST,
    memory::MemoryObjects,
};
use strata_support::{
    Ask, TestHost, TestRegistry, ask, ask_now, digest,
    host::turn,
    key,
    layers::{Tar, gzip},
    registry_of, registry_on,
    watched::{Verdict, Watched},
};

use crate::process;

const MIB: u64 = 1 << 20;

/// The most memory that a pass over a layer may take, above what the process had.
const PASS: u64 = 40 * MIB;

/// The peak since its last reset, and the resident memory, in bytes.
fn memory() -> (u64, u64) {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let read = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib * 1024
    };
    (read("VmHWM:"), read("VmRSS:"))
}

/// Runs the body of a test in a child process.
fn alone(name: &str, body: impl FnOnce()) {
    process::alone(module_path!(), name, body);
}

/// The answer of an operation, and the peak of memory above the memory before it.
fn peak<T>(operation: impl FnOnce() -> T) -> (T, u64) {
    let (_, before) = memory();
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let answer = operation();
    let (peak, _) = memory();
    (answer, peak.saturating_sub(before))
}

/// A record of a pax header.
fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    let mut out = format!("{length} {key}=").into_bytes();
    out.extend(value);
    out.push(b'\n');
    out
}

/// An archive of entries that each have a megabyte of attributes in a header of their own.
fn own_attributes(count: usize, path: impl Fn(usize) -> String) -> Vec<u8> {
    let value = vec![b'a'; 1000];
    let records: Vec<u8> = (0..1000)
        .flat_map(|number| record(&format!("SCHILY.xattr.user.{number:04}"), &value))
        .collect();
    let mut tar = Tar::default();
    for number in 0..count {
        tar = tar
            .entry(b"pax", b'x', "", &records)
            .file(path(number), b"");
    }
    tar.end()
}

/// An archive of entries below 32 KiB of global attributes.
fn global_attributes(count: usize, path: impl Fn(usize) -> String) -> Vec<u8> {
    let mut records = Vec::new();
    for number in 0..31 {
        let name = format!("SCHILY.xattr.user.{number:02}");
        records.extend(record(&name, &vec![b'a'; 1000]));
    }
    let mut tar = Tar::default().entry(b"pax", b'g', "", &records);
    for number in 0..count {
        tar = tar.file(path(number), b"");
    }
    tar.end()
}

/// Indexes a layer in parts, as the registry does. Returns the size of the index, or the reason why
/// there is none.
fn index(layer: &[u8]) -> Result<usize, String> {
    let mut pass = Pass::new(layer.len() as u64, Options::default());
    for part in layer.chunks(PART) {
        pass.push(part).map_err(|error| error.to_string())?;
    }
    let index = pass.finish().map_err(|error| error.to_string())?;
    Ok(index.unwrap().len())
}

fn indexes_within(layer: &[u8], what: &str) -> Result<usize, String> {
    let (outcome, peak) = peak(|| index(layer));
    println!(
        "{what}: {} KiB of layer, {} MiB at most, {outcome:?}",
        layer.len() >> 10,
        peak / MIB
    );
    assert!(peak < PASS, "{peak} bytes for {what}");
    outcome
}

#[test]
fn large_attributes_of_one_path_take_bounded_memory() {
    alone("large_attributes_of_one_path_take_bounded_memory", || {
        let layer = gzip(&own_attributes(60, |_| "a".to_owned()));
        let outcome = indexes_within(&layer, "60 entries of 1 MB of attributes");
        assert!(
            outcome
                .unwrap_err()
                .contains("bytes of entries at one path")
        );
    });
}

#[test]
fn global_headers_over_one_path_take_bounded_memory() {
    alone("global_headers_over_one_path_take_bounded_memory", || {
        for count in [5_000, 20_000] {
            let layer = gzip(&global_attributes(count, |_| "a".to_owned()));
            let what = format!("{count} entries under global attributes");
            assert!(
                indexes_within(&layer, &what)
                    .unwrap_err()
                    .contains("is too large")
            );
        }
    });
}

#[test]
fn global_headers_over_many_paths_take_bounded_memory() {
    alone("global_headers_over_many_paths_take_bounded_memory", || {
        // The second took more than a hundred seconds.
        for count in [900, 20_000] {
            let layer = gzip(&global_attributes(count, |number| format!("{number:05}")));
            let what = format!("{count} paths under global attributes");
            let outcome = indexes_within(&layer, &what);
            match count {
                900 => assert!(outcome.is_ok(), "{outcome:?}"),
                _ => assert!(outcome.unwrap_err().contains("is too large")),
            }
        }
    });
}

/// Stores the config of a manifest, and returns its descriptor.
fn config(registry: &TestRegistry<MemoryObjects>) -> String {
    let digest = digest(b"{}");
    let push = Ask::new(&format!("POST /v2/a/blobs/uploads/?digest={digest}")).body(b"{}");
    assert_eq!(ask(registry, &push).status, 201);
    format!(
        r#"{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{digest}","size":2}}"#
    )
}

fn push(registry: &TestRegistry<MemoryObjects>, body: &str) -> (u16, String) {
    let digest = digest(body.as_bytes());
    let push = Ask::new(&format!("PUT /v2/a/manifests/{digest}"))
        .header("content-type", OCI_MANIFEST)
        .body(body);
    let answer = ask(registry, &push);
    (answer.status, String::from_utf8(answer.body).unwrap())
}

#[test]
fn nested_annotations_take_bounded_memory() {
    alone("nested_annotations_take_bounded_memory", || {
        let registry = registry_of(MemoryObjects::default(), &[]);
        let config = config(&registry);
        let nested = "[],".repeat(1_100_000);
        let body = format!(
            r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{config},"layers":[],"annotations":{{"a":[{nested}0]}}}}"#
        );
        let ((status, text), peak) = peak(|| push(&registry, &body));
        println!(
            "{} KiB of manifest, {} MiB at most",
            body.len() >> 10,
            peak / MIB
        );
        assert_eq!(status, 400, "{text}");
        assert!(
            text.contains("annotations: invalid type: sequence, expected a string"),
            "{text}"
        );
        assert!(peak < 24 * MIB, "{peak} bytes");
        assert_eq!(registry.ledger().used(), 0);
    });
}

#[test]
fn a_list_of_large_referrers_takes_bounded_memory() {
    alone("a_list_of_large_referrers_takes_bounded_memory", || {
        let registry = registry_of(MemoryObjects::default(), &[]);
        let config = config(&registry);
        let subject = digest(b"subject");
        for number in 0..20 {
            let pairs: Vec<String> = (0..60_000).map(|n| format!(r#""{n:05}":"""#)).collect();
            let pairs = pairs.join(",");
            let body = format!(
                r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","artifactType":"a/{number}","config":{config},"layers":[],"annotations":{{{pairs}}},"subject":{{"mediaType":"{OCI_MANIFEST}","digest":"{subject}","size":7}}}}"#
            );
            assert_eq!(push(&registry, &body).0, 201);
        }
        let (mut found, mut pages) = (0, 0);
        let mut next = Some(format!("/v2/a/referrers/{subject}"));
        while let Some(target) = next {
            let (answer, peak) = peak(|| ask(&registry, &Ask::new(&format!("GET {target}"))));
            println!(
                "{} KiB of list, {} MiB at most",
                answer.body.len() >> 10,
                peak / MIB
            );
            assert_eq!(answer.status, 200);
            assert!(peak < 24 * MIB, "{peak} bytes");
            assert!(answer.body.len() < 5 << 20);
            let list: Value = serde_json::from_slice(&answer.body).unwrap();
            let manifests = list["manifests"].as_array().unwrap();
            assert!(
                manifests
                    .iter()
                    .all(|one| one["annotations"]["00000"] == "")
            );
            found += manifests.len();
            pages += 1;
            let link = answer.header("link");
            next = link.map(|link| link[1..link.find('>').unwrap()].to_owned());
        }
        assert_eq!((found, registry.ledger().used()), (20, 0));
        assert!(pages > 2);
        // An entry of another type is not read for its annotations.
        let target = format!("GET /v2/a/referrers/{subject}?artifactType=a/7");
        let (answer, peak) = peak(|| ask(&registry, &Ask::new(&target)));
        let list: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(list["manifests"].as_array().unwrap().len(), 1);
        assert!(peak < 8 * MIB, "{peak} bytes");
    });
}

#[test]
fn a_large_manifest_is_refused_while_memory_is_short() {
    let registry = registry_of(MemoryObjects::default(), &[]);
    config(&registry);
    let ledger = registry.ledger().clone();
    ledger.charge(Some("user dev".into()));
    let now = strata::host::Clock::now(registry.host());
    let lease = ledger.take(Kind::Wasm, ledger.share(), now).unwrap();
    ledger.charge(None);
    let spaces = " ".repeat(100_000);
    let (status, text) = push(&registry, &spaces);
    assert_eq!(status, 503, "{text}");
    assert!(
        text.contains("your other requests use 25600 of your 25600 KiB"),
        "{text}"
    );
    // A small one takes no lease, and neither do other usual manifests.
    assert_eq!(push(&registry, "{}").0, 400);
    drop(lease);
    assert_eq!(push(&registry, &spaces).0, 400);
    assert_eq!(ledger.used(), 0);
}

#[test]
fn one_user_has_a_third_of_the_part_buffers() {
    let ledger = Ledger::default();
    let part = || ledger.take(Kind::Buffer, 5 * MIB, strata::time::Timestamp(0));
    ledger.charge(Some("user one".into()));
    let first: Vec<_> = (0..64).map_while(|_| part().ok()).collect();
    assert_eq!(first.len(), 5);
    ledger.charge(Some("user two".into()));
    assert!(part().is_ok());
}

#[test]
fn a_pass_that_crashes_the_isolate_three_times_is_given_up() {
    let host = TestHost::default();
    let ends = Rc::new(Cell::new(false));
    let ending = ends.clone();
    let tries = Rc::<Cell<u32>>::default();
    let tried = tries.clone();
    let store = Watched::new(
        MemoryObjects::timed(host.now.clone()),
        move |operation, key| {
            if operation == "get" && key.starts_with("blobs/") {
                tried.set(tried.get() + 1);
                if ending.get() {
                    return Verdict::Never;
                }
            }
            Verdict::Done
        },
    );
    let layer = gzip(&Tar::default().file("a", "b").end());
    let digest = digest(&layer);
    let isolate = || {
        registry_on(
            store.clone(),
            host.clone(),
            &[("STRATA_INDEX_ON_PUSH", "true")],
        )
    };
    let push = Ask::new(&format!("POST /v2/a/blobs/uploads/?digest={digest}")).body(&layer);
    assert_eq!(ask(&isolate(), &push).status, 201);
    store.plant(&key::indexing(&digest), b"", "");
    ends.set(true);
    for _ in 0..3 {
        // The end of the isolate runs no destructor.
        let registry = Box::leak(Box::new(isolate()));
        let mut tick = Box::pin(registry.tick());
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..1_000 {
            assert!(pin!(&mut tick).poll(&mut context).is_pending());
        }
        std::mem::forget(tick);
        host.pass(Duration::from_secs(300));
    }
    assert_eq!(tries.get(), 3);
    block_on(isolate().tick());
    assert_eq!(tries.get(), 3, "it was tried again");
    assert!(store.keys("indexing/").is_empty() && store.keys("sweep/passes").is_empty());
    let look = Ask::new(&format!("GET /v2/a/_strata/layers/{digest}"));
    let answer = ask(&isolate(), &look);
    let text = String::from_utf8(answer.body).unwrap();
    assert_eq!(answer.status, 422, "{text}");
    assert!(
        text.contains("indexing it crashed the isolate 3 times"),
        "{text}"
    );
}

/// The value of a metric without labels.
fn metric(registry: &TestRegistry<Watched>, name: &str) -> u64 {
    let answer = ask(registry, &Ask::new("GET /metrics"));
    let text = String::from_utf8(answer.body).unwrap();
    let value = text.lines().find_map(|line| {
        let (found, value) = line.split_once(' ')?;
        (found == name).then(|| value.parse().unwrap())
    });
    value.unwrap_or_else(|| panic!("{name} is not in\n{text}"))
}

/// Uploads, passes, pulls and the hot tier share 100 MiB. The hot tier gives way, so nothing is
/// refused for it, and it grows again afterwards.
#[test]
fn an_isolate_under_load_counts_at_most_100_mib() {
    let host = TestHost::default();
    let store = Watched::new(MemoryObjects::timed(host.now.clone()), |_, _| Verdict::Done);
    let settings = [
        ("STRATA_HOT_BYTES", (48 * MIB).to_string()),
        ("STRATA_WARM_READS", "1".to_owned()),
    ];
    let settings = settings
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    let registry = registry_on(store, host.clone(), &settings);
    let blobs: Vec<_> = (0..64_u8).map(|number| vec![number; 1_000_000]).collect();
    for blob in &blobs {
        let line = format!("POST /v2/a/blobs/uploads/?digest={}", digest(blob));
        assert_eq!(ask(&registry, &Ask::new(&line).body(blob)).status, 201);
    }
    let pulls: Vec<_> = blobs
        .iter()
        .map(|blob| Ask::new(&format!("GET /v2/a/blobs/{}", digest(blob))))
        .collect();
    let fill = || {
        for pull in &pulls {
            assert_eq!(ask(&registry, pull).status, 200);
        }
        metric(&registry, "strata_hot_bytes")
    };
    assert!(fill() > 45 * MIB);
    let ledger = registry.ledger();
    let most = Cell::new(0);
    let look = || most.set(most.get().max(ledger.used()));
    let uploads = (0..40).map(|number| {
        let parts = async {
            for _ in 0..3 {
                let _part = ledger.wait_in_line(&host, Kind::Buffer, 5 * MIB).await;
                look();
                turn().await;
            }
        };
        ledger.scope(Some(format!("user {number}").into()), parts)
    });
    let passes = (0..4).map(|number| {
        let pass = async {
            let lease = ledger.wait(&host, Kind::Wasm, 11 * MIB).await;
            turn().await;
            assert!(lease.is_ok(), "{lease:?}");
        };
        ledger.scope(Some(format!("user {number}").into()), pass)
    });
    let pulled = (0..500).map(|number| {
        let at = number % pulls.len();
        let (pull, blob, registry) = (&pulls[at], &blobs[at], &registry);
        async move {
            let answer = ask_now(registry, pull).await;
            assert!(answer.status == 200 && answer.body == *blob);
        }
    });
    block_on(join3(join_all(uploads), join_all(passes), join_all(pulled)));
    assert_eq!(ledger.used(), 0);
    // So the hot tier had to give way.
    assert!(most.get() > 60 * MIB, "{}", most.get());
    let peak = metric(&registry, "strata_ledger_peak_bytes");
    assert!((90 * MIB..=100 * MIB).contains(&peak), "{peak}");
    let log = host.told.borrow().concat();
    assert!(!log.contains("request failed"), "{log}");
    // The memory of passes never shrinks, and the hot tier has the rest again.
    assert!(fill() > 45 * MIB);
    let now = metric(&registry, "strata_ledger_bytes");
    assert!((80 * MIB..=100 * MIB).contains(&now), "{now}");
}

/// A small blob for which no memory is free is streamed.
#[test]
fn a_pull_needs_no_memory() {
    let host = TestHost::default();
    let store = Watched::new(MemoryObjects::timed(host.now.clone()), |_, _| Verdict::Done);
    let registry = registry_on(store, host.clone(), &[]);
    let blob = vec![1; 100_000];
    let line = format!("POST /v2/a/blobs/uploads/?digest={}", digest(&blob));
    assert_eq!(ask(&registry, &Ask::new(&line).body(&blob)).status, 201);
    let pull = Ask::new(&format!("GET /v2/a/blobs/{}", digest(&blob)));
    let now = host.now.get();
    let all = registry.ledger().take_for_all(Kind::Buffer, 75 * MIB, now);
    let hot = || metric(&registry, "strata_hot_bytes") > 100_000;
    let answer = ask(&registry, &pull);
    assert!(answer.status == 200 && answer.body == blob);
    assert!(!hot(), "it was streamed");
    drop(all.unwrap());
    assert!(ask(&registry, &pull).body == blob && hot());
    // No request waited.
    assert_eq!(host.now.get(), now);
}
