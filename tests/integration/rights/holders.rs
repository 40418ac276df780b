//! Lists of the repositories that hold a blob, and of doubtful rights.

use super::*;

/// The list of a blob's holders has the reason of each.
#[test]
fn holders_of_a_blob_are_listed_with_their_reasons() {
    let world = World::new();
    let found = world.pull("x", &secret()).to_string();
    let line = format!("GET /v2/_strata/blobs/{}", digest(&secret()));
    let body = json_of(&ask(&world.mirror(), &by("root", &line)));
    assert_eq!(
        body["repositories"],
        json!([
            { "name": SECRET, "uploads": 0, "claims": 1, "filled": 0, "manifests": [], "mirrored": [], "linked": true },
            { "name": PULLED, "uploads": 0, "claims": 0, "filled": 1, "manifests": [],
              "mirrored": [{ "digest": found, "stored": true }], "linked": true },
        ]),
        "{body}"
    );
    assert_eq!(body["references"], 3);
}

/// All replies of the end-point for doubtful rights, request by request, with a store that lists so
/// many keys at once.
fn doubtful(world: &World, upstreams: &[&str], page: u32) -> (Vec<Value>, Vec<Value>) {
    world.store.page.set(page);
    let isolate = world.isolate_with(upstreams, &[("STRATA_SUBREQUESTS", "50")]);
    let (mut repositories, mut blobs) = (Vec::new(), Vec::new());
    let mut path = "GET /v2/_strata/rights".to_owned();
    for _ in 0..1_000 {
        let answer = ask(&isolate, &by("root", &path));
        assert_eq!(answer.status, 200, "{}", text(&answer));
        let body = json_of(&answer);
        assert!(body["operations"].as_u64().unwrap() <= 40, "{body}");
        repositories.extend(body["repositories"].as_array().unwrap().clone());
        blobs.extend(body["blobs"].as_array().unwrap().clone());
        if body["finished"] == true {
            assert_eq!(body.get("cursor"), None);
            return (repositories, blobs);
        }
        path = format!(
            "GET /v2/_strata/rights?cursor={}",
            body["cursor"].as_str().unwrap()
        );
    }
    panic!("it does not end");
}

#[test]
fn doubtful_rights_are_listed_for_administrators() {
    let world = World::new();
    world.pull("x", &noise(3, 100));
    // An older version: a tag that came from an upstream, and a manifest that does not say so.
    let document = image_of(CONFIG, &[&secret()]);
    let found = world.plant_manifest("up.example/old", &document);
    let tag = json!({ "kind": "manifest", "digest": found.to_string(), "mediaType": OCI_MANIFEST, "size": 1, "seen": 5 });
    let name = "up.example/old".parse().unwrap();
    world.store.plant(
        &key::tag(&name, &"v9".parse().unwrap()),
        b"",
        &tag.to_string(),
    );
    let reason = json!({ "reason": "manifest", "digest": found.to_string() });
    let before = world.host.now.get();
    world.plant_grant("up.example/old", &secret(), "m", &reason);
    // A client has mounted it since.
    world.host.pass(Duration::from_secs(5));
    let after = world.host.now.get();
    world.plant_grant("mallory/x", &secret(), "u", &json!({ "reason": "upload" }));
    world.plant_grant("mallory/y", &secret(), "c", &json!({ "reason": "claim" }));
    // Blobs that only mirrored repositories hold, and filled blobs, are not doubtful.
    world.plant_link("up.example/old", CONFIG);
    world.serve("y", &secret());
    get(&world.mirror(), &blob_of("up.example/y", &secret()));

    // Blobs whose digests are before and after it.
    for number in 0..60 {
        let grant = json!({ "reason": "upload" });
        world.plant_grant("z", &noise(number, 50), "u", &grant);
    }
    for page in [1, 2, 3, 1_000] {
        let (repositories, blobs) = doubtful(&world, &UP, page);
        assert!(repositories.is_empty(), "{repositories:?}");
        assert_eq!(
            blobs,
            [json!({
                "digest": digest(&secret()).to_string(),
                "doubtful": [{ "name": "up.example/old", "since": before }],
                "elsewhere": [
                    { "name": "mallory/x", "since": after },
                    { "name": SECRET, "since": before },
                ],
                "complete": true,
            })]
        );
        // Without the upstreams their repositories are this registry's own, and some record that
        // they were not.
        let (repositories, blobs) = doubtful(&world, &[], page);
        let names: Vec<&str> = repositories
            .iter()
            .map(|repository| repository["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["up.example/old", PULLED]);
        assert_eq!(repositories[0]["why"], "tag v9 was pulled from an upstream");
        assert!(blobs.is_empty(), "{blobs:?}");
    }
    let wrong = by("root", "GET /v2/_strata/rights?cursor=x");
    assert_eq!(ask(&world.mirror(), &wrong).status, 400);
    let other = by("mallory", "GET /v2/_strata/rights");
    assert_eq!(ask(&world.mirror(), &other).status, 403);
}

/// A blob with more holders than a request can read is reported in parts, and delays nothing.
#[test]
fn doubtful_rights_of_a_blob_with_many_holders_are_cut_short() {
    let world = World::new();
    let upload = json!({ "reason": "upload" });
    for number in 0..150 {
        world.plant_grant(&format!("v/{number:03}"), &secret(), "u", &upload);
    }
    world.plant_grant("up.example/x", &secret(), "u", &upload);
    let (_, blobs) = doubtful(&world, &UP, 1);
    assert_eq!((blobs.len(), &blobs[0]["complete"]), (1, &json!(false)));
    let (_, blobs) = doubtful(&world, &UP, 1_000);
    assert_eq!((blobs.len(), &blobs[0]["complete"]), (1, &json!(false)));
    assert_eq!(blobs[0]["elsewhere"].as_array().unwrap().len(), 100);
}
