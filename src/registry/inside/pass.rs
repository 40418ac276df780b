//! Passes over layers: they write indexes, in as many steps as a layer needs.

use std::time::Duration;

use crate::{
    digest::Digest,
    error::{Error, RETRY_AFTER},
    host::{Clock as _, Level, Log as _},
    layer::{
        index::Encoded,
        pass::{PART, Pass, PassError},
    },
    ledger::{Lease, Ledger, MemoryKind},
    metrics::{Inflating, PassOutcome},
    platform::Platform,
    range::ByteRange,
    registry::{
        blob::locate,
        body::Body,
        inside::{Inside, index::gone, layer::PassProgress},
    },
    store::{
        Bytes as _, Content as Written, Piece, PutOptions, Reader as _, StoreError, Streams as _,
        document::Record,
        flight::{Boarding, Lead},
        key::Key,
        tiers::Wanted,
        warm::TierContent,
    },
};

/// A pass that continues, with its memory and the cost of this step.
struct Resumed {
    pass: Pass,
    lease: Lease,
    cost: Cost,
    /// Whether the bucket has a saved state of the pass.
    was_saved: bool,
}

/// The cost of a step of a pass, in bytes of an archive.
struct Cost {
    bytes: u64,
    /// The bytes of the archive, and the work of packing entries, before this step.
    length: u64,
    packed: u64,
    /// The offset in the layer from which reading counts:
    /// the end of the part that the pass reads again.
    from: u64,
    /// The turns that this step has given to other requests.
    turns: u64,
}

impl Cost {
    fn start(pass: &Pass) -> Self {
        let (from, length) = pass.position();
        Self {
            bytes: 0,
            length,
            packed: pass.work(),
            from,
            turns: 0,
        }
    }

    /// Adds the pass's work since the last call, and returns the cost so far.
    fn add(&mut self, pass: &Pass) -> u64 {
        let (read, length) = pass.position();
        if pass.repeats() {
            self.from = read;
        }
        // Bytes that do not shrink cost time as well, and so does packing entries.
        self.bytes = (length - self.length).max(3 * read.saturating_sub(self.from))
            + PACKING * (pass.work() - self.packed);
        self.bytes
    }

    /// Whether other requests get a turn now.
    fn is_turn(&mut self) -> bool {
        let turns = self.bytes / TURN;
        let is_turn = turns > self.turns;
        self.turns = self.turns.max(turns);
        is_turn
    }
}

/// The reason that a pass stopped.
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

/// An index of up to this many bytes is read whole: it fits the hot tier.
const MAX_WHOLE: u64 = 2 * 1024 * 1024;

/// More than a pass saves: 24 MiB of windows, spans and contents, an object of spans, and an
/// unfinished part of the archive.
const MAX_SAVED: u64 = 40 * 1024 * 1024;

/// The memory that is leased beyond the pass's current need.
const AHEAD: u64 = 4 * 1024 * 1024;

/// The bytes of an archive that take as long as packing one byte of its table of contents.
const PACKING: u64 = 4;

/// About how many bytes a layer yields before other requests get a turn: some tens of milliseconds.
const TURN: u64 = 4 * 1024 * 1024;

/// The most concurrent passes of an isolate: each takes some tens of megabytes at most.
const MAX_PASSES: usize = 2;

impl<P: Platform> Inside<P> {
    /// Does a step of the pass over a layer, or waits for the step that is under way.
    pub(super) async fn advance(
        &self,
        digest: &Digest,
        record: &Record,
    ) -> Result<PassProgress, Error> {
        let key = Key::indexing(digest).to_string();
        let later = PassProgress {
            read: 0,
            size: record.size(),
            is_done: false,
        };
        if self.passes.running(self.host.now()) >= MAX_PASSES && !self.passes.is_under_way(&key) {
            // Each pass takes memory: the client of another one must retry.
            return Ok(later);
        }
        match self.passes.board(&key, self.host.now()) {
            Boarding::Lead(lead) => {
                let progress = self.step(digest, record, &lead).await?;
                let progress = progress.unwrap_or(later);
                lead.land(&progress);
                Ok(progress)
            }
            Boarding::Follower(follow) => match follow.wait(&self.host).await {
                Some(progress) => Ok(progress),
                None => Err(Error::unavailable(
                    format!("indexing {digest} was interrupted; try again"),
                    RETRY_AFTER,
                )),
            },
        }
    }

    /// Does a step of the pass over a layer: from the saved state to the end, or to the next save.
    /// `None` if no memory is free for it.
    async fn step(
        &self,
        digest: &Digest,
        record: &Record,
        lead: &Lead<'_, PassProgress>,
    ) -> Result<Option<PassProgress>, Error> {
        let settings = &self.settings.layers;
        let saved_key = Key::indexing(digest);
        let size = record.size();
        let Some(mut resumed) = self.resume(&saved_key, size).await? else {
            return Ok(None);
        };
        let begun = resumed.pass.position();
        let outcome = self.read_on(digest, record, &mut resumed, lead).await;
        let Resumed {
            mut pass,
            lease: _lease,
            was_saved,
            ..
        } = resumed;
        let (read, length) = pass.position();
        self.metrics
            .inflated(Inflating::Pass, length.saturating_sub(begun.1));
        let (content, outcome) = match outcome {
            Ok(None) => {
                let saved = pass.save_in_pieces();
                drop(pass);
                self.put_pieces(&saved_key, saved).await?;
                self.metrics.passed(PassOutcome::Paused);
                return Ok(Some(PassProgress {
                    read,
                    size,
                    is_done: false,
                }));
            }
            Ok(Some(index)) => (self.keep_pages(digest, index).await?, PassOutcome::Indexed),
            Err(Failure::Pass(error)) => {
                let refusal = error.refusal(&settings.options);
                self.metrics.refused(&refusal.kind);
                let fields = [("layer", &*digest.to_string()), ("reason", &refusal.reason)];
                self.host.log(Level::Info, "layer not indexed", &fields);
                (refusal.encode(), PassOutcome::Refused)
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
        // The waiting requests read it next.
        let content = TierContent::untyped(bytes);
        self.tiers.insert(Wanted::Index(digest), content);
        if was_saved {
            self.store.delete(&[saved_key]).await?;
        }
        Ok(Some(PassProgress {
            read: size,
            size,
            is_done: true,
        }))
    }

    /// Loads a pass that was paused, or begins one; `None` if no memory is free for it.
    async fn resume(&self, saved_key: &Key, size: u64) -> Result<Option<Resumed>, Error> {
        let object = self.store.get(saved_key, None).await?;
        let was_saved = object.is_some();
        let object = match object {
            // Too large for this version: an older one saved it. The pass begins anew.
            Some(object) if object.meta.size > MAX_SAVED => {
                self.host.discard(object.body).await;
                None
            }
            object => object,
        };
        let saved_size = object.as_ref().map_or(0, |object| object.meta.size);
        let lease = self
            .ledger
            .take_for_all(MemoryKind::Wasm, saved_size + AHEAD, self.host.now());
        let Ok(lease) = lease else {
            if let Some(object) = object {
                self.host.discard(object.body).await;
            }
            return Ok(None);
        };
        let mut saved = Vec::new();
        if let Some(object) = object {
            saved.reserve_exact(usize::try_from(saved_size).unwrap_or_default());
            let mut reader = self.host.read(object.body)?;
            let mut piece = Vec::new();
            while reader.next(&mut piece).await? {
                saved.extend_from_slice(&piece);
            }
        }
        let options = &self.settings.layers.options;
        let pass = Pass::load_from(saved, size, options)
            .unwrap_or_else(|| Pass::new(size, options.clone()));
        Ok(Some(Resumed {
            cost: Cost::start(&pass),
            pass,
            lease,
            was_saved,
        }))
    }

    /// Writes an object of pieces. Large ones are streamed, without a copy of all pieces.
    async fn put_pieces(&self, key: &Key, pieces: Vec<Vec<u8>>) -> Result<(), StoreError> {
        let length = pieces.iter().map(|piece| piece.len() as u64).sum();
        let content = if length <= AHEAD / 4 {
            Written::Bytes(pieces.concat())
        } else {
            let pieces = pieces.into_iter().map(Piece::Bytes).collect();
            Written::Stream(self.host.concatenate(pieces, length), length)
        };
        self.store.put(key, content, PutOptions::default()).await?;
        Ok(())
    }

    /// Continues reading a layer at the pass's position. Returns the index at the end, or `None` if
    /// the pass has paused.
    async fn read_on(
        &self,
        digest: &Digest,
        record: &Record,
        resumed: &mut Resumed,
        lead: &Lead<'_, PassProgress>,
    ) -> Result<Option<Encoded>, Failure> {
        let (first, _) = resumed.pass.position();
        let rest = record.size().checked_sub(1);
        if let Some(rest) = rest.and_then(|last| ByteRange::new(first, last)) {
            let pieces = locate(record, digest, Some(rest));
            let body = match self.blobs.open(pieces, rest.length()).await? {
                Some(Body::Stream(body)) => body,
                Some(Body::Empty | Body::Bytes(_) | Body::Held(_)) | None => {
                    return Err(gone(digest).into());
                }
            };
            let mut reader = self.host.read(body)?;
            let mut piece = Vec::new();
            let mut read = 0;
            while reader.next(&mut piece).await? {
                read += piece.len() as u64;
                let pushed = self.push_piece(digest, &piece, resumed, lead).await;
                lead.renew(self.host.now());
                if pushed.is_err() || resumed.pass.is_paused() {
                    reader.give_up().await;
                    return pushed.map(|()| None);
                }
            }
            if read != rest.length() {
                return Err(gone(digest).into());
            }
        }
        let pass = &mut resumed.pass;
        let index = pass.finish_in_pieces()?;
        while let Some((number, object)) = pass.object() {
            self.keep_object(digest, number, object).await?;
        }
        Ok(index)
    }

    /// Pushes a piece of a layer through a pass, which may pause within it.
    async fn push_piece(
        &self,
        digest: &Digest,
        piece: &[u8],
        resumed: &mut Resumed,
        lead: &Lead<'_, PassProgress>,
    ) -> Result<(), Failure> {
        let Resumed {
            pass, lease, cost, ..
        } = resumed;
        for part in piece.chunks(PART) {
            let pushed = pass.push(part);
            while let Some((number, object)) = pass.object() {
                self.keep_object(digest, number, object).await?;
            }
            pushed?;
            if pass.is_paused() {
                return Ok(());
            }
            if cost.add(pass) >= self.settings.layers.step {
                pass.pause();
            }
            let now = self.host.now();
            let needed = pass.memory() + AHEAD;
            if needed > Ledger::WASM {
                return Err(PassError::Memory(Ledger::WASM).into());
            }
            if needed > lease.bytes() && lease.resize(needed + AHEAD / 2, now).is_err() {
                // It continues when other work has released memory.
                pass.pause();
            }
            // Awaiting a piece that has arrived already does not let other work of the isolate run.
            if cost.is_turn() {
                lease.renew(now);
                lead.renew(now);
                self.host.sleep(Duration::ZERO).await;
            }
        }
        Ok(())
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

    /// Stores the pages of a large index, and returns the part that is read whole.
    async fn keep_pages(&self, digest: &Digest, index: Encoded) -> Result<Vec<u8>, Error> {
        if index.size() <= MAX_WHOLE {
            return Ok(index.into_bytes());
        }
        self.metrics.index_bytes.inc_by(index.pages_size());
        self.put_pieces(&Key::pages(digest), index.pages).await?;
        Ok(index.head)
    }
}
