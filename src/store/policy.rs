//! The policy of the tiers: what is kept where, for how long, and what earns it.
//!
//! All of it is decided here, from sizes, numbers of reads and moments that are handed in.

use std::time::Duration;

use crate::{tier::Kind, time::Timestamp};

/// What is kept where, for how long, and what earns it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Policy {
    /// The bytes of memory for what is hot; with none, nothing is.
    pub hot_bytes: u64,
    /// The largest blob that is kept hot.
    pub hot_blob_bytes: u64,
    /// How long something stays hot.
    pub hot_retention: Duration,
    /// The largest blob that goes warm.
    pub warm_blob_bytes: u64,
    /// How long something stays warm; with no time, nothing is.
    pub warm_retention: Duration,
    /// How often something is read, lately, to earn a place in the warm tier.
    pub warm_reads: u32,
    /// The same for a span: what it took to inflate it is worth keeping sooner.
    pub warm_span_reads: u32,
    /// How long a read counts: after this time, half.
    pub half_life: Duration,
    /// How long the warm tier may take to answer before the cold one is asked.
    pub warm_patience: Duration,
    /// Whether warm values are compressed, where that makes them smaller by a tenth.
    pub compresses: bool,
    /// How long it is believed that something is there: after a deletion elsewhere, the longest that it is still answered.
    pub staleness: Duration,
    /// How long it is believed that something is not there, for those who could not have pushed it.
    pub absence: Duration,
}

impl Policy {
    /// The largest value that the warm tier takes, with room for what is said of it.
    pub const MAX_WARM: u64 = 24 * 1024 * 1024;

    /// The shortest time to live that the warm tier takes.
    pub const MIN_WARM: Duration = Duration::from_secs(60);

    /// Whether something is ever warm.
    pub const fn has_warm(&self) -> bool {
        !self.warm_retention.is_zero()
    }

    /// Whether a blob is read into memory at all: where it would stay in no tier, its bytes only pass by.
    pub const fn holds_blob(&self, size: u64) -> bool {
        (self.hot_bytes > 0 && size <= self.hot_blob_bytes)
            || (self.has_warm() && size <= self.warm_blob_bytes)
    }

    /// Whether a value of this size is kept hot.
    pub const fn fits_hot(&self, kind: Kind, size: u64) -> bool {
        match kind {
            Kind::Blob => size <= self.hot_blob_bytes,
            Kind::Manifest | Kind::Link | Kind::Index | Kind::Page | Kind::Span => true,
        }
    }

    /// Whether a value of this size that was read this often, lately, goes warm. A link goes with its manifest, a page with the index
    /// that it is part of or not at all.
    pub const fn earns_warm(&self, kind: Kind, size: u64, reads: u32) -> bool {
        let (fits, enough) = match kind {
            Kind::Manifest | Kind::Index => (size <= Self::MAX_WARM, self.warm_reads),
            Kind::Span => (size <= Self::MAX_WARM, self.warm_span_reads),
            Kind::Blob => (size <= self.warm_blob_bytes, self.warm_reads),
            Kind::Link | Kind::Page => (false, self.warm_reads),
        };
        self.has_warm() && fits && reads >= enough
    }

    /// When something that was confirmed by the cold tier at this moment is no longer answered from memory.
    ///
    /// Bytes never change; what does is whether a repository has them, which links and manifests say.
    pub fn hot_until(&self, kind: Kind, confirmed: Timestamp) -> Timestamp {
        confirmed
            + match kind {
                Kind::Blob | Kind::Index | Kind::Page | Kind::Span => self.hot_retention,
                Kind::Manifest | Kind::Link => self.hot_retention.min(self.staleness),
            }
    }

    /// When something that was confirmed by the cold tier at this moment is no longer answered from the warm tier.
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

    fn policy(settings: &[(&str, &str)]) -> Policy {
        let found = |name: &str| {
            let setting = settings.iter().find(|(other, _)| *other == name);
            setting.map(|(_, value)| (*value).to_owned())
        };
        Settings::parse(found).unwrap().policy
    }

    #[test]
    fn admits_by_size() {
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
    fn holds_nothing_where_nothing_stays() {
        let policy = policy(&[("STRATA_HOT_BYTES", "0"), ("STRATA_WARM_SECONDS", "0")]);
        assert!(!policy.holds_blob(1));
        assert!(!policy.earns_warm(Kind::Manifest, 1, 255));
    }

    #[test]
    fn promotes_what_is_read_often() {
        let policy = policy(&[("STRATA_WARM_READS", "2")]);
        assert!(!policy.earns_warm(Kind::Manifest, 1, 1));
        assert!(policy.earns_warm(Kind::Manifest, 1, 2));
        assert!(
            !policy.earns_warm(Kind::Link, 1, 2),
            "a link goes with its manifest"
        );
    }

    #[test]
    fn keeps_what_took_inflating_sooner() {
        let policy = policy(&[("STRATA_WARM_READS", "3"), ("STRATA_WARM_SPAN_READS", "2")]);
        assert!(!policy.earns_warm(Kind::Span, 1, 1) && policy.earns_warm(Kind::Span, 1, 2));
        assert!(!policy.earns_warm(Kind::Index, 1, 2) && policy.earns_warm(Kind::Index, 1, 3));
        assert!(
            !policy.earns_warm(Kind::Page, 1, 255),
            "it goes with its index"
        );
        for kind in [Kind::Span, Kind::Index] {
            assert!(policy.earns_warm(kind, Policy::MAX_WARM, 3));
            assert!(!policy.earns_warm(kind, Policy::MAX_WARM + 1, 3));
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
    fn believes_that_something_is_there_for_a_stated_time() {
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
