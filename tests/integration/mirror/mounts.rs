//! Mounts of blobs from mirrored repositories.

use serde_json::json;
use strata::host::Ask as Asked;
use strata_support::{
    Ask, LAYER, ask, digest,
    mirrors::{Mirrors, get, says, target},
};

/// A mount resolves a name to the default upstream as a pull does.
#[test]
fn a_mount_finds_its_source_as_pulls_do() {
    let mirrors = Mirrors::of(|question: &Asked| {
        if target(question).starts_with("/v2/team/") {
            return says(200, &[("content-length", "10")], LAYER);
        }
        says(404, &[], "{}")
    });
    let mirror = mirrors.mirror(&json!({ "default": true, "repositories": ["team/*"] }));
    let mount = |from: &str| {
        let line = format!(
            "POST /v2/own/blobs/uploads/?mount={}&from={from}",
            digest(LAYER)
        );
        ask(&mirror, &Ask::new(&line)).status
    };
    assert_eq!(mount("team/app"), 202, "nobody has pulled it");
    let path = format!("/v2/team/app/blobs/{}", digest(LAYER));
    assert_eq!(get(&mirror, &path).status, 200);
    assert_eq!(mount("team/other"), 202, "it was pulled from another one");
    assert_eq!(mount("up.example/other/app"), 202, "it is not mirrored");
    assert_eq!(mount("team/app"), 201);
    let path = format!("/v2/own/blobs/{}", digest(LAYER));
    assert_eq!(&*get(&mirror, &path).body, LAYER);
}
