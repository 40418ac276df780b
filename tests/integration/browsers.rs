//! Browsers: what they may make of a reply, and which requests of other sites' pages are refused.

use std::{cell::RefCell, collections::BTreeSet, rc::Rc};

use serde_json::{Value, json};
use strata::{
    end_point::EndPoint,
    host::FetchError,
    manifest::OCI_MANIFEST,
    registry,
    route::Operation,
    store::memory::{Memory, MemoryBody, MemoryBytes},
};
use strata_support::{
    Answer, Ask, CONFIG, LAYER, TestHost, TestRegistry, ask, digest, image,
    layers::{Tar, gzip},
    mirrors::{Mirrors, says},
    registry_with,
    watched::{Verdict, Watched, WatchedValues},
};

/// A registry with an image as `a:v1` and an upload under way, and all that it asked of its stores and of other servers.
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
        let cold = Watched::new(Memory::default(), watcher("cold"));
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

/// Every end-point with every method that it has, and whether a page of another site may cause that.
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
        allowed(&format!("/v2/a/blobs/{layer}")),
        allowed("/v2/a/manifests/v1"),
        allowed("/v2/a/tags/list"),
        allowed(&format!("/v2/a/referrers/{manifest}")),
        vec![(format!("GET {upload}"), true)],
        // What nothing is at, and methods that nothing has.
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

mod another_sites_page {
    use super::*;

    #[test]
    fn is_asked_of_every_end_point_by_every_method() {
        let world = World::new(&[]);
        let mut asked = BTreeSet::new();
        let mut has = BTreeSet::new();
        for (line, _) in requests(&world.upload) {
            let (asked_by, target) = line.split_once(' ').unwrap();
            for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] {
                let operation = Operation::parse(&method.parse().unwrap(), target);
                if let Ok(operation) = operation {
                    let name = EndPoint::of(&operation).name;
                    has.insert((name, method.to_owned()));
                    asked.insert((name, asked_by.to_owned()));
                }
            }
        }
        let missing: Vec<_> = has.difference(&asked).collect();
        assert!(missing.is_empty(), "{missing:?}");
        let names: BTreeSet<_> = has.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), 18, "{names:?}");
    }

    #[test]
    fn causes_nothing_but_reads_of_what_is_stored_here() {
        let lines = requests(&World::new(&[]).upload);
        for (line, is_allowed) in lines {
            let expected = World::new(&[]).ask(&Ask::new(&line));
            assert!(!text(&expected).contains("another site"), "{line}");
            for headers in OWN {
                let answer = World::new(&[]).ask(&with(&line, headers));
                assert_eq!(answer, expected, "{line} {headers:?}");
            }
            for headers in FOREIGN {
                let world = World::new(&[]);
                let answer = world.ask(&with(&line, headers));
                if is_allowed {
                    assert_eq!(answer, expected, "{line} {headers:?}");
                    continue;
                }
                assert_eq!(answer.status, 403, "{line} {headers:?}: {}", text(&answer));
                assert!(line.starts_with("HEAD") || text(&answer).contains(r#""code":"DENIED""#));
                assert!(
                    line.starts_with("HEAD") || text(&answer).contains("a page of another site")
                );
                // Nothing was asked of a store or an upstream, and no password was verified.
                assert_eq!(
                    (world.log.take(), world.host.derived.get()),
                    (Vec::new(), 1),
                    "{line}"
                );
            }
        }
    }

    #[test]
    fn is_refused_whatever_it_signs_in_with() {
        let token = {
            let scope = "repository:a:*";
            let line = format!("GET /v2/_strata/token?service=strata&scope={scope}");
            let answer = World::new(&[]).ask(&Ask::new(&line));
            let body: Value = serde_json::from_slice(&answer.body).unwrap();
            format!("Bearer {}", body["token"].as_str().unwrap())
        };
        for line in ["DELETE /v2/a/manifests/v1", "POST /v2/a/blobs/uploads/"] {
            for authorization in [None, Some("Basic d3Jvbmc6d3Jvbmc="), Some(&*token)] {
                let world = World::new(&[]);
                let mut request = with(line, FOREIGN[0]).anonymous();
                if let Some(authorization) = authorization {
                    request = request.header("authorization", authorization);
                }
                let answer = world.ask(&request);
                assert_eq!(
                    (answer.status, world.log.take()),
                    (403, Vec::new()),
                    "{line}"
                );
            }
            // The same token is good for it otherwise.
            let own = with(line, OWN[0])
                .anonymous()
                .header("authorization", token.as_str());
            assert_eq!(World::new(&[]).ask(&own).status, 202, "{line}");
        }
    }

    #[test]
    fn is_known_by_the_origin_that_is_set() {
        let settings = [("STRATA_ORIGIN", "https://public.example")];
        for (origin, status) in [
            ("https://public.example", 202),
            ("https://public.example:443", 202),
            ("http://registry.example", 403),
            ("http://public.example", 403),
            ("null", 403),
        ] {
            let request = Ask::new("POST /v2/a/blobs/uploads/").header("origin", origin);
            assert_eq!(
                World::new(&settings).ask(&request).status,
                status,
                "{origin}"
            );
        }
    }

    #[test]
    fn is_told_to_the_log() {
        let world = World::new(&[]);
        world.host.told.borrow_mut().clear();
        world.ask(&with("POST /v2/_strata/sweep", FOREIGN[0]));
        let told = world.host.told.borrow();
        assert!(
            told.iter()
                .any(|line| line.contains("audit") && line.contains("refused")),
            "{told:?}"
        );
    }
}

mod replies {
    use super::*;

    #[track_caller]
    fn is_hardened(answer: &Answer, what: &str) {
        for (name, value) in [
            (
                "content-security-policy",
                "default-src 'none'; frame-ancestors 'none'; sandbox",
            ),
            ("cross-origin-resource-policy", "same-origin"),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{what}");
        }
    }

    #[test]
    fn are_hardened_all() {
        let world = World::new(&[]);
        for (line, _) in requests(&world.upload) {
            is_hardened(&world.ask(&Ask::new(&line)), &line);
            is_hardened(&world.ask(&Ask::new(&line).anonymous()), &line);
            is_hardened(&world.ask(&with(&line, FOREIGN[0])), &line);
        }
        let long = format!("GET /v2/{}", "x".repeat(10_000));
        is_hardened(&world.ask(&Ask::new(&long)), "414");
        let ranges = Ask::new(&format!("GET /v2/a/blobs/{}", digest(LAYER)));
        is_hardened(
            &world.ask(&ranges.clone().header("range", "bytes=0-0,8-8")),
            "206",
        );
        is_hardened(
            &world.ask(&ranges.clone().header("range", "bytes=99-")),
            "416",
        );
        is_hardened(&world.ask(&ranges.header("if-none-match", "*")), "304");
    }

    #[test]
    fn are_hardened_where_the_registry_can_not_be_set_up() {
        let response = registry::refuse::<MemoryBody, MemoryBytes>(&"a setting is wrong");
        let answer = Answer {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: Vec::new(),
        };
        is_hardened(&answer, "refused");
    }

    /// Of a file, whole and in several ranges.
    #[test]
    fn have_no_type_that_a_browser_runs() {
        let names = [
            ("x.js", "text/plain; charset=utf-8", "inline"),
            (
                "x.mjs",
                "application/octet-stream",
                "attachment; filename*=UTF-8''x.mjs",
            ),
            ("x.css", "text/plain; charset=utf-8", "inline"),
            ("x.html", "text/plain; charset=utf-8", "inline"),
            ("x.htm", "text/plain; charset=utf-8", "inline"),
            ("x.xml", "text/plain; charset=utf-8", "inline"),
            ("x.vtt", "text/plain; charset=utf-8", "inline"),
            ("x.appcache", "text/plain; charset=utf-8", "inline"),
            (
                "x.svg",
                "application/octet-stream",
                "attachment; filename*=UTF-8''x.svg",
            ),
            (
                "x.SVGZ",
                "application/octet-stream",
                "attachment; filename*=UTF-8''x.SVGZ",
            ),
            (
                "x.xhtml",
                "application/octet-stream",
                "attachment; filename*=UTF-8''x.xhtml",
            ),
            ("x.xsl", "text/plain; charset=utf-8", "inline"),
            (
                "x.pdf",
                "application/octet-stream",
                "attachment; filename*=UTF-8''x.pdf",
            ),
            (
                "x.wasm",
                "application/octet-stream",
                "attachment; filename*=UTF-8''x.wasm",
            ),
            (
                "x.json",
                "application/octet-stream",
                "attachment; filename*=UTF-8''x.json",
            ),
            (
                "x.swf",
                "application/octet-stream",
                "attachment; filename*=UTF-8''x.swf",
            ),
            (
                "x.mht",
                "application/octet-stream",
                "attachment; filename*=UTF-8''x.mht",
            ),
            (
                "x.tiff",
                "application/octet-stream",
                "attachment; filename*=UTF-8''x.tiff",
            ),
            (
                "x",
                "application/octet-stream",
                "attachment; filename*=UTF-8''x",
            ),
            (
                "png",
                "application/octet-stream",
                "attachment; filename*=UTF-8''png",
            ),
            ("x.png", "image/png", "inline"),
            ("x.svg.PNG", "image/png", "inline"),
            ("x.ico", "image/x-icon", "inline"),
            ("x.jpeg", "image/jpeg", "inline"),
            ("x.avif", "image/avif", "inline"),
        ];
        let tar = names.iter().fold(Tar::default(), |tar, (name, _, _)| {
            tar.file(*name, "<script>")
        });
        let layer = gzip(&tar.end());
        let world = World::new(&[]);
        let line = format!("POST /v2/a/blobs/uploads/?digest={}", digest(&layer));
        assert_eq!(world.ask(&Ask::new(&line).body(&layer)).status, 201);
        for (name, media_type, disposition) in names {
            let line = format!("GET /v2/a/_strata/layers/{}/files/{name}", digest(&layer));
            let answer = world.ask(&Ask::new(&line));
            let described =
                ["content-type", "content-disposition"].map(|header| answer.header(header));
            assert_eq!(described, [Some(media_type), Some(disposition)], "{name}");
            let several = world.ask(&Ask::new(&line).header("range", "bytes=0-0,7-7"));
            assert!(
                several
                    .header("content-type")
                    .unwrap()
                    .starts_with("multipart/byteranges;")
            );
            let parts = text(&several);
            assert_eq!(
                parts
                    .matches(&format!("content-type: {media_type}\r\n"))
                    .count(),
                2,
                "{parts}"
            );
        }
    }

    /// A manifest's type is its author's text: a browser saves what it would not show as JSON.
    #[test]
    fn are_saved_unless_they_are_pictures_or_text() {
        let world = World::new(&[]);
        for (media_type, is_saved) in [
            (OCI_MANIFEST, false),
            ("application/json", false),
            ("application/vnd.example+JSON", false),
            ("application/xhtml+xml", true),
            ("application/javascript", true),
            ("application/pdf", true),
            ("application/xhtml+xml,application/x+json", true),
            ("application/xhtml+xml ,x+json", true),
            ("application/json/xml", true),
        ] {
            let mut manifest = image();
            manifest["mediaType"] = json!(media_type);
            let bytes = manifest.to_string();
            let path = format!("/v2/a/manifests/{}", digest(bytes.as_bytes()));
            let push = Ask::new(&format!("PUT {path}")).stream(&bytes);
            let pushed = world.ask(&push.header("content-type", media_type));
            if pushed.status == 400 {
                continue;
            }
            let answer = world.ask(&Ask::new(&format!("GET {path}")));
            assert_eq!(answer.header("content-type"), Some(media_type));
            let expected = is_saved.then_some("attachment");
            assert_eq!(
                answer.header("content-disposition"),
                expected,
                "{media_type}"
            );
        }
        let blob = world.ask(&Ask::new(&format!("GET /v2/a/blobs/{}", digest(LAYER))));
        let described = ["content-type", "content-disposition"].map(|header| blob.header(header));
        assert_eq!(
            described,
            [Some("application/octet-stream"), Some("attachment")]
        );
    }

    /// A part of a blob that an upstream sends has no type that the upstream chose.
    #[test]
    fn have_no_type_of_an_upstream() {
        for (media_type, expected) in [
            ("text/javascript", "application/octet-stream"),
            ("text/html; charset=utf-8", "application/octet-stream"),
            (
                "multipart/x-mixed-replace; boundary=b",
                "application/octet-stream",
            ),
            (
                "multipart/byteranges; boundary=b, text/javascript",
                "application/octet-stream",
            ),
            (
                "multipart/byteranges; boundary=b",
                "multipart/byteranges; boundary=b",
            ),
        ] {
            let mirrors = Mirrors::of(move |question| {
                let headers = [
                    ("content-type", media_type),
                    ("content-range", "bytes 0-1/10"),
                    ("content-length", "2"),
                ];
                assert!(question.headers.contains_key("range"));
                says(206, &headers, &LAYER[..2])
            });
            let mirror = mirrors.mirror(&json!({ "ranges": "pass" }));
            let line = format!("GET /v2/up.example/a/blobs/{}", digest(LAYER));
            let answer = ask(&mirror, &Ask::new(&line).header("range", "bytes=0-1"));
            assert_eq!((answer.status, answer.body.as_slice()), (206, &LAYER[..2]));
            assert_eq!(answer.header("content-type"), Some(expected));
        }
    }
}
