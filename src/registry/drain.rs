//! Request bodies that no service took.

use std::{pin::pin, rc::Rc, time::Duration};

use futures_util::future::select;

use crate::{
    host::Clock as _,
    ledger::MemoryKind,
    platform::Platform,
    registry::{Registry, request::Request},
    store::{PIECE, Reader as _, StoreError, Streams as _},
};

/// The most bytes that are read: two of the smallest chunks that clients should send.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// The timeout for reading them.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The memory that reading a body takes, in JavaScript and in wasm.
const MEMORY: u64 = 2 * PIECE as u64;

/// The most bodies of callers without the permission that are read at a time in an isolate. Some
/// clients send each chunk without a token first, so some are read. Anybody can send such bodies,
/// so few are.
const MAX_REFUSED: usize = 4;

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
        let is_read = is_admitted || Rc::strong_count(&self.refused) <= MAX_REFUSED;
        let _refused = (!is_admitted).then(|| Rc::clone(&self.refused));
        // An empty body leaves nothing on the connection.
        let is_small = length.is_none_or(|length| (1..=MAX_BYTES).contains(&length));
        if !is_small || !is_read {
            return self.host.discard(body).await;
        }
        let now = self.host.now();
        let Ok(_lease) = self.ledger.take(MemoryKind::Buffer, MEMORY, now) else {
            return self.host.discard(body).await;
        };
        // The response is decided already, so an error here changes nothing.
        let read = pin!(self.read_up_to(body, MAX_BYTES));
        select(read, pin!(self.host.sleep(TIMEOUT))).await;
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
