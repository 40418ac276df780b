//! Writing a stream of unknown length into R2, in parts.
//!
//! Several parts are on their way at a time, because R2 takes a fifth of a second to two seconds
//! for one. Each part is sent again from its buffer if it fails.
//!
//! <https://developers.cloudflare.com/r2/objects/upload-objects/#multipart-upload>

use std::{cell::Cell, collections::BTreeMap, pin::pin, time::Duration};

use futures_util::{
    StreamExt as _,
    future::{Either, select, try_join},
    stream::FuturesUnordered,
};
use js_sys::{Promise, Uint8Array};
use strata::{
    digest::Algorithm,
    store::{
        Hasher as _, Meta, Received, StoreError,
        retry::{PAUSES, TIMEOUT, is_passing, repeat, within},
    },
    time::Timestamp,
};
use wasm_bindgen::{JsCast as _, JsValue};
use worker::{
    Date,
    worker_sys::{R2Bucket, R2MultipartUpload, R2Object},
};

use crate::{
    failure::{failed, settled},
    host::Edge,
    parts::{PART, Part},
    platform::Reader,
    stream::Hasher,
};

/// The most parts of one upload that are on their way. The platform lets a request wait for six
/// answers at a time.
const MAX_IN_FLIGHT: usize = 4;

/// The timeout of one attempt to write a part, or to complete an upload.
const PART_TIMEOUT: Duration = Duration::from_secs(20);

/// The back-off of each retry of a part, and of completing. They are longer than those of other
/// requests: if they are used up, the client sends everything again.
const PART_PAUSES: [Duration; 5] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_millis(1_200),
    Duration::from_secs(3),
    Duration::from_secs(6),
];

/// Writes one object.
pub(crate) struct ObjectWriter<'a> {
    pub(crate) bucket: &'a R2Bucket,
    pub(crate) edge: &'a Edge,
    pub(crate) key: &'a str,
}

/// Bytes in a part buffer, which the platform may be reading.
struct FilledPart {
    part: Part,
    view: Uint8Array,
}

/// The parts of an upload that have arrived, by their numbers, and the buffers that are free again.
#[derive(Default)]
struct Arrived {
    parts: BTreeMap<u16, JsValue>,
    idle: Vec<Part>,
}

impl Arrived {
    fn note(&mut self, (number, uploaded, part): (u16, JsValue, Option<Part>)) {
        self.parts.insert(number, uploaded);
        self.idle.extend(part);
    }
}

impl ObjectWriter<'_> {
    /// Writes a stream as one object: a short one by `put`, a long one in parts.
    pub(crate) async fn receive(
        &self,
        reader: &Reader,
        algorithm: Algorithm,
    ) -> Result<Received, StoreError> {
        let mut part = Part::wait_in_line(self.edge).await;
        let view = reader.fill(part.lend(), PART).await?;
        let first = FilledPart { part, view };
        let hasher = Hasher::new(algorithm)?;
        if first.view.byte_length() < PART {
            self.receive_short(first, hasher).await
        } else {
            self.receive_long(reader, first, hasher).await
        }
    }

    async fn receive_short(
        &self,
        filled: FilledPart,
        hasher: Hasher,
    ) -> Result<Received, StoreError> {
        let FilledPart { mut part, view } = filled;
        let size = u64::from(view.byte_length());
        hasher.update_view(&view).await?;
        let digest = hasher.finish().await?;
        if size > 0 {
            let mut is_late = false;
            let put = async || {
                let put = put_view(self.bucket, self.key, &view);
                self.timed(TIMEOUT, put, &mut is_late).await
            };
            repeat(self.edge, "put", &PAUSES, is_passing, put).await?;
            if is_late {
                part.abandon();
                return Ok(Received {
                    size,
                    digest,
                    writes: 1,
                });
            }
        }
        part.restore(&view);
        Ok(Received {
            size,
            digest,
            writes: u64::from(size > 0),
        })
    }

    async fn receive_long(
        &self,
        reader: &Reader,
        first: FilledPart,
        hasher: Hasher,
    ) -> Result<Received, StoreError> {
        let create = async || {
            let key = self.key.to_owned();
            // A handle of the `worker` crate is consumed by its completion, and could not abort
            // after that.
            let created = settled(self.bucket.create_multipart_upload(key, JsValue::UNDEFINED));
            within(self.edge, TIMEOUT, created).await
        };
        // An attempt that failed may have begun an upload. R2 aborts it after seven days.
        let upload = repeat(
            self.edge,
            "createMultipartUpload",
            &PAUSES,
            is_passing,
            create,
        )
        .await?;
        let upload: R2MultipartUpload = upload.unchecked_into();
        let received = async {
            let (parts, size) = self.send(&upload, reader, &hasher, first).await?;
            let digest = hasher.finish().await?;
            // Its creation, its parts, and its completion.
            let writes = parts.len() as u64 + 2;
            self.complete(&upload, &parts, size).await?;
            Ok(Received {
                size,
                digest,
                writes,
            })
        };
        let received = received.await;
        if received.is_err() {
            // If the abort fails, R2 aborts the upload after seven days.
            let _ = within(self.edge, TIMEOUT, settled(upload.abort())).await;
        }
        received
    }

    /// Sends a stream in equal parts, of which the first has been read already. While parts are on
    /// their way, the next one is read, if there is a buffer for it.
    async fn send(
        &self,
        upload: &R2MultipartUpload,
        reader: &Reader,
        hasher: &Hasher,
        first: FilledPart,
    ) -> Result<(Vec<JsValue>, u64), StoreError> {
        let mut arrived = Arrived::default();
        let mut in_flight = FuturesUnordered::new();
        let (mut size, mut number) = (0, 0_u16);
        let mut filled = first;
        loop {
            let length = filled.view.byte_length();
            if length == 0 {
                filled.part.restore(&filled.view);
                break;
            }
            size += u64::from(length);
            // R2 refuses a part long before this: it accepts 10,000.
            number = number.checked_add(1).ok_or(StoreError::Length)?;
            // The hash takes parts in the order of these calls.
            let hashed = hasher.begin_update(&filled.view);
            in_flight.push(self.send_part(upload, number, filled, hashed));
            if length < PART {
                break;
            }

            let mut part = loop {
                if Part::is_wanted() {
                    arrived.idle.clear();
                } else if in_flight.len() < MAX_IN_FLIGHT
                    && let Some(part) = arrived.idle.pop().or_else(Part::take_another)
                {
                    break part;
                }
                match in_flight.next().await {
                    Some(landed) => arrived.note(landed?),
                    None => break Part::wait_in_line(self.edge).await,
                }
            };
            let mut filling = pin!(reader.fill(part.lend(), PART));
            let view = loop {
                if in_flight.is_empty() {
                    break filling.await?;
                }
                match select(&mut filling, in_flight.next()).await {
                    Either::Left((view, _)) => break view?,
                    Either::Right((landed, _)) => {
                        if let Some(landed) = landed {
                            arrived.note(landed?);
                        }
                    }
                }
            };
            filled = FilledPart { part, view };
        }
        while let Some(landed) = in_flight.next().await {
            arrived.note(landed?);
        }
        Ok((arrived.parts.into_values().collect(), size))
    }

    /// Sends a part until it arrives. Returns its buffer, unless the platform may still read it.
    async fn send_part(
        &self,
        upload: &R2MultipartUpload,
        number: u16,
        filled: FilledPart,
        hashed: Promise,
    ) -> Result<(u16, JsValue, Option<Part>), StoreError> {
        let FilledPart { mut part, view } = filled;
        let mut is_late = false;
        let send = async || {
            let sent = settled(upload.upload_part(number, JsValue::from(&view)));
            self.timed(PART_TIMEOUT, sent, &mut is_late).await
        };
        let sent = repeat(self.edge, "uploadPart", &PART_PAUSES, is_passing, send);
        let (uploaded, _) = try_join(sent, settled(Ok(hashed))).await?;
        if is_late {
            part.abandon();
            return Ok((number, uploaded, None));
        }
        part.restore(&view);
        Ok((number, uploaded, Some(part)))
    }

    /// Completes an upload. If that fails, a look at the key tells whether it was done. No other
    /// upload has this key.
    async fn complete(
        &self,
        upload: &R2MultipartUpload,
        parts: &[JsValue],
        size: u64,
    ) -> Result<(), StoreError> {
        let complete = async || {
            let completed = settled(upload.complete(parts.to_vec()));
            let Err(error) = within(self.edge, PART_TIMEOUT, completed).await else {
                return Ok(());
            };
            let looked = settled(self.bucket.head(self.key.to_owned()));
            let found = within(self.edge, TIMEOUT, looked).await;
            let object = found.ok().filter(|found| !found.is_null());
            let object = object.map(JsValue::unchecked_into::<R2Object>);
            match object
                .map(|object| object.size())
                .transpose()
                .map_err(failed)?
            {
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "objects have less than 2^53 bytes"
                )]
                Some(found) if found == size as f64 => Ok(()),
                Some(_) | None => Err(error),
            }
        };
        repeat(self.edge, "complete", &PART_PAUSES, is_passing, complete).await
    }

    /// Fails an operation that is not done in time, and notes that it still reads its buffer then.
    async fn timed<T>(
        &self,
        timeout: Duration,
        operation: impl Future<Output = Result<T, StoreError>>,
        is_late: &mut bool,
    ) -> Result<T, StoreError> {
        let is_settled = Cell::new(false);
        let operation = async {
            let outcome = operation.await;
            is_settled.set(true);
            outcome
        };
        let outcome = within(self.edge, timeout, operation).await;
        *is_late |= !is_settled.get();
        outcome
    }
}

/// Writes a view as an object without metadata, and replaces an existing one.
pub(crate) async fn put_view(
    bucket: &R2Bucket,
    key: &str,
    view: &Uint8Array,
) -> Result<Meta, StoreError> {
    let put = bucket.put(key.to_owned(), view.into(), JsValue::UNDEFINED);
    let written: R2Object = settled(put).await?.unchecked_into();
    Ok(Meta {
        size: u64::from(view.byte_length()),
        etag: written.etag().map_err(failed)?,
        uploaded: Timestamp(Date::from(written.uploaded().map_err(failed)?).as_millis()),
        metadata: String::new(),
        stamp: String::new(),
    })
}
