//! The audience of tokens, and how many scopes one token request may have.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, Method};
use pollster::block_on;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256, Sha512};
use strata::{
    memory::{MemoryBody, MemoryObjects},
    registry::{Body, Request},
};
use strata_support::{TestHost, TestRegistry, host::key, registry_on};

const HERE: &str = "https://registry.example";

fn users() -> String {
    let salt = STANDARD_NO_PAD.encode([0; 16]);
    let key = STANDARD_NO_PAD.encode(key(b"secret", &[0; 16], 1));
    json!({ "users": { "dev": format!("pbkdf2-sha256$1${salt}${key}") } }).to_string()
}

fn registry(settings: &[(&str, &str)]) -> TestRegistry<MemoryObjects> {
    let users = users();
    let settings = [&[("STRATA_USERS", users.as_str())], settings].concat();
    registry_on(MemoryObjects::default(), TestHost::default(), &settings)
}

/// The answer to a request that reached the registry at an origin.
fn ask(
    registry: &TestRegistry<MemoryObjects>,
    origin: &str,
    line: &str,
    headers: &[(&'static str, &str)],
    body: Option<&str>,
) -> (u16, String, Value) {
    let (method, target) = line.split_once(' ').unwrap();
    let mut all = HeaderMap::new();
    for (name, value) in headers {
        all.insert(*name, value.parse().unwrap());
    }
    let request = Request {
        method: method.parse::<Method>().unwrap(),
        target: target.to_owned(),
        origin: origin.to_owned(),
        address: "192.0.2.1".to_owned(),
        headers: all,
        body: body.map(|text| MemoryBody::Bytes(text.as_bytes().to_vec())),
    };
    let (response, _) = block_on(registry.answer(request));
    let challenge = response.headers().get("www-authenticate");
    let challenge = challenge.map_or("", |value| value.to_str().unwrap());
    let (status, challenge) = (response.status().as_u16(), challenge.to_owned());
    let Body::Bytes(bytes) = response.into_body() else {
        return (status, challenge, Value::Null);
    };
    let body = serde_json::from_slice(&bytes).unwrap();
    (status, challenge, body)
}

fn basic() -> String {
    format!("Basic {}", STANDARD.encode("dev:secret"))
}

fn token(registry: &TestRegistry<MemoryObjects>, origin: &str) -> String {
    let line = "GET /v2/_strata/token?service=strata&scope=repository:app:pull";
    let basic = basic();
    let (status, _, body) = ask(registry, origin, line, &[("authorization", &basic)], None);
    assert_eq!(status, 200, "{body}");
    body["token"].as_str().unwrap().to_owned()
}

/// Status, challenge and message for a request with a token.
fn with(
    registry: &TestRegistry<MemoryObjects>,
    origin: &str,
    token: &str,
) -> (u16, String, String) {
    let bearer = format!("Bearer {token}");
    let line = "GET /v2/app/tags/list";
    let (status, challenge, body) =
        ask(registry, origin, line, &[("authorization", &bearer)], None);
    let message = &body["errors"][0]["message"];
    (
        status,
        challenge,
        message.as_str().unwrap_or_default().to_owned(),
    )
}

fn claims_of(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

/// Two registries with the same secret, such as production and its trial, sign with one key.
#[test]
fn a_token_is_valid_only_at_the_registry_that_issued_it() {
    let registry = registry(&[]);
    let mine = token(&registry, HERE);
    assert_eq!(with(&registry, HERE, &mine).0, 404, "nothing is there yet");
    let other = "https://staging.registry.example";
    let (status, challenge, message) = with(&registry, other, &mine);
    assert_eq!(status, 401);
    assert!(
        message.contains("the token is for another registry; request one from this registry"),
        "{message}"
    );
    assert_eq!(
        challenge,
        "Bearer realm=\"https://staging.registry.example/v2/_strata/token\",service=\"strata\",\
         scope=\"repository:app:pull\",error=\"invalid_token\""
    );
    // The client requests another one at the challenge's address, and continues.
    let theirs = token(&registry, other);
    assert_eq!(with(&registry, other, &theirs).0, 404);
    assert_eq!(with(&registry, HERE, &theirs).0, 401);
    assert_eq!(
        with(&registry, HERE, &mine).0,
        404,
        "what was verified is not forgotten"
    );
}

#[test]
fn the_audience_is_the_host_without_scheme_and_usual_port() {
    let registry = registry(&[]);
    for (origin, audience) in [
        ("https://registry.example", "registry.example"),
        ("https://registry.example:443", "registry.example"),
        ("http://registry.example:80", "registry.example"),
        ("http://registry.example", "registry.example"),
        ("https://REGISTRY.example.", "registry.example"),
        ("https://registry.example:80", "registry.example:80"),
        ("http://registry.example:443", "registry.example:443"),
        ("http://127.0.0.1:8787", "127.0.0.1:8787"),
        ("http://[::1]:8787", "[::1]:8787"),
        ("http://[::1]", "[::1]"),
    ] {
        let token = token(&registry, origin);
        assert_eq!(claims_of(&token)["aud"], audience, "{origin}");
        let expected = if audience == "registry.example" {
            404
        } else {
            401
        };
        assert_eq!(with(&registry, HERE, &token).0, expected, "{origin}");
    }
}

/// Behind a proxy, or with several names: `STRATA_ORIGIN` is the audience, under any name.
#[test]
fn strata_origin_is_the_audience_if_it_is_set() {
    let registry = registry(&[("STRATA_ORIGIN", "https://Registry.example:443/")]);
    let token = token(&registry, "https://strata.account.workers.dev");
    assert_eq!(claims_of(&token)["aud"], "registry.example");
    for origin in [
        HERE,
        "https://strata.account.workers.dev",
        "http://10.0.0.1:8080",
    ] {
        assert_eq!(with(&registry, origin, &token).0, 404, "{origin}");
    }
}

/// Tokens of an older version have no audience: they end, and clients get new ones by the
/// challenge.
#[test]
fn a_token_without_an_audience_is_refused() {
    let registry = registry(&[]);
    let mut claims = claims_of(&token(&registry, HERE));
    let sign = |claims: &Value| {
        let header = r#"{"alg":"HS256","typ":"JWT"}"#;
        let [header, claims] = [header.to_owned(), claims.to_string()];
        let signed = [header, claims]
            .map(|part| URL_SAFE_NO_PAD.encode(part))
            .join(".");
        let key = Sha512::new().chain_update("strata token v1\n");
        let key = key.chain_update(users()).finalize();
        let mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
        let mac = mac.chain_update(&signed).finalize().into_bytes();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac))
    };
    assert_eq!(
        with(&registry, HERE, &sign(&claims)).0,
        404,
        "signed as it is"
    );
    claims.as_object_mut().unwrap().remove("aud");
    let (status, challenge, _) = with(&registry, HERE, &sign(&claims));
    assert_eq!(status, 401);
    assert!(
        challenge.ends_with("error=\"invalid_token\""),
        "{challenge}"
    );
    for aud in [
        json!(""),
        json!("*"),
        json!(["registry.example"]),
        json!(null),
    ] {
        claims["aud"] = aud;
        assert_eq!(with(&registry, HERE, &sign(&claims)).0, 401, "{claims}");
    }
}

/// The service in a token request changes nothing: docker repeats the one in the challenge.
#[test]
fn the_service_of_a_token_request_does_not_change_the_audience() {
    let registry = registry(&[]);
    let basic = basic();
    for service in ["strata", "staging.registry.example", ""] {
        let line = format!("GET /v2/_strata/token?service={service}&scope=repository:app:pull");
        let (status, _, body) = ask(&registry, HERE, &line, &[("authorization", &basic)], None);
        assert_eq!(status, 200);
        let claims = claims_of(body["token"].as_str().unwrap());
        assert_eq!(claims["aud"], "registry.example", "{service}");
    }
}

#[test]
fn a_token_request_has_at_most_a_hundred_scopes() {
    let registry = registry(&[]);
    let basic = basic();
    let scopes = |count: usize| {
        let scopes = (0..count).map(|number| format!("repository:a{number}:pull"));
        scopes.collect::<Vec<_>>()
    };
    let get = |scopes: &[String], separator: &str| {
        let target = format!("/v2/_strata/token?scope={}", scopes.join(separator));
        ask(
            &registry,
            HERE,
            &format!("GET {target}"),
            &[("authorization", &basic)],
            None,
        )
    };
    for separator in ["&scope=", "+"] {
        let (status, _, body) = get(&scopes(100), separator);
        assert_eq!(status, 200);
        assert_eq!(
            claims_of(body["token"].as_str().unwrap())["access"]
                .as_array()
                .unwrap()
                .len(),
            100
        );
        let (status, _, body) = get(&scopes(101), separator);
        let message = body["errors"][0]["message"].as_str().unwrap();
        assert_eq!(status, 400);
        assert!(
            message.contains("the request has 101 scopes; at most 100 are allowed"),
            "{message}"
        );
    }
    let post = |query: usize, form: usize| {
        let target = format!("/v2/_strata/token?scope={}", scopes(query).join("+"));
        let form = format!(
            "grant_type=password&username=dev&password=secret&scope={}",
            scopes(form).join("+")
        );
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        ask(
            &registry,
            HERE,
            &format!("POST {target}"),
            &headers,
            Some(&form),
        )
        .0
    };
    assert_eq!(post(50, 50), 200);
    assert_eq!(post(51, 50), 400);
    assert_eq!(post(0, 3_000), 400);
}
