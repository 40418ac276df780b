//! Saving a pass where it has paused, and loading it elsewhere.

use sha2::{
    Sha256,
    digest::common::hazmat::{SerializableState as _, SerializedState},
};

use crate::layer::{
    contents::Sorter,
    gzip::Gunzip,
    index::Row,
    pass::{
        LONGEST_MAGIC, Options, Pass, Source,
        frames::{Begun, Frames},
    },
    tar::Untar,
    wire::{self, Reader},
    zstd::Unzstd,
};

impl Pass {
    /// Writes all that it takes to go on, where the pass has paused. Objects that are full are to be stored before.
    pub fn save(&mut self) -> Vec<u8> {
        self.save_in_pieces().concat()
    }

    /// The same in pieces, and takes them out instead of copying them: after this, it is of no use any more.
    pub fn save_in_pieces(&mut self) -> Vec<Vec<u8>> {
        let mut out = vec![SAVED];
        for limit in self.options.limits() {
            wire::put(&mut out, limit);
        }
        wire::put(&mut out, self.size);
        match &self.source {
            Source::Unknown(read) => {
                out.push(0);
                wire::put_bytes(&mut out, read);
            }
            Source::Plain => out.push(1),
            Source::Gzip(gunzip) => {
                out.push(2);
                gunzip.save(&mut out);
            }
            Source::Zstd(frames) => {
                out.push(3);
                wire::put(&mut out, frames.frame.0);
                wire::put(&mut out, frames.frame.1);
                match frames.start {
                    Begun::Frame(input) => {
                        out.push(0);
                        wire::put(&mut out, input);
                    }
                    Begun::Middle => out.push(1),
                }
            }
        }
        wire::put(&mut out, self.archive.length);
        out.extend(self.archive.sum.clone().unwrap_or_default().serialize());
        self.archive.untar.save(&mut out);
        let mut pieces = self.archive.contents.save(&mut out);
        wire::put(&mut out, self.spans.rows.len() as u64);
        for row in &self.spans.rows {
            row.write(&mut out);
        }
        wire::put(&mut out, self.spans.objects.into());
        // Large parts come last, so that loading one takes little more than its own memory.
        let bytes = match &mut self.source {
            Source::Zstd(frames) => std::mem::take(&mut frames.bytes),
            Source::Unknown(_) | Source::Plain | Source::Gzip(_) => Vec::new(),
        };
        let large = [
            std::mem::take(&mut self.spans.windows),
            std::mem::take(&mut self.spans.object),
            bytes,
        ];
        for piece in &large {
            wire::put(&mut out, piece.len() as u64);
        }
        pieces.extend(large);
        pieces.insert(0, out);
        pieces.retain(|piece| !piece.is_empty());
        pieces
    }

    /// Goes on with what was saved: with the byte at [`Pass::position`]. `None` where it was not saved so, or with other
    /// options; then the pass begins anew.
    pub fn load(bytes: &[u8], size: u64, options: &Options) -> Option<Self> {
        Self::load_from(bytes.to_vec(), size, options)
    }

    /// The same, of bytes that are not needed any more: each part is given back when it is copied.
    pub fn load_from(mut bytes: Vec<u8>, size: u64, options: &Options) -> Option<Self> {
        let (mut pass, lengths, large) = Self::load_state(&bytes, size, options)?;
        let mut last = |length: usize| {
            let rest = bytes.len().checked_sub(length)?;
            let last = bytes.split_off(rest);
            if bytes.capacity() > rest + GIVEN_BACK {
                bytes.shrink_to_fit();
            }
            Some(last)
        };
        let [windows, object, begun] = large;
        let begun = last(begun)?;
        if let Source::Zstd(frames) = &mut pass.source {
            frames.bytes = begun;
        }
        pass.spans.object = last(object)?;
        // It is the largest: by pieces.
        let mut pieces = Vec::new();
        let mut left = windows;
        while left > 0 {
            let piece = match left % GIVEN_BACK {
                0 => GIVEN_BACK,
                rest => rest,
            };
            pieces.push(last(piece)?);
            left -= piece;
        }
        pass.spans.windows.reserve_exact(windows);
        while let Some(piece) = pieces.pop() {
            pass.spans.windows.extend(piece);
        }
        let blocks = pass.archive.contents.blocks_from_last();
        for (block, length) in blocks.zip(lengths.iter().rev()) {
            *block = last(*length)?;
        }
        pass.is_consistent().then_some(pass)
    }

    /// Reads what was saved, but for what is large. Answers the lengths of the parts that come after it, blocks first.
    fn load_state(
        bytes: &[u8],
        size: u64,
        options: &Options,
    ) -> Option<(Self, Vec<usize>, [usize; 3])> {
        let mut pass = Self::new(size, options.clone());
        let mut reader = Reader(bytes);
        let reader = &mut reader;
        if reader.byte()? != SAVED {
            return None;
        }
        for limit in options.limits().into_iter().chain([size]) {
            if reader.number()? != limit {
                return None;
            }
        }
        pass.source = match reader.byte()? {
            0 => Source::Unknown(reader.bytes()?.to_vec()),
            1 => Source::Plain,
            2 => Source::Gzip(Box::new(Gunzip::load(reader)?)),
            3 => {
                let frame = (reader.number()?, reader.number()?);
                let start = match reader.byte()? {
                    0 => Begun::Frame(reader.number()?),
                    1 => Begun::Middle,
                    _ => return None,
                };
                Source::Zstd(Box::new(Frames {
                    decoder: Unzstd::at(frame.0, frame.1, options.window),
                    frame,
                    start,
                    bytes: Vec::new(),
                    known: 0,
                }))
            }
            _ => return None,
        };
        pass.archive.length = reader.number()?;
        if let Source::Zstd(frames) = &mut pass.source {
            frames.known = pass.archive.length;
        }
        let mut state = SerializedState::<Sha256>::default();
        let length = state.len();
        state.copy_from_slice(reader.take(length)?);
        pass.archive.sum = Some(Sha256::deserialize(&state).ok()?);
        pass.archive.untar = Untar::load(reader, options.tar())?;
        let mut lengths = Vec::new();
        pass.archive.contents = Sorter::load(reader, &mut lengths)?;
        for _ in 0..reader.number()? {
            pass.spans.rows.push(Row::read(reader)?);
        }
        pass.spans.objects = reader.number()?.try_into().ok()?;
        let large = [reader.length()?, reader.length()?, reader.length()?];
        let rest = lengths
            .iter()
            .chain(&large)
            .try_fold(0_usize, |all, length| all.checked_add(*length))?;
        let summed = summed(&state)?;
        let is_whole = reader.0.len() == rest && summed == pass.archive.length;
        is_whole.then_some((pass, lengths, large))
    }

    /// Whether the counters that were loaded fit each other. A pass that goes on from others would overflow.
    fn is_consistent(&self) -> bool {
        let length = self.archive.length;
        let source = match &self.source {
            Source::Unknown(read) => length == 0 && read.len() < LONGEST_MAGIC,
            Source::Plain => length <= self.size,
            Source::Gzip(gunzip) => {
                let (input, output) = gunzip.position();
                input <= self.size && output == length
            }
            Source::Zstd(frames) => {
                let (input, output) = frames.frame;
                let begun = frames.bytes.len();
                let is_begun = begun < frames.room(self.options.span) && begun as u64 <= length;
                let follows = match frames.start {
                    Begun::Frame(first) => first <= input,
                    Begun::Middle => true,
                };
                input <= self.size && output <= length && is_begun && follows
            }
        };
        let windows = self.spans.windows.len() as u64;
        let are_within = self.spans.rows.iter().all(|row| {
            let end = row.window.checked_add(row.length.into());
            let has_window = row.start != Row::BLOCK || end.is_some_and(|end| end <= windows);
            row.output <= length && has_window
        });
        let contents = &self.archive.contents;
        source
            && are_within
            && length <= self.archive.limit
            && contents.entries() <= self.options.entries
            && contents.size() <= self.archive.contents_limit
    }
}

/// How many bytes a saved sum is of, by its blocks of 64 bytes and what came after them.
fn summed(state: &SerializedState<Sha256>) -> Option<u64> {
    let mut reader = Reader(state);
    reader.take(size_of::<[u32; 8]>())?;
    let blocks = u64::from_le_bytes(reader.array()?);
    blocks.checked_mul(64)?.checked_add(reader.byte()?.into())
}

/// Of what was saved, so much is given back at a time.
const GIVEN_BACK: usize = 1 << 20;
/// What a saved pass begins with: its version.
const SAVED: u8 = 2;
