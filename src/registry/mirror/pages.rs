//! Pages of lists that this isolate is fetching from upstreams.

use std::rc::Rc;

use crate::{
    registry::{list::ListPage, mirror::error::UpstreamError},
    store::{document::Referrer, flight::Flights},
};

/// The pages that this isolate is fetching.
#[derive(Debug, Default)]
pub(super) struct PageFlights {
    pub(super) tags: Flights<Asked<String>>,
    pub(super) referrers: Flights<Asked<Referrer>>,
}

pub(super) type Asked<T> = Result<Rc<Answered<T>>, UpstreamError>;

/// A page as the upstream sent it.
#[derive(Debug)]
pub(super) struct Answered<T> {
    pub(super) page: Rc<ListPage<T>>,
    /// Whether the upstream has applied the filter by artifact type.
    pub(super) is_filtered: bool,
}
