//! The cold tier on R2.
//!
//! <https://developers.cloudflare.com/r2/api/workers/workers-api-reference/>

use futures_util::future::{join, try_join};
use js_sys::{Promise, Uint8Array};
use strata::{
    digest::Algorithm,
    range::ByteRange,
    store::{
        self, Condition, Content, Hasher as _, ListOptions, Meta, Object, Objects, Page, Piece,
        PutOptions, Received, StoreError,
    },
    time::Timestamp,
};
use wasm_bindgen::{JsCast as _, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::ReadableStream;
use worker::{
    Conditional, Data, Date, Env, Include, Range, ResponseBody,
    worker_sys::{R2Bucket, R2MultipartUpload, R2Object},
};

use crate::{
    binding,
    bytes::Bytes,
    failure::failed,
    parts::{PART, Part},
    platform::Reader,
    reader::reader,
    stream::{self as streams, Hasher},
};

/// The field of an object's metadata that holds the core's metadata.
const METADATA: &str = "strata";

/// A bucket, or the reason for its absence.
#[derive(Clone, Debug)]
pub(crate) struct Bucket(Result<worker::Bucket, StoreError>);

impl Bucket {
    /// The bucket that is bound to a name. If there is none, each use fails with the reason.
    pub(crate) fn of(env: &Env, name: &str) -> Self {
        Self(binding::require(env, name, "R2 bucket", Env::bucket).map_err(StoreError::Failed))
    }

    fn bucket(&self) -> Result<&worker::Bucket, StoreError> {
        self.0.as_ref().map_err(StoreError::clone)
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

    /// Writes a view as an object without metadata, and replaces an existing one.
    async fn put_view(&self, key: &str, view: &Uint8Array) -> Result<Meta, StoreError> {
        let options = JsValue::UNDEFINED;
        let put = self.binding()?.put(key.to_owned(), view.into(), options);
        let written: R2Object = settled(put).await?.unchecked_into();
        Ok(Meta {
            size: u64::from(view.byte_length()),
            etag: written.etag().map_err(failed)?,
            uploaded: Timestamp(Date::from(written.uploaded().map_err(failed)?).as_millis()),
            metadata: String::new(),
        })
    }

    /// Writes a stream in equal parts, of which the first has been read already. While one is
    /// hashed and uploaded, the next is read, if a second buffer is free.
    async fn receive_parts(
        upload: &R2MultipartUpload,
        reader: &Reader,
        hasher: &Hasher,
        first: (Part, Uint8Array),
    ) -> Result<(Vec<JsValue>, u64), StoreError> {
        let land = async |number: u16, mut part: Part, view: Uint8Array| {
            let uploaded = settled(upload.upload_part(number, JsValue::from(&view)));
            let (uploaded, ()) = try_join(uploaded, hasher.update_view(&view)).await?;
            part.restore(&view);
            Ok::<_, StoreError>((uploaded, part))
        };
        let mut uploaded = Vec::new();
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
                        uploaded.push(done);
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
            let (view, landed) = join(reader.fill(part.lend(), PART), landed).await;
            if let Some((done, part)) = landed? {
                uploaded.push(done);
                spare = Some(part);
            }
            let view = view?;
            if view.byte_length() == 0 {
                part.restore(&view);
                return Ok((uploaded, size));
            }
            size += u64::from(view.byte_length());
            // R2 refuses a part long before this: it accepts 10,000.
            number = number.checked_add(1).ok_or(StoreError::Length)?;
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
        let view = reader.fill(part.lend(), PART).await?;
        let hasher = Hasher::new(algorithm)?;
        if view.byte_length() < PART {
            hasher.update_view(&view).await?;
            let digest = hasher.finish().await?;
            let size = u64::from(view.byte_length());
            if size > 0 {
                self.put_view(key, &view).await?;
            }
            part.restore(&view);
            return Ok(Received {
                size,
                digest,
                writes: u64::from(size > 0),
            });
        }
        // A handle of the `worker` crate is consumed by its completion, and could not abort after
        // that.
        let binding = self.binding()?;
        let upload = settled(binding.create_multipart_upload(key.to_owned(), JsValue::UNDEFINED));
        let upload: R2MultipartUpload = upload.await?.unchecked_into();
        let received = async {
            let (parts, size) = Self::receive_parts(&upload, reader, &hasher, (part, view)).await?;
            let digest = hasher.finish().await?;
            // Its creation, its parts, and its completion.
            let writes = parts.len() as u64 + 2;
            settled(upload.complete(parts)).await?;
            Ok(Received {
                size,
                digest,
                writes,
            })
        };
        let received = received.await;
        if received.is_err() {
            // If the abort fails, R2 aborts the upload after seven days.
            let _ = settled(upload.abort()).await;
        }
        received
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
                return self.put_view(key, &bytes.view).await.map(Some);
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
        } = options;
        let mut put = self.bucket()?.put(key, value);
        if !metadata.is_empty() {
            put = put.custom_metadata([(METADATA.to_owned(), metadata.to_owned())]);
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
            ..without_metadata(&written)
        }))
    }

    async fn list(&self, prefix: &str, options: ListOptions<'_>) -> Result<Page, StoreError> {
        let ListOptions {
            after,
            limit,
            metadata,
        } = options;
        let mut list = self.bucket()?.list().prefix(prefix).limit(limit);
        if metadata {
            list = list.include(vec![Include::CustomMetadata]);
        }
        if let Some(after) = after {
            list = list.start_after(after);
        }
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
        Ok(Page {
            objects,
            truncated: page.truncated(),
        })
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
        let received = self.receive_all(key, &reader, algorithm).await;
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
        ..without_metadata(object)
    })
}

fn without_metadata(object: &worker::Object) -> Meta {
    Meta {
        size: object.size(),
        etag: object.etag(),
        uploaded: Timestamp(object.uploaded().as_millis()),
        metadata: String::new(),
    }
}

/// Whether a write is unconditional and has only bytes.
fn is_plain(options: &PutOptions<'_>) -> bool {
    options.condition == Condition::Always
        && options.digest.is_none()
        && options.metadata.is_empty()
}

/// Awaits the promise of a call.
async fn settled(promise: Result<Promise, JsValue>) -> Result<JsValue, StoreError> {
    JsFuture::from(promise.map_err(failed)?)
        .await
        .map_err(failed)
}
