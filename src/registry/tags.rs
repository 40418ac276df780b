//! Listing tags: end-8.

use http::{StatusCode, header};
use serde_json::json;

use crate::{
    error::{Code, Error},
    host::Host,
    name::{Name, Tag},
    registry::{Answer, Registry, grant::from_json, manifest::TagTarget, respond_with_json, value},
    store::{Streams, key},
};

/// The most tags of one page: what the store lists in one operation.
const MAX_PAGE: u64 = 1_000;

impl<S: Streams, H: Host> Registry<S, H> {
    pub(super) async fn list_tags(
        &self,
        name: &Name,
        limit: Option<u64>,
        last: Option<&Tag>,
    ) -> Answer<S::Body> {
        let limit = usize::try_from(limit.unwrap_or(MAX_PAGE).min(MAX_PAGE)).unwrap_or_default();
        let prefix = key::tags(name);
        let mut after = last.map(|tag| key::tag(name, tag));
        let mut tags: Vec<String> = Vec::new();
        let mut more = limit == 0;
        while tags.len() < limit {
            let page = self
                .store
                .list(
                    &prefix,
                    after.as_deref(),
                    u32::try_from(limit - tags.len()).unwrap_or(u32::MAX),
                )
                .await?;
            for (key, meta) in &page.objects {
                // Tombstones stay for the sweep and are no tags.
                if let TagTarget::Manifest { .. } = from_json(key, &meta.metadata)? {
                    tags.extend(key.strip_prefix(&prefix).map(str::to_owned));
                }
            }
            more = page.truncated;
            after = page
                .objects
                .into_iter()
                .next_back()
                .map(|(key, _)| key)
                .or(after);
            if !more {
                break;
            }
        }
        if tags.is_empty()
            && last.is_none()
            && self.store.head(&key::catalog(name)).await?.is_none()
        {
            let error = Error::new(
                Code::NameUnknown,
                format!("no manifest was ever pushed to {name}"),
            );
            return Err(error.with_detail(json!({ "name": name.as_str() })));
        }
        let body = json!({ "name": name.as_str(), "tags": tags });
        let mut response = respond_with_json(StatusCode::OK, body.to_string().into_bytes());
        if let (true, Some(last)) = (more, tags.last()) {
            let link = format!("</v2/{name}/tags/list?n={limit}&last={last}>; rel=\"next\"");
            response.headers_mut().insert(header::LINK, value(&link));
        }
        Ok(response)
    }
}
