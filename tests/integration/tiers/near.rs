//! Large blobs in the cache of a location.

use super::*;

const ORIGIN: &str = "https://registry.example";
const BLOCK: usize = 4 << 20;
/// Blobs of two bytes are large.
const SMALL: [(&str, &str); 2] = [
    ("STRATA_HOT_BLOB_BYTES", "1"),
    ("STRATA_WARM_BLOB_BYTES", "1"),
];

fn near(bytes: &[u8]) -> String {
    format!("{ORIGIN}/v2/_strata/near/{}", digest(bytes))
}

fn pull(bytes: &[u8]) -> Ask {
    Ask::new(&format!("GET {}", blob(bytes))).at(ORIGIN)
}

fn range(bytes: &[u8], first: usize, last: usize) -> Ask {
    pull(bytes).header("range", format!("bytes={first}-{last}"))
}

fn tier(answer: &Answer) -> &str {
    answer.header("x-strata-tier").unwrap_or("")
}

fn entries(world: &World) -> Vec<String> {
    world.host.cache.borrow().keys().cloned().collect()
}

/// A world with a blob of ten blocks and a byte.
fn with_large() -> (World, Vec<u8>) {
    let world = World::new();
    let bytes: Vec<u8> = (0..10 * BLOCK + 1).map(|at| (at / 1000) as u8).collect();
    let request = format!("POST /v2/a/blobs/uploads/?digest={}", digest(&bytes));
    let pushed = ask(&world.isolate(&[]), &Ask::new(&request).body(&bytes));
    assert_eq!(pushed.status, 201);
    world.host.pass(Duration::from_secs(10));
    (world, bytes)
}

#[test]
fn a_whole_pull_is_near_from_the_second_one_on() {
    let world = World::with_image();
    let isolate = world.isolate(&SMALL);
    let (first, operations) = world.ask(&isolate, &pull(LAYER));
    assert_eq!((first.status, tier(&first)), (200, "cold"));
    // The client's read, and the one that writes the entry.
    let reads = operations.iter().filter(|entry| *entry == "cold get blob");
    assert_eq!(reads.count(), 2, "{operations:?}");
    assert_eq!(entries(&world), [near(LAYER)]);
    let (second, operations) = world.ask(&isolate, &pull(LAYER));
    assert_eq!((second.status, tier(&second)), (200, "near"));
    assert_eq!(second.body, LAYER);
    assert!(operations.is_empty(), "{operations:?}");
    let same = |name| first.header(name) == second.header(name);
    assert!(same("etag") && same("content-length") && same("docker-content-digest"));
    // Another isolate asks for the right, and looks whether the bytes are there.
    let other = world.isolate(&SMALL);
    let (answer, operations) = world.ask(&other, &pull(LAYER));
    assert_eq!((tier(&answer), &*answer.body), ("near", LAYER));
    assert_eq!(operations.last().unwrap(), "cold head blob");
    assert!(!operations.iter().any(|entry| entry == "cold get blob"));
    let (_, operations) = world.ask(&other, &pull(LAYER));
    assert!(operations.is_empty(), "{operations:?}");
}

#[test]
fn a_range_is_near_by_aligned_blocks() {
    let (world, bytes) = with_large();
    let isolate = world.isolate(&[]);
    let (first, last) = (BLOCK - 10, BLOCK + 9);
    let answer = ask(&isolate, &range(&bytes, first, last));
    assert_eq!((answer.status, tier(&answer)), (206, "cold"));
    let blocks = [0, 1].map(|block| format!("{}/{block}", near(&bytes)));
    assert_eq!(entries(&world), blocks);
    assert_eq!(
        world.host.cache.borrow()[&blocks[1]],
        bytes[BLOCK..2 * BLOCK]
    );
    for (first, last) in [
        (first, last),
        (0, 0),
        (BLOCK, 2 * BLOCK - 1),
        (0, 2 * BLOCK - 1),
    ] {
        let (answer, operations) = world.ask(&isolate, &range(&bytes, first, last));
        assert_eq!(
            (answer.status, tier(&answer)),
            (206, "near"),
            "{first}-{last}"
        );
        assert_eq!(answer.body, bytes[first..=last], "{first}-{last}");
        let selected = format!("bytes {first}-{last}/{}", bytes.len());
        assert_eq!(answer.header("content-range"), Some(&*selected));
        assert!(operations.is_empty(), "{operations:?}");
    }
    // Of blocks that are partly there, only the missing ones are written.
    let answer = ask(&isolate, &range(&bytes, 2 * BLOCK - 1, 2 * BLOCK));
    assert_eq!(
        (tier(&answer), &*answer.body),
        ("cold", &bytes[2 * BLOCK - 1..=2 * BLOCK])
    );
    assert_eq!(entries(&world).len(), 3);
    // The last block is short.
    let end = bytes.len() - 1;
    for expected in ["cold", "near"] {
        assert_eq!(tier(&ask(&isolate, &range(&bytes, end, end))), expected);
    }
    assert_eq!(
        world.host.cache.borrow()[&format!("{}/10", near(&bytes))],
        bytes[end..]
    );
    // A longer range is not a lazy client's, and several ranges are not either.
    let written = entries(&world);
    let several = pull(&bytes).header("range", "bytes=0-1,5-6");
    for request in [range(&bytes, 0, 4 * BLOCK), several] {
        let answer = ask(&isolate, &request);
        assert_eq!((answer.status, tier(&answer)), (206, "cold"));
    }
    assert_eq!(entries(&world), written);
}

#[test]
fn a_whole_entry_serves_ranges_of_any_length() {
    let (world, bytes) = with_large();
    let isolate = world.isolate(&[]);
    // A range of all bytes is a whole pull.
    ask(&isolate, &range(&bytes, 0, bytes.len() - 1));
    assert_eq!(entries(&world), [near(&bytes)]);
    for (first, last) in [(5, 5), (1, bytes.len() - 2)] {
        let (answer, operations) = world.ask(&isolate, &range(&bytes, first, last));
        assert_eq!((answer.status, tier(&answer)), (206, "near"));
        assert_eq!(answer.body, bytes[first..=last]);
        assert!(operations.is_empty(), "{operations:?}");
    }
    assert_eq!(entries(&world), [near(&bytes)]);
}

#[test]
fn only_callers_that_may_read_a_blob_reach_the_cache() {
    let world = World::with_image();
    let isolate = world.isolate(&SMALL);
    ask(&isolate, &pull(LAYER));
    world.host.looked.borrow_mut().clear();
    let elsewhere = Ask::new(&format!("GET /v2/b/blobs/{}", digest(LAYER))).at(ORIGIN);
    assert_eq!(ask(&isolate, &elsewhere).status, 404);
    assert_eq!(ask(&isolate, &pull(LAYER).anonymous()).status, 401);
    let head = Ask::new(&format!("HEAD {}", blob(LAYER))).at(ORIGIN);
    assert_eq!(ask(&isolate, &head).status, 200);
    let same = pull(LAYER).header("if-none-match", format!("\"{}\"", digest(LAYER)));
    assert_eq!(ask(&isolate, &same).status, 304);
    assert!(world.host.looked.borrow().is_empty());
    assert_eq!(entries(&world), [near(LAYER)], "no name, and no user");
}

#[test]
fn a_deleted_blob_is_no_longer_served() {
    let world = World::with_image();
    let (isolate, other) = (world.isolate(&SMALL), world.isolate(&SMALL));
    for isolate in [&isolate, &other] {
        ask(isolate, &pull(LAYER));
    }
    assert_eq!(tier(&ask(&other, &pull(LAYER))), "near");
    for target in [manifest(), blob(LAYER)] {
        let request = Ask::new(&format!("DELETE {target}"));
        assert_eq!(ask(&isolate, &request).status, 202);
    }
    assert_eq!(ask(&isolate, &pull(LAYER)).status, 404);
    // Another isolate believes the link for as long as without the cache.
    assert_eq!(tier(&ask(&other, &pull(LAYER))), "near");
    world.host.pass(Duration::from_secs(3_600));
    assert_eq!(ask(&other, &pull(LAYER)).status, 404);
    assert_eq!(entries(&world), [near(LAYER)]);
}

#[test]
fn bytes_that_were_set_aside_are_not_served_from_the_cache() {
    let world = World::with_image();
    ask(&world.isolate(&SMALL), &pull(LAYER));
    let key = key::blob(&digest(LAYER));
    world.cold.plant(&key, b"", r#"{"kind":"aside"}"#);
    // An isolate that knows the link alone looks at the blob first.
    let answer = ask(&world.isolate(&SMALL), &pull(LAYER));
    assert_ne!(answer.status, 200, "{}", text(&answer));
    assert_ne!(tier(&answer), "near");
}

#[test]
fn the_cache_is_left_alone_where_it_does_nothing() {
    let world = World::with_image();
    let off = [SMALL[0], SMALL[1], ("STRATA_NEAR_SECONDS", "0")];
    let rows: [(&[(&str, &str)], &str); 5] = [
        (&SMALL, "http://registry.example"),
        (&SMALL, "https://strata.team.workers.dev"),
        (&SMALL, "http://127.0.0.1:8787"),
        (&off, ORIGIN),
        // A blob that KV takes is not large.
        (&[], ORIGIN),
    ];
    for (settings, origin) in rows {
        let isolate = world.isolate(settings);
        let answer = ask(&isolate, &pull(LAYER).at(origin));
        assert_eq!((answer.status, tier(&answer)), (200, "cold"), "{origin}");
    }
    assert!(world.host.looked.borrow().is_empty() && entries(&world).is_empty());
}

#[test]
fn a_cache_that_is_slow_or_fails_costs_at_most_25_ms() {
    let world = World::with_image();
    let isolate = world.isolate(&SMALL);
    ask(&isolate, &pull(LAYER));
    let timed = || {
        let start = world.host.now.get();
        let answer = ask(&isolate, &pull(LAYER));
        assert_eq!((answer.status, &*answer.body), (200, LAYER));
        (tier(&answer).to_owned(), world.host.now.get().since(start))
    };
    world.host.cache_takes.set(2);
    assert_eq!(timed(), ("near".to_owned(), Duration::ZERO));
    world.host.cache_takes.set(5);
    world.host.discarded.set(0);
    assert_eq!(timed(), ("cold".to_owned(), Duration::from_millis(25)));
    assert_eq!(world.host.discarded.get(), 1, "the late stream");
    world.host.cache_takes.set(0);
    world.host.cache_fails.set(true);
    assert_eq!(timed(), ("cold".to_owned(), Duration::ZERO));
    world.host.cache_fails.set(false);
    world
        .host
        .cache
        .borrow_mut()
        .insert(near(LAYER), b"short".to_vec());
    assert_eq!(timed(), ("cold".to_owned(), Duration::ZERO));
    let metrics = ask(&isolate, &Ask::new("GET /metrics"));
    let metrics = text(&metrics);
    for (reason, count) in [("late", 1), ("failed", 2)] {
        let line = format!("kind=\"blob\",reason=\"{reason}\",tier=\"near\"}} {count}");
        assert!(metrics.contains(&line), "{line} is not in\n{metrics}");
    }
}
