//! Attempts to get more than the rules grant: for each defence, the attack that it stops.

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
    manifest::{OCI_INDEX, OCI_MANIFEST},
    memory::MemoryObjects,
    registry::Request,
    store::{Content, Objects as _, PutOptions},
};
use strata_support::{
    Answer, Ask, CONFIG, TestHost, TestRegistry, ask, ask_now, descriptor, digest,
    host::key as derived,
    key,
    layers::Tar,
    registry_with, settings_of,
    watched::{Verdict, Watched, WatchedValues},
};

mod auditing;
mod catalogue;
mod guessing;
mod injection;
mod limits;
mod mounting;
mod overwriting;
mod paths;
mod relaying;
mod secrets;
mod tokens;

/// The bytes that only alice and root may see, and the bytes that everybody may.
const PRIVATE: &str = "the private bytes";
const PUBLIC: &str = "the public bytes";

const ROBOT: &str = "strata_0123456789abcdefghijABCDEFGHIJ0123456789";

/// Alice may read the private repositories. Mallory has repositories of her own, and may push to
/// `drop` without pulling from it. Carol may do nothing.
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

/// A user's password, with a prefix that a test can search for.
fn word(user: &str) -> String {
    format!("Hunter2-{user}")
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// A request of a user; anonymous if the name is empty.
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

/// A registry with a private and a public repository, which logs the operations of its stores.
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

    /// A fixture with these settings beside users and rules.
    fn set(settings: &[(&str, &str)]) -> Self {
        let operations = Rc::<RefCell<Vec<String>>>::default();
        let written = operations.clone();
        let store = Watched::new(MemoryObjects::default(), move |operation, key| {
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

    /// Another registry over the same stores, with other settings.
    fn reopened(&self, settings: &[(&str, &str)]) -> Self {
        Self::over(self.store.clone(), self.operations.clone(), settings)
    }

    /// Answers a request; afterwards `operations` has the operations that it took.
    fn ask(&self, request: &Ask) -> Answer {
        self.operations.borrow_mut().clear();
        ask(&self.registry, request)
    }

    fn status(&self, request: &Ask) -> u16 {
        self.ask(request).status
    }

    /// Clears the logged operations and messages.
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

    /// Requests a token, and expects one.
    fn token(&self, user: &str, scopes: &[&str]) -> String {
        let answer = self.ask(&by(user, &format!("GET {}", token_target(scopes))));
        assert_eq!(answer.status, 200);
        token_of(&answer)
    }

    /// Every key of the cold store with this prefix.
    fn keys(&self, prefix: &str) -> BTreeSet<String> {
        self.store.keys(prefix).into_iter().collect()
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

/// The claims of a token.
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

/// The key with which a registry with this secret signs tokens.
fn key_of(secret: &str) -> Vec<u8> {
    let key = Sha512::new().chain_update("strata token v1\n");
    key.chain_update(secret).finalize().to_vec()
}

/// Status, headers and body of an answer, without the parts that differ each time and without the
/// names that the client sent.
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

/// A function that signs requests.
type Sign<'a> = &'a dyn Fn(&str) -> Ask;
