//! A registry in memory.

use std::{error, rc::Rc};

use futures_util::future::join;
use http::Response;

use crate::{
    memory::{
        body::MemoryBody, host::MemoryHost, platform::MemoryPlatform, store::MemoryObjects,
        values::MemoryValues,
    },
    metrics::Metrics,
    registry::{Body, Registry, Request},
    settings::Settings,
    store::{Bytes as _, StoreError},
    time::Timestamp,
};

/// Creates a registry in memory, in which everyone may pull, push, overwrite and delete.
///
/// Its clock stands still at the Unix epoch, and its identifiers can be guessed: it is for tests.
///
/// # Errors
///
/// The errors of the settings and of the metrics. Both are constants, so there is none.
pub fn open_registry() -> Result<Registry<MemoryPlatform>, Box<dyn error::Error>> {
    let settings = Settings::parse(|name| match name {
        "STRATA_ANONYMOUS_PULL" => Some("true".to_owned()),
        "STRATA_RULES" => Some(EVERYTHING.to_owned()),
        _ => None,
    })?;
    let host = MemoryHost::new([0; 16], Timestamp(0));
    let cold = MemoryObjects::timed(host.clock().clone());
    let (warm, metrics) = (MemoryValues::default(), Rc::new(Metrics::new()?));
    Ok(Registry::new(cold, warm, host, settings, metrics))
}

/// The rules of an open registry.
const EVERYTHING: &str = r#"[{
    "repositories": ["**"],
    "who": ["everyone"],
    "may": ["pull", "push", "overwrite", "delete"]
}]"#;

/// Answers a request, reads the body of the response, and does the work that remains after it. It
/// does the part of a server for a registry in memory.
///
/// # Errors
///
/// The error with which the body breaks off.
pub async fn ask(
    registry: &Registry<MemoryPlatform>,
    request: Request<MemoryBody>,
) -> Result<Response<Vec<u8>>, StoreError> {
    let (response, after) = registry.answer(request).await;
    let (head, body) = response.into_parts();
    let read = async {
        match body {
            Body::Empty => Ok(Vec::new()),
            Body::Bytes(bytes) => Ok(bytes),
            Body::Held(bytes) => Ok(bytes.to_vec()),
            Body::Stream(body) => body.read().await,
        }
    };
    // The work that fills a body goes on while the body is read.
    let (body, ()) = join(read, registry.finish(after)).await;
    Ok(Response::from_parts(head, body?))
}
