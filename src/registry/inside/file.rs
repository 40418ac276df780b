//! Looking into layers and images: tables of contents, files and directories (an extension, docs/extension.md).

use std::{ops::Range, rc::Rc};

use futures_util::{
    StreamExt as _, TryStreamExt as _,
    stream::{self, LocalBoxStream},
};
use http::{HeaderValue, Method, Response, StatusCode, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    digest::Digest,
    error::{Code, Error},
    host::Host as _,
    layer::{
        entry::{Entry, EntryKind, Segment},
        file::File,
        index, json,
        tree::{self, Follow, Found, Sited},
    },
    ledger::Memory,
    name::{Name, Reference},
    platform::Platform,
    range::{ByteRange, Selection},
    registry::{
        blob::IMMUTABLE,
        inside::stack::{Stack, spent},
        inside::{Inside, Layer, Opened, Progress, Reading},
        reply::{Answer, Body, bytes, link_next, page_limit, respond, respond_with_json, value},
        request::{Request, text},
    },
    route::PathPage,
    store::{Bytes as _, Made, Piece, StoreError, trace::Trace},
};

/// An image that was asked for.
pub(in crate::registry) struct ImageOf<'a> {
    pub(in crate::registry) name: &'a Name,
    pub(in crate::registry) reference: &'a Reference,
    pub(in crate::registry) platform: Option<&'a str>,
}

/// What is read of a manifest: of an image, or of an index of images.
#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    config: Option<Part>,
    #[serde(default)]
    layers: Vec<Part>,
    #[serde(default)]
    manifests: Vec<Part>,
}

#[derive(Deserialize)]
struct Part {
    digest: Digest,
    platform: Option<Target>,
}

#[derive(Deserialize)]
struct Target {
    os: String,
    architecture: String,
    variant: Option<String>,
}

/// What is read of the configuration of an image.
#[derive(Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<Digest>,
}

impl Target {
    fn name(&self) -> String {
        let variant = self.variant.as_deref().map(|variant| format!("/{variant}"));
        format!(
            "{}/{}{}",
            self.os,
            self.architecture,
            variant.unwrap_or_default()
        )
    }

    /// Whether it is what was asked for: without a variant, any.
    fn is(&self, asked: &str) -> bool {
        let name = self.name();
        name == asked
            || name
                .strip_prefix(asked)
                .is_some_and(|rest| rest.starts_with('/'))
    }
}

/// The extensions that there are, as the specification has them listed (`extensions/_oci.md`).
pub(in crate::registry) fn extensions<S, Y>() -> Response<Body<S, Y>> {
    let body = json!({ "extensions": [
        {
            "name": "_oci",
            "description": "discovery of extensions",
            "url": "https://github.com/opencontainers/distribution-spec/blob/main/extensions/_oci.md",
            "endpoints": ["/v2/_oci/ext/discover"],
        },
        {
            "name": "_strata",
            "description": "looks into layers and images: tables of contents, files and directories; invalidates what is mirrored; sweeps and scrubs; lists the holders of a blob and doubtful rights",
            "url": concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/extension.md"),
            "endpoints": [
                "/v2/{name}/_strata/layers/{digest}",
                "/v2/{name}/_strata/layers/{digest}/files/{path}",
                "/v2/{name}/_strata/images/{reference}/files/{path}",
                "/v2/{name}/_strata/invalidate",
                "/v2/_strata/sweep",
                "/v2/_strata/scrub",
                "/v2/_strata/blobs/{digest}",
                "/v2/_strata/rights",
            ],
        },
    ]});
    respond_with_json(StatusCode::OK, bytes(&body))
}

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

    /// A file of an image, or what is in one of its directories.
    pub(in crate::registry) async fn image_file(
        self: &Rc<Self>,
        request: &Request<P::Body>,
        image: &ImageOf<'_>,
        path: &[u8],
        page: &PathPage,
        trace: &Trace<P::Bytes>,
    ) -> Answer<P> {
        tree::check_path(path).map_err(refused)?;
        let document = self.image(image, trace).await?;
        if document.layers.len() > MAX_LAYERS {
            let found = format!("an image of {} layers", document.layers.len());
            return Err(Error::new(Code::ManifestInvalid, found)
                .with_status(StatusCode::UNPROCESSABLE_ENTITY));
        }
        let mut stack = Stack::new(self, image.name, trace);
        let mut diff_ids = Vec::with_capacity(document.layers.len());
        for part in &document.layers {
            if let Some(diff_id) = stack.repeat(&part.digest) {
                diff_ids.push(diff_id);
                continue;
            }
            match self.open_layer(image.name, &part.digest, trace).await? {
                Opened::Layer(layer) => {
                    diff_ids.push(layer.index.diff_id.clone());
                    stack.push(layer).await?;
                }
                Opened::Indexing(progress) => return Ok(indexing(&part.digest, progress)),
            }
        }
        self.check_diff_ids(image.name, &document, &diff_ids, trace)
            .await?;
        let reference = image.reference.to_string();
        let place = format!("/v2/{}/_strata/images/{reference}/files/", image.name);
        let query = image
            .platform
            .map(|platform| format!("&platform={}", json::encode(platform.as_bytes())));
        let cache = match image.reference {
            Reference::Digest(_) => IMMUTABLE,
            Reference::Tag(_) => HeaderValue::from_static("private, no-cache, no-transform"),
        };
        let query = query.unwrap_or_default();
        self.file(request, &stack, &place, &query, path, page, cache, trace)
            .await
    }

    /// The manifest of an image: the one that was asked for, or one of the index that was.
    async fn image(&self, image: &ImageOf<'_>, trace: &Trace<P::Bytes>) -> Result<Document, Error> {
        let read = async |reference: &Reference| {
            let (digest, content) = self
                .mirror
                .read_manifest(image.name, reference, trace)
                .await?;
            let needed = WEIGHT * content.bytes.len();
            let lease = self.ledger.wait_if_large(&self.host, Memory::Wasm, needed);
            let lease = lease.await?;
            let document: Document =
                serde_json::from_slice(&content.bytes.to_vec()).map_err(|error| {
                    Error::new(Code::ManifestInvalid, format!("{digest}: {error}"))
                        .with_status(StatusCode::UNPROCESSABLE_ENTITY)
                })?;
            Ok::<_, Error>((digest, document, lease))
        };
        let (digest, document, lease) = read(image.reference).await?;
        if document.manifests.is_empty() {
            return Ok(document);
        }
        // What is not for a platform is about an image, and none.
        let images: Vec<(&Part, &Target)> = document
            .manifests
            .iter()
            .filter_map(|part| Some((part, part.platform.as_ref()?)))
            .filter(|(_, platform)| platform.os != "unknown")
            .collect();
        let asked = image.platform.unwrap_or(DEFAULT_PLATFORM);
        let chosen = match (images.as_slice(), image.platform) {
            ([(only, _)], None) => Some(only),
            (images, _) => images
                .iter()
                .find(|(_, platform)| platform.is(asked))
                .map(|(part, _)| part),
        };
        let chosen = chosen.ok_or_else(|| {
            let names: Vec<_> = images.iter().map(|(_, platform)| platform.name()).collect();
            let found = format!("{digest} has no image for {asked}, name one by ?platform=");
            Error::new(Code::ManifestUnknown, found).with_detail(json!({ "platforms": names }))
        })?;
        let chosen = Reference::Digest(chosen.digest.clone());
        // The index is not held while its image is read.
        drop((document, lease));
        let (digest, document, _lease) = read(&chosen).await?;
        if document.manifests.is_empty() {
            Ok(document)
        } else {
            let found = format!("{digest} is an index within an index");
            Err(Error::new(Code::ManifestInvalid, found)
                .with_status(StatusCode::UNPROCESSABLE_ENTITY))
        }
    }

    /// Compares what layers inflate to with what the configuration of their image says.
    async fn check_diff_ids(
        &self,
        name: &Name,
        document: &Document,
        diff_ids: &[Digest],
        trace: &Trace<P::Bytes>,
    ) -> Result<(), Error> {
        let Some(config) = &document.config else {
            return Ok(());
        };
        let Some(bytes) = self.mirror.read_blob(name, &config.digest, trace).await? else {
            return Ok(());
        };
        // What is no configuration of an image says nothing: an artifact's may be anything.
        let Ok(Config { rootfs }) = serde_json::from_slice(&bytes) else {
            return Ok(());
        };
        for ((layer, found), said) in document.layers.iter().zip(diff_ids).zip(&rootfs.diff_ids) {
            if found.algorithm() == said.algorithm() && found != said {
                let found = format!(
                    "layer {} inflates to {found}, and the configuration of the image says {said}",
                    layer.digest
                );
                return Err(Error::new(Code::LayerInvalid, found));
            }
        }
        Ok(())
    }

    /// Answers what is at a path of layers over each other. `place` and `query` are what its address begins and ends with.
    #[expect(
        clippy::too_many_arguments,
        reason = "each says another thing of one reply"
    )]
    async fn file(
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
        let condition = text(&request.headers, header::IF_RANGE);
        let range = text(&request.headers, header::RANGE)
            .filter(|_| request.method == Method::GET)
            .filter(|_| condition.is_none_or(|condition| condition == etag));
        let all: Vec<_> = ByteRange::new(0, size.saturating_sub(1))
            .filter(|_| size > 0)
            .into_iter()
            .collect();
        let (mut status, mut ranges) = match Selection::of(range, size) {
            Selection::All => (StatusCode::OK, all.clone()),
            Selection::Ranges(ranges) => (StatusCode::PARTIAL_CONTENT, ranges),
            Selection::Unsatisfiable => {
                let found = format!("range outside of the file's {size} bytes");
                let error = Error::new(Code::SizeInvalid, found)
                    .with_status(StatusCode::RANGE_NOT_SATISFIABLE)
                    .with_header(header::CONTENT_RANGE, value(&format!("bytes */{size}")));
                return Err(error);
            }
        };
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
                None => (status, ranges) = (StatusCode::OK, all),
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
                    pieces = self.read_file(layer, &file, *range, &reading);
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
                    pieces.push(Piece::Bytes(head.into_bytes()));
                    pieces.extend(self.read_file(layer, &file, *range, &reading));
                }
                let tail = format!("\r\n--{boundary}--\r\n");
                length = length.saturating_add(tail.len() as u64);
                pieces.push(Piece::Bytes(tail.into_bytes()));
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
    ) -> Vec<Piece<P::Body, P::Bytes>> {
        let bytes = file.archive(&bounds(range));
        let made = match (&file.segments, reading) {
            (None, Reading::Held(held, None)) => {
                return layer.held(&bytes, held).map(Piece::Held).collect();
            }
            (None, Reading::Held(..) | Reading::Passing(_)) => self.archive(layer, bytes, reading),
            (Some(segments), _) => {
                weave(self.archive(layer, bytes, reading), segments.clone(), range)
            }
        };
        vec![Piece::Made(Made(made.map_ok(Piece::Held).boxed_local()))]
    }
}

/// The bytes of a range, from the first to the one after the last.
const fn bounds(range: ByteRange) -> Range<u64> {
    range.first()..range.first() + range.length()
}

/// Puts zeros between the segments of a sparse file, of which `archive` has the bytes in this range of the file.
fn weave<Y: crate::store::Bytes>(
    archive: LocalBoxStream<'static, Result<Y, StoreError>>,
    segments: Rc<[Segment]>,
    range: ByteRange,
) -> LocalBoxStream<'static, Result<Y, StoreError>> {
    let Range { start: first, end } = bounds(range);
    let zeros = Y::copy_from(&vec![
        0;
        usize::try_from(end - first)
            .unwrap_or(ZEROS)
            .min(ZEROS)
    ]);
    let next = segments.partition_point(|segment| segment.offset + segment.length <= first);
    let state = (archive, Y::copy_from(&[]), first, next);
    let made = stream::try_unfold(state, move |(mut archive, mut held, at, mut next)| {
        let (segments, zeros) = (segments.clone(), zeros.clone());
        async move {
            let segment = loop {
                match segments.get(next) {
                    Some(segment) if segment.offset + segment.length <= at => next += 1,
                    found => break found,
                }
            };
            let from = segment.map_or(end, |segment| segment.offset.min(end));
            if at < from {
                let length = (from - at).min(zeros.len());
                let hole = zeros.slice(0, length);
                return Ok(Some((hole, (archive, held, at + length, next))));
            }
            let until = segment.map_or(end, |segment| (segment.offset + segment.length).min(end));
            if at == until {
                return Ok(None);
            }
            while held.is_empty() {
                held = archive.try_next().await?.ok_or(StoreError::Length)?;
            }
            let length = held.len().min(until - at);
            let rest = held.slice(length, held.len());
            Ok(Some((
                held.slice(0, length),
                (archive, rest, at + length, next),
            )))
        }
    });
    made.boxed_local()
}

/// The answer while a layer is being indexed.
fn indexing<S, Y>(digest: &Digest, progress: Progress) -> Response<Body<S, Y>> {
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

fn is_same<B>(request: &Request<B>, etag: &str) -> bool {
    text(&request.headers, header::IF_NONE_MATCH).is_some_and(|tags| {
        tags.split(',')
            .map(str::trim)
            .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
    })
}

fn unchanged<S, Y>(etag: &str, cache: HeaderValue) -> Response<Body<S, Y>> {
    let mut response = respond(StatusCode::NOT_MODIFIED);
    let headers = response.headers_mut();
    headers.insert(header::ETAG, value(etag));
    headers.insert(header::CACHE_CONTROL, cache);
    response
}

/// Describes a file by its name, and returns its media type. Anybody may have made it, and the inspector has the same origin.
/// So no file has a type that a browser runs, styles with or opens as a document: pictures of [`PICTURES`] and plain text are
/// shown, and a browser saves the rest.
fn describe_file(headers: &mut http::HeaderMap, path: &[u8]) -> &'static str {
    let name = json::lossy(path);
    let name = name.rsplit('/').next().unwrap_or_default();
    let media_type = media_type_of(name);
    let disposition = if media_type != BYTES {
        "inline".to_owned()
    } else if name.len() > MAX_NAME {
        "attachment".to_owned()
    } else {
        format!(
            "attachment; filename*=UTF-8''{}",
            encode_name(name.as_bytes())
        )
    };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CONTENT_DISPOSITION, value(&disposition));
    media_type
}

fn media_type_of(name: &str) -> &'static str {
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    let picture = PICTURES
        .iter()
        .find(|(known, _)| ending.eq_ignore_ascii_case(known));
    if let Some((_, media_type)) = picture {
        return media_type;
    }
    let guess = mime_guess::from_path(name).first_or_octet_stream();
    if guess.type_() == mime_guess::mime::TEXT {
        TEXT
    } else {
        BYTES
    }
}

fn refused(error: tree::Error<Error>) -> Error {
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

/// Percent-encodes a name in a header (RFC 8187).
fn encode_name(bytes: &[u8]) -> String {
    percent_encode(bytes, NAME).to_string()
}

/// What stands for itself: what is unreserved in an address (RFC 3986, section 2.3).
const NAME: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The pictures that a browser shows, by the ending of the name. SVG is left out: opened by itself, it is a document with
/// scripts.
const PICTURES: [(&str, &str); 9] = [
    ("avif", "image/avif"),
    ("bmp", "image/bmp"),
    ("gif", "image/gif"),
    ("ico", "image/x-icon"),
    ("jfif", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("png", "image/png"),
    ("webp", "image/webp"),
];
/// The media type of every text, whatever its language: no browser runs it.
const TEXT: &str = "text/plain; charset=utf-8";
/// The media type of all that is neither text nor a picture.
const BYTES: &str = "application/octet-stream";

/// The most paths or names of one page.
const MAX_PAGE: u64 = 1_000;
/// What is taken of an index of images when nobody says.
const DEFAULT_PLATFORM: &str = "linux/amd64";
/// The most layers of an image: file systems over each other take 500 on Linux (overlayfs), and Docker stops at 127.
const MAX_LAYERS: usize = 500;
/// The longest name that a header says: as long as any on Linux.
const MAX_NAME: usize = 255;
/// The memory of a manifest and of what is read of it, in bytes for each of its own: descriptors that have a digest alone
/// are the heaviest.
const WEIGHT: u64 = 5;
/// The bytes of a hole that are made at once.
const ZEROS: usize = 64 * 1024;
