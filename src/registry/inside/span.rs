//! The bytes of a layer, span by span.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    rc::Rc,
    time::Duration,
};

use futures_util::{
    StreamExt as _, TryStreamExt as _,
    stream::{self, LocalBoxStream},
};

use crate::{
    digest::Digest,
    error::{Code, Error},
    host::Clock as _,
    layer::index::{IndexError, Span, SpanStart},
    ledger::{Lease, MemoryKind},
    metrics::Inflating,
    platform::Platform,
    range::ByteRange,
    registry::{
        blob::locate,
        body::Body,
        inside::{
            Inside,
            index::gone,
            layer::{Layer, SpanRead},
        },
    },
    store::{
        Bytes as _, StoreError, Streams as _, bucket::StreamPart, key::Key, tiers::Wanted,
        trace::Trace, warm::TierContent,
    },
    tier::Tier,
};

/// The compressed input and the windows of neighbouring spans.
struct Fetched<B> {
    _lease: Option<Lease>,
    spans: Range<usize>,
    first: u64,
    input: B,
    windows_first: u64,
    windows: Vec<u8>,
}

impl<B: crate::store::Bytes> Fetched<B> {
    fn input(&self, span: &Span) -> B {
        self.input
            .slice(span.input.start - self.first, span.input.end - self.first)
    }

    fn window(&self, span: &Span) -> Vec<u8> {
        let within = span.window().and_then(|window| {
            let start = usize::try_from(window.start.checked_sub(self.windows_first)?).ok()?;
            let end = usize::try_from(window.end.checked_sub(self.windows_first)?).ok()?;
            self.windows.get(start..end)
        });
        within.unwrap_or_default().to_vec()
    }
}

fn too_large(digest: &Digest, bytes: u64) -> Error {
    let found = format!(
        "reading a part of {digest} needs {bytes} bytes of memory; at most {MAX_INFLATED} are allowed: pull the whole layer"
    );
    Error::new(Code::LayerInvalid, found)
}

/// The most bytes of input and output that are in memory to inflate a span. Blocks of zlib inflate
/// to at most 4 MiB, and others are shorter.
const MAX_INFLATED: u64 = 24 * 1024 * 1024;

/// A read of more bytes is streamed and not cached:
/// the tiers are for small reads that are frequent.
const MAX_KEPT: u64 = 8 * 1024 * 1024;

/// The memory of a reply of at most so many bytes is released when the reply begins.
const SMALL: u64 = 256 * 1024;

/// A read is streamed too if its spans have more bytes than this, unless it has only one span.
/// The limit is above [`MAX_KEPT`], because a part of the first and the last span may be all that
/// is wanted.
const MAX_HELD: u64 = MAX_KEPT + 2 * 1024 * 1024;

/// About how many bytes a streamed read inflates from one range of the layer.
const FETCHED: u64 = 2 * 1024 * 1024;

impl<P: Platform> Inside<P> {
    /// Decides how to read these ranges of a layer's archive.
    /// A few spans are read now, from the nearest tier, and cached;
    /// more are streamed with the reply.
    /// `None` if streaming the ranges would be more work than streaming `whole`,
    /// which contains them.
    pub(super) async fn reading(
        &self,
        layer: &Rc<Layer<P::Bytes>>,
        ranges: &[Range<u64>],
        whole: &Range<u64>,
        trace: &Trace<P::Bytes>,
    ) -> Result<Option<SpanRead<P::Bytes>>, Error> {
        let index = &layer.index;
        let length = |at: &usize| index.spans.get(*at).map_or(0, Span::length);
        let wanted: u64 = ranges.iter().map(|bytes| bytes.end - bytes.start).sum();
        let mut spans = BTreeSet::new();
        let mut held = 0;
        let mut largest = 0;
        // The spans that may be held, and one more.
        for at in ranges.iter().flat_map(|bytes| index.spans_of(bytes)) {
            if held > MAX_HELD && spans.len() > 1 {
                break;
            }
            if spans.insert(at) {
                held += length(&at);
                largest = largest.max(length(&at));
            }
        }
        if wanted > MAX_KEPT || (held > MAX_HELD && spans.len() > 1) {
            let work =
                |bytes: &Range<u64>| index.spans_of(bytes).map(|at| length(&at)).sum::<u64>();
            let all = ranges.iter().map(work).sum::<u64>();
            let is_less = ranges.len() < 2 || all <= work(whole) + MAX_HELD;
            trace.step("span", Tier::Cold, Duration::ZERO);
            if !is_less {
                return Ok(None);
            }
            // The compressed bytes of one fetch, and the bytes inflated from them.
            let bytes = 2 * FETCHED.max(largest);
            let lease = self
                .ledger
                .wait(&self.host, MemoryKind::Buffer, bytes)
                .await?;
            return Ok(Some(SpanRead::Passing(Rc::new(RefCell::new(lease)))));
        }
        let lease = self
            .ledger
            .wait_if_large(&self.host, MemoryKind::Buffer, held)
            .await?;
        let mut found = BTreeMap::new();
        while let Some(first) = spans.pop_first() {
            let mut end = first + 1;
            while spans.remove(&end) {
                end += 1;
            }
            let read = self.spans(layer, first..end, Some(trace)).await?;
            found.extend((first..end).zip(read));
        }
        // A small reply is sent soon, so its lease ends now.
        let lease = lease.filter(|_| wanted > SMALL).map(Rc::new);
        Ok(Some(SpanRead::Held(found, lease)))
    }

    /// The bytes of the archive of a layer, in their order.
    pub(super) fn archive(
        self: &Rc<Self>,
        layer: &Rc<Layer<P::Bytes>>,
        bytes: Range<u64>,
        reading: &SpanRead<P::Bytes>,
    ) -> LocalBoxStream<'static, Result<P::Bytes, StoreError>> {
        let spans = layer.index.spans_of(&bytes);
        let lease = match reading {
            SpanRead::Held(held, lease) => {
                let lease = lease.clone();
                let leased = move |bytes| {
                    let _lease = &lease;
                    bytes
                };
                return stream::iter(layer.held(&bytes, held).map(leased)).boxed_local();
            }
            SpanRead::Passing(lease) => lease.clone(),
        };
        let sender = self.ledger.sender();
        let (inside, layer) = (self.clone(), layer.clone());
        let together = usize::try_from(FETCHED / layer.index.span.max(1)).unwrap_or(1);
        let made = stream::try_unfold(spans, move |left| {
            let (inside, layer, bytes) = (inside.clone(), layer.clone(), bytes.clone());
            let (lease, sender) = (lease.clone(), sender.clone());
            async move {
                if left.is_empty() {
                    return Ok(None);
                }
                let end = left.end.min(left.start + together.max(1));
                // A cached layer and a fast client would otherwise leave other requests no turn.
                inside.host.sleep(Duration::ZERO).await;
                let now = inside.host.now();
                lease.borrow_mut().renew(now);
                layer.renew(now);
                let spans = inside.spans(&layer, left.start..end, None);
                match inside.ledger.scope(sender, spans).await {
                    Ok(found) => {
                        let found = (left.start..end).zip(found);
                        let cut = found.map(move |(at, whole)| layer.cut(at, &whole, &bytes));
                        Ok(Some((stream::iter(cut), end..left.end)))
                    }
                    Err(error) => {
                        let cause = error.cause().map(str::to_owned);
                        Err(StoreError::Failed(cause.unwrap_or_else(|| error.message())))
                    }
                }
            }
        });
        made.try_flatten().boxed_local()
    }

    /// Reads spans. With a trace, they are read from the nearest tier and cached.
    async fn spans(
        &self,
        layer: &Layer<P::Bytes>,
        spans: Range<usize>,
        trace: Option<&Trace<P::Bytes>>,
    ) -> Result<Vec<P::Bytes>, Error> {
        let digest = &layer.digest;
        let wanted = |span: &Span| Wanted::Span(digest, span.output.start, span.output.end);
        let of = |range: Range<usize>| layer.index.spans.get(range).unwrap_or_default();
        let fetched = RefCell::new(None);
        let mut found = Vec::with_capacity(spans.len());
        for (at, span) in spans.clone().zip(of(spans.clone())) {
            let inflate = async || {
                let is_fetched = |fetched: &Option<Fetched<P::Bytes>>| {
                    fetched
                        .as_ref()
                        .is_some_and(|fetched| fetched.spans.contains(&at))
                };
                if !is_fetched(&fetched.borrow()) {
                    // Fetch neighbours that are not hot with the same request.
                    let after = of(at + 1..spans.end).iter();
                    let more = after
                        .take_while(|next| next.follows(span) && !self.tiers.is_hot(wanted(next)))
                        .count();
                    let now = at..at + 1 + more;
                    let got = self.fetch(layer, now, trace).await?;
                    *fetched.borrow_mut() = Some(got);
                }
                // Inflating is synchronous, in wasm's memory.
                let taken = span.length() + span.input.end.saturating_sub(span.input.start);
                let _lease = match span.start {
                    SpanStart::Plain => None,
                    _ if taken > MAX_INFLATED => return Err(too_large(digest, taken)),
                    _ => {
                        self.ledger
                            .wait_if_large(&self.host, MemoryKind::Wasm, taken)
                            .await?
                    }
                };
                let inflated = {
                    let fetched = fetched.borrow();
                    let Some(fetched) = fetched.as_ref() else {
                        return Err(gone(digest));
                    };
                    let input = fetched.input(span);
                    if span.start == SpanStart::Plain {
                        return Ok(input);
                    }
                    span.inflate(&fetched.window(span), &input.to_vec(), u64::MAX)
                };
                match inflated {
                    Ok(out) => {
                        self.metrics.inflated(Inflating::Span, out.len() as u64);
                        Ok(P::Bytes::copy_from(&out))
                    }
                    Err(error) => Err(self.invalidate_index(digest, &error).await),
                }
            };
            found.push(match trace {
                Some(trace) => {
                    let cold = async || Ok(Some(TierContent::untyped(inflate().await?)));
                    let content = self.tiers.content(wanted(span), trace, cold);
                    let content = content.await?.ok_or_else(|| gone(digest))?;
                    content.bytes.clone()
                }
                None => inflate().await?,
            });
        }
        Ok(found)
    }

    /// Fetches the input of neighbouring spans, and their windows.
    async fn fetch(
        &self,
        layer: &Layer<P::Bytes>,
        spans: Range<usize>,
        trace: Option<&Trace<P::Bytes>>,
    ) -> Result<Fetched<P::Bytes>, Error> {
        let digest = &layer.digest;
        let own = Trace::default();
        let is_passing = trace.is_none();
        let trace = trace.unwrap_or(&own);
        let all = layer.index.spans.get(spans.clone()).unwrap_or_default();
        let (Some(first), Some(last)) = (all.first(), all.last()) else {
            return Err(gone(digest));
        };
        let range = last
            .input
            .end
            .checked_sub(1)
            .and_then(|end| ByteRange::new(first.input.start, end));
        let Some(range) = range else {
            return Err(self.invalidate_index(digest, &IndexError::Corrupt).await);
        };
        if range.length() > MAX_INFLATED {
            return Err(too_large(digest, range.length()));
        }
        let pieces = match first.start {
            SpanStart::Stored(object) => {
                vec![StreamPart::Object(
                    Key::stored_spans(digest, object),
                    Some(range),
                )]
            }
            _ => locate(&layer.record, digest, Some(range)),
        };
        // The input stays in memory while spans are inflated, and may be far larger than a span.
        // A streamed read has leased `FETCHED` bytes for it already.
        let lease = match first.start {
            SpanStart::Plain => None,
            _ if is_passing && range.length() <= FETCHED => None,
            _ => {
                self.ledger
                    .wait_if_large(&self.host, MemoryKind::Buffer, range.length())
                    .await?
            }
        };
        self.metrics.layer_ranges.inc_by(pieces.len() as u64);
        self.metrics.layer_range_bytes.inc_by(range.length());
        let input = match self.blobs.open_held(pieces, range.length(), trace).await? {
            Some(Body::Stream(body)) => match self.host.hold(body, range.length()).await {
                Ok(input) => input,
                Err(StoreError::Length) => return Err(gone(digest)),
                Err(error) => return Err(error.into()),
            },
            Some(Body::Held(bytes)) => bytes,
            Some(Body::Empty | Body::Bytes(_)) | None => {
                return Err(match first.start {
                    SpanStart::Stored(_) => {
                        self.invalidate_index(digest, &"a stored span is gone")
                            .await
                    }
                    _ => gone(digest),
                });
            }
        };
        let windows = all.iter().filter_map(Span::window);
        let windows = windows.reduce(|all, window| all.start..window.end);
        let windows = windows.unwrap_or_default();
        Ok(Fetched {
            _lease: lease,
            spans,
            first: first.input.start,
            input,
            windows_first: windows.start,
            windows: if windows.is_empty() {
                Vec::new()
            } else {
                self.part(layer, &windows, trace).await?
            },
        })
    }
}
