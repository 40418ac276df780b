//! Requests that the page of another site sends.

use super::*;

#[test]
fn cross_site_tests_cover_every_end_point_and_method() {
    let world = World::new(&[]);
    let mut asked = BTreeSet::new();
    let mut has = BTreeSet::new();
    for (line, _) in requests(&world.upload) {
        let (asked_by, target) = line.split_once(' ').unwrap();
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] {
            let operation = Operation::parse(&method.parse().unwrap(), target);
            if let Ok(operation) = operation {
                let name = EndPoint::of(&operation).name;
                has.insert((name, method.to_owned()));
                asked.insert((name, asked_by.to_owned()));
            }
        }
    }
    let missing: Vec<_> = has.difference(&asked).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let names: BTreeSet<_> = has.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), 20, "{names:?}");
}

#[test]
fn cross_site_requests_cause_only_reads_of_stored_objects() {
    let lines = requests(&World::new(&[]).upload);
    for (line, is_allowed) in lines {
        let expected = World::new(&[]).ask(&Ask::new(&line));
        assert!(!text(&expected).contains("another site"), "{line}");
        for headers in OWN {
            let answer = World::new(&[]).ask(&with(&line, headers));
            assert_eq!(answer, expected, "{line} {headers:?}");
        }
        for headers in FOREIGN {
            let world = World::new(&[]);
            let answer = world.ask(&with(&line, headers));
            if is_allowed {
                assert_eq!(answer, expected, "{line} {headers:?}");
                continue;
            }
            assert_eq!(answer.status, 403, "{line} {headers:?}: {}", text(&answer));
            assert!(line.starts_with("HEAD") || text(&answer).contains(r#""code":"DENIED""#));
            assert!(line.starts_with("HEAD") || text(&answer).contains("a page of another site"));
            // No request went to a store or an upstream, and no password was verified.
            assert_eq!(
                (world.log.take(), world.host.derived.get()),
                (Vec::new(), 1),
                "{line}"
            );
        }
    }
}

#[test]
fn cross_site_requests_are_refused_with_any_credentials() {
    let token = {
        let scope = "repository:a:*";
        let line = format!("GET /v2/_strata/token?service=strata&scope={scope}");
        let answer = World::new(&[]).ask(&Ask::new(&line));
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        format!("Bearer {}", body["token"].as_str().unwrap())
    };
    for line in ["DELETE /v2/a/manifests/v1", "POST /v2/a/blobs/uploads/"] {
        for authorization in [None, Some("Basic d3Jvbmc6d3Jvbmc="), Some(&*token)] {
            let world = World::new(&[]);
            let mut request = with(line, FOREIGN[0]).anonymous();
            if let Some(authorization) = authorization {
                request = request.header("authorization", authorization);
            }
            let answer = world.ask(&request);
            assert_eq!(
                (answer.status, world.log.take()),
                (403, Vec::new()),
                "{line}"
            );
        }
        // From the registry's own page, the same token is accepted.
        let own = with(line, OWN[0])
            .anonymous()
            .header("authorization", token.as_str());
        assert_eq!(World::new(&[]).ask(&own).status, 202, "{line}");
    }
}

#[test]
fn cross_site_requests_are_judged_by_strata_origin() {
    let settings = [("STRATA_ORIGIN", "https://public.example")];
    for (origin, status) in [
        ("https://public.example", 202),
        ("https://public.example:443", 202),
        ("http://registry.example", 403),
        ("http://public.example", 403),
        ("null", 403),
    ] {
        let request = Ask::new("POST /v2/a/blobs/uploads/").header("origin", origin);
        assert_eq!(
            World::new(&settings).ask(&request).status,
            status,
            "{origin}"
        );
    }
}

#[test]
fn refused_cross_site_requests_are_audited() {
    let world = World::new(&[]);
    world.host.told.borrow_mut().clear();
    world.ask(&with("POST /v2/_strata/sweep", FOREIGN[0]));
    let told = world.host.told.borrow();
    assert!(
        told.iter()
            .any(|line| line.contains("audit") && line.contains("refused")),
        "{told:?}"
    );
}
