//! The core's reading of layers, under names that JavaScript calls it by.
//!
//! What there is to decide is decided in the core. Here numbers are looked at on their way in, and listings become JSON on
//! their way out.

use wasm_bindgen::{JsValue, prelude::wasm_bindgen};

pub mod analysis;
pub mod layer;
pub mod number;

/// The number of bytes of the module's memory, which never shrinks.
#[wasm_bindgen(js_name = memorySize)]
pub fn memory_size() -> f64 {
    let memory: js_sys::WebAssembly::Memory = JsValue::into(wasm_bindgen::memory());
    let buffer: js_sys::ArrayBuffer = JsValue::into(memory.buffer());
    number::outward(buffer.byte_length().into())
}

#[cfg(test)]
mod tests;
