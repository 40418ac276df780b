//! Annotations of a manifest (image-spec v1.1.1, `annotations.md`): a map of strings, kept as JSON
//! text. Nothing reads single annotations, and a parsed map takes many times the memory.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// The annotations of a manifest, as the text of a JSON object without white space between its
/// parts.
#[derive(Clone, Debug)]
pub struct Annotations(Box<RawValue>);

impl Annotations {
    /// Makes annotations of JSON that was not checked.
    pub fn of(text: Box<RawValue>) -> Self {
        let dense = match dense(text.get()) {
            Cow::Borrowed(_) => None,
            Cow::Owned(dense) => RawValue::from_string(dense).ok(),
        };
        Self(dense.unwrap_or(text))
    }

    /// Checks that the text is a map of strings, as a pushed manifest must have it (image-spec
    /// v1.1.1, `annotations.md`).
    ///
    /// # Errors
    ///
    /// The position of the first value that is no string, or of a syntax error.
    pub fn check(text: &RawValue) -> Result<(), serde_json::Error> {
        serde_json::from_str::<Strings>(text.get()).map(drop)
    }

    /// Removes values that are no strings. `None` if the text is no map at all. An upstream may
    /// send anything, and clients read a map of strings.
    pub fn into_strings(self) -> Option<Self> {
        if Self::check(&self.0).is_ok() {
            return Some(self);
        }
        let Kept(text) = serde_json::from_str(self.text()).ok()?;
        RawValue::from_string(text).ok().map(Self)
    }

    /// The annotations as JSON.
    pub fn text(&self) -> &str {
        self.0.get()
    }
}

impl PartialEq for Annotations {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Eq for Annotations {}

impl Serialize for Annotations {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// Stored annotations are repeated unchecked. Those of an upstream pass through
/// [`Annotations::into_strings`].
impl<'de> Deserialize<'de> for Annotations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(Self)
    }
}

/// JSON without white space between its parts, because the metadata of an object is one line.
fn dense(text: &str) -> Cow<'_, str> {
    let (mut is_string, mut is_escaped) = (false, false);
    let mut is_kept = move |character: char| {
        if is_string {
            is_string = is_escaped || character != '"';
            is_escaped = !is_escaped && character == '\\';
            return true;
        }
        is_string = character == '"';
        !matches!(character, ' ' | '\t' | '\n' | '\r')
    };
    let mut probe = is_kept;
    if text.chars().all(&mut probe) {
        return text.into();
    }
    let mut dense = String::with_capacity(text.len());
    dense.extend(text.chars().filter(|character| is_kept(*character)));
    dense.into()
}

/// A map of strings that is checked and not kept.
struct Strings;

impl<'de> Deserialize<'de> for Strings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Self)
    }
}

impl<'de> Visitor<'de> for Strings {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        while map.next_key::<IgnoredAny>()?.is_some() {
            map.next_value::<Text>()?;
        }
        Ok(self)
    }
}

/// The strings of a map, as JSON. A parsed map takes many times the memory.
struct Kept(String);

impl<'de> Deserialize<'de> for Kept {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Self("{".to_owned()))
    }
}

impl<'de> Visitor<'de> for Kept {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self, A::Error> {
        let Self(text) = &mut self;
        while let Some((key, value)) = map.next_entry::<Cow<'_, str>, &RawValue>()? {
            if serde_json::from_str::<Text>(value.get()).is_err() {
                continue;
            }
            if text.len() > 1 {
                text.push(',');
            }
            text.push_str(&serde_json::to_string(&key).map_err(A::Error::custom)?);
            text.push(':');
            text.push_str(value.get());
        }
        text.push('}');
        Ok(self)
    }
}

/// A string that is checked and not kept.
struct Text;

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Self)
    }
}

impl Visitor<'_> for Text {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    fn parse(text: &str) -> Result<String, String> {
        let raw = RawValue::from_string(text.to_owned()).unwrap();
        Annotations::check(&raw).map_err(|error| error.to_string())?;
        Ok(Annotations::of(raw).text().to_owned())
    }

    #[test]
    fn annotations_are_stored_without_white_space_between_tokens() {
        let dense = r#"{"a":" \" b","\\":" c\n","d":"\\"}"#;
        assert_eq!(parse(dense).unwrap(), dense);
        let wide = "{ \"a\" :\n\t\" \\\" b\",\r\n\"\\\\\": \" c\\n\",\"d\":\"\\\\\" }";
        assert_eq!(parse(wide).unwrap(), dense);
        assert_eq!(parse("{ }").unwrap(), "{}");
    }

    #[test]
    fn annotations_must_be_a_map_of_strings() {
        for (text, found) in [
            (
                r#"{"a":{"b":"c"}}"#,
                "invalid type: map, expected a string at line 1 column 5",
            ),
            (
                r#"{"a":1}"#,
                "invalid type: integer `1`, expected a string at line 1 column 6",
            ),
            (
                r#"{"a":null}"#,
                "invalid type: null, expected a string at line 1 column 9",
            ),
            (
                r#"["a"]"#,
                "invalid type: sequence, expected a map of strings at line 1 column 0",
            ),
        ] {
            assert_eq!(parse(text).unwrap_err(), found, "{text}");
        }
    }
}
