//! Users: people with passwords, and robots with tokens.
//!
//! ```json
//! {"users": {
//!   "alice": {"secret": "pbkdf2-sha256$100000$<salt>$<key>", "groups": ["team"]},
//!   "bob": "pbkdf2-sha256$100000$<salt>$<key>",
//!   "ci": {"secret": "token-sha256$<salt>$<key>", "groups": ["robots"]}
//! }}
//! ```
//!
//! Salts and keys are in base64 without padding (RFC 4648, section 4). A password is kept as a key
//! of 32 bytes that PBKDF2 with HMAC-SHA-256 (RFC 8018) derives from it. The platform computes that
//! natively, up to 100,000 iterations. A robot's token has 238 random bits, too many to guess, so
//! SHA-256 of the salt and the token is enough. The form of the sent credential decides which of
//! the two is computed, not the user's secret. So the response time does not reveal whether a user
//! exists.

use std::{collections::BTreeMap, fmt, rc::Rc};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use serde::{Deserialize, Deserializer, de};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::host::KeyDerivation;

/// The most iterations with which the platform derives a key.
pub(super) const MAX_ITERATIONS: u32 = 100_000;

/// A user: the name, the groups, and the hash of a password or token.
#[derive(Debug)]
pub struct User {
    pub(super) name: String,
    pub(super) groups: Vec<String>,
    secret: Secret,
}

impl User {
    /// The longest name of a user or a group, in characters.
    const MAX_LENGTH: usize = 64;

    /// Whether a text is a valid name of a user or a group.
    pub(super) fn is_name(text: &str) -> bool {
        (1..=Self::MAX_LENGTH).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._@+-".contains(&byte))
    }

    #[cfg(test)]
    pub(super) fn named(name: &str, groups: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            secret: Secret::Token {
                salt: vec![0; 8],
                key: [0; 32],
            },
        }
    }
}

/// All users, by name.
#[derive(Debug, Default)]
pub(super) struct Users {
    by_name: BTreeMap<String, Rc<User>>,
    /// The most iterations that a password among them takes.
    iterations: u32,
}

impl Users {
    /// Reads users. Errors give the position, and never repeat a secret.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let document: UsersDocument = serde_json::from_str(text).map_err(|error| {
            let found = match error.classify() {
                serde_json::error::Category::Eof => "the text ends too early".to_owned(),
                serde_json::error::Category::Syntax => "not JSON".to_owned(),
                serde_json::error::Category::Data | serde_json::error::Category::Io => {
                    of_ours(&error.to_string())
                }
            };
            format!("line {}, column {}: {found}", error.line(), error.column())
        })?;
        let users = document.users.0;
        let iterations = users.values().filter_map(|entry| entry.secret.iterations());
        Ok(Self {
            iterations: iterations.max().unwrap_or(MAX_ITERATIONS),
            by_name: users
                .into_iter()
                .map(|(name, entry)| {
                    let user = User {
                        name: name.0.clone(),
                        groups: entry.groups.into_iter().map(|group| group.0).collect(),
                        secret: entry.secret,
                    };
                    (name.0, Rc::new(user))
                })
                .collect(),
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    pub(super) fn get(&self, name: &str) -> Option<&Rc<User>> {
        self.by_name.get(name)
    }

    /// The user of this name, if this is their password or token. Takes the same work for every
    /// name.
    pub(super) async fn verify(
        &self,
        name: &str,
        credential: &str,
        host: &impl KeyDerivation,
    ) -> Result<Option<Rc<User>>, String> {
        let user = self.get(name);
        let matches = if is_token(credential) {
            let (salt, key) = match user.map(|user| &user.secret) {
                Some(Secret::Token { salt, key }) => (salt.as_slice(), *key),
                Some(Secret::Password { .. }) | None => ([0; 16].as_slice(), [0; 32]),
            };
            let found = Sha256::new()
                .chain_update(salt)
                .chain_update(credential)
                .finalize();
            found.ct_eq(key.as_slice()).into()
        } else {
            let (iterations, salt, key) = match user.map(|user| &user.secret) {
                Some(Secret::Password {
                    iterations,
                    salt,
                    key,
                }) => (*iterations, salt.as_slice(), *key),
                Some(Secret::Token { .. }) | None => (self.iterations, [0; 16].as_slice(), [0; 32]),
            };
            let credential = credential.as_bytes();
            let found = host.derive(credential, salt, iterations).await?;
            // A password of fewer iterations must not be recognized by its time.
            if let Some(rest @ 1..) = self.iterations.checked_sub(iterations) {
                host.derive(credential, salt, rest).await?;
            }
            bool::from(found.ct_eq(&key))
        };
        Ok(user.filter(|_| matches).cloned())
    }
}

/// Whether a credential has the form of a robot's token. No password is ever kept by a hash that is
/// quick to compute.
pub(super) fn is_token(credential: &str) -> bool {
    credential.strip_prefix("strata_").is_some_and(|random| {
        random.len() == 40 && random.bytes().all(|b| b.is_ascii_alphanumeric())
    })
}

/// A password or a token in its stored form.
enum Secret {
    Password {
        iterations: u32,
        salt: Vec<u8>,
        key: [u8; 32],
    },
    Token {
        salt: Vec<u8>,
        key: [u8; 32],
    },
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password { .. } => "Password",
            Self::Token { .. } => "Token",
        })
    }
}

impl Secret {
    const fn iterations(&self) -> Option<u32> {
        match self {
            Self::Password { iterations, .. } => Some(*iterations),
            Self::Token { .. } => None,
        }
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let fields: Vec<&str> = text.split('$').collect();
        match *fields.as_slice() {
            ["pbkdf2-sha256", iterations, salt, key] => {
                let iterations = iterations
                    .parse()
                    .map_err(|_| "the number of iterations is not a number")?;
                if !(1..=MAX_ITERATIONS).contains(&iterations) {
                    return Err(
                        "the number of iterations is not from 1 to 100000, the platform's maximum",
                    );
                }
                Ok(Self::Password {
                    iterations,
                    salt: parse_salt(salt)?,
                    key: parse_key(key)?,
                })
            }
            ["token-sha256", salt, key] => Ok(Self::Token {
                salt: parse_salt(salt)?,
                key: parse_key(key)?,
            }),
            _ => {
                Err("expected pbkdf2-sha256$<iterations>$<salt>$<key> or token-sha256$<salt>$<key>")
            }
        }
    }
}

fn parse_salt(text: &str) -> Result<Vec<u8>, &'static str> {
    let salt = STANDARD_NO_PAD
        .decode(text)
        .map_err(|_| "the salt is not base64 without padding")?;
    if salt.len() < 8 {
        return Err("the salt is shorter than 8 bytes");
    }
    Ok(salt)
}

fn parse_key(text: &str) -> Result<[u8; 32], &'static str> {
    let key = STANDARD_NO_PAD
        .decode(text)
        .map_err(|_| "the key is not base64 without padding")?;
    key.try_into().map_err(|_| "the key is not 32 bytes long")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UsersDocument {
    users: Entries,
}

/// The entries of all users. A repeated name is refused: otherwise the second entry would silently
/// win.
struct Entries(BTreeMap<UserName, UserEntry>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED)
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some((name, entry)) = map.next_entry::<UserName, UserEntry>()? {
                    if entries.contains_key(&name) {
                        return Err(ours(&format!("user {:?} is defined twice", name.0)));
                    }
                    entries.insert(name, entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

#[derive(Eq, Ord, PartialEq, PartialOrd)]
struct UserName(String);

impl<'de> Deserialize<'de> for UserName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        if !User::is_name(&name) {
            return Err(ours(
                "the name of a user or group has 1 to 64 characters of a-z, A-Z, 0-9 and ._@+-",
            ));
        }
        Ok(Self(name))
    }
}

struct UserEntry {
    secret: Secret,
    groups: Vec<UserName>,
}

impl<'de> Deserialize<'de> for UserEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = UserEntry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED)
            }

            fn visit_str<E: de::Error>(self, secret: &str) -> Result<UserEntry, E> {
                Ok(UserEntry {
                    secret: Secret::parse(secret).map_err(ours)?,
                    groups: Vec::new(),
                })
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<UserEntry, A::Error> {
                #[derive(Deserialize)]
                #[serde(deny_unknown_fields)]
                struct Fields {
                    secret: String,
                    #[serde(default)]
                    groups: Vec<UserName>,
                }
                let fields = Fields::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(UserEntry {
                    secret: Secret::parse(&fields.secret).map_err(ours)?,
                    groups: fields.groups,
                })
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

const EXPECTED: &str = "{\"users\": {\"<name>\": \"<secret>\" or {\"secret\": \"<secret>\", \"groups\": [\"<name>\"]}}}";

/// The prefix of this module's own messages. Other errors may quote the input, which may be a
/// secret.
const OURS: &str = "users: ";

fn ours<E: de::Error>(words: &str) -> E {
    E::custom(format_args!("{OURS}{words}"))
}

fn of_ours(message: &str) -> String {
    match message.strip_prefix(OURS) {
        Some(words) => {
            let end = words.rfind(" at line ").unwrap_or(words.len());
            words.get(..end).unwrap_or(words).to_owned()
        }
        None => format!("expected {EXPECTED}"),
    }
}
