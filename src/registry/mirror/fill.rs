//! Fills: a blob of an upstream is stored while it is forwarded, with one download for all
//! concurrent clients.
//!
//! The first request that misses a blob fetches it from the upstream in chunks.
//! Each chunk is hashed, stored as an extent, and handed to that client if it keeps pace.
//! A slow client, and each later one, reads from the store instead, by reads of its own.
//! So a slow client delays no other, and no chunk waits in memory for it.
//! The last chunk is handed out only after the whole digest was verified, and only then does the
//! blob get a record.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Duration};

use crate::{
    host::Clock, range::ByteRange, registry::mirror::error::UpstreamError, store::key::Key,
    time::Timestamp, upload::Extent,
};

/// The blobs that this isolate is filling.
#[derive(Debug)]
pub(super) struct Fills<B>(RefCell<BTreeMap<String, Rc<Fill<B>>>>);

impl<B> Default for Fills<B> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

/// The progress of a blob that is being filled.
#[derive(Debug)]
pub(super) struct Fill<B>(pub(super) RefCell<FillState<B>>);

#[derive(Debug)]
pub(super) struct FillState<B> {
    /// The size of the blob; unknown until the upstream answers.
    pub(in crate::registry) size: Option<u64>,
    /// Chunks that are not stored yet, with their offsets.
    chunks: Vec<(u64, B)>,
    /// Stored extents with their offsets, in order.
    stored: Vec<(u64, Extent)>,
    pub(super) outcome: Option<Result<(), UpstreamError>>,
    /// The time of the last progress. A fill that stalls for long has lost its request.
    moved: Timestamp,
    readers: u32,
    /// Whether a reader has asked for more than the first chunk, or the wait for that is over.
    is_under_way: bool,
    /// Whether the fill stops early, because it has no readers.
    is_given_up: bool,
}

/// The part that a request has in a fill.
pub(super) enum Role<B> {
    /// It fetches from the upstream.
    Leads(FillReader<B>),
    /// It reads another request's fill.
    Follows(FillReader<B>),
}

/// The bytes at an offset of a blob.
pub(super) enum FillBytes<B> {
    Held(B),
    Stored(Key, Option<ByteRange>, u64),
    Nothing,
    Lost(UpstreamError),
}

/// A fill that makes no progress for so long is dead.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long the first write waits for the client's first bytes.
const COURTESY: Duration = Duration::from_millis(50);

/// The pauses of waiting readers: the first, and the longest.
pub(super) const FIRST_LOOK: Duration = Duration::from_millis(1);
pub(super) const LAST_LOOK: Duration = Duration::from_millis(20);

impl<B: crate::store::Bytes> Fills<B> {
    /// Joins the fill of a blob, or begins one.
    pub(super) fn join(&self, key: &str, now: Timestamp) -> Role<B> {
        let mut fills = self.0.borrow_mut();
        if let Some(fill) = fills.get(key).filter(|fill| fill.is_alive(now)) {
            return Role::Follows(FillReader::of(fill, false));
        }
        // The platform runs no destructors for a cancelled request: the next fill removes fills of
        // such requests.
        fills.retain(|_, fill| fill.is_alive(now));
        let fill = Rc::new(Fill(RefCell::new(FillState {
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
        Role::Leads(FillReader::of(&fill, true))
    }

    /// Publishes the outcome of a fill to its readers, and removes the fill:
    /// later requests find none.
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
        let is_at_work = progress.outcome.is_none() && !progress.is_given_up;
        is_at_work && now.since(progress.moved) < PATIENCE
    }

    /// Sets the size of the blob, and the extents that are stored already.
    pub(super) fn begin(&self, size: u64, begun: &[Extent], now: Timestamp) {
        let mut progress = self.0.borrow_mut();
        progress.size = Some(size);
        let mut offset = 0;
        for extent in begun {
            progress.stored.push((offset, extent.clone()));
            offset += extent.size;
        }
        progress.moved = now;
    }

    /// Waits for the size of the blob; `None` if the blob is stored already.
    pub(super) async fn wait(&self, host: &impl Clock) -> Result<Option<u64>, UpstreamError> {
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

    /// Notes progress, so that waiting readers do not time out.
    pub(super) fn moves(&self, now: Timestamp) {
        self.0.borrow_mut().moved = now;
    }

    pub(super) fn receive(&self, offset: u64, chunk: B, now: Timestamp) {
        let mut progress = self.0.borrow_mut();
        progress.chunks.push((offset, chunk));
        progress.moved = now;
    }

    pub(super) fn store(&self, offset: u64, extent: Extent, now: Timestamp) {
        let mut progress = self.0.borrow_mut();
        progress.chunks.retain(|(other, _)| *other != offset);
        progress.stored.push((offset, extent));
        progress.moved = now;
    }

    /// Whether the fill should continue: it has readers, or most of the blob is there.
    /// A fill that is given up takes no new readers, because it does not end at once.
    pub(super) fn is_wanted(&self, offset: u64) -> bool {
        let mut progress = self.0.borrow_mut();
        let is_mostly_there = offset.saturating_mul(2) >= progress.size.unwrap_or_default();
        let is_wanted = progress.readers > 0 || is_mostly_there;
        progress.is_given_up |= !is_wanted;
        is_wanted
    }

    /// Waits until a client has its first bytes, with a short timeout:
    /// the client may be slow, or gone.
    pub(super) async fn get_under_way(&self, host: &impl Clock) {
        let until = host.now() + COURTESY;
        while !self.0.borrow().is_under_way && host.now() < until {
            host.sleep(FIRST_LOOK).await;
        }
        self.0.borrow_mut().is_under_way = true;
    }

    pub(super) fn next(&self, at: u64, keeps_pace: bool, now: Timestamp) -> FillBytes<B> {
        let mut progress = self.0.borrow_mut();
        progress.is_under_way |= at > 0;
        if let Some(Err(error)) = &progress.outcome {
            return FillBytes::Lost(error.clone());
        }
        let stored = progress.stored.partition_point(|(offset, _)| *offset <= at);
        if let Some((offset, extent)) = stored
            .checked_sub(1)
            .and_then(|last| progress.stored.get(last))
            && at < offset + extent.size
        {
            let range = ByteRange::new(at - offset, extent.size - 1).filter(|_| at > *offset);
            return FillBytes::Stored(Key::extent(&extent.key), range, offset + extent.size);
        }
        let has = |(offset, chunk): &&(u64, B)| (*offset..offset + chunk.len()).contains(&at);
        match progress.chunks.iter().find(has).filter(|_| keeps_pace) {
            Some((offset, chunk)) => FillBytes::Held(chunk.slice(at - offset, chunk.len())),
            None if progress.outcome.is_none() && now.since(progress.moved) >= PATIENCE => {
                FillBytes::Lost(UpstreamError::Late)
            }
            None => FillBytes::Nothing,
        }
    }
}

/// A reader of a fill, counted while it lives.
pub(in crate::registry) struct FillReader<B> {
    pub(super) fill: Rc<Fill<B>>,
    /// Whether it gets chunks from memory before they are stored.
    pub(super) keeps_pace: bool,
}

impl<B> FillReader<B> {
    fn of(fill: &Rc<Fill<B>>, keeps_pace: bool) -> Self {
        fill.0.borrow_mut().readers += 1;
        Self {
            fill: fill.clone(),
            keeps_pace,
        }
    }
}

impl<B> Drop for FillReader<B> {
    fn drop(&mut self) {
        self.fill.0.borrow_mut().readers -= 1;
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;
    use crate::memory::MemoryBytes;

    /// A client that comes while a fill is being given up begins another fill.
    #[test]
    fn abandoned_fills_take_no_readers() {
        let fills = Fills::<MemoryBytes>::default();
        let now = Timestamp(1_800_000_000_000);
        let Role::Leads(reader) = fills.join("blob", now) else {
            panic!("nobody fills it");
        };
        let fill = reader.fill.clone();
        fill.0.borrow_mut().size = Some(10);
        assert!(fill.is_wanted(1), "it has a reader");
        assert!(matches!(fills.join("blob", now), Role::Follows(_)));
        drop(reader);
        assert!(fill.is_wanted(5), "half of it is there");
        assert!(matches!(fills.join("blob", now), Role::Follows(_)));
        assert!(!fill.is_wanted(4));
        assert!(matches!(fills.join("blob", now), Role::Leads(_)));
    }

    /// A fill of a cancelled request holds its chunks until the next fill of any blob.
    #[test]
    fn fills_of_cancelled_requests_are_forgotten() {
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
