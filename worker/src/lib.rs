//! The edge: Strata as a Cloudflare Worker.
//!
//! It hands the core what it asks for — a store on R2, streams, time, randomness — and turns requests and responses from one
//! form into the other. What a registry does is decided in the core.

use std::{cell::RefCell, rc::Rc};

use js_sys::{Promise, Reflect};
use strata::{
    registry::{self, Registry},
    settings::{ParseSettingsError, Settings},
    store::retry::Retry,
};
use wasm_bindgen::{JsValue, prelude::wasm_bindgen};
use web_sys::{Request, Response, console};

use crate::{host::Edge, r2::Bucket};

mod clock;
mod host;
mod http;
mod panics;
mod parts;
mod r2;
mod stream;

#[wasm_bindgen]
extern "C" {
    /// What the platform lends for one event.
    #[derive(Debug)]
    pub type Context;

    /// Keeps the isolate at work on a promise after the event was answered.
    #[wasm_bindgen(method, js_name = waitUntil)]
    pub fn wait_until(this: &Context, promise: &Promise);
}

type EdgeRegistry = Registry<Retry<Bucket, Edge>, Edge>;

thread_local! {
    /// One registry an isolate: settings are read and parsed once.
    static REGISTRY: RefCell<Option<Rc<EdgeRegistry>>> = const { RefCell::new(None) };
}

fn registry(env: &JsValue) -> Result<Rc<EdgeRegistry>, ParseSettingsError> {
    REGISTRY.with_borrow_mut(|registry| {
        if let Some(registry) = registry {
            return Ok(registry.clone());
        }
        let settings = Settings::parse(|name| Reflect::get(env, &name.into()).ok()?.as_string())?;
        let made = Rc::new(Registry::new(
            Retry::new(Bucket::of(env, "BUCKET"), Edge),
            Edge,
            settings,
        ));
        *registry = Some(made.clone());
        Ok(made)
    })
}

/// Answers a request. Called by `shim.js`, as everything here that is exported.
///
/// # Errors
///
/// Those that the platform throws at reading the request or making the response.
#[wasm_bindgen]
pub async fn fetch(request: Request, env: JsValue, _context: Context) -> Result<Response, JsValue> {
    let response = match registry(&env) {
        Ok(registry) => registry.answer(http::request(&request)?).await,
        Err(error) => registry::refuse(&error),
    };
    http::response(response)
}

/// Does what is due by the clock.
#[wasm_bindgen]
pub async fn scheduled(_controller: JsValue, env: JsValue, _context: Context) {
    match registry(&env) {
        Ok(registry) => registry.check().await,
        Err(error) => console::error_1(&error.to_string().into()),
    }
}
