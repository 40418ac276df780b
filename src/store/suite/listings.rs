//! The checks of listings.

use crate::{
    platform::Platform,
    store::{
        ListOptions, Objects as _,
        suite::{
            Suite,
            check::{Check, equal, page_of, text},
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

    pub(super) async fn lists_a_thousand_at_once(&self) -> Check {
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

    pub(super) async fn lists_in_pages(&self) -> Check {
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

    pub(super) async fn lists_the_current_objects(&self) -> Check {
        self.put("now/a", b"", "").await?;
        self.put("now/b", b"", "").await?;
        self.delete(&["now/a"]).await?;
        let page = self.store.list("now/", page_of(10)).await.map_err(text)?;
        let keys: Vec<&str> = page.objects.iter().map(|(key, _)| key.as_str()).collect();
        equal("keys", keys.as_slice(), &["now/b"])
    }
}
