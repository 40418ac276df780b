//! Futures on their way to JavaScript.

use futures_util::FutureExt as _;
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::future_to_promise;

/// Runs a future, and returns its result at once if it need not wait, or else a promise. A promise
/// costs a task, turns of the platform's queue and its book-keeping. That is more than the rest of
/// a request without a store.
pub(crate) fn outcome<F>(future: F) -> Result<JsValue, JsValue>
where
    F: Future<Output = Result<JsValue, JsValue>> + 'static,
{
    let mut future = Box::pin(future);
    match future.as_mut().now_or_never() {
        Some(outcome) => outcome,
        None => Ok(future_to_promise(future).into()),
    }
}
