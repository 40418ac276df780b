//! The schedule of passes: after a push, and by the clock.

use std::collections::BTreeMap;

use crate::{
    digest::Digest,
    error::Error,
    host::{Level, Log as _},
    layer::index::Refusal,
    platform::Platform,
    registry::{failure::log_failure, inside::Inside},
    store::{
        Condition, Content as Written, ListOptions, PutOptions,
        document::from_json,
        key::{Key, Prefix},
    },
};

/// How often the clock's trigger began passes that did not end, by the layer.
type Tries = BTreeMap<String, u32>;

/// How often the clock's trigger begins a pass that ends the isolate.
const MAX_TRIES: u32 = 3;

/// The steps that the cron trigger does at a time: each may take seven of the thirty seconds that it has.
const STEPS_AT_ONCE: u32 = 3;

/// The passes of which it tries one after the other until so many steps are done.
const PASSES_AT_ONCE: u32 = 50;

impl<P: Platform> Inside<P> {
    /// Indexes layers that were pushed and have no index yet, as far as a step each goes. Should that be cut short, the cron
    /// trigger knows what is left.
    pub(in crate::registry) async fn index_pushed(&self, layers: &[Digest]) -> Result<(), Error> {
        let mut left = Vec::new();
        for digest in layers {
            if self.store.head(&Key::index(digest)).await?.is_none() {
                let options = PutOptions {
                    condition: Condition::Absent,
                    ..PutOptions::default()
                };
                let begun = Written::Bytes(Vec::new());
                self.store
                    .put(&Key::indexing(digest), begun, options)
                    .await?;
                left.push(digest);
            }
        }
        for digest in left {
            if let Some(record) = self.grants.record(digest).await? {
                self.advance(digest, &record).await?;
            }
        }
        Ok(())
    }

    /// Goes on with passes that were paused: each a step, as many as there is time for. One that fails does not keep others from
    /// their turn, and one that ended the isolate several times is given up: it is announced before each step.
    pub(in crate::registry) async fn advance_passes(&self) -> Result<(), Error> {
        let mut steps = 0;
        let mut tries: Option<Tries> = None;
        let options = ListOptions {
            limit: PASSES_AT_ONCE,
            ..ListOptions::default()
        };
        let page = self.store.list(Prefix::Indexing, options).await?;
        for (key, _) in page.objects {
            let digest = match &key {
                Key::Indexing(digest) => Some(digest.clone()),
                _ => None,
            };
            let record = match &digest {
                Some(digest) => self.grants.record(digest).await?,
                None => None,
            };
            match (digest, record) {
                (Some(digest), Some(record)) => {
                    let tries = match &mut tries {
                        Some(tries) => tries,
                        None => tries.insert(self.read_tries().await?),
                    };
                    let encoded = digest.to_string();
                    let tried = tries.get(&encoded).copied().unwrap_or_default();
                    if tried >= MAX_TRIES {
                        self.give_up(&digest).await?;
                    } else {
                        tries.insert(encoded.clone(), tried + 1);
                        self.write_tries(tries).await?;
                        match self.advance(&digest, &record).await {
                            Ok(_) => steps += 1,
                            Err(error) => log_failure(&self.host, "layer not indexed", &error),
                        }
                    }
                    tries.remove(&encoded);
                }
                // Nobody will ask for it again.
                _ => self.store.delete(&[key]).await?,
            }
            if steps == STEPS_AT_ONCE {
                break;
            }
        }
        match tries {
            Some(tries) => self.write_tries(&tries).await,
            None => Ok(()),
        }
    }

    /// Which passes the trigger began and did not end, and how often. What another version has
    /// written counts as none.
    async fn read_tries(&self) -> Result<Tries, Error> {
        Ok(match self.store.text(&self.host, &Key::Passes).await? {
            Some((_, text)) => from_json(&Key::Passes, &text).unwrap_or_default(),
            None => Tries::new(),
        })
    }

    async fn write_tries(&self, tries: &Tries) -> Result<(), Error> {
        if tries.is_empty() {
            self.store.delete(&[Key::Passes]).await?;
            return Ok(());
        }
        self.store
            .put_document(&Key::Passes, tries, Condition::Always)
            .await?;
        Ok(())
    }

    /// Remembers that a layer is not to be indexed, because that never came to an end.
    async fn give_up(&self, digest: &Digest) -> Result<(), Error> {
        let refusal = Refusal {
            reason: format!("indexing it crashed the isolate {MAX_TRIES} times"),
            kind: "unfinished".to_owned(),
            limits: Some(self.settings.layers.options.limits()),
        };
        self.metrics.refused(&refusal.kind);
        let fields = [("layer", &*digest.to_string()), ("reason", &refusal.reason)];
        self.host.log(Level::Error, "layer not indexed", &fields);
        let content = Written::Bytes(refusal.encode());
        self.store
            .put(&Key::index(digest), content, PutOptions::default())
            .await?;
        self.store.delete(&[Key::indexing(digest)]).await?;
        Ok(())
    }
}
