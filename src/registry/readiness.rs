//! Health and readiness, for load balancers and monitors.
//! They need no credentials, so requests must not be able to cause work.

use std::{cell::Cell, pin::pin, time::Duration};

use crate::{
    error::Error,
    host::Clock as _,
    platform::Platform,
    registry::parts::Parts,
    store::{StoreError, bucket::Bucket, key::Key},
    time::Timestamp,
};
use futures_util::future::{Either, select};

/// Whether the bucket answers. An isolate asks the bucket at most once in [`INTERVAL`], however
/// many requests there are.
pub(super) struct Readiness<P: Platform> {
    store: Bucket<P::Cold>,
    host: P::Host,
    /// The time of the last question to the bucket.
    asked: Cell<Option<Timestamp>>,
    /// The last outcome, with the time of its question.
    outcome: Cell<Option<(Timestamp, BucketState)>>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum BucketState {
    Ready,
    Late,
    Failed,
}

/// The shortest time between two questions to the bucket.
const INTERVAL: Duration = Duration::from_secs(10);

/// How long an outcome is valid while the next one is awaited:
/// that request may have been cancelled.
const LASTS: Duration = Duration::from_secs(30);

/// The timeout for the bucket's answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often a request polls for the outcome of another one.
const LOOK: Duration = Duration::from_millis(50);

impl<P: Platform> Readiness<P> {
    pub(super) fn new(parts: &Parts<P>) -> Self {
        Self {
            store: parts.store.clone(),
            host: parts.host.clone(),
            asked: Cell::default(),
            outcome: Cell::default(),
        }
    }

    /// Checks whether the bucket answers, or answered a moment ago.
    pub(super) async fn check(&self) -> Result<(), Error> {
        let now = self.host.now();
        let is_asked = |asked: Timestamp| now.since(asked) < INTERVAL;
        let outcome = if self.asked.get().is_some_and(is_asked) {
            self.wait(now).await
        } else {
            self.asked.set(Some(now));
            let outcome = self.ask().await;
            self.outcome.set(Some((now, outcome)));
            outcome
        };
        let found = match outcome {
            BucketState::Ready => return Ok(()),
            BucketState::Late => format!("the bucket gave no answer within {PATIENCE:?}"),
            BucketState::Failed => "the bucket failed".to_owned(),
        };
        Err(Error::unavailable(found, INTERVAL))
    }

    /// The last outcome, or the first one once it is there.
    async fn wait(&self, now: Timestamp) -> BucketState {
        while self.host.now().since(now) < PATIENCE {
            if let Some((asked, outcome)) = self.outcome.get()
                && now.since(asked) < LASTS
            {
                return outcome;
            }
            self.host.sleep(LOOK).await;
        }
        BucketState::Late
    }

    /// Asks the bucket for an object, which need not exist.
    async fn ask(&self) -> BucketState {
        let head = pin!(self.store.head(&Key::SweepCursor));
        let late = pin!(self.host.sleep(PATIENCE));
        match select(head, late).await {
            // A bucket that limits the request rate is there.
            Either::Left((Ok(_) | Err(StoreError::Throttled(_)), _)) => BucketState::Ready,
            Either::Left((Err(_), _)) => BucketState::Failed,
            Either::Right(_) => BucketState::Late,
        }
    }
}
