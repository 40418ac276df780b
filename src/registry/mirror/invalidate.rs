//! Invalidating tags: the next request for a tag gets the upstream's answer of that time.
//!
//! The stored tag is rewritten by compare-and-swap, with the time of the invalidation.
//! Every isolate reads it before it uses its own cache, and an older answer of the upstream can't
//! be stored over it.

use http::StatusCode;
use serde_json::json;

use crate::{
    error::{Code, Error},
    host::Clock as _,
    name::{Name, Tag},
    platform::Platform,
    registry::{bound::for_each, mirror::Mirror},
    store::{
        Condition, Content, Meta, PutOptions,
        document::{TagTarget, from_json, to_json},
        key::{Key, Prefix},
    },
};

impl<P: Platform> Mirror<P> {
    /// Invalidates a tag, or all tags of a repository, so that the upstream is asked again.
    /// Returns the number of stored tags that were invalidated.
    pub(in crate::registry) async fn invalidate(
        &self,
        name: &Name,
        tag: Option<&Tag>,
    ) -> Result<usize, Error> {
        let mirrored = self.settings.upstreams.mirrored(name).ok_or_else(|| {
            let found =
                format!("repository {name} is not mirrored: there is nothing to invalidate");
            Error::new(Code::NameUnknown, found).with_detail(json!({ "name": name.as_str() }))
        })?;
        let stored = match tag {
            Some(tag) => {
                let key = Key::tag(name, tag);
                let meta = self.store.head(&key).await?;
                meta.map(|meta| (key, meta)).into_iter().collect()
            }
            None => self.store.list_all(Prefix::Tags(name)).await?.objects,
        };
        let allowed = self.settings.subrequests;
        if u32::try_from(stored.len() + 10).is_ok_and(|needed| needed > allowed) {
            let found = format!(
                "{} tags of {name} are stored, and STRATA_SUBREQUESTS allows a request {allowed} operations: select one by `tag`",
                stored.len()
            );
            return Err(
                Error::new(Code::Unsupported, found).with_status(StatusCode::PAYLOAD_TOO_LARGE)
            );
        }
        let invalidated = for_each(stored, |(key, meta)| self.invalidate_stored(key, meta)).await?;
        let invalidated = invalidated.into_iter().filter(|done| *done).count();
        // A cached "absent" is in memory only, so drop it there.
        let is_meant = |key: &Key| match key {
            Key::Tag {
                name: other,
                tag: found,
            } => other == name && tag.is_none_or(|tag| tag == found),
            _ => false,
        };
        let tags = &self.tags;
        tags.absent.borrow_mut().retain(|key, _| !is_meant(key));
        tags.seen.borrow_mut().retain(|key, _| !is_meant(key));
        self.client.forget_failure(&mirrored.upstream);
        Ok(invalidated)
    }

    /// Invalidates a stored tag, if it came from an upstream.
    async fn invalidate_stored(&self, key: Key, mut meta: Meta) -> Result<bool, Error> {
        loop {
            let mut target: TagTarget = from_json(&key, &meta.metadata)?;
            match &mut target {
                TagTarget::Manifest {
                    seen: Some(_),
                    invalidated,
                    ..
                } => *invalidated = Some(self.host.now()),
                TagTarget::Manifest { seen: None, .. } | TagTarget::Tombstone { .. } => {
                    return Ok(false);
                }
            }
            let target = to_json(&target)?;
            let options = PutOptions {
                condition: Condition::Matches(&meta.etag),
                metadata: &target,
                ..PutOptions::default()
            };
            let content = Content::Bytes(target.as_bytes().to_vec());
            if self.store.put(&key, content, options).await?.is_some() {
                return Ok(true);
            }
            // Another request stored an answer of the upstream,
            // which may be older than this invalidation.
            let Some(found) = self.store.head(&key).await? else {
                return Ok(false);
            };
            meta = found;
        }
    }
}
