//! Permissions at every end-point: rules × callers × end-points, each allowed, 401 or 403.
//!
//! One table has the end-points, by the name of their variant: one that is added without a row does
//! not compile.

use std::{cell::Cell, rc::Rc};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD},
};
use serde_json::{Value, json};
use strata::{
    access::rule::Action::{self, Administer, Delete, Metrics, Overwrite, Pull, Push},
    end_point::EndPoint,
    manifest::OCI_MANIFEST,
    memory::MemoryObjects,
    route::{
        InRepository as Repository, InspectOperation as Inspect, ListOperation as List, Operation,
        RegistryOperation as Registry, UploadOperation as Upload,
    },
};
use strata_support::{
    Answer, Ask, CONFIG, LAYER, TestHost, TestRegistry, ask, digest,
    host::key,
    image, registry_on,
    watched::{Verdict, Watched},
};

/// The permission that a method of an end-point needs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Needs {
    /// Nothing.
    Nothing,
    /// A caller that has signed in.
    SignIn,
    /// A caller that may do anything at all.
    Entry,
    /// The same, without a token.
    Password,
    /// The same, by credentials in a form, which cannot hold a token.
    Form,
    /// A caller that may do anything at all, and a token for the catalogue if it uses one.
    Catalog,
    /// An action in the registry as a whole, without a token.
    InRegistry(Action),
    /// An action in the repository.
    In(Action),
    /// The same, without a token.
    InByPassword(Action),
}
use Needs::{Catalog, Entry, Form, In, InByPassword, InRegistry, Nothing, Password, SignIn};

/// The row of an operation, by its name. An operation without a row does not compile.
const fn row_of(operation: &Operation) -> &'static str {
    match operation {
        Operation::IssueToken { .. } => "token",
        Operation::Registry(operation) => match operation {
            Registry::Version => "version",
            Registry::ShowMetrics => "metrics",
            Registry::CheckHealth => "healthz",
            Registry::CheckReadiness => "readyz",
            Registry::ListExtensions => "extensions",
            Registry::ListRepositories { .. } => "catalog",
            Registry::Sweep { .. } => "sweep",
            Registry::Scrub { .. } => "scrub",
            Registry::ListHolders(_) => "holders",
            Registry::ListDoubtfulRights { .. } => "rights",
        },
        Operation::In(_, operation) => match operation {
            Repository::PullBlob(_) | Repository::DeleteBlob(_) => "blob",
            Repository::PullManifest(_)
            | Repository::PushManifest { .. }
            | Repository::DeleteManifest(_) => "manifest",
            Repository::Upload(Upload::Start(_)) => "start_upload",
            Repository::Upload(Upload::Show(_) | Upload::PushChunk { .. }) => "upload",
            Repository::Upload(Upload::Close { .. } | Upload::Cancel(_)) => "upload",
            Repository::List(List::Tags { .. }) => "tags",
            Repository::List(List::Referrers { .. }) => "referrers",
            Repository::Inspect(Inspect::Layer { .. }) => "layer",
            Repository::Inspect(Inspect::LayerFile { .. }) => "layer_file",
            Repository::Inspect(Inspect::ImageFile { .. }) => "image_file",
            Repository::Invalidate { .. } => "invalidate",
        },
    }
}

/// Makes the table.
macro_rules! end_points {
    ($($name:ident $target:literal $($method:ident $needs:expr),+;)*) => {
        const END_POINTS: &[(&str, &str, &[(&str, Needs)])] = &[
            $((stringify!($name), $target, &[$((stringify!($method), $needs)),+]),)*
        ];
    };
}

end_points! {
    version "/v2/" GET SignIn, HEAD SignIn;
    token "/v2/_strata/token" GET Password, HEAD Password, POST Form;
    metrics "/metrics" GET InRegistry(Metrics), HEAD InRegistry(Metrics);
    healthz "/healthz" GET Nothing, HEAD Nothing;
    readyz "/readyz" GET Nothing, HEAD Nothing;
    extensions "/v2/_oci/ext/discover" GET Entry, HEAD Entry;
    catalog "/v2/_catalog" GET Catalog, HEAD Catalog;
    layer "/v2/NAME/_strata/layers/LAYER" GET In(Pull), HEAD In(Pull);
    layer_file "/v2/NAME/_strata/layers/LAYER/files/etc/passwd" GET In(Pull), HEAD In(Pull);
    image_file "/v2/NAME/_strata/images/v1/files/etc/passwd" GET In(Pull), HEAD In(Pull);
    invalidate "/v2/NAME/_strata/invalidate?tag=v1" POST InByPassword(Administer);
    sweep "/v2/_strata/sweep" POST InRegistry(Administer);
    scrub "/v2/_strata/scrub" POST InRegistry(Administer);
    holders "/v2/_strata/blobs/LAYER" GET InRegistry(Administer), HEAD InRegistry(Administer);
    rights "/v2/_strata/rights" GET InRegistry(Administer), HEAD InRegistry(Administer);
    blob "/v2/NAME/blobs/LAYER" GET In(Pull), HEAD In(Pull), DELETE In(Delete);
    manifest "/v2/NAME/manifests/v1" GET In(Pull), HEAD In(Pull), PUT In(Push), DELETE In(Delete);
    start_upload "/v2/NAME/blobs/uploads/" POST In(Push);
    upload "/v2/NAME/blobs/uploads/00112233445566778899aabbccddeeff?digest=LAYER"
        GET In(Push), PATCH In(Push), PUT In(Push), DELETE In(Push);
    tags "/v2/NAME/tags/list" GET In(Pull), HEAD In(Pull);
    referrers "/v2/NAME/referrers/LAYER" GET In(Pull), HEAD In(Pull);
}

/// Every method that an end-point may have, and one that no end-point has.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// Repositories that exist, and one beside them that does not.
const NAMES: [&str; 4] = ["public/a", "team/a", "private/a", "private/none"];

const USERS: [(&str, &[&str]); 5] = [
    ("root", &[]),
    ("ann", &["team"]),
    ("auditor", &[]),
    ("prometheus", &[]),
    ("guest", &[]),
];

/// Rules and their effect: caller, prefix of repositories (`/` for the registry as a whole),
/// actions.
struct Case {
    name: &'static str,
    rules: Option<Value>,
    anonymous_pull: bool,
    /// Whether anonymous callers may do anything.
    is_open: bool,
    may: &'static [(&'static str, &'static str, &'static [Action])],
}

fn cases() -> Vec<Case> {
    const ALL: &[Action] = &Action::ALL;
    vec![
        Case {
            name: "by default",
            rules: None,
            anonymous_pull: false,
            is_open: false,
            may: &[("user", "", ALL)],
        },
        Case {
            name: "with anonymous pull",
            rules: None,
            anonymous_pull: true,
            is_open: true,
            may: &[("user", "", ALL), ("", "", &[Pull])],
        },
        Case {
            name: "with rules",
            rules: Some(json!([
                { "repositories": ["**"], "who": ["user:root"], "may": ["pull", "push", "overwrite", "delete", "administer", "metrics"] },
                { "repositories": ["team/**"], "who": ["group:team"], "may": ["pull", "push"] },
                { "repositories": ["team/**"], "who": ["user:auditor"], "may": ["pull"] },
                { "repositories": ["public/**"], "who": ["everyone"], "may": ["pull"] },
                { "repositories": ["**"], "who": ["user:prometheus"], "may": ["metrics"] },
            ])),
            anonymous_pull: false,
            is_open: true,
            may: &[
                ("root", "", ALL),
                ("ann", "team/", &[Pull, Push]),
                ("auditor", "team/", &[Pull]),
                ("", "public/", &[Pull]),
                ("user", "public/", &[Pull]),
                ("prometheus", "", &[Metrics]),
            ],
        },
        Case {
            name: "with rules and anonymous pull",
            rules: Some(json!([
                { "repositories": ["private/**"], "who": ["user:root", "group:team"], "may": ["pull", "delete", "overwrite"] },
                { "repositories": ["private/**"], "who": ["everyone"], "may": [] },
                { "repositories": ["**"], "who": ["group:team"], "may": ["pull", "push", "metrics"] },
            ])),
            anonymous_pull: true,
            is_open: true,
            may: &[
                ("root", "private/", &[Pull, Delete, Overwrite]),
                ("ann", "private/", &[Pull, Delete, Overwrite]),
                ("user", "private/", &[]),
                ("", "private/", &[]),
                ("ann", "", &[Pull, Push, Metrics]),
                ("user", "", &[Pull]),
                ("", "", &[Pull]),
            ],
        },
    ]
}

impl Case {
    /// Whether the table allows an action: the first line that matches decides.
    fn allows(&self, user: &str, place: &str, action: Action) -> bool {
        let mut lines = self.may.iter();
        let line = lines.find(|(who, prefix, _)| {
            let is_named = *who == user || (*who == "user" && !user.is_empty());
            is_named && place.starts_with(prefix)
        });
        line.is_some_and(|(.., actions)| actions.contains(&action))
    }

    fn fixture(&self) -> Fixture {
        let users: serde_json::Map<_, _> = USERS
            .iter()
            .map(|(name, groups)| {
                let derived = key(b"secret", &[0; 16], 1);
                let secret = format!(
                    "pbkdf2-sha256$1${}${}",
                    STANDARD_NO_PAD.encode([0; 16]),
                    STANDARD_NO_PAD.encode(derived)
                );
                let user = json!({ "secret": secret, "groups": groups });
                ((*name).to_owned(), user)
            })
            .collect();
        let users = json!({ "users": users }).to_string();
        let operations = Rc::new(Cell::new(0));
        let counted = operations.clone();
        let store = Watched::new(MemoryObjects::default(), move |_, _| {
            counted.set(counted.get() + 1);
            Verdict::Done
        });
        let host = TestHost::default();
        let open =
            json!([{ "repositories": ["**"], "who": ["everyone"], "may": ["pull", "push"] }]);
        let filler = registry_on(
            store.clone(),
            host.clone(),
            &[("STRATA_RULES", &open.to_string())],
        );
        for name in NAMES.iter().take(3) {
            for blob in [LAYER, CONFIG] {
                let target = format!("POST /v2/{name}/blobs/uploads/?digest={}", digest(blob));
                assert_eq!(ask(&filler, &Ask::new(&target).body(blob)).status, 201);
            }
            let push = Ask::new(&format!("PUT /v2/{name}/manifests/v1"));
            assert_eq!(
                ask(&filler, &push.manifest(OCI_MANIFEST, &image())).status,
                201
            );
        }
        let rules = self.rules.as_ref().map(Value::to_string);
        let settings = [
            ("STRATA_USERS", users.as_str()),
            ("STRATA_RULES", rules.as_deref().unwrap_or_default()),
            (
                "STRATA_ANONYMOUS_PULL",
                if self.anonymous_pull { "true" } else { "false" },
            ),
        ];
        Fixture {
            registry: registry_on(store, host, &settings),
            operations,
        }
    }
}

struct Fixture {
    registry: TestRegistry<Watched>,
    operations: Rc<Cell<u32>>,
}

impl Fixture {
    fn ask(&self, line: &str, authorization: Option<&str>) -> Answer {
        let mut request = Ask::new(line).anonymous();
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        if line.starts_with("PUT ") && line.contains("/manifests/") {
            request = request.manifest(OCI_MANIFEST, &image());
        }
        if line.starts_with("POST /v2/_strata/token") {
            let credentials = authorization.and_then(|text| text.strip_prefix("Basic "));
            let decoded = credentials.map(|text| STANDARD.decode(text).unwrap());
            let decoded = String::from_utf8(decoded.unwrap_or_default()).unwrap();
            let (user, password) = decoded.split_once(':').unwrap_or_default();
            request = request
                .header("content-type", "application/x-www-form-urlencoded")
                .body(format!(
                    "grant_type=password&username={user}&password={password}"
                ));
        }
        ask(&self.registry, &request)
    }

    /// A token, as a client requests it.
    fn token(&self, user: &str, scopes: &str) -> Option<String> {
        let basic = basic(user);
        let line = format!("GET /v2/_strata/token?service=strata{scopes}");
        let answer = self.ask(&line, basic.as_deref());
        if answer.status != 200 {
            return None;
        }
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        Some(format!("Bearer {}", body["token"].as_str().unwrap()))
    }
}

fn basic(user: &str) -> Option<String> {
    let encoded = STANDARD.encode(format!("{user}:secret"));
    (!user.is_empty()).then(|| format!("Basic {encoded}"))
}

fn target(template: &str, name: &str) -> String {
    template
        .replace("NAME", name)
        .replace("LAYER", &digest(LAYER).to_string())
}

/// How a caller authenticates.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// By Basic, or not at all.
    Basic,
    /// By a token for all that the caller may do there.
    Token,
    /// By a token for nothing.
    EmptyToken,
}

#[test]
fn every_end_point_has_a_row_of_its_own_with_all_of_its_methods() {
    for (name, template, methods) in END_POINTS {
        let of_row: Vec<&str> = methods.iter().map(|(method, _)| *method).collect();
        for method in METHODS {
            let parsed = Operation::parse(&method.parse().unwrap(), &target(template, "a/b"));
            match parsed {
                Ok(operation) => {
                    assert!(of_row.contains(&method), "{method} of {name}");
                    assert_eq!(row_of(&operation), *name);
                    assert_eq!(EndPoint::of(&operation).name, *name);
                }
                Err(error) => {
                    assert!(!of_row.contains(&method), "{method} of {name}");
                    assert_eq!(error.status(), 405, "{method} of {name}");
                    let mut headers = error.headers().iter();
                    let allow = headers.find(|(header, _)| header == "allow").unwrap();
                    assert_eq!(allow.1, of_row.join(", "), "{name}");
                }
            }
        }
    }
}

/// Each request has exactly one answer that the rules imply. Refused requests were refused without
/// a read of the store.
#[test]
fn rules_decide_at_every_end_point() {
    let mut asked = 0;
    for case in cases() {
        let callers = USERS.iter().map(|(user, _)| *user).chain([""]);
        for user in callers {
            for way in [Way::Basic, Way::Token, Way::EmptyToken] {
                let fixture = case.fixture();
                let scopes = match way {
                    Way::Token => NAMES
                        .iter()
                        .map(|name| format!("&scope=repository:{name}:*"))
                        .chain(["&scope=registry:catalog:*".to_owned()])
                        .collect(),
                    Way::Basic | Way::EmptyToken => String::new(),
                };
                let authorization = match way {
                    Way::Basic => basic(user),
                    Way::Token | Way::EmptyToken => {
                        let token = fixture.token(user, &scopes);
                        assert_eq!(token.is_some(), !user.is_empty() || case.is_open);
                        let Some(token) = token else { continue };
                        Some(token)
                    }
                };
                for (end_point, template, methods) in END_POINTS {
                    for method in METHODS {
                        let needs = methods.iter().find(|(other, _)| *other == method);
                        let needs = needs.map_or(Entry, |(_, needs)| *needs);
                        for name in NAMES {
                            let line = format!("{method} {}", target(template, name));
                            let expected = expected(&case, user, way, needs, name);
                            let before = fixture.operations.get();
                            let answer = fixture.ask(&line, authorization.as_deref());
                            let told = format!(
                                "{}, {user:?} by {way:?}: {end_point} {line}: {}",
                                case.name,
                                String::from_utf8_lossy(&answer.body)
                            );
                            asked += 1;
                            match expected {
                                None => {
                                    assert!(!matches!(answer.status, 401 | 403), "{told}");
                                    assert!(answer.status < 500, "{told}");
                                }
                                Some(status) => {
                                    assert_eq!(answer.status, status, "{told}");
                                    assert_eq!(fixture.operations.get(), before, "{told}");
                                    let challenge = answer.header("www-authenticate");
                                    assert_eq!(challenge.is_some(), status == 401, "{told}");
                                }
                            }
                            if !template.contains("NAME") {
                                break;
                            }
                        }
                    }
                }
            }
        }
    }
    assert!(asked > 10_000, "{asked} requests");
}

/// The status of a refusal; `None` if the request is allowed.
fn expected(case: &Case, user: &str, way: Way, needs: Needs, name: &str) -> Option<u16> {
    let has_token = !matches!(way, Way::Basic);
    let may_enter = !user.is_empty() || case.is_open;
    let (is_allowed, needs_scope) = match needs {
        Nothing => (true, false),
        // A client without credentials is told how to sign in, even if it may do nothing.
        SignIn => (!user.is_empty() || (has_token && case.is_open), false),
        Entry => (may_enter, false),
        Password => (may_enter, has_token),
        Form if has_token => return (!case.is_open).then_some(401),
        Form => (may_enter, false),
        Catalog => (may_enter, matches!(way, Way::EmptyToken)),
        InRegistry(action) => (case.allows(user, "", action), has_token),
        InByPassword(action) => (case.allows(user, name, action), has_token),
        In(action) => (
            case.allows(user, name, action),
            matches!(way, Way::EmptyToken),
        ),
    };
    match (is_allowed, needs_scope) {
        (true, false) => None,
        (true, true) => Some(401),
        (false, _) if user.is_empty() => Some(401),
        (false, _) => Some(403),
    }
}

#[test]
fn only_signed_in_callers_learn_that_an_end_point_is_unknown() {
    let fixture = cases().remove(0).fixture();
    for line in [
        "GET /",
        "GET /v2/nothing",
        "POST /v3/",
        "GET /v2/A/tags/list",
    ] {
        assert_eq!(fixture.ask(line, None).status, 401, "{line}");
        let answer = fixture.ask(line, basic("guest").as_deref());
        assert!(matches!(answer.status, 400 | 404), "{line}");
    }
}

/// The catalogue of a caller has the repositories from which it may pull.
#[test]
fn the_catalog_lists_only_repositories_the_caller_may_pull() {
    for (case, user, expected) in [
        (0, "guest", vec!["private/a", "public/a", "team/a"]),
        (1, "", vec!["private/a", "public/a", "team/a"]),
        (2, "", vec!["public/a"]),
        (2, "ann", vec!["public/a", "team/a"]),
        (2, "prometheus", vec!["public/a"]),
        (2, "root", vec!["private/a", "public/a", "team/a"]),
        (3, "", vec!["public/a", "team/a"]),
        (3, "ann", vec!["private/a", "public/a", "team/a"]),
    ] {
        let fixture = cases().remove(case).fixture();
        let answer = fixture.ask("GET /v2/_catalog", basic(user).as_deref());
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(body, json!({ "repositories": expected }), "{user}");
    }
}

#[test]
fn a_wrong_method_is_logged_with_end_point_and_repository() {
    let host = TestHost::default();
    let told = host.told.clone();
    let registry = registry_on(
        MemoryObjects::timed(host.now.clone()),
        host,
        &[("STRATA_LOG", "requests")],
    );
    assert_eq!(
        ask(&registry, &Ask::new("POST /v2/a/tags/list")).status,
        405
    );
    let log = told.borrow().join("\n");
    for field in [
        r#"("route", "tags")"#,
        r#"("repository", "a")"#,
        r#"("status", "405")"#,
    ] {
        assert!(log.contains(field), "{field}: {log}");
    }
}
