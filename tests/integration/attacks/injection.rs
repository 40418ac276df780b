//! Attacks by injection: input that would end a header or a line of the log.

use super::*;

/// Characters that would end a header, or a line of a log.
const CONTROLS: [&str; 6] = [
    "\r\nset-cookie: a=b",
    "\nset-cookie: a=b",
    "\r",
    "\0",
    "\u{7f}\u{1b}[31m",
    "\u{85}\u{2028}é",
];

fn holds_nothing_foreign(fixture: &Fixture, answer: &Answer, about: &str) {
    assert!(answer.status < 500, "{about}: {}", answer.status);
    for (name, value) in &answer.headers {
        assert_ne!(name, "set-cookie", "{about}");
        let value = value.as_bytes();
        assert!(
            value.iter().all(|byte| (b' '..=b'~').contains(byte)),
            "{about}: {name} {value:?}"
        );
    }
    for line in fixture
        .host
        .told
        .borrow()
        .iter()
        .chain(fixture.host.log.borrow().iter())
    {
        // The test's host writes fields as Rust does, the edge as JSON: both escape control
        // characters.
        assert!(!line.contains(char::is_control), "{about}: {line:?}");
        assert!(!line.contains("set-cookie"), "{about}: {line}");
    }
}

#[test]
fn echoed_input_injects_no_header() {
    let fixture = Fixture::new();
    let (blob, manifest) = (digest(&layer(PUBLIC)), manifest_digest(PUBLIC));
    for control in CONTROLS {
        let text = escaped(control);
        let percent: String = control.bytes().map(|byte| format!("%{byte:02x}")).collect();
        for line in [
            format!("GET /v2/public/app/manifests/v1{percent}"),
            format!("PUT /v2/public/app/manifests/v1{percent}"),
            format!("PUT /v2/public/app/manifests/{manifest}?tag=v2{text}"),
            format!("GET /v2/public/app{percent}/manifests/v1"),
            format!("GET /v2/public/app/blobs/{blob}{percent}"),
            format!("GET /v2/public/app/referrers/{manifest}?artifactType=a{text}&n=1"),
            format!("GET /v2/public/app/tags/list?last=v{text}"),
            format!("GET /v2/public/app/tags/list?n=1{text}"),
            format!("GET /v2/_catalog?last=a{text}&n=1"),
            format!("GET /v2/_catalog?n=1&x={text}"),
            format!("POST /v2/mallory/app/blobs/uploads/?mount={blob}{text}&from=public/app"),
            format!("POST /v2/mallory/app/blobs/uploads/?mount={blob}&from=public/app{text}"),
            format!("POST /v2/mallory/app/blobs/uploads/?digest={blob}{text}"),
            format!("POST /v2/mallory/app/blobs/uploads/?digest-algorithm=sha256{text}"),
            format!("GET /v2/_strata/token?scope=repository:public/app:pull{text}&service={text}"),
            format!("GET /v2/public/app/_strata/layers/{blob}?prefix={text}&last={text}"),
            format!("GET /v2/public/app/_strata/layers/{blob}/files/{percent}?last={text}"),
            format!("GET /v2/public/app/_strata/images/v1/files/?platform={text}"),
            format!("GET /{percent}"),
        ] {
            for user in ["", "mallory", "root"] {
                let answer = fixture.ask(&by(user, &line));
                holds_nothing_foreign(&fixture, &answer, &line);
                fixture.forget();
            }
        }
        for name in [format!("mallory{control}"), format!("{control}mallory")] {
            let request = Ask::new("GET /v2/public/app/tags/list")
                .anonymous()
                .header("authorization", basic(&name, "x"));
            let answer = fixture.ask(&request);
            assert_eq!(answer.status, 401);
            holds_nothing_foreign(&fixture, &answer, "a name");
            fixture.host.pass(Duration::from_secs(60));
        }
        let form = format!("grant_type=password&username={text}&password={text}&scope={text}");
        let post = by("", "POST /v2/_strata/token")
            .header("content-type", "application/x-www-form-urlencoded");
        holds_nothing_foreign(&fixture, &fixture.ask(&post.body(&form)), "a form");
    }
}

/// Values of a manifest reach other clients in headers only if they are valid there.
#[test]
fn stored_manifest_values_inject_no_header() {
    for control in CONTROLS {
        let fixture = Fixture::new();
        fixture.push_blob("mallory/app", CONFIG);
        let mut about = json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": format!("application/x{control}"),
            "config": descriptor("application/vnd.oci.empty.v1+json", CONFIG), "layers": [],
            "subject": { "mediaType": OCI_MANIFEST, "digest": manifest_digest(PUBLIC).to_string(), "size": 400 },
            "annotations": { format!("a{control}"): control },
        });
        let push = |tag: &str, document: &Value| {
            by("mallory", &format!("PUT /v2/mallory/app/manifests/{tag}"))
                .stream(document.to_string())
        };
        let answer = fixture.ask(&push("odd", &about));
        holds_nothing_foreign(&fixture, &answer, "an artifact type");
        about["mediaType"] = format!("{OCI_MANIFEST}{control}").into();
        about["config"]["mediaType"] = format!("application/x{control}").into();
        let answer = fixture.ask(&push("odder", &about));
        holds_nothing_foreign(&fixture, &answer, "a media type");
        for line in [
            "GET /v2/mallory/app/manifests/odd".to_owned(),
            "GET /v2/mallory/app/manifests/odder".to_owned(),
            format!(
                "GET /v2/mallory/app/referrers/{}?n=1",
                manifest_digest(PUBLIC)
            ),
            format!(
                "GET /v2/mallory/app/referrers/{}?n=1&artifactType={}",
                manifest_digest(PUBLIC),
                escaped(&format!("application/x{control}"))
            ),
        ] {
            let answer = fixture.ask(&by("mallory", &line));
            holds_nothing_foreign(&fixture, &answer, &line);
        }
    }
}

/// The origin comes from the header `Host`, and stands in quotes in the challenge.
#[test]
fn the_host_header_injects_nothing_into_the_challenge() {
    let fixture = Fixture::new();
    for host in [
        "https://a\r\nset-cookie: a=b",
        "https://a\nb",
        "https://a\0",
        "https://a\", scope=\"x",
        "https://a\\",
        "https://é",
    ] {
        let request = Request {
            method: Method::GET,
            target: "/v2/".to_owned(),
            origin: host.to_owned(),
            address: "192.0.2.1".to_owned(),
            headers: HeaderMap::new(),
            body: None,
        };
        let (response, _) = block_on(fixture.registry.answer(request));
        assert_eq!(response.status(), 401, "{host:?}");
        if let Some(challenge) = response.headers().get("www-authenticate") {
            let challenge = challenge.as_bytes();
            assert!(
                challenge.iter().all(|byte| (b' '..=b'~').contains(byte)),
                "{host:?} {challenge:?}"
            );
            assert_eq!(
                challenge.iter().filter(|byte| **byte == b'"').count(),
                4,
                "{host:?}"
            );
            assert!(!challenge.contains(&b'\\'), "{host:?}");
        }
    }
}
