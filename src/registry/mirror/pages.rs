//! Pages of lists that this isolate is asking upstreams for.

use std::rc::Rc;

use crate::{
    registry::mirror::error::UpstreamError,
    store::{document::Referrer, flight::Flights},
};

/// The pages that this isolate is asking for.
#[derive(Debug, Default)]
pub(super) struct Lists {
    pub(super) tags: Flights<Asked<String>>,
    pub(super) referrers: Flights<Asked<Referrer>>,
}

pub(super) type Asked<T> = Result<Rc<Page<T>>, UpstreamError>;

/// A page as an upstream gave it.
#[derive(Debug)]
pub(super) struct Page<T> {
    pub(super) entries: Vec<T>,
    /// The query of the next one.
    pub(super) next: Option<String>,
    /// Whether it has only what is of the type that was asked for.
    pub(super) is_filtered: bool,
}
