//! The audit: a line in the log for each change of what the registry holds, and for each request that was refused.
//!
//! It is written whatever `STRATA_LOG` says, and has who, what, from where, and the id of the request. Names that clients only
//! claim are not in it: some put a password where the name belongs.

use http::{Method, Response, StatusCode};

use crate::{
    host::{Host, Level},
    name::Tag,
    registry::{About, Body, Registry, Request},
    route::{Route, UploadStart},
    store::{Streams, Values},
};

/// What a request changes, if it succeeds.
#[derive(Clone, Debug)]
pub(super) struct Change {
    what: &'static str,
    of: String,
    /// The status of success: some requests succeed and change nothing yet.
    status: StatusCode,
}

impl Change {
    pub(super) fn of(route: &Route, method: &Method) -> Option<Self> {
        let change = |what, of: &dyn ToString, status| {
            Some(Self {
                what,
                of: of.to_string(),
                status,
            })
        };
        match (route, method.as_str()) {
            (
                Route::Manifest {
                    reference, tags, ..
                },
                "PUT",
            ) => {
                let mut named = reference.to_string();
                for tag in tags {
                    named.push(' ');
                    named.push_str(tag.as_str());
                }
                change("push manifest", &named, StatusCode::CREATED)
            }
            (Route::Manifest { reference, .. }, "DELETE") => {
                change("delete manifest", reference, StatusCode::ACCEPTED)
            }
            (Route::Invalidate { tag, .. }, "POST") => {
                let tag = tag.as_ref().map_or("", Tag::as_str);
                change("invalidate", &tag, StatusCode::ACCEPTED)
            }
            (Route::Sweep { is_dry: false, .. }, "POST") => change("sweep", &"", StatusCode::OK),
            (Route::Scrub { is_dry: false, .. }, "POST") => change("scrub", &"", StatusCode::OK),
            (Route::Blob { digest, .. }, "DELETE") => {
                change("delete blob", digest, StatusCode::ACCEPTED)
            }
            (
                Route::Upload {
                    digest: Some(digest),
                    ..
                },
                "PUT",
            )
            | (
                Route::StartUpload {
                    start: UploadStart::Whole(digest),
                    ..
                },
                "POST",
            ) => change("push blob", digest, StatusCode::CREATED),
            (
                Route::StartUpload {
                    start: UploadStart::Mount { digest, .. },
                    ..
                },
                "POST",
            ) => change("mount blob", digest, StatusCode::CREATED),
            _ => None,
        }
    }
}

impl<S: Streams, W: Values<Bytes = S::Bytes>, H: Host<Body = S::Body>> Registry<S, W, H> {
    /// Writes the line, where there is one to write.
    pub(super) fn audit(
        &self,
        about: &About<'_>,
        request: &Request<S::Body>,
        response: &Response<Body<S>>,
    ) {
        let status = response.status();
        let is_refused = matches!(
            status,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS
        );
        // Every client begins by asking how to sign in.
        let is_greeting = about.route == Route::Version.name() && !request.is_signed();
        let (what, of) = match &about.change {
            _ if is_refused && is_greeting => return,
            change if is_refused => ("refused", change.as_ref().map_or("", |change| &change.of)),
            Some(change) if change.status == status => (change.what, change.of.as_str()),
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
