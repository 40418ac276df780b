mod header;
mod pax;
mod sparse;

use std::{borrow::Cow, ops::Range};

use super::*;
use crate::layer::{
    entry::{Moment, Owner, Segment},
    tar::{
        header::{
            ACCESSED, CHANGED, CHECKSUM, FLAG, GROUP, GROUP_NAME, LINK, MAGIC, MAJOR, MAP, MINOR,
            MODE, MODIFIED, MORE_BLOCKS, PATH, PREFIX, REAL_SIZE, STAR_ACCESSED, STAR_CHANGED,
            TRAILER, USER, USER_NAME, seconds,
        },
        pax::TEXTS,
    },
};

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// A header, to be changed field by field.
#[derive(Clone)]
struct Block([u8; BLOCK]);

impl Block {
    /// An old header, without magic.
    fn v7(path: &str, flag: u8, size: u64) -> Self {
        let block = Self([0; BLOCK]);
        let mut block = block.text(PATH, path.as_bytes());
        block.0[FLAG] = flag;
        block
            .octal(MODE, 0o644)
            .octal(USER, 1000)
            .octal(GROUP, 100)
            .octal(SIZE, size)
            .octal(MODIFIED, 1_700_000_000)
    }

    fn ustar(path: &str, flag: u8, size: u64) -> Self {
        let block = Self::v7(path, flag, size).text(MAGIC, b"ustar\x0000");
        block.text(USER_NAME, b"someone").text(GROUP_NAME, b"some")
    }

    fn gnu(path: &str, flag: u8, size: u64) -> Self {
        Self::ustar(path, flag, size).text(MAGIC, b"ustar  \0")
    }

    fn text(mut self, field: Range<usize>, text: &[u8]) -> Self {
        self.0[field.clone()].fill(0);
        self.0[field][..text.len()].copy_from_slice(text);
        self
    }

    fn octal(self, field: Range<usize>, number: u64) -> Self {
        let digits = field.len() - 1;
        self.text(field, format!("{number:0digits$o}").as_bytes())
    }

    /// In base 256.
    fn binary(mut self, field: Range<usize>, number: i128) -> Self {
        let bytes = number.to_be_bytes();
        let start = bytes.len() - field.len();
        self.0[field.clone()].copy_from_slice(&bytes[start..]);
        self.0[field.start] |= 0x80;
        self
    }

    fn sealed(self) -> Vec<u8> {
        let mut block = self.text(CHECKSUM, b"        ");
        let sum: u64 = block.0.iter().map(|byte| u64::from(*byte)).sum();
        block = block.text(CHECKSUM, format!("{sum:06o}\0 ").as_bytes());
        block.0.to_vec()
    }

    /// The header, data and padding.
    fn with(self, data: &[u8]) -> Vec<u8> {
        let mut bytes = self.sealed();
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        bytes
    }
}

fn pax_record(key: &str, value: impl AsRef<[u8]>) -> Vec<u8> {
    let value = value.as_ref();
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

fn pax(flag: u8, records: &[(&str, &str)]) -> Vec<u8> {
    let records: Vec<_> = records
        .iter()
        .map(|(key, value)| pax_record(key, value))
        .collect();
    raw_pax(flag, &records.concat())
}

fn raw_pax(flag: u8, records: &[u8]) -> Vec<u8> {
    Block::ustar("PaxHeaders/x", flag, records.len() as u64).with(records)
}

fn long(flag: u8, text: &[u8]) -> Vec<u8> {
    let text = [text, b"\0"].concat();
    Block::gnu("././@LongLink", flag, text.len() as u64).with(&text)
}

fn end() -> Vec<u8> {
    vec![0; 2 * BLOCK]
}

/// A file as [`Block::ustar`] has it.
fn file(path: &str, size: u64, offset: u64) -> Entry {
    Entry {
        path: path.into(),
        mode: 0o644,
        user: Owner {
            id: 1000,
            name: b"someone".to_vec(),
        },
        group: Owner {
            id: 100,
            name: b"some".to_vec(),
        },
        size,
        modified: seconds(1_700_000_000),
        offset,
        ..Entry::default()
    }
}

fn read_with(bytes: &[u8], piece: usize, limits: TarLimits) -> (Vec<Entry>, Result<(), TarError>) {
    let mut untar = Untar::new(limits);
    let mut entries = Vec::new();
    let pushed = bytes.chunks(piece).try_for_each(|piece| {
        untar.push(piece, |entry| {
            entries.push(entry);
            Ok::<_, TarError>(())
        })
    });
    (entries, pushed.and_then(|()| untar.finish()))
}

/// All entries. They are the same for any pieces of the input.
#[track_caller]
fn read(bytes: &[u8]) -> (Vec<Entry>, Result<(), TarError>) {
    let whole = read_with(bytes, usize::MAX, TarLimits::default());
    for piece in [4_099, 512, 7, 1] {
        let pieces = read_with(bytes, piece, TarLimits::default());
        assert_eq!(pieces, whole, "pieces of {piece}");
    }
    whole
}

#[track_caller]
fn entries(parts: &[Vec<u8>]) -> Vec<Entry> {
    let (entries, result) = read(&parts.concat());
    assert_eq!(result, Ok(()));
    assert!(entries.is_sorted_by(|one, next| one.offset < next.offset));
    entries
}

#[track_caller]
fn entry(parts: &[Vec<u8>]) -> Entry {
    let mut entries = entries(parts);
    assert_eq!(entries.len(), 1);
    entries.remove(0)
}

#[track_caller]
fn refusal(parts: &[Vec<u8>]) -> String {
    let error = read(&parts.concat()).1.unwrap_err();
    assert!(!error.is_limit());
    error.to_string()
}

#[track_caller]
fn limit(parts: &[Vec<u8>], limits: TarLimits) -> String {
    let whole = read_with(&parts.concat(), usize::MAX, limits);
    assert_eq!(read_with(&parts.concat(), 7, limits), whole);
    let error = whole.1.unwrap_err();
    assert!(error.is_limit());
    error.to_string()
}

/// One of everything.
fn sample() -> Vec<u8> {
    let sparse = Block::gnu("old", b'S', 3)
        .text(386..398, b"00000000000")
        .text(398..410, b"00000000001")
        .octal(REAL_SIZE, 5000)
        .text(MORE..MORE + 1, &[1]);
    // Two blocks.
    let pairs = (100..200).map(|place| format!("{place}0\n1\n"));
    let mut map = format!("100\n{}", pairs.collect::<String>()).into_bytes();
    map.resize(2 * BLOCK, 0);
    map.extend([b'd'; 100]);
    let mut more = vec![0; BLOCK];
    more[..24].copy_from_slice(b"00000000144\x0000000000002\0");
    [
        pax(b'g', &[("comment", "of all"), ("gname", "everybody")]),
        Block::ustar("./", b'5', 0).sealed(),
        Block::ustar("./some.txt", b'0', 4).with(b"text"),
        long(b'L', b"a/name/that/is/long"),
        long(b'K', b"/some.txt"),
        Block::gnu("a/name", b'1', 0).sealed(),
        [sparse.sealed(), more].concat(),
        [b"abc".to_vec(), vec![0; 509]].concat(),
        pax(
            b'x',
            &[
                ("mtime", "1.5"),
                ("GNU.sparse.major", "1"),
                ("GNU.sparse.minor", "0"),
                ("GNU.sparse.name", "new"),
                ("GNU.sparse.realsize", "10000"),
                ("SCHILY.xattr.user.key", "value"),
            ],
        ),
        Block::ustar("GNUSparseFile.1/new", b'0', 1124).with(&map),
        Block::ustar("null", b'3', 0)
            .octal(MAJOR, 1)
            .octal(MINOR, 3)
            .sealed(),
        end(),
    ]
    .concat()
}

#[test]
fn a_tar_archive_of_all_kinds_of_entries_is_read() {
    let paths: Vec<_> = entries(&[sample()])
        .into_iter()
        .map(|entry| (String::from_utf8(entry.path).unwrap(), entry.size))
        .collect();
    let expected = [
        ("", 0),
        ("some.txt", 4),
        ("a/name/that/is/long", 0),
        ("old", 5000),
        ("new", 10_000),
        ("null", 0),
    ];
    assert_eq!(paths, expected.map(|(path, size)| (path.into(), size)));
}

#[test]
fn tar_paths_are_normalised_and_symbolic_links_are_not() {
    let cases = [
        ("", ""),
        ("/", ""),
        (".", ""),
        ("./", ""),
        ("..", ""),
        ("../..", ""),
        ("/a", "a"),
        ("///a", "a"),
        ("./a", "a"),
        ("a//b/./c/", "a/b/c"),
        ("a/../b", "b"),
        ("a/b/..", "a"),
        ("../../etc/passwd", "etc/passwd"),
        ("a/../../b", "b"),
        ("a/.../..b/c..", "a/.../..b/c.."),
        ("./.wh..wh..opq", ".wh..wh..opq"),
    ];
    for (raw, path) in cases {
        let linked = |flag| {
            Block::ustar(raw, flag, 0)
                .text(LINK, raw.as_bytes())
                .sealed()
        };
        let entries = entries(&[linked(b'1'), linked(b'2'), linked(b'0')]);
        assert!(
            entries.iter().all(|entry| entry.path == path.as_bytes()),
            "{raw}"
        );
        let links: Vec<_> = entries.iter().map(|entry| &*entry.link).collect();
        assert_eq!(links, [path.as_bytes(), raw.as_bytes(), b""], "{raw}");
    }
    let long = "n".repeat(300);
    let entry = entry(&[
        pax(b'x', &[("path", &long)]),
        Block::ustar("n", b'0', 0).sealed(),
    ]);
    assert_eq!(entry.path, long.into_bytes());
}

#[test]
fn a_tar_archive_ends_at_the_same_point_as_in_go() {
    let one = Block::ustar("one", b'0', 1).with(b"a");
    let zero = vec![0; BLOCK];
    let expected = [file("one", 1, 512)];
    for rest in [
        vec![],
        zero.clone(),
        end(),
        [end(), b"whatever".to_vec()].concat(),
        [end(), one.clone()].concat(),
    ] {
        assert_eq!(entries(&[one.clone(), rest]), expected);
    }
    // The padding of the last block may be missing.
    assert_eq!(entries(&[one[..513].to_vec()]), expected);
    assert_eq!(entries(&[]), []);
    assert_eq!(entries(std::slice::from_ref(&zero)), []);
    assert_eq!(entries(&[end()]), []);
    assert_eq!(
        refusal(&[one.clone(), zero.clone(), one.clone()]),
        "a block of zeros in the middle of a tar archive, at byte 1536"
    );
    assert_eq!(
        refusal(&[one.clone(), zero.clone(), vec![0; 5]]),
        "a truncated tar archive, at byte 1541"
    );
    assert_eq!(
        refusal(&[one[..512].to_vec()]),
        "a truncated tar archive, at byte 512"
    );
    assert_eq!(
        refusal(&[one.clone(), pax(b'x', &[("path", "a")])]),
        "a truncated tar archive, at byte 2048"
    );
}

#[test]
fn invalid_tar_archives_are_refused_with_the_reason() {
    assert_eq!(refusal(&[vec![b'a'; 512]]), "not a tar archive, at byte 0");
    assert_eq!(
        refusal(&[b"a".to_vec()]),
        "a truncated tar archive, at byte 1"
    );
    assert_eq!(
        refusal(&[Block::ustar("a", b'0', 0).sealed(), vec![b'a'; 512]]),
        "the checksum of a tar header does not match, at byte 512"
    );
    let block = Block::ustar("a", b'0', 0);
    let cases = [
        (SIZE, "size", b"8".as_slice()),
        (SIZE, "size", b"12 34"),
        (SIZE, "size", &[0xff; 12]),
        (MODE, "mode", b"rw-r--r-"),
        (USER, "user", b"-1"),
        (GROUP, "group", &[0xff; 8]),
        (MODIFIED, "modification time", b"1.5"),
    ];
    for (field, what, text) in cases {
        assert_eq!(
            refusal(&[block.clone().text(field, text).sealed()]),
            format!("the {what} of a tar entry is not a number, or out of range, at byte 0")
        );
    }
    assert_eq!(
        refusal(&[
            pax(b'x', &[("size", "18446744073709551615")]),
            block.clone().sealed()
        ]),
        "a tar entry whose size is out of range, at byte 1024"
    );
    // All of it would fit if the archive began with it.
    assert_eq!(
        refusal(&[
            pax(b'x', &[("size", "18446744073709550080")]),
            block.sealed()
        ]),
        "a tar entry whose size is out of range, at byte 1024"
    );
}

#[test]
fn tar_limits_are_enforced() {
    let small = TarLimits {
        path_bytes: 10,
        entries: 2,
    };
    let one = Block::ustar("1234567890", b'0', 0)
        .text(LINK, b"1234567890")
        .sealed();
    assert_eq!(
        read_with(&[one.clone(), one.clone(), end()].concat(), 9, small).1,
        Ok(())
    );
    assert_eq!(
        limit(&[one.clone(), one.clone(), one.clone()], small),
        "more than 2 entries in a tar archive, at byte 1024"
    );
    let path = "a path of more than 10 bytes in a tar archive, at byte";
    let longer = "./123456789";
    assert_eq!(
        limit(&[Block::ustar(longer, b'0', 0).sealed()], small),
        format!("{path} 0")
    );
    assert_eq!(
        limit(&[pax(b'x', &[("path", longer)]), one.clone()], small),
        format!("{path} 1024")
    );
    assert_eq!(
        limit(&[long(b'L', longer.as_bytes()), one.clone()], small),
        format!("{path} 1024")
    );
    let link = Block::ustar("a", b'2', 0);
    assert_eq!(
        limit(
            &[link.clone().text(LINK, longer.as_bytes()).sealed()],
            small
        ),
        format!("{path} 0")
    );
    assert_eq!(
        limit(&[pax(b'x', &[("linkpath", longer)]), link.sealed()], small),
        format!("{path} 1024")
    );
    for flag in [b'x', b'g', b'L', b'K'] {
        assert_eq!(
            limit(
                &[Block::gnu("a", flag, (1 << 20) + 1).sealed()],
                TarLimits::default()
            ),
            "a header of more than 1048576 bytes before a tar entry, at byte 0"
        );
        assert_eq!(
            read(&Block::gnu("a", flag, 1 << 20).sealed())
                .1
                .unwrap_err()
                .problem,
            TarProblem::End
        );
    }
    let mut globals = Vec::new();
    for key in ["SCHILY.xattr.a", "SCHILY.xattr.b"] {
        globals.push(pax(b'g', &[(key, &"v".repeat(20_000))]));
        globals.push(Block::ustar("a", b'0', 0).sealed());
    }
    assert_eq!(
        limit(&globals, TarLimits::default()),
        "global pax headers of more than 32768 bytes, at byte 22016"
    );
    globals[2] = pax(
        b'g',
        &[
            ("SCHILY.xattr.a", &"v".repeat(30_000)),
            ("comment", &"c".repeat(30_000)),
        ],
    );
    assert_eq!(entries(&globals).len(), 2);
}

#[test]
fn a_tar_archive_cut_anywhere_gives_the_entries_before_the_cut() {
    let bytes = sample();
    let (expected, _) = read(&bytes);
    let mut untar = Untar::new(TarLimits::default());
    let mut ends = 0;
    let mut entries = Vec::new();
    for at in 0..bytes.len() {
        // An entry is there as soon as its data begin.
        let complete = expected.iter().filter(|entry| entry.offset <= at as u64);
        assert_eq!(entries.len(), complete.count(), "cut at {at}");
        match untar.finish() {
            Ok(()) => ends += 1,
            Err(error) => assert_eq!(
                error.to_string(),
                format!("a truncated tar archive, at byte {at}")
            ),
        }
        let take = |entry| {
            entries.push(entry);
            Ok::<_, TarError>(())
        };
        untar.push(&bytes[at..=at], take).unwrap();
    }
    assert_eq!((entries, untar.finish()), (expected, Ok(())));
    // At the beginning, after each of three entries without data and a block of zeros, and in the
    // padding of one header and three files.
    assert_eq!(
        ends,
        1 + 3 + 1 + (513 - 37) + (513 - 4) + (513 - 3) + (513 - 100)
    );
}

#[test]
fn untar_never_panics_on_flipped_bits() {
    let mut bytes = sample();
    let mut before = Untar::new(TarLimits::default());
    let none = |_| Ok::<_, TarError>(());
    for at in 0..bytes.len() {
        if at > 0 && at.is_multiple_of(BLOCK) {
            before.push(&bytes[at - BLOCK..at], none).unwrap();
        }
        let start = at - at % BLOCK;
        for bits in [1 << (at % 8), 0xff] {
            bytes[at] ^= bits;
            let mut untar = before.clone();
            let pushed = untar.push(&bytes[start..], none);
            let _ = pushed.and_then(|()| untar.finish());
            bytes[at] ^= bits;
        }
    }
}

#[test]
fn untar_resumes_from_a_state_saved_at_every_byte() {
    let bytes = sample();
    let (expected, _) = read(&bytes);
    let mut first = Untar::new(TarLimits::default());
    let mut before = Vec::new();
    for at in 0..=bytes.len() {
        let mut saved = Vec::new();
        first.save(&mut saved);
        let end = saved.len();
        saved.push(9);
        let mut reader = wire::WireReader(&saved);
        let mut second = Untar::load(&mut reader, TarLimits::default()).unwrap();
        assert_eq!(reader.0, [9]);
        assert_eq!(second.finish(), first.finish());
        let mut entries: Vec<Entry> = before.clone();
        let take = |entry| {
            entries.push(entry);
            Ok::<_, TarError>(())
        };
        second.push(&bytes[at..], take).unwrap();
        assert_eq!(
            (entries, second.finish()),
            (expected.clone(), Ok(())),
            "saved at {at}"
        );
        for cut in (0..end).skip(at % 64).step_by(64) {
            let reader = &mut wire::WireReader(&saved[..cut]);
            assert!(Untar::load(reader, TarLimits::default()).is_none());
        }
        let take = |entry| {
            before.push(entry);
            Ok::<_, TarError>(())
        };
        first
            .push(&bytes[at..bytes.len().min(at + 1)], take)
            .unwrap();
    }
}

#[test]
fn untar_never_panics_on_a_changed_state() {
    let bytes = sample();
    for at in (0..bytes.len()).step_by(1021) {
        let mut untar = Untar::new(TarLimits::default());
        untar.push(&bytes[..at], |_| Ok::<_, TarError>(())).unwrap();
        let mut saved = Vec::new();
        untar.save(&mut saved);
        for place in 0..saved.len() {
            for bit in [1 << (place % 8), 0xff] {
                let mut other = saved.clone();
                other[place] ^= bit;
                let reader = &mut wire::WireReader(&other);
                if let Some(mut untar) = Untar::load(reader, TarLimits::default()) {
                    let pushed = untar.push(&bytes[at..], |_| Ok::<_, TarError>(()));
                    let _ = pushed.and_then(|()| untar.finish());
                }
            }
        }
    }
}

#[test]
fn untar_passes_on_the_error_of_its_callback() {
    #[derive(Debug, PartialEq)]
    struct Stop;
    impl From<TarError> for Stop {
        fn from(_: TarError) -> Self {
            Self
        }
    }
    let mut seen = 0;
    let result = Untar::new(TarLimits::default()).push(&sample(), |_| {
        seen += 1;
        if seen == 2 { Err(Stop) } else { Ok(()) }
    });
    assert_eq!((result, seen), (Err(Stop), 2));
}

#[cfg(not(target_arch = "wasm32"))]
mod properties;
