//! Filling: a blob of an upstream is sent on while it is stored, and sent for once for all who want it.
//!
//! Who misses a blob first asks the upstream for it and reads the reply in chunks. Each chunk is hashed, stored as an extent and
//! handed to that client, if it keeps pace: one that does not reads what it missed from the store, as all who come later do, each
//! by reads of its own. So a slow client holds up nobody, and nothing waits in memory for it. The last chunk is handed to nobody
//! before the digest of all was seen to be right, and only then does the blob get a record.

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

/// A blob that is being filled, as far as it has come.
#[derive(Debug)]
pub(super) struct Fill<B>(pub(super) RefCell<Progress<B>>);

#[derive(Debug)]
pub(super) struct Progress<B> {
    /// How long the blob is; unknown until the upstream answers.
    pub(in crate::registry) size: Option<u64>,
    /// Chunks that are not stored yet, by where they begin.
    chunks: Vec<(u64, B)>,
    /// Where extents begin that are stored, in order.
    stored: Vec<(u64, Extent)>,
    pub(super) outcome: Option<Result<(), UpstreamError>>,
    /// When it last got on. A fill that does not for long has lost its request.
    moved: Timestamp,
    readers: u32,
    /// Whether a reader took the first chunk and came for more, or was waited for.
    is_under_way: bool,
    /// Whether it ends before the blob does, because nobody reads it.
    is_given_up: bool,
}

/// What a request is to a fill.
pub(super) enum Part<B> {
    /// It asks the upstream.
    Leads(Reader<B>),
    /// Another request does.
    Follows(Reader<B>),
}

/// What there is at a place in a blob.
pub(super) enum Next<B> {
    Held(B),
    Stored(Key, Option<ByteRange>, u64),
    Nothing,
    Lost(UpstreamError),
}

/// How long a fill may stand still.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long the first write lets the client's first bytes go before it.
const COURTESY: Duration = Duration::from_millis(50);

/// How often those who wait look.
pub(super) const FIRST_LOOK: Duration = Duration::from_millis(1);
pub(super) const LAST_LOOK: Duration = Duration::from_millis(20);

impl<B: crate::store::Bytes> Fills<B> {
    /// Joins a fill, or begins one.
    pub(super) fn join(&self, key: &str, now: Timestamp) -> Part<B> {
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

    /// Says how long the blob is, and what of it is stored already.
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

    /// Waits until it is known how long the blob is; `None` where it is stored already.
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

    /// Notes that bytes came, so that those who wait go on waiting.
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

    /// Whether it is worth going on: somebody reads it, or most of it is there. A fill that is given
    /// up takes no new readers, because it does not end at once.
    pub(super) fn is_wanted(&self, offset: u64) -> bool {
        let mut progress = self.0.borrow_mut();
        let is_mostly_there = offset.saturating_mul(2) >= progress.size.unwrap_or_default();
        let is_wanted = progress.readers > 0 || is_mostly_there;
        progress.is_given_up |= !is_wanted;
        is_wanted
    }

    /// Waits until a client has its first bytes, but not for long: one may be slow, or gone.
    pub(super) async fn get_under_way(&self, host: &impl Clock) {
        let until = host.now() + COURTESY;
        while !self.0.borrow().is_under_way && host.now() < until {
            host.sleep(FIRST_LOOK).await;
        }
        self.0.borrow_mut().is_under_way = true;
    }

    pub(super) fn next(&self, at: u64, keeps_pace: bool, now: Timestamp) -> Next<B> {
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
            return Next::Stored(Key::extent(&extent.key), range, offset + extent.size);
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
    pub(super) fill: Rc<Fill<B>>,
    /// Whether chunks are handed to it that are not stored yet.
    pub(super) keeps_pace: bool,
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

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;
    use crate::memory::MemoryBytes;

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
