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
        pax::{NANOSECONDS, TEXTS},
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

    /// The header, data, and what fills them up.
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

fn read_with(bytes: &[u8], piece: usize, limits: Limits) -> (Vec<Entry>, Result<(), TarError>) {
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

/// All entries, which are the same however the archive is fed.
#[track_caller]
fn read(bytes: &[u8]) -> (Vec<Entry>, Result<(), TarError>) {
    let whole = read_with(bytes, usize::MAX, Limits::default());
    for piece in [4_099, 512, 7, 1] {
        let pieces = read_with(bytes, piece, Limits::default());
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
fn limit(parts: &[Vec<u8>], limits: Limits) -> String {
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
fn reads_one_of_everything() {
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
fn reads_an_old_header() {
    let block = Block::v7("dir/file", 0, 5);
    // What is there is not what ustar has there.
    let block = block.text(USER_NAME, b"no name").text(PREFIX, b"no prefix");
    let expected = Entry {
        user: Owner {
            id: 1000,
            name: Vec::new(),
        },
        group: Owner {
            id: 100,
            name: Vec::new(),
        },
        ..file("dir/file", 5, 512)
    };
    assert_eq!(entry(&[block.with(b"bytes"), end()]), expected);
    // The kind of the file, as systems have it, is no part of the mode.
    let block = Block::v7("dir/file", 0, 5).octal(MODE, 0o100_644);
    assert_eq!(entry(&[block.with(b"bytes"), end()]), expected);
    // Old writers end numbers with a space, or begin with spaces, or put nothing at all.
    let block = Block::v7("dir/file", 0, 5)
        .text(MODE, b"   644 \0")
        .text(SIZE, b"5          \0");
    assert_eq!(entry(&[block.with(b"bytes"), end()]), expected);
    let block = Block::v7("dir/file", 0, 0).text(SIZE, b"").text(MODE, b"");
    assert_eq!(entry(&[block.sealed()]).mode, 0);
}

#[test]
fn takes_an_old_file_whose_path_ends_in_a_slash_for_a_directory() {
    let directory = entry(&[Block::v7("dir/", 0, 7).sealed(), end()]);
    assert_eq!((directory.kind, directory.size), (EntryKind::Directory, 0));
    assert_eq!(directory.path, b"dir");
    let named = entry(&[
        pax(b'x', &[("path", "other/")]),
        Block::ustar("dir", 0, 0).sealed(),
    ]);
    assert_eq!(named.kind, EntryKind::Directory);
    // With the flag that ustar has for files it is a file, for Go as well.
    let named = entry(&[Block::ustar("dir/", b'0', 3).with(b"abc")]);
    assert_eq!((named.kind, named.size), (EntryKind::File, 3));
}

#[test]
fn joins_the_prefix_of_ustar_and_star() {
    let block = Block::ustar("file", b'0', 0).text(PREFIX, b"/a/directory");
    assert_eq!(
        entry(&[block.clone().sealed()]),
        file("a/directory/file", 0, 512)
    );
    let star = block
        .text(STAR_ACCESSED, b"00000000007 ")
        .text(STAR_CHANGED, b"00000000010 ")
        .text(TRAILER, b"tar\0");
    let expected = Entry {
        accessed: Some(seconds(7)),
        changed: Some(seconds(8)),
        ..file("a/directory/file", 0, 512)
    };
    assert_eq!(entry(&[star.sealed()]), expected);
    let full = Block::ustar(&"n".repeat(100), b'0', 0).text(PREFIX, &[b'p'; 155]);
    let path = [vec![b'p'; 155], b"/".to_vec(), vec![b'n'; 100]].concat();
    assert_eq!(entry(&[full.sealed()]).path, path);
}

#[test]
fn reads_the_times_of_old_gnu_headers() {
    let block = Block::gnu("file", b'0', 0)
        .octal(ACCESSED, 9)
        .binary(CHANGED, -2);
    let expected = Entry {
        accessed: Some(seconds(9)),
        changed: Some(seconds(-2)),
        ..file("file", 0, 512)
    };
    assert_eq!(entry(&[block.sealed()]), expected);
}

#[test]
fn reads_the_prefix_that_old_go_wrote_into_gnu_headers() {
    let block = Block::gnu("file", b'0', 0).text(PREFIX, b"a/directory");
    assert_eq!(entry(&[block.sealed()]), file("a/directory/file", 0, 512));
    let block = Block::gnu("file", b'0', 0).text(PREFIX, b"\xc3\xa4");
    assert_eq!(entry(&[block.text(CHANGED, b"x").sealed()]).path, b"file");
}

#[test]
fn reads_long_names_and_links_of_gnu() {
    let name = [b'n'; 4096];
    let link = [b"../".to_vec(), vec![0xff; 300]].concat();
    let parts = [
        long(b'K', &link),
        long(b'L', &name),
        Block::gnu(&"n".repeat(100), b'2', 0).sealed(),
        Block::gnu("next", b'2', 0).text(LINK, b"./it").sealed(),
        end(),
    ];
    let entries = entries(&parts);
    assert_eq!(
        (&*entries[0].path, &entries[0].link),
        (name.as_slice(), &link)
    );
    assert_eq!(entries[0].kind, EntryKind::SymbolicLink);
    assert_eq!(
        (&*entries[1].path, &*entries[1].link),
        (b"next".as_slice(), b"./it".as_slice())
    );
}

#[test]
fn reads_numbers_in_base_256() {
    let block = Block::gnu("file", b'0', 0)
        .binary(SIZE, 3)
        .binary(USER, 0xffff_ffff)
        .binary(GROUP, 1 << 54)
        .binary(MODIFIED, -62_135_596_800);
    let expected = Entry {
        modified: seconds(-62_135_596_800),
        user: Owner {
            id: 0xffff_ffff,
            name: b"someone".to_vec(),
        },
        group: Owner {
            id: 1 << 54,
            name: b"some".to_vec(),
        },
        ..file("file", 3, 512)
    };
    assert_eq!(entry(&[block.with(b"abc")]), expected);
    for time in [i64::MIN, i64::MAX] {
        let block = Block::gnu("file", b'0', 0).binary(MODIFIED, time.into());
        assert_eq!(entry(&[block.sealed()]).modified, seconds(time));
    }
    for time in [i128::from(i64::MIN) - 1, i128::from(i64::MAX) + 1] {
        let block = Block::gnu("file", b'0', 0).binary(MODIFIED, time);
        assert_eq!(
            refusal(&[block.sealed()]),
            "the modification time of a tar entry is not a number, or out of range, at byte 0"
        );
    }
}

#[test]
fn reads_what_pax_says_of_the_next_entry_only() {
    let path = "\u{e4}".repeat(2048);
    let records = pax(
        b'x',
        &[
            ("path", &path),
            ("linkpath", "a\nlink=with/what is odd/.."),
            ("uid", "4294967296"),
            ("gid", "7"),
            ("uname", "some user"),
            ("gname", "a group"),
            ("mtime", "1700000000.123456789"),
            ("atime", "1700000001.5"),
            ("ctime", "1700000002"),
            ("comment", "nothing"),
        ],
    );
    let parts = [
        records,
        Block::ustar("short", b'2', 0).sealed(),
        Block::ustar("next", b'0', 0).sealed(),
        end(),
    ];
    let entries = entries(&parts);
    let expected = Entry {
        path: path.into_bytes(),
        kind: EntryKind::SymbolicLink,
        link: b"a\nlink=with/what is odd/..".to_vec(),
        user: Owner {
            id: 1 << 32,
            name: b"some user".to_vec(),
        },
        group: Owner {
            id: 7,
            name: b"a group".to_vec(),
        },
        modified: Moment {
            seconds: 1_700_000_000,
            nanoseconds: 123_456_789,
        },
        accessed: Some(Moment {
            seconds: 1_700_000_001,
            nanoseconds: 500_000_000,
        }),
        changed: Some(seconds(1_700_000_002)),
        ..file("", 0, entries[0].offset)
    };
    assert_eq!(entries[0], expected);
    assert_eq!(entries[1], file("next", 0, entries[0].offset + 512));
}

#[test]
fn reads_times_to_the_nanosecond_and_rounds_down() {
    let cases = [
        ("0", 0, 0),
        ("12.", 12, 0),
        ("1.000000001", 1, 1),
        ("1.0000000019", 1, 1),
        ("-1", -1, 0),
        ("-1.0", -1, 0),
        ("-1.25", -2, 750_000_000),
        ("-0.5", -1, 500_000_000),
        ("-0.0000000001", -1, 999_999_999),
        ("-0.9999999999", -1, 0),
        ("-1.0000000010", -2, 999_999_999),
        ("9223372036854775807.9", i64::MAX, 900_000_000),
    ];
    for (text, seconds, nanoseconds) in cases {
        let moment = Moment {
            seconds,
            nanoseconds,
        };
        let entry = entry(&[
            pax(b'x', &[("mtime", text)]),
            Block::ustar("a", b'0', 0).sealed(),
        ]);
        assert_eq!(entry.modified, moment, "{text}");
    }
    for text in [
        "x",
        ".5",
        "1.x",
        "1.-5",
        "1 ",
        "-",
        "9223372036854775808",
        "-9223372036854775808.5",
    ] {
        assert_eq!(
            refusal(&[
                pax(b'x', &[("mtime", text)]),
                Block::ustar("a", b'0', 0).sealed()
            ]),
            "the modification time of a tar entry is not a number, or out of range, at byte 1024",
            "{text}"
        );
    }
}

#[test]
fn reads_sizes_over_eight_gibibytes_in_bounded_memory() {
    let size = 9_u64 << 30;
    let comment = "c".repeat(100_000);
    let records = pax(b'x', &[("size", &size.to_string()), ("comment", &comment)]);
    let header = Block::ustar("large", b'0', 0).sealed();
    let binary = Block::gnu("large", b'0', 0)
        .binary(SIZE, size.into())
        .sealed();
    let before = records.len() as u64;
    let records = [records, header].concat();
    for (start, offset) in [(records, before + 512), (binary, 512)] {
        let mut untar = Untar::new(Limits::default());
        let mut entries = Vec::new();
        let mut push = |untar: &mut Untar, bytes: &[u8]| {
            let each = |entry| {
                entries.push(entry);
                Ok::<_, TarError>(())
            };
            untar.push(bytes, each).unwrap();
        };
        push(&mut untar, &start);
        let piece = vec![1; 1 << 20];
        for _ in 0..9 << 10 {
            push(&mut untar, &piece);
            assert!(untar.piece.capacity() <= 2 * BLOCK);
        }
        push(&mut untar, &Block::ustar("next", b'0', 0).sealed());
        assert_eq!(untar.finish(), Ok(()));
        let next = file("next", 0, offset + size + 512);
        assert_eq!(entries, [file("large", size, offset), next]);
    }
}

#[test]
fn applies_global_headers_until_they_are_overridden() {
    let parts = [
        pax(
            b'g',
            &[
                ("uid", "5"),
                ("uname", "five"),
                ("SCHILY.xattr.user.a", "1"),
                ("SCHILY.xattr.user.b", "2"),
            ],
        ),
        Block::ustar("one", b'0', 0).sealed(),
        pax(
            b'x',
            &[
                ("uid", "6"),
                ("uname", ""),
                ("SCHILY.xattr.user.a", ""),
                ("SCHILY.xattr.user.c", ""),
            ],
        ),
        Block::ustar("two", b'0', 0).sealed(),
        pax(b'g', &[("uid", ""), ("uname", "seven")]),
        Block::ustar("three", b'0', 0).sealed(),
        end(),
    ];
    let entries = entries(&parts);
    let users: Vec<_> = entries
        .iter()
        .map(|entry| (entry.user.id, &*entry.user.name))
        .collect();
    // An empty value takes away the one of all; the header has its own.
    assert_eq!(
        users,
        [(5, b"five".as_slice()), (6, b"someone"), (1000, b"seven")]
    );
    let pair = |name: &str, value: &str| (name.into(), value.into());
    assert_eq!(
        entries[0].attributes,
        [pair("user.a", "1"), pair("user.b", "2")]
    );
    assert_eq!(
        entries[1].attributes,
        [pair("user.b", "2"), pair("user.c", "")]
    );
    assert_eq!(entries[2].attributes, entries[0].attributes);
}

/// A map is read block by block, and each block asks for the path.
#[test]
fn copies_no_path_to_look_at_it() {
    let mut untar = Untar::new(Limits::default());
    let header = Header(Block::v7("short", 0, 0).0);
    let long = vec![b'a'; MAX_META];
    assert!(matches!(
        untar.overrides.path(&header),
        Cow::Borrowed(b"short")
    ));
    untar
        .overrides
        .next
        .records
        .0
        .insert(b"path".to_vec(), long.clone());
    assert!(matches!(untar.overrides.path(&header), Cow::Borrowed(path) if path == long));
    untar.overrides.next.path = long;
    assert!(
        matches!(untar.overrides.path(&header), Cow::Borrowed(path) if path == untar.overrides.next.path)
    );
}

/// Global records are read again for each entry. Those that say nothing of it cost as much as
/// those that do.
#[test]
fn refuses_global_headers_out_of_proportion() {
    let spellings: Vec<String> = (0..600_u32)
        .map(|number| {
            let bits = (0..10).map(|bit| if number >> bit & 1 == 0 { "a" } else { "%61" });
            format!("LIBARCHIVE.xattr.{}", bits.collect::<String>())
        })
        .collect();
    let spelled: Vec<_> = spellings.iter().map(|key| (&**key, "YQ")).collect();
    let map = "0,0,".repeat(6_000) + "0,0";
    for records in [
        spelled.as_slice(),
        &[("GNU.sparse.map", &map)],
        &[
            ("linkpath", &"./".repeat(8_000)),
            ("path", &"./".repeat(8_000)),
        ],
    ] {
        let mut parts = vec![pax(b'g', records)];
        parts.extend((0..5_000).map(|_| Block::ustar("a", b'0', 0).sealed()));
        let found = read_with(&parts.concat(), usize::MAX, Limits::default());
        let error = found.1.unwrap_err();
        assert!(error.is_limit(), "{error}");
        assert!(error.to_string().contains("global pax headers"), "{error}");
        assert!(found.0.len() < 2_500, "{} entries", found.0.len());
    }
    // As much as a label of SELinux, for any number of entries.
    let label = "system_u:object_r:container_file_t:s0:".to_owned() + &"c1,".repeat(100);
    let mut parts = vec![pax(b'g', &[("SCHILY.xattr.security.selinux", &label)])];
    parts.extend((0..100_000).map(|_| Block::ustar("a", b'0', 0).sealed()));
    let found = read_with(&parts.concat(), usize::MAX, Limits::default());
    assert_eq!((found.0.len(), found.1), (100_000, Ok(())));
}

#[test]
fn reads_extended_attributes_of_star_and_libarchive() {
    let records = [
        pax_record("SCHILY.xattr.user.raw", [0, b'\n', b'=', 0xff]),
        pax_record("LIBARCHIVE.xattr.user.%c3%A4%3D", "AAECAw"),
        pax_record("LIBARCHIVE.xattr.security.capability", "AQAAAg=="),
        // The same twice, as libarchive writes it.
        pax_record("LIBARCHIVE.xattr.user.empty", ""),
        pax_record("SCHILY.xattr.user.empty", ""),
    ];
    let entry = entry(&[
        raw_pax(b'x', &records.concat()),
        Block::ustar("a", b'0', 0).sealed(),
    ]);
    let expected: [(&[u8], &[u8]); 4] = [
        (b"security.capability", &[1, 0, 0, 2]),
        (b"user.empty", b""),
        (b"user.raw", &[0, b'\n', b'=', 0xff]),
        ("user.\u{e4}=".as_bytes(), &[0, 1, 2, 3]),
    ];
    let expected = expected.map(|(name, value)| (name.to_vec(), value.to_vec()));
    assert_eq!(entry.attributes, expected);
    assert_eq!(
        refusal(&[
            pax(b'x', &[("LIBARCHIVE.xattr.a", "?")]),
            Block::ustar("a", b'0', 0).sealed()
        ]),
        "an extended attribute that is not base64, at byte 1024"
    );
}

#[test]
fn reads_devices_and_pipes() {
    let numbered = |flag| Block::ustar("dev", flag, 0).octal(MAJOR, 8).octal(MINOR, 1);
    let records = pax(
        b'x',
        &[("SCHILY.devmajor", "4096"), ("SCHILY.devminor", "16777216")],
    );
    let parts = [
        numbered(b'3').sealed(),
        numbered(b'4').sealed(),
        numbered(b'6').sealed(),
        numbered(b'0').text(MAJOR, b"garbage").sealed(),
        records,
        numbered(b'4').sealed(),
        Block::v7("dev", b'3', 0).text(MAJOR, b"garbage").sealed(),
        end(),
    ];
    let devices: Vec<_> = entries(&parts)
        .iter()
        .map(|entry| (entry.kind, entry.device))
        .collect();
    let expected = [
        (EntryKind::CharacterDevice, (8, 1)),
        (EntryKind::BlockDevice, (8, 1)),
        (EntryKind::Pipe, (0, 0)),
        (EntryKind::File, (0, 0)),
        (EntryKind::BlockDevice, (4096, 1 << 24)),
        (EntryKind::CharacterDevice, (0, 0)),
    ];
    assert_eq!(devices, expected);
    assert_eq!(
        refusal(&[numbered(b'3').binary(MAJOR, 1 << 32).sealed()]),
        "the device number of a tar entry is not a number, or out of range, at byte 0"
    );
}

#[test]
fn skips_data_with_files_only() {
    let sized = |flag| Block::ustar("some", flag, 1000).text(LINK, b"./to");
    for flag in [0, b'0', b'7', b'D', b'V'] {
        let data = sized(flag).with(&[b'x'; 1000]);
        let next = entries(&[data, Block::ustar("next", b'0', 0).sealed(), end()]);
        assert_eq!(
            next.last(),
            Some(&file("next", 0, 2048)),
            "{}",
            char::from(flag)
        );
    }
    for flag in b'1'..=b'6' {
        let parts = [
            pax(b'x', &[("size", "3")]),
            sized(flag).sealed(),
            Block::ustar("next", b'0', 0).sealed(),
        ];
        let entries = entries(&parts);
        assert_eq!(
            (entries[0].size, entries[1].offset),
            (0, 2048),
            "{}",
            char::from(flag)
        );
    }
}

#[test]
fn reads_contiguous_files_and_dumped_directories_and_passes_over_labels() {
    let parts = [
        pax(b'x', &[("path", "label")]),
        Block::gnu("label", b'V', 0).sealed(),
        Block::ustar("file", b'7', 1).with(b"a"),
        Block::gnu("dir/", b'D', 7).with(b"Yfile\0\0"),
        end(),
    ];
    let entries = entries(&parts);
    assert_eq!(entries[0], file("file", 1, 2048));
    let directory = Entry {
        kind: EntryKind::Directory,
        ..file("dir", 0, 3072)
    };
    assert_eq!(entries[1..], [directory]);
}

#[test]
fn refuses_other_volumes_and_unknown_flags() {
    assert_eq!(
        refusal(&[Block::gnu("rest", b'M', 0).sealed()]),
        "a tar entry that begins in another volume, at byte 0"
    );
    for (flag, text) in [
        (b'Z', "Z"),
        (b'N', "N"),
        (b'X', "X"),
        (b'8', "8"),
        (1, "\\x01"),
        (0xff, "\\xff"),
    ] {
        assert_eq!(
            refusal(&[
                Block::ustar("a", b'0', 0).sealed(),
                Block::ustar("some", flag, 0).sealed()
            ]),
            format!("unknown type flag '{text}' of a tar entry, at byte 512")
        );
    }
}

#[test]
fn gives_paths_from_the_root_and_links_as_they_are() {
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
fn accepts_sums_of_signed_bytes() {
    let mut block = Block::v7("\u{e4}", b'0', 0).text(CHECKSUM, b"        ");
    let sum: i64 = block
        .0
        .iter()
        .map(|byte| i64::from(byte.cast_signed()))
        .sum();
    block = block.text(CHECKSUM, format!("{sum:06o}\0 ").as_bytes());
    assert_eq!(entry(&[block.0.to_vec()]).path, "\u{e4}".as_bytes());
}

#[test]
fn ends_where_go_does() {
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
    // What fills up the last block may be missing.
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
        "a tar archive that ends too early, at byte 1541"
    );
    assert_eq!(
        refusal(&[one[..512].to_vec()]),
        "a tar archive that ends too early, at byte 512"
    );
    assert_eq!(
        refusal(&[one.clone(), pax(b'x', &[("path", "a")])]),
        "a tar archive that ends too early, at byte 2048"
    );
}

#[test]
fn says_what_is_no_archive() {
    assert_eq!(refusal(&[vec![b'a'; 512]]), "not a tar archive, at byte 0");
    assert_eq!(
        refusal(&[b"a".to_vec()]),
        "a tar archive that ends too early, at byte 1"
    );
    assert_eq!(
        refusal(&[Block::ustar("a", b'0', 0).sealed(), vec![b'a'; 512]]),
        "a tar header has another checksum, at byte 512"
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
        "a tar entry that ends beyond any archive, at byte 1024"
    );
    // All of it would fit if the archive began with it.
    assert_eq!(
        refusal(&[
            pax(b'x', &[("size", "18446744073709550080")]),
            block.sealed()
        ]),
        "a tar entry that ends beyond any archive, at byte 1024"
    );
}

#[test]
fn refuses_malformed_records() {
    let refuse =
        |records: &[u8]| refusal(&[raw_pax(b'x', records), Block::ustar("a", b'0', 0).sealed()]);
    for records in [
        "x",
        "6 a=b",
        "6 a=bc",
        "7 a=b\n",
        "5 a=b\n",
        " 6 a=b\n",
        "6",
        "5 ab\n",
        "3 \n",
        "5 =a\n",
        "0 a=b\n",
        "-6 a=b\n",
        "6 a=b\n\0",
        "7 a\0=b\n",
        "18446744073709551616 a=b\n",
        "99999999 a=b\n",
    ] {
        assert_eq!(
            refuse(records.as_bytes()),
            "a pax header with a malformed record, at byte 512",
            "{records:?}"
        );
    }
    for (key, what) in TEXTS {
        let record = pax_record(std::str::from_utf8(key).unwrap(), b"a\0b");
        assert_eq!(
            refuse(&record),
            format!("a zero byte in the {what} of a pax header, at byte 512")
        );
    }
    for (key, what) in [("uid", "user"), ("gid", "group"), ("size", "size")] {
        for value in ["a", "-1", "1.0", "18446744073709551616"] {
            assert_eq!(
                refusal(&[
                    pax(b'x', &[(key, value)]),
                    Block::ustar("a", b'0', 0).sealed()
                ]),
                format!("the {what} of a tar entry is not a number, or out of range, at byte 1024")
            );
        }
    }
}

#[test]
fn keeps_to_its_limits() {
    let small = Limits {
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
                Limits::default()
            ),
            "a header of more than 1048576 bytes before a tar entry, at byte 0"
        );
        assert_eq!(
            read(&Block::gnu("a", flag, 1 << 20).sealed())
                .1
                .unwrap_err()
                .problem,
            Problem::End
        );
    }
    let mut globals = Vec::new();
    for key in ["SCHILY.xattr.a", "SCHILY.xattr.b"] {
        globals.push(pax(b'g', &[(key, &"v".repeat(20_000))]));
        globals.push(Block::ustar("a", b'0', 0).sealed());
    }
    assert_eq!(
        limit(&globals, Limits::default()),
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

/// A sparse file in the old format of GNU, with a map of these pairs.
fn old_sparse(pairs: &[(u64, u64)], size: u64, data: &[u8]) -> Vec<u8> {
    let text =
        |(offset, length): &(u64, u64)| format!("{offset:011o}\0{length:011o}\0").into_bytes();
    let mut block = Block::gnu("sparse", b'S', data.len() as u64).octal(REAL_SIZE, size);
    let first: Vec<_> = pairs.iter().take(4).flat_map(text).collect();
    block = block.text(MAP, &first);
    let more: Vec<_> = pairs.iter().skip(4).collect();
    block.0[MORE] = u8::from(!more.is_empty());
    let mut bytes = block.sealed();
    let chunks: Vec<_> = more.chunks(21).collect();
    for (index, chunk) in chunks.iter().enumerate() {
        let mut more: Vec<_> = chunk.iter().copied().flat_map(text).collect();
        more.resize(BLOCK, 0);
        more[MORE_BLOCKS] = u8::from(index + 1 < chunks.len());
        bytes.extend(more);
    }
    bytes.extend(data);
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

/// The same in version 0.0 of the new formats.
fn sparse_0_0(pairs: &[(u64, u64)], size: u64, data: &[u8]) -> Vec<u8> {
    let mut records = pax_record("GNU.sparse.size", size.to_string());
    records.extend(pax_record("GNU.sparse.numblocks", pairs.len().to_string()));
    for (offset, length) in pairs {
        records.extend(pax_record("GNU.sparse.offset", offset.to_string()));
        records.extend(pax_record("GNU.sparse.numbytes", length.to_string()));
    }
    let block = Block::ustar("sparse", b'0', data.len() as u64);
    [raw_pax(b'x', &records), block.with(data)].concat()
}

/// In version 0.1.
fn sparse_0_1(pairs: &[(u64, u64)], size: u64, data: &[u8]) -> Vec<u8> {
    let map: Vec<_> = pairs
        .iter()
        .map(|(offset, length)| format!("{offset},{length}"))
        .collect();
    let records = [
        ("GNU.sparse.size", &*size.to_string()),
        ("GNU.sparse.numblocks", &*pairs.len().to_string()),
        ("GNU.sparse.map", &*map.join(",")),
        ("GNU.sparse.name", "sparse"),
    ];
    let block = Block::ustar("GNUSparseFile.1/sparse", b'0', data.len() as u64);
    [pax(b'x', &records), block.with(data)].concat()
}

/// In version 1.0.
fn sparse_1_0(pairs: &[(u64, u64)], size: u64, data: &[u8]) -> Vec<u8> {
    let mut map = format!("{}\n", pairs.len());
    for (offset, length) in pairs {
        map += &format!("{offset}\n{length}\n");
    }
    let mut bytes = map.into_bytes();
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes.extend(data);
    let records = [
        ("GNU.sparse.major", "1"),
        ("GNU.sparse.minor", "0"),
        ("GNU.sparse.name", "sparse"),
        ("GNU.sparse.realsize", &*size.to_string()),
    ];
    let block = Block::ustar("GNUSparseFile.1/sparse", b'0', bytes.len() as u64);
    [pax(b'x', &records), block.with(&bytes)].concat()
}

type Pairs<'a> = &'a [(u64, u64)];
type Writer = fn(Pairs<'_>, u64, &[u8]) -> Vec<u8>;
const SPARSE: [Writer; 4] = [old_sparse, sparse_0_0, sparse_0_1, sparse_1_0];

#[test]
fn reads_sparse_files_in_all_formats() {
    let many: Vec<_> = (0..200).map(|index| (index * 1000, 5)).collect();
    // The last line of version 1.0 ends with a block, or just does not: 512 and 513 bytes.
    let offset = |index: u64, wide: u64| {
        if index < 72 - wide {
            1000 + 10 * index
        } else {
            10_000 + 10 * index
        }
    };
    let [full, over] = [5, 6].map(|wide| {
        (0..72)
            .map(|index| (offset(index, wide), 5))
            .collect::<Vec<_>>()
    });
    let cases: [(Pairs<'_>, u64); 8] = [
        (&full, 20_000),
        (&over, 20_000),
        (&[(0, 0)], 0),
        (&[(7000, 0)], 7000),
        (&[(0, 5), (512, 7), (519, 0), (600, 3)], 10_000),
        (
            &[(1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (1 << 33, 0)],
            1 << 33,
        ),
        (&many, 199_005),
        (&many[..25], 30_000),
    ];
    for (pairs, size) in cases {
        for (index, writer) in SPARSE.iter().enumerate() {
            let length: u64 = pairs.iter().map(|(_, length)| length).sum();
            let data = vec![b'd'; length as usize];
            let bytes = writer(pairs, size, &data);
            let next = Block::ustar("next", b'0', 0).sealed();
            let entries = entries(&[bytes.clone(), next, end()]);
            let segments = pairs.iter().filter(|(_, length)| *length > 0);
            let segments = segments.map(|(offset, length)| Segment {
                offset: *offset,
                length: *length,
            });
            let expected = Entry {
                segments: Some(segments.collect()),
                ..file(
                    "sparse",
                    size,
                    bytes.len() as u64 - length.next_multiple_of(512),
                )
            };
            assert_eq!(entries[0], expected, "format {index} of {pairs:?}");
            assert_eq!(entries[1], file("next", 0, bytes.len() as u64 + 512));
        }
    }
}

#[test]
fn refuses_sparse_files_that_contradict_themselves() {
    let order = "a sparse file whose map is out of order or goes beyond its end";
    let data = "a sparse file with more or less data than its map";
    let cases: [(Pairs<'_>, u64, usize, &str); 7] = [
        (&[(5, 1), (0, 1)], 100, 2, order),
        (&[(0, 5), (4, 1)], 100, 6, order),
        (&[(99, 2)], 100, 2, order),
        (&[(101, 0)], 100, 0, order),
        (&[(0, 5)], 100, 4, data),
        (&[(0, 5)], 100, 6, data),
        (&[(0, 0)], 100, 513, data),
    ];
    for (pairs, size, length, problem) in cases {
        for writer in SPARSE {
            let text = refusal(&[writer(pairs, size, &vec![1; length])]);
            assert!(
                text.starts_with(&format!("{problem}, at byte ")),
                "{text} of {pairs:?}"
            );
        }
    }
    // The end does not fit in a number.
    for writer in &SPARSE[1..] {
        let text = refusal(&[writer(&[(u64::MAX, 1)], u64::MAX, b"a")]);
        assert!(text.starts_with(order), "{text}");
    }
}

#[test]
fn refuses_maps_that_are_none() {
    let malformed = "a sparse file with a malformed map";
    let file = Block::ustar("a", b'0', 0).sealed();
    for records in [
        [("GNU.sparse.numblocks", "2"), ("GNU.sparse.map", "0,1")],
        [("GNU.sparse.numblocks", "1"), ("GNU.sparse.map", "0,x")],
        [
            ("GNU.sparse.numblocks", "9223372036854775809"),
            ("GNU.sparse.map", "0,0"),
        ],
        [("GNU.sparse.major", "0"), ("GNU.sparse.map", "0,0,0")],
    ] {
        let minor = if records[0].0.ends_with("major") {
            "1"
        } else {
            ""
        };
        let records = [records[0], records[1], ("GNU.sparse.minor", minor)];
        assert_eq!(
            refusal(&[pax(b'x', &records), file.clone()]),
            format!("{malformed}, at byte 1024")
        );
    }
    for records in [
        [("GNU.sparse.numbytes", "0"), ("GNU.sparse.offset", "0")],
        [("GNU.sparse.offset", "0"), ("GNU.sparse.offset", "0")],
        [("GNU.sparse.offset", "0"), ("GNU.sparse.numbytes", "0,0")],
    ] {
        assert_eq!(
            refusal(&[pax(b'x', &records), file.clone()]),
            format!("{malformed}, at byte 512")
        );
    }
    let version = |major, minor| {
        pax(
            b'x',
            &[("GNU.sparse.major", major), ("GNU.sparse.minor", minor)],
        )
    };
    for text in ["x\n", "-1\n", "1\nx\n0\n", "1\n0\n-1\n", &"1".repeat(512)] {
        let block = Block::ustar("a", b'0', 512).with(text.as_bytes());
        assert_eq!(
            refusal(&[version("1", "0"), block]),
            format!("{malformed}, at byte 1536"),
            "{text}"
        );
    }
    let unknown = "a sparse file in an unknown format, at byte";
    for (major, minor) in [("1", "1"), ("2", "0"), ("0", "2"), ("1", "")] {
        assert_eq!(
            refusal(&[version(major, minor), file.clone()]),
            format!("{unknown} 1024")
        );
    }
    assert_eq!(
        refusal(&[Block::ustar("a", b'S', 0).sealed()]),
        format!("{unknown} 0")
    );
    for flag in [b'1', b'5', b'D'] {
        assert_eq!(
            refusal(&[version("1", "0"), Block::ustar("a", flag, 0).sealed()]),
            "a sparse map of what is no file, at byte 1024"
        );
    }
    // A map that is longer than the data it is a part of.
    let map = Block::ustar("a", b'0', 512).with(b"200\n");
    assert_eq!(
        refusal(&[version("1", "0"), map, file.clone()]),
        "a sparse file with more or less data than its map, at byte 2048"
    );
    let block = Block::gnu("a", b'S', 0).text(386..398, b"9");
    assert_eq!(
        refusal(&[block.sealed()]),
        format!("{malformed}, at byte 0")
    );
}

#[test]
fn bounds_the_number_of_segments() {
    let text = "a sparse file of more than 65536 segments";
    let many: Vec<_> = (0..70_000).map(|index| (index, 1)).collect();
    let data = vec![1; many.len()];
    for writer in [old_sparse, sparse_0_1, sparse_1_0] {
        let bytes = writer(&many, 1 << 20, &data);
        let error = read_with(&bytes, usize::MAX, Limits::default())
            .1
            .unwrap_err();
        assert!(
            error.is_limit() && error.to_string().starts_with(text),
            "{error}"
        );
    }
    let many = &many[..40_000];
    for writer in [old_sparse, sparse_0_1, sparse_1_0] {
        let bytes = writer(many, 1 << 20, &data[..40_000]);
        let (entries, result) = read_with(&bytes, 4_099, Limits::default());
        assert_eq!(result, Ok(()));
        assert_eq!(entries[0].segments.as_ref().map(Vec::len), Some(40_000));
    }
    // A count that nothing follows is not taken at its word.
    let block = Block::ustar("a", b'0', 2 << 20)
        .with(&[b"18446744073709551615\n".as_slice(), &[b'\n'; 2 << 20]].concat());
    let records = pax(
        b'x',
        &[("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0")],
    );
    let error = read_with(&[records, block].concat(), 4_099, Limits::default())
        .1
        .unwrap_err();
    assert!(error.is_limit(), "{error}");
}

#[test]
fn gives_of_an_archive_cut_anywhere_the_entries_before() {
    let bytes = sample();
    let (expected, _) = read(&bytes);
    let mut untar = Untar::new(Limits::default());
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
                format!("a tar archive that ends too early, at byte {at}")
            ),
        }
        let take = |entry| {
            entries.push(entry);
            Ok::<_, TarError>(())
        };
        untar.push(&bytes[at..=at], take).unwrap();
    }
    assert_eq!((entries, untar.finish()), (expected, Ok(())));
    // At the beginning, after each of three entries without data and a block of zeros, and in what fills up the data of
    // one header and three files.
    assert_eq!(
        ends,
        1 + 3 + 1 + (513 - 37) + (513 - 4) + (513 - 3) + (513 - 100)
    );
}

#[test]
fn never_panics_on_flipped_bits() {
    let mut bytes = sample();
    let mut before = Untar::new(Limits::default());
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
fn goes_on_from_a_saved_state_at_every_byte() {
    let bytes = sample();
    let (expected, _) = read(&bytes);
    let mut first = Untar::new(Limits::default());
    let mut before = Vec::new();
    for at in 0..=bytes.len() {
        let mut saved = Vec::new();
        first.save(&mut saved);
        let end = saved.len();
        saved.push(9);
        let mut reader = wire::Reader(&saved);
        let mut second = Untar::load(&mut reader, Limits::default()).unwrap();
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
            let reader = &mut wire::Reader(&saved[..cut]);
            assert!(Untar::load(reader, Limits::default()).is_none());
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
fn never_panics_on_another_state() {
    let bytes = sample();
    for at in (0..bytes.len()).step_by(1021) {
        let mut untar = Untar::new(Limits::default());
        untar.push(&bytes[..at], |_| Ok::<_, TarError>(())).unwrap();
        let mut saved = Vec::new();
        untar.save(&mut saved);
        for place in 0..saved.len() {
            for bit in [1 << (place % 8), 0xff] {
                let mut other = saved.clone();
                other[place] ^= bit;
                let reader = &mut wire::Reader(&other);
                if let Some(mut untar) = Untar::load(reader, Limits::default()) {
                    let pushed = untar.push(&bytes[at..], |_| Ok::<_, TarError>(()));
                    let _ = pushed.and_then(|()| untar.finish());
                }
            }
        }
    }
}

#[test]
fn hands_on_the_error_of_who_takes_entries() {
    #[derive(Debug, PartialEq)]
    struct Stop;
    impl From<TarError> for Stop {
        fn from(_: TarError) -> Self {
            Self
        }
    }
    let mut seen = 0;
    let result = Untar::new(Limits::default()).push(&sample(), |_| {
        seen += 1;
        if seen == 2 { Err(Stop) } else { Ok(()) }
    });
    assert_eq!((result, seen), (Err(Stop), 2));
}

#[cfg(not(target_arch = "wasm32"))]
mod properties {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// A path from the root, as entries have it.
    fn paths() -> impl Strategy<Value = Vec<u8>> {
        let component = prop_oneof![
            4 => vec(prop_oneof![1_u8..b'.', b'0'..=255], 1..20),
            1 => vec(prop_oneof![1_u8..b'.', b'0'..=255], 200..300),
        ];
        vec(component, 0..5).prop_map(|components| components.join(&b'/'))
    }

    fn moments() -> impl Strategy<Value = Moment> {
        let seconds = prop_oneof![
            0..1_i64 << 33,
            any::<i64>().prop_filter("one less is a number", |seconds| *seconds > i64::MIN)
        ];
        (seconds, prop_oneof![Just(0), 0..NANOSECONDS]).prop_map(|(seconds, nanoseconds)| Moment {
            seconds,
            nanoseconds,
        })
    }

    fn owners() -> impl Strategy<Value = Owner> {
        let id = prop_oneof![0..1_u64 << 21, 0..1_u64 << 56];
        (id, vec(1..=255_u8, 0..40)).prop_map(|(id, name)| Owner { id, name })
    }

    fn sparse() -> impl Strategy<Value = Option<(Vec<Segment>, u64)>> {
        let gaps = vec((0..5000_u64, 1..900_u64), 0..40);
        proptest::option::of((gaps, 0..5000_u64).prop_map(|(gaps, rest)| {
            let mut segments: Vec<Segment> = Vec::new();
            let mut end = 0;
            for (gap, length) in gaps {
                segments.push(Segment {
                    offset: end + gap,
                    length,
                });
                end += gap + length;
            }
            (segments, end + rest)
        }))
    }

    prop_compose! {
        fn entries()(
            path in paths(),
            kind in 0..7_usize,
            mode in 0..0o10_000_u32,
            (user, group) in (owners(), owners()),
            size in 0..3000_u64,
            modified in moments(),
            accessed in proptest::option::of(moments()),
            changed in proptest::option::of(moments()),
            link in paths(),
            device in any::<(u32, u32)>(),
            attributes in proptest::collection::btree_map(vec(prop_oneof![1..b'=', b'>'..=255], 1..10), vec(any::<u8>(), 0..600), 0..3),
            sparse in sparse(),
        ) -> Entry {
            let kind = EntryKind::ALL[kind];
            let (segments, size) = match (kind, sparse) {
                (EntryKind::File, Some((segments, size))) => (Some(segments), size),
                (EntryKind::File, None) => (None, size),
                _ => (None, 0),
            };
            let is_link = matches!(kind, EntryKind::HardLink | EntryKind::SymbolicLink);
            let is_device = matches!(kind, EntryKind::CharacterDevice | EntryKind::BlockDevice);
            Entry {
                path,
                kind,
                mode,
                user,
                group,
                size,
                modified,
                accessed,
                changed,
                link: if is_link { link } else { Vec::new() },
                device: if is_device { device } else { (0, 0) },
                attributes: attributes.into_iter().collect(),
                omitted: 0,
                offset: 0,
                segments,
            }
        }
    }

    fn decimal(moment: Moment) -> String {
        match (moment.seconds, moment.nanoseconds) {
            (seconds, 0) => seconds.to_string(),
            (seconds @ ..0, nanoseconds) => {
                let sign = if seconds == -1 { "-" } else { "" };
                format!("{sign}{}.{:09}", seconds + 1, NANOSECONDS - nanoseconds)
            }
            (seconds, nanoseconds) => format!("{seconds}.{nanoseconds:09}"),
        }
    }

    /// Writes an entry, what fits into its header there, and notes where its data are. How is chosen by what is at hand.
    fn write(out: &mut Vec<u8>, entry: &mut Entry) {
        let flag = b"0123456"[EntryKind::ALL
            .iter()
            .position(|kind| *kind == entry.kind)
            .unwrap()];
        let pairs = entry.segments.as_ref().map(|segments| {
            segments
                .iter()
                .map(|segment| (segment.offset, segment.length))
                .collect::<Vec<_>>()
        });
        let length = pairs
            .as_ref()
            .map_or(entry.size, |pairs| pairs.iter().map(|pair| pair.1).sum());
        let mut data = vec![b'd'; length as usize];
        let mut records = Vec::new();
        let mut record = |key: &str, value: &[u8]| records.extend(pax_record(key, value));
        let mut block = Block::ustar("", flag, 0).octal(MODE, entry.mode.into());
        if pairs.is_some() {
            record("GNU.sparse.name", &entry.path);
        } else if entry.path.len() <= 100 {
            block = block.text(PATH, &entry.path);
        } else if entry.mode.is_multiple_of(2) {
            out.extend(long(b'L', &entry.path));
        } else {
            record("path", &entry.path);
        }
        if entry.link.len() <= 100 {
            block = block.text(LINK, &entry.link);
        } else if entry.mode.is_multiple_of(2) {
            out.extend(long(b'K', &entry.link));
        } else {
            record("linkpath", &entry.link);
        }
        let owners = [
            (&entry.user, USER, USER_NAME, "uid", "uname"),
            (&entry.group, GROUP, GROUP_NAME, "gid", "gname"),
        ];
        for (owner, id, name, id_key, name_key) in owners {
            match owner.id {
                0..0o10_000_000 => block = block.octal(id, owner.id),
                _ if entry.mode.is_multiple_of(3) => block = block.binary(id, owner.id.into()),
                _ => record(id_key, owner.id.to_string().as_bytes()),
            }
            if owner.name.len() <= 32 {
                block = block.text(name, &owner.name);
            } else {
                record(name_key, &owner.name);
            }
        }
        if entry.modified.nanoseconds == 0 && entry.mode.is_multiple_of(3) {
            block = block.binary(MODIFIED, entry.modified.seconds.into());
        } else {
            record("mtime", decimal(entry.modified).as_bytes());
        }
        for (key, moment) in [("atime", entry.accessed), ("ctime", entry.changed)] {
            if let Some(moment) = moment {
                record(key, decimal(moment).as_bytes());
            }
        }
        let numbers = [
            (entry.device.0, MAJOR, "major"),
            (entry.device.1, MINOR, "minor"),
        ];
        for (number, field, key) in numbers {
            if number < 0o10_000_000 {
                block = block.octal(field, number.into());
            } else {
                record(&format!("SCHILY.dev{key}"), number.to_string().as_bytes());
            }
        }
        for (name, value) in &entry.attributes {
            records.extend(raw_record(
                &[b"SCHILY.xattr.", name.as_slice()].concat(),
                value,
            ));
        }
        if let Some(pairs) = pairs {
            records.extend(pax_record("GNU.sparse.realsize", entry.size.to_string()));
            records.extend(pax_record("GNU.sparse.major", "1"));
            records.extend(pax_record("GNU.sparse.minor", "0"));
            let lines = pairs
                .iter()
                .map(|(offset, length)| format!("{offset}\n{length}\n"));
            let map = format!("{}\n{}", pairs.len(), lines.collect::<String>());
            let mut map = map.into_bytes();
            map.resize(map.len().next_multiple_of(BLOCK), 0);
            data.splice(0..0, map);
        }
        if !records.is_empty() {
            out.extend(raw_pax(b'x', &records));
        }
        out.extend(block.octal(SIZE, data.len() as u64).with(&data));
        entry.offset = out.len() as u64 - length.next_multiple_of(512);
    }

    fn raw_record(key: &[u8], value: &[u8]) -> Vec<u8> {
        // The length does not depend on what the key is.
        let mut record = pax_record(&"k".repeat(key.len()), value);
        let start = record.iter().position(|byte| *byte == b' ').unwrap() + 1;
        record[start..start + key.len()].copy_from_slice(key);
        record
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn entries_come_out_as_they_went_in(mut entries in vec(entries(), 0..8), piece in 1..2000_usize, at in any::<prop::sample::Index>()) {
            let mut bytes = Vec::new();
            for entry in &mut entries {
                write(&mut bytes, entry);
            }
            bytes.extend(end());
            prop_assert_eq!(read_with(&bytes, piece, Limits::default()), (entries.clone(), Ok(())));
            let at = at.index(bytes.len());
            let (before, _) = read_with(&bytes[..at], piece, Limits::default());
            prop_assert!(entries.starts_with(&before));
        }

        #[test]
        fn whatever_is_read_it_is_read_in_the_same_way(bytes in vec(any::<u8>(), 0..2000), piece in 1..2000_usize) {
            let whole = read_with(&bytes, usize::MAX, Limits::default());
            prop_assert_eq!(read_with(&bytes, piece, Limits::default()), whole);
        }

        #[test]
        fn records_of_any_bytes_are_read_or_refused(records in vec(any::<u8>(), 0..600), text in "([0-9]{1,2} [a-zGNUSCHILY.]{0,9}=[0-9,.-]{0,9}\n){0,9}") {
            for records in [records.as_slice(), text.as_bytes()] {
                let bytes = [raw_pax(b'x', records), Block::ustar("a", b'0', 0).sealed()].concat();
                let _ = read_with(&bytes, usize::MAX, Limits::default());
            }
        }
    }
}
