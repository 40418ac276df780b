//! Sparse files: the map from data to places in the file, in the formats of GNU tar.

use crate::layer::{
    entry::Segment,
    tar::{
        error::TarProblem,
        header::{BLOCK, Dialect, Header, MAP, MORE_BLOCKS, REAL_SIZE, number},
        limits::{MAX_META, MAX_SEGMENTS},
        overrides::Overrides,
        pax::decimal,
    },
};

/// Where the map of a sparse file is stored.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Sparse {
    /// In the header, and in blocks after it.
    Old,
    /// In the records: versions 0.0 and 0.1.
    Records,
    /// At the beginning of the data: version 1.0.
    Data,
}

/// The header of a sparse file, and the blocks of its map that have come.
#[derive(Clone, Debug)]
pub(super) struct Map {
    pub(super) header: Header,
    pub(super) blocks: Vec<u8>,
    lines: u64,
}

impl Map {
    pub(super) fn new(header: Header, blocks: Vec<u8>) -> Self {
        Self {
            header,
            lines: count_lines(&blocks),
            blocks,
        }
    }

    /// Adds a block. Returns whether another one follows.
    pub(super) fn push(&mut self, block: &[u8], overrides: &Overrides) -> Result<bool, TarProblem> {
        self.blocks.extend_from_slice(block);
        self.lines += count_lines(block);
        let more = if self.header.flag() == b'S' {
            block.get(MORE_BLOCKS).is_some_and(|more| *more != 0)
        } else {
            if self.blocks.len() as u64 > overrides.data(&self.header)? {
                return Err(TarProblem::SparseData);
            }
            // One number a line: a count, then twice as many numbers.
            let count = lines(&self.blocks).next().and_then(decimal::<u64>);
            let count = count.ok_or(TarProblem::SparseMap)?;
            count > MAX_META as u64 || self.lines <= 2 * count
        };
        if more && self.blocks.len() >= MAX_META {
            return Err(TarProblem::Segments);
        }
        Ok(more)
    }
}

impl Overrides {
    /// The size of a sparse file with its holes, if a field says it.
    pub(super) fn real_size(
        &self,
        header: &Header,
        sparse: Sparse,
    ) -> Result<Option<u64>, TarProblem> {
        Ok(match sparse {
            Sparse::Old => Some(header.unsigned(REAL_SIZE, "size")?),
            Sparse::Records | Sparse::Data => {
                self.unsigned(b"GNU.sparse.size", "size")?
                    .or(self.unsigned(b"GNU.sparse.realsize", "size")?)
            }
        })
    }

    pub(super) fn sparse(&self, header: &Header) -> Result<Option<Sparse>, TarProblem> {
        if header.flag() == b'S' {
            // Star writes sparse files with the same flag in another format.
            return match header.dialect() {
                Dialect::Gnu => Ok(Some(Sparse::Old)),
                Dialect::V7 | Dialect::Ustar | Dialect::Star => Err(TarProblem::SparseVersion),
            };
        }
        let version = (
            self.record(b"GNU.sparse.major"),
            self.record(b"GNU.sparse.minor"),
        );
        match version {
            (None, None) => Ok(self.record(b"GNU.sparse.map").map(|_| Sparse::Records)),
            (Some(b"0"), Some(b"0" | b"1")) => Ok(Some(Sparse::Records)),
            (Some(b"1"), Some(b"0")) => Ok(Some(Sparse::Data)),
            _ => Err(TarProblem::SparseVersion),
        }
    }

    pub(super) fn segments(
        &self,
        header: &Header,
        sparse: Sparse,
        blocks: &[u8],
        size: u64,
    ) -> Result<Vec<Segment>, TarProblem> {
        match sparse {
            Sparse::Old => {
                let more = blocks
                    .chunks(BLOCK)
                    .filter_map(|block| block.get(..MORE_BLOCKS));
                let maps = std::iter::once(header.field(MAP)).chain(more);
                // The first unused pair ends the list of a block.
                let pairs = maps.flat_map(|map| {
                    map.chunks(PAIR)
                        .take_while(|pair| pair.first().is_some_and(|byte| *byte != 0))
                });
                segments(
                    size,
                    pairs.flat_map(|pair| pair.chunks(PAIR / 2)),
                    |field| number(field).and_then(|number| u64::try_from(number).ok()),
                )
            }
            Sparse::Records => {
                let map = self.record(b"GNU.sparse.map").unwrap_or_default();
                let commas = map.split(|byte| *byte == b',');
                let numbers = || commas.clone().filter(|_| !map.is_empty());
                let count = self.unsigned(b"GNU.sparse.numblocks", "number of segments")?;
                if let Some(count) = count
                    && count.checked_mul(2) != Some(numbers().count() as u64)
                {
                    return Err(TarProblem::SparseMap);
                }
                segments(size, numbers(), decimal)
            }
            Sparse::Data => {
                let count = lines(blocks).next().and_then(decimal::<usize>);
                let numbers = count.ok_or(TarProblem::SparseMap)?.saturating_mul(2);
                segments(size, lines(blocks).skip(1).take(numbers), decimal)
            }
        }
    }
}

/// Parses a map, which is a list of pairs.
pub(super) fn segments<'a>(
    size: u64,
    mut numbers: impl Iterator<Item = &'a [u8]>,
    number: impl Fn(&[u8]) -> Option<u64>,
) -> Result<Vec<Segment>, TarProblem> {
    let mut segments = Vec::new();
    let mut before = 0;
    while let Some(offset) = numbers.next() {
        let offset = number(offset).ok_or(TarProblem::SparseMap)?;
        let length = numbers.next().and_then(&number);
        let length = length.ok_or(TarProblem::SparseMap)?;
        let end = offset.checked_add(length).filter(|end| *end <= size);
        let end = end.ok_or(TarProblem::SparseOrder)?;
        if offset < before {
            return Err(TarProblem::SparseOrder);
        }
        before = end;
        // GNU tar marks a hole at the end of a file by an empty segment.
        if length > 0 {
            segments.push(Segment { offset, length });
        }
        if segments.len() > MAX_SEGMENTS {
            return Err(TarProblem::Segments);
        }
    }
    Ok(segments)
}

/// The lines that end in a line feed.
pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|byte| *byte == b'\n')
        .map_while(|line| line.strip_suffix(b"\n"))
}

pub(super) fn count_lines(text: &[u8]) -> u64 {
    text.iter().filter(|byte| **byte == b'\n').count() as u64
}

/// The size of an offset and a length in the map of an old sparse file.
const PAIR: usize = 24;
