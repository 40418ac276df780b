//! The cold tier on R2.
//!
//! <https://developers.cloudflare.com/r2/api/workers/workers-api-reference/>

use futures_util::{
    StreamExt as _,
    future::{join, try_join},
    stream::{self, LocalBoxStream},
};
use js_sys::{Array, Date, Object as JsObject, Promise, Reflect, Uint8Array};
use strata::{
    digest::{Algorithm, Digest},
    range::ByteRange,
    store::{
        Condition, Content, Hasher as _, ListOptions, Made, Meta, Object, Objects, Page, Piece,
        PutOptions, Received, StoreError, Streams,
    },
    time::Timestamp,
};
use wasm_bindgen::{JsCast as _, JsValue, prelude::wasm_bindgen};
use wasm_bindgen_futures::future_to_promise;
use web_sys::{ReadableStream, console};

use crate::{
    bytes::Bytes,
    parts::{PART, Part},
    stream::{self as streams, Hasher, Pieces, Pipe, Reader, whole},
};

#[wasm_bindgen(module = "cloudflare:workers")]
extern "C" {
    /// Keeps the event that is being answered at work on a promise.
    #[wasm_bindgen(js_name = waitUntil)]
    fn wait_until(promise: &Promise);
}

#[wasm_bindgen]
extern "C" {
    /// The binding.
    #[derive(Clone, Debug)]
    type R2Bucket;

    #[wasm_bindgen(method, catch)]
    async fn head(this: &R2Bucket, key: &str) -> Result<JsValue, JsValue>;

    #[wasm_bindgen(method, catch)]
    async fn get(this: &R2Bucket, key: &str, options: &JsObject) -> Result<JsValue, JsValue>;

    #[wasm_bindgen(method, catch)]
    async fn put(
        this: &R2Bucket,
        key: &str,
        value: &JsValue,
        options: &JsObject,
    ) -> Result<JsValue, JsValue>;

    #[wasm_bindgen(method, catch)]
    async fn list(this: &R2Bucket, options: &JsObject) -> Result<JsValue, JsValue>;

    #[wasm_bindgen(method, catch)]
    async fn delete(this: &R2Bucket, keys: &Array) -> Result<JsValue, JsValue>;

    #[wasm_bindgen(method, catch, js_name = createMultipartUpload)]
    async fn create_multipart_upload(this: &R2Bucket, key: &str) -> Result<JsValue, JsValue>;

    /// An upload in parts.
    type R2MultipartUpload;

    #[wasm_bindgen(method, catch, js_name = uploadPart)]
    async fn upload_part(
        this: &R2MultipartUpload,
        number: u32,
        value: &Uint8Array,
    ) -> Result<JsValue, JsValue>;

    #[wasm_bindgen(method, catch)]
    async fn complete(this: &R2MultipartUpload, parts: &Array) -> Result<JsValue, JsValue>;

    #[wasm_bindgen(method, catch)]
    async fn abort(this: &R2MultipartUpload) -> Result<JsValue, JsValue>;

    /// An object, with or without its body.
    type R2Object;

    #[wasm_bindgen(method, getter)]
    fn key(this: &R2Object) -> String;

    #[wasm_bindgen(method, getter)]
    fn size(this: &R2Object) -> f64;

    #[wasm_bindgen(method, getter)]
    fn etag(this: &R2Object) -> String;

    #[wasm_bindgen(method, getter)]
    fn uploaded(this: &R2Object) -> Date;

    #[wasm_bindgen(method, getter)]
    fn body(this: &R2Object) -> ReadableStream;

    #[wasm_bindgen(method, getter, js_name = customMetadata)]
    fn custom_metadata(this: &R2Object) -> Option<Metadata>;

    /// The one field that the core's metadata is kept in.
    type Metadata;

    #[wasm_bindgen(method, getter)]
    fn strata(this: &Metadata) -> Option<String>;

    /// A page of a listing.
    type R2Objects;

    #[wasm_bindgen(method, getter)]
    fn objects(this: &R2Objects) -> Vec<R2Object>;

    #[wasm_bindgen(method, getter)]
    fn truncated(this: &R2Objects) -> bool;
}

/// A bucket.
#[derive(Clone, Debug)]
pub(crate) struct Bucket(R2Bucket);

impl Bucket {
    /// The bucket that is bound to a name. Where nothing is, its first use fails and says so.
    pub(crate) fn of(env: &JsValue, name: &str) -> Self {
        Self(
            Reflect::get(env, &name.into())
                .unwrap_or_default()
                .unchecked_into(),
        )
    }

    async fn open(
        &self,
        key: &str,
        range: Option<ByteRange>,
    ) -> Result<Option<Object<ReadableStream>>, JsValue> {
        let options = JsObject::new();
        if let Some(range) = range {
            let wanted = JsObject::new();
            set(&wanted, "offset", &number(range.first()))?;
            set(&wanted, "length", &number(range.length()))?;
            set(&options, "range", &wanted)?;
        }
        let found = self.0.get(key, &options).await?;
        if found.is_null() {
            return Ok(None);
        }
        let object: R2Object = found.unchecked_into();
        Ok(Some(Object {
            meta: meta(&object),
            body: object.body(),
        }))
    }

    /// Lets pieces flow into a pipe, one after the other.
    async fn forward(
        &self,
        mut pieces: LocalBoxStream<'static, Result<Piece<ReadableStream, Bytes>, StoreError>>,
        pipe: &Pipe,
    ) -> Result<(), JsValue> {
        while let Some(piece) = pieces.next().await {
            match piece.map_err(|error| JsValue::from(error.to_string()))? {
                Piece::Bytes(bytes) => pipe.write(&Uint8Array::from(bytes.as_slice())).await?,
                Piece::Held(bytes) => pipe.write(&bytes.0).await?,
                Piece::Stream(body) => pipe.forward(&body).await?,
                Piece::Object(key, range) => {
                    let object = self.open(&key, range).await?;
                    let object = object.ok_or_else(|| JsValue::from(format!("{key} is gone")))?;
                    pipe.forward(&object.body).await?;
                }
                Piece::Made(Made(pieces)) => Box::pin(self.forward(pieces, pipe)).await?,
            }
        }
        Ok(())
    }

    /// Writes a stream in equal parts, of which the first has been read already. While one is hashed and uploaded the
    /// next is read, if there is a second buffer to be had.
    async fn receive_parts(
        upload: &R2MultipartUpload,
        reader: &Reader,
        hasher: &Hasher,
        first: (Part, Uint8Array),
    ) -> Result<(Array, u64), StoreError> {
        let land = async |number: u32, mut part: Part, view: Uint8Array| {
            let uploaded = async {
                upload
                    .upload_part(number, &view)
                    .await
                    .map_err(|error| failed(&error))
            };
            let (uploaded, ()) = try_join(uploaded, hasher.update_view(&view)).await?;
            part.restore(&view);
            Ok::<_, StoreError>((uploaded, part))
        };
        let uploaded = Array::new();
        let mut size = u64::from(first.1.byte_length());
        let mut number = 1;
        let mut landing = Some(Box::pin(land(number, first.0, first.1)));
        let mut spare = None;
        loop {
            let mut part = match spare.take().or_else(Part::take) {
                Some(part) => part,
                None => match landing.take() {
                    Some(landing) => {
                        let (done, part) = landing.await?;
                        uploaded.push(&done);
                        part
                    }
                    None => Part::wait().await?,
                },
            };
            let landed = async {
                match landing.take() {
                    Some(landing) => landing.await.map(Some),
                    None => Ok(None),
                }
            };
            let (view, landed) = join(reader.fill(part.lend()), landed).await;
            if let Some((done, part)) = landed? {
                uploaded.push(&done);
                spare = Some(part);
            }
            let view = view?;
            if view.byte_length() == 0 {
                part.restore(&view);
                return Ok((uploaded, size));
            }
            size += u64::from(view.byte_length());
            number += 1;
            landing = Some(Box::pin(land(number, part, view)));
        }
    }

    /// Writes a stream as one object: a short one by `put`, a long one in parts.
    async fn receive_all(
        &self,
        key: &str,
        reader: &Reader,
        algorithm: Algorithm,
    ) -> Result<Received, StoreError> {
        let mut part = Part::wait().await?;
        let view = reader.fill(part.lend()).await?;
        let hasher = Hasher::new(algorithm)?;
        if view.byte_length() < PART {
            hasher.update_view(&view).await?;
            let digest = hasher.finish().await?;
            let size = u64::from(view.byte_length());
            if size > 0 {
                let stored = self.0.put(key, &view, &JsObject::new()).await;
                stored.map_err(|error| failed(&error))?;
            }
            part.restore(&view);
            return Ok(Received {
                size,
                digest,
                writes: u64::from(size > 0),
            });
        }
        let upload = self
            .0
            .create_multipart_upload(key)
            .await
            .map_err(|error| failed(&error))?;
        let upload: R2MultipartUpload = upload.unchecked_into();
        let received = async {
            let (parts, size) = Self::receive_parts(&upload, reader, &hasher, (part, view)).await?;
            let digest = hasher.finish().await?;
            upload
                .complete(&parts)
                .await
                .map_err(|error| failed(&error))?;
            // Its creation, each of its parts, its completion.
            let writes = u64::from(parts.length()) + 2;
            Ok(Received {
                size,
                digest,
                writes,
            })
        };
        let received = received.await;
        if received.is_err() {
            // What can't be aborted now, R2 aborts after seven days.
            let _ = upload.abort().await;
        }
        received
    }
}

impl Objects for Bucket {
    type Body = ReadableStream;

    async fn head(&self, key: &str) -> Result<Option<Meta>, StoreError> {
        let found = self.0.head(key).await.map_err(|error| failed(&error))?;
        Ok((!found.is_null()).then(|| meta(&found.unchecked_into())))
    }

    async fn get(
        &self,
        key: &str,
        range: Option<ByteRange>,
    ) -> Result<Option<Object<ReadableStream>>, StoreError> {
        self.open(key, range).await.map_err(|error| failed(&error))
    }

    async fn put(
        &self,
        key: &str,
        content: Content<ReadableStream>,
        options: PutOptions<'_>,
    ) -> Result<Option<Meta>, StoreError> {
        let value: JsValue = match content {
            Content::Bytes(bytes) => Uint8Array::from(bytes.as_slice()).into(),
            // The platform knows the length of a request's body, where the client announced it.
            Content::Stream(body, _) => body.into(),
        };
        let options = put_options(options).map_err(|error| failed(&error))?;
        let written = self
            .0
            .put(key, &value, &options)
            .await
            .map_err(|error| failed(&error))?;
        Ok((!written.is_null()).then(|| meta(&written.unchecked_into())))
    }

    async fn list(&self, prefix: &str, options: ListOptions<'_>) -> Result<Page, StoreError> {
        let ListOptions {
            after,
            limit,
            metadata,
        } = options;
        let list = async || {
            let options = JsObject::new();
            set(&options, "prefix", &prefix.into())?;
            set(&options, "limit", &limit.into())?;
            if metadata {
                set(&options, "include", &Array::of1(&"customMetadata".into()))?;
            }
            if let Some(after) = after {
                set(&options, "startAfter", &after.into())?;
            }
            self.0.list(&options).await
        };
        let page: R2Objects = list()
            .await
            .map_err(|error| failed(&error))?
            .unchecked_into();
        let objects = page
            .objects()
            .iter()
            .map(|object| (object.key(), meta(object)))
            .collect();
        Ok(Page {
            objects,
            truncated: page.truncated(),
        })
    }

    async fn delete(&self, keys: &[String]) -> Result<(), StoreError> {
        let keys: Array = keys.iter().map(JsValue::from).collect();
        self.0
            .delete(&keys)
            .await
            .map(drop)
            .map_err(|error| failed(&error))
    }
}

impl Streams for Bucket {
    type Bytes = Bytes;
    type Reader = Pieces;
    type Hasher = Hasher;

    async fn receive(
        &self,
        key: &str,
        body: ReadableStream,
        algorithm: Algorithm,
    ) -> Result<Received, StoreError> {
        let reader = streams::reader(&body)?;
        let received = self.receive_all(key, &reader, algorithm).await;
        if received.is_err() {
            reader.give_up().await;
        }
        received
    }

    async fn hash(
        &self,
        body: ReadableStream,
        algorithm: Algorithm,
    ) -> Result<Received, StoreError> {
        let reader = streams::reader(&body)?;
        let received = streams::hash(&reader, algorithm).await;
        if received.is_err() {
            reader.give_up().await;
        }
        received
    }

    async fn collect(
        &self,
        body: ReadableStream,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        streams::collect(&body, limit).await
    }

    async fn hold(&self, body: ReadableStream, length: u64) -> Result<Bytes, StoreError> {
        streams::hold(&body, length).await.map(Bytes::of)
    }

    async fn write(&self, key: &str, bytes: &Bytes) -> Result<(), StoreError> {
        let written = self.0.put(key, &bytes.0, &JsObject::new()).await;
        written.map(drop).map_err(|error| failed(&error))
    }

    fn hasher(&self, algorithm: Algorithm) -> Result<Hasher, StoreError> {
        Hasher::new(algorithm)
    }

    fn read(&self, body: ReadableStream) -> Result<Pieces, StoreError> {
        streams::reader(&body).map(Pieces::of)
    }

    fn concatenate(
        &self,
        pieces: Vec<Piece<ReadableStream, Bytes>>,
        length: u64,
    ) -> ReadableStream {
        let pipe = Pipe::new(length);
        let readable = pipe.readable();
        let bucket = self.clone();
        // To its end even when the client goes away: of a request that is cancelled no write ever comes back, and what makes the
        // pieces would be held for ever.
        wait_until(&future_to_promise(async move {
            let pieces = stream::iter(pieces).map(Ok).boxed_local();
            let outcome = bucket.forward(pieces, &pipe).await;
            if let Err(error) = pipe.end(outcome).await {
                let line = format!("a response was broken off: {}", describe(&error));
                console::error_1(&line.into());
            }
            Ok(JsValue::UNDEFINED)
        }));
        readable
    }

    async fn discard(&self, body: ReadableStream) {
        streams::discard(&body).await;
    }
}

fn put_options(options: PutOptions<'_>) -> Result<JsObject, JsValue> {
    let object = JsObject::new();
    if !options.metadata.is_empty() {
        let metadata = JsObject::new();
        set(&metadata, "strata", &options.metadata.into())?;
        set(&object, "customMetadata", &metadata)?;
    }
    let condition = JsObject::new();
    match options.condition {
        Condition::Always => {}
        Condition::Absent => set(&condition, "etagDoesNotMatch", &"*".into())?,
        Condition::Matches(etag) => set(&condition, "etagMatches", &etag.into())?,
    }
    if options.condition != Condition::Always {
        set(&object, "onlyIf", &condition)?;
    }
    if let Some(digest) = options.digest {
        set(
            &object,
            checksum_name(digest),
            &Uint8Array::from(digest.hash().as_slice()),
        )?;
    }
    Ok(object)
}

const fn checksum_name(digest: &Digest) -> &'static str {
    match digest.algorithm() {
        Algorithm::Sha256 => "sha256",
        Algorithm::Sha512 => "sha512",
    }
}

fn set(object: &JsObject, name: &str, value: &JsValue) -> Result<(), JsValue> {
    Reflect::set(object, &name.into(), value).map(drop)
}

fn number(value: u64) -> JsValue {
    #[expect(clippy::cast_precision_loss, reason = "offsets are smaller than 8 PiB")]
    JsValue::from_f64(value as f64)
}

fn meta(object: &R2Object) -> Meta {
    Meta {
        size: whole(object.size()),
        etag: object.etag(),
        uploaded: Timestamp(whole(object.uploaded().get_time())),
        metadata: object
            .custom_metadata()
            .and_then(|metadata| metadata.strata())
            .unwrap_or_default(),
    }
}

/// What went wrong, by the number that R2 ends its messages with.
///
/// <https://developers.cloudflare.com/r2/api/error-codes/>
pub(crate) fn failed(error: &JsValue) -> StoreError {
    let text = describe(error);
    if text.contains("(10037)") {
        StoreError::Digest
    } else if text.contains("(10058)") || text.contains("(429)") {
        StoreError::Throttled(text)
    } else {
        StoreError::Failed(text)
    }
}

/// The text of an error of JavaScript's.
pub(crate) fn describe(error: &JsValue) -> String {
    let message = error
        .dyn_ref::<js_sys::Error>()
        .map(|error| String::from(error.message()));
    message
        .or_else(|| error.as_string())
        .unwrap_or_else(|| format!("{error:?}"))
}
