//! The schedule of passes: after a push, and by the cron trigger.

use std::collections::BTreeMap;

use crate::{
    digest::Digest,
    error::Error,
    host::{Level, Log as _},
    layer::index::Refusal,
    platform::Platform,
    registry::{failure::log_failure, inside::Inside},
    store::{
        Condition, Content as Written, PutOptions,
        bucket::Walk,
        document::from_json,
        key::{Key, Prefix},
    },
};

/// How often the cron trigger began a pass that did not end, by layer.
type Tries = BTreeMap<String, u32>;

/// A pass that ended the isolate so often is given up.
const MAX_TRIES: u32 = 3;

/// The most steps of one cron trigger: each may take seven of its thirty seconds.
const STEPS_AT_ONCE: u32 = 3;

/// The most passes that one cron trigger tries for that many steps.
const PASSES_AT_ONCE: u32 = 50;

impl<P: Platform> Inside<P> {
    /// Indexes pushed layers that have no index yet, each by one step.
    /// If this is cut short, the cron trigger knows which layers are left.
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

    /// Continues paused passes, each by one step, as many as there is time for.
    /// A pass that fails does not block the others.
    /// Each step is recorded before it begins, so that a pass that ended the isolate several times
    /// is given up.
    pub(in crate::registry) async fn advance_passes(&self) -> Result<(), Error> {
        let mut steps = 0;
        let mut tries: Option<Tries> = None;
        let mut walk = Walk::new(Prefix::Indexing, None, PASSES_AT_ONCE, false);
        for (key, _) in walk.up_to(&self.store, PASSES_AT_ONCE as usize).await? {
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
                // The layer is not stored, so nothing will ask for its index.
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

    /// Reads which passes the trigger began and did not end, and how often.
    /// A document of another version counts as empty.
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

    /// Stores that a layer is not to be indexed, because its pass never ended.
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
