//! Sparse files in all formats.

use super::*;

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

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
fn sparse_files_of_all_formats_are_read() {
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
fn contradictory_sparse_files_are_refused() {
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
fn malformed_sparse_maps_are_refused() {
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
            "a sparse map of an entry that is not a file, at byte 1024"
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
fn the_number_of_sparse_segments_is_limited() {
    let text = "a sparse file of more than 65536 segments";
    let many: Vec<_> = (0..70_000).map(|index| (index, 1)).collect();
    let data = vec![1; many.len()];
    for writer in [old_sparse, sparse_0_1, sparse_1_0] {
        let bytes = writer(&many, 1 << 20, &data);
        let error = read_with(&bytes, usize::MAX, TarLimits::default())
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
        let (entries, result) = read_with(&bytes, 4_099, TarLimits::default());
        assert_eq!(result, Ok(()));
        assert_eq!(entries[0].segments.as_ref().map(Vec::len), Some(40_000));
    }
    // A huge count makes the map continue up to its limit.
    let block = Block::ustar("a", b'0', 2 << 20)
        .with(&[b"18446744073709551615\n".as_slice(), &[b'\n'; 2 << 20]].concat());
    let records = pax(
        b'x',
        &[("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0")],
    );
    let error = read_with(&[records, block].concat(), 4_099, TarLimits::default())
        .1
        .unwrap_err();
    assert!(error.is_limit(), "{error}");
}
