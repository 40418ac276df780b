//! Gzip in every form that writers produce: inflated whole, in pieces and from each checkpoint, cut
//! and changed, and compared with the program `gzip`.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use miniz_oxide::deflate::{
    compress_to_vec,
    core::{
        CompressionStrategy, CompressorOxide, TDEFLFlush, compress_to_output,
        create_comp_flags_from_zip_params,
    },
};
use proptest::prelude::*;
use strata::layer::gzip::{Checkpoint, Gunzip, GzipError, Start};

const EXTRA: u8 = 4;
const NAME: u8 = 8;
const COMMENT: u8 = 16;
const HEADER_CHECK: u8 = 2;

/// A member of deflated bytes, with these optional fields.
fn wrap(deflated: &[u8], inflated: &[u8], flags: u8) -> Vec<u8> {
    let mut member = vec![0x1f, 0x8b, 8, flags, 1, 2, 3, 4, 0, 3];
    if flags & EXTRA != 0 {
        member.extend([4, 0, b'S', b'T', 0, 0]);
    }
    if flags & NAME != 0 {
        member.extend(b"layer.tar\0");
    }
    if flags & COMMENT != 0 {
        member.extend(b"a comment\0");
    }
    if flags & HEADER_CHECK != 0 {
        let check = crc32fast::hash(&member) as u16;
        member.extend(check.to_le_bytes());
    }
    member.extend(deflated);
    member.extend(crc32fast::hash(inflated).to_le_bytes());
    member.extend((inflated.len() as u32).to_le_bytes());
    member
}

fn member(bytes: &[u8], level: u8) -> Vec<u8> {
    wrap(&compress_to_vec(bytes, level), bytes, 0)
}

/// A member with a flush after every so many bytes.
fn flushed(
    bytes: &[u8],
    every: usize,
    flush: TDEFLFlush,
    strategy: CompressionStrategy,
) -> Vec<u8> {
    let flags = create_comp_flags_from_zip_params(6, -15, strategy as i32);
    let mut compressor = CompressorOxide::new(flags);
    let mut deflated = Vec::new();
    let mut put = |bytes: &[u8], flush| {
        compress_to_output(&mut compressor, bytes, flush, |out| {
            deflated.extend_from_slice(out);
            true
        });
    };
    for piece in bytes.chunks(every) {
        put(piece, flush);
    }
    put(&[], TDEFLFlush::Finish);
    wrap(&deflated, bytes, 0)
}

/// Bytes that compress about as programs do.
fn sample(length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 32);
    let mut state = 88_172_645_463_325_252_u64;
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        if state.is_multiple_of(3) || bytes.len() < 64 {
            bytes.extend(state.to_le_bytes());
        } else {
            let start = bytes.len() - 1 - (state >> 20) as usize % bytes.len().min(32_000);
            let end = (start + 4 + (state >> 8) as usize % 60).min(bytes.len());
            bytes.extend_from_within(start..end);
        }
    }
    bytes.truncate(length);
    bytes
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(step).take(length).collect()
}

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
    Ok((out, std::iter::from_fn(|| gunzip.checkpoint()).collect()))
}

/// The output of the program gzip; none if it refuses the bytes.
fn reference(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut gzip = Command::new("gzip")
        .arg("-dc")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = gzip.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    // It may refuse before it has read all of the input.
    let writer = std::thread::spawn(move || drop(input.write_all(&bytes)));
    let output = gzip.wait_with_output().unwrap();
    writer.join().unwrap();
    output.status.success().then_some(output.stdout)
}

/// Inflates bytes in every possible way, and compares the outputs.
#[track_caller]
fn check(bytes: &[u8], expected: &[u8]) -> Vec<Checkpoint> {
    let span = (expected.len() as u64 / 12).max(40);
    let (out, checkpoints) = inflate(bytes, usize::MAX, span).unwrap();
    assert!(out == expected, "whole");
    assert_eq!(
        reference(bytes).as_deref(),
        Some(expected),
        "the program gzip"
    );
    for piece in [64 * 1024, 4_099, 7, 1] {
        let again = inflate(bytes, piece, span).unwrap();
        assert!(
            again.0 == expected && again.1 == checkpoints,
            "pieces of {piece}"
        );
    }
    assert_eq!((checkpoints[0].input, checkpoints[0].output), (0, 0));
    for (at, checkpoint) in checkpoints.iter().enumerate() {
        let next = checkpoints.get(at + 1);
        let end = next.map_or(bytes.len() as u64, |next| next.input) as usize;
        let until = next.map_or(expected.len() as u64, |next| next.output) as usize;
        let mut out = Vec::new();
        let mut gunzip = Gunzip::from_checkpoint(checkpoint).unwrap();
        let take = |bytes: &[u8]| {
            out.extend_from_slice(bytes);
            Ok::<_, GzipError>(())
        };
        gunzip
            .push(&bytes[checkpoint.input as usize..end], take)
            .unwrap();
        assert!(
            out == expected[checkpoint.output as usize..until],
            "checkpoint {at}"
        );
        assert_eq!(crc32fast::hash(&out), checkpoint.check, "checkpoint {at}");
    }
    checkpoints
}

/// Cuts and changes bytes everywhere: the result is an error, or the right bytes.
#[track_caller]
fn check_damaged(bytes: &[u8], expected: &[u8], ends: &[usize]) {
    for end in 0..bytes.len() {
        let cut = inflate(&bytes[..end], 9, 50);
        assert_eq!(cut.is_ok(), ends.contains(&end), "cut at {end}");
        if let Ok((out, _)) = cut {
            assert!(expected.starts_with(&out), "cut at {end}");
        }
    }
    for at in 0..bytes.len() {
        let mut changed = bytes.to_vec();
        changed[at] ^= 1 << (at % 8);
        if let Ok((out, _)) = inflate(&changed, 64, 50) {
            assert_eq!(out, expected, "changed at {at}");
        }
    }
}

fn starts(checkpoints: &[Checkpoint]) -> (usize, usize) {
    let members = checkpoints
        .iter()
        .filter(|checkpoint| checkpoint.start == Start::Member);
    let members = members.count();
    (members, checkpoints.len() - members)
}

#[test]
fn one_gzip_member_is_inflated() {
    for level in 1..=9 {
        let bytes = sample(700_000);
        let (members, blocks) = starts(&check(&member(&bytes, level), &bytes));
        assert!(members == 1 && blocks >= 2, "{blocks} at level {level}");
    }
}

#[test]
fn twenty_four_gzip_members_are_inflated() {
    let bytes = sample(24 * 9_000);
    let all: Vec<u8> = bytes
        .chunks(9_000)
        .flat_map(|part| member(part, 6))
        .collect();
    let (members, _) = starts(&check(&all, &bytes));
    assert!(members >= 10, "{members}");
}

#[test]
fn empty_gzip_members_are_read_between_and_at_the_ends() {
    let bytes = sample(60_000);
    let empty = member(b"", 6);
    let all = [
        &*empty,
        &empty,
        &member(&bytes[..20_000], 6),
        &empty,
        &member(&bytes[20_000..], 6),
        &empty,
        &empty,
    ]
    .concat();
    check(&all, &bytes);
    check(&empty, b"");
    let first = empty.len();
    check_damaged(&[&*empty, &empty].concat(), b"", &[first]);
}

#[test]
fn every_optional_field_of_a_gzip_header_is_read() {
    let bytes = sample(300);
    for flags in [
        EXTRA,
        NAME,
        COMMENT,
        HEADER_CHECK,
        EXTRA | NAME | COMMENT | HEADER_CHECK,
    ] {
        let all = wrap(&compress_to_vec(&bytes, 6), &bytes, flags);
        // The program refuses a checksum of the header, which RFC 1952 allows.
        if flags & HEADER_CHECK == 0 {
            check(&all, &bytes);
        } else {
            assert!(inflate(&all, 7, 100).unwrap().0 == bytes);
        }
        check_damaged(&all, &bytes, &[]);
    }
}

#[test]
fn sync_and_full_flushes_are_inflated() {
    let bytes = sample(900_000);
    for flush in [TDEFLFlush::Sync, TDEFLFlush::Full] {
        check(
            &flushed(&bytes, 128 * 1024, flush, CompressionStrategy::Default),
            &bytes,
        );
    }
}

#[test]
fn stored_deflate_blocks_are_inflated() {
    let bytes = sample(400_000);
    let (_, blocks) = starts(&check(&member(&bytes, 0), &bytes));
    assert!(blocks >= 4, "{blocks}");
    check_damaged(&member(&bytes[..90], 0), &bytes[..90], &[]);
}

#[test]
fn fixed_huffman_codes_are_inflated() {
    let bytes = sample(400_000);
    let all = flushed(&bytes, 20_000, TDEFLFlush::Sync, CompressionStrategy::Fixed);
    let (_, blocks) = starts(&check(&all, &bytes));
    assert!(blocks >= 5, "{blocks}");
    let short = flushed(
        &bytes[..200],
        200,
        TDEFLFlush::None,
        CompressionStrategy::Fixed,
    );
    check_damaged(&short, &bytes[..200], &[]);
}

#[test]
fn incompressible_data_is_inflated() {
    let bytes = noise(500_000);
    check(&member(&bytes, 6), &bytes);
}

#[test]
fn long_runs_of_zeros_are_inflated() {
    let bytes = vec![0; 40 << 20];
    let all = member(&bytes, 9);
    let (out, checkpoints) = inflate(&all, 64 * 1024, 1 << 20).unwrap();
    assert!(out == bytes && reference(&all) == Some(bytes));
    assert!(checkpoints.len() > 4, "{}", checkpoints.len());
}

#[test]
fn sync_flushes_of_every_few_bytes_are_inflated() {
    // A flush leaves two blocks, which is within the limit.
    let bytes = noise(32_000);
    let all = flushed(&bytes, 4, TDEFLFlush::Sync, CompressionStrategy::Default);
    let (_, blocks) = starts(&check(&all, &bytes));
    assert!(
        blocks >= 1,
        "input has grown, and hardly any output: {blocks}"
    );
    let short = flushed(
        &bytes[..20],
        1,
        TDEFLFlush::Sync,
        CompressionStrategy::Default,
    );
    check_damaged(&short, &bytes[..20], &[]);
}

#[test]
fn garbage_after_the_last_gzip_member_is_refused() {
    let bytes = sample(1_000);
    for garbage in [&b"garbage"[..], &[0; 512], &[0x1f], &[0x1f, 0x8b, 8]] {
        let all = [&*member(&bytes, 6), garbage].concat();
        for piece in [usize::MAX, 7, 1] {
            let error = inflate(&all, piece, 100).unwrap_err().to_string();
            assert!(
                error.contains("after the last member") || error.contains("truncated"),
                "{error}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any bytes, in any members, with any flushes, are decoded from any pieces and from each
    /// checkpoint.
    #[test]
    fn any_gzip_members_inflate_from_every_checkpoint(
        parts in prop::collection::vec((0..20_000_usize, 0..=9_u8, 16..5_000_usize, any::<bool>()), 1..6),
        piece in 1..70_000_usize,
        span in 100..30_000_u64,
    ) {
        let bytes = sample(parts.iter().map(|(length, ..)| length).sum());
        let (mut all, mut at) = (Vec::new(), 0);
        for (length, level, every, flushes) in &parts {
            let part = &bytes[at..at + length];
            at += length;
            all.extend(if *flushes {
                flushed(part, *every, TDEFLFlush::Sync, CompressionStrategy::Default)
            } else {
                member(part, *level)
            });
        }
        let (out, checkpoints) = inflate(&all, piece, span).unwrap();
        prop_assert!(out == bytes);
        prop_assert_eq!(&inflate(&all, usize::MAX, span).unwrap().1, &checkpoints);
        for (at, checkpoint) in checkpoints.iter().enumerate() {
            let next = checkpoints.get(at + 1);
            let end = next.map_or(all.len() as u64, |next| next.input) as usize;
            let mut out = Vec::new();
            let take = |bytes: &[u8]| {
                out.extend_from_slice(bytes);
                Ok::<_, GzipError>(())
            };
            Gunzip::from_checkpoint(checkpoint).unwrap().push(&all[checkpoint.input as usize..end], take).unwrap();
            let until = next.map_or(bytes.len() as u64, |next| next.output) as usize;
            prop_assert!(out == bytes[checkpoint.output as usize..until]);
        }
    }

    /// Arbitrary bytes are refused, or are gzip for the program as well.
    #[test]
    fn changed_gzip_is_refused_or_read_as_the_gzip_program_does(
        length in 0..400_usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        piece in 1..50_usize,
    ) {
        let mut all = member(&sample(length), 6);
        for (at, to) in changes {
            let at = at.index(all.len());
            all[at] = to;
        }
        if let Ok((out, _)) = inflate(&all, piece, 60) {
            prop_assert_eq!(Some(out), reference(&all));
        }
    }
}
