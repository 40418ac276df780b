//! Tags that are believed for a stated time, for callers that can't change them.

use crate::{
    digest::Digest,
    host::Clock as _,
    platform::Platform,
    store::{
        key::Key,
        tiers::{Tiers, wanted::BelievedTag},
        trace::Trace,
    },
    time::Timestamp,
};

impl<P: Platform> Tiers<P> {
    /// The digest that a tag named lately. `None` if the caller can change the tag, because another
    /// isolate may have moved it for that caller a moment ago.
    pub fn believed_tag(&self, tag: &Key, trace: &Trace<P::Bytes>) -> Option<Digest> {
        if !trace.believes_tags.get() {
            return None;
        }
        let mut tags = self.tags.borrow_mut();
        let believed = tags.get(&tag.to_string())?;
        let is_fresh = self.host.now() < believed.asked + self.policy.tag_age;
        is_fresh.then(|| believed.digest.clone())
    }

    /// Believes what the cold tier said about a tag when it was asked, unless this isolate has
    /// changed the tag since.
    pub fn believe_tag(&self, tag: &Key, digest: &Digest, asked: Timestamp) {
        let key = tag.to_string();
        if self.policy.tag_age.is_zero() || self.changes.since(&key, asked) {
            return;
        }
        let mut tags = self.tags.borrow_mut();
        if tags.peek(&key).is_none_or(|other| other.asked <= asked) {
            let digest = digest.clone();
            tags.insert(&key, BelievedTag { digest, asked }, DIGEST);
        }
    }

    /// Forgets a tag after a push or a deletion, and what reads under way will say about it.
    pub fn tag_changed(&self, tag: &Key) {
        let key = tag.to_string();
        self.changes.note(&key, self.host.now());
        self.tags.borrow_mut().remove(&key);
    }
}

/// The most memory of a digest, in bytes.
const DIGEST: u64 = 160;
