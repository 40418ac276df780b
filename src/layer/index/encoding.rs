//! Encoding an index.

use crate::layer::{
    contents::Block,
    index::{
        blocks::put_block,
        compression::Compression,
        envelope::{INDEX, seal},
        span::SpanRow,
    },
};

/// The parts of an index, as a pass collects them.
pub(crate) struct IndexParts {
    pub(crate) compression: Compression,
    pub(crate) span: u64,
    pub(crate) compressed: u64,
    pub(crate) inflated: u64,
    pub(crate) entries: u64,
    pub(crate) diff_id: [u8; 32],
    pub(crate) rows: Vec<SpanRow>,
    pub(crate) objects: u32,
    pub(crate) blocks: Vec<Block>,
    pub(crate) contents: Vec<Vec<u8>>,
    pub(crate) windows: Vec<u8>,
}

/// An encoded index in pieces, so that no large piece is copied.
#[derive(Clone, Debug, Default)]
pub struct Encoded {
    /// The head, which is read whole.
    pub head: Vec<u8>,
    /// The blocks of contents and the windows, which follow the head.
    pub pages: Vec<Vec<u8>>,
}

impl Encoded {
    /// The length of all pieces, in bytes.
    pub fn size(&self) -> u64 {
        self.head.len() as u64 + self.pages_size()
    }

    /// The length of the pieces after the head, in bytes.
    pub fn pages_size(&self) -> u64 {
        self.pages.iter().map(|page| page.len() as u64).sum()
    }

    /// Joins all pieces: the index as
    /// [`StoredIndex::parse`](crate::layer::index::StoredIndex::parse) reads it.
    pub fn into_bytes(self) -> Vec<u8> {
        let mut out = self.head;
        // This may be the largest allocation: each piece is freed after it was copied.
        out.reserve_exact(self.pages.iter().map(Vec::len).sum());
        for page in self.pages {
            out.extend(page);
        }
        out
    }
}

impl IndexParts {
    /// Encodes the index. `None` if a count exceeds its type.
    pub(crate) fn encode(self) -> Option<Encoded> {
        let contents: usize = self.contents.iter().map(Vec::len).sum();
        let contents = contents as u64;
        let payload = contents + self.windows.len() as u64;
        let mut rest = vec![INDEX, self.compression.code(), 0, 0];
        for number in [
            self.span,
            self.compressed,
            self.inflated,
            self.entries,
            payload,
        ] {
            rest.extend(number.to_le_bytes());
        }
        let count = |length: usize| u32::try_from(length).ok();
        for number in [
            count(self.rows.len())?,
            count(self.blocks.len())?,
            self.objects,
            0,
        ] {
            rest.extend(number.to_le_bytes());
        }
        rest.extend(self.diff_id);
        for mut row in self.rows {
            if row.start == SpanRow::BLOCK {
                row.window += contents;
            }
            row.write(&mut rest);
        }
        for block in self.blocks {
            put_block(&mut rest, &block);
        }
        let head = seal(&rest)?;
        let mut pages = self.contents;
        pages.push(self.windows);
        Some(Encoded { head, pages })
    }
}
