//! A mirror: its requests to an upstream, its answers without one, and the errors if the upstream
//! fails.

use std::{cell::RefCell, pin::pin, rc::Rc, sync::LazyLock, time::Duration};

use futures_util::{
    StreamExt as _,
    future::{Either, join, join_all, select},
    stream::{self, LocalBoxStream},
};
use http::{HeaderMap, HeaderValue, StatusCode};
use pollster::block_on;
use serde_json::{Value, json};
use strata::{
    host::{Ask as Asked, FetchError, Reply},
    manifest::OCI_MANIFEST,
    memory::{MadeItems, MemoryBody, MemoryBytes, MemoryObjects},
    registry::{Body, Request},
    store::{Bytes as _, StoreError, after::After},
};
use strata_support::{
    Ask, CONFIG, LAYER, TestHost, TestRegistry, ask, digest, image, key,
    mirrors::{self, Said, answer, get, target, text, watched},
    registry_on,
    watched::{Verdict, Watched},
};

mod blobs;
mod bounds;
mod freshness;
mod large_blobs;
mod lists;
mod manifests;
mod most_bytes;
mod mounts;
mod requests;
mod resumption;
mod unknown_length;

/// The fate of a request on its way to the upstream: `None` lets it pass.
type Weather = Rc<RefCell<Box<dyn FnMut(&Asked) -> Option<Said>>>>;

/// A registry, and the upstream behind it.
struct World {
    upstream: Rc<TestRegistry<Watched>>,
    host: TestHost,
    store: Watched,
    /// The requests to the upstream, and its answers.
    asked: Rc<RefCell<Vec<String>>>,
    weather: Weather,
}

const ORIGIN: &str = "https://registry.example";

impl World {
    /// An upstream that everyone may pull from, with an image as `team/app:v1`.
    fn new() -> Self {
        Self::with(&[("STRATA_ANONYMOUS_PULL", "true"), ("STRATA_USERS", " ")])
    }

    /// The same, with these settings of the upstream.
    fn with(settings: &[(&str, &str)]) -> Self {
        let rules = r#"[{"repositories": ["**"], "who": ["everyone"], "may": ["pull", "push"]}]"#;
        let memory = watched();
        let upstream_host = TestHost::default();
        let filler = registry_on(
            memory.clone(),
            upstream_host.clone(),
            &[("STRATA_RULES", rules)],
        );
        push(&filler, "v1", &image());
        let upstream = Rc::new(registry_on(memory, upstream_host, settings));
        let (host, asked) = (TestHost::default(), Rc::<RefCell<Vec<String>>>::default());
        let weather: Weather = Rc::new(RefCell::new(Box::new(|_| None)));
        let (behind, written, sky) = (upstream.clone(), asked.clone(), weather.clone());
        host.serve(move |question| {
            let weather = (sky.borrow_mut())(question);
            let reply = weather.unwrap_or_else(|| answer(&behind, question));
            let outcome = match &reply {
                Ok(reply) => reply.status.as_u16().to_string(),
                Err(error) => format!("{error:?}"),
            };
            let path = target(question).split('?').next().unwrap();
            let line = format!("{} {path} {outcome}", question.method);
            written
                .borrow_mut()
                .push(line.replace(&digest(image().to_string().as_bytes()).to_string(), "IMAGE"));
            reply
        });
        Self {
            upstream,
            host,
            store: watched(),
            asked,
            weather,
        }
    }

    /// A mirror that has just started.
    fn mirror(&self, upstream: &Value) -> TestRegistry<Watched> {
        self.mirror_with(upstream, &[])
    }

    fn mirror_with(&self, upstream: &Value, settings: &[(&str, &str)]) -> TestRegistry<Watched> {
        let mut all = json!({ "name": "up.example", "address": ORIGIN });
        for (key, value) in upstream.as_object().unwrap() {
            all[key] = value.clone();
        }
        let all = json!([all]).to_string();
        let settings = [&[("STRATA_UPSTREAMS", all.as_str())], settings].concat();
        registry_on(self.store.clone(), self.host.clone(), &settings)
    }

    /// The requests to the upstream since the last call.
    fn asked(&self) -> Vec<String> {
        self.asked.take()
    }

    fn weather(&self, weather: impl FnMut(&Asked) -> Option<Said> + 'static) {
        *self.weather.borrow_mut() = Box::new(weather);
    }

    /// Moves the tag `v1` of the upstream; returns the new manifest.
    fn move_tag(&self) -> Vec<u8> {
        let mut other = image();
        other["annotations"] = json!({ "moved": "yes" });
        let rules = r#"[{"repositories": ["**"], "who": ["everyone"], "may": ["pull", "push", "overwrite"]}]"#;
        let filler = registry_on(
            self.upstream.store().clone(),
            TestHost::default(),
            &[("STRATA_RULES", rules)],
        );
        push(&filler, "v1", &other);
        other.to_string().into_bytes()
    }
}

/// Pushes an image as `team/app`.
fn push(registry: &TestRegistry<Watched>, tag: &str, image: &Value) {
    for blob in [LAYER, CONFIG] {
        let line = format!("POST /v2/team/app/blobs/uploads/?digest={}", digest(blob));
        assert_eq!(ask(registry, &Ask::new(&line).body(blob)).status, 201);
    }
    let line = Ask::new(&format!("PUT /v2/team/app/manifests/{tag}"));
    let answer = ask(registry, &line.manifest(OCI_MANIFEST, image));
    assert_eq!(
        answer.status,
        201,
        "{}",
        String::from_utf8_lossy(&answer.body)
    );
}

fn says(status: u16, headers: &[(&'static str, &str)], body: &str) -> Option<Said> {
    Some(mirrors::says(status, headers, body))
}

fn blob(bytes: &[u8]) -> String {
    format!("/v2/up.example/team/app/blobs/{}", digest(bytes))
}

/// More bytes than are stored before they are served, in many chunks.
fn large() -> Vec<u8> {
    static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let words = (0..2_250_001_u32).flat_map(|n| (n ^ (n >> 11)).to_le_bytes());
        words.take(9_000_001).collect()
    });
    BYTES.clone()
}

/// An upstream that sends these bytes as its large blob, item by item, with a turn for other tasks
/// between the items.
fn serve(world: &World, bytes: &[u8], announced: usize) {
    let bytes = bytes.to_vec();
    let path = format!("/blobs/{}", digest(&large()));
    world.weather(move |question| {
        if !question.url.ends_with(&path) || question.method != "GET" {
            return None;
        }
        let items: Vec<_> = bytes.chunks(100_000).map(<[u8]>::to_vec).collect();
        let items = stream::iter(items).then(async |item| {
            strata_support::host::turn().await;
            Ok(item)
        });
        let mut headers = HeaderMap::new();
        headers.insert("content-length", HeaderValue::from(announced));
        Some(Ok(Reply {
            status: StatusCode::OK,
            headers,
            body: Some(MemoryBody::Made(MadeItems(items.boxed_local()))),
        }))
    });
}

type Begun = (http::response::Parts, MemoryBody, After<MemoryBytes>);

/// A pull whose body is not read yet.
async fn begin(registry: &TestRegistry<Watched>, path: &str) -> Begun {
    let mut headers = HeaderMap::new();
    headers.insert(
        "authorization",
        HeaderValue::from_static("Basic ZGV2OnNlY3JldA=="),
    );
    let request = Request {
        method: http::Method::GET,
        target: path.to_owned(),
        origin: ORIGIN.to_owned(),
        address: String::new(),
        headers,
        body: None,
    };
    let (response, rest) = registry.answer(request).await;
    let (parts, body) = response.into_parts();
    let body = match body {
        Body::Stream(body) => body,
        Body::Empty => MemoryBody::Bytes(Vec::new()),
        Body::Bytes(bytes) => MemoryBody::Bytes(bytes),
        Body::Held(bytes) => MemoryBody::Bytes(bytes.to_vec()),
    };
    (parts, body, rest)
}

/// The items of a body that is produced while it is read.
fn items_of(body: MemoryBody) -> LocalBoxStream<'static, Result<Vec<u8>, StoreError>> {
    let MemoryBody::Made(MadeItems(items)) = body else {
        panic!("the reply was not made while it was read");
    };
    items
}

/// A complete pull: the status, and the bytes or the reason why they aborted.
async fn pull(registry: &TestRegistry<Watched>, path: &str) -> (u16, Result<Vec<u8>, StoreError>) {
    let (parts, body, rest) = begin(registry, path).await;
    let (read, ()) = join(body.read(), registry.finish(rest)).await;
    (parts.status.as_u16(), read)
}

/// The number of objects with a prefix.
fn count(world: &World, prefix: &str) -> usize {
    let keys = world.store.memory.keys();
    keys.iter().filter(|key| key.starts_with(prefix)).count()
}
