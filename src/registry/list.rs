//! Lists: the catalogue, tags (end-8) and referrers (end-12).
//!
//! A page costs one operation of the store, however large the registry is.
//! If entries are left out, it costs another operation for each thousand further entries
//! that are listed.

use std::{collections::BTreeMap, rc::Rc};

use serde_json::json;

use crate::{
    access::Caller,
    digest::Digest,
    error::{Code, Error},
    ledger::{Lease, Ledger, MemoryKind},
    name::{Name, Tag},
    platform::Platform,
    registry::{bound::for_each, manifest::Manifests, parts::Parts, request::page_limit},
    settings::Settings,
    store::{
        Meta, StoreError,
        bucket::{Bucket, Walk},
        document::{Referrer, Stored, from_json},
        key::{Key, Prefix},
    },
};

/// A page of a list.
#[derive(Debug)]
pub(super) struct ListPage<T> {
    pub(super) entries: Vec<T>,
    /// The query of the next page.
    pub(super) next: Option<String>,
    #[expect(
        dead_code,
        reason = "the memory of the entries, held as long as they are"
    )]
    pub(super) lease: Option<Lease>,
}

/// A page of the catalogue.
pub(super) struct Catalogue {
    pub(super) names: Vec<String>,
    /// The upstreams of the mirrored repositories among them.
    pub(super) mirrored: BTreeMap<String, String>,
    /// The query of the next page.
    pub(super) next: Option<String>,
}

/// Stored lists: the catalogue, tags and referrers.
pub(super) struct Lists<P: Platform> {
    store: Bucket<P::Cold>,
    host: P::Host,
    settings: Rc<Settings>,
    ledger: Ledger,
    manifests: Rc<Manifests<P>>,
}

/// The most entries of one page: the store lists as many in one operation.
const MAX_PAGE: u64 = 1_000;

/// The most bytes of one page of referrers, unless it has a single entry: clients read lists of
/// some MiB.
const MAX_REFERRERS_BYTES: u64 = 4 * 1024 * 1024;

/// The memory of a page of referrers, in bytes for each of its own: the text, the parsed entries
/// and the reply.
const WEIGHT: u64 = 3;

/// The most referrers of one page: each costs an operation, to see whether its manifest is stored.
const MAX_REFERRERS: u64 = 100;

impl<P: Platform> Lists<P> {
    pub(super) fn new(parts: &Parts<P>, manifests: Rc<Manifests<P>>) -> Self {
        Self {
            store: parts.store.clone(),
            host: parts.host.clone(),
            settings: parts.settings.clone(),
            ledger: parts.ledger.clone(),
            manifests,
        }
    }

    /// Lists the repositories that have had a manifest and that the caller may pull from, with the
    /// upstreams of those that are mirrored.
    pub(super) async fn list_repositories(
        &self,
        caller: &Caller,
        limit: Option<u64>,
        last: Option<&Name>,
    ) -> Result<Catalogue, Error> {
        let limit = page_limit(limit, MAX_PAGE);
        let after = last.map(|last| Key::catalog(last).to_string());
        let (names, more) = self
            .page(Prefix::Catalog, after, limit, false, |key, _| {
                let Key::Catalog(name) = key else { return None };
                let sees = self.settings.access.sees(caller, &name);
                sees.then(|| name.to_string())
            })
            .await?;
        let upstream = |name: &String| {
            let mirrored = self.settings.upstreams.mirrored(&name.parse().ok()?)?;
            Some((name.clone(), mirrored.upstream.name().to_owned()))
        };
        let mirrored = names.iter().filter_map(upstream).collect();
        let last = names.last().filter(|_| more);
        let next = last.map(|last| format!("n={limit}&last={last}"));
        Ok(Catalogue {
            names,
            mirrored,
            next,
        })
    }

    /// Lists the stored tags of a repository (end-8).
    pub(super) async fn list_tags(
        &self,
        name: &Name,
        limit: Option<u64>,
        last: Option<&Tag>,
    ) -> Result<ListPage<String>, Error> {
        let stored = self.stored_tags(name, limit, last).await?;
        stored.ok_or_else(|| {
            let found = format!("repository {name} has never had a manifest");
            Error::new(Code::NameUnknown, found).with_detail(json!({ "name": name.as_str() }))
        })
    }

    /// A page of the stored tags; `None` if the repository does not exist.
    pub(super) async fn stored_tags(
        &self,
        name: &Name,
        limit: Option<u64>,
        last: Option<&Tag>,
    ) -> Result<Option<ListPage<String>>, Error> {
        let limit = page_limit(limit, MAX_PAGE);
        let after = last.map(|tag| Key::tag(name, tag).to_string());
        // A tombstone is no tag, and has no bytes. So the listing needs no metadata, which would
        // make its pages shorter.
        let page = self.page(Prefix::Tags(name), after, limit, false, |key, meta| {
            let Key::Tag { tag, .. } = key else {
                return None;
            };
            (meta.size > 0).then(|| tag.to_string())
        });
        let (tags, more) = page.await?;
        if tags.is_empty()
            && last.is_none()
            && self.store.head(&Key::catalog(name)).await?.is_none()
        {
            return Ok(None);
        }
        let last = tags.last().filter(|_| more);
        let next = last.map(|last| format!("n={limit}&last={last}"));
        Ok(Some(ListPage {
            entries: tags,
            next,
            lease: None,
        }))
    }

    /// Lists the stored referrers of a manifest (end-12).
    /// An entry whose manifest is not stored is left out; the sweep deletes it.
    pub(super) async fn list_referrers(
        &self,
        name: &Name,
        wanted: &WantedReferrers<'_>,
    ) -> Result<ListPage<Referrer>, Error> {
        let WantedReferrers {
            subject,
            artifact_type,
            limit,
            last,
        } = *wanted;
        let limit = page_limit(limit, MAX_REFERRERS);
        let after = last.map(|last| Prefix::Referrer(name, subject, last).end());
        let prefix = Prefix::Referrers(name, subject);
        let (entries, mut more) = self
            .page(prefix, after, limit, true, |key, meta| {
                Some((key, meta.metadata.clone(), meta.size))
            })
            .await?;
        let candidates = Candidates::of(entries, wanted)?;
        more |= candidates.is_cut;
        let Candidates {
            list: candidates,
            last,
            bytes: length,
            ..
        } = candidates;
        let lease = self
            .ledger
            .wait_if_large(&self.host, MemoryKind::Wasm, WEIGHT * length)
            .await?;
        let mut found = for_each(candidates, |(digest, key, metadata, size)| async move {
            let Some(meta) = self.store.head(&Key::manifest(name, &digest)).await? else {
                return Ok(None);
            };
            let text = if metadata.is_empty() || size > 0 {
                self.store
                    .text(&self.host, &key)
                    .await?
                    .map(|(_, text)| text)
            } else {
                Some(metadata)
            };
            let Some(text) = text else { return Ok(None) };
            let mut referrer: Referrer = from_json(&key, &text)?;
            if let Some(media_type) = self.stored_media_type(name, &digest, &meta).await? {
                referrer.media_type = media_type;
            }
            Ok(Some((digest, referrer)))
        })
        .await?;
        found.sort_by(|one, other| key_of(one).cmp(&key_of(other)));
        let referrers = found.into_iter().flatten().map(|(_, referrer)| referrer);
        let referrers = referrers
            .filter(|referrer| wanted.has(referrer))
            .collect::<Vec<_>>();
        let next = last.filter(|_| more).map(|last| {
            let filter = artifact_type.map(|artifact_type| {
                let encoded: String =
                    form_urlencoded::byte_serialize(artifact_type.as_bytes()).collect();
                format!("&artifactType={encoded}")
            });
            format!("n={limit}&last={last}{}", filter.unwrap_or_default())
        });
        Ok(ListPage {
            entries: referrers,
            next,
            lease,
        })
    }

    /// The media type of a stored manifest, by its bytes; `None` if it can't be read.
    /// The bytes are read only if the manifest was stored while clients chose the type.
    async fn stored_media_type(
        &self,
        name: &Name,
        digest: &Digest,
        meta: &Meta,
    ) -> Result<Option<String>, Error> {
        match serde_json::from_str::<Stored>(&meta.metadata) {
            Ok(stored) if stored.lists.is_some() => Ok(Some(stored.media_type)),
            Ok(_) => {
                let content = self.manifests.stored_manifest(name, digest, None).await?;
                Ok(content.map(|content| content.media_type))
            }
            Err(_) => Ok(None),
        }
    }

    /// Reads entries of a listing until a page is full. Returns whether there are more.
    async fn page<T>(
        &self,
        prefix: Prefix<'_>,
        after: Option<String>,
        limit: usize,
        metadata: bool,
        read: impl Fn(Key, &Meta) -> Option<T>,
    ) -> Result<(Vec<T>, bool), Error> {
        let wanted = u32::try_from(limit).unwrap_or(u32::MAX);
        let mut walk = Walk::new(prefix, after, wanted, metadata);
        let mut entries = Vec::new();
        while entries.len() < limit && !walk.is_done() {
            let objects = walk.next_objects(&self.store).await?;
            let (before, listed) = (entries.len(), objects.len());
            for (key, meta) in objects {
                entries.extend(read(key, &meta));
            }
            // If some entries were left out, thousands after them may be too: list those a thousand
            // at a time.
            if entries.len() - before < listed {
                walk.set_limit(1_000);
            }
        }
        let more = entries.len() > limit || !walk.is_done();
        entries.truncate(limit);
        Ok((entries, more))
    }
}

/// The entries of a page of referrers, before the store is asked for their manifests.
#[derive(Default)]
struct Candidates {
    /// The manifest, the key of its entry, and the entry's metadata and size.
    list: Vec<(Digest, Key, String, u64)>,
    /// The last manifest that was read, listed or not.
    last: Option<Digest>,
    /// The bytes of all entries.
    bytes: u64,
    /// Whether entries were left for the next page.
    is_cut: bool,
}

impl Candidates {
    fn of(
        entries: Vec<(Key, String, u64)>,
        wanted: &WantedReferrers<'_>,
    ) -> Result<Self, StoreError> {
        let mut candidates = Self::default();
        for (key, metadata, size) in entries {
            let Key::Referrer {
                manifest: digest, ..
            } = key.clone()
            else {
                let found = format!("{key} is not the entry of a referrer");
                return Err(StoreError::Failed(found));
            };
            // A manifest that was pushed again has an entry of each push, side by side.
            if candidates.last.as_ref() != Some(&digest) {
                let is_other = |text: &str| {
                    let referrer = from_json::<Referrer>(&key, text);
                    referrer.is_ok_and(|referrer| !wanted.has(&referrer))
                };
                if !metadata.is_empty() && wanted.artifact_type.is_some() && is_other(&metadata) {
                    candidates.last = Some(digest);
                    continue;
                }
                let bytes = metadata.len() as u64 + size;
                if candidates.bytes > 0 && candidates.bytes + bytes > MAX_REFERRERS_BYTES {
                    candidates.is_cut = true;
                    break;
                }
                candidates.bytes += bytes;
                candidates.list.push((digest.clone(), key, metadata, size));
            }
            candidates.last = Some(digest);
        }
        Ok(candidates)
    }
}

/// The query without `ns`, which names the upstream.
pub(super) fn without_namespace(query: &str) -> String {
    let pairs = form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key != "ns");
    form_urlencoded::Serializer::new(String::new())
        .extend_pairs(pairs)
        .finish()
}

/// The referrers that a request asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct WantedReferrers<'a> {
    pub(super) subject: &'a Digest,
    pub(super) artifact_type: Option<&'a str>,
    pub(super) limit: Option<u64>,
    pub(super) last: Option<&'a Digest>,
}

impl WantedReferrers<'_> {
    /// Whether a referrer has the requested type.
    pub(super) fn has(&self, referrer: &Referrer) -> bool {
        self.artifact_type
            .is_none_or(|wanted| referrer.artifact_type.as_deref() == Some(wanted))
    }
}

fn key_of(entry: &Option<(Digest, Referrer)>) -> Option<&Digest> {
    entry.as_ref().map(|(digest, _)| digest)
}
