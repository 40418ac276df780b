//! Every function of JavaScript that the Worker declares by hand, each with the gap that it fills.
//!
//! All else is reached through `worker`, `worker-sys`, `web-sys` and `js-sys`.

use js_sys::{Array, Promise, Uint8Array};
use wasm_bindgen::{JsValue, prelude::wasm_bindgen};
use web_sys::{
    ReadableStream, ReadableStreamByobReader, ReadableStreamGetReaderOptions, ReadableWritablePair,
    Request, Response,
};

// `worker` extends an event through its context, which a store does not have when it makes a
// stream.
#[wasm_bindgen(module = "cloudflare:workers")]
extern "C" {
    /// Keeps the current event running until a promise is settled.
    #[wasm_bindgen(js_name = waitUntil)]
    pub(crate) fn wait_until(promise: &Promise);
}

// `worker` and `web-sys` read and write headers one by one. One crossing for each took a quarter of
// the time of a request that needs no store. The build puts http.js beside the glue.
#[wasm_bindgen(raw_module = "./http.js")]
extern "C" {
    /// Method, URL and the named headers of a request.
    #[wasm_bindgen(catch)]
    pub(crate) fn read(request: &Request, names: &Array) -> Result<String, JsValue>;

    /// A response with these headers.
    #[wasm_bindgen(catch)]
    pub(crate) fn respond(status: u16, head: &str, body: &JsValue) -> Result<Response, JsValue>;
}

#[wasm_bindgen]
extern "C" {
    /// A stream whose `getReader` returns its error. That of `web-sys` throws it, and an exception
    /// ends the instance: a locked stream would end all requests.
    #[wasm_bindgen(extends = ReadableStream)]
    pub(crate) type Lockable;

    #[wasm_bindgen(method, catch, js_name = getReader)]
    pub(crate) fn lock(
        this: &Lockable,
        options: &ReadableStreamGetReaderOptions,
    ) -> Result<Reader, JsValue>;

    /// A reader with `readAtLeast`, which only this platform has: a read that fills its buffer.
    ///
    /// <https://developers.cloudflare.com/workers/runtime-apis/streams/readablestreambyobreader/>
    #[wasm_bindgen(extends = ReadableStreamByobReader)]
    pub(crate) type Reader;

    #[wasm_bindgen(method, catch, js_name = readAtLeast)]
    pub(crate) async fn read_at_least(
        this: &Reader,
        bytes: u32,
        view: Uint8Array,
    ) -> Result<JsValue, JsValue>;

    /// The result of a read. In `web-sys` its value is of any type, and a check for its absence
    /// takes a second crossing.
    pub(crate) type Read;

    #[wasm_bindgen(method, getter)]
    pub(crate) fn value(this: &Read) -> Option<Uint8Array>;
}

// `web-sys` has these two only with an unstable flag of the compiler.
#[wasm_bindgen]
extern "C" {
    /// <https://developers.cloudflare.com/workers/runtime-apis/web-standards/#compression-streams>
    #[wasm_bindgen(extends = ReadableWritablePair)]
    pub(crate) type CompressionStream;

    #[wasm_bindgen(constructor)]
    pub(crate) fn new(format: &str) -> CompressionStream;

    #[wasm_bindgen(extends = ReadableWritablePair)]
    pub(crate) type DecompressionStream;

    #[wasm_bindgen(constructor)]
    pub(crate) fn new(format: &str) -> DecompressionStream;
}

// `web-sys` reaches these through the global scope, by two or three more crossings for each call.
// All requests make the first call, and all reads of KV the second.
#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = crypto, js_name = getRandomValues)]
    pub(crate) fn random(bytes: &mut [u8]);

    #[wasm_bindgen(catch, js_namespace = ["crypto", "subtle"], js_name = digest)]
    pub(crate) async fn hash(algorithm: &str, data: &Uint8Array) -> Result<JsValue, JsValue>;
}
