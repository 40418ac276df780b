//! Request bodies that no service took.

use std::pin::pin;

use futures_util::future::select;

use crate::{
    host::Clock as _,
    ledger::MemoryKind,
    platform::Platform,
    registry::{Registry, request::Request, slots::DRAIN_TIMEOUT},
    store::{PIECE, Reader as _, StoreError, Streams as _},
};

/// The most bytes that are read: two of the smallest chunks that clients should send.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// The memory that reading a body takes, in JavaScript and in wasm.
const MEMORY: u64 = 2 * PIECE as u64;

/// The most bodies of one sender that are read at a time in an isolate.
const MAX_OF_SENDER: u32 = 8;

/// The most bodies of callers without the permission, of all together, that are read at a time in
/// an isolate. Some clients send each chunk without a token first, so some are read. Anybody can
/// send such bodies, so few are.
const MAX_REFUSED: u32 = 4;

/// The sender of all bodies of callers without the permission. The name of no sender is like it.
const REFUSED: &str = "refused";

impl<P: Platform> Registry<P> {
    /// Reads a small body to its end, and drops the bytes. Clients send the next request on the
    /// same connection, and a server that leaves bytes of a body unread has to close it.
    ///
    /// This delays the response: the platform stops reading a body once the response is made.
    pub(super) async fn drain(&self, request: &mut Request<P::Body>, is_admitted: bool) {
        let Some(body) = request.body.take() else {
            return;
        };
        let length = request.payload().length().ok().flatten();
        // An empty body leaves nothing on the connection.
        if length.is_some_and(|length| !(1..=MAX_BYTES).contains(&length)) {
            return self.host.discard(body).await;
        }
        let sender = self.ledger.sender().filter(|_| is_admitted);
        let (sender, most) = match &sender {
            Some(sender) => (&**sender, MAX_OF_SENDER),
            None => (REFUSED, MAX_REFUSED),
        };
        let slot = self.drained.take(sender, most, &self.host);
        let lease = self
            .ledger
            .take(MemoryKind::Buffer, MEMORY, self.host.now());
        let (Some(slot), Ok(_lease)) = (slot, lease) else {
            return self.host.discard(body).await;
        };
        // The response is decided already, so an error here changes nothing.
        let read = pin!(slot.hold(self.read_up_to(body, MAX_BYTES)));
        select(read, pin!(self.host.sleep(DRAIN_TIMEOUT))).await;
    }

    async fn read_up_to(&self, body: P::Body, limit: u64) -> Result<(), StoreError> {
        let mut reader = self.host.read(body)?;
        let mut piece = Vec::new();
        let mut length = 0;
        while reader.next(&mut piece).await? {
            length += piece.len() as u64;
            if length > limit {
                reader.give_up().await;
                return Ok(());
            }
        }
        Ok(())
    }
}
