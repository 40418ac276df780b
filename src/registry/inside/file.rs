//! Reading layers and images: tables of contents, files and directories (an extension,
//! docs/extension.md).

use std::rc::Rc;

use futures_util::{StreamExt as _, TryStreamExt as _};
use http::StatusCode;
use serde_json::{Map, Value};

use crate::{
    digest::Digest,
    error::{Code, Error},
    host::Random as _,
    layer::{
        entry::{Entry, EntryKind},
        file::File,
        json,
        tree::{self, FollowLinks, Resolved, Sited},
    },
    name::Name,
    platform::Platform,
    range::ByteRange,
    registry::{
        body::Body,
        inside::{
            Inside,
            index::gone,
            inspection::{EntryPage, Inspection},
            layer::{Layer, Opened, SpanRead},
            media_type::media_type,
            sparse::{bounds, weave},
            stack::{Stack, spent},
        },
        pull::{Multipart, Pull, Pulled, Selected},
        request::page_limit,
    },
    route::PathPage,
    store::{Made, Piece, bucket::StreamPart, trace::Trace},
};

impl<P: Platform> Inside<P> {
    /// A file of a layer, or the entries of one of its directories.
    pub(in crate::registry) async fn layer_file(
        self: &Rc<Self>,
        pull: &Pull<'_>,
        name: &Name,
        digest: &Digest,
        path: &[u8],
        page: &PathPage,
        trace: &Trace<P::Bytes>,
    ) -> Result<Inspection<P>, Error> {
        tree::check_path(path).map_err(refused)?;
        let mut stack = Stack::new(self, name, trace);
        match self.open_layer(name, digest, trace).await? {
            Opened::Layer(layer) => stack.push(layer).await?,
            Opened::Indexing(progress) => {
                return Ok(Inspection::Indexing(digest.clone(), progress));
            }
        }
        self.file(pull, &stack, path, page, trace).await
    }

    /// The file or directory at a path of stacked layers.
    pub(super) async fn file(
        self: &Rc<Self>,
        pull: &Pull<'_>,
        stack: &Stack<'_, P>,
        path: &[u8],
        page: &PathPage,
        trace: &Trace<P::Bytes>,
    ) -> Result<Inspection<P>, Error> {
        if path.is_empty() || path.ends_with(b"/") {
            return self.directory(stack, path, page).await;
        }
        let found = tree::resolve(stack, path, FollowLinks::All)
            .await
            .map_err(refused)?;
        let Some(Sited { layer, entry }) = found.file().filter(|_| !found.node.is_directory())
        else {
            return Err(is_directory(&found));
        };
        if entry.kind != EntryKind::File {
            let what = entry.kind.name();
            let error = format!(
                "{} is a {what} and has no content",
                json::lossy(&found.path)
            );
            return Err(
                Error::new(Code::FileUnknown, error).with_status(StatusCode::UNPROCESSABLE_ENTITY)
            );
        }
        let layer = stack.layer(*layer).await?;
        self.metrics.layer_read(&layer.digest);
        self.file_bytes(pull, &layer, entry, trace).await
    }

    /// A page of the entries of a directory of stacked layers.
    async fn directory(
        &self,
        stack: &Stack<'_, P>,
        path: &[u8],
        page: &PathPage,
    ) -> Result<Inspection<P>, Error> {
        let limit = page_limit(page.limit, MAX_PAGE);
        let last = page.last.as_deref();
        let listed = tree::list(stack, path, last, limit)
            .await
            .map_err(refused)?;
        for digest in stack.digests() {
            self.metrics.layer_read(digest);
        }
        let digests: Vec<_> = stack.digests().map(ToString::to_string).collect();
        let children: Vec<Value> = listed
            .children
            .iter()
            .map(|child| json::describe_child(child, |layer| digests.get(layer).cloned()))
            .collect();
        let mut body = Map::new();
        json::insert_path(&mut body, "path", path);
        body.insert("children".to_owned(), children.into());
        let last = listed.last.filter(|_| listed.more);
        Ok(Inspection::EntryPage(EntryPage {
            body: body.into(),
            etag: None,
            next: last.map(|last| format!("n={limit}&last={}", json::encode(&last))),
        }))
    }

    /// The bytes of a file, or the selected ranges of them.
    async fn file_bytes(
        self: &Rc<Self>,
        pull: &Pull<'_>,
        layer: &Rc<Layer<P::Bytes>>,
        entry: &Entry,
        trace: &Trace<P::Bytes>,
    ) -> Result<Inspection<P>, Error> {
        let etag = format!("\"{}/{}\"", layer.digest, entry.offset);
        if pull.has(&etag) {
            return Ok(Inspection::Unchanged(etag));
        }
        let size = entry.size;
        let ranges = pull.select("file", &etag, size)?;
        let Some(all) = ByteRange::all(size).filter(|_| !pull.is_head) else {
            return Ok(Inspection::File {
                path: entry.path.clone(),
                etag,
                pulled: Pulled {
                    selected: Selected::All(size),
                    body: Body::Empty,
                },
            });
        };
        let file = File::from(entry);
        let (ranges, reading) = self.file_reading(layer, &file, ranges, all, trace).await?;
        let read = |range: &ByteRange| self.read_file(layer, &file, *range, &reading);
        let (selected, parts, length) = match ranges.as_deref() {
            None => (Selected::All(size), read(&all)?, size),
            Some([range]) => (Selected::Range(*range, size), read(range)?, range.length()),
            Some(several) => {
                let mut body = Multipart::new(self.host.nonce());
                for range in several {
                    body.push(media_type(&entry.path), *range, size, read(range)?);
                }
                let (parts, length, boundary) = body.end();
                (Selected::Ranges(boundary, length), parts, length)
            }
        };
        let body = self.blobs.open(parts, length).await?;
        let body = body.ok_or_else(|| gone(&layer.digest))?;
        Ok(Inspection::File {
            path: entry.path.clone(),
            etag,
            pulled: Pulled { selected, body },
        })
    }

    /// Decides which ranges of a file are read, and how.
    /// If the ranges take more work than the whole file, the whole file is sent, as RFC 9110,
    /// section 14.2, allows.
    async fn file_reading(
        &self,
        layer: &Rc<Layer<P::Bytes>>,
        file: &File,
        ranges: Option<Vec<ByteRange>>,
        all: ByteRange,
        trace: &Trace<P::Bytes>,
    ) -> Result<(Option<Vec<ByteRange>>, SpanRead<P::Bytes>), Error> {
        let archive = |range: &ByteRange| file.archive(&bounds(*range));
        let whole = file.bytes();
        if let Some(ranges) = ranges {
            let parts: Vec<_> = ranges.iter().map(archive).collect();
            if let Some(reading) = self.reading(layer, &parts, &whole, trace).await? {
                return Ok((Some(ranges), reading));
            }
        }
        let reading = self.reading(layer, &[archive(&all)], &whole, trace).await?;
        // A single range is never refused.
        Ok((None, reading.ok_or_else(|| gone(&layer.digest))?))
    }

    /// A range of a file, as pieces of a reply.
    fn read_file(
        self: &Rc<Self>,
        layer: &Rc<Layer<P::Bytes>>,
        file: &File,
        range: ByteRange,
        reading: &SpanRead<P::Bytes>,
    ) -> Result<StreamParts<P>, Error> {
        let bytes = file.archive(&bounds(range));
        let made = match (&file.segments, reading) {
            (None, SpanRead::Held(held, None)) => {
                return layer
                    .held(&bytes, held)
                    .map(|bytes| Ok(StreamPart::Piece(Piece::Held(bytes?))))
                    .collect();
            }
            (None, SpanRead::Held(..) | SpanRead::Passing(_)) => {
                self.archive(layer, bytes, reading)
            }
            (Some(segments), _) => {
                weave(self.archive(layer, bytes, reading), segments.clone(), range)
            }
        };
        let made = Made(made.map_ok(Piece::Held).boxed_local());
        Ok(vec![StreamPart::Piece(Piece::Made(made))])
    }
}

/// The parts of a reply, in their order.
type StreamParts<P> = Vec<StreamPart<<P as Platform>::Body, <P as Platform>::Bytes>>;

pub(super) fn refused(error: tree::Error<Error>) -> Error {
    match error {
        tree::Error::Layers(error) => error,
        tree::Error::Spent(limit) => spent(limit),
        tree::Error::NotFound { .. }
        | tree::Error::Dangling { .. }
        | tree::Error::NotADirectory { .. } => Error::new(Code::FileUnknown, error.to_string()),
        tree::Error::Loop { .. } | tree::Error::Through { .. } | tree::Error::TooLong { .. } => {
            Error::new(Code::FileUnknown, error.to_string())
                .with_status(StatusCode::UNPROCESSABLE_ENTITY)
        }
    }
}

fn is_directory(found: &Resolved) -> Error {
    let path = json::lossy(&found.path);
    let error = format!("{path} is a directory; request {path}/ to list it");
    Error::new(Code::FileUnknown, error).with_status(StatusCode::UNPROCESSABLE_ENTITY)
}

/// The most paths or names of one page.
pub(super) const MAX_PAGE: u64 = 1_000;
