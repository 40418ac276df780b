//! The edge: Strata as a Cloudflare Worker.
//!
//! It gives the core a store on R2, streams, time and randomness, and translates requests and
//! responses. All decisions of a registry are the core's.

use std::{cell::RefCell, error::Error, rc::Rc};

use js_sys::{JSON, Reflect};
use strata::{
    host::{Level, Log as _},
    metrics::Metrics,
    platform::Composed,
    registry::{self, Registry},
    settings::Settings,
    store::{counted::Counted, retry::Retry},
};
use wasm_bindgen::{JsValue, prelude::wasm_bindgen};
use web_sys::Request;
use worker::{Context, Env, ScheduleContext, ScheduledEvent, console_error, event, worker_sys};

use crate::{host::Edge, kv::Namespace, r2::Bucket};

mod binding;
mod bytes;
mod cache;
mod clock;
mod digest;
mod failure;
mod host;
mod http;
mod kv;
mod multipart;
mod parts;
mod platform;
mod promise;
mod r2;
mod reader;
mod stream;

type Cold = Retry<Counted<Bucket>, Edge>;
type EdgeRegistry = Registry<Composed<Cold, Counted<Namespace>, Edge>>;

thread_local! {
    /// One registry for each isolate: settings are read and parsed once.
    static REGISTRY: RefCell<Option<Rc<EdgeRegistry>>> = const { RefCell::new(None) };
}

fn registry(env: &Env) -> Result<Rc<EdgeRegistry>, Box<dyn Error>> {
    REGISTRY.with_borrow_mut(|registry| {
        if let Some(registry) = registry {
            return Ok(registry.clone());
        }
        let edge = Edge::of(env);
        let settings = Settings::parse(|name| setting(env, name)).inspect_err(|error| {
            // Clients see the name of the setting only.
            let fields = [("setting", error.name()), ("problem", error.problem())];
            edge.log(Level::Error, "setting refused", &fields);
        })?;
        let metrics = Rc::new(Metrics::new()?);
        let cold = Counted::new(Bucket::of(env, "BUCKET", edge.clone()), metrics.clone());
        let warm = Counted::new(Namespace::of(env, "WARM"), metrics.clone());
        let cold = Retry::new(cold, edge.clone());
        let ledger = parts::ledger();
        let made = Registry::with_ledger(cold, warm, edge, settings, metrics, ledger);
        let made = Rc::new(made);
        *registry = Some(made.clone());
        Ok(made)
    })
}

/// A setting as text. A table of the configuration is converted to JSON.
fn setting(env: &Env, name: &str) -> Option<String> {
    let value = Reflect::get(env, &name.into()).ok()?;
    value
        .as_string()
        .or_else(|| JSON::stringify(&value).ok()?.as_string())
}

/// Answers a request, with a response or the promise of one. `shim.js` calls it, as all other
/// exports.
///
/// It is not `#[event(fetch)]`, which returns a promise every time. With that, a ping took 1.94
/// times as long within the isolate, a hot manifest 1.56 times and a hot blob 1.85 times.
///
/// # Errors
///
/// The exceptions of the platform at reading the request or making the response.
#[wasm_bindgen]
pub fn fetch(request: Request, env: Env, context: worker_sys::Context) -> Result<JsValue, JsValue> {
    promise::outcome(async move {
        let registry = match registry(&env) {
            Ok(registry) => registry,
            Err(error) => {
                return http::response(registry::refuse(&error)).map(JsValue::from);
            }
        };
        let (response, after) = registry.answer(http::request(&request)?).await;
        if !after.is_nothing() {
            Context::new(context).wait_until(async move { registry.finish(after).await });
        }
        http::response(response).map(JsValue::from)
    })
}

/// Does the work that the cron trigger starts.
#[event(scheduled)]
async fn scheduled(_event: ScheduledEvent, env: Env, _context: ScheduleContext) {
    match registry(&env) {
        Ok(registry) => registry.tick().await,
        Err(error) => console_error!("{error}"),
    }
}
