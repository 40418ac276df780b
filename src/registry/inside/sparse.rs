//! Sparse files: zeros between the segments that an archive has.

use std::{ops::Range, rc::Rc};

use futures_util::{
    StreamExt as _, TryStreamExt as _,
    stream::{self, LocalBoxStream},
};

use crate::{layer::entry::Segment, range::ByteRange, store::StoreError};

/// Puts zeros between the segments of a sparse file. `archive` has the bytes of the segments in
/// this range of the file.
pub(super) fn weave<Y: crate::store::Bytes>(
    archive: LocalBoxStream<'static, Result<Y, StoreError>>,
    segments: Rc<[Segment]>,
    range: ByteRange,
) -> LocalBoxStream<'static, Result<Y, StoreError>> {
    let Range { start: first, end } = bounds(range);
    let zeros = Y::copy_from(&vec![
        0;
        usize::try_from(end - first)
            .unwrap_or(ZEROS)
            .min(ZEROS)
    ]);
    let next = segments.partition_point(|segment| segment.offset + segment.length <= first);
    let state = (archive, Y::copy_from(&[]), first, next);
    let made = stream::try_unfold(state, move |(mut archive, mut held, at, mut next)| {
        let (segments, zeros) = (segments.clone(), zeros.clone());
        async move {
            let segment = loop {
                match segments.get(next) {
                    Some(segment) if segment.offset + segment.length <= at => next += 1,
                    found => break found,
                }
            };
            let from = segment.map_or(end, |segment| segment.offset.min(end));
            if at < from {
                let length = (from - at).min(zeros.len());
                let hole = zeros.slice(0, length);
                return Ok(Some((hole, (archive, held, at + length, next))));
            }
            let until = segment.map_or(end, |segment| (segment.offset + segment.length).min(end));
            if at == until {
                return Ok(None);
            }
            while held.is_empty() {
                held = archive.try_next().await?.ok_or(StoreError::Length)?;
            }
            let length = held.len().min(until - at);
            let rest = held.slice(length, held.len());
            Ok(Some((
                held.slice(0, length),
                (archive, rest, at + length, next),
            )))
        }
    });
    made.boxed_local()
}

/// The bytes of a range, from the first to the one after the last.
pub(super) const fn bounds(range: ByteRange) -> Range<u64> {
    range.first()..range.first() + range.length()
}

/// The most zeros in one piece.
const ZEROS: usize = 64 * 1024;
