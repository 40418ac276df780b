//! The cold tier on R2.
//!
//! <https://developers.cloudflare.com/r2/api/workers/workers-api-reference/>

use strata::{
    digest::Algorithm,
    range::ByteRange,
    store::{
        self, Condition, Content, Cursor, ListOptions, ListStart, Meta, Object, Objects, Page,
        Piece, PutOptions, Received, StoreError,
    },
    time::Timestamp,
};
use wasm_bindgen::{JsCast as _, JsValue};
use web_sys::ReadableStream;
use worker::{Conditional, Data, Env, Include, Range, ResponseBody, worker_sys::R2Bucket};

use crate::{
    binding,
    bytes::Bytes,
    failure::failed,
    host::Edge,
    multipart::{ObjectWriter, put_view},
    reader::reader,
    stream as streams,
};

/// The field of an object's metadata that holds the core's metadata.
const METADATA: &str = "strata";

/// The field of the stamp.
const STAMP: &str = "stamp";

/// A bucket, or the reason for its absence.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    found: Result<worker::Bucket, StoreError>,
    edge: Edge,
}

impl Bucket {
    /// The bucket that is bound to a name. If there is none, each use fails with the reason.
    pub(crate) fn of(env: &Env, name: &str, edge: Edge) -> Self {
        let found = binding::require(env, name, "R2 bucket", Env::bucket);
        Self {
            found: found.map_err(StoreError::Failed),
            edge,
        }
    }

    fn bucket(&self) -> Result<&worker::Bucket, StoreError> {
        self.found.as_ref().map_err(StoreError::clone)
    }

    /// The binding itself, for bytes in JavaScript's memory. [`Data`] has no variant for them, and
    /// would copy them through wasm's memory.
    fn binding(&self) -> Result<&R2Bucket, StoreError> {
        let binding: &JsValue = self.bucket()?.as_ref();
        Ok(binding.unchecked_ref())
    }

    async fn open(
        &self,
        key: &str,
        range: Option<ByteRange>,
    ) -> Result<Option<Object<ReadableStream>>, StoreError> {
        let mut get = self.bucket()?.get(key);
        if let Some(range) = range {
            get = get.range(Range::OffsetWithLength {
                offset: range.first(),
                length: range.length(),
            });
        }
        let Some(object) = get.execute().await.map_err(failed)? else {
            return Ok(None);
        };
        let body = object.body().map(worker::ObjectBody::response_body);
        let Some(ResponseBody::Stream(body)) = body.transpose().map_err(failed)? else {
            return Err(StoreError::Failed(format!(
                "R2 returned {key} without a body"
            )));
        };
        Ok(Some(Object {
            meta: meta(&object)?,
            body,
        }))
    }
}

impl Objects for Bucket {
    type Body = ReadableStream;
    type Bytes = Bytes;

    async fn head(&self, key: &str) -> Result<Option<Meta>, StoreError> {
        let found = self.bucket()?.head(key).await.map_err(failed)?;
        found.as_ref().map(meta).transpose()
    }

    async fn get(
        &self,
        key: &str,
        range: Option<ByteRange>,
    ) -> Result<Option<Object<ReadableStream>>, StoreError> {
        self.open(key, range).await
    }

    async fn put(
        &self,
        key: &str,
        content: Content<ReadableStream, Bytes>,
        options: PutOptions<'_>,
    ) -> Result<Option<Meta>, StoreError> {
        let value = match content {
            Content::Bytes(bytes) => Data::Bytes(bytes),
            Content::Held(bytes) if is_plain(&options) => {
                let written = put_view(self.binding()?, key, &bytes.view).await?;
                return Ok(Some(written));
            }
            Content::Held(bytes) => {
                let length = store::Bytes::len(&bytes);
                let pieces = vec![Piece::Held(bytes)];
                Data::ReadableStream(streams::concatenate(pieces, length))
            }
            // The platform knows the length of a request's body, if the client announced it.
            Content::Stream(body, _) => Data::ReadableStream(body),
        };
        let PutOptions {
            condition,
            digest,
            metadata,
            stamp,
        } = options;
        let mut put = self.bucket()?.put(key, value);
        let field = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        if !stamp.is_empty() {
            put = put.custom_metadata([field(METADATA, metadata), field(STAMP, stamp)]);
        } else if !metadata.is_empty() {
            put = put.custom_metadata([field(METADATA, metadata)]);
        }
        put = match condition {
            Condition::Always => put,
            Condition::Absent => put.only_if(Conditional {
                etag_does_not_match: Some("*".to_owned()),
                ..Conditional::default()
            }),
            Condition::Matches(etag) => put.only_if(Conditional {
                etag_matches: Some(etag.to_owned()),
                ..Conditional::default()
            }),
        };
        if let Some(digest) = digest {
            put = match digest.algorithm() {
                Algorithm::Sha256 => put.sha256(digest.hash()),
                Algorithm::Sha512 => put.sha512(digest.hash()),
            };
        }
        let Some(written) = put.execute().await.map_err(failed)? else {
            return Ok(None);
        };
        // Reading the metadata takes seven crossings, and it equals the written one.
        Ok(Some(Meta {
            metadata: metadata.to_owned(),
            stamp: stamp.to_owned(),
            ..without_metadata(&written)
        }))
    }

    async fn list(&self, prefix: &str, options: ListOptions<'_>) -> Result<Page, StoreError> {
        let ListOptions {
            start,
            limit,
            metadata,
        } = options;
        let mut list = self.bucket()?.list().prefix(prefix).limit(limit);
        if metadata {
            list = list.include(vec![Include::CustomMetadata]);
        }
        list = match start {
            ListStart::First => list,
            ListStart::After(key) => list.start_after(key),
            ListStart::Cursor(Cursor(cursor)) => list.cursor(cursor),
        };
        let page = list.execute().await.map_err(failed)?;
        let objects = page
            .objects()
            .iter()
            .map(|object| {
                // Objects that are listed without metadata must not be asked for it.
                let meta = if metadata {
                    meta(object)?
                } else {
                    without_metadata(object)
                };
                Ok((object.key(), meta))
            })
            .collect::<Result<_, StoreError>>()?;
        let next = page.cursor().map(Cursor).filter(|_| page.truncated());
        if page.truncated() && next.is_none() {
            return Err(StoreError::Failed(
                "a truncated page has no cursor".to_owned(),
            ));
        }
        Ok(Page { objects, next })
    }

    async fn delete(&self, keys: &[String]) -> Result<(), StoreError> {
        let keys = keys.iter().map(String::as_str).collect();
        let deleted = self.bucket()?.delete_multiple(keys).await;
        deleted.map_err(failed)
    }

    async fn receive(
        &self,
        key: &str,
        body: ReadableStream,
        algorithm: Algorithm,
    ) -> Result<Received, StoreError> {
        let reader = reader(&body)?;
        let writer = ObjectWriter {
            bucket: self.binding()?,
            edge: &self.edge,
            key,
        };
        let received = writer.receive(&reader, algorithm).await;
        if received.is_err() {
            reader.give_up().await;
        }
        received
    }
}

fn meta(object: &worker::Object) -> Result<Meta, StoreError> {
    let mut metadata = object.custom_metadata().map_err(failed)?;
    Ok(Meta {
        metadata: metadata.remove(METADATA).unwrap_or_default(),
        stamp: metadata.remove(STAMP).unwrap_or_default(),
        ..without_metadata(object)
    })
}

fn without_metadata(object: &worker::Object) -> Meta {
    Meta {
        size: object.size(),
        etag: object.etag(),
        uploaded: Timestamp(object.uploaded().as_millis()),
        metadata: String::new(),
        stamp: String::new(),
    }
}

/// Whether a write is unconditional and has only bytes.
fn is_plain(options: &PutOptions<'_>) -> bool {
    options.condition == Condition::Always
        && options.digest.is_none()
        && options.metadata.is_empty()
}
