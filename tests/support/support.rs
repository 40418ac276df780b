//! What native tests of the registry share: a small client, a host, a store that can be watched, and an image.
#![expect(dead_code, reason = "no test uses all of it")]
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "what is not as expected fails the test"
)]

use std::rc::Rc;

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use futures_util::future::join;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use pollster::block_on;
use serde_json::{Value, json};
use strata::{
    digest::{Algorithm, Digest},
    manifest::OCI_MANIFEST,
    metrics::Metrics,
    platform::Composed,
    registry::{Body, Registry, Request},
    settings::Settings,
    store::{
        Bytes as _, StoreError, Streams, Values,
        memory::{MemoryBody, MemoryBytes, MemoryValues},
    },
};

pub(crate) use self::host::TestHost;

pub(crate) mod host;
pub(crate) mod key;
pub(crate) mod layers;
pub(crate) mod mirrors;
pub(crate) mod watched;

pub(crate) type TestRegistry<S, W = MemoryValues> = Registry<Composed<S, W, TestHost>>;

pub(crate) const LAYER: &[u8] = b"0123456789";
pub(crate) const CONFIG: &[u8] = b"{}";

/// A request, in short.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) target: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Option<Vec<u8>>,
    pub(crate) signed_in: bool,
    pub(crate) address: String,
}

impl Ask {
    pub(crate) fn new(line: &str) -> Self {
        let (method, target) = line.split_once(' ').unwrap();
        Self {
            method: method.parse().unwrap(),
            target: target.to_owned(),
            headers: Vec::new(),
            body: None,
            signed_in: true,
            address: "192.0.2.1".to_owned(),
        }
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// A body whose length is announced.
    pub(crate) fn body(self, bytes: impl AsRef<[u8]>) -> Self {
        let length = bytes.as_ref().len().to_string();
        self.header("content-length", length).stream(bytes)
    }

    /// A body whose length is not announced.
    pub(crate) fn stream(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.body = Some(bytes.as_ref().to_vec());
        self
    }

    pub(crate) fn manifest(self, media_type: &str, document: &Value) -> Self {
        self.header("content-type", media_type)
            .stream(document.to_string())
    }

    pub(crate) fn anonymous(mut self) -> Self {
        self.signed_in = false;
        self
    }
}

/// A response, read whole.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn location(&self) -> String {
        self.header("location").unwrap().to_owned()
    }
}

/// A registry over a store, with the user that [`ask`] signs in as, and these settings.
pub(crate) fn registry_of<S: Streams<Body = MemoryBody, Bytes = MemoryBytes>>(
    store: S,
    settings: &[(&str, &str)],
) -> TestRegistry<S> {
    registry_on(store, TestHost::default(), settings)
}

/// A registry over a store and a host of the caller's.
pub(crate) fn registry_on<S: Streams<Body = MemoryBody, Bytes = MemoryBytes>>(
    store: S,
    host: TestHost,
    settings: &[(&str, &str)],
) -> TestRegistry<S> {
    registry_with(store, MemoryValues::default(), host, settings)
}

/// A registry over stores and a host of the caller's.
pub(crate) fn registry_with<S: Streams<Body = MemoryBody>, W: Values<Bytes = S::Bytes>>(
    store: S,
    warm: W,
    host: TestHost,
    settings: &[(&str, &str)],
) -> TestRegistry<S, W> {
    let metrics = Rc::new(Metrics::new().unwrap());
    Registry::new(store, warm, host, settings_of(settings), metrics)
}

/// Pushes a manifest, which is accepted.
pub(crate) fn push_manifest<S: Streams<Body = MemoryBody, Bytes = MemoryBytes>>(
    registry: &TestRegistry<S>,
    name: &str,
    reference: &str,
    media_type: &str,
    manifest: &Value,
) {
    let line = format!("PUT /v2/{name}/manifests/{reference}");
    let answer = ask(registry, &Ask::new(&line).manifest(media_type, manifest));
    assert_eq!(answer.status, 201, "{answer:?}");
}

/// Whether all of the [`image`] can be pulled.
pub(crate) fn is_whole<S: Streams<Body = MemoryBody, Bytes = MemoryBytes>>(
    registry: &TestRegistry<S>,
    name: &str,
    tag: &str,
) -> bool {
    let get = |path: String| ask(registry, &Ask::new(&format!("GET /v2/{name}/{path}")));
    get(format!("manifests/{tag}")).status == 200
        && [LAYER, CONFIG].iter().all(|blob| {
            let answer = get(format!("blobs/{}", digest(blob)));
            answer.status == 200 && answer.body == *blob
        })
}

/// These settings, with the user that [`ask`] signs in as.
pub(crate) fn settings_of(settings: &[(&str, &str)]) -> Settings {
    let key = host::key(b"secret", &[0; 16], 1);
    let entry = format!(
        "pbkdf2-sha256$1${}${}",
        STANDARD_NO_PAD.encode([0; 16]),
        STANDARD_NO_PAD.encode(key)
    );
    let users = json!({ "users": { "dev": entry } }).to_string();
    let settings = Settings::parse(|name| {
        let set = settings
            .iter()
            .find(|(other, _)| *other == name)
            .map(|(_, value)| (*value).to_owned());
        set.or_else(|| (name == "STRATA_USERS").then(|| users.clone()))
    });
    settings.unwrap()
}

/// Asks a registry, as the user `dev` unless the request says otherwise, and lets it do what is left to do after the reply.
pub(crate) fn ask<S, W>(registry: &TestRegistry<S, W>, ask: &Ask) -> Answer
where
    S: Streams<Body = MemoryBody, Bytes = MemoryBytes>,
    W: Values<Bytes = MemoryBytes>,
{
    block_on(ask_now(registry, ask))
}

/// The same, in a future.
pub(crate) async fn ask_now<S, W>(registry: &TestRegistry<S, W>, ask: &Ask) -> Answer
where
    S: Streams<Body = MemoryBody, Bytes = MemoryBytes>,
    W: Values<Bytes = MemoryBytes>,
{
    let answer = try_ask_now(registry, ask).await;
    answer.unwrap_or_else(|error| panic!("the response broke off: {error}"))
}

/// The same, of a response that may break off.
pub(crate) async fn try_ask_now<S, W>(
    registry: &TestRegistry<S, W>,
    ask: &Ask,
) -> Result<Answer, StoreError>
where
    S: Streams<Body = MemoryBody, Bytes = MemoryBytes>,
    W: Values<Bytes = MemoryBytes>,
{
    let mut headers = HeaderMap::new();
    for (name, value) in &ask.headers {
        headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_str(value).unwrap(),
        );
    }
    if ask.signed_in {
        headers.insert(
            "authorization",
            HeaderValue::from_static("Basic ZGV2OnNlY3JldA=="),
        );
    }
    let request = Request {
        method: ask.method.clone(),
        target: ask.target.clone(),
        origin: "http://registry.example".to_owned(),
        address: ask.address.clone(),
        headers,
        body: ask.body.clone().map(MemoryBody::Bytes),
    };
    let (response, rest) = registry.answer(request).await;
    let (parts, body) = response.into_parts();
    let read = async {
        match body {
            Body::Empty => Ok(Vec::new()),
            Body::Held(bytes) => Ok(bytes.to_vec()),
            Body::Bytes(bytes) => Ok(bytes),
            Body::Stream(body) => body.read().await,
        }
    };
    // What fills a reply goes on while it is read.
    let (body, ()) = join(read, registry.finish(rest)).await;
    Ok(Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body: body?,
    })
}

pub(crate) fn digest(bytes: &[u8]) -> Digest {
    Algorithm::Sha256.digest(bytes)
}

pub(crate) fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": digest(bytes).to_string(), "size": bytes.len() })
}

/// An image of one layer.
pub(crate) fn image() -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", CONFIG),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", LAYER)],
    })
}
