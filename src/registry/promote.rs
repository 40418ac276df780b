//! Promoting: what was read often goes warm, after the reply.

use crate::{
    host::Host,
    manifest::Manifest,
    registry::Registry,
    store::{Bytes as _, Streams, Values, tiers::Promotion, warm::Link},
};

impl<S: Streams, W: Values<Bytes = S::Bytes>, H: Host<Body = S::Body>> Registry<S, W, H> {
    /// Writes content to the warm tier. A manifest takes the links of its blobs along, as far as this isolate has seen the
    /// blobs there: who reads the manifest will ask for them, and then one read has answered all.
    pub(super) async fn promote(&self, promotion: Promotion<S::Bytes>) {
        let links = promotion.name.as_ref().map_or_else(Vec::new, |name| {
            let content = &promotion.content;
            let parsed = Manifest::read(&content.bytes.to_vec());
            let blobs = parsed.map(|manifest| manifest.blobs).unwrap_or_default();
            let known = blobs.into_iter().filter_map(|digest| {
                let known = self
                    .tiers
                    .known(name, &digest)
                    .filter(|known| known.seen.get() && self.is_right(name, known.right))?;
                Some(Link {
                    digest,
                    record: known.record.clone(),
                    confirmed: known.confirmed,
                    right: known.right,
                })
            });
            known.collect()
        });
        self.tiers.promote(promotion, links).await;
    }
}
