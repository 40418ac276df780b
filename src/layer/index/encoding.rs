//! Writing an index.

use crate::layer::{
    contents::Block,
    index::{
        blocks::put_block,
        compression::Compression,
        envelope::{INDEX, seal},
        span::Row,
    },
};

/// Everything that an index is made of, as a pass has it.
pub(crate) struct Parts {
    pub(crate) compression: Compression,
    pub(crate) span: u64,
    pub(crate) compressed: u64,
    pub(crate) inflated: u64,
    pub(crate) entries: u64,
    pub(crate) diff_id: [u8; 32],
    pub(crate) rows: Vec<Row>,
    pub(crate) objects: u32,
    pub(crate) blocks: Vec<Block>,
    pub(crate) contents: Vec<Vec<u8>>,
    pub(crate) windows: Vec<u8>,
}

/// An index, in pieces of which none was copied.
#[derive(Clone, Debug, Default)]
pub struct Encoded {
    /// The head.
    pub head: Vec<u8>,
    /// The windows and blocks of contents, which follow the head.
    pub pages: Vec<Vec<u8>>,
}

impl Encoded {
    /// The number of bytes.
    pub fn size(&self) -> u64 {
        self.head.len() as u64 + self.pages_size()
    }

    /// The number of bytes after the head.
    pub fn pages_size(&self) -> u64 {
        self.pages.iter().map(|page| page.len() as u64).sum()
    }

    /// All of it.
    pub fn into_bytes(self) -> Vec<u8> {
        let mut out = self.head;
        // It may take more memory than all else: each piece is dropped when it is copied.
        out.reserve_exact(self.pages.iter().map(Vec::len).sum());
        for page in self.pages {
            out.extend(page);
        }
        out
    }
}

impl Parts {
    /// The index. `None` where it has more parts than can be counted.
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
            if row.start == Row::BLOCK {
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
