//! Rules: the actions that callers may do, by repository.
//!
//! ```json
//! [
//!   {"repositories": ["team/**"], "who": ["group:team"], "may": ["pull", "push", "delete"]},
//!   {"repositories": ["**"], "who": ["everyone"], "may": ["pull"]}
//! ]
//! ```
//!
//! The first rule that names both the repository and the caller decides. If none does, nothing is
//! allowed. In a pattern, `*` is any part of one component and `**` any number of components, as in
//! shells. Actions without a repository, such as reading metrics, are decided by the rules with the
//! pattern `**`.

use serde::Deserialize;

use crate::{
    access::user::User,
    name::Name,
    pattern::{self, Pattern},
};

/// An action that a rule permits. A token permits the first four only.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Read manifests, blobs, lists and files: `pull`.
    Pull,
    /// Write new content: `push`.
    Push,
    /// Move a tag to another manifest: `overwrite`.
    Overwrite,
    /// Delete tags, manifests and blobs: `delete`.
    Delete,
    /// Administer the registry: run background jobs, see reports, invalidate mirrored tags, and
    /// delete immutable tags: `administer`.
    Administer,
    /// Read the metrics: `metrics`.
    Metrics,
}

impl Action {
    /// Every action, in the order of the variants.
    pub const ALL: [Self; 6] = [
        Self::Pull,
        Self::Push,
        Self::Overwrite,
        Self::Delete,
        Self::Administer,
        Self::Metrics,
    ];

    /// The word for the action in rules and tokens.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Overwrite => "overwrite",
            Self::Delete => "delete",
            Self::Administer => "administer",
            Self::Metrics => "metrics",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of actions, as a bit for each.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Actions(u8);

impl Actions {
    /// Whether the set has an action.
    pub const fn has(self, action: Action) -> bool {
        self.0 & action.bit() != 0
    }

    /// Whether the set has no action.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The intersection of both sets.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Iterates over the actions, in the order of [`Action::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Action> {
        Action::ALL
            .into_iter()
            .filter(move |action| self.has(*action))
    }
}

impl FromIterator<Action> for Actions {
    fn from_iter<I: IntoIterator<Item = Action>>(actions: I) -> Self {
        Self(
            actions
                .into_iter()
                .fold(0, |bits, action| bits | action.bit()),
        )
    }
}

/// Rules, in the order of evaluation.
#[derive(Clone, Debug)]
pub(super) struct Rules(Vec<Rule>);

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    #[serde(deserialize_with = "pattern::of_repositories")]
    repositories: Vec<Pattern>,
    who: Vec<Subject>,
    may: Vec<Action>,
}

impl Rules {
    /// Reads rules. Errors quote the input: rules are no secret.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let rules: Vec<Rule> = serde_json::from_str(text).map_err(|error| error.to_string())?;
        for (number, rule) in (1..).zip(&rules) {
            let lists = [
                ("repositories", rule.repositories.is_empty()),
                ("who", rule.who.is_empty()),
            ];
            if let Some((list, _)) = lists.iter().find(|(_, is_empty)| *is_empty) {
                return Err(format!("rule {number}: {list:?} is empty"));
            }
        }
        Ok(Self(rules))
    }

    /// The default rules: every signed-in user may do everything.
    pub(super) fn of_users() -> Self {
        Self(vec![Rule {
            repositories: vec![Pattern::all()],
            who: vec![Subject::Users],
            may: Action::ALL.to_vec(),
        }])
    }

    /// Adds a last rule that lets everyone pull everything.
    pub(super) fn let_everyone_pull(&mut self) {
        self.0.push(Rule {
            repositories: vec![Pattern::all()],
            who: vec![Subject::Everyone],
            may: vec![Action::Pull],
        });
    }

    /// The actions of a caller in a repository, or without one in the registry as a whole.
    pub(super) fn actions(&self, name: Option<&Name>, user: Option<&User>) -> Actions {
        let names = |rule: &&Rule| match name {
            Some(name) => rule
                .repositories
                .iter()
                .any(|pattern| pattern.matches(name.as_str())),
            None => rule.repositories.contains(&Pattern::all()),
        };
        let rule = self
            .0
            .iter()
            .find(|rule| names(rule) && rule.who.iter().any(|subject| subject.is(user)));
        rule.map_or_else(Actions::default, |rule| rule.may.iter().copied().collect())
    }

    /// Whether an anonymous caller may do anything anywhere.
    pub(super) fn are_for_everyone(&self) -> bool {
        self.0
            .iter()
            .any(|rule| rule.who.contains(&Subject::Everyone) && !rule.may.is_empty())
    }
}

/// The callers that a rule is for.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
enum Subject {
    /// Every caller, signed in or not: signing in takes no permission away.
    Everyone,
    /// Every signed-in user.
    Users,
    User(String),
    Group(String),
}

impl Subject {
    fn is(&self, user: Option<&User>) -> bool {
        match self {
            Self::Everyone => true,
            Self::Users => user.is_some(),
            Self::User(name) => user.is_some_and(|user| user.name == *name),
            Self::Group(name) => user.is_some_and(|user| user.groups.contains(name)),
        }
    }
}

impl TryFrom<String> for Subject {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "everyone" => Ok(Self::Everyone),
            None if text == "users" => Ok(Self::Users),
            Some(("user", name)) if User::is_name(name) => Ok(Self::User(name.to_owned())),
            Some(("group", name)) if User::is_name(name) => Ok(Self::Group(name.to_owned())),
            _ => Err(format!(
                "unknown caller {text:?}: expected everyone, users, user:<name> or group:<name>"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    fn rules(json: &str) -> Rules {
        Rules::parse(json).unwrap()
    }

    fn words(actions: Actions) -> String {
        actions
            .iter()
            .map(Action::name)
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[track_caller]
    fn allows(rules: &Rules, name: &str, user: Option<&User>, expected: &str) {
        let name = name.parse().ok();
        assert_eq!(words(rules.actions(name.as_ref(), user)), expected);
    }

    #[test]
    fn the_first_rule_matching_repository_and_caller_decides() {
        let rules = rules(
            r#"[
                {"repositories": ["secret/**"], "who": ["user:root"], "may": ["pull"]},
                {"repositories": ["secret/**"], "who": ["everyone"], "may": []},
                {"repositories": ["team/**", "shared"], "who": ["group:team", "user:guest"], "may": ["pull", "push"]},
                {"repositories": ["**"], "who": ["users"], "may": ["pull", "metrics"]},
                {"repositories": ["public/*"], "who": ["everyone"], "may": ["pull"]}
            ]"#,
        );
        let member = User::named("ann", &["team"]);
        let guest = User::named("guest", &[]);
        let root = User::named("root", &[]);
        for (name, user, expected) in [
            ("team/x", Some(&member), "pull push"),
            ("team/x/y", Some(&guest), "pull push"),
            ("team/x", Some(&root), "pull metrics"),
            ("team/x", None, ""),
            ("team", Some(&member), "pull metrics"),
            ("shared", Some(&member), "pull push"),
            ("secret/a", Some(&root), "pull"),
            ("secret/a", Some(&member), ""),
            ("public/x", None, "pull"),
            ("public/x/y", None, ""),
            ("public/x", Some(&guest), "pull metrics"),
            ("", Some(&guest), "pull metrics"),
            ("", None, ""),
        ] {
            allows(&rules, name, user, expected);
        }
        assert!(rules.are_for_everyone());
    }

    #[test]
    fn default_rules_allow_users_everything_and_anonymous_nothing() {
        let mut rules = Rules::of_users();
        let user = User::named("ann", &[]);
        let all = "pull push overwrite delete administer metrics";
        allows(&rules, "a", Some(&user), all);
        allows(&rules, "", Some(&user), all);
        allows(&rules, "a", None, "");
        assert!(!rules.are_for_everyone());
        rules.let_everyone_pull();
        allows(&rules, "a", Some(&user), all);
        allows(&rules, "a", None, "pull");
        assert!(rules.are_for_everyone());
    }

    #[test]
    fn invalid_rules_are_refused_with_position_and_reason() {
        let rule = |repositories: &str, who: &str, may: &str| {
            format!("[\n{{\"repositories\": {repositories}, \"who\": {who},\n\"may\": {may}}}]")
        };
        for (text, message) in [
            (
                "[".to_owned(),
                "EOF while parsing a list at line 1 column 1",
            ),
            (
                rule("[\"a\"]", "[\"users\"]", "[\"write\"]"),
                "unknown variant `write`, expected one of `pull`, `push`, `overwrite`, `delete`, `administer`, `metrics` at line 3 column 15",
            ),
            (
                rule("[\"A\"]", "[\"users\"]", "[]"),
                "\"A\" has capitals, which no name of a repository has at line 2 column 22",
            ),
            (
                rule("[\"a\"]", "[\"anna\"]", "[]"),
                "unknown caller \"anna\": expected everyone, users, user:<name> or group:<name> at line 2 column 39",
            ),
            (
                rule("[\"a\"]", "[\"user:\"]", "[]"),
                "unknown caller \"user:\": expected everyone, users, user:<name> or group:<name> at line 2 column 40",
            ),
            (
                rule("[]", "[\"users\"]", "[]"),
                "rule 1: \"repositories\" is empty",
            ),
            (rule("[\"a\"]", "[]", "[]"), "rule 1: \"who\" is empty"),
            (
                "[{\"may\": [], \"allow\": []}]".to_owned(),
                "unknown field `allow`, expected one of `repositories`, `who`, `may` at line 1 column 20",
            ),
        ] {
            assert_eq!(Rules::parse(&text).unwrap_err(), message);
        }
    }
}
