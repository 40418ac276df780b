//! The policy of the tiers: the values that each tier keeps, for how long, and after how many
//! reads.
//!
//! All of it is decided here, from sizes, numbers of reads and times that the caller passes.

use std::time::Duration;

use crate::{tier::Kind, time::Timestamp};

/// The limits of each tier: sizes, times and required reads. The settings of section "Tiers" in
/// docs/settings.md set them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TierPolicy {
    /// The memory for the hot tier, in bytes. With 0, nothing is hot.
    pub hot_bytes: u64,
    /// The largest blob that is kept hot, in bytes.
    pub hot_blob_bytes: u64,
    /// How long a value stays hot after the cold tier confirmed it.
    pub hot_retention: Duration,
    /// The largest blob that is promoted to the warm tier, in bytes. It is read into memory whole.
    pub warm_blob_bytes: u64,
    /// How long a value stays warm after the cold tier confirmed it. With zero, nothing is warm.
    pub warm_retention: Duration,
    /// How long an entry of the near tier lives. With zero, nothing is near.
    pub near_retention: Duration,
    /// The number of recent reads after which a value is promoted to the warm tier.
    pub warm_reads: u32,
    /// The same number for a span: decompressing it costs CPU, so it is promoted sooner.
    pub warm_span_reads: u32,
    /// The half-life of a read: after this time it counts half.
    pub half_life: Duration,
    /// How long the warm or the near tier has for its answer before the cold one is asked.
    pub warm_hedge: Duration,
    /// The timeout of a read of the warm tier.
    pub warm_patience: Duration,
    /// Whether warm values are compressed, if that makes them smaller by a tenth.
    pub compresses: bool,
    /// The longest time that an answer about a manifest or a link is cached. Another isolate may
    /// have deleted the content since.
    pub staleness: Duration,
    /// The longest time that a link of several extents is cached. Another isolate may have joined
    /// them, and deletes them a grace period later.
    pub extents_staleness: Duration,
    /// How long "not found" is cached, for callers without push permission.
    pub absence: Duration,
    /// How long a tag is believed, for callers that can't change it. With zero, never.
    pub tag_age: Duration,
}

impl TierPolicy {
    /// The largest value that is written to the warm tier, in bytes: 24 MiB, so that its header
    /// fits.
    pub const MAX_WARM: u64 = 24 * 1024 * 1024;

    /// The shortest time to live that the warm tier accepts (Workers KV: 60 seconds).
    pub const MIN_WARM: Duration = Duration::from_secs(60);

    /// Whether values are kept warm at all.
    pub const fn has_warm(&self) -> bool {
        !self.warm_retention.is_zero()
    }

    /// Whether a blob of `size` bytes is read into memory. If no tier would keep it, its bytes are
    /// streamed.
    pub const fn holds_blob(&self, size: u64) -> bool {
        (self.hot_bytes > 0 && size <= self.hot_blob_bytes)
            || (self.has_warm() && size <= self.warm_blob_bytes)
    }

    /// Whether a value of `size` bytes is kept hot.
    pub const fn fits_hot(&self, kind: Kind, size: u64) -> bool {
        match kind {
            Kind::Blob => size <= self.hot_blob_bytes,
            Kind::Manifest | Kind::Link | Kind::Index | Kind::Page | Kind::Span => true,
        }
    }

    /// Whether a value of `size` bytes is promoted to the warm tier after this many recent reads.
    ///
    /// A link is promoted with its manifest. A page is promoted with the index that it is part of,
    /// or not at all.
    pub const fn earns_warm(&self, kind: Kind, size: u64, reads: u32) -> bool {
        let (fits, enough) = match kind {
            Kind::Manifest | Kind::Index => (size <= Self::MAX_WARM, self.warm_reads),
            Kind::Span => (size <= Self::MAX_WARM, self.warm_span_reads),
            Kind::Blob => (size <= self.warm_blob_bytes, self.warm_reads),
            Kind::Link | Kind::Page => (false, self.warm_reads),
        };
        self.has_warm() && fits && reads >= enough
    }

    /// The time at which a value expires in the hot tier. `confirmed` is the time at which the cold
    /// tier confirmed it.
    ///
    /// Bytes never change. Whether a repository has them may change, so links and manifests expire
    /// after [`TierPolicy::staleness`] at the latest.
    pub fn hot_until(&self, kind: Kind, confirmed: Timestamp) -> Timestamp {
        confirmed
            + match kind {
                Kind::Blob | Kind::Index | Kind::Page | Kind::Span => self.hot_retention,
                Kind::Manifest | Kind::Link => self.hot_retention.min(self.staleness),
            }
    }

    /// The time at which a link expires in the hot tier: sooner, if it names several objects.
    pub fn link_until(&self, objects: u32, confirmed: Timestamp) -> Timestamp {
        let until = self.hot_until(Kind::Link, confirmed);
        if objects > 1 {
            until.min(confirmed + self.extents_staleness)
        } else {
            until
        }
    }

    /// The time from which a value is renewed that was confirmed and expires then, by a number from
    /// 0 to 1 of the isolate's own.
    ///
    /// The last moments are those of links, because a manifest is renewed with its links. Few
    /// isolates come early, so that the others find what they did. Of 1,000 isolates that renew
    /// within ten minutes, some four come in the minute after the first, for which the platform may
    /// show them the older value.
    pub fn renewal(kind: Kind, confirmed: Timestamp, until: Timestamp, spread: f64) -> Timestamp {
        let (first, width) = match kind {
            Kind::Link => (0.98, 0.02),
            Kind::Manifest | Kind::Blob | Kind::Index | Kind::Page | Kind::Span => (0.8, 0.18),
        };
        let share = first + width * spread.clamp(0.0, 1.0).sqrt().sqrt();
        confirmed + until.since(confirmed).mul_f64(share)
    }

    /// The time at which a value expires in the warm tier, by the same rules as
    /// [`TierPolicy::hot_until`].
    pub fn warm_until(&self, kind: Kind, confirmed: Timestamp) -> Timestamp {
        confirmed
            + match kind {
                Kind::Blob | Kind::Index | Kind::Page | Kind::Span => self.warm_retention,
                Kind::Manifest | Kind::Link => self.warm_retention.min(self.staleness),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    fn policy(settings: &[(&str, &str)]) -> TierPolicy {
        let found = |name: &str| {
            let setting = settings.iter().find(|(other, _)| *other == name);
            setting.map(|(_, value)| (*value).to_owned())
        };
        Settings::parse(found).unwrap().policy
    }

    #[test]
    fn tiers_admit_values_by_size() {
        let policy = policy(&[
            ("STRATA_HOT_BLOB_BYTES", "100"),
            ("STRATA_WARM_BLOB_BYTES", "200"),
        ]);
        assert!(policy.fits_hot(Kind::Blob, 100) && !policy.fits_hot(Kind::Blob, 101));
        assert!(policy.fits_hot(Kind::Manifest, 4_000_000));
        assert!(policy.earns_warm(Kind::Blob, 200, 3) && !policy.earns_warm(Kind::Blob, 201, 3));
        assert!(policy.holds_blob(200) && !policy.holds_blob(201));
    }

    #[test]
    fn disabled_tiers_hold_nothing() {
        let policy = policy(&[("STRATA_HOT_BYTES", "0"), ("STRATA_WARM_SECONDS", "0")]);
        assert!(!policy.holds_blob(1));
        assert!(!policy.earns_warm(Kind::Manifest, 1, 255));
    }

    #[test]
    fn values_read_often_are_promoted() {
        let policy = policy(&[("STRATA_WARM_READS", "2")]);
        assert!(!policy.earns_warm(Kind::Manifest, 1, 1));
        assert!(policy.earns_warm(Kind::Manifest, 1, 2));
        assert!(
            !policy.earns_warm(Kind::Link, 1, 2),
            "a link goes with its manifest"
        );
    }

    #[test]
    fn spans_are_promoted_after_fewer_reads() {
        let policy = policy(&[("STRATA_WARM_READS", "3"), ("STRATA_WARM_SPAN_READS", "2")]);
        assert!(!policy.earns_warm(Kind::Span, 1, 1) && policy.earns_warm(Kind::Span, 1, 2));
        assert!(!policy.earns_warm(Kind::Index, 1, 2) && policy.earns_warm(Kind::Index, 1, 3));
        assert!(
            !policy.earns_warm(Kind::Page, 1, 255),
            "it goes with its index"
        );
        for kind in [Kind::Span, Kind::Index] {
            assert!(policy.earns_warm(kind, TierPolicy::MAX_WARM, 3));
            assert!(!policy.earns_warm(kind, TierPolicy::MAX_WARM + 1, 3));
            assert!(
                policy.fits_hot(kind, 100_000_000),
                "memory has a bound of its own"
            );
        }
        let start = Timestamp(1_000_000);
        for kind in [Kind::Span, Kind::Index, Kind::Page] {
            assert_eq!(policy.hot_until(kind, start), start + policy.hot_retention);
            assert_eq!(
                policy.warm_until(kind, start),
                start + policy.warm_retention
            );
        }
    }

    #[test]
    fn values_are_renewed_before_they_expire() {
        let at = |kind, seconds, spread| {
            let until = Timestamp(1_000_000) + Duration::from_secs(seconds);
            TierPolicy::renewal(kind, Timestamp(1_000_000), until, spread).0 - 1_000_000
        };
        assert_eq!(at(Kind::Manifest, 100, 0.0), 80_000);
        assert_eq!(at(Kind::Manifest, 100, 0.0625), 89_000, "few are early");
        assert_eq!(at(Kind::Manifest, 100, 1.0), 98_000);
        assert_eq!(
            (at(Kind::Link, 100, 0.0), at(Kind::Link, 100, 1.0)),
            (98_000, 100_000)
        );
        assert_eq!(at(Kind::Manifest, 0, 0.5), 0);
    }

    #[test]
    fn manifests_and_links_expire_after_strata_stale_seconds() {
        let start = Timestamp(1_000_000);
        let policy = policy(&[
            ("STRATA_STALE_SECONDS", "600"),
            ("STRATA_HOT_SECONDS", "3600"),
            ("STRATA_WARM_SECONDS", "86400"),
        ]);
        for kind in [Kind::Manifest, Kind::Link] {
            assert_eq!(
                policy.hot_until(kind, start),
                start + Duration::from_secs(600)
            );
            assert_eq!(
                policy.warm_until(kind, start),
                start + Duration::from_secs(600)
            );
        }
        assert_eq!(
            policy.hot_until(Kind::Blob, start),
            start + Duration::from_secs(3_600)
        );
        assert_eq!(
            policy.warm_until(Kind::Blob, start),
            start + Duration::from_secs(86_400)
        );
    }
}
