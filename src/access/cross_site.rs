//! Cross-site requests: requests that a page of another site makes a browser send (CSRF).
//!
//! If a user signed in at the browser's own prompt, as for `/metrics`, the browser adds the
//! credentials to every request to the registry, from any page. The browser also sends headers that
//! name the cause, and no page can set or omit them:
//!
//! | header | values | source |
//! |---|---|---|
//! | `Sec-Fetch-Site` | `same-origin`, `none`, `same-site` or `cross-site` | Fetch Metadata Request Headers, section 2.3 |
//! | `Origin` | `<scheme>://<host>[:<port>]` or `null` | Fetch, section 3.2 |
//!
//! `none` means a typed address or a bookmark. Registry clients send neither header. The same rule
//! holds for all credentials, and for none.

use std::fmt;

use http::{HeaderMap, HeaderName, header};

use crate::error::{Code, Error};

/// The header with the relation between the site that caused a request and the registry (Fetch
/// Metadata Request Headers, section 2.3).
pub const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The header that shows a foreign request: one that a page of another site caused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Foreign {
    /// `Sec-Fetch-Site`, with its value.
    Site(String),
    /// `Origin` (Fetch, section 3.2), which is not the registry's own.
    Origin {
        /// The value of the header.
        value: String,
        /// The origin by which clients reach the registry.
        own: String,
    },
}

/// Finds the header that shows that a request is foreign. `None` if no page of another site caused
/// it.
///
/// `own` is the origin by which clients reach the registry. An unknown value of `Sec-Fetch-Site`
/// counts as foreign.
pub fn foreign(headers: &HeaderMap, own: &str) -> Option<Foreign> {
    let values = |name| {
        headers
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let site = values(SEC_FETCH_SITE).find(|value| value != "same-origin" && value != "none");
    if let Some(value) = site {
        return Some(Foreign::Site(value));
    }
    let value = values(header::ORIGIN).find(|value| normal(value) != normal(own))?;
    Some(Foreign::Origin {
        value,
        own: own.to_owned(),
    })
}

/// The effects of a request beside its answer. The page of another site that caused the request
/// can't read the answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Effect {
    /// The request only reads the registry's store.
    Reads,
    /// Without an upstream, the request only reads the store. In a mirrored repository, it asks the
    /// upstream.
    ReadsStored,
    /// The request changes something, indexes a layer, lists the bucket, or issues a token.
    Works,
}

impl Effect {
    /// Whether the page of another site may cause such a request.
    pub const fn is_open(self, is_mirrored: bool) -> bool {
        match self {
            Self::Reads => true,
            Self::ReadsStored => !is_mirrored,
            Self::Works => false,
        }
    }
}

/// An origin in lower case and without the default port, as browsers write it.
fn normal(origin: &str) -> String {
    let origin = origin.to_ascii_lowercase();
    let shortened = match origin.split_once("://") {
        Some(("https", _)) => origin.strip_suffix(":443"),
        Some(("http", _)) => origin.strip_suffix(":80"),
        _ => None,
    };
    shortened.map(str::to_owned).unwrap_or(origin)
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Site(value) => write!(
                f,
                "a page of another site caused this request (sec-fetch-site {:?}): type the address, or send the request without a browser",
                shown(value)
            ),
            Self::Origin { value, own } => write!(
                f,
                "a page of another site caused this request (origin {:?}, this registry is {own}): send it without a browser; if clients reach the registry by another address, set STRATA_ORIGIN to that",
                shown(value)
            ),
        }
    }
}

/// The start of a value, as messages quote it.
fn shown(value: &str) -> String {
    value.chars().take(MAX_SHOWN).collect()
}

impl From<Foreign> for Error {
    fn from(foreign: Foreign) -> Self {
        Self::new(Code::Denied, foreign.to_string())
    }
}

/// The most characters of a header that a message quotes.
const MAX_SHOWN: usize = 100;

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    const OWN: &str = "https://registry.example";

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name.clone(), value.parse().unwrap());
        }
        headers
    }

    #[track_caller]
    fn is_foreign(pairs: &[(HeaderName, &str)], own: &str, expected: bool) {
        let found = foreign(&headers(pairs), own);
        assert_eq!(found.is_some(), expected, "{pairs:?} at {own}: {found:?}");
    }

    #[test]
    fn sec_fetch_site_marks_cross_site_requests() {
        let site = |value, expected| is_foreign(&[(SEC_FETCH_SITE, value)], OWN, expected);
        site("same-origin", false);
        site("none", false);
        site("same-site", true);
        site("cross-site", true);
        // No browser sends these.
        for value in ["", "Same-Origin", "same-origin, none", "same-origin ", "x"] {
            site(value, true);
        }
        is_foreign(&[], OWN, false);
        let twice = [(SEC_FETCH_SITE, "none"), (SEC_FETCH_SITE, "cross-site")];
        is_foreign(&twice, OWN, true);
    }

    #[test]
    fn an_origin_other_than_the_registrys_is_cross_site() {
        let origin = |value, own, expected| is_foreign(&[(header::ORIGIN, value)], own, expected);
        for value in [
            OWN,
            "https://registry.example:443",
            "HTTPS://Registry.Example",
        ] {
            origin(value, OWN, false);
        }
        for value in [
            "null",
            "",
            "http://registry.example",
            "https://registry.example:8443",
            "https://registry.example:4430",
            "https://registry.example:80",
            "https://registry.example.evil.example",
            "https://evil.example",
            "https://a.registry.example",
            "https://registry.example/",
            "https://registry.example https://evil.example",
        ] {
            origin(value, OWN, true);
        }
        origin("http://127.0.0.1:8787", "http://127.0.0.1:8787", false);
        origin("http://localhost:8787", "http://127.0.0.1:8787", true);
        origin(
            "http://registry.example",
            "http://Registry.example:80",
            false,
        );
        origin(
            "https://registry.example",
            "https://registry.example:443",
            false,
        );
        let twice = [(header::ORIGIN, OWN), (header::ORIGIN, "null")];
        is_foreign(&twice, OWN, true);
    }

    #[test]
    fn either_header_suffices_to_mark_a_cross_site_request() {
        let both = |site, origin, expected| {
            is_foreign(
                &[(SEC_FETCH_SITE, site), (header::ORIGIN, origin)],
                OWN,
                expected,
            );
        };
        both("same-origin", OWN, false);
        both("none", OWN, false);
        both("same-origin", "null", true);
        both("none", "https://evil.example", true);
        both("cross-site", OWN, true);
    }

    #[test]
    fn cross_site_errors_state_the_header_and_the_remedy() {
        let message = |pairs: &[_]| Error::from(foreign(&headers(pairs), OWN).unwrap()).message();
        assert_eq!(
            message(&[(SEC_FETCH_SITE, "cross-site")]),
            "requested access to the resource is denied: a page of another site caused this request (sec-fetch-site \"cross-site\"): type the address, or send the request without a browser"
        );
        assert_eq!(
            message(&[(header::ORIGIN, "https://evil.example")]),
            "requested access to the resource is denied: a page of another site caused this request (origin \"https://evil.example\", this registry is https://registry.example): send it without a browser; if clients reach the registry by another address, set STRATA_ORIGIN to that"
        );
        assert!(message(&[(header::ORIGIN, &"x".repeat(10_000))]).len() < 500);
    }
}
