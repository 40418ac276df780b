//! Reads of files of a layer whose index is in memory, and their costs.

use std::ops::Range;

use strata::layer::{
    indexed::{IndexedLayer, ReadError},
    pass::{Options, Pass},
};
use strata_support::layers::{Folder, Tar, gzip, noise, run, through, words};

const SPAN: u64 = 1 << 20;

/// A layer, and the objects that a pass has stored beside it.
struct Held {
    bytes: Vec<u8>,
    objects: Vec<Vec<u8>>,
    layer: IndexedLayer,
}

impl Held {
    fn new(bytes: Vec<u8>) -> Self {
        let mut pass = Pass::new(bytes.len() as u64, Options::local(bytes.len() as u64));
        let mut objects = Vec::new();
        for piece in bytes.chunks(100_000) {
            pass.push(piece).unwrap();
            objects.extend(std::iter::from_fn(|| pass.object()).map(|(_, object)| object));
        }
        let index = pass.finish().unwrap().unwrap();
        objects.extend(pass.object().map(|(_, object)| object));
        Self {
            bytes,
            objects,
            layer: IndexedLayer::new(index).unwrap(),
        }
    }

    /// The bytes of a file, and how many bytes were read and inflated for them.
    fn read(&self, path: &str, range: Range<u64>) -> Result<(Vec<u8>, u64, u64), ReadError> {
        let mut reading = self.layer.open(path.as_bytes(), range)?;
        let mut read = 0;
        while let Some(part) = reading.part(&self.layer)? {
            let source = match part.object {
                Some(object) => &self.objects[usize::try_from(object).unwrap()],
                None => &self.bytes,
            };
            let [start, end] =
                [part.bytes.start, part.bytes.end].map(|at| usize::try_from(at).unwrap());
            reading.push(&self.layer, &source[start..end])?;
            read += part.bytes.end - part.bytes.start;
        }
        let inflated = reading.inflated();
        Ok((reading.finish()?, read, inflated))
    }
}

/// An archive of files that differ, and one that is a link.
fn archive(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut archive = Tar::default();
    for (path, bytes) in files {
        archive = archive.file(path, bytes);
    }
    archive.symlink("link", files[0].0).end()
}

#[test]
fn a_range_of_a_file_costs_only_the_spans_that_contain_it() {
    let files = [
        ("a", noise(1, 3_000_000)),
        ("d/b", words(2, 4_000_000)),
        ("d/c", noise(3, 10)),
        ("d/e", Vec::new()),
    ];
    let tar = archive(&files);
    let seekable = |bytes: &[u8]| -> Vec<u8> {
        let frames = bytes.chunks(500_000).map(|frame| through("zstd -q", frame));
        frames.collect::<Vec<_>>().concat()
    };
    for (name, bytes) in [
        ("plain", tar.clone()),
        ("gzip", gzip(&tar)),
        ("zstd in one frame", through("zstd -q", &tar)),
        ("zstd in many", seekable(&tar)),
    ] {
        let held = Held::new(bytes);
        for (path, content) in &files {
            let size = content.len() as u64;
            for range in [
                0..size,
                0..1,
                size / 2..size / 2 + 5000,
                size.saturating_sub(3)..size + 9,
                size..size + 1,
            ] {
                let (found, read, inflated) = held.read(path, range.clone()).unwrap();
                let [start, end] =
                    [range.start, range.end].map(|at| usize::try_from(at.min(size)).unwrap());
                assert!(found == content[start..end], "{name}: {path} at {range:?}");
                // At most a span more than the range, on either side.
                let most = found.len() as u64 + 2 * SPAN + 200_000;
                assert!(
                    inflated <= most,
                    "{name}: {inflated} bytes inflated for {}",
                    found.len()
                );
                assert!(
                    read <= most,
                    "{name}: {read} bytes read for {}",
                    found.len()
                );
                assert!(
                    found.is_empty() == (inflated == 0),
                    "{name}: {path} at {range:?}"
                );
            }
        }
        assert_eq!(held.read("link", 0..4).unwrap().0, files[0].1[..4]);
    }
}

#[test]
fn a_sparse_file_is_read_with_its_holes() {
    let folder = Folder::create();
    let make = "truncate -s 3G sparse; printf abc | dd of=sparse bs=1 seek=2000000000 conv=notrunc status=none; tar -S -c sparse";
    let held = Held::new(run(&folder.0, make));
    assert!(held.bytes.len() < 100_000);
    let (found, _, inflated) = held.read("sparse", 1_999_999_998..2_000_000_005).unwrap();
    assert_eq!(
        (found.as_slice(), inflated < 10_000),
        (b"\0\0abc\0\0".as_slice(), true)
    );
    let (found, ..) = held.read("sparse", (3 << 30) - 2..4 << 30).unwrap();
    assert_eq!(found, [0, 0]);
    let error = held.read("sparse", 0..3 << 30).unwrap_err();
    assert_eq!(
        error.to_string(),
        "at most 33554432 bytes of a file can be read at once"
    );
}

#[test]
fn a_layer_changed_since_indexing_is_detected() {
    let mut held = Held::new(gzip(&archive(&[("a", words(1, 2_000_000))])));
    let middle = held.bytes.len() / 2;
    held.bytes[middle] ^= 1;
    let error = held.read("a", 0..2_000_000).unwrap_err().to_string();
    assert!(
        error.ends_with("the layer has changed since it was indexed; open it again"),
        "{error}"
    );
}

#[test]
fn directories_are_listed_by_pages() {
    let held = Held::new(archive(&[
        ("d/a", Vec::new()),
        ("d/b", Vec::new()),
        ("e", Vec::new()),
    ]));
    let names = |path: &str, after: Option<&str>, limit| {
        let page = held
            .layer
            .list(path.as_bytes(), after.map(str::as_bytes), limit)
            .unwrap();
        let names = page
            .children
            .iter()
            .map(|child| String::from_utf8(child.name.clone()).unwrap());
        (names.collect::<Vec<_>>(), page.more)
    };
    assert_eq!(
        names("", None, 9),
        (
            vec!["d".to_owned(), "e".to_owned(), "link".to_owned()],
            false
        )
    );
    assert_eq!(names("d/", None, 1), (vec!["a".to_owned()], true));
    assert_eq!(names("d/", Some("a"), 1), (vec!["b".to_owned()], false));
    let error = held.layer.list(b"e", None, 9).unwrap_err();
    assert_eq!(error.to_string(), "not a directory: e");
}

#[test]
fn output_held_back_by_zstd_does_not_count_as_waste() {
    let tar = archive(&[("noise", noise(5, 12 << 20))]);
    for command in ["zstd -q -3", "zstd -q -1 --long=23"] {
        let held = Held::new(through(command, &tar));
        assert_eq!(held.layer.index().inflated, tar.len() as u64, "{command}");
    }
}
