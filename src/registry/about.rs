//! The facts of a request for the log, the metrics and the audit.

use std::cell::{Cell, RefCell};

use crate::{access::Caller, end_point::Change, name::Name};

/// The facts of a request.
pub(super) struct About<'a> {
    pub(super) id: &'a str,
    pub(super) route: &'static str,
    /// The name of the repository in the client's request.
    pub(super) asked: Option<&'a Name>,
    /// Whether it is the request for the version, which every client sends first.
    pub(super) is_version: bool,
    pub(super) repository: Option<String>,
    /// The change that it makes, if it succeeds.
    pub(super) change: Option<Change>,
    /// The user; empty if the client did not sign in.
    pub(super) user: RefCell<String>,
    /// Whether the caller has the permission that the request needs.
    pub(super) is_admitted: Cell<bool>,
}

impl About<'_> {
    pub(super) fn made_by(&self, caller: &Caller) {
        self.user
            .replace(caller.user().unwrap_or_default().to_owned());
    }
}
