//! Credentials of upstreams: where they may be sent, and how many tokens are kept.

use std::{cell::RefCell, collections::BTreeSet, rc::Rc, time::Duration};

use serde_json::json;
use strata::upstream::Upstreams;
use strata_support::{
    Ask, ask,
    mirrors::{Mirrors, says, target},
    registry_on,
};

/// Whether the credentials of an upstream with this name and address may be sent to a realm.
fn may_ask(name: &str, address: &str, is_insecure: bool, realm: &str) -> bool {
    let upstream = json!([{
        "name": name, "address": address, "insecure": is_insecure, "auth": ["named.example"],
    }]);
    let upstreams = Upstreams::parse(Some(&upstream.to_string()), None).unwrap();
    let repository = format!("{name}/app").parse().unwrap();
    let mirrored = upstreams.resolve(&repository, None).unwrap().unwrap();
    mirrored.upstream.may_give_tokens(realm)
}

/// A trusted realm is on the upstream's own origin, on a host in `auth`, or below the upstream's
/// name; the last only if that name is a domain to which the address belongs.
#[test]
fn credentials_go_to_the_upstreams_own_domain_only() {
    const HUB: (&str, &str) = ("docker.io", "https://registry-1.docker.io");
    for ((name, address), realm, expected) in [
        // The name is a parent of the address' host, or the host itself.
        (HUB, "https://auth.docker.io/token", true),
        (HUB, "https://docker.io/token", true),
        (HUB, "https://registry-1.docker.io/token", true),
        (HUB, "https://a.b.docker.io/token", true),
        (
            ("ghcr.io", "https://ghcr.io"),
            "https://ghcr.io/token",
            true,
        ),
        (
            ("ghcr.io", "https://ghcr.io"),
            "https://auth.ghcr.io/token",
            true,
        ),
        // A name without a dot is not a domain: anybody may own a host that ends with it.
        (
            ("dev", "https://registry.example.dev"),
            "https://attacker.dev/token",
            false,
        ),
        (
            ("dev", "https://registry.example.dev"),
            "https://example.dev/token",
            false,
        ),
        (
            ("dev", "https://registry.example.dev"),
            "https://registry.example.dev/token",
            true,
        ),
        (
            ("dev", "https://registry.example.dev"),
            "https://registry.example.dev:444/token",
            false,
        ),
        (
            ("io", "https://registry-1.docker.io"),
            "https://auth.docker.io/token",
            false,
        ),
        // A name to which the address does not belong may have another owner.
        (
            ("mirror.example", "https://registry.other.example"),
            "https://mirror.example/t",
            false,
        ),
        (
            ("mirror.example", "https://registry.other.example"),
            "https://a.mirror.example/t",
            false,
        ),
        (
            ("docker.io", "https://registry.example"),
            "https://auth.docker.io/token",
            false,
        ),
        (
            ("ocker.io", "https://registry-1.docker.io"),
            "https://auth.ocker.io/token",
            false,
        ),
        // The address' host is above the name, and not below it.
        (
            ("r.docker.io", "https://docker.io"),
            "https://r.docker.io/token",
            false,
        ),
        // Hosts that only look alike.
        (HUB, "https://evildocker.io/token", false),
        (HUB, "https://docker.io.evil.example/token", false),
        (HUB, "https://auth-docker.io/token", false),
        (HUB, "https://evil.example/docker.io", false),
        (HUB, "https://evil.example/?auth.docker.io", false),
        (HUB, "https://evil.example#auth.docker.io", false),
        // Ports, schemes, capitals and the dot at the end.
        (HUB, "https://auth.docker.io:443/token", true),
        (HUB, "https://auth.docker.io:444/token", false),
        (HUB, "http://auth.docker.io/token", false),
        (HUB, "HTTPS://AUTH.DOCKER.IO/token", true),
        (HUB, "https://auth.docker.io./token", true),
        (HUB, "https://AUTH.Docker.io.:443/token", true),
        (
            ("docker.io", "https://REGISTRY-1.docker.io."),
            "https://auth.docker.io/token",
            true,
        ),
        // Credentials in the realm, and addresses that parsers read differently.
        (HUB, "https://me:word@auth.docker.io/token", false),
        (HUB, "https://auth.docker.io@evil.example/token", false),
        (HUB, "https://evil.example\\@auth.docker.io/token", false),
        (HUB, "https://evil.example\\.docker.io/token", false),
        (HUB, "https://evil.example%2f.docker.io/token", false),
        (HUB, "https://evil.example%00.docker.io/token", false),
        (HUB, "https://evil.example\t.docker.io/token", false),
        (HUB, "https://evil.example .docker.io/token", false),
        (HUB, "https:evil.example/.docker.io", false),
        (HUB, "//auth.docker.io/token", false),
        (HUB, "auth.docker.io/token", false),
        // Names outside of ASCII are written in Punycode, or not at all.
        (HUB, "https://аuth.docker.io/token", false),
        (HUB, "https://xn--uth-5cd.docker.io/token", true),
        (HUB, "https://auth。docker.io/token", false),
        // IP addresses.
        (HUB, "https://127.0.0.1/token", false),
        (HUB, "https://[::1]/token", false),
        (HUB, "https://2130706433/token", false),
        // Public suffixes are not known here: an upstream with such a name trusts every host below
        // it. docs/mirror.md says what to do instead.
        (
            ("co.uk", "https://registry.example.co.uk"),
            "https://attacker.co.uk/token",
            true,
        ),
        (
            ("github.io", "https://me.github.io"),
            "https://attacker.github.io/token",
            true,
        ),
        (
            ("me.github.io", "https://me.github.io"),
            "https://attacker.github.io/token",
            false,
        ),
        // Hosts that the settings name.
        (HUB, "https://named.example/token", true),
        (HUB, "https://named.example:444/token", false),
        (HUB, "https://a.named.example/token", false),
    ] {
        let found = may_ask(name, address, false, realm);
        assert_eq!(found, expected, "{name} at {address}, tokens at {realm}");
    }
}

/// An upstream for development may be an IP address, or use http; its neighbours are not trusted
/// because of that.
#[test]
fn credentials_stay_at_an_insecure_upstream() {
    for (name, address, realm, expected) in [
        (
            "local",
            "http://127.0.0.1:5000",
            "http://127.0.0.1:5000/token",
            true,
        ),
        (
            "local",
            "http://127.0.0.1:5000",
            "http://127.0.0.1:5001/token",
            false,
        ),
        (
            "local",
            "http://127.0.0.1:5000",
            "http://127.0.0.1/token",
            false,
        ),
        (
            "127.0.0.1",
            "http://127.0.0.1:5000",
            "http://127.0.0.1/token",
            false,
        ),
        (
            "127.0.0.1",
            "http://127.0.0.1:5000",
            "http://evil.127.0.0.1/token",
            false,
        ),
        (
            "0.0.1",
            "http://127.0.0.1:5000",
            "http://10.0.0.1/token",
            false,
        ),
        (
            "localhost",
            "http://localhost:5000",
            "http://evil.localhost/token",
            false,
        ),
        (
            "local",
            "http://registry.local",
            "http://evil.local/token",
            false,
        ),
        (
            "lab.example",
            "http://r.lab.example",
            "http://auth.lab.example/token",
            true,
        ),
        (
            "lab.example",
            "http://r.lab.example",
            "https://auth.lab.example/token",
            true,
        ),
        // An https upstream sends no password over http.
        (
            "lab.example",
            "https://r.lab.example",
            "http://auth.lab.example/token",
            false,
        ),
        (
            "lab.example",
            "https://r.lab.example",
            "http://r.lab.example/token",
            false,
        ),
        // Nor to a host of `auth`.
        (
            "lab.example",
            "https://r.lab.example",
            "http://named.example/token",
            false,
        ),
        (
            "lab.example",
            "http://r.lab.example",
            "http://named.example/token",
            true,
        ),
    ] {
        let found = may_ask(name, address, true, realm);
        assert_eq!(found, expected, "{name} at {address}, tokens at {realm}");
    }
}

/// The credentials of an upstream called `dev` are not sent to hosts below `.dev`.
#[test]
fn a_foreign_token_realm_gets_no_credentials() {
    let sent = Rc::<RefCell<Vec<String>>>::default();
    let seen = sent.clone();
    let mirrors = Mirrors::of(move |question| {
        let authorization = question.headers.get("authorization");
        let authorization = authorization.map(|value| value.to_str().unwrap().to_owned());
        seen.borrow_mut()
            .push(format!("{} {authorization:?}", question.url));
        let realm = "Bearer realm=\"https://attacker.dev/token\"";
        says(401, &[("www-authenticate", realm)], "")
    });
    let settings = [
        (
            "STRATA_UPSTREAMS",
            r#"[{"name": "dev", "address": "https://registry.example.dev"}]"#,
        ),
        (
            "STRATA_UPSTREAM_CREDENTIALS",
            r#"{"dev": {"user": "me", "password": "Hunter2"}}"#,
        ),
    ];
    let mirror = registry_on(mirrors.store.clone(), mirrors.host.clone(), &settings);
    let answer = ask(&mirror, &Ask::new("GET /v2/dev/app/manifests/v1"));
    assert_eq!(answer.status, 502);
    let body = String::from_utf8(answer.body).unwrap();
    assert!(
        body.contains("the token realm is on attacker.dev"),
        "{body}"
    );
    assert_eq!(
        *sent.borrow(),
        ["https://registry.example.dev/v2/app/manifests/v1 None"]
    );
}

/// An upstream that issues a token for each repository, with this lifetime in seconds and this
/// length; and the repositories for which a token was requested.
fn giving(expires_in: u64, length: usize) -> (Mirrors, Rc<RefCell<Vec<String>>>) {
    let given = Rc::<RefCell<Vec<String>>>::default();
    let asked = given.clone();
    let mirrors = Mirrors::of(move |question| {
        if let Some(scope) = target(question).strip_prefix("/token?scope=") {
            asked.borrow_mut().push(scope.to_owned());
            let token = "t".repeat(length);
            let body = json!({ "token": token, "expires_in": expires_in });
            return says(200, &[], body.to_string());
        }
        if question.headers.contains_key("authorization") {
            return says(404, &[], "");
        }
        let realm = "Bearer realm=\"https://up.example/token\"";
        says(401, &[("www-authenticate", realm)], "")
    });
    (mirrors, given)
}

/// Pulls from a number of repositories; returns for how many of them a token was requested.
fn pull(
    mirrors: &Mirrors,
    given: &RefCell<Vec<String>>,
    names: impl Iterator<Item = u32>,
) -> usize {
    let mirror = mirrors.mirror(&json!({}));
    pull_from(&mirror, given, names)
}

fn pull_from(
    mirror: &strata_support::TestRegistry<strata_support::watched::Watched>,
    given: &RefCell<Vec<String>>,
    names: impl Iterator<Item = u32>,
) -> usize {
    given.borrow_mut().clear();
    for number in names {
        let line = format!("GET /v2/up.example/app-{number}/manifests/v1");
        let answer = ask(mirror, &Ask::new(&line));
        assert_eq!(answer.status, 404);
    }
    given.borrow().iter().collect::<BTreeSet<_>>().len()
}

/// How many of these repositories still have a token.
fn kept(length: usize, names: u32) -> usize {
    let (mirrors, given) = giving(100_000, length);
    let mirror = mirrors.mirror(&json!({}));
    let asked = pull_from(&mirror, &given, 0..names);
    assert_eq!(asked, usize::try_from(names).unwrap());
    // The cached "not found" expires, so the upstream is asked again.
    mirrors.host.pass(Duration::from_secs(60));
    // The last one first, because each new token evicts another.
    usize::try_from(names).unwrap() - pull_from(&mirror, &given, (0..names).rev())
}

#[test]
fn at_most_a_thousand_upstream_tokens_are_kept() {
    let kept = kept(100, 3_000);
    assert!((900..=1_000).contains(&kept), "{kept} are kept");
}

#[test]
fn upstream_tokens_take_bounded_memory() {
    let kept = kept(60_000, 200);
    let bytes = kept * 60_000;
    assert!(
        (1 << 20..=4 << 20).contains(&bytes),
        "{bytes} bytes are kept"
    );
}

/// A token is kept for an hour at most, even if the upstream states a longer lifetime.
#[test]
fn upstream_tokens_are_kept_for_an_hour_at_most() {
    let (mirrors, given) = giving(1_000_000, 100);
    let mirror = mirrors.mirror(&json!({}));
    assert_eq!(pull_from(&mirror, &given, 0..1), 1);
    mirrors.host.pass(Duration::from_secs(3_500));
    assert_eq!(pull_from(&mirror, &given, 0..1), 0);
    mirrors.host.pass(Duration::from_secs(100));
    assert_eq!(pull_from(&mirror, &given, 0..1), 1);
}

/// A lifetime beyond the range of a number, or one of zero, causes no failure.
#[test]
fn upstream_tokens_of_any_lifetime_are_used() {
    for expires_in in [0, 1, u64::MAX] {
        let (mirrors, given) = giving(expires_in, 100);
        assert_eq!(pull(&mirrors, &given, 0..2), 2, "{expires_in}");
    }
}
