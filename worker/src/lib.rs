//! The edge: Strata as a Cloudflare Worker.
//!
//! It hands the core what it asks for — a store on R2, streams, time, randomness — and turns requests and responses from one
//! form into the other. What a registry does is decided in the core.

use std::{cell::RefCell, error::Error, rc::Rc};

use js_sys::{JSON, Promise, Reflect};
use strata::{
    host::{Host as _, Level},
    metrics::Metrics,
    platform::Composed,
    registry::{self, Registry},
    settings::Settings,
    store::{counted::Counted, retry::Retry},
};
use wasm_bindgen::{JsValue, prelude::wasm_bindgen};
use wasm_bindgen_futures::future_to_promise;
use web_sys::{Request, console};

use crate::{host::Edge, kv::Namespace, r2::Bucket};

mod bytes;
mod clock;
mod host;
mod http;
mod kv;
mod panics;
mod parts;
mod promise;
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

type Cold = Retry<Counted<Bucket>, Edge>;
type EdgeRegistry = Registry<Composed<Cold, Counted<Namespace>, Edge>>;

thread_local! {
    /// One registry an isolate: settings are read and parsed once.
    static REGISTRY: RefCell<Option<Rc<EdgeRegistry>>> = const { RefCell::new(None) };
}

fn registry(env: &JsValue) -> Result<Rc<EdgeRegistry>, Box<dyn Error>> {
    REGISTRY.with_borrow_mut(|registry| {
        if let Some(registry) = registry {
            return Ok(registry.clone());
        }
        let edge = Edge::of(env);
        let settings = Settings::parse(|name| setting(env, name)).inspect_err(|error| {
            // Clients hear the name of the setting only.
            let fields = [("setting", error.name()), ("problem", error.problem())];
            edge.log(Level::Error, "setting refused", &fields);
        })?;
        let metrics = Rc::new(Metrics::new()?);
        let cold = Counted::new(Bucket::of(env, "BUCKET"), metrics.clone());
        let warm = Counted::new(Namespace::of(env, "WARM"), metrics.clone());
        let cold = Retry::new(cold, edge.clone());
        let ledger = parts::ledger();
        let made = Registry::with_ledger(cold, warm, edge, settings, metrics, ledger);
        let made = Rc::new(made);
        *registry = Some(made.clone());
        Ok(made)
    })
}

/// A setting as text. One that is not text, but a table of the configuration, is read as the JSON that it is.
fn setting(env: &JsValue, name: &str) -> Option<String> {
    let value = Reflect::get(env, &name.into()).ok()?;
    value
        .as_string()
        .or_else(|| JSON::stringify(&value).ok()?.as_string())
}

/// Answers a request, with a response or the promise of one. Called by `shim.js`, as everything here that is exported.
///
/// # Errors
///
/// Those that the platform throws at reading the request or making the response.
#[wasm_bindgen]
pub fn fetch(request: Request, env: JsValue, context: Context) -> Result<JsValue, JsValue> {
    promise::outcome(async move {
        let registry = match registry(&env) {
            Ok(registry) => registry,
            Err(error) => {
                return http::response(registry::refuse(&error)).map(JsValue::from);
            }
        };
        let (response, after) = registry.answer(http::request(&request)?).await;
        if !after.is_nothing() {
            let finish = async move {
                registry.finish(after).await;
                Ok(JsValue::UNDEFINED)
            };
            context.wait_until(&future_to_promise(finish));
        }
        http::response(response).map(JsValue::from)
    })
}

/// Does what is due by the clock.
#[wasm_bindgen]
pub async fn scheduled(_controller: JsValue, env: JsValue, _context: Context) {
    match registry(&env) {
        Ok(registry) => registry.tick().await,
        Err(error) => console::error_1(&error.to_string().into()),
    }
}
