//! Saving a paused pass, and loading it elsewhere.

use sha2::{
    Sha256,
    digest::common::hazmat::{SerializableState as _, SerializedState},
};

use crate::layer::{
    contents::Sorter,
    gzip::Gunzip,
    index::SpanRow,
    pass::{
        Decoder, LONGEST_MAGIC, Options, Pass,
        frames::{Begun, Frames},
    },
    tar::Untar,
    wire::{self, WireReader},
    zstd::Unzstd,
};

impl Pass {
    /// Writes the state of a paused pass. Store full objects first.
    pub fn save(&mut self) -> Vec<u8> {
        self.save_in_pieces().concat()
    }

    /// Like [`Pass::save`], in pieces that are moved out, not copied. The pass must not be used
    /// afterwards.
    pub fn save_in_pieces(&mut self) -> Vec<Vec<u8>> {
        let mut out = vec![SAVED];
        for limit in self.options.limits() {
            wire::put(&mut out, limit);
        }
        wire::put(&mut out, self.size);
        match &self.source {
            Decoder::Unknown(read) => {
                out.push(0);
                wire::put_bytes(&mut out, read);
            }
            Decoder::Plain => out.push(1),
            Decoder::Gzip(gunzip) => {
                out.push(2);
                gunzip.save(&mut out);
            }
            Decoder::Zstd(frames) => {
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
        // Large parts come last, so that loading takes little more than their own memory.
        let bytes = match &mut self.source {
            Decoder::Zstd(frames) => std::mem::take(&mut frames.bytes),
            Decoder::Unknown(_) | Decoder::Plain | Decoder::Gzip(_) => Vec::new(),
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

    /// Resumes from a saved state, with the byte at [`Pass::position`]. `None` if the state is
    /// corrupt or has other options: then begin a new pass.
    pub fn load(bytes: &[u8], size: u64, options: &Options) -> Option<Self> {
        Self::load_from(bytes.to_vec(), size, options)
    }

    /// Like [`Pass::load`], but frees each part of the bytes after copying it.
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
        if let Decoder::Zstd(frames) = &mut pass.source {
            frames.bytes = begun;
        }
        pass.spans.object = last(object)?;
        // The windows are the largest part: copy them in pieces.
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

    /// Reads the state without its large parts. Returns the lengths of those parts, blocks first.
    fn load_state(
        bytes: &[u8],
        size: u64,
        options: &Options,
    ) -> Option<(Self, Vec<usize>, [usize; 3])> {
        let mut pass = Self::new(size, options.clone());
        let mut reader = WireReader(bytes);
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
            0 => Decoder::Unknown(reader.bytes()?.to_vec()),
            1 => Decoder::Plain,
            2 => Decoder::Gzip(Box::new(Gunzip::load(reader)?)),
            3 => {
                let frame = (reader.number()?, reader.number()?);
                let start = match reader.byte()? {
                    0 => Begun::Frame(reader.number()?),
                    1 => Begun::Middle,
                    _ => return None,
                };
                Decoder::Zstd(Box::new(Frames {
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
        if let Decoder::Zstd(frames) = &mut pass.source {
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
            pass.spans.rows.push(SpanRow::read(reader)?);
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

    /// Whether the loaded counters fit each other. Others would overflow later.
    fn is_consistent(&self) -> bool {
        let length = self.archive.length;
        let source = match &self.source {
            Decoder::Unknown(read) => length == 0 && read.len() < LONGEST_MAGIC,
            Decoder::Plain => length <= self.size,
            Decoder::Gzip(gunzip) => {
                let (input, output) = gunzip.position();
                input <= self.size && output == length
            }
            Decoder::Zstd(frames) => {
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
            let has_window = row.start != SpanRow::BLOCK || end.is_some_and(|end| end <= windows);
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

/// How many bytes a saved SHA-256 has summed: its blocks of 64 bytes, and the bytes after them.
fn summed(state: &SerializedState<Sha256>) -> Option<u64> {
    let mut reader = WireReader(state);
    reader.take(size_of::<[u32; 8]>())?;
    let blocks = u64::from_le_bytes(reader.array()?);
    blocks.checked_mul(64)?.checked_add(reader.byte()?.into())
}

/// How many bytes are freed at a time.
const GIVEN_BACK: usize = 1 << 20;
/// The version of a saved pass, in its first byte.
const SAVED: u8 = 2;
