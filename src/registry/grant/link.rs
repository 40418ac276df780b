//! Links: a right that was found, with the place of the bytes.

use crate::{
    digest::Digest,
    error::Error,
    host::{Level, Log as _},
    name::Name,
    platform::Platform,
    registry::grant::Grants,
    store::{
        Content, PutOptions, StoreError,
        document::{Linked, Record, Right, to_json},
        key::Key,
        tiers::Wanted,
    },
};

impl<P: Platform> Grants<P> {
    /// Writes the link that turns a claim into a right: without the link the repository has no
    /// right to the blob.
    pub(in crate::registry) async fn make_good(
        &self,
        name: &Name,
        digest: &Digest,
        record: &Record,
        right: Option<Right>,
    ) -> Result<(), Error> {
        self.put_link(name, digest, record, right).await?;
        self.tiers.changed(Wanted::Link(name, digest));
        Ok(())
    }

    /// Writes the link of a repository to a blob that it holds.
    pub(in crate::registry) async fn link(
        &self,
        name: &Name,
        digest: &Digest,
        record: &Record,
        right: Option<Right>,
    ) {
        self.write_link(name, digest, record, right).await;
        self.tiers.changed(Wanted::Link(name, digest));
    }

    /// Writes a link. It is a hint: if the write fails, reads only cost more.
    pub(in crate::registry) async fn write_link(
        &self,
        name: &Name,
        digest: &Digest,
        record: &Record,
        right: Option<Right>,
    ) {
        if let Err(error) = self.put_link(name, digest, record, right).await {
            let fields = [("error", &*error.to_string())];
            self.host.log(Level::Error, "link not written", &fields);
        }
    }

    async fn put_link(
        &self,
        name: &Name,
        digest: &Digest,
        record: &Record,
        right: Option<Right>,
    ) -> Result<(), StoreError> {
        let metadata = Linked::metadata(right);
        let options = PutOptions {
            metadata: &metadata,
            ..PutOptions::default()
        };
        let content = Content::Bytes(to_json(record)?.into_bytes());
        self.store
            .put(&Key::link(digest, name), content, options)
            .await
            .map(drop)
    }
}
