//! Pushing manifests (end-7).

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::try_join;
use http::StatusCode;
use serde_json::json as detail;

use crate::{
    access::Caller,
    digest::{Algorithm, Digest},
    error::{Code, Error},
    host::{Clock as _, Random as _},
    ledger::{Lease, MemoryKind},
    manifest::{MAX_SIZE, Manifest},
    name::{Name, Reference, Tag},
    platform::Platform,
    registry::{
        bound::for_each,
        grant::right::Unfit,
        manifest::{
            Manifests, WEIGHT,
            children::{Children, may_have_children},
            write::NewManifest,
        },
        request::Payload,
    },
    store::{
        Streams as _,
        document::{ManifestOrigin, Stored, TagTarget, from_json},
        key::Key,
        trace::Trace,
    },
};

/// The error for a caller that may not move a tag.
fn immutable(name: &Name, tag: &Tag) -> Error {
    let found = format!(
        "tag {tag} in repository {name} is immutable and names another manifest; push another tag"
    );
    Error::new(Code::Denied, found)
        .with_detail(detail!({ "name": name.as_str(), "tag": tag.as_str() }))
}

/// The names that a push gives to a manifest.
#[derive(Clone, Copy)]
pub(in crate::registry) struct Names<'a> {
    pub(in crate::registry) reference: &'a Reference,
    /// Tags beside the reference (end-7b).
    pub(in crate::registry) tags: &'a [Tag],
}

/// The result of pushing a manifest.
pub(in crate::registry) struct Pushed {
    pub(in crate::registry) digest: Digest,
    /// The manifest that the pushed one refers to.
    pub(in crate::registry) subject: Option<Digest>,
    /// The manifests that the pushed index lists and that the repository lacks.
    pub(in crate::registry) absent: BTreeSet<Digest>,
}

/// A received manifest.
struct PushedManifest {
    manifest: Manifest,
    bytes: Vec<u8>,
    digest: Digest,
}

/// A tag that a push writes.
struct TagPush<'a> {
    tag: &'a Tag,
    /// The error if the tag names another manifest; `None` if the caller may move the tag.
    refusal: Option<Error>,
}

impl TagPush<'_> {
    /// The store operations that writing the tag needs, and taking it back.
    const fn operations(&self) -> usize {
        if self.refusal.is_some() { 4 } else { 2 }
    }
}

/// The manifests that an index lists.
#[derive(Default)]
struct Listed {
    /// Those that are stored, and what those list.
    stored: BTreeSet<Digest>,
    /// Those that the index may lack.
    absent: BTreeSet<Digest>,
    /// Those that keep the index from being stored.
    unfit: Vec<Unfit>,
}

/// A listed manifest, looked at.
enum ListedManifest {
    /// It is stored.
    Stored {
        /// The manifests that it lists, and whether each is one by its media type.
        children: BTreeMap<Digest, bool>,
        size: u64,
        /// Whether its bytes were read.
        was_read: bool,
    },
    Absent,
}

/// The most manifests that an index may lack. Their positions are in its metadata.
const MAX_ABSENT: usize = 300;

fn missing(digests: Vec<Digest>) -> Vec<Unfit> {
    digests.into_iter().map(Unfit::Missing).collect()
}

impl<P: Platform> Manifests<P> {
    /// end-7: Manifest PUT of the removal protocol.
    /// An `Err` in `overwrite` means that the caller may not move tags.
    pub(in crate::registry) async fn push(
        &self,
        payload: Payload<'_, P::Body>,
        caller: &Caller,
        name: &Name,
        names: Names<'_>,
        overwrite: Result<(), Error>,
        trace: &Trace<P::Bytes>,
    ) -> Result<Pushed, Error> {
        let (document, _lease) = self.receive(payload, names.reference).await?;
        let PushedManifest {
            mut manifest,
            bytes,
            digest,
        } = document;
        let tags = self.tags_to_write(name, names, overwrite.err().as_ref());
        let for_tags: usize = tags.iter().map(TagPush::operations).sum();
        // The last look at the manifest, if it is tagged, and at each that it lists.
        let last = usize::from(!tags.is_empty()) + manifest.manifests.len();
        self.require_operations(name, &manifest, for_tags + last)?;
        for TagPush { tag, refusal } in &tags {
            if let Some(refusal) = refusal {
                self.unmoved(name, tag, &digest, refusal).await?;
            }
        }

        // 1 the right to each blob, before granting; and every manifest that an index lists
        let decided = manifest.undecided.len();
        let children = self.decide(name, &mut manifest).await?;
        let mut unfit = self.grants.unfit_blobs(name, &manifest).await?;
        let more = for_tags + last + decided;
        let mut listed = self.listed(name, &manifest, &children, more).await?;
        unfit.append(&mut listed.unfit);
        let may_pull = self.grants.may_pull(caller, name);
        self.require_fit(name, &manifest, &unfit, may_pull)?;

        let size = bytes.len() as u64;
        self.metrics.received.inc_by(size);
        let bound = self.grants.bound();
        let new = NewManifest {
            name,
            digest: &digest,
            manifest: &manifest,
            origin: ManifestOrigin::Push,
            absent: &listed.absent,
            bound,
        };
        let keep = async {
            self.keep_blobs(new).await?;
            let blobs: Vec<&Digest> = manifest.blobs.keys().collect();
            let lost = self.grants.absent_blobs(&blobs).await?; // 3 look at each
            self.require_fit(name, &manifest, &missing(lost), may_pull)
        };
        try_join(keep, self.announce(new, size)).await?;
        self.write_manifest(new, bytes).await?;
        let named = listed.stored.iter().chain([&digest]);
        self.require_staying(name, named).await?;
        let target = TagTarget::Manifest {
            digest: digest.clone(),
            media_type: manifest.media_type.clone(),
            size,
            nonce: Some(self.host.nonce()),
            seen: None,
            invalidated: None,
        };
        let tagged = for_each(&tags, |TagPush { tag, refusal }| {
            self.write_tag(name, tag, &target, refusal.as_ref(), bound)
        });
        let tagged = tagged.await?; // 6 BOUND
        self.require_there(name, &digest, &tagged, &listed.stored)
            .await?; // 7
        if self.settings.layers.on_push {
            trace.after.index(manifest.layers.iter().cloned());
        }
        Ok(Pushed {
            digest,
            subject: manifest.subject,
            absent: listed.absent,
        }) // 8
    }

    /// Receives the bytes of a manifest, in leased memory, and parses them.
    async fn receive(
        &self,
        payload: Payload<'_, P::Body>,
        reference: &Reference,
    ) -> Result<(PushedManifest, Option<Lease>), Error> {
        let announced = payload.length()?.unwrap_or(MAX_SIZE);
        let too_large = || {
            let found = format!("larger than {MAX_SIZE} bytes");
            Error::new(Code::ManifestInvalid, found).with_status(StatusCode::PAYLOAD_TOO_LARGE)
        };
        if announced > MAX_SIZE {
            return Err(too_large());
        }
        // The bytes, spare capacity, and the parsed digests.
        let lease = self
            .ledger
            .wait_if_large(&self.host, MemoryKind::Wasm, WEIGHT * announced);
        let mut lease = lease.await?;
        let bytes = match payload.body.take() {
            Some(body) => self.host.collect(body, announced).await?,
            None => Some(Vec::new()),
        };
        let bytes = bytes.ok_or_else(too_large)?;
        if let Some(lease) = &mut lease {
            lease.resize(WEIGHT * bytes.len() as u64, self.host.now())?;
        }
        let manifest = Manifest::parse(payload.media_type(), &bytes)
            .map_err(|error| Error::new(Code::ManifestInvalid, error.to_string()))?;
        let algorithm = match reference {
            Reference::Digest(digest) => digest.algorithm(),
            Reference::Tag(_) => Algorithm::Sha256,
        };
        let digest = algorithm.digest(&bytes);
        if let Reference::Digest(expected) = reference
            && *expected != digest
        {
            let found = format!("the manifest received has the digest {digest}, not {expected}");
            return Err(Error::new(Code::DigestInvalid, found));
        }
        let document = PushedManifest {
            manifest,
            bytes,
            digest,
        };
        Ok((document, lease))
    }

    /// The tags that a push writes.
    /// For a caller that may not move tags (`denied`), each tag is read before the push and again
    /// when it is written.
    fn tags_to_write<'n>(
        &self,
        name: &Name,
        Names { reference, tags }: Names<'n>,
        denied: Option<&Error>,
    ) -> Vec<TagPush<'n>> {
        let refusal = |tag: &Tag| {
            let is_immutable = self.settings.retention.is_immutable(name, tag);
            is_immutable
                .then(|| immutable(name, tag))
                .or_else(|| denied.cloned())
        };
        let reference = match reference {
            Reference::Tag(tag) => Some(tag),
            Reference::Digest(_) => None,
        };
        let tags: BTreeSet<&Tag> = reference.into_iter().chain(tags).collect();
        let tags = tags.into_iter().map(|tag| TagPush {
            tag,
            refusal: refusal(tag),
        });
        tags.collect()
    }

    /// Decides what an index lists under media types that tell nothing: a manifest of that digest
    /// in this repository is a child, all else is a blob. Returns these children with their sizes.
    ///
    /// They are not added to the parsed manifests, because the stored metadata has positions among
    /// those.
    async fn decide(
        &self,
        name: &Name,
        manifest: &mut Manifest,
    ) -> Result<BTreeMap<Digest, u64>, Error> {
        let undecided = std::mem::take(&mut manifest.undecided);
        let decided = for_each(undecided, |(digest, size)| async move {
            let key = Key::manifest(name, &digest);
            let found = self.store.head(&key).await?;
            Ok((found.is_some(), digest, size))
        });
        let mut children = BTreeMap::new();
        for (is_manifest, digest, size) in decided.await? {
            let of = if is_manifest {
                &mut children
            } else {
                &mut manifest.blobs
            };
            of.insert(digest, size);
        }
        Ok(children)
    }

    /// Looks at the manifests that an index lists, those that were `decided` among them.
    /// The push takes `others` store operations beside those of the manifest.
    /// If retention removes untagged manifests, their children are included.
    /// Retention may remove such a child before its parent, if all that name it are removed too.
    async fn listed(
        &self,
        name: &Name,
        manifest: &Manifest,
        decided: &BTreeMap<Digest, u64>,
        others: usize,
    ) -> Result<Listed, Error> {
        let mut listed = Listed::default();
        let (mut seen, mut read) = (BTreeSet::new(), 0);
        let first = manifest.manifests.keys().chain(decided.keys());
        let mut next: BTreeMap<Digest, bool> = first.map(|child| (child.clone(), true)).collect();
        while !next.is_empty() {
            let looked = for_each(next, |(child, is_manifest)| async move {
                let looked = self.look_at_listed(name, &child).await?;
                Ok((child, is_manifest, looked))
            });
            let mut deeper = BTreeMap::new();
            for (child, is_manifest, looked) in looked.await? {
                match looked {
                    ListedManifest::Stored {
                        children,
                        size,
                        was_read,
                    } => {
                        read += usize::from(was_read);
                        deeper.extend(children);
                        let described = manifest.manifests.get(&child);
                        let described = described.or_else(|| decided.get(&child));
                        let unfit = described
                            .and_then(|described| Unfit::wrong_size(&child, *described, size));
                        listed.unfit.extend(unfit);
                        listed.stored.insert(child.clone());
                    }
                    // A child may list blobs, which it keeps itself.
                    ListedManifest::Absent if !is_manifest => {}
                    // A child that was decided was there a moment ago.
                    ListedManifest::Absent
                        if self.settings.sparse_indexes && !decided.contains_key(&child) =>
                    {
                        listed.absent.insert(child.clone());
                    }
                    ListedManifest::Absent => listed.unfit.push(Unfit::Missing(child.clone())),
                }
                seen.insert(child);
            }
            deeper.retain(|child, _| !seen.contains(child));
            next = deeper;
            // Each of those costs a read, then a claim check and two other reads;
            // and perhaps its body.
            let further = (seen.len() + next.len()).saturating_sub(manifest.manifests.len());
            let more = 4 * further + read + next.len();
            self.require_operations(name, manifest, others + more)?;
        }
        listed
            .absent
            .retain(|digest| manifest.manifests.contains_key(digest));
        if listed.absent.len() > MAX_ABSENT {
            let found = format!(
                "{} of the manifests that the index lists are not in repository {name}; an index may lack {MAX_ABSENT}",
                listed.absent.len()
            );
            return Err(Error::new(Code::ManifestInvalid, found));
        }
        Ok(listed)
    }

    async fn look_at_listed(&self, name: &Name, child: &Digest) -> Result<ListedManifest, Error> {
        let key = Key::manifest(name, child);
        let Some(meta) = self.store.head(&key).await? else {
            return Ok(ListedManifest::Absent);
        };
        if from_json::<Stored>(&key, &meta.metadata)?.aside {
            return Ok(ListedManifest::Absent);
        }
        let (size, was_read) = (meta.size, may_have_children(&meta));
        let stored = |children, was_read| ListedManifest::Stored {
            children,
            size,
            was_read,
        };
        if !self.removes_untagged(name) {
            return Ok(stored(BTreeMap::new(), false));
        }
        Ok(match self.children(name, child, &meta).await? {
            Children::Listed(children) => stored(children, was_read),
            // Its children can't be known.
            Children::Unreadable => stored(BTreeMap::new(), was_read),
            Children::Gone => ListedManifest::Absent,
        })
    }

    /// Refuses a push that would exceed the platform's limit in the middle,
    /// before anything is written.
    pub(in crate::registry) fn require_operations(
        &self,
        name: &Name,
        manifest: &Manifest,
        more: usize,
    ) -> Result<(), Error> {
        let children = manifest.manifests.len();
        // If retention removes untagged manifests: a claim check and a read for each child and for
        // the manifest.
        let claims = if self.removes_untagged(name) {
            2 * (children + 1)
        } else {
            0
        };
        // For each blob a link, a grant and a read; for each child a read; for content of an
        // undecided kind all of these. Then marks, referrer, catalogue (2) and manifest; the tags;
        // and the children's children.
        let needed =
            3 * manifest.blobs.len() + 4 * manifest.undecided.len() + children + 5 + claims + more;
        let allowed = self.settings.subrequests;
        if u32::try_from(needed).is_ok_and(|needed| needed <= allowed) {
            return Ok(());
        }
        let found = format!(
            "the manifest takes {needed} store operations; STRATA_SUBREQUESTS allows a request {allowed}"
        );
        Err(Error::new(Code::ManifestInvalid, found).with_status(StatusCode::PAYLOAD_TOO_LARGE))
    }
}
