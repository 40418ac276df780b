//! Large blobs in the near tier: their bytes are streamed from the cache of this location. Only
//! requests that may read a blob ask for its entries or write them.

use futures_util::future::{Either, join, join_all, select};

use crate::{
    digest::Digest,
    error::Error,
    host::{Cache as _, Clock as _},
    metrics::Fault,
    platform::Platform,
    range::ByteRange,
    registry::{
        blob::{Blobs, locate},
        body::{Body, BodyOf},
        pull::Selected,
    },
    store::{
        Piece, StoreError, Streams as _,
        bucket::StreamPart,
        document::Record,
        near::{Entry, has_cache},
        tiers::KnownLink,
        trace::Trace,
    },
    tier::{Kind, Tier},
};

/// An entry, and its bytes that a request selects, if the cache has them.
type Looked<B> = Vec<(Entry, Option<B>)>;

impl<P: Platform> Blobs<P> {
    /// Whether the near tier is asked for blobs of this size, by a client that reached the registry
    /// there.
    pub(super) fn may_be_near(&self, origin: &str, size: u64) -> bool {
        let policy = self.tiers.policy();
        !policy.near_retention.is_zero() && !policy.holds_blob(size) && has_cache(origin)
    }

    /// Opens the selected bytes of a large blob in the near tier.
    ///
    /// `None` if it does not have them. Then the entries that are missing are written after the
    /// reply, by a read of their own: a copy of the client's stream would be as slow as the client,
    /// or be held in memory.
    pub(super) async fn open_near(
        &self,
        origin: &str,
        digest: &Digest,
        known: &KnownLink,
        selected: &Selected,
        trace: &Trace<P::Bytes>,
    ) -> Result<Option<BodyOf<P>>, Error> {
        let size = known.record.size();
        let range = match selected {
            Selected::All(_) => ByteRange::all(size),
            Selected::Range(range, _) => Some(*range),
            Selected::Nothing | Selected::Ranges(..) | Selected::ByUpstream(_) => None,
        };
        let Some(range) = range else {
            return Ok(None);
        };
        let start = self.host.now();
        let whole = Entry::whole(origin, digest, size);
        let is_all = range.length() == size;
        let blocks = if is_all {
            Vec::new()
        } else {
            Entry::blocks(origin, digest, size, range)
        };
        let (blobs, wanted) = (self.clone(), (whole.clone(), blocks.clone()));
        let look = async move {
            let (whole, blocks) = wanted;
            join(blobs.look(whole, range), blobs.look(blocks, range)).await
        };
        let host = self.host.clone();
        let discard = async move |(whole, blocks): (Looked<P::Body>, Looked<P::Body>)| {
            for body in whole.into_iter().chain(blocks).filter_map(|(_, body)| body) {
                host.discard(body).await;
            }
        };
        let looked = {
            let look = Box::pin(trace.after.read_to_end(&self.host, look, discard.clone()));
            let late = Box::pin(self.host.sleep(self.tiers.policy().warm_hedge));
            match select(look, late).await {
                Either::Left((looked, _)) => looked,
                Either::Right(_) => {
                    self.metrics
                        .passed_over(Tier::Near, Kind::Blob, Fault::Late);
                    return Ok(None);
                }
            }
        };
        let has_all = |looked: &Looked<P::Body>| {
            !looked.is_empty() && looked.iter().all(|(_, body)| body.is_some())
        };
        let (found, other) = match looked {
            (whole, blocks) if has_all(&whole) => (whole, blocks),
            (whole, blocks) if has_all(&blocks) => (blocks, whole),
            looked => {
                // All bytes of a blob are one entry, and a part is written as blocks.
                let missing = if is_all { &looked.0 } else { &looked.1 };
                let missing = missing.iter().filter(|(_, body)| body.is_none());
                let missing: Vec<Entry> = missing.map(|(entry, _)| entry.clone()).collect();
                discard(looked).await;
                self.metrics.missed(Tier::Near, Kind::Blob);
                self.write_near(missing, digest, &known.record, trace);
                return Ok(None);
            }
        };
        discard((Vec::new(), other)).await;
        if !self.sees(digest, known, trace).await? {
            discard((found, Vec::new())).await;
            return Ok(None);
        }
        trace.step("blob", Tier::Near, self.host.now().since(start));
        self.metrics.hit(Tier::Near, Kind::Blob);
        let bodies = found.into_iter().filter_map(|(_, body)| body);
        Ok(Some(self.join(bodies.collect(), range.length())))
    }

    /// Joins streams of `length` bytes together.
    fn join(&self, mut bodies: Vec<P::Body>, length: u64) -> BodyOf<P> {
        match (bodies.len(), bodies.pop()) {
            (1, Some(body)) => Body::Stream(body),
            (_, last) => {
                let bodies = bodies.into_iter().chain(last);
                let pieces = bodies.map(|body| StreamPart::Piece(Piece::Stream(body)));
                let pieces = pieces.collect();
                Body::Stream(self.store.concatenate(&self.host, pieces, length))
            }
        }
    }

    /// Looks for the bytes of a range in each of these entries.
    async fn look(&self, entries: Vec<Entry>, range: ByteRange) -> Looked<P::Body> {
        let look = async |entry: Entry| {
            let size = entry.bytes.length();
            let looked = self
                .host
                .cached(&entry.address, size, entry.part(range))
                .await;
            let body = looked.unwrap_or_else(|error| {
                self.tiers
                    .pass_over(Tier::Near, Kind::Blob, Fault::Failed, &error);
                None
            });
            (entry, body)
        };
        join_all(entries.into_iter().map(look)).await
    }

    /// Leaves the writing of entries for after the reply, but not of those that this isolate has
    /// written lately, and no more at a time than [`AT_ONCE`].
    fn write_near(
        &self,
        entries: Vec<Entry>,
        digest: &Digest,
        record: &Record,
        trace: &Trace<P::Bytes>,
    ) {
        let now = self.host.now();
        for entry in entries {
            if !self.near.begin(&entry.address, now) {
                continue;
            }
            let (blobs, parts) = (self.clone(), locate(record, digest, Some(entry.bytes)));
            trace.after.work(Box::pin(async move {
                let length = entry.bytes.length();
                match blobs.write_entry(&entry.address, parts, length).await {
                    Ok(()) => blobs.metrics.stored(Tier::Near, Kind::Blob),
                    Err(error) => {
                        blobs
                            .tiers
                            .pass_over(Tier::Near, Kind::Blob, Fault::Failed, &error);
                    }
                }
                blobs.near.end(now);
            }));
        }
    }

    async fn write_entry(
        &self,
        address: &str,
        parts: Vec<StreamPart<P::Body, P::Bytes>>,
        length: u64,
    ) -> Result<(), Error> {
        let Some(Body::Stream(body)) = self.open(parts, length).await? else {
            let gone = "the bytes are not where the link says".to_owned();
            return Err(StoreError::Failed(gone).into());
        };
        let time_to_live = self.tiers.policy().near_retention;
        let written = self.host.cache(address, body, length, time_to_live).await;
        written.map_err(Error::from)
    }
}
