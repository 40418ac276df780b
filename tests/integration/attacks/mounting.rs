//! Attacks by mounts: from repositories that the caller cannot pull from.

use super::*;

fn mount(of: &Digest, from: Option<&str>) -> String {
    let from = from.map(|from| format!("&from={from}")).unwrap_or_default();
    format!("POST /v2/mallory/app/blobs/uploads/?mount={of}{from}")
}

/// An answer without the upload's id.
fn told(answer: &Answer, of: &Digest) -> (u16, Vec<(String, String)>, String) {
    let id = answer
        .header("docker-upload-uuid")
        .unwrap_or("-")
        .to_owned();
    said(answer, &[&id, &of.to_string()])
}

#[test]
fn a_mount_needs_the_right_to_pull_from_its_source() {
    let fixture = Fixture::new();
    let (private, nothing) = (digest(&layer(PRIVATE)), digest(b"nowhere"));
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
    // A caller that may pull but not push gets no further.
    assert_eq!(
        fixture.status(&with(&alices, &mount(&private, Some("private/app")))),
        403
    );
}

/// Many clients answer one challenge, so the first one names what a mount needs. It says nothing
/// about the source: a token has the permitted scopes only.
#[test]
fn the_challenge_for_a_mount_names_both_scopes() {
    let fixture = Fixture::new();
    for source in ["public/app", "private/app", "nobody/none"] {
        let mount = mount(&digest(b"nowhere"), Some(source));
        let answer = fixture.ask(&Ask::new(&mount).anonymous());
        assert_eq!(answer.status, 401);
        let challenge = answer.header("www-authenticate").unwrap();
        let scopes =
            format!(",scope=\"repository:mallory/app:pull,push repository:{source}:pull\"");
        assert!(challenge.ends_with(&scopes), "{challenge}");
        assert_eq!(fixture.operations.borrow().len(), 0);
    }
}

/// A token without the source gives no right there. A user that has the right is told which scopes
/// to request, before the blob is looked at if the source is named.
#[test]
fn a_mount_by_a_narrow_token_names_the_scopes_that_it_needs() {
    let fixture = Fixture::new();
    let (public, nothing) = (digest(&layer(PUBLIC)), digest(b"nowhere"));
    let narrow = fixture.token("mallory", &["repository:mallory/app:pull,push"]);
    let scopes = "scope=\"repository:mallory/app:pull,push repository:public/app:pull\",error=\"insufficient_scope\"";
    for (of, from, status) in [
        (&public, Some("public/app"), 401),
        (&public, None, 401),
        (&nothing, Some("public/app"), 401),
        (&nothing, None, 202),
    ] {
        let answer = fixture.ask(&with(&narrow, &mount(of, from)));
        assert_eq!(answer.status, status, "{of} {from:?}");
        let challenge = answer.header("www-authenticate").unwrap_or_default();
        assert_eq!(challenge.ends_with(scopes), status == 401, "{challenge}");
        if from.is_some() {
            assert_eq!(fixture.operations.borrow().len(), 0, "{of} {from:?}");
        }
        assert_eq!(
            fixture.keys(&format!("refs/sha256/{}/mallory/", of.encoded())),
            BTreeSet::new()
        );
    }
}

#[test]
fn a_mount_from_a_repository_with_pull_right_succeeds() {
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
