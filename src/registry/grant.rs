//! Grants: why a repository holds a blob, and the promise that the blob stays.
//!
//! To keep a blob, a caller writes a grant of its own, then reads the blob's mark, then reads the
//! blob (KEEP of the removal protocol).
//! The order is the protocol.
//! A sweep that did not see the grant has not set the mark yet.
//! A sweep that sets the mark now will see the grant.

use std::rc::Rc;

use crate::{
    digest::Digest,
    error::{Error, RETRY_AFTER},
    host::{Clock as _, Random as _},
    name::Name,
    platform::Platform,
    registry::{
        bound::{Bound, for_each},
        parts::Parts,
    },
    settings::Settings,
    store::{
        Condition, Content, Meta, PutOptions, StoreError, Streams as _,
        bucket::{Bucket, MAX_DOCUMENT, Walk},
        document::{BlobKind, Mark, MarkState, Reason, Record, from_json, is_blob, to_json},
        key::{Key, Prefix},
        tiers::Tiers,
    },
};

mod link;
pub(super) mod right;

/// Grants, marks and links: which repository may read a blob, and what keeps a blob stored.
pub(super) struct Grants<P: Platform> {
    store: Bucket<P::Cold>,
    tiers: Rc<Tiers<P>>,
    host: P::Host,
    settings: Rc<Settings>,
}

/// The result of a look at a blob.
#[derive(Debug)]
pub(super) enum Look {
    /// It is not stored.
    Absent,
    /// A note that the blob was quarantined.
    Aside(Meta),
    /// The place of its bytes.
    Present(Record),
}

impl Look {
    /// The condition for creating the blob: its object is unchanged since the look.
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

    /// Starts the clock of an operation that must end within half the grace period.
    pub(super) fn bound(&self) -> Bound {
        Bound::start(&self.host, self.settings.grace)
    }

    /// KEEP, for several blobs at once: writes a fresh grant on each, then looks at their marks.
    /// Only after it may the caller look at the blobs.
    /// Returns the keys of the grants.
    pub(super) async fn keep(
        &self,
        name: &Name,
        digests: &[&Digest],
        reason: &Reason,
        bound: Bound,
    ) -> Result<Vec<Key>, Error> {
        let grants = self.grant(name, digests, reason, bound).await?;
        let marked = self.marked(digests).await?;
        self.lift_all(&marked, bound).await?;
        Ok(grants)
    }

    /// The first step of KEEP: writes the grants. Returns their keys.
    pub(super) async fn grant(
        &self,
        name: &Name,
        digests: &[&Digest],
        reason: &Reason,
        bound: Bound,
    ) -> Result<Vec<Key>, Error> {
        let metadata = to_json(reason)?;
        for_each(digests, |digest| {
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
        .await
    }

    /// The last step of KEEP.
    pub(super) async fn lift_all(&self, marked: &[Digest], bound: Bound) -> Result<(), Error> {
        for digest in marked {
            self.lift(digest, bound).await?;
        }
        Ok(())
    }

    /// The second step of KEEP: the blobs with a mark that is not known to be lifted.
    /// Their marks must be lifted before the caller looks at them.
    /// It takes one read for one blob, and one listing for several.
    pub(super) async fn marked(&self, digests: &[&Digest]) -> Result<Vec<Digest>, Error> {
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
            let mut walk = Walk::new(Prefix::Marks, None, 1_000, true);
            let page = walk.next_page(&self.store).await?;
            if walk.is_done() {
                let is_marked = |digest: &&&Digest| {
                    let mark = Key::mark(digest);
                    let mut marks = page.iter();
                    marks.any(|(key, meta)| *key == mark && !is_lifted(meta))
                };
                let marked = digests.iter().filter(is_marked);
                return Ok(marked.map(|digest| (*digest).clone()).collect());
            }
            // With so many marks, reading ours costs less than listing all.
        }
        let marked = for_each(digests, |digest| async move {
            let mark = self.store.head(&Key::mark(digest)).await?;
            Ok(mark
                .filter(|meta| !is_lifted(meta))
                .map(|_| (*digest).clone()))
        });
        Ok(marked.await?.into_iter().flatten().collect())
    }

    /// Lifts the mark of a blob that is used again.
    async fn lift(&self, digest: &Digest, bound: Bound) -> Result<(), Error> {
        let key = Key::mark(digest);
        loop {
            let Some((meta, mark)) = self.store.document::<Mark>(&self.host, &key).await? else {
                return Ok(());
            };
            match mark.state {
                MarkState::Lifted => return Ok(()),
                MarkState::Deleting => {
                    let found =
                        format!("blob {digest} is being removed; push it again in a moment");
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

    /// Writes a mark if the mark that was read is unchanged. Returns whether it was written.
    pub(super) async fn write_mark(
        &self,
        digest: &Digest,
        seen: Option<&Meta>,
        state: MarkState,
    ) -> Result<bool, StoreError> {
        // The body has a nonce, so that no two marks have the same etag. Listings read the copy in
        // the metadata.
        let mark = to_json(&Mark {
            state,
            time: self.host.now(),
            nonce: self.host.nonce(),
        })?;
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

    /// Reads a blob's record from the blob itself.
    pub(super) async fn record(&self, digest: &Digest) -> Result<Option<Record>, Error> {
        Ok(match self.look(digest).await? {
            Look::Present(record) => Some(record),
            Look::Absent | Look::Aside(_) => None,
        })
    }

    /// Reads a blob's object, and says where the bytes are.
    pub(super) async fn look(&self, digest: &Digest) -> Result<Look, Error> {
        let key = Key::blob(digest);
        let Some(meta) = self.store.head(&key).await? else {
            return Ok(Look::Absent);
        };
        Ok(match from_json(&key, &meta.metadata)? {
            BlobKind::Bytes => Look::Present(Record::Bytes { size: meta.size }),
            BlobKind::Aside => Look::Aside(meta),
            BlobKind::Extents { .. } => match self.store.blob(&self.host, digest).await? {
                // It was quarantined since the `head`.
                Some((meta, _)) if !is_blob(&meta) => Look::Aside(meta),
                Some((_, Some(text))) => Look::Present(from_json(&key, &text)?),
                // It was joined, or replaced by its bytes.
                Some((meta, None)) => Look::Present(Record::Bytes { size: meta.size }),
                None => Look::Absent,
            },
        })
    }

    /// Whether a blob's object is this record of extents. An object that can't be parsed proves
    /// nothing, and the link goes on counting.
    pub(super) async fn has_record(&self, digest: &Digest, record: &Record) -> Result<bool, Error> {
        let Some(object) = self.store.get(&Key::blob(digest), None).await? else {
            return Ok(false);
        };
        if matches!(
            serde_json::from_str(&object.meta.metadata),
            Ok(BlobKind::Bytes | BlobKind::Aside)
        ) {
            self.host.discard(object.body).await;
            return Ok(false);
        }
        let found = self.host.collect(object.body, MAX_DOCUMENT).await?;
        let found = found.and_then(|found| serde_json::from_slice::<Record>(&found).ok());
        Ok(found.is_none_or(|found| found == *record))
    }

    /// The blobs that are not stored: the look that comes after KEEP.
    pub(super) async fn absent_blobs(&self, digests: &[&Digest]) -> Result<Vec<Digest>, Error> {
        let absent = for_each(digests, |digest| async move {
            let found = self.store.head(&Key::blob(digest)).await?;
            Ok((!found.is_some_and(|meta| is_blob(&meta))).then(|| (*digest).clone()))
        });
        Ok(absent.await?.into_iter().flatten().collect())
    }
}
