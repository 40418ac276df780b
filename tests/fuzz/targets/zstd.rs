//! Zstandard: the same bytes as libzstd, for its own frames and every accepted one, in any chunks.

use strata::layer::zstd::{Event, Unzstd, ZstdError};

use crate::{
    input::{Input, pieces},
    programs,
};

pub(crate) const WORDS: &[&[u8]] = &[
    b"\x28\xb5\x2f\xfd",
    b"\x28\xb5\x2f\xfd\x00\x58",
    b"\x50\x2a\x4d\x18\x04\0\0\0",
    b"\x01\x00\x00",
];

/// The largest window, in bits.
const WINDOW: u32 = 20;
/// The most bytes that are decoded of an input.
const MOST: usize = 1 << 20;

#[derive(Debug)]
enum Stop {
    Zstd,
    Enough,
}

impl From<ZstdError> for Stop {
    fn from(_: ZstdError) -> Self {
        Self::Zstd
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let text = [programs::words(1, 3_000), vec![b'a'; 500], programs::noise(1, 200)].concat();
    let mut seeds = Vec::new();
    for command in [
        "zstd -q1 --no-check",
        "zstd -q19 --no-check",
        "zstd -q3",
        "zstd -q --ultra -22 --no-check --no-content-size",
    ] {
        for text in [text.as_slice(), &text[..400], b"aaaaaaaaaaaaaaaaab", b""] {
            let frame = programs::through(command, text);
            seeds.push([&[7], frame.as_slice()].concat());
        }
    }
    let frames: Vec<u8> = text
        .chunks(700)
        .flat_map(|part| programs::through("zstd -q5 --no-check", part))
        .collect();
    seeds.push([&[3], frames.as_slice()].concat());
    seeds.push([&[4], b"\x50\x2a\x4d\x18\x04\0\0\0abcd".as_slice(), &frames].concat());
    seeds.push([&[0xff], text.as_slice()].concat());
    // A frame of five bytes whose header announces six.
    seeds.push(b"\x00\x28\xb5\x2f\xfd\x20\x06\x2b\0\0a".to_vec());
    seeds
}

pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    let salt = input.byte();
    let stream = input.rest();
    #[cfg(libfuzzer)]
    if salt >= 0xf0 {
        return round_trip(stream, salt);
    }
    let (ours, frames, outcome) = by_us(0, 0, pieces(stream, salt));
    if matches!(outcome, Err(Stop::Enough)) {
        return;
    }
    let (whole, _, other) = by_us(0, 0, [stream]);
    assert_eq!(outcome.is_ok(), other.is_ok(), "in pieces and at once");
    // The bytes that an error cuts off depend on the pieces.
    let both = ours.len().min(whole.len());
    assert!(ours[..both] == whole[..both], "in pieces, other bytes come out");
    // libzstd ignores surplus literals of a corrupt block, unless a checksum reveals them. RFC 8878
    // requires as many as are announced, and so does the decoder. `round_trip` checks that it
    // accepts the frames of libzstd.
    if outcome.is_err() {
        return;
    }
    #[cfg(libfuzzer)]
    beside_libzstd(stream, &frames, &ours);
    for (number, (input, output)) in frames.iter().enumerate() {
        let end = frames.get(number + 1).map_or(ours.len() as u64, |(_, next)| *next);
        frame(stream, *input as usize, end - output);
    }
    for (input, output) in frames {
        let tail = &stream[input as usize..];
        let (tail, _, outcome) = by_us(input, output, pieces(tail, salt.rotate_left(1)));
        assert!(outcome.is_ok() && tail == ours[output as usize..], "from the frame at {input}");
    }
}

/// A frame has the length that its header announces (RFC 8878, section 3.1.1), and is refused if
/// its checksum differs.
fn frame(stream: &[u8], start: usize, length: u64) {
    let descriptor = stream[start + 4];
    let is_single = descriptor & 0x20 != 0;
    let mut at = start + 5 + usize::from(!is_single) + [0, 1, 2, 4][usize::from(descriptor & 3)];
    let size = match descriptor >> 6 {
        0 => usize::from(is_single),
        flag => 1 << flag,
    };
    if size > 0 {
        let mut announced = [0; 8];
        announced[..size].copy_from_slice(&stream[at..at + size]);
        let announced = u64::from_le_bytes(announced) + if size == 2 { 256 } else { 0 };
        assert_eq!(length, announced, "the length of the frame at {start}");
        at += size;
    }
    if descriptor & 4 != 0 {
        loop {
            let block = u32::from_le_bytes([stream[at], stream[at + 1], stream[at + 2], 0]);
            let is_run = block >> 1 & 3 == 1;
            at += 3 + if is_run { 1 } else { block as usize >> 3 };
            if block & 1 == 1 {
                break;
            }
        }
        let mut changed = stream[start..at + 4].to_vec();
        changed[at - start] ^= 1;
        let (_, _, outcome) = by_us(0, 0, [changed.as_slice()]);
        assert!(outcome.is_err(), "the frame at {start} with another checksum");
    }
}

type Decoded = (Vec<u8>, Vec<(u64, u64)>, Result<(), Stop>);

/// The output, the offsets of the frames, and whether the input is valid.
fn by_us<'a>(input: u64, output: u64, pieces: impl IntoIterator<Item = &'a [u8]>) -> Decoded {
    let mut unzstd = Unzstd::at(input, output, 1 << WINDOW);
    let (mut out, mut frames) = (Vec::new(), Vec::new());
    let mut keep = |event: Event<'_>| {
        match event {
            Event::Frame { input, output: at } => {
                assert_eq!(at, output + out.len() as u64, "where a frame begins");
                frames.push((input, at));
            }
            Event::Bytes(bytes) => out.extend_from_slice(bytes),
        }
        if out.len() > MOST { Err(Stop::Enough) } else { Ok(()) }
    };
    let mut pieces = pieces.into_iter();
    let pushed = pieces.try_for_each(|piece| unzstd.push(piece, &mut keep));
    let outcome = pushed.and_then(|()| unzstd.finish().map_err(Stop::from));
    (out, frames, outcome)
}

/// libzstd accepts every stream that the decoder accepts, and decodes it to the same bytes, or to
/// as many bytes if a frame has no checksum. The decoder counts the literals of a corrupt block,
/// but not those of each of its four streams as libzstd does.
#[cfg(libfuzzer)]
fn beside_libzstd(stream: &[u8], frames: &[(u64, u64)], ours: &[u8]) {
    use zstd::stream::raw::{Decoder, DParameter, InBuffer, Operation as _, OutBuffer};

    let mut decoder = Decoder::new().unwrap();
    decoder.set_parameter(DParameter::WindowLogMax(WINDOW)).unwrap();
    let (mut theirs, mut room) = (Vec::new(), vec![0; 128 << 10]);
    let mut from = InBuffer::around(stream);
    // Whether all frames that were begun have ended: a result without progress belongs to the next
    // frame.
    let mut is_between = false;
    let accepted = loop {
        let mut to = OutBuffer::around(&mut room);
        let before = from.pos();
        let Ok(hint) = decoder.run(&mut from, &mut to) else {
            break false;
        };
        theirs.extend_from_slice(to.as_slice());
        if from.pos() == before && to.pos() == 0 {
            break is_between && from.pos() == stream.len();
        }
        is_between = hint == 0;
        if theirs.len() > MOST {
            return;
        }
    };
    let is_checked = |(input, _): &(u64, u64)| stream[*input as usize + 4] & 4 != 0;
    if frames.iter().all(is_checked) {
        assert!(accepted, "accepted by us, and not by libzstd");
        assert!(ours == theirs, "we decode it to other bytes than libzstd");
    } else if accepted {
        assert_eq!(ours.len(), theirs.len(), "bytes that come out, and of libzstd");
    }
}

/// A frame that libzstd writes at any level is decoded to its content.
#[cfg(libfuzzer)]
fn round_trip(content: &[u8], salt: u8) {
    let level = i32::from(salt & 0xf) * 3 / 2 - 1;
    let stream = zstd::bulk::compress(content, level).unwrap();
    let (ours, _, outcome) = by_us(0, 0, pieces(&stream, salt.rotate_left(3)));
    assert!(outcome.is_ok() && ours == content, "{outcome:?} for what libzstd has written");
}
