//! Attacks by guesses: digests, names and uploads of repositories that the caller cannot see.

use super::*;

/// A client that knows a digest of another repository learns nothing from it in a repository of its
/// own.
#[test]
fn guessing_a_stored_digest_reveals_nothing() {
    let (blob, manifest) = (digest(&layer(PRIVATE)), manifest_digest(PRIVATE));
    let nothing = digest(b"nowhere");
    let compare = |line: &str, existing: &Digest, change: &dyn Fn(Ask) -> Ask, counts: bool| {
        let of = |known: &Digest| {
            // A new fixture each: the second request would see the effects of the first.
            let fixture = Fixture::new();
            fixture.push_image("mallory/app", "v1", "mallory's bytes");
            let line = line.replace("DIGEST", &known.to_string());
            let answer = fixture.ask(&change(by("mallory", &line)));
            let operations: Vec<String> = fixture
                .operations
                .borrow()
                .iter()
                .map(|operation| {
                    operation
                        .replace(known.encoded(), "NAMED")
                        .replace(&known.encoded()[..2], "XX")
                })
                .collect();
            let granted: Vec<_> = fixture
                .keys(&format!("refs/sha256/{}/mallory/", known.encoded()))
                .into_iter()
                .collect();
            assert_eq!(granted, Vec::<String>::new(), "{line}");
            (
                said(&answer, &[&known.to_string(), known.encoded()]),
                operations,
            )
        };
        let ((one, one_took), (other, other_took)) = (of(existing), of(&nothing));
        assert_eq!(one, other, "{line}");
        assert!(
            one.0 >= 400 || line.contains("referrers"),
            "{line} {}",
            one.0
        );
        if counts {
            assert_eq!(one_took, other_took, "{line}");
        }
    };
    let plain = |request: Ask| request;
    for (line, existing) in [
        ("GET /v2/mallory/app/blobs/DIGEST", &blob),
        ("HEAD /v2/mallory/app/blobs/DIGEST", &blob),
        ("DELETE /v2/mallory/app/blobs/DIGEST", &blob),
        ("GET /v2/mallory/app/blobs/DIGEST", &manifest),
        ("GET /v2/mallory/app/manifests/DIGEST", &manifest),
        ("HEAD /v2/mallory/app/manifests/DIGEST", &manifest),
        ("DELETE /v2/mallory/app/manifests/DIGEST", &manifest),
        ("GET /v2/mallory/app/manifests/DIGEST", &blob),
        ("GET /v2/mallory/app/referrers/DIGEST", &manifest),
        ("GET /v2/mallory/app/_strata/layers/DIGEST", &blob),
        (
            "GET /v2/mallory/app/_strata/layers/DIGEST/files/file.txt",
            &blob,
        ),
        (
            "HEAD /v2/mallory/app/_strata/layers/DIGEST/files/file.txt",
            &blob,
        ),
        (
            "GET /v2/mallory/app/_strata/images/DIGEST/files/file.txt",
            &manifest,
        ),
    ] {
        compare(line, existing, &plain, true);
        compare(
            line,
            existing,
            &|request| request.header("if-none-match", format!("\"{existing}\"")),
            true,
        );
        compare(
            line,
            existing,
            &|request| request.header("if-none-match", "*"),
            true,
        );
        compare(
            line,
            existing,
            &|request| request.header("range", "bytes=0-3"),
            true,
        );
    }
    // Wrong bytes: the stored blob is not written again, and the reply does not reveal its name.
    for body in [&b"other bytes"[..], b"", PRIVATE.as_bytes()] {
        for line in [
            "POST /v2/mallory/app/blobs/uploads/?digest=DIGEST",
            "POST /v2/drop/app/blobs/uploads/?digest=DIGEST",
        ] {
            compare(line, &blob, &|request| request.body(body), false);
            compare(line, &blob, &|request| request.stream(body), false);
            compare(
                line,
                &blob,
                &|request| request.header("content-length", "5").stream(body),
                false,
            );
        }
    }
}

/// A manifest that names a blob or manifest absent from its repository is refused, wherever else
/// that is stored.
#[test]
fn a_manifest_gives_no_right_to_the_objects_it_names() {
    for name in ["mallory/app", "drop/app"] {
        let fixture = Fixture::new();
        fixture.push_blob(name, CONFIG);
        let blob = digest(&layer(PRIVATE));
        let push = |document: &Value| {
            by("mallory", &format!("PUT /v2/{name}/manifests/v1")).manifest(OCI_MANIFEST, document)
        };
        let answer = fixture.ask(&push(&image(PRIVATE)));
        let absent = fixture.ask(&push(&image("nowhere either!!!")));
        let other = digest(&layer("nowhere either!!!"));
        assert_eq!(answer.status, 404);
        assert_eq!(
            said(&answer, &[&blob.to_string()]),
            said(&absent, &[&other.to_string()])
        );
        // As an index that lists the private manifest, and as a referrer of it.
        let index = |listed: &Digest| {
            json!({
                "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
                "manifests": [{ "mediaType": OCI_MANIFEST, "digest": listed.to_string(), "size": 400 }],
            })
        };
        let push = |document: &Value| {
            by("mallory", &format!("PUT /v2/{name}/manifests/v1"))
                .manifest("application/vnd.oci.image.index.v1+json", document)
        };
        let (private, nothing) = (manifest_digest(PRIVATE), digest(b"nowhere"));
        let (answer, absent) = (
            fixture.ask(&push(&index(&private))),
            fixture.ask(&push(&index(&nothing))),
        );
        assert_eq!(answer.status, 404);
        assert_eq!(
            said(&answer, &[&private.to_string()]),
            said(&absent, &[&nothing.to_string()])
        );
        assert_eq!(
            fixture.keys(&format!("repositories/{name}/")),
            BTreeSet::new()
        );
        assert_eq!(
            fixture.keys(&format!("refs/sha256/{}/{name}/", blob.encoded())),
            BTreeSet::new()
        );
    }
    let fixture = Fixture::new();
    fixture.push_blob("mallory/app", CONFIG);
    let private = manifest_digest(PRIVATE);
    let about = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": "application/x",
        "config": descriptor("application/vnd.oci.empty.v1+json", CONFIG), "layers": [],
        "subject": { "mediaType": OCI_MANIFEST, "digest": private.to_string(), "size": 400 },
    });
    let push = by("mallory", "PUT /v2/mallory/app/manifests/about").manifest(OCI_MANIFEST, &about);
    assert_eq!(fixture.status(&push), 201, "a subject need not be there");
    let list = format!("GET /v2/private/app/referrers/{private}");
    assert_eq!(
        json_of(&fixture.ask(&by("alice", &list)))["manifests"],
        json!([]),
        "and hears nothing of it"
    );
    assert_eq!(
        fixture.status(&by(
            "mallory",
            &format!("GET /v2/mallory/app/manifests/{private}")
        )),
        404
    );
}

/// A caller without pull permission gets the same reply for objects that exist and that do not, and
/// nothing is read to make it.
#[test]
fn guessing_names_reveals_nothing() {
    let fixture = Fixture::new();
    let (blob, manifest) = (
        digest(&layer(PRIVATE)).to_string(),
        manifest_digest(PRIVATE).to_string(),
    );
    let (nothing, nobody) = (
        digest(b"nowhere").to_string(),
        "00112233445566778899aabbccddeeff",
    );
    let location = fixture
        .ask(&by("root", "POST /v2/private/app/blobs/uploads/"))
        .location();
    let id = location
        .split(['/', '?'])
        .find(|part| part.len() == 32)
        .unwrap()
        .to_owned();
    let narrow = fixture.token(
        "mallory",
        &["repository:mallory/app:*", "repository:private/app:*"],
    );
    let signs: [(&str, Sign<'_>); 4] = [
        ("nobody", &|line| by("", line)),
        ("carol", &|line| by("carol", line)),
        ("mallory", &|line| by("mallory", line)),
        ("a token", &|line| with(&narrow, line)),
    ];
    let pairs = [
        ("private/app", "private/nop"),
        ("v1", "v0"),
        (&*blob, &*nothing),
        (&*manifest, &*nothing),
        (&*id, nobody),
    ];
    for (who, sign) in signs {
        for line in [
            "GET /v2/private/app/tags/list".to_owned(),
            "GET /v2/private/app/manifests/v1".to_owned(),
            "HEAD /v2/private/app/manifests/v1".to_owned(),
            "PUT /v2/private/app/manifests/v1".to_owned(),
            "DELETE /v2/private/app/manifests/v1".to_owned(),
            format!("GET /v2/private/app/manifests/{manifest}"),
            format!("DELETE /v2/private/app/manifests/{manifest}"),
            format!("GET /v2/private/app/blobs/{blob}"),
            format!("HEAD /v2/private/app/blobs/{blob}"),
            format!("DELETE /v2/private/app/blobs/{blob}"),
            format!("GET /v2/private/app/referrers/{manifest}"),
            format!("GET /v2/private/app/_strata/layers/{blob}"),
            format!("GET /v2/private/app/_strata/layers/{blob}/files/file.txt"),
            format!("GET /v2/private/app/_strata/images/{manifest}/files/file.txt"),
            "GET /v2/private/app/_strata/images/v1/files/".to_owned(),
            "POST /v2/private/app/blobs/uploads/".to_owned(),
            format!("POST /v2/private/app/blobs/uploads/?digest={blob}"),
            format!("POST /v2/private/app/blobs/uploads/?mount={blob}&from=public/app"),
            format!("GET /v2/private/app/blobs/uploads/{id}"),
            format!("PATCH /v2/private/app/blobs/uploads/{id}"),
            format!("PUT /v2/private/app/blobs/uploads/{id}?digest={blob}"),
            format!("DELETE /v2/private/app/blobs/uploads/{id}"),
            "LOOK /v2/private/app/manifests/v1".to_owned(),
        ] {
            let of = |line: &str, named: &[&str]| {
                let answer = fixture.ask(&sign(line));
                fixture.is_untouched(&format!("{who} {line}"));
                said(&answer, named)
            };
            let existing = of(&line, &["private/app", "v1", &blob, &manifest, &id]);
            assert!(
                [401, 403, 405].contains(&existing.0),
                "{who} {line}: {}",
                existing.0
            );
            for (there, not_there) in pairs {
                if line.contains(there) {
                    let other = of(
                        &line.replace(there, not_there),
                        &[
                            "private/app",
                            "private/nop",
                            "v1",
                            "v0",
                            &blob,
                            &manifest,
                            &nothing,
                            &id,
                            nobody,
                        ],
                    );
                    assert_eq!(existing, other, "{who} {line} without {there}");
                }
            }
        }
    }
}

/// A client that names a digest and never sends its bytes gets no right, even if another client
/// sends them later.
#[test]
fn a_digest_announced_without_bytes_gives_no_right() {
    let bytes = layer("what will be private");
    let of = digest(&bytes);
    let line = format!("POST /v2/mallory/app/blobs/uploads/?digest={of}");
    let read = by("mallory", &format!("GET /v2/mallory/app/blobs/{of}"));
    let mount = format!("POST /v2/mallory/other/blobs/uploads/?mount={of}&from=mallory/app");
    let granted = |fixture: &Fixture| {
        let keys = fixture.keys(&format!("refs/sha256/{}/mallory/", of.encoded()));
        !keys.is_empty()
    };
    for is_gone in [true, false] {
        let fixture = Fixture::new();
        let request = by("mallory", &line).body("x".repeat(bytes.len()));
        let mut asked = Box::pin(ask_now(&fixture.registry, &request));
        let mut context = Context::from_waker(Waker::noop());
        while !granted(&fixture) {
            assert!(asked.as_mut().poll(&mut context).is_pending());
        }
        let asked = (!is_gone).then_some(asked);
        fixture.push_blob("private/app", &bytes);
        let readings = || {
            assert_eq!(fixture.status(&read), 404, "gone: {is_gone}");
            assert_eq!(
                fixture.status(&by("mallory", &mount)),
                202,
                "gone: {is_gone}"
            );
        };
        assert!(granted(&fixture), "what was claimed");
        readings();
        if let Some(asked) = asked {
            assert_eq!(block_on(asked).status, 400);
            readings();
        }
        // A client that sends the bytes gets the right.
        assert_eq!(fixture.status(&by("mallory", &line).body(&bytes)), 201);
        assert_eq!(fixture.ask(&read).body, bytes);
    }
}

/// An upload belongs to a repository: through another one it does not exist.
#[test]
fn an_upload_does_not_exist_through_another_repository() {
    let fixture = Fixture::new();
    let location = fixture
        .ask(&by("root", "POST /v2/private/app/blobs/uploads/"))
        .location();
    let location = location.replace("private/app", "mallory/app");
    for method in ["GET", "PATCH", "PUT", "DELETE"] {
        let mut line = format!("{method} {location}");
        if method == "PUT" {
            line = format!(
                "{line}{}digest={}",
                if line.contains('?') { '&' } else { '?' },
                digest(b"x")
            );
        }
        let request = by("mallory", &line);
        let request = if method == "PATCH" {
            request.body("x")
        } else {
            request
        };
        assert_eq!(fixture.status(&request), 404, "{line}");
    }
    let of = |name: &str| {
        let mut keys = fixture.keys("uploads/");
        keys.retain(|key| key.contains(name));
        keys
    };
    assert!(!of("/private/app/_").is_empty());
    assert_eq!(of("/mallory/app/_"), BTreeSet::new());
}

/// The sizes of stored content are told to callers that may pull it. Others get the same status,
/// and no other number than their own.
#[test]
fn a_wrong_size_tells_the_stored_one_only_to_callers_that_may_pull() {
    let fixture = Fixture::new();
    fixture.push_image("drop/app", "v1", PRIVATE);
    let blob = layer(PRIVATE);
    let child = image(PRIVATE).to_string();
    let wrong = |kind: &str, bytes: &[u8]| {
        let mut described = descriptor(kind, bytes);
        described["size"] = json!(7);
        described
    };
    let mut of_blob = image(PRIVATE);
    of_blob["layers"][0] = wrong("application/vnd.oci.image.layer.v1.tar", &blob);
    let of_child = json!({
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [wrong(OCI_MANIFEST, child.as_bytes())],
    });
    for (media_type, document, digest, size) in [
        (OCI_MANIFEST, &of_blob, digest(&blob), blob.len()),
        (OCI_INDEX, &of_child, digest(child.as_bytes()), child.len()),
    ] {
        let push = |user: &str| {
            let line = by(user, "PUT /v2/drop/app/manifests/v2");
            fixture.ask(&line.manifest(media_type, document))
        };
        let told = push("root");
        assert_eq!(told.status, 400);
        let error = &json_of(&told)["errors"][0];
        assert_eq!(error["code"], "SIZE_INVALID");
        assert_eq!(error["detail"]["size"], size);

        let told = push("mallory");
        assert_eq!(told.status, 400);
        let mut error = json_of(&told)["errors"][0].take();
        assert_eq!(error["code"], "SIZE_INVALID");
        assert_eq!(error["detail"], json!({ "digest": digest.to_string() }));
        let message = error["message"].take();
        let message = message.as_str().unwrap().replace(&digest.to_string(), "");
        let numbers: Vec<_> = message
            .split(|character: char| !character.is_ascii_digit())
            .filter(|number| !number.is_empty())
            .collect();
        assert_eq!(numbers, ["7"], "{message}");
    }
}
