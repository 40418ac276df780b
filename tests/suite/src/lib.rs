//! The checks that every store passes, as a Worker that runs them on R2 and answers with what came of each.

use serde_json::json;
use strata::store::suite;
use worker::{Context, Env, event};

// The Worker's own files: what is checked is what is deployed.
#[path = "../../../worker/src/clock.rs"]
mod clock;
#[path = "../../../worker/src/parts.rs"]
mod parts;
#[path = "../../../worker/src/r2.rs"]
mod r2;
#[path = "../../../worker/src/stream.rs"]
mod stream;

#[event(fetch)]
async fn fetch(
    _request: web_sys::Request,
    env: Env,
    _context: Context,
) -> worker::Result<worker::Response> {
    let bucket = r2::Bucket::of(&env, "BUCKET");
    let body = |bytes: &[u8]| {
        // A response's body is a stream of the platform's own, of a length it knows: as a request's is.
        let bytes = js_sys::Uint8Array::from(bytes);
        let response = web_sys::Response::new_with_opt_js_u8_array(Some(&bytes));
        let body = response.ok().and_then(|response| response.body());
        body.unwrap_or_else(|| wasm_bindgen::throw_str("the platform made no stream of bytes"))
    };
    let outcomes = suite::run(&bucket, body, parts::PART as usize).await;
    let outcomes: Vec<_> = outcomes
        .iter()
        .map(|outcome| json!({ "name": outcome.name, "failure": outcome.result.as_ref().err() }))
        .collect();
    worker::Response::from_json(&outcomes)
}
