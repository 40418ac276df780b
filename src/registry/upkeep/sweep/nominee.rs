//! A blob that the sweep looks at, and what repositories hold of it.

use std::collections::{BTreeMap, btree_map::Entry};

use crate::{
    digest::Digest,
    name::Name,
    registry::upkeep::listing::Youngest,
    store::{Meta, document::Reason, key::Key},
    time::Timestamp,
};

/// What a listing has of one blob.
pub(super) struct Nominee {
    pub(super) digest: Digest,
    /// Its object, with the size of the blob that it is or stands for.
    pub(super) blob: Option<(Meta, u64)>,
    pub(super) is_marked: bool,
    /// Whether a grant was seen that stays.
    pub(super) is_held: bool,
    /// Repositories with an old link and no grant.
    pub(super) linked: Vec<Name>,
    /// When the youngest of what is derived from it was written.
    pub(super) derived: Option<Timestamp>,
}

/// What a listing has of one blob in one repository.
#[derive(Default)]
pub(super) struct Hold {
    pub(super) name: Option<Name>,
    pub(super) grants: u64,
    pub(super) has_old_link: bool,
    /// The youngest grant for each manifest that was pushed and has one.
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

impl Hold {
    /// Notes a grant that stays. Returns the older one of it and the youngest so far for the same
    /// manifest, if that is past the grace period.
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

/// Which manifests are stored, by looks that came after the grants had been listed.
#[derive(Default)]
pub(super) struct Looks {
    pub(super) page: u64,
    pub(super) stored: BTreeMap<Key, bool>,
}

/// The most manifests of a repository that are told apart, where they have one blob in common.
const MAX_MANIFESTS: usize = 10_000;
