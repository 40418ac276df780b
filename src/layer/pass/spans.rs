//! The spans found so far: rows of the index, windows, and objects of stored spans.

use std::collections::VecDeque;

use miniz_oxide::deflate::compress_to_vec;

use crate::layer::{
    gzip::{Checkpoint, Gunzip, Start},
    index::SpanRow,
    pass::error::PassError,
};

/// The spans found so far.
#[derive(Debug, Default)]
pub(super) struct Spans {
    pub(super) rows: Vec<SpanRow>,
    pub(super) windows: Vec<u8>,
    /// The object that is being filled. `full` holds those before it.
    pub(super) object: Vec<u8>,
    pub(super) full: VecDeque<Vec<u8>>,
    pub(super) objects: u32,
}

impl Spans {
    /// Adds bytes of a layer that is not compressed.
    pub(super) fn plain(&mut self, at: u64, bytes: &[u8], span: u64) {
        let mut at = at;
        let mut bytes = bytes;
        while !bytes.is_empty() {
            let end = (at / span + 1) * span;
            let length = usize::try_from(end - at)
                .unwrap_or(usize::MAX)
                .min(bytes.len());
            let (now, later) = bytes.split_at(length);
            if at.is_multiple_of(span) {
                self.rows.push(SpanRow {
                    output: at,
                    input: at,
                    start: SpanRow::PLAIN,
                    ..SpanRow::default()
                });
            }
            if let Some(row) = self.rows.last_mut() {
                let mut sum = crc32fast::Hasher::new_with_initial(row.check);
                sum.update(now);
                row.check = sum.finalize();
            }
            at += now.len() as u64;
            bytes = later;
        }
    }

    /// Adds the checkpoints of the decoder.
    pub(super) fn checkpoints(&mut self, gunzip: &mut Gunzip) -> Result<(), PassError> {
        while let Some(checkpoint) = gunzip.checkpoint() {
            let Checkpoint {
                input,
                output,
                start,
                check,
            } = checkpoint;
            self.end(output);
            let row = SpanRow {
                output,
                input,
                check,
                ..SpanRow::default()
            };
            self.rows.push(match start {
                Start::Member => SpanRow {
                    start: SpanRow::MEMBER,
                    ..row
                },
                Start::Block {
                    count,
                    bits,
                    window,
                } => {
                    let offset = self.windows.len() as u64;
                    self.windows.extend_from_slice(&window);
                    SpanRow {
                        start: SpanRow::BLOCK,
                        window: offset,
                        length: window.len().try_into().map_err(|_| PassError::Parts)?,
                        count,
                        bits,
                        ..row
                    }
                }
            });
        }
        Ok(())
    }

    /// Ends the last span. An empty one is removed.
    pub(super) fn end(&mut self, output: u64) {
        if let Some(last) = self.rows.pop_if(|last| last.output == output)
            && last.start == SpanRow::BLOCK
        {
            let length = self.windows.len() - usize::try_from(last.length).unwrap_or_default();
            self.windows.truncate(length);
        }
    }

    /// Stores bytes that can't be read from the middle of the layer.
    pub(super) fn store(&mut self, output: u64, bytes: &[u8], span: u64) -> Result<(), PassError> {
        let mut output = output;
        for bytes in bytes.chunks(usize::try_from(span).unwrap_or(usize::MAX)) {
            let packed = compress_to_vec(bytes, STORED_LEVEL);
            if self.object.len() + packed.len() > OBJECT {
                self.end_object();
            }
            self.rows.push(SpanRow {
                output,
                input: self.object.len() as u64,
                length: packed.len().try_into().map_err(|_| PassError::Parts)?,
                check: crc32fast::hash(bytes),
                object: self.objects,
                start: SpanRow::STORED,
                ..SpanRow::default()
            });
            self.object.extend(packed);
            output += bytes.len() as u64;
        }
        Ok(())
    }

    pub(super) fn end_object(&mut self) {
        if !self.object.is_empty() {
            self.full.push_back(std::mem::take(&mut self.object));
            self.objects = self.objects.saturating_add(1);
        }
    }
}

impl Spans {
    /// Adds a span of whole frames.
    pub(super) fn frame(&mut self, first: u64, input: u64, output: u64, bytes: &[u8]) {
        self.rows.push(SpanRow {
            output: output - bytes.len() as u64,
            input: first,
            length: u32::try_from(input - first).unwrap_or(u32::MAX),
            check: crc32fast::hash(bytes),
            start: SpanRow::FRAME,
            ..SpanRow::default()
        });
    }
}

/// The largest object of stored spans, unless one span is larger.
const OBJECT: usize = 4 << 20;
/// The compression level of stored spans: it takes a third of the time of decoding.
const STORED_LEVEL: u8 = 3;
