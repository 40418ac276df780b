//! A layer that can be read from the middle.

use std::{cell::RefCell, collections::BTreeMap, ops::Range, rc::Rc};

use crate::{
    digest::Digest,
    layer::index::{Index, Span},
    ledger::Lease,
    store::{StoreError, document::Record, warm::TierContent},
    time::Timestamp,
};

/// A layer that can be read from the middle.
pub(super) struct Layer<B> {
    pub(super) digest: Digest,
    pub(super) record: Record,
    /// The index, or its head alone.
    pub(super) content: Rc<TierContent<B>>,
    pub(super) index: Index,
    /// The memory of the content outside of this module, and of the head of the index.
    pub(super) leases: RefCell<Vec<Lease>>,
}

impl<B: crate::store::Bytes> Layer<B> {
    /// About the memory of the layer: in this module, and in the platform's memory.
    pub(super) fn weight(&self) -> (usize, usize) {
        let objects = usize::try_from(self.record.objects()).unwrap_or(usize::MAX);
        let record = objects.saturating_mul(EXTENT);
        let outside = usize::try_from(self.content.bytes.len()).unwrap_or(usize::MAX);
        (self.index.weight().saturating_add(record), outside)
    }

    /// Renews the leases of its memory.
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
            None => Err(self.lacks(&format!("its span {at} was not read"))),
        };
        let parts: Vec<_> = self.index.spans_of(bytes).map(part).collect();
        parts.into_iter()
    }

    /// The part of a span that overlaps this range of the archive.
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

/// How bytes of a layer's archive are read.
pub(super) enum SpanRead<B> {
    /// From these spans, which are in memory under this lease.
    Held(BTreeMap<usize, B>, Option<Rc<Lease>>),
    /// From spans that are fetched while the reply is read, in memory under this lease.
    Passing(Rc<RefCell<Lease>>),
}

/// The progress of a pass over a layer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::registry) struct PassProgress {
    /// The bytes of the layer that were read.
    pub(in crate::registry) read: u64,
    /// The size of the layer.
    pub(in crate::registry) size: u64,
    /// Whether the layer has an index, or was refused one.
    pub(super) is_done: bool,
}

/// The result of opening a layer.
pub(super) enum Opened<B> {
    Layer(Rc<Layer<B>>),
    Indexing(PassProgress),
}

/// About the memory of an extent in a blob's record.
const EXTENT: usize = 128;
