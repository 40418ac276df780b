//! State that clients can make an isolate keep: all of it is bounded for any requests.

use std::{cell::Cell, collections::BTreeSet, rc::Rc};

use http::HeaderMap;
use pollster::block_on;
use serde_json::json;
use strata::{manifest::OCI_MANIFEST, registry::Request};
use strata_support::{
    Ask, TestRegistry, ask, image,
    mirrors::{Mirrors, says, target},
    watched::Watched,
};

/// How many tags a mirror remembers, both of those that exist and of those that do not.
const TAGS: usize = 4_096;

/// Requests a manifest, and runs none of the background work after the reply.
fn glance(mirror: &TestRegistry<Watched>, number: usize) -> u16 {
    let mut headers = HeaderMap::new();
    headers.insert("authorization", "Basic ZGV2OnNlY3JldA==".parse().unwrap());
    let request = Request {
        method: "HEAD".parse().unwrap(),
        target: format!("/v2/up.example/app/manifests/made-up-{number}"),
        origin: "https://registry.example".to_owned(),
        address: "192.0.2.1".to_owned(),
        headers,
        body: None,
    };
    let (response, _) = block_on(mirror.answer(request));
    response.status().as_u16()
}

/// How many of 5,000 tags are still cached after all of them were requested.
fn remembered(status: u16) -> usize {
    let asked = Rc::new(Cell::new(0_usize));
    let count = asked.clone();
    let mirrors = Mirrors::of(move |_| {
        count.set(count.get() + 1);
        let body = image().to_string();
        says(status, &[("content-type", OCI_MANIFEST)], body)
    });
    let mirror = mirrors.mirror(&json!({}));
    let tags = 5_000;
    for number in 0..tags {
        assert_eq!(glance(&mirror, number), status);
    }
    assert_eq!(asked.replace(0), tags);
    for number in (0..tags).rev() {
        glance(&mirror, number);
    }
    tags - asked.get()
}

#[test]
fn cached_tags_of_an_upstream_are_bounded() {
    let found = remembered(200);
    assert!((1..=TAGS).contains(&found), "{found}");
}

#[test]
fn cached_missing_tags_of_an_upstream_are_bounded() {
    let found = remembered(404);
    assert!((1..=TAGS).contains(&found), "{found}");
}

fn series(mirror: &TestRegistry<Watched>) -> BTreeSet<String> {
    let answer = ask(mirror, &Ask::new("GET /metrics"));
    assert_eq!(answer.status, 200);
    let text = String::from_utf8(answer.body).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let series = lines.map(|line| line.rsplit_once(' ').unwrap().0.to_owned());
    series.collect()
}

/// No text of a stranger becomes a label: no name, method, tag, digest or address.
#[test]
fn metric_series_do_not_grow_with_the_input_of_strangers() {
    let mirrors = Mirrors::of(|question| {
        let status = if target(question).contains("/manifests/") {
            404
        } else {
            500
        };
        says(status, &[], "")
    });
    let mirror = mirrors.mirror(&json!({}));
    let strange = |numbers: std::ops::Range<u32>| {
        for number in numbers {
            let digest = format!("sha256:{number:064x}");
            for line in [
                format!("GET /v2/made-up-{number}/manifests/{number}"),
                format!("GET /v2/up.example/made-up-{number}/manifests/{number}"),
                format!("GET /v2/up.example/made-up-{number}/tags/list"),
                format!("GET /v2/app/manifests/v1?ns=made-up-{number}.example"),
                format!("HEAD /v2/app/blobs/{digest}"),
                format!("GET /v2/app/_strata/layers/{digest}/made-up-{number}"),
                format!("MADEUP{number} /v2/app/manifests/{number}"),
                format!("GET /made-up/{number}"),
                format!("POST /v2/app/blobs/uploads/?mount={digest}&from=made-up-{number}"),
            ] {
                let mut request = Ask::new(&line);
                request.address = format!("192.0.2.{}", number % 256);
                ask(&mirror, &request);
            }
        }
    };
    strange(0..10);
    // The request for the metrics is counted from its first answer on.
    series(&mirror);
    let before = series(&mirror);
    strange(10..200);
    let after = series(&mirror);
    let more: Vec<_> = after.difference(&before).collect();
    assert!(more.is_empty(), "{more:#?}");
}

/// A status is a label, and an upstream may send any number; meaningless ones share one label.
#[test]
fn metric_series_are_bounded_for_any_status_of_an_upstream() {
    let mirrors = Mirrors::of(|question| {
        let number = target(question).rsplit('-').next().unwrap();
        says(number.parse().unwrap(), &[], "")
    });
    let mirror = mirrors.mirror(&json!({}));
    let before = series(&mirror).len();
    for status in 200..1_000 {
        // An upstream that answers 429 is not asked again for a while.
        if status != 429 {
            glance(&mirror, status);
        }
    }
    let grown = series(&mirror).len() - before;
    assert!(grown <= 500, "{grown} series more");
}
