//! Browsers: restrictions in replies, and requests of other sites' pages that are refused.

use std::{cell::RefCell, collections::BTreeSet, rc::Rc};

use serde_json::{Value, json};
use strata::{
    end_point::EndPoint,
    host::FetchError,
    manifest::OCI_MANIFEST,
    memory::{MemoryBody, MemoryBytes, MemoryObjects},
    registry,
    route::Operation,
};
use strata_support::{
    Answer, Ask, CONFIG, LAYER, TestHost, TestRegistry, ask, digest, image,
    layers::{Tar, gzip},
    mirrors::{Mirrors, says},
    registry_with,
    watched::{Verdict, Watched, WatchedValues},
};

mod another_sites_page;
mod replies;

/// A registry with an image as `a:v1` and an upload under way, and the log of its requests to its
/// stores and to other servers.
struct World {
    registry: TestRegistry<Watched, WatchedValues>,
    host: TestHost,
    log: Rc<RefCell<Vec<String>>>,
    upload: String,
}

const UPSTREAMS: &str = r#"[{"name": "up.example"}]"#;

impl World {
    fn new(settings: &[(&str, &str)]) -> Self {
        let log = Rc::<RefCell<Vec<String>>>::default();
        let watcher = |tier: &'static str| {
            let log = log.clone();
            move |operation: &'static str, key: &str| {
                log.borrow_mut().push(format!("{tier} {operation} {key}"));
                Verdict::Done
            }
        };
        let host = TestHost::default();
        let asked = log.clone();
        host.serve(move |question| {
            asked.borrow_mut().push(format!("asked {}", question.url));
            Err(FetchError::Failed("nobody is there".to_owned()))
        });
        let settings = [&[("STRATA_UPSTREAMS", UPSTREAMS)], settings].concat();
        let cold = Watched::new(MemoryObjects::default(), watcher("cold"));
        let warm = WatchedValues::new(watcher("warm"));
        let registry = registry_with(cold, warm, host.clone(), &settings);
        for blob in [LAYER, CONFIG] {
            let line = format!("POST /v2/a/blobs/uploads/?digest={}", digest(blob));
            assert_eq!(ask(&registry, &Ask::new(&line).body(blob)).status, 201);
        }
        let push = Ask::new("PUT /v2/a/manifests/v1").manifest(OCI_MANIFEST, &image());
        assert_eq!(ask(&registry, &push).status, 201);
        let upload = ask(&registry, &Ask::new("POST /v2/a/blobs/uploads/")).location();
        log.borrow_mut().clear();
        Self {
            registry,
            host,
            log,
            upload,
        }
    }

    fn ask(&self, request: &Ask) -> Answer {
        ask(&self.registry, request)
    }
}

fn text(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

/// Every end-point with each of its methods, and whether a page of another site may cause it.
fn requests(upload: &str) -> Vec<(String, bool)> {
    let (layer, manifest) = (digest(LAYER), digest(image().to_string().as_bytes()));
    let allowed = |path: &str| {
        ["GET", "HEAD"]
            .map(|method| (format!("{method} {path}"), true))
            .to_vec()
    };
    let refused = |methods: &[&str], path: &str| -> Vec<(String, bool)> {
        methods
            .iter()
            .map(|method| (format!("{method} {path}"), false))
            .collect()
    };
    let read = ["GET", "HEAD"];
    [
        allowed("/v2/"),
        allowed("/v2/_catalog"),
        allowed("/v2/_oci/ext/discover"),
        allowed("/metrics"),
        allowed("/healthz"),
        allowed("/readyz"),
        allowed(&format!("/v2/a/blobs/{layer}")),
        allowed("/v2/a/manifests/v1"),
        allowed("/v2/a/tags/list"),
        allowed(&format!("/v2/a/referrers/{manifest}")),
        vec![(format!("GET {upload}"), true)],
        // Paths without an end-point, and methods that no end-point has.
        vec![
            ("GET /nothing".to_owned(), true),
            ("GET /v2/a/blobs/sha256:0".to_owned(), true),
            ("OPTIONS /v2/a/manifests/v1".to_owned(), true),
            ("GET /v2/_strata/sweep".to_owned(), true),
        ],
        refused(&["POST", "PUT", "PROPFIND"], "/nothing"),
        refused(&["POST"], "/v2/"),
        refused(&["PUT", "DELETE"], "/v2/a/manifests/v1"),
        refused(&["DELETE"], &format!("/v2/a/blobs/{layer}")),
        refused(&["PATCH", "PUT", "DELETE"], upload),
        refused(&["POST"], "/v2/a/blobs/uploads/"),
        refused(&["POST"], &format!("/v2/a/blobs/uploads/?digest={layer}")),
        refused(
            &["POST"],
            &format!("/v2/b/blobs/uploads/?mount={layer}&from=a"),
        ),
        refused(&["POST"], "/v2/_strata/sweep"),
        refused(&["POST"], "/v2/_strata/sweep?dry-run"),
        refused(&["POST"], "/v2/_strata/scrub"),
        refused(&["POST"], "/v2/up.example/a/_strata/invalidate"),
        // They index a layer.
        refused(&read, &format!("/v2/a/_strata/layers/{layer}")),
        refused(&read, &format!("/v2/a/_strata/layers/{layer}/files/etc")),
        refused(&read, "/v2/a/_strata/images/v1/files/"),
        // It looks at a manifest for each grant.
        refused(&read, &format!("/v2/_strata/blobs/{layer}")),
        // They issue a token.
        refused(&["GET", "HEAD", "POST"], "/v2/_strata/token?service=strata"),
        // They ask an upstream.
        refused(&read, &format!("/v2/up.example/a/blobs/{layer}")),
        refused(&read, "/v2/up.example/a/manifests/v1"),
        refused(&read, "/v2/a/manifests/v1?ns=up.example"),
        refused(&read, "/v2/up.example/a/tags/list"),
        refused(&read, &format!("/v2/up.example/a/referrers/{manifest}")),
    ]
    .concat()
}

const OWN: &[&[(&str, &str)]] = &[
    &[("sec-fetch-site", "same-origin")],
    &[("sec-fetch-site", "none")],
    &[("origin", "http://registry.example")],
    &[
        ("sec-fetch-site", "same-origin"),
        ("origin", "http://registry.example"),
    ],
];

const FOREIGN: &[&[(&str, &str)]] = &[
    &[("sec-fetch-site", "cross-site")],
    &[("sec-fetch-site", "same-site")],
    &[
        ("sec-fetch-site", "cross-site"),
        ("origin", "http://registry.example"),
    ],
    &[("origin", "null")],
    &[("origin", "https://registry.example")],
    &[("origin", "http://registry.example.evil.example")],
    &[("sec-fetch-site", "same-origin"), ("origin", "null")],
];

fn with(line: &str, headers: &'static [(&'static str, &'static str)]) -> Ask {
    headers.iter().fold(Ask::new(line), |ask, (name, value)| {
        ask.header(name, *value)
    })
}
