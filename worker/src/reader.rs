//! Streams that are read into buffers of JavaScript.

use js_sys::Uint8Array;
use strata::store::StoreError;
use wasm_bindgen::JsCast as _;
use wasm_bindgen_futures::JsFuture;
use web_sys::{ReadableStream, ReadableStreamGetReaderOptions, ReadableStreamReaderMode};

use crate::{
    failure::failed,
    platform::{Lockable, Read, Reader},
};

thread_local! {
    /// The options of every reader: made once, because making them takes two crossings.
    static BYOB: ReadableStreamGetReaderOptions = {
        let options = ReadableStreamGetReaderOptions::new();
        options.set_mode(ReadableStreamReaderMode::Byob);
        options
    };
}

/// Opens a stream for reads into the caller's buffers.
pub(crate) fn reader(body: &ReadableStream) -> Result<Reader, StoreError> {
    let body = body.unchecked_ref::<Lockable>();
    BYOB.with(|options| body.lock(options)).map_err(failed)
}

impl Reader {
    /// Fills a buffer of this length, or less if the stream ends. The returned view is of the same
    /// memory. A shorter view means that the stream has ended. A stream that breaks off is an
    /// error.
    pub(crate) async fn fill(
        &self,
        buffer: Uint8Array,
        length: u32,
    ) -> Result<Uint8Array, StoreError> {
        self.fill_at_least(length, buffer).await
    }

    /// Fills at least this many bytes of a buffer, or fewer if the stream ends, and returns a view
    /// of them.
    pub(crate) async fn fill_at_least(
        &self,
        bytes: u32,
        buffer: Uint8Array,
    ) -> Result<Uint8Array, StoreError> {
        let read = self.read_at_least(bytes, buffer).await;
        let view = read.map_err(failed)?.unchecked_into::<Read>().value();
        Ok(view.unwrap_or_else(|| Uint8Array::new_with_length(0)))
    }

    /// Gives the stream up.
    pub(crate) async fn give_up(&self) {
        // It may have failed already. Then there is nothing to give up.
        let _ = JsFuture::from(self.cancel()).await;
    }
}

/// Reads a stream of this many bytes into JavaScript's memory.
pub(crate) async fn hold(body: &ReadableStream, length: u32) -> Result<Uint8Array, StoreError> {
    // With one byte more, a single read shows whether the stream is longer.
    let longer = length.checked_add(1).ok_or(StoreError::Length)?;
    let reader = reader(body)?;
    let held = reader
        .fill(Uint8Array::new_with_length(longer), longer)
        .await?;
    if held.byte_length() == length {
        return Ok(held);
    }
    reader.give_up().await;
    Err(StoreError::Length)
}
