use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

/// Layer and number of an entry.
type Site = (usize, usize);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Failure {
    NotFound,
    Dangling,
    NotADirectory,
    Loop,
    Through,
}

/// A file, made by one entry. Its names are hard links.
#[derive(Clone, Debug)]
struct Inode {
    site: Site,
    link: Option<Vec<u8>>,
}

/// A path with the inode at the time of its entry, or the reason that it has none.
#[derive(Clone, Debug)]
struct Leaf {
    site: Site,
    hard: bool,
    inode: Result<Inode, Failure>,
    /// How many symbolic links led to the inode.
    links: usize,
    /// Whether there are entries below it in its layer.
    through: bool,
}

#[derive(Clone, Debug)]
struct Directory {
    entry: Option<Site>,
    /// The last layer that had anything in it.
    layer: usize,
    children: BTreeMap<Vec<u8>, Thing>,
}

#[derive(Clone, Debug)]
enum Thing {
    Leaf(Leaf),
    Directory(Directory),
}

impl Directory {
    fn new(layer: usize) -> Self {
        Self {
            entry: None,
            layer,
            children: BTreeMap::new(),
        }
    }

    /// The parent directory of a name, made if it is missing. `None` below a file of the same
    /// layer.
    fn make(&mut self, names: &[&[u8]], layer: usize) -> Option<&mut Self> {
        self.layer = layer;
        let Some((first, rest)) = names.split_first() else {
            return Some(self);
        };
        let child = self.children.entry(first.to_vec());
        let child = child.or_insert_with(|| Thing::Directory(Self::new(layer)));
        match child {
            Thing::Leaf(leaf) if leaf.site.0 == layer => {
                leaf.through = true;
                return None;
            }
            Thing::Leaf(_) => *child = Thing::Directory(Self::new(layer)),
            Thing::Directory(_) => {}
        }
        match child {
            Thing::Directory(directory) => directory.make(rest, layer),
            Thing::Leaf(_) => unreachable!(),
        }
    }

    /// Removes everything of other layers.
    fn clear(&mut self, layer: usize) {
        self.children.retain(|_, child| match child {
            Thing::Leaf(leaf) => leaf.site.0 == layer,
            Thing::Directory(directory) => {
                directory.entry = directory.entry.filter(|site| site.0 == layer);
                directory.clear(layer);
                directory.layer == layer
            }
        });
    }

    fn at(&self, path: &[Vec<u8>]) -> Option<&Thing> {
        let (last, parents) = path.split_last()?;
        let mut directory = self;
        for name in parents {
            match directory.children.get(name)? {
                Thing::Directory(inner) => directory = inner,
                Thing::Leaf(_) => return None,
            }
        }
        directory.children.get(last)
    }

    /// The result of resolving a path, and the number of symbolic links on the way.
    fn resolve(&self, path: &[u8], follow: FollowLinks) -> (usize, Result<Vec<Vec<u8>>, Failure>) {
        let mut links = 0;
        let found = self.lead(path, follow, &mut links);
        (links, found)
    }

    fn lead(
        &self,
        path: &[u8],
        follow: FollowLinks,
        links: &mut usize,
    ) -> Result<Vec<Vec<u8>>, Failure> {
        let components = |path: &[u8]| {
            let all: Vec<_> = path
                .split(|byte| *byte == b'/')
                .map(<[u8]>::to_vec)
                .collect();
            all
        };
        let mut rest: VecDeque<_> = components(path).into();
        let mut at: Vec<Vec<u8>> = Vec::new();
        while let Some(name) = rest.pop_front() {
            match name.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    at.pop();
                    continue;
                }
                _ => at.push(name),
            }
            let leaf = match self.at(&at).ok_or(Failure::NotFound)? {
                Thing::Directory(_) => continue,
                Thing::Leaf(leaf) => leaf,
            };
            if rest.is_empty() && follow == FollowLinks::Parents {
                break;
            }
            *links += leaf.links;
            if *links > 40 {
                return Err(Failure::Loop);
            }
            let inode = leaf.inode.as_ref().map_err(|failure| *failure)?;
            if let Some(link) = &inode.link {
                *links += 1;
                if *links > 40 {
                    return Err(Failure::Loop);
                }
                if leaf.through {
                    return Err(Failure::Through);
                }
                if link.is_empty() {
                    return Err(Failure::NotFound);
                }
                at.pop();
                if link.starts_with(b"/") {
                    at.clear();
                }
                for name in components(link).into_iter().rev() {
                    rest.push_front(name);
                }
            } else if !rest.is_empty() {
                return Err(Failure::NotADirectory);
            }
        }
        Ok(at)
    }

    fn apply(&mut self, site: Site, entry: &Entry) {
        let layer = site.0;
        if entry.path.is_empty() {
            self.entry = Some(site);
            return;
        }
        let names: Vec<_> = entry.path.split(|byte| *byte == b'/').collect();
        let seen = names
            .iter()
            .take_while(|name| !name.starts_with(b".wh."))
            .count();
        let last = names[seen.min(names.len() - 1)];
        let Some(parent) = self.make(&names[..seen.min(names.len() - 1)], layer) else {
            return;
        };
        if seen + 1 < names.len() {
            return;
        }
        if last == b".wh..wh..opq" {
            parent.clear(layer);
            return;
        }
        if let Some(name) = last.strip_prefix(b".wh.") {
            let mut alone = Self::new(layer);
            alone.children.extend(parent.children.remove_entry(name));
            alone.clear(layer);
            parent.children.append(&mut alone.children);
            return;
        }
        if entry.kind == EntryKind::Directory {
            let child = parent.children.entry(last.to_vec());
            let child = child.or_insert_with(|| Thing::Directory(Self::new(layer)));
            if matches!(child, Thing::Leaf(_)) {
                *child = Thing::Directory(Self::new(layer));
            }
            if let Thing::Directory(directory) = child {
                directory.entry = Some(site);
                directory.layer = layer;
            }
            return;
        }
        parent.children.remove(last);
        let (links, inode) = match entry.kind {
            EntryKind::HardLink => self.linked(&entry.link),
            EntryKind::SymbolicLink => (
                0,
                Ok(Inode {
                    site,
                    link: Some(entry.link.clone()),
                }),
            ),
            _ => (0, Ok(Inode { site, link: None })),
        };
        let leaf = Leaf {
            site,
            hard: entry.kind == EntryKind::HardLink,
            inode,
            links,
            through: false,
        };
        let parent = self.make(&names[..names.len() - 1], layer).unwrap();
        parent.children.insert(last.to_vec(), Thing::Leaf(leaf));
    }

    fn linked(&self, target: &[u8]) -> (usize, Result<Inode, Failure>) {
        let (links, found) = self.resolve(target, FollowLinks::Parents);
        match found {
            Ok(path) => match self.at(&path) {
                Some(Thing::Leaf(leaf)) => (links + leaf.links, leaf.inode.clone()),
                _ => (links, Err(Failure::Dangling)),
            },
            Err(Failure::NotFound | Failure::NotADirectory) => (links, Err(Failure::Dangling)),
            Err(failure) => (links, Err(failure)),
        }
    }

    /// In the form of [`found`].
    fn found(&self, path: &[u8], follow: FollowLinks) -> Result<String, Failure> {
        let (mut links, found) = self.resolve(path, follow);
        let at = found?;
        let path = String::from_utf8(at.join(&b'/')).unwrap();
        let is = match self.at(&at) {
            Some(Thing::Leaf(leaf)) if leaf.hard => {
                if follow == FollowLinks::Parents {
                    links += leaf.links;
                }
                if links > 40 {
                    return Err(Failure::Loop);
                }
                let inode = leaf.inode.as_ref().map_err(|failure| *failure)?;
                format!("{:?} to {:?}", leaf.site, inode.site)
            }
            Some(thing) => thing.summary(),
            None => Thing::Directory(self.clone()).summary(),
        };
        Ok(format!("/{path}: {is}"))
    }

    fn list(&self) -> Vec<String> {
        let children = self.children.iter();
        let line = |(name, thing): (&Vec<u8>, &Thing)| {
            format!("{}: {}", String::from_utf8_lossy(name), thing.summary())
        };
        children.map(line).collect()
    }

    fn walk(&self, path: &str, all: &mut Vec<(String, Option<Vec<String>>)>) {
        for (name, thing) in &self.children {
            let path = format!("{path}/{}", String::from_utf8_lossy(name));
            let line = format!("{path}: {}", thing.summary());
            match thing {
                Thing::Leaf(_) => all.push((line, None)),
                Thing::Directory(directory) => {
                    all.push((line, Some(directory.list())));
                    directory.walk(&path, all);
                }
            }
        }
    }
}

impl Thing {
    fn summary(&self) -> String {
        match self {
            Self::Leaf(leaf) => format!("{:?}", leaf.site),
            Self::Directory(Directory {
                entry: Some(site), ..
            }) => format!("{site:?}"),
            Self::Directory(_) => "directory".to_owned(),
        }
    }
}

fn place(node: &Node) -> String {
    match node {
        Node::Entry(sited) => format!("{:?}", (sited.layer, sited.entry.offset)),
        Node::Directory => "directory".to_owned(),
    }
}

fn actual(image: &Image, path: &[u8], follow: FollowLinks) -> Result<String, Failure> {
    match pollster::block_on(resolve(image, path, follow)) {
        Ok(found) => {
            let path = String::from_utf8(found.path).unwrap();
            let target = found
                .target
                .map(|target| format!(" to {}", place(&target.into())));
            Ok(format!(
                "/{path}: {}{}",
                place(&found.node),
                target.unwrap_or_default()
            ))
        }
        Err(Error::NotFound { .. }) => Err(Failure::NotFound),
        Err(Error::Dangling { .. }) => Err(Failure::Dangling),
        Err(Error::NotADirectory { .. }) => Err(Failure::NotADirectory),
        Err(Error::Loop { .. }) => Err(Failure::Loop),
        Err(Error::Through { .. }) => Err(Failure::Through),
        Err(error @ (Error::TooLong { .. } | Error::Spent(_))) => panic!("{error}"),
        Err(Error::Layers(never)) => match never {},
    }
}

const NAMES: [&str; 3] = ["a", "a-", "b"];

fn paths() -> Vec<String> {
    let mut paths = vec![String::new()];
    let mut last = paths.clone();
    for _ in 0..3 {
        let deeper = |path: &String| NAMES.map(|name| format!("{path}/{name}"));
        last = last.iter().flat_map(deeper).collect();
        paths.extend(last.clone());
    }
    paths
}

fn any_name() -> impl Strategy<Value = &'static str> {
    prop_oneof![8 => proptest::sample::select(&NAMES[..]), 1 => Just(".wh.a"), 1 => Just(".wh.b")]
}

fn any_path() -> impl Strategy<Value = String> {
    let names = proptest::collection::vec(any_name(), 1..=3);
    names.prop_map(|names| names.join("/"))
}

pub(crate) fn any_entry() -> impl Strategy<Value = Entry> {
    let links = [
        "a", "b", "a-", "a/b", "b/a", "/a", "/b/a-", "..", "../a", "../b/a", "../../..", "/", ".",
        "a/", "a/..", "x", "", "a-/../b",
    ];
    let link = proptest::sample::select(links.to_vec());
    prop_oneof![
        5 => any_path().prop_map(|path| entry(EntryKind::File, &path, "")),
        5 => any_path().prop_map(|path| entry(EntryKind::Directory, &path, "")),
        5 => (any_path(), link).prop_map(|(path, link)| entry(EntryKind::SymbolicLink, &path, link)),
        5 => (any_path(), any_path()).prop_map(|(path, link)| entry(EntryKind::HardLink, &path, &link)),
        2 => any_path().prop_map(|path| entry(EntryKind::File, &format!("{path}/.wh..wh..opq"), "")),
        1 => Just(entry(EntryKind::File, ".wh..wh..opq", "")),
        1 => Just(entry(EntryKind::Directory, "", "")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_layer_repeated_in_a_row_changes_nothing(
        layers in proptest::collection::vec((proptest::collection::vec(any_entry(), 0..7), 1_usize..4), 1..5),
    ) {
        let times = layers.iter().zip(0..).flat_map(|((_, times), layer)| vec![layer; *times]);
        let times: Vec<usize> = times.collect();
        let entries = |layer: &usize| layers[*layer].0.clone();
        let naive = made_of(times.iter().map(entries).collect());
        let once = made_of((0..layers.len()).map(|layer| entries(&layer)).collect());
        let of_naive = |mut node: Node| {
            if let Node::Entry(sited) = &mut node {
                sited.layer = times[sited.layer];
            }
            node
        };
        let (mut many, mut one) = (walk(&naive), walk(&once));
        loop {
            let found = pollster::block_on(many.next()).unwrap();
            let expected = pollster::block_on(one.next()).unwrap();
            let is_end = expected.is_none();
            prop_assert_eq!(found.map(|(path, node)| (path, of_naive(node))), expected);
            if is_end {
                break;
            }
        }
        // A hard link may lead to an earlier entry of its own layer.
        let is_hard = |entry: &Entry| entry.kind == EntryKind::HardLink;
        if layers.iter().any(|(layer, _)| layer.iter().any(is_hard)) {
            return Ok(());
        }
        for path in paths() {
            for end in ["", "/", "/..", "/../b"] {
                let path = format!("{path}{end}").into_bytes();
                for follow in [FollowLinks::All, FollowLinks::Parents] {
                    let found = pollster::block_on(resolve(&naive, &path, follow));
                    let found = found.map(|found| (found.path, of_naive(found.node)));
                    let expected = pollster::block_on(resolve(&once, &path, follow));
                    prop_assert_eq!(found, expected.map(|found| (found.path, found.node)));
                }
            }
        }
    }

    #[test]
    fn lookups_agree_with_applying_the_layers(
        layers in proptest::collection::vec(proptest::collection::vec(any_entry(), 0..7), 1..5),
    ) {
        let mut root = Directory::new(0);
        for (number, layer) in layers.iter().enumerate() {
            for (offset, entry) in layer.iter().enumerate() {
                root.apply((number, offset), entry);
            }
        }
        let image = made_of(layers);
        for path in paths() {
            for end in ["", "/", "/..", "/../b"] {
                let path = format!("{path}{end}");
                for follow in [FollowLinks::All, FollowLinks::Parents] {
                    let expected = root.found(path.as_bytes(), follow);
                    let actual = actual(&image, path.as_bytes(), follow);
                    prop_assert_eq!(actual, expected, "{} {:?}", path, follow);
                }
            }
        }
        let summary = Thing::Directory(root.clone()).summary();
        let mut expected = vec![(format!("/: {summary}"), Some(root.list()))];
        root.walk("", &mut expected);
        let mut walk = walk(&image);
        for (line, list) in expected {
            let (path, node) = pollster::block_on(walk.next()).unwrap().unwrap();
            let path = String::from_utf8(path).unwrap();
            prop_assert_eq!(format!("/{path}: {}", place(&node)), line);
            let Some(list) = list else { continue };
            for limit in [1, 2, 9] {
                prop_assert_eq!(&pages(&image, &path, limit, place), &list, "{} by {}", path, limit);
            }
        }
        prop_assert_eq!(pollster::block_on(walk.next()).unwrap(), None);
    }
}
