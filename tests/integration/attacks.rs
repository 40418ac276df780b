//! What somebody tries who wants more than the rules give: each defence met by the attack that it is there for.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    rc::Rc,
    task::{Context, Waker},
    time::Duration,
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use futures_util::{FutureExt as _, future::join};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, Method};
use pollster::block_on;
use proptest::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256, Sha512};
use strata::{
    access::Access,
    digest::Digest,
    manifest::OCI_MANIFEST,
    registry::Request,
    store::{Content, ListOptions, Objects as _, PutOptions, memory::Memory},
};
use strata_support::{
    Answer, Ask, CONFIG, TestHost, TestRegistry, ask, ask_now, descriptor, digest,
    host::key as derived,
    key,
    layers::Tar,
    registry_with, settings_of,
    watched::{Verdict, Watched, WatchedValues},
};

/// What nobody but alice and root may ever see, and what everybody may.
const PRIVATE: &str = "the private bytes";
const PUBLIC: &str = "the public bytes";

const ROBOT: &str = "strata_0123456789abcdefghijABCDEFGHIJ0123456789";

/// Alice has what is private. Mallory has a corner of her own, and may push to `drop` and not look. Carol may do nothing.
fn rules() -> Value {
    json!([
        { "repositories": ["**"], "who": ["user:root"],
          "may": ["pull", "push", "overwrite", "delete", "administer", "metrics"] },
        { "repositories": ["private/**"], "who": ["user:alice"], "may": ["pull", "push", "overwrite", "delete"] },
        { "repositories": ["mallory/**"], "who": ["user:mallory"], "may": ["pull", "push", "delete"] },
        { "repositories": ["drop/**"], "who": ["user:mallory", "user:ci"], "may": ["push"] },
        { "repositories": ["public/**"], "who": ["everyone"], "may": ["pull"] },
    ])
}

fn users() -> Value {
    let mut users: serde_json::Map<String, Value> = ["root", "alice", "mallory", "carol"]
        .into_iter()
        .map(|user| {
            let key = derived(word(user).as_bytes(), &[7; 16], 1);
            let (salt, key) = (STANDARD_NO_PAD.encode([7; 16]), STANDARD_NO_PAD.encode(key));
            (
                user.to_owned(),
                format!("pbkdf2-sha256$1${salt}${key}").into(),
            )
        })
        .collect();
    let key = Sha256::new().chain_update([7; 16]).chain_update(ROBOT);
    let (salt, key) = (
        STANDARD_NO_PAD.encode([7; 16]),
        STANDARD_NO_PAD.encode(key.finalize()),
    );
    users.insert("ci".to_owned(), format!("token-sha256${salt}${key}").into());
    json!({ "users": users })
}

/// A user's password, which has a sign by which it is found wherever it shows up.
fn word(user: &str) -> String {
    format!("Hunter2-{user}")
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// A request of a user; of nobody where the name is empty.
fn by(user: &str, line: &str) -> Ask {
    let request = Ask::new(line).anonymous();
    match user {
        "" => request,
        "ci" => request.header("authorization", basic("ci", ROBOT)),
        user => request.header("authorization", basic(user, &word(user))),
    }
}

/// A request with a token.
fn with(token: &str, line: &str) -> Ask {
    let request = Ask::new(line).anonymous();
    request.header("authorization", format!("Bearer {token}"))
}

/// A registry with something private and something public, which writes down what its stores are asked.
struct Fixture {
    registry: TestRegistry<Watched, WatchedValues>,
    store: Watched,
    host: TestHost,
    operations: Rc<RefCell<Vec<String>>>,
}

impl Fixture {
    fn new() -> Self {
        Self::set(&[])
    }

    /// With these settings beside users and rules.
    fn set(settings: &[(&str, &str)]) -> Self {
        let operations = Rc::<RefCell<Vec<String>>>::default();
        let written = operations.clone();
        let store = Watched::new(Memory::default(), move |operation, key| {
            written.borrow_mut().push(format!("{operation} {key}"));
            Verdict::Done
        });
        let fixture = Self::over(store, operations, settings);
        for (name, text) in [("private/app", PRIVATE), ("public/app", PUBLIC)] {
            fixture.push_image(name, "v1", text);
        }
        fixture.forget();
        fixture
    }

    fn over(
        store: Watched,
        operations: Rc<RefCell<Vec<String>>>,
        settings: &[(&str, &str)],
    ) -> Self {
        let (users, rules) = (users().to_string(), rules().to_string());
        let of_ours = [("STRATA_USERS", &*users), ("STRATA_RULES", &*rules)];
        let settings: Vec<_> = settings.iter().copied().chain(of_ours).collect();
        let host = TestHost::default();
        let written = operations.clone();
        let warm = WatchedValues::new(move |operation, key| {
            written.borrow_mut().push(format!("warm {operation} {key}"));
            Verdict::Done
        });
        Self {
            registry: registry_with(store.clone(), warm, host.clone(), &settings),
            store,
            host,
            operations,
        }
    }

    /// Another registry over what this one stores, with other settings.
    fn reopened(&self, settings: &[(&str, &str)]) -> Self {
        Self::over(self.store.clone(), self.operations.clone(), settings)
    }

    /// Answers a request; `operations` are those that it took.
    fn ask(&self, request: &Ask) -> Answer {
        self.operations.borrow_mut().clear();
        ask(&self.registry, request)
    }

    fn status(&self, request: &Ask) -> u16 {
        self.ask(request).status
    }

    /// Forgets what was done and said so far.
    fn forget(&self) {
        self.operations.borrow_mut().clear();
        self.host.log.borrow_mut().clear();
        self.host.told.borrow_mut().clear();
    }

    fn push_blob(&self, name: &str, bytes: &[u8]) {
        let line = format!("POST /v2/{name}/blobs/uploads/?digest={}", digest(bytes));
        assert_eq!(self.status(&by("root", &line).body(bytes)), 201);
    }

    fn push_image(&self, name: &str, tag: &str, text: &str) {
        self.push_blob(name, CONFIG);
        self.push_blob(name, &layer(text));
        let push = by("root", &format!("PUT /v2/{name}/manifests/{tag}"));
        assert_eq!(self.status(&push.manifest(OCI_MANIFEST, &image(text))), 201);
    }

    /// Asks for a token, and expects one.
    fn token(&self, user: &str, scopes: &[&str]) -> String {
        let answer = self.ask(&by(user, &format!("GET {}", token_target(scopes))));
        assert_eq!(answer.status, 200);
        token_of(&answer)
    }

    /// Every key of the cold store that begins so.
    fn keys(&self, prefix: &str) -> BTreeSet<String> {
        let options = ListOptions {
            limit: 1_000,
            ..ListOptions::default()
        };
        let page = block_on(self.store.memory.list(prefix, options)).unwrap();
        assert!(!page.truncated);
        page.objects.into_iter().map(|(key, _)| key).collect()
    }

    /// The lines of the audit.
    fn audit(&self) -> Vec<String> {
        let told = self.host.told.borrow();
        let lines = told.iter().filter(|line| line.starts_with("audit "));
        lines.cloned().collect()
    }

    #[track_caller]
    fn is_untouched(&self, about: &str) {
        let operations = self.operations.borrow();
        assert!(operations.is_empty(), "{about}: {operations:?}");
    }
}

/// A layer with a file of this text, and an image of it.
fn layer(text: &str) -> Vec<u8> {
    Tar::default().file("file.txt", text).end()
}

fn image(text: &str) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", CONFIG),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer(text))],
    })
}

fn manifest_digest(text: &str) -> Digest {
    digest(image(text).to_string().as_bytes())
}

fn escaped(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

fn token_target(scopes: &[&str]) -> String {
    let scopes: String = scopes
        .iter()
        .map(|scope| format!("&scope={}", escaped(scope)))
        .collect();
    format!("/v2/_strata/token?service=strata{scopes}")
}

fn json_of(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap()
}

fn token_of(answer: &Answer) -> String {
    let body = json_of(answer);
    assert_eq!(body["token"], body["access_token"]);
    body["token"].as_str().unwrap().to_owned()
}

/// What a token says.
fn claims_of(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

/// A token with this header and these claims, signed with a key.
fn forge(header: &str, claims: &Value, key: &[u8]) -> String {
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(claims.to_string())
    );
    let mac = Hmac::<Sha256>::new_from_slice(key)
        .unwrap()
        .chain_update(&signed);
    let signature = URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
    format!("{signed}.{signature}")
}

const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

/// The key that a registry with this secret signs tokens with.
fn key_of(secret: &str) -> Vec<u8> {
    let key = Sha512::new().chain_update("strata token v1\n");
    key.chain_update(secret).finalize().to_vec()
}

/// Status, headers and body of an answer without what is another one each time and what the client itself had named.
fn said(answer: &Answer, named: &[&str]) -> (u16, Vec<(String, String)>, String) {
    let blank = |text: &str| {
        let blank = |text: String, name: &&str| text.replace(name, "NAMED");
        named.iter().fold(text.to_owned(), blank)
    };
    let headers = answer
        .headers
        .iter()
        .filter(|(name, _)| *name != "x-request-id")
        .map(|(name, value)| (name.to_string(), blank(value.to_str().unwrap())))
        .collect();
    (
        answer.status,
        headers,
        blank(&String::from_utf8_lossy(&answer.body)),
    )
}

/// How requests are signed.
type Sign<'a> = &'a dyn Fn(&str) -> Ask;

mod tokens {
    use super::*;

    #[test]
    fn are_for_what_they_name_and_no_more() {
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
        // Of what the rules do not give, no token that says so makes more.
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
    fn end() {
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
    fn are_ours_only() {
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
            // Even with the right key: a header is never one to choose.
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
                        .contains("the token is not one of this registry"),
                    "{token}"
                );
                fixture.is_untouched(token);
            }
        }
        // The one thing that an outsider does not have: with it, the same claims are good.
        let token = forge(HEADER, &alices, &key_of(&users().to_string()));
        let pull = "GET /v2/private/app/manifests/v1";
        assert_eq!(fixture.status(&with(&token, pull)), 200);
    }

    #[test]
    fn do_not_outlive_their_user_or_the_rules() {
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
            // Were it still read, it would be of nobody.
            let signed = forge(HEADER, &claims_of(&token), &key_of(&users));
            let expected = if users.contains("\"alice\"") {
                200
            } else {
                401
            };
            assert_eq!(later.status(&with(&signed, pull)), expected, "{users}");
        }
        // The same users, other rules: what a token says was never more than a part of what they give.
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
    fn are_no_password() {
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
        // The password itself is taken at all of them.
        assert_eq!(fixture.status(&by("root", "GET /metrics")), 200);
    }

    /// Everything that somebody may ask a token for, and what the rules leave of it.
    #[test]
    fn say_no_more_than_the_rules_give() {
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
                // In the form, in the query of it, and in both.
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
}

mod mounting {
    use super::*;

    fn mount(of: &Digest, from: Option<&str>) -> String {
        let from = from.map(|from| format!("&from={from}")).unwrap_or_default();
        format!("POST /v2/mallory/app/blobs/uploads/?mount={of}{from}")
    }

    /// What an answer says besides the upload's id.
    fn told(answer: &Answer, of: &Digest) -> (u16, Vec<(String, String)>, String) {
        let id = answer
            .header("docker-upload-uuid")
            .unwrap_or("-")
            .to_owned();
        said(answer, &[&id, &of.to_string()])
    }

    #[test]
    fn takes_nothing_from_where_one_may_not_pull() {
        let fixture = Fixture::new();
        let (private, nothing) = (digest(&layer(PRIVATE)), digest(b"nowhere"));
        let public = digest(&layer(PUBLIC));
        let wide = "repository:mallory/app:pull,push";
        let narrow = fixture.token("mallory", &[wide]);
        let asked = fixture.token("mallory", &[wide, "repository:private/app:pull"]);
        let alices = fixture.token("alice", &["repository:mallory/app:pull,push"]);
        for from in [
            Some("private/app"),
            Some("private/nop"),
            Some("mallory/app"),
            None,
        ] {
            for (who, sign) in [
                ("basic", &(|line: &str| by("mallory", line)) as Sign<'_>),
                ("narrow", &|line: &str| with(&narrow, line)),
                ("asked", &|line: &str| with(&asked, line)),
            ] {
                let about = format!("{who} {from:?}");
                let answer = fixture.ask(&sign(&mount(&private, from)));
                let operations = fixture.operations.borrow().len();
                assert_eq!(answer.status, 202, "{about}");
                assert_eq!(
                    fixture.keys(&format!("refs/sha256/{}/mallory/", private.encoded())),
                    BTreeSet::new(),
                    "{about}"
                );
                let absent = fixture.ask(&sign(&mount(&nothing, from)));
                assert_eq!(told(&answer, &private), told(&absent, &nothing), "{about}");
                assert_eq!(
                    operations,
                    fixture.operations.borrow().len(),
                    "{about}: nothing more is looked at"
                );
                let read = format!("GET /v2/mallory/app/blobs/{private}");
                assert_eq!(fixture.status(&by("mallory", &read)), 404, "{about}");
            }
        }
        // Who may pull but not push gets no further.
        assert_eq!(
            fixture.status(&with(&alices, &mount(&private, Some("private/app")))),
            403
        );
        // A token without the source is one for nothing there, whoever has it.
        for from in [Some("public/app"), None] {
            let answer = fixture.ask(&with(&narrow, &mount(&public, from)));
            assert_eq!(answer.status, 202, "{from:?}");
            assert_eq!(
                fixture.keys(&format!("refs/sha256/{}/mallory/", public.encoded())),
                BTreeSet::new()
            );
        }
    }

    #[test]
    fn takes_what_one_may_pull() {
        for from in [Some("public/app"), None] {
            let fixture = Fixture::new();
            let public = digest(&layer(PUBLIC));
            let both = fixture.token(
                "mallory",
                &[
                    "repository:mallory/app:pull,push",
                    "repository:public/app:pull",
                ],
            );
            for request in [
                by("mallory", &mount(&public, from)),
                with(&both, &mount(&public, from)),
            ] {
                let answer = fixture.ask(&request);
                assert_eq!(answer.status, 201, "{from:?}");
                assert_eq!(
                    answer.header("docker-content-digest"),
                    Some(&*public.to_string())
                );
            }
            let read = format!("GET /v2/mallory/app/blobs/{public}");
            assert_eq!(fixture.ask(&by("mallory", &read)).body, layer(PUBLIC));
        }
    }
}

mod guessing {
    use super::*;

    /// Who knows a digest of another repository learns nothing by it in one of their own.
    #[test]
    fn digests_gives_what_guessing_none_gives() {
        let (blob, manifest) = (digest(&layer(PRIVATE)), manifest_digest(PRIVATE));
        let nothing = digest(b"nowhere");
        let compare = |line: &str, existing: &Digest, change: &dyn Fn(Ask) -> Ask, counts: bool| {
            let of = |known: &Digest| {
                // Each of its own: the second would know what the first has found.
                let fixture = Fixture::new();
                fixture.push_image("mallory/app", "v1", "mallory's bytes");
                let line = line.replace("DIGEST", &known.to_string());
                let answer = fixture.ask(&change(by("mallory", &line)));
                let operations: Vec<String> = fixture
                    .operations
                    .borrow()
                    .iter()
                    .map(|operation| {
                        operation
                            .replace(known.encoded(), "NAMED")
                            .replace(&known.encoded()[..2], "XX")
                    })
                    .collect();
                let granted: Vec<_> = fixture
                    .keys(&format!("refs/sha256/{}/mallory/", known.encoded()))
                    .into_iter()
                    .collect();
                assert_eq!(granted, Vec::<String>::new(), "{line}");
                (
                    said(&answer, &[&known.to_string(), known.encoded()]),
                    operations,
                )
            };
            let ((one, one_took), (other, other_took)) = (of(existing), of(&nothing));
            assert_eq!(one, other, "{line}");
            assert!(
                one.0 >= 400 || line.contains("referrers"),
                "{line} {}",
                one.0
            );
            if counts {
                assert_eq!(one_took, other_took, "{line}");
            }
        };
        let plain = |request: Ask| request;
        for (line, existing) in [
            ("GET /v2/mallory/app/blobs/DIGEST", &blob),
            ("HEAD /v2/mallory/app/blobs/DIGEST", &blob),
            ("DELETE /v2/mallory/app/blobs/DIGEST", &blob),
            ("GET /v2/mallory/app/blobs/DIGEST", &manifest),
            ("GET /v2/mallory/app/manifests/DIGEST", &manifest),
            ("HEAD /v2/mallory/app/manifests/DIGEST", &manifest),
            ("DELETE /v2/mallory/app/manifests/DIGEST", &manifest),
            ("GET /v2/mallory/app/manifests/DIGEST", &blob),
            ("GET /v2/mallory/app/referrers/DIGEST", &manifest),
            ("GET /v2/mallory/app/_strata/layers/DIGEST", &blob),
            (
                "GET /v2/mallory/app/_strata/layers/DIGEST/files/file.txt",
                &blob,
            ),
            (
                "HEAD /v2/mallory/app/_strata/layers/DIGEST/files/file.txt",
                &blob,
            ),
            (
                "GET /v2/mallory/app/_strata/images/DIGEST/files/file.txt",
                &manifest,
            ),
        ] {
            compare(line, existing, &plain, true);
            compare(
                line,
                existing,
                &|request| request.header("if-none-match", format!("\"{existing}\"")),
                true,
            );
            compare(
                line,
                existing,
                &|request| request.header("if-none-match", "*"),
                true,
            );
            compare(
                line,
                existing,
                &|request| request.header("range", "bytes=0-3"),
                true,
            );
        }
        // Bytes that are not the blob's: the one that is stored is not written again, and its name is not told.
        for body in [&b"other bytes"[..], b"", PRIVATE.as_bytes()] {
            for line in [
                "POST /v2/mallory/app/blobs/uploads/?digest=DIGEST",
                "POST /v2/drop/app/blobs/uploads/?digest=DIGEST",
            ] {
                compare(line, &blob, &|request| request.body(body), false);
                compare(line, &blob, &|request| request.stream(body), false);
                compare(
                    line,
                    &blob,
                    &|request| request.header("content-length", "5").stream(body),
                    false,
                );
            }
        }
    }

    /// A manifest that names what its repository has not got is refused, wherever else that may be.
    #[test]
    fn a_manifest_makes_nothing_readable() {
        for name in ["mallory/app", "drop/app"] {
            let fixture = Fixture::new();
            fixture.push_blob(name, CONFIG);
            let blob = digest(&layer(PRIVATE));
            let push = |document: &Value| {
                by("mallory", &format!("PUT /v2/{name}/manifests/v1"))
                    .manifest(OCI_MANIFEST, document)
            };
            let answer = fixture.ask(&push(&image(PRIVATE)));
            let absent = fixture.ask(&push(&image("nowhere either!!!")));
            let other = digest(&layer("nowhere either!!!"));
            assert_eq!(answer.status, 404);
            assert_eq!(
                said(&answer, &[&blob.to_string()]),
                said(&absent, &[&other.to_string()])
            );
            // As an index that lists the private manifest, and as a referrer of it.
            let index = |listed: &Digest| {
                json!({
                    "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
                    "manifests": [{ "mediaType": OCI_MANIFEST, "digest": listed.to_string(), "size": 400 }],
                })
            };
            let push = |document: &Value| {
                by("mallory", &format!("PUT /v2/{name}/manifests/v1"))
                    .manifest("application/vnd.oci.image.index.v1+json", document)
            };
            let (private, nothing) = (manifest_digest(PRIVATE), digest(b"nowhere"));
            let (answer, absent) = (
                fixture.ask(&push(&index(&private))),
                fixture.ask(&push(&index(&nothing))),
            );
            assert_eq!(answer.status, 404);
            assert_eq!(
                said(&answer, &[&private.to_string()]),
                said(&absent, &[&nothing.to_string()])
            );
            assert_eq!(
                fixture.keys(&format!("repositories/{name}/")),
                BTreeSet::new()
            );
            assert_eq!(
                fixture.keys(&format!("refs/sha256/{}/{name}/", blob.encoded())),
                BTreeSet::new()
            );
        }
        let fixture = Fixture::new();
        fixture.push_blob("mallory/app", CONFIG);
        let private = manifest_digest(PRIVATE);
        let about = json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": "application/x",
            "config": descriptor("application/vnd.oci.empty.v1+json", CONFIG), "layers": [],
            "subject": { "mediaType": OCI_MANIFEST, "digest": private.to_string(), "size": 400 },
        });
        let push =
            by("mallory", "PUT /v2/mallory/app/manifests/about").manifest(OCI_MANIFEST, &about);
        assert_eq!(fixture.status(&push), 201, "a subject need not be there");
        let list = format!("GET /v2/private/app/referrers/{private}");
        assert_eq!(
            json_of(&fixture.ask(&by("alice", &list)))["manifests"],
            json!([]),
            "and hears nothing of it"
        );
        assert_eq!(
            fixture.status(&by(
                "mallory",
                &format!("GET /v2/mallory/app/manifests/{private}")
            )),
            404
        );
    }

    /// Who may not pull is told the same of what is there and of what is not, and nothing is looked at to tell it.
    #[test]
    fn names_finds_nothing_out() {
        let fixture = Fixture::new();
        let (blob, manifest) = (
            digest(&layer(PRIVATE)).to_string(),
            manifest_digest(PRIVATE).to_string(),
        );
        let (nothing, nobody) = (
            digest(b"nowhere").to_string(),
            "00112233445566778899aabbccddeeff",
        );
        let location = fixture
            .ask(&by("root", "POST /v2/private/app/blobs/uploads/"))
            .location();
        let id = location
            .split(['/', '?'])
            .find(|part| part.len() == 32)
            .unwrap()
            .to_owned();
        let narrow = fixture.token(
            "mallory",
            &["repository:mallory/app:*", "repository:private/app:*"],
        );
        let signs: [(&str, Sign<'_>); 4] = [
            ("nobody", &|line| by("", line)),
            ("carol", &|line| by("carol", line)),
            ("mallory", &|line| by("mallory", line)),
            ("a token", &|line| with(&narrow, line)),
        ];
        let pairs = [
            ("private/app", "private/nop"),
            ("v1", "v0"),
            (&*blob, &*nothing),
            (&*manifest, &*nothing),
            (&*id, nobody),
        ];
        for (who, sign) in signs {
            for line in [
                "GET /v2/private/app/tags/list".to_owned(),
                "GET /v2/private/app/manifests/v1".to_owned(),
                "HEAD /v2/private/app/manifests/v1".to_owned(),
                "PUT /v2/private/app/manifests/v1".to_owned(),
                "DELETE /v2/private/app/manifests/v1".to_owned(),
                format!("GET /v2/private/app/manifests/{manifest}"),
                format!("DELETE /v2/private/app/manifests/{manifest}"),
                format!("GET /v2/private/app/blobs/{blob}"),
                format!("HEAD /v2/private/app/blobs/{blob}"),
                format!("DELETE /v2/private/app/blobs/{blob}"),
                format!("GET /v2/private/app/referrers/{manifest}"),
                format!("GET /v2/private/app/_strata/layers/{blob}"),
                format!("GET /v2/private/app/_strata/layers/{blob}/files/file.txt"),
                format!("GET /v2/private/app/_strata/images/{manifest}/files/file.txt"),
                "GET /v2/private/app/_strata/images/v1/files/".to_owned(),
                "POST /v2/private/app/blobs/uploads/".to_owned(),
                format!("POST /v2/private/app/blobs/uploads/?digest={blob}"),
                format!("POST /v2/private/app/blobs/uploads/?mount={blob}&from=public/app"),
                format!("GET /v2/private/app/blobs/uploads/{id}"),
                format!("PATCH /v2/private/app/blobs/uploads/{id}"),
                format!("PUT /v2/private/app/blobs/uploads/{id}?digest={blob}"),
                format!("DELETE /v2/private/app/blobs/uploads/{id}"),
                "LOOK /v2/private/app/manifests/v1".to_owned(),
            ] {
                let of = |line: &str, named: &[&str]| {
                    let answer = fixture.ask(&sign(line));
                    fixture.is_untouched(&format!("{who} {line}"));
                    said(&answer, named)
                };
                let existing = of(&line, &["private/app", "v1", &blob, &manifest, &id]);
                assert!(
                    [401, 403, 405].contains(&existing.0),
                    "{who} {line}: {}",
                    existing.0
                );
                for (there, not_there) in pairs {
                    if line.contains(there) {
                        let other = of(
                            &line.replace(there, not_there),
                            &[
                                "private/app",
                                "private/nop",
                                "v1",
                                "v0",
                                &blob,
                                &manifest,
                                &nothing,
                                &id,
                                nobody,
                            ],
                        );
                        assert_eq!(existing, other, "{who} {line} without {there}");
                    }
                }
            }
        }
    }

    /// Who names a digest and never sends its bytes has nothing, also when somebody else sends them later.
    #[test]
    fn a_digest_ahead_of_its_bytes_gives_nothing() {
        let bytes = layer("what will be private");
        let of = digest(&bytes);
        let line = format!("POST /v2/mallory/app/blobs/uploads/?digest={of}");
        let read = by("mallory", &format!("GET /v2/mallory/app/blobs/{of}"));
        let mount = format!("POST /v2/mallory/other/blobs/uploads/?mount={of}&from=mallory/app");
        let granted = |fixture: &Fixture| {
            let keys = fixture.keys(&format!("refs/sha256/{}/mallory/", of.encoded()));
            !keys.is_empty()
        };
        for is_gone in [true, false] {
            let fixture = Fixture::new();
            let request = by("mallory", &line).body("x".repeat(bytes.len()));
            let mut asked = Box::pin(ask_now(&fixture.registry, &request));
            let mut context = Context::from_waker(Waker::noop());
            while !granted(&fixture) {
                assert!(asked.as_mut().poll(&mut context).is_pending());
            }
            let asked = (!is_gone).then_some(asked);
            fixture.push_blob("private/app", &bytes);
            let readings = || {
                assert_eq!(fixture.status(&read), 404, "gone: {is_gone}");
                assert_eq!(
                    fixture.status(&by("mallory", &mount)),
                    202,
                    "gone: {is_gone}"
                );
            };
            assert!(granted(&fixture), "what was claimed");
            readings();
            if let Some(asked) = asked {
                assert_eq!(block_on(asked).status, 400);
                readings();
            }
            // Who has the bytes gets them.
            assert_eq!(fixture.status(&by("mallory", &line).body(&bytes)), 201);
            assert_eq!(fixture.ask(&read).body, bytes);
        }
    }

    /// An upload is a repository's: through another one it is not there.
    #[test]
    fn an_upload_of_another_repository_is_none() {
        let fixture = Fixture::new();
        let location = fixture
            .ask(&by("root", "POST /v2/private/app/blobs/uploads/"))
            .location();
        let location = location.replace("private/app", "mallory/app");
        for method in ["GET", "PATCH", "PUT", "DELETE"] {
            let mut line = format!("{method} {location}");
            if method == "PUT" {
                line = format!(
                    "{line}{}digest={}",
                    if line.contains('?') { '&' } else { '?' },
                    digest(b"x")
                );
            }
            let request = by("mallory", &line);
            let request = if method == "PATCH" {
                request.body("x")
            } else {
                request
            };
            assert_eq!(fixture.status(&request), 404, "{line}");
        }
        let of = |name: &str| {
            let mut keys = fixture.keys("uploads/");
            keys.retain(|key| key.contains(name));
            keys
        };
        assert!(!of("/private/app/_").is_empty());
        assert_eq!(of("/mallory/app/_"), BTreeSet::new());
    }
}

mod paths {
    use super::*;

    /// What a path through the public repository may be made of.
    const PIECES: [&str; 34] = [
        "/",
        "//",
        ".",
        "..",
        "/../",
        "%2e",
        "%2e%2e",
        "%2E%2E/",
        "%2f",
        "%2F..%2F",
        "%252f",
        "%252e%252e%252f",
        "\\",
        "..\\",
        "%5c",
        ";",
        ";a=b",
        "%00",
        "%0a",
        "%ff",
        "%c0%af",
        "?",
        "#",
        "private",
        "PRIVATE",
        "ⓟrivate",
        "private/app",
        "private%2fapp",
        "public",
        "public/app",
        "app",
        "manifests/v1",
        "%20",
        "_strata/",
    ];

    /// Whether an operation is on what only a private repository has.
    fn is_of_private(operation: &str) -> bool {
        let key = operation.rsplit(' ').next().unwrap();
        let (blob, manifest) = (digest(&layer(PRIVATE)), manifest_digest(PRIVATE));
        let parts: Vec<&str> = key.split('/').collect();
        match parts[..] {
            ["repositories" | "uploads" | "catalog", name, ..] | ["refs", _, _, name, ..] => {
                name == "private"
            }
            [.., encoded, "index"] | [.., encoded] => {
                encoded == blob.encoded() || encoded == manifest.encoded()
            }
            [] => false,
        }
    }

    /// Whatever a path is made of, it is of the repository that the rules were asked for.
    fn never_leads_to_what_is_private(fixture: &Fixture, user: &str, method: &str, target: &str) {
        let request = by(user, &format!("{method} /"));
        let answer = fixture.ask(&Ask {
            target: target.to_owned(),
            ..request
        });
        assert!(answer.status < 500, "{method} {target}: {}", answer.status);
        let body = String::from_utf8_lossy(&answer.body);
        assert!(!body.contains(PRIVATE), "{method} {target}");
        let blob = digest(&layer(PRIVATE)).to_string();
        assert!(
            target.contains(&blob) || !body.contains(&blob),
            "{method} {target}"
        );
        let operations = fixture.operations.borrow();
        let looked = operations.iter().find(|operation| is_of_private(operation));
        assert_eq!(looked, None, "{method} {target}");
    }

    #[test]
    fn through_a_public_repository_do_not_lead_to_a_private_one() {
        let fixture = Fixture::new();
        let (blob, manifest) = (digest(&layer(PRIVATE)), manifest_digest(PRIVATE));
        let ends = [
            "manifests/v1".to_owned(),
            format!("manifests/{manifest}"),
            format!("blobs/{blob}"),
            "tags/list".to_owned(),
            format!("_strata/layers/{blob}/files/file.txt"),
        ];
        for end in &ends {
            for way in [
                "public/../private/app",
                "public/app/../../private/app",
                "public/%2e%2e/private/app",
                "public%2f..%2fprivate%2fapp",
                "public/..%2fprivate/app",
                "public/..%252fprivate/app",
                "public%252f..%252fprivate/app",
                "public//private/app",
                "public/app//../../private/app",
                "./private/app",
                "public/./../private/app",
                "PRIVATE/app",
                "Private/App",
                "private/app/",
                "private/app;public/app",
                "public/app;/../private/app",
                "public\\..\\private\\app",
                "public/app\\..\\..\\private/app",
                "public%5c..%5cprivate%5capp",
                "private%00/app",
                "public/app%00/../../private/app",
                "public/app%0d%0a/private/app",
                "%70rivate/app",
                "private%2fapp",
                "%2e/private/app",
                "private/app%20",
                "private/app%ff",
                "%c0%ae%c0%ae/private/app",
                "ｐrivate/app",
                "pr\u{131}vate/app",
                "private\u{2215}app",
                "private/app\u{200b}",
                "private/app?public/app",
                "private/app#public/app",
                "_strata/private/app",
                "public/app/_strata/../../../private/app",
                "public/app/_strata/layers/../../private/app",
                "/private/app",
                "//private/app",
            ] {
                for user in ["", "carol", "mallory"] {
                    for method in ["GET", "HEAD"] {
                        never_leads_to_what_is_private(
                            &fixture,
                            user,
                            method,
                            &format!("/v2/{way}/{end}"),
                        );
                    }
                }
                never_leads_to_what_is_private(
                    &fixture,
                    "mallory",
                    "DELETE",
                    &format!("/v2/{way}/{end}"),
                );
            }
        }
        let long = format!("/v2/public/{}private/app/manifests/v1", "../".repeat(2_000));
        never_leads_to_what_is_private(&fixture, "", "GET", &long);
        assert_eq!(
            fixture.status(&by("alice", "GET /v2/private%2Fapp/manifests/v1")),
            200,
            "an escaped slash is a slash, and the rules see it as one"
        );
        assert_eq!(
            fixture.status(&by("alice", "GET /v2/private/app/manifests/v1")),
            200,
            "and all is still there"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn of_any_pieces_lead_to_what_is_public(
            paths in prop::collection::vec((prop::collection::vec(prop::sample::select(&PIECES[..]), 0..8), 0_usize..7), 8),
        ) {
            let fixture = Fixture::new();
            let ends = [String::new(), "/manifests/v1".to_owned(), "/tags/list".to_owned(), format!("/blobs/{}", digest(&layer(PRIVATE))), format!("/blobs/{}", digest(&layer(PUBLIC))), format!("/manifests/{}", manifest_digest(PRIVATE)), "/_strata/images/v1/files/file.txt".to_owned()];
            for (pieces, end) in paths {
                let target = format!("/v2/{}{}", pieces.concat(), ends[end]);
                never_leads_to_what_is_private(&fixture, "", "GET", &target);
                let answer = fixture.ask(&Ask { target: target.clone(), ..by("", "GET /") });
                if answer.status == 200 {
                    let body = String::from_utf8_lossy(&answer.body);
                    let public = [image(PUBLIC).to_string(), PUBLIC.to_owned(), String::from_utf8(layer(PUBLIC)).unwrap()];
                    let is_public = public.iter().any(|text| *text == body) || body.contains("\"public/app\"") || body == "{}";
                    prop_assert!(is_public, "{} {}", target, body);
                }
            }
        }
    }
}

mod injection {
    use super::*;

    /// What would end a header, or a line of a log.
    const CONTROLS: [&str; 6] = [
        "\r\nset-cookie: a=b",
        "\nset-cookie: a=b",
        "\r",
        "\0",
        "\u{7f}\u{1b}[31m",
        "\u{85}\u{2028}é",
    ];

    fn holds_nothing_foreign(fixture: &Fixture, answer: &Answer, about: &str) {
        assert!(answer.status < 500, "{about}: {}", answer.status);
        for (name, value) in &answer.headers {
            assert_ne!(name, "set-cookie", "{about}");
            let value = value.as_bytes();
            assert!(
                value.iter().all(|byte| (b' '..=b'~').contains(byte)),
                "{about}: {name} {value:?}"
            );
        }
        for line in fixture
            .host
            .told
            .borrow()
            .iter()
            .chain(fixture.host.log.borrow().iter())
        {
            // The test's host writes fields as Rust does, the edge as JSON: neither leaves a control as it is.
            assert!(!line.contains(char::is_control), "{about}: {line:?}");
            assert!(!line.contains("set-cookie"), "{about}: {line}");
        }
    }

    #[test]
    fn of_headers_by_anything_that_is_echoed_fails() {
        let fixture = Fixture::new();
        let (blob, manifest) = (digest(&layer(PUBLIC)), manifest_digest(PUBLIC));
        for control in CONTROLS {
            let text = escaped(control);
            let percent: String = control.bytes().map(|byte| format!("%{byte:02x}")).collect();
            for line in [
                format!("GET /v2/public/app/manifests/v1{percent}"),
                format!("PUT /v2/public/app/manifests/v1{percent}"),
                format!("PUT /v2/public/app/manifests/{manifest}?tag=v2{text}"),
                format!("GET /v2/public/app{percent}/manifests/v1"),
                format!("GET /v2/public/app/blobs/{blob}{percent}"),
                format!("GET /v2/public/app/referrers/{manifest}?artifactType=a{text}&n=1"),
                format!("GET /v2/public/app/tags/list?last=v{text}"),
                format!("GET /v2/public/app/tags/list?n=1{text}"),
                format!("GET /v2/_catalog?last=a{text}&n=1"),
                format!("GET /v2/_catalog?n=1&x={text}"),
                format!("POST /v2/mallory/app/blobs/uploads/?mount={blob}{text}&from=public/app"),
                format!("POST /v2/mallory/app/blobs/uploads/?mount={blob}&from=public/app{text}"),
                format!("POST /v2/mallory/app/blobs/uploads/?digest={blob}{text}"),
                format!("POST /v2/mallory/app/blobs/uploads/?digest-algorithm=sha256{text}"),
                format!(
                    "GET /v2/_strata/token?scope=repository:public/app:pull{text}&service={text}"
                ),
                format!("GET /v2/public/app/_strata/layers/{blob}?prefix={text}&last={text}"),
                format!("GET /v2/public/app/_strata/layers/{blob}/files/{percent}?last={text}"),
                format!("GET /v2/public/app/_strata/images/v1/files/?platform={text}"),
                format!("GET /{percent}"),
            ] {
                for user in ["", "mallory", "root"] {
                    let answer = fixture.ask(&by(user, &line));
                    holds_nothing_foreign(&fixture, &answer, &line);
                    fixture.forget();
                }
            }
            for name in [format!("mallory{control}"), format!("{control}mallory")] {
                let request = Ask::new("GET /v2/public/app/tags/list")
                    .anonymous()
                    .header("authorization", basic(&name, "x"));
                let answer = fixture.ask(&request);
                assert_eq!(answer.status, 401);
                holds_nothing_foreign(&fixture, &answer, "a name");
                fixture.host.pass(Duration::from_secs(60));
            }
            let form = format!("grant_type=password&username={text}&password={text}&scope={text}");
            let post = by("", "POST /v2/_strata/token")
                .header("content-type", "application/x-www-form-urlencoded");
            holds_nothing_foreign(&fixture, &fixture.ask(&post.body(&form)), "a form");
        }
    }

    /// What a manifest says of itself, other clients are told: in headers only what can stand there.
    #[test]
    fn of_headers_by_what_is_stored_fails() {
        for control in CONTROLS {
            let fixture = Fixture::new();
            fixture.push_blob("mallory/app", CONFIG);
            let mut about = json!({
                "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": format!("application/x{control}"),
                "config": descriptor("application/vnd.oci.empty.v1+json", CONFIG), "layers": [],
                "subject": { "mediaType": OCI_MANIFEST, "digest": manifest_digest(PUBLIC).to_string(), "size": 400 },
                "annotations": { format!("a{control}"): control },
            });
            let push = |tag: &str, document: &Value| {
                by("mallory", &format!("PUT /v2/mallory/app/manifests/{tag}"))
                    .stream(document.to_string())
            };
            let answer = fixture.ask(&push("odd", &about));
            holds_nothing_foreign(&fixture, &answer, "an artifact type");
            about["mediaType"] = format!("{OCI_MANIFEST}{control}").into();
            about["config"]["mediaType"] = format!("application/x{control}").into();
            let answer = fixture.ask(&push("odder", &about));
            holds_nothing_foreign(&fixture, &answer, "a media type");
            for line in [
                "GET /v2/mallory/app/manifests/odd".to_owned(),
                "GET /v2/mallory/app/manifests/odder".to_owned(),
                format!(
                    "GET /v2/mallory/app/referrers/{}?n=1",
                    manifest_digest(PUBLIC)
                ),
                format!(
                    "GET /v2/mallory/app/referrers/{}?n=1&artifactType={}",
                    manifest_digest(PUBLIC),
                    escaped(&format!("application/x{control}"))
                ),
            ] {
                let answer = fixture.ask(&by("mallory", &line));
                holds_nothing_foreign(&fixture, &answer, &line);
            }
        }
    }

    /// The origin comes from the header `Host`, and stands in quotes in the challenge.
    #[test]
    fn of_the_challenge_by_the_host_fails() {
        let fixture = Fixture::new();
        for host in [
            "https://a\r\nset-cookie: a=b",
            "https://a\nb",
            "https://a\0",
            "https://a\", scope=\"x",
            "https://a\\",
            "https://é",
        ] {
            let request = Request {
                method: Method::GET,
                target: "/v2/".to_owned(),
                origin: host.to_owned(),
                address: "192.0.2.1".to_owned(),
                headers: HeaderMap::new(),
                body: None,
            };
            let (response, _) = block_on(fixture.registry.answer(request));
            assert_eq!(response.status(), 401, "{host:?}");
            if let Some(challenge) = response.headers().get("www-authenticate") {
                let challenge = challenge.as_bytes();
                assert!(
                    challenge.iter().all(|byte| (b' '..=b'~').contains(byte)),
                    "{host:?} {challenge:?}"
                );
                assert_eq!(
                    challenge.iter().filter(|byte| **byte == b'"').count(),
                    4,
                    "{host:?}"
                );
                assert!(!challenge.contains(&b'\\'), "{host:?}");
            }
        }
    }
}

mod overwriting {
    use super::*;

    fn push(reference: &str, text: &str) -> Ask {
        by(
            "mallory",
            &format!("PUT /v2/mallory/app/manifests/{reference}"),
        )
        .manifest(OCI_MANIFEST, &image(text))
    }

    /// A registry to which mallory has pushed the blobs of two images, and one of them as `v1`.
    fn fixture() -> Fixture {
        let fixture = Fixture::new();
        for text in ["one", "two", "six"] {
            fixture.push_blob("mallory/app", &layer(text));
        }
        fixture.push_blob("mallory/app", CONFIG);
        assert_eq!(fixture.status(&push("v1", "one")), 201, "a new tag");
        fixture
    }

    fn digest_of(fixture: &Fixture, tag: &str) -> Option<String> {
        let answer = fixture.ask(&by(
            "mallory",
            &format!("HEAD /v2/mallory/app/manifests/{tag}"),
        ));
        answer.header("docker-content-digest").map(str::to_owned)
    }

    #[test]
    fn takes_a_right_of_its_own() {
        let fixture = fixture();
        assert_eq!(fixture.status(&push("v1", "one")), 201, "the same again");
        let (one, two) = (
            manifest_digest("one").to_string(),
            manifest_digest("two").to_string(),
        );
        let token = fixture.token("mallory", &["repository:mallory/app:*"]);
        let before = fixture.keys("");
        for reference in [
            "v1".to_owned(),
            format!("{two}?tag=v1"),
            format!("{two}?tag=v2&tag=v1"),
            "v2?tag=v1".to_owned(),
        ] {
            let basic = push(&reference, "two");
            let bearer = with(
                &token,
                &format!("PUT /v2/mallory/app/manifests/{reference}"),
            )
            .manifest(OCI_MANIFEST, &image("two"));
            for request in [basic, bearer] {
                let answer = fixture.ask(&request);
                assert_eq!(answer.status, 403, "{reference}");
                assert_eq!(
                    json_of(&answer)["errors"][0]["detail"],
                    json!({ "name": "mallory/app", "action": "overwrite" })
                );
                let writes: Vec<_> = fixture
                    .operations
                    .borrow()
                    .iter()
                    .filter(|operation| operation.contains("put "))
                    .cloned()
                    .collect();
                assert_eq!(writes, Vec::<String>::new(), "{reference}");
                assert_eq!(fixture.keys(""), before, "{reference}");
            }
        }
        assert_eq!(digest_of(&fixture, "v1"), Some(one.clone()));
        // By its digest alone it moves nothing, and a tag that is new may be given.
        assert_eq!(fixture.status(&push(&two, "two")), 201);
        assert_eq!(fixture.status(&push(&format!("{two}?tag=v2"), "two")), 201);
        assert_eq!(digest_of(&fixture, "v2"), Some(two));
        assert_eq!(digest_of(&fixture, "v1"), Some(one));
        // Who has the right moves it.
        let root =
            by("root", "PUT /v2/mallory/app/manifests/v1").manifest(OCI_MANIFEST, &image("two"));
        assert_eq!(fixture.status(&root), 201);
    }

    #[test]
    fn is_not_pushing_what_was_deleted() {
        let fixture = fixture();
        assert_eq!(
            fixture.status(&by("mallory", "DELETE /v2/mallory/app/manifests/v1")),
            202
        );
        assert_eq!(digest_of(&fixture, "v1"), None);
        assert_eq!(fixture.status(&push("v1", "two")), 201);
        assert_eq!(
            digest_of(&fixture, "v1"),
            Some(manifest_digest("two").to_string())
        );
        assert_eq!(fixture.status(&push("v1", "one")), 403);
        let manifest = format!(
            "DELETE /v2/mallory/app/manifests/{}",
            manifest_digest("two")
        );
        assert_eq!(fixture.status(&by("mallory", &manifest)), 202);
        assert_eq!(fixture.status(&push("v1", "one")), 201, "its manifest was");
    }

    /// Both saw that there is no such tag: the store lets one write it.
    #[test]
    fn by_whoever_comes_second_is_refused() {
        for (tag, is_deleted) in [("new", false), ("v1", true)] {
            let fixture = fixture();
            if is_deleted {
                assert_eq!(
                    fixture.status(&by("mallory", "DELETE /v2/mallory/app/manifests/v1")),
                    202
                );
            }
            let (two, six) = (push(tag, "two"), push(tag, "six"));
            let (one, other) = block_on(join(
                ask_now(&fixture.registry, &two),
                ask_now(&fixture.registry, &six),
            ));
            let mut statuses = [one.status, other.status];
            statuses.sort_unstable();
            assert_eq!(statuses, [201, 403], "{tag}");
            let heads = fixture
                .operations
                .borrow()
                .iter()
                .filter(|operation| {
                    **operation == format!("head repositories/mallory/app/_tags/{tag}")
                })
                .count();
            assert!(heads >= 5, "both looked before either wrote: {heads}");
            let winner = if one.status == 201 { "two" } else { "six" };
            assert_eq!(
                digest_of(&fixture, tag),
                Some(manifest_digest(winner).to_string())
            );
        }
    }
}

mod catalogue {
    use super::*;

    /// A registry of 3,000 repositories, of which every third may be pulled by mallory.
    fn fixture() -> Fixture {
        let rules = json!([
            { "repositories": ["**"], "who": ["user:root"], "may": ["pull"] },
            { "repositories": ["*-seen"], "who": ["user:mallory"], "may": ["pull"] },
        ]);
        let fixture = Fixture::new().reopened(&[("STRATA_RULES", &rules.to_string())]);
        for number in 0..3_000 {
            let kind = if number % 3 == 1 { "seen" } else { "secret" };
            let key = key::catalog(&format!("r{number:04}-{kind}").parse().unwrap());
            let put =
                fixture
                    .store
                    .memory
                    .put(&key, Content::Bytes(Vec::new()), PutOptions::default());
            block_on(put).unwrap();
        }
        fixture
    }

    #[test]
    fn shows_full_pages_of_what_may_be_pulled() {
        let fixture = fixture();
        for limit in [None, Some(999), Some(100), Some(7)] {
            let mut target = limit.map_or_else(
                || "/v2/_catalog".to_owned(),
                |limit| format!("/v2/_catalog?n={limit}"),
            );
            let mut names = Vec::new();
            loop {
                let answer = fixture.ask(&by("mallory", &format!("GET {target}")));
                let body = json_of(&answer);
                let page: Vec<String> =
                    serde_json::from_value(body["repositories"].clone()).unwrap();
                assert!(page.iter().all(|name| name.ends_with("-seen")));
                let looked = fixture.operations.borrow().len();
                assert!(looked <= 4, "{looked} operations for {limit:?}");
                names.extend(page.iter().cloned());
                let Some(link) = answer.header("link") else {
                    break;
                };
                assert_eq!(
                    Some(page.len()),
                    limit.or(Some(1_000)),
                    "a page that is not the last is full"
                );
                assert!(!link.contains("secret"), "{link}");
                let last = page.last().unwrap();
                assert_eq!(
                    link,
                    format!("</v2/_catalog?n={}&last={last}>; rel=\"next\"", page.len())
                );
                link[1..link.find('>').unwrap()].clone_into(&mut target);
            }
            let expected: Vec<String> = (0..3_000)
                .filter(|number| number % 3 == 1)
                .map(|number| format!("r{number:04}-seen"))
                .collect();
            assert_eq!(names, expected, "{limit:?}");
        }
    }

    /// The fewer one sees, the more is skipped: that must not cost an operation for each name.
    #[test]
    fn of_nothing_costs_few_operations() {
        let fixture = fixture();
        for limit in ["0", "1", "2", "1000"] {
            for last in ["", "&last=r1500-secret"] {
                let answer =
                    fixture.ask(&by("carol", &format!("GET /v2/_catalog?n={limit}{last}")));
                assert_eq!(
                    (answer.status, json_of(&answer)),
                    (200, json!({ "repositories": [] }))
                );
                assert_eq!(answer.header("link"), None);
                let looked = fixture.operations.borrow().len();
                assert!(looked <= 5, "{looked} operations");
            }
        }
    }
}

mod limits {
    use super::*;

    #[test]
    fn are_those_of_paths_headers_and_forms() {
        let fixture = Fixture::new();
        let long = |length: usize| {
            format!(
                "GET /v2/_catalog?x={}",
                "x".repeat(length - "/v2/_catalog?x=".len())
            )
        };
        assert_eq!(fixture.status(&by("", &long(8 * 1024))), 200);
        for user in ["", "mallory"] {
            let answer = fixture.ask(&by(user, &long(8 * 1024 + 1)));
            assert_eq!(answer.status, 414);
            assert!(answer.body.len() < 1_000, "it is not echoed");
            fixture.is_untouched("a long path");
        }
        let header = |length: usize| {
            let request = by("mallory", "GET /v2/public/app/manifests/v1");
            request.header("if-none-match", "x".repeat(length))
        };
        assert_eq!(fixture.status(&header(16 * 1024)), 200);
        let answer = fixture.ask(&header(16 * 1024 + 1));
        assert_eq!(answer.status, 431);
        assert!(answer.body.len() < 1_000);
        fixture.is_untouched("a long header");
        let bearer = with(&"x".repeat(17 * 1024), "GET /v2/public/app/manifests/v1");
        assert_eq!(fixture.status(&bearer), 431, "before a token is read");
        let form = |length: usize| {
            let form = format!(
                "grant_type=password&username=mallory&password={}&x=",
                word("mallory")
            );
            by("", "POST /v2/_strata/token")
                .header("content-type", "application/x-www-form-urlencoded")
                .stream(format!("{form}{}", "x".repeat(length - form.len())))
        };
        assert_eq!(fixture.status(&form(64 * 1024)), 200);
        let derived = fixture.host.derived.get();
        assert_eq!(fixture.status(&form(64 * 1024 + 1)), 413);
        assert_eq!(fixture.host.derived.get(), derived);
    }

    fn push(user: &str, bytes: &[u8], named: &[u8]) -> Ask {
        by(
            user,
            &format!("POST /v2/drop/app/blobs/uploads/?digest={}", digest(named)),
        )
        .body(bytes)
    }

    #[test]
    fn are_those_of_bodies_at_the_same_time() {
        let fixture = Fixture::set(&[("STRATA_UPLOADS", "2")]);
        let requests = [
            push("mallory", b"one", b"one"),
            push("mallory", b"two", b"two"),
            push("mallory", b"six", b"six"),
            push("ci", b"ten", b"ten"),
            by("mallory", "GET /v2/public/app/manifests/v1"),
        ];
        let asked = requests
            .iter()
            .map(|request| ask_now(&fixture.registry, request));
        let answers = block_on(futures_util::future::join_all(asked));
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(
            statuses,
            [201, 201, 429, 201, 200],
            "others, and what has no body, are not concerned"
        );
        assert_eq!(answers[2].header("retry-after"), Some("5"));
        assert!(!fixture.keys("blobs/").contains(&key::blob(&digest(b"six"))));
        let started = fixture
            .operations
            .borrow()
            .iter()
            .any(|operation| operation.contains(digest(b"six").encoded()));
        assert!(!started, "what is refused is not begun");
    }

    #[test]
    fn of_bodies_are_given_back_however_they_end() {
        let fixture = Fixture::set(&[("STRATA_UPLOADS", "1")]);
        for _ in 0..3 {
            assert_eq!(fixture.status(&push("mallory", b"one", b"one")), 201);
            assert_eq!(fixture.status(&push("mallory", b"one", b"other")), 400);
            assert_eq!(
                fixture.status(&push("mallory", b"one", b"one").header("content-length", "nine")),
                400
            );
            assert_eq!(
                fixture.status(&by("mallory", "PUT /v2/mallory/app/manifests/v1").stream("{")),
                400
            );
            assert_eq!(
                fixture.status(&by("mallory", "PUT /v2/private/app/manifests/v1").stream("{")),
                403
            );
            // A client that goes away in the middle.
            let request = push("mallory", b"two", b"two");
            let gone = ask_now(&fixture.registry, &request).now_or_never();
            assert!(gone.is_none(), "it was under way");
        }
        assert_eq!(fixture.status(&push("mallory", b"two", b"two")), 201);
    }
}

mod secrets {
    use super::*;

    /// All that somebody could put a secret in, and where it might come out again.
    #[test]
    fn are_told_to_nobody() {
        for log in ["requests", "errors"] {
            let fixture = Fixture::set(&[("STRATA_LOG", log)]);
            let token = fixture.token("alice", &["repository:private/app:*"]);
            let signature = token.rsplit('.').next().unwrap().to_owned();
            let secret = "Hunter2-in-the";
            let form = |fields: &str| {
                by("", "POST /v2/_strata/token")
                    .header("content-type", "application/x-www-form-urlencoded")
                    .body(fields)
            };
            let raw = |value: String| {
                Ask::new("GET /v2/private/app/manifests/v1")
                    .anonymous()
                    .header("authorization", value)
            };
            let blob = digest(&layer(PRIVATE));
            let requests = [
                by("alice", "GET /v2/"),
                by("alice", "GET /v2/private/app/manifests/v1"),
                by("alice", "GET /v2/private/app/manifests/none"),
                by("alice", &format!("GET /v2/private/app/blobs/{blob}")),
                by(
                    "alice",
                    &format!("GET /v2/private/app/_strata/layers/{blob}"),
                ),
                by("alice", "PUT /v2/private/app/manifests/v2")
                    .manifest(OCI_MANIFEST, &image(PRIVATE)),
                by("alice", "DELETE /v2/private/app/manifests/v2"),
                by("alice", "DELETE /v2/public/app/manifests/v1"),
                by("alice", "GET /metrics"),
                by("alice", "FETCH /v2/private/app/manifests/v1"),
                by("ci", "POST /v2/drop/app/blobs/uploads/"),
                by("ci", "POST /v2/private/app/blobs/uploads/"),
                with(&token, "GET /v2/private/app/manifests/v1"),
                with(&token, "GET /v2/public/app/manifests/v1"),
                with(&token, "GET /metrics"),
                with(&format!("{token}x"), "GET /v2/private/app/manifests/v1"),
                with(
                    &format!("{secret}-token"),
                    "GET /v2/private/app/manifests/v1",
                ),
                raw(basic("alice", &format!("{secret}-password"))),
                raw(basic(&format!("{secret}-name"), "password")),
                raw(basic(&format!("alice:{secret}-name"), "")),
                raw(format!("Basic {secret}-basic")),
                raw(format!("{secret}-scheme")),
                raw(format!("{secret} scheme")),
                form(&format!(
                    "grant_type=password&username=alice&password={}",
                    word("alice")
                )),
                form(&format!(
                    "grant_type=password&username=alice&password={secret}-form"
                )),
                form(&format!(
                    "grant_type=password&username={secret}-form&password=x"
                )),
                form(&format!(
                    "grant_type={secret}-grant&refresh_token={secret}-grant"
                )),
                by("", "POST /v2/_strata/token")
                    .header("content-type", format!("{secret}-type"))
                    .body("x"),
                by(
                    "alice",
                    &format!(
                        "GET /v2/_strata/token?account={secret}-query&client_id={secret}-query&password={secret}-query"
                    ),
                ),
                by(
                    "alice",
                    &format!("GET /v2/_strata/token?scope={secret}-scope&service={secret}-service"),
                ),
                by(
                    "alice",
                    &format!("GET /v2/private/app/manifests/v1?access_token={secret}-query"),
                ),
                by(
                    "alice",
                    &format!("GET /v2/private/app/tags/list?n={secret}-query"),
                ),
                by("alice", &format!("GET /v2/_catalog?n={secret}-query")),
                by(
                    "",
                    &format!("GET /v2/private/app/tags/list?password={secret}-query"),
                ),
                // In the path: who sent it may read it again, and nobody else.
                by(
                    "alice",
                    &format!("GET /v2/alice:{secret}-path@registry.example/app/manifests/v1"),
                ),
                by("", &format!("GET /{secret}-path")),
                by("alice", &format!("GET /{secret}-path")),
                by(
                    "alice",
                    &format!("PUT /v2/private/app/manifests/:{secret}-path"),
                ),
                by("", &format!("DELETE /v2/{secret}-path/manifests/v1")),
            ];
            let mut said = String::new();
            for request in &requests {
                let answer = fixture.ask(request);
                assert!(answer.status < 500);
                said.push_str(&format!("{:?}\n", answer.headers));
                let body = String::from_utf8_lossy(&answer.body);
                if request.target.contains("-path") {
                    assert_eq!(answer.headers.get("location"), None);
                } else if !body.contains("\"access_token\"") {
                    said.push_str(&body);
                }
            }
            said.push_str(&String::from_utf8_lossy(
                &fixture.ask(&by("root", "GET /metrics")).body,
            ));
            for lines in [&fixture.host.told, &fixture.host.log] {
                said.push_str(&lines.borrow().join("\n"));
            }
            let settings = settings_of(&[("STRATA_USERS", &users().to_string())]);
            said.push_str(&format!("{settings:?}"));
            let mut secrets = vec![
                secret.to_owned(),
                ROBOT.to_owned(),
                token,
                signature,
                STANDARD.encode(&secret[..9]),
                "Hunter2".to_owned(),
            ];
            for user in ["root", "alice", "mallory", "carol"] {
                secrets.push(word(user));
                secrets.push(basic(user, &word(user)).replace("Basic ", ""));
                secrets.extend(
                    users()["users"][user]
                        .as_str()
                        .unwrap()
                        .rsplit('$')
                        .next()
                        .map(str::to_owned),
                );
            }
            for secret in &secrets {
                if let Some(at) = said.find(secret.as_str()) {
                    let around = said.get(at.saturating_sub(200)..).unwrap_or(&said);
                    panic!("{secret}: {}", &around[..around.len().min(400)]);
                }
            }
            assert!(
                said.contains("audit "),
                "there was something to look through"
            );
        }
    }
}

mod auditing {
    use super::*;

    /// Asks, and expects this line of audit of it, or none.
    #[track_caller]
    fn leaves(fixture: &Fixture, request: &Ask, line: Option<&str>) -> Answer {
        fixture.forget();
        let answer = fixture.ask(request);
        let id = answer.header("x-request-id").unwrap();
        let expected: Vec<String> = line
            .into_iter()
            .map(|line| {
                let (user, rest) = line.split_once(' ').unwrap();
                let user = if user == "-" { "" } else { user };
                let fields: Vec<&str> = rest.split('|').collect();
                let [what, method, route, repository, of] = fields[..] else { panic!("{line}") };
                let status = answer.status;
                format!(
                    "audit [(\"request\", \"{id}\"), (\"user\", \"{user}\"), (\"address\", \"192.0.2.1\"), (\"what\", \"{what}\"), (\"method\", \"{method}\"), (\"route\", \"{route}\"), (\"repository\", \"{repository}\"), (\"of\", \"{of}\"), (\"status\", \"{status}\")]"
                )
            })
            .collect();
        assert_eq!(fixture.audit(), expected);
        answer
    }

    #[test]
    fn has_a_line_for_each_change_and_each_refusal() {
        for log in ["requests", "errors"] {
            let fixture = Fixture::set(&[("STRATA_LOG", log)]);
            let (one, public) = (digest(b"one"), digest(&layer(PUBLIC)));
            let manifest = manifest_digest("one");
            let leaves = |request: &Ask, line: Option<&str>| leaves(&fixture, request, line);
            let upload = "/v2/mallory/app/blobs/uploads/";

            let push = by("mallory", &format!("POST {upload}?digest={one}")).body("one");
            leaves(
                &push,
                Some(&format!(
                    "mallory push blob|POST|start_upload|mallory/app|{one}"
                )),
            );
            leaves(&push.clone().body("two"), None);
            let started = leaves(&by("mallory", &format!("POST {upload}")), None);
            let chunk = leaves(
                &by("mallory", &format!("PATCH {}", started.location())).stream(CONFIG),
                None,
            );
            let join = if chunk.location().contains('?') {
                '&'
            } else {
                '?'
            };
            let close = format!("PUT {}{join}digest={}", chunk.location(), digest(CONFIG));
            leaves(
                &by("mallory", &close),
                Some(&format!(
                    "mallory push blob|PUT|upload|mallory/app|{}",
                    digest(CONFIG)
                )),
            );
            let mount = format!("POST {upload}?mount={public}&from=public/app");
            leaves(
                &by("mallory", &mount),
                Some(&format!(
                    "mallory mount blob|POST|start_upload|mallory/app|{public}"
                )),
            );
            leaves(
                &by("mallory", &mount.replace("public/app", "private/app")),
                None,
            );

            fixture.push_blob("mallory/app", &layer("one"));
            fixture.push_blob("mallory/app", &layer("two"));
            let put = |reference: &str, text: &str| {
                by(
                    "mallory",
                    &format!("PUT /v2/mallory/app/manifests/{reference}"),
                )
                .manifest(OCI_MANIFEST, &image(text))
            };
            leaves(
                &put("v1", "one"),
                Some("mallory push manifest|PUT|manifest|mallory/app|v1"),
            );
            leaves(
                &put(&manifest.to_string(), "one"),
                Some(&format!(
                    "mallory push manifest|PUT|manifest|mallory/app|{manifest}"
                )),
            );
            leaves(
                &put(&format!("{manifest}?tag=v2&tag=v3"), "one"),
                Some(&format!(
                    "mallory push manifest|PUT|manifest|mallory/app|{manifest} v2 v3"
                )),
            );
            leaves(
                &put("v1", "two"),
                Some("mallory refused|PUT|manifest|mallory/app|v1"),
            );
            leaves(&put("v9", "nowhere"), None);

            for line in [
                "GET /v2/mallory/app/manifests/v1",
                "HEAD /v2/mallory/app/manifests/v1",
                "GET /v2/mallory/app/tags/list",
                "GET /v2/_catalog",
                "GET /v2/mallory/app/manifests/none",
                "GET /v2/",
            ] {
                leaves(&by("mallory", line), None);
            }
            leaves(
                &by("mallory", &format!("GET /v2/mallory/app/blobs/{one}")),
                None,
            );
            leaves(&by("", "GET /v2/"), None);
            leaves(&by("", "GET /v2/public/app/manifests/v1"), None);

            leaves(
                &by("", "GET /v2/private/app/manifests/v1"),
                Some("- refused|GET|manifest|private/app|"),
            );
            leaves(
                &by("mallory", "GET /v2/private/app/manifests/v1"),
                Some("mallory refused|GET|manifest|private/app|"),
            );
            leaves(
                &by("mallory", "GET /metrics"),
                Some("mallory refused|GET|metrics||"),
            );
            leaves(
                &by("mallory", "DELETE /v2/public/app/manifests/v1"),
                Some("mallory refused|DELETE|manifest|public/app|v1"),
            );
            let wrong = |line: &str| {
                Ask::new(line)
                    .anonymous()
                    .header("authorization", basic("mallory", "wrong"))
            };
            leaves(&wrong("GET /v2/"), Some("- refused|GET|version||"));
            leaves(
                &wrong("GET /v2/_strata/token"),
                Some("- refused|GET|token||"),
            );
            leaves(
                &with("x.y.z", "GET /v2/public/app/manifests/v1"),
                Some("- refused|GET|manifest|public/app|"),
            );
            fixture.host.admits.set(false);
            leaves(
                &wrong("GET /v2/_strata/token"),
                Some("- refused|GET|token||"),
            );

            leaves(
                &by("mallory", "DELETE /v2/mallory/app/manifests/v1"),
                Some("mallory delete manifest|DELETE|manifest|mallory/app|v1"),
            );
            leaves(&by("mallory", "DELETE /v2/mallory/app/manifests/v1"), None);
            leaves(
                &by(
                    "mallory",
                    &format!("DELETE /v2/mallory/app/manifests/{manifest}"),
                ),
                Some(&format!(
                    "mallory delete manifest|DELETE|manifest|mallory/app|{manifest}"
                )),
            );
            leaves(
                &by("mallory", &format!("DELETE /v2/mallory/app/blobs/{one}")),
                Some(&format!(
                    "mallory delete blob|DELETE|blob|mallory/app|{one}"
                )),
            );
        }
    }
}
