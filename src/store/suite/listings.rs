//! The checks of listings.

use crate::{
    platform::Platform,
    store::{
        ListOptions, ListStart,
        suite::{
            Suite,
            check::{Check, equal, page_of},
        },
    },
};

impl<P: Platform, F: Fn(&[u8]) -> P::Body> Suite<'_, P, F> {
    pub(super) async fn lists_in_order_of_bytes(&self) -> Check {
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
        let page = self.list("order/", page_of(1_000)).await?;
        let keys: Vec<&str> = page.iter().map(|(key, _)| key.as_str()).collect();
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
        for (key, meta) in &page {
            equal("metadata", meta.metadata.as_str(), key.as_str())?;
            equal("size", meta.size, key.len() as u64)?;
        }
        for (after, first) in [("order/a", "order/a-"), ("order/a.", "order/a/b")] {
            let options = ListOptions {
                start: ListStart::After(after),
                ..page_of(1_000)
            };
            let page = self.list("order/", options).await?;
            let found = page.first().map(|(key, _)| key.as_str());
            equal(after, found, Some(first))?;
        }
        Ok(())
    }

    pub(super) async fn lists_more_than_a_thousand(&self) -> Check {
        let writers = (0..1_001).map(|number| async move {
            self.put(&format!("many/{number:04}"), b"x", "metadata")
                .await
        });
        futures_util::future::try_join_all(writers).await?;
        let options = ListOptions {
            metadata: false,
            ..page_of(1_000)
        };
        let all = self.list("many/", options).await?;
        equal("keys", all.len(), 1_001)?;
        let bare = all
            .iter()
            .all(|(_, meta)| meta.metadata.is_empty() && meta.size == 1);
        equal("sizes without metadata", bare, true)
    }

    pub(super) async fn lists_in_pages(&self) -> Check {
        let keys: Vec<String> = (0..25).map(|number| format!("page/{number:02}")).collect();
        for key in &keys {
            self.put(key, b"", "metadata").await?;
        }
        let found = self.list("page/", page_of(10)).await?;
        let found: Vec<String> = found.into_iter().map(|(key, _)| key).collect();
        equal("keys", found, keys)
    }

    pub(super) async fn lists_the_current_objects(&self) -> Check {
        self.put("now/a", b"", "").await?;
        self.put("now/b", b"", "").await?;
        self.delete(&["now/a"]).await?;
        let page = self.list("now/", page_of(10)).await?;
        let keys: Vec<&str> = page.iter().map(|(key, _)| key.as_str()).collect();
        equal("keys", keys.as_slice(), &["now/b"])
    }
}
