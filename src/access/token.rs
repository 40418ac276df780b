//! Tokens: the user who signed in, the permitted actions, and the expiry.
//!
//! A token is a JSON Web Token (RFC 7519) in the compact form (RFC 7515), signed by HMAC with
//! SHA-256:
//!
//! ```text
//! token  ::= header "." claims "." signature                 each in base64url without padding
//! header ::= {"alg":"HS256","typ":"JWT"}                     these bytes and no others
//! claims ::= {"sub": user, "aud": host, "iat": seconds, "exp": seconds, "jti": id,
//!             "access": [{"type", "name", "actions"}]}
//! scope  ::= type ":" name ":" action ("," action)*          as clients ask for it
//! ```
//!
//! The header is compared and never parsed, so a client chooses no algorithm. `sub` is empty for an
//! anonymous caller. `access` has the form of distribution's token specification. It only ever
//! narrows: the user's permissions are looked up again when the token is used. `aud` is the
//! registry that issued the token, because another one may have the same secret. The key is derived
//! from the text of `STRATA_USERS`: if that changes, older tokens are refused.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256, Sha512};
use subtle::ConstantTimeEq as _;

use crate::{
    access::rule::{Action, Actions},
    name::Name,
    time::Timestamp,
    upload::UploadId,
};

/// `{"alg":"HS256","typ":"JWT"}`
const HEADER: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9";

/// Comes before the signed text about an upload. No token begins so.
const SEALED: &str = "upload\n";

/// The claims of a token, by their names in RFC 7519 and in distribution's token specification.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// The name of the user. Empty for an anonymous caller.
    pub sub: String,
    /// The audience: host and port of the registry that the token is for, in lower case and without
    /// the default port.
    pub aud: String,
    /// The time of issue, in seconds since the Unix epoch.
    pub iat: u64,
    /// The time of expiry, in seconds since the Unix epoch.
    pub exp: u64,
    /// An id that no other token has: 128 random bits in hexadecimal.
    pub jti: String,
    /// The permitted actions, by repository.
    pub access: Vec<Grant>,
}

/// One grant of a token: actions in a repository, the listing of the catalogue, or one upload.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// `repository`, `registry` or `upload`.
    #[serde(rename = "type")]
    kind: String,
    name: String,
    actions: Vec<String>,
}

impl Grant {
    /// The grant to continue one upload. No client can request it.
    pub(super) fn upload(name: &Name, id: UploadId) -> Self {
        Self {
            kind: "upload".to_owned(),
            name: name.to_string(),
            actions: vec![id.to_string()],
        }
    }

    /// Formats the grant as a scope of a client's request: `repository:<name>:<actions>`.
    pub fn scope(&self) -> String {
        format!("{}:{}:{}", self.kind, self.name, self.actions.join(","))
    }
}

/// A scope that a client requests.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Scope {
    /// Listing the catalogue.
    Catalog,
    /// Actions in a repository.
    Repository(Name, Actions),
}

impl Scope {
    /// Reads a scope. Unknown scopes are ignored: clients of other registries request scopes that
    /// this one does not have.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        // A client of a mirror may put a host with a port before the name, so the actions follow
        // the last colon.
        let (name, actions) = rest.rsplit_once(':')?;
        // Docker's plugins say `repository(class)`.
        let kind = kind.split_once('(').map_or(kind, |(kind, _)| kind);
        match (kind, name) {
            ("registry", "catalog") => actions
                .split(',')
                .any(|a| a == "*")
                .then_some(Self::Catalog),
            ("repository", name) => {
                let actions = actions.split(',').flat_map(meant).copied().collect();
                Some(Self::Repository(name.parse().ok()?, actions))
            }
            _ => None,
        }
    }

    /// The scope in the form of a token. `None` if no action is left.
    pub(super) fn grant(&self) -> Option<Grant> {
        match self {
            Self::Catalog => Some(Grant {
                kind: "registry".to_owned(),
                name: "catalog".to_owned(),
                actions: vec!["*".to_owned()],
            }),
            Self::Repository(_, actions) if actions.is_empty() => None,
            Self::Repository(name, actions) => Some(Grant {
                kind: "repository".to_owned(),
                name: name.to_string(),
                actions: actions
                    .iter()
                    .map(|action| action.name().to_owned())
                    .collect(),
            }),
        }
    }
}

/// The actions that a client means by a word. No client knows this registry's own actions: moving a
/// tag is part of a push.
fn meant(word: &str) -> &'static [Action] {
    match word {
        "pull" => &[Action::Pull],
        "push" => &[Action::Push, Action::Overwrite],
        "delete" => &[Action::Delete],
        "*" => &[
            Action::Pull,
            Action::Push,
            Action::Overwrite,
            Action::Delete,
        ],
        _ => &[],
    }
}

impl Claims {
    /// Whether the token is for this action in this repository.
    pub(super) fn cover(&self, name: &Name, action: Action) -> bool {
        self.access.iter().any(|grant| {
            grant.kind == "repository"
                && grant.name == name.as_str()
                && grant.actions.iter().any(|word| word == action.name())
        })
    }

    /// Whether the token is for continuing this upload.
    pub(super) fn cover_upload(&self, name: &Name, id: UploadId) -> bool {
        self.access.contains(&Grant::upload(name, id))
    }

    /// Whether the token is for listing the catalogue.
    pub(super) fn cover_catalog(&self) -> bool {
        self.access
            .iter()
            .any(|grant| grant.kind == "registry" && grant.name == "catalog")
    }
}

/// The reasons to refuse a token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum TokenError {
    /// It was not signed by this registry, or it was changed.
    Invalid,
    /// It has expired.
    Expired,
    /// The token is for another registry.
    Audience,
}

/// The audience of the registry at an origin: host and port, without the scheme's default port.
pub(super) fn audience(origin: &str) -> String {
    let (scheme, rest) = origin.split_once("://").unwrap_or(("", origin));
    let authority = rest.split('/').next().unwrap_or_default();
    let usual = match scheme {
        "https" => ":443",
        "http" => ":80",
        _ => "",
    };
    let host = authority.strip_suffix(usual).unwrap_or(authority);
    host.trim_end_matches('.').to_ascii_lowercase()
}

/// Signs and verifies tokens.
pub(super) struct Signer {
    key: Hmac<Sha256>,
    known: RefCell<TokenCache>,
}

impl Signer {
    /// Derives the key from the text of the secret that lists the users.
    pub(super) fn new(secret: &str) -> Self {
        // 64 bytes are one block of SHA-256, so HMAC uses them as they are.
        let key = Sha512::new()
            .chain_update("strata token v1\n")
            .chain_update(secret)
            .finalize();
        Self::with(Hmac::new(&key))
    }

    fn with(key: Hmac<Sha256>) -> Self {
        Self {
            key,
            known: RefCell::default(),
        }
    }

    /// Makes a token.
    ///
    /// # Errors
    ///
    /// If the claims can't be serialized.
    pub(super) fn sign(&self, claims: &Claims) -> serde_json::Result<String> {
        let claims = serde_json::to_vec(claims)?;
        let signed = format!("{HEADER}.{}", URL_SAFE_NO_PAD.encode(claims));
        let mac = self.key.clone().chain_update(&signed);
        let signature = mac.finalize().into_bytes();
        let signature = URL_SAFE_NO_PAD.encode(signature);
        Ok(format!("{signed}.{signature}"))
    }

    /// Verifies a token: its signature once (the result is cached), its audience and expiry each
    /// time.
    pub(super) fn verify(
        &self,
        token: &str,
        audience: &str,
        now: Timestamp,
    ) -> Result<Rc<Claims>, TokenError> {
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Invalid)?;
        let signature = URL_SAFE_NO_PAD
            .decode(signature)
            .map_err(|_| TokenError::Invalid)?;
        let signature: Signature = signature.try_into().map_err(|_| TokenError::Invalid)?;
        let known = self.known.borrow().recall(signed, &signature);
        let claims = match known {
            Some(claims) => claims,
            None => {
                let claims = Rc::new(self.read(signed, &signature)?);
                let mut known = self.known.borrow_mut();
                known.remember(signed, signature, claims.clone());
                claims
            }
        };
        if claims.aud != audience {
            return Err(TokenError::Audience);
        }
        if now.0 / 1_000 >= claims.exp {
            return Err(TokenError::Expired);
        }
        Ok(claims)
    }

    /// Signs a text about an upload that comes back with a client's next request.
    pub(super) fn seal(&self, text: &str) -> String {
        let text = URL_SAFE_NO_PAD.encode(text);
        let mac = self.key.clone().chain_update(SEALED).chain_update(&text);
        let signature = URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
        format!("{text}.{signature}")
    }

    /// The text of [`Signer::seal`]; `None` if this registry did not sign it.
    pub(super) fn open(&self, sealed: &str) -> Option<Vec<u8>> {
        let (text, signature) = sealed.split_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        let mac = self.key.clone().chain_update(SEALED).chain_update(text);
        mac.verify_slice(&signature).ok()?;
        URL_SAFE_NO_PAD.decode(text).ok()
    }

    fn read(&self, signed: &str, signature: &Signature) -> Result<Claims, TokenError> {
        let mac = self.key.clone().chain_update(signed);
        mac.verify_slice(signature)
            .map_err(|_| TokenError::Invalid)?;
        let Some((HEADER, claims)) = signed.split_once('.') else {
            return Err(TokenError::Invalid);
        };
        let claims = URL_SAFE_NO_PAD
            .decode(claims)
            .map_err(|_| TokenError::Invalid)?;
        serde_json::from_slice(&claims).map_err(|_| TokenError::Invalid)
    }
}

type Signature = [u8; 32];

/// Verified tokens, by their signed part: a client sends the same token with each request of a
/// pull.
#[derive(Default)]
struct TokenCache {
    tokens: BTreeMap<Box<str>, (Signature, Rc<Claims>)>,
    bytes: usize,
}

impl TokenCache {
    /// The most bytes of cached tokens. Their claims take about twice as much again.
    const MOST: usize = 1 << 20;

    fn recall(&self, signed: &str, signature: &Signature) -> Option<Rc<Claims>> {
        let (right, claims) = self.tokens.get(signed)?;
        // The signed part is no secret. The signature is.
        bool::from(right.ct_eq(signature)).then(|| claims.clone())
    }

    /// Caches a token, and evicts all others if there is no room. To look for expired ones would
    /// take longer than to verify the others again.
    fn remember(&mut self, signed: &str, signature: Signature, claims: Rc<Claims>) {
        if signed.len() > Self::MOST {
            return;
        }
        if self.bytes + signed.len() > Self::MOST {
            self.tokens.clear();
            self.bytes = 0;
        }
        self.bytes += signed.len();
        self.tokens.insert(signed.into(), (signature, claims));
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer")
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);
    const HOST: &str = "registry.example";

    fn claims() -> Claims {
        let scopes = ["repository:a/b:pull,push", "registry:catalog:*"];
        Claims {
            sub: "ann".to_owned(),
            aud: HOST.to_owned(),
            iat: 1_800_000_000,
            exp: 1_800_000_300,
            jti: "00".to_owned(),
            access: scopes
                .iter()
                .filter_map(|scope| Scope::parse(scope)?.grant())
                .collect(),
        }
    }

    #[test]
    fn tokens_are_valid_until_they_expire() {
        let signer = Signer::new("secret");
        let token = signer.sign(&claims()).unwrap();
        assert_eq!(signer.verify(&token, HOST, NOW), Ok(Rc::new(claims())));
        let last = Timestamp(NOW.0 + 299_999);
        assert_eq!(signer.verify(&token, HOST, last), Ok(Rc::new(claims())));
        let end = Timestamp(NOW.0 + 300_000);
        assert_eq!(signer.verify(&token, HOST, end), Err(TokenError::Expired));
    }

    #[test]
    fn tokens_are_signed_as_rfc_7515_says() {
        let header = URL_SAFE_NO_PAD.decode(HEADER).unwrap();
        assert_eq!(header, br#"{"alg":"HS256","typ":"JWT"}"#);
        // RFC 4231, test case 2, by the same path: the signature covers the bytes before the last
        // dot.
        let signer = Signer::with(Hmac::new_from_slice(b"Jefe").unwrap());
        let signature = signer
            .key
            .clone()
            .chain_update("what do ya want for nothing?")
            .finalize()
            .into_bytes();
        assert_eq!(
            hex::encode(signature),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        let token = signer.sign(&claims()).unwrap();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let expected = signer.key.chain_update(signed).finalize().into_bytes();
        assert_eq!(signature, URL_SAFE_NO_PAD.encode(expected));
    }

    #[test]
    fn changed_tokens_are_refused() {
        let signer = Signer::new("secret");
        let token = signer.sign(&claims()).unwrap();
        // The cached entry must not help tokens that resemble it.
        assert!(signer.verify(&token, HOST, NOW).is_ok());
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert_eq!(
                signer.verify(&changed, HOST, NOW),
                Err(TokenError::Invalid),
                "byte {at}"
            );
            let cut = token.get(..at).unwrap();
            assert_eq!(signer.verify(cut, HOST, NOW), Err(TokenError::Invalid));
        }
        let other = Signer::new("secret ");
        assert_eq!(other.verify(&token, HOST, NOW), Err(TokenError::Invalid));
        for more in ["=", ".", "A", " "] {
            let longer = format!("{token}{more}");
            assert_eq!(signer.verify(&longer, HOST, NOW), Err(TokenError::Invalid));
        }
    }

    #[test]
    fn verified_tokens_are_cached_within_a_byte_limit() {
        let signer = Signer::new("secret");
        let sign = |number: usize| {
            let jti = format!("{number}{}", "0".repeat(100_000));
            signer.sign(&Claims { jti, ..claims() }).unwrap()
        };
        let first = sign(0);
        let read = signer.verify(&first, HOST, NOW).unwrap();
        assert!(Rc::ptr_eq(
            &read,
            &signer.verify(&first, HOST, NOW).unwrap()
        ));
        let mut most = 0;
        for number in 1..10 {
            signer.verify(&sign(number), HOST, NOW).unwrap();
            let known = signer.known.borrow();
            let bytes = known.tokens.keys().map(|token| token.len()).sum();
            assert_eq!(known.bytes, bytes);
            assert!(bytes <= TokenCache::MOST);
            most = most.max(bytes);
        }
        assert!(most > TokenCache::MOST - first.len());
        let again = signer.verify(&first, HOST, NOW).unwrap();
        assert_eq!(read, again);
        assert!(!Rc::ptr_eq(&read, &again), "the first is forgotten");
    }

    /// The attacks of RFC 8725: `none`, another algorithm with this key, a key inside of the
    /// header, claims in a header's place.
    #[test]
    fn a_token_header_does_not_choose_the_algorithm() {
        let signer = Signer::new("secret");
        let payload = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&claims()).unwrap());
        for header in [
            r#"{"alg":"none","typ":"JWT"}"#,
            r#"{"alg":"None"}"#,
            r#"{"alg":"HS384","typ":"JWT"}"#,
            r#"{"alg":"RS256","typ":"JWT"}"#,
            r#"{"typ":"JWT","alg":"HS256"}"#,
            r#"{"alg":"HS256","typ":"JWT","jwk":{"kty":"oct","k":"AAAA"}}"#,
            r#"{"alg":"HS256","typ":"JWT","kid":"../../dev/null"}"#,
        ] {
            let signed = format!("{}.{payload}", URL_SAFE_NO_PAD.encode(header));
            let signature = signer
                .key
                .clone()
                .chain_update(&signed)
                .finalize()
                .into_bytes();
            for signature in [
                String::new(),
                URL_SAFE_NO_PAD.encode(signature),
                URL_SAFE_NO_PAD.encode([0; 32]),
            ] {
                let token = format!("{signed}.{signature}");
                assert_eq!(
                    signer.verify(&token, HOST, NOW),
                    Err(TokenError::Invalid),
                    "{header} {signature}"
                );
            }
        }
        for token in [
            "",
            ".",
            "..",
            "...",
            HEADER,
            &format!("{HEADER}.{payload}"),
            &format!("{HEADER}.{payload}."),
        ] {
            assert_eq!(
                signer.verify(token, HOST, NOW),
                Err(TokenError::Invalid),
                "{token}"
            );
        }
    }

    #[test]
    fn scopes_are_parsed_and_unsupported_ones_are_ignored() {
        for (text, granted) in [
            ("repository:a:pull", Some("repository:a:pull")),
            (
                "repository:a/b:pull,push",
                Some("repository:a/b:pull,push,overwrite"),
            ),
            (
                "repository:a:push,pull,pull",
                Some("repository:a:pull,push,overwrite"),
            ),
            (
                "repository:a:*",
                Some("repository:a:pull,push,overwrite,delete"),
            ),
            ("repository(plugin):a:pull", Some("repository:a:pull")),
            ("repository:a:delete,fly", Some("repository:a:delete")),
            ("repository:a:administer", None),
            ("repository:a:metrics,overwrite", None),
            ("repository:a:", None),
            ("repository:A:pull", None),
            ("repository:../a:pull", None),
            ("repository:a%2fb:pull", None),
            ("repository:host:5000/a:pull", None),
            ("repository:*:pull", None),
            ("repository::pull", None),
            ("repository:a", None),
            ("registry:catalog:*", Some("registry:catalog:*")),
            ("registry:catalog:pull", None),
            ("registry:strata:*", None),
            ("REPOSITORY:a:pull", None),
            ("a", None),
            ("", None),
        ] {
            let grant = Scope::parse(text).and_then(|scope| scope.grant());
            assert_eq!(
                grant.map(|grant| grant.scope()).as_deref(),
                granted,
                "{text}"
            );
        }
    }

    #[test]
    fn token_claims_cover_only_the_named_repository_and_actions() {
        let claims = claims();
        let name = |text: &str| text.parse::<Name>().unwrap();
        assert!(claims.cover(&name("a/b"), Action::Pull));
        assert!(claims.cover(&name("a/b"), Action::Overwrite));
        assert!(!claims.cover(&name("a/b"), Action::Delete));
        for other in ["a", "a/b/c", "b", "a/bb"] {
            assert!(!claims.cover(&name(other), Action::Pull), "{other}");
        }
        assert!(claims.cover_catalog());
    }
}
