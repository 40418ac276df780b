//! A store over another one that retries, hedges and times operations.
//!
//! Reads, lists, deletes and unconditional writes of bytes in memory are idempotent. A conditional
//! write is not: a failed one may have been stored, and its retry would seem to have lost to
//! another writer. So each conditional write has a stamp of its own, and after a failure the stamp
//! of the object at its key tells whose write it was. A stream can't be read twice: it is never
//! retried, but its stamp is looked at as well.

use std::{cell::Cell, future::Future, pin::pin, time::Duration};

use futures_util::future::{Either, select};

use crate::{
    digest::Algorithm,
    host::{Clock, Level, Log, Random},
    range::ByteRange,
    store::{
        Condition, Content, ListOptions, Meta, Object, Objects, Page, PutOptions, Received,
        StoreError,
    },
};

/// The back-off of each retry, before its jitter. R2 accepts one write a second for a key.
pub const PAUSES: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_millis(1_200),
];

/// The timeout of one attempt of an operation that sends no stream.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// The timeout of one attempt of a deletion or of an unconditional write. The platform gives such a
/// call up sooner, after about a minute.
///
/// An attempt that is given up may be done later. If it had been repeated with success meanwhile,
/// it would delete what was pushed after that, or bring back what was replaced or deleted.
pub const SETTLED: Duration = Duration::from_secs(90);

/// The time after which a read that was not answered is asked a second time, beside the first: ten
/// times as long as a far bucket takes.
const HEDGE: Duration = Duration::from_secs(2);

/// A store that retries operations of another one three times, after about 0.1, 0.4 and 1.2
/// seconds. It logs each retry.
///
/// An attempt has 10 seconds, but for a stream, whose client may be slow, and for a deletion or an
/// unconditional write, which is awaited until it is settled. A read that is not answered within
/// two seconds is asked again beside the first, and the first answer counts.
#[derive(Debug)]
pub struct Retry<S, H> {
    store: S,
    host: H,
}

impl<S, H> Retry<S, H> {
    /// Wraps a store. The host waits, logs and makes stamps.
    pub const fn new(store: S, host: H) -> Self {
        Self { store, host }
    }
}

/// Repeats an operation as long as it fails and `is_safe` allows it: once after each pause.
///
/// A pause is up to a half shorter or longer, so that the requests that met one failure do not come
/// back in the same moment.
///
/// # Errors
///
/// That of the last attempt.
pub async fn repeat<T>(
    host: &(impl Clock + Log + Random),
    name: &'static str,
    pauses: &[Duration],
    is_safe: impl Fn(&StoreError) -> bool,
    mut operation: impl AsyncFnMut() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    for pause in pauses {
        match operation().await {
            Err(error) if is_safe(&error) => {
                let fields = [("operation", name), ("error", &*error.to_string())];
                host.log(Level::Error, "store request retried", &fields);
                host.sleep(with_jitter(host, *pause)).await;
            }
            outcome => return outcome,
        }
    }
    operation().await
}

/// Between a half and one and a half of a pause.
fn with_jitter(host: &impl Random, pause: Duration) -> Duration {
    let [byte, ..] = host.random();
    pause.mul_f64(0.5 + f64::from(byte) / 256.0)
}

/// Fails an operation that is not done in time. It may be done later.
///
/// # Errors
///
/// Those of the operation, and [`StoreError::Failed`] after the timeout.
pub async fn within<T>(
    host: &impl Clock,
    timeout: Duration,
    operation: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    match select(pin!(operation), pin!(host.sleep(timeout))).await {
        Either::Left((outcome, _)) => outcome,
        Either::Right(((), _)) => {
            let seconds = timeout.as_secs();
            Err(StoreError::Failed(format!(
                "no answer within {seconds} seconds"
            )))
        }
    }
}

/// Whether an idempotent operation may succeed when it is retried.
pub const fn is_passing(error: &StoreError) -> bool {
    match error {
        StoreError::Throttled(_) | StoreError::Failed(_) => true,
        StoreError::Digest | StoreError::Length | StoreError::Busy => false,
    }
}

/// Whether an operation that failed may have been done.
const fn is_ambiguous(error: &StoreError) -> bool {
    matches!(error, StoreError::Failed(_))
}

impl<S: Objects, H: Clock + Log + Random> Retry<S, H> {
    /// Reads, asks a second time beside a slow first one, and retries.
    async fn read<T, F: Future<Output = Result<T, StoreError>>>(
        &self,
        name: &'static str,
        operation: impl Fn() -> F,
    ) -> Result<T, StoreError> {
        let hedged = async || {
            let mut first = pin!(operation());
            if let Either::Left((outcome, _)) =
                select(&mut first, pin!(self.host.sleep(HEDGE))).await
            {
                return outcome;
            }
            let second = pin!(operation());
            let either = async {
                let (outcome, other) = select(first, second).await.factor_first();
                match outcome {
                    Err(error) if is_passing(&error) => other.await,
                    outcome => outcome,
                }
            };
            within(&self.host, TIMEOUT, either).await
        };
        repeat(&self.host, name, &PAUSES, is_passing, hedged).await
    }

    /// The object at a key, if the write with this stamp made it.
    async fn own(&self, key: &str, stamp: &str) -> Result<Option<Meta>, StoreError> {
        let found = self.read("head", || self.store.head(key)).await?;
        Ok(found.filter(|meta| meta.stamp == stamp))
    }

    /// Makes a change whose attempts must not overtake each other: it is repeated only if the store
    /// has answered.
    async fn change<T>(
        &self,
        name: &'static str,
        operation: impl AsyncFn() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let is_settled = Cell::new(true);
        let is_safe = |error: &StoreError| is_passing(error) && is_settled.get();
        repeat(&self.host, name, &PAUSES, is_safe, async || {
            is_settled.set(false);
            let settled = async {
                let outcome = operation().await;
                is_settled.set(true);
                outcome
            };
            within(&self.host, SETTLED, settled).await
        })
        .await
    }

    /// Writes bytes again and again.
    async fn write(
        &self,
        key: &str,
        content: impl Fn() -> Content<S::Body, S::Bytes>,
        options: PutOptions<'_>,
        is_unsure: &mut bool,
    ) -> Result<Option<Meta>, StoreError> {
        if options.condition == Condition::Always {
            let put = async || self.store.put(key, content(), options).await;
            return self.change("put", put).await;
        }
        repeat(&self.host, "put", &PAUSES, is_passing, async || {
            let put = self.store.put(key, content(), options);
            let written = within(&self.host, TIMEOUT, put).await;
            *is_unsure |= written.as_ref().is_err_and(is_ambiguous);
            written
        })
        .await
    }
}

#[deny(clippy::missing_trait_methods)]
impl<S: Objects, H: Clock + Log + Random + 'static> Objects for Retry<S, H> {
    type Body = S::Body;
    type Bytes = S::Bytes;

    async fn head(&self, key: &str) -> Result<Option<Meta>, StoreError> {
        self.read("head", || self.store.head(key)).await
    }

    async fn get(
        &self,
        key: &str,
        range: Option<ByteRange>,
    ) -> Result<Option<Object<S::Body>>, StoreError> {
        self.read("get", || self.store.get(key, range)).await
    }

    async fn put(
        &self,
        key: &str,
        content: Content<S::Body, S::Bytes>,
        options: PutOptions<'_>,
    ) -> Result<Option<Meta>, StoreError> {
        let is_conditional = options.condition != Condition::Always;
        let stamp = if is_conditional {
            self.host.nonce()
        } else {
            String::new()
        };
        let options = PutOptions {
            stamp: &stamp,
            ..options
        };
        let mut is_unsure = false;
        let written = match content {
            Content::Held(bytes) => {
                let content = || Content::Held(bytes.clone());
                self.write(key, content, options, &mut is_unsure).await
            }
            Content::Bytes(bytes) => {
                let content = || Content::Bytes(bytes.clone());
                self.write(key, content, options, &mut is_unsure).await
            }
            Content::Stream(..) => {
                let written = self.store.put(key, content, options).await;
                is_unsure = written.as_ref().is_err_and(is_ambiguous);
                written
            }
        };
        if is_conditional && is_unsure && !matches!(written, Ok(Some(_))) {
            // An attempt that failed may have been done. Then a later one lost to it.
            if let Some(own) = self.own(key, &stamp).await? {
                return Ok(Some(own));
            }
        }
        written
    }

    async fn list(&self, prefix: &str, options: ListOptions<'_>) -> Result<Page, StoreError> {
        self.read("list", || self.store.list(prefix, options)).await
    }

    async fn delete(&self, keys: &[String]) -> Result<(), StoreError> {
        self.change("delete", async || self.store.delete(keys).await)
            .await
    }

    async fn receive(
        &self,
        key: &str,
        body: S::Body,
        algorithm: Algorithm,
    ) -> Result<Received, StoreError> {
        self.store.receive(key, body, algorithm).await
    }
}
