//! Lookups in layers: they find the same files as a file system to which the layers were applied.

use std::{cell::Cell, collections::BTreeMap, convert::Infallible};

use pollster::block_on;
use strata::layer::{
    entry::{Entry, EntryKind},
    tree::{self, FollowLinks, Layers, Node, ChildPage},
};

use crate::{
    filesystem::{Directory, Thing},
    input::Input,
};

pub(crate) const WORDS: &[&[u8]] = &[];

/// The components of generated paths.
const NAMES: [&str; 6] = ["a", "a-", "b", ".wh.a", ".wh.b", ".wh..wh..opq"];

const LINKS: [&str; 18] = [
    "a", "b", "a-", "a/b", "b/a", "/a", "/b/a-", "..", "../a", "../b/a", "../../..", "/", ".",
    "a/", "a/..", "x", "", "a-/../b",
];

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<_> = (0..12_u8)
        .map(|salt| crate::programs::noise(u64::from(salt), 20 + usize::from(salt) * 8))
        .collect();
    // A directory with a file in it, replaced by a file, and by a directory again: it is empty.
    seeds.push(vec![2, 0, 0, 0, 1, 0, 2, 0, 0, 0, 2, 0, 0]);
    seeds
}

/// Layers in memory.
struct Image {
    layers: Vec<BTreeMap<Vec<u8>, Vec<Entry>>>,
    seeks: Cell<usize>,
}

impl Layers for Image {
    type Error = Infallible;

    fn count(&self) -> usize {
        self.layers.len()
    }

    async fn seek(&self, layer: usize, from: &[u8]) -> Result<Option<Vec<Entry>>, Infallible> {
        self.seeks.set(self.seeks.get() + 1);
        let first = self.layers[layer].range(from.to_vec()..).next();
        Ok(first.map(|(_, entries)| entries.clone()))
    }
}

/// A path of a few names, in one byte or two.
fn path(input: &mut Input<'_>) -> String {
    let shape = input.byte();
    let names: Vec<_> = (0..=shape % 3).map(|_| NAMES[input.below(16) % 8 % 6]).collect();
    names.join("/")
}

pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    let mut layers = vec![Vec::new()];
    while !input.is_empty() && layers.len() < 6 {
        let kind = match input.below(9) {
            0 | 1 => EntryKind::File,
            2 | 3 => EntryKind::Directory,
            4 | 5 => EntryKind::SymbolicLink,
            6 | 7 => EntryKind::HardLink,
            _ => {
                layers.push(Vec::new());
                continue;
            }
        };
        let path = path(&mut input);
        let link = match kind {
            EntryKind::SymbolicLink => input.pick(&LINKS).to_owned(),
            EntryKind::HardLink => self::path(&mut input),
            _ => String::new(),
        };
        let layer = layers.last_mut().unwrap();
        if layer.len() < 12 {
            layer.push(Entry {
                path: path.into_bytes(),
                kind,
                link: link.into_bytes(),
                offset: layer.len() as u64,
                ..Entry::default()
            });
        }
    }

    let mut root = Directory::new(0);
    for (number, layer) in layers.iter().enumerate() {
        for (offset, entry) in layer.iter().enumerate() {
            root.apply((number, offset), entry);
        }
    }
    let sorted = layers.into_iter().map(|layer| {
        let mut paths = BTreeMap::<_, Vec<_>>::new();
        for entry in layer {
            paths.entry(entry.path.clone()).or_default().push(entry);
        }
        paths
    });
    let image = Image {
        layers: sorted.collect(),
        seeks: Cell::default(),
    };
    look_up(&root, &image);
    walk(&root, &image);
}

fn look_up(root: &Directory, image: &Image) {
    let mut paths = vec![String::new()];
    for _ in 0..2 {
        let deeper: Vec<_> = paths
            .iter()
            .flat_map(|path| ["a", "a-", "b"].map(|name| format!("{path}/{name}")))
            .collect();
        paths.extend(deeper);
    }
    for path in paths {
        for end in ["", "/", "/..", "/../b", "/a/.."] {
            let path = format!("{path}{end}");
            for follow in [FollowLinks::All, FollowLinks::Parents] {
                let expected = root
                    .found(path.as_bytes(), follow)
                    .map_err(|failure| format!("{failure:?}"));
                assert_eq!(found(image, path.as_bytes(), follow), expected, "{path} {follow:?}");
            }
        }
    }
}

fn walk(root: &Directory, image: &Image) {
    let mut expected = vec![(
        format!("/: {}", Thing::Directory(root.clone()).summary()),
        Some(root.list()),
    )];
    root.walk("", &mut expected);
    let mut walk = tree::walk(image);
    for (line, list) in expected {
        let (path, node) = block_on(walk.next()).unwrap().unwrap();
        let path = String::from_utf8(path).unwrap();
        assert_eq!(format!("/{path}: {}", place(&node)), line);
        let Some(list) = list else { continue };
        for limit in [1, 2, 9] {
            assert_eq!(pages(image, &path, limit), list, "{path} by {limit}");
        }
    }
    assert_eq!(block_on(walk.next()).unwrap(), None);
}

fn place(node: &Node) -> String {
    match node {
        Node::Entry(sited) => format!("{:?}", (sited.layer, sited.entry.offset)),
        Node::Directory => "directory".to_owned(),
    }
}

/// The entry that a path resolves to, or the name of the error, as a line of text.
fn found(image: &Image, path: &[u8], follow: FollowLinks) -> Result<String, String> {
    match block_on(tree::resolve(image, path, follow)) {
        Ok(found) => {
            let path = String::from_utf8(found.path).unwrap();
            let target = found.target.map(|target| format!(" to {}", place(&target.into())));
            Ok(format!("/{path}: {}{}", place(&found.node), target.unwrap_or_default()))
        }
        Err(error) => {
            let text = format!("{error:?}");
            let name = text.split(' ').next().unwrap_or_default();
            Err(name.to_owned())
        }
    }
}

fn pages(image: &Image, path: &str, limit: usize) -> Vec<String> {
    let mut names = Vec::new();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let listed = block_on(tree::list(image, path.as_bytes(), after.as_deref(), limit));
        let ChildPage { children, more, last } = listed.unwrap();
        assert!(children.len() <= limit);
        for child in &children {
            names.push(format!("{}: {}", String::from_utf8_lossy(&child.name), place(&child.node)));
        }
        if !more {
            return names;
        }
        assert!(last > after, "a page ends after it has begun");
        after = last;
    }
}
