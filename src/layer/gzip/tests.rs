use miniz_oxide::deflate::compress_to_vec;

use super::*;
use crate::layer::gzip::{
    limits::MAX_BLOCKS,
    member::{CHECK, COMMENT, EXTRA, NAME, header_length},
};

/// A member with these optional fields.
fn member(bytes: &[u8], level: u8, flags: u8) -> Vec<u8> {
    let mut member = vec![0x1f, 0x8b, 8, flags, 0, 0, 0, 0, 0, 255];
    if flags & EXTRA != 0 {
        member.extend([3, 0, 1, 2, 3]);
    }
    for flag in [NAME, COMMENT] {
        if flags & flag != 0 {
            member.extend(b"text\0");
        }
    }
    if flags & CHECK != 0 {
        let check = crc32fast::hash(&member) as u16;
        member.extend(check.to_le_bytes());
    }
    member.extend(compress_to_vec(bytes, level));
    member.extend(crc32fast::hash(bytes).to_le_bytes());
    member.extend((bytes.len() as u32).to_le_bytes());
    member
}

/// Bytes that compress about as well as programs.
fn sample(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut bytes = Vec::with_capacity(length + 64);
    while bytes.len() < length {
        let random = next();
        if random % 3 == 0 || bytes.is_empty() {
            bytes.extend(next().to_le_bytes());
        } else {
            let back = 1 + (next() as usize) % bytes.len().min(30_000);
            for _ in 0..(4 + random as usize % 60) {
                bytes.push(bytes[bytes.len() - back]);
            }
        }
    }
    bytes.truncate(length);
    bytes
}

/// All output for pieces of this size, and the checkpoints.
fn inflate(bytes: &[u8], piece: usize, span: u64) -> Result<(Vec<u8>, Vec<Checkpoint>), GzipError> {
    let mut gunzip = Gunzip::with_checkpoints(span);
    let mut out = Vec::new();
    let mut take = |bytes: &[u8]| {
        out.extend_from_slice(bytes);
        Ok::<_, GzipError>(())
    };
    for piece in bytes.chunks(piece) {
        gunzip.push(piece, &mut take)?;
    }
    gunzip.finish(&mut take)?;
    let checkpoints = std::iter::from_fn(|| gunzip.checkpoint()).collect();
    Ok((out, checkpoints))
}

#[track_caller]
fn check_checkpoints(bytes: &[u8], inflated: &[u8], checkpoints: &[Checkpoint]) {
    for (index, checkpoint) in checkpoints.iter().enumerate() {
        let mut gunzip = Gunzip::from_checkpoint(checkpoint).unwrap();
        let mut out = Vec::new();
        let start = checkpoint.output as usize;
        let next = checkpoints.get(index + 1);
        let end = next.map_or(inflated.len(), |next| next.output as usize);
        let until = next.map_or(bytes.len(), |next| next.input as usize);
        let take = |bytes: &[u8]| {
            out.extend_from_slice(bytes);
            Ok::<_, GzipError>(())
        };
        // A span needs no more than the bytes up to the next checkpoint.
        gunzip
            .push(&bytes[checkpoint.input as usize..until], take)
            .unwrap();
        assert_eq!(
            crc32fast::hash(&out),
            checkpoint.check,
            "checkpoint {index}"
        );
        assert!(
            out == inflated[start..end],
            "checkpoint {index} of {checkpoint:?}"
        );
    }
}

#[test]
fn saving_gunzip_at_every_checkpoint_changes_nothing() {
    let sample = sample(700_000, 3);
    let mut bytes = member(&sample[..400_000], 6, NAME | CHECK);
    bytes.extend(member(&sample[400_000..], 1, EXTRA | COMMENT));
    let whole = inflate(&bytes, usize::MAX, 50_000).unwrap();
    let mut gunzip = Gunzip::with_checkpoints(50_000);
    let (mut out, mut checkpoints, mut saves) = (Vec::new(), Vec::new(), 0);
    loop {
        let mut take = |bytes: &[u8]| {
            out.extend_from_slice(bytes);
            Ok::<_, GzipError>(())
        };
        gunzip.pause();
        let (read, _) = gunzip.position();
        gunzip.push(&bytes[read as usize..], &mut take).unwrap();
        if !gunzip.is_paused() {
            gunzip.finish(&mut take).unwrap();
        }
        checkpoints.extend(std::iter::from_fn(|| gunzip.checkpoint()));
        if !gunzip.is_paused() {
            break;
        }
        let mut state = Vec::new();
        gunzip.save(&mut state);
        let mut reader = wire::WireReader(&state);
        gunzip = Gunzip::load(&mut reader).unwrap();
        assert!(reader.0.is_empty());
        saves += 1;
    }
    assert!(saves >= 3 && saves + 1 == checkpoints.len(), "{saves}");
    assert!((out, checkpoints) == whole);
}

#[test]
fn a_checkpoint_omits_unreferenced_bytes_of_its_window() {
    let sample = sample(900_000, 11);
    let (_, checkpoints) = inflate(&member(&sample, 6, 0), usize::MAX, 100_000).unwrap();
    let windows: Vec<_> = checkpoints
        .iter()
        .filter_map(|checkpoint| match &checkpoint.start {
            Start::Block { window, .. } => {
                Some(decompress_to_vec_with_limit(window, WINDOW).unwrap())
            }
            Start::Member => None,
        })
        .collect();
    assert!(!windows.is_empty());
    let kept: usize = windows.iter().flatten().filter(|byte| **byte != 0).count();
    assert!(kept < windows.len() * WINDOW, "{kept}");
}

#[test]
fn gzip_errors_name_the_problem_and_the_offset() {
    let bytes = member(b"text", 6, 0);
    let change = |at: usize, to: u8| {
        let mut changed = bytes.clone();
        changed[at] = to;
        inflate(&changed, 64, 100).unwrap_err().to_string()
    };
    let end = bytes.len();
    assert_eq!(change(0, b'P'), "not gzip, at byte 0");
    assert_eq!(change(2, 7), "unknown gzip compression method 7, at byte 0");
    assert_eq!(
        change(3, 0x40),
        "reserved gzip flags 0x40 are set, at byte 0"
    );
    assert_eq!(
        change(10, 0xff),
        "invalid deflate data in a gzip member, at byte 11"
    );
    assert_eq!(
        change(end - 8, 0),
        format!("the checksum of a gzip member does not match, at byte {end}")
    );
    assert_eq!(
        change(end - 1, 9),
        format!("the length of a gzip member does not match, at byte {end}")
    );
    let garbage = [bytes.as_slice(), b"garbage"].concat();
    let error = inflate(&garbage, 64, 100).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("bytes that are not gzip after the last member, at byte {end}")
    );
    assert_eq!(
        inflate(b"", 64, 100).unwrap_err().to_string(),
        "truncated gzip data, at byte 0"
    );
}

/// A member of so many blocks and one more. An empty block has ten bits, and making its tables
/// takes microseconds.
fn empty_blocks(count: usize) -> Vec<u8> {
    let mut bits = Vec::new();
    for _ in 0..count {
        bits.extend([0_u8, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
    bits.extend([1, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    let bytes = bits.chunks(8);
    let bytes = bytes.map(|bits| bits.iter().rev().fold(0, |byte, bit| byte << 1 | bit));
    let mut member = member(b"", 6, 0);
    let trailer = member.split_off(member.len() - TRAILER);
    member.truncate(10);
    member.extend(bytes);
    member.extend(trailer);
    member
}

#[test]
fn deflate_blocks_out_of_proportion_are_refused() {
    let most = MAX_BLOCKS as usize;
    for piece in [usize::MAX, 1_021] {
        assert!(inflate(&empty_blocks(most - 1), piece, 1 << 20).is_ok());
        let error = inflate(&empty_blocks(most), piece, 1 << 20).unwrap_err();
        assert!(error.is_limit(), "{error}");
        assert!(
            error.to_string().contains("16384 deflate blocks"),
            "{error}"
        );
        // And so many members.
        let members = member(b"", 6, 0).repeat(most + 1);
        let error = inflate(&members, piece, 1 << 20).unwrap_err();
        assert!(error.is_limit(), "{error}");
    }
    // Resuming from a checkpoint counts blocks too.
    let start = Checkpoint::default();
    let mut gunzip = Gunzip::from_checkpoint(&start).unwrap();
    let error = gunzip.push(&empty_blocks(most), |_| Ok::<_, GzipError>(()));
    assert!(error.unwrap_err().is_limit());
    // Small members are no problem: an archive may have one for each file.
    let members = member(&[7; 200], 6, 0).repeat(100_000);
    assert_eq!(
        inflate(&members, usize::MAX, 1 << 20).unwrap().0.len(),
        20_000_000
    );
    let mut gunzip = Gunzip::with_checkpoints(1 << 20);
    gunzip
        .push(&empty_blocks(99), |_| Ok::<_, GzipError>(()))
        .unwrap();
    gunzip.finish(|_| Ok::<_, GzipError>(())).unwrap();
    assert_eq!(gunzip.blocks(), 100);
}

/// A chunk may hold thousands of members: a header that copied the rest of the chunk would make
/// the work quadratic.
#[test]
fn a_gzip_header_that_arrives_whole_is_not_copied() {
    let mut bytes = member(b"", 6, NAME | EXTRA | CHECK);
    let length = header_length(&bytes).unwrap().unwrap();
    bytes.resize(CHUNK, 7);
    let mut read = Vec::new();
    assert_eq!(take_header(&mut read, &bytes), Ok((length, true)));
    assert_eq!(read.capacity(), 0);
    // A partial header is kept until the rest of it comes.
    let mut read = Vec::new();
    assert_eq!(take_header(&mut read, &bytes[..12]), Ok((12, false)));
    assert_eq!(read, bytes[..12]);
    assert_eq!(
        take_header(&mut read, &bytes[12..]),
        Ok((length - 12, true))
    );
}

#[test]
fn gunzip_reads_thousands_of_members_and_a_long_run_of_zeros() {
    let many: Vec<u8> = (0..10_000_u32)
        .flat_map(|n| member(&n.to_le_bytes(), 6, 0))
        .collect();
    let (out, checkpoints) = inflate(&many, 4_099, 10_000).unwrap();
    let expected: Vec<u8> = (0..10_000_u32).flat_map(u32::to_le_bytes).collect();
    assert!(out == expected);
    assert!(
        checkpoints.len() >= 4
            && checkpoints
                .iter()
                .all(|checkpoint| checkpoint.start == Start::Member)
    );
    check_checkpoints(&many, &expected, &checkpoints);

    let zeros = vec![0; 8 << 20];
    let bytes = member(&zeros, 6, 0);
    let (out, checkpoints) = inflate(&bytes, 1 << 20, 1 << 20).unwrap();
    assert!(out == zeros);
    check_checkpoints(&bytes, &zeros, &checkpoints);
}
