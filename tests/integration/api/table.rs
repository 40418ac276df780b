//! Every end-point, as one table: the stored objects, the request, the answer.
//!
//! Each row runs on a registry of its own on the store in memory. For each row that is a `GET`, the
//! same `HEAD` must have the same answer without a body.

use super::*;

/// The digest of the first entry: listings are in the order of digests, and that of a deleted
/// manifest counts.
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

/// One row of the table.
struct Row {
    what: &'static str,
    given: Given,
    ask: Ask,
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Expected,
}

/// The body that is expected.
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
fn check_head(registry: &TestRegistry<MemoryObjects>, row: &Row, mut get: Answer) {
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
        // The id of the request and the way of the answer may differ.
        for name in ["x-request-id", "x-strata-tier", "server-timing"] {
            answer.headers.remove(name);
        }
    }
    assert_eq!(head, get, "{}: HEAD is GET without the body", row.what);
}

/// The document with another number at this place.
fn resized(mut document: Value, at: &str) -> Value {
    *document.pointer_mut(at).unwrap() = json!(99);
    document
}

fn two_sizes() -> Value {
    let mut document = image();
    let layer = document["layers"][0].clone();
    document["layers"] = json!([layer, layer]);
    resized(document, "/layers/1/size")
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
        row("health, no user", Given::Nothing, get("/healthz").anonymous(), 200, &[("cache-control", "no-store")], Expected::Json(json!({ "status": "ok" }))),
        row("readiness, no user", Given::Nothing, get("/readyz").anonymous(), 200, &[("cache-control", "no-store")], Expected::Json(json!({ "status": "ok" }))),
        row("health, wrong method", Given::Nothing, Ask::new("POST /healthz"), 405, &[("allow", "GET, HEAD")], error("UNSUPPORTED", "method POST")),
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
        row("blob, range that ends before it begins", Given::Blobs, get(&blob).header("range", "bytes=5-0"), 416, &[("content-range", "bytes */10")], error("SIZE_INVALID", "the range is outside of the 10 bytes of the blob")),
        row("blob, range outside", Given::Blobs, get(&blob).header("range", "bytes=10-"), 416, &[("content-range", "bytes */10")], error("SIZE_INVALID", "the range is outside of the 10 bytes of the blob")),
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
        row("manifest, bad tag", Given::Nothing, get("/v2/a/manifests/-x"), 404, &[], error("MANIFEST_UNKNOWN", "unexpected character '-' in tag")),
        row("push by a bad tag", Given::Blobs, Ask::new("PUT /v2/a/manifests/-x").manifest(OCI_MANIFEST, &image()), 400, &[], error("MANIFEST_INVALID", "unexpected character '-' in tag")),
        row("manifest, wrong method", Given::Nothing, Ask::new("PATCH /v2/a/manifests/v1"), 405, &[("allow", "GET, HEAD, PUT, DELETE")], error("UNSUPPORTED", "method PATCH")),
        // end-7
        row("push by tag", Given::Blobs, Ask::new("PUT /v2/a/manifests/v1").manifest(OCI_MANIFEST, &image()), 201, &[("location", format!("/v2/a/manifests/{manifest_digest}").leak()), ("docker-content-digest", manifest_headers[1].1)], Expected::Bytes(Vec::new())),
        row("push by digest", Given::Blobs, Ask::new(&format!("PUT /v2/a/manifests/{manifest_digest}")).manifest(OCI_MANIFEST, &image()), 201, &[], Expected::Any),
        row("push an index", Given::Image, Ask::new("PUT /v2/a/manifests/all").manifest(OCI_INDEX, &index()), 201, &[], Expected::Any),
        row("push, wrong digest", Given::Blobs, Ask::new(&format!("PUT /v2/a/manifests/{WRONG}")).manifest(OCI_MANIFEST, &image()), 400, &[], error("DIGEST_INVALID", "the manifest received has the digest")),
        row("push, missing blobs", Given::Nothing, Ask::new("PUT /v2/a/manifests/v1").manifest(OCI_MANIFEST, &image()), 404, &[], error("MANIFEST_BLOB_UNKNOWN", &layer.to_string())),
        row("push, blobs of another repository", Given::Blobs, Ask::new("PUT /v2/b/manifests/v1").manifest(OCI_MANIFEST, &image()), 404, &[], error("MANIFEST_BLOB_UNKNOWN", "in repository b; push it first")),
        row("push, missing child", Given::Blobs, Ask::new("PUT /v2/a/manifests/all").manifest(OCI_INDEX, &index()), 404, &[], error("MANIFEST_BLOB_UNKNOWN", &manifest_digest.to_string())),
        row("push, other size of a blob", Given::Blobs, Ask::new("PUT /v2/a/manifests/v1").manifest(OCI_MANIFEST, &resized(image(), "/layers/0/size")), 400, &[], error("SIZE_INVALID", &format!("{layer} has {} bytes, and its descriptor says 99", LAYER.len()))),
        row("push, other size of a child", Given::Image, Ask::new("PUT /v2/a/manifests/all").manifest(OCI_INDEX, &resized(index(), "/manifests/0/size")), 400, &[], error("SIZE_INVALID", "and its descriptor says 99")),
        row("push, two sizes of a blob", Given::Blobs, Ask::new("PUT /v2/a/manifests/v1").manifest(OCI_MANIFEST, &two_sizes()), 400, &[], error("MANIFEST_INVALID", "content has one size")),
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
        row("whole, wrong digest", Given::Nothing, Ask::new(&format!("POST /v2/a/blobs/uploads/?digest={WRONG}")).body(LAYER), 400, &[], error("DIGEST_INVALID", "do not have the announced digest")),
        row("whole, wrong digest of a blob that is there", Given::Blobs, Ask::new(&format!("POST /v2/b/blobs/uploads/?digest={layer}")).body(b"x"), 400, &[], error("DIGEST_INVALID", "do not have the announced digest")),
        row("whole, no bytes for a blob that is there", Given::Blobs, Ask::new(&format!("POST /v2/b/blobs/uploads/?digest={layer}")), 400, &[], error("DIGEST_INVALID", "do not have the announced digest")),
        row("whole, bad digest", Given::Nothing, Ask::new("POST /v2/a/blobs/uploads/?digest=sha256:x").body(LAYER), 400, &[], error("DIGEST_INVALID", "unexpected character 'x'")),
        row("whole, unequal length", Given::Nothing, Ask::new(&format!("POST /v2/a/blobs/uploads/?digest={layer}")).header("content-length", "9").stream(LAYER), 400, &[], error("SIZE_INVALID", "before or after its announced length")),
        // end-5, end-6, end-13, end-14
        row("status, unknown", Given::Nothing, get(&format!("/v2/a/blobs/uploads/{unknown_id}")), 404, &[], error("BLOB_UPLOAD_UNKNOWN", unknown_id)),
        row("status, bad id", Given::Nothing, get("/v2/a/blobs/uploads/x"), 404, &[], error("BLOB_UPLOAD_UNKNOWN", "is not an upload of this registry")),
        row("chunk, unknown", Given::Nothing, Ask::new(&format!("PATCH /v2/a/blobs/uploads/{unknown_id}")).stream(LAYER), 404, &[], error("BLOB_UPLOAD_UNKNOWN", "does not exist, or has ended")),
        row("chunk, unknown, with a hint", Given::Nothing, Ask::new(&format!("PATCH /v2/a/blobs/uploads/{unknown_id}?step=4294967295")).stream(LAYER), 404, &[], error("BLOB_UPLOAD_UNKNOWN", "does not exist, or has ended")),
        row("close, unknown", Given::Nothing, Ask::new(&format!("PUT /v2/a/blobs/uploads/{unknown_id}?digest={layer}")), 404, &[], error("BLOB_UPLOAD_UNKNOWN", "does not exist, or has ended")),
        row("close, no digest", Given::Nothing, Ask::new(&format!("PUT /v2/a/blobs/uploads/{unknown_id}")), 400, &[], error("DIGEST_INVALID", "no query parameter digest")),
        row("cancel, unknown", Given::Nothing, Ask::new(&format!("DELETE /v2/a/blobs/uploads/{unknown_id}")), 404, &[], error("BLOB_UPLOAD_UNKNOWN", "does not exist, or has ended")),
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
        row("delete a blob that a manifest needs", Given::Image, Ask::new(&format!("DELETE {blob}")), 405, &[("allow", "GET, HEAD")], error("UNSUPPORTED", "refers to it; delete the manifest first")),
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
        row("tags, unknown repository", Given::Image, get("/v2/b/tags/list"), 404, &[], error("NAME_UNKNOWN", "repository b has never had a manifest")),
        row("tags, blobs only", Given::Blobs, get("/v2/a/tags/list"), 404, &[], error("NAME_UNKNOWN", "repository a has never had a manifest")),
        row("tags, bad name", Given::Nothing, get("/v2/A/tags/list"), 400, &[], error("NAME_INVALID", "unexpected character 'A'")),
        row("tags, bad number", Given::Nothing, get("/v2/a/tags/list?n=-1"), 400, &[], error("UNSUPPORTED", "n is not a number")),
        row("tags, wrong method", Given::Nothing, Ask::new("PUT /v2/a/tags/list"), 405, &[("allow", "GET, HEAD")], error("UNSUPPORTED", "method PUT")),
        row("tags, no user", Given::Image, get("/v2/a/tags/list").anonymous(), 401, &[], error("UNAUTHORIZED", "sign in")),
    ]
}

/// The random bytes of the response that has a boundary. The host counts, and six were taken: two
/// when the isolate began, four to push two blobs.
const BOUNDARY: &str = "00000000000000000000000000000007";

#[test]
fn end_points_answer_as_the_table_says() {
    for row in table() {
        check(&row);
    }
}
