//! Lists of mirrored repositories: tags (end-8) and referrers (end-12).
//!
//! They come from the upstream, or from the store if the upstream gives no answer.
//! Each request fetches its page; concurrent requests for the same page share one fetch, and
//! nothing is cached.

use std::rc::Rc;

use http::{HeaderMap, HeaderValue, header};
use serde::Deserialize;

use crate::{
    digest::Digest,
    error::{Code, Error},
    host::Clock as _,
    manifest::OCI_INDEX,
    name::{ParseTagError, Reference, Tag},
    platform::Platform,
    registry::{
        headers::{OCI_FILTERS_APPLIED, text},
        list::{ListPage, WantedReferrers, without_namespace},
        mirror::{
            Mirror,
            error::UpstreamError,
            pages::{Answered, Asked},
        },
    },
    store::{Bytes as _, document::Referrer, trace::Trace},
    tier::Tier,
    upstream::Mirrored,
};

/// The most bytes of a page.
const MAX_PAGE: u64 = 4 * 1024 * 1024;

impl<P: Platform> Mirror<P> {
    /// end-8, of a mirrored repository.
    pub(in crate::registry) async fn list_tags(
        &self,
        mirrored: &Mirrored,
        query: &str,
        limit: Option<u64>,
        last: Option<&Tag>,
        trace: &Trace<P::Bytes>,
    ) -> Result<Rc<ListPage<String>>, Error> {
        let start = self.host.now();
        let path = path("/tags/list", query);
        let key = format!("{} {path}", mirrored.name);
        let ask = async || self.fetch_page(mirrored, &path, JSON, read_tags).await;
        let asked = self.pages.tags.share(&key, &self.host, ask);
        let error = match asked.await {
            Ok(answered) => {
                trace.step("tags", Tier::Upstream, self.host.now().since(start));
                return Ok(answered.page.clone());
            }
            Err(error) => error,
        };
        if error.is_outage() || mirrored.upstream.serves_gone {
            let stored = self.lists.stored_tags(&mirrored.name, limit, last).await?;
            if let Some(page) = stored.filter(|page| !page.entries.is_empty()) {
                self.serve_stale(mirrored, &error, trace);
                trace.step("tags", Tier::Cold, self.host.now().since(start));
                return Ok(Rc::new(page));
            }
        }
        Err(error.answer(&mirrored.upstream, Code::NameUnknown))
    }

    /// end-12, of a mirrored repository. If the upstream lacks the end-point, the tag of the
    /// referrers tag schema is read instead.
    pub(in crate::registry) async fn list_referrers(
        &self,
        mirrored: &Mirrored,
        query: &str,
        wanted: &WantedReferrers<'_>,
        trace: &Trace<P::Bytes>,
    ) -> Result<ListPage<Referrer>, Error> {
        let start = self.host.now();
        let path = path(&format!("/referrers/{}", wanted.subject), query);
        let key = format!("{} {path}", mirrored.name);
        let ask = async || {
            self.fetch_page(mirrored, &path, OCI_INDEX, read_index)
                .await
        };
        let asked = self.pages.referrers.share(&key, &self.host, ask);
        let all = |entries: Vec<Referrer>| ListPage {
            entries,
            next: None,
            lease: None,
        };
        let error = match asked.await {
            Ok(answered) => {
                trace.step("referrers", Tier::Upstream, self.host.now().since(start));
                let has = |referrer: &&Referrer| answered.is_filtered || wanted.has(referrer);
                let referrers = answered.page.entries.iter().filter(has).cloned();
                return Ok(ListPage {
                    next: answered.page.next.clone(),
                    ..all(referrers.collect())
                });
            }
            Err(error) => error,
        };
        if !error.is_outage() {
            let tagged = self.tagged_referrers(mirrored, wanted, trace).await?;
            return Ok(all(tagged.unwrap_or_default()));
        }
        let mut stored = self.lists.list_referrers(&mirrored.name, wanted).await?;
        if stored.entries.is_empty() {
            let tagged = self.tagged_referrers(mirrored, wanted, trace).await;
            stored = all(tagged.ok().flatten().unwrap_or_default());
        } else {
            trace.step("referrers", Tier::Cold, self.host.now().since(start));
        }
        if stored.entries.is_empty() {
            // An outage must not look like an empty list to a client that asks for signatures.
            return Err(error.answer(&mirrored.upstream, Code::ManifestUnknown));
        }
        self.serve_stale(mirrored, &error, trace);
        Ok(stored)
    }

    /// Fetches a page of a list from the upstream.
    async fn fetch_page<T>(
        &self,
        mirrored: &Mirrored,
        path: &str,
        accept: &'static str,
        read: fn(&[u8]) -> Result<Vec<T>, String>,
    ) -> Asked<T> {
        let accept = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(accept))]);
        let (headers, bytes, _lease) = self
            .fetch_document(mirrored, path, accept, MAX_PAGE)
            .await?;
        let wrong = |found: String| {
            let what = path.split('?').next().unwrap_or_default();
            UpstreamError::Wrong(format!("{what}: {found}"))
        };
        let asked = path.split_once('?').map(|(_, query)| query);
        let applied = text(&headers, OCI_FILTERS_APPLIED).unwrap_or_default();
        let page = ListPage {
            entries: read(&bytes).map_err(wrong)?,
            // A next page that is this page again would never end.
            next: next_query(&headers).filter(|next| asked != Some(next)),
            lease: None,
        };
        Ok(Rc::new(Answered {
            page: Rc::new(page),
            is_filtered: applied
                .split(',')
                .any(|filter| filter.trim() == "artifactType"),
        }))
    }

    /// The referrers in the index of the referrers tag schema; `None` if there is no such tag.
    async fn tagged_referrers(
        &self,
        mirrored: &Mirrored,
        wanted: &WantedReferrers<'_>,
        trace: &Trace<P::Bytes>,
    ) -> Result<Option<Vec<Referrer>>, Error> {
        let reference = Reference::Tag(schema_tag(wanted.subject)?);
        let read = self.read_mirrored_manifest(mirrored, &reference, trace);
        let content = match read.await {
            Ok((_, content)) => content,
            Err(error) if error.code() == Code::ManifestUnknown => return Ok(None),
            Err(error) => return Err(error),
        };
        let referrers = read_index(&content.bytes.to_vec()).map_err(|found| {
            let error = UpstreamError::Wrong(format!("manifest {reference}: {found}"));
            error.answer(&mirrored.upstream, Code::ManifestUnknown)
        })?;
        let has = |referrer: &Referrer| wanted.has(referrer);
        Ok(Some(referrers.into_iter().filter(has).collect()))
    }
}

/// The media type of a list of tags.
const JSON: &str = "application/json";

fn path(end_point: &str, query: &str) -> String {
    if query.is_empty() {
        end_point.to_owned()
    } else {
        format!("{end_point}?{query}")
    }
}

/// The tag of the referrers tag schema, for registries without the end-point (distribution-spec,
/// "Referrers Tag Schema").
fn schema_tag(subject: &Digest) -> Result<Tag, ParseTagError> {
    let encoded = subject.encoded();
    let encoded = encoded.get(..64).unwrap_or(encoded);
    format!("{}-{encoded}", subject.algorithm()).parse()
}

/// The valid tags of a list.
fn read_tags(bytes: &[u8]) -> Result<Vec<String>, String> {
    #[derive(Deserialize)]
    struct List {
        // Registries in Go write null for an empty list.
        tags: Option<Vec<String>>,
    }
    let list: List = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let tags = list.tags.unwrap_or_default().into_iter();
    Ok(tags.filter(|tag| tag.parse::<Tag>().is_ok()).collect())
}

fn read_index(bytes: &[u8]) -> Result<Vec<Referrer>, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Index {
        schema_version: u32,
        media_type: Option<String>,
        manifests: Option<Vec<Referrer>>,
    }
    let index: Index = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let is_index = index.media_type.is_none_or(|found| found == OCI_INDEX);
    if index.schema_version != 2 || !is_index {
        return Err("not an OCI image index".to_owned());
    }
    let manifests = index.manifests.unwrap_or_default().into_iter();
    Ok(manifests.map(Referrer::with_strings).collect())
}

/// The query of the next page (RFC 8288). The rest of the upstream's link is ignored.
fn next_query(headers: &HeaderMap) -> Option<String> {
    let links = headers.get_all(header::LINK).iter();
    let mut links = links
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split('<').skip(1));
    links.find_map(|link| {
        let (target, parameters) = link.split_once('>')?;
        let is_next = parameters
            .split([';', ','])
            .any(|parameter| matches!(parameter.trim(), "rel=next" | "rel=\"next\""));
        let (_, query) = target.split_once('?').filter(|_| is_next)?;
        Some(without_namespace(query))
    })
}
