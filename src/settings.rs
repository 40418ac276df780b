//! Settings: the choices of a registry's operator, read once and validated.
//!
//! `src/settings/table.rs` is their table. `docs/settings.md` is generated from it:
//!
//! ```text
//! cargo run --locked --example settings > docs/settings.md
//! ```

mod document;
mod error;
mod log;
mod setting;
mod table;

use std::time::Duration;

use crate::{
    access::Access, layer::pass, retention::Policies, store::policy::TierPolicy,
    upstream::Upstreams,
};

pub use self::{document::document, error::ParseSettingsError, log::LogScope};

/// The settings of a registry, parsed and validated.
///
/// The type of a field says how it is used, and [`Settings::parse`] reads all from texts.
/// `docs/settings.md` has the name, the default and the allowed values of each setting.
#[derive(Debug)]
pub struct Settings {
    /// The users, the rules and the key of tokens: `STRATA_USERS`, `STRATA_RULES`,
    /// `STRATA_ANONYMOUS_PULL`.
    pub access: Access,
    /// The grace period: how long the sweep keeps unreferenced objects, a day by default. A push
    /// that takes longer than half of it fails.
    pub grace: Duration,
    /// The number of days in which the scrub reads the whole store once, 30 by default. With 0, it
    /// runs on demand only.
    pub scrub_days: u32,
    /// The policies by which tags and manifests expire, and by which tags are immutable.
    pub retention: Policies,
    /// The most bytes of a blob whose extents the sweep joins into one object. With 0 it joins
    /// none.
    pub join_bytes: u64,
    /// The registries that are mirrored. None by default.
    pub upstreams: Upstreams,
    /// The origin by which clients reach the registry, as `https://registry.example.com`, if a
    /// proxy changes the scheme or the host. Without it, [`Request::origin`] counts.
    ///
    /// [`Request::origin`]: crate::registry::Request::origin
    pub origin: Option<String>,
    /// The most request bodies that an isolate receives at a time from one user, or from one
    /// address without credentials.
    pub uploads: u32,
    /// The largest chunk that clients are told to send, in bytes.
    pub body_bytes: u64,
    /// Whether an index may list manifests that the repository lacks; not by default, as in
    /// distribution and olareg.
    pub sparse_indexes: bool,
    /// The most store operations that the platform allows one request, or one run of
    /// [`Registry::tick`](crate::registry::Registry::tick): 50 on the free plan of Workers, 10,000
    /// on the paid one.
    pub subrequests: u32,
    /// The sizes, times and numbers of reads that decide which tier keeps a value.
    pub policy: TierPolicy,
    /// The limits for indexing layers.
    pub layers: LayerSettings,
    /// Whether the log has a line for each request.
    pub log: LogScope,
}

/// The settings for indexing layers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LayerSettings {
    /// The limits of one pass over a layer.
    pub options: pass::Options,
    /// The number of decompressed bytes after which a pass pauses, 512 MiB by default. The next
    /// request or [`Registry::tick`](crate::registry::Registry::tick) resumes it.
    pub step: u64,
    /// Whether a push begins the pass. If not, the first client that reads a file of the layer
    /// does.
    pub on_push: bool,
}

impl Settings {
    /// Reads all settings. `get` returns the text of a setting by its name, such as
    /// `STRATA_GRACE_HOURS`, or `None` if it is not set.
    ///
    /// A blank text counts as not set. Lists and secrets are JSON.
    ///
    /// # Errors
    ///
    /// [`ParseSettingsError`] for the first setting whose text is not allowed, with its name.
    pub fn parse(get: impl Fn(&str) -> Option<String>) -> Result<Self, ParseSettingsError> {
        let anonymous_pull = table::STRATA_ANONYMOUS_PULL.read(&get)?;
        let subrequests = table::STRATA_SUBREQUESTS.read(&get)?;
        let hours = table::STRATA_GRACE_HOURS.read(&get)?;
        let grace = table::STRATA_GRACE_SECONDS
            .find(&get)?
            .unwrap_or(hours * 3_600);
        let scrub_days = table::STRATA_SCRUB_DAYS.read(&get)?;
        let log = table::STRATA_LOG.read(&get)?;
        let grace = Duration::from_secs(grace);
        let policy = policy(&get, grace)?;
        let layers = layers(&get)?;
        let uploads = table::STRATA_UPLOADS.read(&get)?;
        let body_bytes = table::STRATA_BODY_BYTES.read(&get)?;
        let sparse_indexes = table::STRATA_SPARSE_INDEXES.read(&get)?;
        let users = table::STRATA_USERS.find(&get)?;
        let rules = table::STRATA_RULES.find(&get)?;
        let access = Access::parse(users.as_deref(), rules.as_deref(), anonymous_pull)
            .map_err(|(name, problem)| ParseSettingsError::new(name, &problem))?;
        let upstreams = table::STRATA_UPSTREAMS.find(&get)?;
        let credentials = table::STRATA_UPSTREAM_CREDENTIALS.find(&get)?;
        let upstreams = Upstreams::parse(upstreams.as_deref(), credentials.as_deref())
            .map_err(|(name, problem)| ParseSettingsError::new(name, &problem))?;
        let retention = match table::STRATA_RETENTION.find(&get)? {
            Some(text) => {
                Policies::parse(&text).map_err(|problem| table::STRATA_RETENTION.error(&problem))?
            }
            None => Policies::default(),
        };
        Ok(Self {
            access,
            retention,
            upstreams,
            origin: table::STRATA_ORIGIN.find(&get)?,
            uploads,
            body_bytes,
            sparse_indexes,
            grace,
            scrub_days,
            join_bytes: table::STRATA_JOIN_BYTES.read(&get)?,
            subrequests,
            policy,
            layers,
            log,
        })
    }
}

fn layers(get: &impl Fn(&str) -> Option<String>) -> Result<LayerSettings, ParseSettingsError> {
    let options = pass::Options {
        span: table::STRATA_SPAN_BYTES.read(get)?,
        entries: table::STRATA_INDEX_ENTRIES.read(get)?,
        inflated: table::STRATA_INFLATED_BYTES.read(get)?,
        ratio: table::STRATA_INFLATED_RATIO.read(get)?,
        ..pass::Options::default()
    };
    Ok(LayerSettings {
        options,
        step: table::STRATA_INDEX_STEP_BYTES.read(get)?,
        on_push: table::STRATA_INDEX_ON_PUSH.read(get)?,
    })
}

fn policy(
    get: &impl Fn(&str) -> Option<String>,
    grace: Duration,
) -> Result<TierPolicy, ParseSettingsError> {
    let warm_retention = table::STRATA_WARM_SECONDS.read(get)?;
    let patience = table::STRATA_WARM_PATIENCE_MS.read(get)?;
    Ok(TierPolicy {
        hot_bytes: table::STRATA_HOT_BYTES.read(get)?,
        hot_blob_bytes: table::STRATA_HOT_BLOB_BYTES.read(get)?,
        hot_retention: Duration::from_secs(table::STRATA_HOT_SECONDS.read(get)?),
        warm_blob_bytes: table::STRATA_WARM_BLOB_BYTES.read(get)?,
        warm_retention: Duration::from_secs(warm_retention),
        near_retention: Duration::from_secs(table::STRATA_NEAR_SECONDS.read(get)?),
        warm_reads: table::STRATA_WARM_READS.read(get)?,
        warm_span_reads: table::STRATA_WARM_SPAN_READS.read(get)?,
        half_life: Duration::from_secs(table::STRATA_HALF_LIFE_SECONDS.read(get)?),
        warm_hedge: Duration::from_millis(table::STRATA_WARM_HEDGE_MS.read(get)?),
        warm_patience: Duration::from_millis(patience),
        compresses: table::STRATA_WARM_COMPRESSION.read(get)?,
        staleness: Duration::from_secs(table::STRATA_STALE_SECONDS.read(get)?),
        // A read that began by such a link has three quarters of the grace period to end.
        extents_staleness: grace / 4,
        absence: Duration::from_secs(table::STRATA_ABSENT_SECONDS.read(get)?),
        tag_age: Duration::from_secs(table::STRATA_TAG_SECONDS.read(get)?),
    })
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn parse(name: &str, text: &str) -> Result<Settings, String> {
        Settings::parse(|asked| (asked == name).then(|| text.to_owned()))
            .map_err(|error| format!("setting {}: {}", error.name(), error.problem()))
    }

    fn rows() -> impl Iterator<Item = setting::SettingRow> {
        let groups = table::groups().into_iter();
        groups.flat_map(|group| group.rows)
    }

    #[test]
    fn settings_that_are_read_are_those_of_the_table() {
        let asked = RefCell::new(Vec::new());
        let get = |name: &str| {
            asked.borrow_mut().push(name.to_owned());
            None
        };
        Settings::parse(get).unwrap();
        let mut asked = asked.into_inner();
        let mut named: Vec<_> = rows().map(|row| row.name).collect();
        asked.sort();
        named.sort_unstable();
        assert_eq!(asked, named);
    }

    /// The default of an optional setting is a remark, not a value.
    #[test]
    fn settings_except_optional_ones_accept_their_defaults() {
        let refused = rows().filter(|row| parse(row.name, &row.default).is_err());
        let optional = [
            "STRATA_USERS",
            "STRATA_RULES",
            "STRATA_ORIGIN",
            "STRATA_UPSTREAMS",
            "STRATA_UPSTREAM_CREDENTIALS",
            "STRATA_GRACE_SECONDS",
            "STRATA_RETENTION",
        ];
        assert!(refused.map(|row| row.name).eq(optional));
    }

    #[test]
    fn settings_have_defaults() {
        let settings = Settings::parse(|_| None).unwrap();
        assert_eq!(settings.grace, Duration::from_secs(86_400));
        assert_eq!((settings.subrequests, settings.scrub_days), (10_000, 30));
        assert!(!settings.access.is_configured());
        assert_eq!(settings.log, LogScope::Requests);
        assert_eq!((settings.origin, settings.uploads), (None, 64));
        assert_eq!(settings.body_bytes, 95_000_000);
        assert!(!settings.sparse_indexes);
        let policy = settings.policy;
        assert_eq!(policy.hot_bytes, 33_554_432);
        assert_eq!(policy.hot_retention, Duration::from_secs(3_600));
        assert_eq!(policy.warm_retention, Duration::from_secs(86_400));
        assert_eq!((policy.warm_reads, policy.warm_span_reads), (3, 1));
        assert_eq!(settings.layers.options, pass::Options::default());
        assert_eq!(settings.layers.step, 536_870_912);
        assert!(!settings.layers.on_push);
    }

    #[test]
    fn settings_are_parsed() {
        assert!(
            parse("STRATA_ANONYMOUS_PULL", " true ")
                .unwrap()
                .access
                .is_configured()
        );
        assert_eq!(parse("STRATA_SUBREQUESTS", "50").unwrap().subrequests, 50);
        assert_eq!(parse("STRATA_UPLOADS", "1").unwrap().uploads, 1);
        for origin in [
            "https://r.example",
            "https://r.example/",
            " https://r.example ",
        ] {
            let settings = parse("STRATA_ORIGIN", origin).unwrap();
            assert_eq!(settings.origin.as_deref(), Some("https://r.example"));
        }
        assert_eq!(
            parse("STRATA_GRACE_HOURS", "1").unwrap().grace,
            Duration::from_secs(3_600)
        );
        assert_eq!(
            parse("STRATA_GRACE_HOURS", "").unwrap().grace,
            Duration::from_secs(86_400)
        );
        let layers = |name, text| parse(name, text).unwrap().layers;
        assert_eq!(layers("STRATA_SPAN_BYTES", "65536").options.span, 65_536);
        assert_eq!(layers("STRATA_INDEX_ENTRIES", "7").options.entries, 7);
        assert_eq!(
            layers("STRATA_INFLATED_BYTES", "1048576").options.inflated,
            1_048_576
        );
        assert_eq!(
            layers("STRATA_INFLATED_RATIO", "10000").options.ratio,
            10_000
        );
        assert_eq!(layers("STRATA_INDEX_STEP_BYTES", "1048576").step, 1_048_576);
        assert!(layers("STRATA_INDEX_ON_PUSH", "true").on_push);
        let policy = parse("STRATA_WARM_SPAN_READS", "255").unwrap().policy;
        assert_eq!((policy.warm_reads, policy.warm_span_reads), (3, 255));
    }

    #[test]
    fn invalid_settings_are_refused_by_name() {
        let refused = [
            (
                "STRATA_ANONYMOUS_PULL",
                "yes",
                "setting STRATA_ANONYMOUS_PULL: \"yes\" is not allowed, expected true or false",
            ),
            (
                "STRATA_SUBREQUESTS",
                "49",
                "setting STRATA_SUBREQUESTS: \"49\" is not allowed, expected a number of at least 50",
            ),
            (
                "STRATA_SCRUB_DAYS",
                "366",
                "setting STRATA_SCRUB_DAYS: \"366\" is not allowed, expected a number of days from 0 to 365",
            ),
            (
                "STRATA_GRACE_HOURS",
                "0",
                "setting STRATA_GRACE_HOURS: \"0\" is not allowed, expected a number of hours from 1 to 8760",
            ),
            (
                "STRATA_HOT_BYTES",
                "32 MiB",
                "setting STRATA_HOT_BYTES: \"32 MiB\" is not allowed, expected a number of bytes from 0 to 50331648 (uploads need the rest of an isolate's memory)",
            ),
            (
                "STRATA_HOT_BYTES",
                "50331649",
                "setting STRATA_HOT_BYTES: \"50331649\" is not allowed, expected a number of bytes from 0 to 50331648 (uploads need the rest of an isolate's memory)",
            ),
            (
                "STRATA_WARM_SECONDS",
                "59",
                "setting STRATA_WARM_SECONDS: \"59\" is not allowed, expected 0, or a number of seconds from 60 to 31536000",
            ),
            (
                "STRATA_SPAN_BYTES",
                "65535",
                "setting STRATA_SPAN_BYTES: \"65535\" is not allowed, expected a number from 65536 to 4194304",
            ),
            (
                "STRATA_INDEX_STEP_BYTES",
                "1048575",
                "setting STRATA_INDEX_STEP_BYTES: \"1048575\" is not allowed, expected a number from 1048576 to 1099511627776",
            ),
            (
                "STRATA_INDEX_ENTRIES",
                "0",
                "setting STRATA_INDEX_ENTRIES: \"0\" is not allowed, expected a number from 1 to 10000000",
            ),
            (
                "STRATA_INFLATED_BYTES",
                "1",
                "setting STRATA_INFLATED_BYTES: \"1\" is not allowed, expected a number from 1048576 to 1099511627776",
            ),
            (
                "STRATA_INFLATED_RATIO",
                "1",
                "setting STRATA_INFLATED_RATIO: \"1\" is not allowed, expected a number from 2 to 10000",
            ),
            (
                "STRATA_INDEX_ON_PUSH",
                "1",
                "setting STRATA_INDEX_ON_PUSH: \"1\" is not allowed, expected true or false",
            ),
            (
                "STRATA_WARM_SPAN_READS",
                "0",
                "setting STRATA_WARM_SPAN_READS: \"0\" is not allowed, expected a number of reads from 1 to 255",
            ),
            (
                "STRATA_UPLOADS",
                "0",
                "setting STRATA_UPLOADS: \"0\" is not allowed, expected a number from 1 to 10000",
            ),
            (
                "STRATA_ORIGIN",
                "registry.example.com",
                "setting STRATA_ORIGIN: \"registry.example.com\" is not allowed, expected a scheme and a host, as https://registry.example.com",
            ),
            (
                "STRATA_ORIGIN",
                "https://registry.example.com/path",
                "setting STRATA_ORIGIN: \"https://registry.example.com/path\" is not allowed, expected a scheme and a host, as https://registry.example.com",
            ),
            (
                "STRATA_RULES",
                "[{}]",
                "setting STRATA_RULES: missing field `repositories` at line 1 column 3",
            ),
            (
                "STRATA_LOG",
                "debug",
                "setting STRATA_LOG: \"debug\" is not allowed, expected requests or errors",
            ),
            (
                "STRATA_USERS",
                "{",
                "setting STRATA_USERS: line 1, column 1: the text ends too early",
            ),
        ];
        for (name, text, message) in refused {
            assert_eq!(parse(name, text).unwrap_err(), message);
        }
    }
}
