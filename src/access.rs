//! Access control: signing in, tokens and rules.
//! One file, because its parts decide by the same users, rules and attempts.
//!
//! A client signs in by Basic (RFC 7617). Or it gets a token by Basic at the token end-point, and
//! then sends that as Bearer (RFC 6750, and distribution's token specification). Either way the
//! rules decide on the user's permissions at each request. A token can only narrow them.
//!
//! [`Settings::access`](crate::settings::Settings::access) has the users and rules of a registry,
//! and docs/access.md describes them.

use std::{cell::RefCell, collections::BTreeMap, fmt, rc::Rc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderValue, header};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::{
    access::{
        attempts::{Attempts, Who},
        rule::{Action, Actions, Rules},
        token::{Claims, Grant, Scope, Signer, TokenError},
        user::{User, Users},
    },
    error::{Code, Error},
    host::{Clock, KeyDerivation, Random, RateLimit, SignIns},
    name::Name,
    route::TOKEN_PATH,
    time::Timestamp,
    upload::UploadId,
};

#[doc(hidden)]
pub use attempts::network;

mod attempts;
#[doc(hidden)]
pub mod cross_site;
#[doc(hidden)]
pub mod rule;
#[doc(hidden)]
pub mod token;
#[doc(hidden)]
pub mod user;

/// The users, the rules and the key of tokens, with a cache of credentials that this isolate has
/// verified lately.
///
/// [`Settings::parse`](crate::settings::Settings::parse) makes one of `STRATA_USERS`,
/// `STRATA_RULES` and `STRATA_ANONYMOUS_PULL`.
#[derive(Debug)]
pub struct Access {
    users: Users,
    rules: Rules,
    signer: Signer,
    /// Verified credentials with their user and time, by the digest of the credentials.
    verified: RefCell<BTreeMap<[u8; 32], Verified>>,
    attempts: Attempts,
}

#[derive(Debug)]
struct Verified {
    user: Rc<User>,
    since: Timestamp,
}

/// The parts of a request that identify its caller.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Visit<'a> {
    /// The header `Authorization`: Basic or Bearer, and the credentials.
    pub authorization: Option<&'a str>,
    /// The IP address that the request comes from, as text. Failed sign-ins are counted by it.
    pub address: &'a str,
    /// The origin by which clients reach the registry, as `https://registry.example.com`. Its host
    /// is the audience of tokens.
    pub origin: &'a str,
    /// The source of a mount. Challenges name its scope too: many clients answer one challenge.
    pub source: Option<&'a Name>,
}

/// The authenticated caller of a request: a user or nobody, and the claims of a token, if it sent
/// one.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub struct Caller {
    user: Option<Rc<User>>,
    claims: Option<Rc<Claims>>,
}

impl Caller {
    const ANONYMOUS: Self = Self {
        user: None,
        claims: None,
    };

    /// The name of the user. `None` for an anonymous caller.
    pub fn user(&self) -> Option<&str> {
        self.user.as_ref().map(|user| user.name.as_str())
    }
}

/// The permission that a request needs.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Need<'a> {
    /// Nothing: credentials are ignored.
    Nothing,
    /// To get a token: signing in by Basic, or a rule that allows anonymous callers anything.
    Token,
    /// To have signed in, if there are users. The challenge in the error tells clients how.
    SignIn,
    /// To be a user, or a rule that allows anonymous callers anything.
    Entry,
    /// To list the repositories that the caller may pull from.
    Catalog,
    /// To do an action in the registry as a whole, by the rules for `**`.
    Registry(Action),
    /// To do an action in a repository.
    Repository(&'a Name, Action),
}

impl Access {
    /// The most iterations of PBKDF2 in a password entry: as many as the platform computes.
    #[doc(hidden)]
    pub const MAX_ITERATIONS: u32 = user::MAX_ITERATIONS;

    /// How long verified credentials are cached, so that a push derives one key instead of one for
    /// each request.
    #[doc(hidden)]
    pub const REMEMBERED: Duration = Duration::from_secs(300);

    /// The lifetime of a token. Clients request another one by themselves.
    #[doc(hidden)]
    pub const TOKEN_LIFETIME: Duration = Duration::from_secs(300);

    /// The most verified credentials that are cached.
    const MAX_REMEMBERED: usize = 1_000;

    /// Parses the JSON of users and of rules. Without rules, users may do everything. With
    /// `anonymous_pull`, a last rule lets everyone pull.
    ///
    /// # Errors
    ///
    /// The name of the setting, `STRATA_USERS` or `STRATA_RULES`, and the problem. A problem of
    /// users repeats no secret.
    #[doc(hidden)]
    pub fn parse(
        users: Option<&str>,
        rules: Option<&str>,
        anonymous_pull: bool,
    ) -> Result<Self, (&'static str, String)> {
        let given = |text: Option<&str>| {
            text.filter(|text| !text.trim().is_empty())
                .map(str::to_owned)
        };
        let secret = given(users).unwrap_or_default();
        let users = if secret.is_empty() {
            Users::default()
        } else {
            Users::parse(&secret).map_err(|problem| ("STRATA_USERS", problem))?
        };
        let mut rules = match given(rules) {
            Some(text) => Rules::parse(&text).map_err(|problem| ("STRATA_RULES", problem))?,
            None => Rules::of_users(),
        };
        if anonymous_pull {
            rules.let_everyone_pull();
        }
        Ok(Self {
            signer: Signer::new(&secret),
            users,
            rules,
            verified: RefCell::default(),
            attempts: Attempts::default(),
        })
    }

    /// Whether there is a user, or a rule that allows anonymous callers anything.
    #[doc(hidden)]
    pub fn is_configured(&self) -> bool {
        !self.users.is_empty() || self.rules.are_for_everyone()
    }

    /// Authenticates the caller of a request. Without users, all callers are anonymous.
    ///
    /// # Errors
    ///
    /// - [`Code::Denied`] if the registry is not configured.
    /// - [`Code::Unauthorized`] for wrong credentials, and for a token that is invalid, expired or
    ///   of another registry. Its challenge names the scope for `need`, if a token can have it.
    /// - [`Code::TooManyRequests`] after too many failed sign-ins.
    /// - [`Code::Unavailable`] if the platform can't derive keys.
    #[doc(hidden)]
    pub async fn identify(
        &self,
        visit: Visit<'_>,
        need: Need<'_>,
        host: &(impl Clock + Random + KeyDerivation + RateLimit),
    ) -> Result<Caller, Error> {
        if need == Need::Nothing {
            return Ok(Caller::ANONYMOUS);
        }
        if !self.is_configured() {
            return Err(Error::new(
                Code::Denied,
                "this registry has no users yet: set the secret STRATA_USERS, or STRATA_ANONYMOUS_PULL to true",
            ));
        }
        let authorization = match visit.authorization {
            // Clients send credentials that they kept from another day. Without users, all callers
            // are anonymous.
            Some(authorization) if !self.users.is_empty() => authorization,
            _ => return Ok(Caller::ANONYMOUS),
        };
        let unknown = |found| Self::unauthorized(found, visit, need, None);
        let (scheme, rest) = authorization
            .split_once(' ')
            .ok_or_else(|| unknown("the authorization header has no credentials"))?;
        if scheme.eq_ignore_ascii_case("bearer") {
            return self.identify_token(rest.trim(), visit, need, host);
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return Err(unknown(
                "the authorization header is neither Basic nor Bearer",
            ));
        }
        let credentials = Credentials::parse(rest).ok_or_else(|| {
            unknown(
                "the Basic credentials in the authorization header are not base64 of user:password",
            )
        })?;
        self.sign_in(&credentials, visit, need, host).await
    }

    fn identify_token(
        &self,
        token: &str,
        visit: Visit<'_>,
        need: Need<'_>,
        host: &impl Clock,
    ) -> Result<Caller, Error> {
        let invalid = |found| Self::unauthorized(found, visit, need, Some("invalid_token"));
        let claims = self
            .signer
            .verify(token, &token::audience(visit.origin), host.now())
            .map_err(|error| match error {
                TokenError::Audience => {
                    invalid("the token is for another registry; request one from this registry")
                }
                TokenError::Invalid => invalid("the token was not issued by this registry"),
                TokenError::Expired => invalid("the token has expired"),
            })?;
        let user = match claims.sub.as_str() {
            "" => None,
            name => Some(
                self.users
                    .get(name)
                    .ok_or_else(|| invalid("the user of the token no longer exists"))?
                    .clone(),
            ),
        };
        Ok(Caller {
            user,
            claims: Some(claims),
        })
    }

    /// Verifies a user's name and password, or a robot's token. An unknown user gets the same error
    /// as a wrong password, after the same work.
    ///
    /// # Errors
    ///
    /// Those of [`Access::identify`].
    #[doc(hidden)]
    pub async fn sign_in(
        &self,
        credentials: &Credentials,
        visit: Visit<'_>,
        need: Need<'_>,
        host: &(impl Clock + Random + KeyDerivation + RateLimit),
    ) -> Result<Caller, Error> {
        // Some clients send empty credentials if they have none.
        if self.users.is_empty() || (credentials.user.is_empty() && credentials.password.is_empty())
        {
            return Ok(Caller::ANONYMOUS);
        }
        let signed_in = |user: &Rc<User>| Caller {
            user: Some(user.clone()),
            claims: None,
        };
        let Credentials { user, password } = credentials;
        let now = host.now();
        let who = self.attempts.who(visit.address, user, || host.random());
        let wrong = || Self::unauthorized("unknown user or wrong password", visit, need, None);
        let unverified = |cause: String| {
            Error::unavailable("passwords can't be verified", Duration::from_secs(5))
                .with_cause(cause)
        };
        // A robot's token can't be guessed, and takes one hash to verify: a right one passes even
        // if others have reached the limits.
        if user::is_token(password) {
            let found = self.users.verify(user, password, host).await;
            return match found.map_err(unverified)? {
                Some(found) => Ok(signed_in(&found)),
                None => Err(self.count_token(&who, now).map_or_else(wrong, too_many)),
            };
        }
        // Before the cache of verified credentials: it answers at once, and must not serve
        // guesses.
        if let Some(wait) = self.attempts.wait_of_user(&who, now) {
            return Err(too_many(wait));
        }
        let fingerprint = credentials.fingerprint();
        let lasts = |verified: &Verified| now.since(verified.since) < Self::REMEMBERED;
        if let Some(verified) = self.verified.borrow().get(&fingerprint)
            && lasts(verified)
        {
            return Ok(signed_in(&verified.user));
        }
        let wait = self.attempts.wait_of_network(&who, now);
        // Counted whether or not it is verified: the credentials were not in the cache, and a
        // guesser learns that.
        self.attempts.begin(&who, now);
        if let Some(wait) = wait {
            return Err(too_many(wait));
        }
        // The platform's rate limiter also counts the sign-ins at other isolates.
        let network = network(visit.address);
        let is_admitted = host.admits(SignIns::OfAddress, &network).await
            && host
                .admits(SignIns::OfUser, &attempts::of_user(visit.address, user))
                .await;
        if !is_admitted {
            return Err(too_many(Attempts::WINDOW));
        }
        let found = self.users.verify(user, password, host).await;
        let Some(found) = found.map_err(unverified)? else {
            return Err(wrong());
        };
        self.attempts.succeed(&who, now);
        let caller = signed_in(&found);
        self.remember(fingerprint, found, now);
        Ok(caller)
    }

    /// Counts a robot's token that was wrong, and returns how long to wait before the next attempt.
    fn count_token(&self, who: &Who, now: Timestamp) -> Option<Duration> {
        self.attempts.wait_of_user(who, now).or_else(|| {
            let wait = self.attempts.wait_of_network(who, now);
            self.attempts.begin(who, now);
            wait
        })
    }

    /// Caches credentials that were verified. If the cache is full, expired ones are evicted first.
    fn remember(&self, fingerprint: [u8; 32], user: Rc<User>, now: Timestamp) {
        let mut remembered = self.verified.borrow_mut();
        if remembered.len() >= Self::MAX_REMEMBERED {
            remembered.retain(|_, verified| now.since(verified.since) < Self::REMEMBERED);
        }
        if remembered.len() < Self::MAX_REMEMBERED {
            let verified = Verified { user, since: now };
            remembered.insert(fingerprint, verified);
        }
    }

    /// Authorizes a request. The store is not read, so a caller who may not pull learns nothing of
    /// its content.
    ///
    /// # Errors
    ///
    /// - [`Code::Unauthorized`] if signing in, or a token with more scopes, could help.
    /// - [`Code::Denied`] otherwise.
    #[doc(hidden)]
    pub fn permit(&self, caller: &Caller, need: Need<'_>, visit: Visit<'_>) -> Result<(), Error> {
        let is_allowed = match need {
            Need::Nothing => true,
            Need::SignIn => {
                self.users.is_empty() || visit.authorization.is_some() && self.may_enter(caller)
            }
            Need::Token | Need::Entry | Need::Catalog => self.may_enter(caller),
            Need::Registry(action) => self.actions(caller, None).has(action),
            Need::Repository(name, action) => self.actions(caller, Some(name)).has(action),
        };
        if !is_allowed {
            return Err(match caller.user() {
                None if !self.users.is_empty() => {
                    let found = format!("sign in to {}", to(need));
                    let problem = caller.claims.as_ref().map(|_| "insufficient_scope");
                    Self::unauthorized(&found, visit, need, problem)
                }
                user => denied(user, need),
            });
        }
        let is_covered = caller.claims.as_ref().is_none_or(|claims| match need {
            Need::Nothing | Need::SignIn | Need::Entry => true,
            Need::Catalog => claims.cover_catalog(),
            // No token covers these. Administration asks for a password each time, and no token is
            // renewed by another.
            Need::Token | Need::Registry(_) | Need::Repository(_, Action::Administer) => false,
            Need::Repository(name, action) => claims.cover(name, action),
        });
        if !is_covered {
            let found = format!("the token does not permit to {}", to(need));
            return Err(Self::unauthorized(
                &found,
                visit,
                need,
                Some("insufficient_scope"),
            ));
        }
        Ok(())
    }

    /// Whether a caller may do an action in a repository. If the caller sent a token, the token
    /// must cover it too.
    #[doc(hidden)]
    pub fn may(&self, caller: &Caller, name: &Name, action: Action) -> bool {
        self.actions(caller, Some(name)).has(action)
            && caller
                .claims
                .as_ref()
                .is_none_or(|claims| claims.cover(name, action))
    }

    /// Whether the rules let a caller change a repository, even if its token doesn't cover that.
    #[doc(hidden)]
    pub fn may_change(&self, caller: &Caller, name: &Name) -> bool {
        let actions = self.actions(caller, Some(name));
        let changes = [
            Action::Push,
            Action::Overwrite,
            Action::Delete,
            Action::Administer,
        ];
        changes.into_iter().any(|action| actions.has(action))
    }

    /// Whether a list of all repositories may name a repository: the caller may pull from it.
    #[doc(hidden)]
    pub fn sees(&self, caller: &Caller, name: &Name) -> bool {
        self.actions(caller, Some(name)).has(Action::Pull)
    }

    fn actions(&self, caller: &Caller, name: Option<&Name>) -> Actions {
        self.rules.actions(name, caller.user.as_deref())
    }

    fn may_enter(&self, caller: &Caller) -> bool {
        caller.user.is_some() || self.rules.are_for_everyone()
    }

    /// Makes a token for those of the requested scopes that the caller may use, and returns it with
    /// its claims. It is valid for [`Access::TOKEN_LIFETIME`] at the visited registry.
    ///
    /// A scope is `repository:<name>:<actions>` or `registry:catalog:*`; others are ignored.
    /// `meant` resolves the name of a repository in a scope.
    ///
    /// # Errors
    ///
    /// [`Code::Unavailable`] if the claims can't be signed.
    #[doc(hidden)]
    pub fn issue<'a>(
        &self,
        caller: &Caller,
        visit: Visit<'_>,
        scopes: impl IntoIterator<Item = &'a str>,
        meant: impl Fn(Name) -> Name,
        host: &(impl Clock + Random),
    ) -> Result<(String, Claims), Error> {
        let mut access = Vec::new();
        for scope in scopes.into_iter().filter_map(Scope::parse) {
            let scope = match scope {
                Scope::Catalog => Scope::Catalog,
                Scope::Repository(name, actions) => {
                    let name = meant(name);
                    let actions = actions.and(self.actions(caller, Some(&name)));
                    Scope::Repository(name, actions)
                }
            };
            access.extend(scope.grant().filter(|grant| !access.contains(grant)));
        }
        self.sign(caller, visit, access, Self::TOKEN_LIFETIME, host)
    }

    /// Makes a token for one upload, which lives longer than others: an upload by chunks may take
    /// hours, and a relay that sends the chunks can't sign in.
    ///
    /// # Errors
    ///
    /// [`Code::Unavailable`] if the claims can't be signed.
    pub(crate) fn issue_for_upload(
        &self,
        caller: &Caller,
        visit: Visit<'_>,
        (name, id): (&Name, UploadId),
        lifetime: Duration,
        host: &(impl Clock + Random),
    ) -> Result<String, Error> {
        let access = vec![Grant::upload(name, id)];
        Ok(self.sign(caller, visit, access, lifetime, host)?.0)
    }

    /// Whether a caller may continue an upload by a token for it alone. The rules count as ever.
    pub(crate) fn may_continue(&self, caller: &Caller, name: &Name, id: UploadId) -> bool {
        let claims = caller.claims.as_ref();
        self.actions(caller, Some(name)).has(Action::Push)
            && claims.is_some_and(|claims| claims.cover_upload(name, id))
    }

    /// Signs what is known of an upload, for its location; `None` if there is no secret to sign
    /// with.
    pub(crate) fn seal_upload(&self, known: &str) -> Option<String> {
        (!self.users.is_empty()).then(|| self.signer.seal(known))
    }

    /// What [`Access::seal_upload`] signed; `None` if this registry did not sign it.
    pub(crate) fn open_upload(&self, sealed: &str) -> Option<Vec<u8>> {
        if self.users.is_empty() {
            return None;
        }
        self.signer.open(sealed)
    }

    fn sign(
        &self,
        caller: &Caller,
        visit: Visit<'_>,
        access: Vec<Grant>,
        lifetime: Duration,
        host: &(impl Clock + Random),
    ) -> Result<(String, Claims), Error> {
        let now = host.now().0 / 1_000;
        let claims = Claims {
            sub: caller.user().unwrap_or_default().to_owned(),
            aud: token::audience(visit.origin),
            iat: now,
            exp: now + lifetime.as_secs(),
            jti: hex::encode(host.random()),
            access,
        };
        let token = self.signer.sign(&claims).map_err(|error| {
            Error::unavailable("the token can't be signed", Duration::from_secs(60))
                .with_cause(error.to_string())
        })?;
        Ok((token, claims))
    }

    /// A 401 with the challenge that tells the client how to sign in.
    fn unauthorized(found: &str, visit: Visit<'_>, need: Need<'_>, problem: Option<&str>) -> Error {
        let challenge = match need {
            Need::Token | Need::Registry(_) | Need::Repository(_, Action::Administer) => {
                "Basic realm=\"Strata\", charset=\"UTF-8\"".to_owned()
            }
            Need::Nothing | Need::SignIn | Need::Entry | Need::Catalog | Need::Repository(..) => {
                let source = visit
                    .source
                    .map(|name| Need::Repository(name, Action::Pull));
                let scopes: Vec<_> = [Some(need), source]
                    .into_iter()
                    .flatten()
                    .filter_map(scope)
                    .collect();
                let scopes = (!scopes.is_empty()).then(|| scopes.join(" "));
                bearer(visit, scopes.as_deref(), problem)
            }
        };
        let error = Error::new(Code::Unauthorized, found);
        // The origin stands in quotes. No host has these characters. If a client made up such a
        // host, no challenge is sent.
        let is_sound = visit.origin.is_ascii() && !visit.origin.contains(['"', '\\']);
        match HeaderValue::from_str(&challenge) {
            Ok(challenge) if is_sound => error.with_header(header::WWW_AUTHENTICATE, challenge),
            _ => error,
        }
    }

    /// The error for a mount by a token that does not cover the source, although the token's user
    /// may pull from it. The challenge names the scopes of both repositories: a client that gets a
    /// token for them has no need to send the bytes.
    pub(crate) fn mount_needs_scope(target: &Name, source: &Name, visit: Visit<'_>) -> Error {
        let need = Need::Repository(target, Action::Push);
        let found = format!(
            "the token does not permit to {}",
            to(Need::Repository(source, Action::Pull))
        );
        let visit = Visit {
            source: Some(source),
            ..visit
        };
        Self::unauthorized(&found, visit, need, Some("insufficient_scope"))
    }
}

/// The name of the registry in a client's token request.
const SERVICE: &str = "strata";

/// The challenge to get a token with a scope.
fn bearer(visit: Visit<'_>, scope: Option<&str>, problem: Option<&str>) -> String {
    let origin = visit.origin;
    let mut challenge = format!("Bearer realm=\"{origin}{TOKEN_PATH}\",service=\"{SERVICE}\"");
    for (name, value) in [("scope", scope), ("error", problem)] {
        if let Some(value) = value {
            challenge.push_str(&format!(",{name}=\"{value}\""));
        }
    }
    challenge
}

/// The scope that a client should request.
fn scope(need: Need<'_>) -> Option<String> {
    match need {
        Need::Nothing | Need::Token | Need::SignIn | Need::Entry | Need::Registry(_) => None,
        Need::Catalog => Some("registry:catalog:*".to_owned()),
        Need::Repository(name, action) => {
            let actions = match action {
                Action::Pull => "pull",
                Action::Push | Action::Overwrite => "pull,push",
                Action::Delete => "delete",
                Action::Administer | Action::Metrics => return None,
            };
            Some(format!("repository:{name}:{actions}"))
        }
    }
}

/// The need in words that follow "to".
fn to(need: Need<'_>) -> String {
    let verb = |action| match action {
        Action::Pull => "pull from",
        Action::Push => "push to",
        Action::Overwrite => "move a tag in",
        Action::Delete => "delete from",
        Action::Administer => "administer",
        Action::Metrics => "read the metrics of",
    };
    match need {
        Need::Nothing | Need::Token | Need::SignIn | Need::Entry => "use this registry".to_owned(),
        Need::Catalog => "list the repositories".to_owned(),
        Need::Registry(action) => format!("{} this registry", verb(action)),
        Need::Repository(name, action) => format!("{} repository {name}", verb(action)),
    }
}

/// A 403, for callers whom signing in can't help.
fn denied(user: Option<&str>, need: Need<'_>) -> Error {
    let who = user.map_or_else(|| "nobody".to_owned(), |user| format!("user {user}"));
    let can = if user.is_some() { "may not" } else { "may" };
    let error = Error::new(Code::Denied, format!("{who} {can} {}", to(need)));
    match need {
        Need::Repository(name, action) => {
            error.with_detail(json!({ "name": name.as_str(), "action": action.name() }))
        }
        Need::Nothing
        | Need::Token
        | Need::SignIn
        | Need::Entry
        | Need::Catalog
        | Need::Registry(_) => error,
    }
}

fn too_many(wait: Duration) -> Error {
    let seconds = wait.as_secs().max(1);
    Error::new(
        Code::TooManyRequests,
        format!("too many failed sign-ins; try again in {seconds} seconds"),
    )
    .with_header(header::RETRY_AFTER, HeaderValue::from(seconds))
}

/// A client's credentials, as Basic sends them (RFC 7617).
#[doc(hidden)]
pub struct Credentials {
    /// The name of a user.
    pub user: String,
    /// The password of a person, or the token of a robot.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

impl Credentials {
    /// Parses the credentials that follow the word Basic.
    fn parse(encoded: &str) -> Option<Self> {
        let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
        let (user, password) = decoded.split_once(':')?;
        Some(Self {
            user: user.to_owned(),
            password: password.to_owned(),
        })
    }

    /// The cache key of the credentials, which are not kept themselves.
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
