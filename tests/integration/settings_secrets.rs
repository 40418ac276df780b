//! Errors about settings: they name the setting, and never contain its value.

use strata::{
    memory::{MemoryBody, MemoryBytes},
    registry::{self, Body},
    settings::Settings,
};

/// Settings that contain a password, each wrong in another way: the name, the text, and the message
/// that the log must have.
fn wrong() -> Vec<(&'static str, String, &'static str)> {
    let upstream = |fields: &str| format!(r#"[{{"name": "up.example", {fields}}}]"#);
    vec![
        (
            "STRATA_UPSTREAMS",
            upstream(r#""address": "https://me:Hunter2@up.example""#),
            "upstream \"up.example\": the address has credentials in it",
        ),
        (
            "STRATA_UPSTREAMS",
            upstream(r#""address": "https://me:Hunter2@up.example/path""#),
            "upstream \"up.example\": the address has a path",
        ),
        (
            "STRATA_UPSTREAMS",
            upstream(r#""address": "http://me:Hun/ter?2#@up.example""#),
            "upstream \"up.example\": the address has a path",
        ),
        (
            "STRATA_UPSTREAMS",
            upstream(r#""address": "https://up.example/?token=Hunter2""#),
            "upstream \"up.example\": the address has a path",
        ),
        (
            "STRATA_UPSTREAMS",
            upstream(r#""address": "https://me:Hunter2 @up.example""#),
            "upstream \"up.example\": the address is not a URL",
        ),
        (
            "STRATA_UPSTREAMS",
            upstream(r#""address": "me:Hunter2@up.example""#),
            "upstream \"up.example\": the address ",
        ),
        (
            "STRATA_UPSTREAMS",
            upstream(r#""redirects": ["https://me:Hunter2@cdn.example"]"#),
            "\"https://…@cdn.example\" is not a host",
        ),
        (
            "STRATA_UPSTREAMS",
            upstream(r#""auth": "https://me:Hun\"ter`2@cdn.example""#),
            "expected a sequence",
        ),
        (
            "STRATA_UPSTREAMS",
            upstream(r#""immutable": ["https://me:Hunter2@up.example"]"#),
            "is not a pattern of names",
        ),
        (
            "STRATA_UPSTREAMS",
            upstream(r#""https://me:Hunter2@up.example": 1"#),
            "unknown field `https://…@up.example`",
        ),
        (
            "STRATA_UPSTREAMS",
            r#"[{"name": "https://me:Hunter2@up.example"}]"#.to_owned(),
            "the name can't be the first component of a repository name",
        ),
        (
            "STRATA_UPSTREAMS",
            r#""https://me:Hunter2@up.example""#.to_owned(),
            "expected a sequence",
        ),
        (
            "STRATA_UPSTREAM_CREDENTIALS",
            r#"{"Hunter2": {"user": "me", "password": "Hunter2"}}"#.to_owned(),
            "an entry names no upstream",
        ),
        (
            "STRATA_UPSTREAM_CREDENTIALS",
            r#"{"up.example": {"user": "me", "Hunter2": "Hunter2"}}"#.to_owned(),
            "line 1, column ",
        ),
        (
            "STRATA_UPSTREAM_CREDENTIALS",
            "Hunter2".to_owned(),
            "line 1, column ",
        ),
        (
            "STRATA_USERS",
            r#"{"users": {"ann": "Hunter2"}}"#.to_owned(),
            "line 1, column ",
        ),
        (
            "STRATA_ORIGIN",
            "https://me:Hunter2@registry.example".to_owned(),
            "\"https://…@registry.example\" is not allowed",
        ),
        (
            "STRATA_ORIGIN",
            "me:Hunter2@registry.example".to_owned(),
            "\"…@registry.example\" is not allowed",
        ),
        (
            "STRATA_RULES",
            r#"[{"repositories": ["https://me:Hunter2@registry.example"]}]"#.to_owned(),
            "is not a pattern of names",
        ),
        (
            "STRATA_RULES",
            r#"[{"repositories": ["a"], "who": ["https://me:Hunter2@h"], "may": []}]"#.to_owned(),
            "unknown caller \"https://…@h\"",
        ),
        (
            "STRATA_RETENTION",
            r#"[{"repositories": ["https://me:Hunter2@registry.example"]}]"#.to_owned(),
            "is not a pattern of names",
        ),
        (
            "STRATA_LOG",
            "https://me:Hunter2@logs.example".to_owned(),
            "\"https://…@logs.example\" is not allowed",
        ),
    ]
}

/// A client gets the name of the setting and nothing of its value, because it has not signed in.
#[test]
fn a_client_learns_only_the_name_of_a_wrong_setting() {
    for (name, text, _) in wrong() {
        let error = Settings::parse(|asked| (asked == name).then(|| text.clone())).unwrap_err();
        let response = registry::refuse::<MemoryBody, MemoryBytes>(&error);
        assert_eq!(response.status().as_u16(), 503, "{text}");
        let Body::Bytes(body) = response.into_body() else {
            unreachable!()
        };
        let body = String::from_utf8(body).unwrap();
        assert!(body.contains(&format!("setting {name} ")), "{body}");
        assert!(!body.contains("unter"), "{body}");
        let others = [
            &*text,
            "up.example",
            "registry.example",
            "cdn.example",
            "line 1",
        ];
        for part in others {
            assert!(!body.contains(part), "{part}: {body}");
        }
    }
}

/// The log has the setting and the reason, and no password either.
#[test]
fn the_reason_of_a_wrong_setting_holds_no_secret() {
    for (name, text, expected) in wrong() {
        let error = Settings::parse(|asked| (asked == name).then(|| text.clone())).unwrap_err();
        let problem = error.problem();
        assert_eq!(error.name(), name);
        assert!(problem.contains(expected), "{problem}\n{text}");
        assert!(!problem.contains("unter"), "{problem}");
    }
}
