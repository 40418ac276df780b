//! Names of repositories, tags, and the references that clients use for manifests.
//!
//! ```text
//! name      ::= component ("/" component)*            at most 255 characters
//! component ::= alnum (separator alnum)*
//! separator ::= "." | "_" | "__" | "-"+
//! alnum     ::= [a-z0-9]+
//! tag       ::= [a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}
//! reference ::= tag | digest
//! ```
//!
//! Source: distribution-spec v1.1.1, "Pulling manifests". A `:` can't be in a tag and is in every
//! digest, so it tells the two kinds of reference apart.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};

use crate::digest::{Digest, ParseDigestError};

/// The name of a repository, `<name>` in the specification: components of lower-case letters,
/// digits and separators, joined by `/`.
///
/// ```
/// use strata::name::{Name, ParseNameError};
///
/// let name: Name = "library/alpine".parse()?;
/// assert_eq!(name.as_str(), "library/alpine");
/// assert_eq!("Alpine".parse::<Name>(), Err(ParseNameError::Character('A')));
/// # Ok::<(), ParseNameError>(())
/// ```
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Name(String);

impl Name {
    /// The longest name, in characters. The specification warns that clients limit host and name
    /// together to 255.
    pub const MAX_LENGTH: usize = 255;

    /// The name as text, such as `library/alpine`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl FromStr for Name {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, ParseNameError> {
        if text.len() > Self::MAX_LENGTH {
            return Err(ParseNameError::Length(text.len()));
        }
        for component in text.split('/') {
            check_component(component)?;
        }
        Ok(Self(text.to_owned()))
    }
}

fn check_component(component: &str) -> Result<(), ParseNameError> {
    let mut separator = String::new();
    let mut last = None;
    for c in component.chars() {
        match c {
            'a'..='z' | '0'..='9' => {
                let known = match separator.as_str() {
                    "" | "." | "_" | "__" => true,
                    dashes => dashes.chars().all(|c| c == '-'),
                };
                if !known {
                    return Err(ParseNameError::Separator(separator));
                }
                separator.clear();
            }
            '.' | '_' | '-' if last.is_some() => separator.push(c),
            found => return Err(ParseNameError::Character(found)),
        }
        last = Some(c);
    }
    match last {
        None => Err(ParseNameError::EmptyComponent),
        Some(found @ ('.' | '_' | '-')) => Err(ParseNameError::Character(found)),
        Some(_) => Ok(()),
    }
}

/// The reason why a text is not the name of a repository.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ParseNameError {
    /// The text has this character where it is not allowed.
    Character(char),
    /// The text has nothing before, after or between slashes.
    EmptyComponent,
    /// The text has this many bytes, more than [`Name::MAX_LENGTH`].
    Length(usize),
    /// The text has this run of `.`, `_` and `-`, which is not one separator.
    Separator(String),
}

impl fmt::Display for ParseNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Character(found) => {
                write!(f, "unexpected character {found:?} in repository name")
            }
            Self::EmptyComponent => f.write_str("empty component in repository name"),
            Self::Length(found) => {
                write!(
                    f,
                    "{found} characters in repository name, at most {} are allowed",
                    Name::MAX_LENGTH
                )
            }
            Self::Separator(found) => {
                write!(f, "unexpected separator {found:?} in repository name")
            }
        }
    }
}

impl std::error::Error for ParseNameError {}

/// A tag: a name for a manifest that can be moved. It has letters, digits, `_`, `.` and `-`, and
/// begins with neither of the last two.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Tag(String);

impl Tag {
    /// The longest tag, in characters (distribution-spec v1.1.1, "Pulling manifests").
    pub const MAX_LENGTH: usize = 128;

    /// The tag as text, such as `latest`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Tag {
    type Err = ParseTagError;

    fn from_str(text: &str) -> Result<Self, ParseTagError> {
        for (at, c) in text.chars().enumerate() {
            match c {
                'a'..='z' | 'A'..='Z' | '0'..='9' | '_' => {}
                '.' | '-' if at > 0 => {}
                found => return Err(ParseTagError::Character(found)),
            }
        }
        match text.len() {
            0 => Err(ParseTagError::Empty),
            found if found > Self::MAX_LENGTH => Err(ParseTagError::Length(found)),
            _ => Ok(Self(text.to_owned())),
        }
    }
}

/// The reason why a text is not a tag.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ParseTagError {
    /// The text has this character where it is not allowed.
    Character(char),
    /// The text is empty.
    Empty,
    /// The text has this many characters, more than [`Tag::MAX_LENGTH`].
    Length(usize),
}

impl fmt::Display for ParseTagError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Character(found) => write!(f, "unexpected character {found:?} in tag"),
            Self::Empty => f.write_str("empty tag"),
            Self::Length(found) => write!(
                f,
                "{found} characters in tag, at most {} are allowed",
                Tag::MAX_LENGTH
            ),
        }
    }
}

impl std::error::Error for ParseTagError {}

/// A client's name for a manifest, `<reference>` in the specification.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Reference {
    /// A digest, which always names the same manifest.
    Digest(Digest),
    /// A tag, which names the manifest that it points to now.
    Tag(Tag),
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digest(digest) => digest.fmt(f),
            Self::Tag(tag) => tag.fmt(f),
        }
    }
}

impl FromStr for Reference {
    type Err = ParseReferenceError;

    fn from_str(text: &str) -> Result<Self, ParseReferenceError> {
        if text.contains(':') {
            text.parse()
                .map(Self::Digest)
                .map_err(ParseReferenceError::Digest)
        } else {
            text.parse()
                .map(Self::Tag)
                .map_err(ParseReferenceError::Tag)
        }
    }
}

/// The reason why a text is neither a digest nor a tag.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ParseReferenceError {
    /// The text has a `:` and is not a digest, for this reason.
    Digest(ParseDigestError),
    /// The text has no `:` and is not a tag, for this reason.
    Tag(ParseTagError),
}

impl fmt::Display for ParseReferenceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digest(error) => error.fmt(f),
            Self::Tag(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ParseReferenceError {}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn repository_names_are_parsed() {
        let long = "a".repeat(255);
        for text in [
            "a",
            "0",
            "library/alpine",
            "a/b/c/d/e/f",
            "a.b_c__d-e---f",
            "blobs/uploads",
            "manifests",
            "v2",
            "1/2",
            long.as_str(),
        ] {
            assert_eq!(text.parse::<Name>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn invalid_repository_names_are_refused_with_the_reason() {
        let long = "a".repeat(256);
        let rejected = [
            ("", "empty component in repository name"),
            ("/", "empty component in repository name"),
            ("a/", "empty component in repository name"),
            ("a//b", "empty component in repository name"),
            ("A", "unexpected character 'A' in repository name"),
            ("a/_b", "unexpected character '_' in repository name"),
            ("a-", "unexpected character '-' in repository name"),
            ("a..b", "unexpected separator \"..\" in repository name"),
            ("a___b", "unexpected separator \"___\" in repository name"),
            ("a._b", "unexpected separator \"._\" in repository name"),
            ("a-_b", "unexpected separator \"-_\" in repository name"),
            ("a:b", "unexpected character ':' in repository name"),
            ("ä", "unexpected character 'ä' in repository name"),
            (
                long.as_str(),
                "256 characters in repository name, at most 255 are allowed",
            ),
        ];
        for (text, message) in rejected {
            assert_eq!(
                text.parse::<Name>().unwrap_err().to_string(),
                message,
                "{text:?}"
            );
        }
    }

    #[test]
    fn exactly_the_names_of_the_grammar_are_accepted() {
        // Every text of up to four characters over one character of each kind, compared with a
        // plain reading of the grammar.
        let alphabet = ['a', '0', '.', '_', '-', '/', 'A'];
        let mut texts = vec![String::new()];
        for _ in 0..4 {
            let longer: Vec<String> = texts
                .iter()
                .flat_map(|text| alphabet.iter().map(move |c| format!("{text}{c}")))
                .collect();
            for text in &longer {
                assert_eq!(text.parse::<Name>().is_ok(), grammar(text), "{text:?}");
            }
            texts = longer;
        }
    }

    #[test]
    fn tags_are_parsed() {
        let long = "a".repeat(128);
        for text in ["latest", "v1.2.3", "_", "A-B.c_d", "1", long.as_str()] {
            assert_eq!(text.parse::<Tag>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn invalid_tags_are_refused_with_the_reason() {
        let long = "a".repeat(129);
        let rejected = [
            ("", "empty tag"),
            (".a", "unexpected character '.' in tag"),
            ("-a", "unexpected character '-' in tag"),
            ("a/b", "unexpected character '/' in tag"),
            ("a b", "unexpected character ' ' in tag"),
            ("é", "unexpected character 'é' in tag"),
            (
                long.as_str(),
                "129 characters in tag, at most 128 are allowed",
            ),
        ];
        for (text, message) in rejected {
            assert_eq!(
                text.parse::<Tag>().unwrap_err().to_string(),
                message,
                "{text:?}"
            );
        }
    }

    #[test]
    fn references_are_parsed_as_tags_or_digests() {
        let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert!(matches!(digest.parse(), Ok(Reference::Digest(_))));
        assert!(matches!("sha256".parse(), Ok(Reference::Tag(_))));
        assert_eq!(
            "sha256:baddigeststring"
                .parse::<Reference>()
                .unwrap_err()
                .to_string(),
            "unexpected character 'i' in digest"
        );
    }

    fn grammar(name: &str) -> bool {
        name.split('/').all(|component| {
            let marked = component.replace("__", "!").replace(['.', '_'], "!");
            let mut collapsed = String::new();
            for c in marked.chars() {
                // A run of dashes is one separator; any other run of separators is none.
                if !(c == '-' && collapsed.ends_with('-')) {
                    collapsed.push(c);
                }
            }
            collapsed.split(['!', '-']).all(|alnum| {
                !alnum.is_empty()
                    && alnum
                        .chars()
                        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
            })
        })
    }
}
