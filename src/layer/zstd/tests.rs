use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use super::*;
use crate::layer::zstd::frame::{BLOCK_HEADER, CHECK, COMPRESSED, REPEATED, RESERVED};

const LIMIT: u64 = 8 << 20;
const CHECKED: u8 = 0x04;
const SINGLE: u8 = 0x20;
/// The window descriptor of the smallest window, 1 KiB.
const SMALLEST: u8 = 0;

/// All observations of a stream.
#[derive(Debug, Default, Eq, PartialEq)]
struct Seen {
    out: Vec<u8>,
    frames: Vec<(u64, u64)>,
    position: (u64, u64),
    error: Option<String>,
}

fn seen(mut unzstd: Unzstd, bytes: &[u8], piece: usize) -> Seen {
    let mut seen = Seen::default();
    let mut each = |event: Event<'_>| {
        match event {
            Event::Frame { input, output } => seen.frames.push((input, output)),
            Event::Bytes(bytes) => seen.out.extend_from_slice(bytes),
        }
        Ok::<_, ZstdError>(())
    };
    let result = bytes
        .chunks(piece)
        .try_for_each(|piece| unzstd.push(piece, &mut each))
        .and_then(|()| unzstd.finish());
    seen.error = result.err().map(|error| error.to_string());
    seen.position = unzstd.position();
    seen
}

#[track_caller]
fn decode(bytes: &[u8]) -> Seen {
    let whole = seen(Unzstd::new(LIMIT), bytes, usize::MAX);
    for piece in [4_099, 7, 1] {
        assert_eq!(
            seen(Unzstd::new(LIMIT), bytes, piece),
            whole,
            "pieces of {piece}"
        );
    }
    whole
}

#[track_caller]
fn error(bytes: &[u8]) -> String {
    decode(bytes).error.expect("an error")
}

/// A frame written by hand: its descriptor, its other fields, its blocks.
fn frame(descriptor: u8, fields: &[u8], blocks: &[Vec<u8>]) -> Vec<u8> {
    [&MAGIC, [descriptor].as_slice(), fields, &blocks.concat()].concat()
}

fn block(kind: u64, is_last: bool, size: usize, content: &[u8]) -> Vec<u8> {
    let header = (size as u64) << 3 | kind << 1 | u64::from(is_last);
    [&header.to_le_bytes()[..BLOCK_HEADER], content].concat()
}

fn raw(is_last: bool, content: &[u8]) -> Vec<u8> {
    block(0, is_last, content.len(), content)
}

fn skippable(content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_le_bytes();
    [&[0x5e, 0x2a, 0x4d, 0x18], length.as_slice(), content].concat()
}

fn empty() -> Vec<u8> {
    frame(SINGLE, &[0], &[raw(true, b"")])
}

/// A frame with a window and a checksum, made by an encoder.
fn compress(bytes: &[u8]) -> Vec<u8> {
    compress_to_vec(bytes, CompressionLevel::Fastest)
}

fn random(seed: u64) -> impl FnMut() -> usize {
    let mut state = seed | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 20).unwrap()
    }
}

/// Bytes that compress about as well as programs.
fn sample(length: usize, seed: u64) -> Vec<u8> {
    let mut random = random(seed);
    let mut bytes = vec![0];
    while bytes.len() < length {
        if random().is_multiple_of(3) {
            bytes.extend((0..8).map(|_| random().to_le_bytes()[0] & 0x3f));
        } else {
            let back = 1 + random() % bytes.len().min(30_000);
            for _ in 0..4 + random() % 60 {
                bytes.push(bytes[bytes.len() - back]);
            }
        }
    }
    bytes.truncate(length);
    bytes
}

#[test]
fn zstd_output_does_not_depend_on_the_size_of_pieces() {
    let sample = sample(600_000, 7);
    let (first, second) = (compress(&sample[..400_000]), compress(&sample[400_000..]));
    assert!(first.len() < 300_000, "{}", first.len());
    let bytes = [
        empty(),
        first.clone(),
        skippable(&[7; 10_000]),
        empty(),
        second.clone(),
        skippable(b""),
    ]
    .concat();
    let seen = decode(&bytes);
    assert_eq!(seen.error, None);
    assert!(seen.out == sample);
    assert_eq!(seen.position, (bytes.len() as u64, 600_000));
    let second = (bytes.len() - 8 - second.len()) as u64;
    let length = empty().len() as u64;
    assert_eq!(
        seen.frames,
        [
            (0, 0),
            (length, 0),
            (second - length, 400_000),
            (second, 400_000)
        ]
    );
}

#[test]
fn unzstd_can_start_at_every_frame() {
    let sample = sample(200_000, 5);
    let mut bytes: Vec<u8> = sample.chunks(3_000).flat_map(compress).collect();
    bytes.extend(skippable(b"where they are"));
    let whole = decode(&bytes);
    assert_eq!(whole.frames.len(), 67);
    for (index, &(input, output)) in whole.frames.iter().enumerate() {
        let rest = &bytes[usize::try_from(input).unwrap()..];
        let unzstd = Unzstd::at(input, output, LIMIT);
        let seen = seen(unzstd, rest, 4_099);
        assert_eq!(seen.error, None);
        assert!(seen.out == sample[usize::try_from(output).unwrap()..]);
        assert_eq!(seen.frames, whole.frames[index..]);
        assert_eq!(seen.position, whole.position);
    }
}

#[test]
fn every_form_of_a_zstd_frame_header_is_read() {
    let text = b"text, text".as_slice();
    let last = [raw(true, text)];
    let long = [9; 300];
    for (bytes, out) in [
        (frame(0, &[SMALLEST], &last), text),
        (frame(SINGLE, &[10], &last), text),
        (frame(0x10 | SINGLE, &[10], &last), text),
        (frame(0x40, &[SMALLEST, 44, 0], &[raw(true, &long)]), &long),
        (
            frame(0x40 | SINGLE, &[44, 0], &[block(1, true, 300, &[9])]),
            &long,
        ),
        (frame(0x80, &[SMALLEST, 10, 0, 0, 0], &last), text),
        (frame(0xc0, &[0x3f, 10, 0, 0, 0, 0, 0, 0, 0], &last), text),
        (frame(0x03, &[SMALLEST, 0, 0, 0, 0], &last), text),
        (frame(0x02, &[SMALLEST, 0, 0], &last), text),
        (frame(0x01, &[SMALLEST, 0], &last), text),
    ] {
        let seen = decode(&bytes);
        assert_eq!(seen.error, None, "{bytes:?}");
        assert_eq!(seen.out, out);
    }
}

#[test]
fn unzstd_holds_back_at_most_one_window() {
    let block = |is_last| block(REPEATED, is_last, 1_024, &[9]);
    let mut unzstd = Unzstd::new(1_024);
    let mut taken = 0;
    let mut push = |bytes: &[u8], came: usize| {
        let each = |event: Event<'_>| {
            if let Event::Bytes(bytes) = event {
                taken += bytes.len();
            }
            Ok::<_, ZstdError>(())
        };
        unzstd.push(bytes, each).unwrap();
        assert!(taken + 1_024 >= came);
    };
    push(&frame(0, &[SMALLEST], &[]), 0);
    for index in 1..=5_000 {
        push(&block(index == 5_000), index * 1_024);
    }
    assert_eq!(taken, 5_000 * 1_024);
    unzstd.finish().unwrap();
}

#[test]
fn a_large_skippable_zstd_frame_is_skipped_without_buffering() {
    let mut unzstd = Unzstd::new(LIMIT);
    let each = |_: Event<'_>| Ok::<_, ZstdError>(());
    let header = [0x50, 0x2a, 0x4d, 0x18, 0xff, 0xff, 0xff, 0xff];
    unzstd.push(&header, each).unwrap();
    for _ in 0..1_000 {
        unzstd.push(&[0x28; 4_099], each).unwrap();
    }
    assert!(unzstd.gathered.capacity() == 0);
    assert_eq!(unzstd.position(), (4_099_008, 0));
    assert_eq!(
        unzstd.finish().unwrap_err().to_string(),
        "truncated zstd data, at byte 4099008"
    );
}

/// A frame of no bytes has nine, and decoding it takes microseconds.
#[test]
fn zstd_frames_and_blocks_out_of_proportion_are_refused() {
    let most = usize::try_from(MAX_UNITS).unwrap();
    let frames = |count| empty().repeat(count);
    let blocks = |count| {
        let mut blocks = vec![raw(false, b""); count - 2];
        blocks.push(raw(true, b""));
        frame(0, &[SMALLEST], &blocks)
    };
    let skippables = |count| skippable(b"").repeat(count);
    for bytes in [frames(most / 2), blocks(most - 1), skippables(most)] {
        assert_eq!(seen(Unzstd::new(LIMIT), &bytes, usize::MAX).error, None);
    }
    for bytes in [frames(most / 2 + 1), blocks(most + 5), skippables(most + 1)] {
        for piece in [usize::MAX, 1_021] {
            let error = seen(Unzstd::new(LIMIT), &bytes, piece).error.unwrap();
            assert!(error.contains("16384 frames and blocks"), "{error}");
        }
        let mut unzstd = Unzstd::new(LIMIT);
        let each = |_: Event<'_>| Ok::<_, ZstdError>(());
        assert!(unzstd.push(&bytes, each).unwrap_err().is_limit());
    }
    // A window of 1 MiB holds back 1 MiB, which may have 4,096 blocks.
    let mut flushed = vec![block(REPEATED, false, 60, &[9]); most + 4_000];
    flushed.push(raw(true, b""));
    let flushed = seen(Unzstd::new(LIMIT), &frame(0, &[0x50], &flushed), 4_099);
    assert_eq!(flushed.error, None);
    // Small frames are no problem, however many they are: zstd:chunked has some for each file.
    let small = frame(SINGLE, &[200], &[block(REPEATED, true, 200, &[9])]);
    let seen = seen(Unzstd::new(LIMIT), &small.repeat(50_000), usize::MAX);
    assert_eq!((seen.error, seen.out.len()), (None, 10_000_000));
}

#[test]
fn zstd_windows_above_the_limit_are_refused() {
    let last = [raw(true, b"text, text")];
    let limit = |limit, bytes: &[u8]| seen(Unzstd::new(limit), bytes, 5).error;
    let window = frame(0, &[9], &last);
    assert_eq!(limit(2_304, &window), None);
    assert_eq!(
        limit(2_303, &window).unwrap(),
        "a zstd frame that needs a window of 2304 bytes, more than 2303, at byte 0"
    );
    let single = frame(SINGLE, &[10], &last);
    assert_eq!(limit(10, &single), None);
    assert_eq!(
        limit(9, &single).unwrap(),
        "a zstd frame that needs a window of 10 bytes, more than 9, at byte 0"
    );
    let largest = frame(0, &[0xff], &last);
    assert_eq!(
        limit(u64::MAX, &largest).unwrap(),
        "a zstd frame that needs a window of 4123168604160 bytes, more than 1073741824, at byte 0"
    );

    let each = |_: Event<'_>| Ok::<_, ZstdError>(());
    let mut unzstd = Unzstd::new(LIMIT);
    assert!(unzstd.push(&largest, each).unwrap_err().is_limit());
    let mut unzstd = Unzstd::new(LIMIT);
    assert!(!unzstd.push(b"text", each).unwrap_err().is_limit());
}

#[test]
fn zstd_errors_name_the_problem_and_the_offset() {
    let last = [raw(true, b"text, text")];
    let bytes = frame(SINGLE, &[10], &last);
    let end = bytes.len();
    assert_eq!(error(b""), "truncated zstd data, at byte 0");
    assert_eq!(error(b"PK"), "not zstd, at byte 0");
    assert_eq!(error(&[0x28, 0xb5, 0x2f, 0xfe]), "not zstd, at byte 0");
    assert_eq!(error(&[0x50, 0x2a, 0x4e]), "not zstd, at byte 0");
    assert_eq!(
        error(&[bytes.as_slice(), b"\0"].concat()),
        format!("bytes that are not zstd after the last frame, at byte {end}")
    );
    assert_eq!(
        error(&[skippable(b"skipped"), b"garbage".to_vec()].concat()),
        "bytes that are not zstd after the last frame, at byte 15"
    );
    assert_eq!(
        error(&frame(0x08 | SINGLE, &[10], &last)),
        "the reserved bit of a zstd frame is set, at byte 0"
    );
    assert_eq!(
        error(&frame(0x02, &[SMALLEST, 1, 2], &last)),
        "a zstd frame that needs dictionary 513, at byte 0"
    );
    assert_eq!(
        error(&frame(SINGLE, &[11], &last)),
        format!("the length of a zstd frame does not match, at byte {end}")
    );
    assert_eq!(
        error(&frame(0x80, &[SMALLEST, 9, 0, 0, 0], &last)),
        "the length of a zstd frame does not match, at byte 10"
    );
    let mut bytes = compress(b"text, text");
    *bytes.last_mut().unwrap() ^= 1;
    assert_eq!(
        error(&bytes),
        format!(
            "the checksum of a zstd frame does not match, at byte {}",
            bytes.len()
        )
    );
    let block_error = "a block of a zstd frame can't be decoded, at byte 6";
    for bytes in [
        frame(0, &[SMALLEST], &[block(RESERVED, true, 1, &[1])]),
        frame(0, &[SMALLEST], &[block(0, true, 1_025, &[1])]),
        frame(0, &[SMALLEST], &[block(REPEATED, true, 1_025, &[1])]),
        frame(0, &[0x68], &[block(0, true, 128 * 1024 + 1, &[1])]),
        // No literals, no sequences.
        frame(0, &[SMALLEST], &[block(COMPRESSED, true, 0, &[])]),
        // A byte repeated 1,025 times, no sequences.
        frame(
            0,
            &[SMALLEST],
            &[block(COMPRESSED, true, 4, &[0x15, 0x40, 9, 0])],
        ),
        // Literals by the tree of an earlier block, which does not exist.
        frame(
            0,
            &[SMALLEST],
            &[block(COMPRESSED, true, 5, &[0x53, 0x40, 0, 1, 0])],
        ),
    ] {
        assert_eq!(error(&bytes), block_error, "{bytes:?}");
    }
    let repeated = block(COMPRESSED, true, 4, &[0x05, 0x40, 9, 0]);
    assert_eq!(decode(&frame(0, &[SMALLEST], &[repeated])).out, [9; 1_024]);
}

#[test]
fn unzstd_decodes_nothing_after_an_error() {
    let bytes = compress(&sample(300_000, 3));
    let mut unzstd = Unzstd::new(LIMIT);
    let refuse = |event: Event<'_>| match event {
        Event::Frame { .. } => Ok(()),
        Event::Bytes(_) => Err(None),
    };
    #[derive(Debug)]
    struct Refused(Option<ZstdError>);
    impl From<ZstdError> for Refused {
        fn from(error: ZstdError) -> Self {
            Self(Some(error))
        }
    }
    let refuse = |event: Event<'_>| refuse(event).map_err(Refused);
    assert!(unzstd.push(&bytes, refuse).unwrap_err().0.is_none());
    let error = unzstd.push(&bytes, refuse).unwrap_err().0.unwrap();
    assert!(
        error
            .to_string()
            .starts_with("the decompressed zstd data was refused, at byte "),
        "{error}"
    );
    assert_eq!(unzstd.finish().unwrap_err(), error);

    let mut unzstd = Unzstd::new(LIMIT);
    let error = unzstd.push(b"garbage", refuse).unwrap_err().0.unwrap();
    assert_eq!(unzstd.push(&bytes, refuse).unwrap_err().0.unwrap(), error);
}

#[test]
fn truncated_zstd_data_is_refused() {
    let first = compress(b"some text, some text");
    let skipped = skippable(b"skipped");
    let bytes = [first.as_slice(), &skipped, &compress(&sample(300, 5))].concat();
    for at in 0..bytes.len() {
        let cut = decode(&bytes[..at]);
        if at == first.len() || at == first.len() + skipped.len() {
            assert_eq!(cut.error, None, "a frame ends here");
            assert_eq!(cut.out, b"some text, some text");
        } else {
            assert_eq!(
                cut.error.unwrap(),
                format!("truncated zstd data, at byte {at}")
            );
        }
    }
}

#[test]
fn a_flipped_bit_in_checksummed_zstd_is_detected() {
    let sample = sample(700, 9);
    let bytes = compress(&sample);
    assert_eq!(bytes[MAGIC.len()] & CHECKED, CHECKED);
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            let seen = seen(Unzstd::new(LIMIT), &flipped, 64);
            // One bit says whether there is a checksum, and others whether the frame is skippable.
            let is_checked = flipped[MAGIC.len()] & CHECKED != 0 && flipped[0] == MAGIC[0];
            if seen.error.is_none() && is_checked {
                assert!(seen.out == sample, "byte {at}");
            }
        }
    }
}

/// The decoder's own checks protect bytes without a checksum. They are compiled into tests.
#[test]
fn zstd_blocks_of_any_bytes_never_panic() {
    let mut random = random(1);
    let sample = sample(3_000, 11);
    let mut good = compress(&sample);
    good[MAGIC.len()] &= !CHECKED;
    good.truncate(good.len() - CHECK);
    let start = MAGIC.len() + 2 + BLOCK_HEADER;
    let mut failures = 0;
    for round in 0..6_000 {
        let mut bytes = good.clone();
        for _ in 0..1 + random() % 4 {
            // The tables are at the beginning of a block: most errors are there.
            let end = if random().is_multiple_of(2) {
                start + 60
            } else {
                bytes.len()
            };
            let at = start + random() % (end - start);
            bytes[at] = random().to_le_bytes()[0];
        }
        if round % 3 == 0 {
            let content: Vec<_> = (0..random() % 200)
                .map(|_| random().to_le_bytes()[0])
                .collect();
            let block = block(COMPRESSED, true, content.len(), &content);
            bytes = frame(0, &[0x40], &[block]);
        }
        let seen = seen(Unzstd::new(LIMIT), &bytes, usize::MAX);
        failures += usize::from(seen.error.is_some());
        assert!(seen.out.len() <= 256 * 1024);
    }
    assert!(failures > 3_000, "{failures}");
}
