//! The parts that services share. Each service keeps those that it touches.

use std::rc::Rc;

use crate::{
    ledger::Ledger,
    metrics::Metrics,
    platform::Platform,
    settings::Settings,
    store::{bucket::Bucket, tiers::Tiers},
};

/// The parts that services share.
pub(super) struct Parts<P: Platform> {
    pub(super) store: Bucket<P::Cold>,
    pub(super) tiers: Rc<Tiers<P>>,
    pub(super) host: P::Host,
    pub(super) settings: Rc<Settings>,
    pub(super) metrics: Rc<Metrics>,
    pub(super) ledger: Ledger,
}
