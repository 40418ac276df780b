//! Lookups in images through the registry: refused paths, layers that are opened again, and layers
//! that count once.

use std::{cell::Cell, collections::BTreeSet, rc::Rc};

use serde_json::{Value, json};
use strata::{manifest::OCI_MANIFEST, memory::MemoryObjects};
use strata_support::{
    Answer, Ask, TestHost, TestRegistry, ask, descriptor, digest,
    layers::{Tar, gzip, words},
    registry_with,
    watched::{Verdict, Watched, WatchedValues},
};

type Isolate = TestRegistry<Watched, WatchedValues>;

const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";

/// A registry, and the number of reads of its cold store.
fn registry(settings: &[(&str, &str)]) -> (Isolate, Rc<Cell<u64>>) {
    let reads = Rc::<Cell<u64>>::default();
    let counted = reads.clone();
    let cold = Watched::new(
        MemoryObjects::default(),
        move |operation: &'static str, _: &str| {
            if operation == "get" {
                counted.set(counted.get() + 1);
            }
            Verdict::Done
        },
    );
    let warm = WatchedValues::new(|_: &'static str, _: &str| Verdict::Done);
    let isolate = registry_with(cold, warm, TestHost::default(), settings);
    (isolate, reads)
}

fn push(isolate: &Isolate, tag: &str, layers: &[&[u8]]) -> String {
    let blob = |bytes: &[u8]| {
        let digest = digest(bytes);
        let request = format!("POST /v2/a/blobs/uploads/?digest={digest}");
        assert_eq!(ask(isolate, &Ask::new(&request).body(bytes)).status, 201);
    };
    blob(b"{}");
    let different: BTreeSet<_> = layers.iter().collect();
    different.iter().for_each(|layer| blob(layer));
    let descriptors = layers.iter().map(|layer| descriptor(LAYER_TYPE, layer));
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", b"{}"),
        "layers": descriptors.collect::<Vec<Value>>(),
    });
    let request = Ask::new(&format!("PUT /v2/a/manifests/{tag}"));
    let answer = ask(isolate, &request.manifest(OCI_MANIFEST, &manifest));
    assert_eq!(answer.status, 201);
    format!("/v2/a/_strata/images/{tag}/files/")
}

/// The answer once all layers are indexed.
fn get(isolate: &Isolate, target: &str) -> Answer {
    for _ in 0..1_000 {
        let answer = ask(isolate, &Ask::new(&format!("GET {target}")));
        if answer.status != 202 {
            return answer;
        }
    }
    unreachable!("indexing {target} has no end")
}

fn message(answer: &Answer) -> (u16, String) {
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    let error = &body["errors"][0];
    assert_eq!(error["code"], "FILE_UNKNOWN");
    (answer.status, error["message"].as_str().unwrap().to_owned())
}

#[test]
fn a_path_that_is_too_long_is_refused_before_any_read() {
    let (isolate, reads) = registry(&[]);
    let layer = gzip(&Tar::default().file("a", "a").end());
    let files = push(&isolate, "v1", &[layer.as_slice(); 50]);
    reads.set(0);
    for path in [
        "d/".repeat(3_000),
        format!("{}f", "d/".repeat(3_000)),
        "n".repeat(4_097),
    ] {
        let (status, message) = message(&get(&isolate, &format!("{files}{path}")));
        assert_eq!(status, 422);
        assert!(
            message.contains("4096 bytes and 256 components"),
            "{message}"
        );
    }
    assert_eq!(reads.get(), 0);
}

#[test]
fn a_layer_listed_many_times_in_a_row_counts_once() {
    let (isolate, _) = registry(&[]);
    let layer = gzip(&Tar::default().file("d/a", "a").file("d/.wh.b", "").end());
    let lower = gzip(&Tar::default().file("d/b", "b").file("d/c", "c").end());
    let mut layers = vec![lower.as_slice()];
    layers.extend([layer.as_slice(); 400]);
    let many = push(&isolate, "many", &layers);
    let once = push(&isolate, "once", &[&lower, &layer]);
    for path in ["", "d/", "d/a", "d/b", "d/c"] {
        let (many, once) = (
            get(&isolate, &format!("{many}{path}")),
            get(&isolate, &format!("{once}{path}")),
        );
        assert_eq!((many.status, many.body), (once.status, once.body), "{path}");
    }
}

#[test]
fn indexes_that_are_not_held_are_read_again() {
    // Each has an index of megabytes, because it can be read from hundreds of positions.
    let (isolate, _) = registry(&[("STRATA_SPAN_BYTES", "65536")]);
    let layers: Vec<_> = (0..8)
        .map(|number| {
            let tar = Tar::default()
                .file(format!("d/{number}"), words(number, 4_000_000))
                .file(format!("name/{number}"), number.to_string());
            gzip(&tar.end())
        })
        .collect();
    let parts: Vec<_> = layers.iter().map(Vec::as_slice).collect();
    let files = push(&isolate, "v1", &parts);
    let listed: Value = serde_json::from_slice(&get(&isolate, &format!("{files}d/")).body).unwrap();
    assert_eq!(listed["children"].as_array().unwrap().len(), 8);
    for number in 0..8 {
        let name = get(&isolate, &format!("{files}name/{number}"));
        assert_eq!(
            (name.status, name.body),
            (200, number.to_string().into_bytes())
        );
    }
}
