//! The core and nothing else, as a module: a registry in memory that gets requests byte by byte.
//! See `purity.mjs`.

use std::{
    cell::RefCell,
    future::Future,
    pin::pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use http::HeaderMap;
use strata::{
    memory::{MemoryBody, MemoryHost, MemoryObjects, MemoryPlatform, MemoryValues},
    metrics::Metrics,
    registry::{Registry, Request},
    settings::Settings,
    time::Timestamp,
};

thread_local! {
    static REQUEST: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static REGISTRY: Registry<MemoryPlatform> = registry();
}

fn registry() -> Registry<MemoryPlatform> {
    let settings = Settings::parse(|name| (name == "STRATA_USERS").then(|| USERS.to_owned()));
    let metrics = Rc::new(Metrics::new().unwrap());
    Registry::new(
        MemoryObjects::default(),
        MemoryValues::default(),
        MemoryHost::new([7; 16], Timestamp::default()),
        settings.unwrap(),
        metrics,
    )
}

/// Takes the next byte of the request: method, target and, if there is one, the body, separated by
/// spaces.
#[unsafe(no_mangle)]
pub extern "C" fn push(byte: u8) {
    REQUEST.with_borrow_mut(|request| request.push(byte));
}

/// Answers the request, as the only user, with a status.
#[unsafe(no_mangle)]
pub extern "C" fn answer() -> u16 {
    let request = String::from_utf8(REQUEST.take()).unwrap();
    let mut parts = request.splitn(3, ' ');
    let method = parts.next().unwrap().parse().unwrap();
    let target = parts.next().unwrap().to_owned();
    let body = parts.next().map(|body| body.as_bytes().to_vec());

    let mut headers = HeaderMap::new();
    headers.insert("authorization", AUTHORIZATION.parse().unwrap());
    headers.insert("content-type", MEDIA_TYPE.parse().unwrap());
    if let Some(body) = &body {
        headers.insert("content-length", body.len().into());
    }
    let request = Request {
        method,
        target,
        origin: String::new(),
        address: String::new(),
        headers,
        body: body.map(MemoryBody::Bytes),
    };
    REGISTRY.with(|registry| now(registry.answer(request)).0.status().as_u16())
}

/// Returns the output of a future that never waits.
fn now<F: Future>(future: F) -> F::Output {
    let mut context = Context::from_waker(Waker::noop());
    let Poll::Ready(output) = pin!(future).poll(&mut context) else {
        panic!("the core waits for something it was not handed");
    };
    output
}

/// A user whose password is `pure`.
const USERS: &str = r#"{"users":{"pure":"pbkdf2-sha256$1$AAAAAAAAAAAAAAAAAAAAAA$jKjbbtWl8hRQH7qxnxtx1iU79oon2ily79XnmMeoofA"}}"#;

/// The media type of the only manifests that are pushed here; blobs ignore it.
const MEDIA_TYPE: &str = "application/vnd.oci.image.index.v1+json";

/// `pure:pure`.
const AUTHORIZATION: &str = "Basic cHVyZTpwdXJl";
