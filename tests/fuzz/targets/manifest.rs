//! Manifests: no document panics, and each parsed value occurs in the document.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Map;
use strata::{digest::Digest, manifest::Manifest};

use crate::input::Input;

pub(crate) const WORDS: &[&[u8]] = &[
    b"\"schemaVersion\":2",
    b"\"mediaType\":",
    b"\"config\":",
    b"\"layers\":[",
    b"\"manifests\":[",
    b"\"blobs\":[",
    b"\"subject\":",
    b"\"annotations\":{",
    b"\"artifactType\":",
    b"application/vnd.oci.image.manifest.v1+json",
    b"application/vnd.oci.image.index.v1+json",
    b"application/vnd.oci.image.layer.nondistributable.v1.tar",
    b"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    b"\"size\":1",
    b"null",
];

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let one = |kind: &str| {
        format!(r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"{DIGEST}","size":7}}"#)
    };
    let image = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{},"layers":[{},{}],"subject":{},"annotations":{{"a":"b"}}}}"#,
        one("config.v1+json"),
        one("layer.v1.tar+gzip").replace("e3b0", "e3b1"),
        one("layer.nondistributable.v1.tar").replace("e3b0", "e3b2"),
        one("manifest.v1+json"),
    );
    let index = format!(
        r#"{{"schemaVersion":2,"artifactType":"x/y","manifests":[{}]}}"#,
        one("manifest.v1+json")
    );
    let artifact = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.artifact.manifest.v1+json","blobs":[{}]}}"#,
        one("layer.v1.tar")
    );
    vec![
        [b"\x00", image.as_bytes()].concat(),
        [b"\x01", image.as_bytes()].concat(),
        [b"\x02", index.as_bytes()].concat(),
        [b"\x00", artifact.as_bytes()].concat(),
        b"\x00[2,null]".to_vec(),
    ]
}

pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    let content_type = input.pick(&[
        None,
        Some("application/vnd.oci.image.manifest.v1+json"),
        Some("application/vnd.oci.image.index.v1+json; charset=utf-8"),
        Some("Application/X"),
        Some(""),
    ]);
    let document = input.rest();
    let first = Manifest::parse(content_type, document);
    assert_eq!(first, Manifest::parse(content_type, document), "parsed twice");
    let Ok(manifest) = first else { return };
    // `Value` also reads the members that a manifest ignores. JSON allows escapes of half a
    // character and numbers beyond f64 there, and `Value` does not.
    const BEYOND_VALUE: [&str; 3] = ["code point", "surrogate", "number out of range"];
    let value: serde_json::Value = match serde_json::from_slice(document) {
        Ok(value) => value,
        Err(error) if BEYOND_VALUE.iter().any(|reason| error.to_string().contains(reason)) => return,
        Err(error) => panic!("a manifest that is no JSON: {error}"),
    };
    let object = value.as_object().expect("a manifest is an object");
    let names: Vec<_> = ["config", "layers", "manifests", "blobs", "subject"]
        .iter()
        .filter_map(|field| object.get(*field))
        .flat_map(|field| field.as_array().cloned().unwrap_or_else(|| vec![field.clone()]))
        .filter_map(|descriptor| Some(descriptor.get("digest")?.as_str()?.to_owned()))
        .collect();
    let read = [&manifest.blobs, &manifest.manifests, &manifest.undecided];
    let read = read.into_iter().flat_map(|of| of.keys());
    for digest in read.chain(&manifest.layers).chain(&manifest.subject) {
        assert!(names.contains(&digest.to_string()), "{digest} is no descriptor of the document");
    }
    assert!(manifest.media_type.is_ascii() || object.contains_key("mediaType"));
    is_complete(&manifest, object);
    has_one_reading(document, object);
}

/// A manifest has the digests of all descriptors. Layers that may not be distributed are not among
/// its blobs.
fn is_complete(manifest: &Manifest, object: &Map<String, serde_json::Value>) {
    let of = |field: &str| -> Vec<(String, String)> {
        let descriptors = match object.get(field) {
            None | Some(serde_json::Value::Null) => Vec::new(),
            Some(serde_json::Value::Array(all)) => all.iter().collect(),
            Some(one) => vec![one],
        };
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let pair = |one: &serde_json::Value| (text(&one["mediaType"]), text(&one["digest"]));
        descriptors.into_iter().map(pair).collect()
    };
    let is_foreign = |media_type: &str| {
        media_type.starts_with("application/vnd.oci.image.layer.nondistributable.")
            || media_type.starts_with("application/vnd.docker.image.rootfs.foreign.diff.")
    };
    // What an index lists, by its type.
    let is_manifest = |media_type: &str| {
        let docker = media_type.strip_prefix("application/vnd.docker.distribution.manifest.");
        let oci = media_type.strip_prefix("application/vnd.oci.");
        docker.is_some_and(|rest| {
            ["v1+json", "v1+prettyjws", "v2+json", "list.v2+json"].contains(&rest)
        }) || oci.is_some_and(|rest| {
            ["image.manifest.v1+json", "image.index.v1+json", "artifact.manifest.v1+json"]
                .contains(&rest)
        })
    };
    let is_blob = |media_type: &str| {
        let of = |prefix: &str| media_type.starts_with(prefix);
        of("application/vnd.oci.image.layer.")
            || of("application/vnd.oci.image.config.")
            || of("application/vnd.docker.image.rootfs.")
            || of("application/vnd.docker.container.image.")
            || of("application/vnd.buildkit.")
    };
    let listed = of("manifests");
    let of_kind = |wanted: &dyn Fn(&str) -> bool| -> BTreeSet<String> {
        let those = listed.iter().filter(|(media_type, _)| wanted(media_type));
        those.map(|(_, digest)| digest.clone()).collect()
    };
    let texts = |all: &BTreeMap<Digest, u64>| -> BTreeSet<String> {
        all.keys().map(ToString::to_string).collect()
    };
    let mut blobs: BTreeSet<_> = [of("config"), of("layers"), of("blobs")]
        .concat()
        .into_iter()
        .filter_map(|(media_type, digest)| (!is_foreign(&media_type)).then_some(digest))
        .collect();
    blobs.extend(of_kind(&|media_type| is_blob(media_type) && !is_foreign(media_type)));
    assert_eq!(texts(&manifest.blobs), blobs);
    assert_eq!(texts(&manifest.manifests), of_kind(&is_manifest));
    let undecided = of_kind(&|media_type| !is_manifest(media_type) && !is_blob(media_type));
    assert_eq!(texts(&manifest.undecided), undecided);
    assert_eq!(manifest.has_entries, !listed.is_empty());
    let subject = of("subject").pop().map(|(_, digest)| digest);
    assert_eq!(manifest.subject.as_ref().map(ToString::to_string), subject);
}

/// A manifest that has a field twice, or a field in another case, is refused: its readers could
/// read different things.
fn has_one_reading(document: &[u8], object: &Map<String, serde_json::Value>) {
    let fields = document.trim_ascii_start().strip_prefix(b"{").expect("a manifest is an object");
    for field in ["mediaType", "config", "layers", "manifests", "blobs", "subject", "annotations"] {
        let mut names = vec![field.to_uppercase()];
        names.extend(object.contains_key(field).then(|| field.to_owned()));
        for name in names {
            let changed = [format!("{{\"{name}\":null,").as_bytes(), fields].concat();
            let parsed = Manifest::parse(None, &changed);
            assert!(parsed.is_err(), "the manifest with field {name:?} too: {parsed:?}");
        }
    }
}
