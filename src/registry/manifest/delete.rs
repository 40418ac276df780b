//! Deleting tags and manifests: end-9.
//!
//! Only the tags and the manifest are deleted here, by which a repository has it.
//! Objects that a concurrent request may be about to need stay for the sweep.

use serde_json::json as detail;

use crate::{
    access::{Caller, rule::Action},
    digest::Digest,
    error::{Code, Error},
    host::Clock as _,
    name::{Name, Tag},
    platform::Platform,
    registry::manifest::Manifests,
    store::{
        Condition, Content, Meta, PutOptions,
        document::{TagTarget, from_json, to_json},
        key::{Key, Prefix},
        tiers::Wanted,
    },
};

impl<P: Platform> Manifests<P> {
    /// end-9, by tag: the tag is deleted, the manifest stays.
    pub(in crate::registry) async fn delete_tag(
        &self,
        caller: &Caller,
        name: &Name,
        tag: &Tag,
    ) -> Result<(), Error> {
        self.require_deletable(caller, name, tag)?;
        let key = Key::tag(name, tag);
        let unknown = || Error::manifest_unknown(name, tag);
        loop {
            let meta = self.store.head(&key).await?.ok_or_else(unknown)?;
            match from_json(&key, &meta.metadata)? {
                TagTarget::Tombstone { .. } => return Err(unknown()),
                TagTarget::Manifest { digest, .. } => {
                    if self.bury(&key, &meta, &digest).await? {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// end-9, by digest: Manifest DELETE of the removal protocol. Grants and the referrers entry
    /// stay for the sweep.
    pub(in crate::registry) async fn delete_manifest(
        &self,
        caller: &Caller,
        name: &Name,
        digest: &Digest,
    ) -> Result<(), Error> {
        let manifest = Key::manifest(name, digest);
        if self.store.head(&manifest).await?.is_none() {
            return Err(Error::manifest_unknown(name, digest));
        }
        // Tags that still name it become tombstones, each by compare-and-swap: a tag that was moved
        // meanwhile stays.
        let tags = self.store.list_all(Prefix::Tags(name)).await?.objects;
        for (key, meta) in &tags {
            let target: TagTarget = from_json(key, &meta.metadata)?;
            if let (TagTarget::Manifest { digest: named, .. }, Key::Tag { tag, .. }) = (target, key)
                && named == *digest
            {
                self.require_deletable(caller, name, tag)?;
            }
        }
        for (key, meta) in tags {
            self.bury_while_named(&key, meta, digest).await?;
        }
        self.store.delete(&[manifest]).await?;
        self.tiers.withdraw(Wanted::Manifest(name, digest)).await;
        Ok(())
    }

    /// Refuses to delete an immutable tag, unless the caller may administer the repository.
    fn require_deletable(&self, caller: &Caller, name: &Name, tag: &Tag) -> Result<(), Error> {
        let settings = &self.settings;
        if !settings.retention.is_immutable(name, tag)
            || settings.access.may(caller, name, Action::Administer)
        {
            return Ok(());
        }
        let found = format!(
            "tag {tag} in repository {name} is immutable; deleting it needs the administer permission"
        );
        Err(Error::new(Code::Denied, found)
            .with_detail(detail!({ "name": name.as_str(), "tag": tag.as_str() })))
    }

    async fn bury_while_named(
        &self,
        key: &Key,
        mut meta: Meta,
        digest: &Digest,
    ) -> Result<(), Error> {
        loop {
            match from_json(key, &meta.metadata)? {
                TagTarget::Manifest { digest: named, .. } if named == *digest => {
                    if self.bury(key, &meta, digest).await? {
                        return Ok(());
                    }
                }
                TagTarget::Manifest { .. } | TagTarget::Tombstone { .. } => return Ok(()),
            }
            let Some(found) = self.store.head(key).await? else {
                return Ok(());
            };
            meta = found;
        }
    }

    /// Turns a tag into a tombstone if it is unchanged. Returns whether it was.
    pub(in crate::registry) async fn bury(
        &self,
        key: &Key,
        seen: &Meta,
        digest: &Digest,
    ) -> Result<bool, Error> {
        let tombstone = to_json(&TagTarget::Tombstone {
            digest: digest.clone(),
            time: self.host.now(),
        })?;
        let options = PutOptions {
            condition: Condition::Matches(&seen.etag),
            metadata: &tombstone,
            ..PutOptions::default()
        };
        // Listings recognize a tombstone by its empty body.
        Ok(self
            .store
            .put(key, Content::Bytes(Vec::new()), options)
            .await?
            .is_some())
    }
}
