//! Builds archives from inputs, and compresses them.

use std::{io::Write as _, ops::Range};

use flate2::{Compression, write::GzEncoder};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use crate::input::Input;

/// Keys of pax records that the reader acts on.
const KEYS: [&str; 22] = [
    "path",
    "linkpath",
    "size",
    "uid",
    "gid",
    "uname",
    "gname",
    "mtime",
    "atime",
    "ctime",
    "SCHILY.xattr.user.a",
    "SCHILY.xattr.user.b",
    "LIBARCHIVE.xattr.c",
    "GNU.sparse.major",
    "GNU.sparse.minor",
    "GNU.sparse.map",
    "GNU.sparse.realsize",
    "GNU.sparse.size",
    "GNU.sparse.name",
    "GNU.sparse.numblocks",
    "GNU.sparse.offset",
    "GNU.sparse.numbytes",
];

/// The size limits of a built archive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// The size of the archive, which one entry may exceed.
    pub(crate) archive: usize,
    /// The limit of repetitions.
    pub(crate) repeats: usize,
    /// The size of a value that repeats one byte.
    pub(crate) run: usize,
}

/// An archive that is built entry by entry.
#[derive(Debug, Default)]
struct Builder {
    bytes: Vec<u8>,
    /// The byte ranges of the items: entries, and extensions as items of their own.
    items: Vec<Range<usize>>,
}

/// Sets the checksum of a header.
pub(crate) fn mend(header: &mut [u8]) {
    header[148..156].copy_from_slice(b"        ");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

impl Builder {
    fn put(&mut self, flag: u8, path: &[u8], link: &[u8], bytes: &[u8]) {
        let start = self.bytes.len();
        let mut header = [0; 512];
        let cut = |text: &[u8]| text.len().min(100);
        header[..cut(path)].copy_from_slice(&path[..cut(path)]);
        header[100..108].copy_from_slice(b"0000644\0");
        header[124..136].copy_from_slice(format!("{:011o}\0", bytes.len()).as_bytes());
        header[136..148].copy_from_slice(b"00000000017\0");
        header[156] = flag;
        header[157..157 + cut(link)].copy_from_slice(&link[..cut(link)]);
        header[257..265].copy_from_slice(b"ustar\x0000");
        mend(&mut header);
        self.bytes.extend(header);
        self.bytes.extend(bytes);
        let whole = self.bytes.len().next_multiple_of(512);
        self.bytes.resize(whole, 0);
        self.items.push(start..self.bytes.len());
    }

    /// Appends an entry, after the extensions that its long path needs.
    fn entry(&mut self, flag: u8, path: &[u8], link: &[u8], bytes: &[u8]) {
        for (flag, text) in [(b'L', path), (b'K', link)] {
            if text.len() > 100 {
                self.put(flag, b"././@LongLink", b"", &[text, b"\0"].concat());
            }
        }
        self.put(flag, path, link, bytes);
    }

    /// Repeats the last items; each copy of an entry has a path of its own if `numbered`.
    fn repeat(&mut self, items: usize, times: usize, numbered: bool, most: usize) {
        let Some(first) = self.items.len().checked_sub(items) else {
            return;
        };
        let copied: Vec<_> = self.items[first..].to_vec();
        for time in 0..times {
            for item in &copied {
                if self.bytes.len() > most {
                    return;
                }
                let start = self.bytes.len();
                self.bytes.extend_from_within(item.clone());
                let header = &mut self.bytes[start..start + 512];
                if numbered && matches!(header[156], b'0'..=b'5') {
                    header[..7].copy_from_slice(format!("{time:06}_").as_bytes());
                    mend(header);
                }
                self.items.push(start..self.bytes.len());
            }
        }
    }
}

/// A path: most are short and alike, some are long and deep.
fn path(input: &mut Input<'_>) -> Vec<u8> {
    let shape = input.byte();
    match shape % 8 {
        0 => b"d/".repeat(input.word() % 9_000),
        1 => vec![b'n'; input.word() % 20_000],
        2 => {
            let length = input.below(120);
            input.take(length).to_vec()
        }
        _ => {
            const NAMES: [&str; 12] = [
                "a",
                "b",
                "usr",
                "lib",
                "..",
                ".",
                "",
                ".wh.a",
                ".wh..wh..opq",
                "a-",
                "x y",
                "é",
            ];
            let names: Vec<_> = (0..=shape >> 5).map(|_| input.pick(&NAMES)).collect();
            names.join("/").into_bytes()
        }
    }
}

fn records(input: &mut Input<'_>, bounds: Bounds) -> Vec<u8> {
    let mut records = Vec::new();
    for number in 0..=input.below(5) {
        let key = input.pick(&KEYS);
        let value = match input.below(6) {
            0 => path(input),
            1 => vec![b'A'; (input.word() << 5) % (bounds.run + 1)],
            2 => format!("{}.{}", input.word(), input.byte()).into_bytes(),
            3 => b"1,2,".repeat(input.below(40)),
            4 => {
                let length = input.below(64);
                input.take(length).to_vec()
            }
            _ => (input.word() << input.below(48)).to_string().into_bytes(),
        };
        // Many attributes with different names.
        let key = if input.below(8) == 0 {
            format!("SCHILY.xattr.user.{number}")
        } else {
            key.to_owned()
        };
        let length = key.len() + value.len() + 3;
        let digits = (1..).find(|digits| (length + digits).to_string().len() == *digits);
        records.extend(format!("{} {key}=", length + digits.unwrap()).bytes());
        records.extend(value);
        records.push(b'\n');
    }
    records
}

/// Builds an archive from the rest of an input.
pub(crate) fn archive(input: &mut Input<'_>, bounds: Bounds) -> Vec<u8> {
    let mut tar = Builder::default();
    while !input.is_empty() && tar.bytes.len() < bounds.archive {
        match input.byte() % 13 {
            0..=2 => {
                let path = path(input);
                let bytes = vec![input.byte(); input.word() % 3_000];
                tar.entry(b'0', &path, b"", &bytes);
            }
            3 => {
                let noise = crate::programs::noise(u64::from(input.byte()), input.word());
                tar.entry(b'0', &path(input), b"", &noise);
            }
            4 => tar.entry(b'5', &path(input), b"", b""),
            5 => tar.entry(b'2', &path(input), &path(input), b""),
            6 => tar.entry(b'1', &path(input), &path(input), b""),
            7 | 8 => tar.put(b'x', b"x", b"", &records(input, bounds)),
            9 => tar.put(b'g', b"g", b"", &records(input, bounds)),
            10 | 11 => {
                let items = input.below(8) + 1;
                let times = input.word() % (bounds.repeats + 1);
                tar.repeat(items, times, input.bool(), bounds.archive);
            }
            _ => {
                // A header in any dialect, with data.
                let mut header = [0; 512];
                let path = path(input);
                let cut = path.len().min(100);
                header[..cut].copy_from_slice(&path[..cut]);
                header[124..136].copy_from_slice(b"00000000000\0");
                header[156] = input.pick(b"01234567SDMNXVgxLK\0A");
                header[257..265].copy_from_slice(input.pick(&[b"ustar\x0000", b"ustar  \0"]));
                for _ in 0..input.below(12) {
                    let at = input.word() % 500;
                    let written = input.take(8);
                    header[at..at + written.len()].copy_from_slice(written);
                }
                mend(&mut header);
                let start = tar.bytes.len();
                tar.bytes.extend(header);
                let data = 512 * input.below(3);
                let data = input.take(data);
                tar.bytes.extend(data);
                let whole = tar.bytes.len().next_multiple_of(512);
                tar.bytes.resize(whole, 0);
                tar.items.push(start..whole);
            }
        }
    }
    tar.bytes.extend([0; 1024]);
    tar.bytes
}

/// Inputs from which [`archive`] builds valid archives.
pub(crate) fn programs() -> Vec<Vec<u8>> {
    // Directories, files of one byte and of noise, links and a whiteout, each by the bytes that
    // stand for it.
    let plain: &[&[u8]] = &[
        &[4, 0x23, 2, 3],
        &[0, 0x43, 2, 3, 0, b'x', 200, 2],
        &[0, 3, 1, b'y', 0, 0],
        &[3, 5, 80, 40, 0x23, 2, 0],
        &[5, 3, 9, 0x43, 2, 3, 0],
        &[6, 3, 0, 3, 1],
        &[0, 0x23, 2, 7, 0, 0, 0],
    ];
    // Records with a path, a time, an attribute and an owner's name; the last is for all entries
    // that follow.
    let records: &[&[u8]] = &[
        &[7, 0, 0, 4, 5, b'a', b'/', b'p', b'a', b'x', 1],
        &[0, 3, 0, b'z', 9, 0],
        &[7, 1, 7, 2, 9, 9, 5, 1, 10, 4, 3, 1, 2, 3, 1],
        &[0, 3, 1, b'z', 9, 0],
        &[9, 0, 5, 4, 3, b'b', b'o', b'b', 1],
        &[0, 3, 9, b'z', 9, 0],
    ];
    let numbered: &[&[u8]] = &[&[10, 1, 200, 0, 1]];
    let same: &[&[u8]] = &[&[10, 0, 200, 0, 0]];
    [
        vec![plain],
        vec![plain, records],
        vec![plain, records, numbered],
        vec![records, same, plain],
    ]
    .map(|parts| parts.concat().concat())
    .to_vec()
}

/// The compression of a layer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wrap {
    Plain,
    Gzip,
    Members,
    Zstd,
    Frames,
}

impl Wrap {
    pub(crate) const ALL: [Self; 5] = [
        Self::Plain,
        Self::Gzip,
        Self::Members,
        Self::Zstd,
        Self::Frames,
    ];
}

pub(crate) fn gzip(bytes: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    compress_to_vec(bytes, CompressionLevel::Fastest)
}

/// Compresses an archive.
pub(crate) fn wrap(wrap: Wrap, archive: &[u8]) -> Vec<u8> {
    match wrap {
        Wrap::Plain => archive.to_vec(),
        Wrap::Gzip => gzip(archive, 1),
        Wrap::Members => archive
            .chunks(20_000)
            .flat_map(|part| gzip(part, 6))
            .collect(),
        Wrap::Zstd => zstd(archive),
        Wrap::Frames => archive.chunks(9_000).flat_map(zstd).collect(),
    }
}
