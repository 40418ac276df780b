//! Streams of the platform: read in large pieces, hashed natively, put together, without passing through wasm unless they are
//! wanted there.

use js_sys::{ArrayBuffer, Object, Reflect, Uint8Array};
use strata::{
    digest::{Algorithm, Digest},
    store::{self, Hasher as _, PIECE, Received, StoreError},
};
use wasm_bindgen::{JsCast as _, JsValue, prelude::wasm_bindgen};
use web_sys::{ReadableStream, WritableStream};

use crate::{
    bytes::Bytes,
    parts::{PART, Part},
    r2::failed,
};

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(extends = Object)]
    pub(crate) type Reader;

    #[wasm_bindgen(method, catch, js_name = readAtLeast)]
    async fn read_at_least(this: &Reader, bytes: u32, view: Uint8Array)
    -> Result<JsValue, JsValue>;

    #[wasm_bindgen(method, catch)]
    async fn cancel(this: &Reader) -> Result<JsValue, JsValue>;

    /// What a reader answers.
    type Read;

    #[wasm_bindgen(method, getter)]
    fn value(this: &Read) -> Option<Uint8Array>;

    /// <https://developers.cloudflare.com/workers/runtime-apis/web-crypto/#constructors>
    #[wasm_bindgen(extends = WritableStream, js_namespace = crypto)]
    type DigestStream;

    #[wasm_bindgen(constructor, js_namespace = crypto)]
    fn new(algorithm: &str) -> DigestStream;

    #[wasm_bindgen(method, catch, getter)]
    async fn digest(this: &DigestStream) -> Result<JsValue, JsValue>;

    type Writer;

    #[wasm_bindgen(method, catch)]
    async fn write(this: &Writer, chunk: &Uint8Array) -> Result<JsValue, JsValue>;

    #[wasm_bindgen(method, catch)]
    async fn close(this: &Writer) -> Result<JsValue, JsValue>;

    #[wasm_bindgen(method, catch)]
    async fn abort(this: &Writer, reason: &JsValue) -> Result<JsValue, JsValue>;

    #[wasm_bindgen(method, js_name = releaseLock)]
    fn release_lock(this: &Writer);

    /// <https://developers.cloudflare.com/workers/runtime-apis/streams/transformstream/#fixedlengthstream>
    type FixedLengthStream;

    #[wasm_bindgen(constructor)]
    fn new(length: f64) -> FixedLengthStream;

    #[wasm_bindgen(method, getter)]
    fn readable(this: &FixedLengthStream) -> ReadableStream;

    #[wasm_bindgen(method, getter)]
    fn writable(this: &FixedLengthStream) -> WritableStream;

    /// A stream's methods that need a promise or an option that `web-sys` does not have.
    type Stream;

    #[wasm_bindgen(method, catch, js_name = getReader)]
    fn get_reader(this: &Stream, options: &Object) -> Result<Reader, JsValue>;

    #[wasm_bindgen(method, catch, js_name = getWriter)]
    fn get_writer(this: &Stream) -> Result<Writer, JsValue>;

    #[wasm_bindgen(method, catch, js_name = pipeTo)]
    async fn pipe_to(
        this: &Stream,
        writable: &WritableStream,
        options: &Object,
    ) -> Result<JsValue, JsValue>;

    #[wasm_bindgen(method, catch, js_name = cancel)]
    async fn cancel_stream(this: &Stream) -> Result<JsValue, JsValue>;
}

/// Opens a stream for reads into buffers of ours.
pub(crate) fn reader(body: &ReadableStream) -> Result<Reader, StoreError> {
    let options = Object::new();
    Reflect::set(&options, &"mode".into(), &"byob".into()).map_err(|error| failed(&error))?;
    body.unchecked_ref::<Stream>()
        .get_reader(&options)
        .map_err(|error| failed(&error))
}

impl Reader {
    /// Fills a buffer, as far as the stream goes on. The view that comes back is of the same memory; it is empty at the
    /// end of the stream.
    pub(crate) async fn fill(&self, buffer: Uint8Array) -> Result<Uint8Array, StoreError> {
        let read = self
            .read_at_least(buffer.byte_length(), buffer)
            .await
            .map_err(|error| failed(&error))?;
        Ok(read
            .unchecked_into::<Read>()
            .value()
            .unwrap_or_else(|| Uint8Array::new_with_length(0)))
    }

    /// Whether nothing more comes.
    async fn is_at_end(&self) -> Result<bool, StoreError> {
        let view = self.fill(Uint8Array::new_with_length(1)).await?;
        Ok(view.byte_length() == 0)
    }

    /// Gives the stream up.
    pub(crate) async fn give_up(&self) {
        // It may have failed already, and then there is nothing to give up.
        let _ = self.cancel().await;
    }
}

/// A stream that is read into wasm's memory, through one buffer of JavaScript's.
pub(crate) struct Pieces {
    reader: Reader,
    buffer: Option<Uint8Array>,
}

#[expect(clippy::cast_possible_truncation, reason = "it is far smaller")]
const BUFFER: u32 = PIECE as u32;

impl Pieces {
    pub(crate) const fn of(reader: Reader) -> Self {
        Self {
            reader,
            buffer: None,
        }
    }
}

impl store::Reader for Pieces {
    type Bytes = Bytes;

    async fn hold(&mut self, most: u64) -> Result<Option<Bytes>, StoreError> {
        let mut part = Part::wait().await?;
        let most = u32::try_from(most).unwrap_or(PART).min(PART);
        let view = self.reader.fill(part.lend().subarray(0, most)).await?;
        let bytes = Bytes::of_part(view, part);
        Ok((bytes.0.byte_length() > 0).then_some(bytes))
    }

    async fn next(&mut self, piece: &mut Vec<u8>) -> Result<bool, StoreError> {
        let buffer = self.buffer.take();
        let buffer = buffer.unwrap_or_else(|| Uint8Array::new_with_length(BUFFER));
        let view = self.reader.fill(buffer).await?;
        // Where there are as many bytes as last time, none is written twice.
        piece.resize(view.byte_length() as usize, 0);
        view.copy_to(piece);
        if piece.is_empty() {
            return Ok(false);
        }
        self.buffer = Some(Uint8Array::new(&view.buffer()));
        Ok(true)
    }

    async fn give_up(self) {
        self.reader.give_up().await;
    }
}

/// A hash that the platform computes as pieces are handed to it.
pub(crate) struct Hasher {
    algorithm: Algorithm,
    stream: DigestStream,
    writer: Writer,
}

impl Hasher {
    pub(crate) fn new(algorithm: Algorithm) -> Result<Self, StoreError> {
        let stream = DigestStream::new(platform_name(algorithm));
        let writer = stream
            .unchecked_ref::<Stream>()
            .get_writer()
            .map_err(|error| failed(&error))?;
        Ok(Self {
            algorithm,
            stream,
            writer,
        })
    }

    pub(crate) async fn update_view(&self, view: &Uint8Array) -> Result<(), StoreError> {
        self.writer
            .write(view)
            .await
            .map(drop)
            .map_err(|error| failed(&error))
    }
}

impl store::Hasher for Hasher {
    type Bytes = Bytes;

    async fn update(&mut self, bytes: &Bytes) -> Result<(), StoreError> {
        self.update_view(&bytes.0).await
    }

    async fn finish(self) -> Result<Digest, StoreError> {
        self.writer.close().await.map_err(|error| failed(&error))?;
        let hash = self.stream.digest().await.map_err(|error| failed(&error))?;
        digest(self.algorithm, &hash.unchecked_into())
    }
}

/// The digest that the platform has computed.
pub(crate) fn digest(algorithm: Algorithm, hash: &ArrayBuffer) -> Result<Digest, StoreError> {
    Digest::from_hash(algorithm, &Uint8Array::new(hash).to_vec()).ok_or_else(|| {
        StoreError::Failed("the platform's hash has another length than the algorithm".to_owned())
    })
}

/// Reads a stream to its end, for its digest and its length. Large reads into one buffer cost half of what the platform
/// takes to pipe a stream into its hash, and hold no more than that buffer.
pub(crate) async fn hash(reader: &Reader, algorithm: Algorithm) -> Result<Received, StoreError> {
    let hasher = Hasher::new(algorithm)?;
    let mut part = Part::wait().await?;
    let mut size = 0;
    loop {
        let view = reader.fill(part.lend()).await?;
        let length = view.byte_length();
        if length > 0 {
            hasher.update_view(&view).await?;
        }
        part.restore(&view);
        if length == 0 {
            return Ok(Received {
                size,
                digest: hasher.finish().await?,
                writes: 0,
            });
        }
        size += u64::from(length);
    }
}

pub(crate) const fn platform_name(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Sha256 => "SHA-256",
        Algorithm::Sha512 => "SHA-512",
    }
}

/// Reads a stream into wasm's memory; `None` where it has more than `limit` bytes.
pub(crate) async fn collect(
    body: &ReadableStream,
    limit: u64,
) -> Result<Option<Vec<u8>>, StoreError> {
    let reader = reader(body)?;
    let mut bytes = Vec::new();
    let mut buffer = Uint8Array::new_with_length(COLLECTED_AT_ONCE);
    loop {
        let view = reader.fill(buffer).await?;
        if view.byte_length() == 0 {
            return Ok(Some(bytes));
        }
        if bytes.len() as u64 + u64::from(view.byte_length()) > limit {
            reader.give_up().await;
            return Ok(None);
        }
        bytes.extend(view.to_vec());
        buffer = Uint8Array::new(&view.buffer());
    }
}

/// Reads a stream of this many bytes into JavaScript's memory.
pub(crate) async fn hold(body: &ReadableStream, length: u64) -> Result<Uint8Array, StoreError> {
    let length = u32::try_from(length).map_err(|_| StoreError::Length)?;
    let reader = reader(body)?;
    let mut held = Uint8Array::new_with_length(0);
    if length > 0 {
        held = reader.fill(Uint8Array::new_with_length(length)).await?;
    }
    if held.byte_length() == length && reader.is_at_end().await? {
        return Ok(held);
    }
    reader.give_up().await;
    Err(StoreError::Length)
}

/// Most manifests and all records of a few extents come in one read.
const COLLECTED_AT_ONCE: u32 = 64 * 1024;

/// Gives a stream up.
pub(crate) async fn discard(body: &ReadableStream) {
    // It may be locked or have failed, and then there is nothing to give up.
    let _ = body.unchecked_ref::<Stream>().cancel_stream().await;
}

/// The two ends of a stream of a known length.
pub(crate) struct Pipe(FixedLengthStream);

impl Pipe {
    pub(crate) fn new(length: u64) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "blobs are smaller than 8 PiB")]
        Self(FixedLengthStream::new(length as f64))
    }

    pub(crate) fn readable(&self) -> ReadableStream {
        self.0.readable()
    }

    /// Writes bytes into the stream.
    pub(crate) async fn write(&self, bytes: &Uint8Array) -> Result<(), JsValue> {
        let writable = self.0.writable();
        let writer = writable.unchecked_ref::<Stream>().get_writer()?;
        let written = writer.write(bytes).await;
        writer.release_lock();
        written.map(drop)
    }

    /// Lets another stream flow through to its end.
    pub(crate) async fn forward(&self, body: &ReadableStream) -> Result<(), JsValue> {
        let options = Object::new();
        Reflect::set(&options, &"preventClose".into(), &true.into())?;
        body.unchecked_ref::<Stream>()
            .pipe_to(&self.0.writable(), &options)
            .await
            .map(drop)
    }

    /// Ends the stream, well or with an error that its reader will see.
    pub(crate) async fn end(&self, outcome: Result<(), JsValue>) -> Result<(), JsValue> {
        let writable = self.0.writable();
        let writer = writable.unchecked_ref::<Stream>().get_writer()?;
        match outcome {
            Ok(()) => writer.close().await.map(drop),
            Err(error) => writer.abort(&error).await.map(drop),
        }
    }
}

/// A number of JavaScript's that counts bytes.
pub(crate) fn whole(number: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "sizes are whole and not negative"
    )]
    {
        number as u64
    }
}
