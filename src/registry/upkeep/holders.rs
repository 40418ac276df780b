//! The holders of a blob: the repositories with grants on it, and the mark that the sweep has set.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::json;

use crate::{
    digest::Digest,
    error::{Code, Error},
    name::Name,
    platform::Platform,
    registry::{bound::for_each, upkeep::Upkeep},
    store::{
        Meta, StoreError,
        bucket::Walk,
        document::{Mark, MarkState, Reason, Record, from_json},
        key::{Key, Prefix},
    },
    time::Timestamp,
    upload::UploadId,
};

/// A blob, and the repositories that hold it.
#[derive(Debug, Serialize)]
pub(in crate::registry) struct BlobHolders {
    digest: Digest,
    #[serde(rename = "stored")]
    is_stored: bool,
    size: Option<u64>,
    kind: Option<&'static str>,
    upload: Option<UploadId>,
    mark: Option<SeenMark>,
    /// A manifest counts once, however often it was pushed.
    references: u64,
    #[serde(rename = "complete")]
    is_complete: bool,
    repositories: Vec<Holder>,
}

/// The mark that the sweep has set on a blob.
#[derive(Debug, Serialize)]
struct SeenMark {
    state: MarkState,
    time: Timestamp,
}

/// A repository that holds a blob.
#[derive(Debug, Serialize)]
struct Holder {
    name: Name,
    uploads: u64,
    claims: u64,
    filled: u64,
    manifests: Vec<HoldingManifest>,
    mirrored: Vec<HoldingManifest>,
    #[serde(rename = "linked")]
    is_linked: bool,
}

/// A manifest for which a repository holds a blob.
#[derive(Debug, Serialize)]
struct HoldingManifest {
    digest: Digest,
    #[serde(rename = "stored")]
    is_stored: bool,
}

/// The grants and the link of a repository on a blob.
#[derive(Default)]
struct Hold {
    uploads: u64,
    claims: u64,
    /// The number of `Filled` grants:
    /// the bytes were hashed for the repository, as an upstream sent them.
    filled: u64,
    manifests: BTreeSet<Digest>,
    /// Manifests that an upstream sent: they keep the blob, and give no right.
    mirrored: BTreeSet<Digest>,
    is_linked: bool,
}

/// The operations that are reserved for everything but manifests.
const OTHERS: u32 = 10;

impl<P: Platform> Upkeep<P> {
    /// Reports the holders of a blob, and where it is stored.
    pub(in crate::registry) async fn blob_holders(
        &self,
        digest: &Digest,
    ) -> Result<BlobHolders, Error> {
        let record = self.grants.record(digest).await?;
        let mark = self
            .store
            .document::<Mark>(&self.host, &Key::mark(digest))
            .await?;
        let mark = mark.map(|(_, Mark { state, time, .. })| SeenMark { state, time });
        // Each grant may cost a read of its manifest.
        let most = self.settings.subrequests.saturating_sub(OTHERS).min(1_000);
        let mut walk = Walk::new(Prefix::Holders(digest), None, most, true);
        let objects = walk.next_objects(&self.store).await?;
        if record.is_none() && mark.is_none() && objects.is_empty() {
            return Err(Error::new(Code::BlobUnknown, digest.to_string())
                .with_detail(json!({ "digest": digest.to_string() })));
        }
        let holds = read_holds(&objects)?;
        let manifests: BTreeSet<(&Name, &Digest)> = holds
            .iter()
            .flat_map(|(name, hold)| {
                let manifests = hold.manifests.iter().chain(&hold.mirrored);
                manifests.map(move |digest| (name, digest))
            })
            .collect();
        let stored = for_each(manifests, |(name, manifest)| async move {
            let found = self.store.head(&Key::manifest(name, manifest)).await?;
            Ok(found.map(|_| (name.clone(), manifest.clone())))
        });
        let stored: BTreeSet<(Name, Digest)> = stored.await?.into_iter().flatten().collect();
        let uploads: u64 = holds
            .values()
            .map(|hold| hold.uploads + hold.claims + hold.filled)
            .sum();
        let repositories = holds.into_iter();
        let repositories = repositories.map(|(name, hold)| hold.into_holder(name, &stored));
        Ok(BlobHolders {
            digest: digest.clone(),
            is_stored: record.is_some(),
            size: record.as_ref().map(Record::size),
            kind: record.as_ref().map(kind),
            upload: record.as_ref().and_then(upload),
            mark,
            references: uploads + stored.len() as u64,
            is_complete: walk.is_done(),
            repositories: repositories.collect(),
        })
    }
}

/// Groups grants and links by repository.
fn read_holds(objects: &[(Key, Meta)]) -> Result<BTreeMap<Name, Hold>, StoreError> {
    let mut holds: BTreeMap<Name, Hold> = BTreeMap::new();
    for (key, meta) in objects {
        let Some(name) = key.holder() else { continue };
        let hold = holds.entry(name).or_default();
        if matches!(key, Key::Link { .. }) {
            hold.is_linked = true;
            continue;
        }
        match from_json(key, &meta.metadata)? {
            Reason::Upload => hold.uploads += 1,
            Reason::Claim => hold.claims += 1,
            Reason::Filled => hold.filled += 1,
            Reason::Manifest { digest } => {
                hold.manifests.insert(digest);
            }
            Reason::Mirrored { digest } => {
                hold.mirrored.insert(digest);
            }
        }
    }
    Ok(holds)
}

impl Hold {
    /// The holder, which says for each of its manifests whether it is stored.
    fn into_holder(self, name: Name, stored: &BTreeSet<(Name, Digest)>) -> Holder {
        let listed = |manifests: BTreeSet<Digest>| {
            let listed = manifests.into_iter().map(|digest| HoldingManifest {
                is_stored: stored.contains(&(name.clone(), digest.clone())),
                digest,
            });
            listed.collect()
        };
        Holder {
            uploads: self.uploads,
            claims: self.claims,
            filled: self.filled,
            manifests: listed(self.manifests),
            mirrored: listed(self.mirrored),
            is_linked: self.is_linked,
            name,
        }
    }
}

const fn kind(record: &Record) -> &'static str {
    match record {
        Record::Bytes { .. } => "bytes",
        Record::Extents { .. } => "extents",
    }
}

/// The upload of a blob's extents, if it has extents.
fn upload(record: &Record) -> Option<UploadId> {
    match record {
        Record::Bytes { .. } => None,
        Record::Extents { extents, .. } => extents.first()?.key.upload(),
    }
}
