//! Files of images: layers on top of each other, chosen by platform.

use super::*;

#[test]
fn an_image_shows_its_layers_on_top_of_each_other() {
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
    // Each file is from its own layer: two files with the same name have different etags.
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
fn an_image_of_an_index_is_chosen_by_platform() {
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
    // The only platform need not be named.
    push("one", &[about, arm]);
    assert_eq!(read(&isolate, &target("one", "")), b"arm");
    assert_eq!(
        get(&isolate, &target("one", "?platform=linux/amd64")).status,
        404
    );
    // The next page of a listing is of the same platform.
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
    // An index in an index is not read.
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
fn a_layer_that_contradicts_its_image_configuration_is_refused() {
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
    // A configuration of another type states no diff IDs.
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
fn an_image_with_too_many_layers_is_refused() {
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
