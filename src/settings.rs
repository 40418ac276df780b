//! Settings: what the operator of a registry chooses, read once and checked.
//!
//! | name | default | meaning |
//! |---|---|---|
//! | `STRATA_USERS` | none | users and their passwords, a secret (see [`crate::access`]) |
//! | `STRATA_ANONYMOUS_PULL` | `false` | whether everyone may pull |
//! | `STRATA_SUBREQUESTS` | 10000 | store operations that the platform's plan allows one request |
//! | `STRATA_GRACE_HOURS` | 24 | how long what nobody refers to is kept; no push may take longer than half of it |

use std::{fmt, str::FromStr, time::Duration};

use crate::access::Access;

/// The settings of a registry.
#[derive(Debug)]
pub struct Settings {
    /// Who may do what.
    pub access: Access,
    /// How long what nobody refers to is kept.
    pub grace: Duration,
    /// The store operations one request may take.
    pub subrequests: u32,
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
        let access =
            Access::parse(get("STRATA_USERS").as_deref(), anonymous_pull).map_err(|problem| {
                ParseSettingsError {
                    name: "STRATA_USERS",
                    problem,
                }
            })?;
        Ok(Self {
            access,
            grace: Duration::from_secs(hours * 3_600),
            subrequests,
        })
    }
}

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
    text.trim()
        .parse()
        .ok()
        .filter(check)
        .ok_or_else(|| ParseSettingsError {
            name,
            problem: format!("{text:?} is not allowed, expected {allowed}"),
        })
}

/// A setting that can't be used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ParseSettingsError {
    name: &'static str,
    problem: String,
}

impl fmt::Display for ParseSettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "setting {}: {}", self.name, self.problem)
    }
}

impl std::error::Error for ParseSettingsError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str, text: &str) -> Result<Settings, String> {
        Settings::parse(|asked| (asked == name).then(|| text.to_owned()))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn have_defaults() {
        let settings = Settings::parse(|_| None).unwrap();
        assert_eq!(settings.grace, Duration::from_secs(86_400));
        assert_eq!(settings.subrequests, 10_000);
        assert!(!settings.access.is_configured());
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
        assert_eq!(
            parse("STRATA_GRACE_HOURS", "1").unwrap().grace,
            Duration::from_secs(3_600)
        );
        assert_eq!(
            parse("STRATA_GRACE_HOURS", "").unwrap().grace,
            Duration::from_secs(86_400)
        );
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
                "STRATA_GRACE_HOURS",
                "0",
                "setting STRATA_GRACE_HOURS: \"0\" is not allowed, expected a number of hours from 1 to 8760",
            ),
            (
                "STRATA_USERS",
                "{",
                "setting STRATA_USERS: not as expected at line 1, column 1: the text ends too early",
            ),
        ];
        for (name, text, message) in refused {
            assert_eq!(parse(name, text).unwrap_err(), message);
        }
    }
}
