//! Attacks on the catalog: names and costs of repositories that the caller cannot pull from.

use super::*;

/// A registry of 3,000 repositories; mallory may pull from every third.
fn fixture() -> Fixture {
    let rules = json!([
        { "repositories": ["**"], "who": ["user:root"], "may": ["pull"] },
        { "repositories": ["*-seen"], "who": ["user:mallory"], "may": ["pull"] },
    ]);
    let fixture = Fixture::new().reopened(&[("STRATA_RULES", &rules.to_string())]);
    for number in 0..3_000 {
        let kind = if number % 3 == 1 { "seen" } else { "secret" };
        let key = key::catalog(&format!("r{number:04}-{kind}").parse().unwrap());
        let put = fixture
            .store
            .memory
            .put(&key, Content::Bytes(Vec::new()), PutOptions::default());
        block_on(put).unwrap();
    }
    fixture
}

#[test]
fn the_catalog_shows_full_pages_of_permitted_repositories() {
    let fixture = fixture();
    for limit in [None, Some(999), Some(100), Some(7)] {
        let mut target = limit.map_or_else(
            || "/v2/_catalog".to_owned(),
            |limit| format!("/v2/_catalog?n={limit}"),
        );
        let mut names = Vec::new();
        loop {
            let answer = fixture.ask(&by("mallory", &format!("GET {target}")));
            let body = json_of(&answer);
            let page: Vec<String> = serde_json::from_value(body["repositories"].clone()).unwrap();
            assert!(page.iter().all(|name| name.ends_with("-seen")));
            let looked = fixture.operations.borrow().len();
            assert!(looked <= 4, "{looked} operations for {limit:?}");
            names.extend(page.iter().cloned());
            let Some(link) = answer.header("link") else {
                break;
            };
            assert_eq!(
                Some(page.len()),
                limit.or(Some(1_000)),
                "a page that is not the last is full"
            );
            assert!(!link.contains("secret"), "{link}");
            let last = page.last().unwrap();
            assert_eq!(
                link,
                format!("</v2/_catalog?n={}&last={last}>; rel=\"next\"", page.len())
            );
            link[1..link.find('>').unwrap()].clone_into(&mut target);
        }
        let expected: Vec<String> = (0..3_000)
            .filter(|number| number % 3 == 1)
            .map(|number| format!("r{number:04}-seen"))
            .collect();
        assert_eq!(names, expected, "{limit:?}");
    }
}

/// The fewer repositories a caller may see, the more are skipped: that must not cost an operation
/// for each name.
#[test]
fn a_catalog_with_nothing_permitted_costs_few_operations() {
    let fixture = fixture();
    for limit in ["0", "1", "2", "1000"] {
        for last in ["", "&last=r1500-secret"] {
            let answer = fixture.ask(&by("carol", &format!("GET /v2/_catalog?n={limit}{last}")));
            assert_eq!(
                (answer.status, json_of(&answer)),
                (200, json!({ "repositories": [] }))
            );
            assert_eq!(answer.header("link"), None);
            let looked = fixture.operations.borrow().len();
            assert!(looked <= 5, "{looked} operations");
        }
    }
}
