//! The index of a layer: opening it, and reading its blocks.

use std::{cell::RefCell, ops::Range, rc::Rc, time::Duration};

use serde_json::json;

use crate::{
    digest::Digest,
    error::{Code, Error, RETRY_AFTER},
    layer::{
        entry::Entry,
        index::{self, IndexError, Refusal, StoredIndex as Inner},
    },
    ledger::{Lease, MemoryKind},
    name::Name,
    platform::Platform,
    range::ByteRange,
    registry::inside::{
        Inside,
        layer::{Layer, Opened},
    },
    store::{
        Bytes as _, Streams as _, document::Record, key::Key, tiers::Wanted, trace::Trace,
        warm::TierContent,
    },
};

fn refused(digest: &Digest, refusal: &Refusal) -> Error {
    Error::new(Code::LayerInvalid, format!("{digest}: {}", refusal.reason))
        .with_detail(json!({ "digest": digest.to_string(), "reason": refusal.kind }))
}

fn broken(digest: &Digest, error: &impl std::fmt::Display) -> Error {
    Error::unavailable(
        format!("a part of layer {digest} could not be read"),
        Duration::from_secs(60),
    )
    .with_cause(error.to_string())
}

pub(super) fn gone(digest: &Digest) -> Error {
    Error::unavailable(
        format!("the bytes of {digest} are missing; push it again"),
        Duration::from_secs(60),
    )
}

impl<P: Platform> Inside<P> {
    /// Opens a layer that this repository may read. If it has no index, does a step of the pass
    /// that writes one.
    pub(super) async fn open_layer(
        &self,
        name: &Name,
        digest: &Digest,
        trace: &Trace<P::Bytes>,
    ) -> Result<Opened<P::Bytes>, Error> {
        let known = self
            .mirror
            .known_or_fetched(name, digest, trace)
            .await?
            .ok_or_else(|| Error::blob_unknown(name, digest))?;
        if let Some(layer) = self.read_index(digest, &known.record, trace).await? {
            return Ok(Opened::Layer(Rc::new(layer)));
        }
        let progress = self.advance(digest, &known.record).await?;
        if !progress.is_done {
            return Ok(Opened::Indexing(progress));
        }
        match self.read_index(digest, &known.record, trace).await? {
            Some(layer) => Ok(Opened::Layer(Rc::new(layer))),
            None => Err(Error::unavailable(
                format!("the index of {digest} was removed during the request; try again"),
                RETRY_AFTER,
            )),
        }
    }

    /// Reads the index of a layer; `None` if there is none that can be used.
    async fn read_index(
        &self,
        digest: &Digest,
        record: &Record,
        trace: &Trace<P::Bytes>,
    ) -> Result<Option<Layer<P::Bytes>>, Error> {
        let wanted = Wanted::Index(digest);
        let read: RefCell<Option<Lease>> = RefCell::default();
        let cold = async || {
            let key = Key::index(digest);
            let Some(object) = trace.get::<P>(&self.store, &self.host, key).await? else {
                return Ok(None);
            };
            let size = object.meta.size;
            let lease = self
                .ledger
                .wait_if_large(&self.host, MemoryKind::Buffer, size);
            match lease.await {
                Ok(lease) => drop(read.replace(lease)),
                Err(full) => {
                    self.host.discard(object.body).await;
                    return Err(full.into());
                }
            }
            let bytes = self.host.hold(object.body, size).await?;
            match self.inside(&bytes) {
                Ok(_) => Ok(Some(TierContent::untyped(bytes))),
                // The pass writes it anew.
                Err(_) => Ok(None),
            }
        };
        for _ in 0..2 {
            let was_hot = self.tiers.is_hot(wanted);
            let Some(content) = self.tiers.content(wanted, trace, cold).await? else {
                return Ok(None);
            };
            // Hot bytes are shared, and the hot tier counts them.
            let outside = match read.take() {
                None if !was_hot => {
                    let size = content.bytes.len();
                    let lease = self
                        .ledger
                        .wait_if_large(&self.host, MemoryKind::Buffer, size);
                    lease.await?
                }
                read => read,
            };
            // Check the memory before parsing, so that waiting requests hold no parsed head.
            let counts = content.bytes.slice(0, index::COUNTS).to_vec();
            let memory = index::memory(&counts, content.bytes.len()).unwrap_or_default();
            let lease = self
                .ledger
                .wait_if_large(&self.host, MemoryKind::Wasm, memory);
            let lease = lease.await?;
            match self.inside(&content.bytes) {
                Ok(Inner::Index(index)) => {
                    return Ok(Some(Layer {
                        leases: RefCell::new(outside.into_iter().chain(lease).collect()),
                        digest: digest.clone(),
                        record: record.clone(),
                        content,
                        index,
                    }));
                }
                Ok(Inner::Refused(refusal)) => return Err(refused(digest, &refusal)),
                // A nearer tier has an index that can't be used;
                // the cold tier may have another one.
                Err(_) => self.tiers.withdraw(wanted).await,
            }
        }
        Ok(None)
    }

    /// Deletes an index of which a part is corrupt or gone, so that it is written again.
    pub(super) async fn invalidate_index(
        &self,
        digest: &Digest,
        error: &impl std::fmt::Display,
    ) -> Error {
        self.tiers.withdraw(Wanted::Index(digest)).await;
        let deleted = self.store.delete(&[Key::index(digest)]).await;
        let again = deleted.err().map(|error| format!(", {error}"));
        broken(digest, &format!("{error}{}", again.unwrap_or_default()))
    }

    /// Parses an index or a refusal. A refusal under limits that have changed since is an error.
    fn inside(&self, bytes: &P::Bytes) -> Result<Inner, IndexError> {
        let head = index::head(&bytes.slice(0, index::FIXED).to_vec())?;
        let inside = Inner::parse(&bytes.slice(0, head).to_vec())?;
        match &inside {
            Inner::Refused(Refusal {
                limits: Some(limits),
                ..
            }) if *limits != self.settings.layers.options.limits() => Err(IndexError::Corrupt),
            Inner::Index(_) | Inner::Refused(_) => Ok(inside),
        }
    }

    /// A part of an index.
    pub(super) async fn part(
        &self,
        layer: &Layer<P::Bytes>,
        range: &Range<u64>,
        trace: &Trace<P::Bytes>,
    ) -> Result<Vec<u8>, Error> {
        let bytes = &layer.content.bytes;
        if range.end <= bytes.len() {
            return Ok(bytes.slice(range.start, range.end).to_vec());
        }
        let head = layer.index.head();
        let within = range
            .start
            .checked_sub(head)
            .zip(range.end.checked_sub(head + 1));
        let Some(range_of_pages) = within.and_then(|(first, last)| ByteRange::new(first, last))
        else {
            return Ok(Vec::new());
        };
        let cold = async || {
            let key = Key::pages(&layer.digest);
            let Some(object) = self.store.get(&key, Some(range_of_pages)).await? else {
                return Ok(None);
            };
            let bytes = self.host.hold(object.body, range_of_pages.length()).await?;
            Ok(Some(TierContent::untyped(bytes)))
        };
        let wanted = Wanted::Page(&layer.digest, range.start, range.end);
        match self.tiers.content(wanted, trace, cold).await? {
            Some(content) => Ok(content.bytes.to_vec()),
            None => Err(self
                .invalidate_index(&layer.digest, &IndexError::Corrupt)
                .await),
        }
    }

    /// A block of the table of contents of a layer.
    pub(super) async fn block(
        &self,
        layer: &Layer<P::Bytes>,
        block: usize,
        trace: &Trace<P::Bytes>,
    ) -> Result<Rc<[Entry]>, Error> {
        let range = layer.index.range_of(block).unwrap_or_default();
        let bytes = self.part(layer, &range, trace).await?;
        match layer.index.read_block(block, &bytes) {
            Ok(entries) => Ok(entries.into()),
            Err(error) => {
                let page = Wanted::Page(&layer.digest, range.start, range.end);
                self.tiers.changed(page);
                Err(self.invalidate_index(&layer.digest, &error).await)
            }
        }
    }
}
