//! Every end-point, as one table: what is given, what is asked, what is answered.
//!
//! Each row is run on a registry of its own over the store in memory. For every row that is a `GET`, the same `HEAD` is asked
//! as well and must be answered alike, without a body.

use http::Method;
use pollster::block_on;
use serde_json::{Value, json};
use strata::{
    digest::{Algorithm, Digest},
    manifest::{DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST},
    store::memory::Memory,
};
use strata_support::{
    Answer, Ask, CONFIG, LAYER, TestRegistry, ask, descriptor, digest, image, registry_of,
};

fn registry(settings: &[(&str, &str)]) -> TestRegistry<Memory> {
    registry_of(Memory::default(), settings)
}

const WRONG: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

fn index() -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [descriptor(OCI_MANIFEST, image().to_string().as_bytes())],
    })
}

/// A manifest about the image, whose annotations are long for one of the two.
fn artifact(kind: &str) -> Value {
    let mut artifact = image();
    artifact["artifactType"] = json!(format!("application/vnd.example.{kind}"));
    artifact["subject"] = descriptor(OCI_MANIFEST, image().to_string().as_bytes());
    artifact["annotations"] =
        json!({ "kind": kind.repeat(if kind == "sbom" { 1_000 } else { 1 }) });
    artifact
}

/// The digest of the entry that comes first: listings are in the order of digests, and that of a deleted one counts.
fn first_referrer() -> Digest {
    ["deleted", "sbom", "signature"]
        .map(|kind| digest(artifact(kind).to_string().as_bytes()))
        .into_iter()
        .min()
        .unwrap()
}

/// The referrers list of these artifacts.
fn listed(kinds: &[&str]) -> Value {
    let mut manifests: Vec<Value> = kinds
        .iter()
        .map(|kind| {
            let artifact = artifact(kind);
            let mut descriptor = descriptor(OCI_MANIFEST, artifact.to_string().as_bytes());
            descriptor["artifactType"] = artifact["artifactType"].clone();
            descriptor["annotations"] = artifact["annotations"].clone();
            descriptor
        })
        .collect();
    manifests.sort_by_key(|manifest| manifest["digest"].as_str().unwrap().to_owned());
    json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests })
}

/// What is there before a row is asked.
#[derive(Clone, Copy)]
enum Given {
    Nothing,
    /// Both blobs of the image, in repository `a`.
    Blobs,
    /// The image, as `a:v1`, `a:v2` and `a:v3`.
    Image,
    /// Two manifests about the image, each pushed twice; a third was deleted. The image itself is not there.
    Referrers,
}

fn prepare(registry: &TestRegistry<Memory>, given: Given) {
    let push = |blob: &[u8]| {
        let answer = ask(
            registry,
            &Ask::new(&format!(
                "POST /v2/a/blobs/uploads/?digest={}",
                digest(blob)
            ))
            .body(blob),
        );
        assert_eq!(answer.status, 201);
    };
    match given {
        Given::Nothing => {}
        Given::Blobs => [LAYER, CONFIG].into_iter().for_each(push),
        Given::Image => {
            prepare(registry, Given::Blobs);
            for tag in ["v1", "v2", "v3"] {
                let answer = ask(
                    registry,
                    &Ask::new(&format!("PUT /v2/a/manifests/{tag}"))
                        .manifest(OCI_MANIFEST, &image()),
                );
                assert_eq!(answer.status, 201);
            }
        }
        Given::Referrers => {
            prepare(registry, Given::Blobs);
            for kind in ["sbom", "sbom", "signature", "signature", "deleted"] {
                let target = digest(artifact(kind).to_string().as_bytes());
                let push = Ask::new(&format!("PUT /v2/a/manifests/{target}"));
                assert_eq!(
                    ask(registry, &push.manifest(OCI_MANIFEST, &artifact(kind))).status,
                    201
                );
            }
            let deleted = digest(artifact("deleted").to_string().as_bytes());
            assert_eq!(
                ask(
                    registry,
                    &Ask::new(&format!("DELETE /v2/a/manifests/{deleted}"))
                )
                .status,
                202
            );
        }
    }
}

/// One row of the table.
struct Row {
    what: &'static str,
    given: Given,
    ask: Ask,
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Expected,
}

/// What a body must be.
enum Expected {
    Any,
    Bytes(Vec<u8>),
    Json(Value),
    /// An error with this code, and this text in its message.
    Error(&'static str, String),
}

#[track_caller]
fn check(row: &Row) {
    let what = row.what;
    let registry = registry(&[]);
    prepare(&registry, row.given);
    let answer = ask(&registry, &row.ask);
    assert_eq!(
        answer.status,
        row.status,
        "{what}: {}",
        String::from_utf8_lossy(&answer.body)
    );
    for (name, value) in &row.headers {
        assert_eq!(
            answer.header(name),
            Some(value.as_str()),
            "{what}: header {name}"
        );
    }
    if let Some(length) = answer.header("content-length") {
        assert_eq!(
            length,
            answer.body.len().to_string(),
            "{what}: content-length"
        );
    }
    match &row.body {
        Expected::Any => {}
        Expected::Bytes(bytes) => assert_eq!(&answer.body, bytes, "{what}"),
        Expected::Json(value) => assert_eq!(
            &serde_json::from_slice::<Value>(&answer.body).unwrap(),
            value,
            "{what}"
        ),
        Expected::Error(code, text) => {
            let body: Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!(body["errors"][0]["code"], *code, "{what}: {body}");
            let message = body["errors"][0]["message"].as_str().unwrap();
            assert!(
                message.contains(text.as_str()),
                "{what}: {message:?} has no {text:?}"
            );
            assert_eq!(
                answer.header("content-type"),
                Some("application/json"),
                "{what}"
            );
        }
    }
    if row.ask.method == Method::GET {
        check_head(&registry, row, answer);
    }
}

/// `HEAD` is `GET` without the body.
#[track_caller]
fn check_head(registry: &TestRegistry<Memory>, row: &Row, mut get: Answer) {
    let mut head = ask(
        registry,
        &Ask {
            method: Method::HEAD,
            ..row.ask.clone()
        },
    );
    if get.status == 405 || head.status == 405 {
        return;
    }
    if row.ask.headers.iter().any(|(name, _)| *name == "range") {
        // Range is defined for GET only (RFC 9110, section 14.2).
        assert!(matches!(head.status, 200 | 401), "{}: HEAD", row.what);
        return;
    }
    get.body.clear();
    for answer in [&mut head, &mut get] {
        // Which request it was, and how it came about, is another matter.
        for name in ["x-request-id", "x-strata-tier", "server-timing"] {
            answer.headers.remove(name);
        }
    }
    assert_eq!(head, get, "{}: HEAD is GET without the body", row.what);
}

fn table() -> Vec<Row> {
    let layer = digest(LAYER);
    let manifest = image().to_string();
    let manifest_digest = digest(manifest.as_bytes());
    let row = |what, given, ask, status, headers: &[(&'static str, &str)], body| Row {
        what,
        given,
        ask,
        status,
        headers: headers
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect(),
        body,
    };
    let error = |code, text: &str| Expected::Error(code, text.to_owned());
    let get = |target: &str| Ask::new(&format!("GET {target}"));
    let blob = format!("/v2/a/blobs/{layer}");
    let blob_headers = [
        ("content-type", "application/octet-stream"),
        ("docker-content-digest", layer.to_string().leak() as &str),
        ("etag", format!("\"{layer}\"").leak()),
        ("accept-ranges", "bytes"),
        (
            "cache-control",
            "private, max-age=31536000, immutable, no-transform",
        ),
    ];
    let manifest_headers = [
        ("content-type", OCI_MANIFEST),
        (
            "docker-content-digest",
            manifest_digest.to_string().leak() as &str,
        ),
        ("etag", format!("\"{manifest_digest}\"").leak()),
    ];
    let created_blob = [
        ("location", blob.clone().leak() as &str),
        ("docker-content-digest", layer.to_string().leak()),
        ("content-length", "0"),
    ];
    let referrers = format!("/v2/a/referrers/{manifest_digest}");
    let unknown_id = "00112233445566778899aabbccddeeff";
    let large = vec![b' '; 4 * 1024 * 1024 + 1];

    vec![
        // end-1
        row("version", Given::Nothing, get("/v2/"), 200, &[("docker-distribution-api-version", "registry/2.0")], Expected::Json(json!({}))),
        row("version, no user", Given::Nothing, get("/v2/").anonymous(), 401, &[("www-authenticate", "Bearer realm=\"http://registry.example/v2/_strata/token\",service=\"strata\"")], error("UNAUTHORIZED", "sign in")),
        row("version, wrong method", Given::Nothing, Ask::new("DELETE /v2/"), 405, &[("allow", "GET, HEAD"), ("docker-distribution-api-version", "registry/2.0")], error("UNSUPPORTED", "method DELETE")),
        row("no end-point", Given::Nothing, get("/v2/a/nothing"), 404, &[], error("UNSUPPORTED", "no end-point at \"/v2/a/nothing\"")),
        row("no end-point, no user", Given::Nothing, get("/v2/a/nothing").anonymous(), 401, &[], error("UNAUTHORIZED", "sign in")),
        // end-2
        row("blob", Given::Blobs, get(&blob), 200, &blob_headers, Expected::Bytes(LAYER.to_vec())),
        row("blob, no user", Given::Blobs, get(&blob).anonymous(), 401, &[], error("UNAUTHORIZED", "sign in")),
        row("blob, unknown", Given::Nothing, get(&blob), 404, &[], error("BLOB_UNKNOWN", "in repository a")),
        row("blob, of another repository", Given::Blobs, get(&blob.replace("/a/", "/b/")), 404, &[], error("BLOB_UNKNOWN", "in repository b")),
        row("blob, bad name", Given::Nothing, get(&blob.replace("/a/", "/A/")), 400, &[], error("NAME_INVALID", "unexpected character 'A'")),
        row("blob, bad digest", Given::Nothing, get("/v2/a/blobs/sha256:x"), 400, &[], error("DIGEST_INVALID", "unexpected character 'x'")),
        row("blob, unsupported algorithm", Given::Nothing, get("/v2/a/blobs/md5:x"), 400, &[], error("DIGEST_INVALID", "supported are sha256 and sha512")),
        row("blob, wrong method", Given::Nothing, Ask::new(&format!("POST {blob}")), 405, &[("allow", "GET, HEAD, DELETE")], error("UNSUPPORTED", "method POST")),
        row("blob, range", Given::Blobs, get(&blob).header("range", "bytes=2-4"), 206, &[("content-range", "bytes 2-4/10"), ("content-length", "3")], Expected::Bytes(b"234".to_vec())),
        row("blob, open range", Given::Blobs, get(&blob).header("range", "bytes=7-"), 206, &[("content-range", "bytes 7-9/10")], Expected::Bytes(b"789".to_vec())),
        row("blob, suffix", Given::Blobs, get(&blob).header("range", "bytes=-2"), 206, &[("content-range", "bytes 8-9/10")], Expected::Bytes(b"89".to_vec())),
        row("blob, range of all", Given::Blobs, get(&blob).header("range", "bytes=0-"), 206, &[("content-range", "bytes 0-9/10")], Expected::Bytes(LAYER.to_vec())),
        row("blob, several ranges", Given::Blobs, get(&blob).header("range", "bytes=0-1,8-"), 206, &[], Expected::Bytes(
            b"\r\n--B\r\ncontent-type: application/octet-stream\r\ncontent-range: bytes 0-1/10\r\n\r\n01\r\n--B\r\ncontent-type: application/octet-stream\r\ncontent-range: bytes 8-9/10\r\n\r\n89\r\n--B--\r\n"
                .to_vec().into_iter().flat_map(|byte| if byte == b'B' { BOUNDARY.as_bytes().to_vec() } else { vec![byte] }).collect(),
        )),
        row("blob, range outside", Given::Blobs, get(&blob).header("range", "bytes=10-"), 416, &[("content-range", "bytes */10")], error("SIZE_INVALID", "range outside of the blob's 10 bytes")),
        row("blob, malformed range", Given::Blobs, get(&blob).header("range", "bytes=x"), 200, &blob_headers, Expected::Bytes(LAYER.to_vec())),
        row("blob, range of another version", Given::Blobs, get(&blob).header("range", "bytes=0-1").header("if-range", "\"x\""), 200, &[], Expected::Bytes(LAYER.to_vec())),
        row("blob, range of this version", Given::Blobs, get(&blob).header("range", "bytes=0-1").header("if-range", format!("\"{layer}\"")), 206, &[], Expected::Bytes(b"01".to_vec())),
        row("blob, unchanged", Given::Blobs, get(&blob).header("if-none-match", format!("\"x\", W/\"{layer}\"")), 304, &[("etag", blob_headers[2].1)], Expected::Bytes(Vec::new())),
        row("blob, changed", Given::Blobs, get(&blob).header("if-none-match", "\"x\""), 200, &[], Expected::Bytes(LAYER.to_vec())),
        // end-3
        row("manifest by tag", Given::Image, get("/v2/a/manifests/v1"), 200, &manifest_headers, Expected::Bytes(manifest.clone().into_bytes())),
        row("manifest by digest", Given::Image, get(&format!("/v2/a/manifests/{manifest_digest}")), 200, &manifest_headers, Expected::Bytes(manifest.clone().into_bytes())),
        row("manifest by tag is asked for again", Given::Image, get("/v2/a/manifests/v1"), 200, &[("cache-control", "private, no-cache, no-transform")], Expected::Any),
        row("manifest, unchanged", Given::Image, get("/v2/a/manifests/v1").header("if-none-match", format!("\"{manifest_digest}\"")), 304, &[], Expected::Bytes(Vec::new())),
        row("manifest, no user", Given::Image, get("/v2/a/manifests/v1").anonymous(), 401, &[], error("UNAUTHORIZED", "sign in")),
        row("manifest, unknown tag", Given::Image, get("/v2/a/manifests/v9"), 404, &[], error("MANIFEST_UNKNOWN", "v9 in repository a")),
        row("manifest, unknown digest", Given::Image, get(&format!("/v2/a/manifests/{WRONG}")), 404, &[], error("MANIFEST_UNKNOWN", WRONG)),
        row("manifest, of another repository", Given::Image, get(&format!("/v2/b/manifests/{manifest_digest}")), 404, &[], error("MANIFEST_UNKNOWN", "in repository b")),
        row("manifest, bad digest", Given::Nothing, get("/v2/a/manifests/sha256:x"), 400, &[], error("DIGEST_INVALID", "unexpected character 'x'")),
        row("manifest, bad tag", Given::Nothing, get("/v2/a/manifests/-x"), 400, &[], error("MANIFEST_INVALID", "unexpected character '-' in tag")),
        row("manifest, wrong method", Given::Nothing, Ask::new("PATCH /v2/a/manifests/v1"), 405, &[("allow", "GET, HEAD, PUT, DELETE")], error("UNSUPPORTED", "method PATCH")),
        // end-7
        row("push by tag", Given::Blobs, Ask::new("PUT /v2/a/manifests/v1").manifest(OCI_MANIFEST, &image()), 201, &[("location", format!("/v2/a/manifests/{manifest_digest}").leak()), ("docker-content-digest", manifest_headers[1].1)], Expected::Bytes(Vec::new())),
        row("push by digest", Given::Blobs, Ask::new(&format!("PUT /v2/a/manifests/{manifest_digest}")).manifest(OCI_MANIFEST, &image()), 201, &[], Expected::Any),
        row("push an index", Given::Image, Ask::new("PUT /v2/a/manifests/all").manifest(OCI_INDEX, &index()), 201, &[], Expected::Any),
        row("push, wrong digest", Given::Blobs, Ask::new(&format!("PUT /v2/a/manifests/{WRONG}")).manifest(OCI_MANIFEST, &image()), 400, &[], error("DIGEST_INVALID", "the manifest received has the digest")),
        row("push, missing blobs", Given::Nothing, Ask::new("PUT /v2/a/manifests/v1").manifest(OCI_MANIFEST, &image()), 404, &[], error("MANIFEST_BLOB_UNKNOWN", &layer.to_string())),
        row("push, blobs of another repository", Given::Blobs, Ask::new("PUT /v2/b/manifests/v1").manifest(OCI_MANIFEST, &image()), 404, &[], error("MANIFEST_BLOB_UNKNOWN", "in repository b, push first")),
        row("push, missing child", Given::Blobs, Ask::new("PUT /v2/a/manifests/all").manifest(OCI_INDEX, &index()), 404, &[], error("MANIFEST_BLOB_UNKNOWN", &manifest_digest.to_string())),
        row("push, other media type", Given::Blobs, Ask::new("PUT /v2/a/manifests/v1").manifest(DOCKER_MANIFEST, &image()), 400, &[], error("MANIFEST_INVALID", "content-type header says")),
        row("push, no JSON", Given::Blobs, Ask::new("PUT /v2/a/manifests/v1").header("content-type", OCI_MANIFEST).stream("{"), 400, &[], error("MANIFEST_INVALID", "EOF while parsing")),
        row("push, no body", Given::Blobs, Ask::new("PUT /v2/a/manifests/v1").header("content-type", OCI_MANIFEST), 400, &[], error("MANIFEST_INVALID", "EOF while parsing")),
        row("push, too large", Given::Blobs, Ask::new("PUT /v2/a/manifests/v1").header("content-type", OCI_MANIFEST).stream(&large), 413, &[], error("MANIFEST_INVALID", "larger than 4194304 bytes")),
        row("push, no user", Given::Blobs, Ask::new("PUT /v2/a/manifests/v1").manifest(OCI_MANIFEST, &image()).anonymous(), 401, &[], error("UNAUTHORIZED", "sign in")),
        row("push, bad name", Given::Blobs, Ask::new("PUT /v2/_a/manifests/v1").manifest(OCI_MANIFEST, &image()), 400, &[], error("NAME_INVALID", "unexpected character '_'")),
        // end-4
        row("start", Given::Nothing, Ask::new("POST /v2/a/blobs/uploads/"), 202, &[("range", "0-0"), ("content-length", "0")], Expected::Bytes(Vec::new())),
        row("start, bad name", Given::Nothing, Ask::new("POST /v2/A/blobs/uploads/"), 400, &[], error("NAME_INVALID", "unexpected character 'A'")),
        row("start, no user", Given::Nothing, Ask::new("POST /v2/a/blobs/uploads/").anonymous(), 401, &[], error("UNAUTHORIZED", "sign in")),
        row("start, wrong method", Given::Nothing, get("/v2/a/blobs/uploads/"), 405, &[("allow", "POST")], error("UNSUPPORTED", "method GET")),
        row("whole", Given::Nothing, Ask::new(&format!("POST /v2/a/blobs/uploads/?digest={layer}")).body(LAYER), 201, &created_blob, Expected::Bytes(Vec::new())),
        row("whole, there already", Given::Blobs, Ask::new(&format!("POST /v2/a/blobs/uploads/?digest={layer}")).body(LAYER), 201, &created_blob, Expected::Bytes(Vec::new())),
        row("whole, of unknown length", Given::Nothing, Ask::new(&format!("POST /v2/a/blobs/uploads/?digest={layer}")).stream(LAYER), 201, &created_blob, Expected::Bytes(Vec::new())),
        row("whole, no bytes", Given::Nothing, Ask::new(&format!("POST /v2/a/blobs/uploads/?digest={}", digest(b""))), 201, &[], Expected::Bytes(Vec::new())),
        row("whole, in sha512", Given::Nothing, Ask::new(&format!("POST /v2/a/blobs/uploads/?digest={}", Algorithm::Sha512.digest(LAYER))).body(LAYER), 201, &[], Expected::Bytes(Vec::new())),
        row("whole, wrong digest", Given::Nothing, Ask::new(&format!("POST /v2/a/blobs/uploads/?digest={WRONG}")).body(LAYER), 400, &[], error("DIGEST_INVALID", "another digest")),
        row("whole, wrong digest of a blob that is there", Given::Blobs, Ask::new(&format!("POST /v2/b/blobs/uploads/?digest={layer}")).body(b"x"), 400, &[], error("DIGEST_INVALID", "have another digest")),
        row("whole, no bytes for a blob that is there", Given::Blobs, Ask::new(&format!("POST /v2/b/blobs/uploads/?digest={layer}")), 400, &[], error("DIGEST_INVALID", "have another digest")),
        row("whole, bad digest", Given::Nothing, Ask::new("POST /v2/a/blobs/uploads/?digest=sha256:x").body(LAYER), 400, &[], error("DIGEST_INVALID", "unexpected character 'x'")),
        row("whole, unequal length", Given::Nothing, Ask::new(&format!("POST /v2/a/blobs/uploads/?digest={layer}")).header("content-length", "9").stream(LAYER), 400, &[], error("SIZE_INVALID", "before or after its announced length")),
        // end-5, end-6, end-13, end-14
        row("status, unknown", Given::Nothing, get(&format!("/v2/a/blobs/uploads/{unknown_id}")), 404, &[], error("BLOB_UPLOAD_UNKNOWN", unknown_id)),
        row("status, bad id", Given::Nothing, get("/v2/a/blobs/uploads/x"), 404, &[], error("BLOB_UPLOAD_UNKNOWN", "is not an upload of this registry")),
        row("chunk, unknown", Given::Nothing, Ask::new(&format!("PATCH /v2/a/blobs/uploads/{unknown_id}")).stream(LAYER), 404, &[], error("BLOB_UPLOAD_UNKNOWN", "never started here")),
        row("chunk, unknown, with a hint", Given::Nothing, Ask::new(&format!("PATCH /v2/a/blobs/uploads/{unknown_id}?step=4294967295")).stream(LAYER), 404, &[], error("BLOB_UPLOAD_UNKNOWN", "never started here")),
        row("close, unknown", Given::Nothing, Ask::new(&format!("PUT /v2/a/blobs/uploads/{unknown_id}?digest={layer}")), 404, &[], error("BLOB_UPLOAD_UNKNOWN", "never started here")),
        row("close, no digest", Given::Nothing, Ask::new(&format!("PUT /v2/a/blobs/uploads/{unknown_id}")), 400, &[], error("DIGEST_INVALID", "no query parameter digest")),
        row("cancel, unknown", Given::Nothing, Ask::new(&format!("DELETE /v2/a/blobs/uploads/{unknown_id}")), 404, &[], error("BLOB_UPLOAD_UNKNOWN", "never started here")),
        row("upload, wrong method", Given::Nothing, Ask::new(&format!("POST /v2/a/blobs/uploads/{unknown_id}")), 405, &[("allow", "GET, PATCH, PUT, DELETE")], error("UNSUPPORTED", "method POST")),
        row("start, unsupported algorithm", Given::Nothing, Ask::new("POST /v2/a/blobs/uploads/?digest-algorithm=md5"), 400, &[], error("DIGEST_INVALID", "supported are sha256 and sha512")),
        // end-11
        row("mount", Given::Blobs, Ask::new(&format!("POST /v2/b/blobs/uploads/?mount={layer}&from=a")), 201, &[("location", format!("/v2/b/blobs/{layer}").leak()), ("docker-content-digest", created_blob[1].1)], Expected::Bytes(Vec::new())),
        row("mount from anywhere", Given::Blobs, Ask::new(&format!("POST /v2/b/blobs/uploads/?mount={layer}")), 201, &[], Expected::Bytes(Vec::new())),
        row("mount, not there", Given::Blobs, Ask::new(&format!("POST /v2/b/blobs/uploads/?mount={WRONG}&from=a")), 202, &[("range", "0-0")], Expected::Bytes(Vec::new())),
        row("mount, not there at all", Given::Blobs, Ask::new(&format!("POST /v2/b/blobs/uploads/?mount={WRONG}")), 202, &[("range", "0-0")], Expected::Bytes(Vec::new())),
        row("mount, from a repository that does not have it", Given::Blobs, Ask::new(&format!("POST /v2/b/blobs/uploads/?mount={layer}&from=c")), 202, &[], Expected::Bytes(Vec::new())),
        row("mount, bad digest", Given::Blobs, Ask::new("POST /v2/b/blobs/uploads/?mount=sha256:x&from=a"), 400, &[], error("DIGEST_INVALID", "unexpected character 'x'")),
        row("mount, bad name", Given::Blobs, Ask::new(&format!("POST /v2/b/blobs/uploads/?mount={layer}&from=A")), 400, &[], error("NAME_INVALID", "unexpected character 'A'")),
        row("mount, no user", Given::Blobs, Ask::new(&format!("POST /v2/b/blobs/uploads/?mount={layer}&from=a")).anonymous(), 401, &[], error("UNAUTHORIZED", "sign in")),
        // end-7b
        row("push with tags", Given::Blobs, Ask::new(&format!("PUT /v2/a/manifests/{manifest_digest}?tag=x&tag=y")).manifest(OCI_MANIFEST, &image()), 201, &[("oci-tag", "x")], Expected::Bytes(Vec::new())),
        row("push with a bad tag", Given::Blobs, Ask::new(&format!("PUT /v2/a/manifests/{manifest_digest}?tag=.x")).manifest(OCI_MANIFEST, &image()), 400, &[], error("MANIFEST_INVALID", "unexpected character '.'")),
        row("push with a subject", Given::Image, Ask::new("PUT /v2/a/manifests/sbom").manifest(OCI_MANIFEST, &artifact("sbom")), 201, &[("oci-subject", manifest_headers[1].1)], Expected::Any),
        row("push with a subject that is not there", Given::Blobs, Ask::new("PUT /v2/a/manifests/sbom").manifest(OCI_MANIFEST, &artifact("sbom")), 201, &[("oci-subject", manifest_headers[1].1)], Expected::Any),
        // end-9
        row("delete a tag", Given::Image, Ask::new("DELETE /v2/a/manifests/v1"), 202, &[("content-length", "0")], Expected::Bytes(Vec::new())),
        row("delete a tag, unknown", Given::Image, Ask::new("DELETE /v2/a/manifests/v9"), 404, &[], error("MANIFEST_UNKNOWN", "v9 in repository a")),
        row("delete a manifest", Given::Image, Ask::new(&format!("DELETE /v2/a/manifests/{manifest_digest}")), 202, &[("content-length", "0")], Expected::Bytes(Vec::new())),
        row("delete a manifest, unknown", Given::Image, Ask::new(&format!("DELETE /v2/a/manifests/{WRONG}")), 404, &[], error("MANIFEST_UNKNOWN", WRONG)),
        row("delete a manifest, bad digest", Given::Image, Ask::new("DELETE /v2/a/manifests/sha256:x"), 400, &[], error("DIGEST_INVALID", "unexpected character 'x'")),
        row("delete a manifest, bad name", Given::Image, Ask::new("DELETE /v2/A/manifests/v1"), 400, &[], error("NAME_INVALID", "unexpected character 'A'")),
        row("delete a manifest, no user", Given::Image, Ask::new("DELETE /v2/a/manifests/v1").anonymous(), 401, &[], error("UNAUTHORIZED", "sign in")),
        // end-10
        row("delete a blob", Given::Blobs, Ask::new(&format!("DELETE {blob}")), 202, &[("content-length", "0")], Expected::Bytes(Vec::new())),
        row("delete a blob that a manifest needs", Given::Image, Ask::new(&format!("DELETE {blob}")), 405, &[("allow", "GET, HEAD")], error("UNSUPPORTED", "needs it, delete that first")),
        row("delete a blob, unknown", Given::Nothing, Ask::new(&format!("DELETE {blob}")), 404, &[], error("BLOB_UNKNOWN", "in repository a")),
        row("delete a blob of another repository", Given::Blobs, Ask::new(&format!("DELETE /v2/b/blobs/{layer}")), 404, &[], error("BLOB_UNKNOWN", "in repository b")),
        row("delete a blob, bad digest", Given::Blobs, Ask::new("DELETE /v2/a/blobs/x"), 400, &[], error("DIGEST_INVALID", "no ':'")),
        row("delete a blob, bad name", Given::Blobs, Ask::new(&format!("DELETE /v2/A/blobs/{layer}")), 400, &[], error("NAME_INVALID", "unexpected character 'A'")),
        row("delete a blob, no user", Given::Blobs, Ask::new(&format!("DELETE {blob}")).anonymous(), 401, &[], error("UNAUTHORIZED", "sign in")),
        // end-12
        row("referrers", Given::Referrers, get(&referrers), 200, &[("content-type", OCI_INDEX)], Expected::Json(listed(&["sbom", "signature"]))),
        row("referrers of a type", Given::Referrers, get(&format!("{referrers}?artifactType=application/vnd.example.sbom")), 200, &[("oci-filters-applied", "artifactType")], Expected::Json(listed(&["sbom"]))),
        row("referrers of no type", Given::Referrers, get(&format!("{referrers}?artifactType=nothing")), 200, &[("oci-filters-applied", "artifactType")], Expected::Json(listed(&[]))),
        row("referrers, first page", Given::Referrers, get(&format!("{referrers}?n=1&artifactType=nothing%2B")), 200, &[("link", format!("<{referrers}?n=1&last={}&artifactType=nothing%2B>; rel=\"next\"", first_referrer()).leak())], Expected::Json(listed(&[]))),
        row("referrers, no repository", Given::Nothing, get(&referrers), 200, &[("content-type", OCI_INDEX)], Expected::Json(listed(&[]))),
        row("referrers, bad digest", Given::Nothing, get("/v2/a/referrers/sha256:x"), 400, &[], error("DIGEST_INVALID", "unexpected character 'x'")),
        row("referrers, bad name", Given::Nothing, get(&referrers.replace("/a/", "/A/")), 400, &[], error("NAME_INVALID", "unexpected character 'A'")),
        row("referrers, wrong method", Given::Nothing, Ask::new(&format!("POST {referrers}")), 405, &[("allow", "GET, HEAD")], error("UNSUPPORTED", "method POST")),
        row("referrers, no user", Given::Nothing, get(&referrers).anonymous(), 401, &[], error("UNAUTHORIZED", "sign in")),
        // the catalogue
        row("catalogue", Given::Image, get("/v2/_catalog"), 200, &[("content-type", "application/json")], Expected::Json(json!({ "repositories": ["a"] }))),
        row("catalogue, none", Given::Blobs, get("/v2/_catalog"), 200, &[], Expected::Json(json!({ "repositories": [] }))),
        row("catalogue, after", Given::Image, get("/v2/_catalog?last=a"), 200, &[], Expected::Json(json!({ "repositories": [] }))),
        row("catalogue, bad name", Given::Image, get("/v2/_catalog?last=A"), 400, &[], error("NAME_INVALID", "unexpected character 'A'")),
        row("catalogue, bad number", Given::Image, get("/v2/_catalog?n=x"), 400, &[], error("UNSUPPORTED", "n is not a number")),
        row("catalogue, wrong method", Given::Nothing, Ask::new("DELETE /v2/_catalog"), 405, &[("allow", "GET, HEAD")], error("UNSUPPORTED", "method DELETE")),
        row("catalogue, no user", Given::Nothing, get("/v2/_catalog").anonymous(), 401, &[], error("UNAUTHORIZED", "sign in")),
        // end-8
        row("tags", Given::Image, get("/v2/a/tags/list"), 200, &[("content-type", "application/json")], Expected::Json(json!({ "name": "a", "tags": ["v1", "v2", "v3"] }))),
        row("tags, first page", Given::Image, get("/v2/a/tags/list?n=2"), 200, &[("link", "</v2/a/tags/list?n=2&last=v2>; rel=\"next\"")], Expected::Json(json!({ "name": "a", "tags": ["v1", "v2"] }))),
        row("tags, last page", Given::Image, get("/v2/a/tags/list?n=2&last=v2"), 200, &[], Expected::Json(json!({ "name": "a", "tags": ["v3"] }))),
        row("tags, none", Given::Image, get("/v2/a/tags/list?n=0"), 200, &[], Expected::Json(json!({ "name": "a", "tags": [] }))),
        row("tags, after the last", Given::Image, get("/v2/a/tags/list?last=v3"), 200, &[], Expected::Json(json!({ "name": "a", "tags": [] }))),
        row("tags, unknown repository", Given::Image, get("/v2/b/tags/list"), 404, &[], error("NAME_UNKNOWN", "no manifest was ever pushed to b")),
        row("tags, blobs only", Given::Blobs, get("/v2/a/tags/list"), 404, &[], error("NAME_UNKNOWN", "no manifest was ever pushed to a")),
        row("tags, bad name", Given::Nothing, get("/v2/A/tags/list"), 400, &[], error("NAME_INVALID", "unexpected character 'A'")),
        row("tags, bad number", Given::Nothing, get("/v2/a/tags/list?n=-1"), 400, &[], error("UNSUPPORTED", "n is not a number")),
        row("tags, wrong method", Given::Nothing, Ask::new("PUT /v2/a/tags/list"), 405, &[("allow", "GET, HEAD")], error("UNSUPPORTED", "method PUT")),
        row("tags, no user", Given::Image, get("/v2/a/tags/list").anonymous(), 401, &[], error("UNAUTHORIZED", "sign in")),
    ]
}

/// The random bytes of the response that has a boundary: the host counts, and six were taken: two as the isolate began, four to push two blobs.
const BOUNDARY: &str = "00000000000000000000000000000006";

#[test]
fn answers_as_the_table_says() {
    for row in table() {
        check(&row);
    }
}

/// What stands in the store, with digests and random parts in short.
fn keys(registry: &TestRegistry<Memory>) -> Vec<String> {
    let short = |part: &str| {
        if part.len() >= 32 {
            part[part.len() - 4..].to_owned()
        } else {
            part.to_owned()
        }
    };
    let shorten = |key: String| key.split('/').map(short).collect::<Vec<_>>().join("/");
    registry.store().keys().into_iter().map(shorten).collect()
}

#[test]
fn a_chunked_upload_goes_on_from_where_it_was() {
    let registry = registry(&[]);
    let start = ask(&registry, &Ask::new("POST /v2/a/blobs/uploads/"));
    let first = ask(
        &registry,
        &Ask::new(&format!("PATCH {}", start.location()))
            .header("content-range", "0-3")
            .body(&LAYER[..4]),
    );
    assert_eq!((first.status, first.header("range")), (202, Some("0-3")));

    // Out of order, and by the location of a step before.
    for location in [start.location(), first.location()] {
        let wrong = ask(
            &registry,
            &Ask::new(&format!("PATCH {location}"))
                .header("content-range", "5-9")
                .body(&LAYER[5..]),
        );
        assert_eq!((wrong.status, wrong.header("range")), (416, Some("0-3")));
        assert_eq!(wrong.location(), first.location());
    }
    let wrong = ask(
        &registry,
        &Ask::new(&format!(
            "PUT {}&digest={}",
            first.location(),
            digest(LAYER)
        ))
        .header("content-range", "5-9")
        .body(&LAYER[5..]),
    );
    assert_eq!((wrong.status, wrong.header("range")), (416, Some("0-3")));

    let status = ask(&registry, &Ask::new(&format!("GET {}", start.location())));
    assert_eq!(
        (status.status, status.header("range"), status.location()),
        (204, Some("0-3"), first.location())
    );
    let second = ask(
        &registry,
        &Ask::new(&format!("PATCH {}", status.location())).stream(&LAYER[4..8]),
    );
    assert_eq!((second.status, second.header("range")), (202, Some("0-7")));
    let closed = ask(
        &registry,
        &Ask::new(&format!(
            "PUT {}&digest={}",
            second.location(),
            digest(LAYER)
        ))
        .body(&LAYER[8..]),
    );
    assert_eq!(closed.status, 201);
    let pulled = ask(
        &registry,
        &Ask::new(&format!("GET /v2/a/blobs/{}", digest(LAYER))),
    );
    assert_eq!(pulled.body, LAYER);
    for (range, expected) in [
        ("bytes=0-3", "0123"),
        ("bytes=3-4", "34"),
        ("bytes=2-8", "2345678"),
        ("bytes=9-", "9"),
    ] {
        let part = ask(
            &registry,
            &Ask::new(&format!("GET /v2/a/blobs/{}", digest(LAYER))).header("range", range),
        );
        assert_eq!(
            (part.status, part.body.as_slice()),
            (206, expected.as_bytes())
        );
    }

    let again = ask(
        &registry,
        &Ask::new(&format!(
            "PUT {}&digest={}",
            second.location(),
            digest(LAYER)
        )),
    );
    assert_eq!(again.status, 201, "a closing that was retried");
    for method in ["GET", "PATCH", "DELETE"] {
        let ended = ask(
            &registry,
            &Ask::new(&format!("{method} {}", second.location())),
        );
        assert_eq!(ended.status, 404, "{method}");
    }
}

#[test]
fn an_upload_of_more_steps_than_a_page_lists_comes_out_right() {
    let registry = registry(&[]);
    let blob: Vec<u8> = (0_u8..=250).cycle().take(1_500).collect();
    let mut location = ask(&registry, &Ask::new("POST /v2/a/blobs/uploads/")).location();
    for byte in &blob {
        location = ask(
            &registry,
            &Ask::new(&format!("PATCH {location}")).stream([*byte]),
        )
        .location();
    }
    let status = ask(&registry, &Ask::new(&format!("GET {location}")));
    assert_eq!(
        (status.status, status.header("range")),
        (204, Some("0-1499"))
    );
    let closed = ask(
        &registry,
        &Ask::new(&format!("PUT {location}&digest={}", digest(&blob))),
    );
    assert_eq!(closed.status, 201);
    let pulled = ask(
        &registry,
        &Ask::new(&format!("GET /v2/a/blobs/{}", digest(&blob))),
    );
    assert_eq!(pulled.body, blob);
}

#[test]
fn a_patched_blob_is_one_extent_and_one_record() {
    let registry = registry(&[]);
    let start = ask(&registry, &Ask::new("POST /v2/a/blobs/uploads/"));
    let chunk = ask(
        &registry,
        &Ask::new(&format!("PATCH {}", start.location())).stream(LAYER),
    );
    let closed = ask(
        &registry,
        &Ask::new(&format!(
            "PUT {}&digest={}",
            chunk.location(),
            digest(LAYER)
        )),
    );
    assert_eq!(closed.status, 201);
    let bytes: usize = registry
        .store()
        .keys()
        .iter()
        .filter(|key| key.starts_with("extents/"))
        .map(|key| registry.store().bytes(key).unwrap().len())
        .sum();
    assert_eq!(bytes, LAYER.len(), "bytes are written once");
    assert_eq!(
        keys(&registry),
        [
            "blobs/sha256/84/7882",
            "extents/0004/0005",
            "refs/sha256/7882/a/_grants/0006",
            "refs/sha256/7882/a/_link",
            "uploads/0004/a/_00000",
            "uploads/0004/a/_00001",
            "uploads/0004/a/_00002",
            "uploads/0004/a/_00003",
        ]
    );
}

#[test]
fn a_whole_blob_leaves_no_session() {
    let registry = registry(&[]);
    let start = ask(&registry, &Ask::new("POST /v2/a/blobs/uploads/"));
    let closed = ask(
        &registry,
        &Ask::new(&format!(
            "PUT {}?digest={}",
            start.location(),
            digest(LAYER)
        ))
        .body(LAYER),
    );
    assert_eq!(closed.status, 201);
    assert_eq!(
        keys(&registry),
        [
            "blobs/sha256/84/7882",
            "refs/sha256/7882/a/_grants/0005",
            "refs/sha256/7882/a/_link"
        ]
    );
    assert_eq!(
        ask(&registry, &Ask::new(&format!("GET {}", start.location()))).status,
        404
    );
}

#[test]
fn a_wrong_digest_leaves_nothing_that_is_named() {
    for whole in [true, false] {
        let registry = registry(&[]);
        let mut location = ask(&registry, &Ask::new("POST /v2/a/blobs/uploads/")).location();
        let mut close = Ask::new("GET /");
        if whole {
            close = close.body(LAYER);
        } else {
            location = ask(
                &registry,
                &Ask::new(&format!("PATCH {location}")).stream(LAYER),
            )
            .location();
        }
        let separator = if whole { '?' } else { '&' };
        let put = |digest: &str| Ask {
            method: Method::PUT,
            target: format!("{location}{separator}digest={digest}"),
            ..close.clone()
        };
        let wrong = ask(&registry, &put(WRONG));
        assert_eq!(wrong.status, 400);
        assert!(
            !keys(&registry)
                .iter()
                .any(|key| key.starts_with("blobs/") || key.starts_with("refs/")),
            "{:?}",
            keys(&registry)
        );
        let right = ask(&registry, &put(&digest(LAYER).to_string()));
        assert_eq!(
            right.status, 201,
            "the session is not killed by a wrong digest"
        );
    }
}

#[test]
fn an_upload_of_another_repository_is_unknown() {
    let registry = registry(&[]);
    let location = ask(&registry, &Ask::new("POST /v2/a/blobs/uploads/"))
        .location()
        .replace("/a/", "/b/");
    for method in ["GET", "PATCH", "DELETE"] {
        assert_eq!(
            ask(
                &registry,
                &Ask::new(&format!("{method} {location}")).stream(LAYER)
            )
            .status,
            404,
            "{method}"
        );
    }
}

#[test]
fn a_cancelled_upload_is_unknown_and_its_bytes_are_gone() {
    let registry = registry(&[]);
    let start = ask(&registry, &Ask::new("POST /v2/a/blobs/uploads/"));
    let chunk = ask(
        &registry,
        &Ask::new(&format!("PATCH {}", start.location())).stream(LAYER),
    );
    assert_eq!(
        ask(
            &registry,
            &Ask::new(&format!("DELETE {}", chunk.location()))
        )
        .status,
        204
    );
    for (method, target) in [
        ("GET", chunk.location()),
        ("PATCH", chunk.location()),
        ("DELETE", chunk.location()),
        (
            "PUT",
            format!("{}&digest={}", chunk.location(), digest(LAYER)),
        ),
    ] {
        assert_eq!(
            ask(&registry, &Ask::new(&format!("{method} {target}"))).status,
            404,
            "{method}"
        );
    }
    assert!(
        !keys(&registry)
            .iter()
            .any(|key| key.starts_with("extents/"))
    );
}

#[test]
fn a_blob_is_stored_once_for_all_repositories() {
    let registry = registry(&[]);
    for name in ["a", "b/c", "d"] {
        let whole = ask(
            &registry,
            &Ask::new(&format!(
                "POST /v2/{name}/blobs/uploads/?digest={}",
                digest(LAYER)
            ))
            .body(LAYER),
        );
        assert_eq!(whole.status, 201);
    }
    // By PATCH as well: its extent goes when the blob is found to be there.
    let start = ask(&registry, &Ask::new("POST /v2/e/blobs/uploads/"));
    let chunk = ask(
        &registry,
        &Ask::new(&format!("PATCH {}", start.location())).stream(LAYER),
    );
    assert_eq!(
        ask(
            &registry,
            &Ask::new(&format!(
                "PUT {}&digest={}",
                chunk.location(),
                digest(LAYER)
            ))
        )
        .status,
        201
    );
    let stored: Vec<String> = keys(&registry)
        .into_iter()
        .filter(|key| key.starts_with("blobs/") || key.starts_with("extents/"))
        .collect();
    assert_eq!(stored, ["blobs/sha256/84/7882"]);
    for name in ["a", "b/c", "d", "e"] {
        assert_eq!(
            ask(
                &registry,
                &Ask::new(&format!("GET /v2/{name}/blobs/{}", digest(LAYER)))
            )
            .body,
            LAYER
        );
    }
}

#[test]
fn a_lost_link_is_written_again() {
    let registry = registry(&[]);
    // Pushed whole for the first time, a blob has its link to show that its bytes were right; a manifest's grant needs none.
    prepare(&registry, Given::Image);
    let link = registry
        .store()
        .keys()
        .into_iter()
        .find(|key| key.ends_with("/a/_link") && key.contains(digest(LAYER).encoded()))
        .unwrap();
    let bytes = registry.store().bytes(&link);
    block_on(strata::store::Objects::delete(
        registry.store(),
        std::slice::from_ref(&link),
    ))
    .unwrap();
    assert_eq!(
        ask(
            &registry,
            &Ask::new(&format!("GET /v2/a/blobs/{}", digest(LAYER)))
        )
        .body,
        LAYER
    );
    assert_eq!(registry.store().bytes(&link), bytes);
}

#[test]
fn a_push_that_the_plan_does_not_allow_is_refused_before_the_first_write() {
    let registry = registry(&[("STRATA_SUBREQUESTS", "50")]);
    let blobs: Vec<String> = (0..15).map(|number| format!("layer {number}")).collect();
    for blob in &blobs {
        let answer = ask(
            &registry,
            &Ask::new(&format!(
                "POST /v2/a/blobs/uploads/?digest={}",
                digest(blob.as_bytes())
            ))
            .body(blob),
        );
        assert_eq!(answer.status, 201);
    }
    let image = |layers: usize| {
        let layers: Vec<Value> = blobs[1..=layers]
            .iter()
            .map(|blob| descriptor("application/vnd.oci.image.layer.v1.tar", blob.as_bytes()))
            .collect();
        json!({ "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": descriptor("application/json", blobs[0].as_bytes()), "layers": layers })
    };
    let before = registry.store().keys();
    let refused = ask(
        &registry,
        &Ask::new("PUT /v2/a/manifests/v1").manifest(OCI_MANIFEST, &image(14)),
    );
    assert_eq!(refused.status, 413);
    assert!(
        String::from_utf8_lossy(&refused.body).contains(
            "takes 51 store operations, the setting STRATA_SUBREQUESTS allows a request 50"
        )
    );
    assert_eq!(registry.store().keys(), before);
    assert_eq!(
        ask(
            &registry,
            &Ask::new("PUT /v2/a/manifests/v1").manifest(OCI_MANIFEST, &image(13))
        )
        .status,
        201
    );
}

#[test]
fn a_deleted_tag_leaves_the_manifest_and_a_deleted_manifest_no_tag() {
    let registry = registry(&[]);
    prepare(&registry, Given::Image);
    let manifest = format!("/v2/a/manifests/{}", digest(image().to_string().as_bytes()));
    let status = |request: &str| ask(&registry, &Ask::new(request)).status;
    let tags = || ask(&registry, &Ask::new("GET /v2/a/tags/list")).body;
    assert_eq!(status("DELETE /v2/a/manifests/v2"), 202);
    assert_eq!(status("DELETE /v2/a/manifests/v2"), 404);
    assert_eq!(status("GET /v2/a/manifests/v2"), 404);
    assert_eq!(status(&format!("GET {manifest}")), 200);
    assert_eq!(tags(), br#"{"name":"a","tags":["v1","v3"]}"#);

    // A tag that names something else stays.
    let other = index();
    assert_eq!(
        ask(
            &registry,
            &Ask::new("PUT /v2/a/manifests/v3").manifest(OCI_INDEX, &other)
        )
        .status,
        201
    );
    assert_eq!(status(&format!("DELETE {manifest}")), 202);
    assert_eq!(status(&format!("GET {manifest}")), 404);
    assert_eq!(status("GET /v2/a/manifests/v1"), 404);
    assert_eq!(status("GET /v2/a/manifests/v3"), 200);
    assert_eq!(tags(), br#"{"name":"a","tags":["v3"]}"#);

    // Pushed again, it is there again, and so is its tag.
    assert_eq!(
        ask(
            &registry,
            &Ask::new("PUT /v2/a/manifests/v1").manifest(OCI_MANIFEST, &image())
        )
        .status,
        201
    );
    assert_eq!(status("GET /v2/a/manifests/v1"), 200);
    assert_eq!(tags(), br#"{"name":"a","tags":["v1","v3"]}"#);
}

#[test]
fn a_repository_whose_tags_are_gone_is_still_known() {
    let registry = registry(&[]);
    prepare(&registry, Given::Image);
    for tag in ["v1", "v2", "v3"] {
        assert_eq!(
            ask(
                &registry,
                &Ask::new(&format!("DELETE /v2/a/manifests/{tag}"))
            )
            .status,
            202
        );
    }
    let tags = ask(&registry, &Ask::new("GET /v2/a/tags/list"));
    assert_eq!(
        (tags.status, tags.body.as_slice()),
        (200, br#"{"name":"a","tags":[]}"#.as_slice())
    );
}

#[test]
fn a_deleted_blob_is_gone_here_and_stays_elsewhere() {
    let registry = registry(&[]);
    prepare(&registry, Given::Blobs);
    let layer = digest(LAYER);
    assert_eq!(
        ask(
            &registry,
            &Ask::new(&format!("POST /v2/b/blobs/uploads/?mount={layer}&from=a"))
        )
        .status,
        201
    );
    assert_eq!(
        ask(&registry, &Ask::new(&format!("DELETE /v2/a/blobs/{layer}"))).status,
        202
    );
    assert_eq!(
        ask(&registry, &Ask::new(&format!("GET /v2/a/blobs/{layer}"))).status,
        404
    );
    assert_eq!(
        ask(&registry, &Ask::new(&format!("DELETE /v2/a/blobs/{layer}"))).status,
        404
    );
    assert_eq!(
        ask(&registry, &Ask::new(&format!("GET /v2/b/blobs/{layer}"))).body,
        LAYER,
        "the mount stays whole"
    );
}

#[test]
fn a_blob_of_a_deleted_manifest_can_be_deleted() {
    let registry = registry(&[]);
    prepare(&registry, Given::Image);
    let layer = digest(LAYER);
    assert_eq!(
        ask(&registry, &Ask::new(&format!("DELETE /v2/a/blobs/{layer}"))).status,
        405
    );
    let manifest = digest(image().to_string().as_bytes());
    assert_eq!(
        ask(
            &registry,
            &Ask::new(&format!("DELETE /v2/a/manifests/{manifest}"))
        )
        .status,
        202
    );
    assert_eq!(
        ask(&registry, &Ask::new(&format!("DELETE /v2/a/blobs/{layer}"))).status,
        202
    );
    assert_eq!(
        ask(&registry, &Ask::new(&format!("HEAD /v2/a/blobs/{layer}"))).status,
        404
    );
}

#[test]
fn an_upload_announced_in_sha512_is_hashed_so_as_it_arrives() {
    let registry = registry(&[]);
    let start = ask(
        &registry,
        &Ask::new("POST /v2/a/blobs/uploads/?digest-algorithm=sha512"),
    );
    let chunk = ask(
        &registry,
        &Ask::new(&format!("PATCH {}", start.location())).stream(LAYER),
    );
    let closed = Algorithm::Sha512.digest(LAYER);
    assert_eq!(
        ask(
            &registry,
            &Ask::new(&format!("PUT {}&digest={closed}", chunk.location()))
        )
        .status,
        201
    );
    assert_eq!(
        ask(&registry, &Ask::new(&format!("GET /v2/a/blobs/{closed}"))).body,
        LAYER
    );
}

#[test]
fn every_page_leads_to_the_next() {
    let registry = registry(&[]);
    prepare(&registry, Given::Referrers);
    for tag in ["v1", "v2", "v3", "v4", "v5"] {
        assert_eq!(
            ask(
                &registry,
                &Ask::new(&format!("PUT /v2/a/manifests/{tag}")).manifest(OCI_MANIFEST, &image())
            )
            .status,
            201
        );
    }
    assert_eq!(
        ask(&registry, &Ask::new("DELETE /v2/a/manifests/v2")).status,
        202
    );
    let referrers = format!("/v2/a/referrers/{}", digest(image().to_string().as_bytes()));
    for (target, field, expected) in [
        ("/v2/a/tags/list", "tags", 4),
        (referrers.as_str(), "manifests", 2),
    ] {
        for limit in 1..=5 {
            let mut next = Some(format!("{target}?n={limit}"));
            let mut found = Vec::new();
            while let Some(target) = next {
                let page = ask(&registry, &Ask::new(&format!("GET {target}")));
                let body: Value = serde_json::from_slice(&page.body).unwrap();
                let entries = body[field].as_array().unwrap();
                assert!(entries.len() <= limit);
                found.extend(entries.iter().cloned());
                next = page
                    .header("link")
                    .map(|link| link[1..link.find('>').unwrap()].to_owned());
            }
            assert_eq!(found.len(), expected, "{target} by {limit}: {found:?}");
            found.dedup();
            assert_eq!(found.len(), expected, "{target} by {limit}");
        }
    }
}
