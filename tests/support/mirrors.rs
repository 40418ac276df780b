//! An upstream that a test answers for, and mirrors of it.

use std::{cell::RefCell, rc::Rc};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use pollster::block_on;
use serde_json::{Value, json};
use strata::{
    host::{Ask as Asked, FetchError, Reply},
    memory::{MemoryBody, MemoryBytes, MemoryObjects},
    registry::{Body, Request},
    store::{Bytes as _, Objects, Values},
};

use crate::{
    Answer, Ask, TestHost, TestRegistry, ask, registry_on,
    watched::{Verdict, Watched},
};

/// A reply of the upstream.
pub type Said = Result<Reply<MemoryBody>, FetchError>;

type Upstream = Rc<RefCell<Box<dyn FnMut(&Asked) -> Said>>>;

/// An upstream, and the host and store that its mirrors share.
pub struct Mirrors {
    /// The host of the mirrors.
    pub host: TestHost,
    /// The cold store of the mirrors.
    pub store: Watched,
    asked: Rc<RefCell<Vec<String>>>,
    upstream: Upstream,
}

impl std::fmt::Debug for Mirrors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mirrors").finish_non_exhaustive()
    }
}

/// An empty store in memory, in which every operation succeeds.
pub fn watched() -> Watched {
    Watched::new(MemoryObjects::default(), |_, _| Verdict::Done)
}

impl Mirrors {
    /// Creates an upstream that answers with this function.
    pub fn of(upstream: impl FnMut(&Asked) -> Said + 'static) -> Self {
        let host = TestHost::default();
        let asked = Rc::<RefCell<Vec<String>>>::default();
        let upstream: Upstream = Rc::new(RefCell::new(Box::new(upstream)));
        let (written, sky) = (asked.clone(), upstream.clone());
        host.serve(move |question| {
            let line = format!("{} {}", question.method, target(question));
            written.borrow_mut().push(line);
            (sky.borrow_mut())(question)
        });
        Self {
            host,
            store: watched(),
            asked,
            upstream,
        }
    }

    /// Replaces the function that answers.
    pub fn answers(&self, upstream: impl FnMut(&Asked) -> Said + 'static) {
        *self.upstream.borrow_mut() = Box::new(upstream);
    }

    /// The requests to the upstream since the last call, as in `GET /v2/`.
    pub fn asked(&self) -> Vec<String> {
        self.asked.take()
    }

    /// Starts a mirror, with these settings of its upstream.
    pub fn mirror(&self, upstream: &Value) -> TestRegistry<Watched> {
        let mut all = json!({ "name": "up.example" });
        for (key, value) in upstream.as_object().unwrap() {
            all[key] = value.clone();
        }
        let all = json!([all]).to_string();
        let settings = [("STRATA_UPSTREAMS", all.as_str())];
        registry_on(self.store.clone(), self.host.clone(), &settings)
    }
}

/// The path and query of a request to an upstream.
pub fn target(question: &Asked) -> &str {
    let rest = question.url.split_once("://").unwrap().1;
    rest.find('/').map_or("/", |at| &rest[at..])
}

/// A reply with this status, headers and body.
pub fn says(status: u16, headers: &[(&'static str, &str)], body: impl AsRef<[u8]>) -> Said {
    let mut all = HeaderMap::new();
    for (name, value) in headers {
        let value = HeaderValue::from_str(value).unwrap();
        all.append(HeaderName::from_static(name), value);
    }
    Ok(Reply {
        status: StatusCode::from_u16(status).unwrap(),
        headers: all,
        body: Some(MemoryBody::Bytes(body.as_ref().to_vec())),
    })
}

/// Lets a registry answer a request, as the upstream.
pub fn answer<S, W>(registry: &TestRegistry<S, W>, question: &Asked) -> Said
where
    S: Objects<Body = MemoryBody, Bytes = MemoryBytes>,
    W: Values<Bytes = MemoryBytes>,
{
    let request = Request {
        method: question.method.clone(),
        target: target(question).to_owned(),
        origin: "https://up.example".to_owned(),
        address: "192.0.2.2".to_owned(),
        headers: question.headers.clone(),
        body: None,
    };
    let (response, _) = block_on(registry.answer(request));
    let (parts, body) = response.into_parts();
    let body = match body {
        Body::Empty => None,
        Body::Bytes(bytes) => Some(MemoryBody::Bytes(bytes)),
        Body::Held(bytes) => Some(MemoryBody::Bytes(bytes.to_vec())),
        Body::Stream(stream) => Some(stream),
    };
    Ok(Reply {
        status: parts.status,
        headers: parts.headers,
        body,
    })
}

/// Sends a `GET` request to a registry.
pub fn get<S, W>(registry: &TestRegistry<S, W>, path: &str) -> Answer
where
    S: Objects<Body = MemoryBody, Bytes = MemoryBytes>,
    W: Values<Bytes = MemoryBytes>,
{
    ask(registry, &Ask::new(&format!("GET {path}")))
}

/// The body as text.
pub fn text(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

/// The body as JSON, which it must be.
pub fn json_of(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_else(|_| panic!("{}", text(answer)))
}
