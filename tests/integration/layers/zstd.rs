//! Layers of zstd compared with the program `zstd` (a Debian package of that name), over its
//! levels, windows and kinds of block. The tests fail if the program is missing.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use strata::layer::zstd::{Event, Unzstd, ZstdError};

const LIMIT: u64 = 8 << 20;
/// The window size that `--long=27` needs.
const LARGE: u64 = 1 << 27;

/// All results of decoding a stream.
#[derive(Debug, Default, Eq, PartialEq)]
struct Seen {
    out: Vec<u8>,
    frames: Vec<(u64, u64)>,
    position: (u64, u64),
    error: Option<ZstdError>,
}

fn see(mut unzstd: Unzstd, bytes: &[u8], piece: usize) -> Seen {
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
    seen.error = result.err();
    seen.position = unzstd.position();
    seen
}

/// Decodes a stream in pieces of many sizes, and from each of its frames.
#[track_caller]
fn check(what: &str, bytes: &[u8], expected: &[u8], limit: u64) -> Seen {
    let whole = see(Unzstd::new(limit), bytes, usize::MAX);
    assert_eq!(whole.error, None, "{what}");
    assert!(whole.out == expected, "{what}");
    assert_eq!(
        whole.position,
        (bytes.len() as u64, expected.len() as u64),
        "{what}"
    );
    for piece in [64 * 1024, 4_099, 7, 1] {
        let seen = see(Unzstd::new(limit), bytes, piece);
        assert!(seen == whole, "{what} in pieces of {piece}");
    }
    for (index, &(input, output)) in whole.frames.iter().enumerate() {
        let rest = &bytes[usize::try_from(input).unwrap()..];
        let seen = see(Unzstd::at(input, output, limit), rest, 64 * 1024);
        let out = &expected[usize::try_from(output).unwrap()..];
        assert!(seen.out == out, "{what} from frame {index}");
        assert_eq!(seen.error, None, "{what} from frame {index}");
        assert_eq!(seen.frames, whole.frames[index..], "{what}");
        assert_eq!(seen.position, whole.position, "{what} from frame {index}");
    }
    whole
}

/// A file of this test.
struct Input(PathBuf);

impl Input {
    fn new(bytes: &[u8]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("zstd-{}-{number}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::write(&path, bytes).expect("a file can be written");
        Self(path)
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        // Nothing else depends on the file.
        let _ = fs::remove_file(&self.0);
    }
}

fn run(options: &[&str], input: &Input, from: Stdio) -> Vec<u8> {
    let mut command = Command::new("zstd");
    command.args(["-q", "-c"]).args(options).stdin(from);
    if !options.contains(&"-") {
        command.arg(&input.0);
    }
    let output = command
        .output()
        .expect("the program zstd is needed: apt-get install zstd");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "zstd {options:?}: {text}");
    output.stdout
}

/// Compresses a file: its size is known, and in the header.
fn compress(bytes: &[u8], options: &[&str]) -> Vec<u8> {
    run(options, &Input::new(bytes), Stdio::null())
}

/// Compresses a stream, as a writer of layers does: the header does not state the length.
fn compress_stream(bytes: &[u8], options: &[&str]) -> Vec<u8> {
    let input = Input::new(bytes);
    let from = File::open(&input.0).expect("it was written");
    run(&[options, &["-"]].concat(), &input, from.into())
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

fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut random = random(seed);
    (0..length).map(|_| random().to_le_bytes()[0]).collect()
}

/// Bytes that compress about as programs do: literals of few kinds, copies from near and far.
fn sample(length: usize, seed: u64) -> Vec<u8> {
    let mut random = random(seed);
    let mut bytes = vec![0];
    while bytes.len() < length {
        if random().is_multiple_of(3) {
            bytes.extend((0..1 + random() % 16).map(|_| random().to_le_bytes()[0] & 0x3f));
        } else {
            let far = if random().is_multiple_of(4) {
                bytes.len()
            } else {
                3_000
            };
            let back = 1 + random() % bytes.len().min(far);
            for _ in 0..4 + random() % 60 {
                bytes.push(bytes[bytes.len() - back]);
            }
        }
    }
    bytes.truncate(length);
    bytes
}

const LEVELS: [&[&str]; 9] = [
    &["-1"],
    &["-3"],
    &["-19"],
    &["--fast=5"],
    &["-3", "--no-check"],
    &["-19", "--no-check"],
    &["--ultra", "-22", "--zstd=wlog=10"],
    &["--ultra", "-22", "--zstd=wlog=17"],
    &["-9", "--target-compressed-block-size=2000"],
];

#[test]
fn data_of_the_zstd_program_is_decompressed_at_all_levels() {
    let sample = sample(250_000, 7);
    for options in LEVELS {
        let bytes = compress(&sample, options);
        check(&format!("{options:?}"), &bytes, &sample, LIMIT);
        let bytes = compress_stream(&sample, options);
        check(&format!("{options:?} of a stream"), &bytes, &sample, LIMIT);
    }
}

#[test]
fn every_kind_of_zstd_block_is_decompressed() {
    let noise = noise(300_000, 3);
    let bytes = compress(&noise, &["-3"]);
    assert!(bytes.len() > noise.len(), "blocks are raw");
    check("noise", &bytes, &noise, LIMIT);

    let zeros = vec![0; 1_000_000];
    let bytes = compress(&zeros, &["-3"]);
    assert!(bytes.len() < 1_000, "blocks are repetitions");
    check("zeros", &bytes, &zeros, LIMIT);

    let mixed = [&noise[..90_000], &zeros[..90_000], &sample(90_000, 5)].concat();
    for options in LEVELS {
        let bytes = compress_stream(&mixed, options);
        check(&format!("all of them, {options:?}"), &bytes, &mixed, LIMIT);
    }
    for length in [
        0, 1, 2, 255, 256, 257, 65_791, 65_792, 131_071, 131_072, 131_073,
    ] {
        for bytes in [&mixed[..length], &zeros[..length]] {
            let compressed = compress(bytes, &["-19"]);
            check(&format!("{length} bytes"), &compressed, bytes, LIMIT);
        }
    }
}

#[test]
fn zstd_frames_are_read_one_after_another() {
    let sample = sample(300_000, 9);
    let empty = compress(b"", &[]);
    let skippable = |content: &[u8]| {
        let length = u32::try_from(content.len()).unwrap().to_le_bytes();
        [&[0x5e, 0x2a, 0x4d, 0x18], length.as_slice(), content].concat()
    };
    let mut bytes = [skippable(b""), empty.clone()].concat();
    let mut expected = vec![(8, 0)];
    for (index, part) in sample.chunks(50_000).enumerate() {
        expected.push((bytes.len() as u64, index as u64 * 50_000));
        bytes.extend(compress(part, LEVELS[index]));
        bytes.extend(skippable(&vec![0x28; index * 5_000]));
        expected.push((bytes.len() as u64, index as u64 * 50_000 + 50_000));
        bytes.extend(&empty);
    }
    // The end of the seekable format: a table of frames, and its own magic number.
    bytes.extend(skippable(&[0x5e, 0, 0, 0, 0, 0xb1, 0xea, 0x92, 0x8f]));
    let seen = check("frames", &bytes, &sample, LIMIT);
    assert_eq!(seen.frames, expected);
}

#[test]
fn a_large_zstd_window_is_refused_unless_the_limit_allows_it() {
    let sample = sample(400_000, 11);
    let bytes = compress_stream(&sample, &["-3", "--long=27"]);
    let error = see(Unzstd::new(LIMIT), &bytes, 4_099).error.unwrap();
    assert!(error.is_limit());
    assert_eq!(
        error.to_string(),
        "a zstd frame that needs a window of 134217728 bytes, more than 8388608, at byte 0"
    );
    check("a window of 128 MiB", &bytes, &sample, LARGE);
}

#[test]
fn matches_from_far_back_in_the_window_are_found() {
    // Noise that repeats from nearly the size of the window back, at every position of the buffer.
    let noise = noise(120_000, 13);
    let mut expected = Vec::new();
    for index in 0..20_u8 {
        expected.extend_from_slice(&noise);
        expected.extend(vec![index; 10_000]);
    }
    let bytes = compress_stream(&expected, &["-19", "--zstd=wlog=17"]);
    assert!(bytes.len() < noise.len() * 2, "{}", bytes.len());
    check("noise again", &bytes, &expected, 1 << 17);
}

#[test]
fn truncated_zstd_streams_are_refused() {
    let sample = sample(3_000, 15);
    for options in [["-19", "--check"], ["-1", "--no-check"]] {
        let bytes = compress(&sample, &options);
        for at in 0..bytes.len() {
            let seen = see(Unzstd::new(LIMIT), &bytes[..at], 5);
            assert_eq!(
                seen.error.expect("an error").to_string(),
                format!("truncated zstd data, at byte {at}")
            );
            assert!(sample.starts_with(&seen.out));
        }
    }
}

#[test]
fn changed_zstd_data_is_detected_by_its_checksum() {
    let sample = sample(2_000, 17);
    for level in ["-1", "-19"] {
        let checked = compress(&sample, &[level]);
        let unchecked = compress(&sample, &[level, "--no-check"]);
        for at in 0..checked.len() {
            for change in [0x01, 0x10, 0x80, 0xff] {
                let mut bytes = checked.clone();
                bytes[at] ^= change;
                let seen = see(Unzstd::new(LIMIT), &bytes, 700);
                // The checksum flag is in byte 4: without it, four bytes are left over.
                if seen.error.is_none() {
                    assert!(seen.out == sample, "byte {at}, {level}");
                }
                if let Some(byte) = unchecked.get(at) {
                    let mut bytes = unchecked.clone();
                    bytes[at] = byte ^ change;
                    // The output is arbitrary, but it does not depend on the size of the pieces.
                    let whole = see(Unzstd::new(LIMIT), &bytes, usize::MAX);
                    assert!(see(Unzstd::new(LIMIT), &bytes, 13) == whole, "byte {at}");
                }
            }
        }
    }
}
