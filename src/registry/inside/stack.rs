//! The stacked layers of an image, for one request: its budget, and its cache of their indexes.

use std::{cell::RefCell, rc::Rc, time::Duration};

use http::StatusCode;

use crate::{
    budget::{Budget, LookupLimits, Spent},
    digest::Digest,
    error::{Code, Error, RETRY_AFTER},
    host::Clock as _,
    layer::{entry::Entry, tree},
    ledger::{Lease, MemoryKind},
    name::Name,
    platform::Platform,
    registry::inside::{
        Inside,
        layer::{Layer, Opened},
    },
    store::trace::Trace,
};

/// Stacked layers, the lowest first. A layer that occurs several times is opened once, and a copy
/// right above itself changes nothing.
///
/// The indexes of the layers are cached, see [`Indexes`].
/// An evicted one is read again when it is needed.
pub(super) struct Stack<'a, P: Platform> {
    inside: &'a Inside<P>,
    name: &'a Name,
    trace: &'a Trace<P::Bytes>,
    budget: Budget,
    /// The memory of a lookup that takes much.
    lease: RefCell<Option<Lease>>,
    /// The key of this stack in [`Indexes`].
    number: u64,
    /// The layers, as positions in `known`.
    order: Vec<usize>,
    known: Vec<LayerDigests>,
}

/// The digests of a layer, kept for the whole request.
struct LayerDigests {
    digest: Digest,
    diff_id: Digest,
}

impl<'a, P: Platform> Stack<'a, P> {
    /// An empty stack.
    pub(super) fn new(inside: &'a Inside<P>, name: &'a Name, trace: &'a Trace<P::Bytes>) -> Self {
        let next = &inside.indexes.next;
        let number = next.get();
        next.set(number.wrapping_add(1));
        Self {
            inside,
            name,
            trace,
            budget: Budget::default(),
            lease: RefCell::default(),
            number,
            order: Vec::new(),
            known: Vec::new(),
        }
    }

    /// The budget of this request.
    pub(super) fn spent(&self) -> &Budget {
        &self.budget
    }

    /// Stacks a layer again that is in the stack already. Returns its diff ID, or `None` if the
    /// layer is not there yet.
    pub(super) fn repeat(&mut self, digest: &Digest) -> Option<Digest> {
        let number = self
            .known
            .iter()
            .position(|known| known.digest == *digest)?;
        if self.order.last() != Some(&number) {
            self.order.push(number);
        }
        let known = self.known.get(number)?;
        Some(known.diff_id.clone())
    }

    /// Stacks a layer that is new to the stack.
    pub(super) async fn push(&mut self, layer: Rc<Layer<P::Bytes>>) -> Result<(), Error> {
        let number = self.known.len();
        self.known.push(LayerDigests {
            digest: layer.digest.clone(),
            diff_id: layer.index.diff_id.clone(),
        });
        self.order.push(number);
        self.keep(number, layer).await
    }

    /// The digests of the layers, the lowest first.
    pub(super) fn digests(&self) -> impl Iterator<Item = &Digest> {
        let known = self.order.iter().map(|number| self.known.get(*number));
        known.flatten().map(|known| &known.digest)
    }

    /// A layer, opened again if its index was evicted.
    pub(super) async fn layer(&self, layer: usize) -> Result<Rc<Layer<P::Bytes>>, Error> {
        let number = self.order.get(layer).copied().unwrap_or(usize::MAX);
        let held = self
            .inside
            .indexes
            .shelf
            .borrow()
            .get(&(self.number, number));
        if let Some(layer) = held {
            return Ok(layer);
        }
        let gone = |what| Error::unavailable(format!("{what}; try again"), RETRY_AFTER);
        let Some(LayerDigests { digest, .. }) = self.known.get(number) else {
            return Err(gone(format!("layer {layer} of the image is not open")));
        };
        match self
            .inside
            .open_layer(self.name, digest, self.trace)
            .await?
        {
            Opened::Layer(layer) => {
                self.keep(number, layer.clone()).await?;
                Ok(layer)
            }
            Opened::Indexing(_) => Err(gone(format!(
                "the index of layer {digest} was deleted during the request"
            ))),
        }
    }

    async fn keep(&self, number: usize, layer: Rc<Layer<P::Bytes>>) -> Result<(), Error> {
        let (weight, outside) = layer.weight();
        self.work(OPEN + 2 * (weight + outside / READ)).await?;
        let weight = weight + outside / OUTSIDE;
        let mut shelf = self.inside.indexes.shelf.borrow_mut();
        shelf.insert((self.number, number), layer, weight);
        Ok(())
    }

    /// The entries of a layer's first path that is not before `from`.
    pub(super) async fn find(
        &self,
        layer: usize,
        from: &[u8],
    ) -> Result<Option<Vec<Entry>>, Error> {
        if layer >= self.order.len() {
            return Ok(None);
        }
        self.lease().await?;
        let layer = self.layer(layer).await?;
        let blocks = &self.inside.blocks.0;
        let read = async |block: usize| {
            let check = layer.index.check_of(block).unwrap_or_default();
            let key = (layer.digest.clone(), block, check);
            let held = blocks.borrow().get(&key);
            if let Some(entries) = held {
                return Ok(entries);
            }
            let entries = self.inside.block(&layer, block, self.trace).await?;
            let weight = entries.iter().map(Entry::weight).sum();
            self.work(2 * weight).await?;
            blocks.borrow_mut().insert(key, entries.clone(), weight);
            Ok(entries)
        };
        layer.index.seek(from, read).await
    }

    /// Leases the memory of a large lookup.
    /// The most that it may ever need is leased at once, while it holds little, so that large
    /// lookups never wait for each other.
    async fn lease(&self) -> Result<(), Error> {
        if self.lease.borrow().is_some() || self.budget.memory() <= FREE {
            return Ok(());
        }
        let Inside { ledger, host, .. } = self.inside;
        let lease = ledger.wait(host, MemoryKind::Wasm, LOOKUP as u64).await?;
        self.lease.replace(Some(lease));
        Ok(())
    }

    async fn work(&self, bytes: usize) -> Result<(), Error> {
        self.budget.work(bytes).map_err(spent)?;
        if self.budget.is_turn() {
            tree::Layers::turn(self).await;
        }
        Ok(())
    }
}

impl<P: Platform> tree::Layers for Stack<'_, P> {
    type Error = Error;

    fn count(&self) -> usize {
        self.order.len()
    }

    fn identity(&self, layer: usize) -> usize {
        self.order.get(layer).copied().unwrap_or(layer)
    }

    fn budget(&self) -> Budget {
        self.budget.clone()
    }

    async fn seek(&self, layer: usize, from: &[u8]) -> Result<Option<Vec<Entry>>, Error> {
        self.find(layer, from).await
    }

    async fn turn(&self) {
        // Awaiting a ready future yields to nothing, so await a timer.
        self.inside.host.sleep(Duration::ZERO).await;
        if let Some(lease) = &mut *self.lease.borrow_mut() {
            lease.renew(self.inside.host.now());
        }
    }
}

/// Evicts the stack's indexes: those of ended requests would push out those of others.
impl<P: Platform> Drop for Stack<'_, P> {
    fn drop(&mut self) {
        let mut shelf = self.inside.indexes.shelf.borrow_mut();
        for number in 0..self.known.len() {
            shelf.evict(&(self.number, number));
        }
    }
}

/// The error for a lookup that would exceed the budget of its request.
pub(super) fn spent(spent: Spent) -> Error {
    let found = format!(
        "the lookup reaches {spent}, the limit of a request: request a path without links, or a file of one layer"
    );
    Error::new(Code::FileUnknown, found).with_status(StatusCode::UNPROCESSABLE_ENTITY)
}

/// Divisor for the bytes of an index in the platform's memory, if they count as memory: many of
/// them are shared with the hot tier.
const OUTSIDE: usize = 2;
/// The same divisor, if they count as work: the platform reads them faster than this module.
const READ: usize = 8;
/// The memory that a lookup takes without a lease: more than nearly all lookups need.
const FREE: usize = 256 << 10;
/// The most memory of a lookup, without memory that all requests share: directories, cached
/// answers, and a page.
const LOOKUP: usize = LookupLimits::REQUEST.held + tree::SEEN + tree::MAX_WEIGHT;
/// The work of opening a layer, in addition to its index.
const OPEN: usize = 64 << 10;
