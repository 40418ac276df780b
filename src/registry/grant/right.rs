//! Rights: whether a repository may read a blob.

use crate::{
    access::{Caller, rule::Action},
    digest::Digest,
    error::Error,
    manifest::Manifest,
    name::Name,
    platform::Platform,
    registry::{bound::for_each, grant::Grants},
    store::{
        Meta,
        bucket::Walk,
        document::{Linked, Reason, Record, Right, from_json},
        key::{Key, Prefix},
    },
    upstream::Mirrored,
};

/// A blob that a repository may read.
#[derive(Debug)]
pub(in crate::registry) struct Readable {
    /// The place of its bytes.
    pub(in crate::registry) record: Record,
    /// The kind of grant that gives the right; `None` if a link of an older version does.
    pub(in crate::registry) right: Option<Right>,
}

/// Content that a manifest names and that keeps it from being stored.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::registry) enum Unfit {
    /// It is not stored, or the repository has no right to it.
    Missing(Digest),
    /// It has another size than the manifest says, in bytes.
    Size {
        digest: Digest,
        described: u64,
        stored: u64,
    },
}

impl Unfit {
    pub(in crate::registry) fn wrong_size(
        digest: &Digest,
        described: u64,
        stored: u64,
    ) -> Option<Self> {
        (described != stored).then(|| Self::Size {
            digest: digest.clone(),
            described,
            stored,
        })
    }
}

/// A source of a mount that names none.
#[derive(Debug)]
pub(in crate::registry) enum MountSource {
    /// A repository that the caller may pull from can read the blob.
    Readable,
    /// This one can, and the caller may pull from it with another token.
    NeedsScope(Name),
    /// None that was looked at.
    None,
}

/// The most holders of a blob that are looked at for a mount that names no source.
const MAX_LOOKS: usize = 8;

impl<P: Platform> Grants<P> {
    /// Resolves a blob for a repository that may read it. A link that records a right is enough.
    /// Otherwise the grants decide, and the link is written again.
    pub(in crate::registry) async fn readable(
        &self,
        name: &Name,
        digest: &Digest,
    ) -> Result<Option<Readable>, Error> {
        let link = Key::link(digest, name);
        if let Some((meta, text)) = self.store.text(&self.host, &link).await? {
            let right = Linked::parse(&meta.metadata);
            if self.is_right(name, right) {
                let record = from_json(&link, &text)?;
                return Ok(Some(Readable { record, right }));
            }
        }
        // Never look at the blob before the grants: the time of that look would tell a caller
        // without a right that the blob is there.
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
    pub(in crate::registry) fn is_under_upstream(&self, name: &Name) -> bool {
        !matches!(self.settings.upstreams.resolve(name, None), Ok(None))
    }

    /// Whether a link that records `right` gives this repository a right.
    /// Under an upstream only `Filled` does.
    /// Manifests of an upstream, and grants that older versions wrote for them, prove nothing about
    /// the bytes.
    pub(in crate::registry) fn is_right(&self, name: &Name, right: Option<Right>) -> bool {
        right == Some(Right::Filled) || !self.is_under_upstream(name)
    }

    /// Whether a caller may pull from a repository.
    pub(in crate::registry) fn may_pull(&self, caller: &Caller, name: &Name) -> bool {
        self.settings.access.may(caller, name, Action::Pull)
    }

    /// Looks for a repository that holds a blob and that the caller may pull from. Repositories
    /// that the caller's token covers come first, then those that another token of the caller
    /// could.
    pub(in crate::registry) async fn readable_anywhere(
        &self,
        caller: &Caller,
        digest: &Digest,
    ) -> Result<MountSource, Error> {
        let mut walk = Walk::new(Prefix::Holders(digest), None, 1_000, false);
        let held = walk.up_to(&self.store, 1_000).await?;
        let mut names: Vec<Name> = held
            .iter()
            .filter_map(|(key, _)| key.holder())
            .filter(|name| self.settings.access.sees(caller, name))
            .collect();
        names.dedup();
        let (covered, others): (Vec<_>, Vec<_>) = names
            .into_iter()
            .partition(|name| self.may_pull(caller, name));
        let covered = covered.into_iter().map(|name| (true, name));
        let others = others.into_iter().map(|name| (false, name));
        for (is_covered, name) in covered.chain(others).take(MAX_LOOKS) {
            if self.readable(&name, digest).await?.is_some() {
                return Ok(if is_covered {
                    MountSource::Readable
                } else {
                    MountSource::NeedsScope(name)
                });
            }
        }
        Ok(MountSource::None)
    }

    /// The right that the grants of a repository give. `Filled` gives one everywhere. An upload
    /// gives one, and so does the grant of a pushed manifest that is stored,
    /// but not under an upstream.
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
    pub(in crate::registry) async fn has_old_hold(
        &self,
        name: &Name,
        digest: &Digest,
    ) -> Result<bool, Error> {
        let link = Key::link(digest, name);
        let held = self.store.list_all(Prefix::Held(digest, name)).await?;
        let mut has_old = false;
        for (key, meta) in &held.objects {
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
    pub(in crate::registry) async fn is_filled_from(
        &self,
        mirrored: &Mirrored,
        digest: &Digest,
    ) -> Result<bool, Error> {
        let mut walk = Walk::new(Prefix::Holders(digest), None, 1_000, true);
        let page = walk.next_objects(&self.store).await?;
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
        Ok(page.iter().any(is_filled))
    }

    /// The blobs of a manifest that this repository can't read, or that have another size than the
    /// manifest says.
    pub(in crate::registry) async fn unfit_blobs(
        &self,
        name: &Name,
        manifest: &Manifest,
    ) -> Result<Vec<Unfit>, Error> {
        let unfit = for_each(&manifest.blobs, |(digest, size)| async move {
            Ok(match self.readable(name, digest).await? {
                None => Some(Unfit::Missing(digest.clone())),
                Some(Readable { record, .. }) => Unfit::wrong_size(digest, *size, record.size()),
            })
        });
        Ok(unfit.await?.into_iter().flatten().collect())
    }
}
