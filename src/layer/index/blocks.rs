//! The list of blocks of contents in the head of an index.

use crate::layer::{
    contents::Block,
    wire::{self, WireReader},
};

/// Reads a list of this many blocks. Each block begins where the one before it ends.
pub(super) fn read_blocks(reader: &mut WireReader<'_>, count: u32) -> Option<Vec<Block>> {
    let count = usize::try_from(count).ok()?;
    let shortest = usize::try_from(SHORTEST).ok()?;
    let mut blocks = Vec::new();
    blocks.reserve_exact(count.min(reader.0.len() / shortest));
    let mut offset = 0;
    for _ in 0..count {
        let length = reader.number()?.try_into().ok()?;
        blocks.push(Block {
            offset,
            length,
            count: reader.number()?.try_into().ok()?,
            check: reader.array().map(u32::from_le_bytes)?,
            first: reader.bytes()?.to_vec(),
        });
        offset += u64::from(length);
    }
    Some(blocks)
}

/// Writes one block of the list.
pub(super) fn put_block(out: &mut Vec<u8>, block: &Block) {
    wire::put(out, block.length.into());
    wire::put(out, block.count.into());
    out.extend(block.check.to_le_bytes());
    wire::put_bytes(out, &block.first);
}

/// The length of the shortest block in the list: two numbers, a checksum, and an empty path.
pub(super) const SHORTEST: u64 = 7;
