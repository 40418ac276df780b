//! Patterns of names, as in shells: `*` is any part of one component, `**` any number of
//! components.

use serde::{Deserialize, Deserializer, de::Error as _};

/// A pattern of names of repositories, or of tags, such as `team/**` or `v*`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub struct Pattern(String);

impl Pattern {
    /// The pattern of every name: `**`.
    pub fn all() -> Self {
        Self("**".to_owned())
    }

    /// Whether the pattern matches all of a name.
    pub fn matches(&self, name: &str) -> bool {
        fast_glob::glob_match(&self.0, name)
    }
}

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        // No name has the other characters to which the library gives a meaning.
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '*');
        let is_sound = text.split('/').all(|component| {
            !component.is_empty()
                && component.chars().all(allowed)
                && (component == "**" || !component.contains("**"))
        });
        if !is_sound {
            return Err(format!(
                "{text:?} is not a pattern of names, where * is any part of one component and ** any number of components"
            ));
        }
        Ok(Self(text))
    }
}

/// Reads patterns of repository names. Names have no capitals, so a pattern with one is refused: it
/// would match nothing.
pub(crate) fn of_repositories<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<Pattern>, D::Error> {
    let patterns = Vec::<Pattern>::deserialize(deserializer)?;
    let has_capitals = |pattern: &&Pattern| pattern.0.bytes().any(|b| b.is_ascii_uppercase());
    match patterns.iter().find(has_capitals) {
        Some(Pattern(text)) => Err(D::Error::custom(format_args!(
            "{text:?} has capitals, which no name of a repository has"
        ))),
        None => Ok(patterns),
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn patterns_match_by_components() {
        for (pattern, named, not_named) in [
            ("**", &["a", "a/b/c"][..], &[][..]),
            ("*", &["a", "a-b"], &["a/b"]),
            (
                "team/*",
                &["team/a"],
                &["team", "team/a/b", "teams/a", "a/team/b"],
            ),
            ("team/**", &["team/a", "team/a/b"], &["team", "teams/a"]),
            ("a-*-c", &["a-b-c", "a-b.x-c"], &["a-b", "a-b/x-c"]),
            (
                "**/cache",
                &["cache", "a/cache", "a/b/cache"],
                &["a/cache/b", "acache"],
            ),
            ("a/**/z", &["a/z", "a/b/c/z"], &["a", "az", "b/a/z"]),
        ] {
            let pattern = Pattern::try_from(pattern.to_owned()).unwrap();
            for name in named {
                assert!(pattern.matches(name), "{pattern:?} names {name}");
            }
            for name in not_named {
                assert!(!pattern.matches(name), "{pattern:?} does not name {name}");
            }
        }
    }

    #[test]
    fn invalid_patterns_are_refused() {
        for pattern in [
            "", "/", "a/", "/a", "a//b", "a**", "***", "a/**b", "a b", "[a]", "{a,b}", "!a", "a?",
        ] {
            let error = Pattern::try_from(pattern.to_owned()).unwrap_err();
            assert_eq!(
                error,
                format!(
                    "{pattern:?} is not a pattern of names, where * is any part of one component and ** any number of components"
                )
            );
        }
    }
}
