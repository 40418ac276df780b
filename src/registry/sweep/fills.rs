//! Sweeping hints at fills, and extents of fills that were gone on with.
//!
//! A fill that goes on from where one was interrupted leaves its hint: beside the extents that the record names there may be some that
//! came behind a gap, or by another isolate that went on with it as well. Who reads those is done when they are as old as the grace period.

use std::collections::HashSet;

use super::{
    Host, Streams, Values, key,
    work::{Action, Halt, Listing, Removal, What, Work},
};
use crate::{
    digest::Digest,
    store::record::Record,
    upload::{Step, UploadId},
};

impl<S: Streams, W: Values<Bytes = S::Bytes>, H: Host<Body = S::Body>> Work<'_, S, W, H> {
    /// Goes through all hints from one on.
    pub(super) async fn sweep_fills(&self, after: &mut Option<String>) -> Result<(), Halt> {
        let mut hints = Listing::new(key::FILLS, after.clone(), false);
        while let Some((hint, meta)) = hints.next(self).await? {
            self.require_more()?;
            if self.is_old(&meta) {
                self.sweep_fill(&hint).await?;
            }
            *after = Some(hint);
        }
        Ok(())
    }

    async fn sweep_fill(&self, hint: &str) -> Result<(), Halt> {
        self.spend(1)?;
        let text = self.registry.read_text(hint).await?;
        let id: Option<UploadId> = text.and_then(|(_, text)| text.parse().ok());
        if let Some(id) = id
            && let Some(digest) = self.closed_by(id).await?
            && !self.sweep_untaken(id, &digest).await?
        {
            return Ok(());
        }
        // Who puts another one in its place now only has to begin anew, should that be interrupted.
        self.tell(Removal {
            action: Action::Delete,
            what: What::Hint,
            key: hint.to_owned(),
            bytes: 0,
            why: "nobody went on with this fill within the grace period",
        });
        self.delete(&[hint.to_owned()]).await
    }

    /// The blob that an upload became, if it did.
    async fn closed_by(&self, id: UploadId) -> Result<Option<Digest>, Halt> {
        let steps = self.list_below(&key::chain(id)).await?;
        let last = steps.last().and_then(|(key, meta)| {
            let step: Option<Step> = self.read(key, &meta.metadata);
            step
        });
        Ok(match last {
            Some(Step::Done { digest }) => Some(digest),
            Some(
                Step::Start { .. } | Step::Received { .. } | Step::Closing { .. } | Step::Dead,
            )
            | None => None,
        })
    }

    /// Deletes old extents of a fill that the record of its blob does not name. Whether no others are left.
    async fn sweep_untaken(&self, id: UploadId, digest: &Digest) -> Result<bool, Halt> {
        let Some(Some(Record::Extents { extents, .. })) = self.read_record(digest).await? else {
            // Of an upload whose blob is gone all goes.
            return Ok(true);
        };
        let named: HashSet<String> = extents.iter().map(|one| key::extent(&one.key)).collect();
        let mut all = self.list_below(&key::extents(id)).await?;
        all.retain(|(key, _)| !named.contains(key));
        let (old, young): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|(_, meta)| self.is_old(meta));
        for extents in old.chunks(1_000) {
            let mut keys = Vec::new();
            for (key, meta) in extents {
                self.tell(Removal {
                    action: Action::Delete,
                    what: What::Extent,
                    key: key.clone(),
                    bytes: meta.size,
                    why: "the record of its blob does not name it",
                });
                keys.push(key.clone());
            }
            self.delete(&keys).await?;
        }
        Ok(young.is_empty())
    }
}
