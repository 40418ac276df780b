//! Reads of files in layers: every writer, ranges, and concurrent first reads.

use super::*;

#[test]
fn every_file_of_every_layer_is_read_as_it_was_written() {
    let files = files();
    let archive = archive_of(&files);
    for (compression, writer) in WRITERS {
        let layer = through(writer, &archive);
        let world = World::new();
        let isolate = world.isolate(&[SMALL]);
        push_image(&isolate, "v1", &[(&layer, &archive)]);
        let table = json_of(&get(&isolate, &contents(&layer)));
        assert_eq!(table["compression"], compression, "{writer}");
        assert_eq!(table["diffId"], digest(&archive).to_string());
        for (path, bytes) in &files {
            for target in [
                file(&layer, path),
                format!("/v2/a/_strata/images/v1/files/{path}"),
            ] {
                let what = format!("{writer}: {target}");
                let whole = get(&isolate, &target);
                assert_eq!((whole.status, &whole.body), (200, bytes), "{what}");
                assert_eq!(whole.header("accept-ranges"), Some("bytes"));
                let length = bytes.len().to_string();
                assert_eq!(whole.header("content-length"), Some(&*length));
                let etag = whole.header("etag").unwrap().to_owned();

                let spans = inflated(&isolate, "span");
                let head = ask(&isolate, &Ask::new(&format!("HEAD {target}")));
                assert_eq!((head.status, head.body.len()), (200, 0), "{what}");
                for name in whole.headers.keys() {
                    if !["x-request-id", "x-strata-tier", "server-timing"].contains(&name.as_str())
                    {
                        assert_eq!(head.header(name.as_str()), whole.header(name.as_str()));
                    }
                }
                assert_eq!(inflated(&isolate, "span"), spans);

                let unchanged = Ask::new(&format!("GET {target}"))
                    .header("if-none-match", format!("\"x\", W/{etag}"));
                let unchanged = ask(&isolate, &unchanged);
                assert_eq!((unchanged.status, unchanged.body.len()), (304, 0), "{what}");
                assert_eq!(unchanged.header("etag"), Some(&*etag));
                check_ranges(&isolate, &target, bytes, &etag);
            }
        }
    }
}

fn check_ranges(isolate: &Isolate, target: &str, bytes: &[u8], etag: &str) {
    let size = bytes.len();
    let ask = |range: &str| {
        ask(
            isolate,
            &Ask::new(&format!("GET {target}")).header("range", range),
        )
    };
    let beyond = ask(&format!("bytes={size}-"));
    let (message, _) = refused(&beyond, 416, "SIZE_INVALID");
    assert!(message.contains("the range is outside of the"), "{message}");
    assert_eq!(
        beyond.header("content-range"),
        Some(&*format!("bytes */{size}"))
    );
    if size == 0 {
        return;
    }
    let last = size - 1;
    for (range, first, end) in [
        ("bytes=0-0".to_owned(), 0, 1),
        (format!("bytes={last}-{last}"), last, size),
        (format!("bytes={}-", size / 2), size / 2, size),
        ("bytes=-1".to_owned(), last, size),
        (format!("bytes=-{}", 2 * size), 0, size),
        (
            format!("bytes={}-{}", size / 3, size / 2),
            size / 3,
            size / 2 + 1,
        ),
        (format!("bytes=0-{}", u64::MAX), 0, size),
    ] {
        let answer = ask(&range);
        assert_eq!(answer.status, 206, "{target} {range}");
        assert_eq!(answer.body, bytes[first..end], "{target} {range}");
        let found = format!("bytes {first}-{}/{size}", end - 1);
        assert_eq!(answer.header("content-range"), Some(&*found));
    }
    if size > 2 {
        let answer = ask(&format!("bytes=0-0,{last}-{last}"));
        let media_type = answer.header("content-type").unwrap();
        let boundary = media_type
            .strip_prefix("multipart/byteranges; boundary=")
            .unwrap();
        let part = |at: usize| {
            let head = format!(
                "\r\n--{boundary}\r\ncontent-type: application/octet-stream\r\ncontent-range: bytes {at}-{at}/{size}\r\n\r\n"
            );
            [head.as_bytes(), &bytes[at..=at]].concat()
        };
        let tail = format!("\r\n--{boundary}--\r\n");
        let expected = [part(0), part(last), tail.into_bytes()].concat();
        assert_eq!((answer.status, &answer.body), (206, &expected));
        let length = expected.len().to_string();
        assert_eq!(answer.header("content-length"), Some(&*length));
    }
    for (condition, status) in [(etag, 206), ("\"another\"", 200), ("W/\"x\"", 200)] {
        let request = Ask::new(&format!("GET {target}"))
            .header("range", "bytes=0-0")
            .header("if-range", condition);
        assert_eq!(
            strata_support::ask(isolate, &request).status,
            status,
            "{condition}"
        );
    }
}

#[test]
fn concurrent_readers_of_a_layer_index_it_once() {
    let archive = Tar::default().file("a", words(1, 4 * SPAN)).end();
    let layer = gzip(&archive);
    let world = World::with_layer(&layer);
    let isolate = world.isolate(&[SMALL]);
    let request = Ask::new(&format!("GET {}", file(&layer, "a")));
    world.log.borrow_mut().clear();
    let answers = block_on(join_all((0..32).map(|_| ask_now(&isolate, &request))));
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(world.count("cold put index"), 1);
    assert_eq!(inflated(&isolate, "pass"), archive.len() as u64);
    // Each of the file's spans was inflated once.
    assert!(inflated(&isolate, "span") <= archive.len() as u64);
    assert!(metric(&isolate, "strata_single_flight_joins_total{kind=\"span\"}") > 0);
}

#[test]
fn a_failed_pass_under_concurrent_readers_can_be_retried() {
    let layer = gzip(&Tar::default().file("a", words(1, 4 * SPAN)).end());
    let world = World::with_layer(&layer);
    let isolate = world.isolate(&[SMALL]);
    let request = Ask::new(&format!("GET {}", file(&layer, "a")));
    world.fail("cold get blob", 1, lost());
    let answers = block_on(join_all((0..8).map(|_| ask_now(&isolate, &request))));
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        refused(answer, 503, "UNAVAILABLE");
        assert!(answer.header("retry-after").is_some());
    }
    assert_eq!(ask(&isolate, &request).status, 200);
}

#[test]
fn spans_of_a_highly_compressed_layer_are_stored_one_by_one() {
    // Repeated noise compresses to almost nothing with zstd, and not at all with deflate.
    let noise: Vec<u8> = (0..30_000_u32)
        .flat_map(|n| *digest(&n.to_le_bytes()).hash().first_chunk::<32>().unwrap())
        .collect();
    let tar = (0..16).fold(Tar::default(), |tar, n| {
        tar.file(format!("file-{n:02}"), &noise)
    });
    let layer = through("zstd -3 --zstd=wlog=21", &tar.end());
    assert!(layer.len() < 2 * noise.len(), "{}", layer.len());
    let world = World::with_layer(&layer);
    let isolate = world.isolate(&[]);
    for n in 0..16 {
        let answer = get(&isolate, &file(&layer, &format!("file-{n:02}")));
        assert_eq!(
            answer.status,
            200,
            "{}",
            String::from_utf8_lossy(&answer.body)
        );
        assert!(answer.body == noise, "file {n}");
    }
    let stored = world.cold.memory.keys();
    let stored = stored.iter().filter(|key| key.contains("/spans/")).count();
    assert!(stored >= 4, "{stored} objects");
}
