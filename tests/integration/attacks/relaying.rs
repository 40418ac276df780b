//! Tokens that a relay gets for one upload: they continue it, and do nothing else.

use super::*;

const UPLOADS: &str = "/v2/mallory/app/blobs/uploads/";

/// Starts an upload as a relay, and returns its location and its token.
fn begin(fixture: &Fixture, sign: Sign<'_>) -> (String, Option<String>) {
    let start = sign(&format!("POST {UPLOADS}")).header("strata-relay", "0.2.0");
    let answer = fixture.ask(&start);
    assert_eq!(answer.status, 202);
    let location = answer.header("location").unwrap().to_owned();
    (
        location,
        answer.header("strata-upload-token").map(str::to_owned),
    )
}

#[test]
fn an_upload_token_continues_its_upload_after_the_clients_token_expired() {
    let fixture = Fixture::new();
    let pushes = fixture.token("mallory", &["repository:mallory/app:pull,push"]);
    let (location, token) = begin(&fixture, &|line| with(&pushes, line));
    let token = token.unwrap();
    fixture.host.pass(Duration::from_secs(3_600));
    let chunk = |token: &str| with(token, &format!("PATCH {location}")).body("chunk");
    assert_eq!(fixture.status(&chunk(&pushes)), 401, "the client's token");
    let answer = fixture.ask(&chunk(&token));
    assert_eq!(answer.status, 202);
    let location = answer.header("location").unwrap();
    assert_eq!(
        fixture.status(&with(&token, &format!("GET {location}"))),
        204
    );
    let joined = if location.contains('?') { '&' } else { '?' };
    let close = format!("PUT {location}{joined}digest={}", digest(b"chunk"));
    assert_eq!(fixture.status(&with(&token, &close)), 201);
}

#[test]
fn an_upload_token_is_good_for_nothing_else() {
    let fixture = Fixture::new();
    let sign: Sign<'_> = &|line| by("mallory", line);
    let (location, token) = begin(&fixture, sign);
    let (other, _) = begin(&fixture, sign);
    let token = token.unwrap();
    let blob = digest(&layer(PUBLIC));
    for line in [
        format!("POST {UPLOADS}"),
        format!("POST {UPLOADS}?digest={blob}"),
        format!("POST {UPLOADS}?mount={blob}&from=public/app"),
        format!("PATCH {other}"),
        format!("GET {other}"),
        format!("DELETE {other}"),
        format!("PATCH {}", location.replace("mallory/app", "mallory/other")),
        format!("PATCH {}", location.replace("mallory/app", "private/app")),
        format!("HEAD /v2/mallory/app/blobs/{blob}"),
        "GET /v2/mallory/app/manifests/v1".to_owned(),
        "PUT /v2/mallory/app/manifests/v1".to_owned(),
        "GET /v2/mallory/app/tags/list".to_owned(),
        "DELETE /v2/mallory/app/manifests/v1".to_owned(),
        format!("GET /v2/_strata/blobs/{blob}"),
        "GET /metrics".to_owned(),
    ] {
        let answer = fixture.ask(&with(&token, &line));
        assert!(
            matches!(answer.status, 401 | 403),
            "{line}: {}",
            answer.status
        );
        assert_eq!(fixture.operations.borrow().len(), 0, "{line}");
    }
}

#[test]
fn an_upload_token_expires_with_half_of_the_grace_period() {
    let fixture = Fixture::new();
    let (location, token) = begin(&fixture, &|line| by("mallory", line));
    let show = with(&token.unwrap(), &format!("GET {location}"));
    fixture.host.pass(Duration::from_secs(43_199));
    assert_eq!(fixture.status(&show), 204);
    fixture.host.pass(Duration::from_secs(2));
    assert_eq!(fixture.status(&show), 401);
}

#[test]
fn an_upload_token_ends_with_the_users_right_to_push() {
    let fixture = Fixture::new();
    let (location, token) = begin(&fixture, &|line| by("mallory", line));
    let rules = r#"[{"repositories": ["**"], "who": ["users"], "may": ["pull"]}]"#;
    let reopened = fixture.reopened(&[("STRATA_RULES", rules)]);
    let chunk = with(&token.unwrap(), &format!("PATCH {location}")).body("chunk");
    assert_eq!(reopened.status(&chunk), 403);
}

#[test]
fn only_a_relay_gets_an_upload_token() {
    let fixture = Fixture::new();
    let answer = fixture.ask(&by("mallory", &format!("POST {UPLOADS}")));
    assert_eq!(
        (answer.status, answer.header("strata-upload-token")),
        (202, None)
    );
    // And a client cannot request one.
    let id = answer.header("docker-upload-uuid").unwrap();
    let scope = format!("upload:mallory/app:{id}");
    let token = fixture.token("mallory", &[&scope]);
    let chunk = format!("PATCH {}", answer.header("location").unwrap());
    assert_eq!(fixture.status(&with(&token, &chunk).body("chunk")), 401);
}
