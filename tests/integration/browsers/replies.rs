//! Headers of replies that restrict what browsers do with them.

use super::*;

#[track_caller]
fn is_hardened(answer: &Answer, what: &str) {
    for (name, value) in [
        (
            "content-security-policy",
            "default-src 'none'; frame-ancestors 'none'; sandbox",
        ),
        ("cross-origin-resource-policy", "same-origin"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{what}");
    }
}

#[test]
fn every_reply_has_the_hardening_headers() {
    let world = World::new(&[]);
    for (line, _) in requests(&world.upload) {
        is_hardened(&world.ask(&Ask::new(&line)), &line);
        is_hardened(&world.ask(&Ask::new(&line).anonymous()), &line);
        is_hardened(&world.ask(&with(&line, FOREIGN[0])), &line);
    }
    let long = format!("GET /v2/{}", "x".repeat(10_000));
    is_hardened(&world.ask(&Ask::new(&long)), "414");
    let ranges = Ask::new(&format!("GET /v2/a/blobs/{}", digest(LAYER)));
    is_hardened(
        &world.ask(&ranges.clone().header("range", "bytes=0-0,8-8")),
        "206",
    );
    is_hardened(
        &world.ask(&ranges.clone().header("range", "bytes=99-")),
        "416",
    );
    is_hardened(&world.ask(&ranges.header("if-none-match", "*")), "304");
}

#[test]
fn replies_of_a_misconfigured_registry_are_hardened() {
    let response = registry::refuse::<MemoryBody, MemoryBytes>(&"a setting is wrong");
    let answer = Answer {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        body: Vec::new(),
    };
    is_hardened(&answer, "refused");
}

/// The type of a file, whole and in several ranges.
#[test]
fn files_of_layers_have_no_type_that_a_browser_runs() {
    let names = [
        ("x.js", "text/plain; charset=utf-8", "inline"),
        (
            "x.mjs",
            "application/octet-stream",
            "attachment; filename*=UTF-8''x.mjs",
        ),
        ("x.css", "text/plain; charset=utf-8", "inline"),
        ("x.html", "text/plain; charset=utf-8", "inline"),
        ("x.htm", "text/plain; charset=utf-8", "inline"),
        ("x.xml", "text/plain; charset=utf-8", "inline"),
        ("x.vtt", "text/plain; charset=utf-8", "inline"),
        ("x.appcache", "text/plain; charset=utf-8", "inline"),
        (
            "x.svg",
            "application/octet-stream",
            "attachment; filename*=UTF-8''x.svg",
        ),
        (
            "x.SVGZ",
            "application/octet-stream",
            "attachment; filename*=UTF-8''x.SVGZ",
        ),
        (
            "x.xhtml",
            "application/octet-stream",
            "attachment; filename*=UTF-8''x.xhtml",
        ),
        ("x.xsl", "text/plain; charset=utf-8", "inline"),
        (
            "x.pdf",
            "application/octet-stream",
            "attachment; filename*=UTF-8''x.pdf",
        ),
        (
            "x.wasm",
            "application/octet-stream",
            "attachment; filename*=UTF-8''x.wasm",
        ),
        (
            "x.json",
            "application/octet-stream",
            "attachment; filename*=UTF-8''x.json",
        ),
        (
            "x.swf",
            "application/octet-stream",
            "attachment; filename*=UTF-8''x.swf",
        ),
        (
            "x.mht",
            "application/octet-stream",
            "attachment; filename*=UTF-8''x.mht",
        ),
        (
            "x.tiff",
            "application/octet-stream",
            "attachment; filename*=UTF-8''x.tiff",
        ),
        (
            "x",
            "application/octet-stream",
            "attachment; filename*=UTF-8''x",
        ),
        (
            "png",
            "application/octet-stream",
            "attachment; filename*=UTF-8''png",
        ),
        ("x.png", "image/png", "inline"),
        ("x.svg.PNG", "image/png", "inline"),
        ("x.ico", "image/x-icon", "inline"),
        ("x.jpeg", "image/jpeg", "inline"),
        ("x.avif", "image/avif", "inline"),
    ];
    let tar = names.iter().fold(Tar::default(), |tar, (name, _, _)| {
        tar.file(*name, "<script>")
    });
    let layer = gzip(&tar.end());
    let world = World::new(&[]);
    let line = format!("POST /v2/a/blobs/uploads/?digest={}", digest(&layer));
    assert_eq!(world.ask(&Ask::new(&line).body(&layer)).status, 201);
    for (name, media_type, disposition) in names {
        let line = format!("GET /v2/a/_strata/layers/{}/files/{name}", digest(&layer));
        let answer = world.ask(&Ask::new(&line));
        let described = ["content-type", "content-disposition"].map(|header| answer.header(header));
        assert_eq!(described, [Some(media_type), Some(disposition)], "{name}");
        let several = world.ask(&Ask::new(&line).header("range", "bytes=0-0,7-7"));
        assert!(
            several
                .header("content-type")
                .unwrap()
                .starts_with("multipart/byteranges;")
        );
        let parts = text(&several);
        assert_eq!(
            parts
                .matches(&format!("content-type: {media_type}\r\n"))
                .count(),
            2,
            "{parts}"
        );
    }
}

/// A manifest's type is its author's text: a browser saves a type that is not JSON.
#[test]
fn manifests_that_are_not_json_and_blobs_are_attachments() {
    let world = World::new(&[]);
    for (media_type, is_saved) in [
        (OCI_MANIFEST, false),
        ("application/json", false),
        ("application/vnd.example+JSON", false),
        ("application/xhtml+xml", true),
        ("application/javascript", true),
        ("application/pdf", true),
        ("application/xhtml+xml,application/x+json", true),
        ("application/xhtml+xml ,x+json", true),
        ("application/json/xml", true),
    ] {
        let mut manifest = image();
        manifest["mediaType"] = json!(media_type);
        let bytes = manifest.to_string();
        let path = format!("/v2/a/manifests/{}", digest(bytes.as_bytes()));
        let push = Ask::new(&format!("PUT {path}")).stream(&bytes);
        let pushed = world.ask(&push.header("content-type", media_type));
        if pushed.status == 400 {
            continue;
        }
        let answer = world.ask(&Ask::new(&format!("GET {path}")));
        assert_eq!(answer.header("content-type"), Some(media_type));
        let expected = is_saved.then_some("attachment");
        assert_eq!(
            answer.header("content-disposition"),
            expected,
            "{media_type}"
        );
    }
    let blob = world.ask(&Ask::new(&format!("GET /v2/a/blobs/{}", digest(LAYER))));
    let described = ["content-type", "content-disposition"].map(|header| blob.header(header));
    assert_eq!(
        described,
        [Some("application/octet-stream"), Some("attachment")]
    );
}

/// A range of a blob from an upstream does not have the type that the upstream chose.
#[test]
fn blob_ranges_do_not_take_the_media_type_of_an_upstream() {
    for (media_type, expected) in [
        ("text/javascript", "application/octet-stream"),
        ("text/html; charset=utf-8", "application/octet-stream"),
        (
            "multipart/x-mixed-replace; boundary=b",
            "application/octet-stream",
        ),
        (
            "multipart/byteranges; boundary=b, text/javascript",
            "application/octet-stream",
        ),
        (
            "multipart/byteranges; boundary=b",
            "multipart/byteranges; boundary=b",
        ),
    ] {
        let mirrors = Mirrors::of(move |question| {
            let headers = [
                ("content-type", media_type),
                ("content-range", "bytes 0-1/10"),
                ("content-length", "2"),
            ];
            assert!(question.headers.contains_key("range"));
            says(206, &headers, &LAYER[..2])
        });
        let mirror = mirrors.mirror(&json!({ "ranges": "pass" }));
        let line = format!("GET /v2/up.example/a/blobs/{}", digest(LAYER));
        let answer = ask(&mirror, &Ask::new(&line).header("range", "bytes=0-1"));
        assert_eq!((answer.status, answer.body.as_slice()), (206, &LAYER[..2]));
        assert_eq!(answer.header("content-type"), Some(expected));
    }
}
