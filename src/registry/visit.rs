//! Visits: the credentials and the address of a request, and the origin of the registry.

use http::header;

use crate::{
    access::Visit,
    registry::{headers::text, request::Request},
    settings::Settings,
};

/// The credentials and the address of a request.
pub(super) fn visit<'a, B>(settings: &'a Settings, request: &'a Request<B>) -> Visit<'a> {
    Visit {
        authorization: text(&request.headers, header::AUTHORIZATION),
        address: &request.address,
        origin: origin(settings, request),
        source: None,
    }
}

/// The origin by which clients reach the registry.
pub(super) fn origin<'a, B>(settings: &'a Settings, request: &'a Request<B>) -> &'a str {
    settings.origin.as_deref().unwrap_or(&request.origin)
}
