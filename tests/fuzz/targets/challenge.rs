//! An upstream's challenges and redirects: parsed by RFC 9110; credentials go to allowed hosts.

use http::Uri;
use strata::upstream::{Upstreams, challenge::Challenge};

use crate::input::Input;

pub(crate) const WORDS: &[&[u8]] = &[
    b"Bearer ",
    b"Basic ",
    b"realm=\"",
    b"service=\"",
    b"scope=\"",
    b"https://",
    b"http://",
    b"docker.io",
    b".docker.io",
    b"@",
    b"\\\"",
    b":443",
    b"%2e",
];

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    [
        "\x00Bearer realm=\"https://auth.docker.io/token\",service=\"registry.docker.io\",scope=\"repository:library/alpine:pull\"",
        "\x00Basic realm=\"x\", Bearer realm=https,service = s\nNegotiate abc==",
        "\x01https://auth.docker.io/token\nregistry\nrepository:a:pull,push",
        "\x02https://auth.docker.io/token?x=1",
        "\x02https://docker.io.attacker.dev/",
        "\x02https://user@registry-1.docker.io:443/v2/",
        "\x02http://127.0.0.1:5000/",
        "\x02https://attackerdocker.io/token",
        "\x02https://attackerblobs.example/",
        "\x01https://a/\"t\"\na\\b\n\\\"",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect()
}

pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    let mode = input.below(3);
    let text = input.text();
    match mode {
        0 => {
            if let Some(challenge) = Challenge::parse(text.split('\n')) {
                check(&challenge);
            }
        }
        1 => quoted(&text),
        _ => address(&text),
    }
}

fn check(challenge: &Challenge) {
    let address = challenge.token_address("repository:a:pull");
    if let Challenge::Bearer { realm, .. } = challenge {
        assert!(!realm.is_empty());
        let address = address.expect("a bearer has an address");
        let query = address.strip_prefix(realm.as_str()).expect("the address begins with the realm");
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"?&=+%*-._".contains(&byte);
        assert!(query.bytes().all(is_plain), "the rest of {address} is encoded");
    } else {
        assert_eq!(address, None);
    }
}

/// A challenge that is written by RFC 9110 is parsed back to the same values.
fn quoted(text: &str) {
    let is_text = |c: &char| matches!(c, ' '..='~');
    let mut fields = text.split('\n').map(|field| field.chars().filter(is_text).collect::<String>());
    let [realm, service, scope] = std::array::from_fn(|_| fields.next().unwrap_or_default());
    let quote = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"");
    let header = format!(
        "Bearer realm=\"{}\",service=\"{}\",scope=\"{}\"",
        quote(&realm),
        quote(&service),
        quote(&scope)
    );
    let some = |value: String| Some(value).filter(|value| !value.is_empty());
    let expected = (!realm.is_empty()).then(|| Challenge::Bearer {
        realm,
        service: some(service),
        scope: some(scope),
    });
    assert_eq!(Challenge::parse([header.as_str()]), expected, "{header}");
}

/// Credentials and requests go only to hosts of the upstream, as the crate `http` parses addresses.
fn address(text: &str) {
    let upstreams = r#"[{"name": "docker.io", "address": "https://registry-1.docker.io", "default": true,
        "redirects": ["cdn.example", "*.blobs.example"], "auth": ["tokens.example"]}]"#;
    let upstreams = Upstreams::parse(Some(upstreams), None).unwrap();
    let found = upstreams.resolve(&"a".parse().unwrap(), None).unwrap().unwrap();
    let upstream = found.upstream;
    let uri: Option<Uri> = text.parse().ok();
    let of_https = uri.as_ref().is_some_and(|uri| {
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        uri.scheme_str() == Some("https") && !authority.contains('@')
    });
    // A host with a final dot is the same host.
    let host = uri.as_ref().and_then(Uri::host).unwrap_or_default();
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let own = host == "registry-1.docker.io";
    let below = |name: &str| host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'));
    if upstream.is_own(text) {
        assert!(of_https && own, "{text} is no address of the upstream");
    }
    if upstream.may_give_tokens(text) {
        let is_right = own || host == "docker.io" || below("docker.io") || host == "tokens.example";
        assert!(of_https && is_right, "{text} may give no tokens");
    }
    if upstream.may_redirect(text) {
        let is_right = own || host == "cdn.example" || below("blobs.example");
        assert!(of_https && is_right, "{text} may give no blobs");
    }
}
