//! What a location says of an upload: the registry's own word, which saves reading the session.

use std::{cell::Cell, rc::Rc, time::Duration};

use strata::memory::MemoryObjects;
use strata_support::{
    Answer, Ask, LAYER, TestHost, TestRegistry, ask, digest, registry_on,
    watched::{Verdict, Watched},
};

/// A registry, the time, and the number of reads of sessions so far.
struct World {
    registry: TestRegistry<Watched>,
    host: TestHost,
    reads: Rc<Cell<u32>>,
}

impl World {
    fn new() -> Self {
        let (host, reads) = (TestHost::default(), Rc::new(Cell::new(0)));
        let counter = reads.clone();
        let store = Watched::new(MemoryObjects::default(), move |operation, key| {
            if matches!(operation, "head" | "list") && key.starts_with("uploads/") {
                counter.set(counter.get() + 1);
            }
            Verdict::Done
        });
        let registry = registry_on(store, host.clone(), &[("STRATA_GRACE_SECONDS", "7200")]);
        Self {
            registry,
            host,
            reads,
        }
    }

    fn ask(&self, request: &Ask) -> Answer {
        ask(&self.registry, request)
    }

    /// Sends the first bytes of a blob, and returns the location of the next.
    fn patched(&self, bytes: &[u8]) -> String {
        let start = self.ask(&Ask::new("POST /v2/a/blobs/uploads/")).location();
        let patch = Ask::new(&format!("PATCH {start}")).stream(bytes);
        let location = self.ask(&patch).location();
        self.reads.set(0);
        location
    }

    /// Closes an upload, and returns the status and the number of reads of the session.
    fn close(&self, location: &str) -> (u16, u32) {
        self.reads.set(0);
        let close = Ask::new(&format!("PUT {location}&digest={}", digest(LAYER)));
        let answer = self.ask(&close);
        (answer.status, self.reads.get())
    }
}

#[test]
fn a_signed_location_saves_reading_the_session() {
    let world = World::new();
    let location = world.patched(&LAYER[..4]);
    let patch = Ask::new(&format!("PATCH {location}")).stream(&LAYER[4..]);
    let next = world.ask(&patch);
    assert_eq!((next.status, world.reads.get()), (202, 0));
    assert_eq!(
        next.header("range"),
        Some(&*format!("0-{}", LAYER.len() - 1))
    );
    // Several extents are hashed in their order, which takes the list of the steps.
    assert_eq!(world.close(&next.location()), (201, 1));
    assert_eq!(world.close(&world.patched(LAYER)), (201, 0));
}

#[test]
fn a_location_that_was_changed_is_a_hint_like_any_other() {
    let world = World::new();
    let location = world.patched(LAYER);
    let (path, signed) = location.split_once("?step=1.").unwrap();
    let (text, signature) = signed.split_once('.').unwrap();
    let other = world.patched(b"other bytes");
    let other_text = other.split('.').nth(1).unwrap();
    let other_signature = other.split('.').nth(2).unwrap();
    for forged in [
        String::new(),
        ".".to_owned(),
        format!("{text}."),
        format!("{text}.{other_signature}"),
        format!("{other_text}.{signature}"),
        // Signed by this registry for another upload.
        format!("{other_text}.{other_signature}"),
        format!("{text}.{}", "A".repeat(43)),
    ] {
        let status = Ask::new(&format!("PATCH {path}?step=1.{forged}"))
            .header("content-range", "0-3")
            .body("abcd");
        world.reads.set(0);
        assert_eq!(world.ask(&status).status, 416, "{forged}");
        assert!(world.reads.get() > 0, "{forged} was believed");
    }
    let elsewhere = location.replace("/v2/a/", "/v2/b/");
    assert_eq!(world.close(&elsewhere).0, 404);
    assert_eq!(world.close(&location), (201, 0));
}

#[test]
fn a_stale_location_proves_nothing_that_has_changed() {
    let world = World::new();
    // The session moved on.
    let stale = world.patched(&LAYER[..4]);
    let next = Ask::new(&format!("PATCH {stale}")).stream(&LAYER[4..]);
    let newest = world.ask(&next).location();
    let wrong = Ask::new(&format!("PATCH {stale}"))
        .header("content-range", "9-9")
        .body("x");
    let answer = world.ask(&wrong);
    assert_eq!(answer.status, 416);
    let whole = format!("0-{}", LAYER.len() - 1);
    assert_eq!(answer.header("range"), Some(&*whole), "the stored progress");
    let again = Ask::new(&format!("PATCH {stale}"))
        .header("content-range", format!("4-{}", LAYER.len() - 1))
        .body(&LAYER[4..]);
    assert_eq!(
        world.ask(&again).status,
        416,
        "these bytes are there already"
    );
    assert_eq!(world.close(&newest).0, 201);
    assert_eq!(world.close(&newest).0, 201, "the same close again");

    // It was cancelled.
    let location = world.patched(LAYER);
    assert_eq!(
        world.ask(&Ask::new(&format!("DELETE {location}"))).status,
        204
    );
    let chunk = Ask::new(&format!("PATCH {location}")).stream(b"more");
    assert_eq!(world.ask(&chunk).status, 404);
    assert_eq!(world.close(&location).0, 404);

    // It counts for a quarter of the grace period: a sweep may have ended an older session.
    let location = world.patched(LAYER);
    world.host.pass(Duration::from_secs(1_799));
    assert_eq!(world.close(&location), (201, 0));
    let location = world.patched(LAYER);
    world.host.pass(Duration::from_secs(1_800));
    assert_eq!(world.close(&location), (201, 2));
}
