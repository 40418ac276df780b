//! Why an upstream gave no answer.

use std::{fmt, time::Duration};

use http::{HeaderValue, StatusCode, header};

use crate::{
    error::{Code, Error},
    host::FetchError,
    store::StoreError,
    upstream::Upstream,
};

/// Why a request to an upstream failed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum UpstreamError {
    /// The upstream does not have it.
    Unknown(String),
    /// The upstream denies this registry access.
    Refused(String),
    /// A rate limit, from the upstream or kept by this registry on its behalf.
    Limited(Duration, String),
    /// The upstream timed out.
    Late,
    /// The upstream could not be reached, or failed.
    Failed(String),
    /// The upstream's answer can't be used.
    Wrong(String),
    /// The upstream's answer could not be stored.
    Store(String),
}

impl UpstreamError {
    /// Whether a stored copy may be served instead of an answer.
    pub(super) const fn is_outage(&self) -> bool {
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

    /// The value in headers and metrics.
    pub(super) const fn reason(&self) -> &'static str {
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

    /// The error for a client if no copy can be served. `unknown` is the code for missing content
    /// of that kind.
    pub(super) fn answer(&self, upstream: &Upstream, unknown: Code) -> Error {
        let name = upstream.name();
        let retry_after = |error: Error, after: Duration| {
            let seconds = HeaderValue::from(after.as_secs().max(1));
            error.with_header(header::RETRY_AFTER, seconds)
        };
        match self {
            Self::Unknown(said) => {
                Error::new(unknown, format!("not found on upstream {name}: {said}"))
            }
            Self::Refused(said) => Error::new(
                Code::Denied,
                format!("upstream {name} denied access: {said}"),
            ),
            Self::Limited(after, said) => {
                let found = format!("upstream {name} limits the request rate: {said}");
                retry_after(Error::new(Code::TooManyRequests, found), *after)
            }
            Self::Late => {
                let found = format!("upstream {name} took too long to answer");
                Error::unavailable(found, Duration::from_secs(5))
                    .with_status(StatusCode::GATEWAY_TIMEOUT)
            }
            Self::Store(said) => {
                let found = format!("cannot store the response of upstream {name}: {said}");
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

impl From<StoreError> for UpstreamError {
    fn from(error: StoreError) -> Self {
        Self::Store(error.to_string())
    }
}
