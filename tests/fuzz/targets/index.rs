//! Layer indexes: an index of a pass returns all entries and bytes; a damaged one never panics.

use std::{collections::BTreeMap, rc::Rc};

use pollster::block_on;
use strata::layer::{
    entry::Entry,
    index::{Index, IndexError, StoredIndex, Refusal, SpanStart},
    pass::{Options, Pass},
    tar::{TarLimits, Untar},
};

use crate::{
    input::Input,
    layers::{self, Bounds, Wrap, wrap},
};

pub(crate) const WORDS: &[&[u8]] = &[b"strata\0i\x01\0\0\0", b"\xff\xff\xff\xff\xff\xff\xff\xff"];

const BOUNDS: Bounds = Bounds {
    archive: 60_000,
    repeats: 100,
    run: 2_000,
};

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for wrap in 0..5 {
        for program in layers::programs() {
            seeds.push([&[0, wrap], program.as_slice()].concat());
        }
    }
    for (wrapped, program) in Wrap::ALL.into_iter().zip(layers::programs()) {
        let archive = layers::archive(&mut Input(&program), BOUNDS);
        let index = indexed(&wrap(wrapped, &archive)).expect("the layer is right");
        seeds.push([&[1], index.as_slice()].concat());
    }
    seeds.push(b"\x02\x05reason that kind".to_vec());
    seeds
}

fn options() -> Options {
    Options {
        span: 4_096,
        window: 1 << 20,
        ..Options::default()
    }
}

fn indexed(layer: &[u8]) -> Option<Vec<u8>> {
    let mut pass = Pass::new(layer.len() as u64, options());
    for piece in layer.chunks(1_024) {
        pass.push(piece).ok()?;
        while pass.object().is_some() {}
    }
    pass.finish().ok()?
}

pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    match input.below(3) {
        0 => made(&mut input),
        1 => damaged(input.rest()),
        _ => refusal(&mut input),
    }
}

/// The entries are those of the archive in the order of their paths, and its spans are the archive.
fn made(input: &mut Input<'_>) {
    let wrapped = input.pick(&Wrap::ALL);
    let archive = layers::archive(input, BOUNDS);
    let layer = wrap(wrapped, &archive);
    let mut pass = Pass::new(layer.len() as u64, options());
    let mut objects = Vec::new();
    for piece in layer.chunks(1_024) {
        if pass.push(piece).is_err() {
            return;
        }
        objects.extend(std::iter::from_fn(|| pass.object()).map(|(_, object)| object));
    }
    let Ok(Some(bytes)) = pass.finish() else {
        return;
    };
    objects.extend(std::iter::from_fn(|| pass.object()).map(|(_, object)| object));
    let Ok(StoredIndex::Index(index)) = StoredIndex::parse(&bytes) else {
        panic!("an index of a pass can't be parsed");
    };
    assert_eq!(index.size(), bytes.len() as u64);

    let mut expected = BTreeMap::<_, Vec<Entry>>::new();
    let mut untar = Untar::new(TarLimits::default());
    let kept = untar.push(&archive, |entry| {
        expected.entry(entry.path.clone()).or_default().push(entry);
        Ok::<_, strata::layer::tar::TarError>(())
    });
    kept.unwrap();
    let total: usize = expected.values().map(Vec::len).sum();
    assert_eq!(index.entries, total as u64);
    let (mut from, mut found) = (Vec::new(), BTreeMap::new());
    while let Some(entries) = seek(&index, &bytes, &from).unwrap() {
        let path = entries[0].path.clone();
        assert!(path >= from, "a path that is before the one that was asked for");
        from = [path.as_slice(), b"\0"].concat();
        assert!(found.insert(path, entries).is_none());
    }
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (path, entries) in &found {
        assert_eq!(seek(&index, &bytes, path).unwrap().as_ref(), Some(entries), "a path itself");
        let all = &expected[path];
        assert!(all.ends_with(entries), "the last entries of a path");
        assert!(all.len() > 1_000 || all == entries, "all entries of a path");
    }

    let mut end = 0;
    for span in &index.spans {
        assert_eq!(span.output.start, end, "spans follow each other");
        end = span.output.end;
        let source = match span.start {
            SpanStart::Stored(object) => &objects[object as usize],
            _ => &layer,
        };
        let slice = |from: &[u8], range: &std::ops::Range<u64>| {
            from[range.start as usize..range.end as usize].to_vec()
        };
        let window = span.window().map_or_else(Vec::new, |window| slice(&bytes, &window));
        let out = span.inflate(&window, &slice(source, &span.input), span.length()).unwrap();
        assert!(out == slice(&archive, &span.output), "the bytes of a span");
    }
    assert_eq!(end, archive.len() as u64, "spans cover the archive");
}

fn seek(index: &Index, bytes: &[u8], from: &[u8]) -> Result<Option<Vec<Entry>>, IndexError> {
    let read = async |block: usize| {
        let range = index.range_of(block).ok_or(IndexError::Corrupt)?;
        let bytes = bytes.get(range.start as usize..range.end as usize);
        let entries = index.read_block(block, bytes.ok_or(IndexError::Corrupt)?)?;
        Ok::<Rc<[Entry]>, _>(entries.into())
    };
    block_on(index.seek(from, read))
}

/// An index of arbitrary bytes with a valid checksum.
fn damaged(bytes: &[u8]) {
    let _ = StoredIndex::parse(bytes);
    let mut bytes = [b"strata\0i\x01\0\0\0", bytes.get(12..).unwrap_or_default()].concat();
    let Some(Ok(length)) = bytes.get(12..16).map(<[u8; 4]>::try_from) else {
        return;
    };
    let length = (u32::from_le_bytes(length) as usize).min(bytes.len());
    bytes[12..16].copy_from_slice(&(length as u32).to_le_bytes());
    if let Some(check) = bytes.get(20..length).map(crc32fast::hash) {
        bytes[16..20].copy_from_slice(&check.to_le_bytes());
    }
    match StoredIndex::parse(&bytes) {
        Ok(StoredIndex::Index(index)) => {
            let _ = (index.size(), index.head());
            for range in [0..u64::MAX, 5..6, 100_000..100_001] {
                let spans = index.spans_of(&range);
                assert!(spans.is_empty() || index.spans.get(spans).is_some());
            }
            let mut last = 0;
            for span in &index.spans {
                assert_eq!(span.output.start, last, "spans follow each other");
                assert!(span.output.start <= span.output.end && span.input.start <= span.input.end);
                last = span.output.end;
                let slice = |from: &[u8], range: std::ops::Range<u64>| {
                    let start = usize::try_from(range.start).ok()?;
                    Some(from.get(start..usize::try_from(range.end).ok()?)?.to_vec())
                };
                let window = span.window().and_then(|window| slice(&bytes, window));
                let input = slice(&bytes, span.input.clone()).unwrap_or_default();
                let _ = span.inflate(&window.unwrap_or_default(), &input, 1_000);
            }
            for block in 0..index.blocks() {
                let range = index.range_of(block);
                let range = range.map(|range| range.start as usize..range.end as usize);
                let block_bytes = range.and_then(|range| bytes.get(range));
                let _ = index.read_block(block, block_bytes.unwrap_or_default());
            }
            let _ = seek(&index, &bytes, b"a");
        }
        Ok(StoredIndex::Refused(refusal)) => {
            let again = StoredIndex::parse(&refusal.encode());
            assert_eq!(again, Ok(StoredIndex::Refused(refusal)), "a refusal, encoded and parsed");
        }
        Err(_) => {}
    }
}

fn refusal(input: &mut Input<'_>) {
    let limits = input.bool().then(|| (0..input.below(9)).map(|_| (input.word() << input.below(48)) as u64).collect());
    let text = input.text();
    let (reason, kind) = text.split_at(text.floor_char_boundary(text.len() / 2));
    let refusal = Refusal {
        reason: reason.to_owned(),
        kind: kind.to_owned(),
        limits,
    };
    let known = StoredIndex::parse(&refusal.encode());
    assert_eq!(known, Ok(StoredIndex::Refused(refusal)), "a refusal, encoded and parsed");
}
