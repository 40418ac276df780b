//! The checks that every store passes: one list, run on the store in memory and on R2.

use std::rc::Rc;

use crate::{
    platform::Platform,
    range::ByteRange,
    store::{
        Condition, Content, Cursor, Later, ListOptions, ListStart, Meta, Objects as _, Piece,
        PutOptions, Reader as _, StoreError, Streams,
        suite::check::{Check, equal, text},
    },
};

pub use self::{check::CheckOutcome, values::run_values};

mod check;
mod listings;
mod objects;
mod pieces;
mod streams;
mod values;

/// Runs every check of [`Objects`](crate::store::Objects) and [`Streams`] on an empty store, and
/// returns the outcomes in the order of the checks.
///
/// `body` makes a stream of bytes. Streams larger than `part` bytes are checked as well, for stores
/// that write in parts.
pub async fn run<P: Platform>(
    store: &Rc<P::Cold>,
    host: &P::Host,
    body: impl Fn(&[u8]) -> P::Body,
    part: usize,
) -> Vec<CheckOutcome> {
    let suite = Suite::<P, _> {
        store,
        host,
        body,
        part,
    };
    macro_rules! outcomes {
        ($($check:ident)*) => {
            vec![$(CheckOutcome { name: stringify!($check), result: suite.$check().await },)*]
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
        never_writes_wrong_bytes_whatever_the_condition
        lists_in_order_of_bytes
        lists_more_than_a_thousand
        lists_in_pages
        lists_the_current_objects
        deletes_several_and_absent_objects
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
        holds_hashes_and_writes_streamed_bytes
    }
}

/// The most pages of a listing that the checks read.
const MAX_PAGES: u32 = 1_000;

struct Suite<'a, P: Platform, F> {
    store: &'a Rc<P::Cold>,
    host: &'a P::Host,
    body: F,
    part: usize,
}

impl<P: Platform, F: Fn(&[u8]) -> P::Body> Suite<'_, P, F> {
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

    async fn open(&self, key: &str, range: Option<ByteRange>) -> Result<P::Body, String> {
        let object = self.store.get(key, range).await.map_err(text)?;
        let object = object.ok_or_else(|| format!("{key} does not exist"))?;
        Ok(object.body)
    }

    /// A piece that reads an object, or a range of it.
    fn later(&self, key: &'static str, range: Option<ByteRange>) -> Piece<P::Body, P::Bytes> {
        let store = self.store.clone();
        Piece::Later(Later::new(move || {
            let store = store.clone();
            async move {
                let found = store.get(key, range).await?;
                let gone = || StoreError::Failed(format!("{key} is gone"));
                found.map(|object| object.body).ok_or_else(gone)
            }
        }))
    }

    async fn bytes(&self, key: &str) -> Result<Vec<u8>, String> {
        let body = self.open(key, None).await?;
        let bytes = self.host.collect(body, u64::MAX).await.map_err(text)?;
        bytes.ok_or_else(|| format!("{key} has no end"))
    }

    /// Reads a stream piece by piece to its end.
    async fn pass(&self, body: P::Body) -> Result<u64, StoreError> {
        let mut reader = self.host.read(body)?;
        let mut piece = Vec::new();
        let mut length = 0;
        while reader.next(&mut piece).await? {
            length += piece.len() as u64;
        }
        Ok(length)
    }

    /// Gives the store time for its background work.
    async fn wait(&self) -> Check {
        for _ in 0..5 {
            self.store.head("nothing").await.map_err(text)?;
        }
        Ok(())
    }

    /// Reads all pages of a listing, by the store's cursors.
    async fn list(
        &self,
        prefix: &str,
        options: ListOptions<'_>,
    ) -> Result<Vec<(String, Meta)>, String> {
        let mut objects = Vec::new();
        let mut next: Option<Cursor> = None;
        for _ in 0..MAX_PAGES {
            let start = next.as_ref().map_or(options.start, ListStart::Cursor);
            let page = ListOptions { start, ..options };
            let page = self.store.list(prefix, page).await.map_err(text)?;
            let is_within = page.objects.len() <= options.limit as usize;
            equal("no more than asked for", is_within, true)?;
            objects.extend(page.objects);
            next = page.next;
            if next.is_none() {
                return Ok(objects);
            }
        }
        Err(format!(
            "{prefix}: {MAX_PAGES} pages, and the listing goes on"
        ))
    }

    async fn delete(&self, keys: &[&str]) -> Check {
        let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        self.store.delete(&keys).await.map_err(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        memory::{MemoryBody, MemoryHost, MemoryObjects, MemoryPlatform, MemoryValues},
        time::Timestamp,
    };

    #[test]
    fn memory_stores_pass_the_store_suite() {
        let (store, host) = (Rc::default(), MemoryHost::new([0; 16], Timestamp(0)));
        let body = |bytes: &[u8]| MemoryBody::Bytes(bytes.to_vec());
        let checks = run::<MemoryPlatform>(&store, &host, body, 100);
        let mut outcomes = pollster::block_on(checks);
        outcomes.extend(pollster::block_on(run_values(&MemoryValues::default())));
        let failed: Vec<&CheckOutcome> = outcomes
            .iter()
            .filter(|outcome| outcome.result.is_err())
            .collect();
        assert!(failed.is_empty(), "{failed:#?}");
        assert_eq!(outcomes.len(), 31);
    }

    #[test]
    fn a_store_of_short_and_empty_pages_passes_the_store_suite() {
        for seed in 0..8 {
            let (store, host) = (
                Rc::new(MemoryObjects::default()),
                MemoryHost::new([0; 16], Timestamp(0)),
            );
            store.shorten_pages(seed);
            let body = |bytes: &[u8]| MemoryBody::Bytes(bytes.to_vec());
            for outcome in pollster::block_on(run::<MemoryPlatform>(&store, &host, body, 100)) {
                assert_eq!(outcome.result, Ok(()), "{} with seed {seed}", outcome.name);
            }
        }
    }
}
