//! Headers in the dialects of v7, ustar, GNU and star.

use super::*;

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

#[test]
fn a_v7_header_is_read() {
    let block = Block::v7("dir/file", 0, 5);
    // These bytes are not fields of ustar.
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
    // The file type above the mode, as in `st_mode`, is ignored.
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
fn an_old_file_with_a_trailing_slash_is_a_directory() {
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
fn the_prefix_of_ustar_and_star_headers_is_joined_to_the_name() {
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
fn the_times_of_old_gnu_headers_are_read() {
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
fn the_prefix_that_old_go_wrote_into_gnu_headers_is_read() {
    let block = Block::gnu("file", b'0', 0).text(PREFIX, b"a/directory");
    assert_eq!(entry(&[block.sealed()]), file("a/directory/file", 0, 512));
    let block = Block::gnu("file", b'0', 0).text(PREFIX, b"\xc3\xa4");
    assert_eq!(entry(&[block.text(CHANGED, b"x").sealed()]).path, b"file");
}

#[test]
fn long_names_and_links_of_gnu_are_read() {
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
fn numbers_in_base_256_are_read() {
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
fn devices_and_pipes_are_read() {
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
fn the_size_field_counts_only_for_kinds_that_have_data() {
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
fn labels_are_skipped_contiguous_files_and_dumps_are_read() {
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
fn other_volumes_and_unknown_type_flags_are_refused() {
    assert_eq!(
        refusal(&[Block::gnu("rest", b'M', 0).sealed()]),
        "a tar entry continued from another volume, at byte 0"
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
fn checksums_of_signed_bytes_are_accepted() {
    let mut block = Block::v7("\u{e4}", b'0', 0).text(CHECKSUM, b"        ");
    let sum: i64 = block
        .0
        .iter()
        .map(|byte| i64::from(byte.cast_signed()))
        .sum();
    block = block.text(CHECKSUM, format!("{sum:06o}\0 ").as_bytes());
    assert_eq!(entry(&[block.0.to_vec()]).path, "\u{e4}".as_bytes());
}
