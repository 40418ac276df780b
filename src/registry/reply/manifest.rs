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

/// The most manifests that the response to a push names as absent, one warning each: together some
/// 3 KiB of the 4 KiB that a client must accept (distribution-spec v1.1.1, "Warnings").
const MAX_WARNINGS: usize = 20;

/// 201, with the names that the push has set (end-7), and a warning for each manifest that a sparse
/// index lacks.
pub(in crate::registry) fn pushed<S, Y>(
    name: &Name,
    names: Names<'_>,
    pushed: &Pushed,
) -> Response<Body<S, Y>> {
    let Pushed {
        digest,
        subject,
        absent,
    } = pushed;
    let location = format!("/v2/{name}/manifests/{digest}");
    let mut response = respond_with_location(StatusCode::CREATED, &location, digest);
    let headers = response.headers_mut();
    for tag in names.tags {
        headers.append(OCI_TAG, value(tag.as_str()));
    }
    if let Some(subject) = subject {
        headers.insert(OCI_SUBJECT, value(&subject.to_string()));
    }
    let mut warn =
        |text: String| headers.append(header::WARNING, value(&format!("299 - \"{text}\"")));
    for digest in absent.iter().take(MAX_WARNINGS) {
        warn(format!(
            "the index lists {digest}, which is not in the repository"
        ));
    }
    if absent.len() > MAX_WARNINGS {
        warn(format!("and {} more", absent.len() - MAX_WARNINGS));
    }
    response
}
