//! Retention: the tags and manifests of a repository that expire, and the tags that never move.
//!
//! ```json
//! [
//!   {"repositories": ["team/**"], "keep_newest": 10, "keep_tags": ["v*"], "untagged_days": 7,
//!    "immutable_tags": ["v*"]},
//!   {"repositories": ["ci/**"], "tag_days": 30, "untagged_days": 1}
//! ]
//! ```
//!
//! The first policy that names the repository decides. Without one, everything stays. A tag expires
//! if no pattern keeps it, it is not immutable, not among the newest, and older than `tag_days`.
//! Without `keep_newest` and `tag_days`, no tag expires.

use std::time::Duration;

use serde::Deserialize;

use crate::{
    name::{Name, Tag},
    pattern::{self, Pattern},
    time::Timestamp,
};

/// The policies of retention, in the order of evaluation. The default has none: everything stays.
///
/// [`Settings::parse`](crate::settings::Settings::parse) makes it of `STRATA_RETENTION`.
#[derive(Clone, Debug, Default)]
pub struct Policies(Vec<RetentionPolicy>);

/// The tags and manifests that stay in some repositories, and for how long.
#[doc(hidden)]
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionPolicy {
    #[serde(deserialize_with = "pattern::of_repositories")]
    repositories: Vec<Pattern>,
    /// The number of newest tags that stay.
    keep_newest: Option<usize>,
    /// Patterns of other tags that stay.
    #[serde(default)]
    keep_tags: Vec<Pattern>,
    /// The days that the other tags stay.
    tag_days: Option<u64>,
    /// The days that an untagged manifest stays.
    untagged_days: Option<u64>,
    /// Patterns of tags that never move.
    #[serde(default)]
    immutable_tags: Vec<Pattern>,
}

const DAY: u64 = 86_400;

/// Whether one of the patterns names a tag.
fn names(patterns: &[Pattern], tag: &Tag) -> bool {
    patterns.iter().any(|pattern| pattern.matches(tag.as_str()))
}

impl Policies {
    /// Parses the JSON of policies.
    ///
    /// # Errors
    ///
    /// The problem, which quotes the input: policies are no secret.
    #[doc(hidden)]
    pub fn parse(text: &str) -> Result<Self, String> {
        let policies: Vec<RetentionPolicy> =
            serde_json::from_str(text).map_err(|error| error.to_string())?;
        for (number, policy) in (1..).zip(&policies) {
            let wrong = if policy.repositories.is_empty() {
                "\"repositories\" is empty"
            } else if !policy.keep_tags.is_empty() && !policy.removes_tags() {
                "\"keep_tags\" keeps tags from \"keep_newest\" or \"tag_days\", and there is neither"
            } else if policy.keep_newest == Some(0) && policy.tag_days.is_none() {
                "\"keep_newest\" is 0, which would delete every new tag: set 1 or more, or \"tag_days\""
            } else if policy.untagged_days == Some(0) {
                "\"untagged_days\" is 0, which would delete images while they are pushed: set 1 or more"
            } else {
                continue;
            };
            return Err(format!("policy {number}: {wrong}"));
        }
        Ok(Self(policies))
    }

    /// The policy of a repository: the first one that names it. `None` if everything stays.
    #[doc(hidden)]
    pub fn of(&self, name: &Name) -> Option<&RetentionPolicy> {
        self.0.iter().find(|policy| {
            let mut patterns = policy.repositories.iter();
            patterns.any(|pattern| pattern.matches(name.as_str()))
        })
    }

    /// Whether a tag of a repository never moves.
    #[doc(hidden)]
    pub fn is_immutable(&self, name: &Name, tag: &Tag) -> bool {
        self.of(name)
            .is_some_and(|policy| names(&policy.immutable_tags, tag))
    }

    /// Whether any policy removes tags or manifests.
    #[doc(hidden)]
    pub fn remove_anything(&self) -> bool {
        self.0.iter().any(RetentionPolicy::removes_anything)
    }
}

impl RetentionPolicy {
    const fn removes_tags(&self) -> bool {
        self.keep_newest.is_some() || self.tag_days.is_some()
    }

    /// Whether the policy removes tags or manifests.
    pub const fn removes_anything(&self) -> bool {
        self.removes_tags() || self.untagged_days.is_some()
    }

    /// How long an untagged manifest stays. `None` if it stays for ever.
    pub fn untagged(&self) -> Option<Duration> {
        self.untagged_days
            .map(|days| Duration::from_secs(days.saturating_mul(DAY)))
    }

    /// The expired tags, each with the reason for the log.
    ///
    /// `tags` are all tags of the repository, with the times of their writes. No tag younger than
    /// `least` expires.
    pub fn stale(
        &self,
        mut tags: Vec<(Tag, Timestamp)>,
        now: Timestamp,
        least: Duration,
    ) -> Vec<(Tag, &'static str)> {
        if !self.removes_tags() {
            return Vec::new();
        }
        let days = self.tag_days.unwrap_or_default();
        let time = Duration::from_secs(days.saturating_mul(DAY)).max(least);
        tags.retain(|(tag, _)| !names(&self.keep_tags, tag) && !names(&self.immutable_tags, tag));
        // The newest first. Tags of the same time are in the order of their names.
        tags.sort_by(|(one, written), (other, later)| {
            later.cmp(written).then(one.as_str().cmp(other.as_str()))
        });
        let why = match (self.keep_newest, self.tag_days) {
            (Some(_), None) => "keep_newest other tags are newer",
            (None, _) => "it is older than tag_days",
            (Some(_), Some(_)) => "it is older than tag_days, and keep_newest others are newer",
        };
        tags.into_iter()
            .skip(self.keep_newest.unwrap_or_default())
            .filter(|(_, written)| now.since(*written) >= time)
            .map(|(tag, _)| (tag, why))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    const NOW: Timestamp = Timestamp(1_000 * DAY * 1_000);
    const HOUR: Duration = Duration::from_secs(3_600);

    fn policies(json: &str) -> Policies {
        Policies::parse(json).unwrap()
    }

    /// The expired tags among those that were written so many days ago.
    fn stale(policy: &str, tags: &[(&str, u64)]) -> Vec<String> {
        let policies = policies(&format!("[{{\"repositories\": [\"**\"], {policy}}}]"));
        let written = |(tag, days): &(&str, u64)| {
            (tag.parse().unwrap(), Timestamp(NOW.0 - days * DAY * 1_000))
        };
        let tags = tags.iter().map(written).collect();
        let policy = policies.of(&"a".parse().unwrap()).unwrap();
        let stale = policy.stale(tags, NOW, HOUR);
        stale.into_iter().map(|(tag, _)| tag.to_string()).collect()
    }

    #[test]
    fn tags_that_no_rule_keeps_expire() {
        let tags = [("a", 1), ("b", 2), ("c", 3), ("v1", 9), ("v2", 0)];
        let none: [&str; 0] = [];
        for (policy, expected) in [
            ("\"untagged_days\": 1", &none[..]),
            ("\"immutable_tags\": [\"*\"]", &none),
            ("\"keep_newest\": 1", &["a", "b", "c", "v1"]),
            ("\"keep_newest\": 9", &none),
            ("\"keep_newest\": 2, \"keep_tags\": [\"v*\"]", &["c"]),
            (
                "\"keep_newest\": 1, \"immutable_tags\": [\"v*\"]",
                &["b", "c"],
            ),
            ("\"tag_days\": 3", &["c", "v1"]),
            ("\"tag_days\": 3, \"keep_newest\": 4", &["v1"]),
            ("\"tag_days\": 0", &["a", "b", "c", "v1"]),
            (
                "\"tag_days\": 0, \"keep_tags\": [\"v*\", \"a\"]",
                &["b", "c"],
            ),
        ] {
            assert_eq!(stale(policy, &tags), expected, "{policy}");
        }
        // By name, if the times are equal.
        assert_eq!(stale("\"keep_newest\": 1", &[("b", 5), ("a", 5)]), ["b"]);
    }

    #[test]
    fn the_first_matching_retention_policy_decides() {
        let policies = policies(
            r#"[
                {"repositories": ["team/**"], "immutable_tags": ["v*"]},
                {"repositories": ["**"], "immutable_tags": ["*"], "untagged_days": 2}
            ]"#,
        );
        let is_immutable = |name: &str, tag: &str| {
            policies.is_immutable(&name.parse().unwrap(), &tag.parse().unwrap())
        };
        assert!(is_immutable("team/a", "v1") && !is_immutable("team/a", "latest"));
        assert!(is_immutable("other", "latest"));
        let untagged = |name: &str| policies.of(&name.parse().unwrap()).unwrap().untagged();
        assert_eq!(untagged("team/a"), None);
        assert_eq!(untagged("other"), Some(Duration::from_secs(2 * DAY)));
        assert!(Policies::default().of(&"a".parse().unwrap()).is_none());
    }

    #[test]
    fn invalid_policies_are_refused_with_position_and_reason() {
        for (policy, message) in [
            (
                "\"repositories\": []",
                "policy 1: \"repositories\" is empty",
            ),
            (
                "\"repositories\": [\"a\"], \"keep_tags\": [\"v*\"]",
                "policy 1: \"keep_tags\" keeps tags from \"keep_newest\" or \"tag_days\", and there is neither",
            ),
            (
                "\"repositories\": [\"a\"], \"keep_newest\": 0",
                "policy 1: \"keep_newest\" is 0, which would delete every new tag: set 1 or more, or \"tag_days\"",
            ),
            (
                "\"repositories\": [\"a\"], \"untagged_days\": 0",
                "policy 1: \"untagged_days\" is 0, which would delete images while they are pushed: set 1 or more",
            ),
            (
                "\"repositories\": [\"A\"]",
                "\"A\" has capitals, which no name of a repository has at line 1 column 24",
            ),
            (
                "\"repositories\": [\"a\"], \"newest\": 1",
                "unknown field `newest`, expected one of `repositories`, `keep_newest`, `keep_tags`, `tag_days`, `untagged_days`, `immutable_tags` at line 1 column 33",
            ),
        ] {
            assert_eq!(
                Policies::parse(&format!("[{{{policy}}}]")).unwrap_err(),
                message
            );
        }
    }
}
