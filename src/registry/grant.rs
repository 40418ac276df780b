//! Grants: why a repository holds a blob, and the promise that it stays.
//!
//! Whoever wants a blob to stay writes a grant of its own, then looks at the blob's mark, then looks at the blob (KEEP of the
//! removal protocol). The order is the protocol: a sweeper that did not see the grant has not yet set the mark, and one that
//! sets the mark now will see the grant.

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
        Condition, Content, ListOptions, Meta, PutOptions, StoreError,
        bucket::Bucket,
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
        let metadata = to_json(reason)?;
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
            BlobKind::Extents { .. } => match self.store.text(&self.host, &key).await? {
                // Set aside since.
                Some((meta, _)) if !is_blob(&meta) => Look::Aside(meta),
                Some((_, text)) => Look::Present(from_json(&key, &text)?),
                None => Look::Absent,
            },
        })
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
