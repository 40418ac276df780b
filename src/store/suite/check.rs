//! Checks: their outcomes, and the helpers that compare values.

use std::{cell::Cell, fmt::Debug, rc::Rc};

use futures_util::{
    StreamExt as _, TryStreamExt as _,
    stream::{self, Stream},
};

use crate::store::{Bytes, ListOptions, ListStart, Made, Piece, StoreError};

/// The outcome of one check of a store.
#[derive(Debug)]
pub struct CheckOutcome {
    /// The name of the check, such as `creates_only_if_absent`.
    pub name: &'static str,
    /// The found value and the expected one as text, if they differ, or the store's error.
    pub result: Result<(), String>,
}

pub(super) type Check = Result<(), String>;

/// A piece that produces these items.
pub(super) fn made<B: 'static, Y: Bytes, const N: usize>(items: [&'static str; N]) -> Piece<B, Y> {
    let items = stream::iter(items).map(|item| Ok(Piece::Held(Y::copy_from(item.as_bytes()))));
    Piece::Made(Made(items.boxed_local()))
}

/// A piece that produces this many items, and counts them.
pub(super) fn counted<B: 'static, Y: Bytes>(
    length: usize,
    items: usize,
    count: &Rc<Cell<usize>>,
) -> Piece<B, Y> {
    let items = counted_items(length, items, count).map_ok(Piece::Held);
    Piece::Made(Made(items.boxed_local()))
}

pub(super) fn counted_items<Y: Bytes>(
    length: usize,
    items: usize,
    count: &Rc<Cell<usize>>,
) -> impl Stream<Item = Result<Y, StoreError>> + 'static {
    let count = Rc::clone(count);
    stream::iter(0..items).map(move |_| {
        count.set(count.get() + 1);
        Ok(Y::copy_from(&pattern(length)))
    })
}

/// A page of so many objects, with their metadata.
pub(super) const fn page_of(limit: u32) -> ListOptions<'static> {
    ListOptions {
        start: ListStart::First,
        limit,
        metadata: true,
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the form that map_err wants")]
pub(super) fn text(error: StoreError) -> String {
    error.to_string()
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "what is compared is made for it"
)]
pub(super) fn equal<T: Debug + PartialEq>(what: &str, found: T, expected: T) -> Check {
    if found == expected {
        Ok(())
    } else {
        Err(format!("{what}: found {found:?}, expected {expected:?}"))
    }
}

/// Bytes that differ at any two offsets a part apart.
pub(super) fn pattern(length: usize) -> Vec<u8> {
    (0..length as u64)
        .map(|n| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56).to_le_bytes()[0])
        .collect()
}
