//! Requests that wait while another one fetches a blob for which the upstream sends no
//! `Content-Length`.

use std::time::Duration;

use futures_util::{StreamExt as _, future::join, stream};
use http::{HeaderMap, StatusCode};
use pollster::block_on;
use serde_json::json;
use strata::{
    digest::Algorithm,
    host::Reply,
    memory::MemoryStreams,
    store::{Made, Piece, Streams as _},
};
use strata_support::{
    Ask, ask_now,
    mirrors::{Mirrors, text},
};

const PIECE: usize = 256 * 1024;
const PIECES: usize = 40;

/// The blob takes 80 seconds, and each piece of it two.
#[test]
fn followers_wait_as_long_as_bytes_of_the_blob_arrive() {
    let clock = std::rc::Rc::new(std::cell::RefCell::new(None::<strata_support::TestHost>));
    let host = clock.clone();
    let world = Mirrors::of(move |_| {
        let host = host.clone();
        let pieces = stream::iter(0..PIECES).then(move |_| {
            let host = host.clone();
            async move {
                strata_support::host::turn().await;
                if let Some(host) = &*host.borrow() {
                    host.pass(Duration::from_secs(2));
                }
                strata_support::host::turn().await;
                Ok(Piece::Bytes(vec![b'x'; PIECE]))
            }
        });
        let pieces = vec![Piece::Made(Made(pieces.boxed_local()))];
        Ok(Reply {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: Some(MemoryStreams.concatenate(pieces, (PIECES * PIECE) as u64)),
        })
    });
    *clock.borrow_mut() = Some(world.host.clone());
    let mirror = world.mirror(&json!({}));
    let digest = Algorithm::Sha256.digest(&vec![b'x'; PIECES * PIECE]);
    let path = format!("GET /v2/up.example/x/blobs/{digest}");
    let (leader, follower) = block_on(join(
        ask_now(&mirror, &Ask::new(&path)),
        ask_now(&mirror, &Ask::new(&path)),
    ));
    for answer in [leader, follower] {
        assert_eq!(answer.status, 200, "{}", text(&answer));
        assert_eq!(answer.body.len(), PIECES * PIECE);
    }
    assert_eq!(world.asked().len(), 1, "the upstream is asked once");
}
