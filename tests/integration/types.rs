//! The media type of a manifest is a function of its bytes: no client, no upstream and no stored
//! label decides it.

use std::{cell::RefCell, rc::Rc, time::Duration};

use pollster::block_on;
use proptest::prelude::*;
use serde_json::{Value, json};
use strata::{
    digest::Digest,
    manifest::{DOCKER_MANIFEST, Manifest, OCI_INDEX, OCI_MANIFEST},
    memory::{MemoryBytes, MemoryObjects, MemoryValues},
    name::Name,
    store::{
        self, Bytes as _, Objects as _, PutOptions, Values as _,
        warm::{TierContent, Value as Warm},
    },
};
use strata_support::{
    Answer, Ask, CONFIG, LAYER, TestHost, TestRegistry, ask, descriptor, digest, image, key,
    mirrors::{Mirrors, get, says, text},
    registry_on, registry_with,
    watched::{Verdict, Watched},
};

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// Manifests without a tag expire after two days; tags of versions never move.
const RETENTION: (&str, &str) = (
    "STRATA_RETENTION",
    r#"[{"repositories": ["**"], "untagged_days": 2, "immutable_tags": ["v*"]}]"#,
);

/// The user `dev` may pull and push, and may neither move a tag nor delete anything.
const PUSHERS: (&str, &str) = (
    "STRATA_RULES",
    r#"[{"repositories": ["**"], "who": ["user:dev"], "may": ["pull", "push"]}]"#,
);

/// An operation and its key, and a function that runs just before it.
type Meanwhile = Rc<RefCell<Option<(String, Box<dyn FnOnce()>)>>>;

/// A registry whose isolates share a store and a clock.
struct Fixture {
    host: TestHost,
    store: Watched,
    /// A function that runs just before the next operation of this name and key.
    meanwhile: Meanwhile,
}

impl Fixture {
    fn new() -> Self {
        let host = TestHost::default();
        let memory = MemoryObjects::timed(host.now.clone());
        let meanwhile = Meanwhile::default();
        let planned = meanwhile.clone();
        let store = Watched::new(memory, move |operation, key| {
            let is_next = |(next, _): &mut _| *next == format!("{operation} {key}");
            let action = planned.borrow_mut().take_if(is_next);
            if let Some((_, action)) = action {
                action();
            }
            Verdict::Done
        });
        Self {
            host,
            store,
            meanwhile,
        }
    }

    /// An isolate with an empty cache.
    fn isolate(&self, settings: &[(&str, &str)]) -> TestRegistry<Watched> {
        let settings = [&[RETENTION], settings].concat();
        registry_on(self.store.clone(), self.host.clone(), &settings)
    }

    fn ask(&self, line: &str) -> Answer {
        ask(&self.isolate(&[]), &Ask::new(line))
    }

    /// Pushes a document with a header, as a caller that may only push.
    fn put(&self, reference: &str, media_type: &str, document: &Value) -> Answer {
        let line = format!("PUT /v2/a/manifests/{reference}");
        let request = Ask::new(&line).manifest(media_type, document);
        ask(&self.isolate(&[PUSHERS]), &request)
    }

    /// Pushes the blobs of the [`image`].
    fn push_blobs(&self) {
        for blob in [LAYER, CONFIG] {
            let line = format!("POST /v2/a/blobs/uploads/?digest={}", digest(blob));
            let pushed = ask(&self.isolate(&[PUSHERS]), &Ask::new(&line).body(blob));
            assert_eq!(pushed.status, 201);
        }
    }

    /// Stores a manifest under a label, as a registry did that let clients choose it.
    fn plant(&self, label: &str, document: &Value) -> Digest {
        let bytes = document.to_string().into_bytes();
        let digest = digest(&bytes);
        let metadata = json!({ "mediaType": label }).to_string();
        self.store.plant(&manifest_key(&digest), &bytes, &metadata);
        digest
    }

    /// Stores a tag of a manifest.
    fn plant_tag(&self, tag: &str, digest: &Digest, label: &str) {
        let target = json!({ "kind": "manifest", "digest": digest, "mediaType": label, "size": 1 });
        let target = target.to_string();
        let key = key::tag(&name(), &tag.parse().unwrap());
        self.store.plant(&key, target.as_bytes(), &target);
    }

    /// The media type of a manifest, as a new isolate serves it.
    fn served(&self, reference: &str) -> String {
        let answer = self.ask(&format!("GET /v2/a/manifests/{reference}"));
        assert_eq!(answer.status, 200, "{reference}");
        answer.header("content-type").unwrap().to_owned()
    }

    /// The metadata of a stored manifest.
    fn label(&self, digest: &Digest) -> Value {
        let meta = block_on(self.store.memory.head(&manifest_key(digest)));
        serde_json::from_str(&meta.unwrap().unwrap().metadata).unwrap()
    }

    /// Runs retention and the sweep until they have removed everything that they remove.
    fn sweep(&self) {
        for _ in 0..6 {
            self.host.pass(DAY);
            while self.ask("POST /v2/_strata/sweep").status != 200 {}
        }
    }

    /// A pass of the scrub: its findings, in short.
    fn scrub(&self) -> Vec<String> {
        let mut found = Vec::new();
        loop {
            let answer = self.ask("POST /v2/_strata/scrub");
            let body: Value = serde_json::from_slice(&answer.body).unwrap();
            for finding in body["findings"].as_array().unwrap() {
                let [what, found_as, repair] =
                    ["what", "found", "repair"].map(|field| finding[field].as_str().unwrap_or("-"));
                found.push(format!("{found_as} {what}: {repair}"));
            }
            if body["finished"] == true {
                return found;
            }
        }
    }

    /// Whether the image of [`untyped`] can be pulled whole.
    fn has_image(&self) -> bool {
        let [image, layer, config] = [untyped().to_string().as_bytes(), LAYER, CONFIG].map(digest);
        [
            format!("manifests/{image}"),
            format!("blobs/{layer}"),
            format!("blobs/{config}"),
        ]
        .iter()
        .all(|path| self.ask(&format!("GET /v2/a/{path}")).status == 200)
    }
}

fn name() -> Name {
    "a".parse().unwrap()
}

fn manifest_key(digest: &Digest) -> String {
    key::manifest(&name(), digest)
}

/// The image without a field `mediaType`.
fn untyped() -> Value {
    let mut image = image();
    image.as_object_mut().unwrap().remove("mediaType");
    image
}

/// An index of it without a field `mediaType`.
fn untyped_index() -> Value {
    let listed = descriptor(OCI_MANIFEST, untyped().to_string().as_bytes());
    json!({ "schemaVersion": 2, "manifests": [listed] })
}

fn digest_of(document: &Value) -> Digest {
    digest(document.to_string().as_bytes())
}

#[test]
fn an_immutable_tag_is_not_relabelled() {
    let fixture = Fixture::new();
    fixture.push_blobs();
    assert_eq!(fixture.put("v1", OCI_MANIFEST, &untyped()).status, 201);
    let by_digest = digest_of(&untyped()).to_string();
    for media_type in [
        OCI_INDEX,
        DOCKER_MANIFEST,
        "application/vnd.example",
        "text/html",
    ] {
        for reference in ["v1", "other", &by_digest] {
            let refused = fixture.put(reference, media_type, &untyped());
            assert_eq!(refused.status, 400, "{media_type} {}", text(&refused));
            assert!(text(&refused).contains("MANIFEST_INVALID"));
            assert_eq!(fixture.served("v1"), OCI_MANIFEST, "{media_type}");
        }
    }
    // A header that repeats the type of the bytes is not another type.
    let repeated = "application/vnd.OCI.image.manifest.v1+json; charset=utf-8";
    assert_eq!(fixture.put("v1", repeated, &untyped()).status, 201);
    assert_eq!(fixture.put("v1", "", &untyped()).status, 201);
    assert_eq!(fixture.served("v1"), OCI_MANIFEST);
}

#[test]
fn an_attempt_to_relabel_an_index_does_not_lose_its_children() {
    let fixture = Fixture::new();
    fixture.push_blobs();
    let image = digest_of(&untyped()).to_string();
    assert_eq!(fixture.put(&image, OCI_MANIFEST, &untyped()).status, 201);
    assert_eq!(fixture.put("all", OCI_INDEX, &untyped_index()).status, 201);
    let index = digest_of(&untyped_index()).to_string();
    for label in [
        "application/vnd.example.image.manifest.v1+json",
        "application/vnd.example.distribution.manifest.v2+json",
    ] {
        let refused = fixture.put(&index, label, &untyped_index());
        assert_eq!(refused.status, 400, "{}", text(&refused));
    }
    fixture.sweep();
    assert_eq!(fixture.served("all"), OCI_INDEX);
    assert!(fixture.has_image());
}

#[test]
fn an_index_relabelled_by_an_older_version_keeps_its_children() {
    let fixture = Fixture::new();
    fixture.push_blobs();
    let image = digest_of(&untyped()).to_string();
    assert_eq!(fixture.put(&image, OCI_MANIFEST, &untyped()).status, 201);
    let label = "application/vnd.example.image.manifest.v1+json";
    let index = fixture.plant(label, &untyped_index());
    fixture.plant_tag("all", &index, label);
    fixture.sweep();
    assert_eq!(fixture.served("all"), OCI_INDEX);
    assert!(fixture.has_image());
}

/// Each of these was stored under its label by an older version, lists the image in its own way,
/// and has no type by its bytes.
#[test]
fn an_untyped_manifest_keeps_its_label_and_all_it_may_list() {
    let image = digest_of(&untyped()).to_string();
    let both = {
        let mut both = strata_support::image();
        both["manifests"] = untyped_index()["manifests"].clone();
        both
    };
    let documents = [
        (
            "application/vnd.example.image.manifest",
            json!({ "schemaVersion": 2, "refs": [{ "digest": image }] }),
        ),
        (
            "application/vnd.example.image.manifest",
            json!({ "schemaVersion": 2, "deep": { "er": [[{ &image: 1 }]] } }),
        ),
        (OCI_MANIFEST, both),
    ];
    for (label, document) in documents {
        let fixture = Fixture::new();
        fixture.push_blobs();
        assert_eq!(fixture.put(&image, OCI_MANIFEST, &untyped()).status, 201);
        let planted = fixture.plant(label, &document);
        fixture.plant_tag("old", &planted, label);
        fixture.sweep();
        assert_eq!(fixture.served("old"), label);
        assert!(fixture.has_image(), "{document}");
        let before = fixture.label(&planted);
        fixture.scrub();
        assert_eq!(fixture.label(&planted), before);
        assert_eq!(fixture.served("old"), label);
    }
}

#[test]
fn a_wrong_label_is_not_served_and_is_rewritten_by_the_scrub() {
    let fixture = Fixture::new();
    fixture.push_blobs();
    assert_eq!(fixture.put("v1", OCI_MANIFEST, &untyped()).status, 201);
    let right = fixture.label(&digest_of(&untyped()));
    let planted = fixture.plant("text/html", &untyped());
    assert_eq!(fixture.served("v1"), OCI_MANIFEST);
    assert_eq!(fixture.label(&planted)["mediaType"], "text/html");
    assert_eq!(fixture.scrub(), ["corrupt manifest: write"]);
    assert_eq!(fixture.label(&planted), right);
    assert_eq!(fixture.scrub(), [""; 0]);
    assert_eq!(fixture.served("v1"), OCI_MANIFEST);
}

/// The scrub overwrites the object that it has read, and no object that was pushed since.
#[test]
fn the_scrub_does_not_overwrite_a_label_pushed_meanwhile() {
    let fixture = Fixture::new();
    fixture.push_blobs();
    assert_eq!(fixture.put("v1", OCI_MANIFEST, &untyped()).status, 201);
    let planted = fixture.plant("text/html", &untyped());
    let key = manifest_key(&planted);
    let (memory, pushed) = (fixture.store.memory.clone(), key.clone());
    let push = move || {
        let options = PutOptions {
            metadata: r#"{"mediaType":"of another push"}"#,
            ..PutOptions::default()
        };
        let bytes = untyped().to_string().into_bytes();
        let content = store::Content::Bytes([bytes.as_slice(), b" "].concat());
        block_on(memory.put(&pushed, content, options)).unwrap();
    };
    // Between the scrub's last look and its write.
    *fixture.meanwhile.borrow_mut() = Some((format!("put {key}"), Box::new(push)));
    fixture.scrub();
    assert!(fixture.meanwhile.borrow().is_none());
    assert_eq!(fixture.label(&planted)["mediaType"], "of another push");
}

#[test]
fn a_warm_label_is_not_served() {
    let (host, store) = (
        TestHost::default(),
        Watched::new(MemoryObjects::default(), |_, _| Verdict::Done),
    );
    let bytes = untyped().to_string().into_bytes();
    let digest = digest(&bytes);
    let value = Warm {
        content: TierContent {
            media_type: OCI_INDEX.to_owned(),
            bytes: MemoryBytes::copy_from(&bytes),
        },
        confirmed: host.now.get(),
        links: Vec::new(),
    };
    let warm = MemoryValues::default();
    let sealed = block_on(value.seal(true, true)).unwrap();
    block_on(warm.put(&manifest_key(&digest), sealed.bytes, DAY)).unwrap();
    let registry = registry_with(store, warm, host, &[]);
    let line = format!("GET /v2/a/manifests/{digest}");
    for tier in ["warm", "hot"] {
        let answer = ask(&registry, &Ask::new(&line));
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (200, Some(OCI_MANIFEST)),
            "{tier}"
        );
    }
}

#[test]
fn referrers_have_the_type_of_their_bytes() {
    let fixture = Fixture::new();
    fixture.push_blobs();
    assert_eq!(fixture.put("v1", OCI_MANIFEST, &image()).status, 201);
    let mut signature = untyped();
    let subject = image().to_string();
    signature["subject"] = descriptor(OCI_MANIFEST, subject.as_bytes());
    assert_eq!(fixture.put("signed", OCI_MANIFEST, &signature).status, 201);
    let list = || {
        let subject = digest(subject.as_bytes());
        let answer = fixture.ask(&format!("GET /v2/a/referrers/{subject}"));
        let list: Value = serde_json::from_slice(&answer.body).unwrap();
        let types = list["manifests"].as_array().unwrap().iter();
        types
            .map(|entry| entry["mediaType"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(list(), [OCI_MANIFEST]);
    // The label and the referrers entry, as an older registry left them that let clients choose.
    fixture.plant(OCI_INDEX, &signature);
    let entries = fixture.store.keys(&key::all_referrers(&name()));
    let meta = block_on(fixture.store.memory.head(&entries[0]));
    let entry = meta.unwrap().unwrap().metadata;
    let relabelled = entry.replace(OCI_MANIFEST, OCI_INDEX);
    assert_ne!(entry, relabelled);
    fixture.store.plant(&entries[0], b"", &relabelled);
    assert_eq!(list(), [OCI_MANIFEST]);
}

#[test]
fn an_upstream_does_not_choose_the_type() {
    let bytes = untyped().to_string();
    for label in ["text/html", OCI_INDEX, ""] {
        let sent = bytes.clone();
        let mirrors = Mirrors::of(move |_| says(200, &[("content-type", label)], &sent));
        let upstream = json!({ "address": "https://up.example" });
        let path = "/v2/up.example/a/manifests/v1";
        for _ in 0..2 {
            // An isolate each: the second one reads the objects that the first one stored.
            let answer = get(&mirrors.mirror(&upstream), path);
            assert_eq!(answer.status, 200, "{}", text(&answer));
            assert_eq!(answer.header("content-type"), Some(OCI_MANIFEST));
        }
    }
}

#[test]
fn a_manifest_of_an_upstream_without_a_type_is_not_stored() {
    let documents = [
        json!({ "schemaVersion": 2, "config": image()["config"] }),
        json!({ "schemaVersion": 2, "layers": [], "config": image()["config"], "manifests": [] }),
        json!({ "schemaVersion": 2, "mediaType": "text/html", "manifests": [] }),
    ];
    for (document, reason) in documents.iter().zip([
        r#"no field \"mediaType\""#,
        "an image and an index at once",
        r#"mediaType is \"text/html\""#,
    ]) {
        let sent = document.to_string();
        let mirrors = Mirrors::of(move |_| says(200, &[("content-type", OCI_MANIFEST)], &sent));
        let mirror = mirrors.mirror(&json!({ "address": "https://up.example" }));
        let by_digest = digest(document.to_string().as_bytes()).to_string();
        for reference in ["v1", &by_digest] {
            let answer = get(&mirror, &format!("/v2/up.example/a/manifests/{reference}"));
            let said = serde_json::from_slice::<Value>(&answer.body).unwrap();
            assert_eq!(answer.status, 502, "{document}: {said}");
            assert!(text(&answer).contains(reason), "{said}");
        }
        assert_eq!(mirrors.store.keys(""), [""; 0], "{document}");
    }
}

/// Documents of clients and attackers: any fields, any of their values, in any order.
fn documents() -> impl Strategy<Value = String> {
    let listed = [
        descriptor(OCI_MANIFEST, b"child"),
        descriptor("application/vnd.example", b"other"),
    ];
    let list = prop_oneof![
        Just(json!(null)),
        Just(json!([])),
        Just(json!([listed[0]])),
        Just(json!(listed)),
        Just(json!({})),
    ];
    let config = prop_oneof![Just(json!(null)), Just(listed[0].clone()), Just(json!(3))];
    let media_type = prop_oneof![
        Just(json!(null)),
        Just(json!(3)),
        "application/vnd\\.(oci|OCI)\\.image\\.(manifest|index)\\.v1\\+json".prop_map(Value::from),
        Just(json!(DOCKER_MANIFEST)),
        "(application|text)/[a-z;. ]{0,6}".prop_map(Value::from),
    ];
    let field = prop_oneof![
        ("[cC]onfig|subject", config),
        ("layers|[mM]anifests|blobs|fsLayers", list),
        ("[mM]ediaType", media_type),
        ("schemaVersion", (1..3).prop_map(Value::from)),
    ];
    proptest::collection::vec(field, 0..6).prop_map(|fields| {
        let is_versioned = fields.iter().any(|(name, _)| name == "schemaVersion");
        let fields = fields
            .iter()
            .map(|(name, value)| format!("{}: {value}", json!(name)));
        let version = (!is_versioned).then(|| "\"schemaVersion\": 2".to_owned());
        let fields: Vec<String> = fields.chain(version).collect();
        format!("{{{}}}", fields.join(", "))
    })
}

fn headers() -> impl Strategy<Value = Option<String>> {
    let known = prop_oneof![
        Just(OCI_MANIFEST),
        Just(OCI_INDEX),
        Just(DOCKER_MANIFEST),
        Just("application/vnd.docker.distribution.manifest.v1+prettyjws"),
    ];
    prop_oneof![
        Just(None),
        known.prop_map(|known| Some(known.to_owned())),
        ".{0,12}".prop_map(Some),
        "(application|text)/[a-z;. ]{0,6}".prop_map(Some),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_096))]

    #[test]
    fn no_header_chooses_a_type(document in documents(), one in headers(), other in headers()) {
        let bytes = document.as_bytes();
        let [one, other] = [one, other].map(|header| Manifest::parse(header.as_deref(), bytes));
        if let (Ok(one), Ok(other)) = (one, other) {
            prop_assert_eq!(one, other);
        }
    }
}
