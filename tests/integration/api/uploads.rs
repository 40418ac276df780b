//! Uploads: in chunks, in one piece, with a wrong digest, cancelled, or too large for the plan.

use super::*;

#[test]
fn a_chunked_upload_resumes_at_its_offset() {
    let registry = registry(&[]);
    let start = ask(&registry, &Ask::new("POST /v2/a/blobs/uploads/"));
    let first = ask(
        &registry,
        &Ask::new(&format!("PATCH {}", start.location()))
            .header("content-range", "0-3")
            .body(&LAYER[..4]),
    );
    assert_eq!((first.status, first.header("range")), (202, Some("0-3")));

    // Out of order, and by the location of an earlier step.
    for location in [start.location(), first.location()] {
        let wrong = ask(
            &registry,
            &Ask::new(&format!("PATCH {location}"))
                .header("content-range", "5-9")
                .body(&LAYER[5..]),
        );
        assert_eq!((wrong.status, wrong.header("range")), (416, Some("0-3")));
        assert_eq!(Some(&*wrong.location()), first.location().split('.').next());
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
fn an_upload_with_more_steps_than_one_page_is_assembled() {
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
            "extents/0005/0006",
            "refs/sha256/7882/a/_grants/0007",
            "refs/sha256/7882/a/_link",
            "uploads/0005/a/_00000",
            "uploads/0005/a/_00001",
            "uploads/0005/a/_00002",
            "uploads/0005/a/_00003",
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
            "refs/sha256/7882/a/_grants/0006",
            "refs/sha256/7882/a/_link"
        ]
    );
    assert_eq!(
        ask(&registry, &Ask::new(&format!("GET {}", start.location()))).status,
        404
    );
}

#[test]
fn a_wrong_digest_stores_no_blob_and_keeps_the_session() {
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
fn a_push_over_the_plans_limit_is_refused_before_any_write() {
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
        String::from_utf8_lossy(&refused.body)
            .contains("takes 53 store operations; STRATA_SUBREQUESTS allows a request 50")
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
fn an_upload_announced_as_sha512_closes_with_that_digest() {
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
