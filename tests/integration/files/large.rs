//! Large and sparse files: streamed, cut off by errors, and bounded in memory.

use super::*;

/// The items of a reply, as far as a client reads it.
async fn open(isolate: &Isolate, target: &str, range: Option<&str>) -> MemoryBody {
    let mut headers = http::HeaderMap::new();
    headers.insert("authorization", "Basic ZGV2OnNlY3JldA==".parse().unwrap());
    if let Some(range) = range {
        headers.insert("range", range.parse().unwrap());
    }
    let request = Request {
        method: http::Method::GET,
        target: target.to_owned(),
        origin: String::new(),
        address: String::new(),
        headers,
        body: None,
    };
    let (response, _) = isolate.answer(request).await;
    assert!(response.status().is_success(), "{}", response.status());
    match response.into_body() {
        Body::Stream(body) => body,
        Body::Empty | Body::Bytes(_) | Body::Held(_) => panic!("no stream"),
    }
}

#[test]
fn a_large_file_is_inflated_as_it_is_read() {
    let bytes = words(1, 20 * MIB);
    let archive = Tar::default().file("large", &bytes).end();
    for writer in ["cat", "gzip -1n", "zstd -1"] {
        let layer = through(writer, &archive);
        let world = World::with_layer(&layer);
        let isolate = world.isolate(&[]);
        let target = file(&layer, "large");
        assert_eq!(
            ask(&isolate, &Ask::new(&format!("HEAD {target}"))).status,
            200
        );
        world.log.borrow_mut().clear();
        block_on(async {
            let MemoryBody::Made(mut items) = open(&isolate, &target, None).await else {
                panic!("not made as it is read");
            };
            assert_eq!(
                *world.log.borrow(),
                Vec::<String>::new(),
                "nothing is read ahead"
            );
            let mut read = items.0.next().await.unwrap().unwrap();
            assert_eq!(metric(&isolate, "strata_layer_range_requests_total"), 1);
            let ahead = inflated(&isolate, "span");
            assert!(ahead <= 6 * MIB as u64, "{writer}: {ahead}");
            while let Some(item) = items.0.next().await {
                read.extend(item.unwrap());
                let held = inflated(&isolate, "span").saturating_sub(read.len() as u64);
                assert!(held <= 6 * MIB as u64, "{writer}: {held} bytes are held");
            }
            assert!(read == bytes, "{writer}");
        });
        // The body is streamed past the caches: neither memory nor the warm tier keeps it.
        let held = "strata_tier_held_bytes{kind=\"span\",tier=\"hot\"}";
        assert_eq!(metric(&isolate, held), 0);
        assert_eq!(world.count("warm put span"), 0);
    }
}

#[test]
fn an_unreadable_span_ends_a_large_file_with_an_error() {
    let archive = Tar::default().file("large", words(1, 12 * MIB)).end();
    let layer = through("gzip -1n", &archive);
    let world = World::with_layer(&layer);
    let isolate = world.isolate(&[]);
    let target = file(&layer, "large");
    assert_eq!(
        ask(&isolate, &Ask::new(&format!("HEAD {target}"))).status,
        200
    );
    world.fail("cold get blob", 2, lost());
    let outcome = block_on(async { open(&isolate, &target, None).await.read().await });
    assert!(
        matches!(outcome, Err(StoreError::Failed(_))),
        "it ended as if all were there"
    );
    assert_eq!(read(&isolate, &target).len(), 12 * MIB);
}

#[test]
fn many_ranges_of_a_large_file_are_inflated_as_they_are_read() {
    let bytes = words(1, 40 * MIB);
    let archive = Tar::default().file("large", &bytes).end();
    let layer = through("gzip -1n", &archive);
    let world = World::with_layer(&layer);
    let isolate = world.isolate(&[]);
    let target = file(&layer, "large");
    assert_eq!(
        ask(&isolate, &Ask::new(&format!("HEAD {target}"))).status,
        200
    );
    let large = (0..5).map(|n| format!("{}-{}", n * 8 * MIB, (n + 1) * 8 * MIB - 2));
    // One byte of each span.
    let small = (0..40).map(|n| format!("{0}-{0}", n * MIB + 7));
    for ranges in [large.collect::<Vec<_>>(), small.collect()] {
        let before = inflated(&isolate, "span");
        let header = format!("bytes={}", ranges.join(","));
        let body = block_on(async {
            let body = open(&isolate, &target, Some(&header)).await;
            assert_eq!(
                inflated(&isolate, "span"),
                before,
                "it is inflated as it is read"
            );
            body.read().await.unwrap()
        });
        for range in ranges.iter().step_by(4) {
            let (first, last) = range.split_once('-').unwrap();
            let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
            let part = format!("bytes {range}/{}\r\n\r\n", bytes.len());
            let at = body
                .windows(part.len())
                .position(|window| window == part.as_bytes())
                .unwrap();
            let at = at + part.len();
            assert!(
                body[at..=at + last - first] == bytes[first..=last],
                "{range}"
            );
        }
    }
}

#[test]
fn ranges_that_cost_more_than_the_file_get_the_whole_file() {
    let bytes = words(1, 40 * MIB);
    let archive = Tar::default().file("large", &bytes).end();
    let layer = through("gzip -1n", &archive);
    let world = World::with_layer(&layer);
    let isolate = world.isolate(&[]);
    let target = file(&layer, "large");
    assert_eq!(
        ask(&isolate, &Ask::new(&format!("HEAD {target}"))).status,
        200
    );
    let ranges: Vec<_> = (0..60).map(|n| format!("{0}-{0}", n * 600_000)).collect();
    let header = format!("bytes={}", ranges.join(","));
    let body = block_on(async { open(&isolate, &target, Some(&header)).await.read().await });
    assert!(body.unwrap() == bytes);
}

#[test]
fn holes_of_a_sparse_file_are_zeros() {
    let folder = Folder::create();
    let mut bytes = vec![0; 3 * MIB];
    for (at, seed) in [(0, 1), (MIB, 2), (2 * MIB + 8_192, 3)] {
        bytes[at..at + 40_000].copy_from_slice(&words(seed, 40_000));
    }
    let create = |name: &str, length: usize| {
        let file = File::create(folder.0.join(name)).unwrap();
        file.set_len(length as u64).unwrap();
        file
    };
    create("hollow", MIB);
    let sparse = create("sparse", bytes.len());
    for at in [0, MIB, 2 * MIB + 8_192] {
        let part = &bytes[at..at + 40_000];
        sparse.write_all_at(part, at as u64).unwrap();
    }
    for format in [
        "gnu",
        "posix --sparse-version=0.0",
        "posix --sparse-version=0.1",
        "posix --sparse-version=1.0",
    ] {
        let command =
            format!("tar -c -S --hole-detection=raw --format={format} sparse hollow | gzip -6n");
        let layer = run(&folder.0, &command);
        let world = World::with_layer(&layer);
        let isolate = world.isolate(&[SMALL]);
        let target = file(&layer, "sparse");
        assert!(read(&isolate, &target) == bytes, "{format}");
        assert!(
            read(&isolate, &file(&layer, "hollow")) == vec![0; MIB],
            "{format}"
        );
        let table = json_of(&get(&isolate, &contents(&layer)));
        let entry = &table["entries"][1];
        assert_eq!(
            (&entry["path"], &entry["size"]),
            (&json!("sparse"), &json!(3 * MIB))
        );
        assert!(entry["segments"].as_array().unwrap().len() >= 3, "{entry}");
        for (first, last) in [
            (100, 200),
            (500_000, 500_100),
            (39_990, 50_000),
            (MIB - 10, MIB + 10),
            (MIB + 100, 2 * MIB + 9_000),
            (3 * MIB - 5, 3 * MIB - 1),
            (0, 3 * MIB - 1),
        ] {
            let request = Ask::new(&format!("GET {target}"));
            let request = request.header("range", format!("bytes={first}-{last}"));
            let answer = ask(&isolate, &request);
            assert_eq!(answer.status, 206);
            assert!(
                answer.body == bytes[first..=last],
                "{format}: {first}-{last}"
            );
        }
        // A hole costs nothing.
        let hole = Ask::new(&format!("GET {target}")).header("range", "bytes=500000-600000");
        let (_, log) = world.ask(&world.isolate(&[SMALL, NO_WARM]), &hole);
        assert_eq!(log, ["cold get link", "cold get index"]);
    }
}

#[test]
fn many_segments_of_a_sparse_file_do_not_grow_the_headers() {
    // A file of 3,000 bytes, each in the middle of a hole.
    let count = 3_000;
    let mut map = format!("{count}\n");
    for n in 0..count {
        map.push_str(&format!("{}\n1\n", n * 1_000 + 500));
    }
    let mut data = map.into_bytes();
    data.resize(data.len().next_multiple_of(512), 0);
    let ones = vec![b'1'; count];
    data.extend(&ones);
    let record = |key: &str, value: &str| {
        let rest = format!(" {key}={value}\n");
        let length = (1..).find(|n: &usize| n.to_string().len() + rest.len() == *n);
        format!("{}{rest}", length.unwrap())
    };
    let records = [
        record("GNU.sparse.major", "1"),
        record("GNU.sparse.minor", "0"),
        record("GNU.sparse.name", "sparse"),
        record("GNU.sparse.realsize", &(count * 1_000).to_string()),
    ];
    let tar = Tar::default().entry(b"x", b'x', "", records.concat().as_bytes());
    let layer = tar.file("sparse", data).end();
    let world = World::with_layer(&layer);
    let isolate = world.isolate(&[SMALL]);
    let answer = get(&isolate, &file(&layer, "sparse"));
    assert_eq!(answer.body.len(), count * 1_000, "{}", text(&answer));
    assert_eq!(
        answer.body.iter().filter(|byte| **byte == b'1').count(),
        count
    );
    // The size of the headers does not grow with the number of segments.
    let headers: usize = answer.headers.values().map(http::HeaderValue::len).sum();
    assert!(headers < 2_000, "{headers} bytes of headers");
}
