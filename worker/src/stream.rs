//! Streams of the platform: read in large pieces, hashed natively, and joined. They pass through
//! wasm only if their bytes are wanted there.

use std::{pin::pin, time::Duration};

use futures_util::{
    StreamExt as _,
    future::{Either, select},
};
use gloo_timers::future::sleep;
use js_sys::{BigInt, Promise, Uint8Array};
use strata::{
    digest::{Algorithm, Digest},
    store::{self, Hasher as _, Later, Made, PIECE, Piece, Received, StoreError},
};
use wasm_bindgen::{JsValue, throw_val};
use wasm_bindgen_futures::{JsFuture, future_to_promise};
use web_sys::{ReadableStream, StreamPipeOptions, WritableStreamDefaultWriter};
use worker::{
    console_error,
    crypto::{DigestStream, DigestStreamAlgorithm},
    worker_sys::FixedLengthStream,
};

use crate::{
    bytes::Bytes,
    digest::digest,
    failure::{describe, failed},
    parts::{PART, Part},
    platform::{Reader, wait_until},
    reader::reader,
};

/// A stream that is read into wasm's memory, through one buffer of JavaScript.
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
        let view = self
            .reader
            .fill(part.lend().subarray(0, most), most)
            .await?;
        let length = view.byte_length();
        let bytes = Bytes::of_part(view, length, part);
        Ok((length > 0).then_some(bytes))
    }

    async fn next(&mut self, piece: &mut Vec<u8>) -> Result<bool, StoreError> {
        let buffer = self.buffer.take();
        let buffer = buffer.unwrap_or_else(|| Uint8Array::new_with_length(BUFFER));
        let view = self.reader.fill(buffer, BUFFER).await?;
        // If the length is that of the last piece, no byte is written twice.
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

/// A hash that the platform computes piece by piece.
pub(crate) struct Hasher {
    algorithm: Algorithm,
    stream: DigestStream,
    writer: WritableStreamDefaultWriter,
}

impl Hasher {
    pub(crate) fn new(algorithm: Algorithm) -> Result<Self, StoreError> {
        let stream = DigestStream::new(match algorithm {
            Algorithm::Sha256 => DigestStreamAlgorithm::Sha256,
            Algorithm::Sha512 => DigestStreamAlgorithm::Sha512,
        });
        let writer = stream.raw().get_writer().map_err(failed)?;
        Ok(Self {
            algorithm,
            stream,
            writer,
        })
    }

    /// Adds the next bytes. They must not change before the promise is settled.
    pub(crate) fn begin_update(&self, view: &Uint8Array) -> Promise {
        self.writer.write_with_chunk(view)
    }

    pub(crate) async fn update_view(&self, view: &Uint8Array) -> Result<(), StoreError> {
        let written = JsFuture::from(self.begin_update(view)).await;
        written.map(drop).map_err(failed)
    }
}

impl store::Hasher for Hasher {
    type Bytes = Bytes;

    async fn update(&mut self, bytes: &Bytes) -> Result<(), StoreError> {
        self.update_view(&bytes.view).await
    }

    async fn finish(self) -> Result<Digest, StoreError> {
        let closed = JsFuture::from(self.writer.close()).await;
        closed.map_err(failed)?;
        let hash = self.stream.digest().await.map_err(failed)?;
        digest(self.algorithm, &hash)
    }
}

/// Reads a stream to its end, for its digest and its length. Large reads into one buffer cost half
/// as much as a pipe of the stream into the platform's hash, and need no memory beside that buffer.
pub(crate) async fn hash(reader: &Reader, algorithm: Algorithm) -> Result<Received, StoreError> {
    let hasher = Hasher::new(algorithm)?;
    let mut part = Part::wait().await?;
    let mut size = 0;
    loop {
        let view = reader.fill(part.lend(), PART).await?;
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

/// Reads a stream into wasm's memory. `None` if it has more than `limit` bytes.
pub(crate) async fn collect(
    body: &ReadableStream,
    limit: u64,
) -> Result<Option<Vec<u8>>, StoreError> {
    let reader = reader(body)?;
    let mut bytes = Vec::new();
    let mut buffer = Uint8Array::new_with_length(COLLECTED_AT_ONCE);
    loop {
        let view = reader.fill(buffer, COLLECTED_AT_ONCE).await?;
        let length = view.byte_length();
        if bytes.len() as u64 + u64::from(length) > limit {
            reader.give_up().await;
            return Ok(None);
        }
        bytes.extend(view.to_vec());
        if length < COLLECTED_AT_ONCE {
            return Ok(Some(bytes));
        }
        buffer = Uint8Array::new(&view.buffer());
    }
}

/// Most manifests and all records of a few extents fit in one read.
const COLLECTED_AT_ONCE: u32 = 64 * 1024;

/// Joins pieces into one stream of `length` bytes. Each piece is opened when its turn comes.
pub(crate) fn concatenate(
    pieces: Vec<Piece<ReadableStream, Bytes>>,
    length: u64,
) -> ReadableStream {
    let pipe = Pipe::new(length);
    let readable = pipe.readable();
    // It runs to its end even if the client goes away. The writes of a cancelled request never
    // return, so the makers of the pieces would be held for ever.
    wait_until(&future_to_promise(async move {
        let outcome = forward(pieces, &pipe).await;
        if let Err(error) = pipe.end(outcome).await {
            console_error!("a response was aborted: {}", describe(error));
        }
        Ok(JsValue::UNDEFINED)
    }));
    readable
}

/// Writes pieces into a pipe, one after the other. While one is written, the object of the next is
/// opened, so that the client does not wait for the latency of each.
///
/// An open object that is not read may be cut off. It can't be opened when few bytes of the present
/// piece are left, because those bytes pass through no code of ours. If it waits for [`MAX_IDLE`],
/// it is given up, and the rest are opened when their turns come: the client is slow, and does not
/// notice the latency.
async fn forward(pieces: Vec<Piece<ReadableStream, Bytes>>, pipe: &Pipe) -> Result<(), JsValue> {
    let mut pieces = pieces.into_iter().peekable();
    let mut ahead = None;
    let mut opens_ahead = true;
    while let Some(piece) = pieces.next() {
        let written = write(piece, ahead.take(), pipe);
        match pieces.peek() {
            Some(Piece::Later(next)) if opens_ahead => {
                let (written, opened) = write_and_open(written, next).await;
                if let (Err(_), Some(body)) = (&written, &opened) {
                    discard(body).await;
                }
                written?;
                opens_ahead = opened.is_some();
                ahead = opened;
            }
            _ => written.await?,
        }
    }
    Ok(())
}

/// Writes a piece, and opens the next one. `None` if that failed, or waited for too long.
async fn write_and_open(
    written: impl Future<Output = Result<(), JsValue>>,
    next: &Later<ReadableStream>,
) -> (Result<(), JsValue>, Option<ReadableStream>) {
    let mut written = pin!(written);
    let opened = match select(&mut written, pin!(next.open())).await {
        Either::Left((written, opening)) => return (written, opening.await.ok()),
        Either::Right((opened, _)) => opened,
    };
    let Ok(body) = opened else {
        return (written.await, None);
    };
    match select(&mut written, pin!(sleep(MAX_IDLE))).await {
        Either::Left((written, _)) => (written, Some(body)),
        Either::Right(_) => {
            discard(&body).await;
            (written.await, None)
        }
    }
}

/// The longest time for which an object that was opened ahead waits. A client that reads an extent
/// of the smallest chunk, 8 MiB, in this time has 13 Mbit/s. Buffers on the way to a slower client
/// hold the bytes of the tenth of a second that opening takes.
const MAX_IDLE: Duration = Duration::from_secs(5);

/// Writes a piece into a pipe. Items of a made piece are made when their turn comes. `ahead` is the
/// stream of the piece, if it was opened ahead.
async fn write(
    piece: Piece<ReadableStream, Bytes>,
    ahead: Option<ReadableStream>,
    pipe: &Pipe,
) -> Result<(), JsValue> {
    match piece {
        Piece::Bytes(bytes) => pipe.write(&Uint8Array::from(bytes.as_slice())).await,
        Piece::Held(bytes) => pipe.write(&bytes.view).await,
        Piece::Stream(body) => pipe.forward(&body).await,
        Piece::Later(later) => {
            if let Some(body) = ahead
                && let Ok(first) = first_bytes(&body).await
            {
                pipe.write(&first).await?;
                return pipe.forward(&body).await;
            }
            // It was not opened ahead, or has failed before its first byte.
            pipe.forward(&later.open().await.map_err(broken)?).await
        }
        Piece::Made(Made(mut items)) => {
            while let Some(item) = items.next().await {
                Box::pin(write(item.map_err(broken)?, None, pipe)).await?;
            }
            Ok(())
        }
    }
}

/// Reads the first bytes of a stream, and leaves the others in it.
async fn first_bytes(body: &ReadableStream) -> Result<Uint8Array, StoreError> {
    let reader = reader(body)?;
    let buffer = Uint8Array::new_with_length(FIRST);
    let view = reader.fill_at_least(1, buffer).await?;
    reader.release_lock();
    Ok(view)
}

/// The most bytes that are read to see whether a stream works.
const FIRST: u32 = 16 * 1024;

#[expect(clippy::needless_pass_by_value, reason = "the form that map_err wants")]
fn broken(error: StoreError) -> JsValue {
    error.to_string().into()
}

/// Gives a stream up.
pub(crate) async fn discard(body: &ReadableStream) {
    // It may be locked or have failed. Then there is nothing to give up.
    let _ = JsFuture::from(body.cancel()).await;
}

/// The two ends of a stream of a known length.
///
/// This is the platform's own stream. That of `worker` is fed from Rust, so every byte would pass
/// through wasm's memory.
pub(crate) struct Pipe(FixedLengthStream);

impl Pipe {
    pub(crate) fn new(length: u64) -> Self {
        let made = u32::try_from(length)
            .map_or_else(
                |_| FixedLengthStream::new_big_int(BigInt::from(length)),
                FixedLengthStream::new,
            )
            // No length that fits into 64 bits is refused.
            .unwrap_or_else(|error| throw_val(error));
        Self(made)
    }

    pub(crate) fn readable(&self) -> ReadableStream {
        self.0.readable()
    }

    /// Writes bytes into the stream.
    pub(crate) async fn write(&self, bytes: &Uint8Array) -> Result<(), JsValue> {
        let writer = self.0.writable().get_writer()?;
        let written = JsFuture::from(writer.write_with_chunk(bytes)).await;
        writer.release_lock();
        written.map(drop)
    }

    /// Pipes another stream into this one, up to its end.
    pub(crate) async fn forward(&self, body: &ReadableStream) -> Result<(), JsValue> {
        let options = StreamPipeOptions::new();
        options.set_prevent_close(true);
        let piped = body.pipe_to_with_options(&self.0.writable(), &options);
        JsFuture::from(piped).await.map(drop)
    }

    /// Ends the stream: closes it, or aborts it with an error that its reader sees.
    pub(crate) async fn end(&self, outcome: Result<(), JsValue>) -> Result<(), JsValue> {
        let writer = self.0.writable().get_writer()?;
        let ended = match outcome {
            Ok(()) => writer.close(),
            Err(error) => writer.abort_with_reason(&error),
        };
        JsFuture::from(ended).await.map(drop)
    }
}
