//! Scrubbing the grants and links of a blob.

use crate::{
    digest::Digest,
    name::Name,
    platform::Platform,
    registry::upkeep::{
        scrub::{
            Scrub,
            bytes::MAX_RECORD,
            cursor::{Edges, ScrubBlobPosition},
            report::{Damage, Finding, Repair},
            state::{BlobState, Listings},
        },
        step::{Halt, What},
    },
    store::{
        Meta,
        document::{Linked, Reason, Record, is_record},
        key::Key,
        tiers::Wanted,
    },
};

impl<P: Platform> Scrub<'_, P> {
    /// Checks the grants and links of a blob.
    pub(super) async fn scrub_references(
        &self,
        digest: &Digest,
        state: &BlobState,
        listings: &mut Listings,
        place: &mut ScrubBlobPosition,
        edges: &mut Edges,
    ) -> Result<(), Halt> {
        let mut holder: Option<Name> = None;
        let mut grants = 0;
        // If the last step ended among the grants of a repository, this step does not see them all.
        let mut is_counted = place.reference.is_none();
        let (work, references) = (&self.work, &mut listings.references);
        while references.peek_of(work, Key::digest).await?.as_ref() == Some(digest) {
            let Some((key, meta)) = references.peek(work).await?.cloned() else {
                break;
            };
            let Some(name) = key.holder() else {
                references.next(work).await?;
                continue;
            };
            if holder.as_ref() != Some(&name) {
                if matches!(state, BlobState::Absent) && !self.work.is_dry {
                    // This isolate may have a cached link that says it is there.
                    self.work.upkeep.tiers.changed(Wanted::Link(&name, digest));
                }
                is_counted |= holder.is_some();
                holder = Some(name.clone());
                grants = 0;
            }
            if matches!(key, Key::Link { .. }) {
                let is_orphaned = is_counted && grants == 0 && self.work.is_old(&meta);
                self.scrub_link(digest, &name, &key, is_orphaned, state)
                    .await?;
            } else {
                grants += 1;
                self.scrub_grant(digest, &name, (&key, &meta), state, edges);
            }
            references.next(work).await?;
            place.reference = Some(key);
        }
        Ok(())
    }

    fn scrub_grant(
        &self,
        digest: &Digest,
        name: &Name,
        (key, meta): (&Key, &Meta),
        state: &BlobState,
        edges: &mut Edges,
    ) {
        self.checked(What::Grant, 0);
        match serde_json::from_str(&meta.metadata) {
            Ok(Reason::Manifest { digest: manifest } | Reason::Mirrored { digest: manifest }) => {
                // A mirrored blob is fetched again on the next pull.
                let is_there = match state {
                    BlobState::Sound(_) | BlobState::Unknown => true,
                    BlobState::Absent => {
                        self.work.upkeep.settings.upstreams.mirrored(name).is_some()
                    }
                };
                if is_there {
                    edges.see(name, &manifest, digest);
                }
            }
            Ok(Reason::Upload | Reason::Claim | Reason::Filled) => {}
            // Its reason is lost, so the grant stays.
            // If it was for a manifest, that gets another grant.
            Err(error) => self.find(Finding {
                found: Damage::Corrupt,
                what: What::Grant,
                key: key.to_string(),
                why: format!("its reason can't be read: {error}"),
                repair: None,
            }),
        }
    }

    async fn scrub_link(
        &self,
        digest: &Digest,
        name: &Name,
        key: &Key,
        is_orphaned: bool,
        state: &BlobState,
    ) -> Result<(), Halt> {
        self.work.require(2)?;
        self.checked(What::Link, 0);
        let finding = |found, why: &str, repair| Finding {
            found,
            what: What::Link,
            key: key.to_string(),
            why: why.to_owned(),
            repair: Some(repair),
        };
        if is_orphaned {
            let before = self.work.count();
            self.work.sweep_link(name, digest).await?;
            if self.work.count() > before {
                let why = "the repository has no grant on the blob";
                self.find(finding(Damage::Orphaned, why, Repair::Delete));
            }
            return Ok(());
        }
        let BlobState::Sound(record) = state else {
            return Ok(());
        };
        let Some((meta, bytes)) = self.read_object(key, MAX_RECORD).await? else {
            return Ok(());
        };
        let linked: Option<Record> = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        if matches!(linked, Some(Record::Bytes { .. })) && record.objects() > 1 {
            let blob = self.work.head(&Key::blob(digest)).await?;
            if blob.is_some_and(|blob| !is_record(&blob)) {
                // The sweep has joined the blob since its record was read.
                return Ok(());
            }
        }
        let why = match &linked {
            Some(linked) if linked == record => return Ok(()),
            // It is from before the sweep joined the blob. It is not damaged, and is written anew.
            Some(Record::Extents { size, extents })
                if extents.len() > 1 && *record == (Record::Bytes { size: *size }) =>
            {
                None
            }
            Some(_) => Some("it names other extents than the blob's record"),
            None => Some("it can't be read"),
        };
        if let Some(why) = why {
            self.find(finding(Damage::Corrupt, why, Repair::Write));
        }
        if !self.work.is_dry {
            self.work.spend(1)?;
            let upkeep = self.work.upkeep;
            // The repair concerns where the bytes are. The recorded right stays as it is.
            let right = Linked::parse(&meta.metadata);
            upkeep.grants.make_good(name, digest, record, right).await?;
        }
        Ok(())
    }
}
