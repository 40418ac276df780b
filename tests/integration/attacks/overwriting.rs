//! Attacks on tags: moving them without the right to overwrite.

use super::*;

fn push(reference: &str, text: &str) -> Ask {
    by(
        "mallory",
        &format!("PUT /v2/mallory/app/manifests/{reference}"),
    )
    .manifest(OCI_MANIFEST, &image(text))
}

/// A registry to which mallory has pushed the blobs of two images, and one of them as `v1`.
fn fixture() -> Fixture {
    let fixture = Fixture::new();
    for text in ["one", "two", "six"] {
        fixture.push_blob("mallory/app", &layer(text));
    }
    fixture.push_blob("mallory/app", CONFIG);
    assert_eq!(fixture.status(&push("v1", "one")), 201, "a new tag");
    fixture
}

fn digest_of(fixture: &Fixture, tag: &str) -> Option<String> {
    let answer = fixture.ask(&by(
        "mallory",
        &format!("HEAD /v2/mallory/app/manifests/{tag}"),
    ));
    answer.header("docker-content-digest").map(str::to_owned)
}

#[test]
fn overwriting_a_tag_needs_the_overwrite_permission() {
    let fixture = fixture();
    assert_eq!(fixture.status(&push("v1", "one")), 201, "the same again");
    let (one, two) = (
        manifest_digest("one").to_string(),
        manifest_digest("two").to_string(),
    );
    let token = fixture.token("mallory", &["repository:mallory/app:*"]);
    let before = fixture.keys("");
    for reference in [
        "v1".to_owned(),
        format!("{two}?tag=v1"),
        format!("{two}?tag=v2&tag=v1"),
        "v2?tag=v1".to_owned(),
    ] {
        let basic = push(&reference, "two");
        let bearer = with(
            &token,
            &format!("PUT /v2/mallory/app/manifests/{reference}"),
        )
        .manifest(OCI_MANIFEST, &image("two"));
        for request in [basic, bearer] {
            let answer = fixture.ask(&request);
            assert_eq!(answer.status, 403, "{reference}");
            assert_eq!(
                json_of(&answer)["errors"][0]["detail"],
                json!({ "name": "mallory/app", "action": "overwrite" })
            );
            let writes: Vec<_> = fixture
                .operations
                .borrow()
                .iter()
                .filter(|operation| operation.contains("put "))
                .cloned()
                .collect();
            assert_eq!(writes, Vec::<String>::new(), "{reference}");
            assert_eq!(fixture.keys(""), before, "{reference}");
        }
    }
    assert_eq!(digest_of(&fixture, "v1"), Some(one.clone()));
    // A push by digest alone moves no tag, and a new tag may be added.
    assert_eq!(fixture.status(&push(&two, "two")), 201);
    assert_eq!(fixture.status(&push(&format!("{two}?tag=v2"), "two")), 201);
    assert_eq!(digest_of(&fixture, "v2"), Some(two));
    assert_eq!(digest_of(&fixture, "v1"), Some(one));
    // A caller with the right moves the tag.
    let root = by("root", "PUT /v2/mallory/app/manifests/v1").manifest(OCI_MANIFEST, &image("two"));
    assert_eq!(fixture.status(&root), 201);
}

#[test]
fn pushing_a_deleted_tag_is_not_overwriting() {
    let fixture = fixture();
    assert_eq!(
        fixture.status(&by("mallory", "DELETE /v2/mallory/app/manifests/v1")),
        202
    );
    assert_eq!(digest_of(&fixture, "v1"), None);
    assert_eq!(fixture.status(&push("v1", "two")), 201);
    assert_eq!(
        digest_of(&fixture, "v1"),
        Some(manifest_digest("two").to_string())
    );
    assert_eq!(fixture.status(&push("v1", "one")), 403);
    let manifest = format!(
        "DELETE /v2/mallory/app/manifests/{}",
        manifest_digest("two")
    );
    assert_eq!(fixture.status(&by("mallory", &manifest)), 202);
    assert_eq!(fixture.status(&push("v1", "one")), 201, "its manifest was");
}

/// Both callers saw that there is no such tag: the store lets one of them write it.
#[test]
fn the_second_of_two_concurrent_tag_pushes_is_refused() {
    for (tag, is_deleted) in [("new", false), ("v1", true)] {
        let fixture = fixture();
        if is_deleted {
            assert_eq!(
                fixture.status(&by("mallory", "DELETE /v2/mallory/app/manifests/v1")),
                202
            );
        }
        let (two, six) = (push(tag, "two"), push(tag, "six"));
        let (one, other) = block_on(join(
            ask_now(&fixture.registry, &two),
            ask_now(&fixture.registry, &six),
        ));
        let mut statuses = [one.status, other.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 403], "{tag}");
        let heads = fixture
            .operations
            .borrow()
            .iter()
            .filter(|operation| **operation == format!("head repositories/mallory/app/_tags/{tag}"))
            .count();
        assert!(heads >= 5, "both looked before either wrote: {heads}");
        let winner = if one.status == 201 { "two" } else { "six" };
        assert_eq!(
            digest_of(&fixture, tag),
            Some(manifest_digest(winner).to_string())
        );
    }
}
