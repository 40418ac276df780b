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

fn names(target: &TagTarget, digest: &Digest) -> bool {
    match target {
        TagTarget::Manifest { digest: named, .. } => named == digest,
        TagTarget::Tombstone { .. } => false,
    }
}

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
    ///
    /// A deletion of an absent manifest deletes the tags that name it.
    /// An earlier deletion may have ended before it did so.
    pub(in crate::registry) async fn delete_manifest(
        &self,
        caller: &Caller,
        name: &Name,
        digest: &Digest,
    ) -> Result<(), Error> {
        let manifest = Key::manifest(name, digest);
        let mut is_deleted = self.store.head(&manifest).await?.is_some();
        let mut tags = self.tags_of(name, digest).await?;
        for (key, _) in &tags {
            if let Key::Tag { tag, .. } = key {
                self.require_deletable(caller, name, tag)?;
            }
        }
        if is_deleted {
            for (key, meta) in tags {
                self.bury_while_named(&key, meta, digest, None).await?; // 1
            }
            self.store.delete(std::slice::from_ref(&manifest)).await?; // 2
            self.tiers.withdraw(Wanted::Manifest(name, digest)).await;
            tags = self.tags_of(name, digest).await?; // 3
        }
        for (key, meta) in tags {
            let gone = Some(&manifest);
            is_deleted |= self.bury_while_named(&key, meta, digest, gone).await?; // 3
        }
        if !is_deleted {
            return Err(Error::manifest_unknown(name, digest));
        }
        Ok(())
    }

    /// The tags that name a manifest.
    async fn tags_of(&self, name: &Name, digest: &Digest) -> Result<Vec<(Key, Meta)>, Error> {
        let mut tags = self.store.list_all(Prefix::Tags(name)).await?.objects;
        let mut targets = Vec::new();
        for (key, meta) in &tags {
            targets.push(from_json(key, &meta.metadata)?);
        }
        let mut targets = targets.iter();
        tags.retain(|_| targets.next().is_some_and(|target| names(target, digest)));
        Ok(tags)
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

    /// Turns a tag into a tombstone while it names a manifest and, if given, `gone` is absent.
    /// Returns whether it became one.
    ///
    /// It does so by compare-and-swap, so a tag that was moved meanwhile stays.
    async fn bury_while_named(
        &self,
        key: &Key,
        mut meta: Meta,
        digest: &Digest,
        gone: Option<&Key>,
    ) -> Result<bool, Error> {
        while names(&from_json(key, &meta.metadata)?, digest) {
            // A push stores the manifest before the tag.
            // So if it is there, the push came after the deletion.
            if let Some(gone) = gone
                && self.store.head(gone).await?.is_some()
            {
                return Ok(false);
            }
            if self.bury(key, &meta, digest).await? {
                return Ok(true);
            }
            let Some(found) = self.store.head(key).await? else {
                return Ok(false);
            };
            meta = found;
        }
        Ok(false)
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
        let content = Content::Bytes(Vec::new());
        let buried = self.store.put(key, content, options).await;
        // A write that failed may have been done.
        self.tiers.tag_changed(key);
        Ok(buried?.is_some())
    }
}
