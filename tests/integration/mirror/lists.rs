//! Lists of a mirror: tags and referrers.

use pollster::block_on;
use serde_json::{Value, json};
use strata::{
    host::{Ask as Asked, FetchError},
    manifest::{OCI_INDEX, OCI_MANIFEST},
};
use strata_support::{
    Ask, CONFIG, LAYER, TestHost, ask, ask_now, descriptor, digest, image,
    mirrors::{Mirrors, Said, answer, get, json_of, says, target, text, watched},
    registry_on,
};

const TAGS: &str = "/v2/up.example/team/app/tags/list";

/// An upstream with the tags `a` to `c` of `team/app`, one a page; `a` is an image, and everything
/// else is absent.
fn tagged(question: &Asked) -> Said {
    let (first, next) = match target(question) {
        "/v2/team/app/tags/list" | "/v2/team/app/tags/list?n=1" => ("a", "b"),
        "/v2/team/app/tags/list?n=1&last=a" => ("b", "c"),
        "/v2/team/app/tags/list?n=1&last=b" => ("c", ""),
        "/v2/team/app/manifests/a" => {
            return says(200, &[("content-type", OCI_MANIFEST)], image().to_string());
        }
        _ => return says(404, &[], "{}"),
    };
    let link = format!("<https://elsewhere.example/odd?n=1&last={first}>; rel=\"next\"");
    let headers = if next.is_empty() {
        Vec::new()
    } else {
        vec![("link", link.as_str())]
    };
    let list = json!({ "name": "as/it/is/called/there", "tags": [first] });
    says(200, &headers, list.to_string())
}

/// The catalogue lists the mirrored repositories under the names of their upstreams.
#[test]
fn the_catalog_names_mirrored_repositories() {
    let mirrors = Mirrors::of(tagged);
    let mirror = mirrors.mirror(&json!({}));
    let pulled = get(&mirror, "/v2/up.example/team/app/manifests/a");
    assert_eq!(pulled.status, 200, "{}", text(&pulled));
    let listed = json_of(&get(&mirror, "/v2/_catalog"));
    assert_eq!(
        listed,
        json!({
            "repositories": ["up.example/team/app"],
            "mirrored": { "up.example/team/app": "up.example" },
        })
    );
}

/// A client that follows the links gets all tags, under the name that it requested.
#[test]
fn listed_tags_are_those_of_the_upstream() {
    let mirrors = Mirrors::of(tagged);
    let settings = json!({ "default": true, "repositories": ["team/**"], "aliases": ["alias:1"] });
    let mirror = mirrors.mirror(&settings);
    for (path, name, suffix) in [
        (TAGS, "up.example/team/app", ""),
        ("/v2/team/app/tags/list", "team/app", ""),
        (
            "/v2/team/app/tags/list?ns=up.example",
            "team/app",
            "&ns=up.example",
        ),
        (
            "/v2/team/app/tags/list?ns=alias:1&n=1",
            "team/app",
            "&ns=alias%3A1",
        ),
    ] {
        let mut next = Some(path.to_owned());
        let mut tags = Vec::new();
        while let Some(path) = next {
            let page = get(&mirror, &path);
            assert_eq!(page.status, 200, "{path}: {}", text(&page));
            assert_eq!(page.header("x-strata-tier"), Some("upstream"));
            let body = json_of(&page);
            assert_eq!(body["name"], name, "{path}");
            tags.push(body["tags"][0].clone());
            next = page.header("link").map(|link| {
                let target = link.strip_suffix(">; rel=\"next\"").unwrap();
                target.strip_prefix('<').unwrap().to_owned()
            });
            if let Some(next) = &next {
                let last = tags.last().unwrap().as_str().unwrap();
                let expected = format!("/v2/{name}/tags/list?n=1&last={last}{suffix}");
                assert_eq!(*next, expected, "{path}");
            }
        }
        assert_eq!(tags, ["a", "b", "c"], "{path}");
        let asked = mirrors.asked();
        assert_eq!(asked.len(), 3);
        assert!(asked.iter().all(|line| !line.contains("ns=")), "{asked:?}");
    }
    assert!(mirrors.store.memory.keys().is_empty());
}

#[test]
fn concurrent_lists_of_tags_are_one_request() {
    let mirrors = Mirrors::of(tagged);
    let mirror = mirrors.mirror(&json!({}));
    let request = Ask::new(&format!("GET {TAGS}"));
    let all = (0..16).map(|_| ask_now(&mirror, &request));
    for answer in block_on(futures_util::future::join_all(all)) {
        assert_eq!(json_of(&answer)["tags"], json!(["a"]));
    }
    assert_eq!(mirrors.asked().len(), 1);
}

/// An upstream whose next page is the same page again would never end.
#[test]
fn a_page_of_tags_never_links_to_itself() {
    let link = [("link", "</v2/team/app/tags/list?n=2&last=b>; rel=next")];
    let mirrors = Mirrors::of(move |_| says(200, &link, r#"{"tags": ["a", "b", ".no tag", "c"]}"#));
    let mirror = mirrors.mirror(&json!({}));
    let first = get(&mirror, &format!("{TAGS}?n=2"));
    assert_eq!(json_of(&first)["tags"], json!(["a", "b", "c"]));
    assert!(first.header("link").is_some());
    let again = get(&mirror, &format!("{TAGS}?n=2&last=b"));
    assert_eq!(again.header("link"), None);
}

#[test]
fn stored_tags_are_listed_during_an_outage_of_the_upstream() {
    for (outage, reason, status) in [
        (Err(FetchError::Late), "late", 504),
        (Err(FetchError::Failed("refused".to_owned())), "failed", 502),
        (Ok((500, "")), "failed", 502),
        (Ok((429, "")), "limited", 429),
        (Ok((403, "")), "refused", 403),
        (Ok((404, "")), "gone", 404),
        (Ok((200, "<html>")), "wrong", 502),
    ] {
        let mirrors = Mirrors::of(tagged);
        let mirror = mirrors.mirror(&json!({}));
        get(&mirror, "/v2/up.example/team/app/manifests/a");
        let said = outage.clone();
        mirrors.answers(move |_| match &said {
            Ok((status, body)) => says(*status, &[], body),
            Err(error) => Err(error.clone()),
        });
        let stored = get(&mirror, TAGS);
        if reason == "gone" {
            assert_eq!(stored.status, 404);
            let serving = mirrors.mirror(&json!({ "gone": "serve" }));
            assert_eq!(get(&serving, TAGS).header("x-strata-stale"), Some("gone"));
        } else {
            assert_eq!(stored.status, 200, "{reason}: {}", text(&stored));
            assert_eq!(json_of(&stored)["tags"], json!(["a"]));
            assert_eq!(stored.header("x-strata-stale"), Some(reason));
            assert!(stored.header("warning").is_some());
            assert_eq!(stored.header("x-strata-tier"), Some("cold"));
        }
        let none = get(&mirror, "/v2/up.example/team/other/tags/list");
        assert_eq!(none.status, status, "{reason}: {}", text(&none));
        assert!(none.header("x-strata-stale").is_none());
    }
    // And at most this many bytes.
    let mirrors = Mirrors::of(|_| says(200, &[], "x".repeat(4 * 1024 * 1024 + 1)));
    let answer = get(&mirrors.mirror(&json!({})), TAGS);
    assert_eq!(answer.status, 502);
    assert!(
        text(&answer).contains("larger than 4194304"),
        "{}",
        text(&answer)
    );
}

fn subject() -> String {
    digest(image().to_string().as_bytes()).to_string()
}

fn referrers(query: &str) -> String {
    format!("/v2/up.example/team/app/referrers/{}{query}", subject())
}

/// A manifest of this type whose subject is the image.
fn about_image(artifact_type: &str) -> Value {
    let mut manifest = image();
    manifest["artifactType"] = json!(artifact_type);
    manifest["subject"] = descriptor(OCI_MANIFEST, image().to_string().as_bytes());
    manifest
}

fn types(answer: &strata_support::Answer) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{}", text(answer));
    assert_eq!(answer.header("content-type"), Some(OCI_INDEX));
    let body = json_of(answer);
    assert_eq!(
        (&body["schemaVersion"], &body["mediaType"]),
        (&json!(2), &json!(OCI_INDEX))
    );
    let manifests = body["manifests"].as_array().unwrap();
    manifests
        .iter()
        .map(|entry| entry["artifactType"].clone())
        .collect()
}

/// Strata in front of Strata, which has the end-point and pages.
#[test]
fn listed_referrers_are_those_of_the_upstream() {
    let rules = r#"[{"repositories": ["**"], "who": ["everyone"], "may": ["pull", "push"]}]"#;
    let upstream = registry_on(
        watched(),
        TestHost::default(),
        &[("STRATA_RULES", rules), ("STRATA_USERS", " ")],
    );
    for blob in [LAYER, CONFIG] {
        let line = format!("POST /v2/team/app/blobs/uploads/?digest={}", digest(blob));
        assert_eq!(ask(&upstream, &Ask::new(&line).body(blob)).status, 201);
    }
    let all = [image(), about_image("a/a"), about_image("b/b+c")];
    for manifest in &all {
        let named = digest(manifest.to_string().as_bytes());
        let line = Ask::new(&format!("PUT /v2/team/app/manifests/{named}"));
        assert_eq!(
            ask(&upstream, &line.manifest(OCI_MANIFEST, manifest)).status,
            201
        );
    }
    let mirrors = Mirrors::of(move |question| answer(&upstream, question));
    let mirror = mirrors.mirror(&json!({}));
    let mut found = types(&get(&mirror, &referrers("")));
    found.sort_by_key(ToString::to_string);
    assert_eq!(found, ["a/a", "b/b+c"]);
    let filtered = get(&mirror, &referrers("?artifactType=b/b%2Bc"));
    assert_eq!(types(&filtered), ["b/b+c"]);
    assert_eq!(filtered.header("oci-filters-applied"), Some("artifactType"));
    let first = get(&mirror, &referrers("?n=1"));
    let link = first.header("link").unwrap();
    let next = link.trim_start_matches('<').split('>').next().unwrap();
    assert!(next.starts_with(&referrers("?n=1&last=")), "{next}");
    let second = types(&get(&mirror, next));
    assert_eq!(second.len(), 1);
    assert_ne!(types(&first), second);
    // Pulled referrers are listed while the upstream is out of reach. Without any, the mirror
    // cannot say that there are none.
    let pulled = digest(all[1].to_string().as_bytes());
    get(
        &mirror,
        &format!("/v2/up.example/team/app/manifests/{pulled}"),
    );
    mirrors.answers(|_| Err(FetchError::Late));
    let stored = get(&mirror, &referrers(""));
    assert_eq!(types(&stored), ["a/a"]);
    assert_eq!(stored.header("x-strata-stale"), Some("late"));
    let other = format!("/v2/up.example/team/app/referrers/{}", digest(b"other"));
    assert_eq!(get(&mirror, &other).status, 504);
}

/// An upstream without the end-point may have a tag that names an index in its place.
#[test]
fn referrers_are_found_by_tag_if_the_upstream_lacks_the_api() {
    for status in [404, 405, 501] {
        are_found_by_the_tag(status);
    }
}

fn are_found_by_the_tag(status: u16) {
    let entries: Vec<Value> = ["a/a", "b/b"]
        .iter()
        .map(|artifact_type| {
            let bytes = about_image(artifact_type).to_string();
            let mut entry = descriptor(OCI_MANIFEST, bytes.as_bytes());
            entry["artifactType"] = json!(artifact_type);
            entry
        })
        .collect();
    let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries });
    let tag = format!("/v2/team/app/manifests/{}", subject().replace(':', "-"));
    let known = tag.clone();
    let mirrors = Mirrors::of(move |question| {
        if target(question) == known {
            return says(200, &[("content-type", OCI_INDEX)], index.to_string());
        }
        says(status, &[], "{}")
    });
    let mirror = mirrors.mirror(&json!({ "fresh_seconds": 1 }));
    assert_eq!(types(&get(&mirror, &referrers(""))), ["a/a", "b/b"]);
    let end_point = format!("GET /v2/team/app/referrers/{}", subject());
    assert_eq!(mirrors.asked(), [end_point, format!("GET {tag}")]);
    let filtered = get(&mirror, &referrers("?artifactType=a/a"));
    assert_eq!(types(&filtered), ["a/a"]);
    assert_eq!(filtered.header("oci-filters-applied"), Some("artifactType"));
    // Another manifest has none.
    let other = format!("/v2/up.example/team/app/referrers/{}", digest(b"other"));
    assert!(types(&get(&mirror, &other)).is_empty());
    // The tag is cached like any other.
    mirrors.host.pass(std::time::Duration::from_secs(1));
    mirrors.answers(|_| Err(FetchError::Late));
    let stored = get(&mirror, &referrers(""));
    assert_eq!(types(&stored), ["a/a", "b/b"]);
    assert_eq!(stored.header("x-strata-stale"), Some("late"));
}

/// The upstream's reply is a list of descriptors, or an error.
#[test]
fn referrers_of_an_upstream_must_be_an_index() {
    let entry = descriptor(OCI_MANIFEST, b"x");
    let other_type = json!({ "schemaVersion": 2, "mediaType": OCI_MANIFEST, "manifests": [entry] });
    for (body, is_index) in [
        (
            json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry] }),
            true,
        ),
        (json!({ "schemaVersion": 2, "manifests": null }), true),
        (json!({ "schemaVersion": 1, "manifests": [] }), false),
        (
            json!({ "schemaVersion": 2, "manifests": [{ "digest": "sha256:x" }] }),
            false,
        ),
        (other_type, false),
        (json!([]), false),
    ] {
        let said = body.to_string();
        let mirrors = Mirrors::of(move |question| {
            if target(question).contains("/referrers/") {
                return says(200, &[], &said);
            }
            says(404, &[], "{}")
        });
        let answer = get(&mirrors.mirror(&json!({})), &referrers(""));
        let expected = if is_index { 200 } else { 502 };
        assert_eq!(answer.status, expected, "{body}: {}", text(&answer));
    }
    // If the upstream does not filter, the mirror does.
    let entries: Vec<Value> = ["a/a", "b/b"]
        .iter()
        .map(|artifact_type| {
            let mut entry = entry.clone();
            entry["artifactType"] = json!(artifact_type);
            entry
        })
        .collect();
    let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries });
    let mirrors = Mirrors::of(move |_| says(200, &[], index.to_string()));
    let filtered = get(&mirrors.mirror(&json!({})), &referrers("?artifactType=b/b"));
    assert_eq!(types(&filtered), ["b/b"]);
}

/// Annotations map strings to strings; other values would break clients that read them so.
#[test]
fn annotations_of_referrers_that_are_not_strings_are_dropped() {
    let mirrors = Mirrors::of(|question: &Asked| {
        if !target(question).contains("/referrers/") {
            return says(404, &[], "{}");
        }
        let referrer = |number: u8, annotations: Value| {
            json!({
                "mediaType": OCI_MANIFEST, "digest": digest(&[number]), "size": 7,
                "annotations": annotations,
            })
        };
        let list = json!({
            "schemaVersion": 2, "mediaType": OCI_INDEX,
            "manifests": [
                referrer(1, json!({ "a": "b", "\u{e4}\"": "c\n" })),
                referrer(2, json!({ "a": "b", "c": 1, "d": { "e": "f" }, "g": null, "h": ["i"] })),
                referrer(3, json!({ "c": 1 })),
                referrer(4, json!(["a"])),
                referrer(5, json!("a")),
            ],
        });
        says(200, &[("content-type", OCI_INDEX)], list.to_string())
    });
    let answer = json_of(&get(&mirrors.mirror(&json!({})), &referrers("")));
    let found = answer["manifests"].as_array().unwrap().iter();
    let found: Vec<_> = found.map(|one| &one["annotations"]).collect();
    let expected = [
        json!({ "a": "b", "\u{e4}\"": "c\n" }),
        json!({ "a": "b" }),
        json!({}),
        Value::Null,
        Value::Null,
    ];
    assert_eq!(found, expected.iter().collect::<Vec<_>>());
}
