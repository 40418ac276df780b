//! Errors of settings: the name for clients, and the reason for the log.

use std::fmt;

/// A setting that can't be used, and the reason.
///
/// It is the answer to every request, signed in or not. So its `Display` has the name alone,
/// because a value may be or contain a secret. The log has the problem.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ParseSettingsError {
    name: &'static str,
    problem: String,
}

impl ParseSettingsError {
    pub(super) fn new(name: &'static str, problem: &str) -> Self {
        Self {
            name,
            problem: without_credentials(problem),
        }
    }

    /// The name of the setting, such as `STRATA_USERS`.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The problem and the allowed values, for the log. Credentials in addresses are redacted, and
    /// the text of a setting that is a secret is never quoted.
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

impl std::error::Error for ParseSettingsError {}

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
