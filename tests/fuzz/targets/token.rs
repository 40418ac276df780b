//! Signing in: no header signs in without a secret; a token allows only what its user may do.

use base64::{Engine as _, engine::general_purpose::{STANDARD, STANDARD_NO_PAD}};
use pollster::block_on;
use sha2::{Digest as _, Sha256};
use strata::{
    access::{Access, Caller, Need, Visit, rule::Action},
    memory::MemoryHost,
    name::Name,
    time::Timestamp,
};

use crate::input::Input;

const CREDENTIAL: &str = "strata_0123456789abcdefghijklmnopqrstuvwxyzABCD";

const RULES: &str = r#"[
    {"repositories": ["team/**"], "who": ["group:team"], "may": ["pull", "push"]},
    {"repositories": ["open/*"], "who": ["everyone"], "may": ["pull"]}
]"#;

pub(crate) const WORDS: &[&[u8]] = &[
    b"Bearer ",
    b"Basic ",
    b"YW5uOg==",
    b"repository:",
    b"repository(class):",
    b"registry:catalog:*",
    b":pull,push",
    b":delete",
    b":*",
    b"team/a",
    b"open/a",
    b"eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0",
];

fn host() -> MemoryHost {
    MemoryHost::new([7; 16], Timestamp(1_800_000_000_000))
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let basic = STANDARD.encode(format!("ann:{CREDENTIAL}"));
    let mut seeds = [
        "\x00repository:team/a:pull,push\nrepository:open/a:*\nregistry:catalog:*".to_owned(),
        "\x01repository:team/a:pull\nrepository(x):host:5000/a:delete".to_owned(),
        "\x02\x00\x05\x00A\x20\x00B".to_owned(),
        format!("\x03Basic {basic}"),
        "\x03Bearer a.b.c".to_owned(),
        "\x03Basic Og==".to_owned(),
    ]
    .map(String::into_bytes)
    .to_vec();
    // A token whose header, claims or signature has another first letter.
    let token = token(&access());
    let parts = token.match_indices('.').map(|(dot, _)| dot + 1);
    for at in [0].into_iter().chain(parts) {
        let letter = if token.as_bytes()[at] == b'A' { b'B' } else { b'A' };
        let [low, high, ..] = at.to_le_bytes();
        seeds.push(vec![2, low, high, letter]);
    }
    seeds
}

fn access() -> Access {
    let salt = [1; 16];
    let key = Sha256::new().chain_update(salt).chain_update(CREDENTIAL).finalize();
    let secret = format!("token-sha256${}${}", STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(key));
    let users = format!(r#"{{"users": {{"ann": {{"secret": "{secret}", "groups": ["team"]}}}}}}"#);
    Access::parse(Some(&users), Some(RULES), false).unwrap()
}

/// A token of the user, for pulls.
fn token(access: &Access) -> String {
    let basic = format!("Basic {}", STANDARD.encode(format!("ann:{CREDENTIAL}")));
    let user = identify(access, Some(&basic)).expect("the user signs in");
    let scopes = ["repository:team/a:pull"];
    access.issue(&user, visit(None), scopes, |name| name, &host()).unwrap().0
}

fn visit(authorization: Option<&str>) -> Visit<'_> {
    Visit {
        authorization,
        address: "192.0.2.1",
        origin: "https://registry.example.com",
        source: None,
    }
}

fn identify(access: &Access, authorization: Option<&str>) -> Option<Caller> {
    block_on(access.identify(visit(authorization), Need::Token, &host())).ok()
}

pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    let mode = input.below(4);
    let access = access();
    let basic = format!("Basic {}", STANDARD.encode(format!("ann:{CREDENTIAL}")));
    let user = identify(&access, Some(&basic)).expect("the user signs in");
    match mode {
        0 => scopes(&access, &user, &input.text()),
        1 => scopes(&access, &identify(&access, None).unwrap(), &input.text()),
        2 => changed(&access, &mut input),
        _ => {
            let header = input.text();
            if let Some(caller) = identify(&access, Some(&header)) {
                let (_, sent) = header.split_once(' ').unwrap();
                let sent = STANDARD.decode(sent.trim()).unwrap();
                let expected = caller.user().map_or(":".to_owned(), |_| format!("ann:{CREDENTIAL}"));
                assert_eq!(sent, expected.as_bytes(), "{header} signs in");
            }
        }
    }
}

/// A token allows only actions that its scopes name and its user may do.
fn scopes(access: &Access, caller: &Caller, text: &str) {
    let (token, claims) = access.issue(caller, visit(None), text.split('\n'), |name| name, &host()).unwrap();
    let by_token = identify(access, Some(&format!("Bearer {token}"))).expect("a token signs in");
    assert_eq!(by_token.user(), caller.user());
    let may = |caller, name: &Name, action| {
        let need = Need::Repository(name, action);
        access.permit(caller, need, visit(Some("x"))).is_ok()
    };
    let names = ["team/a", "open/a", "other"].map(|name| name.parse::<Name>().unwrap());
    for name in &names {
        for action in Action::ALL {
            if may(&by_token, name, action) {
                assert!(may(caller, name, action), "{action:?} in {name} by a token for {text}");
                assert!(text.contains(name.as_str()), "{name} by a token for {text}");
            }
        }
    }
    for grant in &claims.access {
        let scope = grant.scope();
        let (kind, rest) = scope.split_once(':').unwrap();
        let (name, actions) = rest.rsplit_once(':').unwrap();
        if kind == "registry" {
            continue;
        }
        let name: Name = name.parse().expect("a grant names a repository");
        for action in Action::ALL {
            if actions.split(',').any(|word| word == action.name()) {
                assert!(may(caller, &name, action), "{scope} in a token");
                assert!(may(&by_token, &name, action), "{scope} in a token that does not give it");
            }
        }
    }
}

/// A changed token is refused.
fn changed(access: &Access, input: &mut Input<'_>) {
    let token = token(access);
    let mut bytes = token.clone().into_bytes();
    while !input.is_empty() {
        let at = input.word() % (bytes.len() + 1);
        match input.byte() {
            b'-' if at < bytes.len() => drop(bytes.remove(at)),
            b'+' => bytes.insert(at, input.byte()),
            byte if at < bytes.len() => bytes[at] = byte,
            _ => {}
        }
        if bytes.is_empty() {
            return;
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    let caller = identify(access, Some(&format!("Bearer {text}")));
    assert_eq!(caller.is_some(), text.trim() == token, "the token {text}");
}
