//! The oracle for lookups: a file system in memory, to which layers are applied entry by entry.

use std::collections::{BTreeMap, VecDeque};

use strata::layer::{
    entry::{Entry, EntryKind},
    tree::FollowLinks,
};

/// Layer and number of an entry.
pub(crate) type Site = (usize, usize);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Failure {
    NotFound,
    Dangling,
    NotADirectory,
    Loop,
    Through,
}

/// An inode: the file or directory that one entry created.
#[derive(Clone, Debug)]
struct Inode {
    site: Site,
    link: Option<Vec<u8>>,
}

/// A file with the inode that it got when it was created, or the reason why it got none.
#[derive(Clone, Debug)]
pub(crate) struct Leaf {
    site: Site,
    hard: bool,
    inode: Result<Inode, Failure>,
    /// How many symbolic links led to the inode.
    links: usize,
    /// Whether there are entries below it in its layer.
    through: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Directory {
    entry: Option<Site>,
    /// The last layer that had something in it.
    layer: usize,
    children: BTreeMap<Vec<u8>, Thing>,
}

#[derive(Clone, Debug)]
pub(crate) enum Thing {
    Leaf(Leaf),
    Directory(Directory),
}

impl Directory {
    pub(crate) fn new(layer: usize) -> Self {
        Self {
            entry: None,
            layer,
            children: BTreeMap::new(),
        }
    }

    /// The parent directory of a name, created if it is absent; `None` below a file of the same
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

    /// Removes the entries of lower layers.
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

    /// The number of symbolic links on a path, and the path that it resolves to.
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

    pub(crate) fn apply(&mut self, site: Site, entry: &Entry) {
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

    /// The inode that a path resolves to, as a line of text.
    pub(crate) fn found(&self, path: &[u8], follow: FollowLinks) -> Result<String, Failure> {
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

    pub(crate) fn list(&self) -> Vec<String> {
        let children = self.children.iter();
        let line = |(name, thing): (&Vec<u8>, &Thing)| {
            format!("{}: {}", String::from_utf8_lossy(name), thing.summary())
        };
        children.map(line).collect()
    }

    pub(crate) fn walk(&self, path: &str, all: &mut Vec<(String, Option<Vec<String>>)>) {
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
    pub(crate) fn summary(&self) -> String {
        match self {
            Self::Leaf(leaf) => format!("{:?}", leaf.site),
            Self::Directory(Directory {
                entry: Some(site), ..
            }) => format!("{site:?}"),
            Self::Directory(_) => "directory".to_owned(),
        }
    }
}
