//! Metrics: counts of this isolate since it started, in the text format of Prometheus.
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>
//!
//! A platform makes [`Metrics`] once, and passes them to the registry and to
//! [`Counted`](crate::store::counted::Counted) stores. `GET /metrics` shows them.

use prometheus::{Encoder as _, Error, IntCounter, IntCounterVec, Registry, TextEncoder};

use crate::{
    digest::Digest,
    tier::{Kind, Tier},
};

pub use self::{
    inventory::{All, InventoryMetrics, Of},
    label::{Demotion, Fault, Inflating, OperationClass, PassOutcome, UpstreamOutcome},
    table::Metrics,
};

mod inventory;
mod label;
mod table;

/// The media type of [`Metrics::text`].
pub const MEDIA_TYPE: &str = prometheus::TEXT_FORMAT;

/// The number of layers with counters of their own: the first ones that were read.
const COUNTED_LAYERS: usize = 100;

impl Metrics {
    /// Makes metrics that have counted nothing.
    ///
    /// # Errors
    ///
    /// The error of the library, if two metrics of the table have one name.
    pub fn new() -> Result<Self, Error> {
        let metrics = Self::enter(Registry::new())?;
        // Series start at zero: an absent series would be unknown.
        for kind in Kind::ALL {
            let has_kind = |tier: &Tier| *tier != Tier::Near || kind == Kind::Blob;
            for tier in Tier::ALL.into_iter().filter(has_kind) {
                of(&metrics.hits, tier, kind);
                of(&metrics.misses, tier, kind);
            }
            of(&metrics.stores, Tier::Hot, kind);
            of(&metrics.evictions, Tier::Hot, kind);
            metrics.holds(Tier::Hot, kind, 0);
            metrics.joins.with_label_values(&[kind.name()]);
        }
        of(&metrics.stores, Tier::Near, Kind::Blob);
        for outcome in PassOutcome::ALL {
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
    ///
    /// `route` is the name of its end-point, `status` the number as text, and `seconds` the time
    /// until the head of the response.
    pub fn answered(&self, route: &str, method: &str, status: &str, seconds: f64) {
        self.requests
            .with_label_values(&[route, method, status])
            .inc();
        self.durations.with_label_values(&[route]).observe(seconds);
    }

    /// Counts an object of the kind `what` and of `bytes` bytes, which the sweep has deleted.
    pub fn swept(&self, what: &str, bytes: u64) {
        self.swept.with_label_values(&[what]).inc();
        self.swept_bytes.inc_by(bytes);
    }

    /// Counts an object of the kind `what`, of which the scrub has read `bytes` bytes.
    pub fn scrubbed(&self, what: &str, bytes: u64) {
        self.scrubbed.with_label_values(&[what]).inc();
        self.scrubbed_bytes.inc_by(bytes);
    }

    /// Counts a problem `found` by the scrub in an object of the kind `what`, and its repair. An
    /// empty `repair` is none.
    pub fn found(&self, found: &str, what: &str, repair: &str) {
        self.scrub_found.with_label_values(&[found, what]).inc();
        if !repair.is_empty() {
            self.scrub_repaired.with_label_values(&[repair, what]).inc();
        }
    }

    /// Counts store operations of one class.
    pub fn operated(&self, operation: OperationClass, times: u64) {
        let counters = OperationClass::ALL.iter().zip(&self.operations);
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

    /// Counts a value that was written into a tier.
    pub fn stored(&self, tier: Tier, kind: Kind) {
        of(&self.stores, tier, kind).inc();
    }

    /// Adds bytes that were stored in a tier of this isolate, or subtracts bytes that left it.
    pub fn holds(&self, tier: Tier, kind: Kind, bytes: i64) {
        self.held
            .with_label_values(&[tier.name(), kind.name()])
            .add(bytes);
    }

    /// Counts a value that was evicted from the hot tier, because there was no room.
    pub fn evicted(&self, kind: Kind) {
        of(&self.evictions, Tier::Hot, kind).inc();
    }

    /// Counts a value that was removed from a tier for another reason than eviction.
    pub fn demoted(&self, tier: Tier, kind: Kind, reason: Demotion) {
        self.demotions
            .with_label_values(&[tier.name(), kind.name(), reason.name()])
            .inc();
    }

    /// Counts that a tier was skipped because of a fault.
    pub fn passed_over(&self, tier: Tier, kind: Kind, reason: Fault) {
        self.faults
            .with_label_values(&[tier.name(), kind.name(), reason.name()])
            .inc();
    }

    /// Counts a value that was promoted to the warm tier, the bytes written, and the bytes saved by
    /// compression.
    pub fn promoted(&self, kind: Kind, written: u64, saved: u64) {
        self.promotions.with_label_values(&[kind.name()]).inc();
        self.stored(Tier::Warm, kind);
        self.warm_written.inc_by(written);
        self.warm_saved.inc_by(saved);
    }

    /// Counts a read that waited for the same read of another request.
    pub fn joined(&self, kind: Kind) {
        self.joins.with_label_values(&[kind.name()]).inc();
    }

    /// Counts a step of a pass over a layer.
    pub fn passed(&self, outcome: PassOutcome) {
        self.passes.with_label_values(&[outcome.name()]).inc();
    }

    /// Counts a layer that can't be indexed. Reasons are this registry's own words.
    pub fn refused(&self, reason: &str) {
        self.refusals.with_label_values(&[reason]).inc();
    }

    /// Counts one decompression, and the bytes of its output.
    pub fn inflated(&self, what: Inflating, bytes: u64) {
        self.inflations.with_label_values(&[what.name()]).inc();
        self.inflated
            .with_label_values(&[what.name()])
            .inc_by(bytes);
    }

    /// Counts a read in a layer. The first 100 layers have a counter each, and all others share
    /// one.
    pub fn layer_read(&self, layer: &Digest) {
        let name = layer.to_string();
        let mut counted = self.counted_layers.borrow_mut();
        let has_own = counted.contains(&name)
            || (counted.len() < COUNTED_LAYERS && counted.insert(name.clone()));
        let label = if has_own { name.as_str() } else { "other" };
        self.layer_reads.with_label_values(&[label]).inc();
    }

    /// Counts a request to an upstream, by its name.
    pub fn asked_upstream(&self, upstream: &str, method: &str, outcome: UpstreamOutcome) {
        let status = match outcome {
            // Each status is a series, and an upstream may send any number. RFC 9110 has no others.
            UpstreamOutcome::Answered(status @ 100..600) => status.to_string(),
            UpstreamOutcome::Answered(_) => "other".to_owned(),
            UpstreamOutcome::Late => "late".to_owned(),
            UpstreamOutcome::Failed => "failed".to_owned(),
        };
        self.upstream_requests
            .with_label_values(&[upstream, method, &status])
            .inc();
    }

    /// Records how many requests an upstream still allows, as it last reported.
    pub fn upstream_remaining(&self, upstream: &str, left: i64) {
        self.upstream_remaining
            .with_label_values(&[upstream])
            .set(left);
    }

    /// Counts a stale object, served in place of an upstream's answer. Reasons are this registry's
    /// own words.
    pub fn stale(&self, upstream: &str, reason: &str) {
        self.stale.with_label_values(&[upstream, reason]).inc();
    }

    /// Notes the bytes of memory that the ledger counts, now and at their peak.
    pub fn count_memory(&self, now: u64, peak: u64) {
        for (gauge, bytes) in [(&self.ledger_bytes, now), (&self.ledger_peak, peak)] {
            gauge.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
    }

    /// Formats all metrics, each with its help, in the format of [`MEDIA_TYPE`].
    ///
    /// # Errors
    ///
    /// The error of the library, if it can't encode them.
    pub fn text(&self) -> Result<Vec<u8>, Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

fn of(counters: &IntCounterVec, tier: Tier, kind: Kind) -> IntCounter {
    counters.with_label_values(&[tier.name(), kind.name()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_rendered_as_text_with_their_scope() {
        let metrics = Metrics::new().unwrap();
        metrics.hit(Tier::Hot, Kind::Manifest);
        metrics.answered("manifest", "GET", "200", 0.02);
        metrics.operated(OperationClass::A, 3);
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
                "; counted by the last round of the sweep.",
            ];
            assert!(scopes.iter().any(|scope| line.ends_with(scope)), "{line}");
        }
    }
}
