//! A setting: its name, its default, and its allowed values.

use std::{fmt, str::FromStr};

use crate::settings::error::ParseSettingsError;

/// A setting whose values are of the kind `A`. Its default is a value, or [`Unset`].
#[derive(Debug)]
pub(super) struct Setting<A: Allowed, D = <A as Allowed>::Value> {
    pub(super) name: &'static str,
    pub(super) allowed: A,
    pub(super) default: D,
}

/// The allowed values of a setting. `Display` is their description, which follows "expected".
pub(super) trait Allowed: fmt::Display {
    /// The type of a parsed value.
    type Value;

    /// Parses a text that is not blank.
    fn parse(&self, text: &str) -> Option<Self::Value>;

    /// Whether the texts are secrets.
    fn is_secret(&self) -> bool {
        false
    }
}

/// The default of an optional setting: a remark for the documents.
#[derive(Debug)]
pub(super) struct Unset(pub(super) &'static str);

impl fmt::Display for Unset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// The row of a setting in the documents.
#[derive(Debug)]
pub(super) struct SettingRow {
    pub(super) name: &'static str,
    pub(super) default: String,
    pub(super) allowed: String,
    pub(super) is_secret: bool,
    pub(super) meaning: &'static str,
}

impl<A: Allowed, D> Setting<A, D> {
    /// The value, unless the setting is missing or blank.
    pub(super) fn find(
        &self,
        get: &impl Fn(&str) -> Option<String>,
    ) -> Result<Option<A::Value>, ParseSettingsError> {
        let Some(text) = get(self.name).filter(|text| !text.trim().is_empty()) else {
            return Ok(None);
        };
        let value = self.allowed.parse(&text);
        value.map(Some).ok_or_else(|| {
            let allowed = &self.allowed;
            let shown = match allowed.is_secret() {
                true => "the value".to_owned(),
                false => format!("{text:?}"),
            };
            self.error(&format!("{shown} is not allowed, expected {allowed}"))
        })
    }

    /// An error about the setting.
    pub(super) fn error(&self, problem: &str) -> ParseSettingsError {
        ParseSettingsError::new(self.name, problem)
    }
}

impl<A: Allowed> Setting<A> {
    /// The value, or the default.
    pub(super) fn read(
        self,
        get: &impl Fn(&str) -> Option<String>,
    ) -> Result<A::Value, ParseSettingsError> {
        Ok(self.find(get)?.unwrap_or(self.default))
    }
}

impl<A: Allowed, D: fmt::Display> Setting<A, D> {
    /// The row of the documents.
    pub(super) fn row(&self, meaning: &'static str) -> SettingRow {
        SettingRow {
            name: self.name,
            default: self.default.to_string(),
            allowed: self.allowed.to_string(),
            is_secret: self.allowed.is_secret(),
            meaning,
        }
    }
}

/// Numbers in a range.
#[derive(Debug)]
pub(super) struct Number<T> {
    least: T,
    most: Option<T>,
    unit: Option<&'static str>,
    /// Whether 0 is allowed too, below the range.
    or_zero: bool,
    /// The reason for the largest one.
    why: Option<&'static str>,
}

impl<T: Copy> Number<T> {
    /// Numbers from one to another.
    pub(super) const fn range(least: T, most: T) -> Self {
        Self {
            most: Some(most),
            ..Self::at_least(least)
        }
    }

    /// Numbers from one to the largest of the type.
    pub(super) const fn at_least(least: T) -> Self {
        Self {
            least,
            most: None,
            unit: None,
            or_zero: false,
            why: None,
        }
    }

    /// Numbers of a unit, such as seconds.
    pub(super) const fn of(self, unit: &'static str) -> Self {
        let unit = Some(unit);
        Self { unit, ..self }
    }

    /// Numbers whose largest one has a reason.
    pub(super) const fn because(self, why: &'static str) -> Self {
        let why = Some(why);
        Self { why, ..self }
    }

    /// Zero, or one of these numbers.
    pub(super) const fn or_zero(self) -> Self {
        let or_zero = true;
        Self { or_zero, ..self }
    }
}

impl<T: Copy + fmt::Display + From<u8> + FromStr + PartialOrd> Allowed for Number<T> {
    type Value = T;

    fn parse(&self, text: &str) -> Option<T> {
        let number: T = text.trim().parse().ok()?;
        let is_in_range = number >= self.least && self.most.is_none_or(|most| number <= most);
        let is_zero = self.or_zero && number == T::from(0);
        (is_in_range || is_zero).then_some(number)
    }
}

impl<T: fmt::Display> fmt::Display for Number<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.or_zero {
            f.write_str("0, or ")?;
        }
        f.write_str("a number")?;
        if let Some(unit) = self.unit {
            write!(f, " of {unit}")?;
        }
        match &self.most {
            Some(most) => write!(f, " from {} to {most}", self.least)?,
            None => write!(f, " of at least {}", self.least)?,
        }
        self.why.map_or(Ok(()), |why| write!(f, " ({why})"))
    }
}

/// One of some words.
#[derive(Debug)]
pub(super) struct Choice<T: 'static>(pub(super) &'static [T]);

impl<T: Copy + fmt::Display> Allowed for Choice<T> {
    type Value = T;

    fn parse(&self, text: &str) -> Option<T> {
        let mut values = self.0.iter().copied();
        values.find(|value| value.to_string() == text.trim())
    }
}

impl<T: fmt::Display> fmt::Display for Choice<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.0.iter().map(T::to_string).collect();
        f.write_str(&words.join(" or "))
    }
}

/// An origin of HTTP, without the slash at its end.
#[derive(Debug)]
pub(super) struct OriginUrl;

impl Allowed for OriginUrl {
    type Value = String;

    fn parse(&self, text: &str) -> Option<String> {
        let text = text.trim();
        let uri: http::Uri = text.parse().ok()?;
        let is_origin = matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.path_and_query().is_none_or(|path| path == "/")
            // It stands in quotes in a header.
            && !text.contains(['"', '\\', '@']);
        is_origin.then(|| text.trim_end_matches('/').to_owned())
    }
}

impl fmt::Display for OriginUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a scheme and a host, as https://registry.example.com")
    }
}

/// JSON that its module parses. The text is kept unchanged, because the key of tokens is derived
/// from it.
#[derive(Debug)]
pub(super) struct Json {
    /// Its form, in words.
    pub(super) form: &'static str,
    /// Whether it is a secret.
    pub(super) is_secret: bool,
}

impl Allowed for Json {
    type Value = String;

    fn parse(&self, text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    fn is_secret(&self) -> bool {
        self.is_secret
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.form)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Never(bool);

    impl Allowed for Never {
        type Value = ();

        fn parse(&self, _: &str) -> Option<()> {
            None
        }

        fn is_secret(&self) -> bool {
            self.0
        }
    }

    impl fmt::Display for Never {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("nothing")
        }
    }

    #[test]
    fn an_error_quotes_a_value_unless_it_is_secret() {
        for (is_secret, expected) in [
            (false, "\"hunter2\" is not allowed, expected nothing"),
            (true, "the value is not allowed, expected nothing"),
        ] {
            let setting = Setting {
                name: "STRATA_TEST",
                default: (),
                allowed: Never(is_secret),
            };
            let error = setting.find(&|_| Some("hunter2".to_owned())).unwrap_err();
            assert_eq!(error.problem(), expected);
        }
    }
}
