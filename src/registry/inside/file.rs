//! Looking into layers and images: tables of contents, files and directories (an extension, docs/extension.md).

use std::rc::Rc;

use futures_util::{StreamExt as _, TryStreamExt as _};
use http::{HeaderValue, Method, Response, StatusCode, header};
use serde_json::{Map, Value, json};

use crate::{
    digest::Digest,
    error::{Code, Error},
    host::Random as _,
    layer::{
        entry::{Entry, EntryKind},
        file::File,
        json,
        tree::{self, Follow, Found, Sited},
    },
    name::Name,
    platform::Platform,
    range::{ByteRange, Selection},
    registry::{
        blob::IMMUTABLE,
        inside::{
            Inside,
            layer::{Layer, Opened, Progress, Reading},
            media_type::describe_file,
            sparse::{bounds, weave},
            stack::{Stack, spent},
        },
        reply::{Answer, Body, bytes, link_next, page_limit, respond, respond_with_json, value},
        request::{Request, text},
    },
    route::PathPage,
    store::{Made, Piece, bucket::Part, trace::Trace},
};

impl<P: Platform> Inside<P> {
    /// A file of a layer, or what is in one of its directories.
    pub(in crate::registry) async fn layer_file(
        self: &Rc<Self>,
        request: &Request<P::Body>,
        name: &Name,
        digest: &Digest,
        path: &[u8],
        page: &PathPage,
        trace: &Trace<P::Bytes>,
    ) -> Answer<P> {
        tree::check_path(path).map_err(refused)?;
        let mut stack = Stack::new(self, name, trace);
        match self.open_layer(name, digest, trace).await? {
            Opened::Layer(layer) => stack.push(layer).await?,
            Opened::Indexing(progress) => return Ok(indexing(digest, progress)),
        }
        let place = format!("/v2/{name}/_strata/layers/{digest}/files/");
        self.file(request, &stack, &place, "", path, page, IMMUTABLE, trace)
            .await
    }

    /// Answers what is at a path of layers over each other. `place` and `query` are what its address begins and ends with.
    #[expect(
        clippy::too_many_arguments,
        reason = "each says another thing of one reply"
    )]
    pub(super) async fn file(
        self: &Rc<Self>,
        request: &Request<P::Body>,
        stack: &Stack<'_, P>,
        place: &str,
        query: &str,
        path: &[u8],
        page: &PathPage,
        cache: HeaderValue,
        trace: &Trace<P::Bytes>,
    ) -> Answer<P> {
        if path.is_empty() || path.ends_with(b"/") {
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
            let mut response = respond_with_json(StatusCode::OK, bytes(&body.into()));
            response.headers_mut().insert(header::CACHE_CONTROL, cache);
            if let (true, Some(last)) = (listed.more, &listed.last) {
                let target = format!(
                    "{place}{}?n={limit}&last={}{query}",
                    json::encode(path),
                    json::encode(last)
                );
                link_next(&mut response, &target);
            }
            return Ok(response);
        }
        let found = tree::resolve(stack, path, Follow::All)
            .await
            .map_err(refused)?;
        let Some(Sited { layer, entry }) = found.file().filter(|_| !found.node.is_directory())
        else {
            return Err(is_directory(&found));
        };
        if entry.kind != EntryKind::File {
            let what = entry.kind.name();
            let error = format!(
                "{} is a {what}, which has no bytes",
                json::lossy(&found.path)
            );
            return Err(
                Error::new(Code::FileUnknown, error).with_status(StatusCode::UNPROCESSABLE_ENTITY)
            );
        }
        let layer = stack.layer(*layer).await?;
        self.metrics.layer_read(&layer.digest);
        self.file_bytes(request, &layer, entry, trace, cache).await
    }

    /// Answers the bytes of a file, or what is selected of them.
    async fn file_bytes(
        self: &Rc<Self>,
        request: &Request<P::Body>,
        layer: &Rc<Layer<P::Bytes>>,
        entry: &Entry,
        trace: &Trace<P::Bytes>,
        cache: HeaderValue,
    ) -> Answer<P> {
        let etag = format!("\"{}/{}\"", layer.digest, entry.offset);
        if is_same(request, &etag) {
            return Ok(unchanged(&etag, cache));
        }
        let size = entry.size;
        let (mut status, mut ranges) = select(request, &etag, size)?;
        let file = File::from(entry);
        let mut reading = Reading::default();
        if request.method == Method::GET {
            let parts: Vec<_> = ranges
                .iter()
                .map(|range| file.archive(&bounds(*range)))
                .collect();
            let whole = file.bytes();
            match self.reading(layer, &parts, &whole, trace).await? {
                Some(found) => reading = found,
                // Ranges so far apart ask for more work than all of it, which may be answered (RFC 9110, section 14.2).
                None => (status, ranges) = (StatusCode::OK, all_of(size)),
            }
        }
        let mut response = respond(status);
        let headers = response.headers_mut();
        let media_type = describe_file(headers, &entry.path);
        headers.insert(header::ETAG, value(&etag));
        headers.insert(header::CACHE_CONTROL, cache);
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        let mut length = 0;
        let mut pieces = Vec::new();
        match ranges.as_slice() {
            [] => {}
            [range] => {
                if status == StatusCode::PARTIAL_CONTENT {
                    let range = value(&format!("bytes {range}/{size}"));
                    headers.insert(header::CONTENT_RANGE, range);
                }
                length = range.length();
                if request.method == Method::GET {
                    pieces = self.read_file(layer, &file, *range, &reading)?;
                }
            }
            several => {
                let boundary = self.host.nonce();
                let multipart = format!("multipart/byteranges; boundary={boundary}");
                headers.insert(header::CONTENT_TYPE, value(&multipart));
                for range in several {
                    let head = format!(
                        "\r\n--{boundary}\r\ncontent-type: {media_type}\r\ncontent-range: bytes {range}/{size}\r\n\r\n"
                    );
                    length = length.saturating_add(head.len() as u64 + range.length());
                    pieces.push(Part::Piece(Piece::Bytes(head.into_bytes())));
                    pieces.extend(self.read_file(layer, &file, *range, &reading)?);
                }
                let tail = format!("\r\n--{boundary}--\r\n");
                length = length.saturating_add(tail.len() as u64);
                pieces.push(Part::Piece(Piece::Bytes(tail.into_bytes())));
            }
        }
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        if let Some(body) = self.blobs.open(pieces, length).await? {
            *response.body_mut() = body;
        }
        Ok(response)
    }

    /// A range of a file, as pieces of a reply.
    fn read_file(
        self: &Rc<Self>,
        layer: &Rc<Layer<P::Bytes>>,
        file: &File,
        range: ByteRange,
        reading: &Reading<P::Bytes>,
    ) -> Result<Parts<P>, Error> {
        let bytes = file.archive(&bounds(range));
        let made = match (&file.segments, reading) {
            (None, Reading::Held(held, None)) => {
                return layer
                    .held(&bytes, held)
                    .map(|bytes| Ok(Part::Piece(Piece::Held(bytes?))))
                    .collect();
            }
            (None, Reading::Held(..) | Reading::Passing(_)) => self.archive(layer, bytes, reading),
            (Some(segments), _) => {
                weave(self.archive(layer, bytes, reading), segments.clone(), range)
            }
        };
        let made = Made(made.map_ok(Piece::Held).boxed_local());
        Ok(vec![Part::Piece(Piece::Made(made))])
    }
}

/// The parts of a reply, in their order.
type Parts<P> = Vec<Part<<P as Platform>::Body, <P as Platform>::Bytes>>;

/// The ranges that a request selects of a file, and the status of the response.
fn select<B>(
    request: &Request<B>,
    etag: &str,
    size: u64,
) -> Result<(StatusCode, Vec<ByteRange>), Error> {
    let condition = text(&request.headers, header::IF_RANGE);
    let range = text(&request.headers, header::RANGE)
        .filter(|_| request.method == Method::GET)
        .filter(|_| condition.is_none_or(|condition| condition == etag));
    match Selection::of(range, size) {
        Selection::All => Ok((StatusCode::OK, all_of(size))),
        Selection::Ranges(ranges) => Ok((StatusCode::PARTIAL_CONTENT, ranges)),
        Selection::Unsatisfiable => {
            let found = format!("range outside of the file's {size} bytes");
            let error = Error::new(Code::SizeInvalid, found)
                .with_status(StatusCode::RANGE_NOT_SATISFIABLE)
                .with_header(header::CONTENT_RANGE, value(&format!("bytes */{size}")));
            Err(error)
        }
    }
}

/// All bytes of a file; none if it has none.
fn all_of(size: u64) -> Vec<ByteRange> {
    let last = size.checked_sub(1);
    last.and_then(|last| ByteRange::new(0, last))
        .into_iter()
        .collect()
}

/// The answer while a layer is being indexed.
pub(super) fn indexing<S, Y>(digest: &Digest, progress: Progress) -> Response<Body<S, Y>> {
    #[expect(
        clippy::cast_precision_loss,
        reason = "it is shown, and not reckoned with"
    )]
    let fraction = progress.read as f64 / progress.size.max(1) as f64;
    let body = json!({
        "digest": digest.to_string(),
        "state": "indexing",
        "read": progress.read,
        "size": progress.size,
        "fraction": fraction,
    });
    let mut response = respond_with_json(StatusCode::ACCEPTED, bytes(&body));
    let headers = response.headers_mut();
    headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

pub(super) fn is_same<B>(request: &Request<B>, etag: &str) -> bool {
    text(&request.headers, header::IF_NONE_MATCH).is_some_and(|tags| {
        tags.split(',')
            .map(str::trim)
            .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
    })
}

pub(super) fn unchanged<S, Y>(etag: &str, cache: HeaderValue) -> Response<Body<S, Y>> {
    let mut response = respond(StatusCode::NOT_MODIFIED);
    let headers = response.headers_mut();
    headers.insert(header::ETAG, value(etag));
    headers.insert(header::CACHE_CONTROL, cache);
    response
}

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

fn is_directory(found: &Found) -> Error {
    let path = json::lossy(&found.path);
    let error = format!("{path} is a directory, ask for {path}/ to list it");
    Error::new(Code::FileUnknown, error).with_status(StatusCode::UNPROCESSABLE_ENTITY)
}

/// The most paths or names of one page.
pub(super) const MAX_PAGE: u64 = 1_000;
