//! Access to files of layers: permissions, browsers, and how clients discover the extensions.

use super::*;

#[test]
fn files_of_a_layer_need_the_right_to_pull_it() {
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

#[test]
fn no_file_of_a_layer_runs_in_a_browser() {
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
    }
    let url = |index: usize| extensions[index]["url"].as_str().unwrap();
    assert!(url(0).starts_with("https://github.com/opencontainers/distribution-spec/"));
    assert_eq!(url(1), "http://registry.example/extension.md");
}
