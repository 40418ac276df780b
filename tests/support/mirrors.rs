//! An upstream that a test plays, and mirrors in front of it.

use std::{cell::RefCell, rc::Rc};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use pollster::block_on;
use serde_json::{Value, json};
use strata::{
    host::{Ask as Asked, FetchError, Reply},
    registry::{Body, Request},
    store::{
        Bytes as _,
        memory::{Memory, MemoryBody},
    },
};

use super::{
    Answer, Ask, TestHost, TestRegistry, ask, registry_on,
    watched::{Verdict, Watched},
};

pub(crate) type Said = Result<Reply<MemoryBody>, FetchError>;

type Upstream = Rc<RefCell<Box<dyn FnMut(&Asked) -> Said>>>;

/// An upstream, and what mirrors of it share.
pub(crate) struct Mirrors {
    pub(crate) host: TestHost,
    pub(crate) store: Watched,
    asked: Rc<RefCell<Vec<String>>>,
    upstream: Upstream,
}

pub(crate) fn watched() -> Watched {
    Watched::new(Memory::default(), |_, _| Verdict::Done)
}

impl Mirrors {
    /// Of an upstream that answers so.
    pub(crate) fn of(upstream: impl FnMut(&Asked) -> Said + 'static) -> Self {
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

    /// From now on it answers so.
    pub(crate) fn answers(&self, upstream: impl FnMut(&Asked) -> Said + 'static) {
        *self.upstream.borrow_mut() = Box::new(upstream);
    }

    /// What it was asked since this was last looked at.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.take()
    }

    /// A mirror that has just started.
    pub(crate) fn mirror(&self, upstream: &Value) -> TestRegistry<Watched> {
        let mut all = json!({ "name": "up.example" });
        for (key, value) in upstream.as_object().unwrap() {
            all[key] = value.clone();
        }
        let all = json!([all]).to_string();
        let settings = [("STRATA_UPSTREAMS", all.as_str())];
        registry_on(self.store.clone(), self.host.clone(), &settings)
    }
}

/// Path and query of a question.
pub(crate) fn target(question: &Asked) -> &str {
    let rest = question.url.split_once("://").unwrap().1;
    rest.find('/').map_or("/", |at| &rest[at..])
}

pub(crate) fn says(status: u16, headers: &[(&'static str, &str)], body: impl AsRef<[u8]>) -> Said {
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

/// What a registry answers to a question over the network.
pub(crate) fn answer(registry: &TestRegistry<Watched>, question: &Asked) -> Said {
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

pub(crate) fn get(registry: &TestRegistry<Watched>, path: &str) -> Answer {
    ask(registry, &Ask::new(&format!("GET {path}")))
}

pub(crate) fn text(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

pub(crate) fn json_of(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_else(|_| panic!("{}", text(answer)))
}
