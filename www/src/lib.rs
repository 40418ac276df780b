//! The core's reader of layers, under the names that JavaScript uses.
//!
//! All decisions are the core's. This crate checks numbers on their way in, and converts listings
//! to JSON on their way out.

use wasm_bindgen::{JsValue, prelude::wasm_bindgen};

pub mod analysis;
pub mod layer;
pub mod number;

/// Returns the bytes of the module's memory, which never shrinks.
#[wasm_bindgen(js_name = memorySize)]
pub fn memory_size() -> f64 {
    let memory: js_sys::WebAssembly::Memory = JsValue::into(wasm_bindgen::memory());
    let buffer: js_sys::ArrayBuffer = JsValue::into(memory.buffer());
    number::outward(buffer.byte_length().into())
}

#[cfg(test)]
mod tests;
