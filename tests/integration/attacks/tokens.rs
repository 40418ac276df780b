//! Attacks with tokens: widened, forged, expired, or used as a password.

use super::*;

#[test]
fn a_token_gives_only_the_actions_that_it_names() {
    let fixture = Fixture::new();
    let blob = digest(&layer(PRIVATE));
    let manifest = manifest_digest(PRIVATE);
    let pull = fixture.token("alice", &["repository:private/app:pull"]);
    assert_eq!(
        fixture.status(&with(&pull, "GET /v2/private/app/manifests/v1")),
        200
    );
    let other = fixture.token("alice", &["repository:private/other:pull,push,delete"]);
    let mallory = fixture.token("mallory", &["repository:mallory/app:*"]);
    for (token, line) in [
        (&pull, "POST /v2/private/app/blobs/uploads/".to_owned()),
        (&pull, "PUT /v2/private/app/manifests/v1".to_owned()),
        (&pull, "DELETE /v2/private/app/manifests/v1".to_owned()),
        (
            &pull,
            format!("DELETE /v2/private/app/manifests/{manifest}"),
        ),
        (&pull, format!("DELETE /v2/private/app/blobs/{blob}")),
        (&pull, "GET /v2/private/other/tags/list".to_owned()),
        (&pull, "GET /v2/_catalog".to_owned()),
        (&other, "GET /v2/private/app/manifests/v1".to_owned()),
        (&other, format!("GET /v2/private/app/blobs/{blob}")),
        (&other, "POST /v2/private/app/blobs/uploads/".to_owned()),
        (&mallory, "GET /v2/mallory/app/x/tags/list".to_owned()),
    ] {
        let answer = fixture.ask(&with(token, &line).manifest(OCI_MANIFEST, &image(PUBLIC)));
        assert_eq!(answer.status, 401, "{line}");
        let challenge = answer.header("www-authenticate").unwrap();
        assert!(
            challenge.ends_with("error=\"insufficient_scope\""),
            "{line}"
        );
        fixture.is_untouched(&line);
    }
    // Actions that the rules do not give are not gained by a token that claims them.
    let key = key_of(&users().to_string());
    let everything = json!({ "sub": "mallory", "aud": "registry.example", "iat": 0, "exp": 2_000_000_000_u64, "jti": "0", "access": [
        { "type": "repository", "name": "private/app", "actions": ["pull", "push", "overwrite", "delete"] },
        { "type": "registry", "name": "catalog", "actions": ["*"] },
    ] });
    let greedy = forge(HEADER, &everything, &key);
    for line in [
        "GET /v2/private/app/manifests/v1",
        "DELETE /v2/private/app/manifests/v1",
    ] {
        assert_eq!(fixture.status(&with(&greedy, line)), 403, "{line}");
        fixture.is_untouched(line);
    }
    let listed = fixture.ask(&with(&greedy, "GET /v2/_catalog"));
    assert_eq!(json_of(&listed)["repositories"], json!(["public/app"]));
}

#[test]
fn tokens_expire() {
    let fixture = Fixture::new();
    let pull = "GET /v2/private/app/manifests/v1";
    let token = fixture.token("alice", &["repository:private/app:pull"]);
    fixture
        .host
        .pass(Access::TOKEN_LIFETIME - Duration::from_secs(1));
    assert_eq!(fixture.status(&with(&token, pull)), 200);
    fixture.host.pass(Duration::from_secs(1));
    let answer = fixture.ask(&with(&token, pull));
    assert_eq!(answer.status, 401);
    assert!(String::from_utf8_lossy(&answer.body).contains("the token has expired"));
    let challenge = answer.header("www-authenticate").unwrap();
    assert!(
        challenge.ends_with("error=\"invalid_token\""),
        "{challenge}"
    );
    fixture.is_untouched("an expired token");
}

#[test]
fn forged_tokens_are_refused() {
    let fixture = Fixture::new();
    let genuine = fixture.token("mallory", &["repository:mallory/app:pull"]);
    let claims = claims_of(&genuine);
    let [header, payload, signature] = genuine.split('.').collect::<Vec<_>>()[..] else {
        panic!("{genuine}")
    };
    let with_claim = |name: &str, value: Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        claims
    };
    let private = json!([{ "type": "repository", "name": "private/app", "actions": ["pull"] }]);
    let alice = with_claim("sub", "alice".into());
    let mut alices = alice.clone();
    alices["access"] = private.clone();
    let mut forged = Vec::new();
    for claims in [
        with_claim("access", private),
        with_claim("exp", 9_000_000_000_u64.into()),
        alice,
        alices.clone(),
    ] {
        let payload = URL_SAFE_NO_PAD.encode(claims.to_string());
        forged.push(format!("{header}.{payload}.{signature}"));
    }
    for other in [
        r#"{"alg":"none"}"#,
        r#"{"alg":"none","typ":"JWT"}"#,
        r#"{"alg":"NONE","typ":"JWT"}"#,
        r#"{"alg":"HS512","typ":"JWT"}"#,
        r#"{"alg":"RS256","typ":"JWT"}"#,
        r#"{"alg":"ES256","typ":"JWT","jwk":{}}"#,
        r#"{"typ":"JWT","alg":"HS256"}"#,
    ] {
        let encoded = URL_SAFE_NO_PAD.encode(other);
        let unsigned = URL_SAFE_NO_PAD.encode(alices.to_string());
        forged.push(format!("{encoded}.{unsigned}."));
        forged.push(format!("{encoded}.{unsigned}"));
        forged.push(format!("{encoded}.{payload}.{signature}"));
        // Even with the right key: the header cannot choose the algorithm.
        forged.push(forge(other, &alices, &key_of(&users().to_string())));
    }
    let (word, others) = (word("mallory"), json!({ "users": {} }).to_string());
    let public = [
        String::new(),
        "strata".to_owned(),
        "secret".to_owned(),
        "strata token v1\n".to_owned(),
        "http://registry.example".to_owned(),
        "http://registry.example/v2/_strata/token".to_owned(),
        "mallory".to_owned(),
        word,
        HEADER.to_owned(),
        others,
        rules().to_string(),
        json!({ "users": { "mallory": users()["users"]["mallory"] } }).to_string(),
    ];
    for secret in &public {
        forged.push(forge(HEADER, &alices, secret.as_bytes()));
        forged.push(forge(HEADER, &alices, &key_of(secret)));
    }
    forged.extend([
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        format!("{header}.{payload}."),
        format!("{header}.{payload}"),
        format!("{genuine}."),
        format!("{genuine}="),
        format!("{header}..{signature}"),
        signature.to_owned(),
        genuine[..genuine.len() - 1].to_owned(),
    ]);
    for token in &forged {
        for line in [
            "GET /v2/private/app/manifests/v1",
            "GET /v2/public/app/manifests/v1",
        ] {
            let answer = fixture.ask(&with(token, line));
            assert_eq!(answer.status, 401, "{token}");
            assert!(
                String::from_utf8_lossy(&answer.body)
                    .contains("the token was not issued by this registry"),
                "{token}"
            );
            fixture.is_untouched(token);
        }
    }
    // The one thing that an outsider does not have: with the key, the same claims are valid.
    let token = forge(HEADER, &alices, &key_of(&users().to_string()));
    let pull = "GET /v2/private/app/manifests/v1";
    assert_eq!(fixture.status(&with(&token, pull)), 200);
}

#[test]
fn tokens_do_not_outlive_their_user_or_the_rules() {
    let fixture = Fixture::new();
    let pull = "GET /v2/private/app/manifests/v1";
    let token = fixture.token("alice", &["repository:private/app:*"]);
    let without = |user: &str| {
        let mut users = users();
        users["users"].as_object_mut().unwrap().remove(user);
        users.to_string()
    };
    for users in [
        without("alice"),
        without("mallory"),
        format!("{} ", users()),
    ] {
        let later = fixture.reopened(&[("STRATA_USERS", &users)]);
        let answer = later.ask(&with(&token, pull));
        assert_eq!(answer.status, 401, "another secret ends all tokens");
        later.is_untouched(&users);
        // With the new secret, the claims are valid only if the user still exists.
        let signed = forge(HEADER, &claims_of(&token), &key_of(&users));
        let expected = if users.contains("\"alice\"") {
            200
        } else {
            401
        };
        assert_eq!(later.status(&with(&signed, pull)), expected, "{users}");
    }
    // The same users, other rules: the claims of a token were never more than a part of the rules.
    let later = fixture.reopened(&[("STRATA_RULES", "[]"), ("STRATA_ANONYMOUS_PULL", "true")]);
    assert_eq!(later.status(&with(&token, pull)), 200);
    let push = "POST /v2/private/app/blobs/uploads/";
    assert_eq!(later.status(&with(&token, push)), 403);
    later.is_untouched(push);
    let nothing = r#"[{"repositories":["x"],"who":["users"],"may":["pull"]}]"#;
    let later = fixture.reopened(&[("STRATA_RULES", nothing)]);
    assert_eq!(later.status(&with(&token, pull)), 403);
    later.is_untouched(pull);
}

#[test]
fn a_token_is_not_accepted_as_a_password() {
    let fixture = Fixture::new();
    let token = fixture.token("root", &["repository:private/app:*", "registry:catalog:*"]);
    let target = token_target(&["repository:private/app:*"]);
    for line in [
        format!("GET {target}"),
        format!("HEAD {target}"),
        "GET /metrics".to_owned(),
    ] {
        let answer = fixture.ask(&with(&token, &line));
        assert_eq!(answer.status, 401, "{line}");
        let challenge = answer.header("www-authenticate").unwrap();
        assert!(challenge.starts_with("Basic "), "{line}: {challenge}");
    }
    let form = |fields: &str| {
        with(&token, "POST /v2/_strata/token")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(fields)
    };
    assert_eq!(fixture.status(&form("grant_type=refresh_token")), 400);
    let refresh = format!("grant_type=refresh_token&refresh_token={token}");
    assert_eq!(fixture.status(&form(&refresh)), 400);
    let password = format!("grant_type=password&username=root&password={token}");
    assert_eq!(fixture.status(&form(&password)), 401);
    let as_basic = Ask::new("GET /v2/private/app/tags/list")
        .anonymous()
        .header("authorization", basic("root", &token));
    assert_eq!(fixture.status(&as_basic), 401);
    fixture.is_untouched("a token as a password");
    // The password itself is accepted at all of them.
    assert_eq!(fixture.status(&by("root", "GET /metrics")), 200);
}

/// Everything for which a caller may request a token, and the part that the rules leave.
#[test]
fn tokens_claim_no_more_than_the_rules_give() {
    let asked = [
        "*",
        "**",
        "repository:*:*",
        "repository:**:pull",
        "repository:private/app:*",
        "repository:private/app:pull,push,overwrite,delete,administer,metrics",
        "repository:private/app:pull",
        "repository(plugin):private/app:pull",
        "repository:private/../private/app:pull",
        "repository:public/app:*",
        "repository:public/app:pull,administer",
        "repository:mallory/app:*",
        "repository:mallory/app:overwrite",
        "repository:mallory/app:push",
        "repository:drop/app:pull,push,delete",
        "registry:catalog:*",
        "registry:strata:*",
        "registry:strata:administer,metrics",
        "registry:metrics:*",
        "administer",
        "metrics",
    ];
    let repository = |name: &str, actions: &[&str]| json!({ "type": "repository", "name": name, "actions": actions });
    let catalog = json!({ "type": "registry", "name": "catalog", "actions": ["*"] });
    let public = repository("public/app", &["pull"]);
    for (user, expected) in [
        ("", json!([public, catalog])),
        ("carol", json!([public, catalog])),
        (
            "mallory",
            json!([
                public,
                repository("mallory/app", &["pull", "push", "delete"]),
                repository("mallory/app", &["push"]),
                repository("drop/app", &["push"]),
                catalog,
            ]),
        ),
    ] {
        let fixture = Fixture::new();
        let together = asked.join(" ");
        let mut ways = vec![
            by(user, &format!("GET {}", token_target(&asked))),
            by(user, &format!("GET {}", token_target(&[&together]))),
        ];
        if !user.is_empty() {
            // In the form, in its query, and in both.
            let form = format!(
                "grant_type=password&username={user}&password={}",
                word(user)
            );
            let post = |target: &str, form: &str| {
                by("", &format!("POST {target}"))
                    .header("content-type", "application/x-www-form-urlencoded")
                    .body(form)
            };
            let scopes = format!("{form}&scope={}", escaped(&together));
            ways.push(post("/v2/_strata/token", &scopes));
            ways.push(post(&token_target(&asked), &form));
            ways.push(post(&token_target(&asked), &scopes));
        }
        for way in ways {
            let answer = fixture.ask(&way);
            assert_eq!(answer.status, 200, "{user} {}", way.target);
            assert_eq!(answer.header("cache-control"), Some("no-store"));
            fixture.is_untouched(user);
            let token = token_of(&answer);
            let claims = claims_of(&token);
            assert_eq!(claims["sub"], user);
            assert_eq!(claims["access"], expected, "{user} {}", way.target);
            for line in [
                "GET /v2/private/app/manifests/v1",
                "POST /v2/private/app/blobs/uploads/",
                "DELETE /v2/private/app/manifests/v1",
                "POST /v2/public/app/blobs/uploads/",
                "DELETE /v2/public/app/manifests/v1",
                "GET /v2/public/app/manifests/v1",
                "GET /v2/mallory/app/tags/list",
                "POST /v2/mallory/app/blobs/uploads/",
                "DELETE /v2/mallory/app/manifests/v1",
                "GET /v2/drop/app/tags/list",
                "POST /v2/drop/app/blobs/uploads/",
                "DELETE /v2/drop/app/manifests/v1",
                "GET /v2/_catalog",
            ] {
                let plain = fixture.ask(&by(user, line));
                let carried = fixture.ask(&with(&token, line));
                assert_eq!(carried.status, plain.status, "{user} {line}");
                if line == "GET /v2/_catalog" {
                    assert_eq!(carried.body, plain.body);
                    assert!(!String::from_utf8_lossy(&carried.body).contains("private"));
                }
            }
            let metrics = fixture.status(&with(&token, "GET /metrics"));
            assert_eq!(metrics, if user.is_empty() { 401 } else { 403 });
        }
    }
}
