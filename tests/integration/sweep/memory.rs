//! The memory and the operations of a round of the sweep over 50,000 blobs.

#![cfg(target_os = "linux")]

use std::{cell::Cell, fs, rc::Rc, time::Duration};

use pollster::block_on;
use serde_json::{Value, json};
use strata::{
    memory::MemoryObjects,
    store::{Content, Objects as _, PutOptions},
};
use strata_support::{
    Ask, TestHost, ask, digest, key, registry_on,
    watched::{Verdict, Watched},
};

use crate::process;

const BLOBS: u32 = 50_000;

/// The peak of this process's memory since its last reset, and the resident memory, in KiB.
fn memory() -> (u64, u64) {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let read = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    (read("VmHWM:"), read("VmRSS:"))
}

#[test]
fn a_round_over_50_000_blobs_takes_a_few_pages_of_memory() {
    let name = "a_round_over_50_000_blobs_takes_a_few_pages_of_memory";
    process::alone(module_path!(), name, measure_rounds);
}

fn measure_rounds() {
    let host = TestHost::default();
    let operations = Rc::<Cell<u64>>::default();
    let counter = operations.clone();
    let store = Watched::new(MemoryObjects::timed(host.now.clone()), move |_, _| {
        counter.set(counter.get() + 1);
        Verdict::Done
    });
    let name = "team/app".parse().unwrap();
    let put = |key: &str, metadata: &str| {
        let options = PutOptions {
            metadata,
            ..PutOptions::default()
        };
        block_on(
            store
                .memory
                .put(key, Content::Bytes(b"x".to_vec()), options),
        )
        .unwrap();
    };
    for number in 0..BLOBS {
        let blob = digest(&number.to_be_bytes());
        let manifest = digest(format!("manifest {}", number / 10).as_bytes());
        let reason = json!({ "reason": "manifest", "digest": manifest.to_string() }).to_string();
        put(&key::blob(&blob), r#"{"kind":"bytes"}"#);
        put(&key::grant(&blob, &name, "0"), &reason);
        put(&key::manifest(&name, &manifest), "{}");
    }
    host.pass(Duration::from_secs(48 * 3_600));
    let registry = registry_on(store.clone(), host, &[]);
    let round = || {
        let answer = ask(&registry, &Ask::new("POST /v2/_strata/sweep"));
        assert_eq!(answer.status, 200, "{answer:?}");
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(body["count"], 0);
    };
    let (_, before) = memory();
    fs::write("/proc/self/clear_refs", "5").unwrap();
    // The filter of the first round is too small, because the number of manifests is not known yet.
    round();
    let start = operations.get();
    round();
    let operations = operations.get() - start;
    let (peak, _) = memory();
    println!(
        "{operations} operations for {BLOBS} blobs, {} KiB of memory above {before} KiB",
        peak.saturating_sub(before)
    );
    // A page of each of 50 and 50 and 5 listings, and looks for the filter's errors.
    assert!(operations <= 135, "{operations}");
    assert!(peak.saturating_sub(before) < 12 * 1024);
}
