//! Bytes in the platform's memory, and what it does with them natively.

use std::{fmt, rc::Rc};

use js_sys::{ArrayBuffer, Uint8Array};
use strata::{
    digest::{Algorithm, Digest},
    store::{self, StoreError},
};
use wasm_bindgen::{JsCast as _, JsValue, prelude::wasm_bindgen};
use web_sys::ReadableStream;

use crate::{
    parts::Part,
    r2::failed,
    stream::{self, platform_name},
};

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(catch, js_namespace = ["crypto", "subtle"], js_name = digest)]
    async fn hash(algorithm: &str, data: &Uint8Array) -> Result<JsValue, JsValue>;

    /// <https://developers.cloudflare.com/workers/runtime-apis/web-standards/#compression-streams>
    type CompressionStream;

    #[wasm_bindgen(constructor)]
    fn new(format: &str) -> CompressionStream;

    type DecompressionStream;

    #[wasm_bindgen(constructor)]
    fn new(format: &str) -> DecompressionStream;

    type Source;

    #[wasm_bindgen(method, js_name = pipeThrough)]
    fn pipe_through(this: &Source, transform: &JsValue) -> ReadableStream;

    type Collector;

    #[wasm_bindgen(method, catch, js_name = arrayBuffer)]
    async fn array_buffer(this: &Collector) -> Result<JsValue, JsValue>;
}

/// RFC 1950, which the platform calls so.
const ZLIB: &str = "deflate";

/// A view of bytes that stay in JavaScript's memory. Nobody writes to them, while a clone is there of those that are in a part buffer.
#[derive(Clone)]
pub(crate) struct Bytes(pub(crate) Uint8Array, Option<Rc<Part>>);

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bytes").field(&self.0).finish()
    }
}

impl Bytes {
    /// Bytes in memory of their own.
    pub(crate) const fn of(view: Uint8Array) -> Self {
        Self(view, None)
    }

    /// Bytes in a part buffer, which is free again when the last clone of them is dropped.
    pub(crate) fn of_part(view: Uint8Array, mut part: Part) -> Self {
        part.restore(&view);
        Self(view, Some(Rc::new(part)))
    }

    /// The bytes as a stream, through a transform.
    fn through(&self, transform: &JsValue) -> Result<ReadableStream, StoreError> {
        let response = web_sys::Response::new_with_opt_js_u8_array(Some(&self.0));
        let body = response.map_err(|error| failed(&error))?.body();
        let body = body.ok_or_else(|| StoreError::Failed("bytes are no stream".to_owned()))?;
        Ok(body.unchecked_ref::<Source>().pipe_through(transform))
    }
}

impl store::Bytes for Bytes {
    fn copy_from(bytes: &[u8]) -> Self {
        Self::of(Uint8Array::from(bytes))
    }

    fn to_vec(&self) -> Vec<u8> {
        self.0.to_vec()
    }

    fn len(&self) -> u64 {
        u64::from(self.0.byte_length())
    }

    fn slice(&self, first: u64, end: u64) -> Self {
        let at = |offset| u32::try_from(offset).unwrap_or(u32::MAX);
        Self(self.0.subarray(at(first), at(end)), self.1.clone())
    }

    fn prefixed(&self, prefix: &[u8]) -> Self {
        let length = u32::try_from(prefix.len()).unwrap_or(u32::MAX);
        let joined = Uint8Array::new_with_length(length.saturating_add(self.0.byte_length()));
        joined.set(&Uint8Array::from(prefix), 0);
        joined.set(&self.0, length);
        Self::of(joined)
    }

    async fn digest(&self, algorithm: Algorithm) -> Result<Digest, StoreError> {
        let hash = hash(platform_name(algorithm), &self.0).await;
        let hash: ArrayBuffer = hash.map_err(|error| failed(&error))?.unchecked_into();
        stream::digest(algorithm, &hash)
    }

    async fn compress(&self) -> Result<Self, StoreError> {
        let stream = self.through(&CompressionStream::new(ZLIB))?;
        let response = web_sys::Response::new_with_opt_readable_stream(Some(&stream));
        let response = response.map_err(|error| failed(&error))?;
        let buffer = response.unchecked_ref::<Collector>().array_buffer().await;
        let buffer = buffer.map_err(|error| failed(&error))?;
        Ok(Self::of(Uint8Array::new(&buffer)))
    }

    async fn decompress(&self, length: u64) -> Result<Self, StoreError> {
        let stream = self.through(&DecompressionStream::new(ZLIB))?;
        stream::hold(&stream, length).await.map(Self::of)
    }
}
