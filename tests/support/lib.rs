//! Fixtures that the native tests of the core share: a small client, a host, a store that a test
//! can watch, an upstream, layers and an image.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "an unexpected value must fail the test that uses the fixture"
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
    memory::{MemoryBody, MemoryBytes, MemoryValues},
    metrics::Metrics,
    platform::Composed,
    registry::{Body, Registry, Request},
    settings::Settings,
    store::{Bytes as _, Objects, StoreError, Values},
};

pub use self::host::TestHost;

pub mod host;
pub mod key;
pub mod layers;
pub mod mirrors;
pub mod watched;

/// A registry on the host of a test.
pub type TestRegistry<S, W = MemoryValues> = Registry<Composed<S, W, TestHost>>;

/// The bytes of the only layer of [`image`].
pub const LAYER: &[u8] = b"0123456789";

/// The bytes of the config of [`image`].
pub const CONFIG: &[u8] = b"{}";

/// A request to a registry.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The method.
    pub method: Method,
    /// The path, and the query if there is one.
    pub target: String,
    /// The headers, by lower-case names.
    pub headers: Vec<(&'static str, String)>,
    /// The body, if there is one.
    pub body: Option<Vec<u8>>,
    /// Whether the request has the credentials of the user `dev`.
    pub signed_in: bool,
    /// The address of the client.
    pub address: String,
    /// The scheme and host by which the client reached the registry.
    pub origin: String,
}

impl Ask {
    /// Parses a method and a target, as in `GET /v2/`. The user `dev` is signed in.
    pub fn new(line: &str) -> Self {
        let (method, target) = line.split_once(' ').unwrap();
        Self {
            method: method.parse().unwrap(),
            target: target.to_owned(),
            headers: Vec::new(),
            body: None,
            signed_in: true,
            address: "192.0.2.1".to_owned(),
            origin: "http://registry.example".to_owned(),
        }
    }

    /// Adds a header.
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Sets a body, and its `Content-Length`.
    pub fn body(self, bytes: impl AsRef<[u8]>) -> Self {
        let length = bytes.as_ref().len().to_string();
        self.header("content-length", length).stream(bytes)
    }

    /// Sets a body without `Content-Length`.
    pub fn stream(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.body = Some(bytes.as_ref().to_vec());
        self
    }

    /// Sets a manifest as the body, and its media type.
    pub fn manifest(self, media_type: &str, document: &Value) -> Self {
        self.header("content-type", media_type)
            .stream(document.to_string())
    }

    /// Sets the scheme and host.
    pub fn at(mut self, origin: &str) -> Self {
        origin.clone_into(&mut self.origin);
        self
    }

    /// Removes the credentials.
    pub fn anonymous(mut self) -> Self {
        self.signed_in = false;
        self
    }
}

/// A response, read to its end.
#[derive(Debug, Eq, PartialEq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a header, if the response has it.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The value of `Location`, which the response must have.
    pub fn location(&self) -> String {
        self.header("location").unwrap().to_owned()
    }
}

/// Creates a registry on a store, with the user `dev` and these settings.
pub fn registry_of<S: Objects<Body = MemoryBody, Bytes = MemoryBytes>>(
    store: S,
    settings: &[(&str, &str)],
) -> TestRegistry<S> {
    registry_on(store, TestHost::default(), settings)
}

/// Creates a registry on a store and a host.
pub fn registry_on<S: Objects<Body = MemoryBody, Bytes = MemoryBytes>>(
    store: S,
    host: TestHost,
    settings: &[(&str, &str)],
) -> TestRegistry<S> {
    registry_with(store, MemoryValues::default(), host, settings)
}

/// Creates a registry on a cold and a warm store, and a host.
pub fn registry_with<
    S: Objects<Body = MemoryBody, Bytes = MemoryBytes>,
    W: Values<Bytes = MemoryBytes>,
>(
    store: S,
    warm: W,
    host: TestHost,
    settings: &[(&str, &str)],
) -> TestRegistry<S, W> {
    let metrics = Rc::new(Metrics::new().unwrap());
    Registry::new(store, warm, host, settings_of(settings), metrics)
}

/// Pushes a manifest, which the registry must accept.
pub fn push_manifest<S: Objects<Body = MemoryBody, Bytes = MemoryBytes>>(
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

/// Whether the manifest and both blobs of the [`image`] can be pulled.
pub fn is_whole<S: Objects<Body = MemoryBody, Bytes = MemoryBytes>>(
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

/// Parses settings, and adds the user `dev` if they name no users.
pub fn settings_of(settings: &[(&str, &str)]) -> Settings {
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

/// Sends a request to a registry, and runs its work that is left after the reply.
pub fn ask<S, W>(registry: &TestRegistry<S, W>, ask: &Ask) -> Answer
where
    S: Objects<Body = MemoryBody, Bytes = MemoryBytes>,
    W: Values<Bytes = MemoryBytes>,
{
    block_on(ask_now(registry, ask))
}

/// [`ask`], as a future.
pub async fn ask_now<S, W>(registry: &TestRegistry<S, W>, ask: &Ask) -> Answer
where
    S: Objects<Body = MemoryBody, Bytes = MemoryBytes>,
    W: Values<Bytes = MemoryBytes>,
{
    let answer = try_ask_now(registry, ask).await;
    answer.unwrap_or_else(|error| panic!("the response broke off: {error}"))
}

/// [`ask_now`], if the body of the response may fail.
pub async fn try_ask_now<S, W>(
    registry: &TestRegistry<S, W>,
    ask: &Ask,
) -> Result<Answer, StoreError>
where
    S: Objects<Body = MemoryBody, Bytes = MemoryBytes>,
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
        origin: ask.origin.clone(),
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
    // The work after the reply may write its body: run both at once.
    let (body, ()) = join(read, registry.finish(rest)).await;
    Ok(Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body: body?,
    })
}

/// The SHA-256 digest of bytes.
pub fn digest(bytes: &[u8]) -> Digest {
    Algorithm::Sha256.digest(bytes)
}

/// The descriptor of bytes.
pub fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": digest(bytes).to_string(), "size": bytes.len() })
}

/// The manifest of an image with one layer.
pub fn image() -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", CONFIG),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", LAYER)],
    })
}
