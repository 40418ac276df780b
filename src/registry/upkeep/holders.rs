//! Who holds a blob: the repositories with grants on it, and what the sweep has said of it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::{
    digest::Digest,
    error::{Code, Error},
    name::Name,
    platform::Platform,
    registry::{bound::for_each, upkeep::Upkeep},
    store::{
        ListOptions, Meta, StoreError,
        document::{Mark, Reason, Record, from_json},
        key::{Key, Prefix},
    },
};

/// What a repository has on a blob.
#[derive(Default)]
struct Hold {
    uploads: u64,
    claims: u64,
    /// How often its bytes were hashed for the repository, as an upstream sent them.
    pub(super) filled: u64,
    pub(super) manifests: BTreeSet<Digest>,
    /// Manifests that an upstream sent: they keep the blob, and give no right.
    pub(super) mirrored: BTreeSet<Digest>,
    is_linked: bool,
}

/// The operations that are left for what is no manifest.
const OTHERS: u32 = 10;

impl<P: Platform> Upkeep<P> {
    /// Tells who holds a blob, and where it is.
    pub(in crate::registry) async fn blob_holders(&self, digest: &Digest) -> Result<Value, Error> {
        let record = self.grants.record(digest).await?;
        let mark = self
            .store
            .document::<Mark>(&self.host, &Key::mark(digest))
            .await?;
        let mark = mark.map(|(_, mark)| mark);
        let options = ListOptions {
            // Each grant may cost a look at its manifest.
            limit: self.settings.subrequests.saturating_sub(OTHERS).min(1_000),
            metadata: true,
            ..ListOptions::default()
        };
        let page = self.store.list(Prefix::Holders(digest), options).await?;
        if record.is_none() && mark.is_none() && page.objects.is_empty() {
            return Err(Error::new(Code::BlobUnknown, digest.to_string())
                .with_detail(json!({ "digest": digest.to_string() })));
        }
        let holds = read_holds(&page.objects)?;
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
        let told = holds.iter().map(|(name, hold)| hold.tell(name, &stored));
        let repositories: Vec<Value> = told.collect();
        let uploads: u64 = holds
            .values()
            .map(|hold| hold.uploads + hold.claims + hold.filled)
            .sum();
        Ok(json!({
            "digest": digest.to_string(),
            "stored": record.is_some(),
            "size": record.as_ref().map(Record::size),
            "kind": record.as_ref().map(kind),
            "upload": record.as_ref().and_then(upload),
            "mark": mark.map(|mark| json!({ "state": mark.state, "time": mark.time })),
            // A manifest counts once, however often it was pushed.
            "references": uploads + stored.len() as u64,
            "complete": !page.truncated,
            "repositories": repositories,
        }))
    }
}

/// Sorts grants and links by the repositories that have them.
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
    /// What a repository has on a blob, with those of its manifests that are stored.
    fn tell(&self, name: &Name, stored: &BTreeSet<(Name, Digest)>) -> Value {
        let told = |manifests: &BTreeSet<Digest>| -> Vec<Value> {
            let told = manifests.iter().map(|manifest| {
                let is_stored = stored.contains(&(name.clone(), manifest.clone()));
                json!({ "digest": manifest.to_string(), "stored": is_stored })
            });
            told.collect()
        };
        json!({
            "name": name.as_str(),
            "uploads": self.uploads,
            "claims": self.claims,
            "filled": self.filled,
            "manifests": told(&self.manifests),
            "mirrored": told(&self.mirrored),
            "linked": self.is_linked,
        })
    }
}

const fn kind(record: &Record) -> &'static str {
    match record {
        Record::Bytes { .. } => "bytes",
        Record::Extents { .. } => "extents",
    }
}

/// The upload that a blob came by, where it has left extents.
fn upload(record: &Record) -> Option<String> {
    match record {
        Record::Bytes { .. } => None,
        Record::Extents { extents, .. } => {
            let first = extents.first()?;
            Some(first.key.upload()?.to_string())
        }
    }
}
