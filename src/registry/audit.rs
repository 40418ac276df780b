//! The audit: a log line for each change of the registry's content,
//! and for each request that was refused.
//!
//! It is written at every level of `STRATA_LOG`, and has the user, the change, the address, and the
//! id of the request.
//! Names that a client claims without signing in are left out: some clients send a password in the
//! name's place.

use http::StatusCode;

use crate::{
    host::{Level, Log as _},
    platform::Platform,
    registry::{Registry, about::About, reply::ResponseOf, request::Request},
};

impl<P: Platform> Registry<P> {
    /// Writes the line of a request, if it has one.
    pub(super) fn audit(
        &self,
        about: &About<'_>,
        request: &Request<P::Body>,
        response: &ResponseOf<P>,
    ) {
        let status = response.status();
        let is_refused = matches!(
            status,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS
        );
        // Every client first asks without credentials how to sign in.
        let is_greeting = about.is_version && !request.is_signed();
        let (what, of) = match &about.change {
            _ if is_refused && is_greeting => return,
            change if is_refused => ("refused", change.as_ref().map_or("", |change| &change.of)),
            Some(change) if change.statuses.contains(&status) => (change.what, change.of.as_str()),
            _ => return,
        };
        let fields = [
            ("request", about.id),
            ("user", &*about.user.borrow()),
            ("address", &request.address),
            ("what", what),
            ("method", request.method.as_str()),
            ("route", about.route),
            (
                "repository",
                about.repository.as_deref().unwrap_or_default(),
            ),
            ("of", of),
            ("status", status.as_str()),
        ];
        self.host.log(Level::Info, "audit", &fields);
    }
}
