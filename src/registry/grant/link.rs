//! Links: a right that was found, beside where the bytes are.

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
    /// Writes the link that makes good a claim: without it the repository has no right to the blob.
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

    /// Writes the link from a repository to a blob that it has got.
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

    /// Writes a link. It is a hint: if writing fails, reading costs more and that is all.
    pub(super) async fn write_link(
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
