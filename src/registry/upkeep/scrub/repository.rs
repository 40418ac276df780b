//! The state of a step of the scrub in one repository.

use std::collections::BTreeSet;

use crate::{digest::Digest, name::Name, registry::upkeep::step::What, store::key::Key};

/// The manifests that this step has seen in its current repository.
#[derive(Default)]
pub(super) struct Repository {
    name: Option<Name>,
    pub(super) manifests: BTreeSet<Digest>,
}

impl Repository {
    /// Begins a repository. If it is another one, the manifests of the last one are dropped.
    pub(super) fn enter(&mut self, name: &Name) {
        if self.name.as_ref() != Some(name) {
            *self = Self {
                name: Some(name.clone()),
                manifests: BTreeSet::new(),
            };
        }
    }
}

/// The most manifests of a repository that are kept.
pub(super) const MAX_MANIFESTS: usize = 10_000;

/// The kind of object at a key of `repositories/`.
pub(super) const fn what(key: &Key) -> What {
    match key {
        Key::Tag { .. } => What::Tag,
        Key::Referrer { .. } => What::Referrer,
        _ => What::Manifest,
    }
}
