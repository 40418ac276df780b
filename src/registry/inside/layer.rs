//! A layer that can be read from the middle.

use std::{cell::RefCell, collections::BTreeMap, ops::Range, rc::Rc};

use crate::{
    digest::Digest,
    layer::index::{Index, Span},
    ledger::Lease,
    store::{StoreError, document::Record, warm::Content},
    time::Timestamp,
};

/// A layer that can be read from the middle.
pub(super) struct Layer<B> {
    pub(super) digest: Digest,
    pub(super) record: Record,
    /// The index, or its head alone.
    pub(super) content: Rc<Content<B>>,
    pub(super) index: Index,
    /// The memory of the content outside of this module, and of the head of the index.
    pub(super) leases: RefCell<Vec<Lease>>,
}

impl<B: crate::store::Bytes> Layer<B> {
    /// About the memory that it takes: here, and in the platform's memory.
    pub(super) fn weight(&self) -> (usize, usize) {
        let objects = usize::try_from(self.record.objects()).unwrap_or(usize::MAX);
        let record = objects.saturating_mul(EXTENT);
        let outside = usize::try_from(self.content.bytes.len()).unwrap_or(usize::MAX);
        (self.index.weight().saturating_add(record), outside)
    }

    /// Says that its memory is still held.
    pub(super) fn renew(&self, now: Timestamp) {
        for lease in &mut *self.leases.borrow_mut() {
            lease.renew(now);
        }
    }

    /// The parts of the spans in `read` that overlap this range of the archive. A span that was not
    /// read is an error: the response would lack its bytes.
    pub(super) fn held(
        &self,
        bytes: &Range<u64>,
        read: &BTreeMap<usize, B>,
    ) -> std::vec::IntoIter<Result<B, StoreError>> {
        let part = |at| match read.get(&at) {
            Some(whole) => self.cut(at, whole, bytes),
            None => Err(self.lacks(&format!("span {at} of it was not read"))),
        };
        let parts: Vec<_> = self.index.spans_of(bytes).map(part).collect();
        parts.into_iter()
    }

    /// What a span has of these bytes of the archive.
    pub(super) fn cut(&self, at: usize, whole: &B, bytes: &Range<u64>) -> Result<B, StoreError> {
        let Some(Span { output, .. }) = self.index.spans.get(at) else {
            return Err(self.lacks(&format!("its index has no span {at}")));
        };
        let first = bytes.start.saturating_sub(output.start);
        let end = bytes.end.min(output.end).saturating_sub(output.start);
        Ok(whole.slice(first, end))
    }

    fn lacks(&self, problem: &str) -> StoreError {
        StoreError::Failed(format!("layer {}: {problem}", self.digest))
    }
}

/// How bytes of the archive of a layer are read.
pub(super) enum Reading<B> {
    /// From these spans, which are here, in memory that is leased for as long.
    Held(BTreeMap<usize, B>, Option<Rc<Lease>>),
    /// As the reply is, in memory that is leased for as long.
    Passing(Rc<RefCell<Lease>>),
}

/// How far a pass over a layer has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::registry) struct Progress {
    /// The bytes of the layer that were read.
    pub(in crate::registry) read: u64,
    /// Its size.
    pub(in crate::registry) size: u64,
    /// Whether what there is to know of it is known.
    pub(super) is_done: bool,
}

/// A layer, as far as it is known.
pub(super) enum Opened<B> {
    Layer(Rc<Layer<B>>),
    Indexing(Progress),
}

/// About the memory that an extent of a blob's record takes.
const EXTENT: usize = 128;
