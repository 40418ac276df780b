//! Who may do what: users with passwords, and a switch for anonymous pulls.
//!
//! Users are one JSON document, kept as a secret:
//!
//! ```json
//! {"users": {"alice": "pbkdf2-sha256$100000$<salt>$<key>"}}
//! ```
//!
//! An entry is a scheme, its number of iterations, a salt and a derived key of 32 bytes, both in base64 without padding
//! (RFC 4648, section 4). PBKDF2 with HMAC-SHA-256 (RFC 8018) is what the platform derives natively; it stops at 100,000
//! iterations. Credentials come as Basic (RFC 7617).

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    fmt,
    time::Duration,
};

use base64::{
    Engine as _, engine::general_purpose::STANDARD, engine::general_purpose::STANDARD_NO_PAD,
};
use http::{HeaderValue, header};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::{
    error::{Code, Error},
    host::Host,
    time::Timestamp,
};

/// What a request wants to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// Read.
    Pull,
    /// Write or delete.
    Push,
    /// See how the registry fares.
    Administer,
}

/// Who asks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Caller {
    /// Nobody in particular, who may pull.
    Anonymous,
    /// A user, who may do everything.
    User,
}

/// Users and rules, and whom of them this isolate has verified lately.
#[derive(Debug)]
pub struct Access {
    users: BTreeMap<String, Password>,
    anonymous_pull: bool,
    verified: RefCell<HashMap<[u8; 32], Timestamp>>,
}

/// A password as it is kept.
#[derive(Clone, Eq, PartialEq)]
struct Password {
    iterations: u32,
    salt: Vec<u8>,
    key: [u8; 32],
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Password")
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    users: BTreeMap<String, String>,
}

impl Access {
    /// The most iterations that the platform derives a key with.
    pub const MAX_ITERATIONS: u32 = 100_000;

    /// How long verified credentials are remembered, so that a push derives one key and not one a request.
    pub const REMEMBERED: Duration = Duration::from_secs(300);

    /// How many verified credentials are remembered.
    const MAX_REMEMBERED: usize = 1_000;

    /// Reads the users and the switch. Errors name what is wrong and never repeat a secret.
    pub fn parse(users: Option<&str>, anonymous_pull: bool) -> Result<Self, String> {
        let users = match users.filter(|text| !text.trim().is_empty()) {
            None => BTreeMap::new(),
            Some(text) => {
                let document: Document = serde_json::from_str(text).map_err(|error| {
                    format!(
                        "not as expected at line {}, column {}: {}",
                        error.line(),
                        error.column(),
                        class(&error)
                    )
                })?;
                document
                    .users
                    .into_iter()
                    .map(|(user, entry)| {
                        if user.is_empty() || user.contains(':') {
                            return Err(format!(
                                "user {user:?}: a user's name is not empty and has no ':'"
                            ));
                        }
                        let password = Password::parse(&entry)
                            .map_err(|error| format!("user {user:?}: {error}"))?;
                        Ok((user, password))
                    })
                    .collect::<Result<_, _>>()?
            }
        };
        Ok(Self {
            users,
            anonymous_pull,
            verified: RefCell::default(),
        })
    }

    /// Whether anyone may do anything at all.
    pub fn is_configured(&self) -> bool {
        self.anonymous_pull || !self.users.is_empty()
    }

    /// Lets a request pass and says who asks, or says why not.
    ///
    /// `authorization` is the header of that name. The same error is given for an unknown user and for a wrong password,
    /// after the same work.
    pub async fn admit(
        &self,
        action: Action,
        authorization: Option<&str>,
        host: &impl Host,
    ) -> Result<Caller, Error> {
        if !self.is_configured() {
            return Err(Error::new(
                Code::Denied,
                "this registry has no users yet: set the secret STRATA_USERS, or STRATA_ANONYMOUS_PULL to true",
            ));
        }
        match authorization.map(Credentials::parse) {
            Some(None) => Err(unauthorized(
                "the authorization header is not of the scheme Basic",
            )),
            Some(Some(credentials)) if !credentials.are_empty() => {
                self.verify(&credentials, host).await?;
                Ok(Caller::User)
            }
            Some(Some(_)) | None if action == Action::Pull && self.anonymous_pull => {
                Ok(Caller::Anonymous)
            }
            Some(Some(_)) | None => Err(unauthorized("sign in with a user and a password")),
        }
    }

    /// Answers the request that asks whether this is a registry. Clients learn from its 401 how to sign in, so it is
    /// given even where pulling needs no user, as long as there are users.
    pub async fn greet(&self, authorization: Option<&str>, host: &impl Host) -> Result<(), Error> {
        if self.users.is_empty() {
            return Ok(());
        }
        self.admit(Action::Push, authorization, host).await?;
        Ok(())
    }

    async fn verify(&self, credentials: &Credentials, host: &impl Host) -> Result<(), Error> {
        let now = host.now();
        let fingerprint = credentials.fingerprint();
        let remembered = self.verified.borrow().get(&fingerprint).copied();
        if remembered.is_some_and(|since| now.since(since) < Self::REMEMBERED) {
            return Ok(());
        }
        let known = self.users.get(&credentials.user);
        let password = known.cloned().unwrap_or_else(Password::nobodys);
        let key = host
            .derive(
                credentials.password.as_bytes(),
                &password.salt,
                password.iterations,
            )
            .await;
        let key = key.map_err(|cause| {
            Error::unavailable("passwords can't be verified", Duration::from_secs(5))
                .with_cause(cause)
        })?;
        let matches = bool::from(key.ct_eq(&password.key));
        if known.is_none() || !matches {
            return Err(unauthorized("unknown user or wrong password"));
        }
        let mut verified = self.verified.borrow_mut();
        if verified.len() >= Self::MAX_REMEMBERED {
            verified.retain(|_, since| now.since(*since) < Self::REMEMBERED);
        }
        if verified.len() < Self::MAX_REMEMBERED {
            verified.insert(fingerprint, now);
        }
        Ok(())
    }
}

impl Password {
    fn parse(entry: &str) -> Result<Self, &'static str> {
        let mut fields = entry.split('$');
        let (Some("pbkdf2-sha256"), Some(iterations), Some(salt), Some(key), None) = (
            fields.next(),
            fields.next(),
            fields.next(),
            fields.next(),
            fields.next(),
        ) else {
            return Err("expected pbkdf2-sha256$<iterations>$<salt>$<key>");
        };
        let iterations = iterations
            .parse()
            .map_err(|_| "the number of iterations is not a number")?;
        if !(1..=Access::MAX_ITERATIONS).contains(&iterations) {
            return Err(
                "the number of iterations is not from 1 to 100000, where the platform stops",
            );
        }
        let salt = STANDARD_NO_PAD
            .decode(salt)
            .map_err(|_| "the salt is not base64 without padding")?;
        if salt.len() < 8 {
            return Err("the salt is shorter than 8 bytes");
        }
        let key = STANDARD_NO_PAD
            .decode(key)
            .map_err(|_| "the key is not base64 without padding")?;
        let key = key.try_into().map_err(|_| "the key is not of 32 bytes")?;
        Ok(Self {
            iterations,
            salt,
            key,
        })
    }

    /// A password that nobody has, which costs as much to verify as one that `npm run user` made.
    fn nobodys() -> Self {
        Self {
            iterations: Access::MAX_ITERATIONS,
            salt: vec![0; 16],
            key: [0; 32],
        }
    }
}

/// What a client says of itself.
struct Credentials {
    user: String,
    password: String,
}

impl Credentials {
    fn parse(authorization: &str) -> Option<Self> {
        let (scheme, encoded) = authorization.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
        let (user, password) = decoded.split_once(':')?;
        Some(Self {
            user: user.to_owned(),
            password: password.to_owned(),
        })
    }

    /// Some clients send empty credentials where they have none.
    const fn are_empty(&self) -> bool {
        self.user.is_empty() && self.password.is_empty()
    }

    /// What credentials are remembered by: they themselves are not kept.
    fn fingerprint(&self) -> [u8; 32] {
        let length = (self.user.len() as u64).to_be_bytes();
        Sha256::new()
            .chain_update(length)
            .chain_update(&self.user)
            .chain_update(&self.password)
            .finalize()
            .into()
    }
}

fn unauthorized(found: &str) -> Error {
    Error::new(Code::Unauthorized, found).with_header(
        header::WWW_AUTHENTICATE,
        HeaderValue::from_static("Basic realm=\"Strata\", charset=\"UTF-8\""),
    )
}

fn class(error: &serde_json::Error) -> &'static str {
    match error.classify() {
        serde_json::error::Category::Eof => "the text ends too early",
        serde_json::error::Category::Syntax => "not JSON",
        serde_json::error::Category::Data | serde_json::error::Category::Io => {
            "expected {\"users\": {\"<name>\": \"<entry>\"}}"
        }
    }
}
