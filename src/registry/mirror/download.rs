//! Downloads: a blob is read from an upstream, hashed, and stored in extents.

use std::{mem::replace, pin::pin, time::Duration};

use futures_util::{
    StreamExt as _,
    future::{Either, LocalBoxFuture, select},
    stream::FuturesOrdered,
};

use crate::{
    digest::Digest,
    error::{Code, Error},
    host::{Clock as _, Random as _},
    name::Name,
    platform::{HasherOf, Platform, ReaderOf},
    registry::{
        grant::Look,
        mirror::{Mirror, error::UpstreamError, fill::Fill, resume::BegunFill},
        upload::{close::SealedUpload, delivery::Delivery},
    },
    store::{
        Bytes as _, Content, HELD, Hasher as _, PutOptions, Reader as _, StoreError, Streams,
        key::Key,
    },
    upload::{Extent, ExtentName, Step, UploadId},
    upstream::Mirrored,
};

/// A blob of an upstream that is about to be stored.
pub(super) struct UpstreamBlob<P: Platform> {
    /// Reads what comes after the stored part.
    pub(super) reader: ReaderOf<P>,
    pub(super) size: u64,
    pub(super) begun: BegunFill,
}

/// The first chunk is small, so that a client has bytes soon. Chunks grow while they come quickly,
/// and shrink if they come slowly.
const FIRST: u64 = 64 * 1024;

/// The first chunk of a blob of unknown length: followers time out if it takes too long.
const FIRST_UNSIZED: u64 = 1024 * 1024;

const QUICK: Duration = Duration::from_millis(200);

const SLOW: Duration = Duration::from_secs(1);

/// How many extents are written concurrently.
const WRITES: usize = 2;

/// The size of the next chunk, by the time that the last one of `want` bytes took.
fn next_want(want: u64, took: Duration) -> u64 {
    match took {
        took if took < QUICK => (want * 2).min(HELD),
        took if took > SLOW => (want / 2).max(FIRST),
        _ => want,
    }
}

impl<P: Platform> Mirror<P> {
    /// Downloads a blob from an upstream into the store, and publishes its progress.
    pub(super) async fn fill(
        &self,
        source: UpstreamBlob<P>,
        mirrored: &Mirrored,
        digest: &Digest,
        fill: &Fill<P::Bytes>,
    ) -> Result<(), UpstreamError> {
        let UpstreamBlob {
            reader,
            size,
            mut begun,
        } = source;
        let mut download = Download {
            mirror: self,
            mirrored,
            digest,
            reader,
            hasher: None,
            size,
            offset: begun.offset(),
            want: FIRST,
            resumed: None,
        };
        let received = self.receive_fill(&mut download, &mut begun, fill).await;
        if let Err(error) = &received {
            // Set this before any await: no request may join the failed fill.
            fill.0.borrow_mut().outcome = Some(Err(error.clone()));
        }
        download.reader.give_up().await;
        let name = &mirrored.name;
        match received {
            Ok(()) => {
                let session = begun.session(name);
                let sealed = SealedUpload {
                    number: 1,
                    extents: begun.extents.clone(),
                    by: Delivery::Fill,
                };
                if let Err(error) = self.uploads.seal(session, sealed, digest).await {
                    if error.code() == Code::BlobUploadUnknown
                        && self.is_closed(name, begun.id, digest).await
                    {
                        // Another isolate continued the same fill and closed it. The bytes that
                        // this one read are stored and verified.
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
                    // Some bytes are wrong, and nothing tells which.
                    self.drop_fill(name, digest, begun).await;
                }
                Err(error)
            }
        }
    }

    /// Stores a blob of unknown length, up to `most` bytes.
    /// Nothing reads it before its digest is verified.
    pub(super) async fn fill_unsized(
        &self,
        body: P::Body,
        most: u64,
        name: &Name,
        digest: &Digest,
        fill: &Fill<P::Bytes>,
    ) -> Result<(), Error> {
        let mut begun = self.begin_anew();
        let mut reader = self.host.read(body)?;
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
                let sealed = SealedUpload {
                    number: 1,
                    extents: begun.extents.clone(),
                    by: Delivery::Fill,
                };
                let session = begun.session(name);
                self.uploads.seal(session, sealed, digest).await
            }
            Err(error) => Err(error),
        };
        if sealed.is_err() {
            self.drop_fill(name, digest, begun).await;
        }
        sealed
    }

    /// Reads a body of unknown length into extents, and verifies its digest.
    /// Extents are noted in `begun` before they are written, so that none is left over.
    async fn receive_unsized(
        &self,
        reader: &mut ReaderOf<P>,
        most: u64,
        (name, digest): (&Name, &Digest),
        begun: &mut BegunFill,
        fill: &Fill<P::Bytes>,
    ) -> Result<(), Error> {
        let mut hasher = self.host.hasher(digest.algorithm())?;
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
            let content = Content::Held(chunk);
            let options = PutOptions::default();
            self.store
                .put(&Key::extent(&extent.key), content, options)
                .await?;
        }
        let found = hasher.finish().await?;
        if found != *digest {
            let found = format!("its bytes have the digest {found}");
            return Err(Error::new(Code::DigestInvalid, found));
        }
        Ok(())
    }

    /// Stores a blob chunk by chunk.
    /// Writes under way are awaited even if the rest fails:
    /// their extents must be known to be deleted.
    async fn receive_fill(
        &self,
        download: &mut Download<'_, P>,
        begun: &mut BegunFill,
        fill: &Fill<P::Bytes>,
    ) -> Result<(), UpstreamError> {
        let bound = begun.bound;
        download.hash_begun(begun, fill).await?;
        let mut writes = Writes {
            mirror: self,
            name: &download.mirrored.name,
            digest: download.digest,
            id: begun.id,
            fill,
            queue: FuturesOrdered::new(),
            stored: &mut begun.extents,
        };
        let received = async {
            while download.offset < download.size {
                let offset = download.offset;
                if !fill.is_wanted(offset) {
                    let found = "no client waits for it any more".to_owned();
                    return Err(UpstreamError::Failed(found));
                }
                let asked = self.host.now();
                let Some(chunk) = download.next(&mut writes).await? else {
                    continue;
                };
                bound
                    .check(&self.host)
                    .map_err(|error| UpstreamError::Store(error.message()))?;
                fill.receive(offset, chunk.clone(), self.host.now());
                writes.push(offset, chunk);
                // Readers get a turn: a fast upstream would leave them none.
                self.host.sleep(Duration::ZERO).await;
                download.want = next_want(download.want, self.host.now().since(asked));
                writes.land_below(WRITES).await?;
            }
            Ok(())
        };
        let received = received.await;
        let landed = writes.land_all().await;
        received.and(landed)
    }
}

/// A blob that is read from an upstream, and hashed.
struct Download<'a, P: Platform> {
    mirror: &'a Mirror<P>,
    mirrored: &'a Mirrored,
    digest: &'a Digest,
    reader: ReaderOf<P>,
    /// `None` before the stored part is hashed, and after the whole blob is.
    hasher: Option<HasherOf<P>>,
    size: u64,
    offset: u64,
    /// The length of the next chunk.
    want: u64,
    /// The offset from which the upstream was last asked for the rest.
    resumed: Option<u64>,
}

impl<P: Platform> Download<'_, P> {
    /// Hashes the part of the blob that is stored.
    async fn hash_begun(
        &mut self,
        begun: &BegunFill,
        fill: &Fill<P::Bytes>,
    ) -> Result<(), UpstreamError> {
        let hasher = self.mirror.host.hasher(self.digest.algorithm());
        let mut hasher = hasher.map_err(UpstreamError::from)?;
        let hashed = self.mirror.hash_begun(&mut hasher, begun, fill).await;
        hashed.map_err(UpstreamError::from)?;
        self.hasher = Some(hasher);
        Ok(())
    }

    /// Reads the next chunk while writes complete.
    /// `None` if the upstream broke off and was asked for the rest.
    /// The digest is verified before the last chunk is returned.
    async fn next(
        &mut self,
        writes: &mut Writes<'_, P>,
    ) -> Result<Option<P::Bytes>, UpstreamError> {
        let most = self.want.min(self.size - self.offset);
        let Ok(Some(chunk)) = writes.land_beside(self.reader.hold(most)).await? else {
            self.resume().await?;
            return Ok(None);
        };
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&chunk).await.map_err(UpstreamError::from)?;
        }
        self.offset += chunk.len();
        if self.offset == self.size {
            let hasher = self.hasher.take();
            let hasher = hasher
                .ok_or_else(|| UpstreamError::Wrong("the registry hashed it twice".to_owned()))?;
            let found = hasher.finish().await.map_err(UpstreamError::from)?;
            if found != *self.digest {
                let digest = self.digest;
                let found = format!("the upstream sent blob {digest} with the digest {found}");
                return Err(UpstreamError::Wrong(found));
            }
        }
        Ok(Some(chunk))
    }

    /// Asks an upstream that broke off for the rest, once from each offset.
    /// If it has made progress, it may make more.
    async fn resume(&mut self) -> Result<(), UpstreamError> {
        let (offset, size) = (self.offset, self.size);
        let found = format!("the connection closed after {offset} of {size} bytes");
        let error = UpstreamError::Failed(found);
        if self.resumed == Some(offset) {
            return Err(error);
        }
        (self.resumed, self.want) = (Some(offset), FIRST);
        let rest = self.mirror.open_rest(self.mirrored, self.digest, offset);
        let rest = rest.await?.filter(|(_, all)| *all == size);
        let (rest, _) = rest.ok_or(error)?;
        let before = replace(&mut self.reader, rest);
        before.give_up().await;
        Ok(())
    }
}

/// The extents that are being written, in the order of their offsets.
struct Writes<'a, P: Platform> {
    mirror: &'a Mirror<P>,
    name: &'a Name,
    digest: &'a Digest,
    id: UploadId,
    fill: &'a Fill<P::Bytes>,
    queue: FuturesOrdered<LocalBoxFuture<'a, Result<(u64, Extent), StoreError>>>,
    /// The extents that were written.
    stored: &'a mut Vec<Extent>,
}

impl<P: Platform> Writes<'_, P> {
    /// Begins to write a chunk as an extent.
    fn push(&mut self, offset: u64, chunk: P::Bytes) {
        let (mirror, name, digest, id, fill) =
            (self.mirror, self.name, self.digest, self.id, self.fill);
        let extent = Extent {
            key: ExtentName::new(id, offset, &mirror.host.nonce()),
            size: chunk.len(),
        };
        self.queue.push_back(Box::pin(async move {
            // The client's first bytes go before the writes.
            fill.get_under_way(&mirror.host).await;
            if offset == 0 {
                mirror.start_fill(name, digest, id).await?;
            }
            let key = Key::extent(&extent.key);
            let content = Content::Held(chunk);
            let options = PutOptions::default();
            mirror.store.put(&key, content, options).await?;
            Ok((offset, extent))
        }));
    }

    /// Notes an extent that was written, or returns the error of its write.
    fn land(&mut self, written: Result<(u64, Extent), StoreError>) -> Result<(), UpstreamError> {
        let (offset, extent) = written.map_err(UpstreamError::from)?;
        self.stored.push(extent.clone());
        self.fill.store(offset, extent, self.mirror.host.now());
        Ok(())
    }

    /// Awaits a read, while writes complete.
    async fn land_beside<T>(
        &mut self,
        reading: impl Future<Output = T>,
    ) -> Result<T, UpstreamError> {
        let mut reading = pin!(reading);
        loop {
            if self.queue.is_empty() {
                return Ok(reading.await);
            }
            match select(reading, self.queue.next()).await {
                Either::Left((read, _)) => return Ok(read),
                Either::Right((written, rest)) => {
                    written.map_or(Ok(()), |written| self.land(written))?;
                    reading = rest;
                }
            }
        }
    }

    /// Waits until fewer than `most` extents are being written.
    async fn land_below(&mut self, most: usize) -> Result<(), UpstreamError> {
        while self.queue.len() >= most {
            let written = self.queue.next().await;
            written.map_or(Ok(()), |written| self.land(written))?;
        }
        Ok(())
    }

    /// Waits for all writes, and returns the first failure.
    async fn land_all(&mut self) -> Result<(), UpstreamError> {
        let mut landed = Ok(());
        while let Some(written) = self.queue.next().await {
            landed = landed.and(self.land(written));
        }
        landed
    }
}
