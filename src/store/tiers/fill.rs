//! Reads of the tiers below the hot one: the warm tier first, and the cold one beside it if the
//! warm tier is slow.

use std::{pin::pin, rc::Rc};

use futures_util::future::{Either, select};

use crate::{
    error::Error,
    host::Clock as _,
    manifest,
    metrics::{Demotion, Fault},
    platform::Platform,
    store::{
        Bytes as _, Values as _,
        key::Key,
        tiers::{KnownLink, PAUSE, Tiers, Wanted, Warmth, wanted::TierAnswer},
        warm::Value,
    },
    tier::{Kind, Tier},
    time::Timestamp,
};

/// An answer, the time at which the cold tier confirmed it, and the tier that gave it.
pub(super) type Filled<B> = (TierAnswer<B>, Timestamp, Tier);

impl<P: Platform> Tiers<P> {
    /// Reads from the warm tier, else from the cold one, and caches the result in memory.
    ///
    /// The platform's cache is slowest for values that it does not have nearby. So a slow read of
    /// the warm tier is hedged by one of the cold tier, and the first useful answer counts. A read
    /// that loses is dropped.
    pub(super) async fn fill(
        &self,
        wanted: Wanted<'_>,
        key: &str,
        far: &impl AsyncFn() -> Result<(TierAnswer<P::Bytes>, Tier), Error>,
    ) -> Result<Filled<P::Bytes>, Error> {
        let kind = wanted.kind();
        // It begins when it is first polled. In a box, because it is large and there are two places
        // for it.
        let cold = Box::pin(self.fill_from_far(kind, key, far));
        if !self.may_be_warm(kind, key) {
            return cold.await;
        }
        let (start, patience) = (self.host.now(), self.policy.warm_patience);
        let warm = Box::pin(self.fill_from_warm(wanted, key));
        let hedge = pin!(self.host.sleep(self.policy.warm_hedge.min(patience)));
        let warm = match select(warm, hedge).await {
            Either::Left((Some(filled), _)) => return Ok(filled),
            Either::Left((None, _)) => return cold.await,
            Either::Right(((), warm)) => warm,
        };
        let late = || {
            let waited = format!("no answer within {patience:?}");
            self.pass_over(Tier::Warm, kind, Fault::Late, &waited);
        };
        match select(warm, cold).await {
            Either::Left((Some(filled), _)) => Ok(filled),
            Either::Left((None, cold)) => cold.await,
            Either::Right((Ok(filled), _)) => {
                if self.host.now().since(start) < patience {
                    self.metrics.missed(Tier::Warm, kind);
                } else {
                    late();
                }
                Ok(filled)
            }
            Either::Right((Err(error), warm)) => {
                let rest = patience.saturating_sub(self.host.now().since(start));
                match select(warm, pin!(self.host.sleep(rest))).await {
                    Either::Left((Some(filled), _)) => Ok(filled),
                    Either::Left((None, _)) => Err(error),
                    Either::Right(_) => {
                        late();
                        Err(error)
                    }
                }
            }
        }
    }

    /// Reads from the cold tier or an upstream, and caches the result in memory.
    async fn fill_from_far(
        &self,
        kind: Kind,
        key: &str,
        far: &impl AsyncFn() -> Result<(TierAnswer<P::Bytes>, Tier), Error>,
    ) -> Result<Filled<P::Bytes>, Error> {
        let asked = self.host.now();
        let (found, tier) = far().await?;
        match found {
            TierAnswer::Absent => self.metrics.missed(tier, kind),
            TierAnswer::Content(_) | TierAnswer::Link(_) => self.metrics.hit(tier, kind),
        }
        self.keep(key, kind, &found, asked);
        Ok((found, asked, tier))
    }

    /// Reads from the warm tier, verifies the value before it is used, and caches it in memory.
    pub(super) async fn fill_from_warm(
        &self,
        wanted: Wanted<'_>,
        key: &str,
    ) -> Option<Filled<P::Bytes>> {
        let kind = wanted.kind();
        let opened = match self.warm.get(key).await {
            Ok(Some(bytes)) => Value::open(&bytes, wanted.digest()).await,
            Ok(None) => {
                self.missed_warm(key, kind);
                return None;
            }
            Err(error) => Err(error),
        };
        let mut value = match opened {
            Ok(Ok(value)) => value,
            Ok(Err(poisoned)) => {
                self.pass_over(Tier::Warm, kind, Fault::Poisoned, &poisoned);
                self.drop_warm(key, kind, Demotion::Poisoned).await;
                return None;
            }
            Err(error) => {
                self.pass_over(Tier::Warm, kind, Fault::Failed, &error);
                return None;
            }
        };
        let until = self.policy.warm_until(kind, value.confirmed);
        if until <= self.host.now() || self.changes.since(key, value.confirmed) {
            self.missed_warm(key, kind);
            return None;
        }
        self.metrics.hit(Tier::Warm, kind);
        self.note_warm(key, kind, value.confirmed);
        if let Wanted::Manifest(name, _) = wanted {
            // The digest covers the bytes alone, so the rest of the value is not trusted for the
            // media type.
            if let Ok(media_type) = manifest::media_type(&value.content.bytes.to_vec()) {
                value.content.media_type = media_type;
            }
            for link in value.links {
                // A client that pulled the image pulled its blobs as well, so they are assumed to
                // be warm.
                let blob = Key::blob(&link.digest).to_string();
                self.note_warm(&blob, Kind::Blob, link.confirmed);
                let known = KnownLink::new(link.record, link.right, link.confirmed);
                known.seen.set(true);
                self.keep(
                    &Key::link(&link.digest, name).to_string(),
                    Kind::Link,
                    &TierAnswer::Link(Rc::new(known)),
                    link.confirmed,
                );
            }
        }
        // Bytes are as good as new. That a repository has them is only as recent as the value says.
        let confirmed = match kind {
            Kind::Blob | Kind::Index | Kind::Page | Kind::Span => self.host.now(),
            Kind::Manifest | Kind::Link => value.confirmed,
        };
        let found = TierAnswer::Content(Rc::new(value.content));
        self.keep(key, kind, &found, confirmed);
        Some((found, confirmed, Tier::Warm))
    }

    /// Whether the warm tier has a value of this key that is not near its end.
    pub(super) async fn is_warm(&self, key: &str, kind: Kind) -> bool {
        let read = pin!(self.warm.get(key));
        let late = pin!(self.host.sleep(self.policy.warm_patience));
        let Either::Left((Ok(Some(bytes)), _)) = select(read, late).await else {
            return false;
        };
        let Some(confirmed) = Value::confirmed(&bytes) else {
            return false;
        };
        let until = self.policy.warm_until(kind, confirmed);
        let renewal = self.renewal(key, kind, confirmed, until);
        let is_warm = renewal > self.host.now() && !self.changes.since(key, confirmed);
        if is_warm {
            self.note_warmth(key, Warmth::Until { until, renewal });
        }
        is_warm
    }

    /// Counts a miss of the warm tier, and remembers it: the platform repeats it for a minute.
    fn missed_warm(&self, key: &str, kind: Kind) {
        self.metrics.missed(Tier::Warm, kind);
        self.note_warmth(key, Warmth::Absent(self.host.now() + PAUSE));
    }

    /// Whether to ask the warm tier. A read of it costs more than one of the cold tier. So it is
    /// asked for manifests, and for indexes and spans, because decompression costs CPU. It is asked
    /// for a blob only if a warm manifest names the blob or this isolate promoted it.
    fn may_be_warm(&self, kind: Kind, key: &str) -> bool {
        if !self.policy.has_warm() {
            return false;
        }
        let warmth = self.warmth.borrow_mut().get(key).copied();
        match (kind, warmth) {
            (Kind::Link | Kind::Page, _) => false,
            (_, Some(Warmth::Absent(until) | Warmth::Not(until))) if until > self.host.now() => {
                false
            }
            (Kind::Manifest | Kind::Index | Kind::Span, _) => true,
            (Kind::Blob, warmth) => {
                matches!(warmth, Some(Warmth::Until { until, .. }) if until > self.host.now())
            }
        }
    }
}
