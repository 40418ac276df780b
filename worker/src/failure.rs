//! Errors and promises of JavaScript, translated for the core.

use js_sys::Promise;
use strata::store::StoreError;
use wasm_bindgen::{JsCast as _, JsValue};
use wasm_bindgen_futures::JsFuture;

/// Translates an error of a store, by the number at the end of R2's messages.
///
/// The errors of `worker` convert back to the JavaScript error that they were made from.
///
/// <https://developers.cloudflare.com/r2/api/error-codes/>
pub(crate) fn failed(error: impl Into<JsValue>) -> StoreError {
    let text = describe(error);
    if text.contains("(10037)") {
        StoreError::Digest
    } else if text.contains("(10058)") || text.contains("(429)") {
        StoreError::Throttled(text)
    } else {
        StoreError::Failed(text)
    }
}

/// The text of an error.
pub(crate) fn describe(error: impl Into<JsValue>) -> String {
    let error = error.into();
    let message = error
        .dyn_ref::<js_sys::Error>()
        .map(|error| String::from(error.message()));
    message
        .or_else(|| error.as_string())
        .unwrap_or_else(|| format!("{error:?}"))
}

/// Awaits the promise of a call.
pub(crate) async fn settled(promise: Result<Promise, JsValue>) -> Result<JsValue, StoreError> {
    JsFuture::from(promise.map_err(failed)?)
        .await
        .map_err(failed)
}
