//! A blob that the sweep checks, and the grants and links of repositories on it.

use std::collections::{BTreeMap, btree_map::Entry};

use crate::{
    digest::Digest,
    name::Name,
    registry::upkeep::listing::Youngest,
    store::{Meta, document::Reason, key::Key},
    time::Timestamp,
};

/// The facts of one blob that are in the listings.
pub(super) struct Nominee {
    pub(super) digest: Digest,
    /// The object of the blob, with the blob's size.
    pub(super) blob: Option<(Meta, u64)>,
    pub(super) is_marked: bool,
    /// Whether a grant that stays was seen.
    pub(super) is_held: bool,
    /// Repositories with an old link and no grant.
    pub(super) linked: Vec<Name>,
    /// The time at which the youngest derived object was written.
    pub(super) derived: Option<Timestamp>,
}

/// The facts of one blob in one repository that are in the listing.
#[derive(Default)]
pub(super) struct GrantHold {
    pub(super) name: Option<Name>,
    pub(super) grants: u64,
    pub(super) has_old_link: bool,
    /// The youngest grant for each pushed manifest that has one.
    pub(super) manifests: BTreeMap<Digest, Youngest>,
    /// The same for manifests that an upstream sent. The two kinds never replace each other: a
    /// pushed manifest would lose its right to the blob.
    pub(super) mirrored: BTreeMap<Digest, Youngest>,
    /// Old `Filled` grants. They stay while a grant for a manifest does.
    pub(super) filled: Vec<Key>,
    /// Whether some grants of the repository are unknown: the previous step read them, or they
    /// can't be read. No `Filled` grant is deleted then.
    pub(super) is_partial: bool,
}

impl GrantHold {
    /// Notes a grant that stays.
    /// Of this grant and the youngest so far for the same manifest, returns the older one if it is
    /// past the grace period.
    pub(super) fn surpass(&mut self, reason: Reason, grant: Youngest) -> Option<Key> {
        let (youngest, manifest) = match reason {
            Reason::Manifest { digest } => (&mut self.manifests, digest),
            Reason::Mirrored { digest } => (&mut self.mirrored, digest),
            Reason::Upload | Reason::Claim | Reason::Filled => return None,
        };
        let is_full = youngest.len() >= MAX_MANIFESTS;
        match youngest.entry(manifest) {
            Entry::Occupied(mut youngest) => youngest.get_mut().surpass(grant),
            Entry::Vacant(vacant) => {
                if !is_full {
                    vacant.insert(grant);
                }
                None
            }
        }
    }
}

/// Whether manifests are stored, by checks that came after the grants were listed.
#[derive(Default)]
pub(super) struct Looks {
    pub(super) page: u64,
    pub(super) stored: BTreeMap<Key, bool>,
}

/// The most manifests of a repository with one blob in common that are distinguished.
const MAX_MANIFESTS: usize = 10_000;
