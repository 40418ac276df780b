//! A cache of the tokens of upstreams.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::HeaderValue;

use crate::{time::Timestamp, upstream::Upstream};

#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) text: HeaderValue,
    pub(super) until: Timestamp,
}

/// A cache of upstreams' tokens, by upstream and scope. Clients choose the scopes by the names that
/// they pull, so the cache is bounded in entries and bytes.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    by_scope: BTreeMap<String, (u64, Token)>,
    bytes: usize,
    /// The number of tokens inserted so far.
    count: u64,
}

impl Tokens {
    /// The most cached tokens, and their most bytes.
    const MOST: usize = 1_000;
    const MOST_BYTES: usize = 4 << 20;

    pub(super) fn find(&self, scope: &str, now: Timestamp) -> Option<HeaderValue> {
        let (_, token) = self.by_scope.get(scope)?;
        (token.until > now).then(|| token.text.clone())
    }

    /// Caches a token, and replaces one for the same scope. If the cache is full, the tokens that
    /// expire first are evicted.
    pub(super) fn keep(&mut self, scope: &str, token: Token, now: Timestamp) {
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

/// The lifetime of a token if the upstream sends none.
pub(super) const TOKEN_LIFETIME: Duration = Duration::from_secs(60);

/// The longest time that a token is cached, whatever the upstream says.
pub(super) const MAX_TOKEN_LIFETIME: Duration = Duration::from_secs(3_600);

/// A token is no longer used so long before it expires.
pub(super) const TOKEN_MARGIN: Duration = Duration::from_secs(10);

pub(super) fn basic(upstream: &Upstream) -> Option<HeaderValue> {
    let credentials = upstream.credentials()?;
    let text = STANDARD.encode(format!("{}:{}", credentials.user, credentials.password));
    HeaderValue::from_str(&format!("Basic {text}")).ok()
}

pub(super) fn token_key(upstream: &Upstream, scope: &str) -> String {
    format!("{} {scope}", upstream.name())
}
