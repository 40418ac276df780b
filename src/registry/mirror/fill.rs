//! Filling: a blob of an upstream is sent on while it is stored, and sent for once for all who want it.
//!
//! Who misses a blob first asks the upstream for it and reads the reply in chunks. Each chunk is hashed, stored as an extent and
//! handed to that client, if it keeps pace: one that does not reads what it missed from the store, as all who come later do, each
//! by reads of its own. So a slow client holds up nobody, and nothing waits in memory for it. The last chunk is handed to nobody
//! before the digest of all was seen to be right, and only then does the blob get a record.

use std::{
    cell::RefCell, cmp::Reverse, collections::BTreeMap, mem::replace, pin::pin, rc::Rc,
    time::Duration,
};

use futures_util::{
    StreamExt as _,
    future::{Either, join, select},
    stream::{self, FuturesOrdered},
};

use crate::{
    digest::Digest,
    error::{Code, Error},
    host::Host,
    name::Name,
    platform::Platform,
    platform::{HasherOf, ReaderOf},
    range::ByteRange,
    registry::{
        bound::Bound,
        grant::Look,
        mirror::Mirror,
        mirror::client::UpstreamError,
        upload::{Delivery, Sealed},
    },
    store::{
        Bytes as _, Content, HELD, Hasher as _, Made, Piece, PutOptions, Reader as _, StoreError,
        Streams,
        key::{Key, Prefix},
    },
    time::Timestamp,
    upload::{Extent, ExtentName, Step, UploadId},
    upstream::Mirrored,
};

/// The blobs that this isolate is filling.
#[derive(Debug)]
pub(in crate::registry) struct Fills<B>(RefCell<BTreeMap<String, Rc<Fill<B>>>>);

impl<B> Default for Fills<B> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

/// A blob that is being filled, as far as it has come.
#[derive(Debug)]
pub(in crate::registry) struct Fill<B>(RefCell<Progress<B>>);

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
    /// Whether it ends before the blob does, because nobody reads it.
    is_given_up: bool,
}

/// What a request is to a fill.
pub(in crate::registry) enum Part<B> {
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
/// The first chunk of a blob of unknown length: followers time out if it takes too long.
const FIRST_UNSIZED: u64 = 1024 * 1024;
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
    pub(in crate::registry) fn join(&self, key: &str, now: Timestamp) -> Part<B> {
        let mut fills = self.0.borrow_mut();
        if let Some(fill) = fills.get(key).filter(|fill| fill.is_alive(now)) {
            return Part::Follows(Reader::of(fill, false));
        }
        // The platform runs no destructors for a request that it cancels: the next fill removes
        // fills of such requests.
        fills.retain(|_, fill| fill.is_alive(now));
        let fill = Rc::new(Fill(RefCell::new(Progress {
            size: None,
            chunks: Vec::new(),
            stored: Vec::new(),
            outcome: None,
            moved: now,
            readers: 0,
            is_under_way: false,
            is_given_up: false,
        })));
        fills.insert(key.to_owned(), fill.clone());
        Part::Leads(Reader::of(&fill, true))
    }

    /// Says what came of a fill, to those who read it; who comes from now on finds none.
    pub(in crate::registry) fn end(
        &self,
        key: &str,
        fill: &Rc<Fill<B>>,
        outcome: Result<(), UpstreamError>,
    ) {
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
        let is_at_work = progress.outcome.is_none() && !progress.is_given_up;
        is_at_work && now.since(progress.moved) < PATIENCE
    }

    /// Says how long the blob is, and what of it is stored already.
    pub(in crate::registry) fn begin(&self, size: u64, begun: &Begun, now: Timestamp) {
        let mut progress = self.0.borrow_mut();
        progress.size = Some(size);
        let mut offset = 0;
        for extent in &begun.extents {
            progress.stored.push((offset, extent.clone()));
            offset += extent.size;
        }
        progress.moved = now;
    }

    /// Waits until it is known how long the blob is; `None` where it is stored already.
    pub(in crate::registry) async fn wait(
        &self,
        host: &impl Host,
    ) -> Result<Option<u64>, UpstreamError> {
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

    /// Notes that bytes came, so that those who wait go on waiting.
    fn moves(&self, now: Timestamp) {
        self.0.borrow_mut().moved = now;
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

    /// Whether it is worth going on: somebody reads it, or most of it is there. A fill that is given
    /// up takes no new readers, because it does not end at once.
    fn is_wanted(&self, offset: u64) -> bool {
        let mut progress = self.0.borrow_mut();
        let is_mostly_there = offset.saturating_mul(2) >= progress.size.unwrap_or_default();
        let is_wanted = progress.readers > 0 || is_mostly_there;
        progress.is_given_up |= !is_wanted;
        is_wanted
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
            return Next::Stored(
                Key::extent(&extent.key).to_string(),
                range,
                offset + extent.size,
            );
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
pub(in crate::registry) struct Reader<B> {
    pub(in crate::registry) fill: Rc<Fill<B>>,
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
pub(in crate::registry) struct Source<R> {
    /// What comes after what is stored.
    pub(in crate::registry) reader: R,
    pub(in crate::registry) size: u64,
    pub(in crate::registry) begun: Begun,
}

/// A fill as far as it is stored: its upload, open, and the extents of that. One that was interrupted, by an upstream that fails, for
/// want of a reader or as the platform ended its request, is gone on with by the next request for its blob.
pub(in crate::registry) struct Begun {
    id: UploadId,
    bound: Bound,
    /// What is stored without a gap, from the start.
    extents: Vec<Extent>,
}

impl Begun {
    /// Where it goes on.
    pub(in crate::registry) fn offset(&self) -> u64 {
        self.extents.iter().map(|extent| extent.size).sum()
    }
}

impl<P: Platform> Mirror<P> {
    /// A blob that is being filled, as pieces of a reply.
    pub(in crate::registry) fn read_fill(
        &self,
        reader: Reader<P::Bytes>,
        size: u64,
    ) -> Made<P::Body, P::Bytes> {
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
    pub(in crate::registry) async fn fill(
        &self,
        source: Source<ReaderOf<P>>,
        mirrored: &Mirrored,
        digest: &Digest,
        fill: &Fill<P::Bytes>,
    ) -> Result<(), UpstreamError> {
        let Source {
            mut reader,
            size,
            mut begun,
        } = source;
        let received = self
            .receive_fill(&mut reader, size, mirrored, digest, &mut begun, fill)
            .await;
        if let Err(error) = &received {
            // Before anything else is waited for: nobody joins it any more.
            fill.0.borrow_mut().outcome = Some(Err(error.clone()));
        }
        reader.give_up().await;
        let name = &mirrored.name;
        match received {
            Ok(()) => {
                let Begun { id, bound, .. } = begun;
                let extents = begun.extents.clone();
                let sealed = Sealed {
                    number: 1,
                    extents,
                    by: Delivery::Fill,
                };
                if let Err(error) = self.uploads.seal(name, id, sealed, digest, bound).await {
                    if error.code() == Code::BlobUploadUnknown
                        && self.is_closed(name, id, digest).await
                    {
                        // By another isolate that went on with it as well. What is read here is stored, and right.
                        return Ok(());
                    }
                    self.drop_fill(name, digest, begun).await;
                    return Err(UpstreamError::Store(error.message()));
                }
                self.uploads.forget(&[Key::fill(digest, name)]).await;
                Ok(())
            }
            Err(error) => {
                if let UpstreamError::Wrong(_) = error {
                    // Which of the bytes are wrong nobody can say.
                    self.drop_fill(name, digest, begun).await;
                }
                Err(error)
            }
        }
    }

    /// Stores a blob whose length its upstream does not say, up to this many bytes. Nobody reads it
    /// before its digest is known to be right.
    pub(in crate::registry) async fn fill_unsized(
        &self,
        body: P::Body,
        most: u64,
        name: &Name,
        digest: &Digest,
        fill: &Fill<P::Bytes>,
    ) -> Result<(), Error> {
        let mut begun = self.begin_anew();
        let mut reader = self.store.read(body)?;
        let received = self
            .receive_unsized(&mut reader, most, (name, digest), &mut begun, fill)
            .await;
        reader.give_up().await;
        let sealed = match received {
            Ok(()) if begun.extents.is_empty() => {
                let seen = Look::Absent;
                return self.uploads.fill_whole(None, 0, name, digest, &seen).await;
            }
            Ok(()) => {
                let sealed = Sealed {
                    number: 1,
                    extents: begun.extents.clone(),
                    by: Delivery::Fill,
                };
                let bound = begun.bound;
                self.uploads
                    .seal(name, begun.id, sealed, digest, bound)
                    .await
            }
            Err(error) => Err(error),
        };
        if sealed.is_err() {
            self.drop_fill(name, digest, begun).await;
        }
        sealed
    }

    /// Reads a body of unknown length into extents, and verifies its digest. The extents are noted
    /// in `begun` before they are written, so that none is left over.
    async fn receive_unsized(
        &self,
        reader: &mut ReaderOf<P>,
        most: u64,
        (name, digest): (&Name, &Digest),
        begun: &mut Begun,
        fill: &Fill<P::Bytes>,
    ) -> Result<(), Error> {
        let mut hasher = self.store.hasher(digest.algorithm())?;
        let (mut size, mut want) = (0, FIRST_UNSIZED);
        loop {
            let asked = self.host.now();
            let Some(chunk) = reader.hold(want).await? else {
                break;
            };
            let now = self.host.now();
            fill.moves(now);
            want = next_want(want, now.since(asked));
            let offset = size;
            size += chunk.len();
            self.metrics.received.inc_by(chunk.len());
            if size > most {
                let found = format!("more than the {most} bytes that `most_bytes` allows");
                return Err(Error::new(Code::SizeInvalid, found));
            }
            hasher.update(&chunk).await?;
            begun.bound.check(&self.host)?;
            if offset == 0 {
                let start = Step::Start {
                    algorithm: digest.algorithm(),
                };
                self.uploads.write_step(name, begun.id, 0, &start).await?;
            }
            let extent = Extent {
                key: ExtentName::new(begun.id, offset, &self.host.nonce()),
                size: chunk.len(),
            };
            begun.extents.push(extent.clone());
            self.store.write(&Key::extent(&extent.key), &chunk).await?;
        }
        let found = hasher.finish().await?;
        if found != *digest {
            let found = format!("its bytes have the digest {found}");
            return Err(Error::new(Code::DigestInvalid, found));
        }
        Ok(())
    }

    /// A fill that begins.
    pub(in crate::registry) fn begin_anew(&self) -> Begun {
        Begun {
            id: UploadId::new(self.host.random()),
            bound: self.grants.bound(),
            extents: Vec::new(),
        }
    }

    /// The fill of a blob that was begun and not ended, if there is one. It may be under way in another isolate: of two that go on with
    /// one, one closes it.
    pub(in crate::registry) async fn begun(
        &self,
        name: &Name,
        digest: &Digest,
    ) -> Result<Option<Begun>, Error> {
        let mut begun = self.begin_anew();
        let Some((_, hint)) = self.store.text(&Key::fill(digest, name)).await? else {
            return Ok(None);
        };
        let Ok(id) = hint.parse() else {
            return Ok(None);
        };
        begun.id = id;
        match self.uploads.read_upload(name, id, 0).await {
            Ok(upload) if upload.is_open() => {}
            Ok(_) => return Ok(None),
            Err(error) if error.code() == Code::BlobUploadUnknown => return Ok(None),
            Err(error) => return Err(error),
        }
        let listing = self.store.list_all(Prefix::ExtentsOf(id)).await?;
        let extents = listing.objects.iter().filter_map(|(stored, meta)| {
            let Key::Extent(key) = stored.clone() else {
                return None;
            };
            let size = meta.size;
            Some((key.place()?, Extent { key, size }))
        });
        begun.extents = longest(extents.collect());
        // The last one is of no use: were it the end of the blob, there would be no rest to ask for.
        begun.extents.pop();
        Ok(Some(begun))
    }

    /// Whether an upload became a blob, or is about to.
    async fn is_closed(&self, name: &Name, id: UploadId, digest: &Digest) -> bool {
        match self
            .uploads
            .read_upload(name, id, 1)
            .await
            .map(|upload| upload.last)
        {
            Ok(Step::Closing { digest: closed } | Step::Done { digest: closed, .. }) => {
                closed == *digest
            }
            Ok(Step::Start { .. } | Step::Received { .. } | Step::Dead) | Err(_) => false,
        }
    }

    /// Gives up what a fill has stored: nobody goes on with it.
    async fn drop_fill(&self, name: &Name, digest: &Digest, begun: Begun) {
        let Begun { id, extents, .. } = begun;
        if !extents.is_empty()
            && matches!(
                self.uploads.write_step(name, id, 1, &Step::Dead).await,
                Ok(true)
            )
        {
            self.uploads.delete_extents(&extents).await;
            self.uploads.forget(&[Key::fill(digest, name)]).await;
        }
    }

    /// Begins the upload of a fill, and leaves a hint at it.
    async fn start_fill(
        &self,
        name: &Name,
        digest: &Digest,
        id: UploadId,
    ) -> Result<(), StoreError> {
        let start = Step::Start {
            algorithm: digest.algorithm(),
        };
        let started = self.uploads.write_step(name, id, 0, &start);
        let hint = Content::Bytes(id.to_string().into_bytes());
        let fill = Key::fill(digest, name);
        let hinted = self.store.put(&fill, hint, PutOptions::default());
        let (started, hinted) = join(started, hinted).await;
        started.map_err(|error| StoreError::Failed(error.message()))?;
        hinted.map(drop)
    }

    /// Hashes what is stored of a blob already.
    async fn hash_begun(
        &self,
        hasher: &mut HasherOf<P>,
        begun: &Begun,
        fill: &Fill<P::Bytes>,
    ) -> Result<(), StoreError> {
        for extent in &begun.extents {
            let key = Key::extent(&extent.key);
            let object = self.store.get(&key, None).await?;
            let object = object.ok_or_else(|| StoreError::Failed(format!("{key} is gone")))?;
            let mut reader = self.store.read(object.body)?;
            while let Some(bytes) = reader.hold(HELD).await? {
                hasher.update(&bytes).await?;
                fill.moves(self.host.now());
            }
        }
        Ok(())
    }

    async fn receive_fill(
        &self,
        reader: &mut ReaderOf<P>,
        size: u64,
        mirrored: &Mirrored,
        digest: &Digest,
        begun: &mut Begun,
        fill: &Fill<P::Bytes>,
    ) -> Result<(), UpstreamError> {
        let unstored = |error: StoreError| UpstreamError::Store(error.to_string());
        let (id, bound) = (begun.id, begun.bound);
        let mut hasher = self.store.hasher(digest.algorithm()).map_err(unstored)?;
        let hashed = self.hash_begun(&mut hasher, begun, fill).await;
        hashed.map_err(unstored)?;
        let mut hasher = Some(hasher);
        let mut writes = FuturesOrdered::new();
        let (mut offset, mut want) = (begun.offset(), FIRST);
        let extents = &mut begun.extents;
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
                    let rest = self.open_rest(mirrored, digest, offset).await?;
                    let (rest, _) = rest.filter(|(_, all)| *all == size).ok_or(error)?;
                    let before = replace(reader, rest);
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
                bound
                    .check(&self.host)
                    .map_err(|error| UpstreamError::Store(error.message()))?;
                let extent = Extent {
                    key: ExtentName::new(id, offset, &self.host.nonce()),
                    size: length,
                };
                fill.receive(offset, chunk.clone(), self.host.now());
                writes.push_back(async move {
                    // The client's first bytes don't wait for what is written.
                    fill.get_under_way(&self.host).await;
                    if offset == 0 {
                        self.start_fill(&mirrored.name, digest, id).await?;
                    }
                    self.store.write(&Key::extent(&extent.key), &chunk).await?;
                    Ok((offset, extent))
                });
                offset += length;
                // Those who read have their turn: an upstream that is near would leave them none.
                self.host.sleep(Duration::ZERO).await;
                want = next_want(want, self.host.now().since(asked));
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

/// How many bytes to read next, after a chunk of `want` bytes took so long.
fn next_want(want: u64, took: Duration) -> u64 {
    match took {
        took if took < QUICK => (want * 2).min(HELD),
        took if took > SLOW => (want / 2).max(FIRST),
        _ => want,
    }
}

/// Of extents, by where they begin, those that reach farthest from the start without a gap, in order. Where a fill was interrupted more
/// than once, or several go on with it, there may be several for one place.
fn longest(mut extents: Vec<(u64, Extent)>) -> Vec<Extent> {
    extents.retain(|(_, extent)| extent.size > 0);
    extents.sort_by_key(|(start, _)| Reverse(*start));
    // The extent at each place from where to get farthest, and how far that is.
    let mut best = BTreeMap::<u64, (u64, Extent)>::new();
    for (start, extent) in extents {
        let end = start.saturating_add(extent.size);
        let reach = best.get(&end).map_or(end, |(reach, _)| *reach);
        if best.get(&start).is_none_or(|(other, _)| reach > *other) {
            best.insert(start, (reach, extent));
        }
    }
    let mut at = 0;
    let in_order = std::iter::from_fn(|| {
        let (_, extent) = best.remove(&at)?;
        at += extent.size;
        Some(extent)
    });
    in_order.collect()
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;
    use crate::store::memory::MemoryBytes;

    /// A client that comes while a fill is being given up begins another one.
    #[test]
    fn that_are_given_up_take_no_readers() {
        let fills = Fills::<MemoryBytes>::default();
        let now = Timestamp(1_800_000_000_000);
        let Part::Leads(reader) = fills.join("blob", now) else {
            panic!("nobody fills it");
        };
        let fill = reader.fill.clone();
        fill.0.borrow_mut().size = Some(10);
        assert!(fill.is_wanted(1), "it has a reader");
        assert!(matches!(fills.join("blob", now), Part::Follows(_)));
        drop(reader);
        assert!(fill.is_wanted(5), "half of it is there");
        assert!(matches!(fills.join("blob", now), Part::Follows(_)));
        assert!(!fill.is_wanted(4));
        assert!(matches!(fills.join("blob", now), Part::Leads(_)));
    }

    /// A fill of a cancelled request holds its chunks until the next fill of any blob.
    #[test]
    fn of_cancelled_requests_are_forgotten() {
        let fills = Fills::<MemoryBytes>::default();
        let begin = |number: u64| {
            let now = Timestamp(1_800_000_000_000) + Duration::from_secs(number);
            std::mem::forget(fills.join(&format!("made-up-{number}"), now));
        };
        (0..1_000).for_each(begin);
        let most = PATIENCE.as_secs();
        assert!(fills.0.borrow().len() as u64 <= most, "{most}");
    }
}
