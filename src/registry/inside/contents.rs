//! The table of contents of a layer.

use http::{StatusCode, header};
use serde_json::json;

use crate::{
    digest::Digest,
    layer::{
        entry::Entry,
        index, json,
        tree::{self},
    },
    name::Name,
    platform::Platform,
    registry::{
        blob::IMMUTABLE,
        inside::{
            Inside,
            file::{MAX_PAGE, indexing, is_same, unchanged},
            layer::Opened,
            stack::Stack,
        },
        reply::{Answer, bytes, link_next, page_limit, respond_with_json, value},
        request::Request,
    },
    route::PathPage,
    store::trace::Trace,
};

impl<P: Platform> Inside<P> {
    /// The table of contents of a layer.
    pub(in crate::registry) async fn layer_contents(
        &self,
        request: &Request<P::Body>,
        name: &Name,
        digest: &Digest,
        prefix: &[u8],
        page: &PathPage,
        trace: &Trace<P::Bytes>,
    ) -> Answer<P> {
        let layer = match self.open_layer(name, digest, trace).await? {
            Opened::Layer(layer) => layer,
            Opened::Indexing(progress) => return Ok(indexing(digest, progress)),
        };
        self.metrics.layer_read(digest);
        let etag = format!("\"{digest}/{}\"", index::VERSION);
        if is_same(request, &etag) {
            return Ok(unchanged(&etag, IMMUTABLE));
        }
        let limit = page_limit(page.limit, MAX_PAGE);
        let mut from = page.last.clone().map_or_else(
            || prefix.to_vec(),
            |mut last| {
                last.push(0);
                last.max(prefix.to_vec())
            },
        );
        let mut stack = Stack::new(self, name, trace);
        stack.push(layer.clone()).await?;
        let (mut entries, mut last, mut more) = (Vec::new(), None, false);
        let mut weight = 0;
        while let Some(found) = stack.find(0, &from).await? {
            let Some(path) = found.first().map(|entry| entry.path.clone()) else {
                break;
            };
            if !path.starts_with(prefix) {
                break;
            }
            // Entries of one path are never parted, and count as one.
            more = entries.len() >= limit
                || weight > tree::MAX_WEIGHT
                || (last.is_some() && stack.spent().is_page_spent());
            if more {
                break;
            }
            weight += found.iter().map(Entry::weight).sum::<usize>();
            entries.extend(found.iter().map(json::describe_entry));
            from.clone_from(&path);
            from.push(0);
            last = Some(path);
        }
        let index = &layer.index;
        let body = json!({
            "digest": digest.to_string(),
            "diffId": index.diff_id.to_string(),
            "compression": index.compression.name(),
            "size": index.compressed,
            "inflatedSize": index.inflated,
            "indexSize": index.size(),
            "spanSize": index.span,
            "spans": index.spans.len(),
            "entryCount": index.entries,
            "entries": entries,
        });
        let mut response = respond_with_json(StatusCode::OK, bytes(&body));
        let headers = response.headers_mut();
        headers.insert(header::ETAG, value(&etag));
        headers.insert(header::CACHE_CONTROL, IMMUTABLE);
        if let (true, Some(last)) = (more, last) {
            let mut target = format!("/v2/{name}/_strata/layers/{digest}?n={limit}");
            if !prefix.is_empty() {
                target.push_str(&format!("&prefix={}", json::encode(prefix)));
            }
            target.push_str(&format!("&last={}", json::encode(&last)));
            link_next(&mut response, &target);
        }
        Ok(response)
    }
}
