//! Manifests: no document panics, and each parsed value occurs in the document.

use strata::manifest::Manifest;

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
        one("layer.v1.tar+gzip"),
        one("layer.nondistributable.v1.tar"),
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
    // `Value` also reads the members that a manifest ignores. JSON allows escapes of half a character and numbers beyond f64 there,
    // and `Value` does not.
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
    let read = manifest.blobs.iter().chain(&manifest.layers);
    for digest in read.chain(&manifest.manifests).chain(&manifest.subject) {
        assert!(names.contains(&digest.to_string()), "{digest} is no descriptor of the document");
    }
    assert!(manifest.media_type.is_ascii() || object.contains_key("mediaType"));
}
