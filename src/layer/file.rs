//! The bytes of a file in an archive, sparse or not.

use std::{ops::Range, rc::Rc};

use crate::layer::entry::{Entry, Segment};

/// A file in an archive.
#[derive(Clone, Debug)]
pub struct File {
    /// The offset of its first byte in the archive.
    pub offset: u64,
    /// The size of the file.
    pub size: u64,
    /// The segments of a sparse file. Their bytes are adjacent in the archive.
    pub segments: Option<Rc<[Segment]>>,
}

impl From<&Entry> for File {
    fn from(entry: &Entry) -> Self {
        Self {
            offset: entry.offset,
            size: entry.size,
            segments: entry.segments.as_deref().map(Rc::from),
        }
    }
}

impl File {
    /// The range of its bytes in the archive.
    pub fn bytes(&self) -> Range<u64> {
        self.archive(&(0..self.size))
    }

    /// The bytes of the archive that a range of the file needs.
    pub fn archive(&self, range: &Range<u64>) -> Range<u64> {
        self.at(range.start)..self.at(range.end)
    }

    /// Builds a range of the file from those bytes. `None` if there are too few.
    pub fn weave(&self, range: &Range<u64>, archive: Vec<u8>) -> Option<Vec<u8>> {
        let length = usize::try_from(range.end - range.start).ok()?;
        let Some(segments) = &self.segments else {
            return (archive.len() == length).then_some(archive);
        };
        let mut out = vec![0; length];
        let mut rest = archive.as_slice();
        for segment in segments.iter() {
            let first = segment.offset.max(range.start);
            let end = (segment.offset + segment.length).min(range.end);
            let Some(count) = end.checked_sub(first) else {
                continue;
            };
            let (bytes, later) = rest.split_at_checked(usize::try_from(count).ok()?)?;
            let at = usize::try_from(first - range.start).ok()?;
            out.get_mut(at..at + bytes.len())?.copy_from_slice(bytes);
            rest = later;
        }
        Some(out)
    }

    /// The offset in the archive of the first byte at or after this offset of the file.
    fn at(&self, offset: u64) -> u64 {
        let Some(segments) = &self.segments else {
            return self.offset + offset;
        };
        let before = segments
            .iter()
            .map(|segment| offset.saturating_sub(segment.offset).min(segment.length));
        self.offset + before.sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparse_file_is_its_segments_with_zeros_between() {
        let segment = |offset, length| Segment { offset, length };
        let file = File {
            offset: 512,
            size: 12,
            segments: Some([segment(2, 3), segment(7, 2), segment(12, 0)].into()),
        };
        let packed = b"abcde";
        let whole = b"\0\0abc\0\0de\0\0\0";
        assert_eq!(file.bytes(), 512..517);
        for start in 0..=12_usize {
            for end in start..=12 {
                let range = start as u64..end as u64;
                let archive = file.archive(&range);
                let [from, to] =
                    [archive.start, archive.end].map(|at| usize::try_from(at).unwrap());
                let woven = file.weave(&range, packed[from - 512..to - 512].to_vec());
                assert_eq!(woven.as_deref(), Some(&whole[start..end]), "{range:?}");
            }
        }
        assert_eq!(file.weave(&(0..12), b"abcd".to_vec()), None);
    }

    #[test]
    fn a_file_without_segments_is_its_bytes() {
        let file = File {
            offset: 1024,
            size: 4,
            segments: None,
        };
        assert_eq!(file.archive(&(1..3)), 1025..1027);
        assert_eq!(file.weave(&(1..3), b"ab".to_vec()), Some(b"ab".to_vec()));
        assert_eq!(file.weave(&(1..3), b"a".to_vec()), None);
    }
}
