//! Costs of reads: spans inflated, operations of the store, and the metrics that count them.

use super::*;

#[test]
fn a_head_and_a_not_modified_reply_inflate_no_span() {
    let archive = Tar::default().file("a", words(1, 3 * SPAN)).end();
    let layer = gzip(&archive);
    let world = World::with_layer(&layer);
    let isolate = world.isolate(&[SMALL, NO_WARM]);
    let target = file(&layer, "a");
    let head = Ask::new(&format!("HEAD {target}"));
    let (answer, log) = world.ask(&isolate, &head);
    assert_eq!(answer.status, 200);
    assert_eq!(count(&log, "cold get blob"), 1, "the pass: {log:?}");
    let etag = answer.header("etag").unwrap().to_owned();
    let same = Ask::new(&format!("GET {target}")).header("if-none-match", etag);
    for request in [head, same] {
        let (_, log) = world.ask(&isolate, &request);
        assert_eq!(log, Vec::<String>::new());
    }
    assert_eq!(inflated(&isolate, "span"), 0);
    assert_eq!(metric(&isolate, "strata_layer_range_requests_total"), 0);
}

#[test]
fn fifty_reads_inflate_a_layer_once() {
    let names: Vec<String> = (0..50).map(|n| format!("dir/file-{n:02}")).collect();
    let tar = names
        .iter()
        .zip(1..)
        .fold(Tar::default(), |tar, (name, seed)| {
            tar.file(name, words(seed, 20_000))
        });
    let archive = tar.end();
    let layer = gzip(&archive);
    let world = World::with_layer(&layer);
    let first = world.isolate(&[SMALL]);
    let read_all = |isolate: &Isolate| {
        for (name, seed) in names.iter().zip(1..) {
            assert!(read(isolate, &file(&layer, name)) == words(seed, 20_000));
        }
    };
    world.log.borrow_mut().clear();
    read_all(&first);
    let size = archive.len() as u64;
    assert_eq!(inflated(&first, "pass"), size);
    assert_eq!(passes(&first, "indexed"), 1);
    // The whole archive is in files, except its last blocks of zeros.
    assert!(inflated(&first, "span") <= size && inflated(&first, "span") > size * 9 / 10);
    let spans = metric(&first, "strata_inflate_operations_total{what=\"span\"}");
    assert!(spans >= size / SPAN as u64 / 2, "{spans} spans");
    assert_eq!(world.count("cold get blob") as u64, 1 + spans);
    assert_eq!(
        metric(
            &first,
            "strata_tier_misses_total{kind=\"span\",tier=\"hot\"}"
        ),
        spans
    );

    // Hot spans are not inflated again, and nothing is read from the store.
    let before = inflated(&first, "span");
    world.log.borrow_mut().clear();
    read_all(&first);
    assert_eq!(*world.log.borrow(), Vec::<String>::new());
    assert_eq!(inflated(&first, "span"), before);
    assert!(metric(&first, "strata_tier_hits_total{kind=\"span\",tier=\"hot\"}") > spans);

    // Warm spans are not inflated again by any isolate.
    let second = world.isolate(&[SMALL]);
    world.log.borrow_mut().clear();
    read_all(&second);
    assert_eq!(
        (inflated(&second, "span"), inflated(&second, "pass")),
        (0, 0)
    );
    assert_eq!(world.count("cold get blob"), 0);
    assert_eq!(
        metric(
            &second,
            "strata_tier_hits_total{kind=\"span\",tier=\"warm\"}"
        ),
        spans
    );

    // Spans that the warm tier has lost are inflated from the index in the cold tier.
    world.warm.memory.forget();
    let third = world.isolate(&[SMALL]);
    world.log.borrow_mut().clear();
    read_all(&third);
    assert_eq!(inflated(&third, "pass"), 0);
    assert_eq!(inflated(&third, "span"), before);
    assert_eq!(world.count("cold get index"), 1);
}

#[test]
fn neighbouring_spans_are_fetched_with_one_range_request() {
    for (_, writer) in WRITERS {
        let bytes = words(1, 6 * SPAN);
        let archive = Tar::default().file("a", &bytes).end();
        let layer = through(writer, &archive);
        let world = World::with_layer(&layer);
        let isolate = world.isolate(&[SMALL, NO_WARM]);
        get(&isolate, &contents(&layer));
        // A span in the middle is hot already.
        let middle = Ask::new(&format!("GET {}", file(&layer, "a")));
        let middle = middle.header("range", format!("bytes={0}-{0}", 3 * SPAN));
        assert_eq!(ask(&isolate, &middle).body, bytes[3 * SPAN..=3 * SPAN]);
        let (ranges, read_bytes) = (
            "strata_layer_range_requests_total",
            "strata_layer_range_bytes_total",
        );
        assert_eq!(metric(&isolate, ranges), 1, "{writer}");
        assert!(metric(&isolate, read_bytes) < 3 * SPAN as u64);
        world.log.borrow_mut().clear();
        let whole = get(&isolate, &file(&layer, "a"));
        assert!(whole.body == bytes);
        // One entry for all spans that came from one tier.
        let timing = whole.header("server-timing").unwrap();
        assert_eq!(timing.matches("span;desc=cold").count(), 1, "{timing}");
        assert_eq!(
            metric(&isolate, ranges),
            3,
            "before it, and after it: {writer}"
        );
        let log = world.log.borrow().clone();
        let requests = count(&log, "cold get blob") + count(&log, "cold get span");
        assert_eq!(requests, 2, "{log:?}");
        // None of the bytes came twice.
        let stored = if world
            .log
            .borrow()
            .iter()
            .any(|entry| entry == "cold get span")
        {
            archive.len() as u64
        } else {
            layer.len() as u64
        };
        assert!(metric(&isolate, read_bytes) <= stored, "{writer}");
    }
}

#[test]
fn costs_of_layers_are_counted_in_metrics() {
    let world = World::new();
    let isolate = world.isolate(&[]);
    let text_of = |isolate: &Isolate| text(&get(isolate, "/metrics"));
    let before = text_of(&isolate);
    for line in [
        "strata_layer_passes_total{outcome=\"indexed\"} 0",
        "strata_layer_passes_total{outcome=\"paused\"} 0",
        "strata_layer_passes_total{outcome=\"refused\"} 0",
        "strata_inflate_operations_total{what=\"pass\"} 0",
        "strata_inflate_operations_total{what=\"span\"} 0",
        "strata_inflated_bytes_total{what=\"pass\"} 0",
        "strata_inflated_bytes_total{what=\"span\"} 0",
        "strata_layer_range_requests_total 0",
        "strata_layer_range_bytes_total 0",
        "strata_index_stored_bytes_total 0",
        "strata_tier_hits_total{kind=\"span\",tier=\"hot\"} 0",
        "strata_tier_hits_total{kind=\"span\",tier=\"warm\"} 0",
        "strata_tier_hits_total{kind=\"span\",tier=\"cold\"} 0",
        "strata_tier_hits_total{kind=\"index\",tier=\"cold\"} 0",
    ] {
        assert!(
            before.lines().any(|found| found == line),
            "{line} is not in\n{before}"
        );
    }
    for name in 0..101 {
        let layer = Tar::default().file("a", format!("{name}")).end();
        push_blob(&isolate, "a", &layer);
        world.host.pass(Duration::from_secs(1));
        for _ in 0..2 {
            read(&isolate, &file(&layer, "a"));
        }
    }
    let after = text_of(&isolate);
    let reads: Vec<&str> = after
        .lines()
        .filter(|line| line.starts_with("strata_layer_reads_total{"))
        .collect();
    assert_eq!(reads.len(), 101);
    assert!(reads.iter().all(|line| line.ends_with(" 2")), "{reads:?}");
    assert!(reads.contains(&"strata_layer_reads_total{layer=\"other\"} 2"));
    let index_bytes: usize = world
        .cold
        .memory
        .keys()
        .iter()
        .filter(|key| key.starts_with("layers/"))
        .map(|key| world.stored(key).unwrap().len())
        .sum();
    assert_eq!(
        metric(&isolate, "strata_index_stored_bytes_total"),
        index_bytes as u64
    );
    assert_eq!(
        metric(
            &isolate,
            "strata_tier_hits_total{kind=\"span\",tier=\"cold\"}"
        ),
        101
    );
    assert_eq!(
        metric(
            &isolate,
            "strata_tier_hits_total{kind=\"span\",tier=\"hot\"}"
        ),
        101
    );
}
