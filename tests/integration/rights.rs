//! Rights in mirrored repositories: only bytes that were hashed for a repository let its callers
//! read a blob.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use http::Method;
use pollster::block_on;
use serde_json::{Value, json};
use strata::{
    digest::{Algorithm, Digest},
    host::{Ask as Asked, FetchError},
    manifest::{OCI_INDEX, OCI_MANIFEST},
    metrics::Metrics,
    registry::Registry,
    settings::Settings,
    store::{Bytes as _, Objects as _, Values as _, memory::Memory, memory::MemoryBytes},
};
use strata_support::{
    Answer, Ask, CONFIG, TestHost, TestRegistry, ask, descriptor, digest,
    host::key as derived,
    key,
    layers::{Tar, noise},
    mirrors::{Said, json_of, says, target, text},
    watched::{Verdict, Watched, WatchedValues},
};

const GRACE: Duration = Duration::from_secs(24 * 3_600);

/// The repositories of two upstreams, and the one that nobody but its owner may read.
const PULLED: &str = "up.example/x";
const OTHER: &str = "other.example/y";
const SECRET: &str = "team/secret";

/// What a path of an upstream has: a media type, and bytes.
type Served = Rc<RefCell<BTreeMap<String, (String, Vec<u8>)>>>;

/// What an upstream answers in place of what it serves.
type Weather = Rc<RefCell<Box<dyn FnMut(&Asked) -> Option<Said>>>>;

/// A bucket, two upstreams, and the isolates in front of them.
struct World {
    host: TestHost,
    store: Watched,
    warm: WatchedValues,
    served: Served,
    asked: Rc<RefCell<Vec<String>>>,
    weather: Weather,
}

/// The layer that only `team/secret` has: an archive, so that its files could be read.
fn secret() -> Vec<u8> {
    Tar::default().file("etc/shadow", "the secret").end()
}

impl World {
    /// With the secret pushed to `team/secret` by its owner.
    fn new() -> Self {
        let host = TestHost::default();
        let served = Served::default();
        let asked = Rc::<RefCell<Vec<String>>>::default();
        let weather: Weather = Rc::new(RefCell::new(Box::new(|_| None)));
        let (shelf, written, sky) = (served.clone(), asked.clone(), weather.clone());
        host.serve(move |question| {
            let path = target(question).split('?').next().unwrap();
            let line = format!("{} {path}", question.method);
            written.borrow_mut().push(line);
            if let Some(said) = (sky.borrow_mut())(question) {
                return said;
            }
            let found = shelf.borrow().get(path).cloned();
            let Some((media_type, bytes)) = found else {
                return says(404, &[], "");
            };
            let length = bytes.len().to_string();
            let headers = [
                ("content-type", media_type.as_str()),
                ("content-length", &length),
            ];
            match question.method {
                Method::HEAD => says(200, &headers, ""),
                _ => says(200, &headers, &bytes),
            }
        });
        let world = Self {
            store: Watched::new(Memory::timed(host.now.clone()), |_, _| Verdict::Done),
            warm: WatchedValues::new(|_, _| Verdict::Done),
            host,
            served,
            asked,
            weather,
        };
        world.push("root", SECRET, &secret());
        world
    }

    /// An isolate with these upstreams.
    fn isolate(&self, upstreams: &[&str]) -> TestRegistry<Watched, WatchedValues> {
        self.isolate_with(upstreams, &[])
    }

    fn isolate_with(
        &self,
        upstreams: &[&str],
        settings: &[(&str, &str)],
    ) -> TestRegistry<Watched, WatchedValues> {
        let upstreams: Vec<Value> = upstreams
            .iter()
            .map(|name| json!({ "name": name, "ranges": "store" }))
            .collect();
        let (upstreams, users) = (json!(upstreams).to_string(), users().to_string());
        let rules = rules().to_string();
        let settings = [
            &[
                ("STRATA_UPSTREAMS", upstreams.as_str()),
                ("STRATA_USERS", users.as_str()),
                ("STRATA_RULES", rules.as_str()),
            ],
            settings,
        ]
        .concat();
        let settings = Settings::parse(|name| {
            let set = settings.iter().rev().find(|(other, _)| *other == name);
            set.map(|(_, value)| (*value).to_owned())
        });
        let metrics = Rc::new(Metrics::new().unwrap());
        let (store, warm, host) = (self.store.clone(), self.warm.clone(), self.host.clone());
        Registry::new(store, warm, host, settings.unwrap(), metrics)
    }

    fn mirror(&self) -> TestRegistry<Watched, WatchedValues> {
        self.isolate(&["up.example", "other.example"])
    }

    /// A user pushes a blob to a repository of this registry's own, or one that is not mirrored
    /// yet.
    fn push(&self, user: &str, name: &str, blob: &[u8]) {
        let line = format!("POST /v2/{name}/blobs/uploads/?digest={}", digest(blob));
        let pushed = ask(&self.isolate(&[]), &by(user, &line).body(blob));
        assert_eq!(pushed.status, 201, "{}", text(&pushed));
    }

    /// An upstream has a manifest from now on, by tag and by digest.
    fn publish(&self, remote: &str, tag: &str, document: &Value) -> Digest {
        let bytes = document.to_string().into_bytes();
        let media_type = document["mediaType"].as_str().unwrap().to_owned();
        let found = digest(&bytes);
        for reference in [tag.to_owned(), found.to_string()] {
            let path = format!("/v2/{remote}/manifests/{reference}");
            let entry = (media_type.clone(), bytes.clone());
            self.served.borrow_mut().insert(path, entry);
        }
        found
    }

    /// An upstream has a blob from now on.
    fn serve(&self, remote: &str, blob: &[u8]) {
        let path = format!("/v2/{remote}/blobs/{}", digest(blob));
        let entry = ("application/octet-stream".to_owned(), blob.to_vec());
        self.served.borrow_mut().insert(path, entry);
    }

    fn weather(&self, weather: impl FnMut(&Asked) -> Option<Said> + 'static) {
        *self.weather.borrow_mut() = Box::new(weather);
    }

    /// What upstreams were asked since this was last looked at.
    fn asked(&self) -> Vec<String> {
        self.asked.take()
    }

    /// The reasons of the grants that a repository has on a blob.
    fn reasons(&self, name: &str, blob: &[u8]) -> Vec<Value> {
        let mut reasons: Vec<Value> = self
            .store
            .keys(&format!(
                "refs/sha256/{}/{name}/_grants/",
                digest(blob).encoded()
            ))
            .iter()
            .map(|key| self.metadata(key))
            .collect();
        reasons.sort_by_key(Value::to_string);
        reasons
    }

    fn metadata(&self, key: &str) -> Value {
        let meta = block_on(self.store.memory.head(key)).unwrap().unwrap();
        serde_json::from_str(&meta.metadata).unwrap_or(Value::Null)
    }

    /// What a link says of its reason; `None` where there is no link.
    fn linked(&self, name: &str, blob: &[u8]) -> Option<Value> {
        let key = link(name, blob);
        let is_there = !self.store.keys(&key).is_empty();
        is_there.then(|| self.metadata(&key))
    }

    /// Writes a grant as the registry did before there were reasons for what is mirrored.
    fn plant_grant(&self, name: &str, blob: &[u8], id: &str, reason: &Value) {
        let key = key::grant(&digest(blob), &name.parse().unwrap(), id);
        self.store.plant(&key, b"", &reason.to_string());
    }

    /// Writes a link as the registry did before links recorded a reason.
    fn plant_link(&self, name: &str, blob: &[u8]) {
        let record = json!({ "kind": "bytes", "size": blob.len() }).to_string();
        self.store.plant(&link(name, blob), record.as_bytes(), "");
    }

    /// Stores a manifest as the registry did before it said where it is from.
    fn plant_manifest(&self, name: &str, document: &Value) -> Digest {
        let bytes = document.to_string().into_bytes();
        let found = digest(&bytes);
        let metadata = json!({ "mediaType": document["mediaType"] }).to_string();
        let key = key::manifest(&name.parse().unwrap(), &found);
        self.store.plant(&key, &bytes, &metadata);
        found
    }

    /// Tries every way to the secret that a repository may open, and panics if one gives it.
    fn assert_closed(&self, what: &str, upstreams: &[&str], name: &str) {
        let found = digest(&secret());
        let isolate = self.isolate(upstreams);
        for line in [
            format!("GET /v2/{name}/blobs/{found}"),
            format!("HEAD /v2/{name}/blobs/{found}"),
            format!("GET /v2/{name}/_strata/layers/{found}"),
            format!("GET /v2/{name}/_strata/layers/{found}/files/etc/shadow"),
            format!("GET /v2/{name}/_strata/images/v1/files/etc/shadow"),
            format!("GET /v2/{name}/manifests/{found}"),
        ] {
            for range in [None, Some("bytes=0-3")] {
                let mut question = by("mallory", &line);
                if let Some(range) = range {
                    question = question.header("range", range);
                }
                let answer = ask(&isolate, &question);
                assert!(answer.status >= 400, "{what}: {line}: {answer:?}");
            }
        }
        for from in [format!("&from={name}"), String::new()] {
            let line = format!("POST /v2/mallory/x/blobs/uploads/?mount={found}{from}");
            let answer = ask(&isolate, &by("mallory", &line));
            assert_eq!(answer.status, 202, "{what}: mounted{from}: {answer:?}");
        }
        let image = image_of(CONFIG, &[&secret()]);
        self.push("mallory", "mallory/x", CONFIG);
        let put = by("mallory", "PUT /v2/mallory/x/manifests/v1");
        let answer = ask(&isolate, &put.manifest(OCI_MANIFEST, &image));
        assert_eq!(answer.status, 404, "{what}: pushed: {answer:?}");
        let line = format!("GET /v2/mallory/x/blobs/{found}");
        assert_eq!(ask(&isolate, &by("mallory", &line)).status, 404, "{what}");
    }
}

fn link(name: &str, blob: &[u8]) -> String {
    key::link(&digest(blob), &name.parse().unwrap())
}

/// Root does everything; mallory reads what is mirrored and has a corner of her own.
fn rules() -> Value {
    json!([
        { "repositories": ["**"], "who": ["user:root"],
          "may": ["pull", "push", "overwrite", "delete", "administer", "metrics"] },
        { "repositories": ["up.example/**", "other.example/**"], "who": ["user:mallory"], "may": ["pull"] },
        { "repositories": ["mallory/**"], "who": ["user:mallory"], "may": ["pull", "push", "overwrite"] },
    ])
}

fn users() -> Value {
    let of = |user: &str| {
        let key = derived(user.as_bytes(), &[0; 16], 1);
        let (salt, key) = (STANDARD_NO_PAD.encode([0; 16]), STANDARD_NO_PAD.encode(key));
        format!("pbkdf2-sha256$1${salt}${key}")
    };
    json!({ "users": { "root": of("root"), "mallory": of("mallory") } })
}

/// A request of a user, whose password is its name.
fn by(user: &str, line: &str) -> Ask {
    let credentials = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{user}"));
    let request = Ask::new(line).anonymous();
    request.header("authorization", format!("Basic {credentials}"))
}

fn image_of(config: &[u8], layers: &[&[u8]]) -> Value {
    let layers: Vec<Value> = layers
        .iter()
        .map(|layer| descriptor("application/vnd.oci.image.layer.v1.tar", layer))
        .collect();
    json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", config),
        "layers": layers,
    })
}

/// The documents by which an upstream may name a blob that it does not have.
fn documents() -> Vec<(&'static str, Value)> {
    let named = descriptor("application/vnd.oci.image.layer.v1.tar", &secret());
    vec![
        (
            "an index with blobs",
            json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [], "blobs": [named] }),
        ),
        ("a layer", image_of(CONFIG, &[&secret()])),
        ("a config", image_of(&secret(), &[CONFIG])),
        (
            "a child",
            json!({
                "schemaVersion": 2, "mediaType": OCI_INDEX,
                "manifests": [descriptor(OCI_MANIFEST, &secret())],
            }),
        ),
    ]
}

fn get(registry: &TestRegistry<Watched, WatchedValues>, path: &str) -> Answer {
    ask(registry, &by("mallory", &format!("GET {path}")))
}

fn blob_of(name: &str, blob: &[u8]) -> String {
    format!("/v2/{name}/blobs/{}", digest(blob))
}

#[test]
fn a_manifest_of_an_upstream_gives_no_right_to_the_blobs_that_it_names() {
    for (what, document) in documents() {
        let world = World::new();
        world.serve("x", CONFIG);
        let found = world.publish("x", "v1", &document);
        for reference in ["v1".to_owned(), found.to_string()] {
            let mirror = world.mirror();
            get(&mirror, &format!("/v2/{PULLED}/manifests/{reference}"));
            // What the isolate knows is asked for as well.
            let answer = get(&mirror, &blob_of(PULLED, &secret()));
            assert_eq!(answer.status, 404, "{what}: {answer:?}");
            world.assert_closed(what, &["up.example", "other.example"], PULLED);
        }
        // Nor once the upstream is no longer mirrored, or this repository of it is not.
        world.assert_closed(what, &[], PULLED);
    }
}

/// Grants and links of a mirrored repository as they were written before: by pulls, and by blobs
/// that were pushed before the name was mirrored.
#[test]
fn what_was_granted_before_gives_no_right_in_a_mirrored_repository() {
    for with_link in [true, false] {
        let world = World::new();
        for (what, document) in documents() {
            let found = world.plant_manifest(PULLED, &document);
            let reason = json!({ "reason": "manifest", "digest": found.to_string() });
            world.plant_grant(PULLED, &secret(), &format!("m{}", what.len()), &reason);
        }
        world.plant_grant(PULLED, &secret(), "u", &json!({ "reason": "upload" }));
        world.plant_grant(PULLED, &secret(), "c", &json!({ "reason": "claim" }));
        if with_link {
            world.plant_link(PULLED, &secret());
        }
        world.assert_closed("planted", &["up.example", "other.example"], PULLED);
        // The upstream is gone: whoever asks hears what happened, and so it stays closed.
        for (weather, status) in [(Err(FetchError::Late), 504), (Ok(500), 502), (Ok(403), 403)] {
            let said = weather.clone();
            world.weather(move |_| match &said {
                Ok(status) => Some(says(*status, &[], "")),
                Err(error) => Some(Err(error.clone())),
            });
            for method in ["GET", "HEAD"] {
                let line = format!("{method} {}", blob_of(PULLED, &secret()));
                let answer = ask(&world.mirror(), &by("mallory", &line));
                assert_eq!(answer.status, status, "{weather:?}: {answer:?}");
                let says_why = text(&answer).contains("must be fetched from the upstream again");
                assert!(says_why || method == "HEAD", "{}", text(&answer));
            }
            world.assert_closed("planted", &["up.example"], PULLED);
        }
        // Where the upstream has it, its bytes are hashed, and that is a right from then on.
        world.weather(|_| None);
        world.host.pass(Duration::from_secs(60));
        world.serve("x", &secret());
        world.asked();
        let answer = get(&world.mirror(), &blob_of(PULLED, &secret()));
        assert_eq!((answer.status, answer.body), (200, secret()));
        assert_eq!(
            world.asked(),
            [format!("GET /v2/x/blobs/{}", digest(&secret()))]
        );
        let filled = json!({ "reason": "filled" });
        assert!(world.reasons(PULLED, &secret()).contains(&filled));
        assert_eq!(world.linked(PULLED, &secret()), Some(filled));
        assert_eq!(
            get(&world.mirror(), &blob_of(PULLED, &secret())).status,
            200
        );
        assert!(world.asked().is_empty());
    }
}

/// A repository below the name of an upstream that is not among those that it mirrors can be no
/// client's own.
#[test]
fn what_was_granted_before_gives_no_right_below_the_name_of_an_upstream() {
    let world = World::new();
    world.plant_grant(PULLED, &secret(), "u", &json!({ "reason": "upload" }));
    world.plant_link(PULLED, &secret());
    let upstreams = json!([{ "name": "up.example", "repositories": ["z"] }]).to_string();
    let isolate = world.isolate_with(&[], &[("STRATA_UPSTREAMS", &upstreams)]);
    let found = digest(&secret());
    for from in [format!("&from={PULLED}"), String::new()] {
        let line = format!("POST /v2/mallory/x/blobs/uploads/?mount={found}{from}");
        assert_eq!(ask(&isolate, &by("mallory", &line)).status, 202, "{from}");
    }
}

/// A value of KV as the registry wrote it before links had a reason.
fn old_warm_value(world: &World, document: &Value, blob: &[u8]) -> Vec<u8> {
    let content = document.to_string().into_bytes();
    let now = world.host.now.get();
    let header = json!({
        "mediaType": document["mediaType"], "size": content.len(), "confirmed": now,
        "links": [{
            "digest": digest(blob).to_string(), "confirmed": now,
            "record": { "kind": "bytes", "size": blob.len() },
        }],
    });
    let header = header.to_string().into_bytes();
    let length = u32::try_from(header.len()).unwrap().to_be_bytes();
    let check = Algorithm::Sha256.digest(&header);
    [
        b"strata\x01".as_slice(),
        &length,
        &check.hash(),
        &header,
        &content,
    ]
    .concat()
}

#[test]
fn a_link_in_a_warm_value_from_before_gives_no_right_in_a_mirrored_repository() {
    for (what, document) in documents() {
        let world = World::new();
        let found = world.plant_manifest(PULLED, &document);
        let value = MemoryBytes::copy_from(&old_warm_value(&world, &document, &secret()));
        let key = key::manifest(&PULLED.parse().unwrap(), &found);
        block_on(world.warm.memory.put(&key, value, GRACE)).unwrap();
        let mirror = world.mirror();
        let pulled = get(&mirror, &format!("/v2/{PULLED}/manifests/{found}"));
        assert_eq!(pulled.header("x-strata-tier"), Some("warm"), "{what}");
        for _ in 0..3 {
            let answer = get(&mirror, &blob_of(PULLED, &secret()));
            assert_eq!(answer.status, 404, "{what}: {answer:?}");
        }
        // Nor does it come back with what goes warm again.
        for _ in 0..4 {
            get(&mirror, &format!("/v2/{PULLED}/manifests/{found}"));
        }
        assert_eq!(get(&mirror, &blob_of(PULLED, &secret())).status, 404);
    }
}

/// In a repository of one's own an old link in a value of KV is as good as it was.
#[test]
fn a_link_in_a_warm_value_from_before_is_believed_where_nothing_is_mirrored() {
    let world = World::new();
    world.push("root", "mallory/x", CONFIG);
    let document = image_of(CONFIG, &[]);
    let found = world.plant_manifest("mallory/x", &document);
    let value = MemoryBytes::copy_from(&old_warm_value(&world, &document, CONFIG));
    let key = key::manifest(&"mallory/x".parse().unwrap(), &found);
    block_on(world.warm.memory.put(&key, value, GRACE)).unwrap();
    let isolate = world.mirror();
    get(&isolate, &format!("/v2/mallory/x/manifests/{found}"));
    let answer = get(&isolate, &blob_of("mallory/x", CONFIG));
    assert_eq!(
        (answer.status, answer.header("x-strata-tier")),
        (200, Some("cold")),
        "{answer:?}"
    );
}

/// `HEAD` is a word, and no bytes.
#[test]
fn the_head_of_an_upstream_gives_no_right() {
    for (what, length) in [
        ("with its length", secret().len()),
        ("with another length", 5),
    ] {
        let world = World::new();
        world.weather(move |question| {
            let length = length.to_string();
            let head = [("content-length", length.as_str())];
            (question.method == Method::HEAD).then(|| says(200, &head, ""))
        });
        let answer = get(&world.mirror(), &blob_of(PULLED, &secret()));
        assert_eq!(answer.status, 404, "{what}: {answer:?}");
        assert!(
            world
                .asked()
                .contains(&format!("GET /v2/x/blobs/{}", digest(&secret()))),
            "{what}"
        );
        assert!(world.reasons(PULLED, &secret()).is_empty(), "{what}");
        assert_eq!(world.linked(PULLED, &secret()), None, "{what}");
        // Other bytes are none either.
        world.weather(move |question| {
            let body = vec![0; secret().len()];
            let length = body.len().to_string();
            let head = [("content-length", length.as_str())];
            let body = if question.method == Method::HEAD {
                Vec::new()
            } else {
                body
            };
            Some(says(200, &head, body))
        });
        let answer = get(&world.mirror(), &blob_of(PULLED, &secret()));
        assert_eq!(answer.status, 502, "{what}: {answer:?}");
        assert!(world.reasons(PULLED, &secret()).is_empty(), "{what}");
    }
}

/// Bytes that were hashed for one repository of an upstream need not come again for another one, if
/// the upstream says that it has as many there.
#[test]
fn bytes_of_an_upstream_come_once_for_all_of_its_repositories() {
    let world = World::new();
    let blob = secret();
    for remote in ["x", "y"] {
        world.serve(remote, &blob);
    }
    assert_eq!(get(&world.mirror(), &blob_of(PULLED, &blob)).body, blob);
    world.asked();
    let found = digest(&blob);
    let second = blob_of("up.example/y", &blob);
    assert_eq!(get(&world.mirror(), &second).body, blob);
    assert_eq!(world.asked(), [format!("HEAD /v2/y/blobs/{found}")]);
    let filled = json!({ "reason": "filled" });
    assert_eq!(
        world.reasons("up.example/y", &blob),
        [json!({ "reason": "filled" })]
    );
    assert_eq!(world.linked("up.example/y", &blob), Some(filled));
    // Another upstream has to send them.
    let line = blob_of(OTHER, &blob);
    assert_eq!(get(&world.mirror(), &line).body, blob);
    assert_eq!(world.asked(), [format!("GET /v2/y/blobs/{found}")]);
    // And so has this one, where it says another length.
    world.serve("z", &blob);
    world.weather(|question| {
        let head = [("content-length", "5")];
        (question.method == Method::HEAD).then(|| says(200, &head, ""))
    });
    assert_eq!(
        get(&world.mirror(), &blob_of("up.example/z", &blob)).body,
        blob
    );
    assert_eq!(
        world.asked(),
        [
            format!("HEAD /v2/z/blobs/{found}"),
            format!("GET /v2/z/blobs/{found}")
        ]
    );
}

/// A large blob that is stored already is hashed as it comes, for a repository that had no right to
/// it, and nothing is stored twice.
#[test]
fn a_large_blob_that_is_stored_is_hashed_once_more_for_a_mirrored_repository() {
    let world = World::new();
    let blob = noise(7, 3 << 20);
    world.push("root", "team/large", &blob);
    world.serve("x", &blob);
    let before = world.store.keys("extents/");
    let answer = get(&world.mirror(), &blob_of(PULLED, &blob));
    assert_eq!((answer.status, answer.body.len()), (200, blob.len()));
    assert_eq!(world.store.keys("extents/"), before);
    let filled = json!({ "reason": "filled" });
    assert_eq!(
        world.reasons(PULLED, &blob),
        [json!({ "reason": "filled" })]
    );
    assert_eq!(world.linked(PULLED, &blob), Some(filled));
    world.asked();
    assert_eq!(get(&world.mirror(), &blob_of(PULLED, &blob)).body, blob);
    assert!(world.asked().is_empty());
    // Wrong ones give nothing.
    world.served.borrow_mut().clear();
    let mut wrong = blob.clone();
    wrong[1_000_000] ^= 1;
    let path = format!("/v2/w/blobs/{}", digest(&blob));
    let entry = ("application/octet-stream".to_owned(), wrong);
    world.served.borrow_mut().insert(path, entry);
    let line = by(
        "mallory",
        &format!("GET {}", blob_of("other.example/w", &blob)),
    );
    let broken = block_on(strata_support::try_ask_now(&world.mirror(), &line));
    assert!(broken.is_err(), "{broken:?}");
    assert!(world.reasons("other.example/w", &blob).is_empty());
}

/// What a pull leaves behind is written so that it says itself what it is.
#[test]
fn a_pull_says_where_it_is_from() {
    let world = World::new();
    let image = image_of(CONFIG, &[&secret()]);
    let found = world.publish("x", "v1", &image);
    world.serve("x", CONFIG);
    get(&world.mirror(), &format!("/v2/{PULLED}/manifests/v1"));
    let mirrored = json!({ "reason": "mirrored", "digest": found.to_string() });
    for blob in [CONFIG, &secret()] {
        assert_eq!(world.reasons(PULLED, blob), std::slice::from_ref(&mirrored));
    }
    let manifest = key::manifest(&PULLED.parse().unwrap(), &found);
    assert_eq!(world.metadata(&manifest)["mirrored"], true);
    get(&world.mirror(), &blob_of(PULLED, CONFIG));
    let filled = json!({ "reason": "filled" });
    assert_eq!(world.reasons(PULLED, CONFIG), [mirrored, filled]);
    // A right stays one when the upstream is removed from the settings; what is none becomes none.
    let alone = world.isolate(&[]);
    assert_eq!(get(&alone, &blob_of(PULLED, CONFIG)).status, 200);
    assert_eq!(get(&alone, &blob_of(PULLED, &secret())).status, 404);
    // What is pushed says so as well.
    assert_eq!(
        world.linked(SECRET, &secret()),
        Some(json!({ "reason": "pushed" }))
    );
}

/// A link is repaired from a grant that is a right, and from no other.
#[test]
fn a_link_is_repaired_from_a_right() {
    let world = World::new();
    world.serve("x", CONFIG);
    get(&world.mirror(), &blob_of(PULLED, CONFIG));
    world.asked();
    let filled = Some(json!({ "reason": "filled" }));
    for planted in [true, false] {
        block_on(world.store.memory.delete(&[link(PULLED, CONFIG)])).unwrap();
        if planted {
            world.plant_link(PULLED, CONFIG);
        }
        let answer = get(&world.mirror(), &blob_of(PULLED, CONFIG));
        assert_eq!((answer.status, answer.body.as_slice()), (200, CONFIG));
        assert_eq!(world.linked(PULLED, CONFIG), filled);
    }
    assert!(world.asked().is_empty());
}

/// What was pushed before the name was mirrored is asked for again, and is there again once it is
/// not mirrored.
#[test]
fn what_was_pushed_before_the_name_was_mirrored_is_asked_for() {
    let world = World::new();
    world.push("root", PULLED, CONFIG);
    let asked = format!("GET /v2/x/blobs/{}", digest(CONFIG));
    let answer = get(&world.mirror(), &blob_of(PULLED, CONFIG));
    assert_eq!((answer.status, world.asked()), (404, vec![asked]));
    assert_eq!(
        get(&world.isolate(&[]), &blob_of(PULLED, CONFIG)).status,
        200
    );
}

impl World {
    /// A round of the sweep, in steps of so many operations at most: the keys that were deleted.
    fn sweep(&self, upstreams: &[&str], operations: &str) -> Vec<String> {
        let isolate = self.isolate_with(upstreams, &[("STRATA_SUBREQUESTS", operations)]);
        let mut deleted = Vec::new();
        for _ in 0..1_000 {
            let answer = ask(&isolate, &by("root", "POST /v2/_strata/sweep"));
            let body = json_of(&answer);
            let removals = body["removals"].as_array().unwrap().iter();
            deleted.extend(
                removals
                    .filter(|removal| removal["action"] == "delete")
                    .map(|removal| removal["key"].as_str().unwrap().to_owned()),
            );
            if body["finished"] == true {
                return deleted;
            }
        }
        panic!("a round does not end");
    }

    /// A pass of the scrub: what was found.
    fn scrub(&self, upstreams: &[&str]) -> Vec<String> {
        let isolate = self.isolate(upstreams);
        let mut found = Vec::new();
        for _ in 0..1_000 {
            let answer = ask(&isolate, &by("root", "POST /v2/_strata/scrub"));
            let body = json_of(&answer);
            let findings = body["findings"].as_array().unwrap().iter();
            found.extend(findings.map(|finding| {
                let word = |field: &str| finding[field].as_str().unwrap_or("nothing").to_owned();
                format!("{} {}: {}", word("found"), word("what"), word("repair"))
            }));
            if body["finished"] == true {
                return found;
            }
        }
        panic!("a pass does not end");
    }

    /// Has an image pulled whole through the mirror: its digest.
    fn pull(&self, remote: &str, layer: &[u8]) -> Digest {
        let found = self.publish(remote, "v1", &image_of(CONFIG, &[layer]));
        for blob in [CONFIG, layer] {
            self.serve(remote, blob);
        }
        let name = format!("up.example/{remote}");
        let mirror = self.mirror();
        for path in [
            format!("/v2/{name}/manifests/v1"),
            blob_of(&name, CONFIG),
            blob_of(&name, layer),
        ] {
            assert_eq!(get(&mirror, &path).status, 200, "{path}");
        }
        found
    }

    fn delete_manifest(&self, name: &str, found: &Digest) {
        let key = key::manifest(&name.parse().unwrap(), found);
        block_on(self.store.memory.delete(&[key])).unwrap();
    }

    fn keys_of(&self, name: &str, blob: &[u8]) -> Vec<String> {
        let encoded = digest(blob).encoded().to_owned();
        self.store.keys(&format!("refs/sha256/{encoded}/{name}/"))
    }
}

const UP: [&str; 2] = ["up.example", "other.example"];

/// A right stays while a manifest of the repository needs the blob, and goes with it; whether the
/// upstream is mirrored still or not.
#[test]
fn the_sweep_keeps_a_filled_blob_while_a_manifest_needs_it() {
    for upstreams in [&UP[..], &[]] {
        let world = World::new();
        let layer = noise(1, 100);
        let found = world.pull("x", &layer);
        let kept = world.keys_of(PULLED, &layer);
        assert_eq!(kept.len(), 3, "two grants and a link: {kept:?}");
        for _ in 0..4 {
            world.host.pass(GRACE);
            let deleted = world.sweep(upstreams, "10000");
            assert!(
                !deleted.iter().any(|key| key.contains(PULLED)),
                "{deleted:?}"
            );
        }
        assert_eq!(world.keys_of(PULLED, &layer), kept);
        world.delete_manifest(PULLED, &found);
        let mut deleted = world.sweep(upstreams, "10000");
        deleted.retain(|key| kept.contains(key));
        deleted.sort();
        assert_eq!(deleted, kept);
        for _ in 0..3 {
            world.host.pass(GRACE);
            world.sweep(upstreams, "10000");
        }
        assert!(world.store.keys(&key::blob(&digest(&layer))).is_empty());
    }
}

/// A blob that no manifest names is a right for the grace period.
#[test]
fn the_sweep_keeps_a_filled_blob_for_the_grace_period() {
    let world = World::new();
    world.serve("x", CONFIG);
    assert_eq!(get(&world.mirror(), &blob_of(PULLED, CONFIG)).status, 200);
    world.host.pass(GRACE - Duration::from_secs(1));
    world.sweep(&UP, "10000");
    assert_eq!(world.keys_of(PULLED, CONFIG).len(), 2);
    world.host.pass(Duration::from_secs(1));
    world.sweep(&UP, "10000");
    assert!(world.keys_of(PULLED, CONFIG).is_empty());
}

/// Of several grants for one manifest the youngest stays: of those that keep and of those that give
/// a right, each by itself.
#[test]
fn the_sweep_lets_no_grant_take_the_place_of_one_of_another_kind() {
    let world = World::new();
    let document = image_of(CONFIG, &[]);
    world.push("root", PULLED, CONFIG);
    let found = world.plant_manifest(PULLED, &document).to_string();
    let manifest = json!({ "reason": "manifest", "digest": found });
    let mirrored = json!({ "reason": "mirrored", "digest": found });
    let filled = json!({ "reason": "filled" });
    for (id, reason) in [
        ("1", &mirrored),
        ("2", &filled),
        ("3", &manifest),
        ("4", &mirrored),
        ("5", &manifest),
        ("6", &filled),
    ] {
        world.host.pass(Duration::from_secs(1));
        world.plant_grant(PULLED, CONFIG, id, reason);
    }
    world.host.pass(GRACE);
    world.sweep(&[], "10000");
    assert_eq!(
        world.reasons(PULLED, CONFIG),
        [manifest, mirrored, filled.clone(), filled]
    );
    assert_eq!(world.keys_of(PULLED, CONFIG).len(), 5);
}

/// A step that ends among the grants of a repository tells the next one nothing of those before: no
/// right goes by what comes after alone.
#[test]
fn the_sweep_takes_no_right_by_a_part_of_the_grants() {
    let world = World::new();
    let document = image_of(CONFIG, &[]);
    world.push("root", PULLED, CONFIG);
    let found = world.plant_manifest(PULLED, &document).to_string();
    let mirrored = |digest: &str| json!({ "reason": "mirrored", "digest": digest });
    world.plant_grant(PULLED, CONFIG, "0", &mirrored(&found));
    // Each costs a look at a manifest that is not stored.
    for number in 0..100 {
        let gone = digest(format!("gone {number}").as_bytes()).to_string();
        world.plant_grant(PULLED, CONFIG, &format!("1{number:03}"), &mirrored(&gone));
    }
    let filled = json!({ "reason": "filled" });
    world.plant_grant(PULLED, CONFIG, "2", &filled);
    world.host.pass(GRACE);
    for _ in 0..3 {
        world.sweep(&UP, "50");
        assert!(world.reasons(PULLED, CONFIG).contains(&filled));
        world.host.pass(GRACE);
    }
    assert_eq!(world.reasons(PULLED, CONFIG), [mirrored(&found), filled]);
}

/// What the scrub writes for the manifest of an upstream gives no right, now or when the upstream
/// is gone from the settings.
#[test]
fn the_scrub_repairs_the_grants_of_an_upstream_without_a_right() {
    for upstreams in [&UP[..], &[]] {
        for metadata in [None, Some("")] {
            let world = World::new();
            let document = image_of(CONFIG, &[&secret()]);
            let found = world.publish("x", "v1", &document);
            get(&world.mirror(), &format!("/v2/{PULLED}/manifests/v1"));
            assert!(
                world.scrub(&UP).is_empty(),
                "grants for what is not filled yet"
            );
            let mirrored = [json!({ "reason": "mirrored", "digest": found.to_string() })];
            let lost = world.keys_of(PULLED, &secret());
            block_on(world.store.memory.delete(&lost)).unwrap();
            let mut expected = vec!["missing grant: write"];
            if let Some(metadata) = metadata {
                // Nor where nobody can say any more whose the manifest is.
                let config = world.keys_of(PULLED, CONFIG);
                block_on(world.store.memory.delete(&config)).unwrap();
                let manifest = key::manifest(&PULLED.parse().unwrap(), &found);
                let bytes = document.to_string().into_bytes();
                world.store.plant(&manifest, &bytes, metadata);
                expected = vec![
                    "corrupt manifest: write",
                    "missing grant: write",
                    "missing grant: write",
                ];
            }
            let mut findings = world.scrub(upstreams);
            findings.retain(|finding| !finding.starts_with("missing blob"));
            assert_eq!(findings, expected);
            assert_eq!(world.reasons(PULLED, &secret()), mirrored);
            let manifest = key::manifest(&PULLED.parse().unwrap(), &found);
            assert_eq!(world.metadata(&manifest)["mirrored"], true);
            world.assert_closed("scrubbed", upstreams, PULLED);
        }
    }
}

/// A manifest of an older version in a mirrored repository is an upstream's, whatever its metadata
/// does not say.
#[test]
fn the_scrub_takes_manifests_of_mirrored_repositories_for_the_upstreams() {
    let world = World::new();
    let document = image_of(&secret(), &[]);
    let found = world.plant_manifest(PULLED, &document);
    assert!(
        world
            .scrub(&UP)
            .contains(&"missing grant: write".to_owned())
    );
    let mirrored = [json!({ "reason": "mirrored", "digest": found.to_string() })];
    assert_eq!(world.reasons(PULLED, &secret()), mirrored);
    // That grant keeps the blob, so no other is written once the upstream is gone.
    assert!(
        !world
            .scrub(&[])
            .contains(&"missing grant: write".to_owned())
    );
    assert_eq!(world.reasons(PULLED, &secret()), mirrored);
    world.assert_closed("an older manifest", &[], PULLED);
}

/// A link keeps the right that it records when the scrub writes it anew.
#[test]
fn the_scrub_writes_a_link_anew_with_its_right() {
    let world = World::new();
    world.serve("x", CONFIG);
    get(&world.mirror(), &blob_of(PULLED, CONFIG));
    for reason in [r#"{"reason":"filled"}"#, r#"{"reason":"pushed"}"#, ""] {
        world.store.plant(&link(PULLED, CONFIG), b"{", reason);
        assert_eq!(world.scrub(&UP), ["corrupt link: write"]);
        let expected = serde_json::from_str(reason).unwrap_or(Value::Null);
        assert_eq!(world.linked(PULLED, CONFIG), Some(expected));
    }
}

/// Deleting a blob takes the right to it away, once the repository is no longer mirrored; a
/// manifest that needs it still stands in the way.
#[test]
fn a_filled_blob_can_be_deleted_when_no_manifest_needs_it() {
    let world = World::new();
    let layer = noise(2, 100);
    let found = world.pull("x", &layer);
    let line = format!("DELETE {}", blob_of(PULLED, &layer));
    let alone = world.isolate(&[]);
    assert_eq!(ask(&alone, &by("root", &line)).status, 405);
    world.delete_manifest(PULLED, &found);
    assert_eq!(ask(&alone, &by("root", &line)).status, 202);
    let alone = world.isolate(&[]);
    assert_eq!(get(&alone, &blob_of(PULLED, &layer)).status, 404);
}

/// Who asks which repository holds a blob is told by what.
#[test]
fn holders_are_told_by_their_reasons() {
    let world = World::new();
    let found = world.pull("x", &secret()).to_string();
    let line = format!("GET /v2/_strata/blobs/{}", digest(&secret()));
    let body = json_of(&ask(&world.mirror(), &by("root", &line)));
    assert_eq!(
        body["repositories"],
        json!([
            { "name": SECRET, "uploads": 0, "claims": 1, "filled": 0, "manifests": [], "mirrored": [], "linked": true },
            { "name": PULLED, "uploads": 0, "claims": 0, "filled": 1, "manifests": [],
              "mirrored": [{ "digest": found, "stored": true }], "linked": true },
        ]),
        "{body}"
    );
    assert_eq!(body["references"], 3);
}

/// All that the end-point for doubtful rights tells, request by request, where the store lists so
/// many keys at once.
fn doubtful(world: &World, upstreams: &[&str], page: u32) -> (Vec<Value>, Vec<Value>) {
    world.store.page.set(page);
    let isolate = world.isolate_with(upstreams, &[("STRATA_SUBREQUESTS", "50")]);
    let (mut repositories, mut blobs) = (Vec::new(), Vec::new());
    let mut path = "GET /v2/_strata/rights".to_owned();
    for _ in 0..1_000 {
        let answer = ask(&isolate, &by("root", &path));
        assert_eq!(answer.status, 200, "{}", text(&answer));
        let body = json_of(&answer);
        assert!(body["operations"].as_u64().unwrap() <= 40, "{body}");
        repositories.extend(body["repositories"].as_array().unwrap().clone());
        blobs.extend(body["blobs"].as_array().unwrap().clone());
        if body["finished"] == true {
            assert_eq!(body.get("cursor"), None);
            return (repositories, blobs);
        }
        path = format!(
            "GET /v2/_strata/rights?cursor={}",
            body["cursor"].as_str().unwrap()
        );
    }
    panic!("it does not end");
}

#[test]
fn doubtful_rights_are_told_to_who_administers() {
    let world = World::new();
    world.pull("x", &noise(3, 100));
    // An older version: a tag that an upstream was asked for, and a manifest that does not say so.
    let document = image_of(CONFIG, &[&secret()]);
    let found = world.plant_manifest("up.example/old", &document);
    let tag = json!({ "kind": "manifest", "digest": found.to_string(), "mediaType": OCI_MANIFEST, "size": 1, "seen": 5 });
    let name = "up.example/old".parse().unwrap();
    world.store.plant(
        &key::tag(&name, &"v9".parse().unwrap()),
        b"",
        &tag.to_string(),
    );
    let reason = json!({ "reason": "manifest", "digest": found.to_string() });
    let before = world.host.now.get();
    world.plant_grant("up.example/old", &secret(), "m", &reason);
    // Somebody has mounted it since.
    world.host.pass(Duration::from_secs(5));
    let after = world.host.now.get();
    world.plant_grant("mallory/x", &secret(), "u", &json!({ "reason": "upload" }));
    world.plant_grant("mallory/y", &secret(), "c", &json!({ "reason": "claim" }));
    // Nothing is doubtful of what only mirrored repositories have, or of what was filled.
    world.plant_link("up.example/old", CONFIG);
    world.serve("y", &secret());
    get(&world.mirror(), &blob_of("up.example/y", &secret()));

    // Blobs that lie before and after it.
    for number in 0..60 {
        let grant = json!({ "reason": "upload" });
        world.plant_grant("z", &noise(number, 50), "u", &grant);
    }
    for page in [1, 2, 3, 1_000] {
        let (repositories, blobs) = doubtful(&world, &UP, page);
        assert!(repositories.is_empty(), "{repositories:?}");
        assert_eq!(
            blobs,
            [json!({
                "digest": digest(&secret()).to_string(),
                "doubtful": [{ "name": "up.example/old", "since": before }],
                "elsewhere": [
                    { "name": "mallory/x", "since": after },
                    { "name": SECRET, "since": before },
                ],
                "complete": true,
            })]
        );
        // Without the upstreams their repositories are this registry's own, and some say that they
        // were not.
        let (repositories, blobs) = doubtful(&world, &[], page);
        let names: Vec<&str> = repositories
            .iter()
            .map(|repository| repository["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["up.example/old", PULLED]);
        assert_eq!(repositories[0]["why"], "tag v9 was pulled from an upstream");
        assert!(blobs.is_empty(), "{blobs:?}");
    }
    let wrong = by("root", "GET /v2/_strata/rights?cursor=x");
    assert_eq!(ask(&world.mirror(), &wrong).status, 400);
    let other = by("mallory", "GET /v2/_strata/rights");
    assert_eq!(ask(&world.mirror(), &other).status, 403);
}

/// A blob that more repositories hold than a request can read of is told in parts, and holds
/// nothing up.
#[test]
fn doubtful_rights_of_a_blob_with_many_holders_are_told_in_parts() {
    let world = World::new();
    let upload = json!({ "reason": "upload" });
    for number in 0..150 {
        world.plant_grant(&format!("v/{number:03}"), &secret(), "u", &upload);
    }
    world.plant_grant("up.example/x", &secret(), "u", &upload);
    let (_, blobs) = doubtful(&world, &UP, 1);
    assert_eq!((blobs.len(), &blobs[0]["complete"]), (1, &json!(false)));
    let (_, blobs) = doubtful(&world, &UP, 1_000);
    assert_eq!((blobs.len(), &blobs[0]["complete"]), (1, &json!(false)));
    assert_eq!(blobs[0]["elsewhere"].as_array().unwrap().len(), 100);
}
