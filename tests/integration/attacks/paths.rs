//! Attacks by paths: targets that name a public repository to reach a private one.

use super::*;

/// The pieces of paths through the public repository.
const PIECES: [&str; 34] = [
    "/",
    "//",
    ".",
    "..",
    "/../",
    "%2e",
    "%2e%2e",
    "%2E%2E/",
    "%2f",
    "%2F..%2F",
    "%252f",
    "%252e%252e%252f",
    "\\",
    "..\\",
    "%5c",
    ";",
    ";a=b",
    "%00",
    "%0a",
    "%ff",
    "%c0%af",
    "?",
    "#",
    "private",
    "PRIVATE",
    "ⓟrivate",
    "private/app",
    "private%2fapp",
    "public",
    "public/app",
    "app",
    "manifests/v1",
    "%20",
    "_strata/",
];

/// Whether an operation reads an object that only a private repository has.
fn is_of_private(operation: &str) -> bool {
    let key = operation.rsplit(' ').next().unwrap();
    let (blob, manifest) = (digest(&layer(PRIVATE)), manifest_digest(PRIVATE));
    let parts: Vec<&str> = key.split('/').collect();
    match parts[..] {
        ["repositories" | "uploads" | "catalog", name, ..] | ["refs", _, _, name, ..] => {
            name == "private"
        }
        [.., encoded, "index"] | [.., encoded] => {
            encoded == blob.encoded() || encoded == manifest.encoded()
        }
        [] => false,
    }
}

/// Any path leads only to the repository for which the rules were checked.
fn never_leads_to_what_is_private(fixture: &Fixture, user: &str, method: &str, target: &str) {
    let request = by(user, &format!("{method} /"));
    let answer = fixture.ask(&Ask {
        target: target.to_owned(),
        ..request
    });
    assert!(answer.status < 500, "{method} {target}: {}", answer.status);
    let body = String::from_utf8_lossy(&answer.body);
    assert!(!body.contains(PRIVATE), "{method} {target}");
    let blob = digest(&layer(PRIVATE)).to_string();
    assert!(
        target.contains(&blob) || !body.contains(&blob),
        "{method} {target}"
    );
    let operations = fixture.operations.borrow();
    let looked = operations.iter().find(|operation| is_of_private(operation));
    assert_eq!(looked, None, "{method} {target}");
}

#[test]
fn paths_through_a_public_repository_reach_no_private_one() {
    let fixture = Fixture::new();
    let (blob, manifest) = (digest(&layer(PRIVATE)), manifest_digest(PRIVATE));
    let ends = [
        "manifests/v1".to_owned(),
        format!("manifests/{manifest}"),
        format!("blobs/{blob}"),
        "tags/list".to_owned(),
        format!("_strata/layers/{blob}/files/file.txt"),
    ];
    for end in &ends {
        for way in [
            "public/../private/app",
            "public/app/../../private/app",
            "public/%2e%2e/private/app",
            "public%2f..%2fprivate%2fapp",
            "public/..%2fprivate/app",
            "public/..%252fprivate/app",
            "public%252f..%252fprivate/app",
            "public//private/app",
            "public/app//../../private/app",
            "./private/app",
            "public/./../private/app",
            "PRIVATE/app",
            "Private/App",
            "private/app/",
            "private/app;public/app",
            "public/app;/../private/app",
            "public\\..\\private\\app",
            "public/app\\..\\..\\private/app",
            "public%5c..%5cprivate%5capp",
            "private%00/app",
            "public/app%00/../../private/app",
            "public/app%0d%0a/private/app",
            "%70rivate/app",
            "private%2fapp",
            "%2e/private/app",
            "private/app%20",
            "private/app%ff",
            "%c0%ae%c0%ae/private/app",
            "ｐrivate/app",
            "pr\u{131}vate/app",
            "private\u{2215}app",
            "private/app\u{200b}",
            "private/app?public/app",
            "private/app#public/app",
            "_strata/private/app",
            "public/app/_strata/../../../private/app",
            "public/app/_strata/layers/../../private/app",
            "/private/app",
            "//private/app",
        ] {
            for user in ["", "carol", "mallory"] {
                for method in ["GET", "HEAD"] {
                    never_leads_to_what_is_private(
                        &fixture,
                        user,
                        method,
                        &format!("/v2/{way}/{end}"),
                    );
                }
            }
            never_leads_to_what_is_private(
                &fixture,
                "mallory",
                "DELETE",
                &format!("/v2/{way}/{end}"),
            );
        }
    }
    let long = format!("/v2/public/{}private/app/manifests/v1", "../".repeat(2_000));
    never_leads_to_what_is_private(&fixture, "", "GET", &long);
    assert_eq!(
        fixture.status(&by("alice", "GET /v2/private%2Fapp/manifests/v1")),
        200,
        "an escaped slash is a slash, and the rules see it as one"
    );
    assert_eq!(
        fixture.status(&by("alice", "GET /v2/private/app/manifests/v1")),
        200,
        "and all is still there"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn paths_of_any_pieces_reach_only_public_content(
        paths in prop::collection::vec((prop::collection::vec(prop::sample::select(&PIECES[..]), 0..8), 0_usize..7), 8),
    ) {
        let fixture = Fixture::new();
        let ends = [String::new(), "/manifests/v1".to_owned(), "/tags/list".to_owned(), format!("/blobs/{}", digest(&layer(PRIVATE))), format!("/blobs/{}", digest(&layer(PUBLIC))), format!("/manifests/{}", manifest_digest(PRIVATE)), "/_strata/images/v1/files/file.txt".to_owned()];
        for (pieces, end) in paths {
            let target = format!("/v2/{}{}", pieces.concat(), ends[end]);
            never_leads_to_what_is_private(&fixture, "", "GET", &target);
            let answer = fixture.ask(&Ask { target: target.clone(), ..by("", "GET /") });
            if answer.status == 200 {
                let body = String::from_utf8_lossy(&answer.body);
                let public = [image(PUBLIC).to_string(), PUBLIC.to_owned(), String::from_utf8(layer(PUBLIC)).unwrap()];
                let is_public = public.iter().any(|text| *text == body) || body.contains("\"public/app\"") || body == "{}";
                prop_assert!(is_public, "{} {}", target, body);
            }
        }
    }
}
