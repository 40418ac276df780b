//! The table of contents of a layer.

use serde_json::json;

use crate::{
    digest::Digest,
    error::Error,
    layer::{
        entry::Entry,
        index, json,
        tree::{self},
    },
    name::Name,
    platform::Platform,
    registry::{
        inside::{
            Inside,
            file::MAX_PAGE,
            inspection::{EntryPage, Inspection},
            layer::Opened,
            stack::Stack,
        },
        pull::Pull,
        request::page_limit,
    },
    route::PathPage,
    store::trace::Trace,
};

impl<P: Platform> Inside<P> {
    /// The table of contents of a layer.
    pub(in crate::registry) async fn layer_contents(
        &self,
        pull: &Pull<'_>,
        name: &Name,
        digest: &Digest,
        prefix: &[u8],
        page: &PathPage,
        trace: &Trace<P::Bytes>,
    ) -> Result<Inspection<P>, Error> {
        let layer = match self.open_layer(name, digest, trace).await? {
            Opened::Layer(layer) => layer,
            Opened::Indexing(progress) => {
                return Ok(Inspection::Indexing(digest.clone(), progress));
            }
        };
        self.metrics.layer_read(digest);
        let etag = format!("\"{digest}/{}\"", index::VERSION);
        if pull.has(&etag) {
            return Ok(Inspection::Unchanged(etag));
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
            // Entries of one path are never split between pages, and count as one.
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
        let next = last.filter(|_| more).map(|last| {
            let prefix = match prefix {
                [] => String::new(),
                prefix => format!("&prefix={}", json::encode(prefix)),
            };
            format!("n={limit}{prefix}&last={}", json::encode(&last))
        });
        Ok(Inspection::EntryPage(EntryPage {
            body,
            etag: Some(etag),
            next,
        }))
    }
}
