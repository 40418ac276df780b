//! An isolate keeps working after any earlier requests, and counts the memory that it holds.

#![cfg(target_os = "linux")]

use std::{
    cell::{Cell, RefCell},
    fs,
    rc::Rc,
    task::{Context, Waker},
    time::Duration,
};

use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderValue, Method, header::AUTHORIZATION};
use pollster::block_on;
use serde_json::{Value, json};
use strata::{
    ledger::{Ledger, MemoryKind as Kind},
    manifest::{OCI_INDEX, OCI_MANIFEST},
    memory::{MadeItems, MemoryBody, MemoryObjects},
    registry::{Body, Request},
};
use strata_support::{
    Ask, CONFIG, LAYER, TestHost, ask, ask_now, descriptor, digest, image, key,
    layers::{Tar, gzip},
    registry_on,
    watched::{Verdict, Watched},
};

use crate::process;

/// A saved pass of version 0.1.0 may have up to 96 MiB, which is more than the ledger has.
#[test]
fn a_saved_pass_that_is_too_large_is_restarted() {
    let host = TestHost::default();
    let store = Watched::new(MemoryObjects::timed(host.now.clone()), |_, _| Verdict::Done);
    let registry = registry_on(store.clone(), host, &[]);
    let layer = gzip(&Tar::default().file("a", "b").end());
    let digest = digest(&layer);
    let push = Ask::new(&format!("POST /v2/a/blobs/uploads/?digest={digest}")).body(&layer);
    assert_eq!(ask(&registry, &push).status, 201);
    store.plant(&key::indexing(&digest), &vec![0; 60 << 20], "");
    let look = Ask::new(&format!("GET /v2/a/_strata/layers/{digest}"));
    let answer = ask(&registry, &look);
    let text = String::from_utf8(answer.body).unwrap();
    assert_eq!(answer.status, 200, "{text}");
    assert!(store.keys("indexing/").is_empty());
    assert_eq!(registry.ledger().used(), 0);
}

/// The resident memory of this process.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib: u64 = line
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    kib * 1024
}

/// While many concurrent requests wait for an image of an index of images, they do not hold the
/// index. The test runs in a process of its own, because memory is counted for a whole process.
#[test]
fn an_index_of_images_is_not_held_while_its_image_is_read() {
    let name = "an_index_of_images_is_not_held_while_its_image_is_read";
    process::alone(module_path!(), name, read_images_at_once);
}

fn read_images_at_once() {
    let host = TestHost::default();
    let never = Rc::<RefCell<Option<String>>>::default();
    let awaited = never.clone();
    let store = Watched::new(
        MemoryObjects::timed(host.now.clone()),
        move |operation, key| match awaited.borrow().as_deref() {
            Some(never) if operation == "get" && key == never => Verdict::Never,
            _ => Verdict::Done,
        },
    );
    let isolate = || registry_on(store.clone(), host.clone(), &[]);
    let registry = isolate();
    for bytes in [CONFIG, LAYER] {
        let digest = digest(bytes);
        let push = Ask::new(&format!("POST /v2/a/blobs/uploads/?digest={digest}")).body(bytes);
        assert_eq!(ask(&registry, &push).status, 201);
    }
    let image = image().to_string();
    let chosen = digest(image.as_bytes());
    let push = |reference: &str, media_type: &str, body: &str| {
        let line = format!("PUT /v2/a/manifests/{reference}");
        let request = Ask::new(&line)
            .header("content-type", media_type)
            .body(body);
        assert_eq!(ask(&registry, &request).status, 201);
    };
    push(&chosen.to_string(), OCI_MANIFEST, &image);
    let mut listed = descriptor(OCI_MANIFEST, image.as_bytes());
    let platform = json!({ "os": "linux", "architecture": "amd64" });
    listed
        .as_object_mut()
        .unwrap()
        .insert("platform".to_owned(), platform);
    let other = descriptor(OCI_MANIFEST, image.as_bytes());
    let mut manifests = vec![other; 20_000];
    manifests.push(listed);
    let index: Value = json!({
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": manifests,
    });
    let index = index.to_string();
    push("v1", OCI_INDEX, &index);

    let name = "a".parse().unwrap();
    *never.borrow_mut() = Some(key::manifest(&name, &chosen));
    let registry = isolate();
    let look = Ask::new("GET /v2/a/_strata/images/v1/files/");
    let before = resident();
    let mut context = Context::from_waker(Waker::noop());
    let mut waiting: Vec<_> = (0..32)
        .map(|_| Box::pin(ask_now(&registry, &look)))
        .collect();
    for asked in &mut waiting {
        for _ in 0..1_000 {
            assert!(asked.as_mut().poll(&mut context).is_pending());
        }
    }
    let held = resident().saturating_sub(before);
    let counted = registry.ledger().used();
    assert!(
        held < counted + (32 << 20),
        "{held} bytes are held, {counted} are counted"
    );
}

/// A request that the platform cancels runs no destructor, so nobody continues its pass.
#[test]
fn cancelled_passes_release_their_memory_after_a_while() {
    let host = TestHost::default();
    let never = Rc::new(Cell::new(true));
    let awaited = never.clone();
    let store = Watched::new(
        MemoryObjects::timed(host.now.clone()),
        move |operation, key| match operation {
            "get" if key.starts_with("blobs/") && awaited.get() => Verdict::Never,
            _ => Verdict::Done,
        },
    );
    let registry = registry_on(store, host.clone(), &[]);
    let layers = ["a", "b", "c"].map(|name| gzip(&Tar::default().file(name, name).end()));
    let look = |layer: &[u8]| Ask::new(&format!("GET /v2/a/_strata/layers/{}", digest(layer)));
    for layer in &layers {
        let line = format!("POST /v2/a/blobs/uploads/?digest={}", digest(layer));
        assert_eq!(ask(&registry, &Ask::new(&line).body(layer)).status, 201);
    }
    let registry: &'static _ = Box::leak(Box::new(registry));
    let mut context = Context::from_waker(Waker::noop());
    for layer in &layers[..2] {
        let request: &'static _ = Box::leak(Box::new(look(layer)));
        let mut asked = Box::pin(ask_now(registry, request));
        for _ in 0..1_000 {
            assert!(asked.as_mut().poll(&mut context).is_pending());
        }
        std::mem::forget(asked);
    }
    never.set(false);
    assert_eq!(
        ask(registry, &look(&layers[2])).status,
        202,
        "each takes memory"
    );
    host.pass(Duration::from_secs(60));
    assert_eq!(ask(registry, &look(&layers[2])).status, 200);
}

/// A record of a pax header.
fn record(key: &str, value: &str) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    format!("{length} {key}={value}\n").into_bytes()
}

/// A reply to a slow client holds the index of its layer until it ends.
#[test]
fn a_slow_reply_leases_memory_for_its_index_to_the_end() {
    let host = TestHost::default();
    let registry = registry_on(MemoryObjects::timed(host.now.clone()), host.clone(), &[]);
    let mut tar = Tar::default().file("large", vec![0; 16 << 20]);
    for number in 0..400 {
        let path = record("path", &format!("{number:08000}"));
        tar = tar.entry(b"pax", b'x', "", &path).file("long", b"");
    }
    let layer = tar.end();
    let digest = digest(&layer);
    let push = Ask::new(&format!("POST /v2/a/blobs/uploads/?digest={digest}")).body(&layer);
    assert_eq!(ask(&registry, &push).status, 201);
    let place = format!("/v2/a/_strata/layers/{digest}");
    assert_eq!(
        ask(&registry, &Ask::new(&format!("GET {place}?n=1"))).status,
        200
    );

    let request = Request {
        method: Method::GET,
        target: format!("{place}/files/large"),
        origin: "http://registry.example".to_owned(),
        address: "192.0.2.1".to_owned(),
        headers: HeaderMap::from_iter([(
            AUTHORIZATION,
            HeaderValue::from_static("Basic ZGV2OnNlY3JldA=="),
        )]),
        body: None,
    };
    let (response, _rest) = block_on(registry.answer(request));
    let Body::Stream(MemoryBody::Made(MadeItems(mut items))) = response.into_body() else {
        panic!("the file is not sent as it is read");
    };
    let used = || {
        // A lease that was not renewed is returned when another one is requested.
        let none = registry.ledger().take(Kind::Wasm, 0, host.now.get());
        none.unwrap();
        registry.ledger().used()
    };
    let held = used();
    for _ in 0..3 {
        host.pass(Duration::from_secs(200));
        for _ in 0..4 {
            assert!(block_on(items.next()).unwrap().is_ok());
        }
        assert_eq!(used(), held);
    }
    drop(items);
    assert_eq!(used(), 0);
}

/// The bytes of an index are outside of the module, and are counted before they are read.
#[test]
fn the_memory_of_an_index_is_leased_before_it_is_read() {
    let host = TestHost::default();
    let store = Watched::new(MemoryObjects::timed(host.now.clone()), |_, _| Verdict::Done);
    let isolate = || registry_on(store.clone(), host.clone(), &[]);
    let mut tar = Tar::default();
    for number in 0..8_000_u32 {
        // Names that do not compress.
        let name = digest(&number.to_le_bytes());
        tar = tar.file(&name.encoded()[..40], b"");
    }
    let layer = gzip(&tar.end());
    let digest = digest(&layer);
    let push = Ask::new(&format!("POST /v2/a/blobs/uploads/?digest={digest}")).body(&layer);
    assert_eq!(ask(&isolate(), &push).status, 201);
    let look = Ask::new(&format!("GET /v2/a/_strata/layers/{digest}?n=1"));
    assert_eq!(ask(&isolate(), &look).status, 200);
    let size = store.memory.bytes(&key::index(&digest)).unwrap().len() as u64;
    assert!(size > Ledger::FREE, "the index has {size} bytes");

    let registry = isolate();
    let rest = Ledger::BOUND - size + 1;
    let others = registry
        .ledger()
        .take_for_all(Kind::Buffer, rest, host.now.get());
    let answer = ask(&registry, &look);
    let text = String::from_utf8(answer.body).unwrap();
    assert_eq!(answer.status, 503, "{text}");
    assert!(text.contains("of memory"), "{text}");
    drop(others.unwrap());
    assert_eq!(ask(&registry, &look).status, 200);
    assert_eq!(registry.ledger().used(), 0);
}

/// The input of a span that needs megabytes is counted before it is read.
#[test]
fn the_input_of_a_span_is_leased_before_it_is_read() {
    let host = TestHost::default();
    let never = Rc::new(Cell::new(false));
    let awaited = never.clone();
    let store = Watched::new(
        MemoryObjects::timed(host.now.clone()),
        move |operation, key| match operation {
            "get" if key.starts_with("blobs/") && awaited.get() => Verdict::Never,
            _ => Verdict::Done,
        },
    );
    let registry = registry_on(store, host, &[]);
    let tar = Tar::default().file("a", vec![0; 8 << 20]).end();
    let (first, rest) = tar.split_at(7 << 20);
    let (small, rest) = rest.split_at(2_048);
    // After a small span, empty members with long names: they are a part of that span.
    let mut member = vec![0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 3];
    member.extend([b'n'; 200_000]);
    member.extend([0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let layer = [gzip(first), gzip(small), member.repeat(30), gzip(rest)].concat();
    let digest = digest(&layer);
    let push = Ask::new(&format!("POST /v2/a/blobs/uploads/?digest={digest}")).body(&layer);
    assert_eq!(ask(&registry, &push).status, 201);
    let place = format!("/v2/a/_strata/layers/{digest}");
    let answer = ask(&registry, &Ask::new(&format!("GET {place}")));
    assert_eq!(
        answer.status,
        200,
        "{}",
        String::from_utf8_lossy(&answer.body)
    );

    never.set(true);
    let look = Ask::new(&format!("GET {place}/files/a")).header("range", "bytes=7340000-7340500");
    let mut asked = Box::pin(ask_now(&registry, &look));
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..1_000 {
        assert!(asked.as_mut().poll(&mut context).is_pending());
    }
    let used = registry.ledger().used();
    assert!(used >= 5_000_000, "{used}");
}
