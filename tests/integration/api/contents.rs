//! Blobs, manifests and tags: shared between repositories, deleted and listed.

use super::*;

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
    // By PATCH as well: its extent is deleted when the blob turns out to be stored.
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
    // The first whole push of a blob has its link as the proof that its bytes were right; a
    // manifest's grant needs none.
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
fn a_deleted_manifest_takes_its_tags_but_not_the_reverse() {
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

    // A tag that names another manifest stays.
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

    // After another push it is there again, and so is its tag.
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
fn a_repository_without_tags_is_still_known() {
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
fn a_blob_deleted_in_one_repository_stays_in_others() {
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
fn every_page_of_a_list_links_to_the_next() {
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
