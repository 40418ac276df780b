//! Downloads: a blob is read from an upstream, hashed, and stored in extents.

use std::{mem::replace, pin::pin, time::Duration};

use futures_util::{
    StreamExt as _,
    future::{Either, select},
    stream::FuturesOrdered,
};

use crate::{
    digest::Digest,
    error::{Code, Error},
    host::Host,
    name::Name,
    platform::{Platform, ReaderOf},
    registry::{
        grant::Look,
        mirror::{Mirror, error::UpstreamError, fill::Fill, resume::Begun},
        upload::{close::Sealed, delivery::Delivery},
    },
    store::{Bytes as _, HELD, Hasher as _, Reader as _, StoreError, Streams, key::Key},
    upload::{Extent, ExtentName, Step},
    upstream::Mirrored,
};

/// A blob that is sent on, from the reply of an upstream.
pub(super) struct Source<R> {
    /// What comes after what is stored.
    pub(super) reader: R,
    pub(super) size: u64,
    pub(super) begun: Begun,
}

/// The first chunk is small, so that a client hears soon. They grow while they come quickly, and shrink where they don't.
const FIRST: u64 = 64 * 1024;

/// The first chunk of a blob of unknown length: followers time out if it takes too long.
const FIRST_UNSIZED: u64 = 1024 * 1024;

const QUICK: Duration = Duration::from_millis(200);

const SLOW: Duration = Duration::from_secs(1);

/// How many extents are written at the same time.
const WRITES: usize = 2;

/// How many bytes to read next, after a chunk of `want` bytes took so long.
fn next_want(want: u64, took: Duration) -> u64 {
    match took {
        took if took < QUICK => (want * 2).min(HELD),
        took if took > SLOW => (want / 2).max(FIRST),
        _ => want,
    }
}

impl<P: Platform> Mirror<P> {
    /// Reads a blob from an upstream into the store, and says on the way how far it has come.
    pub(super) async fn fill(
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
    pub(super) async fn fill_unsized(
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
