//! What the log, the metrics and the audit tell of a request.

use std::cell::RefCell;

use crate::{access::Caller, end_point::Change, name::Name};

/// What the log and the metrics say a request is about.
pub(super) struct About<'a> {
    pub(super) id: &'a str,
    pub(super) route: &'static str,
    /// The name by which the client asked for the repository.
    pub(super) asked: Option<&'a Name>,
    /// Whether it asks whether this is a registry, as every client does first.
    pub(super) is_version: bool,
    pub(super) repository: Option<String>,
    /// What it changes, if it succeeds.
    pub(super) change: Option<Change>,
    /// Who makes it; empty for who did not sign in.
    pub(super) user: RefCell<String>,
}

impl About<'_> {
    pub(super) fn made_by(&self, caller: &Caller) {
        self.user
            .replace(caller.user().unwrap_or_default().to_owned());
    }
}
