//! Waste: bytes of an image that are not seen in it.

use crate::layer::analysis::{
    answers::{Analysis, sort},
    row::{IMPLIED, NONE, REMOVED},
};

/// A path that several layers have or remove, with bytes in at least one of them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Offender {
    /// The whole path, without a slash at its start.
    pub path: Vec<u8>,
    /// The number of layers that have or remove it.
    pub times: u64,
    /// The sum of its sizes in all layers, in bytes.
    pub bytes: u64,
}

/// The bytes of an image that several layers store at the same paths.
#[derive(Clone, Debug, PartialEq)]
pub struct Waste {
    /// The smallest size of each path, summed up, divided by all bytes: from 0 to 1. It is 1 if
    /// nothing is wasted.
    pub efficiency: f64,
    /// The bytes of all paths that several layers have or remove.
    pub bytes: u64,
    /// Those paths, the ones with most bytes first, up to the limit.
    pub offenders: Vec<Offender>,
}

impl Analysis {
    /// Computes the waste of the image, with up to `limit` offenders.
    pub fn waste(&self, limit: usize) -> Waste {
        let image = &self.0;
        let (mut least, mut all, mut wasted) = (0_u64, 0_u64, 0_u64);
        let mut found = Vec::new();
        for number in 0..image.nodes.len() {
            let (mut times, mut bytes, mut smallest) = (0, 0_u64, u64::MAX);
            let mut at = image.nodes.at(number).row;
            while at != NONE {
                let row = image.rows.at(at);
                at = row.below;
                if row.is(IMPLIED) && !row.is(REMOVED) {
                    continue;
                }
                let size = if row.is(REMOVED) || row.is_directory() {
                    0
                } else {
                    row.size
                };
                times += 1;
                bytes = bytes.saturating_add(size);
                smallest = smallest.min(size);
            }
            if times > 0 {
                least = least.saturating_add(smallest);
                all = all.saturating_add(bytes);
            }
            if times > 1 && bytes > 0 {
                wasted = wasted.saturating_add(bytes);
                found.push((bytes, times, number));
            }
        }
        let count = u32::try_from(found.len()).unwrap_or(u32::MAX);
        let mut order: Vec<_> = (0..count).collect();
        let bytes_of = |at: u32| found.get(at as usize).map(|(bytes, ..)| *bytes);
        sort(&mut order, &|one, other| {
            (bytes_of(other), one).cmp(&(bytes_of(one), other))
        });
        let first = order
            .into_iter()
            .take(limit)
            .filter_map(|at| found.get(at as usize));
        let offenders = first.map(|&(bytes, times, number)| Offender {
            path: image.path(number),
            times,
            bytes,
        });
        #[expect(clippy::cast_precision_loss, reason = "it is only displayed")]
        let efficiency = if all == 0 {
            1.0
        } else {
            least as f64 / all as f64
        };
        Waste {
            efficiency,
            bytes: wasted,
            offenders: offenders.collect(),
        }
    }
}
