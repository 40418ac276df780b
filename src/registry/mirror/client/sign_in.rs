//! Signing in to upstreams: their challenges, and the tokens that answer them.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde::Deserialize;

use crate::{
    host::Clock as _,
    platform::Platform,
    registry::mirror::{
        client::{
            Client, MAX_DOCUMENT, Question, host_of,
            token::{MAX_TOKEN_LIFETIME, TOKEN_LIFETIME, TOKEN_MARGIN, Token, basic, token_key},
        },
        error::UpstreamError,
    },
    store::Streams as _,
    upstream::{Upstream, challenge::Challenge},
};

impl<P: Platform> Client<P> {
    /// The credentials that answer an upstream's challenge; `None` if there are none.
    pub(super) async fn sign_in_to(
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
                "the token realm is on {host}, which `auth` in its settings does not list"
            )));
        }
        let key = token_key(upstream, scope);
        // Concurrent requests that were refused share one request for a token.
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
                self.host.collect(body, MAX_DOCUMENT).await.ok().flatten()
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
            text: text.ok_or_else(|| {
                UpstreamError::Wrong("the token response has no token".to_owned())
            })?,
            // A token that is about to expire still serves the request that asked for it.
            until: asked
                + lifetime
                    .saturating_sub(TOKEN_MARGIN)
                    .max(Duration::from_secs(1)),
        })
    }

    pub(super) fn token_of(&self, upstream: &Upstream, scope: &str) -> Option<HeaderValue> {
        let tokens = self.tokens.borrow();
        tokens.find(&token_key(upstream, scope), self.host.now())
    }
}
