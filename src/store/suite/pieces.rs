//! The checks of joined streams.

use std::{cell::Cell, rc::Rc};

use futures_util::{
    StreamExt as _, TryStreamExt as _,
    stream::{self},
};

use crate::{
    platform::Platform,
    range::ByteRange,
    store::{
        Bytes, Made, PIECE, Piece, Reader as _, StoreError, Streams,
        suite::{
            Suite,
            check::{Check, counted, counted_items, equal, made, pattern, text},
        },
    },
};

impl<P: Platform, F: Fn(&[u8]) -> P::Body> Suite<'_, P, F> {
    pub(super) async fn concatenates_pieces(&self) -> Check {
        let long = pattern(300_000);
        self.put("pieces/a", b"0123456789", "").await?;
        self.put("pieces/b", &long, "").await?;
        let pieces = vec![
            Piece::Bytes(b"<".to_vec()),
            Piece::Stream((self.body)(b"stream")),
            self.later("pieces/a", ByteRange::new(3, 5)),
            made(["m", "", "ade"]),
            Piece::Held(P::Bytes::copy_from(b"|")),
            made([]),
            Piece::Bytes(Vec::new()),
            self.later("pieces/b", None),
            Piece::Bytes(b">".to_vec()),
            made(["at the ", "end"]),
        ];
        let expected = [b"<stream345made|".as_slice(), &long, b">at the end"].concat();
        let body = self.host.concatenate(pieces, expected.len() as u64);
        equal(
            "bytes",
            self.host
                .collect(body, 1_000_000)
                .await
                .map(|all| all == Some(expected)),
            Ok(true),
        )?;
        let body = self
            .host
            .concatenate(vec![self.later("pieces/none", None)], 1);
        equal(
            "a piece that is gone",
            self.host.collect(body, 100).await.is_err(),
            true,
        )
    }

    pub(super) async fn makes_pieces_when_their_turn_comes(&self) -> Check {
        const ITEM: usize = 4 * PIECE;
        let count = Rc::new(Cell::new(0));
        let pieces = vec![
            Piece::Bytes(pattern(ITEM)),
            counted(ITEM, 10, &count),
            Piece::Held(P::Bytes::copy_from(&pattern(ITEM))),
        ];
        let body = self.host.concatenate(pieces, 12 * ITEM as u64);
        let mut reader = self.host.read(body).map_err(text)?;
        let mut piece = Vec::new();
        let mut taken = 0;
        while reader.next(&mut piece).await.map_err(text)? {
            let start = taken % ITEM;
            let expected = pattern(ITEM);
            let expected = expected.get(start..start + PIECE).unwrap_or_default();
            equal("piece", piece == expected, true)?;
            taken += piece.len();
            self.wait().await?;
            // The first item is the second piece: at most one is produced ahead of the reader.
            let most = (taken / ITEM).min(10);
            equal("no more made than one ahead", count.get() <= most, true)?;
        }
        equal("bytes", taken, 12 * ITEM)?;
        equal("made", count.get(), 10)
    }

    pub(super) async fn makes_no_more_for_a_stream_that_is_given_up(&self) -> Check {
        const ITEM: usize = 4 * PIECE;
        for pieces in [0, 1, 5] {
            let count = Rc::new(Cell::new(0));
            let made = vec![counted(ITEM, 100, &count)];
            let body = self.host.concatenate(made, 100 * ITEM as u64);
            let mut reader = self.host.read(body).map_err(text)?;
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
        let body = self.host.concatenate(made, 100 * ITEM as u64);
        self.wait().await?;
        self.host.discard(body).await;
        self.wait().await?;
        equal("few made of none read", count.get() <= 1, true)?;
        equal("it is dropped as well", Rc::strong_count(&count), 1)
    }

    pub(super) async fn breaks_off_where_a_piece_fails(&self) -> Check {
        // Pieces before the error, pieces after it, and the announced length: less than the pieces
        // before the error, as many, or all.
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
            let body = self.host.concatenate(pieces, (length * PIECE) as u64);
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

    pub(super) async fn breaks_off_where_the_length_is_another(&self) -> Check {
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
            let body = self.host.concatenate(pieces, length as u64);
            let found = self.pass(body).await;
            equal("whole", found.is_ok(), whole)?;
            let pieces = vec![Piece::Bytes(bytes.clone())];
            let body = self.host.concatenate(pieces, length as u64);
            let found = self.host.collect(body, u64::MAX).await;
            equal("whole, collected", found.is_ok(), whole)?;
        }
        Ok(())
    }
}
