//! The audit log: a line for each change and each refusal.

use super::*;

/// Sends a request, and expects this line in the audit log, or none.
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
fn the_audit_log_has_a_line_for_each_change_and_refusal() {
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
