//! Bounds of operations: how long one may write, and how many run at once.

use std::{future::Future, time::Duration};

use crate::{
    error::{Error, RETRY_AFTER},
    host::Clock,
    time::Timestamp,
};

/// BOUND of the removal protocol: an operation starts no further write once half the grace period
/// has passed since its start.
/// From then on, a sweep may treat the objects that it wrote as abandoned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    start: Timestamp,
    limit: Duration,
}

impl Bound {
    /// Starts the clock of an operation.
    pub(super) fn start(host: &impl Clock, grace: Duration) -> Self {
        Self::since(host.now(), grace)
    }

    /// Continues an operation whose session was read at an earlier time.
    pub(super) fn since(start: Timestamp, grace: Duration) -> Self {
        Self {
            start,
            limit: grace / 2,
        }
    }

    /// Fails once the time is over.
    pub(super) fn check(self, host: &impl Clock) -> Result<(), Error> {
        if host.now().since(self.start) < self.limit {
            Ok(())
        } else {
            Err(Error::unavailable(
                "the push took longer than half the grace period; start it again",
                RETRY_AFTER,
            ))
        }
    }
}

/// The concurrent store operations of one request: the platform lets six wait for their headers.
const CONCURRENCY: usize = 6;

/// Runs an operation for each item, several at a time, and returns their results in no particular
/// order; the first failure ends it.
pub(super) async fn for_each<T, R, F: Future<Output = Result<R, Error>>>(
    items: impl IntoIterator<Item = T>,
    operation: impl FnMut(T) -> F,
) -> Result<Vec<R>, Error> {
    use futures_util::{StreamExt as _, TryStreamExt as _};
    futures_util::stream::iter(items)
        .map(operation)
        .buffer_unordered(CONCURRENCY)
        .try_collect()
        .await
}
