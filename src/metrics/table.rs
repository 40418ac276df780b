//! The table of metrics: for each its field, type, name, labels and help.

use std::{cell::RefCell, collections::BTreeSet};

use prometheus::{
    Error, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

use crate::metrics::{inventory::InventoryMetrics, label::OperationClass};

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
            pub inventory: InventoryMetrics,
            $(#[doc = $help] $visibility $field: $type,)*
        }

        impl Metrics {
            /// Makes the metrics of the table, and enters them into a registry.
            pub(super) fn enter(registry: Registry) -> Result<Self, Error> {
                let operations = options(OPERATIONS.0, OPERATIONS.1);
                let operations = IntCounterVec::enter(&registry, operations, &["tier", "class"])?;
                Ok(Self {
                    operations: OperationClass::ALL
                        .map(|(_, labels)| operations.with_label_values(&labels)),
                    counted_layers: RefCell::default(),
                    inventory: InventoryMetrics::enter(&registry)?,
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
        "Seconds from a request to the head of its response; at the edge the clock advances only during I/O";
    pub in_flight: IntGauge, "strata_requests_in_flight", [],
        "Requests in progress";
    pub received: IntCounter, "strata_received_bytes_total", [],
        "Bytes read of request bodies";
    pub sent: IntCounter, "strata_sent_bytes_total", [],
        "Bytes of response bodies, as announced";
    pub(super) hits: IntCounterVec, "strata_tier_hits_total", ["tier", "kind"],
        "Reads that a tier answered: hits";
    pub(super) misses: IntCounterVec, "strata_tier_misses_total", ["tier", "kind"],
        "Reads that a tier could not answer: misses";
    pub(super) stores: IntCounterVec, "strata_tier_stores_total", ["tier", "kind"],
        "Values inserted into a tier";
    pub(super) evictions: IntCounterVec, "strata_tier_evictions_total", ["tier", "kind"],
        "Values evicted from memory";
    pub(super) demotions: IntCounterVec, "strata_tier_demotions_total", ["tier", "kind", "reason"],
        "Values removed from a tier, by reason";
    pub(super) faults: IntCounterVec, "strata_tier_errors_total", ["tier", "kind", "reason"],
        "Operations that bypassed a tier, by reason";
    pub(super) held: IntGaugeVec, "strata_tier_held_bytes", ["tier", "kind"],
        "Bytes of the values that a tier of this isolate holds";
    pub hot_bytes: IntGauge, "strata_hot_bytes", [],
        "Bytes of memory that the hot tier uses, its bookkeeping included";
    pub(super) ledger_bytes: IntGauge, "strata_ledger_bytes", [],
        "Bytes of memory that the ledger counts now: leases, grown memory of WebAssembly, and the hot tier";
    pub(super) ledger_peak: IntGauge, "strata_ledger_peak_bytes", [],
        "The most bytes of memory that the ledger counted";
    pub(super) promotions: IntCounterVec, "strata_tier_promotions_total", ["kind"],
        "Values promoted to the warm tier";
    pub warm_written: IntCounter, "strata_warm_written_bytes_total", [],
        "Bytes written to the warm tier";
    pub warm_saved: IntCounter, "strata_warm_compression_saved_bytes_total", [],
        "Bytes that compression saved in writes to the warm tier";
    pub(super) joins: IntCounterVec, "strata_single_flight_joins_total", ["kind"],
        "Reads that joined another request's read of the same object";
    pub(super) passes: IntCounterVec, "strata_layer_passes_total", ["outcome"],
        "Steps of passes over layers, by outcome: indexed, refused, or paused to resume later";
    pub(super) refusals: IntCounterVec, "strata_layer_refusals_total", ["reason"],
        "Layers that can't be indexed, by reason";
    pub(super) inflations: IntCounterVec, "strata_inflate_operations_total", ["what"],
        "Decompressions of layers: a step of a pass, or a span";
    pub(super) inflated: IntCounterVec, "strata_inflated_bytes_total", ["what"],
        "Bytes decompressed from layers";
    pub(super) layer_reads: IntCounterVec, "strata_layer_reads_total", ["layer"],
        "Files and directories read, by layer; beyond a number of layers all others are one";
    pub index_bytes: IntCounter, "strata_index_stored_bytes_total", [],
        "Bytes stored of indexes of layers, and of the spans beside them";
    pub layer_ranges: IntCounter, "strata_layer_range_requests_total", [],
        "Ranges of layers requested from the cold tier to read files";
    pub layer_range_bytes: IntCounter, "strata_layer_range_bytes_total", [],
        "Bytes of the ranges of layers requested from the cold tier to read files";
    pub(super) upstream_requests: IntCounterVec, "strata_upstream_requests_total", ["upstream", "method", "status"],
        "Requests to upstreams, by the status of the reply: late or failed without a reply, other if the status is not from 100 to 599";
    pub(super) upstream_remaining: IntGaugeVec, "strata_upstream_ratelimit_remaining", ["upstream"],
        "Requests that an upstream still allows, by its last response";
    pub(super) stale: IntCounterVec, "strata_stale_served_total", ["upstream", "reason"],
        "Stale objects served in place of an upstream's answer, by reason";
    pub blobs: IntCounter, "strata_blobs_stored_total", [],
        "Blobs stored";
    pub blob_bytes: IntCounter, "strata_blob_stored_bytes_total", [],
        "Bytes of blobs stored";
    pub deduplicated: IntCounter, "strata_blob_deduplicated_bytes_total", [],
        "Bytes of blobs that were pushed or mounted and stored already";
    pub(super) swept: IntCounterVec, "strata_swept_total", ["what"],
        "Objects that the sweep removed, by kind";
    pub(super) swept_bytes: IntCounter, "strata_swept_bytes_total", [],
        "Bytes that the sweep removed";
    pub joined_bytes: IntCounter, "strata_joined_bytes_total", [],
        "Bytes of blobs whose extents the sweep joined into one object";
    pub(super) scrubbed: IntCounterVec, "strata_scrub_checked_total", ["what"],
        "Objects that the scrub checked, by kind";
    pub(super) scrubbed_bytes: IntCounter, "strata_scrub_bytes_total", [],
        "Bytes that the scrub read and hashed";
    pub(super) scrub_found: IntCounterVec, "strata_scrub_found_total", ["found", "what"],
        "Problems that the scrub found, by problem and by kind of object";
    pub(super) scrub_repaired: IntCounterVec, "strata_scrub_repaired_total", ["repair", "what"],
        "Repairs of the scrub, by repair and by kind of object";
}

/// The operations, of which each class has a counter of its own.
const OPERATIONS: (&str, &str) = (
    "strata_operations_total",
    "Store operations, by tier and class: a, b and delete of the cold tier, as the platform bills them; read, write and delete of the warm tier",
);

fn options(name: &str, help: &str) -> Opts {
    Opts::new(name, format!("{help}; by this isolate since it started."))
}
