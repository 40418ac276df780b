//! Responses that are lists: the catalogue, tags (end-8), referrers (end-12).

use form_urlencoded::byte_serialize;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use serde_json::json;

use crate::{
    error::Error,
    manifest::OCI_INDEX,
    name::Name,
    registry::{
        body::Body,
        headers::OCI_FILTERS_APPLIED,
        list::{Catalogue, ListPage, WantedReferrers},
        reply::{link_next, respond_with_json},
    },
    route,
    store::document::{Referrer, to_json},
};

/// The client's name for a repository, which may differ from the registry's name for it.
#[derive(Clone, Copy, Debug)]
pub(in crate::registry) struct Called<'a> {
    pub(in crate::registry) name: &'a Name,
    /// Path and query of the request.
    pub(in crate::registry) target: &'a str,
}

impl Called<'_> {
    /// The address of another page.
    fn page(&self, path: &str, query: &str) -> String {
        let mut target = format!("/v2/{}/{path}?{query}", self.name);
        if let Some(namespace) = route::namespace(self.target) {
            target.push_str("&ns=");
            target.extend(byte_serialize(namespace.as_bytes()));
        }
        target
    }
}

/// Names of repositories, and the upstreams of those that are mirrored.
pub(in crate::registry) fn repositories<S, Y>(catalogue: Catalogue) -> Response<Body<S, Y>> {
    let Catalogue {
        names,
        mirrored,
        next,
    } = catalogue;
    let mut body = json!({ "repositories": names });
    if let (Some(body), false) = (body.as_object_mut(), mirrored.is_empty()) {
        body.insert("mirrored".to_owned(), json!(mirrored));
    }
    let mut response = respond_with_json(StatusCode::OK, body.to_string());
    if let Some(next) = next {
        link_next(&mut response, &format!("/v2/_catalog?{next}"));
    }
    response
}

/// Tags.
pub(in crate::registry) fn tags<S, Y>(
    called: Called<'_>,
    page: &ListPage<String>,
) -> Response<Body<S, Y>> {
    let body = json!({ "name": called.name.as_str(), "tags": page.entries });
    let mut response = respond_with_json(StatusCode::OK, body.to_string());
    if let Some(next) = &page.next {
        link_next(&mut response, &called.page("tags/list", next));
    }
    response
}

/// Referrers.
pub(in crate::registry) fn referrers<S, Y>(
    called: Called<'_>,
    wanted: &WantedReferrers<'_>,
    page: &ListPage<Referrer>,
) -> Result<Response<Body<S, Y>>, Error> {
    let body = ReferrersList {
        schema_version: 2,
        media_type: OCI_INDEX,
        manifests: &page.entries,
    };
    let mut response = respond_with_json(StatusCode::OK, to_json(&body)?);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(OCI_INDEX));
    if wanted.artifact_type.is_some() {
        let applied = HeaderValue::from_static("artifactType");
        headers.insert(OCI_FILTERS_APPLIED, applied);
    }
    if let Some(next) = &page.next {
        let path = format!("referrers/{}", wanted.subject);
        link_next(&mut response, &called.page(&path, next));
    }
    Ok(response)
}

/// A list of referrers, as clients read it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReferrersList<'a> {
    schema_version: u32,
    media_type: &'static str,
    manifests: &'a [Referrer],
}
