//! The promise under schedules. The real handlers and the sweep run over one store, and each turn
//! of an actor does one operation.
//!
//! A schedule decides which actor continues and for how many operations, when the clock advances,
//! which actor is killed, and which operation of the store fails. A schedule that breaks the
//! promise is shrunk as far as possible.

#![cfg(all(test, not(target_arch = "wasm32")))]
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "what is not as expected fails the test"
)]

use std::{
    task::{Context, Waker},
    time::Duration,
};

use http::Method;
use pollster::block_on;
use strata::{
    host::FetchError,
    manifest::OCI_MANIFEST,
    memory::MemoryBody,
    store::{Content, ListOptions, Objects as _, PutOptions},
};
use strata_support::{Ask, CONFIG, LAYER, ask, digest, key, mirrors::says, try_ask_now};

use crate::{
    actors::{
        APP, EVIL, NONE, cancel_in_a, child_to_a, close_in_a, delete_blob, delete_index_in_a,
        delete_manifest, heal_in_a, heal_in_b, heal_in_c, list_in_a, manifest_to_a, mount_to_c,
        patch_to_a, patch_to_b, pull_blobs, pull_blobs_elsewhere, pull_image, pull_in_app,
        pull_manifest, scrub, send_chunks, send_in_a, spy_in_evil, spy_in_none, sweep, sweep_once,
        tag_in_a, whole_to_a, whole_to_app, whole_to_b,
    },
    actors::{chunks_to_a, pull_layer},
    play::{Area, Operation, Scenario},
    world::{State, World},
};

mod actors;
mod play;
mod world;

/// The grace period. A step of the sweep may last five times as long, so each of its operations can
/// be late.
const GRACE: Duration = Duration::from_secs(4);

/// Less than half of the grace period.
const TICK: Duration = Duration::from_millis(1_750);

/// How many schedules of each scenario are played.
const CASES: u32 = 1_700;

/// Pushes of one image to three repositories.
const PUSHES: Scenario = Scenario {
    begins: nothing,
    actors: &[],
    settings: &[],
    later: None,
    grace: GRACE,
    ticks: [Duration::from_millis(750), TICK],
    names: &["a", "b", "c"],
    layer: || LAYER.to_vec(),
    broken: World::lost,
    ends: |world| world.unpulled(),
    remembers: false,
    cases: CASES,
};

/// An image that several clients pull from one upstream.
const MIRROR: Scenario = Scenario {
    settings: &[("STRATA_UPSTREAMS", r#"[{"name": "up.example"}]"#)],
    names: &["up.example/app"],
    layer: large,
    broken: World::unmirrored,
    ends: out_of_reach,
    remembers: true,
    cases: CASES / 15,
    ..PUSHES
};

/// An image of small blobs that several clients pull from one upstream.
const SMALL_MIRROR: Scenario = Scenario {
    layer: || LAYER.to_vec(),
    cases: CASES / 4,
    ..MIRROR
};

/// A private image, whose layer the manifests of upstreams name.
const PRIVATE: Scenario = Scenario {
    begins: private_in_a,
    settings: &[(
        "STRATA_UPSTREAMS",
        r#"[{"name": "up.example"}, {"name": "other.example"}]"#,
    )],
    names: &["a", "b"],
    ends: stays_private,
    remembers: true,
    cases: CASES / 4,
    ..PUSHES
};

/// An image in a repository that the settings of half of the isolates mirror.
const REMOVED: Scenario = Scenario {
    later: Some(&[]),
    names: &[APP],
    broken: World::unkept,
    ends: stays_private_without_upstream,
    ..PRIVATE
};

/// An image with a damaged blob, pushed again.
const HEALED: Scenario = Scenario {
    broken: World::unhealed,
    ends: scrubbed,
    cases: CASES / 4,
    ..PUSHES
};

/// Manifests without a tag expire after a day.
const UNTAGGED: &[(&str, &str)] = &[(
    "STRATA_RETENTION",
    r#"[{"repositories": ["**"], "untagged_days": 1}]"#,
)];

/// The same, and an index may list manifests that are absent.
const SPARSE: &[(&str, &str)] = &[UNTAGGED[0], ("STRATA_SPARSE_INDEXES", "true")];

/// Makes two tests of each scenario: one of many schedules, and one in which each operation fails.
macro_rules! scenarios {
    ($($name:ident: $scenario:expr;)*) => {
        $(
            #[test]
            fn $name() {
                $scenario.explore();
            }
        )*

        /// The same scenarios with all actors in turns: each operation fails, and each kills its
        /// actor.
        mod failing {
            use super::*;
            $(
                #[test]
                fn $name() {
                    $scenario.fail_each();
                }
            )*
        }
    };
}

scenarios! {
    first_pushes_and_sweeps: Scenario {
        actors: &[whole_to_a, patch_to_b, sweep, sweep],
        ..PUSHES
    };
    pushes_of_a_condemned_blob: Scenario {
        begins: condemned,
        actors: &[whole_to_b, patch_to_a, sweep, sweep],
        ..PUSHES
    };
    pushes_of_a_blob_being_removed: Scenario {
        begins: deleting,
        actors: &[whole_to_b, sweep, sweep],
        ..PUSHES
    };
    deletions_mounts_and_manifests_pushed_again: Scenario {
        begins: image_in_a,
        actors: &[delete_manifest, delete_blob, mount_to_c, manifest_to_a, sweep, sweep],
        ..PUSHES
    };
    tags_of_a_manifest_that_is_deleted: Scenario {
        begins: image_in_a,
        actors: &[tag_in_a, manifest_to_a, delete_manifest, sweep],
        ends: leads_to_manifests,
        ..PUSHES
    };
    uploads_of_one_blob_by_several_clients: Scenario {
        begins: closed,
        actors: &[patch_to_a, patch_to_b, sweep, sweep],
        ..PUSHES
    };
    released_blobs_of_a_manifest_pushed_again: Scenario {
        begins: released_twice,
        actors: &[manifest_to_a, sweep, sweep_once],
        ..PUSHES
    };
    a_push_of_a_blob_that_a_sweep_is_about_to_condemn: Scenario {
        begins: stopped,
        actors: &[whole_to_b, sweep_once, sweep_once, sweep_once],
        ..PUSHES
    };
    an_upload_that_several_clients_send_to: Scenario {
        begins: started,
        actors: &[send_in_a, send_in_a, sweep],
        ..PUSHES
    };
    an_upload_that_several_clients_would_end: Scenario {
        begins: received,
        actors: &[close_in_a, close_in_a, cancel_in_a, whole_to_b, sweep, sweep],
        ..PUSHES
    };
    an_upload_that_was_ended: Scenario {
        begins: ended,
        actors: &[close_in_a, cancel_in_a, sweep, sweep],
        ..PUSHES
    };
    expired_manifests_that_are_tagged_or_listed_again: Scenario {
        begins: untagged,
        actors: &[tag_in_a, list_in_a, sweep, sweep],
        settings: UNTAGGED,
        ..PUSHES
    };
    expired_manifests_that_are_tagged_late: Scenario {
        begins: untagged,
        actors: &[tag_in_a, sweep],
        settings: UNTAGGED,
        // The time for which untagged manifests stay.
        grace: DAY,
        ticks: [Duration::from_secs(6), Duration::from_secs(11 * 3_600)],
        ..PUSHES
    };
    a_manifest_that_comes_after_its_sparse_index: Scenario {
        begins: sparse,
        actors: &[child_to_a, delete_index_in_a, sweep, sweep],
        settings: SPARSE,
        cases: CASES / 4,
        ..PUSHES
    };
    expired_manifests_that_a_sparse_index_lists: Scenario {
        begins: untagged,
        actors: &[list_in_a, child_to_a, sweep, sweep],
        settings: SPARSE,
        cases: CASES / 4,
        ..PUSHES
    };
    a_mirror_and_sweeps: Scenario {
        begins: upstream,
        actors: &[pull_image, pull_image, sweep, sweep],
        ..MIRROR
    };
    a_fill_that_was_interrupted: Scenario {
        begins: interrupted,
        actors: &[pull_image, pull_blobs, sweep, sweep],
        ..MIRROR
    };
    small_fills_of_condemned_blobs: Scenario {
        begins: condemned_and_upstream,
        actors: &[pull_image, pull_image, sweep, sweep],
        ..SMALL_MIRROR
    };
    fills_of_blobs_that_another_repository_of_the_upstream_has: Scenario {
        begins: filled_elsewhere,
        actors: &[pull_image, pull_image, pull_blobs_elsewhere, sweep, sweep],
        ..SMALL_MIRROR
    };
    a_mirror_whose_links_were_not_written: Scenario {
        begins: kept_without_links,
        actors: &[pull_manifest, pull_manifest, sweep, sweep],
        ..SMALL_MIRROR
    };
    a_private_blob_that_an_upstream_names: Scenario {
        actors: &[spy_in_evil, spy_in_evil, delete_manifest, whole_to_b, sweep, sweep],
        ..PRIVATE
    };
    a_private_blob_that_an_older_version_gave_away: Scenario {
        begins: given_away,
        actors: &[spy_in_evil, spy_in_evil, whole_to_b, sweep, sweep],
        ..PRIVATE
    };
    a_blob_of_another_upstream: Scenario {
        begins: kept,
        actors: &[spy_in_evil, spy_in_evil, sweep, sweep],
        names: &["up.example/kept"],
        broken: World::unmirrored,
        ..PRIVATE
    };
    a_blob_of_another_repository_of_the_upstream: Scenario {
        begins: kept,
        actors: &[spy_in_none, spy_in_none, sweep, sweep],
        names: &["up.example/kept"],
        broken: World::unmirrored,
        ..PRIVATE
    };
    an_image_that_was_pushed_before_it_was_mirrored: Scenario {
        begins: pushed_before,
        actors: &[pull_manifest, pull_manifest, sweep, sweep],
        ..REMOVED
    };
    an_upstream_that_is_removed: Scenario {
        begins: private_in_a,
        actors: &[pull_in_app, spy_in_evil, sweep, whole_to_app, spy_in_evil, sweep],
        names: &["a", APP],
        ..REMOVED
    };
    a_blob_that_is_joined_while_it_is_pulled_and_pushed: Scenario {
        begins: chunks_in_a,
        actors: &[pull_layer, pull_layer, patch_to_b, sweep, sweep],
        cases: CASES / 2,
        ..PUSHES
    };
    a_blob_that_is_joined_while_it_is_deleted_and_pushed_again: Scenario {
        begins: chunks_in_a,
        actors: &[delete_manifest, delete_blob, whole_to_b, patch_to_b, sweep, sweep],
        cases: CASES / 2,
        ..PUSHES
    };
    a_blob_that_is_joined_while_its_upload_is_closed_again: Scenario {
        begins: closed_chunks,
        actors: &[close_in_a, close_in_a, patch_to_b, sweep, sweep],
        cases: CASES / 2,
        ..PUSHES
    };
    damaged_extents_that_are_joined_and_scrubbed: Scenario {
        begins: damaged_chunks,
        actors: &[heal_in_b, heal_in_c, scrub, sweep, sweep],
        ..HEALED
    };
    damage_that_is_scrubbed_while_it_is_pushed_again: Scenario {
        begins: damaged_whole,
        actors: &[heal_in_b, heal_in_a, delete_manifest, scrub, scrub, sweep],
        ..HEALED
    };
    damaged_extents_that_are_condemned_and_scrubbed: Scenario {
        begins: damaged_extents,
        actors: &[heal_in_b, heal_in_c, scrub, scrub, sweep],
        ..HEALED
    };
}

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// An index in `a` whose manifest is absent.
fn sparse(world: &World) {
    block_on(list_in_a(world, world.registry(0)));
    assert!(world.promises.accepted.borrow().is_empty());
    world.host.pass(DAY);
}

fn nothing(_: &World) {}

/// An image that was accepted in `a` long ago.
fn image_in_a(world: &World) {
    block_on(patch_to_a(world, world.registry(0)));
    world.sweep();
    assert_eq!(world.lost(), None);
    assert!(world.promises.accepted.borrow().contains("a"));
}

/// An image that was deleted in `a`: its grants no longer count.
fn released(world: &World) {
    image_in_a(world);
    block_on(delete_manifest(world, world.registry(0)));
}

/// The same in `a` and in `b`.
fn released_twice(world: &World) {
    block_on(whole_to_b(world, world.registry(0)));
    released(world);
    let delete = Ask::new(&format!("DELETE /v2/b/manifests/{}", world.image.digest));
    assert_eq!(ask(&world.registry(0), &delete).status, 202);
    world.promises.accepted.borrow_mut().clear();
}

/// An image whose grants the sweep has deleted; its step ended just before it condemned the layer.
/// The next step begins after these grants.
fn stopped(world: &World) {
    released(world);
    let mark = (Operation::Read, Area::Marks);
    let mut context = Context::from_waker(Waker::noop());
    let mut step = sweep(world, world.registry(0));
    for _ in [CONFIG, LAYER] {
        while !world.chance.was_asked(mark) {
            assert!(step.as_mut().poll(&mut context).is_pending());
        }
        world.chance.forget();
    }
    // Longer than a step may last.
    world.host.pass(Duration::from_secs(20));
    let cursor = || world.store.memory.bytes(key::SWEEP_CURSOR);
    let before = cursor();
    go_until(step, || cursor() != before);
}

/// An image that was deleted in `a`: its blobs have no grants, and are condemned.
fn condemned(world: &World) {
    image_in_a(world);
    block_on(delete_manifest(world, world.registry(0)));
    world.to_the_end("POST /v2/_strata/sweep");
    world.host.pass(GRACE);
    let marks = block_on(world.store.memory.list(
        "sweep/marks/",
        ListOptions {
            limit: 10,
            ..ListOptions::default()
        },
    ));
    assert_eq!(marks.unwrap().objects.len(), 2);
}

/// An image whose blobs a sweep began to delete before its isolate died.
fn deleting(world: &World) {
    condemned(world);
    go_until(sweep(world, world.registry(0)), || {
        let mark = key::mark(&digest(LAYER));
        let mark = world.store.memory.bytes(&mark).unwrap_or_default();
        String::from_utf8_lossy(&mark).contains("deleting")
    });
    world.host.pass(GRACE);
}

/// An upload whose closer wrote the record of the blob, and whose isolate died before the reply.
fn closed(world: &World) {
    let blob = key::blob(&digest(LAYER));
    go_until(patch_to_a(world, world.registry(0)), || {
        world.store.memory.bytes(&blob).is_some()
    });
}

/// An upload that has received no bytes.
fn started(world: &World) {
    let sent = block_on(send_chunks(&world.registry(0), "a", b"", 1));
    *world.location.borrow_mut() = sent.unwrap();
}

/// An upload that has received all of its bytes, and that is almost as old as the grace period.
fn received(world: &World) {
    let sent = block_on(send_chunks(&world.registry(0), "a", LAYER, LAYER.len()));
    *world.location.borrow_mut() = sent.unwrap();
    world.host.pass(GRACE - TICK);
}

/// An upload that the sweep has ended, and whose steps it will delete soon.
fn ended(world: &World) {
    received(world);
    world.host.pass(TICK);
    world.to_the_end("POST /v2/_strata/sweep");
    world.host.pass(GRACE - TICK);
}

/// An image in `a` that no tag names, and that is old enough to expire.
fn untagged(world: &World) {
    image_in_a(world);
    let untag = Ask::new("DELETE /v2/a/manifests/v1");
    assert_eq!(ask(&world.registry(0), &untag).status, 202);
    world.promises.accepted.borrow_mut().clear();
    world.host.pass(DAY);
}

/// Runs an actor until the condition holds, and then drops it.
fn go_until(mut actor: play::Running, is_so: impl Fn() -> bool) {
    let mut context = Context::from_waker(Waker::noop());
    while !is_so() {
        assert!(actor.as_mut().poll(&mut context).is_pending());
    }
}

/// An image in `a` whose layer has wrong bytes.
fn damaged_whole(world: &World) {
    block_on(whole_to_a(world, world.registry(0)));
    world.sweep();
    assert_eq!(world.lost(), None);
    damage(world, &key::blob(&digest(LAYER)));
}

/// The same with a layer that is in extents and condemned.
fn damaged_extents(world: &World) {
    condemned(world);
    let keys = world.store.memory.keys();
    let extent = keys.iter().find(|key| key.starts_with(key::EXTENTS));
    damage(world, extent.unwrap());
}

/// An image in `a` whose layer is in three extents, and old enough to be joined.
fn chunks_in_a(world: &World) {
    block_on(chunks_to_a(world, world.registry(0)));
    assert!(world.promises.accepted.borrow().contains("a"));
    assert_eq!(world.store.keys(key::EXTENTS).len(), 3);
    world.host.pass(GRACE / 2);
}

/// The same with damage in one of the extents.
fn damaged_chunks(world: &World) {
    chunks_in_a(world);
    damage(world, &world.store.keys(key::EXTENTS)[1]);
}

/// An upload of three extents whose closer wrote the record, and whose isolate died before it wrote
/// that the upload is done.
fn closed_chunks(world: &World) {
    let sent = block_on(send_chunks(&world.registry(0), "a", LAYER, 4));
    *world.location.borrow_mut() = sent.unwrap();
    let blob = key::blob(&digest(LAYER));
    go_until(close_in_a(world, world.registry(0)), || {
        world.store.memory.bytes(&blob).is_some()
    });
    world.host.pass(GRACE / 2);
}

fn damage(world: &World, key: &str) {
    let memory = &world.store.memory;
    let meta = block_on(memory.head(key)).unwrap().unwrap();
    let mut bytes = memory.bytes(key).unwrap();
    bytes[0] ^= 1;
    let options = PutOptions {
        metadata: &meta.metadata,
        ..PutOptions::default()
    };
    block_on(memory.put(key, Content::Bytes(bytes), options)).unwrap();
    assert!(matches!(world.state(&world.layer), State::Wrong(_)));
    // Images that were accepted before are lost already.
    world.promises.accepted.borrow_mut().clear();
}

/// At the end: the scrub finds the damage, and a push makes the image whole again.
fn scrubbed(world: &World) -> Option<String> {
    world.to_the_end("POST /v2/_strata/scrub");
    if let Some(broken) = world.unhealed() {
        return Some(broken);
    }
    for blob in world.blobs() {
        if let State::Wrong(why) = world.state(blob) {
            return Some(format!("after the scrub: {why}"));
        }
    }
    // The actor that was to delete the image may have died before that.
    world.promises.deletions.set(0);
    block_on(whole_to_a(world, world.registry(0)));
    if !world.promises.accepted.borrow().contains("a") {
        return Some("the image can't be pushed again".to_owned());
    }
    world.lost().or_else(|| world.unpulled())
}

/// At the end: each tag leads to a manifest, unless a push or a deletion broke off. Then it does
/// once the deletion is repeated.
fn leads_to_manifests(world: &World) -> Option<String> {
    let is_whole = world.promises.unanswered.get() == 0 && !world.chance.has_hit();
    let misleading = is_whole.then(|| world.misleading()).flatten();
    misleading.or_else(|| world.unpulled()).or_else(|| {
        block_on(delete_manifest(world, world.registry(0)));
        world.misleading()
    })
}

/// A blob that is stored in several extents.
fn large() -> Vec<u8> {
    let words = (0..270_000_u32).flat_map(|n| (n ^ (n >> 11)).to_le_bytes());
    words.collect()
}

/// A fill that was interrupted after some extents, long ago.
fn interrupted(world: &World) {
    upstream(world);
    go_until(pull_blobs(world, world.registry(0)), || {
        let keys = world.store.memory.keys();
        keys.iter()
            .filter(|key| key.starts_with(key::EXTENTS))
            .count()
            >= 3
    });
    let keys = world.store.memory.keys();
    assert!(keys.iter().any(|key| key.starts_with(key::FILLS)));
    world.host.pass(GRACE - TICK);
}

/// An image that was deleted: its blobs have no grants, and are condemned. An upstream has it as
/// well.
fn condemned_and_upstream(world: &World) {
    for blob in world.blobs() {
        let line = format!("POST /v2/a/blobs/uploads/?digest={}", blob.digest);
        let push = Ask::new(&line).body(&blob.bytes);
        assert_eq!(ask(&world.registry(0), &push).status, 201);
    }
    world.sweep();
    assert_eq!(world.store.keys("sweep/marks/").len(), 2);
    world.host.pass(GRACE);
    upstream(world);
}

/// Blobs of another repository of the upstream, whose grants are almost as old as the grace period.
fn filled_elsewhere(world: &World) {
    upstream(world);
    block_on(pull_blobs_elsewhere(world, world.registry(0)));
    assert_eq!(world.store.keys(key::BLOBS).len(), 2);
    world.host.pass(GRACE - TICK);
}

/// An image in `a`, which an upstream names and does not have.
fn private_in_a(world: &World) {
    image_in_a(world);
    upstream(world);
}

/// The same, with all the objects that an older version stored in the mirrored repository.
fn given_away(world: &World) {
    private_in_a(world);
    let (name, layer) = (EVIL.parse().unwrap(), digest(LAYER));
    let manifest = key::manifest(&name, &world.image.digest);
    let stored = format!(r#"{{"mediaType":"{OCI_MANIFEST}"}}"#);
    world.store.plant(&manifest, &world.image.bytes, &stored);
    let by_manifest = format!(
        r#"{{"reason":"manifest","digest":"{}"}}"#,
        world.image.digest
    );
    let reasons = [
        r#"{"reason":"upload"}"#,
        r#"{"reason":"claim"}"#,
        &by_manifest,
    ];
    for (number, reason) in reasons.iter().enumerate() {
        let grant = key::grant(&layer, &name, &format!("old{number}"));
        world.store.plant(&grant, b"", reason);
    }
    let private = key::link(&layer, &"a".parse().unwrap());
    let record = world.store.memory.bytes(&private).unwrap();
    world.store.plant(&key::link(&layer, &name), &record, "");
}

/// An image that was pulled from another repository.
fn kept(world: &World) {
    upstream(world);
    block_on(pull_image(world, world.registry(0)));
    assert_eq!(world.store.keys(key::BLOBS).len(), 2);
}

/// The same, long ago, without its links: they are hints, so the grants must be enough.
fn kept_without_links(world: &World) {
    kept(world);
    let name = world.names[0].parse().unwrap();
    let links = world.blobs().map(|blob| key::link(&blob.digest, &name));
    block_on(world.store.memory.delete(&links)).unwrap();
    world.host.pass(GRACE - TICK);
}

/// An image that was pushed to a repository by other settings, long ago. Its links are not written,
/// because they are hints.
fn pushed_before(world: &World) {
    block_on(whole_to_app(world, world.registry(World::LATER)));
    assert!(world.promises.accepted.borrow().contains(APP));
    world.sweep();
    let links = world.blobs().map(|blob| {
        let name = APP.parse().unwrap();
        key::link(&blob.digest, &name)
    });
    block_on(world.store.memory.delete(&links)).unwrap();
    world.sweep();
    upstream(world);
}

/// At the end: no isolate serves the private layer, whatever its settings, and accepted images can
/// be pulled.
fn stays_private(world: &World) -> Option<String> {
    let answered = answered_in(world, EVIL).or_else(|| answered_in(world, NONE));
    answered.or_else(|| world.unpulled())
}

/// The same, if a mirror has stored manifests that no client pushed.
fn stays_private_without_upstream(world: &World) -> Option<String> {
    let answered = answered_in(world, EVIL).or_else(|| answered_in(world, NONE));
    answered.or_else(|| world.accepted_unpulled())
}

/// Whether an isolate serves the layer in a repository.
fn answered_in(world: &World, name: &str) -> Option<String> {
    let line = format!("GET /v2/{name}/blobs/{}", world.layer.digest);
    [0, World::LATER].into_iter().find_map(|number| {
        let answer = block_on(try_ask_now(&world.registry(number), &Ask::new(&line)));
        let is_answered = answer.is_ok_and(|answer| answer.body == world.layer.bytes);
        is_answered.then(|| format!("isolate {number}: {line} answers a private blob"))
    })
}

/// At the end, with the upstream out of reach: mirrored images can be pulled, no bytes are wrong,
/// and nothing is left over.
fn out_of_reach(world: &World) -> Option<String> {
    world
        .host
        .serve(|_| Err(FetchError::Failed("gone".to_owned())));
    world.start();
    let outcome = pulled_alone(world);
    upstream(world);
    outcome
}

fn pulled_alone(world: &World) -> Option<String> {
    let registry = world.registry(0);
    for blob in world.blobs() {
        let line = format!("GET /v2/{}/blobs/{}", world.names[0], blob.digest);
        let held = world.promises.held.borrow();
        match block_on(try_ask_now(&registry, &Ask::new(&line))) {
            Ok(answer) if answer.status == 200 && answer.body == blob.bytes => {}
            Ok(answer) if answer.status == 200 => return Some(format!("{line}: other bytes")),
            Ok(_) | Err(_) if !held.contains(&blob.key) => {}
            other => return Some(format!("{line}: {other:?}")),
        }
    }
    for _ in 0..4 {
        world.sweep();
    }
    world.left()
}

/// An upstream that has the image, and aborts long bodies. In one of its repositories it sends
/// wrong bytes for the layer; in another it does not have the layer.
fn upstream(world: &World) {
    let image = &world.image;
    let parts = [
        (format!("/manifests/{}", image.digest), image, OCI_MANIFEST),
        ("/manifests/v1".to_owned(), image, OCI_MANIFEST),
        (
            format!("/blobs/{}", world.layer.digest),
            &world.layer,
            "application/octet-stream",
        ),
        (
            format!("/blobs/{}", world.config.digest),
            &world.config,
            "application/octet-stream",
        ),
    ];
    let parts = parts.map(|(path, blob, media_type)| (path, blob.clone(), media_type));
    let layer = world.layer.digest.to_string();
    world.host.serve(move |question| {
        let part = parts.iter().find(|(path, ..)| question.url.ends_with(path));
        let Some((_, blob, media_type)) = part else {
            return says(404, &[], "");
        };
        let is_layer = question.url.ends_with(&layer);
        if is_layer && question.url.contains("/none/") {
            return says(404, &[], "");
        }
        let length = blob.bytes.len();
        let range = question.headers.get("range");
        let first = range.map_or(0, |range| {
            let range = range.to_str().unwrap().strip_prefix("bytes=").unwrap();
            range.strip_suffix('-').unwrap().parse().unwrap()
        });
        let left = (length - first).to_string();
        let shown = format!("bytes {first}-{}/{length}", length - 1);
        let headers = [
            ("content-type", *media_type),
            ("content-length", &*left),
            ("content-range", &*shown),
        ];
        let (status, headers) = match range {
            Some(_) => (206, &headers[..]),
            None => (200, &headers[..2]),
        };
        let end = length.min(first + AT_ONCE);
        let mut bytes = blob.bytes[first..end].to_vec();
        // It says that it has the layer, and sends other bytes of the same length.
        if is_layer && question.url.contains("/evil/") {
            bytes.iter_mut().for_each(|byte| *byte = !*byte);
        }
        let mut reply = says(status, headers, "")?;
        reply.body = if question.method == Method::HEAD {
            None
        } else if end < length {
            Some(MemoryBody::Broken(bytes))
        } else {
            Some(MemoryBody::Bytes(bytes))
        };
        Ok(reply)
    });
}

/// How many bytes the upstream sends before it aborts.
const AT_ONCE: usize = 700_000;
