//! Files in layers and images: answers, costs, and the stored objects after failures.

use std::{
    cell::RefCell, collections::BTreeMap, fs::File, os::unix::fs::FileExt as _, pin::pin, rc::Rc,
    time::Duration,
};

use futures_util::{
    StreamExt as _,
    future::{join_all, select},
};
use pollster::block_on;
use serde_json::{Value, json};
use strata::{
    digest::Digest,
    manifest::{OCI_INDEX, OCI_MANIFEST},
    memory::{MemoryBody, MemoryBytes, MemoryObjects},
    registry::{Body, Request},
    store::{Bytes as _, Content, Objects as _, PutOptions, StoreError, Values as _, warm},
};
use strata_support::{
    Answer, Ask, TestHost, TestRegistry, ask, ask_now, descriptor, digest,
    host::turn,
    key,
    layers::{Folder, Tar, gzip, noise, run, through, words},
    registry_with,
    watched::{Verdict, Watched, WatchedValues},
};

mod access;
mod costs;
mod faults;
mod images;
mod index;
mod large;
mod lists;
mod reads;
mod refusals;
mod steps;

/// Decides the result of an operation, by its tier, name and kind of key.
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

const SPAN: usize = 64 * 1024;
const MIB: usize = 1024 * 1024;

/// The smallest span size that the settings allow.
const SMALL: (&str, &str) = ("STRATA_SPAN_BYTES", "65536");
/// Only the cold tier.
const NO_WARM: (&str, &str) = ("STRATA_WARM_SECONDS", "0");

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

    /// A world in which a layer was pushed to repository a.
    fn with_layer(layer: &[u8]) -> Self {
        let world = Self::new();
        push_blob(&world.isolate(&[]), "a", layer);
        world.host.pass(Duration::from_secs(10));
        world
    }

    /// An isolate that has just started.
    fn isolate(&self, settings: &[(&str, &str)]) -> Isolate {
        let (cold, warm) = (self.cold.clone(), self.warm.clone());
        registry_with(cold, warm, self.host.clone(), settings)
    }

    /// The answer to a request, and the operations that it and its background work took.
    fn ask(&self, isolate: &Isolate, request: &Ask) -> (Answer, Vec<String>) {
        self.log.borrow_mut().clear();
        let answer = ask(isolate, request);
        (answer, self.log.borrow().clone())
    }

    fn count(&self, entry: &str) -> usize {
        count(&self.log.borrow(), entry)
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

    /// Gives a result to all operations whose entry has the prefix.
    fn fail_all(&self, prefix: &'static str, verdict: Verdict) {
        *self.fault.borrow_mut() = Box::new(move |entry| {
            let is_meant = entry.starts_with(prefix);
            if is_meant {
                verdict.clone()
            } else {
                Verdict::Done
            }
        });
    }

    fn heal(&self) {
        self.fail_all("none", Verdict::Done);
    }

    /// The bytes that are stored under a key.
    fn stored(&self, key: &str) -> Option<Vec<u8>> {
        self.cold.memory.bytes(key)
    }

    fn store(&self, key: &str, bytes: Vec<u8>) {
        let put = self
            .cold
            .memory
            .put(key, Content::Bytes(bytes), PutOptions::default());
        block_on(put).unwrap();
    }

    fn delete(&self, key: &str) {
        block_on(self.cold.memory.delete(&[key.to_owned()])).unwrap();
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
        "indexing" => "progress",
        "sweep" if key.ends_with("/cursor") => "cursor",
        "layers" if key.ends_with("/index") => "index",
        "layers" if key.ends_with("/pages") => "pages",
        "layers" => "span",
        _ => "other",
    }
}

fn count(log: &[String], entry: &str) -> usize {
    log.iter().filter(|found| *found == entry).count()
}

fn lost() -> Verdict {
    Verdict::Lost(StoreError::Failed("on purpose".to_owned()))
}

fn push_blob(isolate: &Isolate, name: &str, bytes: &[u8]) -> Digest {
    let digest = digest(bytes);
    let request = format!("POST /v2/{name}/blobs/uploads/?digest={digest}");
    assert_eq!(ask(isolate, &Ask::new(&request).body(bytes)).status, 201);
    digest
}

const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";

/// Pushes an image of these layers, each with the archive that the configuration names for it.
fn push_image(isolate: &Isolate, reference: &str, layers: &[(&[u8], &[u8])]) -> Value {
    let diff_ids: Vec<String> = layers
        .iter()
        .map(|(_, archive)| digest(archive).to_string())
        .collect();
    let config = json!({ "rootfs": { "type": "layers", "diff_ids": diff_ids } }).to_string();
    push_blob(isolate, "a", config.as_bytes());
    let mut descriptors = Vec::new();
    for (layer, _) in layers {
        push_blob(isolate, "a", layer);
        descriptors.push(descriptor(LAYER_TYPE, layer));
    }
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(CONFIG_TYPE, config.as_bytes()),
        "layers": descriptors,
    });
    let request = Ask::new(&format!("PUT /v2/a/manifests/{reference}"));
    let answer = ask(isolate, &request.manifest(OCI_MANIFEST, &manifest));
    assert_eq!(answer.status, 201, "{}", text(&answer));
    manifest
}

fn text(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

#[track_caller]
fn json_of(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_else(|_| panic!("{answer:?}"))
}

/// The address of a file of a layer of repository a.
fn file(layer: &[u8], path: &str) -> String {
    format!("/v2/a/_strata/layers/{}/files/{path}", digest(layer))
}

fn contents(layer: &[u8]) -> String {
    format!("/v2/a/_strata/layers/{}", digest(layer))
}

fn get(isolate: &Isolate, target: &str) -> Answer {
    ask(isolate, &Ask::new(&format!("GET {target}")))
}

#[track_caller]
fn read(isolate: &Isolate, target: &str) -> Vec<u8> {
    let answer = get(isolate, target);
    assert_eq!(answer.status, 200, "{target}: {}", text(&answer));
    answer.body
}

/// Expects an error, and returns its message and its detail.
#[track_caller]
fn refused(answer: &Answer, status: u16, code: &str) -> (String, Value) {
    let body = json_of(answer);
    let error = &body["errors"][0];
    assert_eq!(
        (answer.status, error["code"].as_str()),
        (status, Some(code)),
        "{body}"
    );
    let message = error["message"].as_str().unwrap().to_owned();
    (message, error["detail"].clone())
}

/// The value of a metric, by its name and labels.
fn metric(isolate: &Isolate, name: &str) -> u64 {
    let text = text(&get(isolate, "/metrics"));
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or("0").parse().unwrap()
}

fn inflated(isolate: &Isolate, what: &str) -> u64 {
    metric(
        isolate,
        &format!("strata_inflated_bytes_total{{what=\"{what}\"}}"),
    )
}

fn passes(isolate: &Isolate, outcome: &str) -> u64 {
    metric(
        isolate,
        &format!("strata_layer_passes_total{{outcome=\"{outcome}\"}}"),
    )
}

/// Ways of writing a layer.
const WRITERS: [(&str, &str); 5] = [
    ("none", "cat"),
    ("gzip", "gzip -6n"),
    ("gzip", "split -b 100000 --filter='gzip -6n' -"),
    ("zstd", "zstd -3 --zstd=wlog=17"),
    ("zstd", "split -b 50000 --filter='zstd -3' -"),
];

/// Files of every size around the borders of spans.
fn files() -> BTreeMap<String, Vec<u8>> {
    let sizes = [
        ("bin/empty", 0),
        ("bin/one", 1),
        // After a header of 512 bytes, a span of an uncompressed archive ends after this many.
        ("bin/span", SPAN - 3 * 512),
        ("bin/short", SPAN - 512 - 1),
        ("bin/long", SPAN + 1),
        ("etc/many", 5 * SPAN + 77),
        ("etc/text", 10_000),
    ];
    let made = (1..).zip(sizes).map(|(seed, (path, size))| {
        let bytes = words(seed, size);
        (path.to_owned(), bytes)
    });
    made.collect()
}

fn archive_of(files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let tar = files
        .iter()
        .fold(Tar::default(), |tar, (path, bytes)| tar.file(path, bytes));
    tar.end()
}

/// A layer of several steps of a mebibyte each.
fn long_layer(writer: &str) -> (Vec<u8>, Vec<u8>) {
    layer_of(24, writer)
}

/// A layer of so many files, and its archive.
fn layer_of(files: u64, writer: &str) -> (Vec<u8>, Vec<u8>) {
    let tar = (0..files).fold(Tar::default(), |tar, seed| {
        tar.file(format!("dir/file-{seed:02}"), words(seed, 200_000))
    });
    let archive = tar.end();
    (through(writer, &archive), archive)
}

const STEP: (&str, &str) = ("STRATA_INDEX_STEP_BYTES", "1048576");

/// The objects that are stored for the inside of a layer.
fn inside(world: &World, layer: &[u8]) -> Vec<(String, Vec<u8>)> {
    let prefix = key::layer(&digest(layer));
    let keys = world.cold.memory.keys().into_iter();
    let keys = keys.filter(|key| key.starts_with(&prefix));
    keys.map(|key| (key.clone(), world.stored(&key).unwrap()))
        .collect()
}

fn progress(world: &World, layer: &[u8]) -> Option<Vec<u8>> {
    world.stored(&key::indexing(&digest(layer)))
}

/// Repeats the request until the layer is indexed; returns the fractions of progress that were
/// reported.
#[track_caller]
fn ask_on(isolates: &[&Isolate], target: &str) -> Vec<f64> {
    let mut fractions = Vec::new();
    for isolate in isolates.iter().cycle().take(200) {
        let answer = get(isolate, target);
        if answer.status == 200 {
            return fractions;
        }
        let body = json_of(&answer);
        assert_eq!(
            (answer.status, &body["state"]),
            (202, &json!("indexing")),
            "{body}"
        );
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        fractions.push(body["fraction"].as_f64().unwrap());
    }
    panic!("it never ends: {fractions:?}");
}

/// The address of the next page.
fn next(answer: &Answer) -> Option<String> {
    let link = answer.header("link")?;
    let target = link.strip_prefix('<')?.strip_suffix(">; rel=\"next\"")?;
    Some(target.to_owned())
}

/// The entries of all pages, from the list of this name, and the number of pages.
fn pages(isolate: &Isolate, target: &str, list: &str) -> (Vec<Value>, usize) {
    let mut found = Vec::new();
    let mut target = Some(target.to_owned());
    let mut count = 0;
    while let Some(now) = target {
        let answer = get(isolate, &now);
        assert_eq!(answer.status, 200, "{now}: {}", text(&answer));
        found.extend(json_of(&answer)[list].as_array().unwrap().clone());
        target = next(&answer);
        count += 1;
    }
    (found, count)
}
