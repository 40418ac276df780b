//! The tiers and their order: hot, then warm, then cold.
//! One file, because all tiers share the state that decides between them.
//!
//! All content that is read by its digest goes through `Tiers`. On a hot miss, one request of this
//! isolate reads it for all concurrent callers: from the warm tier, or on a miss from the cold one.
//! Content that is read often is promoted to the warm tier after the reply. A tier that fails,
//! times out or returns wrong content is skipped.
//!
//! Bytes are named by their digest and never change. Whether a repository has them may change. So
//! such an answer is cached for a stated time only, and never beyond a push or a deletion that this
//! isolate has seen.

use std::{
    cell::{Cell, RefCell},
    fmt,
    rc::Rc,
    time::Duration,
};

use crate::{
    digest::Digest,
    error::Error,
    host::{Clock as _, Level, Log as _, Random as _},
    ledger::{Ledger, MemoryKind},
    metrics::{Demotion, Fault, Metrics},
    name::Name,
    platform::Platform,
    store::{
        Bytes as _, StoreError, Values as _,
        after::{Promotion, Renewal},
        document::Record,
        flight::{Boarding, Flights},
        frequency::Frequency,
        hot::Hot,
        key::Key,
        policy::TierPolicy,
        tiers::changes::Changes,
        trace::Trace,
        warm::{Link, TierContent, Value},
    },
    tier::{Kind, Tier},
    time::Timestamp,
};

pub use self::wanted::{KnownLink, Wanted};

use self::wanted::{BelievedTag, TierAnswer};

mod changes;
mod fill;
mod renewal;
mod tags;
mod wanted;

/// The tiers of one isolate. Each read passes a function that reads the cold tier.
pub struct Tiers<P: Platform> {
    warm: P::Warm,
    host: P::Host,
    policy: TierPolicy,
    metrics: Rc<Metrics>,
    ledger: Ledger,
    hot: Rc<RefCell<Hot<HotValue<P::Bytes>>>>,
    frequency: RefCell<Frequency>,
    /// The assumed state of keys in the warm tier.
    warmth: RefCell<Hot<Warmth>>,
    tags: RefCell<Hot<BelievedTag>>,
    changes: Changes,
    /// Random bytes, by which isolates renew the same value at different times.
    seed: [u8; 16],
    flights: Flights<(TierAnswer<P::Bytes>, Timestamp, Tier)>,
}

/// The assumed state of content in the warm tier.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Warmth {
    /// It is there for a time, and renewed from a time on.
    Until {
        until: Timestamp,
        renewal: Timestamp,
    },
    /// It is not there, and must not be written before then.
    Not(Timestamp),
    /// It is not there, and is not asked for before then. It may be written.
    Absent(Timestamp),
}

/// A value of the hot tier.
#[derive(Debug)]
struct HotValue<B> {
    found: TierAnswer<B>,
    kind: Kind,
    confirmed: Timestamp,
    until: Timestamp,
    /// The time from which the first reader renews it.
    renewal: Cell<Timestamp>,
    bytes: u64,
}

impl<P: Platform> fmt::Debug for Tiers<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tiers")
            .field("policy", &self.policy)
            .field("hot", &self.hot.borrow().bytes())
            .finish_non_exhaustive()
    }
}

impl<P: Platform> Tiers<P> {
    /// Makes tiers that hold nothing yet. The hot tier gives way to leases of the ledger.
    pub fn new(
        warm: P::Warm,
        host: P::Host,
        policy: TierPolicy,
        metrics: Rc<Metrics>,
        ledger: Ledger,
    ) -> Self {
        let hot = Rc::new(RefCell::new(Hot::new(policy.hot_bytes)));
        let (shrunk, counters) = (Rc::downgrade(&hot), metrics.clone());
        ledger.set_cache(move |room| {
            let Some(hot) = shrunk.upgrade() else {
                return 0;
            };
            let mut hot = hot.borrow_mut();
            note_evicted(&counters, hot.set_room(room));
            counters.hot_bytes.set(signed(hot.bytes()));
            hot.bytes()
        });
        Self {
            ledger,
            hot,
            frequency: RefCell::new(Frequency::new(policy.half_life)),
            warmth: RefCell::new(Hot::new(REMEMBERED)),
            tags: RefCell::new(Hot::new(BELIEVED)),
            changes: Changes::new(host.random()),
            seed: host.random(),
            warm,
            host,
            flights: Flights::default(),
            policy,
            metrics,
        }
    }

    /// The policy of the tiers.
    pub const fn policy(&self) -> &TierPolicy {
        &self.policy
    }

    /// Reads content from the nearest tier, of which `cold` reads the bucket. `None` if it is
    /// absent. Of concurrent callers, one reads it for all.
    ///
    /// # Errors
    ///
    /// The errors of `cold`.
    pub async fn content(
        &self,
        wanted: Wanted<'_>,
        trace: &Trace<P::Bytes>,
        cold: impl AsyncFn() -> Result<Option<TierContent<P::Bytes>>, Error>,
    ) -> Result<Option<Rc<TierContent<P::Bytes>>>, Error> {
        let far = async || Ok((cold().await?.map(Rc::new), Tier::Cold));
        self.content_from(wanted, trace, far).await
    }

    /// Like [`Self::content`], but `far` reads the bucket or an upstream, and returns which.
    ///
    /// # Errors
    ///
    /// The errors of `far`.
    pub async fn content_from(
        &self,
        wanted: Wanted<'_>,
        trace: &Trace<P::Bytes>,
        far: impl AsyncFn() -> Result<(Option<Rc<TierContent<P::Bytes>>>, Tier), Error>,
    ) -> Result<Option<Rc<TierContent<P::Bytes>>>, Error> {
        let far = async || {
            let (content, tier) = far().await?;
            Ok((
                content.map_or(TierAnswer::Absent, TierAnswer::Content),
                tier,
            ))
        };
        Ok(match self.read_through(wanted, trace, far).await? {
            TierAnswer::Content(content) => Some(content),
            // The key of content is never the key of a link.
            TierAnswer::Absent | TierAnswer::Link(_) => None,
        })
    }

    /// Reads the link of a blob in a repository. `None` if the repository may not read the blob.
    ///
    /// # Errors
    ///
    /// The errors of `cold`.
    pub async fn link(
        &self,
        name: &Name,
        digest: &Digest,
        trace: &Trace<P::Bytes>,
        cold: impl AsyncFn() -> Result<Option<KnownLink>, Error>,
    ) -> Result<Option<Rc<KnownLink>>, Error> {
        let far = async || {
            let known = cold().await?.map(Rc::new);
            Ok((
                known.map_or(TierAnswer::Absent, TierAnswer::Link),
                Tier::Cold,
            ))
        };
        let wanted = Wanted::Link(name, digest);
        Ok(match self.read_through(wanted, trace, far).await? {
            TierAnswer::Link(known) => Some(known),
            // The key of a link is never the key of content.
            TierAnswer::Absent | TierAnswer::Content(_) => None,
        })
    }

    /// Reads through the tiers: hot, then warm, then `far`.
    async fn read_through(
        &self,
        wanted: Wanted<'_>,
        trace: &Trace<P::Bytes>,
        far: impl AsyncFn() -> Result<(TierAnswer<P::Bytes>, Tier), Error>,
    ) -> Result<TierAnswer<P::Bytes>, Error> {
        let (key, kind) = (wanted.key(), wanted.kind());
        let start = self.host.now();
        let believed = |found: &TierAnswer<_>| {
            trace.believes_absence.get() || !matches!(found, TierAnswer::Absent)
        };
        let (found, confirmed, tier) =
            match self.recall(&key, kind).filter(|(found, _)| believed(found)) {
                Some((found, confirmed)) => {
                    self.renew_if_due(wanted, &key, start, trace);
                    (found, confirmed, Tier::Hot)
                }
                None => {
                    self.metrics.missed(Tier::Hot, kind);
                    match self.flights.board(&key, start) {
                        Boarding::Lead(lead) => {
                            let filled = self.fill(wanted, &key, &far).await?;
                            lead.land(&filled);
                            filled
                        }
                        Boarding::Follower(follow) => match follow.wait(&self.host).await {
                            // The leader may have read before a deletion that preceded this
                            // request.
                            Some(landed)
                                if believed(&landed.0) && !self.changes.since(&key, landed.1) =>
                            {
                                self.metrics.joined(kind);
                                landed
                            }
                            // If the leader failed, each follower reads for itself.
                            Some(_) | None => self.fill(wanted, &key, &far).await?,
                        },
                    }
                }
            };
        trace.step(kind.name(), tier, self.host.now().since(start));
        if let TierAnswer::Content(content) = &found {
            self.consider(wanted, &key, content, confirmed, trace);
        }
        Ok(found)
    }

    /// Inserts content that this isolate has just written to the cold tier.
    pub fn insert(&self, wanted: Wanted<'_>, content: TierContent<P::Bytes>) {
        let found = TierAnswer::Content(Rc::new(content));
        self.keep(&wanted.key(), wanted.kind(), &found, self.host.now());
    }

    /// Whether the hot tier has a value, without counting a read.
    pub fn is_hot(&self, wanted: Wanted<'_>) -> bool {
        let hot = self.hot.borrow();
        hot.peek(&wanted.key())
            .is_some_and(|entry| entry.until > self.host.now())
    }

    /// The cached link of a blob in a repository, from the hot tier only.
    pub fn known(&self, name: &Name, digest: &Digest) -> Option<Rc<KnownLink>> {
        let hot = self.hot.borrow();
        match hot.peek(&Key::link(digest, name).to_string()) {
            Some(HotValue {
                found: TierAnswer::Link(known),
                until,
                ..
            }) if *until > self.host.now() => Some(known.clone()),
            Some(_) | None => None,
        }
    }

    /// Invalidates a key after a push. Values that were read before are no longer served from
    /// memory.
    pub fn changed(&self, wanted: Wanted<'_>) {
        let key = wanted.key();
        self.changes.note(&key, self.host.now());
        self.forget(&key, Demotion::Changed);
    }

    /// Invalidates a key after a deletion, or because its value is useless. No tier of this isolate
    /// serves it any more. Other isolates may serve it until it expires there.
    pub async fn withdraw(&self, wanted: Wanted<'_>) {
        let key = wanted.key();
        self.changed(wanted);
        if self.policy.has_warm() && matches!(wanted.kind(), Kind::Manifest | Kind::Index) {
            self.drop_warm(&key, wanted.kind(), Demotion::Changed).await;
        }
    }

    /// Writes content to the warm tier, with the links of the blobs that it names. A failure is
    /// counted and logged, and fails no request.
    pub async fn promote(&self, promotion: Promotion<P::Bytes>, links: Vec<Link>) {
        let Promotion {
            content,
            key,
            kind,
            may_be_warm,
            confirmed,
            ..
        } = promotion;
        let until = self.policy.warm_until(kind, confirmed);
        let time_to_live = until.since(self.host.now());
        if time_to_live < TierPolicy::MIN_WARM || self.changes.since(&key, confirmed) {
            return;
        }
        if may_be_warm && self.is_warm(&key, kind).await {
            return;
        }
        // The compressed bytes, and those with the header. If they don't fit, a later read tries
        // again.
        let copies = 2 * content.bytes.len();
        let lease = (copies > Ledger::FREE).then(|| {
            self.ledger
                .take_for_all(MemoryKind::Buffer, copies, self.host.now())
        });
        let _lease = match lease.transpose() {
            Ok(lease) => lease,
            Err(full) => return self.pass_over(Tier::Warm, kind, Fault::Failed, &full),
        };
        let value = Value {
            content: TierContent {
                media_type: content.media_type.clone(),
                bytes: content.bytes.clone(),
            },
            confirmed,
            links,
        };
        let written = async {
            let is_named = matches!(kind, Kind::Manifest | Kind::Blob);
            let sealed = value.seal(self.policy.compresses, is_named).await?;
            let size = sealed.bytes.len();
            self.warm.put(&key, sealed.bytes, time_to_live).await?;
            Ok::<_, StoreError>((size, sealed.saved))
        };
        match written.await {
            Ok((size, saved)) => {
                self.metrics.promoted(kind, size, saved);
                self.note_warm(&key, kind, confirmed);
                // If it was deleted during the write, delete the warm value too.
                if self.changes.since(&key, confirmed) {
                    self.drop_warm(&key, kind, Demotion::Changed).await;
                }
            }
            Err(error) => {
                self.pass_over(Tier::Warm, kind, Fault::Failed, &error);
                self.note_warmth(&key, Warmth::Not(self.host.now() + PAUSE));
            }
        }
    }

    /// The value of the hot tier, and when the cold tier confirmed it.
    fn recall(&self, key: &str, kind: Kind) -> Option<(TierAnswer<P::Bytes>, Timestamp)> {
        let found = match self.hot.borrow_mut().get(key) {
            Some(entry) if entry.until > self.host.now() => {
                Some((entry.found.clone(), entry.confirmed))
            }
            Some(_) => None,
            None => return None,
        };
        if found.is_some() {
            self.metrics.hit(Tier::Hot, kind);
        } else {
            self.forget(key, Demotion::Expired);
        }
        found
    }

    /// Leaves the renewal of a hot value for after the reply, if it is due and no reader has begun
    /// one.
    fn renew_if_due(&self, wanted: Wanted<'_>, key: &str, now: Timestamp, trace: &Trace<P::Bytes>) {
        let hot = self.hot.borrow();
        let Some(entry) = hot.peek(key).filter(|entry| entry.renewal.get() <= now) else {
            return;
        };
        let (name, digest) = match wanted {
            Wanted::Manifest(name, digest) | Wanted::Link(name, digest) => (name, digest),
            Wanted::Blob(_) | Wanted::Index(_) | Wanted::Page(..) | Wanted::Span(..) => return,
        };
        entry.renewal.set(now + RETRY);
        trace.after.renew(Renewal {
            name: name.clone(),
            digest: digest.clone(),
            is_link: wanted.kind() == Kind::Link,
        });
    }

    /// Caches a result in the hot tier, unless a push or a deletion came after the read began.
    fn keep(&self, key: &str, kind: Kind, found: &TierAnswer<P::Bytes>, confirmed: Timestamp) {
        let (until, bytes) = match found {
            TierAnswer::Content(content) => {
                (self.policy.hot_until(kind, confirmed), content.bytes.len())
            }
            TierAnswer::Link(known) => (
                self.policy.link_until(known.record.objects(), confirmed),
                weight(&known.record),
            ),
            // Never cached: any caller may create the index at any moment.
            TierAnswer::Absent if kind == Kind::Index => return,
            TierAnswer::Absent => (confirmed + self.policy.absence, 0),
        };
        let now = self.host.now();
        if until <= now || !self.policy.fits_hot(kind, bytes) || self.changes.since(key, confirmed)
        {
            return;
        }
        let renewal = match (kind, found) {
            (Kind::Manifest, TierAnswer::Content(_)) | (Kind::Link, TierAnswer::Link(_)) => {
                self.renewal(key, kind, confirmed, until)
            }
            _ => until,
        };
        let entry = HotValue {
            found: found.clone(),
            kind,
            confirmed,
            until,
            renewal: Cell::new(renewal),
            bytes,
        };
        let mut hot = self.hot.borrow_mut();
        note_evicted(&self.metrics, hot.set_room(self.ledger.room()));
        if let Some(old) = hot.peek(key) {
            if old.confirmed > confirmed && old.until > now {
                // A newer read has ended before this one.
                return;
            }
            self.metrics.holds(Tier::Hot, old.kind, -signed(old.bytes));
        }
        let inserted = hot.insert(key, entry, bytes + ENTRY);
        if inserted.admitted {
            self.metrics.stored(Tier::Hot, kind);
            self.metrics.holds(Tier::Hot, kind, signed(bytes));
        }
        note_evicted(&self.metrics, inserted.evicted);
        self.note_hot(hot.bytes());
    }

    fn note_hot(&self, bytes: u64) {
        self.metrics.hot_bytes.set(signed(bytes));
        self.ledger.note_cached(bytes);
    }

    /// Counts a read of content, and promotes the content if it is read often.
    fn consider(
        &self,
        wanted: Wanted<'_>,
        key: &str,
        content: &Rc<TierContent<P::Bytes>>,
        confirmed: Timestamp,
        trace: &Trace<P::Bytes>,
    ) {
        let now = self.host.now();
        let reads = self.frequency.borrow_mut().touch(key, now);
        if !self
            .policy
            .earns_warm(wanted.kind(), content.bytes.len(), reads)
        {
            return;
        }
        let warmth = self.warmth.borrow_mut().get(key).copied();
        let is_fresh = match warmth {
            // A write of the same time would not keep it longer.
            Some(Warmth::Until { until, renewal }) => {
                let gains = self.policy.warm_until(wanted.kind(), confirmed) > until;
                renewal > now || (until > now && !gains)
            }
            Some(Warmth::Not(until)) => until > now,
            Some(Warmth::Absent(_)) | None => false,
        };
        if is_fresh {
            return;
        }
        // Only one of the concurrent readers writes it.
        self.note_warmth(key, Warmth::Not(now + PAUSE));
        let name = match wanted {
            Wanted::Manifest(name, _) => Some(name.clone()),
            _ => None,
        };
        trace.after.promote(Promotion {
            name,
            content: content.clone(),
            key: key.to_owned(),
            kind: wanted.kind(),
            // A write costs ten times as much as a read.
            may_be_warm: !matches!(warmth, Some(Warmth::Not(_) | Warmth::Absent(_))),
            confirmed,
        });
    }

    fn forget(&self, key: &str, reason: Demotion) {
        if let Some(kind) = self.take(key) {
            self.metrics.demoted(Tier::Hot, kind, reason);
        }
    }

    /// Removes a value from memory, and returns its kind.
    fn take(&self, key: &str) -> Option<Kind> {
        let mut hot = self.hot.borrow_mut();
        let entry = hot.remove(key)?;
        self.metrics
            .holds(Tier::Hot, entry.kind, -signed(entry.bytes));
        self.note_hot(hot.bytes());
        Some(entry.kind)
    }

    fn note_warmth(&self, key: &str, warmth: Warmth) {
        self.warmth.borrow_mut().insert(key, warmth, 0);
    }

    async fn drop_warm(&self, key: &str, kind: Kind, reason: Demotion) {
        self.warmth.borrow_mut().remove(key);
        match self.warm.delete(key).await {
            Ok(()) => self.metrics.demoted(Tier::Warm, kind, reason),
            Err(error) => self.pass_over(Tier::Warm, kind, Fault::Failed, &error),
        }
    }

    /// Counts and logs that a tier was bypassed.
    pub fn pass_over(&self, tier: Tier, kind: Kind, reason: Fault, cause: &impl fmt::Display) {
        self.metrics.passed_over(tier, kind, reason);
        let fields = [
            ("tier", tier.name()),
            ("kind", kind.name()),
            ("reason", reason.name()),
            ("cause", &cause.to_string()),
        ];
        self.host.log(Level::Error, "tier bypassed", &fields);
    }
}

/// Counts values that were evicted from the hot tier.
fn note_evicted<B>(metrics: &Metrics, evicted: Vec<HotValue<B>>) {
    for entry in evicted {
        metrics.evicted(entry.kind);
        metrics.holds(Tier::Hot, entry.kind, -signed(entry.bytes));
    }
}

/// The approximate memory of a record, in bytes.
fn weight(record: &Record) -> u64 {
    match record {
        Record::Bytes { .. } => 64,
        Record::Extents { extents, .. } => {
            extents
                .iter()
                .map(|extent| 64 + extent.key.as_str().len() as u64)
                .sum::<u64>()
                + 64
        }
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// The memory of an entry beside its bytes: the entry itself, the values that it points to, and a
/// media type.
const ENTRY: u64 = 256;

/// The memory for the assumed state of the warm tier, in bytes: some thousand keys.
const REMEMBERED: u64 = 512 * 1024;

/// The memory of believed tags, in bytes: a thousand or two.
const BELIEVED: u64 = 512 * 1024;

/// How long a renewal has before another reader begins one.
const RETRY: Duration = Duration::from_secs(10);

/// How long content is not written to the warm tier again after an attempt, and not asked for after
/// a miss. The platform repeats a miss for that time.
const PAUSE: Duration = Duration::from_secs(60);
