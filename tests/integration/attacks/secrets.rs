//! Attacks on secrets: replies, logs and metrics never contain them.

use super::*;

/// Every place of a request that could hold a secret, and every place that could reveal it.
#[test]
fn secrets_appear_in_no_reply_log_or_metric() {
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
            by("alice", "PUT /v2/private/app/manifests/v2").manifest(OCI_MANIFEST, &image(PRIVATE)),
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
            // In the path: only the client that sent it may read it again.
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
