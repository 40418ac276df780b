//! Gzip: accepted if zlib accepts it, with the same bytes, for any chunking and any checkpoint.

use std::io::Write as _;

use flate2::{
    Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status, write::GzEncoder,
};
use strata::layer::gzip::{Checkpoint, Gunzip, GzipError};

use crate::{
    input::{Input, pieces},
    programs,
};

pub(crate) const WORDS: &[&[u8]] = &[
    b"\x1f\x8b\x08\x00",
    b"\x1f\x8b\x08\x1f",
    b"\x00\x00\x00\xff\xff",
    b"\x03\x00",
];

/// The most bytes that are inflated of an input.
const MOST: usize = 1 << 20;

#[derive(Debug)]
enum Stop {
    Gzip,
    Enough,
}

impl From<GzipError> for Stop {
    fn from(_: GzipError) -> Self {
        Self::Gzip
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let text = [programs::words(1, 5_000), vec![b'a'; 3_000]].concat();
    let mut seeds = Vec::new();
    for level in ["gzip -1n", "gzip -9n", "gzip -6n -N"] {
        let gzip = programs::through(level, &text);
        // Whole, in two members, with garbage after it, and as a bare stream of deflate.
        seeds.push([&[0, 7], gzip.as_slice()].concat());
        seeds.push([&[0, 3], gzip.as_slice(), gzip.as_slice()].concat());
        seeds.push([&[0, 2], gzip.as_slice(), b"garbage"].concat());
        seeds.push([&[1, 1, 8], &gzip[10..gzip.len() - 8]].concat());
    }
    let mut deflate = Compress::new(Compression::new(0), false);
    let mut stored = Vec::with_capacity(9_000);
    let done = deflate.compress_vec(&text, &mut stored, FlushCompress::Finish);
    assert_eq!(done.unwrap(), Status::StreamEnd);
    seeds.push([&[1, 4, 8], stored.as_slice()].concat());
    // One byte of the checksum or the length is wrong, each of them in turn.
    let short = programs::through("gzip -9n", b"short");
    for flipped in 0..9 {
        seeds.push([&[1, 1, flipped], &short[10..short.len() - 8]].concat());
    }
    // A reference far back, over several blocks.
    let far = programs::noise(3, 20_000).repeat(3);
    let gzip = programs::through("gzip -9n", &far);
    seeds.push([&[0, 200], gzip.as_slice()].concat());
    // The same in short blocks, and longer than the amount that is decoded at once. A checkpoint in
    // the middle needs all of its window.
    let mut blocks = GzEncoder::new(Vec::new(), Compression::best());
    for part in far.repeat(3).chunks(5_000) {
        blocks.write_all(part).unwrap();
        blocks.flush().unwrap();
    }
    seeds.push([&[0, 200], blocks.finish().unwrap().as_slice()].concat());
    // A header with all of its fields.
    let header = b"\x1f\x8b\x08\x1e\0\0\0\0\0\x03\x03\0abcname\0comment\0";
    let check = crc32fast::hash(header).to_le_bytes();
    let body = [header.as_slice(), &check[..2], b"\x03\0", &[0; 8]].concat();
    seeds.push([&[0, 1], body.as_slice()].concat());
    seeds
}

pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    let wrapped = input.bool();
    let salt = input.byte();
    let flipped = if wrapped { input.byte() } else { 0 };
    let mut gzip = input.rest().to_vec();
    if wrapped {
        // The checksum and the length are right, so that the output counts; or one of their bytes
        // is wrong.
        let header = b"\x1f\x8b\x08\0\0\0\0\0\0\xff";
        let (length, out, _) = inflate(Decompress::new(false), &gzip);
        gzip.truncate(length);
        let length = out.len() as u32;
        let check = crc32fast::hash(&out);
        gzip = [header, &gzip[..], &check.to_le_bytes(), &length.to_le_bytes()].concat();
        let trailer = gzip.len() - 8;
        if let Some(byte) = gzip[trailer..].get_mut(usize::from(flipped)) {
            *byte ^= 1;
        }
    }
    let Some(expected) = by_zlib(&gzip) else {
        return;
    };
    let (ours, accepted) = by_us(Gunzip::default(), pieces(&gzip, salt));
    let (theirs, right) = &expected;
    assert_eq!(accepted, *right, "accepted by us, and by zlib");
    if *right {
        assert!(ours == *theirs, "we inflate it to other bytes than zlib");
    } else {
        let both = ours.len().min(theirs.len());
        assert!(ours[..both] == theirs[..both], "we begin it with other bytes than zlib");
    }

    let span = u64::from(salt) * 16 + 1;
    let mut marked = Gunzip::with_checkpoints(span);
    let mut out = Vec::new();
    for piece in pieces(&gzip, salt.rotate_left(1)) {
        let pushed = marked.push(piece, |bytes| {
            out.extend_from_slice(bytes);
            Ok::<_, Stop>(())
        });
        if pushed.is_err() {
            assert!(!accepted, "checkpoints fail what is inflated without them");
            return;
        }
    }
    let finished = marked.finish(|bytes| {
        out.extend_from_slice(bytes);
        Ok::<_, Stop>(())
    });
    assert_eq!(finished.is_ok(), accepted, "with checkpoints and without");
    if !accepted {
        return;
    }
    assert!(out == ours, "with checkpoints, other bytes come out");
    let checkpoints: Vec<Checkpoint> = std::iter::from_fn(|| marked.checkpoint()).collect();
    let ends = checkpoints.iter().skip(1).map(|next| next.output as usize);
    for (checkpoint, end) in checkpoints.iter().zip(ends.chain([out.len()])) {
        let from = checkpoint.output as usize;
        let begun = Gunzip::from_checkpoint(checkpoint).expect("a checkpoint can be used");
        let (tail, is_right) = by_us(begun, [&gzip[checkpoint.input as usize..]]);
        assert!(is_right && tail == out[from..], "from checkpoint {checkpoint:?}");
        assert_eq!(crc32fast::hash(&out[from..end]), checkpoint.check, "the check of a span");
    }
}

/// The output, and whether the stream is valid.
fn by_us<'a>(mut gunzip: Gunzip, pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<u8>, bool) {
    let mut out = Vec::new();
    let mut keep = |bytes: &[u8]| {
        out.extend_from_slice(bytes);
        if out.len() > MOST { Err(Stop::Enough) } else { Ok(()) }
    };
    let pushed = pieces.into_iter().try_for_each(|piece| gunzip.push(piece, &mut keep));
    let is_right = pushed.and_then(|()| gunzip.finish(&mut keep)).is_ok();
    (out, is_right)
}

/// The same by zlib, member by member; `None` if the output is too large.
fn by_zlib(gzip: &[u8]) -> Option<(Vec<u8>, bool)> {
    let (mut rest, mut out) = (gzip, Vec::new());
    loop {
        let (read, more, ended) = inflate(Decompress::new_gzip(15), rest);
        out.extend(more);
        rest = &rest[read..];
        if out.len() > MOST / 2 {
            return None;
        }
        if !ended || rest.is_empty() {
            return Some((out, ended));
        }
    }
}

/// The number of bytes that were read of a stream, the output, and whether the stream ended.
fn inflate(mut decoder: Decompress, bytes: &[u8]) -> (usize, Vec<u8>, bool) {
    let mut out = Vec::new();
    loop {
        out.reserve(32 << 10);
        let read = decoder.total_in() as usize;
        let before = out.len();
        let status = decoder.decompress_vec(&bytes[read..], &mut out, FlushDecompress::None);
        let now = decoder.total_in() as usize;
        match status {
            Ok(Status::StreamEnd) => return (now, out, true),
            Ok(Status::Ok) if (now > read || out.len() > before) && out.len() <= MOST => {}
            Ok(_) | Err(_) => return (now, out, false),
        }
    }
}
