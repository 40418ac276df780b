//! A cached link whose blob is stored elsewhere meanwhile.

use std::time::Duration;

use pollster::block_on;
use strata::store::Objects as _;
use strata_support::{
    Ask, LAYER, TestHost, TestRegistry, ask, digest, key, mirrors::watched, registry_on,
    watched::Watched,
};

fn push_in_chunks(registry: &TestRegistry<Watched>, name: &str) {
    let start = ask(
        registry,
        &Ask::new(&format!("POST /v2/{name}/blobs/uploads/")),
    );
    let chunk = Ask::new(&format!("PATCH {}", start.location())).stream(LAYER);
    let chunk = ask(registry, &chunk);
    let put = format!("PUT {}&digest={}", chunk.location(), digest(LAYER));
    assert_eq!(ask(registry, &Ask::new(&put)).status, 201);
}

/// The right of a repository may be gone with the bytes: the blob of another one gives it no right.
#[test]
fn a_stale_link_is_not_written_again_without_a_right() {
    let (store, host) = (watched(), TestHost::default());
    let isolate = || {
        let settings = [("STRATA_HOT_BLOB_BYTES", "0"), ("STRATA_WARM_SECONDS", "0")];
        registry_on(store.clone(), host.clone(), &settings)
    };
    let (one, other) = (isolate(), isolate());
    push_in_chunks(&other, "a");
    host.pass(Duration::from_secs(10));
    let get = Ask::new(&format!("GET /v2/a/blobs/{}", digest(LAYER)));
    assert_eq!(ask(&one, &get).status, 200);
    // Through another isolate, the blob is deleted from the repository and swept, and another
    // repository gets it.
    let delete = format!("DELETE /v2/a/blobs/{}", digest(LAYER));
    assert_eq!(ask(&other, &Ask::new(&delete)).status, 202);
    let swept: Vec<_> = store.memory.keys();
    let swept = swept.into_iter();
    let swept: Vec<_> = swept
        .filter(|key| key.starts_with("blobs/") || key.starts_with("extents/"))
        .collect();
    block_on(store.memory.delete(&swept)).unwrap();
    push_in_chunks(&other, "b");
    host.pass(Duration::from_secs(1));
    let link = key::link(&digest(LAYER), &"a".parse().unwrap());
    for _ in 0..2 {
        assert_eq!(ask(&one, &get).status, 404);
        assert!(!store.memory.keys().contains(&link), "{link}");
    }
    let get = Ask::new(&format!("GET /v2/b/blobs/{}", digest(LAYER)));
    assert_eq!(&*ask(&one, &get).body, LAYER);
}
