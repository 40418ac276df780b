//! The checks of streams.

use crate::{
    digest::Algorithm,
    platform::Platform,
    range::ByteRange,
    store::{
        Bytes, Content, HELD, Hasher as _, Objects as _, PIECE, PutOptions, Reader as _,
        StoreError, Streams,
        suite::{
            Suite,
            check::{Check, equal, pattern, text},
        },
    },
};

impl<P: Platform, F: Fn(&[u8]) -> P::Body> Suite<'_, P, F> {
    pub(super) async fn receives_streams_of_any_length(&self) -> Check {
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

    pub(super) async fn hashes_streams(&self) -> Check {
        for algorithm in Algorithm::ALL {
            for length in [0, 1, 100_000] {
                let bytes = pattern(length);
                let received = self
                    .host
                    .hash((self.body)(&bytes), algorithm)
                    .await
                    .map_err(text)?;
                equal("size", received.size, length as u64)?;
                equal("digest", received.digest, algorithm.digest(&bytes))?;
            }
        }
        Ok(())
    }

    pub(super) async fn collects_up_to_a_limit(&self) -> Check {
        for length in [0, 1, 65_536, 65_537, 200_000] {
            let bytes = pattern(length);
            let all = self.host.collect((self.body)(&bytes), length as u64).await;
            equal(
                "at the limit",
                all.map(|all| all == Some(bytes.clone())),
                Ok(true),
            )?;
            if let Some(less) = (length as u64).checked_sub(1) {
                let none = self.host.collect((self.body)(&bytes), less).await;
                equal("over the limit", none, Ok(None))?;
            }
        }
        Ok(())
    }

    pub(super) async fn reads_streams_piece_by_piece(&self) -> Check {
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
                let mut reader = self.host.read(body).map_err(text)?;
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

    pub(super) async fn gives_up_streams_that_are_read(&self) -> Check {
        let bytes = pattern(8 * PIECE);
        self.put("pass/b", &bytes, "").await?;
        for pieces in [0, 1, 3] {
            for body in [self.open("pass/b", None).await?, (self.body)(&bytes)] {
                let mut reader = self.host.read(body).map_err(text)?;
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

    pub(super) async fn holds_hashes_and_writes_streamed_bytes(&self) -> Check {
        let most = usize::try_from(HELD).unwrap_or(usize::MAX);
        for length in [0, 1, PIECE, most - 1, most, most + 1, 3 * most + 5] {
            let bytes = pattern(length);
            for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
                let reader = self.host.read((self.body)(&bytes));
                let mut reader = reader.map_err(text)?;
                let mut hasher = self.host.hasher(algorithm).map_err(text)?;
                let (mut at, mut want) = (0, 1_000);
                while let Some(held) = reader.hold(want as u64).await.map_err(text)? {
                    let end = bytes.len().min(at + most.min(want));
                    hasher.update(&held).await.map_err(text)?;
                    let key = format!("held/{length}-{at}-{algorithm}");
                    let content = Content::Held(held.clone());
                    let options = PutOptions::default();
                    self.store.put(&key, content, options).await.map_err(text)?;
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

    pub(super) async fn holds_streams_of_the_length_announced(&self) -> Check {
        let bytes = pattern(1_000_000);
        let hold = async |length| self.host.hold((self.body)(&bytes), length).await;
        let held = hold(1_000_000).await.map_err(text)?;
        equal("bytes", held.to_vec() == bytes, true)?;
        for length in [0, 999_999, 1_000_001] {
            let refused = hold(length).await.err();
            equal("refused", refused, Some(StoreError::Length))?;
        }
        let none = self.host.hold((self.body)(b""), 0).await.map_err(text)?;
        equal("none", none.len(), 0)
    }
}
