//! The checks that every store passes: one list, run on the store in memory and on the one at the edge.

use std::{cell::Cell, fmt::Debug, rc::Rc, time::Duration};

use futures_util::{
    StreamExt as _, TryStreamExt as _,
    stream::{self, Stream},
};

use crate::{
    digest::Algorithm,
    range::ByteRange,
    store::{
        Bytes, Condition, Content, HELD, Hasher as _, ListOptions, Made, Meta, PIECE, Piece,
        PutOptions, Reader as _, StoreError, Streams, Values,
    },
};

/// What came of one check.
#[derive(Debug)]
pub struct Outcome {
    /// What was checked.
    pub name: &'static str,
    /// What was found instead of what was expected.
    pub result: Result<(), String>,
}

/// Runs every check on an empty store. `body` makes a stream of bytes; large streams are checked as well, in pieces of
/// `part` bytes where the store has such a thing.
pub async fn run<S: Streams>(
    store: &S,
    body: impl Fn(&[u8]) -> S::Body,
    part: usize,
) -> Vec<Outcome> {
    let suite = Suite { store, body, part };
    macro_rules! outcomes {
        ($($check:ident)*) => {
            vec![$(Outcome { name: stringify!($check), result: suite.$check().await },)*]
        };
    }
    outcomes! {
        finds_nothing_where_nothing_is
        reads_what_was_written
        writes_streams
        reads_ranges
        replaces_bytes_and_metadata
        creates_only_if_absent
        lets_one_of_many_create
        swaps_only_what_was_seen
        refuses_bytes_with_another_digest
        refuses_before_it_looks_at_the_condition
        lists_in_order_of_bytes
        lists_a_thousand_at_once
        lists_in_pages
        lists_what_is_there_now
        deletes_several_and_what_is_not_there
        receives_streams_of_any_length
        hashes_streams
        collects_up_to_a_limit
        reads_streams_piece_by_piece
        gives_up_streams_that_are_read
        concatenates_pieces
        makes_pieces_when_their_turn_comes
        makes_no_more_for_a_stream_that_is_given_up
        breaks_off_where_a_piece_fails
        breaks_off_where_the_length_is_another
        holds_streams_of_the_length_announced
        holds_hashes_and_writes_what_is_read
    }
}

/// Runs every check on an empty store of values, and on the bytes that it is given and gives.
pub async fn run_values<V: Values>(values: &V) -> Vec<Outcome> {
    vec![
        Outcome {
            name: "keeps_values",
            result: keeps_values(values).await,
        },
        Outcome {
            name: "cuts_and_joins_bytes",
            result: cuts_and_joins_bytes::<V::Bytes>(),
        },
        Outcome {
            name: "digests_bytes",
            result: digests_bytes::<V::Bytes>().await,
        },
        Outcome {
            name: "compresses_bytes",
            result: compresses_bytes::<V::Bytes>().await,
        },
    ]
}

async fn keeps_values<V: Values>(values: &V) -> Check {
    const HOUR: Duration = Duration::from_secs(3_600);
    let read = async |key| {
        Ok::<_, String>(
            values
                .get(key)
                .await
                .map_err(text)?
                .map(|value| value.to_vec()),
        )
    };
    equal("nothing", read("values/none").await?, None)?;
    for bytes in [b"".to_vec(), b"some".to_vec(), pattern(100_000)] {
        let value = V::Bytes::copy_from(&bytes);
        values.put("values/a", value, HOUR).await.map_err(text)?;
        equal("what was written", read("values/a").await?, Some(bytes))?;
    }
    values.delete("values/a").await.map_err(text)?;
    values.delete("values/none").await.map_err(text)?;
    equal("what was deleted", read("values/a").await?, None)
}

fn cuts_and_joins_bytes<Y: Bytes>() -> Check {
    let bytes = Y::copy_from(b"0123456789");
    equal("length", bytes.len(), 10)?;
    for (first, end, expected) in [
        (0, 10, "0123456789"),
        (3, 6, "345"),
        (9, 10, "9"),
        (4, 4, ""),
        (8, 100, "89"),
        (10, 20, ""),
    ] {
        let cut = bytes.slice(first, end);
        equal("cut", cut.to_vec(), expected.as_bytes().to_vec())?;
        equal("its length", cut.len(), expected.len() as u64)?;
    }
    let joined = bytes.slice(2, 4).prefixed(b"ab");
    equal("joined", joined.to_vec(), b"ab23".to_vec())?;
    equal("empty", Y::copy_from(b"").is_empty(), true)
}

async fn digests_bytes<Y: Bytes>() -> Check {
    let bytes = pattern(100_000);
    let cut = Y::copy_from(&bytes).slice(10, 90_000);
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let expected = algorithm.digest(bytes.get(10..90_000).unwrap_or_default());
        equal("digest", cut.digest(algorithm).await, Ok(expected))?;
    }
    Ok(())
}

async fn compresses_bytes<Y: Bytes>() -> Check {
    for bytes in [
        b"".to_vec(),
        b"x".to_vec(),
        pattern(50_000),
        vec![7; 300_000],
    ] {
        let length = bytes.len() as u64;
        let compressed = Y::copy_from(&bytes).compress().await.map_err(text)?;
        if length == 300_000 {
            equal("smaller", compressed.len() < 3_000, true)?;
        }
        let again = compressed.decompress(length).await.map_err(text)?;
        equal("again", again.to_vec() == bytes, true)?;
        for wrong in [length + 1, length / 2]
            .into_iter()
            .filter(|wrong| *wrong != length)
        {
            let failed = compressed.decompress(wrong).await.is_err();
            equal("of another length", failed, true)?;
        }
        let broken = compressed.slice(0, compressed.len() / 2);
        equal("cut short", broken.decompress(length).await.is_err(), true)?;
    }
    Ok(())
}

struct Suite<'a, S, F> {
    store: &'a S,
    body: F,
    part: usize,
}

type Check = Result<(), String>;

impl<S: Streams, F: Fn(&[u8]) -> S::Body> Suite<'_, S, F> {
    async fn finds_nothing_where_nothing_is(&self) -> Check {
        equal("head", self.store.head("nothing").await, Ok(None))?;
        equal(
            "get",
            self.store
                .get("nothing", None)
                .await
                .map(|found| found.is_none()),
            Ok(true),
        )?;
        let page = self
            .store
            .list("nothing", page_of(10))
            .await
            .map_err(text)?;
        equal("list", (page.objects.len(), page.truncated), (0, false))
    }

    async fn reads_what_was_written(&self) -> Check {
        let written = self
            .put("read/a", b"some bytes", "{\"said\":\"of it\"}")
            .await?;
        equal("size", written.size, 10)?;
        equal(
            "head",
            self.store.head("read/a").await,
            Ok(Some(written.clone())),
        )?;
        let object = self
            .store
            .get("read/a", None)
            .await
            .map_err(text)?
            .ok_or("nothing is there")?;
        equal("meta", object.meta, written.clone())?;
        equal(
            "metadata",
            written.metadata.as_str(),
            "{\"said\":\"of it\"}",
        )?;
        equal(
            "bytes",
            self.store.collect(object.body, 100).await,
            Ok(Some(b"some bytes".to_vec())),
        )?;
        self.put("read/empty", b"", "").await?;
        equal("empty", self.bytes("read/empty").await?, Vec::new())
    }

    async fn writes_streams(&self) -> Check {
        let bytes = pattern(100_000);
        let content = Content::Stream((self.body)(&bytes), 100_000);
        let written = self
            .store
            .put("stream/a", content, PutOptions::default())
            .await
            .map_err(text)?;
        equal("size", written.map(|meta| meta.size), Some(100_000))?;
        equal("bytes", self.bytes("stream/a").await? == bytes, true)
    }

    async fn reads_ranges(&self) -> Check {
        self.put("range/a", b"0123456789", "").await?;
        for (first, last, expected) in [
            (0, 0, "0"),
            (3, 5, "345"),
            (9, 9, "9"),
            (0, 9, "0123456789"),
        ] {
            let object = self
                .store
                .get("range/a", ByteRange::new(first, last))
                .await
                .map_err(text)?;
            let object = object.ok_or("nothing is there")?;
            equal("size of all", object.meta.size, 10)?;
            equal(
                "bytes",
                self.store.collect(object.body, 100).await,
                Ok(Some(expected.as_bytes().to_vec())),
            )?;
        }
        Ok(())
    }

    async fn replaces_bytes_and_metadata(&self) -> Check {
        let first = self.put("replace/a", b"first", "1").await?;
        let second = self.put("replace/a", b"second", "2").await?;
        equal("etag is another", first.etag == second.etag, false)?;
        equal("head", self.store.head("replace/a").await, Ok(Some(second)))?;
        equal("bytes", self.bytes("replace/a").await?, b"second".to_vec())?;
        let bare = self.put("replace/a", b"third", "").await?;
        equal("metadata is gone", bare.metadata.as_str(), "")
    }

    async fn creates_only_if_absent(&self) -> Check {
        equal(
            "first",
            self.put_if("create/a", b"first", Condition::Absent)
                .await?
                .is_some(),
            true,
        )?;
        equal(
            "second",
            self.put_if("create/a", b"second", Condition::Absent)
                .await?,
            None,
        )?;
        equal("bytes", self.bytes("create/a").await?, b"first".to_vec())?;
        self.delete(&["create/a"]).await?;
        equal(
            "after a delete",
            self.put_if("create/a", b"third", Condition::Absent)
                .await?
                .is_some(),
            true,
        )
    }

    async fn lets_one_of_many_create(&self) -> Check {
        let writers = (0..16_u8).map(|writer| async move {
            let written = self.put_if("race/a", &[writer], Condition::Absent).await?;
            Ok::<_, String>(written.map(|_| writer))
        });
        let winners: Vec<u8> = futures_util::future::try_join_all(writers)
            .await?
            .into_iter()
            .flatten()
            .collect();
        equal("winners", winners.len(), 1)?;
        equal(
            "bytes are the winner's",
            self.bytes("race/a").await?,
            winners,
        )
    }

    async fn swaps_only_what_was_seen(&self) -> Check {
        let first = self.put("swap/a", b"first", "").await?;
        let second = self
            .put_if("swap/a", b"second", Condition::Matches(&first.etag))
            .await?;
        let second = second.ok_or("what was seen was not swapped")?;
        equal(
            "stale",
            self.put_if("swap/a", b"third", Condition::Matches(&first.etag))
                .await?,
            None,
        )?;
        equal(
            "head",
            self.store.head("swap/a").await,
            Ok(Some(second.clone())),
        )?;
        self.delete(&["swap/a"]).await?;
        equal(
            "gone",
            self.put_if("swap/a", b"fourth", Condition::Matches(&second.etag))
                .await?,
            None,
        )?;
        equal("stays gone", self.store.head("swap/a").await, Ok(None))
    }

    async fn refuses_bytes_with_another_digest(&self) -> Check {
        for algorithm in Algorithm::ALL {
            let digest = algorithm.digest(b"right");
            let options = PutOptions {
                digest: Some(&digest),
                ..PutOptions::default()
            };
            let wrong = self
                .store
                .put("digest/a", Content::Bytes(b"wrong".to_vec()), options)
                .await;
            equal("wrong bytes", wrong, Err(StoreError::Digest))?;
            let wrong = self
                .store
                .put(
                    "digest/a",
                    Content::Stream((self.body)(b"wrong"), 5),
                    options,
                )
                .await;
            equal("wrong stream", wrong, Err(StoreError::Digest))?;
            equal(
                "nothing is written",
                self.store.head("digest/a").await,
                Ok(None),
            )?;
            let right = self
                .store
                .put(
                    "digest/a",
                    Content::Stream((self.body)(b"right"), 5),
                    options,
                )
                .await;
            equal("right stream", right.map(|meta| meta.is_some()), Ok(true))?;
            self.delete(&["digest/a"]).await?;
        }
        Ok(())
    }

    async fn refuses_before_it_looks_at_the_condition(&self) -> Check {
        // Who does not have the bytes must not learn, nor gain, from their being there.
        let digest = Algorithm::Sha256.digest(b"right");
        self.put("proof/a", b"right", "").await?;
        let options = PutOptions {
            condition: Condition::Absent,
            digest: Some(&digest),
            ..PutOptions::default()
        };
        let wrong = self
            .store
            .put(
                "proof/a",
                Content::Stream((self.body)(b"wrong"), 5),
                options,
            )
            .await;
        equal(
            "wrong stream",
            matches!(wrong, Err(StoreError::Digest) | Ok(None)),
            true,
        )?;
        equal("bytes", self.bytes("proof/a").await?, b"right".to_vec())
    }

    async fn lists_in_order_of_bytes(&self) -> Check {
        for key in [
            "order/b",
            "order/a/b",
            "order/a",
            "order/B",
            "order/a-",
            "order/_",
            "order/~",
        ] {
            self.put(key, key.as_bytes(), key).await?;
        }
        self.put("orderly", b"", "").await?;
        let page = self
            .store
            .list("order/", page_of(1_000))
            .await
            .map_err(text)?;
        let keys: Vec<&str> = page.objects.iter().map(|(key, _)| key.as_str()).collect();
        let expected = [
            "order/B",
            "order/_",
            "order/a",
            "order/a-",
            "order/a/b",
            "order/b",
            "order/~",
        ];
        equal("keys", keys.as_slice(), &expected)?;
        equal("truncated", page.truncated, false)?;
        for (key, meta) in &page.objects {
            equal("metadata", meta.metadata.as_str(), key.as_str())?;
            equal("size", meta.size, key.len() as u64)?;
        }
        let page = self
            .store
            .list(
                "order/",
                ListOptions {
                    after: Some("order/a"),
                    ..page_of(1_000)
                },
            )
            .await
            .map_err(text)?;
        equal(
            "after",
            page.objects.first().map(|(key, _)| key.as_str()),
            Some("order/a-"),
        )?;
        let page = self
            .store
            .list(
                "order/",
                ListOptions {
                    after: Some("order/a."),
                    ..page_of(1_000)
                },
            )
            .await
            .map_err(text)?;
        equal(
            "after what is not there",
            page.objects.first().map(|(key, _)| key.as_str()),
            Some("order/a/b"),
        )
    }

    async fn lists_a_thousand_at_once(&self) -> Check {
        let writers = (0..1_001).map(|number| async move {
            self.put(&format!("many/{number:04}"), b"x", "metadata")
                .await
        });
        futures_util::future::try_join_all(writers).await?;
        let options = ListOptions {
            metadata: false,
            ..page_of(1_000)
        };
        let page = self.store.list("many/", options).await.map_err(text)?;
        equal("keys", (page.objects.len(), page.truncated), (1_000, true))?;
        let bare = page
            .objects
            .iter()
            .all(|(_, meta)| meta.metadata.is_empty() && meta.size == 1);
        equal("sizes without metadata", bare, true)
    }

    async fn lists_in_pages(&self) -> Check {
        let keys: Vec<String> = (0..25).map(|number| format!("page/{number:02}")).collect();
        for key in &keys {
            self.put(key, b"", "metadata").await?;
        }
        let mut found = Vec::new();
        let mut after: Option<String> = None;
        for _ in 0..25 {
            let page = self
                .store
                .list(
                    "page/",
                    ListOptions {
                        after: after.as_deref(),
                        ..page_of(10)
                    },
                )
                .await
                .map_err(text)?;
            equal("no more than asked for", page.objects.len() <= 10, true)?;
            found.extend(page.objects.into_iter().map(|(key, _)| key));
            if !page.truncated {
                break;
            }
            after = found.last().cloned();
        }
        equal("keys", found, keys)
    }

    async fn lists_what_is_there_now(&self) -> Check {
        self.put("now/a", b"", "").await?;
        self.put("now/b", b"", "").await?;
        self.delete(&["now/a"]).await?;
        let page = self.store.list("now/", page_of(10)).await.map_err(text)?;
        let keys: Vec<&str> = page.objects.iter().map(|(key, _)| key.as_str()).collect();
        equal("keys", keys.as_slice(), &["now/b"])
    }

    async fn deletes_several_and_what_is_not_there(&self) -> Check {
        for key in ["delete/a", "delete/b", "delete/c"] {
            self.put(key, b"", "").await?;
        }
        self.delete(&["delete/a", "delete/c", "delete/d"]).await?;
        self.delete(&[]).await?;
        equal("a", self.store.head("delete/a").await, Ok(None))?;
        equal(
            "b",
            self.store
                .head("delete/b")
                .await
                .map(|found| found.is_some()),
            Ok(true),
        )?;
        equal("c", self.store.head("delete/c").await, Ok(None))
    }

    async fn receives_streams_of_any_length(&self) -> Check {
        let part = self.part;
        for length in [
            0,
            1,
            1_000,
            part - 1,
            part,
            part + 1,
            2 * part,
            3 * part + 7,
        ] {
            let bytes = pattern(length);
            let key = format!("receive/{length}");
            let received = self
                .store
                .receive(&key, (self.body)(&bytes), Algorithm::Sha256)
                .await
                .map_err(text)?;
            equal("size", received.size, length as u64)?;
            equal("digest", received.digest, Algorithm::Sha256.digest(&bytes))?;
            if length > 0 {
                equal("stored", self.bytes(&key).await? == bytes, true)?;
            }
        }
        Ok(())
    }

    async fn hashes_streams(&self) -> Check {
        for algorithm in Algorithm::ALL {
            for length in [0, 1, 100_000] {
                let bytes = pattern(length);
                let received = self
                    .store
                    .hash((self.body)(&bytes), algorithm)
                    .await
                    .map_err(text)?;
                equal("size", received.size, length as u64)?;
                equal("digest", received.digest, algorithm.digest(&bytes))?;
            }
        }
        Ok(())
    }

    async fn collects_up_to_a_limit(&self) -> Check {
        for length in [0, 1, 65_536, 65_537, 200_000] {
            let bytes = pattern(length);
            let all = self.store.collect((self.body)(&bytes), length as u64).await;
            equal(
                "at the limit",
                all.map(|all| all == Some(bytes.clone())),
                Ok(true),
            )?;
            if let Some(less) = (length as u64).checked_sub(1) {
                let none = self.store.collect((self.body)(&bytes), less).await;
                equal("over the limit", none, Ok(None))?;
            }
        }
        Ok(())
    }

    async fn reads_streams_piece_by_piece(&self) -> Check {
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 12 * PIECE + 7] {
            let bytes = pattern(length);
            self.put("pass/a", &bytes, "").await?;
            let range = (length as u64)
                .checked_sub(1)
                .and_then(|last| ByteRange::new(1, last));
            let mut streams = vec![
                (self.open("pass/a", None).await?, 0),
                ((self.body)(&bytes), 0),
            ];
            if range.is_some() {
                streams.push((self.open("pass/a", range).await?, 1));
            }
            for (body, first) in streams {
                let mut reader = self.store.read(body).map_err(text)?;
                let mut piece = b"what was there before".to_vec();
                let expected = bytes.get(first..).unwrap_or_default();
                for expected in expected.chunks(PIECE) {
                    let more = reader.next(&mut piece).await;
                    equal("more", more, Ok(true))?;
                    equal("piece", piece == expected, true)?;
                }
                for _ in 0..2 {
                    equal("end", reader.next(&mut piece).await, Ok(false))?;
                    equal("nothing at the end", piece.len(), 0)?;
                }
                equal("capacity", piece.capacity() <= 2 * PIECE, true)?;
            }
        }
        Ok(())
    }

    async fn gives_up_streams_that_are_read(&self) -> Check {
        let bytes = pattern(8 * PIECE);
        self.put("pass/b", &bytes, "").await?;
        for pieces in [0, 1, 3] {
            for body in [self.open("pass/b", None).await?, (self.body)(&bytes)] {
                let mut reader = self.store.read(body).map_err(text)?;
                let mut piece = Vec::new();
                for expected in bytes.chunks(PIECE).take(pieces) {
                    equal("more", reader.next(&mut piece).await, Ok(true))?;
                    equal("piece", piece == expected, true)?;
                }
                reader.give_up().await;
            }
        }
        equal("stays", self.bytes("pass/b").await? == bytes, true)
    }

    async fn concatenates_pieces(&self) -> Check {
        let long = pattern(300_000);
        self.put("pieces/a", b"0123456789", "").await?;
        self.put("pieces/b", &long, "").await?;
        let pieces = vec![
            Piece::Bytes(b"<".to_vec()),
            Piece::Stream((self.body)(b"stream")),
            Piece::Object("pieces/a".to_owned(), ByteRange::new(3, 5)),
            made(["m", "", "ade"]),
            Piece::Held(S::Bytes::copy_from(b"|")),
            made([]),
            Piece::Bytes(Vec::new()),
            Piece::Object("pieces/b".to_owned(), None),
            Piece::Bytes(b">".to_vec()),
            made(["at the ", "end"]),
        ];
        let expected = [b"<stream345made|".as_slice(), &long, b">at the end"].concat();
        let body = self.store.concatenate(pieces, expected.len() as u64);
        equal(
            "bytes",
            self.store
                .collect(body, 1_000_000)
                .await
                .map(|all| all == Some(expected)),
            Ok(true),
        )?;
        let body = self
            .store
            .concatenate(vec![Piece::Object("pieces/none".to_owned(), None)], 1);
        equal(
            "a piece that is gone",
            self.store.collect(body, 100).await.is_err(),
            true,
        )
    }

    async fn makes_pieces_when_their_turn_comes(&self) -> Check {
        const ITEM: usize = 4 * PIECE;
        let count = Rc::new(Cell::new(0));
        let pieces = vec![
            Piece::Bytes(pattern(ITEM)),
            counted(ITEM, 10, &count),
            Piece::Held(S::Bytes::copy_from(&pattern(ITEM))),
        ];
        let body = self.store.concatenate(pieces, 12 * ITEM as u64);
        let mut reader = self.store.read(body).map_err(text)?;
        let mut piece = Vec::new();
        let mut taken = 0;
        while reader.next(&mut piece).await.map_err(text)? {
            let start = taken % ITEM;
            let expected = pattern(ITEM);
            let expected = expected.get(start..start + PIECE).unwrap_or_default();
            equal("piece", piece == expected, true)?;
            taken += piece.len();
            self.wait().await?;
            // The first item is the second piece: what is made beyond what was taken is one at most.
            let most = (taken / ITEM).min(10);
            equal("no more made than one ahead", count.get() <= most, true)?;
        }
        equal("bytes", taken, 12 * ITEM)?;
        equal("made", count.get(), 10)
    }

    async fn makes_no_more_for_a_stream_that_is_given_up(&self) -> Check {
        const ITEM: usize = 4 * PIECE;
        for pieces in [0, 1, 5] {
            let count = Rc::new(Cell::new(0));
            let made = vec![counted(ITEM, 100, &count)];
            let body = self.store.concatenate(made, 100 * ITEM as u64);
            let mut reader = self.store.read(body).map_err(text)?;
            let mut piece = Vec::new();
            for _ in 0..pieces {
                equal("more", reader.next(&mut piece).await, Ok(true))?;
            }
            reader.give_up().await;
            self.wait().await?;
            equal("few made", count.get() <= 1 + pieces / 4, true)?;
            equal("what makes them is dropped", Rc::strong_count(&count), 1)?;
        }
        let count = Rc::new(Cell::new(0));
        let made = vec![counted(ITEM, 100, &count)];
        let body = self.store.concatenate(made, 100 * ITEM as u64);
        self.wait().await?;
        self.store.discard(body).await;
        self.wait().await?;
        equal("few made of none read", count.get() <= 1, true)?;
        equal("it is dropped as well", Rc::strong_count(&count), 1)
    }

    async fn breaks_off_where_a_piece_fails(&self) -> Check {
        // Pieces before the error and after it, and the length: less than there was, what there was, and what there would be.
        for (before, after, length) in [
            (0, 0, 0),
            (0, 1, 1),
            (2, 1, 1),
            (2, 1, 2),
            (2, 1, 3),
            (3, 0, 3),
        ] {
            let count = Rc::new(Cell::new(0));
            let failing = stream::once(async { Err(StoreError::Failed("broken".to_owned())) });
            let items = counted_items(PIECE, before, &count)
                .chain(failing)
                .chain(counted_items(PIECE, 10, &count));
            let pieces = vec![
                Piece::Made(Made(items.map_ok(Piece::Held).boxed_local())),
                Piece::Bytes(vec![0; after * PIECE]),
            ];
            let body = self.store.concatenate(pieces, (length * PIECE) as u64);
            let found = self.pass(body).await;
            equal(
                "an error",
                (before, length, found.is_err()),
                (before, length, true),
            )?;
            self.wait().await?;
            equal("nothing is made after it", count.get() <= before, true)?;
            equal("it is dropped", Rc::strong_count(&count), 1)?;
        }
        Ok(())
    }

    async fn breaks_off_where_the_length_is_another(&self) -> Check {
        let bytes = pattern(3 * PIECE);
        for (length, whole) in [
            (0, false),
            (3 * PIECE - 1, false),
            (3 * PIECE, true),
            (3 * PIECE + 1, false),
            (9 * PIECE, false),
        ] {
            let count = Rc::new(Cell::new(0));
            let pieces = vec![counted(PIECE, 3, &count)];
            let body = self.store.concatenate(pieces, length as u64);
            let found = self.pass(body).await;
            equal("whole", found.is_ok(), whole)?;
            let pieces = vec![Piece::Bytes(bytes.clone())];
            let body = self.store.concatenate(pieces, length as u64);
            let found = self.store.collect(body, u64::MAX).await;
            equal("whole, collected", found.is_ok(), whole)?;
        }
        Ok(())
    }

    async fn holds_hashes_and_writes_what_is_read(&self) -> Check {
        let most = usize::try_from(HELD).unwrap_or(usize::MAX);
        for length in [0, 1, PIECE, most - 1, most, most + 1, 3 * most + 5] {
            let bytes = pattern(length);
            for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
                let reader = self.store.read((self.body)(&bytes));
                let mut reader = reader.map_err(text)?;
                let mut hasher = self.store.hasher(algorithm).map_err(text)?;
                let (mut at, mut want) = (0, 1_000);
                while let Some(held) = reader.hold(want as u64).await.map_err(text)? {
                    let end = bytes.len().min(at + most.min(want));
                    hasher.update(&held).await.map_err(text)?;
                    let key = format!("held/{length}-{at}-{algorithm}");
                    self.store.write(&key, &held).await.map_err(text)?;
                    let copy = held.clone();
                    drop(held);
                    let expected = bytes.get(at..end);
                    equal("held", Some(copy.to_vec().as_slice()) == expected, true)?;
                    let stored = self.bytes(&key).await?;
                    equal("stored", Some(stored.as_slice()) == expected, true)?;
                    (at, want) = (end, want * 100);
                }
                reader.give_up().await;
                equal("all of it", at, length)?;
                let digest = hasher.finish().await;
                equal("digest", digest, Ok(algorithm.digest(&bytes)))?;
            }
        }
        Ok(())
    }

    async fn holds_streams_of_the_length_announced(&self) -> Check {
        let bytes = pattern(1_000_000);
        let hold = async |length| self.store.hold((self.body)(&bytes), length).await;
        let held = hold(1_000_000).await.map_err(text)?;
        equal("bytes", held.to_vec() == bytes, true)?;
        for length in [0, 999_999, 1_000_001] {
            let refused = hold(length).await.err();
            equal("refused", refused, Some(StoreError::Length))?;
        }
        let none = self.store.hold((self.body)(b""), 0).await.map_err(text)?;
        equal("none", none.len(), 0)
    }

    async fn put(&self, key: &str, bytes: &[u8], metadata: &str) -> Result<Meta, String> {
        let options = PutOptions {
            metadata,
            ..PutOptions::default()
        };
        let written = self
            .store
            .put(key, Content::Bytes(bytes.to_vec()), options)
            .await
            .map_err(text)?;
        written.ok_or_else(|| format!("{key} was not written"))
    }

    async fn put_if(
        &self,
        key: &str,
        bytes: &[u8],
        condition: Condition<'_>,
    ) -> Result<Option<Meta>, String> {
        let options = PutOptions {
            condition,
            ..PutOptions::default()
        };
        self.store
            .put(key, Content::Bytes(bytes.to_vec()), options)
            .await
            .map_err(text)
    }

    async fn open(&self, key: &str, range: Option<ByteRange>) -> Result<S::Body, String> {
        let object = self.store.get(key, range).await.map_err(text)?;
        let object = object.ok_or_else(|| format!("{key} is not there"))?;
        Ok(object.body)
    }

    async fn bytes(&self, key: &str) -> Result<Vec<u8>, String> {
        let body = self.open(key, None).await?;
        let bytes = self.store.collect(body, u64::MAX).await.map_err(text)?;
        bytes.ok_or_else(|| format!("{key} has no end"))
    }

    /// Reads a stream piece by piece to its end.
    async fn pass(&self, body: S::Body) -> Result<u64, StoreError> {
        let mut reader = self.store.read(body)?;
        let mut piece = Vec::new();
        let mut length = 0;
        while reader.next(&mut piece).await? {
            length += piece.len() as u64;
        }
        Ok(length)
    }

    /// Lets the store do what it would do by itself.
    async fn wait(&self) -> Check {
        for _ in 0..5 {
            self.store.head("nothing").await.map_err(text)?;
        }
        Ok(())
    }

    async fn delete(&self, keys: &[&str]) -> Check {
        let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        self.store.delete(&keys).await.map_err(text)
    }
}

/// A piece that is made of these items.
fn made<B: 'static, Y: Bytes, const N: usize>(items: [&'static str; N]) -> Piece<B, Y> {
    let items = stream::iter(items).map(|item| Ok(Piece::Held(Y::copy_from(item.as_bytes()))));
    Piece::Made(Made(items.boxed_local()))
}

/// A piece that is made of so many items, and counts those that were made.
fn counted<B: 'static, Y: Bytes>(
    length: usize,
    items: usize,
    count: &Rc<Cell<usize>>,
) -> Piece<B, Y> {
    let items = counted_items(length, items, count).map_ok(Piece::Held);
    Piece::Made(Made(items.boxed_local()))
}

fn counted_items<Y: Bytes>(
    length: usize,
    items: usize,
    count: &Rc<Cell<usize>>,
) -> impl Stream<Item = Result<Y, StoreError>> + 'static {
    let count = Rc::clone(count);
    stream::iter(0..items).map(move |_| {
        count.set(count.get() + 1);
        Ok(Y::copy_from(&pattern(length)))
    })
}

/// A page of so many objects, with their metadata.
const fn page_of(limit: u32) -> ListOptions<'static> {
    ListOptions {
        after: None,
        limit,
        metadata: true,
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the form that map_err wants")]
fn text(error: StoreError) -> String {
    error.to_string()
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "what is compared is made for it"
)]
fn equal<T: Debug + PartialEq>(what: &str, found: T, expected: T) -> Check {
    if found == expected {
        Ok(())
    } else {
        Err(format!("{what}: found {found:?}, expected {expected:?}"))
    }
}

/// Bytes that are not the same at any two offsets a part apart.
fn pattern(length: usize) -> Vec<u8> {
    (0..length as u64)
        .map(|n| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56).to_le_bytes()[0])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::{Memory, MemoryBody, MemoryValues};

    #[test]
    fn passes_in_memory() {
        let store = Memory::default();
        let body = |bytes: &[u8]| MemoryBody::Bytes(bytes.to_vec());
        let mut outcomes = pollster::block_on(run(&store, body, 100));
        outcomes.extend(pollster::block_on(run_values(&MemoryValues::default())));
        let failed: Vec<&Outcome> = outcomes
            .iter()
            .filter(|outcome| outcome.result.is_err())
            .collect();
        assert!(failed.is_empty(), "{failed:#?}");
        assert_eq!(outcomes.len(), 31);
    }
}
