//! Inside layers: their indexes, written by passes of as many requests as needed, and their bytes,
//! span by span.

use std::rc::Rc;

use crate::{
    ledger::Ledger,
    metrics::Metrics,
    platform::Platform,
    registry::{
        blob::Blobs,
        grant::Grants,
        inside::{
            cache::{Blocks, Indexes},
            layer::PassProgress,
        },
        mirror::Mirror,
        parts::Parts,
    },
    settings::Settings,
    store::{bucket::Bucket, flight::Flights, tiers::Tiers},
};

mod cache;
mod contents;
mod file;
pub(super) mod image;
mod index;
pub(super) mod inspection;
pub(super) mod layer;
pub(super) mod media_type;
mod pass;
mod schedule;
mod span;
mod sparse;
mod stack;

/// The inside of layers and images: indexes, spans, files and directories.
pub(super) struct Inside<P: Platform> {
    store: Bucket<P::Cold>,
    tiers: Rc<Tiers<P>>,
    host: P::Host,
    settings: Rc<Settings>,
    metrics: Rc<Metrics>,
    ledger: Ledger,
    grants: Rc<Grants<P>>,
    blobs: Rc<Blobs<P>>,
    mirror: Rc<Mirror<P>>,
    passes: Flights<PassProgress>,
    /// Blocks of tables of contents, shared by all requests.
    blocks: Blocks,
    /// Indexes of layers that requests have open, shared by all requests.
    indexes: Indexes<P::Bytes>,
}

impl<P: Platform> Inside<P> {
    pub(super) fn new(
        parts: &Parts<P>,
        grants: Rc<Grants<P>>,
        blobs: Rc<Blobs<P>>,
        mirror: Rc<Mirror<P>>,
    ) -> Self {
        Self {
            store: parts.store.clone(),
            tiers: parts.tiers.clone(),
            host: parts.host.clone(),
            settings: parts.settings.clone(),
            metrics: parts.metrics.clone(),
            ledger: parts.ledger.clone(),
            grants,
            blobs,
            mirror,
            passes: Flights::default(),
            blocks: Blocks::default(),
            indexes: Indexes::default(),
        }
    }
}
