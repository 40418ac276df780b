//! The checks of objects: reading, conditional writes, deleting.

use crate::{
    digest::Algorithm,
    platform::Platform,
    range::ByteRange,
    store::{
        Condition, Content, Objects as _, PutOptions, StoreError, Streams,
        suite::{
            Suite,
            check::{Check, equal, page_of, pattern, text},
        },
    },
};

impl<P: Platform, F: Fn(&[u8]) -> P::Body> Suite<'_, P, F> {
    pub(super) async fn finds_nothing_where_nothing_is(&self) -> Check {
        equal("head", self.store.head("nothing").await, Ok(None))?;
        equal(
            "get",
            self.store
                .get("nothing", None)
                .await
                .map(|found| found.is_none()),
            Ok(true),
        )?;
        equal("list", self.list("nothing", page_of(10)).await?, Vec::new())
    }

    pub(super) async fn reads_what_was_written(&self) -> Check {
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
            self.host.collect(object.body, 100).await,
            Ok(Some(b"some bytes".to_vec())),
        )?;
        self.put("read/empty", b"", "").await?;
        equal("empty", self.bytes("read/empty").await?, Vec::new())
    }

    pub(super) async fn writes_streams(&self) -> Check {
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

    pub(super) async fn reads_ranges(&self) -> Check {
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
                self.host.collect(object.body, 100).await,
                Ok(Some(expected.as_bytes().to_vec())),
            )?;
        }
        Ok(())
    }

    pub(super) async fn replaces_bytes_and_metadata(&self) -> Check {
        let first = self.put("replace/a", b"first", "1").await?;
        let second = self.put("replace/a", b"second", "2").await?;
        equal("etag is another", first.etag == second.etag, false)?;
        equal("head", self.store.head("replace/a").await, Ok(Some(second)))?;
        equal("bytes", self.bytes("replace/a").await?, b"second".to_vec())?;
        let bare = self.put("replace/a", b"third", "").await?;
        equal("metadata is gone", bare.metadata.as_str(), "")
    }

    pub(super) async fn creates_only_if_absent(&self) -> Check {
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

    pub(super) async fn lets_one_of_many_create(&self) -> Check {
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

    pub(super) async fn swaps_only_what_was_seen(&self) -> Check {
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

    pub(super) async fn refuses_bytes_with_another_digest(&self) -> Check {
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

    pub(super) async fn never_writes_wrong_bytes_whatever_the_condition(&self) -> Check {
        // A client without the bytes must not learn whether they are stored, nor gain a right to
        // them.
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

    pub(super) async fn deletes_several_and_absent_objects(&self) -> Check {
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
}
