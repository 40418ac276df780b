//! The edge: Strata as a Cloudflare Worker.
//!
//! It hands the core what it asks for — a store on R2, streams, time, randomness — and turns requests and responses from one
//! form into the other. What a registry does is decided in the core.

use std::{cell::RefCell, rc::Rc};

use strata::{
    registry::{self, Registry},
    settings::{ParseSettingsError, Settings},
    store::retry::Retry,
};
use worker::{Context, Env, ScheduleContext, ScheduledEvent, event};

use crate::{host::Edge, r2::Bucket};

mod clock;
mod host;
mod http;
mod parts;
mod r2;
mod stream;

type EdgeRegistry = Registry<Retry<Bucket, Edge>, Edge>;

thread_local! {
    /// One registry an isolate: settings are read and parsed once.
    static REGISTRY: RefCell<Option<Rc<EdgeRegistry>>> = const { RefCell::new(None) };
}

fn registry(env: &Env) -> Result<Rc<EdgeRegistry>, ParseSettingsError> {
    REGISTRY.with_borrow_mut(|registry| {
        if let Some(registry) = registry {
            return Ok(registry.clone());
        }
        let settings = Settings::parse(|name| env.var(name).ok().map(|value| value.to_string()))?;
        let made = Rc::new(Registry::new(
            Retry::new(Bucket::of(env, "BUCKET"), Edge),
            Edge,
            settings,
        ));
        *registry = Some(made.clone());
        Ok(made)
    })
}

#[event(fetch)]
async fn fetch(
    request: web_sys::Request,
    env: Env,
    _context: Context,
) -> worker::Result<web_sys::Response> {
    let response = match registry(&env) {
        Ok(registry) => registry.answer(http::request(&request)?).await,
        Err(error) => registry::refuse(&error),
    };
    Ok(http::response(response)?)
}

#[event(scheduled)]
async fn scheduled(_event: ScheduledEvent, env: Env, _context: ScheduleContext) {
    match registry(&env) {
        Ok(registry) => registry.check().await,
        Err(error) => worker::console_error!("{error}"),
    }
}
