//! Grants: why a repository holds a blob, and the promise that it stays.
//!
//! Whoever wants a blob to stay writes a grant of its own, then looks at the blob's mark, then looks at the blob (KEEP of the
//! removal protocol). The order is the protocol: a sweeper that did not see the grant has not yet set the mark, and one that
//! sets the mark now will see the grant.

use std::rc::Rc;

use crate::{
    access::{Caller, rule::Action},
    digest::Digest,
    error::{Error, RETRY_AFTER},
    host::{Host as _, Level},
    manifest::Manifest,
    name::Name,
    platform::Platform,
    registry::{
        bound::{Bound, for_each},
        parts::Parts,
    },
    settings::Settings,
    store::{
        Condition, Content, ListOptions, Meta, PutOptions, StoreError,
        bucket::Bucket,
        document::{
            BlobKind, Linked, Mark, MarkState, Reason, Record, Right, from_json, is_blob, to_json,
        },
        key::{Key, Prefix},
        tiers::{Tiers, Wanted},
    },
    upstream::Mirrored,
};

/// Grants, marks and links: which repository may read a blob, and what keeps a blob stored.
pub(super) struct Grants<P: Platform> {
    store: Bucket<P::Cold>,
    tiers: Rc<Tiers<P>>,
    host: P::Host,
    settings: Rc<Settings>,
}

/// A blob that a repository may read.
#[derive(Debug)]
pub(super) struct Readable {
    /// Where its bytes are.
    pub(super) record: Record,
    /// Which kind of grant gives the right; `None` if a link of an older version does.
    pub(super) right: Option<Right>,
}

/// What a look at a blob finds.
#[derive(Debug)]
pub(super) enum Look {
    /// Nothing.
    Absent,
    /// A note that the blob was set aside.
    Aside(Meta),
    /// Where its bytes are.
    Present(Record),
}

impl Look {
    /// When a blob may be created: as long as what was seen is there.
    pub(super) fn condition(&self) -> Condition<'_> {
        match self {
            Self::Aside(meta) => Condition::Matches(&meta.etag),
            Self::Absent | Self::Present(_) => Condition::Absent,
        }
    }
}

impl<P: Platform> Grants<P> {
    pub(super) fn new(parts: &Parts<P>) -> Self {
        Self {
            store: parts.store.clone(),
            tiers: parts.tiers.clone(),
            host: parts.host.clone(),
            settings: parts.settings.clone(),
        }
    }

    /// Starts the clock of an operation that must not go on for longer than half the grace period.
    pub(super) fn bound(&self) -> Bound {
        Bound::start(&self.host, self.settings.grace)
    }

    /// KEEP, for blobs at once: writes a fresh grant on each, then looks at their marks. Only after it may the caller look
    /// at the blobs. Answers the keys of the grants.
    pub(super) async fn keep(
        &self,
        name: &Name,
        digests: &[&Digest],
        reason: &Reason,
        bound: Bound,
    ) -> Result<Vec<Key>, Error> {
        let (grants, marked) = self.grant(name, digests, reason, bound).await?;
        self.lift_all(&marked, bound).await?;
        Ok(grants)
    }

    /// The first half of KEEP: writes the grants, then looks at the marks. Returns the keys of the
    /// grants, and the blobs whose marks must be lifted before the caller looks at them.
    pub(super) async fn grant(
        &self,
        name: &Name,
        digests: &[&Digest],
        reason: &Reason,
        bound: Bound,
    ) -> Result<(Vec<Key>, Vec<Digest>), Error> {
        let metadata = to_json(reason);
        let grants = for_each(digests, |digest| {
            let key = Key::grant(digest, name, &self.host.nonce());
            let metadata = &metadata;
            async move {
                bound.check(&self.host)?;
                let options = PutOptions {
                    metadata,
                    ..PutOptions::default()
                };
                self.store
                    .put(&key, Content::Bytes(Vec::new()), options)
                    .await?;
                Ok(key)
            }
        })
        .await?;
        Ok((grants, self.marked(digests).await?))
    }

    /// The second half of KEEP.
    pub(super) async fn lift_all(&self, marked: &[Digest], bound: Bound) -> Result<(), Error> {
        for digest in marked {
            self.lift(digest, bound).await?;
        }
        Ok(())
    }

    /// Which of these blobs have a mark that is not known to be lifted: one read for one blob, one listing for several.
    async fn marked(&self, digests: &[&Digest]) -> Result<Vec<Digest>, Error> {
        let is_lifted = |meta: &Meta| {
            let mark = serde_json::from_str(&meta.metadata);
            matches!(
                mark,
                Ok(Mark {
                    state: MarkState::Lifted,
                    ..
                })
            )
        };
        if digests.len() > 1 {
            let options = ListOptions {
                limit: 1_000,
                metadata: true,
                ..ListOptions::default()
            };
            let page = self.store.list(Prefix::Marks, options).await?;
            if !page.truncated {
                let is_marked = |digest: &&&Digest| {
                    let mark = Key::mark(digest);
                    let mut marks = page.objects.iter();
                    marks.any(|(key, meta)| *key == mark && !is_lifted(meta))
                };
                let marked = digests.iter().filter(is_marked);
                return Ok(marked.map(|digest| (*digest).clone()).collect());
            }
            // So many are marked that looking at ours costs less than listing all.
        }
        let marked = for_each(digests, |digest| async move {
            let mark = self.store.head(&Key::mark(digest)).await?;
            Ok(mark
                .filter(|meta| !is_lifted(meta))
                .map(|_| (*digest).clone()))
        });
        Ok(marked.await?.into_iter().flatten().collect())
    }

    /// Lifts the mark of a blob that is wanted again.
    async fn lift(&self, digest: &Digest, bound: Bound) -> Result<(), Error> {
        let key = Key::mark(digest);
        loop {
            let Some((meta, mark)) = self.store.document::<Mark>(&key).await? else {
                return Ok(());
            };
            match mark.state {
                MarkState::Lifted => return Ok(()),
                MarkState::Deleting => {
                    let found =
                        format!("blob {digest} is being removed, push it again in a moment");
                    return Err(Error::unavailable(found, RETRY_AFTER));
                }
                MarkState::Condemned => {
                    bound.check(&self.host)?;
                    let lifted = MarkState::Lifted;
                    if self.write_mark(digest, Some(&meta), lifted).await? {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Writes a mark, if what was seen is still there, and says whether it was written.
    pub(super) async fn write_mark(
        &self,
        digest: &Digest,
        seen: Option<&Meta>,
        state: MarkState,
    ) -> Result<bool, StoreError> {
        // No two have the same etag, which is of the body. Listings have what is said beside it.
        let mark = to_json(&Mark {
            state,
            time: self.host.now(),
            nonce: self.host.nonce(),
        });
        let condition = match seen {
            None => Condition::Absent,
            Some(meta) => Condition::Matches(&meta.etag),
        };
        let options = PutOptions {
            condition,
            metadata: &mark,
            ..PutOptions::default()
        };
        let content = Content::Bytes(mark.clone().into_bytes());
        let written = self.store.put(&Key::mark(digest), content, options).await?;
        Ok(written.is_some())
    }

    /// Resolves a blob for a repository that may read it. A link that records a right is enough.
    /// Otherwise the grants decide, and the link is written again.
    pub(super) async fn readable(
        &self,
        name: &Name,
        digest: &Digest,
    ) -> Result<Option<Readable>, Error> {
        let link = Key::link(digest, name);
        if let Some((meta, text)) = self.store.text(&link).await? {
            let right = Linked::parse(&meta.metadata);
            if self.is_right(name, right) {
                let record = from_json(&link, &text)?;
                return Ok(Some(Readable { record, right }));
            }
        }
        // Never look at the blob before the grants: the time of that look would tell a caller without
        // a right that the blob is there.
        let Some(right) = self.right_by_grants(name, digest).await? else {
            return Ok(None);
        };
        let right = Some(right);
        let record = self.record(digest).await?;
        if let Some(record) = &record {
            self.write_link(name, digest, record, right).await;
        }
        Ok(record.map(|record| Readable { record, right }))
    }

    /// Whether the settings place this name under an upstream, even if its patterns leave the
    /// repository out. Such a repository can't be pushed to.
    pub(super) fn is_under_upstream(&self, name: &Name) -> bool {
        !matches!(self.settings.upstreams.resolve(name, None), Ok(None))
    }

    /// Whether a link that records `right` is believed for this repository. Under an upstream only
    /// `Filled` is: manifests of an upstream, and grants that older versions wrote for them, prove
    /// nothing about the bytes.
    pub(super) fn is_right(&self, name: &Name, right: Option<Right>) -> bool {
        right == Some(Right::Filled) || !self.is_under_upstream(name)
    }

    /// Whether a caller may have what is in a repository.
    pub(super) fn may_pull(&self, caller: &Caller, name: &Name) -> bool {
        self.settings.access.may(caller, name, Action::Pull)
    }

    /// Where a blob's bytes are, if a repository holds it that the caller may pull from.
    pub(super) async fn readable_anywhere(
        &self,
        caller: &Caller,
        digest: &Digest,
    ) -> Result<Option<Readable>, Error> {
        let options = ListOptions {
            limit: 1_000,
            ..ListOptions::default()
        };
        let page = self.store.list(Prefix::Holders(digest), options).await?;
        let mut names: Vec<Name> = page
            .objects
            .iter()
            .filter_map(|(key, _)| key.holder())
            .collect();
        names.dedup();
        names.retain(|name| self.may_pull(caller, name));
        for name in names {
            if let Some(readable) = self.readable(&name, digest).await? {
                return Ok(Some(readable));
            }
        }
        Ok(None)
    }

    /// The right that the grants of a repository give. `Filled` gives one everywhere. An upload
    /// gives one, and so does the grant of a pushed manifest that is stored, but not under an
    /// upstream.
    async fn right_by_grants(&self, name: &Name, digest: &Digest) -> Result<Option<Right>, Error> {
        let grants = self
            .store
            .list_all(Prefix::Grants(digest, name))
            .await?
            .objects;
        let (mut reasons, mut unread) = (Vec::new(), None);
        for (key, meta) in &grants {
            match from_json(key, &meta.metadata) {
                Ok(reason) => reasons.push(reason),
                Err(error) => unread = Some(error),
            }
        }
        if reasons.contains(&Reason::Filled) {
            return Ok(Some(Right::Filled));
        }
        if self.is_under_upstream(name) {
            return Ok(None);
        }
        if reasons.contains(&Reason::Upload) {
            return Ok(Some(Right::Pushed));
        }
        for reason in &reasons {
            match reason {
                Reason::Manifest { digest } => {
                    let manifest = Key::manifest(name, digest);
                    if self.store.head(&manifest).await?.is_some() {
                        return Ok(Some(Right::Pushed));
                    }
                }
                Reason::Upload | Reason::Claim | Reason::Filled | Reason::Mirrored { .. } => {}
            }
        }
        // An unreadable grant may be the one that gives the right, so "no" would be a guess.
        match unread {
            Some(error) => Err(error.into()),
            None => Ok(None),
        }
    }

    /// Whether a repository holds a blob only by grants or a link that gave a right in older
    /// versions. They give none in a mirrored repository.
    pub(super) async fn has_old_hold(&self, name: &Name, digest: &Digest) -> Result<bool, Error> {
        let link = Key::link(digest, name);
        let options = ListOptions {
            limit: 1_000,
            metadata: true,
            ..ListOptions::default()
        };
        let page = self.store.list(Prefix::Held(digest, name), options).await?;
        let mut has_old = false;
        for (key, meta) in &page.objects {
            if *key == link {
                has_old |= Linked::parse(&meta.metadata) != Some(Right::Filled);
                continue;
            }
            match serde_json::from_str(&meta.metadata) {
                Ok(Reason::Filled) => return Ok(false),
                Ok(Reason::Upload | Reason::Claim | Reason::Manifest { .. }) => has_old = true,
                Ok(Reason::Mirrored { .. }) | Err(_) => {}
            }
        }
        Ok(has_old)
    }

    /// Whether a repository mirrored from the same upstream has a `Filled` grant on this blob.
    /// Reads the first page of holders only: a miss costs one more fetch.
    pub(super) async fn is_filled_from(
        &self,
        mirrored: &Mirrored,
        digest: &Digest,
    ) -> Result<bool, Error> {
        let options = ListOptions {
            limit: 1_000,
            metadata: true,
            ..ListOptions::default()
        };
        let page = self.store.list(Prefix::Holders(digest), options).await?;
        let is_filled = |(key, meta): &(Key, Meta)| {
            let Key::Grant { name, .. } = key else {
                return false;
            };
            // With a default upstream, a stored name without prefix resolves to another
            // repository than itself.
            let of = self
                .settings
                .upstreams
                .mirrored(name)
                .filter(|of| of.name == *name);
            matches!(serde_json::from_str(&meta.metadata), Ok(Reason::Filled))
                && of.is_some_and(|of| of.upstream.name() == mirrored.upstream.name())
        };
        Ok(page.objects.iter().any(is_filled))
    }

    /// Reads where a blob's bytes are from the blob itself.
    pub(super) async fn record(&self, digest: &Digest) -> Result<Option<Record>, Error> {
        Ok(match self.look(digest).await? {
            Look::Present(record) => Some(record),
            Look::Absent | Look::Aside(_) => None,
        })
    }

    /// Looks at a blob.
    pub(super) async fn look(&self, digest: &Digest) -> Result<Look, Error> {
        let key = Key::blob(digest);
        let Some(meta) = self.store.head(&key).await? else {
            return Ok(Look::Absent);
        };
        Ok(match from_json(&key, &meta.metadata)? {
            BlobKind::Bytes => Look::Present(Record::Bytes { size: meta.size }),
            BlobKind::Aside => Look::Aside(meta),
            BlobKind::Extents { .. } => match self.store.text(&key).await? {
                // Set aside since.
                Some((meta, _)) if !is_blob(&meta) => Look::Aside(meta),
                Some((_, text)) => Look::Present(from_json(&key, &text)?),
                None => Look::Absent,
            },
        })
    }

    /// Writes the link that makes good a claim: without it the repository has no right to the blob.
    pub(super) async fn make_good(
        &self,
        name: &Name,
        digest: &Digest,
        record: &Record,
        right: Option<Right>,
    ) -> Result<(), Error> {
        self.put_link(name, digest, record, right).await?;
        self.tiers.changed(Wanted::Link(name, digest));
        Ok(())
    }

    /// Writes the link from a repository to a blob that it has got.
    pub(super) async fn link(
        &self,
        name: &Name,
        digest: &Digest,
        record: &Record,
        right: Option<Right>,
    ) {
        self.write_link(name, digest, record, right).await;
        self.tiers.changed(Wanted::Link(name, digest));
    }

    /// Writes a link. It is a hint: if writing fails, reading costs more and that is all.
    pub(super) async fn write_link(
        &self,
        name: &Name,
        digest: &Digest,
        record: &Record,
        right: Option<Right>,
    ) {
        if let Err(error) = self.put_link(name, digest, record, right).await {
            let fields = [("error", &*error.to_string())];
            self.host.log(Level::Error, "link not written", &fields);
        }
    }

    async fn put_link(
        &self,
        name: &Name,
        digest: &Digest,
        record: &Record,
        right: Option<Right>,
    ) -> Result<(), StoreError> {
        let metadata = Linked::metadata(right);
        let options = PutOptions {
            metadata: &metadata,
            ..PutOptions::default()
        };
        let content = Content::Bytes(to_json(record).into_bytes());
        self.store
            .put(&Key::link(digest, name), content, options)
            .await
            .map(drop)
    }

    /// Which blobs of a manifest this repository has no right to or that are not there.
    pub(super) async fn unreadable_blobs(
        &self,
        name: &Name,
        manifest: &Manifest,
    ) -> Result<Vec<Digest>, Error> {
        let missing = for_each(&manifest.blobs, |digest| async move {
            let readable = self.readable(name, digest).await?;
            Ok(readable.is_none().then(|| digest.clone()))
        });
        Ok(missing.await?.into_iter().flatten().collect())
    }

    /// Which of these blobs are not there: the look that comes after KEEP.
    pub(super) async fn absent_blobs(&self, digests: &[&Digest]) -> Result<Vec<Digest>, Error> {
        let absent = for_each(digests, |digest| async move {
            let found = self.store.head(&Key::blob(digest)).await?;
            Ok((!found.is_some_and(|meta| is_blob(&meta))).then(|| (*digest).clone()))
        });
        Ok(absent.await?.into_iter().flatten().collect())
    }
}
