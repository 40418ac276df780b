//! Futures on their way to JavaScript.

use futures_util::FutureExt as _;
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::future_to_promise;

/// What comes of a future: at once where nothing has to be waited for, else as a promise. A promise costs a task, turns of
/// the platform's queue and its book-keeping, more than all else that a request without a store takes.
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
