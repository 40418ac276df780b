//! Links of blobs: reading and renewing them.

use crate::{
    digest::Digest,
    error::Error,
    host::Clock as _,
    name::Name,
    platform::Platform,
    registry::{blob::Blobs, grant::right::Readable},
    store::{
        document::is_blob,
        key::Key,
        tiers::{KnownLink, Wanted},
        trace::Trace,
    },
    tier::Tier,
};

impl<P: Platform> Blobs<P> {
    /// Reads the link of a blob from the cold tier.
    pub(super) async fn stored_link(
        &self,
        name: &Name,
        digest: &Digest,
    ) -> Result<Option<KnownLink>, Error> {
        let asked = self.host.now();
        let Some(Readable { record, right }) = self.grants.readable(name, digest).await? else {
            return Ok(None);
        };
        if record.objects() <= 1 {
            return Ok(Some(KnownLink::new(record, right, asked)));
        }
        let record = if self.grants.has_record(digest, &record).await? {
            record
        } else {
            let Some(fresh) = self.grants.record(digest).await? else {
                return Ok(None);
            };
            // No tier has the link yet, so there is nothing to invalidate.
            self.grants.write_link(name, digest, &fresh, right).await;
            fresh
        };
        let known = KnownLink::new(record, right, asked);
        known.seen.set(true);
        Ok(Some(known))
    }

    /// Whether the bytes of a blob were seen where the link says. They may be gone, or may have
    /// been set aside, since it was written.
    pub(super) async fn sees(
        &self,
        digest: &Digest,
        known: &KnownLink,
        trace: &Trace<P::Bytes>,
    ) -> Result<bool, Error> {
        if !known.seen.get() {
            let start = self.host.now();
            let found = self.store.head(&Key::blob(digest)).await?;
            trace.step("blob", Tier::Cold, self.host.now().since(start));
            known.seen.set(found.is_some_and(|meta| is_blob(&meta)));
        }
        Ok(known.seen.get())
    }

    /// Reads a hot link anew before it expires. If its bytes were seen, they are looked at again,
    /// unless they are hot.
    pub(in crate::registry) async fn renew_link(
        &self,
        name: &Name,
        digest: &Digest,
    ) -> Result<(), Error> {
        let wanted = Wanted::Link(name, digest);
        let Some(old) = self.tiers.known(name, digest) else {
            return Ok(());
        };
        let Some(link) = self.stored_link(name, digest).await? else {
            self.tiers.changed(wanted);
            return Ok(());
        };
        if old.seen.get() && !link.seen.get() {
            let is_there = self.tiers.is_hot(Wanted::Blob(digest)) || {
                let found = self.store.head(&Key::blob(digest)).await?;
                found.is_some_and(|meta| is_blob(&meta))
            };
            link.seen.set(is_there);
        }
        self.tiers.confirm_link(wanted, link);
        Ok(())
    }
}
