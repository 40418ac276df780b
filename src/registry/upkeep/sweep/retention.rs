//! Retention: tags and manifests that are removed by the policy of their repository.
//!
//! A tag becomes a tombstone by compare-and-swap of the listed object, so a tag that was written
//! since stays.
//!
//! An unused manifest can't be deleted on a condition.
//! A client may push it again, or an index that lists it, at this moment.
//! So the sweep claims the manifest first and *then* reads the repository.
//! It removes the manifests that are unused in that reading, while the claim is young.
//! A push stores the manifest first, *then* looks for claims, and *then* checks that the manifest
//! and its children are still there.
//! So either the reading finds the pushed manifest, or the push finds the claim or the removal and
//! is told to retry.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    digest::Digest,
    host::{Clock as _, Level, Log as _, Random as _},
    name::{Name, Tag},
    platform::Platform,
    registry::{
        manifest::children::{Children, may_have_children},
        upkeep::{
            listing::Listing,
            step::{Halt, JobStep, Removal, RemovalAction, What},
        },
    },
    retention::RetentionPolicy,
    store::{
        Condition, Content, Meta, PutOptions,
        document::TagTarget,
        key::{Key, Prefix},
        tiers::Wanted,
    },
    time::Timestamp,
};

/// The most manifests of a repository that are read together. If there are more, none is removed.
const MAX_MANIFESTS: usize = 20_000;

/// The most manifests that are claimed together: a push of one of them meanwhile is told to retry.
const BATCH: u64 = 50;

/// The contents of a repository, at one reading.
struct Holdings {
    /// When the reading began.
    asked: Timestamp,
    /// The digests that the remaining tags name.
    tagged: BTreeSet<Digest>,
    manifests: BTreeMap<Digest, Meta>,
    /// Manifests by their subject.
    referrers: BTreeMap<Digest, BTreeSet<Digest>>,
}

impl<P: Platform> JobStep<'_, P> {
    /// Applies the policies to all repositories, after the given one.
    pub(super) async fn retain(&self, after: &mut Option<Key>) -> Result<(), Halt> {
        let upkeep = self.upkeep;
        if !upkeep.settings.retention.remove_anything() {
            return self.sweep_claims().await;
        }
        let mut listing = Listing::new(Prefix::Catalog, after.as_ref().map(Key::to_string), false);
        let mut is_first = true;
        while let Some((key, _)) = listing.next(self).await? {
            self.require_more()?;
            // Mirrored repositories follow the upstream, not the policy.
            if let Key::Catalog(name) = &key
                && upkeep.settings.upstreams.mirrored(name).is_none()
                && let Some(policy) = upkeep.settings.retention.of(name)
                && policy.removes_anything()
            {
                let before = self.count();
                let retained = self.retain_in(name, policy).await;
                if matches!(retained, Err(Halt::Spent)) && is_first && self.count() == before {
                    // A whole step was too short even to begin with this repository, so skip it for
                    // the others.
                    let fields = [("repository", name.as_str())];
                    let host = &upkeep.host;
                    host.log(
                        Level::Error,
                        "retention skipped: a request's operations do not suffice",
                        &fields,
                    );
                    *after = Some(key.clone());
                }
                retained?;
                is_first = false;
            }
            *after = Some(key);
        }
        self.sweep_claims().await
    }

    async fn retain_in(&self, name: &Name, policy: &RetentionPolicy) -> Result<(), Halt> {
        let (asked, before) = (self.upkeep.host.now(), self.spent());
        let tags = self.list_tags(name).await?;
        let for_tags = self.spent() - before;
        let tagged = self.retain_tags(name, policy, tags).await?;
        let Some(time) = policy.untagged() else {
            return Ok(());
        };
        let time = time.max(self.upkeep.settings.grace);
        let before = self.spent();
        let mut indexes = BTreeMap::new();
        let Some(first) = self.read_holdings(name, asked, tagged).await? else {
            return Ok(());
        };
        let mut unused = self.unused(name, first, time, &mut indexes).await?;
        if self.is_dry {
            for (digest, meta) in &unused {
                self.tell(removal(name, digest, meta));
                self.miss(Key::manifest(name, digest));
            }
            return Ok(());
        }
        let reading = for_tags + self.spent() - before;
        while !unused.is_empty() {
            self.require_more()?;
            self.spend(0)?;
            // Keep operations for the whole claim: a read and a claim of each manifest, the second
            // reading, and two deletions.
            let most = self.left().saturating_sub(reading + 2) / 2;
            let most = self.removals_left().min(most.into()).min(BATCH);
            if most == 0 {
                return Err(Halt::Spent);
            }
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            let next = unused.keys().nth(most).cloned();
            let rest = next.map(|next| unused.split_off(&next)).unwrap_or_default();
            let batch = std::mem::replace(&mut unused, rest);
            let removed = self.remove_unused(name, time, batch.keys(), &mut indexes);
            self.to_its_end(removed).await?;
        }
        Ok(())
    }

    /// Claims these manifests, and removes those that are still unused then.
    async fn remove_unused(
        &self,
        name: &Name,
        time: Duration,
        batch: impl Iterator<Item = &Digest>,
        indexes: &mut BTreeMap<Digest, BTreeSet<Digest>>,
    ) -> Result<(), Halt> {
        let upkeep = self.upkeep;
        let began = upkeep.host.now();
        let mut claimed = BTreeMap::new();
        let mut may_be_going = false;
        let removed = async {
            for digest in batch {
                // Claiming may use only a part of the BOUND, so that the removal has most of it.
                if upkeep.host.now().since(began) >= upkeep.settings.grace / 8 {
                    break;
                }
                if let Some(since) = self.claim(name, digest).await? {
                    claimed.insert(digest, since);
                }
            }
            let Some(first) = claimed.values().min() else {
                return Ok(());
            };
            // The reading that decides comes after the claims.
            let asked = upkeep.host.now();
            let tags = self.list_tags(name).await?;
            let tagged = tags.into_iter().map(|(_, _, named)| named).collect();
            let Some(second) = self.read_holdings(name, asked, tagged).await? else {
                return Ok(());
            };
            let still = self.unused(name, second, time, indexes).await?;
            let going: Vec<_> = claimed
                .keys()
                .filter_map(|digest| still.get_key_value(*digest))
                .collect();
            self.require_young(*first)?;
            let mut keys = Vec::new();
            for (digest, meta) in &going {
                self.tell(removal(name, digest, meta));
                keys.push(Key::manifest(name, digest));
            }
            let deleted = self.delete(&keys).await;
            may_be_going = matches!(deleted, Err(Halt::Failed(_)));
            deleted?;
            for (digest, _) in going {
                upkeep.tiers.withdraw(Wanted::Manifest(name, digest)).await;
            }
            Ok(())
        };
        let removed: Result<(), Halt> = removed.await;
        if may_be_going {
            // A failed deletion may still take effect later. The claims stay until it can't, so
            // that pushes are refused meanwhile.
            return removed;
        }
        // Release the claims in every other case: pushes of these manifests wait for that.
        let ours = claimed
            .into_iter()
            .filter(|(_, since)| self.require_young(*since).is_ok());
        let ours = ours.map(|(digest, _)| Key::claim(name, digest));
        let given_back = self.delete_at_last(&ours.collect::<Vec<_>>()).await;
        removed.and(given_back)
    }

    /// Releases claims whose owner is gone.
    /// A manifest that no sweep has claimed since is used again, gone, or kept by another policy.
    async fn sweep_claims(&self) -> Result<(), Halt> {
        for (key, meta) in self.list_below(Prefix::Claims).await? {
            self.require_more()?;
            if self.is_old(&meta)
                && !self.is_dry
                && let Key::Claim { name, manifest } = &key
                && let Some(since) = self.claim(name, manifest).await?
            {
                self.require_young(since)?;
                self.delete(&[key]).await?;
            }
        }
        Ok(())
    }

    /// Turns the tags that the policy removes into tombstones. Returns the digests that the other
    /// tags name.
    async fn retain_tags(
        &self,
        name: &Name,
        policy: &RetentionPolicy,
        mut tags: Vec<(Tag, Meta, Digest)>,
    ) -> Result<BTreeSet<Digest>, Halt> {
        let upkeep = self.upkeep;
        let written = tags
            .iter()
            .map(|(tag, meta, _)| (tag.clone(), meta.uploaded));
        let (now, grace) = (upkeep.host.now(), upkeep.settings.grace);
        for (stale, why) in policy.stale(written.collect(), now, grace) {
            let Some(at) = tags.iter().position(|(tag, ..)| *tag == stale) else {
                continue;
            };
            let (tag, meta, digest) = tags.swap_remove(at);
            let key = Key::tag(name, &tag);
            self.tell(Removal {
                action: RemovalAction::Delete,
                what: What::Tag,
                key: key.to_string(),
                bytes: 0,
                why,
            });
            if !self.is_dry {
                self.spend(1)?;
                upkeep.manifests.bury(&key, &meta, &digest).await?;
            }
        }
        Ok(tags.into_iter().map(|(_, _, digest)| digest).collect())
    }

    /// The tags of a repository, with the digests that they name.
    async fn list_tags(&self, name: &Name) -> Result<Vec<(Tag, Meta, Digest)>, Halt> {
        let mut tags = Vec::new();
        for (key, meta) in self.list_below(Prefix::Tags(name)).await? {
            if let Key::Tag { tag, .. } = &key
                && let Some(TagTarget::Manifest { digest, .. }) = self.read(&key, &meta.metadata)
            {
                tags.push((tag.clone(), meta, digest));
            }
        }
        Ok(tags)
    }

    /// Reads the contents of a repository; `None` if there are too many objects to hold at once.
    async fn read_holdings(
        &self,
        name: &Name,
        asked: Timestamp,
        tagged: BTreeSet<Digest>,
    ) -> Result<Option<Holdings>, Halt> {
        let mut holdings = Holdings {
            asked,
            tagged,
            manifests: BTreeMap::new(),
            referrers: BTreeMap::new(),
        };
        let manifests = self.list_below(Prefix::Manifests(name)).await?;
        let referrers = self.list_below(Prefix::AllReferrers(name)).await?;
        if manifests.len().max(referrers.len()) > MAX_MANIFESTS {
            let fields = [("repository", name.as_str())];
            let host = &self.upkeep.host;
            host.log(
                Level::Error,
                "retention skipped: too many manifests",
                &fields,
            );
            return Ok(None);
        }
        for (key, meta) in manifests {
            if let Key::Manifest { digest, .. } = key {
                holdings.manifests.insert(digest, meta);
            }
        }
        for (key, _) in referrers {
            if let Key::Referrer {
                subject, manifest, ..
            } = key
            {
                holdings
                    .referrers
                    .entry(subject)
                    .or_default()
                    .insert(manifest);
            }
        }
        Ok(Some(holdings))
    }

    /// The manifests that are old enough and unreachable: no tag, no index that stays, and no
    /// subject that stays leads to them.
    async fn unused(
        &self,
        name: &Name,
        holdings: Holdings,
        time: Duration,
        indexes: &mut BTreeMap<Digest, BTreeSet<Digest>>,
    ) -> Result<BTreeMap<Digest, Meta>, Halt> {
        let Holdings {
            asked,
            tagged,
            mut manifests,
            mut referrers,
        } = holdings;
        // A tag is written before its manifest reaches that age. So the listing has the tags of
        // each manifest that had reached it when the reading began.
        let is_young = |meta: &Meta| asked.since(meta.uploaded) < time;
        let young = manifests.iter().filter(|(_, meta)| is_young(meta));
        let mut staying: Vec<Digest> = young.map(|(digest, _)| digest.clone()).collect();
        staying.extend(tagged);
        while let Some(digest) = staying.pop() {
            let Some(meta) = manifests.remove(&digest) else {
                continue;
            };
            if manifests.is_empty() {
                // All manifests stay: the children of this one can keep no other.
                break;
            }
            staying.extend(referrers.remove(&digest).unwrap_or_default());
            if !indexes.contains_key(&digest) {
                if may_have_children(&meta) {
                    self.spend(1)?;
                }
                let children = match self.upkeep.manifests.children(name, &digest, &meta).await? {
                    Children::Listed(children) => children.into_keys().collect(),
                    // Skip it in this reading only: it may be pushed again before the next.
                    Children::Gone => continue,
                    Children::Unreadable => {
                        // Without its list of children,
                        // used manifests can't be told from unused ones.
                        let (name, digest) = (name.to_string(), digest.to_string());
                        let fields = [("repository", &*name), ("manifest", &*digest)];
                        let host = &self.upkeep.host;
                        host.log(
                            Level::Error,
                            "retention skipped: a manifest can't be read",
                            &fields,
                        );
                        return Ok(BTreeMap::new());
                    }
                };
                indexes.insert(digest.clone(), children);
            }
            staying.extend(indexes.get(&digest).into_iter().flatten().cloned());
        }
        Ok(manifests)
    }

    /// Claims a manifest, unless it is claimed already. Returns the time of the claim.
    async fn claim(&self, name: &Name, digest: &Digest) -> Result<Option<Timestamp>, Halt> {
        let upkeep = self.upkeep;
        let key = Key::claim(name, digest);
        let seen = self.head(&key).await?;
        let condition = match &seen {
            None => Condition::Absent,
            Some(meta) if self.is_old(meta) => Condition::Matches(&meta.etag),
            Some(_) => return Ok(None),
        };
        self.spend(1)?;
        let since = upkeep.host.now();
        let options = PutOptions {
            condition,
            ..PutOptions::default()
        };
        // A unique body, so that no two claims have the same etag.
        let content = Content::Bytes(upkeep.host.nonce().into_bytes());
        let claimed = upkeep.store.put(&key, content, options).await?;
        Ok(claimed.map(|_| since))
    }
}

fn removal(name: &Name, digest: &Digest, meta: &Meta) -> Removal {
    Removal {
        action: RemovalAction::Delete,
        what: What::Manifest,
        key: Key::manifest(name, digest).to_string(),
        bytes: meta.size,
        why: "no tag names it, and no manifest that stays",
    }
}
