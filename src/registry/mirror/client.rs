//! The client of upstreams: it signs in, follows redirects, and respects rate limits.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use serde_json::Value;

use crate::{
    host::{Ask, Clock as _, Fetch as _, FetchError, Reply},
    metrics::{Metrics, UpstreamOutcome},
    platform::Platform,
    registry::{
        mirror::{client::token::Tokens, error::UpstreamError},
        parts::Parts,
    },
    store::{Streams as _, flight::Flights},
    time::Timestamp,
    upstream::{Mirrored, Upstream, challenge::Challenge},
};

mod sign_in;
mod token;

/// The timeout for the head of an upstream's reply.
const PATIENCE: Duration = Duration::from_secs(8);

/// The most redirects that are followed.
const MOST_REDIRECTIONS: usize = 5;

/// The pause after an upstream's rate limit, if it sends no `Retry-After`.
const REST: Duration = Duration::from_secs(60);

/// The pause after an upstream could not be reached or timed out.
const PAUSE: Duration = Duration::from_secs(3);

/// The most bytes of a token's reply, and of a message.
const MAX_DOCUMENT: u64 = 64 * 1024;

/// The client of upstreams, with the state that this isolate keeps between requests.
pub(super) struct Client<P: Platform> {
    host: P::Host,
    metrics: Rc<Metrics>,
    tokens: RefCell<Tokens>,
    signing_in: Flights<Result<(), UpstreamError>>,
    /// Upstreams that are paused: until when, and why.
    resting: RefCell<BTreeMap<String, (Timestamp, UpstreamError)>>,
    /// Upstreams whose pulls are used up: until when they are not asked for manifests.
    spent: RefCell<BTreeMap<String, Timestamp>>,
}

/// A request to an upstream.
#[derive(Clone, Debug)]
pub(super) struct Question<'a> {
    pub(super) method: Method,
    /// The path after the repository's name, with the leading slash.
    pub(super) path: &'a str,
    /// The headers, without those that sign in.
    pub(super) headers: HeaderMap,
}

impl<P: Platform> Client<P> {
    pub(super) fn new(parts: &Parts<P>) -> Self {
        Self {
            host: parts.host.clone(),
            metrics: parts.metrics.clone(),
            tokens: RefCell::default(),
            signing_in: Flights::default(),
            resting: RefCell::default(),
            spent: RefCell::default(),
        }
    }

    /// Sends a request about an upstream's repository, and returns a reply of a status below 400.
    pub(super) async fn ask(
        &self,
        mirrored: &Mirrored,
        question: &Question<'_>,
    ) -> Result<Reply<P::Body>, UpstreamError> {
        let upstream = &mirrored.upstream;
        let rest = self
            .pause_of(upstream)
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
            // Another request may have fetched a token meanwhile.
            let brought = self.token_of(upstream, &scope);
            let next = match brought.filter(|token| authorization.as_ref() != Some(token)) {
                Some(token) => Some(token),
                None => self.sign_in_to(upstream, &challenge, &scope).await?,
            };
            tried = Some(next.ok_or_else(refused)?);
        }
    }

    /// Sends a request and follows redirects. Credentials go to the upstream's own address only.
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
                self.host.discard(body).await;
            }
            let Some(next) = next.filter(|next| upstream.may_redirect(next)) else {
                let host = host_of(location);
                return Err(UpstreamError::Wrong(format!(
                    "it redirects to {host}, which `redirects` in its settings does not list"
                )));
            };
            url = next;
        }
        Err(UpstreamError::Wrong("too many redirects".to_owned()))
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
            // The upstream may have closed a kept-alive connection meanwhile.
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
            // The next requests fail at once instead of waiting for the same timeout.
            self.let_rest(upstream, PAUSE, &error);
            error
        })?;
        if let Some(left) = remaining(&reply.headers).filter(|_| upstream.is_own(url)) {
            self.metrics.upstream_remaining(upstream.name(), left);
            self.spend(upstream, left, retry_after(&reply.headers));
        }
        Ok(reply)
    }

    /// Notes how many pulls the upstream still allows, so that it never has to refuse one.
    fn spend(&self, upstream: &Upstream, left: i64, rest: Duration) {
        let mut spent = self.spent.borrow_mut();
        if left > 0 {
            spent.remove(upstream.name());
        } else {
            spent.insert(upstream.name().to_owned(), self.host.now() + rest);
        }
    }

    /// Why a request is not sent to an upstream whose pulls are used up.
    /// Only a `GET` of a manifest counts as a pull.
    /// Checks whether a tag has moved are still sent, and requests for blobs, which are of no use
    /// without a pulled manifest.
    fn is_spent(&self, upstream: &Upstream, question: &Question<'_>) -> Option<UpstreamError> {
        let is_pull = question.method == Method::GET && question.path.starts_with("/manifests/");
        let spent = self.spent.borrow();
        let until = spent.get(upstream.name()).filter(|_| is_pull)?;
        let left = until.since(self.host.now());
        let said = "its pull limit is used up for now".to_owned();
        (!left.is_zero()).then_some(UpstreamError::Limited(left, said))
    }

    /// Ends the pause after a failure, so that the upstream is asked again at once. A pause for a
    /// rate limit stays.
    pub(super) fn forget_failure(&self, upstream: &Upstream) {
        let mut resting = self.resting.borrow_mut();
        if let Some((_, error)) = resting.get(upstream.name())
            && !matches!(error, UpstreamError::Limited(..))
        {
            resting.remove(upstream.name());
        }
    }

    /// Turns a status of 400 or more into an error, with the upstream's message.
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
            Some(body) => self.host.collect(body, MAX_DOCUMENT).await.ok().flatten(),
            None => None,
        };
        let said = message(status, &said.unwrap_or_default());
        Err(match status {
            StatusCode::NOT_FOUND | StatusCode::GONE => UpstreamError::Unknown(said),
            // The end-point is missing: registries older than the referrers API answer so.
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

    /// The error that paused an upstream, while the pause lasts.
    fn pause_of(&self, upstream: &Upstream) -> Option<UpstreamError> {
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

/// The requests that Docker Hub still allows in its window: `76;w=21600`.
const RATELIMIT_REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");

fn remaining(headers: &HeaderMap) -> Option<i64> {
    let text = headers.get(RATELIMIT_REMAINING)?.to_str().ok()?;
    text.split(';').next()?.trim().parse().ok()
}

/// RFC 9110, section 10.2.3. A date is ignored, because clocks differ.
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

/// The upstream's message, in the specification's form if it has that, cut to 200 characters.
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

/// The address that a `Location` means (RFC 3986, section 5): absolute, or a path at the same host.
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

/// The host alone, for messages: the query may hold secrets.
fn host_of(address: &str) -> String {
    let uri: Option<Uri> = address.parse().ok();
    let host = uri.as_ref().and_then(|uri| uri.host());
    host.unwrap_or("an invalid address").to_owned()
}
