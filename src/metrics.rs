//! Metrics: what this isolate has seen and done since it started, in the text format that Prometheus reads.
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>

use std::{cell::RefCell, collections::BTreeSet};

use prometheus::{
    Encoder as _, Error, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder, core::Collector,
};

use crate::{
    digest::Digest,
    store::policy::{Kind, Tier},
};

/// The media type of the text.
pub const MEDIA_TYPE: &str = prometheus::TEXT_FORMAT;

/// Why a tier was passed over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// It failed.
    Failed,
    /// It took too long.
    Late,
    /// What it gave was not what it was asked for.
    Poisoned,
}

impl Fault {
    /// The name by which metrics and the log call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Late => "late",
            Self::Poisoned => "poisoned",
        }
    }
}

/// Why a value left a tier, other than for want of room.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Demotion {
    /// It was kept for as long as it may be.
    Expired,
    /// What it says was changed by a push or a deletion.
    Changed,
    /// It was not what it should be.
    Poisoned,
}

impl Demotion {
    const fn name(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Changed => "changed",
            Self::Poisoned => "poisoned",
        }
    }
}

/// A class of operation, as the platform bills them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Operation {
    /// The cold tier: a write, a listing, or a step of a multipart upload.
    A,
    /// The cold tier: a read.
    B,
    /// The cold tier: a deletion, which is free.
    Delete,
    /// The warm tier: a read.
    WarmRead,
    /// The warm tier: a write.
    WarmWrite,
    /// The warm tier: a deletion.
    WarmDelete,
}

impl Operation {
    const ALL: [(Self, [&'static str; 2]); 6] = [
        (Self::A, ["cold", "a"]),
        (Self::B, ["cold", "b"]),
        (Self::Delete, ["cold", "delete"]),
        (Self::WarmRead, ["warm", "read"]),
        (Self::WarmWrite, ["warm", "write"]),
        (Self::WarmDelete, ["warm", "delete"]),
    ];
}

/// What came of a request to an upstream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum UpstreamOutcome {
    /// It answered with a status.
    Answered(u16),
    /// It took too long.
    Late,
    /// It could not be reached.
    Failed,
}

/// What came of a step of a pass over a layer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The layer is indexed.
    Indexed,
    /// It can't be.
    Refused,
    /// It is to be gone on with.
    Paused,
}

impl Outcome {
    const ALL: [Self; 3] = [Self::Indexed, Self::Refused, Self::Paused];

    const fn name(self) -> &'static str {
        match self {
            Self::Indexed => "indexed",
            Self::Refused => "refused",
            Self::Paused => "paused",
        }
    }
}

/// What is inflated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Inflating {
    /// A layer, to index it.
    Pass,
    /// A span of one, to read it.
    Span,
}

impl Inflating {
    const fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Span => "span",
        }
    }
}

/// So many layers have counters of their own, those that were read first.
const COUNTED_LAYERS: usize = 100;

/// Counters, gauges and histograms of one isolate.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    durations: HistogramVec,
    /// Requests being answered.
    pub in_flight: IntGauge,
    /// Bytes of bodies that clients sent.
    pub received: IntCounter,
    /// Bytes of bodies that clients were sent.
    pub sent: IntCounter,
    hits: IntCounterVec,
    misses: IntCounterVec,
    stores: IntCounterVec,
    evictions: IntCounterVec,
    demotions: IntCounterVec,
    faults: IntCounterVec,
    held: IntGaugeVec,
    /// Bytes of memory that the hot tier takes, with what it needs to find them.
    pub hot_bytes: IntGauge,
    promotions: IntCounterVec,
    /// Bytes written to the warm tier.
    pub warm_written: IntCounter,
    /// Bytes that compression kept from being written there.
    pub warm_saved: IntCounter,
    operations: [IntCounter; 6],
    joins: IntCounterVec,
    passes: IntCounterVec,
    refusals: IntCounterVec,
    inflations: IntCounterVec,
    inflated: IntCounterVec,
    layer_reads: IntCounterVec,
    /// Bytes of indexes that were stored, and of what is stored beside them.
    pub index_bytes: IntCounter,
    /// Ranges of layers that were asked of the cold tier to read files.
    pub layer_ranges: IntCounter,
    /// Their bytes.
    pub layer_range_bytes: IntCounter,
    /// The layers that have a counter of their own.
    counted_layers: RefCell<BTreeSet<String>>,
    upstream_requests: IntCounterVec,
    upstream_remaining: IntGaugeVec,
    stale: IntCounterVec,
    /// Blobs that were stored.
    pub blobs: IntCounter,
    /// Their bytes.
    pub blob_bytes: IntCounter,
    /// Bytes of blobs that were pushed or mounted and there already.
    pub deduplicated: IntCounter,
    swept: IntCounterVec,
    swept_bytes: IntCounter,
    scrubbed: IntCounterVec,
    scrubbed_bytes: IntCounter,
    scrub_found: IntCounterVec,
    scrub_repaired: IntCounterVec,
    /// What there is, as the sweep has counted it last.
    pub inventory: Inventory,
}

/// What there is: numbers that are the same for every isolate.
#[derive(Debug)]
pub struct Inventory {
    all: Vec<(&'static str, IntGauge)>,
    of: Vec<(&'static str, IntGaugeVec)>,
}

impl Inventory {
    fn new(maker: &Maker<'_>) -> Result<Self, Error> {
        let all = [
            (
                "began_seconds",
                "When the round of the sweep began that has counted, since the Unix epoch",
            ),
            ("blobs", "Blobs"),
            ("bytes", "Bytes of blobs, each blob once"),
            (
                "undivided_bytes",
                "Bytes of blobs, each blob once for each manifest that names it: what would be stored if nothing were shared",
            ),
            ("manifests", "Manifests"),
            ("tags", "Tags"),
            (
                "uploads",
                "Uploads under way, or given up and not swept yet",
            ),
            (
                "extent_bytes",
                "Bytes of extents, those of blobs and of uploads",
            ),
        ];
        let of = [
            ("blobs", "Blobs of a repository"),
            ("bytes", "Bytes of blobs of a repository, each blob once"),
            (
                "undivided_bytes",
                "Bytes of blobs of a repository, each blob once for each manifest that names it",
            ),
            ("manifests", "Manifests of a repository"),
            ("tags", "Tags of a repository"),
        ];
        let all = all.map(|(what, help)| {
            let gauge = IntGauge::with_opts(swept(&format!("strata_inventory_{what}"), help))?;
            Ok((what, maker.enter(gauge)?))
        });
        let of = of.map(|(what, help)| {
            let options = swept(&format!("strata_repository_{what}"), help);
            let gauges = IntGaugeVec::new(options, &["repository"])?;
            Ok((what, maker.enter(gauges)?))
        });
        Ok(Self {
            all: all.into_iter().collect::<Result<_, Error>>()?,
            of: of.into_iter().collect::<Result<_, Error>>()?,
        })
    }

    /// Forgets what was shown of repositories.
    pub fn clear(&self) {
        for (_, gauges) in &self.of {
            gauges.reset();
        }
    }

    /// Shows a number.
    pub fn show(&self, what: &str, number: u64) {
        let gauge = self.all.iter().find(|(name, _)| *name == what);
        if let Some((_, gauge)) = gauge {
            gauge.set(number.try_into().unwrap_or(i64::MAX));
        }
    }

    /// Shows a number of a repository.
    pub fn show_of(&self, repository: &str, what: &str, number: u64) {
        let gauges = self.of.iter().find(|(name, _)| *name == what);
        if let Some((_, gauges)) = gauges {
            let gauge = gauges.with_label_values(&[repository]);
            gauge.set(number.try_into().unwrap_or(i64::MAX));
        }
    }
}

impl Metrics {
    /// Makes metrics that have counted nothing.
    pub fn new() -> Result<Self, Error> {
        let registry = Registry::new();
        let maker = Maker(&registry);
        let operations = maker.counters(
            "strata_operations_total",
            "Operations by class: of the cold tier a, b and delete as the platform bills them, of the warm tier read, write and delete",
            &["tier", "class"],
        )?;
        let by_kind = ["tier", "kind"];
        let metrics = Self {
            requests: maker.counters(
                "strata_requests_total",
                "Requests answered",
                &["route", "method", "status"],
            )?,
            durations: maker.histograms(
                "strata_request_duration_seconds",
                "Time from a request to the head of its response, as far as the clock moved: at the edge it moves while something is awaited",
                &["route"],
            )?,
            in_flight: maker.gauge("strata_requests_in_flight", "Requests being answered")?,
            received: maker.counter(
                "strata_received_bytes_total",
                "Bytes of request bodies that were read",
            )?,
            sent: maker.counter(
                "strata_sent_bytes_total",
                "Bytes of response bodies, as announced",
            )?,
            hits: maker.counters(
                "strata_tier_hits_total",
                "Reads that a tier answered",
                &by_kind,
            )?,
            misses: maker.counters(
                "strata_tier_misses_total",
                "Reads that a tier could not answer",
                &by_kind,
            )?,
            stores: maker.counters("strata_tier_stores_total", "Values put into a tier", &by_kind)?,
            evictions: maker.counters(
                "strata_tier_evictions_total",
                "Values that left memory for want of room",
                &by_kind,
            )?,
            demotions: maker.counters(
                "strata_tier_demotions_total",
                "Values that were taken out of a tier, by reason",
                &["tier", "kind", "reason"],
            )?,
            faults: maker.counters(
                "strata_tier_errors_total",
                "Times that a tier was passed over, by reason",
                &["tier", "kind", "reason"],
            )?,
            held: maker.gauges(
                "strata_tier_held_bytes",
                "Bytes of the values that a tier of this isolate holds",
                &by_kind,
            )?,
            hot_bytes: maker.gauge(
                "strata_hot_bytes",
                "Bytes of memory that the hot tier takes, with what it needs to find them",
            )?,
            promotions: maker.counters(
                "strata_tier_promotions_total",
                "Values that earned a place in the warm tier",
                &["kind"],
            )?,
            warm_written: maker.counter(
                "strata_warm_written_bytes_total",
                "Bytes written to the warm tier",
            )?,
            warm_saved: maker.counter(
                "strata_warm_compression_saved_bytes_total",
                "Bytes that compression kept from being written to the warm tier",
            )?,
            operations: Operation::ALL.map(|(_, labels)| operations.with_label_values(&labels)),
            joins: maker.counters(
                "strata_single_flight_joins_total",
                "Reads that waited for another request's read of the same thing",
                &["kind"],
            )?,
            passes: maker.counters(
                "strata_layer_passes_total",
                "Steps of passes over layers, by what came of them: indexed, refused, or paused to be gone on with",
                &["outcome"],
            )?,
            refusals: maker.counters(
                "strata_layer_refusals_total",
                "Layers that can't be indexed, by reason",
                &["reason"],
            )?,
            inflations: maker.counters(
                "strata_inflate_operations_total",
                "Times that something was inflated: a step of a pass over a layer, or a span of one",
                &["what"],
            )?,
            inflated: maker.counters(
                "strata_inflated_bytes_total",
                "Bytes that came out of it",
                &["what"],
            )?,
            layer_reads: maker.counters(
                "strata_layer_reads_total",
                "Files and directories read, by layer; beyond some number of layers, of all others together",
                &["layer"],
            )?,
            index_bytes: maker.counter(
                "strata_index_stored_bytes_total",
                "Bytes of indexes of layers that were stored, and of what is stored beside them",
            )?,
            layer_ranges: maker.counter(
                "strata_layer_range_requests_total",
                "Ranges of layers that were asked of the cold tier to read files",
            )?,
            layer_range_bytes: maker.counter(
                "strata_layer_range_bytes_total",
                "Bytes of ranges of layers that were asked of the cold tier to read files",
            )?,
            counted_layers: RefCell::default(),
            upstream_requests: maker.counters(
                "strata_upstream_requests_total",
                "Requests to upstreams, by the status of the reply: late or failed without a reply, other if the status is not from 100 to 599",
                &["upstream", "method", "status"],
            )?,
            upstream_remaining: maker.gauges(
                "strata_upstream_ratelimit_remaining",
                "Requests that an upstream still allows, as it last said",
                &["upstream"],
            )?,
            stale: maker.counters(
                "strata_stale_served_total",
                "Answers from what is stored where an upstream should have been asked again, by the reason why it was not heard",
                &["upstream", "reason"],
            )?,
            blobs: maker.counter("strata_blobs_stored_total", "Blobs stored")?,
            blob_bytes: maker.counter("strata_blob_stored_bytes_total", "Bytes of blobs stored")?,
            deduplicated: maker.counter(
                "strata_blob_deduplicated_bytes_total",
                "Bytes of blobs that were pushed or mounted and stored already",
            )?,
            swept: maker.counters(
                "strata_swept_total",
                "What the sweep has removed, by what it was",
                &["what"],
            )?,
            swept_bytes: maker.counter(
                "strata_swept_bytes_total",
                "Bytes of the store that the sweep has removed",
            )?,
            scrubbed: maker.counters(
                "strata_scrub_checked_total",
                "What the scrub has looked at, by what it was",
                &["what"],
            )?,
            scrubbed_bytes: maker.counter(
                "strata_scrub_bytes_total",
                "Bytes that the scrub has read and hashed",
            )?,
            scrub_found: maker.counters(
                "strata_scrub_found_total",
                "What the scrub has found that is not as it should be, by what is wrong and what it was",
                &["found", "what"],
            )?,
            scrub_repaired: maker.counters(
                "strata_scrub_repaired_total",
                "What the scrub has repaired, by how and what it was",
                &["repair", "what"],
            )?,
            inventory: Inventory::new(&maker)?,
            registry,
        };
        // What has not happened yet is nought, and not unknown.
        for kind in Kind::ALL {
            for tier in Tier::ALL {
                of(&metrics.hits, tier, kind);
                of(&metrics.misses, tier, kind);
            }
            of(&metrics.stores, Tier::Hot, kind);
            of(&metrics.evictions, Tier::Hot, kind);
            metrics.holds(Tier::Hot, kind, 0);
            metrics.joins.with_label_values(&[kind.name()]);
        }
        for outcome in Outcome::ALL {
            metrics.passes.with_label_values(&[outcome.name()]);
        }
        for what in [Inflating::Pass, Inflating::Span] {
            metrics.inflations.with_label_values(&[what.name()]);
            metrics.inflated.with_label_values(&[what.name()]);
        }
        for kind in [Kind::Manifest, Kind::Blob, Kind::Index, Kind::Span] {
            of(&metrics.stores, Tier::Warm, kind);
            metrics.promotions.with_label_values(&[kind.name()]);
        }
        Ok(metrics)
    }

    /// Counts a request that was answered.
    pub fn answered(&self, route: &str, method: &str, status: &str, seconds: f64) {
        self.requests
            .with_label_values(&[route, method, status])
            .inc();
        self.durations.with_label_values(&[route]).observe(seconds);
    }

    /// Counts what the sweep has removed.
    pub fn swept(&self, what: &str, bytes: u64) {
        self.swept.with_label_values(&[what]).inc();
        self.swept_bytes.inc_by(bytes);
    }

    /// Counts something that the scrub has looked at.
    pub fn scrubbed(&self, what: &str, bytes: u64) {
        self.scrubbed.with_label_values(&[what]).inc();
        self.scrubbed_bytes.inc_by(bytes);
    }

    /// Counts something that the scrub has found, and what it does about it, if anything.
    pub fn found(&self, found: &str, what: &str, repair: &str) {
        self.scrub_found.with_label_values(&[found, what]).inc();
        if !repair.is_empty() {
            self.scrub_repaired.with_label_values(&[repair, what]).inc();
        }
    }

    /// Counts operations.
    pub fn operated(&self, operation: Operation, times: u64) {
        let counters = Operation::ALL.iter().zip(&self.operations);
        for (_, counter) in counters.filter(|((other, _), _)| *other == operation) {
            counter.inc_by(times);
        }
    }

    /// Counts a read that a tier answered.
    pub fn hit(&self, tier: Tier, kind: Kind) {
        of(&self.hits, tier, kind).inc();
    }

    /// Counts a read that a tier could not answer.
    pub fn missed(&self, tier: Tier, kind: Kind) {
        of(&self.misses, tier, kind).inc();
    }

    /// Counts a value put into a tier.
    pub fn stored(&self, tier: Tier, kind: Kind) {
        of(&self.stores, tier, kind).inc();
    }

    /// Counts bytes that came into a tier of this isolate, or left it.
    pub fn holds(&self, tier: Tier, kind: Kind, bytes: i64) {
        self.held
            .with_label_values(&[tier.name(), kind.name()])
            .add(bytes);
    }

    /// Counts a value that left memory for want of room.
    pub fn evicted(&self, kind: Kind) {
        of(&self.evictions, Tier::Hot, kind).inc();
    }

    /// Counts a value that was taken out of a tier.
    pub fn demoted(&self, tier: Tier, kind: Kind, reason: Demotion) {
        self.demotions
            .with_label_values(&[tier.name(), kind.name(), reason.name()])
            .inc();
    }

    /// Counts that a tier was passed over.
    pub fn passed_over(&self, tier: Tier, kind: Kind, reason: Fault) {
        self.faults
            .with_label_values(&[tier.name(), kind.name(), reason.name()])
            .inc();
    }

    /// Counts a value that earned a place in the warm tier, and what writing it took.
    pub fn promoted(&self, kind: Kind, written: u64, saved: u64) {
        self.promotions.with_label_values(&[kind.name()]).inc();
        self.stored(Tier::Warm, kind);
        self.warm_written.inc_by(written);
        self.warm_saved.inc_by(saved);
    }

    /// Counts a read that waited for another request's.
    pub fn joined(&self, kind: Kind) {
        self.joins.with_label_values(&[kind.name()]).inc();
    }

    /// Counts a step of a pass over a layer.
    pub fn passed(&self, outcome: Outcome) {
        self.passes.with_label_values(&[outcome.name()]).inc();
    }

    /// Counts a layer that can't be indexed. Reasons are words of ours.
    pub fn refused(&self, reason: &str) {
        self.refusals.with_label_values(&[reason]).inc();
    }

    /// Counts bytes that were inflated at once.
    pub fn inflated(&self, what: Inflating, bytes: u64) {
        self.inflations.with_label_values(&[what.name()]).inc();
        self.inflated
            .with_label_values(&[what.name()])
            .inc_by(bytes);
    }

    /// Counts that something was read in a layer.
    pub fn layer_read(&self, layer: &Digest) {
        let name = layer.to_string();
        let mut counted = self.counted_layers.borrow_mut();
        let has_own = counted.contains(&name)
            || (counted.len() < COUNTED_LAYERS && counted.insert(name.clone()));
        let label = if has_own { name.as_str() } else { "other" };
        self.layer_reads.with_label_values(&[label]).inc();
    }

    /// Counts a request to an upstream.
    pub fn asked_upstream(&self, upstream: &str, method: &str, outcome: UpstreamOutcome) {
        let status = match outcome {
            // Each is a series, and an upstream may say any number: RFC 9110 has no others.
            UpstreamOutcome::Answered(status @ 100..600) => status.to_string(),
            UpstreamOutcome::Answered(_) => "other".to_owned(),
            UpstreamOutcome::Late => "late".to_owned(),
            UpstreamOutcome::Failed => "failed".to_owned(),
        };
        self.upstream_requests
            .with_label_values(&[upstream, method, &status])
            .inc();
    }

    /// Notes how many requests an upstream still allows.
    pub fn upstream_remaining(&self, upstream: &str, left: i64) {
        self.upstream_remaining
            .with_label_values(&[upstream])
            .set(left);
    }

    /// Counts an answer from what is stored, because an upstream was not heard. Reasons are words of ours.
    pub fn stale(&self, upstream: &str, reason: &str) {
        self.stale.with_label_values(&[upstream, reason]).inc();
    }

    /// All of it as text, with one sentence for each.
    pub fn text(&self) -> Result<Vec<u8>, Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

fn of(counters: &IntCounterVec, tier: Tier, kind: Kind) -> IntCounter {
    counters.with_label_values(&[tier.name(), kind.name()])
}

/// Makes metrics and enters them into a registry.
struct Maker<'a>(&'a Registry);

impl Maker<'_> {
    fn enter<C: Collector + Clone + 'static>(&self, metric: C) -> Result<C, Error> {
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, Error> {
        self.enter(IntCounter::with_opts(options(name, help))?)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, Error> {
        self.enter(IntCounterVec::new(options(name, help), labels)?)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, Error> {
        self.enter(IntGauge::with_opts(options(name, help))?)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, Error> {
        self.enter(IntGaugeVec::new(options(name, help), labels)?)
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str]) -> Result<HistogramVec, Error> {
        let options = HistogramOpts::from(options(name, help)).buckets(SECONDS.to_vec());
        self.enter(HistogramVec::new(options, labels)?)
    }
}

fn swept(name: &str, help: &str) -> Opts {
    Opts::new(name, format!("{help}; as the sweep has counted it last."))
}

fn options(name: &str, help: &str) -> Opts {
    Opts::new(name, format!("{help}; by this isolate since it started."))
}

/// From an answer out of memory to a large upload.
const SECONDS: [f64; 10] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 10.0, 60.0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn are_text_that_says_its_scope() {
        let metrics = Metrics::new().unwrap();
        metrics.hit(Tier::Hot, Kind::Manifest);
        metrics.answered("manifest", "GET", "200", 0.02);
        metrics.operated(Operation::A, 3);
        let text = String::from_utf8(metrics.text().unwrap()).unwrap();
        for line in [
            "strata_tier_hits_total{kind=\"manifest\",tier=\"hot\"} 1",
            "strata_requests_total{method=\"GET\",route=\"manifest\",status=\"200\"} 1",
            "strata_operations_total{class=\"a\",tier=\"cold\"} 3",
            "strata_operations_total{class=\"read\",tier=\"warm\"} 0",
            "strata_request_duration_seconds_bucket{route=\"manifest\",le=\"0.025\"} 1",
            "# TYPE strata_requests_in_flight gauge",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} is not in\n{text}"
            );
        }
        for line in text.lines().filter(|line| line.starts_with("# HELP")) {
            let scopes = [
                "; by this isolate since it started.",
                "; as the sweep has counted it last.",
            ];
            assert!(scopes.iter().any(|scope| line.ends_with(scope)), "{line}");
        }
    }
}
