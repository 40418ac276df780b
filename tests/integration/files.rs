//! Looking into layers: what every request answers, what it costs, and what is left when something fails on the way.

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
    registry::{Body, Request},
    store::{
        Bytes as _, Content, Objects as _, PutOptions, StoreError, Values as _,
        memory::{Memory, MemoryBody, MemoryBytes},
        warm,
    },
};
use strata_support::{
    Answer, Ask, TestHost, TestRegistry, ask, ask_now, descriptor, digest,
    host::turn,
    key,
    layers::{Folder, Tar, gzip, noise, run, through, words},
    registry_with,
    watched::{Verdict, Watched, WatchedValues},
};

/// Decides what comes of an operation, by its tier, name and kind of key.
type Fault = Rc<RefCell<Box<dyn FnMut(&str) -> Verdict>>>;

/// Stores that several isolates share, which write down each operation with the tier and kind of its key.
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

/// Spans as small as they may be.
const SMALL: (&str, &str) = ("STRATA_SPAN_BYTES", "65536");
/// No tier but the cold one.
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
            cold: Watched::new(Memory::default(), watcher("cold")),
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

    /// What a request was answered, and the operations that it and what followed it took.
    fn ask(&self, isolate: &Isolate, request: &Ask) -> (Answer, Vec<String>) {
        self.log.borrow_mut().clear();
        let answer = ask(isolate, request);
        (answer, self.log.borrow().clone())
    }

    fn count(&self, entry: &str) -> usize {
        count(&self.log.borrow(), entry)
    }

    /// Makes the operation of this number, among those whose entry begins so, come out otherwise.
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

    /// Makes all operations whose entry begins so come out otherwise.
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

    /// What is stored under a key.
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

/// Pushes an image of these layers, each with the archive that the configuration says is in it.
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

/// Expects an error, and answers what it says: its message and its detail.
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

/// Files of every size there is about the borders of spans.
fn files() -> BTreeMap<String, Vec<u8>> {
    let sizes = [
        ("bin/empty", 0),
        ("bin/one", 1),
        // From a header of 512 bytes on, an archive that is not compressed has a border after these.
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

#[test]
fn every_file_of_every_layer_is_read_as_it_was_written() {
    let files = files();
    let archive = archive_of(&files);
    for (compression, writer) in WRITERS {
        let layer = through(writer, &archive);
        let world = World::new();
        let isolate = world.isolate(&[SMALL]);
        push_image(&isolate, "v1", &[(&layer, &archive)]);
        let table = json_of(&get(&isolate, &contents(&layer)));
        assert_eq!(table["compression"], compression, "{writer}");
        assert_eq!(table["diffId"], digest(&archive).to_string());
        for (path, bytes) in &files {
            for target in [
                file(&layer, path),
                format!("/v2/a/_strata/images/v1/files/{path}"),
            ] {
                let what = format!("{writer}: {target}");
                let whole = get(&isolate, &target);
                assert_eq!((whole.status, &whole.body), (200, bytes), "{what}");
                assert_eq!(whole.header("accept-ranges"), Some("bytes"));
                let length = bytes.len().to_string();
                assert_eq!(whole.header("content-length"), Some(&*length));
                let etag = whole.header("etag").unwrap().to_owned();

                let spans = inflated(&isolate, "span");
                let head = ask(&isolate, &Ask::new(&format!("HEAD {target}")));
                assert_eq!((head.status, head.body.len()), (200, 0), "{what}");
                for name in whole.headers.keys() {
                    if !["x-request-id", "x-strata-tier", "server-timing"].contains(&name.as_str())
                    {
                        assert_eq!(head.header(name.as_str()), whole.header(name.as_str()));
                    }
                }
                assert_eq!(inflated(&isolate, "span"), spans);

                let unchanged = Ask::new(&format!("GET {target}"))
                    .header("if-none-match", format!("\"x\", W/{etag}"));
                let unchanged = ask(&isolate, &unchanged);
                assert_eq!((unchanged.status, unchanged.body.len()), (304, 0), "{what}");
                assert_eq!(unchanged.header("etag"), Some(&*etag));
                check_ranges(&isolate, &target, bytes, &etag);
            }
        }
    }
}

fn check_ranges(isolate: &Isolate, target: &str, bytes: &[u8], etag: &str) {
    let size = bytes.len();
    let ask = |range: &str| {
        ask(
            isolate,
            &Ask::new(&format!("GET {target}")).header("range", range),
        )
    };
    let beyond = ask(&format!("bytes={size}-"));
    let (message, _) = refused(&beyond, 416, "SIZE_INVALID");
    assert!(message.contains("range outside of the file's"), "{message}");
    assert_eq!(
        beyond.header("content-range"),
        Some(&*format!("bytes */{size}"))
    );
    if size == 0 {
        return;
    }
    let last = size - 1;
    for (range, first, end) in [
        ("bytes=0-0".to_owned(), 0, 1),
        (format!("bytes={last}-{last}"), last, size),
        (format!("bytes={}-", size / 2), size / 2, size),
        ("bytes=-1".to_owned(), last, size),
        (format!("bytes=-{}", 2 * size), 0, size),
        (
            format!("bytes={}-{}", size / 3, size / 2),
            size / 3,
            size / 2 + 1,
        ),
        (format!("bytes=0-{}", u64::MAX), 0, size),
    ] {
        let answer = ask(&range);
        assert_eq!(answer.status, 206, "{target} {range}");
        assert_eq!(answer.body, bytes[first..end], "{target} {range}");
        let found = format!("bytes {first}-{}/{size}", end - 1);
        assert_eq!(answer.header("content-range"), Some(&*found));
    }
    if size > 2 {
        let answer = ask(&format!("bytes=0-0,{last}-{last}"));
        let media_type = answer.header("content-type").unwrap();
        let boundary = media_type
            .strip_prefix("multipart/byteranges; boundary=")
            .unwrap();
        let part = |at: usize| {
            let head = format!(
                "\r\n--{boundary}\r\ncontent-type: application/octet-stream\r\ncontent-range: bytes {at}-{at}/{size}\r\n\r\n"
            );
            [head.as_bytes(), &bytes[at..=at]].concat()
        };
        let tail = format!("\r\n--{boundary}--\r\n");
        let expected = [part(0), part(last), tail.into_bytes()].concat();
        assert_eq!((answer.status, &answer.body), (206, &expected));
        let length = expected.len().to_string();
        assert_eq!(answer.header("content-length"), Some(&*length));
    }
    for (condition, status) in [(etag, 206), ("\"another\"", 200), ("W/\"x\"", 200)] {
        let request = Ask::new(&format!("GET {target}"))
            .header("range", "bytes=0-0")
            .header("if-range", condition);
        assert_eq!(
            strata_support::ask(isolate, &request).status,
            status,
            "{condition}"
        );
    }
}

#[test]
fn a_head_and_what_is_unchanged_cost_no_span() {
    let archive = Tar::default().file("a", words(1, 3 * SPAN)).end();
    let layer = gzip(&archive);
    let world = World::with_layer(&layer);
    let isolate = world.isolate(&[SMALL, NO_WARM]);
    let target = file(&layer, "a");
    let head = Ask::new(&format!("HEAD {target}"));
    let (answer, log) = world.ask(&isolate, &head);
    assert_eq!(answer.status, 200);
    assert_eq!(count(&log, "cold get blob"), 1, "the pass: {log:?}");
    let etag = answer.header("etag").unwrap().to_owned();
    let same = Ask::new(&format!("GET {target}")).header("if-none-match", etag);
    for request in [head, same] {
        let (_, log) = world.ask(&isolate, &request);
        assert_eq!(log, Vec::<String>::new());
    }
    assert_eq!(inflated(&isolate, "span"), 0);
    assert_eq!(metric(&isolate, "strata_layer_range_requests_total"), 0);
}

#[test]
fn fifty_reads_inflate_a_layer_once() {
    let names: Vec<String> = (0..50).map(|n| format!("dir/file-{n:02}")).collect();
    let tar = names
        .iter()
        .zip(1..)
        .fold(Tar::default(), |tar, (name, seed)| {
            tar.file(name, words(seed, 20_000))
        });
    let archive = tar.end();
    let layer = gzip(&archive);
    let world = World::with_layer(&layer);
    let first = world.isolate(&[SMALL]);
    let read_all = |isolate: &Isolate| {
        for (name, seed) in names.iter().zip(1..) {
            assert!(read(isolate, &file(&layer, name)) == words(seed, 20_000));
        }
    };
    world.log.borrow_mut().clear();
    read_all(&first);
    let size = archive.len() as u64;
    assert_eq!(inflated(&first, "pass"), size);
    assert_eq!(passes(&first, "indexed"), 1);
    // All but the last blocks of zeros is in files.
    assert!(inflated(&first, "span") <= size && inflated(&first, "span") > size * 9 / 10);
    let spans = metric(&first, "strata_inflate_operations_total{what=\"span\"}");
    assert!(spans >= size / SPAN as u64 / 2, "{spans} spans");
    assert_eq!(world.count("cold get blob") as u64, 1 + spans);
    assert_eq!(
        metric(
            &first,
            "strata_tier_misses_total{kind=\"span\",tier=\"hot\"}"
        ),
        spans
    );

    // What is hot is not inflated again, nor is anything asked for.
    let before = inflated(&first, "span");
    world.log.borrow_mut().clear();
    read_all(&first);
    assert_eq!(*world.log.borrow(), Vec::<String>::new());
    assert_eq!(inflated(&first, "span"), before);
    assert!(metric(&first, "strata_tier_hits_total{kind=\"span\",tier=\"hot\"}") > spans);

    // What is warm is not inflated again by any isolate.
    let second = world.isolate(&[SMALL]);
    world.log.borrow_mut().clear();
    read_all(&second);
    assert_eq!(
        (inflated(&second, "span"), inflated(&second, "pass")),
        (0, 0)
    );
    assert_eq!(world.count("cold get blob"), 0);
    assert_eq!(
        metric(
            &second,
            "strata_tier_hits_total{kind=\"span\",tier=\"warm\"}"
        ),
        spans
    );

    // What is forgotten is inflated from the index in the cold tier.
    world.warm.memory.forget();
    let third = world.isolate(&[SMALL]);
    world.log.borrow_mut().clear();
    read_all(&third);
    assert_eq!(inflated(&third, "pass"), 0);
    assert_eq!(inflated(&third, "span"), before);
    assert_eq!(world.count("cold get index"), 1);
}

#[test]
fn neighbouring_spans_come_with_one_range() {
    for (_, writer) in WRITERS {
        let bytes = words(1, 6 * SPAN);
        let archive = Tar::default().file("a", &bytes).end();
        let layer = through(writer, &archive);
        let world = World::with_layer(&layer);
        let isolate = world.isolate(&[SMALL, NO_WARM]);
        get(&isolate, &contents(&layer));
        // A span in the middle is hot already.
        let middle = Ask::new(&format!("GET {}", file(&layer, "a")));
        let middle = middle.header("range", format!("bytes={0}-{0}", 3 * SPAN));
        assert_eq!(ask(&isolate, &middle).body, bytes[3 * SPAN..=3 * SPAN]);
        let (ranges, read_bytes) = (
            "strata_layer_range_requests_total",
            "strata_layer_range_bytes_total",
        );
        assert_eq!(metric(&isolate, ranges), 1, "{writer}");
        assert!(metric(&isolate, read_bytes) < 3 * SPAN as u64);
        world.log.borrow_mut().clear();
        let whole = get(&isolate, &file(&layer, "a"));
        assert!(whole.body == bytes);
        // One word for all spans that one tier had.
        let timing = whole.header("server-timing").unwrap();
        assert_eq!(timing.matches("span;desc=cold").count(), 1, "{timing}");
        assert_eq!(
            metric(&isolate, ranges),
            3,
            "before it, and after it: {writer}"
        );
        let log = world.log.borrow().clone();
        let requests = count(&log, "cold get blob") + count(&log, "cold get span");
        assert_eq!(requests, 2, "{log:?}");
        // None of the bytes came twice.
        let stored = if world
            .log
            .borrow()
            .iter()
            .any(|entry| entry == "cold get span")
        {
            archive.len() as u64
        } else {
            layer.len() as u64
        };
        assert!(metric(&isolate, read_bytes) <= stored, "{writer}");
    }
}

#[test]
fn of_many_who_look_into_a_layer_one_indexes_it() {
    let archive = Tar::default().file("a", words(1, 4 * SPAN)).end();
    let layer = gzip(&archive);
    let world = World::with_layer(&layer);
    let isolate = world.isolate(&[SMALL]);
    let request = Ask::new(&format!("GET {}", file(&layer, "a")));
    world.log.borrow_mut().clear();
    let answers = block_on(join_all((0..32).map(|_| ask_now(&isolate, &request))));
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(world.count("cold put index"), 1);
    assert_eq!(inflated(&isolate, "pass"), archive.len() as u64);
    // Of the file's spans, each was inflated once.
    assert!(inflated(&isolate, "span") <= archive.len() as u64);
    assert!(metric(&isolate, "strata_single_flight_joins_total{kind=\"span\"}") > 0);
}

#[test]
fn of_many_who_wait_for_a_pass_that_fails_the_next_does_it() {
    let layer = gzip(&Tar::default().file("a", words(1, 4 * SPAN)).end());
    let world = World::with_layer(&layer);
    let isolate = world.isolate(&[SMALL]);
    let request = Ask::new(&format!("GET {}", file(&layer, "a")));
    world.fail("cold get blob", 1, lost());
    let answers = block_on(join_all((0..8).map(|_| ask_now(&isolate, &request))));
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        refused(answer, 503, "UNAVAILABLE");
        assert!(answer.header("retry-after").is_some());
    }
    assert_eq!(ask(&isolate, &request).status, 200);
}

/// What a reply is made of, item by item, as far as a client reads it.
async fn open(isolate: &Isolate, target: &str, range: Option<&str>) -> MemoryBody {
    let mut headers = http::HeaderMap::new();
    headers.insert("authorization", "Basic ZGV2OnNlY3JldA==".parse().unwrap());
    if let Some(range) = range {
        headers.insert("range", range.parse().unwrap());
    }
    let request = Request {
        method: http::Method::GET,
        target: target.to_owned(),
        origin: String::new(),
        address: String::new(),
        headers,
        body: None,
    };
    let (response, _) = isolate.answer(request).await;
    assert!(response.status().is_success(), "{}", response.status());
    match response.into_body() {
        Body::Stream(body) => body,
        Body::Empty | Body::Bytes(_) | Body::Held(_) => panic!("no stream"),
    }
}

#[test]
fn a_large_file_is_inflated_as_it_is_read() {
    let bytes = words(1, 20 * MIB);
    let archive = Tar::default().file("large", &bytes).end();
    for writer in ["cat", "gzip -1n", "zstd -1"] {
        let layer = through(writer, &archive);
        let world = World::with_layer(&layer);
        let isolate = world.isolate(&[]);
        let target = file(&layer, "large");
        assert_eq!(
            ask(&isolate, &Ask::new(&format!("HEAD {target}"))).status,
            200
        );
        world.log.borrow_mut().clear();
        block_on(async {
            let MemoryBody::Made(mut items) = open(&isolate, &target, None).await else {
                panic!("not made as it is read");
            };
            assert_eq!(
                *world.log.borrow(),
                Vec::<String>::new(),
                "nothing is read ahead"
            );
            let mut read = items.0.next().await.unwrap().unwrap();
            assert_eq!(metric(&isolate, "strata_layer_range_requests_total"), 1);
            let ahead = inflated(&isolate, "span");
            assert!(ahead <= 6 * MIB as u64, "{writer}: {ahead}");
            while let Some(item) = items.0.next().await {
                read.extend(item.unwrap());
                let held = inflated(&isolate, "span").saturating_sub(read.len() as u64);
                assert!(held <= 6 * MIB as u64, "{writer}: {held} bytes are held");
            }
            assert!(read == bytes, "{writer}");
        });
        // It passes by: neither memory nor the warm tier takes it.
        let held = "strata_tier_held_bytes{kind=\"span\",tier=\"hot\"}";
        assert_eq!(metric(&isolate, held), 0);
        assert_eq!(world.count("warm put span"), 0);
    }
}

#[test]
fn a_large_file_breaks_off_where_it_can_not_be_read() {
    let archive = Tar::default().file("large", words(1, 12 * MIB)).end();
    let layer = through("gzip -1n", &archive);
    let world = World::with_layer(&layer);
    let isolate = world.isolate(&[]);
    let target = file(&layer, "large");
    assert_eq!(
        ask(&isolate, &Ask::new(&format!("HEAD {target}"))).status,
        200
    );
    world.fail("cold get blob", 2, lost());
    let outcome = block_on(async { open(&isolate, &target, None).await.read().await });
    assert!(
        matches!(outcome, Err(StoreError::Failed(_))),
        "it ended as if all were there"
    );
    assert_eq!(read(&isolate, &target).len(), 12 * MIB);
}

#[test]
fn many_ranges_of_a_large_file_are_not_held_at_once() {
    let bytes = words(1, 40 * MIB);
    let archive = Tar::default().file("large", &bytes).end();
    let layer = through("gzip -1n", &archive);
    let world = World::with_layer(&layer);
    let isolate = world.isolate(&[]);
    let target = file(&layer, "large");
    assert_eq!(
        ask(&isolate, &Ask::new(&format!("HEAD {target}"))).status,
        200
    );
    let large = (0..5).map(|n| format!("{}-{}", n * 8 * MIB, (n + 1) * 8 * MIB - 2));
    // Of each span, a byte.
    let small = (0..40).map(|n| format!("{0}-{0}", n * MIB + 7));
    for ranges in [large.collect::<Vec<_>>(), small.collect()] {
        let before = inflated(&isolate, "span");
        let header = format!("bytes={}", ranges.join(","));
        let body = block_on(async {
            let body = open(&isolate, &target, Some(&header)).await;
            assert_eq!(
                inflated(&isolate, "span"),
                before,
                "it is inflated as it is read"
            );
            body.read().await.unwrap()
        });
        for range in ranges.iter().step_by(4) {
            let (first, last) = range.split_once('-').unwrap();
            let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
            let part = format!("bytes {range}/{}\r\n\r\n", bytes.len());
            let at = body
                .windows(part.len())
                .position(|window| window == part.as_bytes())
                .unwrap();
            let at = at + part.len();
            assert!(
                body[at..=at + last - first] == bytes[first..=last],
                "{range}"
            );
        }
    }
}

#[test]
fn holes_of_a_sparse_file_are_zeros() {
    let folder = Folder::create();
    let mut bytes = vec![0; 3 * MIB];
    for (at, seed) in [(0, 1), (MIB, 2), (2 * MIB + 8_192, 3)] {
        bytes[at..at + 40_000].copy_from_slice(&words(seed, 40_000));
    }
    let create = |name: &str, length: usize| {
        let file = File::create(folder.0.join(name)).unwrap();
        file.set_len(length as u64).unwrap();
        file
    };
    create("hollow", MIB);
    let sparse = create("sparse", bytes.len());
    for at in [0, MIB, 2 * MIB + 8_192] {
        let part = &bytes[at..at + 40_000];
        sparse.write_all_at(part, at as u64).unwrap();
    }
    for format in [
        "gnu",
        "posix --sparse-version=0.0",
        "posix --sparse-version=0.1",
        "posix --sparse-version=1.0",
    ] {
        let command =
            format!("tar -c -S --hole-detection=raw --format={format} sparse hollow | gzip -6n");
        let layer = run(&folder.0, &command);
        let world = World::with_layer(&layer);
        let isolate = world.isolate(&[SMALL]);
        let target = file(&layer, "sparse");
        assert!(read(&isolate, &target) == bytes, "{format}");
        assert!(
            read(&isolate, &file(&layer, "hollow")) == vec![0; MIB],
            "{format}"
        );
        let table = json_of(&get(&isolate, &contents(&layer)));
        let entry = &table["entries"][1];
        assert_eq!(
            (&entry["path"], &entry["size"]),
            (&json!("sparse"), &json!(3 * MIB))
        );
        assert!(entry["segments"].as_array().unwrap().len() >= 3, "{entry}");
        for (first, last) in [
            (100, 200),
            (500_000, 500_100),
            (39_990, 50_000),
            (MIB - 10, MIB + 10),
            (MIB + 100, 2 * MIB + 9_000),
            (3 * MIB - 5, 3 * MIB - 1),
            (0, 3 * MIB - 1),
        ] {
            let request = Ask::new(&format!("GET {target}"));
            let request = request.header("range", format!("bytes={first}-{last}"));
            let answer = ask(&isolate, &request);
            assert_eq!(answer.status, 206);
            assert!(
                answer.body == bytes[first..=last],
                "{format}: {first}-{last}"
            );
        }
        // A hole costs nothing.
        let hole = Ask::new(&format!("GET {target}")).header("range", "bytes=500000-600000");
        let (_, log) = world.ask(&world.isolate(&[SMALL, NO_WARM]), &hole);
        assert_eq!(log, ["cold get link", "cold get index"]);
    }
}

#[test]
fn many_segments_take_no_more_memory_than_their_bytes() {
    // A file of 3,000 bytes, each in the middle of nothing.
    let count = 3_000;
    let mut map = format!("{count}\n");
    for n in 0..count {
        map.push_str(&format!("{}\n1\n", n * 1_000 + 500));
    }
    let mut data = map.into_bytes();
    data.resize(data.len().next_multiple_of(512), 0);
    let ones = vec![b'1'; count];
    data.extend(&ones);
    let record = |key: &str, value: &str| {
        let rest = format!(" {key}={value}\n");
        let length = (1..).find(|n: &usize| n.to_string().len() + rest.len() == *n);
        format!("{}{rest}", length.unwrap())
    };
    let records = [
        record("GNU.sparse.major", "1"),
        record("GNU.sparse.minor", "0"),
        record("GNU.sparse.name", "sparse"),
        record("GNU.sparse.realsize", &(count * 1_000).to_string()),
    ];
    let tar = Tar::default().entry(b"x", b'x', "", records.concat().as_bytes());
    let layer = tar.file("sparse", data).end();
    let world = World::with_layer(&layer);
    let isolate = world.isolate(&[SMALL]);
    let answer = get(&isolate, &file(&layer, "sparse"));
    assert_eq!(answer.body.len(), count * 1_000, "{}", text(&answer));
    assert_eq!(
        answer.body.iter().filter(|byte| **byte == b'1').count(),
        count
    );
    // Headers do not grow with what it is made of.
    let headers: usize = answer.headers.values().map(http::HeaderValue::len).sum();
    assert!(headers < 2_000, "{headers} bytes of headers");
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

/// What is stored of the inside of a layer.
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

/// Asks until a layer is indexed; answers the fractions that were said on the way.
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

#[test]
fn a_layer_is_indexed_in_steps_that_come_to_the_same() {
    for (_, writer) in WRITERS {
        let (layer, _) = long_layer(writer);
        let target = file(&layer, "dir/file-07");
        let at_once = World::with_layer(&layer);
        assert!(read(&at_once.isolate(&[SMALL]), &target) == words(7, 200_000));
        assert!(progress(&at_once, &layer).is_none());
        assert_eq!(at_once.count("cold put progress"), 0);

        let world = World::with_layer(&layer);
        let isolate = world.isolate(&[SMALL, STEP]);
        let fractions = ask_on(&[&isolate], &target);
        assert!(
            fractions.len() >= 2 && fractions.len() < 16,
            "{writer}: {fractions:?}"
        );
        assert!(
            fractions.windows(2).all(|pair| pair[0] < pair[1])
                && fractions.iter().all(|f| *f < 1.0),
            "{writer}: {fractions:?}"
        );
        assert_eq!(passes(&isolate, "paused"), fractions.len() as u64);
        assert_eq!(passes(&isolate, "indexed"), 1);
        assert!(
            inside(&world, &layer) == inside(&at_once, &layer),
            "{writer}"
        );
        assert!(progress(&world, &layer).is_none());
        assert!(read(&isolate, &target) == words(7, 200_000));
    }
}

#[test]
fn the_clock_goes_on_with_what_somebody_began() {
    // The scrub has work to do by the clock as well.
    let settings = [SMALL, STEP, ("STRATA_SCRUB_DAYS", "0")];
    for (_, writer) in WRITERS {
        let (layer, _) = long_layer(writer);
        let world = World::with_layer(&layer);
        assert_eq!(
            get(&world.isolate(&settings), &contents(&layer)).status,
            202
        );
        let mut ticks = 0;
        while progress(&world, &layer).is_some() {
            block_on(world.isolate(&settings).tick());
            ticks += 1;
            assert!(ticks < 16, "{writer}");
        }
        let isolate = world.isolate(&settings);
        assert_eq!(get(&isolate, &contents(&layer)).status, 200, "{writer}");
        assert_eq!(inflated(&isolate, "pass"), 0);
        world.log.borrow_mut().clear();
        block_on(isolate.tick());
        assert_eq!(
            *world.log.borrow(),
            ["cold get cursor", "cold list progress"]
        );
    }
}

#[test]
fn isolates_that_alternate_come_to_the_same() {
    for (_, writer) in WRITERS {
        let (layer, _) = long_layer(writer);
        let at_once = World::with_layer(&layer);
        get(&at_once.isolate(&[SMALL]), &contents(&layer));
        let world = World::with_layer(&layer);
        let (one, other) = (world.isolate(&[SMALL, STEP]), world.isolate(&[SMALL, STEP]));
        let fractions = ask_on(&[&one, &other], &contents(&layer));
        assert!(
            fractions.windows(2).all(|pair| pair[0] < pair[1]),
            "{writer}: {fractions:?}"
        );
        assert!(
            inside(&world, &layer) == inside(&at_once, &layer),
            "{writer}"
        );
        // At the same time, they do the same twice, and harm nobody.
        let world = World::with_layer(&layer);
        let (one, other) = (world.isolate(&[SMALL, STEP]), world.isolate(&[SMALL, STEP]));
        let request = Ask::new(&format!("GET {}", contents(&layer)));
        for _ in 0..16 {
            block_on(join_all([
                ask_now(&one, &request),
                ask_now(&other, &request),
            ]));
        }
        assert!(
            inside(&world, &layer) == inside(&at_once, &layer),
            "{writer}"
        );
        // Should one have written after the other was done, the clock clears it away.
        block_on(async {
            for _ in 0..16 {
                one.tick().await;
            }
        });
        assert!(progress(&world, &layer).is_none(), "{writer}");
        assert!(
            inside(&world, &layer) == inside(&at_once, &layer),
            "{writer}"
        );
    }
}

#[test]
fn an_isolate_that_dies_in_the_middle_of_a_step_leaves_it_to_others() {
    let (layer, _) = long_layer("gzip -6n");
    for (at, number) in [
        ("cold put progress", 1),
        ("cold put progress", 2),
        ("cold put index", 1),
    ] {
        let world = World::with_layer(&layer);
        let dying = world.isolate(&[SMALL, STEP]);
        world.fail(at, number, Verdict::Never);
        let request = Ask::new(&format!("GET {}", contents(&layer)));
        block_on(async {
            // The platform cancels what never ends.
            for _ in 0..12 {
                let asked = pin!(ask_now(&dying, &request));
                let patience = pin!(async {
                    for _ in 0..100 {
                        turn().await;
                    }
                });
                select(asked, patience).await;
            }
        });
        let fractions = ask_on(&[&world.isolate(&[SMALL, STEP])], &contents(&layer));
        assert!(fractions.len() < 8, "{fractions:?}");
        assert_eq!(get(&dying, &contents(&layer)).status, 200);
        assert!(progress(&world, &layer).is_none());
    }
}

#[test]
fn a_pass_over_a_layer_that_is_gone_is_given_up() {
    let (layer, _) = long_layer("gzip -6n");
    let world = World::with_layer(&layer);
    let isolate = world.isolate(&[SMALL, STEP]);
    assert_eq!(get(&isolate, &contents(&layer)).status, 202);
    let deleted = ask(
        &isolate,
        &Ask::new(&format!("DELETE /v2/a/blobs/{}", digest(&layer))),
    );
    assert_eq!(deleted.status, 202);
    refused(&get(&isolate, &contents(&layer)), 404, "BLOB_UNKNOWN");
    world.delete(&key::blob(&digest(&layer)));
    block_on(isolate.tick());
    assert!(progress(&world, &layer).is_none());
    // Where the blob goes while it is looked into, nobody is told that it is no layer.
    let world = World::with_layer(&layer);
    let isolate = world.isolate(&[SMALL, STEP]);
    assert_eq!(get(&isolate, &contents(&layer)).status, 202);
    world.delete(&key::blob(&digest(&layer)));
    let (message, _) = refused(&get(&isolate, &contents(&layer)), 503, "UNAVAILABLE");
    assert!(message.contains("push it again"), "{message}");
    assert!(inside(&world, &layer).is_empty());
    // Nor where it is not all there.
    let world = World::with_layer(&layer);
    let blob = key::blob(&digest(&layer));
    let head = block_on(world.cold.memory.head(&blob)).unwrap().unwrap();
    let options = PutOptions {
        metadata: &head.metadata,
        ..PutOptions::default()
    };
    let short = Content::Bytes(layer[..layer.len() - 9].to_vec());
    block_on(world.cold.memory.put(&blob, short, options)).unwrap();
    refused(
        &get(&world.isolate(&[]), &contents(&layer)),
        503,
        "UNAVAILABLE",
    );
    assert!(inside(&world, &layer).is_empty());
}

#[test]
fn the_clock_is_not_held_up_by_a_layer_that_can_not_be_read() {
    let mut layers: Vec<Vec<u8>> = (0..7)
        .map(|seed| gzip(&Tar::default().file("a", words(seed, 1_000)).end()))
        .collect();
    layers.sort_by_key(|layer| key::indexing(&digest(layer)));
    let world = World::new();
    let isolate = world.isolate(&[]);
    for (number, layer) in layers.iter().enumerate() {
        if number < 5 {
            // Of those that come first, the bytes are gone, and what says where they are is not.
            let start = ask(&isolate, &Ask::new("POST /v2/a/blobs/uploads/"));
            let patch = Ask::new(&format!("PATCH {}", start.location()));
            let location = ask(&isolate, &patch.stream(layer)).location();
            let target = format!("PUT {location}&digest={}", digest(layer));
            assert_eq!(ask(&isolate, &Ask::new(&target)).status, 201);
        } else {
            push_blob(&isolate, "a", layer);
        }
        world.store(&key::indexing(&digest(layer)), Vec::new());
    }
    let keys = world.cold.memory.keys();
    let extents = keys.iter().filter(|key| key.starts_with("extents/"));
    extents.for_each(|key| world.delete(key));
    block_on(isolate.tick());
    for layer in &layers[..5] {
        assert!(inside(&world, layer).is_empty());
    }
    for layer in &layers[5..] {
        assert!(progress(&world, layer).is_none(), "it was never come to");
        assert!(!inside(&world, layer).is_empty());
    }
    assert_eq!(isolate.host().log.borrow().len(), 5);
}

/// Layers that can't be indexed, with the setting under which they can't, and the word for the reason.
fn refusals() -> Vec<(Vec<u8>, (&'static str, &'static str), &'static str)> {
    let none = ("STRATA_LOG", "errors");
    let two = Tar::default()
        .file("a", words(1, 100_000))
        .file("b", "")
        .end();
    // Its checksum alone is another.
    let mut check = gzip(&two);
    let at = check.len() - 6;
    check[at] ^= 1;
    let mut cut = gzip(&two);
    cut.truncate(cut.len() - 9);
    let zeros = Tar::default().file("zeros", vec![0; 70 * MIB]).end();
    let long = "x".repeat(20_000);
    let long = Tar::default().entry(b"././@LongLink", b'L', "", long.as_bytes());
    vec![
        (noise(1, 5_000), none, "tar"),
        (b"{}".to_vec(), none, "tar"),
        (two[..two.len() - 90_000].to_vec(), none, "tar"),
        (gzip(&noise(1, 5_000)), none, "tar"),
        (check, none, "gzip"),
        (cut, none, "gzip"),
        (
            [&through("zstd -3", &two)[..], b"garbage"].concat(),
            none,
            "zstd",
        ),
        (through("xz -0", &two), none, "compression"),
        (gzip(&two), ("STRATA_INDEX_ENTRIES", "1"), "tar"),
        (gzip(&long.file("y", "").end()), none, "tar"),
        (
            gzip(&long_layer("cat").1),
            ("STRATA_INFLATED_BYTES", "1048576"),
            "size",
        ),
        (gzip(&zeros), none, "ratio"),
        (through("zstd -1", &zeros), none, "ratio"),
    ]
}

#[test]
fn what_can_not_be_indexed_is_refused_with_a_reason_and_remembered() {
    for (layer, setting, kind) in refusals() {
        let world = World::with_layer(&layer);
        let isolate = world.isolate(&[setting]);
        let (message, detail) = refused(&get(&isolate, &contents(&layer)), 422, "LAYER_INVALID");
        assert_eq!(detail["reason"], kind, "{message}");
        assert_eq!(detail["digest"], digest(&layer).to_string());
        let name = format!("strata_layer_refusals_total{{reason=\"{kind}\"}}");
        assert_eq!(
            (passes(&isolate, "refused"), metric(&isolate, &name)),
            (1, 1)
        );
        // Nobody reads it again in vain, here or elsewhere.
        let (again, log) = world.ask(&isolate, &Ask::new(&format!("GET {}", contents(&layer))));
        assert_eq!(refused(&again, 422, "LAYER_INVALID").0, message);
        assert_eq!(log, Vec::<String>::new(), "{message}");
        let other = world.isolate(&[setting]);
        let (again, log) = world.ask(&other, &Ask::new(&format!("GET {}", file(&layer, "a"))));
        assert_eq!(refused(&again, 422, "LAYER_INVALID").0, message);
        assert_eq!(count(&log, "cold get blob"), 0, "{log:?}");
        assert!(progress(&world, &layer).is_none());
        // It can be pulled all the same.
        let blob = format!("/v2/a/blobs/{}", digest(&layer));
        assert!(read(&isolate, &blob) == layer);
    }
}

#[test]
fn what_was_beyond_a_limit_is_tried_again_under_another() {
    let layer = gzip(&Tar::default().file("a", "1").file("b", "2").end());
    let world = World::with_layer(&layer);
    let strict = world.isolate(&[("STRATA_INDEX_ENTRIES", "1")]);
    // Often enough for the refusal to go warm.
    for _ in 0..5 {
        refused(&get(&strict, &contents(&layer)), 422, "LAYER_INVALID");
    }
    assert!(world.count("warm put index") > 0);
    let lax = world.isolate(&[("STRATA_INDEX_ENTRIES", "2")]);
    assert_eq!(read(&lax, &file(&layer, "b")), b"2");
    assert_eq!(passes(&lax, "indexed"), 1);
    // Others find it.
    let third = world.isolate(&[("STRATA_INDEX_ENTRIES", "2")]);
    assert_eq!(read(&third, &file(&layer, "b")), b"2");
    assert_eq!(passes(&third, "indexed"), 0);
    // What is no layer at all is not tried again.
    let garbage = noise(1, 1_000);
    push_blob(&strict, "a", &garbage);
    refused(&get(&strict, &contents(&garbage)), 422, "LAYER_INVALID");
    refused(&get(&lax, &contents(&garbage)), 422, "LAYER_INVALID");
    assert_eq!(passes(&lax, "refused"), 0);
}

#[test]
fn a_small_layer_that_would_inflate_to_much_is_stopped_early() {
    let command = "head -c 1073741824 /dev/zero | zstd -1";
    let zeros = run(&Folder::create().0, command);
    let world = World::with_layer(&zeros);
    let isolate = world.isolate(&[]);
    let (_, detail) = refused(&get(&isolate, &contents(&zeros)), 422, "LAYER_INVALID");
    assert!(zeros.len() < 200_000, "{}", zeros.len());
    assert!(inflated(&isolate, "pass") <= 65 * MIB as u64, "{detail}");
}

#[test]
fn an_index_that_is_of_no_use_is_made_anew() {
    let layer = gzip(&Tar::default().file("a", words(1, 3 * SPAN)).end());
    let world = World::with_layer(&layer);
    assert!(read(&world.isolate(&[SMALL]), &file(&layer, "a")) == words(1, 3 * SPAN));
    let key = key::index(&digest(&layer));
    let right = world.stored(&key).unwrap();
    let mut other_version = right.clone();
    other_version[8] = 2;
    let mut flipped = right.clone();
    flipped[30] ^= 1;
    let wrong = [
        other_version,
        flipped,
        right[..right.len().min(60)].to_vec(),
        Vec::new(),
        b"strata\0i".to_vec(),
    ];
    for bytes in wrong {
        world.store(&key, bytes.clone());
        world.warm.memory.forget();
        let isolate = world.isolate(&[SMALL]);
        assert!(read(&isolate, &file(&layer, "a")) == words(1, 3 * SPAN));
        assert_eq!(passes(&isolate, "indexed"), 1);
        assert!(world.stored(&key).unwrap() == right);

        // Where the warm tier has it as well, nobody is held up, and nobody makes it twice.
        let value = warm::Value {
            content: warm::Content {
                media_type: String::new(),
                bytes: MemoryBytes::copy_from(&bytes),
            },
            confirmed: world.host.now.get(),
            links: Vec::new(),
        };
        let sealed = block_on(value.seal(false, false)).unwrap();
        block_on(
            world
                .warm
                .memory
                .put(&key, sealed.bytes, Duration::from_secs(60)),
        )
        .unwrap();
        world.host.pass(Duration::from_secs(1));
        let isolate = world.isolate(&[SMALL]);
        assert!(read(&isolate, &file(&layer, "a")) == words(1, 3 * SPAN));
        assert_eq!(passes(&isolate, "indexed"), 0);
        assert_eq!(
            block_on(world.warm.memory.get(&key)),
            Ok(None),
            "it is gone"
        );
    }
}

#[test]
fn a_part_of_an_index_that_is_of_no_use_has_it_made_anew() {
    let layer = gzip(&Tar::default().file("a", words(1, 3 * SPAN)).end());
    let world = World::with_layer(&layer);
    let target = file(&layer, "a");
    assert!(read(&world.isolate(&[SMALL]), &target) == words(1, 3 * SPAN));
    let key = key::index(&digest(&layer));
    let right = world.stored(&key).unwrap();
    let head = u32::from_le_bytes(right[12..16].try_into().unwrap()) as usize;
    // The first block of the table of contents, and the last window.
    for at in [head + 2, right.len() - 5] {
        let mut wrong = right.clone();
        wrong[at] ^= 0xff;
        world.store(&key, wrong);
        world.warm.memory.forget();
        let isolate = world.isolate(&[SMALL]);
        refused(&get(&isolate, &target), 503, "UNAVAILABLE");
        assert!(read(&isolate, &target) == words(1, 3 * SPAN), "{at}");
        assert!(world.stored(&key).unwrap() == right);
    }
    // Spans that were stored, and are gone.
    let layer = through(
        "zstd -3 --zstd=wlog=17",
        &Tar::default().file("a", words(1, 9 * SPAN)).end(),
    );
    let world = World::with_layer(&layer);
    let target = file(&layer, "a");
    assert_eq!(get(&world.isolate(&[SMALL]), &contents(&layer)).status, 200);
    world.delete(&key::stored(&digest(&layer), 0));
    let isolate = world.isolate(&[SMALL]);
    refused(&get(&isolate, &target), 503, "UNAVAILABLE");
    assert!(read(&isolate, &target) == words(1, 9 * SPAN));
}

/// An archive with so many files of long names that do not compress.
fn crowded(count: u64) -> Vec<u8> {
    let tar = (0..count).fold(Tar::default(), |tar, n| {
        let name: String = noise(n + 1, 90)
            .iter()
            .map(|byte| char::from(b'0' + byte % 64).to_ascii_lowercase())
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
            .collect();
        tar.file(format!("{:04x}/{name}", n % 40), "")
    });
    tar.file("zz/last", words(1, 100)).end()
}

#[test]
fn of_a_large_index_a_lookup_reads_one_block() {
    let layer = crowded(45_000);
    let world = World::with_layer(&layer);
    assert_eq!(get(&world.isolate(&[]), &contents(&layer)).status, 200);
    let digest = digest(&layer);
    let (head, pages) = (
        world.stored(&key::index(&digest)).unwrap(),
        world.stored(&key::pages(&digest)).unwrap(),
    );
    assert!(head.len() + pages.len() > 2 * MIB && head.len() < 200_000);
    world.warm.memory.forget();
    let isolate = world.isolate(&[]);
    let request = Ask::new(&format!("GET {}", file(&layer, "zz/last")));
    let (answer, log) = world.ask(&isolate, &request);
    assert_eq!(answer.body, words(1, 100));
    let before: Vec<&String> = log
        .iter()
        .filter(|entry| !entry.starts_with("warm put"))
        .collect();
    assert_eq!(
        before,
        [
            "cold get link",
            "warm get index",
            "cold get index",
            "cold get pages",
            "warm get span",
            "cold get blob"
        ]
    );
    let (_, log) = world.ask(&isolate, &request);
    assert_eq!(log, Vec::<String>::new());
    // What is not there is known from one block as well.
    let absent = Ask::new(&format!("GET {}", file(&layer, "0007/zzz")));
    let (answer, log) = world.ask(&isolate, &absent);
    refused(&answer, 404, "FILE_UNKNOWN");
    let pages_read = count(&log, "cold get pages");
    let asked = log.iter().filter(|entry| !entry.starts_with("warm put"));
    assert!(pages_read <= 2 && asked.count() == pages_read, "{log:?}");
    // Pages that are gone have the index made anew.
    world.delete(&key::pages(&digest));
    let isolate = world.isolate(&[NO_WARM]);
    refused(&ask(&isolate, &request), 503, "UNAVAILABLE");
    assert_eq!(ask(&isolate, &request).body, words(1, 100));
    assert!(world.stored(&key::pages(&digest)).unwrap() == pages);
}

#[test]
fn a_store_that_fails_once_harms_nobody() {
    let bytes = words(1, 9 * SPAN);
    let archive = Tar::default().file("a", &bytes).end();
    let long = layer_of(8, "zstd -3 --zstd=wlog=17").0;
    let (layer, stored) = (gzip(&archive), through("zstd -3 --zstd=wlog=17", &archive));
    let cases = [
        (&layer, "a", &bytes, vec![SMALL]),
        (&stored, "a", &bytes, vec![SMALL]),
        (&long, "dir/file-03", &words(3, 200_000), vec![SMALL, STEP]),
    ];
    for (layer, path, bytes, settings) in cases {
        let target = file(layer, path);
        let right = World::with_layer(layer);
        right.log.borrow_mut().clear();
        ask_on(&[&right.isolate(&settings)], &target);
        let operations = right.log.borrow().len();
        let expected = inside(&right, layer);
        assert!(operations > 5);
        let mut failures = 0;
        // Of many operations, those of steps are alike: every so many of them fail.
        for number in (1..=operations).step_by(1 + operations / 10) {
            for verdict in [
                lost(),
                Verdict::Kept(StoreError::Failed("on purpose".to_owned())),
            ] {
                let what = format!("{verdict:?} at {number} of {operations}");
                let world = World::with_layer(layer);
                let isolate = world.isolate(&settings);
                world.fail("", number, verdict);
                for _ in 0..32 {
                    let answer = get(&isolate, &target);
                    match answer.status {
                        200 => {
                            assert!(answer.body == *bytes, "{what}");
                            break;
                        }
                        202 => {}
                        _ => {
                            failures += 1;
                            refused(&answer, 503, "UNAVAILABLE");
                            assert!(answer.header("retry-after").is_some(), "{what}");
                        }
                    }
                }
                assert!(get(&isolate, &target).body == *bytes, "{what}");
                assert!(inside(&world, layer) == expected, "{what}");
                block_on(async {
                    for _ in 0..16 {
                        isolate.tick().await;
                    }
                });
                assert!(progress(&world, layer).is_none(), "{what}");
            }
        }
        assert!(failures > 4, "{failures} failures were seen");
    }
}

#[test]
fn spans_of_which_many_come_out_of_little_are_stored_each_by_its_number() {
    // Noise that comes again is next to nothing for zstd, and all of it for deflate.
    let noise: Vec<u8> = (0..30_000_u32)
        .flat_map(|n| *digest(&n.to_le_bytes()).hash().first_chunk::<32>().unwrap())
        .collect();
    let tar = (0..16).fold(Tar::default(), |tar, n| {
        tar.file(format!("file-{n:02}"), &noise)
    });
    let layer = through("zstd -3 --zstd=wlog=21", &tar.end());
    assert!(layer.len() < 2 * noise.len(), "{}", layer.len());
    let world = World::with_layer(&layer);
    let isolate = world.isolate(&[]);
    for n in 0..16 {
        let answer = get(&isolate, &file(&layer, &format!("file-{n:02}")));
        assert_eq!(
            answer.status,
            200,
            "{}",
            String::from_utf8_lossy(&answer.body)
        );
        assert!(answer.body == noise, "file {n}");
    }
    let stored = world.cold.memory.keys();
    let stored = stored.iter().filter(|key| key.contains("/spans/")).count();
    assert!(stored >= 4, "{stored} objects");
}

#[test]
fn a_warm_tier_that_fails_or_lies_is_passed_over() {
    let bytes = words(1, 3 * SPAN);
    let layer = gzip(&Tar::default().file("a", &bytes).end());
    let target = file(&layer, "a");
    let world = World::with_layer(&layer);
    let isolate = world.isolate(&[SMALL, ("STRATA_WARM_READS", "1")]);
    assert!(read(&isolate, &target) == bytes);
    assert!(
        world.warm.memory.keys().len() >= 3,
        "the index, and each span"
    );
    for (operations, verdict) in [("warm", lost()), ("warm get", Verdict::Never)] {
        world.fail_all(operations, verdict);
        assert!(read(&world.isolate(&[SMALL]), &target) == bytes);
    }
    world.heal();
    for (key, life) in world.warm.memory.keys() {
        let right = block_on(world.warm.memory.get(&key)).unwrap().unwrap();
        let right = right.to_vec();
        for at in [0, 20, right.len() / 2, right.len() - 1] {
            let mut wrong = right.clone();
            wrong[at] ^= 0x10;
            block_on(
                world
                    .warm
                    .memory
                    .put(&key, MemoryBytes::copy_from(&wrong), life),
            )
            .unwrap();
            let isolate = world.isolate(&[SMALL]);
            assert!(read(&isolate, &target) == bytes, "{key} at {at}");
        }
    }
}

#[test]
fn a_layer_is_for_those_who_may_pull_it() {
    let layer = gzip(&Tar::default().file("a", "1").end());
    let world = World::with_layer(&layer);
    let isolate = world.isolate(&[]);
    assert_eq!(read(&isolate, &file(&layer, "a")), b"1");
    let digest = digest(&layer);
    for target in [
        format!("/v2/other/_strata/layers/{digest}"),
        format!("/v2/other/_strata/layers/{digest}/files/a"),
        format!("/v2/a/_strata/layers/sha256:{}/files/a", "0".repeat(64)),
    ] {
        let (_, detail) = refused(&get(&isolate, &target), 404, "BLOB_UNKNOWN");
        assert!(detail["digest"].is_string());
    }
    refused(
        &get(&isolate, "/v2/a/_strata/images/v1/files/a"),
        404,
        "MANIFEST_UNKNOWN",
    );
    let public = world.isolate(&[("STRATA_ANONYMOUS_PULL", "true")]);
    for target in [
        contents(&layer),
        file(&layer, "a"),
        "/v2/a/_strata/images/v1/files/a".to_owned(),
        "/v2/_oci/ext/discover".to_owned(),
    ] {
        let request = Ask::new(&format!("GET {target}")).anonymous();
        let (answer, log) = world.ask(&isolate, &request);
        refused(&answer, 401, "UNAUTHORIZED");
        assert_eq!(log, Vec::<String>::new());
        assert_ne!(ask(&public, &request).status, 401, "{target}");
        for method in ["PUT", "POST", "DELETE", "PATCH", "BREW"] {
            let answer = ask(&isolate, &Ask::new(&format!("{method} {target}")));
            refused(&answer, 405, "UNSUPPORTED");
            assert_eq!(answer.header("allow"), Some("GET, HEAD"));
        }
    }
}

/// Where the next page is.
fn next(answer: &Answer) -> Option<String> {
    let link = answer.header("link")?;
    let target = link.strip_prefix('<')?.strip_suffix(">; rel=\"next\"")?;
    Some(target.to_owned())
}

/// What all pages list, by this name.
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

fn odd_archive() -> Vec<u8> {
    Tar::default()
        .directory("etc/")
        .file("etc/passwd", "root")
        .file(b"etc/\xff\xfe", "bytes")
        .file("etc/a b&c=d%2F+\u{e9}", "odd")
        .file("etc/.wh.shadow", "")
        .file("opt/.wh..wh..opq", "")
        .hard_link("etc/again", "etc/passwd")
        .symlink("link", "etc")
        .symlink("up", "../../../../etc/passwd")
        .symlink("absolute", "/etc/passwd")
        .symlink("loop", "loop")
        .symlink("dangling", "nowhere")
        .entry(b"dev/null", b'3', "", b"")
        .entry(b"dev/disk", b'4', "", b"")
        .entry(b"run/pipe", b'6', "", b"")
        .file("etc/passwd", "twice")
        .end()
}

#[test]
fn a_table_of_contents_says_what_is_in_a_layer() {
    let archive = odd_archive();
    let layer = gzip(&archive);
    let world = World::with_layer(&layer);
    let isolate = world.isolate(&[]);
    let whole = get(&isolate, &contents(&layer));
    assert_eq!(whole.header("content-type"), Some("application/json"));
    let body = json_of(&whole);
    for (name, value) in [
        ("digest", json!(digest(&layer).to_string())),
        ("diffId", json!(digest(&archive).to_string())),
        ("compression", json!("gzip")),
        ("size", json!(layer.len())),
        ("inflatedSize", json!(archive.len())),
        ("spanSize", json!(MIB)),
        ("spans", json!(1)),
        ("entryCount", json!(16)),
        (
            "indexSize",
            json!(world.stored(&key::index(&digest(&layer))).unwrap().len()),
        ),
    ] {
        assert_eq!(body[name], value, "{name}");
    }
    let entries = body["entries"].as_array().unwrap();
    let paths: Vec<&str> = entries
        .iter()
        .map(|entry| entry["path"].as_str().unwrap())
        .collect();
    assert_eq!(entries.len(), 16);
    assert!(paths.is_sorted_by(|a, b| a <= b), "{paths:?}");
    let of = |path: &str| entries.iter().rfind(|entry| entry["path"] == path).unwrap();
    assert_eq!(
        of("etc/passwd"),
        &json!({ "path": "etc/passwd", "type": "file", "mode": 0o644, "uid": 0, "gid": 0, "size": 5, "modified": "15", "offset": of("etc/passwd")["offset"] })
    );
    assert_eq!(of("etc/.wh.shadow")["whiteout"], "name");
    assert_eq!(of("opt/.wh..wh..opq")["whiteout"], "opaque");
    assert_eq!(
        (&of("link")["type"], &of("link")["link"]),
        (&json!("symlink"), &json!("etc"))
    );
    assert_eq!(
        (&of("etc/again")["type"], &of("etc/again")["link"]),
        (&json!("hardlink"), &json!("etc/passwd"))
    );
    assert_eq!(
        (&of("dev/null")["type"], &of("dev/disk")["type"]),
        (&json!("char"), &json!("block"))
    );
    assert_eq!(of("dev/null")["device"], json!([0, 0]));
    assert_eq!(of("run/pipe")["type"], "fifo");
    assert!(of("etc/passwd").get("pathEncoded").is_none());
    let bytes = of("etc/\u{fffd}\u{fffd}");
    assert_eq!(bytes["pathEncoded"], "etc/%FF%FE");
    assert_eq!(read(&isolate, &file(&layer, "etc/%FF%FE")), b"bytes");
    assert_eq!(
        read(&isolate, &file(&layer, "etc/a%20b&c=d%252F+%C3%A9")),
        b"odd"
    );

    // All pages together are the same, and none says an entry twice. What has one path is not parted.
    for limit in 1..=16 {
        let target = format!("{}?n={limit}", contents(&layer));
        let (paged, count) = pages(&isolate, &target, "entries");
        assert_eq!(&paged, entries, "{limit}");
        assert!(
            count >= 15_usize.div_ceil(limit) && count <= 15,
            "{count} pages of {limit}"
        );
    }
    let target = format!("{}?n=2&prefix=etc%2F", contents(&layer));
    let (below, _) = pages(&isolate, &target, "entries");
    let expected: Vec<_> = entries
        .iter()
        .filter(|entry| entry["path"].as_str().unwrap().starts_with("etc/"))
        .cloned()
        .collect();
    assert_eq!(below, expected);
    let (odd, _) = pages(
        &isolate,
        &format!("{}?prefix=etc/%FF", contents(&layer)),
        "entries",
    );
    assert_eq!(odd.len(), 1);
    assert_eq!(
        pages(
            &isolate,
            &format!("{}?prefix=zzz", contents(&layer)),
            "entries"
        )
        .0
        .len(),
        0
    );
    let none = get(&isolate, &format!("{}?n=0", contents(&layer)));
    assert_eq!(
        (
            json_of(&none)["entries"].as_array().unwrap().len(),
            next(&none)
        ),
        (0, None)
    );
    let wrong = get(&isolate, &format!("{}?n=x", contents(&layer)));
    assert_eq!(wrong.status, 400);

    let etag = whole.header("etag").unwrap().to_owned();
    let request = Ask::new(&format!("GET {}", contents(&layer))).header("if-none-match", etag);
    let (answer, log) = world.ask(&isolate, &request);
    assert_eq!((answer.status, answer.body.len(), log.len()), (304, 0, 0));
    let head = ask(&isolate, &Ask::new(&format!("HEAD {}", contents(&layer))));
    assert_eq!(
        head.header("content-length"),
        whole.header("content-length")
    );
}

#[test]
fn directories_are_listed_and_what_is_no_file_has_no_bytes() {
    let layer = gzip(&odd_archive());
    let world = World::with_layer(&layer);
    let isolate = world.isolate(&[]);
    let names = |target: &str, limit: usize| {
        let (children, _) = pages(&isolate, &format!("{target}?n={limit}"), "children");
        children
            .iter()
            .map(|child| child["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let root = [
        "absolute", "dangling", "dev", "etc", "link", "loop", "opt", "run", "up",
    ];
    let etc = ["a b&c=d%2F+\u{e9}", "again", "passwd", "\u{fffd}\u{fffd}"];
    for limit in 1..=12 {
        assert_eq!(names(&file(&layer, ""), limit), root, "{limit}");
        for path in ["etc/", "link/", "./etc/../etc/"] {
            assert_eq!(names(&file(&layer, path), limit), etc, "{path}");
        }
    }
    let without = contents(&layer) + "/files";
    assert_eq!(names(&without, 100), root);
    let listed = json_of(&get(&isolate, &file(&layer, "etc/")));
    assert_eq!(listed["path"], "etc/");
    assert_eq!(listed["children"][3]["nameEncoded"], "%FF%FE");
    assert_eq!(listed["children"][2]["layer"], digest(&layer).to_string());
    let implied = json_of(&get(&isolate, &file(&layer, "")));
    assert_eq!(
        implied["children"][2],
        json!({ "name": "dev", "type": "directory" })
    );

    for (path, status, said) in [
        ("etc", 422, "etc is a directory, ask for etc/ to list it"),
        ("link", 422, "etc is a directory, ask for etc/ to list it"),
        ("dev", 422, "dev is a directory"),
        ("dev/null", 422, "dev/null is a char, which has no bytes"),
        ("dev/disk", 422, "dev/disk is a block"),
        ("run/pipe", 422, "run/pipe is a fifo"),
        ("loop", 422, "more than 40 symbolic links"),
        ("loop/x", 422, "more than 40 symbolic links"),
        ("dangling", 404, "no such file or directory"),
        ("etc/shadow", 404, "no such file or directory"),
        ("etc/.wh.shadow", 404, "no such file or directory"),
        ("nothing", 404, "no such file or directory"),
        ("etc/passwd/x", 404, "not a directory"),
        ("etc/passwd/", 404, "not a directory"),
        ("nothing/", 404, "no such file or directory"),
        ("etc%2Fnothing", 404, "no such file or directory"),
    ] {
        let (message, _) = refused(&get(&isolate, &file(&layer, path)), status, "FILE_UNKNOWN");
        assert!(message.contains(said), "{path}: {message}");
    }
    // Nothing leads out of the layer.
    for path in [
        "up",
        "absolute",
        "link/passwd",
        "etc/again",
        "../../etc/passwd",
        "etc/../../../etc/passwd",
        "/etc//passwd",
        "%2e%2e/etc/passwd",
        "etc%2Fpasswd",
    ] {
        let expected: &[u8] = if path == "etc/again" {
            b"root"
        } else {
            b"twice"
        };
        assert_eq!(read(&isolate, &file(&layer, path)), expected, "{path}");
    }
}

#[test]
fn an_image_is_its_layers_over_each_other() {
    let archives = [
        Tar::default()
            .file("etc/gone", "below")
            .file("etc/kept", "kept")
            .file("etc/replaced", "old")
            .file("opt/below", "hidden")
            .file("lib/real", "real")
            .symlink("current", "lib")
            .end(),
        Tar::default()
            .file("etc/.wh.gone", "")
            .file("etc/replaced", "new")
            .file("opt/.wh..wh..opq", "")
            .file("opt/above", "above")
            .hard_link("lib/hard", "lib/real")
            .end(),
        Tar::default().file("etc/replaced", "newest").end(),
    ];
    let layers = [
        gzip(&archives[0]),
        through("zstd -3", &archives[1]),
        archives[2].clone(),
    ];
    let parts: Vec<(&[u8], &[u8])> = layers
        .iter()
        .zip(&archives)
        .map(|(layer, archive)| (&**layer, &**archive))
        .collect();
    let world = World::new();
    let isolate = world.isolate(&[]);
    let manifest = push_image(&isolate, "v1", &parts);
    let by_digest = digest(manifest.to_string().as_bytes()).to_string();
    for (reference, cache) in [
        ("v1", "private, no-cache, no-transform"),
        (
            &*by_digest,
            "private, max-age=31536000, immutable, no-transform",
        ),
    ] {
        let target = |path: &str| format!("/v2/a/_strata/images/{reference}/files/{path}");
        for (path, bytes) in [
            ("etc/kept", "kept"),
            ("etc/replaced", "newest"),
            ("opt/above", "above"),
            ("lib/hard", "real"),
            ("current/real", "real"),
            ("current/hard", "real"),
        ] {
            let answer = get(&isolate, &target(path));
            assert_eq!(text(&answer), bytes, "{path}");
            assert_eq!(answer.header("cache-control"), Some(cache));
        }
        for path in ["etc/gone", "opt/below", "etc/.wh.gone"] {
            refused(&get(&isolate, &target(path)), 404, "FILE_UNKNOWN");
        }
        let listed = get(&isolate, &target("etc/"));
        assert_eq!(listed.header("cache-control"), Some(cache));
        let listed = json_of(&listed);
        let children = listed["children"].as_array().unwrap();
        let names: Vec<_> = children
            .iter()
            .map(|child| child["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["kept", "replaced"]);
        assert_eq!(children[0]["layer"], digest(&layers[0]).to_string());
        assert_eq!(children[1]["layer"], digest(&layers[2]).to_string());
    }
    // Each file is from its layer: two with the same name differ by their tag.
    let tag = |target: String| get(&isolate, &target).header("etag").map(str::to_owned);
    assert_ne!(
        tag(file(&layers[0], "etc/replaced")),
        tag(file(&layers[2], "etc/replaced"))
    );
    assert_eq!(
        tag("/v2/a/_strata/images/v1/files/etc/replaced".to_owned()),
        tag(file(&layers[2], "etc/replaced"))
    );
}

#[test]
fn of_an_index_of_images_one_is_chosen_by_platform() {
    let world = World::new();
    let isolate = world.isolate(&[]);
    let image = |what: &str| {
        let archive = Tar::default().file("what", what).end();
        let manifest = push_image(&isolate, what, &[(&gzip(&archive), &archive)]);
        descriptor(OCI_MANIFEST, manifest.to_string().as_bytes())
    };
    let of = |what: &str, platform: Value| {
        let mut part = image(what);
        part["platform"] = platform;
        part
    };
    let push = |tag: &str, manifests: &[Value]| {
        let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests });
        let request = Ask::new(&format!("PUT /v2/a/manifests/{tag}")).manifest(OCI_INDEX, &index);
        assert_eq!(ask(&isolate, &request).status, 201);
        index
    };
    let amd = of("amd", json!({ "os": "linux", "architecture": "amd64" }));
    let arm = of(
        "arm",
        json!({ "os": "linux", "architecture": "arm64", "variant": "v8" }),
    );
    let windows = of("win", json!({ "os": "windows", "architecture": "amd64" }));
    let about = of(
        "about",
        json!({ "os": "unknown", "architecture": "unknown" }),
    );
    let bare = image("bare");
    push(
        "all",
        &[about.clone(), arm.clone(), windows, amd.clone(), bare],
    );
    let target = |tag: &str, query: &str| format!("/v2/a/_strata/images/{tag}/files/what{query}");
    for (query, what) in [
        ("", "amd"),
        ("?platform=linux/amd64", "amd"),
        ("?platform=linux%2Farm64", "arm"),
        ("?platform=linux/arm64/v8", "arm"),
        ("?platform=windows/amd64", "win"),
        ("?platform=windows", "win"),
    ] {
        assert_eq!(
            read(&isolate, &target("all", query)),
            what.as_bytes(),
            "{query}"
        );
    }
    for query in [
        "?platform=linux/arm64/v7",
        "?platform=linux/arm",
        "?platform=unknown/unknown",
    ] {
        let answer = get(&isolate, &target("all", query));
        let (message, detail) = refused(&answer, 404, "MANIFEST_UNKNOWN");
        let platforms = json!(["linux/arm64/v8", "windows/amd64", "linux/amd64"]);
        assert_eq!(detail["platforms"], platforms, "{message}");
    }
    // The only one that there is need not be named.
    push("one", &[about, arm]);
    assert_eq!(read(&isolate, &target("one", "")), b"arm");
    assert_eq!(
        get(&isolate, &target("one", "?platform=linux/amd64")).status,
        404
    );
    // Pages of a listing stay with the platform.
    let listed = get(
        &isolate,
        "/v2/a/_strata/images/all/files/?n=1&platform=linux/arm64",
    );
    assert_eq!(next(&listed), None);
    let two = Tar::default().file("x", "1").file("y", "2").end();
    push_image(&isolate, "two", &[(&gzip(&two), &two)]);
    let listed = get(
        &isolate,
        "/v2/a/_strata/images/two/files/?n=1&platform=a%3Eb%26n=%C3%A9",
    );
    let link = next(&listed).unwrap();
    assert_eq!(
        link,
        "/v2/a/_strata/images/two/files/?n=1&last=x&platform=a%3Eb%26n%3D%C3%A9"
    );
    assert_eq!(json_of(&get(&isolate, &link))["children"][0]["name"], "y");
    // An index in an index is not looked into.
    let inner = push("inner", &[amd]);
    let mut inner = descriptor(OCI_INDEX, inner.to_string().as_bytes());
    inner["platform"] = json!({ "os": "linux", "architecture": "amd64" });
    push("outer", &[inner]);
    refused(
        &get(&isolate, &target("outer", "")),
        422,
        "MANIFEST_INVALID",
    );
}

#[test]
fn a_layer_that_is_not_what_the_configuration_says_is_not_shown_as_part_of_the_image() {
    let (archive, other) = (
        Tar::default().file("a", "1").end(),
        Tar::default().file("a", "2").end(),
    );
    let world = World::new();
    let isolate = world.isolate(&[]);
    let layer = gzip(&archive);
    push_image(&isolate, "lies", &[(&layer, &other)]);
    let answer = get(&isolate, "/v2/a/_strata/images/lies/files/a");
    let (message, _) = refused(&answer, 422, "LAYER_INVALID");
    assert!(
        message.contains("the configuration of the image says"),
        "{message}"
    );
    assert_eq!(read(&isolate, &file(&layer, "a")), b"1");
    // A configuration that is none of an image says nothing.
    push_blob(&isolate, "a", b"{}");
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor("application/vnd.example", b"{}"),
        "layers": [descriptor(LAYER_TYPE, &layer)],
    });
    let request = Ask::new("PUT /v2/a/manifests/artifact").manifest(OCI_MANIFEST, &manifest);
    assert_eq!(ask(&isolate, &request).status, 201);
    assert_eq!(
        read(&isolate, "/v2/a/_strata/images/artifact/files/a"),
        b"1"
    );
}

#[test]
fn an_image_of_more_layers_than_any_has_is_refused() {
    let archive = Tar::default().file("a", "1").end();
    let world = World::new();
    let isolate = world.isolate(&[]);
    let parts = vec![(&*archive, &*archive); 600];
    push_image(&isolate, "many", &parts[..120]);
    world.log.borrow_mut().clear();
    assert_eq!(read(&isolate, "/v2/a/_strata/images/many/files/a"), b"1");
    assert_eq!(world.count("cold put index"), 1);
    push_image(&isolate, "more", &parts);
    let answer = get(&isolate, "/v2/a/_strata/images/more/files/a");
    refused(&answer, 422, "MANIFEST_INVALID");
}

#[test]
fn a_push_has_its_layers_indexed_where_the_settings_say_so() {
    let (long, long_archive) = long_layer("gzip -6n");
    let short = gzip(&Tar::default().file("a", "1").end());
    let short_archive = Tar::default().file("a", "1").end();
    let parts: [(&[u8], &[u8]); 2] = [(&long, &long_archive), (&short, &short_archive)];
    let world = World::new();
    push_image(&world.isolate(&[]), "v1", &parts);
    assert!(inside(&world, &short).is_empty(), "not unless they say so");

    let settings = [SMALL, STEP, ("STRATA_INDEX_ON_PUSH", "true")];
    let world = World::new();
    let isolate = world.isolate(&settings);
    push_image(&isolate, "v1", &parts);
    assert!(!inside(&world, &short).is_empty());
    assert!(progress(&world, &short).is_none());
    assert!(
        !progress(&world, &long).unwrap().is_empty(),
        "it takes more steps"
    );
    for _ in 0..16 {
        block_on(isolate.tick());
    }
    assert!(progress(&world, &long).is_none());
    let other = world.isolate(&settings);
    assert_eq!(read(&other, &file(&long, "dir/file-01")), words(1, 200_000));
    assert_eq!(inflated(&other, "pass"), 0);
    // Pushed again, nothing is done again.
    push_image(&isolate, "v2", &parts);
    assert!(progress(&world, &long).is_none() && progress(&world, &short).is_none());

    // What was cut off after the reply is left to the clock.
    let world = World::new();
    let isolate = world.isolate(&settings);
    world.fail_all("cold get blob", lost());
    push_image(&isolate, "v1", &parts);
    assert_eq!(progress(&world, &long), Some(Vec::new()));
    assert_eq!(progress(&world, &short), Some(Vec::new()));
    world.heal();
    for _ in 0..16 {
        block_on(world.isolate(&settings).tick());
    }
    assert!(!inside(&world, &long).is_empty() && !inside(&world, &short).is_empty());
    assert!(progress(&world, &long).is_none() && progress(&world, &short).is_none());
}

#[test]
fn nothing_of_a_layer_runs_in_a_browser() {
    let names = [
        ("a.txt", "text/plain; charset=utf-8", "inline"),
        ("a.png", "image/png", "inline"),
        ("a.html", "text/plain; charset=utf-8", "inline"),
        (
            "a.svg",
            "application/octet-stream",
            "attachment; filename*=UTF-8''a.svg",
        ),
        ("a.xml", "text/plain; charset=utf-8", "inline"),
        ("a.js", "text/plain; charset=utf-8", "inline"),
        (
            "a.pdf",
            "application/octet-stream",
            "attachment; filename*=UTF-8''a.pdf",
        ),
        (
            "sh",
            "application/octet-stream",
            "attachment; filename*=UTF-8''sh",
        ),
        (
            "a\"b;c\r\nx: y",
            "application/octet-stream",
            "attachment; filename*=UTF-8''a%22b%3Bc%0D%0Ax%3A%20y",
        ),
        (
            "\u{e9}'*%.bin",
            "application/octet-stream",
            "attachment; filename*=UTF-8''%C3%A9%27%2A%25.bin",
        ),
        ("..html", "text/plain; charset=utf-8", "inline"),
    ];
    let tar = names.iter().fold(Tar::default(), |tar, (name, _, _)| {
        tar.file(format!("dir/{name}"), "<script>")
    });
    let long = format!("dir/{}", "n".repeat(4_000));
    let tar = tar
        .entry(b"././@LongLink", b'L', "", long.as_bytes())
        .file("x", "long");
    let layer = gzip(&tar.end());
    let world = World::with_layer(&layer);
    let isolate = world.isolate(&[]);
    for (name, media_type, disposition) in names {
        let path: String = name.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let answer = get(&isolate, &file(&layer, &format!("dir/{path}")));
        assert_eq!(answer.header("content-type"), Some(media_type), "{name}");
        assert_eq!(answer.header("content-disposition"), Some(disposition));
        assert_eq!(
            answer.header("content-security-policy"),
            Some("default-src 'none'; frame-ancestors 'none'; sandbox")
        );
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
    let answer = get(&isolate, &file(&layer, &long));
    assert_eq!(
        (&*answer.body, answer.header("content-disposition")),
        (&b"long"[..], Some("attachment"))
    );
}

#[test]
fn extensions_are_discovered() {
    let world = World::new();
    let answer = get(&world.isolate(&[]), "/v2/_oci/ext/discover");
    assert_eq!(answer.status, 200);
    let body = json_of(&answer);
    let extensions = body["extensions"].as_array().unwrap();
    for (name, endpoint) in [
        ("_oci", "/v2/_oci/ext/discover"),
        ("_strata", "/v2/{name}/_strata/layers/{digest}"),
        ("_strata", "/v2/{name}/_strata/layers/{digest}/files/{path}"),
        (
            "_strata",
            "/v2/{name}/_strata/images/{reference}/files/{path}",
        ),
        ("_strata", "/v2/{name}/_strata/invalidate"),
        ("_strata", "/v2/_strata/sweep"),
        ("_strata", "/v2/_strata/blobs/{digest}"),
        ("_strata", "/v2/_strata/rights"),
    ] {
        let found = extensions
            .iter()
            .find(|extension| extension["name"] == name)
            .unwrap();
        let endpoints = found["endpoints"].as_array().unwrap();
        assert!(endpoints.contains(&json!(endpoint)), "{body}");
        assert!(found["url"].as_str().unwrap().starts_with("https://"));
    }
}

#[test]
fn what_layers_cost_is_counted() {
    let world = World::new();
    let isolate = world.isolate(&[]);
    let text_of = |isolate: &Isolate| text(&get(isolate, "/metrics"));
    let before = text_of(&isolate);
    for line in [
        "strata_layer_passes_total{outcome=\"indexed\"} 0",
        "strata_layer_passes_total{outcome=\"paused\"} 0",
        "strata_layer_passes_total{outcome=\"refused\"} 0",
        "strata_inflate_operations_total{what=\"pass\"} 0",
        "strata_inflate_operations_total{what=\"span\"} 0",
        "strata_inflated_bytes_total{what=\"pass\"} 0",
        "strata_inflated_bytes_total{what=\"span\"} 0",
        "strata_layer_range_requests_total 0",
        "strata_layer_range_bytes_total 0",
        "strata_index_stored_bytes_total 0",
        "strata_tier_hits_total{kind=\"span\",tier=\"hot\"} 0",
        "strata_tier_hits_total{kind=\"span\",tier=\"warm\"} 0",
        "strata_tier_hits_total{kind=\"span\",tier=\"cold\"} 0",
        "strata_tier_hits_total{kind=\"index\",tier=\"cold\"} 0",
    ] {
        assert!(
            before.lines().any(|found| found == line),
            "{line} is not in\n{before}"
        );
    }
    for name in 0..101 {
        let layer = Tar::default().file("a", format!("{name}")).end();
        push_blob(&isolate, "a", &layer);
        world.host.pass(Duration::from_secs(1));
        for _ in 0..2 {
            read(&isolate, &file(&layer, "a"));
        }
    }
    let after = text_of(&isolate);
    let reads: Vec<&str> = after
        .lines()
        .filter(|line| line.starts_with("strata_layer_reads_total{"))
        .collect();
    assert_eq!(reads.len(), 101);
    assert!(reads.iter().all(|line| line.ends_with(" 2")), "{reads:?}");
    assert!(reads.contains(&"strata_layer_reads_total{layer=\"other\"} 2"));
    let index_bytes: usize = world
        .cold
        .memory
        .keys()
        .iter()
        .filter(|key| key.starts_with("layers/"))
        .map(|key| world.stored(key).unwrap().len())
        .sum();
    assert_eq!(
        metric(&isolate, "strata_index_stored_bytes_total"),
        index_bytes as u64
    );
    assert_eq!(
        metric(
            &isolate,
            "strata_tier_hits_total{kind=\"span\",tier=\"cold\"}"
        ),
        101
    );
    assert_eq!(
        metric(
            &isolate,
            "strata_tier_hits_total{kind=\"span\",tier=\"hot\"}"
        ),
        101
    );
}

#[test]
fn a_listing_of_much_is_cut_before_it_is_large() {
    let value = "v".repeat(60_000);
    let record = |n: usize| {
        let rest = format!(" SCHILY.xattr.user.a={value}{n:04}\n");
        let length = (1..).find(|n: &usize| n.to_string().len() + rest.len() == *n);
        format!("{}{rest}", length.unwrap())
    };
    let tar = (0..200).fold(Tar::default(), |tar, n| {
        tar.entry(b"x", b'x', "", record(n).as_bytes())
            .file(format!("dir/file-{n:03}"), "")
    });
    let layer = gzip(&tar.end());
    let world = World::with_layer(&layer);
    let isolate = world.isolate(&[]);
    for (target, list) in [
        (contents(&layer), "entries"),
        (file(&layer, "dir/"), "children"),
    ] {
        let (found, pages) = pages(&isolate, &target, list);
        assert_eq!(found.len(), 200);
        assert!(pages > 2, "{pages} pages");
        let first = get(&isolate, &target);
        assert!(first.body.len() < 6 * MIB, "{}", first.body.len());
    }
}

#[test]
fn a_path_that_comes_many_times_is_the_last_of_them() {
    let times = |count| (0..count).fold(Tar::default(), |tar, _| tar.file("same", "old"));
    let tar = times(7_000);
    let layer = tar.file("same", "new").file("z", "z").end();
    let world = World::with_layer(&layer);
    let isolate = world.isolate(&[]);
    assert_eq!(read(&isolate, &file(&layer, "same")), b"new");
    assert_eq!(read(&isolate, &file(&layer, "z")), b"z");
    let names = pages(&isolate, &file(&layer, "?n=1"), "children").0;
    assert_eq!(names.len(), 2);
    let (entries, pages) = pages(&isolate, &format!("{}?n=1", contents(&layer)), "entries");
    assert_eq!(pages, 2);
    assert_eq!(entries.last().unwrap()["path"], "z");
    // All entries of a path are in memory at once: those of no layer are as many.
    let layer = times(20_000).end();
    let world = World::with_layer(&layer);
    let answer = get(&world.isolate(&[]), &file(&layer, "same"));
    assert_eq!(answer.status, 422, "{answer:?}");
    let text = String::from_utf8(answer.body).unwrap();
    assert!(
        text.contains("more than 2097152 bytes of entries at one path"),
        "{text}"
    );
}
