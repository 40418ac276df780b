//! Pages of lists that this isolate is asking upstreams for.

use std::rc::Rc;

use crate::{
    registry::{list::Page, mirror::error::UpstreamError},
    store::{document::Referrer, flight::Flights},
};

/// The pages that this isolate is asking for.
#[derive(Debug, Default)]
pub(super) struct PageFlights {
    pub(super) tags: Flights<Asked<String>>,
    pub(super) referrers: Flights<Asked<Referrer>>,
}

pub(super) type Asked<T> = Result<Rc<Answered<T>>, UpstreamError>;

/// A page as an upstream gave it.
#[derive(Debug)]
pub(super) struct Answered<T> {
    pub(super) page: Rc<Page<T>>,
    /// Whether it has only what is of the type that was asked for.
    pub(super) is_filtered: bool,
}
