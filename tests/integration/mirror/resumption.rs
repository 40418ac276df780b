//! Interrupted fills of blobs: resumed, or restarted if the upstream has no ranges.

use super::*;

/// An upstream with ranges of its large blob, which aborts after so many bytes each time. Returns
/// the offsets that were requested.
fn serve_parts(world: &World, bytes: Vec<u8>, at_once: usize) -> Rc<RefCell<Vec<usize>>> {
    let begun = Rc::<RefCell<Vec<usize>>>::default();
    let starts = begun.clone();
    let path = format!("/blobs/{}", digest(&large()));
    world.weather(move |question| {
        if !question.url.ends_with(&path) {
            return None;
        }
        let range = question.headers.get("range");
        let first = range.map_or(0, |range| {
            let range = range.to_str().unwrap().strip_prefix("bytes=").unwrap();
            range.strip_suffix('-').unwrap().parse().unwrap()
        });
        starts.borrow_mut().push(first);
        let (size, end) = (bytes.len(), bytes.len().min(first.saturating_add(at_once)));
        let mut headers = HeaderMap::new();
        headers.insert("content-length", HeaderValue::from(size - first));
        let shown = format!("bytes {first}-{}/{size}", size - 1);
        let mut status = StatusCode::OK;
        if range.is_some() {
            headers.insert("content-range", HeaderValue::from_str(&shown).unwrap());
            status = StatusCode::PARTIAL_CONTENT;
        }
        let part = bytes[first..end].to_vec();
        let body = match end {
            end if end < size => MemoryBody::Broken(part),
            _ => MemoryBody::Bytes(part),
        };
        Some(Ok(Reply {
            status,
            headers,
            body: Some(body),
        }))
    });
    begun
}

/// If an upstream aborts, the rest is requested as a range, and the client does not notice.
#[test]
fn an_aborted_download_is_resumed_by_range() {
    let (world, bytes) = (World::new(), large());
    let begun = serve_parts(&world, bytes.clone(), 3_000_000);
    let mirror = world.mirror(&json!({}));
    let (status, read) = block_on(pull(&mirror, &blob(&bytes)));
    assert!(status == 200 && read.unwrap() == bytes);
    let begun = begun.take();
    assert!((3..=5).contains(&begun.len()), "{begun:?}");
    assert!(begun.is_sorted() && begun[0] == 0, "{begun:?}");
    assert_eq!(count(&world, "blobs/"), 1);
    let (_, read) = block_on(pull(&world.mirror(&json!({})), &blob(&bytes)));
    assert!(read.unwrap() == bytes);
}

/// Pulls the large blob until this much of it was read, and disconnects, which ends the background
/// work too.
async fn interrupt(registry: &TestRegistry<Watched>, bytes: &[u8], taken: usize) {
    let (_, body, rest) = begin(registry, &blob(bytes)).await;
    let mut items = items_of(body);
    let reading = pin!(async {
        let mut read = 0;
        while read < taken {
            read += items.next().await.unwrap().unwrap().len();
        }
    });
    select(reading, pin!(registry.finish(rest))).await;
}

/// Bytes that were stored before a fill was interrupted are not requested again, by any later
/// client.
#[test]
fn an_interrupted_fill_is_resumed() {
    let (world, bytes) = (World::new(), large());
    let begun = serve_parts(&world, bytes.clone(), usize::MAX);
    block_on(async {
        interrupt(&world.mirror(&json!({})), &bytes, 4_000_000).await;
        let (_, read) = pull(&world.mirror(&json!({})), &blob(&bytes)).await;
        assert!(read.unwrap() == bytes);
    });
    let begun = begun.take();
    assert!(begun.len() == 2 && begun[1] > 400_000, "{begun:?}");
    assert_eq!((count(&world, "blobs/"), count(&world, "fills/")), (1, 0));
    let (_, read) = block_on(pull(&world.mirror(&json!({})), &blob(&bytes)));
    assert!(read.unwrap() == bytes);
    assert_eq!(world.asked().len(), 2);
}

/// The same after several interruptions: extents that an earlier attempt stored beyond the resume
/// offset do no harm.
#[test]
fn a_fill_interrupted_again_and_again_is_resumed() {
    let (world, bytes) = (World::new(), large());
    let begun = serve_parts(&world, bytes.clone(), usize::MAX);
    block_on(async {
        for taken in [2_000_000, 4_000_000, 5_000_000, 6_500_000] {
            interrupt(&world.mirror(&json!({})), &bytes, taken).await;
        }
        let (_, read) = pull(&world.mirror(&json!({})), &blob(&bytes)).await;
        assert!(read.unwrap() == bytes);
    });
    let begun = begun.take();
    assert!(
        begun.len() == 5 && begun.is_sorted_by(|one, other| one < other),
        "{begun:?}"
    );
    assert_eq!((count(&world, "blobs/"), count(&world, "fills/")), (1, 0));
    // Some bytes were stored twice.
    assert!(
        count(&world, "extents/") > named_extents(&world),
        "{:?}",
        world.store.memory.keys()
    );
    let (_, read) = block_on(pull(&world.mirror(&json!({})), &blob(&bytes)));
    assert!(read.unwrap() == bytes);
}

/// How many extents the record of the large blob names.
fn named_extents(world: &World) -> usize {
    let record = world.store.memory.bytes(&key::blob(&digest(&large())));
    let record: Value = serde_json::from_slice(&record.unwrap()).unwrap();
    record["extents"].as_array().unwrap().len()
}

/// If the upstream has no ranges, the reply to the one request is the whole blob.
#[test]
fn an_interrupted_fill_restarts_if_the_upstream_has_no_ranges() {
    let (world, bytes) = (World::new(), large());
    serve(&world, &bytes, bytes.len());
    block_on(async {
        interrupt(&world.mirror(&json!({})), &bytes, 4_000_000).await;
        let (_, read) = pull(&world.mirror(&json!({})), &blob(&bytes)).await;
        assert!(read.unwrap() == bytes);
    });
    assert_eq!(world.asked().len(), 2);
    assert_eq!(count(&world, "blobs/"), 1);
}

/// A fill that was wrong from the start is still wrong when a client resumes it, and is then
/// deleted.
#[test]
fn wrong_bytes_of_an_interrupted_fill_are_discarded() {
    let (world, bytes) = (World::new(), large());
    let mut wrong = bytes.clone();
    wrong[10] ^= 1;
    block_on(async {
        serve_parts(&world, wrong, usize::MAX);
        interrupt(&world.mirror(&json!({})), &bytes, 4_000_000).await;
        let begun = serve_parts(&world, bytes.clone(), usize::MAX);
        let (_, read) = pull(&world.mirror(&json!({})), &blob(&bytes)).await;
        assert!(read.is_err());
        assert!(begun.borrow()[0] > 0, "{begun:?}");
        assert_eq!((count(&world, "blobs/"), count(&world, "fills/")), (0, 0));
        let (_, read) = pull(&world.mirror(&json!({})), &blob(&bytes)).await;
        assert!(read.unwrap() == bytes);
        assert_eq!(begun.borrow()[1..], [0]);
    });
}

/// Two isolates may resume one fill: both serve the right bytes, and one of them stores the blob.
#[test]
fn two_isolates_that_resume_one_fill_both_serve_right_bytes() {
    let (world, bytes) = (World::new(), large());
    let begun = serve_parts(&world, bytes.clone(), usize::MAX);
    block_on(async {
        interrupt(&world.mirror(&json!({})), &bytes, 4_000_000).await;
        let mirrors = [world.mirror(&json!({})), world.mirror(&json!({}))];
        let path = blob(&bytes);
        let pulls = mirrors.iter().map(|mirror| pull(mirror, &path));
        for (status, read) in join_all(pulls).await {
            assert!(status == 200 && read.unwrap() == bytes);
        }
    });
    assert!(
        begun.borrow()[1..].iter().all(|start| *start > 0),
        "{begun:?}"
    );
    assert_eq!(count(&world, "blobs/"), 1);
    // The isolate that did not close the fill reports no failure.
    let log = world.host.log.borrow().join("\n");
    assert!(!log.contains("blob not mirrored"), "{log}");
    let (_, read) = block_on(pull(&world.mirror(&json!({})), &blob(&bytes)));
    assert!(read.unwrap() == bytes);
}
