//! Bytes in the platform's memory, and its native operations on them.

use std::{fmt, rc::Rc};

use js_sys::Uint8Array;
use strata::{
    digest::{Algorithm, Digest},
    store::{self, StoreError},
};
use wasm_bindgen_futures::JsFuture;
use web_sys::{ReadableStream, ReadableWritablePair, Response};

use crate::{
    digest::{digest, platform_name},
    failure::failed,
    parts::Part,
    platform::{self, CompressionStream, DecompressionStream},
    reader,
};

/// The platform's name of RFC 1950.
const ZLIB: &str = "deflate";

/// A view of bytes that stay in JavaScript's memory. A part buffer is not written to while a clone
/// of its bytes exists.
#[derive(Clone)]
pub(crate) struct Bytes {
    pub(crate) view: Uint8Array,
    /// The length of the view, cached because it is read more often than the bytes.
    length: u32,
    part: Option<Rc<Part>>,
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bytes").field(&self.view).finish()
    }
}

impl Bytes {
    /// Makes bytes in memory of their own, with their length.
    pub(crate) const fn of(view: Uint8Array, length: u32) -> Self {
        Self {
            view,
            length,
            part: None,
        }
    }

    /// Makes bytes in a part buffer, which is free again when the last clone is dropped.
    pub(crate) fn of_part(view: Uint8Array, length: u32, mut part: Part) -> Self {
        part.restore(&view);
        Self {
            view,
            length,
            part: Some(Rc::new(part)),
        }
    }

    /// Reads all bytes of a stream.
    pub(crate) async fn read(stream: &ReadableStream) -> Result<Self, StoreError> {
        let response = Response::new_with_opt_readable_stream(Some(stream)).map_err(failed)?;
        let buffer = JsFuture::from(response.array_buffer().map_err(failed)?);
        let buffer = buffer.await.map_err(failed)?;
        let view = Uint8Array::new(&buffer);
        let length = view.byte_length();
        Ok(Self::of(view, length))
    }

    /// Reads all bytes of a stream of this length.
    pub(crate) async fn hold(stream: &ReadableStream, length: u64) -> Result<Self, StoreError> {
        let length = u32::try_from(length).map_err(|_| StoreError::Length)?;
        Ok(Self::of(reader::hold(stream, length).await?, length))
    }

    /// The bytes as a stream, through a transform.
    fn through(&self, transform: &ReadableWritablePair) -> Result<ReadableStream, StoreError> {
        let response = Response::new_with_opt_js_u8_array(Some(&self.view)).map_err(failed)?;
        let body = response.body();
        let body = body.ok_or_else(|| StoreError::Failed("bytes are no stream".to_owned()))?;
        Ok(body.pipe_through(transform))
    }
}

impl store::Bytes for Bytes {
    fn copy_from(bytes: &[u8]) -> Self {
        Self::of(Uint8Array::from(bytes), length_of(bytes))
    }

    fn to_vec(&self) -> Vec<u8> {
        self.view.to_vec()
    }

    fn len(&self) -> u64 {
        u64::from(self.length)
    }

    fn slice(&self, first: u64, end: u64) -> Self {
        let at = |offset| u32::try_from(offset).unwrap_or(u32::MAX).min(self.length);
        let (first, end) = (at(first), at(end));
        Self {
            view: self.view.subarray(first, end),
            length: end.saturating_sub(first),
            part: self.part.clone(),
        }
    }

    fn prefixed(&self, prefix: &[u8]) -> Self {
        let before = length_of(prefix);
        let length = before.saturating_add(self.length);
        let joined = Uint8Array::new_with_length(length);
        joined.set(&Uint8Array::from(prefix), 0);
        joined.set(&self.view, before);
        Self::of(joined, length)
    }

    async fn digest(&self, algorithm: Algorithm) -> Result<Digest, StoreError> {
        let hash = platform::hash(platform_name(algorithm), &self.view).await;
        digest(algorithm, &Uint8Array::new(&hash.map_err(failed)?))
    }

    async fn compress(&self) -> Result<Self, StoreError> {
        Self::read(&self.through(&CompressionStream::new(ZLIB))?).await
    }

    async fn decompress(&self, length: u64) -> Result<Self, StoreError> {
        let stream = self.through(&DecompressionStream::new(ZLIB))?;
        Self::hold(&stream, length).await
    }
}

/// The number of bytes in wasm's memory, which has addresses of 32 bits.
fn length_of(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}
