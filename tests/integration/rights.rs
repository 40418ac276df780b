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
    memory::{MemoryBytes, MemoryObjects},
    metrics::Metrics,
    registry::Registry,
    settings::Settings,
    store::{Bytes as _, Objects as _, Values as _},
};
use strata_support::{
    Answer, Ask, CONFIG, TestHost, TestRegistry, ask, descriptor, digest,
    host::key as derived,
    key,
    layers::{Tar, noise},
    mirrors::{Said, json_of, says, target, text},
    watched::{Verdict, Watched, WatchedValues},
};

mod holders;
mod pulls;
mod upkeep;

const GRACE: Duration = Duration::from_secs(24 * 3_600);

/// The repositories of two upstreams, and the one that only its owner may read.
const PULLED: &str = "up.example/x";
const OTHER: &str = "other.example/y";
const SECRET: &str = "team/secret";

/// The content at a path of an upstream: a media type, and bytes.
type Served = Rc<RefCell<BTreeMap<String, (String, Vec<u8>)>>>;

/// The answer of an upstream in place of its content.
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
    /// A world with the secret pushed to `team/secret` by its owner.
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
            store: Watched::new(MemoryObjects::timed(host.now.clone()), |_, _| Verdict::Done),
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

    /// Pushes a blob as a user to a repository of this registry's own, or to one that is not
    /// mirrored yet.
    fn push(&self, user: &str, name: &str, blob: &[u8]) {
        let line = format!("POST /v2/{name}/blobs/uploads/?digest={}", digest(blob));
        let pushed = ask(&self.isolate(&[]), &by(user, &line).body(blob));
        assert_eq!(pushed.status, 201, "{}", text(&pushed));
    }

    /// Adds a manifest to an upstream, by tag and by digest.
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

    /// Adds a blob to an upstream.
    fn serve(&self, remote: &str, blob: &[u8]) {
        let path = format!("/v2/{remote}/blobs/{}", digest(blob));
        let entry = ("application/octet-stream".to_owned(), blob.to_vec());
        self.served.borrow_mut().insert(path, entry);
    }

    fn weather(&self, weather: impl FnMut(&Asked) -> Option<Said> + 'static) {
        *self.weather.borrow_mut() = Box::new(weather);
    }

    /// The requests to upstreams since the last call.
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

    /// The reason that a link records; `None` if there is no link.
    fn linked(&self, name: &str, blob: &[u8]) -> Option<Value> {
        let key = link(name, blob);
        let is_there = !self.store.keys(&key).is_empty();
        is_there.then(|| self.metadata(&key))
    }

    /// Writes a grant as an older version did, before mirrored blobs had reasons of their own.
    fn plant_grant(&self, name: &str, blob: &[u8], id: &str, reason: &Value) {
        let key = key::grant(&digest(blob), &name.parse().unwrap(), id);
        self.store.plant(&key, b"", &reason.to_string());
    }

    /// Writes a link as the registry did before links recorded a reason.
    fn plant_link(&self, name: &str, blob: &[u8]) {
        let record = json!({ "kind": "bytes", "size": blob.len() }).to_string();
        self.store.plant(&link(name, blob), record.as_bytes(), "");
    }

    /// Stores a manifest as an older version did, before its metadata recorded its origin.
    fn plant_manifest(&self, name: &str, document: &Value) -> Digest {
        let bytes = document.to_string().into_bytes();
        let found = digest(&bytes);
        let metadata = json!({ "mediaType": document["mediaType"] }).to_string();
        let key = key::manifest(&name.parse().unwrap(), &found);
        self.store.plant(&key, &bytes, &metadata);
        found
    }

    /// Tries every way in which a repository could give the secret, and panics if one does.
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

/// Root may do everything; mallory may read mirrored repositories and has repositories of her own.
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

fn get(registry: &TestRegistry<Watched, WatchedValues>, path: &str) -> Answer {
    ask(registry, &by("mallory", &format!("GET {path}")))
}

fn blob_of(name: &str, blob: &[u8]) -> String {
    format!("/v2/{name}/blobs/{}", digest(blob))
}

impl World {
    /// A round of the sweep, in steps of so many operations at most; returns the deleted keys.
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

    /// A pass of the scrub; returns its findings.
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

    /// Pulls an image whole through the mirror; returns its digest.
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
