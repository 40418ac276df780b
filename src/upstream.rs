//! Upstreams: the registries that are mirrored, and the repositories of each.
//! One file, because an upstream is parsed, resolved and bounded by the same fields.
//!
//! ```toml
//! [[vars.STRATA_UPSTREAMS]]
//! name = "docker.io"
//! address = "https://registry-1.docker.io"
//! library = true
//! default = true
//! ```
//!
//! | field | default | meaning |
//! |---|---|---|
//! | `name` | | the name that clients use: the first component of mirrored repositories, and `ns=` |
//! | `aliases` | none | other values of `ns=` that mean it |
//! | `address` | `https://<name>` | its address: a scheme and a host |
//! | `repositories` | `["**"]` | the repositories that are mirrored, by patterns of the upstream's own names |
//! | `default` | `false` | whether a name without an upstream is one of this upstream's, if a pattern names it |
//! | `library` | `false` | whether a name of one component is one below `library/`, as on Docker Hub |
//! | `auth` | none | hosts that may give tokens, beside its own and those below its name, if that is a domain that contains its address |
//! | `redirects` | none | hosts to which it may redirect for blobs, as `cdn.example` or `*.example`; `*` for every host with a name |
//! | `fresh_seconds` | 300 | how long a tag is cached before the upstream is asked again |
//! | `immutable` | none | patterns of tags that never move |
//! | `most_bytes` | 10737418240 | the largest blob that is mirrored |
//! | `ranges` | `both` | how a part of a blob that is not stored is answered: `pass` asks the upstream for it, `store` stores the whole blob first, `both` asks for the part and stores the whole blob in the background |
//! | `gone` | `refuse` | whether stored content is served after the upstream reports that it is gone: `refuse` or `serve` |
//! | `insecure` | `false` | whether it may be reached by http, and at an IP address or an internal host: for development |
//!
//! The list is closed: no request makes the registry call another address. A mirrored repository is
//! called by the upstream's name and its own, `docker.io/library/alpine`, in every form of the
//! request. Nothing can be pushed to such a name.

use std::{collections::BTreeMap, fmt, rc::Rc, time::Duration};

use http::Uri;
use serde::Deserialize;

use crate::{
    name::{Name, ParseNameError, Tag},
    pattern::{self, Pattern},
};

#[doc(hidden)]
pub mod challenge;

/// The registries that are mirrored, and the rules by which a repository is one of theirs.
///
/// [`Settings::parse`](crate::settings::Settings::parse) makes it of `STRATA_UPSTREAMS` and
/// `STRATA_UPSTREAM_CREDENTIALS`.
#[derive(Clone, Debug, Default)]
pub struct Upstreams(Vec<Rc<Upstream>>);

/// A registry that is mirrored.
#[doc(hidden)]
#[derive(Debug)]
pub struct Upstream {
    name: String,
    aliases: Vec<String>,
    origin: Origin,
    repositories: Vec<Pattern>,
    is_default: bool,
    has_library: bool,
    auth: Vec<HostPattern>,
    redirects: Vec<HostPattern>,
    immutable: Vec<Pattern>,
    credentials: Option<UpstreamCredentials>,
    is_insecure: bool,
    /// How long a cached tag is served before the upstream is asked again, 300 seconds by default.
    pub freshness: Duration,
    /// The largest blob that is mirrored, in bytes: 10 GiB by default.
    pub most_bytes: u64,
    /// How a request for a part of a blob is answered while the blob is not stored.
    pub ranges: Ranges,
    /// Whether stored content is served after the upstream reports that it is gone.
    pub serves_gone: bool,
}

/// The repository of an upstream that a request is for.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub struct Mirrored {
    /// The upstream that has the repository.
    pub upstream: Rc<Upstream>,
    /// The repository's name on the upstream, such as `library/alpine`.
    pub remote: Name,
    /// The repository's name in this registry, such as `docker.io/library/alpine`.
    pub name: Name,
}

/// The reason why no upstream was found for a request.
#[doc(hidden)]
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ResolveError {
    /// No upstream has this name, which the client sent as `ns=`.
    Namespace(String),
    /// The upstream is mirrored, but not this repository of it, named as in this registry.
    Repository(String),
    /// The name of the upstream and that of the repository together are not a valid name.
    Name(ParseNameError),
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Namespace(found) => write!(f, "this mirror has no upstream {found:?}"),
            Self::Repository(found) => write!(f, "{found} is not mirrored here"),
            Self::Name(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ResolveError {}

impl Upstreams {
    /// Parses the JSON of upstreams, and of the credentials of some: `{"<name>": {"user": …,
    /// "password": …}}`, a secret.
    ///
    /// # Errors
    ///
    /// The name of the setting, `STRATA_UPSTREAMS` or `STRATA_UPSTREAM_CREDENTIALS`, and the
    /// problem. A problem of credentials repeats nothing of the secret.
    #[doc(hidden)]
    pub fn parse(
        upstreams: Option<&str>,
        credentials: Option<&str>,
    ) -> Result<Self, (&'static str, String)> {
        let given = |text: Option<&str>| {
            text.filter(|text| !text.trim().is_empty())
                .map(str::to_owned)
        };
        let upstreams: Vec<UpstreamEntry> = match given(upstreams) {
            Some(text) => {
                serde_json::from_str(&text).map_err(|error| (UPSTREAMS, error.to_string()))?
            }
            None => Vec::new(),
        };
        let mut credentials: BTreeMap<String, UpstreamCredentials> = match given(credentials) {
            Some(text) => serde_json::from_str(&text).map_err(|error| {
                let found = format!(
                    "line {}, column {}: expected {{\"<upstream>\": {{\"user\": \"…\", \"password\": \"…\"}}}}",
                    error.line(),
                    error.column()
                );
                (CREDENTIALS, found)
            })?,
            None => BTreeMap::new(),
        };
        let mut made: Vec<Rc<Upstream>> = Vec::new();
        for entry in upstreams {
            let credentials = credentials.remove(&entry.name);
            let name = entry.name.clone();
            let upstream = entry
                .make(credentials)
                .map_err(|error| (UPSTREAMS, format!("upstream {name:?}: {error}")))?;
            let is_taken = made.iter().any(|other| {
                upstream
                    .names()
                    .any(|name| other.names().any(|other| other == name))
            });
            if is_taken {
                return Err((UPSTREAMS, format!("upstream {name:?} is defined twice")));
            }
            if upstream.is_default && made.iter().any(|other| other.is_default) {
                return Err((
                    UPSTREAMS,
                    format!("upstream {name:?} is the second default; only one can be"),
                ));
            }
            made.push(Rc::new(upstream));
        }
        // Don't quote the key: it is part of a secret, and may be a misplaced user or password.
        match credentials.into_keys().next() {
            Some(_) => {
                let names: Vec<&str> = made.iter().map(|upstream| upstream.name()).collect();
                let found = format!(
                    "an entry names no upstream of STRATA_UPSTREAMS; expected one of {names:?}"
                );
                Err((CREDENTIALS, found))
            }
            None => Ok(Self(made)),
        }
    }

    /// The upstream's repository that a stored name mirrors. `None` if it is a repository of this
    /// registry's own.
    #[doc(hidden)]
    pub fn mirrored(&self, name: &Name) -> Option<Mirrored> {
        self.resolve(name, None).ok().flatten()
    }

    /// The upstream's repository that a name means, with the `ns=` of the request. `None` if it is
    /// a repository of this registry's own.
    ///
    /// # Errors
    ///
    /// [`ResolveError`] if the client or the name names an upstream that has no such repository
    /// here.
    #[doc(hidden)]
    pub fn resolve(&self, name: &Name, ns: Option<&str>) -> Result<Option<Mirrored>, ResolveError> {
        let text = name.as_str();
        if let Some(ns) = ns {
            let mut upstreams = self.0.iter();
            let upstream = upstreams
                .find(|upstream| upstream.names().any(|name| name == ns))
                .ok_or_else(|| ResolveError::Namespace(ns.to_owned()))?;
            // If the mirror's address contains the upstream's name, as it may in BuildKit, the
            // client sends it twice.
            let twice = text
                .split_once('/')
                .filter(|(first, _)| *first == upstream.name);
            return upstream
                .mirrored(twice.map_or(text, |(_, rest)| rest))
                .map(Some);
        }
        let prefixed = text.split_once('/').and_then(|(first, rest)| {
            let upstream = self.0.iter().find(|upstream| upstream.name == first)?;
            Some((upstream, rest))
        });
        if let Some((upstream, remote)) = prefixed {
            return upstream.mirrored(remote).map(Some);
        }
        match self.0.iter().find(|upstream| upstream.is_default) {
            Some(upstream) if upstream.mirrors(&upstream.remote(text)) => {
                upstream.mirrored(text).map(Some)
            }
            _ => Ok(None),
        }
    }
}

/// The settings that upstreams are read from.
const UPSTREAMS: &str = "STRATA_UPSTREAMS";
const CREDENTIALS: &str = "STRATA_UPSTREAM_CREDENTIALS";

impl Upstream {
    /// The name that clients use, such as `docker.io`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address of one of the upstream's end-points. `path` begins with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }

    /// Whether a tag never moves, so that the upstream need not be asked again.
    pub fn is_immutable(&self, tag: &Tag) -> bool {
        self.immutable
            .iter()
            .any(|pattern| pattern.matches(tag.as_str()))
    }

    /// The credentials for signing in to the upstream. `None` for anonymous pulls.
    pub const fn credentials(&self) -> Option<&UpstreamCredentials> {
        self.credentials.as_ref()
    }

    /// Whether the upstream's credentials may go to a token server at this address: the upstream's
    /// own origin, a host of `auth`, or a host below its name if the name is a domain that contains
    /// the upstream's address. Never by http, if the upstream is reached by https.
    pub fn may_give_tokens(&self, address: &str) -> bool {
        Origin::parse(address, self.is_insecure).is_ok_and(|origin| {
            let is_downgrade = self.origin.scheme == "https" && origin.scheme != "https";
            let is_below_its_name = || {
                let is_within = is_within(&origin.host, &self.name);
                self.is_in_its_name() && is_within && origin.is_usual()
            };
            origin == self.origin
                || (!is_downgrade
                    && (self.auth.iter().any(|pattern| pattern.matches(&origin))
                        || is_below_its_name()))
        })
    }

    /// Whether the name is a domain that contains the address. For any other name, somebody else
    /// may own the hosts below it.
    fn is_in_its_name(&self) -> bool {
        let has_dot = self.name.contains('.');
        let last = self.name.rsplit('.').next().unwrap_or_default();
        // The last octets of an IP address are no domain.
        let is_domain = has_dot && !last.bytes().all(|b| b.is_ascii_digit());
        is_domain && is_within(&self.origin.host, &self.name)
    }

    /// Whether the upstream may redirect to an address for a blob.
    pub fn may_redirect(&self, address: &str) -> bool {
        Origin::parse(address, self.is_insecure).is_ok_and(|origin| {
            origin == self.origin
                || self
                    .redirects
                    .iter()
                    .any(|pattern| pattern.matches(&origin))
        })
    }

    /// Whether an address is at the upstream's own origin, so that credentials may go there.
    pub fn is_own(&self, address: &str) -> bool {
        Origin::parse(address, self.is_insecure).is_ok_and(|origin| origin == self.origin)
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.aliases
            .iter()
            .map(String::as_str)
            .chain([self.name.as_str()])
    }

    fn mirrors(&self, remote: &str) -> bool {
        self.repositories
            .iter()
            .any(|pattern| pattern.matches(remote))
    }

    fn remote(&self, name: &str) -> String {
        if self.has_library && !name.contains('/') {
            format!("library/{name}")
        } else {
            name.to_owned()
        }
    }

    fn mirrored(self: &Rc<Self>, name: &str) -> Result<Mirrored, ResolveError> {
        let remote = self.remote(name);
        let local = format!("{}/{remote}", self.name);
        if !self.mirrors(&remote) {
            return Err(ResolveError::Repository(local));
        }
        Ok(Mirrored {
            upstream: self.clone(),
            remote: remote.parse().map_err(ResolveError::Name)?,
            name: local.parse().map_err(ResolveError::Name)?,
        })
    }
}

/// Credentials for signing in to an upstream. `Debug` shows neither field.
#[doc(hidden)]
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamCredentials {
    /// The name of the user at the upstream.
    pub user: String,
    /// The password, or a token in its place.
    pub password: String,
}

impl fmt::Debug for UpstreamCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UpstreamCredentials")
    }
}

/// Whether a host is a domain or below it.
fn is_within(host: &str, domain: &str) -> bool {
    let rest = host.strip_suffix(domain);
    rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Scheme, host and port.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Origin {
    scheme: &'static str,
    host: String,
    port: u16,
}

impl Origin {
    /// Parses the origin of an address that may be called: by https, and at a name. With
    /// `is_insecure`, http and any host are allowed.
    fn parse(address: &str, is_insecure: bool) -> Result<Self, &'static str> {
        let uri: Uri = address.parse().map_err(|_| "the address is not a URL")?;
        let scheme = match uri.scheme_str() {
            Some("https") => "https",
            Some("http") if is_insecure => "http",
            _ => return Err("the address does not begin with https://"),
        };
        let authority = uri.authority().ok_or("the address has no host")?;
        if authority.as_str().contains('@') {
            return Err("the address has credentials in it");
        }
        let host = authority.host().trim_end_matches('.').to_ascii_lowercase();
        // An IP address may be an internal one. So may a name without a dot, or one below a
        // reserved domain.
        let is_name = host.contains('.')
            && host.rsplit('.').next().is_some_and(|last| {
                !last.bytes().all(|b| b.is_ascii_digit()) && !last.starts_with("0x")
            })
            && !host.starts_with('[');
        let is_inside = ["localhost", "local", "internal", "localdomain", "arpa"]
            .iter()
            .any(|last| host.rsplit('.').next() == Some(*last));
        if (!is_name || is_inside) && !is_insecure {
            return Err("the address is not of a public host");
        }
        let port = authority
            .port_u16()
            .unwrap_or(if scheme == "https" { 443 } else { 80 });
        Ok(Self { scheme, host, port })
    }

    /// Whether the port is the default of the scheme.
    fn is_usual(&self) -> bool {
        matches!((self.scheme, self.port), ("https", 443) | ("http", 80))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)?;
        if self.is_usual() {
            return Ok(());
        }
        write!(f, ":{}", self.port)
    }
}

/// Hosts: one, all below one, or all that have a name.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
enum HostPattern {
    All,
    Below(String),
    One(String, Option<u16>),
}

impl HostPattern {
    fn matches(&self, origin: &Origin) -> bool {
        let is_usual = origin.is_usual();
        match self {
            Self::All => is_usual,
            Self::Below(suffix) => is_usual && origin.host.ends_with(suffix),
            Self::One(host, Some(port)) => origin.host == *host && origin.port == *port,
            Self::One(host, None) => is_usual && origin.host == *host,
        }
    }
}

impl TryFrom<String> for HostPattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let refused = || format!("{text:?} is not a host: expected cdn.example, *.example or *");
        if text == "*" {
            return Ok(Self::All);
        }
        let is_host = |host: &str| {
            !host.is_empty()
                && host.bytes().all(|b| {
                    b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-')
                })
        };
        if let Some(suffix) = text.strip_prefix('*') {
            let rest = suffix.strip_prefix('.').ok_or_else(refused)?;
            return if is_host(rest) {
                Ok(Self::Below(suffix.to_owned()))
            } else {
                Err(refused())
            };
        }
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(port.parse().map_err(|_| refused())?)),
            None => (text.as_str(), None),
        };
        if !is_host(host) {
            return Err(refused());
        }
        Ok(Self::One(host.to_owned(), port))
    }
}

/// An upstream as the setting has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UpstreamEntry {
    name: String,
    #[serde(default)]
    aliases: Vec<String>,
    address: Option<String>,
    #[serde(
        default = "UpstreamEntry::everything",
        deserialize_with = "pattern::of_repositories"
    )]
    repositories: Vec<Pattern>,
    #[serde(default)]
    default: bool,
    #[serde(default)]
    library: bool,
    #[serde(default)]
    auth: Vec<HostPattern>,
    #[serde(default)]
    redirects: Vec<HostPattern>,
    fresh_seconds: Option<u64>,
    #[serde(default)]
    immutable: Vec<Pattern>,
    most_bytes: Option<u64>,
    #[serde(default)]
    ranges: Ranges,
    #[serde(default)]
    gone: Gone,
    #[serde(default)]
    insecure: bool,
}

/// How a request for a part of a blob is answered while the blob is not stored.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Ranges {
    /// The upstream answers, and the whole blob is stored in the background.
    #[default]
    Both,
    /// The upstream answers, and nothing is stored. If it can't serve the range, the whole blob is
    /// stored.
    Pass,
    /// The whole blob is stored first.
    Store,
}

#[derive(Clone, Copy, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Gone {
    #[default]
    Refuse,
    Serve,
}

impl UpstreamEntry {
    fn everything() -> Vec<Pattern> {
        vec![Pattern::all()]
    }

    fn make(self, credentials: Option<UpstreamCredentials>) -> Result<Upstream, String> {
        let is_component = self.name.parse::<Name>().is_ok() && !self.name.contains('/');
        if !is_component {
            return Err("the name can't be the first component of a repository name".to_owned());
        }
        let address = self
            .address
            .unwrap_or_else(|| format!("https://{}", self.name));
        let has_path = address
            .parse::<Uri>()
            .is_ok_and(|uri| uri.path_and_query().is_some_and(|path| path != "/"));
        if has_path {
            return Err(
                "the address has a path or a query, expected a scheme and a host".to_owned(),
            );
        }
        let origin = Origin::parse(&address, self.insecure)?;
        Ok(Upstream {
            name: self.name,
            aliases: self.aliases,
            origin,
            repositories: self.repositories,
            is_default: self.default,
            has_library: self.library,
            auth: self.auth,
            redirects: self.redirects,
            immutable: self.immutable,
            credentials,
            is_insecure: self.insecure,
            freshness: Duration::from_secs(self.fresh_seconds.unwrap_or(300)),
            most_bytes: self.most_bytes.unwrap_or(10 << 30),
            ranges: self.ranges,
            serves_gone: self.gone == Gone::Serve,
        })
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    fn upstreams() -> Upstreams {
        let upstreams = r#"[
            {"name": "docker.io", "address": "https://registry-1.docker.io", "library": true, "default": true,
             "repositories": ["library/**", "team/*"], "aliases": ["registry-1.docker.io"],
             "redirects": ["cdn.example", "*.blobs.example", "odd.example:8443"], "auth": ["tokens.example"], "immutable": ["v*.*"]},
            {"name": "ghcr.io"},
            {"name": "local", "address": "http://127.0.0.1:5000", "insecure": true, "aliases": ["127.0.0.1:5000"], "redirects": ["*"],
             "fresh_seconds": 0, "most_bytes": 10, "gone": "serve"}
        ]"#;
        let credentials = r#"{"ghcr.io": {"user": "me", "password": "hunter2"}}"#;
        Upstreams::parse(Some(upstreams), Some(credentials)).unwrap()
    }

    fn resolve(name: &str, ns: Option<&str>) -> Result<Option<(String, String)>, String> {
        let found = upstreams().resolve(&name.parse().unwrap(), ns);
        let found = found.map_err(|error| error.to_string())?;
        Ok(found.map(|found| (found.remote.to_string(), found.name.to_string())))
    }

    #[test]
    fn upstreams_are_resolved_by_name_prefix_and_namespace() {
        let docker = |remote: &str| Ok(Some((remote.to_owned(), format!("docker.io/{remote}"))));
        for (name, ns, expected) in [
            (
                "library/alpine",
                Some("docker.io"),
                docker("library/alpine"),
            ),
            (
                "library/alpine",
                Some("registry-1.docker.io"),
                docker("library/alpine"),
            ),
            ("alpine", Some("docker.io"), docker("library/alpine")),
            ("docker.io/library/alpine", None, docker("library/alpine")),
            ("docker.io/alpine", None, docker("library/alpine")),
            ("library/alpine", None, docker("library/alpine")),
            ("alpine", None, docker("library/alpine")),
            ("team/app", None, docker("team/app")),
            // Repositories that the default upstream does not mirror are this registry's own.
            ("team/app/part", None, Ok(None)),
            ("own/app", None, Ok(None)),
            ("docker.io", None, docker("library/docker.io")),
            (
                "own/app",
                Some("docker.io"),
                Err("docker.io/own/app is not mirrored here".to_owned()),
            ),
            (
                "docker.io/own/app",
                None,
                Err("docker.io/own/app is not mirrored here".to_owned()),
            ),
            (
                "a",
                Some("quay.io"),
                Err("this mirror has no upstream \"quay.io\"".to_owned()),
            ),
            (
                "a/b",
                Some("ghcr.io"),
                Ok(Some(("a/b".to_owned(), "ghcr.io/a/b".to_owned()))),
            ),
            (
                "a",
                Some("127.0.0.1:5000"),
                Ok(Some(("a".to_owned(), "local/a".to_owned()))),
            ),
        ] {
            assert_eq!(resolve(name, ns), expected, "{name} {ns:?}");
        }
        let long = format!("a/{}", "b".repeat(250));
        assert_eq!(
            resolve(&long, Some("ghcr.io")),
            Err("260 characters in repository name, at most 255 are allowed".to_owned())
        );
    }

    #[test]
    fn upstreams_have_their_configured_values() {
        let upstreams = upstreams();
        let [docker, ghcr, local] = upstreams.0.as_slice() else {
            unreachable!()
        };
        assert_eq!(docker.url("/v2/"), "https://registry-1.docker.io/v2/");
        assert_eq!(ghcr.url("/v2/"), "https://ghcr.io/v2/");
        assert_eq!(local.url("/v2/"), "http://127.0.0.1:5000/v2/");
        assert_eq!(
            (docker.freshness.as_secs(), local.freshness.as_secs()),
            (300, 0)
        );
        assert_eq!((docker.most_bytes, local.most_bytes), (10_737_418_240, 10));
        assert!(!docker.serves_gone && local.serves_gone);
        assert!(docker.is_immutable(&"v1.2".parse().unwrap()));
        assert!(!docker.is_immutable(&"v1".parse().unwrap()));
        assert_eq!(ghcr.credentials().unwrap().user, "me");
        assert!(docker.credentials().is_none());
        assert!(!format!("{upstreams:?}").contains("hunter2"));
    }

    #[test]
    fn only_allowed_hosts_give_tokens_or_receive_redirects() {
        let upstreams = upstreams();
        let [docker, _, local] = upstreams.0.as_slice() else {
            unreachable!()
        };
        for (address, may_give_tokens, may_redirect) in [
            ("https://registry-1.docker.io/x", true, true),
            ("https://auth.docker.io/token", true, false),
            ("https://docker.io/token", true, false),
            ("https://tokens.example/t", true, false),
            ("https://cdn.example/blob?signed", false, true),
            ("https://CDN.example./blob", false, true),
            ("https://a.b.blobs.example/", false, true),
            ("https://odd.example:8443/", false, true),
            ("https://odd.example/", false, false),
            ("https://blobs.example/", false, false),
            ("https://evilblobs.example/", false, false),
            ("https://cdn.example.evil.example/", false, false),
            ("https://evildocker.io/token", false, false),
            ("https://cdn.example:444/", false, false),
            ("https://registry-1.docker.io:444/", false, false),
            ("http://cdn.example/", false, false),
            ("http://registry-1.docker.io/", false, false),
            ("https://user:pass@cdn.example/", false, false),
            ("https://127.0.0.1/", false, false),
            ("https://169.254.169.254/latest/meta-data", false, false),
            ("https://[::1]/", false, false),
            ("https://localhost/", false, false),
            ("ftp://cdn.example/", false, false),
            ("//cdn.example/", false, false),
            ("/blob", false, false),
            ("", false, false),
        ] {
            assert_eq!(
                docker.may_give_tokens(address),
                may_give_tokens,
                "tokens at {address}"
            );
            assert_eq!(
                docker.may_redirect(address),
                may_redirect,
                "blobs at {address}"
            );
        }
        assert!(local.may_redirect("http://127.0.0.1:5000/x"));
        assert!(
            !local.may_redirect("http://127.0.0.1:5001/x"),
            "`*` is of usual ports"
        );
        assert!(
            docker.is_own("https://registry-1.docker.io/y")
                && !docker.is_own("https://cdn.example/")
        );
    }

    /// Names are resolved by the platform. Addresses that are not those of a public host are
    /// refused by their text.
    #[test]
    fn invalid_and_private_upstream_addresses_are_refused() {
        for address in [
            "http://registry.example",
            "https://127.0.0.1",
            "https://10.0.0.1:5000",
            "https://[2001:db8::1]",
            "https://localhost",
            "https://registry",
            "https://2130706433",
            "https://0x7f.1",
            "https://127.1",
            "https://a.internal",
            "https://db.local",
            "https://x@registry.example",
            "https://",
            "registry.example",
            "https://registry.example/path",
        ] {
            let text = format!(r#"[{{"name": "a", "address": {address:?}}}]"#);
            let (setting, error) = Upstreams::parse(Some(&text), None).unwrap_err();
            assert_eq!(setting, "STRATA_UPSTREAMS");
            assert!(error.starts_with("upstream \"a\": the address "), "{error}");
        }
    }

    #[test]
    fn invalid_upstreams_are_refused_with_the_reason() {
        for (upstreams, credentials, message) in [
            (
                "{",
                "",
                "invalid type: map, expected a sequence at line 1 column 0",
            ),
            (
                r#"[{"name": "A"}]"#,
                "",
                "upstream \"A\": the name can't be the first component of a repository name",
            ),
            (
                r#"[{"name": "a/b"}]"#,
                "",
                "upstream \"a/b\": the name can't be the first component of a repository name",
            ),
            (
                r#"[{"name": "a.b"}, {"name": "a.b"}]"#,
                "",
                "upstream \"a.b\" is defined twice",
            ),
            (
                r#"[{"name": "a.b"}, {"name": "c.d", "aliases": ["a.b"]}]"#,
                "",
                "upstream \"c.d\" is defined twice",
            ),
            (
                r#"[{"name": "a.b", "default": true}, {"name": "c.d", "default": true}]"#,
                "",
                "upstream \"c.d\" is the second default; only one can be",
            ),
            (
                r#"[{"name": "a.b", "redirects": ["https://cdn.example"]}]"#,
                "",
                "\"https://cdn.example\" is not a host: expected cdn.example, *.example or * at line 1 column 53",
            ),
            (
                r#"[{"name": "a.b", "url": "x"}]"#,
                "",
                "unknown field `url`, expected one of `name`, `aliases`, `address`, `repositories`, `default`, `library`, `auth`, `redirects`, `fresh_seconds`, `immutable`, `most_bytes`, `ranges`, `gone`, `insecure` at line 1 column 22",
            ),
            (
                r#"[{"name": "a.b"}]"#,
                r#"{"c.d": {"user": "u", "password": "hunter2"}}"#,
                "an entry names no upstream of STRATA_UPSTREAMS; expected one of [\"a.b\"]",
            ),
            (
                r#"[{"name": "a.b"}]"#,
                r#"{"a.b": "hunter2"}"#,
                "line 1, column 17: expected {\"<upstream>\": {\"user\": \"…\", \"password\": \"…\"}}",
            ),
        ] {
            let (_, error) = Upstreams::parse(Some(upstreams), Some(credentials)).unwrap_err();
            assert_eq!(error, message);
        }
        assert!(Upstreams::parse(None, None).unwrap().0.is_empty());
    }
}
