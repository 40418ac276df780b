//! The table of metrics: for each its field, type, name, labels and help.

use std::{cell::RefCell, collections::BTreeSet};

use prometheus::{
    Error, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

use crate::metrics::{inventory::Inventory, label::Operation};

/// A kind of metric that is made from options and labels.
trait Metric: Sized {
    fn enter(registry: &Registry, options: Opts, labels: &[&str]) -> Result<Self, Error>;
}

/// Implements [`Metric`] for a type, by its constructor.
macro_rules! metric {
    ($type:ident, |$options:ident, $labels:ident| $make:expr) => {
        impl Metric for $type {
            fn enter(registry: &Registry, $options: Opts, $labels: &[&str]) -> Result<Self, Error> {
                let metric: Self = $make?;
                registry.register(Box::new(metric.clone()))?;
                Ok(metric)
            }
        }
    };
}

metric!(IntCounter, |options, _labels| Self::with_opts(options));
metric!(IntGauge, |options, _labels| Self::with_opts(options));
metric!(IntCounterVec, |options, labels| Self::new(options, labels));
metric!(IntGaugeVec, |options, labels| Self::new(options, labels));
metric!(HistogramVec, |options, labels| Self::new(
    HistogramOpts::from(options).buckets(SECONDS.to_vec()),
    labels
));

/// From an answer out of memory to a large upload.
const SECONDS: [f64; 10] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 10.0, 60.0];

/// Declares the table. The help of a metric is the documentation of its field, too.
macro_rules! metrics {
    ($($visibility:vis $field:ident: $type:ident, $name:literal, [$($label:literal),*], $help:literal;)*) => {
        /// Counters, gauges and histograms of one isolate.
        #[derive(Debug)]
        pub struct Metrics {
            pub(super) registry: Registry,
            pub(super) operations: [IntCounter; 6],
            /// The layers that have a counter of their own.
            pub(super) counted_layers: RefCell<BTreeSet<String>>,
            /// The inventory, as the sweep counted it last.
            pub inventory: Inventory,
            $(#[doc = $help] $visibility $field: $type,)*
        }

        impl Metrics {
            /// Makes the metrics of the table, and enters them into a registry.
            pub(super) fn enter(registry: Registry) -> Result<Self, Error> {
                let operations = options(OPERATIONS.0, OPERATIONS.1);
                let operations = IntCounterVec::enter(&registry, operations, &["tier", "class"])?;
                Ok(Self {
                    operations: Operation::ALL
                        .map(|(_, labels)| operations.with_label_values(&labels)),
                    counted_layers: RefCell::default(),
                    inventory: Inventory::enter(&registry)?,
                    $($field: $type::enter(&registry, options($name, $help), &[$($label),*])?,)*
                    registry,
                })
            }
        }
    };
}

metrics! {
    pub(super) requests: IntCounterVec, "strata_requests_total", ["route", "method", "status"],
        "Requests answered";
    pub(super) durations: HistogramVec, "strata_request_duration_seconds", ["route"],
        "Time from a request to the head of its response, as far as the clock moved: at the edge it moves while something is awaited";
    pub in_flight: IntGauge, "strata_requests_in_flight", [],
        "Requests being answered";
    pub received: IntCounter, "strata_received_bytes_total", [],
        "Bytes of request bodies that were read";
    pub sent: IntCounter, "strata_sent_bytes_total", [],
        "Bytes of response bodies, as announced";
    pub(super) hits: IntCounterVec, "strata_tier_hits_total", ["tier", "kind"],
        "Reads that a tier answered";
    pub(super) misses: IntCounterVec, "strata_tier_misses_total", ["tier", "kind"],
        "Reads that a tier could not answer";
    pub(super) stores: IntCounterVec, "strata_tier_stores_total", ["tier", "kind"],
        "Values put into a tier";
    pub(super) evictions: IntCounterVec, "strata_tier_evictions_total", ["tier", "kind"],
        "Values that left memory for want of room";
    pub(super) demotions: IntCounterVec, "strata_tier_demotions_total", ["tier", "kind", "reason"],
        "Values that were taken out of a tier, by reason";
    pub(super) faults: IntCounterVec, "strata_tier_errors_total", ["tier", "kind", "reason"],
        "Times that a tier was passed over, by reason";
    pub(super) held: IntGaugeVec, "strata_tier_held_bytes", ["tier", "kind"],
        "Bytes of the values that a tier of this isolate holds";
    pub hot_bytes: IntGauge, "strata_hot_bytes", [],
        "Bytes of memory that the hot tier takes, with what it needs to find them";
    pub(super) promotions: IntCounterVec, "strata_tier_promotions_total", ["kind"],
        "Values that earned a place in the warm tier";
    pub warm_written: IntCounter, "strata_warm_written_bytes_total", [],
        "Bytes written to the warm tier";
    pub warm_saved: IntCounter, "strata_warm_compression_saved_bytes_total", [],
        "Bytes that compression kept from being written to the warm tier";
    pub(super) joins: IntCounterVec, "strata_single_flight_joins_total", ["kind"],
        "Reads that waited for another request's read of the same thing";
    pub(super) passes: IntCounterVec, "strata_layer_passes_total", ["outcome"],
        "Steps of passes over layers, by what came of them: indexed, refused, or paused to be gone on with";
    pub(super) refusals: IntCounterVec, "strata_layer_refusals_total", ["reason"],
        "Layers that can't be indexed, by reason";
    pub(super) inflations: IntCounterVec, "strata_inflate_operations_total", ["what"],
        "Times that something was inflated: a step of a pass over a layer, or a span of one";
    pub(super) inflated: IntCounterVec, "strata_inflated_bytes_total", ["what"],
        "Bytes that came out of it";
    pub(super) layer_reads: IntCounterVec, "strata_layer_reads_total", ["layer"],
        "Files and directories read, by layer; beyond some number of layers, of all others together";
    pub index_bytes: IntCounter, "strata_index_stored_bytes_total", [],
        "Bytes of indexes of layers that were stored, and of what is stored beside them";
    pub layer_ranges: IntCounter, "strata_layer_range_requests_total", [],
        "Ranges of layers that were asked of the cold tier to read files";
    pub layer_range_bytes: IntCounter, "strata_layer_range_bytes_total", [],
        "Bytes of ranges of layers that were asked of the cold tier to read files";
    pub(super) upstream_requests: IntCounterVec, "strata_upstream_requests_total", ["upstream", "method", "status"],
        "Requests to upstreams, by the status of the reply: late or failed without a reply, other if the status is not from 100 to 599";
    pub(super) upstream_remaining: IntGaugeVec, "strata_upstream_ratelimit_remaining", ["upstream"],
        "Requests that an upstream still allows, as it last said";
    pub(super) stale: IntCounterVec, "strata_stale_served_total", ["upstream", "reason"],
        "Answers from what is stored where an upstream should have been asked again, by the reason why it was not heard";
    pub blobs: IntCounter, "strata_blobs_stored_total", [],
        "Blobs stored";
    pub blob_bytes: IntCounter, "strata_blob_stored_bytes_total", [],
        "Bytes of blobs stored";
    pub deduplicated: IntCounter, "strata_blob_deduplicated_bytes_total", [],
        "Bytes of blobs that were pushed or mounted and stored already";
    pub(super) swept: IntCounterVec, "strata_swept_total", ["what"],
        "What the sweep has removed, by what it was";
    pub(super) swept_bytes: IntCounter, "strata_swept_bytes_total", [],
        "Bytes of the store that the sweep has removed";
    pub(super) scrubbed: IntCounterVec, "strata_scrub_checked_total", ["what"],
        "What the scrub has looked at, by what it was";
    pub(super) scrubbed_bytes: IntCounter, "strata_scrub_bytes_total", [],
        "Bytes that the scrub has read and hashed";
    pub(super) scrub_found: IntCounterVec, "strata_scrub_found_total", ["found", "what"],
        "What the scrub has found that is not as it should be, by what is wrong and what it was";
    pub(super) scrub_repaired: IntCounterVec, "strata_scrub_repaired_total", ["repair", "what"],
        "What the scrub has repaired, by how and what it was";
}

/// The operations, of which each class has a counter of its own.
const OPERATIONS: (&str, &str) = (
    "strata_operations_total",
    "Operations by class: of the cold tier a, b and delete as the platform bills them, of the warm tier read, write and delete",
);

fn options(name: &str, help: &str) -> Opts {
    Opts::new(name, format!("{help}; by this isolate since it started."))
}
