//! Settings: what the operator of a registry chooses, read once and checked.
//!
//! | name | default | meaning |
//! |---|---|---|
//! | `STRATA_USERS` | none | users and their passwords, a secret (see [`crate::access::user`]) |
//! | `STRATA_RULES` | users may do everything | who may do what in which repositories (see [`crate::access::rule`]) |
//! | `STRATA_ANONYMOUS_PULL` | `false` | whether everyone may pull what no rule keeps from them: a last rule |
//! | `STRATA_UPSTREAMS` | none | the registries that are mirrored (see [`crate::upstream`]) |
//! | `STRATA_UPSTREAM_CREDENTIALS` | none | what is signed in to them with, a secret: `{"<name>": {"user": …, "password": …}}` |
//! | `STRATA_ORIGIN` | as asked | how clients reach the registry, as `https://registry.example.com`, where a proxy hides it |
//! | `STRATA_UPLOADS` | 64 | how many bodies of one user an isolate takes at the same time |
//! | `STRATA_SUBREQUESTS` | 10000 | store operations that the platform's plan allows one request |
//! | `STRATA_GRACE_HOURS` | 24 | how long what nobody refers to is kept; no push may take longer than half of it |
//! | `STRATA_GRACE_SECONDS` | none | the same in seconds, from 4 on, to try the sweep out: with less than an hour, pushes that take longer than half of it fail |
//! | `STRATA_SCRUB_DAYS` | 30 | in how many days all that is stored is read again, up to 365; 0 for on demand only |
//! | `STRATA_RETENTION` | everything stays | which tags and manifests go by themselves, and which tags never move (see [`crate::retention`]) |
//! | `STRATA_HOT_BYTES` | 33554432 | memory of an isolate for what is hot, up to 96 MiB; 0 for none |
//! | `STRATA_HOT_BLOB_BYTES` | 1048576 | the largest blob that is kept hot; nothing above an eighth of the memory is |
//! | `STRATA_HOT_SECONDS` | 3600 | how long something stays hot |
//! | `STRATA_WARM_BLOB_BYTES` | 1048576 | the largest blob that goes warm, up to 24 MiB; it is read into memory whole |
//! | `STRATA_WARM_SECONDS` | 86400 | how long a blob stays warm, at least 60, and a manifest, if `STRATA_STALE_SECONDS` is not shorter; 0 leaves the warm tier alone |
//! | `STRATA_WARM_READS` | 3 | how often something is read, lately, to go warm; up to 255 |
//! | `STRATA_WARM_SPAN_READS` | 1 | the same for a part of a layer that was inflated |
//! | `STRATA_WARM_PATIENCE_MS` | 1000 | how long the warm tier may take to answer |
//! | `STRATA_WARM_COMPRESSION` | `true` | whether warm values are compressed, where that makes them smaller by a tenth |
//! | `STRATA_HALF_LIFE_SECONDS` | 600 | how long a read counts as lately: after this time, half |
//! | `STRATA_STALE_SECONDS` | 3600 | how long it is believed that a manifest or blob is there, when another isolate may have deleted it |
//! | `STRATA_ABSENT_SECONDS` | 5 | how long those who can't push believe that something is not there, up to 60 |
//! | `STRATA_SPAN_BYTES` | 1048576 | about how much of a layer is inflated to read a byte of it, from 65536 to 4194304 |
//! | `STRATA_INDEX_STEP_BYTES` | 536870912 | how much of a layer is inflated for its index in one request; the rest is left to the next, or to the cron trigger |
//! | `STRATA_INDEX_ENTRIES` | 2000000 | the most files of a layer that is indexed |
//! | `STRATA_INFLATED_BYTES` | 68719476736 | the most bytes that a layer may inflate to |
//! | `STRATA_INFLATED_RATIO` | 250 | how many times its size that may be, beyond 64 MiB |
//! | `STRATA_INDEX_ON_PUSH` | `false` | whether layers are indexed when an image is pushed, or when somebody first looks inside |
//! | `STRATA_LOG` | `requests` | `requests` for a line for each request, `errors` for failures only |

use std::{fmt, str::FromStr, time::Duration};

use crate::{
    access::Access, layer::pass, retention::Policies, store::policy::Policy, upstream::Upstreams,
};

/// The settings of a registry.
#[derive(Debug)]
pub struct Settings {
    /// Who may do what.
    pub access: Access,
    /// How long what nobody refers to is kept.
    pub grace: Duration,
    /// In how many days all that is stored is read again; 0 for on demand only.
    pub scrub_days: u32,
    /// What goes by itself, and which tags never move.
    pub retention: Policies,
    /// The registries that are mirrored.
    pub upstreams: Upstreams,
    /// How clients reach the registry, where requests do not tell.
    pub origin: Option<String>,
    /// How many bodies of one user are taken at the same time.
    pub uploads: u32,
    /// The store operations one request may take.
    pub subrequests: u32,
    /// What is kept in which tier.
    pub policy: Policy,
    /// How layers are indexed.
    pub layers: Layers,
    /// What the log tells.
    pub log: Log,
}

/// How layers are indexed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Layers {
    /// How a pass is done, and what is refused.
    pub options: pass::Options,
    /// How many bytes come out of a layer in one step of a pass.
    pub step: u64,
    /// Whether a push begins the pass, or who first looks inside.
    pub on_push: bool,
}

/// What the log tells.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Log {
    /// Failures.
    Errors,
    /// Failures, and a line for each request.
    Requests,
}

impl FromStr for Log {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "errors" => Ok(Self::Errors),
            "requests" => Ok(Self::Requests),
            _ => Err(()),
        }
    }
}

impl Settings {
    /// Reads settings by their names.
    pub fn parse(get: impl Fn(&str) -> Option<String>) -> Result<Self, ParseSettingsError> {
        let anonymous_pull = value(
            &get,
            "STRATA_ANONYMOUS_PULL",
            false,
            "true or false",
            |_| true,
        )?;
        let subrequests = value(
            &get,
            "STRATA_SUBREQUESTS",
            10_000,
            "a number of at least 50",
            |n| *n >= 50,
        )?;
        let hours = value(
            &get,
            "STRATA_GRACE_HOURS",
            24_u64,
            "a number of hours from 1 to 8760",
            |n| (1..=8_760).contains(n),
        )?;
        let grace = value(
            &get,
            "STRATA_GRACE_SECONDS",
            hours * 3_600,
            "a number of seconds from 4 to 31536000",
            |n| (4..=8_760 * 3_600).contains(n),
        )?;
        let scrub_days = value(
            &get,
            "STRATA_SCRUB_DAYS",
            30,
            "a number of days from 0 to 365",
            |n| *n <= 365,
        )?;
        let log = value(
            &get,
            "STRATA_LOG",
            Log::Requests,
            "requests or errors",
            |_| true,
        )?;
        let policy = policy(&get)?;
        let layers = layers(&get)?;
        let uploads = value(
            &get,
            "STRATA_UPLOADS",
            64,
            "a number from 1 to 10000",
            |n| (1..=10_000).contains(n),
        )?;
        let (users, rules) = (get("STRATA_USERS"), get("STRATA_RULES"));
        let access = Access::parse(users.as_deref(), rules.as_deref(), anonymous_pull)
            .map_err(|(name, problem)| ParseSettingsError::new(name, &problem))?;
        let (upstreams, credentials) =
            (get("STRATA_UPSTREAMS"), get("STRATA_UPSTREAM_CREDENTIALS"));
        let upstreams = Upstreams::parse(upstreams.as_deref(), credentials.as_deref())
            .map_err(|(name, problem)| ParseSettingsError::new(name, &problem))?;
        let retention = match get("STRATA_RETENTION").filter(|text| !text.trim().is_empty()) {
            Some(text) => Policies::parse(&text)
                .map_err(|problem| ParseSettingsError::new("STRATA_RETENTION", &problem))?,
            None => Policies::default(),
        };
        Ok(Self {
            access,
            retention,
            upstreams,
            origin: origin(&get)?,
            uploads,
            grace: Duration::from_secs(grace),
            scrub_days,
            subrequests,
            policy,
            layers,
            log,
        })
    }
}

fn layers(get: &impl Fn(&str) -> Option<String>) -> Result<Layers, ParseSettingsError> {
    let number = |name, default, least: u64, most: u64| {
        let allowed = format!("a number from {least} to {most}");
        value(get, name, default, &allowed, |n| (least..=most).contains(n))
    };
    let defaults = pass::Options::default();
    let options = pass::Options {
        span: number("STRATA_SPAN_BYTES", defaults.span, 64 * 1024, 4 * MIB)?,
        entries: number("STRATA_INDEX_ENTRIES", defaults.entries, 1, 10_000_000)?,
        inflated: number("STRATA_INFLATED_BYTES", defaults.inflated, MIB, 1 << 40)?,
        ratio: number("STRATA_INFLATED_RATIO", defaults.ratio, 2, 10_000)?,
        ..defaults
    };
    Ok(Layers {
        options,
        step: number("STRATA_INDEX_STEP_BYTES", 512 * MIB, MIB, 1 << 40)?,
        on_push: value(get, "STRATA_INDEX_ON_PUSH", false, "true or false", |_| {
            true
        })?,
    })
}

fn origin(get: &impl Fn(&str) -> Option<String>) -> Result<Option<String>, ParseSettingsError> {
    let allowed = "a scheme and a host, as https://registry.example.com";
    let origin = value(get, "STRATA_ORIGIN", String::new(), allowed, |text| {
        // It stands in quotes in a header.
        text.parse::<http::Uri>().is_ok_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.path_and_query().is_none_or(|path| path == "/")
        }) && !text.contains(['"', '\\', '@'])
    })?;
    let origin = origin.trim_end_matches('/');
    Ok((!origin.is_empty()).then(|| origin.to_owned()))
}

fn policy(get: &impl Fn(&str) -> Option<String>) -> Result<Policy, ParseSettingsError> {
    let bytes = |name, default, most: u64| {
        let allowed = format!("a number of bytes from 0 to {most}");
        value(get, name, default, &allowed, |n| (0..=most).contains(n))
    };
    let seconds = |name, default, least: u64, most: u64| {
        let allowed = format!("a number of seconds from {least} to {most}");
        value(get, name, default, &allowed, |n| (least..=most).contains(n)).map(Duration::from_secs)
    };
    let warm_seconds = value(
        get,
        "STRATA_WARM_SECONDS",
        DAY,
        "0, or a number of seconds from 60 to 31536000",
        |n| *n == 0 || (60..=365 * DAY).contains(n),
    )?;
    let patience = value(
        get,
        "STRATA_WARM_PATIENCE_MS",
        1_000,
        "a number of milliseconds from 10 to 30000",
        |n| (10..=30_000).contains(n),
    )?;
    Ok(Policy {
        hot_bytes: bytes("STRATA_HOT_BYTES", 32 * MIB, 96 * MIB)?,
        hot_blob_bytes: bytes("STRATA_HOT_BLOB_BYTES", MIB, 12 * MIB)?,
        hot_retention: seconds("STRATA_HOT_SECONDS", 3_600, 1, DAY)?,
        warm_blob_bytes: bytes("STRATA_WARM_BLOB_BYTES", MIB, Policy::MAX_WARM)?,
        warm_retention: Duration::from_secs(warm_seconds),
        warm_reads: value(
            get,
            "STRATA_WARM_READS",
            3,
            "a number of reads from 1 to 255",
            |n| (1..=255).contains(n),
        )?,
        warm_span_reads: value(
            get,
            "STRATA_WARM_SPAN_READS",
            1,
            "a number of reads from 1 to 255",
            |n| (1..=255).contains(n),
        )?,
        half_life: seconds("STRATA_HALF_LIFE_SECONDS", 600, 1, DAY)?,
        warm_patience: Duration::from_millis(patience),
        compresses: value(
            get,
            "STRATA_WARM_COMPRESSION",
            true,
            "true or false",
            |_| true,
        )?,
        staleness: seconds("STRATA_STALE_SECONDS", 3_600, 1, DAY)?,
        absence: seconds("STRATA_ABSENT_SECONDS", 5, 0, 60)?,
    })
}

const MIB: u64 = 1024 * 1024;
const DAY: u64 = 86_400;

fn value<T: FromStr>(
    get: impl Fn(&str) -> Option<String>,
    name: &'static str,
    default: T,
    allowed: &str,
    check: impl Fn(&T) -> bool,
) -> Result<T, ParseSettingsError> {
    let Some(text) = get(name).filter(|text| !text.trim().is_empty()) else {
        return Ok(default);
    };
    text.trim().parse().ok().filter(check).ok_or_else(|| {
        let problem = format!("{text:?} is not allowed, expected {allowed}");
        ParseSettingsError::new(name, &problem)
    })
}

/// A setting that can't be used.
///
/// It is the answer to every request, signed in or not. So its `Display` has the name alone: a
/// value may be or contain a secret. The log has the problem.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ParseSettingsError {
    name: &'static str,
    problem: String,
}

impl ParseSettingsError {
    fn new(name: &'static str, problem: &str) -> Self {
        Self {
            name,
            problem: without_credentials(problem),
        }
    }

    /// The setting.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The problem, for the log: without credentials of addresses, and without any text of a
    /// setting that is a secret.
    pub fn problem(&self) -> &str {
        &self.problem
    }
}

impl fmt::Display for ParseSettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name;
        write!(
            f,
            "setting {name} is invalid: the registry's log has the reason"
        )
    }
}

/// Redacts the credentials of an address that a text quotes: `"https://…@host"`. A password may
/// have any characters, so everything between the scheme and the last `@` is removed.
fn without_credentials(text: &str) -> String {
    let Some((before, host)) = text.rsplit_once('@') else {
        return text.to_owned();
    };
    let first = before.find('@').unwrap_or(before.len());
    let (start, _) = before.split_at(first);
    let quoted = start.find(['"', '`']).map_or(0, |at| at + 1);
    let (start, value) = before.split_at(quoted);
    let scheme = value.split_once("://").filter(|(scheme, _)| {
        let mut bytes = scheme.bytes();
        !scheme.is_empty() && bytes.all(|b| b.is_ascii_alphanumeric())
    });
    let scheme = scheme.map_or_else(String::new, |(scheme, _)| format!("{scheme}://"));
    format!("{start}{scheme}…@{host}")
}

impl std::error::Error for ParseSettingsError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str, text: &str) -> Result<Settings, String> {
        Settings::parse(|asked| (asked == name).then(|| text.to_owned()))
            .map_err(|error| format!("setting {}: {}", error.name(), error.problem()))
    }

    #[test]
    fn have_defaults() {
        let settings = Settings::parse(|_| None).unwrap();
        assert_eq!(settings.grace, Duration::from_secs(86_400));
        assert_eq!((settings.subrequests, settings.scrub_days), (10_000, 30));
        assert!(!settings.access.is_configured());
        assert_eq!(settings.log, Log::Requests);
        assert_eq!((settings.origin, settings.uploads), (None, 64));
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
    fn are_read() {
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
    fn are_refused_by_name() {
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
                "setting STRATA_HOT_BYTES: \"32 MiB\" is not allowed, expected a number of bytes from 0 to 100663296",
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
