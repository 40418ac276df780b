//! Tags that are believed for a stated time.

use super::*;

const BELIEVING: [(&str, &str); 3] = [
    ("STRATA_ANONYMOUS_PULL", "true"),
    ("STRATA_WARM_READS", "255"),
    ("STRATA_TAG_SECONDS", "5"),
];

const PULL: &str = "GET /v2/a/manifests/v1";

/// Another image, and its digest.
fn moved() -> (serde_json::Value, String) {
    let mut image = image();
    image["annotations"] = json!({ "moved": "yes" });
    let digest = digest(image.to_string().as_bytes()).to_string();
    (image, digest)
}

/// The digest that a pull by tag gets, and its operations.
fn pull(world: &World, isolate: &Isolate, request: &Ask) -> (Option<String>, Vec<String>) {
    let (answer, operations) = world.ask(isolate, request);
    assert!([200, 404].contains(&answer.status), "{answer:?}");
    let digest = answer.header("docker-content-digest").map(str::to_owned);
    (digest.filter(|_| answer.status == 200), operations)
}

fn retag(isolate: &Isolate, image: &serde_json::Value) {
    let request = Ask::new("PUT /v2/a/manifests/v1").manifest(OCI_MANIFEST, image);
    assert_eq!(ask(isolate, &request).status, 201);
}

fn first() -> String {
    digest(image().to_string().as_bytes()).to_string()
}

#[test]
fn a_believed_tag_costs_no_operation_for_the_stated_time() {
    let world = World::with_image();
    let isolate = world.isolate(&BELIEVING);
    let anonymous = Ask::new(PULL).anonymous();
    let cold = ["cold head tag", "warm get manifest", "cold get manifest"];
    assert_eq!(pull(&world, &isolate, &anonymous).1, cold);
    world.host.pass(Duration::from_millis(4_999));
    let (answer, operations) = world.ask(&isolate, &anonymous);
    assert!(operations.is_empty(), "{operations:?}");
    let timing = answer.header("server-timing").unwrap();
    assert_eq!(timing, "tag;desc=hot;dur=0, manifest;desc=hot;dur=0");
    // Another isolate moves the tag: it is served for the time since it was read.
    let (image, moved) = moved();
    retag(&world.isolate(&[]), &image);
    assert_eq!(pull(&world, &isolate, &anonymous).0, Some(first()));
    world.host.pass(Duration::from_millis(1));
    let (found, operations) = pull(&world, &isolate, &anonymous);
    assert_eq!((found, &*operations[0]), (Some(moved), "cold head tag"));
    // Without the setting, each pull by tag is one read.
    let isolate = world.isolate(&BELIEVING[..2]);
    pull(&world, &isolate, &anonymous);
    for _ in 0..2 {
        assert_eq!(pull(&world, &isolate, &anonymous).1, ["cold head tag"]);
    }
}

#[test]
fn a_caller_that_can_change_a_tag_always_gets_the_fresh_one() {
    for action in ["push", "overwrite", "delete", "administer"] {
        let world = World::with_image();
        let rules = json!([
            { "repositories": ["a"], "who": ["user:dev"], "may": ["pull", action] },
            { "repositories": ["a"], "who": ["everyone"], "may": ["pull"] },
        ]);
        let rules = rules.to_string();
        let isolate = world.isolate(&[("STRATA_RULES", &rules), BELIEVING[1], BELIEVING[2]]);
        let scope = "GET /v2/_strata/token?service=strata&scope=repository:a:pull";
        let token: serde_json::Value =
            serde_json::from_slice(&ask(&isolate, &Ask::new(scope)).body).unwrap();
        let bearer = format!("Bearer {}", token["token"].as_str().unwrap());
        let anonymous = Ask::new(PULL).anonymous();
        pull(&world, &isolate, &anonymous);
        let (image, moved) = moved();
        retag(&world.isolate(&[]), &image);
        assert_eq!(pull(&world, &isolate, &anonymous).0, Some(first()));
        for own in [
            Ask::new(PULL),
            Ask::new(PULL).anonymous().header("authorization", bearer),
        ] {
            let (found, operations) = pull(&world, &isolate, &own);
            assert_eq!(found.as_ref(), Some(&moved), "{action}");
            assert_eq!(operations[0], "cold head tag", "{action}");
        }
        // What such a caller read is believed for the others.
        assert_eq!(pull(&world, &isolate, &anonymous), (Some(moved), vec![]));
    }
}

#[test]
fn a_change_through_the_isolate_itself_ends_the_belief() {
    let world = World::with_image();
    let isolate = world.isolate(&BELIEVING);
    let anonymous = Ask::new(PULL).anonymous();
    let (image, moved) = moved();
    assert_eq!(pull(&world, &isolate, &anonymous).0, Some(first()));
    retag(&isolate, &image);
    assert_eq!(pull(&world, &isolate, &anonymous).0, Some(moved.clone()));
    for target in ["v1".to_owned(), moved] {
        retag(&isolate, &image);
        world.host.pass(Duration::from_millis(1));
        assert!(pull(&world, &isolate, &anonymous).0.is_some());
        assert!(pull(&world, &isolate, &anonymous).1.is_empty());
        let delete = Ask::new(&format!("DELETE /v2/a/manifests/{target}"));
        assert_eq!(ask(&isolate, &delete).status, 202);
        for _ in 0..2 {
            let (found, operations) = pull(&world, &isolate, &anonymous);
            assert_eq!(
                (found, &*operations),
                (None, &["cold head tag".to_owned()][..])
            );
        }
    }
    // A push that failed may have been done.
    push(&isolate);
    world.host.pass(Duration::from_millis(1));
    assert_eq!(pull(&world, &isolate, &anonymous).0, Some(first()));
    let kept = Verdict::Kept(StoreError::Failed("made to fail".to_owned()));
    world.fail("cold put tag", 1, kept);
    let request = Ask::new("PUT /v2/a/manifests/v1").manifest(OCI_MANIFEST, &image);
    assert_eq!(ask(&isolate, &request).status, 503);
    assert_ne!(pull(&world, &isolate, &anonymous).0, Some(first()));
}

#[test]
fn a_read_under_way_believes_no_tag_that_was_moved_meanwhile() {
    let anonymous = Ask::new(PULL).anonymous();
    let (image, moved) = moved();
    for lead in 0..8 {
        let world = World::with_image();
        let isolate = world.isolate(&BELIEVING);
        let mut pulling = Box::pin(ask_now(&isolate, &anonymous));
        let context = &mut Context::from_waker(noop_waker_ref());
        let is_done = (0..lead).any(|_| pulling.as_mut().poll(context).is_ready());
        retag(&isolate, &image);
        if !is_done {
            block_on(pulling);
        }
        let (found, _) = pull(&world, &isolate, &anonymous);
        assert_eq!(found.as_ref(), Some(&moved), "after {lead} steps");
    }
}

#[test]
fn an_absent_tag_or_manifest_is_not_believed() {
    let world = World::with_image();
    let settings = [("STRATA_HOT_BYTES", "0"), ("STRATA_WARM_SECONDS", "0")];
    let isolate = world.isolate(&[&BELIEVING[..], &settings].concat());
    let missing = Ask::new("GET /v2/a/manifests/v2").anonymous();
    for _ in 0..2 {
        assert_eq!(
            pull(&world, &isolate, &missing),
            (None, vec!["cold head tag".to_owned()])
        );
    }
    // Another isolate moves the tag, and deletes the manifest that it named.
    let anonymous = Ask::new(PULL).anonymous();
    assert_eq!(pull(&world, &isolate, &anonymous).0, Some(first()));
    let (other, (image, moved)) = (world.isolate(&[]), moved());
    retag(&other, &image);
    let delete = Ask::new(&format!("DELETE {}", manifest()));
    assert_eq!(ask(&other, &delete).status, 202);
    assert_eq!(pull(&world, &isolate, &anonymous).0, Some(moved));
}
