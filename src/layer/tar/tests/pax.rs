//! Pax records, of one entry and global ones.

use super::*;

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

#[test]
fn pax_records_apply_to_the_next_entry_only() {
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
fn pax_times_are_read_to_the_nanosecond_rounded_down() {
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
fn files_over_eight_gibibytes_are_read_in_bounded_memory() {
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
        let mut untar = Untar::new(TarLimits::default());
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
fn global_pax_headers_apply_until_they_are_overridden() {
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
    // An empty value removes the global one; the header has its own.
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
fn the_path_of_an_entry_is_borrowed_not_copied() {
    let mut untar = Untar::new(TarLimits::default());
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

/// Global records are read again for each entry. Records that entries do not need cost as much.
#[test]
fn global_pax_headers_out_of_proportion_are_refused() {
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
        let found = read_with(&parts.concat(), usize::MAX, TarLimits::default());
        let error = found.1.unwrap_err();
        assert!(error.is_limit(), "{error}");
        assert!(error.to_string().contains("global pax headers"), "{error}");
        assert!(found.0.len() < 2_500, "{} entries", found.0.len());
    }
    // As much as a label of SELinux, for any number of entries.
    let label = "system_u:object_r:container_file_t:s0:".to_owned() + &"c1,".repeat(100);
    let mut parts = vec![pax(b'g', &[("SCHILY.xattr.security.selinux", &label)])];
    parts.extend((0..100_000).map(|_| Block::ustar("a", b'0', 0).sealed()));
    let found = read_with(&parts.concat(), usize::MAX, TarLimits::default());
    assert_eq!((found.0.len(), found.1), (100_000, Ok(())));
}

#[test]
fn extended_attributes_of_star_and_libarchive_are_read() {
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
fn malformed_pax_records_are_refused() {
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
