//! Inside layers: their indexes, made in passes that take as many requests as they need, and their bytes, span by span.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    rc::Rc,
    time::Duration,
};

use futures_util::{
    StreamExt as _, TryStreamExt as _,
    stream::{self, LocalBoxStream},
};
use serde_json::json;

use crate::{
    digest::Digest,
    error::{Code, Error, RETRY_AFTER},
    host::{Host as _, Level},
    layer::{
        entry::Entry,
        index::{self, Encoded, Index, IndexError, Known as Inner, Refusal, Span, SpanStart},
        pass::{PART, Pass, PassError},
    },
    ledger::{Lease, Ledger, Memory},
    metrics::{Inflating, Metrics, Outcome},
    name::Name,
    platform::Platform,
    range::ByteRange,
    registry::{
        blob::{Blobs, locate},
        grant::Grants,
        inside::stack::{Blocks, Indexes},
        mirror::Mirror,
        parts::Parts,
        reply::{Body, log_failure},
    },
    settings::Settings,
    store::{
        Bytes as _, Condition, Content as Written, ListOptions, Piece, PutOptions, Reader as _,
        StoreError, Streams as _,
        bucket::Bucket,
        document::{Record, from_json},
        flight::{Boarding, Flights, Lead},
        key::{Key, Prefix},
        policy::Tier,
        tiers::{Found, Tiers, Wanted},
        trace::Trace,
        warm::Content,
    },
    time::Timestamp,
};

pub(super) mod file;
mod stack;

/// The inside of layers and images: indexes, spans, files and directories.
pub(super) struct Inside<P: Platform> {
    store: Bucket<P::Cold>,
    tiers: Rc<Tiers<P>>,
    pub(super) host: P::Host,
    settings: Rc<Settings>,
    pub(super) metrics: Rc<Metrics>,
    pub(super) ledger: Ledger,
    grants: Rc<Grants<P>>,
    pub(super) blobs: Rc<Blobs<P>>,
    pub(super) mirror: Rc<Mirror<P>>,
    passes: Flights<Progress>,
    /// Blocks of tables of contents, shared by all requests.
    pub(super) blocks: Blocks,
    /// Indexes of layers that requests have open, shared by all requests.
    pub(super) indexes: Indexes<P::Bytes>,
}

/// A layer that can be read from the middle.
pub(super) struct Layer<B> {
    pub(super) digest: Digest,
    record: Record,
    /// The index, or its head alone.
    content: Rc<Content<B>>,
    pub(super) index: Index,
    /// The memory of the content outside of this module, and of the head of the index.
    leases: RefCell<Vec<Lease>>,
}

impl<B: crate::store::Bytes> Layer<B> {
    /// About the memory that it takes: here, and in the platform's memory.
    pub(super) fn weight(&self) -> (usize, usize) {
        let objects = usize::try_from(self.record.objects()).unwrap_or(usize::MAX);
        let record = objects.saturating_mul(EXTENT);
        let outside = usize::try_from(self.content.bytes.len()).unwrap_or(usize::MAX);
        (self.index.weight().saturating_add(record), outside)
    }

    /// Says that its memory is still held.
    fn renew(&self, now: Timestamp) {
        for lease in &mut *self.leases.borrow_mut() {
            lease.renew(now);
        }
    }

    /// What spans that are here have of these bytes of the archive.
    pub(super) fn held(
        &self,
        bytes: &Range<u64>,
        held: &BTreeMap<usize, B>,
    ) -> std::vec::IntoIter<B> {
        let spans = held.range(self.index.spans_of(bytes));
        let found: Vec<B> = spans
            .map(|(at, whole)| self.cut(*at, whole, bytes))
            .collect();
        found.into_iter()
    }

    /// What a span has of these bytes of the archive.
    fn cut(&self, at: usize, whole: &B, bytes: &Range<u64>) -> B {
        let Some(Span { output, .. }) = self.index.spans.get(at) else {
            return whole.slice(0, 0);
        };
        let first = bytes.start.saturating_sub(output.start);
        let end = bytes.end.min(output.end).saturating_sub(output.start);
        whole.slice(first, end)
    }
}

/// How bytes of the archive of a layer are read.
pub(super) enum Reading<B> {
    /// From these spans, which are here, in memory that is leased for as long.
    Held(BTreeMap<usize, B>, Option<Rc<Lease>>),
    /// As the reply is, in memory that is leased for as long.
    Passing(Rc<RefCell<Lease>>),
}

impl<B> Default for Reading<B> {
    fn default() -> Self {
        Self::Held(BTreeMap::new(), None)
    }
}

/// How far a pass over a layer has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Progress {
    /// The bytes of the layer that were read.
    pub(super) read: u64,
    /// Its size.
    pub(super) size: u64,
    /// Whether what there is to know of it is known.
    is_done: bool,
}

/// A layer, as far as it is known.
pub(super) enum Opened<B> {
    Layer(Rc<Layer<B>>),
    Indexing(Progress),
}

impl<P: Platform> Inside<P> {
    pub(super) fn new(
        parts: &Parts<P>,
        grants: Rc<Grants<P>>,
        blobs: Rc<Blobs<P>>,
        mirror: Rc<Mirror<P>>,
    ) -> Self {
        Self {
            store: parts.store.clone(),
            tiers: parts.tiers.clone(),
            host: parts.host.clone(),
            settings: parts.settings.clone(),
            metrics: parts.metrics.clone(),
            ledger: parts.ledger.clone(),
            grants,
            blobs,
            mirror,
            passes: Flights::default(),
            blocks: Blocks::default(),
            indexes: Indexes::default(),
        }
    }

    /// Opens a layer that this repository may read. Where it has no index, a step of the pass that makes one is done.
    pub(super) async fn open_layer(
        &self,
        name: &Name,
        digest: &Digest,
        trace: &Trace<P::Bytes>,
    ) -> Result<Opened<P::Bytes>, Error> {
        let known = self
            .mirror
            .known_or_obtained(name, digest, trace)
            .await?
            .ok_or_else(|| Error::blob_unknown(name, digest))?;
        if let Some(layer) = self.read_index(digest, &known.record, trace).await? {
            return Ok(Opened::Layer(Rc::new(layer)));
        }
        let progress = self.advance(digest, &known.record).await?;
        if !progress.is_done {
            return Ok(Opened::Indexing(progress));
        }
        match self.read_index(digest, &known.record, trace).await? {
            Some(layer) => Ok(Opened::Layer(Rc::new(layer))),
            None => Err(Error::unavailable(
                format!("the index of {digest} was there and is not, try again"),
                RETRY_AFTER,
            )),
        }
    }

    /// Reads what is known of the inside of a layer; `None` where nothing is that is of use.
    async fn read_index(
        &self,
        digest: &Digest,
        record: &Record,
        trace: &Trace<P::Bytes>,
    ) -> Result<Option<Layer<P::Bytes>>, Error> {
        let wanted = Wanted::Index(digest);
        let read: RefCell<Option<Lease>> = RefCell::default();
        let cold = async || {
            let Some(object) = self.store.get(&Key::index(digest), None).await? else {
                return Ok(Found::Absent);
            };
            let size = object.meta.size;
            let lease = self.ledger.wait_if_large(&self.host, Memory::Buffer, size);
            match lease.await {
                Ok(lease) => drop(read.replace(lease)),
                Err(full) => {
                    self.store.discard(object.body).await;
                    return Err(full.into());
                }
            }
            let bytes = self.store.hold(object.body, size).await?;
            match self.inside(&bytes) {
                Ok(_) => {
                    let media_type = String::new();
                    Ok(Found::Content(Rc::new(Content { media_type, bytes })))
                }
                // It is made anew.
                Err(_) => Ok(Found::Absent),
            }
        };
        for _ in 0..2 {
            let was_hot = self.tiers.is_hot(wanted);
            let Found::Content(content) = self.tiers.read(wanted, trace, cold).await? else {
                return Ok(None);
            };
            // Bytes that were hot are shared, and counted there.
            let outside = match read.take() {
                None if !was_hot => {
                    let size = content.bytes.len();
                    let lease = self.ledger.wait_if_large(&self.host, Memory::Buffer, size);
                    lease.await?
                }
                read => read,
            };
            // Requests that wait for memory hold no parsed head.
            let counts = content.bytes.slice(0, index::COUNTS).to_vec();
            let memory = index::memory(&counts, content.bytes.len()).unwrap_or_default();
            let lease = self.ledger.wait_if_large(&self.host, Memory::Wasm, memory);
            let lease = lease.await?;
            match self.inside(&content.bytes) {
                Ok(Inner::Index(index)) => {
                    return Ok(Some(Layer {
                        leases: RefCell::new(outside.into_iter().chain(lease).collect()),
                        digest: digest.clone(),
                        record: record.clone(),
                        content,
                        index,
                    }));
                }
                Ok(Inner::Refused(refusal)) => return Err(refused(digest, &refusal)),
                // A tier before the cold one has what is of no use any more: there may be another one behind it.
                Err(_) => self.tiers.withdraw(wanted).await,
            }
        }
        Ok(None)
    }

    /// Has an index made anew that a part of is not as it was written, or gone.
    async fn distrust(&self, digest: &Digest, error: &impl std::fmt::Display) -> Error {
        self.tiers.withdraw(Wanted::Index(digest)).await;
        let deleted = self.store.delete(&[Key::index(digest)]).await;
        let again = deleted.err().map(|error| format!(", {error}"));
        broken(digest, &format!("{error}{}", again.unwrap_or_default()))
    }

    /// What bytes say of a layer. A refusal for limits that are others now says nothing.
    fn inside(&self, bytes: &P::Bytes) -> Result<Inner, IndexError> {
        let head = index::head(&bytes.slice(0, index::FIXED).to_vec())?;
        let inside = Inner::parse(&bytes.slice(0, head).to_vec())?;
        match &inside {
            Inner::Refused(Refusal {
                limits: Some(limits),
                ..
            }) if *limits != self.settings.layers.options.limits() => Err(IndexError::Corrupt),
            Inner::Index(_) | Inner::Refused(_) => Ok(inside),
        }
    }

    /// Does a step of the pass over a layer, or waits for one that is being done.
    async fn advance(&self, digest: &Digest, record: &Record) -> Result<Progress, Error> {
        let key = Key::indexing(digest).to_string();
        let later = Progress {
            read: 0,
            size: record.size(),
            is_done: false,
        };
        if self.passes.running(self.host.now()) >= MAX_PASSES && !self.passes.is_under_way(&key) {
            // Each takes memory: what asks for one more comes again.
            return Ok(later);
        }
        match self.passes.board(&key, self.host.now()) {
            Boarding::Lead(lead) => {
                let progress = self.step(digest, record, &lead).await?;
                let progress = progress.unwrap_or(later);
                lead.land(&progress);
                Ok(progress)
            }
            Boarding::Follow(follow) => match follow.wait(&self.host).await {
                Some(progress) => Ok(progress),
                None => Err(Error::unavailable(
                    format!("indexing {digest} was broken off, try again"),
                    RETRY_AFTER,
                )),
            },
        }
    }

    /// Does a step of the pass over a layer: from where it was saved up to the end, or to where it is saved again. `None` if no
    /// memory is free for it.
    async fn step(
        &self,
        digest: &Digest,
        record: &Record,
        lead: &Lead<'_, Progress>,
    ) -> Result<Option<Progress>, Error> {
        let settings = &self.settings.layers;
        let saved_key = Key::indexing(digest);
        let size = record.size();
        let object = self.store.get(&saved_key, None).await?;
        let was_saved = object.is_some();
        let object = match object {
            // More than a pass saves, from before there was this limit: it begins anew.
            Some(object) if object.meta.size > MAX_SAVED => {
                self.store.discard(object.body).await;
                None
            }
            object => object,
        };
        let saved_size = object.as_ref().map_or(0, |object| object.meta.size);
        let lease = self
            .ledger
            .take_for_all(Memory::Wasm, saved_size + AHEAD, self.host.now());
        let Ok(mut lease) = lease else {
            if let Some(object) = object {
                self.store.discard(object.body).await;
            }
            return Ok(None);
        };
        let mut saved = Vec::new();
        if let Some(object) = object {
            saved.reserve_exact(usize::try_from(saved_size).unwrap_or_default());
            let mut reader = self.store.read(object.body)?;
            let mut piece = Vec::new();
            while reader.next(&mut piece).await? {
                saved.extend_from_slice(&piece);
            }
        }
        let mut pass = Pass::load_from(saved, size, &settings.options)
            .unwrap_or_else(|| Pass::new(size, settings.options.clone()));
        let begun = pass.position();
        let outcome = self
            .read_on(digest, record, &mut pass, lead, &mut lease)
            .await;
        let (read, length) = pass.position();
        self.metrics
            .inflated(Inflating::Pass, length.saturating_sub(begun.1));
        let (content, outcome) = match outcome {
            Ok(None) => {
                let saved = pass.save_in_pieces();
                drop(pass);
                self.put_pieces(&saved_key, saved).await?;
                self.metrics.passed(Outcome::Paused);
                return Ok(Some(Progress {
                    read,
                    size,
                    is_done: false,
                }));
            }
            Ok(Some(index)) => (self.keep_pages(digest, index).await?, Outcome::Indexed),
            Err(Failure::Pass(error)) => {
                let refusal = error.refusal(&settings.options);
                self.metrics.refused(&refusal.kind);
                let fields = [("layer", &*digest.to_string()), ("reason", &refusal.reason)];
                self.host.log(Level::Info, "layer not indexed", &fields);
                (refusal.encode(), Outcome::Refused)
            }
            Err(Failure::Store(error)) => return Err(error),
        };
        self.metrics.index_bytes.inc_by(content.len() as u64);
        let bytes = P::Bytes::copy_from(&content);
        self.store
            .put(
                &Key::index(digest),
                Written::Bytes(content),
                PutOptions::default(),
            )
            .await?;
        self.metrics.passed(outcome);
        // Whoever has waited for it reads it next.
        let media_type = String::new();
        self.tiers
            .made(Wanted::Index(digest), Content { media_type, bytes });
        if was_saved {
            self.store.delete(&[saved_key]).await?;
        }
        Ok(Some(Progress {
            read: size,
            size,
            is_done: true,
        }))
    }

    /// Writes an object of pieces, without a copy of all of them where they are large.
    async fn put_pieces(&self, key: &Key, pieces: Vec<Vec<u8>>) -> Result<(), StoreError> {
        let length = pieces.iter().map(|piece| piece.len() as u64).sum();
        let content = if length <= AHEAD / 4 {
            Written::Bytes(pieces.concat())
        } else {
            let pieces = pieces.into_iter().map(Piece::Bytes).collect();
            Written::Stream(self.store.concatenate(pieces, length), length)
        };
        self.store.put(key, content, PutOptions::default()).await?;
        Ok(())
    }

    /// Reads a layer on from where a pass is. Answers the index at the end, and nothing where the pass has paused.
    async fn read_on(
        &self,
        digest: &Digest,
        record: &Record,
        pass: &mut Pass,
        lead: &Lead<'_, Progress>,
        lease: &mut Lease,
    ) -> Result<Option<Encoded>, Failure> {
        let size = record.size();
        let (first, length) = pass.position();
        let packed = pass.work();
        if let Some(rest) = size
            .checked_sub(1)
            .and_then(|last| ByteRange::new(first, last))
        {
            let pieces = locate(record, digest, Some(rest));
            let body = match self.blobs.open(pieces, rest.length()).await? {
                Some(Body::Stream(body)) => body,
                Some(Body::Empty | Body::Bytes(_) | Body::Held(_)) | None => {
                    return Err(gone(digest).into());
                }
            };
            let mut from = first;
            let mut reader = self.store.read(body)?;
            let mut piece = Vec::new();
            let (mut read, mut turn) = (0, 0);
            while reader.next(&mut piece).await? {
                read += piece.len() as u64;
                let mut outcome = Ok(());
                for part in piece.chunks(PART) {
                    outcome = pass.push(part);
                    while let Some((number, object)) = pass.object() {
                        self.keep_object(digest, number, object).await?;
                    }
                    if outcome.is_err() || pass.is_paused() {
                        break;
                    }
                    let (now_read, now_length) = pass.position();
                    if pass.repeats() {
                        from = now_read;
                    }
                    // Bytes that do not shrink cost time as well, and so does packing entries.
                    let cost = (now_length - length).max(3 * now_read.saturating_sub(from))
                        + PACKING * (pass.work() - packed);
                    if cost >= self.settings.layers.step {
                        pass.pause();
                    }
                    let now = self.host.now();
                    let needed = pass.memory() + AHEAD;
                    if needed > Ledger::WASM {
                        outcome = Err(PassError::Memory(Ledger::WASM));
                        break;
                    }
                    if needed > lease.bytes() && lease.resize(needed + AHEAD / 2, now).is_err() {
                        // It goes on when others have ended.
                        pass.pause();
                    }
                    // Where the next piece is there already, awaiting it lets nothing else of the isolate run.
                    if cost / TURN > turn {
                        turn = cost / TURN;
                        lease.renew(now);
                        lead.renew(now);
                        self.host.sleep(Duration::ZERO).await;
                    }
                }
                lead.renew(self.host.now());
                if let Err(error) = outcome {
                    reader.give_up().await;
                    return Err(error.into());
                }
                if pass.is_paused() {
                    reader.give_up().await;
                    return Ok(None);
                }
            }
            if read != rest.length() {
                return Err(gone(digest).into());
            }
        }
        let index = pass.finish_in_pieces()?;
        while let Some((number, object)) = pass.object() {
            self.keep_object(digest, number, object).await?;
        }
        Ok(index)
    }

    /// Stores spans that can't be read from the layer itself.
    async fn keep_object(
        &self,
        digest: &Digest,
        number: u32,
        bytes: Vec<u8>,
    ) -> Result<(), StoreError> {
        self.metrics.index_bytes.inc_by(bytes.len() as u64);
        let key = Key::stored_spans(digest, number);
        let content = Written::Bytes(bytes);
        self.store.put(&key, content, PutOptions::default()).await?;
        Ok(())
    }

    /// Stores the rest of an index that is large, and answers what is to be read whole.
    async fn keep_pages(&self, digest: &Digest, index: Encoded) -> Result<Vec<u8>, Error> {
        if index.size() <= MAX_WHOLE {
            return Ok(index.into_bytes());
        }
        self.metrics.index_bytes.inc_by(index.pages_size());
        self.put_pieces(&Key::pages(digest), index.pages).await?;
        Ok(index.head)
    }

    /// Indexes layers that were pushed and have no index yet, as far as a step each goes. Should that be cut short, the cron
    /// trigger knows what is left.
    pub(super) async fn index_pushed(&self, layers: &[Digest]) -> Result<(), Error> {
        let mut left = Vec::new();
        for digest in layers {
            if self.store.head(&Key::index(digest)).await?.is_none() {
                let options = PutOptions {
                    condition: Condition::Absent,
                    ..PutOptions::default()
                };
                let begun = Written::Bytes(Vec::new());
                self.store
                    .put(&Key::indexing(digest), begun, options)
                    .await?;
                left.push(digest);
            }
        }
        for digest in left {
            if let Some(record) = self.grants.record(digest).await? {
                self.advance(digest, &record).await?;
            }
        }
        Ok(())
    }

    /// Goes on with passes that were paused: each a step, as many as there is time for. One that fails does not keep others from
    /// their turn, and one that ended the isolate several times is given up: it is announced before each step.
    pub(super) async fn advance_passes(&self) -> Result<(), Error> {
        let mut steps = 0;
        let mut tries: Option<Tries> = None;
        let options = ListOptions {
            limit: PASSES_AT_ONCE,
            ..ListOptions::default()
        };
        let page = self.store.list(Prefix::Indexing, options).await?;
        for (key, _) in page.objects {
            let digest = match &key {
                Key::Indexing(digest) => Some(digest.clone()),
                _ => None,
            };
            let record = match &digest {
                Some(digest) => self.grants.record(digest).await?,
                None => None,
            };
            match (digest, record) {
                (Some(digest), Some(record)) => {
                    let tries = match &mut tries {
                        Some(tries) => tries,
                        None => tries.insert(self.read_tries().await?),
                    };
                    let encoded = digest.to_string();
                    let tried = tries.get(&encoded).copied().unwrap_or_default();
                    if tried >= MAX_TRIES {
                        self.give_up(&digest).await?;
                    } else {
                        tries.insert(encoded.clone(), tried + 1);
                        self.write_tries(tries).await?;
                        match self.advance(&digest, &record).await {
                            Ok(_) => steps += 1,
                            Err(error) => log_failure(&self.host, "layer not indexed", &error),
                        }
                    }
                    tries.remove(&encoded);
                }
                // Nobody will ask for it again.
                _ => self.store.delete(&[key]).await?,
            }
            if steps == STEPS_AT_ONCE {
                break;
            }
        }
        match tries {
            Some(tries) => self.write_tries(&tries).await,
            None => Ok(()),
        }
    }

    /// Which passes the trigger began and did not end, and how often.
    async fn read_tries(&self) -> Result<Tries, Error> {
        Ok(match self.store.text(&Key::Passes).await? {
            Some((_, text)) => from_json(&Key::Passes, &text).unwrap_or_default(),
            None => Tries::new(),
        })
    }

    async fn write_tries(&self, tries: &Tries) -> Result<(), Error> {
        if tries.is_empty() {
            self.store.delete(&[Key::Passes]).await?;
            return Ok(());
        }
        self.store
            .put_document(&Key::Passes, tries, Condition::Always)
            .await?;
        Ok(())
    }

    /// Remembers that a layer is not to be indexed, because that never came to an end.
    async fn give_up(&self, digest: &Digest) -> Result<(), Error> {
        let refusal = Refusal {
            reason: format!("indexing it ended the isolate {MAX_TRIES} times"),
            kind: "unfinished".to_owned(),
            limits: Some(self.settings.layers.options.limits()),
        };
        self.metrics.refused(&refusal.kind);
        let fields = [("layer", &*digest.to_string()), ("reason", &refusal.reason)];
        self.host.log(Level::Error, "layer not indexed", &fields);
        let content = Written::Bytes(refusal.encode());
        self.store
            .put(&Key::index(digest), content, PutOptions::default())
            .await?;
        self.store.delete(&[Key::indexing(digest)]).await?;
        Ok(())
    }

    /// A part of an index.
    async fn part(
        &self,
        layer: &Layer<P::Bytes>,
        range: &Range<u64>,
        trace: &Trace<P::Bytes>,
    ) -> Result<Vec<u8>, Error> {
        let bytes = &layer.content.bytes;
        if range.end <= bytes.len() {
            return Ok(bytes.slice(range.start, range.end).to_vec());
        }
        let head = layer.index.head();
        let within = range
            .start
            .checked_sub(head)
            .zip(range.end.checked_sub(head + 1));
        let Some(range_of_pages) = within.and_then(|(first, last)| ByteRange::new(first, last))
        else {
            return Ok(Vec::new());
        };
        let cold = async || {
            let key = Key::pages(&layer.digest);
            let Some(object) = self.store.get(&key, Some(range_of_pages)).await? else {
                return Ok(Found::Absent);
            };
            let bytes = self
                .store
                .hold(object.body, range_of_pages.length())
                .await?;
            let media_type = String::new();
            Ok(Found::Content(Rc::new(Content { media_type, bytes })))
        };
        let wanted = Wanted::Page(&layer.digest, range.start, range.end);
        match self.tiers.read(wanted, trace, cold).await? {
            Found::Content(content) => Ok(content.bytes.to_vec()),
            Found::Absent | Found::Link(_) => {
                Err(self.distrust(&layer.digest, &IndexError::Corrupt).await)
            }
        }
    }

    /// A block of the table of contents of a layer.
    pub(super) async fn block(
        &self,
        layer: &Layer<P::Bytes>,
        block: usize,
        trace: &Trace<P::Bytes>,
    ) -> Result<Rc<[Entry]>, Error> {
        let range = layer.index.range_of(block).unwrap_or_default();
        let bytes = self.part(layer, &range, trace).await?;
        match layer.index.read_block(block, &bytes) {
            Ok(entries) => Ok(entries.into()),
            Err(error) => {
                let page = Wanted::Page(&layer.digest, range.start, range.end);
                self.tiers.changed(page);
                Err(self.distrust(&layer.digest, &error).await)
            }
        }
    }

    /// Decides how these ranges of the archive of a layer are read. Where they are in few spans, those are read now, from the
    /// nearest tier, and kept; else they are read as the reply is, and pass by. `None` where that would be more work than `whole`,
    /// of which they are parts.
    pub(super) async fn reading(
        &self,
        layer: &Rc<Layer<P::Bytes>>,
        ranges: &[Range<u64>],
        whole: &Range<u64>,
        trace: &Trace<P::Bytes>,
    ) -> Result<Option<Reading<P::Bytes>>, Error> {
        let index = &layer.index;
        let length = |at: &usize| index.spans.get(*at).map_or(0, Span::length);
        let wanted: u64 = ranges.iter().map(|bytes| bytes.end - bytes.start).sum();
        let mut spans = BTreeSet::new();
        let mut held = 0;
        let mut largest = 0;
        // As many as are held, and one more.
        for at in ranges.iter().flat_map(|bytes| index.spans_of(bytes)) {
            if held > MAX_HELD && spans.len() > 1 {
                break;
            }
            if spans.insert(at) {
                held += length(&at);
                largest = largest.max(length(&at));
            }
        }
        if wanted > MAX_KEPT || (held > MAX_HELD && spans.len() > 1) {
            let work =
                |bytes: &Range<u64>| index.spans_of(bytes).map(|at| length(&at)).sum::<u64>();
            let all = ranges.iter().map(work).sum::<u64>();
            let is_less = ranges.len() < 2 || all <= work(whole) + MAX_HELD;
            trace.step("span", Tier::Cold, Duration::ZERO);
            if !is_less {
                return Ok(None);
            }
            // The compressed bytes of one fetch, and the bytes inflated from them.
            let bytes = 2 * FETCHED.max(largest);
            let lease = self.ledger.wait(&self.host, Memory::Buffer, bytes).await?;
            return Ok(Some(Reading::Passing(Rc::new(RefCell::new(lease)))));
        }
        let lease = self
            .ledger
            .wait_if_large(&self.host, Memory::Buffer, held)
            .await?;
        let mut found = BTreeMap::new();
        while let Some(first) = spans.pop_first() {
            let mut end = first + 1;
            while spans.remove(&end) {
                end += 1;
            }
            let read = self.spans(layer, first..end, Some(trace)).await?;
            found.extend((first..end).zip(read));
        }
        // A small reply is sent soon.
        let lease = lease.filter(|_| wanted > SMALL).map(Rc::new);
        Ok(Some(Reading::Held(found, lease)))
    }

    /// The bytes of the archive of a layer, in their order.
    pub(super) fn archive(
        self: &Rc<Self>,
        layer: &Rc<Layer<P::Bytes>>,
        bytes: Range<u64>,
        reading: &Reading<P::Bytes>,
    ) -> LocalBoxStream<'static, Result<P::Bytes, StoreError>> {
        let spans = layer.index.spans_of(&bytes);
        let lease = match reading {
            Reading::Held(held, lease) => {
                let lease = lease.clone();
                let leased = move |bytes| {
                    let _lease = &lease;
                    Ok(bytes)
                };
                return stream::iter(layer.held(&bytes, held).map(leased)).boxed_local();
            }
            Reading::Passing(lease) => lease.clone(),
        };
        let sender = self.ledger.sender();
        let (inside, layer) = (self.clone(), layer.clone());
        let together = usize::try_from(FETCHED / layer.index.span.max(1)).unwrap_or(1);
        let made = stream::try_unfold(spans, move |left| {
            let (inside, layer, bytes) = (inside.clone(), layer.clone(), bytes.clone());
            let (lease, sender) = (lease.clone(), sender.clone());
            async move {
                if left.is_empty() {
                    return Ok(None);
                }
                let end = left.end.min(left.start + together.max(1));
                // Others have their turn, whom a layer that is near and a client that is quick would leave none.
                inside.host.sleep(Duration::ZERO).await;
                let now = inside.host.now();
                lease.borrow_mut().renew(now);
                layer.renew(now);
                let spans = inside.spans(&layer, left.start..end, None);
                match inside.ledger.scope(sender, spans).await {
                    Ok(found) => {
                        let found = (left.start..end).zip(found);
                        let cut = found.map(move |(at, whole)| Ok(layer.cut(at, &whole, &bytes)));
                        Ok(Some((stream::iter(cut), end..left.end)))
                    }
                    Err(error) => {
                        let cause = error.cause().map(str::to_owned);
                        Err(StoreError::Failed(cause.unwrap_or_else(|| error.message())))
                    }
                }
            }
        });
        made.try_flatten().boxed_local()
    }

    /// Reads spans. With a trace, they are read from the nearest tier and kept.
    async fn spans(
        &self,
        layer: &Layer<P::Bytes>,
        spans: Range<usize>,
        trace: Option<&Trace<P::Bytes>>,
    ) -> Result<Vec<P::Bytes>, Error> {
        let digest = &layer.digest;
        let wanted = |span: &Span| Wanted::Span(digest, span.output.start, span.output.end);
        let of = |range: Range<usize>| layer.index.spans.get(range).unwrap_or_default();
        let fetched = RefCell::new(None);
        let mut found = Vec::with_capacity(spans.len());
        for (at, span) in spans.clone().zip(of(spans.clone())) {
            let inflate = async || {
                let is_fetched = |fetched: &Option<Fetched<P::Bytes>>| {
                    fetched
                        .as_ref()
                        .is_some_and(|fetched| fetched.spans.contains(&at))
                };
                if !is_fetched(&fetched.borrow()) {
                    // Neighbours that memory does not have come with one request.
                    let after = of(at + 1..spans.end).iter();
                    let more = after
                        .take_while(|next| next.follows(span) && !self.tiers.is_hot(wanted(next)))
                        .count();
                    let now = at..at + 1 + more;
                    let got = self.fetch(layer, now, trace).await?;
                    *fetched.borrow_mut() = Some(got);
                }
                // Inflating is done at once, in wasm's memory.
                let taken = span.length() + span.input.end.saturating_sub(span.input.start);
                let _lease = match span.start {
                    SpanStart::Plain => None,
                    _ if taken > MAX_INFLATED => return Err(too_large(digest, taken)),
                    _ => {
                        self.ledger
                            .wait_if_large(&self.host, Memory::Wasm, taken)
                            .await?
                    }
                };
                let inflated = {
                    let fetched = fetched.borrow();
                    let Some(fetched) = fetched.as_ref() else {
                        return Err(gone(digest));
                    };
                    let input = fetched.input(span);
                    if span.start == SpanStart::Plain {
                        return Ok(input);
                    }
                    span.inflate(&fetched.window(span), &input.to_vec(), u64::MAX)
                };
                match inflated {
                    Ok(out) => {
                        self.metrics.inflated(Inflating::Span, out.len() as u64);
                        Ok(P::Bytes::copy_from(&out))
                    }
                    Err(error) => Err(self.distrust(digest, &error).await),
                }
            };
            found.push(match trace {
                Some(trace) => {
                    let cold = async || {
                        let bytes = inflate().await?;
                        let media_type = String::new();
                        Ok(Found::Content(Rc::new(Content { media_type, bytes })))
                    };
                    match self.tiers.read(wanted(span), trace, cold).await? {
                        Found::Content(content) => content.bytes.clone(),
                        Found::Absent | Found::Link(_) => return Err(gone(digest)),
                    }
                }
                None => inflate().await?,
            });
        }
        Ok(found)
    }

    /// Reads what neighbouring spans are inflated from, and their windows.
    async fn fetch(
        &self,
        layer: &Layer<P::Bytes>,
        spans: Range<usize>,
        trace: Option<&Trace<P::Bytes>>,
    ) -> Result<Fetched<P::Bytes>, Error> {
        let digest = &layer.digest;
        let own = Trace::default();
        let is_passing = trace.is_none();
        let trace = trace.unwrap_or(&own);
        let all = layer.index.spans.get(spans.clone()).unwrap_or_default();
        let (Some(first), Some(last)) = (all.first(), all.last()) else {
            return Err(gone(digest));
        };
        let range = last
            .input
            .end
            .checked_sub(1)
            .and_then(|end| ByteRange::new(first.input.start, end));
        let Some(range) = range else {
            return Err(self.distrust(digest, &IndexError::Corrupt).await);
        };
        if range.length() > MAX_INFLATED {
            return Err(too_large(digest, range.length()));
        }
        let pieces = match first.start {
            SpanStart::Stored(object) => {
                vec![Piece::Object(
                    Key::stored_spans(digest, object).to_string(),
                    Some(range),
                )]
            }
            _ => locate(&layer.record, digest, Some(range)),
        };
        // It is in memory while spans are inflated, and a span may be made of far more bytes than it has. Of what passes by,
        // so much is leased already.
        let lease = match first.start {
            SpanStart::Plain => None,
            _ if is_passing && range.length() <= FETCHED => None,
            _ => {
                self.ledger
                    .wait_if_large(&self.host, Memory::Buffer, range.length())
                    .await?
            }
        };
        self.metrics.layer_ranges.inc_by(pieces.len() as u64);
        self.metrics.layer_range_bytes.inc_by(range.length());
        let input = match self.blobs.open(pieces, range.length()).await? {
            Some(Body::Stream(body)) => match self.store.hold(body, range.length()).await {
                Ok(input) => input,
                Err(StoreError::Length) => return Err(gone(digest)),
                Err(error) => return Err(error.into()),
            },
            Some(Body::Held(bytes)) => bytes,
            Some(Body::Empty | Body::Bytes(_)) | None => {
                return Err(match first.start {
                    SpanStart::Stored(_) => self.distrust(digest, &"a stored span is gone").await,
                    _ => gone(digest),
                });
            }
        };
        let windows = all.iter().filter_map(Span::window);
        let windows = windows.reduce(|all, window| all.start..window.end);
        let windows = windows.unwrap_or_default();
        Ok(Fetched {
            _lease: lease,
            spans,
            first: first.input.start,
            input,
            windows_first: windows.start,
            windows: if windows.is_empty() {
                Vec::new()
            } else {
                self.part(layer, &windows, trace).await?
            },
        })
    }
}

/// What neighbouring spans are inflated from.
struct Fetched<B> {
    _lease: Option<Lease>,
    spans: Range<usize>,
    first: u64,
    input: B,
    windows_first: u64,
    windows: Vec<u8>,
}

impl<B: crate::store::Bytes> Fetched<B> {
    fn input(&self, span: &Span) -> B {
        self.input
            .slice(span.input.start - self.first, span.input.end - self.first)
    }

    fn window(&self, span: &Span) -> Vec<u8> {
        let within = span.window().and_then(|window| {
            let start = usize::try_from(window.start.checked_sub(self.windows_first)?).ok()?;
            let end = usize::try_from(window.end.checked_sub(self.windows_first)?).ok()?;
            self.windows.get(start..end)
        });
        within.unwrap_or_default().to_vec()
    }
}

/// How often the clock's trigger began passes that did not end, by the layer.
type Tries = BTreeMap<String, u32>;

/// Why a pass did not go on.
enum Failure {
    /// The layer.
    Pass(PassError),
    /// The store.
    Store(Error),
}

impl From<PassError> for Failure {
    fn from(error: PassError) -> Self {
        Self::Pass(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error.into())
    }
}

fn too_large(digest: &Digest, bytes: u64) -> Error {
    let found = format!(
        "reading a part of {digest} needs {bytes} bytes of memory at once, at most {MAX_INFLATED} are allowed: pull the whole layer"
    );
    Error::new(Code::LayerInvalid, found)
}

fn refused(digest: &Digest, refusal: &Refusal) -> Error {
    Error::new(Code::LayerInvalid, format!("{digest}: {}", refusal.reason))
        .with_detail(json!({ "digest": digest.to_string(), "reason": refusal.kind }))
}

fn broken(digest: &Digest, error: &impl std::fmt::Display) -> Error {
    Error::unavailable(
        format!("a part of layer {digest} could not be read"),
        Duration::from_secs(60),
    )
    .with_cause(error.to_string())
}

fn gone(digest: &Digest) -> Error {
    Error::unavailable(
        format!("the bytes of {digest} are gone, push it again"),
        Duration::from_secs(60),
    )
}

/// An index of up to this many bytes is read whole. It is no more than what the hot tier keeps.
const MAX_WHOLE: u64 = 2 * 1024 * 1024;
/// More than a pass saves: 24 MiB of windows, spans and contents, an object of spans, and what of the archive was begun.
const MAX_SAVED: u64 = 40 * 1024 * 1024;
/// The memory that is leased ahead of what a pass takes.
const AHEAD: u64 = 4 * 1024 * 1024;
/// The most bytes that are in memory at once to inflate a span. zlib's blocks inflate to 4 MiB at most, and others' are shorter.
const MAX_INFLATED: u64 = 24 * 1024 * 1024;
/// How many bytes of an archive take as long as packing one of its table of contents.
const PACKING: u64 = 4;
/// How often the clock's trigger begins a pass that ends the isolate.
const MAX_TRIES: u32 = 3;
/// Files, and parts of them, of more bytes pass by: the tiers are for what is small and read often.
const MAX_KEPT: u64 = 8 * 1024 * 1024;
/// The memory of a reply of no more bytes is given back when it begins.
const SMALL: u64 = 256 * 1024;
/// So do those that are in spans of more bytes, unless that is one: the first and the last may be read for a part.
const MAX_HELD: u64 = MAX_KEPT + 2 * 1024 * 1024;
/// About the memory that an extent of a blob's record takes.
const EXTENT: usize = 128;
/// About how many bytes of those are inflated from one range of the layer.
const FETCHED: u64 = 2 * 1024 * 1024;
/// About how many bytes come out of a layer before other requests have their turn: that is some tens of milliseconds.
const TURN: u64 = 4 * 1024 * 1024;
/// The passes that an isolate does at the same time: each takes some tens of megabytes at the most.
const MAX_PASSES: usize = 2;
/// The steps that the cron trigger does at a time: each may take seven of the thirty seconds that it has.
const STEPS_AT_ONCE: u32 = 3;
/// The passes of which it tries one after the other until so many steps are done.
const PASSES_AT_ONCE: u32 = 50;
