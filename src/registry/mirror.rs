//! Pulling mirrored content.
//!
//! A stored copy is served while it is fresh, and the upstream's answer after that.
//! If the upstream gives none, the stored copy is served stale.

use std::rc::Rc;

use crate::{
    digest::Digest,
    error::Error,
    ledger::Ledger,
    metrics::Metrics,
    name::{Name, Reference},
    platform::Platform,
    registry::{
        blob::Blobs,
        grant::Grants,
        list::Lists,
        manifest::Manifests,
        mirror::{
            client::Client, error::UpstreamError, fill::Fills, pages::PageFlights, tags::Tags,
        },
        parts::Parts,
        upload::Uploads,
    },
    settings::Settings,
    store::{bucket::Bucket, tiers::Tiers, trace::Trace, warm::TierContent},
    upstream::Mirrored,
};

mod blob;
mod client;
mod download;
mod error;
mod fill;
mod invalidate;
mod list;
mod manifest;
mod pages;
mod resume;
mod source;
mod tag;
mod tags;

/// The mirror: repositories of upstreams, fetched as clients ask for them.
/// Reads of any repository go through it.
pub(super) struct Mirror<P: Platform> {
    store: Bucket<P::Cold>,
    tiers: Rc<Tiers<P>>,
    host: P::Host,
    settings: Rc<Settings>,
    metrics: Rc<Metrics>,
    ledger: Ledger,
    client: Client<P>,
    grants: Rc<Grants<P>>,
    uploads: Rc<Uploads<P>>,
    blobs: Rc<Blobs<P>>,
    manifests: Rc<Manifests<P>>,
    lists: Rc<Lists<P>>,
    tags: Tags<P::Bytes>,
    pages: PageFlights,
    fills: Fills<P::Bytes>,
}

/// The services that a mirror calls.
pub(super) struct Services<P: Platform> {
    pub(super) grants: Rc<Grants<P>>,
    pub(super) uploads: Rc<Uploads<P>>,
    pub(super) blobs: Rc<Blobs<P>>,
    pub(super) manifests: Rc<Manifests<P>>,
    pub(super) lists: Rc<Lists<P>>,
}

impl<P: Platform> Mirror<P> {
    pub(super) fn new(parts: &Parts<P>, services: Services<P>) -> Self {
        let Services {
            grants,
            uploads,
            blobs,
            manifests,
            lists,
        } = services;
        Self {
            store: parts.store.clone(),
            tiers: parts.tiers.clone(),
            host: parts.host.clone(),
            settings: parts.settings.clone(),
            metrics: parts.metrics.clone(),
            ledger: parts.ledger.clone(),
            client: Client::new(parts),
            grants,
            uploads,
            blobs,
            manifests,
            lists,
            tags: Tags::default(),
            pages: PageFlights::default(),
            fills: Fills::default(),
        }
    }

    /// Reads a manifest: a stored one, or one of an upstream.
    pub(super) async fn read_manifest(
        &self,
        name: &Name,
        reference: &Reference,
        trace: &Trace<P::Bytes>,
    ) -> Result<(Digest, Rc<TierContent<P::Bytes>>), Error> {
        match self.settings.upstreams.mirrored(name) {
            Some(mirrored) => {
                self.read_mirrored_manifest(&mirrored, reference, trace)
                    .await
            }
            None => self.manifests.read(name, reference, trace).await,
        }
    }

    /// Notes that a stored copy is served instead of an answer.
    fn serve_stale(&self, mirrored: &Mirrored, error: &UpstreamError, trace: &Trace<P::Bytes>) {
        trace.stale.set(Some(error.reason()));
        self.metrics.stale(mirrored.upstream.name(), error.reason());
    }
}
