//! What a panic says before the instance ends by it: the platform by itself tells of an `unreachable` and no more.

use std::panic;

use wasm_bindgen::prelude::wasm_bindgen;
use web_sys::console;

#[wasm_bindgen(start, private)]
fn start() {
    panic::set_hook(Box::new(|panic| {
        console::error_1(&panic.to_string().into());
    }));
}
