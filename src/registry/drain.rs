//! Bodies that no service took.

use std::{pin::pin, time::Duration};

use futures_util::future::select;

use crate::{
    host::Clock as _,
    ledger::Ledger,
    platform::Platform,
    registry::{Registry, request::Request},
    store::{Reader as _, StoreError, Streams as _},
};

/// The most bytes that are read for the connection's sake, and the timeout for reading them.
struct Limit {
    bytes: u64,
    timeout: Duration,
}

impl Limit {
    /// The limit for a caller without the permission that the request needs.
    const REFUSED: Self = Self {
        bytes: Ledger::FREE,
        timeout: Duration::from_secs(1),
    };

    /// The limit for a caller with that permission: two of the smallest chunks that clients should
    /// send.
    const ADMITTED: Self = Self {
        bytes: 16 * 1024 * 1024,
        timeout: Duration::from_secs(10),
    };
}

impl<P: Platform> Registry<P> {
    /// Reads a small body to its end, and drops the bytes. Clients send the next request on the
    /// same connection, and a server that leaves bytes of a body unread has to close it.
    pub(super) async fn drain(&self, request: &mut Request<P::Body>, is_admitted: bool) {
        let Some(body) = request.body.take() else {
            return;
        };
        let limit = if is_admitted {
            Limit::ADMITTED
        } else {
            Limit::REFUSED
        };
        let length = request.payload().length().ok().flatten();
        if length.is_some_and(|length| length > limit.bytes) {
            return self.host.discard(body).await;
        }
        // An error changes nothing: the response is one already.
        let read = pin!(self.read_up_to(body, limit.bytes));
        select(read, pin!(self.host.sleep(limit.timeout))).await;
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
