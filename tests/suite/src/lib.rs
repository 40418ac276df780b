//! The checks that every store passes, as a Worker that runs them on R2 and KV and returns the
//! outcome of each. Its other paths are the ways in which an instance ends.

use std::{
    arch::wasm32::memory_size, cell::Cell, hint::black_box, process, rc::Rc, time::Duration,
};

use futures_util::{StreamExt as _, stream::iter};
use gloo_timers::future;
use serde_json::json;
use strata::{
    platform::Composed,
    store::{Bytes as _, Made, Piece, Reader as _, StoreError, Streams as _, suite},
};
use wasm_bindgen::{JsValue, prelude::wasm_bindgen, throw_str};
use web_sys::{ReadableStream, Request, Response};
use worker::Env;

// The Worker's own files, so that the checked code is the deployed code.
#[path = "../../../worker/src/binding.rs"]
mod binding;
#[path = "../../../worker/src/bytes.rs"]
mod bytes;
#[path = "../../../worker/src/cache.rs"]
mod cache;
#[path = "../../../worker/src/clock.rs"]
mod clock;
#[path = "../../../worker/src/digest.rs"]
mod digest;
#[path = "../../../worker/src/failure.rs"]
mod failure;
#[path = "../../../worker/src/host.rs"]
mod host;
#[expect(
    dead_code,
    reason = "the host asks other servers, and nobody asks the suite"
)]
#[path = "../../../worker/src/http.rs"]
mod http;
#[path = "../../../worker/src/kv.rs"]
mod kv;
#[path = "../../../worker/src/multipart.rs"]
mod multipart;
#[path = "../../../worker/src/parts.rs"]
mod parts;
#[path = "../../../worker/src/platform.rs"]
mod platform;
#[path = "../../../worker/src/promise.rs"]
mod promise;
#[path = "../../../worker/src/r2.rs"]
mod r2;
#[path = "../../../worker/src/reader.rs"]
mod reader;
#[path = "../../../worker/src/stream.rs"]
mod stream;

/// The checked platform.
type Platform = Composed<r2::Bucket, kv::Namespace, host::Edge>;

thread_local! {
    /// How often this instance was asked to count.
    static COUNT: Cell<u32> = const { Cell::new(0) };

    /// Held by each stream that is being produced.
    static MAKERS: Rc<()> = Rc::new(());
}

/// Runs the checks, or the action that the path names; below `later/` after a wait.
///
/// # Errors
///
/// Errors of the platform, and the one that a path requests.
#[wasm_bindgen]
pub fn fetch(request: Request, env: Env, _context: JsValue) -> Result<JsValue, JsValue> {
    promise::outcome(async move {
        let url = request.url();
        if url.contains("/later/") {
            future::sleep(Duration::from_millis(10)).await;
        }
        match url.rsplit('/').next() {
            #[expect(clippy::panic, reason = "a panic is what is tested")]
            Some("panic") => panic!("asked to"),
            Some("abort") => process::abort(),
            Some("overflow") => {
                overflow(0);
            }
            Some("throw") => throw_str("thrown through Rust's frames"),
            Some("error") => return Err("refused".into()),
            Some("sleep") => future::sleep(Duration::from_secs(60)).await,
            Some("nothing") => {}
            Some("count") => {
                let count = COUNT.get() + 1;
                COUNT.set(count);
                return Response::new_with_opt_str(Some(&count.to_string())).map(Into::into);
            }
            Some(name @ ("made" | "broken")) => {
                let body = made(&env, (name == "broken").then_some(3));
                return Response::new_with_opt_readable_stream(Some(&body)).map(Into::into);
            }
            Some("long") => {
                let body = concatenated(&env, vec![Piece::Bytes(vec![7; ITEM])], 5 << 30);
                return Response::new_with_opt_readable_stream(Some(&body)).map(Into::into);
            }
            Some("locked") => {
                let host = host::Edge::of(&env);
                let body = made(&env, None);
                let _reader = host.read(body.clone());
                let text = host
                    .read(body)
                    .map_or_else(|error| error.to_string(), |_| String::new());
                return Response::new_with_opt_str(Some(&text)).map(Into::into);
            }
            Some("makers") => {
                let text = MAKERS.with(|maker| Rc::strong_count(maker) - 1).to_string();
                return Response::new_with_opt_str(Some(&text)).map(Into::into);
            }
            Some("pass") => {
                let grown = pass(&env)
                    .await
                    .map_err(|error| JsValue::from(error.to_string()))?;
                return Response::new_with_opt_str(Some(&grown.to_string())).map(Into::into);
            }
            _ => return Response::new_with_opt_str(Some(&check(&env).await)).map(Into::into),
        }
        Response::new_with_opt_str(Some("awake")).map(Into::into)
    })
}

#[expect(
    unconditional_recursion,
    reason = "a stack that overflows is what is tested"
)]
fn overflow(depth: u64) -> u64 {
    black_box(overflow(black_box(depth) + 1)) + 1
}

/// Makes a stream of 1 GiB and reads it in this instance; returns by how many bytes the memory
/// grew.
async fn pass(env: &Env) -> Result<usize, StoreError> {
    let before = memory_size::<0>();
    let mut reader = host::Edge::of(env).read(made(env, None))?;
    let mut piece = Vec::new();
    let mut length = 0;
    while reader.next(&mut piece).await? {
        length += piece.len();
    }
    if length == ITEM * ITEMS {
        // Its pages have 64 KiB.
        Ok((memory_size::<0>() - before) * 64 * 1024)
    } else {
        Err(StoreError::Length)
    }
}

/// A stream of 1 GiB that this instance produces, and that fails at one of its items.
fn made(env: &Env, broken: Option<usize>) -> ReadableStream {
    let item = vec![7; ITEM];
    let maker = MAKERS.with(Rc::clone);
    let items = iter(0..ITEMS).map(move |number| {
        let _held = &maker;
        match broken {
            Some(broken) if number == broken => Err(StoreError::Failed("asked to".to_owned())),
            _ => Ok(Piece::Held(bytes::Bytes::copy_from(&item))),
        }
    });
    let pieces = vec![Piece::Made(Made(items.boxed_local()))];
    concatenated(env, pieces, (ITEM * ITEMS) as u64)
}

fn concatenated(
    env: &Env,
    pieces: Vec<Piece<ReadableStream, bytes::Bytes>>,
    length: u64,
) -> ReadableStream {
    host::Edge::of(env).concatenate(pieces, length)
}

const ITEM: usize = 1024 * 1024;
const ITEMS: usize = 1024;

/// How many bytes of part buffers are still leased, if there are any.
fn given_back() -> Option<String> {
    let used = parts::ledger().used();
    (used > 0).then(|| format!("{used} bytes of part buffers are in use"))
}

async fn check(env: &Env) -> String {
    let bucket = Rc::new(r2::Bucket::of(env, "BUCKET", host::Edge::of(env)));
    let body = |bytes: &[u8]| {
        // The body of a response is a stream of the platform itself, of known length, like the body
        // of a request.
        let bytes = js_sys::Uint8Array::from(bytes);
        let response = Response::new_with_opt_js_u8_array(Some(&bytes));
        let body = response.ok().and_then(|response| response.body());
        body.unwrap_or_else(|| throw_str("the platform made no stream of bytes"))
    };
    let outcomes =
        suite::run::<Platform>(&bucket, &host::Edge::of(env), body, parts::PART as usize).await;
    let values = suite::run_values(&kv::Namespace::of(env, "WARM")).await;
    outcomes
        .iter()
        .chain(&values)
        .map(|outcome| json!({ "name": outcome.name, "failure": outcome.result.as_ref().err() }))
        .chain([json!({ "name": "gives_back_all_part_buffers", "failure": given_back() })])
        .collect::<serde_json::Value>()
        .to_string()
}
