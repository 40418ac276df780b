//! The largest blob that a mirror stores if the upstream sends no `Content-Length`.

use std::{cell::Cell, rc::Rc};

use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, StatusCode};
use serde_json::json;
use strata::{
    digest::Algorithm,
    host::Reply,
    memory::MemoryStreams,
    store::{Made, Piece, Streams as _},
};
use strata_support::mirrors::{Mirrors, get, text};

const MIB: usize = 1024 * 1024;

/// An upstream that sends a blob of this many mebibytes without `Content-Length`, and the number of
/// mebibytes that were read.
fn upstream(size: usize) -> (Mirrors, Rc<Cell<usize>>) {
    let read = Rc::new(Cell::new(0));
    let count = read.clone();
    let world = Mirrors::of(move |_| {
        let count = count.clone();
        let pieces = stream::iter(0..size).map(move |_| {
            count.set(count.get() + 1);
            Ok(Piece::Bytes(vec![b'x'; MIB]))
        });
        let pieces = vec![Piece::Made(Made(pieces.boxed_local()))];
        Ok(Reply {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: Some(MemoryStreams.concatenate(pieces, (size * MIB) as u64)),
        })
    });
    (world, read)
}

fn path_of(size: usize) -> String {
    let digest = Algorithm::Sha256.digest(&vec![b'x'; size * MIB]);
    format!("/v2/up.example/x/blobs/{digest}")
}

#[test]
fn a_blob_without_a_length_is_read_up_to_most_bytes() {
    let (world, read) = upstream(64);
    let mirror = world.mirror(&json!({ "most_bytes": 8 * MIB }));
    let answer = get(&mirror, &path_of(64));
    assert_eq!(answer.status, 502, "{}", text(&answer));
    assert!(text(&answer).contains("most_bytes"), "{}", text(&answer));
    // The mirror reads 5 MiB at once.
    assert!(read.get() <= 15, "{} MiB were read", read.get());
    let keys = world.store.memory.keys();
    let has = |part: &str| keys.iter().any(|key| key.contains(part));
    assert!(
        !has("blobs/") && !has("extents/") && !has("refs/"),
        "{keys:?}"
    );
}

#[test]
fn a_blob_without_a_length_may_have_most_bytes() {
    for size in [1, 7, 8] {
        let (world, _) = upstream(size);
        let mirror = world.mirror(&json!({ "most_bytes": 8 * MIB }));
        let answer = get(&mirror, &path_of(size));
        assert_eq!(answer.status, 200, "{}", text(&answer));
        assert_eq!(answer.body.len(), size * MIB);
        let again = get(&mirror, &path_of(size));
        assert_eq!(again.body, answer.body);
    }
}
