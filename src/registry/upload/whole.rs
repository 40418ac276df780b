//! Blobs that are sent whole: one write at their own key.

use futures_util::future::{join, try_join};

use crate::{
    digest::Digest,
    error::{Error, RETRY_AFTER},
    name::Name,
    platform::Platform,
    registry::{
        bound::Bound,
        grant::Look,
        upload::{Uploads, delivery::Delivery, progress::swept_meanwhile},
    },
    store::{
        Bytes as _, Condition, Content, Meta, PutOptions, StoreError, Streams as _,
        document::{BlobKind, Reason, Record, is_blob, to_json},
        key::Key,
    },
};

/// A claim on a blob that is about to be sent whole.
pub(super) struct ClaimedBlob {
    bound: Bound,
    /// The blob's object before the claim. It decides the way, and proves nothing.
    seen: Option<Meta>,
    pub(super) grants: Vec<Key>,
    marked: Vec<Digest>,
}

impl<P: Platform> Uploads<P> {
    /// Push, whole: all of KEEP but lifting the mark.
    pub(super) async fn claim_whole(
        &self,
        name: &Name,
        digest: &Digest,
    ) -> Result<ClaimedBlob, Error> {
        let bound = self.grants.bound();
        let blob = Key::blob(digest);
        let seen = async { Ok(self.store.head(&blob).await?) };
        let digests = [digest];
        let claim = self.grants.grant(name, &digests, &Reason::Claim, bound);
        let (seen, grants) = try_join(seen, claim).await?;
        let marked = self.grants.marked(&digests).await?;
        Ok(ClaimedBlob {
            bound,
            seen,
            grants,
            marked,
        })
    }

    /// Push, whole. `ended` is the session that ends when the blob is stored.
    pub(super) async fn push_whole(
        &self,
        body: Option<P::Body>,
        length: u64,
        (name, digest): (&Name, &Digest),
        claimed: ClaimedBlob,
        ended: Option<Key>,
    ) -> Result<(), Error> {
        let ClaimedBlob {
            bound,
            seen,
            grants,
            marked,
        } = &claimed;
        let seen = match seen {
            None => Look::Absent,
            Some(meta) if !is_blob(meta) => Look::Aside(meta.clone()),
            Some(_) => {
                return self
                    .push_present(body, length, (name, digest), &claimed, ended)
                    .await;
            }
        };
        self.grants.lift_all(marked, *bound).await?; // 1 KEEP
        let blob = Key::blob(digest);
        let content = match body {
            Some(body) => Content::Stream(body, length),
            None => Content::Bytes(Vec::new()),
        };
        let metadata = to_json(&BlobKind::Bytes)?;
        let options = PutOptions {
            condition: seen.condition(),
            digest: Some(digest),
            metadata: &metadata,
            ..PutOptions::default()
        };
        match self.store.put(&blob, content, options).await {
            // 2, 3: creating the blob only if it is absent is the look. 4: the link. 5: 201
            Ok(Some(meta)) => {
                let record = Record::Bytes { size: meta.size };
                self.make_good(name, digest, &record, ended).await?;
                self.metrics.received.inc_by(meta.size);
                self.count_stored(meta.size);
            }
            Ok(None) => {
                // Another client created the blob since. That does not prove that this client has
                // its bytes.
                if !self.verifies_first(grants, digest).await {
                    self.forget(grants).await;
                    let found = format!(
                        "blob {digest} was pushed by another client at the same moment; push it again"
                    );
                    return Err(Error::unavailable(found, RETRY_AFTER));
                }
                let found = self.grants.record(digest).await?;
                let record = found.ok_or_else(|| swept_meanwhile(digest))?;
                self.make_good(name, digest, &record, ended).await?;
                self.metrics.received.inc_by(length);
                self.metrics.deduplicated.inc_by(record.size());
            }
            Err(error) => {
                self.void(grants, &error).await;
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// The link that makes a claim good, and the end of the session beside it.
    async fn make_good(
        &self,
        name: &Name,
        digest: &Digest,
        record: &Record,
        ended: Option<Key>,
    ) -> Result<(), Error> {
        let right = Delivery::Push.right();
        let link = self.grants.make_good(name, digest, record, right);
        let ended: Vec<Key> = ended.into_iter().collect();
        let end = async {
            if !ended.is_empty() {
                self.forget(&ended).await;
            }
        };
        join(link, end).await.0
    }

    /// Push, whole, of a blob that is there, perhaps through another repository.
    /// A client that has the bytes may have a grant on them.
    ///
    /// A client that lacks the bytes must not learn that another client has them.
    /// So a push of other bytes takes the same operations in the same order as if the blob were
    /// absent, and gets the same answer.
    /// The claim is written before the body is read,
    /// and a mark is lifted only after the bytes were verified.
    /// After wrong bytes comes a write that the store refuses, as it refuses to create a blob of
    /// wrong bytes.
    async fn push_present(
        &self,
        body: Option<P::Body>,
        length: u64,
        (name, digest): (&Name, &Digest),
        claimed: &ClaimedBlob,
        ended: Option<Key>,
    ) -> Result<(), Error> {
        let received = match body {
            Some(body) => {
                let received = self.host.hash(body, digest.algorithm()).await;
                received.map(|received| (received.size, received.digest))
            }
            None => Ok((length, digest.algorithm().digest(b""))),
        };
        let right = received.and_then(|(size, found)| {
            if size != length {
                Err(StoreError::Length)
            } else if found != *digest {
                Err(StoreError::Digest)
            } else {
                Ok(())
            }
        });
        if let Err(error) = right {
            // The store refuses it by the digest or by the condition. Any other outcome is ignored:
            // the write only costs what a push of a new blob would.
            drop(self.write_refused(&Key::blob(digest), digest).await);
            self.void(&claimed.grants, &error).await;
            return Err(error.into());
        }
        self.metrics.received.inc_by(length);
        let bound = claimed.bound;
        self.grants.lift_all(&claimed.marked, bound).await?; // 1 KEEP: the mark, if not lifted
        bound.check(&self.host)?;
        let found = self.grants.record(digest).await?; // 2 look
        let record = found.ok_or_else(|| swept_meanwhile(digest))?;
        self.make_good(name, digest, &record, ended).await?; // 4 the link
        self.metrics.deduplicated.inc_by(record.size());
        Ok(())
    }

    /// Whether the store verifies the digest of a write before its condition. If not, a write that
    /// lost to another one proves nothing about its bytes. R2's documentation does not say, so a
    /// probe asks the store: a write of bytes with another digest to an existing grant.
    async fn verifies_first(&self, grants: &[Key], digest: &Digest) -> bool {
        match grants.first() {
            Some(grant) => {
                let refused = self.write_refused(grant, digest).await;
                matches!(refused, Err(StoreError::Digest))
            }
            None => false,
        }
    }

    /// Makes a write that the store refuses: bytes that don't have the digest, on the condition
    /// that the key is absent.
    async fn write_refused(&self, key: &Key, digest: &Digest) -> Result<Option<Meta>, StoreError> {
        let empty = Vec::new();
        let other = if digest.algorithm().digest(&empty) == *digest {
            vec![0]
        } else {
            empty
        };
        let options = PutOptions {
            condition: Condition::Absent,
            digest: Some(digest),
            ..PutOptions::default()
        };
        self.store.put(key, Content::Bytes(other), options).await
    }

    /// Deletes a claim if the bytes were wrong.
    /// If the client is gone, the claim stays until it expires, and gives no right.
    async fn void(&self, grants: &[Key], error: &StoreError) {
        if matches!(error, StoreError::Digest | StoreError::Length) {
            self.forget(grants).await;
        }
    }

    /// Stores a small blob of an upstream. `seen` is the look before the fetch. The bytes are held
    /// in memory and hashed before anything is written, so no claim is needed.
    pub(in crate::registry) async fn fill_whole(
        &self,
        body: Option<P::Body>,
        length: u64,
        name: &Name,
        digest: &Digest,
        seen: &Look,
    ) -> Result<(), Error> {
        let bound = self.grants.bound();
        let bytes = match body {
            Some(body) => self.host.hold(body, length).await?,
            None => P::Bytes::copy_from(b""),
        };
        self.metrics.received.inc_by(length);
        if bytes.digest(digest.algorithm()).await? != *digest {
            return Err(StoreError::Digest.into());
        }
        let by = Delivery::Fill;
        self.grants
            .keep(name, &[digest], &by.reason(), bound)
            .await?; // 1 KEEP
        let metadata = to_json(&BlobKind::Bytes)?;
        let options = PutOptions {
            condition: seen.condition(),
            digest: Some(digest),
            metadata: &metadata,
            ..PutOptions::default()
        };
        let content = if length == 0 {
            Content::Bytes(Vec::new())
        } else {
            Content::Held(bytes)
        };
        bound.check(&self.host)?;
        // 2, 3: creating the blob only if it is absent is the look
        let record = match self.store.put(&Key::blob(digest), content, options).await? {
            Some(meta) => {
                self.count_stored(meta.size);
                Record::Bytes { size: meta.size }
            }
            None => {
                let found = self.grants.record(digest).await?;
                let record = found.ok_or_else(|| swept_meanwhile(digest))?;
                self.metrics.deduplicated.inc_by(record.size());
                record
            }
        };
        self.grants.link(name, digest, &record, by.right()).await; // 4
        Ok(())
    }
}
