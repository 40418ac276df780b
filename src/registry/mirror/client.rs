//! Asking upstreams: signing in to them, following where they send to, and heeding how often they may be asked.

use std::{cell::RefCell, collections::BTreeMap, fmt, rc::Rc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    error::{Code, Error},
    host::{Ask, FetchError, Host as _, Reply},
    metrics::{Metrics, UpstreamOutcome},
    platform::Platform,
    registry::parts::Parts,
    store::{Streams as _, bucket::Bucket, flight::Flights},
    time::Timestamp,
    upstream::{Mirrored, Upstream, challenge::Challenge},
};

/// How long the head of an upstream's reply may take.
const PATIENCE: Duration = Duration::from_secs(8);

/// How many redirections are followed.
const MOST_REDIRECTIONS: usize = 5;

/// How long an upstream is left alone that asks for fewer requests and does not say for how long.
const REST: Duration = Duration::from_secs(60);

/// How long an upstream is left alone that could not be reached, or took too long.
const PAUSE: Duration = Duration::from_secs(3);

/// How long a token is good for where the upstream does not say.
const TOKEN_LIFETIME: Duration = Duration::from_secs(60);

/// The longest time that a token is cached, whatever the upstream says.
const MAX_TOKEN_LIFETIME: Duration = Duration::from_secs(3_600);

/// How long before its end a token is used no more.
const TOKEN_MARGIN: Duration = Duration::from_secs(10);

/// The most bytes of a token's reply, and of a message.
const MAX_DOCUMENT: u64 = 64 * 1024;

/// The client of upstreams, with what this isolate knows of them between requests.
pub(in crate::registry) struct Client<P: Platform> {
    store: Bucket<P::Cold>,
    host: P::Host,
    metrics: Rc<Metrics>,
    tokens: RefCell<Tokens>,
    signing_in: Flights<Result<(), UpstreamError>>,
    /// Upstreams that are not asked for a while: until when, and why.
    resting: RefCell<BTreeMap<String, (Timestamp, UpstreamError)>>,
    /// Upstreams that have no pulls left for us: until when they are not asked for manifests.
    spent: RefCell<BTreeMap<String, Timestamp>>,
}

#[derive(Clone, Debug)]
struct Token {
    text: HeaderValue,
    until: Timestamp,
}

/// A cache of upstreams' tokens, by upstream and scope. Clients choose the scopes by the names that
/// they pull, so the cache is bounded in entries and bytes.
#[derive(Debug, Default)]
struct Tokens {
    by_scope: BTreeMap<String, (u64, Token)>,
    bytes: usize,
    /// The number of tokens inserted so far.
    count: u64,
}

impl Tokens {
    /// The most cached tokens, and their most bytes.
    const MOST: usize = 1_000;
    const MOST_BYTES: usize = 4 << 20;

    fn find(&self, scope: &str, now: Timestamp) -> Option<HeaderValue> {
        let (_, token) = self.by_scope.get(scope)?;
        (token.until > now).then(|| token.text.clone())
    }

    /// Caches a token, and replaces one for the same scope. If the cache is full, the tokens that
    /// expire first are evicted.
    fn keep(&mut self, scope: &str, token: Token, now: Timestamp) {
        self.remove(scope);
        let ended = |(scope, (_, token)): (&String, &(u64, Token))| {
            (token.until <= now).then(|| scope.clone())
        };
        for scope in self.by_scope.iter().filter_map(ended).collect::<Vec<_>>() {
            self.remove(&scope);
        }
        let weight = scope.len() + token.text.len();
        while self.by_scope.len() >= Self::MOST || self.bytes + weight > Self::MOST_BYTES {
            let ends = |(_, (number, token)): &(&String, &(u64, Token))| (token.until, *number);
            let Some((scope, _)) = self.by_scope.iter().min_by_key(ends) else {
                break;
            };
            let scope = scope.clone();
            self.remove(&scope);
        }
        self.bytes += weight;
        self.count += 1;
        self.by_scope.insert(scope.to_owned(), (self.count, token));
    }

    fn remove(&mut self, scope: &str) {
        if let Some((_, token)) = self.by_scope.remove(scope) {
            self.bytes -= scope.len() + token.text.len();
        }
    }
}

/// Why an upstream did not give what it was asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::registry) enum UpstreamError {
    /// It has no such thing.
    Unknown(String),
    /// It does not let this registry have it.
    Refused(String),
    /// It, or this registry on its word, wants fewer requests.
    Limited(Duration, String),
    /// It took too long.
    Late,
    /// It could not be reached, or failed.
    Failed(String),
    /// What it said can't be used.
    Wrong(String),
    /// What it gave could not be stored.
    Store(String),
}

impl UpstreamError {
    /// Whether what is stored may be served in place of an answer.
    pub(in crate::registry) const fn is_outage(&self) -> bool {
        match self {
            Self::Refused(_)
            | Self::Limited(..)
            | Self::Late
            | Self::Failed(_)
            | Self::Wrong(_)
            | Self::Store(_) => true,
            Self::Unknown(_) => false,
        }
    }

    /// The word for it in headers and metrics.
    pub(in crate::registry) const fn reason(&self) -> &'static str {
        match self {
            Self::Unknown(_) => "gone",
            Self::Refused(_) => "refused",
            Self::Limited(..) => "limited",
            Self::Late => "late",
            Self::Failed(_) => "failed",
            Self::Wrong(_) => "wrong",
            Self::Store(_) => "store",
        }
    }

    /// What a client hears, for want of anything better. `unknown` is the code of what it asked for.
    pub(in crate::registry) fn answer(&self, upstream: &Upstream, unknown: Code) -> Error {
        let name = upstream.name();
        let retry_after = |error: Error, after: Duration| {
            let seconds = HeaderValue::from(after.as_secs().max(1));
            error.with_header(header::RETRY_AFTER, seconds)
        };
        match self {
            Self::Unknown(said) => {
                Error::new(unknown, format!("upstream {name} has it not: {said}"))
            }
            Self::Refused(said) => {
                Error::new(Code::Denied, format!("upstream {name} refuses: {said}"))
            }
            Self::Limited(after, said) => {
                let found = format!("upstream {name} asks for fewer requests: {said}");
                retry_after(Error::new(Code::TooManyRequests, found), *after)
            }
            Self::Late => {
                let found = format!("upstream {name} took too long to answer");
                Error::unavailable(found, Duration::from_secs(5))
                    .with_status(StatusCode::GATEWAY_TIMEOUT)
            }
            Self::Store(said) => {
                let found = format!("what upstream {name} gave could not be stored: {said}");
                Error::unavailable(found, Duration::from_secs(1))
            }
            Self::Failed(said) | Self::Wrong(said) => {
                let found = format!("upstream {name} failed: {said}");
                Error::unavailable(found, Duration::from_secs(5))
                    .with_status(StatusCode::BAD_GATEWAY)
            }
        }
    }
}

impl fmt::Display for UpstreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late => f.write_str("it took too long"),
            Self::Unknown(said)
            | Self::Refused(said)
            | Self::Limited(_, said)
            | Self::Failed(said)
            | Self::Wrong(said)
            | Self::Store(said) => f.write_str(said),
        }
    }
}

impl From<FetchError> for UpstreamError {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Late => Self::Late,
            FetchError::Failed(cause) => Self::Failed(cause),
        }
    }
}

/// A question to an upstream.
#[derive(Clone, Debug)]
pub(in crate::registry) struct Question<'a> {
    pub(in crate::registry) method: Method,
    /// The path after the name of the repository, with the slash before it.
    pub(in crate::registry) path: &'a str,
    /// Beside those that sign in.
    pub(in crate::registry) headers: HeaderMap,
}

impl<P: Platform> Client<P> {
    pub(in crate::registry) fn new(parts: &Parts<P>) -> Self {
        Self {
            store: parts.store.clone(),
            host: parts.host.clone(),
            metrics: parts.metrics.clone(),
            tokens: RefCell::default(),
            signing_in: Flights::default(),
            resting: RefCell::default(),
            spent: RefCell::default(),
        }
    }

    /// Asks an upstream about a repository of it: a reply of a status below 400.
    pub(in crate::registry) async fn ask(
        &self,
        mirrored: &Mirrored,
        question: &Question<'_>,
    ) -> Result<Reply<P::Body>, UpstreamError> {
        let upstream = &mirrored.upstream;
        let rest = self
            .rest_of(upstream)
            .or_else(|| self.is_spent(upstream, question));
        if let Some(error) = rest {
            return Err(error);
        }
        let url = upstream.url(&format!("/v2/{}{}", mirrored.remote, question.path));
        let scope = format!("repository:{}:pull", mirrored.remote);
        let mut tried: Option<HeaderValue> = None;
        loop {
            let authorization = match &tried {
                Some(authorization) => Some(authorization.clone()),
                None => self.token_of(upstream, &scope),
            };
            let reply = self
                .follow(upstream, &url, question, authorization.as_ref())
                .await?;
            if reply.status != StatusCode::UNAUTHORIZED || tried.is_some() {
                return self.understand(upstream, reply).await;
            }
            let challenge = challenge(&reply.headers);
            let refused = self.understand(upstream, reply).await.err();
            let refused = || {
                refused
                    .clone()
                    .unwrap_or(UpstreamError::Refused(String::new()))
            };
            let Some(challenge) = challenge else {
                return Err(refused());
            };
            // Another request may have brought a token while this one was on its way.
            let brought = self.token_of(upstream, &scope);
            let next = match brought.filter(|token| authorization.as_ref() != Some(token)) {
                Some(token) => Some(token),
                None => self.sign_in_to(upstream, &challenge, &scope).await?,
            };
            tried = Some(next.ok_or_else(refused)?);
        }
    }

    /// What an upstream is signed in to with, by a challenge of it; `None` where there is nothing.
    async fn sign_in_to(
        &self,
        upstream: &Upstream,
        challenge: &Challenge,
        scope: &str,
    ) -> Result<Option<HeaderValue>, UpstreamError> {
        let Some(address) = challenge.token_address(scope) else {
            return Ok(basic(upstream));
        };
        if !upstream.may_give_tokens(&address) {
            let host = host_of(&address);
            return Err(UpstreamError::Wrong(format!(
                "it sends to {host} for tokens, which is not among the hosts in `auth` of its settings"
            )));
        }
        let key = token_key(upstream, scope);
        // Many who are refused at once are one request for a token.
        let asked = self
            .signing_in
            .share(&key, &self.host, async || {
                let token = self.fetch_token(upstream, &address).await?;
                let mut tokens = self.tokens.borrow_mut();
                tokens.keep(&key, token, self.host.now());
                Ok(())
            })
            .await;
        asked?;
        Ok(self.token_of(upstream, scope))
    }

    async fn fetch_token(
        &self,
        upstream: &Upstream,
        address: &str,
    ) -> Result<Token, UpstreamError> {
        #[derive(Deserialize)]
        struct Given {
            token: Option<String>,
            access_token: Option<String>,
            expires_in: Option<u64>,
        }
        let question = Question {
            method: Method::GET,
            path: "",
            headers: HeaderMap::new(),
        };
        let asked = self.host.now();
        let reply = self
            .request(upstream, address, &question, basic(upstream).as_ref())
            .await?;
        let reply = self.understand(upstream, reply).await?;
        let body = match reply.body {
            Some(body) if reply.status == StatusCode::OK => {
                self.store.collect(body, MAX_DOCUMENT).await.ok().flatten()
            }
            _ => None,
        };
        let given = body.and_then(|body| serde_json::from_slice::<Given>(&body).ok());
        let lifetime = given
            .as_ref()
            .and_then(|given| given.expires_in)
            .map_or(TOKEN_LIFETIME, Duration::from_secs)
            .min(MAX_TOKEN_LIFETIME);
        let token = given.and_then(|given| given.token.or(given.access_token));
        let text = token.and_then(|token| HeaderValue::from_str(&format!("Bearer {token}")).ok());
        Ok(Token {
            text: text.ok_or_else(|| UpstreamError::Wrong("it gave no token".to_owned()))?,
            // One that is about to end is good for the request that it was asked for.
            until: asked
                + lifetime
                    .saturating_sub(TOKEN_MARGIN)
                    .max(Duration::from_secs(1)),
        })
    }

    fn token_of(&self, upstream: &Upstream, scope: &str) -> Option<HeaderValue> {
        let tokens = self.tokens.borrow();
        tokens.find(&token_key(upstream, scope), self.host.now())
    }

    /// Asks at an address of an upstream, and wherever it may send to. Credentials go to its own address only.
    async fn follow(
        &self,
        upstream: &Upstream,
        url: &str,
        question: &Question<'_>,
        authorization: Option<&HeaderValue>,
    ) -> Result<Reply<P::Body>, UpstreamError> {
        let mut url = url.to_owned();
        for _ in 0..=MOST_REDIRECTIONS {
            let authorization = authorization.filter(|_| upstream.is_own(&url));
            let mut reply = self
                .request(upstream, &url, question, authorization)
                .await?;
            let is_redirection = matches!(reply.status.as_u16(), 301 | 302 | 303 | 307 | 308);
            let Some(location) = reply
                .headers
                .get(header::LOCATION)
                .filter(|_| is_redirection)
            else {
                return Ok(reply);
            };
            let location = location.to_str().unwrap_or_default();
            let next = resolve(&url, location);
            if let Some(body) = reply.body.take() {
                self.store.discard(body).await;
            }
            let Some(next) = next.filter(|next| upstream.may_redirect(next)) else {
                let host = host_of(location);
                return Err(UpstreamError::Wrong(format!(
                    "it sends to {host}, which is not among the hosts in `redirects` of its settings"
                )));
            };
            url = next;
        }
        Err(UpstreamError::Wrong(
            "it sends from one address to the next without end".to_owned(),
        ))
    }

    async fn request(
        &self,
        upstream: &Upstream,
        url: &str,
        question: &Question<'_>,
        authorization: Option<&HeaderValue>,
    ) -> Result<Reply<P::Body>, UpstreamError> {
        let mut headers = question.headers.clone();
        headers.insert(header::USER_AGENT, USER_AGENT);
        if let Some(authorization) = authorization {
            headers.insert(header::AUTHORIZATION, authorization.clone());
        }
        let ask = Ask {
            method: question.method.clone(),
            url: url.to_owned(),
            headers,
            patience: PATIENCE,
        };
        let mut reply = self.host.fetch(ask.clone()).await;
        if matches!(reply, Err(FetchError::Failed(_))) {
            // It may have been a connection that was kept, and that the other side has closed meanwhile.
            reply = self.host.fetch(ask).await;
        }
        let outcome = match &reply {
            Ok(reply) => UpstreamOutcome::Answered(reply.status.as_u16()),
            Err(FetchError::Late) => UpstreamOutcome::Late,
            Err(FetchError::Failed(_)) => UpstreamOutcome::Failed,
        };
        self.metrics
            .asked_upstream(upstream.name(), question.method.as_str(), outcome);
        let reply = reply.map_err(|error| {
            let error = UpstreamError::from(error);
            // Those who come next don't wait as long again to hear the same.
            self.let_rest(upstream, PAUSE, &error);
            error
        })?;
        if let Some(left) = remaining(&reply.headers).filter(|_| upstream.is_own(url)) {
            self.metrics.upstream_remaining(upstream.name(), left);
            self.spend(upstream, left, retry_after(&reply.headers));
        }
        Ok(reply)
    }

    /// Heeds how many pulls an upstream has left for us, before it has to refuse one.
    fn spend(&self, upstream: &Upstream, left: i64, rest: Duration) {
        let mut spent = self.spent.borrow_mut();
        if left > 0 {
            spent.remove(upstream.name());
        } else {
            spent.insert(upstream.name().to_owned(), self.host.now() + rest);
        }
    }

    /// Why a question is not asked of an upstream that has no pulls left for us. A pull is a `GET` of a manifest: whether a tag
    /// has moved may be asked, and blobs too, which are of no use without one that was pulled.
    fn is_spent(&self, upstream: &Upstream, question: &Question<'_>) -> Option<UpstreamError> {
        let is_pull = question.method == Method::GET && question.path.starts_with("/manifests/");
        let spent = self.spent.borrow();
        let until = spent.get(upstream.name()).filter(|_| is_pull)?;
        let left = until.since(self.host.now());
        let said = "it has no pulls left for now".to_owned();
        (!left.is_zero()).then_some(UpstreamError::Limited(left, said))
    }

    /// Forgets that an upstream failed, so that it is asked again at once; not that it asked for fewer requests.
    pub(in crate::registry) fn forget_failure(&self, upstream: &Upstream) {
        let mut resting = self.resting.borrow_mut();
        if let Some((_, error)) = resting.get(upstream.name())
            && !matches!(error, UpstreamError::Limited(..))
        {
            resting.remove(upstream.name());
        }
    }

    /// Tells replies that can be used from those that can't, with what the upstream says of these.
    async fn understand(
        &self,
        upstream: &Upstream,
        mut reply: Reply<P::Body>,
    ) -> Result<Reply<P::Body>, UpstreamError> {
        let status = reply.status;
        if status.as_u16() < 400 {
            return Ok(reply);
        }
        let said = match reply.body.take() {
            Some(body) => self.store.collect(body, MAX_DOCUMENT).await.ok().flatten(),
            None => None,
        };
        let said = message(status, &said.unwrap_or_default());
        Err(match status {
            StatusCode::NOT_FOUND | StatusCode::GONE => UpstreamError::Unknown(said),
            // It has no such end-point, as registries from before there were referrers.
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
                UpstreamError::Unknown(said)
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => UpstreamError::Refused(said),
            StatusCode::TOO_MANY_REQUESTS => {
                let after = retry_after(&reply.headers);
                let error = UpstreamError::Limited(after, said);
                self.let_rest(upstream, after, &error);
                error
            }
            _ => UpstreamError::Failed(said),
        })
    }

    fn let_rest(&self, upstream: &Upstream, time: Duration, error: &UpstreamError) {
        let until = self.host.now() + time;
        let mut resting = self.resting.borrow_mut();
        resting.insert(upstream.name().to_owned(), (until, error.clone()));
    }

    /// Why an upstream is still left alone.
    fn rest_of(&self, upstream: &Upstream) -> Option<UpstreamError> {
        let resting = self.resting.borrow();
        let (until, error) = resting.get(upstream.name())?;
        let left = until.since(self.host.now());
        match error {
            _ if left.is_zero() => None,
            UpstreamError::Limited(_, said) => Some(UpstreamError::Limited(left, said.clone())),
            error => Some(error.clone()),
        }
    }
}

const USER_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("strata/", env!("CARGO_PKG_VERSION")));

/// How many requests Docker Hub still allows in its window: `76;w=21600`.
const RATELIMIT_REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");

fn remaining(headers: &HeaderMap) -> Option<i64> {
    let text = headers.get(RATELIMIT_REMAINING)?.to_str().ok()?;
    text.split(';').next()?.trim().parse().ok()
}

/// RFC 9110, section 10.2.3. A date is not looked at: clocks differ.
fn retry_after(headers: &HeaderMap) -> Duration {
    let text = headers
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok());
    let seconds = text.and_then(|text| text.trim().parse().ok());
    seconds.map_or(REST, |seconds: u64| {
        Duration::from_secs(seconds.clamp(1, 3_600))
    })
}

fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    let values = headers.get_all(header::WWW_AUTHENTICATE).iter();
    Challenge::parse(values.filter_map(|value| value.to_str().ok()))
}

fn basic(upstream: &Upstream) -> Option<HeaderValue> {
    let credentials = upstream.credentials()?;
    let text = STANDARD.encode(format!("{}:{}", credentials.user, credentials.password));
    HeaderValue::from_str(&format!("Basic {text}")).ok()
}

fn token_key(upstream: &Upstream, scope: &str) -> String {
    format!("{} {scope}", upstream.name())
}

/// The words of an upstream: of the specification's form where they have it, and never long.
fn message(status: StatusCode, body: &[u8]) -> String {
    let document: Option<Value> = serde_json::from_slice(body).ok();
    let said = document.as_ref().and_then(|document| {
        let first = document.get("errors")?.get(0)?;
        let message = first.get("message").and_then(Value::as_str);
        message
            .filter(|text| !text.is_empty())
            .or_else(|| first.get("code")?.as_str())
    });
    let said = said.or_else(|| document.as_ref()?.get("details")?.as_str());
    let words: String = said
        .unwrap_or_default()
        .chars()
        .filter(|c| !c.is_control())
        .take(200)
        .collect();
    let number = status.as_u16();
    if words.is_empty() {
        format!("status {number}")
    } else {
        format!("{words} (status {number})")
    }
}

/// The address that a `Location` means (RFC 3986, section 5): another one, or a path at the same host.
fn resolve(url: &str, location: &str) -> Option<String> {
    let base: Uri = url.parse().ok()?;
    let scheme = base.scheme_str()?;
    if location.starts_with("//") {
        return Some(format!("{scheme}:{location}"));
    }
    if location.starts_with('/') {
        return Some(format!("{scheme}://{}{location}", base.authority()?));
    }
    let target: Uri = location.parse().ok()?;
    target.scheme().map(|_| location.to_owned())
}

/// What an address is told by: its query may have secrets.
fn host_of(address: &str) -> String {
    let uri: Option<Uri> = address.parse().ok();
    let host = uri.as_ref().and_then(|uri| uri.host());
    host.unwrap_or("an address that is none").to_owned()
}
