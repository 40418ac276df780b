//! Rights: which grants and links let a repository's callers read a blob, and the facts about
//! rights that only the search knows.
//!
//! A repository that the settings mirror reads by a grant `Filled`, or by a link that was written
//! for one. Any other repository reads by `Upload`, by `Filled`, by `Manifest` if that manifest is
//! stored, and by a link. `Claim` and `Mirrored` keep a blob and never give a right.

use crate::{
    model::Removal,
    rule::Rule,
    scenario::Scenario,
    store::{Blob, Body, Key, Manifest, Reason, Record, Repository, Right, Store},
};

/// The settings, and the facts about rights that only the search knows.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Known {
    /// The repositories that are mirrored by the settings, as bits.
    pub mirrored: u8,
    /// The repositories for which a blob's bytes were hashed, or which have it from such a
    /// repository: a bit for each of two blobs.
    hashed: u8,
    /// The manifests that were pushed to the first repository and accepted, as bits.
    pub pushed: u8,
    /// The blobs that were there while a stored manifest of the first repository named them, as
    /// bits.
    held: u8,
}

impl Known {
    /// The facts at the beginning of a scenario.
    pub fn new(scenario: &Scenario) -> Self {
        let mut known = Self {
            mirrored: scenario.mirrored,
            pushed: scenario.pushed,
            ..Self::default()
        };
        for (repository, blob) in scenario.hashed {
            known.hash(*repository, *blob);
        }
        known
    }

    /// Notes that a blob's bytes were hashed for a repository.
    pub fn hash(&mut self, repository: Repository, blob: Blob) {
        self.hashed |= bit(repository, blob);
    }

    /// Whether a blob's bytes were hashed for a repository, or for one that it has the blob from.
    pub const fn is_hashed(&self, repository: Repository, blob: Blob) -> bool {
        self.hashed & bit(repository, blob) != 0
    }

    /// Whether a blob was there while a stored manifest named it.
    pub const fn is_held(&self, blob: Blob) -> bool {
        self.held & 1 << blob.0 != 0
    }

    /// Notes which blobs are there while a stored manifest names them, and forgets those that none
    /// names any more.
    pub fn hold(&mut self, scenario: &Scenario, store: &Store) {
        let mut named = 0;
        for (key, _) in store.list() {
            if let Key::Manifest(Repository(0), manifest) = key {
                for blob in scenario.manifest(manifest).blobs {
                    named |= 1 << blob.0;
                    if store.record(*blob).is_some() {
                        self.held |= 1 << blob.0;
                    }
                }
            }
        }
        self.held &= named;
    }
}

const fn bit(repository: Repository, blob: Blob) -> u8 {
    1 << (repository.0 * 2 + blob.0)
}

/// Whether a repository is mirrored by these settings.
pub const fn is_mirrored(mirrored: u8, repository: Repository) -> bool {
    mirrored & 1 << repository.0 != 0
}

/// The effect of a grant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Given {
    /// A right.
    Right(Right),
    /// A right if this manifest is stored.
    IfStored(Manifest),
    /// No right.
    Nothing,
}

/// The effect of a grant in a repository, depending on whether it is mirrored.
pub fn given(reason: Reason, is_mirrored: bool, without: Option<Rule>) -> Given {
    let counts = !is_mirrored || without == Some(Rule::OldGrantsGiveNoRight);
    match reason {
        Reason::Filled => Given::Right(Right::Filled),
        Reason::Upload if counts => Given::Right(Right::Pushed),
        Reason::Manifest(manifest) if counts => Given::IfStored(manifest),
        Reason::Mirrored(manifest) if without == Some(Rule::MirroredGivesNoRight) => {
            Given::IfStored(manifest)
        }
        Reason::Claim if without == Some(Rule::ClaimGivesNoRight) => Given::Right(Right::Pushed),
        Reason::Upload | Reason::Manifest(_) | Reason::Mirrored(_) | Reason::Claim => {
            Given::Nothing
        }
    }
}

/// The record and the right of a link, if the link counts in a repository, depending on whether
/// that is mirrored.
pub fn believed(link: Body, is_mirrored: bool, without: Option<Rule>) -> Option<(Record, Right)> {
    let counts = !is_mirrored || without == Some(Rule::LinkSaysWhy);
    match link {
        Body::Link(record, Right::Filled) => Some((record, Right::Filled)),
        Body::Link(record, Right::Pushed) | Body::Record(record) if counts => {
            Some((record, Right::Pushed))
        }
        _ => None,
    }
}

/// Whether a repository has a right to a blob at this moment.
pub fn has_right(
    model: &Removal,
    store: &Store,
    mirrored: u8,
    repository: Repository,
    blob: Blob,
) -> bool {
    let is_mirrored = is_mirrored(mirrored, repository);
    let link = store.get(Key::Link(blob, repository));
    let is_linked =
        link.is_some_and(|link| believed(link.body, is_mirrored, model.without).is_some());
    is_linked
        || store.grants(blob).any(|(_, of, reason)| {
            of == repository
                && match given(reason, is_mirrored, model.without) {
                    Given::Right(_) => true,
                    Given::IfStored(manifest) => store.has(Key::Manifest(repository, manifest)),
                    Given::Nothing => false,
                }
        })
}
