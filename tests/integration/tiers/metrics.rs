//! The log and the metrics of requests.

use super::*;

#[test]
fn every_request_is_logged_in_one_line_without_secrets() {
    let world = World::with_image();
    let isolate = world.isolate(&[]);
    world.host.told.borrow_mut().clear();
    let answer = ask(&isolate, &Ask::new(&format!("GET {}", manifest())));
    ask(&isolate, &Ask::new("BREW /v2/").header("cookie", "secret"));
    let told = world.host.told.borrow().clone();
    assert_eq!(told.len(), 2, "{told:?}");
    for field in [
        "(\"method\", \"GET\")",
        "(\"route\", \"manifest\")",
        "(\"repository\", \"a\")",
        "(\"status\", \"200\")",
        "(\"tier\", \"cold\")",
    ] {
        assert!(told[0].contains(field), "{field} is not in {}", told[0]);
    }
    assert!(told[0].contains(answer.header("x-request-id").unwrap()));
    assert!(told[1].contains("(\"method\", \"other\")"));
    let all = format!(
        "{told:?}{}",
        text(&ask(&isolate, &Ask::new("GET /metrics")))
    );
    assert!(
        !all.contains("secret") && !all.contains("ZGV2OnNlY3JldA"),
        "{all}"
    );
    let quiet = world.isolate(&[("STRATA_LOG", "errors")]);
    world.host.told.borrow_mut().clear();
    ask(&quiet, &Ask::new("GET /v2/"));
    assert!(world.host.told.borrow().is_empty());
}

#[test]
fn metrics_add_up_to_a_bill() {
    let world = World::new();
    let metrics = Rc::new(Metrics::new().unwrap());
    let isolate = Registry::<Composed<_, _, TestHost>>::new(
        Counted::new(world.cold.clone(), metrics.clone()),
        Counted::new(world.warm.clone(), metrics.clone()),
        world.host.clone(),
        settings_of(&[]),
        metrics,
    );
    push(&isolate);
    let again = format!("POST /v2/b/blobs/uploads/?digest={}", digest(LAYER));
    assert_eq!(ask(&isolate, &Ask::new(&again).body(LAYER)).status, 201);
    world.host.pass(Duration::from_secs(1));
    popularise(&isolate);
    let metrics = text(&ask(&isolate, &Ask::new("GET /metrics")));
    let value = |name: &str| -> u64 {
        let line = metrics.lines().find(|line| line.starts_with(name));
        let line = line.unwrap_or_else(|| unreachable!("{name} is not in\n{metrics}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    let counted = |tier: &str, operations: &[&str]| {
        let log = world.log.borrow();
        let is_one = |entry: &&String| {
            operations
                .iter()
                .any(|operation| entry.starts_with(&format!("{tier} {operation} ")))
        };
        log.iter().filter(is_one).count() as u64
    };
    assert_eq!(
        value("strata_operations_total{class=\"read\",tier=\"warm\"}"),
        counted("warm", &["get"])
    );
    assert_eq!(
        value("strata_operations_total{class=\"write\",tier=\"warm\"}"),
        3
    );
    assert_eq!(value("strata_blobs_stored_total"), 2);
    assert_eq!(
        value("strata_blob_stored_bytes_total"),
        (LAYER.len() + CONFIG.len()) as u64
    );
    assert_eq!(
        value("strata_blob_deduplicated_bytes_total"),
        LAYER.len() as u64
    );
    assert_eq!(
        value("strata_received_bytes_total"),
        (2 * LAYER.len() + CONFIG.len() + image().to_string().len()) as u64
    );
    assert_eq!(value("strata_tier_promotions_total{kind=\"blob\"}"), 2);
    assert_eq!(
        value("strata_tier_hits_total{kind=\"manifest\",tier=\"hot\"}"),
        2
    );
    assert_eq!(
        value("strata_tier_held_bytes{kind=\"blob\",tier=\"hot\"}"),
        (LAYER.len() + CONFIG.len()) as u64
    );
    assert_eq!(value("strata_requests_in_flight"), 1, "the one that asks");
    assert_eq!(
        value("strata_requests_total{method=\"GET\",route=\"blob\",status=\"200\"}"),
        6
    );
    let sent = 3 * (LAYER.len() + CONFIG.len() + image().to_string().len());
    assert_eq!(value("strata_sent_bytes_total"), sent as u64);
}

#[test]
fn metrics_are_only_for_signed_in_users() {
    let world = World::new();
    let isolate = world.isolate(&[("STRATA_ANONYMOUS_PULL", "true")]);
    assert_eq!(
        ask(&isolate, &Ask::new("GET /metrics").anonymous()).status,
        401
    );
    let answer = ask(&isolate, &Ask::new("GET /metrics"));
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; version=0.0.4")
    );
}
