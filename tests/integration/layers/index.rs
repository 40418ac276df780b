//! Indexing a layer in one pass, and reading any of its files through the index, compared with the
//! file system.

use std::{
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
    process::Command,
    rc::Rc,
};

use pollster::block_on;
use sha2::{Digest as _, Sha256};
use strata::{
    digest::Algorithm,
    layer::{
        entry::{Entry, EntryKind},
        index::{Index, IndexError, SpanStart, StoredIndex},
        pass::{Options, Pass, PassError},
        span::SpanError,
    },
};

const SPAN: u64 = 64 * 1024;

fn options() -> Options {
    Options {
        span: SPAN,
        ..Options::default()
    }
}

/// An index, and the objects that are stored beside it.
#[derive(Debug, Eq, PartialEq)]
struct Indexed {
    bytes: Vec<u8>,
    objects: Vec<Vec<u8>>,
}

/// Takes the objects that are to be stored, numbered in order.
fn take_objects(pass: &mut Pass, objects: &mut Vec<Vec<u8>>) {
    while let Some((number, object)) = pass.object() {
        assert_eq!(number as usize, objects.len());
        objects.push(object);
    }
}

impl Indexed {
    /// Indexes a layer that comes in pieces of this size.
    fn new(layer: &[u8], piece: usize) -> Result<Self, PassError> {
        let mut pass = Pass::new(layer.len() as u64, options());
        let mut objects = Vec::new();
        for piece in layer.chunks(piece) {
            pass.push(piece)?;
            take_objects(&mut pass, &mut objects);
        }
        let bytes = pass.finish()?.unwrap();
        take_objects(&mut pass, &mut objects);
        Ok(Self { bytes, objects })
    }

    /// Indexes a layer with a pass that is saved wherever that is possible.
    fn interrupted(layer: &[u8]) -> (Self, u32) {
        let mut pass = Pass::new(layer.len() as u64, options());
        let (mut objects, mut saves) = (Vec::new(), 0);
        let bytes = loop {
            pass.pause();
            let (read, _) = pass.position();
            let rest = &layer[read as usize..];
            // A layer that is not gzip pauses at the end of any piece.
            for piece in rest.chunks(100_000) {
                pass.push(piece).unwrap();
                if pass.is_paused() {
                    break;
                }
            }
            let finished = if pass.is_paused() && (pass.position().0 as usize) < layer.len() {
                None
            } else {
                pass.finish().unwrap()
            };
            take_objects(&mut pass, &mut objects);
            if let Some(bytes) = finished {
                break bytes;
            }
            let saved = pass.save();
            assert!(Pass::load(&saved, 1 + layer.len() as u64, &options()).is_none());
            assert!(
                Pass::load(&saved[..saved.len() - 1], layer.len() as u64, &options()).is_none()
            );
            pass = Pass::load(&saved, layer.len() as u64, &options()).unwrap();
            saves += 1;
        };
        (Self { bytes, objects }, saves)
    }

    fn index(&self) -> Index {
        match StoredIndex::parse(&self.bytes).unwrap() {
            StoredIndex::Index(index) => index,
            StoredIndex::Refused(refusal) => panic!("{refusal:?}"),
        }
    }

    fn part(&self, range: &Range<u64>) -> &[u8] {
        &self.bytes[range.start as usize..range.end as usize]
    }

    fn seek(&self, index: &Index, path: &[u8]) -> Option<Vec<Entry>> {
        let read = async |block: usize| {
            let bytes = self.part(&index.range_of(block).unwrap());
            index.read_block(block, bytes).map(Rc::from)
        };
        block_on(index.seek::<IndexError>(path, read)).unwrap()
    }

    /// All entries, by seeking from each to the next.
    fn entries(&self) -> Vec<Entry> {
        let index = self.index();
        let mut entries: Vec<Entry> = Vec::new();
        let mut from = Vec::new();
        while let Some(found) = self.seek(&index, &from) {
            from = found[0].path.clone();
            from.push(0);
            entries.extend(found);
        }
        assert_eq!(entries.len() as u64, index.entries);
        entries
    }

    /// Reads bytes of the archive, and counts the bytes that were inflated for it.
    fn read(&self, layer: &[u8], bytes: Range<u64>) -> Result<(Vec<u8>, u64), SpanError> {
        let index = self.index();
        let (mut out, mut inflated) = (Vec::new(), 0);
        for span in &index.spans[index.spans_of(&bytes)] {
            let input = span.input.start as usize..span.input.end as usize;
            let (window, input) = match &span.start {
                SpanStart::Block { window, .. } => (self.part(window), &layer[input]),
                SpanStart::Stored(object) => (&[][..], &self.objects[*object as usize][input]),
                SpanStart::Plain | SpanStart::Member | SpanStart::Frame => (&[][..], &layer[input]),
            };
            let end = bytes.end.min(span.output.end) - span.output.start;
            let all = span.inflate(window, input, end)?;
            inflated += all.len() as u64;
            let start = bytes.start.saturating_sub(span.output.start) as usize;
            out.extend_from_slice(&all[start..]);
        }
        Ok((out, inflated))
    }
}

/// A folder that is removed after the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("strata-index-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[track_caller]
fn run(folder: &Path, command: &str) -> Vec<u8> {
    let output = Command::new("sh")
        .arg("-ec")
        .arg(command)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{command}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// Files as in images: the source of this project, noise, zeros, and an empty file.
fn tree(folder: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let root = env!("CARGO_MANIFEST_DIR");
    run(
        folder,
        &format!("mkdir -p tree/noise tree/empty && cp -r {root}/src {root}/LICENSE tree/"),
    );
    let mut state = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    })
    .take(300_000)
    .collect();
    std::fs::write(folder.join("tree/noise/random"), noise).unwrap();
    std::fs::write(folder.join("tree/noise/zeros"), vec![0; 1_000_000]).unwrap();
    std::fs::write(folder.join("tree/nothing"), []).unwrap();
    let listed = run(folder, "cd tree && find . -type f -printf '%P\\n'");
    let names = String::from_utf8(listed).unwrap();
    let file = |name: &str| {
        (
            name.as_bytes().to_vec(),
            std::fs::read(folder.join("tree").join(name)).unwrap(),
        )
    };
    names.lines().map(file).collect()
}

/// Ways of writing a layer, each a command that reads an archive from standard input.
const WRITERS: [(&str, &str); 9] = [
    ("plain", "cat"),
    ("gzip", "gzip -6"),
    ("gzip -1", "gzip -1"),
    ("gzip -9", "gzip -9n"),
    (
        "members",
        "split -b 200000 --filter='gzip -6' - && printf '' | gzip",
    ),
    ("zstd", "zstd -3 --zstd=wlog=17"),
    ("zstd -19", "zstd -19 --zstd=wlog=18"),
    ("frames", "split -b 50000 --filter='zstd -3' -"),
    ("long frames", "split -b 150000 --filter='zstd -3' -"),
];

#[test]
fn every_file_can_be_read_alone() {
    let folder = Folder::new("files");
    let files = tree(&folder.0);
    let archive = run(&folder.0, "tar -c -C tree .");
    for (writer, command) in WRITERS {
        let layer = run(&folder.0, &format!("tar -c -C tree . | {command}"));
        let indexed = Indexed::new(&layer, 64 * 1024).unwrap();
        let index = indexed.index();
        assert_eq!(
            index.diff_id,
            Algorithm::Sha256.digest(&archive),
            "{writer}"
        );
        assert_eq!(
            (index.compressed, index.inflated),
            (layer.len() as u64, archive.len() as u64)
        );
        assert!(
            index.spans.len() > 4,
            "{writer}: {} spans",
            index.spans.len()
        );
        assert_eq!(
            indexed.objects.is_empty(),
            !matches!(writer, "zstd" | "zstd -19"),
            "{writer}"
        );
        // A span may be longer by a block of deflate, or by frames: zeros make long ones.
        let mut lengths: Vec<u64> = index.spans.iter().map(|span| span.length()).collect();
        lengths.sort_unstable();
        let longest = *lengths.last().unwrap();
        assert!(
            lengths[lengths.len() / 2] <= 5 * SPAN,
            "{writer}: {lengths:?}"
        );
        let mut found = 0;
        for entry in indexed
            .entries()
            .iter()
            .filter(|entry| entry.kind == EntryKind::File)
        {
            let range = entry.offset..entry.offset + entry.size;
            let (bytes, inflated) = indexed.read(&layer, range).unwrap();
            assert!(
                bytes == files[&entry.path],
                "{writer}: {:?}",
                entry.path.escape_ascii().to_string()
            );
            assert!(
                inflated <= entry.size + longest,
                "{writer}: {inflated} for {}",
                entry.size
            );
            found += 1;
        }
        assert_eq!(found, files.len());
    }
}

#[test]
fn an_index_does_not_depend_on_chunks_or_interruptions() {
    let folder = Folder::new("pieces");
    tree(&folder.0);
    for (writer, command) in WRITERS {
        let layer = run(&folder.0, &format!("tar -c -C tree . | {command}"));
        let whole = Indexed::new(&layer, usize::MAX).unwrap();
        for piece in [1 << 20, 4_099, 7, 1] {
            assert!(
                Indexed::new(&layer, piece).unwrap() == whole,
                "{writer} in pieces of {piece}"
            );
        }
        let (interrupted, saves) = Indexed::interrupted(&layer);
        let index = whole.index();
        let places = if writer.contains("gzip") {
            index.spans.len() as u32 - 1
        } else {
            3
        };
        assert!(saves >= places, "{writer}: {saves} saves");
        assert!(interrupted == whole, "{writer}, interrupted");
    }
}

#[test]
fn a_cut_or_changed_layer_is_refused_or_indexed_correctly() {
    let folder = Folder::new("cut");
    run(
        &folder.0,
        "mkdir tree && echo some text > tree/file && ln -s file tree/link && seq 300 > tree/more",
    );
    for (writer, command) in WRITERS {
        let layer = run(&folder.0, &format!("tar -c -C tree . | {command}"));
        let whole = Indexed::new(&layer, 64 * 1024).unwrap();
        for end in 0..layer.len() {
            let mut pass = Pass::new(layer.len() as u64, options());
            let outcome = pass.push(&layer[..end]).and_then(|()| pass.finish());
            assert!(outcome.is_err(), "{writer}, cut at {end}");
        }
        for at in 0..layer.len() {
            let mut changed = layer.clone();
            changed[at] ^= 0x10;
            let Ok(indexed) = Indexed::new(&changed, 999) else {
                continue;
            };
            // Without a checksum, other bytes are another archive; then the diff ID differs.
            assert!(
                indexed.bytes == whole.bytes || writer == "plain" || at < 10,
                "{writer}, changed at {at}"
            );
        }
    }
}

#[test]
fn a_changed_index_is_noticed() {
    let folder = Folder::new("changed");
    tree(&folder.0);
    let layer = run(&folder.0, "tar -c -C tree . | gzip");
    let indexed = Indexed::new(&layer, 64 * 1024).unwrap();
    let index = indexed.index();
    for at in 0..index.head() as usize {
        let mut changed = indexed.bytes.clone();
        changed[at] ^= 1;
        let parsed = StoredIndex::parse(&changed);
        assert!(parsed.is_err(), "byte {at}");
        assert!(StoredIndex::parse(&changed[..at]).is_err());
        if (8..12).contains(&at) {
            assert!(matches!(parsed, Err(IndexError::Version(_))));
        }
    }
    let block = index.range_of(0).unwrap();
    let mut bytes = indexed.part(&block).to_vec();
    assert!(index.read_block(0, &bytes).is_ok());
    bytes[7] ^= 1;
    assert_eq!(index.read_block(0, &bytes), Err(IndexError::Corrupt));
    // A wrong window: the span's checksum detects it.
    let span = index
        .spans
        .iter()
        .find(|span| matches!(span.start, SpanStart::Block { .. }))
        .unwrap();
    let SpanStart::Block { window, .. } = &span.start else {
        unreachable!()
    };
    let input = &layer[span.input.start as usize..span.input.end as usize];
    let right = span
        .inflate(indexed.part(window), input, span.length())
        .unwrap();
    assert_eq!(right.len() as u64, span.length());
    let other = [0x63, 0, 0].repeat(0);
    assert!(span.inflate(&other, input, span.length()).is_err());
}

/// A step of a pass ends by the work it has done, even if there is hardly any output.
#[test]
fn empty_blocks_and_frames_count_as_work() {
    let mut blocks = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    blocks.extend([0, 0, 0, 0xff, 0xff].repeat(1 << 16));
    let mut frames = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0];
    frames.extend([0, 0, 0].repeat(1 << 16));
    for layer in [blocks, frames] {
        let mut pass = Pass::new(layer.len() as u64, options());
        assert_eq!(pass.work(), 0);
        // Gzip is inflated in pieces of 64 KiB: these are 13,105 blocks.
        let first = layer.chunks(1 << 10).take(64);
        first.for_each(|part| pass.push(part).unwrap_or_default());
        assert!(pass.work() > 13_000 * 256, "{}", pass.work());
    }
}

#[test]
fn blobs_that_are_no_layers_are_refused_with_the_reason() {
    let refused = |bytes: &[u8], options: Options| {
        let mut pass = Pass::new(bytes.len() as u64, options.clone());
        let error = pass.push(bytes).and_then(|()| pass.finish()).unwrap_err();
        let refusal = error.refusal(&options);
        let parsed = StoredIndex::parse(&refusal.encode()).unwrap();
        assert_eq!(parsed, StoredIndex::Refused(refusal.clone()));
        (refusal.reason, refusal.limits.is_some())
    };
    let folder = Folder::new("refused");
    let gzip = |command: &str| run(&folder.0, command);
    assert_eq!(
        refused(b"{}", options()),
        (
            "a truncated tar archive, at byte 2 of the decompressed layer".to_owned(),
            false
        )
    );
    assert_eq!(
        refused(&[7; 4_000], options()).0,
        "not a tar archive, at byte 0 of the decompressed layer"
    );
    assert_eq!(
        refused(&gzip("seq 1000 | gzip"), options()).0,
        "not a tar archive, at byte 0 of the decompressed layer"
    );
    assert_eq!(
        refused(b"\xfd7zXZ\0......", options()).0,
        "compressed with xz; gzip and zstd are supported"
    );
    run(
        &folder.0,
        "mkdir tree && truncate -s 200M tree/zeros && touch tree/a tree/b tree/c",
    );
    let layer = gzip("tar -c -C tree . | gzip");
    assert_eq!(
        refused(&layer, options()),
        (
            "it decompresses to more than 250 times its size".to_owned(),
            true
        )
    );
    // Empty blocks of deflate, of which a writer may put any number between two bytes.
    let mut blocks = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    blocks.extend([0, 0, 0, 0xff, 0xff].repeat(1 << 20));
    assert_eq!(
        refused(&blocks, options()),
        (
            "more than 16384 deflate blocks that decompress to less than 1 MiB, at byte 81935"
                .to_owned(),
            true
        )
    );
    // Members that consist of a long name.
    let mut member = vec![0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 3];
    member.extend([b'n'; 200_000]);
    member.extend([0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let waste = member.repeat(30);
    assert_eq!(
        refused(&waste, options()),
        (
            "it decompresses to less than half of its size".to_owned(),
            false
        )
    );
    let small = Options {
        inflated: 1_000_000,
        ..options()
    };
    assert_eq!(
        refused(&layer, small),
        (
            "it decompresses to more than 1000000 bytes".to_owned(),
            true
        )
    );
    let few = Options {
        entries: 2,
        ratio: 2_000,
        ..options()
    };
    let (reason, is_limit) = refused(&layer, few);
    assert!(
        reason.starts_with("more than 2 entries in a tar archive") && is_limit,
        "{reason}"
    );
    let many = headers((0..20_000).map(|index| format!("file {index}")));
    let short = Options {
        contents: 10_000,
        ..options()
    };
    assert_eq!(
        refused(&many, short),
        (
            "its table of contents takes more than 10000 bytes".to_owned(),
            true
        )
    );
    assert_eq!(
        Indexed::new(&many, 100_000).unwrap().index().entries,
        20_000
    );
}

#[test]
fn a_pass_may_leave_the_diff_id_to_its_caller() {
    let archive = headers((0..2_000).map(|index| format!("file {index}")));
    let folder = Folder::new("elsewhere");
    std::fs::write(folder.0.join("tar"), &archive).unwrap();
    for command in ["cat tar", "gzip -c tar", "zstd -q -c tar"] {
        let layer = run(&folder.0, command);
        let mut pass = Pass::without_diff_id(layer.len() as u64, options());
        let mut out = Vec::new();
        for piece in layer.chunks(4_099) {
            // The pass does not pause, because it could not resume the caller's checksum.
            pass.pause();
            pass.push_to(piece, |bytes| out.extend_from_slice(bytes))
                .unwrap();
            assert!(!pass.is_paused());
        }
        pass.end_to(|bytes| out.extend_from_slice(bytes)).unwrap();
        assert!(out == archive, "{command}");
        let hash = <[u8; 32]>::from(Sha256::digest(&out));
        let bytes = pass.finish_as(hash).unwrap();
        assert!(
            bytes == Indexed::new(&layer, 4_099).unwrap().bytes,
            "{command}"
        );
    }
}

/// Entries of one header each, with all of their data in the names.
fn headers(names: impl Iterator<Item = String>) -> Vec<u8> {
    let mut archive = Vec::new();
    for name in names {
        let mut header = [0; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..108].copy_from_slice(b"0000644\0");
        header[108..116].copy_from_slice(b"0000000\0");
        header[116..124].copy_from_slice(b"0000000\0");
        header[124..136].copy_from_slice(b"00000000000\0");
        header[136..148].copy_from_slice(b"00000000000\0");
        header[148..156].copy_from_slice(b"        ");
        header[156] = b'0';
        header[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        archive.extend(header);
    }
    archive.extend([0; 1024]);
    archive
}

#[test]
fn a_table_of_contents_is_sorted_and_found_by_blocks() {
    // In an order that is far from sorted, with one path many times.
    let names = (0..40_000_u32).map(|n| match n % 10 {
        3 => "the/same".to_owned(),
        _ => format!("folder-{}/file-{}", n.wrapping_mul(7_919) % 97, n),
    });
    let archive = headers(names.clone());
    let indexed = Indexed::new(&archive, 1 << 20).unwrap();
    let index = indexed.index();
    let mut expected: Vec<(String, u64)> = names.zip((0..).map(|n| 512 * (n + 1))).collect();
    expected.sort();
    // Of a path that occurs thousands of times, all entries are found.
    let last = expected
        .iter()
        .rposition(|(name, _)| name == "the/same")
        .unwrap();
    let same = indexed.seek(&index, b"the/same").unwrap();
    assert!(same.len() == 4_000 && same.windows(2).all(|pair| pair[0].offset < pair[1].offset));
    assert_eq!(same.last().unwrap().offset, expected[last].1);
    for (name, offset) in expected
        .iter()
        .filter(|(name, _)| name != "the/same")
        .step_by(101)
    {
        let found = indexed.seek(&index, name.as_bytes()).unwrap();
        assert_eq!((found.len(), found[0].offset), (1, *offset), "{name}");
        // Each lookup reads one block, or that and the next.
        assert!(index.blocks() > 60);
    }
    assert_eq!(
        indexed.seek(&index, b"folder-5/file-9999999"),
        indexed.seek(&index, b"folder-50/")
    );
    assert!(indexed.seek(&index, b"zzz").is_none());
}
