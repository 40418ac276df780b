//! The tiers and their order: hot, then warm, then cold.
//! One file, because all tiers share the state that decides between them.
//!
//! Everything that is read by its digest goes through `Tiers`: from memory if it is there; else one request of this
//! isolate reads it for all who want it, from the warm tier and, where that does not have it, from the cold one. What was read
//! often goes warm, after the reply. A tier that fails, is late or gives something else than it was asked for is passed over.
//!
//! Bytes are named by their digest and never change. That a repository has them may change, so an answer that says so is
//! believed for a stated time only, and not beyond a push or a deletion that this isolate has seen.

use std::{
    cell::{Cell, RefCell},
    fmt,
    pin::pin,
    rc::Rc,
    time::Duration,
};

use futures_util::future::{Either, select};

use crate::{
    digest::Digest,
    error::Error,
    host::{Clock as _, Level, Log as _, Random as _},
    manifest,
    metrics::{Demotion, Fault, Metrics},
    name::Name,
    platform::Platform,
    store::{
        Bytes, StoreError, Values,
        after::Promotion,
        document::Record,
        flight::{Boarding, Flights},
        frequency::Frequency,
        hot::Hot,
        key::Key,
        policy::Policy,
        tiers::changes::Changes,
        trace::Trace,
        warm::{Content, Link, Value},
    },
    tier::{Kind, Tier},
    time::Timestamp,
};

pub use self::wanted::{Known, Wanted};

use self::wanted::Found;

mod changes;
mod wanted;

/// The tiers of one isolate. The cold one is handed in with each read.
pub struct Tiers<P: Platform> {
    warm: P::Warm,
    host: P::Host,
    policy: Policy,
    metrics: Rc<Metrics>,
    hot: RefCell<Hot<Entry<P::Bytes>>>,
    frequency: RefCell<Frequency>,
    /// What is believed of the warm tier.
    warmth: RefCell<Hot<Warmth>>,
    changes: Changes,
    flights: Flights<(Found<P::Bytes>, Timestamp, Tier)>,
}

/// What is believed of content in the warm tier.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Warmth {
    /// It is there until then.
    Until(Timestamp),
    /// It is not, and not to be written before then.
    Not(Timestamp),
}

/// What is kept hot.
#[derive(Debug)]
struct Entry<B> {
    found: Found<B>,
    kind: Kind,
    confirmed: Timestamp,
    until: Timestamp,
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
    /// Makes tiers that hold nothing yet.
    pub fn new(warm: P::Warm, host: P::Host, policy: Policy, metrics: Rc<Metrics>) -> Self {
        Self {
            hot: RefCell::new(Hot::new(policy.hot_bytes)),
            frequency: RefCell::new(Frequency::new(policy.half_life)),
            warmth: RefCell::new(Hot::new(REMEMBERED)),
            changes: Changes::new(host.random()),
            warm,
            host,
            flights: Flights::default(),
            policy,
            metrics,
        }
    }

    /// What is kept where.
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Reads content from the nearest tier, where `cold` reads it from the bucket; `None` if it is not
    /// there. Of many who want it at the same time, one reads it.
    ///
    /// # Errors
    ///
    /// Those of `cold`.
    pub async fn content(
        &self,
        wanted: Wanted<'_>,
        trace: &Trace<P::Bytes>,
        cold: impl AsyncFn() -> Result<Option<Content<P::Bytes>>, Error>,
    ) -> Result<Option<Rc<Content<P::Bytes>>>, Error> {
        let far = async || Ok((cold().await?.map(Rc::new), Tier::Cold));
        self.content_from(wanted, trace, far).await
    }

    /// The same, where `far` reads it from the bucket or an upstream, and says from which.
    ///
    /// # Errors
    ///
    /// Those of `far`.
    pub async fn content_from(
        &self,
        wanted: Wanted<'_>,
        trace: &Trace<P::Bytes>,
        far: impl AsyncFn() -> Result<(Option<Rc<Content<P::Bytes>>>, Tier), Error>,
    ) -> Result<Option<Rc<Content<P::Bytes>>>, Error> {
        let far = async || {
            let (content, tier) = far().await?;
            Ok((content.map_or(Found::Absent, Found::Content), tier))
        };
        Ok(match self.read_through(wanted, trace, far).await? {
            Found::Content(content) => Some(content),
            // The key of content is the key of no link.
            Found::Absent | Found::Link(_) => None,
        })
    }

    /// Reads what is known of a blob in a repository; `None` if it may not read the blob.
    ///
    /// # Errors
    ///
    /// Those of `cold`.
    pub async fn link(
        &self,
        name: &Name,
        digest: &Digest,
        trace: &Trace<P::Bytes>,
        cold: impl AsyncFn() -> Result<Option<Known>, Error>,
    ) -> Result<Option<Rc<Known>>, Error> {
        let far = async || {
            let known = cold().await?.map(Rc::new);
            Ok((known.map_or(Found::Absent, Found::Link), Tier::Cold))
        };
        let wanted = Wanted::Link(name, digest);
        Ok(match self.read_through(wanted, trace, far).await? {
            Found::Link(known) => Some(known),
            // The key of a link is the key of no content.
            Found::Absent | Found::Content(_) => None,
        })
    }

    /// Reads through the tiers: hot, then warm, then `far`.
    async fn read_through(
        &self,
        wanted: Wanted<'_>,
        trace: &Trace<P::Bytes>,
        far: impl AsyncFn() -> Result<(Found<P::Bytes>, Tier), Error>,
    ) -> Result<Found<P::Bytes>, Error> {
        let (key, kind) = (wanted.key(), wanted.kind());
        let start = self.host.now();
        let believed =
            |found: &Found<_>| trace.believes_absence.get() || !matches!(found, Found::Absent);
        let (found, confirmed, tier) =
            match self.recall(&key, kind).filter(|(found, _)| believed(found)) {
                Some((found, confirmed)) => (found, confirmed, Tier::Hot),
                None => {
                    self.metrics.missed(Tier::Hot, kind);
                    match self.flights.board(&key, start) {
                        Boarding::Lead(lead) => {
                            let filled = self.fill(wanted, &key, &far).await?;
                            lead.land(&filled);
                            filled
                        }
                        Boarding::Follow(follow) => match follow.wait(&self.host).await {
                            // It may have been asked before a deletion that came before this request.
                            Some(landed)
                                if believed(&landed.0) && !self.changes.since(&key, landed.1) =>
                            {
                                self.metrics.joined(kind);
                                landed
                            }
                            // Who waited for a leader that failed tries it itself.
                            Some(_) | None => self.fill(wanted, &key, &far).await?,
                        },
                    }
                }
            };
        trace.step(kind.name(), tier, self.host.now().since(start));
        if let Found::Content(content) = &found {
            self.consider(wanted, &key, content, confirmed, trace);
        }
        Ok(found)
    }

    /// Inserts content that this isolate has just put into the cold tier.
    pub fn insert(&self, wanted: Wanted<'_>, content: Content<P::Bytes>) {
        let found = Found::Content(Rc::new(content));
        self.keep(&wanted.key(), wanted.kind(), &found, self.host.now());
    }

    /// Whether memory has something, without reading it.
    pub fn is_hot(&self, wanted: Wanted<'_>) -> bool {
        let hot = self.hot.borrow();
        hot.peek(&wanted.key())
            .is_some_and(|entry| entry.until > self.host.now())
    }

    /// What is known of a blob in a repository without asking any other tier.
    pub fn known(&self, name: &Name, digest: &Digest) -> Option<Rc<Known>> {
        let hot = self.hot.borrow();
        match hot.peek(&Key::link(digest, name).to_string()) {
            Some(Entry {
                found: Found::Link(known),
                until,
                ..
            }) if *until > self.host.now() => Some(known.clone()),
            Some(_) | None => None,
        }
    }

    /// Says that a push has changed what is there: nothing that was read before is answered from memory any more.
    pub fn changed(&self, wanted: Wanted<'_>) {
        let key = wanted.key();
        self.changes.note(&key, self.host.now());
        self.forget(&key, Demotion::Changed);
    }

    /// Says that something was deleted, or is of no use. No tier of this isolate answers for it from here on; what others hold, they hold for
    /// as long as it may be stale.
    pub async fn withdraw(&self, wanted: Wanted<'_>) {
        let key = wanted.key();
        self.changed(wanted);
        if self.policy.has_warm() && matches!(wanted.kind(), Kind::Manifest | Kind::Index) {
            self.drop_warm(&key, wanted.kind(), Demotion::Changed).await;
        }
    }

    /// Writes content to the warm tier, with the links of the blobs that it names. It failing is counted and logged, and
    /// harms nobody.
    pub async fn promote(&self, promotion: Promotion<P::Bytes>, links: Vec<Link>) {
        let Promotion {
            content,
            key,
            kind,
            confirmed,
            ..
        } = promotion;
        let until = self.policy.warm_until(kind, confirmed);
        let time_to_live = until.since(self.host.now());
        if time_to_live < Policy::MIN_WARM || self.changes.since(&key, confirmed) {
            return;
        }
        let value = Value {
            content: Content {
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
                self.note_warmth(&key, Warmth::Until(until));
                // What was deleted while it was being written is taken back.
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

    /// What memory holds, and when the cold tier said so.
    fn recall(&self, key: &str, kind: Kind) -> Option<(Found<P::Bytes>, Timestamp)> {
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

    /// Reads from the warm tier, else from the cold one, and keeps what was found.
    async fn fill(
        &self,
        wanted: Wanted<'_>,
        key: &str,
        far: &impl AsyncFn() -> Result<(Found<P::Bytes>, Tier), Error>,
    ) -> Result<(Found<P::Bytes>, Timestamp, Tier), Error> {
        let kind = wanted.kind();
        if let Some((content, confirmed)) = self.fill_from_warm(wanted, key).await {
            let found = Found::Content(Rc::new(content));
            self.keep(key, kind, &found, confirmed);
            return Ok((found, confirmed, Tier::Warm));
        }
        let asked = self.host.now();
        let (found, tier) = far().await?;
        match found {
            Found::Absent => self.metrics.missed(tier, kind),
            Found::Content(_) | Found::Link(_) => self.metrics.hit(tier, kind),
        }
        self.keep(key, kind, &found, asked);
        Ok((found, asked, tier))
    }

    /// Reads from the warm tier, and believes it only as far as it can be checked.
    async fn fill_from_warm(
        &self,
        wanted: Wanted<'_>,
        key: &str,
    ) -> Option<(Content<P::Bytes>, Timestamp)> {
        let kind = wanted.kind();
        if !self.policy.has_warm() || !self.may_be_warm(kind, key) {
            return None;
        }
        let read = pin!(self.warm.get(key));
        let late = pin!(self.host.sleep(self.policy.warm_patience));
        let opened = match select(read, late).await {
            Either::Left((Ok(None), _)) => {
                self.metrics.missed(Tier::Warm, kind);
                self.warmth.borrow_mut().remove(key);
                return None;
            }
            Either::Left((Ok(Some(bytes)), _)) => Value::open(&bytes, wanted.digest()).await,
            Either::Left((Err(error), _)) => Err(error),
            Either::Right(_) => {
                let waited = format!("no answer within {:?}", self.policy.warm_patience);
                self.pass_over(Tier::Warm, kind, Fault::Late, &waited);
                return None;
            }
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
            self.metrics.missed(Tier::Warm, kind);
            return None;
        }
        self.metrics.hit(Tier::Warm, kind);
        self.note_warmth(key, Warmth::Until(until));
        if let Wanted::Manifest(name, _) = wanted {
            // The digest is of the bytes alone: what else the value says of them may be another's.
            if let Ok(media_type) = manifest::media_type(&value.content.bytes.to_vec()) {
                value.content.media_type = media_type;
            }
            for link in value.links {
                // Who pulled the image pulled its blobs as well.
                let blob_until = self.policy.warm_until(Kind::Blob, link.confirmed);
                self.note_warmth(
                    &Key::blob(&link.digest).to_string(),
                    Warmth::Until(blob_until),
                );
                let known = Known {
                    record: link.record,
                    right: link.right,
                    seen: Cell::new(true),
                    confirmed: link.confirmed,
                };
                self.keep(
                    &Key::link(&link.digest, name).to_string(),
                    Kind::Link,
                    &Found::Link(Rc::new(known)),
                    link.confirmed,
                );
            }
        }
        // Bytes are as good as new; that a repository has them is as old as it says.
        let confirmed = match kind {
            Kind::Blob | Kind::Index | Kind::Page | Kind::Span => self.host.now(),
            Kind::Manifest | Kind::Link => value.confirmed,
        };
        Some((value.content, confirmed))
    }

    /// Keeps what was found hot, unless something was pushed or deleted since the question was asked.
    fn keep(&self, key: &str, kind: Kind, found: &Found<P::Bytes>, confirmed: Timestamp) {
        let (until, bytes) = match found {
            Found::Content(content) => {
                (self.policy.hot_until(kind, confirmed), content.bytes.len())
            }
            Found::Link(known) => (
                self.policy.hot_until(kind, confirmed),
                weight(&known.record),
            ),
            // It may be made at any moment, by whoever asks.
            Found::Absent if kind == Kind::Index => return,
            Found::Absent => (confirmed + self.policy.absence, 0),
        };
        let now = self.host.now();
        if until <= now || !self.policy.fits_hot(kind, bytes) || self.changes.since(key, confirmed)
        {
            return;
        }
        self.take(key);
        let entry = Entry {
            found: found.clone(),
            kind,
            confirmed,
            until,
            bytes,
        };
        let mut hot = self.hot.borrow_mut();
        let inserted = hot.insert(key, entry, bytes + ENTRY);
        if inserted.admitted {
            self.metrics.stored(Tier::Hot, kind);
            self.metrics.holds(Tier::Hot, kind, signed(bytes));
        }
        for entry in inserted.evicted {
            self.metrics.evicted(entry.kind);
            self.metrics
                .holds(Tier::Hot, entry.kind, -signed(entry.bytes));
        }
        self.metrics.hot_bytes.set(signed(hot.bytes()));
    }

    /// Counts a read of content, and promotes it where it was read often.
    fn consider(
        &self,
        wanted: Wanted<'_>,
        key: &str,
        content: &Rc<Content<P::Bytes>>,
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
        if warmth.is_some_and(|(Warmth::Until(until) | Warmth::Not(until))| until > now) {
            return;
        }
        // Only one of those who read it now writes it.
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
            confirmed,
        });
    }

    fn forget(&self, key: &str, reason: Demotion) {
        if let Some(kind) = self.take(key) {
            self.metrics.demoted(Tier::Hot, kind, reason);
        }
    }

    /// Takes a value out of memory, and answers its kind.
    fn take(&self, key: &str) -> Option<Kind> {
        let mut hot = self.hot.borrow_mut();
        let entry = hot.remove(key)?;
        self.metrics
            .holds(Tier::Hot, entry.kind, -signed(entry.bytes));
        self.metrics.hot_bytes.set(signed(hot.bytes()));
        Some(entry.kind)
    }

    /// Whether the warm tier is worth asking. A read of it costs more than one of the cold tier, so it is asked for a manifest,
    /// for what took inflating, and for a blob that is believed to be there: one that a warm manifest names, or that went there
    /// from here.
    fn may_be_warm(&self, kind: Kind, key: &str) -> bool {
        match kind {
            Kind::Manifest | Kind::Index | Kind::Span => true,
            Kind::Blob => {
                let warmth = self.warmth.borrow_mut().get(key).copied();
                matches!(warmth, Some(Warmth::Until(until)) if until > self.host.now())
            }
            Kind::Link | Kind::Page => false,
        }
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

    fn pass_over(&self, tier: Tier, kind: Kind, reason: Fault, cause: &impl fmt::Display) {
        self.metrics.passed_over(tier, kind, reason);
        let fields = [
            ("tier", tier.name()),
            ("kind", kind.name()),
            ("reason", reason.name()),
            ("cause", &cause.to_string()),
        ];
        self.host.log(Level::Error, "tier passed over", &fields);
    }
}

/// About the bytes of memory that a record takes.
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

/// What an entry takes beside its bytes: itself, what it points to, and a media type.
const ENTRY: u64 = 256;

/// The memory for what is known to be warm: some thousand keys.
const REMEMBERED: u64 = 512 * 1024;

/// How long content is not written again after it was tried.
const PAUSE: Duration = Duration::from_secs(60);
