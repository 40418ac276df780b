//! How much memory strangers can make the registry hold: each case runs in a process of its own, whose peak is read from outside.

#![cfg(target_os = "linux")]
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "what is not as expected fails the test"
)]

use std::{env, fs, process::Command};

use strata::layer::pass::{Options, PART, Pass};

use crate::support::layers::{Tar, gzip};

#[path = "support/support.rs"]
mod support;

const MIB: u64 = 1 << 20;

/// The most memory that a pass over a layer may take, above what the process had.
const PASS: u64 = 40 * MIB;

/// The peak since it was last reset, and what is resident, in bytes.
fn memory() -> (u64, u64) {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let read = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib * 1024
    };
    (read("VmHWM:"), read("VmRSS:"))
}

/// Runs a test's body in a child process, because memory that was freed once hides later peaks.
fn alone(name: &str, body: impl FnOnce()) {
    if env::var_os("STRATA_ALONE").is_some() {
        body();
        return;
    }
    let output = Command::new(env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env("STRATA_ALONE", "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    print!("{text}");
    assert!(output.status.success(), "{text}{errors}");
}

/// What an operation answers, and the peak of memory above what there was before it.
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

/// Indexes a layer in parts, as the registry does. Answers the number of bytes of the index, or why there is none.
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
fn one_path_many_times_with_large_attributes() {
    alone("one_path_many_times_with_large_attributes", || {
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
fn one_path_many_times_under_global_attributes() {
    alone("one_path_many_times_under_global_attributes", || {
        for count in [5_000, 20_000] {
            let layer = gzip(&global_attributes(count, |_| "a".to_owned()));
            let what = format!("{count} entries under global attributes");
            assert!(
                indexes_within(&layer, &what)
                    .unwrap_err()
                    .contains("out of proportion")
            );
        }
    });
}

#[test]
fn many_paths_under_global_attributes() {
    alone("many_paths_under_global_attributes", || {
        // The second took more than a hundred seconds.
        for count in [900, 20_000] {
            let layer = gzip(&global_attributes(count, |number| format!("{number:05}")));
            let what = format!("{count} paths under global attributes");
            let outcome = indexes_within(&layer, &what);
            match count {
                900 => assert!(outcome.is_ok(), "{outcome:?}"),
                _ => assert!(outcome.unwrap_err().contains("out of proportion")),
            }
        }
    });
}
