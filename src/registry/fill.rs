//! Filling: a blob of an upstream is sent on while it is stored, and sent for once for all who want it.
//!
//! Who misses a blob first asks the upstream for it and reads the reply in chunks. Each chunk is hashed, stored as an extent and
//! handed to that client, if it keeps pace: one that does not reads what it missed from the store, as all who come later do, each
//! by reads of its own. So a slow client holds up nobody, and nothing waits in memory for it. The last chunk is handed to nobody
//! before the digest of all was seen to be right, and only then does the blob get a record.

use std::{cell::RefCell, collections::HashMap, mem::replace, pin::pin, rc::Rc, time::Duration};

use futures_util::{
    StreamExt as _,
    future::{Either, select},
    stream::{self, FuturesOrdered},
};

use crate::{
    digest::Digest,
    error::Error,
    host::Host,
    range::ByteRange,
    registry::{Bound, Registry, upstream::UpstreamError},
    store::{
        Bytes as _, HELD, Hasher as _, Made, Piece, Reader as _, StoreError, Streams, Values, key,
    },
    time::Timestamp,
    upload::{Extent, Step, UploadId},
    upstream::Mirrored,
};

/// The blobs that this isolate is filling.
#[derive(Debug)]
pub(super) struct Fills<B>(RefCell<HashMap<String, Rc<Fill<B>>>>);

impl<B> Default for Fills<B> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

/// A blob that is being filled, as far as it has come.
#[derive(Debug)]
pub(super) struct Fill<B>(RefCell<Progress<B>>);

#[derive(Debug)]
struct Progress<B> {
    /// How long the blob is; unknown until the upstream answers.
    size: Option<u64>,
    /// Chunks that are not stored yet, by where they begin.
    chunks: Vec<(u64, B)>,
    /// Where extents begin that are stored, in order.
    stored: Vec<(u64, Extent)>,
    outcome: Option<Result<(), UpstreamError>>,
    /// When it last got on. A fill that does not for long has lost its request.
    moved: Timestamp,
    readers: u32,
    /// Whether a reader took the first chunk and came for more, or was waited for.
    is_under_way: bool,
}

/// What a request is to a fill.
pub(super) enum Part<B> {
    /// It asks the upstream.
    Leads(Reader<B>),
    /// Another request does.
    Follows(Reader<B>),
}

/// What there is at a place in a blob.
enum Next<B> {
    Held(B),
    Stored(String, Option<ByteRange>, u64),
    Nothing,
    Lost(UpstreamError),
}

/// How long a fill may stand still.
const PATIENCE: Duration = Duration::from_secs(30);

/// The first chunk is small, so that a client hears soon. They grow while they come quickly, and shrink where they don't.
const FIRST: u64 = 64 * 1024;
const QUICK: Duration = Duration::from_millis(200);
const SLOW: Duration = Duration::from_secs(1);

/// How many extents are written at the same time.
const WRITES: usize = 2;

/// How long the first write lets the client's first bytes go before it.
const COURTESY: Duration = Duration::from_millis(50);

/// How often those who wait look.
const FIRST_LOOK: Duration = Duration::from_millis(1);
const LAST_LOOK: Duration = Duration::from_millis(20);

impl<B: crate::store::Bytes> Fills<B> {
    /// Joins a fill, or begins one.
    pub(super) fn join(&self, key: &str, now: Timestamp) -> Part<B> {
        let mut fills = self.0.borrow_mut();
        if let Some(fill) = fills.get(key).filter(|fill| fill.is_alive(now)) {
            return Part::Follows(Reader::of(fill, false));
        }
        let fill = Rc::new(Fill(RefCell::new(Progress {
            size: None,
            chunks: Vec::new(),
            stored: Vec::new(),
            outcome: None,
            moved: now,
            readers: 0,
            is_under_way: false,
        })));
        fills.insert(key.to_owned(), fill.clone());
        Part::Leads(Reader::of(&fill, true))
    }

    /// Says what came of a fill, to those who read it; who comes from now on finds none.
    pub(super) fn end(&self, key: &str, fill: &Rc<Fill<B>>, outcome: Result<(), UpstreamError>) {
        fill.0.borrow_mut().outcome = Some(outcome);
        let mut fills = self.0.borrow_mut();
        if fills.get(key).is_some_and(|other| Rc::ptr_eq(other, fill)) {
            fills.remove(key);
        }
    }
}

impl<B: crate::store::Bytes> Fill<B> {
    fn is_alive(&self, now: Timestamp) -> bool {
        let progress = self.0.borrow();
        progress.outcome.is_none() && now.since(progress.moved) < PATIENCE
    }

    pub(super) fn begin(&self, size: u64, now: Timestamp) {
        let mut progress = self.0.borrow_mut();
        progress.size = Some(size);
        progress.moved = now;
    }

    /// Waits until it is known how long the blob is; `None` where it is stored already.
    pub(super) async fn wait(&self, host: &impl Host) -> Result<Option<u64>, UpstreamError> {
        let mut pause = FIRST_LOOK;
        loop {
            {
                let progress = self.0.borrow();
                match (&progress.outcome, progress.size) {
                    (Some(Err(error)), _) => return Err(error.clone()),
                    (_, Some(size)) => return Ok(Some(size)),
                    (Some(Ok(())), None) => return Ok(None),
                    (None, None) if host.now().since(progress.moved) >= PATIENCE => {
                        return Err(UpstreamError::Late);
                    }
                    (None, None) => {}
                }
            }
            host.sleep(pause).await;
            pause = (pause * 2).min(LAST_LOOK);
        }
    }

    fn receive(&self, offset: u64, chunk: B, now: Timestamp) {
        let mut progress = self.0.borrow_mut();
        progress.chunks.push((offset, chunk));
        progress.moved = now;
    }

    fn store(&self, offset: u64, extent: Extent, now: Timestamp) {
        let mut progress = self.0.borrow_mut();
        progress.chunks.retain(|(other, _)| *other != offset);
        progress.stored.push((offset, extent));
        progress.moved = now;
    }

    /// Whether it is worth going on: somebody reads it, or most of it is there.
    fn is_wanted(&self, offset: u64) -> bool {
        let progress = self.0.borrow();
        progress.readers > 0 || offset.saturating_mul(2) >= progress.size.unwrap_or_default()
    }

    /// Waits until a client has its first bytes, but not for long: one may be slow, or gone.
    async fn get_under_way(&self, host: &impl Host) {
        let until = host.now() + COURTESY;
        while !self.0.borrow().is_under_way && host.now() < until {
            host.sleep(FIRST_LOOK).await;
        }
        self.0.borrow_mut().is_under_way = true;
    }

    fn next(&self, at: u64, keeps_pace: bool, now: Timestamp) -> Next<B> {
        let mut progress = self.0.borrow_mut();
        progress.is_under_way |= at > 0;
        if let Some(Err(error)) = &progress.outcome {
            return Next::Lost(error.clone());
        }
        let stored = progress.stored.partition_point(|(offset, _)| *offset <= at);
        if let Some((offset, extent)) = stored
            .checked_sub(1)
            .and_then(|last| progress.stored.get(last))
            && at < offset + extent.size
        {
            let range = ByteRange::new(at - offset, extent.size - 1).filter(|_| at > *offset);
            return Next::Stored(key::extent(&extent.key), range, offset + extent.size);
        }
        let has = |(offset, chunk): &&(u64, B)| (*offset..offset + chunk.len()).contains(&at);
        match progress.chunks.iter().find(has).filter(|_| keeps_pace) {
            Some((offset, chunk)) => Next::Held(chunk.slice(at - offset, chunk.len())),
            None if progress.outcome.is_none() && now.since(progress.moved) >= PATIENCE => {
                Next::Lost(UpstreamError::Late)
            }
            None => Next::Nothing,
        }
    }
}

/// One who reads a fill, for as long as it does.
pub(super) struct Reader<B> {
    pub(super) fill: Rc<Fill<B>>,
    /// Whether chunks are handed to it that are not stored yet.
    keeps_pace: bool,
}

impl<B> Reader<B> {
    fn of(fill: &Rc<Fill<B>>, keeps_pace: bool) -> Self {
        fill.0.borrow_mut().readers += 1;
        Self {
            fill: fill.clone(),
            keeps_pace,
        }
    }
}

impl<B> Drop for Reader<B> {
    fn drop(&mut self) {
        self.fill.0.borrow_mut().readers -= 1;
    }
}

/// A blob that is sent on, from the reply of an upstream.
pub(super) struct Source<R> {
    pub(super) reader: R,
    pub(super) size: u64,
}

impl<S: Streams, W: Values<Bytes = S::Bytes>, H: Host<Body = S::Body>> Registry<S, W, H> {
    /// A blob that is being filled, as pieces of a reply.
    pub(super) fn read_fill(&self, reader: Reader<S::Bytes>, size: u64) -> Made<S::Body, S::Bytes> {
        let host = self.host.clone();
        let pieces = stream::try_unfold((reader, 0), move |(reader, at)| {
            let host = host.clone();
            async move {
                if at >= size {
                    return Ok(None);
                }
                let mut pause = FIRST_LOOK;
                loop {
                    match reader.fill.next(at, reader.keeps_pace, host.now()) {
                        Next::Held(bytes) => {
                            let end = at + bytes.len();
                            return Ok(Some((Piece::Held(bytes), (reader, end))));
                        }
                        Next::Stored(key, range, end) => {
                            return Ok(Some((Piece::Object(key, range), (reader, end))));
                        }
                        Next::Nothing => {
                            host.sleep(pause).await;
                            pause = (pause * 2).min(LAST_LOOK);
                        }
                        Next::Lost(error) => {
                            return Err(StoreError::Failed(error.to_string()));
                        }
                    }
                }
            }
        });
        Made(pieces.boxed_local())
    }

    /// Reads a blob from an upstream into the store, and says on the way how far it has come.
    pub(super) async fn fill(
        &self,
        source: Source<S::Reader>,
        mirrored: &Mirrored,
        digest: &Digest,
        fill: &Fill<S::Bytes>,
    ) -> Result<(), UpstreamError> {
        let name = &mirrored.name;
        let failed = |error: Error| UpstreamError::Store(error.message());
        let Source { mut reader, size } = source;
        let bound = self.bound();
        let id = UploadId::new(self.host.random());
        let mut extents = Vec::new();
        let received = self
            .receive_fill(
                &mut reader,
                size,
                mirrored,
                digest,
                id,
                fill,
                bound,
                &mut extents,
            )
            .await;
        if let Err(error) = &received {
            // Before anything else is waited for: nobody joins it any more.
            fill.0.borrow_mut().outcome = Some(Err(error.clone()));
        }
        reader.give_up().await;
        let sealed = match received {
            Ok(()) => {
                let extents = extents.clone();
                let sealed = self.seal(name, id, 1, extents, digest, bound).await;
                sealed.map_err(failed)
            }
            Err(error) => Err(error),
        };
        if sealed.is_err()
            && !extents.is_empty()
            && matches!(self.write_step(name, id, 1, &Step::Dead).await, Ok(true))
        {
            self.delete_extents(&extents).await;
        }
        sealed
    }

    #[expect(clippy::too_many_arguments, reason = "what a fill is made of")]
    async fn receive_fill(
        &self,
        reader: &mut S::Reader,
        size: u64,
        mirrored: &Mirrored,
        digest: &Digest,
        id: UploadId,
        fill: &Fill<S::Bytes>,
        bound: Bound,
        extents: &mut Vec<Extent>,
    ) -> Result<(), UpstreamError> {
        let unstored = |error: StoreError| UpstreamError::Store(error.to_string());
        let mut hasher = Some(self.store.hasher(digest.algorithm()).map_err(unstored)?);
        let mut writes = FuturesOrdered::new();
        let (mut offset, mut want, mut number) = (0, FIRST, 0);
        let mut resumed = None;
        let mut land = |landed: Result<(u64, Extent), StoreError>| {
            let (offset, extent) = landed.map_err(unstored)?;
            extents.push(extent.clone());
            fill.store(offset, extent, self.host.now());
            Ok::<_, UpstreamError>(())
        };
        let received = async {
            while offset < size {
                if !fill.is_wanted(offset) {
                    return Err(UpstreamError::Failed(
                        "nobody waits for it any more".to_owned(),
                    ));
                }
                let asked = self.host.now();
                let chunk = {
                    let mut reading = pin!(reader.hold(want.min(size - offset)));
                    loop {
                        if writes.is_empty() {
                            break reading.await;
                        }
                        match select(reading, writes.next()).await {
                            Either::Left((chunk, _)) => break chunk,
                            Either::Right((landed, rest)) => {
                                landed.map_or(Ok(()), &mut land)?;
                                reading = rest;
                            }
                        }
                    }
                };
                let Ok(Some(chunk)) = chunk else {
                    let found = format!("it broke off after {offset} of {size} bytes");
                    let error = UpstreamError::Failed(found);
                    if resumed == Some(offset) {
                        return Err(error);
                    }
                    // Once from each place: what got on may get on again.
                    (resumed, want) = (Some(offset), FIRST);
                    let rest = self.open_rest(mirrored, digest, offset, size).await?;
                    let before = replace(reader, rest.ok_or(error)?);
                    before.give_up().await;
                    continue;
                };
                let length = chunk.len();
                if let Some(hasher) = &mut hasher {
                    hasher.update(&chunk).await.map_err(unstored)?;
                }
                if offset + length == size {
                    let hasher = hasher
                        .take()
                        .ok_or_else(|| UpstreamError::Wrong("it has two ends".to_owned()))?;
                    let found = hasher.finish().await.map_err(unstored)?;
                    if found != *digest {
                        return Err(UpstreamError::Wrong(format!(
                            "blob {digest} came with the digest {found}"
                        )));
                    }
                }
                number += 1;
                bound
                    .check(&self.host)
                    .map_err(|error| UpstreamError::Store(error.message()))?;
                let extent = Extent {
                    key: key::extent_name(id, number, &self.nonce()),
                    size: length,
                };
                fill.receive(offset, chunk.clone(), self.host.now());
                writes.push_back(async move {
                    // The client's first bytes don't wait for what is written.
                    fill.get_under_way(&self.host).await;
                    if number == 1 {
                        let start = Step::Start {
                            algorithm: digest.algorithm(),
                        };
                        let started = self.write_step(&mirrored.name, id, 0, &start).await;
                        started.map_err(|error| StoreError::Failed(error.message()))?;
                    }
                    self.store.write(&key::extent(&extent.key), &chunk).await?;
                    Ok((offset, extent))
                });
                offset += length;
                // Those who read have their turn: an upstream that is near would leave them none.
                self.host.sleep(Duration::ZERO).await;
                want = match self.host.now().since(asked) {
                    took if took < QUICK => (want * 2).min(HELD),
                    took if took > SLOW => (want / 2).max(FIRST),
                    _ => want,
                };
                while writes.len() >= WRITES {
                    let landed = writes.next().await;
                    landed.map_or(Ok(()), &mut land)?;
                }
            }
            Ok(())
        };
        let received = received.await;
        // What is being written is waited for also where the rest is not: it has to be known to be cleared away.
        let mut landed = Ok(());
        while let Some(write) = writes.next().await {
            landed = landed.and(land(write));
        }
        received.and(landed)
    }
}
