//! Challenges: how to sign in to an upstream.
//!
//! RFC 9110, section 11.6.1, and distribution's token specification. Upstreams send several
//! challenges in one header or in several, quoted and not, in any order of parameters. Unknown ones
//! are ignored.

use http_auth::{ChallengeRef, parse_challenges};

/// The way to sign in that an upstream names after a 401.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Challenge {
    /// The client requests a token at an address (distribution's token specification).
    Bearer {
        /// The address, with the query that the upstream put into it.
        realm: String,
        /// The name of the upstream's service.
        service: Option<String>,
        /// The scope of the token. `None` for the scope of the request.
        scope: Option<String>,
    },
    /// The client sends user and password (RFC 7617).
    Basic,
}

impl Challenge {
    /// Parses the values of `WWW-Authenticate`, and returns the best challenge: Bearer if there is
    /// one with a realm, else Basic. `None` if there is neither.
    pub fn parse<'a>(values: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let mut found = None;
        for value in values {
            for challenge in parse_challenges(value).unwrap_or_default() {
                if challenge.scheme.eq_ignore_ascii_case("bearer") {
                    let get = |name: &str| parameter(&challenge, name);
                    if let Some(realm) = get("realm") {
                        return Some(Self::Bearer {
                            realm,
                            service: get("service"),
                            scope: get("scope"),
                        });
                    }
                } else if challenge.scheme.eq_ignore_ascii_case("basic") {
                    found = Some(Self::Basic);
                }
            }
        }
        found
    }

    /// The address of a token: the realm with `service=` and `scope=`. The scope of the challenge
    /// takes precedence. `None` for Basic.
    pub fn token_address(&self, scope_of_request: &str) -> Option<String> {
        let Self::Bearer {
            realm,
            service,
            scope,
        } = self
        else {
            return None;
        };
        let mut query = form_urlencoded::Serializer::new(String::new());
        if let Some(service) = service {
            query.append_pair("service", service);
        }
        for scope in scope.as_deref().unwrap_or(scope_of_request).split(' ') {
            query.append_pair("scope", scope);
        }
        let separator = if realm.contains('?') { '&' } else { '?' };
        Some(format!("{realm}{separator}{}", query.finish()))
    }
}

fn parameter(challenge: &ChallengeRef<'_>, name: &str) -> Option<String> {
    let mut params = challenge.params.iter();
    let (_, value) = params.find(|(key, _)| key.eq_ignore_ascii_case(name))?;
    Some(value.to_unescaped()).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
        })
    }

    /// Challenges as registries send them.
    #[test]
    fn challenges_of_registries_are_parsed() {
        for (values, expected) in [
            (
                &[
                    r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/alpine:pull""#,
                ][..],
                bearer(
                    "https://auth.docker.io/token",
                    Some("registry.docker.io"),
                    Some("repository:library/alpine:pull"),
                ),
            ),
            (
                &[
                    r#"Bearer realm="https://ghcr.io/token",service="ghcr.io",scope="repository:user/image:pull""#,
                ],
                bearer(
                    "https://ghcr.io/token",
                    Some("ghcr.io"),
                    Some("repository:user/image:pull"),
                ),
            ),
            (
                &[
                    r#"Bearer realm="https://quay.io/v2/auth",service="quay.io",scope="repository:a/b:pull",error="invalid_token""#,
                ],
                bearer(
                    "https://quay.io/v2/auth",
                    Some("quay.io"),
                    Some("repository:a/b:pull"),
                ),
            ),
            // Several scopes in one, with a comma inside of quotes.
            (
                &[
                    r#"Bearer service="s", scope="repository:a:pull,push registry:catalog:*", realm="https://a/t?x=1""#,
                ],
                bearer(
                    "https://a/t?x=1",
                    Some("s"),
                    Some("repository:a:pull,push registry:catalog:*"),
                ),
            ),
            // Without quotes, in capitals, with spaces.
            (
                &["BEARER Realm=https, service = s"],
                bearer("https", Some("s"), None),
            ),
            // Escaped quotes.
            (
                &[r#"Bearer realm="https://a/\"t\"""#],
                bearer("https://a/\"t\"", None, None),
            ),
            // Several in one header, and in several.
            (
                &[r#"Basic realm="x", Bearer realm="https://a/t",service="s""#],
                bearer("https://a/t", Some("s"), None),
            ),
            (
                &[r#"Bearer realm="https://a/t",service="s", Basic realm="x""#],
                bearer("https://a/t", Some("s"), None),
            ),
            (
                &[r#"Basic realm="x""#, r#"Bearer realm="https://a/t""#],
                bearer("https://a/t", None, None),
            ),
            (&[r#"Basic realm="Registry Realm""#], Some(Challenge::Basic)),
            (&["Negotiate, Basic realm=\"x\""], Some(Challenge::Basic)),
            // A token without an address to request it at is no way to sign in.
            (&[r#"Bearer service="s""#], None),
            (&[r#"Bearer realm="""#], None),
            (&["Negotiate"], None),
            (&["\"", ""], None),
            (&[], None),
        ] {
            assert_eq!(
                Challenge::parse(values.iter().copied()),
                expected,
                "{values:?}"
            );
        }
    }

    #[test]
    fn a_challenge_leads_to_the_address_of_a_token() {
        let address = |value: &str| {
            Challenge::parse([value]).and_then(|found| found.token_address("repository:a/b:pull"))
        };
        assert_eq!(
            address(r#"Bearer realm="https://a/t",service="a b",scope="repository:a:pull,push registry:catalog:*""#).as_deref(),
            Some("https://a/t?service=a+b&scope=repository%3Aa%3Apull%2Cpush&scope=registry%3Acatalog%3A*")
        );
        assert_eq!(
            address(r#"Bearer realm="https://a/t?x=1""#).as_deref(),
            Some("https://a/t?x=1&scope=repository%3Aa%2Fb%3Apull")
        );
        assert_eq!(address("Basic realm=\"x\""), None);
    }
}
