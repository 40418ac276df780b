//! Renewal: answers that are read are confirmed anew before they expire, at points that isolates
//! don't share.
//!
//! The time at which the cold tier confirmed a value goes with it through the warm tier, so all
//! isolates would drop a popular manifest in the same second. Instead, the first reader past a
//! point of its isolate's own has the value renewed after the reply. Most isolates find that
//! another one has renewed the warm value, and take over its time. Only an isolate that finds the
//! warm value gone, or near its end, asks the cold tier and writes the warm one.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    pin::pin,
    rc::Rc,
};

use futures_util::future::{Either, select};

use crate::{
    host::Clock as _,
    platform::Platform,
    store::{
        Bytes as _,
        after::Promotion,
        policy::TierPolicy,
        tiers::{KnownLink, PAUSE, Tiers, Wanted, Warmth, wanted::TierAnswer},
        warm::TierContent,
    },
    tier::Kind,
    time::Timestamp,
};

impl<P: Platform> Tiers<P> {
    /// The time from which a value is renewed.
    pub(super) fn renewal(
        &self,
        key: &str,
        kind: Kind,
        confirmed: Timestamp,
        until: Timestamp,
    ) -> Timestamp {
        let mut hasher = DefaultHasher::new();
        hasher.write(&self.seed);
        key.hash(&mut hasher);
        let [a, b, ..] = hasher.finish().to_le_bytes();
        let spread = f64::from(u16::from_le_bytes([a, b])) / f64::from(u16::MAX);
        TierPolicy::renewal(kind, confirmed, until, spread)
    }

    /// Notes that the warm tier has a value that was confirmed then.
    pub(super) fn note_warm(&self, key: &str, kind: Kind, confirmed: Timestamp) {
        let until = self.policy.warm_until(kind, confirmed);
        let renewal = self.renewal(key, kind, confirmed, until);
        self.note_warmth(key, Warmth::Until { until, renewal });
    }

    /// Renews a hot manifest and its links from the warm tier, if another isolate has renewed them
    /// there.
    pub async fn renew_from_warm(&self, wanted: Wanted<'_>) -> bool {
        let (key, kind) = (wanted.key(), wanted.kind());
        let warmth = self.warmth.borrow_mut().get(&key).copied();
        // If the warm value is known to be fresh, it is known to have nothing newer.
        if !matches!(warmth, Some(Warmth::Until { renewal, .. }) if renewal <= self.host.now()) {
            return false;
        }
        let read = pin!(self.fill_from_warm(wanted, &key));
        let late = pin!(self.host.sleep(self.policy.warm_patience));
        match select(read, late).await {
            Either::Left((Some((_, confirmed, _)), _)) => {
                let until = self.policy.hot_until(kind, confirmed);
                self.renewal(&key, kind, confirmed, until) > self.host.now()
            }
            Either::Left((None, _)) | Either::Right(_) => false,
        }
    }

    /// Renews a hot manifest that the cold tier still has, as a read that began then has found.
    /// Returns the manifest, if it is hot.
    pub fn confirm(
        &self,
        wanted: Wanted<'_>,
        asked: Timestamp,
    ) -> Option<Rc<TierContent<P::Bytes>>> {
        let key = wanted.key();
        let content = match &self.hot.borrow().peek(&key)?.found {
            TierAnswer::Content(content) => content.clone(),
            TierAnswer::Link(_) | TierAnswer::Absent => return None,
        };
        let found = TierAnswer::Content(content.clone());
        self.keep(&key, wanted.kind(), &found, asked);
        Some(content)
    }

    /// Replaces a hot link by the one that was read in its place.
    pub fn confirm_link(&self, wanted: Wanted<'_>, link: KnownLink) {
        let confirmed = link.confirmed;
        let found = TierAnswer::Link(Rc::new(link));
        self.keep(&wanted.key(), wanted.kind(), &found, confirmed);
    }

    /// Whether more than half of a hot link's time is over.
    pub fn is_ageing(&self, link: &KnownLink) -> bool {
        let until = self
            .policy
            .link_until(link.record.objects(), link.confirmed);
        let now = self.host.now();
        now.since(link.confirmed) > until.since(now)
    }

    /// The promotion of a manifest that was renewed from the cold tier, if its warm value was gone
    /// or near its end.
    pub fn repromote(
        &self,
        wanted: Wanted<'_>,
        content: Rc<TierContent<P::Bytes>>,
        confirmed: Timestamp,
    ) -> Option<Promotion<P::Bytes>> {
        let Wanted::Manifest(name, _) = wanted else {
            return None;
        };
        let (key, kind, now) = (wanted.key(), wanted.kind(), self.host.now());
        let reads = self.frequency.borrow_mut().estimate(&key, now);
        if !self.policy.earns_warm(kind, content.bytes.len(), reads) {
            return None;
        }
        let warmth = self.warmth.borrow_mut().get(&key).copied();
        match warmth {
            Some(Warmth::Until { renewal, .. }) if renewal <= now => {}
            // The look for a renewed value has just missed.
            Some(Warmth::Absent(_)) => {}
            Some(Warmth::Until { .. } | Warmth::Not(_)) | None => return None,
        }
        self.note_warmth(&key, Warmth::Not(now + PAUSE));
        Some(Promotion {
            name: Some(name.clone()),
            content,
            key,
            kind,
            may_be_warm: false,
            confirmed,
        })
    }
}
