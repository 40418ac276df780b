//! Responses about manifests: end-3, end-7.

use http::{HeaderMap, HeaderName, Response, StatusCode, header};

use crate::{
    digest::Digest,
    name::{Name, Reference},
    platform::Platform,
    registry::{
        body::Body,
        headers::{etag, value},
        manifest::push::{Names, Pushed},
        pull::{Pull, Pulled, Selected},
        reply::{
            IMMUTABLE, REVALIDATED, ResponseOf, describe_content, respond_with_location,
            respond_with_pulled,
        },
    },
    store::{Bytes as _, warm::TierContent},
};

/// Confirms that the registry lists a manifest among the referrers of this one (end-7).
const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

/// Confirms that a tag named in the query was set (end-7b).
const OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");

/// A manifest (end-3), unless the client has it.
pub(in crate::registry) fn pulled<P: Platform>(
    pull: &Pull<'_>,
    reference: &Reference,
    digest: &Digest,
    content: &TierContent<P::Bytes>,
) -> ResponseOf<P> {
    let mut headers = HeaderMap::new();
    describe_content(&mut headers, digest, &content.media_type);
    let cache = match reference {
        Reference::Digest(_) => IMMUTABLE,
        Reference::Tag(_) => REVALIDATED,
    };
    headers.insert(header::CACHE_CONTROL, cache);
    let pulled = if pull.has(&etag(digest)) {
        Pulled::<P> {
            selected: Selected::Nothing,
            body: Body::Empty,
        }
    } else {
        Pulled {
            selected: Selected::All(content.bytes.len()),
            body: Body::Held(content.bytes.clone()),
        }
    };
    respond_with_pulled(pulled, headers)
}

/// 201, with the names that the push has set (end-7).
pub(in crate::registry) fn pushed<S, Y>(
    name: &Name,
    names: Names<'_>,
    Pushed { digest, subject }: &Pushed,
) -> Response<Body<S, Y>> {
    let location = format!("/v2/{name}/manifests/{digest}");
    let mut response = respond_with_location(StatusCode::CREATED, &location, digest);
    let headers = response.headers_mut();
    for tag in names.tags {
        headers.append(OCI_TAG, value(tag.as_str()));
    }
    if let Some(subject) = subject {
        headers.insert(OCI_SUBJECT, value(&subject.to_string()));
    }
    response
}
