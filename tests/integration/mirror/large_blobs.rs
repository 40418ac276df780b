//! Large blobs of an upstream: sent to clients while they are stored.

use super::*;

#[test]
fn a_large_blob_is_forwarded_while_it_is_stored() {
    let (world, bytes) = (World::new(), large());
    serve(&world, &bytes, bytes.len());
    let mirror = world.mirror(&json!({}));
    let path = blob(&bytes);
    block_on(async {
        let (parts, body, rest) = begin(&mirror, &path).await;
        assert_eq!(parts.headers["x-strata-tier"], "upstream");
        assert_eq!(parts.headers["content-length"], "9000001");
        let mut items = items_of(body);
        // Before the client has its first bytes nothing is written, although the bytes are there.
        let mut finishing = pin!(mirror.finish(rest));
        let turns = pin!(async {
            for _ in 0..60 {
                strata_support::host::turn().await;
            }
        });
        assert!(matches!(
            select(&mut finishing, turns).await,
            Either::Right(_)
        ));
        assert_eq!(world.store.memory.keys(), Vec::<String>::new());
        let mut read = Vec::new();
        let reading = async {
            while let Some(item) = items.next().await {
                if read.is_empty() {
                    assert_eq!(count(&world, "blobs/"), 0);
                }
                read.extend(item.unwrap());
            }
        };
        join(reading, finishing).await;
        assert!(read == bytes);
    });
    assert_eq!(world.asked().len(), 1);
    let extents = count(&world, "extents/");
    assert!((3..=10).contains(&extents), "{extents} extents");
    assert_eq!(count(&world, "blobs/"), 1);
    world.weather(|_| Some(Err(FetchError::Late)));
    for registry in [mirror, world.mirror(&json!({}))] {
        let (status, read) = block_on(pull(&registry, &path));
        assert!(status == 200 && read.unwrap() == bytes);
    }
    assert!(world.asked().is_empty());
}

#[test]
fn concurrent_misses_of_a_large_blob_are_one_request() {
    let (world, bytes) = (World::new(), large());
    serve(&world, &bytes, bytes.len());
    let mirror = world.mirror(&json!({}));
    let path = blob(&bytes);
    let all = (0..32).map(|_| pull(&mirror, &path));
    for (status, read) in block_on(join_all(all)) {
        assert!(status == 200 && read.unwrap() == bytes);
    }
    assert_eq!(world.asked().len(), 1);
    assert_eq!(count(&world, "blobs/"), 1);
}

/// After any failure, a client's reply aborts instead of ending, and nothing that is left can be
/// served.
#[test]
fn a_wrong_large_blob_aborts_every_reply() {
    let bytes = large();
    let changed = |at: usize| {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        changed
    };
    let mut cases = vec![
        ("the first byte".to_owned(), changed(0), bytes.len()),
        (
            "the last byte".to_owned(),
            changed(bytes.len() - 1),
            bytes.len(),
        ),
        (
            "one byte less than announced".to_owned(),
            bytes.clone(),
            bytes.len() + 1,
        ),
        (
            "one byte more than announced".to_owned(),
            bytes.clone(),
            bytes.len() - 1,
        ),
    ];
    for tenth in 1..10 {
        let cut = bytes[..bytes.len() * tenth / 10].to_vec();
        cases.push((format!("cut at {tenth} tenths"), cut, bytes.len()));
    }
    for (what, sent, announced) in cases {
        let world = World::new();
        serve(&world, &sent, announced);
        let mirror = world.mirror(&json!({}));
        let both = block_on(join_all([
            pull(&mirror, &blob(&bytes)),
            pull(&mirror, &blob(&bytes)),
        ]));
        for (status, read) in both {
            assert_eq!(status, 200);
            assert!(read.is_err(), "{what}");
        }
        // The rest of an aborted body is requested once more; this upstream has no ranges.
        let asked = if sent.len() < announced { 2 } else { 1 };
        assert_eq!(world.asked().len(), asked, "{what}");
        // Wrong bytes are deleted. An aborted fill stays, to be resumed, and is not served.
        let wrong = ["blobs/", "refs/", "extents/", "fills/"];
        let kinds = if sent.len() < announced { 2 } else { 4 };
        for kind in &wrong[..kinds] {
            assert_eq!(
                count(&world, kind),
                0,
                "{what}: {:?}",
                world.store.memory.keys()
            );
        }
        serve(&world, &bytes, bytes.len());
        let (_, read) = block_on(pull(&mirror, &blob(&bytes)));
        assert!(read.unwrap() == bytes, "{what}: the next one is right");
    }
}

/// A client that disconnects ends a fill that is less than half done, unless others read it.
#[test]
fn a_fill_survives_its_client_if_half_done_or_shared() {
    for (taken, others, is_stored) in [
        (0, 0, false),
        (1, 0, false),
        (7_000_000, 0, true),
        (0, 1, true),
    ] {
        let (world, bytes) = (World::new(), large());
        serve(&world, &bytes, bytes.len());
        let mirror = world.mirror(&json!({}));
        let path = blob(&bytes);
        block_on(async {
            let (_, body, rest) = begin(&mirror, &path).await;
            let leaving = async {
                let mut items = items_of(body);
                let mut read = 0;
                while read < taken {
                    read += items.next().await.unwrap().unwrap().len();
                }
            };
            let staying = async {
                for _ in 0..others {
                    let (_, read) = pull(&mirror, &path).await;
                    assert!(read.unwrap() == bytes);
                }
            };
            join(staying, join(leaving, mirror.finish(rest))).await;
        });
        let found = count(&world, "blobs/") == 1;
        assert_eq!(found, is_stored, "{taken} bytes taken, {others} others");
    }
}

/// A slow client reads the bytes that it missed from the store, and delays no other client.
#[test]
fn a_slow_client_does_not_delay_the_fill() {
    let (world, bytes) = (World::new(), large());
    serve(&world, &bytes, bytes.len());
    let mirror = world.mirror(&json!({}));
    let path = blob(&bytes);
    block_on(async {
        let (_, body, rest) = begin(&mirror, &path).await;
        let mut items = items_of(body);
        let first = async { items.next().await.unwrap().unwrap() };
        let (mut read, ()) = join(first, mirror.finish(rest)).await;
        assert_eq!(
            count(&world, "blobs/"),
            1,
            "it is stored while the client has read {}",
            read.len()
        );
        while let Some(item) = items.next().await {
            read.extend(item.unwrap());
        }
        assert!(read == bytes);
    });
    assert_eq!(world.asked().len(), 1);
}

/// If the store fails, nothing incomplete is served.
#[test]
fn a_failing_store_aborts_the_reply_of_a_large_blob() {
    let (world, bytes) = (World::new(), large());
    serve(&world, &bytes, bytes.len());
    let failing = Rc::new(std::cell::Cell::new(false));
    let fails = failing.clone();
    let store = Watched::new(MemoryObjects::default(), move |operation, key| {
        if fails.get() && operation == "put" && key.starts_with("extents/") {
            return Verdict::Lost(StoreError::Failed("full".to_owned()));
        }
        Verdict::Done
    });
    let settings = json!([{ "name": "up.example", "address": ORIGIN }]).to_string();
    let mirror = registry_on(
        store.clone(),
        world.host.clone(),
        &[("STRATA_UPSTREAMS", &settings)],
    );
    failing.set(true);
    let (_, read) = block_on(pull(&mirror, &blob(&bytes)));
    assert!(read.is_err());
    assert!(
        !store
            .memory
            .keys()
            .iter()
            .any(|key| key.starts_with("blobs/") || key.starts_with("extents/"))
    );
    failing.set(false);
    let (_, read) = block_on(pull(&mirror, &blob(&bytes)));
    assert!(read.unwrap() == bytes);
}

/// A range is requested as a range and not trusted; depending on the settings, the whole blob is
/// stored in the background, or first, or not at all.
#[test]
fn a_range_of_a_mirrored_blob_is_fetched_as_configured() {
    for (ranges, sent, is_stored) in [("both", 2, true), ("pass", 1, false), ("store", 1, true)] {
        let (world, bytes) = (World::new(), large());
        let (whole, path) = (bytes.clone(), format!("/blobs/{}", digest(&bytes)));
        world.weather(move |question| {
            if !question.url.ends_with(&path) {
                return None;
            }
            let range = question
                .headers
                .get("range")
                .map(|range| range.to_str().unwrap().to_owned());
            let (status, part, range) = match range.as_deref() {
                None => (200, whole.clone(), None),
                Some("bytes=5000000-5000009") => (
                    206,
                    whole[5_000_000..5_000_010].to_vec(),
                    Some("bytes 5000000-5000009/9000001"),
                ),
                Some(other) => panic!("{other}"),
            };
            let mut headers = HeaderMap::new();
            headers.insert("content-length", HeaderValue::from(part.len()));
            if let Some(range) = range {
                headers.insert("content-range", HeaderValue::from_static(range));
            }
            Some(Ok(Reply {
                status: StatusCode::from_u16(status).unwrap(),
                headers,
                body: Some(MemoryBody::Bytes(part)),
            }))
        });
        let mirror = world.mirror(&json!({ "ranges": ranges }));
        let request =
            Ask::new(&format!("GET {}", blob(&bytes))).header("range", "bytes=5000000-5000009");
        let answer = ask(&mirror, &request);
        assert_eq!(
            (answer.status, answer.body.as_slice()),
            (206, &bytes[5_000_000..5_000_010]),
            "{ranges}"
        );
        assert_eq!(
            answer.header("content-range"),
            Some("bytes 5000000-5000009/9000001")
        );
        assert_eq!(answer.header("content-length"), Some("10"));
        assert_eq!(
            (world.asked().len(), count(&world, "blobs/") == 1),
            (sent, is_stored),
            "{ranges}"
        );
        if is_stored {
            assert_eq!(ask(&mirror, &request).body, &bytes[5_000_000..5_000_010]);
            assert!(world.asked().is_empty());
        }
    }
}

/// An upstream without ranges sends the whole blob, which is stored.
#[test]
fn a_range_is_served_if_the_upstream_has_no_ranges() {
    let (world, bytes) = (World::new(), large());
    serve(&world, &bytes, bytes.len());
    let mirror = world.mirror(&json!({}));
    let request = Ask::new(&format!("GET {}", blob(&bytes))).header("range", "bytes=0-9");
    let answer = ask(&mirror, &request);
    assert_eq!((answer.status, answer.body.as_slice()), (206, &bytes[..10]));
    assert_eq!(count(&world, "blobs/"), 1);
}
