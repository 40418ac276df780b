//! What a step of the scrub knows of the repository that it is in.

use std::collections::BTreeSet;

use crate::{digest::Digest, name::Name, registry::upkeep::step::What, store::key::Key};

/// What this step knows of the repository that it is in.
#[derive(Default)]
pub(super) struct Repository {
    name: Option<Name>,
    pub(super) manifests: BTreeSet<Digest>,
}

impl Repository {
    /// Forgets the manifests of another repository.
    pub(super) fn enter(&mut self, name: &Name) {
        if self.name.as_ref() != Some(name) {
            *self = Self {
                name: Some(name.clone()),
                manifests: BTreeSet::new(),
            };
        }
    }
}

/// The most manifests of a repository that are remembered.
pub(super) const MAX_MANIFESTS: usize = 10_000;

/// The kind of what a key of `repositories/` has.
pub(super) const fn what(key: &Key) -> What {
    match key {
        Key::Tag { .. } => What::Tag,
        Key::Referrer { .. } => What::Referrer,
        _ => What::Manifest,
    }
}
